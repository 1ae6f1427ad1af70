//! Oobleck: a loss ends the iteration in progress, reconfiguring takes seconds, training goes on with one machine less.
//!
//! An iteration that would end while the pipelines are being reconfigured still counts (so the published numbers count).
//! The average runs from the first reconfiguration to the end of the last iteration.

use super::{Constants, Failure, MACHINES, READY_S, whole_steps};

pub(super) fn average(constants: &Constants, failures: &[Failure]) -> f64 {
    let start = READY_S + constants.restart_s(MACHINES);
    let (mut now, mut last, mut iterations) = (start, start, 0.0);
    let horizon = failures[failures.len() - 1].at_s;
    for (machines, failure) in (15..=MACHINES).rev().zip(failures) {
        let reconfigured = failure.at_s + constants.restart_s(machines - 1);
        if let Some(step) = constants.iteration_s(machines) {
            let steps = whole_steps(reconfigured.min(horizon) - now, step);
            iterations += steps;
            last = if steps > 0.0 { now + steps * step } else { last };
        }
        now = reconfigured;
    }
    if last > start { iterations * constants.global_batch / (last - start) } else { 0.0 }
}
