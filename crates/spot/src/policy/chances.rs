//! The decider that plans with chances: `dunlin`.

use super::{Decider, Decision, Notice, Sight};
use crate::Interval;
use crate::account::{Standing, adapt};
use crate::cost::CostModel;
use crate::forecast::Outlook;
use crate::plan::{Prices, Stochastic, Timing};

/// Plans with the chances of losses and gains, which it learns on the way.
pub struct Chances<'a> {
    costs: &'a CostModel,
    planner: Stochastic<'a>,
    seen: Vec<Interval>,
    hysteresis_s: f64,
}

impl<'a> Chances<'a> {
    /// Knows nothing yet.
    pub fn new(costs: &'a CostModel, interval_s: f64, notice: Notice) -> Chances<'a> {
        let timing = if notice == Notice::None { Timing::BeforeDraw } else { Timing::AfterDraw };
        let get = |name: &str, default: f64| {
            std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        let planner = Stochastic::new(Prices::new(costs), interval_s, get("HORIZON", 12.0) as usize, timing);
        Chances { costs, planner, seen: Vec::new(), hysteresis_s: get("HYST", 0.0) }
    }

    fn outlook(&self, max: u32) -> Outlook {
        let get = |name: &str, default: f64| {
            std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
        };
        let decay: f64 = get("DECAY", 0.99);
        let (mut lost, mut gained) = (vec![0.0; 8], vec![0.0; 8]);
        let prior = get("PRIOR", 10.0);
        let pl = get("PL", 0.1);
        lost[0] = prior * (1.0 - pl);
        lost[1] = prior * pl * 0.6;
        lost[2] = prior * pl * 0.4;
        gained[0] = prior * (1.0 - pl);
        gained[1] = prior * pl * 0.6;
        gained[2] = prior * pl * 0.4;
        let mut weight = 1.0;
        for interval in self.seen.iter().skip(1).rev() {
            lost[(interval.removed as usize).min(7)] += weight;
            gained[(interval.added as usize).min(7)] += weight;
            weight *= decay;
        }
        let _ = max;
        for v in [&mut lost, &mut gained] {
            let t: f64 = v.iter().sum();
            v.iter_mut().for_each(|x| *x /= t);
        }
        Outlook { lost, gained }
    }
}

impl Decider for Chances<'_> {
    fn observe(&mut self, interval: Interval) {
        self.seen.push(interval);
    }

    fn decide(&mut self, standing: Standing, sight: Sight<'_>) -> Decision {
        let outlook = self.outlook(32);
        let candidates =
            self.planner.candidates(standing, sight.machines, sight.certain, &[outlook.clone(), outlook]);
        let first = sight.certain.first().map_or(sight.machines, Interval::after);
        let kept = adapt(self.costs, standing.layout, first);
        let best = candidates[0];
        let stay = candidates.iter().find(|candidate| candidate.layout == kept);
        let rate = self.costs.profile().samples_per_second(best.layout).max(f64::MIN_POSITIVE);
        let layout = match stay {
            Some(stay) if !kept.is_idle() && best.samples - stay.samples < self.hysteresis_s * rate => {
                stay.layout
            }
            _ => best.layout,
        };
        Decision { layout, why: String::new(), forecast: Vec::new() }
    }
}
