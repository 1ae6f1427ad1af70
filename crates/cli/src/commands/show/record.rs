//! What a run folder's events say, whether the run has ended, goes on, or was killed in the middle of a line.

use crate::console::rehosted_words;
use dunlin::event::{EPOCHS_USED_UP, Event, Outcome, WorkerTimes, reason_in_words};
use dunlin::run::Run;
use dunlin::strategy::Report;
use dunlin::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

/// How a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum End {
    /// Nothing says that it has ended: it goes on, or was killed.
    #[default]
    Open,
    /// An error ended it.
    Failed(String),
    /// It ended as it should.
    Ended(Box<Outcome>),
}

/// How a run began.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) run: Run,
    pub(crate) version: String,
    pub(crate) isa: String,
    pub(crate) unix_seconds: u64,
    pub(crate) clocks_per_epoch: usize,
    pub(crate) samples: usize,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evaluation {
    pub(crate) seconds: f64,
    pub(crate) epochs: usize,
    /// Metrics by name; NaN where the run wrote down no number.
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Saved {
    pub(crate) epochs: usize,
    pub(crate) folder: String,
    pub(crate) seconds: f64,
}

/// A run as its events tell it. After a resume, what the checkpoint did not hold is left out; times, bytes and
/// staleness are counted from the last resume.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) start: Option<Start>,
    pub(crate) resumes: usize,
    pub(crate) evaluations: Vec<Evaluation>,
    pub(crate) workers: Vec<WorkerTimes>,
    pub(crate) report: Report,
    pub(crate) bytes_sent: u64,
    pub(crate) evaluation_seconds: f64,
    pub(crate) checkpoints: Vec<Saved>,
    pub(crate) warnings: Vec<String>,
    /// Last sign of life between evaluations: seconds, epochs.
    pub(crate) progress: Option<(f64, f64)>,
    pub(crate) end: End,
    /// What happened, in words, evaluations and progress left out.
    pub(crate) log: Vec<String>,
    /// Numbers of lines that are no events, from 1.
    pub(crate) damaged: Vec<usize>,
    /// True if the last line has no end.
    pub(crate) torn: bool,
}

impl Record {
    /// Reads the events of run folder `folder`.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are none, [`Error::Io`].
    pub(crate) fn read(folder: &Path) -> Result<Record> {
        let path = folder.join("events.jsonl");
        let place = path.display();
        let file = File::open(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::Usage(format!(
                "{}: no run folder: there is no events.jsonl in it; `dunlin train --out` writes one",
                folder.display()
            )),
            _ => Error::Io { what: format!("cannot read {place}"), source },
        })?;
        let mut reader = BufReader::new(file);
        let (mut record, mut line, mut number, mut events) = (Record::default(), Vec::new(), 0, 0);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            if read.map_err(Error::io(format!("cannot read {place}")))? == 0 {
                break;
            }
            number += 1;
            match parse(&line) {
                Some(event) => {
                    events += 1;
                    record.take(event);
                }
                None if line.last() != Some(&b'\n') => record.torn = true,
                None if line.iter().all(u8::is_ascii_whitespace) => {}
                None => record.damaged.push(number),
            }
        }
        if events == 0 {
            return Err(Error::Usage(format!(
                "{place}: no event in its {number} lines; is this a run folder?"
            )));
        }
        Ok(record)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Started {
                run,
                version,
                isa,
                unix_seconds,
                clocks_per_epoch,
                samples,
                resumed_epochs,
                ..
            } => {
                self.resume(resumed_epochs);
                self.log.push(format!("{} started{}", date(unix_seconds), going_on(resumed_epochs)));
                self.start = Some(Start { run: *run, version, isa, unix_seconds, clocks_per_epoch, samples });
            }
            Event::Progress { seconds, epochs, .. } => self.progress = Some((seconds, epochs)),
            Event::Evaluated {
                seconds,
                epochs,
                metrics,
                workers,
                report,
                bytes_sent,
                evaluation_seconds,
                ..
            } => {
                self.evaluations.push(Evaluation { seconds, epochs, metrics });
                self.evaluation_seconds = evaluation_seconds;
                (self.workers, self.report, self.bytes_sent) = (workers, report, bytes_sent);
                self.progress = None;
            }
            Event::Checkpoint { epochs, folder, seconds, .. } => {
                self.log.push(format!("epoch {epochs}: checkpoint {folder} in {seconds:.3} s"));
                self.checkpoints.push(Saved { epochs, folder, seconds });
            }
            Event::Rehosted { epochs, worker, slower, had, lanes, cuts, seconds } => {
                let words = rehosted_words(worker, slower, had, lanes, &cuts);
                self.log.push(format!("epoch {epochs}: re-hosted in {seconds:.3} s: {words}"));
            }
            Event::Warning { text } => {
                self.log.push(format!("warning: {text}"));
                self.warnings.push(text);
            }
            Event::Failed { text } => {
                self.log.push(format!("failed: {text}"));
                self.end = End::Failed(text);
            }
            Event::Ended { reason, outcome } => {
                self.log.push(format!("epoch {}: ended by {}", outcome.epochs, reason_in_words(&reason)));
                (self.report, self.bytes_sent) = (outcome.report.clone(), outcome.bytes_sent);
                self.evaluation_seconds = outcome.evaluation_seconds;
                self.end = End::Ended(outcome);
            }
        }
    }

    /// The run starts, again if it has before: what came after epoch `epochs` is done anew.
    fn resume(&mut self, epochs: usize) {
        if self.start.is_none() {
            return;
        }
        self.resumes += 1;
        self.evaluations.retain(|evaluation| evaluation.epochs <= epochs);
        self.checkpoints.retain(|saved| saved.epochs <= epochs);
        (self.workers, self.report, self.bytes_sent) = (Vec::new(), Report::default(), 0);
        (self.end, self.progress) = (End::Open, None);
    }

    /// Last metrics.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        match &self.end {
            End::Ended(outcome) => outcome.metrics.clone(),
            _ => self.evaluations.last().map(|last| last.metrics.clone()).unwrap_or_default(),
        }
    }

    /// Names of all metrics that were ever evaluated.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.evaluations.iter().flat_map(|evaluation| evaluation.metrics.keys().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Epochs and seconds of training so far.
    pub(crate) fn so_far(&self) -> (f64, f64) {
        let last = self.evaluations.last().map_or((0.0, 0.0), |last| (last.epochs as f64, last.seconds));
        match &self.end {
            End::Ended(outcome) => (outcome.epochs as f64, outcome.seconds),
            _ => self.progress.map_or(last, |(seconds, epochs)| (epochs, seconds)),
        }
    }

    /// "virtual seconds" where a simulator made the time.
    pub(crate) fn time_word(&self) -> &'static str {
        match &self.start {
            Some(start) if start.run.cluster.starts_with("sim") => "virtual seconds",
            _ => "seconds",
        }
    }

    /// Why the run ended, or that nothing says so.
    pub(crate) fn end_words(&self) -> String {
        match &self.end {
            End::Ended(outcome) => format!("ended by {}", reason_words(&outcome.reason, self.start.as_ref())),
            End::Failed(text) => format!("failed: {text}"),
            End::Open => "no end recorded: it is still running, or was killed".into(),
        }
    }

    /// What is wrong with the file of events, if anything is.
    pub(crate) fn file_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let [first, ..] = self.damaged[..] {
            let count = self.damaged.len();
            let lines = if count == 1 { "line is" } else { "lines are" };
            notes.push(format!("events.jsonl: {count} {lines} no event and left out (line {first} first)"));
        }
        if self.torn {
            notes.push("events.jsonl: the last line is torn (being written, or cut off by a kill)".into());
        }
        notes
    }
}

fn reason_words(reason: &str, start: Option<&Start>) -> String {
    let stop = start.map(|start| &start.run.stop);
    match (reason, stop) {
        ("until", Some(dunlin::run::Stop { until: Some(until), .. })) => format!("--until {until}"),
        ("epochs", Some(stop)) => format!("--epochs {}", stop.epochs),
        (EPOCHS_USED_UP, Some(stop)) => format!("--epochs {}, not converged", stop.epochs),
        ("seconds", Some(dunlin::run::Stop { seconds: Some(limit), .. })) => format!("--seconds {limit}"),
        ("converged", _) => "convergence (the model's tolerance)".into(),
        ("interrupted", _) => "interrupt; --resume goes on".into(),
        _ => reason_in_words(reason).into(),
    }
}

fn going_on(epochs: usize) -> String {
    if epochs == 0 { String::new() } else { format!(", going on after epoch {epochs}") }
}

/// An event of a line. JSON has no NaN: metrics that are null are read as such.
fn parse(line: &[u8]) -> Option<Event> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    let own = take_nulls(value.get_mut("metrics"));
    let last = take_nulls(value.pointer_mut("/outcome/metrics"));
    let mut event = serde_json::from_value(value).ok()?;
    match &mut event {
        Event::Evaluated { metrics, .. } => metrics.extend(own),
        Event::Ended { outcome, .. } => outcome.metrics.extend(last),
        _ => {}
    }
    Some(event)
}

fn take_nulls(metrics: Option<&mut Value>) -> BTreeMap<String, f64> {
    let Some(map) = metrics.and_then(Value::as_object_mut) else { return BTreeMap::new() };
    let nulls: BTreeMap<String, f64> =
        map.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| (name.clone(), f64::NAN)).collect();
    map.retain(|_, value| !value.is_null());
    nulls
}

/// Seconds since 1970 as a date and time in UTC.
pub(crate) fn date(unix_seconds: u64) -> String {
    let (mut day, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while year < 9999 && day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn a_metric_that_is_no_number_is_read_as_nan() {
        let event = Event::Evaluated {
            seconds: 1.0,
            epochs: 2,
            clock: 0,
            evaluation_seconds: 0.5,
            metrics: [("train_objective".to_string(), f64::NAN), ("b".to_string(), 2.0)].into(),
            workers: Vec::new(),
            report: Report::default(),
            bytes_sent: 0,
        };
        let line = serde_json::to_vec(&event).unwrap();
        let Some(Event::Evaluated { metrics, .. }) = parse(&line) else { panic!("{line:?}") };
        assert!(metrics["train_objective"].is_nan() && metrics["b"] == 2.0, "{metrics:?}");
        assert!(parse(b"{\"event\":\"ended\"").is_none());
    }
}
