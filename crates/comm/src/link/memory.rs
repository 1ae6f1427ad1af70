//! Ranks as threads of one process: a frame moves as a pointer.

use super::{Link, SharedServices};
use crate::time::Clock;
use crate::wire::Frame;
use crate::{Doing, Error, Lost, Result, Standing, Time};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What travels between threads.
enum Letter {
    Frame(Frame),
    /// Somebody was lost; look at [`Hub::lost`].
    Wake,
}

/// What a rank lets the others know of itself.
#[derive(Default)]
#[repr(align(64))] // written by one rank, and seldom read by the others
struct Notes {
    held: Mutex<String>,
    progress: AtomicU64,
    /// When it last moved, in nanoseconds.
    moved_at: AtomicU64,
    waits: AtomicBool,
    has_ended: AtomicBool,
}

impl Notes {
    fn standing(&self, rank: usize) -> Standing {
        let doing = match (self.has_ended.load(Relaxed), self.waits.load(Relaxed)) {
            (true, _) => Doing::Ended,
            (false, true) => Doing::Waits,
            (false, false) => Doing::Works,
        };
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let moved_at = Time(self.moved_at.load(Relaxed));
        Standing { rank, doing, progress: self.progress.load(Relaxed), moved_at, held }
    }
}

/// What the ranks of one process share.
pub struct Hub {
    clock: Clock,
    mailboxes: Vec<Sender<Letter>>,
    services: SharedServices,
    ranks: Vec<Notes>,
    lost: Mutex<Option<Lost>>,
}

impl Hub {
    /// The links of `ranks` threads, in rank order, and what they share.
    pub fn links(ranks: usize) -> (Arc<Hub>, Vec<MemoryLink>) {
        let (mailboxes, receivers): (Vec<_>, Vec<_>) = (0..ranks).map(|_| unbounded()).unzip();
        let hub = Arc::new(Hub {
            clock: Clock::start(),
            mailboxes,
            services: Arc::new((0..ranks).map(|_| Mutex::new(None)).collect()),
            ranks: (0..ranks).map(|_| Notes::default()).collect(),
            lost: Mutex::new(None),
        });
        let link = |(rank, inbox)| MemoryLink { rank, hub: hub.clone(), inbox };
        let links = receivers.into_iter().enumerate().map(link).collect();
        (hub, links)
    }

    /// Records that `rank` is gone, if it is the first, and wakes everybody.
    pub fn lose(&self, rank: usize, cause: String, status: u8) {
        let held = self.ranks[rank].held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Lost {
            rank,
            cause,
            held,
            status,
        });
        for mailbox in &self.mailboxes {
            let _ = mailbox.send(Letter::Wake); // a rank that has ended needs no waking
        }
    }

    fn check(&self) -> Result<()> {
        match &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(lost) => Err(Error::Lost(lost.clone())),
            None => Ok(()),
        }
    }
}

/// A thread's end of the [`Hub`].
pub struct MemoryLink {
    rank: usize,
    hub: Arc<Hub>,
    inbox: Receiver<Letter>,
}

/// How many times a waiting rank looks into its mailbox before it sleeps: some 10 µs, less than a wake-up.
const SPINS: usize = 200;

impl MemoryLink {
    fn notes(&self) -> &Notes {
        &self.hub.ranks[self.rank]
    }

    /// Notes that this rank got on.
    fn moved(&self) {
        self.notes().progress.fetch_add(1, Relaxed);
        self.notes().moved_at.store(self.hub.clock.now().0, Relaxed);
    }

    fn await_frame(&self, deadline: Time) -> Result<Option<Frame>> {
        for _ in 0..SPINS {
            match self.inbox.try_recv() {
                Ok(letter) => match self.open(letter)? {
                    None => continue,
                    found => return Ok(found),
                },
                Err(TryRecvError::Empty) if self.hub.clock.now() >= deadline => return Ok(None),
                Err(_) => std::hint::spin_loop(),
            }
        }
        self.notes().waits.store(true, Relaxed);
        loop {
            let left = deadline.since(self.hub.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(letter) => match self.open(letter)? {
                    None => continue,
                    found => return Ok(found),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.hub.check()?;
                    return Ok(None);
                }
            }
        }
    }

    fn open(&self, letter: Letter) -> Result<Option<Frame>> {
        match letter {
            Letter::Frame(frame) => Ok(Some(frame)),
            Letter::Wake => self.hub.check().map(|()| None),
        }
    }
}

impl Link for MemoryLink {
    fn send(&mut self, frame: Frame) -> Result<()> {
        self.moved();
        if self.hub.mailboxes[usize::from(frame.to)].send(Letter::Frame(frame)).is_err() {
            self.hub.check()?; // the receiver ended in good order: nobody will miss the frame
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Time) -> Result<Option<Frame>> {
        let found = self.await_frame(deadline);
        self.notes().waits.store(false, Relaxed);
        if let Ok(Some(_)) = &found {
            self.moved();
        }
        found
    }

    fn now(&self) -> Time {
        self.hub.clock.now()
    }

    fn describe(&mut self, held: &str) {
        self.moved();
        let mut place = self.notes().held.lock().unwrap_or_else(PoisonError::into_inner);
        place.clear();
        place.push_str(held);
    }

    fn standings(&self) -> Vec<Standing> {
        let others = self.hub.ranks.iter().enumerate().filter(|(rank, _)| *rank != self.rank);
        others.map(|(rank, notes)| notes.standing(rank)).collect()
    }

    fn finish(&mut self) -> Result<()> {
        self.notes().has_ended.store(true, Relaxed);
        Ok(())
    }

    fn services(&self) -> Option<&SharedServices> {
        Some(&self.hub.services)
    }
}
