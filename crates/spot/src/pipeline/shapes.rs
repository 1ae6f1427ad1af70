//! Layouts that nobody measured, put beside those that somebody did: other numbers of stages, pipelines of two depths.
//!
//! A simulated pipeline is corrected by what the simulation is off for measured ones: a pipeline of P stages in a fleet of D pipelines takes
//!
//! ```text
//! slower(D, P) = measured iteration of DxP / simulated one        where that was measured, else
//!                median of slower(D', .) over the measured P      D' the measured number of pipelines nearest to D
//! ```
//!
//! times as long as simulated. A measured layout so keeps its measured speed, and a mixture lies between those of its depths.

use super::mixed::Fleet;
use super::{LayerTable, MOST_MACHINES, Measured, Settings};
use crate::{Error, Layout, Result};
use std::collections::BTreeMap;

/// A layout that was not measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Pipelines of one or two depths.
    pub layout: Layout,
    /// Samples per second.
    pub samples_per_second: f64,
}

/// All layouts on at most `machines` machines that were not measured and fit in memory, by machines: pipelines of one or two depths, from
/// the shallowest that was measured to as many stages as there are layers.
///
/// # Errors
/// [`Error::Usage`] for a number of machines that cannot be; [`Error::Data`] if no measured layout fits.
pub fn shapes(
    table: &LayerTable,
    settings: &Settings,
    measured: &[Measured],
    machines: u32,
) -> Result<Vec<Shape>> {
    if !(1..=MOST_MACHINES).contains(&machines) {
        return Err(Error::usage(format!("machines {machines}: from 1 to {MOST_MACHINES}")));
    }
    let mut fleet = Fleet::new(table, settings, machines);
    let factors = Factors::new(&mut fleet, measured)?;
    let deepest = machines.min(table.layers.len() as u32);
    let known: Vec<Layout> = measured.iter().map(|row| row.layout).collect();
    let mut found = Vec::new();
    for layout in layouts(factors.shallowest, deepest, machines) {
        if known.contains(&layout) {
            continue;
        }
        let pipelines = layout.all_pipelines();
        if let Some(mixed) = fleet.iteration(layout, |stages| factors.of(pipelines, stages)) {
            let samples_per_second = f64::from(table.global_batch) * 1e3 / mixed.iteration_ms;
            found.push(Shape { layout, samples_per_second });
        }
    }
    found.sort_by_key(|shape| (shape.layout.machines(), shape.layout));
    Ok(found)
}

/// All layouts of one or two depths from `shallowest` to `deepest` on `machines`.
fn layouts(shallowest: u32, deepest: u32, machines: u32) -> Vec<Layout> {
    let mut all = Vec::new();
    for low in shallowest..=deepest {
        for pipelines in 1..=machines / low {
            all.push(Layout::new(pipelines, low));
            let left = machines - pipelines * low;
            for high in low + 1..=deepest.min(left) {
                all.extend((1..=left / high).map(|others| Layout::mixed((pipelines, low), (others, high))));
            }
        }
    }
    all
}

/// What the simulation is off, by pipelines and stages.
struct Factors {
    of: BTreeMap<(u32, u32), f64>,
    /// The median, by pipelines.
    medians: BTreeMap<u32, f64>,
    shallowest: u32,
}

impl Factors {
    fn new(fleet: &mut Fleet<'_>, measured: &[Measured]) -> Result<Factors> {
        let mut of = BTreeMap::new();
        let mut by_pipelines: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for row in measured.iter().filter(|row| !row.layout.is_mixed()) {
            let Some(simulated) = fleet.iteration(row.layout, |_| 1.0) else { continue };
            let factor = row.iteration_ms / simulated.iteration_ms;
            of.insert((row.layout.pipelines, row.layout.stages), factor);
            by_pipelines.entry(row.layout.pipelines).or_default().push(factor);
        }
        let shallowest = of.keys().map(|key| key.1).min();
        let shallowest = shallowest.ok_or_else(|| {
            Error::data(format!("none of {} measured layouts fits in memory", measured.len()))
        })?;
        let median = |mut factors: Vec<f64>| {
            factors.sort_by(f64::total_cmp);
            (factors[(factors.len() - 1) / 2] + factors[factors.len() / 2]) / 2.0
        };
        let medians = by_pipelines.into_iter().map(|(pipelines, factors)| (pipelines, median(factors)));
        Ok(Factors { of, medians: medians.collect(), shallowest })
    }

    fn of(&self, pipelines: u32, stages: u32) -> f64 {
        let nearest = || self.medians.iter().min_by_key(|(at, _)| (at.abs_diff(pipelines), **at));
        let exact = self.of.get(&(pipelines, stages)).copied();
        exact.or_else(|| nearest().map(|(_, factor)| *factor)).unwrap_or(1.0)
    }
}
