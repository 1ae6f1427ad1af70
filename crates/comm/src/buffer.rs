//! Bytes aligned to a cache line, so that arrays of numbers are read from a frame without a copy.

use bytemuck::{Pod, Zeroable};

/// One cache line. The unit in which a [`Buffer`] allocates, which is what aligns it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

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
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    length: usize,
}

impl Buffer {
    /// An empty buffer; allocates nothing.
    pub fn new() -> Buffer {
        Buffer::default()
    }

    /// `length` zero bytes. Pages are mapped when they are first written.
    pub fn zeroed(length: usize) -> Buffer {
        Buffer { lines: bytemuck::allocation::zeroed_vec(length.div_ceil(64)), length }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
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
        let lines = length.div_ceil(64);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line::zeroed());
        }
        self.length = length;
    }

    /// Makes room for `length` bytes in all.
    pub fn reserve(&mut self, length: usize) {
        self.lines.reserve(length.div_ceil(64).saturating_sub(self.lines.len()));
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
