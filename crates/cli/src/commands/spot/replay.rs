//! `dunlin spot replay`: what every policy would have trained on a trace of machines.

mod aims;
mod earned;
mod page;

use super::{Setting, read_trace, told};
use crate::commands::data::out;
use crate::commands::show::save;
use crate::console::note;
use crate::places;
use aims::Aims;
use dunlin::{Error, Result};
use dunlin_spot::baseline::LABEL;
use dunlin_spot::cost::CostModel;
use dunlin_spot::objective::Objective;
use dunlin_spot::policy::{Notice, POLICIES};
use dunlin_spot::profile::{MAX_MACHINES, Profile};
use dunlin_spot::replay::{Replay as Replayed, Supply, Terms, replay, replay_on};
use dunlin_spot::trace::{Availability, ByZone, Content, ReadOptions};
use earned::Earned;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin spot replay sample:p3 --model gpt-1.5b
  dunlin spot replay sample:p3 --model bert --policies parcae,dunlin --notice at-event --json
  dunlin spot replay sample:p3 --model gpt-6.7b --html replay.html
  dunlin spot replay sample:p3 --model bert --objective dollars --prices prices.csv
  dunlin spot replay sample:p3 --model bert --objective deadline:8e6@6 --on-demand 8

What a policy sees of the minute it decides for: none (the machines of the minute before), at-event (this minute's too), 25s (and
a machine that goes hands its state over), 120s (and the next minute's). `ideal` and `reactive` always see this minute's.")]
pub(crate) struct Replay {
    /// The trace: event rows, minutes, polls or a JSON series; - for standard input
    trace: String,
    #[command(flatten)]
    setting: Setting,
    /// Policies, with commas between them [default: all]
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// Machines that are never taken away, beside those of the trace and at their own price
    #[arg(long, value_name = "N", default_value_t = 0)]
    on_demand: u32,
    /// Seconds until a machine that comes can be used
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    boot: f64,
    #[command(flatten)]
    aims: Aims,
    /// minK: leave out the first loss that goes below K machines (min12 was used for two of the published models)
    #[arg(long)]
    variant: Option<String>,
    /// The first so many minutes alone
    #[arg(long)]
    minutes: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a page: machines, forecast, layout, speed and samples over time, and why every decision was taken
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Replay {
    pub(crate) fn run(self) -> Result<()> {
        let notice = self.setting.notice()?;
        if let Some(file) = &self.html {
            places::check_file("--html", file)?;
        }
        let words = self.words()?;
        let costs = self.setting.costs()?;
        let profile = costs.profile();
        let (trace, zones) = self.availability()?;
        let supply = Supply { on_demand: self.on_demand, boot_s: self.boot };
        let aimed = self.aims.read()?;
        let market = aimed.market(profile, &trace, zones.as_ref(), supply)?;
        let terms = Terms { objective: aimed.objective, supply, market: market.as_ref() };
        let one = |word: &str| replay_on(word, &trace, &costs, notice, terms).map_err(told);
        let replays = words.iter().map(|word| one(word)).collect::<Result<Vec<Replayed>>>()?;
        let chances = aimed.chances(&words, &trace, &costs, notice, supply)?;
        let trace = supply.usable(&trace).map_err(told)?;
        let yardsticks = Yardsticks::new(&trace, &costs, &replays)?;
        // What planning earns is told in samples, if all that it compares was asked for.
        let earned = match aimed.objective {
            Objective::Samples if Earned::POLICIES.iter().all(|word| words.contains(word)) => {
                Earned::new(&trace, &costs, &replays, notice)?
            }
            _ => None,
        };
        if self.json {
            let chances = chances.as_deref();
            out(&self.object(profile, &trace, notice, &replays, chances, &yardsticks, earned.as_ref()))?;
        }
        let chance = |at: usize| chances.as_ref().map(|chances| chances[at]);
        let row = |(at, replay)| [yardsticks.cells(replay), aimed.cells(replay, chance(at))].concat();
        let rows: Vec<Vec<String>> = replays.iter().enumerate().map(row).collect();
        let mut notes = yardsticks.notes(profile, &replays, &self.aims);
        notes.extend(aimed.notes());
        notes.extend(earned.map(|earned| earned.words()));
        let columns = [&HEAD[..], self.aims.head()].concat();
        let head = self.head(profile, &trace, notice);
        if !self.json {
            out(&table(&head, &columns, &rows, &notes))?;
        }
        let Some(file) = &self.html else { return Ok(()) };
        let fewest = profile.fewest_machines();
        let shown = page::Shown { head, columns, rows, notes, trace: &trace, replays: &replays, fewest };
        save(file, &page::page(&self.trace, &profile.name, &shown), self.json)
    }

    /// The policies to replay.
    fn words(&self) -> Result<Vec<&str>> {
        let all = POLICIES.map(|policy| policy.word);
        if let Some(word) = self.policies.iter().find(|word| !all.contains(&word.as_str())) {
            return Err(Error::Usage(format!("--policies {word}; there are {}", all.join(", "))));
        }
        Ok(match self.policies.as_slice() {
            [] => all.to_vec(),
            some => some.iter().map(String::as_str).collect(),
        })
    }

    /// The trace, and where its machines stand if it says so.
    fn availability(&self) -> Result<(Availability, Option<ByZone>)> {
        let interval_ms = self.setting.interval_ms()?;
        let options = ReadOptions { interval_ms: Some(interval_ms), capacity: Some(MAX_MACHINES) };
        let source = read_trace(&self.trace, &options)?;
        source.notes.iter().for_each(|line| note(line));
        let mut trace = source.availability(interval_ms).map_err(told)?;
        let zones = match &source.content {
            Content::Events(events) if self.aims.prices().is_some() => {
                Some(events.by_zone(interval_ms).map_err(told)?)
            }
            _ => None,
        };
        if let Some(variant) = &self.variant {
            let fewest = variant.strip_prefix("min").and_then(|number| number.parse().ok());
            let fewest = fewest.filter(|fewest| *fewest <= trace.highest()).ok_or_else(|| {
                let most = trace.highest();
                Error::Usage(format!(
                    "--variant {variant}; minK with a number K is allowed, at most {most}, the trace's highest"
                ))
            })?;
            trace = trace.without_first_fall_below(fewest);
        }
        if let Some(minutes) = self.minutes {
            let wanted = (minutes as f64 * 60.0 / self.setting.interval).round() as usize;
            if wanted == 0 {
                return Err(Error::Usage(format!(
                    "--minutes {minutes} is no interval of {} s; at least one is wanted",
                    self.setting.interval
                )));
            }
            trace = trace.segment(0, wanted.min(trace.intervals.len())).map_err(told)?;
        }
        Ok((trace, zones))
    }

    /// What is rented besides the trace's machines, and how long they boot; nothing if nothing was said.
    fn supply_words(&self) -> String {
        let stay =
            if self.on_demand > 0 { format!(" · {} on demand", self.on_demand) } else { String::new() };
        let boot = if self.boot > 0.0 { format!(" · {} s to boot", self.boot) } else { String::new() };
        let gpus = if self.setting.gpus > 1 {
            format!(" · {} GPUs each", self.setting.gpus)
        } else {
            String::new()
        };
        gpus + &stay + &boot + &self.aims.words()
    }

    /// What was replayed, in three lines.
    fn head(&self, profile: &Profile, trace: &Availability, notice: Notice) -> [String; 3] {
        let hours = trace.intervals.len() as f64 * self.setting.interval / 3600.0;
        [
            format!("{} · {}", profile.name, profile.description),
            format!(
                "{} · {hours:.1} h in intervals of {} s · {:.2} machines on average, at most {}{} · notice {} · rules {}",
                self.trace,
                self.setting.interval,
                trace.mean(),
                trace.highest(),
                self.supply_words(),
                notice.word(),
                self.setting.rules
            ),
            format!("trace {:016x} · profile {:016x}", fingerprint(trace), profile.fingerprint()),
        ]
    }

    #[expect(clippy::too_many_arguments, reason = "all that was found out")]
    fn object(
        &self,
        profile: &Profile,
        trace: &Availability,
        notice: Notice,
        replays: &[Replayed],
        chances: Option<&[f64]>,
        yardsticks: &Yardsticks,
        earned: Option<&Earned>,
    ) -> Value {
        let policies = replays.iter().enumerate().map(|(at, replay)| {
            json!({
                "policy": replay.policy,
                "samples_per_second": replay.samples_per_second,
                "share_of_ideal": yardsticks.share_of_ideal(replay),
                "gap_share": yardsticks.gap_share(replay),
                "dollars": replay.dollars,
                "dollars_per_million_samples": replay.dollars_per_million_samples,
                "relayouts": replay.relayouts,
                "hours": replay.hours,
                "finish": replay.finish,
                "chance_drawn": chances.map(|chances| chances[at]),
                "unchecked": is_modelled(replay.policy),
            })
        });
        json!({
            "trace": self.trace,
            "model": profile.name,
            "notice": notice.word(),
            "rules": self.setting.rules,
            "on_demand": self.on_demand,
            "boot_seconds": self.boot,
            "gpus": self.setting.gpus,
            "prices": self.aims.prices(),
            "objective": self.aims.objective(),
            "intervals": trace.intervals.len(),
            "interval_seconds": self.setting.interval,
            "mean_machines": trace.mean(),
            "trace_fingerprint": format!("{:016x}", fingerprint(trace)),
            "profile_fingerprint": format!("{:016x}", profile.fingerprint()),
            "earned": earned.map(Earned::object),
            "policies": policies.collect::<Vec<Value>>(),
        })
    }
}

/// The table, with what stands above and below it.
fn table(head: &[String; 3], columns: &[&str], rows: &[Vec<String>], notes: &[String]) -> String {
    let mut text = head.join("\n");
    text.push_str("\n\n");
    let mut line = |cells: &[String]| {
        let _ = write!(text, "{:<23}", cells[0]); // writing to a String cannot fail
        let widths = [10, 7, 8, 11, 10, 8, 11, 7, 11].into_iter().chain(std::iter::repeat(10));
        for (cell, width) in cells[1..].iter().zip(widths) {
            let _ = write!(text, "{cell:>width$}");
        }
        text.push('\n');
    };
    line(&columns.iter().map(ToString::to_string).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    text + "\n" + &notes.join("\n")
}

/// Heads of the columns.
const HEAD: [&str; 10] = [
    "policy",
    "samples/s",
    "ideal",
    "gap",
    "$/million",
    "useful h",
    "redone",
    "migrating",
    "idle",
    "re-layouts",
];

/// True for the systems of others that no measurement on such a profile stands behind.
fn is_modelled(policy: &str) -> bool {
    POLICIES.iter().any(|known| known.word == policy && known.about.contains(LABEL))
}

/// The speed of `policy` under `notice`; of the replays at hand if it is among them.
fn rate(
    policy: &str,
    trace: &Availability,
    costs: &CostModel,
    notice: Notice,
    replays: &[Replayed],
) -> Result<f64> {
    if let Some(known) = replays.iter().find(|replay| replay.policy == policy) {
        return Ok(known.samples_per_second);
    }
    replay(policy, trace, costs, notice).map(|replay| replay.samples_per_second).map_err(told)
}

/// What shares are taken of.
struct Yardsticks {
    ideal: f64,
    parcae: f64,
    truth: f64,
}

impl Yardsticks {
    fn new(trace: &Availability, costs: &CostModel, replays: &[Replayed]) -> Result<Yardsticks> {
        // The published forecast never sees the minute it plans for; the others do not depend on the notice.
        Ok(Yardsticks {
            ideal: rate("ideal", trace, costs, Notice::None, replays)?,
            parcae: rate("parcae", trace, costs, Notice::None, &[])?,
            truth: rate("parcae-truth", trace, costs, Notice::None, replays)?,
        })
    }

    /// The cells of a policy's row, in the order of [`HEAD`].
    fn cells(&self, replay: &Replayed) -> Vec<String> {
        let hours = replay.hours;
        let mark = if is_modelled(replay.policy) { " *" } else { "" };
        vec![
            format!("{}{mark}", replay.policy),
            significant(replay.samples_per_second),
            format!("{:.1}%", 100.0 * self.share_of_ideal(replay)),
            self.gap_share(replay).map_or("-".into(), |share| format!("{share:.2}")),
            replay.dollars_per_million_samples.map_or("-".into(), significant),
            format!("{:.1}", hours.useful),
            format!("{:.1}", hours.redone),
            format!("{:.1}", hours.migrating),
            format!("{:.1}", hours.idle),
            replay.relayouts.to_string(),
        ]
    }

    /// What stands below the table.
    fn notes(&self, profile: &Profile, replays: &[Replayed], aims: &Aims) -> Vec<String> {
        let price = profile.dollars_per_hour;
        let spot = match aims.prices() {
            Some(file) => format!("by {file}"),
            None => format!("at {} a machine and hour", significant(price.spot)),
        };
        let mut notes = vec![
            "ideal: share of the best layout each interval at no cost. gap: 0 is parcae, 1 is parcae told the future.".into(),
            format!(
                "Hours are machine-hours; $ {spot}, {} on demand.",
                significant(price.on_demand)
            ),
        ];
        if replays.iter().any(|replay| is_modelled(replay.policy)) {
            notes.push(format!(
                "*: {LABEL}; no measurement of this system on such a profile exists, books of its own."
            ));
        }
        notes
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

/// Four digits that say something; a power of ten where zeros would be many.
fn significant(value: f64) -> String {
    let power = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    match power {
        _ if value == 0.0 => "0".into(),
        -4..=8 => format!("{value:.*}", (3 - power).max(0) as usize),
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_of_any_number() {
        let words = [0.0, 1e-320, 0.01234, 11.5, 555.71, 2324.4, 1e9].map(significant);
        assert_eq!(words[..1], ["0"]);
        assert_eq!(words[2..6], ["0.01234", "11.50", "555.7", "2324"]);
        assert!(words.iter().all(|word| word.len() <= 10), "{words:?}");
    }
}
