//! The weights of the classes at hand, feature by feature, for as long as a visit lasts.
//!
//! The table has a row per class, so that classes can go round. Work on an example wants all classes of one feature side
//! by side: a visit begins by turning the rows over into a [`Tile`], (features, width), and ends by turning it back.

use dunlin::table::{Lines, prefetch};

/// (features, width) numbers; the width is that of [`width_of`] the classes, what follows them is zero.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    /// Elements from one feature to the next.
    pub(super) width: usize,
    values: Lines<f32>,
}

/// Numbers beside each other that `classes` classes take: whole vectors, of which [`dot`] knows the lengths.
pub(super) fn width_of(classes: usize) -> usize {
    if classes <= 4 { classes.max(1).next_power_of_two() } else { classes.next_multiple_of(8) }
}

/// Classes that are turned over together: their rows are as many streams of memory.
const STREAMS: usize = 16;
/// Features that are: their rows, pages of memory apart, are at hand until all classes have been there.
const FEATURES: usize = 64;
/// A tile of more bytes is too far away to be read without notice.
const NEAR_BYTES: usize = 1600 << 10;

impl Tile {
    /// Room for `classes` classes of `features` weights each, all zero.
    pub(super) fn new(features: usize, classes: usize) -> Tile {
        let width = width_of(classes);
        Tile { width, values: Lines::zeroed(features * width) }
    }

    /// Classes `at..at + classes` become `rows`, `classes` rows of `stride` numbers.
    pub(super) fn gather(&mut self, rows: &[f32], stride: usize, classes: usize, at: usize) {
        let width = self.width;
        for (block, features) in self.values.as_mut_slice().chunks_mut(FEATURES * width).enumerate() {
            for first in (0..classes).step_by(STREAMS) {
                let count = STREAMS.min(classes - first);
                let streams = &rows[first * stride + block * FEATURES..];
                for (feature, weights) in features.chunks_exact_mut(width).enumerate() {
                    for (class, weight) in weights[at + first..][..count].iter_mut().enumerate() {
                        *weight = streams[class * stride + feature];
                    }
                }
            }
        }
    }

    /// Writes classes `at..at + classes` back, times `scale`: the inverse of [`Tile::gather`] for `scale` 1.
    pub(super) fn scatter(&self, rows: &mut [f32], stride: usize, classes: usize, at: usize, scale: f32) {
        for (block, features) in self.values.as_slice().chunks(FEATURES * self.width).enumerate() {
            for first in (0..classes).step_by(STREAMS) {
                let count = STREAMS.min(classes - first);
                let streams = &mut rows[first * stride + block * FEATURES..];
                for (feature, weights) in features.chunks_exact(self.width).enumerate() {
                    for (class, weight) in weights[at + first..][..count].iter().enumerate() {
                        streams[class * stride + feature] = scale * weight;
                    }
                }
            }
        }
    }

    /// Asks the processor to fetch the rows of `columns`, which are read soon, if they may be far.
    #[inline(always)]
    pub(super) fn fetch(&self, columns: &[u32]) {
        let values = self.values.as_slice();
        if size_of_val(values) <= NEAR_BYTES {
            return;
        }
        for column in columns {
            let row = &values[*column as usize * self.width..][..self.width];
            for at in (0..self.width).step_by(16) {
                prefetch(&row[at..]);
            }
        }
    }

    /// scores = Σ_e values_e x (row columns_e), plus the row of the bias.
    #[inline(always)]
    pub(super) fn dot(&self, columns: &[u32], values: &[f32], bias: Option<usize>, scores: &mut [f32]) {
        let mut first = 0;
        first = self.dot_chunks::<64>(first, columns, values, bias, scores);
        first = self.dot_chunks::<16>(first, columns, values, bias, scores);
        first = self.dot_chunks::<8>(first, columns, values, bias, scores);
        first = self.dot_chunks::<4>(first, columns, values, bias, scores);
        first = self.dot_chunks::<2>(first, columns, values, bias, scores);
        self.dot_chunks::<1>(first, columns, values, bias, scores);
    }

    #[inline(always)]
    fn dot_chunks<const W: usize>(
        &self,
        mut first: usize,
        columns: &[u32],
        values: &[f32],
        bias: Option<usize>,
        scores: &mut [f32],
    ) -> usize {
        let tile = self.values.as_slice();
        while first + W <= self.width {
            let mut sums = [0.0f32; W];
            for (column, value) in columns.iter().zip(values) {
                add::<W>(&mut sums, &tile[*column as usize * self.width + first..], *value);
            }
            if let Some(bias) = bias {
                add::<W>(&mut sums, &tile[bias * self.width + first..], 1.0);
            }
            scores[first..first + W].copy_from_slice(&sums);
            first += W;
        }
        first
    }

    /// (row columns_e) += values_e x step for each entry, and the row of the bias += step, for the classes
    /// `from..from + length of step`.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        columns: &[u32],
        values: &[f32],
        bias: Option<usize>,
        step: &[f32],
        from: usize,
    ) {
        let width = step.len();
        match width {
            16 => self.add_chunk::<16>(columns, values, bias, step, from),
            8 => self.add_chunk::<8>(columns, values, bias, step, from),
            4 => self.add_chunk::<4>(columns, values, bias, step, from),
            2 => self.add_chunk::<2>(columns, values, bias, step, from),
            _ => self.add_chunk::<1>(columns, values, bias, step, from),
        }
    }

    #[inline(always)]
    fn add_chunk<const W: usize>(
        &mut self,
        columns: &[u32],
        values: &[f32],
        bias: Option<usize>,
        step: &[f32],
        from: usize,
    ) {
        let (width, Some(step)) = (self.width, step.first_chunk::<W>()) else { return };
        let (tile, step) = (self.values.as_mut_slice(), *step);
        let bias = bias.map(|bias| (bias as u32, 1.0));
        let entries = columns.iter().copied().zip(values.iter().copied());
        for (column, value) in entries.chain(bias) {
            let Some(row) = tile[column as usize * width + from..].first_chunk_mut::<W>() else { continue };
            let mut sums = *row;
            for (sum, step) in sums.iter_mut().zip(&step) {
                *sum = value.mul_add(*step, *sum);
            }
            *row = sums;
        }
    }

    /// All numbers, row by row.
    pub(super) fn flat(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// All numbers, to write.
    pub(super) fn flat_mut(&mut self) -> &mut [f32] {
        self.values.as_mut_slice()
    }
}

#[inline(always)]
fn add<const W: usize>(sums: &mut [f32; W], row: &[f32], value: f32) {
    let Some(row) = row.first_chunk::<W>() else { return };
    for (sum, weight) in sums.iter_mut().zip(row) {
        *sum = value.mul_add(*weight, *sum);
    }
}
