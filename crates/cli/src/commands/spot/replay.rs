//! `dunlin spot replay`: what every policy would have trained on a trace of machines.

use super::{milliseconds, read_profile, read_trace, told};
use crate::commands::data::out;
use crate::console::note;
use dunlin::{Error, Result};
use dunlin_spot::cost::{CostModel, Rules};
use dunlin_spot::policy::{Notice, POLICIES};
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::{Replay as Replayed, replay};
use dunlin_spot::trace::{Availability, ReadOptions};
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin spot replay p3trace.csv --model gpt-1.5b
  dunlin spot replay p3trace.csv --model bert --policies parcae,dunlin --notice at-event --json

What a policy sees of the minute it decides for: none (the machines of the minute before), at-event (this minute's too), 25s (and
a machine that goes hands its state over), 120s (and the next minute's). `ideal` and `reactive` always see this minute's.")]
pub(crate) struct Replay {
    /// The trace: event rows, minutes, polls or a JSON series; - for standard input
    trace: String,
    /// A model that comes with the program: resnet152, vgg19, bert, gpt-1.5b, gpt-6.7b
    #[arg(long)]
    model: Option<String>,
    /// A profile: JSON, or the table of `dunlin spot profile --csv`
    #[arg(long, value_name = "FILE")]
    profile: Option<String>,
    /// Policies, with commas between them [default: all]
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// What a policy sees: none, at-event, 25s, 120s
    #[arg(long, default_value = "none")]
    notice: String,
    /// The price list of migration: published, or corrected (every byte charged, transfers beside training, groups made beforehand)
    #[arg(long, default_value = "published")]
    rules: String,
    /// minK: leave out the first loss that goes below K machines (min12 was used for two of the published models)
    #[arg(long)]
    variant: Option<String>,
    /// The first so many minutes alone
    #[arg(long)]
    minutes: Option<usize>,
    /// Seconds of an interval
    #[arg(long, default_value_t = 60.0)]
    interval: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(crate) fn run(self) -> Result<()> {
        let notice = Notice::parse(&self.notice).map_err(told)?;
        let rules = Rules::parse(&self.rules).map_err(told)?;
        let profile = read_profile(self.model.as_deref(), self.profile.as_deref())?;
        let trace = self.availability()?;
        let costs = CostModel::with_rules(&profile, rules).handing_over(notice.hands_over());
        let words: Vec<&str> = match self.policies.as_slice() {
            [] => POLICIES.iter().map(|policy| policy.word).collect(),
            some => some.iter().map(String::as_str).collect(),
        };
        let one = |word: &str| replay(word, &trace, &costs, notice).map_err(told);
        let replays = words.iter().map(|word| one(word)).collect::<Result<Vec<Replayed>>>()?;
        let yardsticks = Yardsticks::new(&trace, &costs, notice)?;
        if self.json {
            return out(&self.object(&profile, &trace, notice, &replays, &yardsticks));
        }
        out(&self.table(&profile, &trace, notice, &replays, &yardsticks).trim_end())
    }

    fn availability(&self) -> Result<Availability> {
        let interval_ms = milliseconds("--interval", self.interval)?;
        let options = ReadOptions { interval_ms: Some(interval_ms), capacity: None };
        let source = read_trace(&self.trace, &options)?;
        source.notes.iter().for_each(|line| note(line));
        let mut trace = source.availability(interval_ms).map_err(told)?;
        if let Some(variant) = &self.variant {
            let fewest = variant.strip_prefix("min").and_then(|number| number.parse().ok());
            let fewest = fewest.ok_or_else(|| {
                Error::Usage(format!("--variant {variant}; minK with a number K is allowed"))
            })?;
            trace = trace.without_first_fall_below(fewest);
        }
        if let Some(minutes) = self.minutes {
            let wanted = (minutes as f64 * 60.0 / self.interval).round() as usize;
            trace = trace.segment(0, wanted.min(trace.intervals.len())).map_err(told)?;
        }
        Ok(trace)
    }

    fn table(
        &self,
        profile: &Profile,
        trace: &Availability,
        notice: Notice,
        replays: &[Replayed],
        yardsticks: &Yardsticks,
    ) -> String {
        let mut text = String::new();
        let hours = trace.intervals.len() as f64 * self.interval / 3600.0;
        let _ = writeln!(text, "{} · {}", profile.name, profile.description);
        let _ = writeln!(
            text,
            "{} · {hours:.1} h in intervals of {} s · {:.2} machines on average, at most {} · notice {} · rules {}",
            self.trace,
            self.interval,
            trace.mean(),
            trace.highest(),
            notice.word(),
            self.rules
        );
        let _ =
            writeln!(text, "trace {:016x} · profile {:016x}\n", fingerprint(trace), profile.fingerprint());
        let _ = writeln!(
            text,
            "{:<23}{:>10} {:>6} {:>7} {:>10} {:>9} {:>7} {:>10} {:>6} {:>9}",
            "policy",
            "samples/s",
            "ideal",
            "gap",
            "$/million",
            "useful h",
            "redone",
            "migrating",
            "idle",
            "re-layouts"
        );
        for replay in replays {
            let hours = replay.hours;
            let _ = writeln!(
                text,
                "{:<23}{:>10} {:>5.1}% {:>7} {:>10} {:>9.1} {:>7.1} {:>10.1} {:>6.1} {:>9}",
                replay.policy,
                significant(replay.samples_per_second),
                100.0 * yardsticks.share_of_ideal(replay),
                yardsticks.gap_share(replay).map_or("-".into(), |share| format!("{share:.2}")),
                replay.dollars_per_million_samples.map_or("-".into(), significant),
                hours.useful,
                hours.redone,
                hours.migrating,
                hours.idle,
                replay.relayouts
            );
        }
        text.push_str("\nideal: share of the best layout each interval at no cost. gap: 0 is parcae, 1 is parcae told the future.\n");
        text.push_str("Hours are machine-hours; $ at ");
        let price = profile.dollars_per_hour;
        let _ = writeln!(text, "{} a machine and hour, {} on demand.", price.spot, price.on_demand);
        text
    }

    fn object(
        &self,
        profile: &Profile,
        trace: &Availability,
        notice: Notice,
        replays: &[Replayed],
        yardsticks: &Yardsticks,
    ) -> Value {
        let policies = replays.iter().map(|replay| {
            json!({
                "policy": replay.policy,
                "samples_per_second": replay.samples_per_second,
                "share_of_ideal": yardsticks.share_of_ideal(replay),
                "gap_share": yardsticks.gap_share(replay),
                "dollars_per_million_samples": replay.dollars_per_million_samples,
                "relayouts": replay.relayouts,
                "hours": replay.hours,
            })
        });
        json!({
            "trace": self.trace,
            "model": profile.name,
            "notice": notice.word(),
            "rules": self.rules,
            "intervals": trace.intervals.len(),
            "interval_seconds": self.interval,
            "mean_machines": trace.mean(),
            "trace_fingerprint": format!("{:016x}", fingerprint(trace)),
            "profile_fingerprint": format!("{:016x}", profile.fingerprint()),
            "policies": policies.collect::<Vec<Value>>(),
        })
    }
}

/// What shares are taken of.
struct Yardsticks {
    ideal: f64,
    parcae: f64,
    truth: f64,
}

impl Yardsticks {
    fn new(trace: &Availability, costs: &CostModel, notice: Notice) -> Result<Yardsticks> {
        let rate = |policy: &str, notice| {
            replay(policy, trace, costs, notice).map(|replay| replay.samples_per_second).map_err(told)
        };
        // The published forecast never sees the minute it plans for.
        let _ = notice;
        Ok(Yardsticks {
            ideal: rate("ideal", Notice::None)?,
            parcae: rate("parcae", Notice::None)?,
            truth: rate("parcae-truth", Notice::None)?,
        })
    }

    fn share_of_ideal(&self, replay: &Replayed) -> f64 {
        if self.ideal > 0.0 { replay.samples_per_second / self.ideal } else { 0.0 }
    }

    /// None where the two ends are too near each other to divide by.
    fn gap_share(&self, replay: &Replayed) -> Option<f64> {
        let gap = self.truth - self.parcae;
        (gap > 1e-6 * self.truth).then(|| (replay.samples_per_second - self.parcae) / gap)
    }
}

/// A number that changes with what happened in any interval.
fn fingerprint(trace: &Availability) -> u64 {
    let words =
        trace.intervals.iter().flat_map(|interval| [interval.before, interval.added, interval.removed]);
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).chain(trace.interval_ms.to_le_bytes()).collect();
    dunlin_spot::fingerprint(&bytes)
}

/// Four digits that say something.
fn significant(value: f64) -> String {
    let digits = 3 - (value.abs().max(1e-9).log10().floor() as i32).min(3);
    format!("{value:.*}", digits.max(0) as usize)
}
