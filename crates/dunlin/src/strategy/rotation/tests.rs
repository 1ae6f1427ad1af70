//! What arrives is never trusted: whatever another rank sends, the answer is an error that names it, or something that
//! it could have sent; memory stays bounded.

use super::*;
use crate::codec::pack_counts;
use crate::rng::{Stream, stream};
use crate::strategy::reach::tests::some_reach;
use crate::table::{Replica, Type};

const ROWS: usize = 37;

fn params() -> Params {
    let specs = [
        TableSpec::new("users", 20, 3).axis(Axis::Example),
        TableSpec::new("items", ROWS, 5),
        TableSpec::new("counts", ROWS, 1).element(Type::I32),
        TableSpec::new("bias", 3, 2).element(Type::F64).axis(Axis::Whole),
    ];
    let replicas = specs.map(|spec| {
        let tracked = spec.axis == Axis::Whole;
        Replica::new(spec, tracked)
    });
    Params { replicas: replicas.into(), lanes: 1 }
}

/// Worker `rank` of `workers` at a clock at which all its lanes have done `clock` clocks.
fn rotation(workers: usize, lanes: usize, rank: usize, clock: u64) -> (Rotation, Params) {
    let params = Params { lanes, ..params() };
    let count = BLOCKS_PER_LANE * lanes;
    let row_blocks = (0..count).map(|block| ROWS * block / count..ROWS * (block + 1) / count).collect();
    let lanes = Lanes::new(Hosting::even(lanes, workers), rank, clock);
    let mut rotation = Rotation::new(&params, &lanes, row_blocks, clock, None).expect("held").with_pace(true);
    rotation.drained = false;
    (rotation, params)
}

/// Bytes of all that has arrived or is held.
fn held_bytes(rotation: &Rotation) -> usize {
    let held = rotation.held.values().flatten().flatten().map(|values| values.bytes().len());
    let copies = rotation.copies.iter().map(|copy| copy.3.len());
    let arrived = rotation.arrived.iter().map(|(_, _, part)| part.body.len());
    let pieces = rotation.pieces.values().flatten().map(|piece| piece.body.len());
    held.chain(copies).chain(arrived).chain(pieces).sum()
}

fn body_bytes(rotation: &Rotation, table: usize, row_block: usize) -> usize {
    let table = &rotation.geometry[table];
    rotation.row_blocks[row_block].len() * table.stride * table.element.bytes()
}

/// Bytes of what rank `from` sends for the visit at `clock` of the last lane, if rows travel in pieces.
fn piece_bytes(rotation: &Rotation, from: usize, clock: u64, table: u16) -> usize {
    let senders = rotation.senders(clock);
    let set = senders.into_iter().find(|(worker, _)| *worker == from);
    let (Some(reach), Some((_, set)), Some(place)) = (&rotation.reach, set, rotation.place(table)) else {
        return 0;
    };
    reach.bytes(place, &rotation.row_blocks[rotation.row_block(rotation.hosted.end - 1, clock)], &set)
}

/// A number near to what is meant, or far from it.
fn near(rng: &mut Stream, value: u64) -> u64 {
    match rng.below(8) {
        0 => u64::MAX - rng.below(3) as u64,
        1 => rng.next(),
        2 => 0,
        _ => (value + rng.below(14) as u64).saturating_sub(4),
    }
}

/// Counts in their smallest form; at times damaged.
pub(in crate::strategy) fn some_counts(rng: &mut Stream, bytes: usize) -> Part {
    let zeros = [1, 2, 40][rng.below(3)];
    let one = |rng: &mut Stream| if rng.below(zeros) == 0 { rng.below(300) as i32 - 100 } else { 0 };
    let counts: Vec<i32> = (0..bytes / 4).map(|_| one(rng)).collect();
    let mut part = pack_counts(Type::I32, Buffer::from(bytemuck::cast_slice::<i32, u8>(&counts)).into());
    if let Some(entry) = part.entries.first_mut().filter(|_| rng.below(3) == 0) {
        match rng.below(3) {
            0 => entry.chunk = near(rng, 0) as u32,
            1 => entry.offset = near(rng, 0) as u32,
            _ => entry.encoding = crate::codec::Encoding::Pairs8,
        }
        let left = rng.below(part.body.len() + 1);
        part.body = Buffer::from(&part.body.bytes()[..left]).into();
    }
    part
}

/// A packet of any kind, often nearly right.
fn packet(rng: &mut Stream, rotation: &Rotation, from: usize) -> Message {
    let clock = near(rng, rotation.done[0]);
    let table = rng.below(5) as u16;
    let last = rotation.hosted.end as u64 - 1;
    let lane = if rng.below(2) == 0 { last } else { near(rng, 2) } as u32;
    let row_block = near(rng, 3) as u32;
    let mut packet = match rng.below(4) {
        0 => Packet::Visit { lane, clock, table, entries: Vec::new() },
        3 => Packet::Done { lane: near(rng, rotation.hosted.start as u64) as u32, clock },
        1 => Packet::Copy { clock, table, row_block, entries: Vec::new() },
        _ => {
            let start = rng.below(6) as u32;
            let lanes = Node { start, end: near(rng, u64::from(start)) as u32 };
            let entry = |rng: &mut Stream| Entry {
                table: rng.below(5) as u16,
                chunk: (near(rng, 0) % 7) as u32,
                offset: near(rng, 0) as u32,
                encoding: crate::codec::Encoding::Dense,
            };
            let entries = (0..rng.below(3)).map(|_| entry(rng)).collect();
            Packet::Merge { lap: near(rng, rotation.laps), lanes, entries }
        }
    };
    let meant = match packet {
        Packet::Visit { lane, clock, .. } => rotation.row_block(lane as usize % rotation.lanes, clock),
        _ => row_block as usize % rotation.row_blocks.len(),
    };
    let length = match (rng.below(4), &packet) {
        (0, _) => rng.below(4000),
        (_, Packet::Visit { .. }) if rotation.reach.is_some() => piece_bytes(rotation, from, clock, table),
        _ => body_bytes(rotation, usize::from(table.min(3)), meant),
    };
    let part = match table == 2 || rng.below(20) == 0 {
        true => some_counts(rng, length),
        false => Part { entries: Vec::new(), body: Buffer::zeroed(length).into() },
    };
    if let Packet::Visit { entries, .. } | Packet::Copy { entries, .. } = &mut packet {
        *entries = part.entries;
    }
    let mut message = Message::shared(&packet, part.body);
    if rng.below(10) == 0 {
        message.head = (0..rng.below(20)).map(|_| rng.next() as u8).collect();
    }
    message
}

#[test]
fn whatever_is_sent_is_refused_by_name_or_takes_no_more_than_a_copy_of_the_tables() {
    let (mut refused, mut taken) = (0, [0; 4]);
    for seed in 0..8000 {
        let mut rng = stream(seed, "hostile", &[]);
        let (workers, clock) = (2 + rng.below(2), rng.below(20) as u64);
        let lanes = workers + rng.below(4);
        let rank = rng.below(workers);
        let (mut rotation, mut params) = rotation(workers, lanes, rank, clock);
        if rng.below(2) == 0 {
            let specs: Vec<&TableSpec> = params.replicas[1..3].iter().map(|replica| &replica.spec).collect();
            rotation = rotation.with_reach(Some(some_reach(&mut rng, workers, ROWS, &specs)));
        }
        let table_bytes: usize = (1..3).map(|table| ROWS * body_bytes(&rotation, table, 0).max(64)).sum();
        for _ in 0..60 {
            let from = (rank + 1 + rng.below(workers - 1)) % workers;
            let mut message = packet(&mut rng, &rotation, from);
            message.from = from;
            let before = (rotation.held.len(), rotation.copies.len(), rotation.arrived.len(), rotation.laps);
            let pieces = rotation.pieces.len();
            match rotation.take_in(message, &mut params) {
                Ok(()) => {
                    taken[0] += usize::from(rotation.held.len() > before.0);
                    taken[3] += usize::from(rotation.pieces.len() > pieces);
                    taken[1] += usize::from(rotation.copies.len() > before.1);
                    taken[2] += usize::from(rotation.arrived.len() > before.2 || rotation.laps > before.3);
                }
                Err(Error::Comm(dunlin_comm::Error::BadMessage { from: named, .. })) => {
                    refused += 1;
                    assert_eq!(named, from, "seed {seed}");
                }
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        let bytes = held_bytes(&rotation);
        assert!(bytes <= 2 * table_bytes + lanes * 4000, "seed {seed}: {bytes} bytes of {table_bytes}");
        let blocks: Vec<usize> =
            rotation.held.keys().map(|(lane, clock)| rotation.row_block(*lane, *clock)).collect();
        assert!(blocks.len() <= rotation.row_blocks.len(), "seed {seed}: {blocks:?}");
        assert!(
            (0..rotation.row_blocks.len()).all(|b| blocks.iter().filter(|c| **c == b).count() <= 1),
            "seed {seed}"
        );
    }
    assert!(refused > 100_000 && taken.iter().all(|taken| *taken > 30), "{refused} refused, {taken:?} taken");
}

fn refusal(rotation: &mut Rotation, params: &mut Params, from: usize, head: &Packet, bytes: usize) -> String {
    let mut message = Message::new(head, Buffer::zeroed(bytes));
    message.from = from;
    match rotation.take_in(message, params) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// Two workers with two lanes each: rank 0 has the lanes 0 and 1, and lane 1 gets its row blocks from lane 2.
#[test]
fn only_the_row_block_that_is_on_its_way_is_taken() {
    let (mut rotation, mut params) = rotation(2, 4, 0, 8);
    let visit = |lane, clock, table| Packet::Visit { lane, clock, table, entries: Vec::new() };
    let row_block = rotation.row_block(1, 10);
    let bytes = body_bytes(&rotation, 1, row_block);
    let mut said = |from, head: &Packet, bytes| refusal(&mut rotation, &mut params, from, head, bytes);
    for (head, what) in [
        (visit(0, 10, 1), "lane 0 gets its rows from a lane of the same rank"),
        (visit(2, 10, 1), "a lane that is hosted elsewhere"),
        (visit(9, 10, 1), "no such lane"),
        (visit(1, 7, 1), "a clock that is done"),
        (visit(1, 9, 1), "rows that are here"),
        (visit(1, 12, 1), "more than twice the row blocks of a lane ahead"),
        (visit(1, 16, 1), "a lap ahead"),
        (visit(1, u64::MAX, 1), "a clock far away"),
        (visit(1, 10, 0), "a table that stays"),
        (visit(1, 10, 3), "a table that is merged"),
        (visit(1, 10, 9), "no such table"),
    ] {
        let text = said(1, &head, bytes);
        assert!(text.starts_with("rank 1 sent a bad message: rows of table"), "{what}: {text}");
    }
    for wrong in [0, bytes - 1, bytes + 64] {
        let text = said(1, &visit(1, 10, 1), wrong);
        assert!(text.contains("rank 1") && text.contains(&format!("it has {bytes}")), "{text}");
    }
    assert_eq!(said(1, &visit(1, 10, 1), bytes), "", "the one that is due");
    assert!(said(1, &visit(1, 10, 1), bytes).contains("none can come"), "doubled");
}

#[test]
fn only_copies_and_updates_that_are_due_are_taken() {
    let (mut rotation, mut params) = rotation(2, 4, 0, 8);
    let bytes = body_bytes(&rotation, 1, 4);
    let copy = |clock, table, row_block| Packet::Copy { clock, table, row_block, entries: Vec::new() };
    let merge = |lap, start, end| Packet::Merge { lap, lanes: Node { start, end }, entries: Vec::new() };
    let mut said = |head: &Packet| refusal(&mut rotation, &mut params, 1, head, bytes);
    for head in [
        copy(0, 1, 4),
        copy(9, 1, 4),
        copy(16, 1, 4),
        copy(u64::MAX, 1, 4),
        copy(8, 1, 3),
        copy(8, 3, 4),
        copy(8, 1, 8),
    ] {
        assert!(said(&head).starts_with("rank 1 sent a bad message: a copy of row block"), "{head:?}");
    }
    assert_eq!(said(&copy(8, 1, 4)), "");
    assert!(said(&copy(8, 1, 4)).contains("none can come"), "doubled");
    for head in [
        merge(0, 2, 4),
        merge(2, 2, 4),
        merge(1, 0, 2),
        merge(1, 2, 3),
        merge(1, 3, 2),
        merge(1, 0, 4),
        merge(1, 2, u32::MAX),
    ] {
        assert!(said(&head).starts_with("rank 1 sent a bad message: updates of lanes"), "{head:?}");
    }
    let entry = Entry { table: 1, chunk: 0, offset: 0, encoding: crate::codec::Encoding::Dense };
    let rotating = Packet::Merge { lap: 1, lanes: Node { start: 2, end: 4 }, entries: vec![entry] };
    assert!(said(&rotating).contains("table 1, which is not merged"));
    assert_eq!(said(&merge(1, 2, 4)), "");
    assert!(said(&merge(1, 2, 4)).contains("none can come"), "doubled");
}

/// Rank 0 has the lanes 0 and 1. Lane 0 sends to lane 3, on rank 1, which has done as many clocks.
#[test]
fn a_lane_waits_for_the_one_it_sends_to() {
    let (mut rotation, mut params) = rotation(2, 4, 0, 8);
    let done = |lane, clock| Packet::Done { lane, clock };
    let mut said = |rotation: &mut Rotation, head: &Packet| refusal(rotation, &mut params, 1, head, 0);
    assert!(rotation.has_room(0, 9) && !rotation.has_room(0, 10), "two ahead");
    assert!(rotation.has_room(1, 9) && !rotation.has_room(1, 10), "of a lane of this rank too");
    for (head, what) in [
        (done(3, 8), "what is known"),
        (done(3, 0), "what was before"),
        (done(3, 11), "more than the row blocks that it can have had"),
        (done(3, u64::MAX), "a clock far away"),
        (done(2, 9), "a lane that nobody asks for"),
        (done(0, 9), "a lane of this rank"),
        (done(9, 9), "no such lane"),
    ] {
        let text = said(&mut rotation, &head);
        assert!(text.starts_with("rank 1 sent a bad message: lane"), "{what}: {text}");
    }
    assert_eq!(said(&mut rotation, &done(3, 9)), "");
    assert!(said(&mut rotation, &done(3, 9)).contains("cannot be"), "doubled");
    assert!(rotation.has_room(0, 10) && !rotation.has_room(0, 11));
    rotation.done[0] = 9;
    assert!(rotation.has_room(1, 10) && !rotation.has_room(1, 11));
    let free = Rotation { taken: None, ..rotation };
    assert!(free.has_room(0, 15) && free.untold(16).is_none(), "between threads the ring is the only bound");
}
