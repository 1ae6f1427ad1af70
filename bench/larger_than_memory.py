"""A model whose parameters exceed what any worker may take (`--memory`) trains to the same model, bit for bit.

    python bench/larger_than_memory.py --dunlin target/release/dunlin --out bench/runs/DATE/larger-than-memory
    python bench/larger_than_memory.py --smoke --dunlin PATH          # made-up data

`ds-softmax` on LSHTC1-small: a table of 123 MB, 100 MB for each of eight processes. Beside it the same lanes on one process
without a budget. Asserts that objective and model are the same bits, that no process took more than the budget, and that
fewer workers are refused with the number that would be enough. Writes OUT.md and OUT.json. Needs the standard library only,
and `../shared/data` unless it is a smoke run.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import dsmlr
import measure


def model_of(folder):
    """Bytes of the largest table, and a sum over all numbers by table: headers may differ."""
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        start, tables = f.tell(), {}
        for name, table in header.items():
            if name != "__metadata__":
                first, end = table["data_offsets"]
                f.seek(start + first)
                tables[name] = (end - first, hashlib.sha256(f.read(end - first)).hexdigest())
    return max(size for size, _ in tables.values()), tables


def made_up(path, rows=1200, columns=42000, classes=300, nonzeros=10):
    """Random rows in a file: making them is not left to eight processes at a time."""
    rng = random.Random(1)
    with open(path, "w") as f:
        for row in range(rows):
            chosen = sorted(rng.sample(range(1, columns + 1), nonzeros))
            f.write(f"{row % classes} " + " ".join(f"{column}:{rng.random():.3f}" for column in chosen) + "\n")
        f.write(f"0 {columns}:1\n")


def run(a, words, out):
    found, events = dsmlr.train(a, words, out)
    table, sums = model_of(out)
    shutil.rmtree(out)
    return {"objective": found["metrics"]["train_objective"], "peaks_mb": found["peak_rss_mb_per_process"], "table_mb": table / 1e6,
            "seconds": found["seconds"], "model_mb": max(w["model_mb"] for w in events[-1]["workers"]), "sums": sums}


def refusal(a, words):
    """What a run with too few workers is told: what each would need, and how many would be enough."""
    done = subprocess.run([a.dunlin, "train", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2, f"{words} ended with {done.returncode}: {done.stderr}"
    return done.stderr.strip().splitlines()[-1]


def main():
    p = argparse.ArgumentParser(description="a model larger than --memory")
    p.add_argument("--dunlin", default=os.path.join(dsmlr.HERE, "..", "target", "release", "dunlin"))
    p.add_argument("--out", help="where to write OUT.md and OUT.json")
    p.add_argument("--epochs", type=int)
    p.add_argument("--smoke", action="store_true")
    a = p.parse_args()
    a.dunlin = os.path.abspath(a.dunlin)
    data, budget, epochs = os.path.join(dsmlr.SHARED, "data", "lshtc1-small", "rdf.train.svm.gz"), 100, 5
    if a.smoke:
        budget, epochs = 46, 1
    elif not os.path.exists(data):
        sys.exit(f"{data}: not there; only --smoke runs without it")
    epochs = a.epochs or epochs
    scratch = tempfile.mkdtemp(prefix="dunlin-larger-")
    if a.smoke:
        data = os.path.join(scratch, "rows.svm")
        made_up(data)
    words = ["ds-softmax", "--train", data, "--epochs", epochs, "--eval-every", epochs, "--set", "tolerance=1e-9", "--lanes", 8,
             "--strategy", "rotation"]
    try:
        limited = ["--cluster", "processes", "--memory", f"{budget}MB"]
        spread = run(a, [*words, *limited, "--workers", 8], os.path.join(scratch, "spread"))
        whole = run(a, [*words, "--workers", 1], os.path.join(scratch, "whole"))
        base = dsmlr.baseline(a, scratch)
        told = refusal(a, [*words, *limited, "--workers", 1])
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    table = spread["table_mb"]
    assert table > budget, f"a table of {table} MB fits into {budget} MB"
    assert spread["sums"] == whole["sums"] and spread["objective"] == whole["objective"], (spread, whole)
    peak = max(spread["peaks_mb"]) * 1.048576  # of MiB
    assert peak <= budget, f"a process took {peak} MB of {budget} MB"
    enough = re.search(r"--workers (\d+) would be enough", told)
    assert enough and 1 < int(enough[1]) <= 8, told
    lines = [f"| run | workers | table, MB | `--memory`, MB | peak of a process, MB | model held by a worker, MB | objective after {epochs} laps |",
             "|---|--:|--:|--:|--:|--:|--:|",
             f"| eight processes | 8 | {table:.1f} | {budget} | {peak:.1f} | {spread['model_mb']:.1f} | {spread['objective']!r} |",
             f"| one process, no budget | 1 | {table:.1f} | – | {whole['peaks_mb'][0] * 1.048576:.1f} | {whole['model_mb']:.1f} | "
             f"{whole['objective']!r} |", "",
             f"The models are the same bits. A process with next to nothing to do takes {base * 1.048576:.1f} MB, which is in the peaks. "
             "Fewer workers are refused:", "", f"    {told}"]
    print("\n".join(lines))
    if a.smoke:
        print("larger_than_memory: the script agrees with the program")
    if a.out:
        with open(a.out + ".json", "w") as f:
            json.dump({"budget_mb": budget, "spread": spread, "whole": whole, "baseline_mb": base, "refusal": told}, f, indent=1)
        with open(a.out + ".md", "w") as f:
            f.write(f"# A model larger than `--memory`, {measure.today()}\n\n    python bench/larger_than_memory.py\n\n"
                    f"`ds-softmax`, {os.path.basename(data)}, 8 lanes, `rotation`.\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
