//! The inner loop of matrix factorisation, compiled once per row width and once per instruction level.
//!
//! All levels give the same bits: products are summed in sixteen accumulators (column c goes to number c mod
//! 16) that are folded in halves, and every multiply-add is fused. What differs is how many of the sixteen one
//! instruction holds.

use super::Model;
use dunlin::TableMut;
use dunlin::isa::Isa;
use dunlin::table::prefetch;

/// How far ahead rows are fetched, in ratings: about the latency of main memory over the time of one update.
const AHEAD: usize = 24;

/// The ratings of one pass and its step.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) users: &'a [u32],
    pub(super) items: &'a [u32],
    pub(super) ratings: &'a [f32],
    /// Number of factors; rows hold one column more, the bias, if there are biases.
    pub(super) rank: usize,
    /// Mean of all training ratings.
    pub(super) mean: f32,
    /// Step of the gradient.
    pub(super) rate: f32,
    /// 1 − rate · regularisation.
    pub(super) keep: f32,
    /// True to fetch rows ahead: worth it where the tables exceed the cache.
    pub(super) ahead: bool,
}

/// The tables of users and of items.
pub(super) type Tables<'a> = [TableMut<'a, f32>; 2];

/// Updates the rows of every rating in turn; returns the sum of squared errors, each before its own update.
pub(super) fn run(level: Isa, pass: &Pass, tables: Tables) -> f64 {
    match level {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: the processor has the features of the level it was detected to have, and of those below.
        Isa::Avx512 if Isa::detected() >= level => unsafe { run_avx512(pass, tables) },
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: as above.
        Isa::Avx2 if Isa::detected() >= level => unsafe { run_avx2(pass, tables) },
        _ => by_rank::<Portable>(pass, tables),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn run_avx512(pass: &Pass, tables: Tables) -> f64 {
    by_rank::<Avx512>(pass, tables)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(pass: &Pass, tables: Tables) -> f64 {
    by_rank::<Avx>(pass, tables)
}

/// Predicts every (user, item) in turn: `out` gets the position, the prediction and, if `SQUARES`, |p|² + |q|² with
/// biases, else 0.
pub(super) fn visit<const SQUARES: bool>(
    level: Isa,
    model: &Model,
    users: &[u32],
    items: &[u32],
    out: impl FnMut(usize, f32, f32),
) {
    match level {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: as in `run`; the wider level includes these features.
        Isa::Avx2 | Isa::Avx512 if Isa::detected() >= level => unsafe {
            visit_avx2::<SQUARES>(model, users, items, out);
        },
        _ => visit_all::<Portable, SQUARES>(model, users, items, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn visit_avx2<const SQUARES: bool>(
    model: &Model,
    users: &[u32],
    items: &[u32],
    out: impl FnMut(usize, f32, f32),
) {
    visit_all::<Avx, SQUARES>(model, users, items, out);
}

#[inline(always)]
fn visit_all<D: Dot, const SQUARES: bool>(
    model: &Model,
    users: &[u32],
    items: &[u32],
    mut out: impl FnMut(usize, f32, f32),
) {
    for (at, (user, item)) in users.iter().zip(items).enumerate() {
        let ((p, b), (q, c)) = (model.row(0, *user), model.row(1, *item));
        let product = if p.len() == q.len() { D::dot(p, q) } else { 0.0 };
        let squares = if SQUARES { D::dot(p, p) + D::dot(q, q) + b * b + c * c } else { 0.0 };
        out(at, model.mean + b + c + product, squares);
    }
}

/// Σ `counts` |row|², biases included, over the rows of table `side` from `first` on.
pub(super) fn squares(level: Isa, model: &Model, side: usize, first: usize, counts: &[u32]) -> f64 {
    match level {
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        // SAFETY: as in `run`; the wider level includes these features.
        Isa::Avx2 | Isa::Avx512 if Isa::detected() >= level => unsafe {
            squares_avx2(model, side, first, counts)
        },
        _ => squares_of::<Portable>(model, side, first, counts),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn squares_avx2(model: &Model, side: usize, first: usize, counts: &[u32]) -> f64 {
    squares_of::<Avx>(model, side, first, counts)
}

#[inline(always)]
fn squares_of<D: Dot>(model: &Model, side: usize, first: usize, counts: &[u32]) -> f64 {
    let mut sum = 0.0;
    for (at, count) in counts.iter().enumerate() {
        if *count > 0 {
            let (factors, bias) = model.row(side, (first + at) as u32);
            sum += f64::from(*count) * f64::from(D::dot(factors, factors) + bias * bias);
        }
    }
    sum
}

/// Chooses the loop made for this rank.
#[inline(always)]
fn by_rank<D: Dot>(pass: &Pass, tables: Tables) -> f64 {
    let bias = tables[0].row(0).len() > pass.rank;
    match (pass.rank, bias) {
        (8, true) => fixed::<D, 8, 9>(pass, tables),
        (16, true) => fixed::<D, 16, 17>(pass, tables),
        (32, true) => fixed::<D, 32, 33>(pass, tables),
        (64, true) => fixed::<D, 64, 65>(pass, tables),
        (128, true) => fixed::<D, 128, 129>(pass, tables),
        (8, false) => fixed::<D, 8, 8>(pass, tables),
        (16, false) => fixed::<D, 16, 16>(pass, tables),
        (32, false) => fixed::<D, 32, 32>(pass, tables),
        (64, false) => fixed::<D, 64, 64>(pass, tables),
        (128, false) => fixed::<D, 128, 128>(pass, tables),
        _ => any::<D>(pass, tables),
    }
}

/// The loop for `F` factors in rows of `W` columns.
#[inline(always)]
fn fixed<D: Dot, const F: usize, const W: usize>(pass: &Pass, tables: Tables) -> f64 {
    match pass.ahead {
        true => fixed_with::<D, F, W, true>(pass, tables),
        false => fixed_with::<D, F, W, false>(pass, tables),
    }
}

#[inline(always)]
fn fixed_with<D: Dot, const F: usize, const W: usize, const FETCHES: bool>(
    pass: &Pass,
    [mut users, mut items]: Tables,
) -> f64 {
    let Pass { mean, rate, keep, .. } = *pass;
    let count = pass.ratings.len();
    let (user_ids, item_ids) = (&pass.users[..count], &pass.items[..count]);
    let mut loss = 0.0;
    for at in 0..count {
        if FETCHES && at + AHEAD < count {
            fetch::<W>(&users, user_ids[at + AHEAD]);
            fetch::<W>(&items, item_ids[at + AHEAD]);
        }
        let p = users.array_mut::<W>(user_ids[at] as usize);
        let q = items.array_mut::<W>(item_ids[at] as usize);
        // What does not wait for the product is taken off first.
        let bias = if W > F { mean + p[F] + q[F] } else { mean };
        let error = (pass.ratings[at] - bias) - D::dot(&p[..F], &q[..F]);
        update::<F, W>(p, q, rate * error, keep);
        loss += f64::from(error) * f64::from(error);
    }
    loss
}

/// The loop for any number of factors.
#[inline(always)]
fn any<D: Dot>(pass: &Pass, [mut users, mut items]: Tables) -> f64 {
    let mut loss = 0.0;
    for ((user, item), rating) in pass.users.iter().zip(pass.items).zip(pass.ratings) {
        let (p, p_bias) = users.row_mut(*user as usize).split_at_mut(pass.rank);
        let (q, q_bias) = items.row_mut(*item as usize).split_at_mut(pass.rank);
        let bias = match (p_bias.first(), q_bias.first()) {
            (Some(b), Some(c)) => pass.mean + b + c,
            _ => pass.mean,
        };
        let error = (rating - bias) - D::dot(p, q);
        let step = pass.rate * error;
        for (p, q) in p.iter_mut().zip(q) {
            (*p, *q) = (step.mul_add(*q, pass.keep * *p), step.mul_add(*p, pass.keep * *q));
        }
        for bias in p_bias.iter_mut().chain(q_bias) {
            *bias = pass.keep.mul_add(*bias, step);
        }
        loss += f64::from(error) * f64::from(error);
    }
    loss
}

/// Asks for all cache lines of a row.
#[inline(always)]
fn fetch<const W: usize>(table: &TableMut<f32>, row: u32) {
    let row = table.row(row as usize);
    for at in (0..W).step_by(16) {
        if let Some(line) = row.get(at..) {
            prefetch(line);
        }
    }
}

/// p ← keep · p + step · q and q ← keep · q + step · p, from the values before; biases b ← keep · b + step.
#[inline(always)]
fn update<const F: usize, const W: usize>(p: &mut [f32; W], q: &mut [f32; W], step: f32, keep: f32) {
    for c in 0..F {
        let (old_p, old_q) = (p[c], q[c]);
        p[c] = step.mul_add(old_q, keep * old_p);
        q[c] = step.mul_add(old_p, keep * old_q);
    }
    if W > F {
        p[F] = keep.mul_add(p[F], step);
        q[F] = keep.mul_add(q[F], step);
    }
}

/// How an instruction level sums products.
trait Dot {
    /// p · q in sixteen accumulators; as far as the shorter goes.
    fn dot(p: &[f32], q: &[f32]) -> f32;
}

struct Portable;

impl Dot for Portable {
    #[inline(always)]
    fn dot(p: &[f32], q: &[f32]) -> f32 {
        let mut sums = [0.0f32; 16];
        for (p, q) in p.chunks(16).zip(q.chunks(16)) {
            for (sum, (p, q)) in sums.iter_mut().zip(p.iter().zip(q)) {
                *sum = p.mul_add(*q, *sum);
            }
        }
        let eight: [f32; 8] = std::array::from_fn(|c| sums[c] + sums[c + 8]);
        let four: [f32; 4] = std::array::from_fn(|c| eight[c] + eight[c + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// The sixteen accumulators as two registers.
#[cfg(target_arch = "x86_64")]
struct Avx;

/// The sixteen accumulators as one register: the rows come in as they are updated, so that they are read once.
#[cfg(target_arch = "x86_64")]
struct Avx512;

/// A window on this that starts at 8 − n selects the first n of eight.
#[cfg(target_arch = "x86_64")]
const FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
impl Dot for Avx {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn dot(p: &[f32], q: &[f32]) -> f32 {
        use std::arch::x86_64::*;
        let count = p.len().min(q.len());
        let (whole, rest) = (count / 8 * 8, count % 8);
        // SAFETY: loads start at most 8 before `count`, or are masked to the elements before it; the mask's
        // window lies in its 16 elements. This type is used only inside functions with AVX2 and FMA.
        unsafe {
            let mut sums = [_mm256_setzero_ps(); 2];
            for c in (0..whole).step_by(8) {
                let (p, q) = (_mm256_loadu_ps(p.as_ptr().add(c)), _mm256_loadu_ps(q.as_ptr().add(c)));
                sums[c / 8 % 2] = _mm256_fmadd_ps(p, q, sums[c / 8 % 2]);
            }
            if rest > 0 {
                let mask = _mm256_loadu_si256(FIRST.as_ptr().add(8 - rest).cast());
                let p = _mm256_maskload_ps(p.as_ptr().add(whole), mask);
                let q = _mm256_maskload_ps(q.as_ptr().add(whole), mask);
                sums[whole / 8 % 2] = _mm256_fmadd_ps(p, q, sums[whole / 8 % 2]);
            }
            fold(_mm256_add_ps(sums[0], sums[1]))
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Dot for Avx512 {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn dot(p: &[f32], q: &[f32]) -> f32 {
        use std::arch::x86_64::*;
        let count = p.len().min(q.len());
        let (whole, rest) = (count / 16 * 16, count % 16);
        // SAFETY: loads start at most 16 before `count`, or are masked to the elements before it. This type is used
        // only inside functions with AVX-512 F and DQ, and AVX2.
        unsafe {
            let mut sums = _mm512_setzero_ps();
            for c in (0..whole).step_by(16) {
                let (p, q) = (_mm512_loadu_ps(p.as_ptr().add(c)), _mm512_loadu_ps(q.as_ptr().add(c)));
                sums = _mm512_fmadd_ps(p, q, sums);
            }
            if rest > 0 {
                let mask = (1u16 << rest) - 1;
                let p = _mm512_maskz_loadu_ps(mask, p.as_ptr().add(whole));
                let q = _mm512_maskz_loadu_ps(mask, q.as_ptr().add(whole));
                sums = _mm512_fmadd_ps(p, q, sums);
            }
            fold(_mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps::<1>(sums)))
        }
    }
}

/// The last three folds.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn fold(eight: std::arch::x86_64::__m256) -> f32 {
    use std::arch::x86_64::*;
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
