//! Several lanes: the rows are cut, the working set is everybody's.
//!
//! Two clocks a round. In one, every lane adds x̃ᵀ r of its rows for all columns to a shared table. In the next, all see
//! the sum, judge it alike, and add their rows' part of the Gram matrix of the columns that are missing; then every lane
//! solves the same small problem from the same numbers, to the same bits, and only lane 0 writes what came out. A lane
//! keeps the whole Gram matrix: the table holds the new rows alone.

use super::problem::{Penalty, Point};
use super::single::Round;
use super::turn::{Clock, Form};
use super::{CORRELATIONS, PRODUCTS, RESIDUAL, STATE};
use dunlin::Result;
use serde::{Deserialize, Serialize};

/// New columns in a round.
const MOST_NEW: usize = 64;
/// Columns in the working set.
const MOST_COLUMNS: usize = 2048;

/// New columns in a round, and columns of the working set, of data with `width` columns.
pub(super) fn sizes(width: usize) -> (usize, usize) {
    (width.clamp(1, MOST_NEW), width.clamp(1, MOST_COLUMNS))
}

/// What a lane keeps from clock to clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ByRows {
    /// c of all columns at the current coefficients.
    correlations: Vec<f64>,
    /// The number of columns whose products are on the table.
    new: usize,
}

impl ByRows {
    /// Takes the products of the new columns, and solves the small problem.
    fn improve(&mut self, clock: &mut Clock, lambda: f64) {
        let Clock { model, unit, params, progress, .. } = clock;
        let new = std::mem::take(&mut self.new);
        let first = progress.small.known;
        let table = params.table::<f64>(PRODUCTS);
        for row in 0..new {
            for i in 0..=first + row {
                progress.small.set(i, first + row, table.row(row)[i] / model.rows as f64);
            }
        }
        if unit.lane == 0 {
            let mut table = params.table_mut::<f64>(PRODUCTS);
            (0..new).for_each(|row| table.row_mut(row).fill(0.0));
        }
        progress.small.known += new;
        if progress.small.known < progress.small.len() {
            return; // of a matrix that is summed anew, so many columns a round
        }
        let penalty = Penalty::new(lambda, model.config.l1_ratio);
        let columns = progress.small.columns.iter();
        let own = columns.map(|column| self.correlations[*column as usize]).collect();
        progress.improve(model.isa, penalty, own, new > 0);
    }
}

impl Form for ByRows {
    const SCREENS: bool = false;

    fn solve(&mut self, clock: &mut Clock, asked: Option<f64>) {
        if let Some(lambda) = asked {
            self.improve(clock, lambda);
        }
        let Clock { unit, params, progress, held, .. } = clock;
        let (correlations, point) = held.correlations(unit.block, &progress.small, &held.all);
        let mut table = params.table_mut::<f64>(CORRELATIONS);
        table.flat_mut().iter_mut().zip(&correlations).for_each(|(sum, own)| *sum += own);
        let mut state = params.table_mut::<f64>(STATE);
        state.row_mut(0)[RESIDUAL] += point.square;
        state.row_mut(0)[RESIDUAL + 1] += point.with_target;
    }

    fn round(&mut self, Clock { model, params, progress, .. }: &mut Clock) -> Round {
        let rows = model.rows as f64;
        let sums = params.table::<f64>(CORRELATIONS).flat();
        let correlations: Vec<f64> = sums.iter().map(|sum| sum / rows).collect();
        let state = params.table::<f64>(STATE).row(0);
        let (square, with_target) = (state[RESIDUAL], state[RESIDUAL + 1]);
        let point = Point { rows, square, with_target, ..Point::default() };
        Round::new(correlations, &progress.small, model.config.l1_ratio < 1.0, point)
    }

    fn judged(&mut self, Clock { unit, params, .. }: &mut Clock, round: Round) {
        self.correlations = round.correlations;
        if unit.lane == 0 {
            params.table_mut::<f64>(CORRELATIONS).flat_mut().fill(0.0);
            params.table_mut::<f64>(STATE).row_mut(0)[RESIDUAL..RESIDUAL + 2].fill(0.0);
        }
    }

    fn ask(&mut self, clock: &mut Clock, mut missing: Vec<u32>) -> Result<()> {
        let Clock { model, params, progress, held, .. } = clock;
        let (most_new, most) = sizes(model.width);
        if progress.small.known < progress.small.len() {
            missing.clear();
        }
        missing.truncate(most_new);
        progress.make_room(&mut missing, most)?;
        let first = progress.small.known;
        progress.small.extend(&missing);
        let end = progress.small.len().min(first + most_new);
        let columns = progress.small.columns[..end].to_vec();
        let mut table = params.table_mut::<f64>(PRODUCTS);
        let exact = progress.small.is_exact();
        held.columns.pairs(&columns, first, exact, |i, j, product| table.row_mut(j - first)[i] += product);
        self.new = end - first;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
