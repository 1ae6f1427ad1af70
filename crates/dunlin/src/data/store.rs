//! Blocks on disk: written once, read back one at a time into memory that is used again.

use super::scratch::{Piece, Scratch, ScratchFile};
use super::{Block, Contents, DenseRows, Documents, Ratings, SparseRows};
use crate::{Error, Result};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;
use std::sync::Arc;

/// Blocks in scratch files, in the order in which they were put there.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where the next block goes.
    file: Arc<ScratchFile>,
    entries: Vec<Entry>,
}

/// What is known of a block without reading it.
#[derive(Clone, Debug)]
struct Entry {
    /// The block with empty contents of its kind.
    stub: Block,
    lengths: [usize; 5],
    /// Its place is free again once nobody has an entry of it.
    file: Arc<ScratchFile>,
    piece: Piece,
}

impl Entry {
    fn bytes(&self) -> usize {
        4 * self.lengths.iter().sum::<usize>()
    }
}

impl Store {
    /// No blocks yet.
    ///
    /// # Errors
    /// [`Error::Io`] with the place.
    pub fn new(scratch: &Scratch) -> Result<Store> {
        Ok(Store { file: scratch.file("blocks")?, entries: Vec::new() })
    }

    /// Has the blocks that come next go to a file of their own, so that they can be given up without those before.
    ///
    /// # Errors
    /// [`Error::Io`] with the place.
    pub fn begin_file(&mut self, scratch: &Scratch) -> Result<()> {
        self.file = scratch.file("blocks")?;
        Ok(())
    }

    /// The blocks of these ranges of stores, in this order, where they are; `None` if there are none.
    pub fn gathered<'a>(parts: impl IntoIterator<Item = (&'a Store, Range<usize>)>) -> Option<Store> {
        let parts = parts.into_iter();
        let entries: Vec<Entry> = parts.flat_map(|(store, range)| store.entries[range].to_vec()).collect();
        let file = entries.first()?.file.clone();
        Some(Store { file, entries })
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the block at `at` once it is in memory.
    pub fn block_bytes(&self, at: usize) -> usize {
        self.entries[at].bytes()
    }

    /// The block at `at` without its contents: what they are is known, and that is all.
    pub fn stub(&self, at: usize) -> &Block {
        &self.entries[at].stub
    }

    /// Adds a block at the end.
    ///
    /// # Errors
    /// [`Error::Usage`] for pairs, which are not kept on disk; [`Error::Io`] with the place.
    pub fn push(&mut self, block: &Block) -> Result<()> {
        let (parts, empty): ([&[u8]; 5], _) = match &block.contents {
            Contents::Sparse(rows) => (
                [
                    cast_slice(&rows.offsets),
                    cast_slice(&rows.columns),
                    cast_slice(&rows.values),
                    cast_slice(&rows.classes),
                    cast_slice(&rows.targets),
                ],
                Contents::Sparse(SparseRows::default()),
            ),
            Contents::Dense(rows) => (
                [cast_slice(&rows.values), cast_slice(&rows.classes), cast_slice(&rows.targets), &[], &[]],
                Contents::Dense(DenseRows { width: rows.width, ..DenseRows::default() }),
            ),
            Contents::Ratings(ratings) => (
                [
                    cast_slice(&ratings.users),
                    cast_slice(&ratings.items),
                    cast_slice(&ratings.ratings),
                    &[],
                    &[],
                ],
                Contents::Ratings(Ratings::default()),
            ),
            Contents::Documents(documents) => (
                [
                    cast_slice(&documents.offsets),
                    cast_slice(&documents.words),
                    cast_slice(&documents.counts),
                    &[],
                    &[],
                ],
                Contents::Documents(Documents::default()),
            ),
            Contents::Pairs(_) => return Err(no_pairs()),
        };
        let (lengths, piece) = (parts.map(|part| part.len() / 4), self.file.append(&parts)?);
        let stub =
            Block { id: block.id, first_row: block.first_row, end_row: block.end_row, contents: empty };
        self.entries.push(Entry { stub, lengths, file: self.file.clone(), piece });
        Ok(())
    }

    /// Reads the block at `at`. `spare`, contents that nobody needs any more, gives it its memory.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the file's place if these are not the bytes that were written; [`Error::Io`].
    pub fn load(&self, at: usize, spare: Option<Contents>) -> Result<Block> {
        let Entry { stub, lengths: [first, second, third, fourth, fifth], piece, .. } = &self.entries[at];
        let contents = match &stub.contents {
            Contents::Sparse(_) => {
                let mut rows = match spare {
                    Some(Contents::Sparse(rows)) => rows,
                    _ => SparseRows::default(),
                };
                let SparseRows { offsets, columns, values, classes, targets } = &mut rows;
                let parts = [
                    sized(offsets, *first),
                    sized(columns, *second),
                    sized(values, *third),
                    sized(classes, *fourth),
                    sized(targets, *fifth),
                ];
                self.read(*piece, parts, at)?;
                Contents::Sparse(rows)
            }
            Contents::Dense(empty) => {
                let mut rows = match spare {
                    Some(Contents::Dense(rows)) => rows,
                    _ => DenseRows::default(),
                };
                rows.width = empty.width;
                let DenseRows { values, classes, targets, .. } = &mut rows;
                let parts = [sized(values, *first), sized(classes, *second), sized(targets, *third)];
                self.read(*piece, parts, at)?;
                Contents::Dense(rows)
            }
            Contents::Ratings(_) => {
                let mut ratings = match spare {
                    Some(Contents::Ratings(ratings)) => ratings,
                    _ => Ratings::default(),
                };
                let Ratings { users, items, ratings: values } = &mut ratings;
                let parts = [sized(users, *first), sized(items, *second), sized(values, *third)];
                self.read(*piece, parts, at)?;
                Contents::Ratings(ratings)
            }
            Contents::Documents(_) => {
                let mut documents = match spare {
                    Some(Contents::Documents(documents)) => documents,
                    _ => Documents::default(),
                };
                let Documents { offsets, words, counts } = &mut documents;
                let parts = [sized(offsets, *first), sized(words, *second), sized(counts, *third)];
                self.read(*piece, parts, at)?;
                Contents::Documents(documents)
            }
            Contents::Pairs(_) => return Err(no_pairs()),
        };
        Ok(Block { id: stub.id, first_row: stub.first_row, end_row: stub.end_row, contents })
    }

    fn read<const N: usize>(&self, piece: Piece, mut parts: [&mut [u8]; N], at: usize) -> Result<()> {
        let Entry { stub, file, .. } = &self.entries[at];
        let id = stub.id;
        file.read(piece, &mut parts).map_err(|error| match error {
            Error::Damaged(text) => Error::Damaged(format!("block {id} of the data: {text}")),
            error => error,
        })
    }
}

/// `list` with `length` numbers of any value, as bytes.
fn sized<T: bytemuck::Pod>(list: &mut Vec<T>, length: usize) -> &mut [u8] {
    list.truncate(length);
    list.reserve_exact(length - list.len());
    list.resize(length, T::zeroed());
    cast_slice_mut(list)
}

#[cold]
fn no_pairs() -> Error {
    Error::Usage(
        "--memory: pairs of rows are not kept on disk; leave --memory out, or learn from labelled rows"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ReadOptions, read};

    #[test]
    fn every_kind_of_block_comes_back_also_into_used_memory() {
        let sources = [
            "sample:digits",
            "synth:softmax?n=300&columns=50&nonzeros=5&classes=4",
            "synth:mf?n=900&users=50&items=20",
            "synth:lda?docs=40&words=60&length=30",
        ];
        let mut store = Store::new(&Scratch::new(&std::env::temp_dir())).unwrap();
        let mut blocks = Vec::new();
        for source in sources {
            blocks.extend(
                read(source, &ReadOptions { blocks: 7, ..ReadOptions::default() }, None).unwrap().blocks,
            );
        }
        blocks.iter().for_each(|block| store.push(block).unwrap());
        assert_eq!((store.len(), store.is_empty()), (28, false));
        let mut spare = None;
        for (at, block) in blocks.iter().enumerate().rev().chain(blocks.iter().enumerate()) {
            let loaded = store.load(at, spare.take()).unwrap();
            assert_eq!(&loaded, block);
            let stub = store.stub(at);
            assert_eq!((stub.id, stub.rows(), stub.entries()), (block.id, block.rows(), 0));
            spare = Some(loaded.contents);
        }
    }

    /// A file goes once the last block in it is given up, and no sooner.
    #[test]
    fn blocks_of_several_files_are_gathered_and_their_files_given_up() {
        let options = ReadOptions { blocks: 6, ..ReadOptions::default() };
        let blocks = read("synth:mf?n=900&users=50&items=20", &options, None).unwrap().blocks;
        let scratch = Scratch::new(&std::env::temp_dir());
        let mut store = Store::new(&scratch).unwrap();
        for pair in blocks.chunks(2) {
            store.begin_file(&scratch).unwrap();
            pair.iter().for_each(|block| store.push(block).unwrap());
        }
        let files: Vec<_> = [0, 2, 4].map(|at| Arc::downgrade(&store.entries[at].file)).into();
        let some = Store::gathered([(&store, 4..6), (&store, 1..2), (&store, 3..3)]).unwrap();
        drop(store);
        let held: Vec<bool> = files.iter().map(|file| file.strong_count() > 0).collect();
        assert_eq!(held, [true, false, true]);
        let loaded: Vec<Block> = (0..some.len()).map(|at| some.load(at, None).unwrap()).collect();
        assert_eq!(loaded, [4, 5, 1].map(|at: usize| blocks[at].clone()));
        assert!(Store::gathered([(&some, 0..0)]).is_none());
    }
}
