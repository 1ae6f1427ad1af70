//! The algorithms of Dunlin, one file each.
//!
//! A new model is a file here that implements [`dunlin::Algorithm`], and a line in [`MODELS`].

mod details;
pub mod dml;
pub mod ds_softmax;
mod factors;
pub mod kmeans;
pub mod lasso;
pub mod lda;
pub mod lda_vb;
mod linear;
pub mod logistic;
pub mod mf;
pub mod nmf;
pub mod proximal;
mod rows;
mod simd;
pub mod softmax;
pub mod sparse_coding;
pub mod svm;
#[cfg(test)]
mod testing;

use dunlin::comm::Cluster;
use dunlin::data::ReadOptions;
use dunlin::event::{Event, Outcome};
use dunlin::model::{Model, model};
use dunlin::run::Run;
use dunlin::train::{Observer, Source};

/// All models, in the order in which `dunlin models` lists them.
pub const MODELS: &[Model] = &[
    model::<mf::Mf>(),
    model::<lda::Lda>(),
    model::<softmax::Softmax>(),
    model::<dml::Dml>(),
    model::<kmeans::Kmeans>(),
    model::<nmf::Nmf>(),
    model::<sparse_coding::SparseCoding>(),
    model::<lasso::Lasso>(),
    model::<logistic::Logistic>(),
    model::<svm::Svm>(),
    model::<lda_vb::LdaVb>(),
    model::<ds_softmax::DsSoftmax>(),
];

/// The model called `name`.
///
/// # Errors
/// [`dunlin::Error::Usage`] with the models there are, and a near name.
///
/// # Examples
/// ```
/// assert_eq!(dunlin_models::find("mf").unwrap().name, "mf");
/// assert!(dunlin_models::find("ldo").unwrap_err().to_string().contains("did you mean lda?"));
/// ```
pub fn find(name: &str) -> dunlin::Result<&'static Model> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| {
        let names: Vec<String> = MODELS.iter().map(|model| model.name.to_string()).collect();
        let near = dunlin::model::near_name(name, &names).map(|name| format!("; did you mean {name}?"));
        dunlin::Error::Usage(format!(
            "there is no model {name}{} (there is {})",
            near.unwrap_or_default(),
            names.join(", ")
        ))
    })
}

/// A run of the model called `name` on `train`: one worker, one lane, 20 epochs, the model's own settings and
/// strategy.
///
/// # Errors
/// [`dunlin::Error::Usage`] if there is no such model.
pub fn run(name: &str, train: &str) -> dunlin::Result<Run> {
    let model = find(name)?;
    let strategy = model.strategies.first().map_or("bsp", |kind| kind.word()).parse()?;
    let settings = (model.defaults)();
    let read = model.reading(&settings, ReadOptions::default())?;
    Ok(Run { model: name.into(), train: train.into(), strategy, read, settings, ..Run::default() })
}

/// Trains `run` on a cluster within this process and returns what came out.
///
/// # Blocking
/// Until the run has ended.
///
/// # Errors
/// The first error of any rank.
///
/// # Examples
/// ```
/// use dunlin::{comm::Cluster, data::read, run::Run, train::Source};
/// let run = Run { workers: 2, lanes: 2, ..dunlin_models::run("softmax", "sample:digits")? };
/// let source = Source::new(read(&run.train, &run.read, None)?, None);
/// let outcome = dunlin_models::train(&Cluster::Threads(2), &run, &source)?;
/// assert!(outcome.metrics["train_accuracy"] > 0.95);
/// # Ok::<(), dunlin::Error>(())
/// ```
pub fn train(cluster: &Cluster, run: &Run, source: &Source) -> dunlin::Result<Outcome> {
    let model = find(&run.model)?;
    model.check_strategy(run.strategy.kind())?;
    let outcomes = cluster.run_closure(|comm| Ok((model.train)(run, source, comm, &mut Silent)?))?;
    Ok(outcomes.into_iter().next().unwrap_or_default())
}

/// Tells nobody.
struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}

/// The README's program.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
