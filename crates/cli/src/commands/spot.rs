//! `dunlin spot`: planning for machines that are taken away, one file a subcommand.

mod profile;

use dunlin::{Error, Result};

/// What `dunlin spot` can be asked for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Spot {
    /// Throughput of every layout of a model, from the times of its layers
    Profile(profile::Profile),
}

impl Spot {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Spot::Profile(command) => command.run(),
        }
    }
}

/// An error of planning as one of this program.
fn refused(error: dunlin_spot::Error) -> Error {
    match error {
        dunlin_spot::Error::Usage(text) => Error::Usage(text),
        dunlin_spot::Error::Data(text) => Error::Data(text),
    }
}
