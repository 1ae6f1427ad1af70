//! Small reductions between many ranks: the same bits as on few, with few messages.

#![expect(clippy::unwrap_used, reason = "a test")]

use dunlin_comm::cluster::run_sim;
use dunlin_comm::collective::{Folder, Node, Op};
use dunlin_comm::{Buffer, Cluster, Comm, Result, SimConfig};

const LENGTH: usize = 5;

/// The numbers of a leaf: of many sizes, so that every order of adding rounds differently.
fn values(leaf: usize) -> Vec<f32> {
    let number = |i: usize| ((leaf * 7919 + i * 104_729 + 1) as f32).sin();
    (0..LENGTH).map(|i| number(i) * 10f32.powi((leaf * 31 + i) as i32 % 9 - 4)).collect()
}

fn add(left: &mut Buffer, right: &Buffer) {
    let right = right.slice::<f32>(0, LENGTH).unwrap();
    left.slice_mut::<f32>(0, LENGTH).unwrap().iter_mut().zip(right).for_each(|(a, b)| *a += b);
}

/// Reduces `leaves` leaves, dealt to the ranks in order; the bits of the result.
fn reduce(comm: &mut Comm, leaves: usize, op: Op) -> Result<Vec<u32>> {
    let (rank, size) = (comm.rank(), comm.size());
    let mut folder = Folder::new(leaves);
    for leaf in leaves * rank / size..leaves * (rank + 1) / size {
        let values = Buffer::from(&values(leaf)[..]);
        folder.push(Node::leaf(leaf), values, |left, right| match op {
            Op::Max => {
                let right = right.slice::<f32>(0, LENGTH).unwrap();
                let left = left.slice_mut::<f32>(0, LENGTH).unwrap();
                left.iter_mut().zip(right).for_each(|(a, b)| *a = a.max(*b));
            }
            _ => add(left, &right),
        });
    }
    let result = comm.all_reduce_tree::<f32>(folder.into_parts(), leaves, LENGTH, op)?;
    Ok(result.slice::<f32>(0, LENGTH).unwrap().iter().map(|v| v.to_bits()).collect())
}

#[test]
fn the_same_bits_on_many_ranks_as_on_one() {
    for (ranks, leaves) in [(33, 33), (33, 100), (64, 64), (64, 200), (100, 131)] {
        for op in [Op::Sum, Op::Mean, Op::Max] {
            let one = Cluster::Threads(1).run_closure(|comm| reduce(comm, leaves, op)).unwrap();
            let (many, report) = run_sim(&SimConfig::new(ranks, 5), |comm| reduce(comm, leaves, op));
            let many = many.unwrap();
            assert!(many.iter().all(|bits| *bits == one[0]), "{ranks} ranks, {leaves} leaves, {op:?}");
            assert!(many[0].iter().all(|bits| f32::from_bits(*bits).is_finite()));
            // Each rank passes on its maximal subtrees, at most two a level, and gets one result.
            let most = (ranks - 1) * (1 + 2 * leaves.next_power_of_two().ilog2() as usize);
            assert!((report.frames_delivered as usize) < most, "{} frames", report.frames_delivered);
        }
    }
}

#[test]
fn one_leaf_a_rank_takes_two_messages_each() {
    for ranks in [64, 96, 128] {
        let (sums, report) = run_sim(&SimConfig::new(ranks, 9), |comm| {
            let mut sum = [comm.rank() as u64, 1];
            comm.all_reduce(&mut sum, Op::Sum)?;
            Ok(sum)
        });
        let expected = [(ranks * (ranks - 1) / 2) as u64, ranks as u64];
        assert!(sums.unwrap().iter().all(|sum| *sum == expected));
        assert_eq!(report.frames_delivered as usize, 2 * (ranks - 1));
    }
}

#[test]
fn forty_threads_agree() {
    let few = Cluster::Threads(4).run_closure(|comm| reduce(comm, 41, Op::Sum)).unwrap();
    let many = Cluster::Threads(40).run_closure(|comm| reduce(comm, 41, Op::Sum)).unwrap();
    assert!(many.iter().all(|bits| *bits == few[0]));
}
