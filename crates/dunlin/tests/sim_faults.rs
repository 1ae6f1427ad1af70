//! Training in the simulator while things go wrong: connections break and come back, frames are late, ranks die. A
//! run either learns exactly what it should or ends with the rank that was lost; it never hangs and never learns
//! something else.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, TinyMf, Trained, hash, ratings, run};
use dunlin::comm::cluster::{Job, run_sim};
use dunlin::comm::link::sim::Stragglers;
use dunlin::comm::{Comm, Error, Fault, SimConfig, Time};
use dunlin::run::Run;
use dunlin::serial::Serial;
use std::collections::BTreeMap;

/// The runs that are tried: strategy, model, staleness that the clock test allows.
const RUNS: [(&str, &str, i64); 7] = [
    ("bsp", "tiny-mf", 0),
    ("allreduce", "tiny-mf", 0),
    ("ssp:2", "clock-test", 2),
    ("essp:1", "clock-test", 1),
    ("asp", "clock-test", -1),
    ("rotation", "tiny-mf", 0),
    ("rotation:async", "tiny-mf", 0),
];

fn a_run(strategy: &str, model: &str, bound: i64) -> Run {
    let settings = match model {
        "clock-test" => serde_json::json!({"lanes": 4, "bound": bound, "exact": false}),
        _ => serde_json::json!({}),
    };
    let clocks = if model == "clock-test" { 6 } else { 2 };
    let clocks_per_epoch = (!strategy.starts_with("rotation")).then_some(clocks);
    Run { settings, clocks_per_epoch, eval_every: 2, compute_ns: 20_000.0, ..run(model, strategy, 3, 4, 4) }
}

fn train(
    config: &SimConfig,
    run: &Run,
) -> (dunlin::comm::Result<Vec<Trained>>, dunlin::comm::link::sim::Report) {
    let job = TestJob::new(run);
    run_sim(config, |comm: &mut Comm| job.body(comm))
}

#[test]
fn faults_change_nothing_or_end_the_run_with_the_rank_that_was_lost() {
    let mut serial = Serial::<TinyMf>::new(&Default::default(), ratings(), 4, 2, 11).unwrap();
    (0..4).for_each(|_| serial.epoch().unwrap());
    let wanted = hash(&serial.params);
    let mut fired: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut ended_well, mut lost, mut resent) = (0, 0, 0);
    for seed in 0..400u64 {
        let (strategy, model, bound) = RUNS[seed as usize % (RUNS.len() - 2)]; // rotation has tests of its own
        let run = a_run(strategy, model, bound);
        let faults = Fault::random(seed, 3, Time::from_seconds(0.06));
        let config = SimConfig { faults: faults.clone(), ..SimConfig::new(3, seed) };
        let (outcome, report) = train(&config, &run);
        let place = format!("seed {seed}, {strategy}, {faults:?}");
        report.fired.iter().for_each(|fault| *fired.entry(fault.kind()).or_default() += 1);
        resent += report.frames_resent;
        match outcome {
            Ok(outs) => {
                ended_well += 1;
                if model == "tiny-mf" {
                    assert_eq!(outs[0].hash, wanted, "{place}: learned something else");
                } else {
                    let metric = |name: &str| outs[0].metrics.iter().find(|(n, _)| n == name).unwrap().1;
                    // Six blocks a lane and as many clocks an epoch: each clock counts one.
                    assert_eq!((metric("least"), metric("most")), (24.0, 24.0), "{place}: lost or doubled");
                }
            }
            Err(Error::Lost(loss)) => {
                lost += 1;
                let losers: Vec<usize> = report.fired.iter().filter_map(Fault::loses).collect();
                assert!(losers.contains(&loss.rank), "{place}: {loss}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
    assert!(ended_well > 100 && lost > 50, "{ended_well} ended well, {lost} lost a rank");
    assert!(Fault::KINDS.iter().all(|kind| fired.get(kind).is_some_and(|n| *n > 10)), "{fired:?}");
    assert!(resent > 10, "{resent} frames were sent again");
}

/// Rotation has no shards and no clock that all are at: row blocks are late, come again, or are lost with their lane.
#[test]
fn under_rotation_faults_change_nothing_or_end_the_run_with_the_row_block_that_was_lost() {
    let mut fired: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wanted: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut ended_well, mut lost, mut held, mut resent) = (0, 0, 0, 0);
    for seed in 0..400u64 {
        let lanes = 3 + seed as usize % 4;
        let run = Run { lanes, eval_every: 1 + seed as usize % 3, ..a_run("rotation", "tiny-mf", 0) };
        let wanted =
            *wanted.entry(lanes).or_insert_with(|| train(&SimConfig::new(3, 0), &run).0.unwrap()[0].hash);
        let faults = Fault::random(seed, 3, Time::from_seconds(0.06));
        let stragglers = match seed % 3 {
            0 => Stragglers::None,
            1 => Stragglers::Fixed(vec![(seed as usize / 3 % 3, 8.0)]),
            _ => Stragglers::Random { probability: 0.2, factor: 10.0 },
        };
        let config = SimConfig { faults: faults.clone(), stragglers, ..SimConfig::new(3, seed) };
        let (outcome, report) = train(&config, &run);
        let place = format!("seed {seed}, {lanes} lanes, {faults:?}");
        report.fired.iter().for_each(|fault| *fired.entry(fault.kind()).or_default() += 1);
        resent += report.frames_resent;
        match outcome {
            Ok(outs) => {
                ended_well += 1;
                assert_eq!(outs[0].hash, wanted, "{place}: learned something else");
            }
            Err(Error::Lost(loss)) => {
                lost += 1;
                held += usize::from(loss.to_string().contains(" with row block "));
                let losers: Vec<usize> = report.fired.iter().filter_map(Fault::loses).collect();
                assert!(losers.contains(&loss.rank), "{place}: {loss}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
    assert!(ended_well > 100 && lost > 50, "{ended_well} ended well, {lost} lost a rank");
    assert!(held > lost / 2, "{held} of {lost} losses name a row block");
    assert!(Fault::KINDS.iter().all(|kind| fired.get(kind).is_some_and(|n| *n > 10)), "{fired:?}");
    assert!(resent > 10, "{resent} frames were sent again");
}

#[test]
fn the_same_seed_replays_the_same_bytes_through_the_whole_engine() {
    for (strategy, model, bound) in RUNS {
        let run = a_run(strategy, model, bound);
        let transcript = |seed| {
            let faults = vec![Fault::Reconnect { a: 0, b: 1, at: Time::from_seconds(0.01) }];
            let config = SimConfig { record: true, faults, ..SimConfig::new(3, seed) };
            let (outcome, report) = train(&config, &run);
            outcome.unwrap();
            report.transcript
        };
        let first = transcript(7);
        assert!(first.lines().count() > 50, "{strategy}: {} lines", first.lines().count());
        assert!(first == transcript(7), "{strategy}: one seed, two stories");
        assert!(first != transcript(8), "{strategy}: the seed chooses the order");
    }
}
