//! Whether a block that came from another rank can be worked on: every index is looked at before it is used.

use super::{Block, Contents, Shape, UNKNOWN};
use std::ops::Range;

impl Block {
    /// What is wrong with a block, or a cell of one, of data of this `shape` whose entries are in `columns`; `None` if
    /// nothing. Blocks of test data may have rows, columns and classes that training did not see.
    pub fn fault(&self, shape: &Shape, columns: &Range<usize>, is_test: bool) -> Option<String> {
        let is_known =
            |id: u32, range: &Range<usize>| range.contains(&(id as usize)) || (is_test && id == UNKNOWN);
        let are_columns = |ids: &[u32]| ids.iter().all(|id| is_known(*id, columns));
        let are_classes = |ids: &[u32]| ids.iter().all(|id| is_known(*id, &(0..shape.classes.len().max(1))));
        let last = if is_test { usize::MAX } else { shape.rows };
        if self.first_row > self.end_row || self.end_row > last {
            return Some(format!("rows {} to {} of {}", self.first_row, self.end_row, shape.rows));
        }
        let rows = self.rows();
        let are_targets = |targets: &[f32]| targets.is_empty() || targets.len() == rows;
        let is_sound = match &self.contents {
            Contents::Ratings(ratings) => {
                let users = if is_test { 0..shape.rows } else { self.first_row..self.end_row };
                ratings.users.len() == ratings.ratings.len()
                    && ratings.items.len() == ratings.ratings.len()
                    && ratings.users.iter().all(|user| is_known(*user, &users))
                    && are_columns(&ratings.items)
            }
            Contents::Documents(documents) => {
                are_offsets(&documents.offsets, rows, documents.words.len())
                    && documents.counts.len() == documents.words.len()
                    && are_columns(&documents.words)
            }
            Contents::Sparse(sparse) => {
                are_offsets(&sparse.offsets, rows, sparse.columns.len())
                    && sparse.values.len() == sparse.columns.len()
                    && are_columns(&sparse.columns)
                    && sparse.classes.len() == rows
                    && are_classes(&sparse.classes)
                    && are_targets(&sparse.targets)
            }
            Contents::Dense(dense) => {
                dense.width == shape.columns
                    && Some(dense.values.len()) == rows.checked_mul(dense.width)
                    && dense.classes.len() == rows
                    && are_classes(&dense.classes)
                    && are_targets(&dense.targets)
            }
            Contents::Pairs(_) => false, // they stay where they were drawn
        };
        (!is_sound).then(|| format!("block {} whose numbers do not fit together", self.id))
    }
}

/// True for rows + 1 positions that go up from 0 to `entries`.
fn are_offsets(offsets: &[u32], rows: usize, entries: usize) -> bool {
    offsets.len() == rows.saturating_add(1)
        && offsets.first() == Some(&0)
        && offsets.last().is_some_and(|last| *last as usize == entries)
        && offsets.is_sorted()
}

#[cfg(test)]
mod tests {
    use crate::data::{Contents, ReadOptions, cut_columns, read};
    use crate::rng::stream;

    const SOURCES: [&str; 4] = [
        "sample:digits",
        "synth:softmax?n=300&columns=50&nonzeros=5&classes=4",
        "synth:mf?n=900&users=50&items=20",
        "synth:lda?docs=40&words=60&length=30",
    ];

    #[test]
    fn blocks_and_cells_as_they_were_read_are_sound() {
        for source in SOURCES {
            let data = read(source, &ReadOptions { blocks: 7, ..ReadOptions::default() }, None).unwrap();
            let (shape, all) = (&data.shape, 0..data.shape.columns);
            for block in &data.blocks {
                assert_eq!(block.fault(shape, &all, false), None, "{source}");
                if block.contents.is_dense() {
                    continue;
                }
                let ranges = cut_columns(data.blocks.iter(), shape.columns, 6);
                for (cell, range) in block.clone().cells(&ranges).unwrap().iter().zip(&ranges) {
                    assert_eq!(cell.fault(shape, range, false), None, "{source}");
                    let is_elsewhere = cell.entries() > 0;
                    assert_eq!(cell.fault(shape, &(range.end..range.end + 1), false).is_some(), is_elsewhere);
                }
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_told() {
        for (at, source) in SOURCES.into_iter().enumerate() {
            let data = read(source, &ReadOptions { blocks: 7, ..ReadOptions::default() }, None).unwrap();
            for seed in 0..200 {
                let mut rng = stream(seed, "sound", &[at as u64]);
                let mut block = data.blocks[rng.below(7)].clone();
                let bad = 70 + rng.below(1 << 20) as u32;
                match &mut block.contents {
                    Contents::Sparse(rows) => match rng.below(4) {
                        0 => *rows.columns.last_mut().unwrap() = bad,
                        1 => *rows.offsets.last_mut().unwrap() = bad + 1000,
                        2 => drop(rows.values.pop()),
                        _ => rows.classes[0] = bad,
                    },
                    Contents::Dense(rows) => match rng.below(3) {
                        0 => rows.width += 1,
                        1 => drop(rows.values.pop()),
                        _ => rows.classes[0] = bad,
                    },
                    Contents::Ratings(ratings) => match rng.below(3) {
                        0 => ratings.users[0] = bad,
                        1 => ratings.items[0] = bad,
                        _ => drop(ratings.ratings.pop()),
                    },
                    Contents::Documents(documents) => match rng.below(3) {
                        0 => documents.words[0] = bad,
                        1 => documents.offsets[0] = 1,
                        _ => drop(documents.counts.pop()),
                    },
                    Contents::Pairs(_) => unreachable!("no pairs among these"),
                }
                let fault = block.fault(&data.shape, &(0..data.shape.columns), false);
                assert!(fault.is_some(), "{source}, seed {seed}");
            }
        }
    }
}
