//! Distance metric learning: a linear map L under which rows of one class are near and others far.
//!
//! From pairs of rows with scaled difference δ, similar (S) or dissimilar (D), P in all, it minimises
//!
//! ```text
//! J(L) = 1/P [ Σ_S |L δ|² + λ Σ_D max(0, margin − |L δ|²) ] + μ/(2d) [ tr(LᵀL) − log det(LᵀL) − d ]
//! ```
//!
//! The first part is the hinge form of Xing et al. (2002), per pair. The second, on by default, is the LogDet
//! divergence of the metric LᵀL from the identity, the regulariser of information-theoretic metric learning
//! (Davis et al. 2007): with few pairs it decides the quality. Two kinds of step:
//!
//! - `prior` μ > 0: L is square, and steps follow the relative gradient ∇J LᵀL = G L with G = 2/P Σ w z zᵀ +
//!   μ/d (L Lᵀ − I), z = L δ (Amari 1998). It needs no inverse and converges in a few epochs.
//! - μ = 0: plain stochastic gradient descent on the pairs' part, for any rank; cost follows the entries.
//!
//! δ is scaled per feature to unit variance and by 1/√(2d), so that the squared distance of two random rows is
//! 1 on average; centring is not needed, as it cancels. Lanes take whole steps on their own pairs, so their
//! updates are averaged: a sum would multiply the step by the number of lanes.

mod details;
mod kernel;
mod pairs;
#[cfg(test)]
mod tests;

use dunlin::algorithm::{ANY_TABLE_STRATEGY, StrategyKind};
use dunlin::data::{Contents, Kind, Names, Pairing, ReadOptions};
use dunlin::isa::Isa;
use dunlin::rng::stream;
use dunlin::table::Type;
use dunlin::{Algorithm, Block, Error, Init, Merge, Params, Result, Shape, Sums, TableSpec, Unit};
use kernel::Pass;
use pairs::Rows;
pub use pairs::{Pairs, Source};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const MAP: usize = 0;
const MOMENTS: usize = 1;

/// Elements of L that are refused: 1 GiB.
const MOST_ELEMENTS: usize = 1 << 28;

/// Settings of [`Dml`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Rows of L, 1 to the number of features; 0 for as many as features. Default 0.
    pub rank: usize,
    /// Step of the gradient, above 0. Default 0.1.
    pub rate: f64,
    /// The step in epoch t is `rate` / (1 + `decay` · t); at least 0. Default 0.3.
    pub decay: f64,
    /// Weight λ of dissimilar pairs, at least 0. Default 1.
    pub lambda: f64,
    /// Squared distance that dissimilar pairs should have, above 0; two random rows start at 1. Default 1.
    pub margin: f64,
    /// Weight μ of the divergence from the identity, at least 0; above 0 needs a square L. Default 1.
    pub prior: f64,
    /// Pairs per step, at least 1. Default 100.
    pub batch: usize,
    /// Where pairs come from, unless `pairs_file` says: `labels` or `adjacent`. Default `labels`.
    pub source: Source,
    /// A file that lists the training pairs, `row row 1` (similar) or `row row -1` (dissimilar) a line, rows
    /// counted from 0. Default none.
    pub pairs_file: Option<PathBuf>,
    /// Pairs drawn with `labels`, in all; 0 for two a row. Default 0.
    pub pairs: usize,
    /// Share of the pairs that is not trained on but measured, 0 to 0.5. Default 0.1.
    pub held_out: f64,
    /// Whether features are scaled to unit variance (constant ones to 0). Default true.
    pub standardise: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rank: 0,
            rate: 0.1,
            decay: 0.3,
            lambda: 1.0,
            margin: 1.0,
            prior: 1.0,
            batch: 100,
            source: Source::Labels,
            pairs_file: None,
            pairs: 0,
            held_out: 0.1,
            standardise: true,
        }
    }
}

impl Config {
    fn check(&self, features: usize) -> Result<()> {
        let usage = |text: String| Err(Error::Usage(format!("dml: {text}")));
        let positive = [("rate", self.rate), ("margin", self.margin)];
        if let Some((name, value)) = positive.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return usage(format!("{name} = {value}; it must be a finite number above 0"));
        }
        let weights = [("decay", self.decay), ("lambda", self.lambda), ("prior", self.prior)];
        if let Some((name, value)) = weights.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return usage(format!("{name} = {value}; it must be a finite number, at least 0"));
        }
        if self.batch == 0 {
            return usage("batch = 0; it must be at least 1".into());
        }
        if !(0.0..=0.5).contains(&self.held_out) {
            return usage(format!("held_out = {}; it must be 0 to 0.5", self.held_out));
        }
        if let Some(file) =
            self.pairs_file.as_ref().filter(|_| self.source != Source::Labels || self.pairs > 0)
        {
            let file = file.display();
            return usage(format!("pairs_file = {file}; it goes with neither source=adjacent nor pairs"));
        }
        let rank = self.rank_for(features);
        if rank > features || features == 0 {
            return usage(format!("rank = {rank}; it must be 0 to the number of features, {features}"));
        }
        if self.prior > 0.0 && rank != features {
            let prior = self.prior;
            return usage(format!("prior = {prior} needs a square L; leave rank at 0, or set prior to 0"));
        }
        if rank.saturating_mul(features) > MOST_ELEMENTS {
            return usage(format!(
                "L of {rank} x {features} is too large; give a smaller rank and prior = 0"
            ));
        }
        Ok(())
    }

    fn rank_for(&self, features: usize) -> usize {
        if self.rank == 0 { features } else { self.rank }
    }
}

/// Distance metric learning; see the module.
#[derive(Clone, Debug)]
pub struct Dml {
    config: Config,
    level: Isa,
    rank: usize,
    shape: Shape,
}

impl Dml {
    /// The same model worked at another instruction level, which gives the same bits.
    pub fn at_level(self, level: Isa) -> Dml {
        Dml { level, ..self }
    }

    /// Factor of each feature before L is applied: 1 / (deviation · √(2d)), d the features that vary; without
    /// `standardise` one factor for all, 1 / √(2 · total variance).
    pub fn scales(&self, params: &Params) -> Vec<f32> {
        let (moments, count) = (params.table::<f64>(MOMENTS), self.shape.rows.max(1) as f64);
        let variance = |feature: usize| {
            let [sum, squares] = [moments.row(feature)[0] / count, moments.row(feature)[1] / count];
            let variance = squares - sum * sum;
            if variance > 1e-9 * squares { variance } else { 0.0 }
        };
        let variances: Vec<f64> = (0..self.shape.columns).map(variance).collect();
        let varying = variances.iter().filter(|variance| **variance > 0.0).count().max(1) as f64;
        let total = variances.iter().sum::<f64>();
        let common = if total > 0.0 { (2.0 * total).sqrt().recip() } else { 1.0 };
        let scale = |variance: &f64| match (self.config.standardise, *variance > 0.0) {
            (true, true) => (2.0 * varying * variance).sqrt().recip() as f32,
            (true, false) => 0.0,
            (false, _) => common as f32,
        };
        variances.iter().map(scale).collect()
    }

    /// L with the scales worked in, (rank, features) row after row: |L (x − y)|² is the learned distance.
    pub fn map(&self, params: &Params) -> Vec<f64> {
        let (table, scales) = (params.table::<f32>(MAP), self.scales(params));
        let element = |at: usize| {
            let (i, feature) = (at / scales.len(), at % scales.len());
            f64::from(table.row(feature)[i]) * f64::from(scales[feature])
        };
        (0..self.rank * scales.len()).map(element).collect()
    }

    /// LᵀL of [`Dml::map`], (features, features): the learned metric.
    pub fn metric(&self, params: &Params) -> Vec<f64> {
        let (map, features) = (self.map(params), self.shape.columns);
        let mut metric = vec![0.0; features * features];
        for row in map.chunks_exact(features) {
            for (out, left) in metric.chunks_exact_mut(features).zip(row) {
                out.iter_mut().zip(row).for_each(|(out, right)| *out += left * right);
            }
        }
        metric
    }

    /// Share of the rows of `test` whose class is not the one most frequent among the `neighbours` nearest rows
    /// of `train` under the learned distance; ties go to the lower class.
    ///
    /// # Errors
    /// [`Error::Usage`] if the blocks hold no labelled rows or `neighbours` is 0.
    pub fn knn_error(
        &self,
        params: &Params,
        train: &[Block],
        test: &[Block],
        neighbours: usize,
    ) -> Result<f64> {
        let (train, test) = (self.images(params, train)?, self.images(params, test)?);
        if train.is_empty() || test.is_empty() || neighbours == 0 {
            return Err(Error::Usage("dml: no rows or no neighbours to compare".into()));
        }
        let mut wrong = 0;
        for (image, class) in &test {
            let mut nearest: Vec<(f32, u32)> = train
                .iter()
                .map(|(other, class)| {
                    (image.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>(), *class)
                })
                .collect();
            let last = neighbours.min(nearest.len()) - 1;
            nearest.select_nth_unstable_by(last, |a, b| a.0.total_cmp(&b.0));
            let mut votes: Vec<u32> = nearest[..=last].iter().map(|near| near.1).collect();
            votes.sort_unstable();
            let count = |class: u32| votes.iter().filter(|vote| **vote == class).count();
            let winner = votes.iter().copied().rev().max_by_key(|vote| count(*vote));
            wrong += usize::from(winner != Some(*class));
        }
        Ok(wrong as f64 / test.len() as f64)
    }

    /// Image and class of every row.
    fn images(&self, params: &Params, blocks: &[Block]) -> Result<Vec<(Vec<f32>, u32)>> {
        let mut images = Vec::new();
        for block in blocks {
            let Some(rows) = Rows::of(block) else { continue };
            self.predict(block, params, &mut |row, image| {
                images.push((image.to_vec(), rows.classes()[row]));
            })?;
        }
        Ok(images)
    }

    fn pass<'a>(&self, rows: Rows<'a>, pairs: &'a Pairs, order: &'a [u32], scales: &'a [f32]) -> Pass<'a> {
        let Config { lambda, margin, prior, batch, rate, .. } = self.config;
        let [rate, lambda, margin, prior] = [rate, lambda, margin, prior].map(|value| value as f32);
        Pass { rows, pairs, order, scales, rank: self.rank, batch, rate, lambda, margin, prior }
    }

    /// The training pairs of a block: those it carries, or pairs of its rows by label.
    fn draw(&self, block: &Block, rows: &Rows, seed: u64) -> Pairs {
        if let Contents::Pairs(list) = &block.contents {
            let (first, total) = (block.first_row / 2, self.shape.rows / 2);
            return Pairs::listed(list, first, total, self.config.held_out, seed);
        }
        let mut rng = stream(seed, "dml-pairs", &[u64::from(block.id)]);
        let total = if self.config.pairs == 0 { 2 * self.shape.rows } else { self.config.pairs };
        let pairs = Pairs::drawn(rows, pairs::portion(total, block, &self.shape), &mut rng);
        pairs.shuffled(self.config.held_out, &mut rng)
    }

    /// Why there is no pair of a kind to train on, and what to do.
    fn lacking(&self, kind: &str, blocks: usize) -> Error {
        let aside = match self.config.held_out {
            0.0 => String::new(),
            share => format!(" beside those held out ({share} of all)"),
        };
        let why = match (&self.config.pairs_file, self.config.source) {
            (Some(file), _) => format!(
                "{}: it must list both, similar (row row 1) and dissimilar (row row -1) ones",
                file.display()
            ),
            (None, Source::Adjacent) => {
                "source=adjacent: some rows 2r and 2r + 1 must have equal labels, and some different ones"
                    .into()
            }
            (None, Source::Labels) => format!(
                "pairs are drawn by label within each of {blocks} blocks; give more rows or a larger pairs, fewer --blocks or --lanes, or list them with pairs_file"
            ),
        };
        Error::Data(format!("dml: no {kind} to train on{aside}; {why}"))
    }

    /// tr(LᵀL) − log det(LᵀL) − d of the table; infinite if L is singular.
    fn divergence(&self, params: &Params) -> f64 {
        let (table, rank) = (params.table::<f32>(MAP), self.rank);
        let mut gram = vec![0.0f64; rank * rank];
        let mut row = vec![0.0f64; rank];
        for feature in 0..self.shape.columns {
            row.iter_mut().zip(table.row(feature)).for_each(|(out, value)| *out = f64::from(*value));
            for (out, left) in gram.chunks_exact_mut(rank).zip(&row) {
                out.iter_mut().zip(&row).for_each(|(out, right)| *out += left * right);
            }
        }
        let trace: f64 = (0..rank).map(|i| gram[i * rank + i]).sum();
        trace - log_determinant(&mut gram, rank) - rank as f64
    }
}

/// log det of a symmetric positive definite matrix by Cholesky's decomposition, in place; −∞ if it is singular.
fn log_determinant(matrix: &mut [f64], size: usize) -> f64 {
    let mut sum = 0.0;
    for i in 0..size {
        let (done, rest) = matrix.split_at_mut(i * size);
        let row = &mut rest[..size];
        for j in 0..i {
            let earlier = &done[j * size..][..=j];
            let product: f64 = row[..j].iter().zip(earlier).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - product) / earlier[j];
        }
        let pivot = row[i] - row[..i].iter().map(|v| v * v).sum::<f64>();
        if pivot.is_nan() || pivot <= 0.0 {
            return f64::NEG_INFINITY;
        }
        row[i] = pivot.sqrt();
        sum += pivot.ln();
    }
    sum
}

impl Algorithm for Dml {
    const NAME: &'static str = "dml";
    const ABOUT: &'static str = "distance metric learning from similar and dissimilar pairs";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = ANY_TABLE_STRATEGY;
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Pairs;

    fn reading(config: &Config, options: &mut ReadOptions) {
        options.pairing = match (&config.pairs_file, config.source) {
            (Some(file), _) => Pairing::File(file.clone()),
            (None, Source::Adjacent) => Pairing::Adjacent,
            (None, Source::Labels) => Pairing::Labels,
        };
    }

    fn new(config: &Config, shape: &Shape) -> Result<Dml> {
        if shape.kind != Kind::Labelled {
            return Err(Error::Usage(format!("dml takes labelled rows, not {:?}", shape.kind)));
        }
        config.check(shape.columns)?;
        let rank = config.rank_for(shape.columns);
        Ok(Dml { config: config.clone(), level: dunlin::isa::level(), rank, shape: shape.clone() })
    }

    /// `L`, transposed: row j, `rank` wide, is what feature j adds, so that sparse rows read and write only the
    /// rows of their features. And `moments`: sum and sum of squares of each feature.
    fn tables(&self) -> Vec<TableSpec> {
        let features = self.shape.columns;
        let deviation = (self.rank as f64).sqrt().recip();
        let start = if self.rank == features { Init::Zero } else { Init::Normal { deviation } };
        vec![
            TableSpec::new("L", features, self.rank).merge(Merge::Mean).init(start),
            TableSpec::new("moments", features, 2).element(Type::F64),
        ]
    }

    /// Both kinds of pairs must be there: similar ones alone shrink L to nothing, dissimilar ones alone are content
    /// with any large L, and neither says what tells rows apart.
    fn check(&self, blocks: &[&Block], seed: u64) -> Result<()> {
        let listed = self.config.pairs_file.is_some() || self.config.source == Source::Adjacent;
        let [mut similar, mut dissimilar] = [false; 2];
        for block in blocks {
            let rows =
                Rows::of(block).ok_or_else(|| Error::Data("dml: a block has no labelled rows".into()))?;
            if listed && !matches!(block.contents, Contents::Pairs(_)) {
                return Err(Error::Usage(
                    "dml: pairs_file or source=adjacent, and data read without; read them with the options of Model::reading"
                        .into(),
                ));
            }
            let pairs = self.draw(block, &rows, seed);
            let trained = &pairs.similar[..pairs.trained()];
            similar |= trained.contains(&true);
            dissimilar |= trained.contains(&false);
            if similar && dissimilar {
                return Ok(());
            }
        }
        let kind = match (similar, dissimilar) {
            (false, false) => "pair",
            (false, true) => "similar pair",
            _ => "dissimilar pair",
        };
        Err(self.lacking(kind, blocks.len()))
    }

    /// Adds the block to the moments (the rows of each pair, where it carries pairs), draws its pairs, and starts a square L as the identity.
    fn begin(&self, unit: &Unit, params: &mut Params, _: Option<Pairs>) -> Result<Pairs> {
        let bad = |what: &str| Error::Data(format!("dml: block {}: {what}", unit.block.id));
        let rows = Rows::of(unit.block).ok_or_else(|| bad("no labelled rows"))?;
        if let Rows::Dense(rows) = rows
            && rows.width != self.shape.columns
        {
            return Err(bad("rows are not as wide as the data"));
        }
        let counted: Vec<u32> = match &unit.block.contents {
            Contents::Pairs(list) => list.pairs.iter().flatten().copied().collect(),
            _ => (0..rows.classes().len() as u32).collect(),
        };
        let mut moments = params.table_mut::<f64>(MOMENTS);
        let mut sound = true;
        for row in counted {
            rows.each(row as usize, |column, value| {
                sound &= value.is_finite() && column < self.shape.columns;
                if sound && value != 0.0 {
                    let moments = moments.row_mut(column);
                    moments[0] += f64::from(value);
                    moments[1] += f64::from(value) * f64::from(value);
                }
            });
        }
        if !sound {
            return Err(bad("a value is not finite or its column is beyond the data's"));
        }
        if self.rank == self.shape.columns {
            // every block writes the same, so that the mean over lanes is the identity too
            let mut map = params.table_mut::<f32>(MAP);
            (0..self.rank).for_each(|i| map.row_mut(i)[i] = 1.0);
        }
        Ok(self.draw(unit.block, &rows, unit.seed))
    }

    /// Adds `pair_loss` (each before its batch's step) and `pairs`.
    fn step(&self, unit: &Unit, params: &mut Params, pairs: &mut Pairs, sums: &mut Sums) -> Result<()> {
        let Some(rows) = Rows::of(unit.block) else { return Ok(()) };
        let (scales, order) = (self.scales(params), pairs::order(unit, pairs.trained()));
        let rate = self.config.rate / (1.0 + self.config.decay * unit.epoch as f64);
        let pass = Pass { rate: rate as f32, ..self.pass(rows, pairs, &order, &scales) };
        let loss = kernel::run(self.level, &pass, &mut params.table_mut(MAP));
        let count = pairs.trained() as f64;
        if !loss.is_finite() || loss > 1e6 * count.max(1.0) * (1.0 + self.config.margin) {
            return Err(Error::Diverged(format!(
                "dml: loss {:.3e} a pair in epoch {} with rate = {rate}; lower rate",
                loss / count,
                unit.epoch
            )));
        }
        sums.add("pair_loss", loss);
        sums.add("pairs", count);
        Ok(())
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Pairs>, sums: &mut Sums) {
        let Some(rows) = Rows::of(block) else { return };
        let drawn = local.is_none().then(|| Pairs::to_test(block));
        let Some(pairs) = local.or(drawn.as_ref()) else { return };
        let (scales, table) = (self.scales(params), params.table::<f32>(MAP));
        let pass = self.pass(rows, pairs, &[], &scales);
        let distances = kernel::distances(self.level, &pass, table);
        for (at, (distance, similar)) in distances.into_iter().zip(&pairs.similar).enumerate() {
            let loss = f64::from(pass.loss(distance, *similar).0);
            let right = f64::from(u8::from((distance < pass.margin) == *similar));
            let kept = local.is_some() && at >= pairs.trained();
            let names = if kept { ["held_loss", "held_right", "held"] } else { ["loss", "right", "pairs"] };
            names.into_iter().zip([loss, right, 1.0]).for_each(|(name, value)| sums.add(name, value));
        }
    }

    /// `train_objective` (J over the trained pairs), `train_pair_loss` (its first part alone),
    /// `train_pair_accuracy` (pairs on their side of the margin); the last two as `heldout_…` over the pairs
    /// held out, and as `test_…` over the pairs of the test rows.
    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let mean = |sums: &Sums, name, count| sums.get(name) / sums.get(count).max(1.0);
        let loss = mean(train, "loss", "pairs");
        let mut objective = loss;
        if self.config.prior > 0.0 {
            objective += self.config.prior / (2.0 * self.rank as f64) * self.divergence(params);
        }
        let mut metrics = vec![
            ("train_objective", objective),
            ("train_pair_loss", loss),
            ("train_pair_accuracy", mean(train, "right", "pairs")),
        ];
        if train.get("held") > 0.0 {
            metrics.push(("heldout_pair_loss", mean(train, "held_loss", "held")));
            metrics.push(("heldout_pair_accuracy", mean(train, "held_right", "held")));
        }
        if let Some(test) = test {
            metrics.push(("test_pair_loss", mean(test, "loss", "pairs")));
            metrics.push(("test_pair_accuracy", mean(test, "right", "pairs")));
        }
        metrics
    }

    /// L x of each row, the scales worked in.
    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Some(rows) = Rows::of(block).filter(|_| !matches!(block.contents, Contents::Pairs(_))) else {
            return Err(Error::Usage("dml maps labelled rows; the file holds other data".into()));
        };
        let (scales, table) = (self.scales(params), params.table::<f32>(MAP));
        kernel::images(self.level, &rows, &scales, table, &mut |row, image| out(row, &image[..self.rank]));
        Ok(())
    }

    /// `map.tsv` and `metric.tsv`: L with the scales worked in, and LᵀL, a row a line, unless they are beyond
    /// reading (more than a million numbers).
    fn readable(&self, shape: &Shape, _: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let features = shape.columns;
        let text = |numbers: Vec<f64>| {
            let line = |row: &[f64]| row.iter().map(f64::to_string).collect::<Vec<_>>().join("\t") + "\n";
            numbers.chunks(features.max(1)).map(line).collect::<String>()
        };
        if self.rank.max(features).saturating_mul(features) <= 1_000_000 {
            out("map.tsv", text(self.map(params)));
            out("metric.tsv", text(self.metric(params)));
        }
    }
}
