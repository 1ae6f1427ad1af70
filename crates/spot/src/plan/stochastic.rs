//! The best layout when the coming changes are known by their chances alone.
//!
//! A Markov decision process: state = (machines, layout), each interval loses k and gains g machines with the chances of an
//! [`Outlook`], and a layout is chosen before the draw (no notice) or after it (notice at the event). With R_r(c, a) the samples of an
//! interval that changes from layout c to a when r working machines of c were lost,
//!
//! ```text
//! after the draw:  V_h(m, c) = E_{m', r} [ max_{a fits m'} R_r(c, a) + V_{h-1}(m', a) ]
//! before it:       V_h(m, c) = max_a E_{m', r} [ R_r(c, a') + V_{h-1}(m', a') ],   a' = a adapted to m'
//! ```
//!
//! V is worked out when the outlook has changed and looked up in between. What a machine's loss costs depends on the losses among the
//! working machines alone, so R_r is worked out once for each r and not for each number of machines. A migration that outlasts
//! its interval counts as negative training in V; the first step of a decision is priced exactly.

mod space;
mod worth;

use super::{Aim, Due, Prices};
use crate::account::{Standing, adapt, total_ms};
use crate::cost::Step;
use crate::forecast::Outlook;
use crate::{Interval, Layout};
use space::{Hits, Space};
use std::ops::RangeInclusive;

/// So many intervals after the certain ones have chances of their own; later ones share one outlook.
const NEAR: usize = 1;
/// Chances below this are left out of V.
const NEGLIGIBLE: f64 = 1e-4;

/// With more layouts than this only those worth a thought are considered.
const MANY_LAYOUTS: usize = 80;

/// When a layout is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Before it is known what the interval brings.
    BeforeDraw,
    /// After.
    AfterDraw,
}

/// The states considered, and V of the far future.
#[derive(Clone, Debug)]
struct Solved {
    /// The chances V was worked out for.
    outlook: Outlook,
    space: Space,
    /// What an interval of every layout was worth less.
    tolls: Vec<f64>,
    /// `far[h]`: samples in h intervals with the chances of `outlook`, of every state.
    far: Vec<Vec<f64>>,
}

/// Plans with chances.
#[derive(Clone, Debug)]
pub struct Stochastic<'a> {
    prices: Prices<'a>,
    interval_s: f64,
    horizon: usize,
    timing: Timing,
    /// With more layouts only those worth a thought are considered.
    all_up_to: usize,
    aim: Aim,
    hits: Hits,
    solved: Option<Solved>,
    /// V of the interval after the certain ones.
    near: Vec<f64>,
}

/// A candidate and what is expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The layout.
    pub layout: Layout,
    /// Samples expected over the horizon.
    pub samples: f64,
}

impl<'a> Stochastic<'a> {
    /// A planner for intervals of `interval_s` seconds that looks `horizon` of them ahead (at least 4).
    pub fn new(prices: Prices<'a>, interval_s: f64, horizon: usize, timing: Timing) -> Stochastic<'a> {
        let horizon = horizon.max(NEAR + 2);
        Stochastic {
            prices,
            interval_s,
            horizon,
            timing,
            all_up_to: MANY_LAYOUTS,
            aim: Aim::Samples,
            hits: Hits::default(),
            solved: None,
            near: Vec::new(),
        }
    }

    /// The same that considers all layouts of a table of up to `layouts` (default: 80). Of larger tables it considers those
    /// that train nearly as much as the best and fill the machines there may be, and what they may shrink to.
    pub fn considering(self, layouts: usize) -> Stochastic<'a> {
        Stochastic { all_up_to: layouts, solved: None, ..self }
    }

    /// How many layouts the last decision considered.
    pub fn considered(&self) -> usize {
        self.solved.as_ref().map_or(0, |solved| solved.space.layouts.len())
    }

    /// Aims at something else from now on; the samples of a [`Candidate`] are then what [`Aim`] makes of them.
    pub fn aim(&mut self, aim: Aim) {
        self.aim = aim;
    }

    /// The layouts by number, their rates and costs.
    pub fn prices(&self) -> &Prices<'a> {
        &self.prices
    }

    /// Every layout worth a thought for the next interval, best first; never empty.
    ///
    /// `certain` are the coming intervals that are known: none before the draw, one or two after it. `outlooks` are the
    /// chances of those that follow; the last one stands for all later ones. `outlooks` is not empty.
    pub fn candidates(
        &mut self,
        standing: Standing,
        machines: u32,
        certain: &[Interval],
        outlooks: &[Outlook],
    ) -> Vec<Candidate> {
        let known = certain.last().map_or(machines, Interval::after);
        let far = &outlooks[outlooks.len() - 1];
        self.solve_far(known, standing.layout, far);
        let mut all = match certain {
            [] => {
                let highest = self.solved.as_ref().map_or(machines, |solved| solved.space.highest);
                let draws = draws(&outlooks[0], machines, highest);
                let after = |end: fn(u32, u32) -> u32| draws.iter().map(|draw| draw.2).reduce(end);
                let among = after(u32::min).unwrap_or(machines)..=after(u32::max).unwrap_or(machines);
                let next = &outlooks[1.min(outlooks.len() - 1)];
                self.solve_near(next, self.horizon - 1, among, Some(standing.layout));
                self.before_draw(standing, machines, &draws)
            }
            [first, more @ ..] => {
                self.solve_near(&outlooks[0], self.horizon - certain.len(), known..=known, None);
                self.after_draw(standing, *first, more, self.aim.due())
            }
        };
        all.sort_by(|a, b| b.samples.total_cmp(&a.samples));
        all
    }

    /// Samples of the first interval, in which `step`, to the layout of that number, costs `cost_ms`.
    fn reward(&self, standing: Standing, step: Step, number: usize, cost_ms: f64) -> f64 {
        let total = total_ms(self.prices.costs(), standing.owed_ms, step.to, cost_ms, step.change());
        self.prices.rate(number) * (self.interval_s - total / 1000.0)
    }

    /// What becomes of a layout on `machines`: its number, and V then.
    fn become_of(&self, number: usize, layout: Layout, machines: u32) -> (usize, f64) {
        let space = self.solved.as_ref().map(|solved| &solved.space);
        let known = space.and_then(|space| {
            let place = space.layouts.binary_search(&number).ok()?;
            let (adapted, first) = space.adapted(machines)?;
            Some((space.layouts[adapted[place]], self.near[first + adapted[place]]))
        });
        known.unwrap_or_else(|| {
            let to = adapt(self.prices.costs(), layout, machines);
            (self.prices.index(to), self.value(machines, to))
        })
    }

    /// Before `draws` of (chance, lost, machines after).
    fn before_draw(
        &mut self,
        standing: Standing,
        machines: u32,
        draws: &[(f64, u32, u32)],
    ) -> Vec<Candidate> {
        let from = self.prices.index(standing.layout);
        let most = draws.iter().map(|draw| draw.1).max().unwrap_or(0);
        let mut lines: Vec<_> = (0..=most).map(|lost| self.prices.take(machines, lost, from)).collect();
        let highest = self.solved.as_ref().map_or(machines, |solved| solved.space.highest);
        let mut candidates = Vec::new();
        for wanted in self.actions(highest, standing.layout) {
            let number = self.prices.index(wanted);
            let mut samples = 0.0;
            for &(chance, lost, after) in draws {
                let (number, value) = self.become_of(number, wanted, after);
                let to = self.prices.layouts()[number];
                let step = Step { machines, lost, from: standing.layout, to };
                let cost_ms = self.prices.price(&mut lines[lost as usize], number);
                let reward = self.reward(standing, step, number, cost_ms);
                let (reward, due) = self.aim.now(number, reward, self.aim.due());
                samples += chance * (reward + self.later(after, value, due));
            }
            candidates.push(Candidate { layout: wanted, samples });
        }
        (0..).zip(lines).for_each(|(lost, line)| self.prices.put(machines, lost, from, line));
        candidates
    }

    fn after_draw(
        &mut self,
        standing: Standing,
        first: Interval,
        more: &[Interval],
        due: Due,
    ) -> Vec<Candidate> {
        let kept = adapt(self.prices.costs(), standing.layout, first.after());
        let from = self.prices.index(standing.layout);
        let actions = self.actions(first.after(), kept);
        let numbers: Vec<usize> = actions.iter().map(|&to| self.prices.index(to)).collect();
        let row = self.prices.of(first.before, first.removed, from, &numbers);
        let each = actions.into_iter().zip(row).map(|(to, cost_ms)| {
            let step = Step { machines: first.before, lost: first.removed, from: standing.layout, to };
            let number = self.prices.index(to);
            let reward = self.reward(standing, step, number, cost_ms);
            let (mut samples, due) = self.aim.now(number, reward, due);
            let standing = Standing { layout: to, owed_ms: 0.0 };
            samples += match more.split_first() {
                None => self.later(first.after(), self.value(first.after(), to), due),
                Some((second, more)) => {
                    let best =
                        self.after_draw(standing, *second, more, due).into_iter().map(|then| then.samples);
                    best.fold(f64::NEG_INFINITY, f64::max)
                }
            };
            Candidate { layout: to, samples }
        });
        each.collect()
    }

    /// Layouts worth choosing on `machines`, and the one kept; idle if none fits.
    fn actions(&self, machines: u32, kept: Layout) -> Vec<Layout> {
        let Some(solved) = &self.solved else { return vec![Layout::IDLE] };
        let fitting = solved.space.fitting(machines);
        let mut actions: Vec<Layout> =
            fitting.iter().map(|&place| self.prices.layouts()[solved.space.layouts[place]]).collect();
        if !kept.is_idle() && !actions.contains(&kept) {
            actions.push(kept);
        }
        if self.aim.may_wait() && !actions.contains(&Layout::IDLE) {
            actions.push(Layout::IDLE);
        }
        actions
    }

    /// V of the interval after the certain ones; of the nearest state that was worked out.
    fn value(&self, machines: u32, layout: Layout) -> f64 {
        let Some(solved) = &self.solved else { return 0.0 };
        let state = solved.space.state(machines, self.prices.index(layout));
        state.map_or(0.0, |state| self.near[state])
    }

    /// The value of what follows on `machines` with a layout whose V is `value`.
    fn later(&self, machines: u32, value: f64, due: Due) -> f64 {
        let most = || {
            let layouts = self.prices.layouts();
            let fitting = self.solved.iter().flat_map(|solved| {
                let places = solved.space.fitting(machines).iter();
                places.map(|&place| layouts[solved.space.layouts[place]])
            });
            fitting.map(|layout| self.value(machines, layout)).fold(0.0, f64::max)
        };
        self.aim.later(machines, value, most, due)
    }

    /// True if those of `tolls` are what the aim says, to one per cent of the largest.
    fn are_tolls(&self, tolls: &[f64]) -> bool {
        let now = self.aim.tolls();
        let near = 0.01 * now.iter().copied().fold(0.0, f64::max);
        now.len() == tolls.len() && now.iter().zip(tolls).all(|(now, toll)| (now - toll).abs() <= near)
    }

    /// Works out V of the far future if the last one does not serve.
    fn solve_far(&mut self, machines: u32, present: Layout, outlook: &Outlook) {
        let number = self.prices.index(present);
        let serves = |solved: &Solved| {
            let space = &solved.space;
            (space.lowest == 0 || space.lowest + 6 <= machines)
                && machines + 4 <= space.highest
                && space.layouts.contains(&number)
                && self.are_tolls(&solved.tolls)
                && distance(&solved.outlook, outlook) < 0.05
        };
        if self.solved.as_ref().is_some_and(serves) {
            return;
        }
        let space =
            Space::new(&mut self.prices, self.interval_s, machines, present, self.all_up_to, &self.aim);
        let mut far = vec![vec![0.0; space.states()]];
        let coming = space.coming(&self.prices, &mut self.hits, outlook, self.timing, space.all(), None);
        for h in 0..self.horizon {
            far.push(space.before(self.timing, &coming, &far[h]));
        }
        let tolls = self.aim.tolls().to_vec();
        self.solved = Some(Solved { outlook: outlook.clone(), space, tolls, far });
    }

    /// Works out V with `horizon` intervals to go, the first of them with chances of their own, for the numbers of machines `among`.
    /// With `present` only for what a choice may come to from there.
    fn solve_near(
        &mut self,
        outlook: &Outlook,
        horizon: usize,
        among: RangeInclusive<u32>,
        present: Option<Layout>,
    ) {
        let Some(Solved { space, far, .. }) = &self.solved else { return };
        let values = &far[horizon - NEAR];
        let coming = space.coming(&self.prices, &mut self.hits, outlook, self.timing, among, present);
        self.near = space.before(self.timing, &coming, values);
    }
}

/// Total variation between two outlooks: losses plus gains.
fn distance(a: &Outlook, b: &Outlook) -> f64 {
    let apart = |a: &[f64], b: &[f64]| -> f64 {
        let at = |chances: &[f64], k: usize| chances.get(k).copied().unwrap_or(0.0);
        (0..a.len().max(b.len())).map(|k| (at(a, k) - at(b, k)).abs()).sum::<f64>() / 2.0
    };
    apart(&a.lost, &b.lost) + apart(&a.gained, &b.gained)
}

/// What an interval may bring to `machines`: (chance, lost, machines after); nothing goes above `highest`.
fn draws(outlook: &Outlook, machines: u32, highest: u32) -> Vec<(f64, u32, u32)> {
    let mut all = Vec::new();
    for (lost, &lose) in outlook.lost.iter().enumerate() {
        for (gained, &gain) in outlook.gained.iter().enumerate() {
            let chance = lose * gain;
            if chance >= NEGLIGIBLE {
                let lost = (lost as u32).min(machines);
                all.push((chance, lost, (machines - lost + gained as u32).min(highest.max(machines))));
            }
        }
    }
    let total: f64 = all.iter().map(|draw| draw.0).sum();
    all.iter_mut().for_each(|draw| draw.0 /= total);
    all
}
