//! Varuna: a loss stops everything, work since the last completed checkpoint is lost, a restart follows. Checkpoints
//! are synchronous, every 10 iterations; a restart is charged its published seconds less those of a checkpoint.
//!
//! The average runs from the first start to the last loss. Free checkpoints cost nothing and come every 2 iterations.

use super::{Constants, Failure, MACHINES, READY_S, whole_steps};

pub(super) fn average(constants: &Constants, failures: &[Failure], checkpoints_cost: bool) -> f64 {
    let (every, checkpoint_s) = if checkpoints_cost { (10.0, constants.checkpoint_s) } else { (2.0, 0.0) };
    let restart_s = |machines| (constants.restart_s(machines) - constants.checkpoint_s).max(0.0);
    let start = READY_S + restart_s(MACHINES);
    let (mut ready, mut iterations) = (start, 0.0);
    for (machines, failure) in (15..=MACHINES).rev().zip(failures) {
        if let Some(step) = constants.iteration_s(machines) {
            iterations += every * whole_steps(failure.at_s - ready, every * step + checkpoint_s);
        }
        ready = failure.at_s + restart_s(machines - 1);
    }
    let seconds = failures[failures.len() - 1].at_s - start;
    if seconds > 0.0 { iterations * constants.global_batch / seconds } else { 0.0 }
}
