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

/// Under rotation; --clocks-per-epoch is not for it.
#[test]
fn mf_under_rotation_goes_on_to_the_same_bits() {
    let line = format!("{} --strategy rotation", MF.replace("--clocks-per-epoch 2 ", ""));
    same_bits(&line, "--workers 3 --cluster processes", &ELSEWHERE);
    same_bits(&line, "--workers 2", &["--workers 3 --cluster sim:3"]);
}

/// Under rotation a checkpoint has the rows of items with the lanes, elsewhere in one file: either is gone on with.
#[test]
fn a_checkpoint_of_rotation_is_gone_on_with_under_another_strategy_and_back() {
    let folder = Folder::new();
    let line = format!(
        "{} --lanes 3 --blocks 24 --checkpoint-epochs 1 --json",
        MF.replace("--clocks-per-epoch 2 ", "")
    );
    for (first, second) in [("rotation", "bsp"), ("bsp", "rotation")] {
        let out = format!("{first}-{second}");
        let at = |epochs: usize, strategy: &str, more: &str| {
            let line = format!("{line} --epochs {epochs} --strategy {strategy} --out {out} {more}");
            result(&folder, &out, &folder.say(&line).exits(0))
        };
        let rmse = |(metrics, _): &(String, Vec<u8>)| {
            let metrics: serde_json::Value = serde_json::from_str(metrics).unwrap();
            metrics["train_rmse"].as_f64().unwrap()
        };
        let (before, after) = (at(3, first, ""), at(3, second, "--resume"));
        assert!(before.1 == after.1, "{out}: the model of epoch 3 is the same");
        let on = at(6, second, "--resume");
        assert!(rmse(&on) < rmse(&after), "{out}: {} then {}", after.0, on.0);
    }
}

/// Local states may be by row block, of which there are more without barriers: whoever goes on has those that were.
#[test]
fn a_checkpoint_of_rotation_is_gone_on_with_without_barriers_and_back() {
    let folder = Folder::new();
    let mf = format!("{} --blocks 24", MF.replace("--clocks-per-epoch 2 ", ""));
    let softmax = "train ds-softmax --train synth:softmax?n=900&columns=40&nonzeros=8&classes=24";
    let strategies = ["rotation", "rotation:async"];
    for (name, model, metric, least) in [
        ("mf", &mf[..], "train_rmse", 0.0),
        ("dual", softmax, "train_objective", 1.0),
        ("paper", &format!("{softmax} --set solver=stochastic"), "train_objective", 1.0),
    ] {
        let run = |out: &str, epochs: usize, strategy: &str, more: &str| {
            let line = format!(
                "{model} --lanes 3 --checkpoint-epochs 1 --json --epochs {epochs} --strategy {strategy} --out {out} {more}"
            );
            let ran = folder.say(&line).exits(0);
            (result(&folder, out, &ran), ran.object())
        };
        let value = |object: &serde_json::Value| object["metrics"][metric].as_f64().unwrap();
        let whole = strategies.map(|strategy| run(&format!("{name}-{strategy}"), 30, strategy, "").1);
        for (first, second) in [(strategies[0], strategies[1]), (strategies[1], strategies[0])] {
            let out = format!("{name}-{first}-{second}");
            let (before, then) = run(&out, 3, first, "");
            let (after, now) = run(&out, 3, second, "--workers 2 --resume");
            assert!(before.1 == after.1, "{out}: the model of epoch 3 is the same");
            assert_eq!(then["row_blocks"], now["row_blocks"], "{out}");
            // Sums over lanes in another order.
            assert!((value(&then) / value(&now) - 1.0).abs() < 1e-6, "{out}: {then} and {now}");
            let (_, on) = run(&out, 30, second, "--workers 3 --cluster processes --resume");
            let worst = whole.iter().map(&value).fold(least, f64::max);
            assert!(value(&on) < 1.02 * worst, "{out}: {} and {worst}", value(&on));
            assert!(value(&on) < value(&now), "{out}: {on}");
            assert_eq!(on["reason"], whole[0]["reason"], "{out}: {on}");
        }
    }
}

/// What the samplers gather over the cells of a document is made anew at the first visit of a lap.
#[test]
fn lda_under_rotation_goes_on_to_the_same_bits() {
    same_bits(&format!("{LDA} --strategy rotation"), "--workers 3 --cluster processes", &ELSEWHERE);
}

/// One rank is killed, not all: the others end the run, and it goes on from the last lap that was saved.
#[test]
fn a_rank_lost_in_rotation_costs_no_more_than_a_lap() {
    let folder = Folder::new();
    let line = format!(
        "{} --strategy rotation --lanes 4 --epochs 6 --json",
        MF.replace("--clocks-per-epoch 2 ", "")
    );
    let whole = folder.say(&format!("{line} --out whole")).exits(0);
    let expected = result(&folder, "whole", &whole);
    let mut running = folder.begin(&format!("{line} {SLOW} --workers 2 --cluster processes --out lost"));
    let children = running.until_children(1);
    let checkpoint = folder.path("lost/checkpoints/epochs-000002");
    running.until("a checkpoint", |_| checkpoint.exists().then_some(()));
    rustix::process::kill_process(children[0], Signal::KILL).unwrap();
    running.end().exits(4).tells(&["rank 1 was lost", "it held lane", " with row block "]);
    let ran = folder.say(&format!("{line} --workers 3 --out lost --resume")).exits(0);
    assert!(folder.text("lost/events.jsonl").contains("\"resumed_epochs\":"), "{ran}");
    assert!(result(&folder, "lost", &ran) == expected, "{ran}");
}

/// All lanes stop at the end of a lap, which is an epoch.
#[test]
fn a_run_under_rotation_is_stopped_at_the_end_of_a_lap() {
    let folder = Folder::new();
    let line = format!(
        "{} --strategy rotation --lanes 5 --epochs 12 --eval-every 12 --json",
        MF.replace("--clocks-per-epoch 2 ", "")
    );
    let whole = folder.say(&format!("{line} --out whole")).exits(0);
    let expected = result(&folder, "whole", &whole);
    for (number, place) in ["--workers 3 --cluster processes", "--workers 2"].into_iter().enumerate() {
        let stopped = format!("stopped-{number}");
        let mut running = folder.begin(&format!("{line} --slow random:1:60 {place} --out {stopped}"));
        let events = folder.path(&stopped).join("events.jsonl");
        running.until("progress", |_| {
            std::fs::read_to_string(&events).ok()?.contains("\"progress\"").then_some(())
        });
        running.signal_group(Signal::INT);
        running.end().exits(3).tells(&["interrupted after epoch"]);
        let name = only_checkpoint(&folder, &stopped);
        assert!(!name.contains('+') && *name < *"epochs-000012", "{place}: {name}");
        let ran = folder.say(&format!("{line} --workers 4 --out {stopped} --resume")).exits(0);
        assert!(result(&folder, &stopped, &ran) == expected, "{place}: {ran}");
    }
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
fn logistic_and_svm_go_on_to_the_same_bits() {
    let logistic =
        "train logistic --train synth:softmax?n=900&columns=40&nonzeros=8&classes=2 --set tolerance=1e-12";
    same_bits(&format!("{logistic} --set solver=newton"), "--workers 3", &ELSEWHERE);
    same_bits(&format!("{logistic} --set penalty=l1"), "--workers 2", &ELSEWHERE);
    same_bits(
        &format!("{logistic} --set solver=dual --strategy bsp"),
        "--workers 3 --cluster processes",
        &ELSEWHERE,
    );
    same_bits(&SOFTMAX.replace("softmax --train", "svm --train"), "--workers 3", &ELSEWHERE);
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
    let told = |line: &&str| line.starts_with("dunlin: warning: ") && line.contains("checkpoint");
    let warnings: Vec<&str> = ran.err.lines().filter(told).collect();
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

/// The checkpoint that is there, if it is the only one, as "epochs-000003+00002".
fn only_checkpoint(folder: &Folder, out: &str) -> String {
    let entries = std::fs::read_dir(folder.path(out).join("checkpoints")).unwrap().flatten();
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    names[0].clone()
}

#[test]
fn a_run_that_is_stopped_within_an_epoch_goes_on_to_the_same_bits() {
    let folder = Folder::new();
    let model = "train mf --train synth:mf?n=3000&users=200&items=50 --set rate=0.01 --lanes 3 --blocks 192 \
                 --clocks-per-epoch 64 --epochs 3 --json";
    for (strategy, place) in [
        ("bsp", "--workers 3 --cluster processes"),
        ("bsp", "--workers 2"),
        ("allreduce", "--workers 3 --cluster processes"),
        ("allreduce", "--workers 2"),
        ("bsp", "--workers 2 --servers 1 --cluster processes"),
    ] {
        let (line, number) =
            (format!("{model} --strategy {strategy}"), folder.path("").read_dir().unwrap().count());
        let (whole, stopped) = (format!("whole-{number}"), format!("stopped-{number}"));
        let ran = folder.say(&format!("{line} --out {whole}")).exits(0);
        let expected = result(&folder, &whole, &ran);
        // An epoch takes a second and more here, and the signal comes when it has begun: the stop is within it.
        let mut running = folder.begin(&format!("{line} --slow random:1:40 {place} --out {stopped}"));
        let events = folder.path(&stopped).join("events.jsonl");
        running.until("progress", |_| {
            std::fs::read_to_string(&events).ok()?.contains("\"progress\"").then_some(())
        });
        running.signal_group(Signal::INT);
        running.end().exits(3).tells(&["interrupted after epoch 0"]);
        let name = only_checkpoint(&folder, &stopped);
        assert!(name.starts_with("epochs-000000+"), "{strategy} {place}: {name}");
        let other = line.replace("--clocks-per-epoch 64", "--clocks-per-epoch 32");
        folder.say(&format!("{other} --out {stopped} --resume")).refused(&["--clocks-per-epoch 64", &name]);
        let ran = folder.say(&format!("{line} --workers 2 --out {stopped} --resume")).exits(0);
        assert!(result(&folder, &stopped, &ran) == expected, "{strategy} {place}: {ran}");
    }
}

#[test]
fn time_that_is_up_within_an_epoch_ends_the_run_under_every_strategy() {
    let folder = Folder::new();
    for (number, strategy) in ["bsp", "ssp:2", "essp:1", "asp", "allreduce"].into_iter().enumerate() {
        for (cluster, slow) in [("processes", "--slow random:1:20"), ("sim", "--compute-ns 100000")] {
            let out = format!("{cluster}-{number}");
            let line = format!(
                "train mf --train synth:mf?n=3000&users=200&items=50 --set rate=0.01 --workers 3 --blocks 96 \
                 --clocks-per-epoch 32 --epochs 9 --eval-every 9 --strategy {strategy} --cluster {cluster} {slow}"
            );
            let ran = folder
                .say(&format!("{line} --seconds 0.2 --checkpoint-epochs 1 --out {out} --json"))
                .exits(0);
            let object = ran.object();
            assert_eq!(object["reason"], "seconds", "{ran}");
            let done = object["epochs"].as_u64().unwrap() * 32 + object["clock"].as_u64().unwrap();
            assert!(done > 0 && done < 9 * 32, "{ran}");
            assert!(object["metrics"]["train_objective"].as_f64().unwrap().is_finite(), "{ran}");
            let ran = folder.say(&format!("{line} --out {out} --resume --json")).exits(0);
            assert_eq!(
                (&ran.object()["reason"], &ran.object()["epochs"]),
                (&"epochs".into(), &9.into()),
                "{ran}"
            );
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_checkpoint_to_go_on_from() {
    let folder = Folder::new();
    // Tables of several megabytes and a checkpoint after each of many short epochs: most kills meet a writer at work.
    let line = "train mf --train synth:mf?n=6000&users=3000&items=40000 --set rank=32 --set rate=0.01 --lanes 2 \
                --epochs 60 --json";
    let ran = folder.say(&format!("{line} --out whole")).exits(0);
    let expected = result(&folder, "whole", &ran);
    let mut unfinished = 0;
    for (number, milliseconds) in [0, 7, 19, 31, 53, 80].into_iter().enumerate() {
        let out = format!("killed-{number}");
        let place = ["--workers 2", "--workers 2 --cluster processes"][number % 2];
        let mut running = folder.begin(&format!("{line} {place} --checkpoint-epochs 1 --out {out}"));
        let first = folder.path(&out).join("checkpoints/epochs-000001");
        running.until("a checkpoint", |_| first.exists().then_some(()));
        dunlin::comm::time::sleep(std::time::Duration::from_millis(milliseconds));
        running.signal(Signal::KILL);
        assert_eq!(running.end().code, None, "killed before it ended");
        let entries = std::fs::read_dir(folder.path(&out).join("checkpoints")).unwrap().flatten();
        unfinished += entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count();
        let ran = folder.say(&format!("{line} --workers 2 --out {out} --resume")).exits(0);
        assert!(!ran.err.contains("older checkpoint"), "each that is seen is whole: {ran}");
        assert!(!folder.text(&format!("{out}/events.jsonl")).contains("\"resumed_epochs\":60"), "{ran}");
        assert!(result(&folder, &out, &ran) == expected, "{milliseconds} ms: {ran}");
    }
    assert!(unfinished > 0, "no kill met a checkpoint half written");
}

#[test]
fn a_checkpoint_of_another_version_is_refused() {
    let folder = Folder::new();
    let line = format!("{MF} --lanes 2 --checkpoint-epochs 1 --out o");
    folder.say(&format!("{line} --epochs 2")).exits(0);
    let path = folder.path("o/checkpoints/epochs-000002/manifest.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let ours = env!("CARGO_PKG_VERSION");
    for (from, to, part) in [
        ("\"version\": 4", "\"version\": 7", "version 7 of the format"),
        (&format!("\"program\": \"{ours}\""), "\"program\": \"0.0.7\"", "written by dunlin 0.0.7"),
    ] {
        assert!(manifest.contains(from), "{from}: {manifest}");
        std::fs::write(&path, manifest.replace(from, to)).unwrap();
        for place in ["", "--workers 2 --cluster processes"] {
            let ran = folder.say(&format!("{line} --epochs 3 --resume {place}"));
            ran.refused(&[
                "--resume",
                "epochs-000002/manifest.json",
                part,
                &format!("this is dunlin {ours}"),
            ]);
        }
    }
    // The first format had no more than this in common.
    std::fs::write(&path, "{\"version\": 1, \"epochs\": 2}").unwrap();
    folder
        .say(&format!("{line} --epochs 3 --resume"))
        .refused(&["an unknown version", "version 1 of the format"]);
}

#[test]
fn fewer_epochs_than_are_done_are_refused() {
    let folder = Folder::new();
    let line = format!("{MF} --lanes 2 --checkpoint-epochs 1 --out o");
    folder.say(&format!("{line} --epochs 4")).exits(0);
    let before = (folder.text("o/run.json"), folder.text("o/events.jsonl"));
    let ran = folder.say(&format!("{line} --epochs 3 --resume"));
    ran.refused(&["--epochs 3", "epochs-000004 is at epoch 4 already", "more --epochs"]);
    assert_eq!(
        (folder.text("o/run.json"), folder.text("o/events.jsonl")),
        before,
        "a refused run changes nothing"
    );
    folder.say(&format!("{line} --epochs 4 --resume")).exits(0);
}

/// Whatever the model's default is by then.
#[test]
fn a_run_goes_on_to_the_epochs_that_it_had_unless_others_are_given() {
    let folder = Folder::new();
    let line = format!("{MF} --lanes 2 --checkpoint-epochs 1 --out o --json");
    folder.say(&format!("{line} --epochs 4")).exits(0);
    for gone in ["checkpoints/epochs-000003", "checkpoints/epochs-000004"] {
        let _ = std::fs::remove_dir_all(folder.path(&format!("o/{gone}")));
    }
    std::fs::remove_file(folder.path("o/model.json")).unwrap(); // with it, it would have ended
    assert_eq!(folder.say(&format!("{line} --resume")).exits(0).object()["epochs"], 4);
    assert_eq!(folder.say(&format!("{line} --resume --epochs 6")).exits(0).object()["epochs"], 6);
    assert_eq!(folder.say(&format!("{line} --resume")).exits(0).object()["epochs"], 6);
    let fresh = folder.say(&format!("{MF} --lanes 2 --out fresh --resume --json")).exits(0);
    assert_eq!(fresh.object()["epochs"], 20, "the model's own");
}

#[test]
fn resuming_without_a_checkpoint_starts_afresh() {
    let folder = Folder::new();
    let line = format!("{MF} --lanes 2 --epochs 2 --json --resume");
    let whole = folder.say(&format!("{line} --out whole")).exits(0);
    let mut killed = folder.begin(&format!("{line} --slow random:1:200 --workers 2 --out o"));
    let events = folder.path("o/events.jsonl");
    killed.until("its start", |_| std::fs::read_to_string(&events).ok()?.contains("started").then_some(()));
    let described = folder.path("o/run.json");
    killed.until("its description", |_| described.exists().then_some(()));
    killed.signal(Signal::KILL);
    assert_eq!(killed.end().code, None, "killed before it ended");
    let other = folder.path("o/model.safetensors").exists();
    assert!(!other, "it had not ended");
    for (change, parts) in [
        (line.replace("--lanes 2", "--lanes 3"), ["--lanes", "3", "o/run.json says 2"]),
        (format!("{line} --set rank=8"), ["the settings", "\"rank\":8", "o/run.json says"]),
        (line.replace("n=3000", "n=3001"), ["other training data", "n=3001", "n=3000"]),
        (format!("{SOFTMAX} --lanes 2 --resume"), ["the model", "softmax", "o/run.json says mf"]),
    ] {
        folder.say(&format!("{change} --out o")).refused(&parts);
    }
    let ran = folder.say(&format!("{line} --out o")).exits(0);
    assert!(result(&folder, "o", &ran) == result(&folder, "whole", &whole), "{ran}");
}

#[test]
fn a_run_that_has_ended_without_a_checkpoint_is_not_begun_again() {
    let folder = Folder::new();
    let line = format!("{MF} --lanes 2 --epochs 2 --out o");
    folder.say(&line).exits(0);
    let files = || {
        let names = ["model.safetensors", "model.json", "run.json", "events.jsonl", "users.tsv"];
        names.map(|name| std::fs::read(folder.path("o").join(name)).unwrap())
    };
    let before = files();
    for more in ["", "--checkpoint-epochs 1", "--workers 2 --cluster processes"] {
        let parts =
            ["--resume", "in o has ended", "no checkpoint to go on from", "--out", "--checkpoint-epochs"];
        folder.say(&format!("{line} --resume {more}")).refused(&parts);
    }
    folder.say(&format!("{LDA} --out o --resume")).refused(&["the model", "lda", "o/run.json says mf"]);
    folder.say(&format!("{line} --resume --seed 7")).refused(&["--seed", "7", "o/run.json says 1"]);
    assert!(files() == before, "a refused run changes nothing");
}
