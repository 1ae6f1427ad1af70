//! The published constants, embedded.

use super::System;
use crate::{Error, Result};

/// What a system and a model are described by.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// Samples of an iteration.
    pub global_batch: f64,
    /// Samples per second at 15, 16, ... 30 machines; 0 where the model does not fit.
    pub samples_per_second: [f64; 16],
    /// Seconds of a restart, a rebalancing or a reconfiguration that leaves 15, 16, ... 30 machines.
    pub restart_s: [f64; 16],
    /// Seconds of a checkpoint.
    pub checkpoint_s: f64,
}

impl Constants {
    /// The models, by the names used here.
    pub const MODELS: [&str; 5] = ["bertLarge", "gpt_2_ours", "gpt_3m", "gpt_3_2_7b", "gpt_3_6_7b"];

    /// The published constants. Bamboo ran out of memory on the models after the second: none.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown model, or one that did not run.
    pub fn published(system: System, model: &str) -> Result<Constants> {
        let name = match system {
            System::Varuna | System::VarunaFreeCheckpoints => "varuna",
            System::Bamboo => "bamboo",
            System::Oobleck => "oobleck",
        };
        let unknown = || {
            let known = Constants::MODELS.join(", ");
            Error::usage(format!("{name} with model {model}: no published constants; models are {known}"))
        };
        let of = |text: &'static str| {
            let rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
            rows.filter(|fields| fields.len() == 5 && fields[0] == name && fields[1] == model)
        };
        let number = |text: &str| text.parse::<f64>().ok();
        let slot = |nodes: &str| nodes.parse::<usize>().ok()?.checked_sub(15).filter(|slot| *slot < 16);
        let mut constants = Constants {
            global_batch: 0.0,
            samples_per_second: [0.0; 16],
            restart_s: [0.0; 16],
            checkpoint_s: 0.0,
        };
        let mut found = 0;
        for row in of(include_str!("../../../data/oobleck/throughput_by_nodes.csv")) {
            if let (Some(batch), Some(slot), Some(speed)) = (number(row[2]), slot(row[3]), number(row[4])) {
                constants.global_batch = batch;
                constants.samples_per_second[slot] = speed;
                found += 1;
            }
        }
        for row in of(include_str!("../../../data/oobleck/costs.csv")) {
            let (Some(restart), Some(checkpoint)) = (number(row[3]), number(row[4])) else { continue };
            match slot(row[2]) {
                Some(slot) => constants.restart_s[slot] = restart,
                None => constants.restart_s = [restart; 16],
            }
            constants.checkpoint_s = checkpoint;
        }
        if found == 16 { Ok(constants) } else { Err(unknown()) }
    }

    /// Seconds of an iteration with so many machines (15 to 30); none where the model does not fit.
    pub(super) fn iteration_s(&self, machines: u32) -> Option<f64> {
        let speed = self.samples_per_second[slot(machines)];
        (speed > 0.0).then(|| self.global_batch / speed)
    }

    pub(super) fn restart_s(&self, machines: u32) -> f64 {
        self.restart_s[slot(machines)]
    }
}

fn slot(machines: u32) -> usize {
    machines.clamp(15, 30) as usize - 15
}
