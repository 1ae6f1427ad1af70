//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("atoms", "1 to the number of rows", "atoms K in the dictionary"),
        setting(
            "lambda",
            "above 0, in the unit of the features",
            "weight λ of ‖a‖₁: more makes codes sparser",
        ),
        setting(
            "batch",
            "at least 0, rows",
            "rows of a mini-batch over all lanes, made of whole blocks; 0 for all",
        ),
        setting(
            "forgetting",
            "at least 0",
            "ρ: after clock t, past codes count (1 − 1/t)^ρ as much; 0 for never",
        ),
        setting(
            "tolerance",
            "above 0, below 1",
            "a code is found once no coordinate moves by more than this share of the largest",
        ),
    ],
    tables: &[
        table("atoms", "features x atoms", "the dictionary D; shared"),
        table("code_totals", "features x atoms", "Σ x aᵀ; working memory, not saved"),
        table("code_squares", "atoms x atoms", "Σ a aᵀ; likewise"),
        table("gram", "atoms x atoms", "DᵀD"),
        table(
            "code_seed",
            "features x 1",
            "a row that becomes an atom without use; working memory, not saved",
        ),
        table("code_state", "1 x 3", "likewise"),
    ],
    metrics: &[
        metric("train_objective", "mean over rows of ½ ‖x − D a‖² + λ ‖a‖₁ at the best a; falls"),
        metric("nonzeros", "mean number of atoms that a row uses; falls with λ"),
        test_metric("test_objective", "train_objective of test rows; falls"),
    ],
    predicts: "one number an atom: the row's code a",
    example: "dunlin train sparse-coding --train sample:digits --test sample:digits-test --set atoms=64 --epochs 5",
};
