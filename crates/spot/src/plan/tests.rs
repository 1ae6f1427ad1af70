//! The programme against one that tries everything, and what its short cuts rest on.

use super::*;
use crate::account::total_ms;
use crate::cost::{Rules, Step};
use crate::forecast::Outlook;
use crate::profile::{Profile, synthetic};
use dunlin_rng::stream;
use std::collections::HashMap;

/// Intervals with losses and gains, drawn with `seed`.
fn path(seed: u64, machines: u32, most: u32) -> Vec<Interval> {
    let mut rng = stream(seed, "path", &[]);
    let mut before = machines;
    let each = (0..12).map(|_| {
        let removed = if rng.below(3) == 0 { (rng.below(6) as u32).min(before) } else { 0 };
        let added = if rng.below(3) == 0 { (rng.below(4) as u32).min(most - before) } else { 0 };
        let interval = Interval { before, added, removed };
        before = interval.after();
        interval
    });
    each.collect()
}

/// The most samples that can be trained along `path`, every way to every layout tried.
fn tried(costs: &CostModel, standing: Standing, path: &[Interval]) -> f64 {
    let all: Vec<Layout> =
        std::iter::once(Layout::IDLE).chain(costs.profile().layouts().iter().copied()).collect();
    let mut known: HashMap<Step, f64> = HashMap::new();
    let mut ways = vec![(standing.layout, 0.0, standing.owed_ms)];
    for interval in path {
        let mut next: HashMap<(Layout, bool), (f64, f64)> = HashMap::new();
        let fits = |layout: &&Layout| !layout.is_idle() && layout.machines() <= interval.after();
        let wanted: Vec<Layout> = all.iter().filter(fits).copied().collect();
        for &(from, samples, owed_ms) in &ways {
            for &to in if wanted.is_empty() { &[Layout::IDLE] } else { &wanted[..] } {
                let step = Step { machines: interval.before, lost: interval.removed, from, to };
                let cost_ms = *known.entry(step).or_insert_with(|| costs.expected_ms(step));
                let left = 60.0 - total_ms(costs, owed_ms, to, cost_ms, step.change()) / 1000.0;
                let rate = costs.profile().samples_per_second(to);
                let way = (samples + rate * left.max(0.0), (-left * 1000.0).max(0.0));
                let slot = next.entry((to, way.1 > 0.0)).or_insert(way);
                if (way.0, -way.1) > (slot.0, -slot.1) {
                    *slot = way;
                }
            }
        }
        ways = next.into_iter().map(|((layout, _), (samples, owed_ms))| (layout, samples, owed_ms)).collect();
    }
    ways.into_iter().map(|way| way.1).fold(0.0, f64::max)
}

#[test]
fn the_best_plan_is_found_though_not_every_way_is_tried() {
    let bert = Profile::built_in("bert").unwrap();
    for (profile, machines, rules, seeds) in [
        (&bert, 30, Rules::Published, 1..4),
        (&bert, 30, Rules::Corrected, 4..5),
        (&synthetic(72).unwrap(), 60, Rules::Published, 5..6),
        (&Profile::built_in("gpt-6.7b").unwrap(), 28, Rules::Published, 6..9),
    ] {
        let costs = CostModel::with_rules(profile, rules);
        for seed in seeds {
            let path = path(seed, machines, 72);
            for owed_ms in [0.0, 5000.0] {
                let standing = Standing { layout: profile.best(machines), owed_ms };
                let found = Planner::new(&costs, 60.0).plan(standing, &path).samples;
                let wanted = tried(&costs, standing, &path);
                assert!(
                    wanted > 0.0 && (found / wanted - 1.0).abs() < 1e-12,
                    "{} seed {seed}: {found} samples, {wanted} by trying everything",
                    profile.name
                );
            }
        }
    }
}

#[test]
fn no_change_costs_less_than_what_ways_are_left_out_by() {
    for name in ["bert", "resnet152", "gpt-6.7b"] {
        let profile = Profile::built_in(name).unwrap();
        let lists = [(Rules::Published, false), (Rules::Corrected, false), (Rules::Corrected, true)];
        for (rules, hands_over) in lists {
            let costs = CostModel::with_rules(&profile, rules).handing_over(hands_over);
            let mut prices = Prices::new(&costs);
            let all: Vec<usize> = (0..prices.layouts().len()).collect();
            for (from, lost) in all.iter().flat_map(|&from| [(from, 0), (from, 1), (from, 4)]) {
                let machines = prices.layouts()[from].machines() + 2;
                let row = prices.of(machines, lost.min(machines), from, &all);
                for (&to, cost_ms) in all.iter().zip(row).filter(|(to, _)| **to != from) {
                    let least = prices.least(lost.min(machines), from, to);
                    let layouts = prices.layouts();
                    let what = format!("{name} {rules:?} {} to {} lost {lost}", layouts[from], layouts[to]);
                    assert!(least <= cost_ms, "{what}: {least} of {cost_ms} ms");
                    assert!(prices.least_of_all(to) <= least, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_price_is_the_same_alone_and_in_a_row() {
    let profile = synthetic(40).unwrap();
    let costs = CostModel::new(&profile);
    let mut prices = Prices::new(&costs);
    let all: Vec<usize> = (0..prices.layouts().len()).collect();
    for (from, lost) in all.iter().step_by(3).flat_map(|&from| [(from, 0), (from, 2), (from, 5)]) {
        let layouts = prices.layouts().to_vec();
        let machines = layouts[from].machines() + 6;
        for (&to, row) in all.iter().zip(prices.of(machines, lost, from, &all)) {
            let alone = costs.expected_ms(Step { machines, lost, from: layouts[from], to: layouts[to] });
            assert!((row - alone).abs() <= 1e-12 * alone, "{} to {}", layouts[from], layouts[to]);
        }
    }
}

#[test]
fn few_layouts_of_a_large_table_serve_nearly_as_well_as_all() {
    let sizes: [f64; 4] = [0.5, 0.25, 0.15, 0.1];
    let side: Vec<f64> = std::iter::once(0.8).chain(sizes.map(|size| 0.2 * size)).collect();
    let outlooks = vec![Outlook { lost: side.clone(), gained: side }; 12];
    let profile = synthetic(112).unwrap();
    let costs = CostModel::new(&profile);
    for (timing, machines) in [(Timing::BeforeDraw, 104), (Timing::BeforeDraw, 71), (Timing::AfterDraw, 96)] {
        let planner = Stochastic::new(Prices::new(&costs), 60.0, 12, timing);
        let mut all = planner.clone().considering(usize::MAX);
        let mut few = planner;
        let certain = [Interval { before: machines, added: 0, removed: 2 }];
        let certain = if timing == Timing::BeforeDraw { &[][..] } else { &certain };
        let standing = Standing { layout: profile.best(machines - 3), owed_ms: 0.0 };
        let best = few.candidates(standing, machines, certain, &outlooks)[0].samples;
        let wanted = all.candidates(standing, machines, certain, &outlooks)[0].samples;
        assert!(few.considered() <= 80, "{} layouts considered", few.considered());
        assert!(all.considered() > 2 * few.considered(), "{} layouts in all", all.considered());
        assert!(best >= 0.98 * wanted, "{timing:?} {machines}: {best} samples, {wanted} with all layouts");
    }
}

#[test]
fn layouts_considered_stay_few_on_a_thousand_machines() {
    let profile = synthetic(1024).unwrap();
    let costs = CostModel::new(&profile);
    let mut planner = Stochastic::new(Prices::new(&costs), 60.0, 12, Timing::BeforeDraw);
    let standing = Standing { layout: profile.best(1000), owed_ms: 0.0 };
    let candidates = planner.candidates(standing, 1000, &[], &vec![Outlook::certain(0, 0); 12]);
    assert!(planner.considered() <= 80, "{} of {}", planner.considered(), profile.layouts().len());
    assert_eq!(candidates[0].layout, standing.layout, "nothing happens: {candidates:?}");
}
