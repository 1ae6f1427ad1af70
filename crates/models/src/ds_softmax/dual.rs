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
//! is, what lanes do at the same time is independent: a step that raises D for one lane raises D. With p = a_S / s, a
//! distribution over S, margins m_k = w_k·x_i and q_k = C ‖x_i‖², example i contributes
//!
//! ```text
//! C s [H(p) + m·p − s/2 Σ_k q_k (p_k − p_old_k)²] + constant
//! ```
//!
//! which is the problem of the softmax model with other curvatures, and solved exactly by [`solve_with`].
//!
//! With one lane S is all classes, s = 1 and D never falls. With more, S is a block of classes and the reserve, a class
//! that takes up and gives back what blocks of classes have too much or too little: see [`super::reserve`].

use super::reserve::Reserve;
use super::tile::Tile;
use crate::softmax::double;
use crate::softmax::dual::{Scratch, solve, solve_with};
use crate::softmax::kernel::{Any, Rows, Work, distance, greatest, sum};

/// Passes over the rows of a data block with the classes at hand. Gives whether any duals moved; `None` if margins were
/// not finite.
pub(super) struct Pass<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes.
    pub(super) labels: &'a [u32],
    /// The order of the rows.
    pub(super) order: &'a [u32],
    /// How often.
    pub(super) passes: usize,
    /// ‖x‖² of each row.
    pub(super) squares: &'a [f32],
    /// Duals of the classes at hand: (rows, classes).
    pub(super) duals: &'a mut [f32],
    /// How many classes.
    pub(super) classes: usize,
    /// The reserve, unless all classes are at hand.
    pub(super) reserve: Option<&'a mut Reserve>,
    /// The weights of the classes, then those of the reserve.
    pub(super) tile: &'a mut Tile,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// C.
    pub(super) c: f32,
    /// Chunks of 16 duals that move less than this (sum of absolute changes) stay as they are.
    pub(super) least_move: f32,
}

impl Work for Pass<'_> {
    type Out = Option<bool>;

    #[inline(always)]
    fn run(mut self) -> Option<bool> {
        let mut moved = false;
        let (width, classes) = (self.tile.width, self.classes);
        let at_hand = classes + usize::from(self.reserve.is_some());
        let hold = self.reserve.as_ref().map_or(1.0, |reserve| reserve.hold);
        let mut scratch = Scratch::new(Any(width));
        let (mut margins, mut new) = (vec![0.0f32; width], vec![0.0f32; width]);
        let (mut old, mut shares) = (vec![0.0f32; width], vec![0.0f32; width]);
        let mut curvatures = vec![0.0f32; width];
        for index in 0..self.order.len() * self.passes {
            let index = index % self.order.len();
            self.look_ahead(index);
            let row = self.order[index] as usize;
            old[..classes].copy_from_slice(&self.duals[row * classes..][..classes]);
            let mut mass = 1.0;
            if let Some(reserve) = &self.reserve {
                old[classes] = reserve.masses[row];
                mass = sum(&old);
            }
            let next =
                self.order.get(index + 1).map_or(&[][..], |next| self.rows.stored_columns(*next as usize));
            let (columns, values) = self.rows.row(row);
            self.tile.dot(columns, values, self.bias, &mut margins);
            // While this row is solved, memory has time for the next one's weights.
            self.tile.fetch(next);
            let curvature = self.c * mass * self.squares[row];
            let solved = match &self.reserve {
                None if curvature > double::CURVATURE => {
                    let (all, a, own) = (..classes, f64::from(curvature), self.labels[row] as usize);
                    let (new, step) = (&mut new[all], &mut shares[all]);
                    if !double::solve(&margins[all], &old[all], |_| a, Some(own), new, step)? {
                        continue;
                    }
                    self.duals[row * classes..][all].copy_from_slice(new);
                    step.iter_mut().for_each(|step| *step *= self.c);
                    for first in (0..width).step_by(16) {
                        let step = &shares[first..width.min(first + 16)];
                        self.tile.add(columns, values, self.bias, step, first);
                    }
                    moved = true;
                    continue;
                }
                None => solve(&mut margins, &old, curvature, at_hand, &mut new, &mut scratch),
                Some(reserve) => {
                    margins[classes] += reserve.prices[row];
                    let inverse = 1.0 / mass;
                    shares.iter_mut().zip(&old).for_each(|(share, old)| *share = old * inverse);
                    curvatures.fill(curvature);
                    curvatures[classes] = hold * curvature;
                    let most = curvature * hold.max(1.0);
                    match most > double::CURVATURE {
                        true => {
                            let (all, a) = (..at_hand, |k: usize| f64::from(curvatures[k]));
                            let moves = &mut vec![0.0; at_hand];
                            double::solve(&margins[all], &shares[all], a, None, &mut new[all], moves)
                                .is_some()
                        }
                        false => {
                            let curvatures = (|k: usize| curvatures[k], most);
                            solve_with(&mut margins, &shares, curvatures, at_hand, &mut new, &mut scratch)
                        }
                    }
                }
            };
            if !solved {
                return None;
            }
            new.iter_mut().for_each(|new| *new *= mass);
            new[at_hand..].fill(0.0);
            let least = self.least_move.min(double::SCORE / curvature);
            if !keep_small_moves(&old, &mut new, least) {
                continue;
            }
            moved = true;
            self.duals[row * classes..][..classes].copy_from_slice(&new[..classes]);
            if let Some(reserve) = &mut self.reserve {
                reserve.masses[row] = new[classes];
            }
            for first in (0..width).step_by(16) {
                let end = width.min(first + 16);
                let (old, new) = (&old[first..end], &mut new[first..end]);
                if *old == *new {
                    continue;
                }
                new.iter_mut().zip(old).for_each(|(new, old)| *new = self.c * (*old - *new));
                if at_hand > classes && (first..end).contains(&classes) {
                    new[classes - first] *= hold;
                }
                self.tile.add(columns, values, self.bias, new, first);
            }
        }
        Some(moved)
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
            dunlin::table::prefetch(&self.duals[later * self.classes..]);
        }
        if let Some(next) = self.order.get(index + 4) {
            self.rows.prefetch(*next as usize);
        }
    }
}
