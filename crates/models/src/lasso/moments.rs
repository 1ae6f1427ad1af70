//! What the columns of a block's rows sum up to, before they are centred and scaled.

use crate::softmax::kernel::{Work, dispatch};
use dunlin::data::{Block, Contents};
use dunlin::isa::Isa;

/// Σ x of each of `width` columns over a block's rows.
pub(super) fn sums(block: &Block, width: usize, isa: Isa) -> Vec<f64> {
    let mut out = vec![0.0; width];
    match &block.contents {
        Contents::Dense(rows) => dispatch(isa, Sums { values: &rows.values, out: &mut out }),
        Contents::Sparse(rows) => {
            let entries = rows.columns.iter().zip(&rows.values);
            entries.for_each(|(column, value)| out[*column as usize] += f64::from(*value));
        }
        _ => {}
    }
    out
}

/// Σ (x − centre)² of each column over a block's rows.
pub(super) fn squares(block: &Block, centres: &[f64], isa: Isa) -> Vec<f64> {
    let mut out = vec![0.0; centres.len()];
    match &block.contents {
        Contents::Dense(rows) => dispatch(isa, Squares { values: &rows.values, centres, out: &mut out }),
        Contents::Sparse(rows) => {
            let mut stored = vec![0usize; centres.len()];
            for (column, value) in rows.columns.iter().zip(&rows.values) {
                let column = *column as usize;
                stored[column] += 1;
                out[column] += (f64::from(*value) - centres[column]).powi(2);
            }
            for ((out, stored), centre) in out.iter_mut().zip(stored).zip(centres) {
                *out += (block.rows() - stored) as f64 * centre * centre;
            }
        }
        _ => {}
    }
    out
}

/// Σ x (y − centre) of each of `width` columns over a block's rows with targets y.
pub(super) fn with_targets(block: &Block, targets: &[f32], centre: f64, width: usize, isa: Isa) -> Vec<f64> {
    let mut out = vec![0.0; width];
    let left = |target: &f32| f64::from(*target) - centre;
    match &block.contents {
        Contents::Dense(rows) => {
            let targets: Vec<f64> = targets.iter().map(left).collect();
            dispatch(isa, WithTargets { values: &rows.values, targets: &targets, out: &mut out });
        }
        Contents::Sparse(rows) => {
            for (range, target) in rows.offsets.windows(2).zip(targets.iter().map(left)) {
                for at in range[0] as usize..range[1] as usize {
                    out[rows.columns[at] as usize] += f64::from(rows.values[at]) * target;
                }
            }
        }
        _ => {}
    }
    out
}

struct Sums<'a> {
    values: &'a [f32],
    out: &'a mut [f64],
}

impl Work for Sums<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for row in self.values.chunks_exact(self.out.len().max(1)) {
            self.out.iter_mut().zip(row).for_each(|(out, value)| *out += f64::from(*value));
        }
    }
}

struct Squares<'a> {
    values: &'a [f32],
    centres: &'a [f64],
    out: &'a mut [f64],
}

impl Work for Squares<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for row in self.values.chunks_exact(self.out.len().max(1)) {
            for ((out, value), centre) in self.out.iter_mut().zip(row).zip(self.centres) {
                let left = f64::from(*value) - centre;
                *out += left * left;
            }
        }
    }
}

struct WithTargets<'a> {
    values: &'a [f32],
    targets: &'a [f64],
    out: &'a mut [f64],
}

impl Work for WithTargets<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for (row, target) in self.values.chunks_exact(self.out.len().max(1)).zip(self.targets) {
            self.out.iter_mut().zip(row).for_each(|(out, value)| *out += f64::from(*value) * target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::data::{DenseRows, SparseRows};

    #[test]
    fn dense_and_sparse_rows_have_the_same_sums() {
        let values = vec![1.0f32, 0.0, 2.0, 0.0, 0.0, -3.0];
        let targets = vec![4.0f32, 6.0];
        let dense = DenseRows { width: 3, values, classes: vec![0; 2], targets: targets.clone() };
        let sparse = SparseRows {
            offsets: vec![0, 2, 3],
            columns: vec![0, 2, 2],
            values: vec![1.0, 2.0, -3.0],
            classes: vec![0; 2],
            targets: targets.clone(),
        };
        for contents in [Contents::Dense(dense), Contents::Sparse(sparse)] {
            let block = Block { id: 0, first_row: 0, end_row: 2, contents };
            for isa in Isa::available() {
                assert_eq!(sums(&block, 3, isa), [1.0, 0.0, -1.0]);
                assert_eq!(squares(&block, &[0.5, 0.0, -0.5], isa), [0.5, 0.0, 12.5]);
                assert_eq!(with_targets(&block, &targets, 5.0, 3, isa), [-1.0, 0.0, -5.0]);
            }
        }
    }
}
