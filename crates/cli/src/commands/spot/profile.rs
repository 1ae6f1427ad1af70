//! `dunlin spot profile`: the throughput of every layout of a model, from the times of its layers.

use super::told;
use crate::commands::data::out;
use dunlin::{Error, Result};
use dunlin_spot::pipeline::{self, Cut, Entry, Fit, LayerTable, Measured, Recompute, Settings};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, stdin};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin spot profile gpt-1.5b --machines 16
  dunlin spot profile layers.csv --fit measured.csv --csv > profile.csv

A layer table is CSV: settings as name,value (model, global_batch, micro_batch, sequence, hidden; optional memory_gib,
bytes_per_parameter, tied_embedding, all_reduce_gbit, network), then the line
layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters and one line a layer, in order.")]
pub(crate) struct Profile {
    /// A layer table: a CSV file, - for standard input, or one that comes with the program (gpt-1.5b, gpt-2, gpt-2.7b,
    /// gpt-6.7b)
    layers: String,
    /// Layouts of up to this many machines
    #[arg(long, default_value_t = 32)]
    machines: u32,
    /// How layers become stages: balanced (the slowest stage as fast as it can be) or even
    #[arg(long, default_value = "balanced")]
    cut: String,
    /// Who drops activations and computes them again: rule (where those in flight exceed the memory), always, never
    #[arg(long, default_value = "rule")]
    recompute: String,
    /// Factor on all computing times: 0.5 for machines twice as fast as those the table was made on
    #[arg(long, default_value_t = 1.0, conflicts_with = "fit")]
    compute_scale: f64,
    /// Find the factor from measured iterations of this model: CSV model,global_batch,micro_batch,dp,pp,iter_ms,...
    #[arg(long, value_name = "FILE")]
    fit: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV that other commands take with --profile; layouts that do not fit are left out
    #[arg(long)]
    csv: bool,
}

impl Profile {
    pub(crate) fn run(self) -> Result<()> {
        let table = self.table()?;
        let mut settings = Settings {
            cut: Cut::from_word(&self.cut).map_err(told)?,
            recompute: Recompute::from_word(&self.recompute).map_err(told)?,
            compute_scale: self.compute_scale,
        };
        let fit = self.fit.as_ref().map(|path| fitted(&table, &settings, path)).transpose()?;
        if let Some(fit) = &fit {
            settings.compute_scale = fit.compute_scale;
        }
        let entries = pipeline::profile(&table, &settings, self.machines).map_err(told)?;
        if self.csv {
            return out(&csv(&table, &entries));
        }
        let best = pipeline::best(&entries, self.machines);
        if self.json {
            return out(&object(&table, &settings, fit.as_ref(), &entries, &best));
        }
        out(&page(&table, &settings, fit.as_ref(), &entries, &best))
    }

    fn table(&self) -> Result<LayerTable> {
        let name = self.layers.as_str();
        let read = match LayerTable::shipped(name) {
            Some(shipped) => shipped,
            None if name == "-" => LayerTable::read(stdin().lock(), "standard input"),
            None => {
                let known = LayerTable::shipped_names().collect::<Vec<_>>().join(", ");
                let what =
                    format!("cannot read the layer table {name} (no file; with the program come {known})");
                LayerTable::read(open(Path::new(name), what)?, name)
            }
        };
        read.map_err(told)
    }
}

/// A folder opens like a file and is refused when it is read.
fn open(path: &Path, what: String) -> Result<BufReader<File>> {
    match File::open(path) {
        Ok(file) => Ok(BufReader::new(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Usage(what)),
        Err(error) => Err(Error::io(format!("cannot read {}", path.display()))(error)),
    }
}

fn fitted(table: &LayerTable, settings: &Settings, path: &Path) -> Result<Fit> {
    let name = path.display().to_string();
    let file = open(path, format!("--fit {name}: no such file"))?;
    let measured = Measured::read(file, &name, &table.model).map_err(told)?;
    pipeline::fit(table, settings, &measured).map_err(told)
}

fn csv(table: &LayerTable, entries: &[Entry]) -> String {
    let rows = entries.iter().filter_map(|entry| {
        let LayerTable { model, global_batch, micro_batch, .. } = table;
        let (pipelines, stages) = (entry.layout.pipelines, entry.layout.stages);
        let rate = entry.samples_per_second(*global_batch);
        let ms = entry.iteration_ms?;
        Some(format!("\n{model},{global_batch},{micro_batch},{pipelines},{stages},{ms:.3},{rate:.6}"))
    });
    std::iter::once("model,global_batch,micro_batch,dp,pp,iter_ms,samples_per_s".to_string())
        .chain(rows)
        .collect()
}

fn object(
    table: &LayerTable,
    settings: &Settings,
    fit: Option<&Fit>,
    entries: &[Entry],
    best: &[Option<&Entry>],
) -> serde_json::Value {
    let rate = |entry: &Entry| entry.samples_per_second(table.global_batch);
    let layouts = entries.iter().map(|entry| {
        json!({
            "dp": entry.layout.pipelines, "pp": entry.layout.stages, "iter_ms": entry.iteration_ms,
            "samples_per_second": rate(entry), "memory_gib": entry.memory_gib,
            "recomputing_stages": entry.recomputing, "refused": entry.refused,
        })
    });
    let best = (1..).zip(best).map(|(machines, entry): (u32, _)| {
        let layout = entry.map(|entry| [entry.layout.pipelines, entry.layout.stages]);
        json!({"machines": machines, "layout": layout, "samples_per_second": entry.map_or(0.0, rate)})
    });
    let fit = fit.map(|fit| {
        json!({
            "median_error": fit.median_error, "worst_error": fit.worst_error,
            "rank_correlation": fit.rank_correlation, "rank_correlation_by_dp": fit.by_pipelines,
            "regret_by_machines": fit.regret,
        })
    });
    json!({
        "model": table.model, "global_batch": table.global_batch, "micro_batch": table.micro_batch,
        "compute_scale": settings.compute_scale, "fit": fit,
        "layouts": layouts.collect::<Vec<_>>(), "best": best.collect::<Vec<_>>(),
    })
}

fn page(
    table: &LayerTable,
    settings: &Settings,
    fit: Option<&Fit>,
    entries: &[Entry],
    best: &[Option<&Entry>],
) -> String {
    let mut lines = vec![format!(
        "{}: {} layers, {:.3} billion parameters, batch {} in micro-batches of {}, {} GiB a machine, compute scale {:.4}",
        table.model,
        table.layers.len(),
        table.parameters() / 1e9,
        table.global_batch,
        table.micro_batch,
        table.memory_gib,
        settings.compute_scale
    )];
    if let Some(fit) = fit {
        lines.push(format!(
            "fitted: median error {:.1} %, worst {:.1} %, rank correlation {:.3}",
            fit.median_error * 100.0,
            fit.worst_error * 100.0,
            fit.rank_correlation
        ));
    }
    lines.push(format!("\n{:>3} {:>3} {:>12} {:>11} {:>7}", "D", "P", "iter ms", "samples/s", "GiB"));
    lines.extend(entries.iter().map(|entry| row(table, entry)));
    lines.push("\nmachines  best layout (D x P)  samples/s".into());
    lines.extend((1..).zip(best).map(|(machines, entry): (u32, _)| match entry {
        Some(entry) => {
            let rate = entry.samples_per_second(table.global_batch);
            format!("{machines:>8}  {:<19} {rate:>9.3}", entry.layout.to_string())
        }
        None => format!("{machines:>8}  does not fit"),
    }));
    lines.join("\n")
}

fn row(table: &LayerTable, entry: &Entry) -> String {
    let (pipelines, stages) = (entry.layout.pipelines, entry.layout.stages);
    let (time, rate) = match entry.iteration_ms {
        Some(ms) => (format!("{ms:.1}"), format!("{:.3}", entry.samples_per_second(table.global_batch))),
        None => ("-".into(), "-".into()),
    };
    let note = match (&entry.refused, entry.recomputing) {
        (Some(why), _) => format!("  {why}"),
        (None, 0) => String::new(),
        (None, again) => format!("  {again} of {stages} stages compute forward twice"),
    };
    format!("{pipelines:>3} {stages:>3} {time:>12} {rate:>11} {:>7.2}{note}", entry.memory_gib)
}
