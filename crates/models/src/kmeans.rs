//! k-means: centres that minimise the mean squared distance of rows to their nearest centre.
//!
//! ```text
//! F(C) = 1/n Σ_i min_k ‖x_i − c_k‖²
//! ```
//!
//! `batch` = 0: Lloyd's algorithm, exact: every row is compared with every centre, no bounds are kept. During a clock
//! every lane assigns its rows to their nearest centres and adds them to totals in double precision; `end_clock` sees
//! the sums of all lanes and divides. `batch` > 0: web-scale k-means (Sculley 2010): a clock is a mini-batch, and a centre
//! is the running mean of all rows that it was ever given, c ← c + (Σ x − m c) / N for m rows of a batch; its start counts
//! as one row. Labels are not looked at.
//!
//! The start is k-means++ (Arthur and Vassilvitskii 2007) or random rows (`kmeans/start.rs`). A cluster that loses all its
//! rows (exact only) takes no more; in the next clock every lane names its row that is farthest from its centre, and
//! in the clock after that the farthest of these become the empty clusters, one row each.

mod details;
mod kernel;
mod start;
#[cfg(test)]
mod tests;

use crate::rows::Rows;
use dunlin::algorithm::StrategyKind;
use dunlin::data::{Contents, Kind, Names, ReadOptions, SparseRows};
use dunlin::isa::{self, Isa};
use dunlin::table::Type;
use dunlin::{Algorithm, Axis, Block, Error, Params, Result, Shape, Sums, TableSpec, Unit};
use kernel::{Centres, Nearest, add_up, distances, nearest};
use serde::{Deserialize, Serialize};

/// Number of the table of centres: (features, clusters).
pub const CENTRES: usize = 0;
/// Number of the table of sizes: (1, clusters); rows a cluster has, or has ever been given.
pub const SIZES: usize = 1;
/// Sums of rows, then their count, during a clock: (clusters, features + 1).
const TOTALS: usize = 2;
/// A lane's proposal: (lanes, weight and row); weight 0 for none.
const PROPOSALS: usize = 3;
/// Rows that become clusters in this clock: (1, clusters), row + 1, or 0.
const RESEEDS: usize = 4;
/// [`ROUND`], [`CHOSEN`], [`MOVED`].
const STATE: usize = 5;

/// Rounds of `begin` that are over.
const ROUND: usize = 0;
/// The row that was drawn last.
const CHOSEN: usize = 1;
/// Share of rows that changed their cluster in the last clock.
const MOVED: usize = 2;

/// Lanes that can propose.
const MOST_LANES: usize = 4096;
/// Elements of the centres that are refused: 1 GiB, and 2 GiB of totals.
const MOST_ELEMENTS: usize = 1 << 28;
/// Dense rows of which a smaller share is not zero are worked as sparse ones: about as fast there.
const SPARSE_BELOW: f64 = 0.4;

/// Settings of [`Kmeans`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Number of clusters K, 1 to the number of rows. Default 8.
    pub clusters: usize,
    /// Rows in a mini-batch over all lanes, made of whole blocks; 0 for exact Lloyd, which takes all rows in one
    /// clock. Default 0.
    pub batch: usize,
    /// `plusplus` or `random`. Default `plusplus`.
    pub start: Start,
}

/// The centres to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Rows drawn one after another, by their squared distance from those before: 2 K − 1 clocks.
    Plusplus,
    /// Rows drawn at random: one clock.
    Random,
}

impl Default for Config {
    fn default() -> Config {
        Config { clusters: 8, batch: 0, start: Start::Plusplus }
    }
}

/// k-means.
#[derive(Clone, Debug)]
pub struct Kmeans {
    config: Config,
    rows: usize,
    features: usize,
    isa: Isa,
}

/// What is kept for a block's rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// ‖x‖² of every row.
    squares: Vec<f64>,
    /// Its cluster; K before the first pass.
    clusters: Vec<u32>,
    /// During the start: squared distance from the nearest centre so far.
    gaps: Vec<f64>,
}

impl Kmeans {
    /// Refuses columns that the shape does not know, and what is no finite number.
    fn check_block(&self, block: &Block) -> Result<()> {
        let place = || format!("kmeans: block {} (rows {}..{})", block.id, block.first_row, block.end_row);
        let Some(rows) = Rows::of(block) else {
            return Err(Error::Data(format!("{} holds no labelled rows", place())));
        };
        for row in 0..rows.count() {
            let mut bad = None;
            rows.each(row, |column, value| {
                if column >= self.features || !value.is_finite() {
                    bad = Some((column, value));
                }
            });
            if let Some((column, value)) = bad {
                let (row, features) = (block.first_row + row, self.features);
                return Err(Error::Data(format!(
                    "kmeans: row {row}, column {column} of {features} (from 0): value {value}; finite numbers \
                     in columns that are there are allowed"
                )));
            }
        }
        Ok(())
    }

    fn too_large(&self, block: &Block) -> Error {
        Error::Diverged(format!("kmeans: distances of block {} are no finite numbers", block.id))
    }

    /// The nearest centres of a block's rows.
    fn search(&self, rows: Rows, params: &Params) -> Vec<Nearest> {
        let sizes = params.table::<f64>(SIZES).row(0);
        nearest(self.isa, rows, &Centres::new(params.table(CENTRES), sizes))
    }

    /// Column `cluster` of the table of centres.
    fn centre(params: &Params, cluster: usize) -> Vec<f32> {
        let table = params.table::<f32>(CENTRES);
        (0..table.rows()).map(|feature| table.row(feature)[cluster]).collect()
    }

    /// Names the block's row that is farthest from its centre, if it is the farthest of the lane's so far.
    fn name_farthest(
        &self,
        unit: &Unit,
        rows: Rows,
        params: &mut Params,
        local: &Assigned,
        found: &[Nearest],
    ) {
        let far = |row: usize| found[row].distance(local.squares[row]);
        let row = (0..found.len()).reduce(|best, row| if far(row) > far(best) { row } else { best });
        let Some(row) = row else { return };
        let centre = Kmeans::centre(params, local.clusters[row] as usize);
        distances(rows, row..row + 1, &local.squares, &centre, |_, distance| {
            propose(params, unit.lane, distance, unit.block.first_row + row);
        });
    }

    /// Exact: every cluster's centre becomes the mean of its rows.
    fn divide(&self, params: &mut Params) {
        let clusters = self.config.clusters;
        let is_batch = self.config.batch > 0;
        let totals = params.table::<f64>(TOTALS);
        let counts: Vec<f64> = (0..clusters).map(|k| totals.row(k)[self.features]).collect();
        let mut sizes = params.table_mut::<f64>(SIZES);
        for (size, count) in sizes.row_mut(0).iter_mut().zip(&counts) {
            *size = if is_batch { *size + count } else { *count };
        }
        let sizes = sizes.row(0).to_vec();
        // The two tables have different elements, so the new centres pass through a row.
        let mut new = vec![0.0f32; clusters];
        for feature in 0..self.features {
            let (totals, centres) = (params.table::<f64>(TOTALS), params.table::<f32>(CENTRES));
            new.copy_from_slice(centres.row(feature));
            for (k, centre) in new.iter_mut().enumerate().filter(|(k, _)| counts[*k] > 0.0) {
                let (old, total) = (f64::from(*centre), totals.row(k)[feature]);
                let mean =
                    if is_batch { old + (total - counts[k] * old) / sizes[k] } else { total / counts[k] };
                *centre = mean as f32;
            }
            params.table_mut::<f32>(CENTRES).row_mut(feature).copy_from_slice(&new);
        }
        let mut totals = params.table_mut::<f64>(TOTALS);
        for k in (0..clusters).filter(|k| counts[*k] > 0.0) {
            totals.row_mut(k).fill(0.0);
        }
    }

    /// Gives empty clusters the farthest rows that were named; returns how many.
    fn reseed(&self, params: &mut Params) -> usize {
        let sizes = params.table::<f64>(SIZES).row(0);
        let empty: Vec<usize> = (0..sizes.len()).filter(|k| sizes[*k] == 0.0).collect();
        let rows = take_proposals(params);
        let mut reseeds = params.table_mut::<f64>(RESEEDS);
        if reseeds.row(0).iter().any(|row| *row != 0.0) {
            reseeds.row_mut(0).fill(0.0);
        }
        let mut given = 0;
        for (cluster, (_, row)) in empty.iter().zip(rows) {
            reseeds.row_mut(0)[*cluster] = row as f64 + 1.0;
            given += 1;
        }
        given
    }
}

/// Notes a proposal of `lane`, if it is the weightiest of its own so far.
fn propose(params: &mut Params, lane: usize, weight: f64, row: usize) {
    let mut table = params.table_mut::<f64>(PROPOSALS);
    if weight > table.row(lane)[0] {
        table.row_mut(lane).copy_from_slice(&[weight, row as f64]);
    }
}

/// All lanes' proposals, the weightiest first, the lower row of equals; none is left.
fn take_proposals(params: &mut Params) -> Vec<(f64, usize)> {
    let mut table = params.table_mut::<f64>(PROPOSALS);
    let mut all = Vec::new();
    for lane in 0..MOST_LANES {
        if let [weight, row] = *table.row(lane)
            && weight > 0.0
        {
            all.push((weight, row as usize));
            table.row_mut(lane).fill(0.0);
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all
}

impl Algorithm for Kmeans {
    const NAME: &'static str = "kmeans";
    const ABOUT: &'static str = "k-means clustering, exact or by mini-batches, with a k-means++ start";
    const DATA: Kind = Kind::Labelled;
    const STRATEGIES: &'static [StrategyKind] = &[StrategyKind::AllReduce];
    const DIVERGED_ADVICE: &'static str = "scale the features down";
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Assigned;

    fn reading(_: &Config, options: &mut ReadOptions) {
        options.any_labels = true;
    }

    fn new(config: &Config, shape: &Shape) -> Result<Kmeans> {
        let usage = |text: String| Err(Error::Usage(format!("kmeans: {text}")));
        let (clusters, rows, features) = (config.clusters, shape.rows, shape.columns);
        if shape.kind != Kind::Labelled {
            return usage(format!("data of kind {:?}; needed: rows of features (Labelled)", shape.kind));
        }
        if clusters == 0 || clusters > rows {
            return usage(format!("clusters = {clusters}; allowed: 1 to the number of rows, {rows}"));
        }
        if clusters.saturating_mul(features) > MOST_ELEMENTS {
            return usage(format!(
                "{clusters} clusters of {features} features are too much; give fewer clusters"
            ));
        }
        Ok(Kmeans { config: config.clone(), rows, features, isa: isa::level() })
    }

    fn tables(&self) -> Vec<TableSpec> {
        let (clusters, features) = (self.config.clusters, self.features);
        let whole =
            |name: &str, rows, width| TableSpec::new(name, rows, width).axis(Axis::Whole).element(Type::F64);
        vec![
            TableSpec::new("centres", features, clusters),
            whole("sizes", 1, clusters),
            whole("totals", clusters, features + 1).axis(Axis::Output).working(),
            whole("proposals", MOST_LANES, 2).working(),
            whole("reseeds", 1, clusters).working(),
            whole("kmeans_state", 1, 3).working(),
        ]
    }

    /// Stores dense rows that are mostly zeros as sparse ones.
    fn arrange(&self, block: &mut Block, _: u64) {
        let Contents::Dense(rows) = &mut block.contents else { return };
        let filled = rows.values.iter().filter(|value| **value != 0.0).count();
        if filled as f64 >= SPARSE_BELOW * rows.values.len() as f64 {
            return;
        }
        let mut sparse = SparseRows { offsets: vec![0], ..SparseRows::default() };
        sparse.columns.reserve_exact(filled);
        sparse.values.reserve_exact(filled);
        for row in rows.values.chunks_exact(rows.width) {
            for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                sparse.columns.push(column as u32);
                sparse.values.push(*value);
            }
            sparse.offsets.push(sparse.columns.len() as u32);
        }
        sparse.classes = std::mem::take(&mut rows.classes);
        sparse.targets = std::mem::take(&mut rows.targets);
        block.contents = Contents::Sparse(sparse);
    }

    /// Exact: one. Otherwise as many as there are mini-batches in the rows.
    fn clocks_per_epoch(&self, _: &[&Block], _: usize) -> usize {
        if self.config.batch == 0 { 1 } else { self.rows.div_ceil(self.config.batch) }
    }

    fn rounds(&self) -> usize {
        match self.config.start {
            Start::Plusplus => 2 * self.config.clusters - 1,
            Start::Random => 1,
        }
    }

    /// A square, a cluster and, during the start, a gap for every row.
    fn local_bytes(&self, shape: &Shape) -> f64 {
        20.0 * shape.rows as f64
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Assigned>) -> Result<Assigned> {
        if unit.lanes > MOST_LANES {
            let lanes = unit.lanes;
            return Err(Error::Usage(format!("kmeans: --lanes {lanes}; at most {MOST_LANES} are allowed")));
        }
        let mut local = match local {
            Some(local) => local,
            None => {
                self.check_block(unit.block)?;
                let squares = Rows::of(unit.block).map(|rows| rows.squares()).unwrap_or_default();
                let clusters = vec![self.config.clusters as u32; squares.len()];
                Assigned { squares, clusters, gaps: Vec::new() }
            }
        };
        start::round(self, unit, params, &mut local);
        Ok(local)
    }

    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Assigned, sums: &mut Sums) -> Result<()> {
        if self.config.batch == 0 && unit.clock != unit.epoch {
            return Err(Error::Usage(
                "kmeans: batch = 0 takes all rows in a clock; leave --clocks-per-epoch at 1, or give the rows of \
                 a mini-batch (batch)"
                    .into(),
            ));
        }
        let Some(rows) = Rows::of(unit.block) else { return Ok(()) };
        let found = self.search(rows, params);
        if found.iter().any(|nearest| !nearest.score.is_finite()) {
            return Err(self.too_large(unit.block));
        }
        let first = unit.block.first_row;
        let reseeds: Vec<(u32, usize)> = params
            .table::<f64>(RESEEDS)
            .row(0)
            .iter()
            .enumerate()
            .filter_map(|(k, row)| Some((k as u32, (*row as usize).checked_sub(first + 1)?)))
            .filter(|(_, row)| *row < found.len())
            .collect();
        let mut new: Vec<u32> = found.iter().map(|nearest| nearest.cluster).collect();
        reseeds.iter().for_each(|(cluster, row)| new[*row] = *cluster);
        let moved = new.iter().zip(&local.clusters).filter(|(new, old)| new != old).count();
        local.clusters = new;
        local.gaps = Vec::new();
        if self.config.batch == 0 && params.table::<f64>(SIZES).row(0).contains(&0.0) {
            self.name_farthest(unit, rows, params, local, &found);
        }
        add_up(rows, &local.clusters, self.features, &mut params.table_mut(TOTALS));
        sums.add("rows", found.len() as f64);
        sums.add("moved", moved as f64);
        Ok(())
    }

    fn end_clock(&self, sums: &Sums, params: &mut Params) -> Result<()> {
        let rows = sums.get("rows");
        if rows == 0.0 {
            return start::end_of_round(self, params);
        }
        self.divide(params);
        let given = if self.config.batch == 0 { self.reseed(params) } else { 0 };
        params.table_mut::<f64>(STATE).row_mut(0)[MOVED] = (sums.get("moved") + given as f64) / rows;
        Ok(())
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Assigned>, sums: &mut Sums) {
        let Some(rows) = Rows::of(block) else { return };
        let own = if local.is_none() { rows.squares() } else { Vec::new() };
        let squares = local.map_or(&own[..], |local| &local.squares);
        let found = self.search(rows, params);
        let distances = found.iter().zip(squares).map(|(nearest, square)| nearest.distance(*square));
        sums.add("distance", distances.sum());
        sums.add("rows", found.len() as f64);
    }

    fn metrics(&self, train: &Sums, test: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let mean = |sums: &Sums| sums.get("distance") / sums.get("rows").max(1.0);
        let moved = params.table::<f64>(STATE).row(0)[MOVED];
        let mut metrics = vec![("train_objective", mean(train)), ("moved", moved)];
        metrics.extend(test.map(|test| ("test_objective", mean(test))));
        metrics
    }

    /// Exact: once no row has changed its cluster.
    fn converged(&self, metrics: &[(&'static str, f64)]) -> bool {
        self.config.batch == 0 && metrics.iter().any(|(name, value)| *name == "moved" && *value == 0.0)
    }

    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Some(rows) = Rows::of(block) else {
            return Err(Error::Data(format!("kmeans: block {} holds no labelled rows", block.id)));
        };
        let squares = rows.squares();
        for (row, nearest) in self.search(rows, params).iter().enumerate() {
            out(row, &[nearest.cluster as f32, nearest.distance(squares[row]) as f32]);
        }
        Ok(())
    }

    /// `centres.tsv`: a cluster a line, its size and its centre; unless beyond a million numbers.
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        if self.config.clusters * self.features > 1_000_000 {
            return;
        }
        let mut text = String::from("cluster\trows");
        (0..self.features).for_each(|feature| text += &format!("\t{}", names.column(feature)));
        for cluster in 0..self.config.clusters {
            text += &format!("\n{cluster}\t{}", params.table::<f64>(SIZES).row(0)[cluster]);
            Kmeans::centre(params, cluster).iter().for_each(|value| text += &format!("\t{value}"));
        }
        out("centres.tsv", text + "\n");
    }
}
