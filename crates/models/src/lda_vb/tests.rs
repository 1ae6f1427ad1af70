//! Tests of `lda-vb` against a plain loop in double precision, and of what a bound promises.

use super::digamma::digamma;
use super::*;
use crate::lda::tests::{Rows, data, metric, themes};
use dunlin::Data;
use dunlin::comm::Cluster;
use dunlin::data::{UNKNOWN, read};
use dunlin::rng::stream;
use dunlin::run::Run;
use dunlin::serial::{Serial, block_order, share};
use dunlin::train::Source;
use libm::lgamma;

const SEED: u64 = 4;

fn config(topics: usize) -> Config {
    Config { topics, ..Config::default() }
}

fn batch(topics: usize) -> Config {
    Config { batch: 0, start: Start::Warm, ..config(topics) }
}

fn serial(config: &Config, data: Data, lanes: usize) -> Serial<LdaVb> {
    let clocks = LdaVb::new(config, &data.shape).expect("valid").clocks_per_epoch(&[], lanes);
    Serial::new(config, data, lanes, clocks, SEED).expect("valid")
}

fn lambda(run: &Serial<LdaVb>) -> Vec<Vec<f64>> {
    let table = run.params.table::<f32>(LAMBDA);
    (0..table.rows()).map(|word| table.row(word).iter().map(|value| f64::from(*value)).collect()).collect()
}

fn bound(run: &Serial<LdaVb>) -> f64 {
    metric(&run.metrics(None), "train_bound_per_token")
}

/// E[log β], words by topics.
fn slow_logs(lambda: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let topics = lambda[0].len();
    let totals: Vec<f64> = (0..topics).map(|k| lambda.iter().map(|row| row[k]).sum()).collect();
    let row = |row: &Vec<f64>| (0..topics).map(|k| digamma(row[k]) - digamma(totals[k])).collect();
    lambda.iter().map(row).collect()
}

/// φ of every word of a document, and E[log θ].
fn slow_phi(row: &[(u32, u32)], gamma: &[f64], logs: &[Vec<f64>]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let all = digamma(gamma.iter().sum());
    let theta: Vec<f64> = gamma.iter().map(|gamma| digamma(*gamma) - all).collect();
    let phi = |(word, _): &(u32, u32)| {
        let own = logs[*word as usize].iter().zip(&theta).map(|(a, b)| (a + b).exp());
        let own: Vec<f64> = own.collect();
        let sum: f64 = own.iter().sum();
        own.iter().map(|value| value / sum).collect()
    };
    (row.iter().map(phi).collect(), theta)
}

/// γ after all rounds from all ones.
fn slow_gamma(row: &[(u32, u32)], logs: &[Vec<f64>], config: &Config) -> Vec<f64> {
    let mut gamma = vec![1.0; config.topics];
    for _ in 0..config.e_step_rounds {
        let (phi, _) = slow_phi(row, &gamma, logs);
        gamma.fill(config.alpha);
        for (phi, (_, count)) in phi.iter().zip(row) {
            gamma.iter_mut().zip(phi).for_each(|(gamma, phi)| *gamma += f64::from(*count) * phi);
        }
    }
    gamma
}

/// One batch in double precision.
fn slow_clock(rows: &[&Vec<(u32, u32)>], all: usize, lambda: &mut [Vec<f64>], config: &Config, rho: f64) {
    let logs = slow_logs(lambda);
    let scale = all as f64 / rows.len() as f64;
    lambda.iter_mut().flatten().for_each(|value| *value = (1.0 - rho) * *value + rho * config.beta);
    for row in rows {
        let (phi, _) = slow_phi(row, &slow_gamma(row, &logs, config), &logs);
        for (phi, (word, count)) in phi.iter().zip(*row) {
            let own = lambda[*word as usize].iter_mut().zip(phi);
            own.for_each(|(value, phi)| *value += rho * scale * f64::from(*count) * phi);
        }
    }
}

/// The bound of equation 4, with φ written out.
fn slow_bound(rows: &Rows, lambda: &[Vec<f64>], config: &Config) -> f64 {
    let (logs, topics) = (slow_logs(lambda), config.topics);
    let dirichlet = |own: &[f64], logs: &[f64], prior: f64| {
        let terms = own.iter().zip(logs).map(|(own, log)| (prior - own) * log + lgamma(*own) - lgamma(prior));
        terms.sum::<f64>() + lgamma(prior * own.len() as f64) - lgamma(own.iter().sum())
    };
    let column = |rows: &[Vec<f64>], k: usize| -> Vec<f64> { rows.iter().map(|row| row[k]).collect() };
    let topic = |k| dirichlet(&column(lambda, k), &column(&logs, k), config.beta);
    let mut bound: f64 = (0..topics).map(topic).sum();
    for row in rows {
        let gamma = slow_gamma(row, &logs, config);
        let (phi, theta) = slow_phi(row, &gamma, &logs);
        bound += dirichlet(&gamma, &theta, config.alpha);
        for (phi, (word, count)) in phi.iter().zip(row) {
            let terms = (0..topics).filter(|k| phi[*k] > 0.0);
            let sum: f64 = terms.map(|k| phi[k] * (theta[k] + logs[*word as usize][k] - phi[k].ln())).sum();
            bound += f64::from(*count) * sum;
        }
    }
    bound
}

fn tokens(rows: &Rows) -> f64 {
    rows.iter().flatten().map(|(_, count)| f64::from(*count)).sum()
}

fn assert_close(run: &Serial<LdaVb>, slow: &[Vec<f64>], what: &str) {
    for (word, (own, slow)) in lambda(run).iter().zip(slow).enumerate() {
        for (topic, (own, slow)) in own.iter().zip(slow).enumerate() {
            let gap = (own - slow).abs();
            assert!(gap < 2e-3 * slow + 1e-5, "{what}, word {word}, topic {topic}: {own} for {slow}");
        }
    }
}

#[test]
fn batches_are_those_of_a_slow_loop_in_double_precision() {
    let rows = themes(40, 60, 1);
    for (topics, lanes) in [(1, 1), (3, 1), (9, 3), (20, 1)] {
        let settings = Config { batch: 0, e_step_rounds: 12, tolerance: 0.0, topics, ..Config::default() };
        let mut run = serial(&settings, data(&rows, 60, 6), lanes);
        let mut slow = lambda(&run);
        for epoch in 0..4 {
            run.epoch().expect("finite");
            slow_clock(&rows.iter().collect::<Vec<_>>(), 40, &mut slow, &settings, 1.0);
            assert_close(&run, &slow, &format!("{topics} topics, {lanes} lanes, epoch {epoch}"));
            let exact = slow_bound(&rows, &slow, &settings) / tokens(&rows);
            let got = bound(&run);
            assert!((got - exact).abs() < 1e-4, "{topics} topics, epoch {epoch}: {got} for {exact}");
        }
    }
}

#[test]
fn mini_batches_are_blended_as_the_paper_says() {
    let rows = themes(48, 60, 2);
    let settings =
        Config { batch: 12, e_step_rounds: 10, tolerance: 0.0, tau0: 2.0, kappa: 0.8, ..config(7) };
    let mut run = serial(&settings, data(&rows, 60, 8), 1);
    let mut slow = lambda(&run);
    let mut clock = 0.0;
    for epoch in 0..2 {
        run.epoch().expect("finite");
        let order = block_order(SEED, 0, epoch, 8);
        for part in 0..4 {
            let blocks = order[share(8, 4, part)].iter();
            let rows: Vec<_> = blocks.flat_map(|block| &rows[share(48, 8, *block)]).collect();
            slow_clock(&rows, 48, &mut slow, &settings, (2.0f64 + clock).powf(-0.8));
            clock += 1.0;
        }
    }
    assert_close(&run, &slow, "two passes");
}

#[test]
fn the_bound_rises_in_every_batch_epoch() {
    let rows = themes(80, 50, 3);
    for (topics, alpha, beta) in
        [(5, 0.1, 0.01), (12, 0.01, 0.01), (30, 0.5, 0.1), (1, 0.1, 0.01), (8, 1e-4, 1e-4)]
    {
        let settings = Config { alpha, beta, ..batch(topics) };
        let mut run = serial(&settings, data(&rows, 50, 4), 2);
        let first = bound(&run);
        let mut last = first;
        for epoch in 0..25 {
            run.epoch().expect("finite");
            let now = bound(&run);
            assert!(
                now > last - 2e-6,
                "{topics} topics, α {alpha}, seed {SEED}, epoch {epoch}: {now} after {last}"
            );
            last = now;
        }
        assert!(last > first + 0.1, "{first} to {last}");
    }
}

#[test]
fn extreme_priors_stay_finite() {
    let rows = themes(40, 30, 5);
    for (alpha, beta) in [(1e-6, 1e-6), (1e6, 1e6), (1e-6, 1e6), (1e6, 1e-6), (0.001, 0.001)] {
        for batch in [0, 10] {
            let settings = Config { alpha, beta, batch, ..config(40) };
            let mut run = serial(&settings, data(&rows, 30, 4), 1);
            (0..5).for_each(|_| run.epoch().expect("finite"));
            assert!(bound(&run).is_finite(), "α {alpha}, β {beta}");
            for row in lambda(&run) {
                assert!(
                    row.iter().all(|value| value.is_finite() && *value > 0.0),
                    "α {alpha}, β {beta}: {row:?}"
                );
            }
            // All tokens are somewhere.
            if batch == 0 {
                let sum: f64 =
                    lambda(&run).iter().flatten().map(|value| value - f64::from(beta as f32)).sum();
                let size = tokens(&rows).max(1200.0 * beta);
                assert!((sum - tokens(&rows)).abs() < 1e-4 * size, "α {alpha}, β {beta}: {sum}");
            }
        }
    }
}

/// A run with three lanes.
fn run_of(settings: &Config, workers: usize, epochs: usize) -> Run {
    let mut run = Run { workers, lanes: 3, ..crate::run("lda-vb", "documents").expect("known") };
    run.settings = serde_json::to_value(settings).expect("a value");
    run.stop.epochs = epochs;
    run
}

fn source() -> Source {
    Source::new(data(&themes(90, 60, 4), 60, 12), Some(data(&themes(20, 60, 5), 60, 2)))
}

#[test]
fn three_lanes_give_the_same_bits_on_any_number_of_workers() {
    for settings in [config(17), Config { batch: 30, ..config(17) }, batch(6)] {
        let train = |workers| {
            let run = run_of(&settings, workers, 4);
            crate::train(&Cluster::Threads(workers), &run, &source()).expect("trained").metrics
        };
        let first = train(1);
        assert!(first["train_bound_per_token"].is_finite() && first["heldout_loglik_per_token"].is_finite());
        for workers in [2, 3] {
            assert_eq!(train(workers), first, "{workers} workers");
        }
    }
}

#[test]
fn a_run_goes_on_to_the_same_bits() {
    let folder = std::env::temp_dir().join(format!("dunlin-lda-vb-{}", std::process::id()));
    for settings in [Config { batch: 30, ..config(9) }, Config { batch: 30, start: Start::Warm, ..config(9) }]
    {
        let train = |epochs, resume, out| {
            let mut run = Run { out, resume, ..run_of(&settings, 1, epochs) };
            run.checkpoint.epochs = usize::from(run.out.is_some());
            crate::train(&Cluster::Threads(1), &run, &source()).expect("trained").metrics
        };
        let whole = train(5, false, None);
        let part = train(2, false, Some(folder.clone()));
        let resumed = train(5, true, Some(folder.clone()));
        assert_ne!(part, whole);
        assert_eq!(resumed, whole);
        std::fs::remove_dir_all(&folder).expect("was written");
    }
}

#[test]
fn held_out_documents_are_predicted_about_as_well_as_by_sampling() {
    let options = Default::default();
    let train = read("sample:documents", &options, None).expect("shipped");
    let test = read("sample:documents-test", &options, Some(&train)).expect("shipped");
    let held_out = |model: &str, set: serde_json::Value, epochs| {
        let mut run = crate::run(model, "sample:documents").expect("known");
        set.as_object().expect("an object").iter().for_each(|(key, value)| run.settings[key] = value.clone());
        run.stop.epochs = epochs;
        let source = Source::new(train.clone(), Some(test.clone()));
        let outcome = crate::train(&Cluster::Threads(1), &run, &source).expect("trained");
        outcome.metrics["heldout_loglik_per_token"]
    };
    let sampled = held_out("lda", serde_json::json!({"topics": 10}), 100);
    for set in [
        serde_json::json!({"topics": 10, "batch": 64}),
        // From proportions of the epoch before, all documents at once would stay near where they began.
        serde_json::json!({"topics": 10, "batch": 0, "start": "cold"}),
    ] {
        let found = held_out("lda-vb", set.clone(), 100);
        assert!((found - sampled).abs() < 0.15, "{set}: {found}, sampled {sampled}");
    }
}

#[test]
fn one_topic_is_the_share_of_every_word() {
    let rows = themes(30, 20, 6);
    let mut run = serial(&batch(1), data(&rows, 20, 2), 1);
    run.epoch().expect("finite");
    let mut counts = [0.01f64; 20];
    rows.iter().flatten().for_each(|(word, count)| counts[*word as usize] += f64::from(*count));
    for (own, count) in lambda(&run).iter().zip(counts) {
        assert!((own[0] - count).abs() < 1e-4 * count, "{} for {count}", own[0]);
    }
}

#[test]
fn empty_documents_and_unknown_words_do_no_harm() {
    let mut rows: Rows = vec![vec![]; 4];
    rows.push(vec![(2, 3), (5, 1)]);
    rows.push(vec![]);
    let mut test = data(&[vec![(1, 2), (2, 4)], vec![]], 7, 1);
    let Contents::Documents(documents) = &mut test.blocks[0].contents else { panic!("documents") };
    documents.words[0] = UNKNOWN;
    for settings in [batch(3), Config { batch: 2, ..config(3) }] {
        let mut run = serial(&settings, data(&rows, 7, 3), 1);
        (0..3).for_each(|_| run.epoch().expect("finite"));
        let metrics = run.metrics(Some(&test));
        assert!(metrics.iter().all(|(_, value)| value.is_finite()), "{metrics:?}");
        assert!(metrics.iter().any(|(name, _)| name.starts_with("heldout")), "{metrics:?}");
        // Where no token is held out there is nothing to tell.
        let none = run.metrics(Some(&data(&[vec![], vec![]], 7, 1)));
        assert!(none.iter().all(|(name, _)| !name.starts_with("heldout")), "{none:?}");
        let mut seen = 0;
        let mut out = |row: usize, theta: &[f32]| {
            assert_eq!((row, theta.len()), (seen, 3));
            assert!((theta.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            seen += 1;
        };
        run.algorithm.predict(&test.blocks[0], &run.params, &mut out).expect("documents");
        assert_eq!(seen, 2);
    }
    let mut run = serial(&batch(2), data(&vec![vec![]; 3], 4, 1), 1);
    run.epoch().expect("nothing to learn");
    assert!(bound(&run).is_finite());
}

#[test]
fn topics_are_told_by_their_words() {
    let mut run = serial(&batch(2), data(&[vec![(0, 3), (1, 1), (2, 1)]], 3, 1), 1);
    let mut table = run.params.table_mut::<f32>(LAMBDA);
    for (word, row) in [[6.0, 0.01], [2.0, 1.0], [2.0, 3.0]].iter().enumerate() {
        table.row_mut(word).copy_from_slice(row);
    }
    topics::renew(&mut run.params);
    let names = Names { rows: vec![], columns: vec!["tea".into(), "cup".into()], ..Names::default() };
    let mut files = Vec::new();
    let mut out = |name: &str, text: String| files.push((name.to_string(), text));
    run.algorithm.readable(&data(&[vec![]], 3, 1).shape, &names, &run.params, &mut out);
    let wanted =
        "topic 0 (10 tokens): tea 0.6000, cup 0.2000, 2 0.2000\ntopic 1 (4 tokens): 2 0.7481, cup 0.2494\n";
    assert_eq!(files, [("topics.txt".to_string(), wanted.to_string())]);
}

#[test]
fn bad_settings_and_data_are_named() {
    let good = data(&themes(10, 20, 1), 20, 1);
    let refuse = |settings: Config, what: &str| {
        let error = LdaVb::new(&settings, &good.shape).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    refuse(config(0), "topics = 0; allowed are 1 to 65535");
    refuse(Config { alpha: 0.0, ..config(2) }, "alpha = 0; allowed are 1e-6 to 1e6");
    refuse(Config { beta: f64::NAN, ..config(2) }, "beta = NaN;");
    refuse(Config { kappa: 0.5, ..config(2) }, "kappa = 0.5; allowed are numbers above 0.5, up to 1");
    refuse(Config { tau0: 0.5, ..config(2) }, "tau0 = 0.5;");
    refuse(Config { tolerance: -1.0, ..config(2) }, "tolerance = -1;");
    refuse(Config { e_step_rounds: 0, ..config(2) }, "e_step_rounds = 0;");
    let mut labelled = good.shape.clone();
    labelled.kind = Kind::Labelled;
    assert!(LdaVb::new(&config(2), &labelled).is_err());
    let mut wrong = data(&themes(10, 20, 1), 20, 1);
    wrong.shape.columns = 19;
    let Contents::Documents(documents) = &mut wrong.blocks[0].contents else { panic!("documents") };
    documents.words[0] = 19;
    let error = Serial::<LdaVb>::new(&config(3), wrong, 1, 1, 1).expect_err("refused").to_string();
    assert_eq!(error, "block 0: word 19; words are numbered 0 to 18");
}

#[test]
fn many_short_documents_of_random_words_stay_apart_from_trouble() {
    // Single tokens and heavy ones, more topics than words: weights at both ends of what f32 can hold.
    let mut rng = stream(SEED, "short", &[]);
    let mut rows: Rows = (0..60).map(|_| vec![(rng.below(9) as u32, 1)]).collect();
    rows.push((0..9).map(|word| (word, 100_000)).collect());
    for alpha in [0.001, 0.1] {
        let settings = Config { alpha, batch: 7, ..config(50) };
        let mut run = serial(&settings, data(&rows, 9, 9), 1);
        (0..4).for_each(|_| run.epoch().expect("finite"));
        assert!(bound(&run).is_finite(), "α {alpha}");
    }
}
