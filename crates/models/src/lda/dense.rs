//! The dense sampler: every topic's weight for every token, sixteen at a time.
//!
//! Topic k = 16 v + i sits in lane i of vector v. Weights are summed down the vectors lane by lane, then along
//! the lanes; a uniform number picks the lane first and the vector within it second. The document's factor
//! (n_dk + α) / (n_k + Vβ) is kept as vectors and changes in two places per token, so that a token costs one
//! conversion, two additions and one product per sixteen topics. A token is taken out of its counts before it is
//! drawn and put back after, whatever its topic becomes: no branch waits for the draw. Vectors are changed whole:
//! a narrow store followed by a wide load of the same place would wait for memory.

use crate::simd::{Kernel, Simd};
use dunlin::TableMut;
use dunlin::data::Documents;
use dunlin::rng::Stream;
use dunlin::table::prefetch;

/// How many (document, word) pairs ahead rows are fetched.
const AHEAD: usize = 3;

/// One sweep over a block.
pub(super) struct Sweep<'a> {
    /// The block's documents.
    pub(super) documents: &'a Documents,
    /// Topic of each token, in the order of `documents` with counts written out.
    pub(super) topics: &'a mut [u16],
    /// n_wk: (words, topics).
    pub(super) word_topic: TableMut<'a, i32>,
    /// n_k.
    pub(super) totals: &'a mut [i32],
    /// The sweep's random numbers, one per token.
    pub(super) rng: Stream,
    /// What is added to counts.
    pub(super) prior: Prior,
}

/// What is added to counts.
#[derive(Clone, Copy)]
pub(super) struct Prior {
    /// α.
    pub(super) alpha: f32,
    /// β.
    pub(super) beta: f32,
    /// V β.
    pub(super) words_beta: f32,
}

impl Prior {
    /// 1 / (count + Vβ), with a count below zero taken as zero.
    #[inline(always)]
    pub(super) fn inverse(&self, count: i32) -> f32 {
        1.0 / (count.max(0) as f32 + self.words_beta)
    }
}

/// The dense sampler over a [`Sweep`].
pub(super) struct Dense<'a> {
    pub(super) sweep: Sweep<'a>,
    /// n_dk, where documents have tokens elsewhere too: (documents, ⌈topics / 16⌉, 16).
    pub(super) counts: Option<&'a mut [[i32; 16]]>,
}

impl Kernel for Dense<'_> {
    type Out = ();

    /// Chooses the loop made for this number of vectors; beyond 128 topics they no longer fit in registers.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let vectors = self.sweep.totals.len().div_ceil(16);
        let half = !self.sweep.word_topic.stride().is_multiple_of(16);
        match (vectors, half) {
            (1, true) => fixed::<S, 1>(simd, self, true),
            (1, false) => fixed::<S, 1>(simd, self, false),
            (2, true) => fixed::<S, 2>(simd, self, true),
            (2, false) => fixed::<S, 2>(simd, self, false),
            (3, true) => fixed::<S, 3>(simd, self, true),
            (3, false) => fixed::<S, 3>(simd, self, false),
            (4, false) => fixed::<S, 4>(simd, self, false),
            (5, false) => fixed::<S, 5>(simd, self, false),
            (6, false) => fixed::<S, 6>(simd, self, false),
            (7, false) => fixed::<S, 7>(simd, self, false),
            (8, false) => fixed::<S, 8>(simd, self, false),
            _ => any(simd, self, vectors, half),
        }
    }
}

#[inline(always)]
fn fixed<S: Simd, const N: usize>(simd: S, work: Dense, half: bool) {
    let zero = simd.splat(0.0);
    let (mut factor, mut sums, mut row) = ([zero; N], [zero; N], [zero; N]);
    sweep(simd, work, half, Vectors { factor: &mut factor, sums: &mut sums, row: &mut row });
}

#[inline(always)]
fn any<S: Simd>(simd: S, work: Dense, vectors: usize, half: bool) {
    let zero = vec![simd.splat(0.0); vectors];
    let (mut factor, mut sums, mut row) = (zero.clone(), zero.clone(), zero);
    sweep(simd, work, half, Vectors { factor: &mut factor, sums: &mut sums, row: &mut row });
}

/// Working vectors, one for every sixteen topics.
struct Vectors<'a, S: Simd> {
    /// (n_dk + α) / (n_k + Vβ), without the token being drawn; 0 in the padding.
    factor: &'a mut [S::Floats],
    /// Weights, summed down the vectors.
    sums: &'a mut [S::Floats],
    /// n_wk + β of the word, without the token being drawn.
    row: &'a mut [S::Floats],
}

/// A value per topic that depends on counts, for one token less, for the counts as they are, and for one token
/// more: what a step needs next is there before the step is known, and no division is waited for.
struct Near {
    less: Vec<[f32; 16]>,
    same: Vec<[f32; 16]>,
    more: Vec<[f32; 16]>,
}

impl Near {
    fn new(vectors: usize) -> Near {
        let zeros = vec![[0.0; 16]; vectors];
        Near { less: zeros.clone(), same: zeros.clone(), more: zeros }
    }

    /// After the topic lost a token; `less` is its value for yet one less.
    #[inline(always)]
    fn down(&mut self, topic: usize, less: f32) {
        let same = std::mem::replace(&mut self.less.as_flattened_mut()[topic], less);
        let more = std::mem::replace(&mut self.same.as_flattened_mut()[topic], same);
        self.more.as_flattened_mut()[topic] = more;
    }

    /// After the topic got a token; `more` is its value for yet one more.
    #[inline(always)]
    fn up(&mut self, topic: usize, more: f32) {
        let same = std::mem::replace(&mut self.more.as_flattened_mut()[topic], more);
        let less = std::mem::replace(&mut self.same.as_flattened_mut()[topic], same);
        self.less.as_flattened_mut()[topic] = less;
    }
}

#[inline(always)]
fn sweep<S: Simd>(simd: S, work: Dense, half: bool, vectors: Vectors<S>) {
    let Dense { sweep: mut work, counts: mut gathered } = work;
    let prior = work.prior;
    let Vectors { factor, sums, row } = vectors;
    let (count, topics) = (factor.len(), work.totals.len());
    let (alpha, beta) = (simd.splat(prior.alpha), simd.splat(prior.beta));
    let mut inverses = Near::new(count);
    for (topic, total) in work.totals.iter().enumerate() {
        inverses.less.as_flattened_mut()[topic] = prior.inverse(total - 1);
        inverses.same.as_flattened_mut()[topic] = prior.inverse(*total);
        inverses.more.as_flattened_mut()[topic] = prior.inverse(total + 1);
    }
    let mut factors = Near::new(count);
    let mut document = vec![[0i32; 16]; count];
    let document = &mut document[..count];
    let words = &work.documents.words[..];
    let mut token = 0;
    for (number, range) in work.documents.offsets.windows(2).enumerate() {
        let entries = range[0] as usize..range[1] as usize;
        if entries.is_empty() {
            continue;
        }
        match &gathered {
            Some(counts) => document.copy_from_slice(&counts[number * count..][..count]),
            None => {
                let repeats = work.documents.counts[entries.clone()].iter();
                let tokens: usize = repeats.map(|count| *count as usize).sum();
                document.as_flattened_mut().fill(0);
                for topic in &work.topics[token..token + tokens] {
                    document.as_flattened_mut()[usize::from(*topic)] += 1;
                }
            }
        }
        for v in 0..count {
            let counted = simd.counts(&document[v]);
            let less = simd.add(simd.add(counted, simd.splat(-1.0)), alpha);
            let more = simd.add(simd.add(counted, simd.splat(1.0)), alpha);
            simd.store(simd.mul(less, simd.floats(&inverses.less[v])), &mut factors.less[v]);
            simd.store(simd.mul(more, simd.floats(&inverses.more[v])), &mut factors.more[v]);
            factor[v] = simd.mul(simd.add(counted, alpha), simd.floats(&inverses.same[v]));
            simd.store(factor[v], &mut factors.same[v]);
        }
        for entry in entries {
            if let Some(word) = words.get(entry + AHEAD) {
                work.word_topic
                    .padded(*word as usize)
                    .as_chunks::<16>()
                    .0
                    .iter()
                    .for_each(|line| prefetch(line));
            }
            let repeats = work.documents.counts[entry] as usize;
            let counts = work.word_topic.padded_mut(words[entry] as usize);
            let in_word = Row::new(counts, count, half);
            for (v, row) in row.iter_mut().enumerate() {
                *row = simd.add(simd.counts(in_word.vector(v)), beta);
            }
            for left in (0..repeats).rev() {
                let old = usize::from(work.topics[token]);
                simd.put(factor, old, factors.less.as_flattened()[old]);
                counts[old] -= 1;
                simd.put(row, old, counts[old].max(0) as f32 + prior.beta);
                work.totals[old] -= 1;
                document.as_flattened_mut()[old] -= 1;
                let inverse = prior.inverse(work.totals[old] - 1);
                inverses.down(old, inverse);
                factors.down(old, ((document.as_flattened()[old] - 1) as f32 + prior.alpha) * inverse);
                // Sums run in fours, so that no vector waits for all before it.
                for first in (0..count).step_by(4) {
                    let mut sum = simd.splat(0.0);
                    for v in first..count.min(first + 4) {
                        let weight = simd.mul(factor[v], row[v]);
                        sum = if v == first { weight } else { simd.add(sum, weight) };
                        sums[v] = if first == 0 { sum } else { simd.add(sums[first - 1], sum) };
                    }
                }
                let new = choose(simd, sums, topics, work.rng.unit_f32());
                simd.put(factor, new, factors.more.as_flattened()[new]);
                counts[new] += 1;
                if left > 0 {
                    simd.put(row, new, counts[new].max(0) as f32 + prior.beta);
                }
                work.topics[token] = new as u16;
                work.totals[new] += 1;
                document.as_flattened_mut()[new] += 1;
                let inverse = prior.inverse(work.totals[new] + 1);
                inverses.up(new, inverse);
                factors.up(new, ((document.as_flattened()[new] + 1) as f32 + prior.alpha) * inverse);
                token += 1;
            }
        }
        if let Some(counts) = &mut gathered {
            counts[number * count..][..count].copy_from_slice(document);
        }
    }
}

/// The topic that a uniform number hits, given weights summed down the vectors: the lane, then the vector.
#[inline(always)]
pub(super) fn choose<S: Simd>(simd: S, sums: &[S::Floats], topics: usize, uniform: f32) -> usize {
    let (sum, before) = (sums[sums.len() - 1], &sums[..sums.len() - 1]);
    let (along, whole) = simd.scan(sum);
    let dart = simd.mul(simd.splat(uniform), whole);
    let rest = simd.sub(dart, simd.sub(along, sum));
    // Rounding must not choose a lane or a vector that holds no topic.
    let new = simd.hit(before, rest, along, dart, topics.min(16) - 1);
    if new < topics { new } else { new - 16 }
}

/// A row of counts as vectors; where `half`, the last one is filled up with zeros.
pub(super) struct Row<'a> {
    whole: &'a [[i32; 16]],
    last: [i32; 16],
}

impl<'a> Row<'a> {
    #[inline(always)]
    pub(super) fn new(counts: &'a [i32], vectors: usize, half: bool) -> Row<'a> {
        let (whole, rest) = counts.as_chunks::<16>();
        let mut last = [0; 16];
        if half {
            match rest.first_chunk::<8>() {
                Some(eight) => last[..8].copy_from_slice(eight),
                None => last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from),
            }
        }
        Row { whole: &whole[..vectors - usize::from(half)], last }
    }

    #[inline(always)]
    pub(super) fn vector(&self, at: usize) -> &[i32; 16] {
        if at < self.whole.len() { &self.whole[at] } else { &self.last }
    }
}
