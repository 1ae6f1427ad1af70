//! How long decisions take.

use crate::Study;
use dunlin_spot::account::Standing;
use dunlin_spot::cost::CostModel;
use dunlin_spot::forecast::Outlook;
use dunlin_spot::plan::{Planner, Prices, Stochastic, Timing};
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::replay;
use dunlin_spot::{Interval, Result};
use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn milliseconds<T>(of: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = of();
    (start.elapsed().as_secs_f64() * 1000.0, value)
}

/// Others want the machine too: the least of some runs, each cold, for as long as they are short.
fn least(of: impl Fn() -> [f64; 2]) -> [f64; 2] {
    let (mut best, mut spent) = (of(), 0.0);
    while spent < 400.0 {
        let again = of();
        spent += again[0] + again[1];
        best = [best[0].min(again[0]), best[1].min(again[1])];
    }
    best
}

/// An outlook like those of the shared trace.
fn outlook(event: f64) -> Outlook {
    let sizes: [f64; 6] = [0.5, 0.25, 0.12, 0.06, 0.04, 0.03];
    let side = |event: f64| std::iter::once(1.0 - event).chain(sizes.map(|size| size * event)).collect();
    Outlook { lost: side(event), gained: side(event) }
}

/// Every decision of the list, cold and then warm.
pub(crate) fn times(study: &Study) -> Result<()> {
    println!("\n### milliseconds of a decision, cold (then the same again)\n");
    println!(
        "| profile | machines | layouts | price list | along a path | chances, no notice | at event |\n|---|---|---|---|---|---|---|"
    );
    for (profile, _) in study.runs()? {
        decisions(&profile, 32);
    }
    let sizes: &[u32] = if study.smoke { &[32] } else { &[32, 128, 1024] };
    for &machines in sizes {
        decisions(&dunlin_spot::profile::synthetic(machines)?, machines);
    }
    println!("\n### milliseconds of a replay\n");
    println!(
        "| model | parcae | persistence | dunlin none | dunlin at-event | parcae-truth |\n|---|---|---|---|---|---|"
    );
    for (profile, trace) in study.runs()? {
        let costs = CostModel::new(&profile);
        let time = |policy: &str, notice: Notice| milliseconds(|| replay(policy, &trace, &costs, notice)).0;
        let (none, event) = (Notice::None, Notice::AtEvent);
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            profile.name,
            time("parcae", none),
            time("persistence", none),
            time("dunlin", none),
            time("dunlin", event),
            time("parcae-truth", none)
        );
    }
    Ok(())
}

fn decisions(profile: &Profile, machines: u32) {
    let (list, costs) = milliseconds(|| CostModel::new(profile));
    let now = machines - machines / 16;
    let standing = Standing { layout: profile.best(now), owed_ms: 0.0 };
    let mut path = vec![Interval { before: now, added: 0, removed: 3 }];
    for step in 1..12 {
        let before = path[step - 1].after();
        path.push(Interval {
            before,
            added: u32::from(step % 4 == 0),
            removed: u32::from(step % 5 == 0) * 2,
        });
    }
    let along = least(|| {
        let mut planner = Planner::new(&costs, 60.0);
        [(); 2].map(|()| milliseconds(|| planner.plan(standing, &path)).0)
    });
    let outlooks = vec![outlook(0.15); 12];
    let other = vec![outlook(0.17); 12]; // not far enough from the first one to solve anew
    let chances = |timing: Timing| {
        least(|| {
            let certain = if timing == Timing::BeforeDraw { &path[..0] } else { &path[..1] };
            let mut planner = Stochastic::new(Prices::new(&costs), 60.0, 12, timing);
            let mut decide =
                |outlooks| milliseconds(|| planner.candidates(standing, now, certain, outlooks)).0;
            [decide(&outlooks), decide(&other)]
        })
    };
    let (before, after) = (chances(Timing::BeforeDraw), chances(Timing::AfterDraw));
    println!(
        "| {} | {machines} | {} | {list:.1} | {:.2} ({:.2}) | {:.1} ({:.2}) | {:.1} ({:.2}) |",
        profile.name,
        profile.layouts().len(),
        along[0],
        along[1],
        before[0],
        before[1],
        after[0],
        after[1]
    );
}
