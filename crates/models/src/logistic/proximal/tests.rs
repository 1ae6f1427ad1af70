//! Proximal gradient comes to the optimum of Newton's method, in lock-step and with stale reads.

use super::*;
use crate::lasso::problem::soft;
use crate::logistic::{Config, Solver};
use crate::softmax::tests::{data, rows};
use dunlin::comm::{Cluster, SimConfig};
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{CheckpointPolicy, Run, Slow};
use dunlin::serial::Serial;
use dunlin::train::Source;

const DATA: &str = "synth:softmax?classes=2&n=400&columns=30";

fn train(
    cluster: &Cluster,
    strategy: &str,
    [workers, lanes]: [usize; 2],
    set: &Config,
    change: impl Fn(&mut Run),
) -> Outcome {
    let options = ReadOptions { blocks: lanes, ..ReadOptions::default() };
    let source = Source::new(read(DATA, &options, None).expect("made up"), None);
    let mut run = Run { workers, lanes, eval_every: 20, ..crate::run("logistic", DATA).expect("known") };
    run.strategy = strategy.parse().expect("a strategy");
    run.settings = serde_json::to_value(set).expect("a value");
    run.stop.epochs = 20_000;
    change(&mut run);
    crate::train(cluster, &run, &source).expect("trained")
}

fn optimum(config: &Config) -> f64 {
    let newton = Config { solver: Solver::Newton, tolerance: 1e-6, ..config.clone() };
    let outcome = train(&Cluster::Threads(1), "allreduce", [1, 1], &newton, |run| run.eval_every = 1);
    outcome.metrics["train_objective"]
}

/// Ends on the gap, which bounds the distance from the optimum.
fn check(outcome: &Outcome, wanted: f64, tolerance: f64, place: &str) {
    let excess = outcome.metrics["train_objective"] / wanted - 1.0;
    let gap = outcome.metrics["relative_gap"];
    let place = format!("{place}: {excess:e}, gap {gap:e} after {} epochs", outcome.epochs);
    assert_eq!(outcome.reason, "converged", "{place}");
    assert!(gap <= tolerance && excess <= gap + 3e-6 && excess > -3e-6, "{place}");
}

#[test]
fn in_lock_step_it_comes_to_the_optimum_of_newtons_method() {
    for (penalty, c, bias) in [(Penalty::L2, 1.0, true), (Penalty::L1, 0.1, true), (Penalty::L1, 2.0, false)]
    {
        let config = Config { penalty, c, bias, solver: Solver::Proximal, tolerance: 1e-4 };
        let wanted = optimum(&config);
        for (strategy, lanes) in [("bsp", 1), ("bsp", 3), ("allreduce", 3)] {
            let outcome = train(&Cluster::Threads(1), strategy, [1, lanes], &config, |_| ());
            check(&outcome, wanted, 1e-4, &format!("{penalty:?}, C {c}, {strategy}, {lanes} lanes"));
        }
    }
}

/// One of three simulated workers is five times slower, so that reads are as old as they may be.
#[test]
fn with_stale_reads_it_comes_to_the_optimum() {
    for (penalty, strategy, seed) in
        [(Penalty::L1, "ssp:2", 1), (Penalty::L2, "essp:2", 2), (Penalty::L1, "asp", 3)]
    {
        let config = Config { penalty, c: 0.5, bias: true, tolerance: 1e-4, ..Config::default() };
        let cluster = Cluster::Sim(SimConfig::new(3, seed));
        let outcome = train(&cluster, strategy, [3, 3], &config, |run| {
            (run.seed, run.compute_ns) = (seed, 20_000.0);
            run.slow = vec!["0:5".parse::<Slow>().expect("a slow worker")];
        });
        check(&outcome, optimum(&config), 1e-4, &format!("{penalty:?}, {strategy}, seed {seed}"));
        if strategy == "ssp:2" {
            let seen = outcome.report.staleness.values().flat_map(|table| table.keys()).max();
            assert_eq!(seen, Some(&2), "reads are as old as they may be: {:?}", outcome.report.staleness);
        }
    }
}

#[test]
fn three_lanes_give_the_same_bits_on_any_number_of_workers_and_after_a_checkpoint() {
    let out = std::env::temp_dir().join(format!("dunlin-logistic-proximal-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&out);
    let config = Config { penalty: Penalty::L1, bias: true, ..Config::default() };
    let train = |workers: usize, epochs: usize, is_saved: bool| {
        train(&Cluster::Threads(workers), "bsp", [workers, 3], &config, |run| {
            (run.stop.epochs, run.eval_every, run.resume) = (epochs, 1, is_saved && epochs > 7);
            run.out = is_saved.then(|| out.clone());
            run.checkpoint = CheckpointPolicy { epochs: usize::from(is_saved), seconds: None };
        })
    };
    let first = train(1, 15, false).metrics;
    assert!(first["nonzeros"] > 0.0);
    for workers in 2..=3 {
        assert_eq!(first, train(workers, 15, false).metrics, "{workers} workers");
    }
    train(2, 7, true);
    assert_eq!(first, train(3, 15, true).metrics, "after a checkpoint");
    std::fs::remove_dir_all(&out).expect("removed");
}

/// One lane takes the steps of the textbook, 1 / L each, with an L that is a bound.
#[test]
fn one_lane_is_a_plain_loop() {
    let (points, labels) = rows(80, 12, 2);
    for (penalty, c) in [(Penalty::L1, 0.3), (Penalty::L2, 2.0)] {
        let config = Config { penalty, c, solver: Solver::Proximal, ..Config::default() };
        let mut run = Serial::<Logistic>::new(&config, data(&points, &labels, 2, 1, false), 1, 1, 3)
            .expect("valid settings");
        let steep = 0.25 * c * proximal::greatest(&run.params, PRODUCTS, FIRST);
        let mut weights = [0.0f64; 12];
        for _ in 0..25 {
            run.epoch().expect("no divergence");
            let mut pulls = [0.0f64; 12];
            for (row, label) in points.iter().zip(&labels) {
                let sign = if *label == 0 { -1.0 } else { 1.0 };
                let margin: f64 =
                    sign * row.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
                let share = c * sign / (1.0 + margin.exp());
                pulls.iter_mut().zip(row).for_each(|(pull, x)| *pull += share * f64::from(*x));
            }
            for (weight, pull) in weights.iter_mut().zip(pulls) {
                let free = *weight + pull / steep;
                *weight = match penalty {
                    Penalty::L1 => soft(free, 1.0 / steep),
                    Penalty::L2 => free / (1.0 + 1.0 / steep),
                };
            }
        }
        let found = run.params.table::<f32>(WEIGHTS).flat();
        assert!(weights.iter().any(|weight| *weight != 0.0));
        for (own, weight) in found.iter().zip(&weights) {
            assert!((f64::from(*own) - weight).abs() < 1e-5, "{penalty:?}: {own} for {weight}");
        }
    }
}

#[test]
fn what_does_not_go_together_is_refused_in_words() {
    let refused = |strategy: &str, solver: Solver| {
        let source = Source::new(read(DATA, &ReadOptions::default(), None).expect("made up"), None);
        let mut run = crate::run("logistic", DATA).expect("known");
        run.strategy = strategy.parse().expect("a strategy");
        run.settings = serde_json::to_value(Config { solver, ..Config::default() }).expect("a value");
        crate::train(&Cluster::Threads(1), &run, &source).expect_err("refused").to_string()
    };
    assert!(refused("ssp:2", Solver::Newton).contains("newton and dual take no stale reads"));
    assert!(refused("asp", Solver::Dual).contains("allowed: solver = proximal or auto"));
    assert!(refused("scheduled", Solver::Proximal).contains("it goes by solver = coordinate or auto"));
    assert!(refused("essp:1", Solver::Coordinate).contains("that of --strategy scheduled"));
}
