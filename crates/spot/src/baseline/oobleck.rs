//! Oobleck, modelled: pipelines of different depth side by side, so that hardly a machine is left over. Unchecked on any
//! profile (see [`super`]).
//!
//! ```text
//! layout      D pipelines of two neighbouring depths of the profile that fill the machines best; one of depth P
//!             contributes what it does in a measured fleet: samples/s of (D, P) / D (of the largest such fleet that
//!             was measured, where D pipelines were not); that its share of the batch is whole micro-batches is ignored
//! a loss      ends the iteration in progress; reconfigure_s + copy_s, then training goes on from the replicas
//!             if a stage loses every replica: restart_s, back to the last checkpoint (every checkpoint_iterations)
//! newcomers   join after reconfigure_s + copy_s if that is faster then; nothing is lost
//! ```
//!
//! Read with care: the seconds of [`OobleckRules::for_model`] come from machines joined by 200 Gb/s. Where other
//! systems are charged what forming groups costs at 10 Gb/s, put that into `reconfigure_s`, or this one is flattered.
//!
//! Losses are charged in expectation. With k of N lost, w at work in D pipelines, P the deepest:
//!
//! ```text
//! P(a working machine is hit)      = 1 - C(N - w, k) / C(N, k)
//! P(some stage loses all replicas) = 1 - (1 - q)^P,   q = C(N - D, k - D) / C(N, k), 0 for k < D
//! ```

use super::bamboo::chance_of_none;
use super::speeds::Speeds;
use super::{Debt, events};
use crate::account::Spent;
use crate::{Error, Interval, Layout, Result};

/// Constants of [`Oobleck`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OobleckRules {
    /// Seconds in which pipelines are formed anew.
    pub reconfigure_s: f64,
    /// Seconds in which missing layers are copied from replicas.
    pub copy_s: f64,
    /// Seconds of a restart from a checkpoint.
    pub restart_s: f64,
    /// Iterations between checkpoints, which cost nothing here; at least 1.
    pub checkpoint_iterations: u32,
    /// Losses that are always survived (f): pipelines are chosen so that there are f + 1 where the machines suffice.
    pub fault_threshold: u32,
}

impl OobleckRules {
    /// 1.6 s + 1.3 s a billion parameters (2 s for 345 million to 10 s for 6.7 billion are published); copying one of
    /// `stages` stages, 12 bytes a parameter at 0.9 GB/s; a restart of 75 s; a checkpoint every 10 iterations; f = 1.
    pub fn for_model(parameters: f64, stages: u32) -> OobleckRules {
        OobleckRules {
            reconfigure_s: 1.6 + 1.3 * parameters / 1e9,
            copy_s: 12.0 * parameters / f64::from(stages.max(1)) / 0.9e9,
            restart_s: 75.0,
            checkpoint_iterations: 10,
            fault_threshold: 1,
        }
    }
}

/// A mix of pipelines.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mix {
    /// (pipelines, depth) twice; the second deeper, possibly of no pipeline.
    parts: [(u32, u32); 2],
    speed: f64,
}

impl Mix {
    fn pipelines(&self) -> u32 {
        self.parts[0].0 + self.parts[1].0
    }

    fn machines(&self) -> u32 {
        self.parts.iter().map(|(pipelines, depth)| pipelines * depth).sum()
    }

    fn deepest(&self) -> u32 {
        self.parts.iter().filter(|(pipelines, _)| *pipelines > 0).map(|(_, depth)| *depth).max().unwrap_or(0)
    }

    fn layout(&self) -> Layout {
        let used = self.parts.iter().find(|(pipelines, _)| *pipelines > 0);
        used.map_or(Layout::IDLE, |(_, depth)| Layout::new(self.pipelines(), *depth))
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = self.parts.iter().filter(|(pipelines, _)| *pipelines > 0);
        let words: Vec<String> = used.map(|(pipelines, depth)| format!("{pipelines}x{depth}")).collect();
        f.write_str(&words.join(" + "))
    }
}

/// Trains as Oobleck would.
#[derive(Clone, Debug)]
pub struct Oobleck {
    speeds: Speeds,
    rules: OobleckRules,
    running: Option<Mix>,
    debt: Debt,
    /// Seconds trained since the last iteration ended.
    in_iteration_s: f64,
    /// Seconds trained since the last checkpoint, at least those.
    at_risk_s: f64,
}

impl Oobleck {
    /// From measured speeds (samples per second by layout) and the samples of an iteration.
    ///
    /// # Errors
    /// [`Error::Data`] for a profile that is empty or holds what cannot be; [`Error::Usage`] for such rules.
    pub fn new(speeds: &[(Layout, f64)], global_batch: f64, rules: OobleckRules) -> Result<Oobleck> {
        let seconds = [rules.reconfigure_s, rules.copy_s, rules.restart_s];
        if rules.checkpoint_iterations == 0 || !seconds.iter().all(|s| s.is_finite() && *s >= 0.0) {
            return Err(Error::usage(format!(
                "{rules:?}: seconds of at least 0, a checkpoint after 1 iteration or more"
            )));
        }
        let speeds = Speeds::new(speeds, global_batch)?;
        Ok(Oobleck { speeds, rules, running: None, debt: Debt(0.0), in_iteration_s: 0.0, at_risk_s: 0.0 })
    }

    /// One interval of `seconds`; its losses and arrivals happen at its start.
    pub fn step(&mut self, interval: Interval, seconds: f64) -> (Spent, String) {
        let mut spent = Spent::default();
        let why = format!("{}: {}", events(interval), self.change(interval, &mut spent));
        self.advance(seconds.max(0.0), &mut spent);
        spent.layout = self.running.map_or(Layout::IDLE, |mix| mix.layout());
        spent.machines = self.running.map_or(0, |mix| mix.machines());
        (spent, why)
    }

    /// The fastest mix of at most `machines`, among those of f + 1 pipelines or more if there are any.
    fn best(&self, machines: u32) -> Option<Mix> {
        let safe = self.rules.fault_threshold.saturating_add(1);
        self.fastest(machines, safe).or_else(|| self.fastest(machines, 1))
    }

    fn fastest(&self, machines: u32, fewest: u32) -> Option<Mix> {
        let depths = self.speeds.depths();
        let most = machines / depths[0];
        let mixes = (fewest..=most).flat_map(|pipelines| {
            let depths = &depths;
            (0..depths.len())
                .filter_map(move |at| self.mix(machines, pipelines, depths[at], depths.get(at + 1)))
        });
        mixes.max_by(|a, b| a.speed.total_cmp(&b.speed).then(b.machines().cmp(&a.machines())))
    }

    /// Pipelines of `depth`, as many as fit one size deeper, if that is faster. Their speeds add up, so it is best to
    /// deepen all that fit or none.
    fn mix(&self, machines: u32, pipelines: u32, depth: u32, next: Option<&u32>) -> Option<Mix> {
        let left = machines.checked_sub(pipelines.checked_mul(depth)?)?;
        let each = self.speeds.share(pipelines, depth)?;
        let plain = Mix { parts: [(pipelines, depth), (0, depth)], speed: f64::from(pipelines) * each };
        let Some((deeper, faster)) =
            next.and_then(|next| Some((*next, self.speeds.share(pipelines, *next)?)))
        else {
            return Some(plain);
        };
        let grown = (left / (deeper - depth)).min(pipelines);
        let parts = [(pipelines - grown, depth), (grown, deeper)];
        let speed = f64::from(pipelines - grown) * each + f64::from(grown) * faster;
        Some(if speed > plain.speed { Mix { parts, speed } } else { plain })
    }

    fn change(&mut self, interval: Interval, spent: &mut Spent) -> String {
        let target = self.best(interval.after());
        let reconfigure_s = self.rules.reconfigure_s + self.rules.copy_s;
        let said = match (self.running, target) {
            (Some(mix), _) if interval.removed > 0 => self.lose(mix, interval, target.is_some(), spent),
            (Some(mix), Some(better)) if better.speed > mix.speed => {
                self.debt.0 += reconfigure_s;
                (self.in_iteration_s, self.at_risk_s) = (0.0, 0.0); // it waits for the end of the iteration
                format!("newcomers join in {reconfigure_s:.1} s")
            }
            (Some(_), _) => return "goes on".into(),
            (None, Some(_)) => {
                self.debt = Debt(self.rules.restart_s);
                "starts from a checkpoint".into()
            }
            (None, None) => return "waits, nothing fits".into(),
        };
        self.running = target;
        match target {
            Some(mix) if mix.pipelines() <= self.rules.fault_threshold => {
                format!("{said}; {mix}, too few for {} losses at once", self.rules.fault_threshold)
            }
            Some(mix) => format!("{said}; {mix}"),
            None => format!("{said}; nothing fits any more"),
        }
    }

    fn lose(&mut self, mix: Mix, interval: Interval, goes_on: bool, spent: &mut Spent) -> String {
        let before = f64::from(interval.before) + f64::from(interval.added);
        let hit = 1.0 - chance_of_none(before, f64::from(mix.machines()), interval.removed);
        let gone = match goes_on {
            true => chance_of_no_replica(before, interval.removed, mix.pipelines(), mix.deepest()).min(hit),
            false => 1.0, // the next start is from a checkpoint
        };
        let lost_s = (hit - gone).max(0.0) * self.in_iteration_s + gone * self.at_risk_s;
        spent.samples -= lost_s * mix.speed;
        spent.useful_s -= lost_s;
        spent.redone_s += lost_s;
        self.at_risk_s -= lost_s;
        self.in_iteration_s = 0.0;
        let reconfigure_s = self.rules.reconfigure_s + self.rules.copy_s;
        self.debt.0 += hit * reconfigure_s + gone * self.rules.restart_s;
        format!("hits a pipeline with chance {hit:.2}, the last replica of a stage with {gone:.2}")
    }

    fn advance(&mut self, seconds: f64, spent: &mut Spent) {
        let Some(mix) = self.running else {
            self.debt = Debt(0.0);
            spent.idle_s += seconds;
            return;
        };
        let migrating = self.debt.pay(seconds);
        let useful = seconds - migrating;
        spent.migrating_s += migrating;
        spent.useful_s += useful;
        spent.samples += useful * mix.speed;
        let iteration_s = (self.speeds.global_batch / mix.speed).max(1e-6);
        self.in_iteration_s = (self.in_iteration_s + useful) % iteration_s;
        self.at_risk_s =
            (self.at_risk_s + useful) % (iteration_s * f64::from(self.rules.checkpoint_iterations));
    }
}

/// The chance that some of `stages` stages loses all its replicas when `lost` of `machines` go.
fn chance_of_no_replica(machines: f64, lost: u32, replicas: u32, stages: u32) -> f64 {
    if lost < replicas {
        return 0.0;
    }
    let each = (0..replicas).map(|r| f64::from(lost - r) / (machines - f64::from(r)).max(1.0));
    1.0 - (1.0 - each.product::<f64>().clamp(0.0, 1.0)).powi(stages as i32)
}
