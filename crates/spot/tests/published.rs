//! The published plans and the published price list against the reference table of their replay.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use dunlin_spot::account::Account;
use dunlin_spot::cost::{Change, CostModel};
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::replay;
use dunlin_spot::trace::Availability;
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
    reference_of(model, policy, "full")
}

fn reference_of(model: &str, policy: &str, segment: &str) -> f64 {
    let text = shared("derived/parcae_replay_reference.csv").unwrap();
    let row = text.lines().find(|line| line.starts_with(&format!("{model},{policy},{segment},"))).unwrap();
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

/// The segments of the trace: name, first minute, minute after the last.
const SEGMENTS: [(&str, usize, usize); 5] =
    [("full", 0, 683), ("HADP", 330, 390), ("HASP", 90, 150), ("LADP", 480, 540), ("LASP", 600, 660)];

/// The trace that is behind the reference of a model.
fn trace_of(variant: bool, minutes: usize) -> Option<Availability> {
    Some(Availability { interval_ms: 60_000, intervals: p3(variant)?[..minutes].to_vec() })
}

#[test]
fn a_plan_with_the_true_future_is_as_good_as_the_published_one() {
    for (model, variant, minutes) in RUNS {
        let Some(trace) = trace_of(variant, minutes) else { return };
        let costs = CostModel::new(&Profile::built_in(model).unwrap());
        let ours = replay("parcae-truth", &trace, &costs, Notice::None).unwrap();
        let (rate, wanted) = (ours.samples_per_second, reference(model, "liveput-truth"));
        assert!(rate >= 0.995 * wanted, "{model}: {rate:.3} samples/s, reference {wanted:.3}");
        let Some((_, entries)) = golden().into_iter().find(|(name, _)| *name == model) else { continue };
        let theirs = entries.iter().map(|entry| layout(&entry["liveput-truth"]));
        let agree =
            ours.turns.iter().zip(theirs).filter(|(ours, theirs)| ours.spent.layout == *theirs).count();
        if model != "gpt-1.5b" {
            assert!(
                agree as f64 >= 0.99 * entries.len() as f64,
                "{model}: {agree} of {} agree",
                entries.len()
            );
        }
    }
}

#[test]
fn ideal_and_reactive_come_to_the_reference_on_every_segment() {
    for (model, variant, minutes) in RUNS {
        let Some(trace) = trace_of(variant, minutes) else { return };
        let costs = CostModel::new(&Profile::built_in(model).unwrap());
        for (policy, theirs, slack) in [("ideal", "ideal", 6e-5), ("reactive", "tput-opt", 0.005)] {
            let ours = replay(policy, &trace, &costs, Notice::None).unwrap();
            for (segment, from, to) in SEGMENTS {
                let (rate, wanted) = (ours.rate(from..to.min(minutes)), reference_of(model, theirs, segment));
                let off = rate / wanted - 1.0;
                assert!(
                    off.abs() < slack,
                    "{model} {policy} {segment}: {rate:.3} samples/s, reference {wanted:.3}"
                );
            }
        }
    }
}

/// Cells of models and segments in which `policy` beats the published plans by the factor, of 25; the first segment of
/// each model is the full trace.
fn wins(policy: &str, notice: Notice, factor: f64) -> Vec<bool> {
    let mut wins = Vec::new();
    for (model, variant, minutes) in RUNS {
        let Some(trace) = trace_of(variant, minutes) else { return Vec::new() };
        let costs = CostModel::new(&Profile::built_in(model).unwrap());
        let ours = replay(policy, &trace, &costs, notice).unwrap();
        for (segment, from, to) in SEGMENTS {
            let (rate, theirs) =
                (ours.rate(from..to.min(minutes)), reference_of(model, "liveput-predict", segment));
            println!(
                "{model} {segment} {policy} {}: {rate:.3} samples/s, published {theirs:.3}",
                notice.word()
            );
            wins.push(rate > factor * theirs);
        }
    }
    wins
}

#[test]
fn the_published_forecast_is_beaten_on_segments_too() {
    let wins_at_event = wins("dunlin", Notice::AtEvent, 1.0);
    assert!(wins_at_event.chunks(5).all(|model| model[0]), "all full traces: {wins_at_event:?}");
    let cells = wins_at_event.chunks(5).flat_map(|model| &model[1..]).filter(|won| **won).count();
    assert!(wins_at_event.is_empty() || cells >= 18, "{cells} of 20 cells");
    let not_worse = wins("dunlin", Notice::None, 0.998);
    assert!(not_worse.iter().all(|won| *won), "{not_worse:?}");
}

#[test]
fn chances_close_more_than_half_of_the_gap_between_forecast_and_truth() {
    for (notice, least) in [(Notice::None, 0.52), (Notice::AtEvent, 0.97)] {
        let mut shares = Vec::new();
        for (model, variant, minutes) in RUNS {
            let Some(trace) = trace_of(variant, minutes) else { return };
            let costs = CostModel::new(&Profile::built_in(model).unwrap());
            let ours = replay("dunlin", &trace, &costs, notice).unwrap().samples_per_second;
            let (low, high) = (reference(model, "liveput-predict"), reference(model, "liveput-truth"));
            assert!(
                ours > low,
                "{model} {}: {ours:.3} samples/s, the published forecast {low:.3}",
                notice.word()
            );
            shares.push((ours - low) / (high - low));
        }
        let share = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(share >= least, "{}: {share:.3} of the gap, {least} is wanted: {shares:.3?}", notice.word());
    }
}
