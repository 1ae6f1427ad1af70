"""Rows against peers that no package carries (LIBMF, ps-lite), and the machine's raw limits.

Their programs are built outside the project and named by options; a row whose program is not named is left out and
says so. README.md describes what each program must be.
"""
import json
import os
import shutil

from measure import Failed, median
from rows import epinions_peer, epinions_words, field, movielens_peer, movielens_words, row


# ---------------------------------------------------------------- matrix factorisation
def rate(runs, name):
    return field(runs, name) / 1e6


def threads(count):
    return "1 thread" if count == 1 else f"{count} threads"


def workers(side):
    return "one worker" if side == "one" else "two workers"


def movielens_libmf(b):
    """Seconds to test RMSE 0.93 and ratings a second; LIBMF with 1 and 2 threads, ours with one and two workers."""
    b.program("libmf")
    ours = movielens_words(b)
    raw = b.interleaved(
        one=lambda: b.dunlin(*ours),
        peer_1=lambda: movielens_peer(b, "libmf_avx", 1, 0.1, 0.05),
        two=lambda: b.dunlin(*ours, "--workers", 2, cpus=2),
        peer_2=lambda: movielens_peer(b, "libmf_avx", 2, 0.1, 0.05),
        turns=max(b.a.repeat, 7))                  # runs of milliseconds need more turns
    return {"raw": raw, "rows": movielens_rows(raw)}


def movielens_rows(raw):
    """Both thread counts of LIBMF against one worker, which the targets are about; two workers are recorded."""
    what, found = "mf, MovieLens-100k u1, rank 32", []
    pairs = (("one", 1, 0.31, 7.8), ("one", 2, 0.33, 6.0), ("two", 2, None, None))
    for side, count, seconds_ratio, rate_ratio in pairs:
        runs, peers = raw[side], raw[f"peer_{count}"]
        good = all(run["reason"] == "until" for run in runs)
        seconds, theirs = field(runs, "seconds"), field(peers, "seconds")
        speed, their_speed = rate(runs, "samples_per_second"), rate(peers, "ratings_per_s")
        peer, wanted = f"LIBMF, {threads(count)}", seconds_ratio is not None
        note = f"ours {field(runs, 'epochs'):g} epochs, theirs {field(peers, 'epochs'):g}"
        if not all(run["reached"] for run in peers):
            note += " (theirs did not get there)"
        found += [
            row(f"{what}, time to test RMSE 0.93, {workers(side)}", peer, theirs, seconds, "s",
                f"≤ 0.008 s; ≤ {seconds_ratio} x" if wanted else "recorded",
                good and seconds <= seconds_ratio * theirs if wanted else None, note),
            row(f"{what}, rate at that quality, {workers(side)}", peer, their_speed, speed,
                "M ratings/s", f"≥ 120; ≥ {rate_ratio} x" if wanted else "recorded",
                good and speed >= rate_ratio * their_speed if wanted else None)]
    return found


def epinions_libmf(b):
    """Ratings a second over 20 epochs; Epinions 90/10, rank 32; LIBMF with 1 and 2 threads, ours with one and two
    workers."""
    b.program("libmf")
    ours = epinions_words(b)
    raw = b.interleaved(
        one=lambda: b.dunlin(*ours),
        peer_1=lambda: epinions_peer(b, "libmf_avx", 1, 0.05, 0.1),
        peer_2=lambda: epinions_peer(b, "libmf_avx", 2, 0.05, 0.1))
    # one turn: it takes long, the longer the more clocks an epoch has
    raw["two"] = [b.dunlin(*ours, "--workers", 2, cpus=2)]
    return {"raw": raw, "rows": epinions_rows(raw)}


def epinions_rows(raw):
    found = []
    for side, count, ratio in (("one", 1, 7.0), ("one", 2, 4.4), ("two", 2, None)):
        runs, peers = raw[side], raw[f"peer_{count}"]
        speed, theirs = rate(runs, "samples_per_second"), rate(peers, "ratings_per_s")
        rmse, their_rmse = median([run["metrics"]["test_rmse"] for run in runs]), field(peers, "quality")
        good = rmse <= their_rmse + 0.002 and speed >= ratio * theirs if ratio else None
        found.append(row(f"mf, Epinions, rank 32, 20 epochs, {workers(side)}", f"LIBMF, {threads(count)}", theirs,
                         speed, "M ratings/s", f"≥ 40; ≥ {ratio} x" if ratio else "recorded", good,
                         f"test RMSE ours {rmse:.4f}, theirs {their_rmse:.4f} (no biases)"))
    return found


# ---------------------------------------------------------------- parameter server
def lines(text):
    """The JSON lines that a program printed, in order."""
    try:
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    except ValueError as wrong:
        raise Failed(f"a line that starts like JSON is none: {wrong}") from wrong


def server(b):
    """Round trip of a row and pushes of a million keys with accumulation: a server in another process, over TCP."""
    ours, theirs = b.example("server_speed"), b.program("ps_lite")
    if not ours:
        raise Failed("examples/server_speed is not built beside the binary")
    peer = [os.path.join(b.a.scripts, "ps_lite.sh"), "1", "1", theirs]

    def side(command, prefix=()):
        out, about = b.run([*prefix, *command])
        return {"lines": lines(out), **about, "command": b.plain([*prefix, *command])}

    alone = b.pinned(1)                            # one processor: neither side spins
    raw = b.interleaved(ours=lambda: side([ours]), peer=lambda: side(peer),
                        ours_on_one=lambda: side([ours], alone), peer_on_one=lambda: side(peer, alone))
    return {"raw": raw, "rows": server_rows(raw)}


def figure(runs, name, **where):
    """Median over the turns of a figure of the one line that has these values, or Failed."""
    values = [line[name] for run in runs for line in run["lines"]
              if all(line.get(key) == value for key, value in where.items())]
    if len(values) != len(runs):
        said = ", ".join(f"{key} {value}" for key, value in where.items())
        raise Failed(f"{len(runs)} runs printed {len(values)} lines with {name} for {said}; one each is wanted")
    return median(values)


def server_rows(raw):
    trip = {side: figure(runs, "microseconds", what="round trip") for side, runs in raw.items()}
    found = [
        row("server, round trip of a row, ours spinning briefly", "ps-lite", trip["peer"], trip["ours"], "µs",
            "≤ 25 µs", trip["ours"] <= 25),
        row("server, round trip of a row, blocking, both sides on one processor", "ps-lite", trip["peer_on_one"],
            trip["ours_on_one"], "µs", "recorded", None)]
    unit, name = "M keys/s", "million_keys_per_second"
    for keys, least in (("sorted", 80), ("random", 30)):
        what = f"push, {keys} keys"
        ours = figure(raw["ours"], name, what=what)
        nothing = figure(raw["peer"], name, what=what, handler="none")
        for handler, said in (("default", "ps-lite, its hash map"), ("dense", "ps-lite, a dense array")):
            target, good = (f"≥ {least}", ours >= least) if handler == "default" else ("recorded", None)
            found.append(row(f"server, push of 1 M {keys} keys, added up", said,
                             figure(raw["peer"], name, what=what, handler=handler), ours, unit, target, good,
                             f"theirs into nothing {nothing:.0f}"))
    return found


# ---------------------------------------------------------------- raw limits
COMPILE = ["cc", "-O3", "-march=native", "-ffast-math", "-pthread"]


def limits(b):
    """What the machine can do: memory, arithmetic, plain inner loops, links; the peers' limits.c, compiled afresh."""
    source = os.path.join(b.a.scripts, "limits.c")
    if not os.path.exists(source):
        raise Failed("limits.c is not among the peers' scripts")
    if b.a.isa:                                    # its vectors are 64 bytes wide: narrower ones would say too little
        raise Failed("limits.c measures all that the processor has; leave --isa out")
    if not shutil.which("cc"):
        raise Failed("limits.c is compiled with cc, which is not there")
    program = os.path.join(b.scratch, "limits")
    b.run([*COMPILE, source, "-o", program, "-lm"], quiet=False)

    def measure():
        out, about = b.run([program])
        return {"lines": lines(out), **about}

    raw = b.interleaved(limits=measure)
    return {"raw": raw, "rows": limit_rows(raw["limits"])}


def limit_rows(runs):
    kinds = [(line["task"], line["threads"], line["unit"]) for line in runs[0]["lines"]]
    return [row(f"limit, {task.replace('_', ' ')}, {threads(count)}", "", None,
                figure(runs, "quality", task=task, threads=count), unit, "recorded", None)
            for task, count, unit in kinds]
