//! The program `dunlin`: arguments in, results on standard output, everything else on standard error.
//!
//! One file per command. What a command cannot do is an error value that knows its exit code
//! ([`Error::status`]): 0 done, 1 anything else, 2 usage or input data, 3 interrupted and resumable, 4 a rank was
//! lost, 5 diverged.

mod cluster;
mod commands;
mod console;
mod folder;
mod interrupt;
mod job;
mod places;
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
    interrupt::leave_to_launcher();
    comm::child(&[comm::job::<job::TrainJob>()]);
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => arguments.command.run(),
        Err(error) if is_help(&error) => error.exit(),
        Err(error) => Err(Error::Usage(in_one_line(&error))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// True for what the user asked to read, or for `dunlin` alone.
fn is_help(error: &clap::Error) -> bool {
    use clap::error::ErrorKind;
    let kinds = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    kinds.contains(&error.kind())
}

/// What is wrong with the arguments, without the usage lines that `--help` shows and the tip to write `-- VALUE`, which
/// no argument here wants; with what a number may be.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text
        .replace("invalid digit found in string", "a whole number, at least 0, is wanted")
        .replace("cannot parse integer from empty string", "a whole number, at least 0, is wanted")
        .replace("number too large to fit in target type", "this is too large")
        .replace("invalid float literal", "a number is wanted")
        .replace("cannot parse float from empty string", "a number is wanted");
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains(" as a value, use '--"));
    let lines =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let text = lines.map(|line| line.trim_start_matches("error: ")).collect::<Vec<_>>().join("; ");
    format!("{}; --help shows what there is", text.replace(":; ", ": "))
}

fn report(error: &Error) -> ExitCode {
    if matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS; // whoever read our output has seen enough
    }
    console::note(&format!("dunlin: {}", error.to_string().replace('\n', "; ")));
    ExitCode::from(error.status())
}
