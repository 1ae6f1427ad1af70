//! `allreduce`: every worker keeps all tables; once a clock the updates of all lanes are added along the lane
//! tree and everyone takes the same sum.

use super::{Lanes, Report, Strategy, Task};
use crate::table::{Axis, Element, Params, Replica, Type};
use crate::update::{Afterwards, Geometry, Part, with_type};
use crate::{Result, Sums};
use dunlin_comm::collective::{Folder, Node, Op};
use dunlin_comm::{Buffer, Comm, Message};

/// The state of the strategy on one worker.
#[derive(Debug)]
pub struct AllReduce {
    geometry: Vec<Geometry>,
    lanes: usize,
    updates: Folder<Part>,
    sums: Vec<(Node, Sums)>,
    ready: u64,
    report: Report,
}

impl AllReduce {
    /// For tables cut as `geometry` says and `lanes` lanes that have all done `clock` clocks.
    pub fn new(geometry: Vec<Geometry>, lanes: usize, clock: u64) -> AllReduce {
        let updates = Folder::new(lanes);
        AllReduce { geometry, lanes, updates, sums: Vec::new(), ready: clock, report: Report::default() }
    }

    /// Adds the updates of all lanes to the tables of this worker, and the sums of all lanes up.
    fn reduce(&mut self, comm: &mut Comm, params: &mut Params) -> Result<Sums> {
        let parts = std::mem::replace(&mut self.updates, Folder::new(self.lanes)).into_parts();
        for (number, table) in self.geometry.iter().enumerate() {
            if params.replicas[number].spec.axis == Axis::Example {
                continue;
            }
            with_type!(table.element, T => {
                let length = params.replicas[number].spec.rows * table.stride;
                let parts = parts.iter().map(|(node, part)| (*node, flat::<T>(part, number, length, &self.geometry)));
                let total = comm.all_reduce_tree::<T>(parts.collect(), self.lanes, length, Op::Sum)?;
                let Replica { values, base, .. } = &mut params.replicas[number];
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
        reduce_sums(comm, self.lanes, std::mem::take(&mut self.sums))
    }
}

/// The numbers of table `number` in `part` as one flat array, zero where the part has nothing.
fn flat<T: Element>(part: &Part, number: usize, length: usize, geometry: &[Geometry]) -> Buffer {
    let mut buffer = Buffer::zeroed(length * size_of::<T>());
    for entry in part.entries.iter().filter(|entry| usize::from(entry.table) == number) {
        let range = geometry[number].elements(entry.chunk as usize);
        let place = buffer.slice_mut::<T>(range.start * size_of::<T>(), range.len());
        if let (Some(place), Some(numbers)) = (place, part.numbers::<T>(entry, geometry)) {
            place.copy_from_slice(numbers);
        }
    }
    buffer
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
    let mut all: Vec<(Node, Sums)> = Vec::with_capacity(lanes);
    for message in comm.all_gather(Message::new(&own, Buffer::new()))? {
        all.extend(message.head::<Vec<(Node, Sums)>>()?);
    }
    all.sort_by_key(|(node, _)| node.start);
    let mut folder = Folder::new(lanes);
    all.into_iter().for_each(|(node, sums)| folder.push(node, sums, |left, right| left.merge(&right)));
    Ok(folder.into_parts().pop().map(|(_, sums)| sums).unwrap_or_default())
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
        Ok(if clock < until { Task::Work { lane } } else { Task::Reached })
    }

    fn done(&mut self, _: &mut Comm, params: &mut Params, lane: usize, _: u64, sums: Sums) -> Result<()> {
        let geometry = &self.geometry;
        for part in params.take_updates(geometry, 1, Afterwards::Restore, &mut Vec::new()) {
            self.updates.push(Node::leaf(lane), part, |left, right| left.add(&right, geometry));
        }
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
