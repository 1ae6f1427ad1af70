//! The parts of a profile that are tables of constants.

use crate::Layout;
use serde::Deserialize;

/// What is wrong, in words; the caller adds the place.
type Checked = std::result::Result<(), String>;

/// Beyond this no constant means anything, and sums and products of them might be no numbers.
pub(super) const MOST: f64 = 1e15;

pub(super) fn is_amount(value: f64) -> bool {
    (0.0..=MOST).contains(&value)
}

/// Dollars for one machine and hour.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dollars {
    /// A machine that may be taken away.
    pub spot: f64,
    /// A machine that stays.
    pub on_demand: f64,
}

impl Default for Dollars {
    /// p3.2xlarge.
    fn default() -> Dollars {
        Dollars { spot: 0.918, on_demand: 3.06 }
    }
}

impl Dollars {
    pub(super) fn check(&self) -> Checked {
        if is_amount(self.spot) && is_amount(self.on_demand) {
            return Ok(());
        }
        Err(format!("dollars_per_hour are {} and {}, 0 to {MOST:e} is wanted", self.spot, self.on_demand))
    }
}

/// Which layouts of the table may be chosen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Numbers of stages; empty means all.
    #[serde(default)]
    stages: Vec<u32>,
    /// The fewest pipelines.
    #[serde(default)]
    min_pipelines: u32,
}

impl Allowed {
    pub(super) fn holds(&self, layout: Layout) -> bool {
        let stages = self.stages.is_empty() || self.stages.contains(&layout.stages);
        stages && layout.pipelines >= self.min_pipelines
    }
}

/// A run of equal layers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// How many there are.
    count: usize,
    /// Parameters of each.
    parameters: f64,
}

impl Layers {
    /// `count` layers of so many parameters.
    pub(super) fn new(count: usize, parameters: f64) -> Layers {
        Layers { count, parameters }
    }
}

/// The parameters of every layer.
pub(super) fn expand(runs: &[Layers], most: usize) -> std::result::Result<Vec<f64>, String> {
    let total = runs.iter().try_fold(0usize, |sum, run| sum.checked_add(run.count)).unwrap_or(usize::MAX);
    if total == 0 || total > most {
        return Err(format!("the model has {total} layers, 1 to {most} is wanted"));
    }
    if let Some(run) = runs.iter().find(|run| !is_amount(run.parameters)) {
        return Err(format!("a layer has {} parameters, 0 to {MOST:e} is wanted", run.parameters));
    }
    Ok(runs.iter().flat_map(|run| std::iter::repeat_n(run.parameters, run.count)).collect())
}

/// How the time to make communication groups grows.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Groups {
    /// D + P + 1 + D P groups, so long each.
    ByGroup {
        /// A group when machines join, milliseconds.
        add_ms: f64,
        /// A group when machines leave.
        remove_ms: f64,
    },
    /// D P machines, so long each.
    ByMachine {
        /// A machine when machines join, milliseconds.
        add_ms: f64,
        /// A machine when machines leave.
        remove_ms: f64,
    },
    /// A step function of D.
    ByPipelines {
        /// (from so many pipelines on, milliseconds), rising.
        steps: Vec<(u32, f64)>,
        /// Times so much when machines join.
        add_factor: f64,
    },
}

/// Constants of migration, milliseconds (Parcae's code; `../shared/papers/dsmlr-and-parcae.md` B5).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Work of each process at any change.
    pub process_ms: f64,
    /// Finding each other, when machines join.
    pub rendezvous_ms: f64,
    /// More of that, particular to the model.
    pub extra_add_ms: f64,
    /// The fixed part of making groups.
    pub base_group_ms: f64,
    /// The growing part.
    pub groups: Groups,
    /// Building a stage of the model, by the number of stages.
    pub build_ms: std::collections::BTreeMap<u32, f64>,
    /// Saving and loading of a checkpoint, for policies that restart.
    pub save_and_load_ms: f64,
}

impl Default for Costs {
    /// For a profile that says nothing: sockets that need no global groups, a second to build.
    fn default() -> Costs {
        Costs {
            process_ms: 240.0,
            rendezvous_ms: 6600.0,
            extra_add_ms: 0.0,
            base_group_ms: 35.0,
            groups: Groups::ByGroup { add_ms: 500.0, remove_ms: 39.3 },
            build_ms: [(1, 2000.0)].into(),
            save_and_load_ms: 14_000.0,
        }
    }
}

impl Costs {
    pub(super) fn check(&self) -> Checked {
        let growing = match &self.groups {
            Groups::ByGroup { add_ms, remove_ms } | Groups::ByMachine { add_ms, remove_ms } => {
                is_amount(*add_ms) && is_amount(*remove_ms)
            }
            Groups::ByPipelines { steps, add_factor } => {
                is_amount(*add_factor)
                    && !steps.is_empty()
                    && steps.iter().all(|step| is_amount(step.1))
                    && steps.windows(2).all(|pair| pair[0].0 < pair[1].0)
            }
        };
        let fixed = [
            self.process_ms,
            self.rendezvous_ms,
            self.extra_add_ms,
            self.base_group_ms,
            self.save_and_load_ms,
        ];
        let build = !self.build_ms.is_empty() && self.build_ms.values().all(|&ms| is_amount(ms));
        if growing && build && fixed.into_iter().all(is_amount) {
            return Ok(());
        }
        Err(format!(
            "costs: every time is 0 to {MOST:e} milliseconds; build_ms and steps are not empty and rise"
        ))
    }

    /// Building a stage when there are `stages`: the entry of the nearest number of stages in the table.
    pub fn build_ms(&self, stages: u32) -> f64 {
        let nearest = self.build_ms.iter().min_by_key(|entry| entry.0.abs_diff(stages));
        nearest.map_or(0.0, |(_, ms)| *ms)
    }

    /// Every constant times `factor`: for studies of how much they matter.
    pub fn scaled(&self, factor: f64) -> Costs {
        let mut costs = self.clone();
        for ms in [
            &mut costs.process_ms,
            &mut costs.rendezvous_ms,
            &mut costs.extra_add_ms,
            &mut costs.base_group_ms,
            &mut costs.save_and_load_ms,
        ] {
            *ms *= factor;
        }
        costs.build_ms.values_mut().for_each(|ms| *ms *= factor);
        match &mut costs.groups {
            Groups::ByGroup { add_ms, remove_ms } | Groups::ByMachine { add_ms, remove_ms } => {
                (*add_ms, *remove_ms) = (*add_ms * factor, *remove_ms * factor);
            }
            Groups::ByPipelines { steps, .. } => steps.iter_mut().for_each(|step| step.1 *= factor),
        }
        costs
    }
}

/// Time of a transfer between two machines: a measured table, straight between its points, in proportion to the
/// bytes beyond the last.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Network {
    /// (bytes, microseconds), bytes rising.
    rows: Vec<(f64, f64)>,
}

impl Default for Network {
    /// 10 Gb/s with 0.14 ms to start.
    fn default() -> Network {
        Network { rows: vec![(0.0, 140.0), (1e9, 1_116_000.0)] }
    }
}

impl Network {
    pub(super) fn check(&self) -> Checked {
        let rising = self.rows.windows(2).all(|pair| pair[0].0 < pair[1].0);
        // Beyond the last row times grow in proportion: its bytes are divided by.
        let long = self.rows.last().is_some_and(|row| row.0 >= 1.0);
        if rising
            && long
            && self.rows.len() >= 2
            && self.rows.iter().all(|row| is_amount(row.0) && is_amount(row.1))
        {
            return Ok(());
        }
        Err(format!(
            "network: at least two rows [bytes, microseconds], bytes rising to 1 or more, every number 0 to {MOST:e}"
        ))
    }

    /// Milliseconds for `bytes` from one machine to another; 0 for nothing.
    pub fn transfer_ms(&self, bytes: f64) -> f64 {
        if bytes <= 0.0 {
            return 0.0;
        }
        let after = self.rows.partition_point(|row| row.0 < bytes);
        let micros = match (after.checked_sub(1).map(|i| self.rows[i]), self.rows.get(after)) {
            (None, Some(first)) => first.1,
            (Some(low), Some(high)) => low.1 + (high.1 - low.1) * (bytes - low.0) / (high.0 - low.0),
            (Some(last), None) => last.1 * bytes / last.0,
            (None, None) => 0.0,
        };
        micros / 1000.0
    }
}
