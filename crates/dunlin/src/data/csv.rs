//! Comma-separated values with a header (stub until the reader lands).

use super::input::Input;
use super::{Data, Notes, ReadOptions};
use crate::{Error, Result};

pub(super) fn is_header(line: &[u8]) -> bool {
    line.iter().any(u8::is_ascii_alphabetic)
}

pub(super) fn read(input: &mut Input, _: &ReadOptions, _: Option<&Data>) -> Result<(Data, Notes)> {
    Err(Error::Usage(format!("{}: CSV is not read yet", input.name())))
}
