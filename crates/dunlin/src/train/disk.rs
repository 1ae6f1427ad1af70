//! Training on data that are on disk: what is counted before, and the blocks that a worker takes.

use super::Worker;
use super::dealer::Pace;
use super::library::{Blocks, Library};
use super::source::{Lane, Source, fingerprint_of, lock};
use crate::algorithm::Algorithm;
use crate::data::{Block, ColumnCounts, Data, Scratch, Store, mix_on_disk};
use crate::serial::{block_order, share};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Mutex;

/// The blocks of a [`Source`] that are on disk.
#[derive(Debug)]
pub(super) struct OnDisk {
    scratch: Scratch,
    /// Training blocks and test blocks, until all lanes have taken theirs.
    stores: Mutex<Option<(Store, Option<Store>)>>,
    /// Number of training blocks.
    pub(super) blocks: usize,
    /// Bytes of the largest training or test block.
    largest: usize,
    /// Lanes that have taken their blocks.
    taken: Mutex<usize>,
    /// The columns as they were cut, for the next rank that asks.
    cut: Mutex<Option<Vec<Range<usize>>>>,
}

impl Source {
    /// From data that are on disk ([`crate::data::read_to_disk`]), in files of `scratch`. As [`Source::new`]: the same
    /// rows in the same blocks.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Damaged`] with the place of a scratch file.
    pub fn on_disk(
        (train, store): (Data, Store),
        test: Option<(Data, Store)>,
        scratch: &Scratch,
    ) -> Result<Source> {
        let (train, store) = mix_on_disk(train, store, scratch)?;
        let fingerprint = fingerprint_of(|hash| {
            each(&store, 0..store.len(), |block| {
                hash(block);
                Ok(())
            })
        })?;
        let test = test.map(|(_, store)| store);
        let bytes = |store: &Store| (0..store.len()).map(|at| store.block_bytes(at)).max().unwrap_or(0);
        let largest = bytes(&store).max(test.as_ref().map_or(0, bytes));
        let has_test = test.is_some();
        let disk = OnDisk {
            scratch: scratch.clone(),
            blocks: store.len(),
            largest,
            stores: Mutex::new(Some((store, test))),
            taken: Mutex::new(0),
            cut: Mutex::new(None),
        };
        Ok(Source {
            shape: train.shape,
            names: train.names,
            train: Mutex::new(Vec::new()),
            test: has_test.then(|| Mutex::new(Vec::new())),
            fingerprint,
            disk: Some(disk),
        })
    }

    /// Bytes of the largest block, if the blocks are on disk.
    pub fn largest_block(&self) -> Option<usize> {
        self.disk.as_ref().map(|disk| disk.largest)
    }
}

/// Gives the blocks of `range` to `take`, one after the other.
fn each(store: &Store, range: Range<usize>, mut take: impl FnMut(&Block) -> Result<()>) -> Result<()> {
    let mut spare = None;
    for at in range {
        let block = store.load(at, spare.take())?;
        take(&block)?;
        spare = Some(block.contents);
    }
    Ok(())
}

impl OnDisk {
    fn train(&self) -> Result<Store> {
        let stores = lock(&self.stores);
        let train = stores.as_ref().map(|(train, _)| train.clone());
        train.ok_or_else(|| Error::Usage("the data were taken by another run".into()))
    }

    /// [`Algorithm::check`], until a block passes.
    pub(super) fn check<A: Algorithm>(&self, algorithm: &A, seed: u64) -> Result<()> {
        let store = self.train()?;
        let mut last = Ok(());
        for at in 0..store.len() {
            last = algorithm.check(&[&store.load(at, None)?], seed);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// A block without its contents, which are of the kind of all.
    pub(super) fn stub(&self) -> Result<Option<Block>> {
        let store = self.train()?;
        Ok((!store.is_empty()).then(|| store.stub(0).clone()))
    }

    /// The columns, cut into `count` ranges.
    pub(super) fn cut_columns(&self, columns: usize, count: usize) -> Result<Vec<Range<usize>>> {
        let store = self.train()?;
        let mut cut = lock(&self.cut);
        if cut.as_ref().is_none_or(|cut| cut.len() != count) {
            let mut counts = ColumnCounts::new(columns);
            each(&store, 0..store.len(), |block| {
                counts.add(block);
                Ok(())
            })?;
            *cut = Some(counts.cut(count));
        }
        Ok(cut.clone().unwrap_or_default())
    }

    /// [`Algorithm::clocks_per_epoch`].
    pub(super) fn clocks<A: Algorithm>(&self, algorithm: &A, lanes: usize) -> Result<usize> {
        let store = self.train()?;
        algorithm.clocks_on_disk(lanes, &mut |lane, take| {
            each(&store, share(store.len(), lanes, lane), |block| {
                take(block);
                Ok(())
            })
        })
    }

    /// Nobody else in this process wants blocks.
    pub(super) fn forget(&self) {
        *lock(&self.stores) = None;
    }

    /// For the blocks of a lane that comes.
    pub(super) fn new_store(&self) -> Result<Store> {
        Store::new(&self.scratch)
    }

    /// Takes the blocks of `hosted` lanes: arranges them, cuts them into cells, and writes them to a file of this
    /// worker's own, or, if lanes may move, to a file for each lane, which goes when the lane does.
    pub(super) fn take_lanes<A: Algorithm>(
        &self,
        algorithm: &A,
        [lanes, seed]: [u64; 2],
        hosted: Range<usize>,
        cells: Option<&[Range<usize>]>,
        (cuts_test, may_move): (bool, bool),
    ) -> Result<Vec<Lane<A::Local>>> {
        let stores = lock(&self.stores).clone();
        let Some((train, test)) = stores else {
            return Err(Error::Usage("the data were taken by another run".into()));
        };
        let lanes = lanes as usize;
        let mut own = Store::new(&self.scratch)?;
        let mut taken = Vec::new();
        for number in hosted.clone() {
            if may_move && !own.is_empty() {
                own.begin_file(&self.scratch)?;
            }
            let (from, range) = (own.len(), share(train.len(), lanes, number));
            let (first, last) = (train.stub(range.start).first_row, train.stub(range.end - 1).end_row);
            for at in range.clone() {
                let block = train.load(at, None)?;
                let cut = match cells {
                    Some(columns) => block.cells(columns)?,
                    None => vec![block],
                };
                for mut block in cut {
                    algorithm.arrange(&mut block, seed);
                    own.push(&block)?;
                }
            }
            let (until, mut spare) = (own.len(), None);
            if let Some(test) = &test {
                for at in share(test.len(), lanes, number) {
                    let block = test.load(at, spare.take())?;
                    match cells.filter(|_| cuts_test) {
                        Some(columns) => {
                            block.cells(columns)?.iter().try_for_each(|cell| own.push(cell).map(drop))?
                        }
                        None => {
                            own.push(&block)?;
                            spare = Some(block.contents);
                        }
                    }
                }
            }
            taken.push((number, [from..until, until..own.len()], range.len(), first..last));
        }
        drop((train, test));
        self.count_taken(hosted.len(), lanes);
        let library = Rc::new(Library::new(own));
        let lanes =
            taken.into_iter().map(|(number, [train, test], blocks, rows): (_, [_; 2], usize, _)| Lane {
                number,
                blocks: Blocks::There(library.clone(), train),
                cells: cells.map_or(1, <[_]>::len),
                locals: (0..blocks).map(|_| None).collect(),
                test: Blocks::There(library.clone(), test),
                test_cells: if cuts_test { cells.map_or(1, <[_]>::len) } else { 1 },
                rows,
                pace: Pace::default(),
            });
        Ok(lanes.collect())
    }

    /// Frees the disk once all lanes have their own blocks.
    fn count_taken(&self, hosted: usize, lanes: usize) {
        let mut taken = lock(&self.taken);
        *taken += hosted;
        if *taken >= lanes {
            self.forget();
        }
    }
}

impl<A: Algorithm> Worker<'_, A> {
    /// Has the blocks of this step read ahead, and then those of the step that comes next if lanes take turns.
    pub(super) fn read_ahead(&self, place: usize, row_block: usize, clock: usize, due: &[usize]) {
        let Some((library, start)) = self.lanes[place].blocks.keys() else { return };
        let cells = self.lanes[place].cells;
        let mut keys: VecDeque<usize> =
            due.iter().map(|index| start + index * cells + row_block % cells).collect();
        let next = (place + 1) % self.lanes.len();
        let clock = clock + usize::from(next == 0);
        let (epoch, part) = (clock / self.clocks_per_epoch, clock % self.clocks_per_epoch);
        let Lane { number, blocks, locals, .. } = &self.lanes[next];
        let order = block_order(self.run.seed, *number, epoch, locals.len());
        let row_blocks = self.row_blocks.len();
        let (row_block, due) = match row_blocks {
            0 => (0, share(locals.len(), self.clocks_per_epoch, part)),
            _ => {
                let per_lane = row_blocks / self.run.lanes;
                let ahead = per_lane * (number + self.run.lanes - self.lanes[place].number);
                ((row_block + ahead + usize::from(next == 0)) % row_blocks, 0..locals.len())
            }
        };
        if let Some((_, start)) = blocks.keys() {
            let key = |index: &usize| start + index * cells + row_block % cells;
            keys.extend(order[due].iter().take(super::library::AHEAD).map(key));
        }
        library.plan(keys);
    }
}
