//! `rotation`: the rows of the rotating tables are cut into R = m·V blocks that go round the V lanes (DSGD, Gemulla et al.
//! 2011; the word rotation of STRADS, Lee et al. 2014).
//!
//! At sub-step s lane l has row block (m·l + s) mod R and works on its entries of these columns; then the block goes
//! to lane l − 1, which needs it at sub-step s + m. So every (data block, row block) pair is visited once an epoch of R
//! sub-steps, no row is ever in two places, nothing is copied, and m − 1 blocks per lane are on their way while one is
//! worked on. Between ranks that share memory a block moves as a pointer, else as one frame, or, where the receiver's data
//! touch only part of it, in pieces (`strategy/reach.rs`); over a network counts go in their smallest form.
//!
//! Tables on the example axis stay with their lane. The others (`Whole`) are *merged*: each lane has a view of its own
//! for a lap of R sub-steps, after which the updates of all lanes are added along the lane tree. Only they make lanes
//! wait for each other at the end of a lap.
//!
//! Where ranks do not share memory a lane may be m sub-steps ahead of the lane it sends to, and no more (`rotation/pace.rs`).
//!
//! The order in which the lanes visit a block does not depend on where they are hosted: same lanes, same bits.

mod arrivals;
mod pace;
mod pieces;
#[cfg(test)]
pub(super) mod tests;

use super::reach::Reach;
pub use super::row_blocks::MakeRows;
use super::row_blocks::{outgoing, rows_of};
use super::{Lanes, Report, Strategy, Task};
use crate::channel::ROTATION;
use crate::codec::{Entry, Part, add_neighbours};
use crate::hosting::Hosting;
use crate::table::{Axis, Params, Storage, TableSpec};
use crate::update::{Afterwards, Geometry};
use crate::{Error, Result, Sums};
use dunlin_comm::collective::Node;
use dunlin_comm::{Buffer, Comm, Message, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Row blocks per lane: one is worked on while the other travels. The same on every kind of cluster, as it decides in
/// which order entries are visited.
const BLOCKS_PER_LANE: usize = 2;

/// Bytes that a row block has at most: far from the limit of a frame.
const BLOCK_BYTES: usize = 128 << 20;

/// How many row blocks there are per lane, if `lanes` lanes train these tables.
pub fn blocks_per_lane(tables: &[TableSpec], lanes: usize) -> usize {
    BLOCKS_PER_LANE.max(least_per_lane(tables, lanes))
}

/// How many there are at least, so that each fits into a frame.
pub(super) fn least_per_lane(tables: &[TableSpec], lanes: usize) -> usize {
    let rotating = tables.iter().filter(|table| rotates(table.axis));
    let bytes = rotating.map(|table| table.rows * table.bytes_per_row()).max();
    bytes.unwrap_or(0).div_ceil(lanes.max(1) * BLOCK_BYTES)
}

/// True if the rows of tables on `axis` go round.
pub fn rotates(axis: Axis) -> bool {
    matches!(axis, Axis::Feature | Axis::Output)
}

/// What ranks tell each other. Rows without entries are written as they are ([`unpack_counts`](crate::codec::unpack_counts)).
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Packet {
    /// A row block of `table` for the visit of `lane` at `clock`, or a piece of one.
    Visit { lane: u32, clock: u64, table: u16, entries: Vec<Entry> },
    /// The updates of merged tables by `lanes` in `lap`.
    Merge { lap: u64, lanes: Node, entries: Vec<Entry> },
    /// A copy of a row block of `table` as it is after `clock` clocks.
    Copy { clock: u64, table: u16, row_block: u32, entries: Vec<Entry> },
    /// `lane` has done `clock` clocks.
    Done { lane: u32, clock: u64 },
}

/// What a lane has of a merged table during a lap.
#[derive(Clone, Debug)]
struct View {
    values: Storage,
    touched: Vec<u8>,
}

/// A part of a row block.
#[derive(Clone, Debug)]
struct Piece {
    /// The worker that it comes from.
    from: usize,
    /// Place of its table in `rotating`.
    place: usize,
    body: Arc<Buffer>,
}

/// The state of the strategy on one worker.
#[derive(Debug)]
pub struct Rotation {
    lanes: usize,
    hosted: Range<usize>,
    /// Clocks that each hosted lane has done.
    done: Vec<u64>,
    hosting: Hosting,
    row_blocks: Vec<Range<usize>>,
    /// m.
    per_lane: usize,
    rotating: Vec<usize>,
    merged: Vec<usize>,
    geometry: Vec<Geometry>,
    /// Row blocks at hand, by lane and clock of their visit: numbers by place in `rotating`, once they are there.
    held: BTreeMap<(usize, u64), Vec<Option<Storage>>>,
    /// What workers touch, if row blocks travel in pieces.
    reach: Option<Reach>,
    /// Pieces that have arrived of row blocks that are not complete, by clock of their visit.
    pieces: BTreeMap<u64, Vec<Piece>>,
    /// By hosted lane, by place in `merged`.
    views: Vec<Vec<View>>,
    /// What hosted lanes had of merged tables, by place in `merged`, at the end of this lap: for the error they had.
    ended: Vec<(u64, Vec<Storage>)>,
    /// Updates of merged tables by hosted lanes in this lap.
    updates: Vec<(Node, Part)>,
    /// Those of all lanes, as they arrive: lap, lanes, update.
    arrived: Vec<(u64, Node, Part)>,
    /// Laps that have been merged.
    laps: u64,
    /// Copies of row blocks for a synchronisation point: clock, place in `rotating`, row block.
    copies: Vec<(u64, usize, usize, Arc<Buffer>)>,
    /// True while the tables are as a synchronisation point wants them.
    drained: bool,
    /// True if rotating tables are never whole in one place.
    spread: bool,
    /// Clocks that the lane before the first hosted one has done, as far as it has said so; `None` if lanes may be as far
    /// ahead of others as the ring lets them.
    taken: Option<u64>,
    report: Report,
}

impl Rotation {
    /// For the tables `params` of a run whose lanes have all done `clock` clocks. `row_blocks` are the ranges of rows,
    /// blocks_per_lane x lanes of them. `spread` makes the rows that it is asked for, if the rotating tables are not in
    /// `params`, and never are to be; `None` if they are, complete on every worker.
    pub fn new(
        params: &Params,
        lanes: &Lanes,
        row_blocks: Vec<Range<usize>>,
        clock: u64,
        mut spread: Option<MakeRows>,
    ) -> Result<Rotation> {
        let tables = |wanted: fn(Axis) -> bool| -> Vec<usize> {
            (0..params.replicas.len()).filter(|table| wanted(params.replicas[*table].spec.axis)).collect()
        };
        let per_lane = row_blocks.len() / lanes.total.max(1);
        let (rotating, merged) = (tables(rotates), tables(|axis| axis == Axis::Whole));
        let view = |table: &usize| {
            let replica = &params.replicas[*table];
            View { values: replica.values.clone(), touched: vec![0; replica.spec.rows] }
        };
        let laps = clock / row_blocks.len().max(1) as u64;
        let mut rotation = Rotation {
            lanes: lanes.total,
            hosted: lanes.hosted.clone(),
            done: vec![clock; lanes.hosted.len()],
            hosting: lanes.hosting.clone(),
            row_blocks,
            per_lane,
            geometry: params.geometry(),
            held: BTreeMap::new(),
            reach: None,
            pieces: BTreeMap::new(),
            views: lanes.hosted.clone().map(|_| merged.iter().map(view).collect()).collect(),
            rotating,
            merged,
            ended: Vec::new(),
            updates: Vec::new(),
            arrived: Vec::new(),
            laps,
            copies: Vec::new(),
            drained: true,
            spread: spread.is_some(),
            taken: None,
            report: Report::default(),
        };
        for (lane, clock) in rotation.due(clock) {
            let rows = rotation.row_blocks[rotation.row_block(lane, clock)].clone();
            let make = |table: &usize| rows_of(params, &mut spread, *table, rows.clone()).map(Some);
            let held = rotation.rotating.iter().map(make);
            let held = held.collect::<Result<_>>()?;
            rotation.held.insert((lane, clock), held);
        }
        Ok(rotation)
    }

    /// The row block that `lane` visits at `clock`.
    fn row_block(&self, lane: usize, clock: u64) -> usize {
        (self.per_lane * lane + (clock % self.row_blocks.len() as u64) as usize) % self.row_blocks.len()
    }

    /// The visits of hosted lanes whose row blocks are with them, or on their way, at `clock`.
    fn due(&self, clock: u64) -> Vec<(usize, u64)> {
        let ahead = clock..clock + self.per_lane as u64;
        self.hosted.clone().flat_map(|lane| ahead.clone().map(move |clock| (lane, clock))).collect()
    }

    /// The workers apart from `rank`.
    fn others(&self, rank: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.hosting.workers()).filter(move |worker| *worker != rank)
    }

    fn is_held(&self, lane: usize, clock: u64) -> bool {
        self.held.get(&(lane, clock)).is_some_and(|tables| tables.iter().all(Option::is_some))
    }

    fn lap_of(&self, clock: u64) -> u64 {
        clock / self.row_blocks.len() as u64
    }

    /// The lane that can go on and is furthest behind.
    fn ready(&self, lanes: &Lanes, until: u64) -> Option<(usize, u64)> {
        let clocks = lanes.hosted.clone().zip(lanes.clocks.iter().copied());
        clocks
            .filter(|(lane, clock)| {
                let merged = self.merged.is_empty() || self.lap_of(*clock) <= self.laps;
                *clock < until && merged && self.is_held(*lane, *clock) && self.has_room(*lane, *clock)
            })
            .min_by_key(|(lane, clock)| (*clock, *lane))
    }

    /// Puts the views of `lane` into the tables, or takes them out again.
    fn swap_views(&mut self, params: &mut Params, lane: usize) {
        for (view, table) in self.views[lane - self.hosted.start].iter_mut().zip(&self.merged) {
            let replica = &mut params.replicas[*table];
            std::mem::swap(&mut replica.values, &mut view.values);
            std::mem::swap(&mut replica.touched, &mut view.touched);
        }
    }

    fn enter(&mut self, params: &mut Params, lane: usize, clock: u64) {
        self.drained = false;
        let row_block = self.row_block(lane, clock);
        let held = self.held.remove(&(lane, clock)).unwrap_or_default();
        for (table, values) in self.rotating.iter().zip(held) {
            let replica = &mut params.replicas[*table];
            replica.first = self.row_blocks[row_block].start;
            values.into_iter().for_each(|values| replica.values = values);
        }
        self.swap_views(params, lane);
    }

    /// Sends the row block that `lane` has visited at `clock` on to the lane that needs it next.
    fn pass_on(&mut self, comm: &mut Comm, params: &mut Params, lane: usize, clock: u64) -> Result<()> {
        let next = self.receiver(lane);
        let then = clock + self.per_lane as u64;
        for (place, table) in self.rotating.clone().into_iter().enumerate() {
            let replica = &mut params.replicas[table];
            let empty = Storage::zeroed(replica.spec.element, 0);
            let values = std::mem::replace(&mut replica.values, empty);
            if self.hosted.contains(&next) {
                self.hold(next, then, place, values);
                continue;
            }
            self.report.update_bytes[0] += values.bytes().len() as u64;
            match self.reach {
                None => self.send(comm, next, then, place, values.into_buffer().into())?,
                Some(_) => self.send_pieces(comm, (lane, clock), place, &values)?,
            }
        }
        Ok(())
    }

    /// Rows of the table at `place` for a visit of another worker's `lane`.
    fn send(
        &mut self,
        comm: &mut Comm,
        lane: usize,
        clock: u64,
        place: usize,
        numbers: Arc<Buffer>,
    ) -> Result<()> {
        let table = self.rotating[place];
        let Part { entries, body } = outgoing(comm, self.geometry[table].element, numbers);
        self.report.update_bytes[1] += body.len() as u64;
        let head = Packet::Visit { lane: lane as u32, clock, table: table as u16, entries };
        Ok(comm.send(self.hosting.owner(lane), ROTATION, Message::shared(&head, body))?)
    }

    fn hold(&mut self, lane: usize, clock: u64, place: usize, values: Storage) {
        let count = self.rotating.len();
        let tables = self.held.entry((lane, clock)).or_insert_with(|| (0..count).map(|_| None).collect());
        tables[place] = Some(values);
    }

    /// Lane `lane` has ended a lap: its updates of merged tables go to all workers, with those of the worker's others.
    fn end_lap(&mut self, comm: &mut Comm, params: &mut Params, lane: usize, lap: u64) -> Result<()> {
        let had = self.merged.iter().map(|table| params.replicas[*table].values.clone());
        self.ended.push((lap, had.collect()));
        let part = params.take_updates(&self.geometry, 1, Afterwards::Restore, &mut Vec::new()).pop();
        self.updates.push((Node::leaf(lane), part.unwrap_or_default()));
        if self.updates.len() < self.hosted.len() {
            return Ok(());
        }
        let mut updates = std::mem::take(&mut self.updates);
        updates.sort_by_key(|(node, _)| node.start);
        for (lanes, part) in add_neighbours(updates, self.lanes, &self.geometry, &mut Vec::new()) {
            let head = Packet::Merge { lap, lanes, entries: part.entries.clone() };
            for worker in self.others(comm.rank()) {
                comm.send(worker, ROTATION, Message::shared(&head, part.body.clone()))?;
            }
            self.arrived.push((lap, lanes, part));
        }
        Ok(())
    }

    /// Once the updates of all lanes in this lap are there, adds them and renews the lanes' views.
    fn merge(&mut self, params: &mut Params) {
        let now = self.arrived.iter().filter(|(lap, ..)| *lap == self.laps);
        let lanes: usize = now.map(|(_, lanes, _)| (lanes.end - lanes.start) as usize).sum();
        if self.merged.is_empty() || lanes < self.lanes {
            return;
        }
        let lap = self.laps;
        let now = self.arrived.extract_if(.., |(other, ..)| *other == lap);
        let mut parts: Vec<(Node, Part)> = now.map(|(_, lanes, part)| (lanes, part)).collect();
        parts.sort_by_key(|(node, _)| node.start);
        params.add(&parts, &self.geometry);
        self.note_errors(params);
        for view in &mut self.views {
            for (view, table) in view.iter_mut().zip(&self.merged) {
                view.values.clone_from(&params.replicas[*table].values);
            }
        }
        self.laps += 1;
    }

    /// After a merge: how far the lanes' views were from what came out.
    fn note_errors(&mut self, params: &Params) {
        for (_, had) in self.ended.extract_if(.., |(lap, _)| *lap == self.laps) {
            for (had, table) in had.iter().zip(&self.merged) {
                let replica = &params.replicas[*table];
                let Some([apart, size]) = had.distance(&replica.values) else { continue };
                let error = self.report.merge_error.entry(replica.spec.name.clone()).or_default();
                *error = (error.0 + apart / size.max(f64::MIN_POSITIVE), error.1 + 1);
            }
        }
    }

    /// Waits for the next message and takes it in.
    fn wait(&mut self, comm: &mut Comm, params: &mut Params, what: &str) -> Result<()> {
        let start = comm.now();
        let message = comm.recv(ROTATION, None, what);
        self.report.blocked_seconds += comm.now().since(start).as_secs_f64();
        self.take_in(message?, params)
    }

    /// Copies of the row blocks that are here once all lanes have done `clock` clocks, for `workers` and for this one.
    fn send_copies(&mut self, comm: &mut Comm, workers: &[usize], clock: u64) -> Result<()> {
        for (lane, visit) in self.due(clock) {
            let row_block = self.row_block(lane, visit);
            for (place, values) in self.held.get(&(lane, visit)).into_iter().flatten().enumerate() {
                let Some(values) = values else { continue };
                let numbers = Arc::new(Buffer::from(values.bytes()));
                self.copies.push((clock, place, row_block, numbers.clone()));
                if workers.is_empty() {
                    continue;
                }
                let Part { entries, body } = outgoing(comm, values.element(), numbers);
                let (table, row_block) = (self.rotating[place] as u16, row_block as u32);
                let head = Packet::Copy { clock, table, row_block, entries };
                for worker in workers {
                    comm.send(*worker, ROTATION, Message::shared(&head, body.clone()))?;
                }
            }
        }
        Ok(())
    }

    /// Waits for the copies of all row blocks and makes the tables whole.
    fn take_copies(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        while self.copies.iter().filter(|copy| copy.0 == clock).count()
            < self.rotating.len() * self.row_blocks.len()
        {
            self.wait(comm, params, "copies of row blocks at a synchronisation point")?;
        }
        for table in &self.rotating {
            let replica = &mut params.replicas[*table];
            replica.first = 0;
            replica.values = Storage::zeroed(replica.spec.element, replica.spec.rows * replica.spec.stride());
        }
        for (_, place, row_block, body) in self.copies.extract_if(.., |copy| copy.0 == clock) {
            let replica = &mut params.replicas[self.rotating[place]];
            if !replica.set_row_bytes(self.row_blocks[row_block].start, body.bytes()) {
                return Err(Error::Data(format!("rows of table {} do not fit", replica.spec.name)));
            }
        }
        Ok(())
    }

    /// Whom the lane that is furthest behind waits for.
    fn waits_for(&self, lanes: &Lanes) -> String {
        let Some((lane, clock)) = lanes.slowest() else { return "nothing".into() };
        if !self.is_held(lane, clock) {
            return self.visit_words(lane, clock);
        }
        match self.has_room(lane, clock) {
            true => format!("the end of lap {} on all lanes", self.laps),
            false => self.room_words(lane, clock),
        }
    }

    /// The visit of `lane` at `clock`, for messages of a wait.
    fn visit_words(&self, lane: usize, clock: u64) -> String {
        let from = (lane + 1) % self.lanes;
        let (row_block, worker) = (self.row_block(lane, clock), self.hosting.owner(from));
        match self.missing(lane, clock) {
            Some(worker) => format!(
                "a piece of row block {row_block} for lane {lane} at clock {clock}, from rank {worker}"
            ),
            None => format!(
                "row block {row_block} for lane {lane} at clock {clock}, from lane {from} on rank {worker}"
            ),
        }
    }
}

impl Strategy for Rotation {
    fn next(&mut self, comm: &mut Comm, params: &mut Params, lanes: &Lanes, until: u64) -> Result<Task> {
        loop {
            comm.poll()?;
            while let Some(message) = comm.recv_deadline(ROTATION, None, Time(0))? {
                self.take_in(message, params)?;
            }
            self.merge(params);
            if let Some((lane, clock)) = self.ready(lanes, until) {
                self.enter(params, lane, clock);
                return Ok(Task::Work { lane, row_block: self.row_block(lane, clock), clock });
            }
            if lanes.clocks.iter().all(|clock| *clock >= until) {
                return Ok(Task::Reached);
            }
            let what = self.waits_for(lanes);
            self.wait(comm, params, &what)?;
        }
    }

    fn done(&mut self, comm: &mut Comm, params: &mut Params, lane: usize, clock: u64, _: Sums) -> Result<()> {
        self.pass_on(comm, params, lane, clock)?;
        self.done[lane - self.hosted.start] = clock + 1;
        self.tell(comm, lane, clock + 1)?;
        let ends_lap = (clock + 1).is_multiple_of(self.row_blocks.len() as u64);
        if ends_lap && !self.merged.is_empty() {
            self.end_lap(comm, params, lane, self.lap_of(clock))?;
        }
        self.swap_views(params, lane);
        Ok(())
    }

    fn drain(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        if self.drained {
            return Ok(()); // nobody has done anything since, and a second copy would be taken for one of the first
        }
        let lap = self.lap_of(clock);
        let due = self.due(clock);
        while let Some((lane, visit)) = due.iter().find(|(lane, visit)| !self.is_held(*lane, *visit)) {
            let what = self.visit_words(*lane, *visit);
            self.wait(comm, params, &what)?;
        }
        while let Some(what) = self.untold(clock) {
            self.wait(comm, params, &what)?;
        }
        while !self.merged.is_empty() && self.laps < lap {
            let what = format!("the end of lap {} on all lanes", self.laps);
            self.wait(comm, params, &what)?;
        }
        if !self.spread {
            let others: Vec<usize> = self.others(comm.rank()).collect();
            self.send_copies(comm, &others, clock)?;
            self.take_copies(comm, params, clock)?;
        }
        self.drained = true;
        Ok(())
    }

    fn collect(&mut self, comm: &mut Comm, params: &mut Params, clock: u64) -> Result<()> {
        if !self.spread {
            return Ok(());
        }
        let to: &[usize] = if comm.rank() == 0 { &[] } else { &[0] };
        self.send_copies(comm, to, clock)?;
        match comm.rank() {
            0 => self.take_copies(comm, params, clock),
            _ => {
                self.copies.clear();
                Ok(())
            }
        }
    }

    fn spread_rows(&self, lane: usize) -> Vec<(usize, usize, &[u8])> {
        if !self.spread {
            return Vec::new();
        }
        let held = self.held.iter().filter(|((holder, _), _)| *holder == lane);
        let rows = held.flat_map(|((lane, clock), tables)| {
            let first = self.row_blocks[self.row_block(*lane, *clock)].start;
            let with_numbers = self.rotating.iter().zip(tables);
            with_numbers.filter_map(move |(table, values)| Some((*table, first, values.as_ref()?.bytes())))
        });
        // An empty row block may begin where the next one does.
        rows.filter(|(.., bytes)| !bytes.is_empty()).collect()
    }

    fn held_bytes(&self) -> usize {
        let held: usize = self.held.values().flatten().flatten().map(|values| values.bytes().len()).sum();
        held + self.pieces.values().flatten().map(|piece| piece.body.len()).sum::<usize>()
    }

    fn blocked_seconds(&self) -> f64 {
        self.report.blocked_seconds
    }

    fn report(&self) -> Report {
        self.report.clone()
    }
}
