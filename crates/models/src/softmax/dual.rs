//! Stochastic dual coordinate ascent: one example's duals at a time, solved exactly.
//!
//! The dual of an example is a distribution p over the classes; weights = C Σ_i (e_{y_i} − p_i) x_iᵀ. With all
//! others fixed, the best p of one example (curvature a = C σ' ‖x‖², scores z at the present weights) is
//!
//! ```text
//! argmax over the simplex  H(p) + z·p − a/2 ‖p − p_old‖²,    so    ln p_k + a p_k = z_k + a p_old_k − μ,  Σ p = 1
//! ```
//!
//! `solve` finds it by Newton's method on (ln p, μ) together, which costs one exp per class and iteration.
//! σ' = 1 with one lane. With V lanes each works alone on its copy for a clock with σ' = V, and its copy moves
//! V times as far as its duals say (CoCoA+, Ma et al. 2015, γ = 1); the mean of the copies is then exactly the
//! weights of all duals, and the joint step never lowers the dual objective: ‖Σ_v u_v‖² ≤ V Σ ‖u_v‖².

use super::double;
use super::kernel::{Rows, Width, WidthWork, distance, exp, greatest, ln, sum};
use dunlin::TableMut;
use dunlin::table::prefetch;
use serde::{Deserialize, Serialize};

/// The duals of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Duals {
    /// ‖x‖² of each row, the bias column included.
    pub squares: Vec<f32>,
    /// The distributions: (rows, stride of the weights), padded with zeros.
    pub probabilities: Vec<f32>,
}

impl Duals {
    /// The start, which belongs to zero weights: all mass on the row's own class.
    pub(super) fn start(rows: &mut Rows, classes: &[u32], stride: usize, bias: bool) -> Duals {
        let mut duals = Duals {
            squares: Vec::with_capacity(classes.len()),
            probabilities: vec![0.0; classes.len() * stride],
        };
        for (row, class) in classes.iter().enumerate() {
            let (_, values) = rows.row(row);
            let square = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            duals.squares.push((square + f64::from(u8::from(bias))) as f32);
            duals.probabilities[row * stride + *class as usize] = 1.0;
        }
        duals
    }
}

/// One pass over a block's rows in the order given. Gives whether any duals moved; `None` if scores were not finite.
pub(super) struct Pass<'a, 'b> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes.
    pub(super) labels: &'a [u32],
    /// The order of the rows.
    pub(super) order: &'a [u32],
    /// Their duals.
    pub(super) duals: &'a mut Duals,
    /// (features, width).
    pub(super) weights: TableMut<'b, f32>,
    /// Number of classes; what follows in a padded row is padding.
    pub(super) classes: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// C.
    pub(super) c: f32,
    /// σ': the number of lanes.
    pub(super) scale: f32,
    /// Duals that move less than this (sum of absolute changes) stay as they are.
    pub(super) least_move: f32,
}

impl WidthWork for Pass<'_, '_> {
    type Out = Option<bool>;

    #[inline(always)]
    fn run(mut self, width: impl Width) -> Option<bool> {
        let mut moved = false;
        let stride = width.get();
        let (mut scores, mut new, mut step) = (width.zeros(), width.zeros(), width.zeros());
        let mut scratch = Scratch::new(width);
        let (scores, new) = (&mut scores.as_mut()[..stride], &mut new.as_mut()[..stride]);
        let step = &mut step.as_mut()[..stride];
        for (index, row) in self.order.iter().enumerate() {
            // The order is random: what is needed soon is asked for now, what leads to it earlier still.
            if let Some(later) = self.order.get(index + 6) {
                self.rows.prefetch_offset(*later as usize);
                prefetch(&self.duals.squares[*later as usize..]);
                prefetch(&self.duals.probabilities[*later as usize * stride..]);
            }
            if let Some(next) = self.order.get(index + 2) {
                self.rows.prefetch(*next as usize);
            }
            let row = *row as usize;
            let old = &mut self.duals.probabilities[row * stride..][..stride];
            let (columns, values) = self.rows.row(row);
            width.dot(&self.weights, columns, values, scores);
            if let Some(bias) = self.bias {
                add(scores, self.weights.padded(bias));
            }
            let curvature = self.c * self.scale * self.duals.squares[row];
            if curvature > double::CURVATURE {
                let (all, own) = (..self.classes, Some(self.labels[row] as usize));
                let a = f64::from(curvature);
                if !double::solve(&scores[all], &old[all], |_| a, own, &mut new[all], &mut step[all])? {
                    continue;
                }
                step.iter_mut().for_each(|step| *step *= self.c * self.scale);
                old[all].copy_from_slice(&new[all]);
            } else {
                if !solve(scores, old, curvature, self.classes, new, &mut scratch) {
                    return None;
                }
                if distance(old, new) <= self.least_move {
                    continue;
                }
                for k in 0..stride {
                    step[k] = (self.c * self.scale) * (old[k] - new[k]);
                    old[k] = new[k];
                }
            }
            moved = true;
            width.add(&mut self.weights, columns, values, step);
            if let Some(bias) = self.bias {
                width.add(&mut self.weights, &[bias as u32], &[1.0], step);
            }
        }
        Some(moved)
    }
}

/// scores += row.
#[inline(always)]
pub(crate) fn add(scores: &mut [f32], row: &[f32]) {
    for (score, weight) in scores.iter_mut().zip(row) {
        *score += weight;
    }
}

/// Turns `scores` (padded) into scores − max, padding at −10⁴, and writes softmax(scores) to `new`. Gives the
/// sum of exp(scores − max), which is no number if a score was none.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f32], classes: usize, new: &mut [f32]) -> f32 {
    for padding in &mut scores[classes..] {
        *padding = f32::NEG_INFINITY;
    }
    let top = greatest(scores);
    for padding in &mut scores[classes..] {
        *padding = top - 1e4;
    }
    for (score, new) in scores.iter_mut().zip(new.iter_mut()) {
        *score -= top;
        *new = exp(*score);
    }
    let total = sum(new);
    let inverse = 1.0 / total;
    new.iter_mut().for_each(|new| *new *= inverse);
    total
}

/// Most Newton iterations for one example; a guard, for a step that is not exact still leaves a valid dual.
const ITERATIONS: usize = 40;

/// Rows that [`solve`] works in.
#[derive(Debug)]
pub(crate) struct Scratch<R> {
    target: R,
    logs: R,
    share: R,
    part: R,
}

impl<R> Scratch<R> {
    /// Rows of `width`.
    #[inline(always)]
    pub(crate) fn new<W: Width<Row = R>>(width: W) -> Scratch<R> {
        Scratch { target: width.zeros(), logs: width.zeros(), share: width.zeros(), part: width.zeros() }
    }
}

/// Writes to `new` the best duals of one example; see the module. All slices have one (padded) length; `scores`
/// is scratch afterwards. False if a score is not finite.
#[inline(always)]
pub(crate) fn solve<R: AsMut<[f32]>>(
    scores: &mut [f32],
    old: &[f32],
    a: f32,
    classes: usize,
    new: &mut [f32],
    scratch: &mut Scratch<R>,
) -> bool {
    solve_with(scores, old, (|_| a, a), classes, new, scratch)
}

/// The same where every class k has a curvature `a(k)` of its own, `most` at most: a/2 ‖p − p_old‖² becomes
/// ½ Σ_k a_k (p_k − p_old_k)².
#[inline(always)]
pub(crate) fn solve_with<R: AsMut<[f32]>>(
    scores: &mut [f32],
    old: &[f32],
    (a, most): (impl Fn(usize) -> f32, f32),
    classes: usize,
    new: &mut [f32],
    scratch: &mut Scratch<R>,
) -> bool {
    let width = scores.len();
    let (old, new) = (&old[..width], &mut new[..width]);
    let target = &mut scratch.target.as_mut()[..width];
    let logs = &mut scratch.logs.as_mut()[..width];
    let (share, part) = (&mut scratch.share.as_mut()[..width], &mut scratch.part.as_mut()[..width]);
    let total = softmax(scores, classes, new);
    // NaN fails the comparison too.
    if !(total >= 1.0 && total.is_finite() && most.is_finite()) {
        return false;
    }
    let inverse = 1.0 / total;
    for k in 0..width {
        target[k] = a(k).mul_add(old[k], scores[k]);
        logs[k] = scores[k];
    }
    if most * distance(old, new) > 1.0 {
        // Far from the solution, which lies between p_old and softmax(z): start on its upper side, from where
        // Newton's method on this convex function comes down without overshooting.
        for k in 0..width {
            let start = new[k].min(old[k] + 2.0 / a(k)).max(old[k]).max(1e-30);
            logs[k] = ln(start * total);
            new[k] = exp(logs[k]) * inverse;
        }
    }
    for _ in 0..ITERATIONS {
        // Linearised: (1 + a p) d + μ = r, Σ p d = 1 − Σ p, with r = target − ln p − a p.
        for k in 0..width {
            share[k] = 1.0 / a(k).mul_add(new[k], 1.0);
            part[k] = new[k] * share[k];
        }
        let shares = sum(part);
        for k in 0..width {
            scores[k] = a(k).mul_add(-new[k], target[k] - logs[k]);
            part[k] *= scores[k];
        }
        let mu = (sum(part) + (sum(new) - 1.0)) / shares;
        for k in 0..width {
            let change = (scores[k] - mu) * share[k];
            let change = if change < 3.0 { change } else { 3.0 };
            logs[k] += change;
            let before = new[k];
            new[k] = exp(logs[k]) * inverse;
            // Newton's error is of the order of the square of the last change. What is still tiny, but climbs
            // by more than a factor of e, may yet grow to any size.
            part[k] = before.max(new[k]).mul_add(change * change, (change - 1.0).max(0.0));
        }
        if sum(part) < 1e-5 {
            break;
        }
    }
    let inverse = 1.0 / sum(new);
    new.iter_mut().for_each(|new| *new *= inverse);
    true
}

/// How little a distribution must move (sum of absolute changes) to be left as it is.
pub(super) fn least_move(tolerance: f64) -> f32 {
    (1e-3 * tolerance) as f32
}
