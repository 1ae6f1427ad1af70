//! One algorithm, unchanged, with six lanes gives the same bits on 1, 2 and 3 workers and on every cluster kind,
//! and the bits of the plain loop that says what lanes mean.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, TinyMf, Trained, clusters, hash, ratings, run, train_on};
use dunlin::comm::{child, job};
use dunlin::serial::Serial;

#[test]
fn entry_of_child_processes() {
    child(&[job::<TestJob>()]);
}

fn reference(lanes: usize, epochs: usize) -> (u64, Vec<f64>) {
    let mut serial = Serial::<TinyMf>::new(&Default::default(), ratings(), lanes, 2, 11).unwrap();
    let mut losses = Vec::new();
    for _ in 0..epochs {
        serial.epoch().unwrap();
        losses.push(serial.metrics(None)[0].1);
    }
    (hash(&serial.params), losses)
}

#[test]
fn six_lanes_give_the_same_bits_everywhere() {
    let (wanted, losses) = reference(6, 4);
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "the loss falls: {losses:?}");
    let mut first: Option<Trained> = None;
    for strategy in ["bsp", "allreduce"] {
        for workers in 1..=3 {
            for (name, cluster) in clusters(workers) {
                let trained = train_on(&cluster, &run("tiny-mf", strategy, workers, 6, 4)).unwrap();
                let place = format!("{strategy} on {workers} workers, {name}");
                assert_eq!(trained.hash, wanted, "{place}: tables differ from the plain loop's");
                let first = first.get_or_insert(trained.clone());
                assert_eq!(trained.losses, first.losses, "{place}: metrics differ");
                let loss = trained.metrics.iter().find(|(name, _)| name == "train_objective").unwrap().1;
                assert!((loss - losses[3]).abs() < 1e-9 * loss, "{place}: {loss} and {}", losses[3]);
            }
        }
    }
}

#[test]
fn one_lane_is_the_serial_algorithm_whatever_the_strategy() {
    let (wanted, _) = reference(1, 3);
    for strategy in ["bsp", "ssp:2", "essp", "asp", "allreduce"] {
        for (name, cluster) in clusters(1) {
            let trained = train_on(&cluster, &run("tiny-mf", strategy, 1, 1, 3)).unwrap();
            assert_eq!(trained.hash, wanted, "{strategy}, {name}");
        }
    }
}

#[test]
fn dedicated_servers_change_no_bit() {
    let (wanted, _) = reference(4, 3);
    for servers in 1..=2 {
        for (name, cluster) in clusters(2 + servers) {
            let run = dunlin::run::Run { servers, ..run("tiny-mf", "bsp", 2, 4, 3) };
            assert_eq!(train_on(&cluster, &run).unwrap().hash, wanted, "{servers} servers, {name}");
        }
    }
}
