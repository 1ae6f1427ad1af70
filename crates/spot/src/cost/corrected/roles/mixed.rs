//! Roles where pipelines of two depths are involved: stages of one cut overlap those of another, and the pairs form no staircase.
//!
//! A machine that already holds exactly a stage keeps it as long as that stage is wanted: no assignment moves fewer bytes. (Let w be the bytes
//! that a machine and a stage have in common. If machine i holds just stage c, but gets another one r, and j gets c, then
//! w(j, r) >= |c, r and j in common| >= w(i, r) + w(j, c) - |c|: to swap them loses nothing.) The others are assigned by the
//! Hungarian method, O(roles^2 machines) of those that are left.

use super::Moved;

/// Machines with the bytes from `start` to `end` of the row of layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cost) struct Span {
    pub(in crate::cost) start: f64,
    pub(in crate::cost) end: f64,
    pub(in crate::cost) machines: u32,
}

impl Span {
    fn bytes(&self) -> f64 {
        self.end - self.start
    }

    fn is(&self, other: &Span) -> bool {
        self.start == other.start && self.end == other.end
    }

    fn overlap(&self, other: &Span) -> f64 {
        (self.end.min(other.end) - self.start.max(other.start)).max(0.0)
    }
}

/// What moves when the machines of `old` become those of `new`; `senders[i]` machines of `old[i]` can send.
pub(in crate::cost) fn moved(old: &[Span], senders: &[u32], new: &[Span]) -> Moved {
    let given = assign(old, new);
    let mut moved = Moved {
        total: new.iter().map(|role| f64::from(role.machines) * role.bytes()).sum(),
        ..Moved::default()
    };
    let mut open: Vec<u32> = new.iter().map(|role| role.machines).collect();
    for &(from, to, machines) in &given {
        let common = old[from].overlap(&new[to]);
        moved.total -= f64::from(machines) * common;
        moved.largest = moved.largest.max(new[to].bytes() - common);
        open[to] -= machines;
    }
    let empty = new.iter().zip(&open).filter(|(_, open)| **open > 0);
    moved.largest = empty.map(|(role, _)| role.bytes()).fold(moved.largest, f64::max);
    let row = Row::new(old, new);
    let mut wanted = vec![false; row.ends.len()];
    let mut want = |from: usize, to: usize| wanted[from..to].iter_mut().for_each(|wanted| *wanted = true);
    for &(from, to, _) in given.iter().filter(|(from, to, _)| !old[*from].is(&new[*to])) {
        let ((held, until), (first, end)) = (row.pieces(&old[from]), row.pieces(&new[to]));
        want(first, held.clamp(first, end));
        want(until.clamp(first, end), end);
    }
    for (role, _) in new.iter().zip(&open).filter(|(_, open)| **open > 0) {
        let (first, end) = row.pieces(role);
        want(first, end);
    }
    let mut sending = vec![0; row.ends.len()];
    for (holder, senders) in old.iter().zip(senders) {
        let (first, end) = row.pieces(holder);
        sending[first..end].iter_mut().for_each(|sending| *sending += senders);
    }
    // What each of those who can sends, piece by piece.
    let each: Vec<f64> = (0..row.ends.len())
        .map(|piece| match (wanted[piece], sending[piece]) {
            (true, 1..) => row.bytes(piece) / f64::from(sending[piece]),
            _ => 0.0,
        })
        .collect();
    let orphans = (0..row.ends.len()).filter(|&piece| wanted[piece] && sending[piece] == 0);
    moved.orphaned = orphans.map(|piece| row.bytes(piece)).sum();
    for (holder, _) in old.iter().zip(senders).filter(|(_, senders)| **senders > 0) {
        let (first, end) = row.pieces(holder);
        moved.sent = moved.sent.max(each[first..end].iter().sum());
    }
    moved
}

/// The row of layers in pieces that no stage divides.
struct Row {
    ends: Vec<f64>,
}

impl Row {
    fn new(old: &[Span], new: &[Span]) -> Row {
        let mut ends: Vec<f64> = old.iter().chain(new).map(|span| span.end).collect();
        ends.sort_by(f64::total_cmp);
        ends.dedup();
        Row { ends }
    }

    /// First piece of a stage, and the one after its last.
    fn pieces(&self, span: &Span) -> (usize, usize) {
        let before = |at: f64| self.ends.partition_point(|&end| end <= at);
        (before(span.start), before(span.end))
    }

    fn bytes(&self, piece: usize) -> f64 {
        self.ends[piece] - if piece == 0 { 0.0 } else { self.ends[piece - 1] }
    }
}

/// Who takes which role: (place in `old`, place in `new`, machines), such that the bytes in common are most.
fn assign(old: &[Span], new: &[Span]) -> Vec<(usize, usize, u32)> {
    let (mut free, mut open): (Vec<u32>, Vec<u32>) =
        (old.iter().map(|span| span.machines).collect(), new.iter().map(|span| span.machines).collect());
    let mut given = Vec::new();
    for (to, role) in new.iter().enumerate() {
        for (from, holder) in old.iter().enumerate() {
            let machines = free[from].min(open[to]);
            if machines > 0 && holder.is(role) {
                given.push((from, to, machines));
                free[from] -= machines;
                open[to] -= machines;
            }
        }
    }
    // More machines of a stage than roles with anything of it are of no use, and roles of which no machine has anything save nothing.
    for (free, holder) in free.iter_mut().zip(old).filter(|(free, _)| **free > 0) {
        let near = new.iter().zip(&open).filter(|(role, open)| **open > 0 && role.overlap(holder) > 0.0);
        *free = (*free).min(near.map(|(_, open)| open).sum());
    }
    for (open, role) in open.iter_mut().zip(new).filter(|(open, _)| **open > 0) {
        let near = old.iter().zip(&free).filter(|(holder, free)| **free > 0 && holder.overlap(role) > 0.0);
        *open = (*open).min(near.map(|(_, free)| free).sum());
    }
    let each = |counts: &[u32]| -> Vec<usize> {
        counts.iter().enumerate().flat_map(|(place, &count)| vec![place; count as usize]).collect()
    };
    let (machines, roles) = (each(&free), each(&open));
    let few_roles = roles.len() <= machines.len();
    let (rows, columns) = if few_roles { (&roles, &machines) } else { (&machines, &roles) };
    let pair = |row: usize, column: usize| if few_roles { (column, row) } else { (row, column) };
    let mut costs = Vec::with_capacity(rows.len() * columns.len());
    for &row in rows {
        costs.extend(columns.iter().map(|&column| {
            let (from, to) = pair(row, column);
            -old[from].overlap(&new[to])
        }));
    }
    for (row, column) in hungarian(rows.len(), columns.len(), &costs).into_iter().enumerate() {
        let (from, to) = pair(rows[row], columns[column]);
        given.push((from, to, 1));
    }
    given
}

/// For every row a column of its own such that the sum of `costs[row * columns + column]` is least; `rows` <= `columns`. Rows are
/// placed one after another along the shortest path to a free column; prices keep the lengths of its steps at 0 or above.
fn hungarian(rows: usize, columns: usize, costs: &[f64]) -> Vec<usize> {
    let (mut row_price, mut column_price) = (vec![0.0; rows], vec![0.0; columns]);
    let mut owner: Vec<Option<usize>> = vec![None; columns];
    let mut taken = vec![0; rows];
    let (mut length, mut from, mut done) =
        (vec![f64::INFINITY; columns], vec![0; columns], vec![false; columns]);
    let mut passed = Vec::with_capacity(columns);
    for row in 0..rows {
        length.fill(f64::INFINITY);
        done.fill(false);
        passed.clear();
        let (mut at, mut so_far) = (row, 0.0);
        let free = loop {
            let (mut next, mut least) = (0, f64::INFINITY);
            let prices = column_price.iter().zip(&costs[at * columns..][..columns]).enumerate();
            for (column, (price, cost)) in prices.filter(|(column, _)| !done[*column]) {
                let there = so_far + cost - row_price[at] - price;
                if there < length[column] {
                    (length[column], from[column]) = (there, at);
                }
                // Of equals a free column: the path ends there.
                if length[column] < least || length[column] == least && owner[column].is_none() {
                    (least, next) = (length[column], column);
                }
            }
            let Some(other) = owner[next] else { break next };
            done[next] = true;
            passed.push(next);
            (at, so_far) = (other, least);
        };
        row_price[row] += length[free];
        for &column in &passed {
            let more = length[free] - length[column];
            column_price[column] -= more;
            owner[column].into_iter().for_each(|other| row_price[other] += more);
        }
        let mut column = free;
        loop {
            let other = from[column];
            owner[column] = Some(other);
            if other == row {
                taken[row] = column;
                break;
            }
            column = std::mem::replace(&mut taken[other], column);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_rng::Stream;

    /// Stages of one cut of 8 layers, with machines of each.
    fn cut(stream: &mut Stream, layers: &[f64], most: usize) -> Vec<Span> {
        let stages = 1 + stream.below(3);
        let mut ends: Vec<usize> = (1..layers.len()).collect();
        stream.shuffle(&mut ends);
        let mut ends: Vec<usize> = ends[..stages - 1].to_vec();
        ends.push(layers.len());
        ends.sort_unstable();
        let mut start = 0.0;
        let span = |end: usize| {
            let end: f64 = layers[..end].iter().sum();
            let span = Span { start, end, machines: stream.below(most + 1) as u32 };
            start = end;
            span
        };
        ends.into_iter().map(span).collect()
    }

    fn brute(old: &[Span], free: &mut [u32], new: &[Span], roles: &[usize]) -> f64 {
        let Some((&role, rest)) = roles.split_first() else { return 0.0 };
        let mut best = brute(old, free, new, rest);
        for from in 0..old.len() {
            if free[from] > 0 {
                free[from] -= 1;
                best = best.max(old[from].overlap(&new[role]) + brute(old, free, new, rest));
                free[from] += 1;
            }
        }
        best
    }

    #[test]
    fn no_assignment_of_pipelines_of_two_depths_moves_fewer_bytes() {
        for seed in 0..300 {
            let mut stream = dunlin_rng::stream(seed, "mixed roles", &[]);
            let layers: Vec<f64> = (0..8).map(|_| 1.0 + stream.below(9) as f64).collect();
            let old = [cut(&mut stream, &layers, 2), cut(&mut stream, &layers, 1)].concat();
            let mut new = [cut(&mut stream, &layers, 1), cut(&mut stream, &layers, 1)].concat();
            if seed % 3 == 0 {
                new[0] = Span { machines: 1, ..old[0] }; // a stage that somebody holds just so
            }
            let each = |role: usize| vec![role; new[role].machines as usize];
            let roles: Vec<usize> = (0..new.len()).flat_map(each).collect();
            let mut free: Vec<u32> = old.iter().map(|span| span.machines).collect();
            let all: f64 = roles.iter().map(|&role| new[role].bytes()).sum();
            let least = all - brute(&old, &mut free, &new, &roles);
            let ours = moved(&old, &free, &new);
            assert!((ours.total - least).abs() < 1e-9, "seed {seed}: {ours:?}, least {least}");
            // Every machine takes one role at most, every role one machine.
            let given = assign(&old, &new);
            for (places, count) in [(&old, 0), (&new, 1)] {
                for (place, span) in places.iter().enumerate() {
                    let at = |given: &&(usize, usize, u32)| [given.0, given.1][count] == place;
                    let used: u32 = given.iter().filter(at).map(|given| given.2).sum();
                    assert!(used <= span.machines, "seed {seed}: {given:?} of {places:?}");
                }
            }
        }
    }

    #[test]
    fn one_depth_is_as_by_the_staircase() {
        let spans = |ends: &[f64], machines: &[u32]| -> Vec<Span> {
            let start = |stage: usize| if stage == 0 { 0.0 } else { ends[stage - 1] };
            let each = ends.iter().zip(machines).enumerate();
            each.map(|(stage, (&end, &machines))| Span { start: start(stage), end, machines }).collect()
        };
        for (old, survivors, new, pipelines) in [
            (vec![10.0, 20.0], [2, 0], vec![10.0, 20.0], 2),
            (vec![10.0, 20.0], [1, 1], vec![10.0, 20.0], 2),
            (vec![8.0, 20.0], [3, 2], vec![5.0, 12.0, 20.0], 1),
        ] {
            let all = vec![pipelines; new.len()];
            let ours = moved(&spans(&old, &survivors), &survivors, &spans(&new, &all));
            assert_eq!(ours, super::super::moved(&old, &survivors, 0, &new, pipelines));
        }
    }

    #[test]
    fn both_depths_send_what_both_hold() {
        // A pipeline of two stages and one of three; the machine with the last third is lost and wanted again.
        let thirds = [(0.0, 4.0), (4.0, 8.0), (8.0, 12.0)];
        let span = |(start, end): (f64, f64), machines| Span { start, end, machines };
        let halves = [span((0.0, 6.0), 1), span((6.0, 12.0), 1)];
        let old = [&halves[..], &[span(thirds[0], 1), span(thirds[1], 1), span(thirds[2], 0)]].concat();
        let new = [&halves[..], &thirds.map(|third| span(third, 1))].concat();
        let moved = moved(&old, &[1, 1, 1, 1, 0], &new);
        // The second half's holder is the only one left to send it.
        assert_eq!(moved, Moved { total: 4.0, largest: 4.0, sent: 4.0, orphaned: 0.0 });
    }
}
