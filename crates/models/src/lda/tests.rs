use super::*;
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::rng::stream;
use dunlin::serial::Serial;
use dunlin::strategy::StrategySpec;
use dunlin::train::Source;

/// Documents as (word, count) lists.
pub(crate) type Rows = Vec<Vec<(u32, u32)>>;

/// Documents given as (word, count) lists, cut into `blocks` blocks.
pub(crate) fn data(rows: &[Vec<(u32, u32)>], words: usize, blocks: usize) -> Data {
    let make = |id: usize| {
        let range = rows.len() * id / blocks..rows.len() * (id + 1) / blocks;
        let mut documents = Documents { offsets: vec![0], ..Documents::default() };
        for (word, count) in rows[range.clone()]
            .iter()
            .flat_map(|row| row.iter().map(Some).chain([None]))
            .map(|e| *e.unwrap_or(&(0, 0)))
        {
            if count == 0 {
                documents.offsets.push(documents.words.len() as u32);
            } else {
                documents.words.push(word);
                documents.counts.push(count);
            }
        }
        let contents = Contents::Documents(documents);
        Block { id: id as u32, first_row: range.start, end_row: range.end, contents }
    };
    let shape = Shape {
        kind: Kind::Documents,
        rows: rows.len(),
        columns: words,
        entries: rows.iter().map(Vec::len).sum(),
        samples: rows.iter().flatten().map(|(_, count)| *count as usize).sum(),
        classes: Vec::new(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Data { shape, names: Names::default(), blocks: (0..blocks).map(make).collect() }
}

/// Documents of up to 40 tokens about a few themes of neighbouring words; one is empty.
pub(crate) fn themes(documents: usize, words: usize, seed: u64) -> Rows {
    let mut rng = stream(seed, "lda-test-corpus", &[]);
    let mut rows = Vec::new();
    for document in 0..documents {
        let mut counts = vec![0; words];
        for _ in 0..if document == 3 { 0 } else { 5 + rng.below(36) } {
            let theme = (document + rng.below(2)) % 5;
            counts[(theme * words / 5 + rng.below(words / 5) * rng.below(2)) % words] += 1;
        }
        let row = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        rows.push(row.map(|(word, count)| (word as u32, *count)).collect());
    }
    rows
}

fn config(topics: usize, sampler: Sampler) -> Config {
    Config { topics, sampler, ..Config::default() }
}

pub(crate) fn metric(metrics: &[(&'static str, f64)], name: &str) -> f64 {
    metrics.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).unwrap_or(f64::NAN)
}

fn usage_error(config: &Config, data: &Data) -> String {
    match Lda::new(config, &data.shape) {
        Err(Error::Usage(message)) => message,
        other => panic!("expected a usage error, got {other:?}"),
    }
}

/// Sixteen lanes as the dense sampler sums them, written plainly: weights are summed over k ≡ lane (mod 16) in
/// ascending order by fours, then along the lanes in the network of `Simd::scan`.
fn draw_dense(weights: &[f32], uniform: f32) -> usize {
    let lanes = weights.len().min(16);
    let (mut columns, mut parts) = (vec![Vec::new(); 16], Vec::new());
    for (topic, weight) in weights.iter().enumerate() {
        let column: &mut Vec<f32> = &mut columns[topic % 16];
        // In fours: the sum within the four is added to the sum before the four.
        let first = column.len() / 4 * 4;
        parts.push(if column.len() == first { *weight } else { parts[topic - 16] + weight });
        let part = parts[topic];
        let before = first.checked_sub(1).map(|last| column[last]);
        column.push(before.map_or(part, |before| before + part));
    }
    let own: Vec<f32> = columns.iter().map(|column| column.last().copied().unwrap_or(0.0)).collect();
    let mut along = own.clone();
    for step in [1, 2, 4, 8] {
        let before = along.clone();
        (0..16)
            .filter(|i| i & step != 0)
            .for_each(|i| along[i] += before[(i / (2 * step)) * 2 * step + step - 1]);
    }
    let dart = uniform * along[15];
    let lane = (0..lanes).find(|i| along[*i] > dart).unwrap_or(lanes - 1);
    let rest = dart - (along[lane] - own[lane]);
    let vector = columns[lane].iter().filter(|sum| **sum <= rest).count().min(columns[lane].len() - 1);
    16 * vector + lane
}

/// Collapsed Gibbs sampling straight from the formula, one block, with dense counts and no vectors.
fn plain_loop(rows: &[Vec<(u32, u32)>], words: usize, config: &Config, seed: u64, sweeps: u64) -> Vec<u16> {
    let (topics, alpha, beta) = (config.topics, config.alpha as f32, config.beta as f32);
    let words_beta = (words as f64 * config.beta) as f32;
    let tokens: Vec<(usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(d, row)| row.iter().flat_map(move |(w, n)| (0..*n).map(move |_| (d, *w as usize))))
        .collect();
    let mut rng = stream(seed, "lda-init", &[0, 0]);
    let mut z: Vec<usize> = tokens.iter().map(|_| rng.below(topics)).collect();
    let mut n_dk = vec![vec![0.0f32; topics]; rows.len()];
    let mut n_wk = vec![vec![0.0f32; topics]; words];
    let mut n_k = vec![0.0f32; topics];
    for ((d, w), k) in tokens.iter().zip(&z) {
        n_dk[*d][*k] += 1.0;
        n_wk[*w][*k] += 1.0;
        n_k[*k] += 1.0;
    }
    for sweep in 0..sweeps {
        let mut rng = stream(seed, "lda-sweep", &[0, sweep]);
        for (token, (d, w)) in tokens.iter().enumerate() {
            let mut change = |k: usize, by: f32| {
                n_dk[*d][k] += by;
                n_wk[*w][k] += by;
                n_k[k] += by;
            };
            change(z[token], -1.0);
            let weights: Vec<f32> = (0..topics)
                .map(|k| (n_dk[*d][k] + alpha) * (1.0 / (n_k[k] + words_beta)) * (n_wk[*w][k] + beta))
                .collect();
            z[token] = draw_dense(&weights, rng.unit_f32());
            let k = z[token];
            n_dk[*d][k] += 1.0;
            n_wk[*w][k] += 1.0;
            n_k[k] += 1.0;
        }
    }
    z.iter().map(|k| *k as u16).collect()
}

#[test]
fn one_lane_is_the_plain_loop_bit_for_bit() {
    let rows = themes(40, 60, 1);
    for topics in [1, 2, 5, 16, 17, 20, 40, 100, 112, 130, 200] {
        let config = config(topics, Sampler::Dense);
        let mut serial = Serial::<Lda>::new(&config, data(&rows, 60, 1), 1, 1, 7).unwrap();
        (0..5).for_each(|_| serial.epoch().unwrap());
        assert_eq!(serial.locals[0].cells[0].topics, plain_loop(&rows, 60, &config, 7, 5), "{topics} topics");
    }
}

#[test]
fn every_instruction_level_gives_the_same_bits() {
    let rows = themes(60, 80, 2);
    for sampler in [Sampler::Dense, Sampler::Sparse, Sampler::Mh] {
        for topics in [1, 3, 17, 20, 36, 64, 100, 128, 300] {
            let run = |isa| {
                let config = config(topics, sampler);
                let mut serial = Serial::<Lda>::new(&config, data(&rows, 80, 2), 1, 1, 3).unwrap();
                serial.algorithm.isa = isa;
                (0..4).for_each(|_| serial.epoch().unwrap());
                serial.locals.into_iter().map(|local| local.cells[0].topics.clone()).collect::<Vec<_>>()
            };
            for isa in Isa::available() {
                assert_eq!(run(isa), run(Isa::Portable), "{isa:?}, {sampler:?}, {topics} topics");
            }
        }
    }
}

/// Both samplers draw from the formula's distribution: word 0 occurs once, in document 0, so that its token comes
/// first in either order and is drawn under the same counts in every trial.
#[test]
fn both_samplers_draw_from_the_formula() {
    let mut rows = themes(30, 40, 8);
    rows.iter_mut().for_each(|row| row.retain(|(word, _)| *word > 0));
    rows[0].insert(0, (0, 1));
    rows[0].insert(1, (1, 9));
    let (topics, trials, seed) = (20, 20_000, 11);
    for sampler in [Sampler::Dense, Sampler::Sparse] {
        let config = Config { beta: 0.5, ..config(topics, sampler) };
        let mut serial = Serial::<Lda>::new(&config, data(&rows, 40, 1), 1, 1, seed).unwrap();
        let start = (serial.params.replicas.clone(), serial.locals[0].cells[0].topics.clone());
        let weights = first_weights(&serial, &rows[0], &config);
        let mut drawn = vec![0.0; topics];
        for epoch in 0..trials {
            let block = &serial.blocks()[0].clone();
            let unit = Unit {
                block,
                epoch,
                clock: epoch,
                lane: 0,
                lanes: 1,
                row_block: 0,
                visit: 0,
                visits: 1,
                seed,
            };
            let (params, local) = (&mut serial.params, &mut serial.locals[0]);
            serial.algorithm.step(&unit, params, local, &mut Sums::default()).unwrap();
            drawn[usize::from(local.cells[0].topics[0])] += 1.0;
            serial.params.replicas.clone_from(&start.0);
            serial.locals[0].cells[0].topics.clone_from(&start.1);
        }
        let all: f64 = weights.iter().sum();
        let expected = weights.iter().map(|weight| weight / all * trials as f64);
        let chi_square: f64 =
            drawn.iter().zip(expected).map(|(seen, mean)| (seen - mean) * (seen - mean) / mean).sum();
        // 19 degrees of freedom: 43.8 is passed once in a thousand.
        assert!(chi_square < 43.8, "{sampler:?}, seed {seed}: {chi_square}, {drawn:?}");
    }
}

/// The weights of the first token's topics, without that token.
fn first_weights(serial: &Serial<Lda>, row: &[(u32, u32)], config: &Config) -> Vec<f64> {
    let local = &serial.locals[0].cells[0].topics;
    let length = row.iter().map(|(_, count)| *count as usize).sum();
    let (words, totals) = (serial.params.table::<i32>(WORD_TOPIC), serial.params.table::<i32>(TOTALS));
    let weight = |k: usize| {
        let own = f64::from(u8::from(usize::from(local[0]) == k));
        let in_document =
            local[..length].iter().filter(|topic| usize::from(**topic) == k).count() as f64 - own;
        let in_word = f64::from(words.row(0)[k]) - own;
        let all = f64::from(totals.row(0)[k]) - own + words.rows() as f64 * config.beta;
        (in_document + config.alpha) * (in_word + config.beta) / all
    };
    (0..config.topics).map(weight).collect()
}

/// The tables hold exactly the counts of the assignments.
fn assert_conserved(serial: &Serial<Lda>, topics: usize) {
    let counts = serial.params.table::<i32>(WORD_TOPIC);
    let mut expected = vec![vec![0; topics]; counts.rows()];
    for (block, local) in serial.blocks().iter().zip(&serial.locals) {
        let documents = documents(block).unwrap();
        let mut assigned = local.cells[0].topics.iter();
        for (word, count) in documents.words.iter().zip(&documents.counts) {
            assigned
                .by_ref()
                .take(*count as usize)
                .for_each(|k| expected[*word as usize][usize::from(*k)] += 1);
        }
    }
    for (word, expected) in expected.iter().enumerate() {
        assert_eq!(counts.row(word), expected, "word {word}");
        assert!(counts.padded(word)[topics..].iter().all(|padding| *padding == 0));
    }
    let sums = |k: usize| expected.iter().map(|row| row[k]).sum::<i32>();
    assert_eq!(serial.params.table::<i32>(TOTALS).row(0), (0..topics).map(sums).collect::<Vec<i32>>());
}

#[test]
fn counts_are_conserved_on_any_number_of_lanes() {
    let rows = themes(80, 60, 4);
    for sampler in [Sampler::Dense, Sampler::Sparse, Sampler::Mh] {
        for (topics, lanes, clocks) in [(7, 1, 1), (24, 2, 2), (100, 4, 1), (150, 3, 2)] {
            let serial = Serial::<Lda>::new(&config(topics, sampler), data(&rows, 60, 8), lanes, clocks, 5);
            let mut serial = serial.unwrap();
            assert_conserved(&serial, topics);
            (0..3).for_each(|_| serial.epoch().unwrap());
            assert_conserved(&serial, topics);
        }
    }
}

/// Goldens: `lda._lda._loglikelihood(nzw, ndz, nz, nd, alpha, eta)` of the Python package `lda` 3.0.2 with
/// counts made from these documents and topics (`nzw` in Fortran order, all `numpy.intc`).
#[test]
fn the_complete_log_likelihood_is_that_of_the_python_package() {
    let rows = [vec![(0, 2), (1, 1), (3, 1)], vec![(1, 1), (2, 3), (4, 1)], vec![], vec![(0, 1), (4, 2)]];
    let topics = [0, 1, 0, 2, 2, 2, 0, 1, 1, 0, 1, 1];
    for (alpha, beta, golden) in [(0.1, 0.01, -59.229_991_137_379_28), (0.5, 0.2, -39.448_922_103_583_7)] {
        let config = Config { alpha, beta, ..config(3, Sampler::Auto) };
        let metrics = fixed_metrics(data(&rows, 5, 1), &config, &topics);
        let value = metric(&metrics, "train_loglik");
        assert!((value - golden).abs() < 1e-9, "{value} is not {golden}");
        assert_eq!(metric(&metrics, "train_loglik_per_token"), value / 12.0);
    }
}

/// The metrics of a model in which the tokens have `topics`.
fn fixed_metrics(data: Data, config: &Config, topics: &[u16]) -> Vec<(&'static str, f64)> {
    let mut serial = Serial::<Lda>::new(config, data, 1, 1, 1).unwrap();
    for (table, replica) in serial.algorithm.tables().into_iter().zip(&mut serial.params.replicas) {
        *replica = dunlin::table::Replica::new(table, false);
    }
    serial.locals[0].cells[0].topics = topics.to_vec();
    let (block, local) = (&serial.blocks()[0].clone(), &serial.locals[0]);
    serial.algorithm.count(documents(block).unwrap(), &local.cells[0], &mut serial.params);
    serial.metrics(None)
}

#[test]
fn settings_are_checked() {
    let data = data(&themes(10, 20, 1), 20, 1);
    let error =
        |topics, alpha, beta| usage_error(&Config { topics, alpha, beta, sampler: Sampler::Auto }, &data);
    assert_eq!(error(0, 0.1, 0.01), "topics = 0; allowed are 1 to 65535");
    assert_eq!(error(65_536, 0.1, 0.01), "topics = 65536; allowed are 1 to 65535");
    assert_eq!(error(10, 0.0, 0.01), "alpha = 0; allowed are 1e-9 to 1e9");
    assert_eq!(error(10, 0.1, f64::NAN), "beta = NaN; allowed are 1e-9 to 1e9");
    let mut other = data.clone();
    other.shape.kind = Kind::Ratings;
    assert!(usage_error(&Config::default(), &other).contains("the data are Ratings"));
    let unknown = serde_json::from_str::<Config>(r#"{"topic": 5}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `topic`"), "{unknown}");
    let parsed: Config = serde_json::from_str(r#"{"topics": 5, "sampler": "sparse"}"#).unwrap();
    assert_eq!(parsed, config(5, Sampler::Sparse));
}

#[test]
fn a_word_outside_the_vocabulary_is_an_error() {
    let mut data = data(&themes(10, 20, 1), 20, 1);
    data.shape.columns = 19;
    let Contents::Documents(documents) = &mut data.blocks[0].contents else { panic!("documents") };
    documents.words[0] = 19;
    let error = Serial::<Lda>::new(&config(3, Sampler::Auto), data, 1, 1, 1).unwrap_err().to_string();
    assert_eq!(error, "block 0: word 19; words are numbered 0 to 18");
}

#[test]
fn test_documents_are_completed_and_predicted() {
    let rows = themes(200, 50, 6);
    let (train, mut test) = (data(&rows[..150], 50, 2), data(&rows[150..], 50, 1));
    let mut serial = Serial::<Lda>::new(&config(5, Sampler::Auto), train, 1, 1, 2).unwrap();
    let before = metric(&serial.metrics(Some(&test)), "heldout_loglik_per_token");
    (0..50).for_each(|_| serial.epoch().unwrap());
    let after = metric(&serial.metrics(Some(&test)), "heldout_loglik_per_token");
    // Uniform words would give -ln 50 = -3.9.
    assert!(after > before + 0.3 && after < -1.0, "{before} to {after}");
    let Contents::Documents(documents) = &mut test.blocks[0].contents else { panic!("documents") };
    documents.words[0] = dunlin::data::UNKNOWN;
    let mut seen = 0;
    let predicted = serial.algorithm.predict(&test.blocks[0], &serial.params, &mut |row, theta| {
        assert_eq!((row, theta.len()), (seen, 5));
        assert!((theta.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        seen += 1;
    });
    predicted.unwrap();
    assert_eq!(seen, 50);
    assert!(metric(&serial.metrics(Some(&test)), "heldout_loglik_per_token").is_finite());
    // Where no token is held out there is nothing to tell.
    let empty = serial.metrics(Some(&data(&[vec![], vec![]], 50, 1)));
    assert!(empty.iter().all(|(name, _)| !name.starts_with("heldout")), "{empty:?}");
}

#[test]
fn top_words_are_the_most_frequent_ones() {
    let rows = [vec![(0, 3), (1, 1), (2, 1)]];
    let mut serial = Serial::<Lda>::new(&config(2, Sampler::Auto), data(&rows, 3, 1), 1, 1, 1).unwrap();
    let [mut counts] = serial.params.tables_mut::<i32, 1>([WORD_TOPIC]);
    for (word, row) in [[3, 0], [1, 1], [1, 2]].into_iter().enumerate() {
        counts.row_mut(word).copy_from_slice(&row);
    }
    let names = Names { rows: vec![], columns: vec!["tea".into(), "cup".into()], ..Names::default() };
    assert_eq!(top_words(&serial.params, &names, 2), [vec!["tea", "cup"], vec!["2", "cup"]]);
}

/// A docword file of the shared data sets; `None`, said loudly, if they are not there.
fn shared(path: &str) -> Option<(Rows, usize)> {
    let path = format!("{}/../../../shared/data/{path}", env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new("gzip").args(["-dc", &path]).output().unwrap();
    if !output.status.success() {
        eprintln!("SKIPPED: {path} cannot be read");
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse::<u32>().unwrap());
    let mut next = || numbers.next();
    let (documents, words, _) = (next()?, next()?, next()?);
    let mut rows = vec![Vec::new(); documents as usize];
    while let (Some(document), Some(word), Some(count)) = (next(), next(), next()) {
        rows[document as usize - 1].push((word - 1, count));
    }
    Some((rows, words as usize))
}

#[test]
fn reuters_reaches_the_python_package_on_one_two_and_four_lanes() {
    let Some((rows, words)) = shared("reuters-395/docword.reuters395.txt.gz") else { return };
    let config = config(20, Sampler::Auto);
    let sparse = Config { sampler: Sampler::Sparse, ..config.clone() };
    let mh = Config { sampler: Sampler::Mh, ..config.clone() };
    // The package starts token i at topic i mod 20; its published log-likelihood there is -1,051,748.
    let tokens: u32 = rows.iter().flatten().map(|(_, count)| *count).sum();
    let start: Vec<u16> = (0..tokens).map(|token| (token % 20) as u16).collect();
    let loglik = metric(&fixed_metrics(data(&rows, words, 1), &config, &start), "train_loglik");
    assert!((loglik + 1_051_747.546_865_064_7).abs() < 1e-4, "{loglik}");
    // A sweep of Metropolis-Hastings steps moves less than one of draws.
    for (config, lanes, sweeps, tolerance) in [
        (&config, 1, 100, 0.005),
        (&sparse, 1, 100, 0.005),
        (&mh, 1, 500, 0.01),
        (&config, 2, 100, 0.01),
        (&mh, 4, 500, 0.02),
    ] {
        let mut serial = Serial::<Lda>::new(config, data(&rows, words, 4), lanes, 1, 1).unwrap();
        (0..sweeps).for_each(|_| serial.epoch().unwrap());
        let loglik = metric(&serial.metrics(None), "train_loglik");
        let difference = (loglik + 672_761.0) / 672_761.0;
        assert!(difference.abs() < tolerance, "{lanes} lanes, seed 1: {loglik}, off by {difference:.4}");
    }
}

/// A run under `rotation` with three lanes.
fn rotated(config: &Config, workers: usize, seed: u64) -> dunlin::event::Outcome {
    let source = Source::new(data(&themes(90, 60, 4), 60, 6), Some(data(&themes(20, 60, 5), 60, 2)));
    let run = crate::run("lda", "documents").expect("known");
    let mut run = dunlin::run::Run { workers, lanes: 3, strategy: StrategySpec::Rotation, seed, ..run };
    run.settings = serde_json::to_value(config).expect("a value");
    run.stop.epochs = 60;
    crate::train(&Cluster::Threads(workers), &run, &source).expect("trained")
}

#[test]
fn word_blocks_go_round_to_the_same_bits_on_any_number_of_workers() {
    for (topics, sampler) in [(20, Sampler::Dense), (40, Sampler::Sparse), (40, Sampler::Mh)] {
        let config = config(topics, sampler);
        let first = rotated(&config, 1, 1);
        let (error, count) = first.report.merge_error["totals"];
        assert!(error > 0.0 && error < 0.5 * count as f64, "{error} over {count} laps and lanes");
        for workers in [2, 3] {
            assert_eq!(rotated(&config, workers, 1).metrics, first.metrics, "{workers} workers");
        }
        // The same collapsed posterior as with all words at hand.
        let (mut mean, mut alone) = (0.0, 0.0);
        for seed in 1..=6 {
            mean += rotated(&config, 1, seed).metrics["train_loglik_per_token"] / 6.0;
            let mut serial =
                Serial::<Lda>::new(&config, data(&themes(90, 60, 4), 60, 6), 1, 1, seed).unwrap();
            (0..60).for_each(|_| serial.epoch().expect("finite"));
            alone += metric(&serial.metrics(None), "train_loglik_per_token") / 6.0;
        }
        assert!((mean - alone).abs() < 0.05, "{sampler:?}: {mean}, alone {alone}");
    }
}
