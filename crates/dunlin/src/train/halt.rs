//! How all lanes come to stop at one clock, while they are at different ones and wait for each other.
//!
//! A rank that has a reason asks rank 0. Rank 0 has every rank hold: a rank that is told begins no clock beyond the
//! latest that it has begun, and says which that is. The latest of all is where they stop: rank 0 tells them, and they
//! go on up to it. Nobody waits for longer than it takes a message to every rank and back, because all of it is
//! answered where the shard's messages are: also by a rank that is in the middle of waiting for another.
//!
//! ```text
//! rank 2 ── Ask ──▶ rank 0 ── Hold ──▶ all ── Begun(clock) ──▶ rank 0 ── Stop(latest) ──▶ all
//! ```
//! A synchronisation point, planned or asked for, does for all that was asked before it: rank 0 ends the round there.

use crate::Result;
use crate::channel::WAKE;
use dunlin_comm::{Buffer, Channel, Comm, Message, Outbox, Service};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First byte of these messages; no message to a shard starts with it.
const MARK: u8 = 0xff;

/// What ranks tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Word {
    /// To rank 0: there is a reason to stop.
    Ask,
    /// From rank 0: begin no further clock.
    Hold { round: u64 },
    /// To rank 0: so many clocks are begun here.
    Begun { round: u64, clocks: u64 },
    /// From rank 0: all stop once they have done so many clocks.
    Stop { round: u64, clocks: u64 },
}

impl Word {
    fn message(self) -> Message {
        Message::new(&(MARK, self), Buffer::new())
    }
}

/// What a rank knows.
#[derive(Debug, Default)]
struct State {
    /// Clocks that this rank has begun, on its fastest lane.
    begun: u64,
    /// The round in which it was told to hold, and where to stop once that is known.
    held: Option<(u64, Option<u64>)>,
    /// Rounds up to this one are over.
    over: u64,
    /// The first clock at which a stop is possible, and how many lie between two of them.
    stops: (u64, u64),
    /// Rank 0: the latest round, and in the middle of it what each rank has said.
    round: u64,
    begun_by: Option<Vec<Option<u64>>>,
}

impl State {
    fn hear(&mut self, word: Word, from: usize, workers: usize) -> Vec<(usize, Word)> {
        match word {
            Word::Ask if self.begun_by.is_none() => {
                self.round += 1;
                self.begun_by = Some(vec![None; workers]);
                (0..workers).map(|worker| (worker, Word::Hold { round: self.round })).collect()
            }
            Word::Hold { round } if round > self.over => {
                self.held = Some((round, None));
                vec![(0, Word::Begun { round, clocks: self.begun })]
            }
            Word::Begun { round, clocks } if round == self.round => self.collect(from, clocks),
            Word::Stop { round, clocks } if round > self.over => {
                self.held = Some((round, Some(clocks)));
                Vec::new()
            }
            _ => Vec::new(), // of a round that is over
        }
    }

    /// As [`Halt::leave`]; nothing while it must hold.
    fn leave(&mut self, slowest: u64, furthest: u64) -> Option<Leave> {
        match self.held {
            None => {
                self.begun = self.begun.max(furthest + 1);
                Some(Leave::Free)
            }
            Some((_, None)) => (slowest < self.begun).then_some(Leave::UpTo(self.begun)),
            Some((_, Some(stop))) => {
                self.begun = self.begun.max((furthest + 1).min(stop));
                Some(Leave::Stop(stop))
            }
        }
    }

    /// Rank 0: once all have said what they have begun, the latest of it is where they stop.
    fn collect(&mut self, from: usize, clocks: u64) -> Vec<(usize, Word)> {
        let Some(begun_by) = &mut self.begun_by else { return Vec::new() };
        if let Some(place) = begun_by.get_mut(from) {
            *place = Some(clocks);
        }
        let Some(all) = begun_by.iter().copied().collect::<Option<Vec<u64>>>() else { return Vec::new() };
        let (first, step) = self.stops;
        let latest = all.iter().copied().max().unwrap_or(0);
        let clocks = first + latest.saturating_sub(first).next_multiple_of(step.max(1));
        let word = Word::Stop { round: self.round, clocks };
        (0..all.len()).map(|worker| (worker, word)).collect()
    }
}

/// How far the lanes of a rank may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Leave {
    /// As far as is planned.
    Free,
    /// To clock so many, until it is known where all stop.
    UpTo(u64),
    /// All stop once they have done so many clocks.
    Stop(u64),
}

/// Stands before the shard of a rank, if it has one, and answers what is not for it.
struct Doorman {
    rank: usize,
    workers: usize,
    state: Arc<Mutex<State>>,
    shard: Option<Box<dyn Service>>,
}

impl Service for Doorman {
    fn handle(&mut self, message: Message, out: &mut Outbox) -> dunlin_comm::Result<()> {
        if message.head.first() != Some(&MARK) {
            return match &mut self.shard {
                Some(shard) => shard.handle(message, out),
                None => Err(message.bad("a message for a shard; there is none here")),
            };
        }
        let (_, word): (u8, Word) = message.head()?;
        let answers = lock(&self.state).hear(word, message.from, self.workers);
        out.extend(answers.into_iter().map(|(to, word)| (to, Channel::SERVICE, word.message())));
        if matches!(word, Word::Stop { .. }) {
            out.push((self.rank, WAKE, Message::default()));
        }
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker's part in it.
#[derive(Debug, Default)]
pub(super) struct Halt {
    state: Arc<Mutex<State>>,
    has_asked: bool,
}

impl Halt {
    /// Puts the doorman before whatever service this rank has; the run goes on from clock `begun`. A stop is possible
    /// from the first of `stops` on at every so many clocks as the second says.
    pub(super) fn install(comm: &mut Comm, workers: usize, begun: u64, stops: (u64, u64)) -> Halt {
        let state = Arc::new(Mutex::new(State { begun, stops, ..State::default() }));
        let (rank, own) = (comm.rank(), state.clone());
        comm.wrap_service(|shard| Box::new(Doorman { rank, workers, state: own, shard }));
        Halt { state, has_asked: false }
    }

    /// Asks that all stop soon; once until the next synchronisation point.
    ///
    /// # Errors
    /// A loss.
    pub(super) fn ask(&mut self, comm: &mut Comm) -> Result<()> {
        if std::mem::replace(&mut self.has_asked, true) {
            return Ok(());
        }
        Ok(comm.send(0, Channel::SERVICE, Word::Ask.message())?)
    }

    /// How far lanes may go here, of which the slowest has done `slowest` clocks and the fastest `furthest`. A strategy
    /// may choose any of them next, so that a further clock of the fastest counts as begun.
    ///
    /// # Blocking
    /// On all workers' answers, if this rank was told to hold and has done what it had begun.
    ///
    /// # Errors
    /// A loss or a time-out.
    pub(super) fn leave(&self, comm: &mut Comm, slowest: u64, furthest: u64) -> Result<Leave> {
        if comm.shares_memory() {
            comm.poll()?; // elsewhere the loop looks after every block
        }
        loop {
            let leave = lock(&self.state).leave(slowest, furthest);
            match leave {
                Some(leave) => return Ok(leave),
                None => drop(comm.recv(WAKE, None, "the clock at which all stop")?),
            }
        }
    }

    /// All lanes of all ranks do clocks up to `clock`, whatever is asked meanwhile: none stops before.
    pub(super) fn pass(&self, clock: u64) {
        let mut state = lock(&self.state);
        state.begun = state.begun.max(clock);
    }

    /// Rank 0, at a synchronisation point: the round that is over with it.
    pub(super) fn end_round(&self) -> u64 {
        let mut state = lock(&self.state);
        state.begun_by = None;
        state.round
    }

    /// At a synchronisation point: rounds up to `round` are over.
    pub(super) fn is_over(&mut self, round: u64) {
        let mut state = lock(&self.state);
        state.over = round;
        state.held = state.held.filter(|(held, _)| *held > round);
        self.has_asked = false;
    }

    /// At the end of the run: whoever asks now is not heard, and nothing is sent to ranks that may have left.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        (state.over, state.begun_by) = (u64::MAX, Some(Vec::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    /// Messages travel in any order between any two ranks, clocks pass in between: all stop at one clock that nobody
    /// has gone past.
    #[test]
    fn whatever_the_order_all_stop_at_one_clock() {
        for seed in 0..2000 {
            let mut rng = stream(seed, "halt", &[]);
            let workers = 1 + rng.below(5);
            let mut states: Vec<State> = (0..workers).map(|_| State::default()).collect();
            states.iter_mut().for_each(|state| state.begun = rng.below(6) as u64);
            let mut flying = vec![(rng.below(workers), 0, Word::Ask), (rng.below(workers), 0, Word::Ask)];
            while !flying.is_empty() {
                let (from, to, word) = flying.swap_remove(rng.below(flying.len()));
                let answers = states[to].hear(word, from, workers);
                flying.extend(answers.into_iter().map(|(receiver, word)| (to, receiver, word)));
                let walker = rng.below(workers);
                let state = &mut states[walker];
                match state.held {
                    None => state.begun += 1,
                    Some((_, Some(stop))) if state.begun < stop => state.begun += 1,
                    _ => {}
                }
            }
            let stops: Vec<_> = states.iter().map(|state| state.held).collect();
            assert!(stops.iter().all(|stop| *stop == stops[0]), "seed {seed}: {stops:?}");
            let Some((1, Some(stop))) = stops[0] else { panic!("seed {seed}: {stops:?}") };
            assert!(states.iter().all(|state| state.begun <= stop), "seed {seed}: {states:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_round_that_is_over_is_ignored() {
        let mut state = State { over: 3, begun: 7, ..State::default() };
        assert_eq!(state.hear(Word::Hold { round: 3 }, 0, 2), []);
        assert_eq!(state.hear(Word::Stop { round: 3, clocks: 9 }, 0, 2), []);
        assert_eq!(state.held, None);
        assert_eq!(state.hear(Word::Hold { round: 4 }, 0, 2), [(0, Word::Begun { round: 4, clocks: 7 })]);
        let halt = Halt { state: Arc::new(Mutex::new(state)), has_asked: false };
        halt.close();
        let mut closed = lock(&halt.state);
        let late = [Word::Ask, Word::Hold { round: 5 }, Word::Begun { round: 0, clocks: 1 }];
        late.into_iter().for_each(|word| assert_eq!(closed.hear(word, 1, 2), [], "{word:?}"));
    }
}
