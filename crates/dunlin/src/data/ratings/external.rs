//! Ratings that do not fit into memory: they wait on disk in the order of the file, are dealt out by block, and sorted
//! by user within each. The blocks are those that are cut in memory.

use super::{Gatherer, Ids};
use crate::data::buckets::Buckets;
use crate::data::cut::cut;
use crate::data::scratch::{Piece, Scratch, ScratchFile};
use crate::data::{Block, Contents, Data, Kind, Names, Notes, Ratings, ReadOptions, Shape, UNKNOWN};
use crate::{Error, Result};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;
use std::sync::Arc;

/// Ratings that wait in memory until they are written: 1.5 MB.
pub(super) const WAITING: usize = 1 << 17;

/// Ratings that wait on disk, in the order of the file.
#[derive(Debug)]
pub(super) struct Waiting {
    scratch: Scratch,
    file: Result<Arc<ScratchFile>>,
    pieces: Vec<(Piece, usize)>,
}

impl Waiting {
    pub(super) fn new(scratch: &Scratch) -> Waiting {
        Waiting { scratch: scratch.clone(), file: scratch.file("reading"), pieces: Vec::new() }
    }

    /// Writes `ratings` and empties them. What goes wrong is told in the end: a line of the file is not to blame.
    pub(super) fn write(&mut self, ratings: &mut Ratings) {
        if let Ok(file) = &self.file {
            let Ratings { users, items, ratings: values } = &*ratings;
            match file.append(&[cast_slice(users), cast_slice(items), cast_slice(values)]) {
                Ok(piece) => self.pieces.push((piece, users.len())),
                Err(error) => self.file = Err(error),
            }
        }
        ratings.users.clear();
        ratings.items.clear();
        ratings.ratings.clear();
    }

    /// Gives all ratings to `take`, some at a time.
    fn each(&self, mut take: impl FnMut(&Ratings) -> Result<()>) -> Result<()> {
        let Ok(file) = &self.file else { return Ok(()) };
        let mut here = Ratings::default();
        for (piece, count) in &self.pieces {
            here.users.resize(*count, 0);
            here.items.resize(*count, 0);
            here.ratings.resize(*count, 0.0);
            let Ratings { users, items, ratings } = &mut here;
            file.read(*piece, &mut [cast_slice_mut(users), cast_slice_mut(items), cast_slice_mut(ratings)])?;
            take(&here)?;
        }
        Ok(())
    }
}

/// Where an id by number goes: to its final index, or where it is.
fn placed(index: &[u32], id: u32) -> u32 {
    index.get(id as usize).copied().unwrap_or(id)
}

impl Gatherer {
    /// [`Gatherer::finish`] for ratings that wait on disk.
    pub(super) fn finish_waiting(
        mut self,
        mut waiting: Waiting,
        place: &str,
        options: &ReadOptions,
        like: Option<&Data>,
    ) -> Result<(Data, Notes)> {
        waiting.write(&mut self.ratings);
        waiting.file = Ok(waiting.file?);
        if waiting.pieces.is_empty() {
            return Err(Error::Data(format!("{place}: no ratings; the file is empty")));
        }
        if let Some(like) = like {
            return deal(&waiting, like, options);
        }
        let [(user_index, rows), (item_index, columns)] = [self.users, self.items].map(Ids::settle);
        let (mut weights, mut range) = (vec![0u64; rows.len()], [f32::INFINITY, f32::NEG_INFINITY]);
        let (mut sum, mut count) = (0.0, 0);
        waiting.each(|some| {
            some.users.iter().for_each(|user| weights[placed(&user_index, *user) as usize] += 1);
            for rating in &some.ratings {
                sum += f64::from(*rating);
                range = [range[0].min(*rating), range[1].max(*rating)];
            }
            count += some.ratings.len();
            Ok(())
        })?;
        let shape = Shape {
            kind: Kind::Ratings,
            rows: rows.len(),
            columns: columns.len(),
            entries: count,
            samples: count,
            classes: Vec::new(),
            mean_target: sum / count as f64,
            min_target: range[0],
            max_target: range[1],
        };
        let ranges = cut(&weights, options.blocks);
        drop(weights);
        let ids = (0..).zip(ranges).collect();
        let blocks = by_block(&waiting, ids, [&user_index, &item_index], options)?;
        Ok((Data { shape, names: Names { rows, columns, ..Names::default() }, blocks }, Notes::default()))
    }
}

/// Test ratings, dealt to the blocks that hold their users; unknown users to the last block, behind the others.
fn deal(waiting: &Waiting, like: &Data, options: &ReadOptions) -> Result<(Data, Notes)> {
    let mut notes = Notes::default();
    waiting.each(|some| {
        let unknown = |ids: &[u32]| ids.iter().filter(|id| **id == UNKNOWN).count() as u64;
        notes.unknown_rows += unknown(&some.users);
        notes.unknown_columns += unknown(&some.items);
        Ok(())
    })?;
    let mut ranges: Vec<(u32, Range<usize>)> =
        like.blocks.iter().map(|block| (block.id, block.first_row..block.end_row)).collect();
    if ranges.is_empty() {
        ranges.push((0, 0..like.shape.rows));
    }
    let blocks = by_block(waiting, ranges, [&[], &[]], options)?;
    Ok((Data { shape: like.shape.clone(), names: like.names.clone(), blocks }, notes))
}

/// The ratings by block, with users ascending and in the order of the file within each; `blocks` are their ids and
/// ranges of users, ascending.
fn by_block(
    waiting: &Waiting,
    blocks: Vec<(u32, Range<usize>)>,
    [user_index, item_index]: [&[u32]; 2],
    options: &ReadOptions,
) -> Result<Vec<Block>> {
    let mut buckets = Buckets::new(&waiting.scratch, blocks.len())?;
    waiting.each(|some| {
        for ((user, item), rating) in some.users.iter().zip(&some.items).zip(&some.ratings) {
            let (user, item) = (placed(user_index, *user), placed(item_index, *item));
            let bucket = blocks.partition_point(|(_, users)| users.end <= user as usize);
            buckets.push(bucket.min(blocks.len() - 1), &[user, item, rating.to_bits()])?;
        }
        Ok(())
    })?;
    let (mut numbers, mut list) = (Vec::new(), Vec::with_capacity(blocks.len()));
    for (bucket, (id, users)) in blocks.into_iter().enumerate() {
        buckets.take(bucket, &mut numbers)?;
        let ratings: &mut [[u32; 3]] = cast_slice_mut(&mut numbers);
        ratings.sort_by_key(|[user, _, _]| *user);
        let contents = Contents::Ratings(Ratings {
            users: ratings.iter().map(|[user, _, _]| *user).collect(),
            items: ratings.iter().map(|[_, item, _]| *item).collect(),
            ratings: ratings.iter().map(|[_, _, bits]| f32::from_bits(*bits)).collect(),
        });
        list.push(options.keep(Block { id, first_row: users.start, end_row: users.end, contents })?);
    }
    Ok(list)
}
