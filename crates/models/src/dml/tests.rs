use super::*;
use dunlin::Data;
use dunlin::data::{DenseRows, Names, SparseRows, UNKNOWN, pair};
use dunlin::serial::{Serial, share};

/// The levels that this machine has.
fn levels() -> Vec<Isa> {
    [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|level| *level <= Isa::detected()).collect()
}

/// Rows of three classes that differ in features 0 and 1 only; the others are louder noise on many scales.
fn synthetic(rows: usize, features: usize, blocks: usize, seed: u64) -> Data {
    let mut rng = stream(seed, "test-classes", &[]);
    let (mut values, mut classes) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let class = rng.below(3);
        classes.push(class as u32);
        for feature in 0..features {
            let centre = match feature {
                0 => [-1.0, 0.0, 1.0][class],
                1 => [1.0, -1.0, 1.0][class],
                _ => 0.0,
            };
            let (scale, noise) = (1.0 + feature as f64, if feature < 2 { 0.25 } else { 1.0 });
            values.push((5.0 + scale * (centre + noise * rng.normal())) as f32);
        }
    }
    data(&values, &classes, blocks)
}

fn data(values: &[f32], classes: &[u32], blocks: usize) -> Data {
    let (rows, width) = (classes.len(), values.len() / classes.len());
    let shape = Shape {
        kind: Kind::Labelled,
        rows,
        columns: width,
        entries: values.len(),
        samples: rows,
        classes: vec![0, 1, 2],
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    let block = |at: usize| {
        let range = share(rows, blocks, at);
        let contents = Contents::Dense(DenseRows {
            width,
            values: values[range.start * width..range.end * width].to_vec(),
            classes: classes[range.clone()].to_vec(),
            ..DenseRows::default()
        });
        Block { id: at as u32, first_row: range.start, end_row: range.end, contents }
    };
    Data { shape, names: Names::default(), blocks: (0..blocks).map(block).collect() }
}

/// The same data with sparse rows; zeros are not stored.
fn sparse(mut data: Data) -> Data {
    for block in &mut data.blocks {
        let Contents::Dense(dense) = &block.contents else { continue };
        let mut rows = SparseRows { offsets: vec![0], classes: dense.classes.clone(), ..Default::default() };
        for row in dense.values.chunks(dense.width) {
            for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
                rows.columns.push(column as u32);
                rows.values.push(*value);
            }
            rows.offsets.push(rows.columns.len() as u32);
        }
        block.contents = Contents::Sparse(rows);
    }
    data
}

fn start(config: &Config, data: Data, lanes: usize) -> Serial<Dml> {
    Serial::<Dml>::new(config, data, lanes, 1, 4).unwrap()
}

fn metric(model: &Serial<Dml>, name: &str) -> f64 {
    model.metrics(None).into_iter().find(|metric| metric.0 == name).unwrap().1
}

fn table(model: &Serial<Dml>) -> Vec<f32> {
    model.params.table::<f32>(MAP).flat().to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

const SQUARE: Config = Config {
    rank: 0,
    rate: 0.1,
    decay: 0.0,
    lambda: 0.7,
    margin: 0.8,
    prior: 1.5,
    batch: 10,
    source: Source::Labels,
    pairs_file: None,
    pairs: 0,
    held_out: 0.0,
    standardise: true,
};

#[test]
fn learning_lowers_the_objective_and_the_neighbours_error() {
    for lanes in [1, 2, 4] {
        let (train, test) = (synthetic(600, 12, 4, 1), synthetic(200, 12, 1, 2));
        let mut model = start(&Config::default(), train.clone(), lanes);
        let error = |model: &Serial<Dml>| {
            model.algorithm.knn_error(&model.params, &train.blocks, &test.blocks, 3).unwrap()
        };
        let (objective, before) = (metric(&model, "train_objective"), error(&model));
        (0..10).for_each(|_| model.epoch().unwrap());
        let (objective_after, after) = (metric(&model, "train_objective"), error(&model));
        assert!(objective_after < 0.9 * objective, "{lanes} lanes: {objective} to {objective_after}");
        assert!(after < 0.5 * before && after < 0.05, "{lanes} lanes: {before} to {after}");
        assert!(metric(&model, "heldout_pair_loss") < 0.5);
        let metrics = model.metrics(Some(&test));
        assert!(metrics.iter().all(|metric| metric.1.is_finite()), "{metrics:?}");
    }
}

#[test]
fn low_rank_without_the_prior_learns_too() {
    let config = Config { rank: 3, prior: 0.0, rate: 0.05, ..Config::default() };
    for lanes in [1, 2, 4] {
        let train = synthetic(600, 12, 4, 1);
        let mut model = start(&config, train.clone(), lanes);
        let error = |model: &Serial<Dml>| {
            model.algorithm.knn_error(&model.params, &train.blocks, &train.blocks, 4).unwrap()
        };
        let (loss, before) = (metric(&model, "train_pair_loss"), error(&model));
        (0..15).for_each(|_| model.epoch().unwrap());
        let (loss_after, after) = (metric(&model, "train_pair_loss"), error(&model));
        assert!(loss_after < 0.6 * loss, "{lanes} lanes: {loss} to {loss_after}");
        assert!(after < before, "{lanes} lanes: {before} to {after}");
    }
}

/// The scaled differences of the pairs of block 0 in the order of epoch 0.
fn differences(model: &Serial<Dml>) -> Vec<(Vec<f32>, bool)> {
    let block = &model.blocks()[0];
    let unit =
        Unit { block, epoch: 0, clock: 0, lane: 0, lanes: 1, row_block: 0, visit: 0, visits: 1, seed: 4 };
    let (pairs, rows) = (&model.locals[0], Rows::of(block).unwrap());
    let scales = model.algorithm.scales(&model.params);
    let order = pairs::order(&unit, pairs.trained());
    let one = |at: &u32| {
        let mut difference = vec![0.0; scales.len()];
        rows.difference(pairs.rows[*at as usize], |column, value| {
            difference[column] = value * scales[column]
        });
        (difference, pairs.similar[*at as usize])
    };
    order.iter().map(one).collect()
}

/// One epoch of the module's text, one number at a time. `map[j]` is column j of L.
fn scalar_epoch(map: &mut [Vec<f32>], pairs: &[(Vec<f32>, bool)], config: &Config) {
    let (features, rank) = (map.len(), map[0].len());
    let [rate, lambda, margin, prior] =
        [config.rate, config.lambda, config.margin, config.prior].map(|value| value as f32);
    for batch in pairs.chunks(config.batch) {
        let mut images = Vec::new();
        for (difference, similar) in batch {
            let mut image = vec![0.0f32; rank];
            for (value, column) in difference.iter().zip(&*map).filter(|(value, _)| **value != 0.0) {
                image.iter_mut().zip(column).for_each(|(z, l)| *z = value.mul_add(*l, *z));
            }
            let distance = fold_squares(&image);
            let weight = if *similar {
                1.0
            } else if distance < margin {
                -lambda
            } else {
                0.0
            };
            images.push((image, weight));
        }
        let size = batch.len() as f32;
        if prior == 0.0 {
            let step = -rate * features as f32 * 2.0 / size;
            for ((image, weight), (difference, _)) in images.iter().zip(batch) {
                for (value, column) in difference.iter().zip(&mut *map) {
                    let by = step * weight * value;
                    if by != 0.0 {
                        column.iter_mut().zip(image).for_each(|(l, z)| *l = by.mul_add(*z, *l));
                    }
                }
            }
            continue;
        }
        let (pull, push) = (prior / (1.0 + prior), 2.0 * features as f32 / (size * (1.0 + prior)));
        let mut gram = vec![vec![0.0f32; rank]; rank];
        let rows = images.iter().map(|(image, weight)| (image, weight * push)).filter(|row| row.1 != 0.0);
        for (row, weight) in rows.chain(map.iter().map(|column| (column, pull))) {
            for (i, sums) in gram.iter_mut().enumerate() {
                sums.iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum = (weight * row[i]).mul_add(*value, *sum));
            }
        }
        (0..rank).for_each(|i| gram[i][i] -= pull);
        let stride = TableSpec::new("L", 1, rank).stride();
        let flat: Vec<f32> =
            gram.iter().flat_map(|row| row.iter().copied().chain(vec![0.0; stride - rank])).collect();
        let norm = fold_squares(&flat).sqrt();
        let step = if rate * norm > 0.7 { 0.7 / norm } else { rate };
        for column in &mut *map {
            for (value, row) in column.clone().iter().zip(&gram) {
                column.iter_mut().zip(row).for_each(|(l, g)| *l = (-step * value).mul_add(*g, *l));
            }
        }
    }
}

fn fold_squares(values: &[f32]) -> f32 {
    let mut sums = vec![0.0f32; 16];
    values.iter().enumerate().for_each(|(at, v)| sums[at % 16] = v.mul_add(*v, sums[at % 16]));
    while sums.len() > 1 {
        let half = sums.len() / 2;
        sums = (0..half).map(|at| sums[at] + sums[at + half]).collect();
    }
    sums[0]
}

#[test]
fn one_lane_is_the_plain_loop_and_all_levels_agree() {
    for (features, rank, prior) in [(5, 0, 1.5), (12, 0, 0.3), (19, 0, 1.0), (12, 5, 0.0), (9, 0, 0.0)] {
        let config = Config { rank, prior, ..SQUARE };
        let mut model = start(&config, synthetic(60, features, 1, 8), 1);
        let map = model.params.table::<f32>(MAP);
        let mut expected: Vec<Vec<f32>> = (0..features).map(|row| map.row(row).to_vec()).collect();
        scalar_epoch(&mut expected, &differences(&model), &config);
        model.epoch().unwrap();
        for level in levels() {
            let mut other = start(&config, synthetic(60, features, 1, 8), 1);
            other.algorithm = other.algorithm.at_level(level);
            other.epoch().unwrap();
            assert_eq!(bits(&table(&other)), bits(&table(&model)), "{level:?}");
        }
        let map = model.params.table::<f32>(MAP);
        for (row, expected) in expected.iter().enumerate() {
            assert_eq!(bits(map.row(row)), bits(expected), "{features} features, rank {rank}, prior {prior}");
            assert!(expected.iter().all(|value| value.is_finite()));
        }
    }
}

/// J of the module's text in f64; `map` is L row after row, (rank, features).
fn objective(map: &[f64], pairs: &[(Vec<f32>, bool)], config: &Config, features: usize) -> f64 {
    let mut sum = 0.0;
    for (difference, similar) in pairs {
        let image = map
            .chunks(features)
            .map(|row| -> f64 { row.iter().zip(difference).map(|(l, v)| l * f64::from(*v)).sum() });
        let distance: f64 = image.map(|z| z * z).sum();
        sum += if *similar { distance } else { config.lambda * (config.margin - distance).max(0.0) };
    }
    let mut objective = sum / pairs.len() as f64;
    if config.prior > 0.0 {
        let mut gram = vec![0.0; features * features];
        for (i, left) in map.chunks(features).enumerate() {
            for (j, right) in map.chunks(features).enumerate() {
                gram[i * features + j] = left.iter().zip(right).map(|(a, b)| a * b).sum();
            }
        }
        let trace: f64 = map.iter().map(|v| v * v).sum();
        let divergence = trace - log_determinant(&mut gram, features) - features as f64;
        objective += config.prior / (2.0 * features as f64) * divergence;
    }
    objective
}

/// A step of one batch with all pairs follows the numerical gradient: times LᵀL with the prior.
#[test]
fn the_step_is_the_gradient() {
    for prior in [0.0, 1.5] {
        let (features, rate) = (4, 1e-3);
        let config = Config { prior, rate, batch: 10_000, ..SQUARE };
        let mut model = start(&config, synthetic(40, features, 1, 3), 1);
        model.epoch().unwrap(); // away from the identity
        let config = Config { rate: 0.1, ..config };
        model.algorithm.config = config.clone();
        (0..3).for_each(|_| model.epoch().unwrap());
        let config = Config { rate, ..config };
        model.algorithm.config = config.clone();
        let pairs = differences(&model);
        let map = |model: &Serial<Dml>| -> Vec<f64> {
            let table = model.params.table::<f32>(MAP);
            (0..16).map(|at| f64::from(table.row(at % 4)[at / 4])).collect()
        };
        let before = map(&model);
        model.epoch().unwrap();
        let after = map(&model);
        let gradient: Vec<f64> = (0..16)
            .map(|at| {
                let shifted = |by: f64| {
                    let mut map = before.clone();
                    map[at] += by;
                    objective(&map, &pairs, &config, features)
                };
                (shifted(1e-6) - shifted(-1e-6)) / 2e-6
            })
            .collect();
        let product = |a: &[f64], b: &[f64]| -> Vec<f64> {
            (0..16).map(|at| (0..4).map(|k| a[at / 4 * 4 + k] * b[k * 4 + at % 4]).sum()).collect()
        };
        let transposed: Vec<f64> = (0..16).map(|at| before[at % 4 * 4 + at / 4]).collect();
        let metric = product(&transposed, &before);
        let direction = if prior > 0.0 { product(&gradient, &metric) } else { gradient };
        for at in 0..16 {
            let taken = (before[at] - after[at]) / (rate * 4.0 / (1.0 + prior));
            assert!((taken - direction[at]).abs() < 1e-3, "{prior} {at}: {taken} {}", direction[at]);
        }
    }
}

#[test]
fn sparse_rows_learn_as_dense_ones() {
    for (rank, prior) in [(0, 1.0), (3, 0.0)] {
        let config = Config { rank, prior, ..SQUARE };
        let mut zeros = synthetic(90, 7, 2, 5);
        for block in &mut zeros.blocks {
            if let Contents::Dense(rows) = &mut block.contents {
                rows.values.iter_mut().step_by(3).for_each(|value| *value = 0.0);
            }
        }
        let (mut dense, mut sparse) = (start(&config, zeros.clone(), 1), start(&config, sparse(zeros), 1));
        (0..2).for_each(|_| [&mut dense, &mut sparse].map(|model| model.epoch().unwrap()).fill(()));
        assert_eq!(bits(&table(&dense)), bits(&table(&sparse)));
        let block = &sparse.blocks()[0];
        let mut images = Vec::new();
        let (algorithm, params) = (&sparse.algorithm, &sparse.params);
        algorithm.predict(block, params, &mut |_, image| images.push(image.to_vec())).unwrap();
        let (map, rows) = (algorithm.map(params), Rows::of(block).unwrap());
        for (row, image) in images.iter().enumerate() {
            let mut expected = vec![0.0; image.len()];
            rows.each(row, |column, value| {
                expected
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, z)| *z += map[i * 7 + column] * f64::from(value));
            });
            assert!(image.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4));
        }
    }
}

#[test]
fn the_metric_is_the_square_of_the_map_and_distances_start_at_one() {
    let config = Config { pairs: 20_000, held_out: 0.0, ..Config::default() };
    let model = start(&config, synthetic(400, 6, 1, 9), 1);
    let (map, metric) = (model.algorithm.map(&model.params), model.algorithm.metric(&model.params));
    let direct = |i: usize, j: usize| (0..6).map(|k| map[k * 6 + i] * map[k * 6 + j]).sum::<f64>();
    assert!((0..36).all(|at| (metric[at] - direct(at / 6, at % 6)).abs() < 1e-12));
    let pairs = differences(&model);
    let mean = |similar: bool| {
        let of: Vec<f64> = pairs
            .iter()
            .filter(|pair| pair.1 == similar)
            .map(|pair| pair.0.iter().map(|v| f64::from(*v) * f64::from(*v)).sum())
            .collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    let random = mean(true) / 3.0 + mean(false) * 2.0 / 3.0;
    assert!((random - 1.0).abs() < 0.05, "{random}");
}

#[test]
fn pairs_follow_the_labels() {
    let train = synthetic(100, 3, 2, 1);
    let model = start(&Config { pairs: 101, held_out: 0.25, ..Config::default() }, train, 1);
    for (block, pairs) in model.blocks().iter().zip(&model.locals) {
        let classes = Rows::of(block).unwrap().classes();
        assert_eq!((pairs.rows.len(), pairs.held_out), (51, 12));
        for ([a, b], similar) in pairs.rows.iter().zip(&pairs.similar) {
            assert_ne!(a, b);
            assert_eq!(classes[*a as usize] == classes[*b as usize], *similar);
        }
        let similar = pairs.similar.iter().filter(|similar| **similar).count();
        assert_eq!(similar, 26);
    }
    let one_class = data(&[1.0, 2.0, 3.0, 4.0], &[1, 1, UNKNOWN, 1], 1);
    let rows = Rows::of(&one_class.blocks[0]).unwrap();
    let pairs = Pairs::drawn(&rows, 10, &mut stream(1, "test-draw", &[]));
    assert_eq!(pairs.rows.len(), 5);
    assert!(pairs.rows.iter().flatten().all(|row| *row != 2));
    assert!(pairs.similar.iter().all(|similar| *similar));
}

/// `data` with every two rows a pair, cut into `blocks`.
fn adjacent(data: Data, blocks: usize) -> Data {
    pair(data, "test", &Pairing::Adjacent, blocks, false).unwrap()
}

#[test]
fn pairs_held_out_are_the_same_wherever_blocks_are_cut() {
    let config = Config { source: Source::Adjacent, held_out: 0.15, ..Config::default() };
    let held = |rows_in: usize, blocks: usize| {
        let model = start(&config, adjacent(synthetic(200, 3, rows_in, 8), blocks), 1);
        let mut held = Vec::new();
        for (block, pairs) in model.blocks().iter().zip(&model.locals) {
            let rows = Rows::of(block).unwrap();
            for at in pairs.trained()..pairs.rows.len() {
                let mut difference = Vec::new();
                rows.difference(pairs.rows[at], |_, value| difference.push(value.to_bits()));
                held.push((difference, pairs.similar[at]));
            }
        }
        held.sort();
        held
    };
    let (one, many) = (held(1, 1), held(3, 17));
    assert_eq!((one.len(), &one), (15, &many));
    let moments = |blocks| start(&config, adjacent(synthetic(200, 3, 2, 8), blocks), 1);
    let scales = |model: &Serial<Dml>| model.algorithm.scales(&model.params);
    let (one, many) = (scales(&moments(1)), scales(&moments(17)));
    assert!(one.iter().zip(&many).all(|(one, many)| (one / many - 1.0).abs() < 1e-6), "{one:?} {many:?}");
}

#[test]
fn lists_of_pairs_are_learned_from_on_any_lanes() {
    let config = Config { source: Source::Adjacent, ..Config::default() };
    for lanes in [1, 3] {
        let (train, rows) = (adjacent(synthetic(800, 8, 1, 1), 6), synthetic(300, 8, 1, 2));
        let mut model = start(&config, train, lanes);
        let error = |model: &Serial<Dml>| {
            model.algorithm.knn_error(&model.params, &rows.blocks, &rows.blocks, 4).unwrap()
        };
        let (objective, before) = (metric(&model, "train_objective"), error(&model));
        (0..10).for_each(|_| model.epoch().unwrap());
        let (objective_after, after) = (metric(&model, "train_objective"), error(&model));
        assert!(objective_after < 0.95 * objective, "{lanes} lanes: {objective} to {objective_after}");
        assert!(after < 0.5 * before, "{lanes} lanes: {before} to {after}");
    }
}

#[test]
fn test_metrics_do_not_depend_on_how_test_rows_are_cut() {
    let mut model = start(&Config::default(), synthetic(300, 6, 3, 1), 1);
    (0..3).for_each(|_| model.epoch().unwrap());
    // sorted by class, so that no block on its own could tell
    let mut order: Vec<(u32, Vec<f32>)> = Vec::new();
    if let Contents::Dense(rows) = &synthetic(120, 6, 1, 7).blocks[0].contents {
        order = rows.classes.iter().copied().zip(rows.values.chunks(6).map(<[f32]>::to_vec)).collect();
    }
    order.sort_by_key(|row| row.0);
    let classes: Vec<u32> = order.iter().map(|row| row.0).collect();
    let values: Vec<f32> = order.into_iter().flat_map(|row| row.1).collect();
    let measured = |rows_in: usize, blocks: usize| {
        let test = pair(data(&values, &classes, rows_in), "test", &Pairing::Labels, blocks, true).unwrap();
        let metrics = model.metrics(Some(&test));
        ["test_pair_loss", "test_pair_accuracy"]
            .map(|name| metrics.iter().find(|metric| metric.0 == name).unwrap().1)
    };
    let one = measured(1, 1);
    for (rows_in, blocks) in [(7, 1), (1, 20), (40, 240)] {
        let other = measured(rows_in, blocks);
        assert!((other[0] / one[0] - 1.0).abs() < 1e-12, "{rows_in} {blocks}: {one:?} {other:?}");
        assert_eq!(other[1], one[1], "{rows_in} {blocks}");
    }
}

#[test]
fn without_pairs_of_both_kinds_there_is_nothing_to_learn() {
    let refused = |config: &Config, train: Data, parts: &[&str]| {
        let error = Serial::<Dml>::new(config, train, 1, 1, 1).err().unwrap();
        assert_eq!(error.status(), 2);
        assert!(parts.iter().all(|part| error.to_string().contains(part)), "{error}");
    };
    let values: Vec<f32> = (0..16).map(|at| at as f32).collect();
    let one_class = data(&values, &[1; 8], 1);
    refused(&Config::default(), one_class.clone(), &["no dissimilar pair", "1 blocks", "pairs_file"]);
    let all = data(&values, &[0, 1, 2, 0, 1, 2, 0, 1], 8);
    refused(&Config::default(), all, &["no pair to train on", "8 blocks", "--blocks"]);
    let different = data(&values, &[0, 1, 2, 0, 1, 2, 0, 1], 4);
    refused(&Config::default(), different, &["no similar pair", "4 blocks"]);
    let listed = Config { source: Source::Adjacent, ..Config::default() };
    refused(
        &listed,
        adjacent(one_class.clone(), 2),
        &["no dissimilar pair", "source=adjacent", "held out (0.1"],
    );
    refused(&listed, one_class, &["read without", "Model::reading"]);
}

#[test]
fn an_exploding_rate_is_an_error_that_names_it() {
    let config = Config { rate: 500.0, decay: 0.0, prior: 0.0, lambda: 0.0, ..Config::default() };
    let mut model = start(&config, synthetic(100, 4, 1, 2), 1);
    let error = (0..20).find_map(|_| model.epoch().err()).unwrap();
    assert!(matches!(&error, Error::Diverged(text) if text.contains("rate = 500")), "{error}");
    let mut model = start(&Config { rate: 500.0, ..Config::default() }, synthetic(100, 4, 1, 2), 1);
    (0..20).for_each(|_| model.epoch().unwrap()); // the relative step is bounded
    assert!(table(&model).iter().all(|value| value.is_finite()));
}

#[test]
fn settings_and_data_are_checked() {
    let train = synthetic(10, 4, 1, 1);
    let wrong = [
        Config { rank: 5, ..Config::default() },
        Config { rank: 2, ..Config::default() },
        Config { rate: f64::NAN, ..Config::default() },
        Config { margin: 0.0, ..Config::default() },
        Config { lambda: -1.0, ..Config::default() },
        Config { prior: f64::INFINITY, ..Config::default() },
        Config { batch: 0, ..Config::default() },
        Config { held_out: 0.6, ..Config::default() },
        Config { pairs_file: Some("p".into()), pairs: 5, ..Config::default() },
        Config { pairs_file: Some("p".into()), source: Source::Adjacent, ..Config::default() },
    ];
    for config in wrong {
        assert!(matches!(Dml::new(&config, &train.shape), Err(Error::Usage(_))), "{config:?}");
    }
    let huge = Shape { columns: 1 << 20, ..train.shape.clone() };
    assert!(matches!(Dml::new(&Config::default(), &huge), Err(Error::Usage(_))));
    let mut bad = train.clone();
    if let Contents::Dense(rows) = &mut bad.blocks[0].contents {
        rows.values[7] = f32::NAN;
    }
    let error = Serial::<Dml>::new(&Config::default(), bad, 1, 1, 1).err().unwrap();
    assert!(matches!(error, Error::Data(_)), "{error}");
    assert!(serde_json::from_str::<Config>(r#"{"source":"adjacent","prior":0,"rank":2}"#).is_ok());
    assert!(serde_json::from_str::<Config>(r#"{"pair":3}"#).is_err());
}

#[test]
fn a_constant_feature_is_left_out() {
    let mut train = synthetic(60, 4, 1, 6);
    if let Contents::Dense(rows) = &mut train.blocks[0].contents {
        rows.values.iter_mut().skip(2).step_by(4).for_each(|value| *value = 7.0);
    }
    let mut model = start(&Config::default(), train, 1);
    model.epoch().unwrap();
    assert_eq!(model.algorithm.scales(&model.params)[2], 0.0);
    assert!(metric(&model, "train_objective").is_finite());
}
