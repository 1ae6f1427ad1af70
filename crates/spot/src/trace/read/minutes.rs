//! `minute,count[,added,removed]`.

use super::{Content, MINUTE_MS, ReadOptions, Rows, Source, whole};
use crate::Interval;
use crate::trace::{Availability, MOST_INTERVALS};

/// Most that the first minute may be: minutes since 1970 are below it.
const MOST_MINUTE: u64 = 1_000_000_000;

pub(super) struct Minutes {
    options: ReadOptions,
    first: u64,
    intervals: Vec<Interval>,
}

impl Minutes {
    pub(super) fn new(options: ReadOptions) -> Minutes {
        Minutes { options, first: 0, intervals: Vec::new() }
    }

    fn check_minute(&mut self, minute: u64) -> Result<(), String> {
        if self.intervals.is_empty() {
            self.first = minute;
            return if minute <= MOST_MINUTE {
                Ok(())
            } else {
                Err(format!("minute {minute}; at most {MOST_MINUTE}"))
            };
        }
        let wanted = self.first + self.intervals.len() as u64;
        if minute != wanted {
            return Err(format!(
                "minute {minute} comes after minute {}; {wanted} is needed: one row a minute",
                wanted - 1
            ));
        }
        if self.intervals.len() as u64 >= MOST_INTERVALS {
            return Err(format!("more than {MOST_INTERVALS} minutes"));
        }
        Ok(())
    }
}

impl Rows for Minutes {
    fn row(&mut self, fields: &[&str]) -> Result<(), String> {
        let (minute, count, changes) = match fields {
            [minute, count] => (minute, count, None),
            [minute, count, added, removed] => (minute, count, Some((added, removed))),
            _ => return Err(format!("{} columns; minute,count[,added,removed] are needed", fields.len())),
        };
        self.check_minute(whole(minute, "minute")?)?;
        let count = self.options.check(whole(count, "count")?)?;
        let before = self.intervals.last().map(Interval::after);
        let Some((added, removed)) = changes else {
            let before = before.unwrap_or(0);
            let (added, removed) = (count.saturating_sub(before), before.saturating_sub(count));
            self.intervals.push(Interval { before, added, removed });
            return Ok(());
        };
        let (added, removed) =
            (self.options.check(whole(added, "added")?)?, self.options.check(whole(removed, "removed")?)?);
        // The first row says how many were there before it.
        let before = before.map_or(i64::from(count) + i64::from(removed) - i64::from(added), i64::from);
        let after = before + i64::from(added) - i64::from(removed);
        if before < 0 || after != i64::from(count) {
            return Err(format!(
                "count {count}, but {before} before, {added} added and {removed} removed give {after}"
            ));
        }
        self.intervals.push(Interval { before: before as u32, added, removed });
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Source, String> {
        let mut notes = Vec::new();
        if self.first > 0 {
            notes.push(format!("the first minute is {}; it counts as 0", self.first));
        }
        let counts = Availability { interval_ms: MINUTE_MS, intervals: self.intervals };
        Ok(Source { form: "minutes", content: Content::Counts(counts), notes })
    }
}
