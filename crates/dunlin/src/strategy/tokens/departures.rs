//! Where a token goes next, and how it gets there.

use super::token::{Head, Token};
use super::{Packet, Tokens};
use crate::Result;
use crate::channel::ROTATION;
use crate::codec::Part;
use crate::rng::stream;
use crate::strategy::row_blocks::outgoing;
use crate::table::Storage;
use dunlin_comm::{Buffer, Comm, Message};
use std::time::Duration;

/// Tokens that wait for others to the same worker at most, before they travel as one message.
const BATCH_TOKENS: usize = 4;

/// How long they wait at most while this worker goes on: no longer than a few messages cost.
const BATCH_WAIT: Duration = Duration::from_micros(200);

/// Bytes of a message from which on another token would not make it cheaper.
const BATCH_BYTES: usize = 64 << 10;

impl Tokens {
    /// The lane that `token` goes to next: one of those it has not visited in this lap. Within a lap it goes round the
    /// lanes of this worker first, which costs no message; else to where the fewest wait, as far as is known here.
    pub(super) fn next_lane(&self, number: u32, token: &Token) -> usize {
        let hops = token.visited.count() as u64;
        let first = stream(self.seed, "token", &[token.lap, u64::from(number), hops]).below(self.lanes);
        let own = self.hosting.owner(self.hosted.start);
        let waiting = self.waiting_by_worker();
        let cost = |lane: &usize| {
            let worker = self.hosting.owner(*lane);
            let is_away = hops > 0 && worker != own;
            (is_away, waiting[worker], self.waiting[*lane], (lane + self.lanes - first) % self.lanes)
        };
        let lanes = (0..self.lanes).filter(|lane| !token.visited.contains(*lane));
        lanes.min_by_key(cost).unwrap_or(first)
    }

    /// How many tokens wait at each worker, in 1/1024 for each of its lanes.
    fn waiting_by_worker(&self) -> Vec<u64> {
        let mut waiting = vec![(0u64, 0u64); self.outbox.len()];
        for (lane, count) in self.waiting.iter().enumerate() {
            let of_worker = &mut waiting[self.hosting.owner(lane)];
            *of_worker = (of_worker.0 + u64::from(*count), of_worker.1 + 1);
        }
        waiting.into_iter().map(|(tokens, lanes)| (tokens << 10) / lanes.max(1)).collect()
    }

    /// Has `token` wait for its next lane, here or on its way there.
    pub(super) fn pass_on(&mut self, comm: &mut Comm, number: u32, mut token: Token) -> Result<()> {
        token.lane = self.next_lane(number, &token);
        let worker = self.hosting.owner(token.lane);
        if self.hosted.contains(&token.lane) {
            self.hold(number, token);
            return Ok(());
        }
        self.waiting[token.lane] += 1;
        let waiting = self.waiting_by_worker()[worker] >> 10;
        let outbox = &mut self.outbox[worker];
        outbox.push((number, token));
        let bytes: usize = outbox.iter().flat_map(|(_, token)| &token.values).map(|v| v.bytes().len()).sum();
        // Who has little to do is not kept waiting; who has enough may get several at once, where visits are short.
        let is_due = comm.shares_memory() || waiting < 3 || outbox.len() >= BATCH_TOKENS;
        let is_late = || comm.now().since(self.flushed) >= BATCH_WAIT;
        match is_due || bytes >= BATCH_BYTES {
            true => self.flush(comm, worker),
            false if is_late() => self.flush_all(comm),
            false => Ok(()),
        }
    }

    /// Sends what waits for others, to all workers.
    pub(super) fn flush_all(&mut self, comm: &mut Comm) -> Result<()> {
        self.flushed = comm.now();
        (0..self.outbox.len()).try_for_each(|worker| self.flush(comm, worker))
    }

    /// Between ranks that share memory every token goes alone, as a pointer.
    fn flush(&mut self, comm: &mut Comm, worker: usize) -> Result<()> {
        let mut tokens = std::mem::take(&mut self.outbox[worker]);
        if comm.shares_memory() {
            return tokens.into_iter().try_for_each(|token| self.send(comm, worker, vec![token]));
        }
        while !tokens.is_empty() {
            let (mut count, mut bytes) = (0, 0);
            for (_, token) in &tokens {
                bytes += token.values.iter().map(|values| values.bytes().len()).sum::<usize>();
                if count > 0 && bytes > BATCH_BYTES {
                    break;
                }
                count += 1;
            }
            let rest = tokens.split_off(count);
            self.send(comm, worker, std::mem::replace(&mut tokens, rest))?;
        }
        Ok(())
    }

    /// One message for each table that rotates.
    fn send(&mut self, comm: &mut Comm, worker: usize, mut tokens: Vec<(u32, Token)>) -> Result<()> {
        let head = |(number, token): &(u32, Token)| Head {
            token: *number,
            lane: token.lane as u32,
            lap: token.lap,
            visited: token.visited.clone(),
        };
        let heads: Vec<Head> = tokens.iter().map(head).collect();
        let waiting = self.waiting[self.hosted.clone()].to_vec();
        for place in 0..self.rotating.len() {
            let element = self.geometry[self.rotating[place]].element;
            let mut rows = Vec::with_capacity(tokens.len());
            for (number, token) in &mut tokens {
                let values = std::mem::replace(&mut token.values[place], Storage::zeroed(element, 0));
                self.report.update_bytes[0] += values.bytes().len() as u64;
                rows.push(match self.reach {
                    None => values.into_buffer(),
                    Some(_) => self.split_off(comm, (*number, token.lane), place, values)?,
                });
            }
            let body = match rows.len() {
                1 => rows.pop().unwrap_or_default(),
                _ => rows.iter().fold(Buffer::new(), |mut all, rows| {
                    all.extend(rows.bytes());
                    all
                }),
            };
            let Part { entries, body } = outgoing(comm, element, body.into());
            self.report.update_bytes[1] += body.len() as u64;
            let (tokens, waiting) = (heads.clone(), waiting.clone());
            let head = Packet::Visit { place: place as u16, tokens, waiting, entries };
            comm.send(worker, ROTATION, Message::shared(&head, body))?;
        }
        Ok(())
    }
}
