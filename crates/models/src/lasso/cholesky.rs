//! Cholesky factors in single precision: directions for Newton steps, which are refined by whoever takes them.

use super::kernel::{VECTOR, mixed, plus, tile};
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

impl Factor<'_> {
    /// Takes the products of the first `done` columns off the `VECTOR` columns from there on, below the diagonal.
    #[inline(always)]
    fn reduce(&mut self, done: usize) {
        let (stride, last) = (self.stride, self.size - 1);
        for i in (done..self.size).step_by(4) {
            for j in (done..self.size.min(done + VECTOR)).step_by(4) {
                let rows = |first: usize| -> [&[f32]; 4] {
                    std::array::from_fn(|next| &self.values[(first + next).min(last) * stride..][..done])
                };
                let found = tile(rows(i), rows(j));
                for (a, products) in found.iter().enumerate().filter(|(a, _)| i + a <= last) {
                    for (b, product) in products.iter().enumerate() {
                        self.values[(i + a) * stride + j + b] -= *product as f32;
                    }
                }
            }
        }
    }

    /// Factors the `VECTOR` columns from `done` on, whose rows are reduced by all columns before.
    #[allow(clippy::needless_range_loop, reason = "several arrays by row and column")]
    #[inline(always)]
    fn columns(&mut self, done: usize, diagonal: &[f32]) {
        let end = self.size.min(done + VECTOR);
        let stride = self.stride;
        for row in done..self.size {
            for column in done..end.min(row + 1) {
                let (above, below) = self.values.split_at_mut(row * stride);
                let own = &mut below[done..=column];
                let pivots = if column == row {
                    None
                } else {
                    Some(&above[column * stride + done..][..column - done])
                };
                let (left, value) = own.split_at_mut(column - done);
                let other = pivots.unwrap_or(left);
                let product: f32 = left.iter().zip(other).map(|(a, b)| a * b).sum();
                value[0] -= product;
                if column < row {
                    value[0] *= self.inverses[column] as f32;
                } else if value[0] > LEAST_PIVOT * diagonal[row] {
                    value[0] = value[0].sqrt();
                    self.inverses[row] = 1.0 / f64::from(value[0]);
                } else {
                    value[0] = 0.0;
                }
            }
        }
    }
}

impl Work for Factor<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let diagonal: Vec<f32> = (0..self.size).map(|at| self.values[at * self.stride + at]).collect();
        for done in (0..self.size).step_by(VECTOR) {
            if done > 0 {
                self.reduce(done);
            }
            self.columns(done, &diagonal);
            // What the tiles left beyond the diagonal must not be taken for factors.
            for row in done..self.size.min(done + VECTOR) {
                self.values[row * self.stride..][row + 1..self.stride].fill(0.0);
            }
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
