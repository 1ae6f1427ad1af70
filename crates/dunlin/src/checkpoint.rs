//! Checkpoints: tables, local state, random streams and data position, complete or not at all.
//!
//! A checkpoint is taken where all lanes have done the same clock and the tables are complete. Random streams
//! are counted, so that (seed, epoch) is all there is to save of them; blocks are stable, so that a run can go on
//! with another number of workers.
//!
//! ```text
//! RUN/checkpoints/epochs-000012/
//!   tables.safetensors     the shared tables, solver state included
//!   lane-0000.bin ...      local state of its blocks and its rows of tables on the example axis (postcard)
//!   manifest.json          what belongs to it: names, bytes, xxh3 of each; written last
//! ```
//! Everything is written into a hidden folder, synced, and renamed; the two newest are kept.

use crate::run::Run;
use crate::saved::{sync_folder, write_atomically};
use crate::table::{Axis, Params};
use crate::{Error, Result, saved};
use dunlin_comm::{Buffer, Comm, Message};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

/// Version of the format.
const VERSION: u32 = 1;

/// What belongs to a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// The run that wrote it.
    pub run: Run,
    /// Fingerprint of the training data.
    pub data: String,
    /// Epochs done.
    pub epochs: usize,
    /// Seconds of training done.
    pub seconds: f64,
    /// All files.
    pub files: Vec<FileEntry>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name within the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// xxh3-64 of its bytes, in hexadecimal.
    pub xxh3: String,
}

/// State of one lane.
#[derive(Debug, Serialize, Deserialize)]
pub struct LaneState {
    /// Local state by block, encoded.
    pub locals: Vec<(u32, Vec<u8>)>,
    /// Rows of tables on the example axis: table, first row, the numbers with padding.
    pub rows: Vec<(u16, u64, Vec<u8>)>,
}

impl LaneState {
    /// The rows `rows` of all tables on the example axis.
    pub fn take_rows(params: &Params, rows: std::ops::Range<usize>) -> Vec<(u16, u64, Vec<u8>)> {
        let tables =
            params.replicas.iter().enumerate().filter(|(_, replica)| replica.spec.axis == Axis::Example);
        tables
            .map(|(table, replica)| (table as u16, rows.start as u64, replica.row_bytes(rows.clone())))
            .collect()
    }
}

/// Writes a checkpoint into `run.out`. Called on all workers with the state of the lanes that each hosts.
///
/// # Blocking
/// On all workers.
///
/// # Errors
/// [`Error::Io`] naming the file; earlier checkpoints stay as they are.
pub fn write(
    comm: &mut Comm,
    run: &Run,
    data: &str,
    (epochs, seconds): (usize, f64),
    params: &Params,
    lanes: Vec<(usize, LaneState)>,
) -> Result<Option<PathBuf>> {
    let Some(out) = &run.out else { return Ok(None) };
    let folder = out.join("checkpoints");
    let hidden = folder.join(format!(".epochs-{epochs:06}.tmp"));
    let written = write_into(comm, run, data, (epochs, seconds), params, lanes, (&folder, &hidden));
    if written.is_err() && comm.rank() == 0 {
        let _ = std::fs::remove_dir_all(&hidden); // half a checkpoint on a full disk helps nobody
    }
    written.map(Some)
}

/// Writes a checkpoint into the second of `folders` and moves it into the first.
fn write_into(
    comm: &mut Comm,
    run: &Run,
    data: &str,
    (epochs, seconds): (usize, f64),
    params: &Params,
    lanes: Vec<(usize, LaneState)>,
    (folder, hidden): (&Path, &Path),
) -> Result<PathBuf> {
    if comm.rank() == 0 {
        let _ = std::fs::remove_dir_all(hidden); // left over by a run that was killed
        std::fs::create_dir_all(hidden).map_err(Error::io(format!("cannot create {}", hidden.display())))?;
    }
    comm.barrier()?;
    let mut files = Vec::new();
    for (lane, state) in lanes {
        let bytes =
            postcard::to_stdvec(&state).map_err(|e| Error::Damaged(format!("state of lane {lane}: {e}")))?;
        files.push(write_file(hidden, &format!("lane-{lane:04}.bin"), &bytes)?);
    }
    if comm.rank() == 0 {
        let bytes = saved::to_bytes(params, |replica| replica.spec.axis != Axis::Example)?;
        files.push(write_file(hidden, "tables.safetensors", &bytes)?);
    }
    let messages = comm.all_gather(Message::new(&files, Buffer::new()))?;
    let path = folder.join(format!("epochs-{epochs:06}"));
    if comm.rank() == 0 {
        let files =
            messages.iter().map(Message::head::<Vec<FileEntry>>).collect::<dunlin_comm::Result<Vec<_>>>()?;
        let files = files.into_iter().flatten().collect();
        let (run, data) = (run.clone(), data.to_string());
        let manifest = Manifest { version: VERSION, run, data, epochs, seconds, files };
        let json =
            serde_json::to_vec_pretty(&manifest).map_err(|e| Error::Damaged(format!("manifest: {e}")))?;
        write_atomically(&hidden.join("manifest.json"), &json)?;
        publish(folder, hidden, &path).map_err(Error::io(format!("cannot finish {}", path.display())))?;
    }
    Ok(path)
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry> {
    write_atomically(&folder.join(name), bytes)?;
    let xxh3 = format!("{:016x}", XxHash3_64::oneshot(bytes));
    Ok(FileEntry { name: name.into(), bytes: bytes.len() as u64, xxh3 })
}

fn publish(folder: &Path, hidden: &Path, path: &Path) -> std::io::Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path)?;
    }
    std::fs::rename(hidden, path)?;
    sync_folder(folder)?;
    let all = list(folder);
    all.iter().rev().skip(2).try_for_each(std::fs::remove_dir_all)
}

/// The checkpoints in `folder`, oldest first.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("epochs-"));
    let mut all: Vec<PathBuf> = entries.filter(named).collect();
    all.sort();
    all
}

/// A checkpoint that was found whole.
#[derive(Debug)]
pub struct Found {
    /// Its manifest.
    pub manifest: Manifest,
    folder: PathBuf,
}

/// The newest whole checkpoint of the run folder `out`, and what is wrong with newer ones; `None` if there is
/// none at all.
///
/// # Errors
/// [`Error::Damaged`] if there are checkpoints and none is whole.
pub fn newest(out: &Path) -> Result<Option<(Found, Vec<String>)>> {
    let mut complaints = Vec::new();
    for folder in list(&out.join("checkpoints")).into_iter().rev() {
        match open(&folder) {
            Ok(manifest) => return Ok(Some((Found { manifest, folder }, complaints))),
            Err(error) => complaints.push(error.to_string()),
        }
    }
    if complaints.is_empty() { Ok(None) } else { Err(Error::Damaged(complaints.join("; "))) }
}

/// Reads a checkpoint's manifest and compares all files with it.
fn open(folder: &Path) -> Result<Manifest> {
    let path = folder.join("manifest.json");
    let json = std::fs::read(&path).map_err(Error::io(format!("cannot read {}", path.display())))?;
    let manifest: Manifest = serde_json::from_slice(&json)
        .map_err(|e| Error::Damaged(format!("{}: {e}; is it of another version?", path.display())))?;
    if manifest.version != VERSION {
        let text = format!("{}: version {}, this program reads {VERSION}", path.display(), manifest.version);
        return Err(Error::Damaged(text));
    }
    manifest.files.iter().try_for_each(|entry| read_file(folder, entry).map(drop))?;
    Ok(manifest)
}

fn read_file(folder: &Path, entry: &FileEntry) -> Result<Vec<u8>> {
    if entry.name.contains(['/', '\\']) {
        return Err(Error::Damaged(format!("{}: file name {:?}", folder.display(), entry.name)));
    }
    let path = folder.join(&entry.name);
    let bytes = std::fs::read(&path).map_err(Error::io(format!("cannot read {}", path.display())))?;
    let found = (bytes.len() as u64, format!("{:016x}", XxHash3_64::oneshot(&bytes)));
    if found != (entry.bytes, entry.xxh3.clone()) {
        let (path, wanted) = (path.display(), (entry.bytes, &entry.xxh3));
        return Err(Error::Damaged(format!(
            "{path}: bytes and checksum are {found:?}, the manifest says {wanted:?}"
        )));
    }
    Ok(bytes)
}

impl Found {
    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets the shared tables.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming file and table.
    pub fn load_tables(&self, params: &mut Params) -> Result<()> {
        let bytes = self.file("tables.safetensors")?;
        let place = self.folder.join("tables.safetensors");
        saved::from_bytes(&bytes, &place.display().to_string(), params, |replica| {
            replica.spec.axis != Axis::Example
        })
    }

    /// The state of lane `lane`, whose example rows are put into `params`.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the file.
    pub fn load_lane(&self, lane: usize, params: &mut Params) -> Result<LaneState> {
        let name = format!("lane-{lane:04}.bin");
        let damaged = |what: String| Error::Damaged(format!("{}: {what}", self.folder.join(&name).display()));
        let mut state: LaneState =
            postcard::from_bytes(&self.file(&name)?).map_err(|e| damaged(e.to_string()))?;
        for (table, first, bytes) in std::mem::take(&mut state.rows) {
            let fits = params
                .replicas
                .get_mut(usize::from(table))
                .is_some_and(|r| r.set_row_bytes(first as usize, &bytes));
            if !fits {
                return Err(damaged(format!("rows from {first} on do not fit table {table}")));
            }
        }
        Ok(state)
    }

    fn file(&self, name: &str) -> Result<Vec<u8>> {
        let entry = self.manifest.files.iter().find(|entry| entry.name == name);
        let entry =
            entry.ok_or_else(|| Error::Damaged(format!("{}: no {name} in it", self.folder.display())))?;
        read_file(&self.folder, entry)
    }
}
