//! What a user sees while a run goes on: one line that changes on a terminal, one line an evaluation elsewhere.

use dunlin::event::{EPOCHS_USED_UP, Event, Outcome, reason_in_words};
use dunlin::run::Run;
use dunlin::strategy::mean_and_variance;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

/// Prints events on standard error.
pub(crate) struct Console {
    terminal: bool,
    epochs: usize,
    /// The model's setting, if it has one.
    tolerance: Option<f64>,
    last: String,
}

impl Console {
    pub(crate) fn new() -> Console {
        Console { terminal: std::io::stderr().is_terminal(), epochs: 0, tolerance: None, last: String::new() }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Started { run, isa, clocks_per_epoch, samples, resumed_epochs, .. } => {
                self.epochs = run.stop.epochs;
                self.tolerance = run.settings.get("tolerance").and_then(|value| value.as_f64());
                let (workers, lanes) = (run.workers, run.lanes);
                self.line(&format!(
                    "training {} on {} {}, {lanes} {} (same --lanes, same bits), {}, {}, {samples} samples, {isa}",
                    run.model,
                    run.cluster,
                    plural(workers, "worker"),
                    if lanes == 1 { "lane" } else { "lanes" },
                    run.strategy,
                    epoch_words(run, *clocks_per_epoch),
                ));
                if *resumed_epochs > 0 {
                    self.line(&format!("going on after epoch {resumed_epochs}"));
                }
            }
            Event::Progress { seconds, epochs, samples_per_second } => {
                let left = (self.epochs as f64 - epochs) * seconds / epochs.max(1e-9);
                let rate = quantity(*samples_per_second);
                self.status(&format!(
                    "{} epoch {epochs:.1}/{}  {rate} samples/s  {} left",
                    self.last,
                    self.epochs,
                    duration(left)
                ));
            }
            Event::Evaluated { seconds, epochs, metrics, report, .. } => {
                let stale = report.staleness.values().filter_map(mean_and_variance).map(|(mean, _)| mean);
                let stale = stale.fold(0.0f64, |a, b| if b.abs() > a.abs() { b } else { a });
                let mut line = format!("epoch {epochs:>4}  {seconds:>8.3} s  {}", short(metrics));
                if stale != 0.0 {
                    let _ = write!(line, "  staleness {stale:.2}"); // writing to a String cannot fail
                }
                self.last = short(metrics);
                self.line(&line);
            }
            Event::Checkpoint { folder, seconds, .. } => {
                self.line(&format!("checkpoint {folder} in {seconds:.2} s"))
            }
            Event::Rehosted { worker, slower, had, lanes, cuts, .. } => {
                self.line(&format!("re-hosted: {}", rehosted_words(*worker, *slower, *had, *lanes, cuts)));
            }
            Event::Warning { .. } => {} // told even to those who want to hear nothing else
            Event::Ended { outcome, .. } if outcome.reason == EPOCHS_USED_UP => {
                self.line(&unconverged(outcome, self.tolerance));
            }
            Event::Ended { .. } | Event::Failed { .. } => self.status(""), // the error comes as the last line
        }
    }

    fn line(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        note(&format!("{clear}{text}"));
    }

    fn status(&self, text: &str) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}"); // a status line that is not seen does no harm
        }
    }
}

/// That a model which can tell when it is done was not.
fn unconverged(outcome: &Outcome, tolerance: Option<f64>) -> String {
    let gap = match (outcome.metrics.get("relative_gap"), tolerance) {
        (Some(gap), Some(wanted)) => format!(": relative_gap {gap:.2e}, wanted {wanted:.0e}"),
        _ => String::new(),
    };
    format!("not converged after {}{gap}; give more --epochs", plural(outcome.epochs, "epoch"))
}

/// One line on standard error. If nobody reads there any more, work goes on all the same.
pub(crate) fn note(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// "3 workers", "1 worker".
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// How an epoch is cut: "2 clocks an epoch", "12 row blocks that go round once an epoch".
pub(crate) fn epoch_words(run: &Run, clocks_per_epoch: usize) -> String {
    match run.rotates() {
        true => format!("{} that go round once an epoch", plural(clocks_per_epoch, "row block")),
        false => format!("{} an epoch", plural(clocks_per_epoch, "clock")),
    }
}

/// Who has how many lanes now, and why: "worker 3 is 2.0 x slower, keeps 2 of 16 lanes". Lanes can differ in their work, so
/// that a quick worker may have fewer of them.
pub(crate) fn rehosted_words(worker: usize, slower: f64, had: usize, lanes: usize, cuts: &[usize]) -> String {
    let has = cuts.windows(2).nth(worker).map_or(0, |cuts| cuts[1].saturating_sub(cuts[0]));
    let why = match (slower >= 1.05, has < had) {
        (true, true) => format!("is {slower:.1} x slower, keeps"),
        (false, false) => "is as quick as any, takes".to_string(),
        _ => "gets its part of the work with".to_string(),
    };
    format!("worker {worker} {why} {has} of {lanes} lanes (had {had})")
}

/// A number with k, M or G.
pub(crate) fn quantity(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1} G", v / 1e9),
        v if v >= 1e6 => format!("{:.1} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0} "),
    }
}

/// Seconds as a person says them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() || s < 0.0 => "?".into(),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn short(metrics: &BTreeMap<String, f64>) -> String {
    metrics.iter().map(|(name, value)| format!("{name} {value:.6}")).collect::<Vec<_>>().join("  ")
}

/// The table at the end of a run.
pub(crate) fn table(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<28} {value}"); // writing to a String cannot fail
    };
    for (name, value) in &outcome.metrics {
        row(name, format!("{value:.6}"));
    }
    row("epochs", format!("{} (ended by: {})", outcome.epochs, reason_in_words(&outcome.reason)));
    row("seconds", format!("{:.3}", outcome.seconds));
    row("samples per second", quantity(outcome.samples_per_second));
    row("seconds blocked, all workers", format!("{:.3}", outcome.blocked_seconds));
    row("bytes sent", format!("{}B", quantity(outcome.bytes_sent as f64)));
    if let Some(words) = outcome.report.managed.words() {
        row("updates", words);
    }
    row("peak memory, MB", format!("{:.1}", outcome.peak_rss_mb));
    for (table, histogram) in &outcome.report.staleness {
        if let Some((mean, variance)) = mean_and_variance(histogram) {
            let bars: Vec<String> =
                histogram.iter().map(|(clocks, count)| format!("{clocks}: {count}")).collect();
            row(
                &format!("staleness of {table}"),
                format!("mean {mean:.2}, variance {variance:.2} clocks  ({})", bars.join(", ")),
            );
        }
    }
    text
}
