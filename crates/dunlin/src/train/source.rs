//! The data of a run, shared by the ranks of a process, and the lanes that a worker takes from them.

use super::dealer::Pace;
use super::disk::OnDisk;
use super::library::Blocks;
use crate::Result;
use crate::data::{Block, Data, Names, Shape, join_columns, mix};
use crate::serial::share;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Mutex;

/// Training and test data as they were read, to be shared by the ranks of a process: each takes its blocks.
#[derive(Debug)]
pub struct Source {
    pub(super) shape: Shape,
    pub(super) names: Names,
    pub(super) train: Mutex<Vec<Option<Block>>>,
    pub(super) test: Option<Mutex<Vec<Option<Block>>>>,
    pub(super) fingerprint: String,
    /// The blocks, if memory is not to hold them; then there are none above.
    pub(super) disk: Option<OnDisk>,
}

impl Source {
    /// From data that were read. Labelled training rows are mixed, always in the same way: files are often sorted
    /// by class, and lanes that see some of the classes only make slow progress together.
    pub fn new(train: Data, test: Option<Data>) -> Source {
        let train = mix(train);
        let all = |hash: &mut dyn FnMut(&Block)| -> Result<()> {
            train.blocks.iter().for_each(hash);
            Ok(())
        };
        let fingerprint = fingerprint_of(all).unwrap_or_default(); // blocks in memory do not fail
        let own = |data: Data| Mutex::new(data.blocks.into_iter().map(Some).collect());
        let (shape, names) = (train.shape.clone(), train.names.clone());
        Source { shape, names, train: own(train), test: test.map(own), fingerprint, disk: None }
    }

    /// The training data's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The training data's names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A number in hexadecimal that differs if the training data, or the blocks that they are cut into, do.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Number of training blocks.
    pub fn blocks(&self) -> usize {
        self.disk.as_ref().map_or_else(|| lock(&self.train).len(), |disk| disk.blocks)
    }

    /// Drops the blocks that nobody took.
    pub(super) fn forget(&self) {
        self.disk.iter().for_each(OnDisk::forget);
        lock(&self.train).iter_mut().for_each(|block| *block = None);
        self.test.iter().for_each(|test| lock(test).iter_mut().for_each(|block| *block = None));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A number that differs if the data do, of all blocks that `each` gives.
pub(super) fn fingerprint_of(each: impl FnOnce(&mut dyn FnMut(&Block)) -> Result<()>) -> Result<String> {
    let mut hasher = twox_hash::XxHash3_64::new();
    each(&mut |block| hasher.write(&postcard::to_stdvec(block).unwrap_or_default()))?;
    Ok(format!("{:016x}", hasher.finish()))
}

/// One lane on this worker.
pub(super) struct Lane<L> {
    pub(super) number: usize,
    /// Its blocks; where rows of columns go round, the cells of each: block b's cell r is number b x cells + r.
    pub(super) blocks: Blocks,
    pub(super) cells: usize,
    /// One for each block.
    pub(super) locals: Vec<Option<L>>,
    /// As `blocks`, in as many cells if they are measured by lap, else whole.
    pub(super) test: Blocks,
    pub(super) test_cells: usize,
    pub(super) rows: Range<usize>,
    /// What it took since it is here.
    pub(super) pace: Pace,
}

impl<L> Lane<L> {
    /// The number of each block, with its local state.
    pub(super) fn locals_by_block(&self) -> impl Iterator<Item = (u32, &Option<L>)> {
        self.locals.iter().enumerate().map(|(index, local)| (self.blocks.id(index * self.cells), local))
    }
}

/// Takes the blocks of `lane` out of the source and cuts them into cells, by the columns that `cells` has; `None`
/// leaves them whole. Test blocks are cut too if `cuts_test`.
pub(super) fn take_lane<L>(
    source: &Source,
    lanes: usize,
    lane: usize,
    cells: Option<&[Range<usize>]>,
    cuts_test: bool,
) -> Result<Lane<L>> {
    let take = |blocks: &Mutex<Vec<Option<Block>>>| {
        let mut blocks = lock(blocks);
        let range = share(blocks.len(), lanes, lane);
        blocks[range].iter_mut().filter_map(Option::take).collect::<Vec<Block>>()
    };
    let mut blocks = take(&source.train);
    let mut test = source.test.as_ref().map(take).unwrap_or_default();
    let rows = blocks.first().map_or(0, |b| b.first_row)..blocks.last().map_or(0, |b| b.end_row);
    let locals = blocks.iter().map(|_| None).collect();
    let count = cells.map_or(1, <[_]>::len);
    if let Some(columns) = cells {
        let cut = |blocks: Vec<Block>| -> Result<Vec<Block>> {
            let cells: Result<Vec<Vec<Block>>> =
                blocks.into_iter().map(|block| block.cells(columns)).collect();
            Ok(cells?.into_iter().flatten().collect())
        };
        blocks = cut(blocks)?;
        if cuts_test {
            test = cut(test)?;
        }
    }
    let test_cells = if cuts_test { count } else { 1 };
    let (blocks, test) = (Blocks::Here(blocks), Blocks::Here(test));
    Ok(Lane { number: lane, blocks, cells: count, locals, test, test_cells, rows, pace: Pace::default() })
}

/// The lane with its share of the columns of all rows, which stay in the source for the other lanes; and its test blocks.
pub(super) fn take_columns<L>(source: &Source, lanes: usize, lane: usize) -> Result<Lane<L>> {
    let block = {
        let train = lock(&source.train);
        let blocks: Vec<&Block> = train.iter().flatten().collect();
        join_columns(&blocks, share(source.shape.columns, lanes, lane), lane as u32)?
    };
    let rows = block.first_row..block.end_row;
    let test = source.test.as_ref().map(|test| {
        let mut blocks = lock(test);
        let range = share(blocks.len(), lanes, lane);
        blocks[range].iter_mut().filter_map(Option::take).collect::<Vec<Block>>()
    });
    let (blocks, test) = (Blocks::Here(vec![block]), Blocks::Here(test.unwrap_or_default()));
    let (locals, pace) = (vec![None], Pace::default());
    Ok(Lane { number: lane, blocks, cells: 1, locals, test, test_cells: 1, rows, pace })
}
