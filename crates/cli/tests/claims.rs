//! A run folder has one writer, and a run writes over nothing that is not its own.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, Running};
use rustix::process::Signal;

const MF: &str =
    "train mf --train synth:mf?n=3000&users=200&items=50 --clocks-per-epoch 2 --set rate=0.01 --lanes 2";
const SLOW: &str = "--slow random:1:200 --epochs 400";

/// A run that goes on until it is killed, once it has said what it is.
fn slow_run(folder: &Folder, more: &str) -> Running {
    let events = folder.path("o/events.jsonl");
    let starts = || std::fs::read_to_string(&events).unwrap_or_default().matches("\"started\"").count();
    let before = starts();
    let mut running = folder.begin(&format!("{MF} {SLOW} --workers 2 --out o {more}"));
    let described = folder.path("o/run.json");
    running.until("its description", |_| (starts() > before && described.exists()).then_some(()));
    running
}

#[test]
fn a_folder_in_which_a_run_writes_is_refused_until_that_has_ended_or_was_killed() {
    let folder = Folder::new();
    for (place, killed) in [("", false), ("--cluster processes", true)] {
        let running = slow_run(&folder, &format!("{place} --resume --checkpoint-epochs 1"));
        let before = folder.text("o/run.json");
        for more in ["", "--resume", "--resume --workers 2 --cluster processes"] {
            let second = folder.say(&format!("{MF} --quiet --epochs 400 --out o {more}"));
            second.refused(&["o: another run is writing here", "--out"]);
        }
        assert_eq!(folder.text("o/run.json"), before, "a refused run changes nothing");
        if killed {
            running.signal(Signal::KILL);
            assert_eq!(running.end().code, None);
        } else {
            running.signal(Signal::INT);
            running.end().exits(3);
        }
    }
    let events = folder.text("o/events.jsonl");
    let rest = events.lines().filter(|line| line.contains("\"evaluated\"")).count() + 2;
    folder.say(&format!("{MF} --out o --resume --epochs {}", 400.min(rest))).exits(0);
}

#[test]
fn of_two_runs_that_start_at_once_one_wins() {
    let folder = Folder::new();
    for round in 0..4 {
        let line = format!("{MF} --epochs 6 --slow random:1:200 --out o{round}");
        let runs = [folder.begin(&line), folder.begin(&line), folder.begin(&format!("{line} --resume"))];
        let ran = runs.map(Running::end);
        let mut codes = ran.each_ref().map(|ran| ran.code);
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(2), Some(2)], "{} {} {}", ran[0], ran[1], ran[2]);
        for lost in ran.iter().filter(|ran| ran.code == Some(2)) {
            // The last where it came only once the winner had ended.
            let reasons = ["another run is writing here", "there is a run in this folder", "has ended"];
            assert!(reasons.iter().any(|reason| lost.last_line().contains(reason)), "{lost}");
        }
        let started = folder.text(&format!("o{round}/events.jsonl")).matches("\"event\":\"started\"").count();
        assert_eq!(started, 1);
        folder.say(&format!("eval o{round} synth:mf?n=300&users=200&items=50")).exits(0);
    }
}

#[test]
fn files_of_the_user_are_not_written_over() {
    let folder = Folder::new();
    let line = format!("{MF} --epochs 1");
    std::fs::create_dir(folder.path("u")).unwrap();
    folder.write("u/notes.md", "mine").write("u/users.csv", "mine").write("u/report.html", "mine");
    for (names, parts) in [
        (&["users.tsv"][..], &["--out u: users.tsv would be written over"][..]),
        (&["model.json", "users.tsv"], &["model.json and users.tsv would"]),
        (
            &["a.txt", "b.tsv", "run.json", "z.tsv"],
            &["a.txt, b.tsv, run.json and 1 more", "no run that wrote them"],
        ),
        (&["checkpoints"], &["checkpoints would"]),
        (&["events.jsonl"], &["there is a run"]),
    ] {
        for name in names {
            match *name {
                "checkpoints" => std::fs::create_dir(folder.path("u/checkpoints")).unwrap(),
                name => std::fs::write(folder.path("u").join(name), "mine").unwrap(),
            }
        }
        folder.say(&format!("{line} --out u")).refused(parts);
        folder.say(&format!("{line} --workers 2 --cluster processes --out u")).refused(parts);
        for name in names {
            let path = folder.path("u").join(name);
            if path.is_dir() {
                std::fs::remove_dir(path).unwrap();
            } else {
                assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
                std::fs::remove_file(path).unwrap();
            }
        }
        assert_eq!(folder.path("u").read_dir().unwrap().count(), 3, "nothing was made there");
    }
    folder.write("u/items.tsv", "mine");
    folder.say(&format!("{line} --out u --resume")).refused(&["items.tsv would be written over"]);
    std::fs::remove_file(folder.path("u/items.tsv")).unwrap();
    folder.say(&format!("{line} --out u")).exits(0);
    assert_eq!(folder.text("u/notes.md"), "mine");
}

#[test]
fn an_order_that_cannot_be_written_or_followed_is_refused_before_training() {
    let folder = Folder::new();
    let line = "train mf --train synth:mf?n=3000&users=200&items=50 --set rate=0.01 --lanes 4 --epochs 2 --quiet \
                --strategy rotation:async";
    for order in ["nowhere/order", "."] {
        let parts = ["--log-order", order, "cannot write it"];
        folder.say(&format!("{line} --workers 2 --log-order {order}")).refused(&parts);
    }
    folder.say(&format!("{line} --workers 2 --out o --checkpoint-epochs 1 --log-order o/order")).exits(0);
    let order = folder.text("o/order");
    let parts = ["--log-order o/order with --resume", "an order begins where its run began"];
    folder.say(&format!("{line} --out o --resume --log-order o/order")).refused(&parts);
    assert_eq!(folder.text("o/order"), order, "a refused run changes nothing");
    let replay = |line: &str| folder.say(&format!("{line} --replay o/order"));
    replay(line).exits(0);
    replay(&line.replace("n=3000", "n=3001")).refused(&["o/order:1", "replay with the same data"]);
    let middle = order.len() / 2;
    for (damaged, part) in [
        (&order.as_bytes()[..middle], "o/order"),
        (&order.as_bytes()[..order[..middle].rfind('\n').unwrap() + 1], "it is cut or was changed"),
        (&order.as_bytes()[..10], "this run writes"),
        (b"\xff\xfe\x00\x01", "this is no text"),
        (b"dunlin order 1: 4 lanes, 32 row blocks, seed 1\n", "write the order again with --log-order"),
    ] {
        folder.write("o/order", damaged);
        replay(line).refused(&["--replay o/order", part]);
    }
    folder.say(&format!("{line} --replay nowhere")).refused(&["--replay nowhere", "cannot read it"]);
}

#[test]
fn a_damaged_model_is_told() {
    let folder = Folder::new();
    for (out, more) in [("o", ""), ("spread", "--strategy rotation --memory 200MB")] {
        let line = MF.replace("--clocks-per-epoch 2 ", "");
        folder.say(&format!("{line} --epochs 1 --out {out} {more}")).exits(0);
        let eval = || folder.say(&format!("eval {out} synth:mf?n=300&users=200&items=50"));
        let sound = eval().exits(0);
        let path = folder.path(&format!("{out}/model.safetensors"));
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        eval().exits(1).tells(&["model.safetensors: damaged", "checksum", "model.json says"]);
        std::fs::write(&path, &bytes[..last]).unwrap();
        eval().exits(1).tells(&["model.safetensors: damaged"]);
        // The card of an older program says nothing of it.
        let card = folder.text(&format!("{out}/model.json"));
        let mut card: serde_json::Value = serde_json::from_str(&card).unwrap();
        assert!(card.as_object_mut().unwrap().remove("xxh3").is_some());
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        folder.write(&format!("{out}/model.json"), card.to_string());
        assert_eq!(eval().exits(0).out, sound.out);
    }
}
