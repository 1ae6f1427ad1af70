//! The small problem: the Lasso on a working set of columns, by their Gram matrix alone.
//!
//! Coordinate descent on the Gram matrix looks at a coefficient that stays zero in a few instructions, and moves one in
//! one pass over a row of the matrix; between sweeps a Newton step solves for all non-zero coefficients at once, and the
//! way to its end is searched for the least objective, with those that come to zero left there. The matrix is in single
//! precision: the caller sees to exactness by giving the true correlations at the start, so that errors are relative to
//! what moves.
//!
//! At a small λ that is not enough: with nearly as many coefficients as rows the matrix has eigenvalues below its own
//! rounding, a step along such a direction is as wrong as it is long, and what one round mends the next one spoils.
//! Then the caller asks for double precision ([`Small::make_exact`]) and gives all products again.

use super::cholesky::{Cholesky, Plain};
use super::kernel::{VECTOR, plus};
use super::problem::Penalty;
use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa::Isa;
use serde::{Deserialize, Serialize};

/// Sweeps of coordinate descent before a Newton step.
const SWEEPS: usize = 4;
/// Solutions of one factorisation that refine each other.
const REFINEMENTS: usize = 4;

/// Solves a matrix that is factored, in place.
type Solve = Box<dyn Fn(&mut [f64])>;

/// A number of the Gram matrix.
trait Real: Copy + Into<f64> {
    /// Factors the symmetric matrix whose lower half `row(i, values)` fills in; gives what solves it.
    fn factor(isa: Isa, size: usize, row: impl FnMut(usize, &mut [Self])) -> Solve;

    /// The nearest one.
    fn near(value: f64) -> Self;
}

impl Real for f32 {
    fn factor(isa: Isa, size: usize, row: impl FnMut(usize, &mut [f32])) -> Solve {
        let factor = Cholesky::new(isa, size, row);
        Box::new(move |vector| factor.solve(vector))
    }

    fn near(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f64 {
    fn factor(_: Isa, size: usize, row: impl FnMut(usize, &mut [f64])) -> Solve {
        let factor = Plain::new(size, row);
        Box::new(move |vector| factor.solve(vector))
    }

    fn near(value: f64) -> f64 {
        value
    }
}

/// x̃_iᵀ x̃_j / n, rows `stride` apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Gram {
    Single(Vec<f32>),
    Double(Vec<f64>),
}

impl Default for Gram {
    fn default() -> Gram {
        Gram::Single(Vec::new())
    }
}

/// Calls `$body` with `$values` the numbers of a matrix, whatever they are.
macro_rules! with_numbers {
    ($gram:expr, $values:ident => $body:expr) => {
        match $gram {
            Gram::Single($values) => $body,
            Gram::Double($values) => $body,
        }
    };
}

/// `gram` of `old` columns, its rows `from` apart, with room for `size` and rows `to` apart.
fn widened<T: Real>(gram: &[T], old: usize, from: usize, to: usize, size: usize) -> Vec<T> {
    let mut wide = Vec::with_capacity(to * size);
    for row in 0..old {
        wide.extend_from_slice(&gram[row * from..][..old]);
        wide.resize((row + 1) * to, T::near(0.0));
    }
    wide
}

/// Leaves the rows and columns `kept`, at the front.
fn narrow<T: Real>(gram: &mut Vec<T>, stride: usize, kept: &[usize]) {
    for (to, from) in kept.iter().enumerate() {
        for (place, column) in kept.iter().enumerate() {
            gram[to * stride + place] = gram[from * stride + column];
        }
        gram[to * stride + kept.len()..(to + 1) * stride].fill(T::near(0.0));
    }
    gram.truncate(kept.len() * stride);
}

/// A working set with its Gram matrix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Small {
    /// Columns of the data, in the order in which they came.
    pub(super) columns: Vec<u32>,
    /// Their coefficients, for scaled columns.
    pub(super) weights: Vec<f64>,
    gram: Gram,
    stride: usize,
    /// So many columns, the first ones, have their products in the matrix.
    pub(super) known: usize,
}

impl Small {
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// Number of coefficients that are not zero.
    pub(super) fn nonzeros(&self) -> usize {
        self.weights.iter().filter(|weight| **weight != 0.0).count()
    }

    /// Columns with their coefficients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, f64)> {
        self.columns.iter().copied().zip(self.weights.iter().copied())
    }

    /// Σ w², Σ penalty(w).
    pub(super) fn norms(&self, penalty: Penalty) -> (f64, f64) {
        self.weights.iter().fold((0.0, 0.0), |(square, cost), w| (square + w * w, cost + penalty.of(*w)))
    }

    /// Adds columns with coefficient 0; their part of the matrix is zero until [`Small::set`].
    pub(super) fn extend(&mut self, columns: &[u32]) {
        let old = self.len();
        self.columns.extend_from_slice(columns);
        let size = self.len();
        self.weights.resize(size, 0.0);
        if size > self.stride {
            let (from, to) = (self.stride, size.max(2 * self.stride).next_multiple_of(VECTOR));
            self.stride = to;
            with_numbers!(&mut self.gram, gram => *gram = widened(gram, old, from, to, size));
        }
        let stride = self.stride;
        with_numbers!(&mut self.gram, gram => gram.resize(size * stride, Real::near(0.0)));
    }

    /// True if the matrix is in double precision.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.gram, Gram::Double(_))
    }

    /// From now on the matrix is in double precision; all products are to be given again.
    pub(super) fn make_exact(&mut self) {
        self.known = 0;
        self.gram = Gram::Double(vec![0.0; self.len() * self.stride]);
    }

    /// Sets x̃_iᵀ x̃_j / n of the columns at i and j.
    #[inline(always)]
    pub(super) fn set(&mut self, i: usize, j: usize, value: f64) {
        let (above, below) = (i * self.stride + j, j * self.stride + i);
        with_numbers!(&mut self.gram, gram => (gram[above], gram[below]) = (Real::near(value), Real::near(value)));
    }

    /// Keeps only columns with a coefficient.
    pub(super) fn shrink(&mut self) {
        let kept: Vec<usize> = (0..self.len()).filter(|at| self.weights[*at] != 0.0).collect();
        with_numbers!(&mut self.gram, gram => narrow(gram, self.stride, &kept));
        self.known = kept.iter().filter(|at| **at < self.known).count();
        self.columns = kept.iter().map(|at| self.columns[*at]).collect();
        self.weights = kept.iter().map(|at| self.weights[*at]).collect();
    }

    /// Improves the coefficients until no coordinate is further than `tolerance` (in units of correlation) from its
    /// best, or for so many `rounds` of sweeps and a Newton step. `correlations` are x̃ᵀ r / n of the working set at
    /// the start, and follow. Returns the additions and
    /// multiplications it took, about.
    pub(super) fn solve(
        &mut self,
        isa: Isa,
        penalty: Penalty,
        correlations: &mut [f64],
        (tolerance, rounds): (f64, usize),
    ) -> f64 {
        let (stride, weights) = (self.stride, &mut self.weights[..]);
        with_numbers!(&self.gram, gram => {
            Solver { isa, gram: &gram[..], stride, weights, penalty }.solve(correlations, (tolerance, rounds))
        })
    }
}

/// The small problem while it is solved.
struct Solver<'a, T> {
    isa: Isa,
    gram: &'a [T],
    stride: usize,
    weights: &'a mut [f64],
    penalty: Penalty,
}

impl<T: Real> Solver<'_, T> {
    fn solve(&mut self, correlations: &mut [f64], (tolerance, rounds): (f64, usize)) -> f64 {
        let mut work = 0.0;
        for _ in 0..rounds {
            let (gram, stride, penalty) = (self.gram, self.stride, self.penalty);
            let sweeps =
                Sweeps { gram, stride, weights: &mut *self.weights, correlations, penalty, tolerance };
            let (moves, done) = dispatch(self.isa, sweeps);
            work += (moves * self.weights.len()) as f64;
            if done {
                break;
            }
            work += self.newton(correlations, tolerance);
        }
        work
    }

    /// Moves all non-zero coefficients to where they would be best if none changed its sign, as far as that helps.
    fn newton(&mut self, correlations: &mut [f64], tolerance: f64) -> f64 {
        let penalty = self.penalty;
        let active: Vec<usize> = (0..self.weights.len()).filter(|at| self.weights[*at] != 0.0).collect();
        let count = active.len();
        let solve = T::factor(self.isa, count, |i, row| {
            let from = &self.gram[active[i] * self.stride..][..self.stride];
            active[..=i].iter().zip(row.iter_mut()).for_each(|(column, value)| *value = from[*column]);
            row[i] = T::near(row[i].into() + penalty.l2);
        });
        let mut work = (count * count * count) as f64 / 6.0;
        for _ in 0..REFINEMENTS {
            let slope = |at: &usize| {
                let weight = self.weights[*at];
                correlations[*at] - penalty.l1 * weight.signum() - penalty.l2 * weight
            };
            let slopes: Vec<f64> = active.iter().map(slope).collect();
            if slopes.iter().all(|slope| slope.abs() <= 0.1 * tolerance) {
                break;
            }
            let mut direction = slopes.clone();
            solve(&mut direction);
            work += (count * (count + self.weights.len())) as f64;
            if !self.search(correlations, &active, &slopes, &direction) {
                break;
            }
        }
        work
    }

    /// Goes along `direction` to where the objective is least on the way; a coefficient that comes to zero stays there.
    /// True if none did.
    fn search(
        &mut self,
        correlations: &mut [f64],
        active: &[usize],
        slopes: &[f64],
        direction: &[f64],
    ) -> bool {
        let mut image = self.image(active, direction);
        let stop = |(at, step): (&usize, &f64)| -self.weights[*at] / step;
        let lengths = active.iter().zip(direction).map(stop).enumerate();
        let mut stops: Vec<(f64, usize)> =
            lengths.filter(|(_, length)| *length > 0.0).map(|(place, length)| (length, place)).collect();
        stops.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let search = Search {
            gram: self.gram,
            stride: self.stride,
            l2: self.penalty.l2,
            active,
            stops: &stops,
            slopes: slopes.to_vec(),
            direction: direction.to_vec(),
            image: &mut image,
        };
        let (length, stopped) = dispatch(self.isa, search);
        let mut steps: Vec<f64> = direction.iter().map(|step| length * step).collect();
        stops[..stopped].iter().for_each(|(_, place)| steps[*place] = -self.weights[active[*place]]);
        if stopped == 0 {
            image.iter_mut().for_each(|moved| *moved *= length);
        } else {
            image = self.image(active, &steps);
        }
        self.apply(correlations, active, &steps, &image);
        stopped == 0
    }

    fn apply(&mut self, correlations: &mut [f64], active: &[usize], steps: &[f64], moved: &[f64]) {
        for (at, step) in active.iter().zip(steps) {
            self.weights[*at] += step;
        }
        correlations.iter_mut().zip(moved).for_each(|(correlation, moved)| *correlation -= moved);
    }

    /// G x for the vector x that has `steps` at `active`.
    fn image(&self, active: &[usize], steps: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.weights.len()];
        dispatch(self.isa, Image { gram: self.gram, stride: self.stride, active, steps, out: &mut out });
        out
    }
}

/// The way along a direction that loses the coordinates which come to zero: how long it is to the least objective, and
/// how many `stops` it passes.
struct Search<'a, T> {
    gram: &'a [T],
    stride: usize,
    l2: f64,
    active: &'a [usize],
    /// Length and place among the active at which a coefficient is zero, nearest first.
    stops: &'a [(f64, usize)],
    /// Minus the gradient where the way has come to.
    slopes: Vec<f64>,
    direction: Vec<f64>,
    /// G x direction.
    image: &'a mut [f64],
}

impl<T: Real> Work for Search<'_, T> {
    type Out = (f64, usize);

    #[inline(always)]
    fn run(self) -> (f64, usize) {
        let Search { gram, stride, l2, active, stops, mut slopes, mut direction, image } = self;
        let (mut length, mut stopped) = (0.0, 0);
        let mut bends: Vec<f64> = active.iter().map(|at| image[*at]).collect();
        loop {
            let (mut gain, mut bend) = (0.0, 0.0);
            for ((slope, step), own) in slopes.iter().zip(&direction).zip(&bends) {
                gain += slope * step;
                bend += step * (own + l2 * step);
            }
            let best = if bend > 0.0 { length + gain / bend } else { f64::INFINITY };
            let next = stops.get(stopped).map_or(f64::INFINITY, |stop| stop.0);
            let to = best.min(next);
            if gain <= 0.0 || to == f64::INFINITY {
                return (length, stopped);
            }
            if best <= next {
                return (best, stopped);
            }
            for ((slope, step), own) in slopes.iter_mut().zip(&direction).zip(&bends) {
                *slope -= (to - length) * (own + l2 * step);
            }
            let place = stops[stopped].1;
            plus(image, -direction[place], &gram[active[place] * stride..][..image.len()]);
            bends.iter_mut().zip(active).for_each(|(bend, at)| *bend = image[*at]);
            direction[place] = 0.0;
            (length, stopped) = (to, stopped + 1);
        }
    }
}

struct Image<'a, T> {
    gram: &'a [T],
    stride: usize,
    active: &'a [usize],
    steps: &'a [f64],
    out: &'a mut [f64],
}

impl<T: Real> Work for Image<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for (at, step) in self.active.iter().zip(self.steps) {
            plus(self.out, *step, &self.gram[at * self.stride..][..self.out.len()]);
        }
    }
}

/// A few sweeps over all coordinates; gives the number of moves, and whether the last sweep moved none far.
struct Sweeps<'a, T> {
    gram: &'a [T],
    stride: usize,
    weights: &'a mut [f64],
    correlations: &'a mut [f64],
    penalty: Penalty,
    tolerance: f64,
}

impl<T: Real> Work for Sweeps<'_, T> {
    type Out = (usize, bool);

    #[inline(always)]
    fn run(self) -> (usize, bool) {
        let (size, mut moves) = (self.weights.len(), 0);
        for _ in 0..SWEEPS {
            let mut worst = 0.0f64;
            for at in 0..size {
                let row = &self.gram[at * self.stride..][..size];
                let (old, square) = (self.weights[at], row[at].into());
                if old == 0.0 && self.correlations[at].abs() <= self.penalty.l1 {
                    continue;
                }
                let new = self.penalty.best(self.correlations[at] + square * old, square);
                if new != old {
                    worst = worst.max((square + self.penalty.l2) * (new - old).abs());
                    plus(self.correlations, old - new, row);
                    self.weights[at] = new;
                    moves += 1;
                }
            }
            if worst <= self.tolerance {
                return (moves, true);
            }
        }
        (moves, false)
    }
}
