//! Who decides, minute by minute.
//!
//! A [`Decider`] is the part of a policy that can also drive a real run: a state machine fed with intervals, asked for a
//! layout. [`POLICIES`] lists the words that [`crate::replay`] knows; some of them (restart from a checkpoint, redundancy) have books
//! of their own and are not deciders.

mod aimed;
mod chances;
mod planned;
mod walk;

use crate::account::Standing;
use crate::cost::CostModel;
use crate::forecast::{Kind, Settings};
use crate::{Error, Interval, Layout, Result};
pub use aimed::{Aimed, Books};
pub use chances::Chances;
pub use planned::{BestNow, Planned};

/// What a policy knows of the interval it decides for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The machines at the end of the last interval: the convention of the published plans.
    None,
    /// This interval's arrivals and losses too.
    AtEvent,
    /// As at the event, and the machine that goes is known 25 s before: it hands its state over itself.
    Seconds25,
    /// As 25 s, and the next interval is certain too.
    Seconds120,
}

impl Notice {
    /// The words of the command line.
    pub const WORDS: [(&str, Notice); 4] = [
        ("none", Notice::None),
        ("at-event", Notice::AtEvent),
        ("25s", Notice::Seconds25),
        ("120s", Notice::Seconds120),
    ];

    /// # Errors
    /// Names what there is.
    pub fn parse(word: &str) -> Result<Notice> {
        let known = Notice::WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, notice)| *notice).ok_or_else(|| {
            let words = Notice::WORDS.map(|(word, _)| word).join(", ");
            Error::usage(format!("notice {word} is not known; there are {words}"))
        })
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        Notice::WORDS.iter().find(|(_, notice)| *notice == self).map_or("", |(word, _)| word)
    }

    /// How many intervals, this one included, are certain when it begins.
    pub fn certain_intervals(self) -> usize {
        match self {
            Notice::None => 0,
            Notice::AtEvent | Notice::Seconds25 => 1,
            Notice::Seconds120 => 2,
        }
    }

    /// True if a machine that goes hands its state over before.
    pub fn hands_over(self) -> bool {
        matches!(self, Notice::Seconds25 | Notice::Seconds120)
    }
}

/// What is known when a decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'s> {
    /// Machines at the start of the interval.
    pub machines: u32,
    /// The coming intervals that are certain, the one to decide for first. Every one of them was observed.
    pub certain: &'s [Interval],
}

impl Sight<'_> {
    /// Machines after the last certain interval.
    pub fn known_machines(&self) -> u32 {
        self.certain.last().map_or(self.machines, Interval::after)
    }
}

/// A layout for the next interval, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The layout wanted; it may be adapted if fewer machines turn out to be there.
    pub layout: Layout,
    /// In a sentence for people.
    pub why: String,
    /// Machines expected at the end of the next intervals, if the policy forecasts.
    pub forecast: Vec<u32>,
}

/// Decides on layouts.
pub trait Decider {
    /// Takes in an interval as soon as it is certain, once, in order.
    fn observe(&mut self, interval: Interval);

    /// The layout for the interval that begins.
    fn decide(&mut self, standing: Standing, sight: Sight<'_>) -> Decision;
}

/// A word of the command line and what it does.
#[derive(Clone, Copy, Debug)]
pub struct PolicyName {
    /// The word.
    pub word: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
}

/// All policies, worst first.
pub const POLICIES: [PolicyName; 12] = [
    PolicyName {
        word: "on-demand",
        about: "as many machines as the trace ever had, never taken away, at their price",
    },
    PolicyName { word: "varuna", about: "checkpoints and restarts at every change (modelled, unchecked)" },
    PolicyName {
        word: "bamboo",
        about: "every machine also computes its neighbour's stage (modelled, unchecked)",
    },
    PolicyName { word: "oobleck", about: "pipelines of different depths, templates (modelled, unchecked)" },
    PolicyName {
        word: "reactive",
        about: "best layout for what is there, restart from a checkpoint at every event",
    },
    PolicyName { word: "reactive-live", about: "best layout each interval with live migration, no forecast" },
    PolicyName { word: "parcae", about: "the published planner with the published forecast" },
    PolicyName { word: "persistence", about: "the published planner, taking the number of machines to stay" },
    PolicyName {
        word: "persistence+hysteresis",
        about: "as persistence, and a change must gain 15 s of training",
    },
    PolicyName { word: "dunlin", about: "plans with the chances of losses and gains, learned on the way" },
    PolicyName { word: "parcae-truth", about: "the published planner, told the future" },
    PolicyName { word: "ideal", about: "best layout each interval at no cost: the ceiling" },
];

/// Makes the decider of a policy's name; none for those that are not deciders.
///
/// # Errors
/// Those of the forecasters' settings.
pub fn decider<'a>(
    word: &str,
    costs: &'a CostModel,
    interval_s: f64,
    notice: Notice,
) -> Result<Option<Box<dyn Decider + 'a>>> {
    let lowest = costs.profile().fewest_machines();
    let forecaster =
        |name: &str| Kind::named(name)?.make(&Settings { lowest, history: Some(12), ..Settings::default() });
    let planned = |name: &str, hysteresis_s: f64| {
        let planned = Planned::new(forecaster(name)?, costs, interval_s, hysteresis_s);
        Ok(Some(Box::new(planned) as Box<dyn Decider + 'a>))
    };
    match word {
        "reactive-live" => Ok(Some(Box::new(BestNow::new(costs)))),
        "parcae" => planned("parcae", 0.0),
        "persistence" => planned("persistence", 0.0),
        "persistence+hysteresis" => planned("persistence", 15.0),
        "dunlin" => Ok(Some(Box::new(Chances::new(forecaster("hazard")?, costs, interval_s, notice)))),
        _ => Ok(None),
    }
}
