use super::*;
use crate::trace::generate::Batched;
use crate::trace::{Availability, ReadOptions, read};

fn p3() -> Availability {
    let text = include_str!("../../data/p3_minutes.csv");
    read(text.as_bytes(), "p3", &ReadOptions::default()).unwrap().availability(60_000).unwrap()
}

/// Error on the p3 trace, as published: history and horizon alike.
fn error(name: &str, history: usize, horizon: usize) -> f64 {
    error_after(name, history, history, horizon)
}

fn error_after(name: &str, looks_back: usize, history: usize, horizon: usize) -> f64 {
    let settings = Settings { history: Some(looks_back), ..Settings::default() };
    let mut forecaster = Kind::named(name).unwrap().make(&settings).unwrap();
    score(forecaster.as_mut(), &p3().intervals, &Scoring::published(history, horizon)).error
}

#[test]
fn errors_on_the_p3_trace_are_the_measured_ones() {
    let exact = [(8, 1.742), (12, 2.288)];
    for (length, wanted) in exact {
        let found = error("persistence", length, length);
        assert!((found - wanted).abs() <= 0.0006, "persistence {length}: {found}, not {wanted}");
    }
    let table = [
        ("smoothing", 1.74, 2.29),
        ("mean", 2.65, 3.22),
        ("holt", 2.80, 3.73),
        ("arima", 2.79, 3.75),
        ("arima-nodrift", 1.92, 2.41),
        ("parcae", 2.08, 2.74),
    ];
    for (name, eight, twelve) in table {
        for (length, wanted) in [(8, eight), (12, twelve)] {
            let found = error(name, length, length);
            assert!((found / wanted - 1.0).abs() < 0.05, "{name} {length}: {found}, not {wanted}");
        }
    }
    let three = (error_after("mean", 3, 8, 8), error_after("mean", 3, 12, 12));
    assert!((three.0 / 2.08 - 1.0).abs() < 0.05 && (three.1 / 2.55 - 1.0).abs() < 0.05, "{three:?}");
}

/// The scores of `name` for minutes 330 to 682, having seen the ones before.
fn second_half(name: &str) -> Score {
    let mut forecaster = Kind::named(name).unwrap().make(&Settings::default()).unwrap();
    score(forecaster.as_mut(), &p3().intervals, &Scoring { first: 330, horizon: 12, stride: 1 })
}

#[test]
fn distributions_beat_certain_paths() {
    let (ours, last) = (second_half("hazard"), second_half("persistence"));
    assert!((last.mean_crps() - last.error).abs() < 1e-9, "a certain forecast's CRPS is its error");
    assert!(ours.mean_crps() < 0.85 * last.mean_crps(), "{} {}", ours.mean_crps(), last.mean_crps());
    assert!(ours.error < 1.06 * last.error, "{} {}", ours.error, last.error);
    let (half, most) = ours.mean_coverage();
    assert!((0.5..0.75).contains(&half) && (0.85..0.97).contains(&most), "{half} {most}");
    for name in ["arima", "parcae", "holt", "mean"] {
        assert!(ours.mean_crps() < second_half(name).mean_crps(), "{name}");
    }
}

#[test]
fn every_forecaster_is_sane_on_every_trace() {
    let quiet = Availability::from_counts(60_000, &[5; 40]);
    let zero = Availability::from_counts(60_000, &[0; 40]);
    let jumps: Vec<u32> = (0..60).map(|at| if at % 7 < 3 { 1000 } else { 0 }).collect();
    let jumps = Availability::from_counts(60_000, &jumps);
    let short = Availability::from_counts(60_000, &[3]);
    for kind in FORECASTERS {
        for history in [None, Some(1), Some(2), Some(3), Some(12)] {
            for trace in [&quiet, &zero, &jumps, &short, &p3()] {
                let settings = Settings { history, ..Settings::default() };
                let mut forecaster = kind.make(&settings).unwrap();
                assert_eq!(forecaster.name(), kind.name);
                assert_eq!(forecaster.counts(3), [0, 0, 0], "{}: before anything was seen", kind.name);
                for (at, interval) in trace.intervals.iter().enumerate() {
                    forecaster.observe(*interval);
                    let horizon = if at < 60 { at % 9 } else { 0 };
                    assert_eq!(forecaster.counts(horizon).len(), horizon, "{}", kind.name);
                }
                let now = trace.intervals.last().unwrap().after();
                let outlook = forecaster.outlook(now, 12);
                assert_eq!(outlook.len(), 12);
                for coming in &outlook {
                    for chances in [&coming.lost, &coming.gained] {
                        assert!(
                            (chances.iter().sum::<f64>() - 1.0).abs() < 1e-9,
                            "{}: {chances:?}",
                            kind.name
                        );
                        assert!(chances.iter().all(|chance| *chance >= 0.0));
                    }
                }
                for chances in distributions(now, forecaster.ceiling(), &outlook) {
                    assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}", kind.name);
                }
            }
        }
        let mut flat = kind.make(&Settings::default()).unwrap();
        (0..40).for_each(|at| flat.observe(quiet.intervals[at]));
        assert_eq!(flat.counts(4), [5; 4], "{}: what never changes stays", kind.name);
    }
}

#[test]
fn nothing_above_the_capacity_is_predicted() {
    for kind in FORECASTERS {
        let mut forecaster = kind.make(&Settings { capacity: Some(32), ..Settings::default() }).unwrap();
        for interval in &p3().intervals {
            forecaster.observe(*interval);
            if interval.after() < 30 {
                continue;
            }
            assert!(forecaster.counts(6).iter().all(|count| *count <= 32), "{}", kind.name);
        }
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let wrong = [
        (Settings { history: Some(0), ..Settings::default() }, "from 1 to 1000"),
        (Settings { history: Some(1001), ..Settings::default() }, "1001"),
        (Settings { clip: (9, 8), ..Settings::default() }, "9..8"),
    ];
    for (settings, part) in wrong {
        let said = FORECASTERS[0].make(&settings).err().unwrap().to_string();
        assert!(said.contains(part), "{said}");
    }
    let said = Kind::named("oracle").err().unwrap().to_string();
    assert!(said.contains("`oracle`") && said.contains("hazard"), "{said}");
}

#[test]
fn an_autoregression_is_found_again() {
    let mut rng = dunlin_rng::stream(5, "forecast-test", &[]);
    let (mut value, mut differences) = (0.0, Vec::new());
    for _ in 0..20_000 {
        value = 0.6 * value + rng.normal();
        differences.push(value + 0.25);
    }
    let found = Autoregression::fit(&differences, true);
    assert!((found.slope - 0.6).abs() < 0.02 && (found.mean - 0.25).abs() < 0.1, "{found:?}");
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    assert!((found.mean - mean).abs() < 0.001, "{found:?}, mean {mean}");
    let path = Autoregression { slope: 0.5, mean: 1.0 }.path(10.0, 3.0, 3);
    assert_eq!(path, [12.0, 13.5, 14.75]);
}

#[test]
fn a_hazard_learns_the_rates_of_a_trace_and_its_ceiling() {
    let made = Batched { removal_chance: 0.3, addition_chance: 0.5, ..Batched::fit(&p3(), 32) };
    let trace = made.generate(4000, 9);
    let mut hazard = Hazard::new(&Settings::default());
    trace.intervals.iter().for_each(|interval| hazard.observe(*interval));
    let coming = &hazard.outlook(20, 1)[0];
    assert!((coming.lost[0] - 0.7).abs() < 0.1 && (coming.gained[0] - 0.5).abs() < 0.15, "{coming:?}");
    let mut stays = Hazard::new(&Settings::default());
    trace.intervals.iter().for_each(|interval| stays.observe(*interval));
    for _ in 0..60 {
        stays.observe(Interval { before: 32, added: 0, removed: 0 });
    }
    assert_eq!(stays.ceiling(), Some(32));
    let full = &stays.outlook(32, 1)[0].gained;
    assert!(full[1..].iter().all(|chance| *chance < 1e-12), "nothing comes where there is no room: {full:?}");
    assert!(stays.outlook(32, 4)[3].gained[0] > 0.9, "later there may be a little room");
    let seen = stays.outlook(1, 3);
    assert!(
        seen[0].lost[2..].iter().all(|chance| *chance == 0.0),
        "nobody loses what is not there: {seen:?}"
    );
}

#[test]
fn a_change_of_character_is_noticed() {
    let calm = Batched { removal_chance: 0.02, addition_chance: 0.02, ..Batched::fit(&p3(), 64) };
    let wild = Batched { removal_chance: 0.5, addition_chance: 0.5, ..calm.clone() };
    let mut alarms = 0;
    for seed in 0..20 {
        let mut hazard = Hazard::new(&Settings::default());
        calm.generate(600, seed).intervals.iter().for_each(|interval| hazard.observe(*interval));
        alarms += hazard.changes().0;
        let before = hazard.changes().0;
        wild.generate(60, seed).intervals[1..].iter().for_each(|interval| hazard.observe(*interval));
        assert!(hazard.changes().0 > before, "seed {seed}");
        let chance = 1.0 - hazard.outlook(20, 1)[0].lost[0];
        assert!(chance > 0.15, "seed {seed}: {chance} an hour after the change");
    }
    assert!(alarms <= 10, "{alarms} false alarms in 12,000 calm intervals");
}
