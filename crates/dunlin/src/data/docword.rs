//! The bag-of-words format of the UCI repository: three header lines (documents, words, entries), then
//! `document word count` a line, both ids from 1, documents ascending. The vocabulary is a file of its own: line
//! n names word n.

use super::cut::{Pile, cut};
use super::input::{Input, bare_name, find_packed};
use super::labelled::offsets;
use super::text::{Parsed, digits, grouped, is_blank, show, skip_blanks, whole, words};
use super::{Block, Contents, Data, Documents, Kind, Names, Notes, ReadOptions, Shape};
use crate::{Error, Result};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The most documents or words.
const MOST: u64 = i32::MAX as u64;
/// The most occurrences of a word in a document.
pub(super) const MOST_COUNT: u64 = 1_000_000;
/// Tokens that any file may have, and those that each entry allows besides: the counts of a small file must not fill
/// the memory, since every token gets a topic.
const FREE_TOKENS: u64 = 100_000_000;
const TOKENS_PER_ENTRY: u64 = 100;
/// Documents, or words without a vocabulary, that a header may claim, and those that each entry allows besides. They
/// cost memory even where nothing is in them.
const FREE_ROWS: u64 = 1_000_000;
const ROWS_PER_ENTRY: u64 = 64;

/// The most documents, or words, of a file with `entries`.
pub(super) fn most_rows(entries: u64) -> u64 {
    FREE_ROWS.saturating_add(entries.saturating_mul(ROWS_PER_ENTRY))
}

/// Documents as they are made. Words go in with [`Bags::word`], then [`Bags::end_document`] ends the document.
#[derive(Debug, Default)]
pub(super) struct Bags {
    lengths: Vec<u64>,
    tokens: Vec<u64>,
    words: Pile<u32>,
    counts: Pile<u32>,
    /// The document at hand.
    document: Vec<(u32, u32)>,
}

impl Bags {
    /// No documents yet.
    pub(super) fn new(options: &ReadOptions) -> Bags {
        let (words, counts) = (Pile::new(options.scratch()), Pile::new(options.scratch()));
        Bags { words, counts, ..Bags::default() }
    }

    /// Adds a word to the document.
    #[inline(always)]
    pub(super) fn word(&mut self, word: u32, count: u32) {
        self.document.push((word, count));
    }

    /// Ends the document: sorts its words.
    ///
    /// # Errors
    /// A word (from 0) that is in it twice.
    pub(super) fn end_document(&mut self) -> std::result::Result<(), u32> {
        if !self.document.is_sorted_by(|left, right| left.0 < right.0) {
            self.document.sort_unstable();
            if let Some(pair) = self.document.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(pair[0].0);
            }
        }
        let mut tokens = 0;
        for (word, count) in &self.document {
            self.words.push(*word);
            self.counts.push(*count);
            tokens += u64::from(*count);
        }
        self.lengths.push(self.document.len() as u64);
        self.tokens.push(tokens);
        self.document.clear();
        Ok(())
    }

    /// Cuts the documents into blocks of about equal numbers of tokens.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no documents, or no word in any of the training documents.
    pub(super) fn finish(
        mut self,
        place: &str,
        columns: usize,
        vocabulary: Vec<String>,
        options: &ReadOptions,
        like: Option<&Data>,
    ) -> Result<Data> {
        if self.lengths.is_empty() {
            return Err(Error::Data(format!("{place}: no documents")));
        }
        let (entries, samples): (u64, u64) = (self.lengths.iter().sum(), self.tokens.iter().sum());
        if entries == 0 && like.is_none() {
            return Err(Error::Data(format!("{place}: no document has a word")));
        }
        let shape = Shape {
            kind: Kind::Documents,
            rows: self.lengths.len(),
            columns,
            entries: entries as usize,
            samples: samples as usize,
            classes: Vec::new(),
            mean_target: 0.0,
            min_target: 0.0,
            max_target: 0.0,
        };
        let mut blocks = Vec::new();
        for (id, range) in cut(&self.tokens, options.blocks).into_iter().enumerate() {
            let offsets = offsets(self.lengths[range.clone()].iter().copied());
            let count = offsets.last().copied().unwrap_or(0) as usize;
            let (words, counts) = (self.words.take(count)?, self.counts.take(count)?);
            let contents = Contents::Documents(Documents { offsets, words, counts });
            let block = Block { id: id as u32, first_row: range.start, end_row: range.end, contents };
            blocks.push(options.keep(block)?);
        }
        let names = Names { columns: vocabulary, ..Names::default() };
        let (shape, names) = like.map_or((shape, names), |like| (like.shape.clone(), like.names.clone()));
        Ok(Data { shape, names, blocks })
    }
}

/// The three header lines.
struct Header {
    documents: u64,
    words: u64,
    entries: u64,
}

/// Reads documents.
///
/// # Errors
/// [`Error::Data`] with file and line.
pub(super) fn read(input: &mut Input, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let header = header(input)?;
    let vocabulary = vocabulary(input.name(), options, header.words)?;
    let columns = word_map(header.words, &vocabulary, like);
    let (mut bags, mut notes, mut found, mut tokens) = (Bags::new(options), Notes::default(), 0u64, 0u64);
    input.each_line(|line| {
        let Some((document, word, count)) = entry(line, &header)? else { return Ok(()) };
        found += 1;
        let current = bags.lengths.len() as u64 + 1;
        if document < current {
            return Err(format!("document {document} after {current}; documents must ascend"));
        }
        tokens += u64::from(count);
        check_tokens(tokens, found)?;
        if document > most_rows(found) {
            return Err(format!("document {document} after only {found} entries; is this a docword file?"));
        }
        for _ in current..document {
            end(&mut bags)?;
        }
        match columns.column(word) {
            Some(column) => bags.word(column, count),
            None => notes.dropped_entries += 1,
        }
        Ok(())
    })?;
    if found != header.entries {
        let (said, found) = (grouped(header.entries), grouped(found));
        return Err(
            input.whole_fault(format!("{found} entries, but line 3 says {said}; is the file complete?"))
        );
    }
    check_claims(&header, found, vocabulary.is_empty()).map_err(|message| input.whole_fault(message))?;
    for _ in bags.lengths.len() as u64..header.documents {
        end(&mut bags).map_err(|message| input.fault(message))?;
    }
    let data = bags.finish(input.name(), header.words as usize, vocabulary, options, like)?;
    Ok((data, notes))
}

/// Refuses more tokens than `entries` entries may make.
#[inline(always)]
pub(super) fn check_tokens(tokens: u64, entries: u64) -> Parsed<()> {
    let most = FREE_TOKENS + TOKENS_PER_ENTRY * entries;
    if tokens > most { Err(too_many_tokens(tokens, entries)) } else { Ok(()) }
}

#[cold]
fn too_many_tokens(tokens: u64, entries: u64) -> String {
    let most = FREE_TOKENS + TOKENS_PER_ENTRY * entries;
    format!(
        "the counts up to here make {} tokens; at most {} ({} and {TOKENS_PER_ENTRY} for each of the {} entries)",
        grouped(tokens),
        grouped(most),
        grouped(FREE_TOKENS),
        grouped(entries)
    )
}

/// Refuses more documents, or words that nothing names, than `entries` entries make plausible.
fn check_claims(header: &Header, entries: u64, is_unnamed: bool) -> Parsed<()> {
    let claims = [(1, "documents", header.documents, true), (2, "words", header.words, is_unnamed)];
    for (line, what, said, counts) in claims {
        if counts && said > most_rows(entries) {
            let (said, most, entries) = (grouped(said), grouped(most_rows(entries)), grouped(entries));
            return Err(format!(
                "line {line} says {said} {what}; with only {entries} entries at most {most}"
            ));
        }
    }
    Ok(())
}

fn end(bags: &mut Bags) -> Parsed<()> {
    let document = bags.lengths.len() + 1;
    bags.end_document().map_err(|word| format!("word {} twice in document {document}", u64::from(word) + 1))
}

fn header(input: &mut Input) -> Result<Header> {
    let mut values = [0; 3];
    for (value, what) in values.iter_mut().zip(["documents", "words", "entries"]) {
        let Some(line) = input.next_line()? else {
            return Err(input.fault(format!("the file ends where the number of {what} should be")));
        };
        let (only, shown) = (single(line), show(line));
        *value =
            only.ok_or_else(|| input.fault(format!("{shown:?} where the number of {what} should be")))?;
        let most = if what == "entries" { u64::MAX } else { MOST };
        if *value > most {
            return Err(input.fault(format!("{value} {what}; at most {most}")));
        }
    }
    let [documents, words, entries] = values;
    if entries > documents * words {
        let message = format!(
            "{entries} entries; {documents} documents of {words} words have at most {}",
            documents * words
        );
        return Err(input.fault(message));
    }
    Ok(Header { documents, words, entries })
}

/// The only word of a line, as a whole number.
fn single(line: &[u8]) -> Option<u64> {
    let mut fields = words(line);
    fields.next().and_then(whole).filter(|_| fields.next().is_none())
}

/// Three whole numbers between blanks.
#[inline(always)]
fn three(line: &[u8]) -> Option<(u64, u64, u64)> {
    let next = |at: usize| {
        digits(line, skip_blanks(line, at)).filter(|(_, end)| line.get(*end).is_none_or(|b| is_blank(*b)))
    };
    let (first, at) = next(0)?;
    let (second, at) = next(at)?;
    let (third, at) = next(at)?;
    (skip_blanks(line, at) == line.len()).then_some((first, second, third))
}

/// Document and word from 1, and the count; `None` on a blank line.
#[inline(always)]
fn entry(line: &[u8], header: &Header) -> Parsed<Option<(u64, u64, u32)>> {
    if skip_blanks(line, 0) == line.len() {
        return Ok(None);
    }
    let Some((document, word, count)) = three(line) else {
        return Err(format!("{:?}; a line is: document word count, three whole numbers", show(line)));
    };
    if document == 0 || document > header.documents {
        return Err(format!("document {document}; documents go from 1 to {} (line 1)", header.documents));
    }
    if word == 0 || word > header.words {
        return Err(format!("word {word}; words go from 1 to {} (line 2)", header.words));
    }
    if count == 0 || count > MOST_COUNT {
        return Err(format!("count {count}; counts go from 1 to {MOST_COUNT}"));
    }
    Ok(Some((document, word, count as u32)))
}

/// Which column each word of the file is.
enum WordMap {
    /// The same, as far as there are columns.
    Same(u64),
    /// By the words themselves.
    ByName(Vec<Option<u32>>),
}

impl WordMap {
    #[inline(always)]
    fn column(&self, word: u64) -> Option<u32> {
        match self {
            WordMap::Same(columns) => (word <= *columns).then_some(word as u32 - 1),
            WordMap::ByName(columns) => columns.get(word as usize - 1).copied().flatten(),
        }
    }
}

fn word_map(words: u64, vocabulary: &[String], like: Option<&Data>) -> WordMap {
    let Some(like) = like else { return WordMap::Same(words) };
    let known = &like.names.columns;
    if vocabulary.is_empty() || known.is_empty() || vocabulary == known {
        return WordMap::Same(like.shape.columns as u64);
    }
    let positions: HashMap<&str, u32> = known.iter().map(String::as_str).zip(0..).collect();
    WordMap::ByName(vocabulary.iter().map(|word| positions.get(word.as_str()).copied()).collect())
}

/// The words, if a vocabulary was named or lies beside the file.
pub(super) fn vocabulary(source: &str, options: &ReadOptions, words: u64) -> Result<Vec<String>> {
    let Some(path) = options.vocabulary.clone().or_else(|| beside(source)) else { return Ok(Vec::new()) };
    let mut input = Input::open(&path.to_string_lossy())?;
    let mut list = Vec::new();
    input.each_line(|line| {
        let word = std::str::from_utf8(line).map_err(|_| format!("{:?} is not UTF-8 text", show(line)))?;
        list.push(word.trim().to_string());
        Ok(())
    })?;
    while list.len() as u64 > words && list.last().is_some_and(String::is_empty) {
        list.pop();
    }
    if list.len() as u64 != words {
        let found = grouped(list.len() as u64);
        return Err(input.whole_fault(format!("{found} words, but {source} says {}", grouped(words))));
    }
    Ok(list)
}

/// `vocab.NAME.txt` for `docword.NAME.txt`, with NAME also without a last part such as `.train`.
fn beside(source: &str) -> Option<PathBuf> {
    let mut name = bare_name(source).strip_prefix("docword.")?.strip_suffix(".txt")?;
    let folder = Path::new(source).parent()?;
    loop {
        if let Some(found) = find_packed(&folder.join(format!("vocab.{name}.txt"))) {
            return Some(found);
        }
        name = &name[..name.rfind('.')?];
    }
}

/// Writes documents with the header, ids from 1.
///
/// # Errors
/// [`Error::Usage`] if the data are no documents; [`Error::Io`].
pub(super) fn write(data: &Data, out: &mut dyn Write) -> Result<()> {
    let failed = |error| Error::io("writing documents")(error);
    let rows: usize = data.blocks.iter().map(Block::rows).sum();
    let entries: usize = data.blocks.iter().map(Block::entries).sum();
    write!(out, "{rows}\n{}\n{entries}\n", data.shape.columns).map_err(failed)?;
    for block in &data.blocks {
        let Contents::Documents(documents) = &block.contents else {
            return Err(Error::Usage("only documents can be written as docword".into()));
        };
        for row in 0..block.rows() {
            for at in documents.offsets[row] as usize..documents.offsets[row + 1] as usize {
                let (word, count) = (u64::from(documents.words[at]) + 1, documents.counts[at]);
                writeln!(out, "{} {word} {count}", block.first_row + row + 1).map_err(failed)?;
            }
        }
    }
    Ok(())
}
