//! Weight by weight comes to the optimum of the other solvers, on any number of workers to the same bits.

use super::*;
use crate::logistic::{Config, Solver};
use dunlin::comm::Cluster;
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::run::{CheckpointPolicy, Run};
use dunlin::train::Source;
use serde_json::json;

const DATA: &str = "synth:softmax?classes=2&n=400&columns=30";

fn train(strategy: &str, [workers, lanes]: [usize; 2], set: &Config, change: impl Fn(&mut Run)) -> Outcome {
    let options = ReadOptions { blocks: lanes, ..ReadOptions::default() };
    let source = Source::new(read(DATA, &options, None).expect("made up"), None);
    let mut run = Run { workers, lanes, ..crate::run("logistic", DATA).expect("known") };
    run.strategy = strategy.parse().expect("a strategy");
    run.settings = serde_json::to_value(set).expect("a value");
    run.stop.epochs = 1_000;
    change(&mut run);
    crate::train(&Cluster::Threads(workers), &run, &source).expect("trained")
}

#[test]
fn it_comes_to_the_optimum_of_newtons_method() {
    for (penalty, c, bias) in [
        (Penalty::L2, 1.0, true),
        (Penalty::L2, 100.0, false),
        (Penalty::L1, 0.1, true),
        (Penalty::L1, 10.0, false),
    ] {
        let config = Config { penalty, c, bias, tolerance: 1e-6, ..Config::default() };
        let newton = Config { solver: Solver::Newton, ..config.clone() };
        let wanted = train("allreduce", [1, 1], &newton, |_| ()).metrics["train_objective"];
        for (strategy, lanes) in
            [("scheduled", 1), ("scheduled:dependency,want=8", 3), ("scheduled:workingset,want=8,depth=2", 2)]
        {
            let config = Config { tolerance: 1e-5, ..config.clone() };
            let outcome = train(strategy, [1, lanes], &config, |run| run.eval_every = 5);
            let (value, gap) = (outcome.metrics["train_objective"], outcome.metrics["relative_gap"]);
            let excess = value / wanted - 1.0;
            let place = format!("{penalty:?}, C {c}, {strategy}, {lanes} lanes: {excess:e}, gap {gap:e}");
            assert_eq!(outcome.reason, "converged", "{place} after {} epochs", outcome.epochs);
            assert!(excess < gap + 3e-6 && excess > -3e-6, "{place}");
        }
    }
}

/// The radius keeps every round of nearly independent weights from making the objective greater, from the first step.
#[test]
fn the_objective_never_rises() {
    for (c, want, lanes) in [(1.0, 8, 3), (1e4, 8, 2), (1e4, 1, 1)] {
        let config = Config { c, tolerance: 1e-7, ..Config::default() };
        let mut last = f64::INFINITY;
        for epochs in 1..=12 {
            let strategy = format!("scheduled:dependency,want={want}");
            let outcome = train(&strategy, [1, lanes], &config, |run| run.stop.epochs = epochs);
            let value = outcome.metrics["train_objective"];
            assert!(
                value <= last * (1.0 + 1e-6),
                "C {c}, {lanes} lanes, epoch {epochs}: {value} after {last}"
            );
            last = value;
        }
    }
}

#[test]
fn three_lanes_give_the_same_bits_on_any_number_of_workers_and_after_a_checkpoint() {
    let config = Config { penalty: Penalty::L1, bias: true, tolerance: 1e-9, ..Config::default() };
    let strategy = "scheduled:dependency,want=6,depth=2";
    let short = |epochs: usize| move |run: &mut Run| run.stop.epochs = epochs;
    let first = train(strategy, [1, 3], &config, short(6)).metrics;
    for workers in 2..=3 {
        assert_eq!(first, train(strategy, [workers, 3], &config, short(6)).metrics, "{workers} workers");
    }
    let out = std::env::temp_dir().join(format!("dunlin-logistic-scheduled-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&out);
    let saved = |epochs: usize| {
        let out = out.clone();
        move |run: &mut Run| {
            (run.stop.epochs, run.out, run.resume) = (epochs, Some(out.clone()), epochs == 6);
            run.checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
        }
    };
    train(strategy, [2, 3], &config, saved(3));
    assert_eq!(first, train(strategy, [3, 3], &config, saved(6)).metrics, "after a checkpoint");
    std::fs::remove_dir_all(&out).expect("removed");
}

/// One lane, in turn: a loop over the weights with the rule of the module's text.
#[test]
fn one_lane_is_a_plain_loop() {
    let options = ReadOptions { blocks: 1, ..ReadOptions::default() };
    let data = read(DATA, &options, None).expect("made up");
    let (mut rows, classes) = Rows::new(&data.blocks[0]).expect("labelled rows");
    let width = data.shape.columns;
    let mut table = vec![vec![0.0f64; width]; classes.len()];
    for (row, values) in table.iter_mut().enumerate() {
        let (columns, stored) = rows.row(row);
        columns.iter().zip(stored).for_each(|(column, value)| values[*column as usize] = f64::from(*value));
    }
    let sign: Vec<f64> = classes.iter().map(|class| f64::from(*class) * 2.0 - 1.0).collect();
    let (mut weights, mut radii) = (vec![0.0f64; width], vec![1.0f64; width]);
    for column in (0..3).flat_map(|_| 0..width) {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for (values, sign) in table.iter().zip(&sign) {
            let score: f64 = values.iter().zip(&weights).map(|(x, w)| x * w).sum();
            slope -= sign * values[column] / (1.0 + (sign * score).exp());
            let least = score.abs() - radii[column] * values[column].abs();
            let bend = if least <= 0.0 { 0.25 } else { 1.0 / (2.0 + least.exp() + (-least).exp()) };
            curvature += values[column] * values[column] * bend;
        }
        let step = -(slope + weights[column]) / (curvature + 1.0);
        let step = step.clamp(-radii[column], radii[column]);
        weights[column] += step;
        radii[column] = (2.0 * step.abs()).max(radii[column] / 2.0);
    }
    let objective = |weights: &[f64]| {
        let losses = table.iter().zip(&sign).map(|(values, sign)| {
            let score: f64 = values.iter().zip(weights).map(|(x, w)| x * w).sum();
            (1.0 + (-sign * score).exp()).ln()
        });
        losses.sum::<f64>() + 0.5 * weights.iter().map(|w| w * w).sum::<f64>()
    };
    let config = Config { tolerance: 1e-9, ..Config::default() };
    let outcome = train("scheduled:roundrobin,want=5", [1, 1], &config, |run| run.stop.epochs = 3);
    let (found, wanted) = (outcome.metrics["train_objective"], objective(&weights));
    assert!((found / wanted - 1.0).abs() < 1e-5, "{found} for {wanted}");
}

#[test]
fn solvers_and_strategies_that_do_not_go_together_are_refused() {
    let refused = |strategy: &str, solver: Solver| {
        let source = Source::new(read(DATA, &ReadOptions::default(), None).expect("made up"), None);
        let mut run = crate::run("logistic", DATA).expect("known");
        run.strategy = strategy.parse().expect("a strategy");
        run.settings["solver"] = json!(solver);
        crate::train(&Cluster::Threads(1), &run, &source).expect_err("refused").to_string()
    };
    assert!(refused("scheduled", Solver::Newton).contains("goes by solver = coordinate or auto"));
    assert!(refused("allreduce", Solver::Coordinate).contains("is that of --strategy scheduled"));
}
