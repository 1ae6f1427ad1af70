//! What the planner with chances adds up besides samples.

use super::Odds;
use std::sync::Arc;

/// What is still to be done, and the intervals left for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Due {
    /// Samples.
    pub samples: f64,
    /// Intervals; parts of one count.
    pub intervals: f64,
}

impl Due {
    /// After an interval of so many samples.
    fn less(self, samples: f64) -> Due {
        Due { samples: self.samples - samples, intervals: self.intervals - 1.0 }
    }
}

/// How an interval's samples become the value that is planned for. Default: they are it.
#[derive(Clone, Debug, Default)]
pub enum Aim {
    /// Samples.
    #[default]
    Samples,
    /// Samples less those that the machines cost.
    Tolls(Vec<f64>),
    /// The chance of being done in time, less the money.
    Finish {
        /// Chances of what follows.
        odds: Arc<Odds>,
        /// From now on.
        due: Due,
        /// What an interval costs in chance, by the numbers of `Prices`.
        money: Vec<f64>,
    },
}

impl Aim {
    /// Samples that an interval of every layout is worth less; empty: none, and no layout is given up for its cost.
    pub(super) fn tolls(&self) -> &[f64] {
        if let Aim::Tolls(tolls) = self { tolls } else { &[] }
    }

    /// True if to wait may be better than to train.
    pub(super) fn may_wait(&self) -> bool {
        !matches!(self, Aim::Samples)
    }

    /// What is due now.
    pub(super) fn due(&self) -> Due {
        if let Aim::Finish { due, .. } = self { *due } else { Due::default() }
    }

    /// The value of an interval with layout `number` that trains `samples`, and what is due then.
    pub(super) fn now(&self, number: usize, samples: f64, due: Due) -> (f64, Due) {
        match self {
            Aim::Samples => (samples, due),
            Aim::Tolls(tolls) => (samples - tolls[number], due),
            Aim::Finish { money, .. } => (-money[number], due.less(samples)),
        }
    }

    /// The value of what follows on `machines`: `samples` are those of the near future, `most` those of the best layout there.
    pub(super) fn later(&self, machines: u32, samples: f64, most: impl FnOnce() -> f64, due: Due) -> f64 {
        match self {
            Aim::Samples | Aim::Tolls(_) => samples,
            Aim::Finish { odds, .. } => {
                let behind = (most() - samples).max(0.0);
                odds.at(due.intervals, machines, due.samples + behind).value
            }
        }
    }
}
