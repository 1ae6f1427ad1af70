//! Before the first round: what the columns of all rows sum up to, and a block's columns, centred and scaled.

use super::columns::Columns;
use super::input::{self, Held, targets};
use super::problem::Scale;
use super::{BLOCKS, Config, Lasso, SQUARES, STATE, TARGET_SUM, moments, scheduled};
use dunlin::{Block, Error, Params, Result, Unit};
use std::ops::Range;

impl Lasso {
    /// The first clock of `begin`: sums.
    ///
    /// # Errors
    /// [`Error::Data`] if the block cannot be used.
    pub(super) fn sum_up(&self, unit: &Unit, params: &mut Params) -> Result<()> {
        let own = self.own(unit.lane);
        input::check(unit.block, own.len())?;
        let mut squares = params.table_mut::<f64>(SQUARES);
        let sums = moments::sums(unit.block, own.len(), self.isa);
        own.clone().zip(&sums).for_each(|(column, sum)| squares.row_mut(column)[0] += sum);
        if self.schedules_columns() {
            scheduled::by_columns::count(unit.block, own.start, own.len(), params);
        }
        let mut state = params.table_mut::<f64>(STATE);
        let sum: f64 = targets(unit.block).iter().copied().flatten().map(|target| f64::from(*target)).sum();
        state.row_mut(0)[TARGET_SUM] += if self.counts(unit.lane) { sum } else { 0.0 };
        state.row_mut(0)[BLOCKS] += 1.0;
        Ok(())
    }

    /// The second: squares about the means.
    ///
    /// # Errors
    /// [`Error::Usage`] if a lane has several blocks.
    pub(super) fn square_up(&self, unit: &Unit, params: &mut Params) -> Result<()> {
        let blocks = params.table::<f64>(STATE).row(0)[BLOCKS];
        if blocks != unit.lanes as f64 {
            return Err(Error::Usage(format!(
                "lasso: {blocks} blocks for {} lanes; it works on all rows of a lane together: leave --blocks away",
                unit.lanes
            )));
        }
        let own = self.own(unit.lane);
        let centres: Vec<f64> = own.clone().map(|column| self.scale(params, column).centre).collect();
        let (targets, centre) = (targets(unit.block).unwrap_or_default(), self.target_centre(params));
        let mut squares = params.table_mut::<f64>(SQUARES);
        let sums = moments::squares(unit.block, &centres, self.isa);
        own.clone().zip(&sums).for_each(|(column, sum)| squares.row_mut(column)[1] += sum);
        let sums = moments::with_targets(unit.block, targets, centre, own.len(), self.isa);
        own.zip(&sums).for_each(|(column, sum)| squares.row_mut(column)[2] += sum);
        if self.schedules_columns() && unit.lane == 0 {
            scheduled::by_columns::start(&self.centred(targets, params), params);
        }
        Ok(())
    }

    /// Centre and unit of a column, once the sums of all lanes are there.
    pub(super) fn scale(&self, params: &Params, column: usize) -> Scale {
        let Config { intercept, standardise, .. } = self.config;
        let row = params.table::<f64>(SQUARES).row(column);
        Scale::new(self.rows, row[0], row[1], intercept, standardise)
    }

    /// The same of all.
    pub(super) fn scales(&self, params: &Params) -> Vec<Scale> {
        let Config { intercept, standardise, .. } = self.config;
        let squares = params.table::<f64>(SQUARES);
        let scale = |column: usize| {
            let row = squares.row(column);
            Scale::new(self.rows, row[0], row[1], intercept, standardise)
        };
        (0..self.width).map(scale).collect()
    }

    /// What is taken off every target.
    pub(super) fn target_centre(&self, params: &Params) -> f64 {
        if !self.config.intercept {
            return 0.0;
        }
        params.table::<f64>(STATE).row(0)[TARGET_SUM] / self.rows.max(1) as f64
    }

    /// Targets without their centre. One that is the mean but for rounding is the mean: where all are alike nothing is left
    /// to explain.
    fn centred(&self, targets: &[f32], params: &Params) -> Vec<f64> {
        let centre = self.target_centre(params);
        let left =
            |target: f64| if (target - centre).abs() <= 1e-13 * centre.abs() { 0.0 } else { target - centre };
        targets.iter().map(|target| left(f64::from(*target))).collect()
    }

    pub(super) fn hold(&self, block: &Block, params: &Params, own: Range<usize>) -> Result<Held> {
        let scales: Vec<Scale> = own.clone().map(|column| self.scale(params, column)).collect();
        let columns = Columns::new(block, &scales, self.isa);
        let (Some(columns), Some(targets)) = (columns, targets(block)) else {
            return Err(Error::Data(format!("lasso: block {} has no rows with targets", block.id)));
        };
        let target = self.centred(targets, params);
        let squares = params.table::<f64>(SQUARES);
        let length = |(column, scale): (usize, &Scale)| {
            (squares.row(own.start + column)[1] / self.rows.max(1) as f64).sqrt() * scale.factor
        };
        let lengths = scales.iter().enumerate().map(length).collect();
        Ok(Held { columns, target, all: (0..own.len() as u32).collect(), scales, lengths })
    }
}
