//! Availability of machines over time: a [`Trace`] knows every machine by name, an [`Availability`] only how many there
//! are, interval by interval.
//!
//! [`read`](read::read) parses both from text; [`Statistics`] describes them; [`generate`] makes new ones.

pub mod generate;
pub mod read;
pub mod statistics;
pub mod zones;

pub use read::{Content, ReadOptions, Source, read};
pub use statistics::Statistics;
pub use zones::ByZone;

use crate::{Error, Interval, Result};
use std::collections::BTreeMap;
use std::io::Write;

/// Most intervals that an availability is cut into.
pub const MOST_INTERVALS: u64 = 10_000_000;
/// Most machines at any time.
pub const MOST_MACHINES: u32 = 1_000_000;
/// Most machines that come, or go, in one interval: sums of such numbers and [`MOST_MACHINES`] fit their type.
const MOST_CHANGES: u32 = 1_000_000_000;

/// The number of machines over time, cut into intervals of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// Length of an interval, milliseconds; at least 1.
    pub interval_ms: u64,
    /// What happened in each: `intervals[i].before` is `intervals[i - 1].after()`.
    pub intervals: Vec<Interval>,
}

impl Availability {
    /// Intervals that end with `counts` machines; nobody is there before the first. A change is a gain or a loss, never
    /// both.
    pub fn from_counts(interval_ms: u64, counts: &[u32]) -> Availability {
        let mut before = 0;
        let intervals = counts.iter().map(|after| {
            let (added, removed) = (after.saturating_sub(before), before.saturating_sub(*after));
            let interval = Interval { before, added, removed };
            before = *after;
            interval
        });
        Availability { interval_ms, intervals: intervals.collect() }
    }

    /// The same without the first loss that goes below `fewest` machines, once so many were there; later numbers are as
    /// much higher.
    pub fn without_first_fall_below(&self, fewest: u32) -> Availability {
        let (mut reached, mut kept) = (false, 0);
        let each = self.intervals.iter().map(|interval| {
            let mut interval = Interval { before: interval.before + kept, ..*interval };
            reached |= interval.before >= fewest;
            if reached && kept == 0 && interval.after() < fewest {
                kept = (fewest - interval.after()).min(interval.removed);
                interval.removed -= kept;
            }
            interval
        });
        Availability { interval_ms: self.interval_ms, intervals: each.collect() }
    }

    /// Machines at the end of every interval.
    pub fn counts(&self) -> Vec<u32> {
        self.intervals.iter().map(Interval::after).collect()
    }

    /// Mean number of machines at the ends of the intervals; 0 without intervals.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.intervals.iter().map(|interval| f64::from(interval.after())).sum();
        sum / self.intervals.len().max(1) as f64
    }

    /// Most machines at the end of any interval.
    pub fn highest(&self) -> u32 {
        self.intervals.iter().map(Interval::after).max().unwrap_or(0)
    }

    /// Intervals `from..to` alone; the machines that are there at the beginning stay in `before` of the first.
    ///
    /// # Errors
    /// [`Error::Usage`] if this is no part of the trace, or empty.
    pub fn segment(&self, from: usize, to: usize) -> Result<Availability> {
        match self.intervals.get(from..to) {
            Some(part) if !part.is_empty() => {
                Ok(Availability { interval_ms: self.interval_ms, intervals: part.to_vec() })
            }
            _ => Err(Error::usage(format!(
                "segment {from}..{to}: the trace has intervals 0..{}, and a segment at least one of them",
                self.intervals.len()
            ))),
        }
    }

    /// The same in intervals of another length. What happened in an interval is taken to have happened at its start;
    /// what falls into one new interval is added up. The last new interval may reach beyond the end.
    ///
    /// # Errors
    /// [`Error::Usage`] for an interval of 0, or of more than [`MOST_INTERVALS`] parts.
    pub fn resample(&self, interval_ms: u64) -> Result<Availability> {
        if interval_ms == self.interval_ms {
            return Ok(self.clone());
        }
        let end_ms = self.interval_ms.saturating_mul(self.intervals.len() as u64);
        let before = self.intervals.first().map_or(0, |first| first.before);
        let changes = (0..).zip(&self.intervals).map(|(at, interval)| {
            (self.interval_ms.saturating_mul(at), u64::from(interval.added), u64::from(interval.removed))
        });
        merged(interval_ms, end_ms, before, changes)
    }
}

/// Intervals up to `end_ms` (exclusive) from changes (milliseconds, added, removed) in any order.
fn merged(
    interval_ms: u64,
    end_ms: u64,
    before: u32,
    changes: impl Iterator<Item = (u64, u64, u64)>,
) -> Result<Availability> {
    if interval_ms == 0 {
        return Err(Error::usage("an interval of 0 ms; at least 1 is needed"));
    }
    let length = end_ms.div_ceil(interval_ms);
    if length > MOST_INTERVALS {
        return Err(Error::usage(format!(
            "{length} intervals of {interval_ms} ms in {end_ms} ms; at most {MOST_INTERVALS}: take a longer interval"
        )));
    }
    let mut sums = vec![(0u64, 0u64); length as usize];
    for (ms, added, removed) in changes {
        if let Some(sum) = sums.get_mut((ms / interval_ms) as usize) {
            *sum = (sum.0 + added, sum.1 + removed);
        }
    }
    let fits = |sum: u64| match u32::try_from(sum) {
        Ok(sum) if sum <= MOST_CHANGES => Ok(sum),
        _ => Err(Error::data(format!("{sum} machines come or go in one interval; at most {MOST_CHANGES}"))),
    };
    let mut before = before;
    let intervals = sums.into_iter().map(|(added, removed)| {
        let interval = Interval { before, added: fits(added)?, removed: fits(removed)? };
        before = interval.after();
        Ok(interval)
    });
    Ok(Availability { interval_ms, intervals: intervals.collect::<Result<_>>()? })
}

/// What happens to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It comes.
    Add,
    /// It is taken away.
    Remove,
}

/// One machine comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since the start of the trace.
    pub ms: u64,
    /// Whether it comes or goes.
    pub change: Change,
    /// Its name. A machine that went may come again.
    pub machine: String,
    /// Where it stands, if that is known.
    pub zone: Option<String>,
}

/// Machines that come and go by name: in order of time, none there twice, none going that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    events: Vec<Event>,
    end_ms: u64,
}

impl Trace {
    /// A trace that ends right after its last event, or at `end_ms` (exclusive) if that is later.
    ///
    /// # Errors
    /// [`Error::Data`] if an event cannot be, with its number from 1.
    pub fn new(events: Vec<Event>, end_ms: u64) -> Result<Trace> {
        let mut present = Present::default();
        for (at, event) in events.iter().enumerate() {
            present
                .take(event, MOST_MACHINES)
                .map_err(|wrong| Error::data(format!("event {}: {wrong}", at + 1)))?;
        }
        Ok(Trace::checked(events, end_ms))
    }

    fn checked(events: Vec<Event>, end_ms: u64) -> Trace {
        let last = events.last().map_or(0, |event| event.ms + 1);
        Trace { events, end_ms: end_ms.max(last) }
    }

    /// The events, in order of time.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Where the trace ends, milliseconds, exclusive.
    pub fn end_ms(&self) -> u64 {
        self.end_ms
    }

    /// Cut into intervals: an event at `ms` lies in interval `ms / interval_ms`, and a machine that comes and goes
    /// within one counts in both. The last interval is the one that holds the trace's last millisecond.
    ///
    /// # Errors
    /// [`Error::Usage`] for an interval of 0, or so short that there would be more than [`MOST_INTERVALS`].
    ///
    /// # Examples
    /// ```
    /// use dunlin_spot::trace::{ReadOptions, read};
    /// let rows = "0,add,a\n0,add,b\n61000,remove,a\n";
    /// let trace = read(rows.as_bytes(), "rows", &ReadOptions::default()).unwrap();
    /// assert_eq!(trace.availability(60_000).unwrap().counts(), [2, 1]);
    /// ```
    pub fn availability(&self, interval_ms: u64) -> Result<Availability> {
        let changes = self.events.iter().map(|event| match event.change {
            Change::Add => (event.ms, 1, 0),
            Change::Remove => (event.ms, 0, 1),
        });
        merged(interval_ms, self.end_ms, 0, changes)
    }

    /// What lies in `from_ms..to_ms`, with times from `from_ms`. The machines that are there at `from_ms` come first, at
    /// time 0.
    ///
    /// # Errors
    /// [`Error::Usage`] if this is empty or reaches beyond the end.
    pub fn segment(&self, from_ms: u64, to_ms: u64) -> Result<Trace> {
        if from_ms >= to_ms || from_ms >= self.end_ms {
            return Err(Error::usage(format!(
                "segment {from_ms}..{to_ms} ms: the trace has 0..{} ms, and a segment at least one of them",
                self.end_ms
            )));
        }
        let first = self.events.partition_point(|event| event.ms < from_ms);
        let last = self.events.partition_point(|event| event.ms < to_ms);
        let mut present = BTreeMap::new();
        for (at, event) in self.events[..first].iter().enumerate() {
            match event.change {
                Change::Add => present.insert(&event.machine, at),
                Change::Remove => present.remove(&event.machine),
            };
        }
        let mut there: Vec<usize> = present.into_values().collect();
        there.sort_unstable(); // as they came
        let there = there.into_iter().map(|at| Event { ms: 0, ..self.events[at].clone() });
        let within = self.events[first..last].iter();
        let within = within.map(|event| Event { ms: event.ms - from_ms, ..event.clone() });
        Ok(Trace::checked(there.chain(within).collect(), to_ms.min(self.end_ms) - from_ms))
    }

    /// Mean number of machines from the start to the last event, weighted with time; without time in between, the
    /// number that is there in the end.
    pub fn time_average(&self) -> f64 {
        let (mut weighted, mut count, mut since) = (0.0, 0.0, 0);
        for event in &self.events {
            weighted += count * (event.ms - since) as f64;
            since = event.ms;
            count += if event.change == Change::Add { 1.0 } else { -1.0 };
        }
        if since == 0 { count } else { weighted / since as f64 }
    }

    /// Writes event rows `ms,add|remove,machine[,zone]`, which [`read`](read::read) reads again. The end of a trace is
    /// its last event there.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        for Event { ms, change, machine, zone } in &self.events {
            let change = if *change == Change::Add { "add" } else { "remove" };
            match zone {
                Some(zone) => writeln!(out, "{ms},{change},{machine},{zone}")?,
                None => writeln!(out, "{ms},{change},{machine}")?,
            }
        }
        Ok(())
    }
}

/// Who is there while events are taken in; refuses what cannot be.
#[derive(Debug, Default)]
pub(crate) struct Present {
    machines: std::collections::BTreeSet<String>,
    ms: u64,
}

impl Present {
    pub(crate) fn take(&mut self, event: &Event, capacity: u32) -> std::result::Result<(), String> {
        let Event { ms, change, machine, .. } = event;
        if *ms < self.ms {
            return Err(format!(
                "{ms} ms comes after {} ms; rows must be in order of time (sort them: sort -n -s)",
                self.ms
            ));
        }
        self.ms = *ms;
        match change {
            Change::Add if !self.machines.insert(machine.clone()) => {
                Err(format!("`{machine}` is added, but it is there already; it must be removed before"))
            }
            Change::Add if self.machines.len() > capacity as usize => Err(format!(
                "{} machines with `{machine}`; at most {capacity} can be there",
                self.machines.len()
            )),
            Change::Remove if !self.machines.remove(machine) => {
                Err(format!("`{machine}` is removed, but it is not there; it must be added before"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
