//! The training loop, the same for every model, strategy and cluster.
//!
//! Each worker hosts a contiguous range of lanes, and each lane a contiguous range of blocks. Between two
//! *synchronisation points* the strategy alone decides who waits for whom; at such a point all lanes have done the
//! same clock, the tables are complete and equal everywhere, and the run is evaluated, saved, or ended. They are
//! planned, where evaluations are due, or asked for (`train/halt.rs`): by the user, or because time is up.

mod dealer;
mod disk;
mod ends;
mod halt;
mod library;
mod measure;
mod observer;
mod plan;
mod rehost;
mod rounds;
mod source;
mod synchronise;
mod tables;
mod work;

pub(crate) use library::{BLOCKS_IN_MEMORY, BLOCKS_IN_MOVE};
pub use observer::Observer;
pub use source::Source;

use crate::algorithm::{Algorithm, StrategyKind};
use crate::channel::CONTROL;
use crate::checkpoint::{self, Found, Position, Writing};
use crate::event::{Outcome, WorkerTimes};
use crate::hosting::Hosting;
use crate::run::Run;
use crate::schedule;
use crate::strategy::allreduce::AllReduce;
use crate::strategy::ps::{ParameterServer, install_shards, place_shards};
use crate::strategy::reach::{Reach, Touched};
use crate::strategy::rotation::{self, MakeRows, Rotation};
use crate::strategy::scheduled::Scheduled;
use crate::strategy::solo::Solo;
use crate::strategy::tokens::Tokens;
use crate::strategy::tokens::order::{Script, Visit};
use crate::strategy::{Lanes, Report, Strategy, StrategySpec};
use crate::table::{Params, Storage};
use crate::{Error, Result};
use dealer::Dealer;
use dunlin_comm::{Buffer, Comm, Message, Time};
use halt::Halt;
use plan::Plan;
use source::{Lane, take_columns, take_lane};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tables::{is_spread, make_tables};

/// Set once the user has asked to stop: all ranks end the run after the clock that they are at.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Trains model `A` on this rank.
///
/// # Blocking
/// On the other ranks, as the strategy says.
///
/// # Errors
/// What the model, the data, the disk or another rank did wrong.
pub fn train<A: Algorithm>(
    run: &Run,
    source: &Source,
    comm: &mut Comm,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    run.check(source.blocks())?;
    comm.set_stall_timeout(Duration::from_secs_f64(run.stall_timeout));
    comm.limit_collectives(run.workers);
    let settings: A::Config = serde_json::from_value(run.settings.clone())
        .map_err(|e| Error::Usage(format!("settings of {}: {e}", A::NAME)))?;
    let mut algorithm = A::new(&settings, &source.shape)?;
    algorithm.under(run.strategy.kind(), run.strategy.staleness())?;
    if run.strategy.kind() == StrategyKind::Scheduled && algorithm.scheduled().is_none() {
        let (model, strategy) = (A::NAME, &run.strategy);
        return Err(Error::Usage(format!(
            "--strategy {strategy}: {model} cannot be trained variable by variable with these settings"
        )));
    }
    check_table_names(&run.strategy, &algorithm)?;
    run.transfer.check(A::NAME, &algorithm.tables())?;
    if comm.rank() >= run.workers {
        return serve(&algorithm, run, comm);
    }
    let outcome = Worker::new(algorithm, run, source, comm, observer)?.run();
    if comm.rank() == 0 {
        for server in run.workers..comm.size() {
            comm.send(server, CONTROL, Message::default())?;
        }
    }
    outcome
}

/// Refuses a staleness for a table that the model does not have.
fn check_table_names<A: Algorithm>(strategy: &StrategySpec, algorithm: &A) -> Result<()> {
    let (StrategySpec::Ssp(staleness) | StrategySpec::Essp(staleness)) = strategy else { return Ok(()) };
    let names: Vec<String> = algorithm.tables().into_iter().map(|table| table.name).collect();
    match staleness.tables.keys().find(|table| !names.contains(table)) {
        None => Ok(()),
        Some(table) => {
            let near = crate::model::near_name(table, &names);
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let names = names.join(", ");
            Err(Error::Usage(format!(
                "--strategy {strategy}: {} has no table {table}{near} (it has {names})",
                A::NAME
            )))
        }
    }
}

/// A dedicated server rank: is told from which clock the run goes on, answers until it has ended.
fn serve<A: Algorithm>(algorithm: &A, run: &Run, comm: &mut Comm) -> Result<Outcome> {
    let clock: u64 = comm.recv(CONTROL, Some(0), "the start of the run")?.head()?;
    let mut params = make_tables(algorithm, run, 0..0);
    if let Some((found, _)) = resumed(run)? {
        found.load_tables(&mut params, |_| true)?;
    }
    let shards = place_shards(&params, run.workers..comm.size());
    install_shards(&run.strategy, comm, &params, run.workers, run.lanes, &shards, clock);
    comm.send(0, CONTROL, Message::default())?;
    while comm.recv_deadline(CONTROL, Some(0), comm.now() + Duration::from_secs(3600))?.is_none() {}
    Ok(Outcome::default())
}

/// The checkpoint to go on from, if the run is to, and what is wrong with newer ones.
fn resumed(run: &Run) -> Result<Option<(Found, Vec<String>)>> {
    match run.out.as_ref().filter(|_| run.resume) {
        Some(out) => checkpoint::newest(out),
        None => Ok(None),
    }
}

/// A worker in training.
struct Worker<'a, A: Algorithm> {
    algorithm: A,
    run: &'a Run,
    source: &'a Source,
    comm: &'a mut Comm,
    observer: &'a mut dyn Observer,
    params: Params,
    lanes: Vec<Lane<A::Local>>,
    clocks: Lanes,
    strategy: Box<dyn Strategy>,
    clocks_per_epoch: usize,
    /// Clocks before the first epoch: those of the rounds of `begin`.
    rounds: u64,
    /// The ranges of rows that go round; none unless the strategy is `rotation`.
    row_blocks: Vec<Range<usize>>,
    /// The checkpoint to go on from, until the run has begun, and what is wrong with newer ones.
    found: Option<(Found, Vec<String>)>,
    /// Clocks of laps that measured and trained nothing; the strategy counts them.
    measured: u64,
    /// Rows of spread tables that a checkpoint had, or lanes that move: by table and first row.
    found_rows: BTreeMap<(usize, usize), Vec<u8>>,
    /// What a checkpoint says that rounding has left of updates: by lane, table and numbers.
    found_carries: BTreeMap<usize, Vec<(u16, Vec<u8>)>>,
    /// How variables are scheduled, if the strategy is `scheduled`.
    schedule: Option<schedule::Plan>,
    /// Cells of each block, training and test.
    cells: (usize, usize),
    /// Rank 0: whether lanes should move.
    dealer: Dealer,
    /// What strategies measured before lanes moved last.
    report_before: Report,
    /// The visits of the hosted lanes before that, if they are written down.
    visits: Vec<Visit>,
    /// To be told once the run has been announced.
    warning: Option<String>,
    /// The last synchronisation point.
    at: Position,
    running_since: Time,
    times: WorkerTimes,
    last_progress: (Time, f64),
    halt: Halt,
    /// The last checkpoint that was begun or gone on from.
    saved: Position,
    /// While it is on its way to the disk.
    writing: Option<Writing>,
    /// The last one that is complete, as far as this rank knows.
    complete: Option<Position>,
    losses: Vec<f64>,
    /// Metrics of the last evaluation.
    metrics: Option<BTreeMap<String, f64>>,
    /// Why the run ends if its epochs are done now.
    by_epochs: &'static str,
}

impl<'a, A: Algorithm> Worker<'a, A> {
    fn new(
        mut algorithm: A,
        run: &'a Run,
        source: &'a Source,
        comm: &'a mut Comm,
        observer: &'a mut dyn Observer,
    ) -> Result<Worker<'a, A>> {
        let clocks = Lanes::new(Hosting::even(run.lanes, run.workers), comm.rank(), 0);
        let hosted = clocks.hosted.clone();
        let by_columns = algorithm.cut_by_columns(run.lanes, source.disk.is_none())?;
        let found = resumed(run)?;
        let before = found.as_ref().map(|(found, _)| &found.manifest);
        let Plan { clocks_per_epoch, row_blocks, cuts_data, schedule, warning } =
            Plan::new(&algorithm, run, source, before)?;
        let warning = if by_columns { Some(plan::told_of_columns(&source.shape)) } else { warning };
        comm.barrier()?; // ranks of one process share the source: nobody takes blocks before all have counted
        let cells = cuts_data.then_some(&row_blocks[..]);
        let lanes: Vec<Lane<A::Local>> = match &source.disk {
            Some(disk) => {
                let numbers = [run.lanes as u64, run.seed];
                let how = (is_spread::<A>(run), rehost::may_move(run));
                disk.take_lanes(&algorithm, numbers, hosted, cells, how)?
            }
            None if by_columns => {
                hosted.map(|lane| take_columns(source, run.lanes, lane)).collect::<Result<_>>()?
            }
            None => hosted
                .map(|lane| take_lane(source, run.lanes, lane, cells, is_spread::<A>(run)))
                .collect::<Result<_>>()?,
        };
        if by_columns {
            comm.barrier()?; // all have copied their columns
        }
        if by_columns || (!comm.shares_memory() && !comm.is_simulated()) {
            source.forget();
        }
        let cells = lanes.first().map_or((1, 1), |lane| (lane.cells, lane.test_cells));
        let rows = lanes.first().map_or(0, |l| l.rows.start)..lanes.last().map_or(0, |l| l.rows.end);
        let start = comm.now();
        let params = make_tables(&algorithm, run, rows);
        let initialised = comm.now().since(start).as_secs_f64();
        let rounds = (algorithm.rounds() * row_blocks.len().max(1)) as u64;
        let process = if comm.is_simulated() { 0 } else { std::process::id() };
        let dealer = rehost::dealer(&algorithm, run, source);
        let worker = Worker {
            algorithm,
            run,
            source,
            comm,
            observer,
            params,
            lanes,
            clocks,
            strategy: Box::new(Solo::default()),
            clocks_per_epoch,
            rounds,
            row_blocks,
            found,
            measured: 0,
            found_rows: BTreeMap::new(),
            found_carries: BTreeMap::new(),
            schedule,
            cells,
            dealer,
            report_before: Report::default(),
            visits: Vec::new(),
            warning,
            at: Position { seconds: initialised, ..Position::default() },
            running_since: Time(0),
            times: WorkerTimes { process, ..WorkerTimes::default() },
            last_progress: (Time(0), 0.0),
            halt: Halt::default(),
            saved: Position::default(),
            writing: None,
            complete: None,
            losses: Vec::new(),
            metrics: None,
            by_epochs: "epochs",
        };
        Ok(worker)
    }

    fn run(mut self) -> Result<Outcome> {
        for lane in 0..self.lanes.len() {
            let seed = self.run.seed;
            self.lanes[lane].blocks.here_mut().for_each(|block| self.algorithm.arrange(block, seed));
        }
        let (found, complaints) = self.found.take().map_or((None, Vec::new()), |(f, c)| (Some(f), c));
        if let Some(found) = &found {
            self.restore(found)?;
        }
        let is_named = self.knows_target();
        let clock = if found.is_some() { self.clock_of(self.at) } else { 0 };
        self.clocks.clocks.fill(clock);
        self.strategy = self.make_strategy()?;
        self.found_rows.clear();
        // Merged tables are the same everywhere only at the end of a lap; rounds of variables have all come back only at
        // the end of a stretch.
        let stretch = self.schedule.as_ref().map(|plan| (self.rounds, plan.stretch() as u64));
        let stops = stretch.unwrap_or((0, self.row_blocks.len() as u64));
        self.halt = Halt::install(self.comm, self.run.workers, clock, stops);
        self.comm.barrier()?;
        if is_named {
            self.announce(found.is_some(), &complaints);
        }
        self.running_since = self.comm.now();
        if found.is_none() {
            let clocks_per_round = self.row_blocks.len().max(1);
            for round in (0..=self.rounds).step_by(clocks_per_round).skip(1) {
                self.run_to(round)?;
            }
        }
        if !is_named {
            let named = self.evaluate()?.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            self.check_target(&named)?;
            self.announce(found.is_some(), &complaints);
        }
        let reason = self.epochs().map_err(|error| Self::with_last_checkpoint(error, self.complete))?;
        self.finish(reason)
    }

    /// Trains epoch by epoch; why it ended.
    fn epochs(&mut self) -> Result<String> {
        loop {
            let last = self.run.stop.epochs;
            if self.at.epochs >= last {
                return Ok("epochs".to_string());
            }
            let next = (self.at.epochs / self.run.eval_every + 1) * self.run.eval_every;
            let next = Position { epochs: next.min(last), ..Position::default() };
            let clock = self.run_to(self.clock_of(next))?.saturating_sub(self.rounds) as usize;
            self.at.epochs = clock / self.clocks_per_epoch;
            self.at.clock = clock % self.clocks_per_epoch;
            if let Some(reason) = self.synchronise()? {
                return Ok(reason);
            }
        }
    }

    /// Clocks done at `position`, from the start of the run.
    fn clock_of(&self, position: Position) -> u64 {
        self.rounds + (position.epochs * self.clocks_per_epoch + position.clock) as u64
    }

    /// The strategy under which row blocks go round, lanes having done `clock` clocks.
    fn make_rotation(&mut self, clock: u64) -> Result<Box<dyn Strategy>> {
        let reach = self.reach()?;
        let asynchronous = self.run.strategy == StrategySpec::RotationAsync;
        let order = self.run.replay.as_deref().filter(|_| asynchronous);
        let script = order.map(|path| Script::read(path, &self.order_head())).transpose()?;
        let (params, found) = (&self.params, &mut self.found_rows);
        let mut start = |table: usize, rows: Range<usize>| {
            let spec = &params.replicas[table].spec;
            // An empty row block may begin where the next one does.
            let there = if rows.is_empty() { None } else { found.remove(&(table, rows.start)) };
            match there {
                None => Ok(spec.started(table, self.run.seed, rows)),
                Some(bytes) if bytes.len() == rows.len() * spec.bytes_per_row() => {
                    Ok(Storage::from_buffer(spec.element, Buffer::from(&bytes[..])))
                }
                Some(bytes) => Err(Error::Damaged(format!(
                    "checkpoint: {} bytes for rows {} to {} of table {}",
                    bytes.len(),
                    rows.start,
                    rows.end,
                    spec.name
                ))),
            }
        };
        let spread: Option<MakeRows> = if is_spread::<A>(self.run) { Some(&mut start) } else { None };
        let (run, row_blocks) = (self.run, self.row_blocks.clone());
        if run.strategy == StrategySpec::Rotation {
            let paced = !self.comm.shares_memory();
            let rotation = Rotation::new(params, &self.clocks, row_blocks, clock, spread)?;
            return Ok(Box::new(rotation.with_pace(paced).with_reach(reach)));
        }
        let interleaves = A::INTERLEAVES_PASSES;
        let tokens = Tokens::new(params, run, &self.clocks, row_blocks, interleaves, script, spread)?;
        Ok(Box::new(tokens.with_reach(reach)))
    }

    /// What the data of each worker touch of the tables that rotate, if row blocks are to travel in pieces.
    fn reach(&mut self) -> Result<Option<Reach>> {
        if self.run.workers == 1 || self.comm.shares_memory() || !self.algorithm.keeps_to_its_features() {
            return Ok(None);
        }
        let tables = 0..self.params.replicas.len();
        let goes_round = |table: &usize| rotation::rotates(self.params.replicas[*table].spec.axis);
        let rotating: Vec<usize> = tables.filter(goes_round).collect();
        let mut touched = Touched::new(&self.params, &rotating, self.source.shape.columns);
        for blocks in self.lanes.iter().flat_map(|lane| [&lane.blocks, &lane.test]) {
            blocks.plan(0..blocks.len());
            for at in 0..blocks.len() {
                touched.add(&*blocks.get(at)?);
            }
        }
        let counts = (self.run.workers, self.row_blocks.len());
        Reach::agree(self.comm, &self.params, &rotating, touched, counts)
    }

    fn make_strategy(&mut self) -> Result<Box<dyn Strategy>> {
        let run = self.run;
        if let (Some(plan), Some(model)) = (&self.schedule, self.algorithm.scheduled()) {
            let clocks = [self.rounds, self.clocks.clocks[0]];
            let partials = model.partials();
            let strategy =
                Scheduled::new(&self.params, plan, run.workers, &self.clocks, partials, run.seed, clocks);
            return Ok(Box::new(strategy.with_exchange(model.exchange())));
        }
        if run.lanes == 1 {
            return Ok(Box::new(Solo::default()));
        }
        let clock = self.clocks.clocks[0];
        if run.strategy == StrategySpec::AllReduce {
            return Ok(Box::new(AllReduce::new(&self.params, &self.clocks, clock)));
        }
        if run.rotates() {
            return self.make_rotation(clock);
        }
        let servers = if self.comm.rank() == 0 { run.workers..self.comm.size() } else { 0..0 };
        for server in servers.clone() {
            self.comm.send(server, CONTROL, Message::new(&clock, Buffer::new()))?;
        }
        for server in servers {
            self.comm.recv(CONTROL, Some(server), "a server to start")?;
        }
        let shards = if run.servers == 0 { 0..run.workers } else { run.workers..self.comm.size() };
        let mut strategy = ParameterServer::new(
            &run.strategy,
            self.comm,
            &self.params,
            run.workers,
            &self.clocks,
            place_shards(&self.params, shards),
            clock,
        )
        .with_transfer(&run.transfer, &self.params)
        .with_budget(run.bandwidth, run.workers);
        for (lane, carries) in std::mem::take(&mut self.found_carries) {
            for (table, bytes) in carries {
                if !strategy.carry_mut(lane).set(table, &bytes) {
                    let bytes = bytes.len();
                    return Err(Error::Damaged(format!(
                        "checkpoint: lane {lane} carries {bytes} bytes for table {table}, which do not fit"
                    )));
                }
            }
        }
        Ok(Box::new(strategy))
    }
}
