//! Tests of k-means against slow and independent ways to the same answers.

use super::*;
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::rng::stream;
use dunlin::serial::{Serial, block_order, share};
use dunlin::train::Source;

const SEED: u64 = 5;

/// `count` rows in `width` columns around `groups` points, a third of the values 0.
fn cloud(count: usize, width: usize, groups: usize) -> Vec<Vec<f32>> {
    let mut rng = stream(SEED, "test", &[count as u64, width as u64]);
    let points: Vec<Vec<f64>> =
        (0..groups).map(|_| (0..width).map(|_| 4.0 * rng.normal()).collect()).collect();
    let mut row = |at: usize| -> Vec<f32> {
        let values = points[at % groups].iter().map(|centre| (centre + rng.normal()) as f32);
        values.collect::<Vec<_>>().into_iter().map(|v| if rng.below(3) == 0 { 0.0 } else { v }).collect()
    };
    (0..count).map(&mut row).collect()
}

fn data(rows: &[Vec<f32>], blocks: usize, dense: bool) -> Data {
    crate::testing::data(rows, blocks, dense, &[0, 1])
}

fn config(clusters: usize) -> Config {
    Config { clusters, ..Config::default() }
}

fn serial(config: Config, data: Data, lanes: usize) -> Serial<Kmeans> {
    Serial::new(&config, data, lanes, 1, SEED).expect("valid settings")
}

fn metric(run: &Serial<Kmeans>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("a known metric").1
}

fn train(run: &mut Serial<Kmeans>, epochs: usize) {
    (0..epochs).for_each(|_| run.epoch().expect("finite"));
}

fn centres(run: &Serial<Kmeans>) -> Vec<Vec<f32>> {
    (0..run.algorithm.config.clusters).map(|k| Kmeans::centre(&run.params, k)).collect()
}

fn sizes(run: &Serial<Kmeans>) -> Vec<f64> {
    run.params.table::<f64>(SIZES).row(0).to_vec()
}

fn square(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Nearest of `centres` in double precision, and the squared distance.
fn slow_nearest(row: &[f32], centres: &[Vec<f32>]) -> (usize, f64) {
    let far: Vec<f64> = centres.iter().map(|centre| square(row, centre)).collect();
    let best = (0..far.len()).fold(0, |best, k| if far[k] < far[best] { k } else { best });
    (best, far[best])
}

fn slow_objective(rows: &[Vec<f32>], centres: &[Vec<f32>]) -> f64 {
    rows.iter().map(|row| slow_nearest(row, centres).1).sum::<f64>() / rows.len() as f64
}

/// One iteration of Lloyd in double precision.
fn slow_lloyd(rows: &[Vec<f32>], centres: &mut [Vec<f32>]) {
    let width = rows[0].len();
    let mut totals = vec![vec![0.0f64; width + 1]; centres.len()];
    for row in rows {
        let total = &mut totals[slow_nearest(row, centres).0];
        row.iter().zip(total.iter_mut()).for_each(|(value, total)| *total += f64::from(*value));
        total[width] += 1.0;
    }
    for (centre, total) in centres.iter_mut().zip(&totals).filter(|(_, total)| total[width] > 0.0) {
        centre.iter_mut().zip(total).for_each(|(centre, sum)| *centre = (sum / total[width]) as f32);
    }
}

#[test]
fn iterations_are_those_of_a_slow_loop_in_double_precision() {
    let rows = cloud(300, 11, 4);
    for (lanes, start) in [(1, Start::Plusplus), (3, Start::Random)] {
        let mut run = serial(Config { start, ..config(5) }, data(&rows, 6, true), lanes);
        let mut slow = centres(&run);
        assert!(slow.iter().all(|centre| rows.contains(centre)), "centres start at rows");
        for iteration in 0..8 {
            train(&mut run, 1);
            slow_lloyd(&rows, &mut slow);
            for (centre, slow) in centres(&run).iter().zip(&slow) {
                assert!(square(centre, slow) < 1e-10, "{lanes} lanes, iteration {iteration}");
            }
            let (got, exact) = (metric(&run, "train_objective"), slow_objective(&rows, &slow));
            assert!((got / exact - 1.0).abs() < 1e-5, "{lanes} lanes, iteration {iteration}: {got}, {exact}");
        }
    }
}

/// Points on a line whose best three clusters a person can find.
#[test]
fn a_line_has_its_known_optimum() {
    let rows: Vec<Vec<f32>> = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 50.0, 54.0].map(|x| vec![x]).to_vec();
    let mut run = serial(config(3), data(&rows, 2, true), 1);
    train(&mut run, 10);
    let mut found: Vec<f32> = centres(&run).concat();
    found.sort_by(f32::total_cmp);
    assert_eq!(found, [1.0, 11.0, 52.0]);
    // (1 + 0 + 1 + 1 + 0 + 1 + 4 + 4) / 8
    assert!((metric(&run, "train_objective") - 1.5).abs() < 1e-3);
    assert_eq!(metric(&run, "moved"), 0.0);
    assert!(run.algorithm.converged(&run.metrics(None)));
}

#[test]
fn one_lane_is_a_plain_serial_loop() {
    let rows = cloud(90, 7, 3);
    let mut run = serial(config(4), data(&rows, 3, true), 1);
    let mut plain = centres(&run);
    train(&mut run, 3);
    for epoch in 0..3 {
        let halves: Vec<f32> = plain
            .iter()
            .map(|centre| {
                let mut sums = [0.0f32; 4];
                centre.iter().enumerate().for_each(|(at, c)| sums[at % 4] += c * c);
                0.5 * ((sums[0] + sums[1]) + (sums[2] + sums[3]))
            })
            .collect();
        let mut totals = vec![[0.0f64; 8]; 4];
        for block in block_order(SEED, 0, epoch, 3) {
            for row in &rows[share(90, 3, block)] {
                let score = |k: usize| {
                    halves[k] - row.iter().zip(&plain[k]).fold(0.0f32, |sum, (x, c)| x.mul_add(*c, sum))
                };
                let best = (0..4).fold(0, |best, k| if score(k) < score(best) { k } else { best });
                (0..7).for_each(|at| totals[best][at] += f64::from(row[at]));
                totals[best][7] += 1.0;
            }
        }
        for (centre, total) in plain.iter_mut().zip(&totals) {
            centre.iter_mut().zip(total).for_each(|(centre, sum)| *centre = (sum / total[7]) as f32);
        }
    }
    assert_eq!(plain, centres(&run));
}

#[test]
fn instruction_levels_and_layouts_give_the_same_bits() {
    // Widths and numbers of centres on either side of tiles, panels and groups of rows.
    for (clusters, width, count) in [(1, 3, 9), (5, 16, 50), (17, 90, 101), (100, 130, 220), (140, 20, 199)] {
        let rows = cloud(count, width, 6);
        let table = data(&vec![vec![0.0; width]; 200], 1, true).shape;
        let model = Kmeans::new(&config(clusters), &table).expect("valid");
        let mut params = Params {
            replicas: model
                .tables()
                .into_iter()
                .map(|spec| dunlin::table::Replica::new(spec, false))
                .collect(),
            lanes: 1,
        };
        let mut rng = stream(SEED, "centres", &[]);
        for feature in 0..width {
            let mut centres = params.table_mut::<f32>(CENTRES);
            centres.row_mut(feature).iter_mut().for_each(|c| *c = (3.0 * rng.normal()) as f32);
        }
        let sizes: Vec<f64> = (0..clusters).map(|k| if k % 7 == 3 { 0.0 } else { 1.0 }).collect();
        let [dense, sparse] = [true, false].map(|dense| data(&rows, 1, dense));
        let ready = Centres::new(params.table(CENTRES), &sizes);
        let find = |level: Isa, data: &Data| nearest(level, Rows::of(&data.blocks[0]).expect("rows"), &ready);
        let first = find(Isa::Portable, &dense);
        let all: Vec<Vec<f32>> = (0..clusters).map(|k| Kmeans::centre(&params, k)).collect();
        for (row, found) in rows.iter().zip(&first) {
            let far = square(row, &all[found.cluster as usize]);
            let open = (0..clusters).filter(|k| sizes[*k] > 0.0);
            let best = open.map(|k| square(row, &all[k])).fold(f64::INFINITY, f64::min);
            assert!(sizes[found.cluster as usize] > 0.0, "an empty cluster takes no rows");
            assert!(far <= best * (1.0 + 1e-5) + 1e-4, "{clusters} x {width}: {far} for {best}");
        }
        for level in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            assert_eq!(first, find(level, &dense), "{level:?}, {clusters} x {width}, dense");
            assert_eq!(first, find(level, &sparse), "{level:?}, {clusters} x {width}, sparse");
        }
    }
}

#[test]
fn six_lanes_give_the_same_bits_on_any_number_of_workers() {
    let rows = cloud(240, 9, 5);
    for settings in [config(7), Config { batch: 120, ..config(7) }] {
        let mut first = None;
        for workers in 1..=3 {
            let source = Source::new(data(&rows, 12, true), None);
            let mut run =
                dunlin::run::Run { workers, lanes: 6, ..crate::run("kmeans", "rows").expect("known") };
            run.settings = serde_json::to_value(&settings).expect("a value");
            run.stop.epochs = 4;
            let outcome = crate::train(&Cluster::Threads(workers), &run, &source).expect("trained");
            assert!(outcome.metrics["train_objective"].is_finite());
            let first = first.get_or_insert(outcome.metrics.clone());
            assert_eq!(*first, outcome.metrics, "{workers} workers");
        }
        // The plain loop has the same bits too (its data are mixed as a run's are).
        let clocks = if settings.batch == 0 { 1 } else { 2 };
        let mixed = dunlin::data::mix(data(&rows, 12, true));
        let mut run = Serial::<Kmeans>::new(&settings, mixed, 6, clocks, 1).expect("valid");
        (0..4).for_each(|_| run.epoch().expect("finite"));
        let (plain, wanted) = (metric(&run, "train_objective"), first.expect("trained")["train_objective"]);
        assert!((plain / wanted - 1.0).abs() < 1e-9, "{plain} and {wanted}");
    }
}

#[test]
fn the_start_draws_rows_by_squared_distance() {
    // One row at 0 in each of two blocks, rows at 1 and 3: after a start at 0, they are drawn as 1 to 9.
    let rows: Vec<Vec<f32>> = [0.0, 1.0, 0.0, 3.0].map(|x| vec![x]).to_vec();
    let (mut zeros, mut threes) = (0, 0);
    for seed in 0..2000 {
        let run = Serial::<Kmeans>::new(&config(2), data(&rows, 2, true), 1, 1, seed).expect("valid");
        let found = centres(&run).concat();
        assert_ne!(found[0], found[1], "seed {seed}");
        if found[0] == 0.0 {
            zeros += 1;
            threes += usize::from(found[1] == 3.0);
        }
        let lanes = Serial::<Kmeans>::new(&config(2), data(&rows, 2, true), 2, 1, seed).expect("valid");
        assert_eq!(found, centres(&lanes).concat(), "lanes do not change the draw");
    }
    let share = threes as f64 / zeros as f64;
    assert!((900..1100).contains(&zeros), "{zeros} of 2000 start at 0");
    assert!((share - 0.9).abs() < 0.04, "{threes} of {zeros}");
}

#[test]
fn an_empty_cluster_becomes_the_farthest_row() {
    let mut rows: Vec<Vec<f32>> = (0..20).map(|at| vec![(at % 4) as f32 * 0.1, 1.0]).collect();
    rows[13] = vec![50.0, 1.0];
    for (lanes, dense) in [(1, true), (1, false), (4, true)] {
        let mut run = serial(config(2), data(&rows, 4, dense), lanes);
        // Two centres in one place: the first takes all rows.
        for feature in 0..2 {
            run.params.table_mut::<f32>(CENTRES).row_mut(feature).fill(1.0);
        }
        train(&mut run, 1);
        assert_eq!(sizes(&run), [20.0, 0.0]);
        assert!(!run.algorithm.converged(&run.metrics(None)));
        train(&mut run, 1);
        assert!(!run.algorithm.converged(&run.metrics(None)), "a row is on its way");
        train(&mut run, 1);
        assert_eq!(
            (sizes(&run), centres(&run)[1].clone()),
            (vec![19.0, 1.0], rows[13].clone()),
            "{lanes} lanes"
        );
        train(&mut run, 1);
        assert!(run.algorithm.converged(&run.metrics(None)));
    }
}

#[test]
fn more_clusters_than_different_rows_are_refused_or_left_empty() {
    let rows: Vec<Vec<f32>> = (0..12).map(|at| vec![(at % 3) as f32, 0.0, 2.0]).collect();
    for lanes in [1, 2] {
        let error =
            Serial::<Kmeans>::new(&config(5), data(&rows, 4, true), lanes, 1, SEED).expect_err("refused");
        assert!(error.to_string().contains("clusters = 5, but the training data have only 3"), "{error}");
        let mut run = serial(config(3), data(&rows, 4, true), lanes);
        train(&mut run, 3);
        assert_eq!(sizes(&run), [4.0; 3]);
        assert!(metric(&run, "train_objective") < 1e-6);
        let mut run = serial(Config { start: Start::Random, ..config(8) }, data(&rows, 4, true), lanes);
        train(&mut run, 12);
        assert!(metric(&run, "train_objective") < 1e-6 && metric(&run, "moved") == 0.0);
        assert_eq!(sizes(&run).iter().filter(|size| **size > 0.0).count(), 3);
    }
}

#[test]
fn degenerate_rows_do_no_harm() {
    // A column of ones, a column of zeros, rows of zeros alone.
    let mut rows = cloud(40, 6, 2);
    rows.iter_mut().for_each(|row| (row[1], row[4]) = (1.0, 0.0));
    rows[3].fill(0.0);
    rows[30].fill(0.0);
    for dense in [true, false] {
        let mut run = serial(config(1), data(&rows, 4, dense), 2);
        train(&mut run, 2);
        for (feature, centre) in centres(&run)[0].iter().enumerate() {
            let mean = rows.iter().map(|row| f64::from(row[feature])).sum::<f64>() / 40.0;
            assert!((f64::from(*centre) - mean).abs() < 1e-6, "one cluster is the mean");
        }
        let zeros = vec![vec![0.0; 3]; 10];
        let mut run = serial(config(1), data(&zeros, 2, dense), 1);
        train(&mut run, 2);
        assert_eq!((metric(&run, "train_objective"), metric(&run, "moved")), (0.0, 0.0));
    }
}

#[test]
fn mini_batches_are_running_means() {
    let rows = cloud(64, 5, 2);
    let mut run = Serial::<Kmeans>::new(&Config { batch: 16, ..config(2) }, data(&rows, 8, true), 1, 4, SEED)
        .expect("valid");
    assert_eq!(run.algorithm.clocks_per_epoch(&[], 1), 4);
    let mut plain = centres(&run);
    let mut counts = [1.0f64; 2];
    train(&mut run, 2);
    for epoch in 0..2 {
        let order = block_order(SEED, 0, epoch, 8);
        for part in 0..4 {
            let batch = order[share(8, 4, part)].iter().flat_map(|block| &rows[share(64, 8, *block)]);
            let taken: Vec<(usize, &Vec<f32>)> =
                batch.map(|row| (slow_nearest(row, &plain).0, row)).collect();
            for (k, row) in taken {
                counts[k] += 1.0;
                let rate = 1.0 / counts[k];
                let step = |c: f32, x: f32| (f64::from(c) + rate * (f64::from(x) - f64::from(c))) as f32;
                plain[k] = plain[k].iter().zip(row).map(|(c, x)| step(*c, *x)).collect();
            }
        }
    }
    assert_eq!(sizes(&run), counts);
    for (centre, plain) in centres(&run).iter().zip(&plain) {
        assert!(square(centre, plain) < 1e-9);
    }
    assert!(!run.algorithm.converged(&[("moved", 0.0)]), "batches never say that they are done");
}

#[test]
fn mostly_zero_dense_rows_are_kept_as_sparse_ones() {
    let mut rows = cloud(30, 8, 2);
    rows.iter_mut().for_each(|row| row[2..].fill(0.0));
    let results = [true, false].map(|dense| {
        let mut run = serial(config(3), data(&rows, 3, dense), 1);
        assert!(run.blocks().iter().all(|block| !block.contents.is_dense()));
        train(&mut run, 3);
        (centres(&run), metric(&run, "train_objective"))
    });
    assert_eq!(results[0], results[1]);
}

#[test]
fn bad_settings_and_data_are_named() {
    let rows = cloud(20, 4, 2);
    let refuse = |clusters: usize, rows: &[Vec<f32>], what: &str| {
        for dense in [true, false] {
            let error = Serial::<Kmeans>::new(&config(clusters), data(rows, 2, dense), 1, 1, SEED);
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(what), "{error}");
        }
    };
    refuse(0, &rows, "clusters = 0; allowed: 1 to the number of rows, 20");
    refuse(21, &rows, "clusters = 21;");
    for (bad, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut rows = rows.clone();
        rows[17][2] = bad;
        refuse(2, &rows, &format!("row 17, column 2 of 4 (from 0): value {word}"));
    }
    let mut wrong = data(&rows, 1, false);
    wrong.shape.columns = 3;
    let error = Serial::<Kmeans>::new(&config(2), wrong, 1, 1, SEED).expect_err("a column too many");
    assert!(error.to_string().contains("column 3 of 3"), "{error}");
    let mut run = Serial::<Kmeans>::new(&config(2), data(&rows, 4, true), 1, 2, SEED).expect("valid");
    let error = run.epoch().expect_err("two clocks an epoch").to_string();
    assert!(error.contains("--clocks-per-epoch"), "{error}");
    let huge: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value * 1e30).collect()).collect();
    let error = serial(config(2), data(&huge, 2, true), 1).epoch().expect_err("too large").to_string();
    assert!(error.contains("no finite numbers"), "{error}");
}

#[test]
fn predictions_are_the_nearest_cluster_and_its_distance() {
    let rows = cloud(60, 6, 3);
    let mut run = serial(config(3), data(&rows, 2, true), 1);
    train(&mut run, 5);
    let (test, all) = (cloud(25, 6, 3), centres(&run));
    for dense in [true, false] {
        let data = data(&test, 1, dense);
        let mut seen = 0;
        let mut out = |row: usize, values: &[f32]| {
            let (cluster, distance) = slow_nearest(&test[row], &all);
            assert_eq!(values.len(), 2);
            assert_eq!(values[0], cluster as f32);
            assert!((f64::from(values[1]) - distance).abs() < 1e-3, "{} for {distance}", values[1]);
            seen += 1;
        };
        run.algorithm.predict(&data.blocks[0], &run.params, &mut out).expect("rows");
        assert_eq!(seen, 25);
        let metrics = run.metrics(Some(&data));
        let (_, got) = metrics.iter().find(|(name, _)| *name == "test_objective").expect("known");
        assert!((got / slow_objective(&test, &all) - 1.0).abs() < 1e-5);
    }
}
