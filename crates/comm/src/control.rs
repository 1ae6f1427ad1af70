//! The control star: how ranks in different processes learn that one of them is gone.
//!
//! Each process has a small thread with a connection to rank 0 of its own (rank 0: to every rank), so that a
//! rank that computes or loads is still alive to the others. It sends a sign of life every `INTERVAL`; three
//! missed ones, or a connection that closes without a goodbye, and the peer is lost. Rank 0 decides which loss
//! was first, and tells all before anything closes, so that all name the same one. Only the loss of rank 0 is
//! decided by each rank itself.
//!
//! The rank's own thread learns of a loss when it looks at its link, and is woken if it waits there. If it does
//! not look within `REACTION`, the control thread ends the process.

use crate::link::connection::{Connection, Pool, Progress, note, wait};
use crate::time::Clock;
use crate::wire::{Frame, Kind};
use crate::{Error, Lost, Result, Time};
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
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
/// Most bytes of what a rank says it holds.
const MAX_HELD: usize = 1 << 10;

/// Writes `dunlin: WHAT` to standard error as one piece: several processes say it at the same moment. If nobody
/// reads there, so be it.
pub fn last_line(what: &impl std::fmt::Display) {
    let _ = std::io::stderr().write_all(format!("dunlin: {what}\n").as_bytes());
}

/// A sign of life.
#[derive(Serialize, Deserialize)]
struct Alive {
    /// Grows while the rank sends, receives or describes.
    progress: u64,
    /// What the rank holds, if it has changed.
    held: Option<String>,
}

/// What the rank's own thread asks of the control thread.
enum Request {
    /// A peer seems to be lost.
    Accuse { rank: usize, cause: String },
    /// The own rank cannot go on.
    Fail { cause: String, status: u8 },
    /// Close all connections, with or without a goodbye, and end.
    Close { goodbye: bool },
}

#[derive(Default)]
struct Held {
    text: String,
    version: u64,
}

/// What the rank's thread and the control thread share. Each lock is held for a few lines only.
pub(crate) struct Shared {
    rank: usize,
    clock: Clock,
    lost: Mutex<Option<Lost>>,
    is_lost: AtomicBool,
    /// The rank's thread has been told of the loss.
    is_seen: AtomicBool,
    progress: AtomicU64,
    held: Mutex<Held>,
    requests: Mutex<Vec<Request>>,
    /// Wakes the control thread.
    to_control: UnixStream,
    /// Wakes the rank's thread.
    to_rank: UnixStream,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One byte into a pipe that is read whole; if it is full, its reader wakes anyway.
fn ring(mut bell: &UnixStream) {
    let _ = bell.write(&[1]);
}

/// Empties the pipe behind a bell.
pub(crate) fn silence(mut bell: &UnixStream) {
    let mut bytes = [0; 64];
    while bell.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
}

impl Shared {
    /// # Errors
    /// [`Error::Lost`] once any rank is lost.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.is_lost.load(Ordering::Acquire) {
            return Ok(());
        }
        self.is_seen.store(true, Ordering::Release);
        lock(&self.lost).clone().map_or(Ok(()), |lost| Err(Error::Lost(lost)))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Counts progress of the rank.
    pub(crate) fn moved(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Records what the rank holds; the control thread tells it within [`ROUND`].
    pub(crate) fn describe(&self, text: &str) {
        let end = (0..=text.len().min(MAX_HELD)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let mut held = lock(&self.held);
        if held.text != text[..end] {
            held.text.clear();
            held.text.push_str(&text[..end]);
            held.version += 1;
        }
    }

    /// Reports that `rank` seems to be lost. The verdict comes through [`Shared::check`].
    pub(crate) fn accuse(&self, rank: usize, cause: String) {
        self.ask(Request::Accuse { rank, cause });
    }

    /// Reports that the own rank cannot go on, unless somebody was lost before. Goes out before the control
    /// thread closes its connections.
    pub(crate) fn fail(&self, cause: String, status: u8) {
        self.ask(Request::Fail { cause, status });
    }

    fn ask(&self, request: Request) {
        lock(&self.requests).push(request);
        ring(&self.to_control);
    }

    fn held(&self) -> String {
        lock(&self.held).text.clone()
    }

    fn publish(&self, lost: Lost) {
        lock(&self.lost).get_or_insert(lost);
        self.is_lost.store(true, Ordering::Release);
        ring(&self.to_rank);
    }
}

/// The rank's handle on its control thread. Dropping it closes the control connections.
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    /// Readable when somebody is lost.
    pub(crate) bell: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What is done before a process is ended because its rank does not react.
pub(crate) type LastAct = Box<dyn FnMut() + Send>;

impl Control {
    /// Starts the thread of `rank` with a connection to rank 0, or on rank 0 to all others.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no thread or no pipe to give.
    pub(crate) fn start(
        rank: usize,
        connections: Vec<(usize, Connection)>,
        last_act: LastAct,
    ) -> Result<Control> {
        let pipe = || -> std::io::Result<(UnixStream, UnixStream)> {
            let (a, b) = UnixStream::pair()?;
            a.set_nonblocking(true)?;
            b.set_nonblocking(true)?;
            Ok((a, b))
        };
        let (to_control, control_bell) = pipe().map_err(Error::io("making a pipe"))?;
        let (to_rank, bell) = pipe().map_err(Error::io("making a pipe"))?;
        let shared = Arc::new(Shared {
            rank,
            clock: Clock::start(),
            lost: Mutex::default(),
            is_lost: AtomicBool::new(false),
            is_seen: AtomicBool::new(false),
            progress: AtomicU64::new(0),
            held: Mutex::default(),
            requests: Mutex::default(),
            to_control,
            to_rank,
        });
        let warden = Warden::new(shared.clone(), control_bell, connections, last_act);
        let thread = std::thread::Builder::new()
            .name("dunlin-control".into())
            .spawn(move || warden.run())
            .map_err(Error::io("starting the control thread"))?;
        Ok(Control { shared, bell, thread: Some(thread) })
    }

    /// Closes the control connections, with or without a goodbye, and waits for the thread: at most about a
    /// second.
    pub(crate) fn close(&mut self, goodbye: bool) {
        if let Some(thread) = self.thread.take() {
            self.shared.ask(Request::Close { goodbye });
            let _ = thread.join(); // if it panicked, nobody is left to tell
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// One peer in the star.
struct Peer {
    rank: usize,
    connection: Connection,
    /// Time without a sign of life. Only time in which this thread ran counts, so that a process that was
    /// stopped itself does not accuse the others.
    silent: Duration,
    held: String,
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
struct Warden {
    shared: Arc<Shared>,
    bell: UnixStream,
    peers: Vec<Peer>,
    pool: Pool,
    last_act: LastAct,
    told_version: u64,
    next_beat: Time,
    complaint: Option<Complaint>,
    /// When the rank's thread must have looked at the loss.
    reaction_due: Option<Time>,
    closing_until: Option<Time>,
}

impl Warden {
    fn new(
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
            next_beat: Time(0),
            complaint: None,
            reaction_due: None,
            closing_until: None,
        }
    }

    fn run(mut self) {
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
                if let Ok(Alive { held: Some(held), .. }) = postcard::from_bytes(&frame.head) {
                    peer.held = held;
                }
            }
            Kind::Goodbye => peer.is_gone = true,
            Kind::Lost => match postcard::from_bytes::<Lost>(&frame.head) {
                Ok(lost) if self.shared.rank != 0 || lost.rank == from => self.decide(lost, now),
                Ok(lost) => self.complain(lost, now),
                Err(_) => {}
            },
            _ => {} // nothing else is said here; a newer peer was refused at the door
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
        if self.closing_until.is_some() || (now < self.next_beat && held.is_none()) {
            return;
        }
        self.told_version = held.as_ref().map_or(self.told_version, |(_, version)| *version);
        let progress = self.shared.progress.load(Ordering::Relaxed);
        self.tell_all(Kind::Heartbeat, &Alive { progress, held: held.map(|(text, _)| text) });
        self.next_beat = now + INTERVAL;
    }

    fn tell_all(&mut self, kind: Kind, what: &impl Serialize) {
        let Ok(head) = postcard::to_stdvec(what) else { return };
        for peer in self.peers.iter_mut().filter(|peer| !peer.is_closed) {
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
        (self.last_act)();
        let lost = lock(&self.shared.lost).clone();
        lost.iter().for_each(last_line);
        std::process::exit(lost.map_or(Lost::GONE, |lost| lost.status).into())
    }
}

/// The loss of a rank that said nothing; what it held is looked up.
fn gone(rank: usize, cause: String) -> Lost {
    Lost { rank, cause, held: String::new(), status: Lost::GONE }
}
