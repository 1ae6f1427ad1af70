//! Writing a part: each chunk in the form that suits it.

use super::{Encoding, Entry, Numbers, Part, Sink, set_bits};
use crate::table::{Element, Type};
use crate::update::Geometry;
use dunlin_comm::Buffer;
use std::sync::Arc;

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

pub(super) fn write_places(body: &mut Buffer, places: &[u16]) -> usize {
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
