//! Reading what does not fit into memory: what readers gather waits on disk, and so do the blocks that come of it.
//!
//! The blocks are the same, to the bit and in the same order, as those of a reader that has memory for all. What stays
//! in memory while reading: 8 bytes a row of features, 16 a document, the names of users, items and words, and two
//! blocks.

use super::read::read_rows;
use super::scratch::Scratch;
use super::store::Store;
use super::{Block, Data, Notes, Pairing, ReadOptions};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a reader leaves its blocks: part of [`ReadOptions`].
#[derive(Clone, Debug)]
pub struct Shelf {
    scratch: Scratch,
    blocks: Arc<Mutex<Store>>,
}

impl PartialEq for Shelf {
    fn eq(&self, other: &Shelf) -> bool {
        Arc::ptr_eq(&self.blocks, &other.blocks)
    }
}

impl ReadOptions {
    /// Where the reader is to let things wait, if not in memory.
    pub(super) fn scratch(&self) -> Option<&Scratch> {
        self.shelf.as_ref().map(|shelf| &shelf.scratch)
    }

    /// A block that is ready, to be kept: as it is, or without its contents, which are on the shelf.
    pub(super) fn keep(&self, block: Block) -> Result<Block> {
        let Some(shelf) = &self.shelf else { return Ok(block) };
        let mut blocks = shelf.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push(&block)?;
        Ok(blocks.stub(blocks.len() - 1).clone())
    }
}

/// [`super::read_noting`] for data that need not fit into memory: what is read waits in `scratch`. The blocks of the data
/// that it gives have no contents; the store has them, in the same order.
///
/// # Errors
/// As [`super::read_noting`]; [`Error::Usage`] for pairs, which join rows from anywhere; [`Error::Io`] with the place
/// of a scratch file.
///
/// # Blocking
/// As [`super::read_noting`].
pub fn read_to_disk(
    source: &str,
    options: &ReadOptions,
    like: Option<&Data>,
    scratch: &Scratch,
) -> Result<(Data, Notes, Store)> {
    if options.pairing != Pairing::None {
        return Err(Error::Usage(
            "--memory: pairs join rows from anywhere in the data, which must fit into memory for that; leave --memory out"
                .into(),
        ));
    }
    let blocks = Arc::new(Mutex::new(Store::new(scratch)?));
    let shelf = Shelf { scratch: scratch.clone(), blocks: blocks.clone() };
    let options = ReadOptions { shelf: Some(shelf), ..options.clone() };
    let (data, notes) = read_rows(source, &options, like)?;
    let store = blocks.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((data, notes, store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{mix, mix_on_disk, read_noting};

    fn loaded(outline: Data, store: &Store) -> Data {
        assert_eq!(outline.blocks.len(), store.len());
        for (at, block) in outline.blocks.iter().enumerate() {
            assert_eq!((block, block.entries()), (store.stub(at), 0));
        }
        let blocks = (0..store.len()).map(|at| store.load(at, None).unwrap()).collect();
        Data { blocks, ..outline }
    }

    /// Blocks, shape, names and notes are those of a reader with memory for all, for training and test data, mixed
    /// and not.
    #[test]
    fn blocks_are_the_same_as_in_memory() {
        let scratch = Scratch::new(&std::env::temp_dir());
        let sources = [
            ("sample:digits", "sample:digits-test"),
            (
                "synth:softmax?n=9000&columns=500&nonzeros=40&classes=4",
                "synth:softmax?n=300&columns=500&nonzeros=20&classes=4&part=test",
            ),
            ("synth:mf?n=150000&users=700&items=90", "synth:mf?n=5000&users=900&items=99&part=test"),
            ("synth:lda?docs=4000&words=900&length=100", "synth:lda?docs=50&words=990&length=30&part=test"),
        ];
        for (train, test) in sources {
            for blocks in [1, 7, 64] {
                let options = ReadOptions { blocks, ..ReadOptions::default() };
                let (whole, _) = read_noting(train, &options, None).unwrap();
                let (outline, _, store) = read_to_disk(train, &options, None, &scratch).unwrap();
                assert_eq!(loaded(outline.clone(), &store), whole, "{train}");
                let (whole_test, wanted) = read_noting(test, &options, Some(&whole)).unwrap();
                let (outline_test, notes, test_store) =
                    read_to_disk(test, &options, Some(&outline), &scratch).unwrap();
                assert_eq!((loaded(outline_test, &test_store), notes), (whole_test, wanted), "{test}");
                let (outline, store) = mix_on_disk(outline, store, &scratch).unwrap();
                assert_eq!(loaded(outline, &store), mix(whole), "{train} mixed");
            }
        }
    }

    #[test]
    fn pairs_are_refused() {
        let options = ReadOptions { pairing: Pairing::Adjacent, ..ReadOptions::default() };
        let scratch = Scratch::new(&std::env::temp_dir());
        let error = read_to_disk("sample:digits", &options, None, &scratch).unwrap_err().to_string();
        assert!(error.contains("--memory") && error.contains("pairs"), "{error}");
    }
}
