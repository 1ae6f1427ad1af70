//! A replay as a page: what every policy did over time, and why.

use crate::commands::show::html::{Curve, Page};
use crate::commands::show::svg;
use dunlin_spot::forecast::{Kind, Settings, distributions};
use dunlin_spot::policy::POLICIES;
use dunlin_spot::replay::{Replay, Turn};
use dunlin_spot::trace::Availability;

/// Intervals ahead that the forecasts shown were made.
const AHEAD: usize = 5;
/// Bands need some tens of microseconds a point and the page has room for no more.
const BAND_POINTS: usize = 700;
/// Most rows of a table of decisions.
const ROWS: usize = 2000;
const USES: [&str; 4] = ["useful", "redone", "migrating", "idle"];

/// What the page shows.
pub(super) struct Shown<'a> {
    pub(super) head: [String; 3],
    /// Heads of the summary.
    pub(super) columns: Vec<&'static str>,
    /// The summary, a row a policy.
    pub(super) rows: Vec<Vec<String>>,
    /// What stands below it.
    pub(super) notes: Vec<String>,
    pub(super) trace: &'a Availability,
    pub(super) replays: &'a [Replay],
    /// The fewest machines of any layout.
    pub(super) fewest: u32,
}

impl Shown<'_> {
    fn hours(&self, at: usize) -> f64 {
        at as f64 * self.trace.interval_ms as f64 / 3_600_000.0
    }

    fn curve(&self, name: &str, values: impl Iterator<Item = f64>) -> Curve {
        let points = values.enumerate().map(|(at, value)| (self.hours(at), at as f64, value));
        Curve { name: name.into(), points: points.collect() }
    }

    fn machines(&self) -> Curve {
        self.curve("machines", self.trace.intervals.iter().map(|interval| f64::from(interval.after())))
    }
}

pub(super) fn page(trace: &str, model: &str, shown: &Shown<'_>) -> String {
    let mut page = Page::of_times(&format!("Replay: {model} on {trace}"), "hours", ("h", "interval"));
    shown.head.iter().for_each(|line| page.text("soft", line));
    page.heading("Summary");
    page.table(&shown.columns, &shown.rows);
    shown.notes.iter().for_each(|line| page.text("soft", line));
    hours(&mut page, shown.replays);
    page.heading("Machines and forecasts");
    page.grid(true);
    page.chart("machines at the end of every interval", &[shown.machines()]);
    page.chart(
        &format!("machines, and where 50 % and 90 % were expected {AHEAD} intervals before"),
        &bands(shown),
    );
    for replay in
        shown.replays.iter().filter(|replay| replay.turns.iter().any(|turn| !turn.forecast.is_empty()))
    {
        let title = format!("{}: machines, and what it expected {AHEAD} intervals before", replay.policy);
        page.chart(&title, &[shown.machines(), expected(shown, &replay.turns)]);
    }
    page.grid(false);
    for replay in shown.replays {
        policy(&mut page, shown, replay);
    }
    page.finish()
}

fn hours(page: &mut Page, replays: &[Replay]) {
    let row = |replay: &Replay| {
        let hours = replay.hours;
        (replay.policy.to_string(), vec![hours.useful, hours.redone, hours.migrating, hours.idle])
    };
    let rows: Vec<(String, Vec<f64>)> = replays.iter().map(row).collect();
    page.figure("Machine-hours by use", &USES, &svg::stacked(&rows, &USES, "machine-hours"));
}

/// What the chances of losses and gains said so many intervals before: the ends of the central 50 % and 90 %.
fn bands(shown: &Shown<'_>) -> Vec<Curve> {
    const ENDS: [(&str, f64); 4] = [("5 %", 0.05), ("25 %", 0.25), ("75 %", 0.75), ("95 %", 0.95)];
    let mut curves = vec![shown.machines()];
    let settings = Settings { lowest: shown.fewest, ..Settings::default() };
    let Ok(mut forecaster) = Kind::named("hazard").and_then(|kind| kind.make(&settings)) else {
        return curves;
    };
    let mut ends: [Vec<(f64, f64, f64)>; 4] = Default::default();
    let every = shown.trace.intervals.len().div_ceil(BAND_POINTS).max(1);
    for (at, interval) in shown.trace.intervals.iter().enumerate() {
        forecaster.observe(*interval);
        let then = at + AHEAD;
        if at % every != 0 || then >= shown.trace.intervals.len() {
            continue;
        }
        let outlook = forecaster.outlook(interval.after(), AHEAD);
        let chances = distributions(interval.after(), forecaster.ceiling(), &outlook);
        let Some(chances) = chances.last() else { continue };
        for (end, (_, share)) in ends.iter_mut().zip(ENDS) {
            end.push((shown.hours(then), then as f64, quantile(chances, share)));
        }
    }
    curves.extend(ends.into_iter().zip(ENDS).map(|(points, (name, _))| Curve { name: name.into(), points }));
    curves
}

/// The smallest number that is not exceeded with probability `share`.
fn quantile(chances: &[f64], share: f64) -> f64 {
    let mut below = 0.0;
    let found = chances.iter().position(|chance| {
        below += chance;
        below >= share - 1e-12
    });
    found.unwrap_or(chances.len().saturating_sub(1)) as f64
}

/// What was expected for every interval `AHEAD` intervals before its end. A forecast for the interval at hand is the
/// first of its path.
fn expected(shown: &Shown<'_>, turns: &[Turn]) -> Curve {
    let points = turns.iter().enumerate().filter_map(|(at, turn)| {
        let then = at + AHEAD - 1;
        let value = turn.forecast.get(AHEAD - 1).filter(|_| then < turns.len())?;
        Some((shown.hours(then), then as f64, f64::from(*value)))
    });
    Curve { name: "expected".into(), points: points.collect() }
}

fn policy(page: &mut Page, shown: &Shown<'_>, replay: &Replay) {
    page.heading(replay.policy);
    let about = POLICIES.iter().find(|policy| policy.word == replay.policy).map_or("", |policy| policy.about);
    page.text("soft", about);
    page.grid(true);
    let working = shown.curve("working", replay.turns.iter().map(|turn| f64::from(turn.spent.machines)));
    page.chart("Machines there, and those with a role", &[shown.machines(), working]);
    let seconds = shown.trace.interval_ms as f64 / 1000.0;
    let speed = replay.turns.iter().map(|turn| turn.spent.samples / seconds);
    page.chart("samples/s", &[shown.curve(replay.policy, speed)]);
    let mut sum = 0.0;
    let so_far = replay.turns.iter().map(|turn| {
        sum += turn.spent.samples;
        sum
    });
    page.chart("samples so far", &[shown.curve(replay.policy, so_far)]);
    page.grid(false);
    decisions(page, &replay.turns);
}

/// The intervals in which machines came or went, the layout changed, something was migrated, or a change was considered.
fn decisions(page: &mut Page, turns: &[Turn]) {
    let is_told = |(at, turn): &(usize, &Turn)| {
        let before = at.checked_sub(1).map(|before| turns[before].spent.layout);
        !turn.interval.is_quiet()
            || before != Some(turn.spent.layout)
            || turn.spent.migrating_s > 0.0
            || turn.why.contains(": stays")
    };
    let told: Vec<(usize, &Turn)> = turns.iter().enumerate().filter(is_told).collect();
    let cut = if told.len() > ROWS { format!(" (the first {ROWS})") } else { String::new() };
    page.fold(Some(&format!("{} of {} decisions, and why{cut}", told.len(), turns.len())));
    page.text(
        "soft",
        "Intervals in which machines came or went, something changed, or a change was considered.",
    );
    let rows = told.into_iter().take(ROWS).map(|(at, turn)| {
        let interval = turn.interval;
        let machines = match (interval.added, interval.removed) {
            (0, 0) => interval.after().to_string(),
            (added, 0) => format!("{} (+{added})", interval.after()),
            (0, removed) => format!("{} (-{removed})", interval.after()),
            (added, removed) => format!("{} (+{added} -{removed})", interval.after()),
        };
        let lost = turn.spent.migrating_s + turn.spent.redone_s;
        let lost = if lost > 0.0 { format!("{lost:.1}") } else { String::new() };
        vec![at.to_string(), machines, turn.spent.layout.to_string(), lost, turn.why.clone()]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    page.table(&["interval", "machines", "layout", "s not training", "why"], &rows);
    page.fold(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_chances() {
        let chances = [0.1, 0.2, 0.3, 0.4];
        assert_eq!([0.05, 0.25, 0.6, 0.95].map(|share| quantile(&chances, share)), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
