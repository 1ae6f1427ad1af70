//! Rows whose labels are drawn from a softmax of `scale` · W·x with normal weights W: with few `nonzeros`, sparse
//! rows of unit length with low columns the more frequent; with `nonzeros` = `columns`, dense normal rows.

use super::{Generator, Keys, rounded};
use crate::Result;
use crate::data::labelled::{Labels, Rows};
use crate::data::{Data, Kind, Names, Notes, ReadOptions};
use crate::rng::{Stream, stream};

pub(super) const GENERATOR: Generator = Generator {
    name: "softmax",
    about: "labelled rows: classes drawn from a multinomial logistic model (dense if nonzeros = columns)",
    keys: &[("n", "10000"), ("columns", "1000"), ("nonzeros", "20"), ("classes", "10"), ("scale", "8")],
    kind: Kind::Labelled,
    make,
};

fn make(keys: &Keys, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (count, columns) = (keys.count("n", 1, 1 << 32)?, keys.count("columns", 1, 1 << 30)?);
    let (nonzeros, classes) = (keys.count("nonzeros", 1, columns)?, keys.count("classes", 2, 1 << 20)?);
    keys.limit("columns x classes", &[columns, classes], 1 << 28)?;
    keys.limit("n x nonzeros", &[count, nonzeros], 1 << 33)?;
    let (scale, seed) = (keys.real("scale")?, keys.seed()?);
    let mut rng = stream(seed, "synth softmax weights", &[]);
    let weights: Vec<f32> = (0..columns * classes).map(|_| rng.normal() as f32).collect();
    let mut rng = keys.rows("synth softmax rows")?;
    let (mut rows, mut labels) = (Rows::new(options, like), Labels::default());
    rows.at_least(columns);
    let (mut chosen, mut scores) = (Vec::new(), vec![0.0; classes]);
    for _ in 0..count {
        choose(&mut rng, columns, nonzeros, &mut chosen);
        let values = unit_row(&mut rng, nonzeros);
        scores.fill(0.0);
        for (column, value) in chosen.iter().zip(values) {
            rows.entry(*column, value);
            let weights = &weights[*column as usize * classes..][..classes];
            let factor = scale * f64::from(value);
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += factor * f64::from(*weight));
        }
        rows.end_row(labels.position(draw(&mut rng, &mut scores) as i64 + 1));
    }
    rows.finish(&keys.source, &labels, Names::default(), options, like)
}

/// `count` different columns, ascending; low ones the more often.
fn choose(rng: &mut Stream, columns: usize, count: usize, chosen: &mut Vec<u32>) {
    chosen.clear();
    if count * 4 > columns {
        // Selection sampling: each column with the probability that still fills the row.
        for column in 0..columns {
            if rng.below(columns - column) < count - chosen.len() {
                chosen.push(column as u32);
            }
        }
        return;
    }
    while chosen.len() < count {
        let unit = rng.unit();
        // Half by a square law, half evenly, so that a row fills even where low columns are few.
        let unit = if rng.next() & 1 == 0 { unit * unit } else { unit };
        chosen.push((unit * columns as f64) as u32);
        if chosen.len() == count {
            chosen.sort_unstable();
            chosen.dedup();
        }
    }
}

/// Normal numbers scaled to length 1; none is 0.
fn unit_row(rng: &mut Stream, count: usize) -> Vec<f32> {
    let values: Vec<f64> = (0..count).map(|_| rng.normal()).collect();
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-9);
    let fixed = |value: f64| if rounded(value) == 0.0 { 1e-4 } else { rounded(value) };
    values.into_iter().map(|value| fixed(value / length)).collect()
}

/// A class drawn from the softmax of `scores`.
fn draw(rng: &mut Stream, scores: &mut [f64]) -> usize {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for score in scores.iter_mut() {
        total += (*score - most).exp();
        *score = total;
    }
    let mark = rng.unit() * total;
    scores.partition_point(|sum| *sum <= mark).min(scores.len() - 1)
}
