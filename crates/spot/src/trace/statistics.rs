//! What a trace is like, in numbers.

use super::{Availability, Trace};
use crate::{Interval, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Most lags of an autocorrelation.
const LAGS: usize = 12;

/// Facts of a trace. Machines that are there from the start on (those of the first interval) are in `additions`, but in
/// no batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Length of an interval, milliseconds.
    pub interval_ms: u64,
    /// Number of intervals.
    pub intervals: usize,
    /// Mean number of machines over time: of a [`Trace`] up to its last event, of numbers alone over all intervals.
    pub time_average: f64,
    /// Fewest machines at the end of an interval.
    pub lowest: u32,
    /// Most machines at the end of an interval.
    pub highest: u32,
    /// Machines that came or went.
    pub events: u64,
    /// Machines that came, those at the start among them.
    pub additions: u64,
    /// Machines that are there in the first interval.
    pub at_start: u32,
    /// Machines that were taken away.
    pub removals: u64,
    /// Intervals in which some came, the first apart.
    pub addition_intervals: usize,
    /// Intervals in which some were taken away.
    pub removal_intervals: usize,
    /// How often so many came in one interval, the first apart.
    pub addition_sizes: BTreeMap<u32, u64>,
    /// How often so many were taken away in one interval.
    pub removal_sizes: BTreeMap<u32, u64>,
    /// Intervals from one with a removal to the next such: how often each.
    pub removal_gaps: BTreeMap<u32, u64>,
    /// Correlation of the change (added less removed) of an interval with that 1, 2, ... intervals later, the first
    /// interval apart; zeros if nothing changes.
    pub autocorrelation: Vec<f64>,
}

impl Statistics {
    /// Of a trace with names, in intervals of `interval_ms`.
    ///
    /// # Errors
    /// Those of [`Trace::availability`].
    pub fn of_trace(trace: &Trace, interval_ms: u64) -> Result<Statistics> {
        let statistics = Statistics::of(&trace.availability(interval_ms)?);
        Ok(Statistics { time_average: trace.time_average(), ..statistics })
    }

    /// Of numbers alone.
    pub fn of(availability: &Availability) -> Statistics {
        let intervals = &availability.intervals;
        let rest = intervals.get(1..).unwrap_or_default();
        let sum =
            |part: fn(&Interval) -> u32| intervals.iter().map(|interval| u64::from(part(interval))).sum();
        let (additions, removals): (u64, u64) =
            (sum(|interval| interval.added), sum(|interval| interval.removed));
        let lost_in: Vec<usize> = (0..intervals.len()).filter(|at| intervals[*at].removed > 0).collect();
        let addition_sizes = sizes(rest.iter().map(|interval| interval.added));
        let changes: Vec<f64> =
            rest.iter().map(|interval| f64::from(interval.added) - f64::from(interval.removed)).collect();
        Statistics {
            interval_ms: availability.interval_ms,
            intervals: intervals.len(),
            time_average: availability.mean(),
            lowest: intervals.iter().map(Interval::after).min().unwrap_or(0),
            highest: availability.highest(),
            events: additions + removals,
            additions,
            at_start: intervals.first().map_or(0, |first| first.before + first.added),
            removals,
            addition_intervals: addition_sizes.values().sum::<u64>() as usize,
            removal_intervals: lost_in.len(),
            addition_sizes,
            removal_sizes: sizes(intervals.iter().map(|interval| interval.removed)),
            removal_gaps: sizes(lost_in.windows(2).map(|pair| (pair[1] - pair[0]) as u32)),
            autocorrelation: autocorrelation(&changes, LAGS),
        }
    }
}

/// How often each number above 0 occurs.
fn sizes(numbers: impl Iterator<Item = u32>) -> BTreeMap<u32, u64> {
    let mut sizes = BTreeMap::new();
    for number in numbers.filter(|number| *number > 0) {
        *sizes.entry(number).or_insert(0) += 1;
    }
    sizes
}

/// r_l = sum_t (x_t - m)(x_(t+l) - m) / sum_t (x_t - m)^2, for l from 1 to `lags` and below the length.
pub fn autocorrelation(values: &[f64], lags: usize) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let products = |lag: usize| -> f64 {
        values.iter().zip(&values[lag..]).map(|(early, late)| (early - mean) * (late - mean)).sum()
    };
    let variance = products(0);
    let lags = 1..=lags.min(values.len().saturating_sub(1));
    lags.map(|lag| if variance > 0.0 { products(lag) / variance } else { 0.0 }).collect()
}
