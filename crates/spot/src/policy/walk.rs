//! How the number of machines moves in the long run, learned as it comes: for deadlines that are hours away.

use crate::plan::Drift;

/// Minutes in which a difference to the mean shrinks to 1/e, before anything is seen.
const RETURNS_MINUTES: f64 = 120.0;
/// Squared deviations that this is worth.
const RETURNS_WEIGHT: f64 = 1000.0;
/// The first number of machines is worth so many minutes of the mean.
const FIRST_MINUTES: f64 = 60.0;
/// Variance of a minute's change before anything is seen, and how many changes that is worth.
const CHANGE: (f64, f64) = (1.0, 10.0);
/// There may be so many more machines than ever were.
const ROOM: u32 = 8;

/// Sums over the intervals seen; see [`Drift`] for the model.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    stay: u32,
    minutes: f64,
    first: Option<f64>,
    last: f64,
    highest: u32,
    count: f64,
    /// Of machines x before and changes d: x, d, x², x d, d².
    sums: [f64; 5],
}

impl Walk {
    pub(super) fn new(stay: u32, interval_s: f64) -> Walk {
        Walk {
            stay,
            minutes: interval_s / 60.0,
            first: None,
            last: 0.0,
            highest: 0,
            count: 0.0,
            sums: [0.0; 5],
        }
    }

    pub(super) fn observe(&mut self, machines: u32) {
        let now = f64::from(machines);
        if self.first.is_some() {
            let (x, d) = (self.last, now - self.last);
            self.count += 1.0;
            self.sums.iter_mut().zip([x, d, x * x, x * d, d * d]).for_each(|(sum, value)| *sum += value);
        }
        self.first.get_or_insert(now);
        self.last = now;
        self.highest = self.highest.max(machines);
    }

    /// Least squares with what was assumed before, now that there are `machines`.
    pub(super) fn drift(&self, machines: u32) -> Drift {
        let [x, d, xx, xd, dd] = self.sums;
        let weight = FIRST_MINUTES / self.minutes;
        let mean = (weight * self.first.unwrap_or(f64::from(machines)) + x) / (weight + self.count);
        let squares = xx - 2.0 * mean * x + mean * mean * self.count;
        let products = xd - mean * d;
        let returns = self.minutes / RETURNS_MINUTES;
        let slope = ((products - returns * RETURNS_WEIGHT) / (squares + RETURNS_WEIGHT)).clamp(-1.0, -1e-4);
        let noise = dd - 2.0 * slope * products + slope * slope * squares;
        let variance = (noise.max(0.0) + CHANGE.0 * self.minutes * CHANGE.1) / (self.count + CHANGE.1);
        let highest = self.highest.max(machines) + ROOM;
        Drift { mean, keeps: 1.0 + slope, variance, lowest: self.stay.min(highest), highest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_known_again() {
        let mut stream = dunlin_rng::stream(3, "walk", &[]);
        let (mut walk, mut now) = (Walk::new(2, 60.0), 20.0);
        for _ in 0..5000 {
            walk.observe(now as u32);
            now = (20.0 + 0.95 * (now - 20.0) + stream.normal()).clamp(0.0, 40.0).round();
        }
        let drift = walk.drift(20);
        assert!((drift.mean - 20.0).abs() < 1.5, "{drift:?}");
        assert!((drift.keeps - 0.95).abs() < 0.02, "{drift:?}");
        assert!((drift.variance - 1.08).abs() < 0.15, "rounding adds a twelfth: {drift:?}");
        assert_eq!((drift.lowest, drift.highest), (2, walk.highest + 8));
    }

    #[test]
    fn nothing_seen_is_what_was_assumed_and_stillness_is_believed() {
        let mut walk = Walk::new(0, 60.0);
        let drift = walk.drift(16);
        assert_eq!((drift.mean, drift.variance), (16.0, 1.0));
        (0..600).for_each(|_| walk.observe(16));
        assert!(walk.drift(16).variance < 0.02);
    }
}
