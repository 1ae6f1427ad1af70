//! Nearest centres: ‖x − c‖² = ‖x‖² + 2 (½‖c‖² − x·c), the least of the brackets over all centres.
//!
//! Centres lie feature by feature, sixteen of them in a vector, so that every product x·c is one chain of fused
//! multiply-adds over ascending features. A zero in x changes nothing in it, so that dense and sparse rows, and
//! tiles of any shape, give the same bits. Dense rows are multiplied as blocks of a matrix product: some rows by
//! up to eight vectors in registers, over a panel of features that stays in the nearest cache.

use crate::rows::Rows;
use crate::simd::{self, Fused, FusedKernel};
use dunlin::isa::{self, Isa};
use dunlin::{Table, TableMut};
use std::borrow::Cow;

impl Rows<'_> {
    /// ‖x‖² of every row.
    pub(super) fn squares(&self) -> Vec<f64> {
        (0..self.count()).map(|row| self.square(row)).collect()
    }

    /// totals += row `row`.
    #[inline(always)]
    fn add_to(&self, row: usize, totals: &mut [f64]) {
        match self {
            Rows::Dense { width, values, .. } => {
                let row = &values[row * width..][..*width];
                totals.iter_mut().zip(row).for_each(|(total, value)| *total += f64::from(*value));
            }
            Rows::Sparse { .. } => self.each(row, |column, value| {
                if let Some(total) = totals.get_mut(column) {
                    *total += f64::from(value);
                }
            }),
        }
    }

    /// x·c in double precision: four sums by entry (eight by column where dense), then one by one.
    #[inline(always)]
    fn dot(&self, row: usize, centre: &[f32]) -> f64 {
        let product = |value: f32, centre: f32| f64::from(value) * f64::from(centre);
        match self {
            Rows::Dense { width, values, .. } => {
                let mut sums = [0.0; 8];
                let row = values[row * width..][..*width].chunks(8);
                for (values, centre) in row.zip(centre.chunks(8)) {
                    let pairs = values.iter().zip(centre);
                    sums.iter_mut().zip(pairs).for_each(|(sum, (value, c))| *sum += product(*value, *c));
                }
                sums.iter().sum()
            }
            Rows::Sparse { offsets, columns, values } => {
                let mut sums = [0.0; 4];
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                for (columns, values) in columns[range.clone()].chunks(4).zip(values[range].chunks(4)) {
                    for (sum, (column, value)) in sums.iter_mut().zip(columns.iter().zip(values)) {
                        *sum += product(*value, centre.get(*column as usize).copied().unwrap_or(0.0));
                    }
                }
                sums.iter().sum()
            }
        }
    }
}

/// A squared distance below this share of ‖x‖² + ‖c‖² is rounding, and counts as none.
const ROUNDING: f64 = 1e-12;

/// ‖x − c‖² of the rows `rows` in double precision, to `each(row, square)`; `squares` are the ‖x‖² of all.
pub(super) fn distances(
    rows: Rows,
    wanted: std::ops::Range<usize>,
    squares: &[f64],
    centre: &[f32],
    each: impl FnMut(usize, f64),
) {
    struct Work<'a, F>(Rows<'a>, std::ops::Range<usize>, &'a [f64], &'a [f32], F);
    impl<F: FnMut(usize, f64)> isa::Kernel for Work<'_, F> {
        type Out = ();
        #[inline(always)]
        fn run(self) {
            let Work(rows, wanted, squares, centre, mut each) = self;
            let own: f64 = centre.iter().map(|c| f64::from(*c) * f64::from(*c)).sum();
            for row in wanted {
                let both = squares[row] + own;
                let distance = both - 2.0 * rows.dot(row, centre);
                each(row, if distance > ROUNDING * both { distance } else { 0.0 });
            }
        }
    }
    isa::run(Work(rows, wanted, squares, centre, each));
}

/// Adds every row to the totals of its cluster, and 1 to the count behind them.
pub(super) fn add_up(rows: Rows, clusters: &[u32], features: usize, totals: &mut TableMut<f64>) {
    struct Work<'a, 'b, 'c>(Rows<'a>, &'a [u32], usize, &'b mut TableMut<'c, f64>);
    impl isa::Kernel for Work<'_, '_, '_> {
        type Out = ();
        #[inline(always)]
        fn run(self) {
            for (row, cluster) in self.1.iter().enumerate() {
                let (totals, count) = self.3.row_mut(*cluster as usize).split_at_mut(self.2);
                self.0.add_to(row, totals);
                count[0] += 1.0;
            }
        }
    }
    isa::run(Work(rows, clusters, features, totals));
}

/// Centres made ready: (features, stride), stride a multiple of 16, and half their squared norms.
#[derive(Debug)]
pub(super) struct Centres<'a> {
    flat: Cow<'a, [f32]>,
    stride: usize,
    /// ½‖c‖²; infinite for those that take no rows, and behind the last.
    halves: Vec<[f32; 16]>,
}

impl<'a> Centres<'a> {
    /// From the table (features, clusters); centre k takes rows if `sizes[k]` is above 0.
    pub(super) fn new(table: Table<'a, f32>, sizes: &[f64]) -> Centres<'a> {
        let stride = table.stride().next_multiple_of(16);
        let flat = if stride == table.stride() {
            Cow::Borrowed(table.flat())
        } else {
            let mut flat = vec![0.0; table.rows() * stride];
            for (row, to) in flat.chunks_exact_mut(stride).enumerate() {
                to[..table.stride()].copy_from_slice(table.padded(row));
            }
            Cow::Owned(flat)
        };
        let mut halves = vec![[f32::INFINITY; 16]; stride / 16];
        isa::run(Halves { flat: &flat, stride, halves: &mut halves });
        for (at, half) in halves.as_flattened_mut().iter_mut().enumerate() {
            if sizes.get(at).is_none_or(|size| *size <= 0.0) {
                *half = f32::INFINITY;
            }
        }
        Centres { flat, stride, halves }
    }

    /// `V` vectors from vector `first` on of row `feature`; `None` beyond the last row.
    #[inline(always)]
    fn vectors<const V: usize>(&self, feature: usize, first: usize) -> Option<&[[f32; 16]; V]> {
        let start = feature * self.stride + first * 16;
        let (vectors, _) = self.flat.get(start..start + 16 * V)?.as_chunks::<16>();
        vectors.first_chunk()
    }
}

struct Halves<'a> {
    flat: &'a [f32],
    stride: usize,
    halves: &'a mut [[f32; 16]],
}

impl isa::Kernel for Halves<'_> {
    type Out = ();

    /// Four sums a centre, by feature modulo four.
    #[inline(always)]
    fn run(self) {
        for (vector, half) in self.halves.iter_mut().enumerate() {
            let mut sums = [[0.0f32; 16]; 4];
            for rows in self.flat.chunks(4 * self.stride) {
                for (row, sums) in rows.chunks_exact(self.stride).zip(&mut sums) {
                    let Some(row) = row[vector * 16..].first_chunk::<16>() else { continue };
                    (0..16).for_each(|lane| sums[lane] += row[lane] * row[lane]);
                }
            }
            *half = std::array::from_fn(|i| 0.5 * ((sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])));
        }
    }
}

/// The nearest centre of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nearest {
    /// Its number: the lowest of equally near ones.
    pub(super) cluster: u32,
    /// ½‖c‖² − x·c; not finite if numbers are too large.
    pub(super) score: f32,
}

impl Nearest {
    /// ‖x − c‖², at least 0, where `square` is ‖x‖².
    pub(super) fn distance(&self, square: f64) -> f64 {
        (square + 2.0 * f64::from(self.score)).max(0.0)
    }
}

/// The nearest centre of every row.
pub(super) fn nearest(level: Isa, rows: Rows, centres: &Centres) -> Vec<Nearest> {
    let mut found = vec![Nearest { cluster: 0, score: f32::INFINITY }; rows.count()];
    simd::run_fused(level, Search { rows, centres, found: &mut found });
    found
}

struct Search<'a> {
    rows: Rows<'a>,
    centres: &'a Centres<'a>,
    found: &'a mut [Nearest],
}

impl FusedKernel for Search<'_> {
    #[inline(always)]
    fn run<S: Fused>(self, simd: S) {
        let most = match (S::WIDE, self.rows) {
            (true, _) => 8,
            (false, Rows::Sparse { .. }) => 4,
            (false, Rows::Dense { .. }) => 1,
        };
        let vectors = self.centres.halves.len();
        let tiles = vectors.div_ceil(most);
        for tile in 0..tiles {
            let (first, end) = (vectors * tile / tiles, vectors * (tile + 1) / tiles);
            let job = Tile { rows: self.rows, centres: self.centres, first, found: self.found };
            match end - first {
                1 => job.run::<S, 1>(simd),
                2 => job.run::<S, 2>(simd),
                3 => job.run::<S, 3>(simd),
                4 => job.run::<S, 4>(simd),
                5 => job.run::<S, 5>(simd),
                6 => job.run::<S, 6>(simd),
                7 => job.run::<S, 7>(simd),
                _ => job.run::<S, 8>(simd),
            }
        }
    }
}

/// All rows by some vectors of centres, from vector `first` on.
struct Tile<'a, 'b> {
    rows: Rows<'a>,
    centres: &'a Centres<'a>,
    first: usize,
    found: &'b mut [Nearest],
}

/// Rows whose products wait in memory between two panels.
const ROWS: usize = 96;
/// Bytes of a panel of centres.
const PANEL: usize = 20 << 10;

impl Tile<'_, '_> {
    #[inline(always)]
    fn run<S: Fused, const V: usize>(self, simd: S) {
        match self.rows {
            Rows::Sparse { offsets, columns, values } => {
                for row in 0..self.found.len() {
                    let range = offsets[row] as usize..offsets[row + 1] as usize;
                    let products = self.sparse::<S, V>(simd, &columns[range.clone()], &values[range]);
                    let nearest = self.take(simd, &products, self.found[row]);
                    self.found[row] = nearest;
                }
            }
            // As many rows as leave registers for a vector of centres and the rows' values.
            Rows::Dense { width, values, .. } if S::WIDE && V > 4 => {
                self.dense::<S, V, 3>(simd, width, values)
            }
            Rows::Dense { width, values, .. } => self.dense::<S, V, 6>(simd, width, values),
        }
    }

    /// x·c of a sparse row.
    #[inline(always)]
    fn sparse<S: Fused, const V: usize>(&self, simd: S, columns: &[u32], values: &[f32]) -> [S::Floats; V] {
        let mut sums = [simd.splat(0.0); V];
        for (column, value) in columns.iter().zip(values) {
            let Some(centres) = self.centres.vectors::<V>(*column as usize, self.first) else { continue };
            let value = simd.splat(*value);
            for (sum, centre) in sums.iter_mut().zip(centres) {
                *sum = simd.fma(value, simd.floats(centre), *sum);
            }
        }
        sums
    }

    /// Dense rows, `R` at once.
    #[inline(always)]
    fn dense<S: Fused, const V: usize, const R: usize>(self, simd: S, width: usize, values: &[f32]) {
        let panel = PANEL / (64 * V);
        let mut waiting = [[[0.0f32; 16]; V]; ROWS];
        for start in (0..self.found.len()).step_by(ROWS) {
            let end = (start + ROWS).min(self.found.len());
            waiting.as_flattened_mut().fill([0.0; 16]);
            for feature in (0..width).step_by(panel) {
                let features = feature..(feature + panel).min(width);
                let (mut row, mut groups) = (start, waiting[..end - start].chunks_exact_mut(R));
                for sums in &mut groups {
                    if let Some(sums) = sums.first_chunk_mut::<R>() {
                        self.multiply(simd, &values[row * width..], width, features.clone(), sums);
                    }
                    row += R;
                }
                for sums in groups.into_remainder().chunks_exact_mut(1) {
                    if let Some(sums) = sums.first_chunk_mut::<1>() {
                        self.multiply(simd, &values[row * width..], width, features.clone(), sums);
                    }
                    row += 1;
                }
            }
            for (row, sums) in (start..end).zip(&waiting) {
                let products: [S::Floats; V] = std::array::from_fn(|v| simd.floats(&sums[v]));
                self.found[row] = self.take(simd, &products, self.found[row]);
            }
        }
    }

    /// sums += the products of the first `R` of `rows` with the tile's centres, over `features`.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "one place in all rows at once")]
    fn multiply<S: Fused, const V: usize, const R: usize>(
        &self,
        simd: S,
        rows: &[f32],
        width: usize,
        features: std::ops::Range<usize>,
        waiting: &mut [[[f32; 16]; V]; R],
    ) {
        let mut sums: [[S::Floats; V]; R] =
            std::array::from_fn(|r| std::array::from_fn(|v| simd.floats(&waiting[r][v])));
        let count = features.len();
        let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r * width..][features.clone()][..count]);
        for at in 0..count {
            let Some(centres) = self.centres.vectors::<V>(features.start + at, self.first) else { break };
            let values: [S::Floats; R] = std::array::from_fn(|r| simd.splat(rows[r][at]));
            for v in 0..V {
                let centre = simd.floats(&centres[v]);
                for r in 0..R {
                    sums[r][v] = simd.fma(values[r], centre, sums[r][v]);
                }
            }
        }
        for (sums, waiting) in sums.iter().zip(waiting) {
            sums.iter().zip(waiting).for_each(|(sum, place)| simd.store(*sum, place));
        }
    }

    /// The nearer of `known` and the nearest centre of the tile.
    #[inline(always)]
    fn take<S: Fused, const V: usize>(&self, simd: S, products: &[S::Floats; V], known: Nearest) -> Nearest {
        let halves = &self.centres.halves[self.first..][..V];
        let scores: [S::Floats; V] = std::array::from_fn(|v| simd.sub(simd.floats(&halves[v]), products[v]));
        let least = scores.iter().fold(simd.splat(f32::INFINITY), |least, score| simd.min(*score, least));
        let score = simd.least(least);
        if score < known.score {
            for (v, scores) in scores.iter().enumerate() {
                let equal = simd.equal(*scores, score);
                if equal != 0 {
                    let cluster = ((self.first + v) * 16) as u32 + equal.trailing_zeros();
                    return Nearest { cluster, score };
                }
            }
        }
        known
    }
}
