//! Managed communication: what a worker sends beyond what it must (Wei et al. 2015, Bösen).
//!
//! Without it a worker says nothing until its lane's clock has ended. With a budget of bytes a second, it looks after
//! each unit of work how much of the budget is left, and sends so much of what the lane has written, the most important
//! rows first; the shard adds it and tells the other workers at once, in the middle of their clocks. What is left when
//! the clock ends goes out then, whatever the budget: it is what the staleness bound counts on. Everything that the rank
//! sends uses the budget up, the answers of its shard too, so that early updates take what nothing else needs.
//!
//! Importance of a row: the mean over its numbers of |update / value|, or of |update| where the value is 0.

use crate::isa::{self, Kernel};
use crate::table::{Axis, Element, Merge, Params, Replica, Type};
use crate::transfer::Format;
use crate::update::with_type;
use dunlin_comm::{Comm, Time};

/// Less is not worth a message.
const LEAST_BYTES: f64 = 512.0;

/// A worker's budget.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_second: f64,
    /// How often a byte that goes out early is sent in all: to its shard, and on to the other workers.
    copies: f64,
    /// Bytes that may go out now; below 0 while what had to go out is more than the budget.
    allowance: f64,
    /// When the budget was last looked at, and the bytes sent until then; none since a synchronisation point.
    last: Option<(Time, u64)>,
    /// Where ranks share memory and nothing is sent: bytes of updates that would have been.
    unsent_bytes: u64,
    /// By shard: early messages of the clock that goes on.
    pub(super) numbers: Vec<u32>,
    /// Bytes that the budget came to so far, and bytes sent meanwhile.
    pub(super) totals: [f64; 2],
}

impl Budget {
    /// `copies`: how often a byte that goes out early is sent in all.
    pub(super) fn new(bytes_per_second: u64, copies: usize, shards: usize) -> Budget {
        Budget {
            bytes_per_second: bytes_per_second as f64,
            copies: copies.max(1) as f64,
            allowance: 0.0,
            last: None,
            unsent_bytes: 0,
            numbers: vec![0; shards],
            totals: [0.0; 2],
        }
    }

    /// Takes note of time and of bytes sent.
    pub(super) fn look(&mut self, comm: &Comm) {
        let (now, sent) = (comm.now(), comm.bytes_sent() + self.unsent_bytes);
        if let Some((then, before)) = self.last.replace((now, sent)) {
            let earned = self.bytes_per_second * now.since(then).as_secs_f64();
            let used = sent.saturating_sub(before) as f64;
            // What a unit of work did not use is gone: saved up, it would come as a burst in the way of all that waits.
            self.allowance = (self.allowance + earned - used).min(earned.max(self.burst()));
            self.totals[0] += earned;
            self.totals[1] += used;
        }
    }

    /// A clock begins. While this worker waited for others the network had to do for them: nothing was saved up.
    pub(super) fn begin(&mut self, comm: &Comm) {
        if self.last.is_some() {
            self.look(comm);
        }
        self.allowance = self.allowance.min(self.burst());
    }

    /// Bytes that may be saved up from one look to the next: else a small budget would never come to a message.
    fn burst(&self) -> f64 {
        2.0 * LEAST_BYTES * self.copies
    }

    /// At a synchronisation point: what was saved up or overdrawn is forgotten.
    pub(super) fn rest(&mut self, comm: &Comm) {
        if self.last.is_some() {
            self.look(comm);
        }
        (self.allowance, self.last) = (0.0, None);
    }

    /// `bytes` of updates have gone out.
    pub(super) fn spend(&mut self, comm: &Comm, bytes: usize) {
        if comm.shares_memory() {
            self.unsent_bytes += bytes as u64;
        }
    }

    /// Bytes of updates that may go out now, if they are worth a message.
    pub(super) fn worth(&self) -> Option<f64> {
        Some(self.allowance / self.copies).filter(|bytes| *bytes >= LEAST_BYTES)
    }
}

/// The rows, by table, whose updates are to go out within `bytes`: the most important of those written in this clock.
/// Tables whose updates are averaged stay until the clock ends: a lane would lose sight of most of what it wrote.
pub(super) fn most_important(params: &Params, formats: &[Format], bytes: f64) -> Vec<Vec<usize>> {
    let mut rows: Vec<(f32, usize, usize)> = Vec::new();
    for (table, replica) in params.replicas.iter().enumerate() {
        let is_shared = replica.tracked && replica.spec.axis != Axis::Example;
        if is_shared && replica.spec.merge == Merge::Sum {
            with_type!(replica.spec.element, T => {
                isa::run(Importance::<T> { replica, table, rows: &mut rows, element: std::marker::PhantomData });
            });
        }
    }
    rows.sort_unstable_by(|(left, ..), (right, ..)| right.total_cmp(left));
    let mut chosen = vec![Vec::new(); params.replicas.len()];
    let mut left = bytes;
    for (_, table, row) in rows {
        let spec = &params.replicas[table].spec;
        let number = match (spec.element, formats[table]) {
            (Type::F32, Format::Bf16 | Format::F16) => 2,
            (element, _) => element.bytes(),
        };
        left -= (spec.stride() * number) as f64;
        if left < 0.0 {
            break;
        }
        chosen[table].push(row);
    }
    chosen
}

/// Marks only `chosen` rows as written, so that only they are taken; gives the marks of all others.
pub(super) fn set_aside(params: &mut Params, chosen: &[Vec<usize>]) -> Vec<Vec<u8>> {
    let tables = params.replicas.iter_mut().zip(chosen);
    let marks = tables.map(|(replica, chosen)| {
        let mut only = vec![0; replica.touched.len()];
        chosen.iter().for_each(|row| only[*row] = 1);
        let mut others = std::mem::replace(&mut replica.touched, only);
        chosen.iter().for_each(|row| others[*row] = 0);
        others
    });
    marks.collect()
}

/// Appends the rows of a table that were written, with their importance.
struct Importance<'a, T> {
    replica: &'a Replica,
    table: usize,
    rows: &'a mut Vec<(f32, usize, usize)>,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> Kernel for Importance<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        let Replica { spec, values, base, touched, .. } = self.replica;
        let (Some(values), Some(base)) = (T::slot(values), T::slot(base)) else { return };
        let (values, base, stride) = (values.as_slice(), base.as_slice(), spec.stride());
        for row in touched.iter().enumerate().filter(|(_, touched)| **touched == 1).map(|(row, _)| row) {
            let place = row * stride..(row + 1) * stride;
            let numbers = values[place.clone()].iter().zip(&base[place]);
            let sum: f32 = numbers.fold(0.0, |sum, (value, base)| {
                let (update, base) = (value.minus(*base).to_f64() as f32, base.to_f64() as f32);
                sum + if base == 0.0 { update } else { update / base }.abs()
            });
            if sum != 0.0 {
                self.rows.push((sum / spec.width.max(1) as f32, self.table, row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableSpec;

    fn tables() -> Params {
        let specs = [
            TableSpec::new("a", 6, 8),
            TableSpec::new("means", 6, 8).merge(Merge::Mean),
            TableSpec::new("b", 4, 2).element(Type::F64),
        ];
        let replicas = specs.into_iter().map(|spec| Replica::new(spec, true)).collect();
        Params { replicas, lanes: 2 }
    }

    #[test]
    fn the_most_important_rows_that_fit_are_chosen() {
        let mut params = tables();
        for row in 0..6 {
            params.table_mut::<f32>(0).row_mut(row).fill(10.0);
        }
        params.settle();
        for row in [1, 2, 4, 5] {
            params.table_mut::<f32>(0).row_mut(row)[0] += row as f32; // 1, 2, 4, 5 tenths over 8 numbers
        }
        params.table_mut::<f32>(0).row_mut(5)[0] -= 5.0; // back to what it was
        params.table_mut::<f32>(1).row_mut(0).fill(1e9); // averaged: waits
        params.table_mut::<f64>(2).row_mut(3)[0] = 0.3; // a start of 0: the update itself, over 2 numbers
        let formats = |format| [format, Format::F32, Format::F32];
        let chosen = |bytes, format| most_important(&params, &formats(format), bytes);
        let none: Vec<usize> = Vec::new();
        assert_eq!(chosen(15.0, Format::F32), [vec![], vec![], none.clone()]);
        assert_eq!(chosen(16.0, Format::F32), [vec![], vec![], vec![3]]);
        assert_eq!(chosen(16.0 + 32.0, Format::F32), [vec![4], vec![], vec![3]]);
        assert_eq!(chosen(16.0 + 32.0, Format::F16), [vec![4, 2], vec![], vec![3]]);
        assert_eq!(chosen(1e9, Format::F32), [vec![4, 2, 1], vec![], vec![3]]);
    }

    #[test]
    fn rows_that_are_set_aside_are_marked_again() {
        let mut params = tables();
        for row in [0, 2, 5] {
            params.table_mut::<f32>(0).row_mut(row)[0] = 1.0;
        }
        let others = set_aside(&mut params, &[vec![2], vec![], vec![]]);
        assert_eq!(params.replicas[0].touched, [0, 0, 1, 0, 0, 0]);
        assert_eq!(others, [vec![1, 0, 0, 0, 0, 1], vec![0; 6], vec![0; 4]]);
    }
}
