//! Run files: TOML with the names of the flags as keys.

use crate::cluster::Place;
use crate::commands::TrainFlags;
use dunlin::data::Kind;
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
        let message = dunlin::model::in_words(&error.message().replace('\n', "; "));
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

/// Refuses names that are there but empty, such as those of a variable that is not set.
///
/// # Errors
/// [`Error::Usage`] with the flag and what is wanted.
pub(crate) fn refuse_empty(flags: &TrainFlags) -> Result<()> {
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    let is_no_path =
        |path: &Option<std::path::PathBuf>| path.as_ref().is_some_and(|p| p.as_os_str().is_empty());
    let wanted = [
        ("--train", is_empty(&flags.train), "a file, - for standard input, sample:NAME or synth:KIND"),
        ("--test", is_empty(&flags.test), "a file, sample:NAME or synth:KIND"),
        ("--out", is_no_path(&flags.out), "a folder"),
        ("--vocabulary", is_no_path(&flags.vocabulary), "a file"),
        ("--label", is_empty(&flags.label), "the name or position of a column"),
        ("--token", is_empty(&flags.token), "a word that all processes of the run share"),
        ("--cluster hosts", flags.cluster.as_deref() == Some("hosts:"), "a file with one host:port a line"),
        (
            "--cluster hosts",
            flags.cluster.as_deref() == Some("hosts"),
            "hosts:FILE, with one host:port a line",
        ),
    ];
    match wanted.iter().find(|(_, is_wrong, _)| *is_wrong) {
        Some((flag, _, wanted)) => Err(Error::Usage(format!("{flag}: the name is empty; give {wanted}"))),
        None => Ok(()),
    }
}

/// Refuses flags that decide nothing in the run that the others ask for: who gives one expects it to act.
///
/// # Errors
/// [`Error::Usage`] with the flag and where it applies.
pub(crate) fn refuse_irrelevant(flags: &TrainFlags, place: &Place, cluster: &str, data: Kind) -> Result<()> {
    let (hosts, sim) = (matches!(place, Place::Hosts(_)), matches!(place, Place::Sim(_)));
    let rows = data == Kind::Labelled;
    let only_hosts = "the processes of --cluster hosts:FILE";
    let only_sim = "a simulated cluster, --cluster sim:N";
    let only_rows = "models that learn from labelled rows";
    let given = [
        ("--rank", flags.rank.is_some(), hosts, only_hosts),
        ("--token", flags.token.is_some(), hosts, only_hosts),
        ("--insecure", flags.insecure, hosts, only_hosts),
        ("--net", flags.net.is_some(), sim, only_sim),
        ("--stragglers", flags.stragglers.is_some(), sim, only_sim),
        ("--compute-ns", flags.compute_ns.is_some(), sim, only_sim),
        ("--label", flags.label.is_some(), rows, only_rows),
        ("--zero-based", flags.zero_based, rows, only_rows),
        (
            "--vocabulary",
            flags.vocabulary.is_some(),
            data == Kind::Documents,
            "models that learn from documents",
        ),
    ];
    for (flag, is_given, applies, place) in given {
        if is_given && !applies {
            let model = flags.model.as_deref().unwrap_or_default();
            return Err(Error::Usage(format!(
                "{flag} is for {place}; this is {model} on --cluster {cluster}"
            )));
        }
    }
    Ok(())
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
            transfer: flags.transfer.or(self.transfer),
            bandwidth: flags.bandwidth.or(self.bandwidth),
            cluster: flags.cluster.or(self.cluster),
            epochs: flags.epochs.or(self.epochs),
            until: flags.until.or(self.until),
            seconds: flags.seconds.or(self.seconds),
            clocks_per_epoch: flags.clocks_per_epoch.or(self.clocks_per_epoch),
            eval_every: flags.eval_every.or(self.eval_every),
            seed: flags.seed.or(self.seed),
            out: flags.out.or(self.out),
            resume: flags.resume || self.resume,
            log_order: flags.log_order.or(self.log_order),
            replay: flags.replay.or(self.replay),
            checkpoint_epochs: flags.checkpoint_epochs.or(self.checkpoint_epochs),
            checkpoint_seconds: flags.checkpoint_seconds.or(self.checkpoint_seconds),
            memory: flags.memory.or(self.memory),
            rehost: flags.rehost.or(self.rehost),
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
