//! Times softmax regression, one thread, against a known optimum.
//!
//! ```text
//! softmax_speed --c 10 --optimum F rows.svm             svmlight, indices from 1
//! softmax_speed --c .01 --optimum F images labels       IDX, unpacked; pixels / 255
//! ```
//!
//! Options: `--blocks N` (default: blocks of about 2 million entries), `--lanes N`, `--epochs N` (default 30),
//! `--solver dual|lbfgs`, `--within R` (default 0.001: stop at F ≤ (1 + R) optimum; 0: never), `--seed N`,
//! `--bias true`, `--shuffle true` (the order of rows in the file). Training time leaves out reading and measuring.

use dunlin::comm::time::Clock;
use dunlin::data::{Contents, Kind, SparseRows};
use dunlin::serial::{Serial, share};
use dunlin::{Block, Data, Shape};
use dunlin_models::softmax::{Config, Softmax, Solver};
use std::collections::{BTreeMap, BTreeSet};

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout, reason = "a program whose output is its result")]
fn main() -> Result<(), Failure> {
    let (mut options, mut files) = (BTreeMap::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some(name) => {
                drop(options.insert(name.to_owned(), arguments.next().ok_or("an option without value")?))
            }
            None => files.push(argument),
        }
    }
    let option = |name: &str, default: &str| options.get(name).map_or(default.to_owned(), String::clone);
    let number = |name: &str, default: &str| option(name, default).parse::<f64>();
    let (mut rows, labels) = match files.as_slice() {
        [file] => svmlight(&std::fs::read_to_string(file)?)?,
        [images, labels] => idx(&std::fs::read(images)?, &std::fs::read(labels)?)?,
        _ => return Err("give one svmlight file, or images and labels".into()),
    };
    let mut order: Vec<usize> = (0..labels.len()).collect();
    if option("shuffle", "false") == "true" {
        dunlin::rng::stream(1, "example", &[]).shuffle(&mut order);
    }
    let blocks = number("blocks", &rows.columns.len().div_ceil(2_000_000).to_string())? as usize;
    let data = cut(&mut rows, &labels, &order, blocks.max(1));
    drop(rows);
    let (optimum, within) = (number("optimum", "0")?, number("within", "1e-3")?);
    let solver = if option("solver", "dual") == "lbfgs" { Solver::Lbfgs } else { Solver::Dual };
    let bias = option("bias", "false") == "true";
    let config = Config { c: number("c", "1")?, solver, bias, ..Config::default() };
    println!(
        "{} rows, {} columns, {} classes, {} entries, {blocks} blocks",
        data.shape.rows,
        data.shape.columns,
        data.shape.classes.len(),
        data.shape.entries
    );
    let clock = Clock::start();
    let start = clock.now();
    let mut run = Serial::<Softmax>::new(
        &config,
        data,
        number("lanes", "1")? as usize,
        1,
        number("seed", "1")? as u64,
    )?;
    let mut seconds = clock.now().since(start).as_secs_f64();
    println!("epoch 0: {seconds:.4} s");
    for epoch in 1..=number("epochs", "30")? as usize {
        let start = clock.now();
        run.epoch()?;
        let spent = clock.now().since(start).as_secs_f64();
        seconds += spent;
        let metrics = run.metrics(None);
        let text: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value:.6}")).collect();
        let excess = metrics[0].1 / optimum - 1.0;
        println!(
            "epoch {epoch}: {seconds:.4} s (+{:.1} ms), excess {excess:.2e}, {}",
            1e3 * spent,
            text.join(", ")
        );
        if excess <= within {
            break;
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}

/// Rows and labels of an svmlight file.
fn svmlight(text: &str) -> Result<(SparseRows, Vec<i64>), Failure> {
    let (mut rows, mut labels) = (SparseRows { offsets: vec![0], ..SparseRows::default() }, Vec::new());
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(label) = words.next() else { continue };
        labels.push(label.parse::<f64>()? as i64);
        for word in words {
            let (column, value) = word.split_once(':').ok_or("an entry without ':'")?;
            rows.columns.push(column.parse::<u32>()?.checked_sub(1).ok_or("indices start at 1")?);
            rows.values.push(value.parse()?);
        }
        rows.offsets.push(rows.columns.len() as u32);
    }
    Ok((rows, labels))
}

/// Rows and labels of a pair of IDX files; zero pixels are left out.
fn idx(images: &[u8], labels: &[u8]) -> Result<(SparseRows, Vec<i64>), Failure> {
    let size =
        |at: usize| images.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let width = size(8).zip(size(12)).map(|(height, width)| height * width).ok_or("no IDX images")?;
    let mut rows = SparseRows { offsets: vec![0], ..SparseRows::default() };
    for image in images[16..].chunks_exact(width) {
        for (column, pixel) in image.iter().enumerate().filter(|(_, pixel)| **pixel > 0) {
            rows.columns.push(column as u32);
            rows.values.push(f32::from(*pixel) / 255.0);
        }
        rows.offsets.push(rows.columns.len() as u32);
    }
    Ok((rows, labels[8..].iter().map(|label| i64::from(*label)).collect()))
}

/// Cuts rows into blocks of as many rows each.
fn cut(rows: &mut SparseRows, labels: &[i64], order: &[usize], blocks: usize) -> Data {
    let classes: Vec<i64> = labels.iter().copied().collect::<BTreeSet<i64>>().into_iter().collect();
    let part = |id: usize| {
        let range = share(labels.len(), blocks, id);
        let mut part = SparseRows { offsets: vec![0], ..SparseRows::default() };
        for row in &order[range.clone()] {
            let entries = rows.offsets[*row] as usize..rows.offsets[*row + 1] as usize;
            part.columns.extend_from_slice(&rows.columns[entries.clone()]);
            part.values.extend_from_slice(&rows.values[entries]);
            part.offsets.push(part.columns.len() as u32);
            part.classes.push(classes.binary_search(&labels[*row]).unwrap_or_default() as u32);
        }
        part.columns.shrink_to_fit();
        part.values.shrink_to_fit();
        Block { id: id as u32, first_row: range.start, end_row: range.end, contents: Contents::Sparse(part) }
    };
    let blocks = (0..blocks).map(part).collect();
    let shape = Shape {
        kind: Kind::Labelled,
        rows: labels.len(),
        columns: rows.columns.iter().max().map_or(0, |column| *column as usize + 1),
        entries: rows.columns.len(),
        samples: labels.len(),
        classes,
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Data { shape, names: Default::default(), blocks }
}
