//! [`Cluster`]: where the ranks live.

use crate::comm::Comm;
use crate::launch::{hosts::Hosts, processes::Processes};
use crate::link::memory::Hub;
use crate::link::sim::SimConfig;
use crate::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::panic::{AssertUnwindSafe, catch_unwind};

mod sim;

pub use sim::run_sim;

/// Where the ranks live. The code they run is the same.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// Threads of this process.
    Threads(usize),
    /// Threads of this process that take turns, in virtual time.
    Sim(SimConfig),
    /// Processes of this host, over TCP on loopback.
    Processes(Processes),
    /// Processes at known addresses, over TCP.
    Hosts(Hosts),
}

/// What a rank runs when it may have to start in a fresh process: plain data and a body, found by name.
pub trait Job: Serialize + DeserializeOwned + Sync {
    /// Unique among the jobs of a program.
    const NAME: &'static str;
    /// What the body returns.
    type Out: Serialize + DeserializeOwned + Send;
    /// The work of one rank.
    ///
    /// # Errors
    /// What makes the work of this rank fail; ends the run on all ranks.
    fn body(&self, comm: &mut Comm) -> Result<Self::Out>;
}

impl Cluster {
    /// `ranks` processes of this host.
    pub fn processes(ranks: usize) -> Cluster {
        Cluster::Processes(Processes::new(ranks))
    }

    /// The number of ranks.
    pub fn ranks(&self) -> usize {
        match self {
            Cluster::Threads(ranks) => *ranks,
            Cluster::Sim(config) => config.ranks,
            Cluster::Processes(processes) => processes.ranks,
            Cluster::Hosts(hosts) => hosts.addresses.len(),
        }
    }

    /// Runs `body` on every rank and returns what each returned, in rank order. Only for clusters that live
    /// in this process: a closure cannot be sent to another.
    ///
    /// # Errors
    /// The first error of any rank; a panic counts as one.
    pub fn run_closure<T: Send>(&self, body: impl Fn(&mut Comm) -> Result<T> + Sync) -> Result<Vec<T>> {
        match self {
            Cluster::Threads(ranks) => run_threads(*ranks, &body),
            Cluster::Sim(config) => run_sim(config, body).0,
            Cluster::Processes(_) | Cluster::Hosts(_) => Err(Error::Launch(
                "a closure cannot be sent to another process; run a Job there, which is found by its name"
                    .into(),
            )),
        }
    }

    /// Runs `job` on every rank and returns what each returned, in rank order. With [`Cluster::Hosts`] only
    /// rank 0 gets that, and the job is rank 0's; the other processes get an empty list.
    ///
    /// # Errors
    /// The first error of any rank; a panic counts as one.
    pub fn run<J: Job>(&self, job: &J) -> Result<Vec<J::Out>> {
        match self {
            Cluster::Threads(_) | Cluster::Sim(_) => self.run_closure(|comm| job.body(comm)),
            Cluster::Processes(processes) => processes.run(job),
            Cluster::Hosts(hosts) => hosts.run(job),
        }
    }
}

fn run_threads<T: Send>(ranks: usize, body: &(impl Fn(&mut Comm) -> Result<T> + Sync)) -> Result<Vec<T>> {
    let (hub, links) = Hub::links(ranks);
    let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
        let start = |(rank, link)| {
            let hub = hub.clone();
            scope.spawn(move || {
                let mut comm = Comm::new(Box::new(link), rank, ranks);
                let outcome = guarded(|| body(&mut comm).and_then(|out| comm.finish().map(|()| out)));
                if let Err(error) = &outcome {
                    hub.lose(rank, format!("its work failed: {error}"), error.status());
                }
                outcome
            })
        };
        let threads: Vec<_> = links.into_iter().enumerate().map(start).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(Error::Body("it panicked".into()))))
            .collect()
    });
    first_cause(outcomes)
}

/// Runs `body`, turning a panic into an error with its message.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| s.to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        Err(Error::Body(format!("a bug: the rank panicked: {text}")))
    })
}

/// All results, or the error that came first: one that is not itself the report of a loss, if there is any.
pub(crate) fn first_cause<T>(outcomes: Vec<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(outcomes.len());
    let mut errors = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(out) => results.push(out),
            Err(error) => errors.push(error),
        }
    }
    let root = errors.iter().position(|error| !matches!(error, Error::Lost(_))).unwrap_or(0);
    if errors.is_empty() { Ok(results) } else { Err(errors.swap_remove(root)) }
}
