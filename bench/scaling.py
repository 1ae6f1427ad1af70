"""Rows about more than one worker: two against one, bounded staleness in the simulator, the server's links."""
import json
import os
import re
import shlex

from measure import Failed, median
from rows import evaluations, field, optimum, row, softmax_words


# ---------------------------------------------------------------- two workers against one
def two_copies(b, words):
    """Two one-worker runs at once, each on a processor of its own: the most that two workers could do."""
    if len(b.cpus) < 2:
        raise Failed("two processors are needed")
    outputs = [os.path.join(b.scratch, f"copy.{n}") for n in range(2)]
    runs = [f"taskset -c {cpu} {shlex.join(b.train_command(words))} > {shlex.quote(out)} & p{n}=$!"
            for n, (cpu, out) in enumerate(zip(b.cpus[-2:], outputs))]
    b.run(["bash", "-c", "\n".join([*runs, "wait $p0 && wait $p1"])])
    found = []
    for out in outputs:
        with open(out) as f:
            found.append(json.loads(f.read().splitlines()[-1]))
    return {"copies": found, "seconds": sum(run["seconds"] for run in found) / 2, "epochs": found[0]["epochs"]}


def two_workers(what, words, epochs, quality):
    """Time per epoch of two workers with a lane each. Two copies of the one-worker run, at once, do two epochs in
    the time of one: with t(2) the seconds of two workers and t(copy) those of a copy, the share of the machine's
    own limit is t(copy) / (2 t(2))."""
    def measure(b):
        one = [*words(b), *epochs]
        two = [*one, "--workers", 2]
        raw = b.interleaved(
            copies=lambda: two_copies(b, one),
            threads=lambda: b.dunlin(*two, cpus=2),
            processes=lambda: b.dunlin(*two, "--cluster", "processes", cpus=2),
            one=lambda: b.dunlin(*one))
        per_epoch = {side: median([run["seconds"] / run["epochs"] for run in runs]) for side, runs in raw.items()}
        limit = per_epoch["copies"] / 2
        found = []
        for side, least in (("threads", 0.92), ("processes", 0.85)):
            share = limit / per_epoch[side]
            found.append(row(f"{what}, two workers on {side}, time per epoch", "two copies of one worker, halved",
                             limit, per_epoch[side], "s", f"≥ {least} of the limit", share >= least,
                             f"{share:.2f} of the limit; one worker alone {per_epoch['one']:.4f} s"))
        to = [*words(b), *quality(b)]
        raw["to_quality"] = b.interleaved(one=lambda: b.dunlin(*to),
                                          two=lambda: b.dunlin(*to, "--workers", 2, cpus=2))
        for side, count in (("one", "one worker"), ("two", "two workers")):
            runs = raw["to_quality"][side]
            found.append(row(f"{what}, time to quality, {count}", "", None, field(runs, "seconds"), "s", "recorded",
                             None, f"{field(runs, 'epochs'):g} epochs ({runs[0]['reason']})"))
        return {"raw": raw, "rows": found}
    measure.__doc__ = f"{what}: seconds per epoch of two workers, threads and processes, against two copies of one."
    return measure


def lda_words(b):
    return ["lda", "--train", b.file("docword.20news.train.txt.gz"), "--set", "topics=100"]


LDA_EPOCHS = ["--epochs", 12, "--eval-every", 12]


def lda_quality(_):
    """Training log-likelihood per token that one worker has after some 55 sweeps."""
    return ["--epochs", 200, "--eval-every", 5, "--until", "train_loglik_per_token>=-8.72"]


def mnist_words(b):
    return softmax_words(b, "mnist.train.svm", 0.01)


# a tolerance that is never met, so that both sides do all epochs
MNIST_EPOCHS = ["--set", "tolerance=1e-7", "--epochs", 8, "--eval-every", 8]


def mnist_quality(b):
    return ["--epochs", 300, "--until", f"train_objective<={1.001 * optimum(b, 'mnist'):.10g}"]


# ---------------------------------------------------------------- bounded staleness
STRATEGIES = ["bsp", "ssp:0", "ssp:1", "ssp:2", "ssp:4", "ssp:8", "ssp:16", "essp:4", "asp"]
SIMULATED = ["--cluster", "sim:4", "--lanes", 4, "--clocks-per-epoch", 32, "--compute-ns", 20000, "--epochs", 40,
             "--eval-every", 10, "--set", "rank=32"]


def seconds_to(points, target):
    """When a curve of (seconds, objective) first gets down to `target`, on straight lines between its points."""
    before = None
    for seconds, value in points:
        if value <= target:
            if before is None or before[1] == value:
                return seconds
            share = (before[1] - target) / (before[1] - value)
            return before[0] + share * (seconds - before[0])
        before = (seconds, value)
    return None


def staleness_seen(report):
    """(mean, variance, most) of the staleness of all reads of the shared table."""
    seen = {int(clocks): count for clocks, count in report["staleness"].get("items", {}).items()}
    count = sum(seen.values())
    if not count:
        return None
    mean = sum(clocks * n for clocks, n in seen.items()) / count
    variance = sum((clocks - mean) ** 2 * n for clocks, n in seen.items()) / count
    return {"mean": mean, "variance": variance, "most": max(seen), "histogram": dict(sorted(seen.items()))}


def simulate(b, data, strategy, slow):
    run = b.folder("sim")
    found = b.dunlin("mf", *data, *SIMULATED, "--strategy", strategy, "--slow", slow, "--out", run, quiet=False)
    points = [(event["seconds"], event["metrics"]["train_objective"]) for event in evaluations(run)]
    return {"points": points, "staleness": staleness_seen(found["report"]), "bytes_sent": found["bytes_sent"],
            "blocked_seconds": found["blocked_seconds"], "clocks_per_epoch": found["clocks_per_epoch"],
            "command": found["command"]}


def staleness(slow, least):
    """Virtual seconds to one objective, by strategy; the simulator repeats bit for bit, so one run each. The
    objective is the worst that any strategy has at the end, so that all get there."""
    def measure(b):
        data = ["--train", b.file("u1.base.tsv"), "--test", b.file("u1.test.tsv")]
        runs = {strategy: simulate(b, data, strategy, slow) for strategy in STRATEGIES}
        target = max(run["points"][-1][1] for run in runs.values())
        times = {strategy: seconds_to(run["points"], target) for strategy, run in runs.items()}
        found = []
        for strategy, run in runs.items():
            seen = run["staleness"]
            note = (f"staleness mean {seen['mean']:.2f}, variance {seen['variance']:.2f}, most {seen['most']}; "
                    if seen else "")
            note += f"blocked {run['blocked_seconds']:.1f} s over 4 workers"
            judged = strategy == "ssp:4" and least is not None
            found.append(row(f"mf, sim:4, --slow {slow}, {strategy}, virtual time to objective {target:.4f}", "bsp",
                             times["bsp"], times[strategy], "s", f"≤ {least} x" if judged else "recorded",
                             times[strategy] <= least * times["bsp"] if judged else None, note))
        return {"raw": {"runs": runs, "target": target}, "rows": found}
    measure.__doc__ = f"Virtual seconds of 4 simulated workers, --slow {slow}, to the same objective, by strategy."
    return measure


# ---------------------------------------------------------------- links and server
def roundtrip(b):
    """Round trips of a row (us) and streams (GB/s) over TCP, next to plain sockets of the same run."""
    program = b.example("roundtrip")
    if not program:
        raise Failed("examples/roundtrip is not built beside the binary")
    raw = [b.run([program])[0]]                     # seven turns of its own, interleaved
    pattern = r"(spin|sleep)\s+(round trip|stream) of (\d+) (\w+): raw ([\d.]+) \S+, ours ([\d.]+) "
    seen = {}
    for text in raw:
        for mode, kind, size, unit, theirs, ours in re.findall(pattern, text):
            seen.setdefault((mode, kind, f"{size} {unit}"), []).append((float(theirs), float(ours)))
    found = []
    for (mode, kind, size), pairs in seen.items():
        theirs, ours = median([pair[0] for pair in pairs]), median([pair[1] for pair in pairs])
        trip = kind == "round trip"
        # the bound of 25 us is for a wait that spins briefly
        target = ("≤ 25 µs" if mode == "spin" else "≤ 1.15 x") if trip else "≥ 0.8 x"
        good = (ours <= 25 if mode == "spin" else ours <= 1.15 * theirs) if trip else ours >= 0.8 * theirs
        how = "spinning briefly" if mode == "spin" else "blocking"
        found.append(row(f"link, {kind} of {size}, {how}", "raw TCP", theirs, ours, "µs" if trip else "GB/s", target,
                         good))
    return {"raw": {"output": raw}, "rows": found}
