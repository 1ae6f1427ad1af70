//! The method of the paper: stochastic steps on the weights, exact auxiliary variables once a lap.

use super::tile::Tile;
use crate::softmax::kernel::{Rows, Work, exp, greatest, ln, sum};

/// One pass over the rows of a data block with the classes at hand. Gives false if margins were not finite.
pub(super) struct Pass<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// The order of the rows.
    pub(super) order: &'a [u32],
    /// Position of each row's class among those at hand; others are beyond them.
    pub(super) labels: &'a [usize],
    /// The weights; to be multiplied by [`Pass::scale`] afterwards.
    pub(super) tile: &'a mut Tile,
    /// How many classes are at hand.
    pub(super) classes: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// −ln Z of each row, as the last lap found it.
    pub(super) offsets: &'a [f32],
    /// Log-mass of the classes at hand, by row; written.
    pub(super) log_mass: &'a mut [f32],
    /// η.
    pub(super) rate: f32,
    /// What a step leaves of the weights by the penalty: 1 − η λ.
    pub(super) keep: f32,
}

/// Below this the scale of the weights is multiplied in, lest it underflow.
const LEAST_SCALE: f32 = 1e-12;

/// Chunks of 16 classes whose probabilities add up to less than this are left as they are.
const LEAST_MOVE: f32 = 1e-6;

impl Work for Pass<'_> {
    /// The scale of the weights, unless margins were not finite.
    type Out = Option<f32>;

    #[inline(always)]
    fn run(mut self) -> Option<f32> {
        let width = self.tile.width;
        let (mut margins, mut step) = (vec![0.0f32; width], vec![0.0f32; width]);
        let mut scale = 1.0f32;
        for row in self.order {
            let row = *row as usize;
            let (columns, values) = self.rows.row(row);
            self.tile.dot(columns, values, self.bias, &mut margins);
            margins.iter_mut().for_each(|margin| *margin *= scale);
            margins[self.classes..].fill(f32::NEG_INFINITY);
            let top = greatest(&margins);
            for (step, margin) in step.iter_mut().zip(&margins) {
                *step = exp(margin - top);
            }
            self.log_mass[row] = top + ln(sum(&step));
            if !self.log_mass[row].is_finite() {
                return None;
            }
            // The exponent is the logarithm of a probability: above 0 the auxiliary variable is out of date.
            let offset = self.offsets[row];
            for (step, margin) in step.iter_mut().zip(&margins) {
                *step = -exp((margin + offset).min(0.0));
            }
            if let Some(own) = step[..self.classes].get_mut(self.labels[row]) {
                *own += 1.0;
            }
            scale *= self.keep;
            for first in (0..width).step_by(16) {
                let step = &mut step[first..width.min(first + 16)];
                if step.iter().map(|step| step.abs()).sum::<f32>() > LEAST_MOVE {
                    step.iter_mut().for_each(|step| *step *= self.rate / scale);
                    self.tile.add(columns, values, self.bias, step, first);
                }
            }
            if scale < LEAST_SCALE {
                self.tile.flat_mut().iter_mut().for_each(|weight| *weight *= scale);
                scale = 1.0;
            }
        }
        Some(scale)
    }
}
