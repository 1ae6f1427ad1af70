//! Lanes with some columns each come to the optimum under every policy, on any number of workers to the same bits.

use super::{Packing, in_pairs};
use crate::lasso::columns::Column;
use crate::lasso::{Config, Cut, Lasso};
use dunlin::algorithm::{Algorithm, StrategyKind};
use dunlin::comm::{Cluster, SimConfig};
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{CheckpointPolicy, Run};
use dunlin::train::Source;
use serde_json::json;

const DENSE: &str = "synth:lasso?n=60&columns=300&correlation=0.6&support=7";
const SPARSE: &str = "synth:correlated?n=200&columns=500&nonzeros=8&support=12";

fn source(data: &str, lanes: usize) -> Source {
    let options = ReadOptions { targets: true, blocks: lanes, ..ReadOptions::default() };
    Source::new(read(data, &options, None).expect("made up"), None)
}

fn run(data: &str, strategy: &str, [workers, lanes]: [usize; 2], change: impl Fn(&mut Run)) -> Run {
    let mut run = Run { workers, lanes, ..crate::run("lasso", data).expect("known") };
    run.strategy = strategy.parse().expect("a strategy");
    run.settings["standardise"] = json!(true);
    run.settings["lambda_fraction"] = json!(0.1);
    run.settings["cut"] = json!("columns");
    change(&mut run);
    run
}

fn train(data: &str, strategy: &str, shape: [usize; 2], change: impl Fn(&mut Run)) -> Outcome {
    let run = run(data, strategy, shape, change);
    crate::train(&Cluster::Threads(shape[0]), &run, &source(data, shape[1])).expect("trained")
}

#[test]
fn every_policy_comes_to_the_optimum_and_the_gap_ends_it() {
    for (data, l1_ratio, standardise) in [(DENSE, 1.0, true), (SPARSE, 1.0, true), (SPARSE, 0.7, false)] {
        let set = |run: &mut Run| {
            run.settings["l1_ratio"] = json!(l1_ratio);
            run.settings["standardise"] = json!(standardise);
            (run.stop.epochs, run.eval_every) = (3_000, 5);
        };
        let fine = |run: &mut Run| {
            set(run);
            run.settings["tolerance"] = json!(1e-10);
        };
        let wanted = train(data, "allreduce", [1, 1], fine).metrics["train_objective"];
        for (strategy, lanes) in [
            ("scheduled", 2),
            ("scheduled", 3),
            ("scheduled:dependency,want=16,depth=2", 3),
            ("scheduled:workingset,want=16", 2),
            ("scheduled:priority,want=1,shards=2", 2),
            ("scheduled:roundrobin,want=1", 2),
            ("scheduled:random,want=2", 3),
        ] {
            let outcome = train(data, strategy, [1, lanes], set);
            let (value, gap) = (outcome.metrics["train_objective"], outcome.metrics["relative_gap"]);
            let excess = value / wanted - 1.0;
            let place = format!("{data}, {l1_ratio}, {strategy}, {lanes} lanes: {excess:e}, gap {gap:e}");
            assert_eq!(outcome.reason, "converged", "{place} after {}", outcome.epochs);
            // As with rows cut, columns are scaled in single precision.
            assert!(gap <= 1e-6 && excess <= gap + 5e-8 && excess > -5e-8, "{place}");
        }
    }
}

/// What is said is what the model does: its predictions for the same rows have the objective's error.
#[test]
fn the_objective_is_that_of_the_coefficients() {
    for data in [DENSE, SPARSE] {
        let shape = [2, 2];
        let mut run = run(data, "scheduled", shape, |run| run.stop.epochs = 40);
        run.test = Some(data.into());
        let options = ReadOptions { targets: true, blocks: 2, ..ReadOptions::default() };
        let [own, again] = [(); 2].map(|()| read(data, &options, None).expect("made up"));
        let outcome = crate::train(&Cluster::Threads(2), &run, &Source::new(own, Some(again)));
        let metrics = outcome.expect("trained").metrics;
        let (train, test) = (metrics["train_rmse"], metrics["test_rmse"]);
        assert!((train - test).abs() < 1e-6 * train && metrics["nonzeros"] > 0.0, "{data}: {train}, {test}");
    }
}

#[test]
fn four_lanes_give_the_same_bits_on_any_number_of_workers_and_after_a_checkpoint() {
    for (at, (data, strategy)) in
        [(DENSE, "scheduled:dependency,want=8,depth=2"), (SPARSE, "scheduled"), (SPARSE, "scheduled:random")]
            .into_iter()
            .enumerate()
    {
        let first = train(data, strategy, [1, 4], |run| run.stop.epochs = 6).metrics;
        assert!(first["nonzeros"] > 0.0, "{data}: {first:?}");
        for workers in 2..=3 {
            let outcome = train(data, strategy, [workers, 4], |run| run.stop.epochs = 6);
            assert_eq!(first, outcome.metrics, "{data}: {workers} workers");
        }
        let out = std::env::temp_dir().join(format!("dunlin-lasso-dealt-{at}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&out);
        let saved = |run: &mut Run, epochs: usize| {
            (run.stop.epochs, run.out, run.resume) = (epochs, Some(out.clone()), epochs == 6);
            run.checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
        };
        train(data, strategy, [2, 4], |run| saved(run, 3));
        let outcome = train(data, strategy, [3, 4], |run| saved(run, 6));
        assert_eq!(first, outcome.metrics, "{data}, {strategy}: after a checkpoint");
        std::fs::remove_dir_all(&out).expect("removed");
    }
}

/// A round by columns takes more instructions and bytes than one by rows, also where there are more columns than rows.
#[test]
fn columns_are_cut_only_when_they_are_asked_for() {
    let narrow = "synth:lasso?n=90&columns=40&correlation=0.6&support=7";
    for data in [DENSE, narrow] {
        let metrics = |cut: &str| {
            let set = |run: &mut Run| (run.stop.epochs, run.settings["cut"]) = (3, json!(cut));
            train(data, "scheduled", [1, 3], set).metrics
        };
        assert_eq!(metrics("auto"), metrics("rows"), "{data}");
        assert_ne!(metrics("columns"), metrics("rows"), "{data}");
        let alone = |cut: &str| {
            let set = |run: &mut Run| (run.stop.epochs, run.settings["cut"]) = (3, json!(cut));
            train(data, "scheduled", [1, 1], set).metrics
        };
        assert_eq!(alone("columns"), alone("rows"), "one lane has all");
    }
}

/// Where nothing is looked at, a round is what the picks need: few numbers of sparse columns, n of dense ones.
#[test]
fn what_a_round_sends_is_the_change_of_the_residual() {
    for (data, most) in [
        ("synth:correlated?n=4000&columns=4200&nonzeros=5&support=12", 8 + 2 + 2 * 5 * 8),
        ("synth:lasso?n=60&columns=640&correlation=0.6&support=7", 8 + 2 + 60),
    ] {
        let bytes = |epochs: usize| {
            let shape = [2, 2];
            let set = |run: &mut Run| (run.stop.epochs, run.eval_every) = (epochs, 100);
            let run = run(data, "scheduled:random,want=8", shape, set);
            let cluster = Cluster::Sim(SimConfig::new(2, 1));
            let outcome = crate::train(&cluster, &run, &source(data, 2)).expect("trained");
            outcome.bytes_sent as f64
        };
        let columns = if data.contains("4200") { 4200.0 } else { 640.0 };
        let a_round = (bytes(3) - bytes(2)) / (columns / 8.0);
        // Two workers exchange their sums, with the heads of their messages.
        assert!(a_round < 2.0 * (8.0 * f64::from(most) + 150.0), "{data}: {a_round} bytes, {most} numbers");
    }
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let few = "synth:lasso?n=90&columns=3&correlation=0.6&support=2";
    let run = run(few, "scheduled", [1, 4], |_| {});
    let error = crate::train(&Cluster::Threads(1), &run, &source(few, 4)).expect_err("refused").to_string();
    assert!(error.contains("cut = columns: 3 columns for 4 lanes; give fewer --lanes"), "{error}");
    let config = Config { cut: Cut::Columns, ..Config::default() };
    let mut model = Lasso::new(&config, source(DENSE, 2).shape()).expect("a model");
    model.under(StrategyKind::Scheduled, Some(0)).expect("allowed");
    let error = model.cut_by_columns(2, false).expect_err("refused").to_string();
    assert!(error.contains("needs all rows in memory; leave --memory away"), "{error}");
}

#[test]
fn vectors_arrive_as_they_were_packed() {
    let (places, values) = ([1, 4, 7], [0.5f32, -2.0, 3.0]);
    let sparse = Column::Sparse { places: &places, values: &values, shift: 0.25, sum: 1.5 };
    for (rows, numbers) in [(8, 8), (20, 10)] {
        let packing = Packing { rows, stored: 5 };
        assert_eq!(packing.numbers(), numbers);
        let mut packed = vec![0.0; numbers];
        packing.add(&sparse, 2.0, 2, &mut packed);
        let mut found = vec![0.0; rows];
        packing.each(&packed, |row, value| found[row] += value);
        let mut wanted = vec![0.0; rows];
        (wanted[1], wanted[4], wanted[7]) = (1.0, -4.0, 6.0);
        assert_eq!(found, wanted);
    }
    let dense = Column::Dense(&values);
    assert_eq!((dense.shift(), dense.total(3), sparse.total(8)), (0.0, 1.5, 1.5 - 2.0));
    assert_eq!(in_pairs(&[(3, 3), (2, 5), (1, 5)]), [1, 2, 5]);
}
