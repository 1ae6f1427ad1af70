//! Proximal gradient ([`proximal`](crate::proximal)) for the squared loss: the weights are those of the scaled columns, the
//! loss of a row is half its squared residual, the sum is over n.

use super::input::Held;
use super::problem::Penalty;
use super::{COEFFICIENTS, CORRELATIONS, INTERCEPT, JUDGED, LAMBDA, Lasso, Local, PRODUCTS, RESIDUAL, STATE};
use crate::lasso::columns::Residual;
use crate::proximal::{self, NUMBERS, Problem, Rows, Tables};
use dunlin::{Params, Result, Unit};

/// The clock of `begin` in which the power method begins: sums and squares have theirs before it.
pub(super) const FIRST: usize = 2;

impl Problem for Lasso {
    fn weights(&self) -> usize {
        self.width
    }

    fn share(&self) -> f64 {
        1.0 / self.rows.max(1) as f64
    }

    fn penalty(&self, params: &Params) -> Penalty {
        Penalty::new(params.table::<f64>(STATE).row(0)[LAMBDA], self.config.l1_ratio)
    }

    fn delay(&self) -> u64 {
        self.delay
    }

    fn tables(&self) -> Tables {
        Tables { gradient: CORRELATIONS, products: PRODUCTS, numbers: (STATE, RESIDUAL) }
    }

    fn weight(&self, params: &Params, at: usize) -> f64 {
        let (stored, factor) = (params.table::<f64>(COEFFICIENTS).row(at)[0], self.scale(params, at).factor);
        if factor > 0.0 { stored / factor } else { 0.0 }
    }

    fn set(&self, params: &mut Params, at: usize, weight: f64) {
        let scale = self.scale(params, at);
        let (stored, new) = (params.table::<f64>(COEFFICIENTS).row(at)[0], weight * scale.factor);
        if new != stored {
            params.table_mut::<f64>(COEFFICIENTS).row_mut(at)[0] = new;
            params.table_mut::<f64>(INTERCEPT).row_mut(0)[0] -= scale.centre * (new - stored);
        }
    }
}

impl Rows for &Held {
    const BEND: f64 = 1.0;

    fn scores(&mut self, weights: &[f64]) -> Vec<f64> {
        let none = vec![0.0; self.target.len()];
        let left = self.columns.residual(&none, (0..).zip(weights.iter().copied()));
        left.exact.into_iter().map(|left| -left).collect()
    }

    /// The residual r; ‖r‖² and yᵀ r.
    fn pulls(&self, scores: &mut [f64]) -> [f64; NUMBERS] {
        let mut sums = [0.0; NUMBERS];
        for (score, target) in scores.iter_mut().zip(&self.target) {
            *score = target - *score;
            sums = [sums[0] + *score * *score, sums[1] + target * *score];
        }
        sums
    }

    fn products(&mut self, vector: Vec<f64>, out: &mut [f64]) {
        self.columns.products(&self.all, &Residual::new(vector), out);
    }
}

/// A clock of `begin` after the sums over all rows: what a run starts from, and the power method.
pub(super) fn begin(model: &Lasso, unit: &Unit, params: &mut Params, local: &mut Local) -> Result<()> {
    if unit.epoch == FIRST && unit.lane == 0 {
        let (lambda, centre) = (model.lambda(params), model.target_centre(params));
        params.table_mut::<f64>(INTERCEPT).row_mut(0)[0] = centre;
        params.table_mut::<f64>(STATE).row_mut(0)[LAMBDA] = lambda;
    }
    let held = match local.held.take() {
        Some(held) => held,
        None => model.hold(unit.block, params, model.own(unit.lane))?,
    };
    proximal::power(model, unit, params, &mut &held, FIRST);
    local.held = Some(held);
    Ok(())
}

/// One clock of one lane.
pub(super) fn take(model: &Lasso, unit: &Unit, params: &mut Params, local: &mut Local) {
    let Local { held: Some(held), published, .. } = local else { return };
    published.take(model, unit, params, &mut &*held, FIRST);
    if unit.lane == 0 {
        params.table_mut::<f64>(STATE).row_mut(0)[JUDGED] = 1.0;
    }
}

#[cfg(test)]
mod tests;
