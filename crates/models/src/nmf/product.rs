//! The products that read the data: H x of every row, and WᵀX.
//!
//! Every number is one chain of fused multiply-adds, over ascending features or over ascending rows. A zero in x changes
//! nothing in it, so that dense and sparse rows give the same bits, however many rows or features are worked together;
//! and they are, so that chains need not wait for themselves. Columns of H and W are worked in chunks of a width that
//! the compiler knows, whose sums stay in registers.

use crate::rows::Rows;
use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa;
use dunlin::table::prefetch;
use dunlin::{Table, TableMut};

/// Dense rows whose weights are at hand while all features go by.
const TILE: usize = 128;

/// A table of more bytes is in no near cache: rows of it are asked for before they are needed.
const NEAR_BYTES: usize = 512 << 10;

/// Cuts `width` columns into chunks and calls `$work::<W>` with the first column of each: as wide as registers have room
/// for, so that the data are read seldom. Dense rows are worked several at once, and have room for fewer.
macro_rules! chunks {
    ($width:expr, $self:ident . $work:ident) => {{
        let is_sparse = matches!($self.rows, Rows::Sparse { .. });
        let mut at = 0;
        while at < $width {
            at += match $width - at {
                64.. if is_sparse => $self.$work::<64>(at),
                56.. if is_sparse => $self.$work::<56>(at),
                48.. if is_sparse => $self.$work::<48>(at),
                32.. if is_sparse => $self.$work::<32>(at),
                24.. => $self.$work::<24>(at),
                16.. => $self.$work::<16>(at),
                8.. => $self.$work::<8>(at),
                4.. => $self.$work::<4>(at),
                2.. => $self.$work::<2>(at),
                _ => $self.$work::<1>(at),
            };
        }
    }};
}

/// Wider chunks are enough to do for a processor, a row at a time.
const WIDE: usize = 32;

/// Columns that are worked where rows of `stride` numbers have `width` of them: whole vectors.
fn worked(width: usize, stride: usize) -> usize {
    width.next_multiple_of(8).min(stride)
}

/// H x of all rows, given Hᵀ: (features, K). (rows, stride), the padding 0.
pub(super) fn products(rows: Rows, factors: Table<f32>, width: usize) -> Vec<f32> {
    let stride = factors.stride();
    let mut out = vec![0.0; rows.count() * stride];
    let width = worked(width, stride);
    dispatch(isa::level(), Products { rows, factors: factors.flat(), width, stride, out: &mut out });
    out
}

struct Products<'a> {
    rows: Rows<'a>,
    factors: &'a [f32],
    width: usize,
    stride: usize,
    out: &'a mut [f32],
}

impl Work for Products<'_> {
    type Out = ();
    #[inline(always)]
    fn run(mut self) {
        chunks!(self.width, self.chunk);
    }
}

impl Products<'_> {
    /// Columns `at` to `at + W` of the products; returns W.
    #[inline(always)]
    fn chunk<const W: usize>(&mut self, at: usize) -> usize {
        let count = self.rows.count();
        let is_far = size_of_val(self.factors) > NEAR_BYTES;
        match self.rows {
            Rows::Dense { width, values, .. } => {
                let fours = count / 4 * 4;
                for row in (0..fours).step_by(4) {
                    self.dense::<W, 4>(at, row, &values[row * width..], width);
                }
                for row in fours..count {
                    self.dense::<W, 1>(at, row, &values[row * width..], width);
                }
            }
            Rows::Sparse { .. } => {
                let together = if W > WIDE { 1 } else { 2 };
                for row in (0..count).step_by(together) {
                    let soon = row + together..(row + 2 * together).min(count);
                    for next in if is_far { soon } else { 0..0 } {
                        for column in entries(self.rows, next).0 {
                            fetch::<W>(self.factors, *column as usize * self.stride + at);
                        }
                    }
                    let is_pair = together == 2 && row + 1 < count;
                    let other = if is_pair { entries(self.rows, row + 1) } else { (&[][..], &[][..]) };
                    let sums = self.pair::<W>(at, [entries(self.rows, row), other]);
                    for (sums, row) in sums.iter().zip(row..count).take(together) {
                        self.out[row * self.stride + at..][..W].copy_from_slice(sums);
                    }
                }
            }
        }
        W
    }

    /// The products of two sparse rows.
    #[inline(always)]
    fn pair<const W: usize>(&self, at: usize, [left, right]: [(&[u32], &[f32]); 2]) -> [[f32; W]; 2] {
        let (mut lefts, mut rights) = ([0.0f32; W], [0.0f32; W]);
        let both = left.0.len().min(right.0.len());
        let of = |column: u32| {
            self.factors.get(column as usize * self.stride + at..).and_then(<[f32]>::first_chunk)
        };
        for entry in 0..both {
            add(&mut lefts, of(left.0[entry]), left.1[entry]);
            add(&mut rights, of(right.0[entry]), right.1[entry]);
        }
        for (column, value) in left.0[both..].iter().zip(&left.1[both..]) {
            add(&mut lefts, of(*column), *value);
        }
        for (column, value) in right.0[both..].iter().zip(&right.1[both..]) {
            add(&mut rights, of(*column), *value);
        }
        [lefts, rights]
    }

    /// The products of `R` dense rows from `first` on, which begin `values`.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "one place in all rows at once")]
    fn dense<const W: usize, const R: usize>(
        &mut self,
        at: usize,
        first: usize,
        values: &[f32],
        width: usize,
    ) {
        let rows: [&[f32]; R] = std::array::from_fn(|row| &values[row * width..][..width]);
        let mut sums = [[0.0f32; W]; R];
        for column in 0..width {
            let factor = self.factors.get(column * self.stride + at..).and_then(<[f32]>::first_chunk::<W>);
            for row in 0..R {
                add(&mut sums[row], factor, rows[row][column]);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            self.out[(first + row) * self.stride + at..][..W].copy_from_slice(sums);
        }
    }
}

/// Asks the processor to fetch `W` numbers.
#[inline(always)]
fn fetch<const W: usize>(numbers: &[f32], at: usize) {
    for line in (0..W).step_by(16) {
        if let Some(line) = numbers.get(at + line..) {
            prefetch(line);
        }
    }
}

/// Columns and values of a sparse row.
#[inline(always)]
fn entries(rows: Rows<'_>, row: usize) -> (&[u32], &[f32]) {
    let Rows::Sparse { offsets, columns, values } = rows else { return (&[], &[]) };
    let range = offsets[row] as usize..offsets[row + 1] as usize;
    (&columns[range.clone()], &values[range])
}

/// sums += value · factor, if there is one.
#[inline(always)]
fn add<const W: usize>(sums: &mut [f32; W], factor: Option<&[f32; W]>, value: f32) {
    let Some(factor) = factor else { return };
    for (sum, factor) in sums.iter_mut().zip(factor) {
        *sum = value.mul_add(*factor, *sum);
    }
}

/// totals += Xᵀ W, (features, K), for weights W: (rows, K). In double precision, and every product exact: the objective is
/// what is left when these sums have cancelled ‖X‖².
pub(super) fn add_products(rows: Rows, weights: &[f32], totals: &mut TableMut<f64>) {
    let width = weights.len() / rows.count().max(1);
    dispatch(isa::level(), AddProducts { rows, weights, width, totals });
}

struct AddProducts<'a, 'b, 'c> {
    rows: Rows<'a>,
    weights: &'a [f32],
    width: usize,
    totals: &'b mut TableMut<'c, f64>,
}

impl Work for AddProducts<'_, '_, '_> {
    type Out = ();
    #[inline(always)]
    fn run(mut self) {
        let width = worked(self.width, self.totals.stride());
        chunks!(width, self.chunk);
    }
}

impl AddProducts<'_, '_, '_> {
    #[inline(always)]
    fn chunk<const W: usize>(&mut self, at: usize) -> usize {
        let count = self.rows.count();
        let is_far = self.totals.rows() * self.totals.stride() * size_of::<f64>() > NEAR_BYTES;
        match self.rows {
            Rows::Sparse { .. } => {
                for row in 0..count {
                    if is_far && row + 1 < count {
                        for column in entries(self.rows, row + 1).0 {
                            let totals = self.totals.padded(*column as usize);
                            for line in (at..at + W).step_by(8) {
                                prefetch(&totals[line..]);
                            }
                        }
                    }
                    let weights = self.weights_of::<W>(row, at);
                    let (columns, values) = entries(self.rows, row);
                    for (column, value) in columns.iter().zip(values) {
                        let totals = self.totals.padded_mut(*column as usize)[at..].first_chunk_mut::<W>();
                        add_wide(totals, &weights, *value);
                    }
                }
            }
            Rows::Dense { width, values, .. } => {
                let mut tile = [[0.0f64; W]; TILE];
                for first in (0..count).step_by(TILE) {
                    let end = (first + TILE).min(count);
                    for (weights, row) in tile.iter_mut().zip(first..end) {
                        *weights = self.weights_of::<W>(row, at);
                    }
                    self.dense(at, &values[first * width..], width, &tile[..end - first]);
                }
            }
        }
        W
    }

    /// Weights of a row, from `at` on; 0 behind the last.
    #[inline(always)]
    fn weights_of<const W: usize>(&self, row: usize, at: usize) -> [f64; W] {
        let mut weights = [0.0; W];
        let own = &self.weights[row * self.width..][..self.width];
        for (to, weight) in weights.iter_mut().zip(own.get(at..).unwrap_or(&[])) {
            *to = f64::from(*weight);
        }
        weights
    }

    /// A tile of dense rows, which begin `values`.
    #[inline(always)]
    fn dense<const W: usize>(&mut self, at: usize, values: &[f32], width: usize, tile: &[[f64; W]]) {
        let pairs = width / 2 * 2;
        for first in (0..pairs).step_by(2) {
            self.features::<W, 2>(at, first, values, width, tile);
        }
        for feature in pairs..width {
            self.features::<W, 1>(at, feature, values, width, tile);
        }
    }

    /// `F` features from `first` on.
    #[inline(always)]
    fn features<const W: usize, const F: usize>(
        &mut self,
        at: usize,
        first: usize,
        values: &[f32],
        width: usize,
        tile: &[[f64; W]],
    ) {
        let mut sums = [[0.0f64; W]; F];
        for (feature, sums) in sums.iter_mut().enumerate() {
            if let Some(totals) = self.totals.padded(first + feature)[at..].first_chunk::<W>() {
                *sums = *totals;
            }
        }
        for (row, weights) in values.chunks_exact(width).zip(tile) {
            let Some(row) = row[first..].first_chunk::<F>() else { continue };
            for (sums, value) in sums.iter_mut().zip(row) {
                add_wide(Some(sums), weights, *value);
            }
        }
        for (feature, sums) in sums.iter().enumerate() {
            if let Some(totals) = self.totals.padded_mut(first + feature)[at..].first_chunk_mut::<W>() {
                *totals = *sums;
            }
        }
    }
}

/// sums += value · weights, if there are sums.
#[inline(always)]
fn add_wide<const W: usize>(sums: Option<&mut [f64; W]>, weights: &[f64; W], value: f32) {
    let (Some(sums), value) = (sums, f64::from(value)) else { return };
    let mut own = *sums;
    for (sum, weight) in own.iter_mut().zip(weights) {
        *sum = value.mul_add(*weight, *sum);
    }
    *sums = own;
}
