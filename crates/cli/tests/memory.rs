//! `--memory`: the same results as without, budgets that are too small refused, damage told, nothing left on disk.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Folder;
use std::fs::OpenOptions;

const SOFTMAX: &str = "softmax --train synth:softmax?n=3000&columns=200&nonzeros=10&classes=4 --test synth:softmax?n=300&columns=200&nonzeros=10&classes=4&part=test";
const MF: &str =
    "mf --train synth:mf?n=20000&users=300&items=80 --test synth:mf?n=2000&users=300&items=80&part=test";
const LDA: &str = "lda --train synth:lda?docs=200&words=300&length=40 --test synth:lda?docs=20&words=300&length=40&part=test --set topics=8";

#[test]
fn data_on_disk_give_the_same_bits() {
    let cases = [
        (SOFTMAX, "--workers 1"),
        (SOFTMAX, "--workers 2 --lanes 3"),
        (SOFTMAX, "--workers 2 --lanes 3 --cluster processes"),
        (MF, "--workers 2 --lanes 3 --strategy bsp"),
        (MF, "--workers 2 --lanes 4 --strategy rotation"),
        (MF, "--workers 2 --lanes 4 --strategy rotation --cluster processes"),
        (LDA, "--workers 2 --lanes 3 --strategy bsp"),
        (LDA, "--workers 2 --lanes 2 --strategy rotation"),
    ];
    for (run, how) in cases {
        let folder = Folder::new();
        folder.say(&format!("train {run} {how} --epochs 3 --out here")).exits(0);
        let ran = folder.say(&format!("train {run} {how} --epochs 3 --out there --memory 1GB"));
        let said = ran.exits(0).to_string();
        assert!(said.contains("memory of a worker, about"), "{said}");
        // A model that is nowhere whole is written row by row, with a header of its own making.
        let model = |out: &str| {
            let bytes = std::fs::read(folder.path(&format!("{out}/model.safetensors"))).unwrap();
            let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
            let (header, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let header: serde_json::Value = serde_json::from_slice(header).unwrap();
            (header, numbers.to_vec())
        };
        assert!(model("here") == model("there"), "{run} {how}: models differ");
        let metrics = |out: &str| {
            let events = folder.text(&format!("{out}/events.jsonl"));
            let metrics =
                |line: &str| Some(line.split_once("\"metrics\":{")?.1.split('}').next()?.to_string());
            events.lines().filter_map(metrics).collect::<Vec<_>>()
        };
        assert_eq!(metrics("here"), metrics("there"), "{run} {how}");
        assert!(metrics("here").len() >= 3, "{run} {how}");
        let left = std::fs::read_dir(folder.path("there")).unwrap().flatten();
        let left: Vec<_> =
            left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_budget_that_is_too_small_or_no_size_is_refused() {
    let folder = Folder::new();
    let too_small = folder.say(&format!("train {MF} --memory 5MB")).exits(2);
    too_small.tells(&["--memory 5.0 MB: each of 1 workers needs about", "would be enough"]);
    folder.say(&format!("train {MF} --memory 5")).exits(2).tells(&["a unit, such as 2GB or 512MiB"]);
    let pairs = "train dml --train sample:digits --set source=adjacent --memory 1GB";
    folder.say(pairs).exits(2).tells(&["--memory", "pairs"]);
}

/// The file has no name any more, but Linux lets us at it all the same.
#[test]
fn a_cache_cut_short_during_the_run_ends_it_in_words() {
    let folder = Folder::new();
    let mut running =
        folder.begin(&format!("train {MF} --memory 1GB --epochs 1000000 --set rate=0.0001 --out run"));
    running.until_said("epoch    3 ");
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid().as_raw_nonzero())).unwrap().flatten();
    let mut cut = 0;
    for entry in open {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().contains(".dunlin-blocks") {
            OpenOptions::new().write(true).open(entry.path()).unwrap().set_len(1000).unwrap();
            cut += 1;
        }
    }
    assert!(cut > 0, "a scratch file is open");
    running.end().exits(1).tells(&["of the data: ", ".dunlin-blocks", "cut short while the run went on"]);
}
