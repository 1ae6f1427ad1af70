//! `dunlin models`: what can be trained, with which settings.

use crate::commands::data::out;
use dunlin::Result;
use dunlin::model::Model;
use dunlin_models::MODELS;
use serde_json::{Value, json};
use std::fmt::Write as _;

#[derive(Debug, clap::Args)]
pub(crate) struct Models {
    /// One model, to see its settings, tables, metrics and strategies
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
        if self.json {
            return chosen.iter().try_for_each(|model| out(&object(model)));
        }
        if self.model.is_some() {
            return chosen.iter().try_for_each(|model| out(&page(model).trim_end()));
        }
        for model in chosen {
            let strategies = strategies(model).join(", ");
            out(&format!("{:<10} {} ({} data; {strategies})", model.name, model.about, kind(model)))?;
        }
        out(&"\ndunlin models NAME lists settings, tables and metrics")
    }
}

fn kind(model: &Model) -> String {
    format!("{:?}", model.data).to_lowercase()
}

fn strategies(model: &Model) -> Vec<&'static str> {
    model.strategies.iter().map(|kind| kind.word()).collect()
}

/// What kind of value the default is an example of.
fn type_of(default: &Value) -> &'static str {
    match default {
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_u64() => "whole number",
        Value::Number(_) => "number",
        _ => "word",
    }
}

fn object(model: &Model) -> Value {
    let (defaults, details) = ((model.defaults)(), model.details);
    let about = details.settings.iter().map(|setting| {
        let default = &defaults[setting.name];
        json!({"name": setting.name, "type": type_of(default), "default": default, "range": setting.range,
            "meaning": setting.meaning})
    });
    let tables = details
        .tables
        .iter()
        .map(|table| json!({"name": table.name, "shape": table.shape, "meaning": table.meaning}));
    let metrics = details.metrics.iter().map(
        |metric| json!({"name": metric.name, "meaning": metric.meaning, "needs_test": metric.needs_test}),
    );
    json!({
        "model": model.name, "about": model.about, "data": kind(model), "strategies": strategies(model), "epochs": model.epochs,
        "settings": defaults, "about_settings": about.collect::<Vec<_>>(),
        "tables": tables.collect::<Vec<_>>(), "metrics": metrics.collect::<Vec<_>>(),
        "predicts": details.predicts, "example": details.example,
    })
}

/// Everything about a model, for a person.
fn page(model: &Model) -> String {
    let (defaults, details) = ((model.defaults)(), model.details);
    let mut text = format!("{}: {}\n", model.name, model.about);
    let mut line = |line: String| {
        let _ = writeln!(text, "{}", line.trim_end()); // writing to a String cannot fail
    };
    let (default, others) = (strategies(model), strategies(model).split_off(1).join(", "));
    line(format!("\ndata        {}", kind(model)));
    line(format!("strategies  {} (default), {others}", default.first().unwrap_or(&"")));
    line(format!("epochs      at most {}, unless --epochs says how many", model.epochs));
    line("\nsettings, by --set NAME=VALUE: default, type, range".into());
    for setting in details.settings {
        let value = &defaults[setting.name];
        let shown = value.as_str().map_or_else(|| value.to_string(), String::from);
        let is_told = matches!(value, Value::Bool(_) | Value::String(_));
        let kind = if is_told { String::new() } else { format!("{}, ", type_of(value)) };
        line(format!("  {:<15} {shown:<9} {kind}{}", setting.name, setting.range));
        line(format!("  {:<15} {:<9} {}", "", "", setting.meaning));
    }
    line("\ntables: shape, what a row holds".into());
    for table in details.tables {
        line(format!("  {:<15} {}", table.name, table.shape));
        line(format!("  {:<15} {}", "", table.meaning));
    }
    line("\nmetrics".into());
    for metric in details.metrics {
        let test = if metric.needs_test { " (with --test)" } else { "" };
        line(format!("  {}{test}", metric.name));
        line(format!("  {:<15} {}", "", metric.meaning));
    }
    line(format!("\npredict     {}", details.predicts));
    line(format!("example     {}", details.example));
    text
}
