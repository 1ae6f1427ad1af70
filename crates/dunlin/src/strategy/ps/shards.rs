//! Which ranks have shards, and what these start with.

use crate::strategy::StrategySpec;
use crate::strategy::server::{Mode, Shard, Shards};
use crate::table::{Axis, Params, Replica};
use dunlin_comm::Comm;

/// Bytes of tables that a shard owns at most, so that no message comes near the limit of a frame.
const SHARD_BYTES: usize = 128 << 20;

/// Workers that add up each other's updates themselves, if they share memory; more of them leave it to the shards.
const RELAY_WORKERS: usize = 4;

/// The rank of every shard, by shard number: `ranks` in turn, until none owns more than 128 MiB.
pub fn place_shards(params: &Params, ranks: std::ops::Range<usize>) -> Vec<usize> {
    let shared = params.replicas.iter().filter(|replica| replica.spec.axis != Axis::Example);
    let bytes: usize = shared.map(|table| table.spec.rows * table.spec.bytes_per_row()).sum();
    let rounds = bytes.div_ceil(SHARD_BYTES * ranks.len().max(1)).max(1);
    std::iter::repeat_n(ranks, rounds).flatten().collect()
}

/// Puts this rank's shards in place, if it is to have any. Dedicated server ranks call it too.
pub fn install_shards(
    spec: &StrategySpec,
    comm: &mut Comm,
    params: &Params,
    workers: usize,
    lanes: usize,
    shard_ranks: &[usize],
    clock: u64,
) {
    let relay = comm.shares_memory() && workers <= RELAY_WORKERS;
    let own = shard_ranks.iter().enumerate().filter(|(_, rank)| **rank == comm.rank());
    let shards = own.map(|(number, _)| {
        let (mode, holds_values) = match spec {
            StrategySpec::Bsp
            | StrategySpec::AllReduce
            | StrategySpec::Rotation
            | StrategySpec::RotationAsync
            | StrategySpec::Scheduled(_) => (Mode::LockStep { relay }, false),
            StrategySpec::Essp(_) => (Mode::Arrival { eager: true }, true),
            StrategySpec::Ssp(_) | StrategySpec::Asp => (Mode::Arrival { eager: false }, true),
        };
        let values = holds_values.then(|| values_of(params, number, shard_ranks.len()));
        let mut shard = Shard::new(number, workers, lanes, params.geometry(), mode, values);
        shard.start_at(clock);
        shard
    });
    let shards: Vec<Shard> = shards.collect();
    if !shards.is_empty() {
        comm.install(Box::new(Shards(shards)));
    }
}

/// A copy of the chunks that shard `number` owns; the other pages stay unmapped.
fn values_of(params: &Params, number: usize, shards: usize) -> Params {
    let geometry = params.geometry();
    let untracked = |replica: &Replica| match replica.spec.axis {
        Axis::Example => Replica::new(crate::TableSpec { rows: 0, ..replica.spec.clone() }, false),
        _ => Replica::new(replica.spec.clone(), false),
    };
    let mut values =
        Params { replicas: params.replicas.iter().map(untracked).collect(), lanes: params.lanes };
    let tables = (0..geometry.len()).filter(|table| params.replicas[*table].spec.axis != Axis::Example);
    let chunks = tables.flat_map(|table| (0..geometry[table].chunks).map(move |chunk| (table, chunk)));
    for (table, chunk) in
        chunks.filter(|(table, chunk)| crate::update::shard_of(*table, *chunk, shards) == number)
    {
        values.set(&params.read(std::iter::once((table, chunk)), &geometry), &geometry);
    }
    values
}
