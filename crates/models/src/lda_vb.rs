//! Latent Dirichlet allocation by online variational Bayes (Hoffman, Blei, Bach 2010).
//!
//! Documents are mixtures θ of topics, topics are distributions β over words; both have symmetric Dirichlet priors.
//! The posterior is taken to be q(θ_d) = Dirichlet(γ_d), q(β_k) = Dirichlet(λ_k), and a bound of log p(words) rises:
//!
//! ```text
//! E-step, a document:  γ_k = α + Σ_w n_w φ_wk,  φ_wk ∝ exp(E[log θ_k] + E[log β_wk]),  in turn until γ rests
//! M-step, a clock:     λ = (1 − ρ) λ + ρ (β + D / |batch| Σ_d n_dw φ_dwk),  ρ = (τ₀ + t)^−κ,  t = 0, 1, …
//! ```
//!
//! A clock that holds all documents has ρ = 1: plain batch variational Bayes, whose bound never falls where γ starts
//! from its last value (`start=warm`). Lanes add their expected counts to a working table; `end_clock` sees the sum.
//!
//! Reading order: this file (the model), `lda_vb/document.rs` (E-step), `lda_vb/topics.rs` (M-step),
//! `lda_vb/bound.rs` (the bound), `lda_vb/digamma.rs`. Held-out documents are completed by the code of `lda`.

mod bound;
mod details;
mod digamma;
mod document;
#[cfg(test)]
mod tests;
mod topics;

use crate::lda::quality::Fit;
use document::{Posterior, Rules, Step};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Contents, Documents, Kind, Names};
use dunlin::isa;
use dunlin::table::{Init, Type};
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use serde::{Deserialize, Serialize};

/// Number of the table of λ: (words, topics).
pub const LAMBDA: usize = 0;
/// Number of the table of Σ_w λ: (1, topics).
pub const TOTALS: usize = 1;
/// Expected tokens by word and topic of a clock's documents: (words, topics).
const STATISTICS: usize = 2;
/// exp E[log β], then the logarithm of the row's scale: (words, topics + 1).
const WEIGHTS: usize = 3;
/// [`CLOCKS`], [`STARTED`].
const STATE: usize = 4;

/// Batches so far: t.
const CLOCKS: usize = 0;
/// 1 once λ has its start.
const STARTED: usize = 1;

/// Settings of [`LdaVb`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of topics, 1 to 65,535. Default 100.
    pub topics: usize,
    /// Prior weight of every topic in a document, in tokens; above 0. Default 0.1.
    pub alpha: f64,
    /// Prior weight of every word in a topic, in tokens; above 0. Default 0.01.
    pub beta: f64,
    /// How fast old batches are forgotten: κ of ρ = (τ₀ + t)^−κ, above 0.5, at most 1. Default 0.7.
    pub kappa: f64,
    /// Slows the first batches down: τ₀ of ρ, at least 1, in batches. Default 10.
    pub tau0: f64,
    /// Documents in a batch over all lanes, made of whole blocks; 0 for all in one clock, batch variational Bayes.
    /// Default 256.
    pub batch: usize,
    /// Most rounds of a document's E-step, 1 to 10,000. Default 100.
    pub e_step_rounds: usize,
    /// The E-step ends once the mean |change of γ_k| in a round is at most this, in tokens; at least 0. Default 0.001.
    pub tolerance: f64,
    /// Where a document's γ starts: `cold` or `warm`. Default `cold`.
    pub start: Start,
}

/// Where a document's E-step starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At γ = 1, every time.
    #[default]
    Cold,
    /// At the γ that the document had last, at first 1: fewer rounds, and documents x topics numbers are kept.
    Warm,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            topics: 100,
            alpha: 0.1,
            beta: 0.01,
            kappa: 0.7,
            tau0: 10.0,
            batch: 256,
            e_step_rounds: 100,
            tolerance: 1e-3,
            start: Start::Cold,
        }
    }
}

/// Online variational Bayes for latent Dirichlet allocation.
#[derive(Clone, Debug)]
pub struct LdaVb {
    config: Config,
    words: usize,
    documents: usize,
}

/// γ of a block's documents, if they are kept: (documents, topics); empty before the first visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proportions(Vec<f32>);

impl LdaVb {
    fn posterior(&self) -> Posterior {
        let Config { alpha, e_step_rounds, tolerance, topics, .. } = self.config;
        let rules = Rules { alpha: alpha as f32, rounds: e_step_rounds, tolerance: tolerance as f32 };
        Posterior::new(rules, topics)
    }

    /// Fits documents under φ_wk = λ_wk / Σ_v λ_vk.
    fn completion<'a>(&self, params: &'a Params) -> Fit<impl Fn(usize, &mut Vec<f32>) + use<'a>> {
        let (lambda, totals) = (params.table::<f32>(LAMBDA), params.table::<f64>(TOTALS).row(0));
        let inverse: Vec<f32> = totals.iter().map(|total| (1.0 / total) as f32).collect();
        let phi = move |word: usize, phi: &mut Vec<f32>| {
            phi.extend(lambda.row(word).iter().zip(&inverse).map(|(lambda, inverse)| lambda * inverse));
        };
        Fit::new(self.words, self.config.topics, self.config.alpha, phi)
    }

    /// The noise of the table's start becomes λ around 1, as spread as Gamma(100, 1 / 100) is.
    fn start(params: &mut Params) {
        let mut lambda = params.table_mut::<f32>(LAMBDA);
        for word in 0..lambda.rows() {
            lambda.row_mut(word).iter_mut().for_each(|value| *value = (1.0 + *value).max(0.1));
        }
        topics::renew(params);
        params.table_mut::<f64>(STATE).row_mut(0)[STARTED] = 1.0;
    }

    /// Probability and number of the `n` likeliest words of each topic, best first; words of which a topic never had a
    /// token are left out. Ties go to the lower number.
    fn ranked(&self, params: &Params, n: usize) -> Vec<Vec<(f32, usize)>> {
        let (lambda, totals) = (params.table::<f32>(LAMBDA), params.table::<f64>(TOTALS).row(0));
        let rank = |topic: usize| {
            let words = (0..lambda.rows()).map(|word| (lambda.row(word)[topic], word));
            let mut words: Vec<(f32, usize)> =
                words.filter(|(value, _)| *value > self.config.beta as f32).collect();
            words.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            words.truncate(n);
            words.iter_mut().for_each(|(value, _)| *value = (f64::from(*value) / totals[topic]) as f32);
            words
        };
        (0..self.config.topics).map(rank).collect()
    }
}

impl Algorithm for LdaVb {
    const NAME: &'static str = "lda-vb";
    const ABOUT: &'static str = "topic model: latent Dirichlet allocation by online variational Bayes";
    const DATA: Kind = Kind::Documents;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::AllReduce];
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Proportions;

    fn new(config: &Config, shape: &Shape) -> Result<LdaVb> {
        check(config, shape)?;
        Ok(LdaVb { config: config.clone(), words: shape.columns, documents: shape.rows })
    }

    fn tables(&self) -> Vec<TableSpec> {
        let (words, topics) = (self.words, self.config.topics);
        let whole = |name: &str, width| TableSpec::new(name, 1, width).axis(Axis::Whole).element(Type::F64);
        vec![
            TableSpec::new("lambda", words, topics).init(Init::Normal { deviation: 0.1 }),
            // Kept: predictions need them.
            whole("lambda_totals", topics),
            TableSpec::new("vb_statistics", words, topics).working(),
            TableSpec::new("vb_weights", words, topics + 1).working(),
            whole("vb_state", 2).working(),
        ]
    }

    /// As many as there are batches in the documents.
    fn clocks_per_epoch(&self, _: &[&Block], _: usize) -> usize {
        if self.config.batch == 0 { 1 } else { self.documents.div_ceil(self.config.batch) }
    }

    fn begin(&self, unit: &Unit, _: &mut Params, _: Option<Proportions>) -> Result<Proportions> {
        let documents = documents(unit.block)?;
        if let Some(word) = documents.words.iter().find(|word| **word as usize >= self.words) {
            let (block, last) = (unit.block.id, self.words - 1);
            return Err(Error::Data(format!("block {block}: word {word}; words are numbered 0 to {last}")));
        }
        Ok(Proportions::default())
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Proportions, sums: &mut Sums) -> Result<()> {
        let documents = documents(unit.block)?;
        let count = unit.block.rows();
        let started = !local.0.is_empty();
        if self.config.start == Start::Warm {
            local.0.resize(count * self.config.topics, 0.0);
        }
        let [statistics, weights] = params.tables_mut([STATISTICS, WEIGHTS]);
        let posterior = self.posterior();
        isa::run(Step { documents, posterior, kept: &mut local.0, started, statistics, weights });
        sums.add("documents", count as f64);
        Ok(())
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        let documents = sums.get("documents");
        if documents == 0.0 {
            if params.table::<f64>(STATE).row(0)[STARTED] == 0.0 {
                LdaVb::start(params);
            }
            return Ok(());
        }
        let all = self.documents as f64;
        let mut state = params.table_mut::<f64>(STATE);
        let clocks = &mut state.row_mut(0)[CLOCKS];
        let rho = if documents >= all { 1.0 } else { (self.config.tau0 + *clocks).powf(-self.config.kappa) };
        *clocks += 1.0;
        topics::blend(params, rho, self.config.beta, all / documents);
        topics::renew(params);
        Ok(())
    }

    /// For a training block the documents' part of the bound, for a test block the log-likelihood of one half of every
    /// document given the other.
    fn measure(&self, block: &Block, params: &Params, local: Option<&Proportions>, sums: &mut Sums) {
        let Contents::Documents(documents) = &block.contents else { return };
        match local {
            Some(local) => self.add_documents(documents, &local.0, params, sums),
            None => self.completion(params).add_completion(block, documents, sums),
        }
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let bound = train.get("documents_bound") + self.topics_bound(params);
        let mut metrics = vec![("train_bound_per_token", bound / train.get("tokens").max(1.0))];
        if let Some(test) = test {
            let (total, tokens) = (test.get("heldout_loglik"), test.get("heldout_tokens"));
            metrics.extend(crate::linear::mean_of("heldout_loglik_per_token", total, tokens));
        }
        metrics
    }

    /// Topic proportions of every document, fitted with the topics' words held fixed.
    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.completion(params).proportions(documents(block)?, out);
        Ok(())
    }

    /// `topics.txt`: the ten likeliest words of each topic with the mean of p(word | topic), λ_wk / Σ_v λ_vk.
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let totals = params.table::<f64>(TOTALS).row(0);
        let line = |(topic, words): (usize, Vec<(f32, usize)>)| {
            let tokens = (totals[topic] - self.words as f64 * self.config.beta).max(0.0);
            let word = |(probability, word)| format!(" {} {probability:.4}", names.column(word));
            let words: Vec<String> = words.into_iter().map(word).collect();
            format!("topic {topic} ({tokens:.0} tokens):{}\n", words.join(","))
        };
        out("topics.txt", self.ranked(params, 10).into_iter().enumerate().map(line).collect());
    }
}

fn documents(block: &Block) -> Result<&Documents> {
    match &block.contents {
        Contents::Documents(documents) => Ok(documents),
        _ => Err(Error::Data(format!(
            "block {}: lda-vb takes documents (bags of words), not other data",
            block.id
        ))),
    }
}

fn check(config: &Config, shape: &Shape) -> Result<()> {
    let usage = |message: String| Err(Error::Usage(format!("lda-vb: {message}")));
    if shape.kind != Kind::Documents {
        return usage(format!("data of kind {:?}; needed: documents (bags of words)", shape.kind));
    }
    if !(1..=65_535).contains(&config.topics) {
        return usage(format!("topics = {}; allowed are 1 to 65535", config.topics));
    }
    if !(1..=10_000).contains(&config.e_step_rounds) {
        return usage(format!("e_step_rounds = {}; allowed are 1 to 10000", config.e_step_rounds));
    }
    let ranges = [
        // Far outside these, weights would be lost in rounding.
        ("alpha", config.alpha, 1e-6, 1e6),
        ("beta", config.beta, 1e-6, 1e6),
        ("tau0", config.tau0, 1.0, 1e9),
        ("tolerance", config.tolerance, 0.0, 1e9),
    ];
    for (name, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            return usage(format!("{name} = {value}; allowed are {least:e} to {most:e}"));
        }
    }
    if !(config.kappa > 0.5 && config.kappa <= 1.0) {
        return usage(format!("kappa = {}; allowed are numbers above 0.5, up to 1", config.kappa));
    }
    if shape.columns == 0 {
        return usage("the documents have no words".into());
    }
    Ok(())
}
