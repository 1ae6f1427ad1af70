//! The decider that plans with chances: `dunlin`.

use super::{Decider, Decision, Notice, Sight};
use crate::account::{Standing, adapt};
use crate::cost::CostModel;
use crate::forecast::Forecaster;
use crate::plan::{Candidate, Planner, Prices, Stochastic, Timing};
use crate::{Interval, Layout};

/// Intervals the plan looks ahead.
const HORIZON: usize = 12;

/// With notice, seconds of training that the plan must promise over one that takes the machines to stay as they are. Both come
/// to nearly the same then, and a smaller promise is as often broken as kept. Without notice every promise counts.
const MARGIN_S: f64 = 6.0;

/// Plans with the chances of losses and gains, which it learns on the way.
pub struct Chances<'a> {
    costs: &'a CostModel,
    forecaster: Box<dyn Forecaster>,
    planner: Stochastic<'a>,
    /// What it is held against, if a plan must promise more.
    plain: Option<Planner<'a>>,
}

impl<'a> Chances<'a> {
    /// With the outlooks of `forecaster`.
    pub fn new(
        forecaster: Box<dyn Forecaster>,
        costs: &'a CostModel,
        interval_s: f64,
        notice: Notice,
    ) -> Chances<'a> {
        let timing = if notice == Notice::None { Timing::BeforeDraw } else { Timing::AfterDraw };
        Chances {
            costs,
            forecaster,
            plain: (notice != Notice::None).then(|| Planner::new(costs, interval_s)),
            planner: Stochastic::new(Prices::new(costs), interval_s, HORIZON, timing),
        }
    }
}

impl Chances<'_> {
    /// The best candidate, or what is planned if the machines stay, unless it is worse by more than the margin.
    fn chosen(&mut self, candidates: &[Candidate], standing: Standing, sight: Sight<'_>) -> Candidate {
        let best = candidates[0];
        let Some(plain) = &mut self.plain else { return best };
        let before = sight.known_machines();
        let mut path = sight.certain.to_vec();
        path.resize(HORIZON.max(path.len()), Interval { before, added: 0, removed: 0 });
        let plain = plain.plan(standing, &path).layout;
        let margin = MARGIN_S * self.costs.profile().samples_per_second(best.layout);
        let near = |other: &&Candidate| other.layout == plain && best.samples - other.samples < margin;
        candidates.iter().find(near).copied().unwrap_or(best)
    }
}

impl Decider for Chances<'_> {
    fn observe(&mut self, interval: Interval) {
        self.forecaster.observe(interval);
    }

    fn decide(&mut self, standing: Standing, sight: Sight<'_>) -> Decision {
        let outlooks = self.forecaster.outlook(sight.known_machines(), HORIZON);
        let candidates = self.planner.candidates(standing, sight.machines, sight.certain, &outlooks);
        let first = sight.certain.first().map_or(sight.machines, Interval::after);
        let kept = adapt(self.costs, standing.layout, first);
        let best = self.chosen(&candidates, standing, sight);
        if best.samples <= 0.0 && kept.is_idle() {
            let why = format!("nothing fits on {} machines: waits", sight.known_machines());
            return Decision { layout: Layout::IDLE, why, forecast: Vec::new() };
        }
        let rate = self.costs.profile().samples_per_second(best.layout).max(f64::MIN_POSITIVE);
        let than = |other: Layout| candidates.iter().find(|candidate| candidate.layout == other);
        let why = match than(kept) {
            _ if best.layout != candidates[0].layout => format!(
                "{} would train {:.1} s more in {HORIZON} intervals, {MARGIN_S} s are wanted: as if the machines stay",
                candidates[0].layout,
                (candidates[0].samples - best.samples) / rate
            ),
            _ if best.layout == kept => match candidates.get(1) {
                Some(next) => format!(
                    "{} would train {:.1} s less in {HORIZON} intervals",
                    next.layout,
                    (best.samples - next.samples) / rate
                ),
                None => "nothing else fits".to_string(),
            },
            Some(kept) => format!(
                "trains {:.1} s more than {} in {HORIZON} intervals",
                (best.samples - kept.samples) / rate,
                kept.layout
            ),
            None => format!("{kept} no longer trains"),
        };
        Decision { layout: best.layout, why, forecast: Vec::new() }
    }
}
