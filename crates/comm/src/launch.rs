//! How ranks in different processes find each other, run a job and end together.
//!
//! 1. Every rank listens; every rank but 0 opens its control connection to rank 0 and says who it is.
//! 2. Once all are there, rank 0 answers each with the address book and the job. From here on the control
//!    threads watch over everybody.
//! 3. Rank `i` opens a data connection to every `j < i`. Then nobody listens any more, and the job runs.
//! 4. What the ranks return is gathered on rank 0.

pub(crate) mod door;
pub mod hosts;
pub mod processes;

use crate::cluster::{Job, guarded};
use crate::comm::{Channel, Message};
use crate::control::{Control, LastAct, Shared};
use crate::link::connection::Connection;
use crate::link::tcp::TcpLink;
use crate::{Buffer, Comm, Error, Lost, Result};
use door::{Door, Identity, Patience, Role, Welcome, answer_hello, call_on, hear_welcome};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long the ranks have to join, if nobody says otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);
/// Most ranks of a cluster over TCP.
pub const MAX_RANKS: usize = 1024;

/// A rank of a cluster whose control star stands and whose mesh is still to be made.
pub(crate) struct Star {
    identity: Identity,
    door: Door,
    control: Control,
    addresses: Vec<String>,
    patience: Patience,
    /// Each rank of this host has a processor.
    pub(crate) spins: bool,
}

/// What rank 0 does while it waits for the others: looks whether somebody it started has ended.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&BTreeMap<usize, Joined>) -> Result<()>;

/// A rank that has said hello to rank 0.
pub(crate) struct Joined {
    stream: TcpStream,
    address: String,
}

impl Star {
    /// Rank 0: waits until all others have joined, and hands out the address book and the job.
    pub(crate) fn gather(
        identity: Identity,
        mut door: Door,
        patience: Patience,
        job: Buffer,
        last_act: LastAct,
        watch: Watch<'_>,
    ) -> Result<Star> {
        let mut joined: BTreeMap<usize, Joined> = BTreeMap::new();
        while joined.len() + 1 < identity.size {
            watch(&joined)?;
            if patience.is_over() {
                return Err(missing(&identity, &joined, &door, patience));
            }
            // Nobody speaks before it is spoken to: what can be read here is an end.
            joined.retain(|_, rank| !matches!(rank.stream.peek(&mut [0]), Ok(0)));
            let streams: Vec<&TcpStream> = joined.values().map(|rank| &rank.stream).collect();
            for (stream, hello) in door.look(&identity, &streams) {
                match joined.get(&hello.rank) {
                    Some(first) => {
                        let first = &first.address;
                        let rank = hello.rank;
                        door.refuse(
                            &stream,
                            &format!("there is a rank {rank} already, at {first}; each rank once"),
                        );
                    }
                    None if hello.role != Role::Control => door.refuse(&stream, "data before control"),
                    None => drop(joined.insert(hello.rank, Joined { stream, address: hello.address })),
                }
            }
        }
        let mut addresses = vec![identity.address.clone()];
        addresses.extend(joined.values().map(|rank| rank.address.clone()));
        let job = Arc::new(job);
        for (rank, joined) in &joined {
            let welcome = Welcome { addresses: addresses.clone(), job: identity.job.clone() };
            // Whoever said hello and does not hear the answer has gone in between.
            answer_hello(&joined.stream, &Ok(welcome), &job, patience.left()).map_err(|error| {
                let cause = format!("its connection closed as it joined ({error})");
                Error::Lost(Lost { rank: *rank, cause, held: String::new(), status: Lost::GONE })
            })?;
        }
        let connect = |(rank, joined): (usize, Joined)| Ok((rank, Connection::new(joined.stream)?));
        let connections = joined.into_iter().map(connect).collect::<Result<_>>()?;
        let control = Control::start((0, identity.size), connections, last_act)?;
        Ok(Star { identity, door, control, addresses, patience, spins: false })
    }

    /// Other ranks: joins rank 0, which is at `centre`; also returns the job. `watch` may end the wait for it.
    /// `last_act` is for the control thread.
    pub(crate) fn join(
        identity: Identity,
        door: Door,
        patience: Patience,
        centre: SocketAddr,
        last_act: LastAct,
        mut watch: impl FnMut() -> Result<()>,
    ) -> Result<(Star, Welcome, Buffer)> {
        let stream = call_on("rank 0", centre, Role::Control, &identity, patience, &mut watch)?;
        let (welcome, job) = hear_welcome(&stream, patience, watch)?;
        if welcome.addresses.len() != identity.size {
            let (theirs, ours) = (welcome.addresses.len(), identity.size);
            return Err(Error::Launch(format!("rank 0 knows {theirs} ranks, this process expects {ours}")));
        }
        let place = (identity.rank, identity.size);
        let control = Control::start(place, vec![(0, Connection::new(stream)?)], last_act)?;
        let addresses = welcome.addresses.clone();
        Ok((Star { identity, door, control, addresses, patience, spins: false }, welcome, job))
    }

    /// Makes the mesh; every wait in it ends when a rank is lost.
    fn mesh(&mut self) -> Result<Vec<(usize, Connection)>> {
        let shared = self.control.shared.clone();
        let mut connections = BTreeMap::new();
        for rank in 0..self.identity.rank {
            let name = format!("rank {rank}");
            let peer = resolve(&self.addresses[rank])?;
            let stream = call_on(&name, peer, Role::Data, &self.identity, self.patience, || shared.check())?;
            connections.insert(rank, Connection::new(stream)?);
        }
        while connections.len() + 1 < self.identity.size {
            shared.check()?;
            if self.patience.is_over() {
                let have: Vec<usize> = connections.keys().copied().collect();
                return Err(Error::Launch(format!("data connections came only from the ranks {have:?}")));
            }
            for (stream, hello) in self.door.look(&self.identity, &[]) {
                let is_due = hello.role == Role::Data && hello.rank > self.identity.rank;
                if is_due && !connections.contains_key(&hello.rank) {
                    connections.insert(hello.rank, Connection::new(stream)?);
                } else {
                    self.door.refuse(&stream, "this rank has its connection already");
                }
            }
        }
        Ok(connections.into_iter().collect())
    }

    /// Runs the job that rank 0 sent as this rank.
    pub(crate) fn run_encoded<J: Job>(self, bytes: &Buffer) -> Result<Vec<J::Out>> {
        match decode_job::<J>(bytes) {
            Ok(job) => self.run(&job),
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// Tells the others that this rank cannot go on.
    pub(crate) fn give_up(self, error: Error) -> Error {
        first_cause(error, &self.control.shared)
    }

    /// Runs `job` as this rank; rank 0 returns what each rank returned, the others nothing.
    pub(crate) fn run<J: Job>(mut self, job: &J) -> Result<Vec<J::Out>> {
        let (rank, size) = (self.identity.rank, self.identity.size);
        let shared = self.control.shared.clone();
        let connections = self.mesh().map_err(|error| first_cause(error, &shared))?;
        let Star { door, control, spins, .. } = self;
        drop(door); // from here on nobody listens
        let mut comm = Comm::new(Box::new(TcpLink::new(rank, connections, control, spins)), rank, size);
        let outcome = guarded(|| {
            let out = job.body(&mut comm)?;
            let outs = gather_outs(&mut comm, out)?;
            comm.finish()?;
            Ok(outs)
        });
        // `comm` keeps the control thread alive, which tells the others.
        outcome.map_err(|error| first_cause(error, &shared))
    }
}

/// The error of this rank, unless another was lost before; then that loss. Tells the others.
fn first_cause(error: Error, shared: &Shared) -> Error {
    if let Err(lost) = shared.check() {
        return match lost {
            Error::Lost(lost) if lost.cause.starts_with(FAILED) => {
                let text = format!("rank {}: {}", lost.rank, &lost.cause[FAILED.len()..]);
                Error::Failed { status: lost.status, text }
            }
            lost => lost,
        };
    }
    shared.fail(format!("{FAILED}{error}"), error.status());
    error
}

/// How the cause begins if a rank's work failed while its process lived.
const FAILED: &str = "its work failed: ";

/// Brings what each rank returned to rank 0.
fn gather_outs<Out: serde::Serialize + serde::de::DeserializeOwned>(
    comm: &mut Comm,
    out: Out,
) -> Result<Vec<Out>> {
    if comm.rank() != 0 {
        let bytes = postcard::to_stdvec(&out).map_err(|e| Error::Body(format!("its result: {e}")))?;
        comm.send(0, Channel::RESULT, Message::new(&(), Buffer::from(&bytes[..])))?;
        return Ok(Vec::new());
    }
    let mut outs = vec![out];
    for rank in 1..comm.size() {
        let message = loop {
            // A rank may work long after rank 0 is done; the control star tells if it is lost.
            let deadline = comm.now() + Duration::from_secs(3600);
            if let Some(message) = comm.recv_deadline(Channel::RESULT, Some(rank), deadline)? {
                break message;
            }
        };
        let out = postcard::from_bytes(message.body.bytes());
        outs.push(out.map_err(|e| message.bad(format!("its result does not decode: {e}")))?);
    }
    Ok(outs)
}

fn missing(identity: &Identity, joined: &BTreeMap<usize, Joined>, door: &Door, patience: Patience) -> Error {
    let missing: Vec<String> =
        (1..identity.size).filter(|rank| !joined.contains_key(rank)).map(|rank| rank.to_string()).collect();
    let (noun, verb) = if missing.len() == 1 { ("rank", "is") } else { ("ranks", "are") };
    let notes: String = door.refused.iter().map(|note| format!("; {note}")).collect();
    Error::Launch(format!(
        "expected {} ranks, {} joined within {} s; {noun} {} {verb} missing{notes}",
        identity.size,
        joined.len() + 1,
        patience.seconds(),
        missing.join(", ")
    ))
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let unknown = |why: String| Error::Launch(format!("the address {address:?} of a rank: {why}"));
    let mut found = address.to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("this name has no address".into()))
}

fn check_size(ranks: usize) -> Result<()> {
    match ranks {
        1..=MAX_RANKS => Ok(()),
        _ => Err(Error::Launch(format!("{ranks} ranks; a cluster has 1 to {MAX_RANKS}"))),
    }
}

fn encode_job<J: Job>(job: &J) -> Result<Buffer> {
    let bytes = postcard::to_stdvec(job).map_err(|e| Error::Launch(format!("the job {:?}: {e}", J::NAME)))?;
    Ok(Buffer::from(&bytes[..]))
}

fn decode_job<J: Job>(bytes: &Buffer) -> Result<J> {
    postcard::from_bytes(bytes.bytes())
        .map_err(|e| Error::Launch(format!("the job {:?} of rank 0 does not decode: {e}", J::NAME)))
}
