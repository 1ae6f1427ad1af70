//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use crate::linear::{BIAS, C, TOLERANCE};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        C,
        BIAS,
        setting("solver", "dual or lbfgs", "dual coordinate ascent, or L-BFGS with one clock an epoch"),
        TOLERANCE,
        setting("history", "1 to 100, steps", "for solver=lbfgs: how many steps it remembers"),
    ],
    tables: &[
        table("weights", "(features + bias) x classes", "one weight a class; shared"),
        table("gradient", "(features + bias) x classes", "solver=lbfgs only; working memory, not saved"),
        table("point", "(features + bias) x classes", "likewise"),
        table("point_gradient", "(features + bias) x classes", "likewise"),
        table("direction", "(features + bias) x classes", "likewise"),
        table("steps", "history (features + bias) x classes", "likewise"),
        table("changes", "history (features + bias) x classes", "likewise"),
        table("lbfgs_state", "1 x (fields + history)", "likewise"),
    ],
    metrics: &[
        metric(
            "train_objective",
            "C Σ log loss + ½|W|², what is minimised; a sum over rows, not a mean; falls",
        ),
        metric("dual_objective", "a lower bound of the optimum; rises up to it"),
        metric("relative_gap", "(train_objective - dual_objective) / train_objective; falls to 0"),
        metric("train_accuracy", "share of training rows whose likeliest class is theirs, 0 to 1; rises"),
        test_metric(
            "test_accuracy",
            "the same of test rows; a class not seen in training is an error; rises",
        ),
        test_metric("test_log_loss", "mean -log p(class), in nats, of test rows whose class is known; falls"),
    ],
    predicts: "one number a class, in the order of the labels: its probability; they add up to 1",
    example: "dunlin train softmax --train sample:digits --test sample:digits-test --set c=0.1 --epochs 20",
};
