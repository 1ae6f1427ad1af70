//! The chance to train so many samples in time, worked out for every number of machines, samples due and time left.
//!
//! Machines follow a first-order autoregression ([`Drift`]) between the fewest and the most. With K the chances of going from m to m'
//! machines in a step of time, n the machines used and r(n) the samples of half a step,
//!
//! ```text
//! Z_h(m, s) = E_{m' ~ K(m)} [ max_{n fits m'} V_{h-1}(m', s − r(n)) − money(n) ]
//! V_h(m, s) = max_{n fits m} Z_h(m, s − r(n)) − money(n),      V(m, s <= 0) = 1,   V_0(m, s > 0) = 0
//! ```
//!
//! that is, the second half of a step is trained on the machines there are then. Samples due lie on a grid, straight between its
//! points. The chance alone goes along with the value, for the same choices.

/// Steps of time at most.
const STEPS: usize = 32;
/// Points of the grid for the samples of half a step.
const POINTS: f64 = 5.0;
/// Most points of the grid.
const MOST_POINTS: usize = 1024;
/// Numbers of machines at most: with more they are taken in groups.
const MOST_ROWS: u32 = 48;

/// How the number of machines moves: m' − mean = keeps (m − mean) + noise, an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Machines in the long run.
    pub mean: f64,
    /// What is left of a difference to it after an interval, 0 to 1.
    pub keeps: f64,
    /// Variance of the noise, machines squared.
    pub variance: f64,
    /// The fewest machines.
    pub lowest: u32,
    /// The most.
    pub highest: u32,
}

impl Drift {
    /// Chances of every row (a number of machines) `intervals` after there were `machines`; what lies outside falls on the ends.
    fn chances(&self, rows: &[u32], machines: u32, intervals: f64) -> Vec<f64> {
        let left = self.keeps.powf(intervals);
        let mean = self.mean + (f64::from(machines) - self.mean) * left;
        let steps =
            if self.keeps < 1.0 { (1.0 - left * left) / (1.0 - self.keeps * self.keeps) } else { intervals };
        let deviation = (self.variance * steps).sqrt();
        let mut below = 0.0;
        let each = rows.iter().enumerate().map(|(row, &here)| {
            let upto = match rows.get(row + 1) {
                None => 1.0,
                Some(&next) if deviation < 1e-3 => {
                    // Certain: shared by the two numbers around it.
                    ((f64::from(next) - mean) / f64::from(next - here)).clamp(0.0, 1.0)
                }
                Some(&next) => normal_below((f64::from(here + next) / 2.0 - mean) / deviation),
            };
            let chance = (upto - below).max(0.0);
            below = upto.max(below);
            chance
        });
        each.collect()
    }
}

/// The probability that a standard normal variable is below `z`: Abramowitz and Stegun 7.1.26, to 1.5e-7.
fn normal_below(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = t
        * (0.254_829_592
            + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let tail = 0.5 * series * (-x * x).exp();
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// So many machines in use: what an interval of them brings and costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// Machines.
    pub machines: u32,
    /// Samples of an interval.
    pub samples: f64,
    /// What it costs, in chance.
    pub money: f64,
}

/// A value, and the chance in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odd {
    /// Chance less money.
    pub value: f64,
    /// The chance to be done in time.
    pub chance: f64,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Odds {
    rows: Vec<u32>,
    points: usize,
    /// Samples between two points.
    grid: f64,
    /// Intervals of a step.
    step: f64,
    /// `levels[h][row * points + j]`: with h steps left, j grid steps due.
    levels: Vec<Vec<Odd>>,
}

impl Odds {
    /// For up to `intervals` intervals and `samples` samples. `uses` are the ways to use machines, fewest first, each bringing more than those
    /// before; not to use any is always allowed and free. O(steps x points x (rows² + rows x uses)).
    pub fn new(drift: Drift, uses: &[Use], samples: f64, intervals: f64) -> Odds {
        let steps = (intervals.ceil() as usize).clamp(1, STEPS);
        let step = (intervals / steps as f64).max(f64::MIN_POSITIVE);
        let width = ((drift.highest - drift.lowest) / MOST_ROWS + 1) as usize;
        let mut rows: Vec<u32> = (drift.lowest..=drift.highest).step_by(width).collect();
        if rows.last() != Some(&drift.highest) {
            rows.push(drift.highest);
        }
        let most = uses.last().map_or(0.0, |most| most.samples) * step / 2.0;
        // What most machines bring in the long run falls on the grid.
        let usual = uses.iter().rev().find(|found| f64::from(found.machines) <= drift.mean.ceil());
        let usual = usual.map_or(most, |usual| usual.samples * step / 2.0);
        let due = samples.min(2.0 * steps as f64 * most).max(0.0);
        let grid = (usual / POINTS).max(due / MOST_POINTS as f64).max(f64::MIN_POSITIVE);
        let points = (due / grid).ceil().min(MOST_POINTS as f64) as usize + 2;
        let mut odds = Odds { rows, points, grid, step, levels: Vec::with_capacity(steps + 1) };
        odds.levels.push(odds.last());
        let kernel: Vec<Vec<f64>> =
            odds.rows.iter().map(|&row| drift.chances(&odds.rows, row, step)).collect();
        for h in 0..steps {
            let second = odds.best(&odds.levels[h], uses);
            let first = odds.best(&odds.mean(&kernel, &second), uses);
            odds.levels.push(first);
        }
        odds
    }

    /// No time left: done, or not.
    fn last(&self) -> Vec<Odd> {
        let odd = |at: usize| if at.is_multiple_of(self.points) { DONE } else { Odd::default() };
        (0..self.rows.len() * self.points).map(odd).collect()
    }

    /// The expectation over the machines there are next.
    fn mean(&self, kernel: &[Vec<f64>], values: &[Odd]) -> Vec<Odd> {
        let mut means = vec![Odd::default(); values.len()];
        for (chances, mean) in kernel.iter().zip(means.chunks_mut(self.points)) {
            for (&chance, row) in
                chances.iter().zip(values.chunks(self.points)).filter(|(chance, _)| **chance > 1e-6)
            {
                for (mean, value) in mean.iter_mut().zip(row) {
                    mean.value += chance * value.value;
                    mean.chance += chance * value.chance;
                }
            }
            // What was left out is shared out: what is certain stays certain.
            let total = mean[0].chance;
            if total > 0.0 {
                mean.iter_mut()
                    .for_each(|odd| *odd = Odd { value: odd.value / total, chance: odd.chance / total });
            }
        }
        means
    }

    /// The best use of half a step for every row and number of samples due.
    fn best(&self, values: &[Odd], uses: &[Use]) -> Vec<Odd> {
        let mut best = values.to_vec(); // of no machine
        let rows = self.rows.iter().zip(values.chunks(self.points)).zip(best.chunks_mut(self.points));
        for ((&machines, row), best) in rows {
            for used in uses.iter().take_while(|used| used.machines <= machines) {
                let shift = used.samples * self.step / 2.0 / self.grid;
                let money = used.money * self.step / 2.0;
                for (due, best) in best.iter_mut().enumerate().skip(1) {
                    let then = between(row, due as f64 - shift);
                    if then.value - money > best.value {
                        *best = Odd { value: then.value - money, chance: then.chance };
                    }
                }
            }
        }
        best
    }

    /// With `samples` due in `intervals` on `machines`; of the nearest state that was worked out.
    pub fn at(&self, intervals: f64, machines: u32, samples: f64) -> Odd {
        if samples <= 0.0 {
            return DONE;
        }
        if intervals <= 0.0 {
            return Odd::default();
        }
        let row = self.rows.partition_point(|&row| row < machines).min(self.rows.len() - 1);
        let due = samples / self.grid;
        let of = |level: usize| between(&self.levels[level][row * self.points..][..self.points], due);
        let level = (intervals / self.step).min((self.levels.len() - 1) as f64);
        let (low, share) = (level.floor() as usize, level.fract());
        if share == 0.0 { of(low) } else { mixed(of(low), of(low + 1), share) }
    }
}

/// Nothing is due.
const DONE: Odd = Odd { value: 1.0, chance: 1.0 };

fn mixed(a: Odd, b: Odd, share: f64) -> Odd {
    let mix = |a: f64, b: f64| a + share * (b - a);
    Odd { value: mix(a.value, b.value), chance: mix(a.chance, b.chance) }
}

/// At `due` grid steps, straight between the points; less than one is taken as one, for what is not done is not done; beyond the
/// last point never done.
fn between(row: &[Odd], due: f64) -> Odd {
    if due <= 0.0 {
        return DONE;
    }
    let due = due.max(1.0);
    let low = due.floor() as usize;
    match (row.get(low), row.get(low + 1)) {
        (Some(&a), Some(&b)) => mixed(a, b, due - low as f64),
        (Some(&last), None) if due == low as f64 => last,
        _ => Odd::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STILL: Drift = Drift { mean: 4.0, keeps: 1.0, variance: 0.0, lowest: 0, highest: 8 };

    fn uses(money: f64) -> Vec<Use> {
        (1..=8)
            .map(|n| Use { machines: n, samples: 10.0 * f64::from(n), money: money * f64::from(n) })
            .collect()
    }

    #[test]
    fn what_is_certain_has_chance_one_and_what_cannot_be_none() {
        let odds = Odds::new(STILL, &uses(0.0), 4000.0, 100.0);
        assert_eq!(odds.at(100.0, 4, 4000.0), DONE, "four machines, 40 samples an interval");
        assert_eq!(odds.at(100.0, 4, 4100.0).chance, 0.0);
        assert_eq!((odds.at(100.0, 3, 4000.0).chance, odds.at(100.0, 5, 4000.0).chance), (0.0, 1.0));
        assert_eq!((odds.at(0.0, 4, 1.0).chance, odds.at(0.0, 4, 0.0).chance), (0.0, 1.0));
        assert_eq!(odds.at(100.0, 0, 1.0).chance, 0.0);
    }

    #[test]
    fn chances_are_those_of_drawn_paths() {
        let drift = Drift { mean: 4.0, keeps: 0.95, variance: 0.3, lowest: 0, highest: 8 };
        let odds = Odds::new(drift, &uses(0.0), 3200.0, 60.0);
        let mut stream = dunlin_rng::stream(5, "odds", &[]);
        let mut normal = || (0..12).map(|_| stream.unit()).sum::<f64>() - 6.0;
        const PATHS: usize = 4000;
        let mut totals = Vec::new();
        for _ in 0..PATHS {
            let (mut now, mut total) = (4.0_f64, 0.0);
            for _ in 0..60 {
                let before = now.round();
                now = (4.0 + 0.95 * (now - 4.0) + 0.3_f64.sqrt() * normal()).clamp(0.0, 8.0);
                total += 5.0 * (before + now.round());
            }
            totals.push(total);
        }
        for due in [1800.0, 2200.0, 2400.0, 2600.0, 3000.0] {
            let drawn = totals.iter().filter(|total| **total >= due).count() as f64 / PATHS as f64;
            let chance = odds.at(60.0, 4, due).chance;
            assert!((chance - drawn).abs() < 0.05, "{due}: {chance}, drawn {drawn}");
        }
    }

    #[test]
    fn money_decides_where_the_chance_is_the_same() {
        // Two machines are enough for 1500 samples in 100 intervals; eight cost four times as much.
        let odds = Odds::new(Drift { mean: 8.0, ..STILL }, &uses(1e-5), 1500.0, 100.0);
        let found = odds.at(100.0, 8, 1500.0);
        assert!(found.chance > 0.999, "{found:?}");
        assert!((1.0 - found.value - 150.0 * 1e-5).abs() < 1e-4, "150 machine-intervals are paid: {found:?}");
        // Nothing is spent on what cannot be.
        assert_eq!(odds.at(10.0, 1, 1500.0), Odd::default());
    }

    #[test]
    fn many_machines_are_taken_in_groups() {
        let drift = Drift { mean: 500.0, keeps: 0.99, variance: 9.0, lowest: 0, highest: 1000 };
        let uses: Vec<Use> =
            [100, 500, 900].map(|n| Use { machines: n, samples: f64::from(n), money: 0.0 }).to_vec();
        let odds = Odds::new(drift, &uses, 20_000.0, 60.0);
        assert!(odds.rows.len() <= 50);
        assert!(odds.at(60.0, 600, 6000.0).chance > 0.99);
    }
}
