//! Deciders that plan along one path of numbers of machines, or along none.

use super::{Decider, Decision, Sight};
use crate::Interval;
use crate::account::{Standing, adapt};
use crate::cost::CostModel;
use crate::forecast::Forecaster;
use crate::plan::Planner;

/// Intervals the plan looks ahead; the published plans come closest to 12.
const HORIZON: usize = 12;

/// The published planner along a forecast path.
pub struct Planned<'a> {
    forecaster: Box<dyn Forecaster>,
    planner: Planner<'a>,
    costs: &'a CostModel,
    /// A change must gain so many seconds of training.
    hysteresis_s: f64,
}

impl<'a> Planned<'a> {
    /// Along the path of `forecaster`; a change must gain `hysteresis_s` seconds of training.
    pub fn new(
        forecaster: Box<dyn Forecaster>,
        costs: &'a CostModel,
        interval_s: f64,
        hysteresis_s: f64,
    ) -> Planned<'a> {
        Planned { forecaster, planner: Planner::new(costs, interval_s), costs, hysteresis_s }
    }
}

impl Decider for Planned<'_> {
    fn observe(&mut self, interval: Interval) {
        self.forecaster.observe(interval);
    }

    fn decide(&mut self, standing: Standing, sight: Sight<'_>) -> Decision {
        let forecast = self.forecaster.counts(HORIZON - sight.certain.len());
        let mut path = sight.certain.to_vec();
        let mut before = sight.known_machines();
        for &after in &forecast {
            path.push(Interval {
                before,
                added: after.saturating_sub(before),
                removed: before.saturating_sub(after),
            });
            before = after;
        }
        let planned = self.planner.plan(standing, &path);
        let first = path.first().map_or(sight.machines, Interval::after);
        let kept = adapt(self.costs, standing.layout, first);
        let rate = self.costs.profile().samples_per_second(planned.layout).max(f64::MIN_POSITIVE);
        let gain_s = (planned.samples - planned.samples_if_kept) / rate;
        if planned.layout != kept && !kept.is_idle() && gain_s < self.hysteresis_s {
            let why = format!(
                "{} would gain {gain_s:.1} s of training, {} s are wanted: stays",
                planned.layout, self.hysteresis_s
            );
            return Decision { layout: kept, why, forecast };
        }
        let why = if planned.layout == standing.layout {
            format!("nothing trains more in the next {} intervals", path.len())
        } else {
            format!("trains {gain_s:.1} s more than {kept} in the next {} intervals", path.len())
        };
        Decision { layout: planned.layout, why, forecast }
    }
}

/// The best layout for the machines that are known to be there.
pub struct BestNow<'a> {
    costs: &'a CostModel,
}

impl<'a> BestNow<'a> {
    /// It looks at the profile alone.
    pub fn new(costs: &'a CostModel) -> BestNow<'a> {
        BestNow { costs }
    }
}

impl Decider for BestNow<'_> {
    fn observe(&mut self, _: Interval) {}

    fn decide(&mut self, _: Standing, sight: Sight<'_>) -> Decision {
        let machines = sight.certain.first().map_or(sight.machines, Interval::after);
        let layout = self.costs.profile().best(machines);
        Decision { layout, why: format!("fastest on {machines} machines"), forecast: Vec::new() }
    }
}
