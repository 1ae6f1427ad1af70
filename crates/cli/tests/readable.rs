//! What a person finds in a run folder beside the model.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};

#[test]
fn mf_writes_factors_by_original_id() {
    let folder = Folder::new();
    let ratings: String = (0..60).map(|n| format!("u{}\ti{}\t{}\n", n % 7, n % 11, 1 + n % 5)).collect();
    std::fs::write(folder.path("ratings.tsv"), ratings).unwrap();
    let train = "train mf --train ratings.tsv --set rank=3 --workers 2 --epochs 2 --quiet --out run";
    dunlin(&folder, train).exits(0);
    for (file, rows, id) in [("run/users.tsv", 7, "u3"), ("run/items.tsv", 11, "i10")] {
        let text = folder.text(file);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (rows + 1, "id\tbias\tfactor_0\tfactor_1\tfactor_2"), "{text}");
        let of_id = lines.iter().find(|line| line.split('\t').next() == Some(id)).unwrap();
        let numbers: Vec<f32> = of_id.split('\t').skip(1).map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() == 4 && numbers.iter().all(|n| n.is_finite() && *n != 0.0), "{of_id}");
    }
}

#[test]
fn a_model_that_can_tell_says_that_it_has_not_converged() {
    let folder = Folder::new();
    let train = "train softmax --train sample:digits --set tolerance=1e-3 --set c=0.01 --epochs";
    let short = dunlin(&folder, &format!("{train} 2 --out short --checkpoint-epochs 1")).exits(0);
    let said = "not converged after 2 epochs: relative_gap";
    assert!(short.err.contains(said) && short.err.contains("wanted 1e-3"), "{short}");
    assert!(short.out.contains("2 (ended by: epochs, not converged)"), "{short}");
    // Over before it begins: as it was.
    let again =
        dunlin(&folder, &format!("{train} 2 --out short --resume --json --checkpoint-epochs 1")).exits(0);
    assert_eq!(again.object()["reason"], "epochs_used_up", "{again}");
    holds(&dunlin(&folder, "show short").exits(0).out, "ended by --epochs 2, not converged");
    let compared =
        dunlin(&folder, &format!("{} 2", train.replace("train softmax", "compare softmax"))).exits(0);
    assert!(compared.out.matches("epochs, not converged").count() == 2, "{compared}");
    assert!(compared.err.matches(said).count() == 2, "{compared}");
    let long = dunlin(&folder, &format!("{train} 400")).exits(0);
    assert!(long.out.contains("ended by: converged") && !long.err.contains("not converged"), "{}", long.err);
    assert!(!dunlin(&folder, &format!("{train} 2 --quiet")).exits(0).err.contains("not converged"));
}

#[test]
fn softmax_writes_the_largest_and_smallest_weights_of_every_class() {
    let folder = Folder::new();
    dunlin(&folder, "train softmax --train sample:digits --set bias=true --epochs 3 --quiet --out run")
        .exits(0);
    let text = folder.text("run/weights.tsv");
    let rows: Vec<(&str, f32)> = text
        .lines()
        .skip(1)
        .map(|line| (line.split('\t').next().unwrap(), line.rsplit('\t').next().unwrap().parse().unwrap()))
        .collect();
    for class in ["0", "9"] {
        let weights: Vec<f32> = rows.iter().filter(|row| row.0 == class).map(|row| row.1).collect();
        assert_eq!(weights.len(), 40, "{text}");
        assert!(
            weights.windows(2).all(|pair| pair[0] >= pair[1]) && weights[0] > 0.0 && weights[39] < 0.0,
            "{text}"
        );
    }
    assert_eq!(rows.len(), 400);
}

#[test]
fn lda_writes_the_likeliest_words_of_every_topic() {
    let folder = Folder::new();
    let counts: String = (1..=8)
        .flat_map(|document| (1..=3).map(move |word| (document, word)))
        .map(|(document, word)| format!("{document} {} {}\n", word + 3 * (document % 2), 5 - word))
        .collect();
    std::fs::write(folder.path("docword.tea.txt"), format!("8\n6\n24\n{counts}")).unwrap();
    std::fs::write(folder.path("vocab.tea.txt"), "tea\ncup\npot\ncar\nroad\nwheel\n").unwrap();
    let train = "train lda --train docword.tea.txt --set topics=2 --epochs 30 --quiet --out run";
    dunlin(&folder, train).exits(0);
    let text = folder.text("run/topics.txt");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (number, line) in lines.iter().enumerate() {
        holds(line, &format!("topic {number} ("));
        let words =
            line.split_once(':').unwrap().1.split(',').map(|word| word.trim().split_once(' ').unwrap());
        let probabilities: Vec<f64> = words.map(|(_, probability)| probability.parse().unwrap()).collect();
        assert!(probabilities.windows(2).all(|pair| pair[0] >= pair[1]), "{text}");
        assert!(probabilities.iter().sum::<f64>() < 1.001 && probabilities[0] > 0.2, "{text}");
    }
    assert!(["tea", "road"].iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn dml_writes_the_map_and_the_metric() {
    let folder = Folder::new();
    dunlin(&folder, "train dml --train sample:digits --epochs 1 --quiet --out run").exits(0);
    let read = |file: &str| -> Vec<Vec<f64>> {
        let text = folder.text(file);
        text.lines().map(|line| line.split('\t').map(|number| number.parse().unwrap()).collect()).collect()
    };
    let (map, metric) = (read("run/map.tsv"), read("run/metric.tsv"));
    assert_eq!((metric.len(), metric[0].len(), map[0].len()), (64, 64, 64));
    let product: f64 = map.iter().map(|row| row[20] * row[30]).sum();
    assert!((product - metric[20][30]).abs() < 1e-9, "{product} {}", metric[20][30]);
    assert!(metric[20][20] > 0.0 && metric[20][30] == metric[30][20]);
}

#[test]
fn models_are_described_and_their_examples_run() {
    let folder = Folder::new();
    let list = dunlin(&folder, "models").exits(0);
    for (model, parts) in [
        (
            "mf",
            [
                "rank            32        whole number, 1 to 4096",
                "schedule        inverse   constant, inverse or power",
                "test_rmse (with --test)",
            ],
        ),
        (
            "lda",
            [
                "beta            0.01      number, above 0, tokens",
                "word_topic      words x topics",
                "heldout_loglik_per_token (with --test)",
            ],
        ),
        (
            "softmax",
            [
                "bias            false     true or false",
                "strategies  bsp (default), allreduce",
                "relative_gap",
            ],
        ),
        (
            "dml",
            ["held_out        0.1       number, 0 to 0.5", "moments         features x 2", "train_pair_loss"],
        ),
    ] {
        assert!(list.out.lines().any(|line| line.starts_with(model)), "{list}");
        let told = dunlin(&folder, &format!("models {model}")).exits(0);
        parts.iter().for_each(|part| holds(&told.out, part));
        holds(&told.out, "epochs      at most 20, unless --epochs says how many");
        let example = told.out.lines().find_map(|line| line.strip_prefix("example     dunlin ")).unwrap();
        dunlin(&folder, &format!("{example} --quiet")).exits(0);
        let json = dunlin(&folder, &format!("models {model} --json")).exits(0).object();
        let about = json["about_settings"].as_array().unwrap();
        assert_eq!(about.len(), json["settings"].as_object().unwrap().len(), "{json}");
        for setting in about {
            assert_eq!(setting["default"], json["settings"][setting["name"].as_str().unwrap()], "{setting}");
        }
    }
    // A model may say that it wants more epochs.
    assert_eq!(dunlin(&folder, "models lasso --json").exits(0).object()["epochs"], 1000);
}

#[test]
fn an_item_that_most_rate_does_not_diverge_on_several_lanes() {
    let folder = Folder::new();
    let ran = dunlin(&folder, "train mf --train sample:ratings --workers 4 --epochs 3 --json").exits(0);
    let rmse = ran.object()["metrics"]["train_rmse"].as_f64().unwrap();
    assert!(rmse < 0.6, "{ran}");
}
