//! Measuring by blocks of classes: what is known of a row after some of them, and what follows once all were seen.

use super::reserve::Reserve;
use super::tile::Tile;
use crate::softmax::double;
use crate::softmax::kernel::{Rows, Work, exp, greatest, ln, sum};
use dunlin::Sums;
use dunlin::data::UNKNOWN;
use std::collections::BTreeMap;

/// Numbers that are kept for a row.
pub(super) const FIELDS: usize = 6;

const TOP: usize = 0;
const REST: usize = 1;
const BEST: usize = 2;
const OWN: usize = 3;
const ENTROPY: usize = 4;
const SHIFT: usize = 5;

/// Nothing seen yet of `rows` rows: greatest margin and sum of none, no class, no duals. The
/// greatest margin stands for no class: what it leaves behind, exp(−10³⁰) of the next, is 0.
pub(super) fn nothing(rows: usize) -> Vec<f32> {
    [-1e30, 0.0, 0.0, 0.0, 0.0, 0.0].repeat(rows)
}

/// Above this, what a dual lacks of 1 is more than a thousandth rounding error in single precision.
const NEAR_ONE: f32 = 0.999_9;

/// Chunks of 16 classes that are off by less than this altogether are left out: less than duals are rounded by.
const LEAST_SHIFT: f32 = 1e-7;

/// Adds the classes of one tile to what was seen of every row.
pub(super) struct Visit<'a> {
    /// The rows.
    pub(super) rows: Rows<'a>,
    /// Their classes.
    pub(super) labels: &'a [u32],
    /// The weights of the classes at hand.
    pub(super) tile: &'a Tile,
    /// Their range starts here.
    pub(super) first: usize,
    /// How many there are.
    pub(super) classes: usize,
    /// The row of the bias, if there is one.
    pub(super) bias: Option<usize>,
    /// Their duals, or nothing.
    pub(super) duals: Option<Duals<'a>>,
    /// (rows, FIELDS): greatest margin, Σ exp(margin − greatest) over all others, best class, margin of the row's own class,
    /// −Σ â ln â, Σ (a − â) margin.
    pub(super) seen: &'a mut [f32],
}

/// Duals of the classes at hand. Those of a row may not add up to 1 over all classes: the bound is that of
/// â_i = a_i / Σ_k a_ik.
pub(super) struct Duals<'a> {
    /// The numbers, `stride` from row to row.
    pub(super) values: &'a [f32],
    /// Numbers from row to row.
    pub(super) stride: usize,
    /// Where in a row the classes at hand start.
    pub(super) start: usize,
    /// The reserve, if rows can be off at all, and room for Σ_i (a_i − â_i) x_i, zero at first.
    pub(super) off: Option<(&'a Reserve, &'a mut Tile)>,
}

impl Work for Visit<'_> {
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let mut margins = vec![0.0f32; self.tile.width];
        let mut terms = vec![0.0f32; self.tile.width];
        for (row, seen) in self.seen.chunks_exact_mut(FIELDS).enumerate() {
            let next = self.rows.stored_columns(row + 1);
            let (columns, values) = self.rows.row(row);
            self.tile.dot(columns, values, self.bias, &mut margins);
            self.tile.fetch(next);
            if let Some(Duals { values: duals, stride, start, off }) = &mut self.duals {
                let whole = &duals[row * *stride..][..*stride];
                let duals = &whole[*start..][..self.classes];
                let correction = off.as_ref().map_or(0.0, |(reserve, _)| reserve.correction(row));
                let scale = 1.0 + correction;
                for (term, a) in terms.iter_mut().zip(duals) {
                    let a = scale * a;
                    *term = -a * ln(a.max(1e-30));
                }
                let own = (self.labels[row] as usize).wrapping_sub(self.first);
                if off.is_none() && duals.get(own).is_some_and(|p| *p > NEAR_ONE) {
                    terms[own] = double::own_entropy(whole, *start + own) as f32;
                }
                seen[ENTROPY] += sum(&terms[..self.classes]);
                if let Some((_, tile)) = off {
                    terms.fill(0.0);
                    for (term, a) in terms.iter_mut().zip(duals) {
                        *term = -correction * a;
                    }
                    let shift = terms.iter().zip(&margins).map(|(off, margin)| off * margin).sum::<f32>();
                    seen[SHIFT] += shift;
                    for first in (0..tile.width).step_by(16) {
                        let terms = &terms[first..tile.width.min(first + 16)];
                        if terms.iter().map(|off| off.abs()).sum::<f32>() > LEAST_SHIFT {
                            tile.add(columns, values, self.bias, terms, first);
                        }
                    }
                }
            }
            margins[self.classes..].fill(f32::NEG_INFINITY);
            let top = greatest(&margins);
            if let Some(own) =
                margins[..self.classes].get((self.labels[row] as usize).wrapping_sub(self.first))
            {
                seen[OWN] = *own;
            }
            let new_top = if top > seen[TOP] { top } else { seen[TOP] };
            for (term, margin) in terms.iter_mut().zip(&margins) {
                *term = exp(margin - new_top);
            }
            // The greatest margin's own term, 1, would swallow the rest where that is below the rounding of 1.
            if top > seen[TOP] {
                let place = margins.iter().position(|margin| *margin == top).unwrap_or(0);
                seen[BEST] = (self.first + place) as f32;
                terms[place] = 0.0;
                seen[REST] = (1.0 + seen[REST]) * exp(seen[TOP] - new_top) + sum(&terms);
            } else {
                seen[REST] += sum(&terms);
            }
            seen[TOP] = new_top;
            terms[self.classes..].fill(0.0);
        }
    }
}

/// All classes were seen: adds rows, hits, losses, the entropy of the duals, and the counts of each class.
pub(super) fn finish(seen: &[f32], labels: &[u32], is_test: bool, sums: &mut Sums) {
    let (mut known, mut correct, mut loss) = (0usize, 0usize, 0.0f64);
    let (mut entropy, mut shift) = (0.0f64, 0.0f64);
    let mut counts: BTreeMap<u32, [f64; 3]> = BTreeMap::new();
    for (seen, label) in seen.chunks_exact(FIELDS).zip(labels) {
        // The difference of the margins first: it is 0 where the class is the best.
        let log_rest = f64::from(seen[REST]).ln_1p();
        let best = seen[BEST] as u32;
        if *label != UNKNOWN {
            known += 1;
            loss += (f64::from(seen[TOP]) - f64::from(seen[OWN])) + log_rest;
            correct += usize::from(best == *label);
        }
        entropy += f64::from(seen[ENTROPY]);
        shift += f64::from(seen[SHIFT]);
        if is_test {
            counts.entry(best).or_default()[usize::from(best != *label)] += 1.0;
            if best != *label && *label != UNKNOWN {
                counts.entry(*label).or_default()[2] += 1.0;
            }
        }
    }
    sums.add("rows", labels.len() as f64);
    sums.add("known", known as f64);
    sums.add("correct", correct as f64);
    sums.add("loss", loss);
    sums.add("entropy", entropy);
    sums.add("shift", shift);
    for (class, [hits, wrong, missed]) in counts {
        sums.add_at("hits", class as usize, hits);
        sums.add_at("wrong", class as usize, wrong);
        sums.add_at("missed", class as usize, missed);
    }
}

/// Mean over `classes` classes of F1 = 2 p r / (p + r), where a class that is never predicted has precision 1 and one
/// that never occurs recall 1.
pub(super) fn macro_f1(sums: &Sums, classes: usize) -> f64 {
    let f1 = |class: usize| {
        let [hits, wrong, missed] = ["hits", "wrong", "missed"].map(|name| sums.get_at(name, class));
        let share = |of: f64| if of > 0.0 { hits / of } else { 1.0 };
        let (precision, recall) = (share(hits + wrong), share(hits + missed));
        if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
    };
    (0..classes).map(f1).sum::<f64>() / classes.max(1) as f64
}
