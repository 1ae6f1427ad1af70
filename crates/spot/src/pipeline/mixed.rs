//! Pipelines of different depth side by side, simulated.
//!
//! D pipelines share a batch of M micro-batches; one of depth P works m_P of them, and all those of a depth as many:
//! the split is the one with the shortest iteration, so that speeds decide (sum of pipelines x m_P at least M). Every pipeline
//! is simulated by itself ([`super::schedule`]); a layer's gradients are reduced once every pipeline has computed them:
//!
//! ```text
//! ready(layer) = max over pipelines of the end of the last backward of the stage that holds the layer
//! iteration    = max over machines of  max over its layers of ready + all-reduce of its gradients over D ranks + optimiser
//! ```
//!
//! (2 D ranks for a first stage whose embedding is tied.) With a single depth that is the iteration of [`super::layout()`].

use super::{LayerTable, Part, Settings, Stage, one_forward_one_backward};
use crate::{Layout, Run};
use std::collections::HashMap;
use std::sync::Arc;

/// An iteration of pipelines of one or two depths.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// Milliseconds.
    pub iteration_ms: f64,
    /// Micro-batches of each pipeline, by the runs of the layout.
    pub micro_batches: Vec<u32>,
}

/// A pipeline of some depth: bounds of its stages, and what they hold.
struct Depth {
    cuts: Vec<usize>,
    parts: Vec<Part>,
}

/// Simulates mixed layouts of one model, each pipeline once.
pub struct Fleet<'t> {
    table: &'t LayerTable,
    settings: Settings,
    /// By stages, from 1.
    depths: Vec<Depth>,
    /// By (stages, micro-batches): when each stage ends its last backward pass; none if it does not fit in memory.
    ends: HashMap<(u32, u32), Option<Arc<[f64]>>>,
}

impl<'t> Fleet<'t> {
    /// For pipelines of up to `deepest` stages, at most as many as there are layers.
    pub fn new(table: &'t LayerTable, settings: &Settings, deepest: u32) -> Fleet<'t> {
        let deepest = (deepest as usize).min(table.layers.len());
        let depth = |cuts: Vec<usize>| {
            let parts = cuts.windows(2).map(|ends| Part::of(&table.layers[ends[0]..ends[1]])).collect();
            Depth { cuts, parts }
        };
        let depths = settings.cut.all(&table.weights(), deepest).into_iter().map(depth).collect();
        Fleet { table, settings: *settings, depths, ends: HashMap::new() }
    }

    /// Micro-batches of an iteration.
    pub fn micro_batches(&self) -> u32 {
        self.table.global_batch.div_ceil(self.table.micro_batch.max(1))
    }

    /// The shortest iteration of `layout`; none if it does not fit in memory, is idle, deeper than there are layers, or has more
    /// pipelines than micro-batches. `slower(P)` is a factor on the times of a pipeline of P stages.
    pub fn iteration(&mut self, layout: Layout, slower: impl Fn(u32) -> f64) -> Option<Mixed> {
        let runs: Vec<Run> = layout.runs().collect();
        if runs.iter().any(|run| run.stages as usize > self.depths.len()) {
            return None;
        }
        let all = self.micro_batches();
        let splits = match runs.as_slice() {
            [run] => vec![vec![all.div_ceil(run.pipelines)]],
            [low, high] if layout.all_pipelines() <= all => self.splits(*low, *high, &slower)?,
            _ => return None,
        };
        let mut best: Option<Mixed> = None;
        for micro_batches in splits {
            let iteration_ms = self.time(&runs, &micro_batches, &slower)?;
            if best.as_ref().is_none_or(|best| iteration_ms < best.iteration_ms) {
                best = Some(Mixed { iteration_ms, micro_batches });
            }
        }
        best
    }

    /// The splits on both sides of where the two depths compute as long: the more one works the less the other.
    fn splits(&mut self, low: Run, high: Run, slower: &impl Fn(u32) -> f64) -> Option<Vec<Vec<u32>>> {
        let all = self.micro_batches();
        let other = |each: u32| (all - low.pipelines * each).div_ceil(high.pipelines);
        let mut longest = |run: Run, each: u32| {
            let ends = self.ends(run.stages, each)?;
            Some(ends.iter().copied().fold(0.0, f64::max) * slower(run.stages))
        };
        let (mut from, mut to) = (1, (all - 1) / low.pipelines); // the other depth works at least one
        while from < to {
            let middle = (from + to) / 2;
            if longest(low, middle)? < longest(high, other(middle))? {
                from = middle + 1
            } else {
                to = middle
            }
        }
        Some(
            [from - 1, from]
                .into_iter()
                .filter(|&each| each > 0)
                .map(|each| vec![each, other(each)])
                .collect(),
        )
    }

    fn ends(&mut self, stages: u32, micro_batches: u32) -> Option<Arc<[f64]>> {
        let (table, settings) = (self.table, &self.settings);
        let parts = &self.depths[stages as usize - 1].parts;
        let simulate = || {
            let mut work = Vec::with_capacity(parts.len());
            for (index, part) in parts.iter().enumerate() {
                let need = part.memory(table, settings.recompute, (stages - index as u32).min(micro_batches));
                if need.gib > table.memory_gib {
                    return None;
                }
                let again = if need.recompute { part.forward_ms } else { 0.0 };
                work.push(Stage {
                    forward_ms: part.forward_ms * settings.compute_scale,
                    backward_ms: (part.backward_ms + again) * settings.compute_scale,
                });
            }
            Some(one_forward_one_backward(&work, micro_batches as usize, table.hop_ms()).into())
        };
        self.ends.entry((stages, micro_batches)).or_insert_with(simulate).clone()
    }

    fn time(&mut self, runs: &[Run], micro_batches: &[u32], slower: &impl Fn(u32) -> f64) -> Option<f64> {
        let mut ready = vec![0.0f64; self.table.layers.len()];
        for (run, &each) in runs.iter().zip(micro_batches) {
            let ends = self.ends(run.stages, each)?;
            let cuts = &self.depths[run.stages as usize - 1].cuts;
            for (bounds, end) in cuts.windows(2).zip(ends.iter()) {
                let end = end * slower(run.stages);
                ready[bounds[0]..bounds[1]].iter_mut().for_each(|ready| *ready = ready.max(end));
            }
        }
        let pipelines: u32 = runs.iter().map(|run| run.pipelines).sum();
        let mut longest = 0.0f64;
        for run in runs {
            let depth = &self.depths[run.stages as usize - 1];
            for (index, (bounds, part)) in depth.cuts.windows(2).zip(&depth.parts).enumerate() {
                let tied = index == 0 && self.table.tied_embedding && run.stages > 1;
                let ranks = pipelines * if tied { 2 } else { 1 };
                let after = self.table.all_reduce_ms(part.parameters * 2.0, ranks)
                    + part.optimizer_ms * self.settings.compute_scale;
                let ready = ready[bounds[0]..bounds[1]].iter().copied().fold(0.0, f64::max);
                longest = longest.max(ready + after * slower(run.stages));
            }
        }
        Some(longest)
    }
}

#[cfg(test)]
mod tests;
