//! What a change of layout costs, in milliseconds during which nothing is trained.
//!
//! Five cases (Parcae's code; `../shared/papers/dsmlr-and-parcae.md` B5), the cheapest that serves is taken:
//! - *none*: the same layout, and no working machine was lost;
//! - *intra-stage*: the same P, every stage keeps at least D' machines: they are paired anew, no state moves;
//! - *inter-stage*: the same P, some stage lacks machines: others take the role and copy that stage;
//! - *pipeline*: P changes, layers move between machines;
//! - *start*: nothing ran before, everything is fetched.
//!
//! Who is lost is not known when a plan is made: [`CostModel::expected_ms`] is the exact mean over all equally likely sets of victims.

pub mod corrected;
mod pipeline;
mod row;
mod stage;

use crate::chance::Chances;
use crate::profile::{Groups, MAX_MACHINES, Profile};
use crate::{Error, Layout, Result};
pub(crate) use corrected::Price;
pub(crate) use pipeline::Fetches;
pub(crate) use row::{Row, Target};
use std::collections::BTreeMap;

/// Which price list: two worlds that are never mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// As published, with its quirks.
    #[default]
    Published,
    /// Done well: see [`corrected`].
    Corrected,
}

impl Rules {
    /// The words of the command line.
    pub const WORDS: [(&str, Rules); 2] = [("published", Rules::Published), ("corrected", Rules::Corrected)];

    /// # Errors
    /// Names what there is.
    pub fn parse(word: &str) -> Result<Rules> {
        let known = Rules::WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, rules)| *rules).ok_or_else(|| {
            let words = Rules::WORDS.map(|(word, _)| word).join(", ");
            Error::usage(format!("rules {word} are not known; there are {words}"))
        })
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        Rules::WORDS.iter().find(|(_, rules)| *rules == self).map_or("", |(word, _)| word)
    }
}

/// Whether communication groups are made for machines that join or for those that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Machines join: they must find each other first.
    Add,
    /// Machines only leave.
    Remove,
}

/// A change of layout that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    /// Machines at the start of the interval; victims are drawn from them uniformly.
    pub machines: u32,
    /// How many of them are lost.
    pub lost: u32,
    /// The layout at the start.
    pub from: Layout,
    /// The layout wanted.
    pub to: Layout,
}

impl Step {
    /// Newcomers or spares are needed if what is left of the working machines is too few.
    pub fn change(&self) -> Change {
        let left = self.from.machines().saturating_sub(self.lost);
        if self.to.machines() > left { Change::Add } else { Change::Remove }
    }
}

/// Times of the stages of one P.
#[derive(Clone, Debug)]
struct Stages {
    /// Layers of each stage.
    cut: Vec<std::ops::Range<usize>>,
    /// To copy the state of each stage, milliseconds.
    copy_ms: Vec<f64>,
    /// The different times among them, rising, 0 first; and which of them each stage has.
    copy_times: Vec<f64>,
    copy_time: Vec<usize>,
    /// The longest of them.
    longest_ms: f64,
    /// All of them one after another.
    all_ms: f64,
    /// Bytes of state up to the end of each stage.
    ends: Vec<f64>,
}

/// The price list of a profile.
#[derive(Clone, Debug)]
pub struct CostModel {
    profile: Profile,
    rules: Rules,
    hands_over: bool,
    releases: bool,
    stages: BTreeMap<u32, Stages>,
    chances: Chances,
}

impl CostModel {
    /// The published price list of `profile`.
    pub fn new(profile: &Profile) -> CostModel {
        CostModel::with_rules(profile, Rules::Published)
    }

    /// The price list of `profile` by `rules`; corrected ones know the profile's shapes ([`Profile::with_shapes`]).
    pub fn with_rules(profile: &Profile, rules: Rules) -> CostModel {
        let profile = match rules {
            Rules::Published => profile.without_shapes(),
            Rules::Corrected => profile.with_shapes(),
        };
        let mut stages = BTreeMap::new();
        for run in profile.layouts().iter().flat_map(Layout::runs) {
            stages.entry(run.stages).or_insert_with(|| Stages::new(&profile, run.stages));
        }
        let chances = Chances::new(2 * MAX_MACHINES);
        CostModel { profile, rules, hands_over: false, releases: false, stages, chances }
    }

    /// The same for the layouts of the measured table alone.
    pub fn without_shapes(&self) -> CostModel {
        CostModel { profile: self.profile.without_shapes(), ..self.clone() }
    }

    /// The same where a machine that goes hands its state over before: no stage is without a holder.
    pub fn handing_over(self, hands_over: bool) -> CostModel {
        CostModel { hands_over, ..self }
    }

    /// The same where machines without a role are released: those a layout needs besides the working ones come in that very interval.
    pub fn releasing(self) -> CostModel {
        CostModel { releases: true, ..self }
    }

    /// Machines that are ready when `lost` of `machines` are lost, `hit` of them working in `from`.
    pub(crate) fn ready(&self, machines: u32, lost: u32, hit: u32, from: Layout) -> u32 {
        if self.releases { from.machines().saturating_sub(hit) } else { machines.saturating_sub(lost) }
    }

    /// The profile it was made of.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The world it belongs to.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The chances it was made with.
    pub fn chances(&self) -> &Chances {
        &self.chances
    }

    /// G(D, P, change): making the communication groups of a layout; by corrected rules they are made beforehand, the
    /// fixed part remains.
    pub fn groups_ms(&self, layout: Layout, change: Change) -> f64 {
        if self.rules == Rules::Corrected {
            return self.profile.costs.base_group_ms;
        }
        let layout = self.profile.on_gpus(layout);
        let adds = change == Change::Add;
        let pick = |add: f64, remove: f64| if adds { add } else { remove };
        let machines = f64::from(layout.machines());
        let growing = match &self.profile.costs.groups {
            Groups::ByGroup { add_ms, remove_ms } => {
                let groups = f64::from(layout.pipelines + layout.stages + 1) + machines;
                groups * pick(*add_ms, *remove_ms)
            }
            Groups::ByMachine { add_ms, remove_ms } => machines * pick(*add_ms, *remove_ms),
            Groups::ByPipelines { steps, add_factor } => {
                let step = steps.iter().rev().find(|step| layout.pipelines >= step.0).unwrap_or(&steps[0]);
                step.1 * pick(*add_factor, 1.0)
            }
        };
        self.profile.costs.base_group_ms + growing
    }

    /// R(D, P, change): all processes start anew: rendezvous (when machines join), groups, building the model.
    pub fn restart_ms(&self, layout: Layout, change: Change) -> f64 {
        let costs = &self.profile.costs;
        let meeting = if change == Change::Add { costs.rendezvous_ms + costs.extra_add_ms } else { 0.0 };
        meeting
            + self.groups_ms(layout, change)
            + costs.process_ms
            + costs.build_ms(self.profile.on_gpus(layout).stages)
    }

    /// Intra-stage migration to `layout`: groups and processes alone.
    pub fn intra_stage_ms(&self, layout: Layout) -> f64 {
        self.groups_ms(layout, Change::Remove) + self.profile.costs.process_ms
    }

    /// Fetching the whole model, one stage after another.
    pub fn fetch_ms(&self, stages: u32) -> f64 {
        self.stages.get(&stages).map_or(0.0, |stages| stages.all_ms)
    }

    /// The mean cost of `step` over all sets of victims, milliseconds.
    ///
    /// `step.to` must fit on what is left and newcomers; idle costs nothing. A layout outside the profile's table is
    /// priced by its groups and processes alone.
    pub fn expected_ms(&self, step: Step) -> f64 {
        match self.rules {
            Rules::Published => self.published_ms(step),
            Rules::Corrected => self.corrected_ms(step),
        }
    }

    fn published_ms(&self, step: Step) -> f64 {
        let mut row = Row::new(step.machines, step.lost, step.from);
        row.price_ms(self, &mut Fetches::default(), &self.target(step.to))
    }
}

impl Stages {
    fn new(profile: &Profile, stages: u32) -> Stages {
        let cut = profile.cut(stages);
        let time =
            |layers: &std::ops::Range<usize>| profile.network.transfer_ms(profile.bytes(layers.clone()));
        let copy_ms: Vec<f64> = cut.iter().map(time).collect();
        let ends = cut.iter().map(|layers| profile.bytes(0..layers.end)).collect();
        let mut copy_times: Vec<f64> = copy_ms.iter().copied().chain([0.0]).collect();
        copy_times.sort_by(f64::total_cmp);
        copy_times.dedup();
        let copy_time = copy_ms.iter().map(|ms| copy_times.partition_point(|time| time < ms)).collect();
        let longest_ms = copy_ms.iter().copied().fold(0.0, f64::max);
        Stages { cut, longest_ms, all_ms: copy_ms.iter().sum(), copy_ms, copy_times, copy_time, ends }
    }
}
