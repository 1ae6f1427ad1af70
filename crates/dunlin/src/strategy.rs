//! Strategies: how updates travel. An object chosen by a word; it knows lanes and tables, never a model.
//!
//! The training loop asks [`Strategy::next`] what to do, which is the only place where it waits, does it, and
//! reports [`Strategy::done`]. Clocks count units of work per lane from the start of the run, the rounds of
//! `begin` included.

pub mod allreduce;
mod managed;
pub mod ps;
pub(crate) mod reach;
pub mod rotation;
mod row_blocks;
pub mod scheduled;
pub mod server;
mod set;
pub mod solo;
pub mod tokens;

pub use managed::Managed;

use crate::algorithm::StrategyKind;
use crate::hosting::Hosting;
use crate::schedule::Schedule;
use crate::table::Params;
use crate::{Error, Result, Sums};
use dunlin_comm::Comm;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::ops::Range;
use std::str::FromStr;

/// Bound of `ssp` and `essp` if none is given.
pub const DEFAULT_STALENESS: u64 = 4;

/// A strategy, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StrategySpec {
    /// Parameter server in lock-step: a read at clock c holds exactly all updates of clocks before c and the
    /// lane's own.
    Bsp,
    /// Parameter server with bounded staleness, rows pulled when they are too old.
    Ssp(Staleness),
    /// The same, rows pushed as soon as the slowest lane has moved on.
    Essp(Staleness),
    /// Parameter server without a bound.
    Asp,
    /// A replica on every worker and one all-reduce a clock.
    AllReduce,
    /// Blocks of rows go round the lanes in lock-step; each is in one place at any time.
    Rotation,
    /// The same without barriers: rows wander over the lanes as these are ready for them.
    RotationAsync,
    /// Some variables a round, chosen by a scheduler; the sums of all lanes decide what becomes of them.
    Scheduled(Schedule),
}

/// How many clocks old a read may be: at least all updates of clocks before c − S are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Staleness {
    /// S, for tables that have no bound of their own.
    pub clocks: u64,
    /// S of single tables, by name.
    pub tables: BTreeMap<String, u64>,
}

impl Staleness {
    /// S of the table called `name`.
    pub fn of(&self, name: &str) -> u64 {
        self.tables.get(name).copied().unwrap_or(self.clocks)
    }
}

impl StrategySpec {
    /// True if a read may lack updates of earlier clocks.
    pub fn is_stale(&self) -> bool {
        matches!(self, StrategySpec::Ssp(_) | StrategySpec::Essp(_) | StrategySpec::Asp)
    }

    /// How many clocks old a read may be, in the table that may be oldest; `None` if there is no bound.
    pub fn staleness(&self) -> Option<u64> {
        match self {
            StrategySpec::Ssp(staleness) | StrategySpec::Essp(staleness) => {
                staleness.tables.values().copied().chain([staleness.clocks]).max()
            }
            StrategySpec::Asp => None,
            _ => Some(0),
        }
    }

    /// True if blocks of rows go round the lanes.
    pub fn rotates(&self) -> bool {
        self.kind() == StrategyKind::Rotation
    }

    /// True if shards serve the tables, which ranks of their own may have.
    pub fn has_servers(&self) -> bool {
        matches!(self, StrategySpec::Bsp | StrategySpec::Ssp(_) | StrategySpec::Essp(_) | StrategySpec::Asp)
    }

    /// Which kind it is, as models name it.
    pub fn kind(&self) -> StrategyKind {
        match self {
            StrategySpec::Bsp => StrategyKind::Bsp,
            StrategySpec::Ssp(_) => StrategyKind::Ssp,
            StrategySpec::Essp(_) => StrategyKind::Essp,
            StrategySpec::Asp => StrategyKind::Asp,
            StrategySpec::AllReduce => StrategyKind::AllReduce,
            StrategySpec::Rotation | StrategySpec::RotationAsync => StrategyKind::Rotation,
            StrategySpec::Scheduled(_) => StrategyKind::Scheduled,
        }
    }
}

impl StrategyKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            StrategyKind::Bsp => "bsp",
            StrategyKind::Ssp => "ssp",
            StrategyKind::Essp => "essp",
            StrategyKind::Asp => "asp",
            StrategyKind::AllReduce => "allreduce",
            StrategyKind::Rotation => "rotation",
            StrategyKind::Scheduled => "scheduled",
        }
    }
}

impl Display for StrategySpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().word())?;
        if *self == StrategySpec::RotationAsync {
            return f.write_str(":async");
        }
        if let StrategySpec::Scheduled(schedule) = self {
            let is_plain = *schedule == Schedule::default();
            return if is_plain { Ok(()) } else { write!(f, ":{schedule}") };
        }
        let (StrategySpec::Ssp(staleness) | StrategySpec::Essp(staleness)) = self else { return Ok(()) };
        write!(f, ":{}", staleness.clocks)?;
        staleness.tables.iter().try_for_each(|(table, clocks)| write!(f, ",{table}={clocks}"))
    }
}

impl FromStr for StrategySpec {
    type Err = Error;

    /// `bsp`, `ssp`, `ssp:S`, `ssp:S,TABLE=S,...`, `essp...` likewise, `asp`, `allreduce`, `rotation`,
    /// `rotation:async`, `scheduled`, `scheduled:POLICY,OPTION=X,...`.
    fn from_str(text: &str) -> Result<StrategySpec> {
        let (word, rest) = text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest)));
        let plain = |spec| match rest {
            None => Ok(spec),
            Some(rest) => Err(Error::Usage(format!("strategy {text}: {word} takes no \":{rest}\""))),
        };
        match word {
            "bsp" => plain(StrategySpec::Bsp),
            "asp" => plain(StrategySpec::Asp),
            "allreduce" => plain(StrategySpec::AllReduce),
            "rotation" => match rest {
                None => Ok(StrategySpec::Rotation),
                Some("async") => Ok(StrategySpec::RotationAsync),
                Some(rest) => Err(Error::Usage(format!(
                    "strategy {text}: rotation takes no \":{rest}\"; there is rotation and rotation:async"
                ))),
            },
            "ssp" => parse_staleness(text, rest).map(StrategySpec::Ssp),
            "essp" => parse_staleness(text, rest).map(StrategySpec::Essp),
            "scheduled" => match rest.map_or_else(|| Ok(Schedule::default()), Schedule::parse) {
                Ok(schedule) => Ok(StrategySpec::Scheduled(schedule)),
                Err(Error::Usage(why)) => Err(Error::Usage(format!("strategy {text}: {why}"))),
                Err(other) => Err(other),
            },
            _ => Err(Error::Usage(format!(
                "strategy {text}{}: there is bsp, ssp:S, essp:S, asp, allreduce, rotation, rotation:async and scheduled:POLICY (S = clocks of staleness, e.g. ssp:4)",
                crate::model::did_you_mean(
                    word,
                    &["bsp", "ssp", "essp", "asp", "allreduce", "rotation", "scheduled"]
                )
            ))),
        }
    }
}

fn parse_staleness(text: &str, rest: Option<&str>) -> Result<Staleness> {
    let number = |part: &str| {
        let allowed =
            "a staleness is a whole number of clocks from 0 to 1000000, e.g. ssp:4 or ssp:4,totals=0";
        let clocks = part.parse().ok().filter(|clocks| *clocks <= 1_000_000);
        clocks.ok_or_else(|| Error::Usage(format!("strategy {text}: \"{part}\"; {allowed}")))
    };
    let mut staleness = Staleness { clocks: DEFAULT_STALENESS, tables: BTreeMap::new() };
    for part in rest.iter().flat_map(|rest| rest.split(',')) {
        match part.split_once('=') {
            Some((table, clocks)) => drop(staleness.tables.insert(table.into(), number(clocks)?)),
            None => staleness.clocks = number(part)?,
        }
    }
    Ok(staleness)
}

impl TryFrom<String> for StrategySpec {
    type Error = Error;
    fn try_from(text: String) -> Result<StrategySpec> {
        text.parse()
    }
}

impl From<StrategySpec> for String {
    fn from(spec: StrategySpec) -> String {
        spec.to_string()
    }
}

/// The lanes of a run and those that this rank hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// Number of lanes in the run.
    pub total: usize,
    /// Which worker hosts which.
    pub hosting: Hosting,
    /// The lanes hosted here.
    pub hosted: Range<usize>,
    /// How many clocks each hosted lane has done.
    pub clocks: Vec<u64>,
}

impl Lanes {
    /// Those of worker `rank`, which have all done `clock` clocks.
    pub fn new(hosting: Hosting, rank: usize, clock: u64) -> Lanes {
        let hosted = hosting.lanes_of(rank);
        Lanes { total: hosting.lanes(), clocks: vec![clock; hosted.len()], hosted, hosting }
    }

    /// The hosted lane that is furthest behind (the first of several) and its clock.
    pub fn slowest(&self) -> Option<(usize, u64)> {
        self.hosted.clone().zip(self.clocks.iter().copied()).min_by_key(|(lane, clock)| (*clock, *lane))
    }

    /// The clock of hosted lane `lane`.
    pub fn clock_mut(&mut self, lane: usize) -> &mut u64 {
        &mut self.clocks[lane - self.hosted.start]
    }
}

/// What the training loop is to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// The next clock of this lane.
    Work {
        /// A hosted lane.
        lane: usize,
        /// The block of rows that is at hand; 0 where all rows are.
        row_block: usize,
        /// Which clock it is: that many the lane has done before, in all or, where rows wander freely, in this lap
        /// and those before it.
        clock: u64,
    },
    /// A clock has ended everywhere and the tables are combined: call the model's `end_clock` with these sums.
    EndClock(Sums),
    /// Nothing yet; ask again once it is known whether to go on.
    LookAround,
    /// All hosted lanes have reached the clock that was asked for.
    Reached,
}

/// How updates travel between the lanes' views of the tables.
pub trait Strategy: Send {
    /// The task that `next` gives next is no clock beyond the one after so many: by default the one of the hosted lane
    /// that has gone furthest. All lanes can stop at a clock that none has gone beyond.
    fn furthest(&mut self, lanes: &Lanes) -> u64 {
        lanes.clocks.iter().copied().max().unwrap_or(0)
    }

    /// What to do next so that all hosted lanes get to clock `until`.
    ///
    /// # Blocking
    /// The only wait of the training loop: on other lanes, as far as this strategy's promise asks for it.
    ///
    /// # Errors
    /// [`dunlin_comm::Error::Lost`], [`dunlin_comm::Error::Timeout`] naming whom it waited for.
    fn next(&mut self, comm: &mut Comm, params: &mut Params, lanes: &Lanes, until: u64) -> Result<Task>;

    /// Lane `lane` has done its clock: its updates go out. Never waits.
    ///
    /// # Errors
    /// As `next`.
    fn done(
        &mut self,
        comm: &mut Comm,
        params: &mut Params,
        lane: usize,
        clock: u64,
        sums: Sums,
    ) -> Result<()>;

    /// In the middle of clock `clock` of lane `lane`, between two units of work: updates may go out, or come in. Never
    /// waits.
    ///
    /// # Errors
    /// As `next`.
    fn within(&mut self, _: &mut Comm, _: &mut Params, _lane: usize, _clock: u64) -> Result<()> {
        Ok(())
    }

    /// Called on all workers once their lanes have all done `clock` clocks: makes the tables complete, and the
    /// same bits on every worker; those that are spread over the workers for good stay so.
    ///
    /// # Blocking
    /// On all workers.
    ///
    /// # Errors
    /// As `next`.
    fn drain(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()>;

    /// After [`Strategy::drain`]: makes tables that are spread over the workers complete on rank 0.
    ///
    /// # Blocking
    /// Rank 0, on all workers.
    ///
    /// # Errors
    /// As `next`.
    fn collect(&mut self, _comm: &mut Comm, _params: &mut Params, _clock: u64) -> Result<()> {
        Ok(())
    }

    /// After [`Strategy::drain`]: the rows of spread tables that `lane` has: table, first row, numbers with padding.
    fn spread_rows(&self, _lane: usize) -> Vec<(usize, usize, &[u8])> {
        Vec::new()
    }

    /// Bytes of rows that are held here and not in the tables.
    fn held_bytes(&self) -> usize {
        0
    }

    /// What rounding has left of the updates of hosted lane `lane`: table, numbers with padding.
    fn carries(&self, _lane: usize) -> Vec<(u16, &[u8])> {
        Vec::new()
    }

    /// The rounds of variables, if this strategy has such: then a clock of a lane is its part of a round.
    fn rounds(&mut self) -> Option<&mut scheduled::Scheduled> {
        None
    }

    /// Seconds spent waiting for other lanes so far: asked at every task, where a whole report would be copied.
    fn blocked_seconds(&self) -> f64;

    /// What was measured so far on this worker.
    fn report(&self) -> Report;

    /// At the end of the run: the visits of row blocks to hosted lanes in their order, if they were to be written down
    /// and the order is not always the same.
    fn order(&mut self) -> Vec<tokens::order::Visit> {
        Vec::new()
    }
}

/// What a strategy measures on a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds spent waiting for other lanes.
    pub blocked_seconds: f64,
    /// Staleness seen by reads, by table: for every clock of every hosted lane, every other lane and every shard,
    /// the number of clocks that the reader was ahead of the other's updates in its view. 0 is lock-step; less
    /// than 0 means that updates of the reader's own or later clocks were already there.
    #[serde(deserialize_with = "histograms")]
    pub staleness: BTreeMap<String, BTreeMap<i64, u64>>,
    /// Bytes of updates before encoding, and after.
    pub update_bytes: [u64; 2],
    /// How far the views of tables that are merged once a lap are from the merged table when the lap ends: by table,
    /// the sum of Σ |view − merged| / Σ |merged| over hosted lanes and laps, and the number of these. (The error Δ of
    /// the topic sums in Zheng et al. 2014, `STRADS`, at its largest.)
    #[serde(default)]
    pub merge_error: BTreeMap<String, (f64, u64)>,
    /// Under a budget (`--bandwidth`), else all zero.
    #[serde(default)]
    pub managed: Managed,
}

impl Report {
    /// Adds what another worker measured.
    pub fn merge(&mut self, other: &Report) {
        self.blocked_seconds += other.blocked_seconds;
        for (table, histogram) in &other.staleness {
            let own = self.staleness.entry(table.clone()).or_default();
            histogram.iter().for_each(|(clocks, count)| *own.entry(*clocks).or_default() += count);
        }
        self.update_bytes.iter_mut().zip(other.update_bytes).for_each(|(own, other)| *own += other);
        self.managed.merge(&other.managed);
        for (table, (error, count)) in &other.merge_error {
            let own = self.merge_error.entry(table.clone()).or_default();
            *own = (own.0 + error, own.1 + count);
        }
    }

    /// The mean error of each merged table, by name.
    pub fn mean_merge_errors(&self) -> impl Iterator<Item = (&str, f64)> {
        self.merge_error.iter().map(|(table, (error, count))| (&**table, error / (*count).max(1) as f64))
    }
}

/// Histograms by table. Keys of a JSON object are text, and within a tagged enum serde does not turn them back into
/// numbers.
fn histograms<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, BTreeMap<i64, u64>>, D::Error> {
    if !deserializer.is_human_readable() {
        return Deserialize::deserialize(deserializer);
    }
    let tables = BTreeMap::<String, BTreeMap<String, u64>>::deserialize(deserializer)?;
    let number = |(clocks, count): (String, u64)| Ok((clocks.parse().map_err(D::Error::custom)?, count));
    let numbers = |(table, histogram): (String, BTreeMap<String, u64>)| {
        Ok((table, histogram.into_iter().map(number).collect::<std::result::Result<_, D::Error>>()?))
    };
    tables.into_iter().map(numbers).collect()
}

/// Mean and variance of a staleness histogram; `None` if it is empty.
pub fn mean_and_variance(histogram: &BTreeMap<i64, u64>) -> Option<(f64, f64)> {
    let count: f64 = histogram.values().map(|n| *n as f64).sum();
    let mean = histogram.iter().map(|(x, n)| *x as f64 * *n as f64).sum::<f64>() / count;
    let square = histogram.iter().map(|(x, n)| (*x as f64 - mean).powi(2) * *n as f64).sum::<f64>();
    (count > 0.0).then_some((mean, square / count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were_written() {
        for text in
            ["bsp", "ssp:4", "essp:0", "asp", "allreduce", "rotation", "rotation:async", "ssp:4,totals=0"]
        {
            assert_eq!(text.parse::<StrategySpec>().unwrap().to_string(), text);
        }
        assert_eq!("ssp".parse::<StrategySpec>().unwrap().to_string(), "ssp:4");
    }

    #[test]
    fn other_words_are_refused_with_what_is_allowed() {
        let message = |text: &str| text.parse::<StrategySpec>().unwrap_err().to_string();
        assert!(message("bps").contains("there is bsp, ssp:S"));
        assert!(message("bsp:3").contains("bsp takes no \":3\""));
        assert!(message("rotation:sync").contains("there is rotation and rotation:async"));
        assert!(message("ssp:-1").contains("\"-1\"; a staleness is a whole number"));
        assert!(message("ssp:x=").contains("\"\"; a staleness"));
        assert!(message("ssp:1000001").contains("from 0 to 1000000"));
        assert!("ssp:1000000".parse::<StrategySpec>().is_ok());
    }
}
