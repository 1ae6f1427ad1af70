//! A small part of `examples/study`: new traces, other costs, other supplies.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_spot::cost::CostModel;
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::{Supply, replay, replay_with};
use dunlin_spot::trace::generate::GENERATORS;
use dunlin_spot::trace::{Availability, ReadOptions, read};

const MINUTES: usize = 180;

fn trace() -> Availability {
    let text: &[u8] = include_bytes!("../data/p3_minutes.csv");
    let whole = read(text, "p3_minutes.csv", &ReadOptions::default()).unwrap().availability(60_000).unwrap();
    whole.segment(0, MINUTES).unwrap()
}

#[test]
fn on_new_traces_it_is_never_much_worse_than_persistence_nor_below_reactive() {
    let like = trace();
    for (model, generator, seed, factor) in [
        ("resnet152", "bootstrap", 101, 1.0),
        ("gpt-1.5b", "bootstrap", 102, 1.0),
        ("gpt-1.5b", "bootstrap", 103, 1.5),
        ("bert", "batched", 104, 1.0),
        ("gpt-6.7b", "zones", 105, 0.5),
    ] {
        let mut profile = Profile::built_in(model).unwrap();
        profile.costs = profile.costs.scaled(factor);
        let costs = CostModel::new(&profile);
        let made = GENERATORS.iter().find(|made| made.name == generator).unwrap();
        let new = made.generate(&like, like.highest(), MINUTES, seed).unwrap().availability(60_000).unwrap();
        for notice in [Notice::None, Notice::AtEvent] {
            let rate = |policy: &str| replay(policy, &new, &costs, notice).unwrap().samples_per_second;
            let (ours, persistence, reactive) = (rate("dunlin"), rate("persistence"), rate("reactive"));
            let what = format!("{model} {generator} seed {seed} costs x {factor} {}", notice.word());
            assert!(ours >= 0.99 * persistence, "{what}: {ours:.3}, persistence {persistence:.3}");
            assert!(ours >= reactive, "{what}: {ours:.3}, reactive {reactive:.3}");
        }
    }
}

#[test]
fn machines_that_stay_train_more_and_cost_their_price() {
    let like = trace().segment(0, 120).unwrap();
    let costs = CostModel::new(&Profile::built_in("gpt-1.5b").unwrap());
    let of = |on_demand: u32, boot_s: f64| {
        replay_with("dunlin", &like, &costs, Notice::None, Supply { on_demand, boot_s }).unwrap()
    };
    let (plain, more, slow) = (of(0, 0.0), of(8, 0.0), of(0, 180.0));
    assert!(more.samples_per_second > plain.samples_per_second);
    assert!(slow.samples_per_second < plain.samples_per_second);
    // The same machines are paid while they boot.
    let dollars =
        |r: &dunlin_spot::replay::Replay| r.dollars_per_million_samples.unwrap() * r.samples_per_second;
    assert!((dollars(&slow) / dollars(&plain) - 1.0).abs() < 1e-9);
    let price = costs.profile().dollars_per_hour;
    let per_second = 8.0 * price.on_demand / 3600.0 * 1e6;
    assert!((dollars(&more) - dollars(&plain) - per_second).abs() < 1e-6 * dollars(&more));
}

#[test]
fn losses_take_machines_in_use_first_and_bad_supplies_are_refused() {
    let like = Availability::from_counts(60_000, &[2, 6, 1, 3, 0]);
    let usable = Supply { on_demand: 0, boot_s: 61.0 }.usable(&like).unwrap();
    // Four boot when five go: the two in use and three of those; the last one is ready a minute later, the two that come boot
    // and go.
    assert_eq!(usable.counts(), [2, 2, 0, 1, 0]);
    for supply in [
        Supply { on_demand: u32::MAX, boot_s: 0.0 },
        Supply { on_demand: 4097, boot_s: 0.0 },
        Supply { on_demand: 0, boot_s: f64::NAN },
        Supply { on_demand: 0, boot_s: -1.0 },
    ] {
        assert!(supply.usable(&like).is_err(), "{supply:?}");
    }
    let costs = CostModel::new(&Profile::built_in("bert").unwrap());
    let many = Availability::from_counts(60_000, &[8000, 8193, 8000]);
    assert!(replay("dunlin", &many, &costs, Notice::None).is_err(), "more than chances are known for");
    let most = Availability::from_counts(60_000, &[8000, 8192, 8000]);
    assert!(replay("parcae", &most, &costs, Notice::None).unwrap().samples_per_second > 0.0);
}
