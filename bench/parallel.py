"""Rows about model parallelism: rotation, DS-MLR, coordinate descent, clustering; each against a peer of the same run."""
import json
import os

from measure import Failed, median
from rows import (epinions_peer, evaluations, field, kos_quality, lda_words, movielens_peer, movielens_words, optimum, row)

ROTATION = ["--strategy", "rotation"]


def two(words, cluster="threads"):
    return [*words, "--workers", 2, "--lanes", 2, "--cluster", cluster]


def needs(b, model):
    if not b.has_model(model):
        raise Failed(f"this binary has no model {model}")


# ---------------------------------------------------------------- matrix factorisation
def mf_movielens(b):
    """Seconds to test RMSE 0.93 and ratings a second, two workers under rotation; LIBMF with 2 threads."""
    b.program("libmf")
    ours = two([*movielens_words(b), *ROTATION])
    raw = b.interleaved(
        ours=lambda: b.dunlin(*ours, cpus=2),
        peer=lambda: movielens_peer(b, "libmf_avx", 2, 0.1, 0.05),
        turns=max(b.a.repeat, 7))                  # runs of milliseconds need more turns
    good = all(run["reason"] == "until" for run in raw["ours"])
    seconds, theirs = field(raw["ours"], "seconds"), field(raw["peer"], "seconds")
    speed, their_speed = field(raw["ours"], "samples_per_second") / 1e6, field(raw["peer"], "ratings_per_s") / 1e6
    what = "mf, rotation, MovieLens-100k u1, rank 32, 2 threads"
    return {"raw": raw, "rows": [
        row(f"{what}, time to test RMSE 0.93", "LIBMF, 2 threads", theirs, seconds, "s", "≤ 0.005 s; ≤ 0.21 x",
            good and seconds <= 0.21 * theirs, f"ours {field(raw['ours'], 'epochs'):g} epochs"),
        row(f"{what}, rate at that quality", "LIBMF, 2 threads", their_speed, speed, "M ratings/s", "≥ 200; ≥ 10 x",
            good and speed >= 10 * their_speed)]}


EPINIONS = ["rate=0.02", "decay=0.05", "regularisation=0.1"]


def epinions_rotation(b):
    settings = [word for setting in EPINIONS for word in ("--set", setting)]
    return ["mf", "--train", b.file("epinions.train.tsv"), "--test", b.file("epinions.test.tsv"), "--set", "rank=32",
            *settings, *ROTATION, "--epochs", 20, "--eval-every", 20]


def mf_epinions(b):
    """Ratings a second over 20 epochs, two workers under rotation; LIBMF with 2 threads."""
    b.program("libmf")
    ours = two(epinions_rotation(b))
    raw = b.interleaved(
        ours=lambda: b.dunlin(*ours, cpus=2),
        peer=lambda: epinions_peer(b, "libmf_avx", 2, 0.05, 0.1))
    speed, theirs = field(raw["ours"], "samples_per_second") / 1e6, field(raw["peer"], "ratings_per_s") / 1e6
    rmse = median([run["metrics"]["test_rmse"] for run in raw["ours"]])
    return {"raw": raw, "rows": [
        row("mf, rotation, Epinions, rank 32, 20 epochs, 2 threads", "LIBMF, 2 threads", theirs, speed, "M ratings/s",
            "≥ 75; ≥ 8.3 x; RMSE ≤ 1.025", rmse <= 1.025 and speed >= 8.3 * theirs,
            f"test RMSE ours {rmse:.4f}, theirs {field(raw['peer'], 'quality'):.4f} (no biases)")]}


# ---------------------------------------------------------------- topics
def lda_kos(b):
    """Seconds of two workers under rotation to held-out −7.35; tomotopy with 2 threads, a seed for each turn."""
    target, extra = -7.35, ROTATION
    found = {}
    for seed in range(1, b.a.repeat + 1):
        for sweeps in range(40, 301, 10):
            quality = kos_quality(b, 2, sweeps, seed, extra)
            found[seed] = (sweeps, quality)
            if quality >= target:
                break
    ours_seeds, theirs_seeds = iter(found), iter(found)

    def ours():
        seed = next(ours_seeds)
        return b.dunlin(*lda_words(b, 2, found[seed][0], seed), *extra, cpus=2)
    raw = b.interleaved(
        ours=ours,
        peer=lambda: b.peer("topics.py", "--peer", "tomotopy", "--data", b.data("kos", "docword.kos.txt.gz"),
                            "--threads", 2, "--sweeps", 160, "--every", 10, "--seed", next(theirs_seeds),
                            "--target", target))
    raw["found"] = found
    seconds, theirs = field(raw["ours"], "seconds"), field(raw["peer"], "seconds")
    good = all(quality >= target for _, quality in found.values()) and all(run["reached"] for run in raw["peer"])
    errors = [run["report"]["merge_error"]["totals"] for run in raw["ours"]]
    error = median([total / count for total, count in errors])
    note = f"ours {'/'.join(str(sweeps) for sweeps, _ in found.values())} sweeps, error of totals {100 * error:.2f} %"
    return {"raw": raw, "rows": [
        row("lda, rotation, KOS, K = 100, to held-out −7.35, 2 threads", "tomotopy, 2 threads", theirs, seconds, "s",
            "≤ 1.3 s; ≤ 0.57 x", good and seconds <= 0.57 * theirs, note)]}


# ---------------------------------------------------------------- rotation on processes
def processes(what, words):
    """Two workers under rotation, as threads and as processes: time per epoch."""
    def measure(b):
        raw = b.interleaved(
            threads=lambda: b.dunlin(*two(words(b)), cpus=2),
            processes=lambda: b.dunlin(*two(words(b), "processes"), cpus=2))
        per_epoch = {side: median([run["seconds"] / run["epochs"] for run in runs]) for side, runs in raw.items()}
        ours, theirs = per_epoch["processes"], per_epoch["threads"]
        return {"raw": raw, "rows": [
            row(f"{what}, rotation, two processes, time per epoch", "two threads", theirs, ours, "s", "≤ 1.15 x",
                ours <= 1.15 * theirs)]}
    measure.__doc__ = f"{what}: seconds per epoch of two processes against two threads under rotation."
    return measure


def lda_rotation(b):
    return ["lda", "--train", b.file("docword.20news.train.txt.gz"), "--set", "topics=100", *ROTATION, "--epochs", 12,
            "--eval-every", 12]


def lshtc_rotation(b):
    needs(b, "ds-softmax")
    return [*ds_words(b, "lshtc.train.svm", 1.0), *ROTATION, "--epochs", 10, "--eval-every", 10, "--set",
            "tolerance=1e-9"]


# ---------------------------------------------------------------- slow workers, simulated
def simulated(b, strategy, lanes, *more):
    """Virtual seconds of an epoch at the end of a run of 4 simulated workers: after lanes have moved, if they do."""
    run = b.folder("sim")
    b.dunlin("mf", "--train", b.file("u1.base.tsv"), "--set", "rank=32", "--cluster", "sim:4", "--lanes", lanes,
             "--compute-ns", 20000, "--strategy", strategy, "--epochs", 24, "--eval-every", 4, *more, "--out", run,
             quiet=False)
    seconds = [event["seconds"] for event in evaluations(run)]
    return (seconds[-1] - seconds[-3]) / 8


def slow_worker(slow, lanes, least):
    """`least`: by strategy, the loss that is wanted at most. The simulator repeats bit for bit, so one run each."""
    def measure(b):
        found, raw = [], {}
        for strategy, most in least.items():
            for rehost in ("off", "auto"):
                even, slowed = (simulated(b, strategy, lanes, "--rehost", rehost, *more) for more in ([], ["--slow", slow]))
                raw[f"{strategy}, {rehost}"] = {"even": even, "slow": slowed}
                loss = 1 - even / slowed
                judged = rehost == "auto" and most is not None
                found.append(row(f"mf, {strategy}, sim:4, {lanes} lanes, --slow {slow}, --rehost {rehost}, loss of speed",
                                 "no slow worker", 0, 100 * loss, "%", f"≤ {100 * most:g} %" if judged else "recorded",
                                 loss <= most if judged else None, f"{even:.4f} and {slowed:.4f} virtual s an epoch"))
        return {"raw": raw, "rows": found}
    measure.__doc__ = f"Speed that 4 simulated workers with {lanes} lanes lose with --slow {slow}."
    return measure


# ---------------------------------------------------------------- DS-MLR
def ds_words(b, data, c):
    return ["ds-softmax", "--train", b.file(data), "--set", f"c={c}", "--set", "bias=false"]


def ds_softmax(name, data, c, peer_words, ratios, most_mb=None):
    """`ratios`: by number of threads, ours over the peer's at most."""
    def measure(b):
        needs(b, "ds-softmax")
        best = optimum(b, name)
        words = [*ds_words(b, data, c), "--epochs", 1000, "--until", f"train_objective<={1.001 * best:.10g}"]
        sides = {"one": lambda: b.dunlin(*words)}
        if 2 in ratios:
            sides["two"] = lambda: b.dunlin(*two([*words, *ROTATION]), cpus=2)
        raw = b.interleaved(**sides, peer=lambda: b.peer("logistic.py", "--peer", "sk_saga", *peer_words(b), "--C", c,
                                                         "--threads", 1, "--optimum", best))
        raw["optimum"], found = best, []
        theirs = field(raw["peer"], "seconds")
        what = f"ds-softmax, {name}, C = {c:g}, to 1.001 of the optimum"
        for side, threads in zip(sides, (1, 2)):
            runs = raw[side]
            good = all(run["reason"] in ("until", "converged") for run in runs)
            seconds = field(runs, "seconds")
            found.append(row(f"{what}, {threads} thread{'s' if threads > 1 else ''}", "saga, 1 thread", theirs, seconds,
                             "s", f"≤ {ratios[threads]} x", good and seconds <= ratios[threads] * theirs,
                             f"{field(runs, 'epochs'):g} laps"))
        if most_mb:
            mb = field(raw["one"], "peak_rss_mb")
            found.append(row(f"{what}, peak memory", "saga", field(raw["peer"], "rss_mb"), mb, "MB",
                             f"≤ {most_mb} MB", mb <= most_mb))
        return {"raw": raw, "rows": found}
    measure.__doc__ = f"Seconds to 1.001 of the optimum, no bias, {name}, C = {c:g}."
    return measure


def lshtc_peer(b):
    folder = "lshtc1-small"
    return ["--data", b.data(folder, "rdf.train.svm.gz"), "--test", b.data(folder, "rdf.validation.svm.gz"),
            "--min-df", 3]


# ---------------------------------------------------------------- lasso
def lasso(name, data, peer_data, peer, ratio, path=0):
    """One lambda, 0.01 of the largest that matters, or a path of `path` down to it, to a relative gap of 1e-6."""
    def measure(b):
        needs(b, "lasso")
        words = ["lasso", "--train", b.file(data), "--set", "lambda_fraction=0.01", "--set", "standardise=true",
                 "--set", "tolerance=1e-6", "--epochs", 100000]
        words += ["--set", f"path={path}"] if path else []
        peer_words = ["--peer", peer, "--data", peer_data(b), "--frac", 0.01, *(["--path", path] if path else [])]
        raw = b.interleaved(
            ours=lambda: b.dunlin(*words),
            peer=lambda: b.peer("lasso.py", *peer_words))
        good = all(run["metrics"]["relative_gap"] <= 1e-6 for run in raw["ours"])
        seconds, theirs = field(raw["ours"], "seconds"), field(raw["peer"], "seconds")
        nonzeros = median([run["metrics"]["nonzeros"] for run in raw["ours"]])
        what = f"lasso, {name}, " + (f"path of {path}" if path else "one λ = 0.01 λmax")
        return {"raw": raw, "rows": [
            row(f"{what}, gap 1e-6, 1 thread", peer, theirs, seconds, "s", f"≤ {ratio} x",
                good and seconds <= ratio * theirs, f"{nonzeros:g} non-zeros, theirs {field(raw['peer'], 'nonzero'):g}")]}
    measure.__doc__ = f"Seconds to a relative duality gap of 1e-6, columns standardised: {name}."
    return measure


def riboflavin(b):
    return b.data("riboflavin", "riboflavin.svm.gz")


def synthetic(_):
    return "synth:lasso:1000,10000,100"


# ---------------------------------------------------------------- logistic regression
def logistic(b):
    """Seconds to 1.001 of the optimum, a9a, C = 1, no bias; LIBLINEAR with as many threads."""
    needs(b, "logistic")
    best = optimum(b, "a9a")
    train, test = b.data("a9a", "a9a.train.svm.gz"), b.data("a9a", "a9a.test.svm.gz")
    words = ["logistic", "--train", train, "--set", "c=1", "--set", "bias=false", "--epochs", 1000, "--until",
             f"train_objective<={1.001 * best:.10g}"]
    peer = ["logistic.py", "--peer", "sk_liblinear", "--data", train, "--test", test, "--C", 1, "--optimum", best]
    raw = b.interleaved(
        one=lambda: b.dunlin(*words),
        two=lambda: b.dunlin(*two(words), cpus=2),
        peer=lambda: b.peer(*peer, "--threads", 1))
    theirs, found = field(raw["peer"], "seconds"), []
    # LIBLINEAR's own program read .048 s (1 thread) and .040 s (2) where scikit-learn's copy of it read .055 s.
    for side, threads, ratio in (("one", "1 thread", 0.55), ("two", "2 threads", 0.45)):
        runs = raw[side]
        good = all(run["reason"] in ("until", "converged") for run in runs)
        seconds = field(runs, "seconds")
        found.append(row(f"logistic, a9a, C = 1, to 1.001 of the optimum, {threads}", "LIBLINEAR in scikit-learn, 1 thread",
                         theirs, seconds, "s", f"≤ {ratio} x", good and seconds <= ratio * theirs,
                         f"{field(runs, 'epochs'):g} epochs"))
    return {"raw": raw, "rows": found}


# ---------------------------------------------------------------- clustering
def kmeans(b):
    """Seconds per iteration of exact Lloyd, no bounds, from random rows, MNIST's 60,000 rows, K = 100; scikit-learn with
    1 and 2 threads. A start by k-means++ would count as part of our iterations; the peer's start is given."""
    needs(b, "kmeans")
    words = ["kmeans", "--train", b.data("mnist", "train-images-idx3-ubyte.gz"), "--set", "clusters=100", "--set",
             "start=random", "--epochs", 20, "--eval-every", 20]
    peer = ["kmeans.py", "--peer", "sklearn_lloyd", "--data", b.data("mnist"), "--k", 100, "--iters", 20]
    raw = b.interleaved(
        one=lambda: b.dunlin(*words),
        two=lambda: b.dunlin(*two(words), cpus=2),
        peer_1=lambda: b.peer(*peer, "--threads", 1),
        peer_2=lambda: b.peer(*peer, "--threads", 2))
    found = []
    for side, count, ratio in (("one", 1, 0.81), ("two", 2, 0.79)):
        ours = median([run["seconds"] / run["epochs"] for run in raw[side]])
        theirs = median([run["seconds"] / 20 for run in raw[f"peer_{count}"]])
        threads = "1 thread" if count == 1 else "2 threads"
        distance = median([run["metrics"]["train_objective"] for run in raw[side]])
        found.append(row(f"kmeans, MNIST, K = 100, an iteration, {threads}", f"scikit-learn, {threads}", theirs, ours, "s",
                         f"≤ {ratio} x", ours <= ratio * theirs,
                         f"mean squared distance ours {distance:.2f}, theirs {field(raw[f'peer_{count}'], 'quality'):.2f}"))
    return {"raw": raw, "rows": found}
