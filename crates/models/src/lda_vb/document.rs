//! The E-step of a document: its posterior q(θ) = Dirichlet(γ) under given topics, by fixed-point rounds.

use super::digamma::{digamma, exp_digamma};
use dunlin::data::Documents;
use dunlin::isa::Kernel;
use dunlin::{Table, TableMut};

/// Numbers that an instruction takes together; sums are kept by so many.
const LANES: usize = 8;
/// Words that share a pass over the topics.
const GROUP: usize = 4;
/// Where the largest of a document's exp E[log θ] is below this, all are scaled by it.
const SMALL: f32 = 1e-6;
/// The least exp E[log θ] and exp E[log β] that are told apart: a word is never without any topic.
pub(super) const FLOOR: f32 = 1e-20;

/// How the fixed point is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Prior weight of every topic.
    pub(super) alpha: f32,
    /// Most rounds.
    pub(super) rounds: usize,
    /// Mean change of γ at which they end.
    pub(super) tolerance: f32,
}

/// The posterior of one document after another.
pub(super) struct Posterior {
    rules: Rules,
    topics: usize,
    /// α for topics, 0 beyond: (topics up to whole vectors).
    prior: Vec<f32>,
    gamma: Vec<f32>,
    /// exp ψ(γ), times anything.
    theta: Vec<f32>,
    next: Vec<f32>,
    /// exp E[log β] of the document's words, padded with zeros to whole vectors and groups.
    words: Vec<f32>,
    /// How often they occur.
    counts: Vec<f32>,
}

impl Posterior {
    pub(super) fn new(rules: Rules, topics: usize) -> Posterior {
        let width = topics.next_multiple_of(LANES);
        let mut prior = vec![0.0; width];
        prior[..topics].fill(rules.alpha);
        let zeros = || vec![0.0; width];
        Posterior {
            rules,
            topics,
            prior,
            gamma: zeros(),
            theta: zeros(),
            next: zeros(),
            words: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// γ of the document that was fitted last.
    pub(super) fn gamma(&self) -> &[f32] {
        &self.gamma[..self.topics]
    }

    /// Takes the words of a document; `weights` has exp E[log β] of a word, one number a topic first.
    #[inline(always)]
    fn take<'a>(&mut self, words: &[u32], counts: &[u32], weights: impl Fn(usize) -> &'a [f32]) {
        let (width, padded) = (self.theta.len(), words.len().next_multiple_of(GROUP));
        self.words.clear();
        self.words.resize(padded * width, 0.0);
        for (own, word) in self.words.chunks_exact_mut(width).zip(words) {
            own[..self.topics].copy_from_slice(&weights(*word as usize)[..self.topics]);
        }
        self.counts.clear();
        self.counts.extend(counts.iter().map(|count| *count as f32));
        self.counts.resize(padded, 0.0);
    }

    /// Fits γ, from `start` if it is given, else from all ones.
    #[inline(always)]
    fn fit(&mut self, start: Option<&[f32]>) {
        match start {
            Some(start) => self.gamma[..self.topics].copy_from_slice(start),
            None => self.gamma[..self.topics].fill(1.0),
        }
        self.renew_theta();
        for _ in 0..self.rules.rounds {
            let change = self.round();
            self.renew_theta();
            if change <= self.rules.tolerance * self.topics as f32 {
                break;
            }
        }
    }

    /// γ_k = α + θ_k Σ_w x_w β_wk / Σ_j θ_j β_wj; returns Σ |change|.
    #[inline(always)]
    fn round(&mut self) -> f32 {
        let width = self.theta.len();
        self.next.fill(0.0);
        for (rows, counts) in self.words.chunks_exact(GROUP * width).zip(self.counts.as_chunks::<GROUP>().0) {
            let scales = scales(rows, counts, &self.theta);
            let (next, _) = self.next.as_chunks_mut::<LANES>();
            let rows = split(rows, width);
            for (at, next) in next.iter_mut().enumerate() {
                let part = rows.map(|row| row[at]);
                for lane in 0..LANES {
                    next[lane] += (scales[0] * part[0][lane] + scales[1] * part[1][lane])
                        + (scales[2] * part[2][lane] + scales[3] * part[3][lane]);
                }
            }
        }
        let (gamma, _) = self.gamma.as_chunks_mut::<LANES>();
        let (theta, _) = self.theta.as_chunks::<LANES>();
        let (next, _) = self.next.as_chunks::<LANES>();
        let (prior, _) = self.prior.as_chunks::<LANES>();
        let mut change = [0.0f32; LANES];
        for (((gamma, theta), next), prior) in gamma.iter_mut().zip(theta).zip(next).zip(prior) {
            for lane in 0..LANES {
                let new = prior[lane] + theta[lane] * next[lane];
                change[lane] += (new - gamma[lane]).abs();
                gamma[lane] = new;
            }
        }
        fold(change)
    }

    /// θ = exp ψ(γ), scaled where all are small.
    #[inline(always)]
    fn renew_theta(&mut self) {
        let mut most = [0.0f32; LANES];
        let (gamma, _) = self.gamma.as_chunks::<LANES>();
        let (theta, _) = self.theta.as_chunks_mut::<LANES>();
        for (theta, gamma) in theta.iter_mut().zip(gamma) {
            for lane in 0..LANES {
                theta[lane] = exp_digamma(gamma[lane]).max(FLOOR);
                most[lane] = if theta[lane] > most[lane] { theta[lane] } else { most[lane] };
            }
        }
        if most.iter().all(|most| *most < SMALL) {
            let exact: Vec<f64> = self.gamma().iter().map(|gamma| digamma(f64::from(*gamma))).collect();
            scaled_exp(&exact, &mut self.theta[..self.topics]);
        }
    }

    /// Adds the expected tokens of every word and topic, x_w θ_k β_wk / Σ_j θ_j β_wj.
    #[inline(always)]
    fn add_statistics(&self, words: &[u32], statistics: &mut TableMut<f32>) {
        let width = self.theta.len();
        let groups = self.words.chunks_exact(GROUP * width).zip(self.counts.as_chunks::<GROUP>().0);
        for ((rows, counts), words) in groups.zip(words.chunks(GROUP)) {
            let scales = scales(rows, counts, &self.theta);
            for ((row, scale), word) in rows.chunks_exact(width).zip(scales).zip(words) {
                let sums = statistics.row_mut(*word as usize);
                for ((sum, weight), theta) in sums.iter_mut().zip(row).zip(&self.theta) {
                    *sum += scale * weight * theta;
                }
            }
        }
    }
}

/// exp(values − the largest), at least [`FLOOR`]; returns the largest.
#[cold]
pub(super) fn scaled_exp(values: &[f64], out: &mut [f32]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    out.iter_mut().zip(values).for_each(|(out, value)| *out = ((value - largest).exp() as f32).max(FLOOR));
    largest
}

/// Four rows of `width`, each as vectors.
#[inline(always)]
fn split(rows: &[f32], width: usize) -> [&[[f32; LANES]]; GROUP] {
    let row = |at: usize| rows[at * width..][..width].as_chunks::<LANES>().0;
    [row(0), row(1), row(2), row(3)]
}

/// x_w / Σ_k θ_k β_wk of four words; 0 for a word that is padding.
#[inline(always)]
fn scales(rows: &[f32], counts: &[f32; GROUP], theta: &[f32]) -> [f32; GROUP] {
    let rows = split(rows, theta.len());
    let mut sums = [[0.0f32; LANES]; GROUP];
    for (at, theta) in theta.as_chunks::<LANES>().0.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(rows) {
            for lane in 0..LANES {
                sum[lane] += theta[lane] * row[at][lane];
            }
        }
    }
    let mut scales = [0.0; GROUP];
    for ((scale, sum), count) in scales.iter_mut().zip(sums).zip(counts) {
        *scale = (count / (fold(sum) + f32::MIN_POSITIVE)).min(1e30);
    }
    scales
}

#[inline(always)]
fn fold(sums: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Fits all documents of a block and adds their statistics.
pub(super) struct Step<'a> {
    pub(super) documents: &'a Documents,
    pub(super) posterior: Posterior,
    /// γ of every document, if they are kept: read as the start and written.
    pub(super) kept: &'a mut [f32],
    /// True if `kept` holds a start.
    pub(super) started: bool,
    pub(super) statistics: TableMut<'a, f32>,
    /// exp E[log β]: (words, topics and more).
    pub(super) weights: TableMut<'a, f32>,
}

impl Kernel for Step<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let Step { documents, mut posterior, kept, started, mut statistics, weights } = self;
        let topics = posterior.topics;
        for (document, range) in documents.offsets.windows(2).enumerate() {
            let entries = range[0] as usize..range[1] as usize;
            let words = &documents.words[entries.clone()];
            posterior.take(words, &documents.counts[entries], |word| weights.row(word));
            let own = kept.get_mut(document * topics..(document + 1) * topics);
            posterior.fit(own.as_deref().filter(|_| started));
            if let Some(own) = own {
                own.copy_from_slice(posterior.gamma());
            }
            posterior.add_statistics(words, &mut statistics);
        }
    }
}

/// Fits the documents of a block one after another and shows γ of each: `out(document, γ)`.
pub(super) struct Show<'a, F> {
    pub(super) documents: &'a Documents,
    pub(super) posterior: Posterior,
    /// γ to start from, of all documents, or nothing.
    pub(super) kept: &'a [f32],
    pub(super) weights: Table<'a, f32>,
    pub(super) out: F,
}

impl<F: FnMut(usize, &[f32])> Kernel for Show<'_, F> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let Show { documents, mut posterior, kept, weights, mut out } = self;
        let topics = posterior.topics;
        for (document, range) in documents.offsets.windows(2).enumerate() {
            let entries = range[0] as usize..range[1] as usize;
            let words = &documents.words[entries.clone()];
            posterior.take(words, &documents.counts[entries], |word| weights.row(word));
            posterior.fit(kept.get(document * topics..(document + 1) * topics));
            out(document, posterior.gamma());
        }
    }
}
