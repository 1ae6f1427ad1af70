//! `dunlin show`: a run from its events alone, so that looking at one that goes on is the same as looking back.

pub(crate) mod html;
pub(crate) mod page;
pub(crate) mod record;
pub(crate) mod svg;
pub(crate) mod text;

use crate::commands::data::out;
use crate::console::note;
use crate::places;
use dunlin::Result;
use dunlin::saved::write_atomically;
use record::{End, Record};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin show runs-out/first
  dunlin show runs-out/first --html             (writes runs-out/first/report.html)
  dunlin show runs-out/first --json | jq .metrics")]
pub(crate) struct Show {
    /// The run folder
    run: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write a page with curves, times and staleness [default: report.html in the run folder]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    html: Option<Option<PathBuf>>,
}

impl Show {
    pub(crate) fn run(self) -> Result<()> {
        let record = Record::read(&self.run)?;
        if self.json {
            out(&object(&record))?;
        } else {
            out(&text::table(&record).trim_end())?;
        }
        if let Some(file) = &self.html {
            let file = file.clone().unwrap_or_else(|| self.run.join("report.html"));
            places::check_file("--html", &file)?;
            save(&file, &page::page(&self.run.display().to_string(), &record), self.json)?;
        }
        Ok(())
    }
}

/// Writes a page and says where it is: below the table, or aside where standard output is for machines.
pub(crate) fn save(file: &Path, page: &str, is_json: bool) -> Result<()> {
    write_atomically(file, page.as_bytes())?;
    let line = format!("wrote {}", file.display());
    if is_json {
        note(&line);
        return Ok(());
    }
    out(&line)
}

/// The record as one JSON object; what is no number is null.
fn object(record: &Record) -> Value {
    let (state, reason) = match &record.end {
        End::Ended(outcome) => ("ended", Some(outcome.reason.clone())),
        End::Failed(text) => ("failed", Some(text.clone())),
        End::Open => ("open", None),
    };
    let (epochs, seconds) = record.so_far();
    let staleness = record.report.staleness.iter().map(|(table, histogram)| {
        let (mean, variance) = dunlin::strategy::mean_and_variance(histogram).unwrap_or((0.0, 0.0));
        (table.clone(), json!({"mean": mean, "variance": variance, "histogram": histogram}))
    });
    let staleness: serde_json::Map<String, Value> = staleness.collect();
    let checkpoints = record
        .checkpoints
        .iter()
        .map(|saved| json!({"epochs": saved.epochs, "folder": saved.folder, "seconds": saved.seconds}));
    let evaluations = record.evaluations.iter().map(|evaluation| {
        json!({"epochs": evaluation.epochs, "seconds": evaluation.seconds, "metrics": evaluation.metrics})
    });
    json!({
        "run": record.start.as_ref().map(|start| &start.run),
        "version": record.start.as_ref().map(|start| &start.version),
        "isa": record.start.as_ref().map(|start| &start.isa),
        "started_unix_seconds": record.start.as_ref().map(|start| start.unix_seconds),
        "clocks_per_epoch": record.start.as_ref().map(|start| start.clocks_per_epoch),
        "row_blocks": record.start.as_ref().filter(|start| start.run.rotates()).map(|start| start.clocks_per_epoch),
        "samples": record.start.as_ref().map(|start| start.samples),
        "state": state,
        "reason": reason,
        "epochs": epochs,
        "seconds": seconds,
        "evaluation_seconds": record.evaluation_seconds,
        "metrics": record.metrics(),
        "workers": record.workers,
        "staleness": staleness,
        "merge_errors": record.report.mean_merge_errors().collect::<std::collections::BTreeMap<_, _>>(),
        "blocked_seconds": record.report.blocked_seconds,
        "update_bytes": record.report.update_bytes,
        "managed": record.report.managed,
        "bytes_sent": record.bytes_sent,
        "resumes": record.resumes,
        "checkpoints": checkpoints.collect::<Vec<_>>(),
        "warnings": record.warnings,
        "evaluations": evaluations.collect::<Vec<_>>(),
        "damaged_lines": record.damaged,
        "torn_last_line": record.torn,
    })
}
