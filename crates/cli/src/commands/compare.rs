//! `dunlin compare`: the same work under several strategies, side by side.

mod page;

use crate::cluster::Place;
use crate::commands::data::out;
use crate::commands::show::record::Record;
use crate::commands::show::save;
use crate::commands::train::{Checked, TrainFlags};
use crate::places;
use dunlin::algorithm::StrategyKind;
use dunlin::details::MetricNote;
use dunlin::event::{Outcome, reason_in_words};
use dunlin::model::did_you_mean;
use dunlin::strategy::mean_and_variance;
use dunlin::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin compare softmax --train sample:digits --workers 2 --strategies bsp,allreduce
  dunlin compare mf --train ratings.tsv --test test.tsv --cluster sim:4 --slow rotating:4 \\
      --strategies bsp,ssp:1,ssp:4,asp --until 'test_rmse<=0.95' --html compare.html")]
pub(crate) struct Compare {
    #[command(flatten)]
    flags: TrainFlags,
    /// Strategies to compare, with commas between [default: all that the model allows]
    #[arg(long, value_name = "A,B,...")]
    strategies: Option<String>,
    /// The metric to compare by [default: that of --until, or the training objective]
    #[arg(long)]
    metric: Option<String>,
    /// Write a page with all curves in one plot
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Say nothing while it runs
    #[arg(long)]
    quiet: bool,
}

/// What came of a strategy.
#[derive(Debug)]
struct Row {
    strategy: String,
    outcome: Result<Outcome>,
    /// What its events say; nothing if it did not even start.
    record: Record,
}

/// What all strategies are measured by.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    metric: String,
    at_most: bool,
    /// Nothing if no strategy came to an end.
    value: Option<f64>,
}

/// Rows and target.
struct Comparison {
    title: String,
    time_word: &'static str,
    rows: Vec<Row>,
    target: Target,
}

impl Compare {
    pub(crate) fn run(self) -> Result<()> {
        let runs = self.check()?;
        self.check_metric()?;
        self.html.iter().try_for_each(|file| places::check_file("--html", file))?;
        let folder = Scratch::new(self.flags.out.as_deref())?;
        let mut rows = Vec::new();
        for (number, (strategy, mut checked)) in runs.into_iter().enumerate() {
            let place = folder.path.join(format!("{}-{}", number + 1, file_name(&strategy)));
            checked.run.out = Some(place.clone());
            if !self.quiet && !self.json {
                eprintln!("--- {strategy}");
            }
            let outcome = checked.train(self.quiet || self.json);
            let stopped = matches!(&outcome, Ok(outcome) if outcome.reason == "interrupted");
            rows.push(Row { strategy, outcome, record: Record::read(&place).unwrap_or_default() });
            if stopped {
                break;
            }
        }
        self.tell(rows)
    }

    /// A checked run for every strategy, before any of them runs.
    fn check(&self) -> Result<Vec<(String, Checked)>> {
        let usage = |text: String| Err(Error::Usage(text));
        if let Some(strategy) = &self.flags.strategy {
            return usage(format!("--strategy {strategy}: compare takes --strategies A,B,..."));
        }
        if self.flags.resume {
            return usage("--resume: compare starts every strategy afresh".into());
        }
        if self.flags.log_order.is_some() || self.flags.replay.is_some() {
            return usage("--log-order and --replay: of one run; use train".into());
        }
        let mut runs = Vec::new();
        let strategies = self.strategies()?;
        let has_own = |strategy: &String| {
            let word = strategy.split(':').next().unwrap_or_default();
            word == StrategyKind::Rotation.word() || word == StrategyKind::Scheduled.word()
        };
        // Meant for the others: here there is nothing to choose.
        let only = strategies.iter().all(has_own);
        let is_stale =
            |strategy: &String| ["ssp", "essp", "asp"].iter().any(|word| strategy.starts_with(word));
        let some_stale = strategies.iter().any(is_stale);
        for strategy in strategies {
            let clocks_per_epoch = self.flags.clocks_per_epoch.filter(|_| only || !has_own(&strategy));
            let bandwidth = self.flags.bandwidth.clone().filter(|_| !some_stale || is_stale(&strategy));
            let flags =
                TrainFlags { strategy: Some(strategy), clocks_per_epoch, bandwidth, ..self.flags.clone() };
            let checked = flags.check()?;
            if matches!(checked.place, Place::Hosts(_)) {
                return usage("--cluster hosts: compare runs on threads, processes and sim:N".into());
            }
            if checked.run.train == "-" || checked.run.test.as_deref() == Some("-") {
                return usage(
                    "- (standard input) can be read once, and compare reads for every strategy".into(),
                );
            }
            runs.push((checked.run.strategy.to_string(), checked));
        }
        Ok(runs)
    }

    /// Refuses a metric that the model does not have: better before training than after.
    fn check_metric(&self) -> Result<()> {
        let Some(metric) = &self.metric else { return Ok(()) };
        let checked = TrainFlags { strategy: None, ..self.flags.clone() }.check()?;
        let notes = dunlin_models::find(&checked.run.model)?.details.metrics;
        let has = |note: &&MetricNote| checked.run.test.is_some() || !note.needs_test;
        let names: Vec<&str> = notes.iter().filter(has).map(|note| note.name).collect();
        if notes.is_empty() || names.contains(&metric.as_str()) {
            return Ok(());
        }
        let near = did_you_mean(metric, &names);
        let test = if checked.run.test.is_some() { "" } else { "; those of test data need --test" };
        let names = names.join(", ");
        Err(Error::Usage(format!("--metric {metric}: no such metric here{near} (there is {names}{test})")))
    }

    fn strategies(&self) -> Result<Vec<String>> {
        let strategies = match &self.strategies {
            Some(text) => split(text),
            None => {
                let flags = TrainFlags { strategy: None, ..self.flags.clone() };
                let model = dunlin_models::find(&flags.check()?.run.model)?;
                let words = model.strategies.iter().flat_map(|kind| match kind {
                    StrategyKind::Rotation => vec!["rotation", "rotation:async"],
                    kind => vec![kind.word()],
                });
                words.map(str::to_string).collect()
            }
        };
        match strategies.iter().any(|strategy| strategy.is_empty()) {
            true => Err(Error::Usage(format!(
                "--strategies {}: strategies with commas between, e.g. bsp,ssp:4,asp",
                self.strategies.as_deref().unwrap_or_default()
            ))),
            false => Ok(strategies),
        }
    }

    fn tell(&self, mut rows: Vec<Row>) -> Result<()> {
        let interrupted = rows.iter().any(|row| matches!(&row.outcome, Ok(o) if o.reason == "interrupted"));
        if rows.iter().all(|row| row.outcome.is_err()) {
            let first = rows.swap_remove(0);
            return first.outcome.map(drop); // nothing to compare: the first one's error says why
        }
        let target = self.target(&rows)?;
        let started = rows.iter().find_map(|row| row.record.start.as_ref());
        let title = started.map_or_else(String::new, |start| {
            let run = &start.run;
            format!(
                "{} on {}, {}, {} workers, {} lanes",
                run.model, run.train, run.cluster, run.workers, run.lanes
            )
        });
        let time_word = rows.iter().map(|row| row.record.time_word()).max().unwrap_or("seconds");
        let comparison = Comparison { title, time_word, rows, target };
        if self.json {
            out(&comparison.object())?;
        } else {
            out(&comparison.text().trim_end())?;
        }
        if let Some(file) = &self.html {
            save(file, &page::page(&comparison), self.json)?;
        }
        match interrupted {
            true => Err(Error::Interrupted("interrupted; the table is of what ran".into())),
            false => Ok(()),
        }
    }

    /// The metric and value of --until; else the worst of the final values, which all that ended have reached.
    fn target(&self, rows: &[Row]) -> Result<Target> {
        let ended: Vec<&Outcome> = rows.iter().filter_map(|row| row.outcome.as_ref().ok()).collect();
        let names: Vec<&String> = ended.iter().flat_map(|outcome| outcome.metrics.keys()).collect();
        let until = self.flags.until.as_deref().map(str::parse::<dunlin::run::Until>).transpose()?;
        let wanted = |name: &str| names.iter().any(|known| *known == name).then(|| name.to_string());
        let metric = match (&self.metric, &until) {
            (Some(metric), _) => wanted(metric).ok_or_else(|| {
                let known: std::collections::BTreeSet<&String> = names.iter().copied().collect();
                Error::Usage(format!("--metric {metric}: no such metric here; there is {known:?}"))
            })?,
            (None, Some(until)) => until.metric.clone(),
            (None, None) => wanted("train_objective")
                .or_else(|| wanted("train_loglik"))
                .or_else(|| names.first().map(|name| name.to_string()))
                .unwrap_or_default(),
        };
        if let Some(until) = until.filter(|until| until.metric == metric) {
            return Ok(Target { metric, at_most: until.at_most, value: Some(until.value) });
        }
        let at_most = !rises(&metric);
        let finals = ended.iter().filter_map(|outcome| outcome.metrics.get(&metric).copied());
        let worst =
            finals.filter(|value| value.is_finite()).reduce(if at_most { f64::max } else { f64::min });
        Ok(Target { metric, at_most, value: worst })
    }
}

/// True for metrics that grow as a model gets better.
fn rises(metric: &str) -> bool {
    ["accuracy", "loglik", "dual"].iter().any(|word| metric.contains(word))
}

/// At commas, except before a table's own bound: `bsp,ssp:4,totals=0` are two strategies.
fn split(text: &str) -> Vec<String> {
    let mut strategies: Vec<String> = Vec::new();
    for part in text.split(',') {
        match strategies.last_mut() {
            Some(last) if part.contains('=') => {
                last.push(',');
                last.push_str(part);
            }
            _ => strategies.push(part.trim().into()),
        }
    }
    strategies
}

fn file_name(strategy: &str) -> String {
    strategy.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// Where the run folders go: kept if the user named the place.
struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    fn new(out: Option<&Path>) -> Result<Scratch> {
        let path = match out {
            Some(out) => {
                places::check_folder("--out", out)?;
                out.to_path_buf()
            }
            None => {
                let now = dunlin::comm::time::unix_seconds(); // process numbers come again
                std::env::temp_dir().join(format!("dunlin-compare-{}-{now}", std::process::id()))
            }
        };
        std::fs::create_dir_all(&path).map_err(Error::io(format!("cannot create {}", path.display())))?;
        Ok(Scratch { path, kept: out.is_some() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path); // temporary; nobody needs to know
        }
    }
}

impl Target {
    /// "test_rmse <= 0.93".
    fn words(&self) -> String {
        let sign = if self.at_most { "<=" } else { ">=" };
        match self.value {
            Some(value) => format!("{} {sign} {value:.6}", self.metric),
            None => self.metric.clone(),
        }
    }

    /// Seconds and epochs at the first evaluation of `record` that reaches it.
    fn reached(&self, record: &Record) -> Option<(f64, usize)> {
        let value = self.value?;
        let good = |seen: f64| if self.at_most { seen <= value } else { seen >= value };
        let mut evaluations = record.evaluations.iter();
        let first =
            evaluations.find(|evaluation| evaluation.metrics.get(&self.metric).is_some_and(|v| good(*v)))?;
        Some((first.seconds, first.epochs))
    }
}

/// Mean staleness over the reads of all tables.
fn staleness(outcome: &Outcome) -> Option<f64> {
    let mut all = BTreeMap::<i64, u64>::new();
    for (clocks, count) in outcome.report.staleness.values().flatten() {
        *all.entry(*clocks).or_default() += count;
    }
    mean_and_variance(&all).map(|(mean, _)| mean)
}

impl Comparison {
    /// Headings of the table.
    fn head(&self) -> Vec<String> {
        let to = if self.time_word == "seconds" { "s to target" } else { "virtual s to target" };
        let seconds = if self.time_word == "seconds" { "seconds" } else { "virtual s" };
        let final_metric = self.target.metric.as_str();
        ["strategy", to, final_metric, "epochs", seconds, "blocked s", "sent, MB", "staleness", "ended by"]
            .map(String::from)
            .to_vec()
    }

    /// Rows of the table. One that failed has the error in its last column.
    fn cells(&self) -> Vec<Vec<String>> {
        let cells = |row: &Row| {
            let time =
                self.target.reached(&row.record).map_or("not reached".into(), |(s, _)| format!("{s:.3}"));
            let rest = match &row.outcome {
                Ok(outcome) => vec![
                    outcome
                        .metrics
                        .get(&self.target.metric)
                        .map_or("-".into(), |value| format!("{value:.6}")),
                    outcome.epochs.to_string(),
                    format!("{:.3}", outcome.seconds),
                    format!("{:.3}", outcome.blocked_seconds),
                    format!("{:.3}", outcome.bytes_sent as f64 / 1e6),
                    staleness(outcome).map_or("-".into(), |mean| format!("{mean:.3}")),
                    reason_in_words(&outcome.reason).to_string(),
                ],
                Err(error) => {
                    let (epochs, seconds) = row.record.so_far();
                    let mut rest = vec!["-".to_string(), format!("{epochs:.0}"), format!("{seconds:.3}")];
                    rest.extend(["-", "-", "-"].map(String::from));
                    rest.push(format!(
                        "{}: {error}",
                        if matches!(error, Error::Diverged(_)) { "diverged" } else { "failed" }
                    ));
                    rest
                }
            };
            [row.strategy.clone(), time].into_iter().chain(rest).collect()
        };
        self.rows.iter().map(cells).collect()
    }

    /// The heading's words on what is measured.
    fn words(&self) -> String {
        let time =
            if self.time_word == "seconds" { "" } else { "; times are virtual, made by the simulator" };
        format!("target: {}{time}", self.target.words())
    }

    fn text(&self) -> String {
        let (head, cells) = (self.head(), self.cells());
        let last = head.len() - 1;
        let widths: Vec<usize> = (0..head.len())
            .map(|at| cells.iter().chain([&head]).map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cell = |(at, cell): (usize, &String)| match at {
                0 => format!("{cell:<width$}", width = widths[0]),
                at if at == last => cell.clone(),
                at => format!("{cell:>width$}", width = widths[at]),
            };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ") + "\n"
        };
        let lines: String = [&head].into_iter().chain(&cells).map(line).collect();
        format!("{}\n{}\n\n{lines}", self.title, self.words())
    }

    fn object(&self) -> Value {
        let row = |row: &Row| {
            let reached = self.target.reached(&row.record);
            let mut object = json!({
                "strategy": row.strategy,
                "seconds_to_target": reached.map(|reached| reached.0),
                "epochs_to_target": reached.map(|reached| reached.1),
            });
            match &row.outcome {
                Ok(outcome) => {
                    object["outcome"] = json!(outcome);
                    object["mean_staleness"] = json!(staleness(outcome));
                }
                Err(error) => object["error"] = json!(error.to_string()),
            }
            object
        };
        json!({
            "about": self.title,
            "virtual_time": self.time_word != "seconds",
            "target": {"metric": self.target.metric, "at_most": self.target.at_most, "value": self.target.value},
            "strategies": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_own_bound_stays_with_its_strategy() {
        assert_eq!(split("bsp,ssp:4,totals=0,x=1,asp"), ["bsp", "ssp:4,totals=0,x=1", "asp"]);
        assert_eq!(split("bsp,,asp"), ["bsp", "", "asp"]);
    }

    #[test]
    fn a_strategy_that_diverges_is_a_row_that_says_so() {
        let good = Outcome { metrics: [("test_rmse".to_string(), 0.9)].into(), ..Outcome::default() };
        let bad = Err(Error::Diverged("lower rate".into()));
        let rows = [("bsp", bad), ("asp", Ok(good))].map(|(strategy, outcome)| Row {
            strategy: strategy.into(),
            outcome,
            record: Record::default(),
        });
        let target = Target { metric: "test_rmse".into(), at_most: true, value: Some(0.9) };
        let comparison = Comparison { title: "t".into(), time_word: "seconds", rows: rows.into(), target };
        let text = comparison.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[4].starts_with("bsp") && lines[4].ends_with("diverged: lower rate"), "{text}");
        assert!(lines[5].starts_with("asp") && lines[5].contains("0.900000"), "{text}");
        assert_eq!(comparison.object()["strategies"][0]["error"], "lower rate");
    }

    #[test]
    fn metrics_know_which_way_is_up() {
        for metric in ["test_accuracy", "train_loglik", "heldout_loglik_per_token", "dual_objective"] {
            assert!(rises(metric), "{metric}");
        }
        for metric in ["train_objective", "test_rmse", "test_log_loss", "relative_gap"] {
            assert!(!rises(metric), "{metric}");
        }
    }
}
