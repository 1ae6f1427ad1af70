//! Tables on disk, in safetensors: readable without us.

use crate::table::{Element, Params, Replica, Storage, TableSpec, Type};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::fs::File;
use std::hash::Hasher;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

/// Name of the file of a trained model's tables in its run folder.
pub const MODEL: &str = "model.safetensors";

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

/// A file of tables, the same as [`to_bytes`] makes, written a few rows at a time: for tables that are nowhere whole.
#[derive(Debug)]
pub struct TablesFile {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    /// By table number: its place in the file, unless it is not kept.
    places: Vec<Option<Place>>,
}

/// Where a table is in the file, and how a row of it gets there.
#[derive(Clone, Debug)]
struct Place {
    offset: u64,
    rows: usize,
    bytes: usize,
    padded_bytes: usize,
}

impl TablesFile {
    /// For the tables of `specs` that are saved with a model; rows that are never written are zero.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn create(path: &Path, specs: &[&TableSpec]) -> Result<TablesFile> {
        let mut order: Vec<usize> = (0..specs.len()).filter(|table| specs[*table].saved).collect();
        // In the order of `to_bytes`, which has numbers aligned: wide elements first, then by name.
        order.sort_by_key(|table| {
            let spec = specs[*table];
            (std::cmp::Reverse(dtype(spec.element)), spec.name.as_str())
        });
        let (mut header, mut places, mut end) = (serde_json::Map::new(), vec![None; specs.len()], 0);
        for table in order {
            let (spec, start) = (specs[table], end);
            let (rows, bytes) = (spec.rows, spec.width * spec.element.bytes());
            end += rows * bytes;
            let about = serde_json::json!({
                "dtype": dtype(spec.element), "shape": [rows, spec.width], "data_offsets": [start, end]
            });
            header.insert(spec.name.clone(), about);
            let padded_bytes = spec.bytes_per_row();
            places[table] = Some(Place { offset: start as u64, rows, bytes, padded_bytes });
        }
        let mut text = serde_json::to_vec(&header).map_err(|e| Error::Damaged(e.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let body = 8 + text.len() as u64;
        places.iter_mut().flatten().for_each(|place| place.offset += body);
        let temporary = temporary(path);
        let start = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&(text.len() as u64).to_le_bytes())?;
            file.write_all(&text)?;
            file.set_len(body + end as u64)?;
            Ok(file)
        };
        let file = start().map_err(cannot_write(path))?;
        Ok(TablesFile { file, path: path.into(), temporary: temporary.clone(), places })
    }

    /// Sets the rows of `table` from `first` on to `numbers`, which have the table's padding.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path; [`Error::Damaged`] for rows that the table does not have.
    pub fn write_rows(&mut self, table: usize, first: usize, numbers: &[u8]) -> Result<()> {
        let wrong = || Error::Damaged(format!("table {table} has no such rows from {first} on"));
        let Some(place) = self.places.get(table).ok_or_else(wrong)? else { return Ok(()) };
        let rows = numbers.len() / place.padded_bytes;
        if first.checked_add(rows).is_none_or(|end| end > place.rows)
            || !numbers.len().is_multiple_of(place.padded_bytes)
        {
            return Err(wrong());
        }
        let mut bytes = Vec::with_capacity(rows * place.bytes);
        numbers.chunks(place.padded_bytes).for_each(|row| bytes.extend_from_slice(&row[..place.bytes]));
        let write = self
            .file
            .seek(SeekFrom::Start(place.offset + (first * place.bytes) as u64))
            .and_then(|_| self.file.write_all(&bytes));
        write.map_err(cannot_write(&self.path))
    }

    /// The file is complete: takes the place of what was there.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn finish(self) -> Result<()> {
        let end = || {
            self.file.sync_all()?;
            std::fs::rename(&self.temporary, &self.path)?;
            self.path.parent().map_or(Ok(()), sync_folder)
        };
        end().map_err(cannot_write(&self.path))
    }
}

impl Drop for TablesFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary); // gone already once it is complete
    }
}

/// xxh3-64 of `bytes`, in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}

/// The [`checksum`] of a file, of which a piece at a time is in memory.
///
/// # Errors
/// [`Error::Io`] naming the path.
pub fn checksum_of_file(path: &Path) -> Result<String> {
    let cannot = || Error::io(format!("cannot read {}", path.display()));
    let mut file = File::open(path).map_err(cannot())?;
    let (mut hasher, mut piece) = (XxHash3_64::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(format!("{:016x}", hasher.finish())),
            Ok(bytes) => hasher.write(&piece[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(cannot()(error)),
        }
    }
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.tmp"))
}

fn cannot_write(path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let what = format!("cannot write {}", path.display());
    move |source| Error::Io { what: what.clone(), source }
}

/// Writes `bytes` so that `path` holds all of them or what it held before: temporary file, fsync, rename.
///
/// # Errors
/// [`Error::Io`] naming the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&temporary); // half a file helps nobody
        cannot_write(path)(source)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Axis;

    #[test]
    fn rows_written_one_by_one_make_the_file_that_is_written_at_once() {
        let specs = [
            TableSpec::new("narrow", 7, 3).element(Type::I32),
            TableSpec::new("working", 9, 2).working(),
            TableSpec::new("wide", 5, 10).element(Type::F64),
            TableSpec::new("rows", 6, 5).axis(Axis::Output),
        ];
        let mut params = Params { replicas: specs.map(|spec| Replica::new(spec, false)).into(), lanes: 1 };
        let mut next = 0;
        for replica in &mut params.replicas {
            let (stride, width) = (replica.spec.stride(), replica.spec.width);
            let bytes = replica.spec.element.bytes();
            for (at, byte) in replica.values.bytes_mut().iter_mut().enumerate() {
                next = (next * 31 + 7) % 61; // small, so that no float is not a number
                let is_padding = (at / bytes) % stride >= width;
                *byte = if is_padding { 0 } else { next as u8 };
            }
        }
        let folder = std::env::temp_dir().join(format!("dunlin-saved-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.safetensors");
        let specs: Vec<&TableSpec> = params.replicas.iter().map(|replica| &replica.spec).collect();
        let mut file = TablesFile::create(&path, &specs).unwrap();
        for (table, replica) in params.replicas.iter().enumerate() {
            for row in (0..replica.spec.rows).rev() {
                file.write_rows(table, row, replica.row_bytes(row..row + 1)).unwrap();
            }
        }
        assert!(file.write_rows(0, 7, params.replicas[0].row_bytes(0..1)).is_err());
        assert!(!path.exists(), "complete or not there");
        file.finish().unwrap();
        assert_eq!(checksum_of_file(&path).unwrap(), checksum(&std::fs::read(&path).unwrap()));
        let mut read = Params {
            replicas: params
                .replicas
                .iter()
                .map(|replica| Replica::new(replica.spec.clone(), false))
                .collect(),
            lanes: 1,
        };
        from_bytes(&std::fs::read(&path).unwrap(), "here", &mut read, |replica| replica.spec.saved).unwrap();
        for (read, written) in read.replicas.iter().zip(&params.replicas).filter(|(read, _)| read.spec.saved)
        {
            assert_eq!(read.values.bytes(), written.values.bytes(), "{}", read.spec.name);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
