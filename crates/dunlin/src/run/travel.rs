//! What a run says of how updates travel, checked.

use super::Run;
use crate::algorithm::StrategyKind;
use crate::memory::parse_bytes;
use crate::{Error, Result};

/// The bytes a second that `text` says: `50MB/s`.
///
/// # Errors
/// [`Error::Usage`] with what is allowed.
pub fn parse_bandwidth(text: &str) -> Result<u64> {
    let bytes = text.trim().strip_suffix("/s").and_then(|size| parse_bytes("--bandwidth", size).ok());
    bytes.ok_or_else(|| {
        Error::Usage(format!(
            "--bandwidth {text}: a number above 0 and a unit a second, such as 50MB/s or 800kB/s (units: B, kB, MB, GB, KiB, \
             MiB, GiB)"
        ))
    })
}

impl Run {
    /// Updates are rounded where they go to shards.
    pub(super) fn check_transfer(&self) -> Result<()> {
        let Run { transfer, strategy, lanes, .. } = self;
        let why = match strategy.kind() {
            _ if transfer.is_exact() => return Ok(()),
            _ if *lanes == 1 => "one lane sends no updates",
            StrategyKind::AllReduce => {
                "what travels are sums of several lanes' updates, which 16 bits do not hold"
            }
            StrategyKind::Rotation => {
                "rows travel themselves, and nobody else has what rounding would take from them"
            }
            StrategyKind::Scheduled => "what travels are sums of f64",
            StrategyKind::Bsp | StrategyKind::Ssp | StrategyKind::Essp | StrategyKind::Asp => return Ok(()),
        };
        Err(Error::Usage(format!(
            "--transfer {transfer} with --lanes {lanes} and --strategy {strategy}: {why}; it needs two lanes or more and bsp, \
             ssp, essp or asp"
        )))
    }

    /// Updates go out early where a read may hold more than it must, and where there is somebody to read them.
    pub(super) fn check_bandwidth(&self) -> Result<()> {
        let Some(bandwidth) = self.bandwidth else { return Ok(()) };
        let Run { strategy, workers, .. } = self;
        let why = match strategy.kind() {
            StrategyKind::Bsp | StrategyKind::AllReduce => {
                "a read holds exactly the updates of the clocks before, so that none may come early"
            }
            StrategyKind::Rotation | StrategyKind::Scheduled => "nothing is sent that could be sent early",
            _ if *workers == 1 => "there is nobody to send updates to",
            StrategyKind::Ssp | StrategyKind::Essp | StrategyKind::Asp => return Ok(()),
        };
        Err(Error::Usage(format!(
            "--bandwidth {bandwidth}B/s with --workers {workers} and --strategy {strategy}: {why}; it needs two workers or more \
             and ssp, essp or asp"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_are_read_or_refused() {
        assert_eq!(parse_bandwidth("50MB/s").unwrap(), 50_000_000);
        assert_eq!(parse_bandwidth("1.5 KiB/s").unwrap(), 1536);
        for text in ["", "50MB", "50/s", "-1MB/s", "MB/s", "0B/s", "50MB/min"] {
            let error = parse_bandwidth(text).unwrap_err().to_string();
            assert!(error.contains("--bandwidth") && error.contains("50MB/s"), "{error}");
        }
    }

    #[test]
    fn budgets_are_refused_where_nothing_may_come_early() {
        let run = |strategy: &str, workers| {
            let strategy = strategy.parse().unwrap();
            Run { strategy, workers, lanes: 4, bandwidth: Some(1000), ..Run::default() }.check_strategy()
        };
        for strategy in ["ssp:2", "essp:1", "asp"] {
            assert!(run(strategy, 2).is_ok());
            assert!(run(strategy, 1).unwrap_err().to_string().contains("nobody to send updates to"));
        }
        assert!(run("bsp", 2).unwrap_err().to_string().contains("none may come early"));
        assert!(run("rotation", 2).unwrap_err().to_string().contains("nothing is sent that could"));
    }
}
