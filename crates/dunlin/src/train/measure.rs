//! Measuring: over whole tables, or, where they are spread over the workers, by a lap of row blocks.

use super::source::Lane;
use super::{Worker, is_spread};
use crate::algorithm::{Algorithm, Sums, Unit};
use crate::data::Block;
use crate::strategy::Task;
use crate::strategy::allreduce::reduce_sums;
use crate::{Error, Result};
use dunlin_comm::collective::Node;

/// Measures of training and test data.
type Both = [Sums; 2];

/// What a lane's blocks, training and test, carry from one visit to the next.
struct Seen([Vec<Vec<f32>>; 2]);

impl Seen {
    fn of<L>(lane: &Lane<L>) -> Seen {
        let none = |blocks: usize, cells: usize| vec![Vec::new(); blocks / cells.max(1)];
        Seen([none(lane.blocks.len(), lane.cells), none(lane.test.len(), lane.test_cells)])
    }
}

impl<A: Algorithm> Worker<'_, A> {
    /// The metrics, the same on every rank.
    pub(super) fn evaluate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let survey = self.survey()?;
        let sums = match is_spread::<A>(self.run) {
            true => self.measure_lap()?,
            false => self.measure_whole()?,
        };
        let numbered = |which: usize| -> Vec<(Node, Sums)> {
            let lanes = self.lanes.iter().zip(&sums);
            lanes.map(|(lane, sums)| (Node::leaf(lane.number), sums[which].clone())).collect()
        };
        let mut train = reduce_sums(self.comm, self.run.lanes, numbered(0))?;
        let test = match self.source.test.is_some() {
            true => Some(reduce_sums(self.comm, self.run.lanes, numbered(1))?),
            false => None,
        };
        if !is_spread::<A>(self.run) {
            self.algorithm.measure_rows(&self.params, &mut train);
        }
        if let (Some(sums), Some(model)) = (survey, self.algorithm.scheduled()) {
            let numbers = sums.slice::<f64>(0, model.survey_numbers()).unwrap_or_default();
            model.judge(numbers, &self.params, &mut train);
        }
        Ok(self.algorithm.metrics(&train, test.as_ref(), &self.params))
    }

    /// By hosted lane.
    fn measure_whole(&self) -> Result<Vec<Both>> {
        let measure = |lane: &Lane<A::Local>| {
            let mut sums = Both::default();
            lane.blocks.plan(0..lane.blocks.len());
            for (index, local) in lane.locals.iter().enumerate() {
                let mut seen = Vec::new();
                for cell in 0..lane.cells {
                    let block = lane.blocks.get(index * lane.cells + cell)?;
                    let unit = self.visit(lane, &block, cell, [cell, lane.cells]);
                    let params = &self.params;
                    self.algorithm.measure_visit(&unit, params, local.as_ref(), &mut seen, &mut sums[0]);
                }
            }
            lane.test.plan(0..lane.test.len());
            for at in 0..lane.test.len() {
                self.algorithm.measure(&*lane.test.get(at)?, &self.params, None, &mut sums[1]);
            }
            Ok(sums)
        };
        self.lanes.iter().map(measure).collect()
    }

    /// By hosted lane: row blocks go round once, and nothing is changed.
    fn measure_lap(&mut self) -> Result<Vec<Both>> {
        let mut seen: Vec<Seen> = self.lanes.iter().map(Seen::of).collect();
        let mut sums: Vec<Both> = self.lanes.iter().map(|_| Both::default()).collect();
        let from = self.clocks.slowest().map_or(0, |(_, clock)| clock);
        let until = from + self.row_blocks.len() as u64;
        self.halt.pass(until);
        loop {
            match self.strategy.next(self.comm, &mut self.params, &self.clocks, until)? {
                Task::Work { lane, row_block, clock } => {
                    let place = lane - self.clocks.hosted.start;
                    let visit = (clock - from) as usize;
                    let (lane_seen, lane_sums) = (&mut seen[place], &mut sums[place]);
                    self.measure_with(&self.lanes[place], row_block, visit, lane_seen, lane_sums)?;
                    self.strategy.done(self.comm, &mut self.params, lane, clock, Sums::default())?;
                    *self.clocks.clock_mut(lane) += 1;
                }
                // Nobody is asked whether to stop in between: the lap may be begun.
                Task::LookAround => drop(self.strategy.furthest(&self.clocks)),
                Task::EndClock(_) => return Err(Error::Usage("measures by lap need row blocks".into())),
                Task::Reached => break,
            }
        }
        self.measured += self.row_blocks.len() as u64;
        self.strategy.drain(self.comm, &mut self.params, until)?;
        Ok(sums)
    }

    /// All blocks of `lane`, training and test, with the rows of `row_block`.
    fn measure_with(
        &self,
        lane: &Lane<A::Local>,
        row_block: usize,
        visit: usize,
        Seen(seen): &mut Seen,
        [on_train, on_test]: &mut Both,
    ) -> Result<()> {
        let visits = self.row_blocks.len();
        let [seen_in_train, seen_in_test] = seen;
        lane.blocks.plan((0..lane.locals.len()).map(|index| index * lane.cells + row_block % lane.cells));
        for (index, (local, seen)) in lane.locals.iter().zip(seen_in_train).enumerate() {
            let block = lane.blocks.get(index * lane.cells + row_block % lane.cells)?;
            let unit = self.visit(lane, &block, row_block, [visit, visits]);
            self.algorithm.measure_visit(&unit, &self.params, local.as_ref(), seen, on_train);
        }
        for (index, seen) in seen_in_test.iter_mut().enumerate() {
            let block = lane.test.get(index * lane.test_cells + row_block % lane.test_cells)?;
            let unit = self.visit(lane, &block, row_block, [visit, visits]);
            self.algorithm.measure_visit(&unit, &self.params, None, seen, on_test);
        }
        // Every lane meets every row block once a lap, so that all rows are counted once.
        if row_block * self.run.lanes / visits == lane.number {
            self.algorithm.measure_rows(&self.params, on_train);
        }
        Ok(())
    }

    /// A unit of measuring; `visit` is its number and that of all.
    fn visit<'b>(
        &self,
        lane: &Lane<A::Local>,
        block: &'b Block,
        row_block: usize,
        [visit, visits]: [usize; 2],
    ) -> Unit<'b> {
        Unit {
            block,
            epoch: self.at.epochs,
            clock: self.at.clock,
            lane: lane.number,
            lanes: self.run.lanes,
            row_block,
            visit,
            visits,
            seed: self.run.seed,
        }
    }
}
