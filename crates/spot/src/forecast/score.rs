//! How good forecasts are: error of the path, and CRPS and coverage of the distribution.

use super::{Forecaster, Outlook};
use crate::Interval;
use serde::Serialize;

/// Which forecasts are scored: those made after interval `first`, and every `stride` later, as long as all of the next
/// `horizon` intervals are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// Index of the interval after which the first forecast is asked for.
    pub first: usize,
    /// Intervals that are forecast (I); at least 1.
    pub horizon: usize,
    /// Intervals from one forecast to the next; at least 1.
    pub stride: usize,
}

impl Scoring {
    /// What the published error table was measured with: after every third interval from the `history`-th on.
    pub fn published(history: usize, horizon: usize) -> Scoring {
        Scoring { first: history.saturating_sub(1), horizon, stride: 3 }
    }
}

/// Scores, all in machines, smaller is better; coverage should be at least its name, and little more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Number of forecasts.
    pub forecasts: usize,
    /// Mean absolute error of the path, over forecasts and intervals.
    pub error: f64,
    /// The same divided by the mean number of machines of all intervals.
    pub relative_error: f64,
    /// Continuous ranked probability score for each interval ahead: mean over forecasts of sum_n (F(n) - [n >= seen])^2.
    /// That of a certain forecast is its absolute error.
    pub crps: Vec<f64>,
    /// Share of forecasts whose central half holds the number seen, for each interval ahead.
    pub coverage_50: Vec<f64>,
    /// The same for the central 90 %.
    pub coverage_90: Vec<f64>,
    /// Mean width of the central 90 %, machines, for each interval ahead.
    pub width_90: Vec<f64>,
}

impl Score {
    /// Mean CRPS over the intervals ahead.
    pub fn mean_crps(&self) -> f64 {
        mean(&self.crps)
    }

    /// Mean coverage of the central half and of the central 90 %.
    pub fn mean_coverage(&self) -> (f64, f64) {
        (mean(&self.coverage_50), mean(&self.coverage_90))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Feeds `intervals` to a forecaster that has seen nothing, and scores what it says meanwhile. Without a single
/// forecast all is 0.
pub fn score(forecaster: &mut dyn Forecaster, intervals: &[Interval], scoring: &Scoring) -> Score {
    let horizon = scoring.horizon.max(1);
    let mut score = Score {
        forecasts: 0,
        error: 0.0,
        relative_error: 0.0,
        crps: vec![0.0; horizon],
        coverage_50: vec![0.0; horizon],
        coverage_90: vec![0.0; horizon],
        width_90: vec![0.0; horizon],
    };
    for (at, interval) in intervals.iter().enumerate() {
        forecaster.observe(*interval);
        let is_due = at >= scoring.first && (at - scoring.first).is_multiple_of(scoring.stride.max(1));
        if let (true, Some(future)) = (is_due, intervals.get(at + 1..at + 1 + horizon)) {
            score.add(forecaster, interval.after(), future);
        }
    }
    let number = score.forecasts.max(1) as f64;
    score.error /= number;
    for part in [&mut score.crps, &mut score.coverage_50, &mut score.coverage_90, &mut score.width_90] {
        part.iter_mut().for_each(|sum| *sum /= number);
    }
    let machines: Vec<f64> = intervals.iter().map(|interval| f64::from(interval.after())).collect();
    score.relative_error = if mean(&machines) > 0.0 { score.error / mean(&machines) } else { 0.0 };
    score
}

impl Score {
    fn add(&mut self, forecaster: &mut dyn Forecaster, now: u32, future: &[Interval]) {
        let path = forecaster.counts(future.len());
        let outlook = forecaster.outlook(now, future.len());
        let chances = distributions(now, forecaster.ceiling(), &outlook);
        let misses = path.iter().zip(future).map(|(count, seen)| f64::from(count.abs_diff(seen.after())));
        self.error += misses.sum::<f64>() / future.len() as f64;
        self.forecasts += 1;
        for (at, (chances, seen)) in chances.iter().zip(future).enumerate() {
            let seen = seen.after() as usize;
            self.crps[at] += crps(chances, seen);
            let holds = |low: f64, high: f64| {
                let (low, high) = (quantile(chances, low), quantile(chances, high));
                (f64::from(u8::from((low..=high).contains(&seen))), (high - low) as f64)
            };
            self.coverage_50[at] += holds(0.25, 0.75).0;
            let (covered, width) = holds(0.05, 0.95);
            self.coverage_90[at] += covered;
            self.width_90[at] += width;
        }
    }
}

fn crps(chances: &[f64], seen: usize) -> f64 {
    let (mut below, mut sum) = (0.0, 0.0);
    for number in 0..chances.len().max(seen) {
        below += chances.get(number).unwrap_or(&0.0);
        let truth = if number >= seen { 1.0 } else { 0.0 };
        sum += (below - truth) * (below - truth);
    }
    sum
}

/// The smallest number that is reached with probability at least `share`.
pub(super) fn quantile(chances: &[f64], share: f64) -> usize {
    let mut below = 0.0;
    let reached = chances.iter().position(|chance| {
        below += chance;
        below >= share - 1e-9 // sums of shares are not exact
    });
    reached.unwrap_or(chances.len().saturating_sub(1))
}

/// The probability of 0, 1, 2, ... machines at the end of each interval of `outlook`, from `now` machines on. Losses
/// come before gains; nobody loses more than there are, and nothing above `ceiling` (or `now`, if that is more) is gained.
///
/// # Examples
/// ```
/// use dunlin_spot::forecast::{Outlook, distributions};
/// let coming = Outlook { lost: vec![0.5, 0.5], gained: vec![0.5, 0.5] };
/// assert_eq!(distributions(1, Some(1), &[coming]), [[0.25, 0.75]]);
/// ```
pub fn distributions(now: u32, ceiling: Option<u32>, outlook: &[Outlook]) -> Vec<Vec<f64>> {
    let mut chances = vec![0.0; now as usize];
    chances.push(1.0);
    let ceiling = ceiling.map(|ceiling| ceiling.max(now) as usize);
    let steps = outlook.iter().map(|coming| {
        chances = gain(&lose(&chances, &coming.lost), &coming.gained, ceiling);
        chances.clone()
    });
    steps.collect()
}

/// The entries that are not 0, with their places.
fn possible(chances: &[f64]) -> Vec<(usize, f64)> {
    chances.iter().copied().enumerate().filter(|(_, chance)| *chance > 0.0).collect()
}

/// After losses.
pub(super) fn lose(chances: &[f64], lost: &[f64]) -> Vec<f64> {
    let (mut after, lost) = (vec![0.0; chances.len()], possible(lost));
    for (number, chance) in possible(chances) {
        for (fewer, share) in &lost {
            after[number.saturating_sub(*fewer)] += chance * share;
        }
    }
    after
}

/// After gains.
pub(super) fn gain(chances: &[f64], gained: &[f64], ceiling: Option<usize>) -> Vec<f64> {
    let top = chances.len() - 1 + gained.len().saturating_sub(1);
    let top = ceiling.map_or(top, |ceiling| top.min(ceiling.max(chances.len() - 1)));
    let (mut after, gained) = (vec![0.0; top + 1], possible(gained));
    for (number, chance) in possible(chances) {
        for (more, share) in &gained {
            after[(number + more).min(top)] += chance * share;
        }
    }
    after
}
