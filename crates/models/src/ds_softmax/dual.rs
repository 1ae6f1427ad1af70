//! Dual ascent on the classes of one block, one example at a time.
//!
//! Weights are W_k = C Σ_i (1[y_i = k] − a_ik) x_i with duals a ≥ 0, which are the class probabilities at the optimum.
//! An example i and a block B of classes share the margins m_k = w_k·x_i, k ∈ B, which are fresh; of the other classes it
//! knows the log-masses L_B' = ln Σ_{k ∈ B'} exp(m_k) of its last visits. Changing a moves the margins against it by
//! q = C ‖x_i‖², so the best duals solve
//!
//! ```text
//! a_k = s(L) exp(m_k − q (a_k − a_k,old) − L),   L = ln Σ_{k ∈ B} exp(m_k − q (a_k − a_k,old)),   Σ_B a = s(L)
//! s(L) = exp(L) / (exp(L) + Σ_{B' ≠ B} exp(L_B'))
//! ```
//!
//! With all classes at hand s = 1 and this is exact dual ascent. With blocks of classes at several lanes at once, sharing
//! mass out within a block still is; moving mass between blocks rests on what is old, and rows that all rely on it move
//! the same way. Three things keep blocks from overshooting together:
//!
//! * The log-mass that is kept is that of the weights as they leave, not as a row met them half way through the visit.
//! * The work of a visit is damped: within it weights move σ' times as far as the duals say (so does q), and what leaves
//!   has moved by the duals alone. Two blocks that answer each other's last move undamped would do so for ever.
//! * The duals of a row are made to add up to 1 once a lap (`Local::share_growth`), together with all weights.

use super::tile::Tile;
use crate::softmax::kernel::{Rows, Work, distance, exp, greatest, ln, sum};

/// How the mass of a block follows its log-mass.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mass {
    /// All classes are at hand: the mass is 1.
    Whole,
    /// logit s(L) = L − others.
    Block {
        /// The log-mass of all other classes.
        others: f32,
    },
}

impl Mass {
    /// With log-masses counted from `top`.
    #[inline(always)]
    fn above(self, top: f32) -> Mass {
        match self {
            Mass::Whole => Mass::Whole,
            Mass::Block { others } => Mass::Block { others: others - top },
        }
    }

    /// s, ln s and ds/dL at log-mass `log`.
    #[inline(always)]
    fn at(self, log: f32) -> (f32, f32, f32) {
        match self {
            Mass::Whole => (1.0, 0.0, 0.0),
            Mass::Block { others } => {
                let logit = (log - others).clamp(-80.0, 80.0);
                // 1 / (1 + exp(−logit)), and its logarithm, without loss where it is near 0 or 1.
                let small = exp(-logit.abs());
                let total = 1.0 + small;
                let softplus = ln(total);
                let (share, log_share) = match logit > 0.0 {
                    true => (1.0 / total, -softplus),
                    false => (small / total, logit - softplus),
                };
                (share, log_share, small / (total * total))
            }
        }
    }
}

/// Rows that [`solve`] works in.
#[derive(Debug)]
pub(super) struct Scratch {
    target: Vec<f32>,
    logs: Vec<f32>,
    share: Vec<f32>,
    part: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(width: usize) -> Scratch {
        let row = vec![0.0; width];
        Scratch { target: row.clone(), logs: row.clone(), share: row.clone(), part: row }
    }
}

/// Most Newton iterations for one example; any duals at all are valid, so that stopping early costs time only.
const ITERATIONS: usize = 40;

/// Writes to `new` the best duals of an example for the classes at hand and gives their log-mass afterwards; `None` if
/// a margin is not finite. All slices have one (padded) length; `margins` is scratch afterwards.
#[inline(always)]
pub(super) fn solve(
    margins: &mut [f32],
    old: &[f32],
    q: f32,
    classes: usize,
    mass: Mass,
    new: &mut [f32],
    scratch: &mut Scratch,
) -> Option<f32> {
    let width = margins.len();
    let (old, new) = (&old[..width], &mut new[..width]);
    let (target, logs) = (&mut scratch.target[..width], &mut scratch.logs[..width]);
    let (share, part) = (&mut scratch.share[..width], &mut scratch.part[..width]);
    margins[classes..].fill(f32::NEG_INFINITY);
    let top = greatest(margins);
    margins[classes..].fill(top - 1e4);
    for k in 0..width {
        margins[k] -= top;
        new[k] = exp(margins[k]);
    }
    let total = sum(new);
    // NaN fails the comparison too.
    if !(total >= 1.0 && total.is_finite() && q.is_finite()) {
        return None;
    }
    let mass = mass.above(top);
    let mut log = ln(total);
    let (mut held, mut log_held, mut slope) = mass.at(log);
    let (scale, shift) = (held / total, log_held - log);
    for k in 0..width {
        new[k] *= scale;
        target[k] = q.mul_add(old[k], margins[k]);
        logs[k] = margins[k] + shift;
    }
    if q * distance(old, new) > 1.0 {
        // Far from the solution, which lies between `old` and `new`: start on its upper side, from where Newton's
        // method comes down without overshooting.
        let reach = 2.0 / q;
        for k in 0..width {
            let start = new[k].min(old[k] + reach).max(old[k]).max(1e-30);
            logs[k] = ln(start);
            new[k] = exp(logs[k]);
        }
        new[classes..].fill(0.0);
    }
    for _ in 0..ITERATIONS {
        // ln a_k + q a_k = target_k − φ(L) with φ(L) = L − ln s(L), and Σ a = s(L), linearised in (ln a, L).
        let bend = 1.0 - slope / held.max(1e-30);
        let phi = log - log_held;
        for k in 0..width {
            share[k] = 1.0 / q.mul_add(new[k], 1.0);
            part[k] = new[k] * share[k];
        }
        let shares = sum(part);
        for k in 0..width {
            margins[k] = q.mul_add(-new[k], target[k] - logs[k]) - phi;
            part[k] *= margins[k];
        }
        let bottom = bend.mul_add(shares, slope).max(1e-2 * shares.min(held)).max(1e-30);
        let change_of_log = ((sum(part) + (sum(new) - held)) / bottom).clamp(-30.0, 30.0);
        for k in 0..width {
            let change = bend.mul_add(-change_of_log, margins[k]) * share[k];
            let change = if change < 3.0 { change } else { 3.0 };
            logs[k] += change;
            let before = new[k];
            new[k] = exp(logs[k]);
            // Newton's error is of the order of the square of the last change. What is still tiny, but climbs
            // by more than a factor of e, may yet grow to any size.
            part[k] = before.max(new[k]).mul_add(change * change, (change - 1.0).max(0.0));
        }
        log += change_of_log;
        (held, log_held, slope) = mass.at(log);
        let miss = (sum(new) - held).abs();
        if sum(part) + miss * miss < 1e-5 * held.max(1e-3) && miss < 1e-3 * held.max(1e-3) {
            break;
        }
    }
    let have = sum(new);
    if have > 0.0 {
        let scale = held / have;
        new.iter_mut().for_each(|new| *new *= scale);
    }
    Some(log + top)
}

/// One pass over the rows of a data block with the classes at hand. Gives false if margins were not finite.
pub(super) struct Pass<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// The order of the rows.
    pub(super) order: &'a [u32],
    /// ‖x‖² of each row.
    pub(super) squares: &'a [f32],
    /// Duals of the classes at hand, (rows, width of the tile).
    pub(super) duals: &'a mut [f32],
    /// The weights.
    pub(super) tile: &'a mut Tile,
    /// How many classes are at hand.
    pub(super) classes: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// C σ'.
    pub(super) c: f32,
    /// ln Σ exp of the margins of all other classes, by row; `None` if all are at hand.
    pub(super) others: Option<&'a [f32]>,
    /// Log-mass of the classes at hand, by row; written.
    pub(super) log_mass: &'a mut [f32],
    /// By how much each row's duals have grown since the last lap, all classes together.
    pub(super) growth: &'a mut [f32],
    /// Chunks of 16 duals that move less than this (sum of absolute changes) stay as they are.
    pub(super) least_move: f32,
}

impl Work for Pass<'_> {
    type Out = bool;

    #[inline(always)]
    fn run(mut self) -> bool {
        let width = self.tile.width;
        let mut scratch = Scratch::new(width);
        let (mut margins, mut new) = (vec![0.0; width], vec![0.0; width]);
        for (index, row) in self.order.iter().enumerate() {
            self.look_ahead(index);
            let row = *row as usize;
            let (columns, values) = self.rows.row(row);
            self.tile.dot(columns, values, self.bias, &mut margins);
            let old = &mut self.duals[row * width..][..width];
            let mass = self.others.map_or(Mass::Whole, |others| Mass::Block { others: others[row] });
            let q = self.c * self.squares[row];
            let Some(log) = solve(&mut margins, old, q, self.classes, mass, &mut new, &mut scratch) else {
                return false;
            };
            self.log_mass[row] = log;
            for first in (0..width).step_by(16) {
                let end = width.min(first + 16);
                let (old, new) = (&mut old[first..end], &mut new[first..end]);
                if distance(old, new) <= self.least_move {
                    continue;
                }
                for (old, new) in old.iter_mut().zip(new.iter_mut()) {
                    let change = *old - *new;
                    *old = *new;
                    *new = self.c * change;
                    self.growth[row] -= change;
                }
                self.tile.add(columns, values, self.bias, new, first);
            }
        }
        true
    }
}

impl Pass<'_> {
    /// The order is random: what is needed soon is asked for now, what leads to it earlier still.
    #[inline(always)]
    fn look_ahead(&mut self, index: usize) {
        let width = self.tile.width;
        if let Some(later) = self.order.get(index + 8) {
            self.rows.prefetch_offset(*later as usize);
            dunlin::table::prefetch(&self.squares[*later as usize..]);
            dunlin::table::prefetch(&self.duals[*later as usize * width..]);
        }
        if let Some(next) = self.order.get(index + 4) {
            self.rows.prefetch(*next as usize);
        }
    }
}

/// The log-mass of the classes at hand, by row, from their weights as they are.
pub(super) struct Forward<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// The weights.
    pub(super) tile: &'a Tile,
    /// How many classes are at hand.
    pub(super) classes: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// Written.
    pub(super) log_mass: &'a mut [f32],
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let mut margins = vec![0.0; self.tile.width];
        for (row, log_mass) in self.log_mass.iter_mut().enumerate() {
            let (columns, values) = self.rows.row(row);
            self.tile.dot(columns, values, self.bias, &mut margins);
            margins[self.classes..].fill(f32::NEG_INFINITY);
            let top = greatest(&margins);
            margins.iter_mut().for_each(|margin| *margin = exp(*margin - top));
            *log_mass = top + ln(sum(&margins));
        }
    }
}
