//! Where all lanes have done the same clock: evaluate, tell, save, decide.

use super::dealer::{Deal, Pace};
use super::{INTERRUPTED, Worker, is_spread};
use crate::algorithm::Algorithm;
use crate::checkpoint::{self, Done, LaneState, Manifest, Position, Writing};
use crate::event::{Event, WorkerTimes, peak_rss_mb};
use crate::run::Until;
use crate::strategy::Report;
use crate::strategy::rotation::rotates;
use crate::table::{Axis, Replica};
use crate::{Error, Result, saved};
use dunlin_comm::{Buffer, Message};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

impl<A: Algorithm> Worker<'_, A> {
    /// All lanes are at `self.at`: evaluates, tells, saves, and says why to end, if so.
    pub(super) fn synchronise(&mut self) -> Result<Option<String>> {
        self.at.seconds += self.comm.now().since(self.running_since).as_secs_f64();
        let mut gathered = self.gather_times()?;
        self.at.seconds = gathered.seconds;
        let paces = std::mem::take(&mut gathered.paces);
        let is_late = self.run.stop.seconds.is_some_and(|limit| self.at.seconds >= limit);
        let is_stopped = gathered.is_interrupted || is_late;
        // Within an epoch all have met to save, or to end: only the end is worth the time of an evaluation.
        let metrics = match self.at.clock == 0 || is_stopped {
            true => Some(self.evaluate_and_tell(gathered)?),
            false => None,
        };
        let decision = match metrics {
            Some(metrics) => self.decide(&metrics, is_stopped)?,
            None => Decision { checkpoint: self.is_checkpoint_due(self.at.seconds), ..Decision::default() },
        };
        if self.comm.rank() == 0 {
            self.observer.check()?;
        }
        let looks = self.comm.rank() == 0 && self.may_rehost() && decision.end.is_none();
        let deal = if looks { self.dealer.look(&paces, &self.clocks.hosting) } else { None };
        let budget = crate::memory::in_words(self.run.memory.unwrap_or(0) as f64);
        if let Some(text) = self.dealer.complaint(&budget) {
            self.observer.event(&Event::Warning { text });
        }
        let decision = Decision { deal, over: self.halt.end_round(), complete: self.complete, ..decision };
        let decision: Decision = self.comm.broadcast(0, Message::new(&decision, Buffer::new()))?.head()?;
        self.halt.is_over(decision.over);
        self.complete = decision.complete;
        if decision.checkpoint {
            self.save()?;
        }
        if let Some(deal) = decision.deal {
            self.rehost(deal)?;
        }
        self.running_since = self.comm.now();
        self.last_progress.0 = self.running_since;
        Ok(decision.end)
    }

    fn evaluate_and_tell(&mut self, gathered: Gathered) -> Result<Vec<(&'static str, f64)>> {
        let start = self.comm.now();
        let metrics = self.evaluate()?;
        self.at.evaluation_seconds += self.comm.now().since(start).as_secs_f64();
        let named: BTreeMap<String, f64> =
            metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        if self.comm.rank() == 0 {
            let Position { epochs, clock, seconds, evaluation_seconds } = self.at;
            let Gathered { workers, report, bytes_sent, .. } = gathered;
            let metrics = named.clone();
            self.observer.event(&Event::Evaluated {
                seconds,
                epochs,
                clock,
                evaluation_seconds,
                metrics,
                workers,
                report,
                bytes_sent,
            });
        }
        self.check_divergence(&named)?;
        self.metrics = Some(named);
        Ok(metrics)
    }

    pub(super) fn gather_times(&mut self) -> Result<Gathered> {
        let mut report = self.strategy.report();
        report.merge(&self.report_before);
        self.times.blocked_seconds = report.blocked_seconds;
        // What the system says of this process is no part of a simulated story, which replays to the byte.
        let rss_mb = if self.comm.is_simulated() { 0.0 } else { peak_rss_mb() };
        self.times.peak_rss_mb = rss_mb;
        (self.times.data_mb, self.times.model_mb) = self.held_mb();
        let interrupted = INTERRUPTED.load(Ordering::Relaxed);
        let paces = if self.may_rehost() { self.paces() } else { Vec::new() };
        let own = (&self.times, &report, self.comm.bytes_sent(), interrupted, self.at.seconds, paces);
        let all = self.comm.all_gather(Message::new(&own, Buffer::new()))?;
        let mut all_workers = Gathered::default();
        for message in all {
            let (times, report, sent, interrupted, seconds, paces): (WorkerTimes, Report, u64, bool, f64, _) =
                message.head()?;
            if all_workers.workers.is_empty() {
                all_workers.seconds = seconds;
            }
            all_workers.workers.push(times);
            all_workers.paces.push(paces);
            all_workers.report.merge(&report);
            all_workers.bytes_sent += sent;
            all_workers.is_interrupted |= interrupted;
        }
        Ok(all_workers)
    }

    /// What this worker has in memory of the data and of the model, as counted, in MB.
    fn held_mb(&self) -> (f64, f64) {
        let on_disk = self.source.disk.is_some();
        let blocks = self.lanes.iter().map(|lane| lane.blocks.bytes() + lane.test.bytes());
        // Lanes take turns with the room that there is for blocks on disk.
        let data = if on_disk { blocks.max() } else { Some(blocks.sum()) };
        let stored = |table: &Replica| match table.spec.axis {
            // Of the others' rows, nothing has been written.
            Axis::Example => {
                self.lanes.iter().map(|lane| lane.rows.len()).sum::<usize>() * table.spec.bytes_per_row()
            }
            _ => table.values.bytes().len() + table.base.bytes().len(),
        };
        let tables: usize = self.params.replicas.iter().map(stored).sum();
        let mb = |bytes: usize| bytes as f64 / 1e6;
        (mb(data.unwrap_or(0)), mb(tables + self.strategy.held_bytes()))
    }

    /// A loss that is no number, or a thousand times the first one and rising, ends the run on all ranks alike.
    fn check_divergence(&mut self, metrics: &BTreeMap<String, f64>) -> Result<()> {
        let bad = metrics.iter().find(|(name, value)| name.starts_with("train") && !value.is_finite());
        let loss = metrics.get("train_objective").copied().unwrap_or(0.0);
        self.losses.push(loss);
        let exploded = self.losses.len() > 1 && loss > 1e3 * self.losses[0].abs().max(1e-30);
        let (name, value) = match (bad, exploded) {
            (Some((name, value)), _) => (name.as_str(), *value),
            (None, true) => ("train_objective", loss),
            (None, false) => return Ok(()),
        };
        self.settle_checkpoint()?;
        Err(Error::Diverged(format!(
            "{} diverged in epoch {}: {name} is {value}; {}",
            A::NAME,
            self.at.epochs,
            A::DIVERGED_ADVICE
        )))
    }

    /// `error` with what is left of a run that diverged.
    pub(super) fn with_last_checkpoint(error: Error, complete: Option<Position>) -> Error {
        match (error, complete) {
            (Error::Diverged(text), None) => {
                Error::Diverged(format!("{text}; no checkpoint was written before"))
            }
            (Error::Diverged(text), Some(at)) => {
                Error::Diverged(format!("{text}; the checkpoint of {} is kept", at.words()))
            }
            (other, _) => other,
        }
    }

    fn decide(&mut self, metrics: &[(&'static str, f64)], is_stopped: bool) -> Result<Decision> {
        let stop = &self.run.stop;
        let named = self.metrics.as_ref();
        named.map_or(Ok(()), |named| self.check_target(named))?;
        let value = |until: &Until| named.and_then(|named| named.get(&until.metric).copied());
        let reached = |until: &Until| value(until).is_some_and(|value| until.reached(value));
        let end = if stop.until.as_ref().is_some_and(reached) {
            Some("until")
        } else if self.algorithm.converged(metrics) {
            Some("converged")
        } else if is_stopped {
            let is_late = stop.seconds.is_some_and(|limit| self.at.seconds >= limit);
            Some(if is_late { "seconds" } else { "interrupted" })
        } else {
            None
        };
        let policy = &self.run.checkpoint;
        let due = policy.epochs > 0 && self.at.epochs >= self.saved.epochs + policy.epochs;
        let wanted = policy.epochs > 0 || policy.seconds.is_some();
        self.by_epochs = self.ended_by_epochs(metrics);
        let last = end.is_some() || self.at.epochs >= stop.epochs;
        let asked = end == Some("interrupted") || (wanted && last);
        let checkpoint = self.run.out.is_some() && (due || asked || self.is_checkpoint_due(self.at.seconds));
        Ok(Decision { end: end.map(String::from), checkpoint, ..Decision::default() })
    }

    /// True if the next of the checkpoints every so many seconds is due, and the one before out of the way.
    pub(super) fn is_checkpoint_due(&self, seconds: f64) -> bool {
        let is_time = self.run.checkpoint.seconds.is_some_and(|every| seconds - self.saved.seconds >= every);
        is_time && self.writing.is_none()
    }

    /// Copies what is to be saved; it is written beside the training that goes on. The checkpoint before is waited for.
    fn save(&mut self) -> Result<()> {
        let Some(out) = &self.run.out else { return Ok(()) };
        let start = self.comm.now();
        self.settle_checkpoint()?;
        let mut parts = Vec::new();
        for lane in &self.lanes {
            let mut locals = Vec::new();
            for (block, local) in lane.locals_by_block() {
                let bytes =
                    postcard::to_stdvec(local).map_err(|e| Error::Damaged(format!("local state: {e}")))?;
                locals.push((block, bytes));
            }
            let mut rows = LaneState::take_rows(&self.params, lane.rows.clone());
            let spread = self.strategy.spread_rows(lane.number).into_iter();
            rows.extend(spread.map(|(table, first, bytes)| (table as u16, first as u64, bytes.to_vec())));
            let carries = self.strategy.carries(lane.number).into_iter();
            let carries = carries.map(|(table, bytes)| (table, bytes.to_vec())).collect();
            let state = LaneState { locals, rows, carries };
            parts.push(state.into_file(lane.number)?);
        }
        if self.comm.rank() == 0 {
            let is_spread = is_spread::<A>(self.run);
            let here = |axis| axis != Axis::Example && !(is_spread && rotates(axis));
            let tables = saved::to_bytes(&self.params, |replica| here(replica.spec.axis))?;
            parts.push((checkpoint::TABLES.into(), tables));
        }
        let manifest = Manifest::new(self.run, &self.source.fingerprint, self.at, self.clocks_per_epoch);
        self.saved = self.at;
        self.writing = Some(Writing::begin(self.comm, out, manifest, parts, start)?);
        if self.comm.is_simulated() {
            self.settle_checkpoint()?;
        }
        Ok(())
    }

    /// Without waiting: helps the checkpoint on that is being written, if there is one.
    pub(super) fn look_after_checkpoint(&mut self) -> Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        if let Some(done) = writing.poll(self.comm)? {
            self.writing = None;
            self.complete = Some(self.saved);
            self.tell_checkpoint(done);
        }
        Ok(())
    }

    /// At a synchronisation point: waits until the checkpoint that is being written is complete, and all know.
    pub(super) fn settle_checkpoint(&mut self) -> Result<()> {
        let is_expected = self.comm.broadcast(0, Message::new(&self.writing.is_some(), Buffer::new()))?;
        if let Some(writing) = self.writing.take()
            && let Some(done) = writing.wait(self.comm)?
        {
            self.tell_checkpoint(done);
        }
        if is_expected.head()? {
            self.complete = Some(self.saved);
            self.comm.barrier()?;
        }
        Ok(())
    }

    fn tell_checkpoint(&mut self, done: Done) {
        let Position { epochs, clock, .. } = self.saved;
        let Done { folder, seconds, held_seconds } = done;
        self.observer.event(&Event::Checkpoint { epochs, clock, folder, seconds, held_seconds });
    }
}

/// What all workers together have to say at a synchronisation point.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) workers: Vec<WorkerTimes>,
    pub(super) report: Report,
    pub(super) bytes_sent: u64,
    /// Seconds of training, by rank 0's clock.
    seconds: f64,
    /// What each worker's lanes took, if lanes may move.
    paces: Vec<Vec<Pace>>,
    /// The user has asked one of the processes to stop.
    is_interrupted: bool,
}

/// What rank 0 decides at a synchronisation point.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Decision {
    end: Option<String>,
    checkpoint: bool,
    /// Where lanes move to.
    deal: Option<Deal>,
    /// The round of asking all to stop that is over now.
    over: u64,
    /// The last checkpoint that is complete.
    complete: Option<Position>,
}
