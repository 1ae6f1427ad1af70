//! The lasso of each row against the Gram matrix, and the move of an atom.
//!
//! Codes start at 0. With the residual's products r = Dᵀx − DᵀD a kept up to date, the best a_k for the others is
//! soft(r_k + G_kk a_k, λ) / G_kk; only a coordinate that moves costs a pass over r. Sweeps over all atoms find the
//! non-zeros, sweeps over these alone bring them home.

use dunlin::isa::{self, Kernel};

/// Sweeps over the non-zeros between two over all atoms, and sweeps over all, at most.
const INNER: usize = 20;
const MOST_SWEEPS: usize = 200;

/// The codes of some rows.
#[derive(Debug)]
pub(super) struct Codes {
    /// (rows, K).
    pub(super) values: Vec<f32>,
    /// a·Dᵀx + a·r of each row.
    explained: Vec<f64>,
}

impl Codes {
    /// ‖x − D a‖² of row `row`, where `square` is ‖x‖².
    pub(super) fn error(&self, row: usize, square: f64) -> f64 {
        (square - self.explained[row]).max(0.0)
    }
}

/// Codes of rows whose Dᵀx are `linear`, one every `stride`; `gram` is DᵀD: (width, width).
pub(super) fn codes(
    linear: &[f32],
    stride: usize,
    gram: &[f32],
    width: usize,
    lambda: f32,
    tolerance: f32,
) -> Codes {
    let rows = linear.len() / stride.max(1);
    let mut codes = Codes { values: vec![0.0; rows * width], explained: vec![0.0; rows] };
    isa::run(Work { linear, stride, gram, width, lambda, tolerance, codes: &mut codes });
    codes
}

struct Work<'a> {
    linear: &'a [f32],
    stride: usize,
    gram: &'a [f32],
    width: usize,
    lambda: f32,
    tolerance: f32,
    codes: &'a mut Codes,
}

impl Kernel for Work<'_> {
    type Out = ();
    #[inline(always)]
    fn run(self) {
        let Work { linear, stride, gram, width, lambda, tolerance, codes } = self;
        let mut lasso = Lasso { gram, width, lambda, rest: vec![0.0; width] };
        let mut nonzeros = Vec::with_capacity(width);
        let rows = linear.chunks_exact(stride).zip(codes.values.chunks_exact_mut(width));
        for ((linear, code), explained) in rows.zip(&mut codes.explained) {
            lasso.rest.copy_from_slice(&linear[..width]);
            lasso.solve(code, tolerance, &mut nonzeros);
            for k in (0..width).filter(|k| code[*k] != 0.0) {
                *explained += f64::from(code[k]) * (f64::from(linear[k]) + f64::from(lasso.rest[k]));
            }
        }
    }
}

struct Lasso<'a> {
    gram: &'a [f32],
    width: usize,
    lambda: f32,
    /// r.
    rest: Vec<f32>,
}

impl Lasso<'_> {
    #[inline(always)]
    fn solve(&mut self, code: &mut [f32], tolerance: f32, nonzeros: &mut Vec<usize>) {
        for _ in 0..MOST_SWEEPS {
            let mut moved = 0.0f32;
            for k in 0..self.width {
                // Most atoms are not used and stay so.
                if code[k] != 0.0 || self.rest[k].abs() > self.lambda {
                    moved = moved.max(self.descend(k, code));
                }
            }
            nonzeros.clear();
            nonzeros.extend((0..self.width).filter(|k| code[*k] != 0.0));
            let largest = nonzeros.iter().fold(0.0f32, |largest, k| largest.max(code[*k].abs()));
            if moved <= tolerance * largest {
                return;
            }
            for _ in 0..INNER {
                let moved = nonzeros.iter().fold(0.0f32, |moved, k| moved.max(self.descend(*k, code)));
                if moved <= tolerance * largest {
                    break;
                }
            }
        }
    }

    /// The best a_k for the others; returns how far it moved.
    #[inline(always)]
    fn descend(&mut self, k: usize, code: &mut [f32]) -> f32 {
        let gram = &self.gram[k * self.width..][..self.width];
        let (curvature, old) = (gram[k], code[k]);
        if curvature <= 0.0 {
            return 0.0;
        }
        let target = self.rest[k] + curvature * old;
        let new = (target.abs() - self.lambda).max(0.0).copysign(target) / curvature;
        let step = new - old;
        if step == 0.0 {
            return 0.0;
        }
        code[k] = new;
        for (rest, gram) in self.rest.iter_mut().zip(gram) {
            *rest -= step * gram;
        }
        step.abs()
    }
}

/// Moves atom `k` of `atoms`, (K, features), to (b − D a) / A_kk + d, and back into the unit ball; `squares` is a, row k
/// of A, and `total` is b.
pub(super) fn improve(k: usize, squares: &[f64], total: &[f64], atoms: &mut [f64], features: usize) {
    isa::run(Improve { k, squares, total, atoms, features });
}

struct Improve<'a> {
    k: usize,
    squares: &'a [f64],
    total: &'a [f64],
    atoms: &'a mut [f64],
    features: usize,
}

impl Kernel for Improve<'_> {
    type Out = ();
    #[inline(always)]
    fn run(self) {
        let Improve { k, squares, total, atoms, features } = self;
        let mut rest = total.to_vec();
        for (atom, weight) in atoms.chunks_exact(features).zip(squares).filter(|(_, weight)| **weight != 0.0)
        {
            for (rest, atom) in rest.iter_mut().zip(atom) {
                *rest -= weight * atom;
            }
        }
        let inverse = 1.0 / squares[k];
        let atom = &mut atoms[k * features..][..features];
        atom.iter_mut().zip(&rest).for_each(|(atom, rest)| *atom += rest * inverse);
        let mut sums = [0.0f64; 8];
        for values in atom.chunks(8) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * value);
        }
        let length = sums.iter().sum::<f64>().sqrt();
        if length > 1.0 {
            atom.iter_mut().for_each(|value| *value /= length);
        }
    }
}
