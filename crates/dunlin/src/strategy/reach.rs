//! Row blocks of which only what is wanted travels.
//!
//! The data of a worker touch some features: the words of its pages, the items its users have rated. If the model
//! promises that a visit leaves all others alone ([`crate::Algorithm::keeps_to_its_features`]), the rest of a row block
//! need not come by. What a worker touches of it goes straight to the next worker that touches it too, so that a row
//! block arrives in pieces, from several workers. One worker touches everything: its *home*, where it begins its lap and
//! rests at synchronisation points, so that it is whole there, with the features that nobody touches.
//!
//! With P workers that touch a share t of the features each, 1 + (P − 1) t times the model travels a lap, not P times.
//! Every feature meets the same lanes in the same order as it would in whole row blocks: the same bits.
//!
//! A feature is a row of tables on the feature axis, and a column of those on the output axis, whose rows are classes.
//! What lies beyond the features, a bias, everybody touches.

use super::set::Set;
use crate::Result;
use crate::channel::REACH;
use crate::data::{Block, Contents};
use crate::table::{Axis, Params, TableSpec};
use bytemuck::cast_slice;
use dunlin_comm::{Buffer, Comm, Message};
use std::iter::once;
use std::ops::Range;

/// Above these shares of all features a worker takes row blocks as they are: between ranks on one host, where what is
/// cut away must be worth more than the time to cut, and over a network.
const MOST: [f64; 2] = [0.5, 0.75];

/// Bytes of a row block, for each worker, below which pieces would be so small that it takes less time to send it whole.
const LEAST_BYTES: usize = 1024;

/// Rows of which more than this share is padding are worth cutting over a network.
const PADDING: f64 = 0.125;

/// The unit in which rows are cut, in bytes: elements have one or two.
const WORD: usize = 4;

/// How the rows of a rotating table are cut.
#[derive(Clone, Debug)]
struct Layout {
    /// True if features are its columns.
    by_columns: bool,
    /// Words from one row to the next, and those of a row without its padding.
    stride: usize,
    width: usize,
    /// Words of an element.
    element: usize,
}

impl Layout {
    fn new(spec: &TableSpec) -> Layout {
        let element = spec.element.bytes() / WORD;
        let (stride, width) = (spec.stride() * element, spec.width * element);
        Layout { by_columns: spec.axis == Axis::Output, stride, width, element }
    }

    fn features(&self, spec: &TableSpec) -> usize {
        if self.by_columns { spec.width } else { spec.rows }
    }

    fn is_padded(&self) -> bool {
        (self.stride - self.width) as f64 > PADDING * self.stride as f64
    }
}

/// The features that each worker's data touch.
#[derive(Clone, Debug)]
pub struct Reach {
    /// By worker, below `bound`.
    touched: Vec<Set>,
    bound: usize,
    /// By place among the rotating tables.
    layouts: Vec<Layout>,
}

/// The features that some blocks touch.
#[derive(Debug)]
pub(crate) struct Touched {
    set: Set,
    /// Features of the data; the columns beyond are everybody's.
    features: usize,
    bound: usize,
}

impl Touched {
    /// Of no block yet; `features` are the columns of the data.
    pub(crate) fn new(params: &Params, rotating: &[usize], features: usize) -> Touched {
        let specs = rotating.iter().map(|table| &params.replicas[*table].spec);
        let bound = specs.map(|spec| Layout::new(spec).features(spec)).max().unwrap_or(0);
        let mut set = Set::new(bound);
        (features..bound).for_each(|beyond| set.insert(beyond));
        Touched { set, features: features.min(bound), bound }
    }

    /// Adds those of `block`.
    pub(crate) fn add(&mut self, block: &Block) {
        let touched = match &block.contents {
            Contents::Sparse(rows) => &rows.columns,
            Contents::Ratings(ratings) => &ratings.items,
            Contents::Documents(documents) => &documents.words,
            Contents::Dense(_) | Contents::Pairs(_) => {
                self.set = Set::all(self.bound);
                return;
            }
        };
        // In test data may be features that are in no row of the training data.
        let known = touched.iter().map(|feature| *feature as usize).filter(|known| *known < self.features);
        known.for_each(|feature| self.set.insert(feature));
    }
}

impl Reach {
    /// The workers tell each other what they touch; `None` if row blocks had better travel as they are.
    ///
    /// # Blocking
    /// On all workers.
    ///
    /// # Errors
    /// [`dunlin_comm::Error::Lost`], [`dunlin_comm::Error::Timeout`]; a message that is no such set.
    pub(crate) fn agree(
        comm: &mut Comm,
        params: &Params,
        rotating: &[usize],
        own: Touched,
        (workers, row_blocks): (usize, usize),
    ) -> Result<Option<Reach>> {
        let rank = comm.rank();
        for other in (0..workers).filter(|other| *other != rank) {
            comm.send(other, REACH, Message::new(&(&own.set, comm.is_one_host()), Buffer::new()))?;
        }
        let mut is_one_host = comm.is_one_host();
        let mut touched = Vec::with_capacity(workers);
        for worker in 0..workers {
            if worker == rank {
                touched.push(own.set.clone());
                continue;
            }
            let message = comm.recv(REACH, Some(worker), "the features that its data touch")?;
            let (set, is_one): (Set, bool) = message.head()?;
            if !set.is_below(own.bound) {
                return Err(message.bad(format!("features that are not below {}", own.bound)).into());
            }
            is_one_host &= is_one;
            touched.push(set);
        }
        let specs: Vec<&TableSpec> = rotating.iter().map(|table| &params.replicas[*table].spec).collect();
        let bytes: usize = specs.iter().map(|spec| spec.rows * spec.bytes_per_row()).sum();
        if bytes / row_blocks.max(1) < workers * LEAST_BYTES {
            return Ok(None);
        }
        Ok(Reach::new(touched, own.bound, &specs, is_one_host))
    }

    /// For these rotating tables; `None` if row blocks had better travel as they are.
    fn new(mut touched: Vec<Set>, bound: usize, specs: &[&TableSpec], is_one_host: bool) -> Option<Reach> {
        let most = MOST[usize::from(!is_one_host)];
        let layouts: Vec<Layout> = specs.iter().map(|spec| Layout::new(spec)).collect();
        let all = Set::all(bound);
        for set in &mut touched {
            if set.count() as f64 > most * bound as f64 {
                set.clone_from(&all);
            }
        }
        let is_padded = !is_one_host && layouts.iter().any(Layout::is_padded);
        let is_useful = is_padded || touched.iter().any(|set| *set != all);
        is_useful.then_some(Reach { touched, bound, layouts })
    }

    fn workers(&self) -> usize {
        self.touched.len()
    }

    /// What `worker` takes of row blocks whose home is `home`.
    pub(super) fn of(&self, worker: usize, home: usize) -> Set {
        match self.touched.get(worker) {
            Some(touched) if worker != home => touched.clone(),
            _ => Set::all(self.bound),
        }
    }

    /// Where a row block of `home` goes from worker `from` on the ring, on which worker w sends to w − 1: the workers
    /// and what each gets. The next one gets word in any case; `from` itself, last, if it is the home and keeps something.
    pub(super) fn onward(&self, from: usize, home: usize) -> Vec<(usize, Set)> {
        let (mut pieces, mut left, mut worker) = (Vec::new(), self.of(from, home), from);
        loop {
            worker = (worker + self.workers() - 1) % self.workers();
            let piece = left.and(&self.of(worker, home));
            left = left.without(&piece);
            if pieces.is_empty() || !piece.is_empty() {
                pieces.push((worker, piece));
            }
            if worker == home {
                return pieces;
            }
        }
    }

    /// From whom worker `to` gets what of a row block of `home`: the other side of [`Reach::onward`].
    pub(super) fn senders(&self, to: usize, home: usize) -> Vec<(usize, Set)> {
        let (mut pieces, mut left, mut worker) = (Vec::new(), self.of(to, home), to);
        loop {
            worker = (worker + 1) % self.workers();
            let piece = left.and(&self.of(worker, home));
            left = left.without(&piece);
            if pieces.is_empty() || !piece.is_empty() {
                pieces.push((worker, piece));
            }
            if worker == home {
                return pieces;
            }
        }
    }

    /// The rows, from the first of `rows` on, and the words of each that belong to the features `set` of a row block.
    fn cells(&self, place: usize, rows: &Range<usize>, set: &Set) -> [Vec<Range<usize>>; 2] {
        let Layout { by_columns, width, element, .. } = self.layouts[place];
        if by_columns {
            let runs = set.runs(0..width / element);
            let words = runs.into_iter().map(|run| run.start * element..run.end * element);
            return [once(0..rows.len()).collect(), words.collect()];
        }
        let runs = set.runs(rows.clone()).into_iter();
        [runs.map(|run| run.start - rows.start..run.end - rows.start).collect(), once(0..width).collect()]
    }

    /// Bytes of the features `set` of `rows` of the table at `place`.
    pub(super) fn bytes(&self, place: usize, rows: &Range<usize>, set: &Set) -> usize {
        let length = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum::<usize>();
        let [rows, words] = self.cells(place, rows, set);
        length(&rows) * length(&words) * WORD
    }

    /// The features `set` out of `values`, which are `rows` of the table at `place`, without padding.
    pub(super) fn cut(&self, place: usize, rows: &Range<usize>, set: &Set, values: &[u8]) -> Buffer {
        let mut piece = Buffer::zeroed(self.bytes(place, rows, set));
        let (values, mut rest): (&[u32], _) = (cast_slice(values), words_mut(&mut piece));
        self.each(place, rows, set, |start, length| {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(length);
            copy(own, &values[start..start + length]);
            rest = others;
        });
        piece
    }

    /// Puts a piece that was cut like that where it belongs; it has as many bytes as [`Reach::bytes`] says.
    pub(super) fn paste(
        &self,
        place: usize,
        rows: &Range<usize>,
        set: &Set,
        piece: &Buffer,
        values: &mut [u8],
    ) {
        let (mut rest, values): (&[u32], &mut [u32]) =
            (cast_slice(piece.bytes()), bytemuck::cast_slice_mut(values));
        self.each(place, rows, set, |start, length| {
            let (own, others) = rest.split_at(length);
            copy(&mut values[start..start + length], own);
            rest = others;
        });
    }

    /// Gives the first word and the number of words of every run of the features `set`, row by row.
    #[inline(always)]
    fn each(&self, place: usize, rows: &Range<usize>, set: &Set, mut run: impl FnMut(usize, usize)) {
        let stride = self.layouts[place].stride;
        let [rows, words] = self.cells(place, rows, set);
        for row in rows.into_iter().flatten() {
            words.iter().for_each(|words| run(row * stride + words.start, words.len()));
        }
    }
}

fn words_mut(buffer: &mut Buffer) -> &mut [u32] {
    bytemuck::cast_slice_mut(buffer.bytes_mut())
}

/// A copy of words of which there may be one or two, where a call would cost more than they do.
#[inline(always)]
fn copy(to: &mut [u32], from: &[u32]) {
    match from.len() {
        0..=4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        _ => to.copy_from_slice(from),
    }
}

#[cfg(test)]
pub(super) mod tests;
