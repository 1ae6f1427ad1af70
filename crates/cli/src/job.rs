//! The job that every rank of a training run runs.

use crate::console::{Console, note};
use crate::folder::RunFolder;
use crate::places::check_file;
use dunlin::comm::cluster::Job;
use dunlin::comm::{self, Cluster, Comm};
use dunlin::data::{Data, Notes, Scratch, read_noting, read_to_disk};
use dunlin::event::{Event, Outcome};
use dunlin::run::Run;
use dunlin::table::Params;
use dunlin::train::{Observer, Source};
use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A training run, as it is sent to ranks in other processes.
#[derive(Serialize, Deserialize)]
pub(crate) struct TrainJob {
    /// The [`Run`] in JSON: settings have no fixed type, which a compact encoding would need.
    run: String,
    /// True to say nothing while it runs.
    quiet: bool,
    /// Data read before the ranks were started; ranks in other processes read for themselves.
    #[serde(skip)]
    source: Option<Source>,
}

/// Reads what `run` trains on and tests on; what could not be used is told on standard error.
pub(crate) fn read_source(run: &Run) -> Result<Source> {
    if run.memory.is_some() {
        return source_on_disk(run);
    }
    let train = read_noting(&run.train, &run.read, None)?.0;
    let test: Option<Data> = match &run.test {
        None => None,
        Some(test) => {
            let (data, notes) = read_noting(test, &run.read, Some(&train))?;
            tell(test, &notes);
            Some(data)
        }
    };
    Ok(Source::new(train, test))
}

fn tell(test: &str, notes: &Notes) {
    if notes.dropped_entries > 0 {
        let dropped = notes.dropped_entries;
        note(&format!("dunlin: {test}: {dropped} entries in columns not seen in training were left out"));
    }
}

/// The same for data that stay on disk: in the run folder if there is one.
fn source_on_disk(run: &Run) -> Result<Source> {
    let folder = match &run.out {
        None => std::env::temp_dir(),
        Some(out) => {
            let made =
                std::fs::create_dir_all(out).map_err(Error::io(format!("cannot create {}", out.display())));
            made.map_err(|error| no_folder(out, error))?;
            out.clone()
        }
    };
    let scratch = Scratch::new(&folder);
    let (train, _, blocks) = read_to_disk(&run.train, &run.read, None, &scratch)?;
    let test = match &run.test {
        None => None,
        Some(test) => {
            let (data, notes, blocks) = read_to_disk(test, &run.read, Some(&train), &scratch)?;
            tell(test, &notes);
            Some((data, blocks))
        }
    };
    Source::on_disk((train, blocks), test, &scratch)
}

impl TrainJob {
    /// Trains `run` on `cluster`, on data that were read, if they were.
    ///
    /// # Errors
    /// The first error of any rank.
    pub(crate) fn run(
        run: &Run,
        cluster: &Cluster,
        source: Option<Source>,
        quiet: bool,
    ) -> Result<Option<Outcome>> {
        let text = serde_json::to_string(run).map_err(|error| Error::Usage(error.to_string()))?;
        let job = TrainJob { run: text, quiet, source };
        Ok(cluster.run(&job)?.into_iter().next())
    }

    fn train(&self, comm: &mut Comm) -> Result<Outcome> {
        let run: Run = serde_json::from_str(&self.run).map_err(|error| Error::Usage(error.to_string()))?;
        let model = dunlin_models::find(&run.model)?;
        comm.set_warning(Box::new(|text| eprintln!("dunlin: warning: {text}")));
        let read;
        let source = match &self.source {
            Some(source) => source,
            None => {
                comm.describe("nothing yet: it was reading the data");
                read = read_source(&run)?;
                &read
            }
        };
        model.check_memory(&run.settings, source.shape())?;
        if run.memory.is_some() {
            let estimate = model.check_budget(&run, source)?;
            if comm.rank() == 0 && !self.quiet {
                note(&format!("dunlin: memory of a worker, about: {}", estimate.words()));
            }
        }
        let mut observer = Watcher {
            console: (comm.rank() == 0 && !self.quiet).then(Console::new),
            folder: match &run.out {
                Some(out) if comm.rank() == 0 => {
                    Some(RunFolder::open(out, &run, source).map_err(|error| no_folder(out, error))?)
                }
                _ => None,
            },
        };
        if let (Some(order), 0) = (&run.log_order, comm.rank()) {
            check_file("--log-order", order)?; // which may be in the run folder, now that this is there
        }
        let outcome = (model.train)(&run, source, comm, &mut observer);
        if let Err(error) = &outcome {
            observer.event(&Event::Failed { text: error.to_string() });
        }
        outcome
    }
}

/// A folder that cannot be made or written is for the user to choose again.
pub(crate) fn no_folder(out: &Path, error: Error) -> Error {
    match error {
        Error::Io { what, source } => Error::Usage(format!("--out {}: {what}: {source}", out.display())),
        error => error,
    }
}

impl Job for TrainJob {
    const NAME: &'static str = "train";
    type Out = Outcome;

    fn body(&self, comm: &mut Comm) -> comm::Result<Outcome> {
        Ok(self.train(comm)?)
    }
}

/// Passes events on to whoever wants them.
struct Watcher {
    console: Option<Console>,
    folder: Option<RunFolder>,
}

impl Observer for Watcher {
    fn event(&mut self, event: &Event) {
        if let Event::Warning { text } = event {
            note(&format!("dunlin: warning: {text}"));
        }
        self.console.iter_mut().for_each(|console| console.event(event));
        self.folder.iter_mut().for_each(|folder| folder.event(event));
    }

    fn check(&mut self) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), RunFolder::check)
    }

    fn wants_model(&self) -> bool {
        self.folder.is_some()
    }

    fn finished(&mut self, params: Option<&Params>, source: &Source) -> Result<()> {
        self.folder.iter_mut().try_for_each(|folder| folder.finished(params, source))
    }
}
