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
//! No ring of workers waits for each other: without a limit of memory nobody waits before it has sent all it has to send;
//! with one (`--memory`) a sender waits for its receiver, and all deal with the lanes that they send or take in by number, so
//! that of the lanes that have not moved yet the first always can. Then a lane is in memory piece by piece only: what comes
//! is written to a file of the lane's own, which goes when the lane does. A worker that is lost meanwhile is told of and named
//! as anywhere.

mod arrival;
mod pieces;

use super::dealer::{Deal, Dealer, Pace};
use super::source::{Lane, Source};
use super::{Worker, library};
use crate::Result;
use crate::algorithm::Algorithm;
use crate::event::Event;
use crate::hosting::Hosting;
use crate::memory::Needs;
use crate::run::Run;
use crate::serial::share;
use crate::strategy::Lanes;
use crate::strategy::tokens::order;
use crate::table::{Axis, Storage};
use arrival::unpacked;
use pieces::{Piece, Way};
use std::collections::BTreeMap;

/// The most lanes of which each has a file of its own, with a limit of memory: a process may have some hundred open. More
/// lanes than that stay where they are.
const MOST_FILES: usize = 256;

/// True if lanes of `run` may move at all: they go round, and there are more of them than workers.
pub(super) fn may_move(run: &Run) -> bool {
    let has_files = !run.is_limited() || run.lanes <= MOST_FILES;
    run.rehost && run.rotates() && run.workers > 1 && run.lanes > run.workers && has_files
}

/// Rank 0's dealer, who knows how many lanes a worker has memory for.
pub(super) fn dealer<A: Algorithm>(algorithm: &A, run: &Run, source: &Source) -> Dealer {
    if !run.is_limited() {
        return Dealer::default();
    }
    let (shape, names, block) = (&source.shape, &source.names, source.largest_block().unwrap_or(0));
    let needs = Needs::new(
        algorithm.tables(),
        A::MEASURES_BY_LAP,
        algorithm.local_bytes(shape),
        block,
        (shape, names),
    );
    Dealer::limited(needs.most_lanes(run))
}

/// Lanes that leave worker `rank` or come to it, in the order in which it deals with them: number, from, to.
fn moves(old: &Hosting, new: &Hosting, rank: usize, is_limited: bool) -> Vec<[usize; 3]> {
    let all = (0..old.lanes()).map(|lane| [lane, old.owner(lane), new.owner(lane)]);
    let mut own: Vec<_> = all.filter(|[_, from, to]| from != to && (*from == rank || *to == rank)).collect();
    if !is_limited {
        own.sort_by_key(|[_, from, _]| *from != rank);
    }
    own
}

impl<A: Algorithm> Worker<'_, A> {
    /// True if lanes may move here: an epoch has ended that is not the last.
    pub(super) fn may_rehost(&self) -> bool {
        may_move(self.run) && self.at.clock == 0 && self.at.epochs < self.run.stop.epochs
    }

    /// What the hosted lanes have taken.
    pub(super) fn paces(&self) -> Vec<Pace> {
        self.lanes.iter().map(|lane| lane.pace).collect()
    }

    /// Moves lanes so that they are where `deal` says.
    ///
    /// # Blocking
    /// On the workers that lanes come from, and, with a limit of memory, on those that they go to.
    ///
    /// # Errors
    /// A loss or a time-out that names the lane; [`dunlin_comm::Error::BadMessage`] for what is no lane of this run;
    /// [`crate::Error::Io`] with the place of a scratch file.
    pub(super) fn rehost(&mut self, deal: Deal) -> Result<()> {
        let (start, rank, old) = (self.comm.now(), self.comm.rank(), self.clocks.hosting.clone());
        let Some(new) = Hosting::from_cuts(deal.cuts.clone(), old.lanes(), old.workers()) else {
            let what = format!("lanes dealt as {:?} to {} workers", deal.cuts, old.workers());
            return Err(dunlin_comm::Error::BadMessage { from: 0, what }.into());
        };
        let clock = self.clocks.slowest().map_or(0, |(_, clock)| clock);
        self.report_before.merge(&self.strategy.report());
        self.visits.extend(self.strategy.order());
        self.move_lanes(&old, &new)?;
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

    fn move_lanes(&mut self, old: &Hosting, new: &Hosting) -> Result<()> {
        let (rank, is_limited) = (self.comm.rank(), self.run.is_limited());
        let numbered = std::mem::take(&mut self.lanes).into_iter().map(|lane| (lane.number, lane));
        let mut lanes: BTreeMap<usize, Lane<A::Local>> = numbered.collect();
        lanes.keys().filter(|lane| new.owner(**lane) == rank).for_each(|lane| self.keep_spread_rows(*lane));
        for [number, from, to] in moves(old, new, rank, is_limited) {
            if let Some(lane) = lanes.remove(&number) {
                self.comm.describe(&format!("lane {number}, which was to move to rank {to}"));
                self.send_lane(lane, to)?;
            } else {
                let what = format!("nothing yet of lane {number}, which was to come from rank {from}");
                self.comm.describe(&what);
                lanes.insert(number, self.receive_lane(number, from)?);
            }
        }
        self.lanes = lanes.into_values().collect();
        self.lanes.iter_mut().for_each(|lane| lane.pace = Pace::default());
        let blocks = self.lanes.iter_mut().flat_map(|lane| [&mut lane.blocks, &mut lane.test]);
        library::join(&mut blocks.collect::<Vec<_>>());
        if is_limited {
            self.give_up_rows();
        }
        Ok(())
    }

    /// Rows of spread tables that `lane` has, for the strategy that comes.
    fn keep_spread_rows(&mut self, lane: usize) {
        for (table, first, bytes) in self.strategy.spread_rows(lane) {
            self.found_rows.insert((table, first), bytes.to_vec());
        }
    }

    /// Frees the memory of rows that left with their lanes.
    fn give_up_rows(&mut self) {
        for replica in self.params.replicas.iter_mut().filter(|replica| replica.spec.axis == Axis::Example) {
            let (bytes, row_bytes) = (replica.values.bytes().len(), replica.spec.bytes_per_row());
            let element = replica.spec.element;
            let mut kept = Storage::zeroed(element, bytes / element.bytes());
            for rows in self.lanes.iter().map(|lane| lane.rows.clone()) {
                let place = rows.start * row_bytes..rows.end * row_bytes;
                kept.bytes_mut()[place].copy_from_slice(replica.row_bytes(rows));
            }
            replica.values = kept;
        }
    }

    fn send_lane(&mut self, lane: Lane<A::Local>, to: usize) -> Result<()> {
        let number = lane.number;
        let mut way = Way::new(number, to, self.run.is_limited());
        for local in &lane.locals {
            let bytes = postcard::to_stdvec(local).map_err(unpacked(number))?;
            way.send(self.comm, Piece::Local, &bytes)?;
        }
        for (blocks, piece) in [(&lane.blocks, Piece::Train), (&lane.test, Piece::Test)] {
            blocks.plan(std::iter::empty());
            for at in 0..blocks.len() {
                let bytes = postcard::to_stdvec(&*blocks.get(at)?).map_err(unpacked(number))?;
                way.send(self.comm, piece, &bytes)?;
            }
        }
        // In as many parts as there are blocks: as little at a time as the data.
        let parts = lane.locals.len();
        for (table, replica) in self.params.replicas.iter().enumerate() {
            if replica.spec.axis != Axis::Example {
                continue;
            }
            for part in (0..parts).map(|part| share(lane.rows.len(), parts, part)) {
                let rows = lane.rows.start + part.start..lane.rows.start + part.end;
                let piece = Piece::Rows { table: table as u16, first: rows.start as u64 };
                way.send(self.comm, piece, replica.row_bytes(rows))?;
            }
        }
        for (table, first, bytes) in self.strategy.spread_rows(number) {
            way.send(self.comm, Piece::Rows { table: table as u16, first: first as u64 }, bytes)?;
        }
        let (own, moves): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.visits).into_iter().partition(|visit| visit.lane != number);
        self.visits = own;
        way.send(self.comm, Piece::Visits, order::to_message(&moves).body.bytes())?;
        way.end(self.comm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that go through their moves one after the other, each waiting for the other side, all come to an end.
    #[test]
    fn no_ring_of_workers_waits_for_each_other() {
        for seed in 0..500 {
            let mut rng = crate::rng::stream(seed, "moves", &[]);
            let workers = 2 + rng.below(5);
            let lanes = workers + rng.below(12);
            let mut cuts = |()| {
                let mut all: Vec<usize> = (1..lanes).collect();
                rng.shuffle(&mut all);
                all.truncate(workers - 1);
                all.extend([0, lanes]);
                all.sort_unstable();
                Hosting::from_cuts(all, lanes, workers).unwrap()
            };
            let (old, new) = (cuts(()), cuts(()));
            let mut left: Vec<_> = (0..workers).map(|rank| moves(&old, &new, rank, true)).collect();
            let moving = (0..lanes).filter(|lane| old.owner(*lane) != new.owner(*lane)).count();
            assert_eq!(left.iter().map(Vec::len).sum::<usize>(), 2 * moving, "seed {seed}");
            for _ in 0..moving {
                let met = (0..workers).find_map(|rank| {
                    let [lane, from, to] = *left[rank].first()?;
                    (left[from].first() == left[to].first()).then_some([lane, from, to])
                });
                let Some([_, from, to]) = met else { panic!("seed {seed}: all wait, {left:?}") };
                left[from].remove(0);
                left[to].remove(0);
            }
        }
    }
}
