//! A checkpoint on its way to the disk, while training goes on.
//!
//! Where all lanes have done the same clock, every rank copies what is its to save and hands the copy to a thread of
//! its own, which writes and syncs the files. Once they are safe, the rank tells rank 0, looking between two clocks
//! and never waiting. With the word of all ranks, rank 0 writes the manifest and moves the folder into place, again
//! on a thread. Until that rename nothing of it is seen, and what was there before stays.
//!
//! ```text
//! rank 0   copy ┄ clock ┄ clock ┄ clock ┄ clock      rank 1   copy ┄ clock ┄ clock ┄ clock
//!           └ files ─┐    ┌─ manifest, rename                  └ files ─────┐
//!                    └────┴◀──────────── names, bytes, xxh3 ◀───────────────┘
//! ```
//! In the simulator, where a thread's pace would be no part of the story, everything is done on the spot.

use super::{FileEntry, Manifest, list};
use crate::channel::{NEVER, SAVED};
use crate::saved::{checksum, sync_folder, write_atomically};
use crate::{Error, Result};
use dunlin_comm::{Buffer, Comm, Message, Time};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a rank says of its files: which they are, or the exit status and the words of what went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Word {
    Saved(Vec<FileEntry>),
    Failed(u8, String),
}

/// Work that a thread does, or has done on the spot.
#[derive(Debug)]
enum Beside<T> {
    Thread(JoinHandle<Result<T>>),
    Done(Result<T>),
}

impl<T: Send + 'static> Beside<T> {
    fn start(comm: &Comm, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Beside<T>> {
        if comm.is_simulated() {
            return Ok(Beside::Done(work()));
        }
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(work);
        Ok(Beside::Thread(thread.map_err(Error::io("cannot start a thread to write a checkpoint"))?))
    }

    fn is_done(&self) -> bool {
        match self {
            Beside::Thread(thread) => thread.is_finished(),
            Beside::Done(_) => true,
        }
    }

    fn take(self) -> Result<T> {
        let panicked = |_| Err(Error::Damaged("the thread that writes checkpoints panicked".into()));
        match self {
            Beside::Thread(thread) => thread.join().unwrap_or_else(panicked),
            Beside::Done(outcome) => outcome,
        }
    }
}

/// A checkpoint that this rank helps to write; at most one at a time.
#[derive(Debug)]
pub struct Writing {
    /// `None` once they are on the disk and rank 0 knows.
    files: Option<Beside<Vec<FileEntry>>>,
    folder: PathBuf,
    /// Rank 0: what is to become the manifest, until it is being written.
    manifest: Option<Manifest>,
    /// Rank 0: what each rank has said.
    words: Vec<Option<Word>>,
    /// Rank 0: the manifest and the rename.
    publishing: Option<Beside<()>>,
    name: String,
    start: Time,
    held_seconds: f64,
}

/// A checkpoint that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Name of its folder.
    pub folder: String,
    /// Seconds from the copy to the rename.
    pub seconds: f64,
    /// Seconds of these that training was held up.
    pub held_seconds: f64,
}

impl Writing {
    /// Starts to write a checkpoint into the run folder `out`: `parts` are this rank's files, by name. Called on all
    /// workers at the same clock, with the same manifest; `start` is when training was held up for it.
    ///
    /// # Blocking
    /// On rank 0, which makes the folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the folder; earlier checkpoints stay as they are.
    pub fn begin(
        comm: &mut Comm,
        out: &Path,
        manifest: Manifest,
        parts: Vec<(String, Vec<u8>)>,
        start: Time,
    ) -> Result<Writing> {
        let (folder, name) = (out.join("checkpoints"), manifest.position.name());
        let hidden = hidden(&folder, &name);
        if comm.rank() == 0 {
            forget_unfinished(&folder);
            std::fs::create_dir_all(&hidden)
                .map_err(Error::io(format!("cannot create {}", hidden.display())))?;
        }
        comm.barrier()?;
        let write = move || parts.iter().map(|(name, bytes)| write_file(&hidden, name, bytes)).collect();
        let files = Some(Beside::start(comm, write)?);
        let held_seconds = comm.now().since(start).as_secs_f64();
        let (words, manifest) = (vec![None; comm.members()], Some(manifest));
        Ok(Writing { files, folder, manifest, words, publishing: None, name, start, held_seconds })
    }

    /// Does what can be done without waiting; on rank 0, what has come of it once that is known.
    ///
    /// # Errors
    /// On rank 0 the first rank's error, when all have said how they fared; on the others only a loss.
    pub fn poll(&mut self, comm: &mut Comm) -> Result<Option<Done>> {
        if let Some(files) = self.files.take_if(|files| files.is_done()) {
            self.tell(comm, files.take())?;
        }
        if comm.rank() != 0 {
            return Ok(None);
        }
        while let Some(message) = comm.try_recv(SAVED, None)? {
            self.hear(&message)?;
        }
        if self.words.iter().all(Option::is_some) {
            self.publish(comm)?;
        }
        match self.publishing.take_if(|publishing| publishing.is_done()) {
            Some(publishing) => self.done(comm, publishing.take()).map(Some),
            None => Ok(None),
        }
    }

    /// The same, to the end.
    ///
    /// # Blocking
    /// On the disk and, at rank 0, on the other ranks. Meanwhile this rank answers.
    ///
    /// # Errors
    /// As [`Writing::poll`].
    pub fn wait(mut self, comm: &mut Comm) -> Result<Option<Done>> {
        if let Some(files) = self.files.take() {
            let files = wait_for(comm, files)?;
            self.tell(comm, files)?;
        }
        if comm.rank() != 0 {
            return Ok(None);
        }
        while !self.words.iter().all(Option::is_some) {
            let message = comm.recv(SAVED, None, "the files of a checkpoint")?;
            self.hear(&message)?;
        }
        self.publish(comm)?;
        let Some(publishing) = self.publishing.take() else { return Ok(None) };
        let published = wait_for(comm, publishing)?;
        self.done(comm, published).map(Some)
    }

    /// Tells rank 0 how this rank fared.
    fn tell(&mut self, comm: &mut Comm, files: Result<Vec<FileEntry>>) -> Result<()> {
        let place = if comm.rank() == 0 { String::new() } else { format!("rank {}: ", comm.rank()) };
        let word = match files {
            Ok(files) => Word::Saved(files),
            Err(error) => Word::Failed(error.status(), format!("{place}{error}")),
        };
        Ok(comm.send(0, SAVED, Message::new(&word, Buffer::new()))?)
    }

    fn hear(&mut self, message: &Message) -> Result<()> {
        let word = message.head()?;
        let place = self.words.get_mut(message.from);
        *place.ok_or_else(|| message.bad("it has no files in a checkpoint"))? = Some(word);
        Ok(())
    }

    /// Rank 0, with the word of all ranks: finishes the checkpoint, or clears away what there is of it.
    fn publish(&mut self, comm: &Comm) -> Result<()> {
        let Some(mut manifest) = self.manifest.take() else { return Ok(()) };
        let hidden = hidden(&self.folder, &self.name);
        for word in std::mem::take(&mut self.words).into_iter().flatten() {
            match word {
                Word::Saved(files) => manifest.files.extend(files),
                Word::Failed(status, text) => {
                    let _ = std::fs::remove_dir_all(&hidden); // half a checkpoint on a full disk helps nobody
                    return Err(dunlin_comm::Error::Failed { status, text }.into());
                }
            }
        }
        let (folder, path) = (self.folder.clone(), self.folder.join(&self.name));
        self.publishing = Some(Beside::start(comm, move || {
            publish(&manifest, &folder, &hidden, &path).inspect_err(|_| {
                let _ = std::fs::remove_dir_all(&hidden); // as above
            })
        })?);
        Ok(())
    }

    fn done(&self, comm: &Comm, published: Result<()>) -> Result<Done> {
        let seconds = comm.now().since(self.start).as_secs_f64();
        published.map(|()| Done { folder: self.name.clone(), seconds, held_seconds: self.held_seconds })
    }
}

/// What `work` comes to; meanwhile this rank answers.
fn wait_for<T: Send + 'static>(comm: &mut Comm, work: Beside<T>) -> Result<Result<T>> {
    while !work.is_done() {
        comm.recv_deadline(NEVER, None, comm.now() + Duration::from_millis(2))?;
    }
    Ok(work.take())
}

fn hidden(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}.tmp"))
}

/// Removes what a run that was killed has left half done.
fn forget_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".epochs-") {
            let _ = std::fs::remove_dir_all(entry.path()); // if it stays, making the folder says why
        }
    }
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry> {
    write_atomically(&folder.join(name), bytes)?;
    let xxh3 = checksum(bytes);
    Ok(FileEntry { name: name.into(), bytes: bytes.len() as u64, xxh3 })
}

/// Writes the manifest into `hidden` and makes `path` of it; all but the two newest go.
fn publish(manifest: &Manifest, folder: &Path, hidden: &Path, path: &Path) -> Result<()> {
    let json = serde_json::to_vec_pretty(manifest).map_err(|e| Error::Damaged(format!("manifest: {e}")))?;
    write_atomically(&hidden.join("manifest.json"), &json)?;
    let place = || {
        remove(path)?; // a damaged one that the run went back behind
        std::fs::rename(hidden, path)?;
        sync_folder(folder)?;
        list(folder).iter().rev().skip(2).try_for_each(|old| remove(old))
    };
    place().map_err(Error::io(format!("cannot finish {}", path.display())))
}

/// Removes a checkpoint, out of sight first: a kill in the middle leaves nothing that looks like one.
fn remove(path: &Path) -> std::io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = path.with_file_name(format!(".{name}.old"));
    match std::fs::rename(path, &aside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        moved => moved.and_then(|()| std::fs::remove_dir_all(&aside)),
    }
}
