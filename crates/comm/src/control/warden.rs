//! The control thread.

use super::{LastAct, Request, Shared, last_line, lock, silence};
use crate::link::connection::{Connection, Pool, Progress, note, wait};
use crate::standing::{Doing, Standing, cut};
use crate::wire::{Frame, Kind};
use crate::{Error, Lost, Time};
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Time between two signs of life.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often the control thread looks whether the rank holds something new.
const ROUND: Duration = Duration::from_millis(100);
/// After this long without one, a peer is lost.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long the rank's own thread may take to look at its link after a loss.
const REACTION: Duration = Duration::from_secs(1);
/// How long rank 0 waits for the better news when a rank complains of another: that one may say itself why.
const GRACE: Duration = Duration::from_millis(200);
/// How long a rank waits for the verdict of rank 0 on its complaint.
const VERDICT: Duration = Duration::from_secs(1);
/// How long the peers may take to close their ends.
const CLOSING: Duration = Duration::from_millis(500);
/// Most bytes of what a rank says it holds, where that of all ranks is told.
const MAX_TOLD: usize = 200;

/// A sign of life.
#[derive(Serialize, Deserialize)]
struct Alive {
    /// Grows while the rank sends, receives or describes.
    progress: u64,
    /// It waits for others, and has since the last sign of life.
    waits: bool,
    /// It wants to know how far all are.
    watches: bool,
    /// What the rank holds, if it has changed.
    held: Option<String>,
    /// From rank 0 to those that want to know: how far all are.
    others: Vec<Standing>,
}

/// One peer in the star.
struct Peer {
    rank: usize,
    connection: Connection,
    /// Time without a sign of life. Only time in which this thread ran counts, so that a process that was
    /// stopped itself does not accuse the others.
    silent: Duration,
    held: String,
    /// It wants to know how far all are.
    watches: bool,
    /// It said goodbye.
    is_gone: bool,
    is_closed: bool,
}

/// A complaint that waits for a better cause, or for the verdict of rank 0.
struct Complaint {
    lost: Lost,
    due: Time,
}

/// The control thread.
pub(super) struct Warden {
    shared: Arc<Shared>,
    bell: UnixStream,
    peers: Vec<Peer>,
    pool: Pool,
    last_act: LastAct,
    told_version: u64,
    /// The progress in the last sign of life.
    told_progress: u64,
    told_watches: bool,
    next_beat: Time,
    complaint: Option<Complaint>,
    /// When the rank's thread must have looked at the loss.
    reaction_due: Option<Time>,
    closing_until: Option<Time>,
}

impl Warden {
    pub(super) fn new(
        shared: Arc<Shared>,
        bell: UnixStream,
        connections: Vec<(usize, Connection)>,
        last_act: LastAct,
    ) -> Warden {
        let peer = |(rank, connection)| Peer {
            rank,
            connection,
            silent: Duration::ZERO,
            held: String::new(),
            watches: false,
            is_gone: false,
            is_closed: false,
        };
        Warden {
            shared,
            bell,
            peers: connections.into_iter().map(peer).collect(),
            pool: Pool::default(),
            last_act,
            told_version: 0,
            told_progress: 0,
            told_watches: false,
            next_beat: Time(0),
            complaint: None,
            reaction_due: None,
            closing_until: None,
        }
    }

    /// Runs until the rank asks it to close.
    pub(super) fn run(mut self) {
        let mut before = self.shared.clock.now();
        loop {
            self.wait();
            let now = self.shared.clock.now();
            let requests = std::mem::take(&mut *lock(&self.shared.requests));
            for request in requests {
                self.obey(request, now);
            }
            for at in 0..self.peers.len() {
                self.listen(at, now);
            }
            self.judge(now.since(before).min(INTERVAL), now);
            before = now;
            self.beat(now);
            if self.has_ended(now) {
                return;
            }
        }
    }

    /// Waits until a peer or the rank's thread says something, or something is due.
    fn wait(&mut self) {
        let now = self.shared.clock.now();
        let dues = [self.reaction_due, self.closing_until, self.complaint.as_ref().map(|c| c.due)];
        let next = dues.into_iter().flatten().fold(self.next_beat.min(now + ROUND), Time::min);
        let mut sources = vec![PollFd::new(&self.bell, PollFlags::IN)];
        for peer in self.peers.iter().filter(|peer| !peer.is_closed) {
            let writing = if peer.connection.is_writing() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(PollFd::new(peer.connection.stream(), PollFlags::IN | writing));
        }
        // A little late rather than early: the system's timers are coarser than our clock.
        wait(&mut sources, next.since(now) + Duration::from_micros(50));
        silence(&self.bell);
    }

    fn obey(&mut self, request: Request, now: Time) {
        match request {
            Request::Accuse { rank, cause } => {
                self.complain(gone(rank, cause), now);
            }
            Request::Fail { cause, status } => {
                let lost = Lost { rank: self.shared.rank, cause, held: self.shared.held(), status };
                self.shared.is_seen.store(true, Ordering::Release); // it knows, and is about to leave
                if self.shared.rank != 0 && !self.shared.is_lost.load(Ordering::Acquire) {
                    self.tell_all(Kind::Lost, &lost);
                }
                self.decide(lost, now);
            }
            Request::Close { goodbye } => {
                if goodbye {
                    self.tell_all(Kind::Goodbye, &());
                }
                for peer in &mut self.peers {
                    // What cannot go out now will not: a peer that does not read is no reason to stay.
                    let _ = peer.connection.stream().shutdown(Shutdown::Write);
                }
                self.closing_until = Some(now + CLOSING);
            }
        }
    }

    /// Takes up a complaint: rank 0 waits a moment whether a better cause comes, others ask rank 0.
    fn complain(&mut self, lost: Lost, now: Time) {
        if self.complaint.is_some() || self.shared.is_lost.load(Ordering::Acquire) {
            return;
        }
        let patience = if self.shared.rank == 0 { GRACE } else { VERDICT };
        if self.shared.rank != 0 {
            self.tell_all(Kind::Lost, &lost);
        }
        self.complaint = Some(Complaint { lost, due: now + patience });
    }

    /// Reads what peer `at` says, to the end.
    fn listen(&mut self, at: usize, now: Time) {
        let mut frames = VecDeque::new();
        while !self.peers[at].is_closed {
            let peer = &mut self.peers[at];
            let rank = peer.rank;
            // What a peer said before it closed counts, so reading comes first; a failed write shows there too.
            let outcome = peer.connection.fill(&mut self.pool, &mut frames);
            let _ = peer.connection.flush();
            let closed = match outcome {
                Ok(Progress::Some) => {
                    peer.silent = Duration::ZERO;
                    None
                }
                Ok(Progress::Nothing) => return,
                Ok(Progress::Closed) | Err(Error::Io { .. }) => Some("its connection closed".to_string()),
                Err(error) => Some(format!("it sent a {error}")),
            };
            for frame in frames.drain(..) {
                self.hear(at, &frame, now);
            }
            if let Some(cause) = closed {
                let peer = &mut self.peers[at];
                peer.is_closed = true;
                peer.connection.discard();
                if !peer.is_gone {
                    self.decide(gone(rank, cause), now);
                }
            }
        }
    }

    fn hear(&mut self, at: usize, frame: &Frame, now: Time) {
        let peer = &mut self.peers[at];
        let from = peer.rank;
        match frame.kind {
            Kind::Heartbeat => {
                if let Ok(alive) = postcard::from_bytes::<Alive>(&frame.head) {
                    self.hear_alive(at, alive, now);
                }
            }
            Kind::Goodbye => {
                peer.is_gone = true;
                let progress = u64::MAX; // as good as any: it has moved, for the last time
                self.shared.stands(from, progress, Doing::Ended, None, now);
            }
            Kind::Lost => match postcard::from_bytes::<Lost>(&frame.head) {
                Ok(lost) if self.shared.rank != 0 || lost.rank == from => self.decide(lost, now),
                Ok(lost) => self.complain(lost, now),
                Err(_) => {}
            },
            _ => {} // nothing else is said here; a newer peer was refused at the door
        }
    }

    fn hear_alive(&mut self, at: usize, alive: Alive, now: Time) {
        let peer = &mut self.peers[at];
        let doing = if alive.waits { Doing::Waits } else { Doing::Works };
        self.shared.stands(peer.rank, alive.progress, doing, alive.held.as_deref(), now);
        if alive.watches && !peer.watches {
            self.next_beat = now; // it is told at once
        }
        peer.watches = alive.watches;
        if let Some(held) = alive.held {
            peer.held = held;
        }
        for other in alive.others {
            self.shared.stands(other.rank, other.progress, other.doing, Some(&other.held), now);
        }
    }

    /// Looks for silent peers and for what is due. `elapsed` is the time since the last look.
    fn judge(&mut self, elapsed: Duration, now: Time) {
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            if peer.is_gone || peer.is_closed || self.closing_until.is_some() {
                continue;
            }
            peer.silent += elapsed;
            if peer.silent >= SILENCE {
                let cause = format!("no sign of life for {:.1} s", SILENCE.as_secs_f64());
                let rank = peer.rank;
                self.decide(gone(rank, cause), now);
            }
        }
        if self.complaint.as_ref().is_some_and(|c| now >= c.due) {
            let complaint = self.complaint.take();
            complaint.into_iter().for_each(|c| self.decide(c.lost, now));
        }
        if self.reaction_due.is_some_and(|due| now >= due) && self.closing_until.is_none() {
            self.reaction_due = None;
            if !self.shared.is_seen.load(Ordering::Acquire) {
                self.end_the_process();
            }
        }
    }

    /// Records the first loss; rank 0 tells it to all before this process does anything about it.
    fn decide(&mut self, mut lost: Lost, now: Time) {
        if self.closing_until.is_some() || self.shared.is_lost.load(Ordering::Acquire) {
            return;
        }
        if lost.held.is_empty() {
            lost.held = match self.peers.iter().find(|peer| peer.rank == lost.rank) {
                Some(peer) => peer.held.clone(),
                None if lost.rank == self.shared.rank => self.shared.held(),
                None => String::new(),
            };
        }
        if self.shared.rank == 0 {
            self.tell_all(Kind::Lost, &lost);
        }
        self.reaction_due = Some(now + REACTION);
        self.shared.publish(lost);
    }

    fn beat(&mut self, now: Time) {
        let held = {
            let held = lock(&self.shared.held);
            (held.version != self.told_version).then(|| (held.text.clone(), held.version))
        };
        let watches = self.shared.watches.load(Ordering::Acquire);
        let has_news = held.is_some() || watches != self.told_watches;
        if self.closing_until.is_some() || (now < self.next_beat && !has_news) {
            return;
        }
        self.told_watches = watches;
        self.told_version = held.as_ref().map_or(self.told_version, |(_, version)| *version);
        let progress = self.shared.progress.load(Ordering::Relaxed);
        let mut alive = Alive {
            progress,
            // Short waits that end are no waiting.
            waits: self.shared.waits.load(Ordering::Relaxed) && progress == self.told_progress,
            watches,
            held: held.map(|(text, _)| text),
            others: Vec::new(),
        };
        self.told_progress = progress;
        self.next_beat = now + INTERVAL;
        if self.shared.rank != 0 {
            return self.tell(Kind::Heartbeat, &alive, |_| true);
        }
        let doing = if alive.waits { Doing::Waits } else { Doing::Works };
        self.shared.stands(0, progress, doing, alive.held.as_deref(), now);
        self.tell(Kind::Heartbeat, &alive, |peer| !peer.watches);
        if self.peers.iter().any(|peer| peer.watches) {
            alive.others = lock(&self.shared.standings).iter().flatten().map(shortened).collect();
            self.tell(Kind::Heartbeat, &alive, |peer| peer.watches);
        }
    }

    fn tell_all(&mut self, kind: Kind, what: &impl Serialize) {
        self.tell(kind, what, |_| true);
    }

    /// Says it to those of the peers that are `meant`.
    fn tell(&mut self, kind: Kind, what: &impl Serialize, meant: impl Fn(&Peer) -> bool) {
        let Ok(head) = postcard::to_stdvec(what) else { return };
        for peer in self.peers.iter_mut().filter(|peer| !peer.is_closed && meant(peer)) {
            if kind == Kind::Heartbeat && peer.connection.is_writing() {
                continue; // it does not read; signs of life shall not pile up
            }
            // A broken connection shows as closed when it is read next.
            let _ = peer.connection.push(note(kind, self.shared.rank, peer.rank, head.clone()));
        }
    }

    fn has_ended(&self, now: Time) -> bool {
        self.closing_until.is_some_and(|until| now >= until || self.peers.iter().all(|peer| peer.is_closed))
    }

    /// The rank's thread computes on and does not look: say the last line for it.
    fn end_the_process(&mut self) -> ! {
        let Some(lost) = lock(&self.shared.lost).clone() else { std::process::exit(Lost::GONE.into()) };
        if (self.last_act)(&lost) {
            last_line(&lost);
        }
        std::process::exit(lost.status.into())
    }
}

/// The loss of a rank that said nothing; what it held is looked up.
fn gone(rank: usize, cause: String) -> Lost {
    Lost { rank, cause, held: String::new(), status: Lost::GONE }
}

/// A standing whose text is short enough to travel with that of all ranks.
fn shortened(standing: &Standing) -> Standing {
    Standing { held: cut(&standing.held, MAX_TOLD).into(), ..*standing }
}
