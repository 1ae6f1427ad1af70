//! Shared parameters: tables of rows that read like global variables.
//!
//! A model describes its tables ([`TableSpec`]) and gets typed handles on them ([`Table`], [`TableMut`]) from
//! [`Params`]. Behind a handle is one flat array in which every row starts at a multiple of a (half) cache
//! line. Where updates must be known (more than one lane), the first write to a row in a clock keeps a copy of
//! it, the *base*; the update is row − base. Where they need not be known every row counts as touched already,
//! so that one predictable branch serves both.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// What the rows of a table follow; decides where they live and who reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Axis {
    /// One row per row of the data (user): lives with the lane that owns the data, is never sent.
    Example,
    /// One row per column of the data (feature, item, word).
    Feature,
    /// One row per class.
    Output,
    /// Rows that everybody reads.
    Whole,
}

/// How the updates of lanes are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// base + the sum of the lanes' updates.
    Sum,
    /// base + the mean of the lanes' updates.
    Mean,
}

/// The type of a table's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Type {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit integer count.
    I32,
}

/// How a table starts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// All zero.
    Zero,
    /// Uniform in [−scale, scale), from the stream of (seed, table, row).
    Uniform {
        /// Half the width.
        scale: f64,
    },
    /// Normal with mean 0, from the stream of (seed, table, row).
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

/// A shared table, as its model describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Its name in messages and in saved models.
    pub name: String,
    /// Number of rows.
    pub rows: usize,
    /// Elements per row.
    pub width: usize,
    /// Type of the elements.
    pub element: Type,
    /// What the rows follow.
    pub axis: Axis,
    /// How updates are combined.
    pub merge: Merge,
    /// How it starts.
    pub init: Init,
    /// False for working memory that is not part of the model (gradients, solver state): not saved with the
    /// model, though it is checkpointed.
    pub saved: bool,
}

impl TableSpec {
    /// A table of f32 on the feature axis that starts at zero and whose updates are added.
    pub fn new(name: &str, rows: usize, width: usize) -> TableSpec {
        TableSpec {
            name: name.into(),
            rows,
            width,
            element: Type::F32,
            axis: Axis::Feature,
            merge: Merge::Sum,
            init: Init::Zero,
            saved: true,
        }
    }

    /// The same on another axis.
    pub fn axis(self, axis: Axis) -> TableSpec {
        TableSpec { axis, ..self }
    }

    /// The same with another way to combine updates.
    pub fn merge(self, merge: Merge) -> TableSpec {
        TableSpec { merge, ..self }
    }

    /// The same with another start.
    pub fn init(self, init: Init) -> TableSpec {
        TableSpec { init, ..self }
    }

    /// The same with other elements.
    pub fn element(self, element: Type) -> TableSpec {
        TableSpec { element, ..self }
    }

    /// The same, but not saved with the model.
    pub fn working(self) -> TableSpec {
        TableSpec { saved: false, ..self }
    }

    /// Elements from one row to the next: the width, rounded up to whole cache lines, or to half lines where
    /// whole ones would waste more than a quarter; rows of up to 4 elements to a power of two.
    ///
    /// # Examples
    /// ```
    /// use dunlin::TableSpec;
    /// let stride = |width| TableSpec::new("t", 1, width).stride();
    /// assert_eq!([1, 3, 10, 20, 32, 100].map(stride), [1, 4, 16, 24, 32, 112]);
    /// ```
    pub fn stride(&self) -> usize {
        let line = match self.element {
            Type::F32 | Type::I32 => 16,
            Type::F64 => 8,
        };
        if self.width <= 4 {
            return self.width.max(1).next_power_of_two();
        }
        let whole = self.width.next_multiple_of(line);
        if (whole - self.width) * 4 > whole { self.width.next_multiple_of(line / 2) } else { whole }
    }
}

/// An element of a table.
pub trait Element: Pod + PartialEq + Send + Sync + std::fmt::Debug {
    /// Its tag.
    const TYPE: Type;
    /// The storage of a table of this type, if it is one.
    fn slot(storage: &Storage) -> Option<&Lines<Self>>;
    /// The same, to write.
    fn slot_mut(storage: &mut Storage) -> Option<&mut Lines<Self>>;
    /// From a double; integers round.
    fn from_f64(value: f64) -> Self;
    /// To a double.
    fn to_f64(self) -> f64;
    /// self + other; wraps for integers.
    fn plus(self, other: Self) -> Self;
    /// (self − other) + 0, so that no update is −0; wraps for integers.
    fn minus(self, other: Self) -> Self;
    /// self / count; integers round towards zero.
    fn divided(self, count: usize) -> Self;
}

macro_rules! elements {
    ($($t:ty, $tag:ident, $from:expr, $plus:expr, $minus:expr;)*) => {$(
        impl Element for $t {
            const TYPE: Type = Type::$tag;
            fn slot(storage: &Storage) -> Option<&Lines<$t>> {
                match storage { Storage::$tag(lines) => Some(lines), _ => None }
            }
            fn slot_mut(storage: &mut Storage) -> Option<&mut Lines<$t>> {
                match storage { Storage::$tag(lines) => Some(lines), _ => None }
            }
            fn from_f64(value: f64) -> $t { let f: fn(f64) -> $t = $from; f(value) }
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn plus(self, other: $t) -> $t { let f: fn($t, $t) -> $t = $plus; f(self, other) }
            #[inline(always)]
            fn minus(self, other: $t) -> $t { let f: fn($t, $t) -> $t = $minus; f(self, other) }
            #[inline(always)]
            fn divided(self, count: usize) -> $t { self / count as $t }
        }
    )*};
}
elements! {
    f32, F32, |v| v as f32, |a, b| a + b, |a, b| (a - b) + 0.0;
    f64, F64, |v| v, |a, b| a + b, |a, b| (a - b) + 0.0;
    i32, I32, |v| v.round() as i32, |a, b| a.wrapping_add(b), |a, b| a.wrapping_sub(b);
}

/// A zeroed flat array whose start is aligned to a cache line.
#[derive(Clone, Debug, Default)]
pub struct Lines<T> {
    lines: Vec<Line>,
    length: usize,
    element: std::marker::PhantomData<T>,
}

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl<T: Pod> Lines<T> {
    /// `length` zeros. Pages are mapped when they are first written.
    pub fn zeroed(length: usize) -> Lines<T> {
        let lines = bytemuck::allocation::zeroed_vec((length * size_of::<T>()).div_ceil(64));
        Lines { lines, length, element: std::marker::PhantomData }
    }

    /// The elements.
    #[inline(always)]
    pub fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }

    /// The elements, to write.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}

/// The elements of a table, whatever their type.
#[derive(Clone, Debug)]
pub enum Storage {
    /// 32-bit floats.
    F32(Lines<f32>),
    /// 64-bit floats.
    F64(Lines<f64>),
    /// 32-bit counts.
    I32(Lines<i32>),
}

impl Storage {
    /// `length` zeros of type `element`.
    pub fn zeroed(element: Type, length: usize) -> Storage {
        match element {
            Type::F32 => Storage::F32(Lines::zeroed(length)),
            Type::F64 => Storage::F64(Lines::zeroed(length)),
            Type::I32 => Storage::I32(Lines::zeroed(length)),
        }
    }
}

/// A rank's copy of one table.
#[derive(Clone, Debug)]
pub struct Replica {
    /// What it is a copy of.
    pub spec: TableSpec,
    /// rows x stride elements.
    pub values: Storage,
    /// The rows as they were before the first write of this clock, where `touched` is 1 and tracking is on.
    pub base: Storage,
    /// Per row: 1 if it may be written without keeping its base.
    pub touched: Vec<u8>,
    /// True if updates must be known.
    pub tracked: bool,
}

impl Replica {
    /// A zeroed copy; with `tracked`, updates can be told from the base.
    pub fn new(spec: TableSpec, tracked: bool) -> Replica {
        let length = spec.rows * spec.stride();
        let values = Storage::zeroed(spec.element, length);
        let base = Storage::zeroed(spec.element, if tracked { length } else { 0 });
        let touched = vec![u8::from(!tracked); spec.rows];
        Replica { spec, values, base, touched, tracked }
    }

    /// Sets rows `rows` to the table's start; each depends on (seed, table, row) alone.
    pub fn initialise(&mut self, table: usize, seed: u64, rows: std::ops::Range<usize>) {
        let (stride, width, init) = (self.spec.stride(), self.spec.width, self.spec.init);
        if init == Init::Zero {
            return;
        }
        for row in rows {
            let mut rng = crate::rng::stream(seed, "init", &[table as u64, row as u64]);
            for at in row * stride..row * stride + width {
                let value = match init {
                    Init::Zero => 0.0,
                    Init::Uniform { scale } => scale * (2.0 * rng.unit() - 1.0),
                    Init::Normal { deviation } => deviation * rng.normal(),
                };
                match &mut self.values {
                    Storage::F32(lines) => lines.as_mut_slice()[at] = value as f32,
                    Storage::F64(lines) => lines.as_mut_slice()[at] = value,
                    Storage::I32(lines) => lines.as_mut_slice()[at] = value.round() as i32,
                }
            }
        }
    }
}

impl Replica {
    /// The numbers of rows `rows`, with padding, as bytes.
    pub fn row_bytes(&self, rows: std::ops::Range<usize>) -> Vec<u8> {
        let range = rows.start * self.spec.stride()..rows.end * self.spec.stride();
        match &self.values {
            Storage::F32(lines) => bytemuck::cast_slice(&lines.as_slice()[range]).to_vec(),
            Storage::F64(lines) => bytemuck::cast_slice(&lines.as_slice()[range]).to_vec(),
            Storage::I32(lines) => bytemuck::cast_slice(&lines.as_slice()[range]).to_vec(),
        }
    }

    /// Sets the rows from `first` on to what [`Replica::row_bytes`] gave; false if they do not fit.
    pub fn set_row_bytes(&mut self, first: usize, bytes: &[u8]) -> bool {
        fn set<T: Element>(values: &mut [T], start: usize, bytes: &[u8]) -> bool {
            let values: &mut [u8] = bytemuck::cast_slice_mut(values);
            let end = start.checked_add(bytes.len());
            let place = end.and_then(|end| values.get_mut(start..end));
            place.map(|place| place.copy_from_slice(bytes)).is_some()
        }
        let row_bytes = self.spec.stride() * self.spec.element.bytes();
        let Some(start) = first.checked_mul(row_bytes).filter(|_| bytes.len().is_multiple_of(row_bytes))
        else {
            return false;
        };
        match &mut self.values {
            Storage::F32(lines) => set(lines.as_mut_slice(), start, bytes),
            Storage::F64(lines) => set(lines.as_mut_slice(), start, bytes),
            Storage::I32(lines) => set(lines.as_mut_slice(), start, bytes),
        }
    }
}

/// A rank's copies of all tables: what a model's functions are given.
#[derive(Debug)]
pub struct Params {
    /// The copies, by table number.
    pub replicas: Vec<Replica>,
    /// Number of lanes: by how many the updates of a clock are combined.
    pub lanes: usize,
}

impl Params {
    /// Table number `table`, to read.
    ///
    /// # Panics
    /// If there is no such table or its elements are no `T`: a bug of the model.
    #[inline]
    pub fn table<T: Element>(&self, table: usize) -> Table<'_, T> {
        let replica = &self.replicas[table];
        let Some(values) = T::slot(&replica.values) else { wrong_type(&replica.spec, T::TYPE) };
        Table { values: values.as_slice(), stride: replica.spec.stride(), width: replica.spec.width }
    }

    /// Table number `table`, to write.
    ///
    /// # Panics
    /// As [`Params::table`].
    #[inline]
    pub fn table_mut<T: Element>(&mut self, table: usize) -> TableMut<'_, T> {
        let [handle] = self.tables_mut([table]);
        handle
    }

    /// Several tables of one element type, to write at once.
    ///
    /// # Panics
    /// As [`Params::table`], or if one is named twice.
    #[inline]
    pub fn tables_mut<T: Element, const N: usize>(&mut self, tables: [usize; N]) -> [TableMut<'_, T>; N] {
        match self.replicas.get_disjoint_mut(tables) {
            Ok(replicas) => replicas.map(handle),
            Err(_) => panic!("tables {tables:?}: no such tables, or one named twice"),
        }
    }
}

fn handle<T: Element>(replica: &mut Replica) -> TableMut<'_, T> {
    let (stride, width) = (replica.spec.stride(), replica.spec.width);
    let Replica { spec, values, base, touched, .. } = replica;
    let (Some(values), Some(base)) = (T::slot_mut(values), T::slot_mut(base)) else {
        wrong_type(spec, T::TYPE)
    };
    TableMut { values: values.as_mut_slice(), base: base.as_mut_slice(), touched, stride, width }
}

#[cold]
fn wrong_type(spec: &TableSpec, asked: Type) -> ! {
    panic!("table {} holds {:?}, not {asked:?}", spec.name, spec.element)
}

/// A table to read: (rows, width).
#[derive(Clone, Copy, Debug)]
pub struct Table<'a, T> {
    values: &'a [T],
    stride: usize,
    width: usize,
}

impl<'a, T: Element> Table<'a, T> {
    /// Row `row`.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..][..self.width]
    }

    /// Row `row` with its padding, which is zero: `stride` elements.
    #[inline(always)]
    pub fn padded(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..][..self.stride]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.stride
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows with their padding, flat.
    pub fn flat(&self) -> &'a [T] {
        self.values
    }
}

/// A table to write: (rows, width).
#[derive(Debug)]
pub struct TableMut<'a, T> {
    values: &'a mut [T],
    base: &'a mut [T],
    touched: &'a mut [u8],
    stride: usize,
    width: usize,
}

impl<T: Element> TableMut<'_, T> {
    /// Row `row`, to read.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[T] {
        &self.values[row * self.stride..][..self.width]
    }

    /// Row `row`, to write.
    #[inline(always)]
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        self.touch(row);
        &mut self.values[row * self.stride..][..self.width]
    }

    /// Row `row` with its padding, to read: `stride` elements.
    #[inline(always)]
    pub fn padded(&self, row: usize) -> &[T] {
        &self.values[row * self.stride..][..self.stride]
    }

    /// Row `row` with its padding, to write. The padding must stay zero.
    #[inline(always)]
    pub fn padded_mut(&mut self, row: usize) -> &mut [T] {
        self.touch(row);
        &mut self.values[row * self.stride..][..self.stride]
    }

    /// The first `W` elements of row `row` as an array, to write; `W` at most the stride. A width known to the
    /// compiler makes inner loops about 1.4 times as fast.
    #[inline(always)]
    pub fn array_mut<const W: usize>(&mut self, row: usize) -> &mut [T; W] {
        self.touch(row);
        match self.values[row * self.stride..].first_chunk_mut() {
            Some(array) => array,
            None => wrong_width(W),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.touched.len()
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows with their padding, flat, to write; every row counts as touched.
    pub fn flat_mut(&mut self) -> &mut [T] {
        (0..self.touched.len()).for_each(|row| self.touch(row));
        self.values
    }

    /// Asks the processor to fetch row `row` into its cache.
    #[inline(always)]
    pub fn prefetch(&self, row: usize) {
        crate::table::prefetch(&self.values[row * self.stride..]);
    }

    /// Keeps the base of `row` before its first write in this clock.
    #[inline(always)]
    fn touch(&mut self, row: usize) {
        if self.touched[row] == 0 {
            self.keep_base(row);
        }
    }

    #[cold]
    #[inline(never)]
    fn keep_base(&mut self, row: usize) {
        let range = row * self.stride..(row + 1) * self.stride;
        self.base[range.clone()].copy_from_slice(&self.values[range]);
        self.touched[row] = 1;
    }
}

#[cold]
fn wrong_width(width: usize) -> ! {
    panic!("rows are shorter than {width}")
}

/// Asks the processor to fetch the cache line where `place` starts.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T>(place: &[T]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that cannot fault, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
