//! One pass of dual coordinate ascent, and one that only reads.
//!
//! w = Σ_i α_i y_i x_i with 0 ≤ α ≤ C (hinge) or 0 ≤ α (squared hinge, which adds D = 1 / 2C to the curvature).
//! With all other duals fixed, the best α of a row is
//!
//! ```text
//! clamp(α − (y w·x − 1 + D α) / (σ' ‖x‖² + D), 0, most)
//! ```
//!
//! σ' = 1 with one lane; with V lanes σ' = V, and a lane's copy of w moves V times as far as its duals say
//! (CoCoA+). A row whose duals stay at their bounds, pass after pass, is looked at less and less often, every
//! [`SLEEP`] epochs at the least often: the place of shrinking, with no bookkeeping over rows of other lanes.

use crate::softmax::dual::add;
use crate::softmax::kernel::{Rows, Width, WidthWork};
use dunlin::data::UNKNOWN;
use dunlin::rng::Stream;
use dunlin::table::prefetch;
use dunlin::{Table, TableMut};
use serde::{Deserialize, Serialize};

/// The duals of a block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Duals {
    /// ‖x‖² of each row, the bias column included.
    pub squares: Vec<f32>,
    /// α: (rows, stride of the weights), padded with zeros.
    pub alphas: Vec<f32>,
    /// For how many looks the duals of each row have stayed at their bounds, up to 255.
    pub quiet: Vec<u8>,
}

/// Epochs between two looks at a row that has long been at its bounds.
pub const SLEEP: usize = 8;

impl Duals {
    /// The start, which belongs to zero weights: all 0.
    pub(super) fn start(rows: &mut Rows, count: usize, stride: usize, bias: bool) -> Duals {
        let mut square = |row: usize| {
            let (_, values) = rows.row(row);
            let square = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            (square + f64::from(u8::from(bias))) as f32
        };
        Duals {
            squares: (0..count).map(&mut square).collect(),
            alphas: vec![0.0; count * stride],
            quiet: vec![0; count],
        }
    }

    /// The rows to be looked at in `epoch`, in random order.
    pub(super) fn awake(&self, epoch: usize, rng: &mut Stream) -> Vec<u32> {
        let due = |row: &u32| {
            let pause = usize::from(self.quiet[*row as usize]).clamp(1, SLEEP);
            (*row as usize + epoch).is_multiple_of(pause)
        };
        let mut order: Vec<u32> = (0..self.quiet.len() as u32).filter(due).collect();
        rng.shuffle(&mut order);
        order
    }

    /// Σ α − ½ D α² over the block's rows and `columns` of each.
    pub(super) fn value(&self, columns: usize, stride: usize, curvature: f64) -> f64 {
        let one = |alpha: &f32| {
            let alpha = f64::from(*alpha);
            alpha - 0.5 * curvature * alpha * alpha
        };
        self.alphas.chunks_exact(stride).flat_map(|alphas| &alphas[..columns]).map(one).sum()
    }
}

/// One pass over rows in the order given. Gives false if scores were not finite.
pub(super) struct Pass<'a, 'b> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes.
    pub(super) classes: &'a [u32],
    /// The rows to look at.
    pub(super) order: &'a [u32],
    /// The duals of all.
    pub(super) duals: &'a mut Duals,
    /// (features + bias, width).
    pub(super) weights: TableMut<'b, f32>,
    /// Columns of weights; what follows in a padded row is padding.
    pub(super) columns: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// The largest dual.
    pub(super) most: f32,
    /// D.
    pub(super) curvature: f32,
    /// σ': the number of lanes.
    pub(super) scale: f32,
}

/// The class that is y = 1 in column 0: the greater of two, else each column's own.
#[inline(always)]
fn own_column(class: u32, columns: usize) -> usize {
    // With one column, class 1 is column 0 and class 0 none.
    if columns == 1 { (class as usize).wrapping_sub(1) } else { class as usize }
}

impl WidthWork for Pass<'_, '_> {
    type Out = bool;

    #[inline(always)]
    fn run(mut self, width: impl Width) -> bool {
        let stride = width.get();
        let (mut scores, mut step) = (width.zeros(), width.zeros());
        let (scores, step) = (&mut scores.as_mut()[..stride], &mut step.as_mut()[..stride]);
        for (index, row) in self.order.iter().enumerate() {
            // The order is random: what is needed soon is asked for now, what leads to it earlier still.
            if let Some(later) = self.order.get(index + 6) {
                self.rows.prefetch_offset(*later as usize);
                prefetch(&self.duals.squares[*later as usize..]);
                prefetch(&self.duals.alphas[*later as usize * stride..]);
            }
            if let Some(next) = self.order.get(index + 2) {
                self.rows.prefetch(*next as usize);
            }
            let row = *row as usize;
            let (columns, values) = self.rows.row(row);
            width.dot(&self.weights, columns, values, scores);
            if let Some(bias) = self.bias {
                add(scores, self.weights.padded(bias));
            }
            let own = own_column(self.classes[row], self.columns);
            let bend = self.scale.mul_add(self.duals.squares[row], self.curvature);
            let alphas = &mut self.duals.alphas[row * stride..][..stride];
            let (mut moved, mut inside, mut finite) = (false, false, bend.is_finite());
            for k in 0..self.columns {
                let sign = if k == own { 1.0f32 } else { -1.0 };
                let slope = self.curvature.mul_add(alphas[k], sign * scores[k] - 1.0);
                finite &= slope.is_finite();
                // A row of zeros has no curvature under hinge, and slope −1: its best dual is the largest.
                let new = (alphas[k] - slope / bend).clamp(0.0, self.most);
                step[k] = sign * self.scale * (new - alphas[k]);
                moved |= new != alphas[k];
                inside |= new > 0.0 && new < self.most;
                alphas[k] = new;
            }
            if !finite {
                return false;
            }
            let quiet = &mut self.duals.quiet[row];
            *quiet = if moved || inside { 0 } else { quiet.saturating_add(1) };
            if !moved {
                continue;
            }
            width.add(&mut self.weights, columns, values, step);
            if let Some(bias) = self.bias {
                width.add(&mut self.weights, &[bias as u32], &[1.0], step);
            }
        }
        true
    }
}

/// One pass over a block's rows in their order; `each(row, margins)` is called with (columns) values.
pub(super) struct Measure<'a, F> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes, or [`UNKNOWN`].
    pub(super) classes: &'a [u32],
    /// (features + bias, width).
    pub(super) weights: Table<'a, f32>,
    /// Columns of weights.
    pub(super) columns: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// Called for each row.
    pub(super) each: F,
}

/// What [`Measure`] finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Σ max(0, 1 − y w·x) over rows of known class and columns.
    pub(super) hinge: f64,
    /// The same of its square.
    pub(super) squared: f64,
    /// Rows whose class has the greatest margin (the lowest of equals).
    pub(super) correct: usize,
}

impl<F: FnMut(usize, &[f32])> WidthWork for Measure<'_, F> {
    type Out = Found;

    #[inline(always)]
    fn run(mut self, width: impl Width) -> Found {
        let stride = width.get();
        let mut scores = width.zeros();
        let scores = &mut scores.as_mut()[..stride];
        let mut found = Found::default();
        for (row, class) in self.classes.iter().enumerate() {
            let (columns, values) = self.rows.row(row);
            width.dot(&self.weights, columns, values, scores);
            if let Some(bias) = self.bias {
                add(scores, self.weights.padded(bias));
            }
            let scores = &scores[..self.columns];
            (self.each)(row, scores);
            if *class == UNKNOWN {
                continue;
            }
            let own = own_column(*class, self.columns);
            for (k, score) in scores.iter().enumerate() {
                let short = f64::from((1.0 - if k == own { *score } else { -score }).max(0.0));
                found.hinge += short;
                found.squared += short * short;
            }
            let best = (1..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best });
            let best = if self.columns == 1 { usize::from(scores[0] > 0.0) } else { best };
            found.correct += usize::from(best == *class as usize);
        }
        found
    }
}
