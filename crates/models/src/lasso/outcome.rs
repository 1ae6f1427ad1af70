//! What a run finds, on the tables, in numbers and in words.

use super::input::each_value;
use super::problem::{self, Penalty, Point, Scale};
use super::single::Progress;
use super::{
    COEFFICIENTS, CORRELATIONS, INTERCEPT, JUDGED, LAMBDA, Lasso, Local, PATH, RESIDUAL, SOLVED, STATE,
    Solver, scheduled,
};
use dunlin::data::{Contents, Names};
use dunlin::{Block, Params, Sums};
use std::ops::Range;

/// What was found for a λ at the current coefficients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Solved {
    pub(super) lambda: f64,
    pub(super) nonzeros: usize,
    pub(super) point: Point,
    pub(super) gap: f64,
}

impl Lasso {
    /// Writes the coefficients, for columns as they are in the data.
    pub(super) fn write(&self, params: &mut Params, progress: &Progress, found: &[(usize, Solved)]) {
        let used = progress.small.iter().filter(|(_, weight)| *weight != 0.0);
        let used: Vec<(u32, f64, Scale)> =
            used.map(|(column, weight)| (column, weight, self.scale(params, column as usize))).collect();
        let mut intercept = self.target_centre(params);
        let mut table = params.table_mut::<f64>(COEFFICIENTS);
        let flat = table.flat_mut();
        flat.fill(0.0);
        for (column, weight, Scale { centre, factor }) in used {
            flat[column as usize] = weight * factor;
            intercept -= centre * weight * factor;
        }
        params.table_mut::<f64>(INTERCEPT).row_mut(0)[0] = intercept;
        let mut path = params.table_mut::<f64>(PATH);
        for (at, found) in found {
            path.row_mut(*at).copy_from_slice(&[
                found.lambda,
                found.nonzeros as f64,
                found.point.primal(),
                found.gap,
            ]);
        }
        let mut state = params.table_mut::<f64>(STATE);
        if let Some((_, last)) = found.last() {
            state.row_mut(0)[LAMBDA] = last.lambda;
            state.row_mut(0)[JUDGED] = 1.0;
        }
        state.row_mut(0)[SOLVED] = progress.solved as f64;
    }

    /// ‖r‖² of some rows, where lanes have some columns of all and no row is whole in one place.
    pub(super) fn squares_by_columns(
        &self,
        rows: Range<usize>,
        targets: &[f32],
        params: &Params,
        local: &Local,
    ) -> f64 {
        if self.schedules_columns() {
            let residual = scheduled::by_columns::residual(params, self.rows);
            return residual.stored[rows].iter().map(|r| (r + residual.shift).powi(2)).sum();
        }
        let intercept = params.table::<f64>(INTERCEPT).row(0)[0];
        match local.columns.form.shown() {
            Some(residual) => residual[rows].iter().map(|r| r * r).sum(),
            None => targets[rows].iter().map(|target| (f64::from(*target) - intercept).powi(2)).sum(),
        }
    }

    /// Σ penalty of the coefficients.
    pub(super) fn penalty(&self, params: &Params) -> f64 {
        let penalty = Penalty::new(params.table::<f64>(STATE).row(0)[LAMBDA], self.config.l1_ratio);
        let (coefficients, scales) = (params.table::<f64>(COEFFICIENTS), self.scales(params));
        let scaled = |(column, scale): (usize, &Scale)| {
            let weight = coefficients.row(column)[0];
            if weight == 0.0 || scale.factor == 0.0 { 0.0 } else { penalty.of(weight / scale.factor) }
        };
        scales.iter().enumerate().map(scaled).sum()
    }

    /// What the duality gap under `penalty` is made of at the current coefficients, given ‖r‖², yᵀ r and x̃ᵀ r of every
    /// column. For the lower bound any r will do.
    pub(super) fn point(
        &self,
        penalty: Penalty,
        [square, with_target]: [f64; 2],
        products: &[f64],
        params: &Params,
    ) -> Point {
        let (rows, coefficients) = (self.rows.max(1) as f64, params.table::<f64>(COEFFICIENTS));
        let mut point = Point { rows, square, with_target, ..Point::default() };
        for (column, (product, scale)) in products.iter().zip(self.scales(params)).enumerate() {
            let stored = coefficients.row(column)[0];
            let weight = if scale.factor > 0.0 { stored / scale.factor } else { 0.0 };
            point.weights_square += weight * weight;
            point.penalty += penalty.of(weight);
            point.greatest = point.greatest.max((product / rows - penalty.l2 * weight).abs());
        }
        point
    }

    /// The greatest gap of the path; 1 until all of it is solved.
    pub(super) fn gap(&self, params: &Params) -> f64 {
        let state = params.table::<f64>(STATE).row(0);
        let is_known = if self.config.path == 1 {
            state[JUDGED] > 0.0
        } else {
            state[SOLVED] >= self.config.path as f64
        };
        let path = params.table::<f64>(PATH);
        let gaps = (0..path.rows()).map(|row| path.row(row)[3]);
        if is_known { gaps.fold(0.0, f64::max) } else { 1.0 }
    }

    /// The predictions for a block's rows.
    pub(super) fn predictions(&self, block: &Block, params: &Params) -> Vec<f64> {
        let coefficients = params.table::<f64>(COEFFICIENTS).flat();
        let mut out = vec![params.table::<f64>(INTERCEPT).row(0)[0]; block.rows()];
        if let Contents::Dense(rows) = &block.contents {
            let used: Vec<usize> =
                (0..self.width.min(rows.width)).filter(|column| coefficients[*column] != 0.0).collect();
            for (out, values) in out.iter_mut().zip(rows.values.chunks_exact(rows.width.max(1))) {
                *out +=
                    used.iter().map(|column| coefficients[*column] * f64::from(values[*column])).sum::<f64>();
            }
            return out;
        }
        each_value(block, |row, column, value| {
            if let (Some(out), Some(coefficient)) = (out.get_mut(row), coefficients.get(column)) {
                *out += coefficient * value;
            }
        });
        out
    }

    /// The gap of a run with the sums `train` over its data: what rounds of variables found, or what the tables say.
    pub(super) fn relative_gap(&self, objective: f64, train: &Sums, params: &Params) -> f64 {
        let state = params.table::<f64>(STATE).row(0);
        match self.solver {
            _ if train.get("gaps") > 0.0 => train.get("gap"),
            Solver::Proximal if state[JUDGED] > 0.0 => {
                let penalty = Penalty::new(state[LAMBDA], self.config.l1_ratio);
                let squares = [state[RESIDUAL], state[RESIDUAL + 1]];
                let products = params.table::<f64>(CORRELATIONS).flat();
                problem::relative_gap(objective, self.point(penalty, squares, products, params).dual(penalty))
            }
            _ => self.gap(params),
        }
    }

    /// The intercept and every coefficient that is not zero.
    pub(super) fn coefficients_in_text(&self, names: &Names, params: &Params) -> String {
        let intercept = params.table::<f64>(INTERCEPT).row(0)[0];
        let mut text = format!("feature\tcoefficient\n(intercept)\t{intercept}\n");
        for (column, weight) in params.table::<f64>(COEFFICIENTS).flat().iter().enumerate() {
            if *weight != 0.0 {
                text += &format!("{}\t{weight}\n", names.column(column));
            }
        }
        text
    }

    /// What was found of every λ.
    pub(super) fn path_in_text(&self, params: &Params) -> String {
        let path = params.table::<f64>(PATH);
        let mut text = String::from("lambda\tnonzeros\tobjective\trelative_gap\n");
        for row in 0..path.rows() {
            let [lambda, nonzeros, objective, gap] = std::array::from_fn(|at| path.row(row)[at]);
            text += &format!("{lambda}\t{nonzeros}\t{objective}\t{gap:e}\n");
        }
        text
    }
}
