//! The blocks of a worker: in memory, or on disk with a few of them in memory at a time.
//!
//! On disk they are as the worker works on them: arranged, cut into cells, those of its lanes alone. A thread reads
//! ahead in the order that [`Blocks::plan`] was told; what comes otherwise is read when it is asked for, so that a wrong
//! guess costs time and nothing else. In memory are the block at hand and [`AHEAD`] more, in memory that is used again.

use crate::data::{Block, Contents, Store};
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Blocks that are read, or being read, before they are asked for.
pub(super) const AHEAD: usize = 2;

/// Blocks of data on disk that a worker has in memory at a time: the one at hand and those ahead.
pub(crate) const BLOCKS_IN_MEMORY: usize = AHEAD + 1;

/// Blocks that a worker may have in memory beside these while lanes move: one in the form in which it travels, with room to
/// grow, and those under way on either side.
pub(crate) const BLOCKS_IN_MOVE: usize = 5;

/// Some blocks, or cells of them, numbered from 0.
pub(super) enum Blocks {
    /// In memory.
    Here(Vec<Block>),
    /// Some of those of a library, in order.
    There(Rc<Library>, Range<usize>),
}

impl Blocks {
    pub(super) fn len(&self) -> usize {
        match self {
            Blocks::Here(blocks) => blocks.len(),
            Blocks::There(_, range) => range.len(),
        }
    }

    /// Bytes of those that are in memory at a time, at most.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Blocks::Here(blocks) => blocks.iter().map(Block::bytes).sum(),
            Blocks::There(library, range) => {
                let largest = range.clone().map(|at| library.store.block_bytes(at)).max().unwrap_or(0);
                largest * range.len().min(BLOCKS_IN_MEMORY)
            }
        }
    }

    /// The id of block `at`.
    pub(super) fn id(&self, at: usize) -> u32 {
        match self {
            Blocks::Here(blocks) => blocks[at].id,
            Blocks::There(library, range) => library.store.stub(range.start + at).id,
        }
    }

    /// Block `at`, until it is dropped.
    ///
    /// # Blocking
    /// On the disk.
    pub(super) fn get(&self, at: usize) -> Result<Held<'_>> {
        match self {
            Blocks::Here(blocks) => Ok(Held::Here(&blocks[at])),
            Blocks::There(library, range) => library.get(range.start + at),
        }
    }

    /// Those in memory; the others are arranged already.
    pub(super) fn here_mut(&mut self) -> impl Iterator<Item = &mut Block> {
        let here = match self {
            Blocks::Here(blocks) => &mut blocks[..],
            Blocks::There(..) => &mut [],
        };
        here.iter_mut()
    }

    /// The numbers by which the library knows blocks; `None` if they are in memory.
    pub(super) fn keys(&self) -> Option<(&Rc<Library>, usize)> {
        match self {
            Blocks::Here(_) => None,
            Blocks::There(library, range) => Some((library, range.start)),
        }
    }

    /// Says which blocks are about to be asked for, in what order.
    pub(super) fn plan(&self, order: impl Iterator<Item = usize>) {
        if let Some((library, start)) = self.keys() {
            library.plan(order.map(|at| start + at).collect());
        }
    }
}

/// Puts the blocks of all lanes of a worker, on disk in libraries of whatever lanes, into one: they take turns with its
/// room in memory, and what nobody has any more is given up.
pub(super) fn join(blocks: &mut [&mut Blocks]) {
    let parts = blocks.iter().filter_map(|blocks| match &**blocks {
        Blocks::Here(_) => None,
        Blocks::There(library, range) => Some((&*library.store, range.clone())),
    });
    let Some(store) = Store::gathered(parts) else { return };
    let (joined, mut start) = (Rc::new(Library::new(store)), 0);
    for blocks in blocks {
        if let Blocks::There(library, range) = &mut **blocks {
            let length = range.len();
            (*library, *range) = (Rc::clone(&joined), start..start + length);
            start += length;
        }
    }
}

/// A block that is in memory for as long as this is.
pub(super) enum Held<'a> {
    Here(&'a Block),
    There(Block, &'a Library),
}

impl Deref for Held<'_> {
    type Target = Block;
    fn deref(&self) -> &Block {
        match self {
            Held::Here(block) => block,
            Held::There(block, _) => block,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Held::There(block, library) = self {
            let none = Contents::Ratings(Default::default());
            library.state.borrow_mut().recycle(std::mem::replace(&mut block.contents, none));
        }
    }
}

/// Blocks on disk.
pub(super) struct Library {
    store: Arc<Store>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// To be asked for, in this order.
    wanted: VecDeque<usize>,
    /// Ordered from the reader, in this order.
    ordered: VecDeque<usize>,
    arrived: Vec<(usize, Block)>,
    spare: Vec<Contents>,
    reader: Option<Reader>,
}

/// The thread that reads ahead.
struct Reader {
    orders: Option<Sender<(usize, Option<Contents>)>>,
    results: Receiver<Result<Block>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn new(store: Arc<Store>) -> Reader {
        let (orders, taken) = channel::<(usize, Option<Contents>)>();
        let (give, results) = channel();
        let work = move || {
            for (at, spare) in taken {
                if give.send(store.load(at, spare)).is_err() {
                    break;
                }
            }
        };
        Reader { orders: Some(orders), results, thread: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it only reads; what it could not has been told, or nobody asked
        }
    }
}

impl Library {
    pub(super) fn new(store: Store) -> Library {
        Library { store: Arc::new(store), state: RefCell::default() }
    }

    /// Has the reader read `wanted` next.
    pub(super) fn plan(&self, wanted: VecDeque<usize>) {
        let state = &mut *self.state.borrow_mut();
        state.wanted = wanted;
        for (at, block) in std::mem::take(&mut state.arrived) {
            match state.wanted.contains(&at) {
                true => state.arrived.push((at, block)),
                false => state.recycle(block.contents),
            }
        }
        state.order(&self.store);
    }

    fn get(&self, at: usize) -> Result<Held<'_>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(place) = state.wanted.iter().position(|wanted| *wanted == at) {
            state.wanted.drain(..=place);
        }
        let block = loop {
            if let Some(place) = state.arrived.iter().position(|(arrived, _)| *arrived == at) {
                break state.arrived.swap_remove(place).1;
            }
            if !state.ordered.contains(&at) {
                break self.store.load(at, state.spare.pop())?;
            }
            state.receive()?;
        };
        state.order(&self.store);
        Ok(Held::There(block, self))
    }
}

impl State {
    /// Orders blocks until enough are on their way.
    fn order(&mut self, store: &Arc<Store>) {
        while self.ordered.len() + self.arrived.len() < AHEAD {
            let is_coming = |at: &usize| {
                self.ordered.contains(at) || self.arrived.iter().any(|(arrived, _)| arrived == at)
            };
            let Some(next) = self.wanted.iter().copied().find(|at| !is_coming(at)) else { return };
            let reader = self.reader.get_or_insert_with(|| Reader::new(Arc::clone(store)));
            let spare = self.spare.pop();
            if reader.orders.as_ref().is_none_or(|orders| orders.send((next, spare)).is_err()) {
                return; // it is read when it is asked for
            }
            self.ordered.push_back(next);
        }
    }

    fn receive(&mut self) -> Result<()> {
        let gone = || Error::Damaged("the thread that reads blocks ahead is gone".into());
        let at = self.ordered.pop_front().ok_or_else(gone)?;
        let block = self.reader.as_ref().and_then(|reader| reader.results.recv().ok());
        self.arrived.push((at, block.ok_or_else(gone)??));
        Ok(())
    }

    fn recycle(&mut self, contents: Contents) {
        if self.spare.len() <= AHEAD {
            self.spare.push(contents);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ReadOptions, Scratch, read};

    /// Whatever is planned, what is asked for comes, and no more than a few blocks are in memory.
    #[test]
    fn the_right_block_comes_whether_it_was_planned_or_not() {
        let options = ReadOptions { blocks: 20, ..ReadOptions::default() };
        let data = read("synth:mf?n=2000&users=200&items=50", &options, None).unwrap();
        let mut store = Store::new(&Scratch::new(&std::env::temp_dir())).unwrap();
        data.blocks.iter().for_each(|block| store.push(block).unwrap());
        let library = Rc::new(Library::new(store));
        let blocks = Blocks::There(library.clone(), 5..20);
        assert_eq!((blocks.len(), blocks.id(3)), (15, 8));
        let mut rng = crate::rng::stream(4, "library", &[]);
        for round in 0..200 {
            let mut order: Vec<usize> = (0..15).collect();
            rng.shuffle(&mut order);
            order.truncate(rng.below(15));
            blocks.plan(order.iter().copied());
            if rng.below(3) == 0 {
                rng.shuffle(&mut order);
            }
            for at in order {
                let at = if rng.below(10) == 0 { rng.below(15) } else { at };
                let held = blocks.get(at).unwrap();
                assert_eq!(*held, data.blocks[5 + at], "round {round}");
                let state = library.state.borrow();
                let here = state.ordered.len() + state.arrived.len();
                assert!(here <= AHEAD && state.spare.len() <= AHEAD + 1, "round {round}: {here}");
            }
        }
    }

    #[test]
    fn libraries_are_joined() {
        let options = ReadOptions { blocks: 9, ..ReadOptions::default() };
        let data = read("synth:mf?n=900&users=50&items=20", &options, None).unwrap();
        let library = |blocks: &[Block]| {
            let mut store = Store::new(&Scratch::new(&std::env::temp_dir())).unwrap();
            blocks.iter().for_each(|block| store.push(block).unwrap());
            Rc::new(Library::new(store))
        };
        let (first, second) = (library(&data.blocks[..6]), library(&data.blocks[6..]));
        let mut all = [
            (Blocks::There(Rc::clone(&first), 1..3), 1..3),
            (Blocks::There(Rc::clone(&second), 3..3), 0..0),
            (Blocks::There(second, 0..3), 6..9),
            (Blocks::There(first, 5..6), 5..6),
        ];
        join(&mut all.iter_mut().map(|(blocks, _)| blocks).collect::<Vec<_>>());
        let mut ids = Vec::new();
        for (blocks, expected) in &all {
            let Blocks::There(library, _) = blocks else { panic!("on disk") };
            assert_eq!((library.store.len(), Rc::strong_count(library)), (6, 4));
            ids.extend(expected.clone());
            assert_eq!(blocks.len(), expected.len());
            for (at, id) in expected.clone().enumerate() {
                assert_eq!(*blocks.get(at).unwrap(), data.blocks[id]);
            }
        }
    }
}
