//! Scheduled coordinate descent: `schedule`, `push`, `pull` (STRADS: Lee et al. 2014, Kim et al. 2016).
//!
//! A round picks some variables ([`Scheduler`]); every block adds its share to their partial sums (`push`), the shares
//! of all lanes are added up, the rule is applied to the sums (`pull`), and every block brings what depends on the
//! variables up to date (`apply`). Every worker has the same sums and draws from the same streams, so that each of them
//! schedules for itself and no pick is ever sent.
//!
//! ```text
//! candidates ──drawn by priority──▶ Independence ──▶ picks ──push, summed over lanes──▶ pull ──▶ changes ──▶ priorities
//!      └── x_j'x_k of candidates of a later round, in the same sums ──▶ Independence
//! ```
//! Two variables that depend on each other overshoot if they are updated together. So the picks of `dependency` and
//! `workingset` are pairwise correlated by less than θ, and no pick by more than 1 with all others together: then the
//! Gram matrix of a round is dominated by its diagonal, and updating all at once descends as far as one after the other
//! would be sure to.
//!
//! Everything here is a state machine: no clocks, no messages. Reading order: [`Scheduled`], `spec`, `tree`, `shard`,
//! `scheduler`, `independence`, `pipeline`.

mod independence;
mod pipeline;
mod scheduler;
mod shard;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

pub use pipeline::{Pipeline, Round};
pub use scheduler::Scheduler;
pub use spec::{Plan, Policy, Schedule};
pub use tree::SumTree;

use crate::Result;
use crate::algorithm::Sums;
use crate::data::Block;
use crate::table::Params;

/// What `pull` made of a variable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub variable: u32,
    /// What it was.
    pub old: f64,
    /// What it is.
    pub new: f64,
}

/// Two variables whose product x_j'x_k is asked for; with j = k the square ‖x_j‖².
pub type Pair = (u32, u32);

/// What a model offers that can be trained variable by variable: coordinate descent. `Local` is its state of a block,
/// such as the residuals of its rows.
///
/// With several lanes the variables of a round are pushed together, then pulled together; with one lane one after the
/// other. Nothing here waits.
pub trait Scheduled<Local> {
    /// Number of variables J; they are numbered from 0.
    fn variables(&self) -> usize;

    /// Numbers that the partial sums of one variable have.
    fn partials(&self) -> usize {
        1
    }

    /// Called for each block before the first round, also of a run that goes on from a checkpoint: makes what is not
    /// kept with `local` in a checkpoint, such as the block's columns.
    ///
    /// # Errors
    /// [`crate::Error::Data`] if the block cannot be used.
    fn prepare(&self, _block: &Block, _params: &Params, _local: &mut Local) -> Result<()> {
        Ok(())
    }

    /// What becomes of the numbers that lanes add up in a round, for lanes that have some columns of all rows
    /// ([`Algorithm::cut_by_columns`](crate::Algorithm::cut_by_columns)); asked for once, where a run begins or goes on. By
    /// default they are what `pull` and the schedulers want.
    fn exchange(&self) -> Option<Box<dyn Exchange>> {
        None
    }

    /// Adds the share of `block` to the partial sums of `variables`: [`Scheduled::partials`] numbers each, variable by
    /// variable. For the lasso x_j'r over the rows of the block. With an [`Exchange`] it has as many numbers as that says.
    fn push(&self, variables: &[u32], block: &Block, params: &Params, local: &Local, partial: &mut [f64]);

    /// Applies the rule to the sums over all blocks, sets the variables in the tables, and gives one [`Change`] for each,
    /// also if it stays what it was. Called on every rank with the same bits.
    fn pull(&self, variables: &[u32], sums: &[f64], params: &mut Params, changes: &mut Vec<Change>);

    /// Brings the state of `block` up to date: changes in order, so that two calls are as good as one with both lists.
    /// The tables may hold later changes.
    fn apply(&self, changes: &[Change], block: &Block, params: &Params, local: &mut Local);

    /// Adds the share of `block` to x_j'x_k of each pair; for standardised data that of the standardised columns. `out`
    /// has one number a pair, or as many as an [`Exchange`] says. Only their ratios to x_j'x_j and x_k'x_k matter.
    fn products(&self, pairs: &[Pair], block: &Block, params: &Params, local: &Local, out: &mut [f64]);

    /// Numbers that are added up over all blocks at each measuring, for [`Scheduled::judge`]; by default none.
    fn survey_numbers(&self) -> usize {
        0
    }

    /// Adds the share of `block` to them: what a bound on the optimum needs of all variables at once, as x_j'r of every
    /// column does the duality gap of the lasso.
    fn survey(&self, _block: &Block, _params: &Params, _local: &Local, _out: &mut [f64]) {}

    /// Puts what follows from the sums over all blocks, added along the tree of lanes, among the measures of the training
    /// data. Called on every rank with the same bits, before the model's metrics.
    fn judge(&self, _sums: &[f64], _params: &Params, _train: &mut Sums) {}
}

/// What travels besides partial sums and products, where lanes have some columns of all rows. Then only one lane knows a
/// variable's column, but its change concerns all, and no lane knows both columns of every pair. So the changes that all are
/// to hear of, and columns, are among the numbers that lanes add up; a number that one lane alone gives is there to the bit.
///
/// A worker has one, and hands it the sums of all lanes: tables that it writes are the same everywhere.
pub trait Exchange: Send {
    /// The numbers that [`Scheduled::push`] is given for the picks of `round`, and [`Scheduled::products`] for its pairs. Alike
    /// on every worker.
    fn numbers(&self, round: &Round, params: &Params) -> [usize; 2];

    /// Called before `pull` with these numbers of `round`, those of its picks first, added up over all lanes: brings the
    /// tables up to date, and gives [`Scheduled::partials`] sums for each pick, then the product of each pair. Nothing waits.
    fn receive(&self, round: &Round, sums: &[f64], params: &mut Params) -> Vec<f64>;
}
