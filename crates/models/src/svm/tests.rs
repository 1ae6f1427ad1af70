//! Tests of support vector machines against slow and independent ways to the same answers.

use super::*;
use crate::softmax::tests::{data, rows};
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::data::{Contents, UNKNOWN};
use dunlin::rng::stream;
use dunlin::serial::Serial;
use dunlin::train::Source;

fn golden(classes: usize, blocks: usize, dense: bool) -> Data {
    let (rows, labels) = rows(200, 20, classes);
    data(&rows, &labels, classes, blocks, dense)
}

fn config(loss: Loss) -> Config {
    Config { loss, tolerance: 1e-7, ..Config::default() }
}

fn serial(config: Config, data: Data, lanes: usize) -> Serial<Svm> {
    Serial::new(&config, data, lanes, 1, 3).expect("valid settings")
}

fn metric(run: &Serial<Svm>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

fn train(run: &mut Serial<Svm>, epochs: usize) {
    (0..epochs).for_each(|_| run.epoch().expect("no divergence"));
}

fn weights(run: &Serial<Svm>) -> Vec<f32> {
    run.params.table::<f32>(WEIGHTS).flat().to_vec()
}

/// Objectives of the golden set (that of the tests of softmax) with two classes, by
///
/// ```text
/// LinearSVC(C=C, loss=loss, fit_intercept=False, tol=1e-12, max_iter=5000000)   # scikit-learn 1.9.1
/// ```
///
/// Only the first is by another loop in double precision, whose duality gap is below 1e-11: there the above does not
/// converge, and ends at 45.92.
const OPTIMA: [(Loss, f64, f64); 4] = [
    (Loss::Hinge, 1.0, 45.913_545_351_6),
    (Loss::Hinge, 0.1, 8.149_209_499_506),
    (Loss::SquaredHinge, 1.0, 48.388_811_306_527),
    (Loss::SquaredHinge, 0.1, 7.044_081_545_876),
];

#[test]
fn the_optimum_is_that_of_an_independent_implementation_on_any_number_of_lanes() {
    for (loss, c, optimum) in OPTIMA {
        for lanes in [1, 4] {
            let mut run = serial(Config { c, ..config(loss) }, golden(2, 4, false), lanes);
            train(&mut run, 2000);
            let (primal, dual) = (metric(&run, "train_objective"), metric(&run, "dual_objective"));
            let place = format!("{loss:?} C {c} {lanes} lanes: {primal}, {dual} for {optimum}");
            assert!((primal / optimum - 1.0).abs() < 5e-5, "{place}");
            assert!(dual < primal * (1.0 + 1e-6) && dual > optimum * (1.0 - 1e-4), "{place}");
        }
    }
}

/// Five classes: each column is the solution of its own class against the others.
#[test]
fn columns_are_one_against_the_rest() {
    let (rows, labels) = rows(200, 20, 5);
    let settings = || Config { c: 0.1, bias: true, ..config(Loss::SquaredHinge) };
    let mut run = serial(settings(), data(&rows, &labels, 5, 2, false), 1);
    train(&mut run, 300);
    let mut total = 0.0;
    for class in 0..5 {
        let own: Vec<u32> = labels.iter().map(|label| u32::from(*label == class)).collect();
        let mut two = serial(settings(), data(&rows, &own, 2, 2, false), 1);
        train(&mut two, 300);
        total += metric(&two, "train_objective");
        let table = run.params.table::<f32>(WEIGHTS);
        for (row, weight) in weights(&two).iter().enumerate() {
            assert!((table.row(row)[class as usize] - weight).abs() < 1e-3, "class {class} row {row}");
        }
    }
    assert!((metric(&run, "train_objective") / total - 1.0).abs() < 1e-5);
    assert!(metric(&run, "relative_gap").abs() < 1e-5);
}

#[test]
fn weights_are_the_combination_of_the_duals_and_the_dual_never_falls() {
    for (loss, lanes) in [(Loss::Hinge, 1), (Loss::Hinge, 3), (Loss::SquaredHinge, 4)] {
        let mut run = serial(Config { bias: true, ..config(loss) }, golden(2, 8, false), lanes);
        let mut last = 0.0;
        for epoch in 0..60 {
            train(&mut run, 1);
            let mut exact = [0.0f64; 21];
            for (block, duals) in run.blocks().iter().zip(&run.locals) {
                let (mut rows, labels) = Rows::new(block).expect("labelled");
                for (row, label) in labels.iter().enumerate() {
                    let push = f64::from(duals.alphas[row]) * if *label == 1 { 1.0 } else { -1.0 };
                    let (columns, values) = rows.row(row);
                    columns.iter().zip(values).for_each(|(c, v)| exact[*c as usize] += push * f64::from(*v));
                    exact[20] += push;
                }
            }
            for (weight, exact) in weights(&run).iter().zip(exact) {
                assert!((f64::from(*weight) - exact).abs() < 5e-5, "{lanes} lanes, epoch {epoch}");
            }
            let dual = metric(&run, "dual_objective");
            assert!(dual >= last - 1e-4, "{lanes} lanes, epoch {epoch}: from {last} to {dual}");
            last = dual;
        }
    }
}

#[test]
fn one_lane_is_a_plain_serial_loop() {
    let mut run = serial(Config { c: 0.3, ..config(Loss::Hinge) }, golden(2, 3, false), 1);
    train(&mut run, 4);
    let blocks = golden(2, 3, false).blocks;
    let mut w = vec![0.0f64; 20];
    let mut state: Vec<Vec<(f64, usize)>> = blocks.iter().map(|block| vec![(0.0, 0); block.rows()]).collect();
    for epoch in 0..4 {
        for at in dunlin::serial::block_order(3, 0, epoch, blocks.len()) {
            let (mut rows, labels) = Rows::new(&blocks[at]).expect("labelled");
            let due =
                |row: &u32| (*row as usize + epoch).is_multiple_of(state[at][*row as usize].1.clamp(1, 8));
            let mut order: Vec<u32> = (0..labels.len() as u32).filter(due).collect();
            stream(3, "svm order", &[at as u64, epoch as u64]).shuffle(&mut order);
            for row in order {
                let (columns, values) = rows.row(row as usize);
                let sign = if labels[row as usize] == 0 { -1.0 } else { 1.0 };
                let entries = || columns.iter().zip(values).map(|(c, v)| (*c as usize, f64::from(*v)));
                let score: f64 = entries().map(|(c, v)| v * w[c]).sum();
                let square: f64 = entries().map(|(_, v)| v * v).sum();
                let (alpha, quiet) = &mut state[at][row as usize];
                let most = f64::from(0.3f32);
                let new = (*alpha - (sign * score - 1.0) / square).clamp(0.0, most);
                let rests = new == *alpha && (new == 0.0 || new == most);
                *quiet = if rests { *quiet + 1 } else { 0 };
                entries().for_each(|(c, v)| w[c] += sign * (new - *alpha) * v);
                *alpha = new;
            }
        }
    }
    for (got, wanted) in weights(&run).iter().zip(&w) {
        assert!((f64::from(*got) - wanted).abs() < 1e-5, "{got} for {wanted}");
    }
}

#[test]
fn six_lanes_give_the_same_bits_on_any_number_of_workers() {
    for strategy in ["bsp", "allreduce"] {
        let mut first = None;
        for workers in 1..=3 {
            let source = Source::new(golden(5, 12, true), Some(golden(5, 1, true)));
            let mut run = dunlin::run::Run { workers, lanes: 6, ..crate::run("svm", "rows").expect("known") };
            run.strategy = strategy.parse().expect("a strategy");
            run.settings = serde_json::to_value(config(Loss::Hinge)).expect("a value");
            run.stop.epochs = 5;
            let outcome = crate::train(&Cluster::Threads(workers), &run, &source).expect("trained");
            assert!(outcome.metrics.values().all(|value| value.is_finite()));
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{workers} workers, {strategy}");
        }
    }
}

#[test]
fn instruction_levels_and_layouts_give_the_same_bits() {
    for classes in [2, 5] {
        let result = |isa: Isa, dense: bool| {
            let mut run = serial(Config { bias: true, ..config(Loss::Hinge) }, golden(classes, 3, dense), 2);
            run.algorithm.isa = isa;
            train(&mut run, 5);
            (weights(&run), metric(&run, "train_objective"), metric(&run, "dual_objective"))
        };
        let first = result(Isa::Portable, false);
        assert!(first.1.is_finite() && first.0.iter().any(|w| *w != 0.0));
        for isa in [Isa::Avx2, Isa::Avx512] {
            assert_eq!(first, result(isa, false), "{isa:?}, {classes} classes");
            assert_eq!(first, result(isa, true), "{isa:?}, {classes} classes, dense");
        }
    }
}

#[test]
fn degenerate_rows_do_no_harm() {
    for classes in [2u32, 5] {
        let (mut rows, labels) = rows(60, 20, classes as usize);
        rows[3].fill(0.0);
        rows.iter_mut().for_each(|row| (row[1], row[2], row[5]) = (row[0], 1.0, 0.0));
        for loss in [Loss::Hinge, Loss::SquaredHinge] {
            for c in [1e-6, 1.0, 1e6] {
                let settings = Config { c, ..config(loss) };
                let mut run = serial(settings, data(&rows, &labels, classes as usize, 6, false), 2);
                train(&mut run, 20);
                assert!(weights(&run).iter().all(|w| w.is_finite()), "{loss:?} C {c}");
                assert!(metric(&run, "relative_gap").is_finite(), "{loss:?} C {c}");
            }
        }
    }
    let (mut rows, labels) = rows(20, 20, 2);
    rows.iter_mut().flatten().for_each(|x| *x *= 1e30);
    let mut run = serial(config(Loss::Hinge), data(&rows, &labels, 2, 1, false), 1);
    let error = run.epoch().expect_err("overflow").to_string();
    assert!(error.contains("lower `c`"), "{error}");
}

#[test]
fn bad_settings_and_data_are_named() {
    let shape = golden(2, 1, false).shape;
    let refuse = |config: Config, what: &str| {
        let error = Svm::new(&config, &shape).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    refuse(Config { c: 0.0, ..Config::default() }, "c = 0;");
    refuse(Config { tolerance: 0.0, ..Config::default() }, "tolerance = 0;");
    let one = Shape { classes: vec![4], ..shape };
    assert!(Svm::new(&Config::default(), &one).expect_err("one class").to_string().contains("[4]"));
    let mut missing = golden(5, 1, false);
    let Contents::Sparse(rows) = &mut missing.blocks[0].contents else { panic!("sparse") };
    rows.classes.iter_mut().for_each(|class| *class = (*class).min(3));
    let error = Serial::<Svm>::new(&Config::default(), missing, 1, 1, 1).expect_err("a class without rows");
    assert!(error.to_string().contains("no row has the label 4"), "{error}");
}

#[test]
fn predictions_are_margins_and_test_measures_count() {
    for classes in [2, 5] {
        let mut run = serial(config(Loss::SquaredHinge), golden(classes, 2, false), 1);
        train(&mut run, 30);
        let mut test = golden(classes, 1, true);
        let Contents::Dense(rows) = &mut test.blocks[0].contents else { panic!("dense") };
        let labels = rows.classes.clone();
        rows.classes[0] = UNKNOWN;
        let mut correct = 0.0;
        let mut out = |row: usize, margins: &[f32]| {
            let best = match margins {
                [one] => usize::from(*one > 0.0),
                _ => (0..margins.len()).fold(0, |best, k| if margins[k] > margins[best] { k } else { best }),
            };
            correct += f64::from(u8::from(row > 0 && best == labels[row] as usize));
        };
        run.algorithm.predict(&test.blocks[0], &run.params, &mut out).expect("labelled");
        let metrics = run.metrics(Some(&test));
        let accuracy = metrics.iter().find(|(name, _)| *name == "test_accuracy").expect("known").1;
        assert_eq!(accuracy, correct / 200.0);
        assert!(accuracy > 0.6);
    }
}
