//! `dunlin spot replay` with prices that change, on good input and bad.

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
}
