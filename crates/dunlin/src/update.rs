//! Updates: what a lane wrote to the shared tables in one clock, in chunks.
//!
//! A table is cut into chunks of consecutive rows of about 64 KiB; a row wider than that is itself cut. Chunks
//! are dealt to shards in turn (table number + chunk number, modulo the shards): as even as hashing at its best,
//! also for tables of a few chunks. A chunk's update is written down in its smallest form while it is in the nearest
//! cache ([`crate::codec`]) and stays in that form, in memory and on the wire, until it is added to a table.

mod carry;
mod under;

pub use carry::Carry;

use crate::codec::{Entry, Numbers, Part, Sink, Writer, add_up};
use crate::isa::{self, Kernel};
use crate::table::{Axis, Element, Merge, Params, Replica, TableSpec, Type};
use crate::transfer::Format;
use dunlin_comm::Buffer;
use dunlin_comm::collective::Node;
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes that a chunk has at most.
pub const CHUNK_BYTES: usize = 64 << 10;

/// How a table is cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Type of the elements.
    pub element: Type,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Number of chunks.
    pub chunks: usize,
    rows: usize,
    rows_per_chunk: usize,
    pieces_per_row: usize,
}

impl Geometry {
    /// How the table `spec` is cut.
    ///
    /// # Examples
    /// ```
    /// use dunlin::{TableSpec, update::Geometry};
    /// let narrow = Geometry::new(&TableSpec::new("items", 1000, 32)); // 128 bytes a row, 512 rows a chunk
    /// assert_eq!((narrow.chunks, narrow.rows(1), narrow.elements(1)), (2, 512..1000, 512 * 32..1000 * 32));
    /// let wide = Geometry::new(&TableSpec::new("classes", 2, 40_000)); // 160 kB a row, 3 chunks a row
    /// assert_eq!((wide.chunks, wide.rows(4)), (6, 1..2));
    /// ```
    pub fn new(spec: &TableSpec) -> Geometry {
        let (stride, rows) = (spec.stride(), spec.rows);
        let row_bytes = spec.bytes_per_row();
        let rows_per_chunk = (CHUNK_BYTES / row_bytes).max(1);
        let pieces_per_row = row_bytes.div_ceil(CHUNK_BYTES);
        let chunks = if pieces_per_row > 1 { rows * pieces_per_row } else { rows.div_ceil(rows_per_chunk) };
        Geometry { element: spec.element, stride, chunks, rows, rows_per_chunk, pieces_per_row }
    }

    /// The rows that `chunk` has or is a piece of.
    pub fn rows(&self, chunk: usize) -> Range<usize> {
        if self.pieces_per_row > 1 {
            let row = chunk / self.pieces_per_row;
            return row..row + 1;
        }
        let start = chunk * self.rows_per_chunk;
        start..(start + self.rows_per_chunk).min(self.rows)
    }

    /// The elements of `chunk` within the flat table.
    pub fn elements(&self, chunk: usize) -> Range<usize> {
        let rows = self.rows(chunk);
        if self.pieces_per_row == 1 {
            return rows.start * self.stride..rows.end * self.stride;
        }
        let piece = chunk % self.pieces_per_row;
        let cut =
            |piece: usize| (self.stride * piece / self.pieces_per_row).next_multiple_of(16).min(self.stride);
        rows.start * self.stride + cut(piece)..rows.start * self.stride + cut(piece + 1)
    }
}

impl Type {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Type::F32 | Type::I32 => 4,
            Type::F64 => 8,
        }
    }
}

/// The shard that owns `chunk` of `table`.
pub fn shard_of(table: usize, chunk: usize, shards: usize) -> usize {
    (table + chunk) % shards
}

/// Calls `$body` with `$t` the element type that `$tag` names.
macro_rules! with_type {
    ($tag:expr, $t:ident => $body:expr) => {
        match $tag {
            $crate::table::Type::F32 => {
                type $t = f32;
                $body
            }
            $crate::table::Type::F64 => {
                type $t = f64;
                $body
            }
            $crate::table::Type::I32 => {
                type $t = i32;
                $body
            }
        }
    };
}
pub(crate) use with_type;

/// What becomes of the tables once a lane's updates have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// They go back to what they were at the start of the clock: lock-step, more lanes of this worker to come.
    Restore,
    /// They are left, because the sum of all lanes' updates will be set over all chunks of the update before they
    /// are read again: lock-step, last lane of this worker.
    Leave,
    /// They keep the update (for a mean: its share of it): the lane sees its own writes.
    Keep,
}

impl Params {
    /// How the tables are cut, by table number.
    pub fn geometry(&self) -> Vec<Geometry> {
        self.replicas.iter().map(|replica| Geometry::new(&replica.spec)).collect()
    }

    /// Takes what was written since the last call as one [`Part`] per shard. Updates of tables with
    /// [`Merge::Mean`] are divided by the number of lanes. Tables on the example axis are no part of it. The
    /// numbers go into buffers of `spare` as long as there are any.
    pub fn take_updates(
        &mut self,
        geometry: &[Geometry],
        shards: usize,
        afterwards: Afterwards,
        spare: &mut Vec<Buffer>,
    ) -> Vec<Part> {
        self.take_rounded(geometry, shards, afterwards, &mut Carry::default(), spare)
    }

    /// The same, each number rounded as `carry` says, which gets what that loses.
    pub fn take_rounded(
        &mut self,
        geometry: &[Geometry],
        shards: usize,
        afterwards: Afterwards,
        carry: &mut Carry,
        spare: &mut Vec<Buffer>,
    ) -> Vec<Part> {
        let mut parts: Vec<Writer> =
            (0..shards).map(|_| Writer::new(geometry, spare.pop().unwrap_or_default())).collect();
        let lanes = self.lanes;
        let mut scratch = Buffer::new();
        for (number, (replica, table)) in self.replicas.iter_mut().zip(geometry).enumerate() {
            if !replica.tracked || replica.spec.axis == Axis::Example {
                continue;
            }
            for chunk in 0..table.chunks {
                if !replica.touched[table.rows(chunk)].contains(&1) {
                    continue;
                }
                let part = &mut parts[shard_of(number, chunk, shards)];
                with_type!(table.element, T => isa::run(TakeChunk::<T> {
                    replica, table, number, chunk, lanes, afterwards, carry: carry.of(number), part,
                    scratch: &mut scratch, element: PhantomData,
                }));
            }
            replica.touched.fill(0);
        }
        parts.into_iter().map(Writer::finish).collect()
    }

    /// Adds the sum of `parts` along the lane tree to the tables as they were at the start of the clock.
    pub fn add(&mut self, parts: &[(Node, Part)], geometry: &[Geometry]) {
        let lanes = self.lanes;
        add_up(parts, lanes, geometry, &mut Add { replicas: &mut self.replicas, geometry });
    }

    /// Adds the numbers of some chunks to the tables as they were at the start of the clock.
    pub fn add_part(&mut self, part: &Part, keep: impl Fn(&Entry) -> bool, geometry: &[Geometry]) {
        each_chunk(part, keep, geometry, &mut Add { replicas: &mut self.replicas, geometry });
    }

    /// Sets the chunks of `part` to its numbers.
    pub fn set(&mut self, part: &Part, geometry: &[Geometry]) {
        each_chunk(part, |_| true, geometry, &mut Set { replicas: &mut self.replicas, geometry });
    }

    /// The current numbers of the chunks that `wanted` names, in ascending order, as a part.
    pub fn read(&self, wanted: impl Iterator<Item = (usize, usize)>, geometry: &[Geometry]) -> Part {
        let mut writer = Writer::new(geometry, Buffer::new());
        for (table, chunk) in wanted {
            let range = geometry[table].elements(chunk);
            with_type!(geometry[table].element, T => {
                if let Some(values) = T::slot(&self.replicas[table].values) {
                    writer.chunk(table, chunk, &values.as_slice()[range]);
                }
            });
        }
        writer.finish()
    }

    /// Takes the tables as they are for the start of the clock: for writes that are the same on all ranks.
    pub fn settle(&mut self) {
        for replica in
            self.replicas.iter_mut().filter(|replica| replica.tracked && replica.touched.contains(&1))
        {
            with_type!(replica.spec.element, T => settle_rows::<T>(replica));
        }
    }
}

impl Replica {
    /// Makes the whole base equal to the values: once they have been set from outside.
    pub fn rebase(&mut self) {
        if self.tracked {
            self.base.bytes_mut().copy_from_slice(self.values.bytes()); // of one length, as long as updates are tracked
            self.touched.fill(0);
            self.left.clear();
        }
    }
}

fn settle_rows<T: Element>(replica: &mut Replica) {
    let stride = replica.spec.stride();
    let Replica { values, base, touched, .. } = replica;
    let (Some(values), Some(base)) = (T::slot(values), T::slot_mut(base)) else { return };
    let rows = values.as_slice().chunks(stride).zip(base.as_mut_slice().chunks_mut(stride));
    for ((values, base), touched) in rows.zip(touched).filter(|(_, touched)| **touched == 1) {
        base.copy_from_slice(values);
        *touched = 0;
    }
}

/// Hands the chunks of `part` that are to be kept to `sink`.
fn each_chunk(part: &Part, keep: impl Fn(&Entry) -> bool, geometry: &[Geometry], sink: &mut impl Sink) {
    for entry in part.entries.iter().filter(|entry| keep(entry)) {
        let table = usize::from(entry.table);
        with_type!(geometry[table].element, T => {
            if let Some(numbers) = part.numbers::<T>(entry, geometry) {
                sink.take(table, entry.chunk as usize, numbers);
            }
        });
    }
}

/// Adds chunks to tables.
struct Add<'a> {
    replicas: &'a mut [Replica],
    geometry: &'a [Geometry],
}

impl Sink for Add<'_> {
    #[inline(always)]
    fn take<T: Element>(&mut self, table: usize, chunk: usize, numbers: Numbers<'_, T>) {
        let range = self.geometry[table].elements(chunk);
        let Replica { values, base, tracked, left, .. } = &mut self.replicas[table];
        let Some(values) = T::slot_mut(values) else { return };
        let values = &mut values.as_mut_slice()[range.clone()];
        let Some(base) = T::slot_mut(base).filter(|_| *tracked) else {
            numbers.add_to(values);
            return;
        };
        let base = &mut base.as_mut_slice()[range];
        let was_left = left.get_mut(chunk).is_some_and(std::mem::take);
        let sparse = !was_left
            && numbers.each_run(|at, numbers| {
                let range = at..at + numbers.len();
                if let (Some(base), Some(values)) = (base.get_mut(range.clone()), values.get_mut(range)) {
                    base.iter_mut().zip(numbers).for_each(|(base, number)| *base = base.plus(*number));
                    values.copy_from_slice(base);
                }
            });
        if !sparse {
            numbers.add_to(base);
            values.copy_from_slice(base);
        }
    }
}

/// Sets chunks of tables.
struct Set<'a> {
    replicas: &'a mut [Replica],
    geometry: &'a [Geometry],
}

impl Sink for Set<'_> {
    #[inline(always)]
    fn take<T: Element>(&mut self, table: usize, chunk: usize, numbers: Numbers<'_, T>) {
        let range = self.geometry[table].elements(chunk);
        let Replica { values, base, tracked, .. } = &mut self.replicas[table];
        let Some(values) = T::slot_mut(values) else { return };
        let values = &mut values.as_mut_slice()[range.clone()];
        numbers.copy_to(values);
        if let Some(base) = T::slot_mut(base).filter(|_| *tracked) {
            base.as_mut_slice()[range].copy_from_slice(values);
        }
    }
}

/// The rows of `chunk` that were touched: each one's place in the table and in an array that has all rows of the
/// chunk or, if it is `compact`, only these. A row wider than a chunk is there with the part that is in it.
#[inline(always)]
fn touched_rows<'a>(
    touched: &'a [u8],
    table: &Geometry,
    chunk: usize,
    compact: bool,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
    let (elements, stride) = (table.elements(chunk), table.stride);
    let rows = table.rows(chunk).filter(|row| touched[*row] == 1).enumerate();
    rows.map(move |(number, row)| {
        let place = (row * stride).max(elements.start)..((row + 1) * stride).min(elements.end);
        let start = if compact { number * stride } else { place.start - elements.start };
        (place.clone(), start..start + place.len())
    })
}

/// Writes the update of one chunk to `part` and leaves the table as `afterwards` says.
struct TakeChunk<'a, 'w, T> {
    replica: &'a mut Replica,
    table: &'a Geometry,
    /// Number of the table.
    number: usize,
    chunk: usize,
    lanes: usize,
    afterwards: Afterwards,
    /// If it is rounded: how, and the carries of the table.
    carry: Option<(Format, &'a mut [f32])>,
    part: &'a mut Writer<'w>,
    scratch: &'a mut Buffer,
    element: PhantomData<T>,
}

impl<T: Element> Kernel for TakeChunk<'_, '_, T> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let TakeChunk { replica, table, number, chunk, lanes, afterwards, mut carry, part, scratch, .. } =
            self;
        let Replica { spec, values, base, touched, left, .. } = replica;
        let (Some(values), Some(base)) = (T::slot_mut(values), T::slot_mut(base)) else { return };
        let (values, base) = (values.as_mut_slice(), base.as_mut_slice());
        let (rows, count) = (table.rows(chunk), table.elements(chunk).len());
        let filled = touched[rows.clone()].iter().map(|touched| usize::from(*touched)).sum::<usize>();
        let compact = filled * 4 < rows.len();
        let length = if compact { filled * table.stride } else { count };
        scratch.resize(length * size_of::<T>());
        let Some(update) = scratch.slice_mut::<T>(0, length) else { return };
        if !compact && filled < rows.len() {
            update.fill(T::zeroed());
        }
        for (place, at) in touched_rows(touched, table, chunk, compact) {
            let update = &mut update[at];
            let rows = values[place.clone()].iter().zip(&base[place.clone()]);
            update.iter_mut().zip(rows).for_each(|(update, (value, base))| *update = value.minus(*base));
            if spec.merge == Merge::Mean {
                update.iter_mut().for_each(|update| *update = update.divided(lanes));
            }
            if let Some(carry) = carry.as_mut().filter(|_| T::TYPE == Type::F32) {
                carry::round(bytemuck::cast_slice_mut(update), carry, place);
            }
        }
        let sparse = match compact {
            true => {
                let mut bits = vec![0u8; rows.len().div_ceil(8)];
                let touched = touched[rows].iter().enumerate().filter(|(_, touched)| **touched == 1);
                touched.for_each(|(row, _)| bits[row / 8] |= 1 << (row % 8));
                part.rows(number, chunk, &bits, &*update);
                true
            }
            false => !part.chunk(number, chunk, &*update).is_dense(),
        };
        // What is sparse goes back now, so that a sparse sum can be added without a look at the rest.
        if afterwards == Afterwards::Leave && !sparse {
            left.resize(table.chunks, false);
            left[chunk] = true;
            return;
        }
        for (place, at) in touched_rows(touched, table, chunk, compact) {
            let (values, base) = (&mut values[place.clone()], &mut base[place]);
            if afterwards == Afterwards::Keep {
                base.iter_mut().zip(&update[at]).for_each(|(base, update)| *base = base.plus(*update));
            }
            values.copy_from_slice(base);
        }
    }
}

#[cfg(test)]
mod tests;
