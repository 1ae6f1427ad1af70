//! Mixing rows: labelled training rows in random order, the same for the same data.

use super::buckets::Buckets;
use super::scratch::Scratch;
use super::store::Store;
use super::{Block, Contents, Data, DenseRows, SparseRows};
use crate::rng::stream;
use crate::{Error, Result};
use bytemuck::cast_slice;

/// Puts the rows of labelled data in random order, the same every time, in blocks of about the same sizes. Other
/// data stay as they are: their rows have names, or were mixed as pairs.
pub fn mix(mut data: Data) -> Data {
    let ends: Vec<usize> = data.blocks.iter().map(|block| block.end_row).collect();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(data.shape.rows);
    for (number, block) in data.blocks.iter().enumerate() {
        match block.contents {
            Contents::Sparse(_) | Contents::Dense(_) => {
                order.extend((0..block.rows()).map(|row| (number, row)))
            }
            Contents::Pairs(_) | Contents::Ratings(_) | Contents::Documents(_) => return data,
        }
    }
    stream(0, "mix", &[data.shape.rows as u64]).shuffle(&mut order);
    let mut mixed = Vec::with_capacity(data.blocks.len());
    let mut start = 0;
    for (id, end) in ends.into_iter().enumerate() {
        let contents = gather(&data.blocks, &order[start..end]);
        mixed.push(Block { id: id as u32, first_row: start, end_row: end, contents });
        start = end;
    }
    data.blocks = mixed;
    data
}

/// The rows named by (block, row), in that order.
pub(super) fn gather(blocks: &[Block], rows: &[(usize, usize)]) -> Contents {
    let mut sparse = SparseRows { offsets: vec![0], ..SparseRows::default() };
    let mut dense = DenseRows::default();
    for (number, row) in rows.iter().copied() {
        match &blocks[number].contents {
            Contents::Sparse(from) => {
                let entries = from.offsets[row] as usize..from.offsets[row + 1] as usize;
                sparse.columns.extend_from_slice(&from.columns[entries.clone()]);
                sparse.values.extend_from_slice(&from.values[entries]);
                sparse.offsets.push(sparse.columns.len() as u32);
                sparse.classes.push(from.classes[row]);
                sparse.targets.extend(from.targets.get(row));
            }
            Contents::Dense(from) => {
                dense.width = from.width;
                dense.values.extend_from_slice(&from.values[row * from.width..][..from.width]);
                dense.classes.push(from.classes[row]);
                dense.targets.extend(from.targets.get(row));
            }
            Contents::Pairs(_) | Contents::Ratings(_) | Contents::Documents(_) => {}
        }
    }
    if dense.classes.is_empty() { Contents::Sparse(sparse) } else { Contents::Dense(dense) }
}

/// [`mix`] for blocks that are on disk: every row is dealt to its block, whose rows are then put into their places.
///
/// # Errors
/// [`Error::Data`] for more than 2^32 rows; [`Error::Io`] and [`Error::Damaged`] with the place of a scratch file.
pub fn mix_on_disk(outline: Data, store: Store, scratch: &Scratch) -> Result<(Data, Store)> {
    let ends: Vec<usize> = outline.blocks.iter().map(|block| block.end_row).collect();
    let is_dense = match outline.blocks.first().map(|block| &block.contents) {
        Some(Contents::Sparse(_)) => false,
        Some(Contents::Dense(_)) => true,
        _ => return Ok((outline, store)),
    };
    let places = places(outline.shape.rows)?;
    let mut buckets = Buckets::new(scratch, ends.len())?;
    let (mut spare, mut record, mut width, mut has_targets) = (None, Vec::new(), 0, false);
    for number in 0..store.len() {
        let block = store.load(number, spare.take())?;
        for row in 0..block.rows() {
            let place = places[block.first_row + row] as usize;
            let bucket = ends.partition_point(|end| *end <= place);
            let start = if bucket == 0 { 0 } else { ends[bucket - 1] };
            record.clear();
            record.push((place - start) as u32);
            match &block.contents {
                Contents::Sparse(rows) => {
                    let entries = rows.offsets[row] as usize..rows.offsets[row + 1] as usize;
                    has_targets |= !rows.targets.is_empty();
                    record.extend([rows.classes[row], target_bits(&rows.targets, row), entries.len() as u32]);
                    record.extend_from_slice(&rows.columns[entries.clone()]);
                    record.extend_from_slice(cast_slice(&rows.values[entries]));
                }
                Contents::Dense(rows) => {
                    width = rows.width;
                    has_targets |= !rows.targets.is_empty();
                    record.extend([rows.classes[row], target_bits(&rows.targets, row)]);
                    record.extend_from_slice(cast_slice(&rows.values[row * width..][..width]));
                }
                Contents::Pairs(_) | Contents::Ratings(_) | Contents::Documents(_) => {}
            }
            buckets.push(bucket, &record)?;
        }
        spare = Some(block.contents);
    }
    drop((store, spare, places));
    let (mut mixed, mut numbers, mut first_row) = (Store::new(scratch)?, Vec::new(), 0);
    for (bucket, end_row) in ends.into_iter().enumerate() {
        buckets.take(bucket, &mut numbers)?;
        let rows = end_row - first_row;
        let contents = match is_dense {
            true => dense_rows(&numbers, rows, width, has_targets),
            false => sparse_rows(&numbers, rows, has_targets),
        };
        mixed.push(&Block { id: bucket as u32, first_row, end_row, contents })?;
        first_row = end_row;
    }
    let blocks = (0..mixed.len()).map(|at| mixed.stub(at).clone()).collect();
    Ok((Data { blocks, ..outline }, mixed))
}

/// The target of `row`, if rows have any.
fn target_bits(targets: &[f32], row: usize) -> u32 {
    targets.get(row).map_or(0, |target| target.to_bits())
}

/// Where each of `rows` rows comes to be.
fn places(rows: usize) -> Result<Vec<u32>> {
    let count = u32::try_from(rows)
        .map_err(|_| Error::Data(format!("{rows} rows; with --memory at most {} can be mixed", u32::MAX)))?;
    let mut order: Vec<u32> = (0..count).collect();
    stream(0, "mix", &[rows as u64]).shuffle(&mut order);
    let mut places = vec![0; rows];
    order.iter().zip(0..).for_each(|(row, place)| places[*row as usize] = place);
    Ok(places)
}

/// Records of a block's rows, put in order.
fn sparse_rows(records: &[u32], rows: usize, has_targets: bool) -> Contents {
    let (mut starts, mut at) = (vec![0; rows], 0);
    while let Some([place, _, _, length]) = records.get(at..at + 4) {
        starts[*place as usize] = at;
        at += 4 + 2 * *length as usize;
    }
    let entries = (records.len() - 4 * rows) / 2;
    let mut sparse = SparseRows {
        offsets: Vec::with_capacity(rows + 1),
        columns: Vec::with_capacity(entries),
        values: Vec::with_capacity(entries),
        classes: Vec::with_capacity(rows),
        targets: Vec::with_capacity(if has_targets { rows } else { 0 }),
    };
    sparse.offsets.push(0);
    for at in starts {
        let (columns, values) =
            records[at + 4..][..2 * records[at + 3] as usize].split_at(records[at + 3] as usize);
        sparse.columns.extend_from_slice(columns);
        sparse.values.extend_from_slice(cast_slice(values));
        sparse.offsets.push(sparse.columns.len() as u32);
        sparse.classes.push(records[at + 1]);
        if has_targets {
            sparse.targets.push(f32::from_bits(records[at + 2]));
        }
    }
    Contents::Sparse(sparse)
}

/// The same for dense rows of `width` values.
fn dense_rows(records: &[u32], rows: usize, width: usize, has_targets: bool) -> Contents {
    let targets = vec![0.0; if has_targets { rows } else { 0 }];
    let mut dense = DenseRows { width, values: vec![0.0; rows * width], classes: vec![0; rows], targets };
    for record in records.chunks_exact(width + 3) {
        let place = record[0] as usize;
        dense.classes[place] = record[1];
        if has_targets {
            dense.targets[place] = f32::from_bits(record[2]);
        }
        dense.values[place * width..][..width].copy_from_slice(cast_slice(&record[3..]));
    }
    Contents::Dense(dense)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{ReadOptions, read};

    /// Every row is still there, with its class, elsewhere; twice gives the same.
    #[test]
    fn rows_change_places_and_nothing_else() {
        for source in ["sample:digits", "synth:softmax?n=300&columns=50&nonzeros=5&classes=4&seed=2"] {
            let before = read(source, &ReadOptions::default(), None).unwrap();
            let after = mix(before.clone());
            assert_eq!(after, mix(before.clone()));
            assert_eq!((&before.shape, before.blocks.len()), (&after.shape, after.blocks.len()));
            let rows = |data: &Data| {
                let row = |contents: &Contents, at: usize| match contents {
                    Contents::Sparse(rows) => {
                        let range = rows.offsets[at] as usize..rows.offsets[at + 1] as usize;
                        let bits: Vec<u32> = rows.values[range.clone()].iter().map(|v| v.to_bits()).collect();
                        (rows.classes[at], rows.columns[range].to_vec(), bits)
                    }
                    Contents::Dense(rows) => {
                        let values = &rows.values[at * rows.width..][..rows.width];
                        (rows.classes[at], Vec::new(), values.iter().map(|v| v.to_bits()).collect())
                    }
                    _ => unreachable!("labelled"),
                };
                let all =
                    data.blocks.iter().flat_map(|block| (0..block.rows()).map(|at| row(&block.contents, at)));
                all.collect::<Vec<_>>()
            };
            let (mut old, mut new) = (rows(&before), rows(&after));
            assert_ne!(old, new, "{source}: mixed");
            old.sort();
            new.sort();
            assert_eq!(old, new, "{source}");
        }
    }
}
