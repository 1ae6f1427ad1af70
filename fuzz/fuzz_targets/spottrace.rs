//! Any bytes into the reader of traces of machines, and what it accepts into the statistics.
#![no_main]

use dunlin_spot::trace::{ReadOptions, Statistics, read};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let options = ReadOptions { interval_ms: Some(60_000), capacity: None };
    let Ok(source) = read(bytes, "fuzz", &options) else { return };
    if let Ok(availability) = source.availability(60_000) {
        let _ = Statistics::of(&availability);
    }
});
