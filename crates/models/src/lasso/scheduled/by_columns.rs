//! The same with some columns of all rows a lane, STRADS' second form: for more columns than rows.
//!
//! The residual of all rows is a table, alike on every worker. Only the lane that has a picked column can tell x̃ᵀ r, and
//! from that what becomes of the coefficient; so it also says at once how the residual changes, in the one reduction that a
//! round is. No lane has both columns of every pair of candidates: where products are asked for, their columns travel, and
//! every worker multiplies for itself.
//!
//! ```text
//! picks:  x̃ᵀ r of each │ change of the residual: shift, sum, vector
//! pairs:  shift, vector │ shift, vector │ ...   of each column that is in one of them
//! ```
//! A vector travels as the rows and the values that are stored in its columns, or as all its numbers if these are fewer.

use super::{View, updated};
use crate::lasso::columns::Column;
use crate::lasso::input::Held;
use crate::lasso::kernel::mixed;
use crate::lasso::{Lasso, RESIDUALS, SQUARES};
use crate::softmax::kernel::{Work, dispatch};
use dunlin::schedule::{Exchange, Pair, Round};
use dunlin::{Block, Params};

/// Place of the number of stored values among what is known of a column.
const STORED: usize = 3;

/// Numbers that are known of a column: those of the other forms, and how many values are stored.
pub(in crate::lasso) const KNOWN: usize = 4;

/// How a vector over `rows` rows travels, made of columns with `stored` values.
#[derive(Clone, Copy)]
struct Packing {
    rows: usize,
    stored: usize,
}

impl Packing {
    fn is_whole(self) -> bool {
        self.rows <= 2 * self.stored
    }

    fn numbers(self) -> usize {
        if self.is_whole() { self.rows } else { 2 * self.stored }
    }

    /// Adds factor x the stored values of `column`, before which are so many of other columns.
    fn add(self, column: &Column, factor: f64, before: usize, out: &mut [f64]) {
        match column {
            Column::Dense(values) => {
                out.iter_mut().zip(*values).for_each(|(out, value)| *out += factor * f64::from(*value));
            }
            Column::Sparse { places, values, .. } if self.is_whole() => {
                for (row, value) in places.iter().zip(*values) {
                    out[*row as usize] += factor * f64::from(*value);
                }
            }
            Column::Sparse { places, values, .. } => {
                let (rows, out) = out.split_at_mut(self.stored);
                let there = rows.iter_mut().zip(out).skip(before);
                for ((row, out), (place, value)) in there.zip(places.iter().zip(*values)) {
                    (*row, *out) = (f64::from(*place), factor * f64::from(*value));
                }
            }
        }
    }

    /// Every row and value of a vector that came.
    fn each(self, numbers: &[f64], mut each: impl FnMut(usize, f64)) {
        if self.is_whole() {
            numbers.iter().enumerate().for_each(|(row, value)| each(row, *value));
            return;
        }
        let (rows, values) = numbers.split_at(self.stored.min(numbers.len()));
        rows.iter().zip(values).for_each(|(row, value)| each(*row as usize, *value));
    }
}

/// The variables of pairs of two, each once, in order: those whose columns travel.
fn in_pairs(pairs: &[Pair]) -> Vec<u32> {
    let two = pairs.iter().filter(|(left, right)| left != right);
    let mut variables: Vec<u32> = two.flat_map(|(left, right)| [*left, *right]).collect();
    variables.sort_unstable();
    variables.dedup();
    variables
}

/// Values that are stored of each of the `width` columns of a block.
fn stored(block: &Block, width: usize) -> Vec<f64> {
    let dunlin::data::Contents::Sparse(rows) = &block.contents else {
        return vec![block.rows() as f64; width];
    };
    let mut stored = vec![0.0; width];
    rows.columns.iter().for_each(|column| stored[*column as usize] += 1.0);
    stored
}

/// The residual on its table, of `rows` rows.
pub(in crate::lasso) fn residual(params: &Params, rows: usize) -> View<'_> {
    let (stored, ends) = params.table::<f64>(RESIDUALS).flat().split_at(rows);
    View { stored, shift: ends[0], sum: ends[1] }
}

/// In the first clock of `begin`: the numbers of stored values of a lane's columns, of which `first` is the first.
pub(in crate::lasso) fn count(block: &Block, first: usize, width: usize, params: &mut Params) {
    let mut squares = params.table_mut::<f64>(SQUARES);
    for (column, stored) in (first..).zip(stored(block, width)) {
        squares.row_mut(column)[STORED] += stored;
    }
}

/// In the second: the residual at zero coefficients, by one lane.
pub(in crate::lasso) fn start(target: &[f64], params: &mut Params) {
    let mut table = params.table_mut::<f64>(RESIDUALS);
    let flat = table.flat_mut();
    flat.iter_mut().zip(target).for_each(|(residual, target)| *residual += target);
    flat[target.len() + 1] += target.iter().sum::<f64>();
}

impl Lasso {
    fn packing(&self, variables: &[u32], params: &Params) -> Packing {
        let squares = params.table::<f64>(SQUARES);
        let stored = |variable: &u32| (squares.row(*variable as usize)[STORED] as usize).min(self.rows);
        Packing { rows: self.rows, stored: variables.iter().map(stored).sum() }
    }

    /// The lane's part of what the picks need: of those whose columns it has, x̃ᵀ r, and by how much they change r.
    pub(super) fn push_columns(
        &self,
        variables: &[u32],
        block: &Block,
        params: &Params,
        held: &Held,
        out: &mut [f64],
    ) {
        let (own, rule) = (self.own(block.id as usize), self.rule(params));
        let residual = residual(params, self.rows);
        let (products, change) = out.split_at_mut(variables.len().min(out.len()));
        let [shift, sum, vector @ ..] = change else { return };
        let (packing, mut before) = (self.packing(variables, params), 0);
        for (variable, product) in variables.iter().zip(products) {
            let place = *variable as usize;
            if own.contains(&place) {
                let column = held.columns.column((place - own.start) as u32);
                *product += residual.product(&column);
                let [old, new] = updated(self, rule, params, place, *product);
                if new != old {
                    packing.add(&column, old - new, before, vector);
                    *shift += (new - old) * column.shift();
                    *sum -= (new - old) * column.total(self.rows);
                }
            }
            before += self.packing(&[*variable], params).stored;
        }
    }

    /// The lane's part of the columns that `pairs` need.
    pub(super) fn give_columns(
        &self,
        pairs: &[Pair],
        block: &Block,
        params: &Params,
        held: &Held,
        mut out: &mut [f64],
    ) {
        let own = self.own(block.id as usize);
        for variable in in_pairs(pairs) {
            let packing = self.packing(&[variable], params);
            let (record, rest) = out.split_at_mut((1 + packing.numbers()).min(out.len()));
            out = rest;
            if let (true, [shift, vector @ ..]) = (own.contains(&(variable as usize)), record) {
                let column = held.columns.column((variable as usize - own.start) as u32);
                *shift += column.shift();
                packing.add(&column, 1.0, 0, vector);
            }
        }
    }
}

/// A column that came.
struct Came<'a> {
    packing: Packing,
    numbers: &'a [f64],
    shift: f64,
    /// Σ of its stored values.
    sum: f64,
}

/// What travels between lanes, for the model that it is of.
pub(super) struct Travel(pub(super) Lasso);

impl Travel {
    /// Brings the residual up to date with the change that the lanes made of it together.
    fn change(&self, picks: &[u32], change: &[f64], params: &mut Params) {
        let [shift, sum, vector @ ..] = change else { return };
        let packing = self.0.packing(picks, params);
        let mut table = params.table_mut::<f64>(RESIDUALS);
        let (stored, ends) = table.flat_mut().split_at_mut(self.0.rows);
        packing.each(vector, |row, value| {
            if let Some(residual) = stored.get_mut(row) {
                *residual += value;
            }
        });
        (ends[0], ends[1]) = (ends[0] + shift, ends[1] + sum);
    }

    /// The products of `pairs`, from the columns that came.
    fn products(&self, pairs: &[Pair], mut numbers: &[f64], params: &Params) -> Vec<f64> {
        let variables = in_pairs(pairs);
        let mut columns = Vec::with_capacity(variables.len());
        for variable in &variables {
            let packing = self.0.packing(&[*variable], params);
            let (record, rest) = numbers.split_at((1 + packing.numbers()).min(numbers.len()));
            numbers = rest;
            let (shift, vector) = record.split_first().unwrap_or((&0.0, &[]));
            let mut sum = 0.0;
            packing.each(vector, |_, value| sum += value);
            columns.push(Came { packing, numbers: vector, shift: *shift, sum });
        }
        let mut out = vec![0.0; pairs.len()];
        let place = |variable| variables.partition_point(|other| *other < variable);
        let square = |variable: u32| {
            let factor = self.0.scale(params, variable as usize).factor;
            params.table::<f64>(SQUARES).row(variable as usize)[1] * factor * factor
        };
        let mut two = Vec::with_capacity(pairs.len());
        for (at, (left, right)) in pairs.iter().enumerate() {
            match left == right {
                true => out[at] = square(*left),
                false => two.push((place(*left), place(*right), at)),
            }
        }
        dispatch(self.0.isa, Products { columns: &columns, pairs: &two, rows: self.0.rows, out: &mut out });
        out
    }
}

impl Exchange for Travel {
    fn numbers(&self, round: &Round, params: &Params) -> [usize; 2] {
        let picks = match round.picks.len() {
            0 => 0,
            count => count + 2 + self.0.packing(&round.picks, params).numbers(),
        };
        let record = |variable: u32| 1 + self.0.packing(&[variable], params).numbers();
        [picks, in_pairs(&round.pairs).into_iter().map(record).sum()]
    }

    fn receive(&self, round: &Round, sums: &[f64], params: &mut Params) -> Vec<f64> {
        let [picked, _] = self.numbers(round, params);
        let (picked, columns) = sums.split_at(picked.min(sums.len()));
        let (products, change) = picked.split_at(round.picks.len().min(picked.len()));
        self.change(&round.picks, change, params);
        let mut out = products.to_vec();
        out.extend(self.products(&round.pairs, columns, params));
        out
    }
}

/// x̃_iᵀ x̃_j of pairs (i, j, place in `out`), those with one i together.
struct Products<'a> {
    columns: &'a [Came<'a>],
    pairs: &'a [(usize, usize, usize)],
    rows: usize,
    out: &'a mut [f64],
}

impl Work for Products<'_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let mut spread = vec![0.0; self.rows];
        for pairs in self.pairs.chunk_by(|(one, ..), (other, ..)| one == other) {
            let left = &self.columns[pairs[0].0];
            left.packing.each(left.numbers, |row, value| {
                if let Some(spread) = spread.get_mut(row) {
                    *spread += value;
                }
            });
            for (_, right, at) in pairs {
                let right = &self.columns[*right];
                let plain = match right.packing.is_whole() {
                    true => mixed(&spread, right.numbers),
                    false => {
                        let mut sum = 0.0;
                        let spread = &spread;
                        right.packing.each(right.numbers, |row, value| {
                            sum += value * spread.get(row).copied().unwrap_or(0.0);
                        });
                        sum
                    }
                };
                let (a, b) = (left.shift, right.shift);
                self.out[*at] = plain - a * right.sum - b * left.sum + self.rows as f64 * a * b;
            }
            spread.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests;
