//! How chunks of numbers travel: dense, as rows, as pairs, or as narrow integers, whichever is smallest.
//!
//! ```text
//! dense   all numbers as they are
//! rows    one bit per row (u8 each 8 rows), then the rows that are not all zero
//! pairs   u32 count, count x u16 position, then count numbers        (positions count within the chunk)
//! narrow8 integers of -128..=127, one byte each
//! narrow16 integers of -32768..=32767, two bytes each
//! ```
//! Pairs of integers carry narrow numbers where all of them fit. The choice changes bytes, never values.

use crate::table::{Element, Type};
use crate::update::{Entry, Geometry, Part, with_type};
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
}

/// A chunk in an encoded body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoded {
    /// Which chunk, and the byte where it starts.
    pub entry: Entry,
    /// How it is written.
    pub encoding: Encoding,
}

/// Writes `part` down, each chunk in its smallest form.
pub fn encode(part: &Part, geometry: &[Geometry]) -> (Vec<Encoded>, Buffer) {
    let mut body = Buffer::new();
    body.reserve(part.body.len() + 64 * part.entries.len()); // no form is larger than dense
    let encoded = part.entries.iter().map(|entry| {
        let table = &geometry[usize::from(entry.table)];
        let (encoding, offset) = with_type!(table.element, T => {
            encode_chunk::<T>(part.numbers::<T>(entry, geometry).unwrap_or_default(), table.stride, &mut body)
        });
        Encoded { entry: Entry { offset: offset as u32, ..*entry }, encoding }
    });
    (encoded.collect(), body)
}

/// Reads back what [`encode`] wrote. Every length and index is checked.
///
/// # Errors
/// A message that names the sender and what is wrong.
pub fn decode(message: &Message, encoded: &[Encoded], geometry: &[Geometry]) -> Result<Part> {
    let mut body = Buffer::new();
    let mut entries = Vec::with_capacity(encoded.len().min(1 << 20));
    let mut total = 0;
    let mut last = None;
    for entry in encoded.iter().map(|chunk| chunk.entry) {
        let table = check(message, &entry, geometry)?;
        if last.replace(entry.key()).is_some_and(|last| last >= entry.key()) {
            return Err(bad(message, &entry, "chunks must ascend")); // which bounds what a message makes us hold
        }
        total += 64 + table.elements(entry.chunk as usize).len() * table.element.bytes();
    }
    body.reserve(total);
    for chunk in encoded {
        let entry = chunk.entry;
        let table = check(message, &entry, geometry)?;
        let offset = with_type!(table.element, T => decode_chunk::<T>(message, chunk, table, &mut body));
        let offset = offset.ok_or_else(|| bad(message, &entry, "its numbers are not all there"))?;
        entries.push(Entry { offset: offset as u32, ..entry });
    }
    Ok(Part { entries, body: Arc::new(body) })
}

/// Checks that all chunks of a dense part exist and are all there.
///
/// # Errors
/// As [`decode`].
pub fn check_dense(message: &Message, entries: &[Entry], geometry: &[Geometry]) -> Result<()> {
    for entry in entries {
        let table = check(message, entry, geometry)?;
        let bytes = table.elements(entry.chunk as usize).len() * table.element.bytes();
        if entry.offset as usize + bytes > message.body.len() || entry.offset % 8 != 0 {
            return Err(bad(message, entry, "its numbers are not all there"));
        }
    }
    Ok(())
}

fn check<'a>(message: &Message, entry: &Entry, geometry: &'a [Geometry]) -> Result<&'a Geometry> {
    let table = geometry.get(usize::from(entry.table)).filter(|table| (entry.chunk as usize) < table.chunks);
    table.ok_or_else(|| bad(message, entry, "there is no such chunk"))
}

fn bad(message: &Message, entry: &Entry, what: &str) -> Error {
    Error::Comm(message.bad(format!("chunk {} of table {}: {what}", entry.chunk, entry.table)))
}

/// The numbers as integers, if they are.
fn integers<T: Element>(numbers: &[T]) -> Option<&[i32]> {
    (T::TYPE == Type::I32).then(|| bytemuck::cast_slice(numbers))
}

/// The smallest way to write `numbers` down.
fn choose<T: Element>(numbers: &[T], stride: usize) -> Encoding {
    let zero = T::zeroed();
    let size = size_of::<T>();
    let filled = numbers.iter().map(|number| usize::from(*number != zero)).sum::<usize>();
    // Integers without their sign bit repeated: at most 127 and 32767 fit one and two bytes.
    let largest = integers(numbers).map(|numbers| numbers.iter().fold(0, |most, n| most | (n ^ (n >> 31))));
    let fits =
        |limit: i32, bytes: usize| if largest.is_some_and(|most| most <= limit) { bytes } else { usize::MAX };
    let whole_rows = numbers.len().is_multiple_of(stride);
    let rows = match whole_rows && filled * 4 < numbers.len() {
        true => numbers.chunks(stride).filter(|row| row.iter().any(|number| *number != zero)).count(),
        false => numbers.len() / stride,
    };
    let forms = [
        (Encoding::Dense, size_of_val(numbers)),
        (Encoding::Narrow8, fits(127, numbers.len())),
        (Encoding::Narrow16, fits(32767, 2 * numbers.len())),
        (Encoding::Pairs8, if numbers.len() <= 1 << 16 { fits(127, 16 + 3 * filled) } else { usize::MAX }),
        (Encoding::Pairs, if numbers.len() <= 1 << 16 { 16 + (2 + size) * filled } else { usize::MAX }),
        (Encoding::Rows, if whole_rows { 16 + rows / 8 + rows * stride * size } else { usize::MAX }),
    ];
    forms.iter().min_by_key(|(_, bytes)| *bytes).map_or(Encoding::Dense, |(form, _)| *form)
}

fn encode_chunk<T: Element>(numbers: &[T], stride: usize, body: &mut Buffer) -> (Encoding, usize) {
    let zero = T::zeroed();
    let encoding = choose(numbers, stride);
    let offset = match (encoding, integers(numbers)) {
        (Encoding::Narrow8, Some(numbers)) => {
            body.extend(&numbers.iter().map(|n| *n as i8).collect::<Vec<_>>())
        }
        (Encoding::Narrow16, Some(numbers)) => {
            body.extend(&numbers.iter().map(|n| *n as i16).collect::<Vec<_>>())
        }
        (Encoding::Rows, _) => encode_rows(numbers, stride, body),
        (Encoding::Pairs | Encoding::Pairs8, _) => {
            let mut at = Vec::with_capacity(numbers.len());
            at.extend((0..=u16::MAX).zip(numbers).filter(|(_, n)| **n != zero).map(|(at, _)| at));
            let offset = body.extend(&[at.len() as u32]);
            body.extend(&at);
            match (encoding, integers(numbers)) {
                (Encoding::Pairs8, Some(numbers)) => {
                    body.extend(&at.iter().map(|at| numbers[usize::from(*at)] as i8).collect::<Vec<_>>())
                }
                _ => body.extend(&at.iter().map(|at| numbers[usize::from(*at)]).collect::<Vec<_>>()),
            };
            offset
        }
        _ => body.extend(numbers),
    };
    (encoding, offset)
}

fn encode_rows<T: Element>(numbers: &[T], stride: usize, body: &mut Buffer) -> usize {
    let zero = T::zeroed();
    let filled: Vec<bool> = numbers.chunks(stride).map(|row| row.iter().any(|n| *n != zero)).collect();
    let mut bits = vec![0u8; filled.len().div_ceil(8)];
    filled.iter().enumerate().for_each(|(row, filled)| bits[row / 8] |= u8::from(*filled) << (row % 8));
    let offset = body.extend(&bits);
    for (row, _) in numbers.chunks(stride).zip(&filled).filter(|(_, filled)| **filled) {
        body.extend(row);
    }
    offset
}

fn decode_chunk<T: Element>(
    message: &Message,
    chunk: &Encoded,
    table: &Geometry,
    into: &mut Buffer,
) -> Option<usize> {
    let body = &message.body;
    let count = table.elements(chunk.entry.chunk as usize).len();
    let at = chunk.entry.offset as usize;
    let start = into.len().next_multiple_of(64);
    into.resize(start + count * size_of::<T>());
    let numbers = into.slice_mut::<T>(start, count)?;
    match chunk.encoding {
        Encoding::Dense => numbers.copy_from_slice(body.slice::<T>(at, count)?),
        Encoding::Narrow8 => {
            widen(numbers, body.slice::<i8>(at, count)?)?;
        }
        Encoding::Narrow16 => {
            widen(numbers, body.slice::<i16>(at, count)?)?;
        }
        Encoding::Rows => {
            numbers.fill(T::zeroed());
            let rows = count / table.stride;
            let bits = body.slice::<u8>(at, rows.div_ceil(8))?;
            let mut at = at + bits.len();
            for (row, numbers) in numbers.chunks_exact_mut(table.stride).enumerate() {
                if bits[row / 8] >> (row % 8) & 1 == 1 {
                    at = at.next_multiple_of(8);
                    numbers.copy_from_slice(body.slice::<T>(at, table.stride)?);
                    at += size_of_val(numbers);
                }
            }
        }
        Encoding::Pairs | Encoding::Pairs8 => {
            numbers.fill(T::zeroed());
            let filled = *body.slice::<u32>(at, 1)?.first()? as usize;
            let positions = body.slice::<u16>(at + 8, filled)?;
            let values = (at + 8 + 2 * filled).next_multiple_of(8);
            if chunk.encoding == Encoding::Pairs8 {
                for (at, value) in positions.iter().zip(body.slice::<i8>(values, filled)?) {
                    *numbers.get_mut(usize::from(*at))? = T::from_f64(f64::from(*value));
                }
            } else {
                for (at, value) in positions.iter().zip(body.slice::<T>(values, filled)?) {
                    *numbers.get_mut(usize::from(*at))? = *value;
                }
            }
        }
    }
    Some(start)
}

/// Puts narrow integers into a chunk of integers; `None` if it is none.
fn widen<T: Element, N: Copy + Into<i32>>(numbers: &mut [T], narrow: &[N]) -> Option<()> {
    if T::TYPE != Type::I32 {
        return None;
    }
    let numbers: &mut [i32] = bytemuck::cast_slice_mut(numbers);
    numbers.iter_mut().zip(narrow).for_each(|(number, narrow)| *number = (*narrow).into());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableSpec;
    use crate::rng::stream;

    /// Random chunks of every density and size of number come back as they went, in every element type.
    #[test]
    fn chunks_come_back_as_they_went() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300u64 {
            let mut rng = stream(seed, "codec-test", &[]);
            let element = [Type::F32, Type::F64, Type::I32][seed as usize % 3];
            let spec = TableSpec::new("t", 1 + rng.below(700), 1 + rng.below(90)).element(element);
            let geometry = [Geometry::new(&spec)];
            let density = [0.0, 0.01, 0.3, 1.0][rng.below(4)];
            let (clustered, scale) = (rng.below(2) == 1, [1.0, 100.0, 30_000.0, 1e9][rng.below(4)]);
            let (mut entries, mut body) = (Vec::new(), Buffer::new());
            for chunk in 0..geometry[0].chunks {
                let count = geometry[0].elements(chunk).len();
                let offset = with_type!(element, T => {
                    let numbers: Vec<T> = (0..count).map(|at| {
                        let filled = if clustered { (at / spec.stride()) as f64 / 700.0 < density } else { rng.unit() < density };
                        let number = (2.0 * rng.unit() - 1.0) * scale;
                        <T as Element>::from_f64(if filled { number } else { 0.0 })
                    }).collect();
                    body.extend(&numbers)
                });
                entries.push(Entry { table: 0, chunk: chunk as u32, offset: offset as u32 });
            }
            let part = Part { entries, body: Arc::new(body) };
            let (encoded, bytes) = encode(&part, &geometry);
            assert!(bytes.len() <= part.body.len() + 64, "seed {seed}: larger than dense");
            seen.extend(encoded.iter().map(|chunk| format!("{:?}", chunk.encoding)));
            let back = decode(&Message::new(&(), bytes), &encoded, &geometry).unwrap();
            for (a, b) in part.entries.iter().zip(&back.entries) {
                assert_eq!(a.key(), b.key(), "seed {seed}");
                with_type!(element, T => {
                    assert_eq!(part.numbers::<T>(a, &geometry), back.numbers::<T>(b, &geometry), "seed {seed}");
                });
            }
        }
        assert_eq!(seen.len(), 6, "every encoding was used: {seen:?}");
    }

    /// A body that is cut short or a chunk that does not exist is refused, never a panic.
    #[test]
    fn refuses_what_is_not_all_there() {
        let spec = TableSpec::new("t", 40, 20);
        let geometry = [Geometry::new(&spec)];
        let numbers: Vec<f32> =
            (0..40 * spec.stride()).map(|n| if n % 7 == 0 { n as f32 } else { 0.0 }).collect();
        let entry = Entry { table: 0, chunk: 0, offset: 0 };
        let part = Part { entries: vec![entry], body: Arc::new(Buffer::from(&numbers[..])) };
        let (encoded, bytes) = encode(&part, &geometry);
        for length in 0..bytes.len() {
            let cut = Message::new(&(), Buffer::from(&bytes.bytes()[..length]));
            assert!(decode(&cut, &encoded, &geometry).is_err(), "{length} of {} bytes", bytes.len());
        }
        let missing = Encoded { entry: Entry { chunk: 9, ..entry }, encoding: Encoding::Dense };
        let error = decode(&Message::new(&(), bytes), &[missing], &geometry).unwrap_err();
        assert!(error.to_string().contains("chunk 9 of table 0: there is no such chunk"), "{error}");
    }
}
