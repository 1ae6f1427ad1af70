//! What a plan is for: samples, dollars per sample, or being done in time.
//!
//! The planner adds up the value of intervals. With s the samples of an interval and $ the dollars for the machines of its layout (the others
//! are released and cost nothing):
//!
//! ```text
//! samples          s
//! dollars          λ s − $          λ: what a sample is worth
//! deadline S@H     P(S samples within H hours) − 0.01 × dollars / most dollars
//! ```
//!
//! *Dollars.* Fewest dollars per sample is a fraction; it is least for the plan that makes λ s − $ largest where λ is that very
//! fraction (Dinkelbach 1967). λ is taken from the books: [`HEADROOM`] times dollars so far / samples so far, which begin with an
//! hour of the layout that is cheapest at first. At λ itself training is worth as much as waiting, and a plan of an hour could not
//! pay for a start: hence the headroom. Whoever knows what samples are worth gives it, and λ is that.
//!
//! *Deadline.* The chance comes first; money decides between plans of nearly the same. Most dollars are those of all machines for all
//! the time, so no more than [`MONEY`] of chance is ever given up for money, and a run whose chance is smaller than what it
//! costs is given up.

use crate::{Error, Result};

/// λ is so many times what a sample has cost.
pub const HEADROOM: f64 = 1.1;
/// How much chance may be given up for the whole of the money.
pub const MONEY: f64 = 0.01;
/// Largest numbers that an objective may name.
const MOST: f64 = 1e15;
/// Longest time to a deadline, hours: eleven years.
const MOST_HOURS: f64 = 1e5;

/// What a plan makes most of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Objective {
    /// Samples trained.
    #[default]
    Samples,
    /// As few dollars per sample as can be; or, if it is known what a million samples are worth, that worth less the dollars.
    Dollars {
        /// Dollars that a million samples are worth.
        per_million: Option<f64>,
    },
    /// The chance to have so many samples in time.
    Deadline {
        /// Samples wanted.
        samples: f64,
        /// Seconds from the start.
        seconds: f64,
    },
}

impl Objective {
    /// From a word: `samples`, `dollars`, `dollars:12.5` (a million samples are worth so much), `deadline:2e7@6` (samples, hours).
    ///
    /// # Errors
    /// [`Error::Usage`] with what was given and what is allowed.
    ///
    /// # Examples
    /// ```
    /// use dunlin_spot::objective::Objective;
    /// let day = Objective::parse("deadline:2e7@24").unwrap();
    /// assert_eq!(day, Objective::Deadline { samples: 2e7, seconds: 86_400.0 });
    /// assert!(Objective::parse("deadline:0@24").is_err());
    /// ```
    pub fn parse(word: &str) -> Result<Objective> {
        let number = |text: &str, most: f64| {
            text.trim().parse::<f64>().ok().filter(|value| *value > 0.0 && *value <= most)
        };
        let found = match word.split_once(':') {
            None if word == "samples" => Some(Objective::Samples),
            None if word == "dollars" => Some(Objective::Dollars { per_million: None }),
            Some(("dollars", worth)) => {
                number(worth, MOST).map(|worth| Objective::Dollars { per_million: Some(worth) })
            }
            Some(("deadline", rest)) => rest.split_once('@').and_then(|(samples, hours)| {
                let seconds = 3600.0 * number(hours, MOST_HOURS)?;
                Some(Objective::Deadline { samples: number(samples, MOST)?, seconds })
            }),
            _ => None,
        };
        found.ok_or_else(|| {
            Error::usage(format!(
                "objective {word}; samples, dollars, dollars:WORTH (of a million samples) or deadline:SAMPLES@HOURS is wanted, \
                 every number above 0, hours at most {MOST_HOURS}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_what_is_none() {
        let dollars = |per_million| Objective::Dollars { per_million };
        for (word, wanted) in [
            ("samples", Objective::Samples),
            ("dollars", dollars(None)),
            ("dollars:12.5", dollars(Some(12.5))),
            ("deadline:1e6@0.5", Objective::Deadline { samples: 1e6, seconds: 1800.0 }),
        ] {
            assert_eq!(Objective::parse(word).unwrap(), wanted);
        }
        let wrong = [
            "",
            "sample",
            "samples:1",
            "dollars:",
            "dollars:0",
            "dollars:-1",
            "dollars:nan",
            "dollars:1e16",
            "deadline",
            "deadline:5",
            "deadline:@5",
            "deadline:1e6@",
            "deadline:1e6@0",
            "deadline:inf@1",
            "deadline:1@1e6",
            "deadline:1@2@3",
        ];
        for word in wrong {
            let error = Objective::parse(word).unwrap_err().to_string();
            assert!(error.starts_with(&format!("objective {word}; samples, dollars")), "{error}");
        }
    }
}
