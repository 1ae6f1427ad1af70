//! Rise and fall with the time of day.

use super::draw::poisson;
use super::{Frame, later, share};
use crate::Interval;
use crate::trace::Availability;
use crate::trace::statistics::autocorrelation;
use dunlin_rng::stream;
use std::f64::consts::TAU;

/// Milliseconds of a day.
const DAY_MS: f64 = 86_400_000.0;

/// Machines around a level: level(t) = mean + amplitude cos(2 pi (t - peak) / period), t in intervals. In an interval
/// with n machines as many go as a Poisson draw with mean churn + pull max(0, n - level) says, and as many come with
/// churn + pull max(0, level - n).
#[derive(Clone, Debug, PartialEq)]
pub struct Diurnal {
    /// Interval, start and capacity.
    pub frame: Frame,
    /// Mean level, machines.
    pub mean: f64,
    /// How far the level goes above and below the mean, machines.
    pub amplitude: f64,
    /// When it is highest, intervals.
    pub peak: f64,
    /// From one peak to the next, intervals.
    pub period: f64,
    /// Share of the distance to the level that is made good in an interval.
    pub pull: f64,
    /// Machines that come, and go, in an interval for no reason.
    pub churn: f64,
}

impl Diurnal {
    /// The daily wave that fits `like` best (least squares). A trace shorter than a day is taken for a whole one.
    pub fn fit(like: &Availability, capacity: u32) -> Diurnal {
        let counts: Vec<f64> = like.intervals.iter().map(|interval| f64::from(interval.after())).collect();
        let length = counts.len().max(1) as f64;
        let period = (DAY_MS / like.interval_ms as f64).clamp(2.0, length.max(2.0));
        let mean = counts.iter().sum::<f64>() / length;
        // Over whole periods cosine and sine are orthogonal to each other and to a constant.
        let whole = ((length / period).floor() * period).max(1.0) as usize;
        let wave = |of: fn(f64) -> f64| -> f64 {
            let parts = counts.iter().take(whole).enumerate();
            parts.map(|(at, count)| (count - mean) * of(TAU * at as f64 / period)).sum::<f64>() * 2.0
                / whole as f64
        };
        let (cosine, sine) = (wave(f64::cos), wave(f64::sin));
        let mut fitted = Diurnal {
            frame: Frame::of(like, capacity),
            mean,
            amplitude: cosine.hypot(sine),
            peak: sine.atan2(cosine).rem_euclid(TAU) / TAU * period,
            period,
            pull: 0.0,
            churn: 0.0,
        };
        fitted.fit_changes(like, &counts);
        fitted
    }

    fn fit_changes(&mut self, like: &Availability, counts: &[f64]) {
        let rest: Vec<f64> = counts.iter().enumerate().map(|(at, count)| count - self.level(at)).collect();
        self.pull = (1.0 - autocorrelation(&rest, 1).first().copied().unwrap_or(0.0)).clamp(0.0, 1.0);
        let changes = |interval: &Interval| f64::from(interval.added + interval.removed) / 2.0;
        let changes = share(later(like).iter().map(changes).sum(), later(like).len() as f64);
        let pulled = share(rest.iter().map(|rest| rest.abs() / 2.0).sum(), rest.len() as f64) * self.pull;
        self.churn = (changes - pulled).max(0.0);
    }

    /// The level at interval `at`, machines.
    pub fn level(&self, at: usize) -> f64 {
        self.mean + self.amplitude * (TAU * (at as f64 - self.peak) / self.period).cos()
    }

    /// A new availability.
    pub fn generate(&self, intervals: usize, seed: u64) -> Availability {
        let mut rng = stream(seed, "trace-diurnal", &[]);
        self.frame.walk(intervals, |at, now| {
            let above = f64::from(now) - self.level(at);
            let removed = poisson(&mut rng, self.churn + self.pull * above.max(0.0));
            (poisson(&mut rng, self.churn + self.pull * (-above).max(0.0)), removed)
        })
    }
}
