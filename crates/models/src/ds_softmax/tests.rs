//! Tests of doubly separable softmax regression against softmax regression.

use super::*;
use crate::softmax::Softmax;
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::data::{Contents, DenseRows, SparseRows};
use dunlin::event::Event;
use dunlin::run::Run;
use dunlin::serial::{Serial, share};
use dunlin::train::Source;
use std::sync::Mutex;

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
fn rows(count: usize, width: usize, classes: usize) -> (Vec<Vec<f32>>, Vec<u32>) {
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
        return Contents::Dense(DenseRows {
            width,
            values: rows.concat(),
            classes: labels.to_vec(),
            targets: Vec::new(),
        });
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

fn data(rows: &[Vec<f32>], labels: &[u32], classes: usize, blocks: usize, dense: bool) -> Data {
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

/// Rows of five classes of six, one of them without an example, and some rows without entries.
fn small(blocks: usize, dense: bool) -> Data {
    let (mut values, labels) = rows(240, 20, 5);
    values.iter_mut().step_by(40).for_each(|row| row.fill(0.0));
    data(&values, &labels, 6, blocks, dense)
}

/// The optimum by L-BFGS on all data at once.
fn optimum(c: f64) -> f64 {
    let solver = crate::softmax::Solver::Lbfgs;
    let config = crate::softmax::Config { c, solver, tolerance: 1e-6, ..Default::default() };
    let mut run = Serial::<Softmax>::new(&config, small(1, false), 1, 1, 3).expect("valid settings");
    (0..80).for_each(|_| run.epoch().expect("finite"));
    run.metrics(None).into_iter().find(|(name, _)| *name == "train_objective").expect("told").1
}

fn outcome(config: &Config, lanes: usize, workers: usize, epochs: usize) -> dunlin::event::Outcome {
    let mut run = Run { workers, lanes, ..crate::run("ds-softmax", "rows").expect("known") };
    run.settings = serde_json::to_value(config).expect("a value");
    run.stop.epochs = epochs;
    let source = Source::new(small(lanes, false), Some(small(lanes, true)));
    crate::train(&Cluster::Threads(workers), &run, &source).expect("trained")
}

#[test]
fn any_number_of_lanes_reaches_the_optimum_of_softmax() {
    let best = optimum(0.2);
    // Four lanes: eight blocks of six classes, two of them empty.
    for lanes in [1, 2, 4, 8] {
        let config = Config { c: 0.2, tolerance: 1e-4, ..Config::default() };
        let outcome = outcome(&config, lanes, 1, 200);
        let (found, gap) = (outcome.metrics["train_objective"], outcome.metrics["relative_gap"]);
        assert!(gap <= 1e-4, "{lanes} lanes: gap {gap}");
        let excess = found / best - 1.0;
        assert!((-1e-5..2e-4).contains(&excess), "{lanes} lanes: {found} for {best}");
    }
}

/// Random rows of `classes` classes.
fn many(classes: usize, blocks: usize) -> Data {
    let (values, labels) = rows(160, 40, classes);
    data(&values, &labels, classes, blocks, false)
}

#[test]
fn the_bound_never_passes_the_optimum_and_no_run_diverges() {
    for (classes, lanes, c) in [1, 2, 4, 8]
        .into_iter()
        .flat_map(|lanes| [6, 20].map(|classes| (classes, lanes)))
        .flat_map(|(classes, lanes)| [0.01, 1.0, 100.0].map(|c| (classes, lanes, c)))
    {
        let place = format!("{classes} classes, {lanes} lanes, C = {c}");
        let config = Config { c, tolerance: 1e-5, passes: 1 + lanes % 3, ..Config::default() };
        let mut run = Run { lanes, ..crate::run("ds-softmax", "rows").expect("known") };
        run.settings = serde_json::to_value(&config).expect("a value");
        run.stop.epochs = 30;
        let told = laps(&run, many(classes, lanes));
        let least = told.iter().fold(f64::INFINITY, |least, (primal, _)| least.min(*primal));
        for (lap, (primal, dual)) in told.iter().enumerate() {
            let rounding = 1e-6 * primal.abs();
            assert!(*dual <= least + rounding, "{place}: dual {dual} above primal {least}");
            if lanes == 1 && lap > 0 {
                let before = told[lap - 1].1;
                assert!(*dual >= before - rounding, "{place}: {before} fell to {dual}");
            }
        }
        // Stiff problems (C = 100) close their gap in far more laps than these; none runs away.
        let [first, last] = [told[0].0, told[told.len() - 1].0];
        assert!(last <= first * (1.0 + 1e-4), "{place}: {told:?}");
    }
}

/// Notes objective and dual objective, lap by lap.
struct Notes<'a>(&'a Mutex<Vec<(f64, f64)>>);

impl dunlin::train::Observer for Notes<'_> {
    fn event(&mut self, event: &Event) {
        if let Event::Evaluated { metrics, .. } = event {
            let mut notes = self.0.lock().expect("no thread has panicked");
            notes.push((metrics["train_objective"], metrics["dual_objective"]));
        }
    }
}

fn laps(run: &Run, data: Data) -> Vec<(f64, f64)> {
    let (source, notes) = (Source::new(data, None), Mutex::new(Vec::new()));
    let train = crate::find("ds-softmax").expect("a model").train;
    let outcome = Cluster::Threads(1).run_closure(|comm| Ok(train(run, &source, comm, &mut Notes(&notes))?));
    outcome.expect("trained");
    notes.into_inner().expect("no thread has panicked")
}

#[test]
fn a_run_goes_on_from_a_checkpoint_to_the_same_bits() {
    let out = std::env::temp_dir().join(format!("dunlin-ds-softmax-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&out);
    let config = Config { tolerance: 1e-9, ..Config::default() };
    let whole = outcome(&config, 4, 1, 7).metrics;
    let checkpoint = dunlin::run::CheckpointPolicy { epochs: 1, seconds: None };
    let mut run =
        Run { workers: 2, lanes: 4, checkpoint, ..crate::run("ds-softmax", "rows").expect("known") };
    run.out = Some(out.clone());
    run.settings = serde_json::to_value(&config).expect("a value");
    let train = |run: &Run| {
        let source = Source::new(small(4, false), Some(small(4, true)));
        crate::train(&Cluster::Threads(run.workers), run, &source).expect("trained")
    };
    run.stop.epochs = 3;
    train(&run);
    run.stop.epochs = 7;
    assert_eq!(train(&Run { resume: true, workers: 3, ..run.clone() }).metrics, whole);
    std::fs::remove_dir_all(&out).expect("removed");
}

#[test]
fn rows_may_wander() {
    let best = optimum(0.2);
    let strategy = "rotation:async".parse().expect("a strategy");
    let config = Config { c: 0.2, tolerance: 1e-4, ..Config::default() };
    let mut run = Run { lanes: 2, workers: 2, strategy, ..crate::run("ds-softmax", "rows").expect("known") };
    run.settings = serde_json::to_value(&config).expect("a value");
    run.stop.epochs = 200;
    let outcome =
        crate::train(&Cluster::Threads(2), &run, &Source::new(small(2, false), None)).expect("trained");
    let found = outcome.metrics["train_objective"];
    assert!((-1e-5..2e-4).contains(&(found / best - 1.0)), "{found} for {best}");
}

#[test]
fn four_lanes_give_the_same_bits_on_any_number_of_workers() {
    for solver in [Solver::Dual, Solver::Stochastic] {
        let config = Config { solver, bias: true, tolerance: 1e-9, ..Config::default() };
        let first = outcome(&config, 4, 1, 5).metrics;
        assert!(first["train_objective"].is_finite());
        for workers in 2..=3 {
            assert_eq!(first, outcome(&config, 4, workers, 5).metrics, "{workers} workers, {solver:?}");
        }
    }
}

#[test]
fn with_one_lane_the_weights_are_those_of_the_duals() {
    let config = Config { c: 0.5, tolerance: 1e-6, ..Config::default() };
    for dense in [false, true] {
        let mut run = Serial::<DsSoftmax>::new(&config, small(1, dense), 1, 1, 3).expect("valid settings");
        (0..6).for_each(|_| run.epoch().expect("finite"));
        let (mut entries, labels) = Rows::new(&run.blocks()[0]).expect("labelled");
        let part = &run.locals[0].parts[0];
        let mut sums = vec![0.0f64; 6 * 20];
        for (row, label) in labels.iter().enumerate() {
            let duals = &part.duals[row * 6..][..6];
            assert!((duals.iter().sum::<f32>() - 1.0).abs() < 1e-3, "row {row}: {duals:?}");
            let (columns, values) = entries.row(row);
            for (class, dual) in duals.iter().enumerate() {
                let push = f64::from(u8::from(class == *label as usize)) - f64::from(*dual);
                for (column, value) in columns.iter().zip(values) {
                    sums[class * 20 + *column as usize] += 0.5 * push * f64::from(*value);
                }
            }
        }
        let weights = run.params.table::<f32>(WEIGHTS);
        for (at, sum) in sums.iter().enumerate() {
            let weight = f64::from(weights.row(at / 20)[at % 20]);
            assert!((weight - sum).abs() < 1e-3, "{at}: {weight} for {sum}");
        }
    }
}

#[test]
fn the_stochastic_solver_falls_towards_the_optimum() {
    let best = optimum(1.0);
    for lanes in [1, 3] {
        let config = Config { solver: Solver::Stochastic, rate: 0.1, ..Config::default() };
        let early = outcome(&config, lanes, 1, 2).metrics["train_objective"];
        let late = outcome(&config, lanes, 1, 40).metrics["train_objective"];
        assert!(late < early && late < 1.1 * best, "{lanes} lanes: {early}, {late} for {best}");
    }
}

#[test]
fn one_class_and_bad_settings_are_refused() {
    let shape = small(1, false).shape;
    let one = Shape { classes: vec![7], ..shape.clone() };
    let refused =
        |config: Config, shape: &Shape| DsSoftmax::new(&config, shape).expect_err("refused").to_string();
    assert!(refused(Config::default(), &one).contains("at least two classes"));
    assert!(refused(Config { c: 0.0, ..Config::default() }, &shape).contains("c = 0"));
    assert!(refused(Config { tolerance: 1.0, ..Config::default() }, &shape).contains("tolerance = 1"));
    assert!(refused(Config { passes: 0, ..Config::default() }, &shape).contains("passes = 0"));
    assert!(refused(Config { rate: f64::NAN, ..Config::default() }, &shape).contains("rate = NaN"));
    let far = Config { solver: Solver::Stochastic, c: 1e-6, ..Config::default() };
    assert!(refused(far, &shape).contains("overshoots"));
}

#[test]
fn a_class_that_never_occurs_and_is_never_predicted_has_f1_of_one() {
    let mut sums = Sums::default();
    ["hits", "wrong", "missed"].into_iter().for_each(|name| sums.add_at(name, 0, 1.0));
    assert_eq!(seen::macro_f1(&sums, 2), 0.75);
}

#[test]
fn a_test_of_nothing_tells_nothing() {
    let mut run = Serial::<DsSoftmax>::new(&Config::default(), small(1, false), 1, 1, 3).expect("valid");
    run.epoch().expect("finite");
    let mut test = small(1, true);
    let names = |test: &Data| {
        let names = run.metrics(Some(test)).into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with("test") || name.ends_with("f1")).collect::<Vec<_>>()
    };
    assert_eq!(names(&test), ["test_accuracy", "test_log_loss", "micro_f1", "macro_f1"]);
    let Contents::Dense(rows) = &mut test.blocks[0].contents else { panic!("dense") };
    rows.classes.fill(dunlin::data::UNKNOWN);
    assert_eq!(names(&test), ["test_accuracy", "micro_f1", "macro_f1"]);
    test.blocks.clear();
    assert_eq!(names(&test), [""; 0]);
}

#[test]
fn lanes_refuse_a_c_that_their_masses_cannot_follow() {
    let mut run = Run { workers: 1, lanes: 3, ..crate::run("ds-softmax", "rows").expect("known") };
    run.settings = serde_json::json!({ "c": 1e8 });
    run.stop.epochs = 3;
    let told = crate::train(&Cluster::Threads(1), &run, &Source::new(small(3, false), None));
    let text = told.expect_err("refused").to_string();
    assert!(text.contains("lower `c`") && text.contains("--lanes 1"), "{text}");
}
