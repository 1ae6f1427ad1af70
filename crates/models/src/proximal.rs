//! Proximal gradient on shared tables, for a sum of losses of rows and a penalty of each weight by itself: what
//! `solver=proximal` of [`lasso`](crate::lasso) and [`logistic`](crate::logistic) is under `bsp`, `ssp:S`, `essp:S`, `asp`.
//!
//! ```text
//! F(w) = f Σ_i loss_i(x_i·w) + Σ_j (l1 |w_j| + l2/2 w_j²)
//! w_j ← prox(w_j + g_j / L'),   g = −f Σ_i loss_i'(x_i·w) x_i,   prox(v) = soft(v, l1 / L') / (1 + l2 / L'),   L' = L (1 + τ)
//! ```
//! The rows are cut. Each clock a lane works out its rows' part of g at the weights it sees and puts the *difference* from
//! what it said last into a shared table, which so holds the sum of the lanes' latest gradients (the proximal
//! incremental aggregated gradient: Vanli, Gurbuzbalaban and Ozdaglar 2016; Aytekin, Feyzmahdavian and Johansson 2016).
//!
//! **Where the prox is applied.** It is not linear, so the sum of the lanes' proximal steps is no proximal step of the sum,
//! and a lane that took one on its rows alone would come to another point. A table knows sums only. So each lane owns a
//! part of the weights: it alone applies the prox to them, at the gradient of all lanes, and writes what changes.
//! Weights have one writer, gradients are sums, and the only point at rest is the optimum, however old the reads.
//!
//! **The step.** A read may lack the last S clocks and a gradient in it was worked out from such a read: the oldest weights
//! behind a step are τ = 2 S + 1 clocks old (0 with one lane). Aggregated gradients converge for steps below
//! 2 / (L (2τ + 1)) (Feyzmahdavian and Johansson 2023); 1 / (L (τ + 1)) is below that. L is f times the greatest loss'' times the
//! greatest eigenvalue of XᵀX, which is found by the power method in clocks of `begin`, which wait for all lanes under
//! every strategy; what its last vector is off by is added, so that a rough L is too great rather than too small. `asp`
//! knows no S: [`ASSUMED`] is taken.
//!
//! **The gap.** A lower bound may be taken at any duals: at those of the gradients the lanes saw last, whose sum is in
//! the table. So the gap costs nothing, and closes as the lanes agree.

use crate::lasso::problem::Penalty;
use dunlin::rng::stream;
use dunlin::serial::share;
use dunlin::{Params, Unit};
use serde::{Deserialize, Serialize};

/// Clocks that a read is taken to be old where there is no bound.
pub const ASSUMED: u64 = 8;
/// Clocks of the power method.
pub(crate) const POWER: usize = 16;
/// Vectors that the table of products holds meanwhile: one is read, the one before it kept, one written, one cleared. So
/// none is read and written in one clock, and lanes that see each other's writes at once learn nothing else.
pub(crate) const VECTORS: usize = 4;
/// Numbers that a lane adds up for the lower bound.
pub(crate) const NUMBERS: usize = 2;

/// Clocks that the weights behind a step may be old, if reads lack at most `staleness` clocks.
pub(crate) fn delay(staleness: Option<u64>) -> u64 {
    2 * staleness.unwrap_or(ASSUMED).min(1 << 20) + 1
}

/// Numbers of the tables that it needs, all in double precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    /// (weights, 1): Σ over rows of −loss' x.
    pub(crate) gradient: usize,
    /// (weights, [`VECTORS`]).
    pub(crate) products: usize,
    /// (1, at least `first` + [`NUMBERS`]), and the first of the numbers of all lanes in it.
    pub(crate) numbers: (usize, usize),
}

/// What is minimised, apart from the rows.
pub(crate) trait Problem {
    /// Number of weights.
    fn weights(&self) -> usize;

    /// What the sum of the rows' losses is multiplied by.
    fn share(&self) -> f64;

    /// What each weight costs by itself.
    fn penalty(&self, params: &Params) -> Penalty;

    /// Clocks that the weights behind a step may be old where there are several lanes.
    fn delay(&self) -> u64;

    /// Where it keeps what.
    fn tables(&self) -> Tables;

    /// Weight number `at`.
    fn weight(&self, params: &Params, at: usize) -> f64;

    /// Sets weight number `at`, unless that is what it is.
    fn set(&self, params: &mut Params, at: usize, weight: f64);
}

/// The rows of a lane, and their losses.
pub(crate) trait Rows {
    /// The greatest second derivative of a row's loss.
    const BEND: f64;

    /// x·w of every row.
    fn scores(&mut self, weights: &[f64]) -> Vec<f64>;

    /// Turns scores into −loss' and gives what the lower bound needs of them.
    fn pulls(&self, scores: &mut [f64]) -> [f64; NUMBERS];

    /// Σ v x over the rows; `out` has zeros.
    fn products(&mut self, vector: Vec<f64>, out: &mut [f64]);
}

/// What a lane's block has put into the shared tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// The gradient of its rows; empty before the first clock.
    gradient: Vec<f64>,
    numbers: [f64; NUMBERS],
    /// One over the step.
    steepness: f64,
    /// The weights it owns, to double precision: a step that is too small for a table in single precision is not lost.
    own: Vec<f64>,
}

impl Published {
    /// One clock of one lane: its gradient into the table, then the proximal step of the weights it owns.
    pub(crate) fn take<R: Rows>(
        &mut self,
        problem: &impl Problem,
        unit: &Unit,
        params: &mut Params,
        rows: &mut R,
        first: usize,
    ) {
        if self.gradient.is_empty() {
            self.gradient = vec![0.0; problem.weights()];
            let delay = if unit.lanes == 1 { 0 } else { problem.delay() };
            let greatest = greatest(params, problem.tables().products, first);
            self.steepness = problem.share() * R::BEND * greatest * (1.0 + delay as f64);
        }
        self.publish(problem, params, rows);
        self.descend(problem, unit, params);
    }

    fn publish(&mut self, problem: &impl Problem, params: &mut Params, rows: &mut impl Rows) {
        let weights: Vec<f64> = (0..problem.weights()).map(|at| problem.weight(params, at)).collect();
        let mut pulls = rows.scores(&weights);
        let numbers = rows.pulls(&mut pulls);
        let mut gradient = vec![0.0; weights.len()];
        rows.products(pulls, &mut gradient);
        let tables = problem.tables();
        let mut table = params.table_mut::<f64>(tables.gradient);
        for (at, (new, old)) in gradient.iter().zip(&self.gradient).enumerate() {
            table.row_mut(at)[0] += new - old;
        }
        let (table, place) = tables.numbers;
        let mut table = params.table_mut::<f64>(table);
        let sums = &mut table.row_mut(0)[place..place + NUMBERS];
        sums.iter_mut()
            .zip(numbers.iter().zip(&self.numbers))
            .for_each(|(sum, (new, old))| *sum += new - old);
        (self.gradient, self.numbers) = (gradient, numbers);
    }

    fn descend(&mut self, problem: &impl Problem, unit: &Unit, params: &mut Params) {
        let (steepness, table) = (self.steepness, problem.tables().gradient);
        if steepness <= 0.0 {
            return; // no column has any length
        }
        let (penalty, owned) = (problem.penalty(params), share(problem.weights(), unit.lanes, unit.lane));
        if self.own.is_empty() {
            self.own = owned.clone().map(|at| problem.weight(params, at)).collect();
        }
        for (at, weight) in owned.zip(&mut self.own) {
            let pull = problem.share() * params.table::<f64>(table).row(at)[0];
            *weight = penalty.best(steepness * *weight + pull, steepness);
            problem.set(params, at, *weight);
        }
    }
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
fn vector(params: &Params, table: usize, number: usize) -> Vec<f64> {
    let table = params.table::<f64>(table);
    (0..table.rows()).map(|at| table.row(at)[number % VECTORS]).collect()
}

/// A clock of the power method by one lane: the next vector is the sum over lanes of Xᵀ X v. Clock `first` of `begin` writes
/// the first one; there are [`POWER`] of them.
pub(crate) fn power(
    problem: &impl Problem,
    unit: &Unit,
    params: &mut Params,
    rows: &mut impl Rows,
    first: usize,
) {
    let (round, number) = (unit.epoch, problem.tables().products);
    let old = if round == first {
        let mut rng = stream(unit.seed, "proximal power", &[]);
        (0..problem.weights()).map(|_| rng.normal()).collect()
    } else {
        vector(params, number, round)
    };
    let image = rows.scores(&unit_vector(old));
    let mut products = vec![0.0; problem.weights()];
    rows.products(image, &mut products);
    let mut table = params.table_mut::<f64>(number);
    for (at, product) in products.iter().enumerate() {
        let row = table.row_mut(at);
        row[(round + 1) % VECTORS] += product;
        if unit.lane == 0 {
            row[(round + 2) % VECTORS] = 0.0;
        }
    }
}

/// The greatest eigenvalue of XᵀX: with u = A v and v of length 1, θ = vᵀu lies within ‖u − θ v‖ of an eigenvalue; of the
/// greatest once v is nearer to its vector than to others.
pub(crate) fn greatest(params: &Params, table: usize, first: usize) -> f64 {
    let last = first + POWER;
    let (before, image) = (unit_vector(vector(params, table, last - 1)), vector(params, table, last));
    let value = inner(&before, &image);
    let off = before.iter().zip(&image).map(|(v, u)| (u - value * v).powi(2)).sum::<f64>().sqrt();
    value + off
}
