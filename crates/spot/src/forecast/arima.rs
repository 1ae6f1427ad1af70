//! ARIMA(1,1,0): the differences are an autoregression of order 1.

use super::history::History;
use super::smooth::HISTORY;
use super::{Forecaster, Settings};
use crate::Interval;

/// d_t - mean = slope (d_(t-1) - mean) + noise, for differences d_1..d_n.
///
/// Fitted by exact maximum likelihood of the normal, stationary process (Hamilton 1994, section 5.2), with mean and
/// variance worked out: log L = -n/2 log(S/n) + 1/2 log(1 - slope^2), S = (1 - slope^2) z_1^2 + sum (z_t - slope
/// z_(t-1))^2, z = d - mean. The slope is searched on a grid over -0.999..0.999 and then by golden section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Autoregression {
    /// How much of a difference carries over.
    pub slope: f64,
    /// Mean difference; 0 without drift.
    pub mean: f64,
}

/// Points of the grid on either side of 0, and the largest slope.
const GRID: i32 = 40;
const STEEPEST: f64 = 0.999;

impl Autoregression {
    /// Fits differences, of which there is at least one.
    pub fn fit(differences: &[f64], drift: bool) -> Autoregression {
        let at = |slope: f64| Autoregression { slope, mean: mean(differences, slope, drift) };
        let mean = at(0.0).mean;
        if differences.iter().all(|difference| (difference - mean).abs() < 1e-12) {
            return at(0.0); // nothing to carry over
        }
        let likelihood = |slope: f64| at(slope).log_likelihood(differences);
        let points = (-GRID..=GRID).map(|point| f64::from(point) / f64::from(GRID) * STEEPEST);
        let best =
            points.map(|slope| (likelihood(slope), slope)).reduce(|a, b| if b.0 > a.0 { b } else { a });
        let best = best.map_or(0.0, |point| point.1);
        let width = STEEPEST / f64::from(GRID);
        at(golden(likelihood, (best - width).max(-STEEPEST), (best + width).min(STEEPEST)))
    }

    fn log_likelihood(&self, differences: &[f64]) -> f64 {
        let rest = 1.0 - self.slope * self.slope;
        let first = differences[0] - self.mean;
        let pairs = differences.windows(2).map(|pair| {
            let noise = (pair[1] - self.mean) - self.slope * (pair[0] - self.mean);
            noise * noise
        });
        let squares = rest * first * first + pairs.sum::<f64>();
        let number = differences.len() as f64;
        -number / 2.0 * (squares / number).max(1e-12).ln() + rest.ln() / 2.0
    }

    /// The next `horizon` values after `last`, whose difference to the one before it is `difference`.
    pub fn path(&self, last: f64, difference: f64, horizon: usize) -> Vec<f64> {
        let (mut value, mut above) = (last, difference - self.mean);
        let path = (0..horizon).map(|_| {
            above *= self.slope;
            value += self.mean + above;
            value
        });
        path.collect()
    }
}

/// The mean that is likeliest for `slope` (generalised least squares).
fn mean(differences: &[f64], slope: f64, drift: bool) -> f64 {
    if !drift {
        return 0.0;
    }
    let pairs: f64 = differences.windows(2).map(|pair| pair[1] - slope * pair[0]).sum();
    let rest = 1.0 - slope;
    let weights = (1.0 + slope) + (differences.len() - 1) as f64 * rest;
    ((1.0 + slope) * differences[0] + pairs) / weights
}

/// Where `value` is highest between `low` and `high`, if it has one hill there.
fn golden(value: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..24 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if value(left) > value(right) { high = right } else { low = left }
    }
    (low + high) / 2.0
}

/// ARIMA(1,1,0) of the last H numbers, fitted anew every time, rounded. With fewer than 4 numbers, or all equal ones:
/// the last number.
#[derive(Clone, Debug)]
pub struct Arima {
    history: History,
    drift: bool,
}

impl Arima {
    /// One that has seen nothing.
    pub fn new(settings: &Settings, drift: bool) -> Arima {
        Arima { history: History::new(settings.history.unwrap_or(HISTORY), settings), drift }
    }
}

/// The forecast for `seen`, or nothing if there is nothing to fit.
pub(super) fn forecast(seen: &[f64], drift: bool, horizon: usize) -> Option<Vec<f64>> {
    let differences: Vec<f64> = seen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if seen.len() < 4 || differences.iter().all(|difference| *difference == 0.0) {
        return None;
    }
    let (last, difference) = (*seen.last()?, *differences.last()?);
    Some(Autoregression::fit(&differences, drift).path(last, difference, horizon))
}

impl Forecaster for Arima {
    fn name(&self) -> &'static str {
        if self.drift { "arima" } else { "arima-nodrift" }
    }

    fn observe(&mut self, seen: Interval) {
        self.history.observe(seen);
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        match forecast(&self.history.newest(usize::MAX), self.drift, horizon) {
            Some(path) => path.into_iter().map(|value| self.history.whole(value)).collect(),
            None => self.history.repeat(horizon),
        }
    }
}
