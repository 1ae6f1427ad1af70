//! `date,time,count` or `date time,count`: what somebody saw who asked again and again. A number holds until the next.

use super::{Content, MINUTE_MS, ReadOptions, Rows, Source, shown, whole};
use crate::trace::{MOST_INTERVALS, merged};

pub(super) struct Polls {
    options: ReadOptions,
    /// Milliseconds since 1970, machines.
    polls: Vec<(i64, u32)>,
    went_back: usize,
}

impl Polls {
    pub(super) fn new(options: ReadOptions) -> Polls {
        Polls { options, polls: Vec::new(), went_back: 0 }
    }
}

/// True for what begins like 2024-05-31 or 2024/05/31.
pub(super) fn is_date(field: &str) -> bool {
    let bytes = field.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && matches!(bytes[4], b'-' | b'/')
}

/// Days from 1970-01-01, for years 1 to 9999; `None` for a day that is not in the calendar.
pub(crate) fn days(text: &str) -> Option<i64> {
    let mut parts = text.split(['-', '/']).map(|part| part.parse::<u16>().ok().map(i64::from));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let inside = (1..=9999).contains(&year) && (1..=12).contains(&month) && parts.next().is_none();
    if !inside || day < 1 || day > lengths[month as usize - 1] {
        return None;
    }
    let past = year - 1;
    let leaps = past / 4 - past / 100 + past / 400;
    let before: i64 = lengths[..month as usize - 1].iter().sum();
    Some(past * 365 + leaps + before + day - 1 - 719_162)
}

/// Milliseconds of a day from 13:45, 13:45:10 or 13:45:10.250.
pub(crate) fn time_of_day(text: &str) -> Option<i64> {
    let mut parts = text.trim_end_matches('Z').split(':');
    let mut whole =
        |most: u16| parts.next()?.parse::<u16>().ok().filter(|value| *value <= most).map(i64::from);
    let minutes = whole(23)? * 60 + whole(59)?;
    let seconds = match parts.next() {
        None => 0.0,
        Some(text) => text.parse::<f64>().ok().filter(|seconds| (0.0..61.0).contains(seconds))?,
    };
    parts.next().is_none().then_some(minutes * 60_000 + (seconds * 1000.0) as i64)
}

impl Rows for Polls {
    fn row(&mut self, fields: &[&str]) -> Result<(), String> {
        let (date, time, count) = match fields {
            [date, time, count] => (*date, *time, count),
            [both, count] => {
                let (date, time) = both.split_once([' ', 'T']).ok_or("no time of day after the date")?;
                (date, time.trim(), count)
            }
            _ => return Err(format!("{} columns; date,time,count are needed", fields.len())),
        };
        let day =
            days(date).ok_or_else(|| format!("date `{}`; one like 2024-05-31 is needed", shown(date)))?;
        let time = time_of_day(time)
            .ok_or_else(|| format!("time `{}`; one like 13:45 or 13:45:10 is needed", shown(time)))?;
        let count = self.options.check(whole(count, "count")?)?;
        let ms = day * 86_400_000 + time;
        self.went_back += usize::from(self.polls.last().is_some_and(|last| ms < last.0));
        self.polls.push((ms, count));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Source, String> {
        let mut notes = Vec::new();
        let times = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        if self.went_back > 0 {
            self.polls.sort_by_key(|poll| poll.0); // stable: of equal times the last one stays last
            notes.push(format!("the polls go back in time at {}; sorted", times(self.went_back, "row")));
        }
        let read = self.polls.len();
        let mut kept: Vec<(i64, u32)> = Vec::with_capacity(read);
        for poll in self.polls {
            match kept.last_mut() {
                Some(last) if last.0 == poll.0 => *last = poll,
                _ => kept.push(poll),
            }
        }
        if kept.len() < read {
            notes.push(format!(
                "{} at equal times; the last of each counts",
                times(read - kept.len(), "poll")
            ));
        }
        let start = kept.first().map_or(0, |poll| poll.0);
        let end_ms = kept.last().map_or(0, |poll| (poll.0 - start) as u64 + 1);
        let interval_ms = self.options.interval_ms.unwrap_or(MINUTE_MS);
        if end_ms.div_ceil(interval_ms) > MOST_INTERVALS {
            return Err(format!(
                "the polls span {end_ms} ms; at most {MOST_INTERVALS} intervals of {interval_ms} ms"
            ));
        }
        let mut before = 0;
        let changes = kept.iter().map(|(ms, count)| {
            let (gained, lost) = (count.saturating_sub(before), before.saturating_sub(*count));
            before = *count;
            ((ms - start) as u64, u64::from(gained), u64::from(lost))
        });
        let counts = merged(interval_ms, end_ms, 0, changes).map_err(|error| error.to_string())?;
        Ok(Source { form: "polls", content: Content::Counts(counts), notes })
    }
}
