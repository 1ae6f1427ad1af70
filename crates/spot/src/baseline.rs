//! Systems of others as policies: Varuna (checkpoint and restart), Bamboo (redundant computing), Oobleck (pipelines of
//! different depth).
//!
//! Two forms, kept apart. [`controlled`] repeats one published experiment, machines that only disappear, with the
//! published constants, and is checked against the published table. [`Varuna`], [`Bamboo`] and [`Oobleck`] carry the
//! same ideas over to any model with a measured profile and to machines that come and go. No measurement of these
//! systems on such a profile exists: their results are *modelled, unchecked*, and are to be shown with these words.
//!
//! `step` of a system says what an interval was spent on, in words too. Work that is lost later was counted as useful when it was done; the
//! interval of the loss takes it back, so its samples and useful seconds may be below zero. Sums over time are right.

pub mod bamboo;
pub mod controlled;
pub mod oobleck;
mod speeds;
#[cfg(test)]
mod tests;
pub mod varuna;

use crate::Interval;
pub use bamboo::{Bamboo, BambooRules};
pub use oobleck::{Oobleck, OobleckRules};
pub use varuna::{Varuna, VarunaRules};

/// What to write beside every result of [`Varuna`], [`Bamboo`] and [`Oobleck`].
pub const LABEL: &str = "modelled, unchecked";

/// Seconds of migration that are still owed, paid before training goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Debt(f64);

impl Debt {
    /// Pays from `seconds`; returns what was paid.
    fn pay(&mut self, seconds: f64) -> f64 {
        let paid = self.0.min(seconds);
        self.0 -= paid;
        paid
    }
}

/// "2 lost, 1 came".
fn events(interval: Interval) -> String {
    match (interval.removed, interval.added) {
        (0, 0) => "no change".into(),
        (0, came) => format!("{came} came"),
        (lost, 0) => format!("{lost} lost"),
        (lost, came) => format!("{lost} lost, {came} came"),
    }
}
