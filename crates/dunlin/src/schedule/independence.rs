//! Which candidates hardly depend on each other.

use super::Pair;

/// Correlations that are kept, at most: a fixed number of places of 12 bytes, each of which holds what was last put
/// there.
const MOST_PLACES: usize = 1 << 18;

/// What is known of the columns, and the bound.
#[derive(Clone, Debug)]
pub(super) struct Independence {
    theta: f32,
    /// x_j'x_j; not a number where it is not known.
    squares: Vec<f64>,
    keys: Vec<Pair>,
    cosines: Vec<f32>,
}

/// Candidates for a round, with their correlations to each other and to those of rounds that will be on their way.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    pub(super) round: u64,
    pub(super) variables: Vec<u32>,
    others: Vec<u32>,
    /// |correlation| of candidate c: with each of `others`, then with each candidate before it.
    cosines: Vec<f32>,
    /// Places in `cosines` that are not known yet, and the pair.
    missing: Vec<(usize, Pair)>,
}

impl Candidates {
    fn row(&self, candidate: usize) -> &[f32] {
        let start = candidate * self.others.len() + candidate * candidate.saturating_sub(1) / 2;
        &self.cosines[start..start + self.others.len() + candidate]
    }
}

impl Independence {
    pub(super) fn new(theta: f64, variables: usize) -> Independence {
        let places = (8 * variables).next_power_of_two().min(MOST_PLACES);
        Independence {
            theta: theta as f32,
            squares: vec![f64::NAN; variables],
            keys: vec![(0, 0); places],
            cosines: vec![0.0; places],
        }
    }

    fn place(&self, (left, right): Pair) -> usize {
        let key = (u64::from(left) << 32) | u64::from(right);
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.keys.len().ilog2())) as usize
    }

    /// Looks up what is known of `variables`, candidates for `round`, among themselves and with `others`; what is not is
    /// added to the `pairs` that are to be asked for.
    pub(super) fn look_up(
        &self,
        round: u64,
        variables: Vec<u32>,
        others: Vec<u32>,
        pairs: &mut Vec<Pair>,
    ) -> Candidates {
        let unknown = |variable: &&u32| self.squares[**variable as usize].is_nan();
        pairs.extend(variables.iter().filter(unknown).map(|variable| (*variable, *variable)));
        let (mut cosines, mut missing) = (Vec::new(), Vec::new());
        for (candidate, variable) in variables.iter().enumerate() {
            for other in others.iter().chain(&variables[..candidate]) {
                let pair = (*variable.min(other), *variable.max(other));
                let place = self.place(pair);
                if self.keys[place] != pair {
                    missing.push((cosines.len(), pair));
                }
                cosines.push(self.cosines[place]);
            }
        }
        // By the first of two: whoever works out the products has one column at hand at a time.
        missing.sort_unstable_by_key(|(_, pair)| *pair);
        pairs.extend(missing.iter().map(|(_, pair)| *pair));
        Candidates { round, variables, others, cosines, missing }
    }

    /// Learns squares: pairs of a variable with itself among `pairs`.
    pub(super) fn learn_squares(&mut self, pairs: &[Pair], products: &[f64]) {
        let squares = pairs.iter().zip(products).filter(|((left, right), _)| left == right);
        for ((left, _), product) in squares {
            self.squares[*left as usize] = *product;
        }
    }

    /// Fills in what was missing of `candidates`, whose pairs of two variables are the first of `products`, in order;
    /// gives the rest.
    pub(super) fn learn<'a>(&mut self, candidates: &mut Candidates, products: &'a [f64]) -> &'a [f64] {
        let missing = std::mem::take(&mut candidates.missing);
        let (now, later) = products.split_at(missing.len().min(products.len()));
        for ((at, pair), product) in missing.into_iter().zip(now) {
            let scale = (self.squares[pair.0 as usize] * self.squares[pair.1 as usize]).sqrt();
            // A column of zeros depends on nothing. What is no number is taken for dependent.
            let cosine = if scale > 0.0 {
                (product / scale).abs()
            } else if scale == 0.0 {
                0.0
            } else {
                1.0
            };
            let cosine = if cosine.is_nan() { 1.0 } else { cosine as f32 };
            candidates.cosines[at] = cosine;
            let place = self.place(pair);
            (self.keys[place], self.cosines[place]) = (pair, cosine);
        }
        later
    }

    /// Up to `want` of `candidates`, in the order of `order` (places), each correlated by less than θ with every other
    /// and those of `others` that are `busy`, and none by 1 or more with all of them together. The first is always there,
    /// unless one that is busy is in its way.
    pub(super) fn choose(
        &self,
        candidates: &Candidates,
        order: &[usize],
        want: usize,
        busy: impl Fn(u32) -> bool,
    ) -> Vec<usize> {
        let mut kept: Vec<usize> = Vec::with_capacity(want);
        let mut loads = vec![0f32; candidates.variables.len()];
        let busy: Vec<usize> =
            (0..candidates.others.len()).filter(|at| busy(candidates.others[*at])).collect();
        for candidate in order.iter().copied() {
            if kept.len() == want {
                break;
            }
            let own = candidates.row(candidate);
            let on_their_way = busy.iter().map(|at| own[*at]);
            let with = |other: usize| match other < candidate {
                true => own[candidates.others.len() + other],
                false => candidates.row(other)[candidates.others.len() + candidate],
            };
            let cosines = || on_their_way.clone().chain(kept.iter().map(|other| with(*other)));
            let load: f32 = cosines().sum();
            let fits = |other: &usize| loads[*other] + with(*other) < 1.0;
            if cosines().all(|cosine| cosine < self.theta) && load < 1.0 && kept.iter().all(fits) {
                kept.iter().for_each(|other| loads[*other] += with(*other));
                loads[candidate] = load;
                kept.push(candidate);
            }
        }
        kept
    }
}
