//! Which layout to choose now, given what is coming.
//!
//! [`Planner`] is the published dynamic programme (Parcae; `../shared/papers/dsmlr-and-parcae.md` B6) for a path of intervals
//! taken as certain.

mod prices;
mod stochastic;

use crate::account::{Standing, total_ms};
use crate::cost::{CostModel, Step};
use crate::{Interval, Layout};
pub use prices::Prices;
pub use stochastic::{Candidate, Stochastic, Timing};

/// A way to the present state of the programme.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Samples trained on it.
    samples: f64,
    /// Migration still owed, milliseconds; 0 if the layout trains.
    owed_ms: f64,
    /// The layout it took in the first interval.
    first: usize,
    /// Stages of the layout before: of equal ways the one with fewer wins, as the published plans do.
    stages_before: u32,
}

/// What the planner chose, and how much better it is than what comes second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// The layout for the next interval.
    pub layout: Layout,
    /// Samples expected over the horizon.
    pub samples: f64,
    /// Samples expected over the horizon if the present layout is kept (adapted to the machines) for the next interval.
    pub samples_if_kept: f64,
}

/// The dynamic programme over the coming intervals; state: layout and migration owed.
#[derive(Clone, Debug)]
pub struct Planner<'a> {
    prices: Prices<'a>,
    interval_s: f64,
}

impl<'a> Planner<'a> {
    /// A planner for intervals of `interval_s` seconds.
    pub fn new(costs: &'a CostModel, interval_s: f64) -> Planner<'a> {
        Planner { prices: Prices::new(costs), interval_s }
    }

    /// The layout for the first of `path`, which is what the coming intervals are expected to bring.
    ///
    /// Maximises the samples trained by the end of the path: an interval of layout c whose migration takes m seconds trains
    /// rate(c) (interval - m); a migration that outlasts the interval goes on in the next. O(intervals x layouts^2).
    pub fn plan(&mut self, standing: Standing, path: &[Interval]) -> Planned {
        let layouts = self.prices.layouts().len();
        let start = self.prices.index(standing.layout);
        let way = Way { samples: 0.0, owed_ms: standing.owed_ms, first: usize::MAX, stages_before: 0 };
        let mut trains: Vec<Option<Way>> = vec![None; layouts];
        let mut moves: Vec<Option<Way>> = vec![None; layouts];
        if way.owed_ms > 0.0 {
            moves[start] = Some(way)
        } else {
            trains[start] = Some(way)
        }
        for interval in path {
            (trains, moves) = self.advance(*interval, &trains, &moves);
        }
        self.choose(standing, path, trains.into_iter().chain(moves).flatten())
    }

    /// One interval of the programme.
    fn advance(
        &mut self,
        interval: Interval,
        trains: &[Option<Way>],
        moves: &[Option<Way>],
    ) -> (Vec<Option<Way>>, Vec<Option<Way>>) {
        let count = trains.len();
        let (mut next_trains, mut next_moves) = (vec![None; count], vec![None; count]);
        let fitting = self.prices.fitting(interval.after());
        for from in 0..count {
            for way in [trains[from], moves[from]].into_iter().flatten() {
                let prices = self.prices.of(interval.before, interval.removed, from);
                for to in fitting.clone() {
                    let way = self.extend(
                        way,
                        Step {
                            machines: interval.before,
                            lost: interval.removed,
                            from: self.prices.layouts()[from],
                            to: self.prices.layouts()[to],
                        },
                        to,
                        prices[to],
                    );
                    let slots = if way.owed_ms > 0.0 { &mut next_moves } else { &mut next_trains };
                    if slots[to].as_ref().is_none_or(|other| way.is_better(other)) {
                        slots[to] = Some(way);
                    }
                }
            }
        }
        (next_trains, next_moves)
    }

    /// `way` with one more interval, in which `step` costs `cost_ms`.
    fn extend(&self, way: Way, step: Step, to: usize, cost_ms: f64) -> Way {
        let total_s = total_ms(self.prices.costs(), way.owed_ms, step.to, cost_ms, step.change()) / 1000.0;
        let left = self.interval_s - total_s;
        let rate = self.prices.rate(to);
        let owed_ms = if left < 0.0 { -left * 1000.0 } else { 0.0 };
        let samples = way.samples + rate * left.max(0.0);
        let first = if way.first == usize::MAX { to } else { way.first };
        Way { samples, owed_ms, first, stages_before: step.from.stages }
    }

    fn choose(&self, standing: Standing, path: &[Interval], ways: impl Iterator<Item = Way>) -> Planned {
        let kept = path.first().map_or(standing.layout, |interval| {
            crate::account::adapt(self.prices.costs(), standing.layout, interval.after())
        });
        let kept = self.prices.index(kept);
        let mut best: Option<Way> = None;
        let mut samples_if_kept: f64 = 0.0;
        for way in ways {
            if way.first == kept {
                samples_if_kept = samples_if_kept.max(way.samples);
            }
            if best.is_none_or(|best| way.is_better(&best)) {
                best = Some(way);
            }
        }
        let best = best.filter(|way| way.first != usize::MAX);
        let layout = best.map_or(standing.layout, |way| self.prices.layouts()[way.first]);
        Planned { layout, samples: best.map_or(0.0, |way| way.samples), samples_if_kept }
    }
}

impl Way {
    fn is_better(&self, other: &Way) -> bool {
        let key = |way: &Way| (way.samples, -way.owed_ms, -f64::from(way.stages_before));
        key(self) > key(other)
    }
}
