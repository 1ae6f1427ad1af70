//! Tokens of which only what the receiver touches travels.
//!
//! Where a token goes next is known one step ahead only, so that what a worker has and the next one does not want goes to
//! the token's *home*, the worker that it begins at; and the home sends the next one what that touches and the last one
//! did not:
//!
//! ```text
//! A ── Visit: what A and B touch ──▶ B            A, B: workers, neither of them the home
//! A ── Rest: what A touches, B not ──▶ home ── Fill: what B touches, A not ──▶ B
//! ```
//! From its home a token goes with all that the receiver touches, and to its home with all that the sender has. A token
//! is worked with once all of it is there. The Fill comes after the Rest, and whoever has a token has had its Fill: so a
//! home hears of the steps of a token in their order.

use super::{Packet, Token, Tokens};
use crate::Result;
use crate::channel::ROTATION;
use crate::codec::{Entry, Part, unpack_counts};
use crate::strategy::row_blocks::outgoing;
use crate::strategy::set::Set;
use crate::table::Storage;
use dunlin_comm::{Buffer, Comm, Message};

/// What is to be sent to where a token of this home has gone.
#[derive(Debug)]
pub(super) struct Answer {
    to: usize,
    token: u32,
    /// The worker that it has gone from.
    left: usize,
    place: usize,
    fill: Buffer,
}

/// A piece of a token: its number, the place of the table, and the features.
type Piece<'a> = (u32, usize, &'a Set);

impl Tokens {
    fn own(&self) -> usize {
        self.hosting.owner(self.hosted.start)
    }

    /// The worker that `token` begins at.
    fn home_worker(&self, token: u32) -> usize {
        self.hosting.owner(self.home(token as usize))
    }

    /// What `worker` touches of `token`; nothing if all tokens travel as they are.
    fn touches(&self, worker: usize, token: u32) -> Set {
        let home = self.home_worker(token);
        self.reach.as_ref().map(|reach| reach.of(worker, home)).unwrap_or_default()
    }

    /// What travels of `token` from worker `from` to worker `to`.
    fn visiting(&self, from: usize, to: usize, token: u32) -> Set {
        self.touches(from, token).and(&self.touches(to, token))
    }

    fn cut(&self, (token, place, set): Piece, values: &Storage) -> Buffer {
        let rows = &self.row_blocks[token as usize];
        self.reach.as_ref().map(|reach| reach.cut(place, rows, set, values.bytes())).unwrap_or_default()
    }

    fn paste(&self, (token, place, set): Piece, body: &Buffer, values: &mut Storage) {
        let rows = &self.row_blocks[token as usize];
        self.reach.iter().for_each(|reach| reach.paste(place, rows, set, body, values.bytes_mut()));
    }

    fn piece_bytes(&self, (token, place, set): Piece) -> usize {
        self.reach.as_ref().map_or(0, |reach| reach.bytes(place, &self.row_blocks[token as usize], set))
    }

    /// Bytes of what comes of `token` from worker `from`, in the table at `place`.
    pub(super) fn visit_bytes(&self, from: usize, token: u32, place: usize) -> usize {
        if self.reach.is_none() {
            let table = &self.geometry[self.rotating[place]];
            return self.row_blocks[token as usize].len() * table.stride * table.element.bytes();
        }
        self.piece_bytes((token, place, &self.visiting(from, self.own(), token)))
    }

    /// The rows of a token, of what came from worker `from`.
    pub(super) fn whole_rows(&self, from: usize, token: u32, place: usize, body: Buffer) -> Storage {
        let table = &self.geometry[self.rotating[place]];
        if self.reach.is_none() {
            return Storage::from_buffer(table.element, body);
        }
        let rows = self.row_blocks[token as usize].len();
        let mut values = Storage::zeroed(table.element, rows * table.stride);
        self.paste((token, place, &self.visiting(from, self.own(), token)), &body, &mut values);
        values
    }

    /// Cuts what is to travel with a token to `lane` out of its rows `values` in the table at `place`; the rest stays, or
    /// goes home.
    pub(super) fn split_off(
        &mut self,
        comm: &mut Comm,
        (token, lane): (u32, usize),
        place: usize,
        values: Storage,
    ) -> Result<Buffer> {
        let (own, to, home) = (self.own(), self.hosting.owner(lane), self.home_worker(token));
        let set = self.visiting(own, to, token);
        let body = self.cut((token, place, &set), &values);
        if own == home {
            let (worker, resting) = self.away.entry(token).or_default();
            *worker = to;
            resting.push(values);
        } else if to != home {
            let rest = self.touches(own, token).without(&set);
            let rest = self.cut((token, place, &rest), &values);
            let Part { entries, body } = outgoing(comm, values.element(), rest.into());
            self.report.update_bytes[1] += body.len() as u64;
            let head = Packet::Rest { token, lane: lane as u32, place: place as u16, entries };
            comm.send(home, ROTATION, Message::shared(&head, body))?;
        }
        Ok(body)
    }

    /// A token is here from worker `from`, but for what its home is to send.
    pub(super) fn arrive(&mut self, from: usize, number: u32, mut token: Token) {
        let (own, home) = (self.own(), self.home_worker(number));
        if self.reach.is_none() || from == home {
            return self.hold(number, token);
        }
        if own != home {
            self.unfilled.insert(number, (from, token));
            return self.fill(number);
        }
        // It has come with what `from` touches; all else was here.
        let set = self.touches(from, number);
        let (_, resting) = self.away.remove(&number).unwrap_or_default();
        for (place, mut values) in resting.into_iter().enumerate() {
            let piece = self.cut((number, place, &set), &token.values[place]);
            self.paste((number, place, &set), &piece, &mut values);
            token.values[place] = values;
        }
        self.hold(number, token);
    }

    /// What the home of `token` sends to this worker if the token comes from worker `left`.
    fn filling(&self, left: usize, token: u32) -> Set {
        self.touches(self.own(), token).without(&self.touches(left, token))
    }

    /// Bytes of what the home of `token` sends then.
    pub(super) fn fill_bytes(&self, left: usize, token: u32, place: usize) -> usize {
        self.piece_bytes((token, place, &self.filling(left, token)))
    }

    /// Bytes of what worker `from` leaves of `token` if it goes to `lane`.
    pub(super) fn rest_bytes(&self, from: usize, token: u32, lane: usize, place: usize) -> usize {
        let wanted = self.touches(self.hosting.owner(lane), token);
        self.piece_bytes((token, place, &self.touches(from, token).without(&wanted)))
    }

    /// Puts together a token of which everything is there.
    fn fill(&mut self, number: u32) {
        let is_there = |place: usize| self.fills.contains_key(&(number, place));
        if !(0..self.rotating.len()).all(is_there) {
            return;
        }
        let Some((left, mut token)) = self.unfilled.remove(&number) else { return };
        let set = self.filling(left, number);
        for place in 0..self.rotating.len() {
            let Some((_, body)) = self.fills.remove(&(number, place)) else { continue };
            self.paste((number, place, &set), &body, &mut token.values[place]);
        }
        self.hold(number, token);
    }

    /// True if what a home has sent says that `token` comes from another worker than `from`.
    pub(super) fn is_from_elsewhere(&self, from: usize, token: u32) -> bool {
        let mut fills = self.fills.range((token, 0)..=(token, usize::MAX));
        let is_elsewhere = self.away.get(&token).is_some_and(|(worker, _)| *worker != from);
        is_elsewhere || fills.any(|(_, (left, _))| *left != from)
    }

    /// What a home sends of a token that comes, or has come, from worker `left`.
    pub(super) fn take_fill(
        &mut self,
        message: &mut Message,
        (token, left): (u32, usize),
        place: usize,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let is_known = (token as usize) < self.row_blocks.len() && place < self.rotating.len();
        let is_home = || self.home_worker(token) == message.from && message.from != self.own();
        let is_worker = left < self.hosting.workers() && left != self.own() && left != message.from;
        let is_new = !self.fills.contains_key(&(token, place)) && !self.held.contains_key(&token);
        let is_one = self.unfilled.get(&token).is_none_or(|(from, _)| *from == left);
        let is_sound = self.reach.is_some() && is_known && is_home() && is_worker && is_new && is_one;
        if !is_sound || self.is_from_elsewhere(left, token) {
            let what =
                format!("what row block {token} lacks on its way from rank {left}, where none can come");
            return Err(message.bad(what).into());
        }
        let bytes = self.fill_bytes(left, token, place);
        let element = self.geometry[self.rotating[place]].element;
        let body = unpack_counts(message, entries, element, bytes, &format!("what row block {token} lacks"))?;
        self.fills.insert((token, place), (left, body));
        self.fill(token);
        Ok(())
    }

    /// A token of this home has gone on to `lane`, and what it has left is here: has what it lacks there sent after it.
    pub(super) fn take_rest(
        &mut self,
        message: &mut Message,
        (token, lane): (u32, usize),
        place: usize,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let from = message.from;
        let is_away = self.away.get(&token).is_some_and(|(worker, _)| *worker == from);
        let to = self.hosting.owner(lane.min(self.lanes - 1));
        let is_known = lane < self.lanes && place < self.rotating.len() && to != from && to != self.own();
        if !is_away || !is_known {
            let what = format!("what row block {token} left on its way to lane {lane}, where none can come");
            return Err(message.bad(what).into());
        }
        let (had, wanted) = (self.touches(from, token), self.touches(to, token));
        let rest = had.without(&wanted);
        let bytes = self.rest_bytes(from, token, lane, place);
        let element = self.geometry[self.rotating[place]].element;
        let body = unpack_counts(message, entries, element, bytes, &format!("what row block {token} left"))?;
        let Some((_, mut resting)) = self.away.remove(&token) else { return Ok(()) };
        self.paste((token, place, &rest), &body, &mut resting[place]);
        let fill = self.cut((token, place, &wanted.without(&had)), &resting[place]);
        let is_last = place + 1 == self.rotating.len();
        self.away.insert(token, (if is_last { to } else { from }, resting));
        self.answers.push(Answer { to, token, left: from, place, fill });
        Ok(())
    }

    /// Sends what tokens lack that have gone on.
    pub(super) fn answer(&mut self, comm: &mut Comm) -> Result<()> {
        for Answer { to, token, left, place, fill } in std::mem::take(&mut self.answers) {
            let element = self.geometry[self.rotating[place]].element;
            let Part { entries, body } = outgoing(comm, element, fill.into());
            self.report.update_bytes[1] += body.len() as u64;
            let head = Packet::Fill { token, left: left as u32, place: place as u16, entries };
            comm.send(to, ROTATION, Message::shared(&head, body))?;
        }
        Ok(())
    }
}
