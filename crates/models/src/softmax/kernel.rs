//! The inner loops: instruction levels, vectors of eight, exp and log, rows of weights.
//!
//! Every loop is plain Rust over blocks of eight f32 with explicit fused multiply-adds and a fixed order of
//! accumulators; [`dispatch`] compiles it once per instruction level. No operation may be reassociated, so all
//! levels give the same bits, and the compiler is left to find the vector instructions.

use dunlin::data::{Block, Contents};
use dunlin::isa::Isa;
use dunlin::{Table, TableMut};

/// Work to be compiled for several instruction levels; `run` must be `#[inline(always)]`.
pub(crate) trait Work {
    /// What it gives.
    type Out;
    /// Does it.
    fn run(self) -> Self::Out;
}

/// Does `work` with the instructions of `isa`, or of this machine if it has less.
#[allow(unsafe_code)]
pub(crate) fn dispatch<W: Work>(isa: Isa, work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn avx512<W: Work>(work: W) -> W::Out {
            work.run()
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2<W: Work>(work: W) -> W::Out {
            work.run()
        }
        // SAFETY: at most `Isa::detected`, which asked the processor for every feature named above.
        match isa.min(Isa::detected()) {
            Isa::Avx512 => return unsafe { avx512(work) },
            Isa::Avx2 => return unsafe { avx2(work) },
            Isa::Portable => {}
        }
    }
    let _ = isa;
    work.run()
}

/// exp(x) to about 1 ulp; 0 below −87, at most exp(88).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 x 2^23: adding it leaves the nearest integer in the low bits
    let clamped = x.clamp(-87.0, 88.0);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = shifted - ROUND;
    // ln 2 in two parts; the first has so few bits that power x part is exact.
    let rest = power.mul_add(-355.0 / 512.0, clamped);
    let rest = power.mul_add(2.121_944_4e-4, rest);
    let series = (1.0f32 / 720.0).mul_add(rest, 1.0 / 120.0);
    let series = series.mul_add(rest, 1.0 / 24.0);
    let series = series.mul_add(rest, 1.0 / 6.0);
    let series = series.mul_add(rest, 0.5);
    let series = series.mul_add(rest, 1.0);
    let series = series.mul_add(rest, 1.0);
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { series * scale }
}

/// ln(x) to about 1e-7 (absolute near 1, relative elsewhere), for normal x > 0.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Mantissa in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) moves the cut there.
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = (bits as i32) >> 23;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    let ratio = (mantissa - 1.0) / (mantissa + 1.0); // ln m = 2 artanh(ratio)
    let square = ratio * ratio;
    let series = (2.0f32 / 7.0).mul_add(square, 0.4);
    let series = series.mul_add(square, 2.0 / 3.0).mul_add(square, 2.0);
    (exponent as f32).mul_add(std::f32::consts::LN_2, ratio * series)
}

/// The sum of `values`: eight running sums, then a tree; the rest one by one.
#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let mut blocks = values.chunks_exact(8);
    for block in &mut blocks {
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += value);
    }
    tree(sums) + blocks.remainder().iter().sum::<f32>()
}

/// Σ |left − right| over two slices of one length, in the order of [`sum`].
#[inline(always)]
pub(crate) fn distance(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (mut lefts, mut rights) = (left.chunks_exact(8), right.chunks_exact(8));
    for (left, right) in (&mut lefts).zip(&mut rights) {
        for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
            *sum += (left - right).abs();
        }
    }
    let rest = lefts.remainder().iter().zip(rights.remainder());
    tree(sums) + rest.map(|(left, right)| (left - right).abs()).sum::<f32>()
}

#[inline(always)]
fn tree(sums: [f32; 8]) -> f32 {
    let fours = [sums[0] + sums[4], sums[1] + sums[5], sums[2] + sums[6], sums[3] + sums[7]];
    (fours[0] + fours[2]) + (fours[1] + fours[3])
}

/// The greatest of `values`; NaN is passed over.
#[inline(always)]
pub(crate) fn greatest(values: &[f32]) -> f32 {
    let mut tops = [f32::NEG_INFINITY; 8];
    let mut blocks = values.chunks_exact(8);
    for block in &mut blocks {
        for (top, value) in tops.iter_mut().zip(block) {
            *top = if *value > *top { *value } else { *top };
        }
    }
    let all = tops.into_iter().chain(blocks.remainder().iter().copied());
    all.fold(f32::NEG_INFINITY, |top, value| if value > top { value } else { top })
}

/// The rows of a block as (columns, values), whatever way it stores them; zeros of dense rows are left out,
/// so that dense and sparse input give the same bits.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    block: &'a Block,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl<'a> Rows<'a> {
    /// The rows of `block` and their classes; `None` if it holds no labelled rows.
    pub(crate) fn new(block: &'a Block) -> Option<(Rows<'a>, &'a [u32])> {
        let classes = match &block.contents {
            Contents::Sparse(rows) => &rows.classes,
            Contents::Dense(rows) => &rows.classes,
            _ => return None,
        };
        Some((Rows { block, columns: Vec::new(), values: Vec::new() }, classes))
    }

    /// Row `row` of the block, from 0.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> (&[u32], &[f32]) {
        match &self.block.contents {
            Contents::Sparse(rows) => {
                let range = rows.offsets[row] as usize..rows.offsets[row + 1] as usize;
                (&rows.columns[range.clone()], &rows.values[range])
            }
            Contents::Dense(rows) => {
                self.columns.clear();
                self.values.clear();
                for (column, value) in rows.values[row * rows.width..][..rows.width].iter().enumerate() {
                    if *value != 0.0 {
                        self.columns.push(column as u32);
                        self.values.push(*value);
                    }
                }
                (&self.columns, &self.values)
            }
            _ => (&[], &[]),
        }
    }

    /// The columns of row `row`, if they are stored; none beyond the last row.
    #[inline(always)]
    pub(crate) fn stored_columns(&self, row: usize) -> &'a [u32] {
        match &self.block.contents {
            Contents::Sparse(rows) => match rows.offsets.get(row..row + 2) {
                Some([start, end]) => &rows.columns[*start as usize..*end as usize],
                _ => &[],
            },
            _ => &[],
        }
    }

    /// Asks the processor to fetch the place of row `row`.
    #[inline(always)]
    pub(crate) fn prefetch_offset(&self, row: usize) {
        if let Contents::Sparse(rows) = &self.block.contents {
            dunlin::table::prefetch(&rows.offsets[row..]);
        }
    }

    /// Asks the processor to fetch row `row`, which is read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, row: usize) {
        if let Contents::Sparse(rows) = &self.block.contents {
            let range = rows.offsets[row] as usize..rows.offsets[row + 1] as usize;
            let (columns, values) = (&rows.columns[range.clone()], &rows.values[range]);
            for start in (0..columns.len()).step_by(16) {
                dunlin::table::prefetch(&columns[start..]);
                dunlin::table::prefetch(&values[start..]);
            }
        }
    }
}

/// Rows of weights that can be read: a table lent to read or to write.
pub(crate) trait Weights {
    /// Row `row` with its padding.
    fn padded(&self, row: usize) -> &[f32];
}
impl Weights for Table<'_, f32> {
    #[inline(always)]
    fn padded(&self, row: usize) -> &[f32] {
        Table::padded(self, row)
    }
}
impl Weights for TableMut<'_, f32> {
    #[inline(always)]
    fn padded(&self, row: usize) -> &[f32] {
        TableMut::padded(self, row)
    }
}

/// The width of a padded row of weights: a constant that the compiler knows, or one known at run time.
pub(crate) trait Width: Copy {
    /// A row of that many elements.
    type Row: AsMut<[f32]>;
    /// Elements.
    fn get(self) -> usize;
    /// A row of zeros.
    fn zeros(self) -> Self::Row;
    /// scores = Σ_e values_e x weights[columns_e]; (width) = (entries) x (entries, width).
    fn dot(self, weights: &impl Weights, columns: &[u32], values: &[f32], scores: &mut [f32]);
    /// weights[columns_e] += values_e x step for each entry e.
    fn add(self, weights: &mut TableMut<f32>, columns: &[u32], values: &[f32], step: &[f32]);
}

/// A width that the compiler knows: the sums stay in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed<const W: usize>;

/// Any width: the sums stay in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Any(pub(crate) usize);

impl<const W: usize> Width for Fixed<W> {
    type Row = [f32; W];

    #[inline(always)]
    fn zeros(self) -> [f32; W] {
        [0.0; W]
    }

    #[inline(always)]
    fn get(self) -> usize {
        W
    }

    #[inline(always)]
    fn dot(self, weights: &impl Weights, columns: &[u32], values: &[f32], scores: &mut [f32]) {
        let (mut even, mut odd) = ([0.0f32; W], [0.0f32; W]);
        let mut column_pairs = columns.chunks_exact(2);
        let mut value_pairs = values.chunks_exact(2);
        for (column, value) in (&mut column_pairs).zip(&mut value_pairs) {
            accumulate(&mut even, weights.padded(column[0] as usize), value[0]);
            accumulate(&mut odd, weights.padded(column[1] as usize), value[1]);
        }
        for (column, value) in column_pairs.remainder().iter().zip(value_pairs.remainder()) {
            accumulate(&mut even, weights.padded(*column as usize), *value);
        }
        for (score, (even, odd)) in scores.iter_mut().zip(even.iter().zip(&odd)) {
            *score = even + odd;
        }
    }

    #[inline(always)]
    fn add(self, weights: &mut TableMut<f32>, columns: &[u32], values: &[f32], step: &[f32]) {
        let Some(step) = step.first_chunk::<W>() else { return };
        let step = *step;
        for (column, value) in columns.iter().zip(values) {
            // Copies tell the compiler that nothing overlaps, which it needs for vector instructions.
            let value = *value;
            let row = weights.array_mut::<W>(*column as usize);
            let mut sums = *row;
            for (sum, step) in sums.iter_mut().zip(&step) {
                *sum = value.mul_add(*step, *sum);
            }
            *row = sums;
        }
    }
}

#[inline(always)]
fn accumulate<const W: usize>(sums: &mut [f32; W], row: &[f32], value: f32) {
    let Some(row) = row.first_chunk::<W>() else { return };
    for (sum, weight) in sums.iter_mut().zip(row) {
        *sum = value.mul_add(*weight, *sum);
    }
}

impl Width for Any {
    type Row = Vec<f32>;

    #[inline(always)]
    fn zeros(self) -> Vec<f32> {
        vec![0.0; self.0]
    }

    #[inline(always)]
    fn get(self) -> usize {
        self.0
    }

    #[inline(always)]
    fn dot(self, weights: &impl Weights, columns: &[u32], values: &[f32], scores: &mut [f32]) {
        scores.fill(0.0);
        for (column, value) in columns.iter().zip(values) {
            for (score, weight) in scores.iter_mut().zip(weights.padded(*column as usize)) {
                *score = value.mul_add(*weight, *score);
            }
        }
    }

    #[inline(always)]
    fn add(self, weights: &mut TableMut<f32>, columns: &[u32], values: &[f32], step: &[f32]) {
        for (column, value) in columns.iter().zip(values) {
            let value = *value;
            for (weight, step) in weights.padded_mut(*column as usize).iter_mut().zip(step) {
                *weight = value.mul_add(*step, *weight);
            }
        }
    }
}

/// Work that wants the width as a constant.
pub(crate) trait WidthWork {
    /// What it gives.
    type Out;
    /// Does it for rows of `width`; must be `#[inline(always)]`.
    fn run(self, width: impl Width) -> Self::Out;
}

struct With<N, W>(N, W);
impl<N: Width, W: WidthWork> Work for With<N, W> {
    type Out = W::Out;
    #[inline(always)]
    fn run(self) -> W::Out {
        self.1.run(self.0)
    }
}

/// Does `work` with the instructions of `isa` for rows of `stride` elements.
pub(crate) fn dispatch_width<W: WidthWork>(isa: Isa, stride: usize, work: W) -> W::Out {
    match stride {
        1 => dispatch(isa, With(Fixed::<1>, work)),
        2 => dispatch(isa, With(Fixed::<2>, work)),
        4 => dispatch(isa, With(Fixed::<4>, work)),
        8 => dispatch(isa, With(Fixed::<8>, work)),
        16 => dispatch(isa, With(Fixed::<16>, work)),
        24 => dispatch(isa, With(Fixed::<24>, work)),
        32 => dispatch(isa, With(Fixed::<32>, work)),
        other => dispatch(isa, With(Any(other), work)),
    }
}
