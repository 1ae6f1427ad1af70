//! What stays with the rows of a data block.

use super::tile::width_of;
use crate::softmax::kernel::{Rows, Work, exp, ln};
use serde::{Deserialize, Serialize};

/// The state of a data block: duals and log-masses of its rows, by block of classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Local {
    /// ‖x‖² of each row, the bias column included.
    pub squares: Vec<f32>,
    /// By block of classes.
    pub parts: Vec<Part>,
    /// By how much the duals of each row have grown in this lap; their sum should be 1.
    pub growth: Vec<f32>,
    /// The table of drifts as it was when this lap began.
    pub drift: Vec<f32>,
    /// What every class's weights lose in this lap.
    pub shift: Vec<f32>,
    /// For the stochastic solver: −ln Σ_k exp(w_k·x) of each row, as the last lap found it.
    pub offsets: Vec<f32>,
}

/// What rows know of one block of classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its first class.
    pub first: usize,
    /// How many classes it has.
    pub classes: usize,
    /// Their duals: (rows, width), padded with zeros; none for the stochastic solver.
    pub duals: Vec<f32>,
    /// ln Σ exp of their margins, by row, at the last visit.
    pub log_mass: Vec<f32>,
}

impl Part {
    /// The start, which belongs to zero weights: all mass on the row's own class.
    pub(super) fn start(first: usize, classes: usize, labels: &[u32], has_duals: bool) -> Part {
        let width = width_of(classes);
        let mut duals = Vec::new();
        if has_duals && classes > 0 {
            duals.resize(labels.len() * width, 0.0);
            for (row, label) in labels.iter().enumerate() {
                let class = (*label as usize).wrapping_sub(first);
                if class < classes {
                    duals[row * width + class] = 1.0;
                }
            }
        }
        let log_mass = if classes == 0 { Vec::new() } else { vec![(classes as f32).ln(); labels.len()] };
        Part { first, classes, duals, log_mass }
    }
}

impl Local {
    /// ‖x‖² of every row.
    pub(super) fn start(rows: &mut Rows, count: usize, bias: bool) -> Local {
        let square = |row: usize| {
            let (_, values) = rows.row(row);
            let square = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            (square + f64::from(u8::from(bias))) as f32
        };
        Local { squares: (0..count).map(square).collect(), growth: vec![0.0; count], ..Local::default() }
    }

    /// Every class's weights lose the shift: so do all margins.
    pub(super) fn shift_margins(&mut self, rows: &mut Rows, bias: Option<usize>) {
        let shift = &self.shift;
        for row in 0..self.squares.len() {
            let (columns, values) = rows.row(row);
            let entries = columns.iter().zip(values).map(|(column, value)| value * shift[*column as usize]);
            let by = entries.sum::<f32>() + bias.map_or(0.0, |bias| shift[bias]);
            for part in self.parts.iter_mut().filter(|part| part.classes > 0) {
                part.log_mass[row] -= by;
            }
        }
    }
}

impl Local {
    /// Takes from every dual of a row its share of the row's growth in the lap before, which goes with the shift of all
    /// weights: the duals of a row add up to 1 again. Some may be below 0 until their next visit.
    pub(super) fn share_growth(&mut self, classes: usize) {
        let share = 1.0 / classes as f32;
        for part in self.parts.iter_mut().filter(|part| part.classes > 0) {
            let width = width_of(part.classes);
            for (duals, growth) in part.duals.chunks_exact_mut(width).zip(&self.growth) {
                duals[..part.classes].iter_mut().for_each(|dual| *dual -= share * growth);
            }
        }
        self.growth.fill(0.0);
    }
}

/// ln Σ exp of the margins of all classes but those of part `except`, by row.
pub(super) struct Others<'a> {
    /// The parts.
    pub(super) parts: &'a [Part],
    /// The one to leave out, or none.
    pub(super) except: Option<usize>,
    /// Rows.
    pub(super) rows: usize,
}

impl Work for Others<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let parts = || {
            let parts = self.parts.iter().enumerate();
            parts.filter(|(at, part)| part.classes > 0 && Some(*at) != self.except).map(|(_, part)| part)
        };
        let mut tops = vec![f32::NEG_INFINITY; self.rows];
        for part in parts() {
            for (top, log) in tops.iter_mut().zip(&part.log_mass) {
                *top = if *log > *top { *log } else { *top };
            }
        }
        let mut sums = vec![0.0f32; self.rows];
        for part in parts() {
            for ((sum, log), top) in sums.iter_mut().zip(&part.log_mass).zip(&tops) {
                *sum += exp(log - top);
            }
        }
        for (top, sum) in tops.iter_mut().zip(&sums) {
            // Only the block at hand has classes: the others have no mass.
            *top = if *sum > 0.0 { *top + ln(*sum) } else { -1e30 };
        }
        tops
    }
}
