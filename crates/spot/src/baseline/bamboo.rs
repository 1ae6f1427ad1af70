//! Bamboo, modelled: every machine can also do the work of the one behind it. Unchecked on any profile (see [`super`]).
//!
//! ```text
//! layout      pipelines of one depth, 1.5 x the shallowest that fits, as many as the machines fill;
//!             speed = that of the profile x (1 - overhead)
//! a loss      of a working machine: what is left of the iteration takes slowdown times as long (a quarter of an
//!             iteration more, on average, for 1.5), then rebalance_s
//!             of two neighbours of one pipeline: the state is gone; meet_s more, and half an iteration is lost
//! newcomers   are ready after join_s; if they fill a pipeline, rebalance_s
//! ```
//!
//! Nobody knows which machines are lost, so the seconds above are charged in expectation. With k of N lost, w at work in
//! rings of P:
//!
//! ```text
//! P(a working machine is hit) = 1 - C(N - w, k) / C(N, k)
//! P(two neighbours are hit)   = 1 - exp(-w k (k - 1) / (N (N - 1)))
//! ```

use super::speeds::Speeds;
use super::{Debt, events};
use crate::account::Spent;
use crate::{Error, Interval, Layout, Result};

/// Constants of [`Bamboo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BambooRules {
    /// Share of the speed that redundant computing costs, below 1 (20 % for transformers, 10 % for ResNet).
    pub overhead: f64,
    /// How much longer an iteration takes in which a machine does two works.
    pub slowdown: f64,
    /// Seconds of a rebalancing.
    pub rebalance_s: f64,
    /// Seconds until everybody has met anew.
    pub meet_s: f64,
    /// Seconds until a newcomer can be used.
    pub join_s: f64,
    /// Depth of the pipelines as a multiple of the shallowest that the profile holds.
    pub depth_factor: f64,
}

impl Default for BambooRules {
    /// For transformers: 19.8 %, 1.5, 20 s, 30 s, 45 s, 1.5.
    fn default() -> BambooRules {
        BambooRules {
            overhead: 0.198,
            slowdown: 1.5,
            rebalance_s: 20.0,
            meet_s: 30.0,
            join_s: 45.0,
            depth_factor: 1.5,
        }
    }
}

/// Trains as Bamboo would.
#[derive(Clone, Debug)]
pub struct Bamboo {
    speeds: Speeds,
    rules: BambooRules,
    /// Depth of every pipeline; none if the profile holds none deep enough: it never trains.
    depth: Option<u32>,
    running: Option<(Layout, f64)>,
    ready: u32,
    coming: u32,
    coming_in_s: f64,
    debt: Debt,
    redo: Debt,
}

impl Bamboo {
    /// From measured speeds (samples per second by layout, without redundancy) and the samples of an iteration.
    ///
    /// # Errors
    /// [`Error::Data`] for a profile that is empty or holds what cannot be; [`Error::Usage`] for such rules.
    pub fn new(speeds: &[(Layout, f64)], global_batch: f64, rules: BambooRules) -> Result<Bamboo> {
        let numbers =
            [rules.rebalance_s, rules.meet_s, rules.join_s, rules.slowdown - 1.0, rules.depth_factor - 1.0];
        let sound =
            (0.0..1.0).contains(&rules.overhead) && numbers.iter().all(|n| n.is_finite() && *n >= 0.0);
        if !sound {
            return Err(Error::usage(format!(
                "{rules:?}: overhead from 0 to below 1, slowdown and depth factor from 1, seconds from 0"
            )));
        }
        let speeds = Speeds::new(speeds, global_batch)?;
        let depths = speeds.depths();
        let least = f64::from(depths[0]) * rules.depth_factor;
        let depth = depths.into_iter().find(|depth| f64::from(*depth) >= least);
        let (ready, coming, coming_in_s) = (0, 0, 0.0);
        let (debt, redo) = (Debt(0.0), Debt(0.0));
        Ok(Bamboo { speeds, rules, depth, running: None, ready, coming, coming_in_s, debt, redo })
    }

    /// One interval of `seconds`; its losses and arrivals happen at its start.
    pub fn step(&mut self, interval: Interval, seconds: f64) -> (Spent, String) {
        let mut spent = Spent::default();
        let mut why = vec![events(interval)];
        if interval.added > 0 {
            (self.coming, self.coming_in_s) = (self.coming + interval.added, self.rules.join_s);
        }
        if interval.removed > 0 {
            self.lose(interval, &mut why);
        }
        self.coming = self.coming.min(interval.after());
        self.ready = interval.after() - self.coming;
        let mut left = seconds.max(0.0);
        if self.coming > 0 {
            let before = self.coming_in_s.min(left);
            self.advance(before, &mut spent);
            self.coming_in_s -= before;
            left -= before;
        }
        if self.coming_in_s <= 0.0 {
            (self.ready, self.coming) = (interval.after(), 0);
            self.grow(&mut why);
        }
        self.advance(left, &mut spent);
        spent.layout = self.running.map_or(Layout::IDLE, |(layout, _)| layout);
        spent.machines = spent.layout.machines();
        if self.depth.is_none() {
            why.push("no depth of the profile leaves room for the redundant stage".into());
        }
        (spent, why.join(", "))
    }

    fn best(&self, machines: u32) -> Option<(Layout, f64)> {
        let (layout, speed) = self.speeds.best(machines, |depth| Some(depth) == self.depth)?;
        Some((layout, speed * (1.0 - self.rules.overhead)))
    }

    fn lose(&mut self, interval: Interval, why: &mut Vec<String>) {
        let before = f64::from(interval.before) + f64::from(interval.added);
        let Some((layout, speed)) = self.running else { return };
        let (lost, working) = (f64::from(interval.removed), f64::from(layout.machines()));
        let hit = 1.0 - chance_of_none(before, working, interval.removed);
        let neighbours = working * lost * (lost - 1.0) / (before * (before - 1.0)).max(1.0);
        let gone = if layout.stages > 1 { 1.0 - (-neighbours).exp() } else { 0.0 };
        let iteration_s = self.speeds.global_batch / speed;
        self.redo.0 += hit * iteration_s * (self.rules.slowdown - 1.0) / 2.0 + gone * iteration_s / 2.0;
        self.debt.0 += hit * self.rules.rebalance_s + gone * self.rules.meet_s;
        let ready = interval.after().saturating_sub(self.coming.min(interval.added));
        self.running = self.best(ready);
        why.push(format!("hits a pipeline with chance {hit:.2}, two neighbours with {gone:.2}"));
        match self.running {
            Some((layout, _)) => why.push(format!("goes on with {layout}")),
            None => why.push("no pipeline is left".into()),
        }
    }

    /// Takes in who is ready.
    fn grow(&mut self, why: &mut Vec<String>) {
        let target = self.best(self.ready);
        match (self.running, target) {
            (None, Some((layout, _))) => {
                (self.debt, self.redo) = (Debt(self.rules.meet_s), Debt(0.0));
                why.push(format!("starts {layout}"));
            }
            (Some((_, speed)), Some((layout, faster))) if faster > speed => {
                self.debt.0 += self.rules.rebalance_s;
                why.push(format!("grows to {layout}"));
            }
            _ => return,
        }
        self.running = target;
    }

    fn advance(&mut self, seconds: f64, spent: &mut Spent) {
        let Some((_, speed)) = self.running else {
            spent.idle_s += seconds;
            return;
        };
        let migrating = self.debt.pay(seconds);
        let redone = self.redo.pay(seconds - migrating);
        let useful = seconds - migrating - redone;
        spent.migrating_s += migrating;
        spent.redone_s += redone;
        spent.useful_s += useful;
        spent.samples += useful * speed;
    }
}

/// C(N - w, k) / C(N, k): the chance that none of `w` of `n` is among the k that are lost.
pub(super) fn chance_of_none(n: f64, w: f64, k: u32) -> f64 {
    (0..k)
        .map(|drawn| ((n - w - f64::from(drawn)) / (n - f64::from(drawn)).max(1.0)).clamp(0.0, 1.0))
        .product()
}
