//! What stays with the rows of a data block.

use super::reserve::Reserve;
use crate::softmax::kernel::{Rows, Work, exp, ln};
use serde::{Deserialize, Serialize};

/// The state of a data block, by block of classes: duals of its rows, or the log-masses of the stochastic solver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Local {
    /// ‖x‖² of each row, the bias column included.
    pub squares: Vec<f32>,
    /// By block of classes.
    pub parts: Vec<Part>,
    /// For the dual solver, unless all classes are at hand at once.
    pub reserve: Option<Reserve>,
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
    /// Their duals: (rows, classes); none for the stochastic solver.
    pub duals: Vec<f32>,
    /// For the stochastic solver: ln Σ exp of their margins, by row, at the last visit.
    pub log_mass: Vec<f32>,
}

impl Part {
    /// The start, which belongs to zero weights: all mass on the row's own class.
    pub(super) fn start(first: usize, classes: usize, labels: &[u32], has_duals: bool) -> Part {
        let mut part = Part { first, classes, ..Part::default() };
        if !has_duals {
            part.log_mass = if classes == 0 { Vec::new() } else { vec![(classes as f32).ln(); labels.len()] };
            return part;
        }
        part.duals.resize(labels.len() * classes, 0.0);
        for (row, label) in labels.iter().enumerate() {
            let class = (*label as usize).wrapping_sub(first);
            if class < classes {
                part.duals[row * classes + class] = 1.0;
            }
        }
        part
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
        Local { squares: (0..count).map(square).collect(), ..Local::default() }
    }
}

/// ln Σ exp of the margins of all classes, by row, from the log-masses of their blocks.
pub(super) struct LogSums<'a> {
    /// The parts.
    pub(super) parts: &'a [Part],
    /// Rows.
    pub(super) rows: usize,
}

impl Work for LogSums<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let parts = || self.parts.iter().filter(|part| part.classes > 0);
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
            *top += ln(*sum);
        }
        tops
    }
}
