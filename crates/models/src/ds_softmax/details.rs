//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use crate::linear::{BIAS, C, TOLERANCE};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        C,
        BIAS,
        setting("solver", "dual or stochastic", "dual ascent, or the stochastic steps of the DS-MLR paper"),
        TOLERANCE,
        setting(
            "passes",
            "1 to 100",
            "for solver=dual and more than one lane: passes over the rows in one visit of a block of classes",
        ),
        setting("rate", "above 0", "for solver=stochastic: the step in lap t (from 0) is rate / √(1 + t)"),
    ],
    tables: &[table("weights", "classes x (features + bias)", "one row a class; blocks of classes go round")],
    metrics: &[
        metric(
            "train_objective",
            "C Σ log loss + ½|W|², what is minimised; a sum over rows, not a mean; falls",
        ),
        metric(
            "dual_objective",
            "C Σ entropy of the duals − ½|W|², solver=dual only: the optimum is no less; on one lane it never falls",
        ),
        metric(
            "relative_gap",
            "(train_objective − dual_objective) / train_objective, solver=dual only: how far from the optimum the run is \
             at most; falls to 0",
        ),
        metric("train_accuracy", "share of training rows whose likeliest class is theirs, 0 to 1; rises"),
        test_metric(
            "test_accuracy",
            "the same of test rows; a class not seen in training is an error; rises",
        ),
        test_metric("test_log_loss", "mean -log p(class), in nats, of test rows whose class is known; falls"),
        test_metric("micro_f1", "F1 of all classes' counts on test rows, which is test_accuracy; rises"),
        test_metric(
            "macro_f1",
            "mean over classes of F1 on test rows; a class never predicted has precision 1, one that never occurs \
             recall 1; rises",
        ),
    ],
    predicts: "one number a class, in the order of the labels: its probability; they add up to 1",
    example: "dunlin train ds-softmax --train sample:digits --test sample:digits-test --workers 2 --set c=0.1",
};
