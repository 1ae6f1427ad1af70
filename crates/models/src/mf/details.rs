//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting(
            "solver",
            "sgd or als",
            "stochastic gradient descent, or alternating least squares: no step to choose, an epoch is one side",
        ),
        setting("rank", "1 to 4096", "factors per user and item; 8, 16, 32, 64 and 128 are the fastest"),
        setting("rate", "above 0", "step of the gradient"),
        setting(
            "regularisation",
            "at least 0",
            "weight λ of the squared parameters, counted once per rating",
        ),
        setting("bias", "true or false", "whether users and items have biases"),
        setting(
            "schedule",
            "constant, inverse or power",
            "the step in epoch t (from 0): rate, rate / (1 + decay t), or rate (t + offset)^-exponent",
        ),
        setting("decay", "at least 0, per epoch", "for schedule=inverse: how fast the step falls"),
        setting("offset", "above 0, epochs", "for schedule=power: added to the epoch"),
        setting("exponent", "0 to 2", "for schedule=power: how fast the step falls"),
        setting("scale", "above 0", "factors and biases start uniform within ±scale / √rank"),
    ],
    tables: &[
        table("users", "users x (rank + bias)", "factors, then the bias; stays with the user's lane"),
        table("items", "items x (rank + bias)", "the same of items; shared by all lanes"),
    ],
    metrics: &[
        metric(
            "train_rmse",
            "root of the mean squared error on training ratings, in their unit, predictions clipped to their \
             range; falls",
        ),
        metric("train_objective", "mean over ratings of ½ error² + ½ λ (squares of its parameters); falls"),
        test_metric(
            "test_rmse",
            "train_rmse on test ratings; an unseen user or item counts with the mean and the known bias; falls",
        ),
    ],
    predicts: "one number: the rating, clipped to the range of the training ratings",
    example: "dunlin train mf --train sample:ratings --test sample:ratings-test --set rank=16 --epochs 5",
};
