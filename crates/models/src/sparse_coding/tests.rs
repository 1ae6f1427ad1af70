//! Tests of sparse coding against slow loops and the conditions of optimality.

use super::*;
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::serial::{Serial, block_order, share};
use dunlin::train::Source;

const SEED: u64 = 5;

/// `count` rows of `width` columns, each a sum of two or three of `groups` random directions.
fn cloud(count: usize, width: usize, groups: usize) -> Vec<Vec<f32>> {
    let mut rng = stream(SEED, "test", &[count as u64, width as u64]);
    let atoms: Vec<Vec<f64>> = (0..groups).map(|_| (0..width).map(|_| rng.normal()).collect()).collect();
    let mut row = || -> Vec<f32> {
        let mut sum = vec![0.0; width];
        for _ in 0..2 + rng.below(2) {
            let (atom, weight) = (&atoms[rng.below(groups)], 1.0 + rng.unit());
            sum.iter_mut().zip(atom).for_each(|(sum, atom)| *sum += weight * atom);
        }
        sum.into_iter().map(|value| if value.abs() < 0.3 { 0.0 } else { value as f32 }).collect()
    };
    (0..count).map(|_| row()).collect()
}

fn data(rows: &[Vec<f32>], blocks: usize, dense: bool) -> Data {
    crate::testing::data(rows, blocks, dense, &[0])
}

fn config(atoms: usize) -> Config {
    Config { atoms, lambda: 0.5, batch: 0, tolerance: 1e-6, ..Config::default() }
}

fn serial(config: &Config, data: Data, lanes: usize, clocks: usize) -> Serial<SparseCoding> {
    Serial::new(config, data, lanes, clocks, SEED).expect("valid settings")
}

fn train(run: &mut Serial<SparseCoding>, epochs: usize) {
    (0..epochs).for_each(|_| run.epoch().expect("finite"));
}

fn metric(run: &Serial<SparseCoding>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

/// Atoms as rows.
fn atoms(run: &Serial<SparseCoding>) -> Vec<Vec<f64>> {
    let table = run.params.table::<f32>(ATOMS);
    let atom = |k: usize| (0..table.rows()).map(|feature| f64::from(table.row(feature)[k])).collect();
    (0..run.algorithm.config.atoms).map(atom).collect()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|value| f64::from(*value)).collect()
}

/// x − D a.
fn rest(row: &[f32], atoms: &[Vec<f64>], code: &[f64]) -> Vec<f64> {
    let mut rest = wide(row);
    for (atom, weight) in atoms.iter().zip(code) {
        rest.iter_mut().zip(atom).for_each(|(rest, atom)| *rest -= weight * atom);
    }
    rest
}

/// The lasso by plain coordinate descent on the residual.
fn slow_code(row: &[f32], atoms: &[Vec<f64>], lambda: f64) -> Vec<f64> {
    let mut code = vec![0.0; atoms.len()];
    for _ in 0..2000 {
        for (k, atom) in atoms.iter().enumerate() {
            let curvature = dot(atom, atom);
            if curvature > 0.0 {
                let target = dot(atom, &rest(row, atoms, &code)) + curvature * code[k];
                code[k] = (target.abs() - lambda).max(0.0).copysign(target) / curvature;
            }
        }
    }
    code
}

fn slow_objective(row: &[f32], atoms: &[Vec<f64>], code: &[f64], lambda: f64) -> f64 {
    let rest = rest(row, atoms, code);
    0.5 * dot(&rest, &rest) + lambda * code.iter().map(|value| value.abs()).sum::<f64>()
}

#[test]
fn codes_meet_the_conditions_of_the_lasso() {
    for (count, width, number) in [(40, 7, 20), (60, 33, 9)] {
        let rows = cloud(count, width, 6);
        let mut run = serial(&config(number), data(&rows, 4, true), 2, 1);
        train(&mut run, 3);
        let atoms = atoms(&run);
        assert!(atoms.iter().all(|atom| dot(atom, atom) < 1.0 + 1e-5), "atoms are in the ball");
        for dense in [true, false] {
            let data = data(&rows, 1, dense);
            let mut out = |row: usize, code: &[f32]| {
                assert!(
                    code.iter().all(|value| value.to_bits() != (-0.0f32).to_bits()),
                    "a zero has no sign"
                );
                let code = wide(code);
                let rest = rest(&rows[row], &atoms, &code);
                for (k, atom) in atoms.iter().enumerate() {
                    let slope = dot(atom, &rest);
                    let wanted =
                        if code[k] == 0.0 { slope.clamp(-0.5, 0.5) } else { 0.5f64.copysign(code[k]) };
                    assert!((slope - wanted).abs() < 2e-3, "row {row}, atom {k}: {slope} for {wanted}");
                }
            };
            run.algorithm.predict(&data.blocks[0], &run.params, &mut out).expect("rows");
        }
    }
}

#[test]
fn clocks_are_those_of_a_slow_loop_in_double_precision() {
    let rows = cloud(48, 9, 5);
    for (lanes, clocks, forgetting) in [(1, 1, 2.0), (1, 4, 1.0), (2, 2, 0.0)] {
        let settings = Config { forgetting, ..config(6) };
        let mut run = serial(&settings, data(&rows, 8, true), lanes, clocks);
        let mut dictionary = atoms(&run);
        for (atom, length) in dictionary.iter().map(|atom| (atom, dot(atom, atom))) {
            assert!((length - 1.0).abs() < 1e-5, "atoms start at rows of length 1: {atom:?}");
        }
        let (mut squares, mut totals) = (vec![vec![0.0; 6]; 6], vec![vec![0.0; 9]; 6]);
        let mut clock = 0.0;
        for epoch in 0..3 {
            for part in 0..clocks {
                for lane in 0..lanes {
                    let owned = share(8, lanes, lane);
                    let order = block_order(SEED, lane, epoch, owned.len());
                    for place in &order[share(owned.len(), clocks, part)] {
                        for row in &rows[share(48, 8, owned.start + place)] {
                            let code = slow_code(row, &dictionary, 0.5);
                            for k in 0..6 {
                                (0..6).for_each(|j| squares[k][j] += code[k] * code[j]);
                                (0..9).for_each(|at| totals[k][at] += code[k] * f64::from(row[at]));
                            }
                        }
                    }
                }
                for k in (0..6).filter(|k| squares[*k][*k] > 1e-9) {
                    let mut new = dictionary[k].clone();
                    for at in 0..9 {
                        let model: f64 = (0..6).map(|j| squares[k][j] * dictionary[j][at]).sum();
                        new[at] += (totals[k][at] - model) / squares[k][k];
                    }
                    let length = dot(&new, &new).sqrt().max(1.0);
                    dictionary[k] = new.into_iter().map(|value| value / length).collect();
                }
                clock += 1.0;
                let keep = f64::powf(1.0 - 1.0 / (clock + 1.0), forgetting);
                squares.iter_mut().chain(&mut totals).flatten().for_each(|value| *value *= keep);
            }
            train(&mut run, 1);
            for (atom, slow) in atoms(&run).iter().zip(&dictionary) {
                let gap: f64 = atom.iter().zip(slow).map(|(left, right)| (left - right).powi(2)).sum();
                assert!(gap < 1e-5, "{lanes} lanes, {clocks} clocks, epoch {epoch}: {gap}");
            }
            let codes = rows.iter().map(|row| slow_code(row, &dictionary, 0.5));
            let sum: f64 =
                rows.iter().zip(codes).map(|(row, code)| slow_objective(row, &dictionary, &code, 0.5)).sum();
            let got = metric(&run, "train_objective");
            assert!((48.0 * got / sum - 1.0).abs() < 1e-3, "{got} for {}", sum / 48.0);
        }
    }
}

/// With one atom, rows along one line, and all of them used with one sign, the atom is that line and the codes are
/// shrunk lengths.
#[test]
fn one_atom_finds_the_line() {
    let rows: Vec<Vec<f32>> = (1..=20).map(|at| vec![0.6 * at as f32, 0.0, 0.8 * at as f32]).collect();
    let mut run = serial(&config(1), data(&rows, 4, false), 2, 1);
    train(&mut run, 5);
    let atom = &atoms(&run)[0];
    assert!((atom[0] - 0.6).abs() < 1e-5 && (atom[2] - 0.8).abs() < 1e-5, "{atom:?}");
    // ½ λ² + λ (t − λ) for t = 1..20: mean λ · 10.5 − ½ λ²
    let exact = 0.5 * 10.5 - 0.125;
    let got = metric(&run, "train_objective");
    assert!((got / exact - 1.0).abs() < 1e-4, "{got}, {exact}");
    assert_eq!(metric(&run, "nonzeros"), 1.0);
}

#[test]
fn the_objective_falls() {
    let rows = cloud(200, 12, 8);
    let mut run = serial(&config(8), data(&rows, 10, true), 2, 5);
    let before = metric(&run, "train_objective");
    train(&mut run, 30);
    let after = metric(&run, "train_objective");
    assert!(after < 0.8 * before, "{after} after {before}");
    let used = metric(&run, "nonzeros");
    assert!(used > 1.0 && used < 6.0, "{used} non-zeros; rows are sums of two or three");
}

#[test]
fn six_lanes_give_the_same_bits_on_any_number_of_workers() {
    let rows = cloud(120, 15, 6);
    for settings in [config(10), Config { batch: 40, ..config(10) }] {
        let mut first = None;
        for workers in 1..=3 {
            let source = Source::new(data(&rows, 18, false), None);
            let mut run =
                dunlin::run::Run { workers, lanes: 6, ..crate::run("sparse-coding", "rows").expect("known") };
            run.settings = serde_json::to_value(&settings).expect("a value");
            run.stop.epochs = 3;
            let outcome = crate::train(&Cluster::Threads(workers), &run, &source).expect("trained");
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{workers} workers");
        }
    }
}

#[test]
fn an_atom_without_use_becomes_a_row() {
    let mut rows = cloud(40, 10, 3);
    rows.iter_mut().for_each(|row| row[9] = 0.0);
    rows[3] = vec![0.0; 10];
    rows[3][9] = 50.0;
    for lanes in [1, 4] {
        let mut run = serial(&config(3), data(&rows, 4, true), lanes, 1);
        for feature in 0..10 {
            run.params.table_mut::<f32>(ATOMS).row_mut(feature)[1] = 0.0;
        }
        run.algorithm.renew_gram(&mut run.params);
        let before = metric(&run, "train_objective");
        train(&mut run, 2);
        assert!((atoms(&run)[1][9] - 1.0).abs() < 1e-6, "{lanes} lanes: {:?}", atoms(&run)[1]);
        train(&mut run, 2);
        assert_eq!(run.params.table::<f64>(STATE).row(0)[UNUSED], 0.0);
        assert!(metric(&run, "train_objective") < 0.5 * before);
    }
}

#[test]
fn degenerate_rows_do_no_harm() {
    // A column of ones, a column of zeros, rows of zeros alone, equal rows; more atoms than features.
    let mut rows = cloud(40, 6, 2);
    rows.iter_mut().for_each(|row| (row[1], row[4]) = (1.0, 0.0));
    rows[3].fill(0.0);
    rows[30].fill(0.0);
    rows[7] = rows[8].clone();
    for dense in [true, false] {
        for lambda in [0.5, 1e9] {
            let mut run = serial(&Config { lambda, ..config(40) }, data(&rows, 4, dense), 2, 2);
            train(&mut run, 6);
            assert!(metric(&run, "train_objective").is_finite());
            assert_eq!(metric(&run, "nonzeros") == 0.0, lambda == 1e9);
            assert!(atoms(&run).iter().flatten().all(|value| value.is_finite()));
        }
        let zeros = vec![vec![0.0; 3]; 10];
        let mut run = serial(&config(2), data(&zeros, 2, dense), 1, 1);
        train(&mut run, 2);
        assert_eq!((metric(&run, "train_objective"), metric(&run, "nonzeros")), (0.0, 0.0));
    }
}

#[test]
fn bad_settings_and_data_are_named() {
    let rows = cloud(20, 4, 2);
    let refuse = |settings: &Config, rows: &[Vec<f32>], what: &str| {
        for dense in [true, false] {
            let error = Serial::<SparseCoding>::new(settings, data(rows, 2, dense), 1, 1, SEED);
            let error = error.map(|_| ()).expect_err("refused").to_string();
            assert!(error.contains(what), "{error}");
        }
    };
    refuse(&config(0), &rows, "atoms = 0; allowed: 1 to the number of rows, 20");
    refuse(&config(21), &rows, "atoms = 21;");
    refuse(&Config { lambda: 0.0, ..config(2) }, &rows, "lambda = 0; allowed: finite, above 0");
    refuse(&Config { forgetting: -1.0, ..config(2) }, &rows, "forgetting = -1;");
    refuse(&Config { tolerance: 1.0, ..config(2) }, &rows, "tolerance = 1; allowed: above 0, below 1");
    for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut rows = rows.clone();
        rows[17][2] = bad;
        refuse(&config(2), &rows, &format!("row 17, column 2 of 4 (from 0): value {word}; finite numbers"));
    }
    let huge: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value * 1e37).collect()).collect();
    let mut run = serial(&config(4), data(&huge, 2, true), 1, 1);
    let failed = (0..3).find_map(|_| run.epoch().err());
    assert!(failed.is_none_or(|error| error.to_string().contains("no finite numbers")));
}

#[test]
fn atoms_are_told_by_their_largest_features() {
    let run = serial(&config(1), data(&[vec![0.0, 2.0, -4.0]], 1, true), 1, 1);
    let names = Names { columns: ["wren", "knot", "rail"].map(String::from).to_vec(), ..Names::default() };
    let mut text = String::new();
    let shape = data(&[vec![0.0; 3]], 1, true).shape;
    run.algorithm.readable(&shape, &names, &run.params, &mut |name, content| {
        assert_eq!(name, "atoms.tsv");
        text = content;
    });
    assert_eq!(text, "atom\tlength\tlargest features\n0\t1.0000\trail:-0.8944\tknot:0.4472\n");
}
