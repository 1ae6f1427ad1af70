//! The run folder: what was run, what happened, and what came out.

mod claim;

use crate::console::note;
use dunlin::event::Event;
use dunlin::run::Run;
use dunlin::saved::write_atomically;
use dunlin::table::Params;
use dunlin::train::Source;
use dunlin::{Error, Result};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What `run.json` says.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    run: &'a Run,
    /// Fingerprint of the training data.
    data: &'a str,
}

/// An open run folder; rank 0 has it.
pub(crate) struct RunFolder {
    path: PathBuf,
    run: Run,
    /// Fingerprint of the training data.
    data: String,
    /// No other run writes here as long as this is open.
    events: BufWriter<File>,
    /// The run has begun: before, it may still be refused, and then leaves nothing here.
    is_begun: bool,
    complained: bool,
}

impl RunFolder {
    /// Creates the folder, or opens it to go on with the run in it.
    ///
    /// # Errors
    /// [`Error::Usage`] if another run is in it already, or files that are not a run's; [`Error::Io`].
    pub(crate) fn open(path: &Path, run: &Run, source: &Source) -> Result<RunFolder> {
        let data = source.fingerprint().to_string();
        let file = claim::claim(path, run, &data)?;
        Ok(RunFolder {
            path: path.into(),
            run: run.clone(),
            data,
            events: BufWriter::new(file),
            is_begun: false,
            complained: false,
        })
    }

    /// Appends an event. That a run has started also says what is run: from here on the folder is taken.
    pub(crate) fn event(&mut self, event: &Event) {
        self.is_begun |= matches!(event, Event::Started { .. });
        if !self.is_begun {
            return;
        }
        let line = serde_json::to_string(event).unwrap_or_default();
        let place = || format!("cannot write {}", self.path.join("events.jsonl").display());
        let written = writeln!(self.events, "{line}").and_then(|()| self.events.flush());
        let mut written = written.map_err(Error::io(place()));
        if matches!(event, Event::Started { .. }) {
            written = written.and(self.describe());
        }
        if let (Err(error), false) = (written, self.complained) {
            self.complained = true; // training matters more than its record, and once is enough
            note(&format!("dunlin: warning: {error}; training goes on"));
        }
    }

    /// Is this still the folder that the run writes into? One that was deleted takes every write, and all is lost
    /// with the last of them.
    ///
    /// # Errors
    /// [`Error::Io`] if it is gone, or another is in its place.
    pub(crate) fn check(&self) -> Result<()> {
        let events = self.path.join("events.jsonl");
        let gone = || {
            let text = "it was deleted or moved while the run went on";
            Err(std::io::Error::new(ErrorKind::NotFound, text))
        };
        let same = match (std::fs::metadata(&events), self.events.get_ref().metadata()) {
            (Ok(there), Ok(ours)) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(()),
            (Err(error), _) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => gone(),
        };
        same.map_err(Error::io(format!("cannot go on with {}", events.display())))
    }

    fn describe(&self) -> Result<()> {
        let described = Described { run: &self.run, data: &self.data };
        let json =
            serde_json::to_vec_pretty(&described).map_err(|error| Error::Damaged(error.to_string()))?;
        write_atomically(&self.path.join("run.json"), &json)
    }

    /// Saves the model.
    pub(crate) fn finished(&mut self, params: Option<&Params>, source: &Source) -> Result<()> {
        dunlin_models::find(&self.run.model)?.save(&self.path, &self.run, source, params)
    }
}
