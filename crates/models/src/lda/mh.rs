//! The Metropolis-Hastings sampler: what a token costs depends neither on the number of topics nor on the length
//! of its document.
//!
//! A token's topic k weighs p(k) = (n_dk + α) w_k with w_k = (n_wk + β) / (n_k + Vβ), all counts without the token.
//! It makes two steps that leave this distribution as it is:
//!  - The document proposes q(j) ∝ n_dj + α: the topic of another of its tokens, or any topic. The step from k to j
//!    is taken with probability min(1, w_j / w_k), for the rest of p cancels.
//!  - The word proposes q(j) ∝ l_wj + c: the topic of another of its occurrences in the block, or any topic. The
//!    step is taken with probability min(1, p(j) q(k) / (p(k) q(j))). The word's counts l_wk within the block differ
//!    from n_wk if the word is elsewhere too; c = β times the block's share of all tokens.
//!
//! The two sources are those of LightLDA (Yuan et al. 2015), drawn as in WarpLDA (Chen, Li, Zhu and Chen 2016) by
//! looking at another token. But as no count and no proposal is of an earlier state, the sampler is exact.
//!
//! The sampler goes through a block word by word. Random numbers do not depend on counts, so batches of tokens
//! are planned ahead: first it is asked for the tokens that propose, then for the counts of what they seem to
//! propose; what they do propose is read when it is their turn.

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use super::by_document;
use super::dense::{Prior, Sweep};
use super::mh_counts::{Counts, NONE};
use crate::simd::{self, Kernel, Simd};
use dunlin::data::Documents;
use dunlin::isa::Isa;
use dunlin::rng::Lanes;
use dunlin::table::prefetch;
use std::ops::Range;

/// Tokens that are planned together.
const BATCH: usize = 16;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token {
    /// Position among the topics of whole documents.
    token: u32,
    document: u32,
}

/// The tokens of one word.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    word: u32,
    first: u32,
    end: u32,
}

impl Run {
    fn range(&self) -> Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// A block's tokens by word.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    tokens: Vec<Token>,
    runs: Vec<Run>,
}

impl Order {
    /// `starts`: position of each document's first token.
    pub(super) fn new(documents: &Documents, starts: &[u32]) -> Order {
        let mut all = Vec::new();
        for (document, (range, start)) in documents.offsets.windows(2).zip(starts).enumerate() {
            let mut token = *start;
            for entry in range[0] as usize..range[1] as usize {
                for _ in 0..documents.counts[entry] {
                    all.push((documents.words[entry], Token { token, document: document as u32 }));
                    token += 1;
                }
            }
        }
        all.sort_by_key(|(word, _)| *word);
        let (mut runs, mut first) = (Vec::new(), 0);
        for run in all.chunk_by(|a, b| a.0 == b.0) {
            let end = first + run.len() as u32;
            runs.push(Run { word: run[0].0, first, end });
            first = end;
        }
        Order { tokens: all.into_iter().map(|(_, token)| token).collect(), runs }
    }

    /// True if it is of a block with so many tokens; an empty one is of none.
    pub(super) fn is_of(&self, tokens: usize) -> bool {
        self.tokens.len() == tokens
    }
}

/// The topics of whole documents, with the tokens that other cells have.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    topics: Vec<u16>,
    counts: Counts,
}

impl Whole {
    pub(super) fn new<'a>(documents: impl Iterator<Item = &'a [u16]>, topics: usize) -> Whole {
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        for document in documents {
            all.extend_from_slice(document);
            lengths.push(document.len());
        }
        let counts = Counts::new(&lengths, &all, topics);
        Whole { topics: all, counts }
    }
}

/// Makes both steps of every token of a cell, given where each document's tokens in it begin and how many they are.
/// `whole` is of the documents' tokens in all cells; without, there is this cell alone.
pub(super) fn sweep(
    isa: Isa,
    sweep: Sweep,
    order: &Order,
    starts: &[u32],
    lengths: &[u32],
    whole: Option<&mut Whole>,
) {
    let mut own;
    let whole = match whole {
        Some(whole) => whole,
        None => {
            own = Whole::new(by_document(sweep.topics, lengths), sweep.totals.len());
            &mut own
        }
    };
    let Whole { topics, counts } = whole;
    let Sweep { topics: cell, documents, word_topic, totals, rng, prior } = sweep;
    let sweep = Sweep { topics, documents, word_topic, totals, rng, prior };
    simd::run(isa, Mh { sweep, order, counts });
    give_back(topics, starts, lengths, cell);
}

/// Copies the topics of a cell's tokens out of whole documents.
fn give_back(whole: &[u16], starts: &[u32], lengths: &[u32], mut cell: &mut [u16]) {
    for (start, length) in starts.iter().zip(lengths) {
        let (own, rest) = std::mem::take(&mut cell).split_at_mut(*length as usize);
        own.copy_from_slice(&whole[*start as usize..][..own.len()]);
        cell = rest;
    }
}

/// The sampler over a [`Sweep`] whose topics are those of whole documents.
struct Mh<'a> {
    sweep: Sweep<'a>,
    order: &'a Order,
    counts: &'a mut Counts,
}

impl Kernel for Mh<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Mh { mut sweep, order, counts } = self;
        let mut planner = Planner::new(&mut sweep, order);
        let mut state = State::new(&sweep, counts, planner.word.weight);
        let mut plans = [[Plan::default(); BATCH]; 3];
        let batches = order.tokens.len().div_ceil(BATCH);
        let in_use = |batch: usize| BATCH.min(order.tokens.len() - BATCH * batch);
        for batch in 0..batches + 2 {
            if batch < batches {
                planner.plan(BATCH * batch, &state.counts.spans, sweep.topics, &mut plans[batch % 3]);
            }
            if (1..=batches).contains(&batch) {
                state.ask_for(&sweep, &plans[(batch - 1) % 3][..in_use(batch - 1)]);
            }
            if batch >= 2 {
                for plan in &plans[(batch - 2) % 3][..in_use(batch - 2)] {
                    if plan.run != state.run {
                        state.begin_word(sweep.topics, order, plan.run);
                    }
                    state.step(&mut sweep, plan);
                }
            }
        }
        for (total, topic) in sweep.totals.iter_mut().zip(&state.by_topic) {
            *total = topic.total;
        }
    }
}

/// A proposal: the topic of the token at `place`, or `topic` if that is one.
#[derive(Clone, Copy, Default)]
struct Proposal {
    place: u32,
    topic: u16,
}

impl Proposal {
    #[inline(always)]
    fn topic(&self, topics: &[u16]) -> u16 {
        let other = topics[self.place as usize];
        if self.topic == NONE { other } else { self.topic }
    }
}

/// What is known of a token's steps ahead of them.
#[derive(Clone, Copy, Default)]
struct Plan {
    /// Position of the token and of its document.
    token: (u32, u32),
    word: u32,
    /// Number of the word's run.
    run: u32,
    by_document: Proposal,
    by_word: Proposal,
    /// Uniform numbers in [0, 1) for the two acceptances.
    darts: [f32; 2],
}

/// Draws from others, one each, and from all topics, `weight` each.
struct Source {
    /// Of a topic.
    weight: f32,
    /// Weight of all topics, in units of 2⁻³².
    mass: u64,
    /// Topics for every unit of `mass`, in units of 2⁻⁶⁴.
    per_mass: u64,
    topics: u32,
}

impl Source {
    /// Weights below 2⁻³¹ are taken as that.
    fn new(weight: f32, topics: usize) -> Source {
        let mass = ((f64::from(weight) * topics as f64 * 2f64.powi(32)) as u64).max(2 * topics as u64);
        let per_mass = ((topics as u128) << 64) / u128::from(mass);
        Source { weight, mass, per_mass: per_mass as u64, topics: topics as u32 }
    }

    /// One of `others` + 1 that is not `own`, with [`NONE`], or 0 and a topic.
    #[inline(always)]
    fn draw(&self, bits: u32, others: u32, own: u32) -> (u32, u16) {
        let others = u64::from(others) << 32;
        let dart = ((u128::from(others + self.mass) * u128::from(bits)) >> 32) as u64;
        let place = (dart >> 32) as u32;
        let beyond = dart.wrapping_sub(others);
        let topic = ((u128::from(beyond) * u128::from(self.per_mass)) >> 64) as u32;
        let topic = topic.min(self.topics - 1) as u16;
        if dart < others { (place + u32::from(place >= own), NONE) } else { (0, topic) }
    }
}

/// Plans the steps of tokens.
struct Planner<'a> {
    order: &'a Order,
    /// The run of the token that was planned last.
    run: usize,
    document: Source,
    word: Source,
    random: Lanes,
}

impl<'a> Planner<'a> {
    fn new(sweep: &mut Sweep, order: &'a Order) -> Planner<'a> {
        let topics = sweep.totals.len();
        let tokens: f64 = sweep.totals.iter().map(|total| f64::from(*total)).sum();
        // Far too small a weight would be lost in rounding.
        let weight = (f64::from(sweep.prior.beta) * order.tokens.len() as f64 / tokens.max(1.0)).max(1e-6);
        Planner {
            order,
            run: 0,
            document: Source::new(sweep.prior.alpha, topics),
            word: Source::new(weight as f32, topics),
            random: Lanes::new(&mut sweep.rng),
        }
    }

    /// Plans the tokens from `first` on and asks for the topics of those that they will look at.
    #[inline(always)]
    fn plan(
        &mut self,
        first: usize,
        spans: &[super::mh_counts::Span],
        topics: &[u16],
        plans: &mut [Plan; BATCH],
    ) {
        let Order { tokens, runs } = self.order;
        let mut others = [[0; BATCH]; 2];
        let mut own = [[0; BATCH]; 2];
        for (i, (token, plan)) in tokens[first..].iter().zip(&mut *plans).enumerate() {
            if first + i >= runs[self.run].end as usize {
                self.run += 1;
            }
            let (run, span) = (runs[self.run], spans[token.document as usize]);
            (plan.token, plan.word, plan.run) = ((token.token, token.document), run.word, self.run as u32);
            (plan.by_document.place, plan.by_word.place) = (span.start, run.first);
            (others[0][i], own[0][i]) = (span.length - 1, token.token - span.start);
            (others[1][i], own[1][i]) = (run.end - run.first - 1, (first + i) as u32 - run.first);
        }
        let bits = [self.random.next(), self.random.next(), self.random.next(), self.random.next()];
        let mut drawn = [[(0, 0); BATCH]; 2];
        for i in 0..BATCH {
            drawn[0][i] = self.document.draw(bits[0][i], others[0][i], own[0][i]);
            drawn[1][i] = self.word.draw(bits[1][i], others[1][i], own[1][i]);
        }
        for (i, plan) in plans.iter_mut().enumerate().take(tokens.len() - first) {
            plan.by_document =
                Proposal { place: plan.by_document.place + drawn[0][i].0, topic: drawn[0][i].1 };
            let occurrence = tokens[(plan.by_word.place + drawn[1][i].0) as usize];
            plan.by_word = Proposal { place: occurrence.token, topic: drawn[1][i].1 };
            plan.darts = [unit(bits[2][i]), unit(bits[3][i])];
            for place in [plan.token.0, plan.by_document.place, plan.by_word.place] {
                prefetch(&topics[place as usize..]);
            }
        }
    }
}

/// Uniform in [0, 1), 24 bits.
#[inline(always)]
fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// What is kept of a topic while a cell is swept.
#[derive(Clone, Copy)]
struct Topic {
    /// n_k.
    total: i32,
    /// 1 / (n_k + Vβ).
    inverse: f32,
    /// The same with a token less.
    inverse_less: f32,
    /// l_wk of the word at hand.
    local: u32,
}

/// The counts, and what is made of them.
struct State<'a> {
    counts: &'a mut Counts,
    by_topic: Vec<Topic>,
    /// Number of the word's run; none at first.
    run: u32,
    prior: Prior,
    /// c.
    weight: f32,
}

impl<'a> State<'a> {
    fn new(sweep: &Sweep, counts: &'a mut Counts, weight: f32) -> State<'a> {
        let Sweep { prior, totals, .. } = sweep;
        let topic = |total: &i32| Topic {
            total: *total,
            inverse: prior.inverse(*total),
            inverse_less: prior.inverse(*total - 1),
            local: 0,
        };
        State { counts, by_topic: totals.iter().map(topic).collect(), run: u32::MAX, prior: *prior, weight }
    }

    /// Asks for the counts that the steps will need, as far as can be told.
    #[inline(always)]
    fn ask_for(&self, sweep: &Sweep, plans: &[Plan]) {
        for plan in plans {
            let row = sweep.word_topic.padded(plan.word as usize);
            let span = self.counts.spans[plan.token.1 as usize];
            let own = sweep.topics[plan.token.0 as usize];
            let (by_document, by_word) =
                (plan.by_document.topic(sweep.topics), plan.by_word.topic(sweep.topics));
            for topic in [own, by_document, by_word] {
                prefetch(&row[usize::from(topic)..]);
                self.counts.prefetch(span, topic);
            }
        }
    }

    /// Counts the topics of a word's tokens.
    #[inline(always)]
    fn begin_word(&mut self, topics: &[u16], order: &Order, run: u32) {
        if let Some(before) = order.runs.get(self.run as usize) {
            for token in &order.tokens[before.range()] {
                self.by_topic[usize::from(topics[token.token as usize])].local = 0;
            }
        }
        for token in &order.tokens[order.runs[run as usize].range()] {
            self.by_topic[usize::from(topics[token.token as usize])].local += 1;
        }
        self.run = run;
    }

    /// w_k, and l_wk + c; both of `less` tokens less, 0 or 1.
    #[inline(always)]
    fn in_word(&self, row: &[i32], topic: u16, less: bool) -> (f32, f32) {
        let Topic { inverse, inverse_less, local, .. } = self.by_topic[usize::from(topic)];
        let count = (row[usize::from(topic)] - i32::from(less)).max(0) as f32;
        let inverse = if less { inverse_less } else { inverse };
        ((count + self.prior.beta) * inverse, (local - u32::from(less)) as f32 + self.weight)
    }

    /// Both steps of a token. It stays where it is in all counts until it is known to move: every count of its own
    /// topic is taken as one less.
    #[inline(always)]
    fn step(&mut self, sweep: &mut Sweep, plan: &Plan) {
        let row = sweep.word_topic.row(plan.word as usize);
        let (token, span) = (plan.token.0 as usize, self.counts.spans[plan.token.1 as usize]);
        let old = sweep.topics[token];

        let (weight, in_block) = self.in_word(row, old, true);
        let proposed = plan.by_document.topic(sweep.topics);
        let (other, in_block_there) = self.in_word(row, proposed, proposed == old);
        let taken = plan.darts[0] * weight < other;
        let topic = if taken { proposed } else { old };
        let (weight, in_block) = if taken { (other, in_block_there) } else { (weight, in_block) };

        let proposed = plan.by_word.topic(sweep.topics);
        let (other, in_block_there) = self.in_word(row, proposed, proposed == old);
        let in_document =
            |topic| (self.counts.get(span, topic) - u32::from(topic == old)) as f32 + self.prior.alpha;
        let stay = in_document(topic) * weight * in_block_there;
        let taken = plan.darts[1] * stay < in_document(proposed) * other * in_block;
        let topic = if taken { proposed } else { topic };
        if topic != old {
            self.change(sweep, plan, [old, topic]);
        }
    }

    /// Moves a token from one topic to another.
    #[inline(always)]
    fn change(&mut self, sweep: &mut Sweep, plan: &Plan, [old, new]: [u16; 2]) {
        let (token, span) = (plan.token.0 as usize, self.counts.spans[plan.token.1 as usize]);
        sweep.topics[token] = new;
        self.counts.take(span, old);
        self.counts.put(span, new);
        let row = sweep.word_topic.row_mut(plan.word as usize);
        row[usize::from(old)] -= 1;
        row[usize::from(new)] += 1;
        let from = &mut self.by_topic[usize::from(old)];
        (from.total, from.local, from.inverse) = (from.total - 1, from.local - 1, from.inverse_less);
        from.inverse_less = self.prior.inverse(from.total - 1);
        let to = &mut self.by_topic[usize::from(new)];
        (to.total, to.local, to.inverse_less) = (to.total + 1, to.local + 1, to.inverse);
        to.inverse = self.prior.inverse(to.total);
    }
}
