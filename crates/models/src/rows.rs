//! Rows of features, however a block stores them.

use dunlin::data::{Block, Contents};

/// The rows of a block, in the way it stores them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// Every value, row after row.
    Dense { width: usize, values: &'a [f32], count: usize },
    /// Non-zeros.
    Sparse { offsets: &'a [u32], columns: &'a [u32], values: &'a [f32] },
}

impl<'a> Rows<'a> {
    /// The rows of `block`; `None` if it holds no rows of features.
    pub(crate) fn of(block: &'a Block) -> Option<Rows<'a>> {
        match &block.contents {
            Contents::Dense(rows) => {
                Some(Rows::Dense { width: rows.width, values: &rows.values, count: rows.classes.len() })
            }
            Contents::Sparse(rows) => {
                Some(Rows::Sparse { offsets: &rows.offsets, columns: &rows.columns, values: &rows.values })
            }
            _ => None,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Rows::Dense { count, .. } => *count,
            Rows::Sparse { offsets, .. } => offsets.len() - 1,
        }
    }

    /// Calls `each` with (column, value) of row `row`.
    #[inline(always)]
    pub(crate) fn each(&self, row: usize, mut each: impl FnMut(usize, f32)) {
        match self {
            Rows::Dense { width, values, .. } => {
                let row = &values[row * width..][..*width];
                row.iter().enumerate().for_each(|(column, value)| each(column, *value));
            }
            Rows::Sparse { offsets, columns, values } => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                let entries = columns[range.clone()].iter().zip(&values[range]);
                entries.for_each(|(column, value)| each(*column as usize, *value));
            }
        }
    }

    /// ‖x‖² of row `row`.
    pub(crate) fn square(&self, row: usize) -> f64 {
        let mut sum = 0.0;
        self.each(row, |_, value| sum += f64::from(value) * f64::from(value));
        sum
    }
}
