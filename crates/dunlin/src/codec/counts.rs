//! Counts that travel as they are, in row blocks: most of them are small or zero, so between processes they go chunk by
//! chunk in their smallest form. Floats go as they are: few are zero, and a −0 would not come back as one.

use super::{Entry, Numbers, Part, Writer};
use crate::Result;
use crate::isa::{self, Kernel};
use crate::table::{TableSpec, Type};
use crate::update::Geometry;
use dunlin_comm::{Buffer, Message};
use std::sync::Arc;

/// The chunks of `bytes` bytes of counts, whatever rows they are.
fn chunks(bytes: usize) -> Geometry {
    Geometry::new(&TableSpec::new("counts", bytes / size_of::<i32>(), 1).element(Type::I32))
}

/// `numbers` of type `element` for another process: a part without entries if they go as they are.
///
/// # Examples
/// ```
/// use dunlin::{codec, table::Type};
/// use dunlin_comm::{Buffer, Message};
/// let mut counts = [0i32; 1000];
/// (counts[7], counts[500]) = (3, 90);
/// let numbers = Buffer::from(bytemuck::bytes_of(&counts));
/// let part = codec::pack_counts(Type::I32, numbers.clone().into());
/// assert!(part.body.len() < 32);
/// let mut message = Message::shared(&(), part.body);
/// let back = codec::unpack_counts(&mut message, part.entries, Type::I32, 4000, "row block 3").unwrap();
/// assert_eq!(back.bytes(), numbers.bytes());
/// ```
pub fn pack_counts(element: Type, numbers: Arc<Buffer>) -> Part {
    if element != Type::I32 || numbers.is_empty() {
        return Part { entries: Vec::new(), body: numbers };
    }
    let geometry = [chunks(numbers.len())];
    let mut writer = Writer::new(&geometry, Buffer::new());
    isa::run(Pack {
        numbers: bytemuck::cast_slice(numbers.bytes()),
        geometry: &geometry,
        writer: &mut writer,
    });
    writer.finish()
}

/// The `bytes` bytes of numbers of type `element` that `message` carries, written as `entries` say: as they are if
/// there are none. `what` they are is for the message.
///
/// # Errors
/// A message that names the sender, if they are not all there or more than wanted.
pub fn unpack_counts(
    message: &mut Message,
    entries: Vec<Entry>,
    element: Type,
    bytes: usize,
    what: &str,
) -> Result<Arc<Buffer>> {
    if entries.is_empty() {
        if message.body.len() != bytes {
            let given = message.body.len();
            return Err(message.bad(format!("{what} in {given} bytes; it has {bytes}")).into());
        }
        return Ok(std::mem::take(&mut message.body));
    }
    let geometry = [chunks(bytes)];
    if element != Type::I32 || entries.len() != geometry[0].chunks {
        let (given, wanted) = (entries.len(), geometry[0].chunks);
        let text = match element {
            Type::I32 => format!("{what} in {given} chunks of counts; it has {wanted}"),
            _ => format!("{what}, floats that are written like counts"),
        };
        return Err(message.bad(text).into());
    }
    let part = Part::received(message, entries, &geometry)?;
    let mut numbers = Buffer::zeroed(bytes);
    isa::run(Unpack {
        part: &part,
        geometry: &geometry,
        counts: bytemuck::cast_slice_mut(numbers.bytes_mut()),
    });
    Ok(Arc::new(numbers))
}

struct Pack<'a, 'w> {
    numbers: &'a [i32],
    geometry: &'a [Geometry],
    writer: &'a mut Writer<'w>,
}

impl Kernel for Pack<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run(self) {
        for chunk in 0..self.geometry[0].chunks {
            self.writer.chunk(0, chunk, &self.numbers[self.geometry[0].elements(chunk)]);
        }
    }
}

struct Unpack<'a> {
    part: &'a Part,
    geometry: &'a [Geometry],
    counts: &'a mut [i32],
}

impl Kernel for Unpack<'_> {
    type Out = ();

    /// Adds to zeros, so that pages of zeros are not even mapped.
    #[inline(always)]
    fn run(self) {
        for entry in &self.part.entries {
            let numbers: Option<Numbers<'_, i32>> = self.part.numbers(entry, self.geometry);
            let place = self.geometry[0].elements(entry.chunk as usize);
            numbers.into_iter().for_each(|numbers| numbers.add_to(&mut self.counts[place.clone()]));
        }
    }
}
