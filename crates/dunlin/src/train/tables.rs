//! The tables of a rank as they start.

use crate::algorithm::Algorithm;
use crate::run::Run;
use crate::strategy::rotation;
use crate::table::{Axis, Init, Params, Replica, Storage};
use std::ops::Range;

/// True if the tables that go round are never whole in one place.
pub(super) fn is_spread<A: Algorithm>(run: &Run) -> bool {
    run.rotates() && A::MEASURES_BY_LAP
}

/// All tables, started; of those on the example axis only `rows`, and nothing of those that are spread.
pub(super) fn make_tables<A: Algorithm>(algorithm: &A, run: &Run, rows: Range<usize>) -> Params {
    let replicas = algorithm.tables().into_iter().enumerate().map(|(table, spec)| {
        let example = spec.axis == Axis::Example;
        let goes_round = run.strategy.rotates() && rotation::rotates(spec.axis);
        let mut replica = Replica::new(spec, run.lanes > 1 && !example && !goes_round);
        if goes_round && is_spread::<A>(run) {
            replica.values = Storage::zeroed(replica.spec.element, 0);
            return replica;
        }
        let rows = if example { rows.clone() } else { 0..replica.spec.rows };
        if replica.tracked {
            replica.map();
        }
        replica.initialise(table, run.seed, rows);
        if replica.spec.init != Init::Zero {
            replica.rebase();
        }
        replica
    });
    Params { replicas: replicas.collect(), lanes: run.lanes }
}
