//! Runs ranks in the simulator.

use super::{first_cause, guarded};
use crate::link::sim::{Hub, Report, SimConfig, SimLink, current_processor, pin_to};
use crate::{Comm, Error, Result, Time};

/// Runs `body` on every rank of a simulated cluster: what each returned, in rank order, and what happened.
///
/// # Errors
/// The error that was first in virtual time; a panic counts as one. [`Error::Launch`] if `config` is out of
/// range or a thread does not start.
///
/// # Examples
/// ```
/// use dunlin_comm::{SimConfig, cluster::run_sim};
/// use std::time::Duration;
/// let (times, report) = run_sim(&SimConfig::new(3, 1), |comm| {
///     comm.compute(Duration::from_secs(comm.rank() as u64));
///     comm.barrier()?;
///     Ok(comm.now().seconds())
/// });
/// assert!(times.unwrap().iter().all(|seconds| (1.9..2.1).contains(seconds)), "all waited for rank 2");
/// assert_eq!(report.frames_delivered, 6);
/// ```
pub fn run_sim<T: Send>(
    config: &SimConfig,
    body: impl Fn(&mut Comm) -> Result<T> + Sync,
) -> (Result<Vec<T>>, Report) {
    let (hub, links) = match Hub::links(config) {
        Ok(parts) => parts,
        Err(error) => return (Err(error), Report::default()),
    };
    let processor = current_processor();
    let run = |(rank, mut link): (usize, SimLink)| {
        pin_to(processor);
        let mut time = Time(0);
        let outcome = guarded(|| {
            link.enter()?;
            let mut comm = Comm::new(Box::new(link), rank, config.ranks);
            let outcome = guarded(|| body(&mut comm).and_then(|out| comm.finish().map(|()| out)));
            time = comm.now();
            outcome
        });
        hub.leave(rank, time, outcome.as_ref().err().map(|error| format!("its work failed: {error}")));
        outcome
    };
    let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
        let start = |(rank, link)| {
            let builder = std::thread::Builder::new().name(format!("rank {rank}"));
            let thread = builder.spawn_scoped(scope, move || run((rank, link)));
            thread.map_err(|error| {
                hub.absent(rank, format!("its thread did not start: {error}"));
                Error::Launch(format!("simulated rank {rank} of {}: no thread: {error}", config.ranks))
            })
        };
        let threads: Vec<_> = links.into_iter().enumerate().map(start).collect();
        hub.start();
        let panicked = |_| Err(Error::Body("it panicked".into()));
        threads.into_iter().map(|thread| thread?.join().unwrap_or_else(panicked)).collect()
    });
    (first_in_time(outcomes, &hub), hub.report())
}

/// All results, or the error of the rank whose loss became known first.
fn first_in_time<T>(mut outcomes: Vec<Result<T>>, hub: &Hub) -> Result<Vec<T>> {
    let Some(lost) = hub.lost() else { return first_cause(outcomes) };
    match outcomes.swap_remove(lost.rank) {
        Err(error) if !matches!(error, Error::Lost(_)) => Err(error),
        _ => Err(Error::Lost(lost)),
    }
}
