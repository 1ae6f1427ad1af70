//! Re-hosting: at a synchronisation point lanes move to other workers, so that a slow one holds nobody up.
//!
//! Why nothing of what is learned changes: a lane is the same wherever it is computed. What it is made of are its cells
//! of the data, their local states and its rows of tables that are nowhere whole, and all of these move with it; its
//! random streams are drawn from seed, block and epoch, its place on the ring and in the tree of sums is its number. At
//! a synchronisation point nothing else is on its way: all lanes have done the same clock, row blocks rest where the
//! clock says, and merged tables are the same everywhere. So what follows is a resume without a disk: the old owner
//! sends what a checkpoint has of the lane, with its data; the new one takes it in; all make the strategy anew from
//! tables, clock and cuts, as a run does that goes on from a checkpoint on other workers.
//!
//! ```text
//! rank 0: paces of all ── Deal (cuts) ──▶ all
//! old owner ── Local, Train, Test, Rows, Visits ..., End ──▶ new owner          for every lane that moves
//! ```
//! Nobody waits before it has sent all it has to send, so that no ring of workers waits for each other. A worker that is
//! lost meanwhile is told of and named as anywhere.

use super::Worker;
use super::dealer::{Deal, Pace};
use super::library::Blocks;
use super::source::Lane;
use crate::algorithm::Algorithm;
use crate::channel::MOVE;
use crate::checkpoint::LaneState;
use crate::data::Block;
use crate::event::Event;
use crate::hosting::Hosting;
use crate::serial::share;
use crate::strategy::Lanes;
use crate::strategy::rotation::rotates;
use crate::strategy::tokens::order;
use crate::table::Axis;
use crate::{Error, Result};
use dunlin_comm::{Buffer, Message};
use serde::{Deserialize, Serialize};

/// Bytes of a message: far from the limit of a frame. What is larger comes in several.
const PART_BYTES: usize = 64 << 20;

/// What a lane is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Piece {
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
}

/// What goes before a part of a piece on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    lane: u32,
    piece: Piece,
    /// More of this piece follows.
    goes_on: bool,
}

impl<A: Algorithm> Worker<'_, A> {
    /// True if lanes may move here: they go round, there are more of them than workers, and an epoch has ended that is
    /// not the last. With `--memory` they stay: what a worker may take was worked out for its part.
    pub(super) fn may_rehost(&self) -> bool {
        let run = self.run;
        let moves = run.rehost && run.rotates() && run.workers > 1 && run.lanes > run.workers;
        moves && !run.is_limited() && self.at.clock == 0 && self.at.epochs < run.stop.epochs
    }

    /// What the hosted lanes have taken.
    pub(super) fn paces(&self) -> Vec<Pace> {
        self.lanes.iter().map(|lane| lane.pace).collect()
    }

    /// Moves lanes so that they are where `deal` says.
    ///
    /// # Blocking
    /// On the workers that lanes come from.
    ///
    /// # Errors
    /// A loss or a time-out that names the lane; [`dunlin_comm::Error::BadMessage`] for what is no lane of this run.
    pub(super) fn rehost(&mut self, deal: Deal) -> Result<()> {
        let (start, rank, old) = (self.comm.now(), self.comm.rank(), self.clocks.hosting.clone());
        let Some(new) = Hosting::from_cuts(deal.cuts.clone(), old.lanes(), old.workers()) else {
            let what = format!("lanes dealt as {:?} to {} workers", deal.cuts, old.workers());
            return Err(dunlin_comm::Error::BadMessage { from: 0, what }.into());
        };
        let clock = self.clocks.slowest().map_or(0, |(_, clock)| clock);
        self.report_before.merge(&self.strategy.report());
        self.visits.extend(self.strategy.order());
        let mut stay = Vec::new();
        for lane in std::mem::take(&mut self.lanes) {
            let to = new.owner(lane.number);
            if to == rank {
                self.keep_spread_rows(lane.number);
                stay.push(lane);
            } else {
                self.comm.describe(&format!("lane {}, which was to move to rank {to}", lane.number));
                self.send_lane(lane, to)?;
            }
        }
        let (cells, test_cells) = self.cells;
        for number in new.lanes_of(rank).filter(|lane| old.owner(*lane) != rank) {
            let from = old.owner(number);
            self.comm.describe(&format!("nothing yet of lane {number}, which was to come from rank {from}"));
            stay.push(self.receive_lane(number, from, [cells, test_cells])?);
        }
        stay.sort_by_key(|lane| lane.number);
        stay.iter_mut().for_each(|lane| lane.pace = Pace::default());
        self.lanes = stay;
        self.clocks = Lanes::new(new, rank, clock);
        self.strategy = self.make_strategy()?;
        self.found_rows.clear();
        self.comm.barrier()?;
        let seconds = self.comm.now().since(start).as_secs_f64();
        self.at.seconds += seconds;
        if rank == 0 {
            let (lanes, had) = (old.lanes(), old.lanes_of(deal.worker).len());
            let (epochs, Deal { cuts, worker, slower }) = (self.at.epochs, deal);
            self.observer.event(&Event::Rehosted { epochs, worker, slower, had, lanes, cuts, seconds });
        }
        Ok(())
    }

    /// Rows of spread tables that `lane` has, for the strategy that comes.
    fn keep_spread_rows(&mut self, lane: usize) {
        for (table, first, bytes) in self.strategy.spread_rows(lane) {
            self.found_rows.insert((table, first), bytes.to_vec());
        }
    }

    fn send_lane(&mut self, lane: Lane<A::Local>, to: usize) -> Result<()> {
        let number = lane.number;
        let encoded = |what: std::result::Result<Vec<u8>, postcard::Error>| {
            what.map_err(|e| Error::Damaged(format!("lane {number} on its way: {e}")))
        };
        for local in &lane.locals {
            self.send_piece(number, to, Piece::Local, &encoded(postcard::to_stdvec(local))?)?;
        }
        for (blocks, piece) in [(&lane.blocks, Piece::Train), (&lane.test, Piece::Test)] {
            for at in 0..blocks.len() {
                let bytes = encoded(postcard::to_stdvec(&*blocks.get(at)?))?;
                self.send_piece(number, to, piece, &bytes)?;
            }
        }
        let mut rows = LaneState::take_rows(&self.params, lane.rows.clone());
        let spread = self.strategy.spread_rows(number).into_iter();
        rows.extend(spread.map(|(table, first, bytes)| (table as u16, first as u64, bytes.to_vec())));
        for (table, first, bytes) in rows {
            self.send_piece(number, to, Piece::Rows { table, first }, &bytes)?;
        }
        let (own, moves): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.visits).into_iter().partition(|visit| visit.lane != number);
        self.visits = own;
        self.send_piece(number, to, Piece::Visits, order::to_message(&moves).body.bytes())?;
        self.send_piece(number, to, Piece::End, &[])
    }

    fn send_piece(&mut self, lane: usize, to: usize, piece: Piece, bytes: &[u8]) -> Result<()> {
        let parts = bytes.len().div_ceil(PART_BYTES).max(1);
        for part in 0..parts {
            let range = part * PART_BYTES..bytes.len().min((part + 1) * PART_BYTES);
            let head = Head { lane: lane as u32, piece, goes_on: part + 1 < parts };
            self.comm.send(to, MOVE, Message::new(&head, Buffer::from(&bytes[range])))?;
        }
        Ok(())
    }

    /// Takes in lane `number`, whose blocks are in so many cells, training and test.
    fn receive_lane(
        &mut self,
        number: usize,
        from: usize,
        [cells, test_cells]: [usize; 2],
    ) -> Result<Lane<A::Local>> {
        let what = format!("lane {number}, which moves here");
        let wanted = share(self.source.blocks(), self.run.lanes, number);
        let (mut train, mut test, mut locals) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let (message, piece) = self.receive_piece(number, from, &what)?;
            match piece {
                Piece::Local if locals.len() < wanted.len() => {
                    let local = postcard::from_bytes(message.body.bytes());
                    locals.push(
                        local.map_err(|e| message.bad(format!("a local state of lane {number}: {e}")))?,
                    );
                }
                Piece::Train if train.len() < wanted.len() * cells => {
                    train.push(self.take_block(&message, train.len() % cells, cells, false)?);
                }
                Piece::Test => {
                    test.push(self.take_block(&message, test.len() % test_cells, test_cells, true)?)
                }
                Piece::Rows { table, first } => self.take_rows(&message, table, first)?,
                Piece::Visits => self.visits.extend(order::from_body(&message)?),
                Piece::End => {
                    let ids = train.iter().step_by(cells).map(|block: &Block| block.id as usize);
                    if !ids.eq(wanted.clone())
                        || train.len() != wanted.len() * cells
                        || locals.len() != wanted.len()
                    {
                        let what = format!(
                            "lane {number} with {} cells, not those of blocks {wanted:?}",
                            train.len()
                        );
                        return Err(message.bad(what).into());
                    }
                    let rows =
                        train.first().map_or(0, |b| b.first_row)..train.last().map_or(0, |b| b.end_row);
                    let (blocks, test) = (Blocks::Here(train), Blocks::Here(test));
                    let pace = Pace::default();
                    return Ok(Lane { number, blocks, cells, locals, test, test_cells, rows, pace });
                }
                Piece::Local | Piece::Train => {
                    return Err(message.bad(format!("more of lane {number} than it has: {piece:?}")).into());
                }
            }
        }
    }

    /// The next piece of lane `number`, whole.
    fn receive_piece(&mut self, number: usize, from: usize, what: &str) -> Result<(Message, Piece)> {
        let mut bytes: Option<Buffer> = None;
        loop {
            let mut message = self.comm.recv(MOVE, Some(from), what)?;
            let Head { lane, piece, goes_on } = message.head()?;
            if lane as usize != number {
                return Err(message
                    .bad(format!("a piece of lane {lane}, where lane {number} was to come"))
                    .into());
            }
            match (&mut bytes, goes_on) {
                (None, false) => return Ok((message, piece)),
                (None, true) => bytes = Some(Buffer::from(message.body.bytes())),
                (Some(bytes), _) => drop(bytes.extend(message.body.bytes())),
            }
            if let Some(bytes) = bytes.take_if(|_| !goes_on) {
                message.body = bytes.into();
                return Ok((message, piece));
            }
        }
    }

    /// A cell of a block, if it can be worked on.
    fn take_block(&self, message: &Message, cell: usize, cells: usize, is_test: bool) -> Result<Block> {
        let block: Block = postcard::from_bytes(message.body.bytes())
            .map_err(|e| message.bad(format!("a block of data: {e}")))?;
        let shape = &self.source.shape;
        let columns = if cells > 1 { self.row_blocks[cell].clone() } else { 0..shape.columns };
        match block.fault(shape, &columns, is_test) {
            None => Ok(block),
            Some(fault) => Err(message.bad(fault).into()),
        }
    }

    /// Rows of a table on the example axis, or of one that is spread.
    fn take_rows(&mut self, message: &Message, table: u16, first: u64) -> Result<()> {
        let (table, first, bytes) = (usize::from(table), first as usize, message.body.bytes());
        let fits = match self.params.replicas.get_mut(table) {
            Some(replica) if replica.spec.axis == Axis::Example => replica.set_row_bytes(first, bytes),
            Some(replica) if rotates(replica.spec.axis) => {
                let of_block = self.row_blocks.iter().find(|rows| rows.start == first && !rows.is_empty());
                of_block.is_some_and(|rows| rows.len() * replica.spec.bytes_per_row() == bytes.len())
                    && self.found_rows.insert((table, first), bytes.to_vec()).is_none()
            }
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(message.bad(format!("rows from {first} on that do not fit table {table}")).into()),
        }
    }
}
