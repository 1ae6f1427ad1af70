//! A run as a table for the terminal.

use super::record::{End, Record, Start, date};
use crate::console::{epoch_words, plural, quantity};
use dunlin::event::WorkerTimes;
use dunlin::memory::in_words;
use dunlin::strategy::mean_and_variance;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Characters of the longest bar.
const BAR: f64 = 40.0;
/// Most rows of a histogram.
const ROWS: usize = 16;

/// The whole record as text.
pub(crate) fn table(record: &Record) -> String {
    let mut text = String::new();
    for (name, value) in facts(record) {
        row(&mut text, &name, &value);
    }
    for (name, value) in record.metrics() {
        row(&mut text, &name, &format!("{value:.6}"));
    }
    for saved in &record.checkpoints {
        let (epochs, folder, seconds) = (saved.epochs, &saved.folder, saved.seconds);
        row(&mut text, "checkpoint", &format!("{folder}, epoch {epochs}, written in {seconds:.3} s"));
    }
    for note in record.warnings.iter().chain(&record.file_notes()) {
        row(&mut text, "warning", note);
    }
    workers(&mut text, record);
    for (table, histogram) in &record.report.staleness {
        staleness(&mut text, table, histogram);
    }
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<28} {}", printable(value)); // writing to a String cannot fail
}

/// Without control characters, which a file could smuggle onto a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What was run and what it came to, name and value: head of the table and of the page.
pub(crate) fn facts(record: &Record) -> Vec<(String, String)> {
    let mut facts = record.start.as_ref().map(head).unwrap_or_default();
    let mut fact = |name: &str, value: String| facts.push((name.into(), value));
    fact("state", record.end_words());
    let (epochs, seconds) = record.so_far();
    let round = if epochs.fract() == 0.0 { 0 } else { 1 };
    fact("epochs", format!("{epochs:.round$}"));
    fact(record.time_word(), format!("{seconds:.3}"));
    fact("evaluation seconds", format!("{:.3}", record.evaluation_seconds));
    if let End::Ended(outcome) = &record.end {
        fact("samples per second", quantity(outcome.samples_per_second).trim_end().into());
        fact("peak memory, MB", format!("{:.1}", outcome.peak_rss_mb));
    }
    fact("seconds blocked, all workers", format!("{:.3}", record.report.blocked_seconds));
    for (table, error) in record.report.mean_merge_errors() {
        let text = format!("{:.4} % at the end of a lap, mean over lanes and laps", 100.0 * error);
        fact(&format!("error of merged {table}"), text);
    }
    if let Some(words) = record.report.managed.words() {
        fact("updates", words);
    }
    fact("bytes sent", format!("{}B", quantity(record.bytes_sent as f64)));
    if record.resumes > 0 {
        let times = plural(record.resumes, "time");
        fact("resumed", format!("{times}; times, bytes and staleness are since the last"));
    }
    facts
}

fn head(start: &Start) -> Vec<(String, String)> {
    let run = &start.run;
    let settings = run.settings.as_object().into_iter().flatten();
    let settings: Vec<String> = settings.map(|(key, value)| format!("{key}={value}")).collect();
    let test = run.test.as_ref().map(|test| format!(", tested on {test}")).unwrap_or_default();
    let servers = match run.servers {
        0 => String::new(),
        servers => format!(", {}", plural(servers, "server")),
    };
    let mut facts = vec![
        ("model", format!("{} ({})", run.model, settings.join(", "))),
        ("data", format!("{}{test}; {} samples", run.train, start.samples)),
        ("cluster", format!("{}, {}{servers}", run.cluster, plural(run.workers, "worker"))),
        ("lanes", format!("{}, {}", run.lanes, epoch_words(run, start.clocks_per_epoch))),
        ("strategy", run.strategy.to_string()),
        ("seed", run.seed.to_string()),
        ("isa", start.isa.clone()),
        ("version", start.version.clone()),
        ("started", date(start.unix_seconds)),
    ];
    if let Some(bandwidth) = run.bandwidth {
        facts.push(("bandwidth", format!("{}/s a worker", in_words(bandwidth as f64))));
    }
    if !run.transfer.is_exact() {
        facts.push(("updates travel as", run.transfer.to_string()));
    }
    if !run.slow.is_empty() {
        facts.push(("made slow", format!("{:?}", run.slow)));
    }
    facts.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn workers(text: &mut String, record: &Record) {
    let parts = |times: &WorkerTimes| [times.compute_seconds, times.blocked_seconds, times.exchange_seconds];
    let longest = record.workers.iter().map(|times| parts(times).iter().sum()).fold(0.0f64, f64::max);
    if record.workers.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nworker   # compute     . wait + exchange   ({})", record.time_word());
    for (rank, times) in record.workers.iter().enumerate() {
        let [compute, wait, exchange] = parts(times);
        let bar: String = [(compute, '#'), (wait, '.'), (exchange, '+')]
            .into_iter()
            .flat_map(|(seconds, mark)| std::iter::repeat_n(mark, bar_length(seconds, longest)))
            .collect();
        let _ = writeln!(text, "{rank:>6} {compute:>11.3} {wait:>10.3} {exchange:>10.3}   {bar}");
    }
}

fn bar_length(value: f64, longest: f64) -> usize {
    if longest > 0.0 { (value / longest * BAR).round().clamp(0.0, BAR) as usize } else { 0 }
}

fn staleness(text: &mut String, table: &str, histogram: &BTreeMap<i64, u64>) {
    let Some((mean, variance)) = mean_and_variance(histogram) else { return };
    text.push('\n');
    row(text, &format!("staleness of {table}"), &format!("mean {mean:.3}, variance {variance:.3} clocks"));
    let bins = bins(histogram, ROWS);
    let most = bins.iter().map(|bin| bin.1).max().unwrap_or(0);
    for (name, count) in bins {
        let bar = "#".repeat(bar_length(count as f64, most as f64));
        let _ = writeln!(text, "{name:>12} {count:>10}  {bar}");
    }
}

/// A histogram in at most `most` bins of equal width, empty ones included: label and count.
pub(crate) fn bins(histogram: &BTreeMap<i64, u64>, most: usize) -> Vec<(String, u64)> {
    let (Some((low, _)), Some((high, _))) = (histogram.first_key_value(), histogram.last_key_value()) else {
        return Vec::new();
    };
    let (low, high) = (i128::from(*low), i128::from(*high)); // the difference of two i64 may not be one
    let width = (high - low) / most as i128 + 1;
    let mut bins = vec![0u64; ((high - low) / width) as usize + 1];
    for (clocks, count) in histogram {
        let bin = &mut bins[((i128::from(*clocks) - low) / width) as usize];
        *bin = bin.saturating_add(*count);
    }
    let name = |bin: usize| {
        let first = low + bin as i128 * width;
        if width == 1 { first.to_string() } else { format!("{first}..{}", first + width - 1) }
    };
    bins.into_iter().enumerate().map(|(bin, count)| (name(bin), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_every_count_however_wide_the_histogram_is() {
        assert_eq!(bins(&[(0, 3), (2, 1)].into(), 16), [("0".into(), 3), ("1".into(), 0), ("2".into(), 1)]);
        let wide: BTreeMap<i64, u64> = [(i64::MIN, 1), (0, 2), (i64::MAX, 4)].into();
        let binned = bins(&wide, 16);
        assert!(binned.len() <= 16 && binned.iter().map(|bin| bin.1).sum::<u64>() == 7, "{binned:?}");
        let binned = bins(&(0..100).map(|clocks| (clocks, 1)).collect(), 16);
        assert_eq!((binned[0].0.as_str(), binned[0].1), ("0..6", 7));
        assert!(bins(&BTreeMap::new(), 16).is_empty());
    }
}
