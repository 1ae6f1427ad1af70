//! Rounds that follow each other, some of them on their way at a time.

use super::independence::{Candidates, Independence};
use super::{Change, Pair, Plan, Scheduler};
use std::collections::VecDeque;

/// A round that has begun: what every block is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// Its number, which is that of its clock.
    pub number: u64,
    /// The variables whose partial sums are wanted.
    pub picks: Vec<u32>,
    /// The products that are wanted, for candidates of later rounds.
    pub pairs: Vec<Pair>,
}

/// The order of things: which variables a round has, which products it asks for, and what must have come back before
/// the next may begin.
///
/// With depth d, d rounds are on their way at a time: the partial sums of round t lack the changes of rounds t − d + 1
/// to t − 1. Its candidates are drawn d rounds before, so that their products travel with the partial sums of that
/// round. At the ends of stretches ([`Plan::stretch`]) nothing is on its way.
#[derive(Debug)]
pub struct Pipeline {
    plan: Plan,
    scheduler: Scheduler,
    independence: Option<Independence>,
    /// Candidates of rounds to come.
    ahead: VecDeque<Candidates>,
    /// Rounds on their way, the oldest first.
    begun: VecDeque<Round>,
}

impl Pipeline {
    /// Of a run with `seed`; `state` is what [`Pipeline::save`] gave, or zeros.
    pub fn new(plan: &Plan, seed: u64, state: &[[f64; 2]]) -> Pipeline {
        let mut scheduler = Scheduler::new(plan, seed);
        scheduler.load(state);
        Pipeline {
            plan: plan.clone(),
            scheduler,
            independence: plan.theta.map(|theta| Independence::new(theta, plan.variables)),
            ahead: VecDeque::new(),
            begun: VecDeque::new(),
        }
    }

    /// Rounds on their way.
    pub fn on_their_way(&self) -> usize {
        self.begun.len()
    }

    /// How many rounds may be on their way when round `number` begins; with more, the oldest must end first.
    pub fn most_before(&self, number: u64) -> usize {
        let place = number % self.plan.stretch() as u64;
        let waits_for_first = self.independence.is_some() && place == 1;
        if place == 0 || waits_for_first { 0 } else { self.plan.depth - 1 }
    }

    /// Begins round `number`, which is the next one.
    pub fn begin(&mut self, number: u64) -> &Round {
        let round = match self.independence {
            Some(_) => self.begin_checked(number),
            None => {
                let busy: Vec<&[u32]> = self.begun.iter().map(|round| &round.picks[..]).collect();
                let picks = self.scheduler.draw(number, self.plan.want, &busy);
                Round { number, picks, pairs: Vec::new() }
            }
        };
        self.begun.push_back(round);
        &self.begun[self.begun.len() - 1]
    }

    fn begin_checked(&mut self, number: u64) -> Round {
        let stretch = self.plan.stretch() as u64;
        let (place, depth) = (number % stretch, self.plan.depth as u64);
        let picks = if place == 0 { Vec::new() } else { self.choose(number) };
        let to_draw = match place {
            0 => number + 1..number + 1 + depth.min(stretch - 1),
            _ if place + depth < stretch => number + depth..number + depth + 1,
            _ => 0..0,
        };
        let mut pairs = Vec::new();
        for later in to_draw {
            self.draw(later, &picks, &mut pairs);
        }
        Round { number, picks, pairs }
    }

    /// The candidates of round `later`, and which of their products are to be asked for.
    fn draw(&mut self, later: u64, picks: &[u32], pairs: &mut Vec<Pair>) {
        let Some(independence) = &self.independence else { return };
        let mut busy: Vec<&[u32]> = self.ahead.iter().map(|ahead| &ahead.variables[..]).collect();
        busy.push(picks);
        let variables = self.scheduler.draw(later, self.plan.candidates, &busy);
        let others = self.ahead.iter().flat_map(|ahead| ahead.variables.iter().copied()).collect();
        let candidates = independence.look_up(later, variables, others, pairs);
        self.ahead.push_back(candidates);
    }

    /// The picks of round `number` from its candidates: those that must not wait any longer first, then those that moved
    /// most.
    fn choose(&mut self, number: u64) -> Vec<u32> {
        let (Some(independence), Some(candidates)) = (&self.independence, self.ahead.pop_front()) else {
            return Vec::new();
        };
        debug_assert_eq!(candidates.round, number);
        let variables = &candidates.variables;
        let ranks: Vec<_> = variables.iter().map(|variable| self.scheduler.rank(*variable)).collect();
        let mut order: Vec<usize> = (0..variables.len()).collect();
        let waiting = |place: usize| ranks[place].0;
        let moved = |place: usize| ranks[place].1;
        order.sort_by(|left, right| {
            waiting(*right).cmp(&waiting(*left)).then_with(|| moved(*right).total_cmp(&moved(*left)))
        });
        let busy = |variable: u32| self.begun.iter().any(|round| round.picks.contains(&variable));
        let kept = independence.choose(&candidates, &order, self.plan.want, busy);
        let mut is_kept = vec![false; variables.len()];
        kept.iter().for_each(|place| is_kept[*place] = true);
        let left = order.iter().filter(|place| !is_kept[**place]).map(|place| variables[*place]);
        self.scheduler.left_out(number, left);
        kept.into_iter().map(|place| variables[place]).collect()
    }

    /// The oldest round on its way.
    pub fn oldest(&self) -> Option<&Round> {
        self.begun.front()
    }

    /// The oldest round on its way has ended: with these products of its pairs, and what became of its picks.
    pub fn end(&mut self, products: &[f64], changes: &[Change]) {
        let Some(round) = self.begun.pop_front() else { return };
        self.scheduler.finished(changes);
        let Some(independence) = &mut self.independence else { return };
        independence.learn_squares(&round.pairs, products);
        let two = round.pairs.iter().zip(products).filter(|((left, right), _)| left != right);
        let products: Vec<f64> = two.map(|(_, product)| *product).collect();
        let stretch = self.plan.stretch() as u64;
        let first = if round.number.is_multiple_of(stretch) { 1 } else { self.plan.depth as u64 };
        let last = self.plan.depth as u64;
        let mut rest = &products[..];
        for candidates in &mut self.ahead {
            if (first..=last).contains(&(candidates.round - round.number)) {
                rest = independence.learn(candidates, rest);
            }
        }
    }

    /// What is to be saved, where nothing is on its way; rows of two numbers, [`Scheduler::rows`] of them.
    pub fn save(&self) -> Vec<[f64; 2]> {
        self.scheduler.save()
    }
}
