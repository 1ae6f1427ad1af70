//! Where the machines of a trace stand.

use super::{Change, MOST_INTERVALS, Trace};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// How many machines there are in every zone at the end of every interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ByZone {
    /// Names; none for machines whose zone is not known.
    zones: Vec<Option<String>>,
    /// By interval, in the order of `zones`.
    counts: Vec<Vec<u32>>,
}

impl ByZone {
    /// The zones that are named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().flatten().map(String::as_str)
    }

    /// True if the zone of some machine is not known.
    pub fn some_unnamed(&self) -> bool {
        self.zones.contains(&None)
    }

    /// Named zones with their machines at the end of interval `at`; after the last interval as at its end.
    pub fn at(&self, at: usize) -> impl Iterator<Item = (&str, u32)> {
        let counts = self.counts.get(at).or(self.counts.last());
        let counts = counts.map_or(&[][..], Vec::as_slice);
        self.zones.iter().zip(counts).filter_map(|(zone, &count)| Some((zone.as_deref()?, count)))
    }
}

impl Trace {
    /// Machines of every zone at the end of every interval of `interval_ms`, as [`Trace::availability`] cuts them. A machine stands
    /// where the row said that added it.
    ///
    /// # Errors
    /// [`Error::Usage`] for an interval that would cut the trace into more than
    /// [`MOST_INTERVALS`], or of 0.
    pub fn by_zone(&self, interval_ms: u64) -> Result<ByZone> {
        let length = self.end_ms.div_ceil(interval_ms.max(1));
        let mut zones: Vec<Option<String>> = self
            .events
            .iter()
            .filter(|event| event.change == Change::Add)
            .map(|event| event.zone.clone())
            .collect();
        zones.sort_unstable();
        zones.dedup();
        if interval_ms == 0 || length.saturating_mul(zones.len() as u64) > MOST_INTERVALS {
            return Err(Error::usage(format!(
                "{length} intervals of {interval_ms} ms and {} zones; at most {MOST_INTERVALS} numbers: take a longer interval",
                zones.len()
            )));
        }
        let (mut now, mut stands) = (vec![0u32; zones.len()], BTreeMap::new());
        let mut counts = Vec::with_capacity(length as usize);
        for event in &self.events {
            let at = (event.ms / interval_ms) as usize;
            counts.resize(at.max(counts.len()), now.clone());
            if event.change == Change::Add {
                let zone = zones.binary_search(&event.zone).unwrap_or(0);
                now[zone] += 1;
                stands.insert(&event.machine, zone);
            } else if let Some(zone) = stands.remove(&event.machine) {
                now[zone] -= 1;
            }
        }
        counts.resize(length as usize, now);
        Ok(ByZone { zones, counts })
    }
}
