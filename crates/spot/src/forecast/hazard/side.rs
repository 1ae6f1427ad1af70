//! One kind of event, losses or gains: how often, and how many at once.

use super::watch::Watch;

/// Last ages (intervals since the last event) of the buckets; the last bucket has no end.
const BUCKETS: [usize; 4] = [0, 1, 4, 15];
/// Ages that are told apart.
const AGES: usize = BUCKETS[BUCKETS.len() - 1] + 2;
/// What is left of a count after an interval: half of it after 173.
const FADE: f64 = 0.996;
/// What is left of a size's count after an event.
const SIZE_FADE: f64 = 0.99;
/// Before anything is seen: chance of an event in an interval, and how many intervals that is worth.
const PRIOR: (f64, f64) = (0.1, 10.0);
/// How many intervals of a bucket the chance over all buckets is worth in it.
const SHRINK: f64 = 10.0;
/// How many events the assumed sizes (k with chance 2^-k) are worth.
const SIZE_PRIOR: f64 = 3.0;
/// Assumed sizes end here.
const ASSUMED: usize = 8;
/// Larger events count as this large, so that a size costs what it should.
const LARGEST: usize = 4096;
/// What is kept when the trace has changed character.
const KEPT: f64 = 0.1;

#[derive(Clone, Debug)]
pub(super) struct Side {
    events: [f64; BUCKETS.len() + 1],
    exposures: [f64; BUCKETS.len() + 1],
    /// Faded count of every size; the one of 0 stays 0.
    sizes: Vec<f64>,
    age: usize,
    watch: Watch,
    changes: u32,
}

fn bucket(age: usize) -> usize {
    BUCKETS.iter().position(|last| age <= *last).unwrap_or(BUCKETS.len())
}

impl Side {
    pub(super) fn new() -> Side {
        Side {
            events: [0.0; BUCKETS.len() + 1],
            exposures: [0.0; BUCKETS.len() + 1],
            sizes: vec![0.0; ASSUMED + 1],
            age: AGES - 1,
            watch: Watch::default(),
            changes: 0,
        }
    }

    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    /// Takes in an interval in which `size` machines were concerned; `possible` says whether any could be.
    pub(super) fn observe(&mut self, size: u32, possible: bool) {
        let happened = size > 0;
        if possible && self.watch.has_changed(happened, self.overall()) {
            self.changes += 1;
            self.forget(KEPT);
        }
        self.forget_a_little();
        if possible {
            self.exposures[bucket(self.age)] += 1.0;
        }
        self.age = (self.age + 1).min(AGES - 1);
        if happened {
            self.happen((size as usize).min(LARGEST));
        }
    }

    fn happen(&mut self, size: usize) {
        // The age has moved on already; the event belongs to the one before.
        let before = bucket(self.age.saturating_sub(1));
        self.events[before] += 1.0;
        self.sizes.iter_mut().for_each(|count| *count *= SIZE_FADE);
        if self.sizes.len() <= size {
            self.sizes.resize(size + 1, 0.0);
        }
        self.sizes[size] += 1.0;
        self.age = 0;
    }

    fn forget_a_little(&mut self) {
        self.events.iter_mut().chain(&mut self.exposures).for_each(|count| *count *= FADE);
    }

    fn forget(&mut self, kept: f64) {
        self.events
            .iter_mut()
            .chain(&mut self.exposures)
            .chain(&mut self.sizes)
            .for_each(|count| *count *= kept);
    }

    /// The chance of an event in an interval, whatever the age.
    fn overall(&self) -> f64 {
        let (events, exposures) = (self.events.iter().sum::<f64>(), self.exposures.iter().sum::<f64>());
        (events + PRIOR.0 * PRIOR.1) / (exposures + PRIOR.1)
    }

    /// The chance of an event for every bucket.
    fn chances(&self) -> [f64; BUCKETS.len() + 1] {
        let overall = self.overall();
        std::array::from_fn(|at| (self.events[at] + SHRINK * overall) / (self.exposures[at] + SHRINK))
    }

    /// The chance of an event in the coming interval.
    pub(super) fn chance(&self) -> f64 {
        self.chances()[bucket(self.age)]
    }

    /// The chances of every size, given that there is an event.
    fn size_chances(&self) -> Vec<f64> {
        let whole = self.sizes.iter().sum::<f64>() + SIZE_PRIOR;
        let assumed = |size: usize| match size {
            0 => 0.0,
            // The last one takes what is beyond.
            ASSUMED => 2f64.powi(1 - ASSUMED as i32),
            size if size < ASSUMED => 2f64.powi(-(size as i32)),
            _ => 0.0,
        };
        let sizes = self.sizes.iter().enumerate();
        sizes.map(|(size, count)| (count + SIZE_PRIOR * assumed(size)) / whole).collect()
    }

    /// The chances of 0, 1, 2, ... machines in each of the next `horizon` intervals: the age is followed as a Markov
    /// chain that goes back to 0 with an event.
    pub(super) fn outlook(&self, horizon: usize) -> impl Iterator<Item = Vec<f64>> + use<> {
        let (chances, sizes) = (self.chances(), self.size_chances());
        let mut ages = [0.0; AGES];
        ages[self.age] = 1.0;
        (0..horizon).map(move |_| {
            let mut later = [0.0; AGES];
            for (age, share) in ages.iter().enumerate() {
                let event = share * chances[bucket(age)];
                later[0] += event;
                later[(age + 1).min(AGES - 1)] += share - event;
            }
            ages = later;
            let mut numbers: Vec<f64> = sizes.iter().map(|size| ages[0] * size).collect();
            numbers[0] = 1.0 - ages[0];
            numbers
        })
    }
}
