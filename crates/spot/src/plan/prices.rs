//! Migration costs looked up by number, each worked out once.

use crate::Layout;
use crate::cost::{CostModel, Price, Rules};
use std::collections::HashMap;
use std::sync::Arc;

/// The layouts of a profile by number (0 is idle, then by machines), their rates, and what changes between them cost.
#[derive(Clone, Debug)]
pub struct Prices<'a> {
    costs: &'a CostModel,
    layouts: Vec<Layout>,
    rates: Vec<f64>,
    numbers: HashMap<Layout, usize>,
    /// By (machines, lost, from). By published rules the machines do not matter without losses, and are 0.
    rows: HashMap<(u32, u32, usize), Arc<[f64]>>,
    /// By corrected rules, by (victims among the working machines, from): what was asked for so far.
    after: HashMap<(u32, usize), Vec<Option<Price>>>,
}

impl<'a> Prices<'a> {
    /// Nothing worked out yet.
    pub fn new(costs: &'a CostModel) -> Prices<'a> {
        let layouts: Vec<Layout> =
            std::iter::once(Layout::IDLE).chain(costs.profile().layouts().iter().copied()).collect();
        let rates = layouts.iter().map(|&layout| costs.profile().samples_per_second(layout)).collect();
        let numbers = layouts.iter().enumerate().map(|(number, &layout)| (layout, number)).collect();
        Prices { costs, layouts, rates, numbers, rows: HashMap::new(), after: HashMap::new() }
    }

    /// The price list.
    pub fn costs(&self) -> &'a CostModel {
        self.costs
    }

    /// The layouts by number.
    pub fn layouts(&self) -> &[Layout] {
        &self.layouts
    }

    /// Samples per second of the layout of that number.
    pub fn rate(&self, number: usize) -> f64 {
        self.rates[number]
    }

    /// The number of a layout; idle's if it is not in the table.
    pub fn index(&self, layout: Layout) -> usize {
        self.numbers.get(&layout).copied().unwrap_or(0)
    }

    /// Numbers of the layouts that fit on `machines`; idle alone if none does.
    pub fn fitting(&self, machines: u32) -> std::ops::Range<usize> {
        let end = self.layouts.partition_point(|layout| layout.machines() <= machines);
        if end <= 1 { 0..1 } else { 1..end }
    }

    /// The costs of the changes from layout `from` to every other, milliseconds, when `lost` of `machines` are lost.
    pub fn of(&mut self, machines: u32, lost: u32, from: usize) -> Arc<[f64]> {
        let no_matter = lost == 0 && self.costs.rules() == Rules::Published;
        let key = if no_matter { (0, 0, from) } else { (machines, lost, from) };
        if let Some(row) = self.rows.get(&key) {
            return row.clone();
        }
        let row: Arc<[f64]> = match self.costs.rules() {
            Rules::Published => {
                let targets = self.layouts.iter().copied();
                self.costs.row_ms(machines, lost, self.layouts[from], targets).into()
            }
            Rules::Corrected => {
                let all: Vec<usize> = (0..self.layouts.len()).collect();
                self.corrected(machines, lost, from, &all).into()
            }
        };
        self.rows.insert(key, row.clone());
        row
    }

    /// The same for the layouts `wanted` alone, in their order.
    pub fn of_some(&mut self, machines: u32, lost: u32, from: usize, wanted: &[usize]) -> Vec<f64> {
        match self.costs.rules() {
            Rules::Published => {
                let row = self.of(machines, lost, from);
                wanted.iter().map(|&to| row[to]).collect()
            }
            Rules::Corrected => self.corrected(machines, lost, from, wanted),
        }
    }

    /// By corrected rules a price depends on how many victims worked, and on whether newcomers are waited for: the mean
    /// over the former of what was worked out once for all numbers of machines.
    fn corrected(&mut self, machines: u32, lost: u32, from: usize, wanted: &[usize]) -> Vec<f64> {
        let (costs, layouts) = (self.costs, &self.layouts);
        let left = machines.saturating_sub(lost);
        let mut means = vec![0.0; wanted.len()];
        for (hit, chance) in costs.hits(machines, lost, layouts[from]) {
            let row = self.after.entry((hit, from)).or_insert_with(|| vec![None; layouts.len()]);
            let missing: Vec<usize> = wanted.iter().copied().filter(|&to| row[to].is_none()).collect();
            if !missing.is_empty() {
                let prices = costs.prices_after(hit, layouts[from], missing.iter().map(|&to| layouts[to]));
                missing.iter().zip(prices).for_each(|(&to, price)| row[to] = Some(price));
            }
            for (mean, &to) in means.iter_mut().zip(wanted) {
                *mean += chance * row[to].map_or(0.0, |price| price.with(left, layouts[to]));
            }
        }
        means
    }
}
