//! The published plans and the published price list against the reference table of their replay.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_spot::account::Account;
use dunlin_spot::cost::{Change, CostModel};
use dunlin_spot::profile::Profile;
use dunlin_spot::{Interval, Layout};
use serde_json::Value;

fn shared(path: &str) -> Option<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/spot");
    let found = std::fs::read_to_string(root.join(path)).ok();
    if found.is_none() {
        println!("../shared/data/spot/{path} is absent: the test on it is left out");
    }
    found
}

fn layout(value: &Value) -> Layout {
    Layout::new(value[0].as_u64().unwrap() as u32, value[1].as_u64().unwrap() as u32)
}

fn interval(value: &Value) -> Interval {
    let at = |i: usize| value[i].as_u64().unwrap() as u32;
    Interval { before: at(0), added: at(1), removed: at(2) }
}

fn golden() -> Vec<(&'static str, Vec<Value>)> {
    let files = [("resnet152", "resnet152_gbs2048_mbs32"), ("bert", "bert_p3_gbs1024_mbs8"), ("gpt-1.5b", "gpt-1.5b_p3_gbs128_mbs1")];
    let read = files.iter().filter_map(|(name, file)| {
        let text = shared(&format!("parcae/liveput_res/{file}.json"))?;
        Some((*name, serde_json::from_str::<Vec<Value>>(&text).unwrap()))
    });
    read.collect()
}

fn reference(model: &str, policy: &str) -> f64 {
    let text = shared("derived/parcae_replay_reference.csv").unwrap();
    let row = text.lines().find(|line| line.starts_with(&format!("{model},{policy},full,"))).unwrap();
    row.split(',').nth(3).unwrap().parse().unwrap()
}

#[test]
fn the_worked_examples_of_the_price_list_are_met() {
    let Some(text) = shared("derived/parcae_cost_constants.json") else { return };
    let constants: Value = serde_json::from_str(&text).unwrap();
    let mut seen = 0;
    for (model, entry) in constants.as_object().unwrap().iter().filter(|(_, entry)| entry["examples"].is_object()) {
        let costs = CostModel::new(&Profile::built_in(model).unwrap(), 64);
        for (name, times) in entry["examples"].as_object().unwrap() {
            let (pipelines, stages) = name.split_once('x').unwrap();
            let layout = Layout::new(pipelines.parse().unwrap(), stages.parse().unwrap());
            for (key, ours) in [
                ("intra_ms", costs.intra_stage_ms(layout)),
                ("restart_remove_ms", costs.restart_ms(layout, Change::Remove)),
                ("restart_add_ms", costs.restart_ms(layout, Change::Add)),
            ] {
                let theirs = times[key].as_f64().unwrap();
                assert!((ours - theirs).abs() < 1.0, "{model} {name} {key}: {ours} ms, published {theirs} ms");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 78);
}

#[test]
fn the_fastest_layout_is_the_published_one_in_every_entry() {
    for (model, entries) in golden() {
        let profile = Profile::built_in(model).unwrap();
        for (minute, entry) in entries.iter().enumerate() {
            let there = interval(&entry["interval"]).after();
            assert_eq!(profile.best(there), layout(&entry["throughut-opt"]), "{model}, minute {minute}");
        }
    }
}

#[test]
fn the_published_plans_come_to_the_reference_table() {
    for (model, entries) in golden() {
        let profile = Profile::built_in(model).unwrap();
        let costs = CostModel::new(&profile, 64);
        for plan in ["liveput-truth", "liveput-predict"] {
            let mut account = Account::new(&costs, 60.0);
            let samples: f64 = entries
                .iter()
                .map(|entry| account.migrate(interval(&entry["interval"]), layout(&entry[plan])).samples)
                .sum();
            let rate = samples / (60.0 * entries.len() as f64);
            let wanted = reference(model, plan);
            assert!((rate / wanted - 1.0).abs() < 0.003, "{model} {plan}: {rate:.3} samples/s, reference {wanted:.3}");
        }
    }
}
