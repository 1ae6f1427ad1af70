//! A run that was killed goes on where its last checkpoint was: under lock-step to the same bits as one that never
//! stopped, on any number of workers.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, Ran};
use rustix::process::Signal;

const MF: &str = "train mf --train synth:mf?n=3000&users=200&items=50 --clocks-per-epoch 2 --set rate=0.01";
const LDA: &str = "train lda --train synth:lda?docs=150&words=200&length=30 --set topics=8";
const SOFTMAX: &str = "train softmax --train synth:softmax?n=900&columns=40&nonzeros=8&classes=4";
const DML: &str = "train dml --train sample:digits --set pairs=600 --clocks-per-epoch 2";
const SLOW: &str = "--slow random:1:200 --checkpoint-epochs 1";

/// The trained model and its metrics, as bits.
fn result(folder: &Folder, out: &str, ran: &Ran) -> (String, Vec<u8>) {
    let metrics = ran.object()["metrics"].to_string();
    assert!(!metrics.contains("null"), "finite: {ran}");
    (metrics, std::fs::read(folder.path(out).join("model.safetensors")).unwrap())
}

/// Starts `line`, kills it once the checkpoint of epoch `epoch` is there.
fn kill_after(folder: &Folder, line: &str, out: &str, epoch: usize) {
    let mut running = folder.begin(&format!("{line} --out {out}"));
    let checkpoint = folder.path(out).join(format!("checkpoints/epochs-{epoch:06}"));
    running.until("a checkpoint", |_| checkpoint.exists().then_some(()));
    running.signal(Signal::KILL);
    let ran = running.end();
    assert_eq!(ran.code, None, "killed before it ended: {ran}");
}

fn copy(folder: &Folder, from: &str, to: &str) {
    let copied =
        std::process::Command::new("cp").arg("-r").args([folder.path(from), folder.path(to)]).status();
    assert!(copied.unwrap().success());
}

/// Kills a run of `line` with three lanes after two of six epochs, goes on with other workers elsewhere, and compares
/// with a run that was left alone.
fn same_bits(line: &str, killed: &str, resumed: &[&str]) {
    let folder = Folder::new();
    let line = format!("{line} --lanes 3 --epochs 6 --json");
    let whole = folder.say(&format!("{line} --out whole")).exits(0);
    let expected = result(&folder, "whole", &whole);
    kill_after(&folder, &format!("{line} {SLOW} {killed}"), "killed", 2);
    for (number, place) in resumed.iter().enumerate() {
        let out = format!("resumed-{number}");
        copy(&folder, "killed", &out);
        let ran = folder.say(&format!("{line} {place} --out {out} --resume")).exits(0);
        let events = folder.text(&format!("{out}/events.jsonl"));
        assert!(
            !events.contains("\"resumed_epochs\":6") && !events.contains("\"resumed_epochs\":1,"),
            "{ran}"
        );
        assert!(events.contains("\"resumed_epochs\":"), "{ran}");
        assert!(result(&folder, &out, &ran) == expected, "{place}: {}\n{ran}", expected.0);
    }
}

const ELSEWHERE: [&str; 2] = ["--workers 1", "--workers 2 --cluster processes"];

#[test]
fn mf_goes_on_to_the_same_bits() {
    for strategy in ["bsp", "allreduce"] {
        let line = format!("{MF} --strategy {strategy}");
        same_bits(&line, "--workers 3 --cluster processes", &ELSEWHERE);
    }
    same_bits(MF, "--workers 2", &["--workers 3", "--workers 3 --servers 2"]);
}

#[test]
fn lda_goes_on_to_the_same_bits() {
    for strategy in ["bsp", "allreduce"] {
        same_bits(&format!("{LDA} --strategy {strategy}"), "--workers 3 --cluster processes", &ELSEWHERE);
    }
}

#[test]
fn softmax_goes_on_to_the_same_bits() {
    same_bits(SOFTMAX, "--workers 3 --cluster processes", &ELSEWHERE);
    same_bits(&format!("{SOFTMAX} --strategy allreduce"), "--workers 2", &ELSEWHERE);
    same_bits(&format!("{SOFTMAX} --strategy allreduce --set solver=lbfgs"), "--workers 3", &ELSEWHERE);
}

#[test]
fn dml_goes_on_to_the_same_bits() {
    same_bits(DML, "--workers 3 --cluster processes", &ELSEWHERE);
}

/// `train_objective` at the end of each epoch that was evaluated.
fn objectives(folder: &Folder, out: &str) -> Vec<(u64, f64)> {
    let text = folder.text(&format!("{out}/events.jsonl"));
    let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let evaluated = events.filter(|event| event["event"] == "evaluated");
    evaluated
        .map(|e| (e["epochs"].as_u64().unwrap(), e["metrics"]["train_objective"].as_f64().unwrap()))
        .collect()
}

#[test]
fn bounded_and_unbounded_staleness_go_on() {
    let folder = Folder::new();
    for (out, strategy) in [("a", "ssp:2"), ("b", "asp"), ("c", "essp:1")] {
        let line = format!("{MF} --strategy {strategy} --lanes 3 --epochs 8 --eval-every 1");
        kill_after(&folder, &format!("{line} {SLOW} --workers 3 --cluster processes"), out, 2);
        let ran =
            folder.say(&format!("{line} --workers 2 --cluster processes --out {out} --resume")).exits(0);
        let all = objectives(&folder, out);
        let (first, last) = (all.iter().find(|(epoch, _)| *epoch == 2).unwrap(), all.last().unwrap());
        assert_eq!(last.0, 8, "{ran}");
        assert!(last.1.is_finite() && last.1 < first.1, "{strategy}: {all:?} {ran}");
    }
}

fn damage(folder: &Folder, file: &str) {
    let path = folder.path(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = Folder::new();
    let line = format!("{MF} --lanes 2 --json");
    let whole = folder.say(&format!("{line} --epochs 6 --out whole")).exits(0);
    folder.say(&format!("{line} --epochs 4 --checkpoint-epochs 1 --out o")).exits(0);
    damage(&folder, "o/checkpoints/epochs-000004/lane-0001.bin");
    copy(&folder, "o", "p");
    let ran =
        folder.say(&format!("{line} --epochs 6 --out o --resume --workers 2 --cluster processes")).exits(0);
    assert!(result(&folder, "o", &ran) == result(&folder, "whole", &whole), "{ran}");
    let warnings: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("dunlin: warning: ")).collect();
    assert_eq!(warnings.len(), 1, "{ran}");
    for part in ["epochs-000004/lane-0001.bin", "checksum", "an older checkpoint, of epoch 3"] {
        assert!(warnings[0].contains(part), "{part}: {ran}");
    }
    damage(&folder, "p/checkpoints/epochs-000003/tables.safetensors");
    for more in ["", "--workers 2 --cluster processes"] {
        let ran = folder.say(&format!("{line} --epochs 6 --out p --resume {more}")).exits(1);
        let ran = ran.tells(&["epochs-000004/lane-0001.bin", "epochs-000003/tables.safetensors", "checksum"]);
        assert_eq!(ran.err.lines().count(), 1, "{ran}");
    }
    std::fs::write(folder.path("p/checkpoints/epochs-000004/manifest.json"), "{").unwrap();
    folder.say(&format!("{line} --epochs 6 --out p --resume")).exits(1).tells(&["manifest.json", "tables"]);
}

#[test]
fn another_run_is_not_gone_on_with() {
    let folder = Folder::new();
    folder.say(&format!("{MF} --lanes 2 --epochs 2 --checkpoint-epochs 1 --out o")).exits(0);
    let before = folder.text("o/run.json");
    let refused =
        |line: &str, parts: &[&str]| drop(folder.say(&format!("{line} --resume --out o")).refused(parts));
    refused(&format!("{MF} --lanes 3"), &["--lanes", "3", "2", "epochs-000002"]);
    refused(&format!("{MF} --lanes 2 --seed 9"), &["--seed", "9", "1"]);
    refused(&format!("{MF} --lanes 2 --set rank=8"), &["settings", "\"rank\":8", "\"rank\":32"]);
    refused(&MF.replace("n=3000", "n=3001").replace("train mf", "train mf --lanes 2"), &["n=3001", "n=3000"]);
    refused(&format!("{MF} --lanes 2 --blocks 7"), &["training data"]);
    refused(&format!("{MF} --lanes 2 --workers 2 --cluster processes --seed 9"), &["--seed"]);
    refused(&format!("{SOFTMAX} --lanes 2"), &["model", "softmax", "mf"]);
    assert_eq!(folder.text("o/run.json"), before, "a refused run changes nothing");
}

#[test]
fn resuming_without_a_checkpoint_starts_afresh() {
    let folder = Folder::new();
    let first = folder.say(&format!("{MF} --lanes 2 --epochs 2 --out o --resume --json")).exits(0);
    let second = folder.say(&format!("{MF} --lanes 2 --epochs 2 --out o --resume --json")).exits(0);
    assert_eq!(first.object()["metrics"], second.object()["metrics"]);
}
