//! A run: everything that decides what is computed, checked, and enough to repeat it.

mod again;
mod travel;

pub use travel::parse_bandwidth;

use crate::data::ReadOptions;
use crate::strategy::StrategySpec;
use crate::transfer::Transfer;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;

/// The most epochs: with all blocks as clocks, their number still fits.
const MOST_EPOCHS: usize = 1_000_000_000;

/// A checked run. Written into the run folder as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The model's name.
    pub model: String,
    /// Its settings, complete.
    pub settings: serde_json::Value,
    /// Where the training data come from.
    pub train: String,
    /// Where test data come from, if there are any.
    pub test: Option<String>,
    /// How to read them.
    pub read: ReadOptions,
    /// Number of workers.
    pub workers: usize,
    /// Ranks that are server shards and nothing else; with 0 every worker has a shard.
    pub servers: usize,
    /// Number of lanes: decides, with the data and the seed, what is learned.
    pub lanes: usize,
    /// How updates travel.
    pub strategy: StrategySpec,
    /// Where the ranks live, as the user said it.
    pub cluster: String,
    /// When to stop.
    pub stop: Stop,
    /// Clocks in an epoch; `None` lets the model say.
    pub clocks_per_epoch: Option<usize>,
    /// Epochs from one evaluation to the next.
    pub eval_every: usize,
    /// Seed of all random streams.
    pub seed: u64,
    /// When to write checkpoints.
    pub checkpoint: CheckpointPolicy,
    /// Workers that are made slow on purpose.
    pub slow: Vec<Slow>,
    /// Simulator: computing cost of one sample, in nanoseconds.
    pub compute_ns: f64,
    /// Longest wait, in seconds.
    pub stall_timeout: f64,
    /// Folder of the run, if anything is to be kept.
    pub out: Option<PathBuf>,
    /// True to go on from the newest checkpoint in `out`.
    pub resume: bool,
    /// Under `rotation:async`: where to write the order of visits.
    #[serde(default)]
    pub log_order: Option<PathBuf>,
    /// Under `rotation:async`, on one worker: an order of visits to go through again.
    #[serde(default)]
    pub replay: Option<PathBuf>,
    /// Bytes that a worker may take for data and model; then the data stay on disk. `None`: what it takes.
    #[serde(default)]
    pub memory: Option<u64>,
    /// In how many bits updates travel.
    #[serde(default)]
    pub transfer: Transfer,
    /// Bytes a second that a worker may send to have updates travel early; `None`: at the end of a clock.
    #[serde(default)]
    pub bandwidth: Option<u64>,
    /// Under `rotation`: true if lanes may move from slow workers to fast ones, which changes nothing of what is
    /// learned.
    #[serde(default)]
    pub rehost: bool,
}

/// When a run ends: whatever comes first. The seconds are looked at after each clock, the others where the run is evaluated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// After so many epochs.
    pub epochs: usize,
    /// Once a metric has reached a value.
    pub until: Option<Until>,
    /// After so many seconds of training.
    pub seconds: Option<f64>,
}

/// A metric and the value that ends the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Until {
    /// Name of the metric.
    pub metric: String,
    /// True if the metric must be at most the value, false if at least.
    pub at_most: bool,
    /// The value.
    pub value: f64,
}

impl Until {
    /// True if `value` of the metric ends the run.
    pub fn reached(&self, value: f64) -> bool {
        if self.at_most { value <= self.value } else { value >= self.value }
    }
}

impl FromStr for Until {
    type Err = Error;

    /// `metric<=x` or `metric>=x`.
    fn from_str(text: &str) -> Result<Until> {
        let wrong =
            || Error::Usage(format!("--until {text}: write metric<=x or metric>=x, e.g. test_rmse<=0.93"));
        let (metric, value, at_most) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((metric, value)), None) => (metric, value, true),
            (None, Some((metric, value))) => (metric, value, false),
            _ => return Err(wrong()),
        };
        let value = value.trim().parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(wrong)?;
        let metric = metric.trim().to_string();
        if metric.is_empty() { Err(wrong()) } else { Ok(Until { metric, at_most, value }) }
    }
}

impl Display for Until {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.metric, if self.at_most { "<=" } else { ">=" }, self.value)
    }
}

impl TryFrom<String> for Until {
    type Error = Error;
    fn try_from(text: String) -> Result<Until> {
        text.parse()
    }
}

impl From<Until> for String {
    fn from(until: Until) -> String {
        until.to_string()
    }
}

/// When checkpoints are written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointPolicy {
    /// Every so many epochs, at the first evaluation after they are done; 0 is never.
    pub epochs: usize,
    /// Every so many seconds of training, at the next clock.
    pub seconds: Option<f64>,
}

/// A worker that is slow on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slow {
    /// One worker takes `factor` times as long.
    Rank {
        /// Which worker.
        rank: usize,
        /// How many times as long, at least 1.
        factor: f64,
    },
    /// In each clock every worker stands still with `probability`, for up to `max_ms` milliseconds.
    Random {
        /// From 0 to 1.
        probability: f64,
        /// Milliseconds; the time is uniform up to it.
        max_ms: f64,
    },
    /// In each clock one worker, drawn afresh, takes `factor` times as long.
    Rotating {
        /// How many times as long, at least 1.
        factor: f64,
    },
}

impl FromStr for Slow {
    type Err = Error;

    /// `RANK:FACTOR`, `random:P:MAX_MS`, `rotating:FACTOR`.
    fn from_str(text: &str) -> Result<Slow> {
        let wrong = || {
            Error::Usage(format!(
                "--slow {text}: write RANK:FACTOR, random:PROBABILITY:MAX_MS or rotating:FACTOR, factors from 1 to 1000"
            ))
        };
        let number = |text: &str, least: f64, most: f64| {
            text.parse().ok().filter(|value| (least..=most).contains(value)).ok_or_else(wrong)
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["random", probability, max_ms] => Ok(Slow::Random {
                probability: number(probability, 0.0, 1.0)?,
                max_ms: number(max_ms, 0.0, 60_000.0)?,
            }),
            ["rotating", factor] => Ok(Slow::Rotating { factor: number(factor, 1.0, 1000.0)? }),
            [rank, factor] => {
                let rank = rank.parse().map_err(|_| wrong())?;
                Ok(Slow::Rank { rank, factor: number(factor, 1.0, 1000.0)? })
            }
            _ => Err(wrong()),
        }
    }
}

impl Display for Slow {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Slow::Rank { rank, factor } => write!(f, "{rank}:{factor}"),
            Slow::Random { probability, max_ms } => write!(f, "random:{probability}:{max_ms}"),
            Slow::Rotating { factor } => write!(f, "rotating:{factor}"),
        }
    }
}

impl Slow {
    /// How long `rank` stands still in `clock` besides the `worked` seconds that it took, in seconds.
    pub fn extra_seconds(&self, rank: usize, workers: usize, clock: u64, worked: f64, seed: u64) -> f64 {
        match *self {
            Slow::Rank { rank: slow, factor } if slow == rank => (factor - 1.0) * worked,
            Slow::Rank { .. } => 0.0,
            Slow::Random { probability, max_ms } => {
                let mut rng = crate::rng::stream(seed, "slow", &[clock, rank as u64]);
                if rng.unit() < probability { rng.unit() * max_ms / 1000.0 } else { 0.0 }
            }
            Slow::Rotating { factor } => {
                let drawn = crate::rng::stream(seed, "slow", &[clock]).below(workers);
                if drawn == rank { (factor - 1.0) * worked } else { 0.0 }
            }
        }
    }
}

impl Default for Run {
    /// One worker, one lane, `bsp`, 20 epochs; model and data are still to be named.
    fn default() -> Run {
        Run {
            model: String::new(),
            settings: serde_json::Value::Object(Default::default()),
            train: String::new(),
            test: None,
            read: ReadOptions::default(),
            workers: 1,
            servers: 0,
            lanes: 1,
            strategy: StrategySpec::Bsp,
            cluster: "threads".into(),
            stop: Stop { epochs: 20, until: None, seconds: None },
            clocks_per_epoch: None,
            eval_every: 1,
            seed: 1,
            checkpoint: CheckpointPolicy::default(),
            slow: Vec::new(),
            compute_ns: 1000.0,
            stall_timeout: dunlin_comm::comm::DEFAULT_STALL_TIMEOUT.as_secs_f64(),
            out: None,
            resume: false,
            log_order: None,
            replay: None,
            memory: None,
            transfer: Transfer::default(),
            bandwidth: None,
            rehost: true,
        }
    }
}

impl Run {
    /// True if blocks of rows go round the lanes; one lane has all of them.
    pub fn rotates(&self) -> bool {
        self.strategy.rotates() && self.lanes > 1
    }

    /// True if a worker's memory is limited.
    pub fn is_limited(&self) -> bool {
        self.memory.is_some()
    }

    /// Checks what goes with the strategy, whatever the data are.
    ///
    /// # Errors
    /// [`Error::Usage`] with what was given and what is allowed.
    pub fn check_strategy(&self) -> Result<()> {
        let (servers, lanes, strategy) = (self.servers, self.lanes, &self.strategy);
        let serves = strategy.has_servers();
        if servers > 0 && (lanes == 1 || !serves) {
            return Err(Error::Usage(format!(
                "--servers {servers} with --lanes {lanes} and --strategy {strategy}: there is nothing to serve; servers need two lanes or more and bsp, ssp, essp or asp"
            )));
        }
        self.check_order()?;
        self.check_transfer()?;
        self.check_bandwidth()?;
        if let (Some(clocks), StrategySpec::Scheduled(_)) = (self.clocks_per_epoch, strategy) {
            return Err(Error::Usage(format!(
                "--clocks-per-epoch {clocks} with --strategy {strategy}: an epoch has as many rounds as it takes to update as \
                 many variables as there are; say with want= how many a round has"
            )));
        }
        match self.clocks_per_epoch.filter(|_| self.rotates()) {
            None => Ok(()),
            Some(clocks) if *strategy == StrategySpec::RotationAsync => Err(Error::Usage(format!(
                "--clocks-per-epoch {clocks} with --strategy rotation:async: an epoch has a visit of each row block to each \
                 lane; leave it out"
            ))),
            Some(clocks) => Err(Error::Usage(format!(
                "--clocks-per-epoch {clocks} with --strategy rotation: an epoch has R sub-steps, one for each of the R row \
                 blocks (with --lanes {lanes}, R is {} or, if the tables are large, a multiple of it); leave it out",
                2 * lanes
            ))),
        }
    }

    /// Orders of visits are there to be written or replayed under `rotation:async` only.
    fn check_order(&self) -> Result<()> {
        let wanders = self.rotates() && self.strategy == StrategySpec::RotationAsync;
        let asked = [("--log-order", &self.log_order), ("--replay", &self.replay)];
        for (flag, path) in
            asked.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?.display())))
        {
            if !wanders {
                let (strategy, lanes) = (&self.strategy, self.lanes);
                return Err(Error::Usage(format!(
                    "{flag} {path} with --strategy {strategy} and --lanes {lanes}: the order of visits is always the same; \
                     use it with rotation:async and two lanes or more"
                )));
            }
            if self.resume {
                return Err(Error::Usage(format!(
                    "{flag} {path} with --resume: an order begins where its run began; leave one of them out, or start afresh \
                     in another --out"
                )));
            }
            if flag == "--replay" && self.workers > 1 {
                let (workers, lanes) = (self.workers, self.lanes);
                return Err(Error::Usage(format!(
                    "{flag} {path} with --workers {workers}: one worker goes through the order; use --workers 1 --lanes {lanes}"
                )));
            }
        }
        Ok(())
    }

    /// Checks what the parts say together; `blocks` is what the data were cut into.
    ///
    /// # Errors
    /// [`Error::Usage`] with what was given and what is allowed.
    pub fn check(&self, blocks: usize) -> Result<()> {
        let wrong = |text: String| Err(Error::Usage(text));
        if self.workers == 0 || self.workers > 1000 {
            return wrong(format!("--workers {}: from 1 to 1000", self.workers));
        }
        if self.lanes < self.workers {
            let (lanes, workers) = (self.lanes, self.workers);
            return wrong(format!(
                "--lanes {lanes} for --workers {workers}: every worker needs at least one lane"
            ));
        }
        if self.lanes > blocks {
            let lanes = self.lanes;
            return wrong(format!(
                "--lanes {lanes}: the data have {blocks} blocks, and a lane needs at least one"
            ));
        }
        if self.servers > 1000 {
            return wrong(format!("--servers {}: from 0 to 1000", self.servers));
        }
        self.check_strategy()?;
        let counts = [
            ("--epochs", self.stop.epochs),
            ("--eval-every", self.eval_every),
            ("--checkpoint-epochs", self.checkpoint.epochs),
        ];
        if let Some((flag, count)) = counts.iter().find(|(_, count)| *count > MOST_EPOCHS) {
            return wrong(format!("{flag} {count}: at most {MOST_EPOCHS}"));
        }
        if self.clocks_per_epoch == Some(0) || self.eval_every == 0 {
            return wrong("--clocks-per-epoch and --eval-every: at least 1".into());
        }
        if let Some(slow) =
            self.slow.iter().find(|slow| matches!(slow, Slow::Rank { rank, .. } if *rank >= self.workers))
        {
            return wrong(format!("--slow {slow}: no such worker; there are {}, from 0", self.workers));
        }
        if let Some(clocks) = self.clocks_per_epoch.filter(|clocks| *clocks > blocks / self.lanes) {
            let most = blocks / self.lanes;
            return wrong(format!(
                "--clocks-per-epoch {clocks}: a lane has {most} blocks, and a clock needs one; at most {most}, or more --blocks"
            ));
        }
        if self.out.is_none() && (self.checkpoint.epochs > 0 || self.checkpoint.seconds.is_some()) {
            return wrong(
                "--checkpoint-epochs and --checkpoint-seconds: say with --out where to write them".into(),
            );
        }
        if self.resume && self.out.is_none() {
            return wrong("--resume: say with --out which run folder to go on with".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_and_slow_are_read_or_refused() {
        let until: Until = "test_rmse<=0.93".parse().unwrap();
        assert!(until.reached(0.93) && !until.reached(0.931) && !until.reached(f64::NAN));
        assert!("accuracy>=0.9".parse::<Until>().unwrap().reached(0.95));
        for text in ["rmse<0.9", "<=1", "rmse<=x", "rmse<=nan", "rmse"] {
            assert!(text.parse::<Until>().unwrap_err().to_string().contains("metric<=x"), "{text}");
        }
        assert_eq!("2:4".parse::<Slow>().unwrap(), Slow::Rank { rank: 2, factor: 4.0 });
        assert_eq!("rotating:1".parse::<Slow>().unwrap(), Slow::Rotating { factor: 1.0 });
        for text in ["2", "x:4", "2:0.5", "random:2:5", "rotating:1001", "random:0.1"] {
            assert!(text.parse::<Slow>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rotating_straggler_is_one_worker_a_clock() {
        let slow = Slow::Rotating { factor: 4.0 };
        for clock in 0..100 {
            let extra: Vec<f64> = (0..4).map(|rank| slow.extra_seconds(rank, 4, clock, 1.0, 7)).collect();
            assert_eq!(extra.iter().sum::<f64>(), 3.0, "clock {clock}: {extra:?}");
        }
    }
}
