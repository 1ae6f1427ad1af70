//! Readers. The form is found out from the first row.
//!
//! | form | a row | what stands for |
//! |---|---|---|
//! | event rows | `ms,add\|remove,machine[,zone]` | one machine comes or goes |
//! | minutes | `minute,count[,added,removed]` | machines at the end of the minute, and what happened in it |
//! | polls | `date,time,count` or `date time,count` | machines at that moment |
//! | JSON series | `{"metadata": {"gap_seconds": 600}, "data": [4, 4, 3]}` or `[4, 4, 3]` | machines every gap |
//!
//! Lines that are empty or start with `#`, and a first line of names, are passed over. Event rows and minutes must be in
//! order; polls may go back in time: they are sorted, of equal times the last one counts, and [`Source::notes`] says so.

mod events;
mod lines;
mod minutes;
mod polls;
mod series;

use super::{Availability, MOST_MACHINES, Trace};
use crate::{Error, Result};
pub(crate) use lines::Lines;
pub(crate) use polls::{days, time_of_day};
use std::io::BufRead;

/// The interval of the forms that have none of their own, milliseconds.
pub const MINUTE_MS: u64 = 60_000;

/// Most milliseconds of an interval: 31 years, so that no product of intervals overflows.
const MOST_INTERVAL_MS: u64 = 1_000_000_000_000;

/// What a reader is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Milliseconds between the numbers of a bare JSON array, and the interval that polls are put into. Default: an
    /// error for the array, a minute for polls.
    pub interval_ms: Option<u64>,
    /// Most machines that can be there; more are an error. Default: [`MOST_MACHINES`].
    pub capacity: Option<u32>,
}

impl ReadOptions {
    fn capacity(&self) -> u32 {
        self.capacity.unwrap_or(MOST_MACHINES).min(MOST_MACHINES)
    }

    /// Refuses more machines than there can be.
    fn check(&self, count: u64) -> std::result::Result<u32, String> {
        let capacity = self.capacity();
        let fits = u32::try_from(count).ok().filter(|count| *count <= capacity);
        fits.ok_or_else(|| format!("{count} machines; at most {capacity} can be there"))
    }
}

/// What a file held: names, or numbers alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Every machine by name.
    Events(Trace),
    /// Numbers only.
    Counts(Availability),
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Which form it was: "event rows", "minutes", "polls" or "JSON series".
    pub form: &'static str,
    /// What it held.
    pub content: Content,
    /// What was put right while reading, in words for the user.
    pub notes: Vec<String>,
}

impl Source {
    /// Cut into intervals of `interval_ms`; see [`Trace::availability`] and [`Availability::resample`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn availability(&self, interval_ms: u64) -> Result<Availability> {
        match &self.content {
            Content::Events(trace) => trace.availability(interval_ms),
            Content::Counts(counts) => counts.resample(interval_ms),
        }
    }
}

/// A form made of rows: takes one after another. Errors are the end of a sentence that begins with file and line.
trait Rows {
    fn row(&mut self, fields: &[&str]) -> std::result::Result<(), String>;
    fn finish(self: Box<Self>) -> std::result::Result<Source, String>;
}

/// Reads a trace of any form. `name` is for messages.
///
/// # Errors
/// [`Error::Data`] with file, line, what was given and what is allowed; [`Error::Usage`] for an interval that cannot be.
pub fn read(reader: impl BufRead, name: &str, options: &ReadOptions) -> Result<Source> {
    if let Some(interval_ms) =
        options.interval_ms.filter(|interval| !(1..=MOST_INTERVAL_MS).contains(interval))
    {
        return Err(Error::usage(format!(
            "an interval of {interval_ms} ms; from 1 to {MOST_INTERVAL_MS} are allowed"
        )));
    }
    let mut lines = Lines::new(reader, name);
    if matches!(lines.first_byte()?, Some(b'{' | b'[')) {
        return series::read(lines.rest()?, options).map_err(|wrong| Error::data(format!("{name}: {wrong}")));
    }
    let Some((mut at, first)) = lines.next()?.map(|(at, line)| (at, line.to_string())) else {
        return Err(Error::data(format!("{name}: no rows; a trace needs at least one")));
    };
    let mut row = first.clone();
    if first.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let Some((number, line)) = lines.next()? else {
            return Err(Error::data(format!("{name}:{at}: no rows after `{}`", shown(&first))));
        };
        (at, row) = (number, line.to_string());
    }
    let wrong = |at: usize, wrong: String| Error::data(format!("{name}:{at}: {wrong}"));
    let mut rows = form_of(&fields(&row), options).ok_or_else(|| wrong(at, unknown(&row)))?;
    rows.row(&fields(&row)).map_err(|text| wrong(at, text))?;
    while let Some((at, line)) = lines.next()? {
        rows.row(&fields(line)).map_err(|text| wrong(at, text))?;
    }
    rows.finish().map_err(|text| Error::data(format!("{name}: {text}")))
}

fn form_of(fields: &[&str], options: &ReadOptions) -> Option<Box<dyn Rows>> {
    let is_number = |field: &&str| {
        let digits = field.strip_prefix('-').unwrap_or(field);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_word = |field: &str| field.starts_with(|c: char| c.is_ascii_alphabetic());
    match fields {
        [_, change, _] | [_, change, _, _] if is_word(change) => {
            Some(Box::new(events::Events::new(*options)))
        }
        [date, ..] if polls::is_date(date) => Some(Box::new(polls::Polls::new(*options))),
        [_, _] | [_, _, _, _] if fields.iter().all(is_number) => {
            Some(Box::new(minutes::Minutes::new(*options)))
        }
        _ => None,
    }
}

fn unknown(row: &str) -> String {
    format!(
        "`{}` is no row of a trace; `ms,add|remove,machine[,zone]`, `minute,count[,added,removed]`, \
         `date,time,count` with the date as 2024-05-31, or a JSON series are",
        shown(row)
    )
}

fn fields(line: &str) -> Vec<&str> {
    line.split(',').map(str::trim).collect()
}

/// The user's text, cut where it is long.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}

/// A whole number, at least 0.
fn whole(field: &str, what: &str) -> std::result::Result<u64, String> {
    field.parse().map_err(|_| format!("{what} `{}`; a whole number, at least 0, is needed", shown(field)))
}
