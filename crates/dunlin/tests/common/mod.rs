//! Two small models for tests of the engine, and the job that trains them on any cluster.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part")]

pub mod lasso;

use dunlin::algorithm::{ANY_STRATEGY, ANY_TABLE_STRATEGY, Algorithm, StrategyKind, Sums, Unit};
use dunlin::comm::cluster::Job;
use dunlin::comm::{Cluster, Comm, Processes, SimConfig};
use dunlin::data::{Block, Contents, Data, Kind, Names, Ratings, Scratch, Shape, Store};
use dunlin::event::{Event, Outcome};
use dunlin::rng::stream;
use dunlin::run::{CheckpointPolicy, Run, Stop};
use dunlin::table::{Axis, Init, Params, Storage, TableSpec, Type};
use dunlin::train::{Observer, Source, train};
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Matrix factorisation in its plainest form, with a table of each axis and type. With `SPREAD` the tables that go round
/// are nowhere whole. `WIDE` is the width of a further table of items, large enough for row blocks to travel in pieces.
pub struct Tiny<const SPREAD: bool, const WIDE: usize = 0>;

pub type TinyMf = Tiny<false>;

pub type TinyWide<const SPREAD: bool> = Tiny<SPREAD, 720>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoSettings {}

const USERS: usize = 0;
const ITEMS: usize = 1;
const SEEN: usize = 2;
const BIAS: usize = 3;
const WIDE_ITEMS: usize = 4;

impl<const SPREAD: bool, const WIDE: usize> Algorithm for Tiny<SPREAD, WIDE> {
    const NAME: &'static str = match (SPREAD, WIDE > 0) {
        (false, false) => "tiny-mf",
        (true, false) => "tiny-spread",
        (false, true) => "tiny-wide",
        (true, true) => "tiny-wide-spread",
    };
    const ABOUT: &'static str = "for tests";
    const DATA: Kind = Kind::Ratings;
    const STRATEGIES: &'static [StrategyKind] = ANY_STRATEGY;
    const MEASURES_BY_LAP: bool = SPREAD;
    const INTERLEAVES_PASSES: bool = true;
    type Config = NoSettings;
    type Local = u64;

    fn new(_: &NoSettings, _: &Shape) -> Result<Self> {
        Ok(Tiny)
    }
    fn tables(&self) -> Vec<TableSpec> {
        let mut tables = vec![
            TableSpec::new("users", 60, 5).axis(Axis::Example).init(Init::Uniform { scale: 0.5 }),
            TableSpec::new("items", 40, 5).init(Init::Normal { deviation: 0.3 }),
            TableSpec::new("seen", 40, 1).element(Type::I32),
            TableSpec::new("bias", 1, 2).element(Type::F64).axis(Axis::Whole),
        ];
        if WIDE > 0 {
            tables.push(TableSpec::new("wide", 40, WIDE).init(Init::Normal { deviation: 0.1 }));
        }
        tables
    }
    fn keeps_to_its_features(&self) -> bool {
        true
    }
    fn begin(&self, unit: &Unit, params: &mut Params, local: Option<u64>) -> Result<u64> {
        let Contents::Ratings(ratings) = &unit.block.contents else {
            return Err(Error::Data("ratings".into()));
        };
        let mut seen = params.table_mut::<i32>(SEEN);
        ratings.items.iter().for_each(|item| seen.row_mut(*item as usize)[0] += 1);
        Ok(local.unwrap_or(0))
    }
    fn step(&self, unit: &Unit, params: &mut Params, local: &mut u64, sums: &mut Sums) -> Result<()> {
        let Contents::Ratings(ratings) = &unit.block.contents else {
            return Err(Error::Data("ratings".into()));
        };
        *local += unit.rng("steps").next() % 7;
        for ((user, item), rating) in ratings.users.iter().zip(&ratings.items).zip(&ratings.ratings) {
            let bias = params.table::<f64>(BIAS).row(0)[0];
            let [mut users, mut items] = params.tables_mut::<f32, 2>([USERS, ITEMS]);
            let (p, q) = (users.row_mut(*user as usize), items.row_mut(*item as usize));
            let dot: f32 = p.iter().zip(q.iter()).map(|(p, q)| p * q).sum();
            let error = rating - dot - bias as f32;
            for (p, q) in p.iter_mut().zip(q) {
                (*p, *q) = (*p + 0.02 * error * *q, *q + 0.02 * error * *p);
            }
            params.table_mut::<f64>(BIAS).row_mut(0)[0] += 0.002 * f64::from(error);
            if WIDE > 0 {
                let mut wide = params.table_mut::<f32>(WIDE_ITEMS);
                let row = wide.row_mut(*item as usize);
                row[*user as usize * 7 % WIDE] = 0.5 * row[*user as usize] + error;
            }
            sums.add("squares", f64::from(error * error));
        }
        Ok(())
    }
    fn measure(&self, block: &Block, params: &Params, local: Option<&u64>, sums: &mut Sums) {
        let Contents::Ratings(ratings) = &block.contents else { return };
        let (users, items) = (params.table::<f32>(USERS), params.table::<f32>(ITEMS));
        let bias = params.table::<f64>(BIAS).row(0)[0] as f32;
        for ((user, item), rating) in ratings.users.iter().zip(&ratings.items).zip(&ratings.ratings) {
            let (p, q) = (users.row(*user as usize), items.row(*item as usize));
            let dot: f32 = p.iter().zip(q).map(|(p, q)| p * q).sum();
            sums.add("squares", f64::from(rating - dot - bias).powi(2));
        }
        sums.add("local", local.copied().unwrap_or(0) as f64);
        sums.add("count", block.samples() as f64);
    }
    fn measure_rows(&self, params: &Params, sums: &mut Sums) {
        let seen = params.table::<i32>(SEEN);
        seen.range().for_each(|item| sums.add("seen", f64::from(seen.row(item)[0])));
    }
    fn metrics(&self, train: &Sums, _: Option<&Sums>, _: &Params) -> Vec<(&'static str, f64)> {
        let objective = train.get("squares") / train.get("count");
        vec![("train_objective", objective), ("local", train.get("local")), ("seen", train.get("seen"))]
    }
}

/// Ratings of 60 users and 40 items in 24 blocks. A user rates neighbours of 4 items, so that a third of the users leaves
/// more than half of the items alone.
pub fn ratings() -> Data {
    let mut rng = stream(5, "test-ratings", &[]);
    let taste: Vec<f64> = (0..100).map(|_| rng.normal()).collect();
    let mut blocks = Vec::new();
    for id in 0..24usize {
        let (first, end) = (60 * id / 24, 60 * (id + 1) / 24);
        let mut ratings = Ratings::default();
        for user in first..end {
            for _ in 0..12 {
                let item = (user * 40 / 60 + rng.below(4)) % 40;
                ratings.users.push(user as u32);
                ratings.items.push(item as u32);
                ratings.ratings.push((3.0 + taste[user] * taste[60 + item] + 0.1 * rng.normal()) as f32);
            }
        }
        let contents = Contents::Ratings(ratings);
        blocks.push(Block { id: id as u32, first_row: first, end_row: end, contents });
    }
    let samples = blocks.iter().map(Block::samples).sum();
    let shape = Shape {
        kind: Kind::Ratings,
        rows: 60,
        columns: 40,
        entries: samples,
        samples,
        classes: Vec::new(),
        mean_target: 3.0,
        min_target: -10.0,
        max_target: 10.0,
    };
    Data { shape, names: Names::default(), blocks }
}

/// Petuum's clock test: every lane counts its clocks in a cell of its own, and on every read checks all others.
pub struct ClockTest {
    lanes: usize,
    bound: i64,
    exact: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    lanes: usize,
    /// Clocks of staleness; less than 0 is no bound.
    bound: i64,
    /// True if a read must hold no more than the bound asks for.
    exact: bool,
    /// True to sleep a random time in each step.
    sleep: bool,
}

impl Algorithm for ClockTest {
    const NAME: &'static str = "clock-test";
    const ABOUT: &'static str = "for tests";
    const DATA: Kind = Kind::Ratings;
    const STRATEGIES: &'static [StrategyKind] = ANY_TABLE_STRATEGY;
    type Config = ClockSettings;
    /// Clocks that this block's lane has counted; the largest staleness seen.
    type Local = i64;

    fn new(settings: &ClockSettings, _: &Shape) -> Result<ClockTest> {
        Ok(ClockTest { lanes: settings.lanes, bound: settings.bound, exact: settings.exact })
    }
    fn tables(&self) -> Vec<TableSpec> {
        // A chunk for each cell, so that all shards take part.
        vec![TableSpec::new("clocks", self.lanes, 16_384).axis(Axis::Whole).element(Type::I32)]
    }
    fn begin(&self, _: &Unit, _: &mut Params, _: Option<i64>) -> Result<i64> {
        Ok(0)
    }
    fn step(&self, unit: &Unit, params: &mut Params, local: &mut i64, _: &mut Sums) -> Result<()> {
        let clock = unit.clock as i64;
        for other in 0..self.lanes {
            let seen = i64::from(params.table::<i32>(0).row(other)[3]);
            let own = other == unit.lane;
            let wrong = (own && seen != clock)
                || (self.bound >= 0 && seen < clock - self.bound)
                || (self.exact && seen != clock);
            if wrong {
                let (lane, bound) = (unit.lane, self.bound);
                return Err(Error::Data(format!(
                    "lane {lane} at clock {clock} saw lane {other} at {seen}, S = {bound}"
                )));
            }
            *local = (*local).max(clock - seen);
        }
        params.table_mut::<i32>(0).row_mut(unit.lane)[3] += 1;
        Ok(())
    }
    fn measure(&self, _: &Block, _: &Params, local: Option<&i64>, sums: &mut Sums) {
        sums.add("stale", local.copied().unwrap_or(0) as f64);
    }
    fn metrics(&self, train: &Sums, _: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let clocks: Vec<i32> = (0..self.lanes).map(|lane| params.table::<i32>(0).row(lane)[3]).collect();
        let (least, most) = (clocks.iter().min(), clocks.iter().max());
        let stale = train.get("stale");
        vec![
            ("least", f64::from(*least.unwrap_or(&0))),
            ("most", f64::from(*most.unwrap_or(&0))),
            ("stale", stale),
        ]
    }
}

/// A run of a test model.
pub fn run(model: &str, strategy: &str, workers: usize, lanes: usize, epochs: usize) -> Run {
    Run {
        model: model.into(),
        settings: serde_json::json!({}),
        train: "test".into(),
        test: None,
        read: Default::default(),
        workers,
        servers: 0,
        lanes,
        strategy: strategy.parse().unwrap(),
        cluster: "threads".into(),
        stop: Stop { epochs, ..Stop::default() },
        clocks_per_epoch: (!strategy.starts_with("rotation") && !strategy.starts_with("scheduled"))
            .then_some(2),
        eval_every: 1,
        seed: 11,
        checkpoint: CheckpointPolicy::default(),
        slow: Vec::new(),
        compute_ns: 1000.0,
        stall_timeout: 30.0,
        out: None,
        resume: false,
        log_order: None,
        replay: None,
        memory: None,
        transfer: Default::default(),
        bandwidth: None,
        rehost: true,
    }
}

/// Trains a test model; gives the outcome and, on rank 0, a hash of all tables and the metrics of each evaluation.
#[derive(Serialize, Deserialize)]
pub struct TestJob(pub Vec<u8>);

impl TestJob {
    pub fn new(run: &Run) -> TestJob {
        TestJob(serde_json::to_vec(run).unwrap())
    }
}

/// What [`TestJob`] gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    pub hash: u64,
    pub losses: Vec<u64>,
    pub metrics: Vec<(String, f64)>,
    pub staleness: Vec<(i64, u64)>,
    pub blocked_seconds: f64,
    pub seconds: f64,
    pub update_bytes: [u64; 2],
    /// The cuts of each re-hosting.
    pub rehosted: Vec<Vec<usize>>,
    pub warnings: Vec<String>,
}

/// The same data as under `--memory`: in a file of `folder`, or of the folder for temporary files.
pub fn on_disk(data: Data, folder: Option<&Path>) -> Result<Source> {
    let scratch = Scratch::new(folder.unwrap_or(&std::env::temp_dir()));
    let mut store = Store::new(&scratch)?;
    data.blocks.iter().try_for_each(|block| store.push(block))?;
    let blocks = (0..store.len()).map(|at| store.stub(at).clone()).collect();
    Source::on_disk((Data { blocks, ..data }, store), None, &scratch)
}

#[derive(Default)]
struct Recorder(Trained);

impl Observer for Recorder {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Evaluated { metrics, .. } => {
                self.0.losses.extend(metrics.values().map(|value| value.to_bits()));
            }
            Event::Rehosted { cuts, .. } => self.0.rehosted.push(cuts.clone()),
            Event::Warning { text } => self.0.warnings.push(text.clone()),
            _ => {}
        }
    }
    fn finished(&mut self, params: Option<&Params>, _: &Source) -> Result<()> {
        for replica in params.iter().flat_map(|params| &params.replicas) {
            let bytes = replica.row_bytes(0..replica.spec.rows);
            self.0.hash = self.0.hash.rotate_left(7) ^ fold(bytes);
        }
        Ok(())
    }
}

fn fold(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The hash that [`TestJob`] would give for these tables.
pub fn hash(params: &Params) -> u64 {
    params.replicas.iter().fold(0u64, |hash, replica| {
        assert!(matches!(&replica.values, Storage::F32(_) | Storage::F64(_) | Storage::I32(_)));
        hash.rotate_left(7) ^ fold(replica.row_bytes(0..replica.spec.rows))
    })
}

impl Job for TestJob {
    const NAME: &'static str = "test";
    type Out = Trained;
    fn body(&self, comm: &mut Comm) -> dunlin::comm::Result<Trained> {
        let run: Run =
            serde_json::from_slice(&self.0).map_err(|e| dunlin::comm::Error::Body(e.to_string()))?;
        let data = if run.model == "tiny-lasso" { lasso::correlated() } else { ratings() };
        let source = match run.memory {
            None => Source::new(data, None),
            Some(_) => on_disk(data, run.out.as_deref())?,
        };
        let mut recorder = Recorder::default();
        let outcome: Outcome = match run.model.as_str() {
            "tiny-mf" => train::<TinyMf>(&run, &source, comm, &mut recorder)?,
            "tiny-spread" => train::<Tiny<true>>(&run, &source, comm, &mut recorder)?,
            "tiny-wide" => train::<TinyWide<false>>(&run, &source, comm, &mut recorder)?,
            "tiny-wide-spread" => train::<TinyWide<true>>(&run, &source, comm, &mut recorder)?,
            "tiny-lasso" => train::<lasso::TinyLasso>(&run, &source, comm, &mut recorder)?,
            _ => train::<ClockTest>(&run, &source, comm, &mut recorder)?,
        };
        let Recorder(trained) = recorder;
        Ok(Trained {
            metrics: outcome.metrics.into_iter().collect(),
            staleness: outcome
                .report
                .staleness
                .get("clocks")
                .into_iter()
                .flatten()
                .map(|(a, b)| (*a, *b))
                .collect(),
            blocked_seconds: outcome.blocked_seconds,
            seconds: outcome.seconds,
            update_bytes: outcome.report.update_bytes,
            ..trained
        })
    }
}

/// The clusters with `ranks` ranks that a test goes through. A test binary that uses it has the test
/// `entry_of_child_processes`.
pub fn clusters(ranks: usize) -> Vec<(&'static str, Cluster)> {
    let arguments = ["--exact", "entry_of_child_processes", "--nocapture"].map(String::from).to_vec();
    vec![
        ("threads", Cluster::Threads(ranks)),
        ("sim", Cluster::Sim(SimConfig::new(ranks, 3))),
        ("processes", Cluster::Processes(Processes { arguments, ..Processes::new(ranks) })),
    ]
}

/// Runs `run` on `cluster`; rank 0's result.
pub fn train_on(cluster: &Cluster, run: &Run) -> dunlin::comm::Result<Trained> {
    cluster.run(&TestJob::new(run)).map(|mut outs| outs.swap_remove(0))
}
