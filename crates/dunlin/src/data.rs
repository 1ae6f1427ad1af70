//! Data: a fixed list of blocks with stable ids, whatever the number of workers.
//!
//! A reader turns a file into [`Data`]; [`Data::blocks`] are cut by rows (users, documents) so that all have
//! about the same number of entries, and dealt contiguously to lanes. A block is the unit of work, of random
//! streams and of local state.
//!
//! Reading order: [`read()`] (the entry), one file per format (`svmlight`, `ratings`, `docword`, `idx`, `csv`,
//! `matrix_market`, `synth`), `labelled` (rows to blocks), `pairs` (rows to pairs), `pair_file`, [`cut()`], `input` (files, packing),
//! `text` (numbers); for data that do not fit into memory `shelf`, `store` (blocks on disk), `scratch` (bytes on disk), `buckets`.

use serde::{Deserialize, Serialize};

mod buckets;
mod cells;
mod csv;
mod cut;
mod docword;
mod idx;
mod input;
mod labelled;
mod matrix_market;
mod mix;
mod pair_file;
mod pairs;
mod ratings;
mod read;
mod sample;
mod scratch;
mod shelf;
mod sound;
mod store;
mod summary;
mod svmlight;
mod synth;
#[cfg(test)]
mod tests;
mod text;

pub use cells::{ColumnCounts, cut_columns, join_columns};
pub use cut::cut;
pub use mix::{mix, mix_on_disk};
pub use pairs::{ByClass, PairList, Pairing, RowPairs, pair};
pub use read::{Format, Layout, Notes, ReadOptions, read, read_from, read_idx, read_noting, write};
pub use sample::SAMPLES;
pub use scratch::{Piece, Scratch, ScratchFile};
pub use shelf::{Shelf, read_to_disk};
pub use store::Store;
pub use summary::{Summary, summary};
pub use synth::generators;

/// What kind of data a block holds; a model says which it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Rows of features with a class, or a target, each.
    Labelled,
    /// (user, item, rating).
    Ratings,
    /// Bags of words.
    Documents,
}

/// Feature rows in compressed sparse row form. Row r is `columns[offsets[r]..offsets[r + 1]]` with `values`
/// likewise; columns ascend within a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SparseRows {
    /// rows + 1 positions.
    pub offsets: Vec<u32>,
    /// Column of each entry, from 0.
    pub columns: Vec<u32>,
    /// Value of each entry.
    pub values: Vec<f32>,
    /// Class of each row: an index into [`Shape::classes`]; [`UNKNOWN`] for a class not seen in training. All 0 where
    /// there are targets.
    pub classes: Vec<u32>,
    /// Target of each row, a finite number, if [`ReadOptions::targets`] asked for them; else empty.
    pub targets: Vec<f32>,
}

/// Feature rows with every value stored, row after row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DenseRows {
    /// Values per row.
    pub width: usize,
    /// (rows, width).
    pub values: Vec<f32>,
    /// As in [`SparseRows`].
    pub classes: Vec<u32>,
    /// As in [`SparseRows`].
    pub targets: Vec<f32>,
}

/// Ratings, in the order of the file within each user; users ascend until a model rearranges them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratings {
    /// User of each rating, an index; [`UNKNOWN`] in test data for a user not seen in training.
    pub users: Vec<u32>,
    /// Item of each rating, an index; [`UNKNOWN`] likewise.
    pub items: Vec<u32>,
    /// The ratings.
    pub ratings: Vec<f32>,
}

/// Documents as words with counts. Document d is `words[offsets[d]..offsets[d + 1]]`, `counts` likewise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Documents {
    /// documents + 1 positions.
    pub offsets: Vec<u32>,
    /// Word of each entry, from 0, ascending within a document.
    pub words: Vec<u32>,
    /// How often it occurs, at least 1.
    pub counts: Vec<u32>,
}

/// The index that stands for "not seen in training" in test data.
pub const UNKNOWN: u32 = u32::MAX;

/// The contents of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Contents {
    /// Sparse feature rows.
    Sparse(SparseRows),
    /// Dense feature rows.
    Dense(DenseRows),
    /// Ratings.
    Ratings(Ratings),
    /// Documents.
    Documents(Documents),
    /// Pairs of feature rows; a [`Pairing`] makes them.
    Pairs(RowPairs),
}

impl Contents {
    /// True for feature rows, or pairs of them, with every value stored.
    pub fn is_dense(&self) -> bool {
        match self {
            Contents::Dense(_) => true,
            Contents::Pairs(pairs) => pairs.rows.is_dense(),
            _ => false,
        }
    }
}

/// A piece of the data: consecutive rows (users, documents), with an id that never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Position in the list of blocks.
    pub id: u32,
    /// First row (user, document) of the block, counted over the whole data. A pair counts for two rows.
    pub first_row: usize,
    /// One past the last row of the block.
    pub end_row: usize,
    /// The rows themselves.
    pub contents: Contents,
}

impl Block {
    /// Rows (users, documents) in this block.
    pub fn rows(&self) -> usize {
        self.end_row - self.first_row
    }

    /// Bytes of the contents: 4 for every number that is stored.
    pub fn bytes(&self) -> usize {
        let sparse = |rows: &SparseRows| {
            rows.offsets.len() + 2 * rows.columns.len() + rows.classes.len() + rows.targets.len()
        };
        let dense = |rows: &DenseRows| rows.values.len() + rows.classes.len() + rows.targets.len();
        4 * match &self.contents {
            Contents::Sparse(rows) => sparse(rows),
            Contents::Dense(rows) => dense(rows),
            Contents::Pairs(pairs) => {
                let rows = match &*pairs.rows {
                    Contents::Sparse(rows) => sparse(rows),
                    Contents::Dense(rows) => dense(rows),
                    _ => 0,
                };
                rows + 3 * pairs.pairs.len()
            }
            Contents::Ratings(ratings) => 3 * ratings.ratings.len(),
            Contents::Documents(documents) => documents.offsets.len() + 2 * documents.words.len(),
        }
    }

    /// Stored entries: non-zeros, values, ratings, or (document, word) pairs.
    pub fn entries(&self) -> usize {
        match &self.contents {
            Contents::Sparse(rows) => rows.columns.len(),
            Contents::Dense(rows) => rows.values.len(),
            Contents::Pairs(pairs) => match &*pairs.rows {
                Contents::Sparse(rows) => rows.columns.len(),
                Contents::Dense(rows) => rows.values.len(),
                _ => 0,
            },
            Contents::Ratings(ratings) => ratings.ratings.len(),
            Contents::Documents(documents) => documents.words.len(),
        }
    }

    /// What progress counts: rows of labelled data or pairs of them, ratings, or tokens.
    pub fn samples(&self) -> usize {
        match &self.contents {
            Contents::Sparse(rows) => rows.classes.len(),
            Contents::Dense(rows) => rows.classes.len(),
            Contents::Pairs(pairs) => pairs.pairs.len(),
            Contents::Ratings(ratings) => ratings.ratings.len(),
            Contents::Documents(documents) => documents.counts.iter().map(|c| *c as usize).sum(),
        }
    }
}

/// What is known of the data as a whole before a model is made; the same on all ranks. Test data have the
/// training data's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// What kind it is.
    pub kind: Kind,
    /// Rows, users or documents.
    pub rows: usize,
    /// Features, items or words of the vocabulary.
    pub columns: usize,
    /// Stored entries in all.
    pub entries: usize,
    /// Samples in all: rows, ratings or tokens.
    pub samples: usize,
    /// The labels that occur, ascending; class c of a block is `classes[c]`. Empty where there are none.
    pub classes: Vec<i64>,
    /// Mean rating or target; 0 where there are none.
    pub mean_target: f64,
    /// Least rating or target.
    pub min_target: f32,
    /// Greatest rating or target.
    pub max_target: f32,
}

/// What rows and columns are called in the file, where they have names: user and item ids, words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Names {
    /// Name of each row (user); empty if rows are just numbered from 0.
    pub rows: Vec<String>,
    /// Name of each column (item, word, feature of a CSV header); empty if columns are just numbered from 0.
    pub columns: Vec<String>,
    /// Name of each class, where labels are words; empty if they are the whole numbers of [`Shape::classes`].
    pub classes: Vec<String>,
}

impl Names {
    /// Row `row`'s name, or its number from 0 if it has none; fit for a field of a table: no tab, no line end.
    pub fn row(&self, row: usize) -> String {
        field(&self.rows, row)
    }

    /// Column `column`'s name, likewise.
    pub fn column(&self, column: usize) -> String {
        field(&self.columns, column)
    }

    /// Class `class`'s name, or its label.
    pub fn class(&self, shape: &Shape, class: usize) -> String {
        match shape.classes.get(class) {
            Some(label) if class >= self.classes.len() => label.to_string(),
            _ => field(&self.classes, class),
        }
    }
}

fn field(names: &[String], at: usize) -> String {
    names.get(at).map_or_else(|| at.to_string(), |name| name.replace(|c: char| c.is_control(), " "))
}

/// A data set, cut into blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// What is known of it as a whole.
    pub shape: Shape,
    /// Names from the file.
    pub names: Names,
    /// The blocks, by id.
    pub blocks: Vec<Block>,
}
