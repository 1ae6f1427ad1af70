//! The pieces that a lane is made of, on their way from one worker to another.
//!
//! ```text
//! old owner ── piece, piece, ... End ──▶ new owner
//!           ◀── Taken, Taken, ... ──             with a limit of memory: word of every piece
//! ```
//! A piece is a block's data or local state, or some rows: what is larger than [`PART_BYTES`] comes in several messages. With
//! a limit of memory at most [`UNDER_WAY`] pieces wait on either side, however large the lane is; else all are sent at once.

use crate::Result;
use crate::channel::MOVE;
use dunlin_comm::{Buffer, Comm, Message};
use serde::{Deserialize, Serialize};

/// Bytes of a message: far from the limit of a frame. What is larger comes in several.
const PART_BYTES: usize = 64 << 20;

/// Pieces that are sent before the first of them was taken in, with a limit of memory.
const UNDER_WAY: usize = 2;

/// What a lane is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Piece {
    /// The local state of the next of its blocks.
    Local,
    /// The next cell of its training blocks.
    Train,
    /// The next cell of its test blocks.
    Test,
    /// Rows of a table, from this one on.
    Rows { table: u16, first: u64 },
    /// Its visits of row blocks so far, where they are written down.
    Visits,
    /// That was all.
    End,
    /// The answer to a piece: it was taken in.
    Taken,
}

/// What goes before a part of a piece on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    lane: u32,
    piece: Piece,
    /// More of this piece follows.
    goes_on: bool,
}

/// A lane that is on its way, as one of both workers sees it.
pub(super) struct Way {
    lane: usize,
    other: usize,
    /// True if every piece is answered.
    is_limited: bool,
    /// Pieces that were sent and not answered.
    unanswered: usize,
}

impl Way {
    /// Of `lane`, to or from worker `other`; with a limit of memory or without, which both know.
    pub(super) fn new(lane: usize, other: usize, is_limited: bool) -> Way {
        Way { lane, other, is_limited, unanswered: 0 }
    }

    /// Sends a piece.
    ///
    /// # Blocking
    /// With a limit of memory, on the other worker, until it has taken in the pieces before.
    pub(super) fn send(&mut self, comm: &mut Comm, piece: Piece, bytes: &[u8]) -> Result<()> {
        while self.unanswered >= UNDER_WAY {
            self.wait(comm)?;
        }
        let parts = bytes.len().div_ceil(PART_BYTES).max(1);
        for part in 0..parts {
            let range = part * PART_BYTES..bytes.len().min((part + 1) * PART_BYTES);
            let head = Head { lane: self.lane as u32, piece, goes_on: part + 1 < parts };
            comm.send(self.other, MOVE, Message::new(&head, Buffer::from(&bytes[range])))?;
        }
        self.unanswered += usize::from(self.is_limited);
        Ok(())
    }

    /// Says that this was all, and, with a limit of memory, waits until all of it was taken in.
    pub(super) fn end(mut self, comm: &mut Comm) -> Result<()> {
        self.send(comm, Piece::End, &[])?;
        while self.unanswered > 0 {
            self.wait(comm)?;
        }
        Ok(())
    }

    fn wait(&mut self, comm: &mut Comm) -> Result<()> {
        let what = format!("lane {} to be taken in where it moves to", self.lane);
        let message = comm.recv(MOVE, Some(self.other), &what)?;
        let Head { lane, piece, .. } = message.head()?;
        if (lane as usize, piece) != (self.lane, Piece::Taken) {
            return Err(message.bad(format!("{piece:?} of lane {lane}, not an answer")).into());
        }
        self.unanswered -= 1;
        Ok(())
    }

    /// The next piece, whole.
    ///
    /// # Blocking
    /// On the other worker.
    pub(super) fn receive(&mut self, comm: &mut Comm) -> Result<(Message, Piece)> {
        let what = format!("lane {}, which moves here", self.lane);
        let mut bytes: Option<Buffer> = None;
        loop {
            let mut message = comm.recv(MOVE, Some(self.other), &what)?;
            let Head { lane, piece, goes_on } = message.head()?;
            if lane as usize != self.lane {
                let wanted = self.lane;
                let what = format!("a piece of lane {lane}, where lane {wanted} was to come");
                return Err(message.bad(what).into());
            }
            match (&mut bytes, goes_on) {
                (None, false) => {}
                (None, true) => bytes = Some(Buffer::from(message.body.bytes())),
                (Some(bytes), _) => drop(bytes.extend(message.body.bytes())),
            }
            if goes_on {
                continue;
            }
            if let Some(bytes) = bytes.take() {
                message.body = bytes.into();
            }
            if self.is_limited {
                let head = Head { lane, piece: Piece::Taken, goes_on: false };
                comm.send(self.other, MOVE, Message::new(&head, Buffer::new()))?;
            }
            return Ok((message, piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_comm::cluster::run_sim;
    use dunlin_comm::{SimConfig, Time};
    use std::time::Duration;

    const PIECES: [Piece; 5] =
        [Piece::Local, Piece::Train, Piece::Test, Piece::Rows { table: 3, first: 40 }, Piece::Visits];

    fn bytes(number: usize) -> Vec<u8> {
        (0..number * 37 % 500).map(|at| (at * number) as u8).collect()
    }

    /// With a limit no more than a few pieces are on their way to a slow receiver, and all of them come.
    #[test]
    fn pieces_come_in_their_order_and_a_sender_waits_for_a_slow_receiver() {
        for is_limited in [false, true] {
            let body = |comm: &mut Comm| -> dunlin_comm::Result<(Time, usize)> {
                let mut way = Way::new(7, 1 - comm.rank(), is_limited);
                if comm.rank() == 0 {
                    let mut most = 0;
                    for number in 0..60 {
                        way.send(comm, PIECES[number % 5], &bytes(number))?;
                        most = most.max(way.unanswered);
                    }
                    way.end(comm)?;
                    return Ok((comm.now(), most));
                }
                for number in 0..60 {
                    comm.pause(Duration::from_millis(100));
                    let (message, piece) = way.receive(comm)?;
                    assert_eq!((message.body.bytes(), piece), (&bytes(number)[..], PIECES[number % 5]));
                }
                assert_eq!(way.receive(comm)?.1, Piece::End);
                Ok((comm.now(), 0))
            };
            let ends = run_sim(&SimConfig::new(2, 5), body).0.unwrap();
            let [(sent, most), (received, _)] = ends[..] else { panic!("two ranks") };
            let seconds = [sent, received].map(|end| end.since(Time(0)).as_secs_f64());
            match is_limited {
                true => assert!(most == UNDER_WAY && seconds[0] > 5.9, "{most} under way, {seconds:?}"),
                false => assert!(seconds[0] < 1.0 && seconds[1] > 5.9, "{seconds:?}"),
            }
        }
    }

    #[test]
    fn a_piece_where_an_answer_was_to_come_is_told() {
        let body = |comm: &mut Comm| -> dunlin_comm::Result<()> {
            let mut way = Way::new(7, 1 - comm.rank(), true);
            Ok((0..9).try_for_each(|number| way.send(comm, Piece::Local, &bytes(number)))?)
        };
        let error = run_sim(&SimConfig::new(2, 5), body).0.unwrap_err().to_string();
        assert!(error.contains("Local of lane 7, not an answer"), "{error}");
    }
}
