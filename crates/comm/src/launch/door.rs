//! The handshake: who may come in, and how to ask.
//!
//! Every connection begins with one [`Kind::Hello`] frame from the side that opened it. A stranger that says
//! something else, or nothing, is dropped and costs a few KiB at most. Rank 0 answers a control connection
//! with [`Kind::Welcome`]: the address book and the job, or why not.

use crate::link::connection::{note, wait};
use crate::time::{Clock, sleep};
use crate::wire::{Frame, HEADER_BYTES, Header, Kind, VERSION, decode};
use crate::{Buffer, Error, Result};
use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of a hello; what a stranger can make us hold.
const MAX_HELLO: usize = 4 << 10;
/// Most connections that have not said hello.
const MAX_STRANGERS: usize = 64;
/// How often whoever waits looks around for other news.
const ROUND: Duration = Duration::from_millis(50);
/// Version of this crate; ranks of one run have the same.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Control,
    Data,
}

/// The first thing said on a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    program: String,
    pub(crate) role: Role,
    pub(crate) rank: usize,
    pub(crate) size: usize,
    token: String,
    /// Where this rank listens.
    pub(crate) address: String,
    /// The name of the job it is about to run, if it knows.
    pub(crate) job: String,
}

/// What rank 0 tells those who joined. The job itself is the body of the frame.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Where each rank listens.
    pub(crate) addresses: Vec<String>,
    pub(crate) job: String,
}

/// Who this process is among the ranks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    pub(crate) token: String,
    /// Where it listens.
    pub(crate) address: String,
    pub(crate) job: String,
}

impl Identity {
    fn hello(&self, role: Role) -> Hello {
        Hello {
            program: PROGRAM.into(),
            role,
            rank: self.rank,
            size: self.size,
            token: self.token.clone(),
            address: self.address.clone(),
            job: self.job.clone(),
        }
    }

    /// Says why `hello` cannot come from a rank of this run.
    fn object(&self, hello: &Hello) -> Option<String> {
        let Hello { program, rank, size, .. } = hello;
        if program != PROGRAM {
            return Some(format!(
                "it is version {program}, this is {PROGRAM}; run the same program everywhere"
            ));
        }
        if hello.token != self.token {
            return Some("its token is not the one of this run".into());
        }
        if *size != self.size {
            return Some(format!("it expects {size} ranks, this run has {}", self.size));
        }
        if *rank >= self.size || *rank == self.rank {
            return Some(format!("it says it is rank {rank}; this is rank {} of {size}", self.rank));
        }
        if hello.job != self.job && !hello.job.is_empty() && !self.job.is_empty() {
            return Some(format!("it runs the job {:?}, this run is {:?}", hello.job, self.job));
        }
        None
    }
}

/// A point in time up to which ranks may join.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    clock: Clock,
    total: Duration,
}

impl Patience {
    pub(crate) fn start(total: Duration) -> Patience {
        Patience { clock: Clock::start(), total }
    }

    pub(crate) fn left(&self) -> Duration {
        self.total.saturating_sub(Duration::from_nanos(self.clock.now().0))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.total.as_secs_f64()
    }
}

/// Reads one frame and not a byte more, from a stranger.
struct Greeting {
    bytes: Vec<u8>,
    limit: usize,
}

impl Greeting {
    /// A reader for a frame of at most `limit` bytes after the header.
    fn new(limit: usize) -> Greeting {
        Greeting { bytes: Vec::new(), limit }
    }

    /// Reads what there is; the frame, if it is complete.
    fn advance(&mut self, stream: &mut &TcpStream) -> Result<Option<Frame>> {
        loop {
            let end = match self.bytes.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES,
                Some(header) => {
                    let header = Header::decode(header)?;
                    let length = header.head_bytes + header.body_bytes;
                    if length > self.limit {
                        let limit = self.limit;
                        return Err(Error::BadFrame(format!(
                            "a greeting of {length} bytes; at most {limit}"
                        )));
                    }
                    HEADER_BYTES + length
                }
            };
            let start = self.bytes.len();
            if start == end {
                return decode(&self.bytes).map(|found| found.map(|(frame, _)| frame));
            }
            self.bytes.resize(end.min(start + (64 << 10)), 0); // grows as bytes come, not as the header claims
            let outcome = stream.read(&mut self.bytes[start..]);
            self.bytes.truncate(start + outcome.as_ref().copied().unwrap_or(0));
            match outcome {
                Ok(0) => return Err(Error::BadFrame("the connection closed before the greeting".into())),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { what: "reading a greeting".into(), source }),
            }
        }
    }
}

/// Where connections come in, and those that have not said hello yet.
pub(crate) struct Door {
    listener: TcpListener,
    strangers: Vec<(TcpStream, SocketAddr, Greeting)>,
    /// Why strangers were sent away, for the message if somebody is missing in the end.
    pub(crate) refused: Vec<String>,
}

impl Door {
    /// # Errors
    /// [`Error::Launch`] if the address cannot be listened at.
    pub(crate) fn open(address: SocketAddr) -> Result<Door> {
        let refuse = |error: std::io::Error| {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => "another program uses this port",
                ErrorKind::AddrNotAvailable => "this is no address of this host",
                _ => "the system refuses",
            };
            Error::Launch(format!("cannot listen at {address}: {hint} ({error})"))
        };
        let listener = TcpListener::bind(address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(Error::io("making a listener non-blocking"))?;
        Ok(Door { listener, strangers: Vec::new(), refused: Vec::new() })
    }

    /// # Errors
    /// [`Error::Io`] if the system does not say.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(Error::io("asking for the own address"))
    }

    /// Waits a moment for connections, and returns those that said a hello `identity` does not object to. The
    /// wait also ends when one of `others` has something to say.
    pub(crate) fn look(&mut self, identity: &Identity, others: &[&TcpStream]) -> Vec<(TcpStream, Hello)> {
        let mut sources = vec![PollFd::new(&self.listener, PollFlags::IN)];
        sources.extend(self.strangers.iter().map(|(stream, ..)| PollFd::new(stream, PollFlags::IN)));
        sources.extend(others.iter().map(|stream| PollFd::new(*stream, PollFlags::IN)));
        wait(&mut sources, ROUND);
        while let Ok((stream, address)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.strangers.push((stream, address, Greeting::new(MAX_HELLO)));
            }
        }
        let excess = self.strangers.len().saturating_sub(MAX_STRANGERS);
        self.strangers.drain(..excess);
        let mut admitted = Vec::new();
        for (stream, address, mut greeting) in std::mem::take(&mut self.strangers) {
            match greeting.advance(&mut &stream) {
                Ok(None) => self.strangers.push((stream, address, greeting)),
                Ok(Some(frame)) => match understand(&frame, identity) {
                    Ok(hello) => admitted.push((stream, hello)),
                    Err(why) => self.refuse(&stream, &why),
                },
                // A dunlin that speaks another version shall learn of it: its reader knows our header.
                Err(error) => self.refuse(&stream, &error.to_string()),
            }
        }
        admitted
    }

    /// Sends a stranger away and says why, to it and in the notes.
    pub(crate) fn refuse(&mut self, stream: &TcpStream, why: &str) {
        let address = stream.peer_addr().map_or("a peer".into(), |address| address.to_string());
        if self.refused.len() < 8 {
            self.refused.push(format!("{address} was sent away: {why}"));
        }
        let answer: std::result::Result<Welcome, String> = Err(why.into());
        let _ = answer_hello(stream, &answer, &Arc::default(), Duration::from_millis(100));
    }
}

fn understand(frame: &Frame, identity: &Identity) -> std::result::Result<Hello, String> {
    let hello: Hello = (frame.kind == Kind::Hello)
        .then(|| postcard::from_bytes(&frame.head).ok())
        .flatten()
        .ok_or("it does not begin with a hello of this version")?;
    identity.object(&hello).map_or(Ok(hello), Err)
}

/// Answers a hello on a control connection.
///
/// # Blocking
/// Until the system has taken all of it, for `patience` at most at each write.
pub(crate) fn answer_hello(
    stream: &TcpStream,
    answer: &std::result::Result<Welcome, String>,
    job: &Arc<Buffer>,
    patience: Duration,
) -> Result<()> {
    let head = postcard::to_stdvec(answer).map_err(|e| Error::Launch(format!("the address book: {e}")))?;
    let mut frame = note(Kind::Welcome, 0, 0, head);
    frame.body = job.clone();
    write_blocking(stream, &frame, patience)
}

fn write_blocking(mut stream: &TcpStream, frame: &Frame, patience: Duration) -> Result<()> {
    let header = frame.encode_header()?;
    let write = || {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(patience.max(Duration::from_millis(1))))?;
        stream.write_all(&header)?;
        stream.write_all(&frame.head)?;
        stream.write_all(frame.body.bytes())
    };
    let mut write = write;
    write().map_err(Error::io("greeting a peer"))
}

/// Connects to `peer`, which is known as `name`, and says hello. Retries while nobody listens there.
///
/// # Blocking
/// Until it answers or `patience` is over; `watch` is called now and then and may end the wait.
///
/// # Errors
/// [`Error::Launch`] that says whom it could not reach and why; what `watch` says.
pub(crate) fn call_on(
    name: &str,
    peer: SocketAddr,
    role: Role,
    identity: &Identity,
    patience: Patience,
    mut watch: impl FnMut() -> Result<()>,
) -> Result<TcpStream> {
    loop {
        watch()?;
        let limit = patience.left().clamp(Duration::from_millis(1), Duration::from_secs(1));
        let error = match TcpStream::connect_timeout(&peer, limit) {
            // A port that nobody listens at may be given to the very socket that asks for it.
            Ok(stream) if stream.local_addr().ok() != stream.peer_addr().ok() => {
                let head = postcard::to_stdvec(&identity.hello(role))
                    .map_err(|e| Error::Launch(format!("a hello: {e}")))?;
                write_blocking(&stream, &note(Kind::Hello, identity.rank, 0, head), limit)?;
                return Ok(stream);
            }
            Ok(_) => "nobody listens there".to_string(),
            Err(error) => error.to_string(),
        };
        if patience.is_over() {
            let seconds = patience.seconds();
            return Err(Error::Launch(format!("cannot reach {name} at {peer} within {seconds} s: {error}")));
        }
        sleep(ROUND.min(patience.left()));
    }
}

/// Reads the answer of rank 0: the welcome and the job.
///
/// # Blocking
/// Until it comes or `patience` is over; `watch` is called now and then and may end the wait.
///
/// # Errors
/// [`Error::Launch`] if rank 0 refuses, ends or does not answer; what `watch` says.
pub(crate) fn hear_welcome(
    stream: &TcpStream,
    patience: Patience,
    mut watch: impl FnMut() -> Result<()>,
) -> Result<(Welcome, Buffer)> {
    stream.set_nonblocking(true).map_err(Error::io("making a connection non-blocking"))?;
    let mut greeting = Greeting::new(crate::wire::MAX_HEAD + crate::wire::MAX_BODY);
    loop {
        let frame = greeting
            .advance(&mut &*stream)
            .map_err(|error| Error::Launch(format!("rank 0 does not let this rank in: {error}")))?;
        if let Some(frame) = frame {
            let body = Arc::into_inner(frame.body).unwrap_or_default();
            return match postcard::from_bytes::<std::result::Result<Welcome, String>>(&frame.head) {
                Ok(Ok(welcome)) if frame.kind == Kind::Welcome => Ok((welcome, body)),
                Ok(Err(why)) => Err(Error::Launch(format!("rank 0 sent this process away: {why}"))),
                _ => Err(Error::Launch(format!("rank 0 does not answer in wire version {VERSION}"))),
            };
        }
        if patience.is_over() {
            let seconds = patience.seconds();
            return Err(Error::Launch(format!(
                "rank 0 did not answer within {seconds} s; it waits for the other ranks"
            )));
        }
        watch()?;
        wait(&mut [PollFd::new(stream, PollFlags::IN)], patience.left().min(ROUND));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_program_is_told_both() {
        let identity =
            |rank| Identity { rank, size: 2, token: "t".into(), address: String::new(), job: String::new() };
        let hello = identity(1).hello(Role::Control);
        assert_eq!(identity(0).object(&hello), None);
        let text = identity(0).object(&Hello { program: "99.0.1".into(), ..hello }).unwrap_or_default();
        assert!(text.contains("version 99.0.1") && text.contains(PROGRAM), "{text}");
    }
}
