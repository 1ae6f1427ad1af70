//! Lasso and elastic net: sparse linear regression.
//!
//! ```text
//! 1/(2n) ‖y − X w − b‖² + λ (ratio ‖w‖₁ + (1 − ratio)/2 ‖w‖²)
//! ```
//!
//! With `standardise` the penalty is on the coefficients of the columns scaled to unit deviation (sparse columns are
//! centred by a correction and stay sparse). The solution is found on a growing working set (Johnson and Guestrin 2015;
//! Massias et al. 2018) whose small problem needs the columns' Gram matrix only (`lasso/small.rs`); it ends on the
//! duality gap at the residual, over all columns. One lane has everything at hand (`lasso/single.rs`); with several, the
//! rows are cut, and correlations and new parts of the Gram matrix are summed over the lanes (`lasso/lanes.rs`), or, where there
//! are more columns than rows, the columns are, and lanes exchange those of the working set (`lasso/by_columns.rs`). Beside it
//! stand coordinate descent, which `--strategy scheduled` chooses (`lasso/scheduled.rs`), and `solver=proximal` for the
//! parameter server and its stale reads ([`proximal`](crate::proximal)).

mod by_columns;
mod cholesky;
mod columns;
mod config;
mod details;
mod input;
mod kernel;
mod lanes;
mod moments;
pub mod problem;
mod proximal;
mod scheduled;
mod single;
mod small;
#[cfg(test)]
mod tests;
mod turn;

use crate::proximal::{POWER, Published, VECTORS, delay};
use columns::Columns;
pub use config::{Config, Cut, Screening, Solver};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Contents, Kind, Names, ReadOptions};
use dunlin::isa::{self, Isa};
use dunlin::serial::share;
use dunlin::table::Type;
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use input::{Held, each_value, targets};
use problem::{Penalty, Point, Scale};
use serde::{Deserialize, Serialize};
use single::Progress;
use std::ops::Range;
use turn::{Clock, Turn};

/// Number of the table of coefficients, for columns as they are in the data: (columns, 1).
pub const COEFFICIENTS: usize = 0;
/// Number of the table of the intercept: (1, 1).
pub const INTERCEPT: usize = 1;
/// Number of the table of the path: (λs, λ · non-zeros · objective · relative gap).
pub const PATH: usize = 2;
/// Σ x, Σ (x − centre)² and Σ x (y − mean y) of each column.
const SQUARES: usize = 3;
/// [`TARGET_SUM`] to [`JUDGED`], and what lanes sum up.
const STATE: usize = 4;
/// x̃ᵀ r of each column, summed over lanes.
const CORRELATIONS: usize = 5;
/// New rows of the Gram matrix, summed over lanes.
const PRODUCTS: usize = 6;
/// The residual without its shift, its shift, and its sum; only of scheduled lanes that have some columns each.
const RESIDUALS: usize = 7;

const TARGET_SUM: usize = 0;
const BLOCKS: usize = 1;
const LAMBDA: usize = 2;
/// λs that are solved.
const SOLVED: usize = 3;
/// 1 once the gap is known.
const JUDGED: usize = 4;
/// ‖r‖² and yᵀr over lanes.
const RESIDUAL: usize = 5;
const FIELDS: usize = 7;

/// Lasso and elastic net.
#[derive(Clone, Debug)]
pub struct Lasso {
    config: Config,
    /// Never [`Solver::Auto`].
    solver: Solver,
    rows: usize,
    width: usize,
    isa: Isa,
    /// Of `solver=proximal`: clocks that the coefficients behind a step may be old.
    delay: u64,
    /// None before it is told.
    strategy: Option<StrategyKind>,
    /// The number of lanes, if each has some columns of all rows.
    by_columns: Option<usize>,
}

/// What is kept for a block.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Local {
    progress: Progress,
    rows: Turn<lanes::ByRows>,
    columns: Turn<by_columns::ByColumns>,
    residual: scheduled::Residual,
    published: Published,
    /// Made again after a checkpoint.
    #[serde(skip)]
    held: Option<Held>,
}

/// What was found for a λ at the current coefficients.
#[derive(Clone, Copy, Debug)]
struct Solved {
    lambda: f64,
    nonzeros: usize,
    point: Point,
    gap: f64,
}

impl Lasso {
    fn check_path(&self) -> Result<()> {
        match (self.solver, self.config.path) {
            (Solver::Proximal, 2..) => Err(Error::Usage(format!(
                "lasso: path = {} with solver = proximal; allowed: 1",
                self.config.path
            ))),
            _ => Ok(()),
        }
    }

    /// The columns that are at hand in `lane`.
    fn own(&self, lane: usize) -> Range<usize> {
        self.by_columns.map_or(0..self.width, |lanes| share(self.width, lanes, lane))
    }

    /// True if `lane` speaks for the targets of its rows: one does where all lanes have all rows.
    fn counts(&self, lane: usize) -> bool {
        lane == 0 || self.by_columns.is_none()
    }

    /// True if each lane has some columns of all rows, and they are updated as a scheduler says.
    fn schedules_columns(&self) -> bool {
        self.by_columns.is_some() && self.strategy == Some(StrategyKind::Scheduled)
    }

    /// Centre and unit of every column, once the sums of all lanes are there.
    fn scales(&self, params: &Params) -> Vec<Scale> {
        let Config { intercept, standardise, .. } = self.config;
        let squares = params.table::<f64>(SQUARES);
        let scale = |column: usize| {
            let row = squares.row(column);
            Scale::new(self.rows, row[0], row[1], intercept, standardise)
        };
        (0..self.width).map(scale).collect()
    }

    /// What is taken off every target.
    fn target_centre(&self, params: &Params) -> f64 {
        if !self.config.intercept {
            return 0.0;
        }
        params.table::<f64>(STATE).row(0)[TARGET_SUM] / self.rows.max(1) as f64
    }

    /// Targets without their centre. One that is the mean but for rounding is the mean: where all are alike nothing is left
    /// to explain.
    fn centred(&self, targets: &[f32], params: &Params) -> Vec<f64> {
        let centre = self.target_centre(params);
        let left =
            |target: f64| if (target - centre).abs() <= 1e-13 * centre.abs() { 0.0 } else { target - centre };
        targets.iter().map(|target| left(f64::from(*target))).collect()
    }

    fn hold(&self, block: &Block, params: &Params, own: Range<usize>) -> Result<Held> {
        let scales: Vec<Scale> = own.clone().map(|column| self.scale(params, column)).collect();
        let columns = Columns::new(block, &scales, self.isa);
        let (Some(columns), Some(targets)) = (columns, targets(block)) else {
            return Err(Error::Data(format!("lasso: block {} has no rows with targets", block.id)));
        };
        let target = self.centred(targets, params);
        let squares = params.table::<f64>(SQUARES);
        let length = |(column, scale): (usize, &Scale)| {
            (squares.row(own.start + column)[1] / self.rows.max(1) as f64).sqrt() * scale.factor
        };
        let lengths = scales.iter().enumerate().map(length).collect();
        Ok(Held { columns, target, all: (0..own.len() as u32).collect(), scales, lengths })
    }

    /// Writes the coefficients, for columns as they are in the data.
    fn write(&self, params: &mut Params, progress: &Progress, found: &[(usize, Solved)]) {
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
    fn squares_by_columns(&self, rows: Range<usize>, targets: &[f32], params: &Params, local: &Local) -> f64 {
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
    fn penalty(&self, params: &Params) -> f64 {
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
    fn point(
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
    fn gap(&self, params: &Params) -> f64 {
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
    fn predictions(&self, block: &Block, params: &Params) -> Vec<f64> {
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
}

impl Algorithm for Lasso {
    const NAME: &'static str = "lasso";
    const ABOUT: &'static str = "sparse linear regression: Lasso and elastic net, one penalty or a path";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[
        StrategyKind::AllReduce,
        StrategyKind::Scheduled,
        StrategyKind::Bsp,
        StrategyKind::Ssp,
        StrategyKind::Essp,
        StrategyKind::Asp,
    ];
    const BLOCKS_PER_LANE: Option<usize> = Some(1);
    const DIVERGED_ADVICE: &'static str = "scale the features down";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Local;

    fn reading(_: &Config, options: &mut ReadOptions) {
        options.targets = true;
    }

    fn new(config: &Config, shape: &Shape) -> Result<Lasso> {
        let usage = |text: String| Err(Error::Usage(format!("lasso: {text}")));
        if shape.kind != Kind::Labelled {
            return usage(format!(
                "data of kind {:?}; needed: rows with a target each (Labelled)",
                shape.kind
            ));
        }
        config.check()?;
        let solver = if config.solver == Solver::Auto { Solver::WorkingSet } else { config.solver };
        let (config, isa) = (config.clone(), isa::level());
        let (rows, width) = (shape.rows, shape.columns);
        let model = Lasso { config, solver, rows, width, isa, delay: 1, strategy: None, by_columns: None };
        model.check_path()?;
        Ok(model)
    }

    fn under(&mut self, strategy: StrategyKind, staleness: Option<u64>) -> Result<()> {
        let word = strategy.word();
        let refuse = |text: &str| Err(Error::Usage(format!("lasso: --strategy {word}: {text}")));
        let is_lock_step = matches!(strategy, StrategyKind::AllReduce | StrategyKind::Scheduled);
        self.solver = match self.config.solver {
            Solver::Auto if is_lock_step => Solver::WorkingSet,
            Solver::Auto => Solver::Proximal,
            Solver::WorkingSet if !is_lock_step => {
                return refuse("solver = workingset needs what all lanes found; allowed: proximal or auto");
            }
            Solver::Proximal if strategy == StrategyKind::Scheduled => {
                return refuse("it goes by its own rule; leave solver = proximal away");
            }
            solver => solver,
        };
        (self.delay, self.strategy) = (delay(staleness), Some(strategy));
        self.check_path()
    }

    fn cut_by_columns(&mut self, lanes: usize, at_hand: bool) -> Result<bool> {
        let can = self.solver == Solver::WorkingSet
            && matches!(self.strategy, Some(StrategyKind::AllReduce | StrategyKind::Scheduled));
        let refuse = |text: &str| Err(Error::Usage(format!("lasso: cut = columns: {text}")));
        let is_wide = match self.config.cut {
            Cut::Rows => false,
            Cut::Columns if !can => {
                return refuse("needs --strategy allreduce or scheduled, and solver = workingset or auto");
            }
            Cut::Columns if !at_hand => return refuse("needs all rows in memory; leave --memory away"),
            Cut::Columns if lanes > self.width => {
                return refuse(&format!("{} columns for {lanes} lanes; give fewer --lanes", self.width));
            }
            Cut::Columns => true,
            Cut::Auto => can && at_hand && self.width > self.rows,
        };
        let is_cut = is_wide && lanes > 1 && lanes <= self.width;
        self.by_columns = is_cut.then_some(lanes);
        Ok(is_cut)
    }

    fn tables(&self) -> Vec<TableSpec> {
        let table = |name: &str, rows, width| TableSpec::new(name, rows, width).element(Type::F64);
        let (new, most) = match (self.solver, self.by_columns) {
            (Solver::Proximal, _) => (self.width, VECTORS),
            (_, Some(lanes)) => (by_columns::slots(lanes), self.rows),
            _ => lanes::sizes(self.width),
        };
        let correlations = self.by_columns.map_or(self.width, |lanes| new + lanes);
        let element = if self.by_columns.is_some() { Type::F32 } else { Type::F64 };
        let mut tables = vec![
            table("coefficients", self.width, 1),
            table("intercept", 1, 1).axis(Axis::Whole),
            table("path", self.config.path, 4).axis(Axis::Whole),
            table("squares", self.width, 3).working(),
            table("lasso_state", 1, FIELDS).axis(Axis::Whole).working(),
            table("correlations", correlations, 1).working(),
            table("products", new, most).axis(Axis::Whole).working().element(element),
        ];
        if self.schedules_columns() {
            tables[SQUARES] = table("squares", self.width, scheduled::by_columns::KNOWN).working();
            tables[CORRELATIONS] = table("correlations", 1, 1).working();
            tables[PRODUCTS] = table("products", 1, 1).axis(Axis::Whole).working();
            tables.push(table("residual", self.rows + 2, 1).axis(Axis::Whole).working());
        }
        tables
    }

    /// Sums, then squares about their mean; for a step, the power method.
    fn rounds(&self) -> usize {
        match self.solver {
            Solver::Proximal => proximal::FIRST + POWER,
            _ => 2,
        }
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Local>) -> Result<Local> {
        if unit.epoch == 0 {
            let own = self.own(unit.lane);
            input::check(unit.block, own.len())?;
            let mut squares = params.table_mut::<f64>(SQUARES);
            let sums = moments::sums(unit.block, own.len(), self.isa);
            own.clone().zip(&sums).for_each(|(column, sum)| squares.row_mut(column)[0] += sum);
            if self.schedules_columns() {
                scheduled::by_columns::count(unit.block, own.start, own.len(), params);
            }
            let mut state = params.table_mut::<f64>(STATE);
            let sum: f64 =
                targets(unit.block).iter().copied().flatten().map(|target| f64::from(*target)).sum();
            state.row_mut(0)[TARGET_SUM] += if self.counts(unit.lane) { sum } else { 0.0 };
            state.row_mut(0)[BLOCKS] += 1.0;
            return Ok(Local::default());
        }
        if unit.epoch > 1 {
            let mut local = local.unwrap_or_default();
            let held = match local.held.take() {
                Some(held) => held,
                None => self.hold(unit.block, params, self.own(unit.lane))?,
            };
            proximal::start(self, unit, params);
            proximal::power(self, unit, params, &held);
            local.held = Some(held);
            return Ok(local);
        }
        let blocks = params.table::<f64>(STATE).row(0)[BLOCKS];
        if blocks != unit.lanes as f64 {
            return Err(Error::Usage(format!(
                "lasso: {blocks} blocks for {} lanes; it works on all rows of a lane together: leave --blocks away",
                unit.lanes
            )));
        }
        let own = self.own(unit.lane);
        let centres: Vec<f64> = own.clone().map(|column| self.scale(params, column).centre).collect();
        let (targets, centre) = (targets(unit.block).unwrap_or_default(), self.target_centre(params));
        let mut squares = params.table_mut::<f64>(SQUARES);
        let sums = moments::squares(unit.block, &centres, self.isa);
        own.clone().zip(&sums).for_each(|(column, sum)| squares.row_mut(column)[1] += sum);
        let sums = moments::with_targets(unit.block, targets, centre, own.len(), self.isa);
        own.zip(&sums).for_each(|(column, sum)| squares.row_mut(column)[2] += sum);
        if self.schedules_columns() && unit.lane == 0 {
            scheduled::by_columns::start(&self.centred(targets, params), params);
        }
        Ok(local.unwrap_or_default())
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Local, sums: &mut Sums) -> Result<()> {
        if local.progress.is_done() {
            return Ok(());
        }
        if local.held.is_none() {
            local.held = Some(self.hold(unit.block, params, self.own(unit.lane))?);
        }
        if self.solver == Solver::Proximal {
            proximal::take(self, unit, params, local);
            return Ok(());
        }
        let Local { progress, rows, columns, held: Some(held), .. } = local else { return Ok(()) };
        if unit.lanes > 1 {
            let clock = Clock { model: self, unit, params, progress, held, sums };
            return if self.by_columns.is_some() { columns.take(clock) } else { rows.take(clock) };
        }
        let mut found = Vec::new();
        single::advance(&self.config, self.isa, unit.block, held, progress, |at, solved| {
            found.push((at, solved))
        })?;
        self.write(params, progress, &found);
        Ok(())
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        self.by_columns.into_iter().for_each(|lanes| by_columns::end_clock(lanes, sums, params));
        Ok(())
    }

    fn scheduled(&self) -> Option<&dyn dunlin::schedule::Scheduled<Local>> {
        (self.config.path == 1 && self.solver == Solver::WorkingSet).then_some(self)
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Local>, sums: &mut Sums) {
        let Some(targets) = targets(block) else { return };
        if let (Some(lanes), Some(local)) = (self.by_columns, local) {
            let rows = share(targets.len(), lanes, block.id as usize);
            sums.add("squares", self.squares_by_columns(rows.clone(), targets, params, local));
            sums.add("rows", rows.len() as f64);
            return;
        }
        let errors = self.predictions(block, params).into_iter().zip(targets);
        sums.add("squares", errors.map(|(value, target)| (value - f64::from(*target)).powi(2)).sum());
        sums.add("rows", targets.len() as f64);
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let mean = |sums: &Sums| sums.get("squares") / sums.get("rows").max(1.0);
        let nonzeros =
            params.table::<f64>(COEFFICIENTS).flat().iter().filter(|weight| **weight != 0.0).count();
        let objective = 0.5 * mean(train) + self.penalty(params);
        let state = params.table::<f64>(STATE).row(0);
        let gap = match self.solver {
            _ if train.get("gaps") > 0.0 => train.get("gap"),
            Solver::Proximal if state[JUDGED] > 0.0 => {
                let penalty = Penalty::new(state[LAMBDA], self.config.l1_ratio);
                let squares = [state[RESIDUAL], state[RESIDUAL + 1]];
                let products = params.table::<f64>(CORRELATIONS).flat();
                problem::relative_gap(objective, self.point(penalty, squares, products, params).dual(penalty))
            }
            _ => self.gap(params),
        };
        let mut metrics = vec![
            ("train_objective", objective),
            ("relative_gap", gap),
            ("nonzeros", nonzeros as f64),
            ("train_rmse", mean(train).sqrt()),
        ];
        metrics.extend(test.map(|test| ("test_rmse", mean(test).sqrt())));
        metrics
    }

    fn converged(&self, metrics: &[(&'static str, f64)]) -> bool {
        metrics.iter().any(|(name, value)| *name == "relative_gap" && *value <= self.config.tolerance)
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        if !matches!(block.contents, Contents::Dense(_) | Contents::Sparse(_)) {
            return Err(Error::Data(format!("lasso: block {} holds no rows of features", block.id)));
        }
        for (row, value) in self.predictions(block, params).into_iter().enumerate() {
            out(row, &[value as f32]);
        }
        Ok(())
    }

    /// `coefficients.tsv`: the intercept and every coefficient that is not zero; `path.tsv`, if there is a path.
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let intercept = params.table::<f64>(INTERCEPT).row(0)[0];
        let mut text = format!("feature\tcoefficient\n(intercept)\t{intercept}\n");
        for (column, weight) in params.table::<f64>(COEFFICIENTS).flat().iter().enumerate() {
            if *weight != 0.0 {
                text += &format!("{}\t{weight}\n", names.column(column));
            }
        }
        out("coefficients.tsv", text);
        if self.config.path > 1 {
            let path = params.table::<f64>(PATH);
            let mut text = String::from("lambda\tnonzeros\tobjective\trelative_gap\n");
            for row in 0..path.rows() {
                let [lambda, nonzeros, objective, gap] = std::array::from_fn(|at| path.row(row)[at]);
                text += &format!("{lambda}\t{nonzeros}\t{objective}\t{gap:e}\n");
            }
            out("path.tsv", text);
        }
    }
}
