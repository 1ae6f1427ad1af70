//! Petuum's clock test (Ho et al. 2013; `hello_ssp`): the promise of every strategy, checked on every read, on every
//! cluster kind, for 1, 2 and 3 workers and for more lanes than workers.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, clusters, run, train_on};
use dunlin::comm::{child, job};
use dunlin::run::{Run, Slow};

#[test]
fn entry_of_child_processes() {
    child(&[job::<TestJob>()]);
}

/// Strategy, bound (-1: none), exactly that.
const PROMISES: [(&str, i64, bool); 8] = [
    ("bsp", 0, true),
    ("allreduce", 0, true),
    ("ssp:0", 0, false),
    ("ssp:2", 2, false),
    ("essp:0", 0, false),
    ("essp:3", 3, false),
    ("ssp:2,clocks=1", 1, false),
    ("asp", -1, false),
];

fn clock_run(strategy: &str, bound: i64, exact: bool, workers: usize, lanes: usize) -> Run {
    Run {
        settings: serde_json::json!({"lanes": lanes, "bound": bound, "exact": exact, "sleep": true}),
        clocks_per_epoch: Some(24 / lanes),
        eval_every: 3,
        slow: vec![Slow::Random { probability: 0.3, max_ms: 3.0 }],
        ..run("clock-test", strategy, workers, lanes, 6)
    }
}

#[test]
fn every_read_keeps_the_promise() {
    for (strategy, bound, exact) in PROMISES {
        for (workers, lanes) in [(1, 2), (1, 6), (2, 2), (2, 4), (3, 3), (3, 8)] {
            for (name, cluster) in clusters(workers) {
                let run = clock_run(strategy, bound, exact, workers, lanes);
                let place = format!("{strategy}, {workers} workers, {lanes} lanes, {name}");
                let trained = train_on(&cluster, &run).unwrap_or_else(|error| panic!("{place}: {error}"));
                let metric = |name: &str| trained.metrics.iter().find(|(n, _)| n == name).unwrap().1;
                let clocks = (6 * (24 / lanes)) as f64;
                // Each lane has 24 / lanes blocks and as many clocks an epoch, so one step a clock.
                assert_eq!(
                    (metric("least"), metric("most")),
                    (clocks, clocks),
                    "{place}: updates lost or doubled"
                );
                let worst = trained.staleness.iter().map(|(clocks, _)| *clocks).max().unwrap_or(0);
                assert!(bound < 0 || worst <= bound, "{place}: staleness {:?}", trained.staleness);
            }
        }
    }
}

/// The check can fail: without a bound, a slow worker is seen further behind than bounded strategies allow.
#[test]
fn without_a_bound_a_straggler_falls_behind() {
    let cluster = &clusters(3)[1].1;
    let slow = vec![Slow::Rank { rank: 2, factor: 20.0 }];
    let far = Run { slow: slow.clone(), eval_every: 6, ..clock_run("asp", -1, false, 3, 3) };
    let trained = train_on(cluster, &far).unwrap();
    let worst = trained.staleness.iter().map(|(clocks, _)| *clocks).max().unwrap();
    assert!(worst > 4, "asp: {:?}", trained.staleness);
    let error =
        train_on(cluster, &Run { slow, eval_every: 6, ..clock_run("asp", 2, false, 3, 3) }).unwrap_err();
    assert!(error.to_string().contains("S = 2"), "the model itself saw it: {error}");
}
