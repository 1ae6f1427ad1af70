//! What machines cost, interval by interval.
//!
//! A [`PriceSeries`] says what a machine costs in each zone over time; a [`Market`] joins it with a trace: a [`Bill`] for every
//! interval says what so many of the machines that are there cost.

mod series;

use crate::profile::Dollars;
use crate::replay::Supply;
use crate::trace::{Availability, ByZone};
use crate::{Error, Interval, Result};
pub use series::PriceSeries;

/// What the machines of an interval cost, the cheapest first.
///
/// # Examples
/// ```
/// use dunlin_spot::market::Bill;
/// let bill = Bill::new(vec![(4, 3.0), (8, 1.0)]);
/// assert_eq!(bill.dollars_per_hour(10), 8.0 + 2.0 * 3.0);
/// assert_eq!(bill.of_all(), 20.0);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bill {
    /// (machines, dollars an hour for each), cheapest first.
    groups: Vec<(u32, f64)>,
    /// Dollars an hour for machines that boot: paid, whatever is used.
    booting: f64,
}

impl Bill {
    /// Of groups of (machines, dollars an hour for each), in any order.
    pub fn new(mut groups: Vec<(u32, f64)>) -> Bill {
        groups.retain(|group| group.0 > 0);
        groups.sort_by(|a, b| a.1.total_cmp(&b.1));
        Bill { groups, booting: 0.0 }
    }

    /// Dollars an hour if `machines` are rented: the cheapest. More than there are cost as much as the dearest.
    pub fn dollars_per_hour(&self, machines: u32) -> f64 {
        let mut left = machines;
        let mut sum = self.booting;
        for &(count, dollars) in &self.groups {
            let taken = left.min(count);
            sum += f64::from(taken) * dollars;
            left -= taken;
        }
        sum + f64::from(left) * self.groups.last().map_or(0.0, |group| group.1)
    }

    /// Dollars an hour for all that are there.
    pub fn of_all(&self) -> f64 {
        self.groups.iter().map(|&(count, dollars)| f64::from(count) * dollars).sum()
    }

    /// Machines that the bill has prices for.
    pub fn machines(&self) -> u32 {
        self.groups.iter().map(|group| group.0).sum()
    }
}

/// The bills of a trace. An interval is billed by the machines at its end for its whole length, at prices averaged over it.
#[derive(Clone, Debug, PartialEq)]
pub struct Market {
    bills: Vec<Bill>,
    zones: usize,
}

impl Market {
    /// The bills of `trace` (as it was read, without `supply`), whose machines stand in `zones` if that is known, at the prices of `series`, or
    /// of `dollars` if there is none. Machines that stay have the price of `dollars`; those that boot are paid.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is not clear which price a machine has: several zones with prices and a trace that names none, a
    /// zone of the trace without a price; those of [`Supply::check`].
    pub fn new(
        series: Option<&PriceSeries>,
        trace: &Availability,
        zones: Option<&ByZone>,
        dollars: Dollars,
        supply: Supply,
    ) -> Result<Market> {
        let usable = supply.usable(trace)?;
        let priced = series.map(|series| matched(series, zones)).transpose()?;
        let seconds = trace.interval_ms as f64 / 1000.0;
        let bill = |(at, (interval, usable)): (usize, (&Interval, &Interval))| {
            let (from_s, to_s) = (at as f64 * seconds, (at + 1) as f64 * seconds);
            let there = interval.after();
            let mut groups = match &priced {
                None => vec![(there, dollars.spot)],
                Some(priced) => priced.groups(at, there, from_s, to_s),
            };
            let sum: f64 = groups.iter().map(|&(count, dollars)| f64::from(count) * dollars).sum();
            let booting = there.saturating_sub(usable.after().saturating_sub(supply.on_demand));
            let mean = if there > 0 { sum / f64::from(there) } else { 0.0 };
            groups.push((supply.on_demand, dollars.on_demand));
            Bill { booting: f64::from(booting) * mean, ..Bill::new(groups) }
        };
        let bills = trace.intervals.iter().zip(&usable.intervals).enumerate().map(bill).collect();
        Ok(Market { bills, zones: series.map_or(1, |series| series.zones().count()) })
    }

    /// The bill of every interval.
    pub fn bills(&self) -> &[Bill] {
        &self.bills
    }

    /// How many zones have prices.
    pub fn zones(&self) -> usize {
        self.zones
    }
}

/// A price series and where the machines stand: in one zone, or each in a known one.
struct Priced<'a> {
    series: &'a PriceSeries,
    only: Option<&'a str>,
    zones: Option<&'a ByZone>,
}

/// Finds out which zone's price every machine has.
fn matched<'a>(series: &'a PriceSeries, zones: Option<&'a ByZone>) -> Result<Priced<'a>> {
    let names: Vec<&str> = series.zones().collect();
    let zones = zones.filter(|zones| zones.names().next().is_some());
    let (only, zones) = match (names.as_slice(), zones) {
        ([""], _) => (Some(""), None),
        ([only], None) => (Some(*only), None),
        (_, None) => {
            return Err(Error::usage(format!(
                "there are prices of zones {}, but the trace does not say where its machines stand; prices of one zone, or \
                 event rows `ms,add,machine,zone`, are wanted",
                names.join(", ")
            )));
        }
        (_, Some(zones)) => (None, Some(zones)),
    };
    if let Some(zones) = zones {
        if zones.some_unnamed() {
            return Err(Error::usage(
                "some machines of the trace have a zone and some have none; all or none is wanted",
            ));
        }
        if let Some(zone) = zones.names().find(|zone| !names.contains(zone)) {
            let names = names.join(", ");
            return Err(Error::usage(format!(
                "zone {zone} of the trace has no price; there are prices of {names}"
            )));
        }
    }
    Ok(Priced { series, only, zones })
}

impl Priced<'_> {
    /// (machines, dollars an hour for each) of interval `at`, in which there are `there` machines.
    fn groups(&self, at: usize, there: u32, from_s: f64, to_s: f64) -> Vec<(u32, f64)> {
        let price = |zone: &str| self.series.mean(zone, from_s, to_s).unwrap_or(0.0);
        let Some(zones) = self.zones else {
            return vec![(there, price(self.only.unwrap_or("")))];
        };
        let mut groups: Vec<(u32, f64)> = zones.at(at).map(|(zone, count)| (count, price(zone))).collect();
        // A trace that was changed after it was read has other numbers: the zone of most machines takes the difference.
        let sum: u32 = groups.iter().map(|group| group.0).sum();
        let mut over = sum.saturating_sub(there);
        while let Some(most) = groups.iter_mut().max_by_key(|group| group.0).filter(|_| over > 0) {
            let less = over.min(most.0.max(1));
            (most.0, over) = (most.0.saturating_sub(less), over - less);
        }
        if let Some(most) = groups.iter_mut().max_by_key(|group| group.0) {
            most.0 += there.saturating_sub(sum);
        }
        groups
    }
}

#[cfg(test)]
mod tests;
