//! From the words of `--cluster` to a cluster.

use dunlin::comm::{Cluster, Hosts, Network, Processes, SimConfig, Stragglers};
use dunlin::model::did_you_mean;
use dunlin::train::INTERRUPTED;
use dunlin::{Error, Result};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where the ranks are to live, as the user says it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Threads,
    Processes,
    Hosts(String),
    Sim(Option<usize>),
}

/// What only some kinds of cluster need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    pub(crate) network: Option<String>,
    pub(crate) stragglers: Option<String>,
    pub(crate) rank: Option<usize>,
    pub(crate) token: Option<String>,
    pub(crate) insecure: bool,
    /// How long hosts wait for each other to join, in seconds, if it was given.
    pub(crate) patience: Option<f64>,
    pub(crate) seed: u64,
}

impl Place {
    /// `threads`, `processes`, `hosts:FILE`, `sim` or `sim:N`.
    pub(crate) fn parse(text: &str) -> Result<Place> {
        let wrong = || {
            let word = text.split(':').next().unwrap_or_default();
            let near = did_you_mean(word, &["threads", "processes", "hosts", "sim"]);
            Error::Usage(format!(
                "--cluster {text}{near} (there is threads, processes, hosts:FILE and sim:WORKERS)"
            ))
        };
        match text.split_once(':').map_or((text, None), |(word, rest)| (word, Some(rest))) {
            ("threads", None) => Ok(Place::Threads),
            ("processes", None) => Ok(Place::Processes),
            ("hosts", Some(file)) if !file.is_empty() => Ok(Place::Hosts(file.into())),
            ("sim", None) => Ok(Place::Sim(None)),
            ("sim", Some(ranks)) => ranks.parse().map(|ranks| Place::Sim(Some(ranks))).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// The number of workers that the words imply, if they do.
    pub(crate) fn workers(&self, servers: usize) -> Result<Option<usize>> {
        match self {
            Place::Sim(workers) => Ok(*workers),
            Place::Hosts(file) => {
                let ranks = addresses(file)?.len();
                let few =
                    || Error::Usage(format!("{file}: {ranks} hosts for {servers} servers and no worker"));
                ranks.checked_sub(servers).filter(|workers| *workers > 0).map(Some).ok_or_else(few)
            }
            Place::Threads | Place::Processes => Ok(None),
        }
    }

    /// The cluster for `ranks` ranks.
    pub(crate) fn cluster(&self, ranks: usize, details: &Details) -> Result<Cluster> {
        let simulated = matches!(self, Place::Sim(_));
        if !simulated && (details.network.is_some() || details.stragglers.is_some()) {
            return Err(Error::Usage(
                "--net and --stragglers describe a simulated cluster: --cluster sim:N".into(),
            ));
        }
        Ok(match self {
            Place::Threads => Cluster::Threads(ranks),
            Place::Processes => Cluster::Processes(Processes::new(ranks)),
            Place::Hosts(file) => {
                let token = details.token.clone().unwrap_or_default();
                let (rank, insecure) = (details.rank, details.insecure);
                let interrupted = || INTERRUPTED.load(Ordering::Relaxed);
                let hosts = Hosts::new(addresses(file)?);
                let patience = details.patience.map_or(hosts.patience, Duration::from_secs_f64);
                Cluster::Hosts(Hosts { rank, insecure, token, interrupted, patience, ..hosts })
            }
            Place::Sim(_) => {
                let mut config = SimConfig::new(ranks, details.seed);
                if let Some(network) = &details.network {
                    config.network = Network::parse(network).map_err(|error| wrong("--net", &error))?;
                }
                if let Some(stragglers) = &details.stragglers {
                    let parsed = Stragglers::parse(stragglers);
                    config.stragglers = parsed.map_err(|error| wrong("--stragglers", &error))?;
                }
                Cluster::Sim(config)
            }
        })
    }
}

fn wrong(flag: &str, error: &dunlin::comm::Error) -> Error {
    Error::Usage(format!("{flag}: {error}"))
}

fn addresses(file: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Usage(format!("--cluster hosts:{file}: cannot read it: {error}")))?;
    Hosts::parse(file, &text).map_err(|error| Error::Usage(error.to_string()))
}
