//! Proximal gradient ([`crate::proximal`]) for the logistic loss: bounded staleness, `l1` and `l2`.
//!
//! With p = σ(−y w·x) the duals of the rows and G = Σ y p x, which the shared table holds, the dual objective is a lower
//! bound of the optimum at any p in [0, 1], so also at those of weights that the lanes saw some clocks ago. H is entropy:
//!
//! ```text
//! l2:  F* ≥ C Σ H(p) − ½ ‖C G‖²
//! l1:  F* ≥ C Σ H(s p) ≥ s C Σ H(p),   s = 1 / max(1, ‖C G‖∞)
//! ```

use super::{Local, Logistic, Penalty, WEIGHTS};
use crate::lasso::problem;
use crate::proximal::{self, NUMBERS, POWER, Problem, Tables, VECTORS};
use crate::softmax::kernel;
use dunlin::table::Type;
use dunlin::{Axis, Params, TableSpec, Unit};

/// The clock of `begin` in which the power method begins: rows are checked before it.
const FIRST: usize = 1;
/// (weights, 1): G.
const GRADIENT: usize = 1;
/// (weights, [`VECTORS`]): of the power method.
const PRODUCTS: usize = 2;
/// (1, [`NUMBERS`]): Σ H(p), and one that is not used.
const STATE: usize = 3;

/// The tables of this solver.
pub(super) fn tables(model: &Logistic) -> Vec<TableSpec> {
    let double = |name: &str, rows, width| TableSpec::new(name, rows, width).element(Type::F64).working();
    vec![
        TableSpec::new("weights", model.rows(), 1),
        double("gradient", model.rows(), 1),
        double("products", model.rows(), VECTORS),
        double("proximal_state", 1, NUMBERS).axis(Axis::Whole),
    ]
}

/// Clocks of `begin`.
pub(super) fn rounds() -> usize {
    FIRST + POWER
}

impl Problem for Logistic {
    fn weights(&self) -> usize {
        self.rows()
    }

    fn share(&self) -> f64 {
        self.config.c
    }

    fn penalty(&self, _: &Params) -> problem::Penalty {
        match self.config.penalty {
            Penalty::L1 => problem::Penalty { l1: 1.0, l2: 0.0 },
            Penalty::L2 => problem::Penalty { l1: 0.0, l2: 1.0 },
        }
    }

    fn delay(&self) -> u64 {
        self.delay
    }

    fn tables(&self) -> Tables {
        Tables { gradient: GRADIENT, products: PRODUCTS, numbers: (STATE, 0) }
    }

    fn weight(&self, params: &Params, at: usize) -> f64 {
        f64::from(params.table::<f32>(WEIGHTS).row(at)[0])
    }

    fn set(&self, params: &mut Params, at: usize, weight: f64) {
        let new = weight as f32;
        if new != params.table::<f32>(WEIGHTS).row(at)[0] {
            params.table_mut::<f32>(WEIGHTS).row_mut(at)[0] = new;
        }
    }
}

/// A block's rows, with a one at the end of each if there is a bias.
struct Rows<'a> {
    rows: kernel::Rows<'a>,
    classes: &'a [u32],
    bias: Option<usize>,
}

impl<'a> Rows<'a> {
    /// Of the block of `unit`; `None` if it holds no labelled rows.
    fn new(model: &Logistic, unit: &Unit<'a>) -> Option<Rows<'a>> {
        let (rows, classes) = kernel::Rows::new(unit.block)?;
        Some(Rows { rows, classes, bias: model.bias() })
    }
}

impl proximal::Rows for Rows<'_> {
    /// σ' is 1/4 at 0.
    const BEND: f64 = 0.25;

    fn scores(&mut self, weights: &[f64]) -> Vec<f64> {
        let bias = self.bias.map_or(0.0, |bias| weights[bias]);
        let mut score = |row: usize| {
            let (columns, values) = self.rows.row(row);
            let entries = columns.iter().zip(values);
            bias + entries.map(|(column, value)| f64::from(*value) * weights[*column as usize]).sum::<f64>()
        };
        (0..self.classes.len()).map(&mut score).collect()
    }

    /// y p; Σ H(p).
    fn pulls(&self, scores: &mut [f64]) -> [f64; NUMBERS] {
        let mut entropy = 0.0;
        for (score, class) in scores.iter_mut().zip(self.classes) {
            let sign = if *class == 0 { -1.0 } else { 1.0 };
            let margin = sign * *score;
            let far = margin.abs();
            let small = (-far).exp();
            let rest = small / (1.0 + small); // min(p, 1 − p)
            entropy += small.ln_1p() + far * rest;
            *score = sign * if margin < 0.0 { 1.0 - rest } else { rest };
        }
        [entropy, 0.0]
    }

    fn products(&mut self, vector: Vec<f64>, out: &mut [f64]) {
        for (row, pull) in vector.iter().enumerate() {
            let (columns, values) = self.rows.row(row);
            for (column, value) in columns.iter().zip(values) {
                out[*column as usize] += pull * f64::from(*value);
            }
        }
        if let Some(bias) = self.bias {
            out[bias] += vector.iter().sum::<f64>();
        }
    }
}

/// A clock of `begin` after the first.
pub(super) fn power(model: &Logistic, unit: &Unit, params: &mut Params) {
    if let Some(mut rows) = Rows::new(model, unit) {
        proximal::power(model, unit, params, &mut rows, FIRST);
    }
}

/// One clock of one lane.
pub(super) fn take(model: &Logistic, unit: &Unit, params: &mut Params, local: &mut Local) {
    if let Some(mut rows) = Rows::new(model, unit) {
        local.published.take(model, unit, params, &mut rows, FIRST);
    }
}

/// A lower bound of the optimum, from the duals that the lanes came to last.
pub(super) fn lower_bound(model: &Logistic, params: &Params) -> f64 {
    let c = model.config.c;
    let entropy = c * params.table::<f64>(STATE).row(0)[0];
    let gradient = params.table::<f64>(GRADIENT);
    let pulls = (0..gradient.rows()).map(|at| (c * gradient.row(at)[0]).abs());
    match model.config.penalty {
        Penalty::L2 => entropy - 0.5 * pulls.map(|pull| pull * pull).sum::<f64>(),
        Penalty::L1 => entropy / pulls.fold(1.0, f64::max),
    }
}

#[cfg(test)]
mod tests;
