//! Ranks as threads of one process: a frame moves as a pointer.
//!
//! Who waits first looks into its mailbox again and again, for a moment that is shorter than a wake-up; where each rank
//! has a processor of its own, for as long as a wake-up takes and half as much again.

use super::spin::{Spin, has_processors};
use super::{Link, SharedServices};
use crate::time::Clock;
use crate::wire::Frame;
use crate::{Doing, Error, Lost, Result, Standing, Time};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
        let spins = has_processors(ranks);
        let spin = || Spin::new(spins, LONG_SPIN, PENALTIES);
        let link = |(rank, inbox)| MemoryLink { rank, hub: hub.clone(), inbox, spin: spin() };
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
    spin: Spin,
}

/// What looking came to: a frame, or none because of the deadline; or nothing yet.
type Looked = ControlFlow<Option<Frame>>;

/// How many times a waiting rank looks into its mailbox before it sleeps: some 10 µs, less than a wake-up.
const SPINS: usize = 200;
/// How long it looks where each rank has a processor of its own: a wake-up takes some 50 µs.
const LONG_SPIN: Duration = Duration::from_micros(80);
/// Waits that look only [`SPINS`] times, at least and at most, after one has lost its processor while it looked.
const PENALTIES: (u32, u32) = (20, 2_000);

impl MemoryLink {
    fn notes(&self) -> &Notes {
        &self.hub.ranks[self.rank]
    }

    /// Notes that this rank got on.
    fn moved(&self) {
        self.notes().progress.fetch_add(1, Relaxed);
        self.notes().moved_at.store(self.hub.clock.now().0, Relaxed);
    }

    fn await_frame(&mut self, deadline: Time) -> Result<Option<Frame>> {
        if let Break(found) = self.look(deadline)? {
            return Ok(found);
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

    /// Looks into the mailbox without sleeping, for as long as it pays.
    fn look(&mut self, deadline: Time) -> Result<Looked> {
        for _ in 0..SPINS {
            if let Break(found) = self.glance(deadline)? {
                return Ok(Break(found));
            }
        }
        let Some(patience) = self.spin.patience() else { return Ok(Continue(())) };
        let mut last = self.hub.clock.now();
        let (end, mut longest_gap) = (last + patience, Duration::ZERO);
        loop {
            let looked = self.glance(deadline)?;
            let now = self.hub.clock.now();
            longest_gap = longest_gap.max(now.since(last));
            last = now;
            if looked.is_break() || now >= end {
                self.spin.learn(looked.is_break(), longest_gap);
                return Ok(looked);
            }
        }
    }

    /// One look: a frame, or none because of the deadline.
    fn glance(&self, deadline: Time) -> Result<Looked> {
        let found = match self.inbox.try_recv() {
            Ok(letter) => self.open(letter)?,
            Err(_) if self.hub.clock.now() >= deadline => return Ok(Break(None)),
            Err(_) => None,
        };
        if found.is_none() {
            std::hint::spin_loop();
        }
        Ok(found.map_or(Continue(()), |frame| Break(Some(frame))))
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

    fn is_one_host(&self) -> bool {
        true
    }
}
