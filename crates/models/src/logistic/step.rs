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
        let Factorise(Curvature { size, triangle: mut factor }, slopes) = self;
        let start = |row: usize| row * (row + 1) / 2;
        let mut direction: Vec<f64> = slopes.iter().map(|slope| -slope).collect();
        for row in 0..size {
            let (above, own) = factor.split_at_mut(start(row));
            let own = &mut own[..=row];
            for column in 0..row {
                let other = &above[start(column)..][..=column];
                own[column] = (own[column] - inner(&own[..column], &other[..column])) / other[column];
            }
            let pivot = own[row] + 1.0 - inner(&own[..row], &own[..row]);
            // Of (H + 1) it is at least 1 but for rounding.
            own[row] = pivot.max(1.0).sqrt();
            direction[row] = (direction[row] - inner(&own[..row], &direction[..row])) / own[row];
        }
        for row in (0..size).rev() {
            let own = &factor[start(row)..][..=row];
            let value = direction[row] / own[row];
            direction[row] = value;
            for (earlier, factor) in direction[..row].iter_mut().zip(own) {
                *earlier = factor.mul_add(-value, *earlier);
            }
        }
        let slope = inner(&direction, slopes);
        (direction, slope)
    }
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

impl Work for Descend<'_> {
    type Out = (Vec<f64>, f64);

    #[inline(always)]
    fn run(self) -> (Vec<f64>, f64) {
        let (size, weights) = (self.weights.len(), self.weights);
        let mut square = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                let value = self.curvature.triangle[row * (row + 1) / 2 + column];
                square[row * size + column] = value;
                square[column * size + row] = value;
            }
        }
        let mut slopes = self.slopes.to_vec();
        let mut new = weights.to_vec();
        let mut first = 0.0;
        for sweep in 0..SWEEPS {
            let mut gained = 0.0;
            for at in 0..size {
                let row = &square[at * size..][..size];
                // A little on the diagonal, so that a column without curvature divides by something.
                let bend = row[at].mul_add(1.0 + 1e-9, 1e-12);
                let target = new[at] - slopes[at] / bend;
                let shrunk = (target.abs() - 1.0 / bend).max(0.0).copysign(target);
                let change = shrunk - new[at];
                if change == 0.0 {
                    continue;
                }
                new[at] = shrunk;
                gained += bend * change * change;
                for (slope, value) in slopes.iter_mut().zip(row) {
                    *slope = value.mul_add(change, *slope);
                }
            }
            first = if sweep == 0 { gained } else { first };
            if gained <= SETTLED * first {
                break;
            }
        }
        let pairs = || new.iter().zip(weights);
        let slope = pairs().zip(self.slopes).map(|((new, old), slope)| slope * (new - old)).sum::<f64>();
        let penalty = pairs().map(|(new, old)| new.abs() - old.abs()).sum::<f64>();
        (pairs().map(|(new, old)| new - old).collect(), slope + penalty)
    }
}
