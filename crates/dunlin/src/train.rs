//! The training loop, the same for every model, strategy and cluster.
//!
//! Each worker hosts a contiguous range of lanes, and each lane a contiguous range of blocks. Between two
//! *synchronisation points* (evaluations) the strategy alone decides who waits for whom; at such a point all lanes
//! have done the same clock, the tables are complete and equal everywhere, and the run is evaluated, saved, or ended.

use crate::algorithm::{Algorithm, Sums, Unit};
use crate::checkpoint::{self, Found, LaneState};
use crate::data::{Block, Data, Names, Shape, mix};
use crate::event::{Event, Outcome, WorkerTimes, peak_rss_mb};
use crate::run::Run;
use crate::serial::{block_order, share};
use crate::strategy::allreduce::{AllReduce, reduce_sums};
use crate::strategy::ps::{ParameterServer, install_shard};
use crate::strategy::solo::Solo;
use crate::strategy::{Lanes, Report, Strategy, StrategySpec, Task};
use crate::table::{Axis, Params, Replica};
use crate::{Error, Result};
use dunlin_comm::collective::Node;
use dunlin_comm::{Buffer, Channel, Comm, Message, Time};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set once the user has asked to stop: the run ends at the next synchronisation point.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Between rank 0 and dedicated server ranks: start at a clock, ready, stop.
const CONTROL: Channel = Channel(Channel::USER.0 + 1);

/// Training and test data as they were read, to be shared by the ranks of a process: each takes its blocks.
#[derive(Debug)]
pub struct Source {
    shape: Shape,
    names: Names,
    train: Mutex<Vec<Option<Block>>>,
    test: Option<Mutex<Vec<Option<Block>>>>,
    fingerprint: String,
}

impl Source {
    /// From data that were read. Labelled training rows are mixed, always in the same way: files are often sorted
    /// by class, and lanes that see some of the classes only make slow progress together.
    pub fn new(train: Data, test: Option<Data>) -> Source {
        let train = mix(train);
        let fingerprint = format!("{:016x}", fingerprint(&train));
        let own = |data: Data| Mutex::new(data.blocks.into_iter().map(Some).collect());
        let (shape, names) = (train.shape.clone(), train.names.clone());
        Source { shape, names, train: own(train), test: test.map(own), fingerprint }
    }

    /// The training data's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The training data's names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Number of training blocks.
    pub fn blocks(&self) -> usize {
        lock(&self.train).len()
    }

    /// Drops the blocks that nobody took.
    fn forget(&self) {
        lock(&self.train).iter_mut().for_each(|block| *block = None);
        self.test.iter().for_each(|test| lock(test).iter_mut().for_each(|block| *block = None));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number that differs if the data do: shape and all blocks.
fn fingerprint(data: &Data) -> u64 {
    let mut hasher = twox_hash::XxHash3_64::new();
    for block in &data.blocks {
        hasher.write(&postcard::to_stdvec(block).unwrap_or_default());
    }
    hasher.finish()
}

/// What rank 0 of a run tells the outside.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Training has ended well; the tables are complete. Called before [`Event::Ended`].
    ///
    /// # Errors
    /// If the model cannot be saved.
    fn finished(&mut self, _params: &Params, _source: &Source) -> Result<()> {
        Ok(())
    }
}

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
    let algorithm = A::new(&settings, &source.shape)?;
    check_table_names(&run.strategy, &algorithm)?;
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
        found.load_tables(&mut params)?;
    }
    let shards: Vec<usize> = (run.workers..comm.size()).collect();
    install_shard(&run.strategy, comm, &params, run.workers, run.lanes, &shards, clock);
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

/// All tables, started; of those on the example axis only `rows`.
fn make_tables<A: Algorithm>(algorithm: &A, run: &Run, rows: Range<usize>) -> Params {
    let replicas = algorithm.tables().into_iter().enumerate().map(|(table, spec)| {
        let example = spec.axis == Axis::Example;
        let mut replica = Replica::new(spec, run.lanes > 1 && !example);
        let rows = if example { rows.clone() } else { 0..replica.spec.rows };
        replica.initialise(table, run.seed, rows);
        replica.rebase();
        replica
    });
    Params { replicas: replicas.collect(), lanes: run.lanes }
}

/// One lane on this worker.
struct Lane<L> {
    number: usize,
    blocks: Vec<Block>,
    locals: Vec<Option<L>>,
    test: Vec<Block>,
    rows: Range<usize>,
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
    /// Clocks before the first epoch: the rounds of `begin`.
    rounds: u64,
    epochs: usize,
    seconds: f64,
    running_since: Time,
    times: WorkerTimes,
    last_progress: (Time, f64),
    last_checkpoint: (usize, f64),
    losses: Vec<f64>,
}

impl<'a, A: Algorithm> Worker<'a, A> {
    fn new(
        algorithm: A,
        run: &'a Run,
        source: &'a Source,
        comm: &'a mut Comm,
        observer: &'a mut dyn Observer,
    ) -> Result<Worker<'a, A>> {
        let hosted = share(run.lanes, run.workers, comm.rank());
        let clocks_per_epoch = run.clocks_per_epoch.unwrap_or_else(|| {
            let blocks = lock(&source.train);
            let wanted = algorithm.clocks_per_epoch(&blocks.iter().flatten().collect::<Vec<_>>(), run.lanes);
            wanted.clamp(1, (blocks.len() / run.lanes).max(1)) // a clock without a block would change nothing
        });
        comm.barrier()?; // ranks of one process share the source: nobody takes blocks before all have counted
        let lanes: Vec<Lane<A::Local>> =
            hosted.clone().map(|lane| take_lane(source, run.lanes, lane)).collect();
        if !comm.shares_memory() && !comm.is_simulated() {
            source.forget();
        }
        let rows = lanes.first().map_or(0, |l| l.rows.start)..lanes.last().map_or(0, |l| l.rows.end);
        let params = make_tables(&algorithm, run, rows);
        let clocks = Lanes { total: run.lanes, clocks: vec![0; hosted.len()], hosted };
        let rounds = algorithm.rounds() as u64;
        let process = if comm.is_simulated() { 0 } else { std::process::id() };
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
            clocks_per_epoch: clocks_per_epoch.max(1),
            rounds,
            epochs: 0,
            seconds: 0.0,
            running_since: Time(0),
            times: WorkerTimes { process, ..WorkerTimes::default() },
            last_progress: (Time(0), 0.0),
            last_checkpoint: (0, 0.0),
            losses: Vec::new(),
        };
        Ok(worker)
    }

    fn run(mut self) -> Result<Outcome> {
        for lane in 0..self.lanes.len() {
            let seed = self.run.seed;
            self.lanes[lane].blocks.iter_mut().for_each(|block| self.algorithm.arrange(block, seed));
        }
        let (found, complaints) = resumed(self.run)?.map_or((None, Vec::new()), |(f, c)| (Some(f), c));
        if let Some(found) = &found {
            self.restore(found)?;
        }
        let is_named = self.knows_target();
        let clock = if found.is_some() { self.clock_of(self.epochs) } else { 0 };
        self.clocks.clocks.fill(clock);
        self.strategy = self.make_strategy()?;
        self.comm.barrier()?;
        if is_named {
            self.announce(found.is_some(), &complaints);
        }
        self.running_since = self.comm.now();
        if found.is_none() {
            for round in 1..=self.rounds {
                self.run_to(round)?;
            }
        }
        if !is_named {
            let named = self.evaluate()?.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            self.check_target(&named)?;
            self.announce(found.is_some(), &complaints);
        }
        let reason =
            self.epochs().map_err(|error| Self::with_last_checkpoint(error, self.last_checkpoint.0))?;
        self.finish(reason)
    }

    /// Trains epoch by epoch; why it ended.
    fn epochs(&mut self) -> Result<String> {
        loop {
            if self.epochs >= self.run.stop.epochs {
                return Ok("epochs".to_string());
            }
            let next = (self.epochs / self.run.eval_every + 1) * self.run.eval_every;
            let next = next.min(self.run.stop.epochs);
            self.run_to(self.clock_of(next))?;
            self.epochs = next;
            if let Some(reason) = self.synchronise()? {
                return Ok(reason);
            }
        }
    }

    /// True if the metric of `--until`, if there is one, is among those that the model has whatever the data are.
    /// Otherwise it takes an evaluation to know: better before the first epoch than after.
    fn knows_target(&self) -> bool {
        let Some(until) = &self.run.stop.until else { return true };
        let none = Sums::default();
        let test = self.source.test.is_some().then_some(&none);
        self.algorithm.metrics(&none, test, &self.params).iter().any(|(name, _)| *name == until.metric)
    }

    /// # Errors
    /// [`Error::Usage`] if the metric of `--until` is not among `named`.
    fn check_target(&self, named: &BTreeMap<String, f64>) -> Result<()> {
        let stop = &self.run.stop;
        let Some(until) = stop.until.as_ref().filter(|until| !named.contains_key(&until.metric)) else {
            return Ok(());
        };
        let names: Vec<String> = named.keys().cloned().collect();
        let near = crate::model::near_name(&until.metric, &names);
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let test = if self.source.test.is_some() { "" } else { "; those of test data need --test" };
        let names = names.join(", ");
        Err(Error::Usage(format!("--until {until}: no such metric here{near} (there is {names}{test})")))
    }

    /// The clock at which `epochs` epochs are done.
    fn clock_of(&self, epochs: usize) -> u64 {
        self.rounds + (epochs * self.clocks_per_epoch) as u64
    }

    fn make_strategy(&mut self) -> Result<Box<dyn Strategy>> {
        let run = self.run;
        if run.lanes == 1 {
            return Ok(Box::new(Solo::default()));
        }
        let clock = self.clocks.clocks[0];
        if run.strategy == StrategySpec::AllReduce {
            return Ok(Box::new(AllReduce::new(self.params.geometry(), run.lanes, clock)));
        }
        let servers = if self.comm.rank() == 0 { run.workers..self.comm.size() } else { 0..0 };
        for server in servers.clone() {
            self.comm.send(server, CONTROL, Message::new(&clock, Buffer::new()))?;
        }
        for server in servers {
            self.comm.recv(CONTROL, Some(server), "a server to start")?;
        }
        let shards = if run.servers == 0 { 0..run.workers } else { run.workers..self.comm.size() };
        let strategy = ParameterServer::new(
            &run.strategy,
            self.comm,
            &self.params,
            run.workers,
            &self.clocks,
            shards.collect(),
            clock,
        );
        Ok(Box::new(strategy))
    }

    /// Works until all hosted lanes have done `until` clocks and the tables are complete.
    fn run_to(&mut self, until: u64) -> Result<()> {
        loop {
            let start = self.comm.now();
            let blocked = self.strategy.report().blocked_seconds;
            let task = self.strategy.next(self.comm, &mut self.params, &self.clocks, until)?;
            let waited = self.strategy.report().blocked_seconds - blocked;
            self.times.exchange_seconds += self.comm.now().since(start).as_secs_f64() - waited;
            match task {
                Task::Work { lane } => self.work(lane)?,
                Task::EndClock(sums) => {
                    self.algorithm.end_clock(&sums, &mut self.params)?;
                    self.params.settle();
                }
                Task::Reached => break,
            }
        }
        self.strategy.drain(self.comm, &mut self.params, until)
    }

    /// The next clock of `lane`.
    fn work(&mut self, lane: usize) -> Result<()> {
        let clock = *self.clocks.clock_mut(lane);
        let start = self.comm.now();
        self.comm.describe(&format!("lane {lane} at clock {clock}"));
        let sums = match clock.checked_sub(self.rounds) {
            None => self.begin(lane, clock as usize)?,
            Some(clock) => self.step(lane, clock as usize)?,
        };
        let worked = self.comm.now().since(start).as_secs_f64();
        self.slow_down(clock, worked);
        let end = self.comm.now();
        self.times.compute_seconds += end.since(start).as_secs_f64();
        self.strategy.done(self.comm, &mut self.params, lane, clock, sums)?;
        *self.clocks.clock_mut(lane) += 1;
        self.times.exchange_seconds += self.comm.now().since(end).as_secs_f64();
        self.progress(clock);
        Ok(())
    }

    fn begin(&mut self, lane: usize, round: usize) -> Result<Sums> {
        let place = lane - self.clocks.hosted.start;
        for index in 0..self.lanes[place].blocks.len() {
            let (lanes, seed) = (self.run.lanes, self.run.seed);
            let Lane { blocks, locals, .. } = &mut self.lanes[place];
            let unit = Unit { block: &blocks[index], epoch: round, clock: round, lane, lanes, seed };
            let local = locals[index].take();
            locals[index] = Some(self.algorithm.begin(&unit, &mut self.params, local)?);
            let samples = blocks[index].samples();
            self.charge(samples)?;
        }
        Ok(Sums::default())
    }

    fn step(&mut self, lane: usize, clock: usize) -> Result<Sums> {
        let place = lane - self.clocks.hosted.start;
        let (epoch, part) = (clock / self.clocks_per_epoch, clock % self.clocks_per_epoch);
        let mut sums = Sums::default();
        let blocks = self.lanes[place].blocks.len();
        let order = block_order(self.run.seed, lane, epoch, blocks);
        for index in order[share(blocks, self.clocks_per_epoch, part)].iter().copied() {
            let (lanes, seed) = (self.run.lanes, self.run.seed);
            let Lane { blocks, locals, .. } = &mut self.lanes[place];
            let unit = Unit { block: &blocks[index], epoch, clock, lane, lanes, seed };
            let Some(local) = &mut locals[index] else { continue };
            self.algorithm.step(&unit, &mut self.params, local, &mut sums)?;
            let samples = blocks[index].samples();
            self.charge(samples)?;
        }
        Ok(sums)
    }

    /// After a unit of work: charges virtual time, and lets this rank's shard answer.
    fn charge(&mut self, samples: usize) -> Result<()> {
        if self.comm.is_simulated() {
            self.comm.compute(Duration::from_nanos((samples as f64 * self.run.compute_ns) as u64));
        }
        if self.comm.size() > 1 && !self.comm.shares_memory() {
            self.comm.poll()?;
        }
        Ok(())
    }

    fn slow_down(&mut self, clock: u64, worked: f64) {
        let (rank, workers, seed) = (self.comm.rank(), self.run.workers, self.run.seed);
        let extra = |slow: &crate::run::Slow| slow.extra_seconds(rank, workers, clock, worked, seed);
        let extra: f64 = self.run.slow.iter().map(extra).sum();
        if extra > 0.0 {
            self.comm.pause(Duration::from_secs_f64(extra));
        }
    }

    fn progress(&mut self, clock: u64) {
        let now = self.comm.now();
        if self.comm.rank() != 0 || now.since(self.last_progress.0) < Duration::from_millis(200) {
            return;
        }
        let epochs = (clock + 1).saturating_sub(self.rounds) as f64 / self.clocks_per_epoch as f64;
        let seconds = self.seconds + now.since(self.running_since).as_secs_f64();
        let rate = (epochs - self.last_progress.1).max(0.0) * self.source.shape.samples as f64
            / now.since(self.last_progress.0).as_secs_f64();
        self.last_progress = (now, epochs);
        self.observer.event(&Event::Progress { seconds, epochs, samples_per_second: rate });
    }

    /// All lanes are at the end of epoch `self.epochs`: evaluates, tells, saves, and says why to end, if so.
    fn synchronise(&mut self) -> Result<Option<String>> {
        self.seconds += self.comm.now().since(self.running_since).as_secs_f64();
        let metrics = self.evaluate()?;
        let Gathered { workers, report, bytes_sent, is_interrupted } = self.gather_times()?;
        let named: BTreeMap<String, f64> =
            metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        if self.comm.rank() == 0 {
            let (seconds, epochs) = (self.seconds, self.epochs);
            self.observer.event(&Event::Evaluated {
                seconds,
                epochs,
                metrics: named.clone(),
                workers,
                report,
                bytes_sent,
            });
        }
        self.check_divergence(&named)?;
        let mut decision = self.decide(&metrics, &named, is_interrupted)?;
        let decided = self.comm.broadcast(0, Message::new(&(self.seconds, &decision), Buffer::new()))?;
        (self.seconds, decision) = decided.head()?;
        if decision.checkpoint {
            self.save()?;
        }
        self.running_since = self.comm.now();
        self.last_progress.0 = self.running_since;
        Ok(decision.end)
    }

    fn evaluate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for lane in &self.lanes {
            let (mut on_train, mut on_test) = (Sums::default(), Sums::default());
            for (block, local) in lane.blocks.iter().zip(&lane.locals) {
                self.algorithm.measure(block, &self.params, local.as_ref(), &mut on_train);
            }
            lane.test
                .iter()
                .for_each(|block| self.algorithm.measure(block, &self.params, None, &mut on_test));
            train.push((Node::leaf(lane.number), on_train));
            test.push((Node::leaf(lane.number), on_test));
        }
        let train = reduce_sums(self.comm, self.run.lanes, train)?;
        let test = match self.source.test.is_some() {
            true => Some(reduce_sums(self.comm, self.run.lanes, test)?),
            false => None,
        };
        Ok(self.algorithm.metrics(&train, test.as_ref(), &self.params))
    }

    fn gather_times(&mut self) -> Result<Gathered> {
        let report = self.strategy.report();
        self.times.blocked_seconds = report.blocked_seconds;
        // What the system says of this process is no part of a simulated story, which replays to the byte.
        let rss_mb = if self.comm.is_simulated() { 0.0 } else { peak_rss_mb() };
        self.times.peak_rss_mb = rss_mb;
        let own = (&self.times, &report, self.comm.bytes_sent(), INTERRUPTED.load(Ordering::Relaxed));
        let all = self.comm.all_gather(Message::new(&own, Buffer::new()))?;
        let mut all_workers = Gathered::default();
        for message in all {
            let (times, report, sent, interrupted): (WorkerTimes, Report, u64, bool) = message.head()?;
            all_workers.workers.push(times);
            all_workers.report.merge(&report);
            all_workers.bytes_sent += sent;
            all_workers.is_interrupted |= interrupted;
        }
        Ok(all_workers)
    }

    /// A loss that is no number, or a thousand times the first one and rising, ends the run on all ranks alike.
    fn check_divergence(&mut self, metrics: &BTreeMap<String, f64>) -> Result<()> {
        let bad = metrics.iter().find(|(name, value)| name.starts_with("train") && !value.is_finite());
        let loss = metrics.get("train_objective").copied().unwrap_or(0.0);
        self.losses.push(loss);
        let exploded = self.losses.len() > 1 && loss > 1e3 * self.losses[0].abs().max(1e-30);
        let (name, value) = match (bad, exploded) {
            (Some((name, value)), _) => (name.as_str(), *value),
            (None, true) => ("train_objective", loss),
            (None, false) => return Ok(()),
        };
        Err(Error::Diverged(format!(
            "{} diverged in epoch {}: {name} is {value}; {}",
            A::NAME,
            self.epochs,
            A::DIVERGED_ADVICE
        )))
    }

    /// `error` with what is left of a run that diverged.
    fn with_last_checkpoint(error: Error, epochs: usize) -> Error {
        match error {
            Error::Diverged(text) if epochs == 0 => {
                Error::Diverged(format!("{text}; no checkpoint was written before"))
            }
            Error::Diverged(text) => {
                Error::Diverged(format!("{text}; the checkpoint of epoch {epochs} is kept"))
            }
            other => other,
        }
    }

    fn decide(
        &mut self,
        metrics: &[(&'static str, f64)],
        named: &BTreeMap<String, f64>,
        is_interrupted: bool,
    ) -> Result<Decision> {
        let stop = &self.run.stop;
        self.check_target(named)?;
        let end = if stop
            .until
            .as_ref()
            .is_some_and(|until| named.get(&until.metric).is_some_and(|value| until.reached(*value)))
        {
            Some("until")
        } else if self.algorithm.converged(metrics) {
            Some("converged")
        } else if is_interrupted {
            Some("interrupted")
        } else if stop.seconds.is_some_and(|limit| self.seconds >= limit) {
            Some("seconds")
        } else {
            None
        };
        let policy = &self.run.checkpoint;
        let (epochs, seconds) = self.last_checkpoint;
        let due = (policy.epochs > 0 && self.epochs >= epochs + policy.epochs)
            || policy.seconds.is_some_and(|every| self.seconds - seconds >= every);
        let wanted = policy.epochs > 0 || policy.seconds.is_some();
        let last = end.is_some() || self.epochs >= stop.epochs;
        let checkpoint = self.run.out.is_some() && (due || end == Some("interrupted") || (wanted && last));
        Ok(Decision { end: end.map(String::from), checkpoint })
    }

    fn save(&mut self) -> Result<()> {
        let start = self.comm.now();
        let mut states = Vec::new();
        for lane in &self.lanes {
            let mut locals = Vec::new();
            for (block, local) in lane.blocks.iter().zip(&lane.locals) {
                let bytes =
                    postcard::to_stdvec(local).map_err(|e| Error::Damaged(format!("local state: {e}")))?;
                locals.push((block.id, bytes));
            }
            let rows = LaneState::take_rows(&self.params, lane.rows.clone());
            states.push((lane.number, LaneState { locals, rows }));
        }
        let position = (self.epochs, self.seconds);
        let path =
            checkpoint::write(self.comm, self.run, &self.source.fingerprint, position, &self.params, states)?;
        self.last_checkpoint = position;
        if let (0, Some(path)) = (self.comm.rank(), path) {
            let folder = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let seconds = self.comm.now().since(start).as_secs_f64();
            self.observer.event(&Event::Checkpoint { epochs: self.epochs, folder, seconds });
        }
        Ok(())
    }

    fn restore(&mut self, found: &Found) -> Result<()> {
        let (then, place) = (&found.manifest.run, found.folder().display());
        let given = |run: &Run| {
            let settings = serde_json::to_string(&run.settings).unwrap_or_default();
            [
                ("the model", run.model.clone()),
                ("--lanes", run.lanes.to_string()),
                ("--seed", run.seed.to_string()),
                ("the settings", settings),
            ]
        };
        for ((what, then), (_, now)) in given(then).into_iter().zip(given(self.run)) {
            if then != now {
                return Err(Error::Usage(format!(
                    "--resume: {what} of this run: {now}; {place} was written with {then}; go on with the same"
                )));
            }
        }
        if found.manifest.data != self.source.fingerprint {
            return Err(Error::Usage(format!(
                "--resume: {} and how it is read make other training data than those of {place} ({}); go on with the same",
                self.run.train, then.train
            )));
        }
        found.load_tables(&mut self.params)?;
        self.params.replicas.iter_mut().for_each(Replica::rebase);
        for lane in &mut self.lanes {
            let state = found.load_lane(lane.number, &mut self.params)?;
            for (index, block) in lane.blocks.iter().enumerate() {
                let bytes = state.locals.iter().find(|(id, _)| *id == block.id).map(|(_, bytes)| bytes);
                let local = bytes.and_then(|bytes| postcard::from_bytes(bytes).ok()).flatten();
                let missing = || Error::Damaged(format!("{place}: no local state of block {}", block.id));
                lane.locals[index] = Some(local.ok_or_else(missing)?);
            }
        }
        (self.epochs, self.seconds) = (found.manifest.epochs, found.manifest.seconds);
        self.last_checkpoint = (self.epochs, self.seconds);
        Ok(())
    }

    fn announce(&mut self, resumed: bool, complaints: &[String]) {
        if self.comm.rank() != 0 {
            return;
        }
        let event = Event::Started {
            run: Box::new(self.run.clone()),
            version: env!("CARGO_PKG_VERSION").into(),
            isa: crate::isa::level().word().into(),
            unix_seconds: dunlin_comm::time::unix_seconds(),
            clocks_per_epoch: self.clocks_per_epoch,
            samples: self.source.shape.samples,
            resumed_epochs: if resumed { self.epochs } else { 0 },
        };
        self.observer.event(&event);
        for complaint in complaints {
            let text = format!("{complaint}; going on from an older checkpoint, of epoch {}", self.epochs);
            self.observer.event(&Event::Warning { text });
        }
    }

    /// Brings the rows of example tables to rank 0, saves the model, and says what came out.
    fn finish(mut self, reason: String) -> Result<Outcome> {
        let metrics = self.evaluate()?;
        let metrics = metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let Gathered { workers, report, bytes_sent, .. } = self.gather_times()?;
        let own: Vec<_> =
            self.lanes.iter().flat_map(|l| LaneState::take_rows(&self.params, l.rows.clone())).collect();
        for message in self.comm.gather(0, Message::new(&own, Buffer::new()))? {
            for (table, first, bytes) in message.head::<Vec<(u16, u64, Vec<u8>)>>()? {
                if let Some(replica) = self.params.replicas.get_mut(usize::from(table)) {
                    replica.set_row_bytes(first as usize, &bytes);
                }
            }
        }
        let mut processes = BTreeMap::new();
        processes.extend(workers.iter().map(|worker| (worker.process, worker.peak_rss_mb)));
        if self.comm.is_simulated() {
            processes.insert(0, peak_rss_mb());
        }
        let peak_rss_mb_per_process: Vec<f64> = processes.into_values().collect();
        let outcome = Outcome {
            reason: reason.clone(),
            epochs: self.epochs,
            seconds: self.seconds,
            blocked_seconds: report.blocked_seconds,
            metrics,
            bytes_sent,
            samples_per_second: (self.epochs * self.source.shape.samples) as f64 / self.seconds.max(1e-9),
            clocks_per_epoch: self.clocks_per_epoch,
            peak_rss_mb: peak_rss_mb_per_process.iter().sum(),
            peak_rss_mb_per_process,
            report,
        };
        if self.comm.rank() == 0 {
            self.observer.finished(&self.params, self.source)?;
            self.observer.event(&Event::Ended { reason, outcome: Box::new(outcome.clone()) });
        }
        self.comm.barrier()?;
        Ok(outcome)
    }
}

/// What all workers together have to say at a synchronisation point.
#[derive(Default)]
struct Gathered {
    workers: Vec<WorkerTimes>,
    report: Report,
    bytes_sent: u64,
    /// The user has asked one of the processes to stop.
    is_interrupted: bool,
}

/// What rank 0 decides at a synchronisation point.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Decision {
    end: Option<String>,
    checkpoint: bool,
}

/// Takes the blocks of `lane` out of the source.
fn take_lane<L>(source: &Source, lanes: usize, lane: usize) -> Lane<L> {
    let take = |blocks: &Mutex<Vec<Option<Block>>>| {
        let mut blocks = lock(blocks);
        let range = share(blocks.len(), lanes, lane);
        blocks[range].iter_mut().filter_map(Option::take).collect::<Vec<Block>>()
    };
    let blocks = take(&source.train);
    let test = source.test.as_ref().map(take).unwrap_or_default();
    let rows = blocks.first().map_or(0, |b| b.first_row)..blocks.last().map_or(0, |b| b.end_row);
    let locals = blocks.iter().map(|_| None).collect();
    Lane { number: lane, blocks, locals, test, rows }
}
