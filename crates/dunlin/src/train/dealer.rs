//! Whether lanes should move: rank 0 compares how quick workers are with how many lanes they have.
//!
//! What is measured is computing alone, by lane, in the time of the cluster. An interval lasts from one synchronisation
//! point to another and takes the slowest worker [`LEAST_SECONDS`] at least. Lanes move only if the new cuts would have made
//! each of the last two intervals [`LEAST_GAIN`] shorter: a worker that stood still once is no slow worker. No worker is dealt
//! more lanes than it has memory for (`--memory`); if that leaves nothing to gain, the user is told once.

use crate::hosting::Hosting;
use serde::{Deserialize, Serialize};

/// Seconds of computing that the slowest worker has in an interval: shorter ones tell of noise.
const LEAST_SECONDS: f64 = 0.05;

/// How much shorter a lap must become.
const LEAST_GAIN: f64 = 0.05;

/// What a lane took since it was hosted where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Seconds of computing.
    pub(super) seconds: f64,
    /// Samples that were worked on.
    pub(super) samples: f64,
}

/// Rank 0's part.
#[derive(Debug, Default)]
pub(super) struct Dealer {
    /// What lanes had taken when this interval began, by lane; empty for nothing.
    begun: Vec<Pace>,
    earlier: Option<Interval>,
    /// Lanes that a worker has memory for, if that is limited.
    most: Option<usize>,
    /// A slow worker whose lanes nobody has memory for.
    stuck: Option<Stuck>,
}

/// A slow worker that keeps its lanes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stuck {
    /// How many times slower than the fastest it is.
    Found { worker: usize, slower: f64 },
    /// The user knows.
    Told,
}

/// Work of each lane in samples, speed of each worker in samples a second.
#[derive(Clone, Debug)]
struct Interval {
    work: Vec<f64>,
    speeds: Vec<f64>,
}

/// New cuts, and the worker that they are for most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Deal {
    /// Of the new [`Hosting`].
    pub(super) cuts: Vec<usize>,
    /// The worker whose number of lanes changes most.
    pub(super) worker: usize,
    /// How many times slower than the fastest it is.
    pub(super) slower: f64,
}

impl Dealer {
    /// Of workers with memory for `most` lanes each.
    pub(super) fn limited(most: usize) -> Dealer {
        Dealer { most: Some(most), ..Dealer::default() }
    }

    /// Says, once in a run, that a worker is slow and nobody has memory for its lanes.
    pub(super) fn complaint(&mut self, budget: &str) -> Option<String> {
        let Some(Stuck::Found { worker, slower }) = self.stuck else { return None };
        self.stuck = Some(Stuck::Told);
        Some(format!(
            "worker {worker} is {slower:.1} x slower, but within --memory {budget} no other has room for enough of its lanes: \
             lanes stay where they are"
        ))
    }

    /// At a synchronisation point: what each lane of each worker has taken by now, as they are hosted. New cuts, if the
    /// lanes should move.
    pub(super) fn look(&mut self, paces: &[Vec<Pace>], hosting: &Hosting) -> Option<Deal> {
        let now: Vec<Pace> = paces.iter().flatten().copied().collect();
        if now.len() != hosting.lanes() || paces.len() != hosting.workers() {
            return None;
        }
        let interval = self.interval(&now, hosting)?;
        self.begun = now;
        let earlier = self.earlier.replace(interval.clone())?;
        let speeds: Vec<f64> =
            interval.speeds.iter().zip(&earlier.speeds).map(|(now, then)| 0.5 * (now + then)).collect();
        let gains = |dealt: &Hosting| {
            let shorter = |interval: &Interval| {
                let lap = |hosting: &Hosting| hosting.lap(&interval.work, &interval.speeds);
                lap(dealt) < (1.0 - LEAST_GAIN) * lap(hosting)
            };
            shorter(&interval) && shorter(&earlier)
        };
        let best = Some(Hosting::dealt(&interval.work, &speeds)).filter(gains)?;
        let dealt = match self.most {
            None => Some(best.clone()),
            Some(most) => Hosting::dealt_within(&interval.work, &speeds, most).filter(gains),
        };
        let fastest = speeds.iter().copied().fold(0.0, f64::max);
        let to = dealt.as_ref().unwrap_or(&best);
        let change = |worker: &usize| to.lanes_of(*worker).len().abs_diff(hosting.lanes_of(*worker).len());
        // Of several, the slowest.
        let order = |a: &usize, b: &usize| change(a).cmp(&change(b)).then(speeds[*b].total_cmp(&speeds[*a]));
        let worker = (0..speeds.len()).max_by(order)?;
        let slower = fastest / speeds[worker];
        let Some(dealt) = dealt else {
            self.stuck.get_or_insert(Stuck::Found { worker, slower });
            return None;
        };
        *self = Dealer { most: self.most, stuck: self.stuck, ..Dealer::default() };
        Some(Deal { cuts: dealt.cuts().to_vec(), worker, slower })
    }

    /// What lanes and workers did in this interval, if it is long enough.
    fn interval(&self, now: &[Pace], hosting: &Hosting) -> Option<Interval> {
        let begun = |lane: usize| self.begun.get(lane).copied().unwrap_or_default();
        let work: Vec<f64> =
            now.iter().enumerate().map(|(lane, now)| now.samples - begun(lane).samples).collect();
        let of_worker = |worker: usize| {
            let lanes = hosting.lanes_of(worker);
            let seconds: f64 = lanes.clone().map(|lane| now[lane].seconds - begun(lane).seconds).sum();
            (work[lanes].iter().sum::<f64>(), seconds)
        };
        let workers: Vec<(f64, f64)> = (0..hosting.workers()).map(of_worker).collect();
        let is_long = workers.iter().any(|(_, seconds)| *seconds >= LEAST_SECONDS);
        let speeds: Vec<f64> = workers.iter().map(|(samples, seconds)| samples / seconds).collect();
        let are_known = speeds.iter().all(|speed| speed.is_finite() && *speed > 0.0);
        (is_long && are_known).then_some(Interval { work, speeds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paces after `laps` laps of lanes with 100 samples each; `seconds(worker, lap)` is what a lane took there.
    fn paces(hosting: &Hosting, laps: usize, seconds: impl Fn(usize, usize) -> f64) -> Vec<Vec<Pace>> {
        let of = |worker: usize| Pace {
            seconds: (0..laps).map(|lap| seconds(worker, lap)).sum(),
            samples: 100.0 * laps as f64,
        };
        (0..hosting.workers()).map(|worker| vec![of(worker); hosting.lanes_of(worker).len()]).collect()
    }

    #[test]
    fn who_is_slow_twice_loses_lanes_and_who_stood_still_once_does_not() {
        let hosting = Hosting::even(24, 4);
        let slow = |worker: usize, _: usize| if worker == 1 { 0.2 } else { 0.1 };
        let mut dealer = Dealer::default();
        assert_eq!(dealer.look(&paces(&hosting, 1, slow), &hosting), None);
        let deal = dealer.look(&paces(&hosting, 2, slow), &hosting).unwrap();
        assert_eq!((deal.cuts, deal.worker), (vec![0, 7, 10, 17, 24], 1));
        assert!((deal.slower - 2.0).abs() < 1e-9);
        let once = |worker: usize, lap: usize| if (worker, lap) == (1, 1) { 1.0 } else { 0.1 };
        let mut dealer = Dealer::default();
        assert!((1..9).all(|laps| dealer.look(&paces(&hosting, laps, once), &hosting).is_none()));
    }

    #[test]
    fn nobody_is_dealt_more_lanes_than_it_has_memory_for_and_that_is_told_once() {
        let hosting = Hosting::even(24, 4);
        let slow = |worker: usize, _: usize| if worker == 1 { 0.2 } else { 0.1 };
        let looked = |dealer: &mut Dealer| {
            (1..7).find_map(|laps| dealer.look(&paces(&hosting, laps, slow), &hosting)).map(|deal| deal.cuts)
        };
        assert_eq!(looked(&mut Dealer::limited(7)), Some(vec![0, 7, 10, 17, 24]));
        // 7 lanes were best; with 6 for the others, the slow one has all that it had.
        for most in [0, 5, 6] {
            let mut dealer = Dealer::limited(most);
            assert_eq!((looked(&mut dealer), dealer.stuck.is_some()), (None, true), "{most}");
            let words = dealer.complaint("40 MB").unwrap();
            assert!(words.starts_with("worker 1 is 2.0 x slower, but within --memory 40 MB"), "{words}");
            assert_eq!((looked(&mut dealer), dealer.complaint("40 MB")), (None, None));
        }
        let mut dealer = Dealer::limited(6);
        assert!((1..7).all(|laps| dealer.look(&paces(&hosting, laps, |_, _| 0.1), &hosting).is_none()));
        assert_eq!(dealer.complaint(""), None, "nobody is slow");
    }

    #[test]
    fn lanes_come_back_to_a_worker_that_is_quick_again() {
        let hosting = Hosting::from_cuts(vec![0, 7, 10, 17, 24], 24, 4).unwrap();
        let mut dealer = Dealer::default();
        let looked = [1, 2].map(|laps| dealer.look(&paces(&hosting, laps, |_, _| 0.1), &hosting));
        let [None, Some(deal)] = looked else { panic!("{looked:?}") };
        assert_eq!((deal.cuts.as_slice(), deal.worker), (Hosting::even(24, 4).cuts(), 1));
    }

    #[test]
    fn noise_and_short_intervals_move_nothing() {
        let hosting = Hosting::even(16, 4);
        let mut dealer = Dealer::default();
        let short = |worker: usize, _: usize| if worker == 0 { 0.002 } else { 0.001 };
        assert!((1..6).all(|laps| dealer.look(&paces(&hosting, laps, short), &hosting).is_none()));
        for seed in 0..50 {
            let mut dealer = Dealer::default();
            let noise = |worker: usize, lap: usize| {
                0.1 + 0.01 * crate::rng::stream(seed, "noise", &[worker as u64, lap as u64]).unit()
            };
            let looked = (1..9).find_map(|laps| dealer.look(&paces(&hosting, laps, noise), &hosting));
            assert_eq!(looked, None, "seed {seed}");
        }
    }
}
