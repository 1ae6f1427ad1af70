//! Elements of tables and the flat arrays that hold them, aligned to cache lines.

use super::Type;
use bytemuck::Pod;
use dunlin_comm::Buffer;

/// An element of a table.
pub trait Element: Pod + PartialEq + Send + Sync + std::fmt::Debug {
    /// Its tag.
    const TYPE: Type;
    /// The storage of a table of this type, if it is one.
    fn slot(storage: &Storage) -> Option<&Lines<Self>>;
    /// The same, to write.
    fn slot_mut(storage: &mut Storage) -> Option<&mut Lines<Self>>;
    /// From a double; integers round.
    fn from_f64(value: f64) -> Self;
    /// To a double.
    fn to_f64(self) -> f64;
    /// From a small integer, exactly.
    fn from_i32(value: i32) -> Self;
    /// self + other; wraps for integers.
    fn plus(self, other: Self) -> Self;
    /// (self − other) + 0, so that no update is −0; wraps for integers.
    fn minus(self, other: Self) -> Self;
    /// self / count; integers round towards zero.
    fn divided(self, count: usize) -> Self;
}

macro_rules! elements {
    ($($t:ty, $tag:ident, $from:expr, $plus:expr, $minus:expr;)*) => {$(
        impl Element for $t {
            const TYPE: Type = Type::$tag;
            fn slot(storage: &Storage) -> Option<&Lines<$t>> {
                match storage { Storage::$tag(lines) => Some(lines), _ => None }
            }
            fn slot_mut(storage: &mut Storage) -> Option<&mut Lines<$t>> {
                match storage { Storage::$tag(lines) => Some(lines), _ => None }
            }
            fn from_f64(value: f64) -> $t { let f: fn(f64) -> $t = $from; f(value) }
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn from_i32(value: i32) -> $t { value as $t }
            #[inline(always)]
            fn plus(self, other: $t) -> $t { let f: fn($t, $t) -> $t = $plus; f(self, other) }
            #[inline(always)]
            fn minus(self, other: $t) -> $t { let f: fn($t, $t) -> $t = $minus; f(self, other) }
            #[inline(always)]
            fn divided(self, count: usize) -> $t { self / count as $t }
        }
    )*};
}
elements! {
    f32, F32, |v| v as f32, |a, b| a + b, |a, b| (a - b) + 0.0;
    f64, F64, |v| v, |a, b| a + b, |a, b| (a - b) + 0.0;
    i32, I32, |v| v.round() as i32, |a, b| a.wrapping_add(b), |a, b| a.wrapping_sub(b);
}

/// A flat array whose start is aligned to a cache line. Its memory can leave it as a [`Buffer`] and come back, so that
/// it travels without a copy.
#[derive(Clone, Debug, Default)]
pub struct Lines<T> {
    buffer: Buffer,
    element: std::marker::PhantomData<T>,
}

impl<T: Pod> Lines<T> {
    /// `length` zeros. Pages are mapped when they are first written.
    pub fn zeroed(length: usize) -> Lines<T> {
        Lines::from(Buffer::zeroed(length * size_of::<T>()))
    }

    /// The elements.
    #[inline(always)]
    pub fn as_slice(&self) -> &[T] {
        bytemuck::cast_slice(self.buffer.bytes())
    }

    /// The elements, to write.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.buffer.bytes_mut())
    }
}

impl<T: Pod> From<Buffer> for Lines<T> {
    /// The whole elements that `buffer` holds.
    fn from(mut buffer: Buffer) -> Lines<T> {
        buffer.resize(buffer.len() / size_of::<T>() * size_of::<T>());
        Lines { buffer, element: std::marker::PhantomData }
    }
}

/// The elements of a table, whatever their type.
#[derive(Clone, Debug)]
pub enum Storage {
    /// 32-bit floats.
    F32(Lines<f32>),
    /// 64-bit floats.
    F64(Lines<f64>),
    /// 32-bit counts.
    I32(Lines<i32>),
}

impl Storage {
    /// `length` zeros of type `element`.
    pub fn zeroed(element: Type, length: usize) -> Storage {
        Storage::from_buffer(element, Buffer::zeroed(length * element.bytes()))
    }

    /// The elements of type `element` that `buffer` holds.
    pub fn from_buffer(element: Type, buffer: Buffer) -> Storage {
        match element {
            Type::F32 => Storage::F32(Lines::from(buffer)),
            Type::F64 => Storage::F64(Lines::from(buffer)),
            Type::I32 => Storage::I32(Lines::from(buffer)),
        }
    }

    /// The memory of the elements.
    pub fn into_buffer(self) -> Buffer {
        match self {
            Storage::F32(lines) => lines.buffer,
            Storage::F64(lines) => lines.buffer,
            Storage::I32(lines) => lines.buffer,
        }
    }

    /// The memory of the elements, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Storage::F32(lines) => lines.buffer.bytes_mut(),
            Storage::F64(lines) => lines.buffer.bytes_mut(),
            Storage::I32(lines) => lines.buffer.bytes_mut(),
        }
    }

    /// Σ |own − other| and Σ |other|; `None` for another type.
    pub fn distance(&self, other: &Storage) -> Option<[f64; 2]> {
        fn sums<T: Element>(own: &Lines<T>, other: &Lines<T>) -> [f64; 2] {
            let pairs = own.as_slice().iter().zip(other.as_slice()).map(|(a, b)| (a.to_f64(), b.to_f64()));
            pairs.fold([0.0; 2], |[apart, size], (a, b)| [apart + (a - b).abs(), size + b.abs()])
        }
        match (self, other) {
            (Storage::F32(own), Storage::F32(other)) => Some(sums(own, other)),
            (Storage::F64(own), Storage::F64(other)) => Some(sums(own, other)),
            (Storage::I32(own), Storage::I32(other)) => Some(sums(own, other)),
            _ => None,
        }
    }

    /// The type of the elements.
    pub fn element(&self) -> Type {
        match self {
            Storage::F32(_) => Type::F32,
            Storage::F64(_) => Type::F64,
            Storage::I32(_) => Type::I32,
        }
    }

    /// The memory of the elements, to read.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Storage::F32(lines) => lines.buffer.bytes(),
            Storage::F64(lines) => lines.buffer.bytes(),
            Storage::I32(lines) => lines.buffer.bytes(),
        }
    }
}
