//! Availability of machines over time.

use crate::Interval;

/// The number of machines over time, cut into intervals of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// Length of an interval, milliseconds; at least 1.
    pub interval_ms: u64,
    /// What happened in each: `intervals[i].before` is `intervals[i - 1].after()`.
    pub intervals: Vec<Interval>,
}

impl Availability {
    /// Machines at the end of every interval.
    pub fn counts(&self) -> Vec<u32> {
        self.intervals.iter().map(Interval::after).collect()
    }
}
