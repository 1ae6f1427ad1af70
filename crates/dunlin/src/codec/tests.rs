use super::*;
use crate::TableSpec;
use crate::rng::{Stream, stream};
use dunlin_comm::collective::{Folder, Node};

/// A chunk of `count` numbers, some of them zero, in rows of `stride`.
fn random_chunk<T: Element>(rng: &mut Stream, count: usize, stride: usize) -> Vec<T> {
    let density = [0.0, 0.01, 0.3, 1.0][rng.below(4)];
    let (clustered, scale) = (rng.below(2) == 1, [1.0, 100.0, 30_000.0, 1e9][rng.below(4)]);
    let numbers = (0..count).map(|at| {
        let filled = if clustered { (at / stride) as f64 / 700.0 < density } else { rng.unit() < density };
        let number = (2.0 * rng.unit() - 1.0) * scale;
        T::from_f64(if filled { number } else { 0.0 })
    });
    numbers.collect()
}

fn table_of(seed: u64, rng: &mut Stream) -> Geometry {
    let element = [Type::F32, Type::F64, Type::I32][seed as usize % 3];
    Geometry::new(&TableSpec::new("t", 1 + rng.below(700), 1 + rng.below(90)).element(element))
}

fn dense<T: Element>(part: &Part, entry: &Entry, geometry: &[Geometry]) -> Vec<T> {
    let mut numbers = vec![T::from_i32(7); geometry[0].elements(entry.chunk as usize).len()];
    part.numbers::<T>(entry, geometry).unwrap().copy_to(&mut numbers);
    numbers
}

/// Random chunks of every density and size of number come back as they went, in every element type.
#[test]
fn chunks_come_back_as_they_went() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300u64 {
        let mut rng = stream(seed, "codec-test", &[]);
        let geometry = [table_of(seed, &mut rng)];
        let table = geometry[0];
        with_type!(table.element, T => {
            let count = |chunk: usize| table.elements(chunk).len();
            let chunks: Vec<Vec<T>> =
                (0..table.chunks).map(|chunk| random_chunk(&mut rng, count(chunk), table.stride)).collect();
            let mut writer = Writer::new(&geometry, Buffer::new());
            chunks.iter().enumerate().for_each(|(chunk, numbers)| { writer.chunk(0, chunk, numbers); });
            let part = writer.finish();
            assert!(part.body.len() <= part.dense_bytes(&geometry) + 64, "seed {seed}: larger than dense");
            seen.extend(part.entries.iter().map(|entry| format!("{:?}", entry.encoding)));
            let mut message = Message::shared(&(), part.body.clone());
            let back = Part::received(&mut message, part.entries.clone(), &geometry).unwrap();
            for (entry, numbers) in back.entries.iter().zip(&chunks) {
                assert_eq!(dense::<T>(&back, entry, &geometry), *numbers, "seed {seed}");
                let mut sums = numbers.clone();
                back.numbers::<T>(entry, &geometry).unwrap().add_to(&mut sums);
                assert!(sums.iter().zip(numbers).all(|(sum, n)| *sum == n.plus(*n)), "seed {seed}: added to itself");
            }
        });
    }
    assert_eq!(seen.len(), 6, "every encoding was used: {seen:?}");
}

/// Adding parts up chunk by chunk gives the bits of adding whole tables along the tree, however the lanes are grouped.
#[test]
fn parts_add_up_along_the_tree() {
    for seed in 0..60u64 {
        let mut rng = stream(seed, "tree-test", &[]);
        let geometry = [table_of(seed, &mut rng)];
        let (table, lanes) = (geometry[0], 1 + rng.below(6));
        with_type!(table.element, T => {
            let mut parts = Vec::new();
            let mut whole = Folder::new(lanes);
            for lane in 0..lanes {
                let mut writer = Writer::new(&geometry, Buffer::new());
                let mut flat = vec![T::from_i32(0); table.elements(table.chunks - 1).end];
                for chunk in (0..table.chunks).filter(|_| rng.below(3) > 0).collect::<Vec<_>>() {
                    let numbers = random_chunk::<T>(&mut rng, table.elements(chunk).len(), table.stride);
                    flat[table.elements(chunk)].copy_from_slice(&numbers);
                    writer.chunk(0, chunk, &numbers);
                }
                parts.push((Node::leaf(lane), writer.finish()));
                whole.push(Node::leaf(lane), flat, |left: &mut Vec<T>, right| {
                    left.iter_mut().zip(right).for_each(|(sum, n)| *sum = sum.plus(n));
                });
            }
            let expected = whole.into_parts().pop().unwrap().1;
            let cut = rng.below(lanes + 1);
            let mut groups = add_neighbours(parts[..cut].to_vec(), lanes, &geometry, &mut Vec::new());
            groups.extend(add_neighbours(parts[cut..].to_vec(), lanes, &geometry, &mut Vec::new()));
            let mut writer = Writer::new(&geometry, Buffer::new());
            add_up(&groups, lanes, &geometry, &mut writer);
            let sum = writer.finish();
            let mut flat = vec![T::from_i32(0); expected.len()];
            for entry in &sum.entries {
                flat[table.elements(entry.chunk as usize)].copy_from_slice(&dense::<T>(&sum, entry, &geometry));
            }
            assert_eq!(flat, expected, "seed {seed}: {lanes} lanes cut at {cut}");
        });
    }
}

/// Single numbers at places.
#[test]
fn pairs_are_numbers_at_places() {
    let geometry = [Geometry::new(&TableSpec::new("t", 10, 1))];
    let mut writer = Writer::new(&geometry, Buffer::new());
    writer.pairs(0, 0, &[2, 9], &[1.5f32, -2.0]);
    let part = writer.finish();
    let numbers = dense::<f32>(&part, &part.entries[0], &geometry);
    assert_eq!(numbers, [0.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0]);
}

/// A body that is cut short, a chunk that does not exist, or a place outside its chunk is refused, never a panic.
#[test]
fn refuses_what_is_not_all_there() {
    let geometry = [Geometry::new(&TableSpec::new("t", 40, 20))];
    let numbers: Vec<f32> =
        (0..40 * geometry[0].stride).map(|n| if n % 7 == 0 { n as f32 } else { 0.0 }).collect();
    let mut writer = Writer::new(&geometry, Buffer::new());
    assert_eq!(writer.chunk(0, 0, &numbers), Encoding::Pairs);
    let part = writer.finish();
    let receive = |body: Buffer, entries: Vec<Entry>| {
        Part::received(&mut Message::new(&(), body), entries, &geometry).map_err(|e| e.to_string())
    };
    let bytes = part.body.bytes();
    for length in 0..bytes.len() {
        let error = receive(Buffer::from(&bytes[..length]), part.entries.clone());
        assert!(error.unwrap_err().contains("not all there"), "{length} of {} bytes", bytes.len());
    }
    let entry = part.entries[0];
    let refused = |entry: Entry| receive((*part.body).clone(), vec![entry]).unwrap_err();
    assert!(refused(Entry { chunk: 9, ..entry }).contains("chunk 9 of table 0: there is no such chunk"));
    assert!(refused(Entry { table: 1, ..entry }).contains("there is no such chunk"));
    assert!(refused(Entry { offset: u32::MAX, ..entry }).contains("not all there"));
    assert!(refused(Entry { encoding: Encoding::Narrow8, ..entry }).contains("not all there"), "no integers");
    let twice = receive((*part.body).clone(), vec![entry, entry]).unwrap_err();
    assert!(twice.contains("chunks must ascend"), "{twice}");
    let mut writer = Writer::new(&geometry, Buffer::new());
    writer.pairs(0, 0, &[40 * geometry[0].stride as u16], &[1.0f32]);
    let outside = writer.finish();
    assert!(receive((*outside.body).clone(), outside.entries.clone()).is_err(), "a place past the end");
}

/// Random bytes and random entries never panic, whatever they claim.
#[test]
fn survives_any_bytes() {
    for seed in 0..3000u64 {
        let mut rng = stream(seed, "bytes-test", &[]);
        let geometry = [table_of(seed, &mut rng)];
        let bytes: Vec<u8> =
            (0..rng.below(4000)).map(|_| if rng.below(3) == 0 { rng.below(256) as u8 } else { 0 }).collect();
        let encoding = [
            Encoding::Dense,
            Encoding::Rows,
            Encoding::Pairs,
            Encoding::Pairs8,
            Encoding::Narrow8,
            Encoding::Narrow16,
            Encoding::Packed([Format::Bf16, Format::F16, Format::F32][rng.below(3)], Layout::Dense),
            Encoding::Packed(Format::Bf16, Layout::Rows),
            Encoding::Packed(Format::F16, Layout::Pairs),
        ][rng.below(9)];
        let entry =
            Entry { table: 0, chunk: rng.below(3) as u32, offset: 8 * rng.below(100) as u32, encoding };
        let received =
            Part::received(&mut Message::new(&(), Buffer::from(&bytes[..])), vec![entry], &geometry);
        if let Ok(part) = received {
            let mut writer = Writer::new(&geometry, Buffer::new());
            add_up(&[(Node::leaf(0), part.clone()), (Node::leaf(1), part)], 2, &geometry, &mut writer);
            assert_eq!(writer.finish().entries.len(), 1, "seed {seed}");
        }
    }
}

/// Rounded numbers travel in half the bytes and arrive as they were; what 16 bits do not hold travels as it is.
#[test]
fn packed_parts_come_back_as_they_went() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300u64 {
        let mut rng = stream(seed, "packed-test", &[]);
        let table = table_of(seed, &mut rng);
        let (geometry, format) = ([table], [Format::Bf16, Format::F16][rng.below(2)]);
        with_type!(table.element, T => {
            let rounds = rng.below(4) > 0 && T::TYPE == Type::F32;
            let round = |number: T| match rounds {
                true => T::from_f64(f64::from(format.round(number.to_f64() as f32))),
                false => number,
            };
            let chunks: Vec<Vec<T>> = (0..table.chunks)
                .map(|chunk| random_chunk(&mut rng, table.elements(chunk).len(), table.stride))
                .map(|numbers: Vec<T>| numbers.into_iter().map(round).collect())
                .collect();
            let mut writer = Writer::new(&geometry, Buffer::new());
            chunks.iter().enumerate().for_each(|(chunk, numbers)| { writer.chunk(0, chunk, numbers); });
            let part = writer.finish();
            let wide = part.body.len();
            let is_dense = part.entries.iter().all(|entry| entry.encoding == Encoding::Dense);
            let packed = part.packed(&[if T::TYPE == Type::F32 { format } else { Format::F32 }], &geometry);
            assert!(!(rounds && is_dense) || packed.body.len() <= wide / 2 + 8 * table.chunks, "seed {seed}: half");
            seen.extend(packed.entries.iter().map(|entry| format!("{:?}", entry.encoding)));
            let bytes = packed.body.clone();
            let back = Part::received(&mut Message::shared(&(), bytes.clone()), packed.entries.clone(), &geometry);
            let back = back.unwrap();
            for (entry, numbers) in back.entries.iter().zip(&chunks) {
                assert_eq!(dense::<T>(&back, entry, &geometry), *numbers, "seed {seed}");
            }
            let cut = Buffer::from(&bytes.bytes()[..bytes.len().saturating_sub(1)]);
            let cut = Part::received(&mut Message::new(&(), cut), packed.entries.clone(), &geometry);
            assert!(bytes.is_empty() || cut.is_err(), "seed {seed}: cut short");
        });
    }
    for layout in ["Dense", "Rows", "Pairs"] {
        for format in ["Bf16", "F16"] {
            assert!(seen.contains(&format!("Packed({format}, {layout})")), "{layout}, {format}: {seen:?}");
        }
    }
}
