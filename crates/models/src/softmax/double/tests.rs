//! Tests of large C: no step may be lost in rounding.

use super::*;
use crate::ds_softmax::{self, DsSoftmax};
use crate::softmax::tests::{data, rows};
use crate::softmax::{self, Softmax};
use dunlin::serial::Serial;
use dunlin::{Algorithm, Data};

/// Residuals of ln p + a (p − p_old) = z − μ for every class, the own class by its complement, less their mean.
fn spread(z: &[f32], old: &[f32], new: &[f32], a: f64, own: usize) -> f64 {
    let residual = |k: usize| match k == own {
        true => (-others(new, own)).ln_1p() - a * (others(new, own) - others(old, own)) - f64::from(z[k]),
        false => f64::from(new[k]).ln() + a * (f64::from(new[k]) - f64::from(old[k])) - f64::from(z[k]),
    };
    let residuals: Vec<f64> = (0..z.len()).map(residual).collect();
    let mean = residuals.iter().sum::<f64>() / z.len() as f64;
    residuals.iter().map(|residual| (residual - mean).abs()).fold(0.0, f64::max)
}

#[test]
fn steps_are_exact_at_any_curvature() {
    for a in [1e4, 1e6, 1e8, 1e10, 1e13] {
        let mut old = vec![0.0f32, 0.0, 1.0, 0.0, 0.0];
        for z in [
            [0.0f32; 5],
            [3.0, -2.0, 1.0, 0.5, -7.0],
            [-4.0, 20.0, 9.0, 0.0, 1.0],
            [0.0, 0.0, 30.0, 1.0, 2.0],
        ] {
            let (mut new, mut moves) = (vec![0.0f32; 5], vec![0.0f32; 5]);
            let worth = solve(&z, &old, |_| a, Some(2), &mut new, &mut moves).expect("finite");
            let off = spread(&z, &old, &new, a, 2);
            assert!(off < 1e-3, "a = {a:e}, z = {z:?}: off by {off}");
            assert!(worth, "a = {a:e}, z = {z:?}");
            let rest: f32 = moves.iter().sum();
            assert!(rest.abs() <= 1e-6 * moves[2].abs(), "moves add up to {rest}: {moves:?}");
            old.copy_from_slice(&new);
        }
    }
    let (mut new, mut moves) = ([0.0; 2], [0.0; 2]);
    for scores in [[f32::NAN, 0.0], [f32::INFINITY, 0.0]] {
        assert_eq!(solve(&scores, &[1.0, 0.0], |_| 1e6, Some(0), &mut new, &mut moves), None);
    }
}

/// Rows like raw pixels: ‖x‖² of thousands.
fn pixels(blocks: usize) -> Data {
    let (mut values, labels) = rows(120, 30, 4);
    values.iter_mut().flatten().for_each(|value| *value *= 16.0);
    data(&values, &labels, 4, blocks, false)
}

fn found<A: Algorithm>(run: &Serial<A>, name: &str) -> f64 {
    run.metrics(None).into_iter().find(|(found, _)| *found == name).expect("told").1
}

/// Epochs until the gap is at most 10⁻², at most 3000. Gives the objective.
fn solved<A: Algorithm>(mut run: Serial<A>, what: &str) -> f64 {
    for _ in 0..300 {
        (0..10).for_each(|_| run.epoch().expect("no divergence"));
        if found(&run, "relative_gap") <= 1e-2 {
            return found(&run, "train_objective");
        }
    }
    panic!("{what}: a gap of {} after 3000 epochs", found(&run, "relative_gap"));
}

#[test]
fn a_large_c_is_solved() {
    for c in [1e3, 1e5, 1e9] {
        let config = softmax::Config { c, ..Default::default() };
        let soft = solved(Serial::<Softmax>::new(&config, pixels(1), 1, 1, 3).expect("valid"), "softmax");
        let config = ds_softmax::Config { c, ..Default::default() };
        let split =
            solved(Serial::<DsSoftmax>::new(&config, pixels(1), 1, 1, 3).expect("valid"), "ds-softmax");
        // Both primal values are at most 1.02 times the optimum.
        assert!((soft / split - 1.0).abs() < 0.02, "c = {c:e}: {soft} and {split}");
        assert!(split < 120.0 * c * 4f64.ln() / 100.0, "c = {c:e}: {split} is that of zero weights");
    }
}

#[test]
fn lanes_move_from_zero_at_a_large_c() {
    let config = softmax::Config { c: 1e6, ..Default::default() };
    let mut run = Serial::<Softmax>::new(&config, pixels(3), 3, 1, 3).expect("valid");
    let mut before = 0.0;
    for epoch in 0..20 {
        run.epoch().expect("no divergence");
        let dual = found(&run, "dual_objective");
        assert!(dual > before, "epoch {epoch}: {before} to {dual}");
        before = dual;
    }
}
