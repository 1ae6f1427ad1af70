//! Doubly separable multinomial logistic regression (DS-MLR, Raman et al. 2019): softmax regression with many classes,
//! data and model both cut up.
//!
//! ```text
//! F(W) = C Σ_i [ln Σ_k exp(w_k·x_i) − w_{y_i}·x_i] + ½ Σ_k ‖w_k‖²
//! ```
//!
//! the objective of [`crate::softmax`], with the same optimum. Under `rotation` rows of data stay with their lane and
//! blocks of classes go round; a lane sees all classes once a lap, a block at a time. With one lane all classes are at
//! hand.
//!
//! Two solvers. `dual` (default) is dual ascent on (row, block of classes), and the dual objective bounds the distance to
//! the optimum. With one lane it never falls (`ds_softmax/dual.rs`); with more, mass moves between blocks of classes by
//! an augmented Lagrangian, safeguarded against steps too long (`ds_softmax/reserve.rs`). `stochastic` is the paper's
//! method: gradient steps on f(W, b) = Σ_i Σ_k exp(w_k·x_i + b_i) − b_i − w_{y_i}·x_i, with b_i = −ln Σ_k exp(w_k·x_i)
//! exact once a lap, from sums that were taken as blocks came by.

mod details;
mod dual;
mod local;
mod reserve;
mod seen;
mod stochastic;
#[cfg(test)]
mod tests;
mod tile;

pub use local::{Local, Part};
pub use reserve::Reserve;

use crate::linear::{check, check_rows, mean_of};
use crate::softmax::kernel::{Rows, dispatch};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names};
use dunlin::isa::{self, Isa};
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use local::LogSums;
use reserve::Prices;
use seen::{Duals, Visit, finish, macro_f1, nothing};
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
    /// For `dual` under `rotation`: passes over the rows in one visit of a block of classes. 1 to 100. Default 1.
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

/// Classes that are measured together: fewer have every row looked up more often, more leave the near caches.
const MEASURED: usize = 128;

/// What is wrong where the first pass of all leaves the weights at zero.
const STUCK: &str = "no weight has moved after the first pass: single precision cannot hold its steps";

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

    fn diverged(&self, unit: &Unit, what: &str) -> Error {
        let advice = match self.config.solver {
            Solver::Dual => "scale the features down or lower `c`",
            Solver::Stochastic => "lower `rate`",
        };
        Error::Diverged(format!(
            "ds-softmax: block {} in epoch {}: {what}; {advice}",
            unit.block.id, unit.epoch
        ))
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
        if unit.visit == 0 {
            self.move_prices(unit.block, local);
        }
        let Some(part) = local.parts.get_mut(unit.row_block).filter(|part| part.classes > 0) else {
            return Ok(());
        };
        if labels.is_empty() {
            return Ok(());
        }
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        unit.rng("ds-softmax order").shuffle(&mut order);
        let classes = part.classes;
        let width = self.width();
        let mut tile = Tile::new(width, classes + usize::from(local.reserve.is_some()));
        let weights = params.table::<f32>(WEIGHTS);
        tile.gather(weights.flat(), weights.stride(), classes, 0);
        if let Some(reserve) = &local.reserve {
            tile.gather(&reserve.weights, width, 1, classes);
        }
        let pass = dual::Pass {
            rows,
            labels,
            order: &order,
            passes: if unit.visits == 1 { 1 } else { self.config.passes },
            squares: &local.squares,
            duals: &mut part.duals,
            classes,
            reserve: local.reserve.as_mut(),
            tile: &mut tile,
            bias: self.bias(),
            c: self.config.c as f32,
            least_move: (0.05 * self.config.tolerance / self.classes.div_ceil(16) as f64) as f32,
        };
        let is_stuck = match dispatch(self.isa, pass) {
            None => return Err(self.diverged(unit, "scores are no finite numbers")),
            // All duals start one step from where they are wanted.
            Some(moved) => !moved && (unit.epoch, unit.visit) == (0, 0),
        };
        if is_stuck && tile.flat().iter().all(|weight| *weight == 0.0) {
            return Err(self.diverged(unit, STUCK));
        }
        let mut weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        tile.scatter(weights.flat_mut(), stride, classes, 0, 1.0);
        if let Some(reserve) = &mut local.reserve {
            tile.scatter(&mut reserve.weights, width, 1, classes, 1.0);
        }
        Ok(())
    }

    /// Between two laps.
    fn move_prices(&self, block: &Block, local: &mut Local) {
        let (Some(reserve), Some((rows, _))) = (&mut local.reserve, Rows::new(block)) else { return };
        if reserve.look() {
            dispatch(self.isa, Prices { rows, reserve, bias: self.bias() });
        }
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
        let Some(scale) = dispatch(self.isa, pass) else {
            return Err(self.diverged(unit, "scores are no finite numbers"));
        };
        let mut weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        tile.scatter(weights.flat_mut(), stride, part.classes, 0, scale);
        Ok(())
    }

    /// Adds classes `first..first + classes`, whose weights are at hand, to what was seen of the rows of `block`.
    /// Gives ‖Σ_i (a_i − â_i) x_i‖², the duals' distance from where rows add up to 1, summed over these classes.
    fn see(
        &self,
        block: &Block,
        params: &Params,
        (first, classes): (usize, usize),
        (part, reserve): (Option<&Part>, Option<&Reserve>),
        seen: &mut [f32],
    ) -> f64 {
        let mut square = 0.0;
        for start in (first..first + classes).step_by(MEASURED) {
            let Some((rows, labels)) = Rows::new(block) else { return 0.0 };
            let classes = MEASURED.min(first + classes - start);
            let tile = self.tile(params, start, classes);
            let part = part.filter(|part| !part.duals.is_empty());
            let mut room = reserve.map(|_| Tile::new(self.width(), classes));
            let duals = part.map(|part| Duals {
                values: &part.duals,
                stride: part.classes,
                start: start - first,
                off: reserve.zip(room.as_mut()),
            });
            let (bias, seen) = (self.bias(), &mut *seen);
            dispatch(self.isa, Visit { rows, labels, tile: &tile, first: start, classes, bias, duals, seen });
            let shift = room.as_ref().map(Tile::flat);
            square += shift.map_or(0.0, |shift| crate::softmax::lbfgs::inner(self.isa, shift, shift));
        }
        square
    }
}

impl Algorithm for DsSoftmax {
    const NAME: &'static str = "ds-softmax";
    const ABOUT: &'static str = "softmax with many classes, data and model both cut up (DS-MLR)";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::Rotation];
    const BLOCKS_PER_LANE: Option<usize> = Some(1);
    const MEASURES_BY_LAP: bool = true;
    const DIVERGED_ADVICE: &'static str =
        "scale the features down, or lower `c` (`rate` for solver=stochastic)";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Local;

    fn new(config: &Config, shape: &Shape) -> Result<DsSoftmax> {
        let usage = |text: String| Err(Error::Usage(format!("ds-softmax: {text}")));
        check("ds-softmax", config.c, config.tolerance, shape)?;
        if !(1..=100).contains(&config.passes) {
            return usage(format!("passes = {}; allowed: 1 to 100", config.passes));
        }
        if !(config.rate > 0.0 && config.rate.is_finite()) {
            return usage(format!("rate = {}; allowed: a finite number above 0", config.rate));
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

    /// The steps of `stochastic` shrink all weights.
    fn keeps_to_its_features(&self) -> bool {
        self.config.solver == Solver::Dual
    }

    /// Of a row the duals, or the log-masses of row blocks, which are fewer than classes, and some numbers more; of the
    /// weights a row block turned over, of which there are two a lane.
    fn local_bytes(&self, shape: &Shape) -> f64 {
        let tile = self.width() as f64 * self.classes as f64 / 2.0;
        4.0 * (shape.rows as f64 * (self.classes + 4 + seen::FIELDS) as f64 + tile)
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Local>) -> Result<Local> {
        let found = Rows::new(unit.block);
        let mut local = match (local, found) {
            (Some(local), _) => local,
            (None, found) => {
                check_rows("ds-softmax", unit.block, self.features, self.classes)?;
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
        if has_duals && unit.visits > 1 && local.reserve.is_none() {
            reserve::check(&local.squares, self.config.c)?;
            let blocks = self.rows as f64 / labels.len().max(1) as f64;
            local.reserve = Some(Reserve::start(labels.len(), self.width(), blocks, self.classes));
        }
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
        let range = params.table::<f32>(WEIGHTS).range();
        let reserve = local.and_then(|local| local.reserve.as_ref());
        let parts = local.map_or(&[][..], |local| &local.parts);
        // Blocks of classes whose weights are at hand: the one that visits, or all if they are whole in one place.
        let at_hand = parts.iter().filter(|part| part.classes > 0 && range.contains(&part.first));
        let mut square = 0.0;
        for part in at_hand {
            let classes = (part.first, part.classes);
            square += self.see(unit.block, params, classes, (Some(part), reserve), seen);
        }
        if local.is_none() {
            self.see(unit.block, params, (range.start, range.len()), (None, None), seen);
        }
        // ‖Σ_b u_b‖² ≤ Σ_b ‖u_b‖² / ω_b for weights ω_b of blocks of rows that add up to 1: their shares of the rows.
        sums.add("shift_square", square * self.rows as f64 / labels.len().max(1) as f64);
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
            let c = self.config.c;
            let shift = c * train.get("shift") + 0.5 * c * c * train.get("shift_square");
            let dual = c * train.get("entropy") - penalty - shift;
            metrics.push(("dual_objective", dual));
            metrics.push(("relative_gap", (primal - dual).max(0.0) / primal.abs().max(f64::MIN_POSITIVE)));
        }
        metrics.push(("train_accuracy", train.get("correct") / train.get("rows").max(1.0)));
        if let Some(test) = test {
            let (correct, rows) = (test.get("correct"), test.get("rows"));
            metrics.extend(mean_of("test_accuracy", correct, rows));
            metrics.extend(mean_of("test_log_loss", test.get("loss"), test.get("known")));
            // Every row has one class and one prediction: summed over classes, precision, recall and accuracy are one.
            metrics.extend(mean_of("micro_f1", correct, rows));
            metrics.extend((rows > 0.0).then(|| ("macro_f1", macro_f1(test, self.classes))));
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
