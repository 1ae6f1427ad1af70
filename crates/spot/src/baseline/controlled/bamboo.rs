//! Bamboo: pipelines of 12 machines, in which every machine can also do the work of the one behind it.
//!
//! * floor(machines / 12) pipelines are seated in order; the others wait.
//! * A seated machine is lost: the one before it in the ring of its pipeline does both works. If the lost one did two
//!   works itself, or the one before it does, the state is gone: everybody meets anew (30 s).
//! * Any loss stretches the iteration in progress: what is left of it takes half as long again, and all later ones take
//!   1.5 times as long until the next rebalancing.
//! * After an iteration the pipelines are rebalanced (76 or 80 s) if some machine does two works and as many wait, or if
//!   more than 5 % of the seated machines must not be lost next, or if one more pipeline has become possible.
//!
//! Who sits where decides who waits and thus what a loss costs. The published run seats machines in the order in which
//! its event queue, a binary heap, hands out 30 entries of equal time: [`SEATS`], worked out by us.

use super::{Constants, Failure, MACHINES, READY_S};

/// The order in which the machines are seated.
const SEATS: [u32; MACHINES as usize] = [
    30, 15, 7, 3, 1, 29, 14, 28, 27, 13, 6, 26, 25, 12, 24, 23, 11, 5, 2, 22, 21, 10, 20, 19, 9, 4, 18, 17,
    8, 16,
];
/// Stages of a pipeline.
const STAGES: usize = 12;
/// Seconds in which everybody meets anew.
const MEET_S: f64 = 30.0;
/// How much longer an iteration takes after a loss.
const SLOWDOWN: f64 = 1.5;

/// A machine that is there and the seats (pipeline x 12 + stage) whose work it does.
struct Machine {
    name: u32,
    seats: Vec<usize>,
}

enum Doing {
    /// An iteration, to its end; `loss` = when a loss fell into it, if its delay is still to come.
    Iterating { loss: Option<f64> },
    /// Meeting or rebalancing; `again` if somebody was lost meanwhile, `anew` if everybody meets.
    Meeting { again: bool, anew: bool },
}

struct Run<'a> {
    constants: &'a Constants,
    machines: Vec<Machine>,
    pipelines: usize,
    doing: Doing,
    /// When that ends.
    until: f64,
    /// Seconds of an iteration as things are.
    step_s: f64,
    slowed: bool,
}

pub(super) fn average(constants: &Constants, failures: &[Failure]) -> f64 {
    let start = READY_S + MEET_S;
    let machines = SEATS.iter().map(|name| Machine { name: *name, seats: Vec::new() }).collect();
    let doing = Doing::Meeting { again: false, anew: true };
    let mut run = Run { constants, machines, pipelines: 0, doing, until: start, step_s: 0.0, slowed: false };
    let horizon = failures[failures.len() - 1].at_s;
    let (mut iterations, mut last) = (0.0, start);
    let mut left = failures.iter().peekable();
    loop {
        let loss = left.peek().map_or(f64::INFINITY, |failure| failure.at_s);
        if loss.min(run.until) >= horizon {
            break;
        }
        if loss <= run.until {
            left.next().into_iter().for_each(|failure| run.lose(*failure));
        } else if run.end() {
            iterations += 1.0;
            last = run.until;
            run.begin_next();
        }
    }
    if last > start { iterations * constants.global_batch / (last - start) } else { 0.0 }
}

impl Run<'_> {
    /// A machine disappears.
    fn lose(&mut self, failure: Failure) {
        let Some(at) = self.machines.iter().position(|machine| machine.name == failure.machine) else {
            return;
        };
        let lost = self.machines.remove(at);
        if let Doing::Meeting { again, .. } = &mut self.doing {
            *again = true; // whoever met must meet again at the end of it
            return;
        }
        if !self.covered(&lost) {
            self.doing = Doing::Meeting { again: false, anew: true };
            self.until = failure.at_s + MEET_S;
        } else if let (Doing::Iterating { loss }, false) = (&mut self.doing, self.slowed) {
            *loss = Some(failure.at_s);
            self.slowed = true;
            self.step_s *= SLOWDOWN;
        }
    }

    /// The machine before it takes over. False if the work is gone.
    fn covered(&mut self, lost: &Machine) -> bool {
        let [seat] = lost.seats.as_slice() else { return lost.seats.is_empty() };
        let before = seat / STAGES * STAGES + (seat % STAGES + STAGES - 1) % STAGES;
        match self.machines.iter_mut().find(|machine| machine.seats.contains(&before)) {
            Some(machine) if machine.seats.len() == 1 => machine.seats.push(*seat),
            Some(_) | None => return false,
        }
        true
    }

    /// What was going on ends. True if that was an iteration.
    fn end(&mut self) -> bool {
        match &mut self.doing {
            Doing::Iterating { loss } => match loss.take() {
                Some(at) => self.until += (self.until - at) * (SLOWDOWN - 1.0),
                None => return true,
            },
            Doing::Meeting { again: again @ true, anew } => {
                *again = false;
                self.until += if *anew { MEET_S } else { self.constants.restart_s(15) };
            }
            Doing::Meeting { .. } => self.seat(),
        }
        false
    }

    /// Everybody takes a seat and the next iteration starts.
    fn seat(&mut self) {
        self.pipelines = self.machines.len() / STAGES;
        let seats = self.pipelines * STAGES;
        for (seat, machine) in self.machines.iter_mut().enumerate() {
            machine.seats = if seat < seats { vec![seat] } else { Vec::new() };
        }
        let step = self.constants.iteration_s(self.machines.len() as u32);
        self.step_s = step.unwrap_or(f64::INFINITY);
        self.slowed = false;
        self.doing = Doing::Iterating { loss: None };
        self.until += self.step_s;
    }

    /// After an iteration: rebalance, or go on.
    fn begin_next(&mut self) {
        let double = self.machines.iter().filter(|machine| machine.seats.len() > 1).count();
        let waiting = self.machines.iter().filter(|machine| machine.seats.is_empty()).count();
        let active = self.pipelines * STAGES - double;
        let easy = double > 0 && waiting >= double;
        let risky = double > 0 && 2.0 * double as f64 > 0.05 * active as f64;
        if easy || risky || (active + waiting) / STAGES > self.pipelines {
            self.doing = Doing::Meeting { again: false, anew: false };
            self.until += self.constants.restart_s(15);
        } else {
            self.doing = Doing::Iterating { loss: None };
            self.until += self.step_s;
        }
    }
}
