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
//! Every piece starts at a multiple of 8 bytes. The choice changes bytes, never values.

use crate::isa::{self, Kernel};
use crate::table::{Element, Type};
use crate::update::{Geometry, with_type};
use crate::{Error, Result};
use dunlin_comm::collective::{Folder, Node};
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
            let Some(table) = table.filter(|table| (entry.chunk as usize) < table.chunks) else {
                return Err(bad(message, entry, "there is no such chunk"));
            };
            if last.replace(entry.key()).is_some_and(|last| last >= entry.key()) {
                return Err(bad(message, entry, "chunks must ascend"));
            }
            let sound = with_type!(table.element, T => {
                Numbers::<T>::read(&message.body, entry, table).is_some_and(|numbers| {
                    numbers.fits(table.elements(entry.chunk as usize).len())
                })
            });
            if !sound {
                return Err(bad(message, entry, "its numbers are not all there"));
            }
        }
        Ok(Part { entries, body: std::mem::take(&mut message.body) })
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
            Encoding::Narrow8 | Encoding::Narrow16 | Encoding::Pairs8 => None,
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

/// Writes a [`Part`], chunk by chunk.
#[derive(Debug)]
pub struct Writer<'a> {
    geometry: &'a [Geometry],
    entries: Vec<Entry>,
    body: Buffer,
    scratch: Buffer,
}

impl<'a> Writer<'a> {
    /// A writer into the memory of `spare`: fresh memory costs as much as the work.
    pub fn new(geometry: &'a [Geometry], mut spare: Buffer) -> Writer<'a> {
        spare.clear();
        Writer { geometry, entries: Vec::new(), body: spare, scratch: Buffer::new() }
    }

    /// Writes all numbers of a chunk in the smallest form, which it returns. Chunks must come in ascending order.
    #[inline(always)]
    pub fn chunk<T: Element>(&mut self, table: usize, chunk: usize, numbers: &[T]) -> Encoding {
        let stride = self.geometry[table].stride;
        let encoding = choose(numbers, stride);
        let body = &mut self.body;
        let offset = match (encoding, integers(numbers)) {
            (Encoding::Narrow8, Some(numbers)) => narrow::<i8>(body, numbers, |number| number as i8),
            (Encoding::Narrow16, Some(numbers)) => narrow::<i16>(body, numbers, |number| number as i16),
            (Encoding::Rows, _) => write_rows(body, numbers, stride),
            (Encoding::Pairs | Encoding::Pairs8, _) => {
                let zero = T::zeroed();
                let mut places = vec![0u16; numbers.len() + 1];
                let mut filled = 0;
                for (group, numbers) in numbers.chunks(16).enumerate() {
                    if count_filled(numbers) == 0 {
                        continue;
                    }
                    for (at, number) in numbers.iter().enumerate() {
                        places[filled] = (16 * group + at) as u16; // overwritten unless it counts: no branch to guess
                        filled += usize::from(*number != zero);
                    }
                }
                places.truncate(filled);
                let offset = write_places(body, &places);
                let place = |at: &u16| usize::from(*at);
                match (encoding, integers(numbers)) {
                    (Encoding::Pairs8, Some(numbers)) => {
                        gather(body, places.iter().map(|at| numbers[place(at)] as i8))
                    }
                    _ => gather(body, places.iter().map(|at| numbers[place(at)])),
                }
                offset
            }
            _ => body.extend(numbers),
        };
        self.enter(table, chunk, offset, encoding);
        encoding
    }

    /// Writes a chunk of which only some rows are not all zero: a bit for each row, and those rows that have it.
    #[inline(always)]
    pub fn rows<T: Element>(&mut self, table: usize, chunk: usize, bits: &[u8], rows: &[T]) {
        let (stride, zero) = (self.geometry[table].stride, T::zeroed());
        let filled: usize = rows.chunks(1 << 14).map(count_filled).sum();
        let small = largest_bits(rows) <= 127;
        let number_bytes = if small { 1 } else { size_of::<T>() };
        if self.geometry[table].elements(chunk).len() > 1 << 16
            || bits.len() + size_of_val(rows) <= 8 + (2 + number_bytes) * filled
        {
            let offset = self.body.extend(bits);
            self.body.extend(rows);
            return self.enter(table, chunk, offset, Encoding::Rows);
        }
        let (mut places, mut numbers) = (Vec::with_capacity(filled), Vec::with_capacity(filled));
        for (row, of_row) in set_bits(bits).zip(rows.chunks_exact(stride)) {
            for (at, number) in (row * stride..).zip(of_row).filter(|(_, number)| **number != zero) {
                places.push(at as u16);
                numbers.push(*number);
            }
        }
        let offset = write_places(&mut self.body, &places);
        let encoding = match integers(&numbers).filter(|_| small) {
            Some(numbers) => {
                gather(&mut self.body, numbers.iter().map(|number| *number as i8));
                Encoding::Pairs8
            }
            None => {
                self.body.extend(&numbers);
                Encoding::Pairs
            }
        };
        self.enter(table, chunk, offset, encoding);
    }

    /// Writes single numbers of a chunk: `numbers[i]` at `places[i]` within it, ascending.
    pub fn pairs<T: Element>(&mut self, table: usize, chunk: usize, places: &[u16], numbers: &[T]) {
        let offset = write_places(&mut self.body, places);
        self.body.extend(numbers);
        self.enter(table, chunk, offset, Encoding::Pairs);
    }

    fn enter(&mut self, table: usize, chunk: usize, offset: usize, encoding: Encoding) {
        let (table, chunk, offset) = (table as u16, chunk as u32, offset as u32);
        self.entries.push(Entry { table, chunk, offset, encoding });
    }

    /// The part.
    pub fn finish(self) -> Part {
        Part { entries: self.entries, body: Arc::new(self.body) }
    }
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn take<T: Element>(&mut self, table: usize, chunk: usize, numbers: Numbers<'_, T>) {
        match numbers {
            Numbers::Dense(numbers) => {
                self.chunk(table, chunk, numbers);
                return;
            }
            Numbers::Rows(bits, rows, _) => return self.rows(table, chunk, bits, rows),
            Numbers::Pairs(places, numbers) => return self.pairs(table, chunk, places, numbers),
            _ => {}
        }
        let count = self.geometry[table].elements(chunk).len();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(count * size_of::<T>());
        if let Some(dense) = scratch.slice_mut::<T>(0, count) {
            numbers.copy_to(dense);
            self.chunk(table, chunk, &*dense);
        }
        self.scratch = scratch;
    }
}

/// The numbers as integers, if they are.
#[inline(always)]
fn integers<T: Element>(numbers: &[T]) -> Option<&[i32]> {
    (T::TYPE == Type::I32).then(|| bytemuck::cast_slice(numbers))
}

/// The best way to write `numbers` down: the smallest, but pairs only if they are a quarter of the size of a dense form,
/// since picking numbers out costs more than copying them, and rows only if they are half.
#[inline(always)]
fn choose<T: Element>(numbers: &[T], stride: usize) -> Encoding {
    let size = size_of::<T>();
    let (filled, largest) = numbers.chunks(1 << 14).fold((0, 0), |(filled, largest), numbers| {
        (filled + count_filled(numbers), largest | largest_bits(numbers))
    });
    let (dense, bytes) = match largest {
        0..=127 => (Encoding::Narrow8, 1),
        128..=32767 => (Encoding::Narrow16, 2),
        _ => (Encoding::Dense, size),
    };
    let mut best = (dense, bytes * numbers.len());
    let pair_bytes = if largest <= 127 { 3 } else { 2 + size };
    if numbers.len() <= 1 << 16 && 4 * (16 + pair_bytes * filled) <= best.1 {
        let encoding = if largest <= 127 { Encoding::Pairs8 } else { Encoding::Pairs };
        best = (encoding, 16 + pair_bytes * filled);
    }
    if numbers.len().is_multiple_of(stride) && filled * 4 < numbers.len() {
        let zero = T::zeroed();
        let rows = numbers.chunks(stride).filter(|row| row.iter().any(|number| *number != zero)).count();
        let bytes = 16 + rows / 8 + rows * stride * size;
        if bytes < best.1 && 2 * bytes <= size_of_val(numbers) {
            best = (Encoding::Rows, bytes);
        }
    }
    best.0
}

/// How many of at most 65,535 numbers are not zero.
#[inline(always)]
fn count_filled<T: Element>(numbers: &[T]) -> usize {
    let zero = T::zeroed();
    numbers.iter().fold(0u32, |count, number| count + u32::from(*number != zero)) as usize
}

/// An integer with at least as many bits as any of `numbers`, its sign apart; `i32::MAX` if they are no integers.
#[inline(always)]
fn largest_bits<T: Element>(numbers: &[T]) -> i32 {
    integers(numbers).map_or(i32::MAX, |numbers| numbers.iter().fold(0, |most, n| most | (n ^ (n >> 31))))
}

#[inline(always)]
fn narrow<N: bytemuck::Pod>(body: &mut Buffer, numbers: &[i32], to: impl Fn(i32) -> N) -> usize {
    let offset = body.len().next_multiple_of(8);
    body.resize(offset + numbers.len() * size_of::<N>());
    if let Some(place) = body.slice_mut::<N>(offset, numbers.len()) {
        place.iter_mut().zip(numbers).for_each(|(narrow, number)| *narrow = to(*number));
    }
    offset
}

fn write_places(body: &mut Buffer, places: &[u16]) -> usize {
    let offset = body.extend(&[places.len() as u32, 0]);
    body.extend(places);
    offset
}

fn gather<N: bytemuck::Pod>(body: &mut Buffer, numbers: impl ExactSizeIterator<Item = N>) {
    let (offset, count) = (body.len().next_multiple_of(8), numbers.len());
    body.resize(offset + count * size_of::<N>());
    let place = body.slice_mut::<N>(offset, count).unwrap_or_default();
    place.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
}

fn write_rows<T: Element>(body: &mut Buffer, numbers: &[T], stride: usize) -> usize {
    let zero = T::zeroed();
    let filled: Vec<bool> = numbers.chunks(stride).map(|row| row.iter().any(|n| *n != zero)).collect();
    let mut bits = vec![0u8; filled.len().div_ceil(8)];
    filled.iter().enumerate().for_each(|(row, filled)| bits[row / 8] |= u8::from(*filled) << (row % 8));
    let offset = body.extend(&bits);
    let start = body.len().next_multiple_of(8);
    let count = filled.iter().filter(|filled| **filled).count() * stride;
    body.resize(start + count * size_of::<T>());
    let place = body.slice_mut::<T>(start, count).unwrap_or_default();
    let rows = numbers.chunks(stride).zip(&filled).filter(|(_, filled)| **filled);
    place.chunks_exact_mut(stride).zip(rows).for_each(|(place, (row, _))| place.copy_from_slice(row));
    offset
}

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

#[cfg(test)]
mod tests;
