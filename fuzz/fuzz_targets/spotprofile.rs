//! Any bytes into the reader of profiles, and what it accepts into the price list.
#![no_main]

use dunlin_spot::cost::CostModel;
use dunlin_spot::profile::Profile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(profile) = Profile::read(text, "fuzz", None) {
        let costs = CostModel::new(&profile);
        let _ = costs.fetch_ms(profile.best(32).stages);
    }
});
