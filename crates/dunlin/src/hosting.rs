//! Which worker hosts which lanes: a table of cuts, and how lanes are dealt by measured speed.
//!
//! Where a lane is computed decides nothing of what is learned, so that lanes can move at any synchronisation point.
//! Every worker hosts consecutive lanes, at least one: sums run along the tree over lanes, and of consecutive ones a
//! worker sends few subtrees.

use crate::serial::share;
use std::ops::Range;

/// Worker w hosts the lanes from cut w to cut w + 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosting {
    cuts: Vec<usize>,
}

impl Hosting {
    /// `lanes` lanes in parts that are as equal as can be.
    pub fn even(lanes: usize, workers: usize) -> Hosting {
        let starts = (0..workers).map(|worker| share(lanes, workers, worker).start);
        Hosting { cuts: starts.chain([lanes]).collect() }
    }

    /// From workers + 1 `cuts`; `None` unless they go from 0 to `lanes` and give every worker a lane.
    pub fn from_cuts(cuts: Vec<usize>, lanes: usize, workers: usize) -> Option<Hosting> {
        let ends = (cuts.first(), cuts.last()) == (Some(&0), Some(&lanes));
        let ascend = cuts.windows(2).all(|pair| pair[0] < pair[1]);
        (cuts.len() == workers + 1 && ends && ascend).then_some(Hosting { cuts })
    }

    /// The cuts: as many as there are workers, and one more.
    pub fn cuts(&self) -> &[usize] {
        &self.cuts
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.cuts.last().copied().unwrap_or(0)
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.cuts.len().saturating_sub(1)
    }

    /// The lanes of `worker`; none if there is no such worker.
    pub fn lanes_of(&self, worker: usize) -> Range<usize> {
        match self.cuts.get(worker..=worker.saturating_add(1)) {
            Some([start, end]) => *start..*end,
            _ => 0..0,
        }
    }

    /// The worker of `lane`, which is one of the lanes.
    pub fn owner(&self, lane: usize) -> usize {
        self.cuts.partition_point(|cut| *cut <= lane).saturating_sub(1)
    }

    /// How long a lap takes where the slowest worker decides: the most of Σ `work` of its lanes / its `speed`.
    pub fn lap(&self, work: &[f64], speeds: &[f64]) -> f64 {
        let of_worker =
            |(worker, speed): (usize, &f64)| work[self.lanes_of(worker)].iter().sum::<f64>() / speed;
        speeds.iter().enumerate().map(of_worker).fold(0.0, f64::max)
    }

    /// Deals the lanes, each with its `work`, to workers of these `speeds` (work done a second, above 0) for the
    /// shortest [`Hosting::lap`] and, where several have that, nearest to the proportion of speeds. There are at least
    /// as many lanes as workers.
    ///
    /// # Examples
    /// ```
    /// use dunlin::hosting::Hosting;
    /// let dealt = Hosting::dealt(&[1.0; 24], &[1.0, 0.5, 1.0, 1.0]);
    /// assert_eq!(dealt.cuts(), [0, 7, 10, 17, 24]);
    /// ```
    pub fn dealt(work: &[f64], speeds: &[f64]) -> Hosting {
        Hosting::deal(work, speeds, work.len())
    }

    /// [`Hosting::dealt`] where no worker may have more than `most` lanes; `None` if that is too few for all lanes.
    ///
    /// # Examples
    /// ```
    /// use dunlin::hosting::Hosting;
    /// let dealt = |most| Hosting::dealt_within(&[1.0; 12], &[1.0, 0.5, 1.0], most);
    /// assert_eq!(dealt(12).unwrap().cuts(), [0, 5, 7, 12]);
    /// assert_eq!((dealt(4).unwrap().cuts(), dealt(3)), (&[0, 4, 8, 12][..], None));
    /// ```
    pub fn dealt_within(work: &[f64], speeds: &[f64], most: usize) -> Option<Hosting> {
        let most = most.min(work.len());
        (most * speeds.len() >= work.len()).then(|| Hosting::deal(work, speeds, most))
    }

    fn deal(work: &[f64], speeds: &[f64], most: usize) -> Hosting {
        let mut before = vec![0.0];
        work.iter().for_each(|work| before.push(before[before.len() - 1] + work));
        let near = proportional(&before, &even_out(speeds, most as f64 / work.len() as f64), most);
        let seconds = |worker: usize, start: usize, end: usize| match end - start <= most {
            true => (before[end] - before[start]) / speeds[worker],
            false => f64::INFINITY,
        };
        let (lap, _) = best_way(&near, |cost, worker, start, end| cost.max(seconds(worker, start, end)));
        let longest = lap * (1.0 + 1e-9);
        let (_, cuts) =
            best_way(&near, |cost, worker, start, end| match seconds(worker, start, end) <= longest {
                true => cost + (before[end] - before[near[worker + 1]]).abs(),
                false => f64::INFINITY,
            });
        Hosting { cuts }
    }
}

/// What part of the work each worker is for: in proportion to `speeds`, but none for more than `most`; the others share
/// what that leaves. `most` of each is enough for all.
fn even_out(speeds: &[f64], most: f64) -> Vec<f64> {
    let mut is_full = vec![false; speeds.len()];
    loop {
        let full = is_full.iter().filter(|full| **full).count();
        let (left, others) = (1.0 - most * full as f64, speeds.iter().zip(&is_full));
        let all: f64 = others.clone().filter(|(_, full)| !**full).map(|(speed, _)| speed).sum();
        let parts: Vec<f64> =
            others.map(|(speed, full)| if *full { most } else { left * speed / all }).collect();
        let Some(over) = parts.iter().position(|part| *part > most * (1.0 + 1e-9)) else { return parts };
        is_full[over] = true;
    }
}

/// How far a cut may be from the place that the proportion of speeds gives it: rounding and unequal lanes move it little.
const WINDOW: usize = 8;

/// The cuts nearest to the proportion of `speeds`, of lanes with this much work `before` each cut; every worker has a lane,
/// and at most `most`, which are enough for all.
fn proportional(before: &[f64], speeds: &[f64], most: usize) -> Vec<usize> {
    let (lanes, workers) = (before.len() - 1, speeds.len());
    let (work, all) = (before[lanes], speeds.iter().sum::<f64>());
    let (mut cuts, mut done) = (vec![0], 0.0);
    for (worker, speed) in speeds.iter().enumerate() {
        done += speed;
        let wanted = work * done / all;
        let after = before.partition_point(|before| *before < wanted).clamp(1, lanes);
        let nearest = if wanted - before[after - 1] < before[after] - wanted { after - 1 } else { after };
        let (last, others) = (cuts[worker], workers - 1 - worker);
        let least = (last + 1).max(lanes.saturating_sub(most.saturating_mul(others)));
        cuts.push(nearest.max(least).min((last + most).min(lanes - others)));
    }
    cuts[workers] = lanes;
    cuts
}

/// The cheapest increasing cuts within [`WINDOW`] of those of `near`, and their cost: `step` gives that of the cuts up to a
/// worker's end, from that of those up to its start, the worker, its start and its end.
fn best_way(near: &[usize], step: impl Fn(f64, usize, usize, usize) -> f64) -> (f64, Vec<usize>) {
    let (workers, lanes) = (near.len() - 1, near[near.len() - 1]);
    let places = |cut: usize| match cut {
        0 => 0..=0,
        cut if cut == workers => lanes..=lanes,
        cut => near[cut].saturating_sub(WINDOW).max(cut)..=(near[cut] + WINDOW).min(lanes - (workers - cut)),
    };
    // By cut, by its place: the cost, and the place of the cut before.
    let mut ways: Vec<Vec<(usize, f64, usize)>> = vec![vec![(0, 0.0, 0)]];
    for worker in 0..workers {
        let best = |end: usize| {
            let starts = ways[worker].iter().filter(|way| way.0 < end);
            let costs = starts.map(|(start, cost, _)| (step(*cost, worker, *start, end), *start));
            let (cost, start) = costs.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0));
            (end, cost, start)
        };
        let reached = places(worker + 1).map(best).collect();
        ways.push(reached);
    }
    let (mut cuts, mut at) = (vec![lanes], lanes);
    for ways in ways[1..].iter().rev() {
        at = ways.iter().find(|way| way.0 == at).map_or(0, |way| way.2);
        cuts.push(at);
    }
    cuts.reverse();
    (ways[workers].first().map_or(f64::INFINITY, |way| way.1), cuts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    /// The shortest lap of all ways to cut.
    fn shortest(work: &[f64], speeds: &[f64]) -> f64 {
        shortest_within(work, speeds, work.len())
    }

    #[test]
    fn no_other_cuts_give_a_shorter_lap() {
        for seed in 0..2000 {
            let mut rng = stream(seed, "deal", &[]);
            let workers = 1 + rng.below(4);
            let lanes = workers + rng.below(8);
            let is_even = rng.below(2) == 0;
            let draw = |rng: &mut crate::rng::Stream| if is_even { 1.0 } else { 0.2 + rng.unit() };
            let work: Vec<f64> = (0..lanes).map(|_| draw(&mut rng)).collect();
            let speeds: Vec<f64> = (0..workers).map(|_| [1.0, 0.5, 0.25, 0.9][rng.below(4)]).collect();
            let dealt = Hosting::dealt(&work, &speeds);
            let place = format!("seed {seed}: {dealt:?} of {work:?} at {speeds:?}");
            let checked = Hosting::from_cuts(dealt.cuts().to_vec(), lanes, workers);
            assert_eq!(checked.as_ref(), Some(&dealt), "{place}");
            let (lap, best) = (dealt.lap(&work, &speeds), shortest(&work, &speeds));
            assert!(lap <= best * (1.0 + 1e-9), "{place}: {lap}, and {best} is possible");
        }
    }

    /// The same with a limit of lanes.
    fn shortest_within(work: &[f64], speeds: &[f64], most: usize) -> f64 {
        let Some((speed, rest)) = speeds.split_first() else {
            return if work.is_empty() { 0.0 } else { f64::INFINITY };
        };
        let ends = 1..=work.len().min(most);
        let of = |end: usize| {
            (work[..end].iter().sum::<f64>() / speed).max(shortest_within(&work[end..], rest, most))
        };
        ends.map(of).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_worker_is_dealt_more_lanes_than_it_may_have() {
        for seed in 0..2000 {
            let mut rng = stream(seed, "deal-within", &[]);
            let workers = 1 + rng.below(4);
            let lanes = workers + rng.below(8);
            let most = 1 + rng.below(lanes);
            let work: Vec<f64> = (0..lanes).map(|_| 0.2 + rng.unit()).collect();
            let speeds: Vec<f64> = (0..workers).map(|_| [1.0, 0.5, 0.1, 4.0][rng.below(4)]).collect();
            let place = format!("seed {seed}: {most} of {work:?} at {speeds:?}");
            let Some(dealt) = Hosting::dealt_within(&work, &speeds, most) else {
                assert!(most * workers < lanes, "{place}");
                continue;
            };
            let checked = Hosting::from_cuts(dealt.cuts().to_vec(), lanes, workers);
            assert_eq!(checked.as_ref(), Some(&dealt), "{place}");
            assert!((0..workers).all(|worker| dealt.lanes_of(worker).len() <= most), "{place}: {dealt:?}");
            let (lap, best) = (dealt.lap(&work, &speeds), shortest_within(&work, &speeds, most));
            assert!(lap <= best * (1.0 + 1e-9), "{place}: {lap}, and {best} is possible");
        }
        // Many lanes: what a full worker leaves is shared by all others.
        let many = Hosting::dealt_within(&[1.0; 1000], &[4.0, 1.0, 1.0, 1.0], 310).unwrap();
        assert_eq!(many.cuts(), [0, 310, 540, 770, 1000]);
    }

    #[test]
    fn equal_workers_keep_equal_parts_and_a_slow_one_gets_its_proportion() {
        let dealt = |lanes: usize, speeds: &[f64]| Hosting::dealt(&vec![3.0; lanes], speeds).cuts().to_vec();
        assert_eq!(dealt(16, &[7.0; 4]), Hosting::even(16, 4).cuts());
        assert_eq!(dealt(16, &[2.0, 2.0, 2.0, 1.0]), [0, 5, 9, 14, 16]);
        assert_eq!(dealt(24, &[2.0, 2.0, 2.0, 1.0]), [0, 7, 14, 21, 24]);
        assert_eq!(dealt(3, &[1.0, 100.0, 100.0]), [0, 1, 2, 3]);
    }

    #[test]
    fn owners_and_lanes_agree_and_other_cuts_are_refused() {
        let hosting = Hosting::even(7, 3);
        assert!((0..7).all(|lane| hosting.lanes_of(hosting.owner(lane)).contains(&lane)), "{hosting:?}");
        assert_eq!((hosting.lanes(), hosting.workers(), hosting.lanes_of(2)), (7, 3, 4..7));
        assert_eq!((hosting.lanes_of(3), hosting.lanes_of(usize::MAX)), (0..0, 0..0));
        for cuts in [vec![], vec![0, 2, 2, 7], vec![0, 3, 7], vec![1, 2, 3, 7], vec![0, 2, 4, 8]] {
            assert_eq!(Hosting::from_cuts(cuts.clone(), 7, 3), None, "{cuts:?}");
        }
    }
}
