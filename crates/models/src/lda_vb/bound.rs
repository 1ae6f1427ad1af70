//! The variational bound: Hoffman, Blei, Bach 2010, equation 4, in double precision.

use super::digamma::digamma;
use super::document::Show;
use super::{LAMBDA, LdaVb, TOTALS, WEIGHTS};
use dunlin::data::Documents;
use dunlin::isa;
use dunlin::{Params, Sums};
use libm::lgamma;

/// A word whose Σ_k θ_k β_wk is below this is summed again from logarithms.
const SMALL: f64 = 1e-9;

impl LdaVb {
    /// Adds Σ_d Σ_w n_dw log Σ_k exp(E[log θ_dk] + E[log β_wk]) + E[log p(θ_d)] − E[log q(θ_d)] at the γ that the
    /// E-step finds from `kept`.
    pub(super) fn add_documents(
        &self,
        documents: &Documents,
        kept: &[f32],
        params: &Params,
        sums: &mut Sums,
    ) {
        let terms = Terms::new(self, params);
        let mut bound = 0.0;
        isa::run(Show {
            documents,
            posterior: self.posterior(),
            kept,
            weights: params.table(WEIGHTS),
            out: |document: usize, gamma: &[f32]| {
                let range = documents.offsets[document] as usize..documents.offsets[document + 1] as usize;
                bound += terms.document(&documents.words[range.clone()], &documents.counts[range], gamma);
            },
        });
        sums.add("documents_bound", bound);
        sums.add("tokens", documents.counts.iter().map(|count| f64::from(*count)).sum());
    }

    /// E[log p(β)] − E[log q(β)] of all topics.
    pub(super) fn topics_bound(&self, params: &Params) -> f64 {
        let (prior, lambda) = (self.config.beta, params.table::<f32>(LAMBDA));
        let (totals, all) = (params.table::<f64>(TOTALS).row(0), self.words as f64 * prior);
        let (least, log_prior) = (prior as f32, lgamma(prior));
        let logs: Vec<f64> = totals.iter().map(|total| digamma(*total)).collect();
        let mut bound: f64 = totals.iter().map(|total| lgamma(all) - lgamma(*total)).sum();
        for word in 0..lambda.rows() {
            for (value, log) in lambda.row(word).iter().zip(&logs).filter(|(value, _)| **value != least) {
                let value = f64::from(*value);
                bound += (prior - value) * (digamma(value) - log) + lgamma(value) - log_prior;
            }
        }
        bound
    }
}

/// What the bound of a document needs of the topics.
struct Terms<'a> {
    params: &'a Params,
    alpha: f64,
    /// lgamma(α) and lgamma(K α).
    priors: [f64; 2],
    /// ψ of the topics' totals.
    logs: Vec<f64>,
}

impl<'a> Terms<'a> {
    fn new(model: &LdaVb, params: &'a Params) -> Terms<'a> {
        let alpha = model.config.alpha;
        let logs = params.table::<f64>(TOTALS).row(0).iter().map(|total| digamma(*total)).collect();
        let priors = [lgamma(alpha), lgamma(alpha * model.config.topics as f64)];
        Terms { params, alpha, priors, logs }
    }

    fn document(&self, words: &[u32], counts: &[u32], gamma: &[f32]) -> f64 {
        let total: f64 = gamma.iter().map(|gamma| f64::from(*gamma)).sum();
        let all = digamma(total);
        let logs: Vec<f64> = gamma.iter().map(|gamma| digamma(f64::from(*gamma)) - all).collect();
        let mut bound = self.priors[1] - lgamma(total);
        for (gamma, log) in gamma.iter().zip(&logs) {
            let gamma = f64::from(*gamma);
            bound += (self.alpha - gamma) * log + lgamma(gamma) - self.priors[0];
        }
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let theta: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
        let weights = self.params.table::<f32>(WEIGHTS);
        for (word, count) in words.iter().zip(counts) {
            let (own, scale) = weights.row(*word as usize).split_at(theta.len());
            let sum: f64 = theta.iter().zip(own).map(|(theta, weight)| theta * f64::from(*weight)).sum();
            let log = match sum > SMALL {
                true => sum.ln() + largest + f64::from(scale[0]),
                false => self.exact(*word as usize, &logs),
            };
            bound += f64::from(*count) * log;
        }
        bound
    }

    /// log Σ_k exp(E[log θ_k] + E[log β_wk]), summed from logarithms.
    fn exact(&self, word: usize, theta: &[f64]) -> f64 {
        let lambda = self.params.table::<f32>(LAMBDA).row(word);
        let topics = lambda.iter().zip(&self.logs).zip(theta);
        let values: Vec<f64> =
            topics.map(|((lambda, log), theta)| theta + digamma(f64::from(*lambda)) - log).collect();
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln()
    }
}
