//! How long replays take; `examples/decision_times` is about single decisions.

use crate::Study;
use dunlin_spot::Result;
use dunlin_spot::cost::CostModel;
use dunlin_spot::policy::Notice;
use dunlin_spot::replay::replay;
use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn milliseconds<T>(of: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let value = of();
    (start.elapsed().as_secs_f64() * 1000.0, value)
}

/// Replays of the models.
pub(crate) fn times(study: &Study) -> Result<()> {
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
