//! What a layout wanted in an interval comes to: the bookkeeping that all policies share.

use crate::cost::{Change, CostModel, Step};
use crate::{Interval, Layout};

/// What one interval was spent on. `useful + redone + migrating + idle` is the length of the interval: time of the job, not of machines.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Spent {
    /// The layout at the end of the interval; where pipelines differ, their number and the shallowest depth.
    pub layout: Layout,
    /// Machines that work in it.
    pub machines: u32,
    /// Samples trained and kept.
    pub samples: f64,
    /// Seconds of training that were kept.
    pub useful_s: f64,
    /// Seconds of training that were lost and done again, and by which a loss slows work down.
    pub redone_s: f64,
    /// Seconds of migration, restarts and checkpoints.
    pub migrating_s: f64,
    /// Seconds without a layout.
    pub idle_s: f64,
}

/// The layout in force, and the migration still owed.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    costs: &'a CostModel,
    interval_s: f64,
    layout: Layout,
    owed_ms: f64,
    started: bool,
}

/// A layout and the migration still owed on it: what a plan starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// The layout in force.
    pub layout: Layout,
    /// Milliseconds of migration that did not fit into the interval.
    pub owed_ms: f64,
}

impl<'a> Account<'a> {
    /// Nothing runs yet.
    pub fn new(costs: &'a CostModel, interval_s: f64) -> Account<'a> {
        Account { costs, interval_s, layout: Layout::IDLE, owed_ms: 0.0, started: false }
    }

    /// What is in force.
    pub fn standing(&self) -> Standing {
        Standing { layout: self.layout, owed_ms: self.owed_ms }
    }

    /// Spends `interval` with the layout `wanted`, which is adapted to the machines there are at its end, at the expected
    /// cost of migration.
    pub fn migrate(&mut self, interval: Interval, wanted: Layout) -> Spent {
        let to = adapt(self.costs, wanted, interval.after());
        let step = Step { machines: interval.before, lost: interval.removed, from: self.layout, to };
        let cost = self.costs.expected_ms(step);
        self.spend(to, cost, step.change())
    }

    /// Spends an interval whose change of layout costs `cost_ms`. A migration on top of one that is not finished adds a
    /// restart and takes its place. The first start of all is free: every policy has it, it is no migration.
    pub fn spend(&mut self, to: Layout, cost_ms: f64, change: Change) -> Spent {
        let cost_ms = if self.started { cost_ms } else { 0.0 };
        self.started |= !to.is_idle();
        let total_s = total_ms(self.costs, self.owed_ms, to, cost_ms, change) / 1000.0;
        self.layout = to;
        let rate = self.costs.profile().samples_per_second(to);
        if rate == 0.0 {
            self.owed_ms = 0.0;
            let idle_s = self.interval_s;
            return Spent {
                layout: to,
                machines: to.machines(),
                samples: 0.0,
                useful_s: 0.0,
                redone_s: 0.0,
                migrating_s: 0.0,
                idle_s,
            };
        }
        let migrating_s = total_s.min(self.interval_s);
        let useful_s = self.interval_s - migrating_s;
        self.owed_ms = (total_s - migrating_s) * 1000.0;
        Spent {
            layout: to,
            machines: to.machines(),
            samples: rate * useful_s,
            useful_s,
            redone_s: 0.0,
            migrating_s,
            idle_s: 0.0,
        }
    }
}

/// The migration of an interval, with what was owed from before, milliseconds.
pub(crate) fn total_ms(costs: &CostModel, owed_ms: f64, to: Layout, cost_ms: f64, change: Change) -> f64 {
    match (owed_ms > 0.0, cost_ms > 0.0) {
        (false, _) => cost_ms,
        (true, true) => cost_ms + costs.restart_ms(to, change),
        (true, false) => owed_ms,
    }
}

/// What becomes of a plan when only `machines` are there: P stays, D shrinks; if not one pipeline is left, the deepest
/// single pipeline of the table that fits. Of pipelines of two depths the fastest that are left of them.
pub fn adapt(costs: &CostModel, wanted: Layout, machines: u32) -> Layout {
    if wanted.machines() <= machines {
        return wanted;
    }
    let profile = costs.profile();
    if wanted.is_mixed() {
        let left = profile.layouts().iter().filter(|layout| layout.machines() <= machines);
        let part = left.filter(|layout| layout.common(wanted) == **layout);
        let rate = |layout: &&Layout| profile.samples_per_second(**layout);
        if let Some(fastest) = part.max_by(|a, b| rate(a).total_cmp(&rate(b))) {
            return *fastest;
        }
    }
    let pipelines = machines / wanted.stages;
    let layout = if pipelines > 0 { Layout::new(pipelines, wanted.stages) } else { Layout::new(1, machines) };
    if profile.samples_per_second(layout) > 0.0 { layout } else { Layout::IDLE }
}
