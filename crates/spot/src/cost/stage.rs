//! Migration with the same number of stages: none, intra-stage, inter-stage.

use super::{CostModel, Step};
use std::collections::BTreeMap;

/// What was found of the stages looked at so far: victims used, the longest copy to a stage that lacks machines, and the
/// copies of stages that nobody holds any more, one after another. Times are kept as bits, to be keys.
type Seen = (u32, u64, u64);

impl CostModel {
    /// The mean cost where P stays.
    ///
    /// Let j_s be what stage s loses. Nothing is to be done if D' = D and no j_s > 0; pairing anew is enough if D - j_s >= D'
    /// everywhere; otherwise the cost is max(longest copy to a lacking stage, sum of copies of stages without survivor) + R. Where
    /// machines that go hand over, no stage is without survivor, and the sum is left out.
    pub(super) fn same_stages_ms(&self, step: Step) -> f64 {
        let (have, want) = (step.from.pipelines, step.to.pipelines);
        let working = step.from.machines();
        let untouched =
            if step.lost == 0 { 1.0 } else { self.chances().hit(step.machines, working, step.lost, 0) };
        let none = if have == want { untouched } else { 0.0 };
        let within = if want > have {
            0.0
        } else if step.lost == 0 {
            1.0
        } else {
            let stages = (0..step.from.stages).map(|_| (have, have - want));
            self.chances().all_within(step.machines, step.lost, stages)
        };
        let intra = (within - none).max(0.0) * self.intra_stage_ms(step.to);
        let lacking = 1.0 - within;
        if lacking <= 1e-12 {
            return intra;
        }
        let restart = self.restart_ms(step.to, step.change());
        intra + lacking * restart + self.copies_ms(step)
    }

    /// The mean of the copying alone, over all sets of victims (nothing is copied where no stage lacks machines).
    fn copies_ms(&self, step: Step) -> f64 {
        let Some(stages) = self.stages.get(&step.from.stages) else { return 0.0 };
        let (have, want) = (step.from.pipelines, step.to.pipelines);
        if step.lost == 0 {
            return if want > have { stages.longest_ms } else { 0.0 };
        }
        let mut states: BTreeMap<Seen, f64> = [((0, 0, 0), 1.0)].into();
        let mut left = step.machines;
        for &copy_ms in &stages.copy_ms {
            let mut next = BTreeMap::new();
            for ((used, longest, orphaned), probability) in states {
                let open = step.lost - used;
                for lost in 0..=have.min(open) {
                    let chance = self.chances().hit(left, have, open, lost);
                    if chance == 0.0 {
                        continue;
                    }
                    let (mut longest, mut orphaned) = (f64::from_bits(longest), f64::from_bits(orphaned));
                    if have - lost < want {
                        longest = longest.max(copy_ms);
                    }
                    if have == lost && !self.hands_over {
                        orphaned += copy_ms;
                    }
                    let key = (used + lost, longest.to_bits(), orphaned.to_bits());
                    *next.entry(key).or_insert(0.0) += probability * chance;
                }
            }
            states = next;
            left -= have;
        }
        let time = |seen: &Seen| f64::from_bits(seen.1).max(f64::from_bits(seen.2));
        states.iter().map(|(seen, probability)| probability * time(seen)).sum()
    }
}
