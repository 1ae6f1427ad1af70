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
//! - *Layouts* are all that the profile knows, other depths and pipelines of two depths included ([`crate::profile::Profile::with_shapes`]).
//!   Only `parcae` and `parcae-truth` keep to the measured table, as the published planner does.
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
//! Pipelines of two depths are treated alike: D_v is taken for each depth, and what both layouts have, K = the fewer pipelines of each
//! depth, goes on throughout. With s_K = min(1, rate(K) / rate(to)) the other pipelines either stop at once, and all is as if P
//! stayed with s_K for s, or they train until the state is there and `build + load` costs its 1 - s_K part; the cheaper of both.
//!
//! Who is lost: the numbers of victims among the working machines, and how many stages lose how many of them, have their exact
//! chances (the four likeliest cases for each number of victims are kept); which stages these are is drawn once with a fixed seed.
//!
//! With a notice of 25 s or more ([`CostModel::handing_over`]) those who go send as well: no state is without a holder, and if
//! building and transfer fit into the 25 s, the whole old layout trains meanwhile, not what is left of it.
//!
//! What happens otherwise, under both lists: if *nothing fits*, the run is idle, costs nothing, and the next start pays for fetching the
//! model. If a *removal that was planned for does not come*, the layout chosen for it stands, the machine is a spare, and taking it
//! back in is a change like any other. A migration that *outlasts the interval* goes on in the next; another one on top
//! of it adds R (`CostModel::restart_ms`), here without the groups.

pub(super) mod roles;
mod victims;

use super::{CostModel, Step};
use crate::{Layout, Run};
use roles::{Moved, mixed::Span};
use victims::Case;

/// The share of a link that state gets while training goes on. Gradients and activations keep the links of the built-in
/// models busy for 14 to 39 % of an iteration; half of the link is left to them, and first.
pub const LINK_SHARE: f64 = 0.5;
/// How much training is slowed meanwhile: messages that collide, and copies between host and device. Overlapped checkpoints
/// are reported to cost 3.5 % at most (CheckFreq, FAST 2021); a transfer takes the network too, so it is taken as three times that.
pub const SLOWED: f64 = 0.1;
/// A transfer beside training that takes longer is not begun: machines come and go meanwhile. Milliseconds.
const LONGEST_MS: f64 = 60_000.0;
/// A machine that hands over knows so long before that it goes, milliseconds.
const HAND_OVER_MS: f64 = 25_000.0;
/// From a host's memory to its device, bytes a millisecond: two thirds of PCIe 3 x16 as it is measured.
const HOST_BYTES_PER_MS: f64 = 8e6;
/// Bytes of a gradient, for each parameter.
const GRADIENT_BYTES: f64 = 2.0;

/// What a change costs on the average, milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    /// If all machines it wants are ready.
    pub(crate) ready_ms: f64,
    /// If some came in this very interval.
    pub(crate) waiting_ms: f64,
}

impl Price {
    /// The price of `to` when `left` machines are ready.
    pub(crate) fn with(self, left: u32, to: Layout) -> f64 {
        if to.machines() > left { self.waiting_ms } else { self.ready_ms }
    }
}

impl CostModel {
    /// The mean over all sets of victims.
    pub(super) fn corrected_ms(&self, step: Step) -> f64 {
        let left = |hit| self.ready(step.machines, step.lost, hit, step.from);
        let hits = self.hits(step.machines, step.lost, step.from);
        let price = |hit| self.prices_after(hit, step.from, std::iter::once(step.to));
        hits.iter().map(|&(hit, chance)| chance * price(hit)[0].with(left(hit), step.to)).sum()
    }

    /// How many of `lost` victims among `machines` work in `from`, with the chances of that.
    pub(crate) fn hits(&self, machines: u32, lost: u32, from: Layout) -> Vec<(u32, f64)> {
        victims::hits(self.chances(), machines, lost, from)
    }

    /// The prices of changing from `from`, which has lost `hit` of its machines, to each of `wanted`.
    pub(crate) fn prices_after(
        &self,
        hit: u32,
        from: Layout,
        wanted: impl Iterator<Item = Layout>,
    ) -> Vec<Price> {
        let cases = victims::cases(self.chances(), hit, from);
        let mean = |to: Layout| {
            let mut mean = Price { ready_ms: 0.0, waiting_ms: 0.0 };
            for case in &cases {
                let price = self.case(case, from, to);
                mean.ready_ms += case.chance * price.ready_ms;
                mean.waiting_ms += case.chance * price.waiting_ms;
            }
            mean
        };
        wanted.map(mean).collect()
    }

    /// The price if these machines survive. With a notice a machine hands over only if that costs less.
    fn case(&self, case: &Case, from: Layout, to: Layout) -> Price {
        let alone = self.case_with(false, case, from, to);
        if !self.hands_over {
            return alone;
        }
        let handed = self.case_with(true, case, from, to);
        Price {
            ready_ms: alone.ready_ms.min(handed.ready_ms),
            waiting_ms: alone.waiting_ms.min(handed.waiting_ms),
        }
    }

    fn case_with(&self, hands_over: bool, case: &Case, from: Layout, to: Layout) -> Price {
        let always = |ms: f64| Price { ready_ms: ms, waiting_ms: ms };
        if to.is_idle() || (to == from && case.hit == 0) {
            return always(0.0);
        }
        let left = whole(case, from);
        if left.common(to) == to {
            return always(self.intra_stage_ms(to));
        }
        let moved = self.moved(hands_over, case, from, to);
        let costs = &self.profile.costs;
        let price = |wait_ms: f64| self.moving_ms(hands_over, case.hit, left, wait_ms, &moved, from, to);
        Price { ready_ms: price(0.0), waiting_ms: price(costs.rendezvous_ms + costs.extra_add_ms) }
    }

    /// The price if `moved` moves after `wait_ms`, of a layout that has lost `hit` machines and whose pipelines `left` are whole.
    #[expect(clippy::too_many_arguments, reason = "what one change is made of")]
    fn moving_ms(
        &self,
        hands_over: bool,
        hit: u32,
        left: Layout,
        wait_ms: f64,
        moved: &Moved,
        from: Layout,
        to: Layout,
    ) -> f64 {
        let pause = self.intra_stage_ms(to);
        let stages = |run: Run| self.profile.on_gpus(Layout::new(run.pipelines, run.stages)).stages;
        let build = |run: Run| self.profile.costs.build_ms(stages(run));
        let build = to.runs().map(build).fold(0.0, f64::max);
        let transfer = self.transfer_ms(moved);
        let stopped = wait_ms + build + transfer + pause;
        let in_time = hands_over && wait_ms + build + transfer / LINK_SHARE <= HAND_OVER_MS;
        let (now, paired) = match hit {
            0 => (left, 0.0),
            _ if in_time => (from, 0.0),
            _ => (left, pause),
        };
        let then = self.profile.samples_per_second(to);
        let share = |layout: Layout| (self.profile.samples_per_second(layout) / then).min(1.0);
        if then <= 0.0 {
            return stopped;
        }
        let kept = now.common(to);
        // What is kept trains throughout; the others either stop at once or, as long as state moves, train as well.
        let sending = |layout: Layout| {
            let rate = self.profile.samples_per_second(layout);
            (rate > 0.0).then(|| self.transfer_beside_ms(transfer, share(layout), rate))
        };
        let at_once = sending(kept)
            .map_or(stopped, |sending| paired + (wait_ms + build) * (1.0 - share(kept)) + sending + pause);
        if kept == now {
            return stopped.min(at_once);
        }
        let after = (build + moved.largest / HOST_BYTES_PER_MS) * (1.0 - share(kept));
        let later = sending(now)
            .map_or(stopped, |sending| paired + wait_ms * (1.0 - share(now)) + sending + after + pause);
        stopped.min(at_once).min(later)
    }

    /// What moves if roles are given as they should be; all of it if nothing is held.
    fn moved(&self, hands_over: bool, case: &Case, from: Layout, to: Layout) -> Moved {
        let ends = |stages: u32| self.stages.get(&stages).map_or(&[][..], |stages| &stages.ends);
        if from.is_mixed() || to.is_mixed() {
            let held = spans(from, &case.survivors, ends);
            let senders: Vec<u32> = match hands_over {
                true => from.runs().flat_map(|run| vec![run.pipelines; run.stages as usize]).collect(),
                false => case.survivors.clone(),
            };
            let wanted: Vec<u32> =
                to.runs().flat_map(|run| vec![run.pipelines; run.stages as usize]).collect();
            return roles::mixed::moved(&held, &senders, &spans(to, &wanted, ends));
        }
        let old = ends(from.stages);
        let survivors = if old.is_empty() { &[] } else { case.survivors.as_slice() };
        let handing = if hands_over { from.pipelines } else { 0 };
        roles::moved(old, survivors, handing, ends(to.stages), to.pipelines)
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

/// The pipelines that are whole without moving state: of every run as many as its scarcest stage has survivors.
fn whole(case: &Case, from: Layout) -> Layout {
    let mut stages = case.survivors.as_slice();
    let mut runs = from.runs().map(|run| {
        let (of_run, rest) = stages.split_at(stages.len().min(run.stages as usize));
        stages = rest;
        (of_run.iter().copied().min().unwrap_or(0), run.stages)
    });
    let (first, second) = (runs.next().unwrap_or_default(), runs.next().unwrap_or_default());
    Layout::mixed(first, second)
}

/// The stages of a layout, one run after the other, as runs of bytes; `ends` are those of the stages of a depth.
fn spans<'e>(layout: Layout, machines: &[u32], ends: impl Fn(u32) -> &'e [f64]) -> Vec<Span> {
    let of_run = |run: Run| {
        let ends = ends(run.stages);
        let start = move |stage: usize| if stage == 0 { 0.0 } else { ends[stage - 1] };
        ends.iter().enumerate().map(move |(stage, &end)| Span { start: start(stage), end, machines: 0 })
    };
    let mut spans: Vec<Span> = layout.runs().flat_map(of_run).collect();
    spans.iter_mut().zip(machines).for_each(|(span, &machines)| span.machines = machines);
    spans
}
