//! What the next intervals may bring.
//!
//! A [`Forecaster`] is fed one [`Interval`] after another and may be asked at any time. It sees nothing else: no clock,
//! no future. Two kinds of answer: a path of numbers (what the published planner wants), and for every coming interval
//! the chances of how many machines are lost and gained in it.

use crate::Interval;

/// The chances of one coming interval: `lost[k]` is the probability that k machines are lost, `gained[k]` that k come.
/// Both sum to 1; losses and gains are taken as independent, and independent of the number of machines but for the
/// obvious bounds (nobody loses more than there are; nothing above the ceiling is gained).
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Probability of losing 0, 1, 2, ... machines.
    pub lost: Vec<f64>,
    /// Probability of gaining 0, 1, 2, ... machines.
    pub gained: Vec<f64>,
}

impl Outlook {
    /// Certain numbers.
    pub fn certain(lost: u32, gained: u32) -> Outlook {
        let sure = |number: u32| {
            let mut chances = vec![0.0; number as usize + 1];
            chances[number as usize] = 1.0;
            chances
        };
        Outlook { lost: sure(lost), gained: sure(gained) }
    }
}

/// Predicts the number of machines.
pub trait Forecaster: Send {
    /// The word for it in tables and on the command line.
    fn name(&self) -> &'static str;

    /// Takes in what happened in the interval that has just ended.
    fn observe(&mut self, seen: Interval);

    /// Machines at the end of each of the next `horizon` intervals. Before anything was seen: zeros.
    fn counts(&mut self, horizon: usize) -> Vec<u32>;

    /// The chances of each of the next `horizon` intervals. Default: the path of [`counts`](Self::counts), taken as
    /// certain. `now` is the number of machines the path starts from.
    fn outlook(&mut self, now: u32, horizon: usize) -> Vec<Outlook> {
        let mut before = now;
        let changes = self.counts(horizon).into_iter().map(|after| {
            let change = Outlook::certain(before.saturating_sub(after), after.saturating_sub(before));
            before = after;
            change
        });
        changes.collect()
    }
}

mod persistence;
pub use persistence::Persistence;

/// The forecaster of that name, for a model that needs `fewest` machines.
pub fn named(name: &str, _fewest: u32) -> Option<Box<dyn Forecaster>> {
    match name {
        "persistence" => Some(Box::new(Persistence::default())),
        _ => None,
    }
}
