//! The published prices of the changes from one layout, made of parts that many of them share.

use super::pipeline::{Fall, Fetches};
use super::stage::Same;
use super::{Change, CostModel};
use crate::Layout;

/// A layout as the end of a change: what does not depend on the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(super) layout: Layout,
    /// R when machines join, and when they only leave.
    pub(super) add_ms: f64,
    pub(super) remove_ms: f64,
    /// Pairing anew.
    pub(super) intra_ms: f64,
    /// Starting from nothing.
    start_ms: f64,
    /// A copy within each stage.
    spread_ms: f64,
    /// The place of its P among those that the price list knows.
    depth: Option<usize>,
}

/// The changes from one layout when `lost` of `machines` are lost.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(super) machines: u32,
    pub(super) lost: u32,
    pub(super) from: Layout,
    pub(super) same: Same,
    /// What the last stages may lose; worked out when it is first wanted.
    pub(super) falls: Vec<Fall>,
    /// By the place of the new P.
    pub(super) fetch_ms: Vec<f64>,
}

impl CostModel {
    /// What changes to `layout` have in common.
    pub(crate) fn target(&self, layout: Layout) -> Target {
        let add_ms = self.restart_ms(layout, Change::Add);
        let found = self.stages.get(&layout.stages);
        Target {
            layout,
            add_ms,
            remove_ms: self.restart_ms(layout, Change::Remove),
            intra_ms: self.intra_stage_ms(layout),
            start_ms: add_ms + self.fetch_ms(layout.stages),
            spread_ms: found.filter(|_| layout.pipelines > 1).map_or(0.0, |stages| stages.longest_ms),
            depth: found.map(|_| self.stages.range(..layout.stages).count()),
        }
    }
}

impl Target {
    /// No change to it from another layout costs less, by either list: it is at least paired anew.
    pub(crate) fn least_ms(&self) -> f64 {
        if self.layout.is_idle() { 0.0 } else { below(self.intra_ms.min(self.add_ms).min(self.remove_ms)) }
    }
}

/// A little less: a mean of prices may be rounded down.
fn below(ms: f64) -> f64 {
    ms * (1.0 - 1e-9)
}

impl Row {
    /// Nothing worked out yet.
    pub(crate) fn new(machines: u32, lost: u32, from: Layout) -> Row {
        let (same, falls, fetch_ms) = (Same::default(), Vec::new(), Vec::new());
        Row { machines, lost, from, same, falls, fetch_ms }
    }

    /// Forgets what only made the parts of prices: it takes room.
    pub(crate) fn trim(&mut self) {
        self.same.trim();
        self.falls = Vec::new();
    }

    /// The mean cost of the change to `to` over all sets of victims.
    pub(crate) fn price_ms(&mut self, costs: &CostModel, fetches: &mut Fetches, to: &Target) -> f64 {
        if to.layout.is_idle() {
            return 0.0;
        }
        if self.from.is_idle() {
            return to.start_ms;
        }
        if self.from.stages == to.layout.stages {
            return self.same_stages_ms(costs, to);
        }
        let restart = self.restart_ms(to);
        let (old, new) = (costs.stages.get(&self.from.stages), costs.stages.get(&to.layout.stages));
        let (Some(old), Some(new), Some(depth)) = (old, new, to.depth) else { return restart };
        restart + to.spread_ms + self.fetch_ms(costs, fetches, old, new, depth)
    }

    /// R of the change to `to`.
    pub(super) fn restart_ms(&self, to: &Target) -> f64 {
        let left = self.from.machines().saturating_sub(self.lost);
        if to.layout.machines() > left { to.add_ms } else { to.remove_ms }
    }

    /// The change to `to`, which is another layout, costs no less than this.
    pub(crate) fn least_ms(&self, to: &Target) -> f64 {
        if to.layout.is_idle() || self.from.is_idle() {
            return if to.layout.is_idle() { 0.0 } else { below(to.start_ms) };
        }
        if self.from.stages != to.layout.stages {
            return below(self.restart_ms(to) + to.spread_ms);
        }
        match self.from.pipelines.checked_sub(to.layout.pipelines) {
            None => below(self.restart_ms(to)),
            Some(fewer) if fewer >= self.lost => below(to.intra_ms),
            Some(_) => below(to.intra_ms.min(self.restart_ms(to))),
        }
    }
}
