//! Scratch files: bytes that do not fit into memory, on disk for as long as somebody holds them.
//!
//! A scratch file loses its name as soon as it is made: no other run can mistake it for its own, and the system frees
//! its space when the last holder is gone, however the program ends. What is written is never changed. Every piece
//! starts at a multiple of 4096 bytes and carries an xxh3 of its bytes, which is checked when it is read:
//!
//! ```text
//! | piece 0, parts one after the other | zeros up to 4096 | piece 1 ...
//! ```
//! Read with `pread`: no mapping, whose pages would count as memory of the process and whose end would be a crash.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use twox_hash::XxHash3_64;

/// Bytes at whose multiples pieces start.
const ALIGNMENT: u64 = 4096;

/// Makes names of scratch files differ within a process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A folder in which scratch files are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Scratch files go to `folder`, which must be there.
    pub fn new(folder: &Path) -> Scratch {
        Scratch { folder: folder.into() }
    }

    /// A new file for `what`, a word.
    ///
    /// # Errors
    /// [`Error::Io`] with the place.
    pub fn file(&self, what: &str) -> Result<Arc<ScratchFile>> {
        self.aligned(what, ALIGNMENT)
    }

    /// The same for many small pieces, which follow each other without gaps.
    pub(super) fn packed(&self, what: &str) -> Result<Arc<ScratchFile>> {
        self.aligned(what, 1)
    }

    fn aligned(&self, what: &str, alignment: u64) -> Result<Arc<ScratchFile>> {
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = self.folder.join(format!(".dunlin-{what}-{process}-{number}"));
        let place = path.display().to_string();
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = made.map_err(Error::io(format!("cannot make the scratch file {place} (--memory)")))?;
        std::fs::remove_file(&path).map_err(Error::io(format!("cannot unlink the scratch file {place}")))?;
        Ok(Arc::new(ScratchFile { file, place, alignment, end: AtomicU64::new(0) }))
    }
}

/// A file of pieces. Threads may write and read at once.
#[derive(Debug)]
pub struct ScratchFile {
    file: File,
    place: String,
    alignment: u64,
    end: AtomicU64,
}

/// Where a piece is, and what its bytes add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    offset: u64,
    sum: u64,
}

impl ScratchFile {
    /// Where it is, or was before it lost its name.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Adds a piece: `parts`, one after the other.
    ///
    /// # Errors
    /// [`Error::Io`] with the place, such as for a disk that is full.
    pub fn append(&self, parts: &[&[u8]]) -> Result<Piece> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let offset = self.end.fetch_add(length.next_multiple_of(self.alignment), Ordering::Relaxed);
        let mut at = offset;
        for part in parts {
            let failed = |error| self.write_fault(at, error);
            self.file.write_all_at(part, at).map_err(failed)?;
            at += part.len() as u64;
        }
        Ok(Piece { offset, sum: sum_of(parts.iter().copied()) })
    }

    /// Reads a piece into parts of the lengths that it was written in.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the place if the file ends before or the bytes are not those that were written;
    /// [`Error::Io`].
    pub fn read(&self, piece: Piece, parts: &mut [&mut [u8]]) -> Result<()> {
        let mut at = piece.offset;
        for part in parts.iter_mut() {
            let length = part.len() as u64;
            self.file.read_exact_at(part, at).map_err(|error| self.read_fault(at, length, error))?;
            at += length;
        }
        if sum_of(parts.iter().map(|part| &**part)) == piece.sum {
            return Ok(());
        }
        Err(Error::Damaged(format!(
            "{}: the bytes from {} to {at} are not those that were written: the disk, or somebody else, has changed \
             them; start the run again",
            self.place, piece.offset
        )))
    }

    #[cold]
    fn write_fault(&self, at: u64, source: std::io::Error) -> Error {
        let what = format!("writing what does not fit into --memory to {}, at byte {at}", self.place);
        Error::Io { what, source }
    }

    #[cold]
    fn read_fault(&self, at: u64, length: u64, source: std::io::Error) -> Error {
        match source.kind() {
            ErrorKind::UnexpectedEof => Error::Damaged(format!(
                "{}: ends before the {length} bytes at {at}: it was cut short while the run went on; start the run again",
                self.place
            )),
            _ => Error::Io { what: format!("reading {} at byte {at}", self.place), source },
        }
    }
}

fn sum_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let filled = parts.filter(|part| !part.is_empty());
    filled.fold(0, XxHash3_64::oneshot_with_seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<ScratchFile> {
        Scratch::new(&std::env::temp_dir()).file("test").unwrap()
    }

    #[test]
    fn pieces_come_back_and_nothing_is_left_in_the_folder() {
        let file = file();
        let pieces: Vec<Piece> = (0..9u8).map(|n| file.append(&[&[n; 3000], &[n + 1; 5]]).unwrap()).collect();
        assert_eq!(file.bytes(), 9 * 4096);
        assert!(!Path::new(file.place()).exists(), "it has no name any more");
        for (n, piece) in pieces.into_iter().enumerate().rev() {
            let (mut first, mut second) = ([0; 3000], [0; 5]);
            file.read(piece, &mut [&mut first, &mut second]).unwrap();
            assert!(first == [n as u8; 3000] && second == [n as u8 + 1; 5], "{n}");
        }
    }

    #[test]
    fn a_file_cut_short_and_a_changed_byte_are_told() {
        let file = file();
        let piece = file.append(&[&[7; 5000]]).unwrap();
        let mut back = [0; 5000];
        file.file.write_all_at(&[8], 4321).unwrap();
        let error = file.read(piece, &mut [&mut back]).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        assert!(error.to_string().contains(file.place()), "{error}");
        file.file.set_len(4999).unwrap();
        let error = file.read(piece, &mut [&mut back]).unwrap_err().to_string();
        assert!(error.contains(file.place()) && error.contains("cut short"), "{error}");
    }

    #[test]
    fn a_full_disk_and_a_missing_folder_are_told_with_their_place() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let place = "/somewhere/blocks".into();
        let file = ScratchFile { file: full, place, alignment: 1, end: AtomicU64::new(0) };
        let error = file.append(&[&[1; 100]]).unwrap_err().to_string();
        assert!(error.contains("/somewhere/blocks") && error.contains("No space left"), "{error}");
        let error = Scratch::new(Path::new("/no/such/folder")).file("blocks").unwrap_err().to_string();
        assert!(error.contains("/no/such/folder/.dunlin-blocks"), "{error}");
    }
}
