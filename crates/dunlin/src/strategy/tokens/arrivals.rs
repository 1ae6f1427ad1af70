//! What other ranks send: taken in only where it can be what this rank waits for.
//!
//! A lane is never two laps ahead of another. Let m be the least lap of all tokens: every lane has ended lap m − 1, a
//! lane goes at most one lap beyond the first that it has not ended, and that is lap m or m + 1. So a token that
//! arrives is of one of three laps (the last one waits), was here in this lap exactly as often as this rank remembers,
//! and is nowhere else on it; merges are of three laps; copies are of the next lap's beginning. What lies beyond is
//! refused, with the sender's name, so that memory for what has arrived is bounded by two copies of the tables and
//! three updates a lane.

use super::token::{Head, Token};
use super::{Coming, Packet, Tokens};
use crate::Result;
use crate::codec::{Entry, Part, unpack_counts};
use crate::table::{Params, Storage};
use dunlin_comm::collective::{Folder, Node};
use dunlin_comm::{Buffer, Message};
use std::sync::Arc;

impl Tokens {
    /// Takes in one message; adds up the updates of a lap if they are all there with it.
    ///
    /// # Errors
    /// [`dunlin_comm::Error::BadMessage`] for what nobody could have sent in this run.
    pub(super) fn take_in(&mut self, mut message: Message, params: &mut Params) -> Result<()> {
        match message.head()? {
            Packet::Visit { place, tokens, waiting, entries } => {
                self.take_visit(&mut message, usize::from(place), (tokens, entries), &waiting)
            }
            Packet::Merge { lap, lanes, entries } => self.take_merge(&mut message, lap, lanes, entries),
            Packet::Copy { lap, token, place, entries } => {
                self.take_copy(&mut message, lap, token, (usize::from(place), entries))
            }
            Packet::Settled { lap } => self.take_settled(&message, lap),
            Packet::Rest { token, lane, place, entries } => {
                self.take_rest(&mut message, (token, lane as usize), usize::from(place), entries)
            }
            Packet::Fill { token, left, place, entries } => {
                self.take_fill(&mut message, (token, left as usize), usize::from(place), entries)
            }
        }?;
        self.merged.merge(params, &self.geometry);
        Ok(())
    }

    fn take_visit(
        &mut self,
        message: &mut Message,
        place: usize,
        (heads, entries): (Vec<Head>, Vec<Entry>),
        waiting: &[u32],
    ) -> Result<()> {
        let from = message.from;
        let lanes = self.lanes_of(from);
        if lanes.is_empty() || lanes.len() != waiting.len() || heads.is_empty() {
            let (tokens, counts, lanes) = (heads.len(), waiting.len(), lanes.len());
            let what =
                format!("{tokens} tokens with {counts} queue lengths, from a rank with {lanes} other lanes");
            return Err(message.bad(what).into());
        }
        let next = self.coming.get(&from).map_or(0, Coming::places);
        if place != next || self.coming.get(&from).is_some_and(|coming| coming.heads != heads) {
            let what = format!("rows of rotating table {place} where those of table {next} come next");
            return Err(message.bad(what).into());
        }
        if place == 0 {
            for (at, head) in heads.iter().enumerate() {
                if let Some(what) = self.refuses(from, head, &heads[..at]) {
                    return Err(message.bad(what).into());
                }
            }
        }
        let rows = self.split(message, place, &heads, entries)?;
        let mut coming = self.coming.remove(&from).unwrap_or_else(|| Coming::new(heads));
        coming.tokens.iter_mut().zip(rows).for_each(|(values, rows)| values.push(rows));
        if coming.places() < self.rotating.len() {
            self.coming.insert(from, coming);
            return Ok(());
        }
        self.waiting[lanes].copy_from_slice(waiting);
        for (head, values) in coming.heads.into_iter().zip(coming.tokens) {
            let Head { token, lane, lap, visited } = head;
            self.arrive(from, token, Token { lap, visited, lane: lane as usize, values });
        }
        Ok(())
    }

    /// What is wrong with a token from rank `from`, in a message after `others`.
    fn refuses(&self, from: usize, head: &Head, others: &[Head]) -> Option<String> {
        let Head { token, lane, lap, visited } = head;
        let (row_block, lane) = (*token as usize, *lane as usize);
        let name = format!("row block {row_block} for lane {lane} in lap {lap}");
        if row_block >= self.row_blocks.len() {
            return Some(format!("{name}; there are {}", self.row_blocks.len()));
        }
        if !self.hosted.contains(&lane) || !visited.is_below(self.lanes) || visited.contains(lane) {
            return Some(format!("{name}, which is not to visit that lane here"));
        }
        let is_there = self.held.contains_key(token)
            || self.unfilled.contains_key(token)
            || self.outbox.iter().flatten().any(|(other, _)| other == token)
            || self.coming.values().any(|coming| coming.has(*token))
            || others.iter().any(|other| other.token == *token);
        if is_there {
            return Some(format!("{name}, which is here already"));
        }
        // A token that has ended a lap on its last lane has visited none in the next.
        let was_there = self.lanes_of(from).any(|lane| visited.contains(lane));
        let has_ended = visited.count() == 0 && *lap > self.first_lap;
        let first = self.tracks.iter().map(|track| track.lap).min().unwrap_or(0);
        let is_now = *lap >= self.first_lap && lap.saturating_sub(first) <= 2;
        let as_known = self.hosted.clone().zip(&self.tracks);
        let as_known = { as_known }.all(|(lane, track)| track.has(*lap, row_block) == visited.contains(lane));
        let is_from_there = !self.is_from_elsewhere(from, *token);
        let is_sound = (was_there || has_ended) && is_now && as_known && is_from_there;
        (!is_sound).then(|| format!("{name}, which cannot come from there now"))
    }

    /// The rows of table `place` of each token of a message.
    fn split(
        &self,
        message: &mut Message,
        place: usize,
        heads: &[Head],
        entries: Vec<Entry>,
    ) -> Result<Vec<Storage>> {
        let table = &self.geometry[self.rotating[place]];
        let from = message.from;
        let bytes = |head: &Head| self.visit_bytes(from, head.token, place);
        let wanted = heads.iter().fold(0, |at: usize, head| at.next_multiple_of(8) + bytes(head));
        let first = heads.first().map_or(0, |head| head.token);
        let what = format!("row block {first}, the first of {} tokens,", heads.len());
        let body = unpack_counts(message, entries, table.element, wanted, &what)?;
        if let (None, [_]) = (&self.reach, heads) {
            return Ok(vec![Storage::from_buffer(table.element, Arc::unwrap_or_clone(body))]);
        }
        let mut at = 0usize;
        let rows = heads.iter().map(|head| {
            let start = at.next_multiple_of(8);
            at = start + bytes(head);
            let rows = Buffer::from(&body.bytes()[start..at]);
            self.whole_rows(from, head.token, place, rows)
        });
        Ok(rows.collect())
    }

    /// The lanes of rank `worker`, if it is another worker.
    pub(super) fn lanes_of(&self, worker: usize) -> std::ops::Range<usize> {
        let lanes = self.hosting.lanes_of(worker);
        if lanes == self.hosted { 0..0 } else { lanes }
    }

    fn take_merge(
        &mut self,
        message: &mut Message,
        lap: u64,
        lanes: Node,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let merged = &self.merged;
        let is_new = !merged.arrived.iter().any(|(then, other, _)| (*then, *other) == (lap, lanes));
        let is_now = lap.checked_sub(merged.laps).is_some_and(|ahead| ahead <= 2);
        if !is_now || !is_new || !self.nodes_of(message.from).contains(&lanes) {
            let Node { start, end } = lanes;
            let what = format!("updates of lanes {start}..{end} in lap {lap}, where none can come");
            return Err(message.bad(what).into());
        }
        if let Some(entry) = entries.iter().find(|entry| !merged.tables.contains(&usize::from(entry.table))) {
            return Err(message.bad(format!("updates of table {}, which is not merged", entry.table)).into());
        }
        let part = Part::received(message, entries, &self.geometry)?;
        self.merged.arrived.push((lap, lanes, part));
        Ok(())
    }

    /// The subtrees of lanes whose updates rank `worker` sends.
    fn nodes_of(&self, worker: usize) -> Vec<Node> {
        let mut folder = Folder::new(self.lanes);
        self.lanes_of(worker).for_each(|lane| folder.push(Node::leaf(lane), (), |_: &mut (), ()| {}));
        folder.into_parts().into_iter().map(|(node, ())| node).collect()
    }

    fn take_copy(
        &mut self,
        message: &mut Message,
        lap: u64,
        token: u32,
        (place, entries): (usize, Vec<Entry>),
    ) -> Result<()> {
        let first = self.tracks.iter().map(|track| track.lap).min().unwrap_or(0);
        let is_now = match self.spread {
            true => self.whole && lap == self.drained,
            false => lap > self.drained && lap.checked_sub(first).is_some_and(|ahead| ahead <= 1),
        };
        let is_there = self.copies.contains_key(&(token, place)) && self.copies_lap == lap
            || self.held.get(&token).is_some_and(|held| held.lap == lap && held.visited.count() == 0);
        let is_known = (token as usize) < self.row_blocks.len() && place < self.rotating.len();
        if self.lanes_of(message.from).is_empty() || !is_now || is_there || !is_known {
            let what = format!("a copy of row block {token} before lap {lap}, where none can come");
            return Err(message.bad(what).into());
        }
        let table = &self.geometry[self.rotating[place]];
        let wanted = self.row_blocks[token as usize].len() * table.stride * table.element.bytes();
        let what = format!("a copy of row block {token}");
        let body = unpack_counts(message, entries, table.element, wanted, &what)?;
        if self.copies_lap != lap {
            self.copies.clear(); // older ones nobody has asked for
            self.copies_lap = lap;
        }
        self.copies.insert((token, place), body);
        Ok(())
    }
}
