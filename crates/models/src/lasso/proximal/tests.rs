//! Proximal gradient comes to the optimum of the working set's solver, in lock-step and with stale reads.

use crate::lasso::problem::{lambdas, soft};
use dunlin::comm::{Cluster, SimConfig};
use dunlin::data::{Contents, ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{CheckpointPolicy, Run, Slow};
use dunlin::train::Source;
use serde_json::json;

const SPARSE: &str = "synth:correlated?n=300&columns=200&nonzeros=20&keep=0.7&support=15";
const DENSE: &str = "synth:lasso?n=150&columns=60&correlation=0.5&support=6";

/// A run of `lanes` lanes that is not yet told its strategy, and its data.
fn run(data: &str, [workers, lanes]: [usize; 2]) -> (Run, Source) {
    let options = ReadOptions { targets: true, blocks: lanes, ..ReadOptions::default() };
    let source = Source::new(read(data, &options, None).expect("made up"), None);
    let mut run = Run { workers, lanes, eval_every: 20, ..crate::run("lasso", data).expect("known") };
    run.settings["standardise"] = json!(true);
    run.settings["lambda_fraction"] = json!(0.1);
    run.stop.epochs = 10_000;
    (run, source)
}

fn optimum(data: &str, l1_ratio: f64) -> f64 {
    let (mut run, source) = run(data, [1, 1]);
    run.settings["l1_ratio"] = json!(l1_ratio);
    run.settings["tolerance"] = json!(1e-9);
    crate::train(&Cluster::Threads(1), &run, &source).expect("trained").metrics["train_objective"]
}

fn proximal(
    cluster: &Cluster,
    data: &str,
    strategy: &str,
    cut: [usize; 2],
    change: impl Fn(&mut Run),
) -> Outcome {
    let (mut run, source) = run(data, cut);
    run.strategy = strategy.parse().expect("a strategy");
    if strategy == "allreduce" {
        run.settings["solver"] = json!("proximal"); // elsewhere it is the default
    }
    change(&mut run);
    crate::train(cluster, &run, &source).expect("trained")
}

/// Ends on the duality gap, which bounds the distance from the optimum; at 1e-3 of it no more than 1e-4 are left.
fn check(outcome: &Outcome, optimum: f64, tolerance: f64, place: &str) {
    let excess = outcome.metrics["train_objective"] / optimum - 1.0;
    let gap = outcome.metrics["relative_gap"];
    let place = format!("{place}: {excess:e}, gap {gap:e} after {} epochs", outcome.epochs);
    assert_eq!(outcome.reason, "converged", "{place}");
    assert!(gap <= tolerance && excess <= 1e-4 && excess > -1e-7, "{place}");
}

#[test]
fn in_lock_step_it_comes_to_the_optimum_of_the_working_set() {
    for (data, l1_ratio) in [(SPARSE, 1.0), (DENSE, 0.7)] {
        let wanted = optimum(data, l1_ratio);
        for (strategy, lanes) in [("bsp", 1), ("bsp", 3), ("allreduce", 3)] {
            let outcome = proximal(&Cluster::Threads(1), data, strategy, [1, lanes], |run| {
                run.settings["l1_ratio"] = json!(l1_ratio);
                run.settings["tolerance"] = json!(1e-3);
            });
            check(&outcome, wanted, 1e-3, &format!("{data}, {strategy}, {lanes} lanes"));
        }
    }
}

/// One of three simulated workers is five times slower, so that reads are as old as they may be.
#[test]
fn with_stale_reads_it_comes_to_the_optimum() {
    let wanted = optimum(DENSE, 1.0);
    for (strategy, seed) in [("ssp:2", 1), ("essp:2", 2), ("asp", 3)] {
        let cluster = Cluster::Sim(SimConfig::new(3, seed));
        let outcome = proximal(&cluster, DENSE, strategy, [3, 3], |run| {
            run.settings["tolerance"] = json!(1e-4);
            run.seed = seed;
            run.compute_ns = 20_000.0;
            run.slow = vec!["0:5".parse::<Slow>().expect("a slow worker")];
        });
        check(&outcome, wanted, 1e-4, &format!("{strategy}, seed {seed}"));
        if strategy == "ssp:2" {
            let seen = outcome.report.staleness.values().flat_map(|table| table.keys()).max();
            assert_eq!(seen, Some(&2), "reads are as old as they may be: {:?}", outcome.report.staleness);
        }
    }
}

#[test]
fn three_lanes_give_the_same_bits_on_any_number_of_workers_and_after_a_checkpoint() {
    let out = std::env::temp_dir().join(format!("dunlin-lasso-proximal-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&out);
    let train = |workers: usize, epochs: usize, is_saved: bool| {
        proximal(&Cluster::Threads(workers), DENSE, "bsp", [workers, 3], |run| {
            (run.stop.epochs, run.eval_every, run.resume) = (epochs, 1, is_saved && epochs > 7);
            run.out = is_saved.then(|| out.clone());
            run.checkpoint = CheckpointPolicy { epochs: usize::from(is_saved), seconds: None };
        })
    };
    let first = train(1, 15, false).metrics;
    for workers in 2..=3 {
        assert_eq!(first, train(workers, 15, false).metrics, "{workers} workers");
    }
    train(2, 7, true);
    assert_eq!(first, train(3, 15, true).metrics, "after a checkpoint");
    std::fs::remove_dir_all(&out).expect("removed");
}

/// Columns without centre, targets, and the greatest eigenvalue of their Gram matrix over n.
fn plain(data: &str) -> (Vec<Vec<f64>>, Vec<f64>, f64) {
    let (_, source) = run(data, [1, 1]);
    let options = ReadOptions { targets: true, blocks: 1, ..ReadOptions::default() };
    let read = read(data, &options, None).expect("made up");
    let Contents::Dense(rows) = &read.blocks[0].contents else { panic!("dense rows") };
    assert_eq!(source.shape().rows, rows.targets.len());
    let columns: Vec<Vec<f64>> = (0..rows.width)
        .map(|column| rows.values.iter().skip(column).step_by(rows.width).map(|v| f64::from(*v)).collect())
        .collect();
    let targets: Vec<f64> = rows.targets.iter().map(|target| f64::from(*target)).collect();
    let (mut vector, mut value) = (vec![1.0; columns.len()], 0.0);
    for _ in 0..2000 {
        let fit = |row: usize| columns.iter().zip(&vector).map(|(x, v)| x[row] * v).sum::<f64>();
        let image: Vec<f64> = (0..targets.len()).map(fit).collect();
        let inner = |x: &Vec<f64>| x.iter().zip(&image).map(|(a, b)| a * b).sum::<f64>();
        vector = columns.iter().map(|x| inner(x) / targets.len() as f64).collect();
        value = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|v| *v /= value);
    }
    (columns, targets, value)
}

/// One lane takes the steps of the textbook, 1 / L each, and L is a bound that is near.
#[test]
fn one_lane_is_a_plain_loop() {
    let (columns, targets, eigenvalue) = plain(DENSE);
    let rows = targets.len();
    let (run, source) = run(DENSE, [1, 1]);
    let config = crate::lasso::Config {
        solver: crate::lasso::Solver::Proximal,
        intercept: false,
        lambda_fraction: 0.1,
        ..crate::lasso::Config::default()
    };
    let options = ReadOptions { targets: true, blocks: 1, ..ReadOptions::default() };
    let data = read(DENSE, &options, None).expect("made up");
    let mut serial = dunlin::serial::Serial::<crate::lasso::Lasso>::new(&config, data, 1, 1, run.seed)
        .expect("valid settings");
    let greatest =
        crate::proximal::greatest(&serial.params, crate::lasso::PRODUCTS, super::FIRST) / rows as f64;
    assert!(
        greatest > eigenvalue * (1.0 - 1e-6) && greatest < 1.3 * eigenvalue,
        "{greatest} for {eigenvalue}"
    );
    let pull = |x: &Vec<f64>, r: &[f64]| x.iter().zip(r).map(|(x, r)| x * r).sum::<f64>() / rows as f64;
    let most = columns.iter().map(|x| pull(x, &targets).abs()).fold(0.0, f64::max);
    let lambda = lambdas(most, 0.1 * most, 1)[0];
    let mut weights = vec![0.0; columns.len()];
    for _ in 0..30 {
        serial.epoch().expect("no divergence");
        let fit = |row: usize| columns.iter().zip(&weights).map(|(x, w)| x[row] * w).sum::<f64>();
        let residual: Vec<f64> = targets.iter().enumerate().map(|(row, target)| target - fit(row)).collect();
        let step = |(x, w): (&Vec<f64>, &f64)| soft(w + pull(x, &residual) / greatest, lambda / greatest);
        weights = columns.iter().zip(&weights).map(step).collect();
    }
    assert!(weights.iter().any(|weight| *weight != 0.0) && source.shape().rows == rows);
    let found = serial.params.table::<f64>(crate::lasso::COEFFICIENTS);
    for (column, weight) in weights.iter().enumerate() {
        let own = found.row(column)[0];
        assert!((own - weight).abs() < 1e-5, "column {column}: {own} for {weight}");
    }
}

#[test]
fn what_does_not_go_together_is_refused_in_words() {
    let refused = |strategy: &str, solver: &str, path: usize| {
        let (mut run, source) = run(DENSE, [1, 1]);
        run.strategy = strategy.parse().expect("a strategy");
        (run.settings["solver"], run.settings["path"]) = (json!(solver), json!(path));
        crate::train(&Cluster::Threads(1), &run, &source).expect_err("refused").to_string()
    };
    assert!(refused("ssp:2", "workingset", 1).contains("solver = workingset needs what all lanes found"));
    assert!(refused("scheduled", "proximal", 1).contains("leave solver = proximal away"));
    assert!(refused("bsp", "proximal", 3).contains("path = 3 with solver = proximal; allowed: 1"));
}

#[test]
fn a_great_lambda_leaves_nothing_to_do() {
    let outcome = proximal(&Cluster::Threads(1), SPARSE, "bsp", [1, 2], |run| {
        run.settings["lambda"] = json!(1e6);
    });
    assert_eq!((outcome.metrics["nonzeros"], outcome.reason.as_str()), (0.0, "converged"));
}
