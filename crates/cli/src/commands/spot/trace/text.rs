//! A trace as text: facts, a plot of letters, scores.

use super::{Facts, HORIZONS};
use crate::console::duration;
use dunlin_spot::Interval;
use dunlin_spot::forecast::{FORECASTERS, Score};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Marks of a row of the plot, and most rows.
const WIDTH: usize = 60;
const ROWS: usize = 24;
/// From no machine to the most there are.
const MARKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// All of it.
pub(super) fn table(facts: &Facts) -> String {
    let mut text = String::new();
    for (name, value) in self::facts(facts) {
        let _ = writeln!(text, "{name:<28} {value}"); // writing to a String cannot fail, here and below
    }
    plot(&mut text, &facts.availability.intervals, facts.availability.interval_ms);
    if !facts.scores.is_empty() {
        let _ = writeln!(text, "\n{}", scores_words(facts));
        let rows = scores(facts);
        let head = HEAD.map(String::from).to_vec();
        for row in std::iter::once(&head).chain(&rows) {
            let cells: String = row[1..].iter().map(|cell| format!("{cell:>11}")).collect();
            let _ = writeln!(text, "{:<14}{cells}", row[0]);
        }
    }
    text
}

/// Name and value: the head of the text and of the page.
pub(super) fn facts(facts: &Facts) -> Vec<(String, String)> {
    let s = &facts.statistics;
    let mut rows = vec![
        ("trace", format!("{} ({})", facts.name, facts.form)),
        ("intervals", {
            let seconds = s.interval_ms as f64 / 1000.0;
            format!("{} of {seconds} s: {}", s.intervals, duration(seconds * s.intervals as f64))
        }),
        ("machines, mean over time", format!("{:.2}", s.time_average)),
        ("machines, fewest and most", format!("{} and {}", s.lowest, s.highest)),
        (
            "events",
            format!(
                "{}: {} additions ({} at the start), {} removals",
                s.events, s.additions, s.at_start, s.removals
            ),
        ),
        ("intervals with additions", format!("{}, the first apart", s.addition_intervals)),
        ("intervals with removals", s.removal_intervals.to_string()),
        ("sizes of additions", sizes(&s.addition_sizes)),
        ("sizes of removals", sizes(&s.removal_sizes)),
        ("intervals between removals", gaps(&s.removal_gaps)),
        ("autocorrelation of changes", {
            s.autocorrelation.iter().take(6).map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ")
        }),
    ];
    rows.extend(facts.notes.iter().map(|note| ("note", note.clone())));
    rows.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// "39 of 1, 13 of 2".
fn sizes(sizes: &BTreeMap<u32, u64>) -> String {
    let words: Vec<String> =
        sizes.iter().take(12).map(|(size, times)| format!("{times} of {size}")).collect();
    match (words.is_empty(), sizes.len() > 12) {
        (true, _) => "none".into(),
        (false, false) => words.join(", "),
        (false, true) => format!("{}, ... up to {}", words.join(", "), sizes.keys().last().unwrap_or(&0)),
    }
}

/// Median, mean and longest.
fn gaps(gaps: &BTreeMap<u32, u64>) -> String {
    let all: u64 = gaps.values().sum();
    let Some((longest, _)) = gaps.last_key_value() else { return "fewer than two removals".into() };
    let mut below = 0;
    let median = gaps.iter().find(|(_, times)| {
        below += *times;
        2 * below >= all
    });
    let mean = gaps.iter().map(|(gap, times)| f64::from(*gap) * *times as f64).sum::<f64>() / all as f64;
    format!("median {}, mean {mean:.1}, longest {longest}", median.map_or(0, |(gap, _)| *gap))
}

/// The fewest machines of every few intervals as a mark, some dozen marks a row.
fn plot(text: &mut String, intervals: &[Interval], interval_ms: u64) {
    let each = intervals.len().div_ceil(WIDTH * ROWS).max(1);
    let fewest: Vec<u32> =
        intervals.chunks(each).map(|part| part.iter().map(Interval::after).min().unwrap_or(0)).collect();
    let most = fewest.iter().copied().max().unwrap_or(0).max(1);
    let what = if each == 1 {
        "a mark an interval".into()
    } else {
        format!("a mark for each {each} intervals, their fewest")
    };
    let _ = writeln!(text, "\nmachines over time, █ = {most} ({what})");
    for (row, counts) in fewest.chunks(WIDTH).enumerate() {
        let seconds = (row * WIDTH * each) as f64 * interval_ms as f64 / 1000.0;
        let marks: String = counts.iter().map(|count| mark(*count, most)).collect();
        let (low, high) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
        let _ = writeln!(text, "{:>8}  {marks:<WIDTH$}  {low}..{high}", clock(seconds));
    }
}

/// Nothing for no machine, the lowest mark for the first.
fn mark(count: u32, most: u32) -> char {
    let eighths = (u64::from(count) * 8).div_ceil(u64::from(most));
    MARKS[(eighths as usize).min(8)]
}

/// 10:05 for ten hours and five minutes; with seconds where there are some.
fn clock(seconds: f64) -> String {
    let whole = seconds as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if rest == 0 { format!("{hours}:{minutes:02}") } else { format!("{hours}:{minutes:02}:{rest:02}") }
}

/// Heads of the columns of the scores.
pub(super) const HEAD: [&str; 7] =
    ["forecaster", "error 8", "error 12", "CRPS 12", "in 50 %", "in 90 %", "width 90 %"];

/// What the columns mean.
pub(super) fn scores_words(facts: &Facts) -> String {
    format!(
        "a forecast every {} intervals, {} and {} intervals ahead from as many back: mean absolute error and CRPS in \
         machines; for {} ahead the share that fell into the central 50 % and 90 %, and how wide the latter is",
        facts.stride, HORIZONS[0], HORIZONS[1], HORIZONS[1]
    )
}

/// The cells of the scores, a row for every forecaster.
pub(super) fn scores(facts: &Facts) -> Vec<Vec<String>> {
    let row = |(name, scores): &(&'static str, Vec<Score>)| {
        let [short, long] = &scores[..] else { return vec![name.to_string(); HEAD.len()] };
        let (half, most) = long.mean_coverage();
        let width = long.width_90.iter().sum::<f64>() / long.width_90.len() as f64;
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let mut cells = vec![name.to_string()];
        cells.extend([short.error, long.error, long.mean_crps()].map(|value| format!("{value:.3}")));
        cells.extend([percent(half), percent(most), format!("{width:.2}")]);
        cells
    };
    facts.scores.iter().map(row).collect()
}

/// What the forecasters are.
pub(super) fn forecasters() -> Vec<Vec<String>> {
    FORECASTERS.iter().map(|kind| vec![kind.name.to_string(), kind.summary.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_at_most_so_many_rows_and_shows_the_fewest() {
        for length in [1usize, 60, 61, 1440, 1441, 100_000] {
            let intervals: Vec<Interval> =
                (0..length as u32).map(|at| Interval { before: at % 9, added: 0, removed: 0 }).collect();
            let mut text = String::new();
            plot(&mut text, &intervals, 60_000);
            assert!(text.lines().count() <= ROWS + 2, "{length}: {text}");
        }
        assert_eq!([0, 1, 4, 31, 32].map(|count| mark(count, 32)), [' ', '▁', '▁', '█', '█']);
        assert_eq!((clock(36_300.0), clock(61.0)), ("10:05".into(), "0:01:01".into()));
    }
}
