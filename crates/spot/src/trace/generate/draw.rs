//! Draws from common distributions.

use dunlin_rng::Stream;
use std::collections::BTreeMap;

/// Most draws one by one; above, the normal distribution is near enough.
const MANY: f64 = 60.0;

/// Poisson with mean `rate`; 0 for what is no positive number.
pub(crate) fn poisson(rng: &mut Stream, rate: f64) -> u32 {
    if rate.is_nan() || rate <= 0.0 {
        return 0;
    }
    if rate > MANY {
        return (rate + rate.sqrt() * rng.normal()).round().max(0.0) as u32;
    }
    let floor = (-rate).exp();
    let (mut product, mut count) = (rng.unit(), 0);
    while product > floor {
        product *= rng.unit();
        count += 1;
    }
    count
}

/// How many of `number` happen, each with `chance`.
pub(super) fn binomial(rng: &mut Stream, number: u32, chance: f64) -> u32 {
    let mean = f64::from(number) * chance;
    if mean > MANY && mean < f64::from(number) - MANY {
        let drawn = mean + (mean * (1.0 - chance)).sqrt() * rng.normal();
        return (drawn.round().max(0.0) as u32).min(number);
    }
    (0..number).filter(|_| rng.unit() < chance).count() as u32
}

/// One of the numbers, as often as it occurs; 0 of none.
pub(super) fn one_of(rng: &mut Stream, sizes: &BTreeMap<u32, u64>) -> u32 {
    let all: u64 = sizes.values().sum();
    if all == 0 {
        return 0;
    }
    let mut left = rng.below(all as usize) as u64;
    for (size, times) in sizes {
        if left < *times {
            return *size;
        }
        left -= times;
    }
    0
}
