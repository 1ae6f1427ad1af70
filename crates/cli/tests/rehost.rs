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

/// Ratings, documents and labelled rows with test data, on disk.
#[test]
fn with_a_limit_of_memory_lanes_move_and_the_model_is_the_same() {
    let tests = [
        "--test synth:mf?n=600&users=300&items=90&part=test",
        "--test synth:lda?docs=30&words=200&length=30&part=test",
        "--test synth:softmax?n=90&columns=40&nonzeros=8&classes=24&part=test",
    ];
    for (name, test) in MODELS.into_iter().zip(tests) {
        let folder = Folder::new();
        let simulated = format!("{test} --cluster sim:3 --slow 1:3 --compute-ns 100000 --memory 1GB");
        let moved =
            folder.say(&line(name, &format!("{simulated} --out moved --checkpoint-epochs 4"))).exits(0);
        assert!(moved.err.contains("re-hosted: worker 1 is 3.0 x slower, keeps "), "{moved}");
        let stayed = folder.say(&line(name, &format!("{simulated} --rehost off --out stayed"))).exits(0);
        assert!(!stayed.err.contains("re-hosted"), "{stayed}");
        assert!(model(&folder, "moved") == model(&folder, "stayed"), "{name}");
        assert_eq!(metrics(&folder, "moved"), metrics(&folder, "stayed"), "{name}");
        assert!(scratch_files(&folder, "moved").is_empty(), "{name}");
    }
}

/// Metrics of all evaluations.
fn metrics(folder: &Folder, out: &str) -> Vec<String> {
    let events = folder.text(&format!("{out}/events.jsonl"));
    let metrics = |line: &str| Some(line.split_once("\"metrics\":{")?.1.split('}').next()?.to_string());
    events.lines().filter_map(metrics).collect()
}

fn scratch_files(folder: &Folder, out: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder.path(out)).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.')).collect()
}

/// Rows of a model that are nowhere whole move with their lanes: a budget decides how many a worker takes.
#[test]
fn a_real_budget_allows_a_move_or_forbids_it() {
    let folder = Folder::new();
    let name = "ds-softmax --train synth:softmax?n=1200&columns=14000&nonzeros=8&classes=240 --seed 3";
    let more = "--cluster processes --workers 3 --slow 1:12";
    let free = folder.say(&line(name, &format!("{more} --out free"))).exits(0);
    assert!(free.err.contains("re-hosted: worker 1 is "), "{free}");
    let roomy = folder.say(&line(name, &format!("{more} --memory 1GB --out roomy"))).exits(0);
    assert!(roomy.err.contains("re-hosted: worker 1 is "), "{roomy}");
    let said = roomy.err.split("memory of a worker, about: ").nth(1).unwrap();
    let needed: f64 = said.split(' ').next().unwrap().parse().unwrap();
    // Room for what it has, and for no lane more.
    let budget = needed + 1.0;
    let tight = folder.say(&line(name, &format!("{more} --memory {budget}MB --out tight"))).exits(0);
    assert!(!tight.err.contains("re-hosted"), "{tight}");
    let told = tight.err.matches("no other has room for enough of its lanes").count();
    assert_eq!(told, 1, "{tight}");
    let (roomy, tight) = (metrics(&folder, "roomy"), metrics(&folder, "tight"));
    assert!(
        roomy.len() > 6 && roomy == tight && roomy == metrics(&folder, "free"),
        "{roomy:?} and {tight:?}"
    );
    assert!(model(&folder, "roomy") == model(&folder, "tight"));
    let events = folder.text("tight/events.jsonl");
    let ended = events.lines().find(|line| line.contains("\"ended\"")).unwrap();
    let ended: serde_json::Value = serde_json::from_str(ended).unwrap();
    let peaks = ended["outcome"]["peak_rss_mb_per_process"].as_array().unwrap();
    assert!(peaks.iter().all(|peak| peak.as_f64().unwrap() < budget), "{peaks:?} of {budget}");
}

#[test]
fn other_words_are_refused() {
    let folder = Folder::new();
    folder.say(&line(MODELS[0], "--rehost yes")).exits(2).tells(&["--rehost yes: there is auto and off"]);
}
