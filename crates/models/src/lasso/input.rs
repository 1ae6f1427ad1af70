//! A block of rows with targets: what is in it, whether it will do, and its columns.

use super::columns::Columns;
use super::problem::Point;
use super::small::Small;
use dunlin::data::{Block, Contents};
use dunlin::{Error, Result};

/// Correlations above this share of the greatest may be the greatest but for rounding.
const NEAR: f64 = 1.0 - 1e-3;

/// A block's rows as columns.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) columns: Columns,
    /// Targets, centred if there is an intercept.
    pub(super) target: Vec<f64>,
    /// All columns' numbers.
    pub(super) all: Vec<u32>,
}

impl Held {
    /// x̃ᵀ r of all columns at the coefficients of `small`, and the sums of the residual r. The greatest correlations,
    /// on which the duality gap hangs, are in double precision.
    pub(super) fn correlations(&self, small: &Small) -> (Vec<f64>, Point) {
        let residual = self.columns.residual(&self.target, small.iter());
        let mut correlations = vec![0.0; self.all.len()];
        self.columns.products(&self.all, &residual, &mut correlations);
        let most = correlations.iter().fold(0.0f64, |most, c| most.max(c.abs()));
        let near: Vec<u32> =
            self.all.iter().copied().filter(|at| correlations[*at as usize].abs() >= NEAR * most).collect();
        let mut exact = vec![0.0; near.len()];
        self.columns.exact_products(&near, &residual, &mut exact);
        near.iter().zip(exact).for_each(|(column, exact)| correlations[*column as usize] = exact);
        let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let point = Point {
            rows: self.target.len() as f64,
            square: inner(&residual.exact, &residual.exact),
            with_target: inner(&self.target, &residual.exact),
            ..Point::default()
        };
        (correlations, point)
    }
}

/// A block's targets; none if it has no rows with targets.
pub(super) fn targets(block: &Block) -> Option<&[f32]> {
    let targets = match &block.contents {
        Contents::Dense(rows) => &rows.targets,
        Contents::Sparse(rows) => &rows.targets,
        _ => return None,
    };
    (targets.len() == block.rows()).then_some(targets)
}

/// Calls `each(row, column, value)` for the block's values that are stored and not zero.
pub(super) fn each_value(block: &Block, mut each: impl FnMut(usize, usize, f64)) {
    match &block.contents {
        Contents::Dense(rows) => {
            for (row, values) in rows.values.chunks_exact(rows.width.max(1)).enumerate() {
                for (column, value) in values.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                    each(row, column, f64::from(*value));
                }
            }
        }
        Contents::Sparse(rows) => {
            for row in 0..rows.offsets.len().saturating_sub(1) {
                for at in rows.offsets[row] as usize..rows.offsets[row + 1] as usize {
                    each(row, rows.columns[at] as usize, f64::from(rows.values[at]));
                }
            }
        }
        _ => {}
    }
}

/// Refuses blocks without targets, columns that the shape does not know, and what is no finite number.
pub(super) fn check(block: &Block, width: usize) -> Result<()> {
    let Some(targets) = targets(block) else {
        let (first, end) = (block.first_row, block.end_row);
        return Err(Error::Data(format!("lasso: rows {first}..{end} have no targets")));
    };
    let first = block.first_row;
    if let Some(row) = targets.iter().position(|target| !target.is_finite()) {
        let target = targets[row];
        let row = first + row;
        return Err(Error::Data(format!("lasso: row {row}: target {target}; it must be a finite number")));
    }
    if let Contents::Dense(rows) = &block.contents
        && rows.width != width
    {
        let (found, wanted) = (rows.width, width);
        return Err(Error::Data(format!("lasso: rows of {found} columns; the data have {wanted}")));
    }
    // In pieces without an early end, which vectors can do; where a bad one is, is asked only if there is one.
    let is_bad = |piece: &[f32]| piece.iter().fold(false, |bad, value| bad | !value.is_finite());
    if let Contents::Dense(rows) = &block.contents
        && !rows.values.chunks(4096).any(is_bad)
    {
        return Ok(());
    }
    let mut bad = None;
    each_value(block, |row, column, value| {
        if column >= width || !value.is_finite() {
            bad = Some((first + row, column, value));
        }
    });
    match bad {
        None => Ok(()),
        Some((row, column, value)) => Err(Error::Data(format!(
            "lasso: row {row}, column {column} of {} (from 0): value {value}; finite numbers in columns that \
             are there are allowed",
            width
        ))),
    }
}
