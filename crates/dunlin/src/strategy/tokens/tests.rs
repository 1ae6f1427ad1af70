//! What arrives is never trusted: whatever another rank sends, the answer is an error that names it, or something that
//! it could have sent; memory stays bounded. And how a token chooses its way.

use super::*;
use crate::rng::{Stream, stream};
use crate::strategy::reach::tests::some_reach;
use crate::strategy::rotation::tests::some_counts;
use crate::table::{Axis, Replica, Type};

const ROWS: usize = 37;

fn params(lanes: usize) -> Params {
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
    Params { replicas: replicas.into(), lanes }
}

/// Worker `rank` of `workers`, with three tokens a lane, once all lanes have done `lap` laps.
fn tokens(workers: usize, lanes: usize, rank: usize, lap: u64) -> (Tokens, Params) {
    let params = params(lanes);
    let count = 3 * lanes;
    let row_blocks = (0..count).map(|block| ROWS * block / count..ROWS * (block + 1) / count).collect();
    let clock = lap * count as u64;
    let lanes = Lanes::new(Hosting::even(lanes, workers), rank, clock);
    let run =
        Run { workers, lanes: lanes.total, strategy: "rotation:async".parse().unwrap(), ..Run::default() };
    let tokens = Tokens::new(&params, &run, &lanes, row_blocks, true, None, None);
    (tokens.expect("held"), params)
}

/// Has the hosted lanes be done with all laps before `lap`.
fn advance(tokens: &mut Tokens, lap: u64) {
    for track in &mut tokens.tracks {
        *track = Track::new(lap, tokens.row_blocks.len());
    }
}

fn body_bytes(tokens: &Tokens, place: usize, row_block: usize) -> usize {
    let table = &tokens.geometry[tokens.rotating[place]];
    tokens.row_blocks[row_block].len() * table.stride * table.element.bytes()
}

fn set(bound: usize, lanes: &[usize]) -> Set {
    let mut set = Set::new(bound);
    lanes.iter().for_each(|lane| set.insert(*lane));
    set
}

fn answer(tokens: &mut Tokens, params: &mut Params, from: usize, head: &Packet, bytes: usize) -> String {
    let mut message = Message::new(head, Buffer::zeroed(bytes));
    message.from = from;
    match tokens.take_in(message, params) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn visit(place: u16, heads: &[(u32, u32, u64, &[usize])], waiting: usize) -> Packet {
    let head = |(token, lane, lap, lanes): &(u32, u32, u64, &[usize])| Head {
        token: *token,
        lane: *lane,
        lap: *lap,
        visited: set(4, lanes),
    };
    let tokens = heads.iter().map(head).collect();
    Packet::Visit { place, tokens, waiting: vec![0; waiting], entries: Vec::new() }
}

/// Two workers with two lanes each: rank 0 has the lanes 0 and 1 and at first the tokens 0 to 5 of twelve.
#[test]
fn only_a_token_that_can_be_on_its_way_is_taken() {
    let (mut tokens, mut params) = tokens(2, 4, 0, 5);
    let bytes =
        [0, 1].map(|place| (0..12).map(|block| body_bytes(&tokens, place, block)).collect::<Vec<_>>());
    let mut told = |head: &Packet, bytes: usize| answer(&mut tokens, &mut params, 1, head, bytes);
    let refused = [
        (visit(0, &[(12, 0, 5, &[2])], 2), 0, "row block 12 for lane 0 in lap 5; there are 12"),
        (visit(0, &[(7, 2, 5, &[3])], 2), bytes[0][7], "which is not to visit that lane here"),
        (visit(0, &[(7, 4, 5, &[3])], 2), bytes[0][7], "which is not to visit that lane here"),
        (visit(0, &[(7, 1, 5, &[1, 2])], 2), bytes[0][7], "which is not to visit that lane here"),
        (
            visit(0, &[(3, 1, 5, &[2])], 2),
            bytes[0][3],
            "row block 3 for lane 1 in lap 5, which is here already",
        ),
        (visit(0, &[(7, 1, 5, &[2]), (7, 1, 5, &[2])], 2), 2 * bytes[0][7], "which is here already"),
        (visit(0, &[(7, 1, 5, &[])], 2), bytes[0][7], "which cannot come from there now"),
        (visit(0, &[(7, 1, 4, &[2])], 2), bytes[0][7], "which cannot come from there now"),
        (visit(0, &[(7, 1, 8, &[2])], 2), bytes[0][7], "which cannot come from there now"),
        (visit(0, &[(7, 1, 5, &[0, 2])], 2), bytes[0][7], "which cannot come from there now"),
        (visit(0, &[(7, 1, 5, &[2])], 3), bytes[0][7], "3 queue lengths, from a rank with 2 other lanes"),
        (visit(0, &[], 2), 0, "0 tokens"),
        (
            visit(1, &[(7, 1, 5, &[2])], 2),
            bytes[1][7],
            "rows of rotating table 1 where those of table 0 come",
        ),
        (visit(0, &[(7, 1, 5, &[2])], 2), bytes[0][7] - 1, "row block 7, the first of 1 tokens, in"),
    ];
    for (head, bytes, wanted) in refused {
        let text = told(&head, bytes);
        assert!(
            text.contains("rank 1 sent a bad message") && text.contains(wanted),
            "{text}\nlacks: {wanted}"
        );
    }
    let head = |place| visit(place, &[(7, 1, 5, &[2])], 2);
    assert_eq!(told(&head(0), bytes[0][7]), "");
    assert!(told(&head(0), bytes[0][7]).contains("where those of table 1 come next"));
    assert!(told(&visit(1, &[(8, 1, 5, &[2])], 2), bytes[1][8]).contains("where those of table 1 come next"));
    assert_eq!(told(&head(1), bytes[1][7]), "");
    assert!(told(&head(0), bytes[0][7]).contains("which is here already"));
    // Several at once, one of them a lap ahead; a token of the lap after that would wait.
    let two = |place| visit(place, &[(8, 0, 5, &[2, 3]), (9, 1, 6, &[])], 2);
    assert_eq!(told(&two(0), (bytes[0][8]).next_multiple_of(8) + bytes[0][9]), "");
    assert_eq!(told(&two(1), (bytes[1][8]).next_multiple_of(8) + bytes[1][9]), "");
    assert_eq!(told(&visit(0, &[(10, 1, 7, &[])], 2), bytes[0][10]), "");
    assert_eq!(tokens.held.len(), 9);
}

#[test]
fn only_copies_and_merges_of_the_lap_that_ends_are_taken() {
    let (mut tokens, mut params) = tokens(2, 4, 0, 5);
    tokens.whole = false;
    let bytes = body_bytes(&tokens, 0, 9);
    let mut told = |head: &Packet, bytes: usize| answer(&mut tokens, &mut params, 1, head, bytes);
    let copy = |lap, token| Packet::Copy { lap, token, place: 0, entries: Vec::new() };
    for (lap, token) in [(5, 9), (7, 9), (6, 12)] {
        let text = told(&copy(lap, token), bytes);
        assert!(
            text.contains(&format!("a copy of row block {token} before lap {lap}, where none")),
            "{text}"
        );
    }
    assert!(told(&copy(6, 9), bytes + 4).contains("a copy of row block 9 in "));
    assert_eq!(told(&copy(6, 9), bytes), "");
    assert!(told(&copy(6, 9), bytes).contains("where none can come"));
    let merge = |lap, start, end| Packet::Merge { lap, lanes: Node { start, end }, entries: Vec::new() };
    for (lap, start, end) in [(4, 2, 4), (8, 2, 4), (5, 0, 2), (5, 2, 3), (5, 4, 6)] {
        assert!(told(&merge(lap, start, end), 0).contains("where none can come"), "{lap} {start}..{end}");
    }
    assert_eq!(told(&merge(5, 2, 4), 0), "");
    assert!(told(&merge(5, 2, 4), 0).contains("where none can come"));
}

/// Has some tokens be away, where they travel in pieces.
fn send_away(tokens: &mut Tokens, rng: &mut Stream, rank: usize) {
    let workers = tokens.hosting.workers();
    for number in tokens.held.keys().copied().collect::<Vec<_>>() {
        if rng.below(2) == 0 {
            continue;
        }
        let Some(token) = tokens.held.remove(&number) else { continue };
        tokens.queue.retain(|place| place.3 != number);
        tokens.away.insert(number, ((rank + 1 + rng.below(workers - 1)) % workers, token.values));
    }
}

/// A packet of any kind, often nearly right.
fn packet(rng: &mut Stream, tokens: &Tokens, from: usize) -> Message {
    let lap = (tokens.drained + rng.below(6) as u64).saturating_sub(1);
    let place = if rng.below(8) == 0 { rng.next() as u16 } else { rng.below(2) as u16 };
    let count = tokens.row_blocks.len();
    let number = |rng: &mut Stream| rng.below(count + 1) as u32;
    let mut packet = match rng.below(if tokens.reach.is_some() { 6 } else { 4 }) {
        4 => Packet::Rest {
            token: number(rng),
            lane: rng.below(tokens.lanes + 1) as u32,
            place,
            entries: Vec::new(),
        },
        5 => Packet::Fill { token: number(rng), left: rng.below(4) as u32, place, entries: Vec::new() },
        0 => {
            let head = |rng: &mut Stream| {
                let visited: Vec<usize> = (0..tokens.lanes).filter(|_| rng.below(3) == 0).collect();
                let lane = rng.below(tokens.lanes + 1) as u32;
                Head { token: number(rng), lane, lap, visited: set(tokens.lanes, &visited) }
            };
            let heads = (0..1 + rng.below(2)).map(|_| head(rng)).collect();
            let waiting = vec![rng.next() as u32; 1 + rng.below(3)];
            Packet::Visit { place, tokens: heads, waiting, entries: Vec::new() }
        }
        1 => Packet::Copy { lap, token: number(rng), place, entries: Vec::new() },
        2 => Packet::Settled { lap },
        _ => {
            let start = rng.below(6) as u32;
            Packet::Merge {
                lap,
                lanes: Node { start, end: start + rng.below(4) as u32 },
                entries: Vec::new(),
            }
        }
    };
    let table = usize::from(place.min(1));
    let known = |token: u32| token % count as u32;
    let bytes = |token: u32| body_bytes(tokens, table, token as usize % count);
    let comes = |token: u32| tokens.visit_bytes(from, known(token), table);
    let length = match &packet {
        _ if rng.below(6) == 0 => rng.below(4000),
        Packet::Visit { tokens, .. } => {
            tokens.iter().fold(0, |at: usize, head| at.next_multiple_of(8) + comes(head.token))
        }
        Packet::Rest { token, lane, .. } => tokens.rest_bytes(from, known(*token), *lane as usize, table),
        Packet::Fill { token, left, .. } => tokens.fill_bytes(*left as usize, known(*token), table),
        Packet::Copy { token, .. } => bytes(*token),
        Packet::Merge { .. } | Packet::Settled { .. } => 0,
    };
    let part = match place == 1 || rng.below(20) == 0 {
        true => some_counts(rng, length),
        false => Part { entries: Vec::new(), body: Buffer::zeroed(length).into() },
    };
    if let Packet::Visit { entries, .. }
    | Packet::Copy { entries, .. }
    | Packet::Rest { entries, .. }
    | Packet::Fill { entries, .. } = &mut packet
    {
        *entries = part.entries;
    }
    let mut message = Message::shared(&packet, part.body);
    if rng.below(10) == 0 {
        message.head = (0..rng.below(20)).map(|_| rng.next() as u8).collect();
    }
    message
}

#[test]
fn whatever_is_sent_is_refused_by_name_or_takes_no_more_than_two_copies_of_the_tables() {
    let (mut refused, mut taken) = (0, [0; 5]);
    for seed in 0..4000 {
        let mut rng = stream(seed, "hostile-token", &[]);
        let workers = 2 + rng.below(2);
        let lanes = workers + rng.below(4);
        let rank = rng.below(workers);
        let (mut tokens, mut params) = tokens(workers, lanes, rank, rng.below(4) as u64);
        if rng.below(2) == 0 {
            let specs: Vec<&TableSpec> = params.replicas[1..3].iter().map(|replica| &replica.spec).collect();
            tokens = tokens.with_reach(Some(some_reach(&mut rng, workers, ROWS, &specs)));
            send_away(&mut tokens, &mut rng, rank);
        }
        if rng.below(2) == 0 {
            let lap = tokens.drained + 1;
            advance(&mut tokens, lap);
        }
        for _ in 0..60 {
            let from = (rank + 1 + rng.below(workers - 1)) % workers;
            let mut message = packet(&mut rng, &tokens, from);
            message.from = from;
            let before = (tokens.held.len(), tokens.copies.len(), tokens.merged.arrived.len());
            let pieces = (tokens.answers.len(), tokens.fills.len());
            let sent = message.head::<Packet>();
            match tokens.take_in(message, &mut params) {
                Ok(()) => {
                    if let Ok(Packet::Visit { place: 0, tokens: heads, waiting, .. }) = sent {
                        let bytes = |head: &Head| tokens.visit_bytes(from, head.token, 1);
                        let length =
                            heads.iter().fold(0, |at: usize, head| at.next_multiple_of(8) + bytes(head));
                        let rest = Packet::Visit { place: 1, tokens: heads, waiting, entries: Vec::new() };
                        assert_eq!(answer(&mut tokens, &mut params, from, &rest, length), "", "seed {seed}");
                    }
                    taken[0] += usize::from(tokens.held.len() > before.0);
                    taken[3] += usize::from(tokens.answers.len() > pieces.0);
                    taken[4] += usize::from(tokens.fills.len() > pieces.1);
                    taken[1] += usize::from(tokens.copies.len() > before.1);
                    taken[2] += usize::from(tokens.merged.arrived.len() > before.2);
                }
                Err(Error::Comm(dunlin_comm::Error::BadMessage { from: named, .. })) => {
                    refused += 1;
                    assert_eq!(named, from, "seed {seed}");
                }
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        let count = tokens.row_blocks.len();
        let there =
            tokens.held.len() + tokens.coming.values().map(|coming| coming.heads.len()).sum::<usize>();
        let fills = tokens.fills.len();
        assert!(there + tokens.unfilled.len() <= count && fills <= 2 * count, "seed {seed}: {fills} fills");
        assert!(there <= count && tokens.copies.len() <= 2 * count, "seed {seed}: {there} of {count} tokens");
        assert!(tokens.merged.arrived.len() <= 3 * lanes, "seed {seed}");
        assert_eq!(tokens.queue.len(), tokens.held.len(), "seed {seed}");
    }
    assert!(refused > 50_000 && taken.iter().all(|taken| *taken > 30), "{refused} refused, {taken:?} taken");
}

#[test]
fn a_token_goes_round_its_worker_first_and_then_to_where_few_wait() {
    let (mut tokens, _) = tokens(3, 6, 0, 0);
    let token = |lanes: &[usize]| Token { lap: 0, visited: set(6, lanes), lane: 0, values: Vec::new() };
    tokens.waiting = vec![9, 9, 5, 5, 1, 8];
    assert_eq!(tokens.next_lane(0, &token(&[0])), 1, "lane 1 is here");
    assert_eq!(tokens.next_lane(0, &token(&[0, 1])), 4, "rank 2 has nine, rank 1 ten");
    assert_eq!(tokens.next_lane(0, &token(&[0, 1, 4])), 5, "rank 2 still has less to do");
    tokens.waiting[5] = 80;
    let ties: BTreeSet<usize> = (0..40).map(|number| tokens.next_lane(number, &token(&[0, 1]))).collect();
    assert_eq!(ties, BTreeSet::from([2, 3]), "chance decides between equals");
    assert_eq!(tokens.next_lane(0, &token(&[])), 2 + tokens.next_lane(0, &token(&[])) % 2, "a new lap");
}

#[test]
fn a_lane_ends_laps_in_order() {
    let mut track = Track::new(3, 70);
    assert!(track.has(2, 69) && !track.has(3, 69) && !track.has(9, 0));
    (0..70).for_each(|token| {
        track.enter(3, token);
        if token < 69 {
            track.enter(4, token);
            assert_eq!(track.end_lap(70), None);
        }
    });
    assert_eq!((track.end_lap(70), track.lap, track.count(4)), (Some(3), 4, 69));
    assert!(track.has(3, 0) && track.has(4, 68) && !track.has(4, 69) && !track.has(5, 0));
    assert!(Set::new(70).is_below(70) && !Set::new(70).is_below(64) && !set(128, &[100]).is_below(70));
}

#[test]
fn that_row_blocks_are_home_is_taken_once_from_each_worker() {
    let (mut tokens, mut params) = tokens(3, 6, 0, 4);
    let mut told = |tokens: &mut Tokens, from: usize, lap: u64| {
        answer(tokens, &mut params, from, &Packet::Settled { lap }, 0)
    };
    assert!(told(&mut tokens, 1, 5).contains("which cannot be"), "tables are whole here");
    tokens.spread = true;
    for lap in [0, 4, 6, u64::MAX] {
        assert!(told(&mut tokens, 1, lap).contains(&format!("home before lap {lap}, which cannot be")));
    }
    assert_eq!([told(&mut tokens, 1, 5), told(&mut tokens, 2, 5)], ["", ""]);
    assert!(told(&mut tokens, 1, 5).contains("which cannot be"), "doubled");
    assert!(told(&mut tokens, 9, 5).contains("which cannot be"), "no worker");
}

/// Rank 1 waits for rank 2 to have its tokens home; rank 0 has heard from both and has gone on.
#[test]
fn a_token_of_the_next_lap_is_not_sent_home() {
    let (mut tokens, mut params) = tokens(3, 3, 1, 2);
    let count = tokens.row_blocks.len();
    tokens.spread = true;
    for place in 0..2 {
        let head = visit(place, &[(0, 1, 2, &[0])], 1);
        let bytes = body_bytes(&tokens, usize::from(place), 0);
        assert_eq!(answer(&mut tokens, &mut params, 0, &head, bytes), "");
    }
    assert_eq!(tokens.held.len(), count / 3 + 1);
    assert!(tokens.strays().is_empty() && tokens.is_home(2));
    tokens.begin_again();
    let early = &tokens.held[&0];
    assert_eq!((early.lane, early.visited.count()), (1, 1), "it waits here for its second visit");
    tokens.held.values_mut().for_each(|token| token.visited.clear());
    assert_eq!(tokens.strays(), [0], "had it not begun its lap, it would go home");
}
