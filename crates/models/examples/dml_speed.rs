//! Trains `dml` in one thread and prints one JSON line per data set and one of means: seconds and the error of
//! three nearest neighbours.
//!
//! `cargo run --release --example dml_speed -- EPOCHS PREFIX [PREFIX ...] [key=value ...]` reads PREFIX.train and
//! PREFIX.test (`class value value ...` per line) and PREFIX.pairs (`row row` of the training file per line).
//! Trains at most EPOCHS; stops sooner once the loss on the pairs held out no longer falls. Keys are the
//! model's settings and `seed`.

use dunlin::comm::time::Clock;
use dunlin::data::{Contents, DenseRows, Kind, Names, Pairing, pair};
use dunlin::serial::Serial;
use dunlin::{Block, Data, Shape};
use dunlin_models::dml::{Config, Dml};
use std::error::Error;

fn numbers<T: std::str::FromStr>(path: String) -> Result<Vec<Vec<T>>, Box<dyn Error>>
where
    T::Err: Error + 'static,
{
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    text.lines().map(|line| Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)).collect()
}

fn data<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> Data {
    let mut dense = DenseRows::default();
    for row in rows {
        dense.width = row.len() - 1;
        dense.classes.push(row[0] as u32);
        dense.values.extend(&row[1..]);
    }
    let rows = dense.classes.len();
    let last = dense.classes.iter().max().copied().unwrap_or(0);
    let shape = Shape {
        kind: Kind::Labelled,
        rows,
        columns: dense.width,
        entries: dense.values.len(),
        samples: rows,
        classes: (0..=i64::from(last)).collect(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    let block = Block { id: 0, first_row: 0, end_row: rows, contents: Contents::Dense(dense) };
    Data { shape, names: Names::default(), blocks: vec![block] }
}

fn metric(model: &Serial<Dml>, name: &str) -> f64 {
    model.metrics(None).into_iter().find(|metric| metric.0 == name).map_or(f64::NAN, |metric| metric.1)
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [epochs, rest @ ..] = words.as_slice() else {
        return Err("usage: dml_speed EPOCHS PREFIX [PREFIX ...] [key=value ...]".into());
    };
    let epochs: usize = epochs.parse()?;
    let (settings, prefixes): (Vec<&String>, Vec<&String>) = rest.iter().partition(|word| word.contains('='));
    let mut config = serde_json::to_value(Config::default())?;
    config["source"] = "adjacent".into();
    let mut seed = 1;
    for (key, value) in settings.iter().filter_map(|setting| setting.split_once('=')) {
        match key {
            "seed" => seed = value.parse()?,
            _ => config[key] = serde_json::from_str(value).unwrap_or(value.into()),
        }
    }
    let config: Config = serde_json::from_value(config)?;
    let (mut total_seconds, mut total_error) = (0.0, 0.0);
    for prefix in &prefixes {
        let train = numbers::<f32>(format!("{prefix}.train"))?;
        let test = data(numbers::<f32>(format!("{prefix}.test"))?.iter());
        let pairs = numbers::<usize>(format!("{prefix}.pairs"))?;
        let listed = data(pairs.iter().flatten().map(|row| &train[*row]));
        let listed = pair(listed, prefix, &Pairing::Adjacent, 1, false)?;
        let train = data(train.iter());

        let clock = Clock::start();
        let mut model = Serial::<Dml>::new(&config, listed, 1, 1, seed)?;
        let (mut before, mut taken) = (f64::INFINITY, 0);
        let (start, mut in_epochs) = (clock.now().seconds(), 0.0);
        while taken < epochs {
            let begun = clock.now().seconds();
            model.epoch()?;
            in_epochs += clock.now().seconds() - begun;
            taken += 1;
            let held_out = metric(&model, "heldout_pair_loss");
            if held_out >= before {
                break;
            }
            before = held_out;
        }
        let seconds = clock.now().seconds();
        let error = model.algorithm.knn_error(&model.params, &train.blocks, &test.blocks, 3)?;
        total_seconds += seconds;
        total_error += error;
        let (objective, loss) = (metric(&model, "train_objective"), metric(&model, "train_pair_loss"));
        println!(
            "{}",
            serde_json::json!({"peer": "dunlin", "task": "dml", "seconds": seconds, "start_ms": start * 1e3,
                "ms_per_epoch": in_epochs * 1e3 / taken as f64, "epochs": taken,
                "error": error, "objective": objective, "pair_loss": loss, "data": prefix})
        );
    }
    let count = prefixes.len() as f64;
    println!("mean error {:.5}, mean seconds {:.5}", total_error / count, total_seconds / count);
    Ok(())
}
