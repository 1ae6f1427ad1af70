//! Ranks on many hosts: every process is started by somebody, with the same list of addresses.

use super::door::{Door, Identity, Patience};
use super::{DEFAULT_PATIENCE, Star, check_size, encode_job, resolve};
use crate::cluster::Job;
use crate::link::spin::has_processors;
use crate::{Error, Lost, Result};
use std::net::SocketAddr;
use std::time::Duration;

/// Ranks at known addresses, one process each. Each uses the one port of its address for everything.
#[derive(Clone)]
pub struct Hosts {
    /// `host:port` of each rank, in rank order; the same list on every host.
    pub addresses: Vec<String>,
    /// Which of them this process is; if not given, the first that it can listen at.
    pub rank: Option<usize>,
    /// Allows addresses beyond loopback, over which everything travels in the clear.
    pub insecure: bool,
    /// A word that all processes of this run share; connections with another are refused.
    pub token: String,
    /// How long the ranks have to join.
    pub patience: Duration,
    /// Asked now and then while the ranks join: true ends the wait, as a user does who interrupts the program.
    pub interrupted: fn() -> bool,
}

/// The exit status of a program that was interrupted.
const INTERRUPTED: u8 = 3;

/// Without the token.
impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hosts {{ addresses: {:?}, rank: {:?}, .. }}", self.addresses, self.rank)
    }
}

impl Hosts {
    /// The cluster at `addresses`, loopback only, as whichever rank this process can be.
    pub fn new(addresses: Vec<String>) -> Hosts {
        Hosts {
            addresses,
            rank: None,
            insecure: false,
            token: String::new(),
            patience: DEFAULT_PATIENCE,
            interrupted: || false,
        }
    }

    /// The addresses in a host file: one `host:port` a line in rank order, `#` begins a comment, blank lines
    /// do not count. `name` is the file's, for messages.
    ///
    /// # Errors
    /// [`Error::Launch`] with the line that is no address or is there twice, or if there are none.
    ///
    /// # Examples
    /// ```
    /// # use dunlin_comm::Hosts;
    /// let list = Hosts::parse("hosts.txt", "10.0.0.1:7000  # rank 0\n\n10.0.0.2:7000\n")?;
    /// assert_eq!(list, ["10.0.0.1:7000", "10.0.0.2:7000"]);
    /// let error = Hosts::parse("hosts.txt", "10.0.0.1").unwrap_err().to_string();
    /// assert!(error.contains("hosts.txt:1") && error.contains("host:port"), "{error}");
    /// # Ok::<(), dunlin_comm::Error>(())
    /// ```
    pub fn parse(name: &str, text: &str) -> Result<Vec<String>> {
        let mut found: Vec<(usize, &str)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let port = entry.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
                return Err(Error::Launch(format!(
                    "{name}:{number}: {entry:?} is not host:port with a port of 1 to 65535"
                )));
            }
            if let Some((first, _)) = found.iter().find(|(_, other)| *other == entry) {
                return Err(Error::Launch(format!(
                    "{name}:{number}: {entry} is on line {first} already; each rank needs an address of its own"
                )));
            }
            found.push((number, entry));
        }
        if found.is_empty() {
            return Err(Error::Launch(format!("{name}: no addresses; one host:port a line, rank 0 first")));
        }
        Ok(found.into_iter().map(|(_, entry)| entry.to_string()).collect())
    }

    pub(crate) fn run<J: Job>(&self, job: &J) -> Result<Vec<J::Out>> {
        check_size(self.addresses.len())?;
        let patience = Patience::start(self.patience);
        let resolved: Vec<SocketAddr> = self.addresses.iter().map(|a| resolve(a)).collect::<Result<_>>()?;
        self.check_reach(&resolved)?;
        let (rank, door) = self.open(&resolved)?;
        let identity = Identity {
            rank,
            size: resolved.len(),
            token: self.token.clone(),
            address: self.addresses[rank].clone(),
            job: J::NAME.into(),
        };
        let here = resolved.iter().filter(|address| address.ip() == resolved[rank].ip()).count();
        let spins = has_processors(here);
        let interrupted = self.interrupted;
        let watch = || match interrupted() {
            true => Err(Error::Failed {
                status: INTERRUPTED,
                text: "interrupted while the ranks joined; nothing was begun".into(),
            }),
            false => Ok(()),
        };
        let last_act = Box::new(|_: &Lost| true);
        if rank == 0 {
            let job_bytes = encode_job(job)?;
            let star = Star::gather(identity, door, patience, job_bytes, last_act, &mut |_| watch())?;
            return Star { spins, ..star }.run(job);
        }
        let (star, welcome, bytes) = Star::join(identity, door, patience, resolved[0], last_act, watch)?;
        if let Some(other) = (0..resolved.len()).find(|&r| welcome.addresses[r] != self.addresses[r]) {
            return Err(star.give_up(Error::Launch(format!(
                "rank {other} is at {} in the list of rank 0, and at {} in that of rank {rank}",
                welcome.addresses[other], self.addresses[other]
            ))));
        }
        Star { spins, ..star }.run_encoded::<J>(&bytes)
    }

    fn check_reach(&self, resolved: &[SocketAddr]) -> Result<()> {
        match resolved.iter().position(|address| !address.ip().is_loopback()) {
            Some(rank) if !self.insecure => Err(Error::Launch(format!(
                "{} of rank {rank} is not a loopback address; beyond loopback only with --insecure until TLS is \
                 there: everything travels in the clear",
                self.addresses[rank]
            ))),
            _ => Ok(()),
        }
    }

    /// Listens at the address of the given rank, or at the first at which it can.
    fn open(&self, resolved: &[SocketAddr]) -> Result<(usize, Door)> {
        if let Some(rank) = self.rank {
            let address = resolved.get(rank).ok_or_else(|| {
                Error::Launch(format!(
                    "this is to be rank {rank}, but there are {} addresses",
                    resolved.len()
                ))
            })?;
            return Ok((rank, Door::open(*address)?));
        }
        let mut refusals = String::new();
        for (rank, address) in resolved.iter().enumerate() {
            match Door::open(*address) {
                Ok(door) => return Ok((rank, door)),
                Err(error) => refusals += &format!("; {error}"),
            }
        }
        Err(Error::Launch(format!("none of the addresses is a free one of this host{refusals}")))
    }
}
