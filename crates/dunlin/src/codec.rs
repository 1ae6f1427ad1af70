//! Parts: numbers for some chunks of some tables, each chunk written down dense, as rows, as pairs, or as narrow
//! integers, whichever is smallest. In memory and on the wire they are the same bytes.
//!
//! ```text
//! dense    all numbers as they are
//! rows     one bit a row (u8 for 8 rows), then the rows that are not all zero
//! pairs    u32 count, count x u16 position, then count numbers       (positions count within the chunk)
//! pairs8   the same with integers of -128..=127, one byte each
//! narrow8  all numbers, as integers of -128..=127, one byte each
//! narrow16 all numbers, as integers of -32768..=32767, two bytes each
//! ```
//! On their way, dense numbers, rows and pairs of f32 may have 16 bits each (`packed.rs`); row blocks of counts are
//! written down like this too (`counts.rs`).
//! Every piece starts at a multiple of 8 bytes. The choice changes bytes, never values.

mod counts;
mod packed;
mod sum;
mod writer;

pub use counts::{pack_counts, unpack_counts};
pub use sum::{add_neighbours, add_up};
pub use writer::Writer;

use crate::table::{Element, Type};
use crate::transfer::Format;
use crate::update::{Geometry, with_type};
use crate::{Error, Result};
use dunlin_comm::{Buffer, Message};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How one chunk is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// All numbers.
    Dense,
    /// Rows that are not all zero.
    Rows,
    /// Positions and numbers.
    Pairs,
    /// Positions and one-byte integers.
    Pairs8,
    /// One-byte integers.
    Narrow8,
    /// Two-byte integers.
    Narrow16,
    /// On the wire alone: floats of 16 bits, in this format.
    Packed(Format, Layout),
}

/// How packed floats are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// As [`Encoding::Dense`].
    Dense,
    /// As [`Encoding::Rows`].
    Rows,
    /// As [`Encoding::Pairs`].
    Pairs,
}

impl Encoding {
    /// True if all numbers are written down, also those that are zero.
    pub fn is_dense(self) -> bool {
        matches!(self, Encoding::Dense | Encoding::Narrow8 | Encoding::Narrow16)
    }
}

/// Where a chunk's numbers are in the body of a [`Part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Table number.
    pub table: u16,
    /// Chunk number.
    pub chunk: u32,
    /// Byte where the numbers start.
    pub offset: u32,
    /// How they are written.
    pub encoding: Encoding,
}

impl Entry {
    /// What entries are sorted by.
    pub fn key(&self) -> (u16, u32) {
        (self.table, self.chunk)
    }
}

/// Numbers for some chunks of some tables: updates, or values. Entries ascend by (table, chunk).
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The chunks.
    pub entries: Vec<Entry>,
    /// Their numbers.
    pub body: Arc<Buffer>,
}

impl Part {
    /// The part that `message` carries, once every length and index in it has been checked.
    ///
    /// # Errors
    /// A message that names the sender and what is wrong.
    pub fn received(message: &mut Message, entries: Vec<Entry>, geometry: &[Geometry]) -> Result<Part> {
        let mut last = None;
        for entry in &entries {
            let table = geometry.get(usize::from(entry.table));
            if table.is_none_or(|table| entry.chunk as usize >= table.chunks) {
                return Err(bad(message, entry, "there is no such chunk"));
            }
            if last.replace(entry.key()).is_some_and(|last| last >= entry.key()) {
                return Err(bad(message, entry, "chunks must ascend"));
            }
        }
        let (entries, body) = packed::unpacked(message, entries, geometry)?;
        for entry in &entries {
            let table = &geometry[usize::from(entry.table)];
            let sound = with_type!(table.element, T => {
                Numbers::<T>::read(&body, entry, table).is_some_and(|numbers| {
                    numbers.fits(table.elements(entry.chunk as usize).len())
                })
            });
            if !sound {
                return Err(bad(message, entry, "its numbers are not all there"));
            }
        }
        Ok(Part { entries, body })
    }

    /// The numbers of `entry`, if they are of type `T` and all there.
    pub fn numbers<T: Element>(&self, entry: &Entry, geometry: &[Geometry]) -> Option<Numbers<'_, T>> {
        Numbers::read(&self.body, entry, geometry.get(usize::from(entry.table))?)
    }

    /// Bytes that its chunks would have if all numbers were written down.
    pub fn dense_bytes(&self, geometry: &[Geometry]) -> usize {
        let bytes = |entry: &Entry| {
            let table = &geometry[usize::from(entry.table)];
            table.elements(entry.chunk as usize).len() * table.element.bytes()
        };
        self.entries.iter().map(bytes).sum()
    }
}

fn bad(message: &Message, entry: &Entry, what: &str) -> Error {
    Error::Comm(message.bad(format!("chunk {} of table {}: {what}", entry.chunk, entry.table)))
}

/// The numbers of one chunk, as they are written down.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a, T> {
    /// All of them.
    Dense(&'a [T]),
    /// A bit for each row, and those rows of `stride` numbers whose bit is set.
    Rows(&'a [u8], &'a [T], usize),
    /// Positions, and the numbers there; zero elsewhere.
    Pairs(&'a [u16], &'a [T]),
    /// Positions, and the integers there; zero elsewhere.
    Pairs8(&'a [u16], &'a [i8]),
    /// All of them, narrow.
    Narrow8(&'a [i8]),
    /// All of them, narrow.
    Narrow16(&'a [i16]),
}

impl<'a, T: Element> Numbers<'a, T> {
    #[inline(always)]
    fn read(body: &'a Buffer, entry: &Entry, table: &Geometry) -> Option<Numbers<'a, T>> {
        let (at, count) = (entry.offset as usize, table.elements(entry.chunk as usize).len());
        let integers = T::TYPE == Type::I32;
        if table.element != T::TYPE {
            return None;
        }
        let pairs = || {
            let filled = *body.slice::<u32>(at, 1)?.first()? as usize;
            let values = (at + 8).checked_add(filled.checked_mul(2)?)?.checked_next_multiple_of(8)?;
            Some((body.slice::<u16>(at + 8, filled)?, values, filled))
        };
        match entry.encoding {
            Encoding::Dense => body.slice(at, count).map(Numbers::Dense),
            Encoding::Narrow8 if integers => body.slice(at, count).map(Numbers::Narrow8),
            Encoding::Narrow16 if integers => body.slice(at, count).map(Numbers::Narrow16),
            Encoding::Pairs8 if integers => {
                pairs().and_then(|(places, at, n)| Some(Numbers::Pairs8(places, body.slice(at, n)?)))
            }
            Encoding::Pairs => {
                pairs().and_then(|(places, at, n)| Some(Numbers::Pairs(places, body.slice(at, n)?)))
            }
            Encoding::Rows => {
                let bits = body.slice::<u8>(at, (count / table.stride).div_ceil(8))?;
                let filled: usize = bits.iter().map(|bits| bits.count_ones() as usize).sum();
                let rows = body.slice((at + bits.len()).next_multiple_of(8), filled * table.stride)?;
                Some(Numbers::Rows(bits, rows, table.stride))
            }
            Encoding::Narrow8 | Encoding::Narrow16 | Encoding::Pairs8 | Encoding::Packed(..) => None,
        }
    }

    /// True if every position is one of a chunk of `count` numbers. Lengths were checked when it was read.
    fn fits(&self, count: usize) -> bool {
        match self {
            Numbers::Pairs(places, _) | Numbers::Pairs8(places, _) => {
                usize::from(places.iter().fold(0, |most, at| most.max(*at))) < count.max(1)
            }
            Numbers::Rows(bits, _, stride) => {
                let rows = count / stride;
                count.is_multiple_of(*stride)
                    && (rows.is_multiple_of(8) || bits.last().is_none_or(|last| last >> (rows % 8) == 0))
            }
            _ => true,
        }
    }

    /// Adds them to `sums`, the numbers of the whole chunk.
    #[inline(always)]
    pub fn add_to(&self, sums: &mut [T]) {
        match self {
            Numbers::Dense(numbers) => {
                sums.iter_mut().zip(*numbers).for_each(|(sum, number)| *sum = sum.plus(*number));
            }
            Numbers::Narrow8(numbers) => add_narrow(sums, numbers),
            Numbers::Narrow16(numbers) => add_narrow(sums, numbers),
            _ => {
                self.each_run(|at, numbers| {
                    let sums = sums.get_mut(at..).unwrap_or_default();
                    sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.plus(*number));
                });
            }
        }
    }

    /// Puts them over `values`, the numbers of the whole chunk.
    #[inline(always)]
    pub fn copy_to(&self, values: &mut [T]) {
        match self {
            Numbers::Dense(numbers) => values.copy_from_slice(numbers),
            Numbers::Narrow8(numbers) => copy_narrow(values, numbers),
            Numbers::Narrow16(numbers) => copy_narrow(values, numbers),
            _ => {
                values.fill(T::zeroed());
                self.each_run(|at, numbers| {
                    if let Some(values) = values.get_mut(at..at + numbers.len()) {
                        values.copy_from_slice(numbers);
                    }
                });
            }
        }
    }

    /// If most numbers are zero and not written down: calls `out(position, numbers)` for runs of the others, in
    /// ascending order, and returns true.
    #[inline(always)]
    pub fn each_run(&self, mut out: impl FnMut(usize, &[T])) -> bool {
        match self {
            Numbers::Pairs(places, numbers) => {
                let pairs = places.iter().zip(numbers.chunks_exact(1));
                pairs.for_each(|(at, number)| out(usize::from(*at), number));
            }
            Numbers::Pairs8(places, numbers) => {
                let pairs = places.iter().zip(*numbers);
                pairs.for_each(|(at, number)| out(usize::from(*at), &[T::from_i32(i32::from(*number))]));
            }
            Numbers::Rows(bits, rows, stride) => {
                let rows = set_bits(bits).zip(rows.chunks_exact(*stride));
                rows.for_each(|(row, numbers)| out(row * stride, numbers));
            }
            _ => return false,
        }
        true
    }
}

/// The places of the bits that are set.
fn set_bits(bits: &[u8]) -> impl Iterator<Item = usize> {
    let bytes = bits.iter().enumerate().filter(|(_, bits)| **bits != 0);
    bytes.flat_map(|(byte, bits)| {
        (0..8).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| 8 * byte + bit)
    })
}

/// Chunks of integers as such; a chunk of floats has none that are narrow.
#[inline(always)]
fn add_narrow<T: Element, N: Copy + Into<i32>>(sums: &mut [T], numbers: &[N]) {
    sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.plus(T::from_i32((*number).into())));
}

#[inline(always)]
fn copy_narrow<T: Element, N: Copy + Into<i32>>(values: &mut [T], numbers: &[N]) {
    values.iter_mut().zip(numbers).for_each(|(value, number)| *value = T::from_i32((*number).into()));
}

/// What takes chunks one after the other, in ascending order.
pub trait Sink {
    /// Takes the numbers of one chunk. To be `#[inline(always)]`: it is part of a kernel.
    fn take<T: Element>(&mut self, table: usize, chunk: usize, numbers: Numbers<'_, T>);
}

#[cfg(test)]
mod tests;
