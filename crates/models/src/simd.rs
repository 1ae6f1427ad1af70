//! Sixteen lanes of f32 or i32, whatever the processor: the same bits on every level.
//!
//! Every operation is elementwise, exact in any order or has a fixed order, so that AVX-512, AVX2 and plain code agree.
//! Nothing is fused unless a kernel asks for it: [`run_fused`] has processors with AVX2 use their FMA too. Both
//! vector levels are written by hand, because lane moves are what a Gibbs step waits for and compilers make a poor job
//! of them. A kernel runs inside one function that enables the processor's features: around a block, never a row.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use dunlin::isa::Isa;

/// Work to be compiled for each level.
pub(crate) trait Kernel {
    /// What it returns.
    type Out;
    /// The work; must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Out;
}

/// Runs `kernel` compiled for `level`, or for this machine's if that is lower.
#[allow(unsafe_code)]
pub(crate) fn run<K: Kernel>(level: Isa, kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    match level.min(Isa::detected()) {
        Isa::Portable => kernel.run(Portable),
        // SAFETY: at most `Isa::detected`, which has asked the processor for all features.
        Isa::Avx2 => unsafe { with_avx2(kernel) },
        // SAFETY: as above.
        Isa::Avx512 => unsafe { with_avx512(kernel) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    kernel.run(Portable)
}

/// Work with fused products to be compiled for each level.
pub(crate) trait FusedKernel {
    /// The work; must be `#[inline(always)]`.
    fn run<S: Fused>(self, simd: S);
}

/// Runs `kernel` as [`run`] does.
#[allow(unsafe_code)]
pub(crate) fn run_fused<K: FusedKernel>(level: Isa, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    match level.min(Isa::detected()) {
        Isa::Portable => kernel.run(Portable),
        // SAFETY: at most `Isa::detected`, which has asked the processor for all features, FMA among those of AVX2.
        Isa::Avx2 => unsafe { with_avx2_fused(kernel) },
        // SAFETY: as above.
        Isa::Avx512 => unsafe { with_avx512_fused(kernel) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        kernel.run(Portable);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx2_fused<K: FusedKernel>(kernel: K) {
    kernel.run(avx2::Avx2Fused::enabled());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx512_fused<K: FusedKernel>(kernel: K) {
    kernel.run(avx512::Avx512::enabled());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(avx2::Avx2::<false>::enabled())
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(avx512::Avx512::enabled())
}

/// Operations on sixteen lanes.
pub(crate) trait Simd: Copy {
    /// Sixteen floats.
    type Floats: Copy;
    /// True if there are registers for eight vectors and more.
    const WIDE: bool;

    /// From memory.
    fn floats(self, lanes: &[f32; 16]) -> Self::Floats;
    /// max(count, 0) as floats: a stale view may show a count below zero.
    fn counts(self, counts: &[i32; 16]) -> Self::Floats;
    /// To memory.
    fn store(self, floats: Self::Floats, lanes: &mut [f32; 16]);
    /// The same value everywhere.
    fn splat(self, value: f32) -> Self::Floats;
    /// a + b.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a − b.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a b.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a where a < b, else b.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The least lane; none may be NaN.
    fn least(self, a: Self::Floats) -> f32;
    /// A bit for every lane that equals `value`.
    fn equal(self, a: Self::Floats, value: f32) -> u32;
    /// Inclusive prefix sums, and the last of them everywhere: for step 1, 2, 4, 8 every lane i with i & step
    /// adds the last lane of the half before it (Sklansky's network).
    fn scan(self, floats: Self::Floats) -> (Self::Floats, Self::Floats);
    /// The first lane.
    fn first(self, floats: Self::Floats) -> f32;
    /// Sets element `at`, counted through all vectors.
    fn put(self, vectors: &mut [Self::Floats], at: usize, value: f32);
    /// The lane: the first where along > dart, but at most `last`. The vector: how many of `sums` are not above
    /// `rest` in that lane. Returns 16 times the vector plus the lane.
    fn hit(
        self,
        sums: &[Self::Floats],
        rest: Self::Floats,
        along: Self::Floats,
        dart: Self::Floats,
        last: usize,
    ) -> usize;
}

/// What multiplies and adds with one rounding.
pub(crate) trait Fused: Simd {
    /// a b + c, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}

/// Plain code.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Fused for Portable {
    #[inline(always)]
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
}

impl Simd for Portable {
    type Floats = [f32; 16];
    const WIDE: bool = false;

    #[inline(always)]
    fn floats(self, lanes: &[f32; 16]) -> [f32; 16] {
        *lanes
    }
    #[inline(always)]
    fn counts(self, counts: &[i32; 16]) -> [f32; 16] {
        counts.map(|count| count.max(0) as f32)
    }
    #[inline(always)]
    fn store(self, floats: [f32; 16], lanes: &mut [f32; 16]) {
        *lanes = floats;
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn min(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn least(self, a: [f32; 16]) -> f32 {
        a.into_iter().fold(f32::INFINITY, |least, value| if value < least { value } else { least })
    }
    #[inline(always)]
    fn equal(self, a: [f32; 16], value: f32) -> u32 {
        (0..16).fold(0, |bits, i| bits | u32::from(a[i] == value) << i)
    }
    #[inline(always)]
    fn scan(self, floats: [f32; 16]) -> ([f32; 16], [f32; 16]) {
        let mut sums = floats;
        for step in [1, 2, 4, 8] {
            let before = sums;
            for i in 0..16 {
                if i & step != 0 {
                    sums[i] = before[i] + before[(i & !(2 * step - 1)) + step - 1];
                }
            }
        }
        (sums, [sums[15]; 16])
    }
    #[inline(always)]
    fn first(self, floats: [f32; 16]) -> f32 {
        floats[0]
    }
    #[inline(always)]
    fn put(self, vectors: &mut [[f32; 16]], at: usize, value: f32) {
        vectors.as_flattened_mut()[at] = value;
    }
    #[inline(always)]
    fn hit(
        self,
        sums: &[[f32; 16]],
        rest: [f32; 16],
        along: [f32; 16],
        dart: [f32; 16],
        last: usize,
    ) -> usize {
        let above = (0..16).fold(0u32, |bits, i| bits | u32::from(along[i] > dart[i]) << i);
        let lane = ((above | 1 << last).trailing_zeros() & 15) as usize;
        16 * sums.iter().map(|sum| usize::from(sum[lane] <= rest[lane])).sum::<usize>() + lane
    }
}
