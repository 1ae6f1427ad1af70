//! `dunlin` with an objective besides samples: only the machines of its layout are paid.

use super::{Finish, Replay, Terms, Turn, summary};
use crate::account::{Account, Spent};
use crate::cost::CostModel;
use crate::forecast::{Kind, Settings};
use crate::market::Market;
use crate::objective::Objective;
use crate::policy::{Aimed, Books, Decision, Notice, Sight};
use crate::trace::Availability;
use crate::{Interval, Result};

/// What adds up.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    samples: f64,
    dollars: f64,
    useful_s: f64,
    working_s: f64,
}

/// Replays it on `trace`, the machines that can be used; `market` has the bills.
pub(super) fn replay(
    trace: &Availability,
    costs: &CostModel,
    notice: Notice,
    terms: &Terms<'_>,
    market: &Market,
) -> Result<Replay> {
    let costs = &costs.clone().releasing();
    let interval_s = trace.interval_ms as f64 / 1000.0;
    let lowest = costs.profile().fewest_machines();
    let settings = Settings { lowest, history: Some(12), ..Settings::default() };
    let forecaster = Kind::named("hazard")?.make(&settings)?;
    let mut decider =
        Aimed::new(forecaster, costs, interval_s, notice, terms.objective, terms.supply.on_demand);
    let mut account = Account::new(costs, interval_s);
    let (mut observed, mut sums, mut chance) = (0, Sums::default(), None);
    let (mut turns, mut dollars_each) = (Vec::new(), Vec::new());
    for (now, &interval) in trace.intervals.iter().enumerate() {
        let known = (now + notice.certain_intervals()).max(1).min(trace.intervals.len());
        while observed < known.max(now) {
            decider.observe(trace.intervals[observed]);
            observed += 1;
        }
        let sight = Sight { machines: interval.before, certain: &trace.intervals[now.min(known)..known] };
        let Sums { samples, dollars, useful_s, working_s } = sums;
        let bill = &market.bills()[observed.max(1) - 1];
        let seconds = now as f64 * interval_s;
        let books = Books { samples, dollars, seconds, useful_s, working_s, bill };
        let Decision { layout, why, forecast } = decider.decide(account.standing(), sight, &books);
        chance = chance.or(decider.chance());
        let mut spent = account.migrate(interval, layout);
        let paid = ends_when_done(&mut spent, terms.objective, samples);
        let hourly = market.bills()[now].dollars_per_hour(spent.machines);
        let cost = hourly * (interval_s - paid) / 3600.0;
        sums.add(&spent, cost);
        dollars_each.push(cost);
        turns.push(Turn { interval, spent, why, forecast });
    }
    let mut replay = summary("dunlin", turns, costs, interval_s);
    replay.billed(dollars_each);
    replay.hours.released = replay.turns.iter().map(|turn| spare(turn) * interval_s / 3600.0).sum();
    replay.hours.idle = (replay.hours.idle - replay.hours.released).max(0.0);
    if let Objective::Deadline { samples, seconds } = terms.objective {
        replay.finish = Some(Finish { chance, ..Finish::of(&replay, samples, seconds, interval_s) });
    }
    Ok(replay)
}

impl Sums {
    fn add(&mut self, spent: &Spent, dollars: f64) {
        self.samples += spent.samples;
        self.dollars += dollars;
        self.useful_s += spent.useful_s;
        self.working_s += if spent.layout.is_idle() { 0.0 } else { spent.useful_s + spent.migrating_s };
    }
}

/// Machines that are there and not rented.
fn spare(turn: &Turn) -> f64 {
    f64::from(Interval::after(&turn.interval).saturating_sub(turn.spent.machines))
}

/// Stops at the sample that was wanted last; the seconds of the interval that are left then, for which nothing is paid.
fn ends_when_done(spent: &mut Spent, objective: Objective, before: f64) -> f64 {
    let Objective::Deadline { samples, .. } = objective else { return 0.0 };
    let due = samples - before;
    if due <= 0.0 || spent.samples <= due {
        return 0.0;
    }
    let over_s = spent.useful_s * (1.0 - due / spent.samples);
    spent.samples = due;
    spent.useful_s -= over_s;
    spent.idle_s += over_s;
    over_s
}
