//! Which layout to choose now, given what is coming.
//!
//! [`Planner`] is the published dynamic programme (Parcae; `../shared/papers/dsmlr-and-parcae.md` B6) for a path of intervals
//! taken as certain.

mod aim;
mod odds;
mod prices;
mod step;
mod stochastic;
#[cfg(test)]
mod tests;

use crate::account::Standing;
use crate::cost::CostModel;
use crate::{Interval, Layout};
pub use aim::{Aim, Due};
pub use odds::{Drift, Odd, Odds, Use};
pub use prices::Prices;
use step::Sources;
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
    /// rate(c) (interval - m); a migration that outlasts the interval goes on in the next. At most O(intervals x layouts^2),
    /// but most changes are left out unpriced because they cannot be the best.
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
        let (mut next_trains, mut next_moves) = (vec![None; trains.len()], vec![None; moves.len()]);
        let mut sources = Sources::new(interval, self.interval_s, trains, moves);
        for to in self.prices.fitting(interval.after()) {
            (next_trains[to], next_moves[to]) = sources.best(&mut self.prices, to);
        }
        sources.close(&mut self.prices);
        (next_trains, next_moves)
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
