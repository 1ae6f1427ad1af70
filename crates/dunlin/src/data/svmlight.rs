//! The svmlight / libsvm format: `label index:value index:value ... # comment`, one row a line.
//!
//! Indices start at 1 (or 0, if asked) and ascend within a row; a label is a whole number, however written, or any
//! number where targets are asked for. A
//! `qid:` word after the label is passed over: it groups rows for ranking, which no model here does. Values that
//! are 0 are not stored.

use super::input::Input;
use super::labelled::{LAST_COLUMN, Labels, Rows};
use super::text::{
    Parsed, bad_label, bad_number, digits, is_blank, label, number, real, show, skip_blanks, word_end,
};
use super::{Contents, Data, Names, Notes, ReadOptions};
use crate::{Error, Result};
use std::io::Write;

/// Reads rows.
///
/// # Errors
/// [`Error::Data`] with file and line.
pub(super) fn read(input: &mut Input, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (mut rows, mut labels) = (Rows::new(options, like), Labels::default());
    let first = u64::from(!options.zero_based);
    input.each_line(|line| {
        let line = &line[..memchr::memchr(b'#', line).unwrap_or(line.len())];
        row(line, first, &mut rows, (!options.targets).then_some(&mut labels))
    })?;
    rows.finish(input.name(), &labels, Names::default(), options, like)
}

/// Reads one row, with a target if there are no `labels`; a line with nothing on it is passed over.
fn row(line: &[u8], first: u64, rows: &mut Rows, labels: Option<&mut Labels>) -> Parsed<()> {
    let mut at = skip_blanks(line, 0);
    if at == line.len() {
        return Ok(());
    }
    let end = word_end(line, at);
    let word = &line[at..end];
    let (position, target) = match labels {
        Some(labels) => (Some(labels.position(label(word)?)), 0.0),
        None => (None, target(word)?),
    };
    at = skip_blanks(line, end);
    if line[at..].starts_with(b"qid:") {
        at = skip_blanks(line, word_end(line, at));
    }
    let mut least = first;
    while at < line.len() {
        let Some((index, colon)) = digits(line, at).filter(|(_, end)| line.get(*end) == Some(&b':')) else {
            return Err(bad_pair(line, at));
        };
        if index < least || index - first > LAST_COLUMN {
            return Err(bad_index(index, first, least));
        }
        least = index + 1;
        let value = match number(line, colon + 1) {
            Some((value, end))
                if (value as f32).is_finite() && (end == line.len() || is_blank(line[end])) =>
            {
                at = skip_blanks(line, end);
                value as f32
            }
            _ => return Err(bad_number(&line[colon + 1..word_end(line, colon + 1)], "value")),
        };
        rows.entry((index - first) as u32, value);
    }
    match position {
        Some(position) => rows.end_row(position),
        None => rows.end_row_with(target),
    }
    Ok(())
}

fn target(word: &[u8]) -> Parsed<f32> {
    match word.contains(&b':') {
        true => Err(bad_label(word)),
        false => real(word, "target"),
    }
}

#[cold]
fn bad_pair(line: &[u8], at: usize) -> String {
    let word = show(&line[at..word_end(line, at)]);
    if word.starts_with('-') && word.contains(':') {
        return format!("{word:?}: a feature index cannot be negative");
    }
    format!("{word:?} is not index:value; a row is: label index:value index:value ...")
}

#[cold]
fn bad_index(index: u64, first: u64, least: u64) -> String {
    if index < first {
        "feature index 0; indices start at 1 (for files that start at 0: --zero-based)".into()
    } else if index - first > LAST_COLUMN {
        format!("feature index {index}; at most {}", LAST_COLUMN + first)
    } else if index + 1 == least {
        format!("feature index {index} twice in one row")
    } else {
        format!("feature index {index} after {}; indices must ascend within a row", least - 1)
    }
}

/// Writes labelled rows, indices from 1.
///
/// # Errors
/// [`Error::Usage`] if a row's class is not known; [`Error::Io`].
pub(super) fn write(data: &Data, out: &mut dyn Write) -> Result<()> {
    let failed = |error| Error::io("writing svmlight rows")(error);
    for block in &data.blocks {
        for row in 0..block.rows() {
            match &block.contents {
                Contents::Sparse(rows) => {
                    let range = rows.offsets[row] as usize..rows.offsets[row + 1] as usize;
                    let entries = rows.columns[range.clone()].iter().zip(&rows.values[range]);
                    let entries = entries.map(|(column, value)| (*column as usize, *value));
                    write_row(data, (&rows.classes, &rows.targets), row, entries, out)?.map_err(failed)?;
                }
                Contents::Dense(rows) => {
                    let values = &rows.values[row * rows.width..][..rows.width];
                    let entries = values.iter().copied().enumerate().filter(|(_, value)| *value != 0.0);
                    write_row(data, (&rows.classes, &rows.targets), row, entries, out)?.map_err(failed)?;
                }
                _ => return Err(Error::Usage("only labelled rows can be written as svmlight".into())),
            }
        }
    }
    Ok(())
}

fn write_row(
    data: &Data,
    (classes, targets): (&[u32], &[f32]),
    row: usize,
    entries: impl Iterator<Item = (usize, f32)>,
    out: &mut dyn Write,
) -> Result<std::io::Result<()>> {
    let label = data.shape.classes.get(classes[row] as usize).map(i64::to_string);
    let Some(mut line) = targets.get(row).map(f32::to_string).or(label) else {
        return Err(Error::Usage("a row whose class the training data lack cannot be written".into()));
    };
    for (column, value) in entries {
        line.push_str(&format!(" {}:{value}", column + 1));
    }
    line.push('\n');
    Ok(out.write_all(line.as_bytes()))
}
