//! A token, and what a lane knows of those that it has had.

use crate::strategy::set::Set;
use crate::table::Storage;
use serde::{Deserialize, Serialize};

/// A row block on its way round the lanes.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// Which time round it is, from 0 at the start of the run.
    pub(super) lap: u64,
    /// Lanes that it has visited in this lap.
    pub(super) visited: Set,
    /// The lane that it waits for.
    pub(super) lane: usize,
    /// Its rows, by place of the table among those that rotate.
    pub(super) values: Vec<Storage>,
}

/// What goes before a token's rows on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) token: u32,
    pub(super) lane: u32,
    pub(super) lap: u64,
    pub(super) visited: Set,
}

/// What a lane has had: all tokens of the laps before `lap`, some of that one, and some of the next.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// The first lap of which it lacks a token.
    pub(super) lap: u64,
    had: [Set; 2],
}

impl Track {
    /// Of a lane that has done all laps before `lap`.
    pub(super) fn new(lap: u64, tokens: usize) -> Track {
        Track { lap, had: [Set::new(tokens), Set::new(tokens)] }
    }

    fn of(&self, lap: u64) -> Option<&Set> {
        self.had.get(usize::try_from(lap.checked_sub(self.lap)?).ok()?)
    }

    /// True if it has had `token` in `lap`.
    pub(super) fn has(&self, lap: u64, token: usize) -> bool {
        lap < self.lap || self.of(lap).is_some_and(|had| had.contains(token))
    }

    /// How many tokens of `lap`, this one or the next, it has had.
    pub(super) fn count(&self, lap: u64) -> usize {
        self.of(lap).map_or(0, Set::count)
    }

    /// Notes a visit in `lap`, this one or the next.
    pub(super) fn enter(&mut self, lap: u64, token: usize) {
        let ahead = lap.saturating_sub(self.lap).min(1) as usize;
        self.had[ahead].insert(token);
    }

    /// If all `tokens` of this lap have been here, goes on to the next and gives the one that is over.
    pub(super) fn end_lap(&mut self, tokens: usize) -> Option<u64> {
        if self.had[0].count() < tokens {
            return None;
        }
        self.had.swap(0, 1);
        self.had[1].clear();
        self.lap += 1;
        Some(self.lap - 1)
    }
}
