//! Updates: what a lane wrote to the shared tables in one clock, in chunks.
//!
//! A table is cut into chunks of consecutive rows of about 64 KiB; a row wider than that is itself cut. Chunks
//! are dealt to shards in turn (table number + chunk number, modulo the shards): as even as hashing at its best,
//! also for tables of a few chunks. A chunk's update is dense while it is in memory; [`crate::codec`] shrinks it
//! for the wire.

use crate::table::{Axis, Element, Merge, Params, Replica, TableSpec, Type};
use dunlin_comm::Buffer;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

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
        let row_bytes = stride * spec.element.bytes();
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

/// Where a chunk's numbers are in the body of a [`Part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Table number.
    pub table: u16,
    /// Chunk number.
    pub chunk: u32,
    /// Byte where the numbers start.
    pub offset: u32,
}

/// Numbers for some chunks of some tables: updates, or values. Entries ascend by (table, chunk).
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The chunks.
    pub entries: Vec<Entry>,
    /// Their numbers, dense.
    pub body: Arc<Buffer>,
}

/// Calls `$body` with `$t` the element type that `$tag` names.
macro_rules! with_type {
    ($tag:expr, $t:ident => $body:expr) => {
        match $tag {
            Type::F32 => {
                type $t = f32;
                $body
            }
            Type::F64 => {
                type $t = f64;
                $body
            }
            Type::I32 => {
                type $t = i32;
                $body
            }
        }
    };
}
pub(crate) use with_type;

impl Part {
    /// Adds `right`'s numbers; chunks that `self` lacks are appended.
    pub fn add(&mut self, right: &Part, geometry: &[Geometry]) {
        let body = Arc::make_mut(&mut self.body);
        let mut added = Vec::new();
        let mut at = 0;
        for entry in &right.entries {
            while self.entries.get(at).is_some_and(|own| own.key() < entry.key()) {
                at += 1;
            }
            let table = &geometry[usize::from(entry.table)];
            let count = table.elements(entry.chunk as usize).len();
            with_type!(table.element, T => {
                let Some(numbers) = right.body.slice::<T>(entry.offset as usize, count) else { continue };
                match self.entries.get(at).filter(|own| own.key() == entry.key()) {
                    Some(own) => body.slice_mut::<T>(own.offset as usize, count).into_iter().for_each(|sum| {
                        sum.iter_mut().zip(numbers).for_each(|(a, b)| *a = Element::plus(*a, *b));
                    }),
                    None => added.push(Entry { offset: body.extend(numbers) as u32, ..*entry }),
                }
            });
        }
        if !added.is_empty() {
            self.entries.append(&mut added);
            self.entries.sort_by_key(Entry::key);
        }
    }

    /// The numbers of `entry`, if they are of type `T` and all there.
    pub fn numbers<T: Element>(&self, entry: &Entry, geometry: &[Geometry]) -> Option<&[T]> {
        let table = geometry.get(usize::from(entry.table)).filter(|table| table.element == T::TYPE)?;
        self.body.slice(entry.offset as usize, table.elements(entry.chunk as usize).len())
    }
}

impl Entry {
    /// What entries are sorted by.
    pub fn key(&self) -> (u16, u32) {
        (self.table, self.chunk)
    }
}

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
    /// numbers go into buffers of `spare` as long as there are any: fresh memory costs as much as the work.
    pub fn take_updates(
        &mut self,
        geometry: &[Geometry],
        shards: usize,
        afterwards: Afterwards,
        spare: &mut Vec<Buffer>,
    ) -> Vec<Part> {
        let mut empty = || {
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.clear();
            buffer
        };
        let mut parts: Vec<(Vec<Entry>, Buffer)> = (0..shards).map(|_| (Vec::new(), empty())).collect();
        let lanes = self.lanes;
        for (number, (replica, table)) in self.replicas.iter_mut().zip(geometry).enumerate() {
            if !replica.tracked || replica.spec.axis == Axis::Example {
                continue;
            }
            for chunk in 0..table.chunks {
                if !replica.touched[table.rows(chunk)].contains(&1) {
                    continue;
                }
                let (entries, body) = &mut parts[shard_of(number, chunk, shards)];
                let offset = with_type!(table.element, T => take_chunk::<T>(replica, table, chunk, lanes, afterwards, body));
                entries.push(Entry { table: number as u16, chunk: chunk as u32, offset: offset as u32 });
            }
            replica.touched.fill(0);
        }
        parts.into_iter().map(|(entries, body)| Part { entries, body: Arc::new(body) }).collect()
    }

    /// Adds the numbers of `part` to the tables as they were at the start of the clock.
    pub fn add(&mut self, part: &Part, geometry: &[Geometry]) {
        for entry in &part.entries {
            let table = geometry[usize::from(entry.table)];
            let replica = &mut self.replicas[usize::from(entry.table)];
            with_type!(table.element, T => {
                combine::<T>(replica, table, part, geometry, entry, |a, b| *a = Element::plus(*a, b))
            });
        }
    }

    /// Sets the chunks of `part` to its numbers.
    pub fn set(&mut self, part: &Part, geometry: &[Geometry]) {
        for entry in &part.entries {
            let table = geometry[usize::from(entry.table)];
            let replica = &mut self.replicas[usize::from(entry.table)];
            with_type!(table.element, T => combine::<T>(replica, table, part, geometry, entry, |a, b| *a = b));
        }
    }

    /// The current numbers of the chunks that `wanted` names, as a part.
    pub fn read(&self, wanted: impl Iterator<Item = (usize, usize)>, geometry: &[Geometry]) -> Part {
        let (mut entries, mut body) = (Vec::new(), Buffer::new());
        for (table, chunk) in wanted {
            let range = geometry[table].elements(chunk);
            let offset = with_type!(geometry[table].element, T => {
                T::slot(&self.replicas[table].values).map_or(0, |values| body.extend(&values.as_slice()[range]))
            });
            entries.push(Entry { table: table as u16, chunk: chunk as u32, offset: offset as u32 });
        }
        Part { entries, body: Arc::new(body) }
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
            self.base = self.values.clone();
            self.touched.fill(0);
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

fn combine<T: Element>(
    replica: &mut Replica,
    table: Geometry,
    part: &Part,
    geometry: &[Geometry],
    entry: &Entry,
    op: impl Fn(&mut T, T),
) {
    let range = table.elements(entry.chunk as usize);
    let Replica { values, base, tracked, .. } = replica;
    let (Some(numbers), Some(values)) = (part.numbers::<T>(entry, geometry), T::slot_mut(values)) else {
        return;
    };
    let values = &mut values.as_mut_slice()[range.clone()];
    let Some(base) = T::slot_mut(base).filter(|_| *tracked) else {
        values.iter_mut().zip(numbers).for_each(|(value, number)| op(value, *number));
        return;
    };
    for ((value, base), number) in values.iter_mut().zip(&mut base.as_mut_slice()[range]).zip(numbers) {
        op(base, *number);
        *value = *base;
    }
}

/// Appends the update of one chunk to `body` and returns where it starts.
fn take_chunk<T: Element>(
    replica: &mut Replica,
    table: &Geometry,
    chunk: usize,
    lanes: usize,
    afterwards: Afterwards,
    body: &mut Buffer,
) -> usize {
    let Replica { spec, values, base, touched, .. } = replica;
    let (Some(values), Some(base)) = (T::slot_mut(values), T::slot_mut(base)) else { return 0 };
    let elements = table.elements(chunk);
    let offset = body.len().next_multiple_of(64);
    body.resize(offset + elements.len() * size_of::<T>());
    let Some(updates) = body.slice_mut::<T>(offset, elements.len()) else { return offset };
    for row in table.rows(chunk) {
        // The part of this row that is in this chunk: all of it, unless rows are wider than chunks.
        let range = (row * table.stride).max(elements.start)..((row + 1) * table.stride).min(elements.end);
        let updates = &mut updates[range.start - elements.start..range.end - elements.start];
        if touched[row] == 0 {
            updates.fill(T::zeroed());
            continue;
        }
        let (values, base) = (&mut values.as_mut_slice()[range.clone()], &mut base.as_mut_slice()[range]);
        updates.iter_mut().zip(&*values).zip(&*base).for_each(|((u, value), base)| *u = value.minus(*base));
        if spec.merge == Merge::Mean {
            updates.iter_mut().for_each(|update| *update = update.divided(lanes));
        }
        match afterwards {
            Afterwards::Restore => values.copy_from_slice(base),
            Afterwards::Leave => {}
            Afterwards::Keep => {
                base.iter_mut().zip(&*updates).for_each(|(base, update)| *base = base.plus(*update));
                values.copy_from_slice(base);
            }
        }
    }
    offset
}
