//! Closed forms, brute force on small tables, and what readers refuse.

use super::cut::Cut;
use super::schedule::{Stage, one_forward_one_backward};
use super::*;
use dunlin_rng::stream;

fn tiny() -> LayerTable {
    let text = "model,tiny\nglobal_batch,8\nmicro_batch,1\nsequence,1\nhidden,1\nnetwork,0,0\nnetwork,1000000,0\n\
        tied_embedding,no\n\
        layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters\nblock,4,1,2,0,1024,0\n";
    LayerTable::read(text.as_bytes(), "tiny").unwrap()
}

#[test]
fn equal_stages_without_a_network_take_the_textbook_time() {
    for (stages, micro_batches) in [(1, 1), (1, 7), (4, 1), (4, 3), (4, 8), (7, 20)] {
        let all = vec![Stage { forward_ms: 1.0, backward_ms: 2.0 }; stages];
        let ends = one_forward_one_backward(&all, micro_batches, 0.0);
        let expected = (micro_batches + stages - 1) as f64 * 3.0;
        assert_eq!(ends[0], expected, "{stages} stages, {micro_batches} micro-batches");
    }
}

#[test]
fn one_micro_batch_crosses_every_hop_twice() {
    let all = vec![Stage { forward_ms: 1.0, backward_ms: 2.0 }; 5];
    assert_eq!(one_forward_one_backward(&all, 1, 0.5)[0], 15.0 + 2.0 * 4.0 * 0.5);
}

#[test]
fn the_slowest_stage_sets_the_pace() {
    let mut all = vec![Stage { forward_ms: 1.0, backward_ms: 1.0 }; 3];
    all[1] = Stage { forward_ms: 4.0, backward_ms: 6.0 };
    let long = one_forward_one_backward(&all, 201, 0.0)[0] - one_forward_one_backward(&all, 101, 0.0)[0];
    assert_eq!(long, 1000.0);
}

#[test]
fn balanced_cuts_are_as_good_as_all_cuts_tried() {
    let mut rng = stream(7, "cuts", &[]);
    for case in 0..60 {
        let layers = 1 + rng.below(9);
        let weights: Vec<f64> = (0..layers).map(|_| rng.below(5) as f64).collect();
        let cuts = Cut::Balanced.all(&weights, layers);
        for (stages, bounds) in (1..=layers).zip(&cuts) {
            assert_eq!((bounds.len(), bounds[0], bounds[stages]), (stages + 1, 0, layers));
            assert!(
                bounds.windows(2).all(|pair| pair[0] < pair[1]),
                "seed 7, case {case}: {weights:?} {bounds:?}"
            );
            let heaviest = |bounds: &[usize]| {
                bounds
                    .windows(2)
                    .map(|ends| weights[ends[0]..ends[1]].iter().sum::<f64>())
                    .fold(0.0, f64::max)
            };
            let mut least = f64::INFINITY;
            for chosen in 0u32..1 << (layers - 1) {
                if chosen.count_ones() as usize + 1 == stages {
                    let inner = (1..layers).filter(|bound| chosen >> (bound - 1) & 1 == 1);
                    let tried: Vec<usize> = std::iter::once(0).chain(inner).chain([layers]).collect();
                    least = least.min(heaviest(&tried));
                }
            }
            assert_eq!(heaviest(bounds), least, "seed 7, case {case}: {weights:?} {bounds:?}");
        }
    }
}

#[test]
fn even_cuts_put_what_is_left_over_first() {
    assert_eq!(Cut::Even.all(&[1.0; 7], 3)[2], [0, 3, 5, 7]);
}

#[test]
fn a_profile_holds_every_layout_that_there_are_machines_and_layers_for() {
    let entries = profile(&tiny(), &Settings::default(), 6).unwrap();
    let layouts: Vec<(u32, u32)> = entries.iter().map(|e| (e.layout.pipelines, e.layout.stages)).collect();
    assert_eq!(
        layouts,
        [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 1), (5, 1), (6, 1)]
    );
    assert_eq!(entries[0].iteration_ms, Some(96.0), "8 samples x 4 layers x 3 ms");
    assert_eq!(entries[3].iteration_ms, Some(33.0), "8 + 3 slots of 3 ms");
    assert_eq!(entries[3].samples_per_second(8), 8.0 * 1e3 / 33.0);
    let best = best(&entries, 6);
    assert_eq!(best[0].unwrap().layout, Layout::new(1, 1));
    assert_eq!(best[3].unwrap().layout, Layout::new(4, 1), "no bubble");
    assert_eq!(best[4].unwrap().layout, Layout::new(4, 1), "a fifth machine would not shorten ceil(8 / D)");
}

#[test]
fn memory_refuses_then_recomputes() {
    let mut table = tiny();
    table.memory_gib = 5.0;
    let four = Layout::new(1, 4);
    let of = |table: &LayerTable, rule| {
        layout(table, &Settings { recompute: rule, ..Settings::default() }, four).unwrap()
    };
    let entry = of(&table, Recompute::Rule);
    assert_eq!((entry.memory_gib, entry.recomputing), (4.0, 0), "4 micro-batches in flight, 1 GiB each");
    table.memory_gib = 3.5;
    let entry = of(&table, Recompute::Rule);
    assert_eq!(entry.recomputing, 1, "the first stage alone: {entry:?}");
    assert!(entry.iteration_ms.unwrap() > 33.0 && entry.memory_gib < 3.5);
    let entry = of(&table, Recompute::Never);
    assert_eq!(entry.iteration_ms, None);
    assert_eq!(entry.refused.unwrap(), "stage 1 of 4 needs 4.0 GiB, a machine has 3.5");
    table.layers.iter_mut().for_each(|layer| layer.parameters = 1e9);
    let entry = of(&table, Recompute::Rule);
    assert!(entry.refused.unwrap().contains("needs 12.2 GiB"), "12 bytes a parameter, and 1 GiB alive");
}

#[test]
fn the_fit_finds_the_factor_it_was_made_with() {
    let table = LayerTable::shipped("gpt-2").unwrap().unwrap();
    let settings = Settings { compute_scale: 0.02 * 1.05f64.powi(70), ..Settings::default() };
    let entries = profile(&table, &settings, 12).unwrap();
    let measured: Vec<Measured> = entries
        .iter()
        .filter_map(|e| Some(Measured { layout: e.layout, iteration_ms: e.iteration_ms? }))
        .collect();
    let fit = fit(&table, &Settings::default(), &measured).unwrap();
    assert!((fit.compute_scale / settings.compute_scale - 1.0).abs() < 1e-9, "{fit:?}");
    assert!(
        fit.worst_error < 1e-9 && fit.rank_correlation > 0.999 && fit.regret.iter().all(|(_, r)| *r == 0.0)
    );
}

#[test]
fn the_shipped_tables_and_the_network_are_read() {
    for (name, layers, parameters) in [
        ("gpt-1.5b", 50, 1.6398e9),
        ("gpt-2", 26, 4.064e8),
        ("gpt-2.7b", 34, 2.7812e9),
        ("gpt-6.7b", 38, 7.67855e9),
    ] {
        let table = LayerTable::shipped(name).unwrap().unwrap();
        assert_eq!((table.model.as_str(), table.layers.len()), (name, layers));
        assert!((table.parameters() / parameters - 1.0).abs() < 1e-3, "{name}: {}", table.parameters());
    }
    assert_eq!(LayerTable::shipped_names().count(), 4);
    let network = Network::ten_gigabit();
    assert!((network.time_ms(1048576.0) - 1.428108).abs() < 1e-9);
    assert!((network.time_ms(1.5 * 1048576.0) - (1.428108 + 3.006771) / 2.0).abs() < 1e-9);
    assert!((network.time_ms(0.0) - 0.142907).abs() < 1e-9);
    let slope = 1198.2559 - 601.380752;
    assert!((network.time_ms(3.0 * 536870912.0) - (1198.2559 + slope)).abs() < 1e-6, "beyond the table");
}

#[test]
fn bad_tables_are_refused_with_their_line() {
    let good = "model,m\nglobal_batch,8\nmicro_batch,1\nsequence,1\nhidden,1\n";
    let header = "layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters\n";
    let cases = [
        (String::new(), "t: no layers"),
        (good.into(), "t: no layers"),
        (format!("{good}{header}"), "t: no layers"),
        (format!("{good}{header}a,1,1,1\n"), "t:7: 4 fields; a layer has 7"),
        (format!("{good}{header}a,0,1,1,0,0,0\n"), "t:7: count \"0\"; a whole number from 1 to 1024"),
        (format!("{good}{header}a,1000,1,1,0,0,0\nb,25,1,1,0,0,0\n"), "t:8: more than 1024 layers"),
        (format!("{good}{header}a,1,-1,1,0,0,0\n"), "t:7: forward_ms \"-1\"; a number from 0"),
        (format!("{good}{header}a,1,nan,1,0,0,0\n"), "t:7: forward_ms \"nan\""),
        (format!("{good}{header}a,1,0,0,0,0,0\n"), "t: every layer takes 0 ms"),
        (format!("{good}hidden,2\n"), "t:6: hidden is given a second time"),
        (format!("{good}speed,2\n"), "t:6: setting \"speed\"; there are model"),
        (format!("{good}layer,forward\n"), "t:6: header"),
        (format!("{good}memory_gib,0\n"), "t:6: memory_gib 0; a number above 0"),
        (format!("{good}tied_embedding,1\n"), "t:6: tied_embedding \"1\"; yes or no"),
        (format!("{good}network,5\n"), "t:6: \"network,5\"; wanted is network,BYTES,MICROSECONDS"),
        (format!("{good}network,5,1\n{header}a,1,1,1,0,0,0\n"), "t: network: 1 rows; at least 2"),
        (format!("model,m\n{header}a,1,1,1,0,0,0\n"), "t: no line global_batch"),
        ("global_batch,4000000000000\n".into(), "t:1: global_batch \"4000000000000\"; a whole number"),
        (format!("# {}\n", "x".repeat(5000)), "t:1: a line of 5002 bytes"),
        ("\u{0}\u{1}".into(), "t:1: "),
    ];
    for (text, wanted) in cases {
        let error = LayerTable::read(text.as_bytes(), "t").unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{text:?} gave {error:?}, wanted {wanted:?}");
    }
    assert!(LayerTable::read(&b"\xff\xfe"[..], "t").unwrap_err().to_string().starts_with("t:1: "));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let table = tiny();
    let settings = Settings::default();
    for machines in [0, 1025] {
        assert!(profile(&table, &settings, machines).is_err());
    }
    for compute_scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(profile(&table, &Settings { compute_scale, ..settings }, 4).is_err());
    }
    assert!(layout(&table, &settings, Layout::IDLE).is_err());
    assert!(layout(&table, &settings, Layout::new(1, 5)).is_err(), "5 stages of 4 layers");
    let many = LayerTable { global_batch: 1_000_000, ..table.clone() };
    assert!(profile(&many, &settings, 2).unwrap_err().to_string().contains("at most 16384"));
    assert!(fit(&table, &settings, &[]).is_err());
    assert!(Cut::from_word("best").is_err() && Recompute::from_word("maybe").is_err());
    let rows = "model,global_batch,micro_batch,dp,pp,iter_ms\ntiny,8,1,0,2,5\n";
    let error = Measured::read(rows.as_bytes(), "f", "tiny").unwrap_err().to_string();
    assert!(error.starts_with("f:2: "), "{error}");
    assert!(
        Measured::read(rows.as_bytes(), "f", "other")
            .unwrap_err()
            .to_string()
            .contains("no row of model other")
    );
}
