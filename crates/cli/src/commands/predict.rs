//! `dunlin predict` and `dunlin eval`: a trained model on other data.

use crate::commands::data::{Reading, out};
use dunlin::data::{Pairing, ReadOptions, read};
use dunlin::model::SavedModel;
use dunlin::{Error, Result};
use dunlin_models::MODELS;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct Predict {
    /// The run folder
    run: PathBuf,
    /// The data
    file: String,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Eval {
    /// The run folder
    run: PathBuf,
    /// The data
    file: String,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The model of run folder `run`, and how to read data like its training data.
fn load(run: &std::path::Path, reading: &Reading) -> Result<(SavedModel, ReadOptions)> {
    let saved = SavedModel::load(run, MODELS)?;
    let then = saved.card.run.read.clone();
    let options = ReadOptions { kind: Some(saved.card.shape.kind), ..reading.over(then)? };
    Ok((saved, options))
}

impl Predict {
    pub(crate) fn run(self) -> Result<()> {
        let (saved, options) = load(&self.run, &self.reading)?;
        let options = ReadOptions { pairing: Pairing::None, ..options }; // a prediction for each row
        let data = read(&self.file, &options, Some(&saved.like()))?;
        let mut lines = BufWriter::new(std::io::stdout());
        let mut outcome = Ok(());
        saved.predict(&data, &mut |_, values| {
            let text: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
            if outcome.is_ok() {
                outcome = writeln!(lines, "{}", text.join("\t"));
            }
        })?;
        outcome.and_then(|()| lines.flush()).map_err(Error::io("cannot write to standard output"))
    }
}

impl Eval {
    pub(crate) fn run(self) -> Result<()> {
        let (saved, options) = load(&self.run, &self.reading)?;
        let data = read(&self.file, &options, Some(&saved.like()))?;
        let metrics = saved.evaluate(&data)?;
        if self.json {
            let metrics: std::collections::BTreeMap<_, _> = metrics.into_iter().collect();
            return out(&serde_json::json!({"model": saved.card.model, "metrics": metrics}));
        }
        metrics.iter().try_for_each(|(name, value)| out(&format!("{name:<28} {value:.6}")))
    }
}
