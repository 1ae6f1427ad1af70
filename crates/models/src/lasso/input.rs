//! A block of rows with targets: what is in it, whether it will do, and its columns.

use super::columns::{Columns, Residual};
use super::problem::{Point, Scale};
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
    /// Zero and unit of every column.
    pub(super) scales: Vec<Scale>,
    /// ‖x̃‖ / √n of every column, over the rows of all lanes.
    pub(super) lengths: Vec<f64>,
}

impl Held {
    /// x̃ᵀ r of the columns `which` of `block`, whose columns these are, at the coefficients of `small`, and the sums of the
    /// residual r. For other columns without a coefficient it is 0.
    ///
    /// The residual, the correlations of columns with a coefficient and the greatest ones, on which the duality gap hangs, are of
    /// the block's own values in double precision: the columns held are rounded once they are centred and scaled, and a gap
    /// of their own would be that of another problem.
    pub(super) fn correlations(&self, block: &Block, small: &Small, which: &[u32]) -> (Vec<f64>, Point) {
        let residual = Residual::new(self.residual(block, small));
        let used = small.iter().filter(|(_, weight)| *weight != 0.0).map(|(column, _)| column);
        let correlations = self.correlations_with(block, &residual, which, used);
        (correlations, self.point(&residual.exact))
    }

    /// ‖r‖² and yᵀ r of a residual r.
    pub(super) fn point(&self, residual: &[f64]) -> Point {
        let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (square, with_target) = (inner(residual, residual), inner(&self.target, residual));
        Point { rows: self.target.len() as f64, square, with_target, ..Point::default() }
    }

    /// x̃ᵀ r of the columns `which`; exact for the greatest and those that are `used`, 0 for columns that are neither.
    pub(super) fn correlations_with(
        &self,
        block: &Block,
        residual: &Residual,
        which: &[u32],
        used: impl Iterator<Item = u32>,
    ) -> Vec<f64> {
        let mut correlations = vec![0.0; self.all.len()];
        if which.len() == self.all.len() {
            self.columns.products(which, residual, &mut correlations);
        } else {
            let mut products = vec![0.0; which.len()];
            self.columns.products(which, residual, &mut products);
            which.iter().zip(products).for_each(|(at, product)| correlations[*at as usize] = product);
        }
        let most = correlations.iter().fold(0.0f64, |most, c| most.max(c.abs()));
        let mut near: Vec<u32> =
            which.iter().copied().filter(|at| correlations[*at as usize].abs() >= NEAR * most).collect();
        near.extend(used);
        near.sort_unstable();
        near.dedup();
        let exact = self.products(block, &near, &residual.exact);
        near.iter().zip(exact).for_each(|(column, exact)| correlations[*column as usize] = exact);
        correlations
    }

    /// `target` − Σ w (x − centre) factor, from the block's values.
    fn residual(&self, block: &Block, small: &Small) -> Vec<f64> {
        let mut left = self.target.clone();
        let weights = small.iter().filter(|(_, weight)| *weight != 0.0);
        let weights: Vec<(u32, f64)> =
            weights.map(|(column, weight)| (column, weight * self.scales[column as usize].factor)).collect();
        let shift: f64 = weights.iter().map(|(column, a)| a * self.scales[*column as usize].centre).sum();
        match &block.contents {
            Contents::Dense(rows) => {
                for (left, row) in left.iter_mut().zip(rows.values.chunks_exact(rows.width.max(1))) {
                    let sum: f64 =
                        weights.iter().map(|(column, a)| a * f64::from(row[*column as usize])).sum();
                    *left -= sum - shift;
                }
            }
            Contents::Sparse(_) => {
                let mut of_column = vec![0.0; self.scales.len()];
                weights.iter().for_each(|(column, a)| of_column[*column as usize] = *a);
                left.iter_mut().for_each(|left| *left += shift);
                each_value(block, |row, column, value| left[row] -= of_column[column] * value);
            }
            _ => {}
        }
        left
    }

    /// Σ (x − centre) factor v of the columns `which`, from the block's values.
    fn products(&self, block: &Block, which: &[u32], vector: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; which.len()];
        match &block.contents {
            Contents::Dense(rows) => {
                for (v, row) in vector.iter().zip(rows.values.chunks_exact(rows.width.max(1))) {
                    for (sum, column) in sums.iter_mut().zip(which) {
                        *sum += v * f64::from(row[*column as usize]);
                    }
                }
            }
            Contents::Sparse(_) => {
                let mut of_column = vec![usize::MAX; self.scales.len()];
                which.iter().enumerate().for_each(|(place, column)| of_column[*column as usize] = place);
                each_value(block, |row, column, value| {
                    if let Some(sum) = sums.get_mut(of_column[column]) {
                        *sum += vector[row] * value;
                    }
                });
            }
            _ => {}
        }
        let total: f64 = vector.iter().sum();
        let scales = which.iter().map(|column| self.scales[*column as usize]);
        sums.into_iter().zip(scales).map(|(sum, scale)| (sum - scale.centre * total) * scale.factor).collect()
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

/// The values of the columns `which` over all rows of `block`, as in the data.
pub(super) fn gather(block: &Block, which: &[u32], width: usize) -> Vec<Vec<f32>> {
    let mut place = vec![usize::MAX; width];
    which.iter().enumerate().for_each(|(at, column)| place[*column as usize] = at);
    let mut found = vec![vec![0.0f32; block.rows()]; which.len()];
    each_value(block, |row, column, value| {
        if let Some(values) = found.get_mut(place[column]) {
            values[row] = value as f32;
        }
    });
    found
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
