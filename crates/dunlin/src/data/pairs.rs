//! Pairs of labelled rows, for models that learn from them.
//!
//! A pair joins two rows anywhere in the data, but a lane sees its own blocks alone. So data are cut by pair, not by
//! row: each block carries its pairs together with the rows that they join, copied where pairs of several blocks
//! join the same row. Which pairs there are depends on the rows alone, never on blocks, lanes or workers.

use super::cut::cut;
use super::mix::gather;
use super::{Block, Contents, Data, UNKNOWN, pair_file};
use crate::rng::{Stream, stream};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// What makes pairs of labelled rows as they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// Nothing: rows stay rows.
    #[default]
    None,
    /// Training rows stay rows. Each test row is paired with a random one of its own class and one of another, out
    /// of all test rows ([`PairList::of_classes`]).
    Labels,
    /// Rows 2r and 2r + 1 of the file are a pair, similar if their labels are equal; test rows likewise.
    Adjacent,
    /// Training pairs are listed in this file; test rows are paired as with `Labels`.
    File(PathBuf),
}

/// The pairs of a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowPairs {
    /// The rows that are joined, each once: [`Contents::Sparse`] or [`Contents::Dense`].
    pub rows: Box<Contents>,
    /// The two rows of each pair, as positions in `rows`.
    pub pairs: Vec<[u32; 2]>,
    /// Whether the rows of each pair belong together.
    pub similar: Vec<bool>,
}

/// Pairs of rows that are counted over the whole data, from 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairList {
    /// The two rows of each pair.
    pub pairs: Vec<[usize; 2]>,
    /// Whether they belong together.
    pub similar: Vec<bool>,
}

impl PairList {
    /// Adds a pair.
    pub fn push(&mut self, first: usize, second: usize, similar: bool) {
        self.pairs.push([first, second]);
        self.similar.push(similar);
    }

    /// For each row a pair with a random row of its class and one with a row of another class, where there are
    /// such. Rows of unknown class are left out. Random numbers are keyed by the row: the same rows give the same
    /// pairs, and any row can be asked on its own.
    pub fn of_classes(classes: &[u32]) -> PairList {
        let (by_class, mut list) = (ByClass::new(classes), PairList::default());
        for at in 0..by_class.len() {
            let row = by_class.row(at);
            let mut rng = stream(0, "test-pairs", &[row as u64]);
            let (alike, unlike) = (by_class.alike(at, &mut rng), by_class.unlike(at, &mut rng));
            alike.into_iter().for_each(|other| list.push(row, other, true));
            unlike.into_iter().for_each(|other| list.push(row, other, false));
        }
        list
    }

    /// Rows 2r and 2r + 1; without pairs of two unknown classes, which may be one class or two.
    fn adjacent(classes: &[u32]) -> PairList {
        let mut list = PairList::default();
        for (pair, classes) in classes.chunks_exact(2).enumerate() {
            if classes[0] != UNKNOWN || classes[1] != UNKNOWN {
                list.push(2 * pair, 2 * pair + 1, classes[0] == classes[1]);
            }
        }
        list
    }

    /// In random order, the same every time: a list is often sorted, and lanes should see of everything.
    fn mixed(self) -> PairList {
        let mut order: Vec<usize> = (0..self.pairs.len()).collect();
        stream(0, "mix", &[self.pairs.len() as u64]).shuffle(&mut order);
        PairList {
            pairs: order.iter().map(|at| self.pairs[*at]).collect(),
            similar: order.iter().map(|at| self.similar[*at]).collect(),
        }
    }
}

/// Rows sorted by class, to draw from.
#[derive(Clone, Debug)]
pub struct ByClass {
    /// Rows whose class is known, by class.
    order: Vec<usize>,
    /// For each of them the range of its class in `order`.
    ranges: Vec<(usize, usize)>,
}

impl ByClass {
    /// The rows whose class is known.
    pub fn new(classes: &[u32]) -> ByClass {
        let mut order: Vec<usize> = (0..classes.len()).filter(|row| classes[*row] != UNKNOWN).collect();
        order.sort_by_key(|row| classes[*row]);
        let bounds = |class: u32| {
            let start = order.partition_point(|row| classes[*row] < class);
            (start, order.partition_point(|row| classes[*row] <= class))
        };
        let ranges = order.iter().map(|row| bounds(classes[*row])).collect();
        ByClass { order, ranges }
    }

    /// Rows whose class is known.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The row at a place from 0 to [`ByClass::len`].
    pub fn row(&self, at: usize) -> usize {
        self.order[at]
    }

    /// True if there is another row of the class of the row at `at`.
    pub fn has_alike(&self, at: usize) -> bool {
        let (start, end) = self.ranges[at];
        end - start > 1
    }

    /// Another random row of the class of the row at `at`; `None` if it is the only one.
    pub fn alike(&self, at: usize, rng: &mut Stream) -> Option<usize> {
        let (start, end) = self.ranges[at];
        let other = self.has_alike(at).then(|| start + rng.below(end - start - 1))?;
        Some(self.order[other + usize::from(other >= at)])
    }

    /// A random row of another class than the row at `at`; `None` if there is one class alone.
    pub fn unlike(&self, at: usize, rng: &mut Stream) -> Option<usize> {
        let (start, end) = self.ranges[at];
        let others = self.order.len() - (end - start);
        let other = (others > 0).then(|| rng.below(others))?;
        Some(self.order[if other < start { other } else { other + end - start }])
    }
}

/// Makes pairs of `data` that were read from `source`, as `pairing` says; other data than labelled rows stay as
/// they are. The shape of training data then counts two rows for each pair, and each pair as one sample.
///
/// # Errors
/// [`Error::Data`] for what is wrong with the file of pairs, for an odd number of adjacent rows, and for test rows of
/// which no two make a pair.
pub fn pair(data: Data, source: &str, pairing: &Pairing, blocks: usize, is_test: bool) -> Result<Data> {
    let Some(classes) = classes(&data) else { return Ok(data) };
    let list = match (pairing, is_test) {
        (Pairing::None, _) | (Pairing::Labels, false) => return Ok(data),
        (Pairing::Adjacent, _) if classes.len() % 2 == 1 => {
            let rows = classes.len();
            return Err(Error::Data(format!(
                "{source}: {rows} rows; with source=adjacent every two rows are a pair, and the last one is alone"
            )));
        }
        (Pairing::Adjacent, _) => PairList::adjacent(&classes),
        (Pairing::File(path), false) => pair_file::read(path, classes.len())?,
        (Pairing::Labels | Pairing::File(_), true) => PairList::of_classes(&classes),
    };
    if list.pairs.is_empty() {
        return Err(Error::Data(format!(
            "{source}: no pair can be made of its {} rows; their labels must be among those of the training data",
            classes.len()
        )));
    }
    let list = if is_test { list } else { list.mixed() };
    let blocks = join(&data.blocks, &list, blocks);
    let mut shape = data.shape;
    if !is_test {
        (shape.rows, shape.samples) = (2 * list.pairs.len(), list.pairs.len());
        shape.entries = blocks.iter().map(Block::entries).sum();
    }
    Ok(Data { shape, names: data.names, blocks })
}

/// The class of every row; `None` if these are no labelled rows.
fn classes(data: &Data) -> Option<Vec<u32>> {
    let mut classes = Vec::new();
    for block in &data.blocks {
        match &block.contents {
            Contents::Sparse(rows) => classes.extend_from_slice(&rows.classes),
            Contents::Dense(rows) => classes.extend_from_slice(&rows.classes),
            Contents::Pairs(_) | Contents::Ratings(_) | Contents::Documents(_) => return None,
        }
    }
    Some(classes)
}

/// Blocks of pairs with the rows that they join.
fn join(rows: &[Block], list: &PairList, blocks: usize) -> Vec<Block> {
    let place = |row: usize| {
        let number = rows.partition_point(|block| block.end_row <= row);
        (number, row - rows[number].first_row)
    };
    let entries = |row: usize| {
        let (number, row) = place(row);
        match &rows[number].contents {
            Contents::Sparse(rows) => u64::from(rows.offsets[row + 1] - rows.offsets[row]),
            Contents::Dense(rows) => rows.width as u64,
            _ => 0,
        }
    };
    let weights: Vec<u64> =
        list.pairs.iter().map(|[first, second]| entries(*first) + entries(*second)).collect();
    let one = |(id, range): (usize, std::ops::Range<usize>)| {
        let (mut known, mut joined) = (HashMap::new(), Vec::new());
        let mut position = |row: usize| {
            *known.entry(row).or_insert_with(|| {
                joined.push(place(row));
                joined.len() as u32 - 1
            })
        };
        let pairs = list.pairs[range.clone()].iter().map(|pair| pair.map(&mut position)).collect();
        let similar = list.similar[range.clone()].to_vec();
        let contents = Contents::Pairs(RowPairs { rows: Box::new(gather(rows, &joined)), pairs, similar });
        Block { id: id as u32, first_row: 2 * range.start, end_row: 2 * range.end, contents }
    };
    cut(&weights, blocks).into_iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ReadOptions, read};

    /// Every pair with its rows: (entries of one, entries of the other, similar).
    fn spelled(data: &Data) -> Vec<(String, String, bool)> {
        let row = |rows: &Contents, at: u32| match rows {
            Contents::Dense(rows) => format!("{:?}", &rows.values[at as usize * rows.width..][..rows.width]),
            Contents::Sparse(rows) => {
                let range = rows.offsets[at as usize] as usize..rows.offsets[at as usize + 1] as usize;
                format!("{:?} {:?}", &rows.columns[range.clone()], &rows.values[range])
            }
            _ => unreachable!("labelled"),
        };
        let mut all = Vec::new();
        for block in &data.blocks {
            let Contents::Pairs(list) = &block.contents else { unreachable!("pairs") };
            assert_eq!((block.rows(), block.samples()), (2 * list.pairs.len(), list.pairs.len()));
            for ([a, b], similar) in list.pairs.iter().zip(&list.similar) {
                all.push((row(&list.rows, *a), row(&list.rows, *b), *similar));
            }
        }
        all
    }

    #[test]
    fn pairs_are_the_same_however_rows_and_pairs_are_cut() {
        for source in ["sample:digits-test", "synth:softmax?n=300&columns=50&nonzeros=5&classes=4&seed=2"] {
            let like = read(source, &ReadOptions::default(), None).unwrap();
            let with = |pairing: &Pairing, blocks, is_test| {
                let options = ReadOptions { blocks, ..ReadOptions::default() };
                pair(read(source, &options, Some(&like)).unwrap(), source, pairing, blocks, is_test)
            };
            for (pairing, is_test) in [(Pairing::Labels, true), (Pairing::Adjacent, false)] {
                if is_test || like.shape.rows.is_multiple_of(2) {
                    let [one, many] = [1, 23].map(|blocks| with(&pairing, blocks, is_test).unwrap());
                    assert_eq!((one.blocks.len(), many.blocks.len()), (1, 23));
                    assert_eq!(spelled(&one), spelled(&many), "{source} {pairing:?}");
                } else {
                    let error = with(&pairing, 3, is_test).unwrap_err().to_string();
                    assert!(error.contains("359 rows") && error.contains("alone"), "{error}");
                }
            }
        }
    }

    #[test]
    fn every_row_has_a_partner_of_its_class_and_one_of_another() {
        let classes = [2, 0, UNKNOWN, 1, 0, 2, 2, 5];
        let list = PairList::of_classes(&classes);
        for (row, class) in classes.iter().enumerate() {
            let own = |similar: bool| {
                let pairs = list.pairs.iter().zip(&list.similar);
                let mut own =
                    pairs.filter(|(pair, is)| pair[0] == row && **is == similar).map(|(pair, _)| pair[1]);
                (own.next(), own.next())
            };
            let alone = [UNKNOWN, 1, 5].contains(class);
            match own(true) {
                (Some(other), None) => assert!(other != row && classes[other] == *class),
                found => assert!(alone && found == (None, None), "{row}: {found:?}"),
            }
            match own(false) {
                (Some(other), None) => assert!(classes[other] != *class && classes[other] != UNKNOWN),
                found => assert!(*class == UNKNOWN && found == (None, None), "{row}: {found:?}"),
            }
        }
        assert_eq!(
            PairList::adjacent(&[1, 1, 0, 1, UNKNOWN, UNKNOWN, 3, UNKNOWN]).similar,
            [true, false, false]
        );
    }
}
