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
//!
//! Signs of life carry how far a rank is. Rank 0 tells a rank that has waited for long how far all are, so that
//! the wait can go on while they move, and name the one that does not.
//!
//! Reading order: this file (what the rank's own thread sees of it), `warden` (the control thread).

mod warden;

use crate::link::connection::Connection;
use crate::standing::{Doing, Standing, cut};
use crate::time::Clock;
use crate::{Error, Lost, Result, Time};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Most bytes of what a rank says it holds.
const MAX_HELD: usize = 1 << 10;

/// Writes `dunlin: WHAT` to standard error as one piece: several processes say it at the same moment. If nobody
/// reads there, so be it.
pub fn last_line(what: &impl std::fmt::Display) {
    let _ = std::io::stderr().write_all(format!("dunlin: {what}\n").as_bytes());
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
    /// The rank's thread waits for others.
    waits: AtomicBool,
    /// The rank wants to know how far the others are.
    watches: AtomicBool,
    /// How far each rank is, if known: on rank 0 always, elsewhere while the rank watches.
    standings: Mutex<Vec<Option<Standing>>>,
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

    /// Says whether the rank's thread waits for others.
    pub(crate) fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Asks that [`Shared::standings`] be kept, from the next signs of life on, or no more.
    pub(crate) fn watch(&self, on: bool) {
        if on && self.rank != 0 {
            lock(&self.standings).iter_mut().for_each(|standing| *standing = None); // old news
        }
        if self.watches.swap(on, Ordering::AcqRel) != on {
            ring(&self.to_control);
        }
    }

    /// How far the other ranks are, as far as it is known here.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let standings = lock(&self.standings);
        standings.iter().flatten().filter(|standing| standing.rank != self.rank).cloned().collect()
    }

    /// Takes in how far a rank is. The first news of it tells nothing of when it moved.
    fn stands(&self, rank: usize, progress: u64, doing: Doing, held: Option<&str>, now: Time) {
        let mut standings = lock(&self.standings);
        let Some(place) = standings.get_mut(rank) else { return };
        let is_news = place.is_some();
        let standing = place.get_or_insert_with(|| Standing::new(rank));
        if is_news && standing.progress != progress {
            standing.moved_at = now;
        }
        (standing.progress, standing.doing) = (progress, doing);
        if let Some(held) = held {
            standing.held = held.into();
        }
    }

    /// Records what the rank holds; the control thread tells it soon.
    pub(crate) fn describe(&self, text: &str) {
        let text = cut(text, MAX_HELD);
        let mut held = lock(&self.held);
        if held.text != text {
            held.text.clear();
            held.text.push_str(text);
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

/// What is done before a process is ended because its rank does not react to a loss; says whether the process is
/// to tell of it.
pub(crate) type LastAct = Box<dyn FnMut(&Lost) -> bool + Send>;

impl Control {
    /// Starts the thread of `rank` of `size`, with a connection to rank 0, or on rank 0 to all others.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no thread or no pipe to give.
    pub(crate) fn start(
        (rank, size): (usize, usize),
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
            waits: AtomicBool::new(false),
            watches: AtomicBool::new(false),
            standings: Mutex::new(vec![None; size]),
            held: Mutex::default(),
            requests: Mutex::default(),
            to_control,
            to_rank,
        });
        let warden = warden::Warden::new(shared.clone(), control_bell, connections, last_act);
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
