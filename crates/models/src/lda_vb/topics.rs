//! The M-step: the blend of the topics' posterior λ with a batch, and what the E-step needs of it.

use super::digamma::{digamma, exp_digamma};
use super::document::scaled_exp;
use super::{LAMBDA, STATISTICS, TOTALS, WEIGHTS};
use dunlin::isa::{self, Kernel};
use dunlin::{Params, TableMut};

/// A word whose largest exp E[log β] is below this has all scaled by it.
const SMALL: f32 = 1e-9;

/// λ = (1 − ρ) λ + ρ (β + scale · statistics), and the statistics are 0 again.
struct Blend<'a> {
    lambda: TableMut<'a, f32>,
    statistics: TableMut<'a, f32>,
    keep: f32,
    prior: f32,
    scale: f32,
}

impl Kernel for Blend<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let Blend { keep, prior, scale, .. } = self;
        for word in 0..self.lambda.rows() {
            let lambda = self.lambda.row_mut(word);
            let own = self.statistics.row(word);
            if own.iter().all(|sum| *sum == 0.0) {
                lambda.iter_mut().for_each(|lambda| *lambda = keep * *lambda + prior);
                continue;
            }
            for (lambda, sum) in lambda.iter_mut().zip(self.statistics.row_mut(word)) {
                *lambda = keep * *lambda + (prior + scale * *sum);
                *sum = 0.0;
            }
        }
    }
}

/// Blends a batch into λ with weight `rho`; `scale` is documents over documents of the batch.
pub(super) fn blend(params: &mut Params, rho: f64, beta: f64, scale: f64) {
    let [lambda, statistics] = params.tables_mut([LAMBDA, STATISTICS]);
    let (keep, prior, scale) = ((1.0 - rho) as f32, (rho * beta) as f32, (rho * scale) as f32);
    isa::run(Blend { lambda, statistics, keep, prior, scale });
}

/// exp E[log β_wk] = exp ψ(λ_wk) / exp ψ(Σ_v λ_vk), scaled to a largest of 1 where all topics' are small; the logarithm
/// of that scale is the last column.
struct Weigh<'a> {
    lambda: TableMut<'a, f32>,
    weights: TableMut<'a, f32>,
    /// ψ of the totals.
    logs: &'a [f64],
    /// 1 / exp of it.
    inverse: &'a [f32],
}

impl Kernel for Weigh<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let finite = self.inverse.iter().all(|inverse| inverse.is_finite());
        for word in 0..self.lambda.rows() {
            let lambda = self.lambda.row(word);
            let (own, log_scale) = self.weights.row_mut(word).split_at_mut(lambda.len());
            for ((weight, lambda), inverse) in own.iter_mut().zip(lambda).zip(self.inverse) {
                let value = exp_digamma(*lambda) * inverse;
                *weight = if value > super::document::FLOOR { value } else { super::document::FLOOR };
            }
            log_scale.fill(0.0);
            if !finite || !own.iter().any(|weight| *weight >= SMALL) {
                log_scale.fill(exact(lambda, self.logs, own) as f32);
            }
        }
    }
}

/// The weights of a word in double precision, scaled; returns the logarithm of the scale.
#[cold]
fn exact(lambda: &[f32], logs: &[f64], own: &mut [f32]) -> f64 {
    let values: Vec<f64> =
        lambda.iter().zip(logs).map(|(lambda, log)| digamma(f64::from(*lambda)) - log).collect();
    scaled_exp(&values, own)
}

/// Renews the totals and exp E[log β] from λ.
pub(super) fn renew(params: &mut Params) {
    let lambda = params.table::<f32>(LAMBDA);
    let mut totals = vec![0.0f64; params.table::<f64>(TOTALS).row(0).len()];
    for word in 0..lambda.rows() {
        totals.iter_mut().zip(lambda.row(word)).for_each(|(sum, lambda)| *sum += f64::from(*lambda));
    }
    params.table_mut::<f64>(TOTALS).row_mut(0).copy_from_slice(&totals);
    let logs: Vec<f64> = totals.iter().map(|total| digamma(*total)).collect();
    let inverse: Vec<f32> = logs.iter().map(|log| (-log).exp() as f32).collect();
    let [lambda, weights] = params.tables_mut([LAMBDA, WEIGHTS]);
    isa::run(Weigh { lambda, weights, logs: &logs, inverse: &inverse });
}
