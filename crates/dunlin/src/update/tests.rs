use super::*;
use crate::rng::stream;

/// Two lanes' copies of a table of counts.
fn copies() -> [Params; 2] {
    [0, 1].map(|_| {
        let spec = TableSpec::new("counts", 300, 100).element(Type::I32);
        Params { replicas: vec![Replica::new(spec, true)], lanes: 2 }
    })
}

fn flat(params: &Params) -> &[i32] {
    params.table::<i32>(0).flat()
}

/// Whatever lanes write, dense or sparse, also where their updates cancel out: once the sum has been added, all
/// copies are the start of the clock plus both updates, and nothing of an update that was left in place remains.
#[test]
fn copies_are_equal_once_the_sum_is_added() {
    for seed in 0..40 {
        let mut rng = stream(seed, "update-test", &[]);
        let mut copies = copies();
        let geometry = copies[0].geometry();
        let mut expected = flat(&copies[0]).to_vec();
        for _ in 0..4 {
            let (rows, cancel) = ([1, 5, 300][rng.below(3)], rng.below(2) == 0);
            let writes: Vec<(usize, i32)> = (0..rows)
                .flat_map(|_| {
                    (0..100)
                        .map(|_| (rng.below(300) * 112 + rng.below(100), rng.below(7) as i32 - 3))
                        .collect::<Vec<_>>()
                })
                .collect();
            let mut parts = Vec::new();
            for (lane, params) in copies.iter_mut().enumerate() {
                let mut table = params.table_mut::<i32>(0);
                for (at, number) in &writes {
                    let number = if lane == 1 && cancel { -number } else { *number };
                    table.padded_mut(at / 112)[at % 112] += number;
                    expected[*at] += number;
                }
                let afterwards = if rng.below(2) == 0 { Afterwards::Leave } else { Afterwards::Restore };
                let part = params.take_updates(&geometry, 1, afterwards, &mut Vec::new()).pop().unwrap();
                parts.push((Node::leaf(lane), part));
            }
            for params in &mut copies {
                params.add(&parts, &geometry);
                assert_eq!(flat(params), expected, "seed {seed}");
                assert_eq!(
                    i32::slot(&params.replicas[0].base).unwrap().as_slice(),
                    expected,
                    "seed {seed}: base"
                );
                assert!(!params.replicas[0].left.contains(&true), "seed {seed}: all was replaced");
            }
        }
    }
}

/// A mean divides; what is kept is the share that was sent.
#[test]
fn a_mean_keeps_its_share() {
    let spec = TableSpec::new("map", 3, 20).merge(Merge::Mean);
    let mut params = Params { replicas: vec![Replica::new(spec, true)], lanes: 4 };
    params.table_mut::<f32>(0).row_mut(1).fill(8.0);
    let geometry = params.geometry();
    let part = params.take_updates(&geometry, 1, Afterwards::Keep, &mut Vec::new()).pop().unwrap();
    assert_eq!(part.entries.len(), 1);
    assert_eq!(params.table::<f32>(0).row(1), [2.0; 20]);
    assert_eq!(params.table::<f32>(0).row(0), [0.0; 20]);
}

/// Over many clocks, dense and sparse: what has arrived plus what is carried is the sum of the updates. Here all numbers
/// have few enough digits for f32 to add them exactly, so that it is exactly so.
#[test]
fn what_arrived_and_what_is_carried_is_all_that_was_written() {
    use crate::transfer::{Format, Transfer};
    for (seed, format) in [(1, Format::Bf16), (2, Format::F16), (3, Format::Bf16), (4, Format::F16)] {
        let mut rng = stream(seed, "carry-test", &[]);
        let specs = [TableSpec::new("floats", 300, 20), TableSpec::new("counts", 30, 1).element(Type::I32)];
        let replicas = specs.iter().map(|spec| Replica::new(spec.clone(), true)).collect();
        let mut params = Params { replicas, lanes: 2 };
        let geometry = params.geometry();
        let transfer = Transfer { format, ..Transfer::default() };
        let mut carry = Carry::new(&transfer, specs.iter());
        let mut arrived = Params {
            replicas: specs.iter().map(|spec| Replica::new(spec.clone(), false)).collect(),
            lanes: 2,
        };
        let (mut written, mut count, mut differs) = (vec![0.0f32; 300 * 24], 0, false);
        for clock in 0..50 {
            let rows = [3, 300][rng.below(2)];
            let mut table = params.table_mut::<f32>(0);
            for _ in 0..20 * rows {
                let (row, at) = (rng.below(rows), rng.below(20));
                let number = (rng.below(1 << 11) as f32 - 1024.0) / 4096.0;
                table.row_mut(row)[at] += number;
                written[row * 24 + at] += number;
            }
            params.table_mut::<i32>(1).row_mut(rng.below(30))[0] += 70_000;
            count += 70_000;
            let parts = params.take_rounded(&geometry, 1, Afterwards::Keep, &mut carry, &mut Vec::new());
            let packed = parts[0].clone().packed(&[format, Format::F32], &geometry);
            let mut message = dunlin_comm::Message::shared(&(), packed.body);
            let received = Part::received(&mut message, packed.entries, &geometry).unwrap();
            arrived.add_part(&received, |_| true, &geometry);
            let (sums, carried) = (arrived.table::<f32>(0), carry.of(0).unwrap().1);
            assert_eq!(params.table::<f32>(0).flat(), sums.flat(), "the lane sees what it has sent");
            for (at, written) in written.iter().enumerate() {
                let (sum, carried) = (sums.flat()[at], carried[at]);
                assert_eq!(sum + carried, *written, "{format:?}, seed {seed}, clock {clock}, number {at}");
                differs |= carried != 0.0;
            }
            assert_eq!(arrived.table::<i32>(1).flat().iter().sum::<i32>(), count, "counts are exact");
        }
        assert!(differs, "something was rounded");
        let kept: Vec<(u16, Vec<u8>)> = carry.bytes().map(|(table, bytes)| (table, bytes.to_vec())).collect();
        let mut other = Carry::new(&transfer, specs.iter());
        assert!(
            kept.len() == 1 && other.set(0, &kept[0].1) && !other.set(1, &kept[0].1) && !other.set(0, &[])
        );
        assert_eq!(other.of(0).unwrap().1, carry.of(0).unwrap().1, "saved and restored");
    }
}
