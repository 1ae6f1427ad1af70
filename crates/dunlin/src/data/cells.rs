//! Cells: a block of data cut along its columns, for strategies under which only some rows of a table are at hand.

use super::{Block, Contents, DenseRows, Documents, Ratings, SparseRows};
use crate::{Error, Result};
use std::ops::Range;

/// Cuts `columns` columns into `count` contiguous ranges with about as many entries in each; a range may be empty.
/// `blocks` are all blocks of the data, so that every rank cuts alike.
pub fn cut_columns<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    columns: usize,
    count: usize,
) -> Vec<Range<usize>> {
    let mut counts = ColumnCounts::new(columns);
    blocks.for_each(|block| counts.add(block));
    counts.cut(count)
}

/// Entries of each column: [`cut_columns`] for blocks that come one at a time.
#[derive(Clone, Debug)]
pub struct ColumnCounts {
    entries: Vec<u64>,
}

impl ColumnCounts {
    /// No entries yet in `columns` columns.
    pub fn new(columns: usize) -> ColumnCounts {
        ColumnCounts { entries: vec![0; columns] }
    }

    /// Counts the entries of a block.
    pub fn add(&mut self, block: &Block) {
        let ids = match &block.contents {
            Contents::Ratings(ratings) => &ratings.items,
            Contents::Documents(documents) => &documents.words,
            Contents::Sparse(rows) => &rows.columns,
            Contents::Dense(_) | Contents::Pairs(_) => return,
        };
        for id in ids {
            if let Some(entries) = self.entries.get_mut(*id as usize) {
                *entries += 1;
            }
        }
    }

    /// The ranges.
    pub fn cut(&self, count: usize) -> Vec<Range<usize>> {
        // Every column weighs a little even without entries: its row must be kept and moved all the same.
        let weight = |entries: &u64| 8 * entries + 1;
        let (entries, columns) = (&self.entries, self.entries.len());
        let total: u64 = entries.iter().map(weight).sum();
        let (mut ranges, mut start, mut done) = (Vec::with_capacity(count), 0, 0);
        for part in 1..=count as u64 {
            let mut end = start;
            while end < columns && (done < total * part / count as u64 || part == count as u64) {
                done += weight(&entries[end]);
                end += 1;
            }
            ranges.push(start..end);
            start = end;
        }
        ranges
    }
}

/// The columns `range` of all rows of `blocks`, which follow each other: one block with the number `id`, its columns counted from
/// the first of them.
///
/// # Errors
/// [`Error::Usage`] for what has no feature rows, or blocks of different kinds.
pub fn join_columns(blocks: &[&Block], range: Range<usize>, id: u32) -> Result<Block> {
    let first_row = blocks.first().map_or(0, |block| block.first_row);
    let end_row = blocks.last().map_or(0, |block| block.end_row);
    let is_dense = blocks.first().is_some_and(|block| block.contents.is_dense());
    let mut dense = DenseRows { width: range.len(), ..DenseRows::default() };
    let mut sparse = SparseRows { offsets: vec![0], ..SparseRows::default() };
    for block in blocks {
        match &block.contents {
            Contents::Dense(rows) if is_dense && range.end <= rows.width => {
                rows.values.chunks_exact(rows.width).for_each(|row| dense.values.extend(&row[range.clone()]));
                dense.classes.extend(&rows.classes);
                dense.targets.extend(&rows.targets);
            }
            Contents::Sparse(rows) if !is_dense => {
                for bounds in rows.offsets.windows(2) {
                    let columns = &rows.columns[bounds[0] as usize..bounds[1] as usize];
                    let start = columns.partition_point(|column| (*column as usize) < range.start);
                    let end = columns.partition_point(|column| (*column as usize) < range.end);
                    sparse
                        .columns
                        .extend(columns[start..end].iter().map(|column| column - range.start as u32));
                    sparse.values.extend(&rows.values[bounds[0] as usize..][start..end]);
                    sparse.offsets.push(sparse.columns.len() as u32);
                }
                sparse.classes.extend(&rows.classes);
                sparse.targets.extend(&rows.targets);
            }
            _ => {
                let (id, end) = (block.id, range.end);
                let text = format!(
                    "block {id} has no feature rows with {end} columns; only such data are cut by columns"
                );
                return Err(Error::Usage(text));
            }
        }
    }
    let contents = if is_dense { Contents::Dense(dense) } else { Contents::Sparse(sparse) };
    Ok(Block { id, first_row, end_row, contents })
}

impl Block {
    /// The block's entries by range of columns: one block for each of `ranges`, which ascend and cover all columns.
    /// Rows are those of the whole block, in every cell.
    ///
    /// # Errors
    /// [`Error::Usage`] for dense rows, which have no entries to deal out.
    pub fn cells(self, ranges: &[Range<usize>]) -> Result<Vec<Block>> {
        let Block { id, first_row, end_row, contents } = self;
        let cut: Vec<Contents> = match contents {
            Contents::Ratings(ratings) => {
                let mut cells = vec![Ratings::default(); ranges.len()];
                for ((user, item), rating) in ratings.users.iter().zip(&ratings.items).zip(&ratings.ratings) {
                    if let Some(cell) = cells.get_mut(cell_of(ranges, *item)) {
                        cell.users.push(*user);
                        cell.items.push(*item);
                        cell.ratings.push(*rating);
                    }
                }
                cells.into_iter().map(Contents::Ratings).collect()
            }
            Contents::Documents(documents) => {
                let mut cells = vec![Documents { offsets: vec![0], ..Documents::default() }; ranges.len()];
                for bounds in documents.offsets.windows(2) {
                    deal(&mut cells, ranges, bounds, &documents.words, |cell, at| {
                        cell.words.push(documents.words[at]);
                        cell.counts.push(documents.counts[at]);
                    });
                    cells.iter_mut().for_each(|cell| cell.offsets.push(cell.words.len() as u32));
                }
                cells.into_iter().map(Contents::Documents).collect()
            }
            Contents::Sparse(rows) => {
                let (classes, targets) = (rows.classes.clone(), rows.targets.clone());
                let empty = SparseRows { offsets: vec![0], classes, targets, ..SparseRows::default() };
                let mut cells = vec![empty; ranges.len()];
                for bounds in rows.offsets.windows(2) {
                    deal(&mut cells, ranges, bounds, &rows.columns, |cell, at| {
                        cell.columns.push(rows.columns[at]);
                        cell.values.push(rows.values[at]);
                    });
                    cells.iter_mut().for_each(|cell| cell.offsets.push(cell.columns.len() as u32));
                }
                cells.into_iter().map(Contents::Sparse).collect()
            }
            Contents::Dense(_) | Contents::Pairs(_) => {
                return Err(Error::Usage(
                    "--strategy rotation cuts data along their columns; neither dense rows nor pairs can be cut so"
                        .into(),
                ));
            }
        };
        Ok(cut.into_iter().map(|contents| Block { id, first_row, end_row, contents }).collect())
    }
}

/// The range that has `column`; the last one for a column beyond all, as test data have.
fn cell_of(ranges: &[Range<usize>], column: u32) -> usize {
    let cell = ranges.partition_point(|range| range.end <= column as usize);
    cell.min(ranges.len().saturating_sub(1))
}

/// Gives every entry of a row, from `bounds[0]` to `bounds[1]`, to the cell of its column.
fn deal<C>(
    cells: &mut [C],
    ranges: &[Range<usize>],
    bounds: &[u32],
    columns: &[u32],
    mut give: impl FnMut(&mut C, usize),
) {
    let entries = bounds[0] as usize..bounds[1] as usize;
    for (at, column) in entries.clone().zip(&columns[entries]) {
        if let Some(cell) = cells.get_mut(cell_of(ranges, *column)) {
            give(cell, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_all_rows_are_joined() {
        let values = [[1.0f32, 2.0, 0.0, 3.0], [0.0, 4.0, 5.0, 0.0], [6.0, 0.0, 0.0, 7.0]];
        let block = |id: u32, rows: Range<usize>, is_dense: bool| {
            let (mut dense, mut sparse) = (
                DenseRows { width: 4, ..DenseRows::default() },
                SparseRows { offsets: vec![0], ..SparseRows::default() },
            );
            for row in rows.clone() {
                dense.values.extend(values[row]);
                for (column, value) in values[row].iter().enumerate().filter(|(_, value)| **value != 0.0) {
                    sparse.columns.push(column as u32);
                    sparse.values.push(*value);
                }
                sparse.offsets.push(sparse.columns.len() as u32);
                dense.targets.push(row as f32);
                sparse.targets.push(row as f32);
            }
            let contents = if is_dense { Contents::Dense(dense) } else { Contents::Sparse(sparse) };
            Block { id, first_row: rows.start, end_row: rows.end, contents }
        };
        for is_dense in [true, false] {
            let blocks = [block(0, 0..2, is_dense), block(1, 2..3, is_dense)];
            let joined = join_columns(&blocks.iter().collect::<Vec<_>>(), 1..3, 7).expect("rows");
            assert_eq!((joined.id, joined.first_row, joined.end_row), (7, 0, 3));
            match joined.contents {
                Contents::Dense(rows) => {
                    assert_eq!((rows.width, rows.values), (2, vec![2.0, 0.0, 4.0, 5.0, 0.0, 0.0]));
                    assert_eq!(rows.targets, [0.0, 1.0, 2.0]);
                }
                Contents::Sparse(rows) => {
                    assert_eq!((rows.offsets, rows.columns), (vec![0, 1, 3, 3], vec![0, 0, 1]));
                    assert_eq!((rows.values, rows.targets), (vec![2.0, 4.0, 5.0], vec![0.0, 1.0, 2.0]));
                }
                _ => panic!("feature rows"),
            }
        }
        let mixed = [block(0, 0..2, true), block(1, 2..3, false)];
        assert!(join_columns(&mixed.iter().collect::<Vec<_>>(), 0..2, 0).is_err());
    }
}
