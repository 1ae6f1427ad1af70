//! Variable by variable comes to the optimum of the working set's solver, on any number of workers to the same bits.

use dunlin::comm::Cluster;
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{CheckpointPolicy, Run, Until};
use dunlin::train::Source;
use serde_json::json;

const SPARSE: &str = "synth:correlated?n=300&columns=400&nonzeros=12&support=15";
const DENSE: &str = "synth:lasso?n=150&columns=60&correlation=0.8&support=6";

fn train(data: &str, strategy: &str, [workers, lanes]: [usize; 2], change: impl Fn(&mut Run)) -> Outcome {
    let options = ReadOptions { targets: true, blocks: lanes, ..ReadOptions::default() };
    let source = Source::new(read(data, &options, None).expect("made up"), None);
    let mut run = Run { workers, lanes, ..crate::run("lasso", data).expect("known") };
    run.strategy = strategy.parse().expect("a strategy");
    run.settings["standardise"] = json!(true);
    run.settings["tolerance"] = json!(1e-10);
    run.settings["lambda_fraction"] = json!(0.05);
    run.settings["cut"] = json!("rows");
    change(&mut run);
    crate::train(&Cluster::Threads(workers), &run, &source).expect("trained")
}

#[test]
fn it_comes_to_the_optimum_of_the_working_set() {
    for data in [SPARSE, DENSE] {
        for l1_ratio in [1.0, 0.7] {
            let set = |run: &mut Run| {
                run.settings["l1_ratio"] = json!(l1_ratio);
                run.stop.epochs = 200;
            };
            let wanted = train(data, "allreduce", [1, 1], set).metrics["train_objective"];
            for (strategy, lanes) in [
                ("scheduled", 1),
                ("scheduled", 3),
                ("scheduled:dependency,want=16,depth=2", 3),
                ("scheduled:workingset,want=16", 3),
                ("scheduled:priority,want=1,shards=2", 2),
            ] {
                let outcome = train(data, strategy, [1, lanes], |run| {
                    set(run);
                    run.eval_every = 20;
                    run.stop.epochs = 20_000;
                    let near = Until {
                        metric: "train_objective".into(),
                        at_most: true,
                        value: wanted * (1.0 + 1e-8),
                    };
                    run.stop.until = Some(near);
                });
                let found = outcome.metrics["train_objective"] / wanted - 1.0;
                let place = format!("{data}, {l1_ratio}, {strategy}, {lanes} lanes");
                assert!(found < 2e-8 && found > -1e-8, "{place}: {found:e} above the optimum");
            }
        }
    }
}

/// The gap that is printed under every policy is a bound on the distance from the optimum, and ends the run.
#[test]
fn a_run_ends_on_the_duality_gap() {
    for (data, l1_ratio, [workers, lanes]) in
        [(SPARSE, 1.0, [2, 3]), (DENSE, 0.7, [1, 2]), (DENSE, 1.0, [1, 1])]
    {
        let set = |tolerance: f64| {
            move |run: &mut Run| {
                run.settings["l1_ratio"] = json!(l1_ratio);
                run.settings["tolerance"] = json!(tolerance);
                run.stop.epochs = 2_000;
            }
        };
        let wanted = train(data, "allreduce", [1, 1], set(1e-10)).metrics["train_objective"];
        for tolerance in [1e-2, 1e-6, 1e-9] {
            let outcome = train(data, "scheduled:dependency,want=16", [workers, lanes], set(tolerance));
            let excess = outcome.metrics["train_objective"] / wanted - 1.0;
            let gap = outcome.metrics["relative_gap"];
            let place = format!("{data}, {l1_ratio}, {lanes} lanes, {tolerance:e}: {excess:e}, gap {gap:e}");
            assert_eq!(outcome.reason, "converged", "{place}");
            // Columns are scaled in single precision: what is solved is that near to the problem of the data.
            assert!(gap <= tolerance && gap > 0.0 && excess <= gap + 2e-8 && excess > -2e-8, "{place}");
        }
    }
}

/// With all targets alike there is nothing to explain, and a λ that zeroes everything leaves nothing to do.
#[test]
fn where_zero_is_best_the_gap_is_none() {
    let outcome = train(SPARSE, "scheduled", [1, 2], |run| run.settings["lambda"] = json!(1e6));
    assert_eq!((outcome.metrics["nonzeros"], outcome.reason.as_str()), (0.0, "converged"));
    assert!(outcome.metrics["relative_gap"] < 1e-12, "{:?}", outcome.metrics);
}

#[test]
fn four_lanes_give_the_same_bits_on_any_number_of_workers_and_after_a_checkpoint() {
    for data in [SPARSE, DENSE] {
        let mut first = None;
        for workers in 1..=3 {
            let outcome = train(data, "scheduled:dependency,want=8", [workers, 4], |run| run.stop.epochs = 6);
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{data}: {workers} workers");
        }
        let out = std::env::temp_dir().join(format!(
            "dunlin-lasso-scheduled-{}-{}",
            data.len(),
            std::process::id()
        ));
        let _ = std::fs::remove_dir_all(&out);
        let saved = |run: &mut Run, epochs: usize| {
            (run.stop.epochs, run.out, run.resume) = (epochs, Some(out.clone()), epochs == 6);
            run.checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
        };
        train(data, "scheduled:dependency,want=8", [2, 4], |run| saved(run, 3));
        let outcome = train(data, "scheduled:dependency,want=8", [3, 4], |run| saved(run, 6));
        assert_eq!(first.expect("trained"), outcome.metrics, "{data}: after a checkpoint");
        std::fs::remove_dir_all(&out).expect("removed");
    }
}

/// The reason for all of it: on correlated columns many updates at once overshoot, unless they hardly depend on each
/// other.
#[test]
fn on_correlated_columns_unchecked_updates_diverge_where_checked_ones_descend() {
    let data = "synth:correlated?n=300&columns=600&nonzeros=25&keep=0.9&jitter=0.1&support=30";
    let options = ReadOptions { targets: true, blocks: 2, ..ReadOptions::default() };
    let source = Source::new(read(data, &options, None).expect("made up"), None);
    let mut run = Run { lanes: 2, ..crate::run("lasso", data).expect("known") };
    run.stop.epochs = 60;
    run.strategy = "scheduled:random,want=300".parse().expect("a strategy");
    let error = crate::train(&Cluster::Threads(1), &run, &source).expect_err("diverges").to_string();
    assert!(error.contains("diverged"), "{error}");
    let checked = train(data, "scheduled:dependency,want=200", [1, 2], |run| run.stop.epochs = 60);
    let more = train(data, "scheduled:dependency,want=200", [1, 2], |run| run.stop.epochs = 61);
    assert!(more.metrics["train_objective"] <= checked.metrics["train_objective"]);
}
