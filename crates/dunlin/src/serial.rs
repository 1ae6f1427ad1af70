//! The plain meaning of lanes, clocks and merges: one loop in one thread, nothing clever.
//!
//! With one lane this is the serial algorithm. With more, every lane works a clock on its own copy of the
//! tables and the updates are added along the lane tree. The engine must give the same bits; tests compare.

use crate::algorithm::{Algorithm, Sums, Unit};
use crate::data::{Block, Data};
use crate::table::{Axis, Element, Merge, Params, Replica, Storage};
use crate::{Error, Result};
use dunlin_comm::collective::{Folder, Node};

/// A model being trained in this thread.
#[derive(Debug)]
pub struct Serial<A: Algorithm> {
    /// The model.
    pub algorithm: A,
    /// Its tables.
    pub params: Params,
    /// Local state, by block.
    pub locals: Vec<A::Local>,
    data: Data,
    lanes: usize,
    clocks_per_epoch: usize,
    seed: u64,
    epoch: usize,
}

/// The part `index` of `0..total` cut into `parts` contiguous parts of nearly equal length.
pub fn share(total: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    total * index / parts..total * (index + 1) / parts
}

/// The order in which `lane` goes through its `blocks` blocks in `epoch`: drawn afresh each time, because a fixed
/// order of small blocks slows many methods down (coordinate ascent needs three times as many passes).
pub fn block_order(seed: u64, lane: usize, epoch: usize, blocks: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..blocks).collect();
    crate::rng::stream(seed, "block-order", &[lane as u64, epoch as u64]).shuffle(&mut order);
    order
}

impl<A: Algorithm> Serial<A> {
    /// Makes the model and runs `begin` on all blocks.
    ///
    /// # Errors
    /// What the model says.
    pub fn new(
        config: &A::Config,
        mut data: Data,
        lanes: usize,
        clocks_per_epoch: usize,
        seed: u64,
    ) -> Result<Serial<A>> {
        let algorithm = A::new(config, &data.shape)?;
        let mut replicas: Vec<Replica> =
            algorithm.tables().into_iter().map(|spec| Replica::new(spec, false)).collect();
        for (table, replica) in replicas.iter_mut().enumerate() {
            replica.initialise(table, seed, 0..replica.spec.rows);
        }
        algorithm.check(&data.blocks.iter().collect::<Vec<_>>(), seed)?;
        data.blocks.iter_mut().for_each(|block| algorithm.arrange(block, seed));
        let params = Params { replicas, lanes };
        let mut serial =
            Serial { algorithm, params, locals: Vec::new(), data, lanes, clocks_per_epoch, seed, epoch: 0 };
        let mut locals: Vec<Option<A::Local>> = serial.data.blocks.iter().map(|_| None).collect();
        for round in 0..serial.algorithm.rounds() {
            serial.clock(round, round, 1, 0, |algorithm, unit, params, _| {
                let local = locals[unit.block.id as usize].take();
                locals[unit.block.id as usize] = Some(algorithm.begin(unit, params, local)?);
                Ok(())
            })?;
        }
        serial.locals = locals.into_iter().flatten().collect();
        Ok(serial)
    }

    /// One pass over the data.
    ///
    /// # Errors
    /// What the model says.
    pub fn epoch(&mut self) -> Result<()> {
        let mut locals = std::mem::take(&mut self.locals);
        for part in 0..self.clocks_per_epoch {
            let clock = self.epoch * self.clocks_per_epoch + part;
            self.clock(self.epoch, clock, self.clocks_per_epoch, part, |algorithm, unit, params, sums| {
                algorithm.step(unit, params, &mut locals[unit.block.id as usize], sums)
            })?;
        }
        self.locals = locals;
        self.epoch += 1;
        Ok(())
    }

    /// The metrics on the training data and, if given, on test data.
    pub fn metrics(&self, test: Option<&Data>) -> Vec<(&'static str, f64)> {
        let (mut train, mut held_out) = (Sums::default(), Sums::default());
        for (block, local) in self.data.blocks.iter().zip(&self.locals) {
            self.algorithm.measure(block, &self.params, Some(local), &mut train);
        }
        self.algorithm.measure_rows(&self.params, &mut train);
        for block in test.iter().flat_map(|test| &test.blocks) {
            self.algorithm.measure(block, &self.params, None, &mut held_out);
        }
        self.algorithm.metrics(&train, test.map(|_| &held_out), &self.params)
    }

    /// The training data, as the model arranged them.
    pub fn blocks(&self) -> &[Block] {
        &self.data.blocks
    }

    /// One clock: every lane does its part `part` of `parts` with `work`, from the same tables.
    fn clock(
        &mut self,
        epoch: usize,
        clock: usize,
        parts: usize,
        part: usize,
        mut work: impl FnMut(&A, &Unit, &mut Params, &mut Sums) -> Result<()>,
    ) -> Result<()> {
        let (lanes, blocks) = (self.lanes, self.data.blocks.len());
        if lanes > blocks.max(1) {
            return Err(Error::Usage(format!("{lanes} lanes for {blocks} blocks of data")));
        }
        let mut folder = Folder::new(lanes);
        let start = (lanes > 1).then(|| self.params.replicas.clone());
        let mut all_sums = Folder::new(lanes);
        for lane in 0..lanes {
            let mut sums = Sums::default();
            let owned = share(blocks, lanes, lane);
            let order = block_order(self.seed, lane, epoch, owned.len());
            for place in &order[share(owned.len(), parts, part)] {
                let block = &self.data.blocks[owned.start + place];
                let unit = Unit {
                    block,
                    epoch,
                    clock,
                    lane,
                    lanes,
                    row_block: 0,
                    visit: 0,
                    visits: 1,
                    seed: self.seed,
                };
                work(&self.algorithm, &unit, &mut self.params, &mut sums)?;
            }
            all_sums.push(Node::leaf(lane), sums, |left, right| left.merge(&right));
            if let Some(start) = &start {
                let updates = update(&mut self.params.replicas, start, lanes);
                folder.push(Node::leaf(lane), updates, |left, right| {
                    left.iter_mut().zip(&right).for_each(|(left, right)| on_storage(left, right, Add));
                });
            }
        }
        for (_, updates) in folder.into_parts() {
            for (replica, update) in self.params.replicas.iter_mut().zip(&updates) {
                on_storage(&mut replica.values, update, Add);
            }
        }
        let sums = all_sums.into_parts().pop().map(|(_, sums)| sums).unwrap_or_default();
        self.algorithm.end_clock(&sums, &mut self.params)
    }
}

/// What a lane wrote, as values − start (divided by the lanes for a mean); sets the values back to the start.
/// Tables on the example axis stay as they are: each row belongs to one lane.
fn update(replicas: &mut [Replica], start: &[Replica], lanes: usize) -> Vec<Storage> {
    let mut updates = Vec::new();
    for (replica, start) in replicas.iter_mut().zip(start) {
        if replica.spec.axis == Axis::Example {
            updates.push(Storage::zeroed(replica.spec.element, replica.spec.rows * replica.spec.stride()));
            continue;
        }
        let mut update = std::mem::replace(&mut replica.values, start.values.clone());
        on_storage(&mut update, &start.values, Subtract);
        if replica.spec.merge == Merge::Mean {
            let divisor = update.clone();
            on_storage(&mut update, &divisor, Divide(lanes));
        }
        updates.push(update);
    }
    updates
}

trait Pairwise {
    fn apply<T: Element>(&self, left: T, right: T) -> T;
}
struct Add;
struct Subtract;
struct Divide(usize);
impl Pairwise for Add {
    fn apply<T: Element>(&self, left: T, right: T) -> T {
        left.plus(right)
    }
}
impl Pairwise for Subtract {
    fn apply<T: Element>(&self, left: T, right: T) -> T {
        left.minus(right)
    }
}
impl Pairwise for Divide {
    fn apply<T: Element>(&self, left: T, _: T) -> T {
        left.divided(self.0)
    }
}

fn on_storage(left: &mut Storage, right: &Storage, op: impl Pairwise) {
    fn zip<T: Element>(left: &mut [T], right: &[T], op: impl Pairwise) {
        left.iter_mut().zip(right).for_each(|(left, right)| *left = op.apply(*left, *right));
    }
    match (left, right) {
        (Storage::F32(left), Storage::F32(right)) => zip(left.as_mut_slice(), right.as_slice(), op),
        (Storage::F64(left), Storage::F64(right)) => zip(left.as_mut_slice(), right.as_slice(), op),
        (Storage::I32(left), Storage::I32(right)) => zip(left.as_mut_slice(), right.as_slice(), op),
        _ => unreachable!("copies of one table have one type"),
    }
}
