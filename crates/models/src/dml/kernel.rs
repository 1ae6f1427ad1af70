//! The arithmetic of a minibatch of pairs, compiled once per instruction level.
//!
//! Everything is "row += number · row" with a fused multiply-add per element, in a fixed order, so that all
//! levels give the same bits. Lᵀ is what the table holds: row j is column j of L, `stride` long with zeros
//! behind the `rank` elements.

use super::pairs::{Pairs, Rows};
use dunlin::isa::Isa;
use dunlin::{Table, TableMut};

/// Largest norm of a relative step: below 1, the step keeps L invertible whatever the rate.
const LARGEST: f32 = 0.7;

/// What a pass over pairs needs to know.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) pairs: &'a Pairs,
    /// The order in which pairs are taken.
    pub(super) order: &'a [u32],
    /// Factor of each feature; 0 for one that is left out.
    pub(super) scales: &'a [f32],
    pub(super) rank: usize,
    pub(super) batch: usize,
    pub(super) rate: f32,
    pub(super) lambda: f32,
    pub(super) margin: f32,
    pub(super) prior: f32,
}

/// Scaled differences of a batch in compressed rows, and their images z = L δ.
#[derive(Default)]
pub(super) struct Differences {
    offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
    /// (pairs, stride).
    images: Vec<f32>,
    /// Per pair: derivative of the loss by |z|², that is 1, −λ or 0.
    weights: Vec<f32>,
}

/// Steps through all batches; returns the sum of the pairs' losses, each before its batch's step. Stops early,
/// with a sum that is no number, if the table ceases to be finite.
pub(super) fn run(level: Isa, pass: &Pass, table: &mut TableMut<f32>) -> f64 {
    match level {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: the processor has the features of the level it was detected to have, and of those below.
        Isa::Avx512 if Isa::detected() >= level => unsafe { run_avx512(pass, table) },
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: as above.
        Isa::Avx2 if Isa::detected() >= level => unsafe { run_avx2(pass, table) },
        _ => batches(pass, table),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn run_avx512(pass: &Pass, table: &mut TableMut<f32>) -> f64 {
    batches(pass, table)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(pass: &Pass, table: &mut TableMut<f32>) -> f64 {
    batches(pass, table)
}

/// Squared distance |L δ|² of each pair, in order.
pub(super) fn distances(level: Isa, pass: &Pass, table: Table<f32>) -> Vec<f32> {
    match level {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: as in `run`; the wider level includes these features.
        Isa::Avx2 | Isa::Avx512 if Isa::detected() >= level => unsafe { distances_avx2(pass, table) },
        _ => all_distances(pass, table),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn distances_avx2(pass: &Pass, table: Table<f32>) -> Vec<f32> {
    all_distances(pass, table)
}

#[inline(always)]
fn all_distances(pass: &Pass, table: Table<f32>) -> Vec<f32> {
    let (mut batch, mut out) = (Differences::default(), Vec::with_capacity(pass.pairs.rows.len()));
    for pairs in pass.pairs.rows.chunks(pass.batch) {
        batch.fill(pass, pairs.iter().copied());
        batch.project(table.stride(), |row| table.padded(row));
        out.extend(batch.images.chunks_exact(table.stride()).map(squares));
    }
    out
}

/// L x of each row, in order, `stride` long.
pub(super) fn images(level: Isa, rows: &Rows, scales: &[f32], table: Table<f32>, out: Image) {
    match level {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: as in `run`; the wider level includes these features.
        Isa::Avx2 | Isa::Avx512 if Isa::detected() >= level => unsafe {
            images_avx2(rows, scales, table, out);
        },
        _ => all_images(rows, scales, table, out),
    }
}

/// Receives (row, L x).
pub(super) type Image<'a> = &'a mut dyn FnMut(usize, &[f32]);

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn images_avx2(rows: &Rows, scales: &[f32], table: Table<f32>, out: Image) {
    all_images(rows, scales, table, out);
}

#[inline(always)]
fn all_images(rows: &Rows, scales: &[f32], table: Table<f32>, out: Image) {
    let mut image = vec![0.0; table.stride()];
    for row in 0..rows.classes().len() {
        image.fill(0.0);
        rows.each(row, |column, value| {
            if let Some(scale) = scales.get(column) {
                add(&mut image, value * scale, table.padded(column));
            }
        });
        out(row, &image);
    }
}

#[inline(always)]
fn batches(pass: &Pass, table: &mut TableMut<f32>) -> f64 {
    let (mut loss, mut batch) = (0.0, Differences::default());
    let mut gram = vec![0.0; pass.rank * table.stride()];
    for order in pass.order.chunks(pass.batch) {
        batch.fill(pass, order.iter().map(|at| pass.pairs.rows[*at as usize]));
        batch.project(table.stride(), |row| table.padded(row));
        let batch_loss = batch.weigh(pass, order, table.stride());
        let sound = if pass.prior > 0.0 {
            relative_step(pass, &batch, table, &mut gram)
        } else {
            plain_step(pass, &batch, table);
            true
        };
        if !sound || !batch_loss.is_finite() {
            return f64::NAN;
        }
        loss += batch_loss;
    }
    loss
}

impl Differences {
    /// Sets the differences of `pairs`; columns that have no scale are left out.
    #[inline(always)]
    fn fill(&mut self, pass: &Pass, pairs: impl Iterator<Item = [u32; 2]>) {
        self.columns.clear();
        self.values.clear();
        self.offsets.clear();
        self.offsets.push(0);
        for pair in pairs {
            pass.rows.difference(pair, |column, value| {
                let value = value * pass.scales.get(column).copied().unwrap_or(0.0);
                if value != 0.0 {
                    self.columns.push(column as u32);
                    self.values.push(value);
                }
            });
            self.offsets.push(self.columns.len());
        }
    }

    /// z = L δ for every pair.
    #[inline(always)]
    fn project<'t>(&mut self, stride: usize, row: impl Fn(usize) -> &'t [f32]) {
        self.images.clear();
        self.images.resize((self.offsets.len() - 1) * stride, 0.0);
        for (image, ends) in self.images.chunks_exact_mut(stride).zip(self.offsets.windows(2)) {
            let columns = self.columns[ends[0]..ends[1]].chunks(4);
            for (columns, values) in columns.zip(self.values[ends[0]..ends[1]].chunks(4)) {
                if let (&[a, b, c, d], &[v, w, x, y]) = (columns, values) {
                    let rows = [a, b, c, d].map(|column| row(column as usize));
                    add_four(image, [v, w, x, y], rows);
                } else {
                    let pairs = columns.iter().zip(values);
                    pairs.for_each(|(column, value)| add(image, *value, row(*column as usize)));
                }
            }
        }
    }

    /// Sets the weights; returns the sum of losses.
    #[inline(always)]
    fn weigh(&mut self, pass: &Pass, order: &[u32], stride: usize) -> f64 {
        let mut loss = 0.0;
        self.weights.clear();
        for (image, at) in self.images.chunks_exact(stride).zip(order) {
            let (pair_loss, weight) = pass.loss(squares(image), pass.pairs.similar[*at as usize]);
            loss += f64::from(pair_loss);
            self.weights.push(weight);
        }
        loss
    }
}

impl Pass<'_> {
    /// A pair's loss from its squared distance, and the derivative of the loss by it.
    #[inline(always)]
    pub(super) fn loss(&self, distance: f32, similar: bool) -> (f32, f32) {
        match (similar, distance < self.margin) {
            (true, _) => (distance, 1.0),
            (false, true) => (self.lambda * (self.margin - distance), -self.lambda),
            // NaN comes here and must stay one
            (false, false) => (distance * 0.0, 0.0),
        }
    }
}

/// L ← L − η · 2/b Σ w z δᵀ, η = rate · features.
#[inline(always)]
fn plain_step(pass: &Pass, batch: &Differences, table: &mut TableMut<f32>) {
    let stride = table.stride();
    let step = -pass.rate * table.rows() as f32 * 2.0 / batch.weights.len() as f32;
    for (at, (image, weight)) in batch.images.chunks_exact(stride).zip(&batch.weights).enumerate() {
        if *weight != 0.0 {
            for entry in batch.offsets[at]..batch.offsets[at + 1] {
                let row = table.padded_mut(batch.columns[entry] as usize);
                add(row, step * weight * batch.values[entry], image);
            }
        }
    }
}

/// L ← L − η G L with G = 2/b Σ w z zᵀ + μ/d (L Lᵀ − I) and η = rate · d / (1 + μ), shortened so that the norm of
/// η G stays below [`LARGEST`]. False if G is not finite.
#[inline(always)]
fn relative_step(pass: &Pass, batch: &Differences, table: &mut TableMut<f32>, gram: &mut [f32]) -> bool {
    let (stride, features) = (table.stride(), table.rows());
    let (rank, pull) = (pass.rank, pass.prior / (1.0 + pass.prior));
    let push = 2.0 * features as f32 / (batch.weights.len() as f32 * (1.0 + pass.prior));
    gram.fill(0.0);
    let images = batch.images.chunks_exact(stride);
    add_outer(gram, rank, images.zip(batch.weights.iter().map(|weight| weight * push)));
    add_outer(gram, rank, (0..features).map(|row| (table.padded(row), pull)));
    (0..rank).for_each(|i| gram[i * stride + i] -= pull);
    let norm = squares(gram).sqrt();
    if !norm.is_finite() {
        return false;
    }
    let step = if pass.rate * norm > LARGEST { LARGEST / norm } else { pass.rate };
    let mut old = vec![0.0; stride];
    for feature in 0..features {
        let row = table.padded_mut(feature);
        old.copy_from_slice(row);
        for (old, gram) in old[..rank].chunks(4).zip(gram.chunks(4 * stride)) {
            if let &[a, b, c, d] = old {
                let four = [gram, &gram[stride..], &gram[2 * stride..], &gram[3 * stride..]];
                add_four(row, [a, b, c, d].map(|value| -step * value), four);
            } else {
                let rest = old.iter().zip(gram.chunks_exact(stride));
                rest.for_each(|(value, gram)| add(row, -step * value, gram));
            }
        }
    }
    true
}

/// gram += Σ weight · row rowᵀ, four rows at a time; rows of weight 0 are left out.
#[inline(always)]
fn add_outer<'a>(gram: &mut [f32], rank: usize, rows: impl Iterator<Item = (&'a [f32], f32)>) {
    let stride = gram.len() / rank;
    let mut waiting: [(&[f32], f32); 4] = [(&[], 0.0); 4];
    let mut count = 0;
    for row in rows.filter(|row| row.1 != 0.0) {
        waiting[count] = row;
        count += 1;
        if count == 4 {
            count = 0;
            for (i, sums) in gram.chunks_exact_mut(stride).enumerate() {
                add_four(sums, waiting.map(|(row, weight)| weight * row[i]), waiting.map(|row| row.0));
            }
        }
    }
    for (row, weight) in &waiting[..count] {
        for (i, sums) in gram.chunks_exact_mut(stride).enumerate() {
            add(sums, weight * row[i], row);
        }
    }
}

/// out += number · row.
#[inline(always)]
fn add(out: &mut [f32], number: f32, row: &[f32]) {
    for (out, value) in out.iter_mut().zip(row) {
        *out = number.mul_add(*value, *out);
    }
}

/// out += Σ number · row over four rows, in turn.
#[inline(always)]
fn add_four(out: &mut [f32], numbers: [f32; 4], rows: [&[f32]; 4]) {
    let count = out.len();
    let [a, b, c, d] = rows.map(|row| &row[..count]);
    for at in 0..count {
        let first = numbers[1].mul_add(b[at], numbers[0].mul_add(a[at], out[at]));
        out[at] = numbers[3].mul_add(d[at], numbers[2].mul_add(c[at], first));
    }
}

/// Σ value² in sixteen accumulators, folded in halves.
#[inline(always)]
fn squares(values: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    for values in values.chunks(16) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = value.mul_add(*value, *sum);
        }
    }
    let mut half = 8;
    while half > 0 {
        for at in 0..half {
            sums[at] += sums[at + half];
        }
        half /= 2;
    }
    sums[0]
}
