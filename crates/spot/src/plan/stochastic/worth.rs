//! Which layouts a decision considers.

use crate::Layout;
use crate::account::adapt;
use crate::plan::Prices;
use std::ops::RangeInclusive;

/// A layout is worth a thought if it trains at least this share of the best that needs no more machines.
const NEAR_BEST: f64 = 0.9;

/// Idle; all layouts if they are at most `all_up_to`; else those worth a thought, the present one, and what they may shrink to.
///
/// Of a large table only such layouts are worth a thought that train nearly as much as the best, and of each number of stages
/// only those of as many pipelines as fit on some number of machines of `machines`: fewer pipelines than fit on the lowest leave
/// machines spare that could train. They are left out unless `small_too`.
pub(super) fn worth_a_thought(
    prices: &Prices<'_>,
    machines: RangeInclusive<u32>,
    present: Layout,
    all_up_to: usize,
    small_too: bool,
) -> Vec<usize> {
    let all: Vec<usize> = prices.fitting(*machines.end()).filter(|&number| number > 0).collect();
    let mut worth = all.clone();
    if all.len() > all_up_to {
        let fills = |layout: &Layout| small_too || layout.machines() + layout.stages > *machines.start();
        let near = near_best(prices, all.into_iter()).map(|number| prices.layouts()[number]).filter(fills);
        let layouts: Vec<Layout> = near.chain([present]).collect();
        let shrunk =
            |layout: Layout| machines.clone().map(move |machines| adapt(prices.costs(), layout, machines));
        worth = layouts.into_iter().flat_map(shrunk).map(|layout| prices.index(layout)).collect();
    }
    worth.extend([0, prices.index(present)]);
    worth.sort_unstable();
    worth.dedup();
    worth
}

/// Places of the layouts worth choosing; idle's if there is none, or if `idle_too`.
pub(super) fn worth_choosing(prices: &Prices<'_>, layouts: &[usize], idle_too: bool) -> Vec<usize> {
    let near = near_best(prices, layouts.iter().copied().filter(|&number| number > 0));
    let places: Vec<usize> = near.filter_map(|number| layouts.binary_search(&number).ok()).collect();
    let idle = (idle_too || places.is_empty()).then_some(0);
    idle.into_iter().chain(places).collect()
}

/// Of layouts by machines, those that train nearly as much as the best that needs no more machines.
fn near_best(prices: &Prices<'_>, numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    let mut best: f64 = 0.0;
    numbers.filter(move |&number| {
        best = best.max(prices.rate(number));
        prices.rate(number) >= NEAR_BEST * best
    })
}
