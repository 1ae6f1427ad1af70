//! A pass that only reads: losses, hits, entropies of the duals, and class probabilities.

use super::double;
use super::dual::{add, softmax};
use super::kernel::{Rows, Width, WidthWork, ln, sum};
use dunlin::{Table, data::UNKNOWN};

/// One pass over a block's rows in their order; `each(row, probabilities)` is called with (classes) values.
pub(super) struct Measure<'a, F> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes, or [`UNKNOWN`].
    pub(super) labels: &'a [u32],
    /// Their duals, (rows, stride), or nothing.
    pub(super) probabilities: &'a [f32],
    /// (features, width).
    pub(super) weights: Table<'a, f32>,
    /// Number of classes.
    pub(super) classes: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// Called for each row.
    pub(super) each: F,
}

/// Above this, what a probability lacks of 1 is more than a thousandth rounding error in single precision.
const NEAR_ONE: f32 = 0.999_9;

/// What [`Measure`] finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Σ −ln p(class), in nats, over rows whose class is known.
    pub(super) loss: f64,
    /// Σ −Σ_k p_k ln p_k of the duals, in nats.
    pub(super) entropy: f64,
    /// Rows whose most probable class (the lowest of equals) is theirs.
    pub(super) correct: usize,
    /// Rows whose class was seen in training.
    pub(super) known: usize,
}

impl<F: FnMut(usize, &[f32])> WidthWork for Measure<'_, F> {
    type Out = Found;

    #[inline(always)]
    fn run(mut self, width: impl Width) -> Found {
        let stride = width.get();
        let (mut scores, mut likely) = (width.zeros(), width.zeros());
        let (scores, likely) = (&mut scores.as_mut()[..stride], &mut likely.as_mut()[..stride]);
        let mut found = Found::default();
        for (row, label) in self.labels.iter().enumerate() {
            let (columns, values) = self.rows.row(row);
            width.dot(&self.weights, columns, values, scores);
            if let Some(bias) = self.bias {
                add(scores, self.weights.padded(bias));
            }
            let total = softmax(scores, self.classes, likely);
            (self.each)(row, &likely[..self.classes]);
            if let Some(duals) = self.probabilities.get(row * stride..(row + 1) * stride) {
                for (term, p) in likely.iter_mut().zip(duals) {
                    *term = p * ln(p.max(1e-30));
                }
                let own = *label as usize;
                if duals.get(own).is_some_and(|p| *p > NEAR_ONE) {
                    likely[own] = -double::own_entropy(duals, own) as f32;
                }
                found.entropy -= f64::from(sum(likely));
            }
            if *label == UNKNOWN {
                continue;
            }
            let own = scores[*label as usize];
            found.known += 1;
            let log_total = match total * NEAR_ONE < 1.0 {
                true => double::log_total(&scores[..self.classes]),
                false => f64::from(total).ln(),
            };
            found.loss += log_total - f64::from(own);
            found.correct +=
                usize::from(scores.iter().position(|score| *score == 0.0) == Some(*label as usize));
        }
        found
    }
}
