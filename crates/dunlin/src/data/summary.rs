//! What a data set is like, in numbers, for people and for machines.

use super::text::grouped;
use super::{Contents, Data, Kind, UNKNOWN};
use serde::Serialize;
use std::fmt;

/// What a data set is like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What kind it is.
    pub kind: Kind,
    /// Rows, users or documents.
    pub rows: usize,
    /// Features, items or words.
    pub columns: usize,
    /// Entries that are not zero: features, ratings, or (document, word) pairs.
    pub nonzeros: usize,
    /// Rows of labelled data, ratings, or tokens.
    pub samples: usize,
    /// non-zeros / (rows · columns).
    pub density: f64,
    /// True if rows are stored with every value.
    pub dense: bool,
    /// Label and number of rows of each class, in the order of classes.
    pub classes: Vec<(String, usize)>,
    /// Least, mean and greatest target, of rows with targets instead of classes.
    pub targets: Option<[f64; 3]>,
    /// Rows whose class, or ratings whose user or item, the training data lack.
    pub unknown: usize,
    /// Least stored value: a non-zero feature, a rating, a count.
    pub min: f64,
    /// Mean of the stored values.
    pub mean: f64,
    /// Greatest stored value.
    pub max: f64,
    /// Number of blocks.
    pub blocks: usize,
    /// Stored entries of the smallest block.
    pub smallest_block: usize,
    /// Stored entries of the largest block.
    pub largest_block: usize,
}

/// Sums up a data set: one pass over all blocks.
pub fn summary(data: &Data) -> Summary {
    let mut tally = Tally { counts: vec![0; data.shape.classes.len()], ..Tally::default() };
    data.blocks.iter().for_each(|block| tally.add(&block.contents));
    let rows = data.blocks.iter().map(|block| block.rows()).sum();
    let cells = rows as f64 * data.shape.columns as f64;
    let entries = || data.blocks.iter().map(|block| block.entries());
    let name =
        |(at, label): (usize, &i64)| data.names.classes.get(at).cloned().unwrap_or_else(|| label.to_string());
    Summary {
        kind: data.shape.kind,
        rows,
        columns: data.shape.columns,
        nonzeros: tally.nonzeros,
        samples: data.blocks.iter().map(|block| block.samples()).sum(),
        density: if cells > 0.0 { tally.nonzeros as f64 / cells } else { 0.0 },
        dense: data.blocks.iter().any(|block| block.contents.is_dense()),
        classes: data.shape.classes.iter().enumerate().map(name).zip(tally.counts).collect(),
        targets: tally.has_targets.then(|| {
            [f64::from(data.shape.min_target), data.shape.mean_target, f64::from(data.shape.max_target)]
        }),
        unknown: tally.unknown,
        min: tally.least.unwrap_or(0.0),
        mean: if tally.nonzeros > 0 { tally.sum / tally.nonzeros as f64 } else { 0.0 },
        max: tally.most.unwrap_or(0.0),
        blocks: data.blocks.len(),
        smallest_block: entries().min().unwrap_or(0),
        largest_block: entries().max().unwrap_or(0),
    }
}

#[derive(Default)]
struct Tally {
    counts: Vec<usize>,
    has_targets: bool,
    unknown: usize,
    nonzeros: usize,
    sum: f64,
    least: Option<f64>,
    most: Option<f64>,
}

impl Tally {
    fn add(&mut self, contents: &Contents) {
        match contents {
            Contents::Sparse(rows) => {
                self.labels(&rows.classes, &rows.targets);
                rows.values.iter().for_each(|value| self.value(f64::from(*value)));
            }
            Contents::Dense(rows) => {
                self.labels(&rows.classes, &rows.targets);
                let stored = rows.values.iter().filter(|value| **value != 0.0);
                stored.for_each(|value| self.value(f64::from(*value)));
            }
            Contents::Pairs(pairs) => self.add(&pairs.rows),
            Contents::Ratings(ratings) => {
                let pairs = ratings.users.iter().zip(&ratings.items);
                self.unknown += pairs.filter(|(user, item)| **user == UNKNOWN || **item == UNKNOWN).count();
                ratings.ratings.iter().for_each(|rating| self.value(f64::from(*rating)));
            }
            Contents::Documents(documents) => {
                documents.counts.iter().for_each(|count| self.value(f64::from(*count)));
            }
        }
    }

    /// Rows with targets have no classes to count.
    fn labels(&mut self, classes: &[u32], targets: &[f32]) {
        self.has_targets |= !targets.is_empty();
        for class in classes.iter().filter(|_| targets.is_empty()) {
            match self.counts.get_mut(*class as usize) {
                Some(count) => *count += 1,
                None => self.unknown += 1,
            }
        }
    }

    fn value(&mut self, value: f64) {
        self.nonzeros += 1;
        self.sum += value;
        self.least = Some(self.least.map_or(value, |least| least.min(value)));
        self.most = Some(self.most.map_or(value, |most| most.max(value)));
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, rows, columns, nonzeros, values) = match self.kind {
            Kind::Labelled => ("labelled rows", "rows", "features", "non-zeros", "non-zero values"),
            Kind::Ratings => ("ratings", "users", "items", "ratings", "ratings"),
            Kind::Documents => ("documents", "documents", "words", "entries", "counts"),
        };
        let line =
            |out: &mut fmt::Formatter<'_>, what: &str, value: String| writeln!(out, "{what:<16} {value}");
        let count = |count: usize| grouped(count as u64);
        line(out, "kind", title.into())?;
        line(out, rows, count(self.rows))?;
        line(out, columns, count(self.columns))?;
        let layout = if self.dense { "dense" } else { "sparse" };
        let layout = if self.kind == Kind::Labelled { format!(", stored {layout}") } else { String::new() };
        let percent = 100.0 * self.density;
        line(out, nonzeros, format!("{} ({percent:.3} %{layout})", count(self.nonzeros)))?;
        if self.kind == Kind::Documents {
            line(out, "tokens", count(self.samples))?;
        }
        // Shown as the f32 they are.
        let (min, mean, max) = (self.min as f32, self.mean, self.max as f32);
        line(out, values, format!("{min} to {max}, mean {mean:.4}"))?;
        if !self.classes.is_empty() {
            line(out, "classes", count(self.classes.len()))?;
            for (label, rows) in self.classes.iter().take(20) {
                line(out, "", format!("{label}: {}", count(*rows)))?;
            }
            if self.classes.len() > 20 {
                line(out, "", format!("… and {} more", count(self.classes.len() - 20)))?;
            }
        }
        if let Some([least, mean, most]) = self.targets {
            line(out, "targets", format!("{} to {}, mean {mean:.4}", least as f32, most as f32))?;
        }
        if self.unknown > 0 {
            line(out, "not in training", count(self.unknown))?;
        }
        let (least, most) = (count(self.smallest_block), count(self.largest_block));
        write!(out, "{:<16} {} of {least} to {most} entries", "blocks", count(self.blocks))
    }
}
