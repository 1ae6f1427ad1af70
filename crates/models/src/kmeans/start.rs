//! Where centres start, in rounds of `begin`.
//!
//! k-means++ draws centre k + 1 with probability D² / Σ D², D² the squared distance of a row from the nearest of the
//! centres 0..=k. In odd rounds every block brings its D² up to date and enters a race: its time is an exponential
//! of rate W = Σ D² over its rows, drawn from the stream of (block, round), and it names a row drawn by D² among its
//! own. The first over all wins, which is a draw by D² among all rows that depends on the cut into blocks alone. In
//! even rounds the block that holds the winner writes it down as a centre.

use super::kernel::distances;
use super::{Assigned, CENTRES, CHOSEN, Kmeans, MOVED, ROUND, SIZES, STATE, Start, propose, take_proposals};
use crate::rows::Rows;
use dunlin::rng::stream;
use dunlin::{Error, Params, Result, Unit};
use std::collections::BTreeSet;

/// A block's part of a round.
pub(super) fn round(model: &Kmeans, unit: &Unit, params: &mut Params, local: &mut Assigned) {
    let Some(rows) = Rows::of(unit.block) else { return };
    let write = |params: &mut Params, cluster: usize, row: usize| {
        if (unit.block.first_row..unit.block.end_row).contains(&row) {
            write_centre(params, cluster, rows, row - unit.block.first_row);
        }
    };
    match (model.config.start, unit.epoch) {
        (Start::Random, _) => {
            let drawn = sample(unit.seed, model.rows, model.config.clusters);
            drawn.iter().enumerate().for_each(|(cluster, row)| write(params, cluster, *row));
        }
        (Start::Plusplus, 0) => write(params, 0, stream(unit.seed, "kmeans first", &[]).below(model.rows)),
        (Start::Plusplus, round) if round % 2 == 0 => {
            let chosen = params.table::<f64>(STATE).row(0)[CHOSEN] as usize;
            write(params, round / 2, chosen);
        }
        (Start::Plusplus, round) => race(unit, rows, params, local, round / 2),
    }
}

/// Brings D² up to date with centre `newest`, and enters the race.
fn race(unit: &Unit, rows: Rows, params: &mut Params, local: &mut Assigned, newest: usize) {
    let centre = Kmeans::centre(params, newest);
    let Assigned { squares, gaps, .. } = local;
    gaps.resize(squares.len(), f64::INFINITY);
    distances(rows, 0..squares.len(), squares, &centre, |row, distance| {
        gaps[row] = gaps[row].min(distance);
    });
    let weight: f64 = gaps.iter().sum();
    if weight <= 0.0 {
        return;
    }
    let mut rng = unit.rng("kmeans race");
    // 1 − unit() is above 0; a time of 0 would win against any.
    let time = (-libm::log(1.0 - rng.unit())).max(f64::MIN_POSITIVE);
    let mut left = rng.unit() * weight;
    let mut drawn = None;
    for (row, gap) in gaps.iter().enumerate().filter(|(_, gap)| **gap > 0.0) {
        drawn = Some(row);
        left -= gap;
        if left < 0.0 {
            break;
        }
    }
    if let Some(row) = drawn {
        propose(params, unit.lane, weight / time, unit.block.first_row + row);
    }
}

/// Sets a centre to a row of the block, with size 1.
fn write_centre(params: &mut Params, cluster: usize, rows: Rows, row: usize) {
    let mut centres = params.table_mut::<f32>(CENTRES);
    rows.each(row, |column, value| {
        if value != 0.0 {
            centres.row_mut(column)[cluster] = value;
        }
    });
    params.table_mut::<f64>(SIZES).row_mut(0)[cluster] = 1.0;
}

/// `count` different numbers below `total` (at least as large), each set as likely as any other (Floyd's way).
fn sample(seed: u64, total: usize, count: usize) -> BTreeSet<usize> {
    let mut rng = stream(seed, "kmeans rows", &[]);
    let mut drawn = BTreeSet::new();
    for last in total - count..total {
        let row = rng.below(last + 1);
        if !drawn.insert(row) {
            drawn.insert(last);
        }
    }
    drawn
}

/// After a round: takes the winner, if there was a race.
///
/// # Errors
/// [`Error::Data`] if no row was left that differs from all centres.
pub(super) fn end_of_round(model: &Kmeans, params: &mut Params) -> Result<()> {
    let round = params.table::<f64>(STATE).row(0)[ROUND] as usize;
    let rounds = dunlin::Algorithm::rounds(model);
    if round == rounds {
        return Ok(()); // a clock without rows
    }
    let mut chosen = 0;
    if model.config.start == Start::Plusplus && round % 2 == 1 {
        let Some((_, row)) = take_proposals(params).first().copied() else {
            let (clusters, distinct) = (model.config.clusters, round / 2 + 1);
            return Err(Error::Data(format!(
                "kmeans: clusters = {clusters}, but the training data have only {distinct} different rows; give \
                 clusters = {distinct} or fewer"
            )));
        };
        chosen = row;
    }
    let mut state = params.table_mut::<f64>(STATE);
    let state = state.row_mut(0);
    (state[ROUND], state[CHOSEN], state[MOVED]) = (round as f64 + 1.0, chosen as f64, 1.0);
    Ok(())
}
