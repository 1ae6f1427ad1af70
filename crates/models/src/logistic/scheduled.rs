//! Weight by weight, as a scheduler says: `--strategy scheduled`. The rows are cut; every lane has the scores of its
//! rows, and a weight moves by the sums of first and second derivatives over the lanes.
//!
//! A second derivative holds at a point; a step needs a bound on it all the way. So every weight j has a radius Δ_j that
//! no step of it leaves, and the second derivative of a row's loss is taken at its greatest while the score moves by
//! at most Σ Δ_j |x_j| over the weights of the round (Genkin, Lewis and Madigan 2007, there for one weight at a time):
//!
//! ```text
//! σ'(s) ≤ 1/4                              if |s| ≤ slack = Σ_j Δ_j |x_j|
//! σ'(s) ≤ 1 / (2 + e^m + e^−m),  m = |s| − slack    else
//! ```
//! Then the step that is best for the quadratic bound never makes the objective of one weight greater, nor that of
//! several whose columns do not depend on each other. Δ_j is doubled by steps that reach it, and halved at most:
//! max(2 |step|, Δ_j / 2).

use super::{Local, Logistic, Penalty, WEIGHTS, newton};
use crate::softmax::kernel::Rows;
use dunlin::schedule::{Change, Pair, Scheduled};
use dunlin::table::Type;
use dunlin::{Block, Error, Params, Result, Sums, TableSpec};
use serde::{Deserialize, Serialize};

/// (weights, 1): Δ, 0 for one that has not moved yet.
const RADIUS: usize = 1;
/// Δ before the first step.
const FIRST: f64 = 1.0;

/// The tables of this solver.
pub(super) fn tables(model: &Logistic) -> Vec<TableSpec> {
    let radius = TableSpec::new("radius", model.rows(), 1).element(Type::F64).working();
    vec![TableSpec::new("weights", model.rows(), 1), radius]
}

/// The scores of a block's rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Scores {
    /// w·x of each row; empty before the first round.
    scores: Vec<f64>,
    /// Made again after a checkpoint.
    #[serde(skip)]
    columns: Columns,
}

/// A block's values that are not zero, column by column, and the labels of its rows.
#[derive(Clone, Debug, Default)]
struct Columns {
    offsets: Vec<usize>,
    rows: Vec<u32>,
    values: Vec<f32>,
    /// 1 for the greater label, −1 for the other.
    signs: Vec<f64>,
}

impl Columns {
    /// Of a block with `width` columns, and one of ones if there is a bias. None for a block without labelled rows.
    fn new(block: &Block, width: usize, bias: bool) -> Option<Columns> {
        let (mut rows, classes) = Rows::new(block)?;
        let mut offsets = vec![0; width + 1];
        for row in 0..classes.len() {
            rows.row(row).0.iter().for_each(|column| offsets[*column as usize + 1] += 1);
        }
        (0..width).for_each(|column| offsets[column + 1] += offsets[column]);
        let (mut next, stored) = (offsets.clone(), offsets[width]);
        let (mut places, mut entries) = (vec![0; stored], vec![0.0; stored]);
        for row in 0..classes.len() {
            let (columns, values) = rows.row(row);
            for (column, value) in columns.iter().zip(values) {
                let at = &mut next[*column as usize];
                (places[*at], entries[*at]) = (row as u32, *value);
                *at += 1;
            }
        }
        if bias {
            places.extend(0..classes.len() as u32);
            entries.resize(places.len(), 1.0);
            offsets.push(places.len());
        }
        let signs = classes.iter().map(|class| if *class == 0 { -1.0 } else { 1.0 }).collect();
        Some(Columns { offsets, rows: places, values: entries, signs })
    }

    /// Rows and values of a column.
    fn of(&self, column: u32) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = self.offsets[column as usize]..self.offsets[column as usize + 1];
        let rows = self.rows[range.clone()].iter().map(|row| *row as usize);
        rows.zip(self.values[range].iter().map(|value| f64::from(*value)))
    }
}

/// σ(x).
fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    (if x < 0.0 { small } else { 1.0 }) / (1.0 + small)
}

/// The greatest second derivative of a row's loss while its score moves by at most `slack`.
fn bend(score: f64, slack: f64) -> f64 {
    let small = (slack - score.abs()).min(0.0).exp();
    small / ((1.0 + small) * (1.0 + small))
}

impl Scores {
    /// −Σ y σ(−y s) x of a column.
    fn slope(&self, column: u32) -> f64 {
        let slope = |(row, value): (usize, f64)| {
            let sign = self.columns.signs[row];
            -sign * value * sigmoid(-sign * self.scores[row])
        };
        self.columns.of(column).map(slope).sum()
    }

    /// Σ x² times the greatest second derivative, for a column and the slack of every row.
    fn curvature(&self, column: u32, slack: impl Fn(usize, f64) -> f64) -> f64 {
        let entries = self.columns.of(column);
        entries.map(|(row, value)| value * value * bend(self.scores[row], slack(row, value))).sum()
    }
}

/// Σ of the products of values in rows that both columns have.
fn product(columns: &Columns, left: u32, right: u32) -> f64 {
    let (mut others, mut sum) = (columns.of(right).peekable(), 0.0);
    for (row, value) in columns.of(left) {
        while others.next_if(|(other, _)| *other < row).is_some() {}
        if let Some((_, factor)) = others.next_if(|(other, _)| *other == row) {
            sum += value * factor;
        }
    }
    sum
}

/// The weight that minimises slope (w − old) + ½ curvature (w − old)² + penalty(w), both of the loss alone.
fn best(penalty: Penalty, old: f64, slope: f64, curvature: f64) -> f64 {
    match penalty {
        Penalty::L2 => old - (slope + old) / (curvature + 1.0),
        Penalty::L1 if curvature > 0.0 => {
            let free = old - slope / curvature;
            (free.abs() - 1.0 / curvature).max(0.0).copysign(free)
        }
        Penalty::L1 => 0.0,
    }
}

/// Δ of a weight.
fn radius(params: &Params, weight: u32) -> f64 {
    let stored = params.table::<f64>(RADIUS).row(weight as usize)[0];
    if stored > 0.0 { stored } else { FIRST }
}

impl Scheduled<Local> for Logistic {
    fn variables(&self) -> usize {
        self.rows()
    }

    /// First derivative and bound on the second.
    fn partials(&self) -> usize {
        2
    }

    fn prepare(&self, block: &Block, _: &Params, local: &mut Local) -> Result<()> {
        let columns = Columns::new(block, self.features, self.config.bias);
        let Some(columns) = columns else {
            return Err(Error::Data(format!("logistic: block {} holds no labelled rows", block.id)));
        };
        local.scores.scores.resize(columns.signs.len(), 0.0);
        local.scores.columns = columns;
        Ok(())
    }

    fn push(&self, weights: &[u32], _: &Block, params: &Params, local: &Local, partial: &mut [f64]) {
        let (scores, c) = (&local.scores, self.config.c);
        let mut slacks = Vec::new();
        if weights.len() > 1 {
            slacks.resize(scores.scores.len(), 0.0);
            for weight in weights {
                let radius = radius(params, *weight);
                scores.columns.of(*weight).for_each(|(row, value)| slacks[row] += radius * value.abs());
            }
        }
        for (weight, partial) in weights.iter().zip(partial.chunks_exact_mut(2)) {
            let radius = radius(params, *weight);
            partial[0] += c * scores.slope(*weight);
            partial[1] += c * match weights.len() {
                1 => scores.curvature(*weight, |_, value| radius * value.abs()),
                _ => scores.curvature(*weight, |row, _| slacks[row]),
            };
        }
    }

    fn pull(&self, weights: &[u32], sums: &[f64], params: &mut Params, changes: &mut Vec<Change>) {
        for (weight, sums) in weights.iter().zip(sums.chunks_exact(2)) {
            let radius = radius(params, *weight);
            let mut table = params.table_mut::<f32>(WEIGHTS);
            let stored = &mut table.row_mut(*weight as usize)[0];
            let old = f64::from(*stored);
            let step = (best(self.config.penalty, old, sums[0], sums[1]) - old).clamp(-radius, radius);
            *stored = (old + step) as f32;
            changes.push(Change { variable: *weight, old, new: f64::from(*stored) });
            let next = (2.0 * step.abs()).max(0.5 * radius);
            params.table_mut::<f64>(RADIUS).row_mut(*weight as usize)[0] = next;
        }
    }

    fn apply(&self, changes: &[Change], _: &Block, _: &Params, local: &mut Local) {
        let Scores { scores, columns } = &mut local.scores;
        for change in changes {
            let delta = change.new - change.old;
            columns.of(change.variable).for_each(|(row, value)| scores[row] += delta * value);
        }
    }

    fn products(&self, pairs: &[Pair], _: &Block, _: &Params, local: &Local, out: &mut [f64]) {
        for ((left, right), out) in pairs.iter().zip(out) {
            *out += product(&local.scores.columns, *left, *right);
        }
    }

    /// The gradient of the loss, for the lower bounds of [`newton`].
    fn survey_numbers(&self) -> usize {
        self.rows()
    }

    fn survey(&self, _: &Block, _: &Params, local: &Local, out: &mut [f64]) {
        let slopes = out.iter_mut().enumerate();
        slopes.for_each(|(weight, out)| *out += self.config.c * local.scores.slope(weight as u32));
    }

    fn judge(&self, sums: &[f64], params: &Params, train: &mut Sums) {
        let weights: Vec<f64> = params.table::<f32>(WEIGHTS).flat().iter().map(|w| f64::from(*w)).collect();
        let (_, bound) = newton::judge(self, self.config.c * train.get("loss"), &weights, &mut sums.to_vec());
        train.add("bound", bound);
    }
}

#[cfg(test)]
mod tests;
