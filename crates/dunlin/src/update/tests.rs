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
