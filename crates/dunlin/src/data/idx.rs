//! The IDX format of MNIST: big-endian sizes, then bytes. Images and labels are two files.
//!
//! ```text
//! images | 0 | 0 | 0x08 | dims (1) | dims x size (4 each) | bytes, one a pixel |
//! labels | 0 | 0 | 0x08 |    1     |       size (4)       | bytes, one a label |
//! ```
//! Pixels are scaled to [0, 1]. Limits: 4 sizes, 2^26 pixels an image.

use super::input::{Input, bare_name, find_packed};
use super::labelled::{Labels, Rows};
use super::{Data, Names, Notes, ReadOptions};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// The most bytes of one image.
const MOST_PIXELS: u64 = 1 << 26;

/// True for the first bytes of an IDX file of bytes.
pub(super) fn looks_like(head: &[u8]) -> bool {
    matches!(head, [0, 0, 0x08, 1..=4, ..])
}

/// The images file of a folder: the training images, or the test images if `test`.
pub(super) fn images_in(folder: &Path, test: bool) -> Option<PathBuf> {
    let names: &[&str] = if test { &["t10k", "test"] } else { &["train"] };
    let styles = ["images-idx3-ubyte", "images.idx3-ubyte"];
    names
        .iter()
        .find_map(|name| styles.iter().find_map(|style| find_packed(&folder.join(format!("{name}-{style}")))))
}

/// The labels file that belongs to an images file.
fn labels_of(images: &str) -> Option<PathBuf> {
    let name = bare_name(images);
    let other = if name.contains("images-idx") {
        name.replace("images-idx3", "labels-idx1")
    } else if name.contains("images.idx") {
        name.replace("images.idx3", "labels.idx1")
    } else {
        name.replace("images", "labels")
    };
    let folder = Path::new(images).parent()?;
    if other == name { None } else { find_packed(&folder.join(other)) }
}

/// Reads images with their labels, from the labels file beside them.
///
/// # Errors
/// [`Error::Data`] if sizes do not fit, or a file is missing or too short.
pub(super) fn read(input: &mut Input, options: &ReadOptions, like: Option<&Data>) -> Result<(Data, Notes)> {
    let Some(path) = labels_of(input.name()) else {
        let wanted = "a file named like it with labels-idx1 for images-idx3 must lie beside it";
        return Err(input.whole_fault(format!("no labels for these images; {wanted}")));
    };
    let mut labels = Input::open(&path.to_string_lossy())?;
    read_pair(input, &mut labels, options, like)
}

/// Reads images and labels.
///
/// # Errors
/// As [`read`].
pub(super) fn read_pair(
    images: &mut Input,
    labels: &mut Input,
    options: &ReadOptions,
    like: Option<&Data>,
) -> Result<(Data, Notes)> {
    let (sizes, label_sizes) = (sizes(images)?, sizes(labels)?);
    let (count, pixels) = (sizes[0], sizes[1..].iter().try_fold(1u64, |all, size| all.checked_mul(*size)));
    let Some(pixels) = pixels.filter(|pixels| (1..=MOST_PIXELS).contains(pixels)) else {
        return Err(
            images.whole_fault(format!("images of {:?} pixels; 1 to {MOST_PIXELS} an image", &sizes[1..]))
        );
    };
    if label_sizes != [count] {
        let (images, labels) = (images.name(), labels.name());
        return Err(Error::Data(format!("{labels}: sizes {label_sizes:?}; {images} has {count} images")));
    }
    if let Some(like) = like
        && like.shape.columns as u64 != pixels
    {
        let trained = like.shape.columns;
        return Err(
            images.whole_fault(format!("images of {pixels} pixels; the training data have {trained}"))
        );
    }
    let (mut rows, mut known) = (Rows::new(options, like), Labels::default());
    rows.at_least(pixels as usize);
    let (mut image, mut label) = (vec![0u8; pixels as usize], [0u8]);
    for at in 0..count {
        for (input, bytes) in [(&mut *images, &mut image[..]), (&mut *labels, &mut label[..])] {
            if !input.read_exact(bytes)? {
                return Err(input.whole_fault(format!("the file ends within item {at} of {count}")));
            }
        }
        for (column, byte) in image.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            rows.entry(column as u32, f32::from(*byte) / 255.0);
        }
        rows.end_row(known.position(i64::from(label[0])));
    }
    for input in [&mut *images, &mut *labels] {
        if !input.head(1)?.is_empty() {
            return Err(input.whole_fault(format!("more bytes than its {count} items")));
        }
    }
    rows.finish(images.name(), &known, Names::default(), options, like)
}

/// The sizes in the header; the first is the number of items.
fn sizes(input: &mut Input) -> Result<Vec<u64>> {
    let mut magic = [0; 4];
    if !input.read_exact(&mut magic)? || !looks_like(&magic) {
        return Err(
            input.whole_fault(format!("starts with {magic:02x?}; IDX bytes start with 00 00 08 and 1 to 4"))
        );
    }
    let mut sizes = Vec::new();
    for _ in 0..magic[3] {
        let mut size = [0; 4];
        if !input.read_exact(&mut size)? {
            return Err(input.whole_fault("the file ends within its header"));
        }
        sizes.push(u64::from(u32::from_be_bytes(size)));
    }
    Ok(sizes)
}
