//! The floors: a crate uses only those below it, and what may happen in one place happens there alone.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), std::fs::read_to_string(path).unwrap()));
        }
    }
    found
}

/// The crates in import order, as ARCHITECTURE.md lists them.
fn order() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `crates/"));
    rows.filter_map(|row| row.split('`').next()).map(String::from).collect()
}

#[test]
fn a_crate_imports_only_those_above_it_in_the_code_map() {
    let order = order();
    assert_eq!(order, ["rng", "comm", "spot", "dunlin", "models", "cli"], "the code map of ARCHITECTURE.md");
    let packages = ["dunlin-rng", "dunlin-comm", "dunlin-spot", "dunlin", "dunlin-models", "dunlin-cli"];
    for (floor, name) in order.iter().enumerate() {
        let manifest = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let uses =
            |package: &str| manifest.lines().any(|line| line.split(['.', ' ']).next() == Some(package));
        for upper in &packages[floor + 1..] {
            assert!(!uses(upper), "{name} imports {upper}, which is on a higher floor");
        }
        assert!(
            ["rng", "comm"].contains(&name.as_str()) || packages[..floor].iter().any(|lower| uses(lower)),
            "the search finds what is used"
        );
    }
    let spot = std::fs::read_to_string(root().join("crates/spot/Cargo.toml")).unwrap();
    assert!(!spot.contains("dunlin-comm"), "planning knows no sockets and no clocks");
    let models = std::fs::read_to_string(root().join("crates/models/Cargo.toml")).unwrap();
    assert!(!models.contains("dunlin-comm"), "models use the public API of dunlin alone");
}

#[test]
fn what_may_happen_in_one_place_happens_there_alone() {
    let rules: [(&str, &[&str]); 5] = [
        ("Instant::now", &["comm/src/time.rs"]),
        ("SystemTime::now", &["comm/src/time.rs"]),
        ("thread::sleep", &["comm/src/time.rs"]),
        ("rand_xoshiro", &["rng/src/lib.rs"]),
        ("rand::", &[]),
    ];
    let mut seen = 0;
    let all = sources(&root().join("crates"));
    for (path, text) in all.iter().filter(|(path, _)| path.components().any(|part| part.as_os_str() == "src"))
    {
        for (word, places) in rules {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let found = code.filter(|line| line.contains(word)).count();
            let allowed = places.iter().any(|place| path.ends_with(place));
            assert!(found == 0 || allowed, "{} contains {word}", path.display());
            seen += found;
        }
    }
    assert!(seen >= 3, "the search finds what is allowed");
}

#[test]
fn planning_opens_nothing() {
    let all = sources(&root().join("crates/spot/src"));
    for (path, text) in all.iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        for word in ["std::fs", "std::net", "std::thread", "std::process", "std::env", "std::time"] {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn the_floor_of_bytes_knows_no_machine_learning() {
    for (path, text) in sources(&root().join("crates/comm/src")) {
        for word in ["gradient", "epoch", "learning rate", "dunlin::"] {
            let text = text.to_lowercase().replace("unix_epoch", "1970");
            assert!(!text.contains(word), "{} speaks of {word}", path.display());
        }
    }
}
