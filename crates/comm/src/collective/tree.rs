//! The tree over leaves, and what is added up along it.

use bytemuck::Pod;
use serde::{Deserialize, Serialize};

/// A number that can be reduced.
pub trait Number: Pod + PartialOrd + Send + Sync + std::fmt::Debug {
    /// The sum; wraps for integers, so that it does not depend on the order.
    fn plus(self, other: Self) -> Self;
    /// `self / count`; integers round down.
    fn divided(self, count: usize) -> Self;
}

macro_rules! numbers {
    ($plus:expr; $($t:ty),*) => {$(
        impl Number for $t {
            #[inline(always)]
            fn plus(self, other: $t) -> $t { let f: fn($t, $t) -> $t = $plus; f(self, other) }
            #[inline(always)]
            fn divided(self, count: usize) -> $t { self / count as $t }
        }
    )*};
}
numbers!(|a, b| a + b; f32, f64);
numbers!(|a, b| a.wrapping_add(b); u64, i64, u32, i32);

/// How values are combined. A mean is a sum divided by the number of leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Add.
    Sum,
    /// Add, then divide by the number of leaves.
    Mean,
    /// The larger; of two that do not compare (NaN) the earlier leaf's.
    Max,
}

/// A subtree of the tree over the leaves: those in `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// First leaf.
    pub start: u32,
    /// One past the last leaf.
    pub end: u32,
}

impl Node {
    /// The subtree of one leaf.
    pub fn leaf(leaf: usize) -> Node {
        Node { start: leaf as u32, end: leaf as u32 + 1 }
    }

    /// Height of the smallest aligned power-of-two span that holds this node.
    fn level(self) -> u32 {
        let mut level = 0;
        while (self.start >> level) << level != self.start || self.start + (1 << level) < self.end {
            level += 1;
        }
        level
    }

    /// The node that `self` and `right` form together in a tree over `leaves`, if they are siblings.
    ///
    /// # Examples
    /// ```
    /// use dunlin_comm::collective::Node;
    /// let node = |start, end| Node { start, end };
    /// assert_eq!(node(0, 2).join(node(2, 4), 5), Some(node(0, 4)));
    /// assert_eq!(node(2, 4).join(node(4, 5), 5), None, "neighbours, but not siblings");
    /// assert_eq!(node(0, 4).join(node(4, 5), 5), Some(node(0, 5)), "the last subtree may be incomplete");
    /// ```
    pub fn join(self, right: Node, leaves: usize) -> Option<Node> {
        if self.end != right.start {
            return None;
        }
        let level = self.level().max(right.level());
        let size = 1u32 << level;
        let parent_start = (self.start >> (level + 1)) << (level + 1);
        let complete = |node: Node| node.end == (node.start + size).min(leaves as u32);
        let siblings = self.start == parent_start && right.start == parent_start + size;
        (siblings && complete(self) && complete(right)).then_some(Node { start: self.start, end: right.end })
    }
}

/// Adds up parts in the order of the tree. Parts come in leaf order; siblings are combined as soon as both
/// are there, so that at most log2(leaves) + 1 wait.
#[derive(Debug)]
pub struct Folder<P> {
    leaves: usize,
    stack: Vec<(Node, P)>,
}

impl<P> Folder<P> {
    /// A folder for a tree over `leaves`.
    pub fn new(leaves: usize) -> Folder<P> {
        Folder { leaves, stack: Vec::new() }
    }

    /// Takes the next part, in leaf order; `combine(left, right)` adds `right` into `left`.
    // Always part of the caller, which may be compiled for more instructions than the rest.
    #[inline(always)]
    pub fn push(&mut self, node: Node, part: P, mut combine: impl FnMut(&mut P, P)) {
        self.stack.push((node, part));
        while let [.., (left, _), (right, _)] = &self.stack[..] {
            let Some(joined) = left.join(*right, self.leaves) else { break };
            let Some((_, right)) = self.stack.pop() else { break };
            if let Some((node, left)) = self.stack.last_mut() {
                *node = joined;
                combine(left, right);
            }
        }
    }

    /// The parts that could not be combined further; one if all leaves were there.
    pub fn into_parts(self) -> Vec<(Node, P)> {
        self.stack
    }
}

/// Combines `other` into `into`, number by number.
pub(super) fn fold<T: Number>(op: Op, into: &mut [T], other: &[T]) {
    match op {
        Op::Sum | Op::Mean => into.iter_mut().zip(other).for_each(|(a, b)| *a = a.plus(*b)),
        Op::Max => into.iter_mut().zip(other).for_each(|(a, b)| *a = if *b > *a { *b } else { *a }),
    }
}
