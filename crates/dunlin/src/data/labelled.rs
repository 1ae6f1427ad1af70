//! From rows of features with labels, as a reader finds them, to blocks: classes numbered, layout chosen.

use super::cut::{Pile, cut_rows};
use super::text::grouped;
use super::{
    Block, Contents, Data, DenseRows, Kind, Layout, Names, Notes, Pairing, ReadOptions, Shape, SparseRows,
    UNKNOWN,
};
use crate::{Error, Result};
use std::collections::HashMap;

/// The largest feature index we take, counted from 0: indices of other programs are signed.
pub(super) const LAST_COLUMN: u64 = i32::MAX as u64 - 1;

/// The most values that rows are spread to because somebody asks for it: 16 GiB.
const MOST_CELLS: f64 = (1u64 << 32) as f64;

/// Rows as they are read. Entries go in with [`Rows::entry`], then [`Rows::end_row`] ends the row.
#[derive(Debug, Default)]
pub(super) struct Rows {
    lengths: Vec<u32>,
    columns: Pile<u32>,
    values: Pile<f32>,
    /// Position of each row's label in the list of labels, in order of appearance.
    labels: Vec<u32>,
    /// Each row's target, where labels are read as such.
    targets: Vec<f32>,
    length: u32,
    entries: u64,
    /// Columns: one more than the greatest seen.
    width: usize,
    /// Columns from here on are dropped and counted.
    limit: usize,
    dropped: u64,
}

/// What the labels of [`Rows`] mean.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// Value of each label, in order of appearance.
    values: Vec<i64>,
    positions: HashMap<i64, u32>,
    last: Option<(i64, u32)>,
}

impl Labels {
    /// Labels whose positions are given by someone else.
    pub(super) fn of(values: Vec<i64>) -> Labels {
        Labels { values, ..Labels::default() }
    }

    /// Position of a label, new or known.
    #[inline]
    pub(super) fn position(&mut self, label: i64) -> u32 {
        if let Some((last, position)) = self.last
            && last == label
        {
            return position;
        }
        let next = self.values.len() as u32;
        let position = *self.positions.entry(label).or_insert(next);
        if position == next {
            self.values.push(label);
        }
        self.last = Some((label, position));
        position
    }
}

impl Rows {
    /// No rows yet; with `like`, columns beyond its are dropped.
    pub(super) fn new(options: &ReadOptions, like: Option<&Data>) -> Rows {
        let (columns, values) = (Pile::new(options.scratch()), Pile::new(options.scratch()));
        let limit = like.map_or(usize::MAX, |like| like.shape.columns);
        Rows { columns, values, limit, ..Rows::default() }
    }

    /// Adds an entry to the row; columns must ascend. Zeros count for the width alone.
    #[inline(always)]
    pub(super) fn entry(&mut self, column: u32, value: f32) {
        if column as usize >= self.width {
            if column as usize >= self.limit {
                self.dropped += 1;
                return;
            }
            self.width = column as usize + 1;
        }
        if value != 0.0 {
            self.columns.push(column);
            self.values.push(value);
            self.length += 1;
        }
    }

    /// Ends the row, whose label has this position.
    #[inline(always)]
    pub(super) fn end_row(&mut self, label: u32) {
        self.lengths.push(self.length);
        self.entries += u64::from(self.length);
        self.length = 0;
        self.labels.push(label);
    }

    /// Ends the row, which has this target.
    #[inline(always)]
    pub(super) fn end_row_with(&mut self, target: f32) {
        self.end_row(0);
        self.targets.push(target);
    }

    /// Says that there are at least `columns` columns, even if the last are zero throughout.
    pub(super) fn at_least(&mut self, columns: usize) {
        self.width = self.width.max(columns.min(self.limit));
    }

    /// Rows so far.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Cuts the rows into blocks.
    ///
    /// # Errors
    /// [`Error::Data`]: no rows, no features, or one class where a model wants to tell classes apart.
    pub(super) fn finish(
        mut self,
        place: &str,
        labels: &Labels,
        names: Names,
        options: &ReadOptions,
        like: Option<&Data>,
    ) -> Result<(Data, Notes)> {
        if self.labels.is_empty() {
            return Err(Error::Data(format!("{place}: no rows; the file is empty")));
        }
        if options.targets && self.targets.is_empty() {
            // A format or generator whose labels are classes: their numbers are the targets.
            self.targets = self.labels.iter().map(|label| labels.values[*label as usize] as f32).collect();
        }
        let of_classes = if options.targets { &[][..] } else { &labels.values };
        let (classes, numbers) = number_classes(of_classes, like);
        let labels_count = options.kind == Some(Kind::Labelled)
            && !options.any_labels
            && !options.targets
            && !matches!(options.pairing, Pairing::File(_));
        if labels_count && !self.targets.is_empty() {
            return Err(Error::Data(format!(
                "{place}: its rows have targets; wanted here are rows with classes"
            )));
        }
        if like.is_none() && labels_count && classes.len() < 2 {
            let rows = grouped(self.len() as u64);
            return Err(Error::Data(format!(
                "{place}: all {rows} rows have the label {}; there must be at least two classes to tell apart",
                classes[0]
            )));
        }
        if like.is_none() && self.width == 0 {
            return Err(Error::Data(format!("{place}: no row has a feature")));
        }
        let mut notes = Notes { dropped_entries: self.dropped, ..Notes::default() };
        self.labels.iter_mut().for_each(|label| *label = numbers.get(*label as usize).copied().unwrap_or(0));
        notes.unknown_rows = self.labels.iter().filter(|class| **class == UNKNOWN).count() as u64;
        let width = like.map_or(self.width, |like| like.shape.columns);
        let dense = self.is_dense(width, options.layout, like);
        if dense && options.layout == Layout::Dense && self.len() as f64 * width as f64 > MOST_CELLS {
            let rows = grouped(self.len() as u64);
            return Err(Error::Data(format!(
                "{place}: {rows} rows of {width} columns are too much to store dense"
            )));
        }
        let (rows, entries) = (self.len(), if dense { self.len() * width } else { self.entries as usize });
        let targets = Targets::of(&self.targets);
        let blocks = self.blocks(width, dense, options)?;
        let shape = Shape {
            kind: Kind::Labelled,
            rows,
            columns: width,
            entries,
            samples: rows,
            classes,
            mean_target: targets.mean,
            min_target: targets.min,
            max_target: targets.max,
        };
        let (shape, names) = like.map_or((shape, names), |like| (like.shape.clone(), like.names.clone()));
        Ok((Data { shape, names, blocks }, notes))
    }

    /// Test rows are laid out as the training rows, unless that would blow them up.
    fn is_dense(&self, width: usize, layout: Layout, like: Option<&Data>) -> bool {
        let cells = self.len() as f64 * width as f64;
        let entries = self.entries as f64;
        match (like.and_then(|like| like.blocks.first()), layout) {
            (Some(block), _) => block.contents.is_dense() && cells <= 16.0 * entries + 1e7,
            (None, Layout::Auto) => entries >= 0.4 * cells,
            (None, Layout::Sparse) => false,
            (None, Layout::Dense) => true,
        }
    }

    fn blocks(mut self, width: usize, dense: bool, options: &ReadOptions) -> Result<Vec<Block>> {
        let weight = |row: usize| if dense { width as u64 } else { u64::from(self.lengths[row]) };
        let ranges = cut_rows(self.labels.len(), weight, options.blocks);
        let mut list = Vec::with_capacity(ranges.len());
        for (id, range) in ranges.into_iter().enumerate() {
            let classes = self.labels[range.clone()].to_vec();
            let offsets = offsets(self.lengths[range.clone()].iter().map(|length| u64::from(*length)));
            let count = offsets.last().copied().unwrap_or(0) as usize;
            let (columns, values) = (self.columns.take(count)?, self.values.take(count)?);
            let targets = self.targets.get(range.clone()).unwrap_or_default().to_vec();
            let sparse = SparseRows { offsets, columns, values, classes, targets };
            let contents =
                if dense { Contents::Dense(spread(sparse, width)) } else { Contents::Sparse(sparse) };
            let block = Block { id: id as u32, first_row: range.start, end_row: range.end, contents };
            list.push(options.keep(block)?);
        }
        Ok(list)
    }
}

/// Positions from lengths; [`cut`] sees to it that they fit.
pub(super) fn offsets(lengths: impl ExactSizeIterator<Item = u64>) -> Vec<u32> {
    let mut at = 0u64;
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    offsets.push(0);
    for length in lengths {
        at += length;
        offsets.push(at as u32);
    }
    offsets
}

fn spread(rows: SparseRows, width: usize) -> DenseRows {
    let mut values = vec![0.0; rows.classes.len() * width];
    for row in 0..rows.classes.len() {
        for at in rows.offsets[row] as usize..rows.offsets[row + 1] as usize {
            values[row * width + rows.columns[at] as usize] = rows.values[at];
        }
    }
    DenseRows { width, values, classes: rows.classes, targets: rows.targets }
}

/// Mean, least and greatest of targets; 0 where there are none.
#[derive(Default)]
struct Targets {
    mean: f64,
    min: f32,
    max: f32,
}

impl Targets {
    fn of(targets: &[f32]) -> Targets {
        let Some(first) = targets.first() else { return Targets::default() };
        let sum: f64 = targets.iter().map(|target| f64::from(*target)).sum();
        let fold = |pick: fn(f32, f32) -> f32| targets.iter().copied().fold(*first, pick);
        Targets { mean: sum / targets.len() as f64, min: fold(f32::min), max: fold(f32::max) }
    }
}

/// The classes in ascending order, and for each label by position its class: the training data's, if given.
fn number_classes(values: &[i64], like: Option<&Data>) -> (Vec<i64>, Vec<u32>) {
    let classes = like.map_or_else(
        || {
            let mut classes = values.to_vec();
            classes.sort_unstable();
            // "1" and "1.0" are two words for one label.
            classes.dedup();
            classes
        },
        |like| like.shape.classes.clone(),
    );
    let number = |value: &i64| classes.binary_search(value).map_or(UNKNOWN, |class| class as u32);
    let numbers = values.iter().map(number).collect();
    (classes, numbers)
}
