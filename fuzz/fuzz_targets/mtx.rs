//! Any bytes into the MatrixMarket reader: an error or data, never a panic.
#![no_main]

use dunlin::data::{Format, Kind, ReadOptions, read_from, summary};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let open = || Box::new(std::io::Cursor::new(bytes.to_vec()));
    for kind in [None, Some(Kind::Ratings), Some(Kind::Documents)] {
        let format = Some(Format::MatrixMarket);
        let options = ReadOptions { format, kind, blocks: 4, ..ReadOptions::default() };
        if let Ok((data, _)) = read_from(open(), "fuzz", &options, None) {
            let _ = summary(&data).to_string();
            let _ = read_from(open(), "fuzz", &options, Some(&data));
        }
    }
});
