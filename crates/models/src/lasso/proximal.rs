//! Proximal gradient on shared tables: `solver=proximal`, under `bsp`, `ssp:S`, `essp:S`, `asp` and `allreduce`.
//!
//! ```text
//! w_j ← prox(w_j + c_j / (L (1 + τ))),   c = X̃ᵀ r / n,   prox(v) = soft(v, l1 / L') / (1 + l2 / L'),  L' = L (1 + τ)
//! ```
//! The rows are cut. Each clock a lane works out X̃ᵀ r of its rows at the coefficients it sees and puts the *difference* from
//! what it said last into a shared table, which so holds the sum of the lanes' latest gradients (the proximal
//! incremental aggregated gradient: Vanli, Gurbuzbalaban and Ozdaglar 2016; Aytekin, Feyzmahdavian and Johansson 2016).
//!
//! **Where the prox is applied.** It is not linear, so the sum of the lanes' proximal steps is no proximal step of the sum,
//! and a lane that took one on its rows alone would come to another point. A table knows sums only. So each lane owns a
//! part of the columns: it alone applies the prox to them, at the gradient of all lanes, and writes what changes.
//! Coefficients have one writer, gradients are sums, and the only point at rest is the optimum, however old the reads.
//!
//! **The step.** A read may lack the last S clocks and a gradient in it was worked out from such a read: the oldest coefficients
//! behind a step are τ = 2 S + 1 clocks old (0 with one lane). Aggregated gradients converge for steps below
//! 2 / (L (2τ + 1)) (Feyzmahdavian and Johansson 2023); 1 / (L (τ + 1)) is below that. L, the greatest eigenvalue of X̃ᵀX̃ / n, is
//! found by the power method in clocks of `begin`, which wait for all lanes under every strategy; what its last vector
//! is off by is added, so that a rough L is too great rather than too small. `asp` knows no S: [`ASSUMED`] is taken.
//!
//! **The gap.** The lower bound may be taken at any residual: at those the lanes saw last, whose products with the
//! columns are in the table. So the gap costs nothing, and closes as the lanes agree.

use super::input::Held;
use super::problem::{Penalty, soft};
use super::{COEFFICIENTS, CORRELATIONS, INTERCEPT, JUDGED, LAMBDA, Lasso, Local, PRODUCTS, RESIDUAL, STATE};
use dunlin::rng::stream;
use dunlin::serial::share;
use dunlin::{Params, Result, Unit};
use serde::{Deserialize, Serialize};

/// Clocks that a read is taken to be old where there is no bound.
pub const ASSUMED: u64 = 8;
/// Clocks of the power method.
pub(super) const POWER: usize = 16;
/// Vectors that the table of products holds meanwhile: one is read, the one before it kept, one written, one cleared. So
/// none is read and written in one clock, and lanes that see each other's writes at once learn nothing else.
pub(super) const VECTORS: usize = 4;
/// The clock of `begin` in which the first vector is written.
const FIRST: usize = 2;

/// What a lane's block has put into the shared tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Published {
    /// x̃ᵀ r of every column; empty before the first clock.
    products: Vec<f64>,
    /// ‖r‖² and yᵀ r.
    squares: [f64; 2],
    /// One over the step.
    steepness: f64,
}

/// v / ‖v‖; zeros if there is nothing to scale.
fn unit_vector(mut vector: Vec<f64>) -> Vec<f64> {
    let norm = inner(&vector, &vector).sqrt();
    vector.iter_mut().for_each(|value| *value = if norm > 0.0 { *value / norm } else { 0.0 });
    vector
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Vector number `number` of the power method.
fn vector(params: &Params, number: usize) -> Vec<f64> {
    let table = params.table::<f64>(PRODUCTS);
    (0..table.rows()).map(|column| table.row(column)[number % VECTORS]).collect()
}

/// A clock of the power method by one lane: the next vector is the sum over lanes of X̃ᵀ X̃ v / n.
pub(super) fn power(model: &Lasso, unit: &Unit, params: &mut Params, held: &Held) {
    let round = unit.epoch;
    let old = match round {
        FIRST => {
            let mut rng = stream(unit.seed, "lasso power", &[]);
            (0..model.width).map(|_| rng.normal()).collect()
        }
        _ => vector(params, round),
    };
    let old = unit_vector(old);
    let none = vec![0.0; held.target.len()];
    let image = held.columns.residual(&none, (0..).zip(old));
    let mut products = vec![0.0; model.width];
    held.columns.products(&held.all, &image, &mut products);
    let mut table = params.table_mut::<f64>(PRODUCTS);
    for (column, product) in products.iter().enumerate() {
        let row = table.row_mut(column);
        row[(round + 1) % VECTORS] -= product / model.rows as f64;
        if unit.lane == 0 {
            row[(round + 2) % VECTORS] = 0.0;
        }
    }
}

/// L: with u = A v and v of length 1, θ = vᵀu lies within ‖u − θ v‖ of an eigenvalue; of the greatest once v is nearer to
/// its vector than to others.
fn greatest(params: &Params) -> f64 {
    let last = FIRST + POWER;
    let (before, image) = (unit_vector(vector(params, last - 1)), vector(params, last));
    let value = inner(&before, &image);
    let off = before.iter().zip(&image).map(|(v, u)| (u - value * v).powi(2)).sum::<f64>().sqrt();
    value + off
}

/// The first clock of `begin` after the sums over all rows: what a run starts from.
pub(super) fn start(model: &Lasso, unit: &Unit, params: &mut Params) {
    if unit.epoch == FIRST && unit.lane == 0 {
        let (lambda, centre) = (model.lambda(params), model.target_centre(params));
        params.table_mut::<f64>(INTERCEPT).row_mut(0)[0] = centre;
        params.table_mut::<f64>(STATE).row_mut(0)[LAMBDA] = lambda;
    }
}

/// One clock of one lane: its gradient into the table, then the proximal step of the columns it owns.
pub(super) fn take(model: &Lasso, unit: &Unit, params: &mut Params, local: &mut Local) -> Result<()> {
    let Local { held: Some(held), published, .. } = local else { return Ok(()) };
    if published.products.is_empty() {
        published.products = vec![0.0; model.width];
        let delay = if unit.lanes == 1 { 0 } else { model.delay };
        published.steepness = greatest(params) * (1.0 + delay as f64);
    }
    publish(model, unit, params, held, published);
    descend(model, unit, params, published.steepness);
    Ok(())
}

fn publish(model: &Lasso, unit: &Unit, params: &mut Params, held: &Held, published: &mut Published) {
    let (scales, coefficients) = (model.scales(params), params.table::<f64>(COEFFICIENTS));
    let weight = |column: u32| {
        let (stored, factor) = (coefficients.row(column as usize)[0], scales[column as usize].factor);
        (column, if factor > 0.0 { stored / factor } else { 0.0 })
    };
    let residual = held.columns.residual(&held.target, held.all.iter().map(|column| weight(*column)));
    let mut products = vec![0.0; model.width];
    held.columns.products(&held.all, &residual, &mut products);
    let squares = [inner(&residual.exact, &residual.exact), inner(&held.target, &residual.exact)];
    let mut table = params.table_mut::<f64>(CORRELATIONS);
    for (column, (new, old)) in products.iter().zip(&published.products).enumerate() {
        table.row_mut(column)[0] += new - old;
    }
    let mut state = params.table_mut::<f64>(STATE);
    let row = state.row_mut(0);
    (0..2).for_each(|at| row[RESIDUAL + at] += squares[at] - published.squares[at]);
    if unit.lane == 0 {
        row[JUDGED] = 1.0;
    }
    (published.products, published.squares) = (products, squares);
}

fn descend(model: &Lasso, unit: &Unit, params: &mut Params, steepness: f64) {
    if steepness <= 0.0 {
        return; // no column has any length
    }
    let penalty = Penalty::new(params.table::<f64>(STATE).row(0)[LAMBDA], model.config.l1_ratio);
    let (scales, rows, mut shift) = (model.scales(params), model.rows as f64, 0.0);
    for column in share(model.width, unit.lanes, unit.lane) {
        let slope = params.table::<f64>(CORRELATIONS).row(column)[0] / rows;
        let scale = scales[column];
        if scale.factor == 0.0 {
            continue;
        }
        let stored = params.table::<f64>(COEFFICIENTS).row(column)[0];
        let free = stored / scale.factor + slope / steepness;
        let new = soft(free, penalty.l1 / steepness) / (1.0 + penalty.l2 / steepness) * scale.factor;
        if new != stored {
            params.table_mut::<f64>(COEFFICIENTS).row_mut(column)[0] = new;
            shift += scale.centre * (new - stored);
        }
    }
    params.table_mut::<f64>(INTERCEPT).row_mut(0)[0] -= shift;
}

#[cfg(test)]
mod tests;
