//! A run as a page.

use super::html::{Curve, Page};
use super::record::{End, Record};
use super::svg;
use super::text::{bins, facts};
use dunlin::strategy::mean_and_variance;

/// Most bins of a histogram.
const BINS: usize = 40;
/// Most rows of the table of evaluations.
const ROWS: usize = 1000;

/// The page of the run called `name`.
pub(crate) fn page(name: &str, record: &Record) -> String {
    let model = record.start.as_ref().map_or("a run", |start| start.run.model.as_str());
    let mut page = Page::new(&format!("{model}: {name}"), record.time_word());
    let (epochs, seconds) = record.so_far();
    page.text(
        "soft",
        &format!("{}; {epochs:.1} epochs in {seconds:.3} {}", record.end_words(), record.time_word()),
    );
    let bad = matches!(record.end, End::Failed(_)).then(|| record.end_words());
    for note in bad.iter().chain(&record.file_notes()).chain(&record.warnings) {
        page.text("note", note);
    }
    curves(&mut page, record);
    page.heading("Where the time went, and how stale reads were");
    page.grid(true);
    times(&mut page, record);
    staleness(&mut page, record);
    page.grid(false);
    page.heading("The run");
    let metrics = record.metrics().into_iter().map(|(name, value)| vec![name, format!("{value:.6}")]);
    let facts = facts(record).into_iter().map(|(name, value)| vec![name, value]);
    page.table(&[], &facts.chain(metrics).collect::<Vec<_>>());
    history(&mut page, record);
    page.finish()
}

/// What a metric measures, without on what: `train_rmse` and `test_rmse` share a drawing.
fn quantity_of(metric: &str) -> &str {
    ["train_", "test_", "heldout_", "dual_"]
        .into_iter()
        .find_map(|prefix| metric.strip_prefix(prefix))
        .unwrap_or(metric)
}

fn curves(page: &mut Page, record: &Record) {
    let names = record.metric_names();
    if names.is_empty() {
        return;
    }
    page.heading("Metrics");
    page.switches();
    page.grid(true);
    let mut groups: Vec<(&str, Vec<&String>)> = Vec::new();
    for name in &names {
        match groups.iter_mut().find(|group| group.0 == quantity_of(name)) {
            Some(group) => group.1.push(name),
            None => groups.push((quantity_of(name), vec![name])),
        }
    }
    groups.sort_by_key(|group| group.0 != "objective"); // what is optimised comes first
    for (title, names) in groups {
        let curves: Vec<Curve> = names.into_iter().map(|name| curve(record, name, name)).collect();
        page.chart(&title.replace('_', " "), &curves);
    }
    page.grid(false);
}

/// The course of `metric` as a curve called `name`.
pub(crate) fn curve(record: &Record, metric: &str, name: &str) -> Curve {
    let points = record.evaluations.iter().filter_map(|evaluation| {
        let value = evaluation.metrics.get(metric)?;
        Some((evaluation.seconds, evaluation.epochs as f64, *value))
    });
    Curve { name: name.into(), points: points.collect() }
}

/// What a worker's time is split into.
pub(crate) const PARTS: [&str; 3] = ["compute", "wait", "exchange"];

fn times(page: &mut Page, record: &Record) {
    if record.workers.is_empty() {
        return;
    }
    let row = |(rank, times): (usize, &dunlin::event::WorkerTimes)| {
        let parts = vec![times.compute_seconds, times.blocked_seconds, times.exchange_seconds];
        (format!("worker {rank}"), parts)
    };
    let rows: Vec<(String, Vec<f64>)> = record.workers.iter().enumerate().map(row).collect();
    let word = record.time_word();
    page.figure(&format!("Time per worker, {word}"), &PARTS, &svg::stacked(&rows, &PARTS, word));
}

fn staleness(page: &mut Page, record: &Record) {
    for (table, histogram) in &record.report.staleness {
        let Some((mean, variance)) = mean_and_variance(histogram) else { continue };
        let title = format!("Staleness of {table}: mean {mean:.3}, variance {variance:.3} clocks");
        page.figure(
            &title,
            &[],
            &svg::histogram(&bins(histogram, BINS), "clocks ahead of the others' updates"),
        );
    }
}

fn history(page: &mut Page, record: &Record) {
    page.heading("Events");
    let numbered = |(at, text): (usize, &String)| vec![(at + 1).to_string(), text.clone()];
    page.table(&[], &record.log.iter().enumerate().map(numbered).collect::<Vec<_>>());
    if record.evaluations.is_empty() {
        return;
    }
    let every = record.evaluations.len().div_ceil(ROWS);
    let thinned = if every > 1 { format!(" (every {every}th)") } else { String::new() };
    page.fold(Some(&format!("{} evaluations{thinned}", record.evaluations.len())));
    let names = record.metric_names();
    let mut head = vec!["epoch", record.time_word()];
    head.extend(names.iter().map(String::as_str));
    let rows = record.evaluations.iter().step_by(every).map(|evaluation| {
        let values =
            names.iter().map(|name| evaluation.metrics.get(name).map_or("".into(), |v| format!("{v:.6}")));
        [evaluation.epochs.to_string(), format!("{:.3}", evaluation.seconds)]
            .into_iter()
            .chain(values)
            .collect()
    });
    page.table(&head, &rows.collect::<Vec<Vec<String>>>());
    page.fold(None);
}
