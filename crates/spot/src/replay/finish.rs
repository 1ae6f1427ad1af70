//! Done in time, or not.

use super::{Replay, Turn};
use serde::Serialize;

/// How a replay stands to a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Finish {
    /// Seconds from the start until the last sample wanted was trained; none if that was not before the deadline.
    pub seconds: Option<f64>,
    /// Dollars paid until then, or until the deadline.
    pub dollars: f64,
    /// Samples trained until then.
    pub samples: f64,
    /// The chance to be done in time that the policy saw at its first decision, if it asks.
    pub chance: Option<f64>,
}

impl Finish {
    /// When `replay` has `samples` first, if within `seconds`. An interval migrates before it trains, and is paid evenly.
    pub(super) fn of(replay: &Replay, samples: f64, seconds: f64, interval_s: f64) -> Finish {
        let mut finish = Finish { seconds: None, dollars: 0.0, samples: 0.0, chance: None };
        let all = replay.turns.len().max(1) as f64;
        for (at, turn) in replay.turns.iter().enumerate() {
            let start_s = at as f64 * interval_s;
            let left_s = (seconds - start_s).min(interval_s);
            if left_s <= 0.0 {
                break;
            }
            let dollars = replay.dollars_each.get(at).copied().unwrap_or(replay.dollars / all);
            let due = samples - finish.samples;
            let done_s = done_after(turn, due).filter(|done_s| *done_s <= left_s * (1.0 + 1e-9));
            if let Some(done_s) = done_s {
                let seconds = Some(start_s + done_s);
                // Who stops when done has paid for no more than that.
                let stops = turn.spent.samples <= due * (1.0 + 1e-12);
                let share = if stops { 1.0 } else { done_s / interval_s };
                return Finish { seconds, dollars: finish.dollars + dollars * share, samples, ..finish };
            }
            let share = left_s / interval_s;
            finish.dollars += dollars * share;
            finish.samples += turn.spent.samples * share;
        }
        finish
    }
}

/// Seconds into the interval at which it has trained `due` samples.
fn done_after(turn: &Turn, due: f64) -> Option<f64> {
    let spent = &turn.spent;
    if spent.samples < due * (1.0 - 1e-12) || spent.samples <= 0.0 {
        return None;
    }
    Some(spent.migrating_s + spent.redone_s + spent.useful_s * (due / spent.samples).min(1.0))
}
