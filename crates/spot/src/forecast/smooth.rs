//! Levels and trends: persistence, mean, exponential smoothing, damped Holt.

use super::history::History;
use super::{Forecaster, Settings};
use crate::Interval;

/// Intervals looked back unless told otherwise.
pub(super) const HISTORY: usize = 12;

/// The last number stays.
#[derive(Clone, Debug)]
pub struct Persistence(History);

impl Persistence {
    /// One that has seen nothing.
    pub fn new(settings: &Settings) -> Persistence {
        Persistence(History::new(1, settings))
    }
}

impl Forecaster for Persistence {
    fn name(&self) -> &'static str {
        "persistence"
    }

    fn observe(&mut self, seen: Interval) {
        self.0.observe(seen);
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        self.0.repeat(horizon)
    }
}

/// The mean of the last H numbers, rounded.
#[derive(Clone, Debug)]
pub struct Mean(History);

impl Mean {
    /// One that has seen nothing.
    pub fn new(settings: &Settings) -> Mean {
        Mean(History::new(settings.history.unwrap_or(HISTORY), settings))
    }
}

impl Forecaster for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn observe(&mut self, seen: Interval) {
        self.0.observe(seen);
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        let seen = self.0.newest(usize::MAX);
        let mean = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
        vec![self.0.whole(mean); horizon]
    }
}

/// Simple exponential smoothing: level <- level + a (x - level), beginning at the oldest of the H numbers; a from 0.01
/// to 1 such that the sum of squared errors of one step ahead is smallest.
#[derive(Clone, Debug)]
pub struct Smoothing(History);

impl Smoothing {
    /// One that has seen nothing.
    pub fn new(settings: &Settings) -> Smoothing {
        Smoothing(History::new(settings.history.unwrap_or(HISTORY), settings))
    }
}

/// The last level under smoothing constant `rate`, and the sum of squared errors.
fn smoothed(seen: &[f64], rate: f64) -> (f64, f64) {
    let (mut level, mut squares) = (seen.first().copied().unwrap_or(0.0), 0.0);
    for value in seen.iter().skip(1) {
        squares += (value - level).powi(2);
        level += rate * (value - level);
    }
    (level, squares)
}

impl Forecaster for Smoothing {
    fn name(&self) -> &'static str {
        "smoothing"
    }

    fn observe(&mut self, seen: Interval) {
        self.0.observe(seen);
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        let seen = self.0.newest(usize::MAX);
        let fits = (1..=100).map(|percent| smoothed(&seen, f64::from(percent) / 100.0));
        // Of equal fits the one that follows the numbers most closely.
        let best = fits.reduce(|best, fit| if fit.1 <= best.1 { fit } else { best });
        vec![self.0.whole(best.map_or(0.0, |fit| fit.0)); horizon]
    }
}

/// Holt's method with a damped trend (Gardner and McKenzie 1985): forecast = level + (f + ... + f^h) trend, with level
/// <- forecast + a error, trend <- f trend + a b error. a, b and f come from a grid (f from 0.8 to 0.995); for each of
/// its points the best first level and trend are a linear least-squares problem, solved exactly.
#[derive(Clone, Debug)]
pub struct DampedHolt(History);

/// Smoothing constants that are tried.
const RATES: [f64; 11] = [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99];
/// Damping factors that are tried.
const DAMPINGS: [f64; 5] = [0.8, 0.85, 0.9, 0.95, 0.995];

impl DampedHolt {
    /// One that has seen nothing.
    pub fn new(settings: &Settings) -> DampedHolt {
        DampedHolt(History::new(settings.history.unwrap_or(HISTORY), settings))
    }
}

/// Constants of Holt's method.
#[derive(Clone, Copy)]
struct Constants {
    level: f64,
    trend: f64,
    damping: f64,
}

/// One step for the numbers and for the two directions that the start may be moved in, which are numbers of 0 begun at
/// level 1 and at trend 1: (levels, trends) in, errors out.
fn step(c: Constants, value: f64, levels: &mut [f64; 3], trends: &mut [f64; 3]) -> [f64; 3] {
    let values = [value, 0.0, 0.0];
    std::array::from_fn(|at| {
        let forecast = levels[at] + c.damping * trends[at];
        let error = values[at] - forecast;
        levels[at] = forecast + c.level * error;
        trends[at] = c.damping * trends[at] + c.level * c.trend * error;
        error
    })
}

/// Squared error, last level and last trend with the best start.
fn holt(seen: &[f64], c: Constants) -> (f64, f64, f64) {
    let (mut levels, mut trends) = ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0]);
    let mut products = [[0.0; 3]; 3];
    for value in seen {
        let errors = step(c, *value, &mut levels, &mut trends);
        for (row, left) in products.iter_mut().zip(errors) {
            row.iter_mut().zip(errors).for_each(|(sum, right)| *sum += left * right);
        }
    }
    // Error = e0 + l e1 + t e2; the normal equations of l and t.
    let [[all, first, second], [_, a, b], [_, _, d]] = products;
    let determinant = a * d - b * b;
    let (level, trend) = if determinant.abs() > 1e-9 * (a * d).max(1e-300) {
        ((b * second - d * first) / determinant, (b * first - a * second) / determinant)
    } else {
        (-first / a.max(1e-300), 0.0)
    };
    let squares = all
        + 2.0 * (level * first + trend * second)
        + level * level * a
        + 2.0 * level * trend * b
        + trend * trend * d;
    let end = |parts: [f64; 3]| parts[0] + level * parts[1] + trend * parts[2];
    (squares, end(levels), end(trends))
}

impl Forecaster for DampedHolt {
    fn name(&self) -> &'static str {
        "holt"
    }

    fn observe(&mut self, seen: Interval) {
        self.0.observe(seen);
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        let seen = self.0.newest(usize::MAX);
        if seen.len() < 4 || seen.iter().all(|count| *count == seen[0]) {
            return self.0.repeat(horizon);
        }
        let mut best = (f64::INFINITY, 0.0, 0.0, 0.0);
        for level in RATES {
            for trend in RATES {
                for damping in DAMPINGS {
                    let (squares, last, slope) = holt(&seen, Constants { level, trend, damping });
                    if squares < best.0 - 1e-9 {
                        best = (squares, last, slope, damping);
                    }
                }
            }
        }
        let (_, last, slope, damping) = best;
        let (mut power, mut sum) = (1.0, 0.0);
        let path = (0..horizon).map(|_| {
            power *= damping;
            sum += power;
            self.0.whole(last + sum * slope)
        });
        path.collect()
    }
}
