//! Several lanes, cut by columns: for more columns than rows. A lane has its columns over all rows, and the residual.
//!
//! Two clocks a round. In one, every lane solves the small problem of the working set, works out the residual r and
//! x̃ᵀ r of its own columns, and says how great the greatest is. In the next, all judge the same gap, and every lane gives
//! those of its columns that violate most, as they are in the data: a column goes over the wire once, when it enters
//! the working set. From then on all lanes have it, so that its products with the others, the small problem and the residual
//! are the same everywhere, to the same bits, and need no reduction. What a round sends is n numbers for each new column,
//! one a lane, and the coefficients that changed: nothing that grows with the columns of the data.
//!
//! Why not each lane on its own columns, the changes of the residual summed: lanes that do not know each other's columns
//! must damp their steps by their number, and where columns of two lanes are nearly alike the rate is that of the angle between
//! their spans, thousands of rounds for what the Gram matrix of the whole working set settles in ten.

use super::columns::Residual;
use super::input::gather;
use super::kernel::{Matrix, VECTOR, exact_pairs, mixed, pairs, plus};
use super::problem::{Penalty, Scale};
use super::single::{Progress, Round, greatest_beyond};
use super::turn::{Clock, Form};
use super::{CORRELATIONS, PRODUCTS};
use crate::softmax::kernel::{Work, dispatch};
use dunlin::isa::Isa;
use dunlin::serial::share;
use dunlin::{Params, Result, Sums, Unit};
use serde::{Deserialize, Serialize};

/// New columns in a round, at least one a lane.
const MOST_NEW: usize = 128;
/// Lanes that took the new columns in.
const TAKEN: &str = "taken";
/// Columns in the working set.
const MOST_COLUMNS: usize = 4096;

/// New columns in a round of `lanes` lanes. The table of correlations has their numbers + 1, then what each lane says; the
/// table of products has their values.
pub(super) fn slots(lanes: usize) -> usize {
    MOST_NEW.max(lanes)
}

/// What a lane keeps from clock to clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ByColumns {
    set: Set,
    /// c of the own columns, and of the working set.
    own: Vec<f64>,
    correlations: Vec<f64>,
    /// r.
    residual: Vec<f64>,
    /// r at the coefficients that are on the table; none before the first.
    shown: Option<Vec<f64>>,
}

/// The columns of the working set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Set {
    /// As in the data.
    values: Vec<Vec<f32>>,
    /// Centred and scaled, one after another in whole vectors; made again after a checkpoint.
    #[serde(skip)]
    scaled: Vec<f32>,
}

impl Set {
    fn stride(&self) -> usize {
        self.values.first().map_or(0, |column| column.len().next_multiple_of(VECTOR))
    }

    /// Takes new columns in, and gives all products that `progress` lacks.
    fn complete(&mut self, isa: Isa, scales: &[Scale], progress: &mut Progress) {
        let (stride, small) = (self.stride(), &mut progress.small);
        self.scaled.resize(self.scaled.len().min(small.known * stride), 0.0);
        let there = self.scaled.len() / stride.max(1);
        for (column, Scale { centre, factor }) in self.values.iter().zip(scales).skip(there) {
            let end = self.scaled.len() + stride;
            self.scaled.extend(column.iter().map(|value| ((f64::from(*value) - centre) * factor) as f32));
            self.scaled.resize(end, 0.0);
        }
        let matrix = Matrix { values: &self.scaled, stride };
        let which: Vec<u32> = (0..self.values.len() as u32).collect();
        let rows = self.values.first().map_or(1, Vec::len) as f64;
        let (first, exact) = (small.known, small.is_exact());
        let set = |i: usize, j: usize, product: f64| small.set(i, j, product / rows);
        match exact {
            true => exact_pairs(isa, matrix, &which, first, set),
            false => pairs(isa, matrix, &which, first, set),
        }
        small.known = which.len();
    }

    /// `target` − Σ w x̃, from the values of the data.
    fn residual(&self, isa: Isa, scales: &[Scale], weights: &[f64], target: &[f64]) -> Vec<f64> {
        let factors: Vec<f64> =
            weights.iter().zip(scales).map(|(weight, scale)| weight * scale.factor).collect();
        let shift: f64 = factors.iter().zip(scales).map(|(factor, scale)| factor * scale.centre).sum();
        let mut left: Vec<f64> = target.iter().map(|target| target + shift).collect();
        dispatch(isa, Subtract { columns: &self.values, factors: &factors, from: &mut left });
        left
    }

    /// x̃ᵀ r / n.
    fn correlations(&self, isa: Isa, scales: &[Scale], residual: &[f64]) -> Vec<f64> {
        let (sum, rows) = (residual.iter().sum::<f64>(), residual.len() as f64);
        let products = dispatch(isa, Products { columns: &self.values, vector: residual });
        let scaled = |(scale, product): (&Scale, f64)| (product - scale.centre * sum) * scale.factor / rows;
        scales.iter().zip(products).map(scaled).collect()
    }
}

struct Subtract<'a> {
    columns: &'a [Vec<f32>],
    factors: &'a [f64],
    from: &'a mut [f64],
}

impl Work for Subtract<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for (column, factor) in self.columns.iter().zip(self.factors).filter(|(_, factor)| **factor != 0.0) {
            plus(self.from, -factor, column);
        }
    }
}

struct Products<'a> {
    columns: &'a [Vec<f32>],
    vector: &'a [f64],
}

impl Work for Products<'_> {
    type Out = Vec<f64>;

    #[inline(always)]
    fn run(self) -> Vec<f64> {
        self.columns.iter().map(|column| mixed(self.vector, column)).collect()
    }
}

/// At the end of a clock in which all lanes took the new columns in: every rank empties the slots by itself.
pub(super) fn end_clock(lanes: usize, sums: &Sums, params: &mut Params) {
    if sums.get(TAKEN) == 0.0 {
        return;
    }
    for slot in 0..slots(lanes) {
        if params.table::<f64>(CORRELATIONS).row(slot)[0] > 0.0 {
            params.table_mut::<f64>(CORRELATIONS).row_mut(slot)[0] = 0.0;
            params.table_mut::<f32>(PRODUCTS).row_mut(slot).fill(0.0);
        }
    }
}

impl ByColumns {
    /// The residual of all rows at the coefficients on the table; none before the first.
    pub(super) fn shown(&self) -> Option<&[f64]> {
        self.shown.as_deref()
    }

    /// The new columns that are on the tables.
    fn receive(&mut self, slots: usize, params: &Params) -> Vec<u32> {
        let mut new = Vec::new();
        for slot in 0..slots {
            let number = params.table::<f64>(CORRELATIONS).row(slot)[0];
            if number > 0.0 {
                new.push(number as u32 - 1);
                self.set.values.push(params.table::<f32>(PRODUCTS).row(slot).to_vec());
            }
        }
        new
    }

    /// Makes room for as many columns as a round may bring; drops those without a coefficient if it must.
    fn make_room(&mut self, new: usize, progress: &mut Progress) -> Result<()> {
        if progress.small.len() + new <= MOST_COLUMNS {
            return Ok(());
        }
        let mut weights = progress.small.weights.clone().into_iter();
        self.set.values.retain(|_| weights.next().is_some_and(|weight| weight != 0.0));
        self.set.scaled.clear();
        progress.shrink_to(MOST_COLUMNS - new.min(MOST_COLUMNS))
    }

    /// Puts the first of the columns that are `missing` into the own slots.
    fn offer(&self, unit: &Unit, params: &mut Params, first: usize, missing: &[u32], width: usize) {
        let slots = share(slots(unit.lanes), unit.lanes, unit.lane);
        let chosen = &missing[..missing.len().min(slots.len())];
        let places: Vec<u32> = chosen.iter().map(|column| column - first as u32).collect();
        for ((slot, column), values) in slots.zip(chosen).zip(gather(unit.block, &places, width)) {
            params.table_mut::<f64>(CORRELATIONS).row_mut(slot)[0] = f64::from(*column) + 1.0;
            params.table_mut::<f32>(PRODUCTS).row_mut(slot).copy_from_slice(&values);
        }
    }
}

impl Form for ByColumns {
    const SCREENS: bool = true;

    /// Takes the new columns in, solves the small problem, and looks at the own columns.
    fn solve(&mut self, clock: &mut Clock, asked: Option<f64>) {
        let Clock { model, unit, params, progress, held, sums } = clock;
        let slots = slots(unit.lanes);
        let asked = asked.map(|lambda| (lambda, self.receive(slots, params)));
        if let Some((_, new)) = &asked {
            progress.small.extend(new);
        }
        let columns = progress.small.columns.iter();
        let scales: Vec<Scale> = columns.map(|column| model.scale(params, *column as usize)).collect();
        if let Some((lambda, new)) = asked {
            self.set.complete(model.isa, &scales, progress);
            let correlations = self.set.correlations(model.isa, &scales, &self.residual);
            let penalty = Penalty::new(lambda, model.config.l1_ratio);
            progress.improve(model.isa, penalty, correlations, !new.is_empty());
            sums.add(TAKEN, 1.0);
        }
        self.residual = self.set.residual(model.isa, &scales, &progress.small.weights, &held.target);
        self.correlations = self.set.correlations(model.isa, &scales, &self.residual);
        let residual = Residual::new(self.residual.clone());
        let which = progress.kept.as_ref().unwrap_or(&held.all);
        self.own = held.correlations_with(unit.block, &residual, which, std::iter::empty());
        self.own.iter_mut().for_each(|c| *c /= model.rows as f64);
        let first = share(model.width, unit.lanes, unit.lane).start;
        let most = greatest_beyond(&self.own, first, &progress.small);
        params.table_mut::<f64>(CORRELATIONS).row_mut(slots + unit.lane)[0] = most;
    }

    fn round(&mut self, Clock { model, unit, params, held, .. }: &mut Clock) -> Round {
        let slots = slots(unit.lanes);
        let told = params.table::<f64>(CORRELATIONS);
        let most = (0..unit.lanes).map(|lane| told.row(slots + lane)[0]).fold(0.0, f64::max);
        params.table_mut::<f64>(CORRELATIONS).row_mut(slots + unit.lane)[0] = 0.0;
        let first = share(model.width, unit.lanes, unit.lane).start;
        let (correlations, set) = (std::mem::take(&mut self.own), std::mem::take(&mut self.correlations));
        Round { correlations, first, set, most, point: held.point(&self.residual) }
    }

    fn judged(&mut self, _: &mut Clock, _: Round) {
        self.shown = Some(self.residual.clone());
    }

    fn ask(&mut self, clock: &mut Clock, missing: Vec<u32>) -> Result<()> {
        let Clock { model, unit, params, progress, held, .. } = clock;
        self.make_room(slots(unit.lanes), progress)?;
        let first = share(model.width, unit.lanes, unit.lane).start;
        self.offer(unit, params, first, &missing, held.all.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
