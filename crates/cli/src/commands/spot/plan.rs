//! `dunlin spot plan`: one decision, and why.

use super::{Setting, told};
use crate::commands::data::out;
use dunlin::{Error, Result};
use dunlin_spot::account::Standing;
use dunlin_spot::policy::{self, Decision, POLICIES, Sight};
use dunlin_spot::profile::{MAX_MACHINES, Profile};
use dunlin_spot::trace::Availability;
use dunlin_spot::{Interval, Layout};
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin spot plan --history 30,30,28 --model bert
  dunlin spot plan --history 30,30,28 --model bert --layout 10x3 --policy persistence --json

The history is the number of machines at the end of every interval, oldest first. With --notice at-event or 25s its last number is the
interval to decide for; with 120s the last but one is, and the last the one after it.")]
pub(crate) struct Plan {
    /// Machines at the end of every interval, oldest first, with commas between them
    #[arg(long, value_delimiter = ',', required = true)]
    history: Vec<u32>,
    #[command(flatten)]
    setting: Setting,
    /// The layout in force, DxP, DxP+DxP or idle [default: the fastest on the machines before the last number of the history]
    #[arg(long)]
    layout: Option<String>,
    /// Who decides: dunlin, persistence, persistence+hysteresis, parcae, reactive-live
    #[arg(long, default_value = "dunlin")]
    policy: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(crate) fn run(self) -> Result<()> {
        let costs = self.setting.costs()?;
        let profile = costs.profile();
        let (notice, interval_ms) = (self.setting.notice()?, self.setting.interval_ms()?);
        if let Some(many) = self.history.iter().find(|machines| **machines > MAX_MACHINES) {
            return Err(Error::Usage(format!(
                "--history has {many} machines; at most {MAX_MACHINES} are allowed"
            )));
        }
        let history = Availability::from_counts(interval_ms, &self.history);
        let mut decider = policy::decider(&self.policy, &costs, self.setting.interval, notice)
            .map_err(told)?
            .ok_or_else(|| {
                let words: Vec<&str> = POLICIES.iter().map(|policy| policy.word).collect();
                let words: Vec<&str> = words
                    .into_iter()
                    .filter(|word| matches!(policy::decider(word, &costs, 60.0, notice), Ok(Some(_))))
                    .collect();
                Error::Usage(format!(
                    "--policy {} does not decide; there are {}",
                    self.policy,
                    words.join(", ")
                ))
            })?;
        history.intervals.iter().for_each(|&interval| decider.observe(interval));
        let known = history.intervals.len().saturating_sub(notice.certain_intervals());
        let sight = Sight {
            machines: history.intervals.get(known.wrapping_sub(1)).map_or(0, Interval::after),
            certain: &history.intervals[known..],
        };
        let layout = match &self.layout {
            Some(word) => parse_layout(word)?,
            None => profile.best(sight.machines),
        };
        if layout.machines() > sight.machines {
            return Err(Error::Usage(format!(
                "--layout {layout} has {} machines, the history says that {} are there",
                layout.machines(),
                sight.machines
            )));
        }
        let decision = match profile.fewest_machines() {
            fewest if fewest > sight.known_machines() => waits(sight.known_machines(), fewest),
            _ => decider.decide(Standing { layout, owed_ms: 0.0 }, sight),
        };
        let rate = profile.samples_per_second(decision.layout);
        if self.json {
            let wait = decision.layout.is_idle().then(|| profile.fewest_machines());
            return out(&json!({
                "model": profile.name, "notice": notice.word(), "rules": costs.rules().word(), "policy": self.policy, "gpus": self.setting.gpus,
                "machines": sight.known_machines(), "from": numbers(layout), "layout": numbers(decision.layout),
                "samples_per_second": rate, "wait_for_machines": wait, "why": decision.why, "forecast": decision.forecast,
            }));
        }
        out(&format!(
            "{layout} -> {}  ({} machines{}, {rate:.1} samples/s undisturbed)",
            decision.layout,
            sight.known_machines(),
            on_gpus(profile, decision.layout)
        ))?;
        out(&format!("why: {}", decision.why))?;
        if !decision.forecast.is_empty() {
            out(&format!(
                "machines expected: {}",
                decision.forecast.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
            ))?;
        }
        Ok(())
    }
}

/// What a layout of machines is in GPUs, if they have several.
fn on_gpus(profile: &Profile, layout: Layout) -> String {
    match profile.gpus() {
        1 => String::new(),
        gpus => format!(" of {gpus} GPUs: {} on GPUs", profile.on_gpus(layout)),
    }
}

/// Nothing runs on too few machines, whoever decides: what the next interval may bring is planned for when it is there.
fn waits(machines: u32, fewest: u32) -> Decision {
    let why = format!("nothing fits on {machines} machines: wait until there are {fewest}");
    Decision { layout: Layout::IDLE, why, forecast: Vec::new() }
}

/// Pipelines and stages, of each depth.
fn numbers(layout: Layout) -> Vec<u32> {
    if layout.is_idle() {
        vec![0, 0]
    } else {
        layout.runs().flat_map(|run| [run.pipelines, run.stages]).collect()
    }
}

/// A layout from DxP, or DxP+DxP.
fn parse_layout(word: &str) -> Result<Layout> {
    if word == "idle" {
        return Ok(Layout::IDLE);
    }
    let small =
        word.split(['x', '+']).all(|part| part.parse().is_ok_and(|number: u32| number <= MAX_MACHINES));
    let layout = if small { Layout::parse(word) } else { None };
    layout
        .filter(|layout| layout.machines() <= MAX_MACHINES)
        .ok_or_else(|| Error::Usage(format!("--layout {word}; DxP such as 4x8, 3x7+1x9, or idle, is wanted")))
}
