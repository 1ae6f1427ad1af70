//! Migration to another number of stages.

use super::{CostModel, Stages, Step};
use std::collections::BTreeMap;

/// Victims are followed exactly in so many of the last stages; elsewhere a stage of several machines is taken to keep one.
const FOLLOWED: usize = 3;

impl CostModel {
    /// The mean cost where P changes: fetching what the *last* new stage misses (the published model charges that stage alone),
    /// a copy within each stage if D' > 1, and R.
    ///
    /// Each new stage, first to last, is given to the free surviving machine that already holds most of its layers.
    pub(super) fn other_stages_ms(&self, step: Step) -> f64 {
        self.others_ms(step, &mut BTreeMap::new())
    }

    fn fetch_mean(&self, step: Step, old: &Stages, new: &Stages, survivors: &mut [u32]) -> f64 {
        let first = survivors.len().saturating_sub(FOLLOWED);
        if step.lost == 0 || self.plenty(step, old, new) {
            return self.last_fetch_ms(old, new, survivors);
        }
        let wanted = new.cut.len().div_ceil(old.cut.len()) + 1;
        let mut known = vec![f64::NAN; (wanted + 1).pow(FOLLOWED as u32)];
        self.follow(step, old, new, survivors, first, (step.machines, step.lost), 1.0, &mut known)
    }

    /// True if no set of victims can leave a stage with fewer machines than new stages want of it.
    fn plenty(&self, step: Step, old: &Stages, new: &Stages) -> bool {
        let wanted = new.cut.len().div_ceil(old.cut.len()) + 1;
        step.from.pipelines.saturating_sub(step.lost) as usize >= wanted
    }

    /// [`Self::last_fetch_ms`], each worked out once: no stage is given to more machines than new ones touch it and one more, so
    /// what is above that does not matter.
    fn known_fetch_ms(&self, old: &Stages, new: &Stages, survivors: &[u32], known: &mut [f64]) -> f64 {
        if survivors.len() <= FOLLOWED {
            return self.last_fetch_ms(old, new, survivors);
        }
        let wanted = new.cut.len().div_ceil(old.cut.len()) + 1;
        let followed = &survivors[survivors.len() - FOLLOWED..];
        let at = followed.iter().fold(0, |at, &left| at * (wanted + 1) + (left as usize).min(wanted));
        if known[at].is_nan() {
            known[at] = self.last_fetch_ms(old, new, survivors);
        }
        known[at]
    }

    /// [`Self::other_stages_ms`]; `known` holds the time to fetch for every P it was worked out for, with the same machines,
    /// losses and layout before.
    pub(super) fn others_ms(&self, step: Step, known: &mut BTreeMap<u32, f64>) -> f64 {
        let restart = self.restart_ms(step.to, step.change());
        let (Some(old), Some(new)) = (self.stages.get(&step.from.stages), self.stages.get(&step.to.stages))
        else {
            return restart;
        };
        let spread = if step.to.pipelines > 1 { new.longest_ms } else { 0.0 };
        let fetch = known.entry(step.to.stages).or_insert_with(|| {
            let mut survivors = vec![step.from.pipelines; old.cut.len()];
            self.fetch_mean(step, old, new, &mut survivors)
        });
        restart + spread + *fetch
    }

    /// Goes through all losses of the stages from `stage` on; `pool` is (machines, victims) not looked at yet.
    #[expect(clippy::too_many_arguments, reason = "the state of one recursion")]
    fn follow(
        &self,
        step: Step,
        old: &Stages,
        new: &Stages,
        survivors: &mut [u32],
        stage: usize,
        pool: (u32, u32),
        probability: f64,
        known: &mut [f64],
    ) -> f64 {
        if stage == survivors.len() {
            return probability * self.known_fetch_ms(old, new, survivors, known);
        }
        let (total, open) = pool;
        let have = step.from.pipelines;
        let mut mean = 0.0;
        for lost in 0..=have.min(open) {
            let chance = self.chances().hit(total, have, open, lost);
            if chance * probability < 1e-9 {
                continue;
            }
            survivors[stage] = have - lost;
            let pool = (total - have, open - lost);
            mean += self.follow(step, old, new, survivors, stage + 1, pool, probability * chance, known);
        }
        survivors[stage] = have;
        mean
    }

    /// The time to fetch what the machine of the last new stage misses.
    fn last_fetch_ms(&self, old: &Stages, new: &Stages, survivors: &[u32]) -> f64 {
        let mut free = survivors.to_vec();
        let mut held = None;
        let (mut near, mut lowest) = (0, 0); // the first old stage that the layers touch; the first that is free
        for layers in &new.cut {
            while near < free.len() && old.cut[near].end <= layers.start {
                near += 1;
            }
            let overlap = |stage: usize| {
                let (a, b) = (&old.cut[stage], layers);
                a.end.min(b.end).saturating_sub(a.start.max(b.start))
            };
            let touching = (near..free.len()).take_while(|&stage| old.cut[stage].start < layers.end);
            let touching = touching.filter(|&stage| free[stage] > 0 && overlap(stage) > 0);
            let best = touching.max_by_key(|&stage| (overlap(stage), std::cmp::Reverse(stage)));
            while lowest < free.len() && free[lowest] == 0 {
                lowest += 1;
            }
            let best = best.or((lowest < free.len()).then_some(lowest));
            if let Some(stage) = best {
                free[stage] -= 1;
            }
            held = best;
        }
        let Some(last) = new.cut.last() else { return 0.0 };
        let missing = last.clone().filter(|layer| !held.is_some_and(|stage| old.cut[stage].contains(layer)));
        let parameters: f64 = missing.map(|layer| self.profile().layers[layer]).sum();
        self.profile().network.transfer_ms(parameters * self.profile().bytes_per_parameter)
    }
}
