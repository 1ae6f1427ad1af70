//! Cutting rows into blocks. The number of blocks and their bounds depend on the data alone, never on workers.

use std::collections::VecDeque;
use std::ops::Range;

/// Entries that a block's u32 offsets can count.
const MOST_ENTRIES: u64 = u32::MAX as u64;

/// Cuts rows with the given weights (entries, tokens, ratings of a user) into at most `blocks` ranges of about
/// equal weight. No range is empty: with fewer rows than blocks every row is one. A range whose weight does not
/// fit a u32 is cut further, so there may be more ranges than asked for with more than 10^12 entries.
///
/// Each range takes rows until the next would bring it further from an equal share of what is left than it is.
pub fn cut(weights: &[u64], blocks: usize) -> Vec<Range<usize>> {
    let total: u64 = weights.iter().sum();
    let weight = |row: usize| if total == 0 { 1 } else { weights[row] };
    let mut left = if total == 0 { weights.len() as u64 } else { total };
    let (mut start, blocks) = (0, blocks.max(1).min(weights.len()));
    let mut ranges = Vec::with_capacity(blocks);
    for block in 0..blocks {
        let later = blocks - block - 1;
        let share = left / (later as u64 + 1);
        let last = weights.len() - later;
        let (mut end, mut taken) = (start + 1, weight(start));
        while end < last && (later == 0 || taken + weight(end) / 2 < share) {
            taken += weight(end);
            end += 1;
        }
        left -= taken;
        split_large(weights, start..end, &mut ranges);
        start = end;
    }
    ranges
}

fn split_large(weights: &[u64], range: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let (mut start, mut taken) = (range.start, 0u64);
    for row in range.clone() {
        if taken + weights[row] > MOST_ENTRIES && row > start {
            ranges.push(start..row);
            (start, taken) = (row, 0);
        }
        taken += weights[row];
    }
    ranges.push(start..range.end);
}

/// A list that grows at its end and is taken from its front, in pieces of memory that are given back as they are
/// used: reading a file and cutting it needs one copy of it, not two.
#[derive(Debug)]
pub(super) struct Pile<T> {
    full: VecDeque<Vec<T>>,
    last: Vec<T>,
    used: usize,
}

const PIECE: usize = 1 << 17;

impl<T> Default for Pile<T> {
    fn default() -> Pile<T> {
        Pile { full: VecDeque::new(), last: Vec::new(), used: 0 }
    }
}

impl<T: Copy> Pile<T> {
    /// Adds one at the end.
    #[inline(always)]
    pub(super) fn push(&mut self, value: T) {
        if self.last.len() == PIECE {
            self.full.push_back(std::mem::replace(&mut self.last, Vec::with_capacity(PIECE)));
        }
        self.last.push(value);
    }

    /// Takes `count` from the front, or what there is.
    pub(super) fn take(&mut self, count: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let front = self.full.front().unwrap_or(&self.last);
            let end = front.len().min(self.used + count - taken.len());
            if end == self.used && self.full.is_empty() {
                break;
            }
            taken.extend_from_slice(&front[self.used..end]);
            self.used = end;
            if self.used == front.len() && self.full.pop_front().is_some() {
                self.used = 0;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_rows_and_are_never_empty() {
        for seed in 0..500 {
            let mut rng = crate::rng::stream(seed, "cut", &[]);
            let rows = rng.below(300);
            let spread = [1, 2, 50, 10_000][rng.below(4)];
            let weights: Vec<u64> = (0..rows).map(|_| rng.below(spread) as u64).collect();
            let blocks = 1 + rng.below(40);
            let ranges = cut(&weights, blocks);
            assert_eq!(ranges.len(), blocks.min(rows), "seed {seed}");
            let mut at = 0;
            for range in &ranges {
                assert!(range.start == at && range.end > at, "seed {seed}: {ranges:?}");
                at = range.end;
            }
            assert_eq!(at, rows, "seed {seed}");
            let total: u64 = weights.iter().sum();
            let most = weights.iter().max().copied().unwrap_or(0);
            for range in ranges {
                let weight: u64 = weights[range].iter().sum();
                assert!(weight <= total / blocks as u64 + 2 * most + 1, "seed {seed}: {weight} of {total}");
            }
        }
    }

    #[test]
    fn no_range_outgrows_its_offsets() {
        let weights = vec![3_000_000_000u64; 5];
        assert_eq!(cut(&weights, 2), [0..1, 1..2, 2..3, 3..4, 4..5]);
    }

    #[test]
    fn a_pile_gives_back_what_was_put_in() {
        let mut pile = Pile::default();
        let count = 3 * PIECE + 17;
        (0..count).for_each(|value| pile.push(value));
        let mut rng = crate::rng::stream(1, "pile", &[]);
        let mut next = 0;
        while next < count {
            let asked = rng.below(2 * PIECE);
            let taken = pile.take(asked);
            assert_eq!(taken.len(), asked.min(count - next));
            assert!(taken.iter().enumerate().all(|(at, value)| *value == next + at));
            next += taken.len();
        }
        assert!(pile.take(5).is_empty());
    }
}
