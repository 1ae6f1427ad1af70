//! `dunlin train`: from flags, or a run file, to a checked run, and what came out of it.

use crate::cluster::{Details, Place};
use crate::commands::data::{Reading, out};
use crate::console::{note, table};
use crate::interrupt;
use crate::job::{TrainJob, read_source};
use crate::{places, settings};
use dunlin::data::{Kind, ReadOptions};
use dunlin::event::Outcome;
use dunlin::isa::{self, Isa};
use dunlin::memory::parse_bytes;
use dunlin::model::Model;
use dunlin::run::{CheckpointPolicy, Run, Slow, Stop, Until, parse_bandwidth};
use dunlin::strategy::StrategySpec;
use dunlin::transfer::Transfer;
use dunlin::{Error, Result, comm};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  dunlin train mf --train ratings.tsv --test test.tsv --workers 4 --strategy ssp:3
  dunlin train lda --train docword.kos.txt.gz --set topics=100 --epochs 100 --out runs-out/kos
  dunlin train softmax --train a.svm.gz --until 'relative_gap<=1e-4' --cluster processes --workers 2
  dunlin train run.toml --seed 2

A run file is TOML with the names of the flags as keys (model, train, workers, clocks_per_epoch, ...) and model
settings under [set]. Flags win over the file.")]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) flags: TrainFlags,
    /// Print the result as one JSON object on the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing while it runs
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// A run as the user says it: flags and keys of a run file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(allow_negative_numbers = true)]
pub(crate) struct TrainFlags {
    /// The model (see `dunlin models`), or a run file ending in .toml
    pub(crate) model: Option<String>,
    /// Training data: a file (also .gz, .zst), - for standard input, sample:digits, synth:KIND?...
    #[arg(long)]
    pub(crate) train: Option<String>,
    /// Test data, read like the training data
    #[arg(long)]
    pub(crate) test: Option<String>,
    /// Format of the data: svmlight, ratings, docword, idx, csv or mtx [default: found out]
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Feature indices of svmlight start at 0
    #[arg(long)]
    pub(crate) zero_based: bool,
    /// The file of words for docword, or of column names for mtx [default: vocab.NAME.txt beside docword.NAME.txt]
    #[arg(long)]
    pub(crate) vocabulary: Option<PathBuf>,
    /// The label column of CSV, by name or position from 0
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Number of blocks that the data are cut into; a lane needs one for each of its clocks [default: 32 a
    /// lane; ratings in several lanes: 256; under rotation: 8; models that say how many: as they say]
    #[arg(long)]
    pub(crate) blocks: Option<usize>,
    /// Number of workers [default: 1]
    #[arg(long)]
    pub(crate) workers: Option<usize>,
    /// Number of lanes, the parts that the work is cut into [default: the number of workers]
    #[arg(long)]
    pub(crate) lanes: Option<usize>,
    /// Ranks that are server shards and nothing else [default: 0, every worker has a shard]
    #[arg(long)]
    pub(crate) servers: Option<usize>,
    /// How updates travel: bsp, ssp:S, essp:S, asp, allreduce, rotation, rotation:async, scheduled:POLICY (all,
    /// roundrobin, random, priority, dependency, workingset; with ,want=32,theta=0.1); ssp:S,TABLE=S sets single tables
    /// [default: the model's]
    #[arg(long)]
    pub(crate) strategy: Option<String>,
    /// In how many bits updates travel under bsp, ssp, essp and asp: f32, bf16, f16; bf16,TABLE=f32 sets single tables.
    /// What rounding takes away is kept and added to the next update [default: f32]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) transfer: Option<String>,
    /// Under ssp, essp and asp, what a worker may send a second, such as 50MB/s: what is left of it carries the most
    /// important updates before their clock ends [default: all go at the end of the clock]
    #[arg(long, value_name = "SIZE/s")]
    pub(crate) bandwidth: Option<String>,
    /// Where the ranks live: threads, processes, hosts:FILE, sim:WORKERS [default: threads]
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// Passes over the data at most [default: the model's, see `dunlin models NAME`; with --resume those of the run]
    #[arg(long)]
    pub(crate) epochs: Option<usize>,
    /// Stop once a metric has reached a value: METRIC<=X or METRIC>=X
    #[arg(long)]
    pub(crate) until: Option<String>,
    /// Stop after so many seconds of training
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Clocks an epoch [default: from data and lanes; under rotation always one for each row block]
    #[arg(long)]
    pub(crate) clocks_per_epoch: Option<usize>,
    /// Epochs from one evaluation, where all lanes wait for each other, to the next [default: 1; 5 under ssp, essp,
    /// asp and rotation:async]
    #[arg(long)]
    pub(crate) eval_every: Option<usize>,
    /// Seed of all random streams [default: 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Run folder to write: configuration, events, checkpoints, model
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the newest checkpoint in --out; start afresh if there is none
    #[arg(long)]
    pub(crate) resume: bool,
    /// Write a checkpoint every so many epochs
    #[arg(long)]
    pub(crate) checkpoint_epochs: Option<usize>,
    /// Write a checkpoint every so many seconds
    #[arg(long)]
    pub(crate) checkpoint_seconds: Option<f64>,
    /// Under rotation:async, write the order in which row blocks visited lanes
    #[arg(long, value_name = "FILE")]
    pub(crate) log_order: Option<PathBuf>,
    /// Under rotation:async, go through the order that --log-order wrote, on one worker, for the same bits
    #[arg(long, value_name = "FILE")]
    pub(crate) replay: Option<PathBuf>,
    /// Memory that a worker may take for data and model, such as 2GB; the data stay on disk then, in --out or the
    /// folder for temporary files [default: what it takes]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Under rotation, with more lanes than workers: auto moves lanes from slow workers to fast ones where they were
    /// evaluated twice and that shortens an epoch, off leaves them where they are. The model is the same, bit for bit (under
    /// rotation:async one of those that it could be). With --memory nobody gets more lanes than it has room for [default: auto]
    #[arg(long, value_name = "auto|off")]
    pub(crate) rehost: Option<String>,
    /// A model's setting, key=value; may be given often
    #[arg(long, value_name = "KEY=VALUE")]
    #[serde(deserialize_with = "settings::pairs")]
    pub(crate) set: Vec<String>,
    /// Make workers slow: RANK:FACTOR, random:P:MAX_MS, rotating:FACTOR; may be given often
    #[arg(long)]
    pub(crate) slow: Vec<String>,
    /// Simulator: the network, e.g. 1gbit,0.5ms
    #[arg(long)]
    pub(crate) net: Option<String>,
    /// Simulator: who computes slowly, e.g. 0.1:5x
    #[arg(long)]
    pub(crate) stragglers: Option<String>,
    /// Simulator: computing cost of one sample, in nanoseconds [default: 1000]
    #[arg(long)]
    pub(crate) compute_ns: Option<f64>,
    /// Longest wait for another rank, in seconds [default: 120; for hosts to join: 30]
    #[arg(long)]
    pub(crate) stall_timeout: Option<f64>,
    /// Hosts: which line of the host file this process is, from 0 [default: the first address that is local and free]
    #[arg(long)]
    pub(crate) rank: Option<usize>,
    /// Hosts: a word that all processes of the run share
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// Hosts: allow addresses beyond loopback; everything travels in the clear
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Vector instructions at most: portable, avx2, avx512 [default: what the machine has]
    #[arg(long)]
    pub(crate) isa: Option<String>,
}

impl Train {
    pub(crate) fn run(self) -> Result<()> {
        let json = self.json;
        let outcome = self.train()?;
        if outcome.reason.is_empty() {
            note("dunlin: this rank is done; rank 0 has the result");
            return Ok(());
        }
        if json {
            return Ok(());
        }
        out(&table(&outcome).trim_end())
    }

    /// Trains; with --json prints the object. With hosts only rank 0 gets the outcome, the others an empty one.
    pub(crate) fn train(self) -> Result<Outcome> {
        let (json, quiet) = (self.json, self.quiet || self.json);
        let checked = self.flags.check()?;
        let run = &checked.run;
        let outcome = checked.train(quiet)?;
        if json && !outcome.reason.is_empty() {
            out(&object(run, &outcome))?;
        }
        if outcome.reason == "interrupted" {
            let place = run.out.as_ref().map(|out| format!("; go on with --out {} --resume", out.display()));
            let text = format!("interrupted after epoch {}{}", outcome.epochs, place.unwrap_or_default());
            return Err(Error::Interrupted(text));
        }
        Ok(outcome)
    }
}

/// Epochs between evaluations: each holds up lanes that would run ahead.
fn default_eval_every(strategy: &StrategySpec) -> usize {
    if strategy.is_stale() || *strategy == StrategySpec::RotationAsync { 5 } else { 1 }
}

/// That a run is evaluated only once, as the flags say it.
fn rarely(run: &Run) -> String {
    let (every, epochs) = (run.eval_every, run.stop.epochs);
    let until = match &run.stop.until {
        Some(until) => format!("; --until {until} is looked at only then"),
        None => String::new(),
    };
    format!("dunlin: --eval-every {every} is more than --epochs {epochs}: evaluated once, at the end{until}")
}

fn limit_isa(word: Option<&str>) -> Result<()> {
    let Some(word) = word else { return Ok(()) };
    let levels = [Isa::Portable, Isa::Avx2, Isa::Avx512];
    let level = levels.into_iter().find(|level| level.word() == word);
    let level =
        level.ok_or_else(|| Error::Usage(format!("--isa {word}: there is portable, avx2 and avx512")))?;
    isa::limit(level);
    Ok(())
}

/// The object that --json prints.
fn object(run: &Run, outcome: &Outcome) -> serde_json::Value {
    let mut object = serde_json::json!(outcome);
    let about = serde_json::json!({
        "model": run.model,
        "strategy": run.strategy.to_string(),
        "transfer": run.transfer.to_string(),
        "cluster": run.cluster,
        "workers": run.workers,
        "lanes": run.lanes,
        "row_blocks": run.rotates().then_some(outcome.clocks_per_epoch),
        "isa": isa::level().word(),
        "seed": run.seed,
        "settings": run.settings,
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let (Some(object), serde_json::Value::Object(about)) = (object.as_object_mut(), about) {
        object.extend(about);
    }
    object
}

/// Blocks that a lane has by default: enough to be cut into clocks, and few enough to be worth their start.
const BLOCKS_PER_LANE: usize = 32;
/// The same for ratings in several lanes: an item that most users rate asks for many short clocks (some hundred of
/// them where one of 500 items has a sixth of all ratings), and with fewer the summed updates diverge.
const RATINGS_BLOCKS_PER_LANE: usize = 256;

/// The same under `rotation`, which cuts every block into cells.
const ROTATED_BLOCKS_PER_LANE: usize = 8;

fn blocks_per_lane(model: &Model, lanes: usize, strategy: Option<&str>) -> usize {
    if let Some(blocks) = model.blocks_per_lane {
        return blocks;
    }
    match (strategy, model.data) {
        _ if lanes == 1 => BLOCKS_PER_LANE,
        (Some("rotation" | "rotation:async"), _) => ROTATED_BLOCKS_PER_LANE,
        (_, Kind::Ratings) => RATINGS_BLOCKS_PER_LANE,
        _ => BLOCKS_PER_LANE,
    }
}

/// Flags that make sense together.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) run: Run,
    pub(crate) place: Place,
    pub(crate) details: Details,
    isa: Option<String>,
}

impl Checked {
    /// Reads the data and trains.
    ///
    /// # Errors
    /// [`Error::Usage`] if the data do not fit the flags, and the first error of any rank.
    pub(crate) fn train(&self, quiet: bool) -> Result<Outcome> {
        limit_isa(self.isa.as_deref())?;
        interrupt::listen();
        let run = &self.run;
        if let (Some(out), false) = (&run.out, matches!(self.place, Place::Hosts(_))) {
            places::check_folder("--out", out)?;
        }
        let source = match &self.place {
            Place::Hosts(_) => None, // every process reads for itself, and rank 0 says what
            _ => Some(read_source(run)?),
        };
        if let Some(source) = &source {
            run.check(source.blocks())?;
            let is_chosen = run.eval_every != default_eval_every(&run.strategy);
            if !quiet && is_chosen && run.eval_every > run.stop.epochs {
                note(&rarely(run));
            }
        }
        let cluster = self.place.cluster(run.workers + run.servers, &self.details)?;
        Ok(TrainJob::run(run, &cluster, source, quiet)?.unwrap_or_default())
    }
}

impl TrainFlags {
    /// Those of them that say how data are read. A run file has them among its other keys, so that an unknown one is
    /// found with its line; hence they are fields here too.
    fn reading(&self, lanes: usize, model: &Model) -> Reading {
        let blocks = blocks_per_lane(model, lanes, self.strategy.as_deref());
        Reading {
            format: self.format.clone(),
            zero_based: self.zero_based,
            vocabulary: self.vocabulary.clone(),
            label: self.label.clone(),
            blocks: self.blocks.or(Some(lanes.saturating_mul(blocks).clamp(1, 1_000_000))),
        }
    }

    /// Merges the run file, if there is one, and checks everything.
    ///
    /// # Errors
    /// [`Error::Usage`] with the flag or key, what was given and what is allowed.
    pub(crate) fn check(self) -> Result<Checked> {
        let flags = match self.model.as_deref().filter(|model| model.ends_with(".toml")) {
            Some(path) => settings::read(path)?.under(&self),
            None => self,
        };
        let missing =
            |what: &str| Error::Usage(format!("{what} is missing; dunlin train --help shows examples"));
        let model = dunlin_models::find(flags.model.as_deref().ok_or_else(|| missing("the model"))?)?;
        let train = flags.train.clone().ok_or_else(|| missing("--train"))?;
        settings::refuse_empty(&flags)?;
        let cluster = flags.cluster.clone().unwrap_or_else(|| "threads".into());
        let place = Place::parse(&cluster)?;
        settings::refuse_irrelevant(&flags, &place, &cluster, model.data)?;
        let servers = flags.servers.unwrap_or(0);
        let workers = match (place.workers(servers)?, flags.workers) {
            (Some(implied), Some(given)) if implied != given => {
                return Err(Error::Usage(format!(
                    "--workers {given}, but --cluster {cluster} has {implied}"
                )));
            }
            (implied, given) => implied.or(given).unwrap_or(1),
        };
        let ranks = workers.saturating_add(servers);
        if let Some(rank) = flags.rank.filter(|rank| *rank >= ranks) {
            return Err(Error::Usage(format!("--rank {rank}: {cluster} has {ranks} lines, counted from 0")));
        }
        if (train == "-" || flags.test.as_deref() == Some("-"))
            && !matches!(place, Place::Threads | Place::Sim(_))
        {
            let text = format!("- (standard input) can be read by one process, not by --cluster {cluster}");
            return Err(Error::Usage(text));
        }
        let strategy: StrategySpec = match &flags.strategy {
            Some(strategy) => strategy.parse()?,
            None => model.strategies.first().map_or("bsp", |kind| kind.word()).parse()?,
        };
        model.check_strategy(strategy.kind())?;
        if let Some(servers) = flags.servers.filter(|_| !strategy.has_servers()) {
            return Err(Error::Usage(format!(
                "--servers {servers} with --strategy {strategy}: there is nothing to serve; servers need bsp, ssp, essp or asp"
            )));
        }
        let lanes = flags.lanes.unwrap_or(workers);
        let seed = flags.seed.unwrap_or(1);
        let settings = model.settings(settings::split(&flags.set)?)?;
        let read = model.reading(&settings, flags.reading(lanes, model).options()?)?;
        let run = Run {
            model: model.name.into(),
            settings,
            train,
            test: flags.test.clone(),
            read: ReadOptions { kind: Some(model.data), ..read },
            workers,
            servers,
            lanes,
            cluster,
            stop: Stop {
                epochs: flags.epochs.or_else(|| resumed_epochs(&flags)).unwrap_or(model.epochs),
                until: flags.until.as_deref().map(str::parse::<Until>).transpose()?,
                seconds: positive("--seconds", flags.seconds)?,
            },
            clocks_per_epoch: flags.clocks_per_epoch,
            eval_every: flags.eval_every.unwrap_or(default_eval_every(&strategy)),
            strategy,
            seed,
            checkpoint: CheckpointPolicy {
                epochs: flags.checkpoint_epochs.unwrap_or(0),
                seconds: positive("--checkpoint-seconds", flags.checkpoint_seconds)?,
            },
            slow: flags.slow.iter().map(|text| text.parse::<Slow>()).collect::<Result<_>>()?,
            compute_ns: positive("--compute-ns", flags.compute_ns)?.unwrap_or(1000.0),
            stall_timeout: positive("--stall-timeout", flags.stall_timeout)?
                .unwrap_or(comm::comm::DEFAULT_STALL_TIMEOUT.as_secs_f64()),
            out: flags.out.clone(),
            resume: flags.resume,
            log_order: flags.log_order.clone(),
            replay: flags.replay.clone(),
            transfer: flags.transfer.as_deref().map_or(Ok(Transfer::default()), str::parse)?,
            bandwidth: flags.bandwidth.as_deref().map(parse_bandwidth).transpose()?,
            rehost: match flags.rehost.as_deref() {
                None | Some("auto") => true,
                Some("off") => false,
                Some(word) => return Err(Error::Usage(format!("--rehost {word}: there is auto and off"))),
            },
            memory: flags.memory.as_deref().map(|text| parse_bytes("--memory", text)).transpose()?,
        };
        run.check_strategy()?;
        let details = Details {
            network: flags.net,
            stragglers: flags.stragglers,
            rank: flags.rank,
            token: flags.token,
            insecure: flags.insecure,
            patience: flags.stall_timeout,
            seed,
        };
        Ok(Checked { run, place, details, isa: flags.isa })
    }
}

/// The epochs of the run that is to go on, as its folder says; nothing where there is no run yet.
fn resumed_epochs(flags: &TrainFlags) -> Option<usize> {
    let out = flags.out.as_ref().filter(|_| flags.resume)?;
    let text = std::fs::read(out.join("run.json")).ok()?;
    let run: serde_json::Value = serde_json::from_slice(&text).ok()?;
    run.pointer("/stop/epochs")?.as_u64()?.try_into().ok()
}

fn positive(flag: &str, value: Option<f64>) -> Result<Option<f64>> {
    match value {
        Some(given) if !(given > 0.0 && given < 1e9) => {
            Err(Error::Usage(format!("{flag} {given}: a number above 0 and below 1e9")))
        }
        value => Ok(value),
    }
}
