//! Layers into contiguous stages.

use crate::{Error, Result};

/// How layers become stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// The slowest stage is as fast as it can be.
    #[default]
    Balanced,
    /// As many layers in every stage as in the next; the first stages have one more where it does not divide.
    Even,
}

impl Cut {
    /// The cut for a word: `balanced`, `even`.
    ///
    /// # Errors
    /// Another word.
    pub fn from_word(word: &str) -> Result<Cut> {
        match word {
            "balanced" => Ok(Cut::Balanced),
            "even" => Ok(Cut::Even),
            _ => Err(Error::usage(format!("cut {word}: balanced or even"))),
        }
    }

    /// Bounds for 1, 2, ... `deepest` stages of the layers with these weights (`deepest` at most their number, weights
    /// at least 0): `bounds[p - 1]` has p + 1 entries, the first 0, the last the number of layers, growing.
    pub(crate) fn all(self, weights: &[f64], deepest: usize) -> Vec<Vec<usize>> {
        match self {
            Cut::Balanced => balanced(weights, deepest),
            Cut::Even => (1..=deepest).map(|stages| even(weights.len(), stages)).collect(),
        }
    }
}

fn even(layers: usize, stages: usize) -> Vec<usize> {
    let (each, left) = (layers / stages, layers % stages);
    (0..=stages).map(|stage| stage * each + stage.min(left)).collect()
}

/// `best[p][j]` = the least possible weight of the heaviest of p + 1 stages over the first j layers
///            = min over i of max(best[p - 1][i], weight of layers i..j).
/// The first grows and the second falls with i, so the minimum is where they cross: O(stages x layers x log layers).
/// Of equals the smallest i: what is left over goes to the later stages, which hold fewer micro-batches.
fn balanced(weights: &[f64], deepest: usize) -> Vec<Vec<usize>> {
    let mut prefix = vec![0.0];
    for weight in weights {
        prefix.push(prefix[prefix.len() - 1] + weight);
    }
    let layers = weights.len();
    let mut best = prefix.clone();
    let mut starts: Vec<Vec<usize>> = vec![vec![0; layers + 1]]; // where the last of p + 1 stages starts
    for stage in 1..deepest {
        let (mut next, mut from) = (vec![f64::INFINITY; layers + 1], vec![0; layers + 1]);
        for end in stage + 1..=layers {
            // starts from `stage` to `end - 1` leave no stage empty
            let crossing = stage + partition(stage, end, |start| best[start] < prefix[end] - prefix[start]);
            let candidates = [crossing.saturating_sub(1).max(stage), crossing.min(end - 1)];
            for start in candidates {
                let heaviest = best[start].max(prefix[end] - prefix[start]);
                if heaviest < next[end] {
                    (next[end], from[end]) = (heaviest, start);
                }
            }
        }
        best = next;
        starts.push(from);
    }
    (1..=deepest).map(|stages| bounds(&starts[..stages], layers)).collect()
}

/// How many of low..high come before the first that is not `before`.
fn partition(low: usize, high: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (low, high);
    while from < to {
        let middle = from + (to - from) / 2;
        if before(middle) { from = middle + 1 } else { to = middle }
    }
    from - low
}

fn bounds(starts: &[Vec<usize>], layers: usize) -> Vec<usize> {
    let mut bounds = vec![layers];
    let mut end = layers;
    for from in starts.iter().rev() {
        end = from[end];
        bounds.push(end);
    }
    bounds.reverse();
    bounds
}
