//! Cut by columns it comes to the optimum of one lane, to the same bits on any number of workers, and sends little.

use dunlin::comm::{Cluster, SimConfig};
use dunlin::data::{Contents, Data, Kind, ReadOptions, Shape, read};
use dunlin::event::Outcome;
use dunlin::run::{CheckpointPolicy, Run};
use dunlin::train::Source;
use serde_json::json;
use std::path::Path;

const DENSE: &str = "synth:lasso?n=80&columns=700&correlation=0.7&support=9";
const SPARSE: &str = "synth:correlated?n=200&columns=900&nonzeros=12&support=15";
const RIBOFLAVIN: [&str; 2] = [
    "../../../shared/data/riboflavin/riboflavin.svm.gz",
    "../../../../shared/data/riboflavin/riboflavin.svm.gz",
];

fn read_blocks(data: &str, lanes: usize) -> Data {
    let options = ReadOptions { targets: true, blocks: lanes, ..ReadOptions::default() };
    read(data, &options, None).expect("readable")
}

fn train_on(
    cluster: &Cluster,
    data: Data,
    [workers, lanes]: [usize; 2],
    change: impl Fn(&mut Run),
) -> Outcome {
    let source = Source::new(data, None);
    let mut run = Run { workers, lanes, ..crate::run("lasso", "made up").expect("known") };
    run.settings["standardise"] = json!(true);
    run.settings["lambda_fraction"] = json!(0.02);
    run.stop.epochs = 500;
    change(&mut run);
    crate::train(cluster, &run, &source).expect("trained")
}

fn train(data: &str, shape: [usize; 2], change: impl Fn(&mut Run)) -> Outcome {
    train_on(&Cluster::Threads(shape[0]), read_blocks(data, shape[1]), shape, change)
}

#[test]
fn it_comes_to_the_optimum_of_one_lane() {
    let mut sets = vec![DENSE, SPARSE];
    match RIBOFLAVIN.into_iter().find(|path| Path::new(path).exists()) {
        Some(path) => sets.push(path),
        None => eprintln!("SKIPPED riboflavin: ../shared/data is not there"),
    }
    for data in sets {
        for (l1_ratio, path, fraction) in [(1.0, 1, 0.01), (0.8, 1, 0.05), (1.0, 6, 0.05)] {
            let set = |run: &mut Run| {
                run.settings["l1_ratio"] = json!(l1_ratio);
                run.settings["path"] = json!(path);
                run.settings["lambda_fraction"] = json!(fraction);
            };
            let wanted = train(data, [1, 1], set).metrics["train_objective"];
            for lanes in [2, 4] {
                let outcome = train(data, [2, lanes], |run| {
                    set(run);
                    run.settings["cut"] = json!("columns");
                    run.settings["screening"] = json!(if lanes == 2 { "gap-safe" } else { "off" });
                });
                let (value, gap) = (outcome.metrics["train_objective"], outcome.metrics["relative_gap"]);
                let excess = value / wanted - 1.0;
                let place =
                    format!("{data}, {l1_ratio}, path {path}, {lanes} lanes: {excess:e}, gap {gap:e}");
                assert_eq!(outcome.reason, "converged", "{place} after {} epochs", outcome.epochs);
                assert!(gap <= 1e-6 && excess.abs() <= 1.1e-6, "{place}");
            }
        }
    }
}

#[test]
fn four_lanes_give_the_same_bits_on_any_number_of_workers_and_after_a_checkpoint() {
    for (data, path) in [(DENSE, 1), (SPARSE, 4)] {
        let out = std::env::temp_dir().join(format!("dunlin-lasso-columns-{path}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&out);
        let set = |run: &mut Run| {
            run.settings["path"] = json!(path);
            run.settings["tolerance"] = json!(1e-9);
            run.stop.epochs = 24;
        };
        let first = train(data, [1, 4], set).metrics;
        assert!(first["nonzeros"] > 0.0, "{data}: {first:?}");
        for workers in 2..=3 {
            assert_eq!(first, train(data, [workers, 4], set).metrics, "{data}: {workers} workers");
        }
        for epochs in [5, 10, 24] {
            let workers = 1 + epochs % 3;
            let outcome = train(data, [workers, 4], |run| {
                set(run);
                (run.stop.epochs, run.out, run.resume) = (epochs, Some(out.clone()), epochs > 5);
                run.checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
            });
            if epochs == 24 {
                assert_eq!(first, outcome.metrics, "{data}: after two checkpoints");
            }
        }
        std::fs::remove_dir_all(&out).expect("removed");
    }
}

/// The sparse data with so many columns of zeros more.
fn widened(more: usize) -> Data {
    let mut data = read_blocks(SPARSE, 2);
    data.shape = Shape { kind: Kind::Labelled, columns: data.shape.columns + more, ..data.shape };
    assert!(data.blocks.iter().all(|block| matches!(block.contents, Contents::Sparse(_))));
    data
}

#[test]
fn what_a_round_sends_does_not_grow_with_the_columns() {
    let per_clock = |more: usize| {
        let bytes = |epochs: usize| {
            let cluster = Cluster::Sim(SimConfig::new(2, 1));
            let outcome = train_on(&cluster, widened(more), [2, 2], |run| {
                (run.stop.epochs, run.settings["tolerance"]) = (epochs, json!(1e-9));
            });
            (outcome.bytes_sent as f64, outcome.epochs as f64)
        };
        let ((all, clocks), (start, begun)) = (bytes(30), bytes(2));
        assert!(clocks > begun + 4.0, "{clocks} clocks");
        (all - start) / (clocks - begun)
    };
    let (narrow, wide) = (per_clock(0), per_clock(40_000));
    // A table of 40,000 numbers would be 320 kB.
    // A column is 200 numbers, and goes to the other worker once: with head, number and two coefficients.
    assert!(
        narrow < 100_000.0 && wide < 1.5 * narrow + 1000.0,
        "{narrow} bytes a clock, {wide} with 40,000 columns more"
    );
}

#[test]
fn what_does_not_go_together_is_refused_in_words() {
    let refused = |strategy: &str, solver: &str| {
        let source = Source::new(read_blocks(DENSE, 2), None);
        let mut run = Run { lanes: 2, ..crate::run("lasso", DENSE).expect("known") };
        run.strategy = strategy.parse().expect("a strategy");
        (run.settings["cut"], run.settings["solver"]) = (json!("columns"), json!(solver));
        crate::train(&Cluster::Threads(1), &run, &source).expect_err("refused").to_string()
    };
    for (strategy, solver) in [("bsp", "auto"), ("allreduce", "proximal")] {
        let error = refused(strategy, solver);
        assert!(
            error.contains("cut = columns: needs --strategy allreduce or scheduled"),
            "{strategy}: {error}"
        );
    }
}
