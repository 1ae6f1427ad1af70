use super::*;
use crate::rng::{Stream, stream};
use crate::table::Type;

/// Workers that touch few of `bound` features, or many.
pub(in crate::strategy) fn some_reach(
    rng: &mut Stream,
    workers: usize,
    bound: usize,
    specs: &[&TableSpec],
) -> Reach {
    let touched = |rng: &mut Stream| {
        let rare = 1 + rng.below(6);
        let mut set = Set::new(bound);
        (0..bound).filter(|_| rng.below(rare) == 0).for_each(|feature| set.insert(feature));
        set
    };
    let mut touched: Vec<Set> = (0..workers).map(|_| touched(rng)).collect();
    touched[0] = if rng.below(2) == 0 { Set::new(bound) } else { touched[0].clone() };
    Reach { touched, bound, layouts: specs.iter().map(|spec| Layout::new(spec)).collect() }
}

/// Round the ring with numbers that say who had a feature last: everybody gets what the last worker that touches it
/// left, and knows of whom.
#[test]
fn every_feature_goes_from_one_that_touches_it_to_the_next() {
    let bound = 70;
    for seed in 0..300 {
        let mut rng = stream(seed, "reach", &[]);
        let workers = 2 + rng.below(5);
        let reach = some_reach(&mut rng, workers, bound, &[]);
        let home = rng.below(workers);
        // By worker, what it has of which feature: who touched it last.
        let mut arrived = vec![vec![None; bound]; workers];
        arrived[home] = vec![Some(home); bound];
        let mut last = vec![home; bound];
        for hop in 0..workers {
            let from = (home + workers - hop) % workers;
            let own = reach.of(from, home);
            for feature in (0..bound).filter(|feature| own.contains(*feature)) {
                assert_eq!(arrived[from][feature], Some(last[feature]), "seed {seed}: feature {feature}");
                last[feature] = from;
            }
            let pieces = reach.onward(from, home);
            assert_eq!(pieces[0].0, (from + workers - 1) % workers, "seed {seed}: the next one gets word");
            for (to, piece) in pieces {
                let senders = reach.senders(to, home);
                let known = senders.iter().find(|(worker, _)| *worker == from).map(|(_, set)| set);
                assert_eq!(known, Some(&piece), "seed {seed}: {from} to {to}, home {home}");
                for feature in (0..bound).filter(|feature| piece.contains(*feature)) {
                    arrived[to][feature] = Some(last[feature]);
                }
            }
        }
        assert_eq!(
            arrived[home],
            last.into_iter().map(Some).collect::<Vec<_>>(),
            "seed {seed}: whole at home"
        );
    }
}

#[test]
fn a_piece_comes_back_to_where_it_was_cut() {
    let specs = [
        TableSpec::new("items", 50, 5),
        TableSpec::new("weights", 7, 50).axis(Axis::Output),
        TableSpec::new("sums", 50, 3).element(Type::F64),
        TableSpec::new("classes", 7, 50).element(Type::F64).axis(Axis::Output),
    ];
    for seed in 0..300 {
        let mut rng = stream(seed, "piece", &[]);
        let place = rng.below(specs.len());
        let spec = &specs[place];
        let start = rng.below(spec.rows);
        let rows = start..start + rng.below(spec.rows - start + 1);
        let reach = some_reach(&mut rng, 3, 50, &specs.iter().collect::<Vec<_>>());
        let (set, bytes) = (&reach.touched[1], rows.len() * spec.bytes_per_row());
        let values = Buffer::from(&(0..bytes).map(|_| rng.next() as u8).collect::<Vec<_>>()[..]);
        let piece = reach.cut(place, &rows, set, values.bytes());
        assert_eq!(piece.len(), reach.bytes(place, &rows, set), "seed {seed}");
        let mut back = Buffer::zeroed(bytes);
        reach.paste(place, &rows, set, &piece, back.bytes_mut());
        let (size, by_columns) = (spec.element.bytes(), spec.axis == Axis::Output);
        for (at, (back, value)) in back.bytes().chunks(size).zip(values.bytes().chunks(size)).enumerate() {
            let (row, column) = (at / spec.stride(), at % spec.stride());
            let feature = if by_columns { column } else { rows.start + row };
            let is_in = column < spec.width && set.contains(feature);
            assert_eq!(back, if is_in { value } else { &[0; 8][..size] }, "seed {seed}: {row}, {column}");
        }
    }
}

#[test]
fn pieces_are_cut_where_that_saves_something() {
    let plain = TableSpec::new("items", 100, 32);
    let few = |count: usize| {
        let mut set = Set::new(100);
        (0..count).for_each(|feature| set.insert(feature));
        set
    };
    let reach = |counts: [usize; 2], spec: &TableSpec, is_one_host: bool| {
        Reach::new(counts.map(few).into(), 100, &[spec], is_one_host)
    };
    assert!(reach([80, 100], &plain, false).is_none(), "both touch most");
    assert!(reach([60, 100], &plain, false).is_some() && reach([60, 100], &plain, true).is_none());
    let uneven = reach([80, 30], &plain, true).expect("one touches few");
    assert_eq!((uneven.of(0, 5).count(), uneven.of(1, 5).count(), uneven.of(1, 1).count()), (100, 30, 100));
    let padded = TableSpec::new("items", 100, 33);
    assert!(reach([100, 100], &padded, false).is_some() && reach([100, 100], &padded, true).is_none());
}

#[test]
fn what_blocks_touch_is_found() {
    let replica = |spec| crate::table::Replica::new(spec, false);
    let weights = TableSpec::new("weights", 3, 11).axis(Axis::Output); // ten features and a bias
    let params = Params { replicas: vec![replica(weights)], lanes: 2 };
    let block = |contents| Block { id: 0, first_row: 0, end_row: 1, contents };
    let mut touched = Touched::new(&params, &[0], 10);
    let rows = crate::data::SparseRows {
        offsets: vec![0, 3],
        columns: vec![2, 5, 40],
        values: vec![1.0; 3],
        classes: vec![0],
        targets: Vec::new(),
    };
    touched.add(&block(Contents::Sparse(rows)));
    let listed: Vec<usize> = touched.set.runs(0..11).into_iter().flatten().collect();
    assert_eq!(listed, [2, 5, 10], "what test data have beyond the training data's features is nobody's");
    touched.add(&block(Contents::Dense(Default::default())));
    assert_eq!(touched.set, Set::all(11));
}
