//! A seeded simulator: the unchanged code of the ranks, one at a time, in virtual time.
//!
//! Every rank is a thread, all on one processor, and a baton says which of them runs. A rank keeps the baton
//! while it computes and sends; it gives it up when it waits or looks while another rank or a frame is behind
//! it in virtual time. So the order of all things is a function of the [`SimConfig`] alone, and a seed that
//! found a bug finds it again. The price is a switch of threads for each hand-over, some microseconds.
//!
//! Rank code must wait in [`crate::Comm`] only: whoever waits for another rank elsewhere (a lock, a thread)
//! holds the baton and waits for ever.
//!
//! Reading order: [`SimConfig`] and [`Fault`] (what is simulated), `network` (what happens to a frame),
//! `world` (who goes on next), this file (the baton and the link).

mod config;
mod faults;
mod network;
mod random;
mod world;

pub use config::{Network, SimConfig, Stragglers};
pub use faults::{Fault, HEARTBEAT_SECONDS, MISSED_HEARTBEATS};
pub use world::Report;

use super::Link;
use crate::wire::Frame;
use crate::{Lost, Result, Standing, Time};
use random::{Purpose, Random};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use world::World;

/// What a look at an empty inbox costs in virtual time. Without it a rank that looks until something comes
/// would hold time still.
const LOOK: Duration = Duration::from_micros(1);
/// After this many fruitless looks in a row they take twice as long, after twice as many three times, ...: a
/// rank that looks for minutes of virtual time does not need millions of looks.
const LOOKS: u32 = 16;

/// A rank's turn. The flag is set by whoever hands over and cleared by its owner; the lock is never held
/// longer than that.
#[derive(Default)]
struct Baton {
    here: Mutex<bool>,
    handed_over: Condvar,
}

impl Baton {
    fn hand_over(&self) {
        *self.here.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.handed_over.notify_one();
    }

    fn wait(&self) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        while !*here {
            here = self.handed_over.wait(here).unwrap_or_else(PoisonError::into_inner);
        }
        *here = false;
    }
}

/// What the ranks of a simulation share.
pub struct Hub {
    config: SimConfig,
    /// Locked by the rank that has the baton, which hands it over after it has unlocked; nobody ever waits here.
    world: Mutex<World>,
    batons: Vec<Baton>,
}

impl Hub {
    /// The links of the ranks, in rank order, and what they share.
    ///
    /// # Errors
    /// [`crate::Error::Launch`] if the configuration is out of range.
    pub fn links(config: &SimConfig) -> Result<(Arc<Hub>, Vec<SimLink>)> {
        config.check()?;
        let hub = Arc::new(Hub {
            config: config.clone(),
            world: Mutex::new(World::new(config)),
            batons: (0..config.ranks).map(|_| Baton::default()).collect(),
        });
        let link = |rank| SimLink {
            rank,
            hub: hub.clone(),
            time: Time(0),
            random: Random::new(config.seed, Purpose::Compute, rank),
            looks: 0,
            bytes_sent: 0,
        };
        let links = (0..config.ranks).map(link).collect();
        Ok((hub, links))
    }

    /// Hands the baton to the first rank. Call it once all threads were started.
    pub fn start(&self) {
        let next = self.world().schedule();
        self.hand_over(next);
    }

    /// `rank` has returned at `time`, and frees the baton; with a `failure`, it counts as lost.
    pub fn leave(&self, rank: usize, time: Time, failure: Option<String>) {
        let mut world = self.world();
        world.end(rank, time, failure);
        let next = world.schedule();
        drop(world);
        self.hand_over(next);
    }

    /// `rank` could not be started; like [`Hub::leave`], but before [`Hub::start`].
    pub fn absent(&self, rank: usize, cause: String) {
        self.world().end(rank, Time(0), Some(cause));
    }

    /// The first loss that became known, if any.
    pub fn lost(&self) -> Option<Lost> {
        self.world().lost().cloned()
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        self.world().report.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, next: Option<usize>) {
        if let Some(rank) = next {
            self.batons[rank].hand_over();
        }
    }

    /// `rank` stops at `time` until `deadline`, or until a frame comes unless `deaf`; meanwhile others run.
    /// Returns when it is the earliest of all again.
    fn park<'a>(
        &'a self,
        rank: usize,
        mut world: MutexGuard<'a, World>,
        (time, deadline): (Time, Time),
        deaf: bool,
    ) -> MutexGuard<'a, World> {
        world.park(rank, time, deadline, deaf);
        let next = world.schedule();
        if next == Some(rank) {
            return world;
        }
        drop(world);
        self.hand_over(next);
        self.batons[rank].wait();
        self.world()
    }
}

/// A rank's end of the [`Hub`].
pub struct SimLink {
    rank: usize,
    hub: Arc<Hub>,
    time: Time,
    random: Random,
    /// Fruitless looks since this rank last did anything else.
    looks: u32,
    bytes_sent: u64,
}

impl SimLink {
    /// Waits for this rank's first turn; to be called by its thread before its body.
    ///
    /// # Errors
    /// [`crate::Error::Lost`] if another rank could not be started.
    pub fn enter(&mut self) -> Result<()> {
        self.hub.batons[self.rank].wait();
        self.hub.world().check(self.rank)
    }
}

impl Link for SimLink {
    fn send(&mut self, frame: Frame) -> Result<()> {
        let bytes = frame.wire_bytes() as u64;
        self.hub.world().send(self.time, frame)?;
        self.bytes_sent += bytes;
        self.looks = 0;
        Ok(())
    }

    fn receive(&mut self, deadline: Time) -> Result<Option<Frame>> {
        let looking = deadline <= self.time;
        let mut world = self.hub.world();
        match looking && self.looks > 0 {
            true => world.limit_looking(self.rank, self.time),
            false => world.progressed(self.time),
        }
        let mut world = self.hub.park(self.rank, world, (self.time, deadline), false);
        self.time = world.time(self.rank);
        world.check(self.rank)?;
        let found = world.take(self.rank);
        drop(world);
        if found.is_some() || !looking {
            self.looks = 0;
        } else {
            self.time = self.time + LOOK * (1 + self.looks / LOOKS);
            self.looks = self.looks.saturating_add(1);
        }
        Ok(found)
    }

    fn now(&self) -> Time {
        self.time
    }

    fn compute(&mut self, cost: Duration) {
        let jitter = 1.0 + self.hub.config.compute_jitter * (2.0 * self.random.unit() - 1.0);
        let factor = self.hub.config.stragglers.factor(self.rank, &mut self.random);
        self.time = self.time + Duration::from_nanos((cost.as_nanos() as f64 * factor * jitter) as u64);
        self.looks = 0;
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn describe(&mut self, held: &str) {
        self.hub.world().describe(self.rank, self.time, held);
    }

    fn standings(&self) -> Vec<Standing> {
        self.hub.world().standings(self.rank, self.time)
    }

    fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    fn finish(&mut self) -> Result<()> {
        let mut drained = self.time;
        for _ in 0..2 {
            // First everything that was sent enters the NIC, then it leaves it.
            let world = self.hub.park(self.rank, self.hub.world(), (self.time, drained), true);
            self.time = world.time(self.rank);
            world.check(self.rank)?;
            drained = world.drained(self.rank);
        }
        Ok(())
    }
}

/// The processor that this thread runs on, if the system says so.
pub(crate) fn current_processor() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return Some(rustix::thread::sched_getcpu());
    #[cfg(not(target_os = "linux"))]
    None
}

/// Keeps this thread on one processor, where a hand-over is cheapest; without success if the system forbids it.
pub(crate) fn pin_to(processor: Option<usize>) {
    #[cfg(target_os = "linux")]
    if let Some(processor) = processor.filter(|number| *number < rustix::thread::CpuSet::MAX_CPU) {
        let mut set = rustix::thread::CpuSet::new();
        set.set(processor);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processor;
}
