//! The MatrixMarket exchange format: a banner, comments that begin with `%`, a line of sizes, then one entry a line.
//!
//! ```text
//! %%MatrixMarket matrix coordinate real general      coordinate: row column value; array: value, column by column
//! % a comment                                        real, integer or pattern (no value: 1)
//! 3 4 2                                              rows, columns, entries (array: rows, columns)
//! 1 1 0.5                                            from 1, in any order
//! 3 4 -2                                             symmetric, skew-symmetric: one triangle is listed
//! ```
//!
//! A matrix is what the model asks for: rows of features without labels, ratings (row = user, column = item, ids as
//! in the file) or documents (row = document, whole counts). An entry that is listed twice is refused: adding the
//! two up would be right for a stiffness matrix and wrong for ratings.

use super::docword::{self, Bags, most_rows};
use super::input::Input;
use super::labelled::{Labels, Rows};
use super::ratings::Gatherer;
use super::text::{Parsed, digits, grouped, is_blank, real, show, skip_blanks, whole, words};
use super::{Data, Kind, Names, Notes, Pairing, ReadOptions};
use crate::{Error, Result};

/// The most rows or columns.
const MOST: u64 = i32::MAX as u64;
/// What a file of this format begins with, however it is cased.
const BANNER: &[u8] = b"%%MatrixMarket";
/// Comment lines before the sizes that are passed over.
const MOST_COMMENTS: usize = 1_000_000;

/// True if the head of a file reads as MatrixMarket.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.get(..BANNER.len()).is_some_and(|start| start.eq_ignore_ascii_case(BANNER))
}

/// How the values of one triangle give the other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Symmetry {
    General,
    Symmetric,
    Skew,
}

/// The banner.
#[derive(Clone, Copy, Debug)]
struct Banner {
    is_array: bool,
    is_pattern: bool,
    is_integer: bool,
    symmetry: Symmetry,
}

/// The line of sizes, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rows: u64,
    columns: u64,
    entries: u64,
    line: u64,
}

/// Entries as they are listed, from 0.
#[derive(Debug, Default)]
struct Listed {
    rows: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f32>,
    /// For each run of blank lines: the entries before it, and the blank lines so far.
    blanks: Vec<(usize, u64)>,
}

/// Reads a matrix as the kind of data that is wanted: rows of features unless told otherwise.
///
/// # Errors
/// [`Error::Data`] with file and line.
pub(super) fn read(input: &mut Input, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let kind = options.kind.or(like.map(|like| like.shape.kind)).unwrap_or(Kind::Labelled);
    let needs_classes =
        options.kind == Some(Kind::Labelled) && !options.any_labels && options.pairing == Pairing::None;
    if needs_classes && like.is_none() {
        return Err(input.whole_fault(
            "a MatrixMarket file has no labels, and the model tells classes apart; give svmlight or csv",
        ));
    }
    let (banner, sizes) = header(input)?;
    let listed =
        if banner.is_array { array(input, banner, sizes)? } else { coordinates(input, banner, sizes)? };
    let matrix = Matrix { place: input.name(), banner, sizes, listed };
    matrix.check_claims()?;
    let names = docword::vocabulary(input.name(), options, sizes.columns)?;
    match kind {
        Kind::Labelled => matrix.into_rows(names, options, like),
        Kind::Ratings => matrix.into_ratings(options, like),
        Kind::Documents => matrix.into_documents(names, options, like),
    }
}

fn header(input: &mut Input) -> Result<(Banner, Sizes)> {
    let Some(line) = input.next_line()? else { return Err(input.whole_fault("the file is empty")) };
    let banner = banner(line).map_err(|message| input.fault(message))?;
    let mut at = 1;
    while let Some(line) = input.next_line()? {
        at += 1;
        let start = skip_blanks(line, 0);
        if start < line.len() && line[start] != b'%' {
            let sizes = sizes(line, banner, at).map_err(|message| input.fault(message))?;
            return Ok((banner, sizes));
        }
        if at as usize > MOST_COMMENTS {
            return Err(input.fault(format!("no line of sizes within {MOST_COMMENTS} lines")));
        }
    }
    Err(input.fault("the file ends where the line of sizes should be"))
}

fn banner(line: &[u8]) -> Parsed<Banner> {
    let lower = show(line).to_ascii_lowercase();
    let text = String::from_utf8_lossy(&line[..line.len().min(200)]).to_ascii_lowercase();
    let mut fields = text.split_ascii_whitespace();
    if fields.next() != Some("%%matrixmarket") {
        return Err(format!("{lower:?}; a MatrixMarket file begins with %%MatrixMarket"));
    }
    let mut choice = |what: &str, allowed: &[&str]| {
        let given = fields.next().unwrap_or("nothing").to_string();
        let refused = || format!("{given} as {what}; allowed: {}", allowed.join(", "));
        allowed.iter().position(|word| *word == given).ok_or_else(refused)
    };
    choice("object", &["matrix"])?;
    let is_array = choice("layout", &["coordinate", "array"])? == 1;
    let field = choice("field", &["real", "integer", "pattern"])?;
    let symmetry = match choice("symmetry", &["general", "symmetric", "skew-symmetric"])? {
        0 => Symmetry::General,
        1 => Symmetry::Symmetric,
        _ => Symmetry::Skew,
    };
    if let Some(more) = fields.next() {
        return Err(format!("{more:?} after the symmetry; a banner has five words"));
    }
    if field == 2 && (is_array || symmetry == Symmetry::Skew) {
        return Err("pattern goes with coordinate, and with general or symmetric".into());
    }
    Ok(Banner { is_array, is_pattern: field == 2, is_integer: field == 1, symmetry })
}

fn sizes(line: &[u8], banner: Banner, at: u64) -> Parsed<Sizes> {
    let (wanted, form) = if banner.is_array {
        (2, "rows columns")
    } else {
        (3, "rows columns entries, whole numbers of up to 18 digits")
    };
    let numbers: Vec<Option<u64>> = words(line).take(4).map(whole).collect();
    let numbers: Option<Vec<u64>> = numbers.into_iter().collect();
    let Some(numbers) = numbers.filter(|numbers| numbers.len() == wanted) else {
        return Err(format!("{:?}; the line of sizes is: {form}", show(line)));
    };
    let (rows, columns) = (numbers[0], numbers[1]);
    for (count, what) in [(rows, "rows"), (columns, "columns")] {
        if count == 0 || count > MOST {
            return Err(format!("{count} {what}; allowed are 1 to {MOST}"));
        }
    }
    if banner.symmetry != Symmetry::General && rows != columns {
        return Err(format!("{rows} rows and {columns} columns; a symmetric matrix is square"));
    }
    let most = match banner.symmetry {
        Symmetry::General => rows * columns,
        Symmetry::Symmetric => rows * (rows + 1) / 2,
        Symmetry::Skew => rows * (rows - 1) / 2,
    };
    let entries = numbers.get(2).copied().unwrap_or(most);
    if entries > most {
        return Err(format!("{entries} entries; {rows} rows of {columns} columns list at most {most}"));
    }
    Ok(Sizes { rows, columns, entries, line: at })
}

/// A value in the field of the banner.
#[inline(always)]
fn value(word: &[u8], banner: Banner) -> Parsed<f32> {
    let value = real(word, "value")?;
    match banner.is_integer && value.fract() != 0.0 {
        true => Err(format!("value {}; the banner says integer", show(word))),
        false => Ok(value),
    }
}

/// Gives every line that is not blank to `take`, and counts them against the line of sizes.
fn each_entry(
    input: &mut Input,
    sizes: Sizes,
    mut take: impl FnMut(&[u8], &mut Listed) -> Parsed<()>,
) -> Result<Listed> {
    let (mut listed, mut blanks) = (Listed::default(), 0);
    input.each_line(|line| {
        let found = listed.values.len();
        if skip_blanks(line, 0) == line.len() {
            blanks += 1;
            if listed.blanks.last().is_some_and(|(before, _)| *before == found) {
                listed.blanks.pop();
            }
            listed.blanks.push((found, blanks));
            return Ok(());
        }
        if found as u64 == sizes.entries {
            let (said, line) = (grouped(sizes.entries), sizes.line);
            return Err(format!("more entries than the {said} of line {line}"));
        }
        take(line, &mut listed)
    })?;
    let found = listed.values.len() as u64;
    if found != sizes.entries {
        let (found, said, line) = (grouped(found), grouped(sizes.entries), sizes.line);
        let message = format!("{found} entries, but line {line} makes it {said}; is the file complete?");
        return Err(input.whole_fault(message));
    }
    Ok(listed)
}

fn coordinates(input: &mut Input, banner: Banner, sizes: Sizes) -> Result<Listed> {
    let index = |line: &[u8], at: usize, most: u64, what: &str| -> Parsed<(u32, usize)> {
        let Some((index, end)) = digits(line, skip_blanks(line, at))
            .filter(|(_, end)| line.get(*end).is_none_or(|b| is_blank(*b)))
        else {
            let form = if banner.is_pattern { "row column" } else { "row column value" };
            return Err(format!("{:?}; a line is: {form}, both from 1", show(line)));
        };
        if index == 0 || index > most {
            return Err(format!("{what} {index}; {what}s go from 1 to {most} (line {})", sizes.line));
        }
        Ok((index as u32 - 1, end))
    };
    each_entry(input, sizes, |line, listed| {
        let (row, at) = index(line, 0, sizes.rows, "row")?;
        let (column, at) = index(line, at, sizes.columns, "column")?;
        let mut rest = words(&line[at..]);
        let value = match banner.is_pattern {
            true => 1.0,
            false => value(rest.next().unwrap_or(b""), banner)?,
        };
        if let Some(more) = rest.next() {
            return Err(format!("{:?} behind the entry; one entry a line", show(more)));
        }
        if banner.symmetry == Symmetry::Skew && row == column {
            return Err(format!(
                "row {0}, column {0}: the diagonal of a skew-symmetric matrix is 0",
                row + 1
            ));
        }
        listed.rows.push(row);
        listed.columns.push(column);
        listed.values.push(value);
        Ok(())
    })
}

/// Values column by column; of a symmetric matrix from the diagonal down, of a skew-symmetric one from below it.
fn array(input: &mut Input, banner: Banner, sizes: Sizes) -> Result<Listed> {
    let first = |column: u64| match banner.symmetry {
        Symmetry::General => 0,
        Symmetry::Symmetric => column,
        Symmetry::Skew => column + 1,
    };
    let (mut row, mut column) = (first(0), 0);
    each_entry(input, sizes, |line, listed| {
        let mut fields = words(line);
        let value = value(fields.next().unwrap_or(b""), banner)?;
        if fields.next().is_some() {
            return Err(format!("{:?}; an array has one value a line", show(line)));
        }
        listed.rows.push(row as u32);
        listed.columns.push(column as u32);
        listed.values.push(value);
        row += 1;
        if row == sizes.rows {
            column += 1;
            row = first(column);
        }
        Ok(())
    })
}

/// A matrix as it was read.
struct Matrix<'a> {
    place: &'a str,
    banner: Banner,
    sizes: Sizes,
    listed: Listed,
}

impl Matrix<'_> {
    /// Refuses more rows or columns than so few entries make plausible: they cost memory even where nothing is in
    /// them.
    fn check_claims(&self) -> Result<()> {
        let (entries, line) = (self.sizes.entries, self.sizes.line);
        for (said, what) in [(self.sizes.rows, "rows"), (self.sizes.columns, "columns")] {
            if said > most_rows(entries) {
                let (said, most, entries) = (grouped(said), grouped(most_rows(entries)), grouped(entries));
                return Err(Error::Data(format!(
                    "{}:{line}: {said} {what}; with only {entries} entries at most {most}",
                    self.place
                )));
            }
        }
        Ok(())
    }

    /// Calls `each` with row, column and value of every entry, both triangles of a symmetric matrix.
    fn entries(&self, mut each: impl FnMut(u32, u32, f32)) {
        let listed = &self.listed;
        let places = listed.rows.iter().zip(&listed.columns);
        for ((row, column), value) in places.zip(&listed.values) {
            each(*row, *column, *value);
            match self.banner.symmetry {
                Symmetry::Symmetric if row != column => each(*column, *row, *value),
                Symmetry::Skew => each(*column, *row, -value),
                _ => {}
            }
        }
    }

    /// Calls `take` with every row's entries, columns ascending (a counting sort by rows, then each row).
    fn rows(&self, mut take: impl FnMut(usize, &[(u32, f32)]) -> Result<()>) -> Result<()> {
        let rows = self.sizes.rows as usize;
        let mut starts = vec![0usize; rows + 1];
        self.entries(|row, _, _| starts[row as usize + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let mut next = starts.clone();
        let mut sorted = vec![(0u32, 0.0f32); starts[rows]];
        self.entries(|row, column, value| {
            let to = &mut next[row as usize];
            sorted[*to] = (column, value);
            *to += 1;
        });
        for row in 0..rows {
            let entries = &mut sorted[starts[row]..starts[row + 1]];
            if !entries.is_sorted_by_key(|(column, _)| *column) {
                entries.sort_by_key(|(column, _)| *column);
            }
            if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(self.twice(row as u32, pair[0].0));
            }
            take(row, entries)?;
        }
        Ok(())
    }

    /// Names the two lines that list the same entry.
    #[cold]
    fn twice(&self, row: u32, column: u32) -> Error {
        let mirrored = self.banner.symmetry != Symmetry::General;
        let is_it =
            |(r, c): (&u32, &u32)| (*r, *c) == (row, column) || (mirrored && (*c, *r) == (row, column));
        let places = self.listed.rows.iter().zip(&self.listed.columns).enumerate();
        let lines: Vec<u64> = places.filter(|(_, at)| is_it(*at)).map(|(at, _)| self.line(at)).collect();
        let (first, second) = (lines.first().unwrap_or(&0), lines.get(1).unwrap_or(&0));
        Error::Data(format!(
            "{}:{second}: row {}, column {} is there already, on line {first}; an entry may be listed once",
            self.place,
            row + 1,
            column + 1
        ))
    }

    /// The line of entry `at`, from 0.
    fn line(&self, at: usize) -> u64 {
        let blanks = self.listed.blanks.iter().rev().find(|(before, _)| *before <= at);
        self.sizes.line + at as u64 + 1 + blanks.map_or(0, |(_, blanks)| *blanks)
    }

    fn into_rows(
        self,
        names: Vec<String>,
        options: &ReadOptions,
        like: Option<&Data>,
    ) -> Result<(Data, Notes)> {
        let (mut rows, mut labels) = (Rows::new(options, like), Labels::default());
        let none = labels.position(0);
        rows.at_least(self.sizes.columns as usize);
        self.rows(|_, entries| {
            entries.iter().for_each(|(column, value)| rows.entry(*column, *value));
            rows.end_row(none);
            Ok(())
        })?;
        let place = self.place;
        drop(self.listed);
        rows.finish(place, &labels, Names { columns: names, ..Names::default() }, options, like)
    }

    fn into_ratings(self, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
        let mut gatherer = Gatherer::new(options, like);
        self.rows(|row, entries| {
            let user = (row + 1).to_string();
            for (column, value) in entries {
                let item = (u64::from(*column) + 1).to_string();
                let added = gatherer.add(user.as_bytes(), item.as_bytes(), *value);
                added.map_err(|message| Error::Data(format!("{}: {message}", self.place)))?;
            }
            Ok(())
        })?;
        let place = self.place;
        drop(self.listed);
        gatherer.finish(place, options, like)
    }

    fn into_documents(
        self,
        names: Vec<String>,
        options: &ReadOptions,
        like: Option<&Data>,
    ) -> Result<(Data, Notes)> {
        let columns = like.map_or(self.sizes.columns as usize, |like| like.shape.columns);
        let (mut bags, mut notes, mut found, mut tokens) = (Bags::default(), Notes::default(), 0, 0);
        self.rows(|row, entries| {
            let fault = |message: String| Error::Data(format!("{}: row {}: {message}", self.place, row + 1));
            for (column, value) in entries.iter().filter(|(_, value)| *value != 0.0) {
                if *value < 0.0 || value.fract() != 0.0 || *value as u64 > docword::MOST_COUNT {
                    let (column, most) = (column + 1, docword::MOST_COUNT);
                    return Err(fault(format!(
                        "column {column}: count {value}; counts are whole, 0 to {most}"
                    )));
                }
                (found, tokens) = (found + 1, tokens + *value as u64);
                docword::check_tokens(tokens, found).map_err(fault)?;
                match (*column as usize) < columns {
                    true => bags.word(*column, *value as u32),
                    false => notes.dropped_entries += 1,
                }
            }
            bags.end_document().map_err(|word| fault(format!("word {word} twice")))
        })?;
        let (place, width) = (self.place, self.sizes.columns as usize);
        drop(self.listed);
        Ok((bags.finish(place, width, names, options, like)?, notes))
    }
}

#[cfg(test)]
mod tests;
