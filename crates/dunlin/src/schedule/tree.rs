//! Numbers to draw from in proportion to their size, each draw and each change in O(log n).

/// Non-negative weights under a binary tree of their sums. A sum is always its two children's, never brought up to date
/// by a difference: no error builds up, and the same weights make the same bits whatever they were before.
#[derive(Clone, Debug)]
pub struct SumTree {
    /// A power of two: place of the first leaf.
    leaves: usize,
    length: usize,
    /// Node 1 is the root, node n has the children 2n and 2n + 1.
    nodes: Vec<f64>,
}

/// The largest weight: sums of as many as memory holds are finite.
const MOST: f64 = 1e200;

impl SumTree {
    /// `length` weights of zero.
    pub fn new(length: usize) -> SumTree {
        let leaves = length.max(1).next_power_of_two();
        SumTree { leaves, length, nodes: vec![0.0; 2 * leaves] }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The sum of all weights.
    pub fn total(&self) -> f64 {
        self.nodes[1]
    }

    /// Weight `at`.
    pub fn get(&self, at: usize) -> f64 {
        self.nodes[self.leaves + at]
    }

    /// Sets weight `at`. What is no number counts as zero, what is infinite as very large.
    pub fn set(&mut self, at: usize, weight: f64) {
        let mut node = self.leaves + at;
        self.nodes[node] = if weight > 0.0 { weight.min(MOST) } else { 0.0 };
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1];
        }
    }

    /// The weight in which `point`, from 0 to the total, lies if all are put end to end; never one of weight zero.
    /// `None` if all are zero.
    pub fn find(&self, mut point: f64) -> Option<usize> {
        if self.total() <= 0.0 {
            return None;
        }
        let mut node = 1;
        while node < self.leaves {
            let left = self.nodes[2 * node];
            node *= 2;
            // Rounding may put the point past the end of a sum.
            if point >= left && self.nodes[node + 1] > 0.0 {
                (point, node) = (point - left, node + 1);
            }
        }
        Some((node - self.leaves).min(self.length - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn a_point_finds_the_weight_that_it_lies_in() {
        for length in [1, 2, 3, 7, 64, 100] {
            let mut rng = stream(length as u64, "sum-tree-test", &[]);
            let mut tree = SumTree::new(length);
            assert_eq!(tree.find(0.0), None);
            let weights: Vec<f64> = (0..length).map(|_| rng.below(4) as f64).collect();
            weights.iter().enumerate().for_each(|(at, weight)| tree.set(at, *weight));
            assert_eq!(tree.total(), weights.iter().sum::<f64>());
            let mut start = 0.0;
            for (at, weight) in weights.iter().enumerate() {
                for part in 0..*weight as usize {
                    assert_eq!(tree.find(start + part as f64 + 0.5), Some(at), "{weights:?}");
                }
                start += weight;
            }
            if start > 0.0 {
                let past = tree.find(start * 2.0);
                assert!(past.is_some_and(|at| weights[at] > 0.0), "{past:?} of {weights:?}");
            }
        }
    }

    #[test]
    fn no_weight_is_lost_to_what_is_no_number() {
        let mut tree = SumTree::new(3);
        [f64::NAN, f64::INFINITY, -1.0].into_iter().enumerate().for_each(|(at, weight)| tree.set(at, weight));
        assert_eq!((tree.get(0), tree.get(2)), (0.0, 0.0));
        assert!(tree.total().is_finite());
        assert_eq!(tree.find(5.0), Some(1));
    }
}
