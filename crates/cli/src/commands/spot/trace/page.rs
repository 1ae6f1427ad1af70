//! A trace as a page.

use super::Facts;
use super::text::{HEAD, facts, forecasters, scores, scores_words};
use crate::commands::show::html::{Curve, Page};
use crate::commands::show::svg;
use crate::commands::show::text::bins;
use std::collections::BTreeMap;

/// Most bins of a histogram.
const BINS: usize = 40;

pub(super) fn page(of: &Facts) -> String {
    let mut page = Page::of_times(&format!("Trace: {}", of.name), "hours", ("h", "interval"));
    let statistics = &of.statistics;
    page.text(
        "soft",
        &format!(
            "{:.2} machines on average, {} to {}",
            statistics.time_average, statistics.lowest, statistics.highest
        ),
    );
    of.notes.iter().for_each(|note| page.text("note", note));
    page.heading("Machines");
    page.chart("machines at the end of every interval", &[machines(of)]);
    page.heading("How they come and go");
    page.grid(true);
    histogram(&mut page, "Removals: how many at once", &statistics.removal_sizes, "machines");
    histogram(
        &mut page,
        "Additions: how many at once, the first interval apart",
        &statistics.addition_sizes,
        "machines",
    );
    histogram(
        &mut page,
        "From one interval with removals to the next",
        &statistics.removal_gaps,
        "intervals",
    );
    page.grid(false);
    if !of.scores.is_empty() {
        page.heading("Forecasts");
        page.text("soft", &scores_words(of));
        page.table(&HEAD, &scores(of));
        page.fold(Some("What the forecasters are"));
        page.table(&[], &forecasters());
        page.fold(None);
    }
    page.heading("The trace");
    let facts = facts(of).into_iter().map(|(name, value)| vec![name, value]);
    page.table(&[], &facts.collect::<Vec<_>>());
    page.finish()
}

fn machines(of: &Facts) -> Curve {
    let hours = of.availability.interval_ms as f64 / 3_600_000.0;
    let points = of.availability.intervals.iter().enumerate();
    let points = points.map(|(at, interval)| (at as f64 * hours, at as f64, f64::from(interval.after())));
    Curve { name: "machines".into(), points: points.collect() }
}

fn histogram(page: &mut Page, title: &str, sizes: &BTreeMap<u32, u64>, x_name: &str) {
    if sizes.is_empty() {
        return;
    }
    let sizes = sizes.iter().map(|(size, times)| (i64::from(*size), *times)).collect();
    page.figure(title, &[], &svg::histogram(&bins(&sizes, BINS), x_name));
}
