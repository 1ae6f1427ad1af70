//! What a policy would have achieved on a trace.

mod aimed;
mod finish;
mod future;
mod supply;
mod terms;

use crate::account::{Account, Spent};
use crate::baseline::{Bamboo, BambooRules, Oobleck, OobleckRules, Varuna, VarunaRules};
use crate::cost::{Change, CostModel};
use crate::policy::{self, Decision, Notice, POLICIES, Sight};
use crate::profile::MAX_MACHINES;
use crate::trace::Availability;
use crate::{Error, Interval, Layout, Result};
pub use finish::Finish;
pub use future::{ceiling, told_the_future};
use serde::Serialize;
pub use supply::Supply;
pub use terms::{Terms, replay_on};

/// One interval of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// What happened to the machines.
    pub interval: Interval,
    /// What the interval was spent on.
    pub spent: Spent,
    /// Why this layout.
    pub why: String,
    /// Machines expected at the end of the next intervals; empty if the policy does not forecast.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forecast: Vec<u32>,
}

/// Machine-hours, by what they were used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Hours {
    /// Training that was kept.
    pub useful: f64,
    /// Training that was lost and done again.
    pub redone: f64,
    /// Migration, restarts, checkpoints.
    pub migrating: f64,
    /// Machines without a role.
    pub idle: f64,
    /// Machines that are there and were released: not paid.
    #[serde(skip_serializing_if = "is_none")]
    pub released: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_none(hours: &f64) -> bool {
    *hours == 0.0
}

/// A policy's replay.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The policy's word.
    pub policy: &'static str,
    /// Samples trained and kept, per second of the trace.
    pub samples_per_second: f64,
    /// Dollars for the machines.
    pub dollars: f64,
    /// Interval by interval; empty if every machine and hour costs the same.
    #[serde(skip)]
    pub dollars_each: Vec<f64>,
    /// Dollars for the machines, per million samples; none if nothing was trained.
    pub dollars_per_million_samples: Option<f64>,
    /// Whether it was done in time, if there was a deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<Finish>,
    /// Machine-hours.
    pub hours: Hours,
    /// Intervals that ended with another layout than they began with.
    pub relayouts: usize,
    /// Interval by interval.
    #[serde(skip)]
    pub turns: Vec<Turn>,
}

impl Replay {
    /// Samples per second of some of the intervals; 0 for none.
    pub fn rate(&self, intervals: std::ops::Range<usize>) -> f64 {
        let seconds = |spent: &Spent| spent.useful_s + spent.redone_s + spent.migrating_s + spent.idle_s;
        let turns = self.turns.get(intervals).unwrap_or(&[]);
        let total: f64 = turns.iter().map(|turn| seconds(&turn.spent)).sum();
        let samples: f64 = turns.iter().map(|turn| turn.spent.samples).sum();
        if total > 0.0 { samples / total } else { 0.0 }
    }
}

/// Replays `policy` on what `supply` makes of `trace`. The machines that stay are paid at their price, those that boot at the price of
/// the trace's. `on-demand` alone takes no notice of it. Victims are drawn from all machines, those that stay too: what a
/// loss costs is rather too high.
///
/// # Errors
/// As [`replay`] and [`Supply::check`].
///
/// # Examples
/// ```
/// use dunlin_spot::{cost::CostModel, policy::Notice, profile::Profile, replay::{Supply, replay_with}, trace::Availability};
/// let trace = Availability::from_counts(60_000, &[16, 16, 0, 0, 0, 16]);
/// let costs = CostModel::new(&Profile::built_in("bert").unwrap());
/// let rate = |on_demand| {
///     let supply = Supply { on_demand, boot_s: 60.0 };
///     replay_with("dunlin", &trace, &costs, Notice::AtEvent, supply).unwrap().samples_per_second
/// };
/// assert!(rate(4) > rate(0));
/// ```
pub fn replay_with(
    policy: &str,
    trace: &Availability,
    costs: &CostModel,
    notice: Notice,
    supply: Supply,
) -> Result<Replay> {
    if policy == "on-demand" || supply == Supply::default() {
        return replay(policy, trace, costs, notice);
    }
    let mut replay = replay(policy, &supply.usable(trace)?, costs, notice)?;
    let hours = trace.interval_ms as f64 / 3.6e6;
    let rented: f64 = trace.counts().into_iter().map(f64::from).sum::<f64>() * hours;
    let stays = f64::from(supply.on_demand) * hours * trace.intervals.len() as f64;
    let price = costs.profile().dollars_per_hour;
    let dollars = price.spot * rented + price.on_demand * stays;
    replay.dollars = dollars;
    let samples = replay.samples_per_second * hours * 3600.0 * trace.intervals.len() as f64;
    replay.dollars_per_million_samples = (samples > 0.0).then(|| 1e6 * dollars / samples);
    Ok(replay)
}

/// Planners that know the layouts of the measured table alone, as the published one does, whatever the rules.
const AS_PUBLISHED: [&str; 2] = ["parcae", "parcae-truth"];

/// Replays `policy` on `trace`. `parcae` and `parcae-truth` know the layouts of the measured table alone, the others all that the rules
/// know.
///
/// # Errors
/// A policy that is not known; an empty trace, or one of more than 2 x [`MAX_MACHINES`] machines at once.
pub fn replay(policy: &str, trace: &Availability, costs: &CostModel, notice: Notice) -> Result<Replay> {
    let known = POLICIES.iter().find(|known| known.word == policy).ok_or_else(|| {
        let words = POLICIES.map(|policy| policy.word).join(", ");
        Error::usage(format!("policy {policy} is not known; there are {words}"))
    })?;
    if trace.intervals.is_empty() {
        return Err(Error::data("the trace has no interval; at least one is wanted"));
    }
    let most = trace.intervals.iter().map(|interval| interval.before.saturating_add(interval.added)).max();
    if let Some(most) = most.filter(|most| *most > 2 * MAX_MACHINES) {
        return Err(Error::data(format!(
            "the trace has {most} machines; at most {} are allowed",
            2 * MAX_MACHINES
        )));
    }
    let interval_s = trace.interval_ms as f64 / 1000.0;
    let table;
    let costs = if AS_PUBLISHED.contains(&known.word) {
        table = costs.without_shapes();
        &table
    } else {
        costs
    };
    let (measured, batch) = (costs.profile().measured(), f64::from(costs.profile().global_batch));
    let turns = match known.word {
        "on-demand" => on_demand(trace, costs, interval_s),
        "ideal" => ideal(trace, costs, interval_s),
        "reactive" => reactive(trace, costs, interval_s),
        "varuna" => {
            let parameters: f64 = costs.profile().layers.iter().sum();
            let rules = VarunaRules::for_model(parameters, costs.profile().cut_points);
            let mut system = Varuna::new(&measured, batch, rules)?;
            modelled(trace, |interval| system.step(interval, interval_s))
        }
        "bamboo" => {
            let overhead = costs.profile().redundancy_overhead;
            let mut system =
                Bamboo::new(&measured, batch, BambooRules { overhead, ..BambooRules::default() })?;
            modelled(trace, |interval| system.step(interval, interval_s))
        }
        "oobleck" => {
            let parameters: f64 = costs.profile().layers.iter().sum();
            let shallowest = measured.iter().map(|(layout, _)| layout.stages).min().unwrap_or(1);
            let mut system = Oobleck::new(&measured, batch, OobleckRules::for_model(parameters, shallowest))?;
            modelled(trace, |interval| system.step(interval, interval_s))
        }
        "parcae-truth" => future::planned(trace, costs, interval_s),
        word => decided(word, trace, costs, interval_s, notice)?,
    };
    Ok(summary(known.word, turns, costs, interval_s))
}

/// A policy that is a [`policy::Decider`].
fn decided(
    word: &str,
    trace: &Availability,
    costs: &CostModel,
    interval_s: f64,
    notice: Notice,
) -> Result<Vec<Turn>> {
    let Some(mut decider) = policy::decider(word, costs, interval_s, notice)? else { return Ok(Vec::new()) };
    let mut account = Account::new(costs, interval_s);
    let mut observed = 0;
    let each = trace.intervals.iter().enumerate().map(|(now, &interval)| {
        // Whoever starts a run knows the machines it starts with.
        let known = (now + notice.certain_intervals()).max(1).min(trace.intervals.len());
        let certain = &trace.intervals[now.min(known)..known];
        while observed < known.max(now) {
            decider.observe(trace.intervals[observed]);
            observed += 1;
        }
        let sight = Sight { machines: interval.before, certain };
        let Decision { layout, why, forecast } = decider.decide(account.standing(), sight);
        Turn { interval, spent: account.migrate(interval, layout), why, forecast }
    });
    Ok(each.collect())
}

/// A system with books of its own.
fn modelled(trace: &Availability, mut step: impl FnMut(Interval) -> (Spent, String)) -> Vec<Turn> {
    let each = trace.intervals.iter().map(|&interval| {
        let (spent, why) = step(interval);
        Turn { interval, spent, why, forecast: Vec::new() }
    });
    each.collect()
}

/// The best layout of every interval at no cost.
fn ideal(trace: &Availability, costs: &CostModel, interval_s: f64) -> Vec<Turn> {
    let mut account = Account::new(costs, interval_s);
    let each = trace.intervals.iter().map(|&interval| {
        let spent = account.spend(costs.profile().best(interval.after()), 0.0, Change::Remove);
        Turn { interval, spent, why: "best layout, free of cost".into(), forecast: Vec::new() }
    });
    each.collect()
}

/// As many machines as the trace ever had, all the time.
fn on_demand(trace: &Availability, costs: &CostModel, interval_s: f64) -> Vec<Turn> {
    let most = trace.counts().into_iter().max().unwrap_or(0);
    let still = Interval { before: most, added: 0, removed: 0 };
    let mut account = Account::new(costs, interval_s);
    let spend = |account: &mut Account<'_>| account.spend(costs.profile().best(most), 0.0, Change::Remove);
    let turn = |spent| Turn {
        interval: still,
        spent,
        why: "nothing is ever taken away".into(),
        forecast: Vec::new(),
    };
    trace.intervals.iter().map(|_| turn(spend(&mut account))).collect()
}

/// A restart from a checkpoint at every event: R + saving and loading + fetching the whole model, even if the layout stays.
fn reactive(trace: &Availability, costs: &CostModel, interval_s: f64) -> Vec<Turn> {
    let mut account = Account::new(costs, interval_s);
    let each = trace.intervals.iter().map(|&interval| {
        let to = costs.profile().best(interval.after());
        let change = if interval.added > 0 { Change::Add } else { Change::Remove };
        let restart =
            costs.restart_ms(to, change) + costs.profile().costs.save_and_load_ms + costs.fetch_ms(to.stages);
        let free = interval.is_quiet() || to.is_idle();
        let why = if free { "nothing happened" } else { "restarts from a checkpoint" };
        let spent = account.spend(to, if free { 0.0 } else { restart }, change);
        Turn { interval, spent, why: why.into(), forecast: Vec::new() }
    });
    each.collect()
}

fn summary(policy: &'static str, turns: Vec<Turn>, costs: &CostModel, interval_s: f64) -> Replay {
    let mut hours = Hours::default();
    let (mut samples, mut machine_hours, mut relayouts, mut layout) = (0.0, 0.0, 0, Layout::IDLE);
    for Turn { interval, spent, .. } in &turns {
        let working = f64::from(spent.machines.min(interval.after())) / 3600.0;
        let spare = f64::from(interval.after()) / 3600.0 - working;
        hours.useful += working * spent.useful_s;
        hours.redone += working * spent.redone_s;
        hours.migrating += working * spent.migrating_s;
        hours.idle += working * spent.idle_s + spare * interval_s;
        machine_hours += f64::from(interval.after()) * interval_s / 3600.0;
        samples += spent.samples;
        relayouts += usize::from(spent.layout != layout);
        layout = spent.layout;
    }
    let price = costs.profile().dollars_per_hour;
    let price = if policy == "on-demand" { price.on_demand } else { price.spot };
    let dollars = (samples > 0.0).then(|| 1e6 * price * machine_hours / samples);
    Replay {
        policy,
        samples_per_second: samples / (interval_s * turns.len() as f64),
        dollars: price * machine_hours,
        dollars_each: Vec::new(),
        dollars_per_million_samples: dollars,
        finish: None,
        hours,
        relayouts,
        turns,
    }
}
