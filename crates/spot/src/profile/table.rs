//! A profile from a table of measured or simulated iterations.

use super::{BUILT_IN, File};
use crate::profile::{Allowed, Costs, Dollars, Layers, Network};

/// The columns of the table; others may follow.
const COLUMNS: [&str; 7] = ["model", "global_batch", "micro_batch", "dp", "pp", "iter_ms", "samples_per_s"];

/// Reads the rows of `model`, or of the only model there is.
pub(super) fn parse(text: &str, model: Option<&str>) -> Result<File, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, head) = lines.next().ok_or("it is empty; JSON or CSV is wanted")?;
    let head: Vec<&str> = head.split(',').map(str::trim).collect();
    if !head.starts_with(&COLUMNS) {
        return Err(format!("line 1: the columns are {}; {} are wanted", head.join(","), COLUMNS.join(",")));
    }
    let mut file: Option<File> = None;
    for (number, line) in lines {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let wrong = |what: String| format!("line {}: {what}", number + 1);
        if fields.len() < COLUMNS.len() {
            return Err(wrong(format!("{} fields, {} are wanted", fields.len(), COLUMNS.len())));
        }
        if model.is_some_and(|model| model != fields[0]) {
            continue;
        }
        let whole = |at: usize| {
            fields[at]
                .parse::<u32>()
                .map_err(|_| wrong(format!("{} is {}, a whole number is wanted", COLUMNS[at], fields[at])))
        };
        let rate: f64 = fields[6]
            .parse()
            .map_err(|_| wrong(format!("samples_per_s is {}, a number is wanted", fields[6])))?;
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(empty(fields[0], whole(1)?, whole(2)?)),
        };
        if file.name != fields[0] {
            return Err(wrong(format!(
                "it is about {}, the lines before about {}; --model says which to take",
                fields[0], file.name
            )));
        }
        file.throughput.push((whole(3)?, whole(4)?, rate));
    }
    let mut file = file.ok_or_else(|| match model {
        Some(model) => format!("no line is about {model}"),
        None => "no line after the first".to_string(),
    })?;
    if file.layers.is_empty() {
        let deepest = file.throughput.iter().map(|row| row.1).max().unwrap_or(1);
        file.layers = vec![Layers::new(deepest as usize, 0.0)];
    }
    Ok(file)
}

/// A profile without throughput: the built-in one of that name, or constants.
fn empty(name: &str, global_batch: u32, micro_batch: u32) -> File {
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
    let built_in = built_in.and_then(|(_, text)| serde_json::from_str::<File>(text).ok());
    match built_in {
        Some(file) => {
            File { global_batch, micro_batch, throughput: Vec::new(), allowed: Allowed::default(), ..file }
        }
        None => File {
            name: name.to_string(),
            description: String::new(),
            source: "a table of iterations".to_string(),
            global_batch,
            micro_batch,
            dollars_per_hour: Dollars::default(),
            allowed: Allowed::default(),
            costs: Costs::default(),
            bytes_per_parameter: super::adam(),
            cut_points: 0,
            redundancy_overhead: super::for_transformers(),
            layers: Vec::new(),
            network: Network::default(),
            throughput: Vec::new(),
            shapes: Default::default(),
        },
    }
}
