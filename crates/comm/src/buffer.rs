//! Bytes aligned to a cache line, so that arrays of numbers are read from a frame without a copy.

use bytemuck::{Pod, Zeroable};

/// Bytes that the start of a [`Buffer`] is aligned to: one cache line.
const LINE: usize = 64;

/// The unit in which a [`Buffer`] allocates. Memory with a greater alignment than allocators give anyway would be zeroed
/// by writing to it; this comes as pages that the system maps when they are first written.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(16))]
struct Quarter([u8; LINE / 4]);

/// A growable array of bytes whose start is aligned to 64 bytes.
///
/// # Examples
/// ```
/// use dunlin_comm::Buffer;
/// let mut buffer = Buffer::new();
/// buffer.extend(&[1.0f32, 2.0]);
/// assert_eq!(buffer.slice::<f32>(0, 2), Some(&[1.0f32, 2.0][..]));
/// assert_eq!(buffer.slice::<f32>(0, 3), None, "past the end");
/// ```
#[derive(Default)]
pub struct Buffer {
    quarters: Vec<Quarter>,
    /// Quarters before the first that starts a line.
    start: usize,
    length: usize,
}

impl Buffer {
    /// An empty buffer; allocates nothing.
    pub fn new() -> Buffer {
        Buffer::default()
    }

    /// `length` zero bytes. Pages are mapped when they are first written.
    pub fn zeroed(length: usize) -> Buffer {
        let count = if length == 0 { 0 } else { 4 * length.div_ceil(LINE) + 3 };
        let quarters: Vec<Quarter> = bytemuck::allocation::zeroed_vec(count);
        let before = quarters.as_ptr().addr().wrapping_neg() % LINE;
        Buffer { start: (before / size_of::<Quarter>()).min(count), quarters, length }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.quarters[self.start..])[..self.length]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.quarters[self.start..])[..self.length]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets the bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Sets the number of bytes; new ones hold zero or what an earlier use left there.
    pub fn resize(&mut self, length: usize) {
        self.reserve(length);
        self.length = length;
    }

    /// Makes room for `length` bytes in all.
    pub fn reserve(&mut self, length: usize) {
        let room = (self.quarters.len() - self.start) * size_of::<Quarter>();
        if length > room {
            let mut larger = Buffer::zeroed(length.max(2 * room));
            larger.bytes_mut()[..self.length].copy_from_slice(self.bytes());
            *self = Buffer { length: self.length, ..larger };
        }
    }

    /// Appends the bytes of `values` at the next multiple of 8 bytes and returns the offset where they start.
    pub fn extend<T: Pod>(&mut self, values: &[T]) -> usize {
        let start = self.length.next_multiple_of(8);
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.resize(start + bytes.len());
        self.bytes_mut()[start..].copy_from_slice(bytes);
        start
    }

    /// `count` elements from byte `offset` on; `None` if that passes the end or is misaligned for `T`.
    pub fn slice<T: Pod>(&self, offset: usize, count: usize) -> Option<&[T]> {
        let bytes = count.checked_mul(size_of::<T>())?;
        let end = offset.checked_add(bytes)?;
        bytemuck::try_cast_slice(self.bytes().get(offset..end)?).ok()
    }

    /// Like [`Buffer::slice`], to write.
    pub fn slice_mut<T: Pod>(&mut self, offset: usize, count: usize) -> Option<&mut [T]> {
        let bytes = count.checked_mul(size_of::<T>())?;
        let end = offset.checked_add(bytes)?;
        bytemuck::try_cast_slice_mut(self.bytes_mut().get_mut(offset..end)?).ok()
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut copy = Buffer::zeroed(self.length);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }

    fn clone_from(&mut self, source: &Buffer) {
        self.resize(source.length);
        self.bytes_mut().copy_from_slice(source.bytes());
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}

impl<T: Pod> From<&[T]> for Buffer {
    fn from(values: &[T]) -> Buffer {
        let mut buffer = Buffer::new();
        buffer.extend(values);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_stays_aligned_however_a_buffer_came_to_be() {
        let aligned = |buffer: &Buffer| buffer.bytes().as_ptr().addr().is_multiple_of(LINE);
        for length in [1, 63, 64, 65, 1000, 1 << 20] {
            let mut buffer = Buffer::zeroed(length);
            assert!(aligned(&buffer) && buffer.bytes().iter().all(|byte| *byte == 0), "{length}");
            buffer.bytes_mut().fill(7);
            let mut grown = buffer.clone();
            grown.resize(3 * length);
            assert!(aligned(&grown) && grown.bytes()[..length] == *buffer.bytes(), "{length}");
            assert_eq!((grown.len(), grown.bytes()[3 * length - 1]), (3 * length, 0));
            grown.clone_from(&buffer);
            assert!(aligned(&grown) && grown.bytes() == buffer.bytes(), "{length}");
            grown.clear();
            assert_eq!(grown.extend(&[1.0f64, 2.0]), 0);
            assert_eq!(grown.slice::<f64>(0, 2), Some(&[1.0, 2.0][..]));
        }
        assert!(Buffer::zeroed(0).is_empty() && Buffer::new().bytes().is_empty());
    }
}
