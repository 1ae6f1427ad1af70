"""The figures of DS-MLR (Raman et al. 2019) for `ds-softmax`: memory and traffic by number of workers, and objective
against time beside the paper's own curves.

    python bench/dsmlr.py --dunlin target/release/dunlin --out bench/runs/DATE/dsmlr
    python bench/dsmlr.py --smoke --dunlin PATH          # made-up data, two processes at most; says nothing about speed

Prints tables; writes OUT.json and OUT.svg. Needs the standard library only, and `../shared/data` unless it is a smoke run.
"""
import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "shared")
FIGURES = os.path.join("data", "spot", "derived", "dsmlr_kdd19_figures_digitised.csv")
TINY = "synth:softmax?seed=1"
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"]


def train(a, words, out=None):
    """One run: what --json says, and (seconds, objective) of every evaluation."""
    command = [a.dunlin, "train", *map(str, words), "--json", *(["--out", out] if out else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found, points = json.loads(done.stdout.splitlines()[-1]), []
    if out:
        with open(os.path.join(out, "events.jsonl")) as f:
            events = [json.loads(line) for line in f]
        points = [(e["seconds"], e["metrics"]["train_objective"]) for e in events if e["event"] == "evaluated"]
    return found, points


def workers_table(a, data, workers):
    """Peak memory of the largest process, less that of a process with next to nothing to do, and bytes sent."""
    base, _ = train(a, ["ds-softmax", "--train", TINY, "--epochs", 1, "--workers", 2, "--cluster", "processes"])
    base = max(base["peak_rss_mb_per_process"])
    rows, whole = [], None
    for count in workers:
        epochs, sent = 1, {}
        for epochs in (1, 3):
            words = ["ds-softmax", "--train", data, "--epochs", epochs, "--eval-every", epochs, "--workers", count,
                     "--strategy", "rotation", "--cluster", "processes", "--set", "tolerance=1e-9"]
            found, _ = train(a, words)
            sent[epochs] = found["report"]["update_bytes"][0]
        peak = max(found["peak_rss_mb_per_process"])
        whole = whole or peak - base
        # The laps that measure cancel: both runs have as many.
        lap = (sent[3] - sent[1]) / 2 / count
        rows.append({"workers": count, "peak_mb": peak, "base_mb": base, "share": (peak - base) / whole,
                     "bytes_per_worker_and_epoch": lap})
    return rows


def curves(a, name, data, c, epochs, scratch):
    """Objective against seconds of both solvers and of L-BFGS."""
    words = ["--train", data, "--set", f"c={c}", "--set", "bias=false"]
    sides = {"dual": ["ds-softmax", *words, "--set", "tolerance=1e-6", "--epochs", epochs],
             "stochastic": ["ds-softmax", *words, "--set", "solver=stochastic", "--set", f"rate={a.rate}", "--epochs", epochs],
             "L-BFGS": ["softmax", *words, "--set", "solver=lbfgs", "--set", "tolerance=1e-6", "--epochs", 3 * epochs]}
    return {side: train(a, words, os.path.join(scratch, f"{name}-{side}"))[1] for side, words in sides.items()}


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


def figure(panels):
    """Curves on logarithmic axes, one panel below the other, as SVG."""
    from math import log10
    parts, width, height = [], 640, 300
    for at, (title, points) in enumerate(panels):
        series = {k: [(max(x, 1e-3), max(y, 1e-6)) for x, y in v if x > 0] for k, v in points.items()}
        flat = [point for line in series.values() for point in line]
        if not flat:
            continue
        low, high = log10(min(x for x, _ in flat)), log10(max(x for x, _ in flat))
        floor, top = log10(min(y for _, y in flat)), log10(max(y for _, y in flat))
        place = lambda x, y: (60 + (log10(x) - low) / max(high - low, 1e-9) * (width - 220),
                              at * height + height - 40 - (log10(y) - floor) / max(top - floor, 1e-9) * (height - 80))
        parts.append(f'<text x="60" y="{at * height + 20}">{title}: excess over the least objective against seconds; '
                     f'1e{floor:.1f} to 1e{top:.1f} against 1e{low:.1f} to 1e{high:.1f}</text>')
        for n, (side, line) in enumerate(series.items()):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
            colour = COLOURS[n % len(COLOURS)]
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
            parts.append(f'<text x="{width - 140}" y="{at * height + 50 + 18 * n}" fill="{colour}">{side}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 60}" height="{height * len(panels)}" '
            'font-family="sans-serif" font-size="11">' + "\n".join(parts) + "</svg>\n")


def main():
    p = argparse.ArgumentParser(description="DS-MLR's figures")
    p.add_argument("--dunlin", default=os.path.join(HERE, "..", "target", "release", "dunlin"))
    p.add_argument("--out", help="where to write OUT.json and OUT.svg")
    p.add_argument("--rate", type=float, default=0.5, help="η₀ of the stochastic solver")
    p.add_argument("--smoke", action="store_true")
    a = p.parse_args()
    data = os.path.join(SHARED, "data")
    lshtc, news = (os.path.join(data, *parts) for parts in (("lshtc1-small", "rdf.train.svm.gz"),
                                                            ("20news", "20news.tfidf.train.svm.gz")))
    if not a.smoke and not os.path.exists(lshtc):
        sys.exit(f"{lshtc}: not there; only --smoke runs without it")
    scratch = tempfile.mkdtemp(prefix="dunlin-dsmlr-")
    try:
        table = workers_table(a, TINY if a.smoke else lshtc, [1, 2] if a.smoke else [1, 2, 4, 8])
        sets = [("tiny", TINY, 1.0, 4)] if a.smoke else [("NEWS20", news, 1.0, 40), ("LSHTC1-small", lshtc, 1.0, 15)]
        found, panels = {}, []
        for name, path, c, epochs in sets:
            ours = excess(curves(a, name, path, c, epochs, scratch))
            theirs = excess(paper(name)) if not a.smoke else {}
            found[name] = {"ours": ours, "paper": theirs}
            panels += [(f"{name}, ours", ours), *([(f"{name}, paper", theirs)] if theirs else [])]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("| workers | peak MB of a process | without its base | of one worker's | MB sent a worker and epoch |\n|---|---|---|---|---|")
    for r in table:
        print(f"| {r['workers']} | {r['peak_mb']:.1f} | {r['peak_mb'] - r['base_mb']:.1f} | {r['share']:.2f} | "
              f"{r['bytes_per_worker_and_epoch'] / 1e6:.3f} |")
    print("\n| set | method | seconds to 1.1 | to 1.01 | to 1.001 of the least objective |\n|---|---|---|---|---|")
    for name, sides in found.items():
        for whose, series in sides.items():
            for side, line in series.items():
                times = [seconds_to(line, most) for most in (0.1, 0.01, 0.001)]
                print(f"| {name} | {side}, {whose} | " + " | ".join("–" if t is None else f"{t:.3g}" for t in times) + " |")
    if a.smoke:
        sent = [r["bytes_per_worker_and_epoch"] for r in table]
        assert sent[0] == 0 and sent[1] > 0, table
        assert all(line and line[-1][1] >= 0 for sides in found.values() for line in sides["ours"].values()), found
        print("dsmlr: the script agrees with the program")
    if a.out:
        with open(a.out + ".json", "w") as f:
            json.dump({"workers": table, "curves": found}, f, indent=1, ensure_ascii=False)
        with open(a.out + ".svg", "w") as f:
            f.write(figure(panels))


if __name__ == "__main__":
    main()
