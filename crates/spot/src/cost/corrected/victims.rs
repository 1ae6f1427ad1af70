//! Who may be lost: the cases that a price is the mean of.

use crate::chance::Chances;
use crate::{Layout, Run};

/// Up to so many victims among the working machines, the ways they may fall on stages are listed with their chances; more are drawn.
const LISTED: u32 = 8;
/// The likeliest of them that are kept, and the draws beyond.
const KEPT: usize = 4;
/// Numbers of working victims that are less likely than this are left out.
const NEGLIGIBLE: f64 = 1e-6;

/// A set of survivors and its chance.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) chance: f64,
    /// Victims among the working machines.
    pub(super) hit: u32,
    /// Machines left of each stage.
    pub(super) survivors: Vec<u32>,
}

/// How many of `lost` victims, drawn uniformly from `machines`, work in `from`, with chances that sum to 1.
pub(super) fn hits(chances: &Chances, machines: u32, lost: u32, from: Layout) -> Vec<(u32, f64)> {
    let working = from.machines().min(machines);
    let lost = lost.min(machines);
    let each = (0..=lost.min(working)).map(|hit| (hit, chances.hit(machines, working, lost, hit)));
    let mut hits: Vec<(u32, f64)> = each.filter(|hit| hit.1 >= NEGLIGIBLE).collect();
    let total: f64 = hits.iter().map(|hit| hit.1).sum();
    hits.iter_mut().for_each(|hit| hit.1 /= total);
    hits
}

/// The cases when `hit` of the machines of `from` are lost.
pub(super) fn cases(chances: &Chances, hit: u32, from: Layout) -> Vec<Case> {
    let hit = hit.min(from.machines());
    let falls = if hit <= LISTED { listed(chances, from, hit) } else { drawn(from, hit) };
    falls.into_iter().map(|(chance, survivors)| Case { chance, hit, survivors }).collect()
}

/// The likeliest ways in which `hit` victims fall on the stages of `from`, with shares that sum to 1: how many stages lose 1, 2, ... is
/// exact, which ones is drawn with a fixed seed.
fn listed(chances: &Chances, from: Layout, hit: u32) -> Vec<(f64, Vec<u32>)> {
    let runs: Vec<Run> = from.runs().collect();
    let mut ways = match runs.as_slice() {
        [] => vec![(1.0, Vec::new())],
        [run] => falls(chances, *run, hit),
        [first, rest @ ..] => {
            let other = rest[0];
            let fewest = hit.saturating_sub(other.machines());
            let split = |of_first: u32| {
                let chance = chances.hit(from.machines(), first.machines(), hit, of_first);
                let others = falls(chances, other, hit - of_first);
                let both = move |(a, left): (f64, Vec<u32>)| {
                    others
                        .clone()
                        .into_iter()
                        .map(move |(b, more)| (chance * a * b, [&left[..], &more].concat()))
                };
                falls(chances, *first, of_first).into_iter().flat_map(both)
            };
            (fewest..=hit.min(first.machines())).flat_map(split).collect()
        }
    };
    ways.sort_by(|a, b| b.0.total_cmp(&a.0));
    ways.truncate(KEPT);
    let total: f64 = ways.iter().map(|way| way.0).sum();
    ways.iter_mut().for_each(|way| way.0 /= total);
    ways
}

/// How `hit` victims may fall on the stages of a run, with chances, likeliest first.
fn falls(chances: &Chances, run: Run, hit: u32) -> Vec<(f64, Vec<u32>)> {
    let mut ways = Vec::new();
    partitions(hit, run.pipelines.min(hit), run.stages, &mut Vec::new(), &mut |parts| {
        ways.push((chances.falls(run.pipelines, run.stages, parts), parts.to_vec()));
    });
    ways.sort_by(|a, b| b.0.total_cmp(&a.0));
    ways.truncate(KEPT);
    let order = order(run.stages, 0);
    let survivors = |parts: &[u32]| {
        let mut left = vec![run.pipelines; run.stages as usize];
        parts.iter().zip(&order).for_each(|(part, &stage)| left[stage] -= part);
        left
    };
    ways.iter().map(|(chance, parts)| (*chance, survivors(parts))).collect()
}

/// All ways to write `sum` as falling parts of at most `largest`, at most `most` of them.
fn partitions(sum: u32, largest: u32, most: u32, parts: &mut Vec<u32>, each: &mut impl FnMut(&[u32])) {
    if sum == 0 {
        return each(parts);
    }
    if most == 0 {
        return;
    }
    for part in (1..=largest.min(sum)).rev() {
        parts.push(part);
        partitions(sum - part, part, most - 1, parts, each);
        parts.pop();
    }
}

/// The stages in an order that a seed makes.
fn order(stages: u32, draw: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..stages as usize).collect();
    dunlin_rng::stream(draw, "victims", &[u64::from(stages)]).shuffle(&mut order);
    order
}

/// Draws of `hit` working machines, each as likely.
fn drawn(from: Layout, hit: u32) -> Vec<(f64, Vec<u32>)> {
    let runs: Vec<Run> = from.runs().collect();
    let stages: Vec<u32> = runs.iter().flat_map(|run| vec![run.pipelines; run.stages as usize]).collect();
    // The stage of every machine.
    let (mut seats, mut first) = (Vec::new(), 0);
    for run in &runs {
        seats.extend((0..run.machines()).map(|machine| (first + machine % run.stages) as usize));
        first += run.stages;
    }
    let draw = |seed: usize| {
        let mut machines: Vec<u32> = (0..from.machines()).collect();
        let names = [u64::from(from.pipelines), u64::from(from.stages), u64::from(hit)];
        dunlin_rng::stream(seed as u64, "victims drawn", &names).shuffle(&mut machines);
        let mut left = stages.clone();
        machines.iter().take(hit as usize).for_each(|machine| left[seats[*machine as usize]] -= 1);
        (1.0 / KEPT as f64, left)
    };
    (0..KEPT).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_of_the_ways_sum_to_one() {
        let chances = Chances::new(64);
        for (layout, hit) in [(Layout::new(4, 8), 5), (Layout::new(2, 12), 8), (Layout::new(1, 6), 6)] {
            let mut sum = 0.0;
            partitions(hit, layout.pipelines.min(hit), layout.stages, &mut Vec::new(), &mut |parts| {
                sum += chances.falls(layout.pipelines, layout.stages, parts);
            });
            assert!((sum - 1.0).abs() < 1e-9, "{layout}: {sum}");
        }
    }

    #[test]
    fn cases_lose_what_they_say() {
        let chances = Chances::new(64);
        for (machines, lost, from) in [
            (32, 3, Layout::new(4, 7)),
            (32, 20, Layout::new(8, 4)),
            (10, 0, Layout::new(1, 8)),
            (9, 2, Layout::IDLE),
            (32, 4, Layout::mixed((3, 7), (1, 9))),
            (30, 20, Layout::mixed((2, 7), (1, 13))),
            (31, 3, Layout::mixed((1, 13), (1, 18))),
        ] {
            let hits = hits(&chances, machines, lost, from);
            assert!((hits.iter().map(|hit| hit.1).sum::<f64>() - 1.0).abs() < 1e-12, "{from}: {hits:?}");
            for (hit, _) in hits {
                let cases = cases(&chances, hit, from);
                let total: f64 = cases.iter().map(|case| case.chance).sum();
                assert!((total - 1.0).abs() < 1e-12, "{from}: {total}");
                for case in cases {
                    assert_eq!(case.survivors.iter().sum::<u32>(), from.machines() - hit);
                }
            }
        }
    }
}
