//! Migration costs looked up by number, each worked out once.

use crate::Layout;
use crate::cost::{CostModel, Rules};
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
    /// Rows of which only some places were asked for; the others are no number.
    parts: HashMap<(u32, u32, usize), Vec<f64>>,
}

impl<'a> Prices<'a> {
    /// Nothing worked out yet.
    pub fn new(costs: &'a CostModel) -> Prices<'a> {
        let layouts: Vec<Layout> =
            std::iter::once(Layout::IDLE).chain(costs.profile().layouts().iter().copied()).collect();
        let rates = layouts.iter().map(|&layout| costs.profile().samples_per_second(layout)).collect();
        let numbers = layouts.iter().enumerate().map(|(number, &layout)| (layout, number)).collect();
        Prices { costs, layouts, rates, numbers, rows: HashMap::new(), parts: HashMap::new() }
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
        let (costs, layouts) = (self.costs, &self.layouts);
        let price = || costs.row_ms(machines, lost, layouts[from], layouts.iter().copied()).into();
        self.rows.entry(key).or_insert_with(price).clone()
    }

    /// The same for the layouts `wanted` alone; what is at the other places means nothing.
    pub fn of_some(&mut self, machines: u32, lost: u32, from: usize, wanted: &[usize]) -> &[f64] {
        let (costs, layouts) = (self.costs, &self.layouts);
        let row = self.parts.entry((machines, lost, from)).or_insert_with(|| vec![f64::NAN; layouts.len()]);
        let missing: Vec<usize> = wanted.iter().copied().filter(|&to| row[to].is_nan()).collect();
        if !missing.is_empty() {
            let to = missing.iter().map(|&to| layouts[to]);
            let prices = costs.row_ms(machines, lost, layouts[from], to);
            missing.iter().zip(prices).for_each(|(&to, price)| row[to] = price);
        }
        row
    }
}
