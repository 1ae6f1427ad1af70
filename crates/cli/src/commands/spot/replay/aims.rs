//! What is aimed at, and what machines cost.

use crate::commands::spot::{open, told};
use crate::console::note;
use dunlin::{Error, Result};
use dunlin_spot::cost::CostModel;
use dunlin_spot::market::{Market, PriceSeries};
use dunlin_spot::objective::Objective;
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::{Replay, Supply, Terms, replay_on};
use dunlin_spot::trace::generate::Bootstrap;
use dunlin_spot::trace::{Availability, ByZone};

/// Most traces that may be drawn.
const MOST_DRAWS: u64 = 10_000;

/// The settings that are about money and aims.
#[derive(Debug, clap::Args)]
pub(super) struct Aims {
    /// What dunlin plans for: samples, dollars (fewest a sample), dollars:WORTH (of a million samples), deadline:SAMPLES@HOURS
    #[arg(long, default_value = "samples")]
    objective: String,
    /// Prices over time: CSV with columns seconds (or date), zone, dollars_per_hour; - for standard input
    #[arg(long, value_name = "FILE")]
    prices: Option<String>,
    /// With a deadline: the chance to be done in time, on so many new traces drawn from this one
    #[arg(long, value_name = "N", default_value_t = 0)]
    draws: u64,
}

/// The same, read and checked.
pub(super) struct Aimed<'a> {
    aims: &'a Aims,
    pub(super) objective: Objective,
    series: Option<PriceSeries>,
}

impl Aims {
    /// Where prices come from, if not from the profile.
    pub(super) fn prices(&self) -> Option<&str> {
        self.prices.as_deref()
    }

    /// As it was given.
    pub(super) fn objective(&self) -> &str {
        &self.objective
    }

    /// For the head of the table; nothing if nothing was said.
    pub(super) fn words(&self) -> String {
        let prices = self.prices.as_ref().map_or(String::new(), |file| format!(" · prices {file}"));
        let objective =
            if self.objective == "samples" { String::new() } else { format!(" · {}", self.objective) };
        prices + &objective
    }

    /// Heads of the columns that are added.
    pub(super) fn head(&self) -> &'static [&'static str] {
        match self.objective.split(':').next() {
            Some("dollars") => &["released", "$"],
            Some("deadline") => &["released", "done h", "$ so far", "chance"],
            _ => &[],
        }
    }

    /// Reads and checks them.
    pub(super) fn read(&self) -> Result<Aimed<'_>> {
        let objective = Objective::parse(&self.objective).map_err(told)?;
        let is_deadline = matches!(objective, Objective::Deadline { .. });
        if self.draws > MOST_DRAWS || (self.draws > 0 && !is_deadline) {
            return Err(Error::Usage(format!(
                "--draws {}; at most {MOST_DRAWS}, with --objective deadline:SAMPLES@HOURS",
                self.draws
            )));
        }
        let series = match &self.prices {
            None => None,
            Some(file) => {
                let name = if file == "-" { "standard input" } else { file };
                Some(PriceSeries::read(open(file)?, name).map_err(told)?)
            }
        };
        series.iter().flat_map(PriceSeries::notes).for_each(|line| note(line));
        Ok(Aimed { aims: self, objective, series })
    }
}

impl Aimed<'_> {
    /// The bills of a trace, if there are prices.
    pub(super) fn market(
        &self,
        profile: &Profile,
        trace: &Availability,
        zones: Option<&ByZone>,
        supply: Supply,
    ) -> Result<Option<Market>> {
        let Some(series) = &self.series else { return Ok(None) };
        Market::new(Some(series), trace, zones, profile.dollars_per_hour, supply).map(Some).map_err(told)
    }

    /// The share of new traces like `trace` on which each of `words` is done in time; none if none was asked for.
    pub(super) fn chances(
        &self,
        words: &[&str],
        trace: &Availability,
        costs: &CostModel,
        notice: Notice,
        supply: Supply,
    ) -> Result<Option<Vec<f64>>> {
        let Objective::Deadline { seconds, .. } = self.objective else { return Ok(None) };
        if self.aims.draws == 0 {
            return Ok(None);
        }
        let intervals = (seconds * 1000.0 / trace.interval_ms as f64).ceil() as usize;
        let mut done = vec![0u32; words.len()];
        for seed in 0..self.aims.draws {
            let drawn = Bootstrap::fit(trace, trace.highest()).generate(intervals, seed);
            let market = self.market(costs.profile(), &drawn, None, supply)?;
            let terms = Terms { objective: self.objective, supply, market: market.as_ref() };
            for (word, done) in words.iter().zip(&mut done) {
                let replay = replay_on(word, &drawn, costs, notice, terms).map_err(told)?;
                *done += u32::from(replay.finish.is_some_and(|finish| finish.seconds.is_some()));
            }
        }
        Ok(Some(done.into_iter().map(|done| f64::from(done) / self.aims.draws as f64).collect()))
    }

    /// The cells that are added, in the order of [`Aims::head`].
    pub(super) fn cells(&self, replay: &Replay, chance: Option<f64>) -> Vec<String> {
        let released = format!("{:.1}", replay.hours.released);
        match self.objective {
            Objective::Samples => Vec::new(),
            Objective::Dollars { .. } => vec![released, format!("{:.2}", replay.dollars)],
            Objective::Deadline { .. } => {
                let finish = replay.finish.as_ref();
                let done = finish.and_then(|finish| finish.seconds);
                vec![
                    released,
                    done.map_or("-".into(), |seconds| format!("{:.2}", seconds / 3600.0)),
                    finish.map_or("-".into(), |finish| format!("{:.2}", finish.dollars)),
                    chance
                        .or(finish.and_then(|finish| finish.chance))
                        .map_or("-".into(), |chance| format!("{chance:.3}")),
                ]
            }
        }
    }

    /// What the columns mean.
    pub(super) fn notes(&self) -> Vec<String> {
        let chance = if self.aims.draws > 0 {
            format!(
                "chance: share of {} traces drawn from this one on which it is done in time.",
                self.aims.draws
            )
        } else {
            "chance: what dunlin saw at its first decision; --draws N for all.".into()
        };
        match self.objective {
            Objective::Samples => Vec::new(),
            Objective::Dollars { .. } => {
                vec!["dunlin alone plans for dollars, and releases what it does not use.".into()]
            }
            Objective::Deadline { samples, seconds } => vec![
                format!(
                    "done h: when {samples} samples were trained, if within {} h. $ so far: until then, or the deadline.",
                    seconds / 3600.0
                ),
                chance,
            ],
        }
    }
}
