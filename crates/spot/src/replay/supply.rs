//! What a trace of machines comes to for whoever rents them: some that stay, and time to boot.

use crate::profile::MAX_MACHINES;
use crate::trace::Availability;
use crate::{Error, Interval, Result};

/// What is rented besides, and how long machines take to be of use.
///
/// # Examples
/// ```
/// use dunlin_spot::{replay::Supply, trace::Availability};
/// let trace = Availability::from_counts(60_000, &[4, 6, 5, 5]);
/// let usable = Supply { on_demand: 2, boot_s: 90.0 }.usable(&trace).unwrap();
/// assert_eq!(usable.counts(), [6, 6, 5, 7]); // two stay; the two that come boot for two minutes, and one of four goes
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Supply {
    /// Machines that are never taken away, beside those of the trace and at their own price. Default: 0.
    pub on_demand: u32,
    /// Seconds from a machine's coming until it can be used. Machines that are there at the start have booted. Default: 0.
    pub boot_s: f64,
}

impl Supply {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`Error::Usage`] with what was given and what is allowed.
    pub fn check(&self) -> Result<()> {
        if self.on_demand > MAX_MACHINES {
            return Err(Error::usage(format!(
                "{} machines on demand; at most {MAX_MACHINES} are allowed",
                self.on_demand
            )));
        }
        if !(0.0..=86_400.0).contains(&self.boot_s) {
            return Err(Error::usage(format!(
                "{} seconds to boot; from 0 to a day, 86400, are allowed",
                self.boot_s
            )));
        }
        Ok(())
    }

    /// The machines that can be used.
    ///
    /// Those that stay are added to every interval. One that comes is of use ceil(boot / interval) intervals later; what the first
    /// interval brings has booted. Numbers do not say which machine is lost: it is one of those in use, and one that boots only
    /// if none is left.
    ///
    /// # Errors
    /// Those of [`Supply::check`].
    pub fn usable(&self, trace: &Availability) -> Result<Availability> {
        self.check()?;
        let delay = (self.boot_s * 1000.0 / trace.interval_ms.max(1) as f64).ceil() as usize;
        let mut coming: Vec<u32> = vec![0; trace.intervals.len() + delay]; // of use from that interval on
        let mut before = trace.intervals.first().map_or(0, |first| first.before);
        let each = trace.intervals.iter().enumerate().map(|(at, interval)| {
            let ready = if at == 0 { at } else { at + delay };
            coming[ready] += interval.added;
            let added = std::mem::take(&mut coming[at]);
            let removed = interval.removed.min(before + added);
            let mut others = interval.removed - removed;
            for booting in coming[at..].iter_mut().rev() {
                let lost = others.min(*booting);
                (*booting, others) = (*booting - lost, others - lost);
            }
            let usable = Interval { before, added, removed };
            before = usable.after();
            usable
        });
        let mut intervals: Vec<Interval> = each.collect();
        for (at, interval) in intervals.iter_mut().enumerate() {
            // They come with the first machines, where nobody was there before.
            let comes = at == 0 && interval.before == 0;
            *(if comes { &mut interval.added } else { &mut interval.before }) += self.on_demand;
        }
        Ok(Availability { interval_ms: trace.interval_ms, intervals })
    }
}
