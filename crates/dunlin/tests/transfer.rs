//! Updates of 16 bits: half the bytes, the same bits wherever lanes are hosted and after a resume, and as good a model.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{TestJob, Trained, clusters, run, train_on};
use dunlin::comm::{child, job};
use dunlin::run::{CheckpointPolicy, Run, Stop};

#[test]
fn entry_of_child_processes() {
    child(&[job::<TestJob>()]);
}

fn rounded(transfer: &str, strategy: &str, workers: usize, lanes: usize, epochs: usize) -> Run {
    Run { transfer: transfer.parse().unwrap(), ..run("tiny-mf", strategy, workers, lanes, epochs) }
}

fn objective(trained: &Trained) -> f64 {
    trained.metrics.iter().find(|(name, _)| name == "train_objective").unwrap().1
}

#[test]
fn six_lanes_give_the_same_bits_everywhere() {
    let exact = train_on(&clusters(1)[0].1, &run("tiny-mf", "bsp", 1, 6, 4)).unwrap();
    for transfer in ["bf16", "f16"] {
        let mut first: Option<Trained> = None;
        for workers in 1..=3 {
            for (name, cluster) in clusters(workers) {
                let trained = train_on(&cluster, &rounded(transfer, "bsp", workers, 6, 4)).unwrap();
                let first = first.get_or_insert(trained.clone());
                let place = format!("{transfer} on {workers} workers, {name}");
                assert_eq!((trained.hash, &trained.losses), (first.hash, &first.losses), "{place}");
            }
        }
        let first = first.unwrap();
        assert_ne!(first.hash, exact.hash, "{transfer}: something was rounded");
        let (loss, wanted) = (objective(&first), objective(&exact));
        assert!((loss - wanted).abs() < 1e-3 * wanted, "{transfer}: {loss}, and {wanted} exactly");
        let seen = |trained: &Trained| trained.metrics.iter().find(|(n, _)| n == "seen").unwrap().1;
        assert_eq!(seen(&first), seen(&exact), "counts are exact");
    }
}

#[test]
fn a_table_may_keep_its_bits() {
    let cluster = &clusters(2)[0].1;
    let exact = train_on(cluster, &run("tiny-mf", "bsp", 2, 2, 2)).unwrap();
    let kept = train_on(cluster, &rounded("f32,items=f32", "bsp", 2, 2, 2)).unwrap();
    assert_eq!(kept.hash, exact.hash);
    let message = |run: &Run| train_on(cluster, run).unwrap_err().to_string();
    let none = message(&rounded("bf16,items=f32", "bsp", 2, 2, 2));
    assert!(none.contains("there is nothing to round") && none.contains("tiny-mf"), "{none}");
    assert!(message(&rounded("bf16,seen=f16", "bsp", 2, 2, 2)).contains("counts, which travel exactly"));
    for (strategy, lanes, why) in [
        ("bsp", 1, "one lane sends no updates"),
        ("allreduce", 2, "sums of several lanes"),
        ("rotation", 2, "rows travel themselves"),
    ] {
        let error = message(&rounded("bf16", strategy, 1, lanes, 2));
        assert!(error.contains(why), "{error}");
    }
}

/// A shard holds 40 x 8 floats; the smaller tables travel as they are.
#[test]
fn bytes_of_updates_are_halved() {
    for strategy in ["bsp", "ssp:2", "essp:2", "asp"] {
        for (name, cluster) in clusters(3) {
            let bytes = |transfer: &str| {
                let trained = train_on(&cluster, &rounded(transfer, strategy, 3, 3, 3)).unwrap();
                trained.update_bytes[1] as f64
            };
            let (half, whole) = (bytes("bf16"), bytes("f32"));
            assert!(half < 0.58 * whole, "{strategy}, {name}: {half} of {whole} bytes");
        }
    }
}

#[test]
fn a_resumed_run_gives_the_same_bits() {
    let folder = std::env::temp_dir().join(format!("dunlin-transfer-{}", std::process::id()));
    for transfer in ["bf16", "f16"] {
        let _ = std::fs::remove_dir_all(&folder);
        let checkpoint = CheckpointPolicy { epochs: 3, seconds: None };
        let stop = |epochs| Stop { epochs, ..Stop::default() };
        let first = Run { out: Some(folder.clone()), checkpoint, ..rounded(transfer, "bsp", 2, 4, 3) };
        train_on(&clusters(2)[0].1, &first).unwrap();
        let second = Run { resume: true, workers: 3, stop: stop(6), ..first };
        let resumed = train_on(&clusters(3)[1].1, &second).unwrap();
        let whole = train_on(&clusters(2)[0].1, &rounded(transfer, "bsp", 2, 4, 6)).unwrap();
        assert_eq!((resumed.hash, &resumed.metrics), (whole.hash, &whole.metrics), "{transfer}");
        let other = Run { transfer: "f32".parse().unwrap(), ..second };
        let error = train_on(&clusters(3)[1].1, &other).unwrap_err().to_string();
        assert!(error.contains("--transfer of this run: f32") && error.contains("with the same"), "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
