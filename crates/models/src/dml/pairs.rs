//! Pairs of rows of a block, and their differences.

use dunlin::algorithm::Unit;
use dunlin::data::{ByClass, Contents, DenseRows, PairList, RowPairs, SparseRows};
use dunlin::rng::{Stream, stream};
use dunlin::{Block, Shape};
use serde::{Deserialize, Serialize};

/// Where pairs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Drawn at random within each block, half of one class and half of two.
    Labels,
    /// Rows 2r and 2r + 1 of the data are a pair, similar if their labels are equal: a list of pairs, written
    /// out as rows.
    Adjacent,
}

/// The pairs of a block, in random order; the last `held_out` are not trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// The two rows of each pair, counted within the block's rows.
    pub rows: Vec<[u32; 2]>,
    /// Whether they are of one class.
    pub similar: Vec<bool>,
    /// Pairs at the end that are kept for choosing when to stop.
    pub held_out: usize,
}

impl Pairs {
    /// Pairs to train on.
    pub fn trained(&self) -> usize {
        self.rows.len() - self.held_out
    }

    fn push(&mut self, a: usize, b: usize, similar: bool) {
        self.rows.push([a as u32, b as u32]);
        self.similar.push(similar);
    }

    /// Those of a block that carries its pairs, the first of which is number `first` of `total` in the data. Held
    /// out are `share` of all, spread evenly, whatever the blocks: the data layer has mixed them.
    pub(super) fn listed(list: &RowPairs, first: usize, total: usize, share: f64, seed: u64) -> Pairs {
        let offset = stream(seed, "dml-held-out", &[]).below(total.max(1));
        let is_held = |at: usize| {
            let number = (first + at + offset) % total.max(1);
            (share * (number + 1) as f64).floor() > (share * number as f64).floor()
        };
        let (held, mut order): (Vec<usize>, Vec<usize>) = (0..list.pairs.len()).partition(|at| is_held(*at));
        order.extend(&held);
        Pairs {
            rows: order.iter().map(|at| list.pairs[*at]).collect(),
            similar: order.iter().map(|at| list.similar[*at]).collect(),
            held_out: held.len(),
        }
    }

    /// Pairs to measure a test block by: its own or, where it was read without, those of its rows among themselves.
    pub(super) fn to_test(block: &Block) -> Pairs {
        if let Contents::Pairs(list) = &block.contents {
            return Pairs { rows: list.pairs.clone(), similar: list.similar.clone(), held_out: 0 };
        }
        let list = PairList::of_classes(Rows::of(block).map_or(&[], |rows| rows.classes()));
        let rows = list.pairs.iter().map(|pair| pair.map(|row| row as u32)).collect();
        Pairs { rows, similar: list.similar, held_out: 0 }
    }

    /// `count` random pairs of rows whose class is known, every other one similar; those that cannot be had
    /// (one class alone, no class twice) are left out.
    pub(super) fn drawn(rows: &Rows, count: usize, rng: &mut Stream) -> Pairs {
        let by_class = ByClass::new(rows.classes());
        let paired: Vec<usize> = (0..by_class.len()).filter(|at| by_class.has_alike(*at)).collect();
        let mut pairs = Pairs::default();
        for draw in 0..count {
            let similar = draw % 2 == 0;
            let at = match if similar { paired.len() } else { by_class.len() } {
                0 => continue,
                choices if similar => paired[rng.below(choices)],
                choices => rng.below(choices),
            };
            let other = if similar { by_class.alike(at, rng) } else { by_class.unlike(at, rng) };
            if let Some(other) = other {
                pairs.push(by_class.row(at), other, similar);
            }
        }
        pairs
    }

    /// Shuffled, with the last `share` held out.
    pub(super) fn shuffled(self, share: f64, rng: &mut Stream) -> Pairs {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        rng.shuffle(&mut order);
        Pairs {
            rows: order.iter().map(|at| self.rows[*at]).collect(),
            similar: order.iter().map(|at| self.similar[*at]).collect(),
            held_out: (share * order.len() as f64) as usize,
        }
    }
}

/// Pairs that a block should have when all blocks together have `total`.
pub(super) fn portion(total: usize, block: &Block, shape: &Shape) -> usize {
    (total as f64 * block.rows() as f64 / shape.rows.max(1) as f64).round() as usize
}

/// The order of `count` pairs in this epoch.
pub(super) fn order(unit: &Unit, count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    unit.rng("dml-order").shuffle(&mut order);
    order
}

/// The labelled rows of a block.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Sparse(&'a SparseRows),
    Dense(&'a DenseRows),
}

impl<'a> Rows<'a> {
    pub(super) fn of(block: &'a Block) -> Option<Rows<'a>> {
        let contents = match &block.contents {
            Contents::Pairs(pairs) => &pairs.rows,
            rows => rows,
        };
        match contents {
            Contents::Sparse(rows) => Some(Rows::Sparse(rows)),
            Contents::Dense(rows) => Some(Rows::Dense(rows)),
            _ => None,
        }
    }

    pub(super) fn classes(&self) -> &'a [u32] {
        match self {
            Rows::Sparse(rows) => &rows.classes,
            Rows::Dense(rows) => &rows.classes,
        }
    }

    /// Columns and values stored for a row; dense rows have no columns.
    fn stored(&self, row: usize) -> (&'a [u32], &'a [f32]) {
        match self {
            Rows::Sparse(rows) => {
                let range = rows.offsets[row] as usize..rows.offsets[row + 1] as usize;
                (&rows.columns[range.clone()], &rows.values[range])
            }
            Rows::Dense(rows) => (&[], &rows.values[row * rows.width..][..rows.width]),
        }
    }

    /// Calls `each(column, value)` for the stored values of a row, columns ascending.
    pub(super) fn each(&self, row: usize, mut each: impl FnMut(usize, f32)) {
        let (columns, values) = self.stored(row);
        match self {
            Rows::Sparse(_) => columns.iter().zip(values).for_each(|(c, value)| each(*c as usize, *value)),
            Rows::Dense(_) => values.iter().enumerate().for_each(|(c, value)| each(c, *value)),
        }
    }

    /// Calls `each(column, a − b)` for the columns where row a or row b has a value, ascending.
    pub(super) fn difference(&self, [a, b]: [u32; 2], mut each: impl FnMut(usize, f32)) {
        let ((columns, a), (others, b)) = (self.stored(a as usize), self.stored(b as usize));
        if let Rows::Dense(_) = self {
            return a.iter().zip(b).enumerate().for_each(|(c, (a, b))| each(c, a - b));
        }
        let (mut i, mut j) = (0, 0);
        while i < columns.len() || j < others.len() {
            let left = columns.get(i).copied().unwrap_or(u32::MAX);
            let right = others.get(j).copied().unwrap_or(u32::MAX);
            let mut value = 0.0;
            if left <= right {
                value += a[i];
                i += 1;
            }
            if right <= left {
                value -= b[j];
                j += 1;
            }
            each(left.min(right) as usize, value);
        }
    }
}
