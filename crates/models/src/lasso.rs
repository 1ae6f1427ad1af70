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
//! stand coordinate descent, which `--strategy scheduled` chooses, cut either way (`lasso/scheduled.rs`), and `solver=proximal` for the
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
mod outcome;
pub mod problem;
mod proximal;
mod scheduled;
mod single;
mod small;
mod start;
#[cfg(test)]
mod tests;
mod turn;

use crate::proximal::{POWER, Published, VECTORS, delay};
pub use config::{Config, Cut, Screening, Solver};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Contents, Kind, Names, ReadOptions};
use dunlin::isa::{self, Isa};
use dunlin::serial::share;
use dunlin::table::Type;
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use input::{Held, targets};
use outcome::Solved;
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
/// The residual without its shift, its shift, and its sum, of scheduled lanes that have some columns each; else one zero.
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
    // The gap ends a run, mostly long before; two lanes under `scheduled` may need hundreds.
    const EPOCHS: usize = 1000;
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
            Cut::Auto => {
                let sweeps = can && self.strategy == Some(StrategyKind::AllReduce);
                sweeps && at_hand && self.width > self.rows
            }
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
            table("residual", 1, 1).axis(Axis::Whole).working(),
        ];
        if self.schedules_columns() {
            tables[SQUARES] = table("squares", self.width, scheduled::by_columns::KNOWN).working();
            tables[CORRELATIONS] = table("correlations", 1, 1).working();
            tables[PRODUCTS] = table("products", 1, 1).axis(Axis::Whole).working();
            tables[RESIDUALS] = table("residual", self.rows + 2, 1).axis(Axis::Whole).working();
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
        let mut local = local.unwrap_or_default();
        match unit.epoch {
            0 => self.sum_up(unit, params)?,
            1 => self.square_up(unit, params)?,
            _ => proximal::begin(self, unit, params, &mut local)?,
        }
        Ok(local)
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
        let mut metrics = vec![
            ("train_objective", objective),
            ("relative_gap", self.relative_gap(objective, train, params)),
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
        out("coefficients.tsv", self.coefficients_in_text(names, params));
        if self.config.path > 1 {
            out("path.tsv", self.path_in_text(params));
        }
    }
}
