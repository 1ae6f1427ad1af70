//! `dunlin spot replay` and `dunlin spot plan` as a user meets them, on good input and bad.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};

const BERT: &str = include_str!("../../spot/data/profiles/bert.json");

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("p3.csv", include_str!("../../spot/data/p3_minutes.csv"));
    folder
}

#[test]
fn the_table_and_the_object_say_the_same() {
    let folder = folder();
    let table = dunlin(&folder, "spot replay p3.csv --model bert --minutes 60").exits(0);
    for part in ["notice none · rules published", "varuna *", "modelled, unchecked", "live migration earns "]
    {
        holds(&table.out, part);
    }
    let object = dunlin(&folder, "spot replay p3.csv --model bert --minutes 60 --json").exits(0).object();
    for (key, value) in [("trace", "p3.csv"), ("model", "bert"), ("notice", "none"), ("rules", "published")] {
        assert_eq!(object[key], value, "{object}");
    }
    let policies = object["policies"].as_array().unwrap();
    assert_eq!(policies.len(), 12);
    for policy in policies {
        let word = policy["policy"].as_str().unwrap();
        assert!(
            table.out.lines().any(|line| line.split_whitespace().next() == Some(word)),
            "{word}: {table}"
        );
        for key in
            ["samples_per_second", "share_of_ideal", "gap_share", "dollars_per_million_samples", "relayouts"]
        {
            assert!(policy[key].is_number(), "{word} {key}: {policy}");
        }
        let hours: f64 =
            policy["hours"].as_object().unwrap().values().map(|hours| hours.as_f64().unwrap()).sum();
        assert!((hours - 27.733).abs() < 0.01 || word == "on-demand", "an hour of 27.73 machines: {policy}");
        assert_eq!(policy["unchecked"], ["varuna", "bamboo", "oobleck"].contains(&word), "{policy}");
    }
    let share =
        |word: &str| policies.iter().find(|p| p["policy"] == word).unwrap()["gap_share"].as_f64().unwrap();
    assert_eq!((share("parcae"), share("parcae-truth")), (0.0, 1.0));
    assert!(object["earned"]["live_migration"].as_f64().unwrap() > 0.0, "{object}");
}

#[test]
fn one_page_holds_it_all_and_needs_nothing_else() {
    let folder = folder();
    dunlin(&folder, "spot replay p3.csv --model bert --minutes 90 --html page.html").exits(0);
    let page = folder.text("page.html");
    for part in [
        "Replay: bert on p3.csv",
        "Machine-hours by use",
        "95 %",
        "parcae: machines, and what it expected",
        "samples so far",
    ] {
        holds(&page, part);
    }
    assert_eq!(page.matches("decisions, and why").count(), 12);
    assert!(
        !page.contains("http://") && !page.contains("https://") && page.len() < 4_000_000,
        "{}",
        page.len()
    );
}

#[test]
fn a_decision_is_explained() {
    let folder = Folder::new();
    let plan = dunlin(&folder, "spot plan --history 30,30,28 --model bert").exits(0);
    holds(&plan.out, "9x3 -> ");
    holds(&plan.out, "why: ");
    let object =
        dunlin(&folder, "spot plan --history 30,30,28 --model bert --policy parcae --json").exits(0).object();
    assert_eq!(
        (&object["machines"], object["forecast"].as_array().unwrap().len()),
        (&28.into(), 12),
        "{object}"
    );
    let mixed = "spot plan --history 30,30 --model gpt-1.5b --rules corrected --layout 3x7+1x9 --json";
    assert_eq!(dunlin(&folder, mixed).exits(0).object()["from"], serde_json::json!([3, 7, 1, 9]));
    let waits = dunlin(&folder, "spot plan --history 1,0,0 --model bert").exits(0);
    holds(&waits.out, "nothing fits on 0 machines: wait until there are 2");
}

#[test]
fn a_decision_is_taken_by_the_rules_and_the_notice_that_are_asked_for() {
    let folder = Folder::new();
    let plan = |flags: &str| {
        let command = format!("spot plan --history 30,28,26 --model gpt-1.5b --json {flags}");
        dunlin(&folder, &command).exits(0).object()
    };
    let (published, corrected) = (plan(""), plan("--rules corrected"));
    assert_eq!((&published["rules"], &corrected["rules"]), (&"published".into(), &"corrected".into()));
    assert_ne!(published["why"], corrected["why"], "other costs, other reasons");
    // The last number, and the last but one, are intervals to come: the layout in force is that of the machines before.
    for (notice, before) in [("at-event", 28), ("120s", 30)] {
        let object = plan(&format!("--notice {notice}"));
        let from = object["from"].as_array().unwrap();
        let machines = from[0].as_u64().unwrap() * from[1].as_u64().unwrap();
        assert!(
            object["machines"] == 26 && machines <= before && machines + 4 > before,
            "{notice}: {object}"
        );
    }
}

#[test]
fn machines_that_stay_and_machines_that_boot_are_said_and_count() {
    let folder = folder();
    let replay = |flags: &str| {
        let command =
            format!("spot replay p3.csv --model bert --minutes 60 --policies dunlin,ideal --json {flags}");
        dunlin(&folder, &command).exits(0).object()
    };
    let rate = |object: &serde_json::Value| object["policies"][0]["samples_per_second"].as_f64().unwrap();
    let (plain, more, slow) = (replay(""), replay("--on-demand 4"), replay("--boot 180"));
    assert!(rate(&more) > rate(&plain) && rate(&slow) < rate(&plain), "{plain} {more} {slow}");
    assert!(plain["earned"].is_null(), "two policies are asked for, so what earns the gain is not replayed");
    let table =
        dunlin(&folder, "spot replay p3.csv --model bert --minutes 9 --on-demand 4 --boot 60").exits(0);
    holds(&table.out, " · 4 on demand · 60 s to boot · notice none");
    holds(&table.out, "live migration earns ");
}

#[test]
fn nobody_there_for_an_hour_is_idle() {
    let folder = Folder::new();
    let counts =
        |from: u32, to: u32, count: u32| (from..to).map(|at| format!("{at},{count}\n")).collect::<String>();
    folder.write("gone.csv", counts(0, 10, 20) + &counts(10, 70, 0) + &counts(70, 90, 20));
    folder.write("never.csv", counts(0, 9, 0));
    let object = dunlin(&folder, "spot replay gone.csv --model bert --json").exits(0).object();
    for policy in object["policies"].as_array().unwrap() {
        assert!(policy["samples_per_second"].as_f64().unwrap() > 0.0, "{policy}");
    }
    let never = dunlin(&folder, "spot replay never.csv --model bert --html page.html").exits(0);
    assert!(never.out.lines().any(|line| line.split_whitespace().take(2).eq(["ideal", "0"])), "{never}");
    assert!(!never.out.contains("NaN") && !never.out.contains("inf"), "{never}");
}

#[test]
fn bad_traces_settings_and_profiles_are_refused_in_one_line() {
    let folder = folder();
    let huge_costs = BERT.replace("\"process_ms\": 30", "\"process_ms\": 1e308");
    let not_a_number = BERT.replace("\"global_batch\": 1024", "\"global_batch\": NaN");
    let none_allowed = BERT.replace("\"stages\": [2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]", "\"stages\": [77]");
    assert!(huge_costs != BERT && not_a_number != BERT && none_allowed != BERT);
    let row = |rate: &str| {
        format!("model,global_batch,micro_batch,dp,pp,iter_ms,samples_per_s\nm,8,1,1,2,1,{rate}\n")
    };
    folder
        .write("unsorted.csv", "5,add,a\n4,add,b\n")
        .write("twice.csv", "0,add,a\n1,add,a\n")
        .write("before.csv", "-5,add,a\n")
        .write("unknown.csv", "0,remove,a\n")
        .write("empty.csv", "")
        .write("many.csv", "0,20\n1,5000\n")
        .write("bytes", b"\xff\xfe\x00\x01{[,\n")
        .write("none.json", none_allowed)
        .write("costs.json", huge_costs)
        .write("nan.json", not_a_number)
        .write("negative.csv", row("-5"))
        .write("infinite.csv", row("inf"))
        .write("never.csv", row("0"))
        .write("half.json", &BERT[..300]);
    let traces: [(&str, &[&str]); 7] = [
        ("unsorted.csv", &["unsorted.csv:2", "4 ms comes after 5 ms"]),
        ("twice.csv", &["twice.csv:2", "`a`", "there already"]),
        ("before.csv", &["before.csv:1", "`-5`"]),
        ("unknown.csv", &["unknown.csv:1", "`a`", "not there"]),
        ("empty.csv", &["empty.csv: no rows"]),
        ("many.csv", &["many.csv:2", "5000 machines", "at most 4096"]),
        ("bytes", &["bytes:1", "UTF-8"]),
    ];
    for (file, parts) in traces {
        dunlin(&folder, &format!("spot replay {file} --model bert")).refused(parts);
    }
    let settings: [(&str, &[&str]); 16] = [
        ("spot plan --history 30 --model bert --layout 65535x65535+65535x65534", &["--layout", "3x7+1x9"]),
        ("spot plan --history 3 --model bert --rules odd", &["odd", "corrected"]),
        ("spot replay p3.csv --model bert --boot 90000", &["90000 seconds to boot", "86400"]),
        ("spot replay p3.csv --model bert --on-demand 9999", &["9999 machines on demand", "at most"]),
        ("spot replay . --model bert", &["directory"]),
        ("spot replay p3.csv", &["--model NAME", "--profile FILE"]),
        ("spot replay p3.csv --model bert --minutes 0", &["--minutes 0", "at least one"]),
        ("spot replay p3.csv --model bert --interval 0", &["--interval 0", "0.001"]),
        ("spot replay p3.csv --model bert --interval nan", &["--interval NaN"]),
        ("spot replay p3.csv --model bert --policies ideal,magic", &["--policies magic", "reactive-live"]),
        ("spot replay p3.csv --model bert --notice soon", &["notice soon", "at-event"]),
        ("spot replay p3.csv --model bert --rules odd", &["odd", "published"]),
        ("spot replay p3.csv --model bert --variant min99", &["--variant min99", "at most 32"]),
        ("spot replay p3.csv --model bert --html .", &["--html ."]),
        ("spot plan --history 5000 --model bert", &["5000 machines", "4096"]),
        ("spot plan --history 3 --model bert --policy ideal", &["ideal", "dunlin"]),
    ];
    for (command, parts) in settings {
        dunlin(&folder, command).refused(parts);
    }
    let profiles: [(&str, &[&str]); 9] = [
        ("none.json", &["no layout", "allowed"]),
        ("costs.json", &["costs", "1e15"]),
        ("nan.json", &["nan.json", "line 5"]),
        ("half.json", &["half.json", "EOF"]),
        ("bytes", &["bytes", "UTF-8"]),
        ("negative.csv", &["1x2", "-5"]),
        ("infinite.csv", &["1x2", "inf"]),
        ("never.csv", &["no layout"]),
        (".", &["directory"]),
    ];
    for (file, parts) in profiles {
        dunlin(&folder, &format!("spot replay p3.csv --profile {file}")).refused(parts);
    }
}
