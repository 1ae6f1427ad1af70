//! What a component that nobody uses starts from anew: the row of lane 0 that fits worst, so that the same lanes give
//! the same bits. Lanes whose rows could be seeds at once would have to agree first; one is enough.

use super::Rows;
use dunlin::{Params, Table};

/// The row with the largest error above `least`, and that error.
pub(crate) fn worst(errors: impl Iterator<Item = f64>, least: f64) -> Option<(usize, f64)> {
    let largest = |best: (usize, f64), found: (usize, f64)| if found.1 > best.1 { found } else { best };
    errors.enumerate().reduce(largest).filter(|(_, error)| *error > least)
}

/// A table of (features, 1) that holds the row, and the number in a table of (1, _) that holds its error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    /// Number of the table of the row.
    pub(crate) table: usize,
    /// Number of the table of doubles with its error.
    pub(crate) state: usize,
    /// Where in its row the error stands.
    pub(crate) place: usize,
}

impl Seed {
    /// The error of the row that is there; 0 if none is.
    pub(crate) fn error(self, params: &Params) -> f64 {
        params.table::<f64>(self.state).row(0)[self.place]
    }

    /// Puts row `row` there, with its error.
    pub(crate) fn put(self, params: &mut Params, rows: Rows, row: usize, error: f64) {
        let mut table = params.table_mut::<f32>(self.table);
        (0..table.rows()).for_each(|feature| table.row_mut(feature)[0] = 0.0);
        rows.each(row, |feature, value| table.row_mut(feature)[0] = value);
        params.table_mut::<f64>(self.state).row_mut(0)[self.place] = error;
    }

    /// Takes the row, if there is one; none is left.
    pub(crate) fn take(self, params: &mut Params) -> Option<Vec<f32>> {
        if self.error(params) <= 0.0 {
            return None;
        }
        let table: Table<f32> = params.table(self.table);
        let row = (0..table.rows()).map(|feature| table.row(feature)[0]).collect();
        params.table_mut::<f64>(self.state).row_mut(0)[self.place] = 0.0;
        Some(row)
    }
}
