//! `dunlin compare`: one row a strategy, whatever becomes of it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};

const MF: &str = "compare mf --train synth:mf?users=60&items=40&n=3000&seed=1 --cluster sim:2 --quiet";

#[test]
fn every_strategy_has_a_row_a_curve_and_a_bar() {
    let folder = Folder::new();
    let arguments = format!("{MF} --set rate=0.02 --epochs 4 --strategies bsp,ssp:3,items=2,asp");
    let compared = dunlin(&folder, &format!("{arguments} --html page.html --out runs")).exits(0);
    let lines: Vec<&str> = compared.out.lines().collect();
    assert_eq!((lines.len(), lines[7]), (8, "wrote page.html"), "{}", compared.out);
    holds(lines[0], "mf on synth:mf?users=60&items=40&n=3000&seed=1, sim:2, 2 workers, 2 lanes");
    holds(lines[1], "target: train_objective <= ");
    holds(lines[1], "; times are virtual, made by the simulator");
    for (line, strategy) in lines[4..].iter().zip(["bsp", "ssp:3,items=2", "asp"]) {
        assert!(line.starts_with(strategy) && line.ends_with("epochs"), "{}", compared.out);
        assert!(
            !line.contains("not reached"),
            "all have reached the worst of the last values: {}",
            compared.out
        );
    }
    let page = folder.text("page.html");
    for strategy in ["bsp", "ssp:3,items=2", "asp"] {
        holds(&page, &format!("\"name\":\"{strategy}\""));
        holds(&page, &format!("<title>{strategy}: compute "));
    }
    holds(&page, "times are virtual");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
    dunlin(&folder, "show runs/2-ssp-3-items-2").exits(0);

    let json = dunlin(&folder, &format!("{arguments} --json")).exits(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["virtual_time"], json["strategies"].as_array().map(Vec::len)),
        (&true.into(), Some(3)),
        "{json}"
    );
    for (row, line) in json["strategies"].as_array().unwrap().iter().zip(&lines[4..]) {
        let seconds = row["outcome"]["seconds"].as_f64().unwrap();
        holds(line, &format!("{seconds:.3}")); // virtual times come again to the last digit
    }
}

#[test]
fn rotation_is_compared_with_others() {
    let folder = Folder::new();
    let arguments = format!("{MF} --set rate=0.02 --epochs 3 --clocks-per-epoch 2 --strategies");
    let compared = dunlin(&folder, &format!("{arguments} bsp,rotation --out runs")).exits(0);
    let lines: Vec<&str> = compared.out.lines().collect();
    assert!(lines[4].starts_with("bsp") && lines[5].starts_with("rotation"), "{compared}");
    assert!(lines[5].ends_with("epochs") && lines[5].contains("  -  "), "no staleness: {compared}");
    let shown = dunlin(&folder, "show runs/2-rotation").exits(0);
    holds(&shown.out, "lanes                        2, 4 row blocks that go round once an epoch\n");
    assert!(!shown.out.contains("staleness"), "{shown}");
    let json = dunlin(&folder, "show runs/2-rotation --json").exits(0).object();
    assert_eq!((&json["row_blocks"], &json["clocks_per_epoch"]), (&4.into(), &4.into()), "{json}");
    dunlin(&folder, &format!("{arguments} rotation --out alone"))
        .refused(&["--clocks-per-epoch 2", "sub-steps"]);
}

#[test]
fn a_target_that_is_given_is_the_one_that_counts() {
    let folder = Folder::new();
    let arguments = format!("{MF} --set rate=0.02 --epochs 6 --strategies bsp,asp --until train_rmse<=1000");
    let compared = dunlin(&folder, &arguments).exits(0);
    holds(&compared.out, "target: train_rmse <= 1000.000000");
    assert_eq!(compared.out.matches("  until\n").count(), 2, "{}", compared.out);
}

#[test]
fn if_all_strategies_fail_the_first_error_is_the_programs() {
    let folder = Folder::new();

    let wild =
        format!("{MF} --set rate=1 --set schedule=constant --set regularisation=0 --set scale=9 --epochs 5");
    let all = dunlin(&folder, &format!("{wild} --strategies bsp,asp")).exits(5);
    holds(&all.err, "lower rate");
    assert_eq!(all.out, "");
}

#[test]
fn what_cannot_be_is_refused_before_anything_runs() {
    let folder = Folder::new();
    for (arguments, message) in [
        (
            "compare softmax --train sample:digits --strategies bsp,psp --out x",
            "did you mean asp?: there is bsp, ssp:S",
        ),
        (
            "compare softmax --train sample:digits --strategies bsp,asp --out x",
            "softmax does not run under asp",
        ),
        (
            "compare softmax --train sample:digits --strategies bsp,, --out x",
            "strategies with commas between",
        ),
        ("compare softmax --train sample:digits --strategy bsp --out x", "compare takes --strategies"),
        ("compare softmax --train - --out x", "can be read once"),
        ("compare softmax --train nothing.svm --strategies bsp", "nothing.svm"),
        (
            "compare softmax --train sample:digits --metric train_acuracy --out x",
            "did you mean train_accuracy? (there is train_objective, ",
        ),
        (
            "compare softmax --train sample:digits --metric test_accuracy --out x",
            "those of test data need --test",
        ),
    ] {
        let refused = dunlin(&folder, arguments).exits(2);
        holds(&refused.err, message);
        assert!(refused.out.is_empty() && !folder.path("x").exists(), "{refused:?}");
    }
}
