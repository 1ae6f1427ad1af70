//! `dunlin models`: what can be trained, with which settings.

use crate::commands::data::out;
use dunlin::Result;
use dunlin_models::MODELS;

#[derive(Debug, clap::Args)]
pub(crate) struct Models {
    /// One model, to see its settings
    model: Option<String>,
    /// One JSON object a model
    #[arg(long)]
    json: bool,
}

impl Models {
    pub(crate) fn run(self) -> Result<()> {
        let chosen = match &self.model {
            Some(name) => std::slice::from_ref(dunlin_models::find(name)?),
            None => MODELS,
        };
        for model in chosen {
            let strategies: Vec<&str> = model.strategies.iter().map(|kind| kind.word()).collect();
            let settings = (model.defaults)();
            if self.json {
                let kind = format!("{:?}", model.data).to_lowercase();
                out(&serde_json::json!({"model": model.name, "about": model.about, "data": kind,
                    "strategies": strategies, "settings": settings}))?;
                continue;
            }
            let kind = format!("{:?}", model.data).to_lowercase();
            out(&format!("{:<10} {} ({kind} data; {})", model.name, model.about, strategies.join(", ")))?;
            for (key, value) in settings.as_object().into_iter().flatten() {
                out(&format!("             --set {key}={value}"))?;
            }
        }
        Ok(())
    }
}
