//! Shared parameters: tables of rows that read like global variables.
//!
//! A model describes its tables ([`TableSpec`]) and gets typed handles on them ([`Table`], [`TableMut`]) from
//! [`Params`]. Behind a handle is one flat array in which every row starts at a multiple of a (half) cache
//! line. Where updates must be known (more than one lane), a second array, the *base*, holds the table as it was
//! at the start of the clock, and a byte a row notes which rows were written; their update is row − base. Outside
//! a lane's clock both arrays are equal.

mod handle;
mod storage;

pub use handle::{Table, TableMut, prefetch};
pub use storage::{Element, Lines, Storage};

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

    /// Bytes from one row to the next.
    pub fn bytes_per_row(&self) -> usize {
        self.stride() * self.element.bytes()
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

/// A rank's copy of one table.
#[derive(Clone, Debug)]
pub struct Replica {
    /// What it is a copy of.
    pub spec: TableSpec,
    /// rows x stride elements; while a block of rows is visiting ([`Replica::first`]), those of the block.
    pub values: Storage,
    /// The first row that is there: 0 unless a block of rows is visiting.
    pub first: usize,
    /// If tracked, the rows as they were at the start of this clock; else empty.
    pub base: Storage,
    /// Per row: 1 if it was written in this clock.
    pub touched: Vec<u8>,
    /// Per chunk: true if it still holds a taken update that the sum of all lanes is to replace; empty if none does.
    pub left: Vec<bool>,
    /// True if updates must be known.
    pub tracked: bool,
}

impl Replica {
    /// A zeroed copy; with `tracked`, updates can be told from the base.
    pub fn new(spec: TableSpec, tracked: bool) -> Replica {
        let length = spec.rows * spec.stride();
        let values = Storage::zeroed(spec.element, length);
        let base = Storage::zeroed(spec.element, if tracked { length } else { 0 });
        let touched = vec![0; spec.rows];
        Replica { spec, values, first: 0, base, touched, left: Vec::new(), tracked }
    }

    /// Has the system map the memory of a tracked table now, by writing to every page of it. Later it would be read
    /// first, then written, which costs an interrupt of the other processors a page where threads share the memory.
    pub fn map(&mut self) {
        for storage in [&mut self.values, &mut self.base] {
            let bytes = std::hint::black_box(storage.bytes_mut());
            bytes.chunks_mut(4096).for_each(|page| page[0] = 0);
        }
    }

    /// Sets rows `rows` to the table's start; each depends on (seed, table, row) alone.
    pub fn initialise(&mut self, table: usize, seed: u64, rows: std::ops::Range<usize>) {
        self.spec.start(table, seed, rows, self.first, &mut self.values);
    }
}

impl TableSpec {
    /// Rows `rows` of this table, which is number `table`, as they start.
    pub fn started(&self, table: usize, seed: u64, rows: std::ops::Range<usize>) -> Storage {
        let mut values = Storage::zeroed(self.element, rows.len() * self.stride());
        self.start(table, seed, rows.clone(), rows.start, &mut values);
        values
    }

    fn start(
        &self,
        table: usize,
        seed: u64,
        rows: std::ops::Range<usize>,
        first: usize,
        values: &mut Storage,
    ) {
        if self.init == Init::Zero {
            return;
        }
        let stream = |row: usize| crate::rng::stream(seed, "init", &[table as u64, row as u64]);
        let places = rows.map(|row| (row - first, stream(row)));
        match values {
            Storage::F32(lines) => start_rows(lines.as_mut_slice(), self, places),
            Storage::F64(lines) => start_rows(lines.as_mut_slice(), self, places),
            Storage::I32(lines) => start_rows(lines.as_mut_slice(), self, places),
        }
    }
}

/// Draws the numbers of rows, each at its place from its own stream.
fn start_rows<T: Element>(
    values: &mut [T],
    spec: &TableSpec,
    places: impl Iterator<Item = (usize, crate::rng::Stream)>,
) {
    let (stride, width, init) = (spec.stride(), spec.width, spec.init);
    for (place, mut rng) in places {
        let numbers = &mut values[place * stride..][..width];
        match init {
            Init::Zero => numbers.fill(T::zeroed()),
            Init::Uniform { scale } => {
                numbers.iter_mut().for_each(|n| *n = T::from_f64(scale * (2.0 * rng.unit() - 1.0)));
            }
            Init::Normal { deviation } => {
                numbers.iter_mut().for_each(|n| *n = T::from_f64(deviation * rng.normal()));
            }
        }
    }
}

impl Replica {
    /// The numbers of rows `rows`, with padding, as bytes.
    pub fn row_bytes(&self, rows: std::ops::Range<usize>) -> &[u8] {
        let row_bytes = self.spec.bytes_per_row();
        &self.values.bytes()[rows.start * row_bytes..rows.end * row_bytes]
    }

    /// Sets the rows from `first` on to what [`Replica::row_bytes`] gave; false if they do not fit.
    pub fn set_row_bytes(&mut self, first: usize, bytes: &[u8]) -> bool {
        let row_bytes = self.spec.bytes_per_row();
        let start = first.checked_mul(row_bytes).filter(|_| bytes.len().is_multiple_of(row_bytes));
        let range = start.and_then(|start| Some(start..start.checked_add(bytes.len())?));
        let place = range.and_then(|range| self.values.bytes_mut().get_mut(range));
        place.map(|place| place.copy_from_slice(bytes)).is_some()
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
        let (stride, width) = (replica.spec.stride(), replica.spec.width);
        Table { values: values.as_slice(), before: replica.first * stride, stride, width }
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
    let Replica { spec, values, first, touched, .. } = replica;
    let Some(values) = T::slot_mut(values) else { wrong_type(spec, T::TYPE) };
    TableMut { values: values.as_mut_slice(), before: *first * stride, touched, stride, width }
}

#[cold]
fn wrong_type(spec: &TableSpec, asked: Type) -> ! {
    panic!("table {} holds {:?}, not {asked:?}", spec.name, spec.element)
}
