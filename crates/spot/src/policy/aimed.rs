//! The decider for objectives besides samples: `dunlin` for dollars per sample, or to be done in time.

use super::walk::Walk;
use super::{Decision, Notice, Sight};
use crate::account::{Standing, adapt};
use crate::cost::CostModel;
use crate::forecast::Forecaster;
use crate::market::Bill;
use crate::objective::{HEADROOM, MONEY, Objective};
use crate::plan::{Aim, Drift, Due, Odds, Prices, Stochastic, Timing, Use};
use crate::{Interval, Layout};
use std::sync::Arc;

/// Intervals the forecaster looks ahead.
const FORECAST: usize = 12;
/// Intervals a plan for dollars looks ahead: a start must have time to pay.
const LONG: usize = 60;
/// Samples that migration leaves, and how many seconds of training that is worth: before anything was seen.
const LEFT: (f64, f64) = (0.95, 1800.0);
/// The odds are worked out anew after so many intervals.
const RENEW: f64 = 30.0;
/// Most ways to use machines that the odds tell apart.
const MOST_USES: usize = 40;

/// What a run has come to, and what machines cost.
#[derive(Clone, Copy, Debug)]
pub struct Books<'m> {
    /// Samples trained.
    pub samples: f64,
    /// Dollars paid.
    pub dollars: f64,
    /// Seconds since the start.
    pub seconds: f64,
    /// Seconds of training.
    pub useful_s: f64,
    /// Seconds with a layout.
    pub working_s: f64,
    /// Of the machines that the policy knows of.
    pub bill: &'m Bill,
}

/// The odds, and what they were worked out for.
#[derive(Debug)]
struct Known {
    odds: Arc<Odds>,
    drift: Drift,
    /// Intervals that were left.
    intervals: f64,
    /// The money of all machines.
    money: f64,
}

/// Plans for an [`Objective`] with chances; machines that its layout does not use are released.
pub struct Aimed<'a> {
    costs: &'a CostModel,
    forecaster: Box<dyn Forecaster>,
    planner: Stochastic<'a>,
    objective: Objective,
    interval_s: f64,
    walk: Walk,
    /// Samples and dollars of an hour of the layout that was cheapest at first.
    first_hour: Option<(f64, f64)>,
    /// Chance for a dollar.
    money: Option<f64>,
    known: Option<Known>,
    chance: Option<f64>,
}

impl<'a> Aimed<'a> {
    /// With the outlooks of `forecaster`; `stay` machines are never taken away.
    pub fn new(
        forecaster: Box<dyn Forecaster>,
        costs: &'a CostModel,
        interval_s: f64,
        notice: Notice,
        objective: Objective,
        stay: u32,
    ) -> Aimed<'a> {
        let timing = if notice == Notice::None { Timing::BeforeDraw } else { Timing::AfterDraw };
        let horizon = if matches!(objective, Objective::Dollars { .. }) { LONG } else { FORECAST };
        Aimed {
            costs,
            forecaster,
            planner: Stochastic::new(Prices::new(costs), interval_s, horizon, timing),
            objective,
            interval_s,
            walk: Walk::new(stay, interval_s),
            first_hour: None,
            money: None,
            known: None,
            chance: None,
        }
    }

    /// Takes in an interval as soon as it is certain, once, in order.
    pub fn observe(&mut self, interval: Interval) {
        self.forecaster.observe(interval);
        self.walk.observe(interval.after());
    }

    /// The layout for the interval that begins.
    pub fn decide(&mut self, standing: Standing, sight: Sight<'_>, books: &Books<'_>) -> Decision {
        let waits = |why: String| Decision { layout: Layout::IDLE, why, forecast: Vec::new() };
        let words = match self.objective {
            Objective::Samples => String::new(),
            Objective::Dollars { per_million } => {
                let Some(worth) = self.worth(per_million, sight.known_machines(), books) else {
                    return waits(format!("nothing fits on {} machines: waits", sight.known_machines()));
                };
                self.planner.aim(Aim::Tolls(self.tolls(worth, books.bill)));
                format!("a million samples are worth ${:.4}", 1e6 * worth)
            }
            Objective::Deadline { samples, seconds } => {
                let due = Due {
                    samples: samples - books.samples,
                    intervals: (seconds - books.seconds) / self.interval_s,
                };
                if due.samples <= 0.0 {
                    return waits("done".into());
                }
                if due.intervals <= 0.0 {
                    return waits("too late".into());
                }
                let chance = self.aim_at(due, sight.known_machines(), books);
                self.chance = Some(chance);
                format!("done in time with chance {:.1} %", 100.0 * chance)
            }
        };
        let outlooks = self.forecaster.outlook(sight.known_machines(), FORECAST);
        let candidates = self.planner.candidates(standing, sight.machines, sight.certain, &outlooks);
        let first = sight.certain.first().map_or(sight.machines, Interval::after);
        let kept = adapt(self.costs, standing.layout, first);
        let best = candidates[0];
        let why = match (best.layout.is_idle(), best.layout == kept) {
            (true, _) if kept.is_idle() => format!("{words}: waits"),
            (true, _) => format!("{words}: releases all machines"),
            (_, true) => format!("{words}: stays"),
            _ => format!("{words}: better than {kept}"),
        };
        Decision { layout: best.layout, why, forecast: Vec::new() }
    }

    /// The chance to be done in time as the last decision saw it, if that is the objective.
    pub fn chance(&self) -> Option<f64> {
        self.chance
    }

    /// λ, dollars a sample; none before any layout fits.
    fn worth(&mut self, per_million: Option<f64>, machines: u32, books: &Books<'_>) -> Option<f64> {
        if let Some(worth) = per_million {
            return Some(worth / 1e6);
        }
        if self.first_hour.is_none() {
            let profile = self.costs.profile();
            let fitting = profile.layouts().iter().filter(|layout| layout.machines() <= machines);
            let hours = fitting.map(|&layout| {
                (3600.0 * profile.samples_per_second(layout), books.bill.dollars_per_hour(layout.machines()))
            });
            self.first_hour = hours.min_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        }
        let (samples, dollars) = self.first_hour?;
        Some(HEADROOM * (books.dollars + dollars) / (books.samples + samples))
    }

    /// What every layout costs in an interval, dollars.
    fn dollars(&self, bill: &Bill) -> Vec<f64> {
        let idle = bill.dollars_per_hour(0);
        let hours = self.interval_s / 3600.0;
        let layouts = self.planner.prices().layouts().iter();
        layouts.map(|layout| (bill.dollars_per_hour(layout.machines()) - idle) * hours).collect()
    }

    /// The same in samples. Where samples are worth nothing machines are free, or were.
    fn tolls(&self, worth: f64, bill: &Bill) -> Vec<f64> {
        let worth = worth.max(1e-30);
        self.dollars(bill).into_iter().map(|dollars| (dollars / worth).min(1e30)).collect()
    }

    /// Aims at being done in time; the chance of that.
    fn aim_at(&mut self, due: Due, machines: u32, books: &Books<'_>) -> f64 {
        let drift = self.walk.drift(machines);
        let spot = self.costs.profile().dollars_per_hour.spot;
        let money = *self.money.get_or_insert_with(|| {
            let hourly = books.bill.dollars_per_hour(drift.highest).max(spot * f64::from(drift.highest));
            let most = hourly * due.intervals * self.interval_s / 3600.0;
            if most > 0.0 { MONEY / most } else { 0.0 }
        });
        let costs: Vec<f64> = self.dollars(books.bill).into_iter().map(|dollars| money * dollars).collect();
        let all = money * books.bill.dollars_per_hour(drift.highest);
        let serves = |known: &Known| {
            known.intervals - due.intervals < RENEW
                && due.intervals > 0.5 * known.intervals
                && (known.drift.mean - drift.mean).abs() < 1.0
                && (known.drift.lowest, known.drift.highest) == (drift.lowest, drift.highest)
                && (known.money - all).abs() <= 0.1 * known.money
        };
        if !self.known.as_ref().is_some_and(serves) {
            let uses = self.uses(&costs, drift.highest, books);
            let near = uses.last().map_or(0.0, |most| FORECAST as f64 * most.samples);
            let odds = Arc::new(Odds::new(drift, &uses, due.samples + near, due.intervals));
            self.known = Some(Known { odds, drift, intervals: due.intervals, money: all });
        }
        let Some(known) = &self.known else { return 0.0 };
        self.planner.aim(Aim::Finish { odds: known.odds.clone(), due, money: costs });
        known.odds.at(due.intervals, machines, due.samples).chance
    }

    /// Ways to use up to `highest` machines that bring more than any with fewer, as far as migration has left of it.
    fn uses(&self, costs: &[f64], highest: u32, books: &Books<'_>) -> Vec<Use> {
        let left = (books.useful_s + LEFT.0 * LEFT.1) / (books.working_s + LEFT.1);
        let prices = self.planner.prices();
        let mut uses: Vec<Use> = Vec::new();
        for (number, layout) in prices.layouts().iter().enumerate().skip(1) {
            let samples = left * prices.rate(number) * self.interval_s;
            if layout.machines() <= highest && uses.last().is_none_or(|last| samples > last.samples) {
                uses.retain(|used| used.machines < layout.machines());
                uses.push(Use { machines: layout.machines(), samples, money: costs[number] });
            }
        }
        let every = uses.len().div_ceil(MOST_USES).max(1);
        let last = uses.len().wrapping_sub(1);
        let few = uses.into_iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        few.map(|(_, used)| used).collect()
    }
}
