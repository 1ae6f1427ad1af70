//! One lane: the plain serial algorithm, in place; nothing is copied and nothing is sent.

use super::{Lanes, Report, Strategy, Task};
use crate::table::Params;
use crate::{Result, Sums};
use dunlin_comm::Comm;

/// The strategy of runs with one lane, whatever was asked for.
#[derive(Debug, Default)]
pub struct Solo {
    ended: Option<Sums>,
}

impl Strategy for Solo {
    fn next(&mut self, _: &mut Comm, _: &mut Params, lanes: &Lanes, until: u64) -> Result<Task> {
        if let Some(sums) = self.ended.take() {
            return Ok(Task::EndClock(sums));
        }
        Ok(match lanes.slowest() {
            Some((lane, clock)) if clock < until => Task::Work { lane, row_block: 0, clock },
            _ => Task::Reached,
        })
    }

    fn done(&mut self, _: &mut Comm, _: &mut Params, _: usize, _: u64, sums: Sums) -> Result<()> {
        self.ended = Some(sums);
        Ok(())
    }

    fn drain(&mut self, _: &mut Comm, _: &mut Params, _: u64) -> Result<()> {
        Ok(())
    }

    fn blocked_seconds(&self) -> f64 {
        0.0
    }

    fn report(&self) -> Report {
        Report::default()
    }
}
