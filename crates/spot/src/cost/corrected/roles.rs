//! Who takes which role: the assignment of surviving machines to the stages of a new layout that moves the fewest bytes.
//!
//! A transportation problem: old stage s has n_s surviving machines, every new stage wants D' of them, and giving stage t to a
//! machine of stage s saves the bytes that both hold. Both are cuts of one row of layers, so the pairs that have anything in common form
//! a staircase: in the order of the layers each shares a stage with the one before. On it the problem is solved exactly by dynamic
//! programming; its state is how many machines (or roles) of the shared stage are left for the pairs to come. Roles that are left
//! over go to anybody and save nothing. O((P + P') D D').

pub(in crate::cost) mod mixed;

/// What must be sent, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::cost) struct Moved {
    /// All of it, over all machines.
    pub(in crate::cost) total: f64,
    /// What the machine that lacks most receives.
    pub(in crate::cost) largest: f64,
    /// What a survivor of the most wanted stage sends.
    pub(in crate::cost) sent: f64,
    /// What nobody holds.
    pub(in crate::cost) orphaned: f64,
}

/// An old and a new stage with bytes in common.
#[derive(Clone, Copy, Debug)]
struct Pair {
    old: usize,
    new: usize,
    bytes: f64,
}

/// The node that a pair has in common with the next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shared {
    Old,
    New,
    Neither,
}

/// What moves when the survivors of the old stages become `pipelines` machines of every new stage. `old` and `new` are the ends of
/// the stages in bytes from the first layer on. At least `handing` machines of every old stage can send, those that go included.
pub(in crate::cost) fn moved(
    old: &[f64],
    survivors: &[u32],
    handing: u32,
    new: &[f64],
    pipelines: u32,
) -> Moved {
    let pairs = staircase(old, new);
    let given = assign(&pairs, survivors, pipelines);
    let size = |stage: usize| new[stage] - if stage == 0 { 0.0 } else { new[stage - 1] };
    let mut moved =
        Moved { total: f64::from(pipelines) * new.last().copied().unwrap_or(0.0), ..Moved::default() };
    let mut wanted = vec![0.0; old.len()];
    let mut filled = vec![0; new.len()];
    for (pair, &machines) in pairs.iter().zip(&given) {
        moved.total -= f64::from(machines) * pair.bytes;
        filled[pair.new] += machines;
        if machines > 0 {
            moved.largest = moved.largest.max(size(pair.new) - pair.bytes);
        }
        if machines < pipelines {
            wanted[pair.old] += pair.bytes;
        }
    }
    let lacking = (0..new.len()).filter(|&stage| filled[stage] < pipelines);
    moved.largest = lacking.map(size).fold(moved.largest, f64::max);
    for (bytes, &senders) in wanted.iter().zip(survivors) {
        let senders = senders.max(handing);
        if senders == 0 {
            moved.orphaned += bytes;
        } else {
            moved.sent = moved.sent.max(bytes / f64::from(senders));
        }
    }
    if old.is_empty() {
        moved.orphaned = new.last().copied().unwrap_or(0.0);
    }
    moved
}

/// The pairs in the order of the layers.
fn staircase(old: &[f64], new: &[f64]) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(old.len() + new.len());
    let (mut s, mut t, mut start) = (0, 0, 0.0);
    while s < old.len() && t < new.len() {
        let end = old[s].min(new[t]);
        pairs.push(Pair { old: s, new: t, bytes: end - start });
        start = end;
        let (of_old, of_new) = (old[s] <= end, new[t] <= end);
        s += usize::from(of_old);
        t += usize::from(of_new);
    }
    pairs
}

/// Machines given to each pair such that the bytes saved are most.
fn assign(pairs: &[Pair], survivors: &[u32], pipelines: u32) -> Vec<u32> {
    let capacity = |pair: &Pair, shared: Shared| match shared {
        Shared::Old => survivors[pair.old],
        _ => pipelines,
    };
    // best[c]: bytes saved so far if at least c of the shared stage are left.
    let mut best: Vec<f64> = Vec::new();
    // Machines given to the pair by what is to be left of the stage it shares with the next.
    let mut choices: Vec<u32> = Vec::with_capacity(pairs.len() * (pipelines as usize + 1));
    // Where those of a pair begin, and whether it shares the same stage with the next as with the one before.
    let mut links = Vec::with_capacity(pairs.len());
    let mut after = Vec::new();
    let mut before = Shared::Neither;
    for (k, pair) in pairs.iter().enumerate() {
        if before == Shared::Neither {
            let saved = best.first().copied().unwrap_or(0.0);
            best.clear();
            best.resize(survivors[pair.old] as usize + 1, saved);
            before = Shared::Old;
        }
        let other = if before == Shared::Old { Shared::New } else { Shared::Old };
        let (have, want) = (capacity(pair, before), capacity(pair, other));
        let next = link(pair, pairs.get(k + 1));
        let keeps = next == before;
        let most = if next == Shared::Neither {
            0
        } else if keeps {
            have
        } else {
            want
        };
        links.push((choices.len(), keeps));
        after.clear();
        for left in 0..=most {
            let (limit, offset) =
                if keeps { (want.min(have - left), left) } else { (have.min(want - left), 0) };
            let (mut top, mut taken) = (f64::NEG_INFINITY, 0);
            for machines in 0..=limit {
                let saved = best[(offset + machines) as usize] + f64::from(machines) * pair.bytes;
                if saved >= top {
                    (top, taken) = (saved, machines);
                }
            }
            after.push(top);
            choices.push(taken);
        }
        std::mem::swap(&mut best, &mut after);
        before = next;
    }
    let mut left = 0;
    let mut given = vec![0; pairs.len()];
    for k in (0..pairs.len()).rev() {
        let (begin, keeps) = links[k];
        given[k] = choices[begin + left];
        left = given[k] as usize + if keeps { left } else { 0 };
        if k > 0 && link(&pairs[k - 1], pairs.get(k)) == Shared::Neither {
            left = 0;
        }
    }
    given
}

/// What `pair` shares with the next.
fn link(pair: &Pair, next: Option<&Pair>) -> Shared {
    match next {
        Some(next) if next.old == pair.old => Shared::Old,
        Some(next) if next.new == pair.new => Shared::New,
        _ => Shared::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(stream: &mut dunlin_rng::Stream, layers: &[f64], stages: usize) -> Vec<f64> {
        let mut ends: Vec<usize> = (1..layers.len()).collect();
        stream.shuffle(&mut ends);
        let mut ends: Vec<usize> = ends[..stages - 1].to_vec();
        ends.push(layers.len());
        ends.sort_unstable();
        ends.iter().map(|&end| layers[..end].iter().sum()).collect()
    }

    /// Tries every machine for every role.
    fn brute(overlap: &dyn Fn(usize, usize) -> f64, survivors: &mut [u32], roles: &[usize]) -> f64 {
        let Some((&role, rest)) = roles.split_first() else { return 0.0 };
        let mut best = brute(overlap, survivors, rest);
        for stage in 0..survivors.len() {
            if survivors[stage] > 0 {
                survivors[stage] -= 1;
                best = best.max(overlap(stage, role) + brute(overlap, survivors, rest));
                survivors[stage] += 1;
            }
        }
        best
    }

    #[test]
    fn no_assignment_moves_fewer_bytes() {
        for seed in 0..300 {
            let mut stream = dunlin_rng::stream(seed, "roles", &[]);
            let layers: Vec<f64> = (0..8).map(|_| 1.0 + stream.below(9) as f64).collect();
            let (p, q) = (1 + stream.below(5), 1 + stream.below(4));
            let (old, new) = (cut(&mut stream, &layers, p), cut(&mut stream, &layers, q));
            let pipelines = 1 + stream.below(if q > 2 { 1 } else { 3 });
            let mut survivors: Vec<u32> = (0..p).map(|_| stream.below(3) as u32).collect();
            let start = |ends: &[f64], stage: usize| if stage == 0 { 0.0 } else { ends[stage - 1] };
            let overlap =
                |s: usize, t: usize| (old[s].min(new[t]) - start(&old, s).max(start(&new, t))).max(0.0);
            let roles: Vec<usize> = (0..q).flat_map(|t| std::iter::repeat_n(t, pipelines)).collect();
            let all = pipelines as f64 * new[q - 1];
            let least = all - brute(&overlap, &mut survivors, &roles);
            let ours = moved(&old, &survivors, 0, &new, pipelines as u32);
            let given = assign(&staircase(&old, &new), &survivors, pipelines as u32);
            assert!((ours.total - least).abs() < 1e-9, "seed {seed}: {ours:?}, least {least}, {given:?}");
            for stage in 0..p {
                let used: u32 = staircase(&old, &new)
                    .iter()
                    .zip(&given)
                    .filter(|(pair, _)| pair.old == stage)
                    .map(|x| x.1)
                    .sum();
                assert!(used <= survivors[stage], "seed {seed}: {given:?} of {survivors:?}");
            }
        }
    }

    #[test]
    fn the_links_carry_what_is_lacking() {
        // Two stages of 10 bytes, two machines each; the second stage loses both of its machines.
        let moved = moved(&[10.0, 20.0], &[2, 0], 0, &[10.0, 20.0], 2);
        assert_eq!(moved, Moved { total: 20.0, largest: 10.0, sent: 0.0, orphaned: 10.0 });
        // Those who go send it.
        let moved = super::moved(&[10.0, 20.0], &[2, 0], 2, &[10.0, 20.0], 2);
        assert_eq!((moved.sent, moved.orphaned), (5.0, 0.0));
        // One machine is left of the first stage and one of the second: both stages copy once.
        let moved = super::moved(&[10.0, 20.0], &[1, 1], 0, &[10.0, 20.0], 2);
        assert_eq!(moved, Moved { total: 20.0, largest: 10.0, sent: 10.0, orphaned: 0.0 });
        // Nobody has anything.
        let moved = super::moved(&[], &[], 0, &[10.0, 20.0], 2);
        assert_eq!((moved.total, moved.largest, moved.orphaned), (40.0, 10.0, 20.0));
    }
}
