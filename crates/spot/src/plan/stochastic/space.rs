//! The states of the decision process around the present number of machines, and one step back in time.

use super::worth::{worth_a_thought, worth_choosing};
use super::{NEGLIGIBLE, Timing, draws};
use crate::Layout;
use crate::account::adapt;
use crate::chance::Chances;
use crate::forecast::Outlook;
use crate::plan::{Aim, Prices};
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// Losses among working machines beyond this are priced as this many.
const MOST_LOST: u32 = 8;
/// Numbers of machines considered around the present one.
const BELOW: u32 = 16;
const ABOVE: u32 = 8;
/// Chances that r of k victims among m machines are among the w working ones, each worked out once.
#[derive(Clone, Debug, Default)]
pub(super) struct Hits(HashMap<(u32, u32), Vec<f64>>);

/// Entries of a row of [`Hits`]: no loss, up to MOST_LOST.
const SIDE: usize = MOST_LOST as usize + 1;

impl Hits {
    /// All rows for one (m, w): row k, up to MOST_LOST; more victims are taken as that many.
    fn of(&mut self, chances: &Chances, machines: u32, working: u32) -> &[f64] {
        self.0.entry((machines, working)).or_insert_with(|| {
            let cells = (0..SIDE * SIDE)
                .map(|cell| chances.hit(machines, working, (cell / SIDE) as u32, (cell % SIDE) as u32));
            cells.collect()
        })
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
    /// `outcomes[row * kinds + kind]`: layouts of one number of machines are of one kind.
    outcomes: Vec<Vec<Outcome>>,
    /// `rows[row]`: where the machines go from there, with chances.
    rows: Vec<Vec<(f64, usize)>>,
    /// Before the draw, `rewards[state * actions + i]`: the mean of R_r(c, a') for action i.
    rewards: Vec<f64>,
    /// `wanted[state]`: its V is asked for.
    wanted: Vec<bool>,
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
    /// `kinds[place]`: layouts of as many machines have the same number; the last is the number of kinds less one.
    kinds: Vec<usize>,
    /// `fit[row]`: how many of the actions fit, the first ones.
    fit: Vec<usize>,
    /// `useful[row]`: if no more machines than that may be there, the actions from this one on shrink to what others do.
    useful: Vec<usize>,
    /// `rewards[r][c * layouts + a]`: R_r(c, a).
    rewards: Vec<Vec<f64>>,
    /// `chosen[r][c * actions + i]`: the same for the actions alone.
    chosen: Vec<Vec<f64>>,
    /// `adapted[row * layouts + a]`: what becomes of layout a.
    adapted: Vec<usize>,
}

impl Space {
    /// Around `machines`, with all layouts if they are at most `all_up_to`, rewarded as `aim` says.
    pub(super) fn new(
        prices: &mut Prices<'_>,
        interval_s: f64,
        machines: u32,
        present: Layout,
        all_up_to: usize,
        aim: &Aim,
    ) -> Space {
        let (lowest, highest) = (machines.saturating_sub(BELOW), machines + ABOVE);
        let layouts = worth_a_thought(prices, lowest..=highest, present, all_up_to, aim.may_wait());
        let mut rewards = rewards(prices, interval_s, &layouts);
        if !aim.tolls().is_empty() {
            let tolls: Vec<f64> = layouts.iter().map(|&number| aim.tolls()[number]).collect();
            let rows = rewards.iter_mut().flat_map(|rewards| rewards.chunks_mut(layouts.len()));
            rows.flat_map(|row| row.iter_mut().zip(&tolls)).for_each(|(reward, toll)| *reward -= toll);
        }
        let prices: &Prices<'_> = prices;
        let place = |layout: Layout| layouts.binary_search(&prices.index(layout)).unwrap_or(0);
        let row = |machines: u32| {
            let become_of =
                move |&number: &usize| place(adapt(prices.costs(), prices.layouts()[number], machines));
            layouts.iter().map(become_of).collect::<Vec<usize>>()
        };
        let adapted = (lowest..=highest).flat_map(row).collect();
        let actions = worth_choosing(prices, &layouts, aim.may_wait());
        let of_actions = |all: &Vec<f64>| {
            all.chunks(layouts.len()).flat_map(|row| actions.iter().map(|&a| row[a])).collect::<Vec<f64>>()
        };
        let chosen = rewards.iter().map(of_actions).collect();
        let mut kinds = vec![0; layouts.len()];
        for place in 1..layouts.len() {
            let machines = |place: usize| prices.layouts()[layouts[place]].machines();
            kinds[place] = kinds[place - 1] + usize::from(machines(place) != machines(place - 1));
        }
        let machines_of = |&place: &usize| prices.layouts()[layouts[place]].machines();
        let fit = (lowest..=highest)
            .map(|machines| actions.partition_point(|place| machines_of(place) <= machines))
            .collect();
        let useful = (lowest..=highest).map(|most| useful(prices, &layouts, &actions, most)).collect();
        Space { lowest, highest, layouts, actions, kinds, fit, useful, rewards, chosen, adapted }
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

    /// Places of the layouts worth choosing that fit on `machines`, or on the nearest number considered; idle's if none does.
    pub(super) fn fitting(&self, machines: u32) -> &[usize] {
        let end = self.fit[self.row(machines)];
        if end == 0 { &[0] } else { &self.actions[..end] }
    }

    /// By place what becomes of the layouts on `machines`, and their states; none if that number is not considered.
    pub(super) fn adapted(&self, machines: u32) -> Option<(&[usize], usize)> {
        let (row, count) = (self.row(machines), self.layouts.len());
        self.all().contains(&machines).then(|| (&self.adapted[row * count..][..count], row * count))
    }

    /// All numbers of machines considered.
    pub(super) fn all(&self) -> RangeInclusive<u32> {
        self.lowest..=self.highest
    }

    /// What the interval may bring to the states of `among` these numbers of machines, or the nearest considered; to the others
    /// nothing, and their V is 0. With `present` only those states are of interest that a choice may come to from there.
    pub(super) fn coming(
        &self,
        prices: &Prices<'_>,
        hits: &mut Hits,
        outlook: &Outlook,
        timing: Timing,
        among: RangeInclusive<u32>,
        present: Option<Layout>,
    ) -> Coming {
        let (count, kinds) = (self.layouts.len(), self.kinds[self.kinds.len() - 1] + 1);
        let considered = |machines: &u32| (*machines).clamp(self.lowest, self.highest);
        let among = considered(among.start())..=considered(among.end());
        let wanted = self.wanted(among.clone(), present.map(|layout| prices.index(layout)));
        let mut rows = vec![Vec::new(); self.fit.len()];
        let mut outcomes = vec![Vec::new(); rows.len() * kinds];
        for machines in among {
            let (row, draws) = (self.row(machines), draws(outlook, machines, self.highest));
            let mut after = vec![0.0; rows.len()];
            draws.iter().for_each(|&(chance, _, machines)| after[self.row(machines)] += chance);
            let likely = after.into_iter().enumerate().filter(|(_, chance)| *chance > 0.0);
            rows[row] = likely.map(|(row, chance)| (chance, row)).collect();
            for place in (0..count).filter(|place| wanted[row * count + place]) {
                let outcomes = &mut outcomes[row * kinds + self.kinds[place]];
                if outcomes.is_empty() {
                    let working = prices.layouts()[self.layouts[place]].machines().min(machines);
                    let table = hits.of(prices.costs().chances(), machines, working);
                    *outcomes = self.outcomes_of(table, &draws);
                }
            }
        }
        let mut coming = Coming { outcomes, rows, rewards: Vec::new(), wanted };
        if timing == Timing::BeforeDraw {
            coming.rewards = self.mean_rewards(&coming);
        }
        coming
    }

    /// The states of `among` these numbers of machines: all, or what the actions and the layout of that number become.
    fn wanted(&self, among: RangeInclusive<u32>, present: Option<usize>) -> Vec<bool> {
        let count = self.layouts.len();
        let mut wanted = vec![false; self.states()];
        for row in among.map(|machines| self.row(machines)) {
            let wanted = &mut wanted[row * count..][..count];
            let Some(number) = present else {
                wanted.fill(true);
                continue;
            };
            let place = self.layouts.binary_search(&number).unwrap_or(0);
            let adapted = &self.adapted[row * count..][..count];
            self.actions.iter().chain([&place]).for_each(|&place| wanted[adapted[place]] = true);
        }
        wanted
    }

    /// The outcomes of a layout whose losses are those of `table`, one for each (losses among the working, machines then).
    fn outcomes_of(&self, table: &[f64], draws: &[(f64, u32, u32)]) -> Vec<Outcome> {
        let row_of = |draw: &(f64, u32, u32)| self.row(draw.2);
        let first = draws.iter().map(row_of).min().unwrap_or(0);
        let rows = draws.iter().map(row_of).max().unwrap_or(0) + 1 - first;
        let mut chances = vec![0.0; SIDE * rows];
        for draw in draws {
            let hits = &table[draw.1.min(MOST_LOST) as usize * SIDE..][..SIDE];
            for (hit, share) in hits.iter().enumerate().filter(|(_, share)| draw.0 * **share >= NEGLIGIBLE) {
                chances[hit * rows + row_of(draw) - first] += draw.0 * share;
            }
        }
        let likely = chances.into_iter().enumerate().filter(|(_, chance)| *chance > 0.0);
        likely.map(|(at, chance)| Outcome { chance, hit: at / rows, row: first + at % rows }).collect()
    }

    /// What may come of a state.
    fn outcomes<'c>(&self, coming: &'c [Vec<Outcome>], state: usize) -> &'c [Outcome] {
        let (count, kinds) = (self.layouts.len(), self.kinds[self.kinds.len() - 1] + 1);
        &coming[state / count * kinds + self.kinds[state % count]]
    }

    /// The mean of R_r(c, a') over the outcomes of every state whose V is asked for, for every action.
    fn mean_rewards(&self, coming: &Coming) -> Vec<f64> {
        let (count, actions) = (self.layouts.len(), self.actions.len());
        let mut means = vec![0.0; self.states() * actions];
        for (state, means) in means.chunks_mut(actions).enumerate().filter(|(state, _)| coming.wanted[*state])
        {
            let outcomes = self.outcomes(&coming.outcomes, state);
            let (fewest, most) = outcomes
                .iter()
                .fold((usize::MAX, 0), |(a, b), outcome| (a.min(outcome.row), b.max(outcome.row)));
            if outcomes.is_empty() {
                continue;
            }
            let (means, needless) = means.split_at_mut(self.useful[most]);
            needless.fill(f64::NEG_INFINITY);
            let (c, fit) = (state % count, self.fit[fewest]);
            let mut chances = [0.0; SIDE]; // of r losses among the working machines
            outcomes.iter().for_each(|outcome| chances[outcome.hit] += outcome.chance);
            for (chance, of) in chances.iter().zip(&self.chosen).filter(|(chance, _)| **chance > 0.0) {
                add(&mut means[..fit], *chance, &of[c * actions..]);
            }
            // The others shrink where they do not fit.
            for &Outcome { chance, hit, row } in outcomes {
                let fits = self.fit[row].max(fit);
                add(&mut means[fit..fits], chance, &self.chosen[hit][c * actions + fit..]);
                let (adapted, rewards) =
                    (&self.adapted[row * count..][..count], &self.rewards[hit][c * count..][..count]);
                let each = means[fits..].iter_mut().zip(&self.actions[fits..]);
                each.for_each(|(mean, &a)| *mean += chance * rewards[adapted[a]]);
            }
        }
        means
    }

    /// V one interval earlier than `values`.
    pub(super) fn before(&self, timing: Timing, coming: &Coming, values: &[f64]) -> Vec<f64> {
        match timing {
            Timing::AfterDraw => self.choose_after(coming, values),
            Timing::BeforeDraw => self.choose_before(coming, values),
        }
    }

    fn choose_after(&self, coming: &Coming, values: &[f64]) -> Vec<f64> {
        let (count, actions) = (self.layouts.len(), self.actions.len());
        let of_actions: Vec<f64> =
            values.chunks(count).flat_map(|row| self.actions.iter().map(|&a| row[a])).collect();
        let fit = &self.fit;
        // The maximum over a of R_r(c, a) + V(row, a), each when it is first wanted.
        let mut known = vec![f64::NAN; self.rewards.len() * values.len()];
        let mut best = |hit: usize, row: usize, c: usize| {
            let slot = &mut known[hit * values.len() + row * count + c];
            if slot.is_nan() {
                let rewards = &self.chosen[hit][c * actions..][..fit[row]];
                let choice = highest_sum(rewards, &of_actions[row * actions..][..fit[row]]);
                let stays = self.adapted[row * count + c] == c;
                let kept = if stays {
                    c
                } else if fit[row] == 0 {
                    0
                } else {
                    self.actions[0]
                };
                *slot = choice.max(self.rewards[hit][c * count + kept] + values[row * count + kept]);
            }
            *slot
        };
        let mut earlier = Vec::with_capacity(values.len());
        for state in 0..values.len() {
            let outcomes = self.outcomes(&coming.outcomes, state);
            let value = |outcome: &Outcome| outcome.chance * best(outcome.hit, outcome.row, state % count);
            earlier.push(outcomes.iter().map(value).sum());
        }
        earlier
    }

    /// What comes after does not depend on the layout before, what the interval trains not on what comes after: both are
    /// summed apart.
    fn choose_before(&self, coming: &Coming, values: &[f64]) -> Vec<f64> {
        let (count, actions) = (self.layouts.len(), self.actions.len());
        // What action i is worth when that many machines are left.
        let left: Vec<f64> = values
            .chunks(count)
            .zip(self.adapted.chunks(count))
            .flat_map(|(row, adapted)| self.actions.iter().map(|&a| row[adapted[a]]))
            .collect();
        let mut after = vec![0.0; coming.rows.len() * actions];
        for (rows, sums) in coming.rows.iter().zip(after.chunks_mut(actions)) {
            for &(chance, row) in rows {
                let left = &left[row * actions..][..actions];
                sums.iter_mut().zip(left).for_each(|(sum, value)| *sum += chance * value);
            }
        }
        let value = |state: usize| {
            if !coming.wanted[state] {
                return 0.0;
            }
            let (now, then) =
                (&coming.rewards[state * actions..][..actions], &after[state / count * actions..][..actions]);
            highest_sum(now, then)
        };
        (0..values.len()).map(value).collect()
    }
}

/// How many actions differ if there are at most `most` machines: the last ones shrink to what fewer pipelines of their P do too.
fn useful(prices: &Prices<'_>, layouts: &[usize], actions: &[usize], most: u32) -> usize {
    let layout = |place: &usize| prices.layouts()[layouts[*place]];
    let needless = |at: usize| {
        let large = layout(&actions[at]);
        let serves = |other: Layout| {
            other.stages == large.stages && !other.is_mixed() && other.machines() + other.stages > most
        };
        large.machines() > most
            && !large.is_mixed()
            && actions[..at].iter().any(|place| serves(layout(place)))
    };
    (0..actions.len()).rev().find(|&at| !needless(at)).map_or(0, |at| at + 1)
}

/// Adds `factor` times the first of `values` to `sums`.
fn add(sums: &mut [f64], factor: f64, values: &[f64]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

/// The highest of `a[i] + b[i]`; eight at a time, so that it vectorises.
fn highest_sum(a: &[f64], b: &[f64]) -> f64 {
    let higher = |a: f64, b: f64| if a > b { a } else { b };
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a + b);
    let rest = rest.fold(f64::NEG_INFINITY, higher);
    let mut best = [f64::NEG_INFINITY; 8];
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            best[lane] = higher(a[lane] + b[lane], best[lane]);
        }
    }
    best.into_iter().fold(rest, higher)
}

/// R_r(c, a) for r up to [`MOST_LOST`]: the samples of an interval that begins with r losses among the working machines.
fn rewards(prices: &mut Prices<'_>, interval_s: f64, layouts: &[usize]) -> Vec<Vec<f64>> {
    let of = |lost: u32| {
        let mut rewards = Vec::with_capacity(layouts.len() * layouts.len());
        for &from in layouts {
            let working = prices.layouts()[from].machines();
            let row = prices.of(working, lost.min(working), from, layouts);
            let each = layouts.iter().zip(row);
            rewards.extend(each.map(|(&to, ms)| prices.rate(to) * (interval_s - ms / 1000.0)));
        }
        rewards
    };
    (0..=MOST_LOST).map(of).collect()
}
