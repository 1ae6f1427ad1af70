//! The states of the decision process around the present number of machines, and one step back in time.

use super::{NEGLIGIBLE, Timing, draws};
use crate::Layout;
use crate::account::adapt;
use crate::chance::Chances;
use crate::forecast::Outlook;
use crate::plan::Prices;
use std::collections::HashMap;

/// Losses among working machines beyond this are priced as this many.
const MOST_LOST: u32 = 8;
/// Numbers of machines considered around the present one.
const BELOW: u32 = 16;
const ABOVE: u32 = 8;
/// With more layouts than this only those worth a thought are considered.
const MANY_LAYOUTS: usize = 80;
/// A layout is worth a thought if it trains at least this share of the best that needs no more machines.
const NEAR_BEST: f64 = 0.95;

/// Chances that r of k victims among m machines are among the w working ones, each worked out once.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits(HashMap<(u32, u32), Vec<f64>>);

impl Hits {
    /// All r for one (m, w, k), k up to MOST_LOST; more victims are taken as that many.
    fn of(&mut self, chances: &Chances, machines: u32, working: u32, lost: u32) -> &[f64] {
        let side = MOST_LOST as usize + 1;
        let table = self.0.entry((machines, working)).or_insert_with(|| {
            let cells = (0..side * side)
                .map(|cell| chances.hit(machines, working, (cell / side) as u32, (cell % side) as u32));
            cells.collect()
        });
        let row = lost.min(MOST_LOST) as usize;
        &table[row * side..(row + 1) * side]
    }
}

/// What may come of a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    chance: f64,
    /// Losses among the working machines.
    hit: usize,
    /// Row of the machines there are then.
    row: usize,
}

/// States: (row of machines, place of a layout), numbered `row * layouts + place`.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) lowest: u32,
    pub(super) highest: u32,
    /// Layouts considered, by their numbers in `Prices`, by machines; idle is at place 0.
    pub(super) layouts: Vec<usize>,
    /// `rewards[r][c * layouts + a]`: R_r(c, a).
    rewards: Vec<Vec<f64>>,
    /// `adapted[row * layouts + a]`: what becomes of layout a.
    adapted: Vec<usize>,
}

impl Space {
    pub(super) fn new(prices: &mut Prices<'_>, interval_s: f64, machines: u32, present: Layout) -> Space {
        let (lowest, highest) = (machines.saturating_sub(BELOW), machines + ABOVE);
        let layouts = worth_a_thought(prices, lowest, highest, present);
        let rewards = rewards(prices, interval_s, &layouts);
        let prices: &Prices<'_> = prices;
        let place = |layout: Layout| layouts.binary_search(&prices.index(layout)).unwrap_or(0);
        let row = |machines: u32| {
            let become_of =
                move |&number: &usize| place(adapt(prices.costs(), prices.layouts()[number], machines));
            layouts.iter().map(become_of).collect::<Vec<usize>>()
        };
        let adapted = (lowest..=highest).flat_map(row).collect();
        Space { lowest, highest, layouts, rewards, adapted }
    }

    pub(super) fn states(&self) -> usize {
        (self.highest - self.lowest + 1) as usize * self.layouts.len()
    }

    /// The state of a layout (by number) on `machines`, or on the nearest number considered; none for a layout that is not.
    pub(super) fn state(&self, machines: u32, number: usize) -> Option<usize> {
        let place = self.layouts.binary_search(&number).ok()?;
        Some(self.row(machines) * self.layouts.len() + place)
    }

    fn row(&self, machines: u32) -> usize {
        (machines.clamp(self.lowest, self.highest) - self.lowest) as usize
    }

    /// Places of the layouts that fit; idle's if none does.
    pub(super) fn fitting(&self, prices: &Prices<'_>, machines: u32) -> std::ops::Range<usize> {
        let end = self.layouts.partition_point(|&number| prices.layouts()[number].machines() <= machines);
        if end <= 1 { 0..1 } else { 1..end }
    }

    /// What may come of every state.
    pub(super) fn outcomes(
        &self,
        prices: &Prices<'_>,
        hits: &mut Hits,
        outlook: &Outlook,
    ) -> Vec<Vec<Outcome>> {
        let mut all = Vec::with_capacity(self.states());
        for machines in self.lowest..=self.highest {
            let draws = draws(outlook, machines, self.highest);
            for &number in &self.layouts {
                let working = prices.layouts()[number].machines().min(machines);
                all.push(self.outcomes_of(prices, hits, &draws, machines, working));
            }
        }
        all
    }

    fn outcomes_of(
        &self,
        prices: &Prices<'_>,
        hits: &mut Hits,
        draws: &[(f64, u32, u32)],
        machines: u32,
        working: u32,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for &(chance, lost, after) in draws {
            let hits = hits.of(prices.costs().chances(), machines, working, lost);
            for (hit, &share) in hits.iter().enumerate() {
                if chance * share >= NEGLIGIBLE {
                    outcomes.push(Outcome { chance: chance * share, hit, row: self.row(after) });
                }
            }
        }
        outcomes
    }

    /// V one interval earlier than `values`.
    pub(super) fn before(
        &self,
        prices: &Prices<'_>,
        timing: Timing,
        outcomes: &[Vec<Outcome>],
        values: &[f64],
    ) -> Vec<f64> {
        match timing {
            Timing::AfterDraw => self.choose_after(prices, outcomes, values),
            Timing::BeforeDraw => self.choose_before(outcomes, values),
        }
    }

    fn choose_after(&self, prices: &Prices<'_>, outcomes: &[Vec<Outcome>], values: &[f64]) -> Vec<f64> {
        let count = self.layouts.len();
        // best[r][row * count + c]: the maximum over a of R_r(c, a) + V(row, a)
        let best_of = |rewards: &Vec<f64>| {
            let mut best = Vec::with_capacity(values.len());
            for machines in self.lowest..=self.highest {
                let row = &values[self.row(machines) * count..][..count];
                let fit = self.fitting(prices, machines);
                for c in 0..count {
                    let rewards = &rewards[c * count..][fit.clone()];
                    let options = rewards.iter().zip(&row[fit.clone()]).map(|(reward, value)| reward + value);
                    best.push(options.fold(f64::NEG_INFINITY, f64::max));
                }
            }
            best
        };
        let best: Vec<Vec<f64>> = self.rewards.iter().map(best_of).collect();
        let value = |(state, outcomes): (usize, &Vec<Outcome>)| -> f64 {
            let c = state % count;
            outcomes.iter().map(|outcome| outcome.chance * best[outcome.hit][outcome.row * count + c]).sum()
        };
        outcomes.iter().enumerate().map(value).collect()
    }

    fn choose_before(&self, outcomes: &[Vec<Outcome>], values: &[f64]) -> Vec<f64> {
        let count = self.layouts.len();
        // after[row * count + wanted]: V of what becomes of the wanted layout
        let after: Vec<f64> =
            self.adapted.iter().enumerate().map(|(state, a)| values[state / count * count + a]).collect();
        let mut sums = vec![0.0; count];
        let value = |(state, outcomes): (usize, &Vec<Outcome>)| -> f64 {
            let c = state % count;
            sums.fill(0.0);
            for outcome in outcomes {
                let rewards = &self.rewards[outcome.hit][c * count..][..count];
                let (row, adapted) =
                    (&after[outcome.row * count..][..count], &self.adapted[outcome.row * count..][..count]);
                for (sum, (value, &a)) in sums.iter_mut().zip(row.iter().zip(adapted)) {
                    *sum += outcome.chance * (rewards[a] + value);
                }
            }
            sums.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        };
        outcomes.iter().enumerate().map(value).collect()
    }
}

/// R_r(c, a) for r up to [`MOST_LOST`]: the samples of an interval that begins with r losses among the working machines.
fn rewards(prices: &mut Prices<'_>, interval_s: f64, layouts: &[usize]) -> Vec<Vec<f64>> {
    let of = |lost: u32| {
        let mut rewards = Vec::with_capacity(layouts.len() * layouts.len());
        for &from in layouts {
            let working = prices.layouts()[from].machines();
            let row = prices.of(working, lost.min(working), from);
            rewards.extend(layouts.iter().map(|&to| prices.rate(to) * (interval_s - row[to] / 1000.0)));
        }
        rewards
    };
    (0..=MOST_LOST).map(of).collect()
}

/// Idle; all layouts if they are few; else those that no layout of fewer machines beats, and what they may shrink to.
fn worth_a_thought(prices: &Prices<'_>, lowest: u32, highest: u32, present: Layout) -> Vec<usize> {
    let all: Vec<usize> = prices.fitting(highest).filter(|&number| number > 0).collect();
    let mut worth: Vec<usize> = if all.len() <= MANY_LAYOUTS {
        all
    } else {
        let floor = prices.rate(prices.index(prices.costs().profile().best(lowest))) * 0.8;
        let mut best: f64 = floor;
        let near_best = all.into_iter().filter(|&number| {
            best = best.max(prices.rate(number));
            prices.rate(number) >= NEAR_BEST * best
        });
        let mut worth: Vec<usize> = near_best.collect();
        let shrunk =
            worth.iter().map(|&number| prices.layouts()[number]).chain([present]).flat_map(|layout| {
                (lowest..=highest).map(move |machines| adapt(prices.costs(), layout, machines))
            });
        let shrunk: Vec<usize> = shrunk.map(|layout| prices.index(layout)).collect();
        worth.extend(shrunk);
        worth
    };
    worth.push(0);
    worth.sort_unstable();
    worth.dedup();
    worth
}
