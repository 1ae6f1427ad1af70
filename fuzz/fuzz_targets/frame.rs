//! Any bytes into the frame decoder: what decodes encodes to the same bytes.
#![no_main]

use dunlin::comm::wire::decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((frame, used))) = decode(bytes) {
        assert_eq!(frame.encode().ok().as_deref(), Some(&bytes[..used]));
    }
});
