//! One scheduler's slice of the variables, and in which order it gives them out.

use super::{Change, Plan, Policy, SumTree};
use crate::rng::{Stream, stream};
use std::collections::VecDeque;
use std::ops::Range;

/// A variable that is not zero, or moved when it was last updated.
const MEMBER: u8 = 1;
/// A variable of the working set that is being gone through.
const LISTED: u8 = 2;
/// A variable whose turn it was, but which depended on others.
const DEFERRED: u8 = 4;

/// A variable that was updated before.
const SEEN: u8 = 8;

/// A variable that was left out so often goes before all that were not: else neighbours that move more could keep it out
/// for ever.
const PATIENCE: u8 = 4;

/// Where the number of times that a variable was left out begins in what is saved of it, and where its place among those
/// whose turn it was.
const LEFT: f64 = 16.0;
const WAITING: f64 = 16.0 * 256.0;

/// Which of two candidates goes first: the greater. A number that grows with waiting, and how much the variable moved.
pub(super) type Rank = (u16, f64);

/// That of a variable whose turn it is, or that was never updated.
const FIRST: u16 = u16::MAX;

/// The working set is gone through until its changes are this part of those of its first sweep, or for so many sweeps.
const ENOUGH: f64 = 0.1;
const MOST_SWEEPS: u64 = 20;

/// Numbers that are saved of a shard besides those of its variables.
pub(super) const HEADER: usize = 6;

/// The scheduler of a slice.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    policy: Policy,
    range: Range<usize>,
    eta: f64,
    /// Where the next variable in turn stands: in the slice, or in `list`. By priority, the one that must be
    /// updated next.
    cursor: usize,
    /// What is gone through in turn; empty for the slice as it is. Before priorities are known: all, mixed.
    list: Vec<u32>,
    /// Variables whose turn it was, the one that waits longest first.
    deferred: VecDeque<u32>,
    /// |δβ| by place in the slice, for the policies that draw by it.
    weights: SumTree,
    flags: Vec<u8>,
    /// How often each was left out since it was updated; for the policies that draw by weight.
    left: Vec<u8>,
    /// True while each variable is to be updated for the first time, and its priority not known.
    is_first: bool,
    /// True if candidates may be left out.
    checks: bool,
    sweeps: u64,
    /// Sum of |δβ| in this sweep of the working set, and in the first.
    moved: f64,
    reference: f64,
}

impl Shard {
    pub(super) fn new(plan: &Plan, shard: usize, seed: u64) -> Shard {
        let range = plan.slice(shard);
        let by_priority = matches!(plan.policy, Policy::Priority | Policy::Dependency);
        let mut new = Shard {
            policy: plan.policy,
            eta: plan.eta,
            cursor: 0,
            list: Vec::new(),
            deferred: VecDeque::new(),
            weights: SumTree::new(if by_priority { range.len() } else { 0 }),
            flags: vec![0; if by_priority || plan.policy == Policy::WorkingSet { range.len() } else { 0 }],
            left: vec![0; if by_priority { range.len() } else { 0 }],
            is_first: by_priority,
            checks: plan.theta.is_some(),
            sweeps: 0,
            moved: 0.0,
            reference: 0.0,
            range,
        };
        new.mix(shard, seed);
        new
    }

    /// The order in which priorities are learnt.
    fn mix(&mut self, shard: usize, seed: u64) {
        if self.is_first {
            self.list = self.range.clone().map(|variable| variable as u32).collect();
            stream(seed, "schedule-first", &[shard as u64]).shuffle(&mut self.list);
        }
    }

    /// Appends up to `count` variables that are not `busy` to `out`, and makes them so; `free` of the slice are not. If
    /// `is_turn`, the next in turn is among them.
    pub(super) fn draw(
        &mut self,
        count: usize,
        free: usize,
        is_turn: bool,
        rng: &mut Stream,
        busy: &mut [bool],
        out: &mut Vec<u32>,
    ) {
        let wanted = out.len() + count.min(free);
        self.draw_deferred(wanted, busy, out);
        match self.policy {
            Policy::All => out.extend(self.range.clone().map(|variable| variable as u32)),
            Policy::Random => self.draw_alike(wanted, rng, busy, out),
            Policy::Priority | Policy::Dependency if !self.is_first => {
                if is_turn {
                    self.draw_next(wanted, busy, out);
                }
                self.draw_by_priority(wanted, rng, busy, out);
            }
            _ => self.draw_in_turn(wanted, busy, out),
        }
    }

    /// Those whose turn it was.
    fn draw_deferred(&mut self, wanted: usize, busy: &mut [bool], out: &mut Vec<u32>) {
        for _ in 0..self.deferred.len() {
            let Some(variable) = self.deferred.pop_front() else { break };
            if out.len() < wanted && !std::mem::replace(&mut busy[variable as usize], true) {
                out.push(variable);
            } else {
                self.deferred.push_back(variable);
            }
        }
    }

    /// The one that is updated although nothing speaks for it: each in its turn.
    fn draw_next(&self, wanted: usize, busy: &mut [bool], out: &mut Vec<u32>) {
        let next = self.range.start + self.cursor;
        if self.checks && out.len() < wanted && !std::mem::replace(&mut busy[next], true) {
            out.push(next as u32);
        }
    }

    /// All alike. There are as many free ones as are wanted.
    fn draw_alike(&self, wanted: usize, rng: &mut Stream, busy: &mut [bool], out: &mut Vec<u32>) {
        while out.len() < wanted {
            let variable = self.range.start + rng.below(self.range.len());
            if !std::mem::replace(&mut busy[variable], true) {
                out.push(variable as u32);
            }
        }
    }

    /// In proportion to |δβ_j| + η, without giving any twice: what was drawn has no weight until the end. There are as
    /// many free ones as are wanted.
    fn draw_by_priority(&mut self, wanted: usize, rng: &mut Stream, busy: &mut [bool], out: &mut Vec<u32>) {
        let (start, length) = (self.range.start, self.range.len());
        let eta = self.eta_now();
        let mut taken: Vec<(usize, f64)> = Vec::with_capacity(2 * wanted);
        while out.len() < wanted {
            let total = self.weights.total();
            let point = rng.unit() * (total + eta * length as f64);
            let place = self.weights.find(point).filter(|_| point < total);
            let place = place.unwrap_or_else(|| rng.below(length));
            let weight = self.weights.get(place);
            // With this chance it was drawn for its weight or as one of all; what is busy is drawn again, and its
            // weight is gone, so that it does not come for ever.
            if weight > 0.0 {
                taken.push((place, weight));
                self.weights.set(place, 0.0);
            }
            if !std::mem::replace(&mut busy[start + place], true) {
                out.push((start + place) as u32);
            }
        }
        taken.into_iter().for_each(|(place, weight)| self.weights.set(place, weight));
    }

    /// η: a part of the mean |δβ|. If nothing moves, all are alike.
    fn eta_now(&self) -> f64 {
        match self.weights.total() {
            total if total > 0.0 => (self.eta * total / self.range.len() as f64).max(f64::MIN_POSITIVE),
            _ => 1.0,
        }
    }

    fn draw_in_turn(&mut self, wanted: usize, busy: &mut [bool], out: &mut Vec<u32>) {
        for _ in 0..2 * self.range.len() {
            if out.len() >= wanted {
                break;
            }
            let length = if self.list.is_empty() { self.range.len() } else { self.list.len() };
            let place =
                if self.policy == Policy::WorkingSet { spread(self.cursor, length) } else { self.cursor };
            let variable = match self.list.is_empty() {
                true => (self.range.start + place) as u32,
                false => self.list[place],
            };
            let waits = self.deferred.contains(&variable);
            if !waits && !std::mem::replace(&mut busy[variable as usize], true) {
                out.push(variable);
            }
            self.cursor += 1;
            if self.cursor >= length {
                self.cursor = 0;
                let was_first = self.is_first;
                self.end_sweep();
                if was_first {
                    break; // priorities are known from the next draw on
                }
            }
        }
    }

    /// All have had their turn.
    fn end_sweep(&mut self) {
        if self.is_first {
            (self.is_first, self.list) = (false, Vec::new());
        }
        if self.policy != Policy::WorkingSet {
            return;
        }
        let moved = std::mem::take(&mut self.moved);
        if self.list.is_empty() {
            let members = (0..self.range.len()).filter(|place| self.flags[*place] & MEMBER != 0);
            let members: Vec<u32> = members.map(|place| (self.range.start + place) as u32).collect();
            if members.len() * 2 < self.range.len() {
                (self.list, self.sweeps, self.reference) = (members, 0, f64::INFINITY);
            }
            return;
        }
        self.sweeps += 1;
        if self.sweeps == 1 {
            self.reference = moved;
        } else if moved <= ENOUGH * self.reference || self.sweeps >= MOST_SWEEPS {
            self.list = Vec::new();
        }
    }

    /// Candidates whose turn it was, but which were not picked.
    pub(super) fn defer(&mut self, variables: impl Iterator<Item = u32>) {
        match self.policy {
            Policy::RoundRobin | Policy::WorkingSet => self.wait(variables.collect()),
            Policy::Priority | Policy::Dependency => {
                let mut unseen = Vec::new();
                for variable in variables {
                    let place = variable as usize - self.range.start;
                    match self.flags[place] & SEEN {
                        0 => unseen.push(variable), // its priority is still to be learnt
                        _ => self.left[place] = self.left[place].saturating_add(1),
                    }
                }
                self.wait(unseen);
            }
            Policy::All | Policy::Random => {}
        }
    }

    /// These were drawn before all that wait now.
    fn wait(&mut self, variables: Vec<u32>) {
        variables.into_iter().rev().for_each(|variable| self.deferred.push_front(variable));
    }

    /// Learns what became of a variable of this slice.
    pub(super) fn finished(&mut self, change: &Change) {
        let place = change.variable as usize - self.range.start;
        let delta = (change.new - change.old).abs();
        if matches!(self.policy, Policy::Priority | Policy::Dependency) {
            self.weights.set(place, delta);
            self.left[place] = 0;
            if self.checks && !self.is_first && place == self.cursor {
                self.cursor = (place + 1) % self.range.len();
            }
        }
        if let Some(flags) = self.flags.get_mut(place) {
            let is_member = change.new != 0.0 || delta != 0.0;
            *flags = SEEN | u8::from(is_member);
            self.moved += delta;
        }
    }

    /// What decides among candidates; alike where that is not asked for.
    pub(super) fn rank(&self, variable: u32) -> Rank {
        let place = variable as usize - self.range.start;
        let Some(left) = self.left.get(place).copied() else { return (0, 0.0) };
        let is_next = !self.is_first && place == self.cursor;
        match left {
            _ if is_next || self.flags[place] & SEEN == 0 => (FIRST, 0.0),
            PATIENCE.. => (u16::from(left), self.weights.get(place)),
            _ => (0, self.weights.get(place)),
        }
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Writes its state down: (weight, flags) of each variable, and a few numbers.
    pub(super) fn save(&self, variables: &mut [[f64; 2]], header: &mut [f64]) {
        for (place, numbers) in variables.iter_mut().enumerate() {
            let weight = if place < self.weights.len() { self.weights.get(place) } else { 0.0 };
            let number = |list: &[u8]| f64::from(list.get(place).copied().unwrap_or(0));
            *numbers = [weight, number(&self.flags) + LEFT * number(&self.left)];
        }
        if !self.is_first {
            self.mark(variables, self.list.iter().copied(), LISTED);
        }
        self.mark(variables, self.deferred.iter().copied(), DEFERRED);
        for (place, variable) in self.deferred.iter().enumerate() {
            variables[*variable as usize - self.range.start][1] += WAITING * place as f64;
        }
        let first = f64::from(u8::from(self.is_first));
        let numbers = [first, self.cursor as f64, self.sweeps as f64, self.moved, self.reference, 1.0];
        header.copy_from_slice(&numbers);
    }

    fn mark(&self, variables: &mut [[f64; 2]], marked: impl Iterator<Item = u32>, flag: u8) {
        marked.for_each(|variable| variables[variable as usize - self.range.start][1] += f64::from(flag));
    }

    /// Takes up a state that was written down; leaves what is no such state.
    pub(super) fn load(&mut self, variables: &[[f64; 2]], header: &[f64]) {
        let &[first, cursor, sweeps, moved, reference, 1.0] = header else { return };
        (self.sweeps, self.moved, self.reference) = (sweeps as u64, moved, reference);
        let all = (self.range.start as u32..).zip(variables);
        let marked = |flag: u8| all.clone().filter(move |(_, [_, number])| flags(*number) & flag != 0);
        let mut waiting: Vec<_> = marked(DEFERRED).collect();
        waiting.sort_by_key(|(_, [_, number])| (number / WAITING) as u64);
        self.deferred = waiting.into_iter().map(|(variable, _)| variable).collect();
        if first == 0.0 {
            self.is_first = false;
            self.list = marked(LISTED).map(|(variable, _)| variable).collect();
        }
        let length = if self.list.is_empty() { self.range.len() } else { self.list.len() };
        self.cursor = (cursor as usize).min(length.saturating_sub(1));
        for (place, [weight, number]) in variables.iter().enumerate() {
            if place < self.weights.len() {
                self.weights.set(place, *weight);
            }
            self.flags.get_mut(place).into_iter().for_each(|own| *own = flags(*number) & (MEMBER | SEEN));
            let left = (number % WAITING / LEFT) as u8;
            self.left.get_mut(place).into_iter().for_each(|own| *own = left);
        }
    }
}

/// The flags in what is saved of a variable.
fn flags(number: f64) -> u8 {
    (number % LEFT) as u8
}

/// The place that comes at `turn` of `length`: each once, neighbours far apart, as they are often correlated.
fn spread(turn: usize, length: usize) -> usize {
    let mut step = (length as f64 * 0.618) as usize;
    while gcd(step.max(1), length) > 1 {
        step += 1;
    }
    (turn as u128 * step.max(1) as u128 % length as u128) as usize
}

fn gcd(left: usize, right: usize) -> usize {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
#[test]
fn spread_comes_to_every_place_once() {
    for length in 1..200 {
        let places: std::collections::BTreeSet<usize> =
            (0..length).map(|turn| spread(turn, length)).collect();
        assert_eq!(places.len(), length);
    }
}
