//! The program `dunlin`: arguments in, results on standard output, everything else on standard error.
//!
//! One file per command. What a command cannot do is an error value; exit codes are decided here alone:
//! 0 done, 1 anything else, 2 usage or input data, 3 interrupted and resumable, 4 a rank was lost, 5 diverged.

mod cluster;
mod commands;
mod console;
mod folder;
mod job;
mod settings;

use clap::Parser;
use dunlin::{Error, comm};
use std::process::ExitCode;

/// Distributed machine learning: an algorithm says what to compute, a strategy how updates travel, a cluster where
/// the ranks live. Each is chosen by one word.
#[derive(Debug, Parser)]
#[command(name = "dunlin", version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    comm::child(&[comm::job::<job::TrainJob>()]);
    match Arguments::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn report(error: &Error) -> ExitCode {
    let code = match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Error::Usage(_) | Error::Data(_) => 2,
        Error::Interrupted(_) => 3,
        Error::Comm(comm::Error::Lost(_)) => 4,
        Error::Diverged(_) => 5,
        Error::Comm(_) | Error::Io { .. } | Error::Damaged(_) => 1,
    };
    eprintln!("dunlin: {error}");
    ExitCode::from(code)
}
