"""The figures of DS-MLR (Raman et al. 2019) for `ds-softmax`: memory and traffic by number of workers, and objective
against time beside scikit-learn's L-BFGS and the paper's own curves.

    python bench/dsmlr.py --dunlin target/release/dunlin --peers VENV --out bench/runs/DATE/dsmlr
    python bench/dsmlr.py --smoke --dunlin PATH          # made-up data, two processes at most; says nothing about speed

Prints tables; writes OUT.md, OUT.json and OUT.svg. `--only memory` leaves the curves out, `--only curves` the tables. Needs
the standard library only, and `../shared/data` unless it is a smoke run; the peer is left out without a venv that has
scikit-learn.
"""
import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from math import log10

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "shared")
FIGURES = os.path.join("data", "spot", "derived", "dsmlr_kdd19_figures_digitised.csv")
TINY = "synth:softmax?seed=1"
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"]


# The peer in a process of its own, so that it says how long fitting takes and nothing else.
PEER = """
import json, sys, time, warnings
import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.datasets import load_svmlight_file
path, c, bound = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
X, labels = load_svmlight_file(path)
X = X.tocsr().astype(np.float64)
classes, y = np.unique(labels, return_inverse=True)
n, k, rows = X.shape[1], len(classes), np.arange(X.shape[0])
points, start = [], time.perf_counter()
def both(w):
    W = w.reshape(n, k)
    M = X @ W
    L = logsumexp(M, axis=1)
    F = c * (L - M[rows, y]).sum() + 0.5 * (w * w).sum()
    P = np.exp(M - L[:, None])
    P[rows, y] -= 1
    if not points or F < points[-1][1]:
        points.append((time.perf_counter() - start, F))
    if points[-1][0] > bound:
        raise StopIteration
    return F, (c * (X.T @ P) + W).ravel()
try:
    minimize(both, np.zeros(n * k), jac=True, method="L-BFGS-B", options={"maxiter": 400, "maxcor": 5, "ftol": 1e-9})
except StopIteration:
    pass
print(json.dumps(points))
"""


def train(a, words, out=None):
    """One run: what --json says, and the events of every evaluation."""
    command = [a.dunlin, "train", *map(str, words), "--json", *(["--out", out] if out else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found, events = json.loads(done.stdout.splitlines()[-1]), []
    if out:
        with open(os.path.join(out, "events.jsonl")) as f:
            events = [event for event in map(json.loads, f) if event["event"] == "evaluated"]
    return found, events


def processes(workers, lanes, memory):
    return ["--workers", workers, "--lanes", lanes, "--strategy", "rotation", "--cluster", "processes", "--memory", memory]


def baseline(a, scratch):
    """Peak memory of a process that has next to nothing to do, in MB."""
    words = ["ds-softmax", "--train", TINY, "--epochs", 1, *processes(2, 2, "2GB")]
    found, _ = train(a, words, os.path.join(scratch, "baseline"))
    return max(found["peak_rss_mb_per_process"])


def workers_table(a, name, data, workers, solver, base, scratch):
    """Memory of the largest process and bytes sent, by number of workers with a lane each."""
    rows = []
    for count in workers:
        sent = {}
        for epochs in (1, 3):
            out = os.path.join(scratch, f"{name}-{solver}-{count}-{epochs}")
            words = ["ds-softmax", "--train", data, "--epochs", epochs, "--eval-every", epochs, "--set", f"solver={solver}",
                     "--set", "tolerance=1e-9", *processes(count, count, "8GB")]
            found, events = train(a, words, out)
            sent[epochs] = found["report"]["update_bytes"]
            shutil.rmtree(out)
        most = lambda field: max(worker[field] for worker in events[-1]["workers"])
        # The laps that start and measure cancel: both runs have as many.
        rows.append({"set": name, "solver": solver, "workers": count, "peak_mb": max(found["peak_rss_mb_per_process"]),
                     "base_mb": base, "data_mb": most("data_mb"), "model_mb": most("model_mb"),
                     **{f"{what}_per_worker_and_epoch": (after - before) / 2 / count
                        for what, before, after in zip(("bytes", "cut_bytes"), sent[1], sent[3])}})
    return rows


def curves(a, name, data, c, epochs, scratch):
    """(seconds, objective) of both solvers, of our L-BFGS and of the peer's."""
    words = ["--train", data, "--set", f"c={c}", "--set", "bias=false"]
    sides = {"dual": ["ds-softmax", *words, "--set", "tolerance=1e-6", "--epochs", epochs],
             "stochastic": ["ds-softmax", *words, "--set", "solver=stochastic", "--set", f"rate={a.rate}", "--epochs", epochs],
             "our L-BFGS": ["softmax", *words, "--set", "solver=lbfgs", "--set", "tolerance=1e-6", "--epochs", 3 * epochs]}
    points = {}
    for side, words in sides.items():
        _, events = train(a, words, os.path.join(scratch, f"{name}-{side}"))
        points[side] = [(event["seconds"], event["metrics"]["train_objective"]) for event in events]
    peer = os.path.join(a.peers, "bin", "python") if a.peers else ""
    if os.path.exists(peer) and os.path.exists(data):
        done = subprocess.run([peer, "-c", PEER, data, str(c), str(a.bound)], capture_output=True, text=True)
        if done.returncode == 0:
            points["SciPy's L-BFGS"] = json.loads(done.stdout.splitlines()[-1])
        else:
            print(f"the peer is left out: {done.stderr.strip().splitlines()[-1]}")
    return points


def paper(name):
    """The paper's curves: by method (seconds, objective)."""
    path, found = os.path.join(SHARED, FIGURES), {}
    if not os.path.exists(path):
        print(f"the paper's curves are left out: no {path}")
        return found
    with open(path) as f:
        for line in csv.DictReader(f):
            if line["figure"] == f"Fig4 {name} objective":
                found.setdefault(line["series"], []).append((float(line["x"]), float(line["y"])))
    return found


def excess(points):
    """(seconds, objective / least objective of all − 1) of every method."""
    least = min(y for series in points.values() for _, y in series)
    return {side: [(x, y / least - 1) for x, y in series] for side, series in points.items()}


def seconds_to(series, most):
    return next((x for x, y in series if y <= most), None)


def figure(panels, width=640, height=300):
    """Curves on logarithmic axes, one panel (title, what is shown, points by series) below the other, as SVG."""
    parts = []
    for at, (title, shown, points) in enumerate(panels):
        series = {k: [(max(x, 1e-3), max(y, 1e-6)) for x, y in v if x > 0] for k, v in points.items()}
        flat = [point for line in series.values() for point in line]
        if not flat:
            continue
        low, high = log10(min(x for x, _ in flat)), log10(max(x for x, _ in flat))
        floor, top = log10(min(y for _, y in flat)), log10(max(y for _, y in flat))
        place = lambda x, y: (60 + (log10(x) - low) / max(high - low, 1e-9) * (width - 220),
                              at * height + height - 40 - (log10(y) - floor) / max(top - floor, 1e-9) * (height - 80))
        parts.append(f'<text x="60" y="{at * height + 20}">{title}: {shown}; '
                     f'1e{floor:.1f} to 1e{top:.1f} against 1e{low:.1f} to 1e{high:.1f}</text>')
        for n, (side, line) in enumerate(series.items()):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
            colour = COLOURS[n % len(COLOURS)]
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
            parts.append(f'<text x="{width - 140}" y="{at * height + 50 + 18 * n}" fill="{colour}">{side}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 60}" height="{height * len(panels)}" '
            'font-family="sans-serif" font-size="11">' + "\n".join(parts) + "</svg>\n")


def memory_panels(table):
    """Memory by number of workers, beside 1/P of that of one."""
    panels = []
    for key in dict.fromkeys((r["set"], r["solver"]) for r in table):
        rows = [r for r in table if (r["set"], r["solver"]) == key]
        counted = [(r["workers"], r["data_mb"] + r["model_mb"]) for r in rows]
        points = {"peak": [(r["workers"], r["peak_mb"]) for r in rows],
                  "peak without base": [(r["workers"], r["peak_mb"] - r["base_mb"]) for r in rows],
                  "data + model": counted, "1/P": [(r["workers"], counted[0][1] / r["workers"]) for r in rows]}
        panels.append((", ".join(key), "MB of the largest process against workers", points))
    return panels


def memory_text(table):
    lines = ["| set | solver | workers | peak MB of a process | without base | of one worker's | data + model counted | of one "
             "worker's | MB a worker and epoch, row blocks whole | as sent |", "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for r in table:
        first = next(other for other in table if (other["set"], other["solver"]) == (r["set"], r["solver"]))
        over, counted = (lambda r: r["peak_mb"] - r["base_mb"]), (lambda r: r["data_mb"] + r["model_mb"])
        lines.append(f"| {r['set']} | {r['solver']} | {r['workers']} | {r['peak_mb']:.1f} | {over(r):.1f} | "
                     f"{over(r) / over(first):.3f} | {counted(r):.2f} | {counted(r) / counted(first):.3f} | "
                     f"{r['bytes_per_worker_and_epoch'] / 1e6:.3f} | {r['cut_bytes_per_worker_and_epoch'] / 1e6:.3f} |")
    return lines


def curves_text(found):
    lines = ["| set | method | seconds to 1.1 | to 1.01 | to 1.001 of the least objective |", "|---|---|--:|--:|--:|"]
    for name, sides in found.items():
        for whose, series in sides.items():
            for side, line in series.items():
                times = [seconds_to(line, most) for most in (0.1, 0.01, 0.001)]
                lines.append(f"| {name} | {side}, {whose} | " + " | ".join("–" if t is None else f"{t:.3g}" for t in times) + " |")
    return lines


def main():
    p = argparse.ArgumentParser(description="DS-MLR's figures")
    p.add_argument("--dunlin", default=os.path.join(HERE, "..", "target", "release", "dunlin"))
    p.add_argument("--peers", help="a virtual environment with scikit-learn [default: without the peer]")
    p.add_argument("--out", help="where to write OUT.md, OUT.json and OUT.svg")
    p.add_argument("--rate", type=float, default=0.5, help="η₀ of the stochastic solver")
    p.add_argument("--bound", type=float, default=120.0, help="seconds that the peer has at most")
    p.add_argument("--only", choices=["memory", "curves"], help="a part of it")
    p.add_argument("--smoke", action="store_true")
    a = p.parse_args()
    a.dunlin = os.path.abspath(a.dunlin)
    data = os.path.join(SHARED, "data")
    lshtc, news = (os.path.join(data, *parts) for parts in (("lshtc1-small", "rdf.train.svm.gz"),
                                                            ("20news", "20news.tfidf.train.svm.gz")))
    if not a.smoke and not os.path.exists(lshtc):
        sys.exit(f"{lshtc}: not there; only --smoke runs without it")
    scratch = tempfile.mkdtemp(prefix="dunlin-dsmlr-")
    table, found, panels = [], {}, []
    try:
        if a.only != "curves":
            sets = [("tiny", TINY, [1, 2])] if a.smoke else [("LSHTC1-small", lshtc, [1, 2, 4, 8]), ("NEWS20", news, [1, 2, 4, 8])]
            base = baseline(a, scratch)
            for name, path, workers in sets:
                for solver in ("dual", "stochastic"):
                    table += workers_table(a, name, path, workers, solver, base, scratch)
            panels += memory_panels(table)
        if a.only != "memory":
            sets = [("tiny", TINY, 1.0, 4)] if a.smoke else [("NEWS20", news, 1.0, 40), ("LSHTC1-small", lshtc, 1.0, 15)]
            shown = "excess over the least objective against seconds"
            for name, path, c, epochs in sets:
                ours = excess(curves(a, name, path, c, epochs, scratch))
                theirs = excess(paper(name)) if not a.smoke else {}
                found[name] = {"here": ours, "paper": theirs}
                panels += [(f"{name}, here", shown, ours), *([(f"{name}, paper", shown, theirs)] if theirs else [])]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lines = [*(memory_text(table) if table else []), "", *(curves_text(found) if found else [])]
    print("\n".join(lines))
    if a.smoke:
        sent = [r["bytes_per_worker_and_epoch"] for r in table]
        assert sent[0] == 0 and sent[1] > 0, table
        assert table[1]["model_mb"] < 0.6 * table[0]["model_mb"], table
        assert all(line and line[-1][1] >= 0 for sides in found.values() for line in sides["here"].values()), found
        assert figure(panels).count("<polyline") >= 8, panels
        print("dsmlr: the script agrees with the program")
    if a.out:
        with open(a.out + ".json", "w") as f:
            json.dump({"workers": table, "curves": found}, f, indent=1, ensure_ascii=False)
        with open(a.out + ".md", "w") as f:
            f.write(f"# DS-MLR's figures, {measure.today()}\n\n    python bench/dsmlr.py {' '.join(sys.argv[1:])}\n\n"
                    + "\n".join(lines) + "\n")
        with open(a.out + ".svg", "w") as f:
            f.write(figure(panels))


if __name__ == "__main__":
    main()
