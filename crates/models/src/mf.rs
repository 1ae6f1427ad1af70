//! Biased matrix factorisation by stochastic gradient descent.
//!
//! A rating r of item i by user u is predicted as r̂ = mean + b_u + b_i + p_u · q_i. Each rating in turn takes a
//! gradient step on ½ (r − r̂)² + ½ λ (b_u² + b_i² + |p_u|² + |q_i|²), so that λ counts once per rating: with
//! e = r − r̂ and step η,
//!
//! ```text
//! p_u ← (1 − η λ) p_u + η e q_i      b_u ← (1 − η λ) b_u + η e      (q_i and b_i likewise)
//! ```
//!
//! User rows stay with the lane that owns the user; item rows are shared, and the updates of lanes are added.
//! Summed updates diverge if a clock is too long: [`Mf::suggested_clocks`] says how many an epoch needs.
//!
//! A row holds the factors and then the bias, so that one fetch brings all.

mod als;
mod details;
mod kernel;
#[cfg(test)]
mod tests;

use als::{Layout, Sides};
use dunlin::algorithm::{ANY_STRATEGY, LaneBlocks, StrategyKind};
use dunlin::data::{Contents, Kind, Names, Ratings};
use dunlin::isa::Isa;
use dunlin::{Algorithm, Axis, Block, Error, Init, Params, Result, Shape, Sums, Table, TableSpec, Unit};
use kernel::Pass;
use serde::{Deserialize, Serialize};
use std::ops::Range;

const USERS: usize = 0;
const ITEMS: usize = 1;
/// For `solver=als`: sums over each item's ratings, and behind them how many ratings it has.
const ITEM_SUMS: usize = 2;

/// Tables up to this size together are taken to stay in cache.
const CACHED_BYTES: usize = 4 << 20;
/// Users whose rows take this much are worked on together: a first-level cache where the tables are
/// small, part of a second-level cache where they are not.
const GROUP_BYTES: [usize; 2] = [32 << 10, 256 << 10];

/// How the step changes from epoch to epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// `rate` throughout.
    Constant,
    /// `rate` / (1 + `decay` · t) in epoch t, from 0.
    Inverse,
    /// `rate` · (t + `offset`)^−`exponent` in epoch t, from 0.
    Power,
}

/// How the factors are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// Stochastic gradient descent.
    Sgd,
    /// Alternating least squares: users in even epochs, items in odd ones.
    Als,
}

/// Settings of [`Mf`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `sgd` or `als`; `als` has no step to choose, and in several lanes runs under `rotation`. Default `sgd`.
    pub solver: Solver,
    /// Factors per user and item, 1 to 4096. Default 32; widths of 8, 16, 32, 64 and 128 are the fastest.
    pub rank: usize,
    /// Step of the gradient, above 0. Default 0.06.
    pub rate: f64,
    /// Weight λ of the squared parameters, per rating, at least 0. Default 0.06.
    pub regularisation: f64,
    /// Whether users and items have biases. Default true.
    pub bias: bool,
    /// How the step changes: `constant`, `inverse` or `power`. Default `inverse`.
    pub schedule: Schedule,
    /// For `inverse`: how fast the step falls, per epoch, at least 0. Default 0.3.
    pub decay: f64,
    /// For `power`: added to the epoch, above 0. Default 1.
    pub offset: f64,
    /// For `power`: the exponent, 0 to 2. Default 0.5.
    pub exponent: f64,
    /// Factors and biases start uniform in [−`scale`, `scale`) / √rank, above 0. Default 0.3.
    pub scale: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            solver: Solver::Sgd,
            rank: 32,
            rate: 0.06,
            regularisation: 0.06,
            bias: true,
            schedule: Schedule::Inverse,
            decay: 0.3,
            offset: 1.0,
            exponent: 0.5,
            scale: 0.3,
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        let finite_from = |name: &str, value: f64, least: f64, open: bool| {
            if value.is_finite() && (value > least || (!open && value == least)) {
                return Ok(());
            }
            let relation = if open { "above" } else { "at least" };
            Err(Error::Usage(format!("mf: {name} = {value}; it must be a finite number {relation} {least}")))
        };
        if !(1..=4096).contains(&self.rank) {
            return Err(Error::Usage(format!("mf: rank = {}; it must be 1 to 4096", self.rank)));
        }
        finite_from("rate", self.rate, 0.0, true)?;
        finite_from("regularisation", self.regularisation, 0.0, false)?;
        finite_from("decay", self.decay, 0.0, false)?;
        finite_from("offset", self.offset, 0.0, true)?;
        finite_from("scale", self.scale, 0.0, true)?;
        finite_from("exponent", self.exponent, 0.0, false)?;
        if self.exponent > 2.0 {
            return Err(Error::Usage(format!("mf: exponent = {}; it must be 0 to 2", self.exponent)));
        }
        if self.rate_at(0) * self.regularisation >= 1.0 {
            let (rate, weight) = (self.rate_at(0), self.regularisation);
            return Err(Error::Usage(format!(
                "mf: rate {rate} times regularisation {weight} is 1 or more; one step would overshoot zero"
            )));
        }
        Ok(())
    }

    /// The step in epoch `epoch`, from 0.
    pub fn rate_at(&self, epoch: usize) -> f64 {
        let t = epoch as f64;
        match self.schedule {
            Schedule::Constant => self.rate,
            Schedule::Inverse => self.rate / (1.0 + self.decay * t),
            Schedule::Power => self.rate * (t + self.offset).powf(-self.exponent),
        }
    }
}

/// Biased matrix factorisation; see the module.
#[derive(Clone, Debug)]
pub struct Mf {
    config: Config,
    level: Isa,
    users: usize,
    items: usize,
    mean: f32,
    range: (f32, f32),
}

impl Mf {
    /// The same model worked at another instruction level, which gives the same bits.
    pub fn at_level(self, level: Isa) -> Mf {
        Mf { level, ..self }
    }

    /// The most updates that one item gets in an epoch from `blocks`, the blocks of one lane.
    pub fn hottest_updates_per_epoch<'a>(&self, blocks: impl IntoIterator<Item = &'a Block>) -> usize {
        let mut counts = vec![0; self.items];
        blocks.into_iter().for_each(|block| count_items(block, &mut counts));
        counts.into_iter().max().unwrap_or(0)
    }

    /// Clocks an epoch so that the summed updates of `lanes` lanes stay a contraction:
    /// lanes · (1 − (1 − rate)^n) ≤ 1.5, n = updates of the hottest item per lane and clock. `hottest` is the
    /// most of [`Mf::hottest_updates_per_epoch`] over the lanes. 1 if any length will do; `hottest`, one update a
    /// clock, if there are too many lanes for the rule.
    pub fn suggested_clocks(&self, lanes: usize, hottest: usize) -> usize {
        let share = 1.5 / lanes as f64;
        let rate = self.config.rate_at(0).min(1.0);
        if share >= 1.0 || hottest == 0 {
            return 1;
        }
        let updates = (1.0 - share).ln() / (1.0 - rate).ln();
        (hottest as f64 / updates.max(1.0)).ceil() as usize
    }

    fn layout(&self) -> Layout {
        Layout::new(self.config.rank, self.config.bias)
    }

    fn specs(&self) -> [TableSpec; 2] {
        let scale = self.config.scale / (self.config.rank as f64).sqrt();
        let start = Init::Uniform { scale };
        let width = self.config.rank + usize::from(self.config.bias);
        [
            TableSpec::new("users", self.users, width).axis(Axis::Example).init(start),
            TableSpec::new("items", self.items, width).init(start),
        ]
    }

    /// True if the tables together are small enough to stay in cache.
    fn cached(&self) -> bool {
        let stride = self.specs()[USERS].stride();
        (self.users + self.items) * stride * size_of::<f32>() <= CACHED_BYTES
    }

    /// Σ over `ids`, all among `rows` of table `side`, of |row|² with its bias.
    fn squares(&self, model: &Model, side: usize, rows: Range<usize>, ids: &[u32]) -> f64 {
        let mut counts = vec![0; rows.len()];
        for id in ids {
            if let Some(count) = counts.get_mut((*id as usize).wrapping_sub(rows.start)) {
                *count += 1;
            }
        }
        kernel::squares(self.level, model, side, rows.start, &counts)
    }

    fn model<'a>(&self, params: &'a Params) -> Model<'a> {
        let tables = [params.table(USERS), params.table(ITEMS)];
        Model { tables, rows: [self.users, self.items], rank: self.config.rank, mean: self.mean }
    }
}

/// The tables of a trained model, to read.
struct Model<'a> {
    tables: [Table<'a, f32>; 2],
    rows: [usize; 2],
    rank: usize,
    mean: f32,
}

impl Model<'_> {
    /// Factors and bias of a row of table `side`; an unseen user or item has neither.
    fn row(&self, side: usize, row: u32) -> (&[f32], f32) {
        if row as usize >= self.rows[side] {
            return (&[], 0.0); // UNKNOWN among them
        }
        let (factors, bias) = self.tables[side].row(row as usize).split_at(self.rank);
        (factors, bias.first().copied().unwrap_or(0.0))
    }
}

/// Adds the ratings of each item; items beyond those that are counted are passed over.
fn count_items(block: &Block, counts: &mut [usize]) {
    for item in ratings(block).into_iter().flat_map(|ratings| &ratings.items) {
        if let Some(count) = counts.get_mut(*item as usize) {
            *count += 1;
        }
    }
}

fn ratings(block: &Block) -> Option<&Ratings> {
    match &block.contents {
        Contents::Ratings(ratings) => Some(ratings),
        _ => None,
    }
}

impl Algorithm for Mf {
    const NAME: &'static str = "mf";
    const ABOUT: &'static str = "matrix factorisation with biases, by stochastic gradient descent";
    const DATA: Kind = Kind::Ratings;
    const STRATEGIES: &'static [StrategyKind] = ANY_STRATEGY;
    /// A rating needs one item's row.
    const MEASURES_BY_LAP: bool = true;
    const INTERLEAVES_PASSES: bool = true;
    const DETAILS: &'static dunlin::details::Details = &details::DETAILS;
    type Config = Config;
    type Local = Sides;

    fn new(config: &Config, shape: &Shape) -> Result<Mf> {
        config.check()?;
        if shape.kind != Kind::Ratings {
            return Err(Error::Usage(format!("mf takes ratings, not {:?} data", shape.kind)));
        }
        Ok(Mf {
            config: config.clone(),
            level: dunlin::isa::level(),
            users: shape.rows,
            items: shape.columns,
            mean: shape.mean_target as f32,
            range: (shape.min_target, shape.max_target),
        })
    }

    fn tables(&self) -> Vec<TableSpec> {
        let mut tables: Vec<TableSpec> = self.specs().into();
        if self.config.solver == Solver::Als {
            tables.push(TableSpec::new("item_sums", self.items, self.layout().width() + 1).working());
        }
        tables
    }

    /// A rating needs one item.
    fn keeps_to_its_features(&self) -> bool {
        true
    }

    fn clocks_per_epoch(&self, blocks: &[&Block], lanes: usize) -> usize {
        let of_lane = |lane| blocks[dunlin::serial::share(blocks.len(), lanes, lane)].iter().copied();
        if self.config.solver == Solver::Als {
            return 1;
        }
        let hottest = (0..lanes).map(|lane| self.hottest_updates_per_epoch(of_lane(lane))).max();
        self.suggested_clocks(lanes, hottest.unwrap_or(0))
    }

    fn clocks_on_disk(&self, lanes: usize, blocks: &mut LaneBlocks) -> Result<usize> {
        let mut hottest = 0;
        for lane in 0..lanes {
            let mut counts = vec![0; self.items];
            blocks(lane, &mut |block| count_items(block, &mut counts))?;
            hottest = counts.into_iter().max().unwrap_or(0).max(hottest);
        }
        Ok(self.suggested_clocks(lanes, hottest))
    }

    /// Users are taken in groups whose rows stay in a near cache. In cache the bound is the latency of the dot
    /// product, and neighbours in a sorted order wait for one another through a shared row: within a group,
    /// ratings are shuffled. Beyond the cache the bound is memory: item rows are visited in order.
    fn arrange(&self, block: &mut Block, seed: u64) {
        if self.config.solver == Solver::Als {
            return;
        }
        let (id, first_row, cached) = (u64::from(block.id), block.first_row, self.cached());
        let row_bytes = self.specs()[USERS].stride() * size_of::<f32>();
        let group = (GROUP_BYTES[usize::from(!cached)] / row_bytes).max(1);
        let Contents::Ratings(ratings) = &mut block.contents else { return };
        let group_of = |at: u32| (ratings.users[at as usize] as usize).saturating_sub(first_row) / group;
        let mut order: Vec<u32> = (0..ratings.ratings.len() as u32).collect();
        let mut rng = dunlin::rng::stream(seed, "mf-order", &[id]);
        // users ascend, so that a group is a run
        for run in order.chunk_by_mut(|a, b| group_of(*a) == group_of(*b)) {
            if cached {
                rng.shuffle(run);
            } else {
                run.sort_unstable_by_key(|at| (ratings.items[*at as usize], *at));
            }
        }
        ratings.users = order.iter().map(|at| ratings.users[*at as usize]).collect();
        ratings.items = order.iter().map(|at| ratings.items[*at as usize]).collect();
        ratings.ratings = order.iter().map(|at| ratings.ratings[*at as usize]).collect();
    }

    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Sides>) -> Result<Sides> {
        let Some(ratings) = ratings(unit.block) else {
            return Err(Error::Data(format!("mf: block {} holds no ratings", unit.block.id)));
        };
        let known = |ids: &[u32], bound: usize| ids.iter().all(|id| (*id as usize) < bound);
        let lengths = [ratings.users.len(), ratings.items.len()] == [ratings.ratings.len(); 2];
        if !lengths || !known(&ratings.users, self.users) || !known(&ratings.items, self.items) {
            return Err(Error::Data(format!(
                "mf: block {}: a user or item is missing or beyond the data's {} users and {} items",
                unit.block.id, self.users, self.items
            )));
        }
        let local = local.unwrap_or_default();
        if self.config.solver == Solver::Als {
            if unit.lanes > 1 && unit.visits == 1 {
                return Err(Error::Usage(
                    "mf: solver=als in several lanes needs an item's row in one place: use --strategy rotation, or --lanes 1"
                        .into(),
                ));
            }
            let (mut sums, total) = (params.table_mut::<f32>(ITEM_SUMS), self.layout().width());
            ratings.items.iter().for_each(|item| sums.row_mut(*item as usize)[total] += 1.0);
        }
        Ok(local)
    }

    /// Adds `squared_error` (each before its own update) and `ratings`.
    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Sides, sums: &mut Sums) -> Result<()> {
        let Some(ratings) = ratings(unit.block) else { return Ok(()) };
        if self.config.solver == Solver::Als {
            let (user_sums, orders) = local.orders(unit, ratings);
            match unit.epoch % 2 {
                0 => self.solve_users(unit, ratings, params, (user_sums, orders)),
                _ => self.solve_items(ratings, params, &orders[ITEMS]),
            }
            sums.add("ratings", ratings.ratings.len() as f64);
            return Ok(());
        }
        let rate = self.config.rate_at(unit.epoch);
        let pass = Pass {
            users: &ratings.users,
            items: &ratings.items,
            ratings: &ratings.ratings,
            rank: self.config.rank,
            mean: self.mean,
            rate: rate as f32,
            keep: (1.0 - rate * self.config.regularisation) as f32,
            ahead: !self.cached(),
        };
        let loss = kernel::run(self.level, &pass, params.tables_mut([USERS, ITEMS]));
        let count = ratings.ratings.len() as f64;
        let width = f64::from(self.range.1 - self.range.0).max(1.0);
        if !loss.is_finite() || loss > count * (100.0 * width).powi(2) {
            return Err(Error::Diverged(format!(
                "mf: squared error {:.3e} a rating in epoch {} with rate = {rate}; lower rate, or give more \
                 clocks per epoch",
                loss / count,
                unit.epoch
            )));
        }
        sums.add("squared_error", loss);
        sums.add("ratings", count);
        Ok(())
    }

    fn measure(&self, block: &Block, params: &Params, local: Option<&Sides>, sums: &mut Sums) {
        let Some(ratings) = ratings(block) else { return };
        let model = self.model(params);
        let (low, high) = self.range;
        let (mut clipped, mut squared, mut penalty) = (0.0, 0.0, 0.0);
        let each = |at: usize, predicted: f32, squares: f32| {
            let rating = ratings.ratings[at];
            let (near, far) = (f64::from(rating - predicted.clamp(low, high)), f64::from(rating - predicted));
            clipped += near * near;
            squared += far * far;
            penalty += f64::from(squares);
        };
        let (rows, columns) = (block.first_row..block.end_row, params.table::<f32>(ITEMS).range());
        let (users, items) = (&ratings.users[..], &ratings.items[..]);
        // Of rows with many ratings each, squares are taken once; of others, while they are at hand.
        let is_crowded = users.len() > 2 * (rows.len() + columns.len());
        match local.is_some() && !is_crowded {
            true => kernel::visit::<true>(self.level, &model, users, items, each),
            false => kernel::visit::<false>(self.level, &model, users, items, each),
        }
        if local.is_some() {
            if is_crowded {
                penalty =
                    self.squares(&model, USERS, rows, users) + self.squares(&model, ITEMS, columns, items);
            }
            sums.add("objective", 0.5 * (squared + self.config.regularisation * penalty));
        }
        sums.add("clipped_squared_error", clipped);
        sums.add("ratings", ratings.ratings.len() as f64);
    }

    /// `train_rmse` and `test_rmse` (predictions clipped to the range of the training ratings) and
    /// `train_objective`: the regularised objective of the module's text, per rating.
    fn metrics(&self, train: &Sums, test: Option<&Sums>, _: &Params) -> Vec<(&'static str, f64)> {
        let mean = |sums: &Sums, name| sums.get(name) / sums.get("ratings").max(1.0);
        let mut metrics = vec![
            ("train_rmse", mean(train, "clipped_squared_error").sqrt()),
            ("train_objective", mean(train, "objective")),
        ];
        let test = test.filter(|test| test.get("ratings") > 0.0);
        metrics.extend(test.map(|test| ("test_rmse", mean(test, "clipped_squared_error").sqrt())));
        metrics
    }

    /// The rating of each (user, item), clipped to the range of the training ratings.
    fn predict(&self, block: &Block, params: &Params, out: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Some(ratings) = ratings(block) else {
            return Err(Error::Usage("mf predicts ratings; the file holds other data".into()));
        };
        let (model, (low, high)) = (self.model(params), self.range);
        kernel::visit::<false>(self.level, &model, &ratings.users, &ratings.items, |row, predicted, _| {
            out(row, &[predicted.clamp(low, high)]);
        });
        Ok(())
    }

    /// `users.tsv` and `items.tsv`: original id, bias, factors. The mean that biases are added to is the card's
    /// `mean_target`.
    fn readable(&self, _: &Shape, names: &Names, params: &Params, out: &mut dyn FnMut(&str, String)) {
        let model = self.model(params);
        let name = |side: usize, row: usize| if side == USERS { names.row(row) } else { names.column(row) };
        for (side, file) in [(USERS, "users.tsv"), (ITEMS, "items.tsv")] {
            let factors: String = (0..self.config.rank).map(|factor| format!("\tfactor_{factor}")).collect();
            let mut text = format!("id\tbias{factors}\n");
            for row in 0..model.rows[side] {
                let (factors, bias) = model.row(side, row as u32);
                text += &format!("{}\t{bias}", name(side, row));
                factors.iter().for_each(|factor| text += &format!("\t{factor}"));
                text.push('\n');
            }
            out(file, text);
        }
    }
}
