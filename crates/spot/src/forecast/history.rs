//! The last numbers.

use super::Settings;
use crate::Interval;
use std::collections::VecDeque;

/// The last numbers of machines, oldest first.
#[derive(Clone, Debug)]
pub(super) struct History {
    keep: usize,
    counts: VecDeque<u32>,
    capacity: u32,
}

impl History {
    pub(super) fn new(keep: usize, settings: &Settings) -> History {
        History { keep, counts: VecDeque::new(), capacity: settings.capacity.unwrap_or(u32::MAX) }
    }

    pub(super) fn observe(&mut self, seen: Interval) {
        if self.counts.len() == self.keep {
            self.counts.pop_front();
        }
        self.counts.push_back(seen.after());
    }

    /// The newest, or 0 before anything was seen.
    pub(super) fn last(&self) -> u32 {
        self.counts.back().copied().unwrap_or(0)
    }

    /// The newest `count`, or as many as there are, as floating point numbers.
    pub(super) fn newest(&self, count: usize) -> Vec<f64> {
        let from = self.counts.len().saturating_sub(count);
        self.counts.range(from..).map(|count| f64::from(*count)).collect()
    }

    /// `horizon` times the last number.
    pub(super) fn repeat(&self, horizon: usize) -> Vec<u32> {
        vec![self.last(); horizon]
    }

    /// A number of machines: whole, from 0 to the capacity; the last one for what is no number.
    pub(super) fn whole(&self, value: f64) -> u32 {
        if value.is_nan() {
            return self.last();
        }
        (value.round().max(0.0) as u32).min(self.capacity)
    }
}
