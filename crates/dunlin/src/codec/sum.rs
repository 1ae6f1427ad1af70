//! Adding parts along the lane tree, chunk by chunk.

use super::{Entry, Numbers, Part, Sink, Writer, set_bits};
use crate::isa::{self, Kernel};
use crate::table::Element;
use crate::update::{Geometry, with_type};
use dunlin_comm::Buffer;
use dunlin_comm::collective::{Folder, Node};
use std::sync::Arc;

/// Adds parts along the lane tree: those of neighbours first, so that floats come out the same whoever adds.
/// Chunk by chunk, so that numbers stay in the nearest caches. `parts` cover different lanes, in their order, and
/// all belong below one node of the tree over `lanes`.
pub fn add_up(parts: &[(Node, Part)], lanes: usize, geometry: &[Geometry], sink: &mut impl Sink) {
    isa::run(AddUp { parts, lanes, geometry, sink });
}

struct AddUp<'a, S> {
    parts: &'a [(Node, Part)],
    lanes: usize,
    geometry: &'a [Geometry],
    sink: &'a mut S,
}

impl<S: Sink> Kernel for AddUp<'_, S> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        each_sum(self.parts, self.lanes, self.geometry, self.sink);
    }
}

#[inline(always)]
fn each_sum(parts: &[(Node, Part)], lanes: usize, geometry: &[Geometry], sink: &mut impl Sink) {
    let mut next = vec![0; parts.len()];
    let mut spare = Vec::new();
    loop {
        let heads = parts.iter().zip(&next).filter_map(|((_, part), next)| part.entries.get(*next));
        let Some(key) = heads.map(Entry::key).min() else { return };
        let (table, chunk) = (usize::from(key.0), key.1 as usize);
        with_type!(geometry[table].element, T => {
            let mut folder = Folder::new(lanes);
            for ((node, part), next) in parts.iter().zip(&mut next) {
                let entry = part.entries.get(*next).filter(|entry| entry.key() == key);
                *next += usize::from(entry.is_some());
                let sum = entry.and_then(|entry| part.numbers::<T>(entry, geometry)).map_or(Sum::Nothing, Sum::One);
                folder.push(*node, sum, |left, right| left.add(right, &geometry[table], chunk, &mut spare));
            }
            for (_, sum) in folder.into_parts() {
                sum.numbers(&geometry[table], chunk).into_iter().for_each(|numbers| sink.take(table, chunk, numbers));
                spare.extend(sum.into_buffer());
            }
        });
    }
}

/// The sum of one chunk over some lanes.
enum Sum<'a, T> {
    Nothing,
    One(Numbers<'a, T>),
    /// Bits, and the rows that have one.
    Rows(Vec<u8>, Buffer),
    /// All numbers.
    Many(Buffer),
}

impl<T: Element> Sum<'_, T> {
    /// The sum as numbers of `chunk`.
    fn numbers(&self, table: &Geometry, chunk: usize) -> Option<Numbers<'_, T>> {
        match self {
            Sum::Nothing => None,
            Sum::One(numbers) => Some(*numbers),
            Sum::Rows(bits, rows) => {
                let rows = rows.slice(0, rows.len() / size_of::<T>())?;
                Some(Numbers::Rows(bits, rows, table.stride))
            }
            Sum::Many(buffer) => buffer.slice(0, table.elements(chunk).len()).map(Numbers::Dense),
        }
    }

    fn into_buffer(self) -> Option<Buffer> {
        match self {
            Sum::Rows(_, buffer) | Sum::Many(buffer) => Some(buffer),
            Sum::Nothing | Sum::One(_) => None,
        }
    }

    /// Adds `right`, both being sums of the same chunk.
    #[inline(always)]
    fn add(&mut self, right: Self, table: &Geometry, chunk: usize, spare: &mut Vec<Buffer>) {
        let left = std::mem::replace(self, Sum::Nothing);
        let (Some(first), Some(second)) = (left.numbers(table, chunk), right.numbers(table, chunk)) else {
            *self = if matches!(left, Sum::Nothing) { right } else { left };
            return;
        };
        let count = table.elements(chunk).len();
        if let Some(bits) = joint_rows(&first, &second, table.stride, count) {
            let mut buffer = spare.pop().unwrap_or_default();
            add_rows(&first, &second, &bits, table.stride, &mut buffer);
            spare.extend(left.into_buffer());
            *self = Sum::Rows(bits, buffer);
        } else if let Sum::Many(mut buffer) = left {
            buffer.slice_mut(0, count).into_iter().for_each(|sums| second.add_to(sums));
            *self = Sum::Many(buffer);
        } else {
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.resize(count * size_of::<T>());
            buffer.slice_mut(0, count).into_iter().for_each(|sums| {
                first.copy_to(sums);
                second.add_to(sums);
            });
            spare.extend(left.into_buffer());
            *self = Sum::Many(buffer);
        }
        spare.extend(right.into_buffer());
    }
}

/// The rows that `first` or `second` has something in, if both are sparse and so are they together.
fn joint_rows<T: Element>(
    first: &Numbers<T>,
    second: &Numbers<T>,
    stride: usize,
    count: usize,
) -> Option<Vec<u8>> {
    let rows = count / stride;
    if !count.is_multiple_of(stride) {
        return None;
    }
    let mut bits = vec![0u8; rows.div_ceil(8)];
    for numbers in [first, second] {
        match numbers {
            Numbers::Rows(own, ..) => bits.iter_mut().zip(*own).for_each(|(bits, own)| *bits |= own),
            Numbers::Pairs(places, _) | Numbers::Pairs8(places, _) if places.len() * 4 < count => {
                for row in places.iter().map(|at| usize::from(*at) / stride) {
                    bits[row / 8] |= 1 << (row % 8);
                }
            }
            _ => return None,
        }
    }
    let filled: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
    (filled as usize * 4 < rows).then_some(bits)
}

/// Puts the sums of the rows `bits` into `buffer`.
fn add_rows<T: Element>(
    first: &Numbers<T>,
    second: &Numbers<T>,
    bits: &[u8],
    stride: usize,
    buffer: &mut Buffer,
) {
    let filled: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
    let count = filled as usize * stride;
    buffer.resize(count * size_of::<T>());
    let Some(sums) = buffer.slice_mut::<T>(0, count) else { return };
    sums.fill(T::zeroed());
    for numbers in [first, second] {
        let mut rows = set_bits(bits).enumerate().peekable();
        numbers.each_run(|at, numbers| {
            // Runs ascend, as the rows do: each is found by going on from the last.
            while rows.peek().is_some_and(|(_, row)| *row < at / stride) {
                rows.next();
            }
            let start = rows.peek().map_or(0, |(place, _)| place * stride) + at % stride;
            let sums = sums.get_mut(start..).unwrap_or_default();
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.plus(*number));
        });
    }
}

/// Adds up neighbouring lanes' parts as far as the lane tree goes: what is left are the largest subtrees that
/// `parts`, in the order of their lanes, cover.
pub fn add_neighbours(
    parts: Vec<(Node, Part)>,
    lanes: usize,
    geometry: &[Geometry],
    spare: &mut Vec<Buffer>,
) -> Vec<(Node, Part)> {
    let mut groups = Folder::new(lanes);
    for (node, part) in parts {
        groups.push(node, vec![(node, part)], |left, mut right| left.append(&mut right));
    }
    let added = groups.into_parts().into_iter().map(|(node, mut group)| {
        if group.len() == 1
            && let Some((_, part)) = group.pop()
        {
            return (node, part);
        }
        let mut writer = Writer::new(geometry, spare.pop().unwrap_or_default());
        add_up(&group, lanes, geometry, &mut writer);
        spare.extend(group.into_iter().filter_map(|(_, part)| Arc::into_inner(part.body)));
        (node, writer.finish())
    });
    added.collect()
}
