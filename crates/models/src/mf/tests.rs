use super::*;
use dunlin::Data;
use dunlin::data::{Names, UNKNOWN};
use dunlin::rng::stream;
use dunlin::serial::{Serial, share};
use std::path::Path;

/// The levels that this machine has.
fn levels() -> Vec<Isa> {
    [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|level| *level <= Isa::detected()).collect()
}

/// Ratings 1..=5 from factors of rank 2 and noise; every user and item occurs.
fn synthetic(users: usize, items: usize, each: usize, blocks: usize, seed: u64) -> Data {
    let mut rng = stream(seed, "test-ratings", &[]);
    let mut factors =
        |rows: usize| -> Vec<[f64; 2]> { (0..rows).map(|_| [rng.normal(), rng.normal()]).collect() };
    let (p, q) = (factors(users), factors(items));
    let mut rows = Vec::new();
    for (user, factors) in p.iter().enumerate() {
        for at in 0..each {
            let item = if at == 0 { user % items } else { rng.below(items) };
            let value = 3.0 + factors[0] * q[item][0] + factors[1] * q[item][1] + 0.3 * rng.normal();
            rows.push((user as u32, item as u32, value.clamp(1.0, 5.0) as f32));
        }
    }
    data(&rows, [users, items], blocks, None)
}

/// Rows sorted by user, cut into `blocks` between users; the shape is that of `like` if given.
fn data(rows: &[(u32, u32, f32)], counts: [usize; 2], blocks: usize, like: Option<&Shape>) -> Data {
    let sum: f64 = rows.iter().map(|row| f64::from(row.2)).sum();
    let shape = like.cloned().unwrap_or(Shape {
        kind: Kind::Ratings,
        rows: counts[0],
        columns: counts[1],
        entries: rows.len(),
        samples: rows.len(),
        classes: Vec::new(),
        mean_target: sum / rows.len() as f64,
        min_target: 1.0,
        max_target: 5.0,
    });
    let block = |at: usize| {
        let users = share(counts[0], blocks, at);
        let last = at + 1 == blocks;
        let mine = |row: &&(u32, u32, f32)| users.contains(&(row.0 as usize)) || (last && row.0 == UNKNOWN);
        let part: Vec<_> = rows.iter().filter(mine).collect();
        let contents = Contents::Ratings(Ratings {
            users: part.iter().map(|row| row.0).collect(),
            items: part.iter().map(|row| row.1).collect(),
            ratings: part.iter().map(|row| row.2).collect(),
        });
        Block { id: at as u32, first_row: users.start, end_row: users.end, contents }
    };
    Data { shape, names: Names::default(), blocks: (0..blocks).map(block).collect() }
}

fn bits(model: &Serial<Mf>) -> Vec<u32> {
    let tables = [USERS, ITEMS].map(|table| model.params.table::<f32>(table).flat().to_vec());
    tables.concat().into_iter().map(f32::to_bits).collect()
}

fn metric(model: &Serial<Mf>, test: Option<&Data>, name: &str) -> f64 {
    model.metrics(test).into_iter().find(|metric| metric.0 == name).unwrap().1
}

/// The update of the module's text, written plainly: sixteen accumulators folded in halves, fused steps.
fn scalar_epoch(rows: &mut [Vec<Vec<f32>>; 2], blocks: &[Block], config: &Config, mean: f32, epoch: usize) {
    let rate = config.rate_at(epoch);
    let (keep, rate) = ((1.0 - rate * config.regularisation) as f32, rate as f32);
    for data in blocks.iter().filter_map(ratings) {
        for at in 0..data.ratings.len() {
            let [users, items] = rows;
            let p = &mut users[data.users[at] as usize];
            let q = &mut items[data.items[at] as usize];
            let mut sums = vec![0.0f32; 16];
            for c in 0..config.rank {
                sums[c % 16] = p[c].mul_add(q[c], sums[c % 16]);
            }
            while sums.len() > 1 {
                let half = sums.len() / 2;
                sums = (0..half).map(|c| sums[c] + sums[c + half]).collect();
            }
            let bias = if config.bias { mean + p[config.rank] + q[config.rank] } else { mean };
            let step = rate * ((data.ratings[at] - bias) - sums[0]);
            for c in 0..config.rank {
                (p[c], q[c]) = (step.mul_add(q[c], keep * p[c]), step.mul_add(p[c], keep * q[c]));
            }
            if config.bias {
                p[config.rank] = keep.mul_add(p[config.rank], step);
                q[config.rank] = keep.mul_add(q[config.rank], step);
            }
        }
    }
}

#[test]
fn one_lane_is_the_plain_loop_and_all_levels_agree_for_every_rank() {
    let ranks = (1..=34).chain([40, 63, 64, 65, 127, 128, 129, 130]);
    for (rank, bias) in ranks.flat_map(|rank| [(rank, true), (rank, false)]) {
        let config = Config { rank, bias, ..Config::default() };
        let train = synthetic(31, 17, 6, 2, 5);
        let mean = train.shape.mean_target as f32;
        let mut expected: Option<[Vec<Vec<f32>>; 2]> = None;
        for level in levels() {
            let mut model = Serial::<Mf>::new(&config, train.clone(), 1, 1, 7).unwrap();
            model.algorithm = model.algorithm.clone().at_level(level);
            let rows = |model: &Serial<Mf>| {
                [(USERS, 31), (ITEMS, 17)].map(|(table, rows)| -> Vec<Vec<f32>> {
                    (0..rows).map(|row| model.params.table(table).row(row).to_vec()).collect()
                })
            };
            let start = rows(&model);
            let expected = expected.get_or_insert_with(|| {
                let mut rows = start;
                for epoch in 0..2 {
                    let order = dunlin::serial::block_order(7, 0, epoch, model.blocks().len());
                    let blocks: Vec<Block> = order.iter().map(|at| model.blocks()[*at].clone()).collect();
                    scalar_epoch(&mut rows, &blocks, &config, mean, epoch);
                }
                rows
            });
            model.epoch().unwrap();
            model.epoch().unwrap();
            let same = rows(&model).iter().flatten().flatten().map(|v| v.to_bits()).eq(expected
                .iter()
                .flatten()
                .flatten()
                .map(|v| v.to_bits()));
            assert!(same, "rank {rank}, bias {bias}, {level:?}");
            assert!(expected.iter().flatten().flatten().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn predictions_agree_on_all_levels() {
    for rank in [1, 7, 10, 32, 50] {
        let config = Config { rank, ..Config::default() };
        let mut model = Serial::<Mf>::new(&config, synthetic(31, 17, 6, 1, 5), 1, 1, 7).unwrap();
        model.epoch().unwrap();
        let found = levels().into_iter().map(|level| {
            let algorithm = model.algorithm.clone().at_level(level);
            let mut bits = Vec::new();
            let block = &model.blocks()[0];
            algorithm.predict(block, &model.params, &mut |_, values| bits.push(values[0].to_bits())).unwrap();
            bits
        });
        let levels: Vec<Vec<u32>> = found.collect();
        assert!(levels.iter().all(|level| *level == levels[0] && level.len() == 31 * 6));
    }
}

/// The step of one rating is the gradient of ½ (r − r̂)² + ½ λ (squares), by central differences in f64.
#[test]
fn the_step_is_the_gradient() {
    let config =
        Config { rank: 5, rate: 1e-3, schedule: Schedule::Constant, scale: 2.0, ..Config::default() };
    let rows = [(0, 0, 1.5f32), (0, 1, 4.0)];
    let mut one = data(&rows, [1, 2], 1, None);
    if let Contents::Ratings(ratings) = &mut one.blocks[0].contents {
        ratings.users.truncate(1);
        ratings.items.truncate(1);
        ratings.ratings.truncate(1);
    }
    let mean = one.shape.mean_target;
    let mut model = Serial::<Mf>::new(&config, one, 1, 1, 3).unwrap();
    let row = |model: &Serial<Mf>, table| -> Vec<f64> {
        model.params.table::<f32>(table).row(0).iter().map(|v| f64::from(*v)).collect()
    };
    let before = [row(&model, USERS), row(&model, ITEMS)].concat();
    model.epoch().unwrap();
    let after = [row(&model, USERS), row(&model, ITEMS)].concat();
    let objective = |at: &[f64]| {
        let (p, q) = at.split_at(6);
        let product: f64 = p.iter().zip(q).take(5).map(|(p, q)| p * q).sum();
        let squares: f64 = at.iter().map(|v| v * v).sum();
        0.5 * (1.5 - (mean + p[5] + q[5] + product)).powi(2) + 0.5 * config.regularisation * squares
    };
    for c in 0..12 {
        let shifted = |by: f64| {
            let mut at = before.clone();
            at[c] += by;
            objective(&at)
        };
        let gradient = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
        let taken = (before[c] - after[c]) / config.rate;
        assert!((gradient - taken).abs() < 2e-3 * (1.0 + gradient.abs()), "{c}: {gradient} {taken}");
    }
}

#[test]
fn lanes_converge() {
    for lanes in [1, 2, 4] {
        let config = Config { rank: 8, ..Config::default() };
        let train = synthetic(200, 60, 20, 16, 11);
        let sized = Mf::new(&config, &train.shape).unwrap();
        let lane = |lane| &train.blocks[share(16, lanes, lane)];
        let hottest = (0..lanes).map(|at| sized.hottest_updates_per_epoch(lane(at))).max().unwrap();
        let clocks = sized.suggested_clocks(lanes, hottest);
        assert!(lanes > 1 || clocks == 1);
        let mut model = Serial::<Mf>::new(&config, train.clone(), lanes, clocks, 1).unwrap();
        let start = metric(&model, None, "train_objective");
        (0..20).for_each(|_| model.epoch().unwrap());
        let end = metric(&model, None, "train_objective");
        assert!(end.is_finite() && end < 0.6 * start, "{lanes} lanes: {start} to {end}");
        assert!(metric(&model, None, "train_rmse") < 0.9);
    }
}

#[test]
fn clocks_follow_the_rule() {
    let shape = synthetic(5, 5, 1, 1, 1).shape;
    let config = Config { rate: 0.03, schedule: Schedule::Constant, ..Config::default() };
    let model = Mf::new(&config, &shape).unwrap();
    for (lanes, hottest) in [(2, 484), (6, 80), (16, 80)] {
        let clocks = model.suggested_clocks(lanes, hottest);
        let gain = |clocks: usize| {
            let updates = hottest as f64 / clocks as f64;
            lanes as f64 * (1.0 - (1.0f64 - 0.03).powf(updates))
        };
        assert!(gain(clocks) <= 1.5 && gain(clocks - 1) > 1.5, "{lanes} {hottest} {clocks}");
    }
    assert_eq!(model.suggested_clocks(1, 1000), 1);
    assert_eq!(model.suggested_clocks(8, 0), 1);
    assert_eq!(model.suggested_clocks(64, 7), 7);
}

#[test]
fn a_large_model_is_arranged_in_groups_and_learns_the_same_ratings() {
    let train = synthetic(9000, 60_000, 4, 2, 3);
    let before: Vec<_> = train.blocks.iter().filter_map(ratings).cloned().collect();
    let mut model = Serial::<Mf>::new(&Config::default(), train, 1, 1, 1).unwrap();
    assert!(!model.algorithm.cached());
    for (after, before) in model.blocks().iter().filter_map(ratings).zip(&before) {
        let sorted = |ratings: &Ratings| {
            let mut rows: Vec<_> = (0..ratings.ratings.len())
                .map(|at| (ratings.users[at], ratings.items[at], ratings.ratings[at].to_bits()))
                .collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(sorted(after), sorted(before));
        let falls = after.items.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(falls < 10, "{falls}");
    }
    let start = metric(&model, None, "train_objective");
    (0..3).for_each(|_| model.epoch().unwrap());
    assert!(metric(&model, None, "train_objective") < start);
}

#[test]
fn unseen_users_and_items_get_what_is_known() {
    let train = synthetic(20, 10, 5, 1, 2);
    let shape = train.shape.clone();
    let mut model = Serial::<Mf>::new(&Config::default(), train, 1, 1, 1).unwrap();
    model.epoch().unwrap();
    let rows = [(3, UNKNOWN, 3.0), (UNKNOWN, 4, 3.0), (UNKNOWN, UNKNOWN, 5.0)];
    let test = data(&rows, [20, 10], 1, Some(&shape));
    let mut seen = Vec::new();
    let (algorithm, params) = (&model.algorithm, &model.params);
    algorithm.predict(&test.blocks[0], params, &mut |_, values| seen.push(values[0])).unwrap();
    let mean = shape.mean_target as f32;
    let bias = |table: usize, row: usize| params.table::<f32>(table).row(row)[32];
    assert_eq!(seen, [mean + bias(USERS, 3), mean + bias(ITEMS, 4), mean]);
    assert!(metric(&model, Some(&test), "test_rmse").is_finite());
    // Of no ratings there is no error, which is not an error of 0.
    let none = Data { blocks: Vec::new(), ..test };
    assert!(model.metrics(Some(&none)).iter().all(|(name, _)| *name != "test_rmse"));
}

#[test]
fn an_exploding_rate_is_an_error_that_names_it() {
    let config = Config { rate: 1.9, schedule: Schedule::Constant, ..Config::default() };
    let mut model = Serial::<Mf>::new(&config, synthetic(50, 20, 10, 1, 2), 1, 1, 1).unwrap();
    let error = (0..20).find_map(|_| model.epoch().err()).unwrap();
    assert!(matches!(&error, Error::Diverged(text) if text.contains("rate = 1.9")), "{error}");
}

#[test]
fn settings_are_checked() {
    let shape = synthetic(5, 5, 1, 1, 1).shape;
    let wrong = [
        Config { rank: 0, ..Config::default() },
        Config { rank: 5000, ..Config::default() },
        Config { rate: f64::NAN, ..Config::default() },
        Config { rate: 0.0, ..Config::default() },
        Config { regularisation: -1.0, ..Config::default() },
        Config { rate: 2.0, regularisation: 0.5, ..Config::default() },
        Config { scale: f64::INFINITY, ..Config::default() },
        Config { decay: -0.1, ..Config::default() },
        Config { offset: 0.0, ..Config::default() },
        Config { exponent: 3.0, ..Config::default() },
    ];
    for config in wrong {
        assert!(matches!(Mf::new(&config, &shape), Err(Error::Usage(_))), "{config:?}");
    }
    let power: Config = serde_json::from_str(r#"{"schedule":"power","rate":0.1,"offset":4}"#).unwrap();
    assert!((power.rate_at(5) - 0.1 / 3.0).abs() < 1e-12);
    assert!(serde_json::from_str::<Config>(r#"{"ranks":3}"#).is_err());
}

#[test]
fn damaged_blocks_are_refused() {
    let mut train = synthetic(5, 5, 1, 1, 1);
    if let Contents::Ratings(ratings) = &mut train.blocks[0].contents {
        ratings.items[2] = UNKNOWN;
    }
    let error = Serial::<Mf>::new(&Config::default(), train, 1, 1, 1).err().unwrap();
    assert!(matches!(error, Error::Data(_)), "{error}");
}

/// Rows of a MovieLens-100k file, ids from 0; `None` if it is not there.
fn movielens(name: &str) -> Option<Vec<(u32, u32, f32)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/movielens-100k");
    let path = folder.join(name);
    let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut rows: Vec<(u32, u32, f32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let mut id = || fields.next()?.parse::<u32>().ok()?.checked_sub(1);
            let (user, item) = (id()?, id()?);
            Some((user, item, fields.next()?.parse().ok()?))
        })
        .collect();
    rows.sort_by_key(|row| row.0);
    (!rows.is_empty()).then_some(rows)
}

#[test]
fn movielens_reaches_the_published_error() {
    let (Some(train), Some(test)) = (movielens("u1.base.gz"), movielens("u1.test.gz")) else {
        eprintln!(
            "SKIPPED movielens_reaches_the_published_error: ../shared/data/movielens-100k is not there"
        );
        return;
    };
    assert_eq!((train.len(), test.len()), (80_000, 20_000));
    let test: Vec<_> = test
        .into_iter()
        .map(|(user, item, rating)| {
            let seen = train.iter().any(|row| row.1 == item);
            (user, if seen { item } else { UNKNOWN }, rating)
        })
        .collect();
    let train = data(&train, [943, 1682], 128, None);
    let test = data(&test, [943, 1682], 1, Some(&train.shape));
    for (lanes, epochs) in [(1, 10), (2, 12), (4, 14)] {
        let sized = Mf::new(&Config::default(), &train.shape).unwrap();
        let lane = |lane| &train.blocks[share(128, lanes, lane)];
        let hottest = (0..lanes).map(|at| sized.hottest_updates_per_epoch(lane(at))).max().unwrap();
        let clocks = sized.suggested_clocks(lanes, hottest);
        let mut model = Serial::<Mf>::new(&Config::default(), train.clone(), lanes, clocks, 1).unwrap();
        let reached = (1..=epochs).find(|_| {
            model.epoch().unwrap();
            metric(&model, Some(&test), "test_rmse") <= 0.93
        });
        assert!(reached.is_some(), "{lanes} lanes: {:?}", model.metrics(Some(&test)));
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let run = |seed| {
        let mut model =
            Serial::<Mf>::new(&Config::default(), synthetic(40, 20, 5, 2, 9), 2, 1, seed).unwrap();
        model.epoch().unwrap();
        bits(&model)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

/// A run of `solver=als`.
fn als(workers: usize, lanes: usize, epochs: usize) -> dunlin::event::Outcome {
    let source = dunlin::train::Source::new(synthetic(90, 40, 12, 12, 3), None);
    let strategy = dunlin::strategy::StrategySpec::Rotation;
    let run = crate::run("mf", "ratings").expect("known");
    let mut run = dunlin::run::Run { workers, lanes, strategy, ..run };
    run.settings =
        serde_json::to_value(Config { solver: Solver::Als, rank: 4, ..Config::default() }).unwrap();
    run.stop.epochs = epochs;
    crate::train(&dunlin::comm::Cluster::Threads(workers), &run, &source).expect("trained")
}

#[test]
fn least_squares_lower_the_objective_in_every_epoch_and_end_where_descent_does() {
    let mut before = f64::INFINITY;
    for epochs in 1..8 {
        let now = als(1, 1, epochs).metrics["train_objective"];
        assert!(now < before, "epoch {epochs}: {now} after {before}");
        before = now;
    }
    let least = als(1, 1, 60).metrics["train_objective"];
    let config = Config { rank: 4, rate: 0.05, decay: 0.05, ..Config::default() };
    let mut serial = Serial::<Mf>::new(&config, synthetic(90, 40, 12, 12, 3), 1, 1, 1).unwrap();
    (0..400).for_each(|_| serial.epoch().unwrap());
    let descent = serial.metrics(None).iter().find(|(name, _)| *name == "train_objective").unwrap().1;
    assert!(least < descent * 1.02, "{least}, by descent {descent}");
}

#[test]
fn least_squares_go_round_to_the_same_bits_and_need_rotation() {
    let (alone, first) = (als(1, 1, 20), als(1, 3, 20));
    assert_eq!(als(2, 3, 20).metrics, first.metrics);
    assert_eq!(als(3, 3, 20).metrics, first.metrics);
    // Sums are added in another order on one lane.
    let [one, three] = [&alone, &first].map(|outcome| outcome.metrics["train_objective"]);
    assert!((one / three - 1.0).abs() < 1e-4, "{one} and {three}");
    let config = Config { solver: Solver::Als, rank: 4, ..Config::default() };
    let error = Serial::<Mf>::new(&config, synthetic(90, 40, 12, 12, 3), 3, 1, 1).expect_err("refused");
    assert!(error.to_string().contains("use --strategy rotation"), "{error}");
}
