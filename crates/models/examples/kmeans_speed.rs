//! Times an iteration of exact k-means.
//!
//! ```text
//! kmeans_speed --clusters 100 --workers 2 rows.svm
//! ```
//!
//! Options: `--epochs N` (default 20), `--blocks N` (default 64), `--start random|plusplus`, `--layout
//! auto|sparse|dense`, `--fill X` (zeros of dense rows become X, so that none can be left out). Iterations are the
//! difference between a run of N epochs and one of a single epoch; reading and measuring are left out.

use dunlin::comm::Cluster;
use dunlin::data::{Contents, Layout, ReadOptions, read};
use dunlin::run::Run;
use dunlin::train::Source;
use std::collections::BTreeMap;

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout, reason = "a program whose output is its result")]
fn main() -> Result<(), Failure> {
    let (mut options, mut file) = (BTreeMap::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some(name) => {
                drop(options.insert(name.to_owned(), arguments.next().ok_or("an option without value")?))
            }
            None => file = Some(argument),
        }
    }
    let file = file.ok_or("give an svmlight file")?;
    let option = |name: &str, default: &str| options.get(name).map_or(default.to_owned(), String::clone);
    let number = |name: &str, default: &str| option(name, default).parse::<usize>();
    let layout = match &*option("layout", "auto") {
        "dense" => Layout::Dense,
        "sparse" => Layout::Sparse,
        _ => Layout::Auto,
    };
    let model = dunlin_models::find("kmeans")?;
    let (clusters, start) = (option("clusters", "100"), option("start", "random"));
    let settings = model.settings([("clusters", &*clusters), ("start", &*start)])?;
    let blocks = number("blocks", "64")?;
    let options = model.reading(&settings, ReadOptions { blocks, layout, ..ReadOptions::default() })?;
    let mut data = read(&file, &options, None)?;
    let fill: f32 = option("fill", "0").parse()?;
    for block in &mut data.blocks {
        if let Contents::Dense(rows) = &mut block.contents {
            rows.values.iter_mut().filter(|value| **value == 0.0).for_each(|value| *value = fill);
        }
    }
    let (workers, epochs) = (number("workers", "1")?, number("epochs", "20")?);
    let mut seconds = Vec::new();
    for last in [1, epochs] {
        let mut run =
            Run { workers, lanes: workers, eval_every: last, ..dunlin_models::run("kmeans", &file)? };
        (run.settings, run.stop.epochs) = (settings.clone(), last);
        let outcome =
            dunlin_models::train(&Cluster::Threads(workers), &run, &Source::new(data.clone(), None))?;
        println!("{} epochs, {:.3} s: {:?}", outcome.epochs, outcome.seconds, outcome.metrics);
        seconds.push(outcome.seconds);
    }
    let each = (seconds[1] - seconds[0]) / (epochs - 1) as f64;
    println!(
        "{workers} workers: {:.2} ms an iteration, {:.3} s for the start and the first",
        1e3 * each,
        seconds[0]
    );
    Ok(())
}
