"""Measures our side and the peers', turn by turn, and writes bench/runs/DATE/NAME.json and summary.md.

    python bench/run.py [--only NAME,...] [--repeat 3] [--dunlin PATH] [--peers VENV] [--isa avx2]
    python bench/run.py --smoke --dunlin PATH        # a minute's check that needs neither peers nor data

README.md says what each row measures. Every number of a row is a median over `--repeat` turns; the JSON file holds
all of them, with the commands, the machine and the level of vector instructions.
"""
import argparse
import json
import os
import subprocess
import sys
import time

import built
import measure
import overhead
import parallel
import rows
import scaling
from measure import Bench, Failed

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(HERE)
SHARED = os.path.join(REPOSITORY, "..", "shared")

ROWS = {
    "mf-movielens": rows.mf_movielens,
    "mf-epinions": rows.mf_epinions,
    "mf-movielens-libmf": built.movielens_libmf,
    "mf-epinions-libmf": built.epinions_libmf,
    "lda-kos-1": rows.lda_kos(1, 0.80),
    "lda-kos-2": rows.lda_kos(2, 0.85),
    "lda-kos-warplda-1": rows.lda_kos(1, None, "warplda", (400, 20)),
    "lda-kos-warplda-2": rows.lda_kos(2, None, "warplda", (400, 20)),
    "softmax-20news": rows.softmax("20news", "20news.train.svm.gz", 10.0, "sk_saga", rows.news_words, 0.5, 150, 0.135),
    "softmax-mnist": rows.softmax("mnist", "mnist.train.svm", 0.01, "sk_lbfgs",
                                  lambda b: ["--data", b.data("mnist")], 0.5, None, 0.072),
    "dml-digits": rows.dml,
    "mf-movielens-rotation": parallel.mf_movielens,
    "mf-epinions-rotation": parallel.mf_epinions,
    "lda-kos-rotation": parallel.lda_kos,
    "ds-softmax-lshtc": parallel.ds_softmax("lshtc", "lshtc.train.svm", 1.0, parallel.lshtc_peer, {1: 0.30}, 150),
    "ds-softmax-20news": parallel.ds_softmax("20news", "20news.train.svm.gz", 10.0, rows.news_words, {1: 0.16, 2: 0.135}),
    "lasso-riboflavin": parallel.lasso("riboflavin", "riboflavin.svm", parallel.riboflavin, "celer", 0.5),
    "lasso-synthetic": parallel.lasso("1,000 x 10,000", "lasso.svm", parallel.synthetic, "skglm", 0.52),
    "lasso-riboflavin-path": parallel.lasso("riboflavin", "riboflavin.svm", parallel.riboflavin, "celer_path", 0.41, 100),
    "lasso-synthetic-path": parallel.lasso("1,000 x 10,000", "lasso.svm", parallel.synthetic, "celer_path", 0.51, 100),
    "logistic-a9a": parallel.logistic,
    "kmeans-mnist": parallel.kmeans,
    "processes-lda": parallel.processes("lda, 20 Newsgroups, K = 100", parallel.lda_rotation),
    "processes-ds-softmax": parallel.processes("ds-softmax, LSHTC", parallel.lshtc_rotation),
    "processes-mf": parallel.processes("mf, Epinions, rank 32", parallel.epinions_rotation),
    "slow-at-random": parallel.slow_worker("rotating:2", 16, {"rotation": None, "rotation:async": 0.30}),
    "slow-for-good": parallel.slow_worker("2:2", 24, {"rotation": 0.15, "rotation:async": 0.15}),
    "slow-for-good-16": parallel.slow_worker("2:2", 16, {"rotation": None, "rotation:async": None}),
    "two-workers-lda": scaling.two_workers("lda, 20 Newsgroups, K = 100", scaling.lda_words, scaling.LDA_EPOCHS,
                                           scaling.lda_quality),
    "two-workers-softmax": scaling.two_workers("softmax, MNIST", scaling.mnist_words, scaling.MNIST_EPOCHS,
                                               scaling.mnist_quality),
    "staleness-rotating": scaling.staleness("rotating:4", 0.65),
    "staleness-one-slow": scaling.staleness("0:4", None),
    "overhead": overhead.overhead,
    "roundtrip": scaling.roundtrip,
    "server-ps-lite": built.server,
    "limits": built.limits,
}

# rows that need neither the peers' environment nor exported data
ALONE = {"roundtrip", "server-ps-lite", "limits"}


def arguments():
    p = argparse.ArgumentParser(description="our side and the peers', turn by turn")
    p.add_argument("--only", default="", help=f"rows, separated by commas: {', '.join(ROWS)}")
    p.add_argument("--repeat", type=int, default=3, help="turns of each side")
    p.add_argument("--dunlin", default=os.path.join(REPOSITORY, "target", "release", "dunlin"))
    p.add_argument("--examples", help="folder of our example programs [default: examples beside the binary]")
    p.add_argument("--peers", default=os.environ.get("PEERS_VENV", os.path.join(REPOSITORY, "..", "peers")),
                   help="the peers' virtual environment")
    p.add_argument("--scripts", default=os.path.join(SHARED, "bench", "peers"), help="the peers' scripts")
    p.add_argument("--quiet", help="wrapper for timings [default: quiet.sh of the peers' scripts]")
    p.add_argument("--data", default=os.path.join(SHARED, "data"))
    p.add_argument("--out", default=os.path.join(HERE, "out"), help="where export.py wrote")
    p.add_argument("--runs", default=os.path.join(HERE, "runs"))
    for option, (variable, what) in measure.PROGRAMS.items():
        p.add_argument(f"--{option.replace('_', '-')}", metavar="PROGRAM", default=os.environ.get(variable),
                       help=f"{what} [default: ${variable}]")
    p.add_argument("--date", default=measure.today())
    p.add_argument("--isa", help="vector instructions at most: portable, avx2, avx512")
    p.add_argument("--note", default="", help="a remark on the circumstances, kept with the numbers")
    p.add_argument("--smoke", action="store_true", help="check the scripts on made-up data; no peers, no timing")
    a = p.parse_args()
    a.examples = os.path.abspath(a.examples or os.path.join(os.path.dirname(os.path.abspath(a.dunlin)), "examples"))
    a.quiet = a.quiet or os.path.join(a.scripts, "quiet.sh")
    for name in ("dunlin", "peers", "scripts", "quiet", "data", "out"):
        setattr(a, name, os.path.abspath(getattr(a, name)))
    for name in measure.PROGRAMS:
        setattr(a, name, getattr(a, name) and os.path.abspath(getattr(a, name)))
    return a


def write(a, name, found, seconds):
    folder = os.path.join(a.runs, a.date)
    os.makedirs(folder, exist_ok=True)
    level = found.pop("level", None) or a.isa
    record = {"name": name, "date": a.date, "isa": level, "limited_to": a.isa, "repeat": a.repeat, "note": a.note,
              "machine": measure.machine(), "took_seconds": round(seconds, 1), **found}
    path = os.path.join(folder, f"{name}.{a.isa}.json" if a.isa else f"{name}.json")
    replace(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def replace(path, text):
    """Whole or not at all: another run may be reading."""
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.replace(path + ".tmp", path)


def isa_of(raw):
    """The level that our side says it ran at, wherever in the raw numbers that is."""
    if isinstance(raw, dict):
        if "isa" in raw and "workers" in raw:
            return raw["isa"]
        raw = list(raw.values())
    if isinstance(raw, list):
        return next((level for level in map(isa_of, raw) if level), None)
    return None


def number(value):
    return "–" if value is None else f"{value:.4g}"


def summary(a):
    """summary.md from all records of the day."""
    folder = os.path.join(a.runs, a.date)
    records = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with open(os.path.join(folder, name)) as f:
                records.append(json.load(f))
    records = [record for record in records if "rows" in record]      # what was recorded by hand has none
    order = list(ROWS)
    records.sort(key=lambda record: (record["limited_to"] or "", order.index(record["name"])
                                     if record["name"] in order else len(order)))
    lines = [f"# Measured {a.date}", ""]
    for limit in sorted({record["limited_to"] or "" for record in records}):
        group = [record for record in records if (record["limited_to"] or "") == limit]
        machine = group[0]["machine"]
        loads = [record["machine"]["load"] for record in group]
        level = limit or next((record["isa"] for record in group if record["isa"]), "best")
        lines += [f"## Vector instructions: {level}" + (" (limited)" if limit else ""), "",
                  f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']}; "
                  f"load {min(loads):.1f} to {max(loads):.1f}. Medians of "
                  f"{', '.join(sorted({str(record['repeat']) for record in group}))} turns."]
        lines += sorted({record["note"] for record in group if record["note"]})
        lines += ["", "| what | peer | theirs | ours | unit | ours / theirs | target | reached | remarks |",
                  "|---|---|---|---|---|---|---|---|---|"]
        for record in group:
            for r in record["rows"]:
                reached = {True: "yes", False: "no", None: "–"}[r["reached"]]
                lines.append(f"| {r['what']} | {r['peer']} | {number(r['theirs'])} | {number(r['ours'])} | {r['unit']} | "
                             f"{number(r['ratio'])} | {r['target']} | {reached} | {r['note']} |")
        lines.append("")
    replace(os.path.join(folder, "summary.md"), "\n".join(lines))


def smoke(a):
    """Every kind of run once on made-up data, and what the rows take from it; says nothing about speed."""
    a.quiet = None
    b = Bench(a)
    try:
        mf = ["mf", "--train", "synth:mf?users=60&items=40&n=1500&seed=1", "--set", "rank=4"]
        found = b.dunlin(*mf, "--epochs", 3, "--eval-every", 3, quiet=False)
        for name in ("seconds", "epochs", "isa", "samples_per_second", "peak_rss_mb", "reason", "metrics", "report"):
            assert name in found, f"--json has no {name}"
        assert found["epochs"] == 3 and found["seconds"] > 0 and found["metrics"]["train_rmse"] < 5, found
        run = b.folder("smoke")
        b.dunlin(*mf, "--cluster", "sim:4", "--lanes", 4, "--clocks-per-epoch", 4, "--strategy", "ssp:2", "--slow",
                 "rotating:4", "--epochs", 4, "--eval-every", 2, "--out", run, quiet=False)
        points = [(event["seconds"], event["metrics"]["train_objective"]) for event in rows.evaluations(run)]
        assert len(points) == 2 and scaling.seconds_to(points, points[-1][1]) <= points[-1][0], points
        assert scaling.seconds_to([(1.0, 3.0), (2.0, 1.0)], 2.0) == 1.5
        run = b.folder("smoke")
        b.dunlin("lda", "--train", "synth:lda?seed=1", "--set", "topics=4", "--epochs", 2, "--out", run, quiet=False)
        with open(os.path.join(run, "model.safetensors"), "rb") as f:
            header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        assert header["word_topic"]["shape"][1] == 4 and header["totals"]["shape"] == [1, 4], header
        found = b.dunlin("softmax", "--train", "synth:softmax?seed=1", "--set", "c=1", "--set", "bias=false", "--epochs",
                         200, "--until", "relative_gap<=0.1", quiet=False)
        assert found["reason"] in ("until", "converged"), found
        smoke_built(b)
        copies = scaling.two_copies(b, [*mf, "--epochs", 2]) if len(b.cpus) > 1 else {"seconds": 1}
        assert copies["seconds"] > 0
    finally:
        b.close()
    for script in ("dsmlr.py", "larger_than_memory.py"):
        done = subprocess.run([sys.executable, os.path.join(HERE, script), "--smoke", "--dunlin", a.dunlin],
                              capture_output=True, text=True)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
    print("bench: the scripts agree with the program")


def smoke_built(b):
    """Rows against programs that may not be there: what they make of output, and what they say without a program."""
    def output(trip, pushes):
        found = [{"what": "round trip", "microseconds": trip}]
        for keys in ("sorted", "random"):
            found += [{"what": f"push, {keys} keys", "million_keys_per_second": rate, **handler}
                      for rate, handler in pushes]
        return [{"lines": built.lines("a remark\n" + "\n".join(map(json.dumps, found)))}]

    ours = output(20.0, [(50.0, {})])
    theirs = output(120.0, [(10.0, {"handler": "default"}), (40.0, {"handler": "dense"}), (100.0, {"handler": "none"})])
    found = built.server_rows({"ours": ours, "peer": theirs, "ours_on_one": ours, "peer_on_one": theirs})
    assert [r["reached"] for r in found] == [True, None, False, None, True, None], found
    assert found[2]["ratio"] == 5 and found[3]["ratio"] == 1.25, found
    run = {"reason": "until", "seconds": 0.005, "epochs": 7, "samples_per_second": 1e8, "metrics": {"test_rmse": 1.02}}
    peer = {"reached": True, "seconds": 0.02, "epochs": 5, "ratings_per_s": 1e7, "quality": 1.08}
    raw = {"one": [run], "two": [run], "peer_1": [peer], "peer_2": [peer]}
    assert [r["reached"] for r in built.movielens_rows(raw)] == [True] * 4 + [None] * 2
    assert [r["ratio"] for r in built.epinions_rows(raw)] == [10, 10, 10]
    lines = [{"task": "read", "threads": n, "quality": 20.0 * n, "unit": "GB/s"} for n in (1, 2)]
    assert [r["ours"] for r in built.limit_rows([{"lines": lines}])] == [20, 40]
    for option in measure.PROGRAMS:
        given = getattr(b.a, option)
        try:
            setattr(b.a, option, None)
            b.program(option)
        except Failed as failed:
            assert measure.PROGRAMS[option][0] in str(failed), failed
        else:
            raise AssertionError(f"a row ran without {option}")
        finally:
            setattr(b.a, option, given)


def main():
    a = arguments()
    if not os.access(a.dunlin, os.X_OK):
        sys.exit(f"{a.dunlin}: no program there; build it (cargo build --release) or give --dunlin")
    if a.smoke:
        return smoke(a)
    names = [name for name in a.only.split(",") if name] or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: no such row; there is {', '.join(ROWS)}")
    needed = [] if ALONE.issuperset(names) else [os.path.join(a.peers, "bin", "python"), a.data, a.out]
    for path in (a.quiet, *needed):
        if not os.path.exists(path):
            sys.exit(f"{path}: not there; README.md says how to set up (peers, data, export)")
    b, left_out = Bench(a), []
    try:
        for name in names:
            start = time.monotonic()
            try:
                found = ROWS[name](b)
            except Failed as failed:
                print(f"{name}: left out: {failed}", flush=True)
                left_out.append(name)
                continue
            found["level"] = isa_of(found["raw"])
            write(a, name, found, time.monotonic() - start)
            summary(a)
            for r in found["rows"]:
                print(f"{name}: {r['what']}: ours {number(r['ours'])}, theirs {number(r['theirs'])} {r['unit']}, "
                      f"ratio {number(r['ratio'])}, target {r['target']}: {r['reached']} {r['note']}", flush=True)
    finally:
        b.close()
    if left_out:
        sys.exit(f"LEFT OUT, see above: {', '.join(left_out)}")


if __name__ == "__main__":
    main()
