//! `dunlin show` on runs that ended, were cut off, or are none.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};

const TRAIN: &str =
    "train softmax --train sample:digits --test sample:digits-test --workers 2 --epochs 3 --quiet";

fn trained() -> Folder {
    let folder = Folder::new();
    dunlin(&folder, &format!("{TRAIN} --out run --checkpoint-epochs 2")).exits(0);
    folder
}

#[test]
fn a_run_is_shown_as_a_table_and_as_json() {
    let folder = trained();
    let shown = dunlin(&folder, "show run").exits(0);
    for part in [
        "model                        softmax (",
        "data                         sample:digits, tested on sample:digits-test; 1438 samples",
        "cluster                      threads, 2 workers",
        "lanes                        2, 1 clock an epoch",
        "strategy                     bsp",
        "state                        ended by --epochs 3, not converged",
        "epochs                       3\n",
        "evaluation seconds           ",
        "train_objective  ",
        "test_accuracy  ",
        "checkpoint                   epochs-000002, epoch 2, written in ",
        "worker   # compute",
        "staleness of weights         mean 0.000, variance 0.000 clocks",
    ] {
        holds(&shown.out, part);
    }
    let json = dunlin(&folder, "show run --json").exits(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["state"], &json["reason"]), (&"ended".into(), &"epochs_used_up".into()), "{json}");
    assert_eq!(
        (json["evaluations"].as_array().map(Vec::len), json["workers"].as_array().map(Vec::len)),
        (Some(3), Some(2))
    );
    assert_eq!(json["metrics"], json["evaluations"][2]["metrics"], "{json}");
    assert_eq!(
        (&json["staleness"]["weights"]["mean"], &json["damaged_lines"]),
        (&0.0.into(), &serde_json::json!([]))
    );
    assert!(json["evaluation_seconds"].as_f64().unwrap() > 0.0, "{json}");
}

#[test]
fn a_run_that_was_cut_off_is_shown_as_far_as_it_came() {
    let folder = trained();
    let events = folder.text("run/events.jsonl");
    let mut lines: Vec<&str> = events.lines().filter(|line| !line.contains("\"ended\"")).collect();
    lines.insert(1, "no event, but \u{1b}[31m a line");
    let last = lines.pop().unwrap();
    let torn = format!("{}\n{}", lines.join("\n"), &last[..last.len() / 2]);
    std::fs::write(folder.path("run/events.jsonl"), torn).unwrap();
    let shown = dunlin(&folder, "show run --html").exits(0);
    holds(&shown.out, "state                        no end recorded: it is still running, or was killed");
    holds(&shown.out, "1 line is no event and left out (line 2 first)");
    holds(&shown.out, "the last line is torn");
    assert_eq!(shown.out.lines().last(), Some("wrote run/report.html"), "{shown}");
    holds(&folder.text("run/report.html"), "the last line is torn");
    let json = dunlin(&folder, "show run --json").exits(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["state"], &json["torn_last_line"]), (&"open".into(), &true.into()), "{json}");
    assert_eq!(json["damaged_lines"], serde_json::json!([2]), "{json}");
}

#[test]
fn a_run_that_failed_says_why() {
    let folder = Folder::new();
    let arguments = "train mf --train synth:mf?users=50&items=40&n=2000&seed=1 --set rate=1 --set schedule=constant \
                     --set regularisation=0 --set scale=5 --epochs 9 --quiet --out run";
    dunlin(&folder, arguments).exits(5);
    let shown = dunlin(&folder, "show run").exits(0);
    holds(&shown.out, "state                        failed: mf");
    holds(&shown.out, "lower rate");
}

#[test]
fn a_folder_that_is_no_run_is_refused() {
    let folder = Folder::new();
    let nothing = dunlin(&folder, "show .").exits(2);
    assert_eq!(
        (nothing.out.as_str(), nothing.err.as_str()),
        ("", "dunlin: .: no run folder: there is no events.jsonl in it; `dunlin train --out` writes one\n")
    );
    std::fs::write(folder.path("events.jsonl"), "hello\n\n{}\n").unwrap();
    holds(&dunlin(&folder, "show .").exits(2).err, "no event in its 3 lines");
    holds(&dunlin(&folder, "show absent").exits(2).err, "absent: no run folder");
}

#[test]
fn the_page_has_every_curve_and_needs_nothing_else() {
    let folder = trained();
    dunlin(&folder, "show run --html page.html").exits(0);
    let page = folder.text("page.html");
    for metric in [
        "train_objective",
        "dual_objective",
        "relative_gap",
        "train_accuracy",
        "test_accuracy",
        "test_log_loss",
    ] {
        holds(&page, &format!("\"name\":\"{metric}\""));
        holds(&page, &format!("</svg>{metric}</span>"));
    }
    // Four drawings of each of four groups of metrics: over seconds and epochs, linear and log.
    assert_eq!(page.matches("<svg class=\"plot ").count(), 16);
    for part in [
        "worker 1: compute ",
        "worker 0: wait ",
        "Staleness of weights: mean 0.000",
        "<title>0: ",
        "3 evaluations",
    ] {
        holds(&page, part);
    }
    for outside in ["http://", "https://", "//cdn", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "the page names {outside}");
    }
    holds(&page, "default-src 'none'");
    assert!(!page.contains("NaN"), "a coordinate is no number");
}

#[test]
fn a_run_cannot_smuggle_markup_into_the_page() {
    let folder = trained();
    let evil = "<script>alert('digits')</script>";
    let events = folder
        .text("run/events.jsonl")
        .replace("\"train\":\"sample:digits\"", &format!("\"train\":\"{evil}\""));
    let events = events.replace("test_log_loss", "</script><img>");
    std::fs::create_dir(folder.path("<script>alert(1)<")).unwrap();
    std::fs::write(folder.path("<script>alert(1)</events.jsonl"), events).unwrap();
    dunlin(&folder, "show <script>alert(1)< --html page.html").exits(0);
    let page = folder.text("page.html");
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "{page}");
    holds(&page, "&lt;script&gt;alert(1)&lt;</title>");
    holds(&page, "&lt;script&gt;alert(&#39;digits&#39;)&lt;/script&gt;");
    assert_eq!(page.matches("</script").count(), 2);
}
