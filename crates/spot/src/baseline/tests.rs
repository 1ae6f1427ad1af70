//! What the modelled systems do with machines that come and go, on a small made-up profile.

use super::controlled::{Constants, Every, Failure, System, average};
use super::*;
use crate::Layout;
use dunlin_rng::stream;

/// 1 sample a second a machine at depth 2, 0.9 at depth 3, 0.8 at depth 4; up to 12 machines.
fn profile() -> Vec<(Layout, f64)> {
    let each = [(2, 1.0), (3, 0.9), (4, 0.8)];
    let layouts = each.iter().flat_map(|(depth, rate)| {
        (1..=12 / depth)
            .map(move |pipelines| (Layout::new(pipelines, *depth), f64::from(pipelines * depth) * rate))
    });
    layouts.collect()
}

const BATCH: f64 = 60.0;

fn varuna() -> Varuna {
    let rules = VarunaRules {
        cut_points: 4,
        restart_s: 30.0,
        checkpoint_iterations: 1,
        checkpoint_stall_s: 0.0,
        checkpoint_copy_s: 0.0,
    };
    Varuna::new(&profile(), BATCH, rules).unwrap()
}

fn oobleck() -> Oobleck {
    let rules = OobleckRules {
        reconfigure_s: 2.0,
        copy_s: 3.0,
        restart_s: 30.0,
        checkpoint_iterations: 10,
        fault_threshold: 1,
    };
    Oobleck::new(&profile(), BATCH, rules).unwrap()
}

fn quiet(before: u32) -> Interval {
    Interval { before, added: 0, removed: 0 }
}

fn come(added: u32) -> Interval {
    Interval { before: 0, added, removed: 0 }
}

#[test]
fn varuna_pays_a_restart_and_loses_what_no_checkpoint_covers() {
    let mut policy = varuna();
    let (first, _) = policy.step(come(10), 60.0);
    assert_eq!((first.migrating_s, first.useful_s, first.samples), (30.0, 30.0, 300.0));
    assert_eq!(
        (first.layout, first.machines),
        (Layout::new(5, 2), 10),
        "depth 3 does not divide 4 cut points"
    );
    // iterations of 6 s, a checkpoint each: 63 s are 10 iterations and 3 s
    let (second, _) = policy.step(quiet(10), 63.0);
    assert_eq!((second.useful_s, second.samples), (63.0, 630.0));
    let (third, why) = policy.step(Interval { before: 10, added: 0, removed: 3 }, 60.0);
    assert!((third.redone_s - 3.0).abs() < 1e-9, "{third:?}");
    assert!((third.samples - (30.0 * 6.0 - 30.0)).abs() < 1e-9, "{third:?}");
    assert_eq!((third.migrating_s, third.layout), (30.0, Layout::new(3, 2)));
    assert!(why.contains("3 lost") && why.contains("3x2 after 30 s"), "{}", why);
    let (last, _) = policy.step(Interval { before: 7, added: 0, removed: 6 }, 60.0);
    assert_eq!((last.idle_s, last.layout), (60.0, Layout::IDLE));
}

#[test]
fn varuna_saves_before_it_takes_newcomers_in() {
    let mut policy = varuna();
    policy.step(come(4), 61.0);
    let (grown, _) = policy.step(Interval { before: 4, added: 4, removed: 0 }, 60.0);
    assert_eq!((grown.redone_s, grown.migrating_s, grown.layout), (0.0, 30.0, Layout::new(4, 2)));
    let (odd, _) = policy.step(Interval { before: 8, added: 1, removed: 0 }, 60.0);
    assert_eq!((odd.migrating_s, odd.useful_s), (0.0, 60.0), "a ninth machine makes no faster layout");
}

#[test]
fn a_copy_on_its_way_protects_nothing() {
    let rules = VarunaRules { checkpoint_copy_s: 100.0, restart_s: 0.0, ..VarunaRules::for_model(0.0, 0) };
    let mut policy = Varuna::new(&profile(), 10.0, rules).unwrap();
    policy.step(come(10), 60.0); // a snapshot after 10 s, durable after 110 s
    let (lost, _) = policy.step(Interval { before: 10, added: 0, removed: 2 }, 60.0);
    assert_eq!(lost.redone_s, 60.0);
    policy.step(quiet(8), 60.0); // 12.5 s + 100 s: durable after 112.5 s of 120
    let (lost, _) = policy.step(Interval { before: 8, added: 0, removed: 2 }, 60.0);
    assert!((lost.redone_s - 107.5).abs() < 1e-9, "what was trained after the snapshot: {lost:?}");
}

#[test]
fn bamboo_goes_deeper_and_slower_but_survives() {
    let mut policy = Bamboo::new(&profile(), BATCH, BambooRules::default()).unwrap();
    let (first, _) = policy.step(come(12), 60.0);
    assert_eq!((first.idle_s, first.layout), (45.0, Layout::new(4, 3)), "1.5 x the shallowest, after 45 s");
    assert_eq!(first.migrating_s, 15.0);
    let (second, _) = policy.step(quiet(12), 60.0);
    assert!(
        (second.samples - 45.0 * 12.0 * 0.9 * 0.802).abs() < 1e-9,
        "15 s of meeting were left: {second:?}"
    );
    let (lost, _) = policy.step(Interval { before: 12, added: 0, removed: 1 }, 60.0);
    let iteration = BATCH / (12.0 * 0.9 * 0.802);
    assert!(
        (lost.migrating_s - 20.0).abs() < 1e-9 && (lost.redone_s - iteration / 4.0).abs() < 1e-9,
        "{lost:?}"
    );
    assert_eq!(lost.layout, Layout::new(3, 3));
    let (spare, _) = policy.step(Interval { before: 11, added: 0, removed: 1 }, 60.0);
    assert!(
        (spare.migrating_s - 20.0 * 9.0 / 11.0).abs() < 1e-9,
        "a spare was hit with chance 2/11: {spare:?}"
    );
    let shallow: Vec<_> = profile().into_iter().filter(|(layout, _)| layout.stages == 2).collect();
    let mut policy = Bamboo::new(&shallow, BATCH, BambooRules::default()).unwrap();
    assert_eq!(policy.step(come(12), 60.0).0.idle_s, 60.0, "no depth leaves room");
}

#[test]
fn oobleck_fills_the_machines_with_unlike_pipelines() {
    let mut policy = oobleck();
    let (first, why) = policy.step(come(7), 60.0);
    assert_eq!((first.machines, first.layout), (7, Layout::new(3, 2)), "2x2 + 1x3: {}", why);
    assert!((first.samples - 30.0 * 6.7).abs() < 1e-9, "{first:?}");
    let (lost, _) = policy.step(Interval { before: 7, added: 0, removed: 1 }, 60.0);
    assert!((lost.migrating_s - 5.0).abs() < 1e-9, "{lost:?}");
    assert!((lost.redone_s - 30.0 % (BATCH / 6.7)).abs() < 1e-9, "the iteration in progress: {lost:?}");
    let (grown, _) = policy.step(Interval { before: 6, added: 6, removed: 0 }, 60.0);
    assert_eq!((grown.migrating_s, grown.redone_s, grown.layout), (5.0, 0.0, Layout::new(6, 2)));
    let (gone, _) = policy.step(Interval { before: 12, added: 0, removed: 11 }, 60.0);
    assert_eq!((gone.idle_s, gone.layout), (60.0, Layout::IDLE));
}

#[test]
fn oobleck_without_a_replica_goes_back_to_a_checkpoint() {
    let mut policy = oobleck();
    policy.step(come(3), 60.0); // one pipeline, of all three
    let (lost, why) = policy.step(Interval { before: 3, added: 0, removed: 1 }, 60.0);
    // some stage is hit with 1 - (2/3)^3; all that was trained is at risk with that chance, the iteration with the rest
    let gone = 1.0 - (2.0f64 / 3.0).powi(3);
    let in_iteration = 30.0 % (BATCH / 2.7);
    let expected = (1.0 - gone) * in_iteration + gone * 30.0;
    assert!((lost.redone_s - expected).abs() < 1e-9, "{lost:?}, {expected}");
    assert!((lost.migrating_s - (5.0 + gone * 30.0)).abs() < 1e-9, "{lost:?}");
    assert!(why.contains("too few for 1 losses"), "{}", why);
}

#[test]
fn seconds_add_up_whatever_happens() {
    let mut rng = stream(11, "baselines", &[]);
    let mut policies = (varuna(), Bamboo::new(&profile(), BATCH, BambooRules::default()).unwrap(), oobleck());
    let (mut machines, mut samples) = (0u32, [0.0f64; 3]);
    for minute in 0..2000 {
        let added = if rng.below(3) == 0 { rng.below(5) as u32 } else { 0 };
        let removed = if rng.below(4) == 0 { (rng.below(6) as u32).min(machines + added) } else { 0 };
        let interval = Interval { before: machines, added, removed };
        machines = interval.after();
        let seconds = rng.unit() * 100.0;
        let all = [
            policies.0.step(interval, seconds).0,
            policies.1.step(interval, seconds).0,
            policies.2.step(interval, seconds).0,
        ];
        for (spent, total) in all.iter().zip(&mut samples) {
            let sum = spent.useful_s + spent.redone_s + spent.migrating_s + spent.idle_s;
            assert!((sum - seconds).abs() < 1e-6, "seed 11, minute {minute}: {spent:?}, {seconds} s");
            assert!(spent.machines <= machines, "seed 11, minute {minute}: {spent:?} of {machines}");
            assert!(spent.migrating_s >= 0.0 && spent.idle_s >= 0.0 && spent.redone_s >= 0.0);
            *total += spent.samples;
            assert!(*total > -1e-6, "seed 11, minute {minute}: more was lost than was trained");
        }
    }
    assert!(
        samples[2] > samples[0] && samples[2] > samples[1],
        "Oobleck's ideas are the cheapest here: {samples:?}"
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let rules = VarunaRules::for_model(1e9, 48);
    let speed = |speed: f64| vec![(Layout::new(1, 2), speed)];
    assert!(Varuna::new(&[], BATCH, rules).is_err());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Varuna::new(&speed(bad), BATCH, rules).is_err());
        assert!(Varuna::new(&speed(1.0), bad, rules).is_err());
    }
    let twice = [speed(1.0), speed(2.0)].concat();
    assert!(Varuna::new(&twice, BATCH, rules).unwrap_err().to_string().contains("1x2 is given twice"));
    assert!(Varuna::new(&[(Layout::IDLE, 1.0)], BATCH, rules).is_err());
    assert!(Varuna::new(&speed(1.0), BATCH, VarunaRules { checkpoint_iterations: 0, ..rules }).is_err());
    assert!(
        Bamboo::new(&speed(1.0), BATCH, BambooRules { overhead: 1.0, ..BambooRules::default() }).is_err()
    );
    let rules = OobleckRules { copy_s: -1.0, ..OobleckRules::for_model(1e9, 6) };
    assert!(Oobleck::new(&speed(1.0), BATCH, rules).is_err());
    let constants = Constants::published(System::Oobleck, "bertLarge").unwrap();
    let failure = |at_s, machine| Failure { at_s, machine };
    for bad in
        [vec![], vec![failure(5.0, 31)], vec![failure(f64::NAN, 1)], vec![failure(5.0, 1), failure(4.0, 2)]]
    {
        assert!(average(System::Oobleck, &constants, &bad).is_err(), "{bad:?}");
    }
    assert!(average(System::Oobleck, &constants, &[failure(5.0, 1), failure(9.0, 1)]).is_err(), "lost twice");
    assert!(Constants::published(System::Bamboo, "gpt_3m").is_err(), "did not fit");
    assert_eq!(Every::SixHours.failures().len(), 15);
}
