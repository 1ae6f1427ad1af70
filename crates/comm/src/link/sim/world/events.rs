//! What an event does to the ranks and the network.

use super::super::faults::{Fault, HEARTBEAT_SECONDS, MISSED_HEARTBEATS};
use super::super::network::Event;
use super::{State, World};
use crate::wire::Frame;
use crate::{Lost, Time};
use std::fmt::Write;
use std::hash::Hasher;
use std::time::Duration;
use twox_hash::XxHash3_64;

impl World {
    /// Lets `event` happen at `now`, which no rank and no other event is behind.
    pub(super) fn happen(&mut self, now: Time, event: Event) {
        match event {
            Event::Submit(frame) => self.submit(now, frame),
            Event::Arrive { ends, connection } => self.wires.arrive(now, ends, connection, &mut self.queue),
            Event::Deliver { ends, connection } => {
                if let Some(frame) = self.wires.deliver(ends, connection) {
                    self.deliver(now, frame);
                }
            }
            Event::Fault(index) => {
                let fault = self.config.faults[index].clone();
                if self.lost.is_none() && self.begin(now, &fault) {
                    self.fired(now, fault);
                }
            }
            Event::CutNoticed { a, b } => {
                let gone = |rank: usize| self.ranks[rank].state == State::Ended;
                if !(gone(a) && gone(b)) {
                    self.announce(now, self.loss(a.max(b), format!("cut off from rank {}", a.min(b))));
                }
            }
            Event::Announce(lost) => self.announce(now, lost),
        }
    }

    /// Tells all ranks of the loss, unless they know of an earlier one.
    fn announce(&mut self, now: Time, lost: Lost) {
        if self.lost.is_none() {
            self.lost = Some(lost);
            (0..self.ranks.len()).for_each(|rank| self.rouse(rank, now));
        }
    }

    fn submit(&mut self, now: Time, frame: Frame) {
        let (from, to) = (usize::from(frame.from), usize::from(frame.to));
        if self.ranks[from].crashed || self.ranks[from].silent {
            return;
        }
        let mut extra = 0.0;
        for index in 0..self.config.faults.len() {
            let fault = &self.config.faults[index];
            let Fault::Delay { a, b, from: start, until, extra_seconds } = *fault else { continue };
            if ((a, b) == (from, to) || (b, a) == (from, to)) && (start..until).contains(&now) {
                extra += extra_seconds;
                if !self.report.fired.contains(fault) {
                    self.fired(now, fault.clone());
                }
            }
        }
        self.wires.submit(now, frame, Duration::from_secs_f64(extra), &mut self.queue);
    }

    fn deliver(&mut self, now: Time, frame: Frame) {
        self.report.frames_delivered += 1;
        if self.config.record {
            let mut hasher = XxHash3_64::new();
            hasher.write(&frame.head);
            hasher.write(frame.body.bytes());
            let (bytes, sum) = (frame.wire_bytes(), hasher.finish());
            let line = &mut self.report.transcript;
            let Frame { from, to, channel, .. } = frame;
            let _ = writeln!(line, "{} {from}>{to} {channel} {bytes} {sum:016x}", now.0); // a String takes all
        }
        self.progressed(now);
        let to = &mut self.ranks[usize::from(frame.to)];
        to.inbox.push_back(frame);
        if let State::Parked { wake, deaf: false } = &mut to.state
            && !to.silent
        {
            *wake = (*wake).min(to.time.max(now));
        }
    }

    /// What `fault` does when it begins; false if it does nothing.
    fn begin(&mut self, now: Time, fault: &Fault) -> bool {
        match *fault {
            Fault::Crash { rank, .. } => self.stop(now, rank, true),
            Fault::Silence { rank, .. } => self.stop(now, rank, false),
            Fault::Cut { a, b, .. } => {
                let connected = self.connected(a, b);
                if connected {
                    self.wires.cut((a, b));
                    self.wires.cut((b, a));
                    self.queue.push(now + missed(), Event::CutNoticed { a, b });
                }
                connected
            }
            Fault::Reconnect { a, b, .. } => {
                let connected = self.connected(a, b);
                for ends in [(a, b), (b, a)].into_iter().filter(|_| connected) {
                    let (resent, doubled) = self.wires.reconnect(now, ends, &mut self.queue);
                    self.report.frames_resent += resent;
                    self.report.frames_doubled += doubled;
                }
                connected
            }
            Fault::Delay { .. } => false, // has no moment: see `submit`
        }
    }

    /// `rank` crashes or falls silent; false if it has done so before, or has ended.
    fn stop(&mut self, now: Time, rank: usize, crash: bool) -> bool {
        let this = &mut self.ranks[rank];
        // A rank that failed by itself at a later time has run ahead of the fault, which hit it first.
        let ended = this.state == State::Ended && this.time <= now;
        if ended || this.crashed || this.silent {
            return false;
        }
        if crash {
            this.crashed = true;
            self.rouse(rank, now);
            let loss = self.loss(rank, "it crashed".into());
            self.queue.push(now + self.wires.latency(), Event::Announce(loss));
        } else {
            this.silent = true;
            if let State::Parked { wake, .. } = &mut this.state {
                *wake = Time::NEVER;
            }
            let loss = self.loss(rank, format!("no sign of life for {} s", missed().as_secs_f64()));
            self.queue.push(now + missed(), Event::Announce(loss));
        }
        true
    }

    /// Whether both ranks still run: one that has ended has said goodbye and closed its connections.
    fn connected(&self, a: usize, b: usize) -> bool {
        [a, b].iter().all(|rank| {
            let rank = &self.ranks[*rank];
            rank.state != State::Ended && !rank.crashed
        })
    }

    fn fired(&mut self, now: Time, fault: Fault) {
        if self.config.record {
            let _ = writeln!(self.report.transcript, "{} {fault:?}", now.0); // a String takes all
        }
        self.report.fired.push(fault);
    }

    /// A rank goes on at `now` at the latest, to be told what happened.
    fn rouse(&mut self, rank: usize, now: Time) {
        let this = &mut self.ranks[rank];
        if let State::Parked { wake, .. } = &mut this.state {
            *wake = (*wake).min(this.time.max(now));
        }
    }
}

/// How long a rank may be silent.
fn missed() -> Duration {
    Duration::from_secs_f64(HEARTBEAT_SECONDS) * MISSED_HEARTBEATS
}
