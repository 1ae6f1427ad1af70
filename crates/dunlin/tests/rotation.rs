//! `rotation` gives the bits of a plain loop over lanes and row blocks, on any number of workers and every cluster kind,
//! and visits every (data block, row block) pair exactly once a lap.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, Tiny, Trained, clusters, hash, ratings, run, train_on};
use dunlin::algorithm::{Algorithm, Sums, Unit};
use dunlin::comm::collective::{Folder, Node};
use dunlin::comm::{Cluster, child, job};
use dunlin::data::{Block, Contents, cut_columns};
use dunlin::rng::stream;
use dunlin::run::{CheckpointPolicy, Run, Stop};
use dunlin::serial::{block_order, share};
use dunlin::table::{Axis, Params, Replica, Storage};

#[test]
fn entry_of_child_processes() {
    child(&[job::<TestJob>()]);
}

/// The number of the table that is merged, `bias`.
const BIAS: usize = 3;

fn doubles(params: &Params) -> Vec<f64> {
    params.table::<f64>(BIAS).flat().to_vec()
}

fn set_doubles(params: &mut Params, values: &[f64]) {
    params.table_mut::<f64>(BIAS).flat_mut().copy_from_slice(values);
}

/// What rotation means, with everything in one place: at each sub-step one lane after the other.
fn reference(lanes: usize, epochs: usize) -> u64 {
    let seed = 11;
    let (algorithm, data) = (Tiny::<false>, ratings());
    let mut replicas: Vec<Replica> = algorithm.tables().into_iter().map(|t| Replica::new(t, false)).collect();
    for (table, replica) in replicas.iter_mut().enumerate() {
        replica.initialise(table, seed, 0..replica.spec.rows);
    }
    let mut params = Params { replicas, lanes };
    let row_blocks = 2 * lanes;
    let ranges = cut_columns(data.blocks.iter(), data.shape.columns, row_blocks);
    let cells: Vec<Vec<Block>> = data.blocks.into_iter().map(|block| block.cells(&ranges).unwrap()).collect();
    let mut locals: Vec<Option<u64>> = cells.iter().map(|_| None).collect();
    let mut views = vec![doubles(&params); lanes];
    for sub_step in 0..row_blocks * (1 + epochs) {
        for (lane, view) in views.iter_mut().enumerate() {
            let master = doubles(&params);
            set_doubles(&mut params, view);
            let row_block = (2 * lane + sub_step) % row_blocks;
            let owned = share(cells.len(), lanes, lane);
            let lap = sub_step / row_blocks;
            let (epoch, clock) = if lap == 0 { (0, 0) } else { (lap - 1, sub_step - row_blocks) };
            let order = match lap {
                0 => (0..owned.len()).collect(),
                _ => block_order(seed, lane, epoch, owned.len()),
            };
            for index in order.into_iter().map(|place| owned.start + place) {
                let unit = Unit {
                    block: &cells[index][row_block],
                    epoch,
                    clock,
                    lane,
                    lanes,
                    row_block,
                    visit: sub_step % row_blocks,
                    visits: row_blocks,
                    seed,
                };
                if lap == 0 {
                    let local = locals[index].take();
                    locals[index] = Some(algorithm.begin(&unit, &mut params, local).unwrap());
                } else {
                    let local = locals[index].as_mut().unwrap();
                    algorithm.step(&unit, &mut params, local, &mut Sums::default()).unwrap();
                }
            }
            *view = doubles(&params);
            set_doubles(&mut params, &master);
        }
        if (sub_step + 1) % row_blocks == 0 {
            let start = doubles(&params);
            let mut folder = Folder::new(lanes);
            for (lane, view) in views.iter().enumerate() {
                let update: Vec<f64> =
                    view.iter().zip(&start).map(|(view, start)| view - start + 0.0).collect();
                folder.push(Node::leaf(lane), update, |left: &mut Vec<f64>, right| {
                    left.iter_mut().zip(right).for_each(|(sum, update)| *sum += update);
                });
            }
            let sum = folder.into_parts().pop().unwrap().1;
            let merged: Vec<f64> = start.iter().zip(sum).map(|(start, sum)| start + sum).collect();
            set_doubles(&mut params, &merged);
            views.fill(merged);
        }
    }
    hash(&params)
}

#[test]
fn six_lanes_give_the_bits_of_the_plain_loop_everywhere() {
    let wanted = reference(6, 4);
    let mut first: Option<Trained> = None;
    for workers in 1..=3 {
        for (name, cluster) in clusters(workers) {
            let trained = train_on(&cluster, &run("tiny-mf", "rotation", workers, 6, 4)).unwrap();
            let place = format!("{workers} workers, {name}");
            assert_eq!(trained.hash, wanted, "{place}: tables differ from the plain loop's");
            let first = first.get_or_insert(trained.clone());
            assert_eq!(trained.losses, first.losses, "{place}: metrics differ");
            let losses: Vec<f64> =
                trained.losses.chunks(3).map(|metrics| f64::from_bits(metrics[2])).collect();
            assert!(losses.len() >= 4 && losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
            assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{place}: the loss falls: {losses:?}");
        }
    }
}

/// A table that is never whole in one place is learned as one that is. A lane has one block more than it has columns in
/// the last lines: with 41 row blocks and more there are empty ones.
#[test]
fn tables_that_are_nowhere_whole_are_learned_alike_and_resumed() {
    for lanes in [6, 24] {
        let whole = train_on(&Cluster::Threads(1), &run("tiny-mf", "rotation", 1, lanes, 4)).unwrap();
        for workers in 1..=3 {
            for (name, cluster) in clusters(workers) {
                let place = format!("{lanes} lanes, {workers} workers, {name}");
                let through = run("tiny-spread", "rotation", workers, lanes, 4);
                let trained = train_on(&cluster, &through).unwrap();
                assert_eq!(trained.hash, whole.hash, "{place}");
                if name == "processes" && lanes == 6 {
                    continue;
                }
                let out = std::env::temp_dir().join(format!("dunlin-spread-{}-{lanes}", std::process::id()));
                let checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
                let first = Run { out: Some(out.clone()), checkpoint, stop: stop(2), ..through };
                train_on(&cluster, &first).unwrap();
                let again = Run { resume: true, stop: stop(4), ..first };
                assert_eq!(train_on(&cluster, &again).unwrap().hash, whole.hash, "{place}, resumed");
                std::fs::remove_dir_all(out).unwrap();
            }
        }
    }
}

/// Of three workers each leaves more than half of the items alone.
#[test]
fn only_what_the_receiver_touches_travels_and_nothing_else_changes() {
    for model in ["tiny-wide", "tiny-wide-spread"] {
        let alone = train_on(&Cluster::Threads(1), &run(model, "rotation", 1, 6, 4)).unwrap();
        for strategy in ["rotation", "rotation:async"] {
            for (name, cluster) in clusters(3) {
                let trained = train_on(&cluster, &run(model, strategy, 3, 6, 4)).unwrap();
                let [before, after] = trained.update_bytes;
                let place = format!("{model}, {strategy}, {name}: {after} of {before} bytes");
                match name == "threads" {
                    true => assert_eq!(before, after, "{place}"),
                    false => assert!(after > 0 && 3 * after < 2 * before, "{place}"),
                }
                assert_eq!(trained.hash == alone.hash, strategy == "rotation", "{place}");
                let seen =
                    |trained: &Trained| trained.metrics.iter().find(|(name, _)| name == "seen").cloned();
                assert_eq!(seen(&trained), seen(&alone), "{place}: every rating is counted");
            }
        }
    }
}

fn stop(epochs: usize) -> Stop {
    Stop { epochs, ..Stop::default() }
}

/// Cells are a partition: every rating is in exactly one, that of its item.
#[test]
fn cells_hold_every_entry_once() {
    for seed in 0..50 {
        let mut rng = stream(seed, "cells-test", &[]);
        let data = ratings();
        let count = 1 + rng.below(60);
        let ranges = cut_columns(data.blocks.iter(), 40, count);
        assert_eq!(ranges.len(), count, "seed {seed}");
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "seed {seed}: {ranges:?}");
        assert_eq!((ranges[0].start, ranges[count - 1].end), (0, 40), "seed {seed}");
        for block in data.blocks {
            let (samples, mut seen) = (block.samples(), 0);
            for (cell, range) in block.cells(&ranges).unwrap().iter().zip(&ranges) {
                let Contents::Ratings(ratings) = &cell.contents else { panic!("ratings") };
                assert!(ratings.items.iter().all(|item| range.contains(&(*item as usize))), "seed {seed}");
                seen += ratings.ratings.len();
            }
            assert_eq!(seen, samples, "seed {seed}");
        }
    }
}

#[test]
fn the_merged_table_is_the_only_one_that_is() {
    let tables = Tiny::<false>.tables();
    let whole: Vec<usize> = (0..tables.len()).filter(|table| tables[*table].axis == Axis::Whole).collect();
    assert_eq!(whole, [BIAS]);
    assert!(matches!(Storage::zeroed(tables[BIAS].element, 1), Storage::F64(_)));
}
