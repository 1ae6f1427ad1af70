//! Floats of 16 bits, on the wire alone: a part is packed when it leaves and unpacked when it has arrived. Only numbers
//! that 16 bits hold are packed, so that this changes bytes, never values; who rounds them is [`crate::update::Carry`].

use super::{Encoding, Entry, Layout, Numbers, Part, bad};
use crate::Result;
use crate::isa::{self, Kernel};
use crate::table::Type;
use crate::transfer::{Bf16, F16, Format, Sixteen};
use crate::update::{Geometry, with_type};
use dunlin_comm::{Buffer, Message};
use std::sync::Arc;

impl Part {
    /// The same numbers, those of each chunk in 16 bits if its table's format in `formats` says so and holds all of
    /// them.
    pub fn packed(self, formats: &[Format], geometry: &[Geometry]) -> Part {
        let is_rounded = |entry: &Entry| {
            formats.get(usize::from(entry.table)).is_some_and(|format| *format != Format::F32)
        };
        if !self.entries.iter().any(is_rounded) {
            return self;
        }
        let mut body = Buffer::new();
        body.reserve(self.body.len() / 2 + 64);
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let format = formats[usize::from(entry.table)];
            let packed = is_rounded(entry).then(|| self.pack(entry, format, geometry, &mut body)).flatten();
            let (encoding, offset) =
                packed.unwrap_or_else(|| (entry.encoding, self.copy(entry, geometry, &mut body)));
            entries.push(Entry { encoding, offset: offset as u32, ..*entry });
        }
        Part { entries, body: Arc::new(body) }
    }

    /// Writes the chunk in 16 bits, if these hold its numbers.
    fn pack(
        &self,
        entry: &Entry,
        format: Format,
        geometry: &[Geometry],
        body: &mut Buffer,
    ) -> Option<(Encoding, usize)> {
        let (layout, before, numbers) = match self.numbers::<f32>(entry, geometry)? {
            Numbers::Dense(numbers) => (Layout::Dense, Before::Nothing, numbers),
            Numbers::Rows(bits, rows, _) => (Layout::Rows, Before::Bits(bits), rows),
            Numbers::Pairs(places, numbers) => (Layout::Pairs, Before::Places(places), numbers),
            _ => return None,
        };
        let mut bits = vec![0u16; numbers.len()];
        if !isa::run(Convert { format, task: Narrow { numbers, bits: &mut bits } }) {
            return None;
        }
        let offset = before.write(body);
        let start = body.extend(&bits);
        Some((Encoding::Packed(format, layout), offset.unwrap_or(start)))
    }

    /// Copies the bytes of the chunk as they are.
    fn copy(&self, entry: &Entry, geometry: &[Geometry], body: &mut Buffer) -> usize {
        with_type!(geometry[usize::from(entry.table)].element, T => match self.numbers::<T>(entry, geometry) {
            Some(Numbers::Dense(numbers)) => body.extend(numbers),
            Some(Numbers::Narrow8(numbers)) => body.extend(numbers),
            Some(Numbers::Narrow16(numbers)) => body.extend(numbers),
            Some(Numbers::Rows(bits, rows, _)) => after(Before::Bits(bits), rows, body),
            Some(Numbers::Pairs(places, numbers)) => after(Before::Places(places), numbers, body),
            Some(Numbers::Pairs8(places, numbers)) => after(Before::Places(places), numbers, body),
            None => body.len(), // the receiver says what is wrong with it
        })
    }
}

/// What lies before the numbers of a chunk.
enum Before<'a> {
    Nothing,
    Bits(&'a [u8]),
    Places(&'a [u16]),
}

impl Before<'_> {
    fn write(self, body: &mut Buffer) -> Option<usize> {
        match self {
            Before::Nothing => None,
            Before::Bits(bits) => Some(body.extend(bits)),
            Before::Places(places) => Some(super::writer::write_places(body, places)),
        }
    }
}

fn after<N: bytemuck::Pod>(before: Before<'_>, numbers: &[N], body: &mut Buffer) -> usize {
    let offset = before.write(body);
    let start = body.extend(numbers);
    offset.unwrap_or(start)
}

/// The part of `message`, whose chunks exist and ascend, with all numbers as wide as tables have them. Where nothing is
/// packed, numbers are not looked at.
///
/// # Errors
/// A message that names the sender and what is wrong.
pub(super) fn unpacked(
    message: &mut Message,
    mut entries: Vec<Entry>,
    geometry: &[Geometry],
) -> Result<(Vec<Entry>, Arc<Buffer>)> {
    if !entries.iter().any(|entry| matches!(entry.encoding, Encoding::Packed(..))) {
        return Ok((entries, std::mem::take(&mut message.body)));
    }
    let mut body = Buffer::new();
    body.reserve(2 * message.body.len());
    let whole = Part { entries: Vec::new(), body: message.body.clone() };
    for entry in &mut entries {
        let table = &geometry[usize::from(entry.table)];
        let missing = "its numbers are not all there";
        if let Encoding::Packed(format, layout) = entry.encoding {
            let offset = unpack(&whole.body, entry, (format, layout), table, &mut body);
            let Some(offset) = offset else { return Err(bad(message, entry, missing)) };
            entry.offset = offset as u32;
            entry.encoding = match layout {
                Layout::Dense => Encoding::Dense,
                Layout::Rows => Encoding::Rows,
                Layout::Pairs => Encoding::Pairs,
            };
        } else {
            let is_there = with_type!(table.element, T => whole.numbers::<T>(entry, geometry).is_some());
            if !is_there {
                return Err(bad(message, entry, missing));
            }
            entry.offset = whole.copy(entry, geometry, &mut body) as u32;
        }
    }
    Ok((entries, Arc::new(body)))
}

/// Writes one packed chunk wide; where it starts, or `None` if it is not all there. Positions are not looked at.
fn unpack(
    from: &Buffer,
    entry: &Entry,
    (format, layout): (Format, Layout),
    table: &Geometry,
    body: &mut Buffer,
) -> Option<usize> {
    if table.element != Type::F32 || format == Format::F32 {
        return None;
    }
    let (at, count) = (entry.offset as usize, table.elements(entry.chunk as usize).len());
    let (before, numbers) = match layout {
        Layout::Dense => (Before::Nothing, from.slice::<u16>(at, count)?),
        Layout::Rows => {
            let bits = from.slice::<u8>(at, (count / table.stride).div_ceil(8))?;
            let filled: usize = bits.iter().map(|bits| bits.count_ones() as usize).sum();
            let start = (at + bits.len()).next_multiple_of(8);
            (Before::Bits(bits), from.slice(start, filled * table.stride)?)
        }
        Layout::Pairs => {
            let filled = *from.slice::<u32>(at, 1)?.first()? as usize;
            let start = (at + 8).checked_add(filled.checked_mul(2)?)?.checked_next_multiple_of(8)?;
            (Before::Places(from.slice(at + 8, filled)?), from.slice(start, filled)?)
        }
    };
    let offset = before.write(body);
    let start = body.len().next_multiple_of(8);
    body.resize(start + size_of_val(numbers) * 2);
    let wide = body.slice_mut::<f32>(start, numbers.len())?;
    isa::run(Convert { format, task: Widen { bits: numbers, numbers: wide } });
    Some(offset.unwrap_or(start))
}

/// A loop over numbers of one of the formats.
trait Task {
    type Out;
    fn run<S: Sixteen>(self) -> Self::Out;
}

struct Convert<T> {
    format: Format,
    task: T,
}

impl<T: Task> Kernel for Convert<T> {
    type Out = T::Out;

    #[inline(always)]
    fn run(self) -> T::Out {
        match self.format {
            Format::F16 => self.task.run::<F16>(),
            Format::Bf16 | Format::F32 => self.task.run::<Bf16>(),
        }
    }
}

/// True if all `numbers` come back from `bits`.
struct Narrow<'a> {
    numbers: &'a [f32],
    bits: &'a mut [u16],
}

impl Task for Narrow<'_> {
    type Out = bool;

    #[inline(always)]
    fn run<S: Sixteen>(self) -> bool {
        let mut lost = 0;
        for (bits, number) in self.bits.iter_mut().zip(self.numbers) {
            *bits = S::narrow(*number);
            lost |= S::widen(*bits).to_bits() ^ number.to_bits();
        }
        lost == 0
    }
}

struct Widen<'a> {
    bits: &'a [u16],
    numbers: &'a mut [f32],
}

impl Task for Widen<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Sixteen>(self) {
        self.numbers.iter_mut().zip(self.bits).for_each(|(number, bits)| *number = S::widen(*bits));
    }
}
