//! Gaps told against gaps worked out in double precision, screening, small penalties.

use super::*;
use crate::lasso::columns::Columns;
use crate::lasso::problem::{Scale, relative_gap};
use dunlin::data::{Contents, DenseRows};
use dunlin::isa;
use dunlin::rng::stream;

/// Standardised columns whose neighbours are alike, some given twice and one constant, and targets.
fn held(seed: u64, rows: usize, width: usize) -> (Block, Held, Vec<Vec<f64>>) {
    let mut rng = stream(seed, "lasso single", &[rows as u64, width as u64]);
    let mut table = vec![vec![0.0f32; width]; rows];
    for row in &mut table {
        for at in 1..width {
            let before = if at == 1 { 0.0 } else { row[at - 1] };
            row[at] = 0.7 * before + rng.normal() as f32;
        }
        (row[0], row[width / 2], row[width - 1]) = (3.0, row[3], -row[4]);
    }
    let signal = |row: &Vec<f32>| (0..20).map(|at| f64::from(row[7 * at + 1])).sum::<f64>();
    let target: Vec<f64> = table.iter().map(|row| signal(row) + 2.0 * rng.normal()).collect();
    let scales: Vec<Scale> = (0..width)
        .map(|at| {
            let values: Vec<f64> = table.iter().map(|row| f64::from(row[at])).collect();
            let (sum, count) = (values.iter().sum::<f64>(), rows as f64);
            let squares = values.iter().map(|value| (value - sum / count).powi(2)).sum();
            Scale::new(rows, sum, squares, true, true)
        })
        .collect();
    let scaled = |(row, at): (&Vec<f32>, usize)| (f64::from(row[at]) - scales[at].centre) * scales[at].factor;
    let exact: Vec<Vec<f64>> =
        (0..width).map(|at| table.iter().map(|row| scaled((row, at))).collect()).collect();
    let mean = target.iter().sum::<f64>() / rows as f64;
    let contents = Contents::Dense(DenseRows {
        width,
        values: table.concat(),
        classes: vec![0; rows],
        targets: target.iter().map(|target| *target as f32).collect(),
    });
    let block = Block { id: 0, first_row: 0, end_row: rows, contents };
    let columns = Columns::new(&block, &scales, isa::level()).expect("rows of features");
    let target = target.iter().map(|target| target - mean).collect();
    let lengths = exact_lengths(&exact);
    let held = Held { columns, target, all: (0..width as u32).collect(), scales, lengths };
    (block, held, exact)
}

/// ‖x̃‖ / √n.
fn exact_lengths(columns: &[Vec<f64>]) -> Vec<f64> {
    let length = |column: &Vec<f64>| {
        (column.iter().map(|value| value * value).sum::<f64>() / column.len() as f64).sqrt()
    };
    columns.iter().map(length).collect()
}

/// (P − D) / P in double precision from the columns themselves, and the greatest violation in units of l1.
fn judged(held: &Held, columns: &[Vec<f64>], small: &Small, penalty: Penalty) -> (f64, f64) {
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (rows, mut residual) = (held.target.len() as f64, held.target.clone());
    let mut weights = vec![0.0; columns.len()];
    for (column, weight) in small.iter() {
        weights[column as usize] = weight;
        residual.iter_mut().zip(&columns[column as usize]).for_each(|(r, x)| *r -= weight * x);
    }
    let correlations: Vec<f64> = columns.iter().map(|column| inner(column, &residual) / rows).collect();
    let pulls = correlations.iter().zip(&weights).map(|(c, w)| (c - penalty.l2 * w).abs());
    let scale = penalty.l1 / pulls.fold(penalty.l1, f64::max);
    let square = inner(&residual, &residual);
    let primal = square / (2.0 * rows) + weights.iter().map(|w| penalty.of(*w)).sum::<f64>();
    let long = square + rows * penalty.l2 * inner(&weights, &weights);
    let dual = (2.0 * scale * inner(&held.target, &residual) - scale * scale * long) / (2.0 * rows);
    let far = correlations.iter().zip(&weights).map(|(c, w)| violation(*c, *w, penalty));
    (relative_gap(primal, dual), far.fold(0.0, f64::max) / penalty.l1)
}

/// Many more columns than rows, some given twice.
#[test]
fn the_gap_told_is_that_of_double_precision() {
    for (rows, width, fraction, l1_ratio, path) in [
        (40, 600, 0.1, 1.0, 1),
        (150, 400, 0.03, 1.0, 1),
        (40, 600, 0.03, 0.8, 1),
        (70, 300, 0.05, 1.0, 9),
        (150, 400, 0.01, 1.0, 1),
    ] {
        for seed in 0..4 {
            let (block, held, columns) = held(seed, rows, width);
            let config =
                Config { lambda_fraction: fraction, l1_ratio, path, standardise: true, ..Config::default() };
            let (mut progress, mut last, mut units) = (Progress::default(), None, 0);
            while !progress.is_done() {
                let keep = |_: usize, solved: Solved| last = Some(solved);
                advance(&config, isa::level(), &block, &held, &mut progress, keep).expect("solved");
                units += 1;
                assert!(units < 50);
            }
            let last = last.expect("a solution");
            let penalty = Penalty::new(last.lambda, l1_ratio);
            let (gap, violation) = judged(&held, &columns, &progress.small, penalty);
            let what = format!("{rows} x {width}, {fraction}, {l1_ratio}, {path}, seed {seed}");
            assert!(last.gap <= 1e-6, "{what}: gap {:e}", last.gap);
            assert!((gap - last.gap).abs() <= 1e-10, "{what}: told {:e}, is {gap:e}", last.gap);
            assert!(violation < 0.02, "{what}: violation {violation:e}");
        }
    }
}

/// What was found of the last λ.
fn solved(config: &Config, block: &Block, held: &Held) -> (Progress, Solved) {
    let (mut progress, mut last) = (Progress::default(), None);
    while !progress.is_done() {
        let keep = |_: usize, solved: Solved| last = Some(solved);
        advance(config, isa::level(), block, held, &mut progress, keep).expect("solved");
    }
    (progress, last.expect("a solution"))
}

/// What is left out by screening has no coefficient in the optimum, and some are left out.
#[test]
fn no_column_that_is_screened_out_has_a_coefficient_in_the_optimum() {
    let mut left_out = 0;
    for (rows, width, fraction, l1_ratio, path) in
        [(40, 600, 0.2, 1.0, 1), (150, 400, 0.1, 1.0, 1), (60, 500, 0.2, 0.7, 1), (70, 300, 0.2, 1.0, 7)]
    {
        for seed in 10..13 {
            let (block, held, _) = held(seed, rows, width);
            let screening = Screening::GapSafe;
            let base = Config { lambda_fraction: fraction, l1_ratio, path, screening, ..Config::default() };
            let off = Config { screening: Screening::Off, tolerance: 1e-10, ..base.clone() };
            let ((wanted, best), (found, last)) = (solved(&off, &block, &held), solved(&base, &block, &held));
            let what = format!("{rows} x {width}, {path}, seed {seed}");
            let kept = found.kept.unwrap_or_else(|| held.all.clone());
            assert!(wanted.kept.is_none(), "{what}");
            left_out += width - kept.len();
            for (column, weight) in wanted.small.iter() {
                let is_kept = kept.binary_search(&column).is_ok();
                assert!(is_kept || weight.abs() < 1e-9, "{what}: column {column} has {weight}");
            }
            let excess = last.point.primal() / best.point.primal() - 1.0;
            assert!((-1e-9..=1e-6).contains(&excess), "{what}: {excess:e}");
        }
    }
    assert!(left_out > 300, "{left_out} columns");
}

/// With more coefficients than a Gram matrix in single precision can tell apart, double precision closes the gap.
#[test]
fn the_gap_closes_at_small_penalties() {
    for (rows, width, fraction, l1_ratio) in
        [(30, 200, 1e-3, 1.0), (60, 150, 1e-4, 1.0), (40, 300, 3e-4, 1.0), (40, 150, 1e-3, 0.9)]
    {
        for seed in 20..22 {
            let (block, held, columns) = held(seed, rows, width);
            let config = Config { lambda_fraction: fraction, l1_ratio, ..Config::default() };
            let (progress, last) = solved(&config, &block, &held);
            let penalty = Penalty::new(last.lambda, l1_ratio);
            let (gap, _) = judged(&held, &columns, &progress.small, penalty);
            let what = format!("{rows} x {width}, {fraction}, {l1_ratio}, seed {seed}");
            assert!(last.gap <= 1e-6 && gap <= 1.1e-6, "{what}: told {:e}, is {gap:e}", last.gap);
        }
    }
}
