//! New traces from stretches of an old one.

use super::{Frame, later};
use crate::Interval;
use crate::trace::Availability;
use dunlin_rng::stream;

/// Intervals of a stretch, unless told otherwise: half an hour of minutes keeps bursts together.
const BLOCK: usize = 30;

/// Moving-block bootstrap of the changes (Kuensch 1989): stretches of `block` intervals that begin anywhere are drawn
/// with replacement and put one after another. A change that would lead below `lowest` or above the capacity is
/// reflected: gains and losses change places.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// Interval, start and capacity.
    pub frame: Frame,
    /// Fewest machines. Default: 0.
    pub lowest: u32,
    /// Intervals of a stretch. Default: 30, or as many as there are.
    pub block: usize,
    /// Added and removed in every interval of the given trace but the first.
    pub changes: Vec<(u32, u32)>,
}

impl Bootstrap {
    /// The changes of `like`.
    pub fn fit(like: &Availability, capacity: u32) -> Bootstrap {
        let changes: Vec<(u32, u32)> =
            later(like).iter().map(|Interval { added, removed, .. }| (*added, *removed)).collect();
        let block = BLOCK.min(changes.len().max(1));
        Bootstrap { frame: Frame::of(like, capacity), lowest: 0, block, changes }
    }

    /// A new availability.
    pub fn generate(&self, intervals: usize, seed: u64) -> Availability {
        let mut rng = stream(seed, "trace-bootstrap", &[]);
        let block = self.block.clamp(1, self.changes.len().max(1));
        let starts = self.changes.len().saturating_sub(block) + 1;
        let mut from = 0;
        self.frame.walk(intervals, |at, now| {
            let within = (at - 1) % block;
            if within == 0 {
                from = rng.below(starts);
            }
            let Some(&(added, removed)) = self.changes.get(from + within) else { return (0, 0) };
            let after = i64::from(now) + i64::from(added) - i64::from(removed);
            if (i64::from(self.lowest)..=i64::from(self.frame.capacity)).contains(&after) {
                (added, removed)
            } else {
                (removed, added)
            }
        })
    }
}
