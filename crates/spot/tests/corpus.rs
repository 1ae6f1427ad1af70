//! The corpora of the fuzz targets, and seeded mutations of them, through the readers of traces, profiles and prices: no bytes
//! make them panic.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_rng::{Stream, stream};
use dunlin_spot::cost::{Change, CostModel};
use dunlin_spot::market::PriceSeries;
use dunlin_spot::profile::Profile;
use dunlin_spot::trace::{Content, ReadOptions, Statistics, read};
use std::path::Path;

fn feed_trace(bytes: &[u8]) {
    for options in [ReadOptions::default(), ReadOptions { interval_ms: Some(60_000), capacity: Some(40) }] {
        let Ok(source) = read(bytes, "corpus", &options) else { continue };
        for interval_ms in [420_000, 3_600_000] {
            let Ok(availability) = source.availability(interval_ms) else { continue };
            let facts = Statistics::of(&availability);
            assert!(facts.time_average >= 0.0 && facts.lowest <= facts.highest, "{facts:?}");
            if let Content::Events(trace) = &source.content {
                let whole = trace.segment(0, trace.end_ms()).unwrap();
                assert_eq!(whole.events(), trace.events());
            }
        }
    }
}

fn mutate(rng: &mut Stream, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.below(5) {
        let at = rng.below(bytes.len().max(1));
        match rng.below(4) {
            _ if bytes.is_empty() => bytes.push(rng.next() as u8),
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, b"\n\t ,:;\"-19.e\0\xff"[rng.below(14)]),
        }
    }
}

/// What is accepted has layouts that train and costs that are numbers.
fn feed_profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for model in [None, Some("mine")] {
        let Ok(profile) = Profile::read(text, "corpus", model) else { continue };
        let costs = CostModel::new(&profile);
        for &layout in profile.layouts() {
            let rate = profile.samples_per_second(layout);
            let start = costs.restart_ms(layout, Change::Add) + costs.fetch_ms(layout.stages);
            assert!(
                rate.is_finite() && rate > 0.0 && start.is_finite() && start >= 0.0,
                "{layout}: {rate} {start}"
            );
        }
    }
}

/// What is accepted has prices that are numbers, whenever they are asked for.
fn feed_prices(bytes: &[u8]) {
    let Ok(series) = PriceSeries::read(bytes, "corpus") else { return };
    for zone in series.zones() {
        for from_s in [0.0, 59.5, 14_399.0, 1e12] {
            let mean = series.mean(zone, from_s, from_s + 60.0).unwrap();
            assert!((0.0..=1e6).contains(&mean), "{zone} {from_s}: {mean}");
        }
    }
}

fn no_panic(corpus: &str, files: usize, feed: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(corpus);
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= files, "{names:?}");
    for (at, path) in names.iter().enumerate() {
        let valid = std::fs::read(path).unwrap();
        feed(&valid);
        for seed in 0..500 {
            let mut bytes = valid.clone();
            mutate(&mut stream(seed, "corpus", &[at as u64]), &mut bytes);
            let outcome = std::panic::catch_unwind(|| feed(&bytes));
            assert!(outcome.is_ok(), "{}, seed {seed}: {bytes:?}", path.display());
        }
    }
}

#[test]
fn traces_and_mutations_of_them_make_the_reader_not_panic() {
    no_panic("spottrace", 8, feed_trace);
}

#[test]
fn profiles_and_mutations_of_them_make_the_reader_not_panic() {
    no_panic("spotprofile", 8, feed_profile);
}

#[test]
fn prices_and_mutations_of_them_make_the_reader_not_panic() {
    no_panic("spotprices", 4, feed_prices);
}
