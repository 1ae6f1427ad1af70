//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use crate::linear::{BIAS, C, TOLERANCE};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        C,
        setting("loss", "hinge or squared_hinge", "max(0, 1 - y w·x), or its square"),
        BIAS,
        TOLERANCE,
    ],
    tables: &[table(
        "weights",
        "(features + bias) x columns",
        "one column for two classes (of the greater label), else one a class, against all others; shared",
    )],
    metrics: &[
        metric("train_objective", "C Σ loss + ½|w|², what is minimised; summed over rows and columns; falls"),
        metric("dual_objective", "a lower bound of the optimum; rises up to it"),
        metric("relative_gap", "(train_objective - dual_objective) / train_objective; falls to 0"),
        metric("train_accuracy", "share of training rows told right, 0 to 1; rises"),
        test_metric(
            "test_accuracy",
            "the same of test rows; a class not seen in training is an error; rises",
        ),
    ],
    predicts: "the margin w·x: one number for two classes (above 0: the greater label), else one a class",
    example: "dunlin train svm --train sample:digits --test sample:digits-test --set c=0.1 --epochs 20",
};
