//! Collectives: barrier, broadcast, gather, and all_reduce along a fixed tree.
//!
//! Sums of floats depend on their order. Here the order is that of a binary tree over *leaves* (lanes), which
//! does not depend on how many ranks there are or which of them hosts which leaf: a rank adds up the maximal
//! subtrees it hosts, and whoever puts the parts together goes on along the same tree. So the result is the
//! same bits on 1, 2, 3 ... ranks. The price: a rank sends up to 2·log2(leaves) parts instead of one.

use crate::{Buffer, Channel, Comm, Message, Result};
use std::ops::Range;
use std::sync::Arc;
use tree::fold;

mod tree;

pub use tree::{Folder, Node, Number, Op};

/// Bytes up to which every rank sends its parts to everybody; larger arrays are reduced in slices.
const SMALL_BYTES: usize = 32 << 10;
/// Up to this many ranks small arrays go from each to all, in one step. The messages of that are quadratic in the
/// ranks, so more than these use a tree of ranks: two messages each, in twice log2(ranks) steps.
const FEW_RANKS: usize = 32;

/// A part: what it is the combination of, the message that brought it, and the byte at which its numbers start.
type Part = (Node, Message, usize);

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
        let is_small = length * size_of::<T>() <= SMALL_BYTES;
        if is_small && self.members() > FEW_RANKS {
            return self.reduce_through_ranks::<T>(parts, leaves, length, op);
        }
        if is_small || self.members() == 1 {
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
    ) -> Result<Vec<Part>> {
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
            self.receive_parts(from, if whole { start } else { 0 }, &mut all)?;
        }
        all.sort_by_key(|(node, _, _)| node.start);
        Ok(all)
    }

    /// Receives all parts that rank `from` sends, whose numbers start at byte `start`.
    fn receive_parts(&mut self, from: usize, start: usize, all: &mut Vec<Part>) -> Result<()> {
        let mut missing = None;
        while missing != Some(0) {
            let message = self.recv(Channel::COLLECTIVE, Some(from), "all_reduce")?;
            let (node, count): (Node, u32) = message.head()?;
            missing = Some(missing.unwrap_or(count).saturating_sub(1));
            all.push((node, message, start));
        }
        Ok(())
    }

    /// Small arrays between many ranks. Rank r gets the parts of r + 1, r + 2, r + 4, ... below its own lowest bit,
    /// combines what are siblings, and passes the rest to r without that bit; the result comes back the same way.
    fn reduce_through_ranks<T: Number>(
        &mut self,
        parts: Vec<(Node, Arc<Buffer>)>,
        leaves: usize,
        length: usize,
        op: Op,
    ) -> Result<Arc<Buffer>> {
        let (rank, size) = (self.rank(), self.members());
        let lowest_bit = if rank == 0 { size.next_power_of_two() } else { 1 << rank.trailing_zeros() };
        let steps = (0..lowest_bit.ilog2()).map(|bit| 1usize << bit);
        let children: Vec<usize> = steps.map(|step| rank + step).filter(|child| *child < size).collect();
        let own = |(node, body)| (node, Message { from: rank, head: Vec::new(), body }, 0);
        let mut all: Vec<Part> = parts.into_iter().map(own).collect();
        for child in &children {
            self.receive_parts(*child, 0, &mut all)?;
        }
        all.sort_by_key(|(node, _, _)| node.start);
        let result = if rank == 0 {
            Arc::new(combine::<T>(all, leaves, length, op)?)
        } else {
            let parent = rank - lowest_bit;
            let parts = fold_siblings::<T>(all, leaves, length, op)?;
            let count = parts.len() as u32;
            for (node, sum) in parts {
                self.send(parent, Channel::COLLECTIVE, Message::new(&(node, count), sum))?;
            }
            let message = self.recv(Channel::COLLECTIVE, Some(parent), "all_reduce")?;
            message.numbers::<T>(0, length)?;
            message.body
        };
        for child in children.into_iter().rev() {
            self.send(child, Channel::COLLECTIVE, Message::shared(&(), result.clone()))?;
        }
        Ok(result)
    }
}

/// Combines those of the parts, which are in leaf order, that are siblings in the tree.
fn fold_siblings<T: Number>(
    parts: Vec<Part>,
    leaves: usize,
    length: usize,
    op: Op,
) -> Result<Vec<(Node, Buffer)>> {
    let mut folder = Folder::new(leaves);
    for (node, message, start) in &parts {
        let values = Buffer::from(message.numbers::<T>(*start, length)?);
        folder.push(*node, values, |left, right| {
            if let (Some(left), Some(right)) = (left.slice_mut::<T>(0, length), right.slice::<T>(0, length)) {
                fold(op, left, right);
            }
        });
    }
    Ok(folder.into_parts())
}

/// Combines parts that cover all leaves, in tree order.
fn combine<T: Number>(parts: Vec<Part>, leaves: usize, length: usize, op: Op) -> Result<Buffer> {
    let mut parts = fold_siblings::<T>(parts, leaves, length, op)?;
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
