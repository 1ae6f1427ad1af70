//! Data for tests of models that take rows of features.

use dunlin::data::{Block, Contents, Data, DenseRows, Kind, Shape, SparseRows};
use dunlin::serial::share;

/// `rows` as a block stores them: every value, or those that are not zero.
pub(crate) fn contents(rows: &[Vec<f32>], dense: bool) -> Contents {
    let classes = vec![0; rows.len()];
    if dense {
        return Contents::Dense(DenseRows {
            width: rows[0].len(),
            values: rows.concat(),
            classes,
            targets: Vec::new(),
        });
    }
    let mut sparse = SparseRows { offsets: vec![0], classes, ..SparseRows::default() };
    for row in rows {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            sparse.columns.push(column as u32);
            sparse.values.push(*value);
        }
        sparse.offsets.push(sparse.columns.len() as u32);
    }
    Contents::Sparse(sparse)
}

/// `rows` cut into `blocks` blocks, of data whose labels are `classes`.
pub(crate) fn data(rows: &[Vec<f32>], blocks: usize, dense: bool, classes: &[i64]) -> Data {
    let blocks = (0..blocks).map(|id| {
        let range = share(rows.len(), blocks, id);
        let contents = contents(&rows[range.clone()], dense);
        Block { id: id as u32, first_row: range.start, end_row: range.end, contents }
    });
    let shape = Shape {
        kind: Kind::Labelled,
        rows: rows.len(),
        columns: rows[0].len(),
        entries: rows.len() * rows[0].len(),
        samples: rows.len(),
        classes: classes.to_vec(),
        mean_target: 0.0,
        min_target: 0.0,
        max_target: 0.0,
    };
    Data { shape, names: Default::default(), blocks: blocks.collect() }
}
