//! The controlled experiment of Oobleck (SOSP 2023) against its published Table 2, and its Table 4, in `../shared/data`.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_spot::baseline::controlled::{Constants, Every, System, average};
use std::path::Path;

/// The file, or none with a loud word if it is not there.
fn shared(path: &str) -> Option<String> {
    let mut found =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|up| up.join("shared/data").join(path));
    match found.find(|path| path.exists()) {
        Some(path) => Some(std::fs::read_to_string(path).unwrap()),
        None => {
            eprintln!("NOT TESTED: no file ../shared/data/{path}");
            None
        }
    }
}

/// What the simulation makes of a published row; none for a row of another kind.
fn simulated(fields: &[&str]) -> Option<f64> {
    let system = match (fields[0], fields[2]) {
        ("Table 2", "Varuna") => System::Varuna,
        ("Table 2", "Bamboo") => System::Bamboo,
        ("Table 2", "Oobleck") => System::Oobleck,
        ("Table 4", _) => System::VarunaFreeCheckpoints,
        _ => return None,
    };
    let every = match fields[1] {
        "failure every 6h" => Every::SixHours,
        "failure every 1h" => Every::Hour,
        _ => Every::TenMinutes,
    };
    let model = match fields[3] {
        "BERT-Large" => "bertLarge",
        "GPT-2" => "gpt_2_ours",
        "GPT-3-medium" => "gpt_3m",
        "GPT-3-2.7b" => "gpt_3_2_7b",
        _ => "gpt_3_6_7b",
    };
    Some(average(system, &Constants::published(system, model).unwrap(), &every.failures()).unwrap())
}

/// How far a row may be off; none where it is known not to be met.
fn limit(fields: &[&str]) -> Option<f64> {
    let large = fields[3].ends_with("7b");
    match (fields[0], fields[2], fields[1]) {
        ("Table 2", "Oobleck", _) => Some(0.002),
        ("Table 2", "Bamboo", _) => Some(0.005),
        ("Table 2", "Varuna", "failure every 6h") => Some(0.022),
        ("Table 2", "Varuna", _) if !large => Some(0.025),
        ("Table 4", _, "failure every 6h") => Some(0.02),
        _ => None,
    }
}

#[test]
fn the_published_averages_are_met() {
    let Some(text) = shared("spot/derived/oobleck_sosp23_published.csv") else { return };
    let mut checked = 0;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (Some(ours), published) = (simulated(&fields), fields[4].parse::<f64>().unwrap()) else {
            continue;
        };
        let error = ours / published - 1.0;
        println!(
            "{:<8} {:<20} {:<32} {:<13} {published:>7.2} {ours:>7.2} {:>+7.2} %",
            fields[0],
            fields[1],
            fields[2],
            fields[3],
            error * 100.0
        );
        if let Some(limit) = limit(&fields) {
            assert!(error.abs() <= limit, "{line}: ours {ours}");
            checked += 1;
        }
    }
    assert_eq!(
        checked,
        15 + 6 + 5 + 6 + 2,
        "Oobleck, Bamboo, Varuna at 6 h, Varuna's small models, free checkpoints at 6 h"
    );
}

#[test]
fn the_failures_are_those_of_the_published_files() {
    for (file, every) in [("1h", Every::Hour), ("10m", Every::TenMinutes)] {
        let Some(text) = shared(&format!("spot/oobleck/{file}.csv")) else { return };
        let rows =
            text.lines().map(|line| line.split(',').collect::<Vec<_>>()).filter(|row| row[1] == "remove");
        let read: Vec<(i64, String)> = rows.map(|row| (row[0].parse().unwrap(), row[2].into())).collect();
        let ours: Vec<(i64, String)> = every
            .failures()
            .iter()
            .map(|failure| ((failure.at_s * 1e3).round() as i64, format!("node{}", failure.machine)))
            .collect();
        assert_eq!(read, ours);
    }
}

#[test]
fn the_embedded_speeds_are_the_shared_ones() {
    let Some(text) = shared("spot/derived/oobleck_artifact_throughput_by_nodes.csv") else { return };
    let embedded = include_str!("../data/oobleck/throughput_by_nodes.csv");
    assert_eq!(embedded.split_once('\n').unwrap().1, text, "below the comment line");
}
