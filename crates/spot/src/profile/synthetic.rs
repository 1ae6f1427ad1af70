//! A profile of any size, made of a formula.

use super::{File, Profile, for_transformers};
use crate::profile::{Allowed, Costs, Dollars, Layers, MAX_MACHINES, Network};
use crate::{Error, Result};

/// Layers of the model, and parameters of each: 1.5 billion in all.
const LAYERS: (u32, f64) = (48, 31.25e6);
/// Samples of a step and of a pass.
const BATCH: (u32, u32) = (1024, 1);
/// Seconds of one machine for one sample.
const SAMPLE_S: f64 = 0.25;
/// Seconds of each stage's hand-over for a sample.
const HAND_OVER_S: f64 = 0.004;
/// Seconds to sum the gradients of all parameters over many pipelines, if one machine held them all.
const SUM_S: f64 = 9.6;
/// Fewest and most stages.
const STAGES: (u32, u32) = (4, 48);

/// A model of 1.5 billion parameters in 48 layers on up to `machines` machines, with a smooth law for its speed:
/// D pipelines of P stages train B samples in
///
/// ```text
/// t(D, P) = (ceil(B / D) + P - 1) (0.25 / P + 0.004) + 9.6 / P (D - 1) / D   seconds,   B = 1024, 4 <= P <= 48
/// ```
///
/// (every sample through a pipeline, filling and draining it, and the sum of the gradients over pipelines). More pipelines than samples
/// are not in the table. Costs of migration are the default ones, the network has 10 Gb/s.
///
/// # Errors
/// Fewer machines than 4, or more than [`MAX_MACHINES`].
///
/// # Examples
/// ```
/// let profile = dunlin_spot::profile::synthetic(64).unwrap();
/// assert_eq!(profile.fewest_machines(), 4);
/// assert!(profile.best(64).machines() <= 64);
/// ```
pub fn synthetic(machines: u32) -> Result<Profile> {
    if !(STAGES.0..=MAX_MACHINES).contains(&machines) {
        return Err(Error::usage(format!(
            "a synthetic profile of {machines} machines; {} to {MAX_MACHINES} are allowed",
            STAGES.0
        )));
    }
    let pipelines =
        |stages: u32| (1..=(machines / stages).min(BATCH.0)).map(move |pipelines| (pipelines, stages));
    let layouts = (STAGES.0..=STAGES.1).flat_map(pipelines);
    let throughput =
        layouts.map(|(pipelines, stages)| (pipelines, stages, rate(pipelines, stages))).collect();
    let file = File {
        name: format!("synthetic-{machines}"),
        description: "1.5 billion parameters, 48 layers, a smooth law".into(),
        source: "a formula".into(),
        global_batch: BATCH.0,
        micro_batch: BATCH.1,
        dollars_per_hour: Dollars::default(),
        allowed: Allowed::default(),
        costs: Costs::default(),
        bytes_per_parameter: super::adam(),
        cut_points: 0,
        redundancy_overhead: for_transformers(),
        layers: vec![Layers::new(LAYERS.0 as usize, LAYERS.1)],
        network: Network::default(),
        throughput,
        shapes: Default::default(),
    };
    let name = file.name.clone();
    Profile::check(file, &name).map_err(|what| Error::data(format!("profile {name}: {what}")))
}

/// Samples per second.
fn rate(pipelines: u32, stages: u32) -> f64 {
    let passes = f64::from(BATCH.0.div_ceil(pipelines) + stages - 1);
    let deep = f64::from(stages);
    let sum = SUM_S / deep * f64::from(pipelines - 1) / f64::from(pipelines);
    f64::from(BATCH.0) / (passes * (SAMPLE_S / deep + HAND_OVER_S) + sum)
}
