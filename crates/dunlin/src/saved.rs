//! Tables on disk, in safetensors: readable without us.

use crate::table::{Element, Params, Replica, Storage, Type};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The tables that `keep` picks, each as a (rows, width) tensor under its name.
///
/// # Errors
/// [`Error::Damaged`] if a table cannot be written down; a bug of ours.
pub fn to_bytes(params: &Params, keep: impl Fn(&Replica) -> bool) -> Result<Vec<u8>> {
    let kept = params.replicas.iter().filter(|replica| keep(replica));
    let tensors = kept.map(|replica| (replica.spec.name.as_str(), Tensor::of(replica)));
    safetensors::serialize(tensors, None).map_err(|e| broken("model", e))
}

/// A table as a tensor. Serialising copies it once, and once more only where rows are padded: a checkpoint holds
/// training up for as long.
struct Tensor<'a> {
    replica: &'a Replica,
    shape: [usize; 2],
}

impl Tensor<'_> {
    fn of(replica: &Replica) -> Tensor<'_> {
        Tensor { replica, shape: [replica.spec.rows, replica.spec.width] }
    }
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        dtype(self.replica.spec.element)
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        unpadded(self.replica)
    }

    fn data_len(&self) -> usize {
        self.shape[0] * self.shape[1] * self.replica.spec.element.bytes()
    }
}

/// Sets the tables of `params` that `keep` picks from bytes that [`to_bytes`] made.
///
/// # Errors
/// [`Error::Damaged`] naming `place` and the table if one is missing or has another shape or type.
pub fn from_bytes(
    bytes: &[u8],
    place: &str,
    params: &mut Params,
    keep: impl Fn(&Replica) -> bool,
) -> Result<()> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| broken(place, e))?;
    for replica in params.replicas.iter_mut().filter(|replica| keep(replica)) {
        let (name, wanted) = (replica.spec.name.clone(), [replica.spec.rows, replica.spec.width]);
        let tensor = tensors.tensor(&name).map_err(|e| broken(&format!("{place}: table {name}"), e))?;
        if tensor.shape() != wanted || tensor.dtype() != dtype(replica.spec.element) {
            let found = (tensor.dtype(), tensor.shape());
            return Err(Error::Damaged(format!(
                "{place}: table {name} is {found:?}, this run has {wanted:?}"
            )));
        }
        match replica.spec.element {
            Type::F32 => {
                padded::<f32>(replica, tensor.data(), |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            Type::I32 => {
                padded::<i32>(replica, tensor.data(), |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            Type::F64 => padded::<f64>(replica, tensor.data(), |b| {
                f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
            }),
        }
    }
    Ok(())
}

fn broken(what: &str, error: safetensors::SafeTensorError) -> Error {
    Error::Damaged(format!("{what}: {error}"))
}

fn dtype(element: Type) -> Dtype {
    match element {
        Type::F32 => Dtype::F32,
        Type::F64 => Dtype::F64,
        Type::I32 => Dtype::I32,
    }
}

fn unpadded(replica: &Replica) -> Cow<'_, [u8]> {
    fn rows<'a, T: Element>(values: &'a [T], replica: &Replica) -> Cow<'a, [u8]> {
        let (stride, width) = (replica.spec.stride(), replica.spec.width);
        if stride == width {
            return Cow::Borrowed(bytemuck::cast_slice(values));
        }
        let mut bytes = Vec::with_capacity(replica.spec.rows * width * size_of::<T>());
        values.chunks(stride).for_each(|row| bytes.extend_from_slice(bytemuck::cast_slice(&row[..width])));
        Cow::Owned(bytes)
    }
    match &replica.values {
        Storage::F32(lines) => rows(lines.as_slice(), replica),
        Storage::F64(lines) => rows(lines.as_slice(), replica),
        Storage::I32(lines) => rows(lines.as_slice(), replica),
    }
}

fn padded<T: Element>(replica: &mut Replica, bytes: &[u8], read: impl Fn(&[u8]) -> T) {
    let (stride, width) = (replica.spec.stride(), replica.spec.width);
    let Some(values) = T::slot_mut(&mut replica.values) else { return };
    let rows = values.as_mut_slice().chunks_mut(stride).zip(bytes.chunks(width * size_of::<T>()));
    for (row, bytes) in rows {
        row.iter_mut().zip(bytes.chunks(size_of::<T>())).for_each(|(value, bytes)| *value = read(bytes));
    }
}

/// Writes `bytes` so that `path` holds all of them or what it held before: temporary file, fsync, rename.
///
/// # Errors
/// [`Error::Io`] naming the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.tmp"));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&temporary); // half a file helps nobody
        Error::Io { what: format!("cannot write {}", path.display()), source }
    })
}

/// Makes renames within `folder` last.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}
