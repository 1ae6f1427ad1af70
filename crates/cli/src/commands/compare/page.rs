//! A comparison as a page: every metric with one curve a strategy.

use super::Comparison;
use crate::commands::show::html::{Curve, Page};
use crate::commands::show::page::{PARTS, curve};
use crate::commands::show::svg;
use std::collections::BTreeSet;

/// The page.
pub(super) fn page(comparison: &Comparison) -> String {
    let mut page = Page::new(&format!("Strategies compared: {}", comparison.title), comparison.time_word);
    page.text("soft", &comparison.words());
    for row in &comparison.rows {
        if let Err(error) = &row.outcome {
            page.text("note", &format!("{}: {error}", row.strategy));
        }
    }
    let head = comparison.head();
    page.table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &comparison.cells());
    page.heading(&comparison.target.metric);
    page.switches();
    chart(&mut page, comparison, &comparison.target.metric);
    let others: BTreeSet<String> = comparison.rows.iter().flat_map(|row| row.record.metric_names()).collect();
    page.heading("Other metrics, and where the time went");
    page.grid(true);
    for metric in others.iter().filter(|metric| **metric != comparison.target.metric) {
        chart(&mut page, comparison, metric);
    }
    times(&mut page, comparison);
    page.grid(false);
    page.finish()
}

fn chart(page: &mut Page, comparison: &Comparison, metric: &str) {
    let curves = comparison.rows.iter().map(|row| curve(&row.record, metric, &row.strategy));
    page.chart(metric, &curves.collect::<Vec<Curve>>());
}

/// Time of all workers together, under each strategy.
fn times(page: &mut Page, comparison: &Comparison) {
    let rows: Vec<(String, Vec<f64>)> = comparison
        .rows
        .iter()
        .map(|row| {
            let sum =
                |part: fn(&dunlin::event::WorkerTimes) -> f64| row.record.workers.iter().map(part).sum();
            let parts = vec![
                sum(|times| times.compute_seconds),
                sum(|times| times.blocked_seconds),
                sum(|times| times.exchange_seconds),
            ];
            (row.strategy.clone(), parts)
        })
        .collect();
    let title = format!("Time of all workers together, {}", comparison.time_word);
    page.figure(&title, &PARTS, &svg::stacked(&rows, &PARTS, comparison.time_word));
}
