//! Everything the ranks share: who waits until when, what is to happen, and who goes on next.
//!
//! The rule that makes a run repeatable: a rank gets the baton only when no other rank and no event is
//! behind it in virtual time. What it then finds in its inbox no longer depends on what others still do. At
//! equal times events come before ranks; among events, and among ranks, the seed decides.

mod events;

use super::config::SimConfig;
use super::faults::Fault;
use super::network::{Event, Queue, Wires, tie};
use crate::wire::Frame;
use crate::{Doing, Error, Lost, Result, Standing, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Ranks that do nothing but look for this much virtual time are taken to be stuck.
const LOOKING_LIMIT: Duration = Duration::from_secs(600);

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The faults that did something, in the order in which they began to.
    pub fired: Vec<Fault>,
    /// Frames that were lost with a connection and sent again.
    pub frames_resent: usize,
    /// Frames that were sent a second time though they had arrived.
    pub frames_doubled: usize,
    /// Frames that were delivered, doubled ones included.
    pub frames_delivered: u64,
    /// How often one rank stopped and another went on.
    pub hand_overs: u64,
    /// Virtual time when the last rank ended.
    pub end: Time,
    /// If [`SimConfig::record`]: a line for each delivery and for each fault, in order. A delivery is "time in
    /// ns, sender>receiver, channel, bytes on the wire, xxh3 of head and body".
    pub transcript: String,
}

/// How exactly it is known when a rank moved.
const MOVES_APART: Duration = Duration::from_millis(1);
/// How many times at which a rank moved are known.
const MOVES_KEPT: usize = 1024;

/// Where a rank stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It has the baton.
    Running,
    /// It goes on at `wake`, or when a frame is delivered unless it is `deaf`.
    Parked { wake: Time, deaf: bool },
    /// It has returned.
    Ended,
}

struct Rank {
    state: State,
    /// Its own time when it last parked or ended.
    time: Time,
    inbox: VecDeque<Frame>,
    held: String,
    /// Frames sent and taken, and descriptions.
    moves: u64,
    /// When it moved of late, in order, to about a [`MOVES_APART`]. A rank may run ahead of the others, so the
    /// latest is not enough to tell when it had moved last at some time of theirs.
    moved_at: VecDeque<Time>,
    crashed: bool,
    silent: bool,
    deadlock: Option<String>,
}

impl Rank {
    fn moved(&mut self, time: Time) {
        self.moves += 1;
        if self.moved_at.back().is_none_or(|last| time.since(*last) >= MOVES_APART) {
            self.moved_at.push_back(time);
            if self.moved_at.len() > MOVES_KEPT {
                self.moved_at.pop_front();
            }
        }
    }

    /// How far this `rank` is at `now`.
    fn standing(&self, rank: usize, now: Time) -> Standing {
        let doing = match self.state {
            State::Ended => Doing::Ended,
            State::Parked { .. } if self.time <= now => Doing::Waits,
            _ => Doing::Works, // perhaps parked ahead of the others: until then it computes
        };
        let moved_at = self.moved_at.iter().rev().find(|time| **time <= now).copied().unwrap_or_default();
        Standing { rank, doing, progress: self.moves, moved_at, held: self.held.clone() }
    }
}

/// The state of a simulated cluster; whoever has the baton changes it.
pub(super) struct World {
    config: SimConfig,
    ranks: Vec<Rank>,
    wires: Wires,
    queue: Queue,
    lost: Option<Lost>,
    running: Option<usize>,
    /// The latest time at which anybody did anything but look.
    progress: Time,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(config: &SimConfig) -> World {
        let rank = || Rank {
            state: State::Parked { wake: Time(0), deaf: true },
            time: Time(0),
            inbox: VecDeque::new(),
            held: String::new(),
            moves: 0,
            moved_at: VecDeque::new(),
            crashed: false,
            silent: false,
            deadlock: None,
        };
        let mut queue = Queue::new(config.seed);
        for (index, fault) in config.faults.iter().enumerate() {
            if !matches!(fault, Fault::Delay { .. }) {
                queue.push(fault.at(), Event::Fault(index));
            }
        }
        World {
            ranks: (0..config.ranks).map(|_| rank()).collect(),
            wires: Wires::new(config),
            queue,
            lost: None,
            running: None,
            progress: Time(0),
            report: Report::default(),
            config: config.clone(),
        }
    }

    /// Queues a frame that its sender sends at `time`.
    pub(super) fn send(&mut self, time: Time, frame: Frame) -> Result<()> {
        self.check(usize::from(frame.from))?;
        self.ranks[usize::from(frame.from)].moved(time);
        self.queue.push(time, Event::Submit(frame));
        Ok(())
    }

    /// The next frame of `rank`'s inbox.
    pub(super) fn take(&mut self, rank: usize) -> Option<Frame> {
        let this = &mut self.ranks[rank];
        let frame = this.inbox.pop_front()?;
        this.moved(this.time);
        Some(frame)
    }

    /// The time of `rank` when it last got the baton.
    pub(super) fn time(&self, rank: usize) -> Time {
        self.ranks[rank].time
    }

    /// `rank` says at `time` what it does.
    pub(super) fn describe(&mut self, rank: usize, time: Time, held: &str) {
        let this = &mut self.ranks[rank];
        this.moved(time);
        this.held.clear();
        this.held.push_str(held);
    }

    /// How far all ranks but `rank` are at `now`. Counter and text are the latest, also of a rank that
    /// ran ahead in virtual time.
    pub(super) fn standings(&self, rank: usize, now: Time) -> Vec<Standing> {
        let others = self.ranks.iter().enumerate().filter(|(other, _)| *other != rank);
        others.map(|(other, this)| this.standing(other, now)).collect()
    }

    /// When all frames that `rank` submitted so far have left it.
    pub(super) fn drained(&self, rank: usize) -> Time {
        self.wires.drained(rank)
    }

    /// The first loss, once it is known.
    pub(super) fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// Fails if `rank` must not go on.
    pub(super) fn check(&self, rank: usize) -> Result<()> {
        let this = &self.ranks[rank];
        if this.crashed {
            return Err(Error::Lost(self.loss(rank, "it crashed".into())));
        }
        if let Some(what) = &this.deadlock {
            let latest = self.ranks.iter().map(|r| r.time).max().unwrap_or_default();
            let seconds = latest.since(this.time).as_secs_f64();
            return Err(Error::Timeout {
                whom: "any rank".into(),
                what: what.clone(),
                seconds,
                standing: String::new(),
            });
        }
        self.lost.as_ref().map_or(Ok(()), |lost| Err(Error::Lost(lost.clone())))
    }

    /// `rank` stops at `time`, to go on at `deadline`, or earlier with a frame unless it is `deaf`.
    pub(super) fn park(&mut self, rank: usize, time: Time, deadline: Time, deaf: bool) {
        let stop = self.lost.is_some() || self.ranks[rank].deadlock.is_some();
        let this = &mut self.ranks[rank];
        this.time = time;
        let ready = stop || this.crashed || (!deaf && !this.inbox.is_empty());
        this.state = State::Parked { wake: if ready { time } else { deadline.max(time) }, deaf };
    }

    /// Notes that something was done at `time`, so that whoever looks is not stuck.
    pub(super) fn progressed(&mut self, time: Time) {
        self.progress = self.progress.max(time);
    }

    /// Ends the wait of a rank that has only looked, as all others, for too long.
    pub(super) fn limit_looking(&mut self, rank: usize, time: Time) {
        if time.since(self.progress) > LOOKING_LIMIT && self.ranks[rank].deadlock.is_none() {
            let text = format!("nobody has done anything but look since {}", seconds(self.progress));
            self.ranks[rank].deadlock = Some(format!("{text}: {}", self.standing()));
        }
    }

    /// `rank` has returned at `time`; with a `failure`, the others learn of it one latency later.
    pub(super) fn end(&mut self, rank: usize, time: Time, failure: Option<String>) {
        self.ranks[rank].time = time;
        self.ranks[rank].state = State::Ended;
        self.report.end = self.report.end.max(time);
        if let Some(cause) = failure {
            let loss = self.loss(rank, cause);
            self.queue.push(time + self.wires.latency(), Event::Announce(loss));
        }
    }

    /// Lets events happen until a rank is the earliest of all, and gives it the baton: who that is.
    /// `None` when all ranks have ended.
    pub(super) fn schedule(&mut self) -> Option<usize> {
        loop {
            let (rank, wake) = self.earliest()?;
            if self.queue.next_time().is_some_and(|time| time <= wake) {
                if let Some((time, event)) = self.queue.pop() {
                    self.happen(time, event);
                }
            } else if wake == Time::NEVER {
                self.deadlock();
            } else {
                let this = &mut self.ranks[rank];
                if wake > this.time {
                    self.progress = self.progress.max(wake);
                }
                this.time = wake;
                this.state = State::Running;
                if self.running.replace(rank) != Some(rank) {
                    self.report.hand_overs += 1;
                }
                return Some(rank);
            }
        }
    }

    /// The parked rank that goes on first; the seed decides between equals.
    fn earliest(&self) -> Option<(usize, Time)> {
        let mut best: Option<(usize, Time)> = None;
        let order = |rank: usize, wake| tie(self.config.seed, wake, 5 << 40 | rank as u64);
        for (rank, state) in self.ranks.iter().map(|r| r.state).enumerate() {
            let State::Parked { wake, .. } = state else { continue };
            let first = best.is_none_or(|(other, earliest)| {
                wake < earliest || (wake == earliest && order(rank, wake) < order(other, earliest))
            });
            if first {
                best = Some((rank, wake));
            }
        }
        best
    }

    /// The loss of `rank`, with what it holds.
    fn loss(&self, rank: usize, cause: String) -> Lost {
        Lost { rank, cause, held: self.ranks[rank].held.clone(), status: Lost::GONE }
    }

    /// Tells everybody who waits that nothing will come.
    fn deadlock(&mut self) {
        let text = format!("a deadlock: everybody waits and nothing is on its way: {}", self.standing());
        for rank in 0..self.ranks.len() {
            let this = &mut self.ranks[rank];
            if let State::Parked { wake, .. } = &mut this.state {
                *wake = this.time;
                this.deadlock = Some(text.clone());
            }
        }
    }

    /// Where each rank stands, in words.
    fn standing(&self) -> String {
        const SHOWN: usize = 16;
        let line = |(number, rank): (usize, &Rank)| {
            let time = seconds(rank.time);
            let held = if rank.held.is_empty() { String::new() } else { format!(" and holds {}", rank.held) };
            match rank.state {
                State::Ended => format!("rank {number} ended at {time}"),
                State::Running => format!("rank {number} runs at {time}{held}"),
                State::Parked { .. } => format!("rank {number} waits since {time}{held}"),
            }
        };
        let mut lines: Vec<String> = self.ranks.iter().enumerate().take(SHOWN).map(line).collect();
        if self.ranks.len() > SHOWN {
            lines.push(format!("and {} more", self.ranks.len() - SHOWN));
        }
        lines.join(", ")
    }
}

fn seconds(time: Time) -> String {
    format!("{:.6} s", time.seconds())
}
