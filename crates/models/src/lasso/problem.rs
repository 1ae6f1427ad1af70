//! The problem itself, apart from any way to solve it: penalty, its proximal step, duality gap, scaling, λs.
//!
//! ```text
//! P(w) = 1/(2n) ‖y − X̃ w‖² + Σ_j (l1 |w_j| + l2/2 w_j²),   l1 = λ ratio,  l2 = λ (1 − ratio)
//! ```
//!
//! X̃ has the columns (x − centre) / deviation, y is centred likewise. The *correlation* of column j is
//! c_j = x̃_jᵀ r / n at the residual r = y − X̃ w; λ has its unit.

/// The weights of the two norms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// Of Σ |w|.
    pub l1: f64,
    /// Of ½ Σ w².
    pub l2: f64,
}

impl Penalty {
    /// Of strength `lambda`, of which the share `l1_ratio` goes to the absolute values.
    pub fn new(lambda: f64, l1_ratio: f64) -> Penalty {
        Penalty { l1: lambda * l1_ratio, l2: lambda * (1.0 - l1_ratio) }
    }

    /// What it adds to the objective for one coefficient.
    #[inline(always)]
    pub fn of(&self, weight: f64) -> f64 {
        self.l1 * weight.abs() + 0.5 * self.l2 * weight * weight
    }

    /// The coefficient that minimises ½ square w² − pull w + penalty(w), with `square` = ‖x̃‖²/n and `pull` the
    /// correlation of the column with the residual of all others; 0 for a column without length.
    #[inline(always)]
    pub fn best(&self, pull: f64, square: f64) -> f64 {
        let curvature = square + self.l2;
        if curvature > 0.0 { soft(pull, self.l1) / curvature } else { 0.0 }
    }
}

/// `value` moved towards 0 by `by`, and not beyond.
#[inline(always)]
pub fn soft(value: f64, by: f64) -> f64 {
    if value > by {
        value - by
    } else if value < -by {
        value + by
    } else {
        0.0
    }
}

/// What the duality gap at a point is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Number of rows n.
    pub rows: f64,
    /// ‖r‖².
    pub square: f64,
    /// yᵀ r.
    pub with_target: f64,
    /// Σ w².
    pub weights_square: f64,
    /// Σ penalty(w).
    pub penalty: f64,
    /// max_j |c_j − l2 w_j|.
    pub greatest: f64,
}

impl Point {
    /// P(w).
    pub fn primal(&self) -> f64 {
        self.square / (2.0 * self.rows) + self.penalty
    }

    /// The dual objective at the residual scaled into the feasible set: a lower bound on all P.
    ///
    /// The elastic net is the Lasso of X̃ with √(n l2) I below it and y with zeros: its residual is (r, −√(n l2) w),
    /// the scale s = l1 / max(l1, greatest), and D = (2 s yᵀr − s² (‖r‖² + n l2 ‖w‖²)) / 2n.
    pub fn dual(&self, penalty: Penalty) -> f64 {
        let most = penalty.l1.max(self.greatest);
        let scale = if most > 0.0 { penalty.l1 / most } else { 1.0 };
        let square = self.square + self.rows * penalty.l2 * self.weights_square;
        (2.0 * scale * self.with_target - scale * scale * square) / (2.0 * self.rows)
    }

    /// (P − D) / P; 0 where P is 0.
    pub fn relative_gap(&self, penalty: Penalty) -> f64 {
        relative_gap(self.primal(), self.dual(penalty))
    }
}

/// (primal − dual) / primal, at least 0; 0 where the primal is 0, 1 where one of them is no number.
pub fn relative_gap(primal: f64, dual: f64) -> f64 {
    if primal.is_nan() || dual.is_nan() {
        return 1.0;
    }
    if primal > 0.0 { ((primal - dual) / primal).max(0.0) } else { 0.0 }
}

/// Square sums below this share of Σ x² are rounding: the column is constant.
const CONSTANT: f64 = 1e-26;

/// Where a column's zero and its unit are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Taken off every value: the mean, or 0 without an intercept.
    pub centre: f64,
    /// One over the deviation; 1 if columns are not standardised, 0 for a column that is constant after centring.
    pub factor: f64,
}

impl Scale {
    /// Of a column of `rows` values with the given sum of values and of squared distances from the centre.
    pub fn new(rows: usize, sum: f64, squares: f64, intercept: bool, standardise: bool) -> Scale {
        let rows = rows.max(1) as f64;
        let centre = if intercept { sum / rows } else { 0.0 };
        let constant = squares <= CONSTANT * (squares + rows * centre * centre);
        let factor = match (constant, standardise) {
            (true, _) => 0.0,
            (false, true) => 1.0 / (squares / rows).sqrt(),
            (false, false) => 1.0,
        };
        Scale { centre, factor }
    }
}

/// The λs to solve for, greatest first: `count` in geometric steps from `most`, where all coefficients are zero, to
/// `last`; `last` alone if one is wanted or it is not below `most`.
pub fn lambdas(most: f64, last: f64, count: usize) -> Vec<f64> {
    if count <= 1 {
        return vec![last];
    }
    if last >= most || last <= 0.0 {
        return vec![last; count];
    }
    let ratio = (last / most).ln();
    let at = |step: usize| most * (ratio * step as f64 / (count - 1) as f64).exp();
    (0..count).map(|step| if step + 1 == count { last } else { at(step) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_coefficient_is_the_best_of_a_fine_grid() {
        let penalty = Penalty::new(0.7, 0.6);
        for pull in [-3.0, -0.4, 0.0, 0.3, 0.43, 2.0] {
            let value = |w: f64| 0.5 * 1.7 * w * w - pull * w + penalty.of(w);
            let best = penalty.best(pull, 1.7);
            let grid = (-4000..=4000).map(|at| value(f64::from(at) * 1e-3)).fold(f64::INFINITY, f64::min);
            assert!(value(best) <= grid + 1e-12, "{pull}: {best}");
        }
        assert_eq!((Penalty::new(0.7, 1.0).best(1.0, 0.0), soft(-1.0, 0.25)), (0.0, -0.75));
    }

    #[test]
    fn constant_columns_have_no_unit() {
        let scale = |values: &[f64]| {
            let (rows, sum) = (values.len(), values.iter().sum::<f64>());
            let mean = sum / rows as f64;
            Scale::new(rows, sum, values.iter().map(|v| (v - mean).powi(2)).sum(), true, true)
        };
        assert_eq!(scale(&[0.1, 0.1, 0.1]).factor, 0.0);
        assert_eq!(scale(&[0.0; 4]).factor, 0.0);
        assert_eq!(scale(&[1.0, 3.0]), Scale { centre: 2.0, factor: 1.0 });
        assert!(scale(&[f64::from(1.0f32), f64::from(1.0f32 + f32::EPSILON)]).factor > 0.0);
    }

    #[test]
    fn the_path_is_geometric_and_ends_where_it_should() {
        let path = lambdas(2.0, 0.02, 3);
        assert!((path[0] - 2.0).abs() < 1e-15 && (path[1] - 0.2).abs() < 1e-15 && path[2] == 0.02);
        assert_eq!(lambdas(0.0, 0.0, 2), [0.0, 0.0]);
        assert_eq!(lambdas(1.0, 0.5, 1), [0.5]);
    }
}
