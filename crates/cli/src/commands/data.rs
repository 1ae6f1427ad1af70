//! `dunlin data`: what a file holds; made-up data written out, so that another program reads the same.

use dunlin::data::{Format, ReadOptions, read, summary, write};
use dunlin::{Error, Result};
use std::fmt::Display;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

/// How data are to be read.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Reading {
    /// Format of the data: svmlight, ratings, docword, idx, csv or mtx [default: found out]
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Feature indices of svmlight start at 0
    #[arg(long)]
    pub(crate) zero_based: bool,
    /// The file of words for docword, or of column names for mtx [default: vocab.NAME.txt beside docword.NAME.txt]
    #[arg(long)]
    pub(crate) vocabulary: Option<PathBuf>,
    /// The label column of CSV, by name or position from 0
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// Number of blocks that the data are cut into [default: 256]
    #[arg(long)]
    pub(crate) blocks: Option<usize>,
}

impl Reading {
    pub(crate) fn options(&self) -> Result<ReadOptions> {
        self.over(ReadOptions::default())
    }

    /// `base` where these do not say otherwise.
    pub(crate) fn over(&self, base: ReadOptions) -> Result<ReadOptions> {
        let format = self.format.as_deref().map(Format::from_name).transpose()?;
        let options = ReadOptions {
            format: format.or(base.format),
            zero_based: self.zero_based || base.zero_based,
            vocabulary: self.vocabulary.clone().or(base.vocabulary),
            label: self.label.clone().or(base.label),
            blocks: self.blocks.unwrap_or(base.blocks),
            ..base
        };
        match options.blocks {
            1..=1_000_000 => Ok(options),
            blocks => Err(Error::Usage(format!("--blocks {blocks}: from 1 to 1000000"))),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dunlin data ratings.tsv.gz
  dunlin data 'synth:mf?users=1000&items=500&n=100000&seed=1' --write ratings.tsv")]
pub(crate) struct DataCommand {
    /// A file (also .gz, .zst), - for standard input, sample:digits, or synth:KIND?key=value&...
    source: String,
    #[command(flatten)]
    reading: Reading,
    /// Labels are numbers to be predicted, as for lasso, not classes
    #[arg(long)]
    targets: bool,
    /// Write the data to this file, as svmlight, ratings or docword
    #[arg(long)]
    write: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl DataCommand {
    pub(crate) fn run(self) -> Result<()> {
        self.write.iter().try_for_each(|path| crate::places::check_file("--write", path))?;
        let options = ReadOptions { targets: self.targets, ..self.reading.options()? };
        let data = read(&self.source, &options, None)?;
        if let Some(path) = &self.write {
            let format = match data.shape.kind {
                dunlin::data::Kind::Labelled => Format::Svmlight,
                dunlin::data::Kind::Ratings => Format::Ratings,
                dunlin::data::Kind::Documents => Format::Docword,
            };
            let file =
                std::fs::File::create(path).map_err(Error::io(format!("cannot write {}", path.display())))?;
            let mut file = BufWriter::new(file);
            write(&data, format, &mut file).map_err(|error| match error {
                Error::Io { source, .. } => Error::io(format!("cannot write {}", path.display()))(source),
                other => other,
            })?;
            file.flush().map_err(Error::io(format!("cannot write {}", path.display())))?;
        }
        let summary = summary(&data);
        if self.json { out(&serde_json::json!(summary)) } else { out(&summary) }
    }
}

/// Prints a line on standard output. A reader that has gone away is an error that ends the program quietly.
pub(crate) fn out(line: &impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::io("cannot write to standard output"))
}
