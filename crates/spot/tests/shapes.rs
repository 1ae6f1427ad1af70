//! The tables in `data/shapes` are what the simulation gives, and what profiles make of them.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_spot::account::adapt;
use dunlin_spot::cost::{CostModel, Rules, Step};
use dunlin_spot::pipeline::{LayerTable, Measured, Settings, shapes};
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::{ceiling, replay};
use dunlin_spot::trace::Availability;
use dunlin_spot::{Layout, Run};

const TABLES: [(&str, &str); 2] = [
    ("gpt-1.5b", include_str!("../data/shapes/gpt-1.5b.csv")),
    ("gpt-6.7b", include_str!("../data/shapes/gpt-6.7b.csv")),
];

#[test]
fn the_shipped_shapes_are_those_of_the_simulation() {
    for (name, text) in TABLES {
        let table = LayerTable::shipped(name).unwrap().unwrap();
        let profile = Profile::built_in(name).unwrap();
        let batch_ms = 1e3 * f64::from(profile.global_batch);
        let measured: Vec<Measured> = profile
            .measured()
            .into_iter()
            .map(|(layout, rate)| Measured { layout, iteration_ms: batch_ms / rate })
            .collect();
        let head = text.lines().find_map(|line| line.strip_prefix("# compute_scale,")).unwrap();
        let (scale, machines) = head.split_once(",machines,").unwrap();
        let settings = Settings { compute_scale: scale.parse().unwrap(), ..Settings::default() };
        let made = shapes(&table, &settings, &measured, machines.parse().unwrap()).unwrap();
        let made: Vec<String> =
            made.iter().map(|shape| format!("{},{:.4}", shape.layout, shape.samples_per_second)).collect();
        let shipped: Vec<&str> = text.lines().filter(|line| !line.starts_with(['#', 'l'])).collect();
        assert_eq!(made, shipped, "{name}: the example `shapes` makes the file anew");
    }
}

#[test]
fn profiles_know_shapes_only_if_asked() {
    for (name, _) in TABLES {
        let plain = Profile::built_in(name).unwrap();
        let shaped = plain.with_shapes();
        assert!(plain.layouts().iter().all(|layout| !layout.is_mixed()));
        assert!(shaped.layouts().len() > plain.layouts().len());
        assert_eq!(shaped.with_shapes().layouts(), shaped.layouts());
        assert_eq!(shaped.without_shapes().layouts(), plain.layouts());
        assert_eq!(shaped.fingerprint(), plain.fingerprint());
        assert_eq!(shaped.measured(), plain.measured());
        let mut gains = 0;
        for machines in 0..=32 {
            let (with, without) = (shaped.best(machines), plain.best(machines));
            let (fast, slow) = (shaped.samples_per_second(with), plain.samples_per_second(without));
            assert!(with.machines() <= machines && fast >= slow, "{with} {without}");
            assert!(with == without || plain.samples_per_second(with) == 0.0);
            gains += usize::from(fast > slow);
        }
        assert!(gains >= 8, "{name}: {gains}");
        // Published rules do not know them.
        let costs = CostModel::with_rules(&shaped, Rules::Published);
        assert_eq!(costs.profile().layouts(), plain.layouts());
        let costs = CostModel::with_rules(&plain, Rules::Corrected);
        assert_eq!(costs.profile().layouts(), shaped.layouts());
        assert_eq!(costs.without_shapes().profile().layouts(), plain.layouts());
    }
}

#[test]
fn every_machine_works_in_one_stage_at_most() {
    for (name, _) in TABLES {
        let costs = CostModel::with_rules(&Profile::built_in(name).unwrap(), Rules::Corrected);
        for &layout in costs.profile().layouts() {
            let sum: u32 = layout.runs().map(|run| run.machines()).sum();
            assert_eq!(layout.machines(), sum);
            assert_eq!(Layout::parse(&layout.to_string()), Some(layout));
            for machines in 0..=34 {
                let left = adapt(&costs, layout, machines);
                assert!(left.machines() <= machines, "{layout} on {machines}: {left}");
                assert!(left.is_idle() || costs.profile().layouts().contains(&left), "{layout}: {left}");
                assert!(machines < layout.machines() || left == layout);
            }
        }
    }
}

#[test]
fn what_two_layouts_have_in_common_goes_on() {
    let mixed = Layout::mixed((3, 7), (1, 9));
    assert_eq!(mixed.deeper, Run { pipelines: 1, stages: 9 });
    assert_eq!(mixed.common(Layout::new(4, 7)), Layout::new(3, 7));
    assert_eq!(mixed.common(Layout::mixed((2, 9), (1, 7))), Layout::mixed((1, 7), (1, 9)));
    assert!(mixed.common(Layout::new(4, 8)).is_idle());
    let costs = CostModel::with_rules(&Profile::built_in("gpt-1.5b").unwrap(), Rules::Corrected);
    let ms = |lost, from, to| costs.expected_ms(Step { machines: 32, lost, from, to });
    let (both, low) = (Layout::mixed((2, 8), (1, 9)), Layout::new(2, 8));
    let pause = 35.0 + 240.0;
    assert_eq!(ms(0, both, both), 0.0);
    assert_eq!(ms(0, both, low), pause, "the deeper pipeline is let go");
    // Nine machines build and load a pipeline while the other two train: dearer than a pause, cheaper than if all stop for it.
    let grown = ms(0, low, both);
    let stage = costs.profile().network.transfer_ms(costs.profile().bytes(0..6));
    let stopped = costs.profile().costs.build_ms(8) + stage + pause;
    assert!(grown > pause && grown < stopped, "{grown}, stopped {stopped}");
}

#[test]
fn files_may_name_shapes() {
    let with = |shapes: &str| {
        let text = format!(
            r#"{{"name":"m","global_batch":64,"micro_batch":1,"layers":[{{"count":24,"parameters":1e7}}],
            "throughput":[[1,2,10],[2,2,19],[1,4,18]],"shapes":{{{shapes}}}}}"#
        );
        Profile::parse(&text, "m").map_err(|error| error.to_string())
    };
    let profile = with(r#""1x2+1x3": 23, "1x3": 14, "2x2": 99"#).unwrap();
    assert_eq!((profile.best(5), profile.best(4)), (Layout::new(2, 2), Layout::new(2, 2)));
    let shaped = profile.with_shapes();
    assert_eq!((shaped.best(5), shaped.best(3)), (Layout::mixed((1, 2), (1, 3)), Layout::new(1, 3)));
    assert_eq!(shaped.samples_per_second(Layout::new(2, 2)), 19.0, "measured counts");
    let trace = Availability::from_counts(60_000, &[5, 5, 4, 5, 3, 0, 5, 2, 5]);
    let costs = CostModel::with_rules(&profile, Rules::Corrected);
    for notice in [Notice::None, Notice::AtEvent, Notice::Seconds120] {
        let bound = ceiling(&trace, &costs).unwrap();
        for policy in ["reactive-live", "parcae", "persistence", "dunlin", "parcae-truth"] {
            let replay = replay(policy, &trace, &costs, notice).unwrap();
            assert!(replay.samples_per_second <= bound + 1e-9, "{policy}: {bound}");
            for turn in &replay.turns {
                assert!(turn.spent.machines <= turn.interval.after());
                assert!(!policy.starts_with("parcae") || !turn.spent.layout.is_mixed());
            }
        }
    }
    for (shapes, wanted) in [
        (r#""1x3+1x2": 5"#, "rising stages"),
        (r#""0x3": 5"#, "PIPELINESxSTAGES"),
        (r#""3": 5"#, "PIPELINESxSTAGES"),
        (r#""1x2+1x2": 5"#, "rising stages"),
        (r#""99999x1": 5"#, "PIPELINESxSTAGES"),
        (r#""1x2+1x25": 5"#, "25 stages"),
        (r#""100x4": 5"#, "at most 256"),
        (r#""1x3": -5"#, "-5 samples/s"),
        (r#""1x3": 0"#, "0 samples/s"),
    ] {
        let error = with(shapes).unwrap_err();
        assert!(error.starts_with("profile m: ") && error.contains(wanted), "{shapes}: {error}");
    }
}
