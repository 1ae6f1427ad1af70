//! Sparse coding: rows as sums of few atoms of a learned dictionary (Mairal, Bach, Ponce and Sapiro 2009).
//!
//! ```text
//! F(D) = 1/n Σ_i min_a ½ ‖x_i − D a‖² + λ ‖a‖₁,   D (features, K), ‖d_k‖ ≤ 1
//! ```
//!
//! A clock is a mini-batch over all lanes. Every lane finds the codes of its rows by coordinate descent against DᵀD
//! (`sparse_coding/code.rs`) and adds up A += a aᵀ and B += x aᵀ; `end_clock` sees the sums of all lanes, and moves
//! atom after atom to the least of ½ tr(DᵀD A) − tr(DᵀB), back into the ball: d_k ← (b_k − D a_k) / A_kk + d_k. Then A
//! and B of the past are scaled by (1 − 1/t)^ρ, t the clock.
//!
//! Only `allreduce` offers `end_clock`. Under `bsp` and its kin the same objective would be descended by gradients of D
//! alone, without the curvature A: another algorithm, with a step size to choose.
//!
//! Atoms start as rows of the data. One that no code has used becomes the row that fits worst (`factors/seed.rs`).

mod code;
mod details;
#[cfg(test)]
mod tests;

use crate::factors::{Seed, add_products, flat, gram, products, top_features, without_zeros, worst};
use crate::rows::Rows;
use code::{Codes, codes};
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Kind, Names, ReadOptions};
use dunlin::rng::stream;
use dunlin::table::Type;
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Number of the table of atoms: (features, K).
pub const ATOMS: usize = 0;
/// B: (features, K).
const TOTALS: usize = 1;
/// A: (K, K).
const SQUARES: usize = 2;
/// DᵀD: (K, K).
const GRAM: usize = 3;
/// A row for an atom without use: (features, 1).
const SEED: usize = 4;
/// Clocks so far, atoms without use, error of the row in [`SEED`].
const STATE: usize = 5;

const CLOCKS: usize = 0;
const UNUSED: usize = 1;
const SEED_ERROR: usize = 2;

const FRESH: Seed = Seed { table: SEED, state: STATE, place: SEED_ERROR };

/// Elements of the atoms that are refused: 1 GiB, and 2 GiB of totals.
const MOST_ELEMENTS: usize = 1 << 28;
/// Atoms of which a person wants to read.
const MOST_READABLE: usize = 10_000;
/// A row whose error is a smaller share of it fits.
const FITS: f64 = 1e-6;
/// An atom whose part in A is below this share of the largest is without use.
const RARELY: f64 = 1e-9;

/// Settings of [`SparseCoding`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of atoms K, 1 to the number of rows. Default 32.
    pub atoms: usize,
    /// Weight λ of ‖a‖₁, above 0, in the unit of the features. Default 1.
    pub lambda: f64,
    /// Rows in a mini-batch over all lanes, made of whole blocks; 0 for all. Default 512.
    pub batch: usize,
    /// ρ, at least 0: how fast the codes of past clocks are forgotten; 0 for never. Default 2.
    pub forgetting: f64,
    /// A code is found once no coordinate moves by more than this share of the largest, above 0 and below 1. Default
    /// 0.0001.
    pub tolerance: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config { atoms: 32, lambda: 1.0, batch: 512, forgetting: 2.0, tolerance: 1e-4 }
    }
}

/// Sparse coding with a learned dictionary.
#[derive(Clone, Debug)]
pub struct SparseCoding {
    config: Config,
    rows: usize,
    features: usize,
}

impl SparseCoding {
    /// The codes of all rows under the current dictionary.
    fn codes(&self, rows: Rows, params: &Params) -> Codes {
        let atoms = params.table::<f32>(ATOMS);
        let gram: Vec<f32> = flat(params.table(GRAM)).iter().map(|value| *value as f32).collect();
        let Config { lambda, tolerance, .. } = self.config;
        codes(
            &products(rows, atoms),
            atoms.stride(),
            &gram,
            self.config.atoms,
            lambda as f32,
            tolerance as f32,
        )
    }

    /// The least of the objective over the codes of each row, and Σ over rows of non-zeros.
    fn weigh(&self, rows: Rows, codes: &Codes, sums: &mut Sums) {
        let width = self.config.atoms;
        let (mut objective, mut nonzeros) = (0.0, 0usize);
        for (row, code) in codes.values.chunks_exact(width).enumerate() {
            let size: f64 = code.iter().map(|value| f64::from(value.abs())).sum();
            objective += 0.5 * codes.error(row, rows.square(row)) + self.config.lambda * size;
            nonzeros += code.iter().filter(|value| **value != 0.0).count();
        }
        sums.add("objective", objective);
        sums.add("nonzeros", nonzeros as f64);
        sums.add("rows", rows.count() as f64);
    }

    /// Atom after atom, atoms as rows: (K, features).
    fn improve(&self, params: &mut Params) -> Vec<usize> {
        let (width, features) = (self.config.atoms, self.features);
        let squares = flat(params.table(SQUARES));
        let largest = squares.iter().step_by(width + 1).copied().fold(0.0, f64::max);
        let mut atoms = vec![0.0f64; width * features];
        let mut totals = vec![0.0f64; width * features];
        for feature in 0..features {
            let (atom, total) =
                (params.table::<f32>(ATOMS).row(feature), params.table::<f64>(TOTALS).row(feature));
            for k in 0..width {
                atoms[k * features + feature] = f64::from(atom[k]);
                totals[k * features + feature] = total[k];
            }
        }
        let mut unused = Vec::new();
        for (k, squares) in squares.chunks_exact(width).enumerate() {
            if squares[k] <= RARELY * largest {
                unused.push(k);
                continue;
            }
            code::improve(k, squares, &totals[k * features..][..features], &mut atoms, features);
        }
        let mut table = params.table_mut::<f32>(ATOMS);
        for feature in 0..features {
            let row = table.row_mut(feature).iter_mut().zip(atoms[feature..].iter().step_by(features));
            row.for_each(|(atom, new)| *atom = *new as f32);
        }
        unused
    }

    /// Gives the first atom without use the seed, if there is one, and forgets what A and B hold of the old one.
    fn reseed(&self, params: &mut Params, unused: &[usize]) {
        params.table_mut::<f64>(STATE).row_mut(0)[UNUSED] = unused.len() as f64;
        let Some(row) = FRESH.take(params) else { return };
        let Some(first) = unused.first().copied() else { return };
        let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let mut atoms = params.table_mut::<f32>(ATOMS);
        for (feature, value) in row.iter().enumerate() {
            atoms.row_mut(feature)[first] = (f64::from(*value) / length) as f32;
        }
        let mut totals = params.table_mut::<f64>(TOTALS);
        (0..self.features).for_each(|feature| totals.row_mut(feature)[first] = 0.0);
        let mut squares = params.table_mut::<f64>(SQUARES);
        (0..self.config.atoms).for_each(|other| squares.row_mut(other)[first] = 0.0);
        squares.row_mut(first).fill(0.0);
    }

    fn renew_gram(&self, params: &mut Params) {
        let atoms = params.table::<f32>(ATOMS);
        let gram = gram(atoms.flat(), atoms.stride(), self.config.atoms);
        let mut table = params.table_mut::<f64>(GRAM);
        for (row, gram) in gram.chunks_exact(self.config.atoms).enumerate() {
            table.row_mut(row).copy_from_slice(gram);
        }
    }
}

/// `count` different numbers below `total` (at least as large), each set as likely as any other (Floyd's way).
fn sample(seed: u64, total: usize, count: usize) -> BTreeSet<usize> {
    let mut rng = stream(seed, "sparse-coding rows", &[]);
    let mut drawn = BTreeSet::new();
    for last in total - count..total {
        let row = rng.below(last + 1);
        if !drawn.insert(row) {
            drawn.insert(last);
        }
    }
    drawn
}

impl Algorithm for SparseCoding {
    const NAME: &'static str = "sparse-coding";
    const ABOUT: &'static str = "sparse codes and their dictionary, learned online";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::AllReduce];
    const DIVERGED_ADVICE: &'static str = "scale the features down";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = ();

    fn reading(_: &Config, options: &mut ReadOptions) {
        options.any_labels = true;
    }

    fn new(config: &Config, shape: &Shape) -> Result<SparseCoding> {
        let usage = |text: String| Err(Error::Usage(format!("sparse-coding: {text}")));
        let (atoms, rows, features) = (config.atoms, shape.rows, shape.columns);
        if shape.kind != Kind::Labelled {
            return usage(format!("data of kind {:?}; needed: rows of features (Labelled)", shape.kind));
        }
        if atoms == 0 || atoms > rows {
            return usage(format!("atoms = {atoms}; allowed: 1 to the number of rows, {rows}"));
        }
        if atoms.saturating_mul(features.max(atoms)) > MOST_ELEMENTS {
            return usage(format!("{atoms} atoms of {features} features are too much; give fewer"));
        }
        if !(config.lambda.is_finite() && config.lambda > 0.0) {
            return usage(format!("lambda = {}; allowed: finite, above 0", config.lambda));
        }
        if !(config.forgetting.is_finite() && config.forgetting >= 0.0) {
            return usage(format!("forgetting = {}; allowed: finite, at least 0", config.forgetting));
        }
        if !(config.tolerance > 0.0 && config.tolerance < 1.0) {
            return usage(format!("tolerance = {}; allowed: above 0, below 1", config.tolerance));
        }
        Ok(SparseCoding { config: config.clone(), rows, features })
    }

    fn tables(&self) -> Vec<TableSpec> {
        let (width, features) = (self.config.atoms, self.features);
        let work = |name: &str, rows, width| TableSpec::new(name, rows, width).axis(Axis::Whole).working();
        let wide = |name: &str, rows, width| work(name, rows, width).element(Type::F64);
        vec![
            TableSpec::new("atoms", features, width),
            wide("code_totals", features, width).axis(Axis::Feature),
            wide("code_squares", width, width),
            // Kept: predictions need it.
            TableSpec::new("gram", width, width).axis(Axis::Whole).element(Type::F64),
            work("code_seed", features, 1).axis(Axis::Feature),
            wide("code_state", 1, 3),
        ]
    }

    fn arrange(&self, block: &mut Block, _: u64) {
        without_zeros(block);
    }

    /// As many as there are mini-batches in the rows.
    fn clocks_per_epoch(&self, _: &[&Block], _: usize) -> usize {
        if self.config.batch == 0 { 1 } else { self.rows.div_ceil(self.config.batch) }
    }

    /// Atoms are random rows of length 1; a row of zeros leaves an atom without use.
    fn begin(&self, unit: &Unit, params: &mut Params, _: Option<()>) -> Result<()> {
        Rows::check(unit.block, "sparse-coding", self.features, f32::is_finite, "finite numbers")?;
        let Some(rows) = Rows::of(unit.block) else { return Ok(()) };
        let first = unit.block.first_row;
        let mut atoms = params.table_mut::<f32>(ATOMS);
        for (atom, row) in sample(unit.seed, self.rows, self.config.atoms).into_iter().enumerate() {
            if !(first..unit.block.end_row).contains(&row) {
                continue;
            }
            let length = rows.square(row - first).sqrt();
            rows.each(row - first, |feature, value| {
                if value != 0.0 {
                    atoms.row_mut(feature)[atom] = (f64::from(value) / length) as f32;
                }
            });
        }
        Ok(())
    }

    fn step(&self, unit: &Unit, params: &mut Params, _: &mut (), sums: &mut Sums) -> Result<()> {
        let Some(rows) = Rows::of(unit.block) else { return Ok(()) };
        let codes = self.codes(rows, params);
        if codes.values.iter().any(|value| !value.is_finite()) {
            let id = unit.block.id;
            return Err(Error::Diverged(format!("sparse-coding: codes of block {id} are no finite numbers")));
        }
        if unit.lane == 0 && params.table::<f64>(STATE).row(0)[UNUSED] > 0.0 {
            let errors = (0..rows.count()).map(|row| codes.error(row, rows.square(row)));
            let found = worst(errors, FRESH.error(params));
            if let Some((row, error)) = found.filter(|(row, error)| *error > FITS * rows.square(*row)) {
                FRESH.put(params, rows, row, error);
            }
        }
        add_products(rows, &codes.values, &mut params.table_mut(TOTALS));
        let width = self.config.atoms;
        let mut squares = params.table_mut::<f64>(SQUARES);
        for (row, own) in gram(&codes.values, width, width).chunks_exact(width).enumerate() {
            squares.row_mut(row).iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
        sums.add("rows", rows.count() as f64);
        Ok(())
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        if sums.get("rows") > 0.0 {
            let unused = self.improve(params);
            self.reseed(params, &unused);
            let mut state = params.table_mut::<f64>(STATE);
            state.row_mut(0)[CLOCKS] += 1.0;
            let keep = 1.0 - 1.0 / (state.row(0)[CLOCKS] + 1.0);
            let keep = libm::pow(keep, self.config.forgetting);
            for table in [TOTALS, SQUARES] {
                params.table_mut::<f64>(table).flat_mut().iter_mut().for_each(|value| *value *= keep);
            }
        }
        self.renew_gram(params);
        Ok(())
    }

    fn measure(&self, block: &Block, params: &Params, _: Option<&()>, sums: &mut Sums) {
        if let Some(rows) = Rows::of(block) {
            self.weigh(rows, &self.codes(rows, params), sums);
        }
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, _: &Params) -> Vec<(&'static str, f64)> {
        let mean = |sums: &Sums, name| sums.get(name) / sums.get("rows").max(1.0);
        let mut metrics =
            vec![("train_objective", mean(train, "objective")), ("nonzeros", mean(train, "nonzeros"))];
        let test = test.filter(|test| test.get("rows") > 0.0);
        metrics.extend(test.map(|test| ("test_objective", mean(test, "objective"))));
        metrics
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        Rows::check(block, "sparse-coding", self.features, f32::is_finite, "finite numbers")?;
        let Some(rows) = Rows::of(block) else { return Ok(()) };
        let mut codes = self.codes(rows, params);
        // Of the two zeros, the one without a sign.
        codes.values.iter_mut().for_each(|value| *value += 0.0);
        codes.values.chunks_exact(self.config.atoms).enumerate().for_each(|(row, code)| out(row, code));
        Ok(())
    }

    /// `atoms.tsv`: an atom a line, its length and its ten largest features.
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let mut text = String::from("atom\tlength\tlargest features\n");
        for atom in 0..self.config.atoms.min(MOST_READABLE) {
            let length = params.table::<f64>(GRAM).row(atom)[atom].sqrt();
            let top = top_features(params.table(ATOMS), atom, 10, |feature| names.column(feature));
            text += &format!("{atom}\t{length:.4}{top}\n");
        }
        out("atoms.tsv", text);
    }
}
