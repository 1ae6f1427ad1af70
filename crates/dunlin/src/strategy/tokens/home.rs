//! Synchronisation points of tables that are never whole in one place, or whose tokens travel in pieces.
//!
//! At such a point every token goes home: to the lane that it begins at in a run that goes on from a checkpoint. A
//! worker that has all that belong to its lanes says so to all others, and is done once they have said so too: until
//! then a token may still come by that one of them passed on before it knew of the point. So each lane has its rows, to
//! be saved with it or to move with it, and nobody has those of others. Whoever is done goes on: a token that comes by
//! having visited a lane is one of the next lap already, and waits.

use super::{Packet, Token, Tokens};
use crate::Result;
use crate::channel::ROTATION;
use crate::codec::Part;
use crate::serial::share;
use crate::strategy::row_blocks::outgoing;
use crate::table::Params;
use dunlin_comm::{Buffer, Comm, Message};
use std::collections::BTreeSet;

impl Tokens {
    /// True if tokens come home at synchronisation points.
    pub(super) fn gathers(&self) -> bool {
        self.spread || self.reach.is_some()
    }

    /// The lane that `token` begins at.
    pub(super) fn home(&self, token: usize) -> usize {
        let tokens = self.row_blocks.len();
        (0..self.lanes).find(|lane| share(tokens, self.lanes, *lane).contains(&token)).unwrap_or(0)
    }

    /// Waits until all tokens are before `lap` where they begin, and merged tables are merged.
    pub(super) fn come_home(&mut self, comm: &mut Comm, params: &mut Params, lap: u64) -> Result<()> {
        let workers = self.outbox.len();
        let mut has_told = false;
        loop {
            self.send_home(comm)?;
            if !has_told && self.is_home(lap) {
                for worker in self.others(comm.rank()) {
                    comm.send(worker, ROTATION, Message::new(&Packet::Settled { lap }, Buffer::new()))?;
                }
                has_told = true;
            }
            let is_merged = self.merged.tables.is_empty() || self.merged.laps >= lap;
            if has_told && is_merged && self.settled.len() + 1 == workers {
                break;
            }
            self.wait(comm, params, "row blocks to come home at a synchronisation point")?;
        }
        self.settled.clear();
        self.begin_again();
        Ok(())
    }

    /// Sends tokens of other workers' lanes there.
    fn send_home(&mut self, comm: &mut Comm) -> Result<()> {
        for number in self.strays() {
            let Some(token) = self.held.remove(&number) else { continue };
            self.queue.retain(|place| place.3 != number);
            let lane = self.home(number as usize);
            self.outbox[self.hosting.owner(lane)].push((number, Token { lane, ..token }));
        }
        self.flush_all(comm)
    }

    /// Tokens of other workers' lanes that have not begun their next lap.
    pub(super) fn strays(&self) -> Vec<u32> {
        let strays = self.held.iter().filter(|(number, token)| {
            token.visited.is_empty() && !self.hosted.contains(&self.home(**number as usize))
        });
        strays.map(|(number, _)| *number).collect()
    }

    /// True if all tokens that begin at lanes of this worker are here, before `lap`.
    pub(super) fn is_home(&self, lap: u64) -> bool {
        let tokens = self.row_blocks.len();
        let mut own = self.hosted.clone().flat_map(|lane| share(tokens, self.lanes, lane));
        own.all(|token| {
            let held = self.held.get(&(token as u32));
            held.is_some_and(|token| token.lap == lap && token.visited.count() == 0)
        })
    }

    /// Has all tokens wait for the lanes that they begin at, as in a run that begins here, but for those which have been
    /// on their way again before all were done.
    pub(super) fn begin_again(&mut self) {
        self.queue.clear();
        let tokens = self.row_blocks.len();
        for (number, token) in std::mem::take(&mut self.held) {
            let lane = if token.visited.is_empty() { self.home(number as usize) } else { token.lane };
            self.hold(number, Token { lane, ..token });
        }
        self.waiting = (0..self.lanes).map(|lane| share(tokens, self.lanes, lane).len() as u32).collect();
    }

    /// Takes in that the tokens of rank `from` are home.
    pub(super) fn take_settled(&mut self, message: &Message, lap: u64) -> Result<()> {
        let first = self.tracks.iter().map(|track| track.lap).min().unwrap_or(0);
        let is_now = lap > self.drained && lap.checked_sub(first).is_some_and(|ahead| ahead <= 1);
        let is_worker = !self.lanes_of(message.from).is_empty();
        match self.gathers() && is_now && is_worker && self.settled.insert(message.from) {
            true => Ok(()),
            false => Err(message
                .bad(format!("that its row blocks are home before lap {lap}, which cannot be"))
                .into()),
        }
    }

    /// At a synchronisation point before `lap`: makes the tables whole on rank 0.
    pub(super) fn bring_together(&mut self, comm: &mut Comm, params: &mut Params, lap: u64) -> Result<()> {
        if comm.rank() > 0 {
            for (number, token) in &self.held {
                for (place, values) in token.values.iter().enumerate() {
                    let Part { entries, body } =
                        outgoing(comm, values.element(), Buffer::from(values.bytes()).into());
                    let head = Packet::Copy { lap, token: *number, place: place as u16, entries };
                    comm.send(0, ROTATION, Message::shared(&head, body))?;
                }
            }
            return Ok(());
        }
        let own: BTreeSet<u32> = self.held.keys().copied().collect();
        while self.copies.len() < (self.row_blocks.len() - own.len()) * self.rotating.len() {
            self.wait(comm, params, "copies of row blocks, to be saved")?;
        }
        self.put_together(params, &own)?;
        self.copies.clear();
        Ok(())
    }

    /// After a synchronisation point: table, first row and numbers of what begins at `lane`.
    pub(super) fn rows_of(&self, lane: usize) -> Vec<(usize, usize, &[u8])> {
        if !self.spread {
            return Vec::new();
        }
        let own = share(self.row_blocks.len(), self.lanes, lane);
        let held = own.filter_map(|number| Some((number, self.held.get(&(number as u32))?)));
        let rows = held.flat_map(|(number, token)| {
            let first = self.row_blocks[number].start;
            let tables = self.rotating.iter().zip(&token.values);
            tables.map(move |(table, values)| (*table, first, values.bytes()))
        });
        // An empty row block may begin where the next one does.
        rows.filter(|(.., bytes)| !bytes.is_empty()).collect()
    }
}
