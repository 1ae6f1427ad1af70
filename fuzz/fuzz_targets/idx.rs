//! Any bytes into the IDX reader: two bytes say how long the labels file is (little-endian), then come labels and
//! images.
#![no_main]

use dunlin::data::{ReadOptions, read_idx};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (labels, images) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
    let open = |bytes: &[u8]| Box::new(std::io::Cursor::new(bytes.to_vec()));
    let _ = read_idx(open(images), open(labels), &ReadOptions::default(), None);
});
