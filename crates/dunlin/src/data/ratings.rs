//! Ratings: `user item rating [time]`, separated by tabs, commas, `::` or blanks, with or without a header.
//!
//! Ids that are all whole numbers become indices in ascending order; otherwise both kinds of ids keep the order
//! of their first appearance. A header is a first line whose third field is no number.

mod external;

use super::cut::cut;
use super::input::Input;
use super::text::{Parsed, is_blank, number, real, show, skip_blanks, word_end};
use super::{Block, Contents, Data, Kind, Names, Notes, Ratings, ReadOptions, Shape, UNKNOWN};
use crate::{Error, Result};
use std::collections::HashMap;
use std::io::Write;

/// The most users or items.
const MOST_IDS: usize = i32::MAX as usize;
/// Whole ids below this are looked up in a list, the others in a map.
const SMALL: u64 = 1 << 22;

/// Ids as texts, numbered by first appearance. As long as all are plain whole numbers no text is kept.
#[derive(Debug, Default)]
struct Ids {
    small: Vec<u32>,
    large: HashMap<u64, u32>,
    wholes: Vec<u64>,
    texts: Option<(HashMap<String, u32>, Vec<String>)>,
}

impl Ids {
    fn of(names: &[String]) -> Ids {
        let mut ids = Ids::default();
        for name in names {
            // Cannot fail: names are text, and no more than could be added before.
            let _ = ids.add(name.as_bytes());
        }
        ids
    }

    /// The number as which `id` is kept: digits without leading zeros.
    #[inline(always)]
    fn plain(id: &[u8]) -> Option<u64> {
        super::text::whole(id).filter(|_| id[0] != b'0' || id.len() == 1)
    }

    #[inline(always)]
    fn get(&self, id: &[u8]) -> Option<u32> {
        match (&self.texts, Ids::plain(id)) {
            (None, Some(whole)) if whole < SMALL => {
                self.small.get(whole as usize).copied().filter(|found| *found != UNKNOWN)
            }
            (None, Some(whole)) => self.large.get(&whole).copied(),
            (None, None) => None,
            (Some((map, _)), _) => std::str::from_utf8(id).ok().and_then(|id| map.get(id)).copied(),
        }
    }

    #[inline(always)]
    fn add(&mut self, id: &[u8]) -> Parsed<u32> {
        match self.get(id) {
            Some(found) => Ok(found),
            None => self.insert(id),
        }
    }

    #[cold]
    fn insert(&mut self, id: &[u8]) -> Parsed<u32> {
        let next = self.len() as u32;
        let text = std::str::from_utf8(id).map_err(|_| format!("id {:?} is not UTF-8 text", show(id)))?;
        if next as usize == MOST_IDS {
            return Err(format!("more than {MOST_IDS} different users or items"));
        }
        match Ids::plain(id) {
            Some(whole) if self.texts.is_none() => {
                self.wholes.push(whole);
                if whole < SMALL {
                    let length = self.small.len().max(whole as usize + 1);
                    self.small.resize(length, UNKNOWN);
                    self.small[whole as usize] = next;
                } else {
                    self.large.insert(whole, next);
                }
            }
            _ => {
                let (map, list) = self.texts.get_or_insert_with(|| {
                    let list: Vec<String> = self.wholes.iter().map(u64::to_string).collect();
                    (list.iter().cloned().zip(0..).collect(), list)
                });
                map.insert(text.into(), next);
                list.push(text.into());
            }
        }
        Ok(next)
    }

    fn len(&self) -> usize {
        self.texts.as_ref().map_or(self.wholes.len(), |(_, list)| list.len())
    }

    /// Final index of each id by number, and the names by final index.
    fn settle(self) -> (Vec<u32>, Vec<String>) {
        let count = self.len() as u32;
        if let Some((_, list)) = self.texts {
            return ((0..count).collect(), list);
        }
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_unstable_by_key(|at| self.wholes[*at as usize]);
        let mut index = vec![0; count as usize];
        order.iter().zip(0..).for_each(|(at, position)| index[*at as usize] = position);
        (index, order.iter().map(|at| self.wholes[*at as usize].to_string()).collect())
    }
}

/// Ratings as they are read.
#[derive(Debug, Default)]
pub(super) struct Gatherer {
    users: Ids,
    items: Ids,
    ratings: Ratings,
    /// True if the ids are the training data's and no new ones are taken.
    fixed: bool,
    /// Where ratings wait that memory is not to hold.
    waiting: Option<external::Waiting>,
}

impl Gatherer {
    /// No ratings yet; with `like`, ids are its.
    pub(super) fn new(options: &ReadOptions, like: Option<&Data>) -> Gatherer {
        let waiting = options.scratch().map(external::Waiting::new);
        match like {
            None => Gatherer { waiting, ..Gatherer::default() },
            Some(like) => Gatherer {
                users: Ids::of(&like.names.rows),
                items: Ids::of(&like.names.columns),
                ratings: Ratings::default(),
                fixed: true,
                waiting,
            },
        }
    }

    /// Adds a rating.
    #[inline(always)]
    pub(super) fn add(&mut self, user: &[u8], item: &[u8], rating: f32) -> Parsed<()> {
        let (user, item) = if self.fixed {
            (self.users.get(user).unwrap_or(UNKNOWN), self.items.get(item).unwrap_or(UNKNOWN))
        } else {
            (self.users.add(user)?, self.items.add(item)?)
        };
        self.ratings.users.push(user);
        self.ratings.items.push(item);
        self.ratings.ratings.push(rating);
        if let Some(waiting) = &mut self.waiting
            && self.ratings.ratings.len() == external::WAITING
        {
            waiting.write(&mut self.ratings);
        }
        Ok(())
    }

    /// Numbers the ids, groups the ratings by user and cuts them at users into blocks.
    ///
    /// # Errors
    /// [`Error::Data`] if there are no ratings.
    pub(super) fn finish(
        mut self,
        place: &str,
        options: &ReadOptions,
        like: Option<&Data>,
    ) -> Result<(Data, Notes)> {
        if let Some(waiting) = self.waiting.take() {
            return self.finish_waiting(waiting, place, options, like);
        }
        if self.ratings.ratings.is_empty() {
            return Err(Error::Data(format!("{place}: no ratings; the file is empty")));
        }
        if let Some(like) = like {
            return Ok(dealt(self.ratings, like));
        }
        let (user_index, rows) = self.users.settle();
        let (item_index, columns) = self.items.settle();
        self.ratings.users.iter_mut().for_each(|user| *user = user_index[*user as usize]);
        self.ratings.items.iter_mut().for_each(|item| *item = item_index[*item as usize]);
        let shape = shape(&self.ratings.ratings, rows.len(), columns.len());
        let (ratings, starts) = by_user(&self.ratings, rows.len());
        drop(self.ratings);
        let weights: Vec<u64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect();
        let blocks = cut(&weights, options.blocks).into_iter().zip(0..).map(|(users, id)| {
            let range = starts[users.start]..starts[users.end];
            Block { id, first_row: users.start, end_row: users.end, contents: part(&ratings, range) }
        });
        let blocks = blocks.collect();
        Ok((Data { shape, names: Names { rows, columns, ..Names::default() }, blocks }, Notes::default()))
    }
}

fn shape(ratings: &[f32], users: usize, items: usize) -> Shape {
    Shape {
        kind: Kind::Ratings,
        rows: users,
        columns: items,
        entries: ratings.len(),
        samples: ratings.len(),
        classes: Vec::new(),
        mean_target: ratings.iter().map(|rating| f64::from(*rating)).sum::<f64>() / ratings.len() as f64,
        min_target: ratings.iter().copied().fold(f32::INFINITY, f32::min),
        max_target: ratings.iter().copied().fold(f32::NEG_INFINITY, f32::max),
    }
}

/// Test ratings, dealt to the blocks that hold their users; unknown users to the last block, behind the others. All
/// in one block, in the order of the file, where `like` is a saved model's: it has no blocks.
fn dealt(ratings: Ratings, like: &Data) -> (Data, Notes) {
    let users = like.shape.rows;
    let notes = Notes {
        unknown_rows: ratings.users.iter().filter(|user| **user == UNKNOWN).count() as u64,
        unknown_columns: ratings.items.iter().filter(|item| **item == UNKNOWN).count() as u64,
        ..Notes::default()
    };
    if like.blocks.is_empty() {
        let whole = Block { id: 0, first_row: 0, end_row: users, contents: Contents::Ratings(ratings) };
        return (Data { shape: like.shape.clone(), names: like.names.clone(), blocks: vec![whole] }, notes);
    }
    let (ratings, starts) = by_user(&ratings, users);
    let last = like.blocks.len().saturating_sub(1);
    let blocks = like.blocks.iter().enumerate().map(|(at, block)| {
        let end = if at == last { ratings.ratings.len() } else { starts[block.end_row] };
        let contents = part(&ratings, starts[block.first_row]..end);
        Block { id: block.id, first_row: block.first_row, end_row: block.end_row, contents }
    });
    let blocks = blocks.collect();
    (Data { shape: like.shape.clone(), names: like.names.clone(), blocks }, notes)
}

fn part(ratings: &Ratings, range: std::ops::Range<usize>) -> Contents {
    Contents::Ratings(Ratings {
        users: ratings.users[range.clone()].to_vec(),
        items: ratings.items[range.clone()].to_vec(),
        ratings: ratings.ratings[range].to_vec(),
    })
}

/// Ratings with users ascending, in the given order within each (a counting sort), and where each user's start;
/// unknown users come last.
fn by_user(ratings: &Ratings, users: usize) -> (Ratings, Vec<usize>) {
    let slot = |user: u32| if user == UNKNOWN { users } else { user as usize };
    let mut starts = vec![0usize; users + 2];
    ratings.users.iter().for_each(|user| starts[slot(*user) + 1] += 1);
    (0..users + 1).for_each(|user| starts[user + 1] += starts[user]);
    let (mut next, count) = (starts.clone(), ratings.ratings.len());
    let mut sorted = Ratings { users: vec![0; count], items: vec![0; count], ratings: vec![0.0; count] };
    for at in 0..count {
        let to = &mut next[slot(ratings.users[at])];
        sorted.users[*to] = ratings.users[at];
        sorted.items[*to] = ratings.items[at];
        sorted.ratings[*to] = ratings.ratings[at];
        *to += 1;
    }
    starts.truncate(users + 1);
    (sorted, starts)
}

/// What stands between the fields of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Separator {
    Byte(u8),
    Colons,
    Blanks,
}

impl Separator {
    fn of(line: &[u8]) -> Separator {
        if memchr::memmem::find(line, b"::").is_some() {
            return Separator::Colons;
        }
        let found = [b'\t', b',', b';'].into_iter().find(|byte| line.contains(byte));
        found.map_or(Separator::Blanks, Separator::Byte)
    }

    fn name(self) -> String {
        match self {
            Separator::Byte(b'\t') => "tabs".into(),
            Separator::Byte(byte) => format!("{:?}", byte as char),
            Separator::Colons => "\"::\"".into(),
            Separator::Blanks => "blanks".into(),
        }
    }

    /// The field at the front of `rest`, without blanks and quotes around it, and what follows its separator.
    #[inline(always)]
    fn field(self, rest: &[u8]) -> (&[u8], Option<&[u8]>) {
        let (end, width) = match self {
            // Fields are a few bytes long: a plain loop beats a search made for long texts.
            Separator::Byte(byte) => (rest.iter().position(|other| *other == byte), 1),
            Separator::Colons => (rest.windows(2).position(|pair| pair == b"::"), 2),
            Separator::Blanks => {
                let rest = &rest[skip_blanks(rest, 0)..];
                let end = word_end(rest, 0);
                let next = skip_blanks(rest, end);
                return (&rest[..end], (next < rest.len()).then_some(&rest[next..]));
            }
        };
        let field = &rest[..end.unwrap_or(rest.len())];
        (bare(field), end.map(|end| &rest[end + width..]))
    }
}

fn bare(mut field: &[u8]) -> &[u8] {
    while let [first, inner @ ..] = field
        && is_blank(*first)
    {
        field = inner;
    }
    while let [inner @ .., last] = field
        && is_blank(*last)
    {
        field = inner;
    }
    match field {
        [b'"', inner @ .., b'"'] => inner,
        _ => field,
    }
}

/// Reads ratings.
///
/// # Errors
/// [`Error::Data`] with file and line.
pub(super) fn read(input: &mut Input, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let mut gatherer = Gatherer::new(options, like);
    let mut separator = None;
    input.each_line(|line| {
        if skip_blanks(line, 0) == line.len() {
            return Ok(());
        }
        let first = separator.is_none();
        let separator = *separator.get_or_insert_with(|| Separator::of(line));
        match fields(line, separator) {
            Ok((_, _, third)) if first && is_header(third) => Ok(()),
            Ok((user, item, third)) => gatherer.add(user, item, real(third, "rating")?),
            Err(message) => Err(message),
        }
    })?;
    gatherer.finish(input.name(), options, like)
}

/// True for the third field of a header: a name.
fn is_header(field: &[u8]) -> bool {
    let text = String::from_utf8_lossy(field).to_ascii_lowercase();
    number(field, 0).is_none()
        && field.first().is_some_and(u8::is_ascii_alphabetic)
        && text != "nan"
        && text != "inf"
}

#[inline(always)]
fn fields(line: &[u8], separator: Separator) -> Parsed<(&[u8], &[u8], &[u8])> {
    let (user, rest) = separator.field(line);
    let (item, rest) = separator.field(rest.unwrap_or(&[]));
    let (rating, rest) = separator.field(rest.unwrap_or(&[]));
    let (_, beyond) = separator.field(rest.unwrap_or(&[]));
    if user.is_empty()
        || item.is_empty()
        || rating.is_empty()
        || beyond.is_some_and(|more| !bare(more).is_empty())
    {
        return Err(format!(
            "{:?}; a line is: user item rating [time], separated by {} as on the first line",
            show(line),
            separator.name()
        ));
    }
    Ok((user, item, rating))
}

/// True if the head of a file reads as ratings: three or four fields of which the third is a number.
pub(super) fn looks_like(line: &[u8]) -> bool {
    fields(line, Separator::of(line))
        .is_ok_and(|(_, _, third)| number(third, 0).is_some_and(|(_, end)| end == third.len()))
}

/// Writes ratings, separated by tabs, with the ids of the file they came from.
///
/// # Errors
/// [`Error::Usage`] if an id is not known; [`Error::Io`].
pub(super) fn write(data: &Data, out: &mut dyn Write) -> Result<()> {
    for block in &data.blocks {
        let Contents::Ratings(ratings) = &block.contents else {
            return Err(Error::Usage("only ratings can be written as ratings".into()));
        };
        for at in 0..ratings.ratings.len() {
            let (user, item) = (ratings.users[at], ratings.items[at]);
            if user == UNKNOWN || item == UNKNOWN {
                return Err(Error::Usage(
                    "a rating whose ids the training data lack cannot be written".into(),
                ));
            }
            let (user, item) = (&data.names.rows[user as usize], &data.names.columns[item as usize]);
            writeln!(out, "{user}\t{item}\t{}", ratings.ratings[at]).map_err(Error::io("writing ratings"))?;
        }
    }
    Ok(())
}
