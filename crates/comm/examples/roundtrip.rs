//! Round trips and streams between two processes: ours next to plain blocking sockets, turn by turn.
//!
//!     cargo run --release -p dunlin-comm --example roundtrip [trips]
//!
//! With `trips` it measures round trips only.
//! Prints medians of several turns. `spin` is our wait where each rank has a processor, `sleep` where not.

use dunlin_comm::cluster::Job;
use dunlin_comm::time::Clock;
use dunlin_comm::{Buffer, Channel, Cluster, Comm, Error, Message, Result, child, job};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const TURNS: usize = 7;
const TRIPS: usize = 5000;
/// Bytes of a row of 32 numbers.
const ROW: usize = 128;
const STREAM_BYTES: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Bench {
    streams: bool,
}

impl Job for Bench {
    const NAME: &'static str = "roundtrip";
    type Out = Vec<String>;

    fn body(&self, comm: &mut Comm) -> Result<Vec<String>> {
        if comm.rank() > 1 {
            return comm.recv(Channel::USER, Some(0), "the end").map(|_| Vec::new());
        }
        let mut raw = connect(comm)?;
        let mut lines = Vec::new();
        let mut trips = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            trips[0].push(raw_trips(comm, &mut raw)?);
            trips[1].push(our_trips(comm)?);
        }
        let [raw_time, our_time] = trips.map(median);
        let ratio = our_time / raw_time;
        lines.push(format!(
            "round trip of {ROW} bytes: raw {raw_time:.1} µs, ours {our_time:.1} µs, {ratio:.2} x"
        ));
        for bytes in [64 << 10, 1 << 20, 16 << 20, 64 << 20].into_iter().filter(|_| self.streams) {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..TURNS {
                rates[0].push(raw_stream(comm, &mut raw, bytes)?);
                rates[1].push(our_stream(comm, bytes)?);
            }
            let [raw_rate, our_rate] = rates.map(median);
            let (kib, ratio) = (bytes >> 10, our_rate / raw_rate);
            lines.push(format!(
                "stream of {kib} KiB: raw {raw_rate:.2} GB/s, ours {our_rate:.2} GB/s, {ratio:.2} x"
            ));
        }
        if comm.rank() == 0 {
            (2..comm.size()).try_for_each(|to| comm.send(to, Channel::USER, Message::default()))?;
        }
        Ok(lines)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A plain connection between ranks 0 and 1.
fn connect(comm: &mut Comm) -> Result<TcpStream> {
    let stream = if comm.rank() == 0 {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listening"))?;
        let port = listener.local_addr().map_err(Error::io("listening"))?.port();
        comm.send(1, Channel::USER, Message::new(&port, Buffer::new()))?;
        listener.accept().map_err(Error::io("accepting"))?.0
    } else {
        let port = comm.recv(Channel::USER, Some(0), "the port")?.head::<u16>()?;
        TcpStream::connect(("127.0.0.1", port)).map_err(Error::io("connecting"))?
    };
    stream.set_nodelay(true).map_err(Error::io("TCP_NODELAY"))?;
    Ok(stream)
}

/// Microseconds of a round trip.
fn raw_trips(comm: &mut Comm, stream: &mut TcpStream) -> Result<f64> {
    let mut bytes = [0; ROW];
    comm.send(1 - comm.rank(), Channel::USER, Message::default())?;
    comm.recv(Channel::USER, Some(1 - comm.rank()), "the turn")?;
    let clock = Clock::start();
    for _ in 0..TRIPS {
        if comm.rank() == 0 {
            stream.write_all(&bytes).map_err(Error::io("writing"))?;
        }
        stream.read_exact(&mut bytes).map_err(Error::io("reading"))?;
        if comm.rank() == 1 {
            stream.write_all(&bytes).map_err(Error::io("writing"))?;
        }
    }
    Ok(clock.now().seconds() * 1e6 / TRIPS as f64)
}

fn our_trips(comm: &mut Comm) -> Result<f64> {
    let peer = 1 - comm.rank();
    comm.send(peer, Channel::USER, Message::default())?;
    comm.recv(Channel::USER, Some(peer), "the turn")?;
    let clock = Clock::start();
    for trip in 0..TRIPS {
        if comm.rank() == 0 {
            comm.send(peer, Channel::USER, Message::new(&trip, Buffer::zeroed(ROW)))?;
            comm.recv(Channel::USER, Some(peer), "the row")?;
        } else {
            let row = comm.recv(Channel::USER, Some(peer), "the row")?;
            comm.send(peer, Channel::USER, row)?;
        }
    }
    Ok(clock.now().seconds() * 1e6 / TRIPS as f64)
}

/// GB/s from rank 0 to rank 1 in pieces of `bytes`.
fn raw_stream(comm: &mut Comm, stream: &mut TcpStream, bytes: usize) -> Result<f64> {
    let mut piece = vec![1; bytes];
    comm.send(1 - comm.rank(), Channel::USER, Message::default())?;
    comm.recv(Channel::USER, Some(1 - comm.rank()), "the turn")?;
    let clock = Clock::start();
    for _ in 0..STREAM_BYTES / bytes {
        if comm.rank() == 0 {
            stream.write_all(&piece).map_err(Error::io("writing"))?;
        } else {
            stream.read_exact(&mut piece).map_err(Error::io("reading"))?;
        }
    }
    let mut end = [0];
    if comm.rank() == 0 {
        stream.read_exact(&mut end).map_err(Error::io("reading"))?;
    } else {
        stream.write_all(&end).map_err(Error::io("writing"))?;
    }
    Ok(STREAM_BYTES as f64 / clock.now().seconds() * 1e-9)
}

fn our_stream(comm: &mut Comm, bytes: usize) -> Result<f64> {
    let peer = 1 - comm.rank();
    let mut piece = Buffer::new();
    piece.extend(&vec![1u8; bytes]);
    let piece = Arc::new(piece);
    comm.send(peer, Channel::USER, Message::default())?;
    comm.recv(Channel::USER, Some(peer), "the turn")?;
    let clock = Clock::start();
    let count = STREAM_BYTES / bytes;
    // Pieces in flight are bounded, as the layers above bound what is not acknowledged.
    let window = (4 << 20 >> bytes.ilog2()).max(2);
    for sent in 0..count {
        if comm.rank() == 0 {
            comm.send(peer, Channel::USER, Message::shared(&sent, piece.clone()))?;
            if sent >= window {
                comm.recv(Channel::USER, Some(peer), "an answer")?;
            }
        } else {
            comm.recv(Channel::USER, Some(peer), "a piece")?;
            comm.send(peer, Channel::USER, Message::default())?;
        }
    }
    if comm.rank() == 0 {
        (0..window.min(count)).try_for_each(|_| comm.recv(Channel::USER, Some(peer), "the end").map(drop))?;
    }
    Ok(STREAM_BYTES as f64 / clock.now().seconds() * 1e-9)
}

#[expect(clippy::print_stdout, reason = "a program that prints its results")]
fn main() -> Result<()> {
    child(&[job::<Bench>()]);
    let job = Bench { streams: std::env::args().nth(1).as_deref() != Some("trips") };
    let processors = std::thread::available_parallelism().map_or(1, |p| p.get());
    // One rank more than processors: then nobody spins.
    for (name, ranks) in [("spin", 2), ("sleep", processors + 1)] {
        for line in Cluster::processes(ranks).run(&job)?.swap_remove(0) {
            println!("{name:>5}  {line}");
        }
    }
    Ok(())
}
