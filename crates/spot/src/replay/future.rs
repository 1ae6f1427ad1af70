//! What could be done if the future were known: no policies, but what policies are held against.

use super::{Turn, summary};
use crate::account::Account;
use crate::cost::CostModel;
use crate::plan::{Planner, Prices};
use crate::trace::Availability;
use crate::{Error, Interval, Result};

/// Intervals that the published planner is told.
const TOLD: usize = 12;

/// The published planner on the true future, 12 intervals of it.
pub(super) fn planned(trace: &Availability, costs: &CostModel, interval_s: f64) -> Vec<Turn> {
    let mut planner = Planner::new(costs, interval_s);
    let mut account = Account::new(costs, interval_s);
    let each = (0..trace.intervals.len()).map(|now| {
        let path = &trace.intervals[now..trace.intervals.len().min(now + TOLD)];
        let planned = planner.plan(account.standing(), path);
        let forecast = path.iter().map(Interval::after).collect();
        let spent = account.migrate(path[0], planned.layout);
        Turn { interval: path[0], spent, why: "the future is known".into(), forecast }
    });
    each.collect()
}

/// `parcae-truth` with every layout that the rules know, in samples per second.
///
/// # Errors
/// An empty trace.
pub fn told_the_future(trace: &Availability, costs: &CostModel) -> Result<f64> {
    check(trace)?;
    let interval_s = trace.interval_ms as f64 / 1000.0;
    let turns = planned(trace, costs, interval_s);
    Ok(summary("parcae-truth", turns, costs, interval_s).samples_per_second)
}

/// Samples per second that no plan exceeds at these prices, not even one that knows the whole trace.
///
/// The best sequence of layouts that may be chosen, by dynamic programming over all intervals:
///
/// ```text
/// V_t(b) = max over a of  V_{t-1}(a) + rate(b) (interval - min(interval, cost of a to b)),   b fits the machines of interval t,
///                         or rate(b) interval for a first start
/// ```
///
/// What a migration lasts longer than its interval is forgiven, and that one on top of another adds a restart too: so it is a
/// bound. Victims are drawn, so costs are means over who is lost. O(intervals x layouts^2).
///
/// # Errors
/// An empty trace.
///
/// # Examples
/// ```
/// use dunlin_spot::{cost::CostModel, policy::Notice, profile::Profile, replay, trace::Availability};
/// let trace = Availability::from_counts(60_000, &[16, 14, 14, 20, 16, 16, 12, 18]);
/// let costs = CostModel::new(&Profile::built_in("bert").unwrap());
/// let rate = |policy| replay::replay(policy, &trace, &costs, Notice::None).unwrap().samples_per_second;
/// let bound = replay::ceiling(&trace, &costs).unwrap();
/// assert!(rate("parcae-truth") <= bound && bound < rate("ideal"));
/// ```
pub fn ceiling(trace: &Availability, costs: &CostModel) -> Result<f64> {
    check(trace)?;
    let interval_s = trace.interval_ms as f64 / 1000.0;
    let mut prices = Prices::new(costs);
    let count = prices.layouts().len();
    // Samples by layout, of plans that have started. The first start is free, whenever it is.
    let mut values = vec![f64::NEG_INFINITY; count];
    for &interval in &trace.intervals {
        let fitting = prices.fitting(interval.after());
        let wanted: Vec<usize> = (0..fitting.end).collect(); // idle too
        let mut next = vec![f64::NEG_INFINITY; count];
        fitting.for_each(|to| next[to] = prices.rate(to) * interval_s);
        for from in (0..count).filter(|&from| values[from] > f64::NEG_INFINITY) {
            let row = prices.of(interval.before, interval.removed, from, &wanted);
            for (&to, cost_ms) in wanted.iter().zip(row) {
                let trains_s = (interval_s - cost_ms / 1000.0).max(0.0);
                next[to] = next[to].max(values[from] + prices.rate(to) * trains_s);
            }
        }
        values = next;
    }
    let most = values.into_iter().fold(0.0, f64::max);
    Ok(most / (interval_s * trace.intervals.len() as f64))
}

fn check(trace: &Availability) -> Result<()> {
    if trace.intervals.is_empty() {
        return Err(Error::data("the trace has no interval; at least one is wanted"));
    }
    Ok(())
}
