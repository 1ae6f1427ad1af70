//! The one entry: a source by name, its format found out, checked against what the model wants.

use super::input::{Input, bare_name, near};
use super::text::words;
use super::{
    Data, Kind, Pairing, Shelf, csv, docword, idx, matrix_market, pair, ratings, sample, svmlight, synth,
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// `label index:value ...`.
    Svmlight,
    /// `user item rating [time]`.
    Ratings,
    /// UCI bag of words.
    Docword,
    /// MNIST's images and labels.
    Idx,
    /// Comma-separated features with a header and a label column.
    Csv,
    /// MatrixMarket: features without labels, ratings or documents, as the model asks for.
    MatrixMarket,
}

impl Format {
    /// All formats with the words that choose them.
    pub const NAMES: [(&'static str, Format); 6] = [
        ("svmlight", Format::Svmlight),
        ("ratings", Format::Ratings),
        ("docword", Format::Docword),
        ("idx", Format::Idx),
        ("csv", Format::Csv),
        ("mtx", Format::MatrixMarket),
    ];

    /// The format called `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn from_name(name: &str) -> Result<Format> {
        let found = Format::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names = Format::NAMES.map(|(name, _)| name).join(", ");
            Error::Usage(format!("format {name:?}; formats are {names}"))
        })
    }

    /// What kind of data it holds; `None` if it may be any.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Format::Svmlight | Format::Idx | Format::Csv => Some(Kind::Labelled),
            Format::Ratings => Some(Kind::Ratings),
            Format::Docword => Some(Kind::Documents),
            Format::MatrixMarket => None,
        }
    }

    fn name(self) -> &'static str {
        Format::NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

/// How feature rows are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Compressed sparse rows if less than 40 % of the entries are non-zero, else dense.
    #[default]
    Auto,
    /// Compressed sparse rows.
    Sparse,
    /// Every value stored.
    Dense,
}

/// How to read a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// The format; found out from name and first lines if `None`.
    pub format: Option<Format>,
    /// The kind of data that the model takes; any if `None`.
    pub kind: Option<Kind>,
    /// True if feature indices of svmlight start at 0.
    pub zero_based: bool,
    /// The number of blocks to cut, if there are as many rows. Default 256.
    pub blocks: usize,
    /// The file of words for docword; otherwise `vocab.NAME.txt` beside `docword.NAME.txt` is taken if there.
    pub vocabulary: Option<PathBuf>,
    /// The label column of CSV, by name or position from 0; otherwise one called `label`, `target` or `class`,
    /// or the last.
    pub label: Option<String>,
    /// How feature rows are laid out; test data follow the training data.
    pub layout: Layout,
    /// True for a model that does not look at labels: they may all be the same. Default false.
    #[serde(default)]
    pub any_labels: bool,
    /// True for a model that learns real numbers: labels are read as targets, not as classes. Default false.
    #[serde(default)]
    pub targets: bool,
    /// What makes pairs of labelled rows, for a model that learns from pairs. Default: nothing.
    #[serde(default)]
    pub pairing: Pairing,
    /// Where blocks are left that memory is not to hold; set by [`super::read_to_disk`].
    #[serde(skip)]
    pub shelf: Option<Shelf>,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        ReadOptions {
            format: None,
            kind: None,
            zero_based: false,
            blocks: 256,
            vocabulary: None,
            label: None,
            layout: Layout::Auto,
            any_labels: false,
            targets: false,
            pairing: Pairing::None,
            shelf: None,
        }
    }
}

/// What of test data could not be used, because the training data have nothing like it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Entries in columns (features, words) beyond the training data's: dropped.
    pub dropped_entries: u64,
    /// Rows with a class, or ratings with a user, not seen in training: kept as [`super::UNKNOWN`].
    pub unknown_rows: u64,
    /// Ratings with an item not seen in training: likewise.
    pub unknown_columns: u64,
}

/// Writes data in a format that other programs read: svmlight, ratings or docword.
///
/// # Errors
/// [`Error::Usage`] if the format does not hold such data, or something in them has no name; [`Error::Io`].
pub fn write(data: &Data, format: Format, out: &mut dyn Write) -> Result<()> {
    match format {
        Format::Svmlight => svmlight::write(data, out),
        Format::Ratings => ratings::write(data, out),
        Format::Docword => docword::write(data, out),
        Format::Idx | Format::Csv | Format::MatrixMarket => {
            let name = format.name();
            Err(Error::Usage(format!(
                "data are not written as {name}; formats to write: svmlight, ratings, docword"
            )))
        }
    }
}

/// Reads a data set: [`read_noting`] without the notes.
///
/// # Errors
/// As [`read_noting`].
pub fn read(source: &str, options: &ReadOptions, like: Option<&Data>) -> Result<Data> {
    Ok(read_noting(source, options, like)?.0)
}

/// Reads a data set from `source`: a path (`.gz` and `.zst` are unpacked), `-` for standard input, a folder of
/// IDX files, `sample:NAME` for what is compiled in, or `synth:KIND?key=value&...` for what is made up on the
/// spot. With `like`, the training data, these are test data: ids, words and classes are mapped to its.
///
/// # Errors
/// [`Error::Data`] with file, line, what is wrong and what is allowed; [`Error::Usage`] for a source that cannot
/// be; [`Error::Io`].
///
/// # Blocking
/// Waits for standard input to end, if that is the source.
pub fn read_noting(source: &str, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let (rows, notes) = read_rows(source, options, like)?;
    Ok((pair(rows, source, &options.pairing, options.blocks, like.is_some())?, notes))
}

/// [`read_noting`] before pairs are made.
pub(super) fn read_rows(source: &str, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    if source.is_empty() {
        let wanted = "a file, - for standard input, sample:NAME or synth:KIND";
        return Err(Error::Usage(format!("the name of the data is empty; give {wanted}")));
    }
    if let Some(what) = source.strip_prefix("synth:") {
        return synth::read(what, options, like);
    }
    if let Some(name) = source.strip_prefix("sample:") {
        return sample::read(name, options, like);
    }
    if Path::new(source).is_dir() {
        return read_folder(source, options, like);
    }
    read_input(&mut Input::open(source)?, options, like)
}

/// Reads a data set from `reader`; `name` is used in messages and to find out the format.
///
/// # Errors
/// As [`read_noting`].
pub fn read_from(
    reader: Box<dyn Read>,
    name: &str,
    options: &ReadOptions,
    like: Option<&Data>,
) -> Result<(Data, Notes)> {
    let (rows, notes) = read_input(&mut Input::new(name, reader)?, options, like)?;
    Ok((pair(rows, name, &options.pairing, options.blocks, like.is_some())?, notes))
}

/// Reads IDX images and their labels from two readers: [`read_from`] for the one format that takes two files.
///
/// # Errors
/// As [`read_noting`].
pub fn read_idx(
    images: Box<dyn Read>,
    labels: Box<dyn Read>,
    options: &ReadOptions,
    like: Option<&Data>,
) -> Result<(Data, Notes)> {
    let (mut images, mut labels) = (Input::new("images", images)?, Input::new("labels", labels)?);
    let (rows, notes) = idx::read_pair(&mut images, &mut labels, options, like)?;
    Ok((pair(rows, "images", &options.pairing, options.blocks, like.is_some())?, notes))
}

fn read_folder(source: &str, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let wanted = if like.is_some() { "t10k" } else { "train" };
    match idx::images_in(Path::new(source), like.is_some()) {
        Some(images) => read_input(&mut Input::open(&images.to_string_lossy())?, options, like),
        None => Err(Error::Data(format!(
            "{source} is a directory without {wanted}-images-idx3-ubyte; give a file, or a folder of IDX images"
        ))),
    }
}

pub(super) fn read_input(
    input: &mut Input,
    options: &ReadOptions,
    like: Option<&Data>,
) -> Result<(Data, Notes)> {
    let format = match options.format {
        Some(format) => format,
        None => detect(input, options)?,
    };
    if let Some(kind) = format.kind() {
        check_kind(input.name(), format.name(), kind, options, like)?;
    }
    if like.is_none() {
        check_relevant(input.name(), format.name(), options)?;
    }
    match format {
        Format::Svmlight => svmlight::read(input, options, like),
        Format::Ratings => ratings::read(input, options, like),
        Format::Docword => docword::read(input, options, like),
        Format::Idx => idx::read(input, options, like),
        Format::Csv => csv::read(input, options, like),
        Format::MatrixMarket => matrix_market::read(input, options, like),
    }
}

/// Refuses data of another kind than the model takes, or the training data are.
pub(super) fn check_kind(
    name: &str,
    format: &str,
    kind: Kind,
    options: &ReadOptions,
    like: Option<&Data>,
) -> Result<()> {
    let wanted = options.kind.or(like.map(|like| like.shape.kind));
    match wanted {
        Some(wanted) if wanted != kind => Err(Error::Data(format!(
            "{name}: holds {} ({format}), taken by {}; wanted here are {}",
            spelled(kind),
            takers(kind),
            spelled(wanted)
        ))),
        _ => Ok(()),
    }
}

/// Refuses options that say nothing about data in `format`. Test data may be in another format than the training data
/// that the options are for.
///
/// # Errors
/// [`Error::Usage`] with the option and where it applies.
pub(super) fn check_relevant(name: &str, format: &str, options: &ReadOptions) -> Result<()> {
    let given = [
        ("--zero-based", options.zero_based, &[Format::Svmlight][..]),
        ("--vocabulary", options.vocabulary.is_some(), &[Format::Docword, Format::MatrixMarket]),
        ("--label", options.label.is_some(), &[Format::Csv]),
    ];
    for (flag, is_given, wanted) in given {
        let wanted: Vec<&str> = wanted.iter().map(|wanted| wanted.name()).collect();
        if is_given && !wanted.contains(&format) {
            let wanted = wanted.join(" and ");
            return Err(Error::Usage(format!("{flag} applies to {wanted} files; {name} is {format}")));
        }
    }
    Ok(())
}

fn spelled(kind: Kind) -> &'static str {
    match kind {
        Kind::Labelled => "labelled rows",
        Kind::Ratings => "ratings",
        Kind::Documents => "documents",
    }
}

fn takers(kind: Kind) -> &'static str {
    match kind {
        Kind::Labelled => "the models softmax, dml, kmeans and lasso",
        Kind::Ratings => "the model mf",
        Kind::Documents => "the model lda",
    }
}

/// The format by name and, where that does not tell, by the first lines.
fn detect(input: &mut Input, options: &ReadOptions) -> Result<Format> {
    let name = bare_name(input.name()).to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let head = input.head(64 << 10)?.to_vec();
    if head.is_empty() {
        return Err(input.whole_fault("the file is empty"));
    }
    if idx::looks_like(&head) {
        return Ok(Format::Idx);
    }
    let garbage = head.iter().take(4096).any(|byte| *byte < b' ' && !b"\t\n\r\x0c".contains(byte));
    if garbage {
        return Err(input.whole_fault("this is no text (and neither IDX, gzip nor Zstandard)"));
    }
    if ends(&[".mtx"]) || matrix_market::looks_like(&head) {
        return Ok(Format::MatrixMarket);
    }
    if ends(&[".svm", ".svmlight", ".libsvm"]) {
        return Ok(Format::Svmlight);
    }
    if name.starts_with("docword.") {
        return Ok(Format::Docword);
    }
    let lines = first_lines(&head);
    by_lines(&lines, options.kind, ends(&[".csv"])).ok_or_else(|| {
        let names = Format::NAMES.map(|(name, _)| name).join(", ");
        let shown = lines.first().map(|line| super::text::show(line)).unwrap_or_default();
        input.whole_fault(format!(
            "the format cannot be told from the first line {shown:?}; name one of {names}"
        ))
    })
}

/// The first lines that are whole, without blank lines and comments.
fn first_lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
    if lines.len() > 1 {
        lines.pop();
    }
    lines.retain(|line| words(line).next().is_some_and(|word| !word.starts_with(b"#")));
    lines.truncate(50);
    lines
}

fn by_lines(lines: &[&[u8]], kind: Option<Kind>, is_csv: bool) -> Option<Format> {
    let whole = |line: &[u8]| words(line).all(|word| super::text::whole(word).is_some());
    let count = |line: &[u8]| words(line).count();
    let first = lines.first()?;
    if lines.iter().take(3).all(|line| whole(line) && count(line) == 1)
        && lines.get(3).is_none_or(|line| whole(line) && count(line) == 3)
        && lines.len() >= 3
    {
        return Some(Format::Docword);
    }
    if lines.iter().any(|line| has_pairs(line)) {
        return Some(Format::Svmlight);
    }
    let rated = lines.iter().skip(1).chain(lines.first()).any(|line| ratings::looks_like(line));
    let header = String::from_utf8_lossy(first).to_ascii_lowercase();
    let names_ratings = header.contains("user") || header.contains("rating");
    if rated && (!is_csv || names_ratings || kind == Some(Kind::Ratings)) && kind != Some(Kind::Labelled) {
        return Some(Format::Ratings);
    }
    let separated = first.iter().any(|byte| b",;\t".contains(byte));
    (is_csv || (separated && csv::is_header(first))).then_some(Format::Csv)
}

/// True if a word after the first is `digits:value`.
fn has_pairs(line: &[u8]) -> bool {
    words(line).skip(1).any(|word| {
        super::text::digits(word, 0)
            .is_some_and(|(_, end)| word.get(end) == Some(&b':') && word.get(end + 1) != Some(&b':'))
    })
}

/// An error for an unknown word, with near ones and all there are.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> Error {
    let close = near(word, known.iter().copied());
    let hint = close.first().map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    Error::Usage(format!("{what} {word:?} is not known; {hint}there are: {}", known.join(", ")))
}
