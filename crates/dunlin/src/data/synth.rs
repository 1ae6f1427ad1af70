//! Generators (stub until they land).

use super::{Data, Notes, ReadOptions};
use crate::Result;

pub(super) fn read(what: &str, _: &ReadOptions, _: Option<&Data>) -> Result<(Data, Notes)> {
    Err(super::read::unknown("generator", what, &[]))
}
