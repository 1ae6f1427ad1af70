//! Which vector instructions kernels may use: found at run time, so that one binary runs everywhere.
//!
//! All levels give the same bits, so the level changes speed only; it is recorded with every run.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// A level of vector instructions; each includes those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// What every machine has.
    Portable,
    /// AVX2, FMA, BMI1, BMI2, POPCNT and LZCNT.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Isa {
    /// The best level of this machine.
    pub fn detected() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("lzcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    }

    /// All levels that this machine has, lowest first.
    pub fn available() -> Vec<Isa> {
        [Isa::Portable, Isa::Avx2, Isa::Avx512]
            .into_iter()
            .filter(|level| *level <= Isa::detected())
            .collect()
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

static LIMIT: OnceLock<Isa> = OnceLock::new();

/// Lets this process use at most `limit`. The first call counts; returns false if it came too late.
pub fn limit(limit: Isa) -> bool {
    LIMIT.set(limit).is_ok()
}

/// The level that kernels use: the machine's, or the limit if that is lower.
pub fn level() -> Isa {
    static LEVEL: OnceLock<Isa> = OnceLock::new();
    *LEVEL.get_or_init(|| Isa::detected().min(*LIMIT.get_or_init(Isa::detected)))
}

/// Work to be compiled for several levels. `run`, and the loops that it calls, must be `#[inline(always)]`: only then
/// are they part of the function that has the level's instructions.
pub trait Kernel {
    /// What comes out.
    type Out;
    /// Does the work.
    fn run(self) -> Self::Out;
}

/// Runs `kernel` with the vector instructions that this machine has, up to AVX2: for plain loops over numbers, which
/// the compiler turns into vectors by itself.
pub fn run<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    if level() >= Isa::Avx2 {
        #[allow(unsafe_code)]
        // SAFETY: `level` is at most what was detected on this machine, and that includes all of AVX2's features.
        return unsafe { run_avx2(kernel) };
    }
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run()
}
