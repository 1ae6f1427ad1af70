//! The work of a lane, clock by clock: where the strategy, the model and the data meet.

use super::halt::Leave;
use super::source::Lane;
use super::{INTERRUPTED, Worker};
use crate::Result;
use crate::algorithm::{Algorithm, Sums, Unit};
use crate::event::Event;
use crate::serial::{block_order, share};
use crate::strategy::Task;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl<A: Algorithm> Worker<'_, A> {
    /// Works until all lanes of the run have done `until` clocks, or as many as they agree on if there is a reason to
    /// stop before, and the tables are complete; gives the clocks done.
    pub(super) fn run_to(&mut self, until: u64) -> Result<u64> {
        let mut until = until + self.measured;
        loop {
            self.look_around()?;
            let start = self.comm.now();
            let mut bound = until;
            if let Some((_, clock)) = self.clocks.slowest().filter(|(_, clock)| *clock < until) {
                let furthest = self.strategy.furthest(&self.clocks).min(until - 1);
                match self.halt.leave(self.comm, clock, furthest)? {
                    Leave::Free => {}
                    Leave::UpTo(begun) => bound = begun.min(until),
                    Leave::Stop(stop) => (until, bound) = (stop.min(until), stop.min(until)),
                }
            }
            let blocked = self.strategy.blocked_seconds();
            let task = self.strategy.next(self.comm, &mut self.params, &self.clocks, bound)?;
            let waited = self.strategy.blocked_seconds() - blocked;
            self.times.exchange_seconds += self.comm.now().since(start).as_secs_f64() - waited;
            match task {
                Task::Work { lane, row_block, clock } => self.work(lane, row_block, clock)?,
                Task::EndClock(_) if self.pull() => {}
                Task::EndClock(sums) => {
                    self.algorithm.end_clock(&sums, &mut self.params)?;
                    self.params.settle();
                }
                Task::LookAround => {}
                Task::Reached => break,
            }
        }
        self.strategy.drain(self.comm, &mut self.params, until)?;
        self.apply_rest()?;
        Ok(until - self.measured)
    }

    /// Between two clocks: is there a reason to stop, and is a checkpoint complete?
    fn look_around(&mut self) -> Result<()> {
        let is_timed = self.run.stop.seconds.is_some() || self.run.checkpoint.seconds.is_some();
        let is_late = is_timed && self.comm.rank() == 0 && {
            let seconds = self.at.seconds + self.comm.now().since(self.running_since).as_secs_f64();
            let limit = self.run.stop.seconds.is_some_and(|limit| seconds >= limit);
            limit || self.is_checkpoint_due(seconds)
        };
        let is_begun = self.clocks.slowest().is_some_and(|(_, clock)| clock - self.measured >= self.rounds);
        if is_begun && (is_late || INTERRUPTED.load(Ordering::Relaxed)) {
            self.halt.ask(self.comm)?;
        }
        self.look_after_checkpoint()
    }

    /// Clock `begun` of `lane`, as the strategy counts.
    fn work(&mut self, lane: usize, row_block: usize, begun: u64) -> Result<()> {
        let clock = begun - self.measured;
        let start = self.comm.now();
        let rows = match self.row_blocks.len() {
            0 => String::new(),
            _ => format!(" with row block {row_block}"),
        };
        self.comm.describe(&format!("lane {lane}{rows} at clock {clock}"));
        let sums = match clock.checked_sub(self.rounds) {
            None => self.begin(lane, row_block, clock as usize)?,
            Some(_) if self.schedule.is_some() => self.round(lane)?,
            Some(clock) => self.step(lane, row_block, clock as usize, begun)?,
        };
        let worked = self.comm.now().since(start).as_secs_f64();
        self.slow_down(clock, worked);
        let end = self.comm.now();
        let seconds = end.since(start).as_secs_f64();
        self.times.compute_seconds += seconds;
        if clock >= self.rounds {
            self.lanes[lane - self.clocks.hosted.start].pace.seconds += seconds;
        }
        self.strategy.done(self.comm, &mut self.params, lane, begun, sums)?;
        *self.clocks.clock_mut(lane) += 1;
        self.times.exchange_seconds += self.comm.now().since(end).as_secs_f64();
        self.progress(clock);
        Ok(())
    }

    fn begin(&mut self, lane: usize, row_block: usize, clock: usize) -> Result<Sums> {
        let place = lane - self.clocks.hosted.start;
        let visits = self.row_blocks.len().max(1);
        let (round, visit) = (clock / visits, clock % visits);
        let all: Vec<usize> = (0..self.lanes[place].locals.len()).collect();
        self.read_ahead(place, row_block, clock, &all);
        for index in all {
            let (lanes, seed) = (self.run.lanes, self.run.seed);
            let Lane { blocks, locals, cells, .. } = &mut self.lanes[place];
            let block = blocks.get(index * *cells + row_block % *cells)?;
            let unit = Unit {
                block: &block,
                epoch: round,
                clock: round,
                lane,
                lanes,
                row_block,
                visit,
                visits,
                seed,
            };
            let local = locals[index].take();
            locals[index] = Some(self.algorithm.begin(&unit, &mut self.params, local)?);
            let samples = block.samples() as f64;
            drop(block);
            self.charge(samples)?;
        }
        Ok(Sums::default())
    }

    fn step(&mut self, lane: usize, row_block: usize, clock: usize, begun: u64) -> Result<Sums> {
        let place = lane - self.clocks.hosted.start;
        let (epoch, part) = (clock / self.clocks_per_epoch, clock % self.clocks_per_epoch);
        let visits = self.row_blocks.len().max(1);
        let visit = if visits > 1 { part } else { 0 };
        let mut sums = Sums::default();
        let blocks = self.lanes[place].locals.len();
        let order = block_order(self.run.seed, lane, epoch, blocks);
        let due =
            if self.row_blocks.is_empty() { share(blocks, self.clocks_per_epoch, part) } else { 0..blocks };
        self.read_ahead(place, row_block, clock, &order[due.clone()]);
        let last = due.end.wrapping_sub(1);
        for (number, index) in due.clone().zip(order[due].iter().copied()) {
            let (lanes, seed) = (self.run.lanes, self.run.seed);
            let Lane { blocks, locals, cells, .. } = &mut self.lanes[place];
            let block = blocks.get(index * *cells + row_block % *cells)?;
            let unit = Unit { block: &block, epoch, clock, lane, lanes, row_block, visit, visits, seed };
            let Some(local) = &mut locals[index] else { continue };
            self.algorithm.step(&unit, &mut self.params, local, &mut sums)?;
            let samples = block.samples() as f64;
            drop(block);
            self.lanes[place].pace.samples += samples;
            self.charge(samples)?;
            if number < last {
                self.strategy.within(self.comm, &mut self.params, lane, begun)?;
            }
        }
        Ok(sums)
    }

    /// After a unit of work: charges virtual time, and lets this rank's shard answer.
    pub(super) fn charge(&mut self, samples: f64) -> Result<()> {
        if self.comm.is_simulated() {
            self.comm.compute(Duration::from_nanos((samples * self.run.compute_ns) as u64));
        }
        if self.comm.size() > 1 && !self.comm.shares_memory() {
            self.comm.poll()?;
        }
        Ok(())
    }

    fn slow_down(&mut self, clock: u64, worked: f64) {
        let (rank, workers, seed) = (self.comm.rank(), self.run.workers, self.run.seed);
        let extra = |slow: &crate::run::Slow| slow.extra_seconds(rank, workers, clock, worked, seed);
        let extra: f64 = self.run.slow.iter().map(extra).sum();
        if extra > 0.0 {
            self.comm.pause(Duration::from_secs_f64(extra));
        }
    }

    fn progress(&mut self, clock: u64) {
        let now = self.comm.now();
        if self.comm.rank() != 0 || now.since(self.last_progress.0) < Duration::from_millis(200) {
            return;
        }
        let epochs = (clock + 1).saturating_sub(self.rounds) as f64 / self.clocks_per_epoch as f64;
        let seconds = self.at.seconds + now.since(self.running_since).as_secs_f64();
        let rate = (epochs - self.last_progress.1).max(0.0) * self.source.shape.samples as f64
            / now.since(self.last_progress.0).as_secs_f64();
        self.last_progress = (now, epochs);
        self.observer.event(&Event::Progress { seconds, epochs, samples_per_second: rate });
    }
}
