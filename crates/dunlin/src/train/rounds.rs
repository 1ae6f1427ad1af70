//! Rounds of variables, under the strategy `scheduled`: push, pull and apply, on the blocks of this worker's lanes.

use super::Worker;
use super::source::Lane;
use crate::algorithm::{Algorithm, Sums};
use crate::schedule::{Change, Scheduled};
use crate::strategy::scheduled::{Scheduled as Rounds, add};
use crate::table::Params;
use crate::{Block, Result};
use dunlin_comm::Buffer;
use dunlin_comm::collective::{Folder, Node, Op};
use std::sync::Arc;

impl<A: Algorithm> Worker<'_, A> {
    /// The part of `lane` in a round.
    pub(super) fn round(&mut self, lane: usize) -> Result<Sums> {
        let place = lane - self.clocks.hosted.start;
        let (Some(model), Some(rounds)) = (self.algorithm.scheduled(), self.strategy.rounds()) else {
            return Ok(Sums::default());
        };
        prepare(model, rounds, &mut self.lanes[place], &self.params)?;
        let (round, _) = rounds.current();
        // Columns that are looked at: of variables, and of candidates, of whom n make up n²/2 pairs.
        let columns = round.picks.len() as f64 + (2.0 * round.pairs.len() as f64).sqrt();
        if self.run.lanes == 1 {
            one_by_one(model, rounds, &mut self.lanes[place], &mut self.params)?;
        } else {
            push(model, rounds, &mut self.lanes[place], &self.params)?;
        }
        let mut samples = 0;
        if self.comm.is_simulated() {
            self.lanes[place].each_block(|block, _| {
                samples += block.samples();
                Ok(())
            })?;
        }
        let variables = model.variables().max(1) as f64;
        self.charge(samples as f64 * columns / variables)?;
        Ok(Sums::default())
    }

    /// Applies the rule to the sums of a round, if there are any.
    pub(super) fn pull(&mut self) -> bool {
        let (Some(model), Some(rounds)) = (self.algorithm.scheduled(), self.strategy.rounds()) else {
            return false;
        };
        let Some((round, sums)) = rounds.take_sums() else { return false };
        let own = round.picks.len() * model.partials();
        let numbers = sums.slice::<f64>(0, own + round.pairs.len()).unwrap_or_default();
        let (sums, products) = numbers.split_at(own.min(numbers.len()));
        let mut changes = Vec::with_capacity(round.picks.len());
        if !round.picks.is_empty() {
            model.pull(&round.picks, sums, &mut self.params, &mut changes);
        }
        rounds.end(products, &changes);
        true
    }

    /// At a synchronisation point: what the model wants to know of all variables, summed over all lanes along their tree.
    pub(super) fn survey(&mut self) -> Result<Option<Arc<Buffer>>> {
        let (Some(model), Some(rounds)) = (self.algorithm.scheduled(), self.strategy.rounds()) else {
            return Ok(None);
        };
        let numbers = model.survey_numbers();
        if numbers == 0 {
            return Ok(None);
        }
        let mut all = Folder::new(self.run.lanes);
        for lane in &mut self.lanes {
            prepare(model, rounds, lane, &self.params)?;
            let mut sums = Buffer::zeroed(numbers * size_of::<f64>());
            let own = sums.slice_mut::<f64>(0, numbers).unwrap_or_default();
            lane.each_block(|block, local| {
                model.survey(block, &self.params, local, own);
                Ok(())
            })?;
            all.push(Node::leaf(lane.number), sums, add);
        }
        Ok(Some(self.comm.all_reduce_tree::<f64>(all.into_parts(), self.run.lanes, numbers, Op::Sum)?))
    }

    /// At a synchronisation point: no block lacks a change.
    pub(super) fn apply_rest(&mut self) -> Result<()> {
        let (Some(model), Some(rounds)) = (self.algorithm.scheduled(), self.strategy.rounds()) else {
            return Ok(());
        };
        let (_, changes) = rounds.current();
        if !changes.is_empty() {
            for lane in &mut self.lanes {
                lane.each_block(|block, local| {
                    model.apply(changes, block, &self.params, local);
                    Ok(())
                })?;
            }
            rounds.all_told();
        }
        Ok(())
    }
}

impl<L> Lane<L> {
    /// Has `work` done on the blocks whose local state is there, with it. Nothing is cut into cells here.
    fn each_block(&mut self, mut work: impl FnMut(&Block, &mut L) -> Result<()>) -> Result<()> {
        self.blocks.plan(0..self.blocks.len());
        for (at, local) in self.locals.iter_mut().enumerate() {
            let Some(local) = local else { continue };
            work(&*self.blocks.get(at)?, local)?;
        }
        Ok(())
    }
}

/// Before anything else is asked of a lane: makes what a checkpoint does not hold.
fn prepare<L>(
    model: &dyn Scheduled<L>,
    rounds: &mut Rounds,
    lane: &mut Lane<L>,
    params: &Params,
) -> Result<()> {
    match rounds.is_first_of(lane.number) {
        true => lane.each_block(|block, local| model.prepare(block, params, local)),
        false => Ok(()),
    }
}

/// Brings a lane's blocks up to date, then adds up their shares of the round's sums.
fn push<L>(model: &dyn Scheduled<L>, rounds: &mut Rounds, lane: &mut Lane<L>, params: &Params) -> Result<()> {
    let [own, products] = rounds.numbers();
    let (round, changes) = rounds.current();
    let mut sums = Buffer::zeroed((own + products) * size_of::<f64>());
    let (own, products) = match sums.slice_mut::<f64>(0, own + products) {
        Some(numbers) => numbers.split_at_mut(own),
        None => (&mut [][..], &mut [][..]),
    };
    lane.each_block(|block, local| {
        if !changes.is_empty() {
            model.apply(changes, block, params, local);
        }
        if !own.is_empty() {
            model.push(&round.picks, block, params, local, own);
        }
        if !products.is_empty() {
            model.products(&round.pairs, block, params, local, products);
        }
        Ok(())
    })?;
    rounds.push(lane.number, sums);
    Ok(())
}

/// With one lane nobody waits for anybody: each variable of the round sees what became of those before it.
fn one_by_one<L>(
    model: &dyn Scheduled<L>,
    rounds: &mut Rounds,
    lane: &mut Lane<L>,
    params: &mut Params,
) -> Result<()> {
    let (round, _) = rounds.current();
    let mut sums = vec![0.0; model.partials()];
    let mut changes: Vec<Change> = Vec::with_capacity(round.picks.len());
    for variable in &round.picks {
        sums.fill(0.0);
        lane.each_block(|block, local| {
            model.push(&[*variable], block, params, local, &mut sums);
            Ok(())
        })?;
        let before = changes.len();
        model.pull(&[*variable], &sums, params, &mut changes);
        let new = &changes[before..];
        if new.iter().any(|change| change.old != change.new) {
            lane.each_block(|block, local| {
                model.apply(new, block, params, local);
                Ok(())
            })?;
        }
    }
    rounds.end(&[], &changes);
    rounds.all_told();
    Ok(())
}
