//! The commands, one file each; a new one is a file, a variant and a line in [`Command::run`].

mod compare;
mod data;
mod demo;
mod models;
mod predict;
mod show;
mod spot;
mod train;

pub(crate) use train::TrainFlags;

use dunlin::Result;

/// What the user can ask for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Train a model
    Train(Box<train::Train>),
    /// Predict with a trained model, one line per row
    Predict(predict::Predict),
    /// Measure a trained model on test data
    Eval(predict::Eval),
    /// Show a run, while it goes on or afterwards, as a table or a page
    Show(show::Show),
    /// Train under several strategies and set them side by side
    Compare(Box<compare::Compare>),
    /// List the models, or one model's settings
    Models(models::Models),
    /// Say what a data file holds, or write made-up data
    Data(data::DataCommand),
    /// Look at and plan for machines that are taken away
    Spot(spot::Spot),
    /// Train on the data that come with the program: a first look, in under half a minute
    Demo(demo::Demo),
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Command::Train(command) => command.run(),
            Command::Predict(command) => command.run(),
            Command::Eval(command) => command.run(),
            Command::Show(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Models(command) => command.run(),
            Command::Data(command) => command.run(),
            Command::Spot(command) => command.run(),
            Command::Demo(command) => command.run(),
        }
    }
}
