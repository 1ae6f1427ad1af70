//! Tests of softmax regression against slow and independent ways to the same answers.

use super::dual::{Scratch, solve};
use super::kernel::{Any, Fixed};
use super::*;
use dunlin::Data;
use dunlin::data::{Contents, DenseRows, SparseRows};
use dunlin::rng::stream;
use dunlin::serial::{Serial, share};

/// The numbers of a linear congruential generator, as a Python script makes them too:
///
/// ```text
/// s = (s * 1103515245 + 12345) % 2**31; return (s >> 16) / 16384 - 1
/// ```
struct Draws(u64);
impl Draws {
    fn draw(&mut self) -> f32 {
        self.0 = (self.0 * 1_103_515_245 + 12345) % (1 << 31);
        (self.0 >> 16) as f32 / 16384.0 - 1.0
    }
}

/// Rows of numbers in [−1, 1), those below 1/2 in size set to 0, and labels that depend on them.
pub(crate) fn rows(count: usize, width: usize, classes: usize) -> (Vec<Vec<f32>>, Vec<u32>) {
    let mut draws = Draws(7);
    let mut rows: Vec<Vec<f32>> = (0..count).map(|_| (0..width).map(|_| draws.draw()).collect()).collect();
    rows.iter_mut().flatten().filter(|x| x.abs() < 0.5).for_each(|x| *x = 0.0);
    let share = width / classes;
    let label = |row: &Vec<f32>| {
        let scores: Vec<f32> =
            (0..classes).map(|k| row[k * share..][..share].iter().sum::<f32>() + draws.draw()).collect();
        (0..classes).fold(0, |best, k| if scores[k] > scores[best] { k } else { best }) as u32
    };
    let labels = rows.iter().map(label).collect();
    (rows, labels)
}

fn contents(rows: &[Vec<f32>], labels: &[u32], dense: bool) -> Contents {
    if dense {
        let width = rows[0].len();
        let (values, classes) = (rows.concat(), labels.to_vec());
        return Contents::Dense(DenseRows { width, values, classes, ..DenseRows::default() });
    }
    let mut sparse = SparseRows { offsets: vec![0], classes: labels.to_vec(), ..SparseRows::default() };
    for row in rows {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            sparse.columns.push(column as u32);
            sparse.values.push(*value);
        }
        sparse.offsets.push(sparse.columns.len() as u32);
    }
    Contents::Sparse(sparse)
}

pub(crate) fn data(rows: &[Vec<f32>], labels: &[u32], classes: usize, blocks: usize, dense: bool) -> Data {
    let blocks = (0..blocks).map(|id| {
        let range = share(labels.len(), blocks, id);
        let contents = contents(&rows[range.clone()], &labels[range.clone()], dense);
        Block { id: id as u32, first_row: range.start, end_row: range.end, contents }
    });
    let shape = Shape {
        kind: Kind::Labelled,
        rows: labels.len(),
        columns: rows[0].len(),
        entries: rows.concat().len(),
        samples: labels.len(),
        classes: (0..classes as i64).collect(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Data { shape, names: Default::default(), blocks: blocks.collect() }
}

fn golden(blocks: usize, dense: bool) -> Data {
    let (rows, labels) = rows(200, 20, 5);
    data(&rows, &labels, 5, blocks, dense)
}

fn serial(config: Config, data: Data, lanes: usize) -> Serial<Softmax> {
    Serial::new(&config, data, lanes, 1, 3).expect("valid settings")
}

fn metric(run: &Serial<Softmax>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

fn train(run: &mut Serial<Softmax>, epochs: usize) {
    (0..epochs).for_each(|_| run.epoch().expect("no divergence"));
}

fn weights(run: &Serial<Softmax>) -> Vec<f32> {
    run.params.table::<f32>(WEIGHTS).flat().to_vec()
}

/// Σ_i C (e_{y_i} − p_i) x_iᵀ over all blocks, in double precision: (features, stride).
fn combination(run: &Serial<Softmax>) -> Vec<f64> {
    let stride = run.params.table::<f32>(WEIGHTS).stride();
    let features = run.params.table::<f32>(WEIGHTS).rows();
    let mut sums = vec![0.0f64; features * stride];
    for (block, duals) in run.blocks().iter().zip(&run.locals) {
        let (mut rows, labels) = Rows::new(block).expect("labelled");
        for (row, label) in labels.iter().enumerate() {
            let (columns, values) = rows.row(row);
            for k in 0..run.algorithm.classes {
                let own = f64::from(u8::from(k == *label as usize));
                let push = run.algorithm.config.c * (own - f64::from(duals.probabilities[row * stride + k]));
                for (column, value) in columns.iter().zip(values) {
                    sums[*column as usize * stride + k] += push * f64::from(*value);
                }
                if let Some(bias) = run.algorithm.bias() {
                    sums[bias * stride + k] += push;
                }
            }
        }
    }
    sums
}

/// The dual subproblem by bisection on μ and on each ln p, in double precision.
fn slow_solve(scores: &[f32], old: &[f32], a: f64) -> Vec<f64> {
    let target: Vec<f64> = scores.iter().zip(old).map(|(z, p)| f64::from(*z) + a * f64::from(*p)).collect();
    let all = |mu: f64| -> Vec<f64> {
        let one = |t: &f64| {
            let (mut low, mut high) = (-2000.0f64, 20.0f64);
            for _ in 0..200 {
                let middle = 0.5 * (low + high);
                if middle + a * middle.exp() < t - mu { low = middle } else { high = middle }
            }
            low.exp()
        };
        target.iter().map(one).collect()
    };
    let top = target.iter().fold(f64::MIN, |top, t| top.max(*t));
    let (mut low, mut high) = (top - a - 1000.0, top + 1000.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if all(middle).iter().sum::<f64>() > 1.0 { low = middle } else { high = middle }
    }
    all(low)
}

fn padded(values: &[f32], stride: usize) -> Vec<f32> {
    let mut padded = values.to_vec();
    padded.resize(stride, 0.0);
    padded
}

#[test]
fn the_dual_step_maximises_its_subproblem() {
    let seed = 11;
    let mut rng = stream(seed, "test", &[]);
    for case in 0..300 {
        let classes = 2 + rng.below(12);
        let a = 10f64.powf(rng.unit() * 10.0 - 4.0) as f32;
        let spread = 10f64.powf(rng.unit() * 3.0 - 1.0);
        let scores: Vec<f32> = (0..classes).map(|_| (spread * rng.normal()) as f32).collect();
        let peak = 1.0 + 8.0 * rng.unit() * f64::from(case % 2);
        let mut old: Vec<f32> = (0..classes).map(|_| (1e-6 + rng.unit().powf(peak * peak)) as f32).collect();
        if case % 3 == 0 {
            old.fill(0.0);
            old[rng.below(classes)] = 1.0;
        }
        let total: f32 = old.iter().sum();
        old.iter_mut().for_each(|p| *p /= total);
        let stride = classes.next_multiple_of(8);
        let (mut z, mut new) = (padded(&scores, stride), vec![0.0; stride]);
        let mut scratch = Scratch::new(Any(stride));
        assert!(solve(&mut z, &padded(&old, stride), a, classes, &mut new, &mut scratch));
        let exact = slow_solve(&scores, &old, f64::from(a));
        let value = |p: &dyn Fn(usize) -> f64| -> f64 {
            let one = |k: usize| {
                let (p, z, old) = (p(k), f64::from(scores[k]), f64::from(old[k]));
                z * p - p * p.max(1e-300).ln() - 0.5 * f64::from(a) * (p - old) * (p - old)
            };
            (0..classes).map(one).sum()
        };
        // Classes that hardly matter may be off by their own probability.
        let (got, best, start) =
            (value(&|k| f64::from(new[k])), value(&|k| exact[k]), value(&|k| f64::from(old[k])));
        assert!(best - got < 1e-4 + 1e-4 * (best - start), "seed {seed} case {case} a {a}: {got} for {best}");
        for k in 0..classes {
            let error = (f64::from(new[k]) - exact[k]).abs();
            assert!(error < 1e-4, "seed {seed} case {case} a {a} class {k}: {} for {}", new[k], exact[k]);
        }
        assert!(new[classes..].iter().all(|p| *p == 0.0), "padding stays zero");
    }
}

/// Objectives of the golden set without bias at C = 1, .1, 10, and with a column of ones at C = 1, by
///
/// ```text
/// X = array of 200 x 20 draws (see Draws, s = 7), |x| < .5 set to 0; y = argmax_k(x[4k:4k+4].sum() + draw())
/// LogisticRegression(C=C, fit_intercept=False, max_iter=10000, tol=1e-10).fit(X, y)   # scikit-learn 1.9.1
/// ```
const OPTIMA: [(f64, bool, f64); 4] = [
    (1.0, false, 152.515_961_796_828),
    (0.1, false, 23.636_499_180_722),
    (10.0, false, 1_165.788_813_514_009),
    (1.0, true, 151.538_992_408_121),
];

#[test]
fn both_solvers_reach_the_optimum_of_an_independent_implementation() {
    for (c, bias, optimum) in OPTIMA {
        for solver in [Solver::Dual, Solver::Lbfgs] {
            let mut run =
                serial(Config { c, bias, solver, tolerance: 1e-6, ..Config::default() }, golden(2, false), 1);
            train(&mut run, 400);
            let (primal, dual) = (metric(&run, "train_objective"), metric(&run, "dual_objective"));
            assert!((primal / optimum - 1.0).abs() < 2e-6, "{solver:?} C {c}: {primal} for {optimum}");
            assert!(
                dual < primal * (1.0 + 1e-6) && dual > optimum * (1.0 - 1e-4),
                "{solver:?} C {c}: dual {dual} for {optimum}"
            );
            assert!(run.algorithm.converged(&[("relative_gap", 1e-6)]));
        }
    }
}

#[test]
fn weights_are_the_combination_of_the_duals_and_the_gap_closes_on_any_number_of_lanes() {
    for lanes in [1, 2, 4] {
        let config = Config { bias: true, tolerance: 1e-6, ..Config::default() };
        let mut run = serial(config, golden(8, false), lanes);
        let mut last = -1e-3;
        for epoch in 0..200 {
            train(&mut run, 1);
            let exact = combination(&run);
            let far = weights(&run)
                .iter()
                .zip(&exact)
                .fold(0.0f64, |far, (w, e)| far.max((f64::from(*w) - e).abs()));
            assert!(far < 2e-5, "{lanes} lanes, epoch {epoch}: off by {far}");
            let dual = metric(&run, "dual_objective");
            assert!(dual >= last - 1e-4, "{lanes} lanes, epoch {epoch}: dual fell from {last} to {dual}");
            last = dual;
        }
        let gap = metric(&run, "relative_gap");
        assert!(gap.abs() < 1e-5, "{lanes} lanes: gap {gap}");
    }
}

#[test]
fn one_lane_is_a_plain_serial_loop() {
    let mut run = serial(Config::default(), golden(3, false), 1);
    train(&mut run, 3);
    let (features, classes, stride) = (20, 5, 8);
    let mut w = vec![[0.0f32; 8]; features];
    let blocks = golden(3, false).blocks;
    let mut duals: Vec<Vec<[f32; 8]>> = blocks
        .iter()
        .map(|block| {
            let (_, labels) = Rows::new(block).expect("labelled");
            labels
                .iter()
                .map(|label| std::array::from_fn(|k| f32::from(u8::from(k == *label as usize))))
                .collect()
        })
        .collect();
    for epoch in 0..3 {
        for at in dunlin::serial::block_order(3, 0, epoch as usize, blocks.len()) {
            let (block, duals) = (&blocks[at], &mut duals[at]);
            let mut order: Vec<u32> = (0..duals.len() as u32).collect();
            stream(3, "softmax order", &[u64::from(block.id), epoch]).shuffle(&mut order);
            let (mut rows, _) = Rows::new(block).expect("labelled");
            for row in order {
                let (columns, values) = rows.row(row as usize);
                let square: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
                let mut halves = [[0.0f32; 8]; 2];
                for (at, (column, value)) in columns.iter().zip(values).enumerate() {
                    (0..stride).for_each(|k| {
                        halves[at % 2][k] = value.mul_add(w[*column as usize][k], halves[at % 2][k]);
                    });
                }
                let mut scores: Vec<f32> = (0..stride).map(|k| halves[0][k] + halves[1][k]).collect();
                let old = duals[row as usize];
                let (mut new, mut scratch) = ([0.0; 8], Scratch::new(Fixed::<8>));
                solve(&mut scores, &old, square as f32, classes, &mut new, &mut scratch);
                if (0..stride).all(|k| old[k] == new[k]) {
                    continue;
                }
                for (column, value) in columns.iter().zip(values) {
                    let w = &mut w[*column as usize];
                    (0..stride).for_each(|k| w[k] = value.mul_add(old[k] - new[k], w[k]));
                }
                duals[row as usize] = new;
            }
        }
    }
    assert_eq!(w.concat(), weights(&run));
}

#[test]
fn instruction_levels_and_layouts_give_the_same_bits() {
    for (classes, solver) in
        [(2, Solver::Dual), (5, Solver::Dual), (5, Solver::Lbfgs), (20, Solver::Dual), (40, Solver::Dual)]
    {
        let (rows, labels) = rows(120, 40, classes);
        let result = |isa: Isa, dense: bool| {
            let config = Config { solver, bias: true, ..Config::default() };
            let mut run = serial(config, data(&rows, &labels, classes, 2, dense), 2);
            run.algorithm.isa = isa;
            train(&mut run, 4);
            (weights(&run), metric(&run, "train_objective"))
        };
        let first = result(Isa::Portable, false);
        assert!(first.1.is_finite() && first.0.iter().any(|w| *w != 0.0));
        for isa in [Isa::Avx2, Isa::Avx512] {
            assert_eq!(first, result(isa, false), "{isa:?}, {classes} classes, {solver:?}");
            assert_eq!(first, result(isa, true), "{isa:?}, {classes} classes, {solver:?}, dense");
        }
    }
}

#[test]
fn lbfgs_gradient_agrees_with_finite_differences() {
    let config = Config { c: 0.7, bias: true, solver: Solver::Lbfgs, ..Config::default() };
    let run = serial(config, golden(1, false), 1);
    let (model, mut params) = (run.algorithm, run.params);
    let unit = Unit {
        block: &golden(1, false).blocks[0],
        epoch: 0,
        clock: 0,
        lane: 0,
        lanes: 1,
        row_block: 0,
        visit: 0,
        visits: 1,
        seed: 3,
    };
    let mut rng = stream(5, "test", &[]);
    let stride = params.table::<f32>(WEIGHTS).stride();
    let mut table = params.table_mut::<f32>(WEIGHTS);
    (0..21).for_each(|row| table.row_mut(row).iter_mut().for_each(|w| *w = (0.3 * rng.normal()) as f32));
    let mut sums = Sums::default();
    lbfgs::evaluate(&model, &unit, &mut params, &mut sums).expect("finite");
    let gradient = params.table::<f32>(1).flat().to_vec();
    let loss = |params: &mut Params, row: usize, k: usize, change: f32| {
        let saved = params.table::<f32>(WEIGHTS).row(row)[k];
        params.table_mut::<f32>(WEIGHTS).row_mut(row)[k] = saved + change;
        let mut sums = Sums::default();
        model.measure(unit.block, params, None, &mut sums);
        params.table_mut::<f32>(WEIGHTS).row_mut(row)[k] = saved;
        0.7 * sums.get("loss")
    };
    for row in [0, 3, 19, 20] {
        for k in 0..5 {
            let slope = (loss(&mut params, row, k, 0.01) - loss(&mut params, row, k, -0.01)) / 0.02;
            let error = (slope - f64::from(gradient[row * stride + k])).abs();
            assert!(error < 2e-3, "row {row} class {k}: {} for {slope}", gradient[row * stride + k]);
        }
    }
}

#[test]
fn lbfgs_on_lanes_reaches_the_same_optimum_and_refuses_other_clocks() {
    let config = Config { solver: Solver::Lbfgs, ..Config::default() };
    let mut run = serial(config.clone(), golden(4, false), 3);
    train(&mut run, 60);
    assert!((metric(&run, "train_objective") / OPTIMA[0].2 - 1.0).abs() < 1e-5);
    let mut run = Serial::<Softmax>::new(&config, golden(4, false), 1, 2, 3).expect("valid");
    let error = run.epoch().expect_err("two clocks per epoch").to_string();
    assert!(error.contains("one clock per epoch"), "{error}");
}

#[test]
fn degenerate_rows_do_no_harm() {
    // Rows without entries, two equal columns, and blocks of one class each.
    let (mut rows, mut labels) = rows(60, 20, 5);
    rows[3].fill(0.0);
    rows[40].fill(0.0);
    rows.iter_mut().for_each(|row| row[1] = row[0]);
    let mut order: Vec<usize> = (0..60).collect();
    order.sort_by_key(|row| labels[*row]);
    rows = order.iter().map(|row| rows[*row].clone()).collect();
    labels = order.iter().map(|row| labels[*row]).collect();
    for solver in [Solver::Dual, Solver::Lbfgs] {
        for c in [1e-6, 1.0, 1e6] {
            let config = Config { c, solver, ..Config::default() };
            let mut run = serial(config, data(&rows, &labels, 5, 6, false), 1);
            train(&mut run, 20);
            assert!(weights(&run).iter().all(|w| w.is_finite()), "{solver:?} C {c}");
            let stride = run.params.table::<f32>(WEIGHTS).stride();
            assert_eq!(
                weights(&run)[..stride],
                weights(&run)[stride..2 * stride],
                "equal columns, equal weights"
            );
        }
    }
}

#[test]
fn huge_values_are_reported_and_no_number_comes_out() {
    for (solver, huge) in [(Solver::Dual, 1e30), (Solver::Lbfgs, 3e38)] {
        let (mut rows, labels) = rows(20, 20, 5);
        rows.iter_mut().flatten().for_each(|x| *x *= huge);
        let mut run = serial(Config { solver, ..Config::default() }, data(&rows, &labels, 5, 1, false), 1);
        let error = (0..10).find_map(|_| run.epoch().err()).expect("scores overflow").to_string();
        assert!(error.contains("lower `c`"), "{error}");
    }
}

#[test]
fn bad_settings_and_data_are_named() {
    let shape = golden(1, false).shape;
    let refuse = |config: Config, what: &str| {
        let error = Softmax::new(&config, &shape).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    refuse(Config { c: 0.0, ..Config::default() }, "c = 0;");
    refuse(Config { c: f64::NAN, ..Config::default() }, "c = NaN;");
    refuse(Config { tolerance: 1.0, ..Config::default() }, "tolerance = 1;");
    refuse(Config { history: 101, ..Config::default() }, "history = 101;");
    assert!(Softmax::new(&Config { c: 1e9, history: 100, ..Config::default() }, &shape).is_ok());
    let one = Shape { classes: vec![4], ..shape };
    assert!(Softmax::new(&Config::default(), &one).expect_err("one class").to_string().contains("[4]"));
    let mut wrong = golden(1, false);
    wrong.shape.columns = 19;
    let error = Serial::<Softmax>::new(&Config::default(), wrong, 1, 1, 1).expect_err("a column too many");
    assert!(error.to_string().contains("column 19 of 19"), "{error}");
}

#[test]
fn predictions_are_distributions_and_test_measures_count() {
    let mut run = serial(Config::default(), golden(2, false), 1);
    train(&mut run, 20);
    let mut test = golden(1, true);
    let Contents::Dense(rows) = &mut test.blocks[0].contents else { panic!("dense") };
    let labels = rows.classes.clone();
    rows.classes[0] = dunlin::data::UNKNOWN;
    let (mut correct, mut loss) = (0.0, 0.0);
    let mut out = |row: usize, p: &[f32]| {
        assert_eq!(p.len(), 5);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let best = (0..5).fold(0, |best, k| if p[k] > p[best] { k } else { best });
        correct += f64::from(u8::from(row > 0 && best == labels[row] as usize));
        loss -= if row > 0 { f64::from(p[labels[row] as usize]).ln() } else { 0.0 };
    };
    run.algorithm.predict(&test.blocks[0], &run.params, &mut out).expect("labelled");
    let metrics = run.metrics(Some(&test));
    let metric = |name: &str| metrics.iter().find(|(found, _)| *found == name).expect("known").1;
    assert_eq!(metric("test_accuracy"), correct / 200.0);
    assert!((metric("test_log_loss") - loss / 199.0).abs() < 1e-5);
    assert!(metric("test_accuracy") > 0.6);
    // Of classes that are all unknown there is no loss; of no rows, nothing at all.
    let test_names = |test: &Data| {
        let metrics = run.metrics(Some(test)).into_iter();
        metrics.map(|(name, _)| name).filter(|name| name.starts_with("test")).collect::<Vec<_>>()
    };
    let Contents::Dense(rows) = &mut test.blocks[0].contents else { panic!("dense") };
    rows.classes.fill(dunlin::data::UNKNOWN);
    assert_eq!(test_names(&test), ["test_accuracy"]);
    test.blocks.clear();
    assert_eq!(test_names(&test), [""; 0]);
}
