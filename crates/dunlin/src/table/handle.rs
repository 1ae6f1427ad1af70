//! Typed handles on tables: what a model reads and writes rows through.

use super::Element;
use std::ops::Range;

/// A table to read: (rows, width).
#[derive(Clone, Copy, Debug)]
pub struct Table<'a, T> {
    pub(super) values: &'a [T],
    /// Elements of the table before those that are there.
    pub(super) before: usize,
    pub(super) stride: usize,
    pub(super) width: usize,
}

impl<'a, T: Element> Table<'a, T> {
    /// Row `row`.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride - self.before..][..self.width]
    }

    /// Row `row` with its padding, which is zero: `stride` elements.
    #[inline(always)]
    pub fn padded(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride - self.before..][..self.stride]
    }

    /// Number of rows that are there: all, unless a block of rows is visiting.
    pub fn rows(&self) -> usize {
        self.values.len() / self.stride
    }

    /// The rows that are there.
    pub fn range(&self) -> Range<usize> {
        self.before / self.stride..(self.before + self.values.len()) / self.stride
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows that are there with their padding, flat.
    pub fn flat(&self) -> &'a [T] {
        self.values
    }
}

/// A table to write: (rows, width).
#[derive(Debug)]
pub struct TableMut<'a, T> {
    pub(super) values: &'a mut [T],
    /// Elements of the table before those that are there.
    pub(super) before: usize,
    pub(super) touched: &'a mut [u8],
    pub(super) stride: usize,
    pub(super) width: usize,
}

impl<T: Element> TableMut<'_, T> {
    /// Row `row`, to read.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &[T] {
        &self.values[row * self.stride - self.before..][..self.width]
    }

    /// Row `row`, to write.
    #[inline(always)]
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        self.touch(row);
        &mut self.values[row * self.stride - self.before..][..self.width]
    }

    /// Row `row` with its padding, to read: `stride` elements.
    #[inline(always)]
    pub fn padded(&self, row: usize) -> &[T] {
        &self.values[row * self.stride - self.before..][..self.stride]
    }

    /// Row `row` with its padding, to write. The padding must stay zero.
    #[inline(always)]
    pub fn padded_mut(&mut self, row: usize) -> &mut [T] {
        self.touch(row);
        &mut self.values[row * self.stride - self.before..][..self.stride]
    }

    /// The first `W` elements of row `row` as an array, to write; `W` at most the stride. A width known to the
    /// compiler makes inner loops about 1.4 times as fast.
    #[inline(always)]
    pub fn array_mut<const W: usize>(&mut self, row: usize) -> &mut [T; W] {
        self.touch(row);
        match self.values[row * self.stride - self.before..].first_chunk_mut() {
            Some(array) => array,
            None => wrong_width(W),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.touched.len()
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows that are there with their padding, flat, to write; every row counts as touched.
    pub fn flat_mut(&mut self) -> &mut [T] {
        (0..self.touched.len()).for_each(|row| self.touch(row));
        self.values
    }

    /// Asks the processor to fetch row `row` into its cache.
    #[inline(always)]
    pub fn prefetch(&self, row: usize) {
        prefetch(&self.values[row * self.stride - self.before..]);
    }

    /// Notes that `row` is written in this clock.
    #[inline(always)]
    fn touch(&mut self, row: usize) {
        self.touched[row] = 1;
    }
}

#[cold]
fn wrong_width(width: usize) -> ! {
    panic!("rows are shorter than {width}")
}

/// Asks the processor to fetch the cache line where `place` starts.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch<T>(place: &[T]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that cannot fault, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
