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

/// Pipelines of one depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    /// How many there are.
    pub pipelines: u32,
    /// Stages of each.
    pub stages: u32,
}

impl Run {
    /// Nothing.
    pub const NONE: Run = Run { pipelines: 0, stages: 0 };

    /// Machines that work.
    pub fn machines(&self) -> u32 {
        self.pipelines * self.stages
    }

    fn is_none(&self) -> bool {
        *self == Run::NONE
    }
}

/// A layout: `pipelines` x `stages` machines work, the others are spare. (0, 0) is idle: nothing fits, or nobody is
/// there. An *asymmetric* layout has pipelines of a second depth beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// Pipelines (D): replicas of the model that share the data.
    pub pipelines: u32,
    /// Stages of each pipeline (P): parts of the model.
    pub stages: u32,
    /// Deeper pipelines beside them; none in a symmetric layout.
    #[serde(default, skip_serializing_if = "Run::is_none")]
    pub deeper: Run,
}

impl Layout {
    /// No pipeline at all.
    pub const IDLE: Layout = Layout::new(0, 0);

    /// `pipelines` x `stages`.
    pub const fn new(pipelines: u32, stages: u32) -> Layout {
        Layout { pipelines, stages, deeper: Run::NONE }
    }

    /// Pipelines of two depths, in any order; symmetric if one of the two has no machine or both are as deep.
    ///
    /// # Examples
    /// ```
    /// use dunlin_spot::Layout;
    /// let layout = Layout::mixed((1, 9), (3, 7));
    /// assert_eq!((layout.to_string().as_str(), layout.machines()), ("3x7+1x9", 30));
    /// assert_eq!(Layout::mixed((0, 9), (3, 7)), Layout::new(3, 7));
    /// ```
    pub const fn mixed(a: (u32, u32), b: (u32, u32)) -> Layout {
        let (low, high) = if a.1 <= b.1 { (a, b) } else { (b, a) };
        if low.0 == 0 || low.1 == 0 {
            return if high.0 == 0 { Layout::IDLE } else { Layout::new(high.0, high.1) };
        }
        if high.0 == 0 {
            return Layout::new(low.0, low.1);
        }
        if low.1 == high.1 {
            return Layout::new(low.0 + high.0, low.1);
        }
        Layout { pipelines: low.0, stages: low.1, deeper: Run { pipelines: high.0, stages: high.1 } }
    }

    /// The layout of a text: `3x7`, `3x7+1x9` (rising depths); none for any other.
    pub fn parse(text: &str) -> Option<Layout> {
        let run = |text: &str| {
            let (pipelines, stages) = text.split_once('x')?;
            Some((pipelines.parse::<u16>().ok()?.into(), stages.parse::<u16>().ok()?.into()))
        };
        let layout = match text.split_once('+') {
            None => {
                let (pipelines, stages) = run(text)?;
                Layout::new(pipelines, stages)
            }
            Some((low, high)) => Layout::mixed(run(low)?, run(high)?),
        };
        (layout.to_string() == text).then_some(layout)
    }

    /// Its pipelines by depth: none, one or two runs.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        let first = Run { pipelines: self.pipelines, stages: self.stages };
        [first, self.deeper].into_iter().filter(|run| run.machines() > 0)
    }

    /// Pipelines of that depth.
    pub fn pipelines_of(&self, stages: u32) -> u32 {
        self.runs().find(|run| run.stages == stages).map_or(0, |run| run.pipelines)
    }

    /// Pipelines of any depth.
    pub fn all_pipelines(&self) -> u32 {
        self.runs().map(|run| run.pipelines).sum()
    }

    /// True if there are pipelines of two depths.
    pub fn is_mixed(&self) -> bool {
        !self.deeper.is_none()
    }

    /// The pipelines that this layout and another have both.
    pub fn common(&self, other: Layout) -> Layout {
        let each = |run: Run| (run.pipelines.min(other.pipelines_of(run.stages)), run.stages);
        Layout::mixed(each(Run { pipelines: self.pipelines, stages: self.stages }), each(self.deeper))
    }

    /// Machines that work.
    pub fn machines(&self) -> u32 {
        self.pipelines * self.stages + self.deeper.machines()
    }

    /// True if nothing works.
    pub fn is_idle(&self) -> bool {
        self.machines() == 0
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_idle() {
            return f.write_str("idle");
        }
        write!(f, "{}x{}", self.pipelines, self.stages)?;
        match self.deeper {
            Run::NONE => Ok(()),
            Run { pipelines, stages } => write!(f, "+{pipelines}x{stages}"),
        }
    }
}
