//! Migration to another number of stages: fetching what the *last* new stage misses (the published model charges that stage
//! alone).
//!
//! Each new stage, first to last, is given to the free surviving machine that already holds most of its layers. The time to
//! fetch depends on the numbers of stages and on the survivors of the last old stages, so each is worked out once.

use super::row::Row;
use super::{CostModel, Stages};
use crate::chance::Chances;
use std::collections::HashMap;
use std::ops::Range;

/// Victims are followed exactly in so many of the last stages; elsewhere a stage of several machines is taken to keep one.
const FOLLOWED: usize = 3;

/// So many times to fetch are kept in a row for one pair of numbers of stages.
const NEAR: usize = 4096;

/// What the followed stages may lose, first to last (of fewer stages the rest is 0), and the chance of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fall {
    lost: [u32; FOLLOWED],
    chance: f64,
}

/// Times to fetch that were worked out so far, by (old stages, new stages, old pipelines as far as they matter).
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetches(HashMap<(u32, u32, u32), Fetch>);

#[derive(Clone, Debug)]
struct Fetch {
    /// The first of the stages that are followed.
    first: usize,
    /// The most new stages that touch an old one.
    wanted: u32,
    /// More survivors of a stage than that do not matter.
    enough: u32,
    /// The new stages that touch none of the followed ones were dealt out.
    dealt: Dealt,
    /// By survivors of the followed stages, in base `enough + 1`: up to [`NEAR`], and beyond.
    known: Vec<f64>,
    beyond: HashMap<usize, f64>,
}

/// New stages dealt out to surviving machines, so far.
#[derive(Clone, Debug)]
struct Dealt {
    /// Free machines of each old stage.
    free: Vec<u32>,
    /// New stages dealt out.
    count: usize,
    /// The first old stage that the next one touches.
    near: usize,
    /// The first old stage with a free machine.
    lowest: usize,
}

impl Row {
    /// The mean time to fetch for `stages` new ones, of `known` numbers of stages the one at `at`.
    pub(super) fn fetch_ms(
        &mut self,
        costs: &CostModel,
        fetches: &mut Fetches,
        old: &Stages,
        new: &Stages,
        at: usize,
    ) -> f64 {
        if self.fetch_ms.is_empty() {
            self.fetch_ms = vec![f64::NAN; costs.stages.len()];
        }
        if self.fetch_ms[at].is_nan() {
            self.fetch_ms[at] = self.fetch_mean(costs, fetches, old, new);
        }
        self.fetch_ms[at]
    }

    fn fetch_mean(&mut self, costs: &CostModel, fetches: &mut Fetches, old: &Stages, new: &Stages) -> f64 {
        let have = self.from.pipelines;
        let fetch = fetches.of(old, new, have);
        // No set of victims can leave a stage with fewer machines than new stages want of it.
        if self.lost == 0 || have.saturating_sub(self.lost) >= fetch.wanted {
            return fetch.ms(costs, old, new, have, [0; FOLLOWED]);
        }
        if self.falls.is_empty() {
            self.falls = self.falls(costs.chances());
        }
        let mut sums = [0.0; FOLLOWED]; // over what the first stage loses, the first two, all
        let mut before = self.falls.first().map_or([0; FOLLOWED], |fall| fall.lost);
        for fall in &self.falls {
            let same = fall.lost.iter().zip(&before).take_while(|(now, before)| now == before).count();
            for level in ((same + 1)..FOLLOWED).rev() {
                sums[level - 1] += std::mem::take(&mut sums[level]);
            }
            sums[FOLLOWED - 1] += fall.chance * fetch.ms(costs, old, new, have, fall.lost);
            before = fall.lost;
        }
        sums.into_iter().rev().fold(0.0, |inner, sum| sum + inner)
    }

    /// All losses of the followed stages.
    fn falls(&self, chances: &Chances) -> Vec<Fall> {
        let mut falls = vec![(Fall { lost: [0; FOLLOWED], chance: 1.0 }, self.machines, self.lost)];
        let have = self.from.pipelines;
        for level in 0..FOLLOWED.min(self.from.stages as usize) {
            let mut next = Vec::with_capacity(4 * falls.len());
            for (fall, total, open) in falls {
                for hit in 0..=have.min(open) {
                    let chance = chances.hit(total, have, open, hit);
                    if chance * fall.chance < 1e-9 {
                        continue;
                    }
                    let mut lost = fall.lost;
                    lost[level] = hit;
                    let fall = Fall { lost, chance: fall.chance * chance };
                    next.push((fall, total.saturating_sub(have), open - hit));
                }
            }
            falls = next;
        }
        falls.into_iter().map(|(fall, ..)| fall).collect()
    }
}

/// How many new stages touch these layers.
fn touching(layers: &Range<usize>, new: &Stages) -> u32 {
    new.cut.iter().filter(|other| other.start < layers.end && layers.start < other.end).count() as u32
}

impl Fetches {
    fn of(&mut self, old: &Stages, new: &Stages, have: u32) -> &mut Fetch {
        // There are no more takers than new stages.
        let have = have.min(new.cut.len() as u32);
        let key = (old.cut.len() as u32, new.cut.len() as u32, have);
        self.0.entry(key).or_insert_with(|| Fetch::new(old, new, have))
    }
}

impl Fetch {
    fn new(old: &Stages, new: &Stages, have: u32) -> Fetch {
        let first = old.cut.len().saturating_sub(FOLLOWED);
        let wanted = old.cut.iter().map(|layers| touching(layers, new)).max().unwrap_or(0);
        // If the other stages can serve those that touch them, only those that touch a followed one take machines from it.
        let end = old.cut.last().map_or(0, |last| last.end);
        let enough = have.min(wanted.max(touching(&(old.cut[first].start..end), new)));
        let mut dealt = Dealt { free: vec![have; old.cut.len()], count: 0, near: 0, lowest: 0 };
        while new.cut.get(dealt.count).is_some_and(|layers| layers.end <= old.cut[first].start) {
            match dealt.next(old, new) {
                Some(stage) if stage < first => dealt.deal(Some(stage)),
                _ => break,
            }
        }
        let cases = (enough as usize + 1).pow(FOLLOWED.min(old.cut.len()) as u32);
        Fetch { first, wanted, enough, dealt, known: vec![f64::NAN; cases.min(NEAR)], beyond: HashMap::new() }
    }

    /// The time if the followed stages have lost `lost` of `have` machines each.
    fn ms(&mut self, costs: &CostModel, old: &Stages, new: &Stages, have: u32, lost: [u32; FOLLOWED]) -> f64 {
        let followed = old.cut.len() - self.first;
        let enough = self.enough;
        let left = |lost: u32| (have - lost).min(enough);
        let code = |at: usize, &lost: &u32| at * (enough as usize + 1) + left(lost) as usize;
        let at = lost[..followed].iter().fold(0, code);
        let known = match self.known.get_mut(at) {
            Some(known) => known,
            None => self.beyond.entry(at).or_insert(f64::NAN),
        };
        if known.is_nan() {
            let mut dealt = self.dealt.clone();
            for (free, lost) in dealt.free[self.first..].iter_mut().zip(lost) {
                *free = left(lost);
            }
            *known = costs.last_fetch_ms(old, new, dealt);
        }
        *known
    }
}

impl Dealt {
    /// The old stage whose machine the next new one is given to, if any is free.
    fn next(&mut self, old: &Stages, new: &Stages) -> Option<usize> {
        let layers = &new.cut[self.count];
        while self.near < self.free.len() && old.cut[self.near].end <= layers.start {
            self.near += 1;
        }
        let overlap = |stage: usize| {
            let (a, b) = (&old.cut[stage], layers);
            a.end.min(b.end).saturating_sub(a.start.max(b.start))
        };
        let touching = (self.near..self.free.len()).take_while(|&stage| old.cut[stage].start < layers.end);
        let touching = touching.filter(|&stage| self.free[stage] > 0 && overlap(stage) > 0);
        let best = touching.max_by_key(|&stage| (overlap(stage), std::cmp::Reverse(stage)));
        while self.lowest < self.free.len() && self.free[self.lowest] == 0 {
            self.lowest += 1;
        }
        best.or((self.lowest < self.free.len()).then_some(self.lowest))
    }

    /// Gives the next new stage away.
    fn deal(&mut self, stage: Option<usize>) {
        if let Some(stage) = stage {
            self.free[stage] -= 1;
        }
        self.count += 1;
    }
}

impl CostModel {
    /// The time to fetch what the machine of the last new stage misses, once the others are dealt out too.
    fn last_fetch_ms(&self, old: &Stages, new: &Stages, mut dealt: Dealt) -> f64 {
        let mut held = None;
        while dealt.count < new.cut.len() {
            held = dealt.next(old, new);
            dealt.deal(held);
        }
        let Some(last) = new.cut.last() else { return 0.0 };
        let missing = last.clone().filter(|layer| !held.is_some_and(|stage| old.cut[stage].contains(layer)));
        let parameters: f64 = missing.map(|layer| self.profile().layers[layer]).sum();
        self.profile().network.transfer_ms(parameters * self.profile().bytes_per_parameter)
    }
}
