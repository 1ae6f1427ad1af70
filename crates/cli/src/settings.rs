//! Run files: TOML with the names of the flags as keys.

use crate::commands::TrainFlags;
use dunlin::{Error, Result};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Reads a run file.
///
/// # Errors
/// [`Error::Usage`] with file, line and what is wrong; an unknown key with a near name.
pub(crate) fn read(path: &str) -> Result<TrainFlags> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Usage(format!("cannot read the run file {path}: {error}")))?;
    toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        let message = error.message().replace('\n', "; ");
        Error::Usage(format!("{path}:{line}: {message}{}", near_key(error.message())))
    })
}

/// "; did you mean X?" for serde's "unknown field `X`, expected one of ..." message.
fn near_key(message: &str) -> String {
    let names: Vec<String> = message.split('`').skip(1).step_by(2).map(String::from).collect();
    let Some((unknown, known)) = names.split_first().filter(|_| message.starts_with("unknown field")) else {
        return String::new();
    };
    dunlin::model::near_name(unknown, known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// Settings from a table of a run file, as the flag has them: key=value.
pub(crate) fn pairs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<String>, D::Error> {
    let table = BTreeMap::<String, toml::Value>::deserialize(deserializer)?;
    let text = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(table.into_iter().map(|(key, value)| format!("{key}={}", text(value))).collect())
}

/// key=value texts, split.
///
/// # Errors
/// [`Error::Usage`] for one without `=`.
pub(crate) fn split(set: &[String]) -> Result<Vec<(&str, &str)>> {
    let split = |text: &'_ String| -> Option<(usize, usize)> { text.find('=').map(|at| (at, at + 1)) };
    set.iter()
        .map(|text| match split(text) {
            Some((end, start)) if end > 0 => Ok((&text[..end], &text[start..])),
            _ => Err(Error::Usage(format!("--set {text}: write key=value"))),
        })
        .collect()
}

impl TrainFlags {
    /// These, from a file, where `flags` do not say otherwise.
    pub(crate) fn under(self, flags: &TrainFlags) -> TrainFlags {
        let flags = flags.clone();
        TrainFlags {
            model: self.model,
            train: flags.train.or(self.train),
            test: flags.test.or(self.test),
            format: flags.format.or(self.format),
            zero_based: flags.zero_based || self.zero_based,
            vocabulary: flags.vocabulary.or(self.vocabulary),
            label: flags.label.or(self.label),
            blocks: flags.blocks.or(self.blocks),
            workers: flags.workers.or(self.workers),
            lanes: flags.lanes.or(self.lanes),
            servers: flags.servers.or(self.servers),
            strategy: flags.strategy.or(self.strategy),
            cluster: flags.cluster.or(self.cluster),
            epochs: flags.epochs.or(self.epochs),
            until: flags.until.or(self.until),
            seconds: flags.seconds.or(self.seconds),
            clocks_per_epoch: flags.clocks_per_epoch.or(self.clocks_per_epoch),
            eval_every: flags.eval_every.or(self.eval_every),
            seed: flags.seed.or(self.seed),
            out: flags.out.or(self.out),
            resume: flags.resume || self.resume,
            checkpoint_epochs: flags.checkpoint_epochs.or(self.checkpoint_epochs),
            checkpoint_seconds: flags.checkpoint_seconds.or(self.checkpoint_seconds),
            set: [self.set, flags.set].concat(),
            slow: if flags.slow.is_empty() { self.slow } else { flags.slow },
            net: flags.net.or(self.net),
            stragglers: flags.stragglers.or(self.stragglers),
            compute_ns: flags.compute_ns.or(self.compute_ns),
            stall_timeout: flags.stall_timeout.or(self.stall_timeout),
            rank: flags.rank.or(self.rank),
            token: flags.token.or(self.token),
            insecure: flags.insecure || self.insecure,
            isa: flags.isa.or(self.isa),
        }
    }
}
