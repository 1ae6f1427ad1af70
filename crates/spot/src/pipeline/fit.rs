//! The one number that is fitted: how fast the machines are.

use super::{LayerTable, Settings, layout};
use crate::{Error, Layout, Result};
use std::collections::BTreeMap;
use std::io::BufRead;

/// Most rows of a file of measured iterations.
const MOST_ROWS: usize = 1_000_000;

/// A measured iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Pipelines and stages.
    pub layout: Layout,
    /// Milliseconds.
    pub iteration_ms: f64,
}

impl Measured {
    /// The rows of `model` in CSV with the columns `model,global_batch,micro_batch,dp,pp,iter_ms,...`.
    ///
    /// # Errors
    /// [`Error::Data`] with the line number; also if the file has no row of this model.
    pub fn read(input: impl BufRead, name: &str, model: &str) -> Result<Vec<Measured>> {
        let mut rows = Vec::new();
        for (number, line) in input.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            let line = line.map_err(|error| Error::data(format!("{place}: {error}")))?;
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            if number == 0 && fields.first() == Some(&"model")
                || line.trim().is_empty()
                || line.starts_with('#')
            {
                continue;
            }
            if fields.first() == Some(&model) {
                rows.push(Measured::row(&fields).ok_or_else(|| {
                    Error::data(format!(
                        "{place}: {line:?}; wanted is model,global_batch,micro_batch,dp,pp,iter_ms with dp and pp from 1 and a time above 0"
                    ))
                })?);
            }
            if number >= MOST_ROWS {
                return Err(Error::data(format!("{place}: more than {MOST_ROWS} rows")));
            }
        }
        match rows.is_empty() {
            true => Err(Error::data(format!("{name}: no row of model {model}"))),
            false => Ok(rows),
        }
    }

    fn row(fields: &[&str]) -> Option<Measured> {
        let [_, _, _, pipelines, stages, time, ..] = fields else { return None };
        let size = |text: &str| text.parse::<u32>().ok().filter(|size| (1..=65_536).contains(size));
        let layout = Layout::new(size(pipelines)?, size(stages)?);
        let iteration_ms = time.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms > 0.0)?;
        Some(Measured { layout, iteration_ms })
    }
}

/// How well the simulated iterations match measured ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The fitted [`Settings::compute_scale`].
    pub compute_scale: f64,
    /// Median over the layouts of |simulated / measured - 1|.
    pub median_error: f64,
    /// The largest of them.
    pub worst_error: f64,
    /// Spearman's rank correlation of simulated and measured iteration times over all layouts.
    pub rank_correlation: f64,
    /// The same among the layouts of exactly D pipelines, for every D with at least three of them.
    pub by_pipelines: Vec<(u32, f64)>,
    /// For every number of machines: how much slower, as measured, the layout is that the simulation would pick than
    /// the measured best (0 = the same, or as good), layouts with at most that many machines.
    pub regret: Vec<(u32, f64)>,
    /// Measured layouts that the simulation refuses (they count in nothing above).
    pub refused: Vec<Layout>,
}

/// Finds the compute scale with the smallest median error: 5 % steps from 0.02 to 50, then 0.25 % steps about the best.
///
/// # Errors
/// [`Error::Data`] if the simulation refuses every measured layout or none was given; else those of
/// [`layout`](super::layout()).
pub fn fit(table: &LayerTable, settings: &Settings, measured: &[Measured]) -> Result<Fit> {
    let simulate = |compute_scale: f64, rows: &[Measured]| -> Result<Vec<Option<f64>>> {
        let settings = Settings { compute_scale, ..*settings };
        rows.iter().map(|row| Ok(layout(table, &settings, row.layout)?.iteration_ms)).collect()
    };
    let deepest = table.layers.len() as u32;
    let (usable, mut refused): (Vec<Measured>, Vec<Measured>) =
        measured.iter().partition(|row| row.layout.stages <= deepest && !row.layout.is_idle());
    let times = simulate(settings.compute_scale, &usable)?;
    let (fitting, tight): (Vec<_>, Vec<_>) = usable.into_iter().zip(times).partition(|(_, ms)| ms.is_some());
    refused.extend(tight.into_iter().map(|(row, _)| row));
    let rows: Vec<Measured> = fitting.into_iter().map(|(row, _)| row).collect();
    if rows.is_empty() {
        return Err(Error::data(format!("none of {} measured layouts fits in memory", measured.len())));
    }
    let errors = |scale: f64| -> Result<(Vec<f64>, Vec<f64>)> {
        let times: Vec<f64> = simulate(scale, &rows)?.into_iter().flatten().collect();
        let mut errors: Vec<f64> =
            times.iter().zip(&rows).map(|(ms, row)| (ms / row.iteration_ms - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        Ok((times, errors))
    };
    let mut found = (f64::INFINITY, 1.0);
    let mut try_scale = |scale: f64| -> Result<f64> {
        let error = median(&errors(scale)?.1);
        if error < found.0 {
            found = (error, scale);
        }
        Ok(found.1)
    };
    let mut coarse = 1.0;
    for step in 0..=160 {
        coarse = try_scale(0.02 * 1.05f64.powi(step))?;
    }
    for step in -20..=20 {
        try_scale(coarse * 1.0025f64.powi(step))?;
    }
    let (times, errors) = errors(found.1)?;
    Ok(Fit {
        compute_scale: found.1,
        median_error: found.0,
        worst_error: errors[errors.len() - 1],
        rank_correlation: spearman(&times, &rows),
        by_pipelines: by_pipelines(&times, &rows),
        regret: regret(&times, &rows),
        refused: refused.into_iter().map(|row| row.layout).collect(),
    })
}

/// Of a sorted list that is not empty.
fn median(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn spearman(times: &[f64], rows: &[Measured]) -> f64 {
    let measured: Vec<f64> = rows.iter().map(|row| row.iteration_ms).collect();
    let (a, b) = (ranks(times), ranks(&measured));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let products = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let spread = (products(&a, &a) * products(&b, &b)).sqrt();
    if spread == 0.0 { 0.0 } else { products(&a, &b) / spread }
}

/// Ranks from 1; equals share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count() as f64;
        let same = values.iter().filter(|other| *other == value).count() as f64;
        below + (same + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

fn by_pipelines(times: &[f64], rows: &[Measured]) -> Vec<(u32, f64)> {
    let mut groups: BTreeMap<u32, (Vec<f64>, Vec<Measured>)> = BTreeMap::new();
    for (time, row) in times.iter().zip(rows) {
        let group = groups.entry(row.layout.pipelines).or_default();
        group.0.push(*time);
        group.1.push(*row);
    }
    let groups = groups.into_iter().filter(|(_, (times, _))| times.len() >= 3);
    groups.map(|(pipelines, (times, rows))| (pipelines, spearman(&times, &rows))).collect()
}

fn regret(times: &[f64], rows: &[Measured]) -> Vec<(u32, f64)> {
    let most = rows.iter().map(|row| row.layout.machines()).max().unwrap_or(0);
    let at = |machines: u32| {
        let fitting = || times.iter().zip(rows).filter(move |(_, row)| row.layout.machines() <= machines);
        let picked = fitting().min_by(|a, b| a.0.total_cmp(b.0))?.1.iteration_ms;
        let best = fitting().map(|(_, row)| row.iteration_ms).fold(f64::INFINITY, f64::min);
        Some((machines, picked / best - 1.0))
    };
    (1..=most).filter_map(at).collect()
}
