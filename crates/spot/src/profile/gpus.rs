//! Machines with several GPUs.
//!
//! A profile is measured on GPUs; a trace counts machines. A machine of N GPUs is lost whole, so *its GPUs serve one pipeline*: N stages
//! in a row. Losing it costs one pipeline at most, where one GPU in each of N pipelines would cost up to N, and what neighbouring
//! stages send each other stays inside. A pipeline of P stages takes ceil(P / N) machines, the last of which may have GPUs to
//! spare; only where a pipeline is shorter than a machine (P <= N) does a machine hold several, floor(N / P) of them, whole.
//!
//! For the planner a machine is then one stage that cannot be divided: layouts are A x Q, A rows of Q = ceil(P / N) machines each.
//! Machines are drawn uniformly, so what is left of every such stage is multivariate hypergeometric as before, and every
//! expectation stays exact. A machine holds the layers of its GPUs; what it has it need not fetch, what its GPUs pass on to each other
//! is free, and what it lacks comes over its one link.

use super::Profile;
use crate::{Error, Layout, Result};
use std::collections::BTreeMap;

/// Most GPUs of a machine.
const MOST_GPUS: u32 = 64;

impl Profile {
    /// The same for machines of `gpus` GPUs, which cost that many times as much; layouts are then rows x machines of a row, and
    /// [`Profile::on_gpus`] says what they are in GPUs. Throughput is as the table says for the GPUs.
    ///
    /// Layouts beside those of the table ([`Profile::with_shapes`]) are left out. Of the P that take Q > 1 machines the largest is taken; of those that fit into one machine the fastest.
    ///
    /// # Errors
    /// No GPU, more than 64; no layout that is allowed and fits.
    ///
    /// # Examples
    /// ```
    /// use dunlin_spot::{Layout, profile::Profile};
    /// let gpt = Profile::built_in("gpt-1.5b").unwrap().with_gpus(4).unwrap();
    /// assert_eq!(gpt.best(8), Layout::new(4, 2)); // four rows of two machines:
    /// assert_eq!(gpt.on_gpus(Layout::new(4, 2)), Layout::new(4, 8)); // four pipelines of eight stages
    /// ```
    pub fn with_gpus(&self, gpus: u32) -> Result<Profile> {
        if gpus == 1 {
            return Ok(self.clone());
        }
        if gpus == 0 || gpus > MOST_GPUS {
            return Err(Error::usage(format!("{gpus} GPUs in a machine; from 1 to {MOST_GPUS} are allowed")));
        }
        let plain = self.without_shapes();
        let (allowed, measured) = (
            plain.rows(gpus, &plain.layouts),
            plain.rows(gpus, &plain.rates.keys().copied().collect::<Vec<_>>()),
        );
        if allowed.is_empty() {
            let text =
                format!("profile {}: no layout is allowed and fills machines of {gpus} GPUs", self.name);
            return Err(Error::data(text));
        }
        let mut layouts: Vec<Layout> = allowed.keys().copied().collect();
        layouts.sort_by_key(|layout| (layout.machines(), layout.pipelines));
        let mut on_gpus = measured;
        on_gpus.extend(allowed);
        let rates = on_gpus.iter().map(|(&row, real)| (row, plain.samples_per_second(*real))).collect();
        let mut profile = Profile { layouts, rates, on_gpus, gpus, shapes: BTreeMap::new(), ..plain };
        profile.dollars_per_hour.spot *= f64::from(gpus);
        profile.dollars_per_hour.on_demand *= f64::from(gpus);
        Ok(profile)
    }

    /// GPUs of a machine.
    pub fn gpus(&self) -> u32 {
        self.gpus
    }

    /// Pipelines and stages of a layout of machines: the layout itself where a machine has one GPU.
    pub fn on_gpus(&self, layout: Layout) -> Layout {
        if self.gpus == 1 {
            return layout;
        }
        let whole = Layout::new(layout.pipelines, layout.stages * self.gpus);
        self.on_gpus.get(&layout).copied().unwrap_or(whole)
    }

    /// What each layout of machines is in GPUs, of those in `all`.
    fn rows(&self, gpus: u32, all: &[Layout]) -> BTreeMap<Layout, Layout> {
        let machines = |layout: &Layout| layout.stages.div_ceil(gpus);
        let deepest = |wanted: u32| {
            all.iter().filter(|layout| machines(layout) == wanted).map(|layout| layout.stages).max()
        };
        let mut rows: BTreeMap<Layout, Layout> = BTreeMap::new();
        for &layout in all {
            let (row, counts) = match machines(&layout) {
                1 => {
                    let together = gpus / layout.stages;
                    (Layout::new(layout.pipelines.div_ceil(together), 1), true)
                }
                row => (Layout::new(layout.pipelines, row), deepest(row) == Some(layout.stages)),
            };
            let faster = |other: &Layout| self.samples_per_second(layout) > self.samples_per_second(*other);
            if counts && rows.get(&row).is_none_or(faster) {
                rows.insert(row, layout);
            }
        }
        rows
    }

    /// Stages of a pipeline that takes so many machines: all rows of as many are of one kind, but for those of one machine.
    pub(super) fn stages_on(&self, machines: u32) -> u32 {
        let row = self.on_gpus.iter().find(|(row, _)| row.stages == machines);
        row.map_or(machines * self.gpus, |(_, real)| real.stages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{CostModel, Rules, Step};
    use crate::liveput::{Victims, survivors};
    use crate::profile::BUILT_IN;

    #[test]
    fn one_gpu_is_what_it_always_was() {
        for (name, _) in BUILT_IN {
            let plain = Profile::built_in(name).unwrap();
            let one = plain.with_gpus(1).unwrap();
            assert_eq!((one.layouts(), one.measured()), (plain.layouts(), plain.measured()));
            for rules in [Rules::Published, Rules::Corrected] {
                let (a, b) = (CostModel::with_rules(&plain, rules), CostModel::with_rules(&one, rules));
                let (from, to) = (plain.best(20), plain.best(24));
                let step = Step { machines: 24, lost: 3, from, to };
                assert_eq!(a.expected_ms(step).to_bits(), b.expected_ms(step).to_bits(), "{name}");
            }
        }
    }

    #[test]
    fn a_pipeline_fills_its_machines_and_a_machine_may_hold_short_ones() {
        let gpt = Profile::built_in("gpt-1.5b").unwrap();
        let four = gpt.with_gpus(4).unwrap();
        // 13 stages take four machines, 16 too: the larger is taken. The layers of a machine are those of its stages.
        assert_eq!(four.on_gpus(Layout::new(1, 4)), Layout::new(1, 16));
        let (whole, parts) = (four.cut(4), gpt.cut(16));
        for (machine, layers) in whole.iter().enumerate() {
            assert_eq!(*layers, parts[4 * machine].start..parts[4 * machine + 3].end);
        }
        // 2 x 2 GPUs: a machine of four holds both pipelines.
        let resnet = Profile::built_in("resnet152").unwrap();
        let fours = resnet.with_gpus(4).unwrap();
        assert_eq!(fours.on_gpus(Layout::new(3, 1)), Layout::new(6, 2));
        assert_eq!(fours.samples_per_second(Layout::new(3, 1)), resnet.samples_per_second(Layout::new(6, 2)));
        assert_eq!(fours.dollars_per_hour.spot, 4.0 * resnet.dollars_per_hour.spot);
        // 6 stages on machines of four: the second has two GPUs to spare.
        let two = gpt.with_gpus(64).unwrap();
        assert!(two.layouts().iter().all(|layout| layout.stages == 1));
        assert!(gpt.with_gpus(0).is_err() && gpt.with_gpus(65).is_err());
    }

    /// Draws machines, counts the GPUs left of every stage, and how many pipelines they still make.
    fn drawn(layout: Layout, gpus: u32, machines: u32, lost: u32, spread: bool) -> Vec<f64> {
        const DRAWS: u32 = 40_000;
        let mut stream = dunlin_rng::stream(11, "gpus", &[]);
        let row = layout.stages.div_ceil(gpus);
        let mut chances = vec![0.0; layout.pipelines as usize + 1];
        for _ in 0..DRAWS {
            let mut order: Vec<u32> = (0..machines).collect();
            stream.shuffle(&mut order);
            let mut left = vec![layout.pipelines; layout.stages as usize];
            for &machine in &order[..lost as usize] {
                for gpu in 0..gpus {
                    let (pipeline, stage) = if spread {
                        let slot = machine * gpus + gpu; // one stage after another, each over all pipelines
                        (slot % layout.pipelines, slot / layout.pipelines)
                    } else {
                        (machine / row, machine % row * gpus + gpu)
                    };
                    if pipeline < layout.pipelines && stage < layout.stages {
                        left[stage as usize] -= 1;
                    }
                }
            }
            chances[*left.iter().min().unwrap() as usize] += 1.0 / f64::from(DRAWS);
        }
        chances
    }

    #[test]
    fn what_is_left_is_exact_for_machines_lost_whole_and_more_than_if_they_were_spread() {
        for (layout, gpus, machines, lost) in
            [((4, 8), 4, 9, 2), ((4, 8), 2, 18, 4), ((3, 6), 4, 8, 3), ((5, 12), 4, 16, 6)]
        {
            let layout = Layout::new(layout.0, layout.1);
            let rows = Layout::new(layout.pipelines, layout.stages.div_ceil(gpus));
            let exact = survivors(rows, machines, lost, Victims::Uniform).unwrap();
            let found = drawn(layout, gpus, machines, lost, false);
            for (exact, found) in exact.iter().zip(&found) {
                assert!((exact - found).abs() < 0.012, "{layout} of {gpus}: {exact}, drawn {found}");
            }
            let mean = |chances: &[f64]| {
                chances.iter().enumerate().map(|(d, chance)| d as f64 * chance).sum::<f64>()
            };
            let spread = drawn(layout, gpus, machines, lost, true);
            assert!(mean(&exact) > mean(&spread), "{layout} of {gpus}: {} {}", mean(&exact), mean(&spread));
        }
    }
}
