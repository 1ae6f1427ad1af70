//! Variable by variable, as a scheduler says: `--strategy scheduled`. The rows are cut; every lane has the residual of
//! its rows, and a coefficient moves by the sum of x̃ᵀ r over the lanes. Or the columns are (`scheduled/by_columns.rs`).

pub(super) mod by_columns;

use super::columns::Column;
use super::problem::{Penalty, Scale};
use super::{COEFFICIENTS, INTERCEPT, LAMBDA, Lasso, Local, SQUARES, STATE};
use dunlin::schedule::{Change, Exchange, Pair, Scheduled};
use dunlin::{Block, Params, Result, Sums};
use serde::{Deserialize, Serialize};

/// The residual of a block's rows, r = y − X̃ w, brought up to date in as many steps as a column has stored values.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Residual {
    /// r without `shift`; empty before the first round.
    stored: Vec<f64>,
    /// What centring sparse columns adds to every row.
    shift: f64,
    /// Σ r.
    sum: f64,
}

/// A residual, to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// r without `shift`.
    pub(super) stored: &'a [f64],
    /// What centring sparse columns adds to every row.
    pub(super) shift: f64,
    /// Σ r.
    sum: f64,
}

impl View<'_> {
    /// x̃ᵀ r.
    fn product(&self, column: &Column) -> f64 {
        match column {
            Column::Dense(values) => {
                values.iter().zip(self.stored).map(|(value, residual)| f64::from(*value) * residual).sum()
            }
            Column::Sparse { places, values, shift, sum } => {
                let entries = places.iter().zip(*values);
                let stored: f64 =
                    entries.map(|(row, value)| f64::from(*value) * self.stored[*row as usize]).sum();
                stored + self.shift * sum - shift * self.sum
            }
        }
    }
}

impl Residual {
    fn view(&self) -> View<'_> {
        View { stored: &self.stored, shift: self.shift, sum: self.sum }
    }

    /// r − delta x̃.
    fn subtract(&mut self, column: &Column, delta: f64) {
        match column {
            Column::Dense(values) => {
                let rows = self.stored.iter_mut().zip(*values);
                rows.for_each(|(residual, value)| *residual -= delta * f64::from(*value));
            }
            Column::Sparse { places, values, shift, sum } => {
                for (row, value) in places.iter().zip(*values) {
                    self.stored[*row as usize] -= delta * f64::from(*value);
                }
                self.shift += delta * shift;
                self.sum -= delta * (sum - shift * self.stored.len() as f64);
            }
        }
    }
}

/// x̃_jᵀ x̃_k over `rows` rows.
fn product(left: &Column, right: &Column, rows: usize) -> f64 {
    match (left, right) {
        (Column::Dense(left), Column::Dense(right)) => {
            left.iter().zip(*right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
        }
        (Column::Sparse { shift: a, sum: left_sum, .. }, Column::Sparse { shift: b, sum: right_sum, .. }) => {
            common(left, right) - a * right_sum - b * left_sum + rows as f64 * a * b
        }
        _ => 0.0, // all columns of a block are of one kind
    }
}

/// Σ of the products of stored values in rows that both columns have.
fn common(left: &Column, right: &Column) -> f64 {
    let (Column::Sparse { places, values, .. }, Column::Sparse { places: others, values: factors, .. }) =
        (left, right)
    else {
        return 0.0;
    };
    let (mut at, mut sum) = (0, 0.0);
    for (row, value) in places.iter().zip(*values) {
        while others.get(at).is_some_and(|other| other < row) {
            at += 1;
        }
        if others.get(at) == Some(row) {
            sum += f64::from(*value) * f64::from(factors[at]);
        }
    }
    sum
}

impl Lasso {
    /// λ of the settings, or the share of the least that zeroes everything.
    pub(super) fn lambda(&self, params: &Params) -> f64 {
        self.config.lambda.unwrap_or_else(|| {
            let squares = params.table::<f64>(SQUARES);
            let pull = |column: usize| (squares.row(column)[2] * self.scale(params, column).factor).abs();
            let most = (0..self.width).map(pull).fold(0.0, f64::max) / self.rows.max(1) as f64;
            self.config.lambda_fraction * most / self.config.l1_ratio
        })
    }

    /// The penalty that coefficients are set by, also before the first round has put its λ on the table.
    fn rule(&self, params: &Params) -> Penalty {
        let known = params.table::<f64>(STATE).row(0)[LAMBDA];
        Penalty::new(if known > 0.0 { known } else { self.lambda(params) }, self.config.l1_ratio)
    }
}

/// The coefficient of a scaled column, as it is and where it is best for the sum x̃ᵀ r over all rows.
fn updated(model: &Lasso, rule: Penalty, params: &Params, column: usize, product: f64) -> [f64; 2] {
    let (rows, factor) = (model.rows.max(1) as f64, model.scale(params, column).factor);
    let square = params.table::<f64>(SQUARES).row(column)[1] * factor * factor / rows;
    let stored = params.table::<f64>(COEFFICIENTS).row(column)[0];
    let old = if factor > 0.0 { stored / factor } else { 0.0 };
    [old, rule.best(product / rows + square * old, square)]
}

impl Scheduled<Local> for Lasso {
    fn variables(&self) -> usize {
        self.width
    }

    fn prepare(&self, block: &Block, params: &Params, local: &mut Local) -> Result<()> {
        let held = self.hold(block, params, self.own(block.id as usize))?;
        if local.residual.stored.is_empty() && self.by_columns.is_none() {
            let sum = held.target.iter().sum();
            local.residual = Residual { stored: held.target.clone(), shift: 0.0, sum };
        }
        local.held = Some(held);
        Ok(())
    }

    fn exchange(&self) -> Option<Box<dyn Exchange>> {
        self.by_columns.map(|_| Box::new(by_columns::Travel(self.clone())) as Box<dyn Exchange>)
    }

    fn push(&self, variables: &[u32], block: &Block, params: &Params, local: &Local, partial: &mut [f64]) {
        let Some(held) = &local.held else { return };
        if self.by_columns.is_some() {
            return self.push_columns(variables, block, params, held, partial);
        }
        for (variable, partial) in variables.iter().zip(partial) {
            *partial += local.residual.view().product(&held.columns.column(*variable));
        }
    }

    fn pull(&self, variables: &[u32], sums: &[f64], params: &mut Params, changes: &mut Vec<Change>) {
        if params.table::<f64>(STATE).row(0)[LAMBDA] == 0.0 {
            let lambda = self.lambda(params);
            params.table_mut::<f64>(STATE).row_mut(0)[LAMBDA] = lambda;
            let centre = self.target_centre(params);
            params.table_mut::<f64>(INTERCEPT).row_mut(0)[0] = centre;
        }
        let rule = self.rule(params);
        for (variable, sum) in variables.iter().zip(sums) {
            let column = *variable as usize;
            let [old, new] = updated(self, rule, params, column, *sum);
            if new != old {
                let Scale { centre, factor } = self.scale(params, column);
                let [mut coefficients, mut intercept] =
                    params.tables_mut::<f64, 2>([COEFFICIENTS, INTERCEPT]);
                let stored = std::mem::replace(&mut coefficients.row_mut(column)[0], new * factor);
                intercept.row_mut(0)[0] -= centre * (new * factor - stored);
            }
            changes.push(Change { variable: *variable, old, new });
        }
    }

    fn apply(&self, changes: &[Change], _: &Block, _: &Params, local: &mut Local) {
        let Local { held: Some(held), residual, .. } = local else { return };
        if self.by_columns.is_some() {
            return; // the table of residuals is up to date
        }
        for change in changes {
            residual.subtract(&held.columns.column(change.variable), change.new - change.old);
        }
    }

    fn products(&self, pairs: &[Pair], block: &Block, params: &Params, local: &Local, out: &mut [f64]) {
        let Some(held) = &local.held else { return };
        if self.by_columns.is_some() {
            return self.give_columns(pairs, block, params, held, out);
        }
        for ((left, right), out) in pairs.iter().zip(out) {
            *out += product(&held.columns.column(*left), &held.columns.column(*right), block.rows());
        }
    }

    /// x̃ᵀ r of every column, ‖r‖² and yᵀ r.
    fn survey_numbers(&self) -> usize {
        self.width + 2
    }

    fn survey(&self, block: &Block, params: &Params, local: &Local, out: &mut [f64]) {
        let Some(held) = &local.held else { return };
        let (own, lane) = (self.own(block.id as usize), block.id as usize);
        let residual = match self.by_columns {
            Some(_) => by_columns::residual(params, self.rows),
            None => local.residual.view(),
        };
        let (products, squares) = out.split_at_mut(self.width);
        for (column, product) in products[own].iter_mut().enumerate() {
            *product += residual.product(&held.columns.column(column as u32));
        }
        if self.counts(lane) {
            for (stored, target) in residual.stored.iter().zip(&held.target) {
                let residual = stored + residual.shift;
                squares[0] += residual * residual;
                squares[1] += residual * target;
            }
        }
    }

    fn judge(&self, sums: &[f64], params: &Params, train: &mut Sums) {
        let (products, &[square, with_target]) = sums.split_at(self.width) else { return };
        let penalty = Penalty::new(self.lambda(params), self.config.l1_ratio);
        let point = self.point(penalty, [square, with_target], products, params);
        if (point.primal() + point.dual(penalty)).is_finite() {
            train.add("gaps", 1.0);
            train.add("gap", point.relative_gap(penalty));
        }
    }
}

#[cfg(test)]
mod tests;
