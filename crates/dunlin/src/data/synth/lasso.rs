//! Dense normal rows whose neighbouring columns have a given correlation, and targets x·w + noise: w is normal on
//! `support` columns drawn at random and zero elsewhere, the noise is `noise` times the deviation of x·w.

use super::{Generator, Keys, rounded};
use crate::Result;
use crate::data::labelled::{Labels, Rows};
use crate::data::{Data, Kind, Names, Notes, ReadOptions};
use crate::rng::stream;

pub(super) const GENERATOR: Generator = Generator {
    name: "lasso",
    about: "rows with a target: a sparse linear model of correlated normal columns, and noise",
    keys: &[
        ("n", "1000"),
        ("columns", "1000"),
        ("support", "20"),
        ("correlation", "0.5"),
        ("noise", "0.333"),
    ],
    kind: Kind::Labelled,
    make,
};

fn make(keys: &Keys, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (count, columns) = (keys.count("n", 1, 1 << 32)?, keys.count("columns", 1, 1 << 30)?);
    let support = keys.count("support", 0, columns)?;
    keys.limit("n x columns", &[count, columns], 1 << 33)?;
    let correlation = keys.real("correlation")?;
    if correlation > 1.0 {
        return Err(keys.refuse(format!("correlation={correlation}; a number from 0 to 1")));
    }
    let weights = weights(keys.seed()?, columns, support);
    let noise = keys.real("noise")? * deviation(&weights, correlation);
    let fresh = (1.0 - correlation * correlation).sqrt();
    let mut rng = keys.rows("synth lasso rows")?;
    let mut rows = Rows::new(options, like);
    rows.at_least(columns);
    for _ in 0..count {
        let (mut value, mut target, mut next) = (rng.normal(), 0.0, weights.iter().peekable());
        for column in 0..columns {
            if column > 0 {
                value = correlation * value + fresh * rng.normal();
            }
            rows.entry(column as u32, rounded(value));
            if let Some((_, weight)) = next.next_if(|(at, _)| *at == column) {
                target += weight * value;
            }
        }
        rows.end_row_with(rounded(target + noise * rng.normal()));
    }
    rows.finish(&keys.source, &Labels::default(), Names::default(), options, like)
}

/// Column and weight of the `support` columns that count, by column.
fn weights(seed: u64, columns: usize, support: usize) -> Vec<(usize, f64)> {
    let mut rng = stream(seed, "synth lasso weights", &[]);
    let mut order: Vec<usize> = (0..columns).collect();
    rng.shuffle(&mut order);
    let mut weights: Vec<(usize, f64)> = order[..support].iter().map(|at| (*at, rng.normal())).collect();
    weights.sort_unstable_by_key(|(at, _)| *at);
    weights
}

/// The deviation of x·w, where columns j and k have the correlation c^|j − k|.
fn deviation(weights: &[(usize, f64)], correlation: f64) -> f64 {
    let (mut variance, mut carried, mut last) = (0.0, 0.0, 0);
    for (at, weight) in weights {
        carried *= correlation.powf((at - last) as f64);
        variance += weight * (weight + 2.0 * carried);
        carried += weight;
        last = *at;
    }
    variance.max(0.0).sqrt()
}
