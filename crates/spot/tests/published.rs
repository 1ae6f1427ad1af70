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
    let files = [
        ("resnet152", "resnet152_gbs2048_mbs32"),
        ("bert", "bert_p3_gbs1024_mbs8"),
        ("gpt-1.5b", "gpt-1.5b_p3_gbs128_mbs1"),
    ];
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
    for (model, entry) in
        constants.as_object().unwrap().iter().filter(|(_, entry)| entry["examples"].is_object())
    {
        let costs = CostModel::new(&Profile::built_in(model).unwrap());
        for (name, times) in entry["examples"].as_object().unwrap() {
            let (pipelines, stages) = name.split_once('x').unwrap();
            let layout = Layout::new(pipelines.parse().unwrap(), stages.parse().unwrap());
            for (key, ours) in [
                ("intra_ms", costs.intra_stage_ms(layout)),
                ("restart_remove_ms", costs.restart_ms(layout, Change::Remove)),
                ("restart_add_ms", costs.restart_ms(layout, Change::Add)),
            ] {
                let theirs = times[key].as_f64().unwrap();
                assert!(
                    (ours - theirs).abs() < 1.0,
                    "{model} {name} {key}: {ours} ms, published {theirs} ms"
                );
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
        let costs = CostModel::new(&profile);
        for plan in ["liveput-truth", "liveput-predict"] {
            let mut account = Account::new(&costs, 60.0);
            let samples: f64 = entries
                .iter()
                .map(|entry| account.migrate(interval(&entry["interval"]), layout(&entry[plan])).samples)
                .sum();
            let rate = samples / (60.0 * entries.len() as f64);
            let wanted = reference(model, plan);
            assert!(
                (rate / wanted - 1.0).abs() < 0.003,
                "{model} {plan}: {rate:.3} samples/s, reference {wanted:.3}"
            );
        }
    }
}

fn p3(variant: bool) -> Option<Vec<Interval>> {
    let name = if variant { "p3_minutes_min12_variant" } else { "p3_minutes" };
    let text = shared(&format!("derived/{name}.csv"))?;
    let mut before = 0;
    let minutes = text.lines().skip(1).map(|line| {
        let at: Vec<u32> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let minute = Interval { before, added: at[2], removed: at[3] };
        before = minute.after();
        assert_eq!(before, at[1]);
        minute
    });
    Some(minutes.collect())
}

/// The trace and the number of minutes behind the reference of each model.
const RUNS: [(&str, bool, usize); 5] = [
    ("resnet152", true, 683),
    ("vgg19", false, 666),
    ("bert", false, 683),
    ("gpt-1.5b", false, 683),
    ("gpt-6.7b", true, 666),
];

#[test]
fn a_plan_with_the_true_future_is_as_good_as_the_published_one() {
    for (model, variant, minutes) in RUNS {
        let Some(trace) = p3(variant) else { return };
        let trace = &trace[..minutes];
        let costs = CostModel::new(&Profile::built_in(model).unwrap());
        let mut planner = dunlin_spot::plan::Planner::new(&costs, 60.0);
        let mut account = Account::new(&costs, 60.0);
        let golden = golden().into_iter().find(|(name, _)| *name == model);
        let (mut samples, mut agree) = (0.0, 0);
        for minute in 0..minutes {
            let path = &trace[minute..minutes.min(minute + 12)];
            let planned = planner.plan(account.standing(), path);
            samples += account.migrate(trace[minute], planned.layout).samples;
            let theirs = golden.as_ref().map(|(_, entries)| layout(&entries[minute]["liveput-truth"]));
            agree += usize::from(theirs == Some(planned.layout));
        }
        let (rate, wanted) = (samples / (60.0 * minutes as f64), reference(model, "liveput-truth"));
        println!(
            "{model}: {rate:.3} reference {wanted:.3} {:+.3} %, agreement {:.4}",
            100.0 * (rate / wanted - 1.0),
            agree as f64 / minutes as f64
        );
    }
}

#[test]
fn policies() {
    use dunlin_spot::policy::Notice;
    let mut shares: std::collections::BTreeMap<(&str, &str), Vec<f64>> = Default::default();
    for (model, variant, minutes) in RUNS {
        let Some(trace) = p3(variant) else { return };
        let availability =
            dunlin_spot::trace::Availability { interval_ms: 60_000, intervals: trace[..minutes].to_vec() };
        let costs = CostModel::new(&Profile::built_in(model).unwrap());
        for notice in [Notice::None, Notice::AtEvent] {
            for policy in [
                "on-demand",
                "ideal",
                "reactive",
                "reactive-live",
                "persistence",
                "persistence+hysteresis",
                "parcae-truth",
                "dunlin",
            ] {
                let got = dunlin_spot::replay::replay(policy, &availability, &costs, notice).unwrap();
                let (low, high) = (reference(model, "liveput-predict"), reference(model, "liveput-truth"));
                let share = (got.samples_per_second - low) / (high - low);
                shares.entry((notice.word(), got.policy)).or_default().push(share);
                println!(
                    "{model} {} {policy} {:.3} share {share:.3} $ {:.3} relayouts {} {:?}",
                    notice.word(),
                    got.samples_per_second,
                    got.dollars_per_million_samples.unwrap(),
                    got.relayouts,
                    got.hours
                );
            }
        }
    }
    for (key, values) in shares {
        println!("{key:?} {:.3}", values.iter().sum::<f64>() / values.len() as f64);
    }
}
