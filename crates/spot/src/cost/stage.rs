//! Migration with the same number of stages: none, intra-stage, inter-stage.

use super::row::{Row, Target};
use super::{CostModel, Stages};
use crate::chance::Chances;
use std::collections::BTreeMap;

/// With more losses the chances of each stage are not kept.
const FEW_LOST: u32 = 16;

/// What was found of the stages looked at so far: victims used, the longest copy to a stage that lacks machines, and the
/// copies of stages that nobody holds any more, one after another. Times are kept as bits, to be keys.
type Seen = (u32, u64, u64);

/// What the changes from one layout to others of as many stages have in common. It is the same for all that need more pipelines,
/// and for all that need so many fewer that no loss matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Same {
    /// The chance that no working machine was lost.
    untouched: Option<f64>,
    /// By pipelines that a stage may lose, one more; 0: more pipelines are wanted. (Chance that no stage lacks machines, mean
    /// of the copies otherwise.)
    known: Vec<Option<(f64, f64)>>,
    /// `chances[(stage * side + open) * side + hit]`, side = victims + 1.
    chances: Vec<f64>,
}

impl Same {
    pub(super) fn trim(&mut self) {
        self.chances = Vec::new();
    }
}

impl Row {
    /// The mean cost where P stays.
    ///
    /// Let j_s be what stage s loses. Nothing is to be done if D' = D and no j_s > 0; pairing anew is enough if D - j_s >= D'
    /// everywhere; otherwise the cost is max(longest copy to a lacking stage, sum of copies of stages without survivor) + R. Where
    /// machines that go hand over, no stage is without survivor, and the sum is left out.
    pub(super) fn same_stages_ms(&mut self, costs: &CostModel, to: &Target) -> f64 {
        let (have, want) = (self.from.pipelines, to.layout.pipelines);
        let class = if want > have { 0 } else { 1 + (have - want).min(self.lost) as usize };
        if self.same.known.len() <= class {
            self.same.known.resize(class + 1, None);
        }
        let known = self.same.known[class];
        let (within, copies) = known.unwrap_or_else(|| self.lacking(costs, want));
        self.same.known[class] = Some((within, copies));
        let none = if have == want { self.untouched(costs.chances()) } else { 0.0 };
        let intra = (within - none).max(0.0) * to.intra_ms;
        let lacking = 1.0 - within;
        if lacking <= 1e-12 { intra } else { intra + lacking * self.restart_ms(to) + copies }
    }

    fn untouched(&mut self, chances: &Chances) -> f64 {
        let (machines, lost, working) = (self.machines, self.lost, self.from.machines());
        let hit = || if lost == 0 { 1.0 } else { chances.hit(machines, working, lost, 0) };
        *self.same.untouched.get_or_insert_with(hit)
    }

    /// The chance that every stage keeps `want` machines, and the mean of the copying over all sets of victims (nothing is copied where
    /// no stage lacks machines).
    fn lacking(&mut self, costs: &CostModel, want: u32) -> (f64, f64) {
        let longest = |stages: &Stages| stages.longest_ms;
        let stages = costs.stages.get(&self.from.stages);
        if self.lost == 0 {
            let grows = want > self.from.pipelines;
            let copies = if grows { stages.map_or(0.0, longest) } else { 0.0 };
            return (if grows { 0.0 } else { 1.0 }, copies);
        }
        self.keep_chances(costs.chances());
        let most = self.from.pipelines.checked_sub(want);
        let within = most.map_or(0.0, |most| self.all_within(costs.chances(), most));
        let copies = match stages {
            Some(stages) if 1.0 - within > 1e-12 => self.copies_ms(costs, stages, want),
            _ => 0.0,
        };
        (within, copies)
    }

    /// Works out the chances of each stage, if they are few.
    fn keep_chances(&mut self, chances: &Chances) {
        if self.lost > FEW_LOST || !self.same.chances.is_empty() {
            return;
        }
        let side = self.lost + 1;
        let mut all = Vec::with_capacity((self.from.stages * side * side) as usize);
        for stage in 0..self.from.stages {
            let left = self.machines.saturating_sub(stage * self.from.pipelines);
            for open in 0..side {
                all.extend((0..side).map(|hit| chances.hit(left, self.from.pipelines, open, hit)));
            }
        }
        self.same.chances = all;
    }

    /// The chance that `stage` loses `hit` machines if `open` victims did not fall on those before it.
    fn chance(&self, chances: &Chances, stage: usize, open: u32, hit: u32) -> f64 {
        if self.same.chances.is_empty() {
            let left = self.machines.saturating_sub(stage as u32 * self.from.pipelines);
            return chances.hit(left, self.from.pipelines, open, hit);
        }
        let side = self.lost as usize + 1;
        self.same.chances[(stage * side + open as usize) * side + hit as usize]
    }

    /// The chance that no stage loses more than `most`: [`Chances::all_within`].
    fn all_within(&self, chances: &Chances, most: u32) -> f64 {
        let mut by_used = vec![0.0; self.lost as usize + 1]; // that so many victims were among the stages looked at
        by_used[0] = 1.0;
        let mut next = by_used.clone();
        for stage in 0..self.from.stages as usize {
            next.fill(0.0);
            for (used, &probability) in by_used.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                let open = self.lost - used as u32;
                for hit in 0..=most.min(open) {
                    next[used + hit as usize] += probability * self.chance(chances, stage, open, hit);
                }
            }
            std::mem::swap(&mut by_used, &mut next);
        }
        by_used.iter().sum()
    }

    fn copies_ms(&self, costs: &CostModel, stages: &Stages, want: u32) -> f64 {
        if costs.hands_over || self.from.pipelines > self.lost {
            return self.copies_of_held_ms(costs.chances(), stages, want);
        }
        let mut states: BTreeMap<Seen, f64> = [((0, 0, 0), 1.0)].into();
        for (stage, &copy_ms) in stages.copy_ms.iter().enumerate() {
            let mut next = BTreeMap::new();
            for ((used, longest, orphaned), probability) in states {
                self.each_hit(costs.chances(), stage, used, |hit, chance| {
                    let (mut longest, mut orphaned) = (f64::from_bits(longest), f64::from_bits(orphaned));
                    if self.from.pipelines - hit < want {
                        longest = longest.max(copy_ms);
                    }
                    if self.from.pipelines == hit {
                        orphaned += copy_ms;
                    }
                    let key = (used + hit, longest.to_bits(), orphaned.to_bits());
                    *next.entry(key).or_insert(0.0) += probability * chance;
                });
            }
            states = next;
        }
        let time = |seen: &Seen| f64::from_bits(seen.1).max(f64::from_bits(seen.2));
        states.iter().map(|(seen, probability)| probability * time(seen)).sum()
    }

    /// The same where some machine of every stage is left.
    fn copies_of_held_ms(&self, chances: &Chances, stages: &Stages, want: u32) -> f64 {
        let times = &stages.copy_times;
        let mut states = vec![0.0; (self.lost as usize + 1) * times.len()]; // by victims used, then by the longest copy
        states[0] = 1.0;
        let mut next = states.clone();
        for (stage, &time) in stages.copy_time.iter().enumerate() {
            next.fill(0.0);
            for (at, &probability) in states.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                let (used, longest) = (at / times.len(), at % times.len());
                self.each_hit(chances, stage, used as u32, |hit, chance| {
                    let lacks = self.from.pipelines - hit < want;
                    let longest = if lacks { longest.max(time) } else { longest };
                    next[(used + hit as usize) * times.len() + longest] += probability * chance;
                });
            }
            std::mem::swap(&mut states, &mut next);
        }
        states.iter().enumerate().map(|(at, probability)| probability * times[at % times.len()]).sum()
    }

    /// What `stage` may lose if those before it lost `used` machines.
    fn each_hit(&self, chances: &Chances, stage: usize, used: u32, mut each: impl FnMut(u32, f64)) {
        let open = self.lost - used;
        for hit in 0..=self.from.pipelines.min(open) {
            let chance = self.chance(chances, stage, open, hit);
            if chance != 0.0 {
                each(hit, chance);
            }
        }
    }
}
