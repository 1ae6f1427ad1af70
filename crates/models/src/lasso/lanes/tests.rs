//! Small penalties, with the rows cut: many coefficients of columns that are much alike.

use dunlin::comm::Cluster;
use dunlin::data::{ReadOptions, read};
use dunlin::event::Outcome;
use dunlin::train::Source;
use serde_json::json;

fn train(data: &str, fraction: f64, l1_ratio: f64, lanes: usize) -> Outcome {
    let options = ReadOptions { targets: true, blocks: lanes, ..ReadOptions::default() };
    let source = Source::new(read(data, &options, None).expect("made up"), None);
    let mut run = crate::run("lasso", data).expect("known");
    (run.workers, run.lanes, run.stop.epochs) = (lanes, lanes, 500);
    run.settings["lambda_fraction"] = json!(fraction);
    run.settings["l1_ratio"] = json!(l1_ratio);
    run.settings["standardise"] = json!(true);
    run.settings["cut"] = json!("rows");
    crate::train(&Cluster::Threads(lanes), &run, &source).expect("trained")
}

/// More rows than columns, fewer, and sparse ones, at 0.001 and 0.0003 of the λ that zeroes everything.
#[test]
fn the_gap_closes_at_small_penalties() {
    for data in [
        "synth:lasso?n=150&columns=60&correlation=0.9&support=12",
        "synth:lasso?n=45&columns=200&correlation=0.9&support=12",
        "synth:lasso?n=60&columns=150&correlation=0.99&support=12",
        "synth:correlated?n=120&columns=300&nonzeros=10&keep=0.9&support=20",
    ] {
        for (fraction, l1_ratio) in [(1e-3, 1.0), (3e-4, 1.0), (1e-3, 0.9)] {
            let alone = train(data, fraction, l1_ratio, 1).metrics["train_objective"];
            for lanes in [2, 3] {
                let outcome = train(data, fraction, l1_ratio, lanes);
                let (value, gap) = (outcome.metrics["train_objective"], outcome.metrics["relative_gap"]);
                let (excess, epochs) = (value / alone - 1.0, outcome.epochs);
                let place = format!("{data}, {fraction}, {l1_ratio}, {lanes} lanes, {epochs} epochs");
                let found = format!("{place}: gap {gap:e}, {excess:e} above one lane");
                assert_eq!(outcome.reason, "converged", "{found}");
                assert!(gap <= 1e-6 && excess.abs() <= 1.1e-6, "{found}");
            }
        }
    }
}
