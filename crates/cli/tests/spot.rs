//! `dunlin spot trace` on files of every form, good and bad.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};

const MINUTES: &str = include_str!("../../spot/data/p3_minutes.csv");

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("p3.csv", MINUTES);
    folder
}

#[test]
fn facts_and_a_plot() {
    let folder = folder();
    let shown = dunlin(&folder, "spot trace p3.csv").exits(0);
    for part in [
        "trace                        p3.csv (minutes)",
        "intervals                    683 of 60 s: 11.4 h",
        "machines, mean over time     24.01",
        "machines, fewest and most    10 and 32",
        "events                       344: 177 additions (18 at the start), 167 removals",
        "intervals with removals      79",
        "sizes of removals            39 of 1, 13 of 2, 15 of 3, 7 of 4, 1 of 5, 4 of 6",
        "intervals between removals   median ",
        "machines over time, █ = 32 (a mark an interval)",
        "    1:00  ",
        "   11:00  ",
    ] {
        holds(&shown.out, part);
    }
    let json = dunlin(&folder, "spot trace p3.csv --json --interval 600").exits(0).object();
    assert_eq!((&json["form"], &json["statistics"]["intervals"]), (&"minutes".into(), &69.into()), "{json}");
    let part = dunlin(&folder, "spot trace p3.csv --segment 330..390 --json").exits(0).object();
    assert_eq!(part["statistics"]["intervals"], 60);
}

#[test]
fn forecasts_are_scored_in_text_json_and_on_a_page() {
    let folder = folder();
    let shown = dunlin(&folder, "spot trace p3.csv --forecasts --html page.html").exits(0);
    holds(&shown.out, "persistence         1.742      2.288      2.288");
    for name in ["mean", "smoothing", "holt", "arima", "arima-nodrift", "parcae", "hazard"] {
        assert!(shown.out.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {shown}");
    }
    holds(&shown.out, "wrote page.html");
    let page = folder.text("page.html");
    for part in ["Trace: p3.csv", "Removals: how many at once", "<svg", "arima-nodrift", "\"machines\""] {
        holds(&page, part);
    }
    let json = dunlin(&folder, "spot trace p3.csv --forecasts --json").exits(0).object();
    let scores = json["forecasts"].as_array().unwrap();
    assert_eq!(scores.len(), 16);
    let ours = scores.iter().find(|score| score["forecaster"] == "hazard" && score["horizon"] == 12).unwrap();
    assert!(ours["mean_crps"].as_f64().unwrap() < 2.0, "{ours}");
}

#[test]
fn a_new_trace_is_made_and_read_again() {
    let folder = folder();
    for generator in ["poisson", "batched", "diurnal", "zones", "bootstrap"] {
        let command = format!("spot trace --generate {generator} --fit p3.csv --seed 7");
        let made = dunlin(&folder, &command).exits(0);
        assert_eq!(made.out, dunlin(&folder, &command).exits(0).out, "same seed, same trace");
        folder.write("new.csv", &made.out);
        let json = dunlin(&folder, "spot trace new.csv --json --capacity 32").exits(0).object();
        assert_eq!(
            (&json["form"], &json["statistics"]["at_start"]),
            (&"event rows".into(), &18.into()),
            "{json}"
        );
    }
    let short =
        dunlin(&folder, "spot trace --generate poisson --fit p3.csv --intervals 5 --capacity 64").exits(0);
    assert!(short.out.lines().count() >= 19, "{short}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let folder = folder();
    folder
        .write("late.csv", "0,add,a\n5,add,b\n4,remove,a\n")
        .write("bare.json", "[1, 2, 3]")
        .write("empty.csv", "");
    folder.write("bytes.csv", b"0,add,\xff\n").write("seven.csv", "0,7\n1,8\n");
    let cases: [(&str, &[&str]); 15] = [
        ("spot trace", &["no trace", "--generate"]),
        ("spot trace no.csv", &["no.csv", "no such file"]),
        ("spot trace .", &["is a directory"]),
        ("spot trace late.csv", &["late.csv:3", "4 ms comes after 5 ms"]),
        ("spot trace empty.csv", &["empty.csv: no rows"]),
        ("spot trace bytes.csv", &["bytes.csv:1", "UTF-8"]),
        ("spot trace bare.json", &["bare.json", "gap_seconds", "--gap"]),
        ("spot trace bare.json --gap 0", &["--gap 0", "0.001"]),
        ("spot trace p3.csv --interval nan", &["--interval"]),
        ("spot trace p3.csv --interval 0.0001", &["--interval 0.0001", "from 0.001"]),
        ("spot trace p3.csv --capacity 31", &["p3.csv:", "32 machines", "at most 31"]),
        ("spot trace p3.csv --segment 600..700", &["600..700", "0..683"]),
        ("spot trace p3.csv --segment all", &["--segment all", "330..390"]),
        ("spot trace seven.csv --forecasts", &["2 intervals", "24 are needed"]),
        ("spot trace --generate magic --fit p3.csv", &["`magic`", "poisson", "bootstrap"]),
    ];
    for (command, parts) in cases {
        dunlin(&folder, command).refused(parts);
    }
    dunlin(&folder, "spot trace p3.csv --seed 3").refused(&["--generate"]);
    dunlin(&folder, "spot trace --generate poisson").refused(&["--fit"]);
    dunlin(&folder, "spot trace --generate poisson --fit p3.csv --capacity 8").refused(&["at most 8"]);
    dunlin(&folder, "spot trace bare.json --gap 600").exits(0);
}
