//! Replays under terms of their own: an objective, prices that change.

use super::{Finish, Replay, Supply, aimed, replay_with};
use crate::cost::CostModel;
use crate::market::Market;
use crate::objective::Objective;
use crate::policy::Notice;
use crate::trace::Availability;
use crate::{Error, Result};

/// What a replay is held to besides trace and notice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms<'m> {
    /// What `dunlin` plans for; the other policies plan for samples, always.
    pub objective: Objective,
    /// Machines that stay, and the time to boot. For objectives besides samples `dunlin` pays for machines that stay when it uses them.
    pub supply: Supply,
    /// What machines cost in every interval of the trace. Default: what the profile says, always.
    pub market: Option<&'m Market>,
}

/// As [`replay_with`](super::replay_with), under `terms`. Every machine that is there is paid, but by `dunlin` with an objective besides samples:
/// it pays for those of its layout, and may take those it has released again as long as they are there. `on-demand` has the profile's
/// price.
///
/// # Errors
/// As [`replay_with`](super::replay_with); a deadline after the end of the trace.
pub fn replay_on(
    policy: &str,
    trace: &Availability,
    costs: &CostModel,
    notice: Notice,
    terms: Terms<'_>,
) -> Result<Replay> {
    let interval_s = trace.interval_ms as f64 / 1000.0;
    let length_s = interval_s * trace.intervals.len() as f64;
    if let Objective::Deadline { seconds, .. } = terms.objective
        && seconds > length_s * (1.0 + 1e-9)
    {
        return Err(Error::usage(format!(
            "a deadline after {} h; the trace has {:.2} h",
            seconds / 3600.0,
            length_s / 3600.0
        )));
    }
    if policy == "dunlin" && terms.objective != Objective::Samples && length_s > 0.0 {
        let usable = terms.supply.usable(trace)?;
        let flat;
        let market = match terms.market {
            Some(market) => market,
            None => {
                flat = Market::new(None, trace, None, costs.profile().dollars_per_hour, terms.supply)?;
                &flat
            }
        };
        return aimed::replay(&usable, costs, notice, &terms, market);
    }
    let mut replay = replay_with(policy, trace, costs, notice, terms.supply)?;
    if let (Some(market), true) = (terms.market, policy != "on-demand") {
        let hours = trace.interval_ms as f64 / 3.6e6;
        replay.billed(market.bills().iter().map(|bill| bill.of_all() * hours).collect());
    }
    if let Objective::Deadline { samples, seconds } = terms.objective {
        replay.finish = Some(Finish::of(&replay, samples, seconds, interval_s));
    }
    Ok(replay)
}

impl Replay {
    /// Puts the dollars of every interval in.
    pub(super) fn billed(&mut self, each: Vec<f64>) {
        let samples: f64 = self.turns.iter().map(|turn| turn.spent.samples).sum();
        self.dollars = each.iter().sum();
        self.dollars_each = each;
        self.dollars_per_million_samples = (samples > 0.0).then(|| 1e6 * self.dollars / samples);
    }
}
