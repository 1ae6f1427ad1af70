//! One lane: everything at hand. Rounds of: correlations of all columns, duality gap, more columns into the working
//! set, the small problem on it; λ after λ.

use super::input::Held;
use super::problem::{Penalty, Point, lambdas};
use super::small::Small;
use super::{Config, Solved};
use dunlin::isa::Isa;
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};

/// Multiplications and additions in a unit of work, about.
const UNIT: f64 = 1.5e9;
/// New columns that a round may add, whatever the number of coefficients.
const LEAST_NEW: usize = 200;
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
        let room = LEAST_NEW.max(self.small.nonzeros());
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
    held: &Held,
    progress: &mut Progress,
    mut solved: impl FnMut(usize, Solved),
) -> Result<()> {
    let (rows, width) = (held.target.len(), held.all.len());
    let (scale, mut work) = (1.0 / rows as f64, 0.0);
    loop {
        let (mut correlations, point) = held.correlations(&progress.small);
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
