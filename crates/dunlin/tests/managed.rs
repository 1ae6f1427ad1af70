//! Managed communication: updates that go out before their clock has ended are read early, once, and break no promise;
//! on a slow network a run gets further in the same time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{NoSettings, ratings, run};
use dunlin::algorithm::{ANY_TABLE_STRATEGY, Algorithm, StrategyKind, Sums, Unit};
use dunlin::comm::cluster::{Job, run_sim};
use dunlin::comm::link::sim::Stragglers;
use dunlin::comm::{
    Cluster, Comm, Error as CommError, Fault, Network, Processes, SimConfig, Time, child, job,
};
use dunlin::data::{Block, Kind, Shape};
use dunlin::event::Outcome;
use dunlin::run::{Run, Stop};
use dunlin::table::{Axis, Params, TableSpec, Type};
use dunlin::train::{Observer, Source, train};
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;

#[test]
fn entry_of_child_processes() {
    child(&[job::<CountJob>()]);
}

const LANES: usize = 4;
/// Steps in a clock of a lane: 24 blocks, 4 lanes, 1 clock an epoch.
const STEPS: i64 = 6;
const EPOCHS: usize = 8;

/// Every lane counts its steps in a row of its own, in integers and in floats, and in every step looks at all others'.
struct StepTest {
    /// Steps of the lanes of this rank.
    done: Mutex<BTreeMap<usize, i64>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Seen {
    /// How many clocks another lane was behind at most.
    behind: i64,
    /// How often another lane was seen in the middle of a clock.
    within: u64,
}

impl Algorithm for StepTest {
    const NAME: &'static str = "step-test";
    const ABOUT: &'static str = "for tests";
    const DATA: Kind = Kind::Ratings;
    const STRATEGIES: &'static [StrategyKind] = ANY_TABLE_STRATEGY;
    type Config = NoSettings;
    type Local = Seen;

    fn new(_: &NoSettings, _: &Shape) -> Result<StepTest> {
        Ok(StepTest { done: Mutex::default() })
    }
    fn tables(&self) -> Vec<TableSpec> {
        let counts = TableSpec::new("counts", LANES, 600).axis(Axis::Whole);
        vec![counts.clone().element(Type::I32), TableSpec { name: "floats".into(), ..counts }]
    }
    fn begin(&self, _: &Unit, _: &mut Params, _: Option<Seen>) -> Result<Seen> {
        Ok(Seen::default())
    }
    fn step(&self, unit: &Unit, params: &mut Params, local: &mut Seen, _: &mut Sums) -> Result<()> {
        let (lane, clock) = (unit.lane, unit.clock as i64);
        let mut done = self.done.lock().unwrap();
        let done = done.entry(lane).or_default();
        for other in 0..LANES {
            let (counts, floats) = (params.table::<i32>(0).row(other), params.table::<f32>(1).row(other));
            let (count, float) = (i64::from(counts[0]), floats[0] as i64);
            let torn = counts.iter().any(|n| *n != counts[0]) || floats.iter().any(|n| *n != floats[0]);
            let wrong = torn || count > EPOCHS as i64 * STEPS || float > EPOCHS as i64 * STEPS;
            if wrong || (other == lane && (count != *done || float != *done)) {
                let what = format!("lane {lane} after {done} steps saw {count} and {float} of lane {other}");
                return Err(Error::Data(what));
            }
            if other != lane {
                local.behind = local.behind.max(clock - count.min(float) / STEPS);
                local.within += u64::from(count % STEPS != 0);
            }
        }
        params.table_mut::<i32>(0).row_mut(lane).iter_mut().for_each(|n| *n += 1);
        params.table_mut::<f32>(1).row_mut(lane).iter_mut().for_each(|n| *n += 1.0);
        *done += 1;
        Ok(())
    }
    fn measure(&self, _: &Block, _: &Params, local: Option<&Seen>, sums: &mut Sums) {
        let seen = local.cloned().unwrap_or_default();
        sums.add("within", seen.within as f64);
        sums.add("too far", if seen.behind > 2 { 1.0 } else { 0.0 });
    }
    fn metrics(&self, train: &Sums, _: Option<&Sums>, params: &Params) -> Vec<(&'static str, f64)> {
        let counts = params.table::<i32>(0);
        let floats = params.table::<f32>(1);
        let wrong = (0..LANES).filter(|lane| floats.row(*lane)[599] != counts.row(*lane)[599] as f32);
        vec![
            ("steps", (0..LANES).map(|lane| f64::from(counts.row(lane)[599])).sum()),
            ("wrong", wrong.count() as f64),
            ("within", train.get("within")),
            ("too_far", train.get("too far")),
        ]
    }
}

struct Quiet;
impl Observer for Quiet {
    fn event(&mut self, _: &dunlin::event::Event) {}
}

#[derive(Serialize, Deserialize)]
struct CountJob(Vec<u8>);

impl Job for CountJob {
    const NAME: &'static str = "count";
    type Out = Outcome;
    fn body(&self, comm: &mut Comm) -> dunlin::comm::Result<Outcome> {
        let run: Run = serde_json::from_slice(&self.0).map_err(|e| CommError::Body(e.to_string()))?;
        Ok(train::<StepTest>(&run, &Source::new(ratings(), None), comm, &mut Quiet)?)
    }
}

fn counting(strategy: &str, workers: usize, bandwidth: u64, transfer: &str) -> Run {
    Run {
        clocks_per_epoch: Some(1),
        eval_every: EPOCHS / 2,
        compute_ns: 20_000.0,
        bandwidth: Some(bandwidth),
        transfer: transfer.parse().unwrap(),
        ..run("step-test", strategy, workers, LANES, EPOCHS)
    }
}

fn counted(run: &Run, outcome: &Outcome, place: &str) -> f64 {
    let metric = |name: &str| outcome.metrics[name];
    let steps = (LANES * EPOCHS) as f64 * STEPS as f64;
    assert_eq!((metric("steps"), metric("wrong")), (steps, 0.0), "{place}: updates lost or doubled");
    assert!(
        metric("too_far") == 0.0 || run.strategy.to_string() == "asp",
        "{place}: staleness beyond the bound"
    );
    metric("within")
}

/// Through breaking connections, lost ranks and stragglers.
#[test]
fn early_updates_are_neither_lost_nor_doubled_and_break_no_bound() {
    let (mut ended_well, mut early) = (0, 0.0);
    for seed in 0..150u64 {
        let strategy = ["ssp:2", "essp:2", "asp", "ssp:0"][seed as usize % 4];
        let transfer = ["f32", "bf16", "f16"][seed as usize / 4 % 3];
        let bandwidth = [200_000, 2_000_000, 50_000_000][seed as usize % 3];
        let run = counting(strategy, [2, 3, 4][seed as usize / 2 % 3], bandwidth, transfer);
        let faults = if seed % 2 == 0 {
            Vec::new()
        } else {
            Fault::random(seed, run.workers, Time::from_seconds(0.3))
        };
        let stragglers = match seed % 5 {
            0 => Stragglers::Fixed(vec![(1, 6.0)]),
            1 => Stragglers::Random { probability: 0.2, factor: 8.0 },
            _ => Stragglers::None,
        };
        let network = Network { bandwidth_bits_per_second: 2e7, ..Network::default() };
        let config = SimConfig { faults, stragglers, network, ..SimConfig::new(run.workers, seed) };
        let job = CountJob(serde_json::to_vec(&run).unwrap());
        let (outcome, report) = run_sim(&config, |comm: &mut Comm| job.body(comm));
        let place = format!("seed {seed}: {strategy}, {transfer}, {bandwidth} B/s, {} workers", run.workers);
        match outcome {
            Ok(outs) => {
                ended_well += 1;
                early += counted(&run, &outs[0], &place);
                let managed = outs[0].report.managed;
                assert!(managed.clock_bytes > 0 && managed.budget_bytes > 0.0, "{place}: {managed:?}");
            }
            Err(CommError::Lost(loss)) => {
                let losers: Vec<usize> = report.fired.iter().filter_map(Fault::loses).collect();
                assert!(losers.contains(&loss.rank), "{place}: {loss}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
    assert!(ended_well > 80 && early > 1000.0, "{ended_well} ended well, seen within a clock {early} times");
}

#[test]
fn threads_and_processes_keep_the_promise_too() {
    let arguments = ["--exact", "entry_of_child_processes", "--nocapture"].map(String::from).to_vec();
    for strategy in ["ssp:2", "essp:2", "asp"] {
        for (workers, servers) in [(2, 0), (4, 0), (2, 1)] {
            let run = Run { servers, ..counting(strategy, workers, 1_000_000_000, "bf16") };
            let ranks = workers + servers;
            let processes = Processes { arguments: arguments.clone(), ..Processes::new(ranks) };
            for cluster in [Cluster::Threads(ranks), Cluster::Processes(processes)] {
                let place = format!("{strategy}, {workers} workers, {servers} servers");
                let outcome = cluster.run(&CountJob(serde_json::to_vec(&run).unwrap())).unwrap().remove(0);
                counted(&run, &outcome, &place);
            }
        }
    }
}

/// Virtual seconds until `tiny-mf` has got its loss down to 0.6, and the loss that it has then.
fn seconds_to_target(run: &Run, seed: u64) -> (f64, f64) {
    let network = Network { bandwidth_bits_per_second: 2e7, ..Network::default() };
    let config = SimConfig { network, ..SimConfig::new(run.workers, seed) };
    let (outcome, _) = run_sim(&config, |comm: &mut Comm| {
        Ok(train::<common::TinyMf>(run, &Source::new(ratings(), None), comm, &mut Quiet)?)
    });
    let outcome = outcome.unwrap().remove(0);
    assert_eq!(outcome.reason, "until", "seed {seed}: {:?}", outcome.metrics);
    (outcome.seconds, outcome.metrics["train_objective"])
}

/// Where clocks are long and lanes may be four of them apart, what they read is old, and their sums overshoot.
#[test]
fn on_a_slow_network_a_run_is_sooner_where_it_is_to_be() {
    for (clocks, eval_every) in [(1, 10), (2, 5)] {
        for seed in 1..=3 {
            let until = Some("train_objective<=0.6".parse().unwrap());
            let plain = Run {
                clocks_per_epoch: Some(clocks),
                eval_every,
                compute_ns: 200_000.0,
                stop: Stop { epochs: 200, until, seconds: None },
                ..run("tiny-mf", "ssp:4", 4, LANES, 200)
            };
            let managed = Run { bandwidth: Some(625_000), ..plain.clone() };
            let [(without, _), (with, loss)] = [plain, managed].map(|run| seconds_to_target(&run, seed));
            assert!(with < 0.6 * without, "seed {seed}: {with} s, {without} s without");
            assert!(loss < 0.6, "seed {seed}: {loss}");
        }
    }
}

#[test]
fn the_same_seed_replays_the_same_bytes() {
    let run = counting("ssp:2", 3, 1_000_000, "bf16");
    let transcript = |seed| {
        let config = SimConfig { record: true, ..SimConfig::new(3, seed) };
        let job = CountJob(serde_json::to_vec(&run).unwrap());
        let (outcome, report) = run_sim(&config, |comm: &mut Comm| job.body(comm));
        outcome.unwrap();
        report.transcript
    };
    assert!(transcript(7) == transcript(7), "one seed, two stories");
}
