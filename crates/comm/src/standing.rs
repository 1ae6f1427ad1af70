//! How far the ranks are, as far as one of them knows: so that a wait can tell who is slow from who is stuck.

use crate::Time;
use serde::{Deserialize, Serialize};

/// What a rank is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doing {
    /// It computes, loads, sends: whatever is not waiting.
    Works,
    /// It waits for others.
    Waits,
    /// It is done with its work.
    Ended,
}

/// How far a rank is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Who.
    pub rank: usize,
    /// What it is at.
    pub doing: Doing,
    /// Grows by one with each message that it sends or takes in, and each time it says what it does.
    pub progress: u64,
    /// When its progress was last seen to grow, in the time of the rank that asks; zero if never.
    #[serde(skip)]
    pub moved_at: Time,
    /// What it does or holds, as it last said itself with [`crate::Comm::describe`]; may be empty.
    pub held: String,
}

impl Standing {
    /// That of a rank that has done nothing yet.
    pub(crate) fn new(rank: usize) -> Standing {
        Standing { rank, doing: Doing::Works, progress: 0, moved_at: Time(0), held: String::new() }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {}", self.rank)?;
        if !self.held.is_empty() {
            write!(f, " ({})", self.held)?;
        }
        Ok(())
    }
}

/// The one of `standings` that the others most likely wait for: of those that work, or else of those that wait,
/// the one with the least progress.
pub(crate) fn slowest(standings: Vec<Standing>) -> Option<Standing> {
    let key = |standing: &Standing| (standing.doing == Doing::Waits, standing.progress, standing.rank);
    standings.into_iter().filter(|standing| standing.doing != Doing::Ended).min_by_key(key)
}

/// `text`, cut to at most `most` bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=text.len().min(most)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_not_to_blame_while_somebody_works() {
        let standing = |rank, doing, progress| Standing { doing, progress, ..Standing::new(rank) };
        let (works, waits, ended) = (Doing::Works, Doing::Waits, Doing::Ended);
        let rank = |standings| slowest(standings).map(|s| s.rank);
        assert_eq!(rank(vec![standing(0, waits, 1), standing(1, works, 9), standing(2, works, 8)]), Some(2));
        assert_eq!(rank(vec![standing(0, waits, 5), standing(1, waits, 4), standing(2, ended, 0)]), Some(1));
        assert_eq!(rank(vec![standing(2, ended, 0)]), None);
    }

    #[test]
    fn a_cut_does_not_split_a_letter() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("", 3)), ("a", "aé", ""));
    }
}
