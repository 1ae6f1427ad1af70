//! Checkpoints: tables, local state, random streams and data position, complete or not at all.
//!
//! A checkpoint is taken where all lanes have done the same clock and the tables are complete. Random streams
//! are counted and the order of blocks within an epoch is drawn from them, so that (seed, epoch, clock) is all there
//! is to save of both; blocks are stable, so that a run can go on with another number of workers.
//!
//! ```text
//! RUN/checkpoints/epochs-000012/        or epochs-000012+00003, three clocks later
//!   tables.safetensors     the shared tables, solver state included
//!   lane-0000.bin ...      local state of its blocks, its rows of tables on the example axis, its carries (postcard)
//!   manifest.json          what belongs to it: names, bytes, xxh3 of each; written last
//! ```
//! [`Writing`] writes everything into a hidden folder beside the training that goes on, syncs and renames it; the two
//! newest are kept.

mod writing;

pub use writing::{Done, Writing};

use crate::run::Run;
use crate::table::{Axis, Params};
use crate::{Error, Result, saved};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the format.
const VERSION: u32 = 4;

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Whole epochs done.
    pub epochs: usize,
    /// Clocks done of the epoch after them.
    pub clock: usize,
    /// Seconds of training done.
    pub seconds: f64,
    /// Seconds of evaluation done.
    pub evaluation_seconds: f64,
}

impl Position {
    /// Name of the folder of a checkpoint taken here. Names sort as positions do.
    pub fn name(&self) -> String {
        match self.clock {
            0 => format!("epochs-{:06}", self.epochs),
            clock => format!("epochs-{:06}+{clock:05}", self.epochs),
        }
    }

    /// In words: "epoch 3", "epoch 3 and 2 clocks".
    pub fn words(&self) -> String {
        match self.clock {
            0 => format!("epoch {}", self.epochs),
            1 => format!("epoch {} and 1 clock", self.epochs),
            clock => format!("epoch {} and {clock} clocks", self.epochs),
        }
    }
}

/// What belongs to a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// The run that wrote it.
    pub run: Run,
    /// Fingerprint of the training data.
    pub data: String,
    /// How far it had come.
    pub position: Position,
    /// Clocks in an epoch.
    pub clocks_per_epoch: usize,
    /// All files.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Of a checkpoint of `run` at `position` whose files are still to be written.
    pub fn new(run: &Run, data: &str, position: Position, clocks_per_epoch: usize) -> Manifest {
        let (program, files) = (env!("CARGO_PKG_VERSION").into(), Vec::new());
        let (run, data) = (run.clone(), data.to_string());
        Manifest { version: VERSION, program, run, data, position, clocks_per_epoch, files }
    }
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
    /// Rows of tables that are nowhere whole, on the example axis or spread: table, first row, the numbers with padding.
    pub rows: Vec<(u16, u64, Vec<u8>)>,
    /// What rounding has left of its updates: table, numbers with padding.
    pub carries: Vec<(u16, Vec<u8>)>,
}

/// Name of the file of shared tables.
pub const TABLES: &str = "tables.safetensors";

fn lane_file(lane: usize) -> String {
    format!("lane-{lane:04}.bin")
}

impl LaneState {
    /// Name and bytes of its file, as the state of lane `lane`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it cannot be encoded; a bug of ours.
    pub fn into_file(self, lane: usize) -> Result<(String, Vec<u8>)> {
        let bytes =
            postcard::to_stdvec(&self).map_err(|e| Error::Damaged(format!("state of lane {lane}: {e}")))?;
        Ok((lane_file(lane), bytes))
    }

    /// The rows `rows` of all tables on the example axis.
    pub fn take_rows(params: &Params, rows: std::ops::Range<usize>) -> Vec<(u16, u64, Vec<u8>)> {
        let tables =
            params.replicas.iter().enumerate().filter(|(_, replica)| replica.spec.axis == Axis::Example);
        tables
            .map(|(table, replica)| {
                (table as u16, rows.start as u64, replica.row_bytes(rows.clone()).to_vec())
            })
            .collect()
    }
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

/// True if there is a checkpoint in the run folder `out`, whole or not.
pub fn any(out: &Path) -> bool {
    !list(&out.join("checkpoints")).is_empty()
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
/// [`Error::Damaged`] if there are checkpoints and none is whole; [`Error::Usage`] if the newest is of another version,
/// which an older one does not make good.
pub fn newest(out: &Path) -> Result<Option<(Found, Vec<String>)>> {
    let mut complaints = Vec::new();
    for folder in list(&out.join("checkpoints")).into_iter().rev() {
        match open(&folder) {
            Ok(manifest) => return Ok(Some((Found { manifest, folder }, complaints))),
            Err(error @ Error::Usage(_)) => return Err(error),
            Err(error) => complaints.push(error.to_string()),
        }
    }
    if complaints.is_empty() { Ok(None) } else { Err(Error::Damaged(complaints.join("; "))) }
}

/// Reads a checkpoint's manifest and compares all files with it.
fn open(folder: &Path) -> Result<Manifest> {
    let path = folder.join("manifest.json");
    let json = std::fs::read(&path).map_err(Error::io(format!("cannot read {}", path.display())))?;
    check_version(&path.display().to_string(), &json)?;
    let manifest: Manifest =
        serde_json::from_slice(&json).map_err(|e| Error::Damaged(format!("{}: {e}", path.display())))?;
    manifest.files.iter().try_for_each(|entry| read_file(folder, entry).map(drop))?;
    Ok(manifest)
}

/// Of a manifest only what says which program can read the rest.
#[derive(Deserialize)]
struct Versions {
    version: u32,
    #[serde(default)]
    program: String,
}

/// Refuses what another version wrote: its numbers may mean something else, and going on would not give the same bits.
fn check_version(place: &str, json: &[u8]) -> Result<()> {
    let Versions { version, program } =
        serde_json::from_slice(json).map_err(|e| Error::Damaged(format!("{place}: {e}")))?;
    let ours = env!("CARGO_PKG_VERSION");
    if version == VERSION && program == ours {
        return Ok(());
    }
    let program = if program.is_empty() { "an unknown version".into() } else { program };
    Err(Error::Usage(format!(
        "--resume: {place} was written by dunlin {program} in version {version} of the format; this is dunlin {ours}, \
         which goes on with its own checkpoints only (version {VERSION}); go on with the dunlin that wrote it, or start \
         afresh in another --out"
    )))
}

fn read_file(folder: &Path, entry: &FileEntry) -> Result<Vec<u8>> {
    if entry.name.contains(['/', '\\']) {
        return Err(Error::Damaged(format!("{}: file name {:?}", folder.display(), entry.name)));
    }
    let path = folder.join(&entry.name);
    let bytes = std::fs::read(&path).map_err(Error::io(format!("cannot read {}", path.display())))?;
    let found = (bytes.len() as u64, saved::checksum(&bytes));
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

    /// Sets the shared tables, those on an axis that `keep` picks.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming file and table.
    pub fn load_tables(&self, params: &mut Params, keep: impl Fn(Axis) -> bool) -> Result<()> {
        let bytes = self.file(TABLES)?;
        let place = self.folder.join(TABLES);
        saved::from_bytes(&bytes, &place.display().to_string(), params, |replica| {
            replica.spec.axis != Axis::Example && keep(replica.spec.axis)
        })
    }

    /// The state of lane `lane`, whose rows are given to `put`: table, first row, numbers with padding; false if they
    /// do not fit.
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the file.
    pub fn load_lane(
        &self,
        lane: usize,
        mut put: impl FnMut(usize, usize, Vec<u8>) -> bool,
    ) -> Result<LaneState> {
        let name = lane_file(lane);
        let damaged = |what: String| Error::Damaged(format!("{}: {what}", self.folder.join(&name).display()));
        let mut state: LaneState =
            postcard::from_bytes(&self.file(&name)?).map_err(|e| damaged(e.to_string()))?;
        for (table, first, bytes) in std::mem::take(&mut state.rows) {
            if !put(usize::from(table), first as usize, bytes) {
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
