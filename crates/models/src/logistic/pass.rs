//! Passes that only read weights: scores of rows, their losses, entropies of duals.

use crate::softmax::kernel::{Rows, Work, exp, ln};
use dunlin::data::UNKNOWN;

/// 1 / (1 + exp(−x)), to about 1 ulp; exactly 0 below −87.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    (if x < 0.0 { small } else { 1.0 }) / (1.0 + small)
}

/// ln(1 + exp(−|x|)) given exp(−|x|).
#[inline(always)]
fn log1p(small: f32) -> f32 {
    if small < 1e-3 { small * small.mul_add(-0.5, 1.0) } else { ln(1.0 + small) }
}

/// w·x of one row: four running sums. Columns must be within the weights.
#[inline(always)]
pub(super) fn dot(weights: impl Fn(usize) -> f32, columns: &[u32], values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 4];
    let (mut column_fours, mut value_fours) = (columns.chunks_exact(4), values.chunks_exact(4));
    for (columns, values) in (&mut column_fours).zip(&mut value_fours) {
        for lane in 0..4 {
            sums[lane] = values[lane].mul_add(weights(columns[lane] as usize), sums[lane]);
        }
    }
    for (column, value) in column_fours.remainder().iter().zip(value_fours.remainder()) {
        sums[0] = value.mul_add(weights(*column as usize), sums[0]);
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}

/// w·x + b of every row.
pub(super) struct Margins<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// How many there are.
    pub(super) count: usize,
    /// (features + bias).
    pub(super) weights: &'a [f32],
    /// The place of the bias, if there is one.
    pub(super) bias: Option<usize>,
}

impl Work for Margins<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run(mut self) -> Vec<f32> {
        let bias = self.bias.map_or(0.0, |bias| self.weights[bias]);
        let mut margins = Vec::with_capacity(self.count);
        for row in 0..self.count {
            let (columns, values) = self.rows.row(row);
            margins.push(bias + dot(|column| self.weights[column], columns, values));
        }
        margins
    }
}

/// Turns scores s into slopes y σ(−y s) and gives Σ ln(1 + exp(−y s)), y = ±1 by class; rows of an
/// unknown class count nothing. Where there is room, `rates` takes σ(s) σ(−s).
pub(super) struct Losses<'a> {
    /// Scores, then slopes: (rows).
    pub(super) margins: &'a mut [f32],
    /// Classes: 0, 1 or [`UNKNOWN`].
    pub(super) classes: &'a [u32],
    /// (rows), or nothing.
    pub(super) rates: &'a mut [f32],
}

/// Rows worked at a time.
const CHUNK: usize = 64;

impl Work for Losses<'_> {
    type Out = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut total = 0.0f64;
        let mut rates = self.rates.chunks_mut(CHUNK);
        for (margins, classes) in self.margins.chunks_mut(CHUNK).zip(self.classes.chunks(CHUNK)) {
            let (mut losses, mut bends) = ([0.0f32; CHUNK], [0.0f32; CHUNK]);
            let numbers = losses.iter_mut().zip(&mut bends);
            for ((margin, class), (loss, bend)) in margins.iter_mut().zip(classes).zip(numbers) {
                let sign = if *class == 0 { -1.0f32 } else { 1.0 };
                let known = if *class == UNKNOWN { 0.0f32 } else { 1.0 };
                let m = sign * *margin;
                let small = exp(-m.abs());
                let inverse = 1.0 / (1.0 + small);
                *loss = known * (log1p(small) + if m < 0.0 { -m } else { 0.0 });
                let slope = if m < 0.0 { inverse } else { small * inverse };
                *bend = known * (small * inverse * inverse);
                *margin = known * sign * slope;
            }
            total += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            if let Some(rates) = rates.next() {
                rates.copy_from_slice(&bends[..rates.len()]);
            }
        }
        total
    }
}

/// Σ −p ln p − (1 − p) ln(1 − p), p = σ(logit), in nats.
pub(super) struct Entropy<'a>(pub(super) &'a [f32]);

impl Work for Entropy<'_> {
    type Out = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut total = 0.0f64;
        for logits in self.0.chunks(CHUNK) {
            let mut terms = [0.0f32; CHUNK];
            for (term, logit) in terms.iter_mut().zip(logits) {
                // With u = |logit|: ln(1 + e⁻ᵘ) + u σ(−u).
                let u = logit.abs();
                let small = exp(-u);
                *term = log1p(small) + u * (small / (1.0 + small));
            }
            total += terms[..logits.len()].iter().map(|term| f64::from(*term)).sum::<f64>();
        }
        total
    }
}
