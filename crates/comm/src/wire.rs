//! The frame: what crosses a connection. Encode and decode only.
//!
//! ```text
//!  0        4    5    6        8      10      12      16                24      28      32            40
//! +--------+----+----+--------+-------+-------+-------+-----------------+-------+-------+-------------+
//! | "DLNf" | v  | k  |channel | from  |  to   | view  |    sequence     | head  | body  |  checksum   |
//! |  u32   | u8 | u8 |  u16   |  u16  |  u16  |  u32  |       u64       |  u32  |  u32  |     u64     |
//! +--------+----+----+--------+-------+-------+-------+-----------------+-------+-------+-------------+
//! | head bytes (at most MAX_HEAD) | body bytes (at most MAX_BODY)                                      |
//! +-----------------------------------------------------------------------------------------------------+
//! ```
//!
//! All numbers are little-endian. `v` is [`VERSION`], `k` a [`Kind`]. The checksum is xxh3-64 of the first 32
//! header bytes, the head and the body, in that order. Both lengths are checked before anything is allocated.

use crate::{Buffer, Error, Result};
use std::hash::Hasher;
use std::sync::Arc;
use twox_hash::XxHash3_64 as Xxh3;

/// "DLNf", read as a little-endian number.
pub const MAGIC: u32 = u32::from_le_bytes(*b"DLNf");
/// Version of the frame format; peers of another version are refused at the handshake.
pub const VERSION: u8 = 1;
/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 40;
/// Most bytes in a head.
pub const MAX_HEAD: usize = 4 << 20;
/// Most bytes in a body.
pub const MAX_BODY: usize = 256 << 20;

/// What a frame is for. Data frames reach [`crate::Comm`]; the others belong to the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message between ranks.
    Data = 0,
    /// First frame of a connection.
    Hello = 1,
    /// Sign of life, with a progress counter.
    Heartbeat = 2,
    /// A rank was lost; the head names it.
    Lost = 3,
    /// An orderly end.
    Goodbye = 4,
    /// The launcher's address book and job.
    Welcome = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Data, Kind::Hello, Kind::Heartbeat, Kind::Lost, Kind::Goodbye, Kind::Welcome]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A frame in memory. The body is shared, so that one buffer can go to many ranks without a copy.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// The rank that sent it.
    pub from: u16,
    /// The rank it is for.
    pub to: u16,
    /// Which conversation it belongs to.
    pub channel: u16,
    /// The sender's view of the membership.
    pub view: u32,
    /// Counts the data frames from `from` to `to`, from 1.
    pub sequence: u64,
    /// Small structured part.
    pub head: Vec<u8>,
    /// Large flat part.
    pub body: Arc<Buffer>,
}

impl Frame {
    /// Bytes that this frame takes on a connection.
    pub fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.head.len() + self.body.len()
    }

    /// The header of this frame, checksum included.
    ///
    /// # Errors
    /// If head or body are over their limits.
    pub fn encode_header(&self) -> Result<[u8; HEADER_BYTES]> {
        if self.head.len() > MAX_HEAD || self.body.len() > MAX_BODY {
            return Err(Error::BadFrame(format!(
                "head of {} and body of {} bytes; at most {MAX_HEAD} and {MAX_BODY}",
                self.head.len(),
                self.body.len()
            )));
        }
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4] = VERSION;
        header[5] = self.kind as u8;
        header[6..8].copy_from_slice(&self.channel.to_le_bytes());
        header[8..10].copy_from_slice(&self.from.to_le_bytes());
        header[10..12].copy_from_slice(&self.to.to_le_bytes());
        header[12..16].copy_from_slice(&self.view.to_le_bytes());
        header[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        header[24..28].copy_from_slice(&(self.head.len() as u32).to_le_bytes());
        header[28..32].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        let sum = checksum(&header[..COVERED], &self.head, self.body.bytes());
        header[32..40].copy_from_slice(&sum.to_le_bytes());
        Ok(header)
    }

    /// The whole frame as bytes; for tests and for small frames. Large ones go out by vectored writes.
    ///
    /// # Errors
    /// As [`Frame::encode_header`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = self.encode_header()?.to_vec();
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(self.body.bytes());
        Ok(bytes)
    }
}

/// Up to this many bytes of header, head and body the checksum is taken in one go: cheaper than to set up a
/// hasher that takes pieces.
const SMALL_BYTES: usize = 512;
/// Bytes of a header that the checksum covers.
const COVERED: usize = 32;

fn checksum(header: &[u8], head: &[u8], body: &[u8]) -> u64 {
    let length = header.len() + head.len() + body.len();
    if length <= SMALL_BYTES {
        let mut bytes = [0; SMALL_BYTES];
        bytes[..header.len()].copy_from_slice(header);
        bytes[header.len()..][..head.len()].copy_from_slice(head);
        bytes[header.len() + head.len()..length].copy_from_slice(body);
        return Xxh3::oneshot(&bytes[..length]);
    }
    let mut hasher = Xxh3::new();
    hasher.write(header);
    hasher.write(head);
    hasher.write(body);
    hasher.finish()
}

/// A checked header: the lengths are within their limits, the checksum is still to be compared.
#[derive(Clone, Debug)]
pub struct Header {
    bytes: [u8; HEADER_BYTES],
    /// What the frame is for.
    pub kind: Kind,
    /// Bytes of the head that follows.
    pub head_bytes: usize,
    /// Bytes of the body that follows the head.
    pub body_bytes: usize,
}

impl Header {
    /// Checks magic, version, kind and lengths.
    ///
    /// # Errors
    /// [`Error::BadFrame`] that says which of them is wrong.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if word(0) != MAGIC {
            return Err(Error::BadFrame("it does not start with \"DLNf\"; is the peer a dunlin?".into()));
        }
        if bytes[4] != VERSION {
            return Err(Error::BadFrame(format!(
                "wire version {}, this program speaks {VERSION}; run the same dunlin everywhere",
                bytes[4]
            )));
        }
        let kind =
            Kind::from_byte(bytes[5]).ok_or_else(|| Error::BadFrame(format!("unknown kind {}", bytes[5])))?;
        let (head_bytes, body_bytes) = (word(24) as usize, word(28) as usize);
        if head_bytes > MAX_HEAD || body_bytes > MAX_BODY {
            return Err(Error::BadFrame(format!(
                "head of {head_bytes} and body of {body_bytes} bytes; at most {MAX_HEAD} and {MAX_BODY}"
            )));
        }
        Ok(Header { bytes: *bytes, kind, head_bytes, body_bytes })
    }

    /// True if the frame is so small that [`Header::finish`] takes its checksum faster than a
    /// [`Header::hasher`].
    pub fn is_small(&self) -> bool {
        COVERED + self.head_bytes + self.body_bytes <= SMALL_BYTES
    }

    /// A hasher that has seen what the checksum covers of this header. A reader feeds it head and body as they
    /// arrive, while they are still in the cache.
    pub fn hasher(&self) -> Xxh3 {
        let mut hasher = Xxh3::new();
        hasher.write(&self.bytes[..COVERED]);
        hasher
    }

    /// Puts the frame together once head and body have arrived.
    ///
    /// # Errors
    /// [`Error::BadFrame`] if a length or the checksum does not agree.
    pub fn finish(&self, head: Vec<u8>, body: Buffer) -> Result<Frame> {
        let found = checksum(&self.bytes[..COVERED], &head, body.bytes());
        self.finish_hashed(head, body, found)
    }

    /// Like [`Header::finish`], with the checksum `found` by a [`Header::hasher`] that was fed all of it.
    ///
    /// # Errors
    /// [`Error::BadFrame`] if a length or the checksum does not agree.
    pub fn finish_hashed(&self, head: Vec<u8>, body: Buffer, found: u64) -> Result<Frame> {
        if head.len() != self.head_bytes || body.len() != self.body_bytes {
            return Err(Error::BadFrame("head or body is incomplete".into()));
        }
        let b = &self.bytes;
        let sent = u64::from_le_bytes([b[32], b[33], b[34], b[35], b[36], b[37], b[38], b[39]]);
        if found != sent {
            return Err(Error::BadFrame(format!("checksum {found:016x}, the sender wrote {sent:016x}")));
        }
        let half = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
        Ok(Frame {
            kind: self.kind,
            channel: half(6),
            from: half(8),
            to: half(10),
            view: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
            sequence: u64::from_le_bytes([b[16], b[17], b[18], b[19], b[20], b[21], b[22], b[23]]),
            head,
            body: Arc::new(body),
        })
    }
}

/// Reads one frame from the front of `bytes`: the frame and how many bytes it took, or `None` if more are
/// needed.
///
/// # Errors
/// [`Error::BadFrame`] if the bytes cannot become a frame, whatever follows.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = Header::decode(header)?;
    let end = HEADER_BYTES + header.head_bytes + header.body_bytes;
    let Some(rest) = bytes.get(HEADER_BYTES..end) else { return Ok(None) };
    let (head, body) = rest.split_at(header.head_bytes);
    Ok(Some((header.finish(head.to_vec(), Buffer::from(body))?, end)))
}
