//! Cholesky factors in single precision: directions for Newton steps, which are refined by whoever takes them.

use super::kernel::{VECTOR, Vector, mixed, plus};
use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa::Isa;

/// A pivot below this share of its diagonal is no pivot: the column depends on those before it.
const LEAST_PIVOT: f32 = 1e-5;

/// L with L Lᵀ = A, row after row.
pub(super) struct Cholesky {
    isa: Isa,
    size: usize,
    stride: usize,
    values: Vec<f32>,
    /// 1 / L_ii; 0 for a column that depends on those before it, whose part of a solution is 0.
    inverses: Vec<f64>,
}

impl Cholesky {
    /// Of the symmetric matrix whose lower half `row(i, values)` fills in: `values[..=i]` of row i.
    pub(super) fn new(isa: Isa, size: usize, mut row: impl FnMut(usize, &mut [f32])) -> Cholesky {
        let stride = size.next_multiple_of(VECTOR);
        let mut values = vec![0.0f32; size * stride];
        values.chunks_exact_mut(stride.max(1)).enumerate().for_each(|(at, values)| row(at, values));
        let mut inverses = vec![0.0; size];
        dispatch(isa, Factor { size, stride, values: &mut values, inverses: &mut inverses });
        Cholesky { isa, size, stride, values, inverses }
    }

    /// `vector` = A⁻¹ `vector`.
    pub(super) fn solve(&self, vector: &mut [f64]) {
        dispatch(self.isa, Solve(self, vector));
    }
}

struct Factor<'a> {
    size: usize,
    stride: usize,
    values: &'a mut [f32],
    inverses: &'a mut [f64],
}

/// Rows that are reduced together.
const ROWS: usize = 6;

impl Factor<'_> {
    /// Column by column, the values that the `VECTOR` rows from `done` on have in the columns before: `packed[k]` are
    /// those of column k.
    #[inline(always)]
    fn pack(&self, done: usize, packed: &mut [Vector]) {
        for lane in 0..VECTOR.min(self.size - done) {
            let row = &self.values[(done + lane) * self.stride..][..done];
            packed.iter_mut().zip(row).for_each(|(packed, value)| packed[lane] = *value);
        }
    }

    /// Gives `each` of the rows from `first` on the products of its values in the columns from `start` on with the
    /// `packed` columns, and room for the panel at `done`.
    #[inline(always)]
    fn each_row(
        &mut self,
        first: usize,
        start: usize,
        packed: &[Vector],
        done: usize,
        each: impl Fn(&mut [f32], &Vector),
    ) {
        let (stride, last) = (self.stride, self.size - 1);
        for first in (first..self.size).step_by(ROWS) {
            let rows: [&[f32]; ROWS] = std::array::from_fn(|next| {
                &self.values[(first + next).min(last) * stride + start..][..packed.len()]
            });
            let found = times(rows, packed);
            for (row, found) in (first..self.size).zip(&found) {
                each(&mut self.values[row * stride + done..][..VECTOR], found);
            }
        }
    }

    /// Factors the square on the diagonal at `done`. Gives the inverse of its factor, column by column.
    #[allow(clippy::needless_range_loop, reason = "several arrays by row and column")]
    #[inline(always)]
    fn square(&mut self, done: usize, diagonal: &[f32]) -> [Vector; VECTOR] {
        let count = VECTOR.min(self.size - done);
        let mut square = [[0.0f32; VECTOR]; VECTOR];
        for row in 0..count {
            square[row].copy_from_slice(&self.values[(done + row) * self.stride + done..][..VECTOR]);
        }
        let mut inverse = [[0.0f32; VECTOR]; VECTOR];
        for row in 0..count {
            for column in 0..row {
                let sum: f32 = (0..column).map(|at| square[row][at] * square[column][at]).sum();
                square[row][column] = (square[row][column] - sum) * inverse[column][column];
            }
            let sum: f32 = (0..row).map(|at| square[row][at] * square[row][at]).sum();
            let pivot = square[row][row] - sum;
            square[row][row..].fill(0.0);
            if pivot > LEAST_PIVOT * diagonal[done + row] {
                square[row][row] = pivot.sqrt();
                self.inverses[done + row] = 1.0 / f64::from(square[row][row]);
                let own = self.inverses[done + row] as f32;
                for column in 0..row {
                    let sum: f32 = (column..row).map(|at| square[row][at] * inverse[column][at]).sum();
                    inverse[column][row] = -sum * own;
                }
                inverse[row][row] = own;
            }
            self.values[(done + row) * self.stride + done..][..VECTOR].copy_from_slice(&square[row]);
        }
        inverse
    }
}

/// The products of parts of rows with `packed` columns.
#[inline(always)]
fn times(rows: [&[f32]; ROWS], packed: &[Vector]) -> [Vector; ROWS] {
    let mut sums = [[0.0f32; VECTOR]; ROWS];
    let [a, b, c, d, e, f] = rows;
    let values = a.iter().zip(b).zip(c).zip(d).zip(e).zip(f).zip(packed);
    for ((((((a, b), c), d), e), f), columns) in values {
        let values = [*a, *b, *c, *d, *e, *f];
        for row in 0..ROWS {
            for lane in 0..VECTOR {
                sums[row][lane] = values[row].mul_add(columns[lane], sums[row][lane]);
            }
        }
    }
    sums
}

impl Work for Factor<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let diagonal: Vec<f32> = (0..self.size).map(|at| self.values[at * self.stride + at]).collect();
        let mut packed = vec![[0.0f32; VECTOR]; self.size];
        for done in (0..self.size).step_by(VECTOR) {
            self.pack(done, &mut packed[..done]);
            self.each_row(done, 0, &packed[..done], done, |to, found| {
                to.iter_mut().zip(found).for_each(|(to, found)| *to -= found);
            });
            let inverse = self.square(done, &diagonal);
            self.each_row(done + VECTOR, done, &inverse, done, |to, found| to.copy_from_slice(found));
        }
    }
}

struct Solve<'a>(&'a Cholesky, &'a mut [f64]);

impl Work for Solve<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let Solve(factor, vector) = self;
        for row in 0..factor.size {
            let values = &factor.values[row * factor.stride..][..row];
            vector[row] = (vector[row] - mixed(&vector[..row], values)) * factor.inverses[row];
        }
        for row in (0..factor.size).rev() {
            vector[row] *= factor.inverses[row];
            let value = vector[row];
            plus(&mut vector[..row], -value, &factor.values[row * factor.stride..][..row]);
        }
    }
}

/// A factor of the matrix and a little more on its diagonal, in double precision: for the few times that single precision is
/// not enough. So a solution goes far along what the matrix does not hold back, where columns depend on each other, and
/// whoever takes it stops where it should.
pub(super) struct Plain {
    size: usize,
    /// (size, size), the lower half.
    values: Vec<f64>,
}

/// What is added, as a share of the diagonal: far above rounding, so that no pivot is made of it, and far below what is
/// told apart.
const RIDGE: f64 = 1e-11;

impl Plain {
    /// As [`Cholesky::new`].
    pub(super) fn new(size: usize, mut row: impl FnMut(usize, &mut [f64])) -> Plain {
        let mut values = vec![0.0; size * size];
        values.chunks_exact_mut(size.max(1)).enumerate().for_each(|(at, values)| row(at, values));
        let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for at in 0..size {
            let (above, own) = values.split_at_mut(at * size);
            let own = &mut own[..=at];
            for column in 0..at {
                let other = &above[column * size..][..=column];
                own[column] = (own[column] - inner(&own[..column], other)) / other[column];
            }
            let (before, diagonal) = (inner(&own[..at], &own[..at]), own[at]);
            let ridge = (RIDGE * diagonal).max(f64::MIN_POSITIVE);
            own[at] = (diagonal + ridge - before).max(0.1 * ridge).sqrt();
        }
        Plain { size, values }
    }

    /// As [`Cholesky::solve`].
    pub(super) fn solve(&self, vector: &mut [f64]) {
        let row = |at: usize| &self.values[at * self.size..][..=at];
        for at in 0..self.size {
            let before: f64 = row(at).iter().zip(&vector[..at]).map(|(a, b)| a * b).sum();
            vector[at] = (vector[at] - before) / row(at)[at];
        }
        for at in (0..self.size).rev() {
            vector[at] /= row(at)[at];
            let value = vector[at];
            vector[..at].iter_mut().zip(row(at)).for_each(|(other, factor)| *other -= value * factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::rng::stream;

    #[test]
    fn solutions_solve_whatever_the_size_and_level() {
        for size in [0, 1, 2, 15, 16, 17, 70, 133] {
            let mut rng = stream(3, "cholesky", &[size as u64]);
            let root: Vec<f64> = (0..size * (size + 5)).map(|_| rng.normal()).collect();
            let rows: Vec<&[f64]> = root.chunks(size + 5).take(size).collect();
            let product = |i: usize, j: usize| rows[i].iter().zip(rows[j]).map(|(a, b)| a * b).sum::<f64>();
            let wanted: Vec<f64> = (0..size).map(|_| rng.normal()).collect();
            let image = |x: &[f64]| -> Vec<f64> {
                (0..size)
                    .map(|i| (0..size).map(|j| (product(i, j) + f64::from(i == j)) * x[j]).sum())
                    .collect()
            };
            let mut answers = Vec::new();
            for isa in Isa::available() {
                let factor = Cholesky::new(isa, size, |i, row| {
                    (0..=i).for_each(|j| row[j] = (product(i, j) + f64::from(i == j)) as f32);
                });
                let mut answer = image(&wanted);
                factor.solve(&mut answer);
                let worst = answer.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst < 1e-3, "{size}: off by {worst}");
                answers.push(answer);
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "levels differ at {size}");
        }
    }

    #[test]
    fn a_column_given_twice_is_left_alone() {
        let matrix = [[2.0f32, 2.0, 1.0], [2.0, 2.0, 1.0], [1.0, 1.0, 3.0]];
        let factor = Cholesky::new(Isa::Portable, 3, |i, row| row[..=i].copy_from_slice(&matrix[i][..=i]));
        let mut answer = vec![3.0, 3.0, 4.0];
        factor.solve(&mut answer);
        assert!((answer[0] - 1.0).abs() < 1e-6 && answer[1] == 0.0 && (answer[2] - 1.0).abs() < 1e-6);
    }
}
