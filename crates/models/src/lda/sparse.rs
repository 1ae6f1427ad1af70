//! The sparse sampler: what a token costs follows the topics of its document, not the number of topics.
//!
//! It goes through a block word by word. For one word all q_k = (n_wk + β) / (n_k + Vβ) are laid out once and
//! then kept exact, two at a time, while its tokens are drawn. The weight of a topic splits into
//! n_dk q_k, non-zero for the document's topics alone, and α q_k, whose sum is carried along; the second part
//! is rarely hit (Yu, Hsieh, Yun, Vishwanathan and Dhillon 2015; sums over groups instead of their tree, because
//! it is hit so rarely).
//! Counts of documents are short lists of (topic, count), made anew in each sweep.

use super::dense::{Prior, Row, Sweep, choose};
use crate::simd::{Kernel, Simd};
use dunlin::data::Documents;
use dunlin::rng::Stream;
use dunlin::table::prefetch;

/// Vectors of q that are summed up together, so that drawing from all of q need not look at all of it.
const GROUP: usize = 8;

/// How many visits ahead documents are fetched.
const AHEAD: usize = 6;

/// One word in one document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Visit {
    word: u32,
    document: u32,
    /// Position of its first occurrence among the block's tokens.
    token: u32,
    count: u32,
}

/// A block's (word, document) pairs by word, then by document.
pub(super) fn visits(documents: &Documents) -> Vec<Visit> {
    let mut visits = Vec::with_capacity(documents.words.len());
    let mut token = 0;
    for (document, range) in documents.offsets.windows(2).enumerate() {
        for entry in range[0] as usize..range[1] as usize {
            let (word, count) = (documents.words[entry], documents.counts[entry]);
            visits.push(Visit { word, document: document as u32, token, count });
            token += count;
        }
    }
    visits.sort_by_key(|visit| visit.word);
    visits
}

/// Where a document's list is.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    length: u32,
}

/// The counts n_dk of all documents as lists of topics with their counts. Lists
/// begin at multiples of 16; what follows a list's end, up to the next multiple, has count 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    spans: Vec<Span>,
    topics: Vec<u16>,
    counts: Vec<f32>,
}

impl Lists {
    /// The lists of documents whose tokens have these topics, out of `topics`.
    pub(super) fn new<'a>(documents: impl Iterator<Item = &'a [u16]>, topics: usize) -> Lists {
        let mut lists = Lists::default();
        let mut counts = vec![0u32; topics];
        for assigned in documents {
            assigned.iter().for_each(|topic| counts[usize::from(*topic)] += 1);
            let start = lists.topics.len();
            for topic in assigned {
                // A topic's count is taken at its first token and cleared.
                let count = std::mem::take(&mut counts[usize::from(*topic)]);
                if count > 0 {
                    lists.topics.push(*topic);
                    lists.counts.push(count as f32);
                }
            }
            lists.spans.push(Span { start: start as u32, length: (lists.topics.len() - start) as u32 });
            // There is room for as many topics as the document can come to have.
            let end = start + assigned.len().min(topics).next_multiple_of(16);
            lists.topics.resize(end, 0);
            lists.counts.resize(end, 0.0);
        }
        lists
    }

    /// Start and length of a document's list.
    #[inline(always)]
    fn span(&self, document: usize) -> (usize, usize) {
        let span = self.spans[document];
        (span.start as usize, span.length as usize)
    }

    /// Where `document` keeps `topic`, if it has it.
    #[inline(always)]
    fn find(&self, document: usize, topic: u16) -> Option<usize> {
        let (start, length) = self.span(document);
        let chunks = self.topics[start..start + length.next_multiple_of(16)].as_chunks::<16>().0;
        for (chunk, topics) in chunks.iter().enumerate() {
            let equal = (0..16).fold(0u32, |bits, i| bits | u32::from(topics[i] == topic) << i);
            if equal != 0 {
                let at = 16 * chunk + equal.trailing_zeros() as usize;
                return (at < length).then_some(start + at);
            }
        }
        None
    }

    /// Takes one from the count at `at`; `kept` is a place that must still be known afterwards.
    #[inline(always)]
    fn take(&mut self, document: usize, at: usize, kept: Option<usize>) -> Option<usize> {
        self.counts[at] -= 1.0;
        if self.counts[at] > 0.0 {
            return kept;
        }
        self.spans[document].length -= 1;
        let (start, length) = self.span(document);
        let last = start + length;
        self.topics[at] = self.topics[last];
        self.counts[at] = self.counts[last];
        self.counts[last] = 0.0;
        if kept == Some(last) { Some(at) } else { kept }
    }

    /// Adds one to `topic`, which is at `at` if anywhere.
    #[inline(always)]
    fn put(&mut self, document: usize, topic: u16, at: Option<usize>) {
        match at {
            Some(at) => self.counts[at] += 1.0,
            None => {
                let (start, length) = self.span(document);
                self.topics[start + length] = topic;
                self.counts[start + length] = 1.0;
                self.spans[document].length += 1;
            }
        }
    }

    #[inline(always)]
    fn prefetch(&self, document: usize) {
        let (start, length) = self.span(document);
        self.topics[start..start + length].chunks(32).for_each(prefetch);
        self.counts[start..start + length].chunks(16).for_each(prefetch);
    }
}

/// Σ n_dk q_k over a document's list, in four sums that run side by side.
struct FourSums {
    /// The four sums after every four topics.
    along: Vec<[f32; 4]>,
    /// How many of `along` are in use.
    used: usize,
}

impl FourSums {
    /// Sums the list up; returns the whole.
    #[inline(always)]
    fn fill(&mut self, topics: &[u16], counts: &[f32], q: &[f32; 65_536]) -> f32 {
        let (topics, counts) = (topics.as_chunks::<4>().0, counts.as_chunks::<4>().0);
        let mut sums = [0.0f32; 4];
        self.used = topics.len();
        for ((topics, counts), along) in topics.iter().zip(counts).zip(&mut self.along) {
            for i in 0..4 {
                sums[i] += counts[i] * q[usize::from(topics[i])];
            }
            *along = sums;
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3])
    }

    /// The place in the list that `dart`, at least 0 and below the whole, hits.
    #[inline(always)]
    fn place(&self, dart: f32) -> usize {
        let [a, b, c, _] = self.along[self.used - 1];
        let (one, two, three) = (a, a + b, (a + b) + c);
        let sum = usize::from(dart >= one) + usize::from(dart >= two) + usize::from(dart >= three);
        let rest = dart - [0.0, one, two, three][sum];
        let below = self.along[..self.used - 1].iter().map(|along| usize::from(along[sum] <= rest));
        4 * below.sum::<usize>() + sum
    }
}

/// The sparse sampler over a [`Sweep`].
pub(super) struct Sparse<'a> {
    pub(super) sweep: Sweep<'a>,
    /// The block's [`visits`].
    pub(super) visits: &'a [Visit],
    /// Counts of its documents, over all their tokens.
    pub(super) lists: &'a mut Lists,
}

/// What the word being visited is drawn with.
struct Word<'a> {
    /// n_wk.
    counts: &'a mut [i32],
    /// Σ q_k.
    mass: f64,
}

/// State of a sweep beyond the [`Sweep`] itself.
struct State<'a> {
    lists: &'a mut Lists,
    four: FourSums,
    /// q_k of the word being visited; as long as a u16 reaches, so that no index needs a check.
    q: Box<[f32; 65_536]>,
    /// Sums of q over [`GROUP`] vectors, lane by lane.
    groups: Vec<[f32; 16]>,
    /// 1 / (n_k + Vβ); 0 in the padding.
    inverse: Vec<[f32; 16]>,
}

impl Kernel for Sparse<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Sparse { mut sweep, visits, lists } = self;
        let mut state = State::new(&sweep, lists);
        let half = !sweep.word_topic.stride().is_multiple_of(16);
        let mut sums = vec![simd.splat(0.0); state.groups.len()];
        let mut at = 0;
        for same_word in visits.chunk_by(|a, b| a.word == b.word) {
            let word = same_word[0].word as usize;
            let mass = state.weigh(simd, &sweep, sweep.word_topic.padded(word), half);
            // The row is borrowed from the table, the rest of the sweep is used beside it.
            let Sweep { word_topic, topics, totals, rng, prior, .. } = &mut sweep;
            let mut word = Word { counts: word_topic.row_mut(word), mass };
            let mut draw = Draw { state: &mut state, totals, rng, prior: *prior };
            for visit in same_word {
                at += 1;
                if let Some(next) = visits.get(at + AHEAD) {
                    draw.state.lists.prefetch(next.document as usize);
                    prefetch(&topics[next.token as usize..]);
                }
                for topic in &mut topics[visit.token as usize..(visit.token + visit.count) as usize] {
                    *topic = draw.token(simd, &mut word, &mut sums, visit.document as usize, *topic);
                }
            }
        }
    }
}

impl<'a> State<'a> {
    fn new(sweep: &Sweep, lists: &'a mut Lists) -> State<'a> {
        let vectors = sweep.totals.len().div_ceil(16);
        let mut inverse = vec![[0.0f32; 16]; vectors];
        for (inverse, total) in inverse.as_flattened_mut().iter_mut().zip(&*sweep.totals) {
            *inverse = sweep.prior.inverse(*total);
        }
        let ends = lists
            .spans
            .get(1..)
            .into_iter()
            .flatten()
            .map(|span| span.start)
            .chain([lists.topics.len() as u32]);
        let longest = lists.spans.iter().zip(ends).map(|(span, end)| end - span.start).max();
        let four = FourSums { along: vec![[0.0; 4]; longest.unwrap_or(0) as usize / 4 + 1], used: 1 };
        let (q, groups) = (bytemuck::zeroed_box(), vectors.div_ceil(GROUP));
        State { lists, four, q, groups: vec![[0.0; 16]; groups], inverse }
    }

    /// Lays out q for a word; returns Σ q_k.
    #[inline(always)]
    fn weigh<S: Simd>(&mut self, simd: S, sweep: &Sweep, counts: &[i32], half: bool) -> f64 {
        let beta = simd.splat(sweep.prior.beta);
        let counts = Row::new(counts, self.inverse.len(), half);
        let (lines, mut all) = (self.q.as_chunks_mut::<16>().0, simd.splat(0.0));
        for (group, sums) in self.groups.iter_mut().enumerate() {
            let mut sum = simd.splat(0.0);
            for (v, inverse) in self.inverse.iter().enumerate().skip(GROUP * group).take(GROUP) {
                let in_word = simd.counts(counts.vector(v));
                let q = simd.mul(simd.add(in_word, beta), simd.floats(inverse));
                simd.store(q, &mut lines[v]);
                sum = simd.add(sum, q);
            }
            simd.store(sum, sums);
            all = simd.add(all, sum);
        }
        f64::from(simd.first(simd.scan(all).1))
    }

    /// Sets q of a topic; returns by how much it grew.
    #[inline(always)]
    fn set(&mut self, topic: usize, q: f32) -> f64 {
        let before = std::mem::replace(&mut self.q[topic], q);
        self.groups[topic / (16 * GROUP)][topic % 16] += q - before;
        f64::from(q) - f64::from(before)
    }

    /// A topic drawn with weights q: the lane and the group, then one of the group's vectors.
    #[inline(always)]
    fn any_topic<S: Simd>(&self, simd: S, sums: &mut [S::Floats], topics: usize, rng: &mut Stream) -> usize {
        let mut sum = simd.splat(0.0);
        for (group, at) in self.groups.iter().zip(&mut *sums) {
            sum = simd.add(sum, simd.floats(group));
            *at = sum;
        }
        let whole = self.groups.len() - 1;
        let in_use = 16 * whole + (topics - 16 * GROUP * whole).min(16);
        let chosen = choose(simd, sums, in_use, rng.unit_f32());
        let first = 16 * GROUP * (chosen / 16) + chosen % 16;
        let mut along = [0.0; GROUP];
        let mut sum = 0.0;
        for (i, at) in along.iter_mut().enumerate() {
            // Beyond the last topic q is 0.
            sum += self.q[(first + 16 * i) & 0xffff];
            *at = sum;
        }
        let dart = rng.unit_f32() * sum;
        let vector = along.iter().map(|at| usize::from(*at <= dart)).sum::<usize>();
        first + 16 * vector.min((topics - 1 - first) / 16).min(GROUP - 1)
    }
}

/// What drawing a token needs apart from its word.
struct Draw<'a, 's> {
    state: &'a mut State<'s>,
    totals: &'a mut [i32],
    rng: &'a mut Stream,
    prior: Prior,
}

impl Draw<'_, '_> {
    /// Draws the topic of a token that had `old`, and moves its counts.
    #[inline(always)]
    fn token<S: Simd>(
        &mut self,
        simd: S,
        word: &mut Word,
        sums: &mut [S::Floats],
        document: usize,
        old_topic: u16,
    ) -> u16 {
        let old = usize::from(old_topic);
        let State { lists, four, q, .. } = &mut *self.state;
        let Some(at) = lists.find(document, old_topic) else { return old_topic };
        // Without this token; its own topic stands apart from the document's others.
        let less_inverse = self.prior.inverse(self.totals[old] - 1);
        let less = ((word.counts[old] - 1).max(0) as f32 + self.prior.beta) * less_inverse;
        let full = std::mem::take(&mut q[old]);
        let own = (lists.counts[at] - 1.0) * less;
        let (start, length) = lists.span(document);
        let list = start..start + length.next_multiple_of(4);
        let others = four.fill(&lists.topics[list.clone()], &lists.counts[list], q);
        q[old] = full;
        let mass = word.mass - f64::from(full) + f64::from(less);
        let dart = self.rng.unit_f32() * (own + others + self.prior.alpha * mass as f32);
        if dart < own {
            return old_topic;
        }
        self.state.set(old, less);
        let (new, place) = if dart - own < others {
            let place = start + self.state.four.place(dart - own).min(length - 1);
            (usize::from(self.state.lists.topics[place]), Some(place))
        } else {
            let new = self.state.any_topic(simd, sums, self.totals.len(), self.rng);
            (new, self.state.lists.find(document, new as u16))
        };
        if new == old {
            self.state.set(old, full);
            return old_topic;
        }
        let place = self.state.lists.take(document, at, place);
        self.state.lists.put(document, new as u16, place);
        word.counts[old] -= 1;
        word.counts[new] += 1;
        self.totals[old] -= 1;
        self.totals[new] += 1;
        let more_inverse = self.prior.inverse(self.totals[new]);
        self.state.inverse.as_flattened_mut()[old] = less_inverse;
        self.state.inverse.as_flattened_mut()[new] = more_inverse;
        let more = (word.counts[new].max(0) as f32 + self.prior.beta) * more_inverse;
        word.mass = mass + self.state.set(new, more);
        new as u16
    }
}
