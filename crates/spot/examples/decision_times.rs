//! How long decisions take, and what is lost where not every layout is considered.
//!
//! `cargo run --release -p dunlin-spot --example decision_times [-- loss|all|smoke]`. Without a word: the times alone.

#![allow(clippy::print_stdout, reason = "it prints tables")]

use dunlin_spot::account::{Account, Standing};
use dunlin_spot::cost::CostModel;
use dunlin_spot::forecast::{Kind, Outlook, Settings};
use dunlin_spot::plan::{Planner, Prices, Stochastic, Timing};
use dunlin_spot::profile::{BUILT_IN, Profile, synthetic};
use dunlin_spot::trace::{Availability, ReadOptions, read};
use dunlin_spot::{Interval, Result};
use std::time::Instant;

const TRACE: &[u8] = include_bytes!("../data/p3_minutes.csv");
/// Intervals that a plan looks ahead.
const HORIZON: usize = 12;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn milliseconds<T>(of: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = of();
    (start.elapsed().as_secs_f64() * 1000.0, value)
}

/// Others want the machine too: the least of some runs, each cold, for as long as they are short.
fn least(of: impl Fn() -> [f64; 2]) -> [f64; 2] {
    let (mut best, mut spent) = (of(), 0.0);
    while spent < 400.0 {
        let again = of();
        spent += again[0] + again[1];
        best = [best[0].min(again[0]), best[1].min(again[1])];
    }
    best
}

/// An outlook like those of the shared trace.
fn outlook(event: f64) -> Outlook {
    let sizes: [f64; 6] = [0.5, 0.25, 0.12, 0.06, 0.04, 0.03];
    let side = |event: f64| std::iter::once(1.0 - event).chain(sizes.map(|size| size * event)).collect();
    Outlook { lost: side(event), gained: side(event) }
}

/// Some losses and gains, from `machines` on.
fn path(machines: u32) -> Vec<Interval> {
    let mut path = vec![Interval { before: machines, added: 0, removed: 3 }];
    for step in 1..HORIZON {
        let (added, removed) = (u32::from(step % 4 == 0), u32::from(step % 5 == 0) * 2);
        path.push(Interval { before: path[step - 1].after(), added, removed });
    }
    path
}

/// A row of the table of times: of every kind of decision the first one and the next, one machine fewer and other chances, not so
/// different that all is worked out anew.
fn times(profile: &Profile, machines: u32) {
    let costs = CostModel::new(profile);
    let now = machines - machines / 16;
    let standing = Standing { layout: profile.best(now - 4), owed_ms: 0.0 };
    let paths = [path(now), path(now - 1)];
    let along = least(|| {
        let mut planner = Planner::new(&costs, 60.0);
        [0, 1].map(|at| milliseconds(|| planner.plan(standing, &paths[at])).0)
    });
    let outlooks = [0.15, 0.17].map(|event| vec![outlook(event); HORIZON]);
    let chances = |timing: Timing| {
        least(|| {
            let mut planner = Stochastic::new(Prices::new(&costs), 60.0, HORIZON, timing);
            [0, 1].map(|at| {
                let certain = if timing == Timing::BeforeDraw { &[] } else { &paths[at][..1] };
                let decide =
                    || planner.candidates(standing, paths[at][0].before, certain, &outlooks[at]).len();
                milliseconds(decide).0
            })
        })
    };
    let (before, after) = (chances(Timing::BeforeDraw), chances(Timing::AfterDraw));
    let mut planner = Stochastic::new(Prices::new(&costs), 60.0, HORIZON, Timing::BeforeDraw);
    planner.candidates(standing, now, &[], &outlooks[0]);
    println!(
        "| {} | {machines} | {} | {} | {:.2} ({:.2}) | {:.1} ({:.2}) | {:.1} ({:.2}) |",
        profile.name,
        profile.layouts().len(),
        planner.considered(),
        along[0],
        along[1],
        before[0],
        before[1],
        after[0],
        after[1]
    );
}

/// The shared trace with so many machines more, all of which stay, or with `times` as many of everything.
fn like(whole: &Availability, more: u32, times: u32) -> Availability {
    let counts: Vec<u32> = whole.counts().iter().map(|count| count * times + more).collect();
    Availability::from_counts(60_000, &counts)
}

/// Two planners along `trace`, each on its own books: one that considers few layouts of a large table, one that considers all.
/// Prints what is lost: of what is trained, and of the value of the plan where both stand at the same place. Constants of migration
/// are taken times `factor`: those of the synthetic profile outlast an interval where there are many machines.
fn loss(machines: u32, factor: f64, name: &str, trace: &Availability, timing: Timing) -> Result<()> {
    let mut profile = synthetic(machines)?;
    profile.costs = profile.costs.scaled(factor);
    let costs = CostModel::new(&profile);
    let planner = |all: Option<usize>| {
        let planner = Stochastic::new(Prices::new(&costs), 60.0, HORIZON, timing);
        all.map_or(planner.clone(), |all| planner.considering(all))
    };
    let (mut few, mut many) = (planner(None), planner(Some(usize::MAX)));
    let mut forecaster = Kind::named("hazard")?.make(&Settings::default())?;
    let mut books = [Account::new(&costs, 60.0), Account::new(&costs, 60.0)];
    let (mut samples, mut worst, mut sum) = ([0.0; 2], 0.0f64, 0.0);
    let seen = usize::from(timing == Timing::AfterDraw);
    for (now, &interval) in trace.intervals.iter().enumerate() {
        let certain = if now == 0 || seen == 1 { &trace.intervals[now..=now] } else { &[] };
        let known = certain.last().map_or(interval.before, Interval::after);
        if seen == 1 {
            forecaster.observe(interval);
        }
        let outlooks = forecaster.outlook(known, HORIZON);
        let best = |planner: &mut Stochastic<'_>, standing| {
            planner.candidates(standing, interval.before, certain, &outlooks)[0]
        };
        let here = books[0].standing();
        let ours = best(&mut few, here);
        let lost = 1.0 - ours.samples / best(&mut many, here).samples;
        (worst, sum) = (worst.max(lost), sum + lost);
        let theirs = best(&mut many, books[1].standing());
        samples[0] += books[0].migrate(interval, ours.layout).samples;
        samples[1] += books[1].migrate(interval, theirs.layout).samples;
        if seen == 0 {
            forecaster.observe(interval);
        }
    }
    println!(
        "| {} | {factor} | {name} | {} | {} | {} | {:.3} % | {:.3} % | {:.3} % |",
        profile.name,
        if seen == 1 { "at-event" } else { "none" },
        few.considered(),
        many.considered(),
        100.0 * sum / trace.intervals.len() as f64,
        100.0 * worst,
        100.0 * (1.0 - samples[0] / samples[1]),
    );
    Ok(())
}

fn main() -> Result<()> {
    let word = std::env::args().nth(1).unwrap_or_default();
    let smoke = word == "smoke";
    if word != "loss" {
        println!("milliseconds of a decision, cold (the next one)\n");
        println!(
            "| profile | machines | layouts | considered | along a path | chances, no notice | at event |"
        );
        println!("|---|---|---|---|---|---|---|");
        for (name, _) in &BUILT_IN[..if smoke { 1 } else { BUILT_IN.len() }] {
            times(&Profile::built_in(name)?, 32);
        }
        for machines in if smoke { &[32][..] } else { &[32, 128, 1024] } {
            times(&synthetic(*machines)?, *machines);
        }
    }
    if word.is_empty() {
        return Ok(());
    }
    println!("\nwhat is lost by considering few layouts of a large table\n");
    println!(
        "| profile | costs x | trace | notice | considered | of | plan value, mean | worst | trained |\n|---|---|---|---|---|---|---|---|---|"
    );
    let whole = read(TRACE, "p3_minutes.csv", &ReadOptions::default())?.availability(60_000)?;
    let minutes = |trace: Availability, from, to| trace.segment(from, if smoke { from + 3 } else { to });
    for timing in [Timing::BeforeDraw, Timing::AfterDraw] {
        let part = |more, times, length: usize| minutes(like(&whole, more, times), 330, 330 + length);
        loss(128, 1.0, "p3 + 96, 120 min", &part(96, 1, 120)?, timing)?;
        if smoke {
            return Ok(());
        }
        loss(128, 1.0, "p3 x 4, 120 min", &part(0, 4, 120)?, timing)?;
        loss(512, 0.1, "p3 + 480, 20 min", &part(480, 1, 20)?, timing)?;
        loss(1024, 0.05, "p3 + 992, 24 min", &part(992, 1, 24)?, timing)?;
    }
    Ok(())
}
