//! Collectives: barrier, broadcast, gather, and all_reduce along a fixed tree.
//!
//! Sums of floats depend on their order. Here the order is that of a binary tree over *leaves* (lanes), which
//! does not depend on how many ranks there are or which of them hosts which leaf: a rank adds up the maximal
//! subtrees it hosts, and whoever puts the parts together goes on along the same tree. So the result is the
//! same bits on 1, 2, 3 ... ranks. The price: a rank sends up to 2·log2(leaves) parts instead of one.

use crate::{Buffer, Channel, Comm, Message, Result};
use bytemuck::Pod;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

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

fn fold<T: Number>(op: Op, into: &mut [T], other: &[T]) {
    match op {
        Op::Sum | Op::Mean => into.iter_mut().zip(other).for_each(|(a, b)| *a = a.plus(*b)),
        Op::Max => into.iter_mut().zip(other).for_each(|(a, b)| *a = if *b > *a { *b } else { *a }),
    }
}

/// Bytes up to which every rank sends its parts to everybody; larger arrays are reduced in slices.
const SMALL_BYTES: usize = 32 << 10;

impl Comm {
    /// Waits until every rank has called it.
    ///
    /// # Blocking
    /// On all ranks.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Lost`].
    pub fn barrier(&mut self) -> Result<()> {
        self.all_reduce(&mut [0u64], Op::Sum)
    }

    /// Gives every rank the message of rank `root`.
    ///
    /// # Blocking
    /// Everyone but `root` waits for `root`.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Lost`].
    pub fn broadcast(&mut self, root: usize, message: Message) -> Result<Message> {
        if self.rank() != root {
            return self.recv(Channel::COLLECTIVE, Some(root), "broadcast");
        }
        for rank in (0..self.members()).filter(|rank| *rank != root) {
            self.send(rank, Channel::COLLECTIVE, message.clone())?;
        }
        Ok(Message { from: root, ..message })
    }

    /// Gives rank `root` the messages of all, in rank order; the others get nothing.
    ///
    /// # Blocking
    /// `root` waits for all.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Lost`].
    pub fn gather(&mut self, root: usize, message: Message) -> Result<Vec<Message>> {
        if self.rank() != root {
            self.send(root, Channel::COLLECTIVE, message)?;
            return Ok(Vec::new());
        }
        let mut own = Some(Message { from: root, ..message });
        (0..self.members())
            .map(|rank| match own.take_if(|_| rank == root) {
                Some(message) => Ok(message),
                None => self.recv(Channel::COLLECTIVE, Some(rank), "gather"),
            })
            .collect()
    }

    /// Gives every rank the messages of all, in rank order.
    ///
    /// # Blocking
    /// On all ranks.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Lost`].
    pub fn all_gather(&mut self, message: Message) -> Result<Vec<Message>> {
        let own = self.rank();
        for rank in (0..self.members()).filter(|rank| *rank != own) {
            self.send(rank, Channel::COLLECTIVE, message.clone())?;
        }
        let mut message = Some(Message { from: own, ..message });
        (0..self.members())
            .map(|rank| match message.take_if(|_| rank == own) {
                Some(message) => Ok(message),
                None => self.recv(Channel::COLLECTIVE, Some(rank), "all_gather"),
            })
            .collect()
    }

    /// Replaces `values` on every rank by their combination over ranks; every rank is one leaf.
    ///
    /// # Blocking
    /// On all ranks.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Lost`], [`crate::Error::BadMessage`] if lengths differ.
    ///
    /// # Examples
    /// ```
    /// use dunlin_comm::{Cluster, collective::Op};
    /// let sums = Cluster::Threads(3).run_closure(|comm| {
    ///     let mut values = [comm.rank() as f64, 1.0];
    ///     comm.all_reduce(&mut values, Op::Sum)?;
    ///     Ok(values)
    /// });
    /// assert_eq!(sums.unwrap(), [[3.0, 3.0]; 3]);
    /// ```
    pub fn all_reduce<T: Number>(&mut self, values: &mut [T], op: Op) -> Result<()> {
        let part = (Node::leaf(self.rank()), Buffer::from(&*values));
        let result = self.all_reduce_tree::<T>(vec![part], self.members(), values.len(), op)?;
        values.copy_from_slice(result.slice(0, values.len()).unwrap_or_default());
        Ok(())
    }

    /// The combination over all `leaves` of arrays of `length` numbers. This rank gives the `parts` of the
    /// leaves it hosts, in leaf order, each already combined along the tree ([`Folder`]); all ranks' parts
    /// together cover every leaf once.
    ///
    /// # Blocking
    /// On all ranks.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`], [`crate::Error::Lost`], [`crate::Error::BadMessage`] if lengths or leaves do
    /// not fit together.
    pub fn all_reduce_tree<T: Number>(
        &mut self,
        parts: Vec<(Node, Buffer)>,
        leaves: usize,
        length: usize,
        op: Op,
    ) -> Result<Arc<Buffer>> {
        let parts: Vec<(Node, Arc<Buffer>)> = parts.into_iter().map(|(n, b)| (n, Arc::new(b))).collect();
        if length * size_of::<T>() <= SMALL_BYTES || self.members() == 1 {
            let everything = self.exchange::<T>(&parts, |_| 0..length)?;
            return combine::<T>(everything, leaves, length, op).map(Arc::new);
        }
        let (rank, size) = (self.rank(), self.members());
        let slice = move |rank: usize| length * rank / size..length * (rank + 1) / size;
        let mine = self.exchange::<T>(&parts, slice)?;
        let mine = Arc::new(combine::<T>(mine, leaves, slice(rank).len(), op)?);
        for to in (0..size).filter(|to| *to != rank) {
            self.send(to, Channel::COLLECTIVE, Message::shared(&Vec::<Node>::new(), mine.clone()))?;
        }
        let mut result = Buffer::zeroed(length * size_of::<T>());
        for from in 0..size {
            let message = match from == rank {
                true => Message { from, head: Vec::new(), body: mine.clone() },
                false => self.recv(Channel::COLLECTIVE, Some(from), "all_reduce")?,
            };
            let range = slice(from);
            let place = result.slice_mut::<T>(range.start * size_of::<T>(), range.len());
            place.into_iter().for_each(|place| {
                if let Ok(values) = message.numbers::<T>(0, range.len()) {
                    place.copy_from_slice(values);
                }
            });
            message.numbers::<T>(0, range.len())?;
        }
        Ok(Arc::new(result))
    }

    /// Sends every rank `slice(rank)` of each part and returns all parts of the own slice.
    fn exchange<T: Number>(
        &mut self,
        parts: &[(Node, Arc<Buffer>)],
        slice: impl Fn(usize) -> Range<usize>,
    ) -> Result<Vec<(Node, Message, usize)>> {
        let (rank, whole) = (self.rank(), self.shares_memory());
        let nodes: Vec<Node> = parts.iter().map(|(node, _)| *node).collect();
        for to in (0..self.members()).filter(|to| *to != rank) {
            for (node, part) in parts {
                // Between threads the whole part goes as a pointer and the receiver reads its slice in place.
                let body = match whole {
                    true => part.clone(),
                    false => {
                        let range = slice(to);
                        let values = part.slice::<T>(range.start * size_of::<T>(), range.len());
                        Arc::new(Buffer::from(values.unwrap_or_default()))
                    }
                };
                self.send(to, Channel::COLLECTIVE, Message::shared(&(*node, nodes.len() as u32), body))?;
            }
        }
        let start = slice(rank).start * size_of::<T>();
        let mut all: Vec<_> = parts
            .iter()
            .map(|(node, part)| (*node, Message { from: rank, head: Vec::new(), body: part.clone() }, start))
            .collect();
        for from in (0..self.members()).filter(|from| *from != rank) {
            let mut missing = 1;
            let mut first = true;
            while missing > 0 {
                let message = self.recv(Channel::COLLECTIVE, Some(from), "all_reduce")?;
                let (node, count): (Node, u32) = message.head()?;
                missing = if first { count as usize } else { missing }.saturating_sub(1);
                first = false;
                all.push((node, message, if whole { start } else { 0 }));
            }
        }
        all.sort_by_key(|(node, _, _)| node.start);
        Ok(all)
    }
}

/// Combines parts that cover all leaves, in tree order.
fn combine<T: Number>(
    parts: Vec<(Node, Message, usize)>,
    leaves: usize,
    length: usize,
    op: Op,
) -> Result<Buffer> {
    let mut folder = Folder::new(leaves);
    for (node, message, start) in &parts {
        let values = Buffer::from(message.numbers::<T>(*start, length)?);
        folder.push(*node, values, |left, right| {
            if let (Some(left), Some(right)) = (left.slice_mut::<T>(0, length), right.slice::<T>(0, length)) {
                fold(op, left, right);
            }
        });
    }
    let mut parts = folder.into_parts();
    match (parts.pop(), parts.is_empty()) {
        (Some((node, mut sum)), true) if node.start == 0 && node.end as usize == leaves => {
            if let (Op::Mean, Some(values)) = (op, sum.slice_mut::<T>(0, length)) {
                values.iter_mut().for_each(|value| *value = value.divided(leaves));
            }
            Ok(sum)
        }
        _ => Err(crate::Error::BadMessage {
            from: 0,
            what: format!("the parts of this reduction do not cover {leaves} leaves once each"),
        }),
    }
}
