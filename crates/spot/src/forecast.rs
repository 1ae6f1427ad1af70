//! What the next intervals may bring.
//!
//! A [`Forecaster`] is fed one [`Interval`] after another and may be asked at any time. It sees nothing else: no clock,
//! no future. Two kinds of answer: a path of numbers (what the published planner wants), and for every coming interval
//! the chances of how many machines are lost and gained in it. [`FORECASTERS`] lists them; [`score`] says how good they are.

mod arima;
mod hazard;
mod history;
mod parcae;
mod score;
mod smooth;

pub use arima::{Arima, Autoregression};
pub use hazard::Hazard;
pub use parcae::{Parcae, history_for};
pub use score::{Score, Scoring, distributions, score};
pub use smooth::{DampedHolt, Mean, Persistence, Smoothing};

use crate::{Error, Interval, Result};

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

    /// The number of machines above which none is gained, if one is known. Default: none.
    fn ceiling(&self) -> Option<u32> {
        None
    }

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

/// What a forecaster is told before it sees anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Intervals that a fitted forecaster looks back (H). Default: for `parcae` what [`history_for`] says, 12 for the
    /// others.
    pub history: Option<usize>,
    /// Most machines there can be; numbers above are never predicted. Default: not known.
    pub capacity: Option<u32>,
    /// `parcae` alone: predictions are kept within these, if the machines seen are. Default: 8 to 32.
    pub clip: (u32, u32),
    /// `parcae` alone: predictions below this become it. Default: 0; the published plans of one model use 12.
    pub lowest: u32,
    /// Seed of the forecasters that draw.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { history: None, capacity: None, clip: (8, 32), lowest: 0, seed: 0 }
    }
}

impl Settings {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`Error::Usage`] with the setting, what was given and what is allowed.
    pub fn check(&self) -> Result<()> {
        if self.history.is_some_and(|history| !(1..=MOST_HISTORY).contains(&history)) {
            let history = self.history.unwrap_or(0);
            return Err(Error::usage(format!(
                "a history of {history} intervals; from 1 to {MOST_HISTORY} are allowed"
            )));
        }
        if self.clip.0 > self.clip.1 {
            return Err(Error::usage(format!(
                "clip {}..{}; the first must not be above the second",
                self.clip.0, self.clip.1
            )));
        }
        Ok(())
    }
}

/// Most intervals that a fitted forecaster looks back.
pub const MOST_HISTORY: usize = 1000;

/// A forecaster by its word.
pub struct Kind {
    /// The word for it in tables and on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    make: fn(&Settings) -> Box<dyn Forecaster>,
}

/// All forecasters.
pub const FORECASTERS: &[Kind] = &[
    Kind { name: "persistence", summary: "the last number", make: |s| Box::new(Persistence::new(s)) },
    Kind { name: "mean", summary: "the mean of the last H numbers", make: |s| Box::new(Mean::new(s)) },
    Kind {
        name: "smoothing",
        summary: "exponential smoothing, fitted to the last H numbers",
        make: |s| Box::new(Smoothing::new(s)),
    },
    Kind {
        name: "holt",
        summary: "Holt's linear trend, damped, fitted to the last H numbers",
        make: |s| Box::new(DampedHolt::new(s)),
    },
    Kind {
        name: "arima",
        summary: "ARIMA(1,1,0) with drift, fitted to the last H numbers",
        make: |s| Box::new(Arima::new(s, true)),
    },
    Kind {
        name: "arima-nodrift",
        summary: "ARIMA(1,1,0) without drift, fitted to the last H numbers",
        make: |s| Box::new(Arima::new(s, false)),
    },
    Kind {
        name: "parcae",
        summary: "ARIMA with drift and all of Parcae's corrections",
        make: |s| Box::new(Parcae::new(s)),
    },
    Kind {
        name: "hazard",
        summary: "chances of losses and gains by time since the last, with batch sizes, learned as they come",
        make: |s| Box::new(Hazard::new(s)),
    },
];

impl Kind {
    /// The forecaster called `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn named(name: &str) -> Result<&'static Kind> {
        let names = || FORECASTERS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
        let found = FORECASTERS.iter().find(|kind| kind.name == name);
        found.ok_or_else(|| Error::usage(format!("no forecaster `{name}`; there are {}", names())))
    }

    /// A new one that has seen nothing.
    ///
    /// # Errors
    /// Those of [`Settings::check`].
    pub fn make(&self, settings: &Settings) -> Result<Box<dyn Forecaster>> {
        settings.check()?;
        Ok((self.make)(settings))
    }
}

#[cfg(test)]
mod tests;
