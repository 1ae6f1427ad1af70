//! The beginning of a run and its end: what it goes on from, what is said of it, what came out.

use super::synchronise::Gathered;
use super::{Worker, is_spread};
use crate::algorithm::{Algorithm, StrategyKind, Sums};
use crate::channel::CONTROL;
use crate::checkpoint::{Found, LaneState, Position};
use crate::event::{EPOCHS_USED_UP, Event, Outcome, peak_rss_mb};
use crate::run::Run;
use crate::saved::{self, TablesFile};
use crate::strategy::rotation::rotates;
use crate::strategy::scheduled;
use crate::strategy::tokens::order;
use crate::table::{Axis, Params, Replica, TableSpec};
use crate::{Error, Result};
use dunlin_comm::{Buffer, Comm, Message};
use std::collections::BTreeMap;

impl<A: Algorithm> Worker<'_, A> {
    /// True if the metric of `--until`, if there is one, is among those that the model has whatever the data are.
    /// Otherwise it takes an evaluation to know: better before the first epoch than after.
    pub(super) fn knows_target(&self) -> bool {
        let Some(until) = &self.run.stop.until else { return true };
        let none = Sums::default();
        let test = self.source.test.is_some().then_some(&none);
        self.algorithm.metrics(&none, test, &self.params).iter().any(|(name, _)| *name == until.metric)
    }

    /// # Errors
    /// [`Error::Usage`] if the metric of `--until` is not among `named`.
    pub(super) fn check_target(&self, named: &BTreeMap<String, f64>) -> Result<()> {
        let stop = &self.run.stop;
        let Some(until) = stop.until.as_ref().filter(|until| !named.contains_key(&until.metric)) else {
            return Ok(());
        };
        let names: Vec<String> = named.keys().cloned().collect();
        let near = crate::model::near_name(&until.metric, &names);
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let test = if self.source.test.is_some() { "" } else { "; those of test data need --test" };
        let names = names.join(", ");
        Err(Error::Usage(format!("--until {until}: no such metric here{near} (there is {names}{test})")))
    }

    /// The number of blocks, which has its default from lanes and strategy, if it is another than in the run `then`.
    fn other_blocks(&self, then: &Run) -> String {
        match then.read.blocks == self.run.read.blocks {
            true => String::new(),
            false => format!(" (--blocks {}; now {})", then.read.blocks, self.run.read.blocks),
        }
    }

    pub(super) fn restore(&mut self, found: &Found) -> Result<()> {
        let (then, place) = (&found.manifest.run, found.folder().display());
        let is_scheduled = |run: &Run| run.strategy.kind() == StrategyKind::Scheduled;
        if then.strategy != self.run.strategy && (is_scheduled(then) || is_scheduled(self.run)) {
            return Err(Error::Usage(format!(
                "--resume: --strategy {}; {place} was written under --strategy {}, and what schedulers know is of use to the \
                 same alone; go on with that",
                self.run.strategy, then.strategy
            )));
        }
        if let Some((what, now, then)) = self.run.first_difference(then) {
            return Err(Error::Usage(format!(
                "--resume: {what} of this run: {now}; {place} was written with {then}; go on with the same"
            )));
        }
        self.check_position(found)?;
        if found.manifest.data != self.source.fingerprint {
            return Err(Error::Usage(format!(
                "--resume: {} and how it is read make other training data than those of {place} ({}); go on with the same{}",
                self.run.train,
                then.train,
                self.other_blocks(then)
            )));
        }
        if let Some(plan) = &self.schedule {
            scheduled::add_table(&mut self.params, plan);
        }
        self.restore_tables(found)?;
        let is_cut_so = found.manifest.run.strategy == self.run.strategy;
        for lane in &mut self.lanes {
            let (params, spread) = (&mut self.params, &mut self.found_rows);
            let state = found.load_lane(lane.number, |table, first, bytes| {
                let Some(replica) = params.replicas.get_mut(table) else { return false };
                if rotates(replica.spec.axis) {
                    if is_cut_so {
                        spread.insert((table, first), bytes);
                    }
                    return true;
                }
                replica.set_row_bytes(first, &bytes)
            })?;
            self.found_carries.insert(lane.number, state.carries);
            let ids: Vec<u32> = lane.locals_by_block().map(|(block, _)| block).collect();
            for (index, block) in ids.into_iter().enumerate() {
                let bytes = state.locals.iter().find(|(id, _)| *id == block).map(|(_, bytes)| bytes);
                let local = bytes.and_then(|bytes| postcard::from_bytes(bytes).ok()).flatten();
                let missing = || Error::Damaged(format!("{place}: no local state of block {block}"));
                lane.locals[index] = Some(local.ok_or_else(missing)?);
            }
        }
        self.at = found.manifest.position;
        (self.saved, self.complete) = (self.at, Some(self.at));
        Ok(())
    }

    /// The shared tables, which a run under another strategy may have kept whole, or spread over its lanes.
    fn restore_tables(&mut self, found: &Found) -> Result<()> {
        let (was_spread, is_spread) = (is_spread::<A>(&found.manifest.run), is_spread::<A>(self.run));
        let is_cut_so = was_spread && found.manifest.run.strategy == self.run.strategy;
        found.load_tables(&mut self.params, |axis| !((was_spread || is_spread) && rotates(axis)))?;
        if is_spread && !is_cut_so {
            let specs = self.params.replicas.iter().map(|replica| Replica::new(replica.spec.clone(), false));
            let mut whole = Params { replicas: specs.collect(), lanes: 1 };
            match was_spread {
                true => Self::load_spread(found, self.run.lanes, &mut whole)?,
                false => found.load_tables(&mut whole, rotates)?,
            }
            let turning = whole.replicas.iter().enumerate().filter(|(_, table)| rotates(table.spec.axis));
            for (table, replica) in turning {
                for rows in self.row_blocks.iter().filter(|rows| !rows.is_empty()) {
                    let bytes = replica.row_bytes(rows.clone()).to_vec();
                    self.found_rows.insert((table, rows.start), bytes);
                }
            }
        }
        if was_spread && !is_spread {
            Self::load_spread(found, self.run.lanes, &mut self.params)?;
        }
        self.params.replicas.iter_mut().for_each(Replica::rebase);
        Ok(())
    }

    /// Rows of rotating tables that the lanes of a checkpoint have, brought together.
    fn load_spread(found: &Found, lanes: usize, params: &mut Params) -> Result<()> {
        for lane in 0..lanes {
            found.load_lane(lane, |table, first, bytes| match params.replicas.get_mut(table) {
                Some(replica) if rotates(replica.spec.axis) => replica.set_row_bytes(first, &bytes),
                replica => replica.is_some(),
            })?;
        }
        Ok(())
    }

    /// Is there a way on to where this run is to end?
    fn check_position(&self, found: &Found) -> Result<()> {
        let (at, then, place) = (found.manifest.position, &found.manifest.run, found.folder().display());
        let (last, clocks) = (self.run.stop.epochs, found.manifest.clocks_per_epoch);
        if at.epochs > last || (at.epochs == last && at.clock > 0) {
            return Err(Error::Usage(format!(
                "--resume: --epochs {last}, but {place} is at {} already (of {}); give more --epochs, or start afresh in \
                 another --out",
                at.words(),
                then.stop.epochs
            )));
        }
        if at.clock > 0 && self.run.rotates() {
            return Err(Error::Usage(format!(
                "--resume: --strategy {} goes on at the end of an epoch; {place} was written within one, under \
                 --strategy {}; go on with that",
                self.run.strategy, then.strategy
            )));
        }
        if at.clock > 0 && clocks != self.clocks_per_epoch {
            return Err(Error::Usage(format!(
                "--resume: {} clocks an epoch; {place} was written within an epoch of {clocks}; go on with \
                 --clocks-per-epoch {clocks}",
                self.clocks_per_epoch
            )));
        }
        Ok(())
    }

    pub(super) fn announce(&mut self, resumed: bool, complaints: &[String]) {
        if self.comm.rank() != 0 {
            return;
        }
        let event = Event::Started {
            run: Box::new(self.run.clone()),
            version: env!("CARGO_PKG_VERSION").into(),
            isa: crate::isa::level().word().into(),
            unix_seconds: dunlin_comm::time::unix_seconds(),
            clocks_per_epoch: self.clocks_per_epoch,
            samples: self.source.shape.samples,
            resumed_epochs: if resumed { self.at.epochs } else { 0 },
            resumed_clock: if resumed { self.at.clock } else { 0 },
        };
        self.observer.event(&event);
        for complaint in complaints {
            let at = self.at.words();
            let text = format!("{complaint}; going on from an older checkpoint, of {at}");
            self.observer.event(&Event::Warning { text });
        }
        if let Some(text) = self.warning.take() {
            self.observer.event(&Event::Warning { text });
        }
    }

    /// Rank 0 saves the model, if anybody wants it: of whole tables, or, where these may be larger than a worker, row by row.
    fn save_model(&mut self) -> Result<()> {
        let is_wanted = self.comm.rank() == 0 && self.observer.wants_model();
        if !self.comm.broadcast(0, Message::new(&is_wanted, Buffer::new()))?.head()? {
            return Ok(());
        }
        if is_spread::<A>(self.run) && self.run.is_limited() {
            return self.stream_model();
        }
        for message in self.comm.gather(0, Message::new(&self.example_rows(), Buffer::new()))? {
            for (table, first, bytes) in message.head::<Vec<(u16, u64, Vec<u8>)>>()? {
                if let Some(replica) = self.params.replicas.get_mut(usize::from(table)) {
                    replica.set_row_bytes(first as usize, &bytes);
                }
            }
        }
        let clock = self.clock_of(self.at) + self.measured;
        self.strategy.collect(self.comm, &mut self.params, clock)?;
        match self.comm.rank() {
            0 => self.observer.finished(Some(&self.params), self.source),
            _ => Ok(()),
        }
    }

    /// Writes down the order of visits, if that was asked for.
    fn write_order(&mut self) -> Result<()> {
        let Some(path) = &self.run.log_order else { return Ok(()) };
        let mut visits = Vec::new();
        self.visits.extend(self.strategy.order());
        for message in self.comm.gather(0, order::to_message(&self.visits))? {
            visits.extend(order::from_message(&message)?);
        }
        match self.comm.rank() {
            0 => order::write(path, &self.order_head(), &visits),
            _ => Ok(()),
        }
    }

    /// What an order of visits of this run is of.
    pub(super) fn order_head(&self) -> order::Head<'_> {
        let (lanes, row_blocks, seed) = (self.run.lanes, self.row_blocks.len(), self.run.seed);
        order::Head { lanes, row_blocks, seed, data: &self.source.fingerprint }
    }

    /// The rows of tables on the example axis that this worker has.
    fn example_rows(&self) -> Vec<(u16, u64, Vec<u8>)> {
        self.lanes.iter().flat_map(|lane| LaneState::take_rows(&self.params, lane.rows.clone())).collect()
    }

    /// Gives `take` all rows that are here and nowhere whole: table, first row, numbers with padding. One piece at a time
    /// is copied.
    fn each_spread_rows(
        &mut self,
        mut take: impl FnMut(&mut Comm, u16, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for lane in &self.lanes {
            for (table, first, bytes) in LaneState::take_rows(&self.params, lane.rows.clone()) {
                take(self.comm, table, first, &bytes)?;
            }
            for (table, first, bytes) in self.strategy.spread_rows(lane.number) {
                take(self.comm, table as u16, first as u64, bytes)?;
            }
        }
        Ok(())
    }

    /// Every worker in turn sends rank 0 its rows, piece by piece as it is asked for them, so that no pieces gather; they go
    /// straight into the file.
    fn stream_model(&mut self) -> Result<()> {
        if self.comm.rank() > 0 {
            let turn = "its turn to hand over its rows of the model";
            self.each_spread_rows(|comm, table, first, bytes| {
                comm.recv(CONTROL, Some(0), turn)?;
                Ok(comm.send(0, CONTROL, Message::new(&Some((table, first)), Buffer::from(bytes)))?)
            })?;
            self.comm.recv(CONTROL, Some(0), turn)?;
            let end: Option<(u16, u64)> = None;
            return Ok(self.comm.send(0, CONTROL, Message::new(&end, Buffer::new()))?);
        }
        let out = self.run.out.as_ref().map(|out| out.join(saved::MODEL));
        let specs: Vec<&TableSpec> = self.params.replicas.iter().map(|replica| &replica.spec).collect();
        let mut file = out.map(|path| TablesFile::create(&path, &specs)).transpose()?;
        let mut write = |table: u16, first: u64, bytes: &[u8]| match &mut file {
            Some(file) => file.write_rows(usize::from(table), first as usize, bytes),
            None => Ok(()),
        };
        for (table, replica) in self.params.replicas.iter().enumerate() {
            if replica.spec.axis == Axis::Whole {
                write(table as u16, 0, replica.row_bytes(0..replica.spec.rows))?;
            }
        }
        self.each_spread_rows(|_, table, first, bytes| write(table, first, bytes))?;
        for worker in 1..self.run.workers {
            loop {
                self.comm.send(worker, CONTROL, Message::default())?;
                let message = self.comm.recv(CONTROL, Some(worker), "the next rows of the model")?;
                let Some((table, first)) = message.head::<Option<(u16, u64)>>()? else { break };
                write(table, first, message.body.bytes())?;
            }
        }
        file.map_or(Ok(()), TablesFile::finish)?;
        self.observer.finished(None, self.source)
    }

    /// Peak memory of every process, in MB.
    fn peaks(&mut self) -> Result<Vec<f64>> {
        let is_simulated = self.comm.is_simulated();
        let own = (self.times.process, if is_simulated { 0.0 } else { peak_rss_mb() });
        let mut processes = BTreeMap::<u32, f64>::new();
        for message in self.comm.all_gather(Message::new(&own, Buffer::new()))? {
            processes.extend([message.head::<(u32, f64)>()?]);
        }
        if is_simulated {
            processes.insert(0, peak_rss_mb());
        }
        Ok(processes.into_values().collect())
    }

    /// Why a run with these metrics has ended, if its epochs are done: did the model want more?
    pub(super) fn ended_by_epochs(&self, metrics: &[(&'static str, f64)]) -> &'static str {
        match (self.algorithm.converged(metrics), self.algorithm.can_converge(metrics)) {
            (true, _) => "converged",
            (false, true) => EPOCHS_USED_UP,
            (false, false) => "epochs",
        }
    }

    /// Saves the model, and says what came out; `reason` is "epochs" if all are done.
    pub(super) fn finish(mut self, reason: String) -> Result<Outcome> {
        self.halt.close();
        self.settle_checkpoint()?;
        // Nothing has changed since the last evaluation; there is none if the run was over before it began.
        let metrics = match self.metrics.take() {
            Some(metrics) => metrics,
            None => {
                let metrics = self.evaluate()?;
                self.by_epochs = self.ended_by_epochs(&metrics);
                metrics.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
            }
        };
        let reason = if reason == "epochs" { self.by_epochs.to_string() } else { reason };
        let Gathered { report, bytes_sent, .. } = self.gather_times()?;
        self.save_model()?;
        self.write_order()?;
        let peak_rss_mb_per_process = self.peaks()?;
        let Position { epochs, clock, seconds, evaluation_seconds } = self.at;
        let passes = epochs as f64 + clock as f64 / self.clocks_per_epoch as f64;
        let outcome = Outcome {
            reason: reason.clone(),
            epochs,
            clock,
            seconds,
            evaluation_seconds,
            blocked_seconds: report.blocked_seconds,
            metrics,
            bytes_sent,
            samples_per_second: passes * self.source.shape.samples as f64 / seconds.max(1e-9),
            clocks_per_epoch: self.clocks_per_epoch,
            peak_rss_mb: peak_rss_mb_per_process.iter().sum(),
            peak_rss_mb_per_process,
            report,
        };
        if self.comm.rank() == 0 {
            self.observer.event(&Event::Ended { reason, outcome: Box::new(outcome.clone()) });
        }
        self.comm.barrier()?;
        Ok(outcome)
    }
}
