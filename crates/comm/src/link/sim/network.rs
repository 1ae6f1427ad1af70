//! NICs, links and the frames on them: what happens to a frame from the moment it is sent, as events.
//!
//! ```text
//! Submit ──▶ the sender's NIC, one frame after the other ──latency──▶ Arrive (first byte)
//!        ──▶ the receiver's NIC, one frame after the other ──▶ Deliver (last byte)
//! ```
//!
//! Bytes flow through both NICs at once, so that a frame alone takes latency + bytes / bandwidth.

use super::config::{Network, SimConfig, nanos};
use super::faults::Fault;
use super::random::{Purpose, Random, mix};
use crate::wire::Frame;
use crate::{Lost, Time};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

/// From which rank to which.
pub(super) type Ends = (usize, usize);

/// What can happen. `connection` counts the connections of a link: events of a broken one are stale.
#[derive(Debug)]
pub(super) enum Event {
    /// A frame enters its sender's NIC.
    Submit(Frame),
    /// The first byte of a link's next frame reaches the receiver's NIC.
    Arrive { ends: Ends, connection: u32 },
    /// The last byte of a link's oldest frame is received.
    Deliver { ends: Ends, connection: u32 },
    /// The fault of this index begins.
    Fault(usize),
    /// The signs of life over a link that was cut are missed.
    CutNoticed { a: usize, b: usize },
    /// The loss becomes known to all.
    Announce(Lost),
}

impl Event {
    /// Events of one source keep their order when their times are equal; of others the seed decides.
    fn source(&self) -> u64 {
        match self {
            Event::Submit(frame) => u64::from(frame.from),
            Event::Arrive { ends, .. } => 1 << 40 | (ends.0 as u64) << 20 | ends.1 as u64,
            Event::Deliver { ends, .. } => 2 << 40 | (ends.0 as u64) << 20 | ends.1 as u64,
            Event::Fault(index) => 3 << 40 | *index as u64,
            Event::CutNoticed { a, b } => 5 << 40 | (*a as u64) << 20 | *b as u64,
            Event::Announce(lost) => 4 << 40 | lost.rank as u64,
        }
    }
}

struct Entry {
    /// Time, tie, and how many events were queued before.
    key: (Time, u64, u64),
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key == other.key
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.key.cmp(&other.key)
    }
}

/// The events to come, earliest first.
pub(super) struct Queue {
    seed: u64,
    queued: u64,
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Queue {
    pub(super) fn new(seed: u64) -> Queue {
        Queue { seed, queued: 0, heap: BinaryHeap::new() }
    }

    pub(super) fn push(&mut self, time: Time, event: Event) {
        self.queued += 1;
        let key = (time, tie(self.seed, time, event.source()), self.queued);
        self.heap.push(Reverse(Entry { key, event }));
    }

    pub(super) fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(entry)| entry.key.0)
    }

    pub(super) fn pop(&mut self) -> Option<(Time, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.key.0, entry.event))
    }
}

/// Orders what happens at one `time`: a number that only the seed explains.
pub(super) fn tie(seed: u64, time: Time, source: u64) -> u64 {
    mix(seed ^ mix(time.0 ^ mix(source)))
}

/// How many delivered frames a link keeps, to send them again after a reconnect.
const REMEMBERED: usize = 3;

/// One direction between two ranks.
struct Line {
    random: Random,
    connection: u32,
    cut: bool,
    /// When the first byte of the latest frame arrives: no later frame overtakes it.
    latest: Time,
    /// Submitted and not delivered, oldest first; the first `arriving` have reached the receiver's NIC.
    in_flight: VecDeque<Frame>,
    arriving: usize,
    /// The last frames delivered, if a reconnect is to come.
    delivered: Option<VecDeque<Frame>>,
}

/// All NICs and links.
pub(super) struct Wires {
    seed: u64,
    network: Network,
    send_free: Vec<Time>,
    receive_free: Vec<Time>,
    lines: BTreeMap<Ends, Line>,
    reconnecting: Vec<Ends>,
}

impl Wires {
    pub(super) fn new(config: &SimConfig) -> Wires {
        let reconnecting = config.faults.iter().filter_map(|fault| match *fault {
            Fault::Reconnect { a, b, .. } => Some((a, b)),
            _ => None,
        });
        Wires {
            seed: config.seed,
            network: config.network,
            send_free: vec![Time(0); config.ranks],
            receive_free: vec![Time(0); config.ranks],
            lines: BTreeMap::new(),
            reconnecting: reconnecting.collect(),
        }
    }

    fn line(&mut self, ends: Ends) -> &mut Line {
        let (seed, reconnecting) = (self.seed, &self.reconnecting);
        self.lines.entry(ends).or_insert_with(|| Line {
            random: Random::new(seed, Purpose::Link, ends.0 << 20 | ends.1),
            connection: 0,
            cut: false,
            latest: Time(0),
            in_flight: VecDeque::new(),
            arriving: 0,
            delivered: (reconnecting.contains(&ends) || reconnecting.contains(&(ends.1, ends.0)))
                .then(VecDeque::new),
        })
    }

    fn transmission(&self, bytes: usize) -> Duration {
        let seconds = bytes as f64 * 8.0 / self.network.bandwidth_bits_per_second;
        Duration::from_nanos(nanos(seconds))
    }

    /// The time from one NIC to another without jitter.
    pub(super) fn latency(&self) -> Duration {
        Duration::from_nanos(nanos(self.network.latency_seconds))
    }

    /// When all frames that `rank` submitted so far have left it.
    pub(super) fn drained(&self, rank: usize) -> Time {
        self.send_free[rank]
    }

    /// A frame enters its sender's NIC and takes `extra` longer than usual.
    pub(super) fn submit(&mut self, now: Time, frame: Frame, extra: Duration, queue: &mut Queue) {
        let ends = (usize::from(frame.from), usize::from(frame.to));
        let (transmission, network) = (self.transmission(frame.wire_bytes()), self.network);
        if self.line(ends).cut {
            return;
        }
        let start = self.send_free[ends.0].max(now);
        self.send_free[ends.0] = start + transmission;
        let line = self.line(ends);
        let latency = network.latency_seconds * (1.0 + network.jitter * line.random.unit());
        let first_byte = (start + Duration::from_nanos(nanos(latency)) + extra).max(line.latest);
        line.latest = first_byte;
        line.in_flight.push_back(frame);
        queue.push(first_byte, Event::Arrive { ends, connection: line.connection });
    }

    /// A frame's first byte is there.
    pub(super) fn arrive(&mut self, now: Time, ends: Ends, connection: u32, queue: &mut Queue) {
        let line = self.line(ends);
        if line.connection != connection || line.cut {
            return;
        }
        let Some(bytes) = line.in_flight.get(line.arriving).map(Frame::wire_bytes) else { return };
        line.arriving += 1;
        let done = self.receive_free[ends.1].max(now) + self.transmission(bytes);
        self.receive_free[ends.1] = done;
        queue.push(done, Event::Deliver { ends, connection });
    }

    /// A frame's last byte is there: the frame, unless the connection it was on is gone.
    pub(super) fn deliver(&mut self, ends: Ends, connection: u32) -> Option<Frame> {
        let line = self.line(ends);
        if line.connection != connection || line.cut {
            return None;
        }
        let frame = line.in_flight.pop_front()?;
        line.arriving = line.arriving.saturating_sub(1);
        if let Some(delivered) = &mut line.delivered {
            delivered.push_back(frame.clone());
            if delivered.len() > REMEMBERED {
                delivered.pop_front();
            }
        }
        Some(frame)
    }

    /// Nothing passes in this direction any more.
    pub(super) fn cut(&mut self, ends: Ends) {
        let line = self.line(ends);
        line.cut = true;
        line.in_flight.clear();
    }

    /// The connection breaks. What was in flight is sent again on the next one, after a handshake of two
    /// latencies and after some frames that had arrived already. Says how many of each.
    pub(super) fn reconnect(&mut self, now: Time, ends: Ends, queue: &mut Queue) -> (usize, usize) {
        let handshake = self.latency() * 2;
        let line = self.line(ends);
        if line.cut {
            return (0, 0);
        }
        line.connection += 1;
        line.latest = now + handshake;
        line.arriving = 0;
        let lost = std::mem::take(&mut line.in_flight);
        let delivered = line.delivered.clone().unwrap_or_default();
        let doubled = if delivered.is_empty() { 0 } else { 1 + line.random.below(delivered.len()) };
        let resent = lost.len();
        for frame in delivered.into_iter().rev().take(doubled).rev().chain(lost) {
            self.submit(now, frame, Duration::ZERO, queue);
        }
        (resent, doubled)
    }
}
