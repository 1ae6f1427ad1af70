//! What can go wrong in a simulated cluster.

use super::config::bad;
use super::random::{Purpose, Random};
use crate::{Result, Time};

/// Virtual time between two signs of life.
pub const HEARTBEAT_SECONDS: f64 = 0.5;
/// Silence for this many heartbeats counts as a loss.
pub const MISSED_HEARTBEATS: u32 = 3;

/// One thing that goes wrong, in virtual time. A fault of a rank or link that is gone by then does nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The rank dies: its next operation fails, nothing that it sends from `at` on leaves it, and the others
    /// learn of it one latency later.
    Crash {
        /// Who.
        rank: usize,
        /// When.
        at: Time,
    },
    /// The rank stops without a word, as if by SIGSTOP; the others notice by the missing signs of life.
    Silence {
        /// Who.
        rank: usize,
        /// When.
        at: Time,
    },
    /// Nothing passes between two ranks any more; when the signs of life are missed, the higher-numbered
    /// one counts as lost.
    Cut {
        /// One end.
        a: usize,
        /// The other end.
        b: usize,
        /// When.
        at: Time,
    },
    /// Frames that leave one of the two ranks for the other in `from..until` take longer.
    Delay {
        /// One end.
        a: usize,
        /// The other end.
        b: usize,
        /// Start.
        from: Time,
        /// End.
        until: Time,
        /// How much longer.
        extra_seconds: f64,
    },
    /// The connection of two ranks breaks and is made again: frames in flight are lost and sent again, in
    /// order, and before them some that had arrived already.
    Reconnect {
        /// One end.
        a: usize,
        /// The other end.
        b: usize,
        /// When.
        at: Time,
    },
}

impl Fault {
    /// Names of the kinds, in the order of the variants.
    pub const KINDS: [&'static str; 5] = ["crash", "silence", "cut", "delay", "reconnect"];

    /// The name of this kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Crash { .. } => "crash",
            Fault::Silence { .. } => "silence",
            Fault::Cut { .. } => "cut",
            Fault::Delay { .. } => "delay",
            Fault::Reconnect { .. } => "reconnect",
        }
    }

    /// The rank that counts as lost through this fault, if any.
    pub fn loses(&self) -> Option<usize> {
        match *self {
            Fault::Crash { rank, .. } | Fault::Silence { rank, .. } => Some(rank),
            Fault::Cut { a, b, .. } => Some(a.max(b)),
            Fault::Delay { .. } | Fault::Reconnect { .. } => None,
        }
    }

    /// Draws up to two delays, two reconnects, and in about half of all cases one or two faults that lose a
    /// rank, all before `horizon`. The same `seed` draws the same faults.
    pub fn random(seed: u64, ranks: usize, horizon: Time) -> Vec<Fault> {
        let mut random = Random::new(seed, Purpose::Faults, 0);
        let mut faults = Vec::new();
        let when = |random: &mut Random| Time((random.unit() * horizon.0 as f64) as u64);
        if ranks > 1 {
            for _ in 0..random.below(3) {
                let (a, b) = pair(&mut random, ranks);
                let from = when(&mut random);
                let until = Time(from.0.saturating_add(horizon.0 / 4));
                let extra_seconds = random.unit() * horizon.seconds() / 4.0;
                faults.push(Fault::Delay { a, b, from, until, extra_seconds });
            }
            for _ in 0..random.below(3) {
                let (a, b) = pair(&mut random, ranks);
                faults.push(Fault::Reconnect { a, b, at: when(&mut random) });
            }
        }
        for _ in 0..random.below(4).saturating_sub(1) {
            let at = when(&mut random);
            let rank = random.below(ranks);
            faults.push(match random.below(if ranks > 1 { 3 } else { 2 }) {
                0 => Fault::Crash { rank, at },
                1 => Fault::Silence { rank, at },
                _ => {
                    let (a, b) = pair(&mut random, ranks);
                    Fault::Cut { a, b, at }
                }
            });
        }
        faults
    }

    pub(super) fn check(&self, ranks: usize) -> Result<()> {
        let (first, second) = match *self {
            Fault::Crash { rank, .. } | Fault::Silence { rank, .. } => (rank, None),
            Fault::Cut { a, b, .. } | Fault::Delay { a, b, .. } | Fault::Reconnect { a, b, .. } => {
                (a, Some(b))
            }
        };
        if first >= ranks || second.is_some_and(|rank| rank >= ranks) {
            return Err(bad(format!("fault {self:?}: ranks are 0 to {}", ranks - 1)));
        }
        if second == Some(first) {
            return Err(bad(format!("fault {self:?}: a link has two different ends")));
        }
        match self {
            Fault::Delay { extra_seconds, .. } if !(0.0..=1e6).contains(extra_seconds) => {
                Err(bad(format!("fault {self:?}: the extra time must be 0 to 1e6 s")))
            }
            _ => Ok(()),
        }
    }

    /// When it begins.
    pub(super) fn at(&self) -> Time {
        match *self {
            Fault::Crash { at, .. } | Fault::Silence { at, .. } => at,
            Fault::Cut { at, .. } | Fault::Reconnect { at, .. } => at,
            Fault::Delay { from, .. } => from,
        }
    }
}

/// Two different ranks.
fn pair(random: &mut Random, ranks: usize) -> (usize, usize) {
    let a = random.below(ranks);
    (a, (a + 1 + random.below(ranks - 1)) % ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_faults_are_valid_repeatable_and_of_every_kind() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let ranks = 1 + seed as usize % 5;
            let faults = Fault::random(seed, ranks, Time(1_000_000));
            assert_eq!(faults, Fault::random(seed, ranks, Time(1_000_000)), "seed {seed}");
            for fault in &faults {
                fault.check(ranks).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                assert!(fault.at() < Time(1_000_000), "seed {seed}: {fault:?}");
                kinds.insert(fault.kind());
            }
        }
        assert_eq!(kinds.len(), Fault::KINDS.len());
    }
}
