//! Sixteen lanes of f32 or i32, whatever the processor: the same bits on every level.
//!
//! Every operation is elementwise or has a fixed order, and nothing is fused, so that AVX-512, AVX2 and plain
//! code agree. The portable form is compiled once for the baseline and once for AVX2, where the compiler makes
//! vectors of it; only AVX-512 is written by hand, because masks and lane moves are what a Gibbs step waits for.
//! A kernel runs inside one function that enables the processor's features: around a block, never a row.

use dunlin::isa::Isa;

/// Work to be compiled for each level.
pub(super) trait Kernel {
    /// What it returns.
    type Out;
    /// The work; must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Out;
}

/// Runs `kernel` compiled for `level`, or for this machine's if that is lower.
#[allow(unsafe_code)]
pub(super) fn run<K: Kernel>(level: Isa, kernel: K) -> K::Out {
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Portable)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(wide::Avx512::enabled())
}

/// The operations that samplers need, on sixteen lanes.
pub(super) trait Simd: Copy {
    /// Sixteen floats.
    type Floats: Copy;
    /// Sixteen integers.
    type Ints: Copy;

    /// From memory.
    fn floats(self, lanes: &[f32; 16]) -> Self::Floats;
    /// From memory.
    fn ints(self, lanes: &[i32; 16]) -> Self::Ints;
    /// To memory.
    fn store(self, floats: Self::Floats, lanes: &mut [f32; 16]);
    /// The same value everywhere.
    fn splat(self, value: f32) -> Self::Floats;
    /// The same value everywhere.
    fn splat_int(self, value: i32) -> Self::Ints;
    /// a + b.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a − b.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a b.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// max(count, 0) as floats: a stale view may show a count below zero.
    fn counts(self, counts: Self::Ints) -> Self::Floats;
    /// `value` in the lane where `ids` is `id`, `other` elsewhere.
    fn put(self, other: Self::Floats, ids: Self::Ints, id: Self::Ints, value: Self::Floats) -> Self::Floats;
    /// Inclusive prefix sums: for step 1, 2, 4, 8 every lane i with i & step adds the last lane of the half
    /// before it (Sklansky's network).
    fn scan(self, floats: Self::Floats) -> Self::Floats;
    /// The last lane, everywhere.
    fn last(self, floats: Self::Floats) -> Self::Floats;
    /// The first lane.
    fn first(self, floats: Self::Floats) -> f32;
    /// `other` where a ≤ b, `ints` elsewhere.
    fn replace_up_to(
        self,
        ints: Self::Ints,
        a: Self::Floats,
        b: Self::Floats,
        other: Self::Ints,
    ) -> Self::Ints;
    /// `ints` in the first lane where a > b; in lane `last` if there is none before it.
    fn pick(self, ints: Self::Ints, a: Self::Floats, b: Self::Floats, last: usize) -> i32;
}

/// Plain code; also what AVX2 runs.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type Floats = [f32; 16];
    type Ints = [i32; 16];

    #[inline(always)]
    fn floats(self, lanes: &[f32; 16]) -> [f32; 16] {
        *lanes
    }
    #[inline(always)]
    fn ints(self, lanes: &[i32; 16]) -> [i32; 16] {
        *lanes
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
    fn splat_int(self, value: i32) -> [i32; 16] {
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
    fn counts(self, counts: [i32; 16]) -> [f32; 16] {
        counts.map(|count| count.max(0) as f32)
    }
    #[inline(always)]
    fn put(self, other: [f32; 16], ids: [i32; 16], id: [i32; 16], value: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| if ids[i] == id[i] { value[i] } else { other[i] })
    }
    #[inline(always)]
    fn scan(self, floats: [f32; 16]) -> [f32; 16] {
        let mut sums = floats;
        for step in [1, 2, 4, 8] {
            let before = sums;
            for i in 0..16 {
                if i & step != 0 {
                    sums[i] = before[i] + before[(i & !(2 * step - 1)) + step - 1];
                }
            }
        }
        sums
    }
    #[inline(always)]
    fn last(self, floats: [f32; 16]) -> [f32; 16] {
        [floats[15]; 16]
    }
    #[inline(always)]
    fn first(self, floats: [f32; 16]) -> f32 {
        floats[0]
    }
    #[inline(always)]
    fn replace_up_to(self, ints: [i32; 16], a: [f32; 16], b: [f32; 16], other: [i32; 16]) -> [i32; 16] {
        std::array::from_fn(|i| if a[i] <= b[i] { other[i] } else { ints[i] })
    }
    #[inline(always)]
    fn pick(self, ints: [i32; 16], a: [f32; 16], b: [f32; 16], last: usize) -> i32 {
        let above = (0..16).fold(0u32, |bits, i| bits | u32::from(a[i] > b[i]) << i);
        ints[((above | 1 << last).trailing_zeros() & 15) as usize]
    }
}

/// AVX-512 by hand.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod wide {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Proof that this processor has AVX-512 F, BW, DQ and VL: can only be made where they are enabled. That is
    /// why the calls below are safe; the loads and stores go through array references of the right size.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(());

    impl Avx512 {
        /// The proof.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        pub(super) fn enabled() -> Avx512 {
            Avx512(())
        }
    }

    /// Runs intrinsics whose features the proof stands for.
    macro_rules! with_proof {
        ($e:expr) => {
            // SAFETY: the caller holds an `Avx512`, so the processor has the features; pointers come from
            // references to sixteen elements.
            unsafe { $e }
        };
    }

    impl Simd for Avx512 {
        type Floats = __m512;
        type Ints = __m512i;

        #[inline(always)]
        fn floats(self, lanes: &[f32; 16]) -> __m512 {
            with_proof!(_mm512_loadu_ps(lanes.as_ptr()))
        }
        #[inline(always)]
        fn ints(self, lanes: &[i32; 16]) -> __m512i {
            with_proof!(_mm512_loadu_epi32(lanes.as_ptr()))
        }
        #[inline(always)]
        fn store(self, floats: __m512, lanes: &mut [f32; 16]) {
            with_proof!(_mm512_storeu_ps(lanes.as_mut_ptr(), floats))
        }
        #[inline(always)]
        fn splat(self, value: f32) -> __m512 {
            with_proof!(_mm512_set1_ps(value))
        }
        #[inline(always)]
        fn splat_int(self, value: i32) -> __m512i {
            with_proof!(_mm512_set1_epi32(value))
        }
        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            with_proof!(_mm512_add_ps(a, b))
        }
        #[inline(always)]
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            with_proof!(_mm512_sub_ps(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            with_proof!(_mm512_mul_ps(a, b))
        }
        #[inline(always)]
        fn counts(self, counts: __m512i) -> __m512 {
            with_proof!(_mm512_cvtepi32_ps(_mm512_max_epi32(counts, _mm512_setzero_si512())))
        }
        #[inline(always)]
        fn put(self, other: __m512, ids: __m512i, id: __m512i, value: __m512) -> __m512 {
            with_proof!(_mm512_mask_mov_ps(other, _mm512_cmpeq_epi32_mask(ids, id), value))
        }
        #[inline(always)]
        fn scan(self, floats: __m512) -> __m512 {
            with_proof!({
                let one =
                    _mm512_mask_add_ps(floats, 0xaaaa, floats, _mm512_permute_ps::<0b10_10_00_00>(floats));
                let two = _mm512_mask_add_ps(one, 0xcccc, one, _mm512_permute_ps::<0b01_01_01_01>(one));
                let halves = _mm512_setr_epi32(3, 3, 3, 3, 3, 3, 3, 3, 11, 11, 11, 11, 11, 11, 11, 11);
                let four = _mm512_mask_add_ps(two, 0xf0f0, two, _mm512_permutexvar_ps(halves, two));
                let seventh = _mm512_permutexvar_ps(_mm512_set1_epi32(7), four);
                _mm512_mask_add_ps(four, 0xff00, four, seventh)
            })
        }
        #[inline(always)]
        fn last(self, floats: __m512) -> __m512 {
            with_proof!(_mm512_permutexvar_ps(_mm512_set1_epi32(15), floats))
        }
        #[inline(always)]
        fn first(self, floats: __m512) -> f32 {
            with_proof!(_mm512_cvtss_f32(floats))
        }
        #[inline(always)]
        fn replace_up_to(self, ints: __m512i, a: __m512, b: __m512, other: __m512i) -> __m512i {
            with_proof!(_mm512_mask_mov_epi32(ints, _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b), other))
        }
        #[inline(always)]
        fn pick(self, ints: __m512i, a: __m512, b: __m512, last: usize) -> i32 {
            with_proof!({
                let above = _kor_mask16(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), 1 << last);
                _mm512_cvtsi512_si32(_mm512_maskz_compress_epi32(above, ints))
            })
        }
    }
}
