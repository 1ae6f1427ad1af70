//! What the linear models (`softmax`, `ds-softmax`, `logistic`, `svm`) share: their common settings in words, checks of
//! these and of the data, and weights for people to read.

use crate::details::setting;
use crate::softmax::kernel::Rows;
use dunlin::data::{Block, Kind, Names, UNKNOWN};
use dunlin::details::Setting;
use dunlin::{Error, Result, Shape, Table};

/// `c`, which [`check`] checks.
pub(crate) const C: Setting =
    setting("c", "above 0, at most 1e9", "weight C of the loss, a sum over rows, against the penalty");

/// `bias`.
pub(crate) const BIAS: Setting =
    setting("bias", "true or false", "adds a column of ones, whose weights are penalised like all others");

/// `tolerance`, which [`check`] checks.
pub(crate) const TOLERANCE: Setting =
    setting("tolerance", "above 0, below 1", "the run has converged once relative_gap is at most this");

/// Refuses settings and data that no linear model can do with: `c`, `tolerance`, rows without classes, fewer than two of
/// them. `model` opens the message.
///
/// # Errors
/// [`Error::Usage`] with the setting or the kind of data, [`Error::Data`] with the labels there are.
pub(crate) fn check(model: &str, c: f64, tolerance: f64, shape: &Shape) -> Result<()> {
    let usage = |text: String| Err(Error::Usage(format!("{model}: {text}")));
    if !(c > 0.0 && c <= 1e9) {
        return usage(format!("c = {c}; allowed: above 0, at most 1e9"));
    }
    if !(tolerance > 0.0 && tolerance < 1.0) {
        return usage(format!("tolerance = {tolerance}; allowed: above 0, below 1"));
    }
    let Shape { kind, classes, .. } = shape;
    if *kind != Kind::Labelled {
        return usage(format!("data of kind {kind:?}; needed: rows with a class each (Labelled)"));
    }
    if classes.len() < 2 {
        return Err(Error::Data(format!(
            "{model}: the only label is {classes:?}; at least two classes are needed"
        )));
    }
    Ok(())
}

/// `total / count` as a metric called `name`; nothing where there is nothing to measure, for 0 would be taken for a
/// value, often the best there is.
pub(crate) fn mean_of(name: &'static str, total: f64, count: f64) -> Option<(&'static str, f64)> {
    (count > 0.0).then(|| (name, total / count))
}

/// Refuses columns and classes that the shape does not know, and what is no finite number. `model` opens the message.
///
/// # Errors
/// [`Error::Data`] with the row.
pub(crate) fn check_rows(model: &str, block: &Block, features: usize, classes: usize) -> Result<()> {
    let place = format!("{model}: block {} (rows {}..{})", block.id, block.first_row, block.end_row);
    let Some((mut rows, labels)) = Rows::new(block) else {
        return Err(Error::Data(format!("{place} holds no labelled rows")));
    };
    for (row, class) in labels.iter().enumerate() {
        let (columns, values) = rows.row(row);
        let place = || format!("{model}: row {}", block.first_row + row);
        if *class as usize >= classes {
            return Err(Error::Data(format!("{}: class {class} of {classes}", place())));
        }
        if let Some(column) = columns.iter().find(|column| **column as usize >= features) {
            return Err(Error::Data(format!("{}: column {column} of {features} (from 0)", place())));
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::Data(format!("{}: value {value}; finite numbers are allowed", place())));
        }
    }
    Ok(())
}

/// Refuses data in which a class has no row: its weights would follow the penalty alone.
///
/// # Errors
/// [`Error::Data`] with the label.
pub(crate) fn check_classes(model: &str, blocks: &[&Block], labels: &[i64]) -> Result<()> {
    let mut seen = vec![false; labels.len()];
    for (_, classes) in blocks.iter().filter_map(|block| Rows::new(block)) {
        for class in classes.iter().filter(|class| **class != UNKNOWN) {
            if let Some(seen) = seen.get_mut(*class as usize) {
                *seen = true;
            }
        }
    }
    match seen.iter().position(|seen| !seen) {
        None => Ok(()),
        Some(class) => Err(Error::Data(format!(
            "{model}: no row has the label {}; every class needs at least one",
            labels[class]
        ))),
    }
}

/// The text of `weights.tsv`: for each (class, column of the table) the features with the 20 largest and the 20
/// smallest weights. Row `bias` of the table, if any, is the bias.
pub(crate) fn weights_text(
    shape: &Shape,
    names: &Names,
    weights: Table<f32>,
    bias: Option<usize>,
    columns: &[(usize, usize)],
) -> String {
    let feature = |row: usize| if Some(row) == bias { "(bias)".into() } else { names.column(row) };
    let mut text = String::from("class\tfeature\tweight\n");
    for (class, column) in columns {
        let values: Vec<f32> = (0..weights.rows()).map(|row| weights.row(row)[*column]).collect();
        for row in extremes(&values, 20) {
            text += &format!("{}\t{}\t{}\n", names.class(shape, *class), feature(row), values[row]);
        }
    }
    text
}

/// Places of the `n` largest and the `n` smallest of `values`, all if there are no more, from the largest down.
pub(crate) fn extremes(values: &[f32], n: usize) -> Vec<usize> {
    let down = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    let mut places: Vec<usize> = (0..values.len()).collect();
    if places.len() > 2 * n {
        places.select_nth_unstable_by(n, down);
        let middle = places.len() - n;
        places[n..].select_nth_unstable_by(middle - n, down);
        places.drain(n..middle);
    }
    places.sort_unstable_by(down);
    places
}
