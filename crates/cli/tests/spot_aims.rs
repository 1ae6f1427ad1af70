//! `dunlin spot replay` with prices that change, objectives, deadlines and machines of several GPUs, on good input and bad.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};
use serde_json::Value;

const SPIKE: &str = "seconds,dollars_per_hour\n0,0.918\n1200,4.59\n2400,0.918\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("spike.csv", SPIKE);
    folder
}

fn policy<'o>(object: &'o Value, word: &str) -> &'o Value {
    object["policies"].as_array().unwrap().iter().find(|policy| policy["policy"] == word).unwrap()
}

#[test]
fn prices_change_the_dollars_and_nothing_else() {
    let folder = folder();
    folder.write("same.csv", "seconds,zone,dollars_per_hour\n0,z,0.918\n");
    let replay = |more: &str| {
        let command = format!(
            "spot replay sample:p3 --model bert --minutes 60 --policies reactive,ideal --json {more}"
        );
        dunlin(&folder, &command).exits(0).object()
    };
    let (plain, same, spike) = (replay(""), replay("--prices same.csv"), replay("--prices spike.csv"));
    for word in ["reactive", "ideal"] {
        let of = |object: &Value, key: &str| policy(object, word)[key].as_f64().unwrap();
        for object in [&same, &spike] {
            assert_eq!(of(object, "samples_per_second"), of(&plain, "samples_per_second"));
        }
        assert!((of(&same, "dollars") / of(&plain, "dollars") - 1.0).abs() < 1e-12);
        // 20 of 60 minutes cost five times as much.
        let factor = of(&spike, "dollars") / of(&plain, "dollars");
        assert!((2.0..2.7).contains(&factor), "{factor}");
    }
    let table =
        dunlin(&folder, "spot replay sample:p3 --model bert --minutes 60 --prices spike.csv").exits(0);
    holds(&table.out, " · prices spike.csv · notice none");
    holds(&table.out, "$ by spike.csv, 3.060 on demand");
}

#[test]
fn machines_are_billed_by_the_zone_that_their_rows_name() {
    let folder = folder();
    folder
        .write("zones.csv", "0,add,x,a\n0,add,y,b\n0,add,z,b\n3599999,remove,z\n")
        .write("two.csv", "seconds,zone,dollars_per_hour\n1800,b,4\n0,b,2\n0,a,1\n");
    let command = "spot replay zones.csv --model bert --policies ideal --prices two.csv --json";
    let ran = dunlin(&folder, command).exits(0);
    holds(&ran.err, "the prices go back in time at 1 row; sorted");
    let dollars = policy(&ran.object(), "ideal")["dollars"].as_f64().unwrap();
    // An hour of a, half an hour of two machines of b at $2 and at $4, less the last minute of one.
    assert!((dollars - (1.0 + 2.0 * (1.0 + 2.0) - 4.0 / 60.0)).abs() < 1e-9, "{dollars}");
}

#[test]
fn dollars_and_deadlines_have_columns_of_their_own() {
    let folder = folder();
    let replay = |more: &str| {
        dunlin(
            &folder,
            &format!("spot replay sample:p3 --model bert --minutes 60 --policies dunlin,ideal {more}"),
        )
        .exits(0)
    };
    let million = |more: &str| {
        policy(&replay(&format!("--json {more}")).object(), "dunlin")["dollars_per_million_samples"]
            .as_f64()
            .unwrap()
    };
    assert!(million("--objective dollars") < million("--objective dollars:20"));
    assert!(million("--objective dollars:20 --prices spike.csv") < million("--prices spike.csv"));
    let table = replay("--objective dollars").out;
    for part in [" · dollars · notice none", "released         $", "releases what it does not use"] {
        holds(&table, part);
    }
    let table = replay("--objective deadline:1e6@0.9 --draws 3").out;
    for part in
        ["done h  $ so far    chance", "1000000 samples were trained, if within 0.9 h", "of 3 traces drawn"]
    {
        holds(&table, part);
    }
    let object = replay("--objective deadline:1e6@0.9 --draws 3 --json").object();
    for word in ["dunlin", "ideal"] {
        let found = policy(&object, word);
        assert!(found["finish"]["seconds"].as_f64().unwrap() <= 3240.0, "{found}");
        assert!((0.0..=1.0).contains(&found["chance_drawn"].as_f64().unwrap()), "{found}");
    }
    let dollars = |word: &str| policy(&object, word)["finish"]["dollars"].as_f64().unwrap();
    assert!(dollars("dunlin") < dollars("ideal"), "{object}");
    assert!(policy(&object, "dunlin")["finish"]["chance"].as_f64().unwrap() > 0.5, "{object}");
}

#[test]
fn machines_of_several_gpus_serve_every_policy() {
    let folder = folder();
    let counts: String =
        (0..60).map(|minute| format!("{minute},{}\n", 8 - u32::from(minute % 20 > 12))).collect();
    folder.write("eight.csv", counts);
    for model in ["bert", "gpt-1.5b"] {
        let object = dunlin(&folder, &format!("spot replay eight.csv --model {model} --gpus 4 --json"))
            .exits(0)
            .object();
        assert_eq!(object["gpus"], 4);
        for policy in object["policies"].as_array().unwrap() {
            assert!(policy["samples_per_second"].as_f64().unwrap() > 0.0, "{model}: {policy}");
        }
    }
    let one =
        |more: &str| dunlin(&folder, &format!("spot replay eight.csv --model bert {more}")).exits(0).out;
    assert_eq!(one(""), one("--gpus 1 --objective samples"));
    let plan = dunlin(&folder, "spot plan --history 8,8,7 --model gpt-1.5b --gpus 4").exits(0);
    holds(&plan.out, "7 machines of 4 GPUs: 4x8 on GPUs");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let folder = folder();
    folder
        .write("bare.csv", "0,0.9\n")
        .write("minus.csv", "seconds,dollars_per_hour\n0,1\n60,-2\n")
        .write("bytes.csv", b"seconds,dollars_per_hour\n0,\xff\n")
        .write("empty.csv", "")
        .write("two.csv", "seconds,zone,dollars_per_hour\n0,a,1\n0,b,2\n")
        .write("events.csv", "0,add,x,c\n0,add,y,a\n60000,remove,x\n");
    let prices: [(&str, &str, &[&str]); 8] = [
        ("sample:p3", "no.csv", &["no.csv: there is no such file"]),
        ("sample:p3", ".", &["directory"]),
        ("sample:p3", "bare.csv", &["bare.csv:1: column `0`", "dollars_per_hour"]),
        ("sample:p3", "minus.csv", &["minus.csv:3: dollars_per_hour `-2`", "from 0"]),
        ("sample:p3", "bytes.csv", &["bytes.csv:2", "UTF-8"]),
        ("sample:p3", "empty.csv", &["empty.csv: no rows", "seconds (or date),zone"]),
        ("sample:p3", "two.csv", &["zones a, b", "does not say where its machines stand"]),
        ("events.csv", "two.csv", &["zone c of the trace has no price", "a, b"]),
    ];
    for (trace, file, parts) in prices {
        dunlin(&folder, &format!("spot replay {trace} --model bert --prices {file}")).refused(parts);
    }
    let settings: [(&str, &[&str]); 8] = [
        ("--objective fast", &["objective fast", "samples, dollars"]),
        ("--objective dollars:-1", &["objective dollars:-1", "above 0"]),
        ("--objective deadline:1e6", &["objective deadline:1e6", "deadline:SAMPLES@HOURS"]),
        ("--objective deadline:1e6@2", &["a deadline after 2 h", "the trace has 1.00 h"]),
        ("--draws 5", &["--draws 5", "--objective deadline"]),
        ("--objective deadline:1e6@1 --draws 10001", &["--draws 10001", "at most 10000"]),
        ("--gpus 0", &["0 GPUs in a machine", "1 to 64"]),
        ("--gpus 65", &["65 GPUs in a machine", "1 to 64"]),
    ];
    for (more, parts) in settings {
        dunlin(&folder, &format!("spot replay sample:p3 --model bert --minutes 60 {more}")).refused(parts);
    }
}
