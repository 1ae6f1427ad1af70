//! A server shard: a state machine that owns some chunks of all tables. Threads, sockets and clocks stay
//! outside it.
//!
//! In lock-step (`bsp`) it keeps a clock's updates back until every lane has committed it, adds them up along
//! the lane tree and sends the sum to all workers; it holds no values. A few workers that share memory with it get
//! the updates as they are and add them up themselves, at the same time: nobody waits for the one who would. On arrival (`ssp`, `essp`, `asp`) it
//! adds every update at once to the values it holds, remembers which lanes have committed which clocks, and
//! answers pulls, or pushes, with the chunks that changed since the receiver last heard of them.
//!
//! Updates are deduplicated by (lane, clock), early ones by their number within it too: a second copy changes nothing.

pub use crate::channel::FROM_SHARD;

use crate::Result;
use crate::codec::{Entry, Part, add_neighbours};
use crate::table::Params;
use crate::update::Geometry;
use dunlin_comm::collective::Node;
use dunlin_comm::{Channel, Message, Outbox, Service};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What workers tell a shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToShard {
    /// The updates of `lanes` in `clock`, already added up; commits that clock for them.
    Push {
        /// The shard that owns the chunks.
        shard: u16,
        /// A subtree of lanes.
        lanes: Node,
        /// The clock that they have done, from 0.
        clock: u64,
        /// The updates.
        entries: Vec<Entry>,
    },
    /// Some updates of `lane` in `clock`, which goes on: under a budget, ahead of the rest (`strategy/ps/early.rs`).
    Early {
        /// The shard that owns the chunks.
        shard: u16,
        /// The lane.
        lane: u32,
        /// The clock that it is in.
        clock: u64,
        /// How many such messages of this clock went to this shard before.
        number: u32,
        /// The updates.
        entries: Vec<Entry>,
    },
    /// Asks for the chunks of `table` that changed after `version`, once every lane has committed `wanted`
    /// clocks.
    Pull {
        /// The shard that is asked.
        shard: u16,
        /// Table number.
        table: u16,
        /// Clocks that must be in the answer.
        wanted: u64,
        /// The version that the worker has.
        version: u64,
    },
}

/// What a shard tells workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromShard {
    /// The sum of the updates of `lanes` in `clock`, which all lanes have committed.
    Combined {
        /// Who says it.
        shard: u16,
        /// The clock that has ended.
        clock: u64,
        /// All lanes; where memory is shared, a subtree.
        lanes: Node,
        /// The sum.
        entries: Vec<Entry>,
    },
    /// Values of `table`.
    Fresh {
        /// Who says it.
        shard: u16,
        /// Table number.
        table: u16,
        /// To be given with the next pull.
        version: u64,
        /// By lane: how many of its clocks are in these values.
        committed: Vec<u64>,
        /// By lane: how many early messages of its next clock are in them too; empty if no lane sends any.
        early: Vec<u32>,
        /// True if this answers a pull, false if the shard sent it unasked.
        answer: bool,
        /// The chunks that changed.
        entries: Vec<Entry>,
    },
    /// Updates that another worker has sent early.
    Early {
        /// Who says it.
        shard: u16,
        /// The shard's version with them.
        version: u64,
        /// The updates.
        entries: Vec<Entry>,
    },
}

/// How a shard treats updates.
#[derive(Debug)]
pub enum Mode {
    /// Keep a clock back until all lanes have committed it; with `relay`, workers add the updates up.
    LockStep {
        /// Send updates as they came.
        relay: bool,
    },
    /// Add at once; with `eager`, push to all workers whenever the slowest lane moves on.
    Arrival {
        /// Push unasked.
        eager: bool,
    },
}

/// A pull that waits for lanes.
#[derive(Debug)]
struct Parked {
    worker: usize,
    table: u16,
    wanted: u64,
    version: u64,
}

/// The state of one shard.
#[derive(Debug)]
pub struct Shard {
    number: usize,
    workers: usize,
    geometry: Vec<Geometry>,
    mode: Mode,
    committed: Vec<u64>,
    /// By lane: early messages of the clock after those; empty if none ever came.
    early: Vec<u32>,
    pending: BTreeMap<u64, Vec<(Node, Part)>>,
    values: Option<Params>,
    /// Version of the last change, by table and chunk.
    changed: Vec<Vec<u64>>,
    version: u64,
    /// Version that each worker was last pushed, by worker and table.
    pushed: Vec<Vec<u64>>,
    parked: Vec<Parked>,
}

impl Shard {
    /// Shard `number` for `workers` workers and `lanes` lanes. `values` are the tables as they
    /// start; shards in lock-step need none.
    pub fn new(
        number: usize,
        workers: usize,
        lanes: usize,
        geometry: Vec<Geometry>,
        mode: Mode,
        values: Option<Params>,
    ) -> Shard {
        let changed = geometry.iter().map(|table| vec![0; table.chunks]).collect();
        let pushed = vec![vec![0; geometry.len()]; workers];
        let (committed, pending, parked) = (vec![0; lanes], BTreeMap::new(), Vec::new());
        Shard {
            number,
            workers,
            geometry,
            mode,
            committed,
            early: Vec::new(),
            pending,
            values,
            changed,
            version: 0,
            pushed,
            parked,
        }
    }

    /// Says that all lanes have done `clock` clocks already: a run goes on from a checkpoint.
    pub fn start_at(&mut self, clock: u64) {
        self.committed.fill(clock);
    }

    fn slowest(&self) -> u64 {
        self.committed.iter().copied().min().unwrap_or(0)
    }

    fn push(
        &mut self,
        message: &mut Message,
        lanes: Node,
        clock: u64,
        entries: Vec<Entry>,
        out: &mut Outbox,
    ) -> Result<()> {
        let range = lanes.start as usize..lanes.end as usize;
        let Some(committed) = self.committed.get(range.clone()).filter(|lanes| !lanes.is_empty()) else {
            return Err(message.bad(format!("lanes {range:?} of {}", self.committed.len())).into());
        };
        if committed.iter().all(|committed| *committed > clock) {
            return Ok(()); // a copy of what was added before
        }
        if committed.iter().any(|committed| *committed != clock) {
            let what = format!("clock {clock} of lanes {range:?}, which have committed {committed:?} clocks");
            return Err(message.bad(what).into());
        }
        let before = self.slowest();
        let part = Part::received(message, entries, &self.geometry)?;
        self.early.get_mut(range.clone()).into_iter().for_each(|early| early.fill(0));
        self.committed[range].fill(clock + 1);
        match self.mode {
            Mode::LockStep { relay } => {
                self.pending.entry(clock).or_default().push((lanes, part));
                if self.slowest() > before {
                    self.combine(clock, relay, out);
                }
            }
            Mode::Arrival { eager } => {
                self.apply(&part);
                if self.slowest() > before {
                    self.answer_parked(out);
                    if eager {
                        self.push_all(out);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds updates of a clock that goes on, and tells the other workers of them: they commit nothing.
    fn hear_early(
        &mut self,
        message: &mut Message,
        (lane, clock, number): (usize, u64, u32),
        entries: Vec<Entry>,
        out: &mut Outbox,
    ) -> Result<()> {
        let wrong = |what: &str| {
            let what = format!("early update {number} of lane {lane} in clock {clock}: {what}");
            Err(message.bad(what).into())
        };
        let Some(committed) = self.committed.get(lane) else { return wrong("there is no such lane") };
        if self.values.is_none() {
            return wrong("in lock-step there is none");
        }
        self.early.resize(self.committed.len(), 0);
        let next = (*committed, self.early[lane]);
        if (clock, number) < next {
            return Ok(()); // a copy of what was added before
        }
        if (clock, number) != next {
            return wrong(&format!("some are missing: the next is {} in clock {}", next.1, next.0));
        }
        let (from, body) = (message.from, message.body.clone());
        let part = Part::received(message, entries.clone(), &self.geometry)?;
        self.early[lane] += 1;
        self.apply(&part);
        let head = FromShard::Early { shard: self.number as u16, version: self.version, entries };
        let told = Message::shared(&head, body);
        let others = (0..self.workers).filter(|worker| *worker != from);
        out.extend(others.map(|worker| (worker, FROM_SHARD, told.clone())));
        Ok(())
    }

    /// Lock-step: every lane has committed `clock`.
    fn combine(&mut self, clock: u64, relay: bool, out: &mut Outbox) {
        let mut parts = self.pending.remove(&clock).unwrap_or_default();
        parts.sort_by_key(|(node, _)| node.start);
        if !relay {
            parts = add_neighbours(parts, self.committed.len(), &self.geometry, &mut Vec::new());
        }
        for (lanes, Part { entries, body }) in parts {
            let head = FromShard::Combined { shard: self.number as u16, clock, lanes, entries };
            let message = Message::shared(&head, body);
            out.extend((0..self.workers).map(|worker| (worker, FROM_SHARD, message.clone())));
        }
    }

    fn apply(&mut self, part: &Part) {
        self.version += 1;
        if let Some(values) = &mut self.values {
            values.add_part(part, |_| true, &self.geometry);
        }
        for entry in &part.entries {
            self.changed[usize::from(entry.table)][entry.chunk as usize] = self.version;
        }
    }

    fn answer_parked(&mut self, out: &mut Outbox) {
        let slowest = self.slowest();
        let (ready, parked) =
            std::mem::take(&mut self.parked).into_iter().partition(|pull| pull.wanted <= slowest);
        self.parked = parked;
        ready
            .into_iter()
            .for_each(|pull: Parked| out.push(self.fresh(pull.worker, pull.table, pull.version, true)));
    }

    fn push_all(&mut self, out: &mut Outbox) {
        for worker in 0..self.workers {
            for table in 0..self.geometry.len() {
                let version = std::mem::replace(&mut self.pushed[worker][table], self.version);
                out.push(self.fresh(worker, table as u16, version, false));
            }
        }
    }

    /// The chunks of `table` that changed after `version`, for `worker`.
    fn fresh(&self, worker: usize, table: u16, version: u64, answer: bool) -> (usize, Channel, Message) {
        let number = usize::from(table);
        let newer = self.changed[number].iter().enumerate().filter(|(_, changed)| **changed > version);
        let wanted = newer.map(|(chunk, _)| (number, chunk));
        let part = self.values.as_ref().map(|values| values.read(wanted, &self.geometry));
        let Part { entries, body } = part.unwrap_or_default();
        let (shard, version) = (self.number as u16, self.version);
        let (committed, early) = (self.committed.clone(), self.early.clone());
        let head = FromShard::Fresh { shard, table, version, committed, early, answer, entries };
        (worker, FROM_SHARD, Message::shared(&head, body))
    }

    /// Takes in one message of a worker; what it leads to goes to `out`.
    ///
    /// # Errors
    /// Names the sender and what is wrong with the message.
    pub fn handle(&mut self, to: ToShard, message: &mut Message, out: &mut Outbox) -> Result<()> {
        match to {
            ToShard::Push { lanes, clock, entries, .. } => self.push(message, lanes, clock, entries, out),
            ToShard::Early { lane, clock, number, entries, .. } => {
                self.hear_early(message, (lane as usize, clock, number), entries, out)
            }
            ToShard::Pull { table, wanted, version, .. } => {
                if usize::from(table) >= self.geometry.len() || message.from >= self.workers {
                    return Err(message.bad(format!("a pull of table {table}")).into());
                }
                if wanted <= self.slowest() {
                    out.push(self.fresh(message.from, table, version, true));
                } else {
                    self.parked.push(Parked { worker: message.from, table, wanted, version });
                }
                Ok(())
            }
        }
    }
}

/// The shards of one rank.
#[derive(Debug)]
pub struct Shards(pub Vec<Shard>);

impl Shards {
    fn handle_message(&mut self, message: &mut Message, out: &mut Outbox) -> Result<()> {
        let to: ToShard = message.head()?;
        let (ToShard::Push { shard: number, .. }
        | ToShard::Early { shard: number, .. }
        | ToShard::Pull { shard: number, .. }) = to;
        match self.0.iter_mut().find(|shard| shard.number == usize::from(number)) {
            Some(shard) => shard.handle(to, message, out),
            None => Err(message.bad(format!("a message to shard {number}, which is not here")).into()),
        }
    }
}

impl Service for Shards {
    fn handle(&mut self, mut message: Message, out: &mut Outbox) -> dunlin_comm::Result<()> {
        self.handle_message(&mut message, out).map_err(Into::into)
    }
}
