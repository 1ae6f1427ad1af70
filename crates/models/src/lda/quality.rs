//! How good the topics are: the complete log-likelihood in training, document completion on test documents.

use super::{Assignments, Lda, TOTALS, WORD_TOPIC};
use dunlin::data::Documents;
use dunlin::rng::stream;
use dunlin::{Block, Params, Sums};
use libm::lgamma;

/// Rounds of expectation maximisation that fit a new document's proportions.
const FIT_ROUNDS: usize = 50;

/// lgamma(n + prior) − lgamma(prior) for counts n; small counts, which are nearly all, are looked up.
struct LogRising {
    prior: f64,
    small: Vec<f64>,
}

impl LogRising {
    fn new(prior: f64) -> LogRising {
        LogRising { prior, small: (0..1024).map(|n| lgamma(n as f64 + prior) - lgamma(prior)).collect() }
    }

    /// Of `count`; 0 for a count below zero, which only a stale view shows.
    fn of(&self, count: i32) -> f64 {
        match self.small.get(count.max(0) as usize) {
            Some(value) => *value,
            None => lgamma(f64::from(count) + self.prior) - lgamma(self.prior),
        }
    }
}

impl Lda {
    /// Adds log p(z): Σ_d lgamma(Kα) − lgamma(Kα + n_d) + Σ_k lgamma(n_dk + α) − lgamma(α).
    pub(super) fn add_documents(&self, local: &Assignments, sums: &mut Sums) {
        let (topics, alpha) = (self.config.topics, self.config.alpha);
        let (rising, all) = (LogRising::new(alpha), topics as f64 * alpha);
        let mut counts = vec![0i32; topics];
        let mut total = 0.0;
        for assigned in local.documents() {
            assigned.iter().for_each(|topic| counts[usize::from(*topic)] += 1);
            total += lgamma(all) - lgamma(all + assigned.len() as f64);
            for topic in assigned {
                // A topic's count is taken at its first token and cleared.
                total += rising.of(std::mem::take(&mut counts[usize::from(topic)]));
            }
        }
        sums.add("documents_loglik", total);
        sums.add("tokens", local.tokens() as f64);
    }

    /// log p(w | z): Σ_k lgamma(Vβ) − lgamma(Vβ + n_k) + Σ_w lgamma(n_wk + β) − lgamma(β).
    pub(super) fn words_loglik(&self, params: &Params) -> f64 {
        let (rising, all) = (LogRising::new(self.config.beta), self.words as f64 * self.config.beta);
        let (counts, totals) = (params.table::<i32>(WORD_TOPIC), params.table::<i32>(TOTALS));
        let mut sum = 0.0;
        for word in 0..counts.rows() {
            sum += counts.row(word).iter().map(|count| rising.of(*count)).sum::<f64>();
        }
        for total in totals.row(0) {
            sum += lgamma(all) - lgamma(all + f64::from((*total).max(0)));
        }
        sum
    }

    /// Fits documents under φ_wk = (n_wk + β) / (n_k + Vβ).
    pub(super) fn fit<'a>(&'a self, params: &'a Params) -> Fit<impl Fn(usize, &mut Vec<f32>) + use<'a>> {
        let (beta, all) = (self.config.beta as f32, self.words as f64 * self.config.beta);
        let totals = params.table::<i32>(TOTALS).row(0);
        let inverse: Vec<f32> =
            totals.iter().map(|n| (1.0 / (f64::from((*n).max(0)) + all)) as f32).collect();
        let table = params.table::<i32>(WORD_TOPIC);
        let phi = move |word: usize, phi: &mut Vec<f32>| {
            let row = table.row(word).iter().zip(&inverse);
            phi.extend(row.map(|(count, inverse)| ((*count).max(0) as f32 + beta) * inverse));
        };
        Fit::new(self.words, self.config.topics, self.config.alpha, phi)
    }
}

/// Fits topic proportions θ to a document under fixed topics φ:
/// θ_k ∝ α + Σ_w x_w θ_k φ_wk / Σ_j θ_j φ_wj, 50 times from the uniform.
pub(crate) struct Fit<F> {
    words: usize,
    alpha: f32,
    /// Appends φ of a word, one number a topic.
    topics_of: F,
    /// φ of the document's known words: (words, topics).
    phi: Vec<f32>,
    /// Positions of those words in the document.
    known: Vec<usize>,
    theta: Vec<f32>,
    next: Vec<f32>,
}

impl<F: Fn(usize, &mut Vec<f32>)> Fit<F> {
    /// For `topics` topics over `words` words; `topics_of` appends φ of a word, one number a topic.
    pub(crate) fn new(words: usize, topics: usize, alpha: f64, topics_of: F) -> Fit<F> {
        let (theta, next) = (vec![0.0; topics], vec![0.0; topics]);
        Fit { words, alpha: alpha as f32, topics_of, phi: Vec::new(), known: Vec::new(), theta, next }
    }

    /// Adds the log-likelihood of one half of each document's tokens under the topic proportions fitted to the
    /// other half. The halves depend on the document's number alone.
    pub(crate) fn add_completion(&mut self, block: &Block, documents: &Documents, sums: &mut Sums) {
        let (mut seen, mut unseen) = (Vec::new(), Vec::new());
        let (mut total, mut tokens) = (0.0, 0.0);
        for (document, range) in documents.offsets.windows(2).enumerate() {
            let entries = range[0] as usize..range[1] as usize;
            let mut rng = stream(0, "lda-halves", &[(block.first_row + document) as u64]);
            seen.clear();
            unseen.clear();
            for count in &documents.counts[entries.clone()] {
                let first = (0..*count).filter(|_| rng.next() >> 63 == 0).count() as u32;
                seen.push(first as f32);
                unseen.push((count - first) as f32);
            }
            self.fit(&documents.words[entries], &seen);
            for (at, count) in self.known.iter().enumerate() {
                let missing = f64::from(unseen[*count]);
                total += if missing > 0.0 { missing * self.log_likelihood(at) } else { 0.0 };
                tokens += missing;
            }
        }
        sums.add("heldout_loglik", total);
        sums.add("heldout_tokens", tokens);
    }

    /// The topic proportions of each document, given all its words.
    pub(crate) fn proportions(&mut self, documents: &Documents, out: &mut dyn FnMut(usize, &[f32])) {
        for (document, range) in documents.offsets.windows(2).enumerate() {
            let entries = range[0] as usize..range[1] as usize;
            let counts: Vec<f32> =
                documents.counts[entries.clone()].iter().map(|count| *count as f32).collect();
            self.fit(&documents.words[entries], &counts);
            out(document, &self.theta);
        }
    }

    /// Sets `theta` for a document of `words`, of which word i occurs `counts[i]` times. Words not seen in
    /// training are left out.
    fn fit(&mut self, words: &[u32], counts: &[f32]) {
        let topics = self.theta.len();
        self.known.clear();
        self.phi.clear();
        for (at, word) in words.iter().enumerate().filter(|(_, word)| (**word as usize) < self.words) {
            (self.topics_of)(*word as usize, &mut self.phi);
            self.known.push(at);
        }
        self.theta.fill(1.0 / topics as f32);
        for _ in 0..FIT_ROUNDS {
            self.next.fill(0.0);
            for (phi, at) in
                self.phi.chunks_exact(topics).zip(&self.known).filter(|(_, at)| counts[**at] > 0.0)
            {
                let scale = counts[*at] / (dot(&self.theta, phi) + f32::MIN_POSITIVE);
                self.next.iter_mut().zip(phi).for_each(|(next, phi)| *next += scale * phi);
            }
            let alpha = self.alpha;
            self.theta.iter_mut().zip(&self.next).for_each(|(theta, next)| *theta = alpha + *theta * next);
            let sum: f32 = dot(&self.theta, &vec![1.0; topics]);
            self.theta.iter_mut().for_each(|theta| *theta /= sum);
        }
    }

    /// log Σ_k θ_k φ_kw of known word number `at`.
    fn log_likelihood(&self, at: usize) -> f64 {
        let topics = self.theta.len();
        f64::from(dot(&self.theta, &self.phi[at * topics..][..topics]) + f32::MIN_POSITIVE).ln()
    }
}

/// a · b, summed in sixteen lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}
