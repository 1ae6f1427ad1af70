//! New traces that are like a given one. Every generator is fitted to an [`Availability`] and makes as many new ones as
//! there are seeds; same seed, same trace.
//!
//! | generator | what it keeps of the given trace |
//! |---|---|
//! | [`Poisson`] | how often machines come and how soon they go, one by one |
//! | [`Batched`] | how often some come or go, and how many at once |
//! | [`Diurnal`] | a daily rise and fall, and how fast it is followed |
//! | [`Zones`] | losses of many at once, all in one zone |
//! | [`Bootstrap`] | everything within a stretch of intervals; stretches are put together anew |

mod bootstrap;
mod diurnal;
mod draw;
mod simple;
mod zones;

pub use bootstrap::Bootstrap;
pub use diurnal::Diurnal;
pub(crate) use draw::poisson;
pub use simple::{Batched, Poisson};
pub use zones::Zones;

use super::{Availability, Change, Event, MOST_INTERVALS, Trace};
use crate::{Error, Interval, Result};
use dunlin_rng::stream;

/// Fits to a trace and makes a new one: trace, capacity, intervals, seed.
type Make = fn(&Availability, u32, usize, u64) -> Result<Trace>;

/// A generator by its word.
pub struct Generator {
    /// The word for it on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    make: Make,
}

/// All generators.
pub const GENERATORS: &[Generator] = &[
    Generator {
        name: "poisson",
        summary: "machines come and go one by one, at the trace's rates",
        make: |like, capacity, length, seed| {
            named(&Poisson::fit(like, capacity).generate(length, seed), seed)
        },
    },
    Generator {
        name: "batched",
        summary: "several at once, in batches of the trace's sizes",
        make: |like, capacity, length, seed| {
            named(&Batched::fit(like, capacity).generate(length, seed), seed)
        },
    },
    Generator {
        name: "diurnal",
        summary: "around a level that rises and falls with the day",
        make: |like, capacity, length, seed| {
            named(&Diurnal::fit(like, capacity).generate(length, seed), seed)
        },
    },
    Generator {
        name: "zones",
        summary: "three zones; losses of many at once strike one of them",
        make: |like, capacity, length, seed| Zones::fit(like, capacity, 3).generate(length, seed),
    },
    Generator {
        name: "bootstrap",
        summary: "stretches of the trace itself, put together anew",
        make: |like, capacity, length, seed| {
            named(&Bootstrap::fit(like, capacity).generate(length, seed), seed)
        },
    },
];

impl Generator {
    /// The generator called `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn named(name: &str) -> Result<&'static Generator> {
        let names = || GENERATORS.iter().map(|generator| generator.name).collect::<Vec<_>>().join(", ");
        let found = GENERATORS.iter().find(|generator| generator.name == name);
        found.ok_or_else(|| Error::usage(format!("no generator `{name}`; there are {}", names())))
    }

    /// A new trace of `intervals` intervals, like `like`, with never more than `capacity` machines.
    ///
    /// # Errors
    /// [`Error::Usage`] if `like` is empty, the capacity below its highest number, or the new trace too long.
    pub fn generate(&self, like: &Availability, capacity: u32, intervals: usize, seed: u64) -> Result<Trace> {
        if like.intervals.is_empty() || intervals == 0 {
            return Err(Error::usage("a trace to be like, and a new one, need at least one interval"));
        }
        if capacity < like.highest() {
            return Err(Error::usage(format!(
                "capacity {capacity}; the trace has {} at times",
                like.highest()
            )));
        }
        if intervals as u64 > MOST_INTERVALS {
            return Err(Error::usage(format!("{intervals} intervals; at most {MOST_INTERVALS}")));
        }
        (self.make)(like, capacity, intervals, seed)
    }
}

/// Gives the machines of `numbers` names, `node1`, `node2`, ...: none is used twice, and those that go are drawn from
/// those that are there. Within an interval machines go before others come, all at its start.
///
/// # Errors
/// [`Error::Usage`] if more than [`MOST_INTERVALS`] machines come or go.
pub fn named(numbers: &Availability, seed: u64) -> Result<Trace> {
    let events: u64 = numbers.intervals.iter().map(|i| u64::from(i.added) + u64::from(i.removed)).sum();
    if events > MOST_INTERVALS {
        return Err(Error::usage(format!("{events} events; at most {MOST_INTERVALS} are given names")));
    }
    let mut rng = stream(seed, "trace-names", &[]);
    let mut naming = Naming::default();
    for _ in 0..numbers.intervals.first().map_or(0, |first| first.before) {
        naming.add(0, None);
    }
    for (at, interval) in (0u64..).zip(&numbers.intervals) {
        let ms = numbers.interval_ms.saturating_mul(at);
        let first = interval.removed.min(interval.before);
        for _ in 0..first {
            naming.remove(ms, rng.below(naming.present.len()));
        }
        for _ in 0..interval.added {
            naming.add(ms, None);
        }
        for _ in first..interval.removed.min(interval.before + interval.added) {
            naming.remove(ms, rng.below(naming.present.len()));
        }
    }
    Trace::new(naming.events, numbers.interval_ms.saturating_mul(numbers.intervals.len() as u64))
}

/// Machines with names, as events are made.
#[derive(Default)]
struct Naming {
    events: Vec<Event>,
    present: Vec<(String, Option<String>)>,
    names: u64,
}

impl Naming {
    fn add(&mut self, ms: u64, zone: Option<String>) {
        self.names += 1;
        let machine = format!("node{}", self.names);
        self.events.push(Event { ms, change: Change::Add, machine: machine.clone(), zone: zone.clone() });
        self.present.push((machine, zone));
    }

    /// The one at place `at` of `present` goes; the last one takes its place.
    fn remove(&mut self, ms: u64, at: usize) {
        let (machine, zone) = self.present.swap_remove(at);
        self.events.push(Event { ms, change: Change::Remove, machine, zone });
    }
}

/// What is common to a trace and those made from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Length of an interval, milliseconds.
    pub interval_ms: u64,
    /// Machines at the end of the first interval.
    pub start: u32,
    /// Most machines.
    pub capacity: u32,
}

impl Frame {
    fn of(like: &Availability, capacity: u32) -> Frame {
        let start = like.intervals.first().map_or(0, Interval::after);
        Frame { interval_ms: like.interval_ms, start, capacity: capacity.max(like.highest()) }
    }

    /// Intervals from `change(interval, machines)` -> (added, removed), as far as there are machines and room. The first
    /// interval brings the machines of the start.
    fn walk(&self, length: usize, mut change: impl FnMut(usize, u32) -> (u32, u32)) -> Availability {
        let mut before = 0;
        let intervals = (0..length).map(|at| {
            let (added, removed) = if at == 0 { (self.start, 0) } else { change(at, before) };
            let removed = removed.min(before);
            let added = added.min(self.capacity - (before - removed));
            let interval = Interval { before, added, removed };
            before = interval.after();
            interval
        });
        Availability { interval_ms: self.interval_ms, intervals: intervals.collect() }
    }
}

/// The intervals after the first: that one brings the machines of the start.
fn later(like: &Availability) -> &[Interval] {
    like.intervals.get(1..).unwrap_or_default()
}

/// `part / whole`, or 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
