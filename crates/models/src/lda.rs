//! Latent Dirichlet allocation by collapsed Gibbs sampling.
//!
//! Documents are mixtures of topics, topics are distributions over words; both have symmetric Dirichlet priors
//! (α over topics, β over words). Every token has a topic, drawn anew in every sweep from
//! p(k) ∝ (n_dk + α)(n_wk + β) / (n_k + Vβ), where the counts leave the token itself out (Griffiths and
//! Steyvers 2004, equation 5). The counts by word and by topic are shared tables; assignments stay with their
//! block. Two samplers draw exactly: `dense` weighs every topic with vector instructions, `sparse` visits the
//! non-zero counts of a document and costs little more with a thousand topics than with a hundred. `mh` makes two
//! Metropolis-Hastings steps with the same stationary distribution, at a cost that no number of topics changes.
//!
//! Reading order: this file (the model), `lda/dense.rs`, `lda/sparse.rs`, `lda/mh.rs` with `lda/mh_counts.rs` (the
//! samplers), `simd.rs` (sixteen lanes with the same bits on every processor), `lda/quality.rs` (likelihoods,
//! proportions of new documents).

mod dense;
mod details;
mod mh;
mod mh_counts;
pub(crate) mod quality;
mod sparse;
#[cfg(test)]
pub(crate) mod tests;

use crate::simd;
use dense::{Dense, Prior, Sweep};
use dunlin::algorithm::{ANY_STRATEGY, StrategyKind};
use dunlin::data::{Contents, Documents, Kind, Names};
use dunlin::isa::{self, Isa};
use dunlin::table::Type;
use dunlin::{Algorithm, Axis, Block, Error, Merge, Params, Result, Shape, Sums, TableSpec, Unit};
use mh::{Order, Whole};
use serde::{Deserialize, Serialize};
use sparse::{Lists, Sparse, Visit, visits};

/// Table number of the counts by word and topic: (words, topics).
pub const WORD_TOPIC: usize = 0;
/// Table number of the counts by topic: (1, topics).
pub const TOTALS: usize = 1;

/// Which sampler draws the topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// The faster one for this number of topics.
    #[default]
    Auto,
    /// Weighs all topics for every token.
    Dense,
    /// Visits the topics that occur in the document.
    Sparse,
    /// Proposes topics of other tokens of the document and of the word; costs the same whatever the number of topics.
    Mh,
}

/// Settings of [`Lda`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of topics, 1 to 65,535. Default 100.
    pub topics: usize,
    /// Prior weight of every topic in a document, in tokens; above 0. Default 0.1.
    pub alpha: f64,
    /// Prior weight of every word in a topic, in tokens; above 0. Default 0.01.
    pub beta: f64,
    /// `auto`, `dense`, `sparse` or `mh`; they leave the same distribution as it is. Default `auto`: the one that is
    /// sooner at the same quality. That is `dense` up to 128 topics, then `sparse`: a sweep of `mh` takes from a half
    /// (1,000 topics) to a tenth (20,000) of the time, but brings less. On 20 Newsgroups, one thread, `sparse` is at
    /// a held-out -8.00 with 1,000 topics after 1.4 s and `mh` at -8.05 after 2.4 s; with 5,000 at -8.14 after 4.5 s
    /// and -8.18 after 5.8 s; with 20,000 at -8.61 after 11.7 s and -8.60 after 13.7 s. `auto` takes `mh` beyond that.
    pub sampler: Sampler,
}

impl Default for Config {
    fn default() -> Config {
        Config { topics: 100, alpha: 0.1, beta: 0.01, sampler: Sampler::Auto }
    }
}

/// The topics of a block's tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Assignments {
    /// One for each row block that visits; a single one where all rows are at hand.
    pub cells: Vec<Cell>,
    /// What the samplers keep from one visit to the next: made anew at the first visit of every lap, so that a run
    /// that is gone on with has the same.
    #[serde(skip)]
    gathered: Gathered,
}

/// The topics of a cell's tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// Topic of each token: documents in order, words in order within, a word's occurrences together.
    pub topics: Vec<u16>,
    /// Number of the cell's tokens in each document.
    lengths: Vec<u32>,
    /// The cell by word, for the sparse sampler; made when it is first wanted.
    #[serde(skip)]
    visits: Vec<Visit>,
    /// The same for the Metropolis-Hastings sampler.
    #[serde(skip)]
    order: Order,
}

/// Counts n_dk of a block's documents over all its cells.
#[derive(Clone, Debug, Default)]
enum Gathered {
    /// Not needed: with a single cell samplers count for themselves.
    #[default]
    Nothing,
    /// Sixteen topics together: (documents, ⌈topics / 16⌉, 16).
    Dense(Vec<[i32; 16]>),
    Sparse(Lists),
    Mh(Whole),
}

impl Assignments {
    /// The topics of each document's tokens, cell after cell.
    fn documents(&self) -> Vec<Vec<u16>> {
        let mut documents = vec![Vec::new(); self.cells.first().map_or(0, |cell| cell.lengths.len())];
        for cell in &self.cells {
            let own = by_document(&cell.topics, &cell.lengths);
            documents.iter_mut().zip(own).for_each(|(document, own)| document.extend_from_slice(own));
        }
        documents
    }

    /// Number of tokens.
    fn tokens(&self) -> usize {
        self.cells.iter().map(|cell| cell.topics.len()).sum()
    }

    fn gather(&mut self, topics: usize, sampler: Sampler) {
        let documents = self.documents();
        self.gathered = match sampler {
            Sampler::Auto | Sampler::Dense => {
                let vectors = topics.div_ceil(16);
                let mut counts = vec![[0; 16]; documents.len() * vectors];
                for (counts, assigned) in counts.chunks_exact_mut(vectors).zip(&documents) {
                    assigned.iter().for_each(|topic| counts.as_flattened_mut()[usize::from(*topic)] += 1);
                }
                Gathered::Dense(counts)
            }
            Sampler::Sparse => Gathered::Sparse(Lists::new(documents.iter().map(Vec::as_slice), topics)),
            Sampler::Mh => Gathered::Mh(Whole::new(documents.iter().map(Vec::as_slice), topics)),
        };
    }

    /// Where the tokens that a cell has of each document begin, documents in order and whole, cell after cell within.
    fn starts(&self, cell: usize) -> Vec<u32> {
        let mut start = 0;
        let documents = 0..self.cells.first().map_or(0, |cell| cell.lengths.len());
        let mut next = |document: usize| {
            let lengths = self.cells.iter().map(|cell| cell.lengths.get(document).copied().unwrap_or(0));
            let own = start + lengths.clone().take(cell).sum::<u32>();
            start += lengths.sum::<u32>();
            own
        };
        documents.map(&mut next).collect()
    }
}

/// Latent Dirichlet allocation.
#[derive(Clone, Debug)]
pub struct Lda {
    config: Config,
    words: usize,
    isa: Isa,
}

impl Algorithm for Lda {
    const NAME: &'static str = "lda";
    const ABOUT: &'static str = "topic model: latent Dirichlet allocation by exact collapsed Gibbs sampling";
    const DATA: Kind = Kind::Documents;
    const STRATEGIES: &'static [StrategyKind] = ANY_STRATEGY;
    /// What a block costs for every word in it is shared by more tokens than with smaller blocks.
    const BLOCKS_PER_LANE: Option<usize> = Some(8);
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Assignments;

    fn new(config: &Config, shape: &Shape) -> Result<Lda> {
        check(config, shape)?;
        Ok(Lda { config: config.clone(), words: shape.columns, isa: isa::level() })
    }

    fn tables(&self) -> Vec<TableSpec> {
        let counts =
            |name, rows| TableSpec::new(name, rows, self.config.topics).element(Type::I32).merge(Merge::Sum);
        vec![counts("word_topic", self.words), counts("totals", 1).axis(Axis::Whole)]
    }

    fn keeps_to_its_features(&self) -> bool {
        true
    }

    /// A topic for every token, and what each document has of each block of words.
    fn local_bytes(&self, shape: &Shape) -> f64 {
        2.0 * shape.samples as f64 + 8.0 * shape.rows as f64
    }

    /// Every token gets a topic, uniformly.
    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Assignments>) -> Result<Assignments> {
        let documents = documents(unit.block)?;
        if let Some(word) = documents.words.iter().find(|word| **word as usize >= self.words) {
            let (block, words) = (unit.block.id, self.words);
            return Err(Error::Data(format!(
                "block {block}: word {word}; words are numbered 0 to {}",
                words - 1
            )));
        }
        let mut rng = unit.rng("lda-init");
        let topics = (0..unit.block.samples()).map(|_| rng.below(self.config.topics) as u16).collect();
        let lengths = documents
            .offsets
            .windows(2)
            .map(|range| documents.counts[range[0] as usize..range[1] as usize].iter().sum());
        let cell = Cell { topics, lengths: lengths.collect(), ..Cell::default() };
        self.count(documents, &cell, params);
        let mut local = local.unwrap_or_default();
        local.cells.resize(unit.visits, Cell::default());
        local.cells[unit.row_block] = cell;
        Ok(local)
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Assignments, sums: &mut Sums) -> Result<()> {
        let documents = documents(unit.block)?;
        if unit.visits > 1 && unit.visit == 0 {
            local.gather(self.config.topics, self.sampler());
        }
        let starts = match self.sampler() {
            Sampler::Mh => local.starts(unit.row_block),
            _ => Vec::new(),
        };
        let Assignments { cells, gathered } = local;
        let Some(cell) = cells.get_mut(unit.row_block) else { return Ok(()) };
        let [word_topic, mut totals] = params.tables_mut([WORD_TOPIC, TOTALS]);
        let sweep = Sweep {
            documents,
            topics: &mut cell.topics,
            word_topic,
            totals: totals.row_mut(0),
            rng: unit.rng("lda-sweep"),
            prior: Prior {
                alpha: self.config.alpha as f32,
                beta: self.config.beta as f32,
                words_beta: (self.words as f64 * self.config.beta) as f32,
            },
        };
        match self.sampler() {
            Sampler::Mh => {
                if !cell.order.is_of(sweep.topics.len()) {
                    cell.order = Order::new(documents, &starts);
                }
                let whole = match gathered {
                    Gathered::Mh(whole) => Some(whole),
                    _ => None,
                };
                mh::sweep(self.isa, sweep, &cell.order, &starts, &cell.lengths, whole);
            }
            Sampler::Sparse => {
                if cell.visits.len() != documents.words.len() {
                    cell.visits = visits(documents);
                }
                let mut own;
                let lists = match gathered {
                    Gathered::Sparse(lists) => lists,
                    _ => {
                        own = Lists::new(by_document(sweep.topics, &cell.lengths), self.config.topics);
                        &mut own
                    }
                };
                simd::run(self.isa, Sparse { sweep, visits: &cell.visits, lists });
            }
            Sampler::Auto | Sampler::Dense => {
                let counts = match gathered {
                    Gathered::Dense(counts) => Some(&mut counts[..]),
                    _ => None,
                };
                simd::run(self.isa, Dense { sweep, counts });
            }
        }
        sums.add("tokens", cell.topics.len() as f64);
        Ok(())
    }

    /// For a training block the documents' part of log p(w, z), for a test block the log-likelihood of one
    /// half of every document given the other.
    fn measure(&self, block: &Block, params: &Params, local: Option<&Assignments>, sums: &mut Sums) {
        let Contents::Documents(documents) = &block.contents else { return };
        match local {
            Some(local) => self.add_documents(local, sums),
            None => self.fit(params).add_completion(block, documents, sums),
        }
    }

    /// Documents are whole in the local state: at the first visit their part is added for all cells.
    fn measure_visit(
        &self,
        unit: &Unit,
        params: &Params,
        local: Option<&Assignments>,
        _: &mut Vec<f32>,
        sums: &mut Sums,
    ) {
        if unit.visit == 0 {
            self.measure(unit.block, params, local, sums);
        }
    }

    /// `train_loglik`: the complete log-likelihood log p(w, z) in nats; `train_loglik_per_token`: the same by
    /// token; `heldout_loglik_per_token`: mean log-likelihood of the held-out halves of the test documents.
    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let log_likelihood = train.get("documents_loglik") + self.words_loglik(params);
        let per_token = log_likelihood / train.get("tokens").max(1.0);
        let mut metrics = vec![("train_loglik", log_likelihood), ("train_loglik_per_token", per_token)];
        if let Some(test) = test {
            let (total, tokens) = (test.get("heldout_loglik"), test.get("heldout_tokens"));
            metrics.extend(crate::linear::mean_of("heldout_loglik_per_token", total, tokens));
        }
        metrics
    }

    /// Topic proportions of every document, fitted with the topics' words held fixed.
    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.fit(params).proportions(documents(block)?, out);
        Ok(())
    }

    /// `topics.txt`: the ten likeliest words of each topic with p(word | topic) = (n_wk + β) / (n_k + Vβ).
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let (totals, beta) = (params.table::<i32>(TOTALS).row(0), self.config.beta);
        let line = |(topic, words): (usize, Vec<(i32, usize)>)| {
            let tokens = f64::from(totals[topic]);
            let probability = |count| (f64::from(count) + beta) / (tokens + self.words as f64 * beta);
            let word = |(count, word)| format!(" {} {:.4}", names.column(word), probability(count));
            let words: Vec<String> = words.into_iter().map(word).collect();
            format!("topic {topic} ({tokens} tokens):{}\n", words.join(","))
        };
        out("topics.txt", ranked(params, 10).into_iter().enumerate().map(line).collect());
    }
}

/// Up to so many topics `auto` takes the dense sampler.
const DENSE_UP_TO: usize = 128;
/// Up to so many topics `auto` takes the sparse sampler: slower by the token, but sooner at the same quality.
const SPARSE_UP_TO: usize = 20_000;

impl Lda {
    /// The sampler that is meant.
    fn sampler(&self) -> Sampler {
        match self.config.sampler {
            Sampler::Auto if self.config.topics <= DENSE_UP_TO => Sampler::Dense,
            Sampler::Auto if self.config.topics <= SPARSE_UP_TO => Sampler::Sparse,
            Sampler::Auto => Sampler::Mh,
            sampler => sampler,
        }
    }

    /// Adds the counts of `cell` to the tables.
    fn count(&self, documents: &Documents, cell: &Cell, params: &mut Params) {
        let [mut word_topic, mut totals] = params.tables_mut::<i32, 2>([WORD_TOPIC, TOTALS]);
        let totals = totals.row_mut(0);
        let mut token = 0;
        for (word, count) in documents.words.iter().zip(&documents.counts) {
            let row = word_topic.row_mut(*word as usize);
            for topic in &cell.topics[token..token + *count as usize] {
                row[usize::from(*topic)] += 1;
                totals[usize::from(*topic)] += 1;
            }
            token += *count as usize;
        }
    }
}

/// The `n` most frequent words of each topic, best first; words without a name are numbered from 0, and words
/// that never had the topic are left out. Ties go to the lower number.
pub fn top_words(params: &Params, names: &Names, n: usize) -> Vec<Vec<String>> {
    let named = |words: Vec<(i32, usize)>| words.into_iter().map(|(_, word)| names.column(word)).collect();
    ranked(params, n).into_iter().map(named).collect()
}

/// Count and number of the `n` most frequent words of each topic.
fn ranked(params: &Params, n: usize) -> Vec<Vec<(i32, usize)>> {
    let counts = params.table::<i32>(WORD_TOPIC);
    let topics = params.table::<i32>(TOTALS).row(0).len();
    let mut by_topic: Vec<Vec<(i32, usize)>> = vec![Vec::new(); topics];
    for word in 0..counts.rows() {
        for (topic, count) in counts.row(word).iter().enumerate().filter(|(_, count)| **count > 0) {
            by_topic[topic].push((*count, word));
        }
    }
    for words in &mut by_topic {
        words.sort_unstable_by_key(|(count, word)| (-count, *word));
        words.truncate(n);
    }
    by_topic
}

/// Topics of tokens, `lengths` of them for every document.
fn by_document<'a>(mut topics: &'a [u16], lengths: &'a [u32]) -> impl Iterator<Item = &'a [u16]> {
    lengths.iter().map(move |length| {
        let (own, rest) = topics.split_at(topics.len().min(*length as usize));
        topics = rest;
        own
    })
}

fn documents(block: &Block) -> Result<&Documents> {
    match &block.contents {
        Contents::Documents(documents) => Ok(documents),
        _ => Err(Error::Data(format!(
            "block {}: lda takes documents (bags of words), not other data",
            block.id
        ))),
    }
}

fn check(config: &Config, shape: &Shape) -> Result<()> {
    let usage = |message: String| Err(Error::Usage(message));
    if shape.kind != Kind::Documents {
        return usage(format!("lda takes documents (bags of words); the data are {:?}", shape.kind));
    }
    if !(1..=65_535).contains(&config.topics) {
        return usage(format!("topics = {}; allowed are 1 to 65535", config.topics));
    }
    for (name, value) in [("alpha", config.alpha), ("beta", config.beta)] {
        // The samplers work in f32; far outside this range weights would be lost in rounding.
        if !(1e-9..=1e9).contains(&value) {
            return usage(format!("{name} = {value}; allowed are 1e-9 to 1e9"));
        }
    }
    if shape.columns == 0 || i32::try_from(shape.samples).is_err() {
        let (words, tokens) = (shape.columns, shape.samples);
        return usage(format!(
            "{words} words and {tokens} tokens; lda takes 1 word or more and up to 2^31 tokens"
        ));
    }
    Ok(())
}
