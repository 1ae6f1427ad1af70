"""What the engine costs: one worker with one lane, through `dunlin train`, against the model's plain serial loop.

The loops are the programs crates/models/examples/{mf,lda,softmax}_speed.rs, in one thread, with the same data in as
many blocks; both sides count initialisation and training and neither reading nor evaluation.
"""
import json
import re

from measure import Failed, median
from rows import field, row


def mf(b):
    epochs, files = 30, [b.file("u1.base.tsv"), b.file("u1.test.tsv")]

    def loop():
        out, about = b.run(b.pinned(1) + [b.example("mf_speed"), *files, str(epochs), "0", "blocks=256"])
        found = json.loads(out.splitlines()[-1])
        return {**found, **about, "seconds": (found["start_ms"] + epochs * found["ms_per_epoch"]) / 1e3}

    def engine():
        return b.dunlin("mf", "--train", files[0], "--test", files[1], "--epochs", epochs)
    return loop, engine


def lda(b):
    sweeps, file = 20, b.file("docword.kos-train.txt")

    def loop():
        command = [b.example("lda_speed"), file, f"sweeps={sweeps}", "every=1", "blocks=256"]
        out, about = b.run(b.pinned(1) + command)
        return {**about, "seconds": float(re.findall(r"sweep \d+: ([\d.]+) s", out)[-1])}

    def engine():
        return b.dunlin("lda", "--train", file, "--epochs", sweeps)
    return loop, engine


def softmax(b):
    epochs, file = 8, b.file("mnist.train.svm")

    def loop():
        command = [b.example("softmax_speed"), "--c", "0.01", "--optimum", "1", "--within", "0", "--epochs",
                   str(epochs), "--blocks", "256", file]
        out, about = b.run(b.pinned(1) + command)
        return {**about, "seconds": float(re.findall(r"epoch \d+: ([\d.]+) s", out)[-1])}

    def engine():
        return b.dunlin("softmax", "--train", file, "--set", "c=0.01", "--epochs", epochs)
    return loop, engine


def turns(b, model):
    return max(b.a.repeat, 7) if model == "mf" else b.a.repeat      # runs of milliseconds need more turns


def overhead(b):
    """Seconds of one worker, one lane through the engine, and of the plain serial loop."""
    raw, found = {}, []
    for model, sides, most in (("lda", lda, 1.05), ("softmax", softmax, 1.05), ("mf", mf, 1.20)):
        if not b.example(f"{model}_speed"):
            raise Failed("examples/{mf,lda,softmax}_speed are not built beside the binary")
        loop, engine = sides(b)
        raw[model] = b.interleaved(turns=turns(b, model), loop=loop, engine=engine)
        theirs, ours = field(raw[model]["loop"], "seconds"), field(raw[model]["engine"], "seconds")
        ratios = [e["seconds"] / l["seconds"] for e, l in zip(raw[model]["engine"], raw[model]["loop"])]
        ratio = median(ratios)
        found.append(row(f"{model}, one lane through the engine", "plain serial loop", theirs, ours, "s",
                         f"≤ {most} x", ours <= most * theirs, f"median of ratios turn by turn {ratio:.3f}"))
    return {"raw": raw, "rows": found}
