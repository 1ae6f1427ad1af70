//! Linear support vector machines by dual coordinate ascent.
//!
//! ```text
//! F(w) = C Σ_i ξ(1 − y_i w·x_i) + ½ ‖w‖²        ξ(t) = max(0, t) (hinge) or its square (squared_hinge)
//! ```
//!
//! Two classes have one w, y = 1 for the greater label. More have one w each, against all others (y = 1 for the
//! class's own rows), and F is the sum over classes; all are trained in one pass over the data.
//!
//! The method is Hsieh et al. 2008: rows in random order, one dual at a time, exactly ([`ascent`]); the difference
//! between the primal and the dual objective bounds the distance from the optimum. With V lanes it is CoCoA+, as in
//! [`softmax`](crate::softmax), where it also says why bounded staleness is not offered.

pub mod ascent;
mod details;
#[cfg(test)]
mod tests;

use crate::linear::{check, check_classes, check_rows, weights_text};
use crate::softmax::kernel::{Rows, dispatch_width};
use ascent::{Duals, Measure, Pass};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names};
use dunlin::isa::{self, Isa};
use dunlin::{Algorithm, Block, Error, Merge, Params, Result, Shape, Sums, TableSpec, Unit};
use serde::{Deserialize, Serialize};

/// Settings of [`Svm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// C, the weight of the loss, a sum over examples, against ½‖w‖². Above 0, at most 10⁹. Default 1.
    pub c: f64,
    /// `hinge` or `squared_hinge`. Default `squared_hinge`, which converges faster.
    pub loss: Loss,
    /// Adds a constant column of ones, whose weights (the last row of the table) are the biases, penalised like
    /// all others. Default false.
    pub bias: bool,
    /// The run has converged when the relative duality gap (primal − dual) / primal is at most this. Above 0,
    /// below 1; single precision allows about 10⁻⁶. Default 0.001.
    pub tolerance: f64,
}

/// What a row costs that is not on its side with a margin of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// max(0, 1 − y w·x).
    Hinge,
    /// Its square.
    SquaredHinge,
}

impl Default for Config {
    fn default() -> Config {
        Config { c: 1.0, loss: Loss::SquaredHinge, bias: false, tolerance: 1e-3 }
    }
}

/// Linear support vector machines.
#[derive(Clone, Debug)]
pub struct Svm {
    config: Config,
    features: usize,
    labels: Vec<i64>,
    isa: Isa,
}

/// Number of the table of weights: (features + bias, 1 or classes).
pub const WEIGHTS: usize = 0;

impl Svm {
    /// Rows of the table of weights.
    fn rows(&self) -> usize {
        self.features + usize::from(self.config.bias)
    }

    /// Its columns: one for two classes, else one a class.
    fn columns(&self) -> usize {
        if self.labels.len() == 2 { 1 } else { self.labels.len() }
    }

    /// The row of the bias.
    fn bias(&self) -> Option<usize> {
        self.config.bias.then_some(self.features)
    }

    /// The largest dual, and what the loss adds to the curvature.
    fn limits(&self) -> (f32, f32) {
        match self.config.loss {
            Loss::Hinge => (self.config.c as f32, 0.0),
            Loss::SquaredHinge => (f32::INFINITY, (0.5 / self.config.c) as f32),
        }
    }
}

impl Algorithm for Svm {
    const NAME: &'static str = "svm";
    const ABOUT: &'static str =
        "linear support vector machines, hinge or squared hinge, by dual coordinate ascent";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::Bsp, StrategyKind::AllReduce];
    /// Dual ascent wants the rows of a lane in random order, not block after block: with 32 blocks, a9a with the squared
    /// hinge takes twelve times as many epochs to a gap of 0.001 as with one.
    const BLOCKS_PER_LANE: Option<usize> = Some(1);
    const DIVERGED_ADVICE: &'static str = "scale the features down or lower `c`";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Duals;

    fn new(config: &Config, shape: &Shape) -> Result<Svm> {
        check("svm", config.c, config.tolerance, shape)?;
        let (features, labels) = (shape.columns, shape.classes.clone());
        Ok(Svm { config: config.clone(), features, labels, isa: isa::level() })
    }

    fn tables(&self) -> Vec<TableSpec> {
        vec![TableSpec::new("weights", self.rows(), self.columns()).merge(Merge::Mean)]
    }

    fn check(&self, blocks: &[&Block], _: u64) -> Result<()> {
        check_classes("svm", blocks, &self.labels)
    }

    fn begin(&self, unit: &Unit, params: &mut Params, _: Option<Duals>) -> Result<Duals> {
        check_rows("svm", unit.block, self.features, self.labels.len())?;
        let Some((mut rows, classes)) = Rows::new(unit.block) else { return Ok(Duals::default()) };
        let stride = params.table::<f32>(WEIGHTS).stride();
        Ok(Duals::start(&mut rows, classes.len(), stride, self.config.bias))
    }

    fn step(&self, unit: &Unit, params: &mut Params, duals: &mut Duals, _: &mut Sums) -> Result<()> {
        let Some((rows, classes)) = Rows::new(unit.block) else { return Ok(()) };
        let order = duals.awake(unit.epoch, &mut unit.rng("svm order"));
        let weights = params.table_mut::<f32>(WEIGHTS);
        let stride = weights.stride();
        let (most, curvature) = self.limits();
        let pass = Pass {
            rows,
            classes,
            order: &order,
            duals,
            weights,
            columns: self.columns(),
            bias: self.bias(),
            most,
            curvature,
            scale: unit.lanes as f32,
        };
        if dispatch_width(self.isa, stride, pass) {
            return Ok(());
        }
        Err(Error::Diverged(format!(
            "svm: scores of block {} are no finite numbers in epoch {}; scale the features down or lower `c` (it is {})",
            unit.block.id, unit.epoch, self.config.c
        )))
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Duals>, sums: &mut Sums) {
        let Some((rows, classes)) = Rows::new(block) else { return };
        let weights = params.table::<f32>(WEIGHTS);
        let (columns, bias) = (self.columns(), self.bias());
        let measure = Measure { rows, classes, weights, columns, bias, each: |_: usize, _: &[f32]| {} };
        let found = dispatch_width(self.isa, weights.stride(), measure);
        sums.add("rows", classes.len() as f64);
        sums.add("correct", found.correct as f64);
        sums.add(
            "loss",
            match self.config.loss {
                Loss::Hinge => found.hinge,
                Loss::SquaredHinge => found.squared,
            },
        );
        if let Some(duals) = local {
            let (_, curvature) = self.limits();
            sums.add("duals", duals.value(columns, weights.stride(), f64::from(curvature)));
        }
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let flat = params.table::<f32>(WEIGHTS).flat();
        let penalty = 0.5 * flat.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>();
        let primal = self.config.c * train.get("loss") + penalty;
        let dual = train.get("duals") - penalty;
        let accuracy = |sums: &Sums| sums.get("correct") / sums.get("rows").max(1.0);
        let mut metrics = vec![
            ("train_objective", primal),
            ("dual_objective", dual),
            ("relative_gap", (primal - dual) / primal.abs().max(f64::MIN_POSITIVE)),
            ("train_accuracy", accuracy(train)),
        ];
        metrics.extend(test.map(|test| ("test_accuracy", accuracy(test))));
        metrics
    }

    fn converged(&self, metrics: &[(&'static str, f64)]) -> bool {
        metrics.iter().any(|(name, value)| *name == "relative_gap" && *value <= self.config.tolerance)
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Some((rows, classes)) = Rows::new(block) else {
            return Err(Error::Data(format!("svm: block {} holds no labelled rows", block.id)));
        };
        let weights = params.table::<f32>(WEIGHTS);
        let each = |row: usize, margins: &[f32]| out(row, margins);
        let (columns, bias) = (self.columns(), self.bias());
        dispatch_width(self.isa, weights.stride(), Measure { rows, classes, weights, columns, bias, each });
        Ok(())
    }

    /// `weights.tsv`: of every class (of two: of the greater label) the features with the 20 largest and the 20
    /// smallest weights.
    fn readable(&self, shape: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let two = self.columns() == 1;
        let columns: Vec<(usize, usize)> =
            (0..self.columns()).map(|column| (if two { 1 } else { column }, column)).collect();
        out("weights.tsv", weights_text(shape, names, params.table(WEIGHTS), self.bias(), &columns));
    }
}
