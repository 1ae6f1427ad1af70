//! Losses that strike one zone.

use super::draw::{binomial, one_of};
use super::{Batched, Frame, Naming, later, share};
use crate::trace::{Availability, Trace};
use crate::{Interval, Result};
use dunlin_rng::{Stream, stream};

/// Machines in several zones. Each goes alone with a small chance; now and then a zone is struck, and each of its
/// machines goes with a large one. New ones come in batches, each batch into a zone of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Zones {
    /// How new ones come; interval, start and capacity.
    pub arrivals: Batched,
    /// Number of zones.
    pub zones: u32,
    /// Chance that a machine goes alone in an interval.
    pub hazard: f64,
    /// Chance that a zone is struck in an interval; which one is drawn.
    pub strike: f64,
    /// Chance that a machine of a struck zone goes.
    pub loss: f64,
}

impl Zones {
    /// Losses of at least two at once in `like` are taken for strikes, single ones for machines that went alone.
    pub fn fit(like: &Availability, capacity: u32, zones: u32) -> Zones {
        let zones = zones.max(1);
        let machines: f64 = later(like).iter().map(|interval| f64::from(interval.before)).sum();
        let struck: Vec<&Interval> = later(like).iter().filter(|interval| interval.removed >= 2).collect();
        let alone = later(like).iter().filter(|interval| interval.removed == 1).count();
        let lost: f64 = struck.iter().map(|interval| f64::from(interval.removed)).sum();
        let there: f64 = struck.iter().map(|interval| f64::from(interval.before)).sum();
        Zones {
            arrivals: Batched::fit(like, capacity),
            zones,
            hazard: share(alone as f64, machines),
            strike: share(struck.len() as f64, later(like).len() as f64),
            loss: share(lost * f64::from(zones), there).min(1.0),
        }
    }

    /// A new trace, with the zones `zone1`, `zone2`, ...
    ///
    /// # Errors
    /// None for a generator that was fitted; an event that cannot be would be our own mistake.
    pub fn generate(&self, intervals: usize, seed: u64) -> Result<Trace> {
        let mut rng = stream(seed, "trace-zones", &[]);
        let Frame { interval_ms, start, .. } = self.arrivals.frame;
        let mut naming = Naming::default();
        for number in 0..start {
            naming.add(0, Some(zone(number % self.zones)));
        }
        for at in 1..intervals {
            let ms = interval_ms.saturating_mul(at as u64);
            self.lose(&mut rng, &mut naming, ms);
            self.gain(&mut rng, &mut naming, ms);
        }
        Trace::new(naming.events, interval_ms.saturating_mul(intervals as u64))
    }

    fn lose(&self, rng: &mut Stream, naming: &mut Naming, ms: u64) {
        for _ in 0..binomial(rng, naming.present.len() as u32, self.hazard) {
            naming.remove(ms, rng.below(naming.present.len()));
        }
        if rng.unit() >= self.strike {
            return;
        }
        let struck = zone(rng.below(self.zones as usize) as u32);
        for at in (0..naming.present.len()).rev() {
            if naming.present[at].1.as_ref() == Some(&struck) && rng.unit() < self.loss {
                naming.remove(ms, at);
            }
        }
    }

    fn gain(&self, rng: &mut Stream, naming: &mut Naming, ms: u64) {
        if rng.unit() >= self.arrivals.addition_chance {
            return;
        }
        let room = self.arrivals.frame.capacity.saturating_sub(naming.present.len() as u32);
        let into = zone(rng.below(self.zones as usize) as u32);
        for _ in 0..one_of(rng, &self.arrivals.addition_sizes).min(room) {
            naming.add(ms, Some(into.clone()));
        }
    }
}

fn zone(number: u32) -> String {
    format!("zone{}", number + 1)
}
