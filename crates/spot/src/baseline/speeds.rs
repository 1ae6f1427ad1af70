//! The measured speeds that the modelled systems choose from.

use crate::{Error, Layout, Result};
use std::collections::BTreeMap;

/// Samples per second by layout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Speeds {
    of: BTreeMap<Layout, f64>,
    pub(super) global_batch: f64,
}

impl Speeds {
    /// # Errors
    /// No layout, an idle one, one given twice, a speed or batch that is no number above 0.
    pub(super) fn new(rows: &[(Layout, f64)], global_batch: f64) -> Result<Speeds> {
        if !(global_batch.is_finite() && global_batch > 0.0) {
            return Err(Error::data(format!("global batch {global_batch}; a number above 0 is wanted")));
        }
        if rows.is_empty() {
            return Err(Error::data("a profile without layouts; at least one is wanted"));
        }
        let mut of = BTreeMap::new();
        for (layout, speed) in rows {
            if layout.is_idle() || !(speed.is_finite() && *speed > 0.0) {
                return Err(Error::data(format!(
                    "profile: {speed} samples/s at {}x{}; D and P from 1 and a speed above 0 are wanted",
                    layout.pipelines, layout.stages
                )));
            }
            if of.insert(*layout, *speed).is_some() {
                return Err(Error::data(format!("profile: layout {layout} is given twice")));
            }
        }
        Ok(Speeds { of, global_batch })
    }

    /// The fastest layout of at most `machines` whose depth is allowed; of equals the one with fewer machines.
    pub(super) fn best(&self, machines: u32, allowed: impl Fn(u32) -> bool) -> Option<(Layout, f64)> {
        let fitting =
            self.of.iter().filter(|(layout, _)| layout.machines() <= machines && allowed(layout.stages));
        let fastest = fitting
            .max_by(|(a, x), (b, y)| x.total_cmp(y).then(b.machines().cmp(&a.machines())).then(b.cmp(a)));
        fastest.map(|(layout, speed)| (*layout, *speed))
    }

    /// Depths that occur, growing.
    pub(super) fn depths(&self) -> Vec<u32> {
        let mut depths: Vec<u32> = self.of.keys().map(|layout| layout.stages).collect();
        depths.sort_unstable();
        depths.dedup();
        depths
    }

    /// Speed of one of `pipelines` pipelines of this depth: that of the fleet / its pipelines; where so many were not
    /// measured, of the largest fleet of this depth that was.
    pub(super) fn share(&self, pipelines: u32, depth: u32) -> Option<f64> {
        let fleets =
            self.of.iter().filter(|(layout, _)| layout.stages == depth && layout.pipelines <= pipelines);
        let (layout, speed) = fleets.max_by_key(|(layout, _)| layout.pipelines)?;
        Some(speed / f64::from(layout.pipelines))
    }
}
