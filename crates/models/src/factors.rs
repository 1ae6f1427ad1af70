//! What models that write rows as x ≈ H a share: rows however they are stored, and the loops over them.
//!
//! The factors H lie feature by feature, (features, K), so that both products of a row take its stored entries
//! alone, whether dense or sparse, and run along K: b = Hᵀx adds up rows of H, and XᵀA adds x·a to rows of a
//! table. K is worked in panels of a width known to the compiler. Products are
//! single precision, added up in an order that the instruction level does not change; totals over rows are double.

mod seed;

use crate::rows::Rows;
use dunlin::data::{Block, Contents, SparseRows};
use dunlin::isa::{self, Kernel};
use dunlin::{Error, Result, Table, TableMut};
pub(crate) use seed::{Seed, worst};

/// Dense rows of which a smaller share is not zero are worked as sparse ones: about as fast there.
const SPARSE_BELOW: f64 = 0.4;

impl Rows<'_> {
    /// Refuses columns beyond `features`, and values that `is_fine` does not take (`allowed` in words).
    pub(crate) fn check(
        block: &Block,
        model: &str,
        features: usize,
        is_fine: impl Fn(f32) -> bool,
        allowed: &str,
    ) -> Result<()> {
        let Some(rows) = Rows::of(block) else {
            let (id, first, end) = (block.id, block.first_row, block.end_row);
            return Err(Error::Data(format!(
                "{model}: block {id} (rows {first}..{end}) holds no rows of features"
            )));
        };
        for row in 0..rows.count() {
            let mut bad = None;
            rows.each(row, |column, value| {
                if bad.is_none() && (column >= features || !is_fine(value)) {
                    bad = Some((column, value));
                }
            });
            if let Some((column, value)) = bad {
                let row = block.first_row + row;
                return Err(Error::Data(format!(
                    "{model}: row {row}, column {column} of {features} (from 0): value {value}; {allowed} in \
                     columns that are there are allowed"
                )));
            }
        }
        Ok(())
    }
}

/// Stores dense rows that are mostly zeros as sparse ones.
pub(crate) fn without_zeros(block: &mut Block) {
    let Contents::Dense(rows) = &mut block.contents else { return };
    let filled = rows.values.iter().filter(|value| **value != 0.0).count();
    if filled as f64 >= SPARSE_BELOW * rows.values.len() as f64 {
        return;
    }
    let mut sparse = SparseRows { offsets: vec![0], ..SparseRows::default() };
    sparse.columns.reserve_exact(filled);
    sparse.values.reserve_exact(filled);
    for row in rows.values.chunks_exact(rows.width) {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            sparse.columns.push(column as u32);
            sparse.values.push(*value);
        }
        sparse.offsets.push(sparse.columns.len() as u32);
    }
    sparse.classes = std::mem::take(&mut rows.classes);
    block.contents = Contents::Sparse(sparse);
}

/// Runs a body for every (column, value) of row `$row`: as [`Rows::each`], but a loop and no closure, which the
/// compiler would leave out of the vectorised function; so it does with `for_each`.
macro_rules! each {
    ($rows:expr, $row:expr, |$column:ident, $value:ident| $body:block) => {
        match $rows {
            Rows::Dense { width, values, .. } => {
                for ($column, $value) in values[$row * width..][..width].iter().enumerate() $body
            }
            Rows::Sparse { offsets, columns, values } => {
                let range = offsets[$row] as usize..offsets[$row + 1] as usize;
                for ($column, $value) in columns[range.clone()].iter().map(|column| *column as usize).zip(&values[range]) $body
            }
        }
    };
}

/// Cuts `width` columns into panels of 32, 16, 8, 4, 2 and 1, and calls `$work::<P>` with the first column of each.
macro_rules! panels {
    ($width:expr, $self:ident . $work:ident) => {{
        let mut at = 0;
        while at < $width {
            at += match $width - at {
                32.. => $self.$work::<32>(at),
                16.. => $self.$work::<16>(at),
                8.. => $self.$work::<8>(at),
                4.. => $self.$work::<4>(at),
                2.. => $self.$work::<2>(at),
                _ => $self.$work::<1>(at),
            };
        }
    }};
}

/// Hᵀx of all rows: (rows, stride), the padding of `factors` included, which stays 0.
pub(crate) fn products(rows: Rows, factors: Table<f32>) -> Vec<f32> {
    let stride = factors.stride();
    let mut out = vec![0.0; rows.count() * stride];
    isa::run(Products { rows, factors: factors.flat(), stride, out: &mut out });
    out
}

struct Products<'a> {
    rows: Rows<'a>,
    factors: &'a [f32],
    stride: usize,
    out: &'a mut [f32],
}

impl Kernel for Products<'_> {
    type Out = ();
    #[inline(always)]
    fn run(mut self) {
        panels!(self.stride, self.panel);
    }
}

impl Products<'_> {
    /// Columns `at` to `at + P` of the products; returns P.
    #[inline(always)]
    fn panel<const P: usize>(&mut self, at: usize) -> usize {
        let (factors, stride) = (&self.factors[at..], self.stride);
        for row in 0..self.rows.count() {
            let mut sums = [0.0f32; P];
            each!(self.rows, row, |column, value| {
                let start = column * stride;
                if let Some(factor) = factors.get(start..).and_then(|rest| rest.first_chunk::<P>()) {
                    for p in 0..P {
                        sums[p] += value * factor[p];
                    }
                }
            });
            self.out[row * stride + at..][..P].copy_from_slice(&sums);
        }
        P
    }
}

/// totals += Xᵀ A, (features, K), for the coefficients A: (rows, K).
pub(crate) fn add_products(rows: Rows, coefficients: &[f32], totals: &mut TableMut<f64>) {
    let stride = totals.stride();
    let width = coefficients.len() / rows.count().max(1);
    isa::run(AddProducts { rows, coefficients, width, stride, totals });
}

struct AddProducts<'a, 'b, 'c> {
    rows: Rows<'a>,
    coefficients: &'a [f32],
    width: usize,
    stride: usize,
    totals: &'b mut TableMut<'c, f64>,
}

impl Kernel for AddProducts<'_, '_, '_> {
    type Out = ();
    #[inline(always)]
    fn run(mut self) {
        panels!(self.stride, self.panel);
    }
}

impl AddProducts<'_, '_, '_> {
    #[inline(always)]
    fn panel<const P: usize>(&mut self, at: usize) -> usize {
        for row in 0..self.rows.count() {
            let own = &self.coefficients[row * self.width..][..self.width];
            let mut factors = [0.0f64; P];
            let mut is_zero = true;
            for (factor, own) in factors.iter_mut().zip(own.get(at..).unwrap_or(&[])) {
                *factor = f64::from(*own);
                is_zero &= *own == 0.0;
            }
            // Coefficients are mostly 0 in many models.
            if is_zero {
                continue;
            }
            each!(self.rows, row, |column, value| {
                if let Some(total) = self.totals.padded_mut(column)[at..].first_chunk_mut::<P>() {
                    let value = f64::from(*value);
                    for p in 0..P {
                        total[p] += value * factors[p];
                    }
                }
            });
        }
        P
    }
}

/// AᵀA of coefficients: rows of `width` numbers, one every `stride`. (width, width), in double precision.
pub(crate) fn gram(coefficients: &[f32], stride: usize, width: usize) -> Vec<f64> {
    isa::run(Gram { coefficients, stride, width })
}

struct Gram<'a> {
    coefficients: &'a [f32],
    stride: usize,
    width: usize,
}

impl Kernel for Gram<'_> {
    type Out = Vec<f64>;
    #[inline(always)]
    fn run(self) -> Vec<f64> {
        let width = self.width;
        let mut sums = vec![0.0f64; width * width];
        let mut wide = vec![0.0f64; width];
        for row in self.coefficients.chunks_exact(self.stride) {
            for (wide, value) in wide.iter_mut().zip(row) {
                *wide = f64::from(*value);
            }
            for (value, sums) in wide.iter().zip(sums.chunks_exact_mut(width)) {
                if *value != 0.0 {
                    for (sum, other) in sums.iter_mut().zip(&wide) {
                        *sum += value * other;
                    }
                }
            }
        }
        sums
    }
}

/// The rows of a table of doubles one after another, without padding.
pub(crate) fn flat(table: Table<f64>) -> Vec<f64> {
    (0..table.rows()).flat_map(|row| table.row(row)).copied().collect()
}

/// Lines of `component, what goes with it, and the names of its largest features with their values`.
pub(crate) fn top_features(
    factors: Table<f32>,
    component: usize,
    count: usize,
    name: impl Fn(usize) -> String,
) -> String {
    let value = |feature: usize| factors.row(feature)[component];
    let mut order: Vec<usize> = (0..factors.rows()).filter(|feature| value(*feature) != 0.0).collect();
    let larger = |a: &usize, b: &usize| value(*b).abs().total_cmp(&value(*a).abs()).then(a.cmp(b));
    order.sort_unstable_by(larger);
    order.truncate(count);
    order.iter().map(|feature| format!("\t{}:{:.4}", name(*feature), value(*feature))).collect()
}
