//! Doubly separable multinomial logistic regression (DS-MLR, Raman et al. 2019): softmax regression with many classes,
//! data and model both cut up.
//!
//! ```text
//! F(W) = C Σ_i [ln Σ_k exp(w_k·x_i) − w_{y_i}·x_i] + ½ Σ_k ‖w_k‖²
//! ```
//!
//! the objective of [`crate::softmax`], with the same optimum. Under `rotation` rows of data stay with their lane and
//! blocks of classes go round; a lane sees all classes once a lap, two neighbouring blocks at a time. With one lane all
//! classes are at hand.
//!
//! Two solvers. `dual` (default) is dual ascent on (row, two blocks of classes): the dual objective never falls, with any
//! number of lanes, and bounds the distance to the optimum: see `ds_softmax/dual.rs`. More lanes want more
//! laps, as a row's mass moves between neighbouring blocks only. `stochastic` is the paper's method: gradient steps on f(W, b) =
//! Σ_i Σ_k exp(w_k·x_i + b_i) − b_i − w_{y_i}·x_i, with b_i = −ln Σ_k exp(w_k·x_i) exact once a lap, from sums
//! that were taken as blocks came by.

mod dual;
mod local;
mod seen;
mod stochastic;
#[cfg(test)]
mod tests;
mod tile;

pub use local::{Local, Part};

use crate::softmax::kernel::{Rows, dispatch};
use dual::Duals;
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names};
use dunlin::isa::{self, Isa};
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use local::LogSums;
use seen::{Visit, finish, macro_f1, nothing};
use serde::{Deserialize, Serialize};
use tile::Tile;

/// Settings of [`DsSoftmax`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// C, the weight of the loss against the penalty ½‖W‖²; the loss is a sum, not a mean, over examples.
    /// Above 0, at most 10⁹. Default 1.
    pub c: f64,
    /// Adds a constant column of ones, whose weights are the biases, penalised like all others. Default false.
    pub bias: bool,
    /// `dual` or `stochastic`. Default `dual`.
    pub solver: Solver,
    /// For `dual`: the run has converged when `relative_gap` is at most this. Above 0, below 1. Default 0.001.
    pub tolerance: f64,
    /// For `dual` under `rotation`: passes over the rows in one visit of two blocks of classes. 1 to 100. Default 1.
    pub passes: usize,
    /// For `stochastic`: η₀ of the step η₀ / √(1 + t) in lap t, from 0. Above 0. Default 0.1.
    pub rate: f64,
}

/// How the optimum is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// Dual ascent.
    Dual,
    /// Stochastic gradient steps, the paper's method.
    Stochastic,
}

impl Default for Config {
    fn default() -> Config {
        Config { c: 1.0, bias: false, solver: Solver::Dual, tolerance: 1e-3, passes: 1, rate: 0.1 }
    }
}

/// Doubly separable multinomial logistic regression.
#[derive(Clone, Debug)]
pub struct DsSoftmax {
    config: Config,
    rows: usize,
    /// Columns of the data.
    features: usize,
    classes: usize,
    isa: Isa,
}

/// Number of the table of weights: (classes, features + bias).
pub const WEIGHTS: usize = 0;

/// Classes that are measured together: their weights should stay in a near cache.
const MEASURED: usize = 128;

impl DsSoftmax {
    /// Weights of a class.
    fn width(&self) -> usize {
        self.features + usize::from(self.config.bias)
    }

    /// The column of the bias.
    fn bias(&self) -> Option<usize> {
        self.config.bias.then_some(self.features)
    }

    /// λ of the mean loss with penalty λ/2 ‖W‖².
    fn lambda(&self) -> f64 {
        1.0 / (self.config.c * self.rows.max(1) as f64)
    }

    /// The step in lap `lap`.
    fn rate_at(&self, lap: usize) -> f64 {
        self.config.rate / (1.0 + lap as f64).sqrt()
    }

    fn diverged(&self, unit: &Unit) -> Error {
        let advice = match self.config.solver {
            Solver::Dual => "scale the features down or lower `c`",
            Solver::Stochastic => "lower `rate`",
        };
        Error::Diverged(format!(
            "ds-softmax: scores of block {} are no finite numbers in epoch {}; {advice}",
            unit.block.id, unit.epoch
        ))
    }

    /// Refuses columns and classes that the shape does not know.
    fn check_rows(&self, block: &Block) -> Result<()> {
        let place = format!("ds-softmax: block {} (rows {}..{})", block.id, block.first_row, block.end_row);
        let Some((mut rows, classes)) = Rows::new(block) else {
            return Err(Error::Data(format!("{place} holds no labelled rows")));
        };
        for (row, class) in classes.iter().enumerate() {
            let (columns, values) = rows.row(row);
            let place = || format!("ds-softmax: row {}", block.first_row + row);
            if *class as usize >= self.classes {
                return Err(Error::Data(format!("{}: class {class} of {}", place(), self.classes)));
            }
            if let Some(column) = columns.iter().find(|column| **column as usize >= self.features) {
                let features = self.features;
                return Err(Error::Data(format!("{}: column {column} of {features} (from 0)", place())));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::Data(format!("{}: value {value}; finite numbers are allowed", place())));
            }
        }
        Ok(())
    }

    /// The weights of classes `first..first + classes`, turned over.
    fn tile(&self, params: &Params, first: usize, classes: usize) -> Tile {
        let weights = params.table::<f32>(WEIGHTS);
        let stride = weights.stride();
        let rows = &weights.flat()[(first - weights.range().start) * stride..];
        let mut tile = Tile::new(self.width(), classes);
        tile.gather(rows, stride, classes, 0);
        tile
    }

    fn dual_visit(&self, unit: &Unit, params: &mut Params, local: &mut Local) -> Result<()> {
        let Some((rows, labels)) = Rows::new(unit.block) else { return Ok(()) };
        let mut none = Part::default();
        let is_whole = unit.visits == 1;
        let pair = [unit.row_block, (unit.row_block + 1) % unit.visits];
        let [part, next] = match local.parts.get_disjoint_mut(pair) {
            Ok(parts) => parts,
            Err(_) => match local.parts.first_mut() {
                Some(part) if is_whole => [part, &mut none],
                _ => return Ok(()),
            },
        };
        let classes = [part.classes, next.classes];
        if classes[0] + classes[1] == 0 || labels.is_empty() {
            return Ok(());
        }
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        unit.rng("ds-softmax order").shuffle(&mut order);
        let mut tile = Tile::new(self.width(), classes[0] + classes[1]);
        let (weights, others) = (params.table::<f32>(WEIGHTS), params.next_table::<f32>(WEIGHTS));
        tile.gather(weights.flat(), weights.stride(), classes[0], 0);
        others
            .iter()
            .for_each(|weights| tile.gather(weights.flat(), weights.stride(), classes[1], classes[0]));
        let pass = dual::Pass {
            rows,
            order: &order,
            passes: if is_whole { 1 } else { self.config.passes },
            squares: &local.squares,
            duals: [part, next].map(|part| Duals { classes: part.classes, values: &mut part.duals }),
            tile: &mut tile,
            is_whole,
            bias: self.bias(),
            c: self.config.c as f32,
            least_move: (0.05 * self.config.tolerance / self.classes.div_ceil(16) as f64) as f32,
        };
        if !dispatch(self.isa, pass) {
            return Err(self.diverged(unit));
        }
        let mut weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        tile.scatter(weights.flat_mut(), stride, classes[0], 0, 1.0);
        if let Some(mut weights) = params.next_table_mut::<f32>(WEIGHTS) {
            tile.scatter(weights.flat_mut(), stride, classes[1], classes[0], 1.0);
        }
        Ok(())
    }

    fn stochastic_visit(&self, unit: &Unit, params: &mut Params, local: &mut Local) -> Result<()> {
        let Some((rows, labels)) = Rows::new(unit.block) else { return Ok(()) };
        if unit.visit == 0 {
            let logs = LogSums { parts: &local.parts, rows: labels.len() };
            local.offsets = dispatch(self.isa, logs);
            local.offsets.iter_mut().for_each(|log| *log = -*log);
        }
        let Some(part) = local.parts.get_mut(unit.row_block).filter(|part| part.classes > 0) else {
            return Ok(());
        };
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        unit.rng("ds-softmax order").shuffle(&mut order);
        let own: Vec<usize> = labels.iter().map(|label| (*label as usize).wrapping_sub(part.first)).collect();
        let mut tile = self.tile(params, part.first, part.classes);
        let rate = self.rate_at(unit.epoch);
        let pass = stochastic::Pass {
            rows,
            order: &order,
            labels: &own,
            tile: &mut tile,
            classes: part.classes,
            bias: self.bias(),
            offsets: &local.offsets,
            log_mass: &mut part.log_mass,
            rate: rate as f32,
            keep: (1.0 - rate * self.lambda()) as f32,
        };
        let Some(scale) = dispatch(self.isa, pass) else { return Err(self.diverged(unit)) };
        let mut weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        tile.scatter(weights.flat_mut(), stride, part.classes, 0, scale);
        Ok(())
    }

    /// Adds classes `first..first + classes`, whose weights are at hand, to what was seen of the rows of `block`.
    fn see(
        &self,
        block: &Block,
        params: &Params,
        (first, classes): (usize, usize),
        part: Option<&Part>,
        seen: &mut [f32],
    ) {
        for start in (first..first + classes).step_by(MEASURED) {
            let Some((rows, labels)) = Rows::new(block) else { return };
            let classes = MEASURED.min(first + classes - start);
            let tile = self.tile(params, start, classes);
            let duals = part.filter(|part| !part.duals.is_empty());
            let duals = duals.map(|part| (&part.duals[..], part.classes, start - first));
            let bias = self.bias();
            let seen = &mut *seen;
            dispatch(self.isa, Visit { rows, labels, tile: &tile, first: start, classes, bias, duals, seen });
        }
    }
}

impl Algorithm for DsSoftmax {
    const NAME: &'static str = "ds-softmax";
    const ABOUT: &'static str = "softmax with many classes, data and model both cut up (DS-MLR)";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::Rotation];
    const BLOCKS_PER_LANE: Option<usize> = Some(1);
    const MEASURES_BY_LAP: bool = true;
    const VISITS_IN_PAIRS: bool = true;
    const DIVERGED_ADVICE: &'static str =
        "scale the features down, or lower `c` (`rate` for solver=stochastic)";
    const DETAILS: &'static dunlin::details::Details = &crate::details::DS_SOFTMAX;
    type Config = Config;
    type Local = Local;

    fn new(config: &Config, shape: &Shape) -> Result<DsSoftmax> {
        let usage = |text: String| Err(Error::Usage(format!("ds-softmax: {text}")));
        if !(config.c > 0.0 && config.c <= 1e9) {
            return usage(format!("c = {}; allowed: above 0, at most 1e9", config.c));
        }
        if !(config.tolerance > 0.0 && config.tolerance < 1.0) {
            return usage(format!("tolerance = {}; allowed: above 0, below 1", config.tolerance));
        }
        if !(1..=100).contains(&config.passes) {
            return usage(format!("passes = {}; allowed: 1 to 100", config.passes));
        }
        if !(config.rate > 0.0 && config.rate.is_finite()) {
            return usage(format!("rate = {}; allowed: a finite number above 0", config.rate));
        }
        if shape.kind != Kind::Labelled {
            let kind = shape.kind;
            return usage(format!("data of kind {kind:?}; needed: rows with a class each (Labelled)"));
        }
        if shape.classes.len() < 2 {
            let given = &shape.classes;
            return Err(Error::Data(format!(
                "ds-softmax: the only label is {given:?}; at least two classes are needed"
            )));
        }
        let (rows, features, classes) = (shape.rows, shape.columns, shape.classes.len());
        let model = DsSoftmax { config: config.clone(), rows, features, classes, isa: isa::level() };
        if config.solver == Solver::Stochastic && config.rate * model.lambda() >= 1.0 {
            let least = config.rate / rows.max(1) as f64;
            return usage(format!(
                "rate = {} overshoots zero by the penalty alone; allowed with it: c above {least:e}",
                config.rate
            ));
        }
        Ok(model)
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new("weights", self.classes, self.width()).axis(Axis::Output)]
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Local>) -> Result<Local> {
        let found = Rows::new(unit.block);
        let mut local = match (local, found) {
            (Some(local), _) => local,
            (None, found) => {
                self.check_rows(unit.block)?;
                let count = found.as_ref().map_or(0, |(_, labels)| labels.len());
                found.map_or_else(Local::default, |(mut rows, _)| {
                    Local::start(&mut rows, count, self.config.bias)
                })
            }
        };
        let Some((_, labels)) = Rows::new(unit.block) else { return Ok(local) };
        let range = params.table::<f32>(WEIGHTS).range();
        if local.parts.len() < unit.visits {
            local.parts.resize(unit.visits, Part::default());
        }
        let has_duals = self.config.solver == Solver::Dual;
        local.parts[unit.row_block] = Part::start(range.start, range.len(), labels, has_duals);
        Ok(local)
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Local, _: &mut Sums) -> Result<()> {
        if self.config.solver == Solver::Stochastic {
            return self.stochastic_visit(unit, params, local);
        }
        self.dual_visit(unit, params, local)
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Local>, sums: &mut Sums) {
        let unit =
            Unit { block, epoch: 0, clock: 0, lane: 0, lanes: 1, row_block: 0, visit: 0, visits: 1, seed: 0 };
        self.measure_visit(&unit, params, local, &mut Vec::new(), sums);
    }

    fn measure_visit(
        &self,
        unit: &Unit,
        params: &Params,
        local: Option<&Local>,
        seen: &mut Vec<f32>,
        sums: &mut Sums,
    ) {
        let Some((_, labels)) = Rows::new(unit.block) else { return };
        if seen.is_empty() {
            *seen = nothing(labels.len());
        }
        let classes = params.table::<f32>(WEIGHTS).range();
        let part = local.and_then(|local| local.parts.get(unit.row_block));
        self.see(unit.block, params, (classes.start, classes.len()), part, seen);
        if unit.is_last_visit() {
            finish(seen, labels, local.is_none(), sums);
        }
    }

    fn measure_rows(&self, params: &Params, sums: &mut Sums) {
        let flat = params.table::<f32>(WEIGHTS).flat();
        sums.add("square_norm", crate::softmax::lbfgs::inner(self.isa, flat, flat));
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, _: &Params) -> Vec<(&'static str, f64)> {
        let penalty = 0.5 * train.get("square_norm");
        let primal = self.config.c * train.get("loss") + penalty;
        let mut metrics = vec![("train_objective", primal)];
        if self.config.solver == Solver::Dual {
            let dual = self.config.c * train.get("entropy") - penalty;
            metrics.push(("dual_objective", dual));
            metrics.push(("relative_gap", (primal - dual).max(0.0) / primal.abs().max(f64::MIN_POSITIVE)));
        }
        metrics.push(("train_accuracy", train.get("correct") / train.get("rows").max(1.0)));
        if let Some(test) = test {
            let accuracy = test.get("correct") / test.get("rows").max(1.0);
            metrics.push(("test_accuracy", accuracy));
            metrics.push(("test_log_loss", test.get("loss") / test.get("known").max(1.0)));
            // Every row has one class and one prediction: summed over classes, precision, recall and accuracy are one.
            metrics.push(("micro_f1", accuracy));
            metrics.push(("macro_f1", macro_f1(test, self.classes)));
        }
        metrics
    }

    fn converged(&self, metrics: &[(&'static str, f64)]) -> bool {
        metrics.iter().any(|(name, value)| *name == "relative_gap" && *value <= self.config.tolerance)
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Some((mut rows, labels)) = Rows::new(block) else {
            return Err(Error::Data(format!("ds-softmax: block {} holds no labelled rows", block.id)));
        };
        let tile = self.tile(params, 0, self.classes);
        let mut margins = vec![0.0; tile.width];
        for row in 0..labels.len() {
            let (columns, values) = rows.row(row);
            tile.dot(columns, values, self.bias(), &mut margins);
            let likely = &mut margins[..self.classes];
            let top = likely.iter().fold(f32::NEG_INFINITY, |top, margin| top.max(*margin));
            likely.iter_mut().for_each(|margin| *margin = (*margin - top).exp());
            let inverse = 1.0 / likely.iter().sum::<f32>();
            likely.iter_mut().for_each(|p| *p *= inverse);
            out(row, likely);
        }
        Ok(())
    }

    /// `weights.tsv`: of every class the features with the 20 largest and the 20 smallest weights.
    fn readable(&self, shape: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let weights = params.table::<f32>(WEIGHTS);
        let feature = |column: usize| match Some(column) == self.bias() {
            true => "(bias)".to_string(),
            false => names.column(column),
        };
        let mut text = String::from("class\tfeature\tweight\n");
        for class in 0..self.classes {
            let row = weights.row(class);
            for column in crate::linear::extremes(row, 20) {
                text += &format!("{}\t{}\t{}\n", names.class(shape, class), feature(column), row[column]);
            }
        }
        out("weights.tsv", text);
    }
}
