//! Lanes that move between workers change nothing of the model, whatever it is and wherever the workers are.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Folder;

const MODELS: [&str; 3] = [
    "mf --train synth:mf?n=6000&users=300&items=90",
    "lda --train synth:lda?docs=300&words=200&length=30 --set topics=8",
    "ds-softmax --train synth:softmax?n=900&columns=40&nonzeros=8&classes=24",
];

fn line(model: &str, more: &str) -> String {
    format!("train {model} --strategy rotation --lanes 12 --epochs 6 {more}")
}

fn model(folder: &Folder, out: &str) -> Vec<u8> {
    std::fs::read(folder.path(out).join("model.safetensors")).unwrap()
}

#[test]
fn a_slow_simulated_worker_loses_lanes_and_the_model_is_the_same() {
    for name in MODELS {
        let folder = Folder::new();
        let simulated = "--cluster sim:3 --slow 1:3 --compute-ns 100000";
        let moved =
            folder.say(&line(name, &format!("{simulated} --out moved --checkpoint-epochs 4"))).exits(0);
        assert!(moved.err.contains("re-hosted: worker 1 is 3.0 x slower, keeps "), "{moved}");
        let stayed = folder.say(&line(name, &format!("{simulated} --rehost off --out stayed"))).exits(0);
        assert!(!stayed.err.contains("re-hosted"), "{stayed}");
        assert!(model(&folder, "moved") == model(&folder, "stayed"), "{name}");
        // On from a checkpoint that was written after lanes had moved, on other workers.
        std::fs::remove_dir_all(folder.path("moved/checkpoints/epochs-000006")).unwrap();
        let resumed = folder.say(&line(name, "--workers 2 --out moved --resume")).exits(0);
        assert!(resumed.err.contains("going on after epoch 4"), "{resumed}");
        assert!(model(&folder, "moved") == model(&folder, "stayed"), "{name}");
    }
}

#[test]
fn lanes_move_between_processes() {
    let folder = Folder::new();
    let name = MODELS[0].replace("n=6000", "n=120000");
    let processes = "--cluster processes --workers 3 --slow 0:100 --out processes";
    let moved = folder.say(&line(&name, processes)).exits(0);
    assert!(moved.err.contains("re-hosted: worker "), "{moved}");
    assert!(folder.text("processes/events.jsonl").contains("\"event\":\"rehosted\""), "{moved}");
    folder.say(&line(&name, "--out one")).exits(0);
    assert!(model(&folder, "processes") == model(&folder, "one"));
}

#[test]
fn other_words_are_refused() {
    let folder = Folder::new();
    folder.say(&line(MODELS[0], "--rehost yes")).exits(2).tells(&["--rehost yes: there is auto and off"]);
}
