//! Varuna, modelled: checkpoint, stop, restart with the best layout. Unchecked on any profile (see [`super`]).
//!
//! ```text
//! layout      the fastest (D, P) for the machines that are there, P a divisor of the cut points
//! a loss      stops everything at once; work since the last durable checkpoint is lost; restart_s follows
//! a newcomer  restarts too if another layout is faster then, but saves first: stall + copy + restart, nothing lost
//! checkpoint  every checkpoint_iterations iterations training stalls for checkpoint_stall_s; the copy is durable
//!             checkpoint_copy_s later, and the next one begins no sooner
//! ```

use super::speeds::Speeds;
use super::{Debt, events};
use crate::account::Spent;
use crate::{Error, Interval, Layout, Result};

/// Checkpoints come no closer than this.
const LEAST_PERIOD_S: f64 = 0.1;

/// Constants of [`Varuna`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VarunaRules {
    /// Layers between which a pipeline may be cut: P must divide this. 0: every P.
    pub cut_points: u32,
    /// Seconds from a stop to training again.
    pub restart_s: f64,
    /// Iterations between checkpoints, at least 1.
    pub checkpoint_iterations: u32,
    /// Seconds that training waits while state is copied to the host's memory.
    pub checkpoint_stall_s: f64,
    /// Seconds until that copy is stored where a lost machine does not matter.
    pub checkpoint_copy_s: f64,
}

impl VarunaRules {
    /// A restart of 75 s (60 to 90 were measured), a checkpoint every 10 iterations, 0.98 s of stall and 22 s of
    /// background copy a billion parameters: 3.9 s and 89 s were measured for 4 billion in 16 stages on V100 machines.
    pub fn for_model(parameters: f64, cut_points: u32) -> VarunaRules {
        let billions = parameters / 1e9;
        VarunaRules {
            cut_points,
            restart_s: 75.0,
            checkpoint_iterations: 10,
            checkpoint_stall_s: 3.9 / 4.0 * billions,
            checkpoint_copy_s: 89.0 / 4.0 * billions,
        }
    }
}

/// Trains as Varuna would.
#[derive(Clone, Debug)]
pub struct Varuna {
    speeds: Speeds,
    rules: VarunaRules,
    running: Option<(Layout, f64)>,
    debt: Debt,
    /// Seconds trained that no durable checkpoint covers.
    at_risk_s: f64,
    /// Seconds trained since the last snapshot.
    since_snapshot_s: f64,
    copying: Option<Copy>,
}

/// A snapshot on its way.
#[derive(Clone, Copy, Debug)]
struct Copy {
    left_s: f64,
    /// Seconds of training that it will make safe.
    covers_s: f64,
}

impl Varuna {
    /// From measured speeds (samples per second by layout) and the samples of an iteration.
    ///
    /// # Errors
    /// [`Error::Data`] for a profile that is empty or holds what cannot be; [`Error::Usage`] for such rules.
    pub fn new(speeds: &[(Layout, f64)], global_batch: f64, rules: VarunaRules) -> Result<Varuna> {
        let seconds = [rules.restart_s, rules.checkpoint_stall_s, rules.checkpoint_copy_s];
        if rules.checkpoint_iterations == 0 || !seconds.iter().all(|s| s.is_finite() && *s >= 0.0) {
            return Err(Error::usage(format!(
                "{rules:?}: seconds of at least 0, a checkpoint after 1 iteration or more"
            )));
        }
        let speeds = Speeds::new(speeds, global_batch)?;
        let (at_risk_s, since_snapshot_s) = (0.0, 0.0);
        Ok(Varuna {
            speeds,
            rules,
            running: None,
            debt: Debt(0.0),
            at_risk_s,
            since_snapshot_s,
            copying: None,
        })
    }

    /// One interval of `seconds`; its losses and arrivals happen at its start.
    pub fn step(&mut self, interval: Interval, seconds: f64) -> (Spent, String) {
        let mut spent = Spent::default();
        let machines = interval.after();
        let cut_points = self.rules.cut_points;
        let target = self.speeds.best(machines, |depth| cut_points == 0 || cut_points.is_multiple_of(depth));
        let why = format!("{}: {}", events(interval), self.change(interval, target, &mut spent));
        self.advance(seconds.max(0.0), &mut spent);
        spent.layout = self.running.map_or(Layout::IDLE, |(layout, _)| layout);
        spent.machines = spent.layout.machines();
        (spent, why)
    }

    /// Stops and restarts where the events ask for it; says what was done.
    fn change(&mut self, interval: Interval, target: Option<(Layout, f64)>, spent: &mut Spent) -> String {
        let layout = |of: Option<(Layout, f64)>| of.map(|(layout, _)| layout);
        let restart_s = self.rules.restart_s;
        let (cost_s, how) = match self.running {
            Some((_, speed)) if interval.removed > 0 => {
                let lost_s = self.at_risk_s;
                spent.samples -= lost_s * speed;
                spent.useful_s -= lost_s;
                spent.redone_s += lost_s;
                (
                    restart_s,
                    format!("everything stops, {lost_s:.0} s of work since the last checkpoint are lost"),
                )
            }
            Some(_) if layout(target) == layout(self.running) => return "goes on".into(),
            Some(_) => {
                let saving_s = self.rules.checkpoint_stall_s + self.rules.checkpoint_copy_s;
                (saving_s + restart_s, format!("saves for {saving_s:.0} s"))
            }
            None if target.is_none() => return "waits, nothing fits".into(),
            None => (restart_s, "starts".into()),
        };
        (self.at_risk_s, self.since_snapshot_s, self.copying) = (0.0, 0.0, None);
        self.running = target;
        self.debt = Debt(if target.is_some() { cost_s } else { 0.0 });
        match target {
            Some((layout, _)) => format!("{how}; {layout} after {cost_s:.0} s"),
            None => format!("{how}; nothing fits any more"),
        }
    }

    fn advance(&mut self, mut seconds: f64, spent: &mut Spent) {
        let Some((_, speed)) = self.running else {
            spent.idle_s += seconds;
            return;
        };
        let iteration_s = self.speeds.global_batch / speed;
        let period_s = (f64::from(self.rules.checkpoint_iterations) * iteration_s).max(LEAST_PERIOD_S);
        while seconds > 0.0 {
            let paid = self.debt.pay(seconds);
            spent.migrating_s += paid;
            seconds -= paid;
            let mut trained = seconds;
            match self.copying {
                Some(copy) => trained = trained.min(copy.left_s),
                None => trained = trained.min((period_s - self.since_snapshot_s).max(0.0)),
            }
            spent.useful_s += trained;
            spent.samples += trained * speed;
            seconds -= trained;
            self.at_risk_s += trained;
            self.since_snapshot_s += trained;
            self.save(trained, period_s);
        }
    }

    /// `trained` seconds later: a copy may be complete, a snapshot due.
    fn save(&mut self, trained: f64, period_s: f64) {
        if let Some(copy) = &mut self.copying {
            copy.left_s -= trained;
            if copy.left_s <= 0.0 {
                self.at_risk_s = (self.at_risk_s - copy.covers_s).max(0.0);
                self.copying = None;
            }
        }
        if self.copying.is_none() && self.since_snapshot_s >= period_s {
            self.copying = Some(Copy { left_s: self.rules.checkpoint_copy_s, covers_s: self.at_risk_s });
            self.since_snapshot_s = 0.0;
            self.debt.0 += self.rules.checkpoint_stall_s;
        }
    }
}
