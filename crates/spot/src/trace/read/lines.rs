//! Lines of a text that may be anything: no line is kept that is too long, and bytes that are no UTF-8 are refused.

use crate::{Error, Result};
use std::io::{BufRead, Read};

/// Most bytes of a line.
const MOST_LINE: u64 = 4096;
/// Most bytes of a JSON series: [`MOST_INTERVALS`](crate::trace::MOST_INTERVALS) numbers with room around them.
const MOST_JSON: u64 = 128 << 20;

pub(crate) struct Lines<'a, R> {
    reader: R,
    name: &'a str,
    number: usize,
    line: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(crate) fn new(reader: R, name: &'a str) -> Self {
        Lines { reader, name, number: 0, line: Vec::new() }
    }

    fn io(&self, error: &std::io::Error) -> Error {
        Error::data(format!("{}: cannot be read: {error}", self.name))
    }

    fn wrong(&self, text: &str) -> Error {
        Error::data(format!("{}:{}: {text}", self.name, self.number))
    }

    /// The first byte that is neither white space nor part of a byte order mark; it stays to be read.
    pub(crate) fn first_byte(&mut self) -> Result<Option<u8>> {
        loop {
            let byte = match self.reader.fill_buf() {
                Ok(buffer) => buffer.first().copied(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.io(&error)),
            };
            match byte {
                Some(b'\n') => self.number += 1,
                Some(b' ' | b'\t' | b'\r' | 0xef | 0xbb | 0xbf) => {}
                other => return Ok(other),
            }
            self.reader.consume(1);
        }
    }

    /// The next line that is neither empty nor a comment, with its number from 1.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, &str)>> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = self.reader.by_ref().take(MOST_LINE + 1).read_until(b'\n', &mut self.line);
            if read.map_err(|error| self.io(&error))? == 0 {
                return Ok(None);
            }
            if self.line.len() as u64 > MOST_LINE {
                return Err(self.wrong(&format!("more than {MOST_LINE} bytes in a line")));
            }
            let is_comment = self.line.first() == Some(&b'#');
            if !is_comment && !self.line.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        match std::str::from_utf8(&self.line) {
            Ok(line) => Ok(Some((self.number, line.trim()))),
            Err(_) => Err(self.wrong("this is no UTF-8 text")),
        }
    }

    /// All that is left, as one text.
    pub(crate) fn rest(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(MOST_JSON + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.io(&error))?;
        if bytes.len() as u64 > MOST_JSON {
            return Err(Error::data(format!("{}: more than {MOST_JSON} bytes of JSON", self.name)));
        }
        String::from_utf8(bytes).map_err(|_| Error::data(format!("{}: this is no UTF-8 text", self.name)))
    }
}
