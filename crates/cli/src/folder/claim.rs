//! May a run write into a folder? If nobody else does, and nothing would be lost that is not its own.

use dunlin::run::Run;
use dunlin::{Error, Result, checkpoint};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

/// What a run writes under fixed names. What models write for people ends in .tsv or .txt.
const WRITTEN: [&str; 6] =
    ["run.json", "events.jsonl", "model.safetensors", "model.json", "names.json", "checkpoints"];

/// "No locks available", of a network file system without a lock server; the library has no name for it.
const ENOLCK: i32 = 37;

/// Opens the record of events in the run folder `path` for `run` on training data with fingerprint `data`. As long as
/// it is open, no other run gets it; the system ends that also for a process that is killed.
///
/// # Errors
/// [`Error::Usage`] if another run is at work there or was, if that of `run` cannot be gone on with, or if there are
/// files that it would write over; [`Error::Io`].
pub(super) fn claim(path: &Path, run: &Run, data: &str) -> Result<File> {
    let events = path.join("events.jsonl");
    if !events.exists() {
        refuse_strangers(path, run)?; // before anything is made there
    }
    std::fs::create_dir_all(path).map_err(Error::io(format!("cannot create {}", path.display())))?;
    let file = OpenOptions::new().create(true).append(true).open(&events);
    let file = file.map_err(Error::io(format!("cannot write {}", events.display())))?;
    lock(&file, path)?;
    // From here on nobody else changes what is there.
    let is_begun = file.metadata().is_ok_and(|events| events.len() > 0);
    match (is_begun, run.resume) {
        (false, _) => refuse_strangers(path, run)?,
        (true, true) if checkpoint::any(path) => {} // it says of what run it is, and is compared when it is read
        (true, true) => refuse_to_begin_again(path, run, data)?,
        (true, false) => {
            return Err(Error::Usage(format!(
                "{}: there is a run in this folder; go on with it by --resume, or name another by --out",
                path.display()
            )));
        }
    }
    Ok(file)
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Usage(format!(
            "{}: another run is writing here; wait until it has ended, or name another folder by --out",
            path.display()
        ))),
        // A file system without locks: then it is up to the user.
        Err(TryLockError::Error(error))
            if error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(ENOLCK) =>
        {
            Ok(())
        }
        Err(TryLockError::Error(error)) => Err(Error::io(format!("cannot lock {}", path.display()))(error)),
    }
}

/// Refuses a folder without a run that has files which one would write over.
fn refuse_strangers(path: &Path, run: &Run) -> Result<()> {
    if run.resume && checkpoint::any(path) {
        return Ok(()); // a run it is, whose record was lost
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| {
            let is_empty = || entry.metadata().is_ok_and(|file| file.len() == 0);
            entry.file_name() != "events.jsonl" || !is_empty() // of a run that was refused
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| WRITTEN.contains(&name.as_str()) || name.ends_with(".tsv") || name.ends_with(".txt"))
        .collect();
    names.sort_unstable();
    let named = match &names[..] {
        [] => return Ok(()),
        [name] => name.clone(),
        [first, last] => format!("{first} and {last}"),
        [first, second, third] => format!("{first}, {second} and {third}"),
        [first, second, third, more @ ..] => format!("{first}, {second}, {third} and {} more", more.len()),
    };
    Err(Error::Usage(format!(
        "--out {}: {named} would be written over, and there is no run that wrote them; name another folder, or move them \
         away (run folders have .tsv, .txt and {})",
        path.display(),
        WRITTEN.join(", ")
    )))
}

/// Without a checkpoint a run begins again from its start: if it is the same, and no model of it is lost by that.
fn refuse_to_begin_again(path: &Path, run: &Run, data: &str) -> Result<()> {
    let place = path.join("run.json");
    let json = match std::fs::read(&place) {
        Err(error) if error.kind() == ErrorKind::NotFound => None, // killed as it began
        json => Some(json.map_err(Error::io(format!("cannot read {}", place.display())))?),
    };
    if let Some(json) = json {
        refuse_another(&place, &json, run, data)?;
    }
    if !path.join("model.json").exists() {
        return Ok(()); // the last file of a model
    }
    Err(Error::Usage(format!(
        "--resume: the run in {} has ended, and left no checkpoint to go on from; name another folder by --out, and next \
         time ask for checkpoints by --checkpoint-epochs",
        path.display()
    )))
}

/// Refuses `run` unless `json`, from `place`, is the description of the same.
fn refuse_another(place: &Path, json: &[u8], run: &Run, data: &str) -> Result<()> {
    let place = place.display();
    let damaged = |error| Error::Damaged(format!("{place}: {error}"));
    let value: serde_json::Value = serde_json::from_slice(json).map_err(damaged)?;
    let data_before = value.get("data").and_then(|data| data.as_str()).map(String::from);
    let before: Run = serde_json::from_value(value).map_err(damaged)?;
    if let Some((what, now, then)) = run.first_difference(&before) {
        return Err(Error::Usage(format!(
            "--resume: {what} of this run: {now}; {place} says {then}; go on with the same, or name another folder by --out"
        )));
    }
    // Older programs did not write down what the data were, only where.
    let is_same = data_before.map_or(before.train == run.train, |before| before == data);
    if is_same {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--resume: {} and how it is read make other training data than those of {place} ({}); go on with the same, or name \
         another folder by --out",
        run.train, before.train
    )))
}
