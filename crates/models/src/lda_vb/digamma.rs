//! The digamma function ψ, and exp ψ for whole vectors.

/// ψ(x) for x > 0, to about 1e-13: ψ(x) = ψ(x + 1) − 1 / x up to x ≥ 8, and there
/// ln x − 1 / 2x − Σ B_2n / (2n x^2n) (Abramowitz and Stegun, 6.3.5 and 6.3.18).
pub(super) fn digamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 0.0);
    while x < 8.0 {
        below += 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let terms =
        [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32_760.0, 1.0 / 12.0];
    let series = terms.iter().rev().fold(0.0, |sum, term| square * (term + sum));
    x.ln() - 0.5 / x - series - below
}

/// exp ψ(x) for 0 ≤ x ≤ 1e30, relative error below 3e-6 from x = 0.07 on and 2e-7 / x below; 0 where it is below
/// 1e-37. Without a branch, so that a loop of them becomes vectors.
///
/// exp ψ(x) = exp ψ(x + 6) · exp(−Σ_{i<6} 1 / (x + i)), and with z = y − ½ exp ψ(y) is
/// z + 1 / 24 z − 37 / 5760 z³ + 10313 / 2903040 z⁵ − …
#[inline(always)]
pub(super) fn exp_digamma(x: f32) -> f32 {
    let one = 1.0 / (x + 5.5);
    let square = one * one;
    let above = x + 5.5 + one * (1.0 / 24.0 - square * (37.0 / 5760.0 - square * (10_313.0 / 2_903_040.0)));
    // Two fractions in one division each.
    let pair = |a: f32, b: f32| (a + b) / (a * b);
    let below = pair(x, x + 1.0) + (pair(x + 2.0, x + 3.0) + pair(x + 4.0, x + 5.0));
    above * exp(-below)
}

/// e^x for x ≤ 0, relative error below 4e-7; 0 below −85.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding this rounds to a whole number, which then is the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let kept = x.max(-86.0);
    let shifted = kept * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts: the first has few bits, so that its product is exact.
    let rest = (kept - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut sum = 1.0 / 720.0;
    for term in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * rest + term;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < -85.0 { 0.0 } else { sum * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from the literature: ψ(1) = −γ, ψ(½) = −γ − 2 ln 2, ψ(2) = 1 − γ, ψ(¼) = −γ − π / 2 − 3 ln 2.
    #[test]
    fn digamma_has_its_known_values() {
        let gamma = 0.577_215_664_901_532_9;
        let (ln2, pi) = (std::f64::consts::LN_2, std::f64::consts::PI);
        let known = [
            (1.0, -gamma),
            (0.5, -gamma - 2.0 * ln2),
            (2.0, 1.0 - gamma),
            (0.25, -gamma - pi / 2.0 - 3.0 * ln2),
        ];
        for (x, value) in known {
            assert!((digamma(x) - value).abs() < 1e-12, "{x}: {} is not {value}", digamma(x));
        }
        let harmonic: f64 = (1..1000).map(|n| 1.0 / f64::from(n)).sum();
        assert!((digamma(1000.0) - (harmonic - gamma)).abs() < 1e-12);
    }

    #[test]
    fn the_vector_form_agrees() {
        assert_eq!([0.0, 1e-9].map(exp_digamma), [0.0; 2]);
        let mut x = 0.0125f32;
        while x < 1e7 {
            let exact = digamma(f64::from(x)).exp();
            let relative = f64::from(exp_digamma(x)) / exact - 1.0;
            // exp multiplies the rounding of its argument, about −1 / x.
            let allowed = 3e-6f64.max(2e-7 / f64::from(x));
            assert!(relative.abs() < allowed, "{x}: off by {relative}");
            x *= 1.013;
        }
        for x in [-84.9f32, -40.3, -1.0, -1e-3, 0.0] {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
    }
}
