//! What other ranks send: taken in only where it can be what this lane waits for.
//!
//! The ring bounds what can be on its way. A lane at clock c needs that the next one has done c − m, and so on round to
//! itself: no lane is a lap of R clocks ahead of another, every row block is in one place, and the merge of a lap and
//! the copies of a synchronisation point arrive before anybody can begin the next. What lies beyond is refused, with
//! the sender's name; so memory for what has arrived is bounded by one copy of the tables and an update a lane.

use super::{Packet, Rotation};
use crate::Result;
use crate::codec::{Entry, Part, unpack_counts};
use crate::table::{Params, Storage};
use dunlin_comm::collective::{Folder, Node};
use dunlin_comm::{Buffer, Message};
use std::sync::Arc;

impl Rotation {
    /// Takes in one message; adds up the updates of a lap if they are all there with it.
    ///
    /// # Errors
    /// [`dunlin_comm::Error::BadMessage`] for what nobody could have sent in this run.
    pub(super) fn take_in(&mut self, mut message: Message, params: &mut Params) -> Result<()> {
        match message.head()? {
            Packet::Visit { lane, clock, table, entries } => {
                self.take_visit(message, lane as usize, clock, (table, entries))?;
            }
            Packet::Merge { lap, lanes, entries } => self.take_merge(&mut message, lap, lanes, entries)?,
            Packet::Copy { clock, table, row_block, entries } => {
                self.take_copy(message, clock, row_block as usize, (table, entries))?;
            }
            Packet::Done { lane, clock } => self.take_done(&message, lane as usize, clock)?,
        }
        self.merge(params);
        Ok(())
    }

    fn take_visit(
        &mut self,
        mut message: Message,
        lane: usize,
        clock: u64,
        (table, entries): (u16, Vec<Entry>),
    ) -> Result<()> {
        if self.reach.is_some() {
            return self.take_piece(message, (lane, clock), table, entries);
        }
        let Some(place) = self.expected_visit(message.from, lane, clock, table) else {
            let what = format!("rows of table {table} for lane {lane} at clock {clock}, where none can come");
            return Err(message.bad(what).into());
        };
        let body = self.numbers(&mut message, entries, place, self.row_block(lane, clock))?;
        let element = self.geometry[usize::from(table)].element;
        self.hold(lane, clock, place, Storage::from_buffer(element, Arc::unwrap_or_clone(body)));
        Ok(())
    }

    /// The place in `rotating` of `table`, if rank `from` can have sent rows of it for this visit.
    fn expected_visit(&self, from: usize, lane: usize, clock: u64, table: u16) -> Option<usize> {
        let done = *self.done.get(lane.checked_sub(self.hosted.start)?)?;
        let ahead = clock.checked_sub(done)?;
        let place = self.place(table)?;
        let row_block = self.row_block(lane, clock);
        let is_away = self.held.iter().all(|(visit, tables)| match *visit == (lane, clock) {
            true => tables[place].is_none(),
            false => self.row_block(visit.0, visit.1) != row_block,
        });
        let is_sender = from == self.hosting.owner((lane + 1) % self.lanes);
        (is_sender && is_away && ahead < self.most_ahead()).then_some(place)
    }

    fn take_merge(
        &mut self,
        message: &mut Message,
        lap: u64,
        lanes: Node,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let is_new = !self.arrived.iter().any(|(_, other, _)| *other == lanes);
        if lap != self.laps || !is_new || !self.nodes_of(message.from).contains(&lanes) {
            let Node { start, end } = lanes;
            let what = format!("updates of lanes {start}..{end} in lap {lap}, where none can come");
            return Err(message.bad(what).into());
        }
        if let Some(entry) = entries.iter().find(|entry| !self.merged.contains(&usize::from(entry.table))) {
            return Err(message.bad(format!("updates of table {}, which is not merged", entry.table)).into());
        }
        let part = Part::received(message, entries, &self.geometry)?;
        self.arrived.push((lap, lanes, part));
        Ok(())
    }

    /// The subtrees of lanes whose updates rank `worker` sends.
    fn nodes_of(&self, worker: usize) -> Vec<Node> {
        let mut folder = Folder::new(self.lanes);
        let lanes = self.hosting.lanes_of(worker);
        if lanes != self.hosted {
            lanes.for_each(|lane| folder.push(Node::leaf(lane), (), |_: &mut (), ()| {}));
        }
        folder.into_parts().into_iter().map(|(node, ())| node).collect()
    }

    fn take_copy(
        &mut self,
        mut message: Message,
        clock: u64,
        row_block: usize,
        (table, entries): (u16, Vec<Entry>),
    ) -> Result<()> {
        let Some(place) = self.expected_copy(message.from, clock, table, row_block) else {
            let what = format!(
                "a copy of row block {row_block} of table {table} at clock {clock}, where none can come"
            );
            return Err(message.bad(what).into());
        };
        let body = self.numbers(&mut message, entries, place, row_block)?;
        self.copies.retain(|copy| copy.0 == clock); // older ones nobody has asked for
        self.copies.push((clock, place, row_block, body));
        Ok(())
    }

    /// The place in `rotating` of `table`, if rank `from` has this row block once all lanes have done `clock` clocks,
    /// and that may be soon.
    fn expected_copy(&self, from: usize, clock: u64, table: u16, row_block: usize) -> Option<usize> {
        let count = self.row_blocks.len();
        let (first, last) = (self.done.iter().min()?, self.done.iter().max()?);
        let is_soon = clock >= *last && clock - first < count as u64 && clock.is_multiple_of(count as u64);
        let place = self.place(table).filter(|_| is_soon && row_block < count)?;
        let is_new = !self.copies.iter().any(|copy| (copy.0, copy.1, copy.2) == (clock, place, row_block));
        // A lap has ended: lane l has the row blocks from m·l on.
        let lane = row_block / self.per_lane;
        let is_theirs = self.hosting.owner(lane) == from && !self.hosted.contains(&lane);
        (is_new && is_theirs).then_some(place)
    }

    /// The place of `table` in `rotating`.
    pub(super) fn place(&self, table: u16) -> Option<usize> {
        self.rotating.iter().position(|rotating| *rotating == usize::from(table))
    }

    /// The numbers of a row block of the table at `place`, if `message` has them all and nothing else.
    fn numbers(
        &self,
        message: &mut Message,
        entries: Vec<Entry>,
        place: usize,
        row_block: usize,
    ) -> Result<Arc<Buffer>> {
        let table = &self.geometry[self.rotating[place]];
        let bytes = self.row_blocks[row_block].len() * table.stride * table.element.bytes();
        unpack_counts(message, entries, table.element, bytes, &format!("row block {row_block}"))
    }
}
