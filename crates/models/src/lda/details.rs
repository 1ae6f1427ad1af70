//! What the model tells about itself.

use crate::details::{metric, setting, table, test_metric};
use dunlin::details::Details;

pub(super) const DETAILS: Details = Details {
    settings: &[
        setting("topics", "1 to 65535", "number of topics"),
        setting("alpha", "above 0, tokens", "prior weight of every topic in a document"),
        setting("beta", "above 0, tokens", "prior weight of every word in a topic"),
        setting(
            "sampler",
            "auto, dense, sparse or mh",
            "all sample the same distribution; auto takes dense up to 128 topics, sparse up to 20000, then mh, whose \
             tokens cost the same with any number of topics but move less in a sweep",
        ),
    ],
    tables: &[
        table("word_topic", "words x topics", "how many tokens of the word have each topic; shared"),
        table("totals", "1 x topics", "how many tokens have each topic; shared"),
    ],
    metrics: &[
        metric("train_loglik", "log p(words, topics) of the training documents, in nats; rises"),
        metric("train_loglik_per_token", "train_loglik / tokens; rises"),
        test_metric(
            "heldout_loglik_per_token",
            "mean log p(token), in nats, of one half of every test document given the other half; rises",
        ),
    ],
    predicts: "one number a topic: its share of the document; they add up to 1",
    example: "dunlin train lda --train sample:documents --test sample:documents-test --set topics=10 --epochs 20",
};
