//! Tests of non-negative factorisation against slow loops, known factors and the conditions of optimality.

use super::*;
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::rng::stream;
use dunlin::serial::Serial;
use dunlin::train::Source;

const SEED: u64 = 5;

/// `count` rows of `width` columns: sums of `groups` sparse parts, and noise.
fn parts(count: usize, width: usize, groups: usize, noise: f64) -> Vec<Vec<f32>> {
    let mut rng = stream(SEED, "test", &[count as u64, width as u64]);
    let mut some = |share: f64| if rng.unit() < share { 1.0 + rng.unit() } else { 0.0 };
    let parts: Vec<Vec<f64>> = (0..groups).map(|_| (0..width).map(|_| some(0.4)).collect()).collect();
    let weights: Vec<Vec<f64>> = (0..count).map(|_| (0..groups).map(|_| some(0.5)).collect()).collect();
    let mut rng = stream(SEED, "test noise", &[]);
    let mut value = |row: usize, column: usize| {
        let exact: f64 = weights[row].iter().zip(&parts).map(|(weight, part)| weight * part[column]).sum();
        if exact > 0.0 { (exact + noise * rng.unit()) as f32 } else { 0.0 }
    };
    (0..count).map(|row| (0..width).map(|column| value(row, column)).collect()).collect()
}

fn data(rows: &[Vec<f32>], blocks: usize, dense: bool) -> Data {
    crate::testing::data(rows, blocks, dense, &[0])
}

fn config(components: usize) -> Config {
    Config { components, ..Config::default() }
}

fn serial(config: &Config, data: Data, lanes: usize) -> Serial<Nmf> {
    Serial::new(config, data, lanes, 1, SEED).expect("valid settings")
}

fn train(run: &mut Serial<Nmf>, epochs: usize) {
    (0..epochs).for_each(|_| run.epoch().expect("finite"));
}

fn metric(run: &Serial<Nmf>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

type Matrix = Vec<Vec<f64>>;

/// W: (rows, K), and Hᵀ: (features, K).
fn factors(run: &Serial<Nmf>) -> (Matrix, Matrix) {
    let width = run.algorithm.config.components;
    let wide = |row: &[f32]| row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let weights = run.locals.iter().flat_map(|local| local.0.chunks_exact(width)).map(wide).collect();
    let table = run.params.table::<f32>(COMPONENTS);
    (weights, (0..table.rows()).map(|row| wide(table.row(row))).collect())
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// ½ ‖X − WH‖² and the penalties, entry by entry.
fn slow_objective(rows: &[Vec<f32>], config: &Config, weights: &Matrix, components: &Matrix) -> f64 {
    let mut sum = 0.0;
    for (row, weight) in rows.iter().zip(weights) {
        for (value, component) in row.iter().zip(components) {
            sum += 0.5 * (f64::from(*value) - dot(weight, component)).powi(2);
        }
    }
    let all = weights.iter().chain(components).flatten();
    sum + all.map(|value| config.l1 * value + 0.5 * config.l2 * value * value).sum::<f64>()
}

fn transposed(rows: &Matrix) -> Matrix {
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

/// Improves `left`, (rows, K), given `right`, (columns, K), entry by entry in double precision.
fn slow_half(rows: &Matrix, config: &Config, left: &mut Matrix, right: &Matrix) {
    for _ in 0..config.inner {
        for (row, weight) in rows.iter().zip(left.iter_mut()) {
            let old = weight.clone();
            for k in 0..weight.len() {
                let product: f64 = row.iter().zip(right).map(|(value, right)| value * right[k]).sum();
                let model = |weight: &[f64]| -> f64 {
                    right.iter().map(|right| right[k] * dot(weight, right)).sum::<f64>()
                };
                let curvature: f64 = right.iter().map(|right| right[k] * right[k]).sum();
                weight[k] = match config.solver {
                    Solver::Hals => {
                        let others = model(weight) - curvature * weight[k];
                        ((product - config.l1 - others) / (curvature + config.l2)).max(0.0)
                    }
                    Solver::Multiplicative => {
                        let divisor = model(&old) + config.l1 + config.l2 * old[k];
                        old[k] * product / divisor.max(f64::from(f32::EPSILON))
                    }
                };
            }
        }
    }
}

fn variants() -> Vec<Config> {
    let multiplicative = Config { solver: Solver::Multiplicative, ..config(3) };
    vec![
        config(3),
        Config { inner: 1, l1: 0.3, l2: 0.2, ..config(5) },
        Config { l1: 0.1, l2: 0.3, ..multiplicative.clone() },
        multiplicative,
    ]
}

#[test]
fn clocks_are_those_of_a_slow_loop_in_double_precision() {
    let rows = parts(70, 13, 3, 0.3);
    let wide: Matrix = rows.iter().map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect();
    for settings in variants() {
        for (lanes, dense) in [(1, true), (1, false), (3, true)] {
            let mut run = serial(&settings, data(&rows, 6, dense), lanes);
            let (mut weights, mut components) = factors(&run);
            for clock in 0..6 {
                train(&mut run, 1);
                slow_half(&wide, &settings, &mut weights, &components);
                slow_half(&transposed(&wide), &settings, &mut components, &weights);
                let exact = slow_objective(&rows, &settings, &weights, &components);
                let got = 70.0 * metric(&run, "train_objective");
                let place = format!("{settings:?}, {lanes} lanes, clock {clock}");
                assert!((got / exact - 1.0).abs() < 1e-4, "{place}: {got}, {exact}");
                let (own, parts) = factors(&run);
                let exact = slow_objective(&rows, &settings, &own, &parts);
                assert!((got / exact - 1.0).abs() < 1e-5, "{place}: told {got}, is {exact}");
            }
        }
    }
}

#[test]
fn the_objective_falls_to_a_point_that_meets_the_conditions() {
    let rows = parts(60, 12, 4, 0.5);
    for settings in [config(4), Config { l1: 0.5, l2: 0.1, ..config(4) }] {
        let mut run = serial(&settings, data(&rows, 4, true), 2);
        let mut last = metric(&run, "train_objective");
        for epoch in 0..1500 {
            train(&mut run, 1);
            let now = metric(&run, "train_objective");
            assert!(now <= last * (1.0 + 1e-5), "epoch {epoch}: {now} after {last}");
            last = now;
        }
        // Gradient of W: 0 where w > 0, at least 0 elsewhere.
        let (weights, components) = factors(&run);
        for (row, weight) in rows.iter().zip(&weights) {
            for k in 0..4 {
                let rest =
                    |(value, part): (&f32, &Vec<f64>)| part[k] * (dot(weight, part) - f64::from(*value));
                let gradient: f64 = row.iter().zip(&components).map(rest).sum();
                let gradient = gradient + settings.l1 + settings.l2 * weight[k];
                let scale = row.iter().zip(&components).map(|(x, part)| part[k] * f64::from(*x)).sum::<f64>();
                assert!(gradient > -0.01 * (1.0 + scale), "{gradient} at w = {}", weight[k]);
                assert!(weight[k] == 0.0 || gradient < 0.01 * (1.0 + scale), "{gradient} of {scale}");
            }
        }
    }
}

/// One component of a non-negative matrix is its first singular pair.
#[test]
fn one_component_is_the_first_singular_pair() {
    let rows = parts(50, 9, 3, 0.2);
    let mut direction = vec![1.0f64; 9];
    let mut singular = 0.0;
    for _ in 0..300 {
        let image: Vec<f64> =
            rows.iter().map(|row| row.iter().zip(&direction).map(|(x, v)| f64::from(*x) * v).sum()).collect();
        let back = |at: usize| rows.iter().zip(&image).map(|(row, value)| f64::from(row[at]) * value).sum();
        direction = (0..9).map(back).collect();
        let length = dot(&direction, &direction).sqrt();
        direction.iter_mut().for_each(|value| *value /= length);
        singular = length;
    }
    let square: f64 = rows.iter().flatten().map(|value| f64::from(*value).powi(2)).sum();
    for solver in [Solver::Hals, Solver::Multiplicative] {
        let mut run = serial(&Config { solver, ..config(1) }, data(&rows, 5, true), 2);
        train(&mut run, 60);
        let (got, exact) = (metric(&run, "train_objective"), 0.5 * (square - singular) / 50.0);
        assert!((got / exact - 1.0).abs() < 1e-4, "{solver:?}: {got}, {exact}");
    }
}

#[test]
fn rows_that_are_sums_of_parts_are_explained() {
    let rows = parts(120, 40, 4, 0.0);
    let mut run = serial(&config(4), data(&rows, 6, false), 3);
    assert_eq!(metric(&run, "relative_error"), 1.0);
    train(&mut run, 400);
    assert!(metric(&run, "relative_error") < 0.02, "{}", metric(&run, "relative_error"));
}

#[test]
fn six_lanes_give_the_same_bits_on_any_number_of_workers() {
    let rows = parts(90, 20, 4, 0.4);
    for settings in variants() {
        let mut first = None;
        for workers in 1..=3 {
            let source = Source::new(data(&rows, 12, false), None);
            let mut run = dunlin::run::Run { workers, lanes: 6, ..crate::run("nmf", "rows").expect("known") };
            run.settings = serde_json::to_value(&settings).expect("a value");
            run.stop.epochs = 5;
            let outcome = crate::train(&Cluster::Threads(workers), &run, &source).expect("trained");
            assert!(outcome.metrics["relative_error"] < 1.0);
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{workers} workers");
        }
    }
}

#[test]
fn instruction_levels_and_layouts_agree() {
    // Widths on either side of panels and tiles.
    for (components, width, count) in [(1, 3, 9), (7, 20, 33), (35, 60, 70)] {
        let rows = parts(count, width, 5, 0.1);
        let objectives = [true, false].map(|dense| {
            let mut run = serial(&config(components), data(&rows, 2, dense), 1);
            train(&mut run, 5);
            metric(&run, "train_objective")
        });
        assert_eq!(objectives[0], objectives[1], "{components} x {width}");
    }
}

#[test]
fn a_component_without_use_becomes_a_row() {
    let mut rows = parts(40, 10, 2, 0.0);
    rows[3] = vec![0.0; 10];
    rows[3][9] = 50.0;
    for lanes in [1, 4] {
        let mut run = serial(&config(3), data(&rows, 4, true), lanes);
        for feature in 0..10 {
            run.params.table_mut::<f32>(COMPONENTS).row_mut(feature)[1] = 0.0;
        }
        run.algorithm.renew_gram(&mut run.params);
        train(&mut run, 1);
        assert_eq!(run.params.table::<f64>(STATE).row(0)[UNUSED], 1.0);
        train(&mut run, 1);
        let length = run.params.table::<f64>(GRAM).row(1)[1];
        assert!(length > 0.0, "{lanes} lanes: the component is a row now");
        let before = metric(&run, "train_objective");
        train(&mut run, 3);
        assert_eq!(run.params.table::<f64>(STATE).row(0)[UNUSED], 0.0);
        assert!(metric(&run, "train_objective") < before);
    }
}

#[test]
fn degenerate_rows_do_no_harm() {
    // A column of ones, a column of zeros, rows of zeros alone; and nothing but zeros.
    let mut rows = parts(40, 6, 2, 0.0);
    rows.iter_mut().for_each(|row| (row[1], row[4]) = (1.0, 0.0));
    rows[3].fill(0.0);
    rows[30].fill(0.0);
    for dense in [true, false] {
        for settings in variants().into_iter().filter(|settings| settings.components <= 6) {
            let mut run = serial(&settings, data(&rows, 4, dense), 2);
            train(&mut run, 20);
            assert!(metric(&run, "relative_error") < 0.7);
            let (weights, components) = factors(&run);
            assert!(weights.iter().chain(&components).flatten().all(|value| *value >= 0.0));
            assert!(components[4].iter().all(|value| *value < 1e-3), "an empty column has no part");
            let zeros = vec![vec![0.0; 6]; 10];
            let mut run = serial(&settings, data(&zeros, 2, dense), 1);
            train(&mut run, 3);
            assert_eq!((metric(&run, "train_objective"), metric(&run, "relative_error")), (0.0, 0.0));
        }
    }
}

#[test]
fn bad_settings_and_data_are_named() {
    let rows = parts(20, 4, 2, 0.1);
    let refuse = |settings: &Config, rows: &[Vec<f32>], what: &str| {
        for dense in [true, false] {
            let error = Serial::<Nmf>::new(settings, data(rows, 2, dense), 1, 1, SEED);
            let error = error.map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains(what), "{error}");
        }
    };
    refuse(&config(0), &rows, "components = 0; allowed: 1 to the smaller of 20 rows and 4 features");
    refuse(&config(5), &rows, "components = 5;");
    refuse(&config(3), &rows[..2], "components = 3; allowed: 1 to the smaller of 2 rows");
    refuse(&Config { inner: 0, ..config(2) }, &rows, "inner = 0; allowed: 1 to 100");
    refuse(&Config { l1: -1.0, ..config(2) }, &rows, "l1 = -1; allowed: finite, at least 0");
    refuse(&Config { l2: f64::NAN, ..config(2) }, &rows, "l2 = NaN;");
    for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-2.5, "-2.5")] {
        let mut rows = rows.clone();
        rows[17][2] = bad;
        refuse(
            &config(2),
            &rows,
            &format!("row 17, column 2 of 4 (from 0): value {word}; finite numbers of at least 0"),
        );
    }
    let huge: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value * 1e30).collect()).collect();
    let error = serial(&config(2), data(&huge, 2, true), 1).epoch().expect_err("too large").to_string();
    assert!(error.contains("no finite number"), "{error}");
    let mut run = Serial::<Nmf>::new(&config(2), data(&rows, 4, true), 1, 2, SEED).expect("valid");
    assert!(run.epoch().expect_err("two clocks").to_string().contains("--clocks-per-epoch"));
}

#[test]
fn predictions_are_the_best_weights() {
    let rows = parts(60, 12, 3, 0.3);
    let mut run = serial(&config(3), data(&rows, 2, true), 1);
    train(&mut run, 300);
    let (weights, components) = factors(&run);
    for dense in [true, false] {
        let data = data(&rows, 1, dense);
        let mut errors = 0.0;
        let mut out = |row: usize, found: &[f32]| {
            let found: Vec<f64> = found.iter().map(|value| f64::from(*value)).collect();
            let error = |weight: &[f64]| -> f64 {
                let rest = rows[row].iter().zip(&components);
                rest.map(|(value, part)| (f64::from(*value) - dot(weight, part)).powi(2)).sum()
            };
            assert!(error(&found) <= error(&weights[row]) * (1.0 + 1e-3) + 1e-4, "row {row}");
            errors += 0.5 * error(&found) / 60.0;
        };
        run.algorithm.predict(&data.blocks[0], &run.params, &mut out).expect("rows");
        let metrics = run.metrics(Some(&data));
        let (_, got) = metrics.iter().find(|(name, _)| *name == "test_objective").expect("known");
        assert!((got / errors - 1.0).abs() < 1e-4, "{got}, {errors}");
    }
}

#[test]
fn components_are_told_by_their_largest_features() {
    let mut run = serial(&config(1), data(&[vec![0.0, 2.0, 1.0], vec![0.0, 4.0, 2.0]], 1, true), 1);
    train(&mut run, 30);
    let names = Names { columns: ["wren", "knot", "rail"].map(String::from).to_vec(), ..Names::default() };
    let mut text = String::new();
    let shape = data(&[vec![0.0; 3]], 1, true).shape;
    run.algorithm.readable(&shape, &names, &run.params, &mut |name, content| {
        assert_eq!(name, "components.tsv");
        text = content;
    });
    let fields: Vec<&str> = text.lines().nth(1).expect("a component").split('\t').collect();
    assert!(fields.len() == 4 && fields[2].starts_with("knot:") && fields[3].starts_with("rail:"), "{text}");
}
