//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("lambda", "above 0, or null", "strength λ of the penalty; null: lambda_fraction decides"),
        setting(
            "lambda_fraction",
            "above 0 to 1",
            "λ as a share of the smallest that zeroes all coefficients",
        ),
        setting(
            "path",
            "1 to 10000",
            "number of λs, in geometric steps from where all coefficients are zero",
        ),
        setting("l1_ratio", "above 0 to 1", "share of the penalty on |w|; the rest is on ½ w² (elastic net)"),
        setting(
            "standardise",
            "true or false",
            "whether the penalty is for columns scaled to unit deviation",
        ),
        setting("intercept", "true or false", "whether there is an intercept, which has no penalty"),
        setting("tolerance", "1e-12 to 1", "relative duality gap to stop at"),
        setting(
            "solver",
            "auto, workingset or proximal",
            "coordinate descent and Newton steps on a growing working set, or proximal gradient, which takes more \
             passes, and stale reads; auto takes it under bsp, ssp:S, essp:S, asp",
        ),
        setting(
            "screening",
            "gap-safe or off",
            "whether columns are looked at no more once the duality gap proves that they have no coefficient",
        ),
        setting(
            "cut",
            "auto, rows or columns",
            "what a lane has: some rows, or (strategy allreduce or scheduled, solver=workingset) some columns of all rows; auto \
             takes columns under allreduce where there are more of them than rows, and rows under scheduled, where they take fewer \
             instructions and bytes",
        ),
    ],
    tables: &[
        table("coefficients", "columns x 1", "for columns as they are in the data"),
        table("intercept", "1 x 1", "added to every prediction"),
        table("path", "λs x 4", "λ, non-zero coefficients, objective, relative gap"),
        table(
            "squares",
            "columns x 3",
            "sums of values, of squares and of products with the targets (scheduled by columns: numbers of stored values too); \
             working memory, not saved",
        ),
        table("lasso_state", "1 x 7", "likewise"),
        table(
            "correlations",
            "columns x 1",
            "with the residual, summed over lanes (cut by columns: numbers of new columns, and what each lane found); likewise",
        ),
        table(
            "products",
            "up to 64 x 2048",
            "new rows of the Gram matrix (solver=proximal: columns x 4, its products with vectors; cut by columns: 128 x rows, new \
             columns); likewise",
        ),
        table(
            "residual",
            "(rows + 2) x 1",
            "scheduled by columns: of every row, its shift, its sum; likewise",
        ),
    ],
    metrics: &[
        metric(
            "train_objective",
            "mean of ½ error² + λ (l1_ratio Σ|w| + (1 − l1_ratio)/2 Σw²) at the last λ begun; falls",
        ),
        metric(
            "relative_gap",
            "(objective − a proven lower bound) / objective, the greatest of a path and 1 until its end; the run ends at \
             tolerance",
        ),
        metric("nonzeros", "coefficients that are not zero"),
        metric("train_rmse", "root of the mean squared error on training rows, in the target's unit"),
        test_metric("test_rmse", "train_rmse on test rows"),
    ],
    predicts: "one number: the target",
    example: "dunlin train lasso --train 'synth:lasso?n=500&columns=2000' --test 'synth:lasso?n=500&columns=2000&part=test' --set standardise=true",
};
