//! Dealing out more than fits into memory: numbers for each of many buckets, in a scratch file, in the order in which
//! each bucket got them.

use super::scratch::{Piece, Scratch, ScratchFile};
use crate::Result;
use bytemuck::{cast_slice, cast_slice_mut};
use std::sync::Arc;

/// Numbers that the buffers of all buckets hold together: 8 MB.
const BUFFERED: usize = 2 << 20;

/// Buckets of numbers.
#[derive(Debug)]
pub(super) struct Buckets {
    file: Arc<ScratchFile>,
    buckets: Vec<Bucket>,
    /// Numbers after which a bucket's buffer goes to the file.
    most: usize,
}

#[derive(Debug, Default)]
struct Bucket {
    buffer: Vec<u32>,
    pieces: Vec<(Piece, usize)>,
}

impl Buckets {
    /// `count` empty buckets.
    pub(super) fn new(scratch: &Scratch, count: usize) -> Result<Buckets> {
        let most = (BUFFERED / count.max(1)).clamp(64, 16 << 10);
        let buckets = (0..count).map(|_| Bucket::default()).collect();
        Ok(Buckets { file: scratch.packed("buckets")?, buckets, most })
    }

    /// Adds numbers to a bucket.
    ///
    /// # Errors
    /// [`crate::Error::Io`] with the place.
    pub(super) fn push(&mut self, bucket: usize, numbers: &[u32]) -> Result<()> {
        let Bucket { buffer, pieces } = &mut self.buckets[bucket];
        if buffer.len() + numbers.len() > self.most && !buffer.is_empty() {
            pieces.push((self.file.append(&[cast_slice(buffer)])?, buffer.len()));
            buffer.clear();
        }
        if numbers.len() > self.most {
            pieces.push((self.file.append(&[cast_slice(numbers)])?, numbers.len()));
            return Ok(());
        }
        if buffer.capacity() == 0 {
            buffer.reserve_exact(self.most);
        }
        buffer.extend_from_slice(numbers);
        Ok(())
    }

    /// Puts all numbers of a bucket into `out`, and frees the bucket's memory.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] and [`crate::Error::Io`] with the place.
    pub(super) fn take(&mut self, bucket: usize, out: &mut Vec<u32>) -> Result<()> {
        let Bucket { buffer, pieces } = std::mem::take(&mut self.buckets[bucket]);
        let total = pieces.iter().map(|(_, length)| length).sum::<usize>() + buffer.len();
        out.truncate(total);
        out.reserve_exact(total - out.len());
        out.resize(total, 0);
        let mut at = 0;
        for (piece, length) in pieces {
            self.file.read(piece, &mut [cast_slice_mut(&mut out[at..at + length])])?;
            at += length;
        }
        out[at..].copy_from_slice(&buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_gives_back_what_it_got_in_order() {
        let mut rng = crate::rng::stream(5, "buckets", &[]);
        let mut buckets = Buckets::new(&Scratch::new(&std::env::temp_dir()), 300).unwrap();
        let mut wanted = vec![Vec::new(); 300];
        for number in 0..20_000u32 {
            let bucket = rng.below(299);
            let length = if rng.below(500) == 0 { 40_000 } else { rng.below(40) };
            let numbers: Vec<u32> = (0..length as u32).map(|at| number * 7 + at).collect();
            buckets.push(bucket, &numbers).unwrap();
            wanted[bucket].extend(numbers);
        }
        let mut out = Vec::new();
        for (bucket, wanted) in wanted.iter().enumerate() {
            buckets.take(bucket, &mut out).unwrap();
            assert!(out == *wanted, "bucket {bucket}");
        }
    }
}
