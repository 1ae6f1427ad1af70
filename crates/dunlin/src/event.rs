//! Events: what happens in a run, typed and with units. Console, file and pages are sinks that read nothing
//! else, so that watching a run live is a replay that has not ended.

use crate::run::Run;
use crate::strategy::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The data are read and training starts.
    Started {
        /// What is run.
        run: Box<Run>,
        /// Version of the program.
        version: String,
        /// Level of vector instructions.
        isa: String,
        /// Seconds since 1970.
        unix_seconds: u64,
        /// Clocks in an epoch.
        clocks_per_epoch: usize,
        /// Samples in an epoch.
        samples: usize,
        /// Epochs done before, if the run goes on from a checkpoint.
        resumed_epochs: usize,
        /// And clocks of the epoch after them.
        #[serde(default)]
        resumed_clock: usize,
    },
    /// Training goes on.
    Progress {
        /// Seconds of training so far.
        seconds: f64,
        /// Epochs so far, with fraction.
        epochs: f64,
        /// Samples a second over all workers, since the last event.
        samples_per_second: f64,
    },
    /// The model was evaluated.
    Evaluated {
        /// Seconds of training so far.
        seconds: f64,
        /// Whole epochs so far.
        epochs: usize,
        /// And clocks of the epoch after them: more than 0 only where the run was asked to stop.
        #[serde(default)]
        clock: usize,
        /// Seconds of evaluation so far, no part of `seconds`.
        #[serde(default)]
        evaluation_seconds: f64,
        /// Metrics by name.
        metrics: BTreeMap<String, f64>,
        /// What each worker did so far.
        workers: Vec<WorkerTimes>,
        /// What all workers' strategies measured so far.
        report: Report,
        /// Framed bytes sent over connections so far, all ranks.
        bytes_sent: u64,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// Whole epochs in it.
        epochs: usize,
        /// And clocks of the epoch after them.
        #[serde(default)]
        clock: usize,
        /// Its folder within the run folder.
        folder: String,
        /// Seconds that it took, most of them beside training.
        seconds: f64,
        /// Seconds of these that training was held up.
        #[serde(default)]
        held_seconds: f64,
    },
    /// Lanes have moved to other workers, because some are slower than others.
    Rehosted {
        /// Whole epochs so far.
        epochs: usize,
        /// The worker whose number of lanes has changed most.
        worker: usize,
        /// How many times slower than the fastest it is.
        slower: f64,
        /// How many lanes it had.
        had: usize,
        /// How many lanes there are.
        lanes: usize,
        /// Worker w has the lanes from cut w to cut w + 1 now.
        cuts: Vec<usize>,
        /// Seconds that it took, part of training.
        seconds: f64,
    },
    /// Something that the user should know.
    Warning {
        /// In words.
        text: String,
    },
    /// An error ended the run on rank 0; a run that was killed leaves no such word.
    Failed {
        /// The error, in words.
        text: String,
    },
    /// The run has ended.
    Ended {
        /// Why: as [`Outcome::reason`].
        reason: String,
        /// What came out.
        outcome: Box<Outcome>,
    },
}

/// Where a worker's time went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerTimes {
    /// Seconds of computing.
    pub compute_seconds: f64,
    /// Seconds of waiting for other lanes.
    pub blocked_seconds: f64,
    /// Seconds of taking, packing and sending updates, and of taking in what arrives.
    pub exchange_seconds: f64,
    /// Peak memory of its process, in MB; 0 where the system does not say.
    pub peak_rss_mb: f64,
    /// What it holds of the data in memory at a synchronisation point, in MB.
    #[serde(default)]
    pub data_mb: f64,
    /// What it holds of the model, in MB: row blocks if they go round, else the tables with what their updates are told
    /// from.
    #[serde(default)]
    pub model_mb: f64,
    /// Number of its process, to count every process's memory once.
    pub process: u32,
}

/// What a run has come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended: "epochs" (all are done), "epochs_used_up" (the same, for a model that can tell when it has converged,
    /// and had not; in records of older versions "epochs" as well), "until", "seconds", "converged", "interrupted"; empty on
    /// ranks that do not know.
    pub reason: String,
    /// Whole epochs done.
    pub epochs: usize,
    /// Clocks done of the epoch after them: more than 0 where the run was asked to stop within an epoch.
    #[serde(default)]
    pub clock: usize,
    /// Seconds of initialisation and training; loading and evaluation excluded.
    pub seconds: f64,
    /// Seconds of evaluation.
    #[serde(default)]
    pub evaluation_seconds: f64,
    /// Seconds that workers waited for others, added up.
    pub blocked_seconds: f64,
    /// Last metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// Framed bytes sent over connections, all ranks.
    pub bytes_sent: u64,
    /// Samples worked on a second, over all of `seconds`.
    pub samples_per_second: f64,
    /// Clocks in an epoch.
    pub clocks_per_epoch: usize,
    /// Peak memory, in MB, of all processes together.
    pub peak_rss_mb: f64,
    /// Peak memory, in MB, of each process.
    pub peak_rss_mb_per_process: Vec<f64>,
    /// What all workers' strategies measured.
    pub report: Report,
}

/// [`Outcome::reason`] of a run whose epochs were done before its model had converged.
pub const EPOCHS_USED_UP: &str = "epochs_used_up";

/// An [`Outcome::reason`] as a person would say it.
pub fn reason_in_words(reason: &str) -> &str {
    match reason {
        EPOCHS_USED_UP => "epochs, not converged",
        reason => reason,
    }
}

/// Peak memory of this process in MB; 0 where the system does not say.
pub fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0)
        / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_from_json_and_a_report_from_bytes() {
        let staleness = [("weights".to_string(), [(-1, 2), (3, 4)].into())].into();
        let report = Report { blocked_seconds: 0.5, staleness, update_bytes: [3, 2], ..Report::default() };
        let bytes = postcard::to_stdvec(&report).unwrap();
        assert_eq!(postcard::from_bytes::<Report>(&bytes).unwrap(), report);
        let outcome = Box::new(Outcome { report, ..Outcome::default() });
        let event = Event::Ended { reason: "epochs".into(), outcome };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
    }
}
