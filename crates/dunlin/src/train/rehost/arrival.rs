//! A lane that comes, piece by piece: into memory, or, with a limit of that, straight to disk.

use super::super::Worker;
use super::super::dealer::Pace;
use super::super::library::{Blocks, Library};
use super::super::source::Lane;
use super::pieces::{Piece, Way};
use crate::algorithm::Algorithm;
use crate::data::{Block, Store};
use crate::serial::share;
use crate::strategy::rotation::rotates;
use crate::strategy::tokens::order;
use crate::table::Axis;
use crate::{Error, Result};
use dunlin_comm::Message;
use std::ops::Range;
use std::rc::Rc;

/// What has come of a lane.
struct Arrival<L> {
    number: usize,
    /// The ids of its blocks.
    wanted: Range<usize>,
    /// Cells of a block, training and test.
    cells: [usize; 2],
    locals: Vec<Option<L>>,
    /// The cells; without their contents if these are in the store.
    train: Vec<Block>,
    test: Vec<Block>,
    store: Option<Store>,
}

impl<L> Arrival<L> {
    fn keep(&mut self, block: Block, is_test: bool) -> Result<()> {
        let kept = match &mut self.store {
            None => block,
            Some(store) => {
                store.push(&block)?;
                store.stub(store.len() - 1).clone()
            }
        };
        if is_test { &mut self.test } else { &mut self.train }.push(kept);
        Ok(())
    }

    /// The lane, if all of it is there.
    fn lane(self) -> std::result::Result<Lane<L>, String> {
        let Arrival { number, wanted, cells: [cells, test_cells], locals, train, test, store } = self;
        let ids = train.iter().step_by(cells).map(|block| block.id as usize);
        if !ids.eq(wanted.clone()) || train.len() != wanted.len() * cells || locals.len() != wanted.len() {
            let count = train.len();
            return Err(format!("lane {number} with {count} cells, not those of blocks {wanted:?}"));
        }
        let rows = train.first().map_or(0, |b| b.first_row)..train.last().map_or(0, |b| b.end_row);
        let (blocks, test) = match store {
            None => (Blocks::Here(train), Blocks::Here(test)),
            Some(store) => {
                let (middle, end) = (train.len(), store.len());
                let library = Rc::new(Library::new(store));
                (Blocks::There(Rc::clone(&library), 0..middle), Blocks::There(library, middle..end))
            }
        };
        Ok(Lane { number, blocks, cells, locals, test, test_cells, rows, pace: Pace::default() })
    }
}

impl<A: Algorithm> Worker<'_, A> {
    /// Takes in lane `number`. With a limit of memory its blocks go to a file of their own, one by one.
    pub(super) fn receive_lane(&mut self, number: usize, from: usize) -> Result<Lane<A::Local>> {
        let mut way = Way::new(number, from, self.run.is_limited());
        let wanted = share(self.source.blocks(), self.run.lanes, number);
        let (cells, test_cells) = self.cells;
        let mut lane = Arrival {
            number,
            wanted,
            cells: [cells, test_cells],
            locals: Vec::new(),
            train: Vec::new(),
            test: Vec::new(),
            store: self.source.disk.as_ref().map(|disk| disk.new_store()).transpose()?,
        };
        loop {
            let (message, piece) = way.receive(self.comm)?;
            match piece {
                Piece::Local if lane.locals.len() < lane.wanted.len() => {
                    let local = postcard::from_bytes(message.body.bytes());
                    let bad = |e| message.bad(format!("a local state of lane {number}: {e}"));
                    lane.locals.push(local.map_err(bad)?);
                }
                Piece::Train if lane.train.len() < lane.wanted.len() * cells && lane.test.is_empty() => {
                    let block = self.take_block(&message, lane.train.len() % cells, cells, false)?;
                    lane.keep(block, false)?;
                }
                Piece::Test => {
                    let block = self.take_block(&message, lane.test.len() % test_cells, test_cells, true)?;
                    lane.keep(block, true)?;
                }
                Piece::Rows { table, first } => self.take_rows(&message, table, first)?,
                Piece::Visits => self.visits.extend(order::from_body(&message)?),
                Piece::End => return Ok(lane.lane().map_err(|what| message.bad(what))?),
                Piece::Local | Piece::Train | Piece::Taken => {
                    return Err(message.bad(format!("more of lane {number} than it has: {piece:?}")).into());
                }
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

/// What went wrong while lane `number` was packed.
pub(super) fn unpacked(number: usize) -> impl Fn(postcard::Error) -> Error {
    move |error| Error::Damaged(format!("lane {number} on its way: {error}"))
}
