//! The corrected price list: what a change of layout costs if it is done well on the same machines and network.
//!
//! A price is milliseconds of training *of the new layout* that are lost. What was published and what differs:
//! - *Bytes.* Every byte that a machine of the new layout lacks is sent, for all stages and pipelines (published: the longest copy,
//!   or the last stage's). Roles go to the surviving machines such that the bytes moved are least, exactly.
//!   All machines receive at the same time. The survivors of an old stage share evenly what is wanted of it; what several
//!   machines want is passed on from one to the next as it comes in, so it leaves a holder once. State that nobody holds any more comes
//!   from the parameter server over its one link. The slowest of these links says how long it takes: T.
//! - *Overlap.* While state moves, the old layout trains as far as its survivors make whole pipelines: D_v = min over
//!   stages. State then gets [`LINK_SHARE`] of the links, training runs at 1 - [`SLOWED`], and the gradients of the steps made meanwhile
//!   are sent after it, for the receiver repeats those steps. If stopping is cheaper, training stops for T.
//! - *Groups* are made beforehand: their fixed part (`base_group_ms`) and `process_ms` are all that is paid: the pause F.
//! - *Newcomers* find each other (`rendezvous_ms + extra_add_ms`) and build their stage beside training; those that came in an
//!   earlier interval are ready. Only a layout that wants machines of this very interval waits, and trains on D_v pipelines meanwhile.
//! - *Building* (`build_ms`) is paid where a machine's stage changes: beside training if that machine does not work
//!   in the meantime (P stays), stopped if it does (P changes; what it received is then loaded from its host's memory).
//!
//! With s = min(1, rate(D_v, P) / rate(to)), and P' = P:
//!
//! ```text
//! nothing changed                            0
//! D' <= D_v: paired anew                     F
//! else  [F if lost] + (wait + build) (1 - s) + min(T, L (1 - (1 - SLOWED) s)) + F      L: T at the overlapped rate
//! P' /= P  [F if lost] + wait (1 - s) + min(T, L (1 - (1 - SLOWED) s)) + build + load + F
//! D_v = 0, or if it is cheaper               wait + build + T + F
//! ```
//!
//! Who is lost: the numbers of victims among the working machines, and how many stages lose how many of them, have their exact
//! chances (the four likeliest cases for each number of victims are kept); which stages these are is drawn once with a fixed seed.
//!
//! What happens otherwise, under both lists: if *nothing fits*, the run is idle, costs nothing, and the next start pays for fetching the
//! model. If a *removal that was planned for does not come*, the layout chosen for it stands, the machine is a spare, and taking it
//! back in is a change like any other. A migration that *outlasts the interval* goes on in the next; another one on top
//! of it adds R (`CostModel::restart_ms`), here without the groups.

pub(super) mod roles;
mod victims;

use super::{CostModel, Stages};
use crate::Layout;
use roles::Moved;
use victims::Case;

/// The share of a link that state gets while training goes on. Gradients and activations keep the links of the built-in
/// models busy for 14 to 39 % of an iteration; half of the link is left to them, and first.
pub const LINK_SHARE: f64 = 0.5;
/// How much training is slowed meanwhile: messages that collide, and copies between host and device. Overlapped checkpoints
/// are reported to cost 3.5 % at most (CheckFreq, FAST 2021); a transfer takes the network too, so it is taken as three times that.
pub const SLOWED: f64 = 0.1;
/// A transfer beside training that takes longer is not begun: machines come and go meanwhile. Milliseconds.
const LONGEST_MS: f64 = 60_000.0;
/// From a host's memory to its device, bytes a millisecond: two thirds of PCIe 3 x16 as it is measured.
const HOST_BYTES_PER_MS: f64 = 8e6;
/// Bytes of a gradient, for each parameter.
const GRADIENT_BYTES: f64 = 2.0;

impl CostModel {
    /// The mean prices of changing from `from` to each of `wanted` when `lost` of `machines` are lost.
    pub(super) fn corrected_ms(
        &self,
        machines: u32,
        lost: u32,
        from: Layout,
        wanted: impl Iterator<Item = Layout>,
    ) -> Vec<f64> {
        let cases = victims::cases(self.chances(), machines, lost, from);
        let mean = |to: Layout| cases.iter().map(|case| case.chance * self.case_ms(case, from, to)).sum();
        wanted.map(mean).collect()
    }

    /// The price if these machines survive.
    fn case_ms(&self, case: &Case, from: Layout, to: Layout) -> f64 {
        if to.is_idle() || (to == from && case.hit == 0) {
            return 0.0;
        }
        let pause = self.intra_stage_ms(to);
        let pipelines = case.survivors.iter().copied().min().unwrap_or(0);
        let same = from.stages == to.stages;
        if same && to.pipelines <= pipelines {
            return pause;
        }
        let costs = &self.profile.costs;
        let wait = if to.machines() > case.left { costs.rendezvous_ms + costs.extra_add_ms } else { 0.0 };
        let build = costs.build_ms(to.stages);
        let moved = self.moved(case, from, to);
        let transfer = self.transfer_ms(&moved);
        let stopped = wait + build + transfer + pause;
        let (now, then) = (
            self.profile.samples_per_second(Layout::new(pipelines, from.stages)),
            self.profile.samples_per_second(to),
        );
        if now <= 0.0 || then <= 0.0 {
            return stopped;
        }
        let share = (now / then).min(1.0);
        let (beside, after) =
            if same { (wait + build, 0.0) } else { (wait, build + moved.largest / HOST_BYTES_PER_MS) };
        let paired = if case.hit > 0 { pause } else { 0.0 };
        let overlapped =
            paired + beside * (1.0 - share) + self.transfer_beside_ms(transfer, share, now) + after + pause;
        stopped.min(overlapped)
    }

    /// What moves if roles are given as they should be; all of it if nothing is held.
    fn moved(&self, case: &Case, from: Layout, to: Layout) -> Moved {
        let none =
            Stages { cut: Vec::new(), copy_ms: Vec::new(), longest_ms: 0.0, all_ms: 0.0, ends: Vec::new() };
        let old = self.stages.get(&from.stages).unwrap_or(&none);
        let survivors = if old.ends.is_empty() { &[] } else { case.survivors.as_slice() };
        let wanted = self.stages.get(&to.stages).map_or(&none.ends, |stages| &stages.ends);
        roles::moved(&old.ends, survivors, wanted, to.pipelines)
    }

    /// T: the slowest link.
    fn transfer_ms(&self, moved: &Moved) -> f64 {
        let busiest = moved.largest.max(moved.sent).max(moved.orphaned);
        self.profile.network.transfer_ms(busiest)
    }

    /// Training lost to a transfer that takes `transfer_ms` of a whole link, while `rate` samples/s are trained, `share` of those to come:
    /// beside training or not, whichever loses less.
    fn transfer_beside_ms(&self, transfer_ms: f64, share: f64, rate: f64) -> f64 {
        let iteration_ms = f64::from(self.profile.global_batch) / rate * 1000.0;
        let bytes = self.profile.bytes_per_parameter.max(GRADIENT_BYTES);
        let link = LINK_SHARE - GRADIENT_BYTES / bytes * transfer_ms / iteration_ms;
        let long_ms = transfer_ms / link;
        if link <= 0.0 || long_ms > LONGEST_MS {
            return transfer_ms;
        }
        transfer_ms.min(long_ms * (1.0 - (1.0 - SLOWED) * share))
    }
}
