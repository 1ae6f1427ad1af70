//! What earns the gain: from a restart at every event to the ceiling, in steps, each a replay.

use super::rate;
use dunlin::Result;
use dunlin_spot::cost::CostModel;
use dunlin_spot::policy::Notice;
use dunlin_spot::replay::Replay;
use dunlin_spot::trace::Availability;
use serde_json::{Value, json};

/// Shares of what lies between `reactive` and `ideal`.
pub(super) struct Earned {
    /// `reactive-live` without a notice, less `reactive`.
    live_migration: f64,
    /// `reactive-live` that sees the interval it decides for, less the same without.
    notice: f64,
    /// `dunlin` that sees it too, less `reactive-live` that does.
    planning: f64,
    /// `dunlin` without a notice, less `reactive-live` without.
    planning_unseen: f64,
}

impl Earned {
    /// It is said if these are replayed: what it needs besides are two of them with another notice.
    pub(super) const POLICIES: [&str; 4] = ["reactive", "reactive-live", "dunlin", "ideal"];

    /// None where there is nothing to earn.
    pub(super) fn new(
        trace: &Availability,
        costs: &CostModel,
        replays: &[Replay],
        notice: Notice,
    ) -> Result<Option<Earned>> {
        let at = |policy: &str, wanted: Notice| {
            rate(policy, trace, costs, wanted, if wanted == notice { replays } else { &[] })
        };
        let reactive = at("reactive", notice)?; // these two always see the interval
        let room = at("ideal", notice)? - reactive;
        if room <= 1e-6 * reactive || room <= 0.0 {
            return Ok(None);
        }
        let (live, seeing) = (at("reactive-live", Notice::None)?, at("reactive-live", Notice::AtEvent)?);
        let (blind, planned) = (at("dunlin", Notice::None)?, at("dunlin", Notice::AtEvent)?);
        Ok(Some(Earned {
            live_migration: (live - reactive) / room,
            notice: (seeing - live) / room,
            planning: (planned - seeing) / room,
            planning_unseen: (blind - live) / room,
        }))
    }

    /// In a line.
    pub(super) fn words(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        format!(
            "Of what lies between reactive and ideal, live migration earns {}, a notice at the event {}, planning with chances {} on top \
             ({} without the notice).",
            percent(self.live_migration),
            percent(self.notice),
            percent(self.planning),
            percent(self.planning_unseen)
        )
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "live_migration": self.live_migration,
            "notice": self.notice,
            "planning_with_notice": self.planning,
            "planning_without_notice": self.planning_unseen,
        })
    }
}
