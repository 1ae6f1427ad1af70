//! Sparse columns whose neighbours are correlated, and targets: the set on which scheduling was shown (Lee et al. 2014).
//! A column has `nonzeros` values. With probability `keep` it is the column before it plus noise of `jitter` times its
//! size, scaled back; else its rows and normal values are new. Targets are x·w + noise: w is normal on `support`
//! columns, the noise is `noise` times the deviation of x·w.

use super::{Generator, Keys, rounded};
use crate::Result;
use crate::data::labelled::{Labels, Rows};
use crate::data::{Data, Kind, Names, Notes, ReadOptions};
use crate::rng::{Stream, stream};

pub(super) const GENERATOR: Generator = Generator {
    name: "correlated",
    about: "sparse rows with a target: columns that are the one before plus noise, a sparse linear model",
    keys: &[
        ("n", "5000"),
        ("columns", "10000"),
        ("nonzeros", "25"),
        ("keep", "0.9"),
        ("jitter", "0.3"),
        ("support", "100"),
        ("noise", "0.1"),
    ],
    kind: Kind::Labelled,
    make,
};

fn make(keys: &Keys, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (count, columns) = (keys.count("n", 1, 1 << 31)?, keys.count("columns", 1, 1 << 30)?);
    let nonzeros = keys.count("nonzeros", 1, count)?;
    keys.limit("columns x nonzeros", &[columns, nonzeros], 1 << 31)?;
    let (keep, jitter, support) =
        (keys.real("keep")?, keys.real("jitter")?, keys.count("support", 0, columns)?);
    if keep > 1.0 {
        return Err(keys.refuse(format!("keep={keep}; a probability from 0 to 1")));
    }
    let weights = weights(keys.seed()?, columns, support);
    let mut rng = keys.rows("synth correlated columns")?;
    let mut entries: Vec<Vec<(u32, f32)>> = vec![Vec::new(); count];
    let (mut places, mut values, mut targets) = (Vec::new(), Vec::new(), vec![0.0; count]);
    for (column, weight) in weights.iter().enumerate() {
        if column > 0 && rng.unit() < keep {
            let scale = 1.0 / (1.0 + jitter * jitter).sqrt();
            values.iter_mut().for_each(|value: &mut f64| *value = scale * (*value + jitter * rng.normal()));
        } else {
            places = rows_of_a_column(&mut rng, count, nonzeros);
            values = (0..nonzeros).map(|_| rng.normal()).collect();
        }
        for (row, value) in places.iter().zip(&values) {
            let value = rounded(*value);
            entries[*row].push((column as u32, value));
            targets[*row] += weight * f64::from(value);
        }
    }
    let square: f64 = targets.iter().map(|target| target * target).sum();
    let noise = keys.real("noise")? * (square / count as f64).sqrt();
    let mut rows = Rows::new(options, like);
    rows.at_least(columns);
    for (entries, target) in entries.into_iter().zip(targets) {
        entries.into_iter().for_each(|(column, value)| rows.entry(column, value));
        rows.end_row_with(rounded(target + noise * rng.normal()));
    }
    rows.finish(&keys.source, &Labels::default(), Names::default(), options, like)
}

/// `wanted` different ones of `count` rows.
fn rows_of_a_column(rng: &mut Stream, count: usize, wanted: usize) -> Vec<usize> {
    if wanted * 2 > count {
        let mut all: Vec<usize> = (0..count).collect();
        rng.shuffle(&mut all);
        all.truncate(wanted);
        return all;
    }
    let mut rows: Vec<usize> = Vec::with_capacity(wanted);
    while rows.len() < wanted {
        let row = rng.below(count);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

/// Weights of all columns, of which `support`, drawn at random, are not zero.
fn weights(seed: u64, columns: usize, support: usize) -> Vec<f64> {
    let mut rng = stream(seed, "synth correlated weights", &[]);
    let mut weights = vec![0.0; columns];
    weights[..support].iter_mut().for_each(|weight| *weight = rng.normal());
    rng.shuffle(&mut weights);
    weights
}
