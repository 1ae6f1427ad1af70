//! What rounding has left of a lane's updates.

use crate::table::{Axis, Lines, TableSpec};
use crate::transfer::{Bf16, F16, Format, Sixteen, Transfer};
use std::ops::Range;

/// The carries of one lane: for every number of every table that is rounded, what its updates so far have lost.
///
/// It belongs to the lane, not to the worker, so that the same lanes learn the same bits wherever they are hosted; and
/// a checkpoint has it, so that a resumed run does too.
#[derive(Debug, Default)]
pub struct Carry {
    /// By table; none for tables that travel as they are.
    tables: Vec<Option<(Format, Lines<f32>)>>,
}

impl Carry {
    /// Nothing has been lost yet. Memory is taken page by page, where updates are.
    pub fn new<'a>(transfer: &Transfer, specs: impl Iterator<Item = &'a TableSpec>) -> Carry {
        let table = |spec: &TableSpec| {
            let format = if spec.axis == Axis::Example { Format::F32 } else { transfer.of(spec) };
            (format != Format::F32).then(|| (format, Lines::zeroed(spec.rows * spec.stride())))
        };
        Carry { tables: specs.map(table).collect() }
    }

    /// The carries of each rounded table, with padding: its number, and the numbers' bytes.
    pub fn bytes(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let tables = self.tables.iter().enumerate();
        tables.filter_map(|(table, carry)| {
            Some((table as u16, bytemuck::cast_slice(carry.as_ref()?.1.as_slice())))
        })
    }

    /// Sets the carries of `table` to what [`Carry::bytes`] gave; false if they do not fit.
    pub fn set(&mut self, table: u16, bytes: &[u8]) -> bool {
        let Some(Some((_, carry))) = self.tables.get_mut(usize::from(table)) else { return false };
        let place: &mut [u8] = bytemuck::cast_slice_mut(carry.as_mut_slice());
        let fits = place.len() == bytes.len();
        if fits {
            place.copy_from_slice(bytes);
        }
        fits
    }

    /// Format and carries of `table`, if it is rounded.
    pub(super) fn of(&mut self, table: usize) -> Option<(Format, &mut [f32])> {
        let (format, carry) = self.tables.get_mut(table)?.as_mut()?;
        Some((*format, carry.as_mut_slice()))
    }
}

/// Adds the carries at `place` to `update` and rounds the sum.
#[inline(always)]
pub(super) fn round(update: &mut [f32], (format, carries): &mut (Format, &mut [f32]), place: Range<usize>) {
    let carries = &mut carries[place];
    match format {
        Format::F32 => {}
        Format::Bf16 => Bf16::round_all(update, carries),
        Format::F16 => F16::round_all(update, carries),
    }
}
