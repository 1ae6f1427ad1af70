//! Where all lanes have done the same clock: evaluate, tell, save, decide; and the beginning and end of a run.

use super::{INTERRUPTED, Worker};
use crate::algorithm::{Algorithm, Sums};
use crate::checkpoint::{self, Found, LaneState};
use crate::event::{Event, Outcome, WorkerTimes, peak_rss_mb};
use crate::run::Run;
use crate::strategy::Report;
use crate::strategy::allreduce::reduce_sums;
use crate::table::Replica;
use crate::{Error, Result};
use dunlin_comm::collective::Node;
use dunlin_comm::{Buffer, Message};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

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

    /// All lanes are at the end of epoch `self.epochs`: evaluates, tells, saves, and says why to end, if so.
    pub(super) fn synchronise(&mut self) -> Result<Option<String>> {
        self.seconds += self.comm.now().since(self.running_since).as_secs_f64();
        let metrics = self.evaluate()?;
        let Gathered { workers, report, bytes_sent, is_interrupted } = self.gather_times()?;
        let named: BTreeMap<String, f64> =
            metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        if self.comm.rank() == 0 {
            let (seconds, epochs) = (self.seconds, self.epochs);
            self.observer.event(&Event::Evaluated {
                seconds,
                epochs,
                metrics: named.clone(),
                workers,
                report,
                bytes_sent,
            });
        }
        self.metrics = Some(named.clone());
        self.check_divergence(&named)?;
        let mut decision = self.decide(&metrics, &named, is_interrupted)?;
        let decided = self.comm.broadcast(0, Message::new(&(self.seconds, &decision), Buffer::new()))?;
        (self.seconds, decision) = decided.head()?;
        if decision.checkpoint {
            self.save()?;
        }
        self.running_since = self.comm.now();
        self.last_progress.0 = self.running_since;
        Ok(decision.end)
    }

    pub(super) fn evaluate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for lane in &self.lanes {
            let (mut on_train, mut on_test) = (Sums::default(), Sums::default());
            for (block, local) in lane.with_locals() {
                self.algorithm.measure(block, &self.params, local.as_ref(), &mut on_train);
            }
            lane.test
                .iter()
                .for_each(|block| self.algorithm.measure(block, &self.params, None, &mut on_test));
            train.push((Node::leaf(lane.number), on_train));
            test.push((Node::leaf(lane.number), on_test));
        }
        let train = reduce_sums(self.comm, self.run.lanes, train)?;
        let test = match self.source.test.is_some() {
            true => Some(reduce_sums(self.comm, self.run.lanes, test)?),
            false => None,
        };
        Ok(self.algorithm.metrics(&train, test.as_ref(), &self.params))
    }

    fn gather_times(&mut self) -> Result<Gathered> {
        let report = self.strategy.report();
        self.times.blocked_seconds = report.blocked_seconds;
        // What the system says of this process is no part of a simulated story, which replays to the byte.
        let rss_mb = if self.comm.is_simulated() { 0.0 } else { peak_rss_mb() };
        self.times.peak_rss_mb = rss_mb;
        let own = (&self.times, &report, self.comm.bytes_sent(), INTERRUPTED.load(Ordering::Relaxed));
        let all = self.comm.all_gather(Message::new(&own, Buffer::new()))?;
        let mut all_workers = Gathered::default();
        for message in all {
            let (times, report, sent, interrupted): (WorkerTimes, Report, u64, bool) = message.head()?;
            all_workers.workers.push(times);
            all_workers.report.merge(&report);
            all_workers.bytes_sent += sent;
            all_workers.is_interrupted |= interrupted;
        }
        Ok(all_workers)
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
        Err(Error::Diverged(format!(
            "{} diverged in epoch {}: {name} is {value}; {}",
            A::NAME,
            self.epochs,
            A::DIVERGED_ADVICE
        )))
    }

    /// `error` with what is left of a run that diverged.
    pub(super) fn with_last_checkpoint(error: Error, epochs: usize) -> Error {
        match error {
            Error::Diverged(text) if epochs == 0 => {
                Error::Diverged(format!("{text}; no checkpoint was written before"))
            }
            Error::Diverged(text) => {
                Error::Diverged(format!("{text}; the checkpoint of epoch {epochs} is kept"))
            }
            other => other,
        }
    }

    fn decide(
        &mut self,
        metrics: &[(&'static str, f64)],
        named: &BTreeMap<String, f64>,
        is_interrupted: bool,
    ) -> Result<Decision> {
        let stop = &self.run.stop;
        self.check_target(named)?;
        let end = if stop
            .until
            .as_ref()
            .is_some_and(|until| named.get(&until.metric).is_some_and(|value| until.reached(*value)))
        {
            Some("until")
        } else if self.algorithm.converged(metrics) {
            Some("converged")
        } else if is_interrupted {
            Some("interrupted")
        } else if stop.seconds.is_some_and(|limit| self.seconds >= limit) {
            Some("seconds")
        } else {
            None
        };
        let policy = &self.run.checkpoint;
        let (epochs, seconds) = self.last_checkpoint;
        let due = (policy.epochs > 0 && self.epochs >= epochs + policy.epochs)
            || policy.seconds.is_some_and(|every| self.seconds - seconds >= every);
        let wanted = policy.epochs > 0 || policy.seconds.is_some();
        let last = end.is_some() || self.epochs >= stop.epochs;
        let checkpoint = self.run.out.is_some() && (due || end == Some("interrupted") || (wanted && last));
        Ok(Decision { end: end.map(String::from), checkpoint })
    }

    fn save(&mut self) -> Result<()> {
        let start = self.comm.now();
        let mut states = Vec::new();
        for lane in &self.lanes {
            let mut locals = Vec::new();
            for (block, local) in lane.locals_by_block() {
                let bytes =
                    postcard::to_stdvec(local).map_err(|e| Error::Damaged(format!("local state: {e}")))?;
                locals.push((block, bytes));
            }
            let rows = LaneState::take_rows(&self.params, lane.rows.clone());
            states.push((lane.number, LaneState { locals, rows }));
        }
        let position = (self.epochs, self.seconds);
        let path =
            checkpoint::write(self.comm, self.run, &self.source.fingerprint, position, &self.params, states)?;
        self.last_checkpoint = position;
        if let (0, Some(path)) = (self.comm.rank(), path) {
            let folder = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let seconds = self.comm.now().since(start).as_secs_f64();
            self.observer.event(&Event::Checkpoint { epochs: self.epochs, folder, seconds });
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, found: &Found) -> Result<()> {
        let (then, place) = (&found.manifest.run, found.folder().display());
        let given = |run: &Run| {
            let settings = serde_json::to_string(&run.settings).unwrap_or_default();
            [
                ("the model", run.model.clone()),
                ("--lanes", run.lanes.to_string()),
                ("--seed", run.seed.to_string()),
                ("the settings", settings),
            ]
        };
        for ((what, then), (_, now)) in given(then).into_iter().zip(given(self.run)) {
            if then != now {
                return Err(Error::Usage(format!(
                    "--resume: {what} of this run: {now}; {place} was written with {then}; go on with the same"
                )));
            }
        }
        if found.manifest.data != self.source.fingerprint {
            return Err(Error::Usage(format!(
                "--resume: {} and how it is read make other training data than those of {place} ({}); go on with the same",
                self.run.train, then.train
            )));
        }
        found.load_tables(&mut self.params)?;
        self.params.replicas.iter_mut().for_each(Replica::rebase);
        for lane in &mut self.lanes {
            let state = found.load_lane(lane.number, &mut self.params)?;
            let ids: Vec<u32> = lane.locals_by_block().map(|(block, _)| block).collect();
            for (index, block) in ids.into_iter().enumerate() {
                let bytes = state.locals.iter().find(|(id, _)| *id == block).map(|(_, bytes)| bytes);
                let local = bytes.and_then(|bytes| postcard::from_bytes(bytes).ok()).flatten();
                let missing = || Error::Damaged(format!("{place}: no local state of block {block}"));
                lane.locals[index] = Some(local.ok_or_else(missing)?);
            }
        }
        (self.epochs, self.seconds) = (found.manifest.epochs, found.manifest.seconds);
        self.last_checkpoint = (self.epochs, self.seconds);
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
            resumed_epochs: if resumed { self.epochs } else { 0 },
        };
        self.observer.event(&event);
        for complaint in complaints {
            let text = format!("{complaint}; going on from an older checkpoint, of epoch {}", self.epochs);
            self.observer.event(&Event::Warning { text });
        }
    }

    /// Brings the rows of example tables to rank 0, saves the model, and says what came out.
    pub(super) fn finish(mut self, reason: String) -> Result<Outcome> {
        // Nothing has changed since the last evaluation; there is none if the run was over before it began.
        let metrics = match self.metrics.take() {
            Some(metrics) => metrics,
            None => self.evaluate()?.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
        };
        let Gathered { workers, report, bytes_sent, .. } = self.gather_times()?;
        let own: Vec<_> =
            self.lanes.iter().flat_map(|l| LaneState::take_rows(&self.params, l.rows.clone())).collect();
        for message in self.comm.gather(0, Message::new(&own, Buffer::new()))? {
            for (table, first, bytes) in message.head::<Vec<(u16, u64, Vec<u8>)>>()? {
                if let Some(replica) = self.params.replicas.get_mut(usize::from(table)) {
                    replica.set_row_bytes(first as usize, &bytes);
                }
            }
        }
        let mut processes = BTreeMap::new();
        processes.extend(workers.iter().map(|worker| (worker.process, worker.peak_rss_mb)));
        if self.comm.is_simulated() {
            processes.insert(0, peak_rss_mb());
        }
        let peak_rss_mb_per_process: Vec<f64> = processes.into_values().collect();
        let outcome = Outcome {
            reason: reason.clone(),
            epochs: self.epochs,
            seconds: self.seconds,
            blocked_seconds: report.blocked_seconds,
            metrics,
            bytes_sent,
            samples_per_second: (self.epochs * self.source.shape.samples) as f64 / self.seconds.max(1e-9),
            clocks_per_epoch: self.clocks_per_epoch,
            peak_rss_mb: peak_rss_mb_per_process.iter().sum(),
            peak_rss_mb_per_process,
            report,
        };
        if self.comm.rank() == 0 {
            self.observer.finished(&self.params, self.source)?;
            self.observer.event(&Event::Ended { reason, outcome: Box::new(outcome.clone()) });
        }
        self.comm.barrier()?;
        Ok(outcome)
    }
}

/// What all workers together have to say at a synchronisation point.
#[derive(Default)]
struct Gathered {
    workers: Vec<WorkerTimes>,
    report: Report,
    bytes_sent: u64,
    /// The user has asked one of the processes to stop.
    is_interrupted: bool,
}

/// What rank 0 decides at a synchronisation point.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Decision {
    end: Option<String>,
    checkpoint: bool,
}
