//! Any bytes into the docword reader: an error or data, never a panic.
#![no_main]

use dunlin::data::{Format, ReadOptions, read_from, summary};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let options = ReadOptions { format: Some(Format::Docword), blocks: 4, ..ReadOptions::default() };
    let open = || Box::new(std::io::Cursor::new(bytes.to_vec()));
    if let Ok((data, _)) = read_from(open(), "fuzz", &options, None) {
        let _ = summary(&data).to_string();
        let _ = read_from(open(), "fuzz", &options, Some(&data));
    }
});
