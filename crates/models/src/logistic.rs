//! Logistic regression of two classes, with a quadratic or an absolute penalty.
//!
//! ```text
//! l2:  F(w) = C Σ_i ln(1 + exp(−y_i w·x_i)) + ½ ‖w‖²
//! l1:  F(w) = C Σ_i ln(1 + exp(−y_i w·x_i)) + ‖w‖₁        y_i = 1 for the greater label, −1 for the other
//! ```
//!
//! Four solvers. `newton` ([`newton`]): a clock gathers loss, gradient and a second derivative from some of the
//! rows, and `end_clock` solves for the step, so it needs `allreduce` (or one lane) and one clock an epoch; it takes
//! few passes, and is the only one for `l1`. `dual` ([`dual`]): dual coordinate ascent for `l2`, under `bsp` too; with
//! V lanes it is CoCoA+. `coordinate` ([`scheduled`]): a weight after the other, or some at a time that hardly depend on
//! each other; it is that of `--strategy scheduled`, where `auto` takes it. `proximal` ([`proximal`]): proximal gradient, for
//! `l1` and `l2`; takes more passes, and stale reads: `auto` takes it under `ssp:S`, `essp:S` and `asp`, and under `bsp`
//! for `l1`. Under `allreduce` `auto` takes `newton` for `l1`, and for `l2` where there are at most [`newton::NARROW`] weights and
//! at least as many rows; else `dual`, whose cost does not grow with the square of the columns.
//!
//! All know a lower bound of the optimum, so `relative_gap` bounds the distance from it. Why no bounded staleness for the
//! others: as for [`softmax`](crate::softmax).

mod details;
pub mod dual;
pub mod newton;
mod pass;
pub mod proximal;
pub mod scheduled;
mod step;
#[cfg(test)]
mod tests;

use crate::linear::{check, check_classes, check_rows, weights_text};
use crate::proximal::{Published, delay};
use crate::softmax::kernel::{Rows, dispatch};
use dual::{Duals, Pass};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names, UNKNOWN};
use dunlin::isa::{self, Isa};
use dunlin::{Algorithm, Block, Error, Merge, Params, Result, Shape, Sums, TableSpec, Unit};
use pass::{Entropy, Losses, Margins};
use serde::{Deserialize, Serialize};

/// Settings of [`Logistic`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// C, the weight of the loss, a sum over examples, against the penalty. Above 0, at most 10⁹. Default 1.
    pub c: f64,
    /// `l2` for ½‖w‖², `l1` for ‖w‖₁, which leaves few weights other than zero. Default `l2`.
    pub penalty: Penalty,
    /// Adds a constant column of ones, whose weight (the last row of the table) is the bias, penalised like all
    /// others. Default false.
    pub bias: bool,
    /// `auto`, `newton`, `dual`, `coordinate` or `proximal`. Default `auto`.
    pub solver: Solver,
    /// The run has converged when the relative gap (objective − lower bound) / objective is at most this. Above 0,
    /// below 1; single precision allows about 10⁻⁶. Default 0.001.
    pub tolerance: f64,
}

/// What keeps the weights small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Penalty {
    /// ½‖w‖².
    L2,
    /// ‖w‖₁.
    L1,
}

/// How the optimum is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// What suits penalty, shape and strategy.
    Auto,
    /// Newton's method, one pass over the whole data a clock.
    Newton,
    /// Stochastic dual coordinate ascent; `l2` only.
    Dual,
    /// Coordinate descent, under the strategy `scheduled` only.
    Coordinate,
    /// Proximal gradient: takes more passes, and stale reads.
    Proximal,
}

impl Default for Config {
    fn default() -> Config {
        Config { c: 1.0, penalty: Penalty::L2, bias: false, solver: Solver::Auto, tolerance: 1e-3 }
    }
}

/// Logistic regression of two classes.
#[derive(Clone, Debug)]
pub struct Logistic {
    config: Config,
    /// Never [`Solver::Auto`].
    solver: Solver,
    /// Rows and columns of the data.
    examples: usize,
    features: usize,
    labels: Vec<i64>,
    isa: Isa,
    /// Of `solver=proximal`: clocks that the weights behind a step may be old.
    delay: u64,
}

/// Number of the table of weights: (features + bias, 1).
pub const WEIGHTS: usize = 0;

/// What is kept for a block.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Local {
    /// Of `solver=dual`.
    duals: Duals,
    /// Of `solver=coordinate`.
    scores: scheduled::Scores,
    /// Of `solver=proximal`.
    published: Published,
}

impl Logistic {
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
            "logistic: {what}; scale the features down or lower `c` (it is {})",
            self.config.c
        ))
    }

    /// w·x of every row of the block.
    fn margins(&self, block: &Block, params: &Params) -> Vec<f32> {
        let Some((rows, labels)) = Rows::new(block) else { return Vec::new() };
        let weights = params.table::<f32>(WEIGHTS).flat();
        dispatch(self.isa, Margins { rows, count: labels.len(), weights, bias: self.bias() })
    }

    fn dual_pass(&self, unit: &Unit, params: &mut Params, duals: &mut Duals) -> Result<()> {
        let Some((rows, classes)) = Rows::new(unit.block) else { return Ok(()) };
        let mut order: Vec<u32> = (0..classes.len() as u32).collect();
        unit.rng("logistic order").shuffle(&mut order);
        let pass = Pass {
            rows,
            classes,
            order: &order,
            duals,
            weights: params.table_mut::<f32>(WEIGHTS),
            bias: self.bias(),
            c: self.config.c as f32,
            scale: unit.lanes as f32,
            least_move: dual::least_move(self.config.tolerance),
        };
        if dispatch(self.isa, pass) {
            return Ok(());
        }
        Err(self.diverged(&format!(
            "scores of block {} are no finite numbers in epoch {}",
            unit.block.id, unit.epoch
        )))
    }

    /// What `auto` stands for.
    fn choose(config: &Config, shape: &Shape) -> Solver {
        let weights = shape.columns + usize::from(config.bias);
        match (config.solver, config.penalty) {
            (Solver::Auto, Penalty::L1) => Solver::Newton,
            (Solver::Auto, Penalty::L2) if weights <= newton::NARROW.min(shape.rows) => Solver::Newton,
            (Solver::Auto, Penalty::L2) => Solver::Dual,
            (solver, _) => solver,
        }
    }
}

fn only_scheduled() -> Error {
    Error::Usage("logistic: solver = coordinate is that of --strategy scheduled; allowed elsewhere: auto, newton, dual, proximal".into())
}

impl Algorithm for Logistic {
    const NAME: &'static str = "logistic";
    const ABOUT: &'static str = "logistic regression of two classes, penalty ½‖w‖² or ‖w‖₁, by Newton's method, dual ascent or proximal gradient";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[
        StrategyKind::AllReduce,
        StrategyKind::Bsp,
        StrategyKind::Scheduled,
        StrategyKind::Ssp,
        StrategyKind::Essp,
        StrategyKind::Asp,
    ];
    /// Dual ascent wants the rows of a lane in random order, not block after block (as [`crate::svm`] measures).
    const BLOCKS_PER_LANE: Option<usize> = Some(1);
    const DIVERGED_ADVICE: &'static str = "scale the features down or lower `c`";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Local;

    fn new(config: &Config, shape: &Shape) -> Result<Logistic> {
        let usage = |text: String| Err(Error::Usage(format!("logistic: {text}")));
        check("logistic", config.c, config.tolerance, shape)?;
        let given = &shape.classes;
        if given.len() > 2 {
            return usage(format!("{} classes; it tells two apart, softmax any number", given.len()));
        }
        let solver = Logistic::choose(config, shape);
        if config.penalty == Penalty::L1 && solver == Solver::Dual {
            return usage(
                "solver = dual takes penalty = l2; allowed for l1: proximal, newton or auto".into(),
            );
        }
        let weights = shape.columns + usize::from(config.bias);
        if config.penalty == Penalty::L2 && solver == Solver::Newton && weights > newton::MOST_L2 {
            return usage(format!(
                "solver = newton with {weights} weights; allowed for l2: at most {}, or solver = dual",
                newton::MOST_L2
            ));
        }
        let (config, labels, isa) = (config.clone(), given.clone(), isa::level());
        Ok(Logistic { config, solver, examples: shape.rows, features: shape.columns, labels, isa, delay: 1 })
    }

    fn under(&mut self, strategy: StrategyKind, staleness: Option<u64>) -> Result<()> {
        use StrategyKind::{AllReduce, Bsp, Scheduled};
        let refuse =
            |text: &str| Err(Error::Usage(format!("logistic: --strategy {}: {text}", strategy.word())));
        self.delay = delay(staleness);
        match (strategy, self.config.solver) {
            (Scheduled, Solver::Auto | Solver::Coordinate) => self.solver = Solver::Coordinate,
            (Scheduled, _) => return refuse("it goes by solver = coordinate or auto"),
            (_, Solver::Coordinate) => return Err(only_scheduled()),
            (AllReduce, _) | (_, Solver::Proximal) => {}
            (Bsp, Solver::Auto) if self.solver == Solver::Newton => {
                self.solver = match self.config.penalty {
                    Penalty::L1 => Solver::Proximal,
                    Penalty::L2 => Solver::Dual,
                }
            }
            (Bsp, _) => {}
            (_, Solver::Auto) => self.solver = Solver::Proximal,
            _ => return refuse("newton and dual take no stale reads; allowed: solver = proximal or auto"),
        }
        Ok(())
    }

    fn tables(&self) -> Vec<TableSpec> {
        match self.solver {
            Solver::Coordinate => scheduled::tables(self),
            Solver::Proximal => proximal::tables(self),
            Solver::Dual => vec![TableSpec::new("weights", self.rows(), 1).merge(Merge::Mean)],
            _ => newton::tables(self),
        }
    }

    fn check(&self, blocks: &[&Block], _: u64) -> Result<()> {
        check_classes("logistic", blocks, &self.labels)
    }

    fn rounds(&self) -> usize {
        if self.solver == Solver::Proximal { proximal::rounds() } else { 1 }
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Local>) -> Result<Local> {
        if unit.epoch > 0 {
            proximal::power(self, unit, params);
            return Ok(local.unwrap_or_default());
        }
        check_rows("logistic", unit.block, self.features, 2)?;
        let (Solver::Dual, Some((mut rows, classes))) = (self.solver, Rows::new(unit.block)) else {
            return Ok(Local::default());
        };
        let duals = Duals::start(&mut rows, classes.len(), self.config.bias);
        Ok(Local { duals, ..Local::default() })
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Local, sums: &mut Sums) -> Result<()> {
        match self.solver {
            Solver::Dual => self.dual_pass(unit, params, &mut local.duals),
            Solver::Coordinate => Err(only_scheduled()),
            Solver::Proximal => {
                proximal::take(self, unit, params, local);
                Ok(())
            }
            _ => newton::evaluate(self, unit, params, sums),
        }
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        match self.solver {
            Solver::Dual | Solver::Coordinate | Solver::Proximal => Ok(()),
            _ => newton::end_clock(self, sums, params),
        }
    }

    fn scheduled(&self) -> Option<&dyn dunlin::schedule::Scheduled<Local>> {
        (self.solver == Solver::Coordinate).then_some(self)
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Local>, sums: &mut Sums) {
        let Some((_, classes)) = Rows::new(block) else { return };
        let mut margins = self.margins(block, params);
        let right = |(margin, class): &(&f32, &u32)| u32::from(**margin > 0.0) == **class;
        let correct = margins.iter().zip(classes).filter(right).count();
        let known = classes.iter().filter(|class| **class != UNKNOWN).count();
        let loss = dispatch(self.isa, Losses { margins: &mut margins, classes, rates: &mut [] });
        sums.add("rows", classes.len() as f64);
        sums.add("known", known as f64);
        sums.add("correct", correct as f64);
        sums.add("loss", loss);
        if let Some(local) = local {
            sums.add("entropy", dispatch(self.isa, Entropy(&local.duals.logits)));
        }
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let weights = params.table::<f32>(WEIGHTS).flat();
        let square = 0.5 * weights.iter().map(|w| f64::from(*w) * f64::from(*w)).sum::<f64>();
        let penalty = match self.config.penalty {
            Penalty::L2 => square,
            Penalty::L1 => weights.iter().map(|w| f64::from(w.abs())).sum(),
        };
        let primal = self.config.c * train.get("loss") + penalty;
        let dual = match self.solver {
            Solver::Dual => self.config.c * train.get("entropy") - square,
            Solver::Coordinate => train.get("bound"),
            Solver::Proximal => proximal::lower_bound(self, params),
            _ => newton::lower_bound(params),
        };
        let mut metrics = vec![
            ("train_objective", primal),
            ("dual_objective", dual),
            ("relative_gap", (primal - dual) / primal.abs().max(f64::MIN_POSITIVE)),
            ("nonzeros", weights.iter().filter(|w| **w != 0.0).count() as f64),
            ("train_accuracy", train.get("correct") / train.get("rows").max(1.0)),
        ];
        if let Some(test) = test {
            metrics.push(("test_accuracy", test.get("correct") / test.get("rows").max(1.0)));
            metrics.push(("test_log_loss", test.get("loss") / test.get("known").max(1.0)));
        }
        metrics
    }

    fn converged(&self, metrics: &[(&'static str, f64)]) -> bool {
        metrics.iter().any(|(name, value)| *name == "relative_gap" && *value <= self.config.tolerance)
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        if Rows::new(block).is_none() {
            return Err(Error::Data(format!("logistic: block {} holds no labelled rows", block.id)));
        }
        for (row, margin) in self.margins(block, params).into_iter().enumerate() {
            out(row, &[pass::sigmoid(-margin), pass::sigmoid(margin)]);
        }
        Ok(())
    }

    /// `weights.tsv`: the features with the 20 largest and the 20 smallest weights of the greater label.
    fn readable(&self, shape: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        out("weights.tsv", weights_text(shape, names, params.table(WEIGHTS), self.bias(), &[(1, 0)]));
    }
}
