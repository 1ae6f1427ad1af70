//! What is, stays.

use super::Forecaster;
use crate::Interval;

/// Predicts the present number of machines.
#[derive(Clone, Debug, Default)]
pub struct Persistence {
    machines: u32,
}

impl Forecaster for Persistence {
    fn name(&self) -> &'static str {
        "persistence"
    }

    fn observe(&mut self, seen: Interval) {
        self.machines = seen.after();
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        vec![self.machines; horizon]
    }
}
