//! Lanes move from slow workers to fast ones, and nothing of what is learned changes by it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, TinyMf, Trained, clusters, on_disk, ratings, run, train_on};
use dunlin::comm::cluster::{Job, run_sim};
use dunlin::comm::link::sim::Network;
use dunlin::comm::{Cluster, Comm, Error, Fault, SimConfig, Time, child, job};
use dunlin::event::Event;
use dunlin::run::{CheckpointPolicy, Run, Slow, Stop};
use dunlin::train::{Observer, train};
use std::path::{Path, PathBuf};

#[test]
fn entry_of_child_processes() {
    child(&[job::<TestJob>()]);
}

/// Four workers with six lanes each, of which the third is slow for good.
fn slow(strategy: &str, epochs: usize) -> Run {
    let slow = vec![Slow::Rank { rank: 2, factor: 2.0 }];
    Run { slow, compute_ns: 1e6, ..run("tiny-mf", strategy, 4, 24, epochs) }
}

fn train_sim(run: &Run, seed: u64) -> Trained {
    train_on(&Cluster::Sim(SimConfig::new(run.workers, seed)), run).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("dunlin-rehost-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The metrics that do not depend on the order of visits.
fn ledger(trained: &Trained) -> Vec<&(String, f64)> {
    trained.metrics.iter().filter(|(name, _)| name != "train_objective").collect()
}

#[test]
fn a_slow_worker_loses_lanes_and_no_bit_changes() {
    let moving = slow("rotation", 8);
    let moved = train_sim(&moving, 3);
    let stayed = train_sim(&Run { rehost: false, ..moving.clone() }, 3);
    let [cuts] = &moved.rehosted[..] else { panic!("once, not {:?}", moved.rehosted) };
    assert!(cuts[3] - cuts[2] <= 4, "{cuts:?}");
    assert_eq!(stayed.rehosted, Vec::<Vec<usize>>::new());
    assert_eq!((moved.hash, &moved.losses), (stayed.hash, &stayed.losses));
    assert!(moved.seconds < 0.9 * stayed.seconds, "virtual: {} and {}", moved.seconds, stayed.seconds);
    let even = Run { slow: Vec::new(), ..moving };
    assert_eq!(train_sim(&even, 3).rehosted, Vec::<Vec<usize>>::new());
}

#[test]
fn lanes_move_between_threads_and_between_processes() {
    let stayed = train_sim(&Run { rehost: false, ..slow("rotation", 8) }, 3);
    let worked = Slow::Rank { rank: 2, factor: 200.0 };
    let real = Run { slow: vec![worked], compute_ns: 1.0, ..slow("rotation", 8) };
    for (name, cluster) in clusters(4).into_iter().filter(|(name, _)| *name != "sim") {
        let moved = train_on(&cluster, &real).unwrap();
        assert_eq!((moved.hash, &moved.losses), (stayed.hash, &stayed.losses), "{name}");
        assert!(!moved.rehosted.is_empty(), "{name}");
    }
}

/// A limit that is no hindrance: the data are on disk.
const ROOM: Option<u64> = Some(10_000_000_000);

#[test]
fn with_a_limit_of_memory_lanes_move_from_disk_to_disk() {
    for model in ["tiny-mf", "tiny-spread"] {
        for strategy in ["rotation", "rotation:async"] {
            let here = Run { model: model.into(), ..slow(strategy, 8) };
            let stayed = train_sim(&Run { rehost: false, ..here.clone() }, 3);
            for seed in 0..4 {
                let moved = train_sim(&Run { memory: ROOM, ..here.clone() }, seed);
                let place = format!("{model}, {strategy}, seed {seed}");
                let [cuts] = &moved.rehosted[..] else { panic!("{place}: {:?}", moved.rehosted) };
                assert!(cuts[3] - cuts[2] <= 4, "{place}: {cuts:?}");
                match strategy {
                    "rotation" => assert_eq!(moved.losses, stayed.losses, "{place}"),
                    _ => assert_eq!(ledger(&moved), ledger(&stayed), "{place}"),
                }
                // A model that is nowhere whole is written to a file, and there is none.
                assert!(
                    moved.hash == stayed.hash || model == "tiny-spread" || strategy != "rotation",
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn with_a_limit_of_memory_lanes_move_between_threads_and_between_processes() {
    let stayed = train_sim(&Run { rehost: false, ..slow("rotation", 8) }, 3);
    let worked = Slow::Rank { rank: 1, factor: 200.0 };
    let real = Run { slow: vec![worked], compute_ns: 1.0, memory: ROOM, ..slow("rotation", 8) };
    for (name, cluster) in clusters(4).into_iter().filter(|(name, _)| *name != "sim") {
        let moved = train_on(&cluster, &real).unwrap();
        assert_eq!((moved.hash, &moved.losses), (stayed.hash, &stayed.losses), "{name}");
        assert!(!moved.rehosted.is_empty(), "{name}");
    }
}

#[test]
fn without_room_lanes_stay_and_that_is_told_once() {
    let stayed = train_sim(&Run { rehost: false, ..slow("rotation", 12) }, 3);
    let tight = train_sim(&Run { memory: Some(1_000_000), ..slow("rotation", 12) }, 3);
    assert_eq!((tight.hash, &tight.losses, tight.rehosted.len()), (stayed.hash, &stayed.losses, 0));
    let [warning] = &tight.warnings[..] else { panic!("once, not {:?}", tight.warnings) };
    let said =
        "worker 2 is 2.0 x slower, but within --memory 1.0 MB no other has room for enough of its lanes";
    assert!(warning.contains(said), "{warning}");
}

/// Takes away the folder for files once an epoch is done.
struct TakesAway<'a>(&'a Path);

impl Observer for TakesAway<'_> {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Evaluated { epochs: 1, .. }) {
            std::fs::remove_dir(self.0).unwrap(); // files in it have lost their names already
        }
    }
}

#[test]
fn a_lane_that_cannot_be_written_ends_the_run_with_the_place() {
    let folder = scratch("gone");
    let run = Run { memory: ROOM, ..slow("rotation", 8) };
    let body = |comm: &mut Comm| {
        let source = on_disk(ratings(), Some(&folder))?;
        Ok(train::<TinyMf>(&run, &source, comm, &mut TakesAway(&folder)).map(drop)?)
    };
    let error = run_sim(&SimConfig::new(4, 3), body).0.unwrap_err().to_string();
    let place = format!("cannot make the scratch file {}", folder.join(".dunlin-blocks").display());
    assert!(error.contains(&place), "{error}");
}

#[test]
fn an_order_in_which_lanes_moved_is_replayed_to_the_same_bits() {
    let folder = scratch("order");
    for seed in 0..6 {
        let order = folder.join(format!("{seed}.order"));
        let base = Run { seed, ..slow("rotation:async", 8) };
        let moved = train_sim(&Run { log_order: Some(order.clone()), ..base.clone() }, seed);
        assert!(!moved.rehosted.is_empty(), "seed {seed}");
        let replay = Run { workers: 1, replay: Some(order), slow: Vec::new(), ..base.clone() };
        let again = train_on(&Cluster::Threads(1), &replay).unwrap();
        assert_eq!((again.hash, &again.losses), (moved.hash, &moved.losses), "seed {seed}");
        let stayed = train_sim(&Run { rehost: false, ..base }, seed);
        assert_eq!(ledger(&moved), ledger(&stayed), "seed {seed}: lost or doubled");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_run_goes_on_from_a_checkpoint_after_lanes_moved() {
    let folder = scratch("resume");
    let through = train_sim(&Run { rehost: false, ..slow("rotation", 9) }, 3);
    for workers in [1, 3, 4] {
        let out = Some(folder.join(workers.to_string()));
        let checkpoint = CheckpointPolicy { epochs: 1, seconds: None };
        let first = train_sim(&Run { out: out.clone(), checkpoint, ..slow("rotation", 5) }, 3);
        assert!(!first.rehosted.is_empty());
        let stop = Stop { epochs: 9, ..Stop::default() };
        let slow = slow("rotation", 9);
        let second = Run { workers, out, resume: true, stop, slow: Vec::new(), ..slow };
        assert_eq!(train_sim(&second, 3).hash, through.hash, "{workers} workers");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whatever befalls ranks and connections while lanes move: the same bits, or an end that names the rank.
#[test]
fn faults_lose_no_lane_or_end_the_run_by_name() {
    under_faults(&slow("rotation", 6), 150);
}

#[test]
fn faults_lose_no_lane_on_disk_or_end_the_run_by_name() {
    under_faults(&Run { memory: ROOM, ..slow("rotation", 6) }, 60);
}

fn under_faults(base: &Run, seeds: u64) {
    // On a slow network a move takes as long as some laps.
    let network = Network { bandwidth_bits_per_second: 2e5, ..Network::default() };
    let config = SimConfig { network, ..SimConfig::new(4, 3) };
    let wanted = train_on(&Cluster::Sim(config), base).unwrap();
    assert!(!wanted.rehosted.is_empty());
    let (mut ended_well, mut lost, mut moving) = (0, 0, 0);
    for seed in 0..seeds {
        // Most of them fall into the epochs around the move.
        let faults = Fault::random(seed, 4, Time::from_seconds(0.6 * wanted.seconds));
        let config = SimConfig { faults: faults.clone(), network, ..SimConfig::new(4, 3) };
        let job = TestJob::new(base);
        let (outcome, report) = run_sim(&config, |comm: &mut Comm| job.body(comm));
        let place = format!("seed {seed}, {faults:?}");
        match outcome {
            Ok(outs) => {
                ended_well += 1;
                assert_eq!((outs[0].hash, &outs[0].losses), (wanted.hash, &wanted.losses), "{place}");
            }
            Err(Error::Lost(loss)) => {
                lost += 1;
                moving += usize::from(loss.to_string().contains("which was to"));
                let losers: Vec<usize> = report.fired.iter().filter_map(Fault::loses).collect();
                assert!(losers.contains(&loss.rank), "{place}: {loss}");
            }
            Err(other) => panic!("{place}: {other}"),
        }
    }
    let ends = format!("{ended_well} and {lost} ends, {moving} in a move");
    assert!(ended_well > seeds / 5 && lost > seeds / 8 && moving > 1, "{ends}");
}
