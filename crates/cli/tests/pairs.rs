//! `dml` on pairs that a file lists: the same bits on any number of workers, and one line for what is wrong.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Folder;
use std::io::Write;

/// The shipped digits as a file `d.svm`, and 600 pairs of them in `p.txt`, every third one similar.
fn digits() -> Folder {
    let folder = Folder::new();
    folder.say("data sample:digits --write d.svm").exits(0);
    let text = folder.text("d.svm");
    let labels: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let mut pairs = String::from("# row row mark\n");
    for at in 0..600 {
        let (row, similar) = (at * 5 % labels.len(), at % 3 == 0);
        let later = (1..labels.len()).map(|step| (row + 7 * at + step) % labels.len());
        let other =
            later.into_iter().find(|other| *other != row && (labels[*other] == labels[row]) == similar);
        pairs += &format!("{row} {} {}\n", other.unwrap(), if similar { "1" } else { "-1" });
    }
    folder.write("p.txt", pairs);
    folder
}

fn metric(said: &common::Ran, name: &str) -> f64 {
    said.object()["metrics"][name].as_f64().unwrap_or_else(|| panic!("{name}: {said}"))
}

#[test]
fn a_list_of_pairs_gives_the_same_bits_on_any_number_of_workers() {
    let folder = digits();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(folder.text("p.txt").as_bytes()).unwrap();
    folder.write("p.gz", packer.finish().unwrap());
    let train =
        "train dml --train d.svm --test sample:digits-test --epochs 4 --lanes 3 --json --set pairs_file=";
    let one = folder.say(&format!("{train}p.txt --out one")).exits(0);
    assert!(metric(&one, "heldout_pair_accuracy") > 0.6 && metric(&one, "test_pair_accuracy") > 0.6, "{one}");
    let model = |out: &str| std::fs::read(folder.path(out).join("model.safetensors")).unwrap();
    let others = ["p.gz --workers 2", "p.txt --workers 3", "p.txt --workers 2 --cluster processes"];
    for (at, words) in others.into_iter().enumerate() {
        let said = folder.say(&format!("{train}{words} --out {at}")).exits(0);
        assert_eq!(said.object()["metrics"], one.object()["metrics"], "{words}");
        assert!(model(&at.to_string()) == model("one"), "{words}");
    }
    // L maps rows one by one, and LtL lies beside it
    let said = folder.say("predict one d.svm").exits(0);
    assert_eq!((said.out.lines().count(), folder.text("one/metric.tsv").lines().count()), (1438, 64));
}

#[test]
fn test_metrics_are_those_of_the_rows_whatever_blocks_and_lanes() {
    let folder = Folder::new();
    let train = "train dml --train sample:digits --test sample:digits-test --epochs 2 --json --out run";
    let said = folder.say(train).exits(0);
    for name in ["test_pair_loss", "test_pair_accuracy"] {
        for blocks in ["", "--blocks 1", "--blocks 41"] {
            let again = folder.say(&format!("eval run sample:digits-test --json {blocks}")).exits(0);
            let (then, now) = (metric(&said, name), metric(&again, name));
            assert!((now / then - 1.0).abs() < 1e-9, "{name} {blocks}: {then} {now}");
        }
    }
}

#[test]
fn pairs_that_cannot_be_learned_from() {
    let folder = Folder::new();
    let rows = "1 1:0.5 3:1\n-1 2:1\n1 1:1 2:3\n-1 2:0.5 3:0.25\n";
    folder.write("a.svm", rows).write("one.svm", rows.replace("-1 ", "1 ")).write("good", "0 1 -1\n2 0 1\n");
    folder
        .write("equal.svm", "3 1:1\n3 1:2\n4 1:3\n4 1:4\n5 1:5\n5 1:6\n")
        .write("odd.svm", rows.repeat(5) + "1 1:2\n");
    std::fs::create_dir(folder.path("some")).unwrap();
    let train = "train dml --train a.svm --set held_out=0 --set pairs_file=";
    folder.say(&format!("{train}good --epochs 2")).exits(0);
    folder.say(&format!("{train}good --epochs 2 --train one.svm").replace("--train a.svm ", "")).exits(0);
    let bad: [(&str, &[&str]); 7] = [
        ("0 1 -1\n2 9 1\n", &["p:2", "row 9", "4 rows", "0 to 3"]),
        ("0 1 -1\n2 0 3\n", &["p:2", "\"3\"", "1 (similar)", "-1 or 0"]),
        ("0 1 -1\n2 2 1\n", &["p:2", "row 2", "itself"]),
        ("0 1 -1\n1 0 1\n", &["p:2", "similar here", "dissimilar in line 1"]),
        ("# nothing\n", &["p: no pairs", "row row 1"]),
        ("0 1 1\n2 0 1\n", &["no dissimilar pair", "p: it must list both"]),
        ("0 1 0\n2 3 -1\n", &["no similar pair", "p: it must list both"]),
    ];
    for (text, parts) in bad {
        folder.write("p", text);
        folder.say(&format!("{train}p")).refused(parts);
        folder
            .say(&format!("{train}p --workers 2 --lanes 2 --blocks 2 --cluster processes"))
            .refused(parts.get(..1).unwrap());
    }
    folder.say(&format!("{train}god")).refused(&["god", "no such file", "good"]);
    folder.say(&format!("{train}some")).refused(&["some", "directory"]);
    folder.say(&format!("{train}-")).refused(&["from a file", "standard input"]);
    folder.say(&format!("{train}good --set pairs=9")).refused(&["pairs_file = good", "neither", "pairs"]);
    folder.say("train dml --train one.svm").refused(&["one.svm", "label 1", "two classes"]);
    folder.say("train dml --train a.svm").refused(&["no pair to train on", "4 blocks", "fewer --blocks"]);
    // rows are mixed before they are dealt out, pairs of rows only as a whole
    folder
        .say("train dml --train equal.svm --set source=adjacent")
        .refused(&["no dissimilar pair", "adjacent"]);
    folder.say("train dml --train odd.svm --set source=adjacent").refused(&["odd.svm: 21 rows", "alone"]);
}
