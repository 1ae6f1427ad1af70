//! What users get wrong: each is refused with exit code 2 and one line that says where, what was given and what is
//! allowed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Folder;
use std::io::Write;
use std::process::{Command, Stdio};

const GOOD_ROWS: &str = "1 1:0.5 3:1\n-1 2:1\n1 1:1\n-1 2:0.5 3:0.25\n";
const GOOD_RATINGS: &str = "u1\ti1\t3\nu1\ti2\t4\nu2\ti1\t5\nu2\ti2\t1\n";

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

/// Trains `model` on a file `name` of `bytes`; it must be refused with a line that has all of `parts` in it.
fn refused(model: &str, name: &str, bytes: impl AsRef<[u8]>, parts: &[&str]) {
    let folder = Folder::new();
    folder.write(name, bytes);
    folder.say(&format!("train {model} --train {name}")).refused(parts);
    folder.say(&format!("train {model} --train {name} --cluster processes --workers 2")).refused(parts);
}

#[test]
fn rows_that_cannot_be_read() {
    let after = |line: &str| format!("{GOOD_ROWS}{line}\n");
    refused("softmax", "a.svm", after("1 1:0.5 zebra"), &["a.svm:5", "zebra"]);
    refused("softmax", "a.svm", after("1 1:nan"), &["a.svm:5", "nan", "finite"]);
    refused("softmax", "a.svm", after("1 1:1e999"), &["a.svm:5", "1e999"]);
    refused("softmax", "a.svm", after("1 0:2"), &["a.svm:5", "0", "zero"]);
    refused("softmax", "a.svm", after("1 99999999999:1"), &["a.svm:5", "99999999999"]);
    refused("softmax", "a.svm", after("1 2:1 1:1"), &["a.svm:5", "1"]);
    refused("softmax", "a.svm", after("1,2 1:1"), &["a.svm:5", "1,2"]);
    refused("softmax", "a.svm", after("red 1:1"), &["a.svm:5", "red"]);
    refused("softmax", "a.svm", "", &["a.svm", "empty"]);
    refused("softmax", "a.svm", "\n# nothing\n", &["a.svm", "no rows"]);
    refused("softmax", "a.svm", "7 1:1\n7 2:1\n", &["a.svm", "label 7", "two classes"]);
    refused("softmax", "a.svm", "1 \n2 \n", &["a.svm"]);
}

#[test]
fn ratings_and_documents_that_cannot_be_read() {
    refused("mf", "r.tsv", format!("{GOOD_RATINGS}u3\ti1\tgood\n"), &["r.tsv:5", "good"]);
    refused("mf", "r.tsv", format!("{GOOD_RATINGS}u3\ti1\tNaN\n"), &["r.tsv:5", "NaN"]);
    refused("mf", "r.tsv", format!("{GOOD_RATINGS}u3\n"), &["r.tsv:5", "u3"]);
    refused("lda", "docword.x.txt", "2\n3\n", &["docword.x.txt"]);
    refused("lda", "docword.x.txt", "2\nthree\n1\n1 1 1\n", &["docword.x.txt:2", "three"]);
    refused("lda", "docword.x.txt", "2\n3\n5\n1 1 1\n2 2 1\n", &["docword.x.txt", "5", "2"]);
    refused("lda", "docword.x.txt", "2\n3\n2\n1 1 1\n2 4 1\n", &["docword.x.txt:5", "4", "3"]);
    refused("lda", "docword.x.txt", "2\n3\n2\n1 1 1\n2 0 1\n", &["docword.x.txt:5", "0"]);
    refused("lda", "docword.x.txt", "99999999999999\n3\n2\n1 1 1\n", &["docword.x.txt:1", "99999999999999"]);
    refused(
        "lda",
        "docword.x.txt",
        "2\n3\n2\n1 1 1\n2 1 4294967295\n",
        &["docword.x.txt:5", "count 4294967295", "1 to 1000000"],
    );
    refused(
        "lda",
        "docword.x.txt",
        "1\n2000000000\n1\n1 1 1\n",
        &["line 2", "2,000,000,000 words", "1,000,064"],
    );
    refused("lda", "docword.x.txt", "2\n3\n99\n1 1 1\n", &["docword.x.txt:3", "99 entries", "at most 6"]);
    refused(
        "softmax",
        "a.svm",
        (0..999).map(|label| format!("{label} 2147483647:1\n")).collect::<String>(),
        &["weights", "2147483647 rows", "GB"],
    );
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let packed = gzip(&GOOD_ROWS.repeat(1000));
    refused("softmax", "a.svm.gz", &packed[..packed.len() / 2], &["a.svm.gz", "truncated"]);
    refused("softmax", "a.svm.gz", &packed[..packed.len() - 4], &["a.svm.gz", "truncated"]);
    let mut damaged = packed.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 0x55;
    refused("softmax", "a.svm.gz", &damaged, &["a.svm.gz", "damaged"]);
    let garbage: Vec<u8> = (0..9999u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    refused("softmax", "garbage", &garbage, &["garbage", "no text"]);
    refused("softmax", "garbage.svm", &garbage, &["garbage.svm"]);
    refused("softmax", "prose", "It was a dark and stormy night.\n", &["prose", "svmlight", "ratings"]);
    refused("softmax", "r.tsv", GOOD_RATINGS, &["r.tsv"]);
    refused("mf", "a.svm", GOOD_ROWS, &["a.svm", "labelled rows", "wanted here are ratings"]);

    let folder = Folder::new();
    folder.write("ratings.tsv", GOOD_RATINGS);
    std::fs::create_dir(folder.path("some")).unwrap();
    folder.say("train mf --train some").refused(&["some", "directory"]);
    folder.say("train mf --train rating.tsv").refused(&[
        "rating.tsv",
        "no such file",
        "there is ratings.tsv",
    ]);
    folder.say("train mf --train nowhere/r.tsv").refused(&["nowhere/r.tsv", "nor a folder nowhere"]);
    folder.say("train mf --train ratings.tsv --test test.tsv").refused(&["test.tsv", "no such file"]);
    folder.say("data rating.tsv").refused(&["rating.tsv", "ratings.tsv"]);
    folder.say("train mf --train synth:mg?n=5").refused(&["mg", "mf", "softmax"]);
    folder.say("train mf --train synth:mf?uses=5").refused(&["uses", "did you mean users"]);
    folder.say("train mf --train synth:mf?n=-5").refused(&["n=-5", "from 1 to"]);
    folder.say("train mf --train sample:digit").refused(&["digit"]);
    folder.say("train mf --train synth:lda").refused(&["synth:lda", "documents", "ratings"]);
}

#[test]
fn what_rotation_does_not_take() {
    let folder = Folder::new();
    folder.write("a.svm", GOOD_ROWS);
    let mf = "train mf --train synth:mf?n=500 --lanes 4 --strategy rotation";
    for place in ["", "--workers 2 --cluster processes"] {
        folder.say(&format!("{mf} {place} --clocks-per-epoch 4")).refused(&[
            "--clocks-per-epoch 4 with --strategy rotation",
            "an epoch has R sub-steps",
            "R is 8",
            "leave it out",
        ]);
        folder
            .say(&format!("{mf} {place} --servers 2"))
            .refused(&["--servers 2 with --strategy rotation", "nothing to serve"]);
    }
    folder
        .say("train softmax --train a.svm --strategy rotation")
        .refused(&["softmax does not run under rotation"]);
    folder.say(&format!("{mf}:3")).refused(&["rotation takes no \":3\""]);
}

#[test]
fn words_that_are_not_known() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS);
    let refused = |line: &str, parts: &[&str]| drop(folder.say(line).refused(parts));
    refused("train mff --train r.tsv", &["mff", "did you mean mf?", "lda", "softmax"]);
    refused("train mf", &["--train is missing"]);
    refused("train", &["the model is missing"]);
    refused("models mg", &["mg", "mf"]);
    refused("train mf --train r.tsv --set rnk=3", &["rnk", "did you mean rank?", "regularisation"]);
    refused("train mf --train r.tsv --set rank", &["--set rank", "key=value"]);
    refused(
        "train mf --train r.tsv --set rank=many",
        &["--set rank=many", "many", "1 to 4096", "default is 32"],
    );
    refused("train mf --train r.tsv --set rank=0", &["rank = 0", "1 to 4096"]);
    refused("train mf --train r.tsv --set bias=perhaps", &["bias=perhaps", "boolean"]);
    refused("train mf --train r.tsv --set rate=-1", &["rate = -1", "above 0"]);
    refused("train mf --train r.tsv --strategy bps", &["bps", "did you mean bsp", "ssp:S", "allreduce"]);
    refused("train mf --train r.tsv --strategy ssp:x", &["ssp:x", "0 to 1000000"]);
    refused("train mf --train r.tsv --strategy bsp:3", &["bsp:3"]);
    refused(
        "train mf --train r.tsv --lanes 2 --strategy ssp:4,item=1",
        &["item", "did you mean items?", "users"],
    );
    refused("train mf --train r.tsv --cluster thread", &["thread", "did you mean threads", "hosts:FILE"]);
    refused("train mf --train r.tsv --cluster sim:x", &["sim:x", "sim:WORKERS"]);
    refused("train mf --train r.tsv --cluster hosts:h.txt", &["h.txt", "cannot read"]);
    refused("train mf --train r.tsv --cluster sim:2 --net fast", &["fast"]);
    refused("train mf --train r.tsv --net 1gbit", &["--net", "sim:N"]);
    refused("train mf --train r.tsv --until rmse<1", &["rmse<1", "metric<=x"]);
    refused("train mf --train r.tsv --slow 0:x", &["0:x", "RANK:FACTOR"]);
    refused("train mf --train r.tsv --slow 7:2", &["--slow 7:2", "no such worker"]);
    refused("train mf --train r.tsv --format tsv", &["tsv", "svmlight", "ratings"]);
    refused("train mf --train r.tsv --isa avx3", &["avx3", "portable"]);
    refused("train mf --train r.tsv --seconds -1", &["-1"]);
    refused("train mf --train r.tsv --seconds nan", &["--seconds NaN", "above 0"]);
    refused("train mf --train r.tsv --workers two", &["two", "--workers"]);
    refused("train mf --train r.tsv --epoch 3", &["--epoch", "--epochs"]);
    refused("trian mf", &["trian", "train"]);
    refused("predict", &["<RUN>", "<FILE>"]);
}

#[test]
fn parts_that_do_not_go_together() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS);
    folder.write("one.txt", "127.0.0.1:7001\n").write("bad.txt", "here\n");
    std::fs::create_dir(folder.path("empty")).unwrap();
    let refused = |line: &str, parts: &[&str]| drop(folder.say(line).refused(parts));
    refused("train mf --train r.tsv --workers 3 --lanes 2", &["--lanes 2", "--workers 3"]);
    refused("train mf --train r.tsv --lanes 300", &["--lanes 300", "blocks"]);
    refused("train mf --train r.tsv --workers 0", &["--workers 0", "1 to 1000"]);
    refused("train mf --train r.tsv --workers 2 --cluster sim:3", &["--workers 2", "sim:3", "3"]);
    refused(
        "train mf --train r.tsv --workers 2 --servers 1 --strategy allreduce",
        &["--servers 1", "nothing"],
    );
    refused("train mf --train r.tsv --servers 1", &["--servers 1", "--lanes 1"]);
    refused(
        "train mf --train r.tsv --rank 5 --cluster hosts:one.txt",
        &["--rank 5", "one.txt has 1", "from 0"],
    );
    refused("predict r.tsv r.tsv", &["r.tsv", "model.json", "run folder"]);
    refused("train mf --train synth:mf?n=9&n=8", &["synth:mf", "n is given twice"]);
    refused("train mf --train r.tsv --servers 1 --cluster hosts:one.txt", &["one.txt", "no worker"]);
    refused("train mf --train r.tsv --cluster hosts:bad.txt", &["bad.txt:1", "here", "host:port"]);
    refused("train mf --train - --workers 2 --cluster processes", &["standard input", "processes"]);
    refused("train mf --train r.tsv --resume", &["--resume", "--out"]);
    refused("train mf --train r.tsv --eval-every 0", &["--eval-every", "at least 1"]);
    refused("train softmax --train synth:softmax --strategy ssp:2", &["softmax", "ssp", "allows"]);
    refused("predict empty r.tsv", &["empty", "model.json"]);
    refused("eval nowhere r.tsv", &["nowhere", "model.json"]);
    let servers = "train mf --train r.tsv --workers 2 --servers 0 --strategy allreduce";
    refused(servers, &["--servers 0", "allreduce", "bsp, ssp, essp or asp"]);
    let until = "train mf --train r.tsv --quiet --until test_rsme<=0.9";
    refused(until, &["test_rsme", "train_rmse", "--test"]);
    refused(&format!("{until} --test r.tsv"), &["test_rsme", "did you mean test_rmse?"]);
    let dml = "train dml --train sample:digits --quiet --until held_pair_loss<=1";
    refused(dml, &["held_pair_loss", "did you mean heldout_pair_loss?"]);
}

#[test]
fn flags_that_would_decide_nothing() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS).write("a.svm", GOOD_ROWS).write("c.csv", "x,label\n1,0\n2,1\n");
    let refused = |line: &str, parts: &[&str]| drop(folder.say(line).refused(parts));
    for (flag, place) in [
        ("--rank 0", "hosts:FILE"),
        ("--token secret", "hosts:FILE"),
        ("--insecure", "hosts:FILE"),
        ("--net 1gbit", "sim:N"),
        ("--stragglers 0.1:5x", "sim:N"),
        ("--compute-ns 5", "sim:N"),
        ("--label x", "labelled rows"),
        ("--zero-based", "labelled rows"),
        ("--vocabulary v.txt", "documents"),
    ] {
        let name = flag.split(' ').next().unwrap();
        refused(&format!("train mf --train r.tsv {flag}"), &[name, place, "mf on --cluster threads"]);
    }
    refused("train mf --train r.tsv --cluster sim:2 --rank 0", &["--rank", "hosts:FILE", "sim:2"]);
    refused("train softmax --train a.svm --label 0", &["--label", "csv files", "a.svm is svmlight"]);
    refused("train softmax --train c.csv --zero-based", &["--zero-based", "svmlight files", "c.csv is csv"]);
    refused("data c.csv --label z", &["c.csv:1", "\"z\"", "position from 0", "x, label"]);
    refused("data r.tsv --label 0", &["--label", "r.tsv is ratings"]);
    refused("train softmax --train synth:softmax --label 0", &["--label", "is made up"]);
    refused("compare mf --train r.tsv --net 1gbit", &["--net", "sim:N"]);
    folder.say("train softmax --train c.csv --label 1 --epochs 1").exits(0);
}

#[test]
fn names_that_are_empty_and_numbers_below_zero() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS);
    let refused = |arguments: &[&str], parts: &[&str]| drop(folder.run(arguments).refused(parts));
    refused(&["train", "mf", "--train", ""], &["--train", "empty", "sample:NAME"]);
    refused(&["train", "mf", "--train", "r.tsv", "--test", ""], &["--test", "empty"]);
    refused(&["train", "mf", "--train", "r.tsv", "--out", ""], &["--out", "value is required"]);
    refused(
        &["train", "mf", "--train", "r.tsv", "--cluster", "hosts:"],
        &["--cluster hosts", "empty", "host:port"],
    );
    refused(&["data", ""], &["empty", "sample:NAME"]);
    refused(&["train", "", "--train", "r.tsv"], &["model", "mf"]);
    for flag in ["--epochs", "--workers", "--lanes", "--seed", "--blocks", "--clocks-per-epoch"] {
        let said = folder.run(&["train", "mf", "--train", "r.tsv", flag, "-1"]).refused(&[
            flag,
            "-1",
            "whole number",
        ]);
        assert!(!said.err.contains("tip"), "{said}");
    }
    for flag in ["--epochs", "--eval-every", "--checkpoint-epochs"] {
        let arguments = ["train", "mf", "--train", "r.tsv", flag, "18446744073709551615", "--out", "o"];
        refused(&arguments, &[flag, "at most 1000000000"]);
    }
    refused(&["train", "mf", "--train", "r.tsv", "--seconds", "-1"], &["--seconds -1", "above 0"]);
    refused(
        &["train", "mf", "--train", "r.tsv", "--epochs", "99999999999999999999"],
        &["--epochs", "too large"],
    );
}

#[test]
fn places_that_cannot_be_written_are_refused_before_training() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS);
    let refused = |line: &str, parts: &[&str]| drop(folder.say(line).refused(parts));
    refused("train mf --train r.tsv --out /proc/x", &["--out /proc/x", "cannot be made"]);
    refused("train mf --train r.tsv --out r.tsv", &["--out r.tsv", "this is a file"]);
    refused("train mf --train r.tsv --out r.tsv/o", &["--out r.tsv/o", "cannot be made"]);
    refused("train mf --train r.tsv --out /proc", &["--out /proc", "nothing can be written there"]);
    refused("compare mf --train r.tsv --out /proc/x", &["--out /proc/x", "cannot be made"]);
    refused("compare mf --train r.tsv --html no/page.html", &["--html no/page.html", "cannot write it"]);
    refused("data r.tsv --write no/copy.tsv", &["--write no/copy.tsv", "cannot write it"]);
    // What was made to find out is gone again.
    folder.say("train mf --train none.tsv --out a/b/c").refused(&["none.tsv"]);
    assert!(!folder.path("a").exists());
}

#[test]
fn an_evaluation_that_comes_late_is_told_of() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS);
    let late = folder.say("train mf --train r.tsv --epochs 2 --eval-every 9 --until train_rmse<=9").exits(0);
    let line = late.err.lines().next().unwrap_or_default();
    assert!(
        line.contains("--eval-every 9 is more than --epochs 2") && line.contains("train_rmse<=9"),
        "{late}"
    );
    let quiet = folder.say("train mf --train r.tsv --epochs 2 --eval-every 2").exits(0);
    assert!(!quiet.err.contains("--eval-every"), "{quiet}");
}

#[test]
fn a_refused_run_leaves_its_folder_free() {
    let folder = Folder::new();
    folder.write("r.tsv", GOOD_RATINGS);
    folder.say("train mf --train r.tsv --out o --quiet --until rsme<=0.9").refused(&["rsme"]);
    folder.say("train mf --train r.tsv --out o --set rank=0").refused(&["rank"]);
    folder.say("train mf --train r.tsv --out o").exits(0);
    let said =
        folder.say("train mf --train r.tsv --out o").refused(&["o: there is a run", "--resume", "--out"]);
    assert!(!said.err.contains("training"), "{said}");
    folder
        .say("train mf --train r.tsv --out o --workers 2 --cluster processes")
        .refused(&["o: there is a run"]);
}

#[test]
fn run_files() {
    let folder = Folder::new();
    folder.write("a.svm", GOOD_ROWS).write("b.svm", "1 0:1\n2 1:1\n");
    let begin = "model = \"softmax\"\ntrain = \"a.svm\"\n";
    let refused = |text: &str, parts: &[&str]| {
        folder.write("run.toml", format!("{begin}{text}"));
        folder.say("train run.toml").refused(parts);
    };
    refused("lane = 3\n", &["run.toml:3", "lane", "did you mean lanes?"]);
    refused("lanes = \"three\"\n", &["run.toml:3", "three", "a whole number"]);
    refused("lanes = \n", &["run.toml:3"]);
    refused("seed = 1\nseed = 2\n", &["run.toml:4", "duplicate"]);
    refused("zerobased = true\n", &["run.toml:3", "did you mean zero_based?"]);
    refused("format = \"tsv\"\n", &["tsv", "svmlight"]);
    refused("[set]\nd = 3\n", &["no setting d", "c"]);
    refused("[set]\nc = \"much\"\n", &["c=much", "much"]);
    folder.say("train no.toml").refused(&["no.toml", "cannot read"]);
    let keys =
        "train = \"b.svm\"\nmodel = \"softmax\"\nepochs = 2\nblocks = 2\nlanes = 2\nformat = \"svmlight\"\n";
    folder.write("run.toml", keys);
    folder.say("train run.toml").refused(&["b.svm:1", "0"]);
    folder.write("run.toml", format!("{keys}zero_based = true\nout = \"o\"\n[set]\nc = 2.0\n"));
    let said = folder.say("train run.toml --json").exits(0);
    assert_eq!(
        (&said.object()["epochs"], &said.object()["settings"]["c"]),
        (&2.into(), &2.0.into()),
        "{said}"
    );
    // A trained model reads other data as it read its own.
    folder.say("eval o b.svm").exits(0);
}

#[test]
fn standard_output_that_takes_nothing() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in
        [&["models"][..], &["data", "sample:digits"], &["train", "mf", "--train", "sample:ratings", "--json"]]
    {
        let ran = Command::new(env!("CARGO_BIN_EXE_dunlin")).args(arguments).stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!((ran.status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
        assert!(said.starts_with("dunlin: cannot write to standard output: No space left"), "{said}");
    }
}

/// The program's output goes to a reader that takes one line and leaves.
fn first_line_of(folder: &Folder, line: &str, both: bool) -> (String, Option<i32>, String) {
    let mut command = Command::new("sh");
    let redirect = if both { "2>&1" } else { "2>err" };
    let script = format!("{{ \"$0\" \"$@\" {redirect}; echo $? > status; }} | head -1");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_dunlin")).args(line.split_whitespace());
    let said = command.current_dir(folder.root()).stdin(Stdio::null()).output().unwrap();
    let status = std::fs::read_to_string(folder.path("status")).unwrap();
    let err = std::fs::read_to_string(folder.path("err")).unwrap_or_default();
    (String::from_utf8_lossy(&said.stdout).into_owned(), status.trim().parse().ok(), err)
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = Folder::new();
    folder.say("train mf --train synth:mf?n=60000 --epochs 1 --out o").exits(0);
    folder.say("data synth:mf?n=60000 --write r.tsv").exits(0);
    for line in ["predict o r.tsv", "models", "models --json", "train --help", "data r.tsv", "eval o r.tsv"] {
        let (out, status, err) = first_line_of(&folder, line, false);
        assert_eq!((out.lines().count(), status, err.as_str()), (1, Some(0), ""), "{line}: {out}");
    }
    let said = folder.say("predict o r.tsv").exits(0);
    assert_eq!(said.out.lines().count(), 60_000);
    // Progress that nobody reads does not keep a run from its end.
    let (out, status, _) = first_line_of(&folder, "train mf --train r.tsv --epochs 30 --out p", true);
    assert!(out.contains("training mf"), "{out}");
    assert_eq!(status, Some(0));
    assert!(folder.path("p/model.safetensors").exists());
}

#[test]
fn hosts_that_do_not_come_are_waited_for_as_long_as_was_said() {
    let folder = Folder::new();
    let ports = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    folder.write("hosts", format!("{}\n{}\n", ports[0], ports[1]));
    let line = "train mf --train synth:mf --cluster hosts:hosts --rank 0 --stall-timeout 0.5";
    folder.say(line).exits(1).tells(&["expected 2 ranks, 1 joined within 0.5 s", "rank 1 is missing"]);
}

/// To put rows into clusters, labels do not matter; to tell classes apart, one is not enough.
#[test]
fn one_label_is_enough_for_clusters_alone() {
    let folder = Folder::new();
    folder.write("a.svm", "1 1:0 2:1\n1 1:0.1 2:1\n1 1:5 2:7\n1 1:5.1 2:7\n");
    let ran = folder.say("train kmeans --train a.svm --set clusters=2 --epochs 5 --json").exits(0);
    assert!(
        ran.out.contains("\"train_objective\":0.0024") || ran.out.contains("\"train_objective\":0.0025"),
        "{ran}"
    );
    folder.say("train softmax --train a.svm").refused(&["a.svm", "at least two classes"]);
}
