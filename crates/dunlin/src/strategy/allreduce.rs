//! `allreduce`: every worker keeps all tables; once a clock the updates of all lanes are added along the lane
//! tree and everyone takes the same sum.
//!
//! Whole tables are reduced where lanes write much of them. Where they write little (some coefficients of many), updates
//! travel as they are, to everyone, who adds them along the same tree: to the same bits.

use super::ps::place_shards;
use super::{Lanes, Report, Strategy, Task};
use crate::codec::{Entry, Part, add_neighbours};
use crate::table::{Axis, Element, Params, Replica};
use crate::update::{Afterwards, Geometry, with_type};
use crate::{Result, Sums};
use dunlin_comm::collective::{Folder, Node, Op};
use dunlin_comm::{Buffer, Comm, Message};
use std::sync::Arc;

/// The state of the strategy on one worker.
#[derive(Debug)]
pub struct AllReduce {
    geometry: Vec<Geometry>,
    lanes: usize,
    hosted: usize,
    /// Of hosted lanes in the current clock, in pieces as shards would get them: no part is too large.
    updates: Vec<Vec<(Node, Part)>>,
    spare: Vec<Buffer>,
    sums: Vec<(Node, Sums)>,
    ready: u64,
    report: Report,
}

impl AllReduce {
    /// For the tables `params` and `lanes` lanes, which have all done `clock` clocks.
    pub fn new(params: &Params, lanes: &Lanes, clock: u64) -> AllReduce {
        AllReduce {
            geometry: params.geometry(),
            lanes: lanes.total,
            hosted: lanes.hosted.len(),
            updates: vec![Vec::new(); place_shards(params, 0..1).len()],
            spare: Vec::new(),
            sums: Vec::new(),
            ready: clock,
            report: Report::default(),
        }
    }

    /// Adds the updates of all lanes to the tables of this worker, and the sums of all lanes up.
    fn reduce(&mut self, comm: &mut Comm, params: &mut Params) -> Result<Sums> {
        let mut pieces = Vec::new();
        for updates in &mut self.updates {
            let updates = std::mem::take(updates);
            pieces.push(add_neighbours(updates, self.lanes, &self.geometry, &mut self.spare));
        }
        let own: usize = pieces.iter().flatten().map(|(_, part)| part.body.len()).sum();
        let sums = (std::mem::take(&mut self.sums), own as u64);
        let (sums, sent) = gather_sums(comm, self.lanes, &sums)?;
        if FEWER * sent <= self.dense_bytes(params) {
            let parts = gather_parts(comm, pieces, &self.geometry)?;
            params.add(&parts, &self.geometry);
            return Ok(sums);
        }
        for (number, table) in self.geometry.iter().enumerate() {
            if params.replicas[number].spec.axis == Axis::Example {
                continue;
            }
            with_type!(table.element, T => {
                let length = params.replicas[number].spec.rows * table.stride;
                let parts = flat::<T>(&pieces, number, length, &self.geometry);
                let total = comm.all_reduce_tree::<T>(parts, self.lanes, length, Op::Sum)?;
                let Replica { values, base, left, .. } = &mut params.replicas[number];
                left.clear(); // all of it is set
                if let (Some(values), Some(base)) = (T::slot_mut(values), T::slot_mut(base)) {
                    let total = total.slice::<T>(0, length).unwrap_or_default();
                    let rows = values.as_mut_slice().iter_mut().zip(base.as_mut_slice()).zip(total);
                    rows.for_each(|((value, base), total)| {
                        *base = Element::plus(*base, *total);
                        *value = *base;
                    });
                }
            });
        }
        let parts = pieces.into_iter().flatten();
        self.spare.extend(parts.filter_map(|(_, part)| Arc::into_inner(part.body)));
        Ok(sums)
    }

    /// Bytes of all tables that are reduced.
    fn dense_bytes(&self, params: &Params) -> u64 {
        let shared = params.replicas.iter().filter(|replica| replica.spec.axis != Axis::Example);
        shared.map(|replica| (replica.spec.rows * replica.spec.bytes_per_row()) as u64).sum()
    }
}

/// Updates go as they are if they have so many times fewer bytes than the tables: everyone gets all of them.
const FEWER: u64 = 2;

/// The updates of all lanes, in the order of lanes, from those of the lanes that are hosted here, in pieces.
fn gather_parts(
    comm: &mut Comm,
    pieces: Vec<Vec<(Node, Part)>>,
    geometry: &[Geometry],
) -> Result<Vec<(Node, Part)>> {
    let (mut heads, mut body): (Vec<(Node, Vec<Entry>)>, _) = (Vec::new(), Buffer::new());
    for (node, part) in pieces.into_iter().flatten() {
        body.resize(body.len().next_multiple_of(8));
        let start = body.len() as u32;
        let moved = part.entries.iter().map(|entry| Entry { offset: entry.offset + start, ..*entry });
        match heads.iter_mut().find(|(other, _)| *other == node) {
            Some((_, entries)) => entries.extend(moved),
            None => heads.push((node, moved.collect())),
        }
        body.extend(part.body.bytes());
    }
    heads.iter_mut().for_each(|(_, entries)| entries.sort_unstable_by_key(Entry::key));
    let mut parts = Vec::new();
    for message in comm.all_gather(Message::new(&heads, body))? {
        for (node, entries) in message.head::<Vec<(Node, Vec<Entry>)>>()? {
            let mut own = Message { from: message.from, head: Vec::new(), body: message.body.clone() };
            parts.push((node, Part::received(&mut own, entries, geometry)?));
        }
    }
    parts.sort_by_key(|(node, _)| node.start);
    Ok(parts)
}

/// The numbers of table `number` as one flat array for each group of lanes, zero where their parts have nothing.
fn flat<T: Element>(
    pieces: &[Vec<(Node, Part)>],
    number: usize,
    length: usize,
    geometry: &[Geometry],
) -> Vec<(Node, Buffer)> {
    let mut arrays: Vec<(Node, Buffer)> = Vec::new();
    for (group, (node, part)) in pieces.iter().flat_map(|parts| parts.iter().enumerate()) {
        if arrays.len() == group {
            arrays.push((*node, Buffer::zeroed(length * size_of::<T>())));
        }
        for entry in part.entries.iter().filter(|entry| usize::from(entry.table) == number) {
            let range = geometry[number].elements(entry.chunk as usize);
            let place = arrays[group].1.slice_mut::<T>(range.start * size_of::<T>(), range.len());
            if let (Some(place), Some(numbers)) = (place, part.numbers::<T>(entry, geometry)) {
                numbers.copy_to(place);
            }
        }
    }
    arrays
}

/// The sums of all lanes, added along the lane tree; the same bits on every worker. Each worker gives those of
/// the lanes it hosts, in order.
///
/// # Blocking
/// On all workers.
///
/// # Errors
/// A loss or a time-out.
pub fn reduce_sums(comm: &mut Comm, lanes: usize, own: Vec<(Node, Sums)>) -> Result<Sums> {
    Ok(gather_sums(comm, lanes, &(own, 0))?.0)
}

/// The same, and the sum of the numbers that all workers give with them.
fn gather_sums(comm: &mut Comm, lanes: usize, own: &(Vec<(Node, Sums)>, u64)) -> Result<(Sums, u64)> {
    let mut all: Vec<(Node, Sums)> = Vec::with_capacity(lanes);
    let mut total = 0;
    for message in comm.all_gather(Message::new(own, Buffer::new()))? {
        let (sums, number) = message.head::<(Vec<(Node, Sums)>, u64)>()?;
        all.extend(sums);
        total += number;
    }
    all.sort_by_key(|(node, _)| node.start);
    let mut folder = Folder::new(lanes);
    all.into_iter().for_each(|(node, sums)| folder.push(node, sums, |left, right| left.merge(&right)));
    Ok((folder.into_parts().pop().map(|(_, sums)| sums).unwrap_or_default(), total))
}

impl Strategy for AllReduce {
    fn next(&mut self, comm: &mut Comm, params: &mut Params, lanes: &Lanes, until: u64) -> Result<Task> {
        let Some((lane, clock)) = lanes.slowest() else { return Ok(Task::Reached) };
        if clock > self.ready {
            let start = comm.now();
            let sums = self.reduce(comm, params)?;
            self.report.blocked_seconds += comm.now().since(start).as_secs_f64();
            self.ready = clock;
            return Ok(Task::EndClock(sums));
        }
        Ok(if clock < until { Task::Work { lane, row_block: 0, clock } } else { Task::Reached })
    }

    fn done(&mut self, _: &mut Comm, params: &mut Params, lane: usize, _: u64, sums: Sums) -> Result<()> {
        let last = self.updates[0].len() + 1 == self.hosted;
        let afterwards = if last { Afterwards::Leave } else { Afterwards::Restore };
        let parts = params.take_updates(&self.geometry, self.updates.len(), afterwards, &mut self.spare);
        self.updates.iter_mut().zip(parts).for_each(|(updates, part)| updates.push((Node::leaf(lane), part)));
        self.sums.push((Node::leaf(lane), sums));
        Ok(())
    }

    fn drain(&mut self, _: &mut Comm, _: &mut Params, _: u64) -> Result<()> {
        Ok(()) // `next` says that the clock is reached only after the reduction
    }

    fn blocked_seconds(&self) -> f64 {
        self.report.blocked_seconds
    }

    fn report(&self) -> Report {
        self.report.clone()
    }
}
