//! The parameter server as a worker sees it: `bsp`, `ssp`, `essp`, `asp`.
//!
//! A lane works a clock on the worker's tables; then its updates are taken and pushed to the shards that own
//! the chunks. Under `bsp` the tables go back to what they were until the shards send the sum of all lanes.
//! Under the others the worker keeps its own updates in view, holds on to those that a shard has not yet
//! confirmed, and lays them over every value that arrives, so that a lane always reads its own writes. With a budget of
//! bytes, updates go out and come in in the middle of a clock too (`early`).

mod early;
mod sending;
mod shards;

pub use shards::{install_shards, place_shards};

use super::server::{FROM_SHARD, FromShard, ToShard};
use super::{Lanes, Report, Strategy, StrategySpec, Task};
use crate::codec::{Entry, Part, add_neighbours};
use crate::table::{Axis, Params, Replica};
use crate::transfer::{Format, Transfer};
use crate::update::{Afterwards, Carry, Geometry};
use crate::{Result, Sums};
use dunlin_comm::collective::Node;
use dunlin_comm::{Buffer, Comm, Message, Time};
use early::Budget;
use std::sync::Arc;

/// How reads are kept fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reads {
    /// Exactly the clocks before.
    LockStep,
    /// Pull what is too old.
    Pull,
    /// Wait for what the shards push.
    Pushed,
    /// Pull without waiting.
    Unbounded,
}

/// What this worker knows of one table at one shard.
#[derive(Clone, Debug)]
struct View {
    version: u64,
    committed: Vec<u64>,
    /// Early messages of the clock after those, by lane; empty if there are none.
    early: Vec<u32>,
    asked: bool,
}

/// An update of a hosted lane that is on its way.
#[derive(Debug)]
struct Own {
    lane: usize,
    clock: u64,
    /// Which of the clock's early messages to its shard it is; the last one of the clock has the largest number.
    number: u32,
    part: Part,
}

impl View {
    /// True if the values hold `own`.
    fn has(&self, own: &Own) -> bool {
        let early = self.early.get(own.lane).copied().unwrap_or(0);
        (own.clock, own.number) < (self.committed[own.lane], early)
    }
}

/// The state of the strategy on one worker.
#[derive(Debug)]
pub struct ParameterServer {
    reads: Reads,
    staleness: Vec<u64>,
    geometry: Vec<Geometry>,
    lanes: usize,
    shard_ranks: Vec<usize>,
    /// Lock-step: updates of hosted lanes in the current clock, by shard.
    updates: Vec<Vec<(Node, Part)>>,
    hosted: std::ops::Range<usize>,
    /// How updates travel, by table, and what rounding has left of them, by hosted lane.
    formats: Vec<Format>,
    carries: Vec<Carry>,
    /// Lock-step: the first clock that is not yet in the tables, and the sums that arrived: clock, shard, lanes.
    ready: u64,
    combined: Vec<(u64, u16, Node, Part)>,
    /// By shard, by table.
    views: Vec<Vec<View>>,
    /// By shard: own updates that are not yet in its values.
    unconfirmed: Vec<Vec<Own>>,
    /// If updates may go out early.
    budget: Option<Budget>,
    shared_tables: Vec<usize>,
    /// Buffers to use again.
    spare: Vec<Buffer>,
    report: Report,
}

impl ParameterServer {
    /// Installs this rank's shards and returns the worker's side. `shard_ranks` are the ranks that have a
    /// shard, in the order of shard numbers; `clock` is the clock from which the run goes on.
    pub fn new(
        spec: &StrategySpec,
        comm: &mut Comm,
        params: &Params,
        workers: usize,
        lanes: &Lanes,
        shard_ranks: Vec<usize>,
        clock: u64,
    ) -> ParameterServer {
        let geometry = params.geometry();
        install_shards(spec, comm, params, workers, lanes.total, &shard_ranks, clock);
        let (reads, bound) = match spec {
            StrategySpec::Ssp(staleness) => (Reads::Pull, Some(staleness)),
            StrategySpec::Essp(staleness) => (Reads::Pushed, Some(staleness)),
            StrategySpec::Asp => (Reads::Unbounded, None),
            StrategySpec::Bsp
            | StrategySpec::AllReduce
            | StrategySpec::Rotation
            | StrategySpec::RotationAsync
            | StrategySpec::Scheduled(_) => (Reads::LockStep, None),
        };
        let name = |replica: &Replica| bound.map_or(u64::MAX, |bound| bound.of(&replica.spec.name));
        let shards = shard_ranks.len();
        let view = View { version: 0, committed: vec![clock; lanes.total], early: Vec::new(), asked: false };
        let shared = |table: &usize| params.replicas[*table].spec.axis != Axis::Example;
        ParameterServer {
            reads,
            staleness: params.replicas.iter().map(name).collect(),
            lanes: lanes.total,
            updates: vec![Vec::new(); shards],
            hosted: lanes.hosted.clone(),
            formats: vec![Format::F32; geometry.len()],
            carries: lanes.hosted.clone().map(|_| Carry::default()).collect(),
            ready: clock,
            combined: Vec::new(),
            views: vec![vec![view; geometry.len()]; shards],
            unconfirmed: (0..shards).map(|_| Vec::new()).collect(),
            budget: None,
            shared_tables: (0..geometry.len()).filter(shared).collect(),
            geometry,
            shard_ranks,
            spare: Vec::new(),
            report: Report::default(),
        }
    }

    /// The same, with updates that travel as `transfer` says.
    pub fn with_transfer(self, transfer: &Transfer, params: &Params) -> ParameterServer {
        let specs = || params.replicas.iter().map(|replica| &replica.spec);
        let formats = specs().map(|spec| transfer.of(spec)).collect();
        let carries = self.hosted.clone().map(|_| Carry::new(transfer, specs())).collect();
        ParameterServer { formats, carries, ..self }
    }

    /// The same, with `bytes_per_second` that each of `workers` workers may send to have updates travel early.
    pub fn with_budget(self, bytes_per_second: Option<u64>, workers: usize) -> ParameterServer {
        let shards = self.shard_ranks.len();
        // An update goes to its shard and on to all others; one of these ways is within a rank, if workers have shards.
        let copies = if self.shard_ranks.iter().any(|rank| *rank < workers) { workers - 1 } else { workers };
        let budget = bytes_per_second.map(|bytes| Budget::new(bytes, copies, shards));
        ParameterServer { budget, ..self }
    }

    /// The carry of a hosted lane.
    pub fn carry_mut(&mut self, lane: usize) -> &mut Carry {
        &mut self.carries[lane - self.hosted.start]
    }

    /// Takes in one message of a shard.
    fn take_in(&mut self, mut message: Message, params: &mut Params) -> Result<()> {
        match message.head()? {
            FromShard::Combined { shard, clock, lanes, entries } => {
                let part = Part::received(&mut message, entries, &self.geometry)?;
                self.combined.push((clock, shard, lanes, part));
            }
            FromShard::Fresh { shard, table, version, committed, early, answer, entries } => {
                let (shard, table) = (usize::from(shard), usize::from(table));
                let known = self.views.get(shard).is_some_and(|tables| table < tables.len());
                if !known || committed.len() != self.lanes || ![0, self.lanes].contains(&early.len()) {
                    return Err(message.bad(format!("values of table {table} from shard {shard}")).into());
                }
                let part = Part::received(&mut message, entries, &self.geometry)?;
                let view = View { version, committed, early, asked: false };
                self.refresh(shard, table, view, answer, &part, params);
            }
            FromShard::Early { shard, version, entries } => {
                let part = Part::received(&mut message, entries, &self.geometry)?;
                let Some(views) = self.views.get(usize::from(shard)) else {
                    return Err(message.bad(format!("updates from shard {shard}")).into());
                };
                // What values have arrived with meanwhile is not added again.
                let is_new = |entry: &Entry| views[usize::from(entry.table)].version < version;
                params.add_under(&part, is_new, &self.geometry);
            }
        }
        Ok(())
    }

    /// Puts newer values of a table into view, with the worker's own unconfirmed updates on top.
    fn refresh(
        &mut self,
        shard: usize,
        table: usize,
        new: View,
        answer: bool,
        part: &Part,
        params: &mut Params,
    ) {
        let view = &mut self.views[shard][table];
        let asked = view.asked & !answer;
        if new.version < view.version {
            view.asked = asked;
            return; // a newer push overtook this answer
        }
        *view = View { asked, ..new };
        let is_within = self.budget.is_some(); // a lane may be in the middle of a clock
        match is_within {
            true => params.set_under(part, &self.geometry),
            false => params.set(part, &self.geometry),
        }
        let in_part =
            |entry: &Entry| part.entries.binary_search_by_key(&entry.key(), |entry| entry.key()).is_ok();
        for own in self.unconfirmed[shard].iter().filter(|own| !view.has(own)) {
            match is_within {
                true => params.add_under(&own.part, in_part, &self.geometry),
                false => params.add_part(&own.part, in_part, &self.geometry),
            }
        }
        let (views, tables) = (&self.views[shard], &self.shared_tables);
        self.unconfirmed[shard].retain(|own| tables.iter().any(|table| !views[*table].has(own)));
    }

    /// Lock-step: once all shards have sent the sums of clock `ready`, adds them.
    fn advance(&mut self, params: &mut Params) -> bool {
        let now = self.combined.iter().filter(|(clock, ..)| *clock == self.ready);
        let lanes: usize = now.map(|(_, _, lanes, _)| (lanes.end - lanes.start) as usize).sum();
        if lanes < self.lanes * self.shard_ranks.len() {
            return false;
        }
        let ready = self.ready;
        let mut now: Vec<_> = self.combined.extract_if(.., |(clock, ..)| *clock == ready).collect();
        now.sort_by_key(|(_, shard, lanes, _)| (*shard, lanes.start));
        for shard in now.chunk_by_mut(|left, right| left.1 == right.1) {
            let parts: Vec<_> =
                shard.iter_mut().map(|(_, _, lanes, part)| (*lanes, std::mem::take(part))).collect();
            params.add(&parts, &self.geometry); // shards own different chunks: their order does not matter
            // The last worker that lets go of a sum gets its memory for the next clock's updates.
            let buffers = parts.into_iter().filter_map(|(_, part)| Arc::into_inner(part.body));
            self.spare.extend(buffers);
        }
        self.spare.truncate(2 * self.shard_ranks.len());
        self.ready += 1;
        true
    }

    /// The tables and shards whose values do not yet hold `wanted(table)` clocks of every lane.
    fn too_old(&self, wanted: impl Fn(usize) -> u64) -> Vec<(usize, usize)> {
        let mut old = Vec::new();
        for (shard, tables) in self.views.iter().enumerate() {
            for table in self.shared_tables.iter().copied() {
                if tables[table].committed.iter().any(|committed| *committed < wanted(table)) {
                    old.push((shard, table));
                }
            }
        }
        old
    }

    fn pull(&mut self, comm: &mut Comm, shard: usize, table: usize, wanted: u64) -> Result<()> {
        let view = &mut self.views[shard][table];
        if view.asked {
            return Ok(());
        }
        view.asked = true;
        let head = ToShard::Pull { shard: shard as u16, table: table as u16, wanted, version: view.version };
        Ok(comm.call(self.shard_ranks[shard], Message::new(&head, Default::default()))?)
    }

    /// Waits for the next message of a shard and takes it in.
    fn wait(&mut self, comm: &mut Comm, params: &mut Params, what: &str) -> Result<()> {
        let start = comm.now();
        let message = comm.recv(FROM_SHARD, None, what);
        self.report.blocked_seconds += comm.now().since(start).as_secs_f64();
        self.take_in(message?, params)
    }

    /// Takes in whatever has arrived.
    fn look(&mut self, comm: &mut Comm, params: &mut Params) -> Result<()> {
        comm.poll()?;
        while let Some(message) = comm.recv_deadline(FROM_SHARD, None, Time(0))? {
            self.take_in(message, params)?;
        }
        Ok(())
    }

    /// Waits until every table's values hold `wanted(table)` clocks of every lane.
    fn wait_until_fresh(
        &mut self,
        comm: &mut Comm,
        params: &mut Params,
        pull: bool,
        wanted: impl Fn(usize) -> u64,
    ) -> Result<()> {
        loop {
            let old = self.too_old(&wanted);
            let Some((shard, table)) = old.first().copied() else { return Ok(()) };
            if pull {
                for (shard, table) in old {
                    self.pull(comm, shard, table, wanted(table))?;
                }
            }
            let committed = self.views[shard][table].committed.iter().enumerate();
            let slowest = committed.min_by_key(|(lane, clock)| (**clock, *lane)).unwrap_or((0, &0));
            let (wanted, name) = (wanted(table), &params.replicas[table].spec.name);
            let what = format!(
                "clock {wanted} of table {name} at shard {shard}; lane {} is furthest behind, last seen at clock {}",
                slowest.0, slowest.1
            );
            self.wait(comm, params, &what)?;
        }
    }

    /// Counts the staleness of what `lane` will read in `clock`.
    fn observe(&mut self, lane: usize, clock: u64, params: &Params) {
        for table in &self.shared_tables {
            let name = &params.replicas[*table].spec.name;
            let histogram = self.report.staleness.entry(name.clone()).or_default();
            if self.reads == Reads::LockStep {
                *histogram.entry(0).or_default() += (self.lanes - 1) as u64;
                continue;
            }
            for view in self.views.iter().map(|tables| &tables[*table]) {
                for (_, committed) in view.committed.iter().enumerate().filter(|(other, _)| *other != lane) {
                    *histogram.entry(clock as i64 - *committed as i64).or_default() += 1;
                }
            }
        }
    }
}

impl Strategy for ParameterServer {
    fn next(&mut self, comm: &mut Comm, params: &mut Params, lanes: &Lanes, until: u64) -> Result<Task> {
        let Some((lane, clock)) = lanes.slowest() else { return Ok(Task::Reached) };
        match self.reads {
            Reads::LockStep => {
                while clock > self.ready {
                    if !self.advance(params) {
                        let what = format!("the end of clock {} on all lanes", self.ready);
                        self.wait(comm, params, &what)?;
                    }
                }
                if clock >= until {
                    return Ok(Task::Reached);
                }
            }
            _ if clock >= until => return Ok(Task::Reached),
            Reads::Pull | Reads::Pushed => {
                self.look(comm, params)?;
                let bounds = self.staleness.clone();
                let pull = self.reads == Reads::Pull;
                self.wait_until_fresh(comm, params, pull, |table| clock.saturating_sub(bounds[table]))?;
            }
            Reads::Unbounded => {
                self.look(comm, params)?;
                for shard in 0..self.shard_ranks.len() {
                    for table in self.shared_tables.clone() {
                        self.pull(comm, shard, table, 0)?;
                    }
                }
                self.look(comm, params)?;
            }
        }
        self.budget.iter_mut().for_each(|budget| budget.begin(comm));
        self.observe(lane, clock, params);
        Ok(Task::Work { lane, row_block: 0, clock })
    }

    fn done(&mut self, comm: &mut Comm, params: &mut Params, lane: usize, clock: u64, _: Sums) -> Result<()> {
        let shards = self.shard_ranks.len();
        if self.reads != Reads::LockStep {
            let parts = self.take(params, lane, Afterwards::Keep);
            for (shard, part) in parts.into_iter().enumerate() {
                self.send(comm, shard, Node::leaf(lane), clock, part.clone())?;
                self.unconfirmed[shard].push(Own { lane, clock, number: u32::MAX, part });
            }
            return Ok(());
        }
        let last = self.updates[0].len() + 1 == self.hosted.len();
        let afterwards = if last { Afterwards::Leave } else { Afterwards::Restore };
        let parts = self.take(params, lane, afterwards);
        for (updates, part) in self.updates.iter_mut().zip(parts) {
            updates.push((Node::leaf(lane), part));
        }
        for shard in 0..if last { shards } else { 0 } {
            let updates = std::mem::take(&mut self.updates[shard]);
            for (lanes, part) in add_neighbours(updates, self.lanes, &self.geometry, &mut self.spare) {
                self.send(comm, shard, lanes, clock, part)?;
            }
        }
        Ok(())
    }

    fn within(&mut self, comm: &mut Comm, params: &mut Params, lane: usize, clock: u64) -> Result<()> {
        if self.budget.is_none() {
            return Ok(());
        }
        self.look(comm, params)?;
        let Some(budget) = &mut self.budget else { return Ok(()) };
        budget.look(comm);
        match budget.worth() {
            Some(bytes) => self.send_early(comm, params, (lane, clock), bytes),
            None => Ok(()),
        }
    }

    fn drain(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        self.budget.iter_mut().for_each(|budget| budget.rest(comm));
        if self.reads == Reads::LockStep {
            return Ok(()); // `next` says that the clock is reached only when all sums have been added
        }
        // An answer that was asked for before may hold too little; it is taken in like any other.
        self.wait_until_fresh(comm, params, true, |_| clock)?;
        while self.views.iter().flatten().any(|view| view.asked) {
            self.wait(comm, params, "answers to earlier pulls")?;
        }
        self.unconfirmed.iter_mut().for_each(Vec::clear);
        Ok(comm.barrier()?)
    }

    fn carries(&self, lane: usize) -> Vec<(u16, &[u8])> {
        self.carries[lane - self.hosted.start].bytes().collect()
    }

    fn blocked_seconds(&self) -> f64 {
        self.report.blocked_seconds
    }

    fn report(&self) -> Report {
        let mut report = self.report.clone();
        if let Some(budget) = &self.budget {
            [report.managed.budget_bytes, report.managed.used_bytes] = budget.totals;
        }
        report
    }
}
