//! Row blocks in pieces: out to all who touch a part of them, and together again.
//!
//! A row block comes to a worker at its last lane, and leaves it at its first. Between them it is one piece of memory, in
//! which features that nobody here touches are zero. Pieces wait as they came until the last of them is there, so
//! that what is on its way takes no more memory than what it carries.

use super::{Piece, Rotation};
use crate::Result;
use crate::codec::{Entry, unpack_counts};
use crate::strategy::reach::Reach;
use crate::strategy::set::Set;
use crate::table::Storage;
use dunlin_comm::{Comm, Message};
use std::sync::Arc;

impl Rotation {
    /// The same with row blocks that travel in pieces, on all workers alike.
    pub fn with_reach(self, reach: Option<Reach>) -> Rotation {
        Rotation { reach, ..self }
    }

    /// This worker, and the one at which `row_block` begins its lap.
    fn own_and_home(&self, row_block: usize) -> (usize, usize) {
        (self.hosting.owner(self.hosted.start), self.hosting.owner(row_block / self.per_lane))
    }

    /// Sends on what `lane`, the last that it visits here, has left of a row block at `clock`.
    pub(super) fn send_pieces(
        &mut self,
        comm: &mut Comm,
        (lane, clock): (usize, u64),
        place: usize,
        values: &Storage,
    ) -> Result<()> {
        let row_block = self.row_block(lane, clock);
        let (own, home) = self.own_and_home(row_block);
        let rows = self.row_blocks[row_block].clone();
        let pieces = self.reach.as_ref().map(|reach| reach.onward(own, home));
        for (worker, set) in pieces.into_iter().flatten() {
            let Some(reach) = &self.reach else { break };
            let body = Arc::new(reach.cut(place, &rows, &set, values.bytes()));
            let entry = self.hosting.lanes_of(worker).end - 1;
            let hops = (lane + self.lanes - entry - 1) % self.lanes + 1;
            let then = clock + (hops * self.per_lane) as u64;
            match worker == own {
                true => self.pieces.entry(then).or_default().push(Piece { from: own, place, body }),
                false => self.send(comm, entry, then, place, body)?,
            }
        }
        Ok(())
    }

    /// Who is to send what of a row block that comes to this worker at `clock` of its last lane.
    pub(super) fn senders(&self, clock: u64) -> Vec<(usize, Set)> {
        let (own, home) = self.own_and_home(self.row_block(self.hosted.end - 1, clock));
        self.reach.as_ref().map(|reach| reach.senders(own, home)).unwrap_or_default()
    }

    fn has_piece(&self, clock: u64, from: usize, place: usize) -> bool {
        let pieces = self.pieces.get(&clock).into_iter().flatten();
        { pieces }.any(|piece| (piece.from, piece.place) == (from, place))
    }

    /// The first worker of which a piece for this visit is missing, if row blocks come in pieces.
    pub(super) fn missing(&self, lane: usize, clock: u64) -> Option<usize> {
        let is_entry = self.reach.is_some() && lane + 1 == self.hosted.end;
        let is_whole = |place: usize| self.held.get(&(lane, clock)).is_some_and(|held| held[place].is_some());
        let mut places = (0..self.rotating.len()).filter(|place| is_entry && !is_whole(*place));
        let place = places.next()?;
        let senders = self.senders(clock);
        senders.into_iter().map(|(worker, _)| worker).find(|worker| !self.has_piece(clock, *worker, place))
    }

    /// Takes in a piece of a row block.
    pub(super) fn take_piece(
        &mut self,
        mut message: Message,
        (lane, clock): (usize, u64),
        table: u16,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let Some((place, set)) = self.expected_piece(message.from, lane, clock, table) else {
            let what = format!(
                "a piece of rows of table {table} for lane {lane} at clock {clock}, where none can come"
            );
            return Err(message.bad(what).into());
        };
        let row_block = self.row_block(lane, clock);
        let rows = &self.row_blocks[row_block];
        let bytes = self.reach.as_ref().map_or(0, |reach| reach.bytes(place, rows, &set));
        let element = self.geometry[usize::from(table)].element;
        let what = format!("a piece of row block {row_block}");
        let body = unpack_counts(&mut message, entries, element, bytes, &what)?;
        self.pieces.entry(clock).or_default().push(Piece { from: message.from, place, body });
        self.put_together(clock, place);
        Ok(())
    }

    /// The place in `rotating` of `table`, and the features that rank `from` can have sent for this visit.
    fn expected_piece(&self, from: usize, lane: usize, clock: u64, table: u16) -> Option<(usize, Set)> {
        let place = self.place(table)?;
        let done = *self.done.last()?;
        // Two lanes are less than a lap apart, and a piece is sent less than a lap before its visit.
        let is_soon = clock >= done && clock - done < 2 * self.row_blocks.len() as u64;
        if lane + 1 != self.hosted.end || !is_soon || self.has_piece(clock, from, place) {
            return None;
        }
        let row_block = self.row_block(lane, clock);
        let is_away =
            self.held.iter().all(|((other, visit), tables)| match (*other, *visit) == (lane, clock) {
                true => tables[place].is_none(),
                false => self.row_block(*other, *visit) != row_block,
            });
        let mut visits = self.pieces.keys();
        let is_next = visits.all(|visit| *visit == clock || self.row_block(lane, *visit) != row_block);
        let own = self.hosting.owner(lane);
        let piece = self.senders(clock).into_iter().find(|(worker, _)| *worker == from && from != own);
        Some((place, piece?.1)).filter(|_| is_away && is_next)
    }

    /// If all pieces of a row block are there, makes it whole, as far as this worker touches it.
    fn put_together(&mut self, clock: u64, place: usize) {
        let lane = self.hosted.end - 1;
        let (senders, row_block) = (self.senders(clock), self.row_block(lane, clock));
        let Some(reach) = &self.reach else { return };
        if !senders.iter().all(|(worker, _)| self.has_piece(clock, *worker, place)) {
            return;
        }
        let Some(pieces) = self.pieces.get_mut(&clock) else { return };
        let rows = &self.row_blocks[row_block];
        let table = &self.geometry[self.rotating[place]];
        let mut values = Storage::zeroed(table.element, rows.len() * table.stride);
        for piece in pieces.extract_if(.., |piece| piece.place == place) {
            let set = senders.iter().find(|(worker, _)| *worker == piece.from).map(|(_, set)| set);
            set.into_iter().for_each(|set| reach.paste(place, rows, set, &piece.body, values.bytes_mut()));
        }
        if pieces.is_empty() {
            self.pieces.remove(&clock);
        }
        self.hold(lane, clock, place, values);
    }
}
