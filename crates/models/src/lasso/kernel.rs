//! The inner loops: products of columns, in vectors of sixteen.
//!
//! A product runs in sixteen single-precision accumulators over [`CHUNK`] rows, and the chunks are added in double
//! precision: the error of a long column is that of a short one. Neither the tile nor the instruction level changes the
//! order of additions, so all give the same bits.

use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa::Isa;

/// Numbers in a vector; columns are padded to whole ones.
pub(super) const VECTOR: usize = 16;
/// Rows after which accumulators are emptied.
const CHUNK: usize = 1024;

/// The products of every column of `left` with every column of `right`, all of one length, a multiple of [`VECTOR`].
#[allow(clippy::needless_range_loop, reason = "indices of tiles")]
#[inline(always)]
pub(super) fn tile<const I: usize, const J: usize>(left: [&[f32]; I], right: [&[f32]; J]) -> [[f64; J]; I] {
    let length = left[0].len();
    let mut sums = [[0.0f64; J]; I];
    let mut start = 0;
    while start < length {
        let end = length.min(start + CHUNK);
        let count = (end - start) / VECTOR;
        let left = left.map(|column| &column[start..end].as_chunks::<VECTOR>().0[..count]);
        let right = right.map(|column| &column[start..end].as_chunks::<VECTOR>().0[..count]);
        let mut parts = [[[0.0f32; VECTOR]; J]; I];
        for at in 0..count {
            let rights = right.map(|column| column[at]);
            for i in 0..I {
                let value = left[i][at];
                for j in 0..J {
                    for lane in 0..VECTOR {
                        parts[i][j][lane] = value[lane].mul_add(rights[j][lane], parts[i][j][lane]);
                    }
                }
            }
        }
        for i in 0..I {
            for j in 0..J {
                sums[i][j] += f64::from(total(&parts[i][j]));
            }
        }
        start = end;
    }
    sums
}

/// The sum of a vector, halves first.
#[inline(always)]
fn total(parts: &[f32; VECTOR]) -> f32 {
    let mut eight = [0.0f32; 8];
    (0..8).for_each(|at| eight[at] = parts[at] + parts[at + 8]);
    let mut four = [0.0f32; 4];
    (0..4).for_each(|at| four[at] = eight[at] + eight[at + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Columns that lie one after another, each `stride` long.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Matrix<'a> {
    #[inline(always)]
    fn column(&self, at: u32) -> &'a [f32] {
        &self.values[at as usize * self.stride..][..self.stride]
    }
}

/// out[k] = column `which[k]` · vector.
pub(super) fn products(isa: Isa, matrix: Matrix, which: &[u32], vector: &[f32], out: &mut [f64]) {
    struct Products<'a>(Matrix<'a>, &'a [u32], &'a [f32], &'a mut [f64]);
    impl Work for Products<'_> {
        type Out = ();
        #[inline(always)]
        fn run(self) {
            let Products(matrix, which, vector, out) = self;
            let mut places = which.chunks_exact(8);
            let mut outs = out.chunks_exact_mut(8);
            for (which, out) in (&mut places).zip(&mut outs) {
                let columns: [&[f32]; 8] = std::array::from_fn(|at| matrix.column(which[at]));
                let found = tile(columns, [vector]);
                (0..8).for_each(|at| out[at] = found[at][0]);
            }
            for (which, out) in places.remainder().iter().zip(outs.into_remainder()) {
                *out = tile([matrix.column(*which)], [vector])[0][0];
            }
        }
    }
    dispatch(isa, Products(matrix, which, vector, out));
}

/// Gives `out(i, j, product)` for all columns i of `which` and j from `first` on, where i ≤ j.
pub(super) fn pairs(
    isa: Isa,
    matrix: Matrix,
    which: &[u32],
    first: usize,
    out: impl FnMut(usize, usize, f64),
) {
    struct Pairs<'a, F>(Matrix<'a>, &'a [u32], usize, F);
    impl<F: FnMut(usize, usize, f64)> Work for Pairs<'_, F> {
        type Out = ();
        #[inline(always)]
        fn run(self) {
            let Pairs(matrix, which, first, mut out) = self;
            let last = which.len().saturating_sub(1);
            // Beyond the end a tile repeats the last column.
            let four = |at: usize| -> [&[f32]; 4] {
                std::array::from_fn(|next| matrix.column(which[(at + next).min(last)]))
            };
            for j in (first..which.len()).step_by(4) {
                let right = four(j);
                for i in (0..which.len().min(j + 4)).step_by(4) {
                    let found = tile(four(i), right);
                    for (a, row) in found.iter().enumerate() {
                        for (b, product) in row.iter().enumerate() {
                            if i + a <= j + b && j + b <= last {
                                out(i + a, j + b, *product);
                            }
                        }
                    }
                }
            }
        }
    }
    if !which.is_empty() {
        dispatch(isa, Pairs(matrix, which, first, out));
    }
}

/// to[k] += factor x by[k].
pub(super) fn add(isa: Isa, to: &mut [f64], factor: f64, by: &[f32]) {
    struct Add<'a>(&'a mut [f64], f64, &'a [f32]);
    impl Work for Add<'_> {
        type Out = ();
        #[inline(always)]
        fn run(self) {
            plus(self.0, self.1, self.2);
        }
    }
    dispatch(isa, Add(to, factor, by));
}

/// to[k] += factor x by[k].
#[inline(always)]
pub(super) fn plus(to: &mut [f64], factor: f64, by: &[f32]) {
    to.iter_mut().zip(by).for_each(|(to, by)| *to = factor.mul_add(f64::from(*by), *to));
}

/// Σ a[k] b[k], in eight accumulators.
#[inline(always)]
pub(super) fn mixed(a: &[f64], b: &[f32]) -> f64 {
    let (left, rest) = a.as_chunks::<8>();
    let (right, other) = b.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (left, right) in left.iter().zip(right) {
        (0..8).for_each(|at| sums[at] = left[at].mul_add(f64::from(right[at]), sums[at]));
    }
    let tail: f64 = rest.iter().zip(other).map(|(a, b)| a * f64::from(*b)).sum();
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])) + tail
}
