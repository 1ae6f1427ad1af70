//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("components", "1 to the smaller of rows and features", "number of components K"),
        setting(
            "solver",
            "hals or multiplicative",
            "exact minimisation of one component after another, or the steps of Lee and Seung",
        ),
        setting("inner", "1 to 100", "sweeps over W, and over H, in a clock; the data are read once for all"),
        setting("l1", "at least 0", "weight of ΣW + ΣH: makes them sparse"),
        setting("l2", "at least 0", "weight of ½ (‖W‖² + ‖H‖²)"),
    ],
    tables: &[
        table("components", "features x components", "H transposed; shared"),
        table("nmf_totals", "features x components", "WᵀX, transposed; working memory, not saved"),
        table("nmf_squares", "components x components", "WᵀW; likewise"),
        table("gram", "components x components", "H Hᵀ"),
        table(
            "nmf_seed",
            "features x 1",
            "a row that becomes a component without use; working memory, not saved",
        ),
        table("nmf_state", "1 x 7", "likewise"),
    ],
    metrics: &[
        metric("train_objective", "½ ‖X − W H‖² and the penalties, divided by the number of rows; falls"),
        metric("relative_error", "‖X − W H‖ / ‖X‖ of training rows, 0 to 1; falls"),
        test_metric(
            "test_objective",
            "mean over test rows of ½ ‖x − wH‖² and the penalties of w, which is the best for H; falls",
        ),
    ],
    predicts: "one number a component: the row's weights, the best for H",
    example: "dunlin train nmf --train sample:digits --test sample:digits-test --set components=16 --epochs 50",
};
