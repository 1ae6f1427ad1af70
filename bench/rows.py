"""The rows of the table: each function measures one and returns {"raw": ..., "rows": [...]}.

A row of the table has `what`, `peer` (whom ours is compared with), `theirs`, `ours`, `unit`, `ratio` (ours / theirs),
`target` in words and `reached`. Where a target is given both as a figure and as a ratio to the peer, the ratio of the
same run decides: the clock of a machine drifts, a ratio does not.
"""
import json
import os

from measure import Failed, median


def row(what, peer, theirs, ours, unit, target, reached, note=""):
    ratio = ours / theirs if theirs and ours is not None else None
    return {"what": what, "peer": peer, "theirs": theirs, "ours": ours, "unit": unit, "ratio": ratio,
            "target": target, "reached": reached, "note": note}


def field(runs, name):
    return median([run[name] for run in runs])


# ---------------------------------------------------------------- matrix factorisation
MOVIELENS_RMSE = 0.93


def movielens_words(b):
    return ["mf", "--train", b.file("u1.base.tsv"), "--test", b.file("u1.test.tsv"), "--set", "rank=32",
            "--blocks", 8, "--epochs", 60, "--until", f"test_rmse<={MOVIELENS_RMSE}"]


def movielens_peer(b, name, threads, rate, regularisation):
    return b.peer("mf.py", "--peer", name, "--data", b.data("movielens-100k"), "--threads", threads, "--rank", 32,
                  "--epochs", 60, "--lr", rate, "--reg", regularisation, "--target", MOVIELENS_RMSE)


def mf_movielens(b):
    """Seconds of training to test RMSE 0.93 and ratings a second at that quality; MovieLens-100k u1, rank 32."""
    ours = movielens_words(b)
    raw = b.interleaved(
        ours=lambda: b.dunlin(*ours),
        peer=lambda: movielens_peer(b, "cornac", 1, 0.03, 0.05),
        turns=max(b.a.repeat, 7))                  # runs of milliseconds need more turns
    good = all(run["reason"] == "until" for run in raw["ours"])
    seconds, theirs = field(raw["ours"], "seconds"), field(raw["peer"], "seconds")
    rate = field(raw["ours"], "samples_per_second") / 1e6
    their_rate = field(raw["peer"], "ratings_per_s") / 1e6
    epochs = f"{field(raw['ours'], 'epochs'):g} epochs, {rate / their_rate:.2f} x"
    return {"raw": raw, "rows": [
        row("mf, MovieLens-100k u1, rank 32, time to test RMSE 0.93", "cornac, 1 thread", theirs, seconds, "s",
            "≤ 0.008 s; ≤ 0.32 x", good and seconds <= 0.32 * theirs, f"ours {epochs}"),
        row("mf, MovieLens-100k u1, rank 32, rate at that quality", "cornac, 1 thread", their_rate, rate, "M ratings/s",
            "≥ 120; ≥ 2.9 x", good and rate >= 2.9 * their_rate)]}


EPINIONS = ["rate=0.02", "decay=0.05", "regularisation=0.1"]


def epinions_words(b):
    settings = [word for setting in EPINIONS for word in ("--set", setting)]
    return ["mf", "--train", b.file("epinions.train.tsv"), "--test", b.file("epinions.test.tsv"), "--set", "rank=32",
            *settings, "--epochs", 20, "--eval-every", 20]


def epinions_peer(b, name, threads, rate, regularisation):
    return b.peer("mf.py", "--peer", name, "--data", b.file("epinions.all.tsv"), "--threads", threads, "--rank", 32,
                  "--epochs", 20, "--step", 20, "--lr", rate, "--reg", regularisation)


def mf_epinions(b):
    """Ratings a second over 20 epochs whose test RMSE is at most cornac's + .002; Epinions 90/10, rank 32."""
    ours = epinions_words(b)
    raw = b.interleaved(
        ours=lambda: b.dunlin(*ours),
        peer=lambda: epinions_peer(b, "cornac", 1, 0.01, 0.05))
    rate, theirs = field(raw["ours"], "samples_per_second") / 1e6, field(raw["peer"], "ratings_per_s") / 1e6
    rmse = median([run["metrics"]["test_rmse"] for run in raw["ours"]])
    their_rmse = field(raw["peer"], "quality")
    good = rmse <= their_rmse + 0.002
    return {"raw": raw, "rows": [
        row("mf, Epinions, rank 32, 20 epochs", "cornac, 1 thread", theirs, rate, "M ratings/s", "≥ 40; ≥ 4.0 x",
            good and rate >= 4.0 * theirs, f"test RMSE ours {rmse:.4f}, theirs {their_rmse:.4f}")]}


# ---------------------------------------------------------------- topics
def lda_words(b, workers, sweeps, seed):
    return ["lda", "--train", b.file("docword.kos-train.txt"), "--set", "topics=100", "--set", "alpha=0.1",
            "--set", "beta=0.01", "--workers", workers, "--lanes", workers, "--seed", seed, "--epochs", sweeps,
            "--eval-every", 10]


def kos_quality(b, workers, sweeps, seed, extra=()):
    """The peers' held-out measure of our topics after so many sweeps."""
    run, phi = b.folder("kos"), os.path.join(b.scratch, "phi.npy")
    b.dunlin(*lda_words(b, workers, sweeps, seed), *extra, "--out", run, cpus=workers)
    b.score("phi", run, phi, 0.01)
    return b.peer("topics.py", "--peer", "phi", "--phi", phi, "--data", b.data("kos", "docword.kos.txt.gz"))["quality"]


def lda_kos(workers, most, peer="tomotopy", sweeps_of_peer=(160, 10)):
    """A row: `most` is the ratio wanted (None: recorded only), `sweeps_of_peer` its sweeps and how often it looks."""
    def measure(b):
        for option in ("warplda", "warplda_format") if peer == "warplda" else ():
            b.program(option)                      # before anything is measured
        target, curves = -7.35, {}
        theirs_at_most, every = sweeps_of_peer
        for seed in range(1, b.a.repeat + 1):          # how many sweeps it takes is chance: a seed for each turn, of both sides
            curves[seed] = []
            for sweeps in range(40, 301, 10):          # the same seed gives the same bits: quality is looked up once
                curves[seed].append((sweeps, kos_quality(b, workers, sweeps, seed)))
                if curves[seed][-1][1] >= target:
                    break
        ours_seeds, theirs_seeds = iter(curves), iter(curves)

        def ours():
            seed = next(ours_seeds)
            return b.dunlin(*lda_words(b, workers, curves[seed][-1][0], seed), cpus=workers)
        raw = b.interleaved(
            ours=ours,
            peer=lambda: b.peer("topics.py", "--peer", peer, "--data", b.data("kos", "docword.kos.txt.gz"),
                                "--threads", workers, "--sweeps", theirs_at_most, "--every", every,
                                "--seed", next(theirs_seeds), "--target", target))
        raw["curves"] = curves
        sweeps = "/".join(str(curve[-1][0]) for curve in curves.values())
        quality = min(curve[-1][1] for curve in curves.values())
        seconds, theirs = field(raw["ours"], "seconds"), field(raw["peer"], "seconds")
        good = quality >= target and all(run["reached"] for run in raw["peer"])
        tokens = field(raw["ours"], "samples_per_second") / 1e6
        note = (f"ours {sweeps} sweeps at {tokens:.1f} M tokens/s ({quality:.4f}), theirs "
                f"{'/'.join(str(run['sweeps']) for run in raw['peer'])} at {field(raw['peer'], 'mtokens_per_s'):.1f}")
        threads = "1 thread" if workers == 1 else f"{workers} threads"
        return {"raw": raw, "rows": [
            row(f"lda, KOS, K = 100, to held-out −7.35, {threads}", peer, theirs, seconds, "s",
                f"≤ {most} x" if most else "recorded", good and seconds <= most * theirs if most else None, note)]}
    measure.__doc__ = (f"Seconds of {workers} worker(s) to held-out −7.35 per token, measured on saved topics by the "
                       "peers' script every 10 sweeps; KOS, K = 100, alpha .1, beta .01.")
    return measure


# ---------------------------------------------------------------- softmax
def optimum(b, name):
    with open(b.file("optima.json")) as f:
        return json.load(f)[name]["optimum"]


def softmax_words(b, data, c, extra=()):
    return ["softmax", "--train", b.file(data), "--set", f"c={c}", "--set", "bias=false", *extra]



def softmax(name, data, c, peer, peer_words, most_seconds, most_mb, ratio):
    def measure(b):
        best = optimum(b, name)
        until = ["--epochs", 1000, "--until", f"train_objective<={1.001 * best:.10g}"]
        raw = b.interleaved(
            ours=lambda: b.dunlin(*softmax_words(b, data, c, until)),
            peer=lambda: b.peer("logistic.py", "--peer", peer, *peer_words(b), "--C", c, "--threads", 1,
                                "--optimum", best))
        raw["optimum"] = best
        good = all(run["reason"] == "until" for run in raw["ours"])
        seconds, theirs = field(raw["ours"], "seconds"), field(raw["peer"], "seconds")
        mb, their_mb = field(raw["ours"], "peak_rss_mb"), field(raw["peer"], "rss_mb")
        what = f"softmax, {name}, C = {c:g}, to 1.001 of the optimum"
        note = f"ours {field(raw['ours'], 'epochs'):g} epochs, theirs {field(raw['peer'], 'iters'):g} iterations"
        found = [row(f"{what}, 1 thread", peer, theirs, seconds, "s", f"≤ {most_seconds} s; ≤ {ratio} x",
                     good and seconds <= ratio * theirs, note)]
        if most_mb:
            found.append(row(f"{what}, peak memory", peer, their_mb, mb, "MB", f"≤ {most_mb} MB",
                             good and mb <= most_mb))
        return {"raw": raw, "rows": found}
    measure.__doc__ = f"Seconds and peak memory to 1.001 of the optimum, no bias, {name}, C = {c:g}."
    return measure


def news_words(b):
    return ["--data", b.data("20news", "20news.tfidf.train.svm.gz"),
            "--test", b.data("20news", "20news.tfidf.test.svm.gz")]


# ---------------------------------------------------------------- distance metric learning
def dml(b):
    """Seconds and error of 3 nearest neighbours, digits, the peer's own pairs, mean over 10 seeds. Ours stops after
    the first epoch in which the loss on 10 per cent of the pairs, kept out of training, no longer falls."""
    if not b.has_model("dml"):
        raise Failed("this binary has no model dml")
    raw = {"ours": [], "peer": []}
    for seed in range(1, 11):
        words = ["dml", "--train", b.file(f"digits.{seed}.pairs.svm"), "--set", "source=adjacent", "--blocks", 1,
                 "--seed", seed]
        run = b.folder("dml")
        b.dunlin(*words, "--epochs", 30, "--out", run)
        losses = [event["metrics"]["heldout_pair_loss"] for event in evaluations(run)]
        epochs = next((at + 1 for at in range(1, len(losses)) if losses[at] >= losses[at - 1]), len(losses))
        run = b.folder("dml")
        b.dunlin(*words, "--epochs", epochs, "--out", run)
        quality = b.score("knn", run, b.file(f"digits.{seed}.npz"))["error"]
        sides = b.interleaved(
            turns=1,                               # ten seeds are turns enough
            ours=lambda: b.dunlin(*words, "--epochs", epochs),
            peer=lambda: b.peer("dml.py", "--peer", "itml", "--data", "sk:digits", "--pairs", 1000, "--seed", seed))
        raw["ours"].append({"seed": seed, "seconds": field(sides["ours"], "seconds"), "quality": quality,
                            "epochs": epochs, "objective": sides["ours"][0]["metrics"]["train_objective"],
                            "runs": [run["seconds"] for run in sides["ours"]]})
        raw["peer"].append({"seed": seed, "seconds": field(sides["peer"], "seconds"),
                            "quality": sides["peer"][0]["quality"], "runs": [run["seconds"] for run in sides["peer"]]})
    mean = {side: {name: sum(run[name] for run in runs) / len(runs) for name in ("seconds", "quality")}
            for side, runs in raw.items()}
    ours, theirs = mean["ours"], mean["peer"]
    return {"raw": raw, "rows": [
        row("dml, digits, 3-NN error, mean of 10 seeds", "metric-learn ITML", theirs["quality"], ours["quality"], "",
            "≤ theirs + .003", ours["quality"] <= theirs["quality"] + 0.003),
        row("dml, digits, time, mean of 10 seeds", "metric-learn ITML", theirs["seconds"], ours["seconds"], "s",
            "≤ 0.08 s; ≤ 0.14 x", ours["seconds"] <= 0.14 * theirs["seconds"])]}


def evaluations(run):
    """The evaluations recorded in a run folder, in order."""
    with open(os.path.join(run, "events.jsonl")) as f:
        events = [json.loads(line) for line in f]
    return [event for event in events if event["event"] == "evaluated"]
