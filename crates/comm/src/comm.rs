//! [`Comm`]: the only handle a rank gets, and the only thing that waits.

use crate::link::Link;
use crate::standing::{self, Doing, Standing};
use crate::wire::{Frame, Kind};
use crate::{Buffer, Error, Result, Time};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Names a conversation: messages of one channel are received apart from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u16);

impl Channel {
    /// Messages for the receiving rank's [`Service`].
    pub const SERVICE: Channel = Channel(0);
    /// The collectives of this crate.
    pub const COLLECTIVE: Channel = Channel(1);
    /// What a rank in another process returns.
    pub(crate) const RESULT: Channel = Channel(2);
    /// First channel that is free for users of this crate.
    pub const USER: Channel = Channel(16);
    /// First of the channels, also free for users, on which the body of a message belongs to its receiver alone, to be kept or
    /// sent on without a copy ([`Arc::unwrap_or_clone`]). On the others a link over connections keeps a share of
    /// large bodies, and uses their memory again.
    pub const KEPT: Channel = Channel(1 << 15);
}

/// A small structured head and a large flat body. The body is shared: cloning a message copies no numbers.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The rank that sent it.
    pub from: usize,
    /// The head, encoded by [`Message::new`].
    pub head: Vec<u8>,
    /// The body.
    pub body: Arc<Buffer>,
}

impl Message {
    /// A message with `head` encoded.
    pub fn new<H: Serialize>(head: &H, body: Buffer) -> Message {
        Message::shared(head, Arc::new(body))
    }

    /// A message whose body other messages have too.
    pub fn shared<H: Serialize>(head: &H, body: Arc<Buffer>) -> Message {
        #[expect(clippy::expect_used, reason = "plain data always encode; a failure is a bug of ours")]
        let head = postcard::to_stdvec(head).expect("a message head is plain data");
        Message { from: 0, head, body }
    }

    /// The head, decoded.
    ///
    /// # Errors
    /// [`Error::BadMessage`] if the bytes are no `H`.
    pub fn head<H: DeserializeOwned>(&self) -> Result<H> {
        postcard::from_bytes(&self.head).map_err(|e| self.bad(format!("its head does not decode: {e}")))
    }

    /// `count` numbers at byte `offset` of the body.
    ///
    /// # Errors
    /// [`Error::BadMessage`] if the body is too short.
    pub fn numbers<T: bytemuck::Pod>(&self, offset: usize, count: usize) -> Result<&[T]> {
        self.body.slice(offset, count).ok_or_else(|| {
            self.bad(format!("{count} numbers at byte {offset} of a body of {} bytes", self.body.len()))
        })
    }

    /// An error that says what is wrong with this message.
    pub fn bad(&self, what: impl Into<String>) -> Error {
        Error::BadMessage { from: self.from, what: what.into() }
    }
}

/// Messages that a [`Service`] wants sent: receiver, channel, message.
pub type Outbox = Vec<(usize, Channel, Message)>;

/// A state machine that lives at a rank and answers messages; it never waits and does no IO.
pub trait Service: Send {
    /// Handles one message from `message.from` and puts what is to be sent into `out`.
    ///
    /// # Errors
    /// [`Error::BadMessage`] for what it does not understand; ends the run.
    fn handle(&mut self, message: Message, out: &mut Outbox) -> Result<()>;
}

/// A rank's handle on the cluster: who it is, and all it can send, receive and wait for.
pub struct Comm {
    link: Box<dyn Link>,
    rank: usize,
    size: usize,
    view: u32,
    inbox: BTreeMap<Channel, VecDeque<Message>>,
    service: Option<Box<dyn Service>>,
    sent: Vec<u64>,
    seen: Vec<u64>,
    counters: Counters,
    stall_timeout: Duration,
    members: usize,
    /// Told once of every wait that takes long.
    warn: Option<Warn>,
}

/// Is told in words of a wait that takes long.
pub type Warn = Box<dyn FnMut(&str) + Send>;

/// What a rank's communication did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames of an older view of the membership, dropped.
    pub old_view: u64,
    /// Frames that came a second time after a reconnect, dropped.
    pub duplicates: u64,
    /// Nanoseconds spent waiting in [`Comm::recv`].
    pub waited_nanos: u64,
}

/// After how long a wait is told of.
const SLOW: Duration = Duration::from_secs(5);

/// How long a wait may last without progress by default.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(120);

impl Comm {
    /// The handle of `rank` among `size` ranks. For clusters and tests; rank code is given one.
    pub fn new(link: Box<dyn Link>, rank: usize, size: usize) -> Comm {
        Comm {
            link,
            rank,
            size,
            view: 0,
            inbox: BTreeMap::new(),
            service: None,
            sent: vec![0; size],
            seen: vec![0; size],
            counters: Counters::default(),
            stall_timeout: DEFAULT_STALL_TIMEOUT,
            members: size,
            warn: None,
        }
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The number of ranks that take part in collectives: the first so many. All, unless limited.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Lets only the first `members` ranks take part in collectives; the others serve.
    pub fn limit_collectives(&mut self, members: usize) {
        self.members = members.min(self.size);
    }

    /// Sets who is told of waits that take more than 5 seconds. Not asked under the simulator, where time is free.
    pub fn set_warning(&mut self, warn: Warn) {
        self.warn = Some(warn);
    }

    /// The longest that a wait of this rank may last while nobody it waits for makes progress.
    pub fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// The version of the membership that this handle belongs to.
    pub fn view(&self) -> u32 {
        self.view
    }

    /// The time on this rank.
    pub fn now(&self) -> Time {
        self.link.now()
    }

    /// True where time is virtual.
    pub fn is_simulated(&self) -> bool {
        self.link.is_simulated()
    }

    /// True if all ranks are on this host: what is sent is copied, and no network is in between.
    pub fn is_one_host(&self) -> bool {
        self.link.is_one_host()
    }

    /// True where ranks share memory and services are called in place.
    pub fn shares_memory(&self) -> bool {
        self.link.services().is_some()
    }

    /// Charges `cost` of computing; see [`Link::compute`].
    pub fn compute(&mut self, cost: Duration) {
        self.link.compute(cost);
    }

    /// Stands still for `duration`, as a slow machine does: in virtual time under the simulator. Meanwhile this
    /// rank's service does not answer.
    pub fn pause(&mut self, duration: Duration) {
        if self.is_simulated() {
            self.compute(duration);
        } else {
            crate::time::sleep(duration);
        }
    }

    /// Says what this rank does or holds, for the messages that name it if it is lost or slow. Counts as progress.
    pub fn describe(&mut self, held: &str) {
        self.link.describe(held);
    }

    /// Sets how long any wait of this rank may last while nobody it waits for makes progress.
    pub fn set_stall_timeout(&mut self, timeout: Duration) {
        self.stall_timeout = timeout;
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Framed bytes sent over connections so far.
    pub fn bytes_sent(&self) -> u64 {
        self.link.bytes_sent()
    }

    /// Puts a service at this rank; messages on [`Channel::SERVICE`] go to it.
    pub fn install(&mut self, service: Box<dyn Service>) {
        self.wrap_service(|_| service);
    }

    /// Puts a service in the place of the one that this rank has, which it is given.
    pub fn wrap_service(&mut self, wrap: impl FnOnce(Option<Box<dyn Service>>) -> Box<dyn Service>) {
        match self.link.services() {
            Some(services) => {
                let mut place = services[self.rank].lock().unwrap_or_else(PoisonError::into_inner);
                *place = Some(wrap(place.take()));
            }
            None => self.service = Some(wrap(self.service.take())),
        }
    }

    /// Sends `message` to rank `to` (the own rank is allowed). Never blocks.
    ///
    /// # Errors
    /// [`Error::Lost`] if a rank is known to be lost.
    pub fn send(&mut self, to: usize, channel: Channel, mut message: Message) -> Result<()> {
        // Where services are called in place, a service's messages to this rank come from several senders; one
        // mailbox keeps them in the order in which they were made.
        if to == self.rank && !self.shares_memory() {
            message.from = self.rank;
            return self.deliver(channel, message);
        }
        self.sent[to] += 1;
        self.link.send(Frame {
            kind: Kind::Data,
            from: self.rank as u16,
            to: to as u16,
            channel: channel.0,
            view: self.view,
            sequence: self.sent[to],
            head: message.head,
            body: message.body,
        })
    }

    /// Sends `message` to the service of rank `to`: in place where memory is shared, else as a frame.
    ///
    /// # Errors
    /// As [`Comm::send`]; in place also what the service says.
    pub fn call(&mut self, to: usize, mut message: Message) -> Result<()> {
        message.from = self.rank;
        let Some(services) = self.link.services().cloned() else {
            return self.send(to, Channel::SERVICE, message);
        };
        let mut place = services[to].lock().unwrap_or_else(PoisonError::into_inner);
        let Some(service) = place.as_mut() else {
            drop(place); // its owner has not installed it yet, and will find the message when it looks
            return self.send(to, Channel::SERVICE, message);
        };
        let mut out = Outbox::new();
        service.handle(message, &mut out)?;
        out.into_iter().try_for_each(|(to, channel, message)| self.send(to, channel, message))
    }

    /// Takes in everything that has arrived and lets the service answer; does not wait.
    ///
    /// # Errors
    /// [`Error::Lost`] if a rank is lost.
    pub fn poll(&mut self) -> Result<()> {
        while let Some(frame) = self.link.receive(Time(0))? {
            self.accept(frame)?;
        }
        Ok(())
    }

    /// A message of `channel` (from `from`, if given) that has arrived already.
    ///
    /// # Errors
    /// [`Error::Lost`] if a rank is lost.
    pub fn try_recv(&mut self, channel: Channel, from: Option<usize>) -> Result<Option<Message>> {
        if let Some(message) = self.take(channel, from) {
            return Ok(Some(message));
        }
        self.poll()?;
        Ok(self.take(channel, from))
    }

    /// The next message of `channel` (from `from`, if given).
    ///
    /// # Blocking
    /// Until it arrives; meanwhile this rank's service answers. `what` says in messages what is waited for.
    ///
    /// # Errors
    /// [`Error::Timeout`] once whoever is waited for has made no progress for the stall timeout: the rank `from`, or
    /// if that one waits itself, or none is given, all others. [`Error::Lost`] as soon as any rank is lost.
    pub fn recv(&mut self, channel: Channel, from: Option<usize>, what: &str) -> Result<Message> {
        let start = self.now();
        // Where it costs, how far the others are is asked for only by a wait that takes long.
        let early = if self.is_simulated() { self.stall_timeout } else { self.stall_timeout.min(SLOW) / 2 };
        if let Some(message) = self.recv_deadline(channel, from, start + early)? {
            return Ok(message);
        }
        self.link.watch(true);
        let outcome = self.recv_long(channel, from, what, start);
        self.link.watch(false);
        outcome
    }

    /// The long part of a wait since `start`: it is told of once, and ends when nobody moves any more.
    #[cold]
    fn recv_long(
        &mut self,
        channel: Channel,
        from: Option<usize>,
        what: &str,
        start: Time,
    ) -> Result<Message> {
        let warn_at = start + SLOW;
        let mut may_warn = self.warn.is_some() && !self.is_simulated();
        loop {
            let deadline = start.max(self.moved_at(from)) + self.stall_timeout;
            let now = self.now();
            if now >= deadline {
                let (whom, standing) = (whom(from), self.blame(from));
                let seconds = now.since(start).as_secs_f64();
                return Err(Error::Timeout { whom, what: what.into(), seconds, standing });
            }
            let until = if may_warn { deadline.min(warn_at) } else { deadline };
            if let Some(message) = self.recv_deadline(channel, from, until)? {
                return Ok(message);
            }
            if may_warn && self.now() >= warn_at {
                may_warn = false;
                let (rank, whom, blame) = (self.rank, whom(from), self.blame(from));
                let limit = self.stall_timeout.as_secs_f64();
                let text = format!(
                    "rank {rank} has waited 5 s for {whom} ({what}){blame}; it gives up after {limit} s without \
                     progress there"
                );
                self.warn.iter_mut().for_each(|warn| warn(&text));
            }
        }
    }

    /// How far the other ranks are, as far as it is known here: exactly on threads and in the simulator; over TCP by
    /// the signs of life, on rank 0 always and elsewhere in a [`Comm::recv`] that has lasted for some seconds.
    pub fn standings(&self) -> Vec<Standing> {
        self.link.standings()
    }

    /// The rank that the others most likely wait for: of those that work, or else of those that wait, the one with
    /// the least progress. As far as it is known, see [`Comm::standings`].
    pub fn slowest(&self) -> Option<Standing> {
        standing::slowest(self.standings())
    }

    /// When the rank that is waited for made progress last.
    fn moved_at(&self, from: Option<usize>) -> Time {
        let standings = self.standings();
        let awaited = standings.iter().find(|standing| Some(standing.rank) == from);
        match awaited.filter(|standing| standing.doing != Doing::Waits) {
            Some(standing) => standing.moved_at,
            None => standings.iter().map(|standing| standing.moved_at).max().unwrap_or_default(),
        }
    }

    /// Says who is to blame for a long wait for `from`; empty if nothing is known.
    fn blame(&self, from: Option<usize>) -> String {
        let standings = self.standings();
        match standings.iter().find(|standing| Some(standing.rank) == from) {
            Some(standing) if standing.doing == Doing::Works => {
                let seconds = self.now().since(standing.moved_at).as_secs_f64();
                format!("; {standing} moved last {seconds:.1} s ago")
            }
            Some(standing) if standing.doing == Doing::Ended => format!("; {standing} has ended its work"),
            _ => standing::slowest(standings)
                .map_or(String::new(), |standing| format!("; {standing} has made the least progress")),
        }
    }

    /// Like [`Comm::recv`], but `None` once `deadline` has passed.
    ///
    /// # Errors
    /// [`Error::Lost`] as soon as any rank is lost.
    pub fn recv_deadline(
        &mut self,
        channel: Channel,
        from: Option<usize>,
        deadline: Time,
    ) -> Result<Option<Message>> {
        if let Some(message) = self.take(channel, from) {
            return Ok(Some(message));
        }
        let start = self.now();
        // A rank that serves others has to hear them all.
        let only = from.filter(|from| self.service.is_none() && *from != self.rank);
        let found = loop {
            let frame = match only {
                Some(from) => self.link.receive_from(from, deadline)?,
                None => self.link.receive(deadline)?,
            };
            match frame {
                Some(frame) => {
                    self.accept(frame)?;
                    if let Some(message) = self.take(channel, from) {
                        break Some(message);
                    }
                }
                None if self.now() >= deadline => break None,
                None => {}
            }
        };
        self.counters.waited_nanos += self.now().since(start).as_nanos() as u64;
        Ok(found)
    }

    /// Sends what is queued and leaves in good order.
    ///
    /// # Errors
    /// If a rank is lost before everything went out.
    pub fn finish(&mut self) -> Result<()> {
        self.link.finish()
    }

    fn accept(&mut self, frame: Frame) -> Result<()> {
        let from = usize::from(frame.from);
        if from >= self.size || usize::from(frame.to) != self.rank {
            return Err(Error::BadFrame(format!("from {from} to {} of {} ranks", frame.to, self.size)));
        }
        if frame.view < self.view {
            self.counters.old_view += 1;
            return Ok(());
        }
        if frame.sequence <= self.seen[from] {
            self.counters.duplicates += 1;
            return Ok(());
        }
        if frame.sequence != self.seen[from] + 1 {
            return Err(Error::BadMessage {
                from,
                what: format!("frame {} after frame {}: some are missing", frame.sequence, self.seen[from]),
            });
        }
        self.seen[from] = frame.sequence;
        self.deliver(Channel(frame.channel), Message { from, head: frame.head, body: frame.body })
    }

    fn deliver(&mut self, channel: Channel, message: Message) -> Result<()> {
        if channel != Channel::SERVICE {
            self.inbox.entry(channel).or_default().push_back(message);
            return Ok(());
        }
        let mut out = Outbox::new();
        match self.link.services().cloned() {
            Some(services) => {
                let mut place = services[self.rank].lock().unwrap_or_else(PoisonError::into_inner);
                let Some(service) = place.as_mut() else { return Err(no_service(&message)) };
                service.handle(message, &mut out)?;
                out.into_iter().try_for_each(|(to, channel, message)| self.send(to, channel, message))
            }
            None => {
                let Some(service) = self.service.as_mut() else { return Err(no_service(&message)) };
                service.handle(message, &mut out)?;
                out.into_iter().try_for_each(|(to, channel, message)| self.send(to, channel, message))
            }
        }
    }

    fn take(&mut self, channel: Channel, from: Option<usize>) -> Option<Message> {
        let queue = self.inbox.get_mut(&channel)?;
        match from {
            None => queue.pop_front(),
            Some(rank) => queue.iter().position(|m| m.from == rank).and_then(|at| queue.remove(at)),
        }
    }
}

/// Whom a wait is for, in words.
fn whom(from: Option<usize>) -> String {
    from.map_or("any rank".to_string(), |rank| format!("rank {rank}"))
}

fn no_service(message: &Message) -> Error {
    message.bad("a message for a service, but none is installed here; install it before the first barrier")
}
