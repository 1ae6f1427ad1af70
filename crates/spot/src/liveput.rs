//! Liveput: the throughput that is expected of a layout when machines are lost.
//!
//! Two quantities, both of use. The *static* liveput is E[throughput(D_v, P)] over sets of victims v, where D_v is the number of pipelines
//! that the survivors of every stage still make: min over stages, no state moves. The *plan value* of a change of layout is
//! throughput x (time x feasibility - expected cost): what the planner adds up.
//!
//! Machines are numbered 0..N; machine i < D P holds stage i mod P, the others are spare. Survivors per stage are
//! multivariate hypergeometric, so the expectation is exact; [`monte_carlo`] stands beside it as a check.

use crate::chance::Chances;
use crate::cost::{CostModel, Step};
use crate::profile::Profile;
use crate::{Error, Layout, Result};

/// Which sets of k victims are likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// Every set of k machines is as likely as any other.
    Uniform,
    /// k machines with consecutive numbers (around the end), every start as likely: machines of one rack, which were also given
    /// their roles one after another.
    Batched,
    /// Machines are dealt to `zones` in turn (machine i is in zone i mod zones). All victims come from one zone, every zone
    /// as likely as its machines are many, and within it uniformly; if the zone is too small, all of it and the rest uniformly
    /// from the others.
    Zones {
        /// Number of zones, at least 1.
        zones: u32,
    },
}

/// The chances that 0, 1, ..., D pipelines can still run when `lost` of `machines` are taken.
///
/// # Errors
/// A layout larger than the machines or of two depths, more victims than machines, no zone.
///
/// # Examples
/// ```
/// use dunlin_spot::liveput::{Victims, survivors};
/// use dunlin_spot::Layout;
/// let chances = survivors(Layout::new(4, 8), 32, 3, Victims::Uniform).unwrap();
/// assert!((chances[3] - 0.7226).abs() < 1e-4); // three victims in three stages
/// assert!((chances[1] - 0.0065).abs() < 1e-4); // all three in one
/// ```
pub fn survivors(layout: Layout, machines: u32, lost: u32, victims: Victims) -> Result<Vec<f64>> {
    check(layout, machines, lost, victims)?;
    let at_least: Vec<f64> = match victims {
        Victims::Uniform => {
            let all = Pool { stages: vec![layout.pipelines; layout.stages as usize], size: machines };
            at_least(layout, &[(1.0, vec![(all, lost)])], machines)
        }
        Victims::Batched => batched(layout, machines, lost),
        Victims::Zones { zones } => at_least(layout, &zone_draws(layout, machines, lost, zones), machines),
    };
    let exactly = (0..at_least.len()).map(|d| at_least[d] - at_least.get(d + 1).copied().unwrap_or(0.0));
    Ok(exactly.map(|chance| chance.max(0.0)).collect())
}

/// E[throughput(D_v, P)], samples per second.
///
/// # Errors
/// As [`survivors`].
///
/// # Examples
/// ```
/// use dunlin_spot::{Layout, liveput, profile::Profile};
/// let gpt = Profile::built_in("gpt-1.5b").unwrap();
/// let live = liveput::expected(&gpt, Layout::new(4, 8), 32, 3, liveput::Victims::Uniform).unwrap();
/// assert!((live - 34.71).abs() < 0.005); // 43.47 undisturbed
/// ```
pub fn expected(
    profile: &Profile,
    layout: Layout,
    machines: u32,
    lost: u32,
    victims: Victims,
) -> Result<f64> {
    let chances = survivors(layout, machines, lost, victims)?;
    let rate = |pipelines: usize| profile.samples_per_second(Layout::new(pipelines as u32, layout.stages));
    Ok(chances.iter().enumerate().map(|(pipelines, chance)| chance * rate(pipelines)).sum())
}

/// The same by drawing `draws` sets of victims.
///
/// # Errors
/// As [`survivors`].
pub fn monte_carlo(
    profile: &Profile,
    layout: Layout,
    machines: u32,
    lost: u32,
    victims: Victims,
    draws: u32,
    seed: u64,
) -> Result<f64> {
    check(layout, machines, lost, victims)?;
    let mut stream = dunlin_rng::stream(seed, "liveput", &[u64::from(machines), u64::from(lost)]);
    let mut sum = 0.0;
    for _ in 0..draws {
        let mut order: Vec<u32> = (0..machines).collect();
        match victims {
            Victims::Uniform => stream.shuffle(&mut order),
            Victims::Batched => order.rotate_left(stream.below(machines.max(1) as usize)),
            Victims::Zones { zones } => {
                stream.shuffle(&mut order);
                let zone = stream.below(machines.max(1) as usize) as u32 % zones;
                order.sort_by_key(|machine| machine % zones != zone); // stable: random within
            }
        }
        let mut left = vec![layout.pipelines; layout.stages as usize];
        for machine in order.iter().take(lost as usize).filter(|machine| **machine < layout.machines()) {
            left[(machine % layout.stages) as usize] -= 1;
        }
        let pipelines = left.into_iter().min().unwrap_or(0);
        sum += profile.samples_per_second(Layout::new(pipelines, layout.stages));
    }
    Ok(sum / f64::from(draws.max(1)))
}

/// What a change of layout is worth over an interval, samples: throughput x (seconds x feasibility - expected cost). The layout is
/// feasible if it fits on what is left and `added`. May be negative.
pub fn plan_value(costs: &CostModel, step: Step, added: u32, interval_s: f64) -> f64 {
    let feasible = step.to.machines() <= (step.machines + added).saturating_sub(step.lost);
    let seconds = if feasible { interval_s } else { 0.0 };
    let cost_s = if feasible { costs.expected_ms(step) / 1000.0 } else { 0.0 };
    costs.profile().samples_per_second(step.to) * (seconds - cost_s)
}

fn check(layout: Layout, machines: u32, lost: u32, victims: Victims) -> Result<()> {
    let most = crate::profile::MAX_MACHINES;
    if layout.is_mixed() {
        return Err(Error::usage(format!("layout {layout}: liveput is that of pipelines of one depth")));
    }
    if machines > most || u64::from(layout.pipelines) * u64::from(layout.stages) > u64::from(machines) {
        return Err(Error::usage(format!(
            "layout {layout} on {machines} machines; it must fit, and {most} machines are the most"
        )));
    }
    if lost > machines {
        return Err(Error::usage(format!(
            "{lost} victims among {machines} machines; there cannot be more victims"
        )));
    }
    if victims == (Victims::Zones { zones: 0 }) {
        return Err(Error::usage("0 zones; at least 1 is wanted"));
    }
    Ok(())
}

/// Machines that victims are drawn from uniformly: how many hold each stage, and how many there are with the spares.
#[derive(Clone, Debug)]
struct Pool {
    stages: Vec<u32>,
    size: u32,
}

/// Sets of victims: (probability, draws from pools that share no machine).
type Draws = Vec<(f64, Vec<(Pool, u32)>)>;

/// P(every stage keeps at least d) for d in 0..=D.
fn at_least(layout: Layout, draws: &[(f64, Vec<(Pool, u32)>)], machines: u32) -> Vec<f64> {
    let chances = Chances::new(machines);
    let of = |d: u32| -> f64 {
        let most = layout.pipelines - d;
        draws.iter().map(|(probability, pools)| probability * within(&chances, pools, most)).sum()
    };
    (0..=layout.pipelines).map(of).collect()
}

/// The chance that no stage loses more than `most` over one or two pools.
fn within(chances: &Chances, pools: &[(Pool, u32)], most: u32) -> f64 {
    match pools {
        [(pool, lost)] => chances.all_within(pool.size, *lost, pool.stages.iter().map(|&size| (size, most))),
        // The first pool is lost whole; what is left of the allowance holds for the second.
        [(whole, _), (rest, lost)] => {
            let stages = whole.stages.iter().zip(&rest.stages);
            if stages.clone().any(|(gone, _)| *gone > most) {
                return 0.0;
            }
            chances.all_within(rest.size, *lost, stages.map(|(gone, &size)| (size, most - gone)))
        }
        _ => 1.0,
    }
}

/// One zone after another as the one that victims come from.
fn zone_draws(layout: Layout, machines: u32, lost: u32, zones: u32) -> Draws {
    let pool = |inside: &dyn Fn(u32) -> bool| {
        let mut pool = Pool { stages: vec![0; layout.stages as usize], size: 0 };
        for machine in (0..machines).filter(|&machine| inside(machine)) {
            pool.size += 1;
            if machine < layout.machines() {
                pool.stages[(machine % layout.stages) as usize] += 1;
            }
        }
        pool
    };
    let zone = |zone: u32| {
        let (inside, outside) = (pool(&|m| m % zones == zone), pool(&|m| m % zones != zone));
        let probability = f64::from(inside.size) / f64::from(machines.max(1));
        if lost <= inside.size {
            (probability, vec![(inside, lost)])
        } else {
            let more = lost - inside.size;
            (probability, vec![(inside.clone(), inside.size), (outside, more)])
        }
    };
    (0..zones.min(machines)).map(zone).collect()
}

/// Every start of a run of victims is as likely.
fn batched(layout: Layout, machines: u32, lost: u32) -> Vec<f64> {
    let mut at_least = vec![0.0; layout.pipelines as usize + 1];
    for start in 0..machines.max(1) {
        let mut left = vec![layout.pipelines; layout.stages as usize];
        for victim in (start..start + lost).map(|machine| machine % machines.max(1)) {
            if victim < layout.machines() {
                left[(victim % layout.stages) as usize] -= 1;
            }
        }
        let pipelines = left.into_iter().min().unwrap_or(0) as usize;
        at_least[..=pipelines].iter_mut().for_each(|chance| *chance += 1.0 / f64::from(machines.max(1)));
    }
    at_least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worked_examples_are_met() {
        let gpt = Profile::built_in("gpt-1.5b").unwrap();
        for (layout, machines, lost, wanted) in
            [((4, 8), 32, 3, 34.71), ((4, 8), 32, 6, 28.91), ((3, 10), 30, 3, 32.35), ((2, 13), 26, 3, 22.05)]
        {
            let layout = Layout::new(layout.0, layout.1);
            let live = expected(&gpt, layout, machines, lost, Victims::Uniform).unwrap();
            assert!((live - wanted).abs() < 0.006, "{layout}, {lost} victims: {live}, published {wanted}");
        }
    }

    #[test]
    fn drawing_comes_to_the_same_for_every_kind_of_victims() {
        let bert = Profile::built_in("bert").unwrap();
        for victims in
            [Victims::Uniform, Victims::Batched, Victims::Zones { zones: 3 }, Victims::Zones { zones: 7 }]
        {
            for (layout, machines, lost) in [((8, 4), 32, 3), ((10, 3), 32, 6), ((4, 4), 18, 9)] {
                let layout = Layout::new(layout.0, layout.1);
                let exact = expected(&bert, layout, machines, lost, victims).unwrap();
                let drawn = monte_carlo(&bert, layout, machines, lost, victims, 20_000, 7).unwrap();
                assert!(
                    (exact - drawn).abs() < 0.015 * exact + 1.0,
                    "{victims:?} {layout}: {exact}, drawn {drawn}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let layout = Layout::new(4, 8);
        assert!(survivors(layout, 31, 1, Victims::Uniform).is_err());
        assert!(survivors(layout, 32, 33, Victims::Uniform).is_err());
        assert!(survivors(Layout::mixed((2, 8), (1, 9)), 32, 3, Victims::Uniform).is_err());
        assert!(survivors(layout, 32, 3, Victims::Zones { zones: 0 }).is_err());
        assert_eq!(survivors(layout, 32, 32, Victims::Uniform).unwrap()[0], 1.0);
        assert_eq!(survivors(Layout::IDLE, 0, 0, Victims::Batched).unwrap(), [1.0]);
    }
}
