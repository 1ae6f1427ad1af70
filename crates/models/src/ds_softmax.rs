//! Doubly separable multinomial logistic regression (DS-MLR, Raman et al. 2019): softmax regression with many classes,
//! data and model both cut up.
//!
//! ```text
//! F(W) = C Σ_i [ln Σ_k exp(w_k·x_i) − w_{y_i}·x_i] + ½ Σ_k ‖w_k‖²
//! ```
//!
//! the objective of [`crate::softmax`], with the same optimum. Under `rotation` rows of data stay with their lane and
//! blocks of classes go round; a lane sees all classes once a lap and keeps, for each of its rows, what it knows of the
//! classes that are away: the logarithm of their Σ exp(w_k·x_i). With one lane all classes are at hand.
//!
//! Two solvers. `dual` (default) is dual ascent on (row, block of classes), guarded so that blocks that move at the same
//! time cannot overshoot together: see [`dual`]. `stochastic` is the paper's method: gradient steps on f(W, b) =
//! Σ_i Σ_k exp(w_k·x_i + b_i) − b_i − w_{y_i}·x_i, with b_i = −ln Σ_k exp(w_k·x_i) exact once a lap, from sums
//! that were taken as blocks came by.
//!
//! The optimum has Σ_k w_k = 0. While the duals of a row do not add up to 1, which blocks at different lanes cannot
//! assure, that sum drifts along a direction in which only the penalty acts, and no class alone can tell. The lanes
//! therefore add up the drift in the table `shift`, and each block of classes loses its share once a lap: probabilities
//! stay as they are and the objective falls.

mod dual;
mod local;
mod seen;
mod stochastic;
#[cfg(test)]
mod tests;
mod tile;

pub use local::{Local, Part};

use crate::softmax::kernel::{Rows, dispatch};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names};
use dunlin::isa::{self, Isa};
use dunlin::table::Type;
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use local::Others;
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
        Config { c: 1.0, bias: false, solver: Solver::Dual, tolerance: 1e-3, rate: 0.1 }
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
const SHIFT: usize = 1;
const LAPS: usize = 2;

/// Classes that are measured together: their weights should stay in a near cache.
const MEASURED: usize = 128;

/// By how much the work of one visit is held back where other lanes work on other classes: see [`dual`].
const DAMPING: f32 = 1.25;

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

    /// The first visit of a lap: takes the drift of the lap before out of what the rows know of all classes.
    fn begin_lap(&self, unit: &Unit, params: &Params, local: &mut Local) {
        let now = params.table::<f32>(SHIFT).row(0);
        local.drift.resize(now.len(), 0.0);
        local.shift.resize(now.len(), 0.0);
        let share = 1.0 / self.classes as f32;
        for ((shift, drift), now) in local.shift.iter_mut().zip(&mut local.drift).zip(now) {
            *shift = share * (now - *drift);
            *drift = *now;
        }
        if let Some((mut rows, _)) = Rows::new(unit.block) {
            local.shift_margins(&mut rows, self.bias());
        }
        local.share_growth(self.classes);
    }

    /// Takes the drift of the lap before out of the classes at hand, unless another lane, or another data block of this
    /// one, has done so in this lap: half of the row blocks are on their way at the first visit.
    fn shift_classes(&self, unit: &Unit, params: &mut Params, local: &Local) {
        let lap = unit.epoch as i32 + 1;
        for class in params.table::<f32>(WEIGHTS).range() {
            if params.table::<i32>(LAPS).row(class)[0] == lap {
                continue;
            }
            params.table_mut::<i32>(LAPS).row_mut(class)[0] = lap;
            let mut weights = params.table_mut::<f32>(WEIGHTS);
            weights.row_mut(class).iter_mut().zip(&local.shift).for_each(|(weight, shift)| *weight -= shift);
        }
    }

    /// The last visit of a lap: adds C Σ_i (by how much the duals of i have shrunk) x_i to the drift.
    fn end_lap(&self, unit: &Unit, params: &mut Params, local: &mut Local) {
        let Some((mut rows, _)) = Rows::new(unit.block) else { return };
        let mut table = params.table_mut::<f32>(SHIFT);
        let shift = table.row_mut(0);
        for (row, growth) in local.growth.iter().enumerate() {
            let push = -(self.config.c as f32) * *growth;
            let (columns, values) = rows.row(row);
            for (column, value) in columns.iter().zip(values) {
                shift[*column as usize] += push * value;
            }
            if let Some(bias) = self.bias() {
                shift[bias] += push;
            }
        }
    }

    /// The weights of the classes at hand, turned over.
    fn tile(&self, params: &Params, first: usize, classes: usize) -> Tile {
        let weights = params.table::<f32>(WEIGHTS);
        let stride = weights.stride();
        let rows = &weights.flat()[(first - weights.range().start) * stride..];
        Tile::gather(rows, stride, classes, self.width())
    }

    fn dual_visit(&self, unit: &Unit, params: &mut Params, local: &mut Local) -> Result<()> {
        let Some((rows, labels)) = Rows::new(unit.block) else { return Ok(()) };
        let Some(&Part { first, classes, .. }) = local.parts.get(unit.row_block) else { return Ok(()) };
        if classes == 0 || labels.is_empty() {
            return Ok(());
        }
        let rotates = unit.visits > 1;
        let others = match rotates {
            true => {
                let except = Some(unit.row_block);
                dispatch(self.isa, Others { parts: &local.parts, except, rows: labels.len() })
            }
            false => Vec::new(),
        };
        let damping = if rotates { DAMPING } else { 1.0 };
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        unit.rng("ds-softmax order").shuffle(&mut order);
        let mut tile = self.tile(params, first, classes);
        let part = &mut local.parts[unit.row_block];
        let chunks = self.classes.div_ceil(16) as f64;
        let pass = dual::Pass {
            rows,
            order: &order,
            squares: &local.squares,
            duals: &mut part.duals,
            tile: &mut tile,
            classes,
            bias: self.bias(),
            c: self.config.c as f32 * damping,
            others: rotates.then_some(&others[..]),
            log_mass: &mut part.log_mass,
            growth: &mut local.growth,
            least_move: (0.05 * self.config.tolerance / chunks) as f32,
        };
        if !dispatch(self.isa, pass) {
            return Err(self.diverged(unit));
        }
        let mut weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        tile.scatter_part(weights.flat_mut(), stride, classes, 1.0 / damping);
        if rotates {
            self.look_again(unit, params, local);
        }
        Ok(())
    }

    /// What the rows know of the classes at hand, as these leave.
    fn look_again(&self, unit: &Unit, params: &Params, local: &mut Local) {
        let Some((rows, _)) = Rows::new(unit.block) else { return };
        let Some(part) = local.parts.get_mut(unit.row_block) else { return };
        let (classes, bias) = (part.classes, self.bias());
        let tile = self.tile(params, part.first, classes);
        let log_mass = &mut part.log_mass;
        dispatch(self.isa, dual::Forward { rows, tile: &tile, classes, bias, log_mass });
    }

    fn stochastic_visit(&self, unit: &Unit, params: &mut Params, local: &mut Local) -> Result<()> {
        let Some((rows, labels)) = Rows::new(unit.block) else { return Ok(()) };
        if unit.visit == 0 {
            let logs = Others { parts: &local.parts, except: None, rows: labels.len() };
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
        tile.scatter(weights.flat_mut(), stride, part.classes, scale);
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
            let duals = duals.map(|part| (&part.duals[..], tile::width_of(part.classes), start - first));
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
        vec![
            TableSpec::new("weights", self.classes, self.width()).axis(Axis::Output),
            TableSpec::new("shift", 1, self.width()).axis(Axis::Whole).working(),
            TableSpec::new("laps", self.classes, 1).axis(Axis::Output).element(Type::I32).working(),
        ]
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
        let rotates = unit.visits > 1;
        if rotates && unit.visit == 0 {
            self.begin_lap(unit, params, local);
        }
        if rotates {
            self.shift_classes(unit, params, local);
        }
        self.dual_visit(unit, params, local)?;
        if rotates && unit.visit + 1 == unit.visits {
            self.end_lap(unit, params, local);
        }
        Ok(())
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Local>, sums: &mut Sums) {
        let Some((_, labels)) = Rows::new(block) else { return };
        let mut seen = nothing(labels.len());
        let whole = Part { classes: self.classes, ..Part::default() };
        let parts = local.map_or(std::slice::from_ref(&whole), |local| &local.parts);
        for part in parts.iter().filter(|part| part.classes > 0) {
            self.see(block, params, (part.first, part.classes), Some(part), &mut seen);
        }
        let has_duals = local.is_some() && self.config.solver == Solver::Dual;
        finish(&seen, labels, has_duals, local.is_none(), sums);
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let flat = params.table::<f32>(WEIGHTS).flat();
        let penalty = 0.5 * crate::softmax::lbfgs::inner(self.isa, flat, flat);
        let primal = self.config.c * train.get("loss") + penalty;
        let mut metrics = vec![("train_objective", primal)];
        if self.config.solver == Solver::Dual {
            let gap = self.config.c * train.get("divergence");
            metrics.push(("relative_gap", gap / primal.abs().max(f64::MIN_POSITIVE)));
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
            for column in crate::softmax::extremes(row, 20) {
                text += &format!("{}\t{}\t{}\n", names.class(shape, class), feature(column), row[column]);
            }
        }
        out("weights.tsv", text);
    }
}
