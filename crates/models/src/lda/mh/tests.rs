use super::super::{Config, Lda, Sampler};
use super::*;
use dunlin::data::{Block, Contents, Data, Kind, Names, Shape};
use dunlin::rng::stream;
use dunlin::serial::Serial;
use libm::lgamma;

/// A document as a list of (word, count).
type Row<'a> = &'a [(u32, u32)];

fn documents(rows: &[Row]) -> Documents {
    let mut documents = Documents { offsets: vec![0], ..Documents::default() };
    for row in rows {
        documents.words.extend(row.iter().map(|(word, _)| word));
        documents.counts.extend(row.iter().map(|(_, count)| count));
        documents.offsets.push(documents.words.len() as u32);
    }
    documents
}

/// One block for every list of rows.
fn data(blocks: &[&[Row]], words: usize) -> Data {
    let rows: Vec<Row> = blocks.concat();
    let shape = Shape {
        kind: Kind::Documents,
        rows: rows.len(),
        columns: words,
        entries: rows.iter().map(|row| row.len()).sum(),
        samples: rows.concat().iter().map(|(_, count)| *count as usize).sum(),
        classes: Vec::new(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    let mut first_row = 0;
    let block = |(id, rows): (usize, &&[Row])| {
        let contents = Contents::Documents(documents(rows));
        let block = Block { id: id as u32, first_row, end_row: first_row + rows.len(), contents };
        first_row += rows.len();
        block
    };
    Data { shape, names: Names::default(), blocks: blocks.iter().enumerate().map(block).collect() }
}

/// log p(w, z) but for a constant, from the counts of `topics`.
fn log_joint(rows: &[Row], words: usize, config: &Config, topics: &[u16]) -> f64 {
    let (alpha, beta, k) = (config.alpha, config.beta, config.topics);
    let (mut in_word, mut token, mut sum) = (vec![vec![0.0; k]; words], 0, 0.0);
    for row in rows {
        let mut in_document = vec![0.0; k];
        for (word, count) in *row {
            for _ in 0..*count {
                in_document[usize::from(topics[token])] += 1.0;
                in_word[*word as usize][usize::from(topics[token])] += 1.0;
                token += 1;
            }
        }
        sum += in_document.iter().map(|count| lgamma(count + alpha)).sum::<f64>();
    }
    for topic in 0..k {
        sum += in_word.iter().map(|row| lgamma(row[topic] + beta)).sum::<f64>();
        let total: f64 = in_word.iter().map(|row| row[topic]).sum();
        sum -= lgamma(total + words as f64 * beta);
    }
    sum
}

/// The posterior of every assignment; assignment c has the topics that are the digits of c, lowest first.
fn posterior(rows: &[Row], words: usize, config: &Config) -> Vec<f64> {
    let tokens: u32 = rows.concat().iter().map(|(_, count)| *count).sum();
    let cells = config.topics.pow(tokens);
    let topics =
        |cell| (0..tokens).map(move |token| (cell / config.topics.pow(token) % config.topics) as u16);
    let weight = |cell| log_joint(rows, words, config, &topics(cell).collect::<Vec<u16>>()).exp();
    let weights: Vec<f64> = (0..cells).map(weight).collect();
    let all: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / all).collect()
}

/// Every assignment comes up as often as its posterior says, to five standard errors. These are found from the
/// means of a hundred batches of sweeps, since neighbouring sweeps are much alike.
fn assert_exact(blocks: &[&[Row]], words: usize, config: &Config) {
    let (seed, batches, sweeps) = (3, 100, 2_500);
    let exact = posterior(&blocks.concat(), words, config);
    let mut serial = Serial::<Lda>::new(config, data(blocks, words), 1, 1, seed).unwrap();
    (0..50).for_each(|_| serial.epoch().unwrap());
    let (mut means, mut squares) = (vec![0.0; exact.len()], vec![0.0; exact.len()]);
    for _ in 0..batches {
        let mut seen = vec![0.0; exact.len()];
        for _ in 0..sweeps {
            serial.epoch().unwrap();
            let topics = serial.locals.iter().flat_map(|local| &local.cells[0].topics);
            let (cell, _) = topics.fold((0, 1), |(cell, place), topic| {
                (cell + place * usize::from(*topic), place * config.topics)
            });
            seen[cell] += 1.0 / f64::from(sweeps);
        }
        for (cell, seen) in seen.into_iter().enumerate() {
            means[cell] += seen / f64::from(batches);
            squares[cell] += seen * seen / f64::from(batches);
        }
    }
    for (cell, expected) in exact.into_iter().enumerate() {
        let variance = (squares[cell] - means[cell] * means[cell]) / f64::from(batches - 1);
        // The batches of a rare assignment may happen to be too much alike: no less than independent draws.
        let error = variance.max(expected / f64::from(batches * sweeps)).sqrt();
        let off = (means[cell] - expected) / error;
        assert!(off.abs() < 5.0, "seed {seed}, cell {cell}: {} for {expected}, {off:.2} errors", means[cell]);
    }
}

fn config(topics: usize, alpha: f64, beta: f64) -> Config {
    Config { topics, alpha, beta, sampler: Sampler::Mh }
}

#[test]
fn all_assignments_to_three_topics_have_their_posterior() {
    let block: &[Row] = &[&[(0, 2), (1, 1)], &[(1, 1), (2, 1)], &[(0, 1)]];
    assert_exact(&[block], 3, &config(3, 0.5, 0.3));
}

/// With two blocks the counts by word within a block are not those of the table.
#[test]
fn all_assignments_of_two_blocks_have_their_posterior() {
    let blocks: [&[Row]; 2] = [&[&[(0, 2), (1, 1)], &[(0, 1), (1, 1)]], &[&[(0, 1), (1, 2)]]];
    assert_exact(&blocks, 2, &config(2, 0.4, 0.6));
}

#[test]
fn counts_of_documents_of_any_length_are_those_of_a_plain_loop() {
    for topics in [1u16, 5, 900, 65_535] {
        let lengths = [40, 0, 1, 1600, 65_540];
        let mut rng = stream(5, "counts-test", &[u64::from(topics)]);
        let mut assigned: Vec<u16> = (0..67_181).map(|_| rng.below(usize::from(topics)) as u16).collect();
        let mut counts = Counts::new(&lengths, &assigned, usize::from(topics));
        let mut start = 0;
        for (document, length) in lengths.into_iter().enumerate() {
            let span = counts.spans[document];
            assert_eq!((span.start as usize, span.length as usize), (start, length));
            // As many moves as a sweep makes: one of each token.
            for topic in assigned[start..start + length].iter_mut().take(1600) {
                counts.take(span, *topic);
                *topic = rng.below(usize::from(topics)) as u16;
                counts.put(span, *topic);
            }
            let mut expected = vec![0; usize::from(topics)];
            let own = &assigned[start..start + length];
            own.iter().for_each(|topic| expected[usize::from(*topic)] += 1);
            let found: Vec<u32> = (0..topics).map(|topic| counts.get(span, topic)).collect();
            assert_eq!(found, expected, "seed 5, document {document}, {topics} topics");
            start += length;
        }
    }
}

#[test]
fn a_source_draws_the_others_and_all_topics_by_weight() {
    let mut rng = stream(6, "source-test", &[]);
    for (others, own, weight) in [(0, 0, 0.1f32), (1, 1, 0.5), (7, 3, 2.0), (9, 0, 0.001)] {
        let source = Source::new(weight, 5);
        let (mut places, mut topics, draws) = (vec![0.0; others as usize + 1], [0.0; 5], 100_000);
        for _ in 0..draws {
            match source.draw((rng.next() >> 32) as u32, others, own) {
                (place, NONE) => places[place as usize] += 1.0 / f64::from(draws),
                (_, topic) => topics[usize::from(topic)] += 1.0 / f64::from(draws),
            }
        }
        let all = f64::from(others) + 5.0 * f64::from(weight);
        let near = |share: f64, weight: f64| (share - weight / all).abs() < 0.008;
        for (place, share) in places.iter().enumerate() {
            let weight = f64::from(u8::from(place != own as usize));
            assert!(near(*share, weight), "seed 6, {others} others, place {place}: {share}");
        }
        assert!(topics.iter().all(|share| near(*share, f64::from(weight))), "seed 6: {topics:?}");
    }
}

#[test]
fn the_order_visits_every_token_by_its_word() {
    let documents = documents(&[&[(0, 2), (2, 3)], &[(2, 1)], &[(0, 1), (1, 1), (2, 2)]]);
    // Other cells have two tokens of the first document.
    let order = Order::new(&documents, &[0, 7, 8]);
    let runs: Vec<(u32, u32, u32)> = order.runs.iter().map(|run| (run.word, run.first, run.end)).collect();
    assert_eq!(runs, [(0, 0, 3), (1, 3, 4), (2, 4, 10)]);
    let tokens: Vec<u32> = order.tokens.iter().map(|token| token.token).collect();
    assert_eq!(tokens, [0, 1, 8, 9, 2, 3, 4, 7, 10, 11]);
    assert!(order.is_of(10) && !order.is_of(0));
}

/// What is not written to a checkpoint does not matter to the run.
#[test]
fn a_state_that_was_written_and_read_goes_on_to_the_same_bits() {
    let blocks: [&[Row]; 2] = [&[&[(0, 9), (1, 4), (3, 7)], &[(0, 5), (2, 8)]], &[&[(0, 6), (1, 7), (2, 3)]]];
    let run = |read: bool| {
        let mut serial = Serial::<Lda>::new(&config(40, 0.1, 0.01), data(&blocks, 4), 1, 1, 5).unwrap();
        for epoch in 0..6 {
            for local in serial.locals.iter_mut().filter(|_| read && epoch == 3) {
                *local = serde_json::from_value(serde_json::to_value(&*local).unwrap()).unwrap();
            }
            serial.epoch().unwrap();
        }
        serial.locals.into_iter().map(|local| local.cells[0].topics.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
}
