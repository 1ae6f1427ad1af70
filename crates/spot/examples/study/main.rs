//! How well the planner does where it was not tuned: halves of the trace, new traces, other costs; and how long replays take.
//!
//! `cargo run --release -p dunlin-spot --example study -- [halves|boot|others|costs|time|all] [--seeds N] [--tune]
//! [--model NAME] [--notice WORD] [--smoke]`. `--tune` makes new traces from minutes 0-329 alone and with other seeds.

#![allow(clippy::print_stdout, reason = "it prints tables")]

mod tables;
mod time;

use dunlin_spot::Result;
use dunlin_spot::cost::CostModel;
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::replay;
use dunlin_spot::trace::{Availability, ReadOptions, read};

const TRACE: &[u8] = include_bytes!("../../data/p3_minutes.csv");
/// Minutes 0 to 329: what may be tuned on.
const FIRST_HALF: usize = 330;
/// Models, whether their published plans ran on the trace that never falls below 12, and on how many minutes.
const RUNS: [(&str, bool, usize); 5] = [
    ("resnet152", true, 683),
    ("vgg19", false, 666),
    ("bert", false, 683),
    ("gpt-1.5b", false, 683),
    ("gpt-6.7b", true, 666),
];

/// A part of the study: prints its tables.
type Part = fn(&Study) -> Result<()>;

/// What to study, and how much of it.
struct Study {
    what: String,
    seeds: u64,
    tune: bool,
    model: Option<String>,
    notices: Vec<Notice>,
    smoke: bool,
}

impl Study {
    fn parse() -> std::result::Result<Study, String> {
        let notices = vec![Notice::None, Notice::AtEvent];
        let mut study =
            Study { what: "all".into(), seeds: 100, tune: false, model: None, notices, smoke: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "halves" | "boot" | "others" | "costs" | "time" | "all" => study.what = word,
                "--seeds" => study.seeds = value()?.parse().map_err(|_| "--seeds wants a number")?,
                "--model" => study.model = Some(value()?),
                "--notice" => {
                    study.notices = vec![Notice::parse(&value()?).map_err(|error| error.to_string())?];
                }
                "--tune" => study.tune = true,
                "--smoke" => (study.smoke, study.seeds) = (true, 1),
                _ => return Err(format!("{word} is not known; see the head of this file")),
            }
        }
        Ok(study)
    }

    fn wants(&self, part: &str) -> bool {
        self.what == part || self.what == "all"
    }

    /// The models, each with its trace.
    fn runs(&self) -> Result<Vec<(Profile, Availability)>> {
        let whole = read(TRACE, "p3_minutes.csv", &ReadOptions::default())?.availability(60_000)?;
        let wanted = RUNS.iter().filter(|run| self.model.as_ref().is_none_or(|model| model == run.0));
        let wanted = wanted.take(if self.smoke { 1 } else { RUNS.len() });
        let run = |&(model, variant, minutes): &(&str, bool, usize)| {
            let trace = if variant { whole.without_first_fall_below(12) } else { whole.clone() };
            let minutes = if self.smoke { 60 } else { minutes };
            Ok((Profile::built_in(model)?, trace.segment(0, minutes)?))
        };
        wanted.map(run).collect()
    }
}

/// Samples per second of some policies.
fn rates(policies: &[&str], trace: &Availability, costs: &CostModel, notice: Notice) -> Result<Vec<f64>> {
    policies.iter().map(|policy| Ok(replay(policy, trace, costs, notice)?.samples_per_second)).collect()
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let study = Study::parse()?;
    let parts: [(&str, Part); 5] = [
        ("halves", tables::halves),
        ("costs", tables::costs),
        ("others", tables::others),
        ("boot", tables::boot),
        ("time", time::times),
    ];
    for (_, part) in parts.iter().filter(|part| study.wants(part.0)) {
        part(&study)?;
    }
    Ok(())
}
