//! Sixteen lanes in one register.
#![allow(unsafe_code)]

use super::{Fused, Simd};
use std::arch::x86_64::*;

/// Proof that this processor has AVX-512 F, BW, DQ and VL: can only be made where they are enabled. That is
/// why the calls below are safe; the loads and stores go through array references of the right size.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

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

/// Elements of the vectors that fit in registers, by vector and lane.
static ELEMENTS: [[i32; 16]; 8] = {
    let mut elements = [[0; 16]; 8];
    let mut at = 0;
    while at < 128 {
        elements[at / 16][at % 16] = at as i32;
        at += 1;
    }
    elements
};

impl Fused for Avx512 {
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with_proof!(_mm512_fmadd_ps(a, b, c))
    }
}

impl Simd for Avx512 {
    type Floats = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    fn floats(self, lanes: &[f32; 16]) -> __m512 {
        with_proof!(_mm512_loadu_ps(lanes.as_ptr()))
    }
    #[inline(always)]
    fn counts(self, counts: &[i32; 16]) -> __m512 {
        with_proof!({
            let counts = _mm512_loadu_epi32(counts.as_ptr());
            _mm512_cvtepi32_ps(_mm512_max_epi32(counts, _mm512_setzero_si512()))
        })
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
    fn min(self, a: __m512, b: __m512) -> __m512 {
        with_proof!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn least(self, a: __m512) -> f32 {
        with_proof!(_mm512_reduce_min_ps(a))
    }
    #[inline(always)]
    fn equal(self, a: __m512, value: f32) -> u32 {
        with_proof!(u32::from(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, _mm512_set1_ps(value))))
    }
    #[inline(always)]
    fn scan(self, floats: __m512) -> (__m512, __m512) {
        with_proof!({
            let one = _mm512_mask_add_ps(floats, 0xaaaa, floats, _mm512_permute_ps::<0b10_10_00_00>(floats));
            let two = _mm512_mask_add_ps(one, 0xcccc, one, _mm512_permute_ps::<0b01_01_01_01>(one));
            let halves = _mm512_setr_epi32(3, 3, 3, 3, 3, 3, 3, 3, 11, 11, 11, 11, 11, 11, 11, 11);
            let four = _mm512_mask_add_ps(two, 0xf0f0, two, _mm512_permutexvar_ps(halves, two));
            let seventh = _mm512_permutexvar_ps(_mm512_set1_epi32(7), four);
            let eight = _mm512_mask_add_ps(four, 0xff00, four, seventh);
            (eight, _mm512_permutexvar_ps(_mm512_set1_epi32(15), eight))
        })
    }
    #[inline(always)]
    fn first(self, floats: __m512) -> f32 {
        with_proof!(_mm512_cvtss_f32(floats))
    }
    #[inline(always)]
    fn put(self, vectors: &mut [__m512], at: usize, value: f32) {
        let (element, value) = (at as i32, self.splat(value));
        for (vector, elements) in vectors.iter_mut().zip(&ELEMENTS) {
            *vector = with_proof!({
                let elements = _mm512_loadu_epi32(elements.as_ptr());
                let here = _mm512_cmpeq_epi32_mask(elements, _mm512_set1_epi32(element));
                _mm512_mask_mov_ps(*vector, here, value)
            });
        }
        if at >= 128 {
            vectors[at / 16] = with_proof!(_mm512_mask_mov_ps(vectors[at / 16], 1 << (at % 16), value));
        }
    }
    #[inline(always)]
    fn hit(self, sums: &[__m512], rest: __m512, along: __m512, dart: __m512, last: usize) -> usize {
        with_proof!({
            let mut topics = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            for sum in sums {
                let not_above = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(*sum, rest);
                topics = _mm512_mask_add_epi32(topics, not_above, topics, _mm512_set1_epi32(16));
            }
            let above = _kor_mask16(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(along, dart), 1 << last);
            _mm512_cvtsi512_si32(_mm512_maskz_compress_epi32(above, topics)) as usize
        })
    }
}
