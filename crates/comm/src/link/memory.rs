//! Ranks as threads of one process: a frame moves as a pointer.

use super::{Link, SharedServices};
use crate::time::Clock;
use crate::wire::Frame;
use crate::{Error, Lost, Result, Time};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};
use std::sync::{Arc, Mutex, PoisonError};

/// What travels between threads.
enum Letter {
    Frame(Frame),
    /// Somebody was lost; look at [`Hub::lost`].
    Wake,
}

/// What the ranks of one process share.
pub struct Hub {
    clock: Clock,
    mailboxes: Vec<Sender<Letter>>,
    services: SharedServices,
    held: Vec<Mutex<String>>,
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
            held: (0..ranks).map(|_| Mutex::default()).collect(),
            lost: Mutex::new(None),
        });
        let link = |(rank, inbox)| MemoryLink { rank, hub: hub.clone(), inbox };
        let links = receivers.into_iter().enumerate().map(link).collect();
        (hub, links)
    }

    /// Records that `rank` is gone, if it is the first, and wakes everybody.
    pub fn lose(&self, rank: usize, cause: String, status: u8) {
        let held = self.held[rank].lock().unwrap_or_else(PoisonError::into_inner).clone();
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
    fn open(&self, letter: Letter) -> Result<Option<Frame>> {
        match letter {
            Letter::Frame(frame) => Ok(Some(frame)),
            Letter::Wake => self.hub.check().map(|()| None),
        }
    }
}

impl Link for MemoryLink {
    fn send(&mut self, frame: Frame) -> Result<()> {
        if self.hub.mailboxes[usize::from(frame.to)].send(Letter::Frame(frame)).is_err() {
            self.hub.check()?; // the receiver ended in good order: nobody will miss the frame
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Time) -> Result<Option<Frame>> {
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

    fn now(&self) -> Time {
        self.hub.clock.now()
    }

    fn describe(&mut self, held: &str) {
        let mut place = self.hub.held[self.rank].lock().unwrap_or_else(PoisonError::into_inner);
        place.clear();
        place.push_str(held);
    }

    fn services(&self) -> Option<&SharedServices> {
        Some(&self.hub.services)
    }
}
