//! The rows of a block as columns, centred and scaled: dense ones explicitly, sparse ones by a correction, so that
//! their zeros stay unstored.

use super::kernel::{Matrix, VECTOR, add, pairs, products};
use super::problem::Scale;
use crate::softmax::kernel::{Work, dispatch};
use dunlin::data::{Block, Contents};
use dunlin::isa::Isa;

/// Columns x̃ = (x − centre) factor over the rows of one block.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    rows: usize,
    isa: Isa,
    layout: Layout,
}

#[derive(Clone, Debug)]
enum Layout {
    /// (columns, stride), zero beyond the rows.
    Dense { stride: usize, values: Vec<f32> },
    /// Values are multiplied by the factor already; the centre is not taken off.
    Sparse {
        offsets: Vec<usize>,
        places: Vec<u32>,
        values: Vec<f32>,
        /// centre x factor of each column.
        shifts: Vec<f64>,
        /// Σ of each column's stored values.
        sums: Vec<f64>,
    },
}

/// A vector over the rows, ready for products.
#[derive(Clone, Debug, Default)]
pub(super) struct Residual {
    /// In double precision.
    pub(super) exact: Vec<f64>,
    /// The same in single precision, zero beyond the rows up to whole vectors.
    short: Vec<f32>,
    sum: f64,
}

impl Residual {
    pub(super) fn new(exact: Vec<f64>) -> Residual {
        let mut short: Vec<f32> = exact.iter().map(|value| *value as f32).collect();
        short.resize(exact.len().next_multiple_of(VECTOR), 0.0);
        let sum = exact.iter().sum();
        Residual { exact, short, sum }
    }
}

/// One column x̃ over the rows of a block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column<'a> {
    /// All its values.
    Dense(&'a [f32]),
    /// Rows and values that are stored; `shift` is to be taken off every row, `sum` is that of the stored values.
    Sparse { places: &'a [u32], values: &'a [f32], shift: f64, sum: f64 },
}

impl Columns {
    /// Column number `column`.
    pub(super) fn column(&self, column: u32) -> Column<'_> {
        let column = column as usize;
        match &self.layout {
            Layout::Dense { stride, values } => Column::Dense(&values[column * stride..][..self.rows]),
            Layout::Sparse { offsets, places, values, shifts, sums } => {
                let range = offsets[column]..offsets[column + 1];
                let (places, values) = (&places[range.clone()], &values[range]);
                Column::Sparse { places, values, shift: shifts[column], sum: sums[column] }
            }
        }
    }

    /// Of a block's rows; `scales` of all columns. None for a block without feature rows.
    pub(super) fn new(block: &Block, scales: &[Scale], isa: Isa) -> Option<Columns> {
        let layout = match &block.contents {
            Contents::Dense(rows) => dense(&rows.values, block.rows(), scales),
            Contents::Sparse(rows) => sparse(&rows.offsets, &rows.columns, &rows.values, scales),
            _ => return None,
        };
        Some(Columns { rows: block.rows(), isa, layout })
    }

    /// out[k] = x̃ᵀ v for column `which[k]`.
    pub(super) fn products(&self, which: &[u32], vector: &Residual, out: &mut [f64]) {
        match &self.layout {
            Layout::Dense { stride, values } => {
                products(self.isa, Matrix { values, stride: *stride }, which, &vector.short, out);
            }
            Layout::Sparse { offsets, places, values, shifts, .. } => {
                for (column, out) in which.iter().map(|column| *column as usize).zip(out) {
                    let range = offsets[column]..offsets[column + 1];
                    let entries = places[range.clone()].iter().zip(&values[range]);
                    let sum: f64 =
                        entries.map(|(row, value)| f64::from(*value) * vector.exact[*row as usize]).sum();
                    *out = sum - shifts[column] * vector.sum;
                }
            }
        }
    }

    /// `target` − Σ w x̃ over the columns and weights given.
    pub(super) fn residual(&self, target: &[f64], weights: impl Iterator<Item = (u32, f64)>) -> Residual {
        let mut left = target.to_vec();
        let mut shift = 0.0;
        for (column, weight) in weights.filter(|(_, weight)| *weight != 0.0) {
            let column = column as usize;
            match &self.layout {
                Layout::Dense { stride, values } => {
                    add(self.isa, &mut left, -weight, &values[column * stride..][..self.rows]);
                }
                Layout::Sparse { offsets, places, values, shifts, .. } => {
                    let range = offsets[column]..offsets[column + 1];
                    for (row, value) in places[range.clone()].iter().zip(&values[range]) {
                        left[*row as usize] -= weight * f64::from(*value);
                    }
                    shift += weight * shifts[column];
                }
            }
        }
        if shift != 0.0 {
            left.iter_mut().for_each(|left| *left += shift);
        }
        Residual::new(left)
    }

    /// Gives `out(i, j, x̃_iᵀ x̃_j)` for all i of `which` and j from `first` on, where i ≤ j.
    pub(super) fn pairs(&self, which: &[u32], first: usize, mut out: impl FnMut(usize, usize, f64)) {
        match &self.layout {
            Layout::Dense { stride, values } => {
                pairs(self.isa, Matrix { values, stride: *stride }, which, first, out);
            }
            Layout::Sparse { offsets, places, values, shifts, sums } => {
                let entries = |column: u32| {
                    let range = offsets[column as usize]..offsets[column as usize + 1];
                    places[range.clone()].iter().zip(&values[range])
                };
                let mut spread = vec![0.0f64; self.rows];
                for (j, right) in which.iter().enumerate().skip(first) {
                    entries(*right).for_each(|(row, value)| spread[*row as usize] = f64::from(*value));
                    for (i, left) in which[..=j].iter().enumerate() {
                        let plain: f64 = entries(*left)
                            .map(|(row, value)| f64::from(*value) * spread[*row as usize])
                            .sum();
                        let (left, right) = (*left as usize, *right as usize);
                        let (a, b) = (shifts[left], shifts[right]);
                        out(i, j, plain - a * sums[right] - b * sums[left] + self.rows as f64 * a * b);
                    }
                    entries(*right).for_each(|(row, _)| spread[*row as usize] = 0.0);
                }
            }
        }
    }
}

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

/// Rows a piece of the transposition works on together: their lines stay in the nearest cache.
const PIECE: usize = 16;

fn dense(rows: &[f32], count: usize, scales: &[Scale]) -> Layout {
    let (width, stride) = (scales.len(), count.next_multiple_of(VECTOR));
    let mut values = vec![0.0f32; width * stride];
    for first in (0..count).step_by(PIECE) {
        let last = count.min(first + PIECE);
        for (column, scale) in scales.iter().enumerate() {
            let out = &mut values[column * stride + first..column * stride + last];
            for (out, row) in out.iter_mut().zip(first..last) {
                *out = ((f64::from(rows[row * width + column]) - scale.centre) * scale.factor) as f32;
            }
        }
    }
    Layout::Dense { stride, values }
}

fn sparse(row_offsets: &[u32], columns: &[u32], stored: &[f32], scales: &[Scale]) -> Layout {
    let mut offsets = vec![0usize; scales.len() + 1];
    columns.iter().for_each(|column| offsets[*column as usize + 1] += 1);
    (0..scales.len()).for_each(|column| offsets[column + 1] += offsets[column]);
    let mut next = offsets.clone();
    let (mut places, mut values) = (vec![0u32; columns.len()], vec![0.0f32; columns.len()]);
    for row in 0..row_offsets.len().saturating_sub(1) {
        let range = row_offsets[row] as usize..row_offsets[row + 1] as usize;
        for (column, value) in columns[range.clone()].iter().zip(&stored[range]) {
            let column = *column as usize;
            places[next[column]] = row as u32;
            values[next[column]] = (f64::from(*value) * scales[column].factor) as f32;
            next[column] += 1;
        }
    }
    let sum = |range: &[usize]| values[range[0]..range[1]].iter().map(|value| f64::from(*value)).sum();
    let sums = offsets.windows(2).map(sum).collect();
    let shifts = scales.iter().map(|scale| scale.centre * scale.factor).collect();
    Layout::Sparse { offsets, places, values, shifts, sums }
}
