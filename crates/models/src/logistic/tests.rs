//! Tests of logistic regression against slow and independent ways to the same answers.

use super::*;
use crate::softmax::tests::{data, rows};
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::data::Contents;
use dunlin::rng::stream;
use dunlin::serial::Serial;
use dunlin::train::Source;

fn golden(blocks: usize, dense: bool) -> Data {
    let (rows, labels) = rows(200, 20, 2);
    data(&rows, &labels, 2, blocks, dense)
}

fn config(solver: Solver) -> Config {
    Config { solver, tolerance: 1e-7, ..Config::default() }
}

fn serial(config: Config, data: Data, lanes: usize) -> Serial<Logistic> {
    Serial::new(&config, data, lanes, 1, 3).expect("valid settings")
}

fn metric(run: &Serial<Logistic>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

fn train(run: &mut Serial<Logistic>, epochs: usize) {
    (0..epochs).for_each(|_| run.epoch().expect("no divergence"));
}

fn weights(run: &Serial<Logistic>) -> Vec<f32> {
    run.params.table::<f32>(WEIGHTS).flat().to_vec()
}

/// Objectives of the golden set (that of the tests of softmax, with two classes), with or without a column of ones:
///
/// ```text
/// LogisticRegression(C=C, penalty="l2", solver="newton-cg", fit_intercept=False, tol=1e-12)   # scikit-learn 1.9.1
/// LogisticRegression(C=C, penalty="l1", solver="liblinear", fit_intercept=False, tol=1e-12)
/// ```
const OPTIMA: [(Penalty, f64, bool, f64); 8] = [
    (Penalty::L2, 1.0, false, 57.323_915_168_461),
    (Penalty::L2, 1.0, true, 56.471_714_245_409),
    (Penalty::L2, 0.1, false, 9.556_798_720_457),
    (Penalty::L2, 10.0, true, 383.014_476_124_122),
    (Penalty::L1, 1.0, false, 66.536_360_878_740),
    (Penalty::L1, 1.0, true, 65.845_308_240_854),
    (Penalty::L1, 0.1, false, 13.445_859_429_319),
    (Penalty::L1, 10.0, true, 377.004_033_560_006),
];

#[test]
fn solvers_reach_the_optimum_of_an_independent_implementation_on_any_number_of_lanes() {
    for (penalty, c, bias, optimum) in OPTIMA {
        for (solver, lanes) in
            [(Solver::Newton, 1), (Solver::Newton, 3), (Solver::Dual, 1), (Solver::Dual, 4)]
        {
            if penalty == Penalty::L1 && solver == Solver::Dual {
                continue;
            }
            let mut run = serial(Config { c, bias, penalty, ..config(solver) }, golden(4, false), lanes);
            train(&mut run, if solver == Solver::Newton { 20 } else { 600 });
            let (primal, dual) = (metric(&run, "train_objective"), metric(&run, "dual_objective"));
            let place = format!("{penalty:?} {solver:?} C {c} {lanes} lanes: {primal}, {dual} for {optimum}");
            assert!((primal / optimum - 1.0).abs() < 5e-6, "{place}");
            assert!(dual < primal * (1.0 + 1e-6) && dual > optimum * (1.0 - 1e-4), "{place}");
            assert!(run.algorithm.converged(&[("relative_gap", 1e-8)]));
        }
    }
}

#[test]
fn few_weights_remain_under_l1() {
    let l1 = Config { c: 0.1, penalty: Penalty::L1, ..config(Solver::Auto) };
    let mut run = serial(l1.clone(), golden(2, false), 2);
    train(&mut run, 30);
    assert_eq!(metric(&run, "nonzeros"), 9.0); // so many by scikit-learn
    let mut none = serial(Config { c: 1e-4, ..l1 }, golden(2, false), 1);
    train(&mut none, 5);
    assert!(weights(&none).iter().all(|w| *w == 0.0));
    assert!(metric(&none, "relative_gap") < 1e-6, "zero is known to be the optimum");
}

/// More columns than H has room for: the places are given anew, and the gap still closes.
#[test]
fn wide_data_have_places_in_turn() {
    let (rows, labels) = rows(60, 1500, 2);
    for c in [0.1, 10.0] {
        let settings = Config { c, penalty: Penalty::L1, ..config(Solver::Auto) };
        let mut run = serial(settings, data(&rows, &labels, 2, 3, false), 3);
        assert_eq!(run.algorithm.solver, Solver::Newton);
        train(&mut run, 60);
        let gap = metric(&run, "relative_gap");
        assert!((-1e-6..1e-4).contains(&gap), "C {c}: gap {gap}");
    }
    let run = serial(config(Solver::Auto), data(&rows, &labels, 2, 3, false), 1);
    assert_eq!(run.algorithm.solver, Solver::Dual, "l2, more weights than rows");
}

#[test]
fn the_dual_step_solves_its_equation() {
    let seed = 5;
    let mut rng = stream(seed, "test", &[]);
    for case in 0..2000 {
        let a = 10f64.powf(rng.unit() * 14.0 - 3.0);
        let share = if case % 3 == 0 { 0.0 } else { rng.unit() };
        let score = rng.normal() * 10f64.powf(rng.unit() * 3.0 - 1.0);
        let old = if share == 0.0 { -100.0 } else { (share / (1.0 - share)).ln() };
        let (t, beyond) = (a * share - score, a * (share - 1.0) - score);
        let u = f64::from(dual::solve(t as f32, beyond as f32, a as f32, old as f32));
        let (mut low, mut high) = (beyond - 1.0, t + 1.0);
        for _ in 0..300 {
            let middle = 0.5 * (low + high);
            let inverse = 1.0 / (1.0 + (-middle).exp());
            // σ or 1 − σ, whichever is small.
            let value = if middle < 0.0 {
                middle + a * inverse - t
            } else {
                middle - a / (1.0 + middle.exp()) - beyond
            };
            if value < 0.0 { low = middle } else { high = middle }
        }
        let error = (u - low).abs() / low.abs().max(1.0);
        assert!(error < 2e-4, "seed {seed} case {case}: a {a} score {score} share {share}: {u} for {low}");
    }
}

#[test]
fn one_lane_of_dual_ascent_is_a_plain_serial_loop() {
    let mut run = serial(Config { tolerance: 1e-9, ..config(Solver::Dual) }, golden(3, false), 1);
    train(&mut run, 3);
    let blocks = golden(3, false).blocks;
    let mut w = vec![0.0f64; 20];
    let mut shares: Vec<Vec<f64>> = blocks.iter().map(|block| vec![0.0; block.rows()]).collect();
    for epoch in 0..3 {
        for at in dunlin::serial::block_order(3, 0, epoch as usize, blocks.len()) {
            let block = &blocks[at];
            let (mut rows, labels) = Rows::new(block).expect("labelled");
            let mut order: Vec<u32> = (0..labels.len() as u32).collect();
            stream(3, "logistic order", &[u64::from(block.id), epoch]).shuffle(&mut order);
            for row in order {
                let (columns, values) = rows.row(row as usize);
                let entries: Vec<(usize, f64)> =
                    columns.iter().zip(values).map(|(c, v)| (*c as usize, f64::from(*v))).collect();
                let sign = if labels[row as usize] == 0 { -1.0 } else { 1.0 };
                let a: f64 = entries.iter().map(|(_, v)| v * v).sum();
                let score: f64 = sign * entries.iter().map(|(c, v)| v * w[*c]).sum::<f64>();
                let old = shares[at][row as usize];
                let (mut low, mut high) = (-60.0f64, 60.0);
                for _ in 0..100 {
                    let middle = 0.5 * (low + high);
                    let value = middle + a / (1.0 + (-middle).exp()) - (a * old - score);
                    if value < 0.0 { low = middle } else { high = middle }
                }
                let new = 1.0 / (1.0 + (-low).exp());
                shares[at][row as usize] = new;
                entries.iter().for_each(|(c, v)| w[*c] += sign * (new - old) * v);
            }
        }
    }
    for (got, wanted) in weights(&run).iter().zip(&w) {
        assert!((f64::from(*got) - wanted).abs() < 1e-5, "{got} for {wanted}");
    }
}

#[test]
fn six_lanes_give_the_same_bits_on_any_number_of_workers() {
    let settings = [
        config(Solver::Newton),
        config(Solver::Dual),
        Config { penalty: Penalty::L1, bias: true, ..config(Solver::Auto) },
    ];
    for settings in settings {
        let mut first = None;
        for workers in 1..=3 {
            let source = Source::new(golden(12, true), Some(golden(1, true)));
            let mut run =
                dunlin::run::Run { workers, lanes: 6, ..crate::run("logistic", "rows").expect("known") };
            run.settings = serde_json::to_value(&settings).expect("a value");
            run.stop.epochs = 5;
            let outcome = crate::train(&Cluster::Threads(workers), &run, &source).expect("trained");
            assert!(outcome.metrics.values().all(|value| value.is_finite()));
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{workers} workers, {settings:?}");
        }
    }
}

#[test]
fn instruction_levels_and_layouts_give_the_same_bits() {
    for (solver, penalty) in
        [(Solver::Dual, Penalty::L2), (Solver::Newton, Penalty::L2), (Solver::Newton, Penalty::L1)]
    {
        let result = |isa: Isa, dense: bool| {
            let settings = Config { penalty, bias: true, ..config(solver) };
            let mut run = serial(settings, golden(3, dense), 2);
            run.algorithm.isa = isa;
            train(&mut run, 4);
            (weights(&run), metric(&run, "train_objective"), metric(&run, "dual_objective"))
        };
        let first = result(Isa::Portable, false);
        assert!(first.1.is_finite() && first.0.iter().any(|w| *w != 0.0));
        for isa in [Isa::Avx2, Isa::Avx512] {
            assert_eq!(first, result(isa, false), "{isa:?}, {solver:?}, {penalty:?}");
            assert_eq!(first, result(isa, true), "{isa:?}, {solver:?}, {penalty:?}, dense");
        }
    }
}

/// The derivatives that a clock gathers, against differences of the objective.
#[test]
fn derivatives_agree_with_finite_differences() {
    let settings = Config { c: 0.7, bias: true, ..config(Solver::Newton) };
    let run = serial(settings, golden(1, false), 1);
    let (model, mut params) = (run.algorithm, run.params);
    let data = golden(1, false);
    let block = &data.blocks[0];
    let mut rng = stream(5, "test", &[]);
    let point: Vec<f64> = (0..21).map(|_| 0.3 * rng.normal()).collect();
    let unit = |epoch| Unit {
        block,
        epoch,
        clock: epoch,
        lane: 0,
        lanes: 1,
        row_block: 0,
        visit: 0,
        visits: 1,
        seed: 3,
    };
    let mut gradient = |point: &[f64]| -> (f64, Vec<f64>, Vec<f64>) {
        let mut weights = params.table_mut::<f32>(WEIGHTS);
        weights.flat_mut().iter_mut().zip(point).for_each(|(w, p)| *w = *p as f32);
        let mut sums = Sums::default();
        newton::evaluate(&model, &unit(0), &mut params, &mut sums).expect("finite");
        let first = params.table::<f64>(1).flat().chunks(2).map(|pair| pair[0]).collect();
        let second = params.table::<f64>(2).row(0).to_vec();
        params.table_mut::<f64>(1).flat_mut().fill(0.0);
        params.table_mut::<f64>(2).flat_mut().fill(0.0);
        (0.7 * sums.get("loss"), first, second)
    };
    let (_, first, second) = gradient(&point);
    for at in [0, 3, 19, 20] {
        let moved = |by: f64| -> Vec<f64> {
            point.iter().enumerate().map(|(place, p)| if place == at { p + by } else { *p }).collect()
        };
        let (above, up, _) = gradient(&moved(0.01));
        let (below, down, _) = gradient(&moved(-0.01));
        let slope = (above - below) / 0.02;
        assert!((slope - first[at]).abs() < 2e-3, "weight {at}: {} for {slope}", first[at]);
        for other in 0..=at {
            let bend = (up[other] - down[other]) / 0.02;
            let got = second[at * (at + 1) / 2 + other];
            assert!((bend - got).abs() < 5e-3, "weights {at}, {other}: {got} for {bend}");
        }
    }
}

#[test]
fn degenerate_rows_do_no_harm() {
    let (mut rows, mut labels) = rows(60, 20, 2);
    rows[3].fill(0.0);
    rows[40].fill(0.0);
    // Two equal columns, a constant one, and one of zeros; blocks of one class each.
    rows.iter_mut().for_each(|row| (row[1], row[2], row[5]) = (row[0], 1.0, 0.0));
    let mut order: Vec<usize> = (0..60).collect();
    order.sort_by_key(|row| labels[*row]);
    rows = order.iter().map(|row| rows[*row].clone()).collect();
    labels = order.iter().map(|row| labels[*row]).collect();
    for (solver, penalty) in
        [(Solver::Dual, Penalty::L2), (Solver::Newton, Penalty::L2), (Solver::Newton, Penalty::L1)]
    {
        for c in [1e-6, 1.0, 1e6] {
            let settings = Config { c, penalty, solver, ..Config::default() };
            let mut run = serial(settings, data(&rows, &labels, 2, 6, false), 2);
            train(&mut run, 20);
            let weights = weights(&run);
            assert!(weights.iter().all(|w| w.is_finite()), "{solver:?} {penalty:?} C {c}");
            assert_eq!(weights[5], 0.0, "{solver:?} {penalty:?} C {c}");
            assert!(metric(&run, "relative_gap").is_finite() && metric(&run, "train_objective").is_finite());
        }
    }
}

#[test]
fn huge_values_are_reported_or_do_no_harm() {
    let (mut rows, labels) = rows(20, 20, 2);
    rows.iter_mut().flatten().for_each(|x| *x *= 3e38);
    let data = || data(&rows, &labels, 2, 1, false);
    let error = serial(config(Solver::Dual), data(), 1).epoch().expect_err("squares overflow").to_string();
    assert!(error.contains("lower `c`"), "{error}");
    // Newton's sums are in double precision and hold them.
    let mut run = serial(config(Solver::Newton), data(), 1);
    train(&mut run, 5);
    assert!(weights(&run).iter().all(|w| w.is_finite()));
}

#[test]
fn bad_settings_and_data_are_named() {
    let shape = golden(1, false).shape;
    let refuse = |config: Config, shape: &Shape, what: &str| {
        let error = Logistic::new(&config, shape).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    let normal = Config::default;
    refuse(Config { c: 0.0, ..normal() }, &shape, "c = 0;");
    refuse(Config { c: f64::NAN, ..normal() }, &shape, "c = NaN;");
    refuse(Config { tolerance: 1.0, ..normal() }, &shape, "tolerance = 1;");
    refuse(Config { solver: Solver::Dual, penalty: Penalty::L1, ..normal() }, &shape, "newton or auto");
    let with = |classes: Vec<i64>| Shape { classes, ..shape.clone() };
    refuse(normal(), &with(vec![1, 2, 3]), "softmax");
    refuse(normal(), &with(vec![4]), "the only label is [4]");
    let wide = Shape { columns: 5000, ..shape.clone() };
    refuse(Config { solver: Solver::Newton, ..normal() }, &wide, "at most 2048, or solver = dual");
    let mut missing = golden(1, false);
    missing.shape.classes = vec![-1, 1];
    let Contents::Sparse(rows) = &mut missing.blocks[0].contents else { panic!("sparse") };
    rows.classes.fill(1);
    let error = Serial::<Logistic>::new(&normal(), missing, 1, 1, 1).expect_err("a class without rows");
    assert!(error.to_string().contains("no row has the label -1"), "{error}");
    let mut run = Serial::<Logistic>::new(&config(Solver::Newton), golden(4, false), 1, 2, 3).expect("valid");
    let error = run.epoch().expect_err("two clocks per epoch").to_string();
    assert!(error.contains("one clock per epoch"), "{error}");
}

#[test]
fn predictions_are_probabilities_and_test_measures_count() {
    for solver in [Solver::Dual, Solver::Newton] {
        let mut run = serial(Config { bias: true, ..config(solver) }, golden(2, false), 1);
        train(&mut run, 20);
        let mut test = golden(1, true);
        let Contents::Dense(rows) = &mut test.blocks[0].contents else { panic!("dense") };
        let labels = rows.classes.clone();
        rows.classes[0] = UNKNOWN;
        let (mut correct, mut loss) = (0.0, 0.0);
        let mut out = |row: usize, p: &[f32]| {
            assert!((p[0] + p[1] - 1.0).abs() < 1e-6 && p.len() == 2);
            correct += f64::from(u8::from(row > 0 && (p[1] > p[0]) == (labels[row] == 1)));
            loss -= if row > 0 { f64::from(p[labels[row] as usize]).ln() } else { 0.0 };
        };
        run.algorithm.predict(&test.blocks[0], &run.params, &mut out).expect("labelled");
        let metrics = run.metrics(Some(&test));
        let metric = |name: &str| metrics.iter().find(|(found, _)| *found == name).expect("known").1;
        assert_eq!(metric("test_accuracy"), correct / 200.0);
        assert!((metric("test_log_loss") - loss / 199.0).abs() < 1e-5);
        assert!(metric("test_accuracy") > 0.8);
    }
}
