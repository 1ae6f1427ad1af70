//! `dunlin spot`: planning for machines that are taken away. One file per command in `spot/`.

mod plan;
mod profile;
mod replay;
mod trace;

use dunlin::{Error, Result};
use dunlin_spot::cost::{CostModel, Rules};
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::{BUILT_IN, Profile};
use dunlin_spot::trace::{ReadOptions, Source, read};
use std::io::{BufRead, BufReader, ErrorKind, Read};

#[derive(Debug, clap::Args)]
pub(crate) struct Spot {
    #[command(subcommand)]
    command: SpotCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SpotCommand {
    /// Say what a trace of machines is like, and how well it can be forecast; or make a new one like it
    Trace(trace::TraceCommand),
    /// What every policy would have trained on a trace of machines
    Replay(replay::Replay),
    /// Decide on the next layout, and say why
    Plan(plan::Plan),
    /// Throughput of every layout of a model, from the times of its layers
    Profile(profile::Profile),
}

impl Spot {
    pub(crate) fn run(self) -> Result<()> {
        match self.command {
            SpotCommand::Trace(command) => command.run(),
            SpotCommand::Replay(command) => command.run(),
            SpotCommand::Plan(command) => command.run(),
            SpotCommand::Profile(command) => command.run(),
        }
    }
}

/// What decisions depend on besides the machines: the flags that `plan` and `replay` share.
#[derive(Debug, clap::Args)]
pub(crate) struct Setting {
    /// A model that comes with the program: resnet152, vgg19, bert, gpt-1.5b, gpt-6.7b
    #[arg(long)]
    model: Option<String>,
    /// A profile: JSON, or the table of `dunlin spot profile --csv`
    #[arg(long, value_name = "FILE")]
    profile: Option<String>,
    /// What a policy sees: none, at-event, 25s, 120s
    #[arg(long, default_value = "none")]
    notice: String,
    /// The price list of migration: published, or corrected (every byte charged, transfers beside training, groups made beforehand)
    #[arg(long, default_value = "published")]
    rules: String,
    /// GPUs of a machine; layouts are then rows x machines of a row
    #[arg(long, value_name = "N", default_value_t = 1)]
    gpus: u32,
    /// Seconds of an interval
    #[arg(long, default_value_t = 60.0)]
    interval: f64,
}

impl Setting {
    /// The profile and its price list.
    ///
    /// # Errors
    /// Those of [`read_profile`], and words that are not known.
    fn costs(&self) -> Result<CostModel> {
        let (notice, rules) = (self.notice()?, Rules::parse(&self.rules).map_err(told)?);
        let profile = read_profile(self.model.as_deref(), self.profile.as_deref())?;
        let profile = profile.with_gpus(self.gpus).map_err(told)?;
        Ok(CostModel::with_rules(&profile, rules).handing_over(notice.hands_over()))
    }

    fn notice(&self) -> Result<Notice> {
        Notice::parse(&self.notice).map_err(told)
    }

    fn interval_ms(&self) -> Result<u64> {
        milliseconds("--interval", self.interval)
    }
}

/// An error of planning, as the program reports it.
pub(crate) fn told(error: dunlin_spot::Error) -> Error {
    match error {
        dunlin_spot::Error::Usage(text) => Error::Usage(text),
        dunlin_spot::Error::Data(text) => Error::Data(text),
    }
}

/// The trace that comes with the program: machines per minute of 11.4 hours of AWS p3.2xlarge spot machines, 32 of them asked for, from
/// the trace that the authors of Parcae published (MIT licence).
const SAMPLE: &str = "sample:p3";
const SAMPLE_TEXT: &str = include_str!("../../../spot/data/p3_minutes.csv");

/// Opens a file, or standard input for `-`.
///
/// # Errors
/// [`Error::Data`] if there is no such file, or it is a folder; [`Error::Io`].
pub(crate) fn open(source: &str) -> Result<Box<dyn BufRead>> {
    if source == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    if source == SAMPLE {
        return Ok(Box::new(SAMPLE_TEXT.as_bytes()));
    }
    match std::fs::metadata(source) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::Data(format!("{source}: there is no such file")))
        }
        Ok(found) if found.is_dir() => {
            Err(Error::Data(format!("{source} is a directory; a file is wanted here")))
        }
        _ => Ok(Box::new(BufReader::new(std::fs::File::open(source).map_err(Error::io(source))?))),
    }
}

/// Reads the trace in the file `source`, or from standard input for `-`.
///
/// # Errors
/// Those of [`open`] and [`read()`].
pub(crate) fn read_trace(source: &str, options: &ReadOptions) -> Result<Source> {
    let name = if source == "-" { "standard input" } else { source };
    read(open(source)?, name, options).map_err(told)
}

/// Milliseconds of the seconds that the user gave to `flag`.
///
/// # Errors
/// [`Error::Usage`] unless they are from 0.001 to 10^9.
pub(crate) fn milliseconds(flag: &str, seconds: f64) -> Result<u64> {
    let ms = (seconds * 1000.0).round();
    if !(1.0..=1e12).contains(&ms) {
        return Err(Error::Usage(format!("{flag} {seconds}: from 0.001 to 1000000000 seconds")));
    }
    Ok(ms as u64)
}

/// The profile of a model that comes with the program, or of a file.
///
/// # Errors
/// A name that is not known, a file that cannot be read or is no profile.
pub(crate) fn read_profile(model: Option<&str>, file: Option<&str>) -> Result<Profile> {
    match (model, file) {
        (Some(name), None) => Profile::built_in(name).map_err(told),
        (_, Some(file)) => {
            let mut text = String::new();
            let read = open(file)?.take(MOST_PROFILE_BYTES + 1).read_to_string(&mut text);
            read.map_err(|error| match error.kind() {
                ErrorKind::InvalidData => Error::Data(format!("profile {file}: this is no UTF-8 text")),
                _ => Error::Data(format!("profile {file}: {error}")),
            })?;
            if text.len() as u64 > MOST_PROFILE_BYTES {
                return Err(Error::Data(format!("profile {file}: more than {MOST_PROFILE_BYTES} bytes")));
            }
            Profile::read(&text, file, model).map_err(told)
        }
        (None, None) => {
            let names = BUILT_IN.map(|(name, _)| name).join(", ");
            Err(Error::Usage(format!("which model? --model NAME ({names}) or --profile FILE")))
        }
    }
}

/// A profile larger than this is none.
const MOST_PROFILE_BYTES: u64 = 16 << 20;
