//! Parcae's predictor (Duan et al. 2024, as released): ARIMA with drift on the last H numbers, and seven corrections.

use super::arima;
use super::history::History;
use super::{Forecaster, MOST_HISTORY, Settings};
use crate::Interval;
use crate::trace::generate::poisson;
use dunlin_rng::stream;

/// Farthest that a prediction goes from the first predicted number.
const FARTHEST: i64 = 3;

/// Parcae's predictor. In order:
/// 1. excursions of 3, 2 or 1 intervals that return to where they began are taken out of the history;
/// 2. if it has a peak, or a trough, beyond both its ends, everything before the last such becomes it;
/// 3. if it only rises, or only falls, by 5 to 9, predicted additions, or removals, count 3/4, by 10 or more one half;
///    the factor stays for good;
/// 4. no later prediction is further than 3 from the first;
/// 5. predictions are clipped (8 to 32);
/// 6. if the prediction is flat, but the history was not, removals are drawn: Poisson with the least of standard
///    deviation, variance and mean of the past removals;
/// 7. gains and losses are those that lead from each number to the next.
///
/// A flat history, or less than H numbers: the last number.
#[derive(Clone, Debug)]
pub struct Parcae {
    history: History,
    settings: Settings,
    /// What predicted additions and removals are multiplied with.
    factors: (f64, f64),
    seen: u64,
}

/// Intervals that are looked back for a horizon, as published; for other horizons as many as are looked ahead.
pub fn history_for(horizon: usize) -> usize {
    match horizon {
        5 => 10,
        7 => 8,
        14 => 17,
        other => other,
    }
}

impl Parcae {
    /// One that has seen nothing.
    pub fn new(settings: &Settings) -> Parcae {
        let history = History::new(MOST_HISTORY, settings);
        Parcae { history, settings: *settings, factors: (1.0, 1.0), seen: 0 }
    }

    /// Keeps the factors of correction 3.
    fn notice_run(&mut self, seen: &[f64]) {
        let (first, last) = (seen[0], seen[seen.len() - 1]);
        let factor = match (last - first).abs() {
            change if change >= 10.0 => 0.5,
            change if change >= 5.0 => 0.75,
            _ => return,
        };
        if seen.windows(2).all(|pair| pair[0] <= pair[1]) {
            self.factors.0 = factor;
        } else if seen.windows(2).all(|pair| pair[0] >= pair[1]) {
            self.factors.1 = factor;
        }
    }

    /// Corrections 3, 4 and 5.
    fn tempered(&self, path: &[u32]) -> Vec<u32> {
        let (mut before, mut now, mut first) =
            (i64::from(self.history.last()), i64::from(self.history.last()), None);
        let clip =
            |count: i64| count.clamp(i64::from(self.settings.clip.0), i64::from(self.settings.clip.1)) as u32;
        let tempered = path.iter().map(|count| {
            let change = (i64::from(*count) - before) as f64;
            before = i64::from(*count);
            let factor = if change > 0.0 { self.factors.0 } else { self.factors.1 };
            now += (change * factor).round() as i64;
            let first = *first.get_or_insert(now);
            clip(now.clamp(first - FARTHEST, first + FARTHEST)).max(self.settings.lowest)
        });
        tempered.collect()
    }

    /// Correction 6.
    fn removals_drawn(&self, path: &mut [u32], seen: &[f64]) {
        let removals: Vec<f64> = seen.windows(2).map(|pair| (pair[0] - pair[1]).max(0.0)).collect();
        let number = removals.len().max(1) as f64;
        let mean = removals.iter().sum::<f64>() / number;
        let variance = removals.iter().map(|removed| (removed - mean).powi(2)).sum::<f64>() / number;
        let rate = mean.min(variance).min(variance.sqrt());
        let mut rng = stream(self.settings.seed, "parcae-removals", &[self.seen]);
        let mut lost = 0;
        for count in path {
            lost += poisson(&mut rng, rate);
            *count = count.saturating_sub(lost).max(self.settings.clip.0).max(self.settings.lowest);
        }
    }
}

/// Correction 1.
fn without_excursions(seen: &mut [f64]) {
    for length in [3, 2, 1] {
        for from in 0..seen.len().saturating_sub(length + 1) {
            let end = from + length + 1;
            if seen[from] == seen[end] {
                let level = seen[from];
                seen[from + 1..end].fill(level);
            }
        }
    }
}

/// Correction 2.
fn from_last_turn(seen: &mut [f64]) {
    let turns: [fn(f64, f64) -> bool; 2] = [|a, b| a > b, |a, b| a < b];
    for beyond in turns {
        let Some(extreme) = seen.iter().copied().reduce(|a, b| if beyond(b, a) { b } else { a }) else {
            return;
        };
        if beyond(extreme, seen[0]) && beyond(extreme, seen[seen.len() - 1]) {
            let last = seen.iter().rposition(|count| *count == extreme).unwrap_or(0);
            seen[..last].fill(extreme);
        }
    }
}

impl Forecaster for Parcae {
    fn name(&self) -> &'static str {
        "parcae"
    }

    fn ceiling(&self) -> Option<u32> {
        self.settings.capacity
    }

    fn observe(&mut self, seen: Interval) {
        self.history.observe(seen);
        self.seen += 1;
    }

    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        let length = self.settings.history.unwrap_or_else(|| history_for(horizon)).clamp(1, MOST_HISTORY);
        let raw = self.history.newest(length);
        let is_flat = |seen: &[f64]| seen.iter().all(|count| *count == seen[0]);
        if raw.len() < length || is_flat(&raw) {
            let lowest = self.settings.lowest;
            return self.history.repeat(horizon).into_iter().map(|count| count.max(lowest)).collect();
        }
        let mut seen = raw.clone();
        without_excursions(&mut seen);
        from_last_turn(&mut seen);
        self.notice_run(&seen);
        let path = arima::forecast(&seen, true, horizon);
        let path = path.unwrap_or_else(|| vec![f64::from(self.history.last()); horizon]);
        let path: Vec<u32> = path.into_iter().map(|value| self.history.whole(value)).collect();
        let mut path = self.tempered(&path);
        if path.iter().all(|count| *count == path[0]) {
            self.removals_drawn(&mut path, &raw);
        }
        path
    }
}
