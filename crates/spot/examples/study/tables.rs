//! The tables on how much is trained.

use crate::{FIRST_HALF, Study, rates};
use dunlin_spot::cost::CostModel;
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::trace::Availability;
use dunlin_spot::trace::generate::GENERATORS;
use dunlin_spot::{Error, Result};

const ALL: [&str; 7] =
    ["reactive", "persistence", "persistence+hysteresis", "parcae", "dunlin", "parcae-truth", "ideal"];

/// Every policy on each half of the trace, replayed on its own.
pub(crate) fn halves(study: &Study) -> Result<()> {
    let runs = study.runs()?;
    let middle = if study.smoke { 30 } else { FIRST_HALF };
    for &notice in &study.notices {
        for second in [false, true] {
            let part = |trace: &Availability| {
                if second { trace.segment(middle, trace.intervals.len()) } else { trace.segment(0, middle) }
            };
            let name =
                if second { format!("from minute {middle} on") } else { format!("minutes 0-{}", middle - 1) };
            println!("\n### {name}, notice {}: samples/s (share of the gap)\n", notice.word());
            gap_table(&runs, notice, |profile, trace| Ok((CostModel::new(profile), part(trace)?)))?;
        }
    }
    Ok(())
}

/// The whole trace with other costs.
pub(crate) fn costs(study: &Study) -> Result<()> {
    let runs = study.runs()?;
    for &notice in &study.notices {
        for factor in [0.5, 1.0, 1.5] {
            println!(
                "\n### whole trace, notice {}, costs x {factor}: samples/s (share of the gap)\n",
                notice.word()
            );
            gap_table(&runs, notice, |profile, trace| {
                let mut profile = profile.clone();
                profile.costs = profile.costs.scaled(factor);
                Ok((CostModel::new(&profile), trace.clone()))
            })?;
        }
    }
    Ok(())
}

/// A row a model. Shares of the gap are counted from the published policy without notice to the one told the future.
fn gap_table(
    runs: &[(Profile, Availability)],
    notice: Notice,
    of: impl Fn(&Profile, &Availability) -> Result<(CostModel, Availability)>,
) -> Result<()> {
    println!("| model | {} |\n|---{}|", ALL.join(" | "), "|---".repeat(ALL.len()));
    let mut sums = [0.0; ALL.len()];
    for (profile, trace) in runs {
        let (costs, trace) = of(profile, trace)?;
        let found = rates(&ALL, &trace, &costs, notice)?;
        let low = rates(&["parcae"], &trace, &costs, Notice::None)?[0];
        let share = |rate: f64| (rate - low) / (found[5] - low);
        let cells: Vec<String> =
            found.iter().map(|&rate| format!("{rate:.2} ({:.3})", share(rate))).collect();
        println!("| {} | {} |", profile.name, cells.join(" | "));
        sums.iter_mut().zip(&found).for_each(|(sum, &rate)| *sum += share(rate) / runs.len() as f64);
    }
    println!("| mean share | {} |", sums.map(|sum| format!("{sum:.3}")).join(" | "));
    Ok(())
}

/// Bootstrapped traces.
pub(crate) fn boot(study: &Study) -> Result<()> {
    made(study, "bootstrap", study.seeds)
}

/// The other generators, a few traces each.
pub(crate) fn others(study: &Study) -> Result<()> {
    let seeds = study.seeds.div_ceil(20);
    ["poisson", "batched", "diurnal", "zones"].iter().try_for_each(|name| made(study, name, seeds))
}

/// `dunlin` beside others on new traces.
fn made(study: &Study, name: &str, seeds: u64) -> Result<()> {
    let generator = GENERATORS
        .iter()
        .find(|generator| generator.name == name)
        .ok_or_else(|| Error::usage(format!("no generator {name}")))?;
    for &notice in &study.notices {
        println!("\n### {name}, {seeds} traces, notice {}\n", notice.word());
        println!(
            "| model | >= persistence | worst / persistence (seed) | mean / persistence | worst / reactive | below reactive |"
        );
        println!("|---|---|---|---|---|---|");
        for (profile, trace) in study.runs()? {
            let costs = CostModel::new(&profile);
            let length = trace.intervals.len();
            let like = if study.tune { trace.segment(0, FIRST_HALF.min(length))? } else { trace };
            let first = if study.tune { 10_000 } else { 1 };
            let mut ratios = Vec::new();
            for seed in first..first + seeds {
                let new = generator.generate(&like, like.highest(), length, seed)?.availability(60_000)?;
                let found = rates(&["dunlin", "persistence", "reactive"], &new, &costs, notice)?;
                ratios.push((found[0] / found[1], found[0] / found[2], seed));
            }
            row(&profile.name, &ratios);
        }
    }
    Ok(())
}

fn row(model: &str, ratios: &[(f64, f64, u64)]) {
    let count = ratios.len() as f64;
    let share =
        |is: &dyn Fn(&&(f64, f64, u64)) -> bool| 100.0 * ratios.iter().filter(is).count() as f64 / count;
    let worst =
        ratios.iter().fold((f64::INFINITY, 0), |worst, r| if r.0 < worst.0 { (r.0, r.2) } else { worst });
    let reactive = ratios.iter().map(|r| r.1).fold(f64::INFINITY, f64::min);
    let mean = ratios.iter().map(|r| r.0).sum::<f64>() / count;
    println!(
        "| {model} | {:.0} % | {:.4} ({}) | {mean:.4} | {reactive:.4} | {:.0} % |",
        share(&|r| r.0 >= 1.0),
        worst.0,
        worst.1,
        share(&|r| r.1 < 1.0),
    );
}
