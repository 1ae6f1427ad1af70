//! What lets the mass of an example move between blocks of classes that are never at hand together: a reserve.
//!
//! A lane that has one block of classes at hand can move mass within it only, if every distribution is to stay one. So
//! each data block has a class of its own, the *reserve*, which is always at hand and never leaves: example i has the
//! mass r_i there, Σ_k a_ik + r_i = 1 + ε, and at the optimum r_i = ε, all of it. With Δ_i = ε − r_i = Σ_k a_ik − 1,
//! what is maximised for given prices τ is the augmented Lagrangian (Hestenes 1969, Powell 1969) of Δ = 0
//!
//! ```text
//! L(a, r) = C Σ_i [H(a_i) + H(r_i) + (ln ε + τ_i) r_i] − ½ Σ_k ‖W_k‖² − (γ/2) Σ_b ‖C Σ_{i ∈ b} Δ_i x_i‖²
//! ```
//!
//! whose entropy of the reserve holds every row to its mass, and whose last sum, over data blocks b, holds to it what the
//! rows of a block have in common. (To shift all W_k by the same vector costs the margins nothing and the penalty
//! next to nothing, so that the entropy alone takes hundreds of laps over it.) The reserve is a class like others
//! then, with margin ln ε + τ_i + v·x_i, weights v = γ C Σ_b Δ_i x_i and γ times the curvature, and every visit raises L,
//! on any number of lanes. After a lap τ_i takes what the margin of the reserve would be at r_i = ε for the same price of
//! mass: τ_i += s (v·x_i − ln(r_i / ε)).
//!
//! Safeguard: where Σ_i Δ_i² has grown from one lap to the next, τ was moved before the duals could follow. It stays
//! for a lap then, in which L can only rise; for good, s, at first 1 or less with more than four blocks, is halved and γ
//! doubled. Prices that stay make of L a concave function that is climbed block by block, so no run runs away.

use crate::softmax::kernel::{Rows, Work, ln};
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};

/// ε: mass of the reserve at the optimum. Less is a narrower way for mass, more holds rows to their mass less firmly.
pub(super) const SHARE: f32 = 0.1;

/// γ at first for B data blocks and K classes: max(0.3, B²/100) min(1, √(20/K)). Found good on 20 Newsgroups and
/// LSHTC1-small (1,139 classes) with 2 to 16 lanes; the safeguard mends what it does not fit.
fn hold(blocks: f64, classes: usize) -> f32 {
    ((0.01 * blocks * blocks).max(0.3) * (20.0 / classes.max(1) as f64).sqrt().min(1.0)) as f32
}

/// The reserve's mass, held in single precision, rounds scores by C ‖x‖² times 10⁻⁸: beyond this nothing is left of them.
const MOST_CURVATURE: f64 = 1e7;

/// Refuses C where the masses of most rows, of which `squares` are ‖x‖², could not follow it.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn check(squares: &[f32], c: f64) -> Result<()> {
    let mut squares = squares.to_vec();
    let middle = squares.len() / 2;
    let Some((_, median, _)) =
        (!squares.is_empty()).then(|| squares.select_nth_unstable_by(middle, f32::total_cmp))
    else {
        return Ok(());
    };
    let curvature = c * f64::from(*median);
    if curvature <= MOST_CURVATURE {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "ds-softmax: c = {c} is {curvature:.1e} with the median of the rows' squared lengths; allowed on more than one \
         lane: at most {MOST_CURVATURE:e}; scale the features down, lower `c`, or take --lanes 1"
    )))
}

/// A lap in which Σ_i Δ_i² grows by more than this factor has moved the prices too far.
const GROWTH: f64 = 1.1;

/// The reserve of a data block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reserve {
    /// r_i, by row.
    pub masses: Vec<f32>,
    /// ln ε + τ_i, by row.
    pub prices: Vec<f32>,
    /// v, the bias last.
    pub weights: Vec<f32>,
    /// γ.
    pub hold: f32,
    /// s.
    pub step: f32,
    /// Σ_i Δ_i² when prices were last looked at.
    pub residual: f64,
}

impl Reserve {
    /// For `rows` rows of `width` features of a data set of `blocks` blocks as large, at zero weights of `classes` classes.
    pub(super) fn start(rows: usize, width: usize, blocks: f64, classes: usize) -> Reserve {
        Reserve {
            masses: vec![SHARE; rows],
            prices: vec![(classes as f32 * SHARE).ln(); rows],
            weights: vec![0.0; width],
            hold: hold(blocks, classes),
            step: (2.0 / blocks.sqrt()).min(1.0) as f32,
            residual: 0.0,
        }
    }

    /// What the duals of `row` are multiplied by to add up to 1, less 1.
    #[inline(always)]
    pub(super) fn correction(&self, row: usize) -> f32 {
        let excess = SHARE - self.masses[row];
        -excess / (1.0 + excess)
    }

    /// Between two laps: sees whether the prices may move.
    pub(super) fn look(&mut self) -> bool {
        let excess = self.masses.iter().map(|mass| f64::from(SHARE - mass));
        let residual = excess.map(|excess| excess * excess).sum::<f64>();
        let grew = self.residual > 0.0 && residual > GROWTH * self.residual;
        self.residual = residual;
        if grew {
            self.step *= 0.5;
            self.hold *= 2.0;
            self.weights.iter_mut().for_each(|weight| *weight *= 2.0);
        }
        !grew
    }
}

/// Moves the prices.
pub(super) struct Prices<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their reserve.
    pub(super) reserve: &'a mut Reserve,
    /// The place of the bias among the weights, if there is one.
    pub(super) bias: Option<usize>,
}

impl Work for Prices<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let Reserve { masses, prices, weights, step, .. } = self.reserve;
        let bias = self.bias.map_or(0.0, |bias| weights[bias]);
        for (row, (mass, price)) in masses.iter().zip(prices).enumerate() {
            let (columns, values) = self.rows.row(row);
            let mut margin = bias;
            for (column, value) in columns.iter().zip(values) {
                margin = value.mul_add(weights[*column as usize], margin);
            }
            *price += *step * (margin - ln((mass / SHARE).max(1e-6)));
        }
    }
}
