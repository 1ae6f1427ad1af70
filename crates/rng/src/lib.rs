//! The only place that makes randomness. Every stream has a name and a key; nothing is keyed by worker.
//!
//! A stream is xoshiro256++ seeded from a hash of (seed, purpose, keys), so any rank can make any stream at any
//! time: there is no state to save in a checkpoint and none to send.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use twox_hash::XxHash3_64;

/// One named stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream(Xoshiro256PlusPlus);

/// The stream for `purpose` (a short word, unique in the program) and `keys` such as (block, epoch).
///
/// # Examples
/// ```
/// use dunlin_rng::stream;
/// assert_eq!(stream(7, "shuffle", &[3, 1]).next(), stream(7, "shuffle", &[3, 1]).next());
/// assert_ne!(stream(7, "shuffle", &[3, 1]).next(), stream(7, "shuffle", &[3, 2]).next());
/// ```
pub fn stream(seed: u64, purpose: &str, keys: &[u64]) -> Stream {
    let mut hash = XxHash3_64::oneshot_with_seed(seed, purpose.as_bytes());
    for key in keys {
        hash = XxHash3_64::oneshot_with_seed(hash, &key.to_le_bytes());
    }
    Stream(Xoshiro256PlusPlus::seed_from_u64(hash))
}

impl Stream {
    /// The next 64 random bits.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "not an iterator: it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1), 53 bits.
    #[inline(always)]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [0, 1), 24 bits.
    #[inline(always)]
    pub fn unit_f32(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Uniform in 0..bound; the bias is below bound / 2^64. `bound` is at least 1.
    #[inline(always)]
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Standard normal (Box and Muller; one of the pair is thrown away).
    #[inline]
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Sixteen streams of 32-bit numbers side by side, for loops that want many numbers and are made of vectors:
/// xoshiro128++ (Blackman and Vigna 2019) in every lane, all seeded from one [`Stream`].
#[derive(Clone, Debug)]
pub struct Lanes([[u32; 16]; 4]);

impl Lanes {
    /// Takes the lanes' seeds from `stream`.
    pub fn new(stream: &mut Stream) -> Lanes {
        // An all-zero lane would stay zero; an odd word keeps it from that.
        let mut word = |odd: u32| std::array::from_fn(|_| (stream.next() >> 32) as u32 | odd);
        Lanes([word(1), word(0), word(0), word(0)])
    }

    /// The next number of every lane.
    #[inline(always)]
    #[expect(clippy::should_implement_trait, reason = "not an iterator: it never ends")]
    pub fn next(&mut self) -> [u32; 16] {
        let [a, b, c, d] = &mut self.0;
        let mut out = [0; 16];
        for i in 0..16 {
            out[i] = a[i].wrapping_add(d[i]).rotate_left(7).wrapping_add(a[i]);
            let shifted = b[i] << 9;
            c[i] ^= a[i];
            d[i] ^= b[i];
            b[i] ^= c[i];
            a[i] ^= d[i];
            c[i] ^= shifted;
            d[i] = d[i].rotate_left(11);
        }
        out
    }
}
