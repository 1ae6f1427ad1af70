//! Sets of small numbers.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Some of the numbers from 0 on, below a bound that both sides know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Set(Vec<u64>);

impl Set {
    /// None of `bound` numbers.
    pub(crate) fn new(bound: usize) -> Set {
        Set(vec![0; bound.div_ceil(64)])
    }

    /// All of `bound` numbers.
    pub(crate) fn all(bound: usize) -> Set {
        let mut set = Set(vec![u64::MAX; bound.div_ceil(64)]);
        if let Some(last) = set.0.last_mut().filter(|_| !bound.is_multiple_of(64)) {
            *last = (1 << (bound % 64)) - 1;
        }
        set
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Those that are in `other` too.
    pub(crate) fn and(&self, other: &Set) -> Set {
        Set(self.0.iter().zip(&other.0).map(|(own, other)| own & other).collect())
    }

    /// Those that are not in `other`.
    pub(crate) fn without(&self, other: &Set) -> Set {
        Set(self.0.iter().zip(&other.0).map(|(own, other)| own & !other).collect())
    }

    /// Those in `range`, as ranges of neighbours, in order.
    pub(crate) fn runs(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while let Some(start) = self.next(at, true).filter(|start| *start < range.end) {
            let end = self.next(start, false).unwrap_or(range.end).min(range.end);
            runs.push(start..end);
            at = end;
        }
        runs
    }

    /// The first number from `start` on that is in the set, or is not.
    fn next(&self, start: usize, is_in: bool) -> Option<usize> {
        let flip = if is_in { 0 } else { u64::MAX };
        let mut beyond = u64::MAX << (start % 64);
        for (place, word) in self.0.iter().enumerate().skip(start / 64) {
            let found = (word ^ flip) & beyond;
            if found != 0 {
                return Some(place * 64 + found.trailing_zeros() as usize);
            }
            beyond = u64::MAX;
        }
        None
    }

    /// True for a set of numbers below `bound`, also if it came from elsewhere.
    pub(crate) fn is_below(&self, bound: usize) -> bool {
        let beyond =
            self.0.last().map_or(0, |last| if bound.is_multiple_of(64) { 0 } else { last >> (bound % 64) });
        self.0.len() == bound.div_ceil(64) && beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    /// Against a list of flags.
    #[test]
    fn sets_do_what_their_names_say() {
        for seed in 0..200 {
            let mut rng = stream(seed, "set", &[]);
            let bound = rng.below(300) + 1;
            let mut draw = || {
                let rare = 1 + rng.below(5);
                let flags: Vec<bool> = (0..bound).map(|_| rng.below(rare) == 0).collect();
                let mut set = Set::new(bound);
                (0..bound).filter(|at| flags[*at]).for_each(|at| set.insert(at));
                (flags, set)
            };
            let ((a, one), (b, other)) = (draw(), draw());
            let is = |set: &Set, wanted: &dyn Fn(usize) -> bool| {
                (0..bound).all(|at| set.contains(at) == wanted(at)) && set.is_below(bound)
            };
            assert!(is(&one, &|at| a[at]) && is(&one.and(&other), &|at| a[at] && b[at]), "seed {seed}");
            assert!(is(&one.without(&other), &|at| a[at] && !b[at]), "seed {seed}");
            assert!(is(&Set::all(bound), &|_| true), "seed {seed}");
            assert_eq!(one.count(), a.iter().filter(|flag| **flag).count(), "seed {seed}");
            assert_eq!(one.is_empty(), one.count() == 0, "seed {seed}");
            let start = rng.below(bound);
            let range = start..start + rng.below(bound - start + 1);
            let runs = one.runs(range.clone());
            let listed: Vec<usize> = runs.iter().cloned().flatten().collect();
            assert_eq!(listed, range.filter(|at| a[*at]).collect::<Vec<_>>(), "seed {seed}");
            assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "seed {seed}");
        }
    }
}
