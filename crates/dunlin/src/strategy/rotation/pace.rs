//! How far a lane may be ahead of the lane that it sends its row blocks to.
//!
//! The ring alone keeps lanes less than a lap apart: before a slow lane all row blocks of the others can gather, so that its
//! worker has to have room for the whole model. Between threads, which share what there is, that is no matter. Elsewhere
//! a lane begins a clock only if the lane that it sends to has done the one m before, so that 2m row blocks at most are
//! with a lane or on their way to it, whoever is slow: what a worker holds of the model falls with the number of workers.
//! The lane that is furthest behind never waits for this, so that nobody waits for ever.

use super::{Packet, Rotation};
use crate::Result;
use crate::channel::ROTATION;
use dunlin_comm::{Buffer, Comm, Message};

impl Rotation {
    /// The same where no lane is far ahead of the one it sends to, if `paced`: right where ranks do not share memory, on
    /// all of them alike. All lanes have done the same clock.
    pub fn with_pace(self, paced: bool) -> Rotation {
        let taken = self.done.first().copied().filter(|_| paced);
        Rotation { taken, ..self }
    }

    /// The lane that row blocks go to from `lane`.
    pub(super) fn receiver(&self, lane: usize) -> usize {
        (lane + self.lanes - 1) % self.lanes
    }

    /// True if `lane` may begin `clock` without more row blocks gathering before its receiver than are to.
    pub(super) fn has_room(&self, lane: usize, clock: u64) -> bool {
        let Some(taken) = self.taken else { return true };
        let receiver = self.receiver(lane);
        let here = receiver.checked_sub(self.hosted.start).and_then(|place| self.done.get(place));
        clock < here.copied().unwrap_or(taken) + self.per_lane as u64
    }

    /// So many clocks before its visit a row block may come to a lane.
    pub(super) fn most_ahead(&self) -> u64 {
        let row_blocks = self.row_blocks.len();
        self.taken.map_or(row_blocks, |_| row_blocks.min(2 * self.per_lane)) as u64
    }

    /// Tells the worker whose lane sends to `lane` that it has done `clock` clocks.
    pub(super) fn tell(&self, comm: &mut Comm, lane: usize, clock: u64) -> Result<()> {
        let sender = (lane + 1) % self.lanes;
        if self.taken.is_none() || self.hosted.contains(&sender) {
            return Ok(());
        }
        let head = Packet::Done { lane: lane as u32, clock };
        Ok(comm.send(self.hosting.owner(sender), ROTATION, Message::new(&head, Buffer::new()))?)
    }

    /// What is waited for before nothing of what was done in `clock` clocks is on its way to this worker.
    pub(super) fn untold(&self, clock: u64) -> Option<String> {
        let lane = self.receiver(self.hosted.start);
        let is_behind = self.taken.is_some_and(|taken| taken < clock) && !self.hosted.contains(&lane);
        is_behind.then(|| self.room_words(self.hosted.start, clock))
    }

    /// For messages of a wait.
    pub(super) fn room_words(&self, lane: usize, clock: u64) -> String {
        let receiver = self.receiver(lane);
        let worker = self.hosting.owner(receiver);
        format!(
            "lane {receiver} on rank {worker}, which is to take row blocks of lane {lane} before clock {clock}"
        )
    }

    /// Takes in that `lane` has done `clock` clocks.
    pub(super) fn take_done(&mut self, message: &Message, lane: usize, clock: u64) -> Result<()> {
        let (receiver, most) = (self.receiver(self.hosted.start), self.done[0] + self.per_lane as u64);
        let is_theirs = !self.hosted.contains(&receiver) && self.hosting.owner(receiver) == message.from;
        match self.taken {
            Some(taken) if lane == receiver && is_theirs && taken < clock && clock <= most => {
                self.taken = Some(clock);
                Ok(())
            }
            _ => Err(message
                .bad(format!("lane {lane} is said to have done clock {clock}, which cannot be"))
                .into()),
        }
    }
}
