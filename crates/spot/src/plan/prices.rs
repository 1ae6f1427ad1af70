//! Migration costs looked up by number, each worked out once.

use crate::Layout;
use crate::cost::{CostModel, Fetches, Price, Row, Rules, Target};
use std::collections::HashMap;

/// The layouts of a profile by number (0 is idle, then by machines), their rates, and what changes between them cost.
///
/// Prices are worked out when they are first wanted. By published rules a price is made of parts that many changes share,
/// and the parts are kept.
#[derive(Clone, Debug)]
pub struct Prices<'a> {
    costs: &'a CostModel,
    layouts: Vec<Layout>,
    rates: Vec<f64>,
    numbers: HashMap<Layout, usize>,
    targets: Vec<Target>,
    fetches: Fetches,
    /// By (machines, lost, from). By published rules the machines do not matter without losses, and are 0.
    lines: HashMap<(u32, u32, usize), Line>,
    /// By corrected rules, by (victims among the working machines, from): what was asked for so far.
    after: HashMap<(u32, usize), Vec<Option<Price>>>,
}

/// The changes from one layout.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Published(Row),
    Corrected(Vec<f64>),
}

impl<'a> Prices<'a> {
    /// Nothing worked out yet.
    pub fn new(costs: &'a CostModel) -> Prices<'a> {
        let layouts: Vec<Layout> =
            std::iter::once(Layout::IDLE).chain(costs.profile().layouts().iter().copied()).collect();
        let rates = layouts.iter().map(|&layout| costs.profile().samples_per_second(layout)).collect();
        let numbers = layouts.iter().enumerate().map(|(number, &layout)| (layout, number)).collect();
        let targets = layouts.iter().map(|&layout| costs.target(layout)).collect();
        Prices {
            costs,
            layouts,
            rates,
            numbers,
            targets,
            fetches: Fetches::default(),
            lines: HashMap::new(),
            after: HashMap::new(),
        }
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

    /// The costs of the changes from layout `from` to those `wanted`, in their order, milliseconds, when `lost` of
    /// `machines` are lost.
    pub fn of(&mut self, machines: u32, lost: u32, from: usize, wanted: &[usize]) -> Vec<f64> {
        if self.costs.rules() == Rules::Corrected {
            return self.corrected(machines, lost, from, wanted);
        }
        let mut line = self.take(machines, lost, from);
        let prices = wanted.iter().map(|&to| self.price(&mut line, to)).collect();
        self.put(machines, lost, from, line);
        prices
    }

    /// A price of the changes on `line`.
    pub(super) fn price(&mut self, line: &mut Line, to: usize) -> f64 {
        match line {
            Line::Published(row) => row.price_ms(self.costs, &mut self.fetches, &self.targets[to]),
            Line::Corrected(prices) => prices[to],
        }
    }

    /// Takes out what is known of the changes from `from`; to be [`Prices::put`] back.
    pub(super) fn take(&mut self, machines: u32, lost: u32, from: usize) -> Line {
        let known = self.lines.remove(&self.key(machines, lost, from));
        known.unwrap_or_else(|| match self.costs.rules() {
            Rules::Published => Line::Published(Row::new(machines, lost, self.layouts[from])),
            Rules::Corrected => {
                let all: Vec<usize> = (0..self.layouts.len()).collect();
                Line::Corrected(self.corrected(machines, lost, from, &all))
            }
        })
    }

    pub(super) fn put(&mut self, machines: u32, lost: u32, from: usize, mut line: Line) {
        if let Line::Published(row) = &mut line {
            row.trim();
        }
        self.lines.insert(self.key(machines, lost, from), line);
    }

    fn key(&self, machines: u32, lost: u32, from: usize) -> (u32, u32, usize) {
        let no_matter = lost == 0 && self.costs.rules() == Rules::Published;
        if no_matter { (0, 0, from) } else { (machines, lost, from) }
    }

    /// The change from `from` to `to`, another one, costs no less than this when `lost` machines are lost.
    pub(super) fn least(&self, lost: u32, from: usize, to: usize) -> f64 {
        match self.costs.rules() {
            Rules::Published => Row::new(0, lost, self.layouts[from]).least_ms(&self.targets[to]),
            Rules::Corrected => self.targets[to].least_ms(),
        }
    }

    /// No change to `to` from another layout costs less than this.
    pub(super) fn least_of_all(&self, to: usize) -> f64 {
        self.targets[to].least_ms()
    }

    /// By corrected rules a price depends on how many victims worked, and on whether newcomers are waited for: the mean
    /// over the former of what was worked out once for all numbers of machines.
    fn corrected(&mut self, machines: u32, lost: u32, from: usize, wanted: &[usize]) -> Vec<f64> {
        let (costs, layouts) = (self.costs, &self.layouts);
        let mut means = vec![0.0; wanted.len()];
        for (hit, chance) in costs.hits(machines, lost, layouts[from]) {
            let row = self.after.entry((hit, from)).or_insert_with(|| vec![None; layouts.len()]);
            let missing: Vec<usize> = wanted.iter().copied().filter(|&to| row[to].is_none()).collect();
            if !missing.is_empty() {
                let prices = costs.prices_after(hit, layouts[from], missing.iter().map(|&to| layouts[to]));
                missing.iter().zip(prices).for_each(|(&to, price)| row[to] = Some(price));
            }
            let left = costs.ready(machines, lost, hit, layouts[from]);
            for (mean, &to) in means.iter_mut().zip(wanted) {
                *mean += chance * row[to].map_or(0.0, |price| price.with(left, layouts[to]));
            }
        }
        means
    }
}
