//! Opening what the user names, and reading it as lines or bytes: plain, gzip or Zstandard (told by the first
//! bytes, not by the name), from a file or standard input. The text is never held whole in memory.

use super::text::Parsed;
use crate::{Error, Result};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Bytes asked of the system at a time.
const STEP: usize = 256 << 10;
/// The longest line we take.
const LONGEST_LINE: usize = 256 << 20;

/// A source of bytes with a name for messages and a line counter.
pub(super) struct Input {
    name: String,
    reader: Box<dyn Read>,
    packing: &'static str,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    line: u64,
    ended: bool,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such file (with near names), or it is a directory; [`Error::Io`].
    pub(super) fn open(source: &str) -> Result<Input> {
        if source == "-" {
            return Input::new("standard input", Box::new(std::io::stdin()));
        }
        let path = Path::new(source);
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Data(missing(path))),
            Err(error) => Err(Error::io(source)(error)),
            Ok(found) if found.is_dir() => {
                Err(Error::Data(format!("{source} is a directory; a file is wanted here")))
            }
            Ok(_) => Input::new(source, Box::new(std::fs::File::open(path).map_err(Error::io(source))?)),
        }
    }

    /// Reads `reader`, unpacking it if it starts like gzip or Zstandard.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub(super) fn new(name: &str, mut reader: Box<dyn Read>) -> Result<Input> {
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic).map_err(Error::io(name))?;
        let (gzip, zstandard) = (magic.starts_with(&[0x1f, 0x8b]), magic == [0x28, 0xb5, 0x2f, 0xfd]);
        let whole = std::io::Cursor::new(magic).chain(reader);
        let (packing, reader): (_, Box<dyn Read>) = if gzip {
            ("gzip", Box::new(flate2::read::MultiGzDecoder::new(whole)))
        } else if zstandard {
            ("Zstandard", Box::new(zstd::Decoder::new(whole).map_err(Error::io(name))?))
        } else {
            ("", Box::new(whole))
        };
        let name = name.to_string();
        let mut input =
            Input { name, reader, packing, buffer: Vec::new(), start: 0, end: 0, line: 0, ended: false };
        if input.head(3)?.starts_with(&[0xef, 0xbb, 0xbf]) {
            input.start += 3;
        }
        Ok(input)
    }

    /// The name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The first `bytes` of what is still to be read, fewer at its end; they stay to be read.
    pub(super) fn head(&mut self, bytes: usize) -> Result<&[u8]> {
        while self.end - self.start < bytes && self.fill()? {}
        Ok(&self.buffer[self.start..self.end.min(self.start + bytes)])
    }

    /// The next line without its end, or `None` after the last.
    ///
    /// # Errors
    /// The input cannot be read or unpacked, or the line is longer than we take.
    pub(super) fn next_line(&mut self) -> Result<Option<&[u8]>> {
        let mut searched = 0;
        self.line += 1;
        let length = loop {
            let rest = &self.buffer[self.start + searched..self.end];
            if let Some(at) = memchr::memchr(b'\n', rest) {
                break searched + at;
            }
            searched += rest.len();
            if searched > LONGEST_LINE {
                return Err(
                    self.fault(format!("a line longer than {} MiB; is this text?", LONGEST_LINE >> 20))
                );
            }
            if !self.fill()? {
                if searched == 0 {
                    return Ok(None);
                }
                break searched;
            }
        };
        let from = self.start;
        self.start = (from + length + 1).min(self.end);
        let line = &self.buffer[from..from + length];
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Gives every remaining line to `take`.
    ///
    /// # Errors
    /// As [`Input::next_line`], or what `take` finds wrong, with file and line.
    pub(super) fn each_line(&mut self, mut take: impl FnMut(&[u8]) -> Parsed<()>) -> Result<()> {
        while let Some(line) = self.next_line()? {
            if let Err(message) = take(line) {
                return Err(self.fault(message));
            }
        }
        Ok(())
    }

    /// Fills `out`; false if the input ends before.
    pub(super) fn read_exact(&mut self, out: &mut [u8]) -> Result<bool> {
        let mut done = 0;
        while done < out.len() {
            if self.start == self.end && !self.fill()? {
                return Ok(false);
            }
            let count = (self.end - self.start).min(out.len() - done);
            out[done..done + count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            (self.start, done) = (self.start + count, done + count);
        }
        Ok(true)
    }

    /// An error at the line read last.
    #[cold]
    pub(super) fn fault(&self, message: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}:{}: {message}", self.name, self.line))
    }

    /// An error about the file as a whole.
    #[cold]
    pub(super) fn whole_fault(&self, message: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}: {message}", self.name))
    }

    /// Reads more behind what is there; false at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < self.end + STEP {
            let length = (self.end + STEP).max(self.end * 2);
            self.buffer.resize(length, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.read_fault(error)),
            }
            return Ok(!self.ended);
        }
    }

    #[cold]
    fn read_fault(&self, error: std::io::Error) -> Error {
        let place = if self.line == 0 { self.name.clone() } else { format!("{}:{}", self.name, self.line) };
        let packing = self.packing;
        match error.kind() {
            ErrorKind::UnexpectedEof if !packing.is_empty() => Error::Data(format!(
                "{place}: the {packing} file is truncated, or something that is not {packing} follows in it"
            )),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other if !packing.is_empty() => {
                Error::Data(format!("{place}: the {packing} file is damaged ({error})"))
            }
            _ => Error::Io { what: place, source: error },
        }
    }
}

/// True if `path` is a file, whatever it is packed with; gives the name it really has.
pub(super) fn find_packed(path: &Path) -> Option<std::path::PathBuf> {
    ["", ".gz", ".zst"].iter().find_map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let full = std::path::PathBuf::from(name);
        full.is_file().then_some(full)
    })
}

/// A file's name without folder and packing.
pub(super) fn bare_name(source: &str) -> &str {
    let name = source.rsplit('/').next().unwrap_or(source);
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// The message for a file that is not there, with names like it from its folder.
fn missing(path: &Path) -> String {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return format!("{shown}: no such file, nor a folder {}", folder.display());
    }
    let wanted = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    match near(&wanted, names.iter().map(String::as_str)).as_slice() {
        [] => format!("{shown}: no such file"),
        close => format!("{shown}: no such file; in that folder there is {}", close.join(", ")),
    }
}

/// Up to three of `names` that look like `wanted`, the nearest first.
pub(super) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = names
        .map(|name| {
            let begins = !wanted.is_empty() && name.starts_with(wanted);
            (if begins { 1.0 } else { strsim::jaro_winkler(wanted, name) }, name)
        })
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(right.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
