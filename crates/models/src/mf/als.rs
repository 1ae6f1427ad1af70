//! Alternating least squares: with one side held fixed, each row of the other is the solution of a small linear system.
//!
//! With x = (q_i, 1) and t = r − mean − b_i for each of the n ratings of user u, the user's factors and bias are
//!
//! ```text
//! (p_u, b_u) = (Σ x xᵀ + λ n I)⁻¹ Σ t x
//! ```
//!
//! which minimises the model's objective over them (Zhou, Wilkinson, Schreiber and Pan 2008, weighted λ); items
//! likewise. The sums of a user are gathered in the lane that has the user's ratings, while item rows visit; those of
//! an item travel with the item's row, and the lane that adds its last rating solves.

use super::{ITEM_SUMS, ITEMS, Mf, USERS};
use dunlin::data::Ratings;
use dunlin::isa::{self, Kernel};
use dunlin::{Params, Unit};
use serde::{Deserialize, Serialize};

/// Columns that are added together.
const WIDE: usize = 8;

/// How the sums of a row are laid out: the rows of Σ x xᵀ, each from the chunk of its diagonal on; Σ t x; the number of
/// ratings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    rank: usize,
    bias: bool,
    /// Factors and bias, rounded up to whole chunks.
    padded: usize,
}

impl Layout {
    pub(super) fn new(rank: usize, bias: bool) -> Layout {
        Layout { rank, bias, padded: (rank + usize::from(bias)).next_multiple_of(WIDE) }
    }

    /// Numbers in a row's sums.
    pub(super) fn width(&self) -> usize {
        self.count() + 1
    }

    /// Where the number of ratings is.
    fn count(&self) -> usize {
        self.right() + self.padded
    }

    /// Where Σ t x starts.
    #[inline(always)]
    fn right(&self) -> usize {
        self.chunk(self.padded / WIDE)
    }

    /// Where row [`WIDE`] · `chunk` of Σ x xᵀ starts: rows of chunk c have padded − WIDE · c columns.
    #[inline(always)]
    fn chunk(&self, chunk: usize) -> usize {
        WIDE * (chunk * self.padded - WIDE * chunk * chunk.saturating_sub(1) / 2)
    }

    /// Element (`i`, `j`) of Σ x xᵀ, j at most i.
    fn at(&self, i: usize, j: usize) -> usize {
        let chunk = j / WIDE;
        self.chunk(chunk) + (j % WIDE) * (self.padded - WIDE * chunk) + i - WIDE * chunk
    }
}

/// Positions of a cell's ratings, those of each row together.
#[derive(Clone, Debug, Default)]
pub(super) struct Order(Vec<u32>);

impl Order {
    fn by(rows: &[u32]) -> Order {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|at| rows[*at as usize]);
        Order(order)
    }
}

/// What is added up: the ratings of a cell, by the rows `own` of one side, while the rows `other` are held fixed.
struct Gather<'a, Fixed, Sums> {
    layout: Layout,
    ratings: &'a Ratings,
    own: &'a [u32],
    other: &'a [u32],
    /// By `own`.
    order: &'a Order,
    mean: f32,
    /// Factors, then the bias, of a fixed row.
    fixed: Fixed,
    /// Called once for each row with its ratings' sums.
    add: Sums,
}

impl<'a, Fixed, Sums> Gather<'a, Fixed, Sums>
where
    Fixed: Fn(u32) -> &'a [f32],
    Sums: FnMut(u32, &[f32]),
{
    fn run(self) {
        isa::run(self);
    }
}

impl<'a, Fixed, Sums> Kernel for Gather<'a, Fixed, Sums>
where
    Fixed: Fn(u32) -> &'a [f32],
    Sums: FnMut(u32, &[f32]),
{
    type Out = ();

    #[inline(always)]
    fn run(mut self) {
        let layout = self.layout;
        let (mut x, mut sums) = (vec![0.0f32; layout.padded], vec![0.0f32; layout.width()]);
        if layout.bias {
            x[layout.rank] = 1.0;
        }
        for same in self.order.0.chunk_by(|a, b| self.own[*a as usize] == self.own[*b as usize]) {
            sums.fill(0.0);
            let (matrix, rest) = sums.split_at_mut(layout.right());
            for at in same.iter().map(|at| *at as usize) {
                let row = (self.fixed)(self.other[at]);
                x[..layout.rank].copy_from_slice(&row[..layout.rank]);
                let bias = if layout.bias { row[layout.rank] } else { 0.0 };
                let target = self.ratings.ratings[at] - self.mean - bias;
                add_square(matrix, &x);
                rest[..layout.padded].iter_mut().zip(&x).for_each(|(sum, x)| *sum += target * x);
            }
            sums[layout.count()] = same.len() as f32;
            (self.add)(self.own[same[0] as usize], &sums);
        }
    }
}

/// matrix += x xᵀ.
#[inline(always)]
fn add_square(mut matrix: &mut [f32], x: &[f32]) {
    for (chunk, own) in x.as_chunks::<WIDE>().0.iter().enumerate() {
        let columns = x[WIDE * chunk..].as_chunks::<WIDE>().0;
        let (rows, rest) = std::mem::take(&mut matrix).split_at_mut(WIDE * WIDE * columns.len());
        for (row, own) in rows.chunks_exact_mut(WIDE * columns.len()).zip(own) {
            for (sums, column) in row.as_chunks_mut::<WIDE>().0.iter_mut().zip(columns) {
                for i in 0..WIDE {
                    sums[i] += own * column[i];
                }
            }
        }
        matrix = rest;
    }
}

/// Sets `row` to the solution for `sums`; `regularisation` is λ. Directions that the ratings do not determine, without
/// λ, are 0.
fn solve(layout: Layout, sums: &[f32], regularisation: f64, row: &mut [f32]) {
    let size = layout.rank + usize::from(layout.bias);
    let ridge = regularisation * f64::from(sums[layout.count()]);
    let mut factor = vec![0.0f64; size * size];
    let mut x = vec![0.0f64; size];
    // Cholesky, and the forward substitution beside it.
    for i in 0..size {
        for j in 0..=i {
            let products = (0..j).map(|k| factor[i * size + k] * factor[j * size + k]);
            let left = f64::from(sums[layout.at(i, j)]) - products.sum::<f64>();
            factor[i * size + j] = if i > j {
                left * factor[j * size + j]
            } else {
                let pivot = left + ridge;
                let least = 1e-6 * f64::from(sums[layout.at(i, i)]);
                if pivot > least { pivot.sqrt().recip() } else { 0.0 } // the inverse, on the diagonal
            };
        }
        let products = (0..i).map(|k| factor[i * size + k] * x[k]);
        x[i] = (f64::from(sums[layout.right() + i]) - products.sum::<f64>()) * factor[i * size + i];
    }
    for i in (0..size).rev() {
        let products = (i + 1..size).map(|k| factor[k * size + i] * x[k]);
        x[i] = (x[i] - products.sum::<f64>()) * factor[i * size + i];
    }
    row[..size].iter_mut().zip(&x).for_each(|(value, x)| *value = *x as f32);
}

/// What `als` keeps with a block.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sides {
    /// Sums of the block's users over the visits of an epoch: nothing between two epochs.
    #[serde(skip)]
    user_sums: Vec<f32>,
    /// Of each cell: its ratings by user and by item. Made when first wanted.
    #[serde(skip)]
    orders: Vec<Option<[Order; 2]>>,
}

impl Sides {
    /// The users' sums and the orders of the cell at hand.
    pub(super) fn orders(&mut self, unit: &Unit, ratings: &Ratings) -> (&mut Vec<f32>, &[Order; 2]) {
        self.orders.resize(self.orders.len().max(unit.row_block + 1), None);
        let orders = &mut self.orders[unit.row_block];
        let orders = orders.get_or_insert_with(|| [Order::by(&ratings.users), Order::by(&ratings.items)]);
        (&mut self.user_sums, orders)
    }
}

impl Mf {
    /// Adds the ratings of a cell to its users' sums; at the last visit of an epoch the users are solved.
    pub(super) fn solve_users(
        &self,
        unit: &Unit,
        ratings: &Ratings,
        params: &mut Params,
        (sums, orders): (&mut Vec<f32>, &[Order; 2]),
    ) {
        let (layout, first) = (self.layout(), unit.block.first_row);
        let width = layout.width();
        sums.resize(width * (unit.block.end_row - first), 0.0);
        let items = params.table::<f32>(ITEMS);
        let gather = Gather {
            layout,
            ratings,
            own: &ratings.users,
            other: &ratings.items,
            order: &orders[USERS],
            mean: self.mean,
            fixed: |item: u32| items.row(item as usize),
            add: |user: u32, found: &[f32]| {
                let place = &mut sums[width * (user as usize - first)..][..width];
                place.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
            },
        };
        gather.run();
        if !unit.is_last_visit() {
            return;
        }
        let mut users = params.table_mut::<f32>(USERS);
        for (user, sums) in
            sums.chunks_exact(width).enumerate().filter(|(_, sums)| sums[layout.count()] > 0.0)
        {
            solve(layout, sums, self.config.regularisation, users.row_mut(first + user));
        }
        sums.clear();
    }

    /// Adds the ratings of a cell to its items' sums; an item whose last rating it is is solved.
    pub(super) fn solve_items(&self, ratings: &Ratings, params: &mut Params, order: &Order) {
        let layout = self.layout();
        let [mut item_sums, mut items, users] = params.tables_mut::<f32, 3>([ITEM_SUMS, ITEMS, USERS]);
        let gather = Gather {
            layout,
            ratings,
            own: &ratings.items,
            other: &ratings.users,
            order,
            mean: self.mean,
            fixed: |user: u32| users.row(user as usize),
            add: |item: u32, found: &[f32]| {
                let sums = item_sums.row_mut(item as usize);
                sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
                let (sums, total) = sums.split_at_mut(layout.width());
                if sums[layout.count()] == total[0] {
                    solve(layout, sums, self.config.regularisation, items.row_mut(item as usize));
                    sums.fill(0.0);
                }
            },
        };
        gather.run();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::rng::stream;

    /// Σ (t − x·w)² + λ n |w|² has no slope at the solution.
    #[test]
    fn the_solution_has_no_slope() {
        for (rank, bias, ratings) in
            [(1, false, 1), (3, true, 9), (8, true, 40), (20, false, 15), (33, true, 100)]
        {
            let mut rng = stream(rank as u64, "als-test", &[]);
            let size = rank + usize::from(bias);
            let rows: Vec<Vec<f32>> =
                (0..ratings).map(|_| (0..size).map(|_| rng.normal() as f32).collect()).collect();
            let values: Vec<f32> = (0..ratings).map(|_| 3.0 + rng.normal() as f32).collect();
            let own = vec![7u32; ratings];
            let other: Vec<u32> = (0..ratings as u32).collect();
            let (layout, order) = (Layout::new(rank, bias), Order::by(&own));
            let data = Ratings { users: own.clone(), items: other.clone(), ratings: values.clone() };
            let mut sums = Vec::new();
            let fixed = |row: u32| &rows[row as usize][..];
            let (ratings, own, other, order) = (&data, &own[..], &other[..], &order);
            let add = |row: u32, found: &[f32]| {
                assert_eq!(row, 7);
                sums = found.to_vec();
            };
            Gather { layout, ratings, own, other, order, mean: 2.5, fixed, add }.run();
            assert_eq!(sums[layout.count()], rows.len() as f32);
            let mut found = vec![0.0; size];
            solve(layout, &sums, 0.1, &mut found);
            for k in 0..size {
                let feature = |row: &[f32], k: usize| if k == rank { 1.0 } else { f64::from(row[k]) };
                let slope: f64 = rows
                    .iter()
                    .zip(&values)
                    .map(|(row, value)| {
                        let known = if bias { row[rank] } else { 0.0 };
                        let predicted: f64 = (0..size).map(|k| feature(row, k) * f64::from(found[k])).sum();
                        (f64::from(value - 2.5 - known) - predicted) * feature(row, k)
                    })
                    .sum();
                let penalty = 0.1 * rows.len() as f64 * f64::from(found[k]);
                assert!(
                    (slope - penalty).abs() < 2e-3 * rows.len() as f64,
                    "rank {rank}, {k}: {slope} {penalty}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_determined_is_zero() {
        let layout = Layout::new(2, false);
        let mut sums = vec![0.0; layout.width()];
        sums[layout.at(0, 0)] = 4.0;
        sums[layout.right()] = 8.0;
        sums[layout.count()] = 1.0;
        let mut row = [9.0, 9.0];
        solve(layout, &sums, 0.0, &mut row);
        assert_eq!(row, [2.0, 0.0]);
    }
}
