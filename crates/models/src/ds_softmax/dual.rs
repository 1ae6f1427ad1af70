//! Dual ascent on the classes at hand, one example at a time.
//!
//! Weights are W_k = C Σ_i (1[y_i = k] − a_ik) x_i with duals a_i, a distribution over the classes, which are the class
//! probabilities at the optimum. They maximise
//!
//! ```text
//! D(a) = C Σ_i H(a_i) − ½ Σ_k ‖W_k‖²,   H the entropy
//! ```
//!
//! whose first part separates over examples and whose second over classes. So if every lane changes duals of its own
//! examples and of the classes S that it has at hand only, and leaves the mass s = Σ_{k ∈ S} a_ik of each example as it
//! is, the duals stay distributions and what lanes do at the same time is independent: a step that raises D for one
//! lane raises D. With p = a_S / s, a distribution over S, margins m_k = w_k·x_i and q = C ‖x_i‖², example i contributes
//!
//! ```text
//! C s [H(p) + m·p − (q s)/2 ‖p − p_old‖²] + constant
//! ```
//!
//! which is the problem of the softmax model with another curvature, and solved exactly by [`solve`]. D never falls.
//!
//! Mass moves between blocks of classes because two neighbours are at hand at a time: S is their union. With one lane S
//! is all classes.

use super::tile::Tile;
use crate::softmax::dual::{Scratch, solve};
use crate::softmax::kernel::{Any, Rows, Work, distance, greatest, sum};

/// The duals of one block of classes.
#[derive(Debug, Default)]
pub(super) struct Duals<'a> {
    /// (rows, classes).
    pub(super) values: &'a mut [f32],
    /// How many classes.
    pub(super) classes: usize,
}

impl Duals<'_> {
    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.classes..][..self.classes]
    }
}

/// Passes over the rows of a data block with the classes at hand. Gives false if margins were not finite.
pub(super) struct Pass<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// The order of the rows.
    pub(super) order: &'a [u32],
    /// How often.
    pub(super) passes: usize,
    /// ‖x‖² of each row.
    pub(super) squares: &'a [f32],
    /// Duals of the classes at hand: those of the block that visits, then those of the next.
    pub(super) duals: [Duals<'a>; 2],
    /// The weights, in the same order.
    pub(super) tile: &'a mut Tile,
    /// True if all classes are at hand.
    pub(super) is_whole: bool,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// C.
    pub(super) c: f32,
    /// Chunks of 16 duals that move less than this (sum of absolute changes) stay as they are.
    pub(super) least_move: f32,
}

impl Work for Pass<'_> {
    type Out = bool;

    #[inline(always)]
    fn run(mut self) -> bool {
        let width = self.tile.width;
        let split = self.duals[0].classes;
        let classes = split + self.duals[1].classes;
        let mut scratch = Scratch::new(Any(width));
        let (mut margins, mut new) = (vec![0.0f32; width], vec![0.0f32; width]);
        let (mut old, mut shares) = (vec![0.0f32; width], vec![0.0f32; width]);
        for index in 0..self.order.len() * self.passes {
            let index = index % self.order.len();
            self.look_ahead(index);
            let row = self.order[index] as usize;
            old[..split].copy_from_slice(self.duals[0].row(row));
            old[split..classes].copy_from_slice(self.duals[1].row(row));
            let mass = if self.is_whole { 1.0 } else { sum(&old) };
            if 2.0 * mass <= self.least_move {
                continue;
            }
            let (columns, values) = self.rows.row(row);
            self.tile.dot(columns, values, self.bias, &mut margins);
            let inverse = 1.0 / mass;
            shares.iter_mut().zip(&old).for_each(|(share, old)| *share = old * inverse);
            let curvature = self.c * mass * self.squares[row];
            if !solve(&mut margins, &shares, curvature, classes, &mut new, &mut scratch) {
                return false;
            }
            new.iter_mut().for_each(|new| *new *= mass);
            new[classes..].fill(0.0);
            if !keep_small_moves(&old, &mut new, self.least_move) {
                continue;
            }
            self.duals[0].row(row).copy_from_slice(&new[..split]);
            self.duals[1].row(row).copy_from_slice(&new[split..classes]);
            for first in (0..width).step_by(16) {
                let end = width.min(first + 16);
                let (old, new) = (&old[first..end], &mut new[first..end]);
                if *old == *new {
                    continue;
                }
                new.iter_mut().zip(old).for_each(|(new, old)| *new = self.c * (*old - *new));
                self.tile.add(columns, values, self.bias, new, first);
            }
        }
        true
    }
}

/// Leaves chunks of duals that hardly move as they are, and the mass too: what they would have moved goes to the
/// greatest dual. False if nothing is left to do.
#[inline(always)]
fn keep_small_moves(old: &[f32], new: &mut [f32], least: f32) -> bool {
    let mut moves = false;
    for (old, new) in old.chunks(16).zip(new.chunks_mut(16)) {
        match distance(old, new) <= least {
            true => new.copy_from_slice(old),
            false => moves = true,
        }
    }
    if moves {
        let rest = sum(old) - sum(new);
        let top = greatest(new);
        let greatest = new.iter_mut().find(|new| **new == top);
        greatest.into_iter().for_each(|new| *new = (*new + rest).max(0.0));
    }
    moves
}

impl Pass<'_> {
    /// The order is random: what is needed soon is asked for now, what leads to it earlier still.
    #[inline(always)]
    fn look_ahead(&mut self, index: usize) {
        if let Some(later) = self.order.get(index + 8) {
            let later = *later as usize;
            self.rows.prefetch_offset(later);
            dunlin::table::prefetch(&self.squares[later..]);
            for duals in &self.duals {
                dunlin::table::prefetch(&duals.values[later * duals.classes..]);
            }
        }
        if let Some(next) = self.order.get(index + 4) {
            self.rows.prefetch(*next as usize);
        }
    }
}
