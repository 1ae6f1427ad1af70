//! Limited-memory BFGS as a state machine that takes one evaluation a clock.
//!
//! During a clock every lane adds the gradient of its rows to a table; `end_clock` sees the sum, judges the
//! step by the weak Wolfe conditions (bracketing and bisection) and sets `weights` to the next trial point; the
//! direction comes from the two-loop recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4).
//! All that lasts from clock to clock lies in tables, so that a
//! checkpoint holds it. Every rank computes the same bits, in loops of fixed order.
//!
//! F − ½‖W‖² is convex, so F* ≥ F(W) − ½‖∇F(W)‖² at any W: the best such bound stands in for the dual objective
//! (it equals the dual objective at the distributions softmax(W x_i)).

use super::dual::{add, softmax};
use super::kernel::{Rows, Width, WidthWork, Work, dispatch, dispatch_width};
use super::{Softmax, WEIGHTS};
use dunlin::isa::Isa;
use dunlin::table::Type;
use dunlin::{Axis, Error, Params, Result, Sums, Table, TableMut, TableSpec, Unit};

/// Σ C (softmax(W x_i) − e_{y_i}) x_iᵀ during a clock; the whole gradient after it.
const GRADIENT: usize = 1;
/// The last accepted point.
const POINT: usize = 2;
/// The gradient there.
const POINT_GRADIENT: usize = 3;
/// The direction searched.
const DIRECTION: usize = 4;
/// Steps between accepted points, a ring of `history`.
const STEPS: usize = 5;
/// The gradient's changes along them.
const CHANGES: usize = 6;
/// [`State`].
const STATE: usize = 7;

/// The tables of the solver.
pub(super) fn tables(rows: usize, classes: usize, history: usize) -> Vec<TableSpec> {
    let like = |name: &str| TableSpec::new(name, rows, classes).working();
    let many = |name: &str| TableSpec::new(name, rows * history, classes).axis(Axis::Whole).working();
    let state = TableSpec::new("lbfgs_state", 1, FIELDS + history).axis(Axis::Whole);
    vec![
        TableSpec::new("weights", rows, classes),
        like("gradient"),
        like("point"),
        like("point_gradient"),
        like("direction"),
        many("steps"),
        many("changes"),
        state.element(Type::F64).working(),
    ]
}

/// The numbers kept in the table of state, then the history's 1 / (step·change).
#[derive(Clone, Debug, Default)]
struct State {
    evaluations: f64,
    /// F at the accepted point.
    value: f64,
    /// Slope of F there along the direction.
    slope: f64,
    /// The trial point is point + length x direction.
    length: f64,
    /// Lengths known too short and (0: none) too long.
    short: f64,
    long: f64,
    /// Trials along this direction.
    trials: f64,
    /// Pairs in the ring so far; the next goes to `pairs` modulo its size.
    pairs: f64,
    /// How many of the last pairs are in use.
    used: f64,
    /// The best lower bound on F*.
    bound: f64,
    /// 1 once no step helps any more.
    finished: f64,
    inverses: Vec<f64>,
}

const FIELDS: usize = 11;

impl State {
    fn load(table: &Table<f64>) -> State {
        let row = table.row(0);
        let [evaluations, value, slope, length, short, long, trials, pairs, used, bound, finished] =
            std::array::from_fn(|field| row[field]);
        let inverses = row[FIELDS..].to_vec();
        State {
            evaluations,
            value,
            slope,
            length,
            short,
            long,
            trials,
            pairs,
            used,
            bound,
            finished,
            inverses,
        }
    }

    fn store(&self, table: &mut TableMut<f64>) {
        let s = self;
        let fields: [f64; FIELDS] = [
            s.evaluations,
            s.value,
            s.slope,
            s.length,
            s.short,
            s.long,
            s.trials,
            s.pairs,
            s.used,
            s.bound,
            s.finished,
        ];
        let row = table.row_mut(0);
        row[..FIELDS].copy_from_slice(&fields);
        row[FIELDS..].copy_from_slice(&self.inverses);
    }
}

/// The best lower bound on the optimum so far.
pub(super) fn lower_bound(params: &Params) -> f64 {
    State::load(&params.table(STATE)).bound
}

/// Adds loss and gradient of a block.
///
/// # Errors
/// [`Error::Usage`] if clocks and epochs do not match, [`Error::Diverged`] if scores are not finite.
pub(super) fn evaluate(model: &Softmax, unit: &Unit, params: &mut Params, sums: &mut Sums) -> Result<()> {
    let evaluations = State::load(&params.table(STATE)).evaluations;
    if evaluations != unit.epoch as f64 {
        return Err(Error::Usage(format!(
            "softmax: solver = lbfgs has seen {evaluations} clocks in {} epochs; it needs one clock per epoch and \
             strategy allreduce or one lane (or use solver = dual)",
            unit.epoch
        )));
    }
    let Some((rows, labels)) = Rows::new(unit.block) else { return Ok(()) };
    let [weights, gradient] = params.tables_mut::<f32, 2>([WEIGHTS, GRADIENT]);
    let stride = weights.stride();
    let (classes, bias, c) = (model.classes, model.bias(), model.config.c as f32);
    let loss = dispatch_width(model.isa, stride, Slope { rows, labels, weights, gradient, classes, bias, c });
    if !loss.is_finite() {
        return Err(model.diverged(&format!("the loss of block {} is {loss}", unit.block.id)));
    }
    sums.add("loss", loss);
    sums.add("rows", labels.len() as f64);
    Ok(())
}

/// Loss and gradient over a block's rows; gives Σ −ln p(class).
struct Slope<'a, 'b> {
    rows: Rows<'a>,
    labels: &'a [u32],
    weights: TableMut<'b, f32>,
    gradient: TableMut<'b, f32>,
    classes: usize,
    bias: Option<usize>,
    c: f32,
}

impl WidthWork for Slope<'_, '_> {
    type Out = f64;

    #[inline(always)]
    fn run(mut self, width: impl Width) -> f64 {
        let stride = width.get();
        let (mut scores, mut likely) = (width.zeros(), width.zeros());
        let (scores, likely) = (&mut scores.as_mut()[..stride], &mut likely.as_mut()[..stride]);
        let mut loss = 0.0;
        for (row, label) in self.labels.iter().enumerate() {
            let (columns, values) = self.rows.row(row);
            width.dot(&self.weights, columns, values, scores);
            if let Some(bias) = self.bias {
                add(scores, self.weights.padded(bias));
            }
            let total = softmax(scores, self.classes, likely);
            loss += f64::from(total).ln() - f64::from(scores[*label as usize]);
            likely[*label as usize] -= 1.0;
            likely.iter_mut().for_each(|step| *step *= self.c);
            width.add(&mut self.gradient, columns, values, likely);
            if let Some(bias) = self.bias {
                width.add(&mut self.gradient, &[bias as u32], &[1.0], likely);
            }
        }
        loss
    }
}

/// Judges the point evaluated in this clock and sets the next one.
///
/// # Errors
/// [`Error::Diverged`] if the first objective is no finite number.
pub(super) fn end_clock(model: &Softmax, sums: &Sums, params: &mut Params) -> Result<()> {
    if sums.get("rows") == 0.0 {
        return Ok(()); // the clock of `begin`
    }
    let mut state = State::load(&params.table(STATE));
    let [mut weights, mut gradient, mut point, mut slope, mut direction, mut steps, mut changes] =
        params.tables_mut([WEIGHTS, GRADIENT, POINT, POINT_GRADIENT, DIRECTION, STEPS, CHANGES]);
    let mut search = Search {
        isa: model.isa,
        weights: weights.flat_mut(),
        gradient: gradient.flat_mut(),
        point: point.flat_mut(),
        point_gradient: slope.flat_mut(),
        direction: direction.flat_mut(),
        steps: steps.flat_mut(),
        changes: changes.flat_mut(),
    };
    let finite = search.judge(&mut state, model.config.c * sums.get("loss"));
    state.store(&mut params.table_mut(STATE));
    if finite { Ok(()) } else { Err(model.diverged("the objective is no finite number")) }
}

struct Search<'a> {
    isa: Isa,
    weights: &'a mut [f32],
    gradient: &'a mut [f32],
    point: &'a mut [f32],
    point_gradient: &'a mut [f32],
    direction: &'a mut [f32],
    steps: &'a mut [f32],
    changes: &'a mut [f32],
}

/// Sufficient decrease: F ≤ F₀ + this x length x slope.
const DECREASE: f64 = 1e-4;
/// Curvature: the slope at the end is at least this share of the slope at the start.
const CURVATURE: f64 = 0.9;
/// Trials along one direction before it is given up.
const TRIALS: f64 = 25.0;

impl Search<'_> {
    /// Takes C Σ loss at the trial point; false if there is nothing finite to start from.
    fn judge(&mut self, state: &mut State, loss: f64) -> bool {
        self.gradient.iter_mut().zip(self.weights.iter()).for_each(|(gradient, weight)| *gradient += weight);
        let value = loss + 0.5 * inner(self.isa, self.weights, self.weights);
        let square = inner(self.isa, self.gradient, self.gradient);
        let first = state.evaluations == 0.0;
        state.evaluations += 1.0;
        if first && !(value.is_finite() && square.is_finite()) {
            return false;
        }
        let bound = value - 0.5 * square;
        if first || bound > state.bound {
            state.bound = bound;
        }
        if state.finished == 0.0 {
            let along = inner(self.isa, self.gradient, self.direction);
            // Single precision cannot tell values nearer than this.
            let blur = 1e-7 * state.value.abs();
            let fits = value <= state.value + DECREASE * state.length * state.slope + blur;
            if first || (fits && along >= CURVATURE * state.slope) {
                self.accept(state, value, first);
            } else {
                self.adjust(state, value, fits);
            }
        }
        self.place(if state.finished == 0.0 { state.length as f32 } else { 0.0 });
        self.gradient.fill(0.0);
        true
    }

    /// weights = point + length x direction.
    fn place(&mut self, length: f32) {
        for ((weight, point), direction) in self.weights.iter_mut().zip(&*self.point).zip(&*self.direction) {
            *weight = point + length * direction;
        }
    }

    /// Keeps the trial point and turns to a new direction.
    fn accept(&mut self, state: &mut State, value: f64, first: bool) {
        if !first {
            self.remember(state);
        }
        self.point.copy_from_slice(self.weights);
        self.point_gradient.copy_from_slice(self.gradient);
        state.value = value;
        self.turn(state);
    }

    /// Puts the last step and the gradient's change into the ring, if their product is positive.
    fn remember(&mut self, state: &mut State) {
        let slot = state.pairs as usize % state.inverses.len();
        let length = self.weights.len();
        let (step, change) =
            (&mut self.steps[slot * length..][..length], &mut self.changes[slot * length..][..length]);
        for at in 0..length {
            step[at] = self.weights[at] - self.point[at];
            change[at] = self.gradient[at] - self.point_gradient[at];
        }
        let product = inner(self.isa, step, change);
        if product > 0.0 {
            state.inverses[slot] = 1.0 / product;
            state.pairs += 1.0;
            state.used = (state.used + 1.0).min(state.inverses.len() as f64);
        }
    }

    /// direction = −H x gradient by the two loops; resets the search along it.
    fn turn(&mut self, state: &mut State) {
        let (length, size) = (self.weights.len(), state.inverses.len());
        let (isa, used, pairs) = (self.isa, state.used as usize, state.pairs as usize);
        let slots: Vec<usize> = (1..=used).map(|back| (pairs + size * used - back) % size).collect();
        let direction = &mut *self.direction;
        direction.copy_from_slice(self.point_gradient);
        let mut shares = vec![0.0; used];
        for (share, slot) in shares.iter_mut().zip(&slots) {
            *share = state.inverses[*slot] * inner(isa, &self.steps[slot * length..][..length], direction);
            shift(direction, -*share, &self.changes[slot * length..][..length]);
        }
        if let Some(slot) = slots.first() {
            let change = &self.changes[slot * length..][..length];
            let scale = 1.0 / (state.inverses[*slot] * inner(isa, change, change));
            direction.iter_mut().for_each(|value| *value *= scale as f32);
        }
        for (share, slot) in shares.iter().zip(&slots).rev() {
            let other =
                state.inverses[*slot] * inner(isa, &self.changes[slot * length..][..length], direction);
            shift(direction, share - other, &self.steps[slot * length..][..length]);
        }
        direction.iter_mut().for_each(|value| *value = -*value);
        state.slope = inner(isa, self.direction, self.point_gradient);
        state.length = 1.0;
        if used == 0 || state.slope >= 0.0 {
            self.steepest(state);
        }
        (state.short, state.long, state.trials) = (0.0, 0.0, 0.0);
    }

    /// Starts anew along −gradient, with a first step of length 1 at most.
    fn steepest(&mut self, state: &mut State) {
        for (direction, gradient) in self.direction.iter_mut().zip(&*self.point_gradient) {
            *direction = -gradient;
        }
        state.used = 0.0;
        state.slope = -inner(self.isa, self.point_gradient, self.point_gradient);
        state.length = if state.slope == 0.0 { 0.0 } else { (1.0 / (-state.slope).sqrt()).min(1.0) };
        (state.short, state.long, state.trials) = (0.0, 0.0, 0.0);
        if state.slope == 0.0 {
            state.finished = 1.0;
        }
    }

    /// Chooses another length along the same direction, or gives the direction up.
    fn adjust(&mut self, state: &mut State, value: f64, fits: bool) {
        state.trials += 1.0;
        if state.trials > TRIALS {
            if state.used == 0.0 {
                state.finished = 1.0;
            } else {
                self.steepest(state);
            }
            return;
        }
        if fits {
            state.short = state.length;
            state.length =
                if state.long == 0.0 { 2.0 * state.length } else { 0.5 * (state.short + state.long) };
            return;
        }
        state.long = state.length;
        // The parabola through value and slope at 0 and the value here.
        let bend = value - state.value - state.slope * state.length;
        let least = -0.5 * state.slope * state.length * state.length / bend;
        let (low, high) = (0.9 * state.short + 0.1 * state.long, 0.5 * (state.short + state.long));
        state.length = if least.is_finite() { least.clamp(low, high) } else { high };
    }
}

/// to += scale x by.
fn shift(to: &mut [f32], scale: f64, by: &[f32]) {
    let scale = scale as f32;
    to.iter_mut().zip(by).for_each(|(to, by)| *to += scale * by);
}

/// a·b in double precision: eight running sums, then one by one.
pub(crate) fn inner(isa: Isa, a: &[f32], b: &[f32]) -> f64 {
    dispatch(isa, Inner(a, b))
}

struct Inner<'a>(&'a [f32], &'a [f32]);
impl Work for Inner<'_> {
    type Out = f64;
    #[inline(always)]
    fn run(self) -> f64 {
        let (mut left, mut right) = (self.0.chunks_exact(8), self.1.chunks_exact(8));
        let mut sums = [0.0f64; 8];
        for (left, right) in (&mut left).zip(&mut right) {
            for (sum, (left, right)) in sums.iter_mut().zip(left.iter().zip(right)) {
                *sum += f64::from(*left) * f64::from(*right);
            }
        }
        for (left, right) in left.remainder().iter().zip(right.remainder()) {
            sums[0] += f64::from(*left) * f64::from(*right);
        }
        sums.iter().sum()
    }
}
