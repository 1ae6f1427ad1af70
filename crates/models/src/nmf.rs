//! Non-negative matrix factorisation: rows as sums of few non-negative components.
//!
//! ```text
//! F(W, H) = ½ ‖X − W H‖² + l1 (Σ W + Σ H) + ½ l2 (‖W‖² + ‖H‖²),   W ≥ 0 (rows, K), H ≥ 0 (K, features)
//! ```
//!
//! A clock is a pass over all rows: every lane improves the weights W of its rows, given H, and adds up WᵀW and WᵀX;
//! `end_clock` sees the sums of all lanes and improves H, given W. Both halves are one problem (`nmf/sweep.rs`),
//! solved by `inner` sweeps, since X is touched once however many there are (Gillis and Glineur 2012).
//! `hals`: exact minimisation of one component after another (Cichocki and Phan 2009). `multiplicative`: the steps of
//! Lee and Seung (2001). X is never made dense, and ‖X − W H‖² = ‖X‖² − 2 ⟨WᵀX, H⟩ + ⟨WᵀW, H Hᵀ⟩.
//!
//! The start is |normal| noise of the mean of X, as scikit-learn's `random`. A component that no row uses, or that is
//! all zero, becomes the row that fits worst (`factors/seed.rs`).

mod details;
mod product;
mod sweep;
#[cfg(test)]
mod tests;

use crate::factors::{Seed, flat, top_features, without_zeros, worst};
use crate::rows::Rows;
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names, ReadOptions};
use dunlin::table::{Init, Type};
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use product::{add_products, products};
use serde::{Deserialize, Serialize};
use sweep::{Problem, sweep};

/// Number of the table of components, Hᵀ: (features, K).
pub const COMPONENTS: usize = 0;
/// WᵀX during a clock, transposed: (features, K).
const TOTALS: usize = 1;
/// WᵀW during a clock: (K, K).
const SQUARES: usize = 2;
/// H Hᵀ: (K, K).
const GRAM: usize = 3;
/// A row for a component without use: (features, 1).
const SEED: usize = 4;
/// Σ X, ‖X‖², the objective, ‖X − W H‖², components without use, error of the row in [`SEED`], 1 once started.
const STATE: usize = 5;

const TOTAL: usize = 0;
const SQUARE: usize = 1;
const OBJECTIVE: usize = 2;
const ERROR: usize = 3;
const UNUSED: usize = 4;
const SEED_ERROR: usize = 5;
const STARTED: usize = 6;

const FRESH: Seed = Seed { table: SEED, state: STATE, place: SEED_ERROR };

/// Elements of the components that are refused: 1 GiB, and 2 GiB of totals.
const MOST_ELEMENTS: usize = 1 << 28;
/// Sweeps for the weights of rows that are not learned from.
const TEST_SWEEPS: usize = 50;
/// Components of which a person wants to read.
const MOST_READABLE: usize = 10_000;
/// A row whose error is a smaller share of it fits.
const FITS: f64 = 1e-6;

/// Settings of [`Nmf`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of components K, 1 to the smaller of rows and features. Default 10.
    pub components: usize,
    /// `hals` or `multiplicative`. Default `hals`.
    pub solver: Solver,
    /// Sweeps over W, and over H, in a clock, 1 to 100. Default 4.
    pub inner: usize,
    /// Weight of Σ W + Σ H, at least 0. Default 0.
    pub l1: f64,
    /// Weight of ½ (‖W‖² + ‖H‖²), at least 0. Default 0.
    pub l2: f64,
}

/// How W and H are improved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// Exact minimisation of one component after another.
    Hals,
    /// Lee and Seung's factors.
    Multiplicative,
}

impl Default for Config {
    fn default() -> Config {
        Config { components: 10, solver: Solver::Hals, inner: 4, l1: 0.0, l2: 0.0 }
    }
}

/// Non-negative matrix factorisation.
#[derive(Clone, Debug)]
pub struct Nmf {
    config: Config,
    rows: usize,
    features: usize,
}

/// W of a block's rows: (rows, K).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weights(Vec<f32>);

impl Nmf {
    /// The problem of either half: what is multiplied by `gram` is found.
    fn problem<'a>(&self, gram: &'a [f32], solver: Solver, sweeps: usize) -> Problem<'a> {
        let (l1, l2) = (self.config.l1 as f32, self.config.l2 as f32);
        Problem { gram, width: self.config.components, solver, sweeps, l1, l2 }
    }

    /// Weights of rows that are not learned from, and Hᵀx of each: (rows, K) and (rows, stride).
    fn fit(&self, rows: Rows, params: &Params) -> (Vec<f32>, Vec<f32>) {
        let width = self.config.components;
        let linear = products(rows, params.table(COMPONENTS), width);
        let mut weights = vec![0.0; rows.count() * width];
        let gram = narrow(&flat(params.table(GRAM)));
        let problem = self.problem(&gram, Solver::Hals, TEST_SWEEPS);
        sweep(&problem, &linear, params.table::<f32>(COMPONENTS).stride(), &mut weights, width);
        (weights, linear)
    }

    /// ‖x − wH‖² of every row.
    fn errors<'a>(
        &self,
        rows: Rows<'a>,
        weights: &'a [f32],
        linear: &'a [f32],
        gram: &'a [f64],
    ) -> impl Iterator<Item = f64> + use<'a> {
        let width = self.config.components;
        let stride = linear.len() / rows.count().max(1);
        (0..rows.count()).map(move |row| {
            let (own, linear) = (&weights[row * width..][..width], &linear[row * stride..]);
            let mut error = rows.square(row);
            for ((weight, linear), gram) in own.iter().zip(linear).zip(gram.chunks_exact(width)) {
                let weight = f64::from(*weight);
                if weight != 0.0 {
                    let both: f64 = gram.iter().zip(own).map(|(gram, other)| gram * f64::from(*other)).sum();
                    error += weight * (both - 2.0 * f64::from(*linear));
                }
            }
            error.max(0.0)
        })
    }

    /// After the rounds of `begin`: the noise becomes components of the right size.
    fn start(&self, params: &mut Params) {
        let scale = self.scale(params) as f32;
        let mut components = params.table_mut::<f32>(COMPONENTS);
        for feature in 0..self.features {
            components.row_mut(feature).iter_mut().for_each(|value| *value = scale * value.abs());
        }
        self.renew_gram(params);
        let square = params.table::<f64>(STATE).row(0)[SQUARE];
        let mut state = params.table_mut::<f64>(STATE);
        let state = state.row_mut(0);
        (state[OBJECTIVE], state[ERROR], state[STARTED]) = (0.5 * square, square, 1.0);
    }

    /// √(mean of X / K).
    fn scale(&self, params: &Params) -> f64 {
        let total = params.table::<f64>(STATE).row(0)[TOTAL];
        (total / self.rows as f64 / self.features as f64 / self.config.components as f64).sqrt()
    }

    fn renew_gram(&self, params: &mut Params) {
        let (table, width) = (params.table::<f32>(COMPONENTS), self.config.components);
        let mut values = Vec::with_capacity(self.features * width);
        for feature in 0..self.features {
            values.extend_from_slice(table.row(feature));
        }
        let mut gram = params.table_mut::<f64>(GRAM);
        gram.flat_mut().fill(0.0);
        add_products(Rows::Dense { width, values: &values, count: self.features }, &values, &mut gram);
    }

    /// Improves H, given WᵀX and WᵀW.
    fn improve(&self, params: &mut Params) {
        let totals = params.table::<f64>(TOTALS);
        let (stride, squares) = (totals.stride(), narrow(&flat(params.table(SQUARES))));
        let linear = narrow(totals.flat());
        let problem = self.problem(&squares, self.config.solver, self.config.inner);
        let mut components = params.table_mut::<f32>(COMPONENTS);
        let width = components.stride();
        sweep(&problem, &linear, stride, components.flat_mut(), width);
    }

    /// The objective at W and the new H.
    fn weigh(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        let (totals, components) = (params.table::<f64>(TOTALS), params.table::<f32>(COMPONENTS));
        let (mut product, mut total) = (0.0, 0.0);
        for feature in 0..self.features {
            for (sum, value) in totals.row(feature).iter().zip(components.row(feature)) {
                product += sum * f64::from(*value);
                total += f64::from(*value);
            }
        }
        let (squares, gram) = (flat(params.table(SQUARES)), flat(params.table(GRAM)));
        let both: f64 = squares.iter().zip(&gram).map(|(left, right)| left * right).sum();
        let width = self.config.components + 1;
        let traces: f64 = squares.iter().step_by(width).chain(gram.iter().step_by(width)).sum();
        let Config { l1, l2, .. } = self.config;
        let mut state = params.table_mut::<f64>(STATE);
        let state = state.row_mut(0);
        state[ERROR] = (state[SQUARE] - 2.0 * product + both).max(0.0);
        state[OBJECTIVE] = 0.5 * state[ERROR] + l1 * (sums.get("weights") + total) + 0.5 * l2 * traces;
        match state[OBJECTIVE].is_finite() {
            true => Ok(()),
            false => Err(Error::Diverged("nmf: the objective is no finite number".into())),
        }
    }

    /// Gives the first component without use the seed, if there is one.
    fn reseed(&self, params: &mut Params) {
        let width = self.config.components + 1;
        let (squares, gram) = (flat(params.table(SQUARES)), flat(params.table(GRAM)));
        let diagonals = squares.iter().step_by(width).zip(gram.iter().step_by(width));
        let unused: Vec<usize> =
            diagonals.enumerate().filter(|(_, (w, h))| **w <= 0.0 || **h <= 0.0).map(|(k, _)| k).collect();
        params.table_mut::<f64>(STATE).row_mut(0)[UNUSED] = unused.len() as f64;
        let Some(row) = FRESH.take(params) else { return };
        let Some(first) = unused.first() else { return };
        let mut components = params.table_mut::<f32>(COMPONENTS);
        row.iter().enumerate().for_each(|(feature, value)| components.row_mut(feature)[*first] = *value);
        self.renew_gram(params);
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}

impl Algorithm for Nmf {
    const NAME: &'static str = "nmf";
    const ABOUT: &'static str = "non-negative matrix factorisation, by HALS or multiplicative steps";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::AllReduce];
    const DIVERGED_ADVICE: &'static str = "scale the features down";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Weights;

    fn reading(_: &Config, options: &mut ReadOptions) {
        options.any_labels = true;
    }

    fn new(config: &Config, shape: &Shape) -> Result<Nmf> {
        let usage = |text: String| Err(Error::Usage(format!("nmf: {text}")));
        let (components, rows, features) = (config.components, shape.rows, shape.columns);
        if shape.kind != Kind::Labelled {
            return usage(format!("data of kind {:?}; needed: rows of features (Labelled)", shape.kind));
        }
        if components == 0 || components > rows.min(features) {
            return usage(format!(
                "components = {components}; allowed: 1 to the smaller of {rows} rows and {features} features"
            ));
        }
        if components.saturating_mul(features) > MOST_ELEMENTS {
            return usage(format!("{components} components of {features} features are too much; give fewer"));
        }
        if !(1..=100).contains(&config.inner) {
            return usage(format!("inner = {}; allowed: 1 to 100", config.inner));
        }
        for (name, value) in [("l1", config.l1), ("l2", config.l2)] {
            if !(value.is_finite() && value >= 0.0) {
                return usage(format!("{name} = {value}; allowed: finite, at least 0"));
            }
        }
        Ok(Nmf { config: config.clone(), rows, features })
    }

    fn tables(&self) -> Vec<TableSpec> {
        let (width, features) = (self.config.components, self.features);
        let work = |name: &str, rows, width| TableSpec::new(name, rows, width).axis(Axis::Whole).working();
        let wide = |name: &str, rows, width| work(name, rows, width).element(Type::F64);
        vec![
            TableSpec::new("components", features, width).init(Init::Normal { deviation: 1.0 }),
            wide("nmf_totals", features, width).axis(Axis::Feature),
            wide("nmf_squares", width, width),
            // Kept: predictions need it.
            TableSpec::new("gram", width, width).axis(Axis::Whole).element(Type::F64),
            work("nmf_seed", features, 1).axis(Axis::Feature),
            wide("nmf_state", 1, 7),
        ]
    }

    fn arrange(&self, block: &mut Block, _: u64) {
        without_zeros(block);
    }

    /// Sums first, then weights of their scale.
    fn rounds(&self) -> usize {
        2
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Weights>) -> Result<Weights> {
        let mut rng = unit.rng("nmf weights");
        if local.is_some() {
            let (scale, count) = (self.scale(params), unit.block.rows() * self.config.components);
            return Ok(Weights((0..count).map(|_| (scale * rng.normal().abs()) as f32).collect()));
        }
        let fine = |value: f32| value.is_finite() && value >= 0.0;
        Rows::check(unit.block, "nmf", self.features, fine, "finite numbers of at least 0")?;
        if let Some(rows) = Rows::of(unit.block) {
            let (mut total, mut square) = (0.0, 0.0);
            for row in 0..rows.count() {
                rows.each(row, |_, value| total += f64::from(value));
                square += rows.square(row);
            }
            let mut state = params.table_mut::<f64>(STATE);
            state.row_mut(0)[TOTAL] += total;
            state.row_mut(0)[SQUARE] += square;
        }
        Ok(Weights::default())
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Weights, sums: &mut Sums) -> Result<()> {
        if unit.clock != unit.epoch {
            return Err(Error::Usage("nmf: a clock takes all rows; leave --clocks-per-epoch at 1".into()));
        }
        let Some(rows) = Rows::of(unit.block) else { return Ok(()) };
        let width = self.config.components;
        let stride = params.table::<f32>(COMPONENTS).stride();
        let linear = products(rows, params.table(COMPONENTS), width);
        let wide = flat(params.table(GRAM));
        let problem = narrow(&wide);
        let problem = self.problem(&problem, self.config.solver, self.config.inner);
        sweep(&problem, &linear, stride, &mut local.0, width);
        if unit.lane == 0 && params.table::<f64>(STATE).row(0)[UNUSED] > 0.0 {
            let least = FRESH.error(params);
            let found = worst(self.errors(rows, &local.0, &linear, &wide), least);
            if let Some((row, error)) = found.filter(|(row, error)| *error > FITS * rows.square(*row)) {
                FRESH.put(params, rows, row, error);
            }
        }
        add_products(rows, &local.0, &mut params.table_mut(TOTALS));
        let weights = Rows::Dense { width, values: &local.0, count: rows.count() };
        add_products(weights, &local.0, &mut params.table_mut(SQUARES));
        sums.add("rows", rows.count() as f64);
        sums.add("weights", local.0.iter().map(|weight| f64::from(*weight)).sum());
        Ok(())
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        if sums.get("rows") == 0.0 {
            // The first round of `begin` has added up X.
            if params.table::<f64>(STATE).row(0)[STARTED] == 0.0 {
                self.start(params);
            }
            return Ok(());
        }
        self.improve(params);
        self.renew_gram(params);
        self.weigh(sums, params)?;
        self.reseed(params);
        params.table_mut::<f64>(TOTALS).flat_mut().fill(0.0);
        params.table_mut::<f64>(SQUARES).flat_mut().fill(0.0);
        Ok(())
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Weights>, sums: &mut Sums) {
        // Of training rows all is known from the last clock.
        let (None, Some(rows)) = (local, Rows::of(block)) else { return };
        let (weights, linear) = self.fit(rows, params);
        let wide = flat(params.table(GRAM));
        let Config { l1, l2, .. } = self.config;
        let penalties = weights.iter().map(|w| f64::from(*w)).map(|w| l1 * w + 0.5 * l2 * w * w);
        let errors: f64 = self.errors(rows, &weights, &linear, &wide).sum();
        sums.add("objective", 0.5 * errors + penalties.sum::<f64>());
        sums.add("rows", rows.count() as f64);
    }

    fn metrics(&self, _: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let state = params.table::<f64>(STATE).row(0);
        let relative = if state[SQUARE] > 0.0 { (state[ERROR] / state[SQUARE]).sqrt() } else { 0.0 };
        let mut metrics =
            vec![("train_objective", state[OBJECTIVE] / self.rows as f64), ("relative_error", relative)];
        metrics
            .extend(test.map(|test| ("test_objective", test.get("objective") / test.get("rows").max(1.0))));
        metrics
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let fine = |value: f32| value.is_finite() && value >= 0.0;
        Rows::check(block, "nmf", self.features, fine, "finite numbers of at least 0")?;
        let Some(rows) = Rows::of(block) else { return Ok(()) };
        let (weights, _) = self.fit(rows, params);
        weights.chunks_exact(self.config.components).enumerate().for_each(|(row, weights)| out(row, weights));
        Ok(())
    }

    /// `components.tsv`: a component a line, its length and its ten largest features.
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let mut text = String::from("component\tlength\tlargest features\n");
        for component in 0..self.config.components.min(MOST_READABLE) {
            let length = params.table::<f64>(GRAM).row(component)[component].sqrt();
            let top = top_features(params.table(COMPONENTS), component, 10, |feature| names.column(feature));
            text += &format!("{component}\t{length:.4}{top}\n");
        }
        out("components.tsv", text);
    }
}
