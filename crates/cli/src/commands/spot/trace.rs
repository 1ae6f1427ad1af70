//! `dunlin spot trace`: facts of a trace, forecasts of it scored, and new traces like it.

mod page;
mod text;

use super::{milliseconds, read_trace, told};
use crate::commands::data::out;
use crate::commands::show::save;
use crate::places;
use dunlin::{Error, Result};
use dunlin_spot::forecast::{FORECASTERS, Score, Scoring, Settings, score};
use dunlin_spot::trace::generate::Generator;
use dunlin_spot::trace::{Availability, Content, ReadOptions, Statistics};
use serde_json::json;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// Horizons that forecasts are scored at, intervals; each looks back as far.
const HORIZONS: [usize; 2] = [8, 12];
/// About as many forecasts are scored at most.
const FORECASTS: usize = 3000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A trace is event rows `ms,add|remove,machine[,zone]`, minutes `minute,count[,added,removed]`, polls
`date,time,count`, or a JSON series; which one is found out.

Examples:
  dunlin spot trace sample:p3
  dunlin spot trace sample:p3 --forecasts --html trace.html
  dunlin spot trace sample:p3 --segment 330..390 --json
  dunlin spot trace --generate bootstrap --fit sample:p3 --seed 7 > new.csv"
)]
pub(crate) struct TraceCommand {
    /// The trace, or - for standard input
    file: Option<String>,
    /// Seconds of an interval
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    interval: f64,
    /// Seconds between the numbers of a JSON array that does not say so itself [default: none]
    #[arg(long, value_name = "SECONDS")]
    gap: Option<f64>,
    /// Most machines there can be; a trace with more is refused [default: as many as the trace ever has]
    #[arg(long, value_name = "MACHINES")]
    capacity: Option<u32>,
    /// Only these intervals, the first from 0 and the last left out
    #[arg(long, value_name = "FROM..TO")]
    segment: Option<String>,
    /// Score the forecasters on the trace
    #[arg(long)]
    forecasts: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a page with the machines over time, batch sizes and gaps
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a new trace as event rows: poisson, batched, diurnal, zones or bootstrap
    #[arg(long, value_name = "GENERATOR", requires = "fit", conflicts_with_all = ["file", "json", "html", "forecasts"])]
    generate: Option<String>,
    /// The trace that the new one is like
    #[arg(long, value_name = "FILE", requires = "generate")]
    fit: Option<String>,
    /// Seed of the new trace
    #[arg(long, default_value_t = 0, requires = "generate")]
    seed: u64,
    /// Intervals of the new trace [default: as many as the given one has]
    #[arg(long, requires = "generate")]
    intervals: Option<usize>,
}

/// What was read, and what is known of it.
struct Facts {
    name: String,
    form: &'static str,
    notes: Vec<String>,
    availability: Availability,
    statistics: Statistics,
    /// Scores at every horizon, for every forecaster; empty if nobody asked.
    scores: Vec<(&'static str, Vec<Score>)>,
    stride: usize,
}

impl TraceCommand {
    pub(crate) fn run(self) -> Result<()> {
        match (&self.generate, &self.fit, &self.file) {
            (Some(generator), Some(fit), _) => self.make(generator, fit),
            (None, _, Some(file)) => self.show(file),
            _ => Err(Error::Usage(
                "no trace; give a file, or --generate GENERATOR --fit FILE; --help shows what there is"
                    .into(),
            )),
        }
    }

    fn show(&self, file: &str) -> Result<()> {
        if let Some(page) = &self.html {
            places::check_file("--html", page)?;
        }
        let facts = self.facts(file)?;
        if self.json {
            out(&object(&facts))?;
        } else {
            out(&text::table(&facts).trim_end())?;
        }
        match &self.html {
            Some(file) => save(file, &page::page(&facts), self.json),
            None => Ok(()),
        }
    }

    fn facts(&self, file: &str) -> Result<Facts> {
        let interval_ms = milliseconds("--interval", self.interval)?;
        let source = read_trace(file, &self.options()?)?;
        let whole = source.availability(interval_ms).map_err(told)?;
        let availability = self.part(&whole)?;
        let mut statistics = Statistics::of(&availability);
        if let (Content::Events(trace), None) = (&source.content, &self.segment) {
            statistics.time_average = trace.time_average();
        }
        let stride = (availability.intervals.len() / FORECASTS).max(3);
        let scores = if self.forecasts { self.scores(&availability, stride)? } else { Vec::new() };
        let name = file.to_string();
        Ok(Facts { name, form: source.form, notes: source.notes, availability, statistics, scores, stride })
    }

    fn options(&self) -> Result<ReadOptions> {
        let interval_ms = self.gap.map(|gap| milliseconds("--gap", gap)).transpose()?;
        Ok(ReadOptions { interval_ms, capacity: self.capacity })
    }

    /// The intervals of --segment.
    fn part(&self, whole: &Availability) -> Result<Availability> {
        let Some(segment) = &self.segment else { return Ok(whole.clone()) };
        let bounds =
            segment.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (from, to) = bounds.ok_or_else(|| {
            Error::Usage(format!("--segment {segment}: two intervals are wanted, such as 330..390"))
        })?;
        whole.segment(from, to).map_err(told)
    }

    fn scores(&self, availability: &Availability, stride: usize) -> Result<Vec<(&'static str, Vec<Score>)>> {
        let (length, needed) = (availability.intervals.len(), 2 * HORIZONS[HORIZONS.len() - 1]);
        if length < needed {
            return Err(Error::Usage(format!(
                "--forecasts: the trace has {length} intervals; {needed} are needed"
            )));
        }
        let scored = |kind: &dunlin_spot::forecast::Kind| {
            let at = HORIZONS.iter().map(|&horizon| {
                let settings =
                    Settings { history: Some(horizon), capacity: self.capacity, ..Settings::default() };
                let mut forecaster = kind.make(&settings).map_err(told)?;
                let scoring = Scoring { stride, ..Scoring::published(horizon, horizon) };
                Ok(score(forecaster.as_mut(), &availability.intervals, &scoring))
            });
            Ok((kind.name, at.collect::<Result<Vec<_>>>()?))
        };
        FORECASTERS.iter().map(scored).collect()
    }

    /// A new trace on standard output.
    fn make(&self, generator: &str, fit: &str) -> Result<()> {
        let generator = Generator::named(generator).map_err(told)?;
        let interval_ms = milliseconds("--interval", self.interval)?;
        let whole = read_trace(fit, &self.options()?)?.availability(interval_ms).map_err(told)?;
        let like = self.part(&whole)?;
        let capacity = self.capacity.unwrap_or_else(|| like.highest());
        let intervals = self.intervals.unwrap_or(like.intervals.len());
        let trace = generator.generate(&like, capacity, intervals, self.seed).map_err(told)?;
        let mut rows = BufWriter::new(std::io::stdout().lock());
        writeln!(rows, "# made by dunlin spot trace --generate {} --seed {}", generator.name, self.seed)
            .and_then(|()| trace.write(&mut rows))
            .and_then(|()| rows.flush())
            .map_err(Error::io("cannot write to standard output"))
    }
}

fn object(facts: &Facts) -> serde_json::Value {
    let forecasts = facts.scores.iter().flat_map(|(name, scores)| {
        scores.iter().zip(HORIZONS).map(move |(score, horizon)| {
            let (half, most) = score.mean_coverage();
            json!({
                "forecaster": name,
                "horizon": horizon,
                "error": score.error,
                "relative_error": score.relative_error,
                "mean_crps": score.mean_crps(),
                "mean_coverage_50": half,
                "mean_coverage_90": most,
                "by_interval": score,
            })
        })
    });
    json!({
        "trace": facts.name,
        "form": facts.form,
        "notes": facts.notes,
        "statistics": facts.statistics,
        "forecasts": forecasts.collect::<Vec<_>>(),
    })
}
