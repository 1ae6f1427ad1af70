//! The modelled systems on the p3 trace with the measured V100 profiles of `../shared/data`: no published number exists
//! for them, so only what must hold is checked: nothing trains faster than the best layout of every minute at no cost
//! (Oobleck may a little, with pipelines that differ), and what a system says of itself holds.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_spot::account::Spent;
use dunlin_spot::baseline::{Bamboo, BambooRules, Oobleck, OobleckRules, Varuna, VarunaRules};
use dunlin_spot::{Interval, Layout};
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

fn minutes(text: &str) -> Vec<Interval> {
    let mut before = 0;
    let rows = text.lines().skip(1).map(|line| {
        let numbers: Vec<u32> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let interval = Interval { before, added: numbers[2], removed: numbers[3] };
        before = interval.after();
        assert_eq!(before, numbers[1], "{line}");
        interval
    });
    rows.collect()
}

/// Samples per second of the trace, and where the time went.
fn replay(trace: &[Interval], mut step: impl FnMut(Interval) -> Spent) -> (f64, [f64; 4]) {
    let (mut samples, mut hours) = (0.0, [0.0; 4]);
    for interval in trace {
        let spent = step(*interval);
        samples += spent.samples;
        let seconds = [spent.useful_s, spent.redone_s, spent.migrating_s, spent.idle_s];
        hours.iter_mut().zip(seconds).for_each(|(sum, seconds)| *sum += seconds / 3600.0);
    }
    (samples / (60.0 * trace.len() as f64), hours)
}

#[test]
fn the_modelled_systems_stay_below_the_ideal() {
    let Some(trace) = shared("spot/derived/p3_minutes.csv") else { return };
    let Some(profile) = shared("spot/derived/parcae_strategy_throughput.csv") else { return };
    let trace = minutes(&trace);
    for (model, batch, parameters, cut_points, overhead) in [
        ("resnet152", 2048.0, 5.95e7, 0, 0.095),
        ("vgg19", 2048.0, 1.4e8, 0, 0.095),
        ("bert", 1024.0, 3.659e8, 24, 0.198),
        ("gpt-1.5b", 128.0, 1.6398e9, 48, 0.198),
        ("gpt-6.7b", 64.0, 7.6786e9, 36, 0.198),
    ] {
        let rows =
            profile.lines().map(|line| line.split(',').collect::<Vec<_>>()).filter(|row| row[0] == model);
        let speeds: Vec<(Layout, f64)> = rows
            .map(|row| {
                (Layout::new(row[3].parse().unwrap(), row[4].parse().unwrap()), row[6].parse().unwrap())
            })
            .collect();
        let fastest = |machines: u32| {
            let fitting = speeds.iter().filter(|(layout, _)| layout.machines() <= machines);
            fitting.map(|(_, speed)| *speed).fold(0.0, f64::max)
        };
        let ideal = trace.iter().map(|minute| fastest(minute.after())).sum::<f64>() / trace.len() as f64;
        let shallowest = speeds.iter().map(|(layout, _)| layout.stages).min().unwrap();
        let mut varuna = Varuna::new(&speeds, batch, VarunaRules::for_model(parameters, cut_points)).unwrap();
        let mut bamboo =
            Bamboo::new(&speeds, batch, BambooRules { overhead, ..BambooRules::default() }).unwrap();
        let mut oobleck =
            Oobleck::new(&speeds, batch, OobleckRules::for_model(parameters, shallowest)).unwrap();
        let results = [
            ("varuna", replay(&trace, |minute| varuna.step(minute, 60.0).0)),
            ("bamboo", replay(&trace, |minute| bamboo.step(minute, 60.0).0)),
            ("oobleck", replay(&trace, |minute| oobleck.step(minute, 60.0).0)),
        ];
        for (name, (rate, hours)) in results {
            println!(
                "{model:<10} ideal {ideal:>9.2} {name:<8} {rate:>9.2} {:.2} of it, hours useful/redone/migrating/idle {hours:.2?}",
                rate / ideal
            );
            let ceiling = if name == "oobleck" { 1.1 } else { 1.0 };
            assert!(rate >= 0.0 && rate <= ceiling * ideal, "{model} {name}: {rate} of {ideal}");
            assert!(
                (hours.iter().sum::<f64>() - trace.len() as f64 / 60.0).abs() < 1e-6,
                "{model} {name}: {hours:?}"
            );
            let fits = (model, name) != ("gpt-6.7b", "bamboo"); // no depth of the profile leaves room there
            assert_eq!(rate > 0.0, fits, "{model} {name}");
        }
    }
}
