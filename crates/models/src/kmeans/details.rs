//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("clusters", "1 to the number of rows", "number of clusters K"),
        setting(
            "batch",
            "at least 0, rows",
            "rows of a mini-batch over all lanes, made of whole blocks; 0 for exact Lloyd, all rows in a clock",
        ),
        setting(
            "start",
            "plusplus or random",
            "centres start at rows drawn by squared distance from those before (k-means++), or at random",
        ),
    ],
    tables: &[
        table("centres", "features x clusters", "one centre a cluster; shared"),
        table(
            "sizes",
            "1 x clusters",
            "rows of each cluster; with batch > 0 all rows that it was ever given",
        ),
        table(
            "totals",
            "clusters x (features + 1)",
            "sum and count of rows in a clock; working memory, not saved",
        ),
        table("proposals", "4096 x 2", "a row that each lane names; likewise"),
        table("reseeds", "1 x clusters", "rows that become empty clusters; likewise"),
        table("kmeans_state", "1 x 3", "likewise"),
    ],
    metrics: &[
        metric("train_objective", "mean squared distance of training rows from their nearest centre; falls"),
        metric(
            "moved",
            "share of the last clock's rows that changed their cluster, 0 to 1; falls, and batch=0 ends at 0",
        ),
        test_metric("test_objective", "train_objective of test rows; falls"),
    ],
    predicts: "two numbers: the nearest cluster, from 0, and the squared distance from its centre",
    example: "dunlin train kmeans --train sample:digits --test sample:digits-test --set clusters=10 --epochs 20",
};
