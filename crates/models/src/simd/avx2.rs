//! Sixteen lanes in two registers.
//!
//! There are too few registers to hold all vectors, so they lie in memory, and an element is set in its half of
//! one vector alone: by a load, a blend and a store of the same width, which the next wide load need not wait for.
#![allow(unsafe_code)]

use super::{Fused, Simd};
use std::arch::x86_64::*;

/// Proof that this processor has AVX2, and FMA too if `FUSED`: can only be made where they are enabled. That is
/// why the calls below are safe; the loads and stores go through references to as many elements as they touch.
#[derive(Clone, Copy)]
pub(super) struct Avx2<const FUSED: bool>(());

/// Proof that it has FMA too.
pub(super) type Avx2Fused = Avx2<true>;

impl Avx2<false> {
    /// The proof.
    #[target_feature(enable = "avx2")]
    pub(super) fn enabled() -> Avx2<false> {
        Avx2(())
    }
}

impl Avx2<true> {
    /// The proof.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn enabled() -> Avx2<true> {
        Avx2(())
    }
}

/// Runs intrinsics whose feature the proof stands for.
macro_rules! with_proof {
    ($e:expr) => {
        // SAFETY: the caller holds an `Avx2`, so the processor has AVX2, and FMA where `FUSED`; pointers come from
        // references to arrays of eight elements.
        unsafe { $e }
    };
}

/// The eight elements from 7 − i on have all bits set at i alone.
static ONE_LANE: [i32; 15] = [0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0];

/// The two halves of sixteen elements.
#[inline(always)]
fn halves<T>(lanes: &[T; 16]) -> [&[T; 8]; 2] {
    let (halves, _) = lanes.as_chunks::<8>();
    [&halves[0], &halves[1]]
}

impl<const FUSED: bool> Avx2<FUSED> {
    /// Steps 1 and 2 of the prefix sums. Lanes that add nothing add 0 instead; the sums of what is not
    /// negative are the same bits.
    #[inline(always)]
    fn scan_fours(self, floats: __m256) -> __m256 {
        with_proof!({
            let evens = _mm256_castsi256_ps(_mm256_slli_epi64::<32>(_mm256_castps_si256(floats)));
            let one = _mm256_add_ps(floats, evens);
            let second = _mm256_shuffle_ps::<0b01_01_00_00>(_mm256_setzero_ps(), one);
            _mm256_add_ps(one, second)
        })
    }

    /// Lane `LANE` everywhere.
    #[inline(always)]
    fn lane<const LANE: i32>(self, floats: __m256) -> __m256 {
        with_proof!(_mm256_permutevar8x32_ps(floats, _mm256_set1_epi32(LANE)))
    }
}

impl Fused for Avx2<true> {
    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        with_proof!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
}

impl<const FUSED: bool> Simd for Avx2<FUSED> {
    type Floats = [__m256; 2];
    const WIDE: bool = false;

    #[inline(always)]
    fn floats(self, lanes: &[f32; 16]) -> [__m256; 2] {
        halves(lanes).map(|half| with_proof!(_mm256_loadu_ps(half.as_ptr())))
    }
    #[inline(always)]
    fn counts(self, counts: &[i32; 16]) -> [__m256; 2] {
        halves(counts).map(|half| {
            with_proof!({
                let counts = _mm256_loadu_si256(half.as_ptr().cast());
                _mm256_cvtepi32_ps(_mm256_max_epi32(counts, _mm256_setzero_si256()))
            })
        })
    }
    #[inline(always)]
    fn store(self, floats: [__m256; 2], lanes: &mut [f32; 16]) {
        let (halves, _) = lanes.as_chunks_mut::<8>();
        for (half, floats) in halves.iter_mut().zip(floats) {
            with_proof!(_mm256_storeu_ps(half.as_mut_ptr(), floats));
        }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [__m256; 2] {
        [with_proof!(_mm256_set1_ps(value)); 2]
    }
    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        with_proof!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        with_proof!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        with_proof!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        with_proof!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn least(self, a: [__m256; 2]) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(a, &mut lanes);
        lanes.into_iter().fold(f32::INFINITY, |least, value| if value < least { value } else { least })
    }
    #[inline(always)]
    fn equal(self, a: [__m256; 2], value: f32) -> u32 {
        with_proof!({
            let value = _mm256_set1_ps(value);
            let bits = a.map(|half| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(half, value)) as u32);
            bits[0] | bits[1] << 8
        })
    }
    #[inline(always)]
    fn scan(self, floats: [__m256; 2]) -> ([__m256; 2], [__m256; 2]) {
        let [low, high] = floats.map(|half| self.scan_fours(half));
        // The last lanes of the fours, side by side; steps 4 and 8 add them up in the network's order.
        let (third, seventh) = (self.lane::<3>(low), self.lane::<7>(low));
        let (eleventh, fifteenth) = (self.lane::<3>(high), self.lane::<7>(high));
        with_proof!({
            let low_four = _mm256_blend_ps::<0xf0>(low, _mm256_add_ps(low, third));
            let high_four = _mm256_blend_ps::<0xf0>(high, _mm256_add_ps(high, eleventh));
            let low_sum = _mm256_add_ps(seventh, third);
            let sum = _mm256_add_ps(_mm256_add_ps(fifteenth, eleventh), low_sum);
            ([low_four, _mm256_add_ps(high_four, low_sum)], [sum; 2])
        })
    }
    #[inline(always)]
    fn first(self, floats: [__m256; 2]) -> f32 {
        with_proof!(_mm256_cvtss_f32(floats[0]))
    }
    #[inline(always)]
    fn put(self, vectors: &mut [[__m256; 2]], at: usize, value: f32) {
        let half = &mut vectors.as_flattened_mut()[at / 8];
        let Some(here) = ONE_LANE[7 - at % 8..].first_chunk::<8>() else { return };
        *half = with_proof!({
            let here = _mm256_castsi256_ps(_mm256_loadu_si256(here.as_ptr().cast()));
            _mm256_blendv_ps(*half, _mm256_set1_ps(value), here)
        });
    }
    #[inline(always)]
    fn hit(
        self,
        sums: &[[__m256; 2]],
        rest: [__m256; 2],
        along: [__m256; 2],
        dart: [__m256; 2],
        last: usize,
    ) -> usize {
        // Minus the number of sums that are not above the rest, by lane.
        let mut vectors = [[0i32; 8]; 2];
        let mut above = 1 << last;
        for half in 0..2 {
            with_proof!({
                let mut count = _mm256_setzero_si256();
                for sum in sums {
                    let not_above = _mm256_cmp_ps::<_CMP_LE_OQ>(sum[half], rest[half]);
                    count = _mm256_add_epi32(count, _mm256_castps_si256(not_above));
                }
                _mm256_storeu_si256(vectors[half].as_mut_ptr().cast(), count);
                let lanes = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(along[half], dart[half]));
                above |= lanes << (8 * half);
            });
        }
        let lane = (above.trailing_zeros() & 15) as usize;
        lane.wrapping_sub((16 * vectors.as_flattened()[lane]) as isize as usize)
    }
}
