//! `dunlin spot profile` as a user meets it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Folder, dunlin, holds};

const LAYERS: &str = "model,mine\nglobal_batch,64\nmicro_batch,1\nsequence,128\nhidden,256\n\n\
    layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters\nblock,6,5,10,1,100,20000000\n";

#[test]
fn the_table_goes_round_through_csv() {
    let folder = Folder::new();
    std::fs::write(folder.path("layers.csv"), LAYERS).unwrap();
    let made = dunlin(&folder, "spot profile layers.csv --machines 8 --compute-scale 0.5 --csv").exits(0);
    std::fs::write(folder.path("profile.csv"), &made.out).unwrap();
    assert!(
        made.out.starts_with("model,global_batch,micro_batch,dp,pp,iter_ms,samples_per_s\nmine,64,1,1,1,")
    );
    let fitted = dunlin(&folder, "spot profile layers.csv --machines 8 --fit profile.csv --json").exits(0);
    let object: serde_json::Value = serde_json::from_str(&fitted.out).unwrap();
    assert!((object["compute_scale"].as_f64().unwrap() / 0.5 - 1.0).abs() < 0.01, "{object}");
    assert!(object["fit"]["median_error"].as_f64().unwrap() < 0.01);
    assert_eq!(object["layouts"].as_array().unwrap().len(), made.out.trim_end().lines().count() - 1);
    assert_eq!(object["best"].as_array().unwrap().len(), 8);
}

#[test]
fn a_page_names_what_does_not_fit() {
    let folder = Folder::new();
    let page = dunlin(&folder, "spot profile gpt-6.7b --machines 12").exits(0).out;
    holds(&page, "stage 1 of 1 needs");
    holds(&page, "does not fit");
    holds(&page, "1x12");
}

#[test]
fn bad_input_is_refused_in_words() {
    let folder = Folder::new();
    std::fs::write(folder.path("bad.csv"), LAYERS.replace("block,6", "block,-6")).unwrap();
    for (command, words) in [
        ("spot profile bad.csv", "bad.csv:8: count \"-6\"; a whole number from 1"),
        ("spot profile missing.csv", "with the program come gpt-1.5b"),
        ("spot profile .", "."),
        ("spot profile gpt-2 --machines 0", "machines 0: from 1 to 1024"),
        ("spot profile gpt-2 --machines 4000000000", "from 1 to 1024"),
        ("spot profile gpt-2 --cut odd", "cut odd: balanced or even"),
        ("spot profile gpt-2 --compute-scale nan", "compute scale NaN"),
        ("spot profile gpt-2 --fit missing.csv", "--fit missing.csv: no such file"),
        ("spot profile gpt-2 --fit bad.csv", "no row of model gpt-2"),
        ("spot profile gpt-2 --json --csv", "cannot be used with"),
    ] {
        holds(&dunlin(&folder, command).exits(2).err, words);
    }
}
