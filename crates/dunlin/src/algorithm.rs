//! The trait that a model implements: what to compute. How updates travel and where ranks live is not its
//! business.

use crate::data::{Block, Kind, Names, ReadOptions, Shape};
use crate::details::Details;
use crate::rng::{Stream, stream};
use crate::schedule::Scheduled;
use crate::table::{Params, TableSpec};
use crate::{Error, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Named sums over samples, added up over units, lanes and blocks in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums(BTreeMap<Cow<'static, str>, f64>);

impl Sums {
    /// Adds `value` to the sum called `name`.
    pub fn add(&mut self, name: &'static str, value: f64) {
        *self.0.entry(Cow::Borrowed(name)).or_default() += value;
    }

    /// The sum called `name`; 0 if nothing was added.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// Adds `value` to number `index` of the sums called `name`: one per class, say.
    pub fn add_at(&mut self, name: &str, index: usize, value: f64) {
        *self.0.entry(Cow::Owned(format!("{name} {index}"))).or_default() += value;
    }

    /// Number `index` of the sums called `name`; 0 if nothing was added.
    pub fn get_at(&self, name: &str, index: usize) -> f64 {
        self.get(&format!("{name} {index}"))
    }

    /// All sums, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Adds all sums of `other`.
    pub fn merge(&mut self, other: &Sums) {
        for (name, value) in &other.0 {
            *self.0.entry(name.clone()).or_default() += value;
        }
    }

    /// True if nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A piece of work: one block, in one clock of one epoch, by one lane.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// The data.
    pub block: &'a Block,
    /// Which pass over the data, from 0. In `begin`, the round.
    pub epoch: usize,
    /// Clock within the run, from 0; every lane has as many clocks in an epoch. Under `rotation:async`, where lanes may
    /// be in two epochs at a time, those of the epochs before and [`Unit::visit`].
    pub clock: usize,
    /// The lane that owns the block.
    pub lane: usize,
    /// Number of lanes.
    pub lanes: usize,
    /// Under `rotation`: which block of rows is visiting; `block` holds the entries of these columns only, and a
    /// data block has as many units in an epoch as there are row blocks. Elsewhere 0.
    pub row_block: usize,
    /// Which of the [`Unit::visits`] of this epoch to the lane it is, from 0: the first may begin what is gathered over
    /// all row blocks, the last may end it. Elsewhere 0.
    pub visit: usize,
    /// Visits of row blocks in an epoch: 1 where all rows are at hand.
    pub visits: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Unit<'_> {
    /// True at the last visit of an epoch to the lane; always where all rows are at hand.
    pub fn is_last_visit(&self) -> bool {
        self.visit + 1 >= self.visits
    }

    /// The random stream of this block, epoch and row block for `purpose`: the same whichever worker or lane asks.
    pub fn rng(&self, purpose: &str) -> Stream {
        let keys = [u64::from(self.block.id), self.epoch as u64, self.row_block as u64];
        stream(self.seed, purpose, if self.row_block == 0 { &keys[..2] } else { &keys })
    }
}

/// How updates travel, as a model names it. Which of them its mathematics allows is the model's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyKind {
    /// Parameter server, lock-step.
    Bsp,
    /// Parameter server, bounded staleness, pulled.
    Ssp,
    /// Parameter server, bounded staleness, pushed ahead of need.
    Essp,
    /// Parameter server, no bound.
    Asp,
    /// Replicas and an all-reduce a clock.
    AllReduce,
    /// Blocks of rows that go round the lanes, in lock-step or not.
    Rotation,
    /// Some variables a round, chosen by a scheduler.
    Scheduled,
}

/// The strategies over shared tables, for models that allow any of them.
pub const ANY_TABLE_STRATEGY: &[StrategyKind] =
    &[StrategyKind::Bsp, StrategyKind::Ssp, StrategyKind::Essp, StrategyKind::Asp, StrategyKind::AllReduce];

/// The same and `rotation`: for models whose work on an entry reads and writes one row of each rotating table.
pub const ANY_STRATEGY: &[StrategyKind] = &[
    StrategyKind::Bsp,
    StrategyKind::Ssp,
    StrategyKind::Essp,
    StrategyKind::Asp,
    StrategyKind::AllReduce,
    StrategyKind::Rotation,
];

/// Gives the blocks of a lane to a function, one after the other.
pub type LaneBlocks<'a> = dyn FnMut(usize, &mut dyn FnMut(&Block)) -> Result<()> + 'a;

/// A learning algorithm: what to compute on a block of data with shared tables.
///
/// The engine calls, on every rank, for the blocks of the lanes it hosts: `begin` once per round, then `step`
/// for every block in every epoch, and between clocks combines what the lanes wrote to the tables. With one
/// lane nothing is copied and the calls are the plain serial algorithm.
pub trait Algorithm: Sized + Send + Sync + 'static {
    /// The word that chooses it.
    const NAME: &'static str;
    /// One line for the list of models.
    const ABOUT: &'static str;
    /// The kind of data it takes.
    const DATA: Kind;
    /// The strategies that its mathematics allows; the first is the default.
    const STRATEGIES: &'static [StrategyKind];
    /// Blocks that the data of a lane are cut into unless the user says how many; `None` leaves it to the engine.
    /// A model that works on all rows of a lane together wants one.
    const BLOCKS_PER_LANE: Option<usize> = None;
    /// Epochs at most, unless the user says how many (`--epochs`).
    const EPOCHS: usize = 20;
    /// True if, under `rotation`, it measures with the rows of one row block at hand
    /// ([`Algorithm::measure_visit`], [`Algorithm::measure_rows`]), and `metrics` reads no table that rotates. Such tables
    /// are never whole in one place while training, so that the model may be larger than a worker.
    const MEASURES_BY_LAP: bool = false;
    /// Under `rotation:async`: true if a lane may be visited in one pass before the last visit of the pass before, so
    /// that units of two values of [`Unit::epoch`] take turns on a block. False, the default, has every lane end a
    /// pass first: right for models that gather something from the first [`Unit::visit`] of a pass to the last.
    const INTERLEAVES_PASSES: bool = false;
    /// What to change when the loss explodes.
    const DIVERGED_ADVICE: &'static str = "use more --clocks-per-epoch or fewer --lanes";
    /// What it tells about its settings, tables and metrics.
    const DETAILS: &'static Details = &Details::NONE;
    /// Settings; every field documented with meaning, unit, range and default. Unknown keys are errors
    /// (`#[serde(deny_unknown_fields, default)]`).
    type Config: Serialize + DeserializeOwned + Default + Clone + Send + Sync;
    /// State that belongs to a data block (assignments, duals): stays with it, and is checkpointed.
    type Local: Serialize + DeserializeOwned + Send;

    /// What the settings say of how data are read, such as a file of pairs: models open no files.
    fn reading(_config: &Self::Config, _options: &mut ReadOptions) {}

    /// Checks the settings against the data.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting, what was given and what is allowed.
    fn new(config: &Self::Config, shape: &Shape) -> Result<Self>;

    /// Told once, on every rank and before all else, how updates will travel: a model may refuse what its settings cannot
    /// do, or suit its steps to the staleness of what it reads. At clock c that holds at least all updates of clocks before
    /// c − `staleness`; `None` knows no bound.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting, the strategy and what is allowed.
    fn under(&mut self, _strategy: StrategyKind, _staleness: Option<u64>) -> Result<()> {
        Ok(())
    }

    /// Asked once, after [`Algorithm::under`] and before all else: true if each of the `lanes` lanes is to have some columns of
    /// all rows instead of some rows with all columns. Then a lane has one block, which has its number as id, all rows with
    /// their targets, and the columns [`share`](crate::serial::share)(columns, lanes, lane) alone, counted from 0; test blocks
    /// are cut by rows as ever. `at_hand` is false where no process has all rows in memory (`--memory`): then only false
    /// may be said.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting that asks for what cannot be.
    fn cut_by_columns(&mut self, _lanes: usize, _at_hand: bool) -> Result<bool> {
        Ok(false)
    }

    /// The shared tables, created up front. Their order gives their numbers.
    fn tables(&self) -> Vec<TableSpec>;

    /// Refuses training data that cannot be learned from, seen whole as they were read: called once on every rank,
    /// before anything else and with the same answer everywhere. Of data that are on disk (`--memory`) it is given one
    /// block after the other until one passes.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Usage`]: what the data lack, and what to do.
    fn check(&self, _blocks: &[&Block], _seed: u64) -> Result<()> {
        Ok(())
    }

    /// Puts the rows of a training block into the order in which `step` wants them. Called once, before
    /// `begin`; test blocks stay as they are. Must depend on the block and the seed alone.
    fn arrange(&self, _block: &mut Block, _seed: u64) {}

    /// How many clocks an epoch needs so that the sum of the updates of `lanes` lanes does not overshoot. Given
    /// all training blocks; the same on all ranks.
    fn clocks_per_epoch(&self, _blocks: &[&Block], _lanes: usize) -> usize {
        1
    }

    /// The same for blocks that are on disk: `blocks(lane, take)` gives the blocks of a lane to `take`, one after the other.
    /// A model whose [`Algorithm::clocks_per_epoch`] looks into blocks says so here too; by default it is asked without
    /// any.
    ///
    /// # Errors
    /// What `blocks` gives.
    fn clocks_on_disk(&self, lanes: usize, _blocks: &mut LaneBlocks) -> Result<usize> {
        Ok(self.clocks_per_epoch(&[], lanes))
    }

    /// Bytes of local state of all blocks together that stay in memory, about; by default none.
    fn local_bytes(&self, _shape: &Shape) -> f64 {
        0.0
    }

    /// Under `rotation`: true if a unit reads and writes, of the tables that rotate, only what belongs to features
    /// (columns, items, words) that are in its block: these rows of tables on [`Axis::Feature`](crate::Axis::Feature),
    /// these columns of tables on [`Axis::Output`](crate::Axis::Output) and those beyond the features. Then what the data of a worker
    /// do not touch need not travel to it, and is zero there. [`Algorithm::measure_rows`] may read everything.
    fn keeps_to_its_features(&self) -> bool {
        false
    }

    /// Clocks that `begin` takes.
    fn rounds(&self) -> usize {
        1
    }

    /// Makes a block's local state; may write tables. In round r > 0 it is given round r − 1's.
    ///
    /// # Errors
    /// [`Error::Data`] if the block cannot be used.
    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Self::Local>) -> Result<Self::Local>;

    /// One pass over a block. The engine keeps units at most about 50 ms long by the size of blocks.
    ///
    /// # Errors
    /// [`Error::Diverged`] where going on makes no sense.
    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Self::Local, sums: &mut Sums) -> Result<()>;

    /// Called once per clock with the sums of all lanes and the combined tables, with the same bits on every
    /// rank; only strategies that keep whole replicas (`allreduce`, one lane) can offer that. Models that
    /// need it name no others.
    ///
    /// # Errors
    /// As `step`.
    fn end_clock(&self, _sums: &Sums, _params: &mut Params) -> Result<()> {
        Ok(())
    }

    /// How it is trained variable by variable, for models that allow [`StrategyKind::Scheduled`].
    fn scheduled(&self) -> Option<&dyn Scheduled<Self::Local>> {
        None
    }

    /// Adds the measures of a block under the current parameters: with its local state for a training block,
    /// `None` for a test block.
    fn measure(&self, block: &Block, params: &Params, local: Option<&Self::Local>, sums: &mut Sums);

    /// The same for one visit of a row block to a block of data under `rotation`: called for all of them in turn, for
    /// test blocks too. `seen` is the block's own and empty at the first visit: for what can only be told once all row
    /// blocks have been (the largest of all classes' scores); it ends with [`Unit::is_last_visit`]. By default every
    /// cell is measured as a block.
    ///
    /// With [`Algorithm::MEASURES_BY_LAP`] only the rows of [`Unit::row_block`] are at hand, else all rows.
    fn measure_visit(
        &self,
        unit: &Unit,
        params: &Params,
        local: Option<&Self::Local>,
        _seen: &mut Vec<f32>,
        sums: &mut Sums,
    ) {
        self.measure(unit.block, params, local, sums);
    }

    /// Adds the measures of the rows of the tables that are at hand (a penalty on the parameters), each row once: under
    /// `rotation` with [`Algorithm::MEASURES_BY_LAP`] once for every row block, elsewhere once for all rows. They
    /// come to `metrics` among the sums over the training data.
    fn measure_rows(&self, _params: &Params, _sums: &mut Sums) {}

    /// Metrics from the sums over all training blocks and, if there are any, all test blocks, e.g.
    /// `("train_objective", ..)`, `("test_rmse", ..)`. Called on every rank with the same sums; may read the
    /// tables (regularisation terms).
    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)>;

    /// True once the model itself knows that it is done (duality gap below tolerance), by metrics that fall to 0 on the way.
    fn converged(&self, _metrics: &[(&'static str, f64)]) -> bool {
        false
    }

    /// True if a run with these metrics could have ended by [`Algorithm::converged`]: with all of them at 0 it would have.
    /// Then epochs that are used up before are told as such. Settings may decide it, as may what is measured.
    fn can_converge(&self, metrics: &[(&'static str, f64)]) -> bool {
        let ideal: Vec<_> = metrics.iter().map(|(name, _)| (*name, 0.0)).collect();
        self.converged(&ideal)
    }

    /// Predictions for each row of `block`, in order: `out(row, values)`.
    ///
    /// # Errors
    /// [`Error::Usage`] where the model predicts nothing.
    fn predict(&self, _block: &Block, _params: &Params, _out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        Err(Error::Usage(format!("{} makes no predictions", Self::NAME)))
    }

    /// What a person would want to read of a trained model: `out(file name, text)` for every file that goes beside
    /// it into the run folder. Shape and names are those of the training data.
    fn readable(&self, _shape: &Shape, _names: &Names, _params: &Params, _out: &mut dyn FnMut(&str, String)) {
    }
}
