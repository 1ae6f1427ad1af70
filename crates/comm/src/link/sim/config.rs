//! What is simulated: the network, the speeds, and the words of the command line for both.

use super::faults::Fault;
use super::random::Random;
use crate::{Error, Result, Time};

/// A simulated cluster. The same value replays the same run, byte for byte.
#[derive(Clone, Debug, PartialEq)]
pub struct SimConfig {
    /// Number of ranks, 1 to 4096; each is a thread, of which one runs at a time.
    pub ranks: usize,
    /// Chooses every delay, every tie and every straggler.
    pub seed: u64,
    /// What carries the frames.
    pub network: Network,
    /// Who computes slowly.
    pub stragglers: Stragglers,
    /// Computing takes cost · (1 ± this), drawn evenly for each call; 0 to 1. Without it a thousand seeds
    /// would explore one order.
    pub compute_jitter: f64,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Whether every delivery is written to [`super::Report::transcript`].
    pub record: bool,
}

impl SimConfig {
    /// `ranks` equally fast ranks on a network of 1 Gbit/s and 100 µs; nothing goes wrong.
    pub fn new(ranks: usize, seed: u64) -> SimConfig {
        SimConfig {
            ranks,
            seed,
            network: Network::default(),
            stragglers: Stragglers::None,
            compute_jitter: 0.02,
            faults: Vec::new(),
            record: false,
        }
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Launch`] that names the field and what is allowed.
    pub fn check(&self) -> Result<()> {
        if !(1..=4096).contains(&self.ranks) {
            return Err(bad(format!("{} simulated ranks; 1 to 4096 are allowed", self.ranks)));
        }
        if !(0.0..=1.0).contains(&self.compute_jitter) {
            return Err(bad(format!("a compute jitter of {}; 0 to 1 is allowed", self.compute_jitter)));
        }
        self.network.check()?;
        self.stragglers.check(self.ranks)?;
        self.faults.iter().try_for_each(|fault| fault.check(self.ranks))
    }
}

/// Full-duplex NICs, one per rank, around a switch that never blocks. A NIC serves one frame after the other
/// in each direction, so that its bandwidth is shared by all of its rank's peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    /// Of each NIC, in each direction; positive.
    pub bandwidth_bits_per_second: f64,
    /// From one NIC to another, for the first byte.
    pub latency_seconds: f64,
    /// A frame takes latency · (1 + u · jitter), u drawn evenly from 0..1. Frames of one link keep their order.
    pub jitter: f64,
}

impl Default for Network {
    /// 1 Gbit/s, 100 µs, 10 % jitter.
    fn default() -> Network {
        Network { bandwidth_bits_per_second: 1e9, latency_seconds: 100e-6, jitter: 0.1 }
    }
}

impl Network {
    /// Reads `1gbit,0.5ms`: a bandwidth (`kbit`, `mbit`, `gbit`, per second), a latency (`s`, `ms`, `us`) and a
    /// jitter (`%` of the latency), each at most once, in any order; what is left out keeps its default.
    ///
    /// # Errors
    /// [`Error::Launch`] with the word that is not understood and what is allowed.
    ///
    /// # Examples
    /// ```
    /// use dunlin_comm::link::sim::Network;
    /// let network = Network::parse("10gbit,0.5ms,5%").unwrap();
    /// assert_eq!(network.bandwidth_bits_per_second, 1e10);
    /// assert_eq!(network.latency_seconds, 0.0005);
    /// assert_eq!(network.jitter, 0.05);
    /// ```
    pub fn parse(text: &str) -> Result<Network> {
        /// Longer endings first: `ms` ends in `s`.
        const UNITS: [(&str, usize, f64); 8] = [
            ("kbit", 0, 1e3),
            ("mbit", 0, 1e6),
            ("gbit", 0, 1e9),
            ("ms", 1, 1e-3),
            ("us", 1, 1e-6),
            ("µs", 1, 1e-6),
            ("s", 1, 1.0),
            ("%", 2, 0.01),
        ];
        const ALLOWED: &str = "a bandwidth like 1gbit, a latency like 0.5ms and a jitter like 10% are allowed, \
                               each at most once, separated by commas";
        let mut found = [None; 3];
        for word in text.split(',') {
            let word = word.trim();
            let complain = |what: &str| bad(format!("network {text:?}: {word:?} {what}; {ALLOWED}"));
            let unit = UNITS
                .iter()
                .find_map(|(unit, place, scale)| Some((word.strip_suffix(unit)?.trim_end(), *place, *scale)));
            let (number, place, scale) = unit.ok_or_else(|| complain("has no known unit"))?;
            let number: f64 = number.parse().map_err(|_| complain("does not start with a number"))?;
            if found[place].replace(number * scale).is_some() {
                return Err(complain("says again what an earlier word said"));
            }
        }
        let default = Network::default();
        let network = Network {
            bandwidth_bits_per_second: found[0].unwrap_or(default.bandwidth_bits_per_second),
            latency_seconds: found[1].unwrap_or(default.latency_seconds),
            jitter: found[2].unwrap_or(default.jitter),
        };
        network.check().map(|()| network)
    }

    fn check(&self) -> Result<()> {
        let Network { bandwidth_bits_per_second: bandwidth, latency_seconds: latency, jitter } = *self;
        if bandwidth.is_nan() || bandwidth <= 0.0 {
            return Err(bad(format!("a bandwidth of {bandwidth} bit/s; it must be above 0")));
        }
        if !(0.0..=3600.0).contains(&latency) {
            return Err(bad(format!("a latency of {latency} s; 0 to 3600 s are allowed")));
        }
        if !(0.0..=100.0).contains(&jitter) {
            return Err(bad(format!("a jitter of {jitter} times the latency; 0 to 100 are allowed")));
        }
        Ok(())
    }
}

/// Who computes slowly. A factor of 5 makes computing take five times as long.
#[derive(Clone, Debug, PartialEq)]
pub enum Stragglers {
    /// Nobody.
    None,
    /// These ranks, always, each by its factor.
    Fixed(Vec<(usize, f64)>),
    /// Every rank, now and then: each call of [`crate::Comm::compute`] with this probability.
    Random {
        /// Of each call, 0 to 1.
        probability: f64,
        /// How many times longer the call takes.
        factor: f64,
    },
    /// One rank at a time, drawn afresh for each clock. The simulator knows no clocks and does nothing: the
    /// training loop draws the rank and charges it `factor` times the cost.
    Rotating {
        /// How many times longer the rank that is drawn computes.
        factor: f64,
    },
}

impl Stragglers {
    /// Reads `none`, `0.1:5x` (each call with probability 0.1 takes 5 times as long), `rotating:4x`, or
    /// `rank3:2x,rank5:10x`.
    ///
    /// # Errors
    /// [`Error::Launch`] with the word that is not understood and what is allowed.
    ///
    /// # Examples
    /// ```
    /// use dunlin_comm::link::sim::Stragglers;
    /// assert_eq!(Stragglers::parse("0.1:5x").unwrap(), Stragglers::Random { probability: 0.1, factor: 5.0 });
    /// assert_eq!(Stragglers::parse("rank3:2x").unwrap(), Stragglers::Fixed(vec![(3, 2.0)]));
    /// ```
    pub fn parse(text: &str) -> Result<Stragglers> {
        const ALLOWED: &str =
            "none, 0.1:5x (probability:factor), rotating:4x and rank3:2x,rank5:10x are allowed";
        let complain = |what: String| bad(format!("stragglers {text:?}: {what}; {ALLOWED}"));
        if text.trim() == "none" {
            return Ok(Stragglers::None);
        }
        let mut fixed = Vec::new();
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        for word in &words {
            let (who, factor) =
                word.split_once(':').ok_or_else(|| complain(format!("{word:?} has no colon")))?;
            let factor: f64 = (factor.strip_suffix('x').unwrap_or(factor).parse())
                .map_err(|_| complain(format!("{factor:?} is no factor")))?;
            let single = match (who, who.strip_prefix("rank")) {
                (_, Some(rank)) => {
                    let rank = rank.parse().map_err(|_| complain(format!("{who:?} names no rank")))?;
                    fixed.push((rank, factor));
                    continue;
                }
                ("rotating", _) => Stragglers::Rotating { factor },
                _ => {
                    let probability = who.parse();
                    let probability =
                        probability.map_err(|_| complain(format!("{who:?} is no probability")))?;
                    Stragglers::Random { probability, factor }
                }
            };
            if words.len() > 1 {
                return Err(complain(format!("{word:?} stands with other words; only ranks can be listed")));
            }
            return single.check(usize::MAX).map(|()| single);
        }
        let fixed = Stragglers::Fixed(fixed);
        fixed.check(usize::MAX).map(|()| fixed)
    }

    fn check(&self, ranks: usize) -> Result<()> {
        let factor_fits = |factor: f64| match factor > 0.0 && factor <= 1e6 {
            true => Ok(()),
            false => Err(bad(format!("a straggler's factor of {factor}; above 0 and up to 1e6 is allowed"))),
        };
        match self {
            Stragglers::None => Ok(()),
            Stragglers::Rotating { factor } => factor_fits(*factor),
            Stragglers::Random { probability, factor } => match (0.0..=1.0).contains(probability) {
                true => factor_fits(*factor),
                false => Err(bad(format!("a straggler's probability of {probability}; 0 to 1 is allowed"))),
            },
            Stragglers::Fixed(list) => list.iter().try_for_each(|(rank, factor)| match *rank < ranks {
                true => factor_fits(*factor),
                false => Err(bad(format!("straggler rank {rank}; ranks are 0 to {}", ranks - 1))),
            }),
        }
    }

    /// How many times longer the next computation of `rank` takes.
    pub(super) fn factor(&self, rank: usize, random: &mut Random) -> f64 {
        match self {
            Stragglers::None | Stragglers::Rotating { .. } => 1.0,
            Stragglers::Fixed(list) => list.iter().filter(|(who, _)| *who == rank).map(|(_, f)| f).product(),
            Stragglers::Random { probability, factor } => match random.unit() < *probability {
                true => *factor,
                false => 1.0,
            },
        }
    }
}

pub(super) fn bad(what: String) -> Error {
    Error::Launch(what)
}

/// `seconds` as a span of virtual time; what does not fit is cut off at the ends.
pub(super) fn nanos(seconds: f64) -> u64 {
    Time::from_seconds(seconds).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn network_words_are_read() {
        let read = |text| Network::parse(text).unwrap();
        let network = read("1gbit,0.5ms");
        assert_eq!((network.bandwidth_bits_per_second, network.latency_seconds), (1e9, 0.0005));
        assert_eq!(network.jitter, Network::default().jitter, "what is left out keeps its default");
        assert_eq!(read("20us, 100mbit").latency_seconds, 20.0 * 1e-6);
        assert_eq!(read("2s").latency_seconds, 2.0);
        assert_eq!(read("0%").jitter, 0.0);
    }

    #[test]
    fn a_wrong_network_word_is_named() {
        for (text, word) in [
            ("1gbit,0.5parsec", "0.5parsec"),
            ("fast", "fast"),
            ("", "\"\""),
            ("xms", "xms"),
            ("1ms,2ms", "2ms"),
        ] {
            let said = message(Network::parse(text));
            assert!(said.contains(word) && said.contains("allowed"), "{text}: {said}");
        }
        assert!(message(Network::parse("0gbit")).contains("above 0"));
        assert!(message(Network::parse("-1ms")).contains("0 to 3600"));
        assert!(message(Network::parse("nanms")).contains("NaN"));
    }

    #[test]
    fn straggler_words_are_read() {
        let read = |text| Stragglers::parse(text).unwrap();
        assert_eq!(read("none"), Stragglers::None);
        assert_eq!(read("0.1:5x"), Stragglers::Random { probability: 0.1, factor: 5.0 });
        assert_eq!(read("rotating:4x"), Stragglers::Rotating { factor: 4.0 });
        assert_eq!(read("rank3:2x, rank5:1.5"), Stragglers::Fixed(vec![(3, 2.0), (5, 1.5)]));
    }

    #[test]
    fn a_wrong_straggler_word_is_named() {
        for (text, word) in [
            ("5x", "no colon"),
            ("0.1:fast", "fast"),
            ("often:5x", "often"),
            ("rank:5x", "names no rank"),
            ("0.1:5x,0.2:3x", "0.1:5x"),
            ("rank1:2x,rotating:3x", "rotating"),
            ("1.5:5x", "0 to 1"),
            ("0.5:0x", "above 0"),
        ] {
            let said = message(Stragglers::parse(text));
            assert!(said.contains(word) && said.contains("allowed"), "{text}: {said}");
        }
    }

    #[test]
    fn every_field_is_checked() {
        let config = SimConfig::new(3, 1);
        config.check().unwrap();
        assert!(message(SimConfig::new(0, 1).check()).contains("4096"));
        let slow = SimConfig { stragglers: Stragglers::Fixed(vec![(3, 2.0)]), ..config.clone() };
        assert!(message(slow.check()).contains("ranks are 0 to 2"));
        let alone = Fault::Cut { a: 1, b: 1, at: Time(0) };
        assert!(SimConfig { faults: vec![alone], ..config }.check().is_err());
    }
}
