//! Multinomial logistic regression (softmax regression).
//!
//! ```text
//! F(W) = C Σ_i [ln Σ_k exp(w_k·x_i) − w_{y_i}·x_i] + ½ Σ_k ‖w_k‖²
//! ```
//!
//! with one weight vector per class, also for two classes (where a peer with a single vector w and penalty
//! ½‖w‖² has the same solution at half our C: w = w_1 − w_0, ½‖w_0‖² + ½‖w_1‖² = ¼‖w‖²). Weights are kept feature by
//! feature, (features, classes), so that a non-zero of the data touches one contiguous row.
//!
//! Two solvers. `dual` (default): stochastic dual coordinate ascent ([`dual`]); each example keeps a
//! distribution over the classes, and the difference between the primal and the dual objective, the gap, bounds
//! the distance from the optimum. With V lanes it is CoCoA+. `lbfgs`: limited-memory BFGS ([`lbfgs`]), one
//! evaluation a clock, so it needs `allreduce` (or one lane) and one clock per epoch.
//!
//! Which strategies: over lanes the dual solver relies on ‖Σ_v u_v‖² ≤ V Σ ‖u_v‖² over the updates that are in
//! flight together. Lock-step keeps these to one clock of V lanes. Under `ssp`, `essp` and `asp` up to S + 1
//! clocks are in flight, the bound would need a scale of V (S + 1) that the mean over V lanes does not undo, and
//! ascent is not assured, so they are not offered.

mod details;
pub(crate) mod double;
pub mod dual;
pub(crate) mod kernel;
pub mod lbfgs;
mod measure;
#[cfg(test)]
pub(crate) mod tests;

use crate::linear::{check, check_rows, mean_of, weights_text};
use dual::{Duals, Pass};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names};
use dunlin::isa::{self, Isa};
use dunlin::{Algorithm, Block, Error, Merge, Params, Result, Shape, Sums, TableSpec, Unit};
use kernel::{Rows, dispatch_width};
use measure::Measure;
use serde::{Deserialize, Serialize};

/// Settings of [`Softmax`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// C, the weight of the loss against the penalty ½‖W‖²; the loss is a sum, not a mean, over examples.
    /// Above 0, at most 10⁹. Default 1.
    pub c: f64,
    /// Adds a constant column of ones, whose weights (the last row of the table) are the biases. They are
    /// penalised like all others, which keeps the dual without constraints across examples; scale the features
    /// down (and C up) if that matters. Default false.
    pub bias: bool,
    /// `dual` or `lbfgs`. Default `dual`.
    pub solver: Solver,
    /// The run has converged when the relative duality gap (primal − dual) / primal is at most this. Above 0,
    /// below 1; single precision allows about 10⁻⁶. Default 0.001.
    pub tolerance: f64,
    /// For `lbfgs`: how many steps it remembers, 1 to 100; each costs two copies of the weights. Default 10.
    pub history: usize,
}

/// How the optimum is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// Stochastic dual coordinate ascent.
    Dual,
    /// Limited-memory BFGS, one evaluation of the whole data a clock.
    Lbfgs,
}

impl Default for Config {
    fn default() -> Config {
        Config { c: 1.0, bias: false, solver: Solver::Dual, tolerance: 1e-3, history: 10 }
    }
}

/// Multinomial logistic regression.
#[derive(Clone, Debug)]
pub struct Softmax {
    config: Config,
    /// Columns of the data.
    features: usize,
    classes: usize,
    isa: Isa,
}

/// Number of the table of weights: (features + bias, classes).
pub const WEIGHTS: usize = 0;

impl Softmax {
    /// Rows of the table of weights.
    fn rows(&self) -> usize {
        self.features + usize::from(self.config.bias)
    }

    /// The row of the bias.
    fn bias(&self) -> Option<usize> {
        self.config.bias.then_some(self.features)
    }

    fn diverged(&self, what: &str) -> Error {
        Error::Diverged(format!(
            "softmax: {what}; scale the features down, lower `c` (it is {}), or take solver=lbfgs",
            self.config.c
        ))
    }

    fn dual_pass(&self, unit: &Unit, params: &mut Params, duals: &mut Duals) -> Result<()> {
        let Some((rows, classes)) = Rows::new(unit.block) else { return Ok(()) };
        let mut order: Vec<u32> = (0..classes.len() as u32).collect();
        unit.rng("softmax order").shuffle(&mut order);
        let weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        let pass = Pass {
            rows,
            labels: classes,
            order: &order,
            duals,
            weights,
            classes: self.classes,
            bias: self.bias(),
            c: self.config.c as f32,
            scale: unit.lanes as f32,
            least_move: dual::least_move(self.config.tolerance),
        };
        let (block, epoch) = (unit.block.id, unit.epoch);
        match dispatch_width(self.isa, stride, pass) {
            None => Err(self
                .diverged(&format!("scores of block {block} are no finite numbers in epoch {epoch}"))),
            // All duals start one step from where they are wanted.
            Some(false) if epoch == 0 && is_zero(params) => Err(self.diverged(&format!(
                "no weight has moved after the first pass over block {block}: single precision cannot hold its steps"
            ))),
            Some(_) => Ok(()),
        }
    }
}

/// True while no weight has moved.
fn is_zero(params: &Params) -> bool {
    params.table::<f32>(WEIGHTS).flat().iter().all(|weight| *weight == 0.0)
}

impl Algorithm for Softmax {
    const NAME: &'static str = "softmax";
    const ABOUT: &'static str = "multinomial logistic regression, C Σ loss + ½‖W‖², by dual ascent or L-BFGS";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::Bsp, StrategyKind::AllReduce];
    const DIVERGED_ADVICE: &'static str = "scale the features down or lower `c`";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Duals;

    fn new(config: &Config, shape: &Shape) -> Result<Softmax> {
        let usage = |text: String| Err(Error::Usage(format!("softmax: {text}")));
        check("softmax", config.c, config.tolerance, shape)?;
        if !(1..=100).contains(&config.history) {
            return usage(format!("history = {}; allowed: 1 to 100", config.history));
        }
        let isa = isa::level();
        let (features, classes) = (shape.columns, shape.classes.len());
        Ok(Softmax { config: config.clone(), features, classes, isa })
    }

    fn tables(&self) -> Vec<TableSpec> {
        match self.config.solver {
            Solver::Dual => {
                vec![TableSpec::new("weights", self.rows(), self.classes).merge(Merge::Mean)]
            }
            Solver::Lbfgs => lbfgs::tables(self.rows(), self.classes, self.config.history),
        }
    }

    fn begin(&self, unit: &Unit, params: &mut Params, _: Option<Duals>) -> Result<Duals> {
        check_rows("softmax", unit.block, self.features, self.classes)?;
        let (Solver::Dual, Some((mut rows, classes))) = (self.config.solver, Rows::new(unit.block)) else {
            return Ok(Duals::default());
        };
        let stride = params.table::<f32>(WEIGHTS).stride();
        Ok(Duals::start(&mut rows, classes, stride, self.config.bias))
    }

    fn step(&self, unit: &Unit, params: &mut Params, duals: &mut Duals, sums: &mut Sums) -> Result<()> {
        match self.config.solver {
            Solver::Dual => self.dual_pass(unit, params, duals),
            Solver::Lbfgs => lbfgs::evaluate(self, unit, params, sums),
        }
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        match self.config.solver {
            Solver::Dual => Ok(()),
            Solver::Lbfgs => lbfgs::end_clock(self, sums, params),
        }
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Duals>, sums: &mut Sums) {
        let Some((rows, classes)) = Rows::new(block) else { return };
        let weights = params.table::<f32>(WEIGHTS);
        let probabilities = local.map_or(&[][..], |duals| &duals.probabilities);
        let measure = Measure {
            rows,
            labels: classes,
            probabilities,
            weights,
            classes: self.classes,
            bias: self.bias(),
            each: |_: usize, _: &[f32]| {},
        };
        let found = dispatch_width(self.isa, weights.stride(), measure);
        sums.add("rows", classes.len() as f64);
        sums.add("known", found.known as f64);
        sums.add("correct", found.correct as f64);
        sums.add("loss", found.loss);
        sums.add("entropy", found.entropy);
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let flat = params.table::<f32>(WEIGHTS).flat();
        let penalty = 0.5 * lbfgs::inner(self.isa, flat, flat);
        let primal = self.config.c * train.get("loss") + penalty;
        let dual = match self.config.solver {
            Solver::Dual => self.config.c * train.get("entropy") - penalty,
            Solver::Lbfgs => lbfgs::lower_bound(params),
        };
        let mut metrics = vec![
            ("train_objective", primal),
            ("dual_objective", dual),
            ("relative_gap", (primal - dual) / primal.abs().max(f64::MIN_POSITIVE)),
            ("train_accuracy", train.get("correct") / train.get("rows").max(1.0)),
        ];
        if let Some(test) = test {
            metrics.extend(mean_of("test_accuracy", test.get("correct"), test.get("rows")));
            metrics.extend(mean_of("test_log_loss", test.get("loss"), test.get("known")));
        }
        metrics
    }

    fn converged(&self, metrics: &[(&'static str, f64)]) -> bool {
        metrics.iter().any(|(name, value)| *name == "relative_gap" && *value <= self.config.tolerance)
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Some((rows, classes)) = Rows::new(block) else {
            return Err(Error::Data(format!("softmax: block {} holds no labelled rows", block.id)));
        };
        let weights = params.table::<f32>(WEIGHTS);
        let each = |row: usize, probabilities: &[f32]| out(row, probabilities);
        let (known, bias) = (self.classes, self.bias());
        let measure =
            Measure { rows, labels: classes, probabilities: &[], weights, classes: known, bias, each };
        dispatch_width(self.isa, weights.stride(), measure);
        Ok(())
    }

    /// `weights.tsv`: of every class the features with the 20 largest and the 20 smallest weights.
    fn readable(&self, shape: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let columns: Vec<(usize, usize)> = (0..self.classes).map(|class| (class, class)).collect();
        out("weights.tsv", weights_text(shape, names, params.table(WEIGHTS), self.bias(), &columns));
    }
}
