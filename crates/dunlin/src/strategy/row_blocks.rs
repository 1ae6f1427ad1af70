//! Blocks of rows that go from lane to lane: how they are made, and how they are written down.

use crate::Result;
use crate::codec::{Part, pack_counts};
use crate::table::{Params, Storage, Type};
use dunlin_comm::{Buffer, Comm};
use std::ops::Range;
use std::sync::Arc;

/// Makes rows of a table that is nowhere whole.
pub type MakeRows<'a> = &'a mut dyn FnMut(usize, Range<usize>) -> Result<Storage>;

/// Rows of a table by `make`, or, where the tables of `params` are whole, out of these.
pub(super) fn rows_of(
    params: &Params,
    make: &mut Option<MakeRows>,
    table: usize,
    rows: Range<usize>,
) -> Result<Storage> {
    if let Some(make) = make {
        return make(table, rows);
    }
    let replica = &params.replicas[table];
    Ok(Storage::from_buffer(replica.spec.element, Buffer::from(replica.row_bytes(rows))))
}

/// Rows on their way to another rank: over a network in as few bytes as they need. On one host writing them down like
/// that takes longer than copying them; ranks that share memory, which are on one host, hand over a pointer.
pub(super) fn outgoing(comm: &Comm, element: Type, numbers: Arc<Buffer>) -> Part {
    match comm.is_one_host() {
        true => Part { entries: Vec::new(), body: numbers },
        false => pack_counts(element, numbers),
    }
}
