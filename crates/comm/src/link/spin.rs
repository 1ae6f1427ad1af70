//! When it pays to look again and again before a wait sleeps.

use std::time::Duration;

/// A time between two looks of a wait that means that the processor was given to somebody else meanwhile.
const LATE: Duration = Duration::from_micros(300);

/// True if `ranks` can each have a processor of this host.
pub(crate) fn has_processors(ranks: usize) -> bool {
    std::thread::available_parallelism().is_ok_and(|processors| processors.get() >= ranks)
}

/// Whether it pays to look again and again before a wait sleeps. Where another program needs the processor, or
/// frames come late, it does not: then it is tried again only now and then.
#[derive(Debug)]
pub(super) struct Spin {
    is_allowed: bool,
    /// How long a wait may look.
    patience: Duration,
    /// Waits that are still to be slept through.
    skip: u32,
    /// Fruitless tries in a row.
    fruitless: u32,
    /// Waits that will be slept through once the processor is given to somebody else again; it grows as long as that
    /// happens.
    penalty: u32,
    /// The least and the most that `penalty` is.
    penalties: (u32, u32),
}

impl Spin {
    /// Looks for `patience`, if it `is_allowed`; after the processor was given to somebody else meanwhile, the least
    /// to the most of `penalties` waits sleep at once.
    pub(super) fn new(is_allowed: bool, patience: Duration, penalties: (u32, u32)) -> Spin {
        Spin { is_allowed, patience, skip: 0, fruitless: 0, penalty: penalties.0, penalties }
    }

    /// How long the next wait may look; `None` if it should sleep at once.
    pub(super) fn patience(&mut self) -> Option<Duration> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.is_allowed.then_some(self.patience)
    }

    /// Takes in how a try went: whether a frame came, and the longest time between two looks. A long one
    /// means that the system gave the processor to somebody else.
    pub(super) fn learn(&mut self, came: bool, longest_gap: Duration) {
        self.fruitless = if came { 0 } else { (self.fruitless + 1).min(6) };
        let (least, most) = self.penalties;
        if longest_gap > LATE {
            self.skip = self.penalty;
            self.penalty = (self.penalty * 2).min(most);
        } else {
            self.skip = (1 << self.fruitless) - 1;
            self.penalty = self.penalty.saturating_sub(1).max(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(1);

    fn spin() -> Spin {
        Spin::new(true, Duration::from_micros(60), (3, 10))
    }

    /// Waits that sleep at once until the next one that looks.
    fn slept(spin: &mut Spin) -> usize {
        (0..).take_while(|_| spin.patience().is_none()).count()
    }

    #[test]
    fn frames_that_come_in_time_are_looked_for_every_time() {
        let mut spin = spin();
        for _ in 0..5 {
            assert_eq!(spin.patience(), Some(Duration::from_micros(60)));
            spin.learn(true, FAST);
        }
        assert_eq!(Spin::new(false, FAST, (3, 10)).patience(), None);
    }

    #[test]
    fn late_frames_are_looked_for_less_and_less_but_never_given_up() {
        let mut spin = spin();
        let slept: Vec<usize> = (0..8).map(|_| (slept(&mut spin), spin.learn(false, FAST)).0).collect();
        assert_eq!(slept, [0, 1, 3, 7, 15, 31, 63, 63]);
    }

    #[test]
    fn a_lost_processor_is_paid_for_more_each_time_up_to_a_bound() {
        let mut spin = spin();
        let slept: Vec<usize> = (0..4).map(|_| (slept(&mut spin), spin.learn(true, 2 * LATE)).0).collect();
        assert_eq!(slept, [0, 3, 6, 10]);
        spin.skip = 0;
        (0..20).for_each(|_| spin.learn(true, FAST));
        spin.learn(true, 2 * LATE);
        assert_eq!(spin.skip, 3, "forgiven");
    }
}
