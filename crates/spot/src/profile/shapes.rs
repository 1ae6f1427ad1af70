//! Layouts beside those of the table: other depths, and pipelines of two depths. Corrected rules alone know them.

use super::{FASTEST, SLOWEST};
use crate::Layout;
use std::collections::BTreeMap;

/// Those of the built-in profiles with a table of layers; made by the example `shapes`.
const BUILT_IN: [(&str, &str); 2] = [
    ("gpt-1.5b", include_str!("../../data/shapes/gpt-1.5b.csv")),
    ("gpt-6.7b", include_str!("../../data/shapes/gpt-6.7b.csv")),
];

/// Most machines of a shape: roles between pipelines of different depth are assigned machine by machine.
const MOST_MACHINES: u32 = 256;
/// An asymmetric layout may be chosen if it trains at least this share of the best that needs no more machines.
const WORTH: f64 = 0.99;

/// Those of a built-in profile.
pub(super) fn built_in(name: &str) -> Result<BTreeMap<Layout, f64>, String> {
    let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
        return Ok(BTreeMap::new());
    };
    let rows = text.lines().filter(|line| !line.starts_with(['#', 'l']));
    let each = rows.map(|row| {
        let (layout, rate) = row.split_once(',').ok_or(format!("shapes: {row:?}"))?;
        Ok((layout.to_string(), rate.parse().map_err(|_| format!("shapes: {row:?}"))?))
    });
    check(&each.collect::<Result<BTreeMap<String, f64>, String>>()?, usize::MAX)
}

/// Rows by the words of their layouts, checked; `layers` is the number of layers of the model.
pub(super) fn check(rows: &BTreeMap<String, f64>, layers: usize) -> Result<BTreeMap<Layout, f64>, String> {
    let mut shapes = BTreeMap::new();
    for (word, &rate) in rows {
        let layout = Layout::parse(word).filter(|layout| !layout.is_idle());
        let layout = layout.ok_or_else(|| {
            format!(
                "shape {word:?}; PIPELINESxSTAGES is wanted, or two of them with rising stages, as 3x7+1x9"
            )
        })?;
        if layout.machines() > MOST_MACHINES {
            return Err(format!("shape {word} has {} machines, at most {MOST_MACHINES}", layout.machines()));
        }
        if let Some(deep) = layout.runs().find(|run| run.stages as usize > layers) {
            return Err(format!("shape {word} has {} stages, the model {layers} layers", deep.stages));
        }
        if !(SLOWEST..=FASTEST).contains(&rate) {
            return Err(format!(
                "shape {word} trains {rate} samples/s, {SLOWEST:e} to {FASTEST:e} is wanted"
            ));
        }
        shapes.insert(layout, rate);
    }
    Ok(shapes)
}

/// `layouts` (by machines) and those of `shapes` that are worth choosing: all of one depth, and of two what is fast.
pub(super) fn worth(
    layouts: &[Layout],
    shapes: &BTreeMap<Layout, f64>,
    rate: impl Fn(Layout) -> f64,
) -> Vec<Layout> {
    let mut all: Vec<Layout> = layouts.iter().chain(shapes.keys()).copied().collect();
    super::sort(&mut all);
    let (mut best, mut worth) = (0.0f64, Vec::new());
    for same in all.chunk_by(|a, b| a.machines() == b.machines()) {
        best = same.iter().map(|&layout| rate(layout)).fold(best, f64::max);
        worth.extend(same.iter().filter(|layout| !layout.is_mixed() || rate(**layout) >= WORTH * best));
    }
    worth
}
