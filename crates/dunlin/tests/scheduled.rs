//! `scheduled` on a small lasso whose columns are correlated: it comes to the optimum under every policy, with the same
//! bits on any number of workers and every cluster kind, at any depth, and after going on from a checkpoint.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::lasso::optimum;
use common::{TestJob, Trained, clusters, run, train_on};
use dunlin::comm::cluster::{Job, run_sim};
use dunlin::comm::{Cluster, Comm, Error, Fault, SimConfig, Time, child, job};
use dunlin::run::{CheckpointPolicy, Run, Stop, Until};

#[test]
fn entry_of_child_processes() {
    child(&[job::<TestJob>()]);
}

fn lasso(strategy: &str, workers: usize, lanes: usize, epochs: usize) -> Run {
    Run { eval_every: 5, ..run("tiny-lasso", strategy, workers, lanes, epochs) }
}

fn metric(trained: &Trained, name: &str) -> f64 {
    trained.metrics.iter().find(|(own, _)| own == name).unwrap().1
}

fn excess(trained: &Trained, optimum: f64) -> f64 {
    metric(trained, "train_objective") / optimum - 1.0
}

/// The objective at each evaluation.
fn objectives(trained: &Trained) -> Vec<f64> {
    trained.losses.chunks(3).map(|metrics| f64::from_bits(metrics[2])).collect()
}

#[test]
fn every_policy_that_converges_comes_to_the_optimum() {
    let optimum = optimum();
    for strategy in [
        "scheduled",
        "scheduled:dependency,want=16,eta=1",
        "scheduled:dependency,want=8,shards=3",
        "scheduled:dependency,want=8,depth=2",
        "scheduled:dependency,want=6,depth=4,shards=2",
        "scheduled:workingset,want=8",
        "scheduled:workingset,want=8,depth=2,shards=2",
        "scheduled:roundrobin,want=8,theta=0.2",
        "scheduled:random,want=8,theta=0.3",
        "scheduled:roundrobin,want=1",
        "scheduled:random,want=1",
        "scheduled:priority,want=1",
    ] {
        let near: Until = format!("train_objective<={}", optimum * (1.0 + 1e-9)).parse().unwrap();
        let stop = Stop { epochs: 20_000, until: Some(near), seconds: None };
        let run = Run { stop, eval_every: 50, ..lasso(strategy, 1, 3, 0) };
        let trained = train_on(&Cluster::Threads(1), &run).unwrap();
        let excess = excess(&trained, optimum);
        assert!(excess <= 2e-9, "{strategy}: {excess:e} above the optimum");
        assert!(metric(&trained, "off") < 1e-6, "{strategy}: residuals are brought up to date");
        assert_eq!(metric(&trained, "seen"), 240.0, "{strategy}: what begin wrote is added up");
    }
}

/// What is pairwise nearly independent descends; what is not overshoots.
#[test]
fn unchecked_updates_of_many_correlated_variables_diverge_and_checked_ones_descend() {
    for strategy in ["scheduled:all", "scheduled:random,want=45"] {
        let outcome = train_on(&Cluster::Threads(1), &lasso(strategy, 1, 2, 100));
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("diverged") && error.contains("want="), "{strategy}: {error}");
    }
    for seed in 0..5 {
        for strategy in [
            "scheduled:dependency,want=45",
            "scheduled:dependency,want=45,theta=0.99",
            "scheduled:workingset",
        ] {
            let run = Run { seed, eval_every: 1, ..lasso(strategy, 1, 2, 40) };
            let objectives = objectives(&train_on(&Cluster::Threads(1), &run).unwrap());
            let rises = objectives.windows(2).any(|pair| pair[1] > pair[0] * (1.0 + 1e-12));
            assert!(!rises, "seed {seed}, {strategy}: {objectives:?}");
        }
    }
}

#[test]
fn one_lane_updates_one_after_the_other_and_always_converges() {
    let optimum = optimum();
    for strategy in ["scheduled", "scheduled:all", "scheduled:random,want=45", "scheduled:priority,depth=3"] {
        for (name, cluster) in clusters(1) {
            let trained = train_on(&cluster, &lasso(strategy, 1, 1, 250)).unwrap();
            let excess = excess(&trained, optimum);
            assert!(excess < 1e-9, "{strategy}, {name}: {excess:e} above the optimum");
        }
    }
}

#[test]
fn six_lanes_give_the_same_bits_everywhere() {
    for strategy in [
        "scheduled",
        "scheduled:dependency,want=6,depth=3,shards=2",
        "scheduled:workingset,depth=2",
        "scheduled:random,want=4",
    ] {
        let mut first: Option<Trained> = None;
        for workers in 1..=3 {
            for (name, cluster) in clusters(workers) {
                let trained = train_on(&cluster, &lasso(strategy, workers, 6, 20)).unwrap();
                let first = first.get_or_insert(trained.clone());
                let place = format!("{strategy} on {workers} workers, {name}");
                assert_eq!(trained.hash, first.hash, "{place}: tables differ");
                assert_eq!(trained.losses, first.losses, "{place}: metrics differ");
            }
        }
    }
}

/// More ranks than exchange small arrays directly.
#[test]
fn many_ranks_give_the_bits_of_one() {
    let data = 12; // blocks, and so lanes
    let one = train_on(&clusters(1)[1].1, &lasso("scheduled:dependency,want=8", 1, data, 4)).unwrap();
    let many = train_on(&clusters(data)[1].1, &lasso("scheduled:dependency,want=8", data, data, 4)).unwrap();
    assert_eq!((one.hash, one.losses), (many.hash, many.losses));
}

#[test]
fn a_run_goes_on_from_a_checkpoint_to_the_same_bits() {
    for (number, strategy) in [
        "scheduled",
        "scheduled:dependency,want=6,depth=3,shards=2",
        "scheduled:workingset,want=8",
        "scheduled:roundrobin,want=7,theta=0.2,shards=2",
        "scheduled:random,want=4",
    ]
    .into_iter()
    .enumerate()
    {
        for epochs in [1, 2, 9] {
            let out = std::env::temp_dir()
                .join(format!("dunlin-scheduled-{}-{number}-{epochs}", std::process::id()));
            let _ = std::fs::remove_dir_all(&out);
            let checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
            let first = Run { out: Some(out.clone()), checkpoint, ..lasso(strategy, 2, 4, epochs) };
            train_on(&Cluster::Threads(2), &first).unwrap();
            let rest =
                Run { resume: true, workers: 3, stop: lasso(strategy, 3, 4, 20).stop, ..first.clone() };
            let resumed = train_on(&Cluster::Threads(3), &rest).unwrap();
            let whole = train_on(&Cluster::Threads(1), &lasso(strategy, 1, 4, 20)).unwrap();
            assert_eq!(
                resumed.hash, whole.hash,
                "{strategy}, {epochs} epochs: other bits after a checkpoint"
            );
            let other = Run { strategy: "scheduled:random,want=3".parse().unwrap(), ..rest };
            let error = train_on(&Cluster::Threads(3), &other).unwrap_err().to_string();
            assert!(error.contains("was written under --strategy scheduled"), "{error}");
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_scheduled_is_refused_in_words() {
    let refused = |run: &Run| train_on(&Cluster::Threads(1), run).unwrap_err().to_string();
    assert!(
        refused(&run("tiny-mf", "scheduled", 1, 2, 1)).contains("cannot be trained variable by variable")
    );
    assert!(
        refused(&lasso("scheduled:priority,depth=2,shards=40", 1, 2, 1)).contains("90 variables, 40 shards")
    );
    let clocks = Run { clocks_per_epoch: Some(3), ..lasso("scheduled", 1, 2, 1) };
    assert!(refused(&clocks).contains("say with want="), "{}", refused(&clocks));
    let servers = Run { servers: 1, ..lasso("scheduled", 1, 2, 1) };
    assert!(refused(&servers).contains("nothing to serve"));
}

/// Connections break, frames are late or come again, ranks die: the run learns what it should, or ends with the rank that
/// was lost.
#[test]
fn faults_change_nothing_or_end_the_run_with_the_rank_that_was_lost() {
    let (mut ended_well, mut lost, mut resent) = (0, 0, 0);
    for strategy in [
        "scheduled:dependency,want=8",
        "scheduled:dependency,want=6,depth=3",
        "scheduled:random,want=4,depth=2",
    ] {
        let run = Run { compute_ns: 5_000.0, eval_every: 2, ..lasso(strategy, 3, 5, 6) };
        let train = |config: &SimConfig| {
            let job = TestJob::new(&run);
            run_sim(config, |comm: &mut Comm| job.body(comm))
        };
        let wanted = train(&SimConfig::new(3, 0)).0.unwrap()[0].hash;
        for seed in 0..80u64 {
            let faults = Fault::random(seed, 3, Time::from_seconds(0.06));
            let config = SimConfig { faults: faults.clone(), ..SimConfig::new(3, seed) };
            let (outcome, report) = train(&config);
            let place = format!("{strategy}, seed {seed}, {faults:?}");
            resent += report.frames_resent;
            match outcome {
                Ok(outs) => {
                    ended_well += 1;
                    assert_eq!(outs[0].hash, wanted, "{place}: learned something else");
                }
                Err(Error::Lost(loss)) => {
                    lost += 1;
                    let losers: Vec<usize> = report.fired.iter().filter_map(Fault::loses).collect();
                    assert!(losers.contains(&loss.rank), "{place}: {loss}");
                }
                Err(other) => panic!("{place}: {other}"),
            }
        }
    }
    assert!(
        ended_well > 40 && lost > 40 && resent > 5,
        "{ended_well} ended well, {lost} lost a rank, {resent} resent"
    );
}

#[test]
fn in_the_simulator_the_same_seed_replays_the_same_bytes_and_depth_hides_latency() {
    let seconds = |strategy: &str| {
        let run = Run { compute_ns: 50_000.0, eval_every: 10, ..lasso(strategy, 4, 4, 10) };
        let job = TestJob::new(&run);
        let train = |seed| {
            let config = SimConfig { record: true, ..SimConfig::new(4, seed) };
            let (outs, report) = run_sim(&config, |comm: &mut Comm| job.body(comm));
            (outs.unwrap()[0].seconds, report.transcript)
        };
        let (seconds, transcript) = train(7);
        assert!(transcript == train(7).1, "{strategy}: one seed, two stories");
        seconds
    };
    let [one, four] = ["scheduled:random,want=2", "scheduled:random,want=2,depth=4"].map(seconds);
    assert!(four < 0.8 * one, "{one} s with depth 1, {four} s with depth 4");
}
