//! Mixing rows: labelled training rows in random order, the same for the same data.

use super::{Block, Contents, Data, DenseRows, SparseRows};
use crate::rng::stream;

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
