use super::generate::{Batched, Bootstrap, Diurnal, GENERATORS, Generator, Poisson, named};
use super::*;

/// Minute by minute, the spot trace that everything is checked on.
const P3: &str = include_str!("../../data/p3_minutes.csv");

fn parse(text: &str) -> Result<Source> {
    read(text.as_bytes(), "t.csv", &ReadOptions::default())
}

fn p3() -> Availability {
    parse(P3).unwrap().availability(60_000).unwrap()
}

/// The text of a shared file, or nothing and a word about it.
fn shared(path: &str) -> Option<String> {
    let path = format!("{}/../../../shared/data/spot/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("SKIPPED: {path} is absent");
    }
    text.ok()
}

#[test]
fn the_facts_of_the_p3_trace() {
    let facts = Statistics::of(&p3());
    assert_eq!((facts.intervals, facts.lowest, facts.highest), (683, 10, 32));
    assert_eq!((facts.events, facts.additions, facts.at_start), (344, 177, 18));
    assert_eq!((facts.removals, facts.removal_intervals), (167, 79));
    let sizes: Vec<(u32, u64)> = facts.removal_sizes.clone().into_iter().collect();
    assert_eq!(sizes, [(1, 39), (2, 13), (3, 15), (4, 7), (5, 1), (6, 4)]);
    assert_eq!(
        facts.addition_sizes.iter().map(|(size, times)| u64::from(*size) * times).sum::<u64>(),
        177 - 18
    );
    assert_eq!(facts.removal_gaps.values().sum::<u64>(), 78);
    assert_eq!(facts.autocorrelation.len(), 12);
    assert!((facts.time_average - 24.0073).abs() < 1e-3, "{}", facts.time_average);
}

#[test]
fn event_rows_say_the_same_as_the_minutes() {
    let Some(text) = shared("parcae/p3trace.csv") else { return };
    let source = parse(&text).unwrap();
    assert_eq!((source.form, source.notes.len()), ("event rows", 0));
    assert_eq!(source.availability(60_000).unwrap(), p3());
    let Content::Events(trace) = &source.content else { panic!("{:?}", source.form) };
    let facts = Statistics::of_trace(trace, 60_000).unwrap();
    assert!((facts.time_average - 24.03).abs() < 0.005, "{}", facts.time_average);
    let hour = trace.segment(330 * 60_000, 390 * 60_000).unwrap().availability(60_000).unwrap();
    assert_eq!(hour.counts(), p3().segment(330, 390).unwrap().counts());
}

#[test]
fn the_traces_of_thirty_that_become_fifteen() {
    for (name, length) in [("10m", 601_200u64), ("30m", 0), ("1h", 0)] {
        let Some(text) = shared(&format!("oobleck/{name}.csv")) else { return };
        let facts = Statistics::of(&parse(&text).unwrap().availability(60_000).unwrap());
        assert_eq!((facts.at_start, facts.removals, facts.lowest), (30, 15, 15), "{name}");
        if length > 0 {
            assert_eq!(facts.intervals as u64, (15 * length) / 60_000 + 1);
        }
    }
}

#[test]
fn every_form_is_found_out() {
    let cases: [(&str, &str, u64, &[u32]); 11] = [
        ("0,add,a\n60000,add,b\n", "event rows", 60_000, &[1, 2]),
        (
            "\u{feff}# made by hand\nms,event,node,zone\n0,add,a,z1\n5,remove,a,z1\n\n60000,ADD,a,z1",
            "event rows",
            60_000,
            &[0, 1],
        ),
        ("minute,available_after,added,removed\n0,2,2,0\n1,2,1,1\n", "minutes", 60_000, &[2, 2]),
        ("5,3\n6,4\n7,1\n", "minutes", 60_000, &[3, 4, 1]),
        ("2024-02-28,23:59,3\n2024-02-29,00:01:30,5\n", "polls", 60_000, &[3, 3, 5]),
        (
            "date,time,count\n2024-05-31,10:02:00,7\n2024-05-31,10:00,4\n2024-05-31,10:00,5\n",
            "polls",
            60_000,
            &[5, 5, 7],
        ),
        ("2024-05-31T10:00:00Z,4\r\n2024-05-31 10:01:00.5,6\r\n", "polls", 60_000, &[4, 6]),
        ("{\"metadata\": {\"gap_seconds\": 600}, \"data\": [4, 4, 3]}", "JSON series", 600_000, &[4, 4, 3]),
        (
            "\n {\"data\": [1, 0.0, 2], \"metadata\": {\"gap_seconds\": 1.5, \"zone\": \"x\"}}",
            "JSON series",
            1500,
            &[1, 0, 2],
        ),
        ("{\"metadata\": {\"gap_seconds\": 120}, \"data\": [2, 5]}", "JSON series", 60_000, &[2, 2, 5, 5]),
        ("{\"metadata\": {\"gap_seconds\": 30}, \"data\": [2, 5, 1]}", "JSON series", 60_000, &[5, 1]),
    ];
    for (text, form, interval_ms, counts) in cases {
        let source = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(source.form, form, "{text:?}");
        assert_eq!(source.availability(interval_ms).unwrap().counts(), counts, "{text:?}");
    }
    let source = parse(cases[5].0).unwrap();
    assert_eq!(
        source.notes,
        ["the polls go back in time at 1 row; sorted", "1 poll at equal times; the last of each counts"]
    );
    let options = ReadOptions { interval_ms: Some(1000), capacity: Some(3) };
    let bare = read("[1,2,3]".as_bytes(), "t", &options).unwrap();
    assert_eq!(bare.availability(1000).unwrap().counts(), [1, 2, 3]);
}

/// Each is refused, with where it is, what was given and what is allowed.
#[test]
fn what_is_no_trace_is_refused_in_words() {
    let long_line = format!("0,add,{}\n", "x".repeat(5000));
    let many = format!("[{}]", "1,".repeat(20) + "x");
    let cases: [(&str, &[&str]); 40] = [
        ("", &["t.csv: no rows"]),
        ("# nothing\n\n", &["t.csv: no rows"]),
        ("ms,change,node\n", &["t.csv:1", "no rows after `ms,change,node`"]),
        ("hello world\nfoo\n", &["t.csv:2", "`foo` is no row of a trace", "date,time,count"]),
        ("1 2 3\n", &["t.csv:1", "`1 2 3`"]),
        ("0,add,a\n5,add,b\n4,add,c\n", &["t.csv:3", "4 ms comes after 5 ms", "sort"]),
        ("0,add,a\n-5,remove,a\n", &["t.csv:2", "time `-5`", "at least 0"]),
        ("-1,add,a\n", &["t.csv:1", "time `-1`"]),
        ("0,add,a\n0,add,a\n", &["t.csv:2", "`a` is added", "there already"]),
        ("0,add,a\n9,remove,b\n", &["t.csv:2", "`b` is removed", "not there"]),
        ("0,add,a\n9,remove,a\n9,remove,a\n", &["t.csv:3", "`a` is removed"]),
        ("0,add,a\n9,explode,a\n", &["t.csv:2", "`explode`", "add or remove"]),
        ("0,add,\n", &["t.csv:1", "no name"]),
        ("0,add,a\n1,add\n", &["t.csv:2", "2 columns"]),
        ("0,add,a\n1.5,add,b\n", &["t.csv:2", "time `1.5`", "whole number"]),
        ("0,add,a\n99999999999999999999999,add,b\n", &["t.csv:2", "time `9999"]),
        ("0,add,a\n10000000000001,add,b\n", &["t.csv:2", "at most 10000000000000"]),
        (&long_line, &["t.csv:1", "more than 4096 bytes"]),
        ("0,2,2,0\n2,2,0,0\n", &["t.csv:2", "minute 2 comes after minute 0; 1 is needed"]),
        ("1,2,2,0\n0,2,0,0\n", &["t.csv:2", "minute 0"]),
        ("0,2,2,0\n1,5,1,0\n", &["t.csv:2", "count 5", "give 3"]),
        ("0,2,5,0\n", &["t.csv:1", "-3 before"]),
        ("0,2,2,0\n1,-1,0,3\n", &["t.csv:2", "count `-1`"]),
        ("0,4000000000\n", &["t.csv:1", "4000000000 machines", "at most 1000000"]),
        ("18446744073709551615,1\n0,1\n", &["t.csv:1", "at most 1000000000"]),
        ("2024-02-30,10:00,1\n", &["t.csv:1", "date `2024-02-30`"]),
        ("2024-05-31,25:00,1\n", &["t.csv:1", "time `25:00`", "13:45"]),
        ("2024-05-31,10:00,many\n", &["t.csv:1", "count `many`"]),
        ("2024-05-31,10:00,-4\n", &["t.csv:1", "count `-4`"]),
        ("2024-05-31,4\n", &["t.csv:1", "no time of day"]),
        ("0001-01-01,00:00,1\n9999-12-31,00:00,2\n", &["t.csv: the polls span", "10000000 intervals"]),
        ("31.05.2024,10:00,4\n", &["t.csv:1", "2024-05-31"]),
        ("[1, 2]", &["t.csv: the series has no \"gap_seconds\""]),
        ("{\"data\": []}", &["t.csv", "gap_seconds"]),
        ("{\"metadata\": {\"gap_seconds\": 60}, \"data\": []}", &["t.csv: the series is empty"]),
        ("{\"metadata\": {\"gap_seconds\": -60}, \"data\": [1]}", &["gap_seconds -60"]),
        (
            "{\"metadata\": {\"gap_seconds\": 60}, \"data\": [1, -2]}",
            &["number 2 of the data: -2", "at least 0"],
        ),
        ("{\"metadata\": {\"gap_seconds\": 60}, \"data\": [1.5]}", &["1.5", "whole number"]),
        ("{\"metadata\": {\"gap_seconds\": 60}, \"data\": [1e300]}", &["machines", "at most 1000000"]),
        (&many, &["t.csv: expected value at line 1"]),
    ];
    for (text, parts) in cases {
        let said = parse(text).map(|source| source.form).expect_err(text).to_string();
        for part in parts {
            assert!(said.contains(part), "{text:?}: {part:?} is missing in {said:?}");
        }
    }
    let latin = read(&b"0,add,a\n1,add,caf\xe9\n"[..], "t.csv", &ReadOptions::default());
    assert_eq!(latin.unwrap_err().to_string(), "t.csv:2: this is no UTF-8 text");
    let nested = format!("{}1", "[".repeat(100_000));
    assert!(parse(&nested).is_err());
}

#[test]
fn a_capacity_holds_for_every_form() {
    let options = ReadOptions { interval_ms: Some(60_000), capacity: Some(2) };
    let forms =
        ["0,add,a\n0,add,b\n0,add,c\n", "0,1\n1,3\n", "2024-05-31,10:00,1\n2024-05-31,10:01,3\n", "[1, 3]"];
    for text in forms {
        let said = read(text.as_bytes(), "t", &options).expect_err(text).to_string();
        assert!(said.contains("3 machines") && said.contains("at most 2"), "{text:?}: {said}");
    }
    assert!(read("0,add,a\n0,add,b\n".as_bytes(), "t", &options).is_ok());
}

#[test]
fn intervals_that_cannot_be_are_refused() {
    for interval_ms in [0, u64::MAX] {
        let options = ReadOptions { interval_ms: Some(interval_ms), capacity: None };
        assert!(read("[1, 2]".as_bytes(), "t", &options).unwrap_err().to_string().contains("from 1 to"));
    }
    let source = parse("0,add,a\n9000000000000,remove,a\n").unwrap();
    assert!(source.availability(0).unwrap_err().to_string().contains("at least 1"));
    assert!(source.availability(1000).unwrap_err().to_string().contains("at most 10000000"));
    assert!(p3().segment(10, 10).is_err() && p3().segment(600, 700).is_err());
    assert!(p3().segment(20, 10).is_err());
    let Content::Events(trace) = source.content else { panic!() };
    assert!(trace.segment(5, 5).is_err() && trace.segment(u64::MAX - 1, u64::MAX).is_err());
    assert!(
        Trace::new(vec![Event { ms: 0, change: Change::Remove, machine: "a".into(), zone: None }], 0)
            .is_err()
    );
}

#[test]
fn resampling_keeps_what_happened() {
    let minutes = p3();
    for interval_ms in [120_000, 600_000, 30_000, 45_000] {
        let other = minutes.resample(interval_ms).unwrap();
        let (a, b) = (Statistics::of(&minutes), Statistics::of(&other));
        assert_eq!((a.additions, a.removals), (b.additions, b.removals), "{interval_ms}");
        assert_eq!(minutes.counts().last(), other.counts().last());
        assert_eq!(other.intervals.len() as u64, (683u64 * 60_000).div_ceil(interval_ms));
        for pair in other.intervals.windows(2) {
            assert_eq!(pair[0].after(), pair[1].before);
        }
    }
}

#[test]
fn generated_traces_are_like_the_given_one() {
    let like = p3();
    let seen = Statistics::of(&like);
    for generator in GENERATORS {
        let mut means = 0.0;
        for seed in 0..8 {
            let trace = generator.generate(&like, 32, 683, seed).unwrap();
            assert_eq!(trace, generator.generate(&like, 32, 683, seed).unwrap(), "{} {seed}", generator.name);
            let new = trace.availability(60_000).unwrap();
            assert_eq!(new.intervals.len(), 683);
            assert!(new.highest() <= 32, "{} {seed}", generator.name);
            let facts = Statistics::of(&new);
            assert_eq!(facts.at_start, 18);
            let ratio = facts.events as f64 / seen.events as f64;
            assert!((0.4..2.5).contains(&ratio), "{} {seed}: {ratio} of the events", generator.name);
            means += facts.time_average / 8.0;
            let mut text = Vec::new();
            trace.write(&mut text).unwrap();
            let again = read(&text[..], "again", &ReadOptions::default()).unwrap();
            let Content::Events(again) = again.content else { panic!() };
            assert_eq!(again.events(), trace.events(), "{} {seed}", generator.name);
        }
        assert!((10.0..31.0).contains(&means), "{}: mean {means}", generator.name);
        assert_ne!(
            generator.generate(&like, 32, 683, 1).unwrap(),
            generator.generate(&like, 32, 683, 2).unwrap()
        );
    }
    assert!(Generator::named("magic").err().unwrap().to_string().contains("bootstrap"));
    assert!(GENERATORS[0].generate(&like, 31, 683, 0).is_err());
}

#[test]
fn a_generator_finds_its_own_settings_again() {
    let made = Poisson { hazard: 0.01, additions: 0.2, ..Poisson::fit(&p3(), 60) };
    let found = Poisson::fit(&made.generate(200_000, 3), 60);
    assert!(
        (found.hazard / 0.01 - 1.0).abs() < 0.05 && (found.additions / 0.2 - 1.0).abs() < 0.05,
        "{found:?}"
    );
    let made = Batched::fit(&p3(), 32);
    let found = Batched::fit(&made.generate(200_000, 3), 32);
    assert!((found.removal_chance / made.removal_chance - 1.0).abs() < 0.1, "{found:?} {made:?}");
    let made = Diurnal {
        mean: 20.0,
        amplitude: 8.0,
        peak: 400.0,
        period: 1440.0,
        pull: 0.1,
        churn: 0.05,
        ..Diurnal::fit(&p3(), 40)
    };
    let found = Diurnal::fit(&made.generate(1440 * 20, 3), 40);
    assert!((found.mean - 20.0).abs() < 1.0 && (found.amplitude - 8.0).abs() < 1.0, "{found:?}");
    assert!((found.peak - 400.0).abs() < 40.0 && (0.03..0.3).contains(&found.pull), "{found:?}");
}

#[test]
fn a_bootstrap_of_one_block_is_the_trace_itself() {
    let like = p3();
    let whole = Bootstrap { block: 682, ..Bootstrap::fit(&like, 32) };
    assert_eq!(whole.generate(683, 5), like);
    let tight = Bootstrap { lowest: 10, ..Bootstrap::fit(&like, 32) };
    for seed in 0..20 {
        let counts = tight.generate(2000, seed).counts();
        assert!(counts.iter().all(|count| *count <= 32), "seed {seed}");
    }
}

#[test]
fn machines_that_come_and_go_within_an_interval_get_names() {
    let intervals =
        vec![Interval { before: 2, added: 3, removed: 4 }, Interval { before: 1, added: 0, removed: 0 }];
    let numbers = Availability { interval_ms: 1000, intervals };
    let trace = named(&numbers, 1).unwrap();
    assert_eq!(trace.availability(1000).unwrap().counts(), [1, 1]);
}
