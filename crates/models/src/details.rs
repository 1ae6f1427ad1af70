//! What the models tell about themselves. Tests compare every list with what the model really has.

use dunlin::details::{Details, MetricNote, Setting, TableNote};

const fn setting(name: &'static str, range: &'static str, meaning: &'static str) -> Setting {
    Setting { name, range, meaning }
}

const fn table(name: &'static str, shape: &'static str, meaning: &'static str) -> TableNote {
    TableNote { name, shape, meaning }
}

const fn metric(name: &'static str, meaning: &'static str) -> MetricNote {
    MetricNote { name, meaning, needs_test: false }
}

const fn test_metric(name: &'static str, meaning: &'static str) -> MetricNote {
    MetricNote { name, meaning, needs_test: true }
}

/// Of [`crate::mf`].
pub(crate) const MF: Details = Details {
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

/// Of [`crate::lda`].
pub(crate) const LDA: Details = Details {
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

/// Of [`crate::softmax`].
pub(crate) const SOFTMAX: Details = Details {
    settings: &[
        setting(
            "c",
            "above 0, at most 1e9",
            "weight C of the loss, a sum over rows, against the penalty ½|W|²",
        ),
        setting(
            "bias",
            "true or false",
            "adds a column of ones, whose weights are penalised like all others",
        ),
        setting("solver", "dual or lbfgs", "dual coordinate ascent, or L-BFGS with one clock an epoch"),
        setting("tolerance", "above 0, below 1", "the run has converged once relative_gap is at most this"),
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

/// Of [`crate::dml`].
pub(crate) const DML: Details = Details {
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

/// Of [`crate::kmeans`].
pub(crate) const KMEANS: Details = Details {
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

/// Of [`crate::nmf`].
pub(crate) const NMF: Details = Details {
    settings: &[
        setting("components", "1 to the smaller of rows and features", "number of components K"),
        setting(
            "solver",
            "hals or multiplicative",
            "exact minimisation of one component after another, or the steps of Lee and Seung",
        ),
        setting("inner", "1 to 100", "sweeps over W, and over H, in a clock; the data are read once for all"),
        setting("l1", "at least 0", "weight of ΣW + ΣH: makes them sparse"),
        setting("l2", "at least 0", "weight of ½ (‖W‖² + ‖H‖²)"),
    ],
    tables: &[
        table("components", "features x components", "H transposed; shared"),
        table("nmf_totals", "features x components", "WᵀX, transposed; working memory, not saved"),
        table("nmf_squares", "components x components", "WᵀW; likewise"),
        table("gram", "components x components", "H Hᵀ"),
        table(
            "nmf_seed",
            "features x 1",
            "a row that becomes a component without use; working memory, not saved",
        ),
        table("nmf_state", "1 x 7", "likewise"),
    ],
    metrics: &[
        metric("train_objective", "½ ‖X − W H‖² and the penalties, divided by the number of rows; falls"),
        metric("relative_error", "‖X − W H‖ / ‖X‖ of training rows, 0 to 1; falls"),
        test_metric(
            "test_objective",
            "mean over test rows of ½ ‖x − wH‖² and the penalties of w, which is the best for H; falls",
        ),
    ],
    predicts: "one number a component: the row's weights, the best for H",
    example: "dunlin train nmf --train sample:digits --test sample:digits-test --set components=16 --epochs 50",
};

/// Of [`crate::sparse_coding`].
pub(crate) const SPARSE_CODING: Details = Details {
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

/// Of [`crate::lasso`].
pub(crate) const LASSO: Details = Details {
    settings: &[
        setting("lambda", "above 0, or null", "strength λ of the penalty; null: lambda_fraction decides"),
        setting(
            "lambda_fraction",
            "above 0 to 1",
            "λ as a share of the smallest that zeroes all coefficients",
        ),
        setting(
            "path",
            "1 to 10000",
            "number of λs, in geometric steps from where all coefficients are zero",
        ),
        setting("l1_ratio", "above 0 to 1", "share of the penalty on |w|; the rest is on ½ w² (elastic net)"),
        setting(
            "standardise",
            "true or false",
            "whether the penalty is for columns scaled to unit deviation",
        ),
        setting("intercept", "true or false", "whether there is an intercept, which has no penalty"),
        setting("tolerance", "1e-12 to 1", "relative duality gap to stop at"),
        setting(
            "solver",
            "auto, workingset or proximal",
            "coordinate descent and Newton steps on a growing working set, or proximal gradient, which takes more \
             passes, and stale reads; auto takes it under bsp, ssp:S, essp:S, asp",
        ),
        setting(
            "screening",
            "gap-safe or off",
            "whether columns are looked at no more once the duality gap proves that they have no coefficient",
        ),
        setting(
            "cut",
            "auto, rows or columns",
            "what a lane has: some rows, or (strategy allreduce, solver=workingset) some columns of all rows; auto takes columns \
             where there are more of them than rows",
        ),
    ],
    tables: &[
        table("coefficients", "columns x 1", "for columns as they are in the data"),
        table("intercept", "1 x 1", "added to every prediction"),
        table("path", "λs x 4", "λ, non-zero coefficients, objective, relative gap"),
        table(
            "squares",
            "columns x 3",
            "sums of values, of squares and of products with the targets; working memory, not saved",
        ),
        table("lasso_state", "1 x 7", "likewise"),
        table(
            "correlations",
            "columns x 1",
            "with the residual, summed over lanes (cut by columns: numbers of new columns, and what each lane found); likewise",
        ),
        table(
            "products",
            "up to 64 x 2048",
            "new rows of the Gram matrix (solver=proximal: columns x 4, its products with vectors; cut by columns: 128 x rows, new \
             columns); likewise",
        ),
    ],
    metrics: &[
        metric(
            "train_objective",
            "mean of ½ error² + λ (l1_ratio Σ|w| + (1 − l1_ratio)/2 Σw²) at the last λ begun; falls",
        ),
        metric(
            "relative_gap",
            "(objective − a proven lower bound) / objective, the greatest of a path and 1 until its end; the run ends at \
             tolerance",
        ),
        metric("nonzeros", "coefficients that are not zero"),
        metric("train_rmse", "root of the mean squared error on training rows, in the target's unit"),
        test_metric("test_rmse", "train_rmse on test rows"),
    ],
    predicts: "one number: the target",
    example: "dunlin train lasso --train 'synth:lasso?n=500&columns=2000' --test 'synth:lasso?n=500&columns=2000&part=test' --set standardise=true",
};

/// Of [`crate::logistic`].
pub(crate) const LOGISTIC: Details = Details {
    settings: &[
        setting("c", "above 0, at most 1e9", "weight C of the loss, a sum over rows, against the penalty"),
        setting(
            "penalty",
            "l2 or l1",
            "½|w|², or the sum of absolute weights, which leaves few that are not zero",
        ),
        setting("bias", "true or false", "adds a column of ones, whose weight is penalised like all others"),
        setting(
            "solver",
            "auto, newton, dual, coordinate or proximal",
            "Newton's method with one clock an epoch, dual coordinate ascent (l2 only), a weight at a time \
             (--strategy scheduled only, where auto takes it), or proximal gradient, which takes more passes, and stale \
             reads; auto takes it under ssp:S, essp:S, asp and, for l1, bsp; under allreduce newton for l1 and for up to \
             512 weights and no fewer rows, else dual",
        ),
        setting("tolerance", "above 0, below 1", "the run has converged once relative_gap is at most this"),
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

/// Of [`crate::svm`].
pub(crate) const SVM: Details = Details {
    settings: &[
        setting(
            "c",
            "above 0, at most 1e9",
            "weight C of the loss, a sum over rows, against the penalty ½|w|²",
        ),
        setting("loss", "hinge or squared_hinge", "max(0, 1 - y w·x), or its square"),
        setting(
            "bias",
            "true or false",
            "adds a column of ones, whose weights are penalised like all others",
        ),
        setting("tolerance", "above 0, below 1", "the run has converged once relative_gap is at most this"),
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

/// Of [`crate::lda_vb`].
pub(crate) const LDA_VB: Details = Details {
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

/// Of [`crate::ds_softmax`].
pub(crate) const DS_SOFTMAX: Details = Details {
    settings: &[
        setting(
            "c",
            "above 0, at most 1e9",
            "weight C of the loss, a sum over rows, against the penalty ½|W|²",
        ),
        setting(
            "bias",
            "true or false",
            "adds a column of ones, whose weights are penalised like all others",
        ),
        setting("solver", "dual or stochastic", "dual ascent, or the stochastic steps of the DS-MLR paper"),
        setting(
            "tolerance",
            "above 0, below 1",
            "solver=dual has converged once relative_gap is at most this",
        ),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::{MODELS, find};
    use dunlin::comm::Cluster;
    use dunlin::data::read;
    use dunlin::run::Run;
    use dunlin::train::Source;
    use dunlin::{Algorithm, Shape};
    use std::collections::BTreeSet;

    fn samples(model: &str) -> [&'static str; 2] {
        match model {
            "mf" => ["sample:ratings", "sample:ratings-test"],
            "logistic" => ["synth:softmax?classes=2", "synth:softmax?classes=2&part=test"],
            "lda" | "lda-vb" => ["sample:documents", "sample:documents-test"],
            _ => ["sample:digits", "sample:digits-test"],
        }
    }

    fn run(model: &str) -> (Run, Source) {
        let mut run = crate::run(model, samples(model)[0]).unwrap();
        run.stop.epochs = 1;
        run.read.blocks = crate::find(model).unwrap().blocks_per_lane.unwrap_or(run.read.blocks);
        let train = read(&run.train, &run.read, None).unwrap();
        let test = read(samples(model)[1], &run.read, Some(&train)).unwrap();
        (run, Source::new(train, Some(test)))
    }

    #[test]
    fn every_setting_is_told_and_no_other() {
        for model in MODELS {
            let defaults = (model.defaults)();
            let fields: BTreeSet<&str> = defaults.as_object().unwrap().keys().map(String::as_str).collect();
            let told: Vec<&str> = model.details.settings.iter().map(|setting| setting.name).collect();
            assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), fields, "{}", model.name);
            assert_eq!(told.len(), fields.len(), "{}: one is told twice", model.name);
        }
    }

    #[test]
    fn every_metric_is_told_and_no_other() {
        for model in MODELS {
            let (run, source) = run(model.name);
            let outcome = crate::train(&Cluster::Threads(1), &run, &source).unwrap();
            let seen: BTreeSet<&str> = outcome.metrics.keys().map(String::as_str).collect();
            let told: BTreeSet<&str> = model.details.metrics.iter().map(|metric| metric.name).collect();
            assert_eq!(told, seen, "{}", model.name);
            let train = Source::new(read(&run.train, &run.read, None).unwrap(), None);
            let outcome = crate::train(&Cluster::Threads(1), &run, &train).unwrap();
            for metric in model.details.metrics {
                assert_eq!(outcome.metrics.contains_key(metric.name), !metric.needs_test, "{}", metric.name);
            }
        }
    }

    #[test]
    fn every_table_is_told_and_no_other() {
        fn tables<A: Algorithm>(shape: &Shape, set: &[(&str, &str)]) -> Vec<String> {
            let settings = find(A::NAME).unwrap().settings(set.iter().copied()).unwrap();
            let algorithm = A::new(&serde_json::from_value(settings).unwrap(), shape).unwrap();
            algorithm.tables().into_iter().map(|table| table.name).collect()
        }
        for model in MODELS {
            let shape = run(model.name).1.shape().clone();
            let real = match model.name {
                "mf" => tables::<crate::mf::Mf>(&shape, &[]),
                "lda" => tables::<crate::lda::Lda>(&shape, &[]),
                "lda-vb" => tables::<crate::lda_vb::LdaVb>(&shape, &[]),
                "dml" => tables::<crate::dml::Dml>(&shape, &[]),
                "kmeans" => tables::<crate::kmeans::Kmeans>(&shape, &[]),
                "nmf" => tables::<crate::nmf::Nmf>(&shape, &[]),
                "sparse-coding" => tables::<crate::sparse_coding::SparseCoding>(&shape, &[]),
                "lasso" => tables::<crate::lasso::Lasso>(&shape, &[]),
                "logistic" => tables::<crate::logistic::Logistic>(&shape, &[("solver", "newton")]),
                "svm" => tables::<crate::svm::Svm>(&shape, &[]),
                "ds-softmax" => tables::<crate::ds_softmax::DsSoftmax>(&shape, &[]),
                _ => tables::<crate::softmax::Softmax>(&shape, &[("solver", "lbfgs")]),
            };
            let told: Vec<&str> = model.details.tables.iter().map(|table| table.name).collect();
            assert_eq!(told, real, "{}", model.name);
        }
    }
}
