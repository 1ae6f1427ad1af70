//! Trains `mf` in one thread and prints one JSON line: seconds, ratings per second, epochs to the target.
//!
//! `cargo run --release --example mf_speed -- TRAIN TEST EPOCHS TARGET [key=value ...]`; files hold
//! `user item rating` per line. Keys are the model's settings, and `lanes`, `clocks`, `blocks`, `seed`, `curve`.

use dunlin::comm::time::Clock;
use dunlin::data::{Contents, Kind, Names, Ratings, UNKNOWN};
use dunlin::serial::{Serial, share};
use dunlin::{Block, Data, Shape};
use dunlin_models::mf::{Config, Mf};
use std::collections::HashMap;
use std::error::Error;

type Row = (u64, u64, f32);

fn read(path: &str) -> Result<Vec<Row>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)?;
    text.lines()
        .map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let mut next = || fields.next().ok_or(format!("{path}: {line:?}: user item rating expected"));
            Ok((next()?.parse()?, next()?.parse()?, next()?.parse()?))
        })
        .collect()
}

fn index(ids: impl Iterator<Item = u64>) -> HashMap<u64, u32> {
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().zip(0..).collect()
}

/// Blocks of about equal numbers of ratings, cut between users.
fn data(rows: &[Row], names: [&HashMap<u64, u32>; 2], shape: Shape, blocks: usize) -> Data {
    let id = |side: usize, name: u64| names[side].get(&name).copied().unwrap_or(UNKNOWN);
    let mut rows: Vec<(u32, u32, f32)> = rows.iter().map(|r| (id(0, r.0), id(1, r.1), r.2)).collect();
    rows.sort_by_key(|row| row.0);
    let starts: Vec<usize> = (0..=blocks)
        .map(|at| {
            let mut start = share(rows.len(), blocks, at.min(blocks - 1)).start;
            while start > 0 && start < rows.len() && rows[start].0 == rows[start - 1].0 {
                start += 1;
            }
            if at == blocks { rows.len() } else { start }
        })
        .collect();
    let cut = |at: usize| rows.get(starts[at]).map_or(shape.rows, |row| row.0 as usize);
    let block = |at: usize| {
        let part = &rows[starts[at]..starts[at + 1]];
        let contents = Contents::Ratings(Ratings {
            users: part.iter().map(|row| row.0).collect(),
            items: part.iter().map(|row| row.1).collect(),
            ratings: part.iter().map(|row| row.2).collect(),
        });
        let first_row = if at == 0 { 0 } else { cut(at) };
        Block { id: at as u32, first_row, end_row: cut(at + 1), contents }
    };
    Data { blocks: (0..blocks).map(block).collect(), names: Names::default(), shape }
}

fn shape(rows: &[Row], users: usize, items: usize) -> Shape {
    let sum: f64 = rows.iter().map(|row| f64::from(row.2)).sum();
    Shape {
        kind: Kind::Ratings,
        rows: users,
        columns: items,
        entries: rows.len(),
        samples: rows.len(),
        classes: Vec::new(),
        mean_target: sum / rows.len() as f64,
        min_target: rows.iter().map(|row| row.2).fold(f32::INFINITY, f32::min),
        max_target: rows.iter().map(|row| row.2).fold(f32::NEG_INFINITY, f32::max),
    }
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, epochs, target, settings @ ..] = words.as_slice() else {
        return Err("usage: mf_speed TRAIN TEST EPOCHS TARGET [key=value ...]".into());
    };
    let (epochs, target): (usize, f64) = (epochs.parse()?, target.parse()?);
    let mut config = serde_json::to_value(Config::default())?;
    let mut own = HashMap::from([("lanes", 1), ("clocks", 1), ("blocks", 1), ("seed", 1), ("curve", 0)]);
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or("key=value expected")?;
        match own.get_mut(key) {
            Some(own) => *own = value.parse()?,
            None => config[key] = serde_json::from_str(value).unwrap_or(value.into()),
        }
    }
    let config: Config = serde_json::from_value(config)?;
    let (train, test) = (read(train)?, read(test)?);
    let (users, items) = (index(train.iter().map(|r| r.0)), index(train.iter().map(|r| r.1)));
    let shape = shape(&train, users.len(), items.len());
    let names = [&users, &items];
    let test = data(&test, names, shape.clone(), 1);
    let train = data(&train, names, shape, own["blocks"]);
    let ratings = train.shape.samples as f64;

    let clock = Clock::start();
    let mut model = Serial::<Mf>::new(&config, train, own["lanes"], own["clocks"], own["seed"] as u64)?;
    let start = clock.now().seconds();
    let (mut seconds, mut reached, mut best, mut last, mut fastest) = (start, None, f64::MAX, 0.0, f64::MAX);
    for epoch in 1..=epochs {
        let before = clock.now();
        model.epoch()?;
        let took = clock.now().since(before).as_secs_f64();
        seconds += took;
        fastest = fastest.min(took);
        if let Some((_, rmse)) = model.metrics(Some(&test)).into_iter().find(|m| m.0 == "test_rmse") {
            last = rmse;
            best = rmse.min(best);
            if own["curve"] > 0 {
                println!("{epoch} {rmse:.5}");
            }
            if rmse <= target && reached.is_none() {
                reached = Some((epoch, seconds));
            }
        }
    }
    let rate = ratings * epochs as f64 / (seconds - start) / 1e6;
    println!(
        "{}",
        serde_json::json!({
            "peer": "dunlin", "task": "mf", "start_ms": start * 1e3,
            "ms_per_epoch": (seconds - start) * 1e3 / epochs as f64, "ms_fastest": fastest * 1e3,
            "million_ratings_per_s": rate, "fastest_million": ratings / fastest / 1e6,
            "reached_epochs": reached.map(|r| r.0), "reached_ms": reached.map(|r| r.1 * 1e3),
            "best": best, "last": last, "epochs": epochs,
        })
    );
    Ok(())
}
