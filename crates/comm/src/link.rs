//! Frames between ranks. One implementation for each place where ranks can live.

pub(crate) mod connection;
pub mod memory;
pub mod sim;
pub(crate) mod spin;
pub mod tcp;

use crate::wire::Frame;
use crate::{Result, Service, Standing, Time};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The services of ranks that share this process, by rank. A caller locks a slot, lets the service handle one
/// message, and delivers its replies before it unlocks, so that replies leave in the order they were made.
pub type SharedServices = Arc<Vec<Mutex<Option<Box<dyn Service>>>>>;

/// One rank's end of the cluster. Reliable and in order until a rank is lost.
///
/// A link never calls back: [`crate::Comm`] drives it, and it alone waits.
pub trait Link: Send {
    /// Queues a data frame for `frame.to`; for the own rank only where memory is shared. Never blocks.
    ///
    /// # Errors
    /// [`crate::Error::Lost`] if any rank is known to be lost.
    fn send(&mut self, frame: Frame) -> Result<()>;

    /// The next data frame that arrived, waiting for it until `deadline` at most; `None` when that has passed.
    /// With a deadline in the past it looks once and returns.
    ///
    /// # Errors
    /// [`crate::Error::Lost`] as soon as any rank is known to be lost.
    fn receive(&mut self, deadline: Time) -> Result<Option<Frame>>;

    /// Like [`Link::receive`], for a caller to whom only frames of rank `from` matter now: what others say may
    /// be taken in some milliseconds later.
    ///
    /// # Errors
    /// As [`Link::receive`].
    fn receive_from(&mut self, _from: usize, deadline: Time) -> Result<Option<Frame>> {
        self.receive(deadline)
    }

    /// The time on this rank: wall clock, or virtual.
    fn now(&self) -> Time;

    /// Charges `cost` of computing to this rank. Only the simulator's time moves by it.
    fn compute(&mut self, _cost: Duration) {}

    /// True where time is virtual.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Says what this rank is doing or holds, for the message that names it if it is lost. Also counts as
    /// progress.
    fn describe(&mut self, _held: &str) {}

    /// Asks that [`Link::standings`] be kept up to date from now on, or no more; needed where ranks hear of each
    /// other only through rank 0.
    fn watch(&mut self, _on: bool) {}

    /// How far the other ranks are, as far as it is known here.
    fn standings(&self) -> Vec<Standing>;

    /// The services of all ranks, if they share this process's memory and may be called in place.
    fn services(&self) -> Option<&SharedServices> {
        None
    }

    /// True if all ranks are on this host: what is sent is copied, and no network is in between.
    fn is_one_host(&self) -> bool {
        false
    }

    /// Bytes of frames sent over connections so far; 0 where nothing is framed.
    fn bytes_sent(&self) -> u64 {
        0
    }

    /// Sends what is queued, says goodbye to all peers, and closes. A peer that ends after that is not lost.
    ///
    /// # Errors
    /// If a peer is lost before everything went out.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
