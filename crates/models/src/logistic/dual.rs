//! Stochastic dual coordinate ascent for the penalty ½‖w‖²: one example's dual at a time, solved exactly.
//!
//! The dual of an example is p in [0, 1]; w = C Σ_i p_i y_i x_i, and with all others fixed (curvature
//! a = C σ' ‖x‖², score z = y w·x) the best p has
//!
//! ```text
//! ln(p / (1 − p)) + a p = a p_old − z
//! ```
//!
//! What is kept is u = ln(p / (1 − p)), which loses nothing near 0 and 1. u + a σ(u) = t is solved by Newton's
//! method from the side on which it never overshoots. Over V lanes it is CoCoA+, as in
//! [`softmax::dual`](crate::softmax::dual): σ' = V, and the mean of the copies is the weights of all duals.

use super::pass::{dot, sigmoid};
use crate::softmax::kernel::{Rows, Work, exp};
use dunlin::TableMut;
use dunlin::table::prefetch;
use serde::{Deserialize, Serialize};

/// The duals of a block; empty for the other solver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Duals {
    /// ‖x‖² of each row, the bias column included.
    pub squares: Vec<f32>,
    /// ln(p / (1 − p)) of each row.
    pub logits: Vec<f32>,
}

/// The logit of p = 0: its σ is exactly 0.
const NOTHING: f32 = -100.0;

impl Duals {
    /// The start, which belongs to zero weights: all p = 0.
    pub(super) fn start(rows: &mut Rows, count: usize, bias: bool) -> Duals {
        let mut square = |row: usize| {
            let (_, values) = rows.row(row);
            let square = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            (square + f64::from(u8::from(bias))) as f32
        };
        Duals { squares: (0..count).map(&mut square).collect(), logits: vec![NOTHING; count] }
    }
}

/// One pass over a block's rows in the order given. Gives false if scores were not finite.
pub(super) struct Pass<'a, 'b> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes, 0 or 1.
    pub(super) classes: &'a [u32],
    /// Their order.
    pub(super) order: &'a [u32],
    /// Their duals.
    pub(super) duals: &'a mut Duals,
    /// (features + bias, 1).
    pub(super) weights: TableMut<'b, f32>,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// C.
    pub(super) c: f32,
    /// σ': the number of lanes.
    pub(super) scale: f32,
    /// Duals that move by a smaller share than this stay as they are.
    pub(super) least_move: f32,
}

impl Work for Pass<'_, '_> {
    type Out = bool;

    #[inline(always)]
    fn run(mut self) -> bool {
        for (index, row) in self.order.iter().enumerate() {
            // The order is random: what is needed soon is asked for now, what leads to it earlier still.
            if let Some(later) = self.order.get(index + 6) {
                self.rows.prefetch_offset(*later as usize);
                prefetch(&self.duals.squares[*later as usize..]);
                prefetch(&self.duals.logits[*later as usize..]);
            }
            if let Some(next) = self.order.get(index + 2) {
                self.rows.prefetch(*next as usize);
            }
            let row = *row as usize;
            let sign = if self.classes[row] == 0 { -1.0f32 } else { 1.0 };
            let (columns, values) = self.rows.row(row);
            let bias = self.bias.map_or(0.0, |bias| self.weights.padded(bias)[0]);
            let score = sign * (bias + dot(|column| self.weights.padded(column)[0], columns, values));
            let a = self.c * self.scale * self.duals.squares[row];
            if !(score.is_finite() && a.is_finite()) {
                return false;
            }
            let old = self.duals.logits[row];
            let share = sigmoid(old);
            let rest = sigmoid(-old);
            let new = solve(a.mul_add(share, -score), a.mul_add(-rest, -score), a, old);
            let change = sigmoid(new) - share;
            if change.abs() <= self.least_move * share.min(rest) {
                continue;
            }
            self.duals.logits[row] = new;
            let step = sign * self.c * self.scale * change;
            for (column, value) in columns.iter().zip(values) {
                let [weight] = self.weights.array_mut::<1>(*column as usize);
                *weight = value.mul_add(step, *weight);
            }
            if let Some(bias) = self.bias {
                self.weights.array_mut::<1>(bias)[0] += step;
            }
        }
        true
    }
}

/// Most Newton iterations for one example; a guard.
const ITERATIONS: usize = 30;

/// The u with u + a σ(u) = t, a ≥ 0, given t and t − a (each exact where it is small), starting near `near`.
#[inline(always)]
pub(super) fn solve(t: f32, beyond: f32, a: f32, near: f32) -> f32 {
    // σ(−u) = 1 − σ(u): the solution for t < a / 2 is minus the one for a − t, which is not negative. There the
    // function u − a σ(−u) − (t − a) is concave, so from below Newton's method climbs to the solution and does not
    // pass it.
    let mirrored = t + beyond < 0.0;
    let (least, near) = if mirrored { (-t, -near) } else { (beyond, near) };
    let floor = least.max(0.0);
    let mut u = near.max(floor);
    for _ in 0..ITERATIONS {
        let small = exp(-u);
        let inverse = 1.0 / (1.0 + small);
        let value = a.mul_add(-small * inverse, u - least);
        let change = value / a.mul_add(small * inverse * inverse, 1.0);
        let next = (u - change).max(floor);
        let moved = (next - u).abs();
        u = next;
        // The error is of the order of the square of the last change.
        if moved <= 1e-3 {
            break;
        }
    }
    if mirrored { -u } else { u }
}

/// By what share a dual must move not to be left as it is.
pub(super) fn least_move(tolerance: f64) -> f32 {
    (1e-3 * tolerance) as f32
}
