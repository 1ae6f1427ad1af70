//! One lane: everything at hand. Rounds of: correlations of all columns, duality gap, more columns into the working
//! set, the small problem on it; λ after λ.

use super::input::Held;
use super::problem::{Penalty, Point, lambdas};
use super::small::Small;
use super::{Config, Solved};
use dunlin::data::Block;
use dunlin::isa::Isa;
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};

/// Multiplications and additions in a unit of work, about.
const UNIT: f64 = 1.5e9;
/// New columns that a round may add: so many, or this share of the number of coefficients. Among too many at once most
/// take a coefficient that they lose again, at the price of their Gram matrix and of sweeps.
const LEAST_NEW: usize = 20;
const SHARE_NEW: f64 = 0.7;
/// The small problem is solved at most this much finer than the tolerance asks.
const FINEST: f64 = 1e-7;
/// While columns are missing, the small problem is solved to this share of its worst violation.
const COARSE: f64 = 0.02;
/// Rounds of sweeps and a Newton step on a small problem, while columns are missing and when none is.
const ROUNDS: [usize; 2] = [2, 100];
/// Steps from the λ that zeroes everything to the first λ.
const WARM: usize = 9;
/// Columns whose Gram matrix fits in a GiB.
const MOST_COLUMNS: usize = 16_384;

/// Where the path is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) small: Small,
    /// All λs, greatest first; empty before the first round.
    pub(super) lambdas: Vec<f64>,
    /// λs that are solved.
    pub(super) solved: usize,
    /// λs on the way to the first one, one round each: from near its optimum a small λ takes few Newton steps.
    warm: Vec<f64>,
    /// How fine the small problem must be solved, in units of l1.
    fineness: f64,
}

/// What a round at the current coefficients found.
pub(super) struct Round {
    pub(super) correlations: Vec<f64>,
    pub(super) point: Point,
}

impl Progress {
    pub(super) fn is_done(&self) -> bool {
        !self.lambdas.is_empty() && self.solved == self.lambdas.len()
    }

    /// λs from the correlations at zero coefficients, and the first fineness.
    pub(super) fn start(&mut self, config: &Config, correlations: &[f64]) {
        let most = correlations.iter().fold(0.0f64, |most, c| most.max(c.abs())) / config.l1_ratio;
        let last = config.lambda.unwrap_or(config.lambda_fraction * most);
        self.lambdas = lambdas(most, last, config.path);
        self.warm = lambdas(most, self.lambdas[0], WARM);
        self.warm.retain(|lambda| *lambda < most && *lambda > self.lambdas[0]);
        self.fineness = 0.5 * config.tolerance;
    }

    /// Goes on to the next λ.
    fn next(&mut self, config: &Config) {
        self.solved += 1;
        self.fineness = 0.5 * config.tolerance;
    }

    /// Judges the current coefficients; λs that they solve are handed to `solved`. Gives the penalty that is still to
    /// be solved, and the columns that the working set lacks.
    pub(super) fn judge(
        &mut self,
        config: &Config,
        round: &mut Round,
        mut solved: impl FnMut(usize, Solved),
    ) -> Option<(Penalty, Vec<u32>)> {
        let mut last = None;
        while self.solved < self.lambdas.len() {
            let lambda = self.lambdas[self.solved];
            let penalty = Penalty::new(lambda, config.l1_ratio);
            self.complete(penalty, round);
            let gap = round.point.relative_gap(penalty);
            let stuck = self.fineness < FINEST * config.tolerance;
            let found = Solved { lambda, nonzeros: self.small.nonzeros(), point: round.point, gap };
            solved(self.solved, found);
            if gap > config.tolerance && !self.warm.is_empty() {
                let on_the_way = Penalty::new(self.warm.remove(0), config.l1_ratio);
                let missing = self.missing(on_the_way, None, &round.correlations);
                return Some((on_the_way, missing));
            }
            if gap > config.tolerance && !stuck {
                return Some((penalty, self.missing(penalty, last, &round.correlations)));
            }
            last = Some(penalty);
            self.next(config);
        }
        None
    }

    /// Fills in what depends on the penalty.
    fn complete(&self, penalty: Penalty, round: &mut Round) {
        let (square, cost) = self.small.norms(penalty);
        (round.point.weights_square, round.point.penalty) = (square, cost);
        let all = round.correlations.iter().fold(0.0f64, |most, c| most.max(c.abs()));
        round.point.greatest = if penalty.l2 == 0.0 {
            all
        } else {
            let mut shifted = round.correlations.clone();
            self.small.iter().for_each(|(column, weight)| shifted[column as usize] -= penalty.l2 * weight);
            shifted.iter().fold(0.0f64, |most, c| most.max(c.abs()))
        };
    }

    /// Columns whose correlation is too great for a coefficient of zero, the greatest first; of a new λ also those that
    /// the strong rule expects (Tibshirani et al. 2012: |c| ≥ 2 λ − the λ before).
    fn missing(&self, penalty: Penalty, last: Option<Penalty>, correlations: &[f64]) -> Vec<u32> {
        let least = last.map_or(penalty.l1, |last| (2.0 * penalty.l1 - last.l1).max(0.5 * penalty.l1));
        let mut known = vec![false; correlations.len()];
        self.small.columns.iter().for_each(|column| known[*column as usize] = true);
        let size = |column: u32| correlations[column as usize].abs();
        let mut missing: Vec<u32> = (0..correlations.len() as u32)
            .filter(|column| size(*column) > least && !known[*column as usize])
            .collect();
        let room = LEAST_NEW.max((SHARE_NEW * self.small.nonzeros() as f64) as usize);
        let order = |a: &u32, b: &u32| size(*b).total_cmp(&size(*a)).then(a.cmp(b));
        if missing.len() > room {
            missing.select_nth_unstable_by(room, order);
            missing.truncate(room);
        }
        missing.sort_unstable_by(order);
        missing
    }

    /// Makes room for new columns in a working set of at most `most`; drops those without a coefficient if it must, and
    /// some of the new ones if that is not enough.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are `most` coefficients.
    pub(super) fn make_room(&mut self, missing: &mut Vec<u32>, most: usize) -> Result<()> {
        if self.small.len() + missing.len() > most {
            self.small.shrink();
            missing.retain(|column| !self.small.columns.contains(column));
            let room = most - self.small.len().min(most);
            if room == 0 && !missing.is_empty() {
                let lambda = self.lambdas.get(self.solved).copied().unwrap_or_default();
                return Err(Error::Usage(format!(
                    "lasso: more than {most} coefficients at lambda = {lambda:e}; give a greater lambda or lambda_fraction"
                )));
            }
            missing.truncate(room);
        }
        Ok(())
    }

    /// Solves the small problem from the correlations given; finely only if no column is `missing`. Gives the work that
    /// it took.
    pub(super) fn improve(&mut self, isa: Isa, penalty: Penalty, correlations: &[f64], missing: bool) -> f64 {
        let mut own: Vec<f64> =
            self.small.columns.iter().map(|column| correlations[*column as usize]).collect();
        let far = own.iter().zip(&self.small.weights).map(|(c, w)| violation(*c, *w, penalty));
        let worst = far.fold(0.0, f64::max);
        let mut tolerance = self.fineness * penalty.l1;
        let rough = missing || !self.warm.is_empty();
        if rough {
            tolerance = tolerance.max(COARSE * worst);
        } else {
            self.fineness *= 0.1;
        }
        let rounds = ROUNDS[usize::from(!rough)];
        self.small.solve(isa, penalty, &mut own, (tolerance, rounds))
    }
}

/// How far the correlation of a column is from where its coefficient would be best.
fn violation(correlation: f64, weight: f64, penalty: Penalty) -> f64 {
    if weight == 0.0 {
        return (correlation.abs() - penalty.l1).max(0.0);
    }
    (correlation - penalty.l1 * weight.signum() - penalty.l2 * weight).abs()
}

/// Rounds until all λs are solved, or a unit of work is done. Hands on what was found of each λ.
///
/// # Errors
/// [`Error::Usage`] if there are too many coefficients.
pub(super) fn advance(
    config: &Config,
    isa: Isa,
    block: &Block,
    held: &Held,
    progress: &mut Progress,
    mut solved: impl FnMut(usize, Solved),
) -> Result<()> {
    let (rows, width) = (held.target.len(), held.all.len());
    let (scale, mut work) = (1.0 / rows as f64, 0.0);
    loop {
        let (mut correlations, point) = held.correlations(block, &progress.small);
        correlations.iter_mut().for_each(|c| *c *= scale);
        if progress.lambdas.is_empty() {
            progress.start(config, &correlations);
        }
        let mut round = Round { correlations, point };
        let Some((penalty, mut missing)) = progress.judge(config, &mut round, &mut solved) else { break };
        if work > UNIT {
            break;
        }
        progress.make_room(&mut missing, MOST_COLUMNS)?;
        let first = progress.small.len();
        progress.small.extend(&missing);
        let columns = progress.small.columns.clone();
        held.columns.pairs(&columns, first, |i, j, product| progress.small.set(i, j, product * scale));
        work += (rows * width) as f64;
        work += (rows * missing.len()) as f64 * (first as f64 + 0.5 * missing.len() as f64);
        work += progress.improve(isa, penalty, &round.correlations, !missing.is_empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lasso::columns::Columns;
    use crate::lasso::problem::{Scale, relative_gap};
    use dunlin::data::{Contents, DenseRows};
    use dunlin::isa;
    use dunlin::rng::stream;

    /// Standardised columns whose neighbours are alike, some given twice and one constant, and targets.
    fn held(seed: u64, rows: usize, width: usize) -> (Block, Held, Vec<Vec<f64>>) {
        let mut rng = stream(seed, "lasso single", &[rows as u64, width as u64]);
        let mut table = vec![vec![0.0f32; width]; rows];
        for row in &mut table {
            for at in 1..width {
                let before = if at == 1 { 0.0 } else { row[at - 1] };
                row[at] = 0.7 * before + rng.normal() as f32;
            }
            (row[0], row[width / 2], row[width - 1]) = (3.0, row[3], -row[4]);
        }
        let signal = |row: &Vec<f32>| (0..20).map(|at| f64::from(row[7 * at + 1])).sum::<f64>();
        let target: Vec<f64> = table.iter().map(|row| signal(row) + 2.0 * rng.normal()).collect();
        let scales: Vec<Scale> = (0..width)
            .map(|at| {
                let values: Vec<f64> = table.iter().map(|row| f64::from(row[at])).collect();
                let (sum, count) = (values.iter().sum::<f64>(), rows as f64);
                let squares = values.iter().map(|value| (value - sum / count).powi(2)).sum();
                Scale::new(rows, sum, squares, true, true)
            })
            .collect();
        let scaled =
            |(row, at): (&Vec<f32>, usize)| (f64::from(row[at]) - scales[at].centre) * scales[at].factor;
        let exact = (0..width).map(|at| table.iter().map(|row| scaled((row, at))).collect()).collect();
        let mean = target.iter().sum::<f64>() / rows as f64;
        let contents = Contents::Dense(DenseRows {
            width,
            values: table.concat(),
            classes: vec![0; rows],
            targets: target.iter().map(|target| *target as f32).collect(),
        });
        let block = Block { id: 0, first_row: 0, end_row: rows, contents };
        let columns = Columns::new(&block, &scales, isa::level()).expect("rows of features");
        let target = target.iter().map(|target| target - mean).collect();
        let held = Held { columns, target, all: (0..width as u32).collect(), scales };
        (block, held, exact)
    }

    /// (P − D) / P in double precision from the columns themselves, and the greatest violation in units of l1.
    fn judged(held: &Held, columns: &[Vec<f64>], small: &Small, penalty: Penalty) -> (f64, f64) {
        let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (rows, mut residual) = (held.target.len() as f64, held.target.clone());
        let mut weights = vec![0.0; columns.len()];
        for (column, weight) in small.iter() {
            weights[column as usize] = weight;
            residual.iter_mut().zip(&columns[column as usize]).for_each(|(r, x)| *r -= weight * x);
        }
        let correlations: Vec<f64> = columns.iter().map(|column| inner(column, &residual) / rows).collect();
        let pulls = correlations.iter().zip(&weights).map(|(c, w)| (c - penalty.l2 * w).abs());
        let scale = penalty.l1 / pulls.fold(penalty.l1, f64::max);
        let square = inner(&residual, &residual);
        let primal = square / (2.0 * rows) + weights.iter().map(|w| penalty.of(*w)).sum::<f64>();
        let long = square + rows * penalty.l2 * inner(&weights, &weights);
        let dual = (2.0 * scale * inner(&held.target, &residual) - scale * scale * long) / (2.0 * rows);
        let far = correlations.iter().zip(&weights).map(|(c, w)| violation(*c, *w, penalty));
        (relative_gap(primal, dual), far.fold(0.0, f64::max) / penalty.l1)
    }

    /// Many more columns than rows, some given twice.
    #[test]
    fn the_gap_told_is_that_of_double_precision() {
        for (rows, width, fraction, l1_ratio, path) in [
            (40, 600, 0.1, 1.0, 1),
            (150, 400, 0.03, 1.0, 1),
            (40, 600, 0.03, 0.8, 1),
            (70, 300, 0.05, 1.0, 9),
            (150, 400, 0.01, 1.0, 1),
        ] {
            for seed in 0..4 {
                let (block, held, columns) = held(seed, rows, width);
                let config = Config {
                    lambda_fraction: fraction,
                    l1_ratio,
                    path,
                    standardise: true,
                    ..Config::default()
                };
                let (mut progress, mut last, mut units) = (Progress::default(), None, 0);
                while !progress.is_done() {
                    let keep = |_: usize, solved: Solved| last = Some(solved);
                    advance(&config, isa::level(), &block, &held, &mut progress, keep).expect("solved");
                    units += 1;
                    assert!(units < 50);
                }
                let last = last.expect("a solution");
                let penalty = Penalty::new(last.lambda, l1_ratio);
                let (gap, violation) = judged(&held, &columns, &progress.small, penalty);
                let what = format!("{rows} x {width}, {fraction}, {l1_ratio}, {path}, seed {seed}");
                assert!(last.gap <= 1e-6, "{what}: gap {:e}", last.gap);
                assert!((gap - last.gap).abs() <= 1e-10, "{what}: told {:e}, is {gap:e}", last.gap);
                assert!(violation < 0.02, "{what}: violation {violation:e}");
            }
        }
    }
}
