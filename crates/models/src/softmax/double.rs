//! One example's duals in double precision, for curvatures that single precision cannot follow.
//!
//! With a = C ‖x‖² in the millions, the duals of an example that is told apart well lie within 1/a of its own class:
//! 1 − p_y is less than what single precision rounds p_y by, times a it is many units of a score. So the dual of the own
//! class is not read but taken as what the others leave of 1; those are tiny and exact to seven digits of their own.

#[cfg(test)]
mod tests;

/// Examples of a greater curvature are solved in double precision.
pub(crate) const CURVATURE: f32 = 1e4;

/// Duals whose move changes the example's own scores by more than this are never left as they are.
pub(crate) const SCORE: f32 = 0.25;

/// A move in double precision that changes the example's own scores by less than this is left out: scores are rounded
/// by as much.
const LEAST_SCORE: f64 = 1e-5;

/// Newton iterations at most; a log climbs by at most 3 in each, from no lower than ln 10⁻³⁰.
const ITERATIONS: usize = 60;

/// Writes to `new` the duals that maximise H(p) + z·p − ½ Σ_k a_k (p_k − p_old_k)² on the simplex, and p_old − p to
/// `moves`, by the method of [`super::dual::solve_with`]. The dual of class `own` is what the others leave of 1. Gives
/// whether the move is worth making; `None` if a score is not finite.
#[cold]
#[inline(never)]
pub(crate) fn solve(
    scores: &[f32],
    old: &[f32],
    a: impl Fn(usize) -> f64,
    own: Option<usize>,
    new: &mut [f32],
    moves: &mut [f32],
) -> Option<bool> {
    let count = scores.len();
    let top = scores.iter().fold(f32::NEG_INFINITY, |top, score| top.max(*score));
    let z: Vec<f64> = scores.iter().map(|score| f64::from(*score) - f64::from(top)).collect();
    if !z.iter().all(|z| z.is_finite()) || !(0..count).all(|k| a(k).is_finite()) {
        return None;
    }
    let before = distribution(old, own);
    let mut logs = start(&z, &before, &a);
    let mut p: Vec<f64> = logs.iter().map(|log| log.exp()).collect();
    let mut residuals = vec![0.0f64; count];
    for _ in 0..ITERATIONS {
        // Linearised: (1 + a p) d + μ = r, Σ p d = 1 − Σ p, with r = z + a (p_old − p) − ln p.
        let (mut shares, mut push, mut total) = (0.0, 0.0, 0.0);
        for k in 0..count {
            residuals[k] = a(k).mul_add(before[k] - p[k], z[k] - logs[k]);
            let share = p[k] / a(k).mul_add(p[k], 1.0);
            shares += share;
            push += share * residuals[k];
            total += p[k];
        }
        let mu = (push + (total - 1.0)) / shares;
        let mut greatest = 0.0f64;
        for k in 0..count {
            let change = ((residuals[k] - mu) / a(k).mul_add(p[k], 1.0)).min(3.0);
            logs[k] += change;
            p[k] = logs[k].exp();
            greatest = greatest.max(change.abs());
        }
        // The error left is of the order of its square.
        if greatest < 1e-3 {
            break;
        }
    }
    let total = p.iter().sum::<f64>();
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    new.iter_mut().zip(&p).for_each(|(new, p)| *new = (p / total) as f32);
    let after = distribution(new, own);
    if let Some(own) = own {
        new[own] = after[own] as f32;
    }
    let mut score = 0.0f64;
    for k in 0..count {
        let by = match own == Some(k) {
            true => others(new, k) - others(old, k),
            false => f64::from(old[k]) - f64::from(new[k]),
        };
        moves[k] = by as f32;
        score = score.max(a(k) * by.abs());
    }
    Some(score > LEAST_SCORE)
}

/// Σ of all duals but that of class `own`.
fn others(duals: &[f32], own: usize) -> f64 {
    duals.iter().enumerate().filter(|(k, _)| *k != own).map(|(_, dual)| f64::from(*dual)).sum()
}

/// The duals as a distribution: the own class has what the others leave of 1.
fn distribution(duals: &[f32], own: Option<usize>) -> Vec<f64> {
    let mut wide: Vec<f64> = duals.iter().map(|dual| f64::from(*dual)).collect();
    match own {
        Some(own) => wide[own] = 1.0 - others(duals, own),
        None => {
            let inverse = 1.0 / wide.iter().sum::<f64>();
            wide.iter_mut().for_each(|dual| *dual *= inverse);
        }
    }
    wide
}

/// Logs to start from: softmax(z), or the upper side of the solution if that is far.
fn start(z: &[f64], before: &[f64], a: &impl Fn(usize) -> f64) -> Vec<f64> {
    let total = z.iter().map(|z| z.exp()).sum::<f64>().ln();
    let likely = z.iter().map(|z| z - total);
    let far = likely.clone().enumerate().map(|(k, log)| a(k) * (log.exp() - before[k]).abs()).sum::<f64>();
    if far <= 1.0 {
        return likely.collect();
    }
    let upper = |(k, log): (usize, f64)| log.exp().min(before[k] + 2.0 / a(k)).max(before[k]).max(1e-30).ln();
    likely.enumerate().map(upper).collect()
}

/// −p ln p of class `own`, its dual p being what the others leave of 1.
pub(crate) fn own_entropy(duals: &[f32], own: usize) -> f64 {
    let rest = others(duals, own);
    -(1.0 - rest) * (-rest).ln_1p()
}

/// ln Σ_k exp(z_k − greatest z), exact however near 0 it is.
pub(crate) fn log_total(scores: &[f32]) -> f64 {
    let top =
        scores.iter().enumerate().fold(0, |best, (k, score)| if *score > scores[best] { k } else { best });
    let high = f64::from(scores[top]);
    let rest =
        scores.iter().enumerate().filter(|(k, _)| *k != top).map(|(_, z)| (f64::from(*z) - high).exp());
    rest.sum::<f64>().ln_1p()
}
