//! `scheduled`: a clock is a round in which some variables are updated.
//!
//! Every worker schedules for itself, from the same sums. Each lane adds the shares of its blocks to the partial sums of
//! the round's variables; those of all lanes are added along the lane tree, and every worker applies the rule to the
//! same sum. So no pick, value or change is ever sent: a round is one reduction of a few numbers a variable.
//!
//! With depth 1 that is an all-reduce a round. With depth d a worker sends its sums and goes on: it waits for those of
//! round t − d only when it begins round t. The clocks of `begin` are those of `allreduce`. With one lane nothing is
//! sent, and the variables of a round are updated one after the other.

use super::allreduce::AllReduce;
use super::solo::Solo;
use super::{Lanes, Report, Strategy, Task};
use crate::channel::SCHEDULE;
use crate::schedule::{Change, Exchange, Pipeline, Plan, Round, Scheduler};
use crate::table::{Params, Replica, Storage, TableSpec, Type};
use crate::{Result, Sums};
use dunlin_comm::collective::{Folder, Node, Op};
use dunlin_comm::{Buffer, Comm, Message};
use std::collections::VecDeque;
use std::sync::Arc;

/// The table in which the state of the schedulers is checkpointed.
pub const TABLE: &str = "schedule";

/// Adds the table of the schedulers' state to those of the model.
pub fn add_table(params: &mut Params, plan: &Plan) {
    if params.replicas.last().is_none_or(|last| last.spec.name != TABLE) {
        let spec = TableSpec::new(TABLE, Scheduler::rows(plan), 2).element(Type::F64).working();
        params.replicas.push(Replica::new(spec, false));
    }
}

/// Partial sums of a round by this worker's lanes, as far as they are added up.
type Parts = Vec<(Node, Arc<Buffer>)>;

/// The state of the strategy on one worker.
pub struct Scheduled {
    lanes: usize,
    /// The last of the lanes of this worker.
    last: usize,
    workers: usize,
    /// Numbers that a variable's partial sums have.
    partials: usize,
    exchange: Option<Box<dyn Exchange>>,
    plan: Plan,
    pipeline: Pipeline,
    /// The strategy of the clocks of `begin`, of which there are so many, and how many have ended.
    start: Box<dyn Strategy>,
    start_clocks: u64,
    started: u64,
    is_settled: bool,
    /// The clock of the round that is next.
    next: u64,
    /// Lanes that have not been in a round.
    unprepared: Vec<usize>,
    /// The round that lanes work on, and the numbers that they add up for its picks and pairs.
    round: Round,
    numbers: [usize; 2],
    own: Folder<Buffer>,
    /// This worker's sums of rounds on their way.
    sent: VecDeque<Parts>,
    /// The sums of all lanes of the oldest round on its way, once they are there.
    sums: Option<Arc<Buffer>>,
    /// What blocks are still to be told.
    changes: Vec<Change>,
    report: Report,
}

impl Scheduled {
    /// For the tables `params` and `lanes`, which have all done `clock` clocks, of which `start_clocks` are those of
    /// `begin`. `partials` is the number of partial sums of a variable.
    pub fn new(
        params: &Params,
        plan: &Plan,
        workers: usize,
        lanes: &Lanes,
        partials: usize,
        seed: u64,
        [start_clocks, clock]: [u64; 2],
    ) -> Scheduled {
        let start: Box<dyn Strategy> = match lanes.total {
            1 => Box::new(Solo::default()),
            _ => Box::new(AllReduce::new(params, lanes, clock)),
        };
        let state = params.replicas.last().filter(|last| last.spec.name == TABLE).map(|last| &last.values);
        let state = match state {
            Some(Storage::F64(lines)) => lines.as_slice().as_chunks().0,
            _ => &[],
        };
        Scheduled {
            lanes: lanes.total,
            last: lanes.hosted.end.saturating_sub(1),
            workers,
            partials,
            exchange: None,
            plan: plan.clone(),
            pipeline: Pipeline::new(plan, seed, state),
            start,
            start_clocks,
            started: clock.min(start_clocks),
            is_settled: false,
            next: clock.max(start_clocks),
            unprepared: lanes.hosted.clone().collect(),
            round: Round::default(),
            numbers: [0; 2],
            own: Folder::new(lanes.total),
            sent: VecDeque::new(),
            sums: None,
            changes: Vec::new(),
            report: Report::default(),
        }
    }

    /// The same with what the model makes of the numbers of a round.
    pub fn with_exchange(self, exchange: Option<Box<dyn Exchange>>) -> Scheduled {
        Scheduled { exchange, ..self }
    }

    /// From here on all that is written is the same everywhere: no table needs a base.
    fn settle(&mut self, params: &mut Params) {
        self.report.blocked_seconds += self.start.blocked_seconds();
        (self.start, self.is_settled) = (Box::new(Solo::default()), true);
        for replica in &mut params.replicas {
            (replica.tracked, replica.left) = (false, Vec::new());
            replica.base = Storage::zeroed(replica.spec.element, 0);
        }
        add_table(params, &self.plan);
    }

    /// The round that lanes work on, and what blocks are to be told before.
    pub fn current(&self) -> (&Round, &[Change]) {
        (&self.round, &self.changes)
    }

    /// True if the current round is the first that `lane` takes part in since the start of this program.
    pub fn is_first_of(&mut self, lane: usize) -> bool {
        let is_first = self.unprepared.contains(&lane);
        self.unprepared.retain(|other| *other != lane);
        is_first
    }

    /// Numbers that lanes add up for the picks of the current round, and behind them for its pairs.
    pub fn numbers(&self) -> [usize; 2] {
        self.numbers
    }

    fn begin(&mut self, number: u64, params: &Params) {
        let round = self.pipeline.begin(number);
        self.numbers = match &self.exchange {
            Some(exchange) => exchange.numbers(round, params),
            None => [round.picks.len() * self.partials, round.pairs.len()],
        };
        self.round.clone_from(round);
    }

    /// Lane `lane` has worked out its partial sums of the current round.
    pub fn push(&mut self, lane: usize, sums: Buffer) {
        self.own.push(Node::leaf(lane), sums, add);
    }

    /// All blocks of this worker know of all changes.
    pub fn all_told(&mut self) {
        self.changes.clear();
    }

    /// The oldest round on its way and the sums of all lanes, if they are there: the rule is to be applied to them.
    pub fn take_sums(&mut self) -> Option<(Round, Arc<Buffer>)> {
        let sums = self.sums.take()?;
        Some((self.pipeline.oldest().cloned().unwrap_or_default(), sums))
    }

    /// The rule has been applied to the oldest round on its way, whose products are `products`.
    pub fn end(&mut self, products: &[f64], changes: &[Change]) {
        self.pipeline.end(products, changes);
        self.changes.extend(changes.iter().filter(|change| change.old != change.new));
    }

    /// The sums of all lanes of the oldest round that was sent.
    fn receive(&mut self, comm: &mut Comm) -> Result<Arc<Buffer>> {
        let parts = self.sent.pop_front().unwrap_or_default();
        let number = self.pipeline.oldest().map_or(0, |round| round.number);
        let length = parts.first().map_or(0, |(_, sums)| sums.len() / size_of::<f64>());
        if self.workers == 1 {
            return Ok(parts.into_iter().next().map(|(_, sums)| sums).unwrap_or_default());
        }
        if self.plan.depth == 1 {
            let own = |(node, sums): (Node, Arc<Buffer>)| (node, Arc::unwrap_or_clone(sums));
            let parts = parts.into_iter().map(own).collect();
            return Ok(comm.all_reduce_tree::<f64>(parts, self.lanes, length, Op::Sum)?);
        }
        let (mut all, rank) = (parts, comm.rank());
        for from in (0..self.workers).filter(|from| *from != rank) {
            self.receive_from(comm, from, number, length, &mut all)?;
        }
        all.sort_by_key(|(node, _)| node.start);
        let mut folder = Folder::new(self.lanes);
        all.into_iter().for_each(|(node, sums)| folder.push(node, Arc::unwrap_or_clone(sums), add));
        match folder.into_parts().pop() {
            Some((node, sums)) if node.start == 0 && node.end as usize == self.lanes => Ok(Arc::new(sums)),
            _ => Err(dunlin_comm::Error::BadMessage {
                from: 0,
                what: format!(
                    "the partial sums of round {number} do not cover {} lanes once each",
                    self.lanes
                ),
            }
            .into()),
        }
    }

    /// What the partial sums and products of the oldest round are, given what was added up over all lanes.
    fn unpack(&self, sums: Arc<Buffer>, params: &mut Params) -> Arc<Buffer> {
        let (Some(exchange), Some(round)) = (&self.exchange, self.pipeline.oldest()) else { return sums };
        let numbers = sums.slice(0, sums.len() / size_of::<f64>()).unwrap_or_default();
        let unpacked = exchange.receive(round, numbers, params);
        let mut buffer = Buffer::zeroed(unpacked.len() * size_of::<f64>());
        buffer.slice_mut(0, unpacked.len()).unwrap_or_default().copy_from_slice(&unpacked);
        Arc::new(buffer)
    }

    /// The parts of worker `from` of a round, which come in the order of rounds.
    fn receive_from(
        &mut self,
        comm: &mut Comm,
        from: usize,
        number: u64,
        length: usize,
        all: &mut Parts,
    ) -> Result<()> {
        let what = format!("the partial sums of round {number} from rank {from}");
        let mut missing = None;
        while missing != Some(0) {
            let message = comm.recv(SCHEDULE, Some(from), &what)?;
            let (sent, node, count): (u64, Node, u32) = message.head()?;
            if sent != number {
                return Err(message.bad(format!("partial sums of round {sent}, not {number}")).into());
            }
            message.numbers::<f64>(0, length)?;
            missing = Some(missing.unwrap_or(count).saturating_sub(1));
            all.push((node, message.body));
        }
        Ok(())
    }

    /// All lanes of this worker have done their part of the current round.
    fn send(&mut self, comm: &mut Comm) -> Result<()> {
        let own = std::mem::replace(&mut self.own, Folder::new(self.lanes)).into_parts();
        let own: Parts = own.into_iter().map(|(node, sums)| (node, Arc::new(sums))).collect();
        let rank = comm.rank();
        if self.plan.depth > 1 {
            for to in (0..self.workers).filter(|to| *to != rank) {
                for (node, sums) in &own {
                    let head = (self.round.number, *node, own.len() as u32);
                    comm.send(to, SCHEDULE, Message::shared(&head, sums.clone()))?;
                }
            }
        }
        self.sent.push_back(own);
        Ok(())
    }
}

/// left[k] += right[k], as numbers of 64 bits.
pub(crate) fn add(left: &mut Buffer, right: Buffer) {
    let length = left.len() / size_of::<f64>();
    if let (Some(left), Some(right)) = (left.slice_mut::<f64>(0, length), right.slice::<f64>(0, length)) {
        left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
    }
}

impl Strategy for Scheduled {
    fn next(&mut self, comm: &mut Comm, params: &mut Params, lanes: &Lanes, until: u64) -> Result<Task> {
        let Some((lane, clock)) = lanes.slowest() else { return Ok(Task::Reached) };
        if self.started < self.start_clocks {
            let task = self.start.next(comm, params, lanes, until)?;
            self.started += u64::from(matches!(task, Task::EndClock(_)));
            return Ok(task);
        }
        if !self.is_settled {
            self.settle(params);
        }
        if clock < self.next {
            return Ok(Task::Work { lane, row_block: 0, clock });
        }
        let number = clock - self.start_clocks;
        if self.pipeline.on_their_way() > self.pipeline.most_before(number) {
            let start = comm.now();
            let sums = self.receive(comm);
            self.report.blocked_seconds += comm.now().since(start).as_secs_f64();
            self.sums = Some(self.unpack(sums?, params));
            return Ok(Task::EndClock(Sums::default()));
        }
        if clock >= until {
            return Ok(Task::Reached);
        }
        self.begin(number, params);
        self.next = clock + 1;
        Ok(Task::Work { lane, row_block: 0, clock })
    }

    fn done(
        &mut self,
        comm: &mut Comm,
        params: &mut Params,
        lane: usize,
        clock: u64,
        sums: Sums,
    ) -> Result<()> {
        if clock < self.start_clocks {
            return self.start.done(comm, params, lane, clock, sums);
        }
        if self.lanes > 1 && lane == self.last {
            self.all_told();
            self.send(comm)?;
        }
        Ok(())
    }

    fn drain(&mut self, _: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        if clock < self.start_clocks || self.started < self.start_clocks {
            return Ok(());
        }
        let state = self.pipeline.save();
        let table = params.replicas.last_mut().map(|last| &mut last.values);
        if let Some(Storage::F64(lines)) = table
            && lines.as_slice().len() == 2 * state.len()
        {
            lines.as_mut_slice().copy_from_slice(state.as_flattened());
        }
        Ok(())
    }

    fn rounds(&mut self) -> Option<&mut Scheduled> {
        (self.started == self.start_clocks).then_some(self)
    }

    fn blocked_seconds(&self) -> f64 {
        self.start.blocked_seconds() + self.report.blocked_seconds
    }

    fn report(&self) -> Report {
        Report { blocked_seconds: self.blocked_seconds(), ..self.report.clone() }
    }
}
