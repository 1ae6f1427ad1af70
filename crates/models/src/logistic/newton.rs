//! Newton's method as a state machine that takes one pass over the data a clock.
//!
//! During a clock every lane adds up, at the trial point, the loss, the gradient and the diagonal of the second
//! derivative H = C Σ p (1 − p) x xᵀ over its rows, and the rest of H over a sample of them: every n-th row,
//! another n-th each time, so many that a step made of them is off by a small share (about √(weights / rows
//! sampled)), and all of them near the optimum. What a sample lacks on the diagonal is put there, so that a rare feature does not look flat. `end_clock`
//! judges the point (sufficient decrease, halving) and solves for the next direction:
//! for `l2` by Cholesky's factorisation, for `l1` by coordinate descent on the quadratic model, and now
//! and then the exact solution for the weights that are not zero (proximal Newton: Lee, Sun and Saunders 2014).
//!
//! H has room for [`NARROW`] weights under `l1` (those that are not zero, and those that the gradient pushes most;
//! chosen anew at every accepted point) and for all under `l2`. All that lasts from clock to clock lies in tables, so
//! that a checkpoint holds it. Every rank computes the same bits.
//!
//! Lower bounds. `l2`: F* ≥ F(w) − ½‖∇F(w)‖², since F − ½‖w‖² is convex. `l1`: with g = ∇(C Σ loss) and
//! s = min(1, 1/‖g‖∞), the duals s C p are feasible, and entropy is concave, so F* ≥ s (C Σ loss(w) − w·g).

use super::pass::Losses;
use super::step::{Curvature, descend, factorise};
use super::{Logistic, Penalty, WEIGHTS};
use crate::softmax::kernel::{Rows, Work, dispatch};
use dunlin::table::Type;
use dunlin::{Axis, Error, Params, Result, Sums, Table, TableMut, TableSpec, Unit};

/// Weights up to which this is the default for `l2`, and that H has room for under `l1`.
pub const NARROW: usize = 512;
/// Weights that are refused for `l2`: 16 MB of H.
pub const MOST_L2: usize = 2048;
/// Rows sampled for every weight of H.
const SAMPLED: usize = 64;

/// (weights, 2): C Σ −y σ(−y s) x, and C Σ p (1 − p) x².
const GRADIENT: usize = 1;
/// (1, size (size + 1) / 2): the lower triangle of H, row after row, of the sample.
const HESSIAN: usize = 2;
/// (weights, 2): the last accepted point, and the direction searched.
const SEARCH: usize = 3;
/// (weights, 1): 1 + place in H, or 0.
const PLACES: usize = 4;
/// [`State`].
const STATE: usize = 5;

/// Weights that H has room for.
fn size(model: &Logistic) -> usize {
    match model.config.penalty {
        Penalty::L2 => model.rows(),
        Penalty::L1 => model.rows().min(NARROW),
    }
}

/// The tables of the solver.
pub(super) fn tables(model: &Logistic) -> Vec<TableSpec> {
    let (rows, size) = (model.rows(), size(model));
    let double = |name: &str, rows, width| TableSpec::new(name, rows, width).element(Type::F64).working();
    vec![
        TableSpec::new("weights", rows, 1),
        double("gradient", rows, 2),
        double("hessian", 1, size * (size + 1) / 2).axis(Axis::Whole),
        double("search", rows, 2),
        TableSpec::new("places", rows, 1).element(Type::I32).working(),
        double("newton_state", 1, FIELDS).axis(Axis::Whole),
    ]
}

/// The numbers kept in the table of state.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    evaluations: f64,
    /// F at the accepted point.
    value: f64,
    /// How much F should fall along the whole direction, to first order; negative.
    slope: f64,
    /// The trial point is point + length x direction.
    length: f64,
    /// Trials along this direction.
    trials: f64,
    /// The best lower bound on F*.
    bound: f64,
    /// 1 once no step helps any more.
    finished: f64,
    /// How many times the share of rows that are sampled has been doubled.
    doublings: f64,
}

const FIELDS: usize = 8;

impl State {
    fn load(table: &Table<f64>) -> State {
        let [evaluations, value, slope, length, trials, bound, finished, doublings] =
            std::array::from_fn(|field| table.row(0)[field]);
        State { evaluations, value, slope, length, trials, bound, finished, doublings }
    }

    fn store(&self, params: &mut Params) {
        let s = self;
        let fields: [f64; FIELDS] =
            [s.evaluations, s.value, s.slope, s.length, s.trials, s.bound, s.finished, s.doublings];
        params.table_mut(STATE).row_mut(0).copy_from_slice(&fields);
    }
}

/// The best lower bound on the optimum so far.
pub(super) fn lower_bound(params: &Params) -> f64 {
    State::load(&params.table(STATE)).bound
}

/// Adds loss, gradient and second derivative of a block.
///
/// # Errors
/// [`Error::Usage`] if clocks and epochs do not match, [`Error::Diverged`] if the loss is not finite.
pub(super) fn evaluate(model: &Logistic, unit: &Unit, params: &mut Params, sums: &mut Sums) -> Result<()> {
    let State { evaluations, doublings, .. } = State::load(&params.table(STATE));
    if evaluations != unit.epoch as f64 {
        return Err(Error::Usage(format!(
            "logistic: solver = newton has seen {evaluations} clocks in {} epochs; it needs one clock per epoch and \
             strategy allreduce or one lane (or use solver = dual)",
            unit.epoch
        )));
    }
    let Some((rows, classes)) = Rows::new(unit.block) else { return Ok(()) };
    let mut slopes = model.margins(unit.block, params);
    let mut rates = vec![0.0; slopes.len()];
    let loss = dispatch(model.isa, Losses { margins: &mut slopes, classes, rates: &mut rates });
    if !loss.is_finite() && evaluations == 0.0 {
        return Err(model.diverged(&format!("the loss of block {} is {loss}", unit.block.id)));
    }
    let size = size(model);
    let places: Option<Vec<i32>> = (size < model.rows()).then(|| params.table::<i32>(PLACES).flat().to_vec());
    let every = ((model.examples / (SAMPLED * size)) >> doublings as usize).max(1);
    let skipped = (every - (unit.block.first_row + unit.epoch) % every) % every;
    let [gradient, hessian] = params.tables_mut::<f64, 2>([GRADIENT, HESSIAN]);
    let (bias, c) = (model.bias(), model.config.c);
    let (slopes, rates, places) = (&slopes, &rates, places.as_deref());
    let sums_of = Derivatives { rows, slopes, rates, places, every, skipped, bias, c, gradient, hessian };
    sums.add("sampled", dispatch(model.isa, sums_of) as f64);
    sums.add("loss", loss);
    sums.add("rows", classes.len() as f64);
    Ok(())
}

/// Adds up first and second derivatives over a block's rows; gives how many were sampled.
struct Derivatives<'a, 'b> {
    rows: Rows<'a>,
    /// y σ(−y s) and p (1 − p) of each row.
    slopes: &'a [f32],
    rates: &'a [f32],
    /// Of every weight 1 + its place in H or 0; `None` if all have their own.
    places: Option<&'a [i32]>,
    /// The rows `skipped`, `skipped` + `every`, ... are sampled.
    every: usize,
    skipped: usize,
    bias: Option<usize>,
    c: f64,
    gradient: TableMut<'b, f64>,
    hessian: TableMut<'b, f64>,
}

impl Work for Derivatives<'_, '_> {
    type Out = usize;

    #[inline(always)]
    fn run(mut self) -> usize {
        let (mut sampled, mut next) = (0, self.skipped);
        let mut entries: Vec<(usize, f64)> = Vec::new();
        let triangle = self.hessian.row_mut(0);
        for row in 0..self.slopes.len() {
            let (slope, rate) = (-self.c * f64::from(self.slopes[row]), self.c * f64::from(self.rates[row]));
            let (columns, values) = self.rows.row(row);
            for (column, value) in columns.iter().zip(values) {
                let value = f64::from(*value);
                let sums = self.gradient.array_mut::<2>(*column as usize);
                *sums = [slope.mul_add(value, sums[0]), (rate * value).mul_add(value, sums[1])];
            }
            if let Some(bias) = self.bias {
                let sums = self.gradient.array_mut::<2>(bias);
                *sums = [sums[0] + slope, sums[1] + rate];
            }
            if row != next {
                continue;
            }
            (sampled, next) = (sampled + 1, next + self.every);
            entries.clear();
            let bias = self.bias.iter().map(|bias| (*bias, 1.0));
            let all =
                columns.iter().zip(values).map(|(column, value)| (*column as usize, *value)).chain(bias);
            for (column, value) in all {
                match self.places {
                    None => entries.push((column, f64::from(value))),
                    Some(places) if places[column] > 0 => {
                        entries.push((places[column] as usize - 1, f64::from(value)));
                    }
                    Some(_) => {}
                }
            }
            add_square(&entries, rate, triangle);
        }
        sampled
    }
}

/// Adds rate x xᵀ to the lower triangle; the places of the entries of x ascend.
#[inline(always)]
fn add_square(entries: &[(usize, f64)], rate: f64, triangle: &mut [f64]) {
    for (at, (place, value)) in entries.iter().enumerate() {
        let scaled = rate * value;
        let sums = &mut triangle[place * (place + 1) / 2..][..=*place];
        for (other, value) in &entries[..=at] {
            sums[*other] = scaled.mul_add(*value, sums[*other]);
        }
    }
}

/// Judges the point evaluated in this clock and sets the next one.
///
/// # Errors
/// [`Error::Diverged`] if the first objective is no finite number.
pub(super) fn end_clock(model: &Logistic, sums: &Sums, params: &mut Params) -> Result<()> {
    if sums.get("rows") == 0.0 {
        return Ok(()); // the clock of `begin`
    }
    let mut state = State::load(&params.table(STATE));
    let weights: Vec<f64> = params.table::<f32>(WEIGHTS).flat().iter().map(|w| f64::from(*w)).collect();
    let derivatives = params.table::<f64>(GRADIENT).flat();
    let mut gradient: Vec<f64> = derivatives.chunks_exact(2).map(|pair| pair[0]).collect();
    let (value, bound) = judge(model, model.config.c * sums.get("loss"), &weights, &mut gradient);
    let first = state.evaluations == 0.0;
    if first && !(value.is_finite() && bound.is_finite()) {
        return Err(model.diverged("the objective is no finite number"));
    }
    state.evaluations += 1.0;
    if first || bound > state.bound {
        state.bound = bound;
    }
    if state.finished == 0.0 {
        // Weights in single precision cannot tell values nearer than this.
        let blur = 1e-7 * state.value.abs();
        if first || value <= state.value + DECREASE * state.length * state.slope + blur {
            if !first && state.value - value < NEAR * value {
                state.doublings = (state.doublings + 1.0).min(32.0);
            }
            state.value = value;
            turn(model, sums, params, &weights, &gradient, &mut state);
        } else {
            shorten(&mut state, value);
        }
    }
    place(params, if state.finished == 0.0 { state.length } else { 0.0 });
    params.table_mut::<f64>(GRADIENT).flat_mut().fill(0.0);
    params.table_mut::<f64>(HESSIAN).flat_mut().fill(0.0);
    state.store(params);
    Ok(())
}

/// Sufficient decrease: F ≤ F₀ + this x length x slope.
const DECREASE: f64 = 1e-4;
/// Once a step gains less than this share of the objective, the sample is doubled from clock to clock.
const NEAR: f64 = 0.01;
/// Trials along one direction before the search ends: no step of single precision helps.
const TRIALS: f64 = 20.0;

/// The objective and a lower bound of the optimum, given C Σ loss and its gradient; for `l2` the gradient of the penalty is added.
pub(super) fn judge(model: &Logistic, loss: f64, weights: &[f64], gradient: &mut [f64]) -> (f64, f64) {
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    match model.config.penalty {
        Penalty::L2 => {
            gradient.iter_mut().zip(weights).for_each(|(gradient, weight)| *gradient += weight);
            let value = loss + 0.5 * inner(weights, weights);
            (value, value - 0.5 * inner(gradient, gradient))
        }
        Penalty::L1 => {
            let steepest = gradient.iter().fold(1.0f64, |most, slope| most.max(slope.abs()));
            let value = loss + weights.iter().map(|w| w.abs()).sum::<f64>();
            (value, (loss - inner(weights, gradient)) / steepest)
        }
    }
}

/// Keeps the trial point and finds a new direction.
fn turn(
    model: &Logistic,
    sums: &Sums,
    params: &mut Params,
    weights: &[f64],
    gradient: &[f64],
    state: &mut State,
) {
    let chosen = chosen(model, params);
    let diagonal: Vec<f64> =
        chosen.iter().map(|weight| params.table::<f64>(GRADIENT).row(*weight)[1]).collect();
    let scale = sums.get("rows") / sums.get("sampled").max(1.0);
    let triangle = params.table::<f64>(HESSIAN).row(0);
    let slopes: Vec<f64> = chosen.iter().map(|weight| gradient[*weight]).collect();
    let at: Vec<f64> = chosen.iter().map(|weight| weights[*weight]).collect();
    let curvature = Curvature::new(triangle, scale, &diagonal);
    let (direction, slope) = match model.config.penalty {
        Penalty::L2 => factorise(model.isa, curvature, &slopes),
        Penalty::L1 => descend(model.isa, &curvature, &slopes, &at),
    };
    let mut search = params.table_mut::<f64>(SEARCH);
    for (pair, weight) in search.flat_mut().chunks_exact_mut(2).zip(weights) {
        pair.copy_from_slice(&[*weight, 0.0]);
    }
    for (weight, change) in chosen.iter().zip(&direction) {
        search.row_mut(*weight)[1] = *change;
    }
    let changes_places = size(model) < model.rows() && choose(model, params, weights, gradient);
    (state.slope, state.length, state.trials) = (slope, 1.0, 0.0);
    if slope >= 0.0 {
        state.length = 0.0;
        // Nothing to gain with these weights; others may have taken their places.
        state.finished = f64::from(u8::from(!changes_places));
    }
}

/// The weights that have a place in H, in the order of the places.
fn chosen(model: &Logistic, params: &Params) -> Vec<usize> {
    if size(model) == model.rows() {
        return (0..model.rows()).collect();
    }
    let places = params.table::<i32>(PLACES);
    (0..model.rows()).filter(|weight| places.row(*weight)[0] > 0).collect()
}

/// Gives places in H to the weights that are not zero and to those that the gradient pushes most, as many again and
/// some; true if others have places than before.
fn choose(model: &Logistic, params: &mut Params, weights: &[f64], gradient: &[f64]) -> bool {
    let size = size(model);
    let push = |weight: &usize| match weights[*weight] {
        0.0 => (gradient[*weight].abs() - 1.0).max(0.0),
        value => (gradient[*weight] + value.signum()).abs(),
    };
    let strongest = |weights: &mut Vec<usize>, most: usize| {
        weights.sort_by(|a, b| push(b).total_cmp(&push(a)).then(a.cmp(b)));
        weights.truncate(most);
    };
    let (mut zeros, mut others): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|weight| weights[*weight] == 0.0);
    zeros.retain(|weight| push(weight) > 0.0);
    strongest(&mut others, size - (size / 4).min(zeros.len()));
    let room = (size - others.len()).min(2 * others.len() + 32);
    strongest(&mut zeros, room);
    let mut chosen = [others, zeros].concat();
    chosen.sort_unstable();
    let mut new = vec![0; weights.len()];
    chosen.iter().enumerate().for_each(|(place, weight)| new[*weight] = place as i32 + 1);
    let mut places = params.table_mut::<i32>(PLACES);
    let places = places.flat_mut();
    let changed = *places != new[..];
    places.copy_from_slice(&new);
    changed
}

/// A shorter step along the same direction, or none.
fn shorten(state: &mut State, value: f64) {
    state.trials += 1.0;
    if state.trials > TRIALS {
        state.finished = 1.0;
        return;
    }
    // The parabola through value and slope at 0 and the value here.
    let bend = value - state.value - state.slope * state.length;
    let least = -0.5 * state.slope * state.length * state.length / bend;
    let (low, high) = (0.1 * state.length, 0.5 * state.length);
    state.length = if least.is_finite() { least.clamp(low, high) } else { high };
}

/// weights = point + length x direction.
fn place(params: &mut Params, length: f64) {
    let new: Vec<f32> = params
        .table::<f64>(SEARCH)
        .flat()
        .chunks_exact(2)
        .map(|pair| length.mul_add(pair[1], pair[0]) as f32)
        .collect();
    params.table_mut::<f32>(WEIGHTS).flat_mut().copy_from_slice(&new);
}
