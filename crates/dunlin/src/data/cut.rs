//! Cutting rows into blocks. The number of blocks and their bounds depend on the data alone, never on workers.

use super::scratch::{Piece, Scratch, ScratchFile};
use crate::{Error, Result};
use bytemuck::{cast_slice, cast_slice_mut};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Entries that a block's u32 offsets can count.
const MOST_ENTRIES: u64 = u32::MAX as u64;

/// Cuts rows with the given weights (entries, tokens, ratings of a user) into at most `blocks` ranges of about
/// equal weight. No range is empty: with fewer rows than blocks every row is one. A range whose weight does not
/// fit a u32 is cut further, so there may be more ranges than asked for with more than 10^12 entries.
///
/// Each range takes rows until the next would bring it further from an equal share of what is left than it is.
pub fn cut(weights: &[u64], blocks: usize) -> Vec<Range<usize>> {
    cut_rows(weights.len(), |row| weights[row], blocks)
}

/// [`cut()`] of `rows` rows whose weights are wherever they are.
pub(super) fn cut_rows(rows: usize, of: impl Fn(usize) -> u64, blocks: usize) -> Vec<Range<usize>> {
    let total: u64 = (0..rows).map(&of).sum();
    let weight = |row: usize| if total == 0 { 1 } else { of(row) };
    let mut left = if total == 0 { rows as u64 } else { total };
    let (mut start, blocks) = (0, blocks.max(1).min(rows));
    let mut ranges = Vec::with_capacity(blocks);
    for block in 0..blocks {
        let later = blocks - block - 1;
        let share = left / (later as u64 + 1);
        let last = rows - later;
        let (mut end, mut taken) = (start + 1, weight(start));
        while end < last && (later == 0 || taken + weight(end) / 2 < share) {
            taken += weight(end);
            end += 1;
        }
        left -= taken;
        split_large(&of, start..end, &mut ranges);
        start = end;
    }
    ranges
}

fn split_large(weight: impl Fn(usize) -> u64, range: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let (mut start, mut taken) = (range.start, 0u64);
    for row in range.clone() {
        if taken + weight(row) > MOST_ENTRIES && row > start {
            ranges.push(start..row);
            (start, taken) = (row, 0);
        }
        taken += weight(row);
    }
    ranges.push(start..range.end);
}

/// A list that grows at its end and is taken from its front, in pieces of memory that are given back as they are
/// used: reading a file and cutting it needs one copy of it, not two. With a scratch file, full pieces wait there.
#[derive(Debug)]
pub(super) struct Pile<T> {
    full: VecDeque<Waiting<T>>,
    last: Vec<T>,
    used: usize,
    scratch: Option<Arc<ScratchFile>>,
    /// What went wrong when a piece was to be written; told by [`Pile::take`].
    failed: Option<Error>,
}

/// A full piece.
#[derive(Debug)]
enum Waiting<T> {
    Here(Vec<T>),
    Written(Piece),
}

const PIECE: usize = 1 << 17;

impl<T> Default for Pile<T> {
    fn default() -> Pile<T> {
        Pile { full: VecDeque::new(), last: Vec::new(), used: 0, scratch: None, failed: None }
    }
}

impl<T: bytemuck::Pod> Pile<T> {
    /// An empty one, whose full pieces wait in a file of `scratch`, if there is one.
    pub(super) fn new(scratch: Option<&Scratch>) -> Pile<T> {
        match scratch.map(|scratch| scratch.file("reading")) {
            None => Pile::default(),
            Some(Ok(file)) => Pile { scratch: Some(file), ..Pile::default() },
            Some(Err(error)) => Pile { failed: Some(error), ..Pile::default() },
        }
    }

    /// Adds one at the end.
    #[inline(always)]
    pub(super) fn push(&mut self, value: T) {
        if self.last.len() == PIECE {
            self.turn();
        }
        self.last.push(value);
    }

    /// Puts the last piece, which is full, to the others.
    #[cold]
    fn turn(&mut self) {
        match &self.scratch {
            None if self.failed.is_some() => self.last.clear(),
            None => {
                let full = std::mem::replace(&mut self.last, Vec::with_capacity(PIECE));
                self.full.push_back(Waiting::Here(full));
            }
            Some(file) => {
                match file.append(&[cast_slice(&self.last)]) {
                    Ok(piece) => self.full.push_back(Waiting::Written(piece)),
                    Err(error) => (self.scratch, self.failed) = (None, Some(error)),
                }
                self.last.clear();
            }
        }
    }

    /// Takes `count` from the front, or what there is.
    ///
    /// # Errors
    /// If pieces could not be written, or cannot be read back.
    pub(super) fn take(&mut self, count: usize) -> Result<Vec<T>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            if let (Some(Waiting::Written(piece)), Some(file)) = (self.full.front(), &self.scratch) {
                let mut here = vec![T::zeroed(); PIECE];
                file.read(*piece, &mut [cast_slice_mut(&mut here)])?;
                self.full[0] = Waiting::Here(here);
            }
            let front = match self.full.front() {
                Some(Waiting::Here(front)) => front,
                _ => &self.last,
            };
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
        Ok(taken)
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
    fn a_pile_gives_back_what_was_put_in_also_from_disk() {
        let scratch = Scratch::new(&std::env::temp_dir());
        for scratch in [None, Some(&scratch)] {
            let mut pile = Pile::new(scratch);
            let count = 3 * PIECE + 17;
            (0..count).for_each(|value| pile.push(value));
            let waiting = pile.full.iter().filter(|piece| matches!(piece, Waiting::Written(_))).count();
            assert_eq!(waiting, if scratch.is_some() { 3 } else { 0 });
            let mut rng = crate::rng::stream(1, "pile", &[]);
            let mut next = 0;
            while next < count {
                let asked = rng.below(2 * PIECE);
                let taken = pile.take(asked).unwrap();
                assert_eq!(taken.len(), asked.min(count - next));
                assert!(taken.iter().enumerate().all(|(at, value)| *value == next + at));
                next += taken.len();
            }
            assert!(pile.take(5).unwrap().is_empty());
        }
    }

    #[test]
    fn a_pile_that_cannot_be_written_says_so_when_it_is_taken() {
        let mut pile = Pile::new(Some(&Scratch::new(std::path::Path::new("/no/such/folder"))));
        (0..3 * PIECE as u32).for_each(|value| pile.push(value));
        assert!(pile.last.len() <= PIECE && pile.full.is_empty(), "and keeps nothing");
        assert!(pile.take(5).unwrap_err().to_string().contains("/no/such/folder"));
    }
}
