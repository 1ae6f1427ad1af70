//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("rank", "0 to the number of features", "rows of the map L; 0 for as many as features"),
        setting("rate", "above 0", "step of the gradient"),
        setting("decay", "at least 0, per epoch", "the step in epoch t (from 0) is rate / (1 + decay t)"),
        setting("lambda", "at least 0", "weight of dissimilar pairs"),
        setting(
            "margin",
            "above 0",
            "squared distance that dissimilar pairs should have; two random rows start at 1",
        ),
        setting(
            "prior",
            "at least 0",
            "weight of the divergence of the metric from the identity; above 0 only with rank=0",
        ),
        setting("batch", "at least 1, pairs", "pairs per step"),
        setting(
            "source",
            "labels or adjacent",
            "pairs are drawn from labels, or are the rows 2r and 2r + 1, similar if their labels are equal",
        ),
        setting(
            "pairs_file",
            "the name of a file, or nothing",
            "pairs are listed in it: row row 1 (similar) or -1 (dissimilar), rows numbered from 0",
        ),
        setting("pairs", "at least 0", "for source=labels: pairs to draw in all; 0 for two a row"),
        setting("held_out", "0 to 0.5", "share of the pairs that is not trained on but measured"),
        setting("standardise", "true or false", "whether features are scaled to unit variance"),
    ],
    tables: &[
        table("L", "features x rank", "the map, transposed; shared, lanes' updates are averaged"),
        table("moments", "features x 2", "sum and sum of squares of each feature; shared"),
    ],
    metrics: &[
        metric("train_objective", "train_pair_loss plus the prior's divergence; falls"),
        metric(
            "train_pair_loss",
            "mean over pairs of squared distance (similar) or λ max(0, margin - it) (dissimilar); falls",
        ),
        metric(
            "train_pair_accuracy",
            "share of pairs nearer (similar) or farther (dissimilar) than margin, 0 to 1; rises",
        ),
        metric("heldout_pair_loss", "train_pair_loss of the held_out pairs; falls"),
        metric("heldout_pair_accuracy", "train_pair_accuracy of the held_out pairs; rises"),
        test_metric("test_pair_loss", "train_pair_loss of pairs of test rows; falls"),
        test_metric("test_pair_accuracy", "train_pair_accuracy of pairs of test rows; rises"),
    ],
    predicts: "rank numbers: L x, the row's place in the space where distances are learned",
    example: "dunlin train dml --train sample:digits --test sample:digits-test --epochs 5",
};
