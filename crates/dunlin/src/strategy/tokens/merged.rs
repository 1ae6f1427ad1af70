//! Tables that are merged once a lap, where lanes may be in two laps at a time.
//!
//! A lane has a view for each lap that it is in, so that no update is counted to the wrong one. The view of lap k
//! starts from the tables as merged when the lane begins the lap (through lap k − 2 at least) and, if lap k − 1 is not
//! among them yet, the lane's own updates of it so far. Lap k's updates are the view's difference from this start, and
//! once all lanes have ended the lap they are added along the lane tree.

use crate::codec::{Part, add_neighbours};
use crate::table::{Axis, Element, Params, Replica, Storage};
use crate::update::{Afterwards, Geometry, with_type};
use dunlin_comm::collective::Node;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a lane has of a merged table during a lap.
#[derive(Clone, Debug)]
struct Values {
    values: Storage,
    base: Storage,
    touched: Vec<u8>,
}

/// What a lane has of all merged tables during a lap.
#[derive(Clone, Debug)]
struct View {
    tables: Vec<Values>,
    /// Laps that were merged when it began.
    merged: u64,
}

/// The merged tables on one worker.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) tables: Vec<usize>,
    /// Laps that have been merged.
    pub(super) laps: u64,
    lanes: usize,
    hosted: Range<usize>,
    /// By lane and lap, until the lap is merged.
    views: BTreeMap<(usize, u64), View>,
    /// Updates of hosted lanes, by lap.
    updates: BTreeMap<u64, Vec<(Node, Part)>>,
    /// Those of all lanes, as they arrive: lap, lanes, update.
    pub(super) arrived: Vec<(u64, Node, Part)>,
    /// For a replay: the tables as they were after so many laps.
    history: Option<BTreeMap<u64, Vec<Storage>>>,
}

impl Merged {
    /// Those of `params`, of a run that has done `laps` laps; `replays` if views may be asked for as they were.
    pub(super) fn new(
        params: &Params,
        lanes: usize,
        hosted: Range<usize>,
        laps: u64,
        replays: bool,
    ) -> Merged {
        let is_whole = |table: &usize| params.replicas[*table].spec.axis == Axis::Whole;
        let mut merged = Merged {
            tables: (0..params.replicas.len()).filter(is_whole).collect(),
            laps,
            lanes,
            hosted,
            views: BTreeMap::new(),
            updates: BTreeMap::new(),
            arrived: Vec::new(),
            history: replays.then(BTreeMap::new),
        };
        merged.remember(params);
        merged
    }

    fn remember(&mut self, params: &Params) {
        let Some(history) = &mut self.history else { return };
        let tables = self.tables.iter().map(|table| params.replicas[*table].values.clone());
        history.insert(self.laps, tables.collect());
        history.retain(|laps, _| laps + 2 >= self.laps);
    }

    /// True if a lane may be in `lap`, as far as these tables go.
    pub(super) fn allows(&self, lap: u64) -> bool {
        self.tables.is_empty() || self.laps + 1 >= lap
    }

    /// Has a view for `lane` in `lap`, if need be a new one, of the tables after `wanted` laps or as they are now;
    /// gives the laps that were merged when it began.
    pub(super) fn open(&mut self, params: &Params, lane: usize, lap: u64, wanted: Option<u64>) -> u64 {
        if self.tables.is_empty() {
            return 0;
        }
        if let Some(view) = self.views.get(&(lane, lap)) {
            return view.merged;
        }
        let merged = wanted.unwrap_or(self.laps);
        let then = self.history.as_ref().and_then(|history| history.get(&merged));
        let own = lap.checked_sub(1).filter(|before| merged <= *before);
        let own = own.and_then(|before| self.views.get(&(lane, before)));
        let start = |(place, table): (usize, &usize)| {
            let replica = &params.replicas[*table];
            let mut values = then.map_or(&replica.values, |then| &then[place]).clone();
            if let Some(own) = own {
                add_update(&mut values, &own.tables[place], replica);
            }
            Values { base: values.clone(), values, touched: vec![0; replica.spec.rows] }
        };
        let tables = self.tables.iter().enumerate().map(start).collect();
        self.views.insert((lane, lap), View { tables, merged });
        merged
    }

    /// Puts the view of `lane` in `lap` into the tables, or takes it out again.
    pub(super) fn swap(&mut self, params: &mut Params, lane: usize, lap: u64) {
        if let Some(view) = self.views.get_mut(&(lane, lap)) {
            swap(view, &self.tables, params);
        }
    }

    /// `lane` has ended `lap`. Once all hosted lanes have: their updates, which are for all workers.
    pub(super) fn end_lap(
        &mut self,
        params: &mut Params,
        geometry: &[Geometry],
        lane: usize,
        lap: u64,
    ) -> Vec<(Node, Part)> {
        if self.tables.is_empty() {
            return Vec::new();
        }
        // The view stays as it is: the next lap's may start from it.
        let mut view = self.views.get(&(lane, lap)).cloned();
        view.iter_mut().for_each(|view| swap(view, &self.tables, params));
        let part = params.take_updates(geometry, 1, Afterwards::Restore, &mut Vec::new()).pop();
        view.iter_mut().for_each(|view| swap(view, &self.tables, params));
        let updates = self.updates.entry(lap).or_default();
        updates.push((Node::leaf(lane), part.unwrap_or_default()));
        if updates.len() < self.hosted.len() {
            return Vec::new();
        }
        let mut updates = self.updates.remove(&lap).unwrap_or_default();
        updates.sort_by_key(|(node, _)| node.start);
        let parts = add_neighbours(updates, self.lanes, geometry, &mut Vec::new());
        self.arrived.extend(parts.iter().map(|(lanes, part)| (lap, *lanes, part.clone())));
        parts
    }

    /// Adds the updates of every lap of which those of all lanes are there, in order.
    pub(super) fn merge(&mut self, params: &mut Params, geometry: &[Geometry]) {
        while !self.tables.is_empty() {
            let lap = self.laps;
            let now = self.arrived.iter().filter(|(other, ..)| *other == lap);
            let lanes: usize = now.map(|(_, lanes, _)| (lanes.end - lanes.start) as usize).sum();
            if lanes < self.lanes {
                return;
            }
            let now = self.arrived.extract_if(.., |(other, ..)| *other == lap);
            let mut parts: Vec<(Node, Part)> = now.map(|(_, lanes, part)| (lanes, part)).collect();
            parts.sort_by_key(|(node, _)| node.start);
            params.add(&parts, geometry);
            self.laps += 1;
            // A replay may have merged a lap before a view begins that did not have it yet.
            let kept = if self.history.is_some() { 2 } else { 0 };
            self.views.retain(|(_, lap), _| *lap + kept >= self.laps);
            self.remember(params);
        }
    }
}

fn swap(view: &mut View, tables: &[usize], params: &mut Params) {
    for (view, table) in view.tables.iter_mut().zip(tables) {
        let replica = &mut params.replicas[*table];
        std::mem::swap(&mut replica.values, &mut view.values);
        std::mem::swap(&mut replica.base, &mut view.base);
        std::mem::swap(&mut replica.touched, &mut view.touched);
    }
}

/// Adds what was written to `view` since it began.
fn add_update(values: &mut Storage, view: &Values, replica: &Replica) {
    let stride = replica.spec.stride();
    with_type!(replica.spec.element, T => {
        let slots = (T::slot_mut(values), T::slot(&view.values), T::slot(&view.base));
        let (Some(values), Some(now), Some(then)) = slots else { return };
        let (values, now, then) = (values.as_mut_slice(), now.as_slice(), then.as_slice());
        let rows = view.touched.iter().enumerate().filter(|(_, touched)| **touched == 1);
        for at in rows.flat_map(|(row, _)| row * stride..(row + 1) * stride) {
            values[at] = Element::plus(values[at], Element::minus(now[at], then[at]));
        }
    });
}
