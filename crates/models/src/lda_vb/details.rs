//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("topics", "1 to 65535", "number of topics"),
        setting("alpha", "1e-6 to 1e6, tokens", "prior weight of every topic in a document"),
        setting("beta", "1e-6 to 1e6, tokens", "prior weight of every word in a topic"),
        setting(
            "kappa",
            "above 0.5, at most 1",
            "batch t (from 0) has weight ρ = (tau0 + t)^-kappa; all documents in one batch have 1",
        ),
        setting("tau0", "1 to 1e9, batches", "slows the first batches down"),
        setting(
            "batch",
            "at least 0, documents",
            "documents of a batch over all lanes, made of whole blocks; 0 for all: batch variational Bayes",
        ),
        setting("e_step_rounds", "1 to 10000", "most rounds that fit a document"),
        setting(
            "tolerance",
            "at least 0, tokens",
            "a document is fitted once its topics' weights change by at most this in the mean of a round",
        ),
        setting(
            "start",
            "cold or warm",
            "a document's topics start all equal, or (documents x topics numbers are kept) as they were last",
        ),
    ],
    tables: &[
        table("lambda", "words x topics", "topics' posterior Dirichlet, tokens and prior; shared"),
        table("lambda_totals", "1 x topics", "its sums over words"),
        table(
            "vb_statistics",
            "words x topics",
            "expected tokens of a clock's documents; working memory, not saved",
        ),
        table("vb_weights", "words x (topics + 1)", "exp E[log p(word | topic)] and its scale; likewise"),
        table("vb_state", "1 x 2", "likewise"),
    ],
    metrics: &[
        metric(
            "train_bound_per_token",
            "variational lower bound of log p(words) of the training documents, in nats, by token; rises",
        ),
        test_metric(
            "heldout_loglik_per_token",
            "mean log p(token), in nats, of one half of every test document given the other half; rises",
        ),
    ],
    predicts: "one number a topic: its share of the document; they add up to 1",
    example: "dunlin train lda-vb --train sample:documents --test sample:documents-test --set topics=10 --epochs 20",
};
