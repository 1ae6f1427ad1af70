//! The ledger of `rotation` and `rotation:async`: every (data block, row block) pair is visited exactly once a lap, and every row is found as
//! its last visitor left it, on any number of workers and every cluster kind.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{clusters, run};
use dunlin::algorithm::{ANY_STRATEGY, Algorithm, StrategyKind, Sums, Unit};
use dunlin::comm::cluster::{Job, run_sim};
use dunlin::comm::{Comm, Message, SimConfig, child, job};
use dunlin::data::{Block, Contents, Data, DenseRows, Kind, Names, Ratings, Shape};
use dunlin::event::Event;
use dunlin::rng::stream;
use dunlin::run::{Run, Slow, Stop};
use dunlin::strategy::StrategySpec;
use dunlin::table::{Axis, Params, TableSpec, Type};
use dunlin::train::{Observer, Source, train};
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};

const BLOCKS: usize = 15;

/// Counts visits: with each data block by row block, and in each row by data block.
struct Ledger {
    settings: Settings,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    rows: usize,
    /// With a merged table, which holds lanes up at the end of a lap.
    merged: bool,
    /// With data that cannot be cut.
    dense: bool,
    /// Rank 1 sends rank 0 what it does not expect, first.
    hostile: bool,
}

impl Ledger {
    /// The visit of this unit, the `due`-th of its pair, is entered everywhere or is wrong.
    fn enter(&self, unit: &Unit, params: &mut Params, pairs: &mut Vec<u32>, due: u32) -> Result<()> {
        pairs.resize(pairs.len().max(unit.row_block + 1), 0);
        let place = format!("block {}, row block {}, pass {due}", unit.block.id, unit.row_block);
        if pairs[unit.row_block] != due {
            return Err(Error::Data(format!("{place}: {} visits before", pairs[unit.row_block])));
        }
        pairs[unit.row_block] += 1;
        let first = params.replicas[0].first;
        let stride = params.replicas[0].spec.stride();
        let mut visits = params.table_mut::<i32>(0);
        let count = visits.flat_mut().len() / stride;
        for row in first..first + count {
            let seen = &mut visits.row_mut(row)[unit.block.id as usize];
            if *seen != due as i32 {
                return Err(Error::Data(format!("{place}: row {row} has {seen} visits")));
            }
            *seen += 1;
        }
        if let Contents::Ratings(ratings) = &unit.block.contents
            && let Some(item) =
                ratings.items.iter().find(|item| !(first..first + count).contains(&(**item as usize)))
        {
            return Err(Error::Data(format!("{place}: an entry of row {item}")));
        }
        if self.settings.merged {
            params.table_mut::<i32>(1).row_mut(0)[0] += 1;
        }
        Ok(())
    }
}

impl Algorithm for Ledger {
    const NAME: &'static str = "ledger";
    const ABOUT: &'static str = "for tests";
    const DATA: Kind = Kind::Ratings;
    const STRATEGIES: &'static [StrategyKind] = ANY_STRATEGY;
    const INTERLEAVES_PASSES: bool = true;
    type Config = Settings;
    /// Visits by row block.
    type Local = Vec<u32>;

    fn new(settings: &Settings, _: &Shape) -> Result<Ledger> {
        Ok(Ledger { settings: settings.clone() })
    }
    fn tables(&self) -> Vec<TableSpec> {
        let visits = TableSpec::new("visits", self.settings.rows, BLOCKS).element(Type::I32);
        let merged = TableSpec::new("merged", 1, 1).element(Type::I32).axis(Axis::Whole);
        if self.settings.merged { vec![visits, merged] } else { vec![visits] }
    }
    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<Vec<u32>>) -> Result<Vec<u32>> {
        let mut pairs = local.unwrap_or_default();
        self.enter(unit, params, &mut pairs, 0)?;
        Ok(pairs)
    }
    fn step(&self, unit: &Unit, params: &mut Params, pairs: &mut Vec<u32>, _: &mut Sums) -> Result<()> {
        self.enter(unit, params, pairs, unit.epoch as u32 + 1)
    }
    fn measure(&self, _: &Block, _: &Params, pairs: Option<&Vec<u32>>, sums: &mut Sums) {
        let pairs = pairs.into_iter().flatten();
        pairs.for_each(|visits| sums.add("visits", f64::from(*visits)));
        sums.add("cells", 1.0);
    }
    fn metrics(&self, train: &Sums, _: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let sum = |table: usize| params.table::<i32>(table).flat().iter().map(|n| f64::from(*n)).sum::<f64>();
        let merged = if self.settings.merged { sum(1) } else { 0.0 };
        vec![
            ("visits", train.get("visits")),
            ("cells", train.get("cells")),
            ("rows", sum(0)),
            ("merged", merged),
        ]
    }
}

/// A few ratings, many of them of the first items: some cells are empty, and so are some row blocks.
fn data(settings: &Settings) -> Data {
    let mut rng = stream(3, "ledger", &[]);
    let blocks = (0..BLOCKS).map(|id| {
        let mut ratings = Ratings::default();
        for _ in 0..rng.below(6) {
            ratings.users.push(2 * id as u32 + rng.below(2) as u32);
            let most = 1 + rng.below(settings.rows);
            ratings.items.push(rng.below(most) as u32);
            ratings.ratings.push(1.0);
        }
        let contents = match settings.dense {
            true => Contents::Dense(DenseRows {
                width: 1,
                values: vec![1.0; 2],
                classes: vec![0; 2],
                targets: Vec::new(),
            }),
            false => Contents::Ratings(ratings),
        };
        Block { id: id as u32, first_row: 2 * id, end_row: 2 * id + 2, contents }
    });
    let blocks: Vec<Block> = blocks.collect();
    let samples = blocks.iter().map(Block::samples).sum();
    let shape = Shape {
        kind: Kind::Ratings,
        rows: 2 * BLOCKS,
        columns: settings.rows,
        entries: samples,
        samples,
        classes: Vec::new(),
        mean_target: 1.0,
        min_target: 1.0,
        max_target: 1.0,
    };
    Data { shape, names: Names::default(), blocks }
}

struct Nobody;

impl Observer for Nobody {
    fn event(&mut self, _: &Event) {}
}

#[derive(Serialize, Deserialize)]
struct LedgerJob(Vec<u8>);

impl Job for LedgerJob {
    const NAME: &'static str = "ledger";
    /// Visits by pair and by row, those merged, epochs done, cells.
    type Out = [f64; 5];
    fn body(&self, comm: &mut Comm) -> dunlin::comm::Result<[f64; 5]> {
        let body = |error: &dyn std::fmt::Display| dunlin::comm::Error::Body(error.to_string());
        let run: Run = serde_json::from_slice(&self.0).map_err(|error| body(&error))?;
        let settings: Settings =
            serde_json::from_value(run.settings.clone()).map_err(|error| body(&error))?;
        if settings.hostile && comm.rank() == 1 {
            // No entries, that is: rows as they are.
            const NO_ENTRIES: u8 = 0;
            // A row block or a row block of a table that nobody has, in the form of the first kind of packet.
            let message = match run.strategy {
                StrategySpec::RotationAsync => {
                    let token = (77u32, 0u32, 0u64, vec![0u64]);
                    Message::new(&(0u8, 0u16, vec![token], vec![0u32; 2], NO_ENTRIES), Default::default())
                }
                _ => Message::new(&(0u8, 0u32, u64::MAX, 7u16, NO_ENTRIES), Default::default()),
            };
            comm.send(0, dunlin::channel::ROTATION, message)?;
        }
        let outcome = train::<Ledger>(&run, &Source::new(data(&settings), None), comm, &mut Nobody)?;
        let metric = |name: &str| outcome.metrics[name];
        Ok([metric("visits"), metric("rows"), metric("merged"), outcome.epochs as f64, metric("cells")])
    }
}

#[test]
fn entry_of_child_processes() {
    child(&[job::<LedgerJob>()]);
}

fn ledger_run(strategy: &str, workers: usize, lanes: usize, settings: &Settings) -> Run {
    let settings = serde_json::to_value(settings).unwrap();
    Run { settings, eval_every: 3, ..run("ledger", strategy, workers, lanes, 4) }
}

const STRATEGIES: [&str; 2] = ["rotation", "rotation:async"];

/// All pairs and rows have been visited once a lap: in `begin` and in each epoch.
fn check(strategy: &str, place: &str, out: [f64; 5], lanes: usize, settings: &Settings) {
    let [visits, rows, merged, epochs, cells] = out;
    let per_lane = if strategy == "rotation" { 2 } else { (settings.rows / lanes).clamp(1, 8) };
    let (row_blocks, laps, blocks) = ((per_lane * lanes) as f64, 1.0 + epochs, BLOCKS as f64);
    assert_eq!(cells, blocks * row_blocks, "{place}: cells");
    // A block is measured once for each of its cells, all its visits each time.
    assert_eq!(visits, blocks * row_blocks * laps * row_blocks, "{place}: visits of pairs");
    assert_eq!(rows, blocks * settings.rows as f64 * laps, "{place}: visits of rows");
    let wanted = if settings.merged { blocks * row_blocks * laps } else { 0.0 };
    assert_eq!(merged, wanted, "{place}: updates of the merged table");
}

#[test]
fn every_pair_is_visited_once_a_lap() {
    STRATEGIES.iter().for_each(|strategy| pairs_are_visited_once(strategy));
}

fn pairs_are_visited_once(strategy: &str) {
    for workers in 1..=3 {
        for (name, cluster) in clusters(workers) {
            for lanes in workers.max(2)..=7 {
                for (rows, merged) in [(40, false), (40, true), (3, false), (1, true)] {
                    let settings = Settings { rows, merged, ..Settings::default() };
                    let place = format!(
                        "{strategy}, {workers} workers, {name}, {lanes} lanes, {rows} rows, merged {merged}"
                    );
                    let run = ledger_run(strategy, workers, lanes, &settings);
                    let job = LedgerJob(serde_json::to_vec(&run).unwrap());
                    if name == "processes" && (lanes % 3 != 0 || rows == 3) {
                        continue; // they take time to start
                    }
                    let outs = cluster.run(&job).unwrap_or_else(|error| panic!("{place}: {error}"));
                    assert_eq!(outs[0][3], 4.0, "{place}");
                    check(strategy, &place, outs[0], lanes, &settings);
                }
            }
        }
    }
}

/// Time that is up at any moment: lanes that have gone ahead of others on their rank stop at the end of a lap too.
#[test]
fn a_run_that_is_stopped_stops_all_lanes_at_the_end_of_one_lap() {
    STRATEGIES.iter().for_each(|strategy| stops_at_the_end_of_a_lap(strategy));
}

fn stops_at_the_end_of_a_lap(strategy: &str) {
    let mut early = 0;
    for seed in 0..300u64 {
        let mut rng = stream(seed, "stopped", &[]);
        let (workers, merged) = (2 + rng.below(2), rng.below(4) == 0);
        let lanes = workers + rng.below(7);
        let settings = Settings { rows: 30, merged, ..Settings::default() };
        let stop = Stop { epochs: 40, seconds: Some(0.001 + 0.05 * rng.unit()), ..Stop::default() };
        let slow = vec![Slow::Rank { rank: rng.below(workers), factor: 1.0 + 9.0 * rng.unit() }];
        let compute_ns = 1e5 * rng.unit();
        let ledger_run = ledger_run(strategy, workers, lanes, &settings);
        let run = Run { stop, slow, compute_ns, eval_every: 40, seed, ..ledger_run };
        let job = LedgerJob(serde_json::to_vec(&run).unwrap());
        let (outs, _) = run_sim(&SimConfig::new(workers, seed), |comm: &mut Comm| job.body(comm));
        let place = format!("{strategy}, seed {seed}, {workers} workers, {lanes} lanes, merged {merged}");
        let outs = outs.unwrap_or_else(|error| panic!("{place}: {error}"));
        check(strategy, &place, outs[0], lanes, &settings);
        early += usize::from(outs[0][3] < 40.0);
    }
    assert!(early > 100, "{early} of 300 were stopped early");
}

#[test]
fn data_that_cannot_be_cut_are_refused_before_training() {
    let settings = Settings { rows: 5, dense: true, ..Settings::default() };
    let job = LedgerJob(serde_json::to_vec(&ledger_run("rotation", 2, 4, &settings)).unwrap());
    for (name, cluster) in clusters(2) {
        let error = cluster.run(&job).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("--strategy rotation: the data of ledger are dense rows"), "{name}: {text}");
        assert_eq!(Error::from(error).status(), 2, "{name}: {text}");
    }
}

#[test]
fn a_rank_that_sends_what_nobody_expects_is_named() {
    let settings = Settings { rows: 20, hostile: true, ..Settings::default() };
    for (strategy, what) in
        STRATEGIES.into_iter().zip(["rows of table 7 for lane 0", "row block 77 for lane 0"])
    {
        let job = LedgerJob(serde_json::to_vec(&ledger_run(strategy, 2, 4, &settings)).unwrap());
        for (name, cluster) in clusters(2) {
            let text = cluster.run(&job).unwrap_err().to_string();
            assert!(text.contains(&format!("rank 1 sent a bad message: {what}")), "{name}: {text}");
        }
    }
}
