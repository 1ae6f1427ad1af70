//! Both halves of the factorisation: for each row, the least of ½ wᵀG w − bᵀw + l1 Σ w + ½ l2 ‖w‖² over w ≥ 0.
//!
//! For the weights, G = H Hᵀ and b = H x of a row; for the components, G = WᵀW and b = Wᵀx of a feature. Rows are
//! worked [`TILE`] at a time, turned so that a vector holds the same component of several rows: no sum runs across a
//! vector, and no row waits for its own last result.

use super::Solver;
use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa;

/// Rows worked together: enough for the sums of one component to keep the multipliers busy.
const TILE: usize = 64;

/// The problem, but for its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Problem<'a> {
    /// G: (width, width).
    pub(super) gram: &'a [f32],
    pub(super) width: usize,
    pub(super) solver: Solver,
    pub(super) sweeps: usize,
    pub(super) l1: f32,
    pub(super) l2: f32,
}

/// Improves `found`, rows of numbers one every `stride`, given `linear`, the b of each, one every `linear_stride`.
pub(super) fn sweep(
    problem: &Problem,
    linear: &[f32],
    linear_stride: usize,
    found: &mut [f32],
    stride: usize,
) {
    dispatch(isa::level(), Sweep { problem, linear, linear_stride, found, stride });
}

struct Sweep<'a> {
    problem: &'a Problem<'a>,
    linear: &'a [f32],
    linear_stride: usize,
    found: &'a mut [f32],
    stride: usize,
}

impl Work for Sweep<'_> {
    type Out = ();
    #[inline(always)]
    fn run(self) {
        let width = self.problem.width;
        let mut linear = vec![[0.0f32; TILE]; width];
        let mut tile = vec![[0.0f32; TILE]; width];
        let mut next = vec![[0.0f32; TILE]; width];
        let rows =
            self.linear.chunks(TILE * self.linear_stride).zip(self.found.chunks_mut(TILE * self.stride));
        for (from, found) in rows {
            turn(from, self.linear_stride, &mut linear);
            turn(found, self.stride, &mut tile);
            for _ in 0..self.problem.sweeps {
                match self.problem.solver {
                    Solver::Hals => hals(self.problem, &linear, &mut tile),
                    Solver::Multiplicative => {
                        multiplicative(self.problem, &linear, &tile, &mut next);
                        std::mem::swap(&mut tile, &mut next);
                    }
                }
            }
            for (lane, row) in found.chunks_exact_mut(self.stride).enumerate() {
                for (value, tile) in row.iter_mut().zip(&tile) {
                    *value = tile[lane];
                }
            }
        }
    }
}

/// Rows as columns; rows that are not there are 0.
#[inline(always)]
fn turn(rows: &[f32], stride: usize, out: &mut [[f32; TILE]]) {
    if rows.len() < TILE * stride {
        out.fill([0.0; TILE]);
    }
    for (lane, row) in rows.chunks_exact(stride).enumerate().take(TILE) {
        for (out, value) in out.iter_mut().zip(row) {
            out[lane] = *value;
        }
    }
}

/// w_k ← max(0, (b_k − l1 − Σ_{j≠k} G_kj w_j) / (G_kk + l2)), one k after another; 0 where nothing depends on it.
#[inline(always)]
fn hals(problem: &Problem, linear: &[[f32; TILE]], tile: &mut [[f32; TILE]]) {
    for (k, gram) in problem.gram.chunks_exact(problem.width).enumerate() {
        let curvature = gram[k] + problem.l2;
        if curvature <= 0.0 {
            tile[k] = [0.0; TILE];
            continue;
        }
        let mut sums = linear[k];
        for sum in &mut sums {
            *sum -= problem.l1;
        }
        let (before, after) = tile.split_at(k);
        subtract(&gram[..k], before, &mut sums);
        subtract(&gram[k + 1..], &after[1..], &mut sums);
        let inverse = 1.0 / curvature;
        for lane in 0..TILE {
            tile[k][lane] = (sums[lane] * inverse).max(0.0);
        }
    }
}

/// sums −= Σ_j G_j w_j.
#[inline(always)]
fn subtract(gram: &[f32], tile: &[[f32; TILE]], sums: &mut [f32; TILE]) {
    let mut own = *sums;
    for (gram, tile) in gram.iter().zip(tile) {
        for lane in 0..TILE {
            own[lane] = (-gram).mul_add(tile[lane], own[lane]);
        }
    }
    *sums = own;
}

/// w_k ← w_k b_k / (Σ_j G_kj w_j + l2 w_k + l1), all k at once; a component that is 0 stays 0.
#[inline(always)]
fn multiplicative(problem: &Problem, linear: &[[f32; TILE]], tile: &[[f32; TILE]], next: &mut [[f32; TILE]]) {
    for (k, gram) in problem.gram.chunks_exact(problem.width).enumerate() {
        let mut sums = [0.0f32; TILE];
        for lane in 0..TILE {
            sums[lane] = -problem.l1 - problem.l2 * tile[k][lane];
        }
        subtract(gram, tile, &mut sums);
        for lane in 0..TILE {
            // The sums are −(what w is divided by); nothing is divided by 0.
            let divisor = (-sums[lane]).max(f32::EPSILON);
            next[k][lane] = tile[k][lane] * (linear[k][lane].max(0.0) / divisor);
        }
    }
}
