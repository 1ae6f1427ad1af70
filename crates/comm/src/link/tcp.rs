//! Ranks in different processes: one TCP connection between each two of them.
//!
//! Whoever waits drives all connections of its process, in both directions: a send writes what the system
//! takes at once and queues the rest, and a wait goes on writing while it reads. So two ranks that send each
//! other more than the system buffers cannot block each other. The price: what is queued waits while its rank
//! computes.
//!
//! A wait first looks again and again for some microseconds, which is cheaper than to sleep and be woken, but
//! only where every rank of this host has a processor of its own. Then, if it is for one connection only, it
//! sleeps in the read of that one for some milliseconds, and only then in a poll of all: a round trip that is
//! fast takes one write and one read of each side, as it does between plain blocking sockets.

use super::Link;
use super::connection::{Connection, PATIENCE, Pool, Progress, note, wait};
use super::spin::Spin;
use crate::control::{Control, silence};
use crate::time::Clock;
use crate::wire::{Frame, Kind};
use crate::{Error, Result, Standing, Time};
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::time::Duration;

/// How long a wait looks before it sleeps, where it may.
const SPIN: Duration = Duration::from_micros(60);
/// Waits slept through, at least and at most, after a wait has lost its processor while it looked: such a time costs as
/// much as a hundred round trips.
const PENALTIES: (u32, u32) = (200, 20_000);
/// Up to this many connections are looked at by reading them; more are asked about all at once.
const READ_TO_LOOK: usize = 2;

/// One peer of the mesh.
struct Peer {
    rank: usize,
    connection: Connection,
    /// It said goodbye: it sends nothing more, and its end may close.
    is_gone: bool,
    is_closed: bool,
}

/// A process's end of the mesh.
pub struct TcpLink {
    rank: usize,
    peers: Vec<Peer>,
    /// Place of each rank in `peers`; the own rank has none.
    places: Vec<Option<usize>>,
    control: Control,
    clock: Clock,
    pool: Pool,
    ready: VecDeque<Frame>,
    spin: Spin,
    one_host: bool,
    bytes_sent: u64,
}

impl TcpLink {
    /// The link of `rank` over `connections` (rank and connection, for all other ranks), which also drives its
    /// `control` connection. `spins` where each rank of this host has a processor.
    pub(crate) fn new(
        rank: usize,
        connections: Vec<(usize, Connection)>,
        control: Control,
        spins: bool,
    ) -> TcpLink {
        let mut places = vec![None; connections.len() + 1];
        let one_host = connections.iter().all(|(_, connection)| connection.is_one_host());
        let peer = |(at, (rank, connection)): (usize, (usize, Connection))| {
            places[rank] = Some(at);
            Peer { rank, connection, is_gone: false, is_closed: false }
        };
        let peers = connections.into_iter().enumerate().map(peer).collect();
        let clock = control.shared.clock();
        TcpLink {
            rank,
            peers,
            places,
            control,
            clock,
            pool: Pool::default(),
            ready: VecDeque::new(),
            spin: Spin::new(spins, SPIN, PENALTIES),
            one_host,
            bytes_sent: 0,
        }
    }

    /// Looks once at every connection and at what waits to be written; true if anything moved.
    fn look(&mut self) -> bool {
        if self.peers.len() > READ_TO_LOOK {
            return self.wait(Duration::ZERO);
        }
        let moved = (0..self.peers.len()).filter(|&at| self.serve(at)).count();
        moved > 0
    }

    /// Waits until a connection is ready, the control thread rings or `timeout` has passed, and serves what is
    /// ready; true if anything moved.
    fn wait(&mut self, timeout: Duration) -> bool {
        let open: Vec<usize> = (0..self.peers.len()).filter(|&at| !self.peers[at].is_closed).collect();
        let mut sources = Vec::with_capacity(open.len() + 1);
        for &at in &open {
            let connection = &self.peers[at].connection;
            let writing = if connection.is_writing() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(PollFd::new(connection.stream(), PollFlags::IN | writing));
        }
        sources.push(PollFd::new(&self.control.bell, PollFlags::IN));
        wait(&mut sources, timeout);
        let is_ready = |source: &PollFd<'_>| !source.revents().is_empty();
        let ready: Vec<bool> = sources.iter().map(is_ready).collect();
        if ready.last() == Some(&true) {
            silence(&self.control.bell);
        }
        let moved = open.into_iter().zip(ready).filter(|&(at, ready)| ready && self.serve(at)).count();
        moved > 0
    }

    /// The peer in whose read a wait for `from` (or for anybody) may sleep: nothing else can happen meanwhile
    /// that does not have the time.
    fn only_peer(&self, from: Option<usize>) -> Option<usize> {
        let at = match from {
            Some(rank) => self.places.get(rank).copied().flatten()?,
            None => self.peers.iter().position(|peer| !peer.is_closed)?,
        };
        let may = |(place, peer): (usize, &Peer)| match peer.is_closed {
            true => place != at,
            false => !peer.connection.is_writing() && (place == at || from.is_some()),
        };
        self.peers.iter().enumerate().all(may).then_some(at)
    }

    /// Writes and reads what can be at once; true if anything arrived. A broken connection is reported.
    fn serve(&mut self, at: usize) -> bool {
        let peer = &mut self.peers[at];
        if peer.is_closed {
            return false;
        }
        // What a peer said before it closed counts, so a failed write is left for the read to find.
        let _ = peer.connection.flush();
        let before = self.ready.len();
        let outcome = peer.connection.fill(&mut self.pool, &mut self.ready);
        self.take_in(at, before, outcome)
    }

    /// Sleeps in the read of peer `at`, for [`PATIENCE`] at most.
    fn sleep_at(&mut self, at: usize) {
        let before = self.ready.len();
        let outcome = self.peers[at].connection.fill_patiently(&mut self.pool, &mut self.ready);
        self.take_in(at, before, outcome);
    }

    /// Looks at the `outcome` of a read from peer `at`, whose frames are in `ready` from `before` on; true if
    /// anything arrived.
    fn take_in(&mut self, at: usize, before: usize, outcome: Result<Progress>) -> bool {
        let cause = match outcome {
            Ok(Progress::Nothing) => return false,
            Ok(Progress::Some) => self.check_arrived(at, before).err(),
            Ok(Progress::Closed) | Err(Error::Io { .. }) => Some("its connection closed".to_string()),
            Err(error) => Some(format!("it sent rank {} a {error}", self.rank)),
        };
        let Some(cause) = cause else { return true };
        let peer = &mut self.peers[at];
        peer.is_closed = true;
        peer.connection.discard();
        if !peer.is_gone {
            self.control.shared.accuse(peer.rank, cause);
        }
        true
    }

    /// Keeps the data among the frames of peer `at` that are in `ready` from `first` on.
    fn check_arrived(&mut self, at: usize, first: usize) -> std::result::Result<(), String> {
        let peer = &mut self.peers[at];
        let mut index = first;
        while let Some(frame) = self.ready.get(index) {
            match frame.kind {
                Kind::Data if usize::from(frame.from) == peer.rank => index += 1,
                Kind::Goodbye => {
                    peer.is_gone = true;
                    self.ready.remove(index);
                }
                kind => {
                    let from = frame.from;
                    self.ready.truncate(index);
                    return Err(format!(
                        "it sent rank {} a frame of kind {kind:?} from rank {from}",
                        self.rank
                    ));
                }
            }
        }
        Ok(())
    }

    /// Queues a frame for peer `at`; one that is gone will not miss it.
    fn push(&mut self, at: usize, frame: Frame) -> Result<()> {
        let peer = &mut self.peers[at];
        if peer.is_closed {
            return Ok(());
        }
        let bytes = frame.wire_bytes() as u64;
        match peer.connection.push(frame) {
            Err(Error::Io { .. }) => {} // shows when the connection is read next
            outcome => outcome?,
        }
        self.bytes_sent += bytes;
        Ok(())
    }

    /// The next frame; `from` says whose matter.
    fn receive_any(&mut self, from: Option<usize>, deadline: Time) -> Result<Option<Frame>> {
        if self.ready.is_empty() {
            self.control.shared.waits(true);
        }
        let found = self.await_frame(from, deadline);
        self.control.shared.waits(false);
        if let Ok(Some(_)) = &found {
            self.control.shared.moved();
        }
        found
    }

    fn await_frame(&mut self, from: Option<usize>, deadline: Time) -> Result<Option<Frame>> {
        let mut may_sleep_in_read = true;
        loop {
            self.control.shared.check()?;
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            let now = self.clock.now();
            if now >= deadline {
                while self.look() && self.ready.is_empty() {}
                return Ok(self.ready.pop_front());
            }
            if self.spin(deadline) {
                continue;
            }
            // Once only: a read does not hear the bell, and what takes longer need not save a call.
            let is_far = deadline.since(now) > 4 * PATIENCE;
            let only = if may_sleep_in_read && is_far { self.only_peer(from) } else { None };
            may_sleep_in_read = false;
            match only {
                Some(at) => self.sleep_at(at),
                None => drop(self.wait(deadline.since(now))),
            }
        }
    }

    /// Looks without sleeping until a frame is there or it does not pay any more; true if one is.
    fn spin(&mut self, deadline: Time) -> bool {
        let Some(patience) = self.spin.patience() else { return false };
        let mut last = self.clock.now();
        let mut end = (last + patience).min(deadline);
        let mut longest_gap = Duration::ZERO;
        while self.ready.is_empty() && last < end && self.control.shared.check().is_ok() {
            let moved = self.look();
            let now = self.clock.now();
            // Whatever has arrived by then: it was late if the processor was away before this look.
            longest_gap = longest_gap.max(now.since(last));
            if moved {
                end = (now + patience).min(deadline);
            } else {
                std::thread::yield_now(); // the peer may be on this very processor
            }
            last = now;
        }
        self.spin.learn(!self.ready.is_empty(), longest_gap);
        !self.ready.is_empty()
    }
}

impl Link for TcpLink {
    fn send(&mut self, frame: Frame) -> Result<()> {
        self.control.shared.check()?;
        self.control.shared.moved();
        let to = usize::from(frame.to);
        match self.places.get(to).copied().flatten() {
            Some(at) => self.push(at, frame),
            None => Err(Error::BadFrame(format!("for rank {to} of {}", self.places.len()))),
        }
    }

    fn receive(&mut self, deadline: Time) -> Result<Option<Frame>> {
        self.receive_any(None, deadline)
    }

    fn receive_from(&mut self, from: usize, deadline: Time) -> Result<Option<Frame>> {
        self.receive_any(Some(from), deadline)
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn describe(&mut self, held: &str) {
        self.control.shared.moved();
        self.control.shared.describe(held);
    }

    fn watch(&mut self, on: bool) {
        self.control.shared.watch(on);
    }

    fn standings(&self) -> Vec<Standing> {
        self.control.shared.standings()
    }

    fn is_one_host(&self) -> bool {
        self.one_host
    }

    fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Also waits until all peers have said goodbye, so that no connection closes on bytes that somebody still
    /// needs; as long as they live, and their signs of life tell, that may take them.
    fn finish(&mut self) -> Result<()> {
        self.control.shared.waits(true);
        for at in 0..self.peers.len() {
            let goodbye = note(Kind::Goodbye, self.rank, self.peers[at].rank, Vec::new());
            self.push(at, goodbye)?;
        }
        let is_done = |peer: &Peer| peer.is_closed || (peer.is_gone && !peer.connection.is_writing());
        while !self.peers.iter().all(is_done) {
            self.control.shared.check()?;
            self.wait(Duration::from_secs(1));
            self.ready.clear(); // nobody will ask for it any more
        }
        self.control.shared.check()?;
        self.control.close(true);
        Ok(())
    }
}
