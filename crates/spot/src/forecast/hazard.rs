//! Our own: the distribution of what is lost and gained in every coming interval, learned as it comes.
//!
//! Losses and gains are two processes of the same kind ([`side`]): the chance that anything happens in an interval
//! depends on how long ago it last did, and how many machines it takes follows the sizes seen. Old counts fade; if events
//! come much more or much less often than the chances said, most is forgotten at once ([`watch`]).

mod side;
mod watch;

use super::score::{distributions, gain, lose, quantile};
use super::{Forecaster, Outlook, Settings};
use crate::Interval;
use side::Side;

/// A top that has held for so long that staying below it by luck is less likely than this is taken for the ceiling.
const LUCK: f64 = 0.05;
/// Chances below this are left out where the numbers of machines are followed.
const NEGLIGIBLE: f64 = 1e-9;

/// Predicts the distribution of losses and gains. An interval costs well under a microsecond to take in, an outlook of
/// 12 intervals some tens of microseconds.
#[derive(Clone, Debug)]
pub struct Hazard {
    losses: Side,
    gains: Side,
    now: u32,
    highest: u32,
    capacity: Option<u32>,
    /// Log of the chance that nothing was gained all the time at the top, had there been room.
    luck: f64,
    is_new: bool,
}

impl Hazard {
    /// One that has seen nothing.
    pub fn new(settings: &Settings) -> Hazard {
        Hazard {
            losses: Side::new(),
            gains: Side::new(),
            now: 0,
            highest: 0,
            capacity: settings.capacity,
            luck: 0.0,
            is_new: true,
        }
    }

    /// How often the trace was found to have changed character: losses, gains.
    pub fn changes(&self) -> (u32, u32) {
        (self.losses.changes(), self.gains.changes())
    }

    fn learn(&mut self, seen: Interval) {
        self.losses.observe(seen.removed.min(seen.before), seen.before > 0);
        let is_top = match self.capacity {
            Some(capacity) => seen.before >= capacity,
            None => seen.before >= self.highest,
        };
        if is_top && seen.added == 0 && seen.removed == 0 {
            self.luck += (1.0 - self.gains.chance()).ln();
        }
        // At the top nothing can come, or may be able to: that nothing did says nothing.
        self.gains.observe(seen.added, !is_top || seen.added > 0);
        if seen.before + seen.added > self.highest {
            self.luck = 0.0;
        }
    }
}

impl Forecaster for Hazard {
    fn name(&self) -> &'static str {
        "hazard"
    }

    fn ceiling(&self) -> Option<u32> {
        self.capacity.or_else(|| (self.luck < LUCK.ln()).then_some(self.highest))
    }

    fn observe(&mut self, seen: Interval) {
        // Machines that are there from the start on came when nobody looked.
        if !self.is_new || seen.before > 0 {
            self.learn(seen);
        }
        self.is_new = false;
        self.now = seen.after();
        self.highest = self.highest.max(self.now);
    }

    /// The medians.
    fn counts(&mut self, horizon: usize) -> Vec<u32> {
        if self.is_new {
            return vec![0; horizon];
        }
        let outlook = self.outlook(self.now, horizon);
        let chances = distributions(self.now, self.ceiling(), &outlook);
        chances.iter().map(|chances| quantile(chances, 0.5) as u32).collect()
    }

    /// What is lost and gained, averaged over the numbers of machines there may then be: of `lost` no more than there
    /// are, of `gained` no more than there was room for at the
    /// start of the interval.
    fn outlook(&mut self, now: u32, horizon: usize) -> Vec<Outlook> {
        let ceiling = self.ceiling().map(|ceiling| ceiling.max(now) as usize);
        let (losses, gains) = (self.losses.outlook(horizon), self.gains.outlook(horizon));
        let mut numbers = vec![0.0; now as usize];
        numbers.push(1.0);
        let coming = losses.zip(gains).map(|(lost, gained)| {
            // Who was there at the start of an interval leaves no room in it: nothing comes at once for what goes.
            let gained = match ceiling {
                Some(ceiling) => {
                    bounded(&gained, numbers.iter().enumerate().map(|(n, chance)| (ceiling - n, *chance)))
                }
                None => gained,
            };
            let left = lose(&numbers, &lost);
            let lost = bounded(&lost, numbers.iter().copied().enumerate());
            numbers = gain(&left, &gained, ceiling);
            numbers.iter_mut().filter(|chance| **chance < NEGLIGIBLE).for_each(|chance| *chance = 0.0);
            Outlook { lost, gained }
        });
        coming.collect()
    }
}

/// `chances` of 0, 1, 2, ... where no more than a bound can be, and each bound has a chance of its own: what is above
/// the bound falls on it.
fn bounded(chances: &[f64], bounds: impl Iterator<Item = (usize, f64)>) -> Vec<f64> {
    // at[k]: the chance that the bound is k; all that are no bound for these chances count as the largest.
    let most = chances.len() - 1;
    let mut at = vec![0.0; chances.len()];
    bounds.for_each(|(bound, chance)| at[bound.min(most)] += chance);
    let (mut reaches, mut tail) = (at.iter().sum::<f64>(), chances.iter().sum::<f64>());
    let whole = reaches.max(NEGLIGIBLE);
    let bounded = chances.iter().zip(at).map(|(chance, bound)| {
        reaches -= bound;
        let kept = chance * reaches.max(0.0) + tail * bound;
        tail -= chance;
        kept / whole
    });
    bounded.map(|chance| chance.max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_a_bound_falls_on_it() {
        let chances = [0.5, 0.3, 0.2];
        assert_eq!(bounded(&chances, [(0, 1.0)].into_iter()), [1.0, 0.0, 0.0]);
        assert_eq!(bounded(&chances, [(7, 1.0)].into_iter()), chances);
        let mixed = bounded(&chances, [(1, 0.5), (2, 0.5)].into_iter());
        for (found, wanted) in mixed.iter().zip([0.5, 0.4, 0.1]) {
            assert!((found - wanted).abs() < 1e-12, "{mixed:?}");
        }
    }
}
