//! Comma-separated values: a header, then numbers, with one column of labels. Semicolons and tabs separate too.
//!
//! Labels may be whole numbers or words, or any numbers where targets are asked for; words become classes in alphabetical order. A field may stand in
//! quotes, with `""` for a quote; a line end within quotes is not taken.

use super::input::Input;
use super::labelled::{Labels, Rows};
use super::read::unknown;
use super::text::{self, Parsed, real, show, words};
use super::{Data, Names, Notes, ReadOptions, UNKNOWN};
use crate::Result;
use std::borrow::Cow;
use std::collections::HashMap;

/// Names by which a label column is known.
const LABEL_NAMES: [&str; 3] = ["label", "target", "class"];

/// True if a line has a field that is a name: no number.
pub(super) fn is_header(line: &[u8]) -> bool {
    let separator = separator(line);
    split(line, separator).any(|field| field.is_ok_and(|field| text::number(&field, 0).is_none()))
}

/// The one of comma, semicolon and tab that a line has most of.
fn separator(line: &[u8]) -> u8 {
    let count = |separator: &u8| line.iter().filter(|byte| *byte == separator).count();
    // The last of equals wins, and that should be the comma.
    *b"\t;,".iter().max_by_key(|separator| count(separator)).unwrap_or(&b',')
}

/// The fields of a line, unquoted, without blanks around them.
fn split(line: &[u8], separator: u8) -> impl Iterator<Item = Parsed<Cow<'_, [u8]>>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let start = text::skip_blanks(line, 0);
        if line.get(start) == Some(&b'"') {
            let quoted = unquote(&line[start + 1..], separator);
            rest = quoted.as_ref().ok().and_then(|(_, rest)| *rest);
            return Some(quoted.map(|(field, _)| Cow::Owned(field)));
        }
        let end = memchr::memchr(separator, line).unwrap_or(line.len());
        rest = line.get(end + 1..);
        Some(Ok(Cow::Borrowed(line[..end].trim_ascii())))
    })
}

/// The inside of a quoted field, whose first quote is taken off already, and what follows its separator.
fn unquote(line: &[u8], separator: u8) -> Parsed<(Vec<u8>, Option<&[u8]>)> {
    let (mut field, mut at) = (Vec::new(), 0);
    loop {
        match (line.get(at), line.get(at + 1)) {
            (Some(b'"'), Some(b'"')) => {
                field.push(b'"');
                at += 2;
            }
            (Some(b'"'), _) => break,
            (Some(byte), _) => {
                field.push(*byte);
                at += 1;
            }
            (None, _) => return Err("a quote that does not end on this line".into()),
        }
    }
    let after = text::skip_blanks(line, at + 1);
    match line.get(after) {
        None => Ok((field, None)),
        Some(byte) if *byte == separator => Ok((field, Some(&line[after + 1..]))),
        Some(_) => Err(format!("{:?} behind a quoted field", show(&line[after..]))),
    }
}

/// What the header says.
struct Header {
    separator: u8,
    names: Vec<String>,
    label: usize,
}

/// What stands in the label column of a row.
enum Label {
    Class(u32),
    Target(f32),
}

/// Labels as texts, numbered by first appearance.
#[derive(Default)]
struct Words {
    positions: HashMap<Vec<u8>, u32>,
    list: Vec<Vec<u8>>,
}

impl Words {
    fn position(&mut self, word: &[u8]) -> u32 {
        if let Some(position) = self.positions.get(word) {
            return *position;
        }
        let next = self.list.len() as u32;
        self.positions.insert(word.to_vec(), next);
        self.list.push(word.to_vec());
        next
    }
}

/// Reads rows.
///
/// # Errors
/// [`Error::Data`] with file and line; [`Error::Usage`] for a label column that is not there.
pub(super) fn read(input: &mut Input, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let header = header(input, options)?;
    let columns = columns(input, &header, like)?;
    let (mut rows, mut labels) = (Rows::new(options, like), Words::default());
    let mut values = vec![0.0f32; columns.iter().filter(|column| **column != UNKNOWN).count()];
    rows.at_least(values.len());
    input.each_line(|line| {
        if words(line).next().is_none() {
            return Ok(());
        }
        let mut count = 0;
        let mut label = None;
        for (at, field) in split(line, header.separator).enumerate() {
            let (field, name) = (field?, header.names.get(at).map_or("", String::as_str));
            count += 1;
            if at == header.label {
                label = Some(match options.targets {
                    true if !field.is_empty() => Label::Target(value(&field, name)?),
                    _ => Label::Class(labels.position(&field)),
                })
                .filter(|_| !field.is_empty());
            } else if let Some(column) = columns.get(at).filter(|column| **column != UNKNOWN) {
                values[*column as usize] = value(&field, name)?;
            }
        }
        if count != header.names.len() {
            return Err(format!("{count} fields; the header has {}", header.names.len()));
        }
        values.iter().zip(0..).for_each(|(value, column)| rows.entry(column, *value));
        match label.ok_or_else(|| format!("no label in column {:?}", header.names[header.label]))? {
            Label::Class(position) => rows.end_row(position),
            Label::Target(target) => rows.end_row_with(target),
        }
        Ok(())
    })?;
    let (labels, classes) = settle(&labels, like, input)?;
    let used = columns.iter().filter(|column| **column != UNKNOWN).count();
    let dropped = (header.names.len() - 1 - used) as u64 * rows.len() as u64;
    let mut names = header.names;
    names.remove(header.label);
    let names = Names { columns: names, classes, ..Names::default() };
    let (data, notes) = rows.finish(input.name(), &labels, names, options, like)?;
    Ok((data, Notes { dropped_entries: notes.dropped_entries + dropped, ..notes }))
}

fn value(field: &[u8], name: &str) -> Parsed<f32> {
    if field.is_empty() {
        return Err(format!("no value in column {name:?}; every feature must have a number"));
    }
    real(field, "value").map_err(|message| format!("{message} (column {name:?})"))
}

fn header(input: &mut Input, options: &ReadOptions) -> Result<Header> {
    let Some(line) = input.next_line()? else { return Err(input.whole_fault("the file is empty")) };
    let (named, separator) = (is_header(line), separator(line));
    let fields: Parsed<Vec<String>> =
        split(line, separator).map(|field| Ok(String::from_utf8_lossy(&field?).into_owned())).collect();
    let names = fields.map_err(|message| input.fault(message))?;
    if !named {
        return Err(input.fault("only numbers; a CSV file starts with a header that names its columns"));
    }
    if names.len() < 2 {
        return Err(
            input.fault(format!("one column ({:?}); features and a label make at least two", names[0]))
        );
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(input.fault(format!("two columns are called {:?}", pair[0])));
    }
    let label = label_column(input.name(), &names, options.label.as_deref())?;
    Ok(Header { separator, names, label })
}

fn label_column(file: &str, names: &[String], wanted: Option<&str>) -> Result<usize> {
    let Some(wanted) = wanted else {
        let known = |name: &String| LABEL_NAMES.contains(&name.to_ascii_lowercase().as_str());
        return Ok(names.iter().position(known).unwrap_or(names.len() - 1));
    };
    let by_number = || wanted.parse::<usize>().ok().filter(|at| *at < names.len());
    names.iter().position(|name| name == wanted).or_else(by_number).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(String::as_str).take(100).collect();
        unknown(&format!("{file}:1: label column (a name, or a position from 0)"), wanted, &names)
    })
}

/// For each field its feature column: its place without the label, or that of the training data's same name.
/// [`UNKNOWN`] for the label and for columns that the training data lack.
fn columns(input: &Input, header: &Header, like: Option<&Data>) -> Result<Vec<u32>> {
    let place = |at: usize| if at > header.label { at as u32 - 1 } else { at as u32 };
    let known = like.map(|like| &like.names.columns).filter(|known| !known.is_empty());
    let Some(known) = known else {
        let limit = like.map_or(u32::MAX, |like| like.shape.columns as u32);
        let column = |at: usize| if at == header.label || place(at) >= limit { UNKNOWN } else { place(at) };
        return Ok((0..header.names.len()).map(column).collect());
    };
    let mut positions: HashMap<&str, u32> = known.iter().map(String::as_str).zip(0..).collect();
    let column = |(at, name): (usize, &String)| {
        if at == header.label { UNKNOWN } else { positions.remove(name.as_str()).unwrap_or(UNKNOWN) }
    };
    let columns = header.names.iter().enumerate().map(column).collect();
    match known.iter().find(|name| positions.contains_key(name.as_str())) {
        Some(lacking) => Err(input.fault(format!("no column {lacking:?}, which the training data have"))),
        None => Ok(columns),
    }
}

/// What each label is: whole numbers if all are, else words in alphabetical order, or the training data's.
fn settle(words: &Words, like: Option<&Data>, input: &Input) -> Result<(Labels, Vec<String>)> {
    let texts: Vec<String> =
        words.list.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let known = like.map(|like| &like.names.classes).filter(|known| !known.is_empty());
    let numbers: Option<Vec<i64>> = words.list.iter().map(|word| text::label(word).ok()).collect();
    if let (Some(numbers), None) = (numbers, known) {
        return Ok((Labels::of(numbers), Vec::new()));
    }
    if let (Some(like), None) = (like, known) {
        let bad =
            texts.iter().find(|word| text::label(word.as_bytes()).is_err()).cloned().unwrap_or_default();
        let classes = like.shape.classes.len();
        return Err(input
            .whole_fault(format!("label {bad:?}; the training data's {classes} labels are whole numbers")));
    }
    let mut sorted = known.unwrap_or(&texts).clone();
    sorted.sort_unstable();
    // A label that the training data lack gets a number that no class has.
    let class = |word: &String| sorted.binary_search(word).map_or(-1, |class| class as i64);
    Ok((Labels::of(texts.iter().map(class).collect()), sorted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<String> {
        let fields =
            split(line.as_bytes(), b',').map(|field| String::from_utf8(field.unwrap().into_owned()).unwrap());
        fields.collect()
    }

    #[test]
    fn quotes_and_blanks_come_off() {
        assert_eq!(fields("1, 2 ,,\"a,\"\"b\" ,x"), ["1", "2", "", "a,\"b", "x"]);
        assert_eq!(fields(""), [""]);
        assert!(split(b"\"open", b',').next().unwrap().is_err());
        assert!(split(b"\"a\"b,c", b',').next().unwrap().is_err());
    }
}
