//! How fast a server shard in another process answers: round trip of one row, and pushes of a million keys with
//! accumulation, confirmed. One JSON line a figure; medians.
//!
//! run: cargo run --release -p dunlin --example server_speed

use dunlin::codec::{Part, Writer};
use dunlin::comm::cluster::Job;
use dunlin::comm::collective::Node;
use dunlin::comm::{self, Cluster, Comm, Message, child, job};
use dunlin::rng::stream;
use dunlin::strategy::server::{FROM_SHARD, FromShard, Mode, Shard, Shards, ToShard};
use dunlin::table::{Params, Replica};
use dunlin::update::Geometry;
use dunlin::{Axis, TableSpec};
use serde::{Deserialize, Serialize};

/// Keys in a request.
const KEYS: usize = 1 << 20;

/// Table number: one row of 32 numbers; KEYS numbers, all pushed; 16 x KEYS numbers, a random one in 16 pushed.
const TABLES: [(&str, usize, usize); 3] = [("row", 1, 32), ("sorted", KEYS, 1), ("random", 16 * KEYS, 1)];

#[derive(Serialize, Deserialize)]
struct Speed;

fn tables() -> Params {
    let spec =
        |(name, rows, width): (&str, usize, usize)| TableSpec::new(name, rows, width).axis(Axis::Whole);
    Params { replicas: TABLES.map(|table| Replica::new(spec(table), false)).into(), lanes: 1 }
}

/// Keys of table `table`, ascending, each taken with probability `density`, and a number for each.
fn request(table: usize, density: f64) -> (Vec<u32>, Vec<f32>) {
    let mut rng = stream(1, "keys", &[table as u64]);
    let keys: Vec<u32> = (0..TABLES[table].1 as u32).filter(|_| rng.unit() < density).collect();
    let numbers = keys.iter().map(|_| 0.5 + rng.unit_f32()).collect();
    (keys, numbers)
}

/// The request as an update: all keys of a dense table as its chunks, single ones as places within them.
fn update(geometry: &[Geometry], table: usize, keys: &[u32], numbers: &[f32]) -> Part {
    let mut writer = Writer::new(geometry, comm::Buffer::new());
    let mut start = 0;
    let mut places = Vec::new();
    for chunk in 0..geometry[table].chunks {
        let elements = geometry[table].elements(chunk);
        let end = start + keys[start..].partition_point(|key| (*key as usize) < elements.end);
        let numbers = &numbers[start..end];
        if numbers.len() == elements.len() {
            writer.chunk(table, chunk, numbers);
        } else if !numbers.is_empty() {
            places.clear();
            places.extend(keys[start..end].iter().map(|key| (*key as usize - elements.start) as u16));
            writer.pairs(table, chunk, &places, numbers);
        }
        start = end;
    }
    writer.finish()
}

/// Asks for what is newer than anything: an empty answer once `clock` clocks are in.
fn confirm(comm: &mut Comm, clock: u64, version: u64) -> comm::Result<()> {
    let pull = ToShard::Pull { shard: 0, table: 0, wanted: clock, version };
    comm.call(1, Message::new(&pull, Default::default()))?;
    comm.recv(FROM_SHARD, Some(1), "the server's answer")?.head::<FromShard>().map(drop)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

impl Job for Speed {
    const NAME: &'static str = "speed";
    type Out = Vec<String>;

    fn body(&self, comm: &mut Comm) -> comm::Result<Vec<String>> {
        let params = tables();
        let geometry = params.geometry();
        if comm.rank() == 1 {
            let mode = Mode::Arrival { eager: false };
            comm.install(Box::new(Shards(vec![Shard::new(0, 1, 1, geometry, mode, Some(params))])));
            comm.barrier()?;
            comm.barrier()?; // answers until the worker is done
            return Ok(Vec::new());
        }
        comm.barrier()?;
        let (mut clock, mut lines) = (0, Vec::new());
        let trips: Vec<f64> = (0..5000)
            .map(|_| {
                let start = comm.now();
                confirm(comm, 0, 0).map(|()| comm.now().since(start).as_secs_f64() * 1e6)
            })
            .collect::<comm::Result<_>>()?;
        lines.push(format!("{{\"what\": \"round trip\", \"microseconds\": {:.2}}}", median(trips)));
        for (table, density) in [(1, 1.0), (2, 1.0 / 16.0)] {
            let (keys, numbers) = request(table, density);
            let mut times = Vec::new();
            for _ in 0..15 {
                let start = comm.now();
                let Part { entries, body } = update(&geometry, table, &keys, &numbers);
                let push = ToShard::Push { shard: 0, lanes: Node::leaf(0), clock, entries };
                comm.call(1, Message::shared(&push, body))?;
                clock += 1;
                confirm(comm, clock, u64::MAX)?;
                times.push(comm.now().since(start).as_secs_f64());
            }
            let (name, seconds) = (TABLES[table].0, median(times));
            let keys = keys.len();
            let rate = keys as f64 / seconds / 1e6;
            lines.push(format!("{{\"what\": \"push, {name} keys\", \"keys\": {keys}, \"million_keys_per_second\": {rate:.1}}}"));
        }
        comm.barrier()?;
        Ok(lines)
    }
}

#[expect(clippy::print_stdout, reason = "a program that prints its result")]
fn main() -> dunlin::Result<()> {
    child(&[job::<Speed>()]);
    let outs = Cluster::processes(2).run(&Speed)?;
    outs.iter().flatten().for_each(|line| println!("{line}"));
    Ok(())
}
