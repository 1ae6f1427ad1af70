//! Values that arrive while a lane is in the middle of a clock: they go under what it has written so far.

use super::{Geometry, each_chunk};
use crate::codec::{Entry, Numbers, Part, Sink};
use crate::table::{Element, Params, Replica};

impl Params {
    /// As [`Params::add_part`], in the middle of a clock: what was written in it stays, on top.
    pub fn add_under(&mut self, part: &Part, keep: impl Fn(&Entry) -> bool, geometry: &[Geometry]) {
        each_chunk(part, keep, geometry, &mut Under { replicas: &mut self.replicas, geometry, adds: true });
    }

    /// As [`Params::set`], in the middle of a clock: what was written in it stays, on top.
    pub fn set_under(&mut self, part: &Part, geometry: &[Geometry]) {
        let mut under = Under { replicas: &mut self.replicas, geometry, adds: false };
        each_chunk(part, |_| true, geometry, &mut under);
    }
}

/// Changes the base of tables, and the values with it.
struct Under<'a> {
    replicas: &'a mut [Replica],
    geometry: &'a [Geometry],
    /// Adds to the base; else sets it.
    adds: bool,
}

impl Sink for Under<'_> {
    #[inline(always)]
    fn take<T: Element>(&mut self, table: usize, chunk: usize, numbers: Numbers<'_, T>) {
        let range = self.geometry[table].elements(chunk);
        let Replica { values, base, .. } = &mut self.replicas[table];
        let (Some(values), Some(base)) = (T::slot_mut(values), T::slot_mut(base)) else { return };
        let (Some(values), Some(base)) =
            (values.as_mut_slice().get_mut(range.clone()), base.as_mut_slice().get_mut(range))
        else {
            return; // untracked: nobody writes to it
        };
        if self.adds {
            numbers.add_to(base);
            return numbers.add_to(values);
        }
        values.iter_mut().zip(&*base).for_each(|(value, base)| *value = value.minus(*base));
        numbers.copy_to(base);
        values.iter_mut().zip(&*base).for_each(|(value, base)| *value = base.plus(*value));
    }
}
