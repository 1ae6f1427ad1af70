//! Rows for metric learning: classes differ in a hidden subspace of `hidden` dimensions only, within which their
//! points lie close around their centres; in all other directions all classes have the same spread, so that plain
//! distances say little. A random rotation hides the subspace.

use super::{Generator, Keys, rounded};
use crate::Result;
use crate::data::labelled::{Labels, Rows};
use crate::data::{Data, Kind, Names, Notes, ReadOptions};
use crate::rng::{Stream, stream};

pub(super) const GENERATOR: Generator = Generator {
    name: "dml",
    about: "labelled rows: classes apart in a hidden subspace, noise in all other directions",
    keys: &[("n", "2000"), ("columns", "32"), ("classes", "5"), ("hidden", "4"), ("spread", "3")],
    kind: Kind::Labelled,
    make,
};

fn make(keys: &Keys, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (count, columns) = (keys.count("n", 1, 1 << 32)?, keys.count("columns", 1, 1024)?);
    let (classes, hidden) = (keys.count("classes", 2, 1 << 20)?, keys.count("hidden", 1, columns)?);
    keys.limit("n x columns", &[count, columns], 1 << 33)?;
    keys.limit("classes x hidden", &[classes, hidden], 1 << 28)?;
    let (spread, seed) = (keys.real("spread")?, keys.seed()?);
    let rotation = rotation(&mut stream(seed, "synth dml rotation", &[]), columns);
    let mut rng = stream(seed, "synth dml centres", &[]);
    let centres: Vec<f64> = (0..classes * hidden).map(|_| 2.0 * rng.normal()).collect();
    let mut rng = keys.rows("synth dml rows")?;
    let (mut rows, mut labels) = (Rows::new(options, like), Labels::default());
    rows.at_least(columns);
    for _ in 0..count {
        let class = rng.below(classes);
        let mut row = vec![0.0; columns];
        for (at, axis) in rotation.iter().enumerate() {
            let along = match centres[class * hidden..][..hidden].get(at) {
                Some(centre) => centre + 0.5 * rng.normal(),
                None => spread * rng.normal(),
            };
            row.iter_mut().zip(axis).for_each(|(value, direction)| *value += along * direction);
        }
        row.iter().zip(0..).for_each(|(value, column)| rows.entry(column, rounded(*value)));
        rows.end_row(labels.position(class as i64 + 1));
    }
    rows.finish(&keys.source, &labels, Names::default(), options, like)
}

/// An orthonormal basis in random directions (Gram and Schmidt, twice over for accuracy).
fn rotation(rng: &mut Stream, dimensions: usize) -> Vec<Vec<f64>> {
    let mut axes: Vec<Vec<f64>> = Vec::with_capacity(dimensions);
    while axes.len() < dimensions {
        let mut axis: Vec<f64> = (0..dimensions).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for other in &axes {
                let along: f64 = axis.iter().zip(other).map(|(left, right)| left * right).sum();
                axis.iter_mut().zip(other).for_each(|(value, direction)| *value -= along * direction);
            }
        }
        let length = axis.iter().map(|value| value * value).sum::<f64>().sqrt();
        if length > 1e-6 {
            axis.iter_mut().for_each(|value| *value /= length);
            axes.push(axis);
        }
    }
    axes
}
