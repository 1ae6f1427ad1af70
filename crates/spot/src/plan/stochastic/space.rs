//! The states of the decision process around the present number of machines, and one step back in time.

use super::{NEGLIGIBLE, Timing, draws};
use crate::Layout;
use crate::account::adapt;
use crate::chance::Chances;
use crate::forecast::Outlook;
use crate::plan::Prices;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Losses among working machines beyond this are priced as this many.
const MOST_LOST: u32 = 8;
/// Numbers of machines considered around the present one.
const BELOW: u32 = 16;
const ABOVE: u32 = 8;
/// Machines that may come or go in one interval, as far as V of the near future is concerned.
const SWING: u32 = 8;
/// With more layouts than this only those worth a thought are considered.
const MANY_LAYOUTS: usize = 80;
/// A layout is worth a thought if it trains at least this share of the best that needs no more machines.
const NEAR_BEST: f64 = 0.9;

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

/// What the interval may bring, worked out for every state.
#[derive(Clone, Debug)]
pub(super) struct Coming {
    /// `outcomes[state]`.
    outcomes: Vec<Vec<Outcome>>,
    /// `rows[row]`: where the machines go from there, with chances.
    rows: Vec<Vec<(f64, usize)>>,
    /// Before the draw, `rewards[state * actions + i]`: the mean of R_r(c, a') for action i.
    rewards: Vec<f64>,
}

/// States: (row of machines, place of a layout), numbered `row * layouts + place`.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) lowest: u32,
    pub(super) highest: u32,
    /// Layouts considered, by their numbers in `Prices`, by machines; idle is at place 0.
    pub(super) layouts: Vec<usize>,
    /// Places of the layouts worth choosing, by machines; others are only what those shrink to. Not idle's, unless nothing else is there.
    actions: Vec<usize>,
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
        let actions = worth_choosing(prices, &layouts);
        Space { lowest, highest, layouts, actions, rewards, adapted }
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

    /// Places of the layouts worth choosing that fit; idle's if none does.
    pub(super) fn fitting(&self, prices: &Prices<'_>, machines: u32) -> &[usize] {
        let fits = |&place: &usize| prices.layouts()[self.layouts[place]].machines() <= machines;
        let end = self.actions.partition_point(fits);
        if end == 0 { &[0] } else { &self.actions[..end] }
    }

    /// Numbers of machines that are likely `intervals` after there were `machines`.
    pub(super) fn around(&self, machines: u32, intervals: usize) -> RangeInclusive<u32> {
        let swing = SWING * intervals as u32;
        let machines = machines.clamp(self.lowest, self.highest);
        machines.saturating_sub(swing)..=machines + swing
    }

    /// All numbers of machines considered.
    pub(super) fn all(&self) -> RangeInclusive<u32> {
        self.lowest..=self.highest
    }

    /// What the interval may bring to the states of `among` these numbers of machines; to the others nothing, and
    /// their V is 0.
    pub(super) fn coming(
        &self,
        prices: &Prices<'_>,
        hits: &mut Hits,
        outlook: &Outlook,
        timing: Timing,
        among: RangeInclusive<u32>,
    ) -> Coming {
        let (mut outcomes, mut rows) = (Vec::with_capacity(self.states()), Vec::new());
        for machines in self.lowest..=self.highest {
            if !among.contains(&machines) {
                rows.push(Vec::new());
                outcomes.resize(outcomes.len() + self.layouts.len(), Vec::new());
                continue;
            }
            let draws = draws(outlook, machines, self.highest);
            rows.push(draws.iter().map(|&(chance, _, after)| (chance, self.row(after))).collect());
            for &number in &self.layouts {
                let working = prices.layouts()[number].machines().min(machines);
                outcomes.push(self.outcomes_of(prices, hits, &draws, machines, working));
            }
        }
        let mut coming = Coming { outcomes, rows, rewards: Vec::new() };
        if timing == Timing::BeforeDraw {
            coming.rewards = self.mean_rewards(prices, &coming.outcomes);
        }
        coming
    }

    /// The mean of R_r(c, a') over the outcomes of every state, for every action.
    fn mean_rewards(&self, prices: &Prices<'_>, outcomes: &[Vec<Outcome>]) -> Vec<f64> {
        let count = self.layouts.len();
        let mut means = Vec::with_capacity(outcomes.len() * self.actions.len());
        for (state, outcomes) in outcomes.iter().enumerate() {
            if outcomes.is_empty() {
                means.resize(means.len() + self.actions.len(), 0.0);
                continue;
            }
            let c = state % count;
            let fewest = outcomes.iter().map(|outcome| outcome.row).min().unwrap_or(0) as u32 + self.lowest;
            let mut chances = vec![0.0; self.rewards.len()]; // of r losses among the working machines
            outcomes.iter().for_each(|outcome| chances[outcome.hit] += outcome.chance);
            means.extend(self.actions.iter().map(|&a| -> f64 {
                if prices.layouts()[self.layouts[a]].machines() <= fewest {
                    return chances
                        .iter()
                        .zip(&self.rewards)
                        .map(|(chance, of)| chance * of[c * count + a])
                        .sum();
                }
                let reward = |outcome: &Outcome| {
                    let a = self.adapted[outcome.row * count + a];
                    outcome.chance * self.rewards[outcome.hit][c * count + a]
                };
                outcomes.iter().map(reward).sum()
            }));
        }
        means
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
        coming: &Coming,
        values: &[f64],
    ) -> Vec<f64> {
        match timing {
            Timing::AfterDraw => self.choose_after(prices, coming, values),
            Timing::BeforeDraw => self.choose_before(coming, values),
        }
    }

    fn choose_after(&self, prices: &Prices<'_>, coming: &Coming, values: &[f64]) -> Vec<f64> {
        let count = self.layouts.len();
        // best[r][row * count + c]: the maximum over a of R_r(c, a) + V(row, a)
        let best_of = |rewards: &Vec<f64>| {
            let mut best = Vec::with_capacity(values.len());
            for machines in self.lowest..=self.highest {
                let row = &values[self.row(machines) * count..][..count];
                let fit = self.fitting(prices, machines);
                for c in 0..count {
                    let rewards = &rewards[c * count..][..count];
                    let kept = if self.adapted[self.row(machines) * count + c] == c { c } else { fit[0] };
                    let options = fit.iter().chain([&kept]).map(|&a| rewards[a] + row[a]);
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
        coming.outcomes.iter().enumerate().map(value).collect()
    }

    /// What comes after does not depend on the layout before, what the interval trains not on what comes after: both are
    /// summed apart.
    fn choose_before(&self, coming: &Coming, values: &[f64]) -> Vec<f64> {
        let (count, actions) = (self.layouts.len(), self.actions.len());
        let mut after = Vec::with_capacity(coming.rows.len() * actions);
        for rows in &coming.rows {
            after.extend(self.actions.iter().map(|&a| -> f64 {
                let value = |&(chance, row): &(f64, usize)| {
                    chance * values[row * count + self.adapted[row * count + a]]
                };
                rows.iter().map(value).sum()
            }));
        }
        let value = |state: usize| {
            let (now, then) =
                (&coming.rewards[state * actions..][..actions], &after[state / count * actions..][..actions]);
            now.iter().zip(then).map(|(now, then)| now + then).fold(f64::NEG_INFINITY, f64::max)
        };
        (0..coming.outcomes.len()).map(value).collect()
    }
}

/// R_r(c, a) for r up to [`MOST_LOST`]: the samples of an interval that begins with r losses among the working machines.
fn rewards(prices: &mut Prices<'_>, interval_s: f64, layouts: &[usize]) -> Vec<Vec<f64>> {
    let of = |lost: u32| {
        let mut rewards = Vec::with_capacity(layouts.len() * layouts.len());
        for &from in layouts {
            let working = prices.layouts()[from].machines();
            let row = prices.of_some(working, lost.min(working), from, layouts);
            let each = layouts.iter().zip(row);
            rewards.extend(each.map(|(&to, ms)| prices.rate(to) * (interval_s - ms / 1000.0)));
        }
        rewards
    };
    (0..=MOST_LOST).map(of).collect()
}

/// Idle; all layouts if they are few; else those worth choosing, the present one, and what they may shrink to.
fn worth_a_thought(prices: &Prices<'_>, lowest: u32, highest: u32, present: Layout) -> Vec<usize> {
    let all: Vec<usize> = prices.fitting(highest).filter(|&number| number > 0).collect();
    let mut worth = all.clone();
    if all.len() > MANY_LAYOUTS {
        let floor = 0.8 * prices.rate(prices.index(prices.costs().profile().best(lowest)));
        let near = near_best(prices, all.into_iter()).filter(|&number| prices.rate(number) >= floor);
        let layouts: Vec<Layout> = near.map(|number| prices.layouts()[number]).chain([present]).collect();
        let shrunk =
            |layout: Layout| (lowest..=highest).map(move |machines| adapt(prices.costs(), layout, machines));
        worth = layouts.into_iter().flat_map(shrunk).map(|layout| prices.index(layout)).collect();
    }
    worth.extend([0, prices.index(present)]);
    worth.sort_unstable();
    worth.dedup();
    worth
}

/// Places of the layouts worth choosing; idle's alone if there is none.
fn worth_choosing(prices: &Prices<'_>, layouts: &[usize]) -> Vec<usize> {
    let near = near_best(prices, layouts.iter().copied().filter(|&number| number > 0));
    let places: Vec<usize> = near.filter_map(|number| layouts.binary_search(&number).ok()).collect();
    if places.is_empty() { vec![0] } else { places }
}

/// Of layouts by machines, those that train nearly as much as the best that needs no more machines.
fn near_best(prices: &Prices<'_>, numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    let mut best: f64 = 0.0;
    numbers.filter(move |&number| {
        best = best.max(prices.rate(number));
        prices.rate(number) >= NEAR_BEST * best
    })
}
