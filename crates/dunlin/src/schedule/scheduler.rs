//! All shards of a schedule, who take turns.

use super::shard::{HEADER, Shard};
use super::{Change, Plan};
use crate::rng::stream;

/// Rows of two numbers that hold what is saved of a shard besides its variables.
const HEADER_ROWS: usize = HEADER / 2;

/// In one of so many rounds, a variable is updated because it is its turn. Not the first of them: at the beginning of a stretch
/// nothing is updated.
const TURNS: u64 = 4;

/// Which variables are next: the same on every rank that tells it the same changes. There is nothing random to save:
/// each round draws from a stream of its own.
#[derive(Clone, Debug)]
pub struct Scheduler {
    plan: Plan,
    seed: u64,
    shards: Vec<Shard>,
    /// Marks variables while a round is drawn; else all false.
    busy: Vec<bool>,
}

impl Scheduler {
    /// Of a run with `seed` that has not begun.
    pub fn new(plan: &Plan, seed: u64) -> Scheduler {
        let shards = (0..plan.shards).map(|shard| Shard::new(plan, shard, seed)).collect();
        Scheduler { plan: plan.clone(), seed, shards, busy: vec![false; plan.variables] }
    }

    /// Up to `count` different variables for `round`, from the shard whose turn it is, none of those in `except`.
    pub fn draw(&mut self, round: u64, count: usize, except: &[&[u32]]) -> Vec<u32> {
        let shard = self.turn(round);
        let mut rng = stream(self.seed, "schedule", &[round]);
        let range = self.shards[shard].range();
        let mut taken = 0;
        for variable in except.iter().copied().flatten() {
            let is_new = !std::mem::replace(&mut self.busy[*variable as usize], true);
            taken += usize::from(is_new && range.contains(&(*variable as usize)));
        }
        let mut out = Vec::with_capacity(count);
        let is_turn = round / self.plan.shards as u64 % TURNS == 1;
        self.shards[shard].draw(count, range.len() - taken, is_turn, &mut rng, &mut self.busy, &mut out);
        self.clear(except);
        self.clear(&[&out]);
        out
    }

    fn clear(&mut self, lists: &[&[u32]]) {
        lists.iter().copied().flatten().for_each(|variable| self.busy[*variable as usize] = false);
    }

    fn turn(&self, round: u64) -> usize {
        (round % self.plan.shards as u64) as usize
    }

    /// Those drawn for `round` that were left out of it.
    pub fn left_out(&mut self, round: u64, variables: impl Iterator<Item = u32>) {
        let shard = self.turn(round);
        self.shards[shard].defer(variables);
    }

    /// Learns what became of variables.
    pub fn finished(&mut self, changes: &[Change]) {
        for change in changes {
            let shard = self.shard_of(change.variable);
            self.shards[shard].finished(change);
        }
    }

    fn shard_of(&self, variable: u32) -> usize {
        self.shards.partition_point(|shard| shard.range().end <= variable as usize)
    }

    /// Which of several drawn for a round are to be taken first: those of greater rank. It is a number that is the greatest
    /// for variables that were never updated and for one of each shard that is to be updated next, and else grows with how
    /// often one was left out, if that was often; then how much it moved when it was last updated. Alike for policies that
    /// do not ask.
    pub fn rank(&self, variable: u32) -> (u16, f64) {
        self.shards[self.shard_of(variable)].rank(variable)
    }

    /// Rows of two numbers that [`Scheduler::save`] gives.
    pub fn rows(plan: &Plan) -> usize {
        plan.variables + plan.shards * HEADER_ROWS
    }

    /// What is to be saved, at a point where nothing that was drawn is on its way.
    pub fn save(&self) -> Vec<[f64; 2]> {
        let mut rows = vec![[0.0; 2]; Scheduler::rows(&self.plan)];
        let (variables, headers) = rows.split_at_mut(self.plan.variables);
        for (shard, header) in self.shards.iter().zip(headers.chunks_mut(HEADER_ROWS)) {
            shard.save(&mut variables[shard.range()], header.as_flattened_mut());
        }
        rows
    }

    /// Goes on from what was saved.
    pub fn load(&mut self, rows: &[[f64; 2]]) {
        let (variables, headers) = rows.split_at(self.plan.variables.min(rows.len()));
        for (shard, header) in self.shards.iter_mut().zip(headers.chunks(HEADER_ROWS)) {
            if let Some(variables) = variables.get(shard.range()) {
                shard.load(variables, header.as_flattened());
            }
        }
    }
}
