//! Generators whose intervals have nothing to do with each other.

use super::draw::{binomial, one_of, poisson};
use super::{Frame, later, share};
use crate::trace::{Availability, Statistics};
use dunlin_rng::stream;
use std::collections::BTreeMap;

/// Machines come one by one at a fixed rate while there is room; each that is there goes with a fixed chance.
#[derive(Clone, Debug, PartialEq)]
pub struct Poisson {
    /// Interval, start and capacity.
    pub frame: Frame,
    /// Mean number that come in an interval with room.
    pub additions: f64,
    /// Chance that a machine is taken away in an interval.
    pub hazard: f64,
}

impl Poisson {
    /// The rates of `like`.
    pub fn fit(like: &Availability, capacity: u32) -> Poisson {
        let frame = Frame::of(like, capacity);
        let with_room = later(like).iter().filter(|interval| interval.before < frame.capacity).count();
        let (mut added, mut removed, mut machines) = (0.0, 0.0, 0.0);
        for interval in later(like) {
            added += f64::from(interval.added);
            removed += f64::from(interval.removed);
            machines += f64::from(interval.before);
        }
        Poisson {
            frame,
            additions: share(added, with_room as f64),
            hazard: share(removed, machines).min(1.0),
        }
    }

    /// A new availability.
    pub fn generate(&self, intervals: usize, seed: u64) -> Availability {
        let mut rng = stream(seed, "trace-poisson", &[]);
        self.frame.walk(intervals, |_, now| {
            let removed = binomial(&mut rng, now, self.hazard);
            (poisson(&mut rng, self.additions), removed)
        })
    }
}

/// Some come with a fixed chance while there is room, some go with a fixed chance; how many, is drawn from what was
/// seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Batched {
    /// Interval, start and capacity.
    pub frame: Frame,
    /// Chance that some come in an interval with room.
    pub addition_chance: f64,
    /// Chance that some go in an interval.
    pub removal_chance: f64,
    /// How often so many came at once.
    pub addition_sizes: BTreeMap<u32, u64>,
    /// How often so many went at once.
    pub removal_sizes: BTreeMap<u32, u64>,
}

impl Batched {
    /// The chances and sizes of `like`.
    pub fn fit(like: &Availability, capacity: u32) -> Batched {
        let frame = Frame::of(like, capacity);
        let seen = Statistics::of(like);
        let with_room = later(like).iter().filter(|interval| interval.before < frame.capacity).count();
        let removals = later(like).iter().filter(|interval| interval.removed > 0).count();
        Batched {
            frame,
            addition_chance: share(seen.addition_intervals as f64, with_room as f64),
            removal_chance: share(removals as f64, later(like).len() as f64),
            addition_sizes: seen.addition_sizes,
            removal_sizes: seen.removal_sizes,
        }
    }

    /// A new availability.
    pub fn generate(&self, intervals: usize, seed: u64) -> Availability {
        let mut rng = stream(seed, "trace-batched", &[]);
        self.frame.walk(intervals, |_, _| {
            let comes = rng.unit() < self.addition_chance;
            let added = if comes { one_of(&mut rng, &self.addition_sizes) } else { 0 };
            let goes = rng.unit() < self.removal_chance;
            (added, if goes { one_of(&mut rng, &self.removal_sizes) } else { 0 })
        })
    }
}
