//! How often a topic occurs in a document, at a cost that depends neither on the number of topics nor on the
//! length of the document: a small hash table for every document.

use dunlin::table::prefetch;

/// No topic; topics are below it.
pub(super) const NONE: u16 = u16::MAX;

/// A slot of no topic. A slot holds its topic above and its count in the lower 16 bits.
const FREE: u32 = u32::MAX;

/// A document's tokens and slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
    slots: u32,
    /// Number of slots, a power of two, less 1; 0 for a document whose counts need more than 16 bits.
    mask: u32,
}

/// The counts n_dk of a block's documents.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) spans: Vec<Span>,
    /// Topic k is at k or after it, modulo the document's number of slots. Slots are not given back, but with two
    /// for every token there is a free one to end a search as long as no token moves twice; and with one for every
    /// topic all are found at once.
    slots: Vec<u32>,
    /// Counts by topic of the documents with more than 65535 tokens.
    wide: Vec<u32>,
}

impl Counts {
    /// Of documents of these `lengths` in tokens, whose topics follow one another in `assigned`.
    pub(super) fn new(lengths: &[usize], assigned: &[u16], topics: usize) -> Counts {
        let mut counts =
            Counts { spans: Vec::with_capacity(lengths.len()), slots: Vec::new(), wide: Vec::new() };
        let mut start = 0;
        for length in lengths.iter().copied() {
            let mut span = Span { start: start as u32, length: length as u32, slots: 0, mask: 0 };
            if length > usize::from(u16::MAX) {
                span.slots = counts.wide.len() as u32;
                counts.wide.resize(counts.wide.len() + topics, 0);
            } else {
                let size = (2 * length + 1).min(topics).next_power_of_two().max(2);
                (span.slots, span.mask) = (counts.slots.len() as u32, size as u32 - 1);
                counts.slots.resize(counts.slots.len() + size, FREE);
            }
            counts.spans.push(span);
            assigned[start..start + length].iter().for_each(|topic| counts.put(span, *topic));
            start += length;
        }
        counts
    }

    /// Where `topic` is or would be, and what is there.
    #[inline(always)]
    fn find(&self, span: Span, topic: u16) -> (usize, u32) {
        let mut at = u32::from(topic) & span.mask;
        loop {
            let place = (span.slots + at) as usize;
            let slot = self.slots[place];
            if slot >> 16 == u32::from(topic) || slot == FREE {
                return (place, slot);
            }
            at = (at + 1) & span.mask;
        }
    }

    /// The count of a topic.
    #[inline(always)]
    pub(super) fn get(&self, span: Span, topic: u16) -> u32 {
        if span.mask == 0 {
            return self.wide[span.slots as usize + usize::from(topic)];
        }
        let (_, slot) = self.find(span, topic);
        if slot == FREE { 0 } else { slot & 0xffff }
    }

    /// Takes one from a count that is above 0.
    #[inline(always)]
    pub(super) fn take(&mut self, span: Span, topic: u16) {
        if span.mask == 0 {
            self.wide[span.slots as usize + usize::from(topic)] -= 1;
            return;
        }
        let (place, _) = self.find(span, topic);
        self.slots[place] -= 1;
    }

    /// Adds one to a count.
    #[inline(always)]
    pub(super) fn put(&mut self, span: Span, topic: u16) {
        if span.mask == 0 {
            self.wide[span.slots as usize + usize::from(topic)] += 1;
            return;
        }
        let (place, slot) = self.find(span, topic);
        self.slots[place] = if slot == FREE { u32::from(topic) << 16 } else { slot } + 1;
    }

    /// Asks for what the other functions will read.
    #[inline(always)]
    pub(super) fn prefetch(&self, span: Span, topic: u16) {
        if let Some(slots) = self.slots.get((span.slots + (u32::from(topic) & span.mask)) as usize..) {
            prefetch(slots);
        }
    }
}
