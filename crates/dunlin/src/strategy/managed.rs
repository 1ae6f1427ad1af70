//! What is said of a budget of bytes.

use serde::{Deserialize, Serialize};

/// What became of a budget, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Managed {
    /// Of updates that went out before their clock had ended.
    pub early_bytes: u64,
    /// Of updates that went out at the end of their clock.
    pub clock_bytes: u64,
    /// What the budgets of all workers came to.
    pub budget_bytes: f64,
    /// What they sent meanwhile, all that is no update included.
    pub used_bytes: f64,
}

impl Managed {
    /// Adds what another worker measured.
    pub fn merge(&mut self, other: &Managed) {
        self.early_bytes += other.early_bytes;
        self.clock_bytes += other.clock_bytes;
        self.budget_bytes += other.budget_bytes;
        self.used_bytes += other.used_bytes;
    }

    /// In words; `None` without a budget.
    pub fn words(&self) -> Option<String> {
        let Managed { early_bytes, clock_bytes, budget_bytes, used_bytes } = *self;
        let words = || {
            let size = |bytes: u64| crate::memory::in_words(bytes as f64);
            let used = 100.0 * used_bytes / budget_bytes;
            format!(
                "{} early, {} at the clock; {used:.0} % of the budget used",
                size(early_bytes),
                size(clock_bytes)
            )
        };
        (budget_bytes > 0.0).then(words)
    }
}
