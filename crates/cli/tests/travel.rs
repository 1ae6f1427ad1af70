//! How updates travel: `--transfer` and `--bandwidth`, from flags and run files, in the summary and in what is refused.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin};

const DATA: &str = "synth:mf?users=300&items=200&n=20000";

#[test]
fn bytes_are_halved_and_a_budget_is_accounted_for() {
    let folder = Folder::new();
    let mf = format!("train mf --train {DATA} --cluster sim:3 --epochs 4 --quiet");
    let update_bytes = |flags: &str| {
        let ran = dunlin(&folder, &format!("{mf} --json {flags}")).exits(0);
        let object: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
        (
            object["report"]["update_bytes"][1].as_f64().unwrap(),
            object["transfer"].as_str().unwrap().to_string(),
        )
    };
    let (whole, half) = (update_bytes("--strategy ssp:2"), update_bytes("--strategy ssp:2 --transfer f16"));
    assert_eq!((&*whole.1, &*half.1), ("f32", "f16"));
    assert!(half.0 < 0.55 * whole.0, "{} of {} bytes", half.0, whole.0);

    let keys = ["model = \"mf\"", "strategy = \"ssp:2\"", "transfer = \"bf16\"", "bandwidth = \"20MB/s\""];
    folder.write("run.toml", keys.join("\n"));
    let ran = dunlin(&folder, &format!("{} --out run", mf.replace("train mf", "train run.toml"))).exits(0);
    assert!(ran.out.contains(" early, ") && ran.out.contains("% of the budget used"), "{}", ran.out);
    let shown = dunlin(&folder, "show run").exits(0);
    for text in ["updates travel as            bf16", "20.0 MB/s a worker", "% of the budget used"] {
        assert!(shown.out.contains(text), "{text}: {}", shown.out);
    }
}

#[test]
fn what_cannot_travel_so_is_refused_in_words() {
    let folder = Folder::new();
    let refused = |flags: &str, why: &str| {
        let ran = dunlin(&folder, &format!("train mf --train {DATA} {flags}")).exits(2);
        assert!(ran.err.contains(why), "{flags}: {}", ran.err);
    };
    refused("--workers 2 --strategy bsp --bandwidth 5MB/s", "none may come early");
    refused("--workers 2 --strategy ssp --bandwidth 5MB", "such as 50MB/s");
    refused("--lanes 2 --strategy ssp --bandwidth 5MB/s", "nobody to send updates to");
    refused("--workers 2 --strategy ssp --transfer bf8", "there is f32, bf16 and f16");
    refused("--workers 2 --strategy ssp --transfer bf16,itms=f32", "did you mean items?");
    refused("--workers 2 --strategy rotation --transfer bf16", "rows travel themselves");
    refused("--strategy bsp --transfer bf16", "one lane sends no updates");
}
