//! Prices over time, read from rows.

use crate::trace::read::{Lines, days, shown, time_of_day};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::io::BufRead;

/// Beyond this no machine costs, dollars an hour.
const MOST_DOLLARS: f64 = 1e6;
/// Latest time of a row, seconds: 31 years.
const MOST_SECONDS: f64 = 1e9;
/// Most rows of a file.
const MOST_ROWS: usize = 10_000_000;

/// What a machine costs in every zone: a price holds until the next one of its zone, the first also before it.
///
/// # Examples
/// ```
/// use dunlin_spot::market::PriceSeries;
/// let rows = "seconds,zone,dollars_per_hour\n0,a,1.0\n90,a,3.0\n";
/// let series = PriceSeries::read(rows.as_bytes(), "rows").unwrap();
/// assert_eq!(series.mean("a", 60.0, 120.0), Some(2.0)); // half a minute at each
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PriceSeries {
    /// By zone: (seconds, dollars an hour), seconds rising; never empty.
    zones: BTreeMap<String, Vec<(f64, f64)>>,
    notes: Vec<String>,
}

/// Where the columns are.
#[derive(Clone, Copy, Debug)]
struct Columns {
    count: usize,
    time: usize,
    is_date: bool,
    zone: Option<usize>,
    price: usize,
}

/// A row as it was read.
struct Row {
    seconds: f64,
    zone: String,
    dollars: f64,
}

impl PriceSeries {
    /// Reads rows with a line of column names above: `seconds` or `date`, `dollars_per_hour`, and `zone` unless there is but one.
    ///
    /// Seconds are counted from the start of the trace; of dates (`2024-05-31T13:45`, UTC, a blank instead of the T is allowed) the
    /// earliest is that start. Rows may go back in time: they are sorted. Of rows of one zone and time the last one counts. Either is
    /// told by [`PriceSeries::notes`]. Lines that are empty or start with `#` are passed over. `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Data`] with file, line, what was given and what is allowed.
    pub fn read(reader: impl BufRead, name: &str) -> Result<PriceSeries> {
        let mut lines = Lines::new(reader, name);
        lines.first_byte()?;
        let wrong = |at: usize, wrong: String| Error::data(format!("{name}:{at}: {wrong}"));
        let Some((at, head)) = lines.next()? else {
            return Err(Error::data(format!("{name}: no rows; {WANTED}")));
        };
        let columns = columns(head).map_err(|text| wrong(at, text))?;
        let mut rows = Vec::new();
        while let Some((at, line)) = lines.next()? {
            if rows.len() == MOST_ROWS {
                return Err(wrong(at, format!("more than {MOST_ROWS} rows")));
            }
            rows.push(row(line, columns).map_err(|text| wrong(at, text))?);
        }
        if rows.is_empty() {
            return Err(Error::data(format!(
                "{name}: no row after the names of the columns; a price is needed"
            )));
        }
        let series = PriceSeries::sorted(rows, columns.is_date);
        let last = series.zones.values().filter_map(|prices| prices.last()).map(|price| price.0);
        if last.fold(0.0, f64::max) > MOST_SECONDS {
            return Err(Error::data(format!("{name}: the rows span more than {MOST_SECONDS:e} s")));
        }
        Ok(series)
    }

    fn sorted(mut rows: Vec<Row>, from_first: bool) -> PriceSeries {
        let mut notes = Vec::new();
        let times = |count: usize| format!("{count} row{}", if count == 1 { "" } else { "s" });
        let back = rows.windows(2).filter(|pair| pair[1].seconds < pair[0].seconds).count();
        if back > 0 {
            notes.push(format!("the prices go back in time at {}; sorted", times(back)));
            rows.sort_by(|a, b| a.seconds.total_cmp(&b.seconds)); // stable: of equal times the last one stays last
        }
        let start = if from_first { rows.first().map_or(0.0, |row| row.seconds) } else { 0.0 };
        let read = rows.len();
        let mut zones: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for Row { seconds, zone, dollars } in rows {
            let prices = zones.entry(zone).or_default();
            match prices.last_mut().filter(|last| last.0 == seconds - start) {
                Some(last) => last.1 = dollars,
                None => prices.push((seconds - start, dollars)),
            }
        }
        let kept: usize = zones.values().map(Vec::len).sum();
        if kept < read {
            notes.push(format!(
                "{} of a zone and time that another one has; the last counts",
                times(read - kept)
            ));
        }
        PriceSeries { zones, notes }
    }

    /// The zones by name; one without a name if the rows have no zones.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.zones.keys().map(String::as_str)
    }

    /// What was put right while reading, in words for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Dollars an hour in `zone`, averaged over `from_s..to_s` (seconds); none for a zone that has no prices.
    pub fn mean(&self, zone: &str, from_s: f64, to_s: f64) -> Option<f64> {
        let prices = self.zones.get(zone)?;
        let first = prices.partition_point(|price| price.0 <= from_s).saturating_sub(1);
        let mut now = (from_s, prices[first].1);
        let mut sum = 0.0;
        for &(seconds, dollars) in prices[first + 1..].iter().take_while(|price| price.0 < to_s) {
            let seconds = seconds.max(from_s);
            sum += (seconds - now.0) * now.1;
            now = (seconds, dollars);
        }
        if now.0 == from_s {
            return Some(now.1); // one price all the time, to the bit
        }
        Some((sum + (to_s - now.0) * now.1) / (to_s - from_s))
    }
}

/// What a file must look like.
const WANTED: &str = "a line of names, seconds (or date),zone,dollars_per_hour, and rows such as 3600,us-east-1a,0.918 are wanted";

fn columns(head: &str) -> std::result::Result<Columns, String> {
    let names: Vec<String> = head.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    let at = |wanted: &str| names.iter().position(|name| name == wanted);
    let known = ["seconds", "date", "zone", "dollars_per_hour"];
    let odd = names.iter().enumerate().find(|(place, name)| {
        !known.contains(&name.as_str()) || names[..*place].contains(name) // twice
    });
    let time = at("seconds").xor(at("date"));
    match (odd, time, at("dollars_per_hour")) {
        (None, Some(time), Some(price)) => {
            let is_date = at("date").is_some();
            Ok(Columns { count: names.len(), time, is_date, zone: at("zone"), price })
        }
        (Some((_, name)), ..) => Err(format!("column `{}`; {WANTED}", shown(name))),
        _ => Err(format!("`{}`; {WANTED}", shown(head))),
    }
}

fn row(line: &str, columns: Columns) -> std::result::Result<Row, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    if fields.len() != columns.count {
        return Err(format!("{} columns; the line of names has {}", fields.len(), columns.count));
    }
    let time = fields[columns.time];
    let seconds = if columns.is_date {
        date(time).ok_or_else(|| format!("date `{}`; one like 2024-05-31T13:45 is needed", shown(time)))?
    } else {
        let parsed = time.parse::<f64>().ok().filter(|seconds| (0.0..=MOST_SECONDS).contains(seconds));
        parsed.ok_or_else(|| format!("seconds `{}`; 0 to {MOST_SECONDS:e} are allowed", shown(time)))?
    };
    let price = fields[columns.price];
    let dollars = price.parse::<f64>().ok().filter(|dollars| (0.0..=MOST_DOLLARS).contains(dollars));
    let dollars = dollars.ok_or_else(|| {
        format!("dollars_per_hour `{}`; a number from 0 to {MOST_DOLLARS:e} is needed", shown(price))
    })?;
    let zone = columns.zone.map_or("", |zone| fields[zone]);
    if columns.zone.is_some() && zone.is_empty() {
        return Err("the zone has no name; leave the column out if there is one zone alone".into());
    }
    Ok(Row { seconds, zone: zone.into(), dollars })
}

/// Seconds since 1970 of 2024-05-31T13:45:10Z or without the seconds or the Z.
fn date(text: &str) -> Option<f64> {
    let (day, time) = text.split_once([' ', 'T'])?;
    Some((days(day)? * 86_400_000 + time_of_day(time.trim())?) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rows: &str) -> Result<PriceSeries> {
        PriceSeries::read(rows.as_bytes(), "p.csv")
    }

    #[test]
    fn a_price_holds_until_the_next_of_its_zone() {
        let rows = "zone,dollars_per_hour,seconds\n# of two zones\na,1,100\nb,5,0\na,2,160\n\na,4,200\n";
        let series = read(rows).unwrap();
        assert_eq!(series.zones().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(series.notes(), ["the prices go back in time at 1 row; sorted"]);
        for (from, to, wanted) in
            [(0.0, 60.0, 1.0), (100.0, 160.0, 1.0), (130.0, 190.0, 1.5), (180.0, 240.0, 10.0 / 3.0)]
        {
            let mean = series.mean("a", from, to).unwrap();
            assert!((mean - wanted).abs() < 1e-12, "{from}..{to}: {mean}, by hand {wanted}");
        }
        assert_eq!((series.mean("b", 1e6, 2e6), series.mean("c", 0.0, 1.0)), (Some(5.0), None));
    }

    #[test]
    fn dates_count_from_the_earliest_and_of_equal_ones_the_last_counts() {
        let rows = "date,dollars_per_hour\n2024-05-31T12:01:00Z,3\n2024-05-31 12:00,1\n2024-05-31T12:01,2\n";
        let series = read(rows).unwrap();
        assert_eq!(series.mean("", 0.0, 60.0), Some(1.0));
        assert_eq!(series.mean("", 60.0, 120.0), Some(2.0));
        assert_eq!(series.notes().len(), 2);
    }

    #[test]
    fn what_is_no_price_is_refused_with_its_line() {
        let cases = [
            ("", "p.csv: no rows"),
            ("seconds,dollars_per_hour\n", "p.csv: no row after"),
            ("0,a,1\n", "p.csv:1: column `0`"),
            ("seconds,date,dollars_per_hour\n0,0,1\n", "p.csv:1: `seconds,date"),
            ("seconds,zone\n0,a\n", "p.csv:1: `seconds,zone`"),
            ("seconds,seconds,dollars_per_hour\n", "p.csv:1: column `seconds`"),
            ("seconds,dollars_per_hour\n0,1,2\n", "p.csv:2: 3 columns"),
            ("seconds,dollars_per_hour\n0,1\n-1,1\n", "p.csv:3: seconds `-1`"),
            ("seconds,dollars_per_hour\nnan,1\n", "p.csv:2: seconds `nan`"),
            ("seconds,dollars_per_hour\n0,-0.5\n", "p.csv:2: dollars_per_hour `-0.5`"),
            ("seconds,dollars_per_hour\n0,inf\n", "p.csv:2: dollars_per_hour `inf`"),
            ("seconds,zone,dollars_per_hour\n0,,1\n", "p.csv:2: the zone has no name"),
            ("date,dollars_per_hour\n2024-02-30T00:00,1\n", "p.csv:2: date `2024-02-30T00:00`"),
            ("date,dollars_per_hour\n0001-01-01T00:00,1\n9999-01-01T00:00,1\n", "p.csv: the rows span"),
        ];
        for (rows, wanted) in cases {
            let error = read(rows).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{rows:?}: {error}");
        }
        assert!(read("seconds,dollars_per_hour\n0,1\n").is_ok());
        assert!(PriceSeries::read(&b"seconds,dollars_per_hour\n\xff,1\n"[..], "p").is_err());
    }
}
