//! One interval of the programme along a path: the best ways to every layout.
//!
//! Ways are tried by what they have trained, most first. A change costs at least what its known part does
//! ([`Prices::least`]), so most ways cannot be the best to a layout whatever the rest of the price is, and the rest is not worked out. What is
//! found is what trying all of them would find.

use super::Way;
use super::prices::{Line, Prices};
use crate::Interval;
use crate::account::total_ms;
use crate::cost::Step;

/// A way so far, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Source {
    way: Way,
    from: usize,
    /// Of equal ways that of the layout with the lower number wins, and one that trains over one that moves.
    order: usize,
}

/// The ways to the layouts before an interval.
pub(super) struct Sources {
    interval: Interval,
    interval_s: f64,
    /// By samples, most first.
    ways: Vec<Source>,
    /// By layout: their places among `ways`.
    stays: Vec<[Option<usize>; 2]>,
    /// By layout: what is known of the prices from there.
    lines: Vec<Option<Line>>,
}

/// The best ways to a layout found so far: the one that trains at the end of the interval, and the one that still moves.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    trains: Option<Source>,
    moves: Option<Source>,
}

impl Sources {
    /// The ways that train and those that move, by layout.
    pub(super) fn new(
        interval: Interval,
        interval_s: f64,
        trains: &[Option<Way>],
        moves: &[Option<Way>],
    ) -> Sources {
        let mut ways = Vec::new();
        for (from, pair) in trains.iter().zip(moves).enumerate() {
            for (way, order) in [pair.0, pair.1].into_iter().zip([2 * from, 2 * from + 1]) {
                ways.extend(way.map(|way| Source { way, from, order }));
            }
        }
        ways.sort_by(|a, b| b.way.samples.total_cmp(&a.way.samples).then(a.order.cmp(&b.order)));
        let mut stays = vec![[None; 2]; trains.len()];
        ways.iter().enumerate().for_each(|(at, source)| stays[source.from][source.order % 2] = Some(at));
        Sources { interval, interval_s, ways, stays, lines: vec![None; trains.len()] }
    }

    /// The best ways to `to` that train at the end and that still move. The latter is left out if it has trained less than the
    /// former: whatever comes, it stays behind.
    pub(super) fn best(&mut self, prices: &mut Prices<'_>, to: usize) -> (Option<Way>, Option<Way>) {
        let mut found = Found::default();
        for at in self.stays[to].into_iter().flatten() {
            found.add(self.extend(prices, at, to));
        }
        let least_ms = prices.least_of_all(to);
        for at in 0..self.ways.len() {
            let Source { way, from, .. } = self.ways[at];
            if found.beats(way.samples, self.most(prices, way, to, least_ms)) {
                break;
            }
            let least_ms = prices.least(self.interval.removed, from, to);
            if from != to && !found.beats(way.samples, self.most(prices, way, to, least_ms)) {
                found.add(self.extend(prices, at, to));
            }
        }
        let ahead =
            |moves: &Source| found.trains.is_none_or(|trains| trains.way.samples <= moves.way.samples);
        (found.trains.map(|source| source.way), found.moves.filter(ahead).map(|source| source.way))
    }

    /// The samples of `way` after the interval if the change to `to` costs `cost_ms`; none if it still moves then.
    fn most(&self, prices: &Prices<'_>, way: Way, to: usize, cost_ms: f64) -> Option<f64> {
        let left = self.interval_s - cost_ms / 1000.0;
        (left >= 0.0).then(|| way.samples + prices.rate(to) * left)
    }

    /// Way `at` with this interval, in which it changes to `to`.
    fn extend(&mut self, prices: &mut Prices<'_>, at: usize, to: usize) -> Source {
        let Source { way, from, order } = self.ways[at];
        let Interval { before: machines, removed: lost, .. } = self.interval;
        let line = self.lines[from].get_or_insert_with(|| prices.take(machines, lost, from));
        let cost_ms = prices.price(line, to);
        let layouts = prices.layouts();
        let step = Step { machines, lost, from: layouts[from], to: layouts[to] };
        let total_s = total_ms(prices.costs(), way.owed_ms, step.to, cost_ms, step.change()) / 1000.0;
        let left = self.interval_s - total_s;
        let way = Way {
            samples: way.samples + prices.rate(to) * left.max(0.0),
            owed_ms: if left < 0.0 { -left * 1000.0 } else { 0.0 },
            first: if way.first == usize::MAX { to } else { way.first },
            stages_before: step.from.stages,
        };
        Source { way, from, order }
    }

    /// Gives the prices back.
    pub(super) fn close(self, prices: &mut Prices<'_>) {
        let Interval { before: machines, removed: lost, .. } = self.interval;
        for (from, line) in self.lines.into_iter().enumerate() {
            if let Some(line) = line {
                prices.put(machines, lost, from, line);
            }
        }
    }
}

impl Found {
    fn add(&mut self, new: Source) {
        let slot = if new.way.owed_ms > 0.0 { &mut self.moves } else { &mut self.trains };
        if slot.is_none_or(|old| new.is_better(&old)) {
            *slot = Some(new);
        }
    }

    /// True if a way with `samples` so far, and at most `most` after the interval, is worse than what was found. `most` is none if
    /// it can only still move then.
    fn beats(&self, samples: f64, most: Option<f64>) -> bool {
        match (self.trains, most) {
            (Some(trains), most) => most.unwrap_or(samples) < trains.way.samples,
            (None, None) => self.moves.is_some_and(|moves| samples < moves.way.samples),
            (None, Some(_)) => false,
        }
    }
}

impl Source {
    fn is_better(&self, other: &Source) -> bool {
        self.way.is_better(&other.way) || (!other.way.is_better(&self.way) && self.order < other.order)
    }
}
