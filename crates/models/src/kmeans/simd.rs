//! Sixteen centres at once, whatever the processor: the same bits on every level.
//!
//! Every operation is elementwise or exact in any order (least, equal), so AVX-512, AVX2 and plain code agree.
//! A kernel runs inside one function that enables the processor's features: around a block, never a row.

use dunlin::isa::Isa;

/// Work to be compiled for each level.
pub(super) trait Kernel {
    /// The work; must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S);
}

/// Runs `kernel` compiled for `level`, or for this machine's if that is lower.
#[allow(unsafe_code)]
pub(super) fn run<K: Kernel>(level: Isa, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    match level.min(Isa::detected()) {
        Isa::Portable => kernel.run(Portable),
        // SAFETY: at most `Isa::detected`, which has asked the processor for all features.
        Isa::Avx2 => unsafe { with_avx2(kernel) },
        // SAFETY: as above.
        Isa::Avx512 => unsafe { with_avx512(kernel) },
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        kernel.run(Portable);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx2<K: Kernel>(kernel: K) {
    kernel.run(x86::Avx2::enabled());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt,lzcnt")]
fn with_avx512<K: Kernel>(kernel: K) {
    kernel.run(x86::Avx512::enabled());
}

/// What distances need, on sixteen lanes.
pub(super) trait Simd: Copy {
    /// Sixteen floats.
    type Floats: Copy;
    /// True if there are registers for eight vectors and more.
    const WIDE: bool;

    /// From memory.
    fn load(self, lanes: &[f32; 16]) -> Self::Floats;
    /// To memory.
    fn store(self, floats: Self::Floats, lanes: &mut [f32; 16]);
    /// The same value everywhere.
    fn splat(self, value: f32) -> Self::Floats;
    /// a b + c, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// a − b.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a where a < b, else b.
    fn min(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The least lane; none may be NaN.
    fn least(self, a: Self::Floats) -> f32;
    /// A bit for every lane that equals `value`.
    fn equal(self, a: Self::Floats, value: f32) -> u32;
}

/// Plain code.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Simd for Portable {
    type Floats = [f32; 16];
    const WIDE: bool = false;

    #[inline(always)]
    fn load(self, lanes: &[f32; 16]) -> [f32; 16] {
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
    fn fma(self, a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn sub(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] - b[i])
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
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code)]

    use super::Simd;
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

    /// Proof that this processor has AVX2 and FMA, likewise.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2(());

    impl Avx2 {
        /// The proof.
        #[target_feature(enable = "avx2,fma")]
        pub(super) fn enabled() -> Avx2 {
            Avx2(())
        }
    }

    /// Runs intrinsics whose features the proof stands for.
    macro_rules! with_proof {
        ($e:expr) => {
            // SAFETY: the caller holds an `Avx512` or `Avx2`, so the processor has the features; pointers come
            // from references to as many elements as are touched.
            unsafe { $e }
        };
    }

    impl Simd for Avx512 {
        type Floats = __m512;
        const WIDE: bool = true;

        #[inline(always)]
        fn load(self, lanes: &[f32; 16]) -> __m512 {
            with_proof!(_mm512_loadu_ps(lanes.as_ptr()))
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
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            with_proof!(_mm512_fmadd_ps(a, b, c))
        }
        #[inline(always)]
        fn sub(self, a: __m512, b: __m512) -> __m512 {
            with_proof!(_mm512_sub_ps(a, b))
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
    }

    /// The two halves of sixteen elements.
    #[inline(always)]
    fn halves(lanes: &[f32; 16]) -> [&[f32; 8]; 2] {
        let (halves, _) = lanes.as_chunks::<8>();
        [&halves[0], &halves[1]]
    }

    impl Simd for Avx2 {
        type Floats = [__m256; 2];
        const WIDE: bool = false;

        #[inline(always)]
        fn load(self, lanes: &[f32; 16]) -> [__m256; 2] {
            halves(lanes).map(|half| with_proof!(_mm256_loadu_ps(half.as_ptr())))
        }
        #[inline(always)]
        fn store(self, floats: [__m256; 2], lanes: &mut [f32; 16]) {
            let (halves, _) = lanes.as_chunks_mut::<8>();
            with_proof!({
                _mm256_storeu_ps(halves[0].as_mut_ptr(), floats[0]);
                _mm256_storeu_ps(halves[1].as_mut_ptr(), floats[1]);
            });
        }
        #[inline(always)]
        fn splat(self, value: f32) -> [__m256; 2] {
            with_proof!([_mm256_set1_ps(value); 2])
        }
        #[inline(always)]
        fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
            with_proof!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
        }
        #[inline(always)]
        fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            with_proof!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
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
    }
}
