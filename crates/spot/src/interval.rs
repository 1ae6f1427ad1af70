//! What happens in one interval of time, and how machines may be laid out.

use serde::{Deserialize, Serialize};

/// One interval: the machines at its start, and how many came and went within it. What happens inside is merged:
/// arrivals and losses of one interval are taken together.
///
/// # Examples
/// ```
/// use dunlin_spot::Interval;
/// let minute = Interval { before: 30, added: 1, removed: 3 };
/// assert_eq!(minute.after(), 28);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Machines at the start.
    pub before: u32,
    /// Machines that came.
    pub added: u32,
    /// Machines that were taken away; at most `before + added`.
    pub removed: u32,
}

impl Interval {
    /// Machines at the end.
    pub fn after(&self) -> u32 {
        (self.before + self.added).saturating_sub(self.removed)
    }

    /// True if no machine came or went.
    pub fn is_quiet(&self) -> bool {
        self.added == 0 && self.removed == 0
    }
}

/// A layout: `pipelines` x `stages` machines work, the others are spare. (0, 0) is idle: nothing fits, or nobody is
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// Pipelines (D): replicas of the model that share the data.
    pub pipelines: u32,
    /// Stages of each pipeline (P): parts of the model.
    pub stages: u32,
}

impl Layout {
    /// No pipeline at all.
    pub const IDLE: Layout = Layout { pipelines: 0, stages: 0 };

    /// `pipelines` x `stages`.
    pub const fn new(pipelines: u32, stages: u32) -> Layout {
        Layout { pipelines, stages }
    }

    /// Machines that work.
    pub fn machines(&self) -> u32 {
        self.pipelines * self.stages
    }

    /// True if nothing works.
    pub fn is_idle(&self) -> bool {
        self.machines() == 0
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_idle() { f.write_str("idle") } else { write!(f, "{}x{}", self.pipelines, self.stages) }
    }
}
