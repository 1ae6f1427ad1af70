//! One lane: everything at hand. Rounds of: correlations of all columns, duality gap, more columns into the working
//! set, the small problem on it; λ after λ.

use super::input::Held;
use super::problem::{Penalty, Point, lambdas};
use super::small::Small;
use super::{Config, Screening, Solved};
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
/// A fine solution that leaves more than this share of the gap calls for double precision.
const LEAST_GAIN: f64 = 0.3;
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
    /// The gap before the small problem was last solved finely; none if it was not since.
    before: Option<f64>,
    /// The gap at the current coefficients.
    gap: f64,
    /// Columns that may have a coefficient in the optimum of this λ; none for all.
    pub(super) kept: Option<Vec<u32>>,
    /// True if the λ before has just been solved.
    is_new: bool,
}

/// What a round at the current coefficients found.
pub(super) struct Round {
    /// c of the columns from `first` on that are at hand.
    pub(super) correlations: Vec<f64>,
    pub(super) first: usize,
    /// c of the working set.
    pub(super) set: Vec<f64>,
    /// max |c| over all columns; those of the working set may be left out.
    pub(super) most: f64,
    pub(super) point: Point,
}

impl Round {
    /// Of all columns at once.
    pub(super) fn new(correlations: Vec<f64>, small: &Small, l2: bool, point: Point) -> Round {
        let set: Vec<f64> = small.columns.iter().map(|column| correlations[*column as usize]).collect();
        let mut round = Round { correlations, first: 0, set, most: 0.0, point };
        round.most =
            if l2 { greatest_beyond(&round.correlations, 0, small) } else { greatest(&round.correlations) };
        round
    }
}

/// max |c| of the columns from `first` on, of which these are the `correlations`, that are not in the working set.
pub(super) fn greatest_beyond(correlations: &[f64], first: usize, small: &Small) -> f64 {
    let mut is_beyond = vec![true; correlations.len()];
    for column in &small.columns {
        let own = (*column as usize).checked_sub(first).and_then(|at| is_beyond.get_mut(at));
        own.into_iter().for_each(|is_beyond| *is_beyond = false);
    }
    let beyond = correlations.iter().zip(is_beyond).filter(|(_, is_beyond)| *is_beyond);
    beyond.fold(0.0f64, |most, (c, _)| most.max(c.abs()))
}

/// max |c|.
pub(super) fn greatest(correlations: &[f64]) -> f64 {
    correlations.iter().fold(0.0f64, |most, c| most.max(c.abs()))
}

impl Progress {
    pub(super) fn is_done(&self) -> bool {
        !self.lambdas.is_empty() && self.solved == self.lambdas.len()
    }

    /// λs from the greatest correlation at zero coefficients, and the first fineness.
    pub(super) fn start(&mut self, config: &Config, greatest: f64) {
        let most = greatest / config.l1_ratio;
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
        self.before = None;
        self.is_new = true;
    }

    /// Judges the current coefficients; λs that they solve are handed to `solved`. Gives the penalty that is still to
    /// be solved, and the columns that the working set lacks; none if all is done, or if the round lacks columns that
    /// the next λ may want. With the `lengths` of all columns it may screen some out.
    pub(super) fn judge(
        &mut self,
        config: &Config,
        round: &mut Round,
        lengths: &[f64],
        mut solved: impl FnMut(usize, Solved),
    ) -> Option<(Penalty, Vec<u32>)> {
        while self.solved < self.lambdas.len() {
            let lambda = self.lambdas[self.solved];
            let penalty = Penalty::new(lambda, config.l1_ratio);
            self.complete(penalty, round);
            let gap = round.point.relative_gap(penalty);
            self.doubt(config, gap);
            let stuck = self.fineness < FINEST * config.tolerance;
            let found = Solved { lambda, nonzeros: self.small.nonzeros(), point: round.point, gap };
            solved(self.solved, found);
            if gap > config.tolerance && !stuck {
                self.screen(penalty, round, lengths);
                if !self.warm.is_empty() {
                    let on_the_way = Penalty::new(self.warm.remove(0), config.l1_ratio);
                    return Some((on_the_way, self.missing(on_the_way, None, round)));
                }
                let before = (self.is_new && self.solved > 0).then(|| self.lambdas[self.solved - 1]);
                let before = before.map(|lambda| Penalty::new(lambda, config.l1_ratio));
                self.is_new = false;
                return Some((penalty, self.missing(penalty, before, round)));
            }
            self.next(config);
            if self.solved < self.lambdas.len() && self.kept.take().is_some() {
                return None;
            }
        }
        None
    }

    /// Leaves columns out that have no coefficient in the optimum, counted from the first at hand: the dual optimum u* lies within √(2 n gap) of the point u
    /// that the gap was taken at, so |x̃ᵀ u*| / n < l1 wherever |x̃ᵀ u| / n + √(2 gap) ‖x̃‖ / √n is (the gap-safe sphere: Ndiaye,
    /// Fercoq, Gramfort and Salmon 2017; of the elastic net with the columns of the Lasso that it is).
    fn screen(&mut self, penalty: Penalty, round: &Round, lengths: &[f64]) {
        let point = &round.point;
        let radius = (2.0 * (point.primal() - point.dual(penalty)).max(0.0)).sqrt();
        if lengths.is_empty() || radius >= penalty.l1 {
            return;
        }
        // Correlations that are far from the greatest are rounded.
        let (scale, most) = (penalty.l1 / penalty.l1.max(point.greatest), penalty.l1 * (1.0 - 1e-4));
        let reaches = |column: usize, length: f64| {
            scale * round.correlations[column].abs() + radius * (length * length + penalty.l2).sqrt() >= most
        };
        let mut may: Vec<bool> =
            lengths.iter().enumerate().map(|(column, length)| reaches(column, *length)).collect();
        for (column, _) in self.small.iter().filter(|(_, weight)| *weight != 0.0) {
            let own = (column as usize).checked_sub(round.first).and_then(|at| may.get_mut(at));
            own.into_iter().for_each(|may| *may = true);
        }
        let all = 0..lengths.len() as u32;
        self.kept = Some(match self.kept.take() {
            Some(kept) => kept.into_iter().filter(|column| may[*column as usize]).collect(),
            None => all.filter(|column| may[*column as usize]).collect(),
        });
    }

    /// A gap that a fine solution of the small problem hardly made smaller: its matrix is not fine enough.
    fn doubt(&mut self, config: &Config, gap: f64) {
        let is_slow = self.before.is_some_and(|before| gap > LEAST_GAIN * before);
        if is_slow && gap > config.tolerance && !self.small.is_exact() {
            self.small.make_exact();
            self.fineness = 0.5 * config.tolerance;
        }
        self.gap = gap;
        self.before = None;
    }

    /// Fills in what depends on the penalty.
    fn complete(&self, penalty: Penalty, round: &mut Round) {
        let (square, cost) = self.small.norms(penalty);
        (round.point.weights_square, round.point.penalty) = (square, cost);
        let shifted = |(c, weight): (&f64, &f64)| (c - penalty.l2 * weight).abs();
        let set = round.set.iter().zip(&self.small.weights).map(shifted);
        round.point.greatest = set.fold(round.most, f64::max);
    }

    /// Columns whose correlation is too great for a coefficient of zero, the greatest first; of a new λ also those that
    /// the strong rule expects (Tibshirani et al. 2012: |c| ≥ 2 λ − the λ before).
    fn missing(&self, penalty: Penalty, last: Option<Penalty>, round: &Round) -> Vec<u32> {
        let least = last.map_or(penalty.l1, |last| (2.0 * penalty.l1 - last.l1).max(0.5 * penalty.l1));
        let (correlations, first) = (&round.correlations, round.first as u32);
        let mut known = vec![false; correlations.len()];
        for column in &self.small.columns {
            let own = column.checked_sub(first).and_then(|at| known.get_mut(at as usize));
            own.into_iter().for_each(|known| *known = true);
        }
        let size = |column: u32| correlations[(column - first) as usize].abs();
        let mut missing: Vec<u32> = (first..first + correlations.len() as u32)
            .filter(|column| size(*column) > least && !known[(*column - first) as usize])
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

    /// Drops columns without a coefficient; there must be `most` at most.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are more coefficients.
    pub(super) fn shrink_to(&mut self, most: usize) -> Result<()> {
        self.small.shrink();
        if self.small.len() <= most { Ok(()) } else { Err(self.too_many(most)) }
    }

    fn too_many(&self, most: usize) -> Error {
        let lambda = self.lambdas.get(self.solved).copied().unwrap_or_default();
        Error::Usage(format!(
            "lasso: more than {most} coefficients at lambda = {lambda:e}; give a greater lambda or lambda_fraction"
        ))
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
                return Err(self.too_many(most));
            }
            missing.truncate(room);
        }
        Ok(())
    }

    /// Solves the small problem from the correlations of the working set; finely only if no column is `missing`. Gives the
    /// work that it took.
    pub(super) fn improve(&mut self, isa: Isa, penalty: Penalty, mut own: Vec<f64>, missing: bool) -> f64 {
        let far = own.iter().zip(&self.small.weights).map(|(c, w)| violation(*c, *w, penalty));
        let worst = far.fold(0.0, f64::max);
        let mut tolerance = self.fineness * penalty.l1;
        let rough = missing || !self.warm.is_empty();
        if rough {
            tolerance = tolerance.max(COARSE * worst);
        } else {
            self.fineness *= 0.1;
            self.before = Some(self.gap);
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
    let lengths = if config.screening == Screening::GapSafe { &held.lengths[..] } else { &[] };
    loop {
        let which = progress.kept.as_ref().unwrap_or(&held.all);
        let (mut correlations, point) = held.correlations(block, &progress.small, which);
        correlations.iter_mut().for_each(|c| *c *= scale);
        if progress.lambdas.is_empty() {
            progress.start(config, greatest(&correlations));
        }
        let mut round = Round::new(correlations, &progress.small, config.l1_ratio < 1.0, point);
        let Some((penalty, mut missing)) = progress.judge(config, &mut round, lengths, &mut solved) else {
            if progress.is_done() {
                break;
            }
            continue;
        };
        if work > UNIT {
            break;
        }
        progress.make_room(&mut missing, MOST_COLUMNS)?;
        let (first, exact) = (progress.small.known, progress.small.is_exact());
        progress.small.extend(&missing);
        let columns = progress.small.columns.clone();
        held.columns.pairs(&columns, first, exact, |i, j, product| progress.small.set(i, j, product * scale));
        progress.small.known = columns.len();
        work += (rows * width) as f64;
        let new = (columns.len() - first) as f64;
        work += rows as f64 * new * (first as f64 + 0.5 * new);
        let own = columns.iter().map(|column| round.correlations[*column as usize]).collect();
        work += progress.improve(isa, penalty, own, !missing.is_empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
