//! A framed connection that never blocks: bytes in and frames out, and the reverse.
//!
//! Large bodies are read straight into the buffer that the receiver gets, and written from the buffer that the
//! sender gave. Small frames come through a stage, many to a system call. The checksum is taken piece by piece
//! as bytes arrive, while they are in the cache.

use crate::wire::{Frame, HEADER_BYTES, Header, Kind};
use crate::{Buffer, Channel, Error, Result};
use rustix::event::{PollFd, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg, send, sendmsg,
};
use std::collections::VecDeque;
use std::hash::Hasher;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use twox_hash::XxHash3_64 as Xxh3;

/// Bytes of the stage. Of each large frame up to this much is copied twice, so it is kept small.
const STAGE_BYTES: usize = 16 << 10;
/// Most bytes of a body read at once, so that its checksum is taken in the cache.
const CHUNK_BYTES: usize = 256 << 10;
/// Most frames that one write gathers.
const GATHERED: usize = 8;
/// Frames up to this size go out as one piece: a copy is cheaper than to gather three.
const SMALL_BYTES: usize = 1 << 10;
/// How long a [`Connection::fill_patiently`] waits at most, about: the system counts in ticks.
pub(crate) const PATIENCE: Duration = Duration::from_millis(4);

/// How a look at a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Some bytes arrived.
    Some,
    /// Nothing has arrived.
    Nothing,
    /// The peer has closed the connection.
    Closed,
}

/// Waits until one of `sources` is ready or `timeout` has passed. An interrupted wait counts as ready.
pub(crate) fn wait(sources: &mut [PollFd<'_>], timeout: Duration) {
    let timeout = timeout.min(Duration::from_secs(3600)); // far future deadlines overflow the system's type
    let limit = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    let _ = poll(sources, Some(&limit)); // what failed shows when the source is read
}

/// Buffers that were delivered and may come back: the pool keeps a share of each, and takes those that nobody
/// else holds any more.
#[derive(Default)]
pub(crate) struct Pool {
    lent: VecDeque<Arc<Buffer>>,
    bytes: usize,
}

impl Pool {
    /// Smaller buffers are left to the allocator.
    const LEAST: usize = 16 << 10;
    /// Most bytes that the pool keeps alive: room for two bodies of 64 MiB.
    const MOST: usize = 128 << 20;
    /// Most buffers that it knows, so that looking for one is cheap.
    const COUNT: usize = 32;

    /// A buffer of `length` bytes with any content.
    fn take(&mut self, length: usize) -> Buffer {
        let fits = |b: &Arc<Buffer>| {
            Arc::strong_count(b) == 1 && b.len() >= length / 2 && b.len() <= length.saturating_mul(2)
        };
        let found = if length < Self::LEAST { None } else { self.lent.iter().position(fits) };
        let shared = found.and_then(|at| self.lent.remove(at));
        self.bytes -= shared.as_ref().map_or(0, |b| b.len());
        match shared.and_then(Arc::into_inner) {
            Some(mut buffer) => {
                buffer.resize(length);
                buffer
            }
            None => Buffer::zeroed(length),
        }
    }

    /// Remembers a buffer that goes out.
    fn lend(&mut self, buffer: &Arc<Buffer>) {
        if buffer.len() < Self::LEAST || buffer.len() > Self::MOST {
            return;
        }
        self.lent.push_back(buffer.clone());
        self.bytes += buffer.len();
        while self.bytes > Self::MOST || self.lent.len() > Self::COUNT {
            self.bytes -= self.lent.pop_front().map_or(self.bytes, |b| b.len());
        }
    }
}

/// A frame that has not arrived in full.
struct Partial {
    header: Header,
    /// A small frame has none: it is hashed at once when it is complete.
    hasher: Option<Xxh3>,
    head: Vec<u8>,
    body: Buffer,
    body_filled: usize,
}

impl Partial {
    fn new(header: Header, pool: &mut Pool) -> Partial {
        let body = pool.take(header.body_bytes);
        let head = Vec::with_capacity(header.head_bytes);
        let hasher = (!header.is_small()).then(|| header.hasher());
        Partial { hasher, head, body, body_filled: 0, header }
    }

    /// Takes what belongs to this frame from the front of `bytes`; returns how many that were.
    fn absorb(&mut self, bytes: &[u8]) -> usize {
        let (head, rest) = bytes.split_at(bytes.len().min(self.header.head_bytes - self.head.len()));
        if let Some(hasher) = &mut self.hasher {
            hasher.write(head);
        }
        self.head.extend_from_slice(head);
        let body = &rest[..rest.len().min(self.body_missing())];
        self.body.bytes_mut()[self.body_filled..][..body.len()].copy_from_slice(body);
        self.body_arrived(body.len());
        head.len() + body.len()
    }

    fn body_missing(&self) -> usize {
        self.body.len() - self.body_filled
    }

    /// Counts `length` more bytes that are in the body.
    fn body_arrived(&mut self, length: usize) {
        if let Some(hasher) = &mut self.hasher {
            hasher.write(&self.body.bytes()[self.body_filled..][..length]);
        }
        self.body_filled += length;
    }

    fn head_is_complete(&self) -> bool {
        self.head.len() == self.header.head_bytes
    }

    fn is_complete(&self) -> bool {
        self.head_is_complete() && self.body_missing() == 0
    }

    /// The frame, once it is complete.
    fn finish(self) -> Result<Frame> {
        match self.hasher {
            Some(hasher) => self.header.finish_hashed(self.head, self.body, hasher.finish()),
            None => self.header.finish(self.head, self.body),
        }
    }
}

/// The receiving side of a socket.
struct Source<'a> {
    stream: &'a TcpStream,
    flags: RecvFlags,
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        Ok(recv(self.stream, into, self.flags)?.1)
    }

    fn read_vectored(&mut self, pieces: &mut [IoSliceMut<'_>]) -> std::io::Result<usize> {
        let mut nothing = RecvAncillaryBuffer::default();
        Ok(recvmsg(self.stream, pieces, &mut nothing, self.flags)?.bytes)
    }
}

/// Turns bytes into frames, however they are cut.
pub(crate) struct Reader {
    stage: Box<[u8]>,
    /// Bytes in the stage that wait to be understood: less than a header, and none while a frame is partial.
    staged: usize,
    partial: Option<Partial>,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { stage: vec![0; STAGE_BYTES].into(), staged: 0, partial: None }
    }

    /// Reads once from `source` and appends the frames that are complete to `ready`.
    ///
    /// # Errors
    /// [`Error::BadFrame`] for bytes that are no frame; [`Error::Io`]. The reader is of no use after that.
    pub(crate) fn fill(
        &mut self,
        source: &mut impl Read,
        pool: &mut Pool,
        ready: &mut VecDeque<Frame>,
    ) -> Result<Progress> {
        let direct = self.partial.as_ref().is_some_and(Partial::head_is_complete);
        let outcome = loop {
            let outcome = if direct { self.read_body(source) } else { self.read_stage(source) };
            match outcome {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(0) => Ok(Progress::Closed),
            Ok(_) => self.understand(pool, ready).map(|()| Progress::Some),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Progress::Nothing),
            Err(source) => Err(Error::Io { what: "reading".into(), source }),
        }
    }

    fn read_stage(&mut self, source: &mut impl Read) -> std::io::Result<usize> {
        let count = source.read(&mut self.stage[self.staged..])?;
        self.staged += count;
        Ok(count)
    }

    /// Reads into the body of the partial frame, and what follows it into the stage.
    fn read_body(&mut self, source: &mut impl Read) -> std::io::Result<usize> {
        let Some(partial) = &mut self.partial else { return self.read_stage(source) };
        let missing = partial.body_missing();
        let room = missing.min(CHUNK_BYTES);
        let rest = &mut partial.body.bytes_mut()[partial.body_filled..][..room];
        let count = if room == missing {
            source.read_vectored(&mut [IoSliceMut::new(rest), IoSliceMut::new(&mut self.stage)])?
        } else {
            source.read(rest)?
        };
        partial.body_arrived(count.min(room));
        self.staged = count.saturating_sub(room);
        Ok(count)
    }

    /// Makes frames of what is there.
    fn understand(&mut self, pool: &mut Pool, ready: &mut VecDeque<Frame>) -> Result<()> {
        let mut start = 0;
        loop {
            let mut partial = match self.partial.take() {
                Some(partial) => partial,
                None => {
                    let rest = &self.stage[start..self.staged];
                    let Some(header) = rest.first_chunk::<HEADER_BYTES>() else { break };
                    let partial = Partial::new(Header::decode(header)?, pool);
                    start += HEADER_BYTES;
                    partial
                }
            };
            start += partial.absorb(&self.stage[start..self.staged]);
            if !partial.is_complete() {
                self.partial = Some(partial);
                break;
            }
            let frame = partial.finish()?;
            if frame.channel < Channel::KEPT.0 {
                pool.lend(&frame.body);
            }
            ready.push_back(frame);
        }
        self.stage.copy_within(start..self.staged, 0);
        self.staged -= start;
        Ok(())
    }
}

/// A frame on its way out.
struct Outgoing {
    header: [u8; HEADER_BYTES],
    frame: Frame,
    written: usize,
}

impl Outgoing {
    /// What is still to be written, as up to three pieces.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.written;
        [&self.header[..], &self.frame.head[..], self.frame.body.bytes()].into_iter().filter_map(
            move |piece| {
                let rest = &piece[skip.min(piece.len())..];
                skip = skip.saturating_sub(piece.len());
                (!rest.is_empty()).then_some(rest)
            },
        )
    }
}

/// No write blocks, and none is a plain one: a program may have chosen to be ended by SIGPIPE, for its standard
/// output.
const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// How much the system took of a write; 0 if it takes nothing now.
fn written(outcome: rustix::io::Result<usize>) -> Result<usize> {
    match outcome {
        Ok(count) => Ok(count),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(0),
        Err(errno) => Err(Error::Io { what: "writing".into(), source: errno.into() }),
    }
}

/// A connection to one peer and what waits on both of its sides.
pub(crate) struct Connection {
    stream: TcpStream,
    reader: Reader,
    queue: VecDeque<Outgoing>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Result<Connection> {
        // The socket itself blocks, for a patient read; everything else asks not to, call by call.
        stream.set_nonblocking(false).map_err(Error::io("making a connection blocking"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(Error::io("setting SO_RCVTIMEO"))?;
        stream.set_nodelay(true).map_err(Error::io("setting TCP_NODELAY"))?;
        Ok(Connection { stream, reader: Reader::new(), queue: VecDeque::new() })
    }

    /// True if both its ends have one address.
    pub(crate) fn is_one_host(&self) -> bool {
        let (Ok(here), Ok(there)) = (self.stream.local_addr(), self.stream.peer_addr()) else { return false };
        here.ip() == there.ip()
    }

    /// Queues `frame`, and writes at once as much as the system takes if nothing waits before it.
    ///
    /// # Errors
    /// [`Error::BadFrame`] if it is over a limit; [`Error::Io`] if the connection is broken.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<()> {
        let header = frame.encode_header()?;
        let first = self.queue.is_empty();
        let written =
            if first && frame.wire_bytes() <= SMALL_BYTES { self.write_small(&header, &frame)? } else { 0 };
        if written == frame.wire_bytes() {
            return Ok(());
        }
        self.queue.push_back(Outgoing { header, frame, written });
        if first { self.flush() } else { Ok(()) }
    }

    /// Writes a small frame as one piece; returns how much of it the system took.
    fn write_small(&mut self, header: &[u8; HEADER_BYTES], frame: &Frame) -> Result<usize> {
        let mut piece = [0; SMALL_BYTES];
        let (head, body) = (&frame.head[..], frame.body.bytes());
        let body_start = HEADER_BYTES + head.len();
        piece[..HEADER_BYTES].copy_from_slice(header);
        piece[HEADER_BYTES..body_start].copy_from_slice(head);
        piece[body_start..][..body.len()].copy_from_slice(body);
        written(send(&self.stream, &piece[..body_start + body.len()], SEND_FLAGS))
    }

    /// Writes as much of the queue as the system takes now.
    ///
    /// # Errors
    /// [`Error::Io`] if the connection is broken.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3 * GATHERED];
            let mut used = 0;
            for piece in self.queue.iter().take(GATHERED).flat_map(Outgoing::pieces) {
                slices[used] = IoSlice::new(piece);
                used += 1;
            }
            let mut nothing = SendAncillaryBuffer::default();
            match written(sendmsg(&self.stream, &slices[..used], &mut nothing, SEND_FLAGS))? {
                0 => break,
                count => self.written(count),
            }
        }
        Ok(())
    }

    fn written(&mut self, mut count: usize) {
        while let Some(first) = self.queue.front_mut() {
            let left = first.frame.wire_bytes() - first.written;
            if count < left {
                first.written += count;
                return;
            }
            count -= left;
            self.queue.pop_front();
        }
    }

    /// True while something waits to be written.
    pub(crate) fn is_writing(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Forgets what waits to be written.
    pub(crate) fn discard(&mut self) {
        self.queue.clear();
    }

    /// Reads once what has arrived and appends the frames that are complete to `ready`.
    ///
    /// # Errors
    /// As [`Reader::fill`].
    pub(crate) fn fill(&mut self, pool: &mut Pool, ready: &mut VecDeque<Frame>) -> Result<Progress> {
        let mut source = Source { stream: &self.stream, flags: RecvFlags::DONTWAIT };
        self.reader.fill(&mut source, pool, ready)
    }

    /// Like [`Connection::fill`], but sleeps in the read until something arrives or [`PATIENCE`] has passed:
    /// one call of the system instead of two.
    ///
    /// # Errors
    /// As [`Reader::fill`].
    pub(crate) fn fill_patiently(
        &mut self,
        pool: &mut Pool,
        ready: &mut VecDeque<Frame>,
    ) -> Result<Progress> {
        let mut source = Source { stream: &self.stream, flags: RecvFlags::empty() };
        self.reader.fill(&mut source, pool, ready)
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// A frame of the link's own, without a body.
pub(crate) fn note(kind: Kind, from: usize, to: usize, head: Vec<u8>) -> Frame {
    let body = Arc::new(Buffer::new());
    Frame { kind, from: from as u16, to: to as u16, channel: 0, view: 0, sequence: 0, head, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Numbers that look random: splitmix64.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) as usize >> 1
        }

        fn frame(&mut self, sequence: u64) -> Frame {
            let most = [1, 100, 20_000, 600_000][self.next() % 4];
            let mut body = Buffer::zeroed(self.next() % most);
            body.bytes_mut().iter_mut().for_each(|byte| *byte = self.next() as u8);
            let head = (0..self.next() % most.min(20_000)).map(|_| self.next() as u8).collect();
            Frame { sequence, body: Arc::new(body), ..note(Kind::Data, 1, 2, head) }
        }
    }

    /// Gives bytes in pieces of random size, with pauses; then it is closed.
    struct Pieces<'a> {
        bytes: &'a [u8],
        numbers: Numbers,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.numbers.next().is_multiple_of(3) && !self.bytes.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let most = [1, 50, 5000, usize::MAX][self.numbers.next() % 4];
            let count = into.len().min(self.bytes.len()).min(most);
            let (now, later) = self.bytes.split_at(count);
            into[..count].copy_from_slice(now);
            self.bytes = later;
            Ok(count)
        }

        fn read_vectored(&mut self, pieces: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            let mut total = 0;
            for piece in pieces {
                match self.read(piece) {
                    Ok(count) => total += count,
                    Err(error) if total == 0 => return Err(error),
                    Err(_) => break,
                }
                if self.numbers.next().is_multiple_of(2) || total < piece.len() {
                    break; // only a filled piece is followed by the next
                }
            }
            Ok(total)
        }
    }

    /// All frames in `bytes`, and the error that ended the reading, if any.
    fn read_all(bytes: &[u8], seed: u64) -> (Vec<Frame>, Option<Error>) {
        let mut source = Pieces { bytes, numbers: Numbers(seed) };
        let (mut reader, mut pool, mut ready) = (Reader::new(), Pool::default(), VecDeque::new());
        let error = loop {
            match reader.fill(&mut source, &mut pool, &mut ready) {
                Ok(Progress::Closed) => break None,
                Ok(_) => {}
                Err(error) => break Some(error),
            }
        };
        (ready.into(), error)
    }

    fn assert_same(sent: &Frame, found: &Frame, seed: u64) {
        assert_eq!(sent.sequence, found.sequence, "seed {seed}");
        assert_eq!((sent.from, sent.to, sent.kind), (found.from, found.to, found.kind), "seed {seed}");
        assert!(sent.head == found.head && sent.body.bytes() == found.body.bytes(), "seed {seed}");
    }

    #[test]
    fn frames_arrive_however_they_are_cut() {
        for seed in 0..60 {
            let mut numbers = Numbers(seed);
            let sent: Vec<Frame> = (1..12).map(|sequence| numbers.frame(sequence)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.encode().unwrap()).collect();
            let (found, error) = read_all(&bytes, seed);
            assert!(error.is_none(), "seed {seed}: {error:?}");
            assert_eq!(found.len(), sent.len(), "seed {seed}");
            sent.iter().zip(&found).for_each(|(a, b)| assert_same(a, b, seed));
        }
    }

    #[test]
    fn random_bytes_are_refused() {
        for seed in 0..2000 {
            let mut numbers = Numbers(seed);
            let mut bytes: Vec<u8> = (0..numbers.next() % 300).map(|_| numbers.next() as u8).collect();
            if seed % 2 == 0 && bytes.len() >= HEADER_BYTES {
                // As far into a header as garbage gets by chance: magic, version, kind, small lengths.
                bytes[..6].copy_from_slice(b"DLNf\x01\x00");
                bytes[24..32].copy_from_slice(&[7, 0, 0, 0, 9, 0, 0, 0]);
            }
            let (found, error) = read_all(&bytes, seed);
            assert!(found.is_empty(), "seed {seed}");
            assert!(error.is_some() || bytes.len() < HEADER_BYTES + 16, "seed {seed}: it waits for more");
        }
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_passes() {
        let mut numbers = Numbers(7);
        let head = (0..30).map(|_| numbers.next() as u8).collect();
        let body = Arc::new(Buffer::from(&[1.5f32, -2.0, 3.25][..]));
        let frame = Frame { body, sequence: 9, ..note(Kind::Data, 1, 2, head) };
        let bytes = frame.encode().unwrap();
        for end in 0..bytes.len() {
            let (found, error) = read_all(&bytes[..end], end as u64);
            assert!(found.is_empty() && error.is_none(), "cut at {end}: {error:?}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (found, _) = read_all(&bytes, bit as u64);
            assert!(found.is_empty(), "bit {bit} flipped, and nobody noticed");
        }
    }

    #[test]
    fn a_returned_buffer_is_used_again() {
        let mut pool = Pool::default();
        let first = Arc::new(pool.take(100_000));
        pool.lend(&first);
        let place = first.bytes().as_ptr();
        assert_ne!(pool.take(100_000).bytes().as_ptr(), place, "it is still in use");
        drop(first);
        assert_eq!(pool.take(90_000).bytes().as_ptr(), place);
    }

    /// Of a body on one of the channels from [`Channel::KEPT`] on the pool keeps no share.
    #[test]
    fn a_body_that_is_to_be_kept_belongs_to_its_receiver_alone() {
        for (channel, shares) in [(Channel::USER.0, 2), (Channel::KEPT.0, 1), (u16::MAX, 1)] {
            let body = Arc::new(Buffer::zeroed(2 * Pool::LEAST));
            let frame = Frame { body, channel, sequence: 1, ..note(Kind::Data, 0, 1, Vec::new()) };
            let bytes = frame.encode().unwrap();
            let (mut reader, mut pool, mut ready) = (Reader::new(), Pool::default(), VecDeque::new());
            let mut source = &bytes[..];
            while reader.fill(&mut source, &mut pool, &mut ready).unwrap() == Progress::Some {}
            let found = ready.pop_front().unwrap();
            assert_eq!((found.channel, Arc::strong_count(&found.body)), (channel, shares));
        }
    }
}
