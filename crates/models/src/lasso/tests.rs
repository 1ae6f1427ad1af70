//! Tests of the Lasso against plain coordinate descent in double precision, known optima, and itself under other cuts.

use super::problem::Penalty;
use super::*;
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::data::{DenseRows, Layout, SparseRows, read};
use dunlin::rng::stream;
use dunlin::serial::{Serial, share};
use dunlin::train::Source;
use std::path::Path;

const SEED: u64 = 11;

/// `count` rows of `width` columns around means far from zero, most values zero if `filled` is low, and targets.
fn rows(count: usize, width: usize, filled: f64) -> (Vec<Vec<f32>>, Vec<f32>) {
    let mut rng = stream(SEED, "lasso test", &[count as u64, width as u64]);
    let mut table = vec![vec![0.0f32; width]; count];
    for row in &mut table {
        let mut value = 0.0;
        for (column, place) in row.iter_mut().enumerate() {
            value = 0.6 * value + 0.8 * rng.normal();
            if rng.unit() < filled {
                *place = ((1.0 + column as f64 % 3.0) * (value + (column % 5) as f64)) as f32;
            }
        }
    }
    let weights: Vec<f64> = (0..width).map(|at| if at % 7 == 0 { rng.normal() } else { 0.0 }).collect();
    let clean = |row: &Vec<f32>| row.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
    let targets = table.iter().map(|row| (3.0 + clean(row) + 0.5 * rng.normal()) as f32).collect();
    (table, targets)
}

fn contents(rows: &[Vec<f32>], targets: &[f32], dense: bool) -> Contents {
    let (classes, targets) = (vec![0; rows.len()], targets.to_vec());
    if dense {
        return Contents::Dense(DenseRows { width: rows[0].len(), values: rows.concat(), classes, targets });
    }
    let mut sparse = SparseRows { offsets: vec![0], classes, targets, ..SparseRows::default() };
    for row in rows {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            sparse.columns.push(column as u32);
            sparse.values.push(*value);
        }
        sparse.offsets.push(sparse.columns.len() as u32);
    }
    Contents::Sparse(sparse)
}

fn data(rows: &[Vec<f32>], targets: &[f32], blocks: usize, dense: bool) -> Data {
    let blocks = (0..blocks).map(|id| {
        let range = share(rows.len(), blocks, id);
        let contents = contents(&rows[range.clone()], targets.get(range.clone()).unwrap_or_default(), dense);
        Block { id: id as u32, first_row: range.start, end_row: range.end, contents }
    });
    let shape = Shape {
        kind: Kind::Labelled,
        rows: rows.len(),
        columns: rows[0].len(),
        entries: rows.len() * rows[0].len(),
        samples: rows.len(),
        classes: Vec::new(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Data { shape, names: Default::default(), blocks: blocks.collect() }
}

fn trained(config: &Config, data: Data, lanes: usize, epochs: usize) -> Serial<Lasso> {
    let mut run = Serial::<Lasso>::new(config, data, lanes, 1, SEED).expect("valid");
    for _ in 0..epochs {
        if run.algorithm.converged(&run.metrics(None)) {
            break;
        }
        run.epoch().expect("solved");
    }
    run
}

fn metric(run: &Serial<Lasso>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

fn coefficients(run: &Serial<Lasso>) -> Vec<f64> {
    run.params.table::<f64>(COEFFICIENTS).flat().to_vec()
}

/// The problem in double precision, column after column, and the slow way to its optimum.
struct Slow {
    columns: Vec<Vec<f64>>,
    factors: Vec<f64>,
    target: Vec<f64>,
}

impl Slow {
    fn new(config: &Config, rows: &[Vec<f32>], targets: &[f32]) -> Slow {
        let count = rows.len() as f64;
        let centred = |values: Vec<f64>| -> Vec<f64> {
            let mean = if config.intercept { values.iter().sum::<f64>() / count } else { 0.0 };
            values.iter().map(|value| value - mean).collect()
        };
        let mut factors = Vec::new();
        let mut column = |at: usize| {
            let values = centred(rows.iter().map(|row| f64::from(row[at])).collect());
            let deviation = (values.iter().map(|v| v * v).sum::<f64>() / count).sqrt();
            let factor = if deviation < 1e-9 {
                0.0
            } else if config.standardise {
                1.0 / deviation
            } else {
                1.0
            };
            factors.push(factor);
            values.iter().map(|value| value * factor).collect()
        };
        let columns = (0..rows[0].len()).map(&mut column).collect();
        Slow { columns, factors, target: centred(targets.iter().map(|target| f64::from(*target)).collect()) }
    }

    fn correlation(&self, column: usize, residual: &[f64]) -> f64 {
        let product: f64 = self.columns[column].iter().zip(residual).map(|(x, r)| x * r).sum();
        product / self.target.len() as f64
    }

    fn most(&self) -> f64 {
        (0..self.columns.len()).map(|at| self.correlation(at, &self.target).abs()).fold(0.0, f64::max)
    }

    fn residual(&self, weights: &[f64]) -> Vec<f64> {
        let row = |at: usize| {
            self.target[at] - self.columns.iter().zip(weights).map(|(x, w)| x[at] * w).sum::<f64>()
        };
        (0..self.target.len()).map(row).collect()
    }

    fn objective(&self, penalty: Penalty, weights: &[f64]) -> f64 {
        let square: f64 = self.residual(weights).iter().map(|r| r * r).sum();
        square / (2.0 * self.target.len() as f64) + weights.iter().map(|w| penalty.of(*w)).sum::<f64>()
    }

    fn optimum(&self, penalty: Penalty) -> f64 {
        let mut weights = vec![0.0; self.columns.len()];
        let mut residual = self.target.clone();
        for _ in 0..20_000 {
            let mut moved = 0.0f64;
            for (at, weight) in weights.iter_mut().enumerate() {
                let square = self.columns[at].iter().map(|x| x * x).sum::<f64>() / self.target.len() as f64;
                let new = penalty.best(self.correlation(at, &residual) + square * *weight, square);
                let step = new - *weight;
                if step != 0.0 {
                    residual.iter_mut().zip(&self.columns[at]).for_each(|(r, x)| *r -= step * x);
                    moved = moved.max(step.abs() * square.sqrt());
                    *weight = new;
                }
            }
            if moved < 1e-12 {
                break;
            }
        }
        self.objective(penalty, &weights)
    }
}

/// All kinds of penalties, layouts and cuts reach what the slow loop reaches.
#[test]
fn the_optimum_is_that_of_plain_coordinate_descent() {
    let settings = [
        Config { lambda_fraction: 0.05, ..Config::default() },
        Config { lambda_fraction: 0.01, standardise: true, ..Config::default() },
        Config { lambda_fraction: 0.1, standardise: true, intercept: false, ..Config::default() },
        Config { lambda_fraction: 0.02, l1_ratio: 0.5, ..Config::default() },
        Config { lambda: Some(0.3), l1_ratio: 0.9, intercept: false, ..Config::default() },
    ];
    for (count, width, filled) in [(60, 25, 1.0), (40, 90, 1.0), (120, 70, 0.15)] {
        let (rows, targets) = rows(count, width, filled);
        for config in &settings {
            let slow = Slow::new(config, &rows, &targets);
            let lambda = config.lambda.unwrap_or(config.lambda_fraction * slow.most() / config.l1_ratio);
            let penalty = Penalty::new(lambda, config.l1_ratio);
            let best = slow.optimum(penalty);
            for (lanes, dense) in [(1, true), (1, false), (3, true), (3, false)] {
                let what = format!("{count} x {width}, {lanes} lanes, dense {dense}, {config:?}");
                let run = trained(config, data(&rows, &targets, lanes, dense), lanes, 100);
                let scaled: Vec<f64> = coefficients(&run)
                    .iter()
                    .zip(&slow.factors)
                    .map(|(w, factor)| if *factor == 0.0 { 0.0 } else { w / factor })
                    .collect();
                let reached = slow.objective(penalty, &scaled);
                assert!(metric(&run, "relative_gap") <= 1e-6, "{what}: {}", metric(&run, "relative_gap"));
                assert!(reached <= best * (1.0 + 2e-6), "{what}: {reached} for {best}");
                let told = metric(&run, "train_objective");
                assert!((told / reached - 1.0).abs() < 1e-6, "{what}: told {told}, is {reached}");
            }
        }
    }
}

#[test]
fn a_path_is_what_single_runs_give() {
    let (rows, targets) = rows(50, 80, 1.0);
    let config = Config { path: 12, lambda_fraction: 0.02, standardise: true, ..Config::default() };
    let slow = Slow::new(&config, &rows, &targets);
    for lanes in [1, 3] {
        let run = trained(&config, data(&rows, &targets, lanes, true), lanes, 500);
        assert!(metric(&run, "relative_gap") <= 1e-6);
        let path = run.params.table::<f64>(PATH);
        assert!((path.row(0)[0] / slow.most() - 1.0).abs() < 1e-6 && path.row(0)[1] == 0.0);
        for row in (0..12).map(|row| path.row(row)) {
            let best = slow.optimum(Penalty::new(row[0], 1.0));
            assert!(row[2] <= best * (1.0 + 2e-6) && row[2] >= best * (1.0 - 1e-6), "{row:?}: {best}");
        }
        assert!((path.row(11)[0] / (0.02 * slow.most()) - 1.0).abs() < 1e-6);
        let mut files = Vec::new();
        let names = Names { columns: (0..80).map(|at| format!("gene{at}")).collect(), ..Names::default() };
        let shape = data(&rows, &targets, 1, true).shape;
        run.algorithm
            .readable(&shape, &names, &run.params, &mut |name, text| files.push((name.to_string(), text)));
        assert!(
            files[0].1.starts_with("feature\tcoefficient\n(intercept)\t") && files[0].1.contains("\ngene")
        );
        assert_eq!((files[1].0.as_str(), files[1].1.lines().count()), ("path.tsv", 13));
    }
}

#[test]
fn three_lanes_give_the_same_bits_on_any_number_of_workers() {
    let (rows, targets) = rows(90, 120, 0.5);
    for (config, dense) in [
        (Config { lambda_fraction: 0.01, standardise: true, cut: Cut::Rows, ..Config::default() }, true),
        (
            Config { lambda_fraction: 0.05, path: 4, l1_ratio: 0.8, cut: Cut::Rows, ..Config::default() },
            false,
        ),
    ] {
        let mut first = None;
        for workers in 1..=3 {
            let source = Source::new(data(&rows, &targets, 3, dense), None);
            let mut run =
                dunlin::run::Run { workers, lanes: 3, ..crate::run("lasso", "rows").expect("known") };
            run.settings = serde_json::to_value(&config).expect("a value");
            run.stop.epochs = 100;
            let outcome = crate::train(&Cluster::Threads(workers), &run, &source).expect("trained");
            assert!(outcome.metrics["relative_gap"] <= 1e-6);
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{workers} workers");
        }
        // The plain meaning of lanes has the same bits (its data are mixed as a run's are).
        let mixed = dunlin::data::mix(data(&rows, &targets, 3, dense));
        let plain = trained(&config, mixed, 3, 100);
        assert_eq!(metric(&plain, "relative_gap"), first.expect("trained")["relative_gap"]);
    }
}

#[test]
fn a_run_goes_on_from_a_checkpoint_to_the_same_bits() {
    let (rows, targets) = rows(60, 100, 1.0);
    let config = Config { lambda_fraction: 0.01, path: 5, cut: Cut::Rows, ..Config::default() };
    let folder = std::env::temp_dir().join(format!("dunlin-lasso-{}", std::process::id()));
    for workers in [1, 2] {
        std::fs::create_dir_all(&folder).expect("a folder");
        let train = |epochs: usize, workers: usize, out: bool, resume: bool| {
            let source = Source::new(data(&rows, &targets, 2, true), None);
            let run = crate::run("lasso", "rows").expect("known");
            let mut run = dunlin::run::Run { workers, lanes: 2, resume, ..run };
            run.out = out.then(|| folder.clone());
            run.settings = serde_json::to_value(&config).expect("a value");
            (run.stop.epochs, run.checkpoint.epochs) = (epochs, if out { 1 } else { 0 });
            crate::train(&Cluster::Threads(workers), &run, &source).expect("trained")
        };
        let whole = train(60, 2, false, false);
        let early = train(7, 2, true, false);
        assert!(early.metrics["relative_gap"] > whole.metrics["relative_gap"]);
        let resumed = train(60, workers, true, true);
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(whole.metrics, resumed.metrics, "{workers} workers");
        assert!(whole.metrics["relative_gap"] <= 1e-6);
    }
}

/// Constant and repeated columns, rows of zeros, targets all alike, a great λ, one row.
#[test]
fn degenerate_data_do_no_harm() {
    let (mut table, targets) = rows(30, 12, 1.0);
    for row in &mut table {
        (row[4], row[5]) = (0.0, row[7]);
        row[8] = -2.0 * row[7];
    }
    (table[3], table[20]) = (vec![0.0; 12], vec![0.0; 12]);
    let settings = [
        Config { lambda_fraction: 0.001, ..Config::default() },
        Config { lambda_fraction: 0.001, standardise: true, l1_ratio: 0.7, ..Config::default() },
        Config { lambda_fraction: 0.01, standardise: true, intercept: false, path: 3, ..Config::default() },
    ];
    for (config, dense, lanes) in settings.iter().flat_map(|c| [(c, true, 1), (c, false, 1), (c, true, 2)]) {
        let run = trained(config, data(&table, &targets, lanes, dense), lanes, 100);
        assert!(metric(&run, "relative_gap") <= 1e-6, "{config:?}: {}", metric(&run, "relative_gap"));
        assert_eq!(coefficients(&run)[4], 0.0);
        let mut constant = table.clone();
        constant.iter_mut().for_each(|row| row[2] = 7.1);
        let run = trained(config, data(&constant, &targets, lanes, dense), lanes, 100);
        assert!(metric(&run, "relative_gap") <= 1e-6 && (coefficients(&run)[2] == 0.0 || !config.intercept));
        let same = vec![2.5; 30];
        let run = trained(
            &Config { intercept: true, ..config.clone() },
            data(&table, &same, lanes, dense),
            lanes,
            9,
        );
        assert_eq!((metric(&run, "nonzeros"), metric(&run, "relative_gap")), (0.0, 0.0));
        assert_eq!(run.params.table::<f64>(INTERCEPT).row(0)[0], 2.5);
        let run = trained(
            &Config { lambda: Some(1e6), ..config.clone() },
            data(&table, &targets, lanes, dense),
            lanes,
            20,
        );
        assert_eq!(metric(&run, "nonzeros"), 0.0);
        assert!(metric(&run, "relative_gap") <= 1e-6 && metric(&run, "train_objective").is_finite());
        let run = trained(config, data(&table[..1], &targets[..1], 1, dense), 1, 9);
        assert!(metric(&run, "train_objective").is_finite() && metric(&run, "relative_gap") <= 1e-6);
    }
}

#[test]
fn bad_settings_and_data_are_refused_in_words() {
    let (rows, targets) = rows(10, 3, 1.0);
    let default = Config::default;
    for (config, expected) in [
        (Config { lambda: Some(0.0), ..default() }, "lambda = 0; allowed: above 0 (without a penalty"),
        (Config { lambda: Some(f64::NAN), ..default() }, "lambda = NaN; allowed"),
        (Config { lambda_fraction: 1.5, ..default() }, "lambda_fraction = 1.5; allowed: above 0, at most 1"),
        (Config { path: 0, ..default() }, "path = 0; allowed: 1 to 10000"),
        (Config { l1_ratio: 0.0, ..default() }, "l1_ratio = 0; allowed: above 0, at most 1"),
        (Config { tolerance: 0.0, ..default() }, "tolerance = 0; allowed: 1e-12 to 1"),
    ] {
        let error = Lasso::new(&config, &data(&rows, &targets, 1, true).shape).expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let refused = |data: Data, lanes: usize, expected: &str| {
        let error = Serial::<Lasso>::new(&default(), data, lanes, 1, SEED).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(data(&rows, &[], 1, true), 1, "rows 0..10 have no targets");
    refused(data(&rows, &targets, 4, true), 2, "4 blocks for 2 lanes");
    let mut bad = targets.clone();
    bad[4] = f32::NAN;
    refused(data(&rows, &bad, 2, true), 2, "row 4: target NaN");
    let mut bad = rows.clone();
    bad[6][1] = f32::INFINITY;
    refused(data(&bad, &targets, 1, true), 1, "row 6, column 1 of 3 (from 0): value inf");
}

/// The reference values of the data's README.
#[test]
fn real_data_reach_their_known_optima() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = folder.is_dir().then_some(folder);
    let folder = folder.or_else(|| {
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data");
        above.is_dir().then_some(above)
    });
    let Some(folder) = folder else {
        eprintln!("SKIPPED real_data_reach_their_known_optima: ../shared/data is not there");
        return;
    };
    let known = [
        (
            "riboflavin/riboflavin.svm.gz",
            0.796305249,
            [(0.5, 0.387389999, 4.0), (0.1, 0.171323579, 16.0), (0.05, 0.115915568, 20.0)],
        ),
        (
            "wheat/wheat.svm.gz",
            0.106084938,
            [(0.5, 0.485687966, 17.0), (0.1, 0.325562240, 169.0), (0.05, 0.241080093, 274.0)],
        ),
    ];
    for (file, most, optima) in known {
        for (fraction, objective, nonzeros) in optima {
            for (lanes, layout) in [(1, Layout::Auto), (1, Layout::Sparse), (2, Layout::Auto)] {
                let options = ReadOptions { targets: true, blocks: lanes, layout, ..ReadOptions::default() };
                let data = read(&folder.join(file).to_string_lossy(), &options, None).expect("read");
                let config = Config { lambda_fraction: fraction, tolerance: 1e-8, ..Config::default() };
                let run = trained(&config, data, lanes, 60);
                let what = format!("{file}, {fraction}, {lanes} lanes, {layout:?}");
                let lambda = run.params.table::<f64>(PATH).row(0)[0];
                assert!((lambda / (fraction * most) - 1.0).abs() < 1e-6, "{what}: λ {lambda}");
                let told = metric(&run, "train_objective");
                assert!((told / objective - 1.0).abs() < 2e-7, "{what}: {told} for {objective}");
                assert_eq!(metric(&run, "nonzeros"), nonzeros, "{what}");
            }
        }
    }
}
