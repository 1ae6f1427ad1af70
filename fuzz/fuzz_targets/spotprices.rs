//! Any bytes into the reader of prices, and what it accepts into means.
#![no_main]

use dunlin_spot::market::PriceSeries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(series) = PriceSeries::read(bytes, "fuzz") else { return };
    for zone in series.zones() {
        let _ = series.mean(zone, 60.0, 120.0);
    }
});
