//! Steps of Newton's method: the least of a quadratic model, alone or with the penalty ‖w‖₁.

use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa::Isa;

/// A symmetric matrix as its lower triangle, row after row.
#[derive(Debug)]
pub(super) struct Curvature {
    /// Rows.
    size: usize,
    /// (size (size + 1) / 2).
    triangle: Vec<f64>,
}

impl Curvature {
    /// H from `scale` times the triangle of a sample, and its exact diagonal: what the sample lacks there is put on.
    pub(super) fn new(triangle: &[f64], scale: f64, diagonal: &[f64]) -> Curvature {
        let size = diagonal.len();
        let mut triangle: Vec<f64> =
            triangle[..size * (size + 1) / 2].iter().map(|value| scale * value).collect();
        for (row, exact) in diagonal.iter().enumerate() {
            let value = &mut triangle[row * (row + 3) / 2];
            *value = value.max(*exact);
        }
        Curvature { size, triangle }
    }
}

/// a·b over slices of one length: eight running sums.
#[inline(always)]
fn inner(a: &[f64], b: &[f64]) -> f64 {
    let (mut left, mut right) = (a.chunks_exact(8), b.chunks_exact(8));
    let mut sums = [0.0f64; 8];
    for (left, right) in (&mut left).zip(&mut right) {
        for lane in 0..8 {
            sums[lane] = left[lane].mul_add(right[lane], sums[lane]);
        }
    }
    let rest = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum::<f64>();
    sums.iter().sum::<f64>() + rest
}

/// −(H + 1)⁻¹ g, and its product with g.
pub(super) fn factorise(isa: Isa, curvature: Curvature, slopes: &[f64]) -> (Vec<f64>, f64) {
    dispatch(isa, Factorise(curvature, slopes))
}

struct Factorise<'a>(Curvature, &'a [f64]);

impl Work for Factorise<'_> {
    type Out = (Vec<f64>, f64);

    #[inline(always)]
    fn run(self) -> (Vec<f64>, f64) {
        let Factorise(Curvature { size, mut triangle }, slopes) = self;
        (0..size).for_each(|row| triangle[row * (row + 3) / 2] += 1.0);
        let direction = solve(&mut triangle, slopes);
        let slope = inner(&direction, slopes);
        (direction, slope)
    }
}

/// The least pivot of a factorisation, as a share of the diagonal: below it is rounding.
const LEAST_PIVOT: f64 = 1e-12;

/// −A⁻¹ g by Cholesky's factorisation, which takes the place of the lower triangle of A.
#[inline(always)]
fn solve(triangle: &mut [f64], slopes: &[f64]) -> Vec<f64> {
    let start = |row: usize| row * (row + 1) / 2;
    let mut direction: Vec<f64> = slopes.iter().map(|slope| -slope).collect();
    for row in 0..slopes.len() {
        let (above, own) = triangle.split_at_mut(start(row));
        let own = &mut own[..=row];
        for column in 0..row {
            let other = &above[start(column)..][..=column];
            own[column] = (own[column] - inner(&own[..column], &other[..column])) / other[column];
        }
        let pivot = own[row] - inner(&own[..row], &own[..row]);
        own[row] = pivot.max(LEAST_PIVOT * own[row]).sqrt();
        direction[row] = (direction[row] - inner(&own[..row], &direction[..row])) / own[row];
    }
    for row in (0..slopes.len()).rev() {
        let own = &triangle[start(row)..][..=row];
        let value = direction[row] / own[row];
        direction[row] = value;
        for (earlier, factor) in direction[..row].iter_mut().zip(own) {
            *earlier = factor.mul_add(-value, *earlier);
        }
    }
    direction
}

/// The d of the least g·d + ½ dᵀH d + ‖w + d‖₁, nearly, and g·d + ‖w + d‖₁ − ‖w‖₁.
pub(super) fn descend(isa: Isa, curvature: &Curvature, slopes: &[f64], weights: &[f64]) -> (Vec<f64>, f64) {
    dispatch(isa, Descend { curvature, slopes, weights })
}

struct Descend<'a> {
    curvature: &'a Curvature,
    slopes: &'a [f64],
    weights: &'a [f64],
}

/// Most sweeps over the coordinates.
const SWEEPS: usize = 200;
/// Coordinates have settled once a sweep gains this share of what the first one gained.
const SETTLED: f64 = 1e-8;
/// Sweeps between two exact solutions for the weights that are not zero: sweeps find out which those are, and then
/// creep where columns nearly depend on each other.
const FACE: usize = 8;

impl Work for Descend<'_> {
    type Out = (Vec<f64>, f64);

    #[inline(always)]
    fn run(self) -> (Vec<f64>, f64) {
        let mut model = Quadratic::new(self.curvature, self.slopes, self.weights);
        let mut first = 0.0;
        for sweep in 0..SWEEPS {
            let gained = model.sweep();
            first = if sweep == 0 { gained } else { first };
            if gained <= SETTLED * first {
                break;
            }
            if sweep % FACE == FACE - 1 {
                model.face();
            }
        }
        let pairs = || model.new.iter().zip(self.weights);
        let slope = pairs().zip(self.slopes).map(|((new, old), slope)| slope * (new - old)).sum::<f64>();
        let penalty = pairs().map(|(new, old)| new.abs() - old.abs()).sum::<f64>();
        (pairs().map(|(new, old)| new - old).collect(), slope + penalty)
    }
}

/// The quadratic model at a moving point.
struct Quadratic {
    /// H, both triangles: (size, size), with a little on the diagonal, so that a column without curvature divides by
    /// something.
    square: Vec<f64>,
    /// Slopes of the quadratic at `new`, without the penalty.
    slopes: Vec<f64>,
    /// w + d.
    new: Vec<f64>,
}

impl Quadratic {
    #[inline(always)]
    fn new(curvature: &Curvature, slopes: &[f64], weights: &[f64]) -> Quadratic {
        let size = weights.len();
        let mut square = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                let value = curvature.triangle[row * (row + 1) / 2 + column];
                square[row * size + column] = value;
                square[column * size + row] = value;
            }
            let value = &mut square[row * (size + 1)];
            *value = value.mul_add(1.0 + 1e-9, 1e-12);
        }
        Quadratic { square, slopes: slopes.to_vec(), new: weights.to_vec() }
    }

    /// Adds to one weight.
    #[inline(always)]
    fn shift(&mut self, at: usize, change: f64) {
        let size = self.new.len();
        for (slope, value) in self.slopes.iter_mut().zip(&self.square[at * size..][..size]) {
            *slope = value.mul_add(change, *slope);
        }
    }

    /// Each weight in turn to its best value; gives what that gained.
    #[inline(always)]
    fn sweep(&mut self) -> f64 {
        let mut gained = 0.0;
        for at in 0..self.new.len() {
            let bend = self.square[at * (self.new.len() + 1)];
            let target = self.new[at] - self.slopes[at] / bend;
            let shrunk = (target.abs() - 1.0 / bend).max(0.0).copysign(target);
            let change = shrunk - self.new[at];
            if change == 0.0 {
                continue;
            }
            self.new[at] = shrunk;
            gained += bend * change * change;
            self.shift(at, change);
        }
        gained
    }

    /// Towards the best values of the weights that are not zero, keeping their signs, up to where the first is zero.
    #[inline(always)]
    fn face(&mut self) {
        let size = self.new.len();
        let face: Vec<usize> = (0..size).filter(|at| self.new[*at] != 0.0).collect();
        let mut triangle = Vec::with_capacity(face.len() * (face.len() + 1) / 2);
        for (place, row) in face.iter().enumerate() {
            triangle.extend(face[..=place].iter().map(|column| self.square[row * size + column]));
        }
        let slopes: Vec<f64> = face.iter().map(|at| self.slopes[*at] + self.new[*at].signum()).collect();
        let direction = solve(&mut triangle, &slopes);
        let mut length = 1.0f64;
        let mut stopped = None;
        for (at, change) in face.iter().zip(&direction) {
            let room = -self.new[*at] / change;
            if room > 0.0 && room < length {
                (length, stopped) = (room, Some(*at));
            }
        }
        for (at, change) in face.iter().zip(&direction) {
            let new = if stopped == Some(*at) { 0.0 } else { length.mul_add(*change, self.new[*at]) };
            let change = new - self.new[*at];
            self.new[*at] = new;
            self.shift(*at, change);
        }
    }
}
