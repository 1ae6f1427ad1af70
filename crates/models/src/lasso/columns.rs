//! The rows of a block as columns, centred and scaled: dense ones explicitly, sparse ones by a correction, so that
//! their zeros stay unstored.

use super::kernel::{Matrix, VECTOR, Vector, add, exact_pairs, pairs, products};
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

impl Column<'_> {
    /// What is to be taken off every row.
    pub(super) fn shift(&self) -> f64 {
        match self {
            Column::Dense(_) => 0.0,
            Column::Sparse { shift, .. } => *shift,
        }
    }

    /// Σ x̃ over `rows` rows.
    pub(super) fn total(&self, rows: usize) -> f64 {
        match self {
            Column::Dense(values) => values.iter().map(|value| f64::from(*value)).sum(),
            Column::Sparse { shift, sum, .. } => sum - shift * rows as f64,
        }
    }
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
            Contents::Dense(rows) => dense(&rows.values, block.rows(), scales, isa),
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

    /// Gives `out(i, j, x̃_iᵀ x̃_j)` for all i of `which` and j from `first` on, where i ≤ j; sums are in double precision if
    /// they are to be `exact`.
    pub(super) fn pairs(
        &self,
        which: &[u32],
        first: usize,
        exact: bool,
        mut out: impl FnMut(usize, usize, f64),
    ) {
        match &self.layout {
            Layout::Dense { stride, values } => {
                let matrix = Matrix { values, stride: *stride };
                match exact {
                    true => exact_pairs(self.isa, matrix, which, first, out),
                    false => pairs(self.isa, matrix, which, first, out),
                }
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

fn dense(rows: &[f32], count: usize, scales: &[Scale], isa: Isa) -> Layout {
    let (width, stride) = (scales.len(), count.next_multiple_of(VECTOR));
    let mut values = vec![0.0f32; width * stride];
    dispatch(isa, Transpose { rows, count, scales, stride, values: &mut values });
    Layout::Dense { stride, values }
}

/// Columns of which a piece of every row is read together: long enough for rows to be read ahead, and few enough that
/// the pages which are written stay known.
const TOGETHER: usize = 16 * VECTOR;

/// Centres and scales rows, and lays them out as columns.
struct Transpose<'a> {
    rows: &'a [f32],
    count: usize,
    scales: &'a [Scale],
    stride: usize,
    values: &'a mut [f32],
}

impl Work for Transpose<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let Transpose { rows, count, scales, stride, values } = self;
        for block in (0..scales.len()).step_by(TOGETHER) {
            for first in (0..count).step_by(VECTOR) {
                for column in (block..scales.len().min(block + TOGETHER)).step_by(VECTOR) {
                    let rows = rows[first * scales.len()..].chunks_exact(scales.len());
                    let scales = &scales[column..scales.len().min(column + VECTOR)];
                    let square = square(rows.take(count - first).map(|row| &row[column..]), scales);
                    for (values, lane) in
                        values[column * stride..].chunks_exact_mut(stride).zip(0..scales.len())
                    {
                        let values = &mut values[first..first + VECTOR];
                        values.iter_mut().zip(&square).for_each(|(value, row)| *value = row[lane]);
                    }
                }
            }
        }
    }
}

/// The first values of some rows, centred and scaled; zero for rows that are not there.
#[inline(always)]
fn square<'a>(rows: impl Iterator<Item = &'a [f32]>, scales: &[Scale]) -> [Vector; VECTOR] {
    let (mut centres, mut factors) = ([0.0f64; VECTOR], [0.0f64; VECTOR]);
    for (lane, scale) in scales.iter().enumerate() {
        (centres[lane], factors[lane]) = (scale.centre, scale.factor);
    }
    let mut square = [[0.0f32; VECTOR]; VECTOR];
    for (row, out) in rows.zip(&mut square) {
        let given = row.first_chunk().copied().unwrap_or_else(|| {
            let mut given = [0.0f32; VECTOR];
            given.iter_mut().zip(row).for_each(|(given, value)| *given = *value);
            given
        });
        for lane in 0..VECTOR {
            out[lane] = ((f64::from(given[lane]) - centres[lane]) * factors[lane]) as f32;
        }
    }
    square
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
