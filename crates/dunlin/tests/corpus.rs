//! The corpora of the fuzz targets, and seeded mutations of them, through the same readers: no bytes make them panic.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin::comm::wire::decode;
use dunlin::data::{Format, Kind, ReadOptions, read_from, read_idx, summary};
use dunlin::rng::{Stream, stream};
use std::path::Path;

fn feed(target: &str, bytes: &[u8]) {
    let open = |bytes: &[u8]| Box::new(std::io::Cursor::new(bytes.to_vec()));
    match target {
        "frame" => {
            if let Ok(Some((frame, used))) = decode(bytes) {
                assert_eq!(frame.encode().ok().as_deref(), Some(&bytes[..used]));
            }
        }
        "idx" => {
            let Some((length, rest)) = bytes.split_first_chunk() else { return };
            let (labels, images) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
            let _ = read_idx(open(images), open(labels), &ReadOptions::default(), None);
        }
        format => {
            let format = Some(Format::from_name(format).unwrap_or_else(|error| panic!("{error}")));
            // The kind matters to formats that hold what the model asks for.
            for kind in [None, Some(Kind::Ratings), Some(Kind::Documents)] {
                let options = ReadOptions { format, kind, blocks: 4, ..ReadOptions::default() };
                if let Ok((data, _)) = read_from(open(bytes), "corpus", &options, None) {
                    assert!(!summary(&data).to_string().is_empty());
                    let _ = read_from(open(bytes), "corpus", &options, Some(&data));
                }
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

#[test]
fn the_corpora_and_mutations_of_them_make_no_reader_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut files = 0;
    for target in ["svmlight", "ratings", "docword", "csv", "mtx", "idx", "frame"] {
        let mut names: Vec<_> =
            std::fs::read_dir(folder.join(target)).unwrap().map(|file| file.unwrap().path()).collect();
        names.sort();
        for (at, path) in names.iter().enumerate() {
            let valid = std::fs::read(path).unwrap();
            feed(target, &valid);
            for seed in 0..500 {
                let mut bytes = valid.clone();
                mutate(&mut stream(seed, target, &[at as u64]), &mut bytes);
                let outcome = std::panic::catch_unwind(|| feed(target, &bytes));
                assert!(outcome.is_ok(), "{}, seed {seed}: {bytes:?}", path.display());
            }
        }
        files += names.len();
        assert!(!names.is_empty(), "no corpus for {target}");
    }
    assert!(files >= 15, "{files} files");
}
