//! The throughput of every layout of a model, from a table of its layers: `dunlin spot profile`.
//!
//! For D pipelines of P stages the layers are cut into P contiguous stages ([`cut`]), every pipeline works
//! ceil(batch / (micro-batch x D)) micro-batches in the order "one forward, one backward" ([`schedule`]), gradients are
//! all-reduced, the optimiser steps, and the slowest machine says how long an iteration takes:
//!
//! ```text
//! iteration = max over stages s of  end of its last backward
//!                                 + all-reduce of 2 bytes x parameters of s over D ranks (2 D for the first stage
//!                                   where the embedding is tied to the head: bytes / rate x 2 (ranks - 1) / ranks)
//!                                 + optimiser time of s
//! ```
//!
//! One number may be fitted to measured iterations ([`fit()`]): how fast the machines are, a factor on all computing.
//! These are the semantics of the simulator that Parcae ships (NSDI 2024). What it leaves open was settled by
//! comparing with its published profile: a send does not keep the sender busy ([`schedule`]), stages are cut for balance.

pub mod cut;
pub mod fit;
pub mod mixed;
pub mod network;
pub mod schedule;
pub mod shapes;
pub mod table;
#[cfg(test)]
mod tests;

use crate::{Error, Layout, Result};
pub use cut::Cut;
pub use fit::{Fit, Measured, fit};
pub use mixed::{Fleet, Mixed};
pub use network::Network;
use schedule::{Stage, one_forward_one_backward};
pub use shapes::{Shape, shapes};
pub use table::{Layer, LayerTable};

/// Most machines a table may be made for.
pub const MOST_MACHINES: u32 = 1024;
/// Most micro-batches of one pipeline.
const MOST_MICRO_BATCHES: u32 = 16_384;
/// MiB in a GiB.
const MIB: f64 = 1024.0;

/// When a stage drops its activations and computes them again before the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Where the activations of all micro-batches in flight, alone, exceed the memory (the published rule).
    #[default]
    Rule,
    /// Everywhere.
    Always,
    /// Nowhere; a stage that would need it does not fit.
    Never,
}

impl Recompute {
    /// The rule for a word: `rule`, `always`, `never`.
    ///
    /// # Errors
    /// Another word.
    pub fn from_word(word: &str) -> Result<Recompute> {
        match word {
            "rule" => Ok(Recompute::Rule),
            "always" => Ok(Recompute::Always),
            "never" => Ok(Recompute::Never),
            _ => Err(Error::usage(format!("recompute {word}: rule, always or never"))),
        }
    }
}

/// How a table is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How layers become stages.
    pub cut: Cut,
    /// When activations are computed twice.
    pub recompute: Recompute,
    /// Factor on every computing time of the layer table; 1 takes the table as it is, 0.5 means machines twice as fast.
    pub compute_scale: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { cut: Cut::Balanced, recompute: Recompute::Rule, compute_scale: 1.0 }
    }
}

/// One layout of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Pipelines and stages.
    pub layout: Layout,
    /// Milliseconds of one iteration over the global batch; none if the layout does not fit.
    pub iteration_ms: Option<f64>,
    /// Memory of the machine that needs the most, in GiB; with recomputation where the rule says so or only that fits.
    pub memory_gib: f64,
    /// Stages that compute their forward pass twice.
    pub recomputing: u32,
    /// Why the layout does not fit.
    pub refused: Option<String>,
}

impl Entry {
    /// Samples per second: global batch / iteration; 0 where the layout does not fit.
    pub fn samples_per_second(&self, global_batch: u32) -> f64 {
        self.iteration_ms.map_or(0.0, |ms| f64::from(global_batch) * 1e3 / ms)
    }
}

/// All layouts (D, P) with D x P <= `machines`, by D, then P; P goes up to the number of layers.
///
/// # Errors
/// [`Error::Usage`] for a number of machines or a scale that cannot be; [`Error::Data`] for more micro-batches than
/// can be simulated.
pub fn profile(table: &LayerTable, settings: &Settings, machines: u32) -> Result<Vec<Entry>> {
    if !(1..=MOST_MACHINES).contains(&machines) {
        return Err(Error::usage(format!("machines {machines}: from 1 to {MOST_MACHINES}")));
    }
    let deepest = machines.min(u32::try_from(table.layers.len()).unwrap_or(u32::MAX));
    let cuts = settings.cut.all(&table.weights(), deepest as usize);
    let mut entries = Vec::new();
    for pipelines in 1..=machines {
        for stages in 1..=deepest.min(machines / pipelines) {
            let layout = Layout::new(pipelines, stages);
            entries.push(entry(table, settings, layout, &cuts[stages as usize - 1])?);
        }
    }
    Ok(entries)
}

/// One layout.
///
/// # Errors
/// As [`profile`]; also a layout with no machine, or more stages than layers.
pub fn layout(table: &LayerTable, settings: &Settings, layout: Layout) -> Result<Entry> {
    let stages = layout.stages as usize;
    if layout.is_idle() || stages > table.layers.len() {
        return Err(Error::usage(format!(
            "layout {layout}: from 1 to {} stages, at least 1 pipeline",
            table.layers.len()
        )));
    }
    let cuts = settings.cut.all(&table.weights(), stages);
    entry(table, settings, layout, &cuts[stages - 1])
}

/// For every number of machines from 1 to `machines` the fastest entry that fits; none where nothing fits. Of equals
/// the one with fewer machines, then fewer stages.
pub fn best(entries: &[Entry], machines: u32) -> Vec<Option<&Entry>> {
    let fits = |available: u32| {
        let fitting = entries.iter().filter(move |e| e.layout.machines() <= available);
        let timed = fitting.filter_map(|e| e.iteration_ms.map(|ms| (ms, e)));
        timed.min_by(|(a, x), (b, y)| {
            let order = |e: &Entry| (e.layout.machines(), e.layout.stages);
            a.total_cmp(b).then(order(x).cmp(&order(y)))
        })
    };
    (1..=machines).map(|available| fits(available).map(|(_, e)| e)).collect()
}

/// `cuts` are the P + 1 bounds of the stages.
fn entry(table: &LayerTable, settings: &Settings, layout: Layout, cuts: &[usize]) -> Result<Entry> {
    let scale = settings.compute_scale;
    if !(scale.is_finite() && scale > 0.0) {
        return Err(Error::usage(format!("compute scale {scale}: a number above 0")));
    }
    let micro_batches = table.global_batch.div_ceil(table.micro_batch.saturating_mul(layout.pipelines));
    if micro_batches > MOST_MICRO_BATCHES {
        return Err(Error::data(format!(
            "{micro_batches} micro-batches a pipeline (global_batch {}, micro_batch {}, {layout}); at most {MOST_MICRO_BATCHES}",
            table.global_batch, table.micro_batch
        )));
    }
    let parts: Vec<Part> = cuts.windows(2).map(|ends| Part::of(&table.layers[ends[0]..ends[1]])).collect();
    let mut stages = Vec::new();
    let (mut memory_gib, mut recomputing, mut tight) = (0.0f64, 0, None);
    for (index, part) in parts.iter().enumerate() {
        let in_flight = (layout.stages - index as u32).min(micro_batches);
        let need = part.memory(table, settings.recompute, in_flight);
        if need.gib > table.memory_gib && tight.is_none() {
            tight = Some((index, need.gib));
        }
        memory_gib = memory_gib.max(need.gib);
        recomputing += u32::from(need.recompute);
        let again = if need.recompute { part.forward_ms } else { 0.0 };
        stages.push(Stage {
            forward_ms: part.forward_ms * scale,
            backward_ms: (part.backward_ms + again) * scale,
        });
    }
    let refused = tight.map(|(stage, gib)| {
        format!(
            "stage {} of {} needs {gib:.1} GiB, a machine has {}",
            stage + 1,
            layout.stages,
            table.memory_gib
        )
    });
    let iteration_ms = refused.is_none().then(|| {
        let ends = one_forward_one_backward(&stages, micro_batches as usize, table.hop_ms());
        let after = parts.iter().enumerate().map(|(index, part)| {
            let ranks =
                layout.pipelines * if index == 0 && table.tied_embedding && parts.len() > 1 { 2 } else { 1 };
            table.all_reduce_ms(part.parameters * 2.0, ranks) + part.optimizer_ms * scale
        });
        ends.into_iter().zip(after).map(|(end, after)| end + after).fold(0.0, f64::max)
    });
    Ok(Entry { layout, iteration_ms, memory_gib, recomputing, refused })
}

/// What a machine holds: the sums over the layers of its stage.
struct Part {
    layers: u32,
    forward_ms: f64,
    backward_ms: f64,
    optimizer_ms: f64,
    activation_mib: f64,
    largest_mib: f64,
    parameters: f64,
}

/// What a machine needs.
struct Need {
    gib: f64,
    recompute: bool,
}

impl Part {
    fn of(layers: &[Layer]) -> Part {
        let sum = |of: fn(&Layer) -> f64| layers.iter().map(of).sum::<f64>();
        Part {
            layers: layers.len() as u32,
            forward_ms: sum(|layer| layer.forward_ms),
            backward_ms: sum(|layer| layer.backward_ms),
            optimizer_ms: sum(|layer| layer.optimizer_ms),
            activation_mib: sum(|layer| layer.activation_mib),
            largest_mib: layers.iter().map(|layer| layer.activation_mib).fold(0.0, f64::max),
            parameters: sum(|layer| layer.parameters),
        }
    }

    /// State (12 bytes a parameter unless told otherwise) + activations. Kept whole: `in_flight` x activations.
    /// With recomputation the stage is divided into c segments of whole layers; the input of each segment is kept for
    /// every micro-batch in flight and one segment is alive at a time, for the c that needs the least:
    ///
    /// ```text
    /// min over c of  in_flight x c x bytes of a hop  +  activations / c, at least the largest layer's
    /// ```
    fn memory(&self, table: &LayerTable, rule: Recompute, in_flight: u32) -> Need {
        let state = self.parameters * table.bytes_per_parameter / (MIB * MIB * MIB);
        let whole = f64::from(in_flight) * self.activation_mib / MIB;
        let hop = table.hop_bytes() / (MIB * MIB * MIB);
        let segmented = (1..=self.layers).map(|segments| {
            let alive = (self.activation_mib / f64::from(segments)).max(self.largest_mib) / MIB;
            f64::from(in_flight) * f64::from(segments) * hop + alive
        });
        let least = segmented.fold(f64::INFINITY, f64::min);
        let recompute = match rule {
            Recompute::Rule => whole > table.memory_gib,
            Recompute::Always => true,
            Recompute::Never => false,
        };
        let spilled = rule == Recompute::Rule && state + whole > table.memory_gib;
        Need { gib: state + if recompute || spilled { least } else { whole }, recompute }
    }
}
