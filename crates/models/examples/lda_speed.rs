//! Tokens per second and log-likelihood of `lda` on a UCI docword file, in one thread.
//!
//! `cargo run --release --example lda_speed -- FILE [topics=100] [sweeps=20] [every=10] [lanes=1] [blocks=1]
//! [sampler=auto] [isa=LEVEL] [seed=1] [phi=OUT.npy]`. FILE may be `-` for standard input, so that
//! `zcat FILE.gz |` does. LEVEL is portable, avx2 or avx512; without it the machine's best is used.
//! With `phi` the topics (topics x words, rows sum to 1) are saved for the peers' scoring script after every
//! `every` sweeps, as OUT.SWEEPS.npy.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a timing program")]

use dunlin::data::{Contents, Documents, Kind, Names};
use dunlin::serial::Serial;
use dunlin::{Block, Data, Shape};
use dunlin_models::lda::{Config, Lda, TOTALS, WORD_TOPIC};
use std::io::{Read, Write};
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("FILE [key=value]...")?;
    let mut config = Config::default();
    let (mut sweeps, mut every, mut lanes, mut blocks, mut seed, mut phi) = (20, 10, 1, 1, 1, None);
    for argument in arguments {
        let (key, value) = argument.split_once('=').ok_or("settings are key=value")?;
        match key {
            "topics" => config.topics = value.parse()?,
            "sampler" => config.sampler = serde_json::from_str(&format!("\"{value}\""))?,
            "isa" => assert!(dunlin::isa::limit(serde_json::from_str(&format!("\"{value}\""))?)),
            "sweeps" => sweeps = value.parse()?,
            "every" => every = value.parse()?,
            "lanes" => lanes = value.parse()?,
            "blocks" => blocks = value.parse()?,
            "seed" => seed = value.parse()?,
            "phi" => phi = Some(value.to_string()),
            _ => return Err(format!("{key}: no such setting").into()),
        }
    }
    let data = read(&file, blocks)?;
    let (tokens, words) = (data.shape.samples, data.shape.columns);
    println!("{} documents, {words} words, {tokens} tokens, {} topics", data.shape.rows, config.topics);
    let beta = config.beta;
    let mut serial = Serial::<Lda>::new(&config, data, lanes, 1, seed)?;
    let (mut seconds, mut chunk) = (0.0, 0.0);
    for sweep in 1..=sweeps {
        let start = Instant::now();
        serial.epoch()?;
        let took = start.elapsed().as_secs_f64();
        seconds += took;
        chunk += took;
        if sweep % every == 0 || sweep == sweeps {
            let done = if sweep % every == 0 { every } else { sweep % every };
            let rate = tokens as f64 * done as f64 / chunk / 1e6;
            let loglik = serial.metrics(None)[0].1;
            println!("sweep {sweep}: {seconds:.4} s, {rate:.2} M tokens/s, log-likelihood {loglik:.0}");
            chunk = 0.0;
            if let Some(phi) = &phi {
                save_phi(&serial, beta, &format!("{phi}.{sweep}.npy"))?;
            }
        }
    }
    Ok(())
}

/// The topics as a NumPy file: f64, (topics, words).
fn save_phi(serial: &Serial<Lda>, beta: f64, path: &str) -> Result<(), Failure> {
    let counts = serial.params.table::<i32>(WORD_TOPIC);
    let totals = serial.params.table::<i32>(TOTALS).row(0);
    let (words, topics) = (counts.rows(), totals.len());
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({topics}, {words}), }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for (topic, total) in totals.iter().enumerate() {
        for word in 0..words {
            let phi = (f64::from(counts.row(word)[topic]) + beta) / (f64::from(*total) + words as f64 * beta);
            bytes.extend(phi.to_le_bytes());
        }
    }
    std::fs::File::create(path)?.write_all(&bytes)?;
    Ok(())
}

/// Reads a docword file and cuts it into `blocks` blocks of about as many documents each.
fn read(file: &str, blocks: usize) -> Result<Data, Failure> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text)?
    } else {
        std::fs::File::open(file)?.read_to_string(&mut text)?
    };
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u32>);
    let mut next = || numbers.next().ok_or("the file ends early")?.map_err(|e| Failure::from(e.to_string()));
    let (rows, columns, entries) = (next()? as usize, next()? as usize, next()? as usize);
    let mut by_row: Vec<Vec<(u32, u32)>> = vec![Vec::new(); rows];
    for _ in 0..entries {
        let (row, word, count) = (next()?, next()?, next()?);
        by_row.get_mut(row as usize - 1).ok_or("document number")?.push((word - 1, count));
    }
    let samples = by_row.iter().flatten().map(|(_, count)| *count as usize).sum();
    let make = |id: usize| {
        let range = rows * id / blocks..rows * (id + 1) / blocks;
        let mut documents = Documents { offsets: vec![0], ..Documents::default() };
        for row in &by_row[range.clone()] {
            documents.words.extend(row.iter().map(|(word, _)| *word));
            documents.counts.extend(row.iter().map(|(_, count)| *count));
            documents.offsets.push(documents.words.len() as u32);
        }
        let contents = Contents::Documents(documents);
        Block { id: id as u32, first_row: range.start, end_row: range.end, contents }
    };
    let shape = Shape {
        kind: Kind::Documents,
        rows,
        columns,
        entries,
        samples,
        classes: Vec::new(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Ok(Data { shape, names: Names::default(), blocks: (0..blocks).map(make).collect() })
}
