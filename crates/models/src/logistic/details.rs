//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use crate::linear::{BIAS, C, TOLERANCE};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        C,
        setting(
            "penalty",
            "l2 or l1",
            "½|w|², or the sum of absolute weights, which leaves few that are not zero",
        ),
        BIAS,
        setting(
            "solver",
            "auto, newton, dual, coordinate or proximal",
            "Newton's method with one clock an epoch, dual coordinate ascent (l2 only), a weight at a time \
             (--strategy scheduled only, where auto takes it), or proximal gradient, which takes more passes, and stale \
             reads; auto takes it under ssp:S, essp:S, asp and, for l1, bsp; under allreduce newton for l1 and for up to \
             512 weights and no fewer rows, else dual",
        ),
        TOLERANCE,
    ],
    tables: &[
        table("weights", "(features + bias) x 1", "of the greater label; shared"),
        table(
            "gradient",
            "(features + bias) x 2",
            "solver=newton: first derivative and diagonal of the second (solver=proximal: x 1, of the loss, summed over \
             lanes, beside products, x 4, and proximal_state, 1 x 2); working memory, not saved",
        ),
        table("hessian", "1 x k (k + 1) / 2", "second derivative of k weights; likewise"),
        table("search", "(features + bias) x 2", "likewise"),
        table("places", "(features + bias) x 1", "likewise"),
        table("newton_state", "1 x 8", "likewise"),
    ],
    metrics: &[
        metric(
            "train_objective",
            "C Σ log loss + penalty, what is minimised; a sum over rows, not a mean; falls",
        ),
        metric("dual_objective", "a lower bound of the optimum; rises up to it"),
        metric("relative_gap", "(train_objective - dual_objective) / train_objective; falls to 0"),
        metric("nonzeros", "weights that are not zero; with penalty=l1 few"),
        metric("train_accuracy", "share of training rows whose likelier class is theirs, 0 to 1; rises"),
        test_metric(
            "test_accuracy",
            "the same of test rows; a class not seen in training is an error; rises",
        ),
        test_metric("test_log_loss", "mean -log p(class), in nats, of test rows whose class is known; falls"),
    ],
    predicts: "two numbers, in the order of the labels: the probability of each class",
    example: "dunlin train logistic --train 'synth:softmax?classes=2' --test 'synth:softmax?classes=2&part=test' --epochs 20",
};
