//! The settings of [`Lasso`](super::Lasso).

use dunlin::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of [`Lasso`](super::Lasso).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Strength λ of the penalty, above 0; none for `lambda_fraction` of the smallest that zeroes everything.
    pub lambda: Option<f64>,
    /// λ as a share of the smallest λ at which all coefficients are zero, above 0 to 1. Default 0.1.
    pub lambda_fraction: f64,
    /// Number of λs, in geometric steps from the smallest that zeroes everything down to λ, 1 to 10,000. Default 1.
    pub path: usize,
    /// Share of the penalty that is on absolute values, above 0 to 1; the rest is on squares. Default 1.
    pub l1_ratio: f64,
    /// Whether the penalty is on coefficients of columns scaled to unit deviation. Default false.
    pub standardise: bool,
    /// Whether there is an intercept, which has no penalty. Default true.
    pub intercept: bool,
    /// Relative duality gap (objective − lower bound) / objective to stop at, 1e-12 to 1. Default 1e-6.
    pub tolerance: f64,
    /// `auto`, `workingset` or `proximal`. Default `auto`.
    pub solver: Solver,
    /// `gap-safe` leaves columns out of the working-set solver's sweeps over all columns once the duality gap proves that
    /// they have no coefficient; `off` looks at all. The optimum is the same. Default `off`: a working set needs few such
    /// sweeps, and most come before the gap is small (along a path it costs more than it saves).
    pub screening: Screening,
    /// With several lanes: `rows` gives each some rows, `columns` some columns of all rows, for the working-set solver and
    /// under `scheduled`. `auto` takes columns for the working-set solver where there are more of them than rows, and rows under
    /// `scheduled`, where columns, 71 rows of 4,088 and two lanes, take 1.8 times the instructions and 22 times the bytes of
    /// rows. Default `auto`.
    pub cut: Cut,
}

/// What of the data a lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// Columns, if there are more of them than rows and the strategy is `allreduce` with the working-set solver; else rows.
    Auto,
    /// Some rows.
    Rows,
    /// Some columns of all rows.
    Columns,
}

/// Whether columns are left out that have no coefficient for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Screening {
    /// Those outside the gap-safe sphere; with one lane, or data cut by columns.
    GapSafe,
    /// None.
    Off,
}

/// How the optimum is approached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// `workingset` under `allreduce`, `proximal` under the strategies of the parameter server.
    Auto,
    /// Coordinate descent and Newton steps on a growing working set.
    WorkingSet,
    /// Proximal gradient: takes more passes, and stale reads.
    Proximal,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            lambda: None,
            lambda_fraction: 0.1,
            path: 1,
            l1_ratio: 1.0,
            standardise: false,
            intercept: true,
            tolerance: 1e-6,
            solver: Solver::Auto,
            screening: Screening::Off,
            cut: Cut::Auto,
        }
    }
}

impl Config {
    /// Refuses what no data can make good.
    pub(super) fn check(&self) -> Result<()> {
        let usage = |text: String| Err(Error::Usage(format!("lasso: {text}")));
        if let Some(lambda) = self.lambda
            && !(lambda > 0.0 && lambda <= 1e30)
        {
            return usage(format!(
                "lambda = {lambda}; allowed: above 0 (without a penalty the optimum is least squares, which may have \
                 many answers; a small lambda_fraction comes near one)"
            ));
        }
        if !(self.lambda_fraction > 0.0 && self.lambda_fraction <= 1.0) {
            return usage(format!("lambda_fraction = {}; allowed: above 0, at most 1", self.lambda_fraction));
        }
        if !(1..=10_000).contains(&self.path) {
            return usage(format!("path = {}; allowed: 1 to 10000", self.path));
        }
        if !(self.l1_ratio > 0.0 && self.l1_ratio <= 1.0) {
            return usage(format!(
                "l1_ratio = {}; allowed: above 0, at most 1 (at 0 no coefficient is ever zero)",
                self.l1_ratio
            ));
        }
        if !(1e-12..=1.0).contains(&self.tolerance) {
            return usage(format!("tolerance = {}; allowed: 1e-12 to 1", self.tolerance));
        }
        Ok(())
    }
}
