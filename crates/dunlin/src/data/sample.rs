//! What comes with the program: a small real set of handwritten digits, and made-up ratings and documents.

use super::input::Input;
use super::read::{read_input, read_rows, unknown};
use super::{Data, Notes, ReadOptions};
use crate::Result;

const DIGITS: &[u8] = include_bytes!("../../data/optdigits.train.svm.gz");
const DIGITS_TEST: &[u8] = include_bytes!("../../data/optdigits.test.svm.gz");

/// The sources `sample:NAME`, each with one line about it.
pub const SAMPLES: [(&str, &str); 6] = [
    ("digits", "1,438 handwritten digits of 8 x 8 pixels, ten classes (UCI optdigits, CC BY 4.0)"),
    ("digits-test", "359 more of them"),
    ("ratings", "made up: 50,000 ratings by 1,000 users of 500 items"),
    ("ratings-test", "5,000 more of them"),
    ("documents", "made up: 1,000 documents on 10 topics"),
    ("documents-test", "100 more of them"),
];

/// Reads the sample called `name`.
///
/// # Errors
/// [`crate::Error::Usage`] if there is none; [`crate::Error::Data`] if it is of another kind than is wanted.
pub(super) fn read(name: &str, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let digits = |bytes: &'static [u8]| {
        let mut input = Input::new(&format!("sample:{name}.svm"), Box::new(bytes))?;
        read_input(&mut input, options, like)
    };
    match name {
        "digits" => digits(DIGITS),
        "digits-test" => digits(DIGITS_TEST),
        "ratings" => read_rows("synth:mf", options, like),
        "ratings-test" => read_rows("synth:mf?n=5000&part=test", options, like),
        "documents" => read_rows("synth:lda", options, like),
        "documents-test" => read_rows("synth:lda?docs=100&part=test", options, like),
        _ => Err(unknown("sample", name, &SAMPLES.map(|(name, _)| name))),
    }
}
