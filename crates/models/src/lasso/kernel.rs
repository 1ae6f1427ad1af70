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
/// Tiles of four columns that stay in the near cache while others pass by them.
const TILES: usize = 8;

/// Sixteen numbers.
pub(super) type Vector = [f32; VECTOR];

/// The vectors of four columns, place by place.
#[inline(always)]
fn four([a, b, c, d]: [&[f32]; 4]) -> impl Iterator<Item = [Vector; 4]> {
    let [a, b, c, d] = [a, b, c, d].map(|column| column.as_chunks::<VECTOR>().0.iter());
    a.zip(b).zip(c).zip(d).map(|(((a, b), c), d)| [*a, *b, *c, *d])
}

/// The products of four columns with four, over at most [`CHUNK`] rows.
#[allow(clippy::needless_range_loop, reason = "indices of tiles")]
#[inline(always)]
fn tile(left: [&[f32]; 4], right: [&[f32]; 4]) -> [[f32; 4]; 4] {
    let mut parts = [[[0.0f32; VECTOR]; 4]; 4];
    for (left, right) in four(left).zip(four(right)) {
        for i in 0..4 {
            for j in 0..4 {
                for lane in 0..VECTOR {
                    parts[i][j][lane] = left[i][lane].mul_add(right[j][lane], parts[i][j][lane]);
                }
            }
        }
    }
    // Not by `map`, which is a call where it is not inlined, without the instructions of the level.
    let mut sums = [[0.0f32; 4]; 4];
    for i in 0..4 {
        for j in 0..4 {
            sums[i][j] = total(&parts[i][j]);
        }
    }
    sums
}

/// The products of eight columns with a vector, all of one length, a multiple of [`VECTOR`].
#[allow(clippy::needless_range_loop, reason = "indices of tiles")]
#[inline(always)]
fn eight(columns: [&[f32]; 8], vector: &[f32]) -> [f64; 8] {
    let mut sums = [0.0f64; 8];
    for start in (0..vector.len()).step_by(CHUNK) {
        let range = start..vector.len().min(start + CHUNK);
        let vector = vector[range.clone()].as_chunks::<VECTOR>().0;
        let columns = columns.map(|column| &column[range.clone()].as_chunks::<VECTOR>().0[..vector.len()]);
        let mut parts = [[0.0f32; VECTOR]; 8];
        for (at, right) in vector.iter().enumerate() {
            for i in 0..8 {
                let left = columns[i][at];
                for lane in 0..VECTOR {
                    parts[i][lane] = left[lane].mul_add(right[lane], parts[i][lane]);
                }
            }
        }
        sums.iter_mut().zip(&parts).for_each(|(sum, part)| *sum += f64::from(total(part)));
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
            for (which, out) in which.chunks(8).zip(out.chunks_mut(8)) {
                // Beyond the end the last column is repeated.
                let column = |at: usize| matrix.column(which[at.min(which.len() - 1)]);
                out.copy_from_slice(&eight(std::array::from_fn(column), vector)[..out.len()]);
            }
        }
    }
    dispatch(isa, Products(matrix, which, vector, out));
}

/// Gives `out(i, j, product)` for all columns i of `which` and j from `first` on, where i ≤ j.
///
/// A block of the new columns stays in the near cache while all columns pass by it, [`CHUNK`] rows at a time.
pub(super) fn pairs(
    isa: Isa,
    matrix: Matrix,
    which: &[u32],
    first: usize,
    mut out: impl FnMut(usize, usize, f64),
) {
    let mut sums = vec![[[0.0f64; 4]; 4]; which.len().div_ceil(4) * TILES];
    for start in (first..which.len()).step_by(4 * TILES) {
        let which = &which[..which.len().min(start + 4 * TILES)];
        sums.fill([[0.0; 4]; 4]);
        dispatch(isa, Tiles { matrix, which, start, sums: &mut sums });
        for (i, j, at) in places(which.len(), start) {
            for (a, row) in sums[at].iter().enumerate() {
                for (b, product) in row.iter().enumerate() {
                    if i + a <= j + b && j + b < which.len() {
                        out(i + a, j + b, *product);
                    }
                }
            }
        }
    }
}

/// First columns of all tiles of a block of columns from `start` on that reach the diagonal or are above it, and their
/// places among the sums.
#[inline(always)]
fn places(count: usize, start: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let rights = move |i: usize| (start..count).step_by(4).enumerate().filter(move |(_, j)| i < j + 4);
    (0..count).step_by(4).flat_map(move |i| rights(i).map(move |(at, j)| (i, j, i / 4 * TILES + at)))
}

/// Products of all columns of `which` with those from `start` on, added to tiles of `sums`.
struct Tiles<'a> {
    matrix: Matrix<'a>,
    which: &'a [u32],
    start: usize,
    sums: &'a mut [[[f64; 4]; 4]],
}

impl Work for Tiles<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let Tiles { matrix, which, start, sums } = self;
        for first in (0..matrix.stride).step_by(CHUNK) {
            let range = first..matrix.stride.min(first + CHUNK);
            // Beyond the end a tile repeats the last column.
            let last = which.len() - 1;
            let four = |at: usize| -> [&[f32]; 4] {
                std::array::from_fn(|next| &matrix.column(which[(at + next).min(last)])[range.clone()])
            };
            for (i, j, at) in places(which.len(), start) {
                for (sums, found) in sums[at].iter_mut().zip(&tile(four(i), four(j))) {
                    sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += f64::from(*found));
                }
            }
        }
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
pub(super) fn plus<T: Copy + Into<f64>>(to: &mut [f64], factor: f64, by: &[T]) {
    to.iter_mut().zip(by).for_each(|(to, by)| *to = factor.mul_add((*by).into(), *to));
}

/// As [`pairs`], each product in double precision throughout.
pub(super) fn exact_pairs(
    isa: Isa,
    matrix: Matrix,
    which: &[u32],
    first: usize,
    mut out: impl FnMut(usize, usize, f64),
) {
    struct Row<'a>(Matrix<'a>, &'a [u32], &'a mut [f64]);
    impl Work for Row<'_> {
        type Out = ();
        #[inline(always)]
        fn run(self) {
            let Row(matrix, which, out) = self;
            let Some(last) = which.last() else { return };
            let wide: Vec<f64> = matrix.column(*last).iter().map(|value| f64::from(*value)).collect();
            for (column, out) in which.iter().zip(out) {
                *out = mixed(&wide, matrix.column(*column));
            }
        }
    }
    let mut products = vec![0.0; which.len()];
    for j in first..which.len() {
        dispatch(isa, Row(matrix, &which[..=j], &mut products));
        products[..=j].iter().enumerate().for_each(|(i, product)| out(i, j, *product));
    }
}

/// Σ a[k] b[k], in eight accumulators.
#[inline(always)]
pub(super) fn mixed<T: Copy + Into<f64>>(a: &[f64], b: &[T]) -> f64 {
    let (left, rest) = a.as_chunks::<8>();
    let (right, other) = b.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (left, right) in left.iter().zip(right) {
        (0..8).for_each(|at| sums[at] = left[at].mul_add(right[at].into(), sums[at]));
    }
    let tail: f64 = rest.iter().zip(other).map(|(a, b)| a * (*b).into()).sum();
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])) + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::rng::stream;

    /// Columns longer than a chunk and more than a block, against products in double precision.
    #[test]
    fn products_are_those_of_double_precision_at_every_level() {
        for (count, rows) in [(1, 16), (7, 48), (75, 32), (41, 2 * CHUNK + 48)] {
            let mut rng = stream(5, "lasso kernel", &[count as u64, rows as u64]);
            let values: Vec<f32> = (0..count * rows).map(|_| rng.normal() as f32).collect();
            let matrix = Matrix { values: &values, stride: rows };
            let vector: Vec<f64> = (0..rows).map(|_| f64::from(rng.normal() as f32)).collect();
            let short: Vec<f32> = vector.iter().map(|value| *value as f32).collect();
            let which: Vec<u32> = (0..count as u32).rev().collect();
            let product = |i: usize, with: &[f64]| -> f64 {
                matrix.column(which[i]).iter().zip(with).map(|(a, b)| f64::from(*a) * b).sum()
            };
            let close = |found: f64, wanted: f64| (found - wanted).abs() < 1e-6 * rows as f64;
            let mut all: Vec<Vec<f64>> = Vec::new();
            for isa in Isa::available() {
                let mut rough = vec![0.0; count];
                products(isa, matrix, &which, &short, &mut rough);
                assert!((0..count).all(|at| close(rough[at], product(at, &vector))));
                let first = count / 3;
                let mut found = vec![f64::NAN; count * count];
                pairs(isa, matrix, &which, first, |i, j, product| found[i * count + j] = product);
                for (i, j) in (0..count).flat_map(|i| (0..count).map(move |j| (i, j))) {
                    let right: Vec<f64> = matrix.column(which[j]).iter().map(|b| f64::from(*b)).collect();
                    let found = found[i * count + j];
                    let is_asked = i <= j && j >= first;
                    assert_eq!(is_asked, !found.is_nan(), "{i}, {j} of {count}");
                    assert!(!is_asked || close(found, product(i, &right)), "{i}, {j} of {count}");
                }
                found.retain(|product| !product.is_nan());
                all.push([rough, found].concat());
            }
            assert!(all.iter().all(|found| *found == all[0]), "levels differ at {count} x {rows}");
        }
    }
}
