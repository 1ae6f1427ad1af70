"""How things are measured: quiet runs of our program and of the peers' scripts, and what the machine is.

Needs the standard library only.
"""
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time


class Failed(Exception):
    """A run that did not end well, or something that a row needs and is not there."""


def busy_seconds():
    """CPU seconds of the whole machine since it started; 0 where the system does not say."""
    try:
        with open("/proc/stat") as f:
            fields = [int(word) for word in f.readline().split()[1:]]
        return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def children_seconds():
    t = os.times()
    return t.children_user + t.children_system


def machine():
    """What was measured on: processor, cores, memory in GB, kernel, load of the last minute."""
    model, memory = platform.machine(), 0.0
    try:
        with open("/proc/cpuinfo") as f:
            model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (OSError, ValueError):
        pass
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory, 1),
            "kernel": platform.release().split("-")[0], "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 2)}


def median(values):
    return statistics.median(values) if values else None


# Peers that no package carries: option -> the variable that also names it and tells the peers' scripts, what it is.
PROGRAMS = {"libmf": ("MF_TRAIN", "LIBMF's mf-train"), "warplda": ("WARPLDA", "WarpLDA's warplda"),
            "warplda_format": ("WARPLDA_FORMAT", "WarpLDA's format"),
            "ps_lite": ("PS_LITE", "the program on ps-lite's API that README.md describes")}


class Bench:
    """Runs programs the same way each time. Every record holds `other_cpu`: processors that other programs kept
    busy meanwhile (near 0 is clean)."""

    def __init__(self, a):
        self.a = a
        self.cpus = sorted(os.sched_getaffinity(0))
        self.scratch = tempfile.mkdtemp(prefix="dunlin-bench-")
        self.env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.env.setdefault("BENCH_LOCK", os.path.join(tempfile.gettempdir(), "dunlin-bench.lock"))
        if a.isa:
            self.env["TOMOTOPY_ISA"] = a.isa          # the one peer here that chooses instructions and can be told
        for option, (variable, _) in PROGRAMS.items():
            if getattr(a, option):
                self.env[variable] = getattr(a, option)

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)

    def folder(self, name):
        """A fresh place for a run folder; not made."""
        path = os.path.join(self.scratch, name)
        shutil.rmtree(path, ignore_errors=True)
        return path

    def file(self, name):
        """An exported file, or Failed."""
        path = os.path.join(self.a.out, name)
        if not os.path.exists(path):
            raise Failed(f"{name} is not there; run bench/export.py first")
        return path

    def data(self, *parts):
        return os.path.join(self.a.data, *parts)

    def has_model(self, name):
        listed = subprocess.run([self.a.dunlin, "models"], capture_output=True, text=True).stdout
        return any(line.split() and line.split()[0] == name for line in listed.splitlines())

    def example(self, name):
        """A program of the examples, or None."""
        path = os.path.join(self.a.examples, name)
        return path if os.access(path, os.X_OK) else None

    def program(self, option):
        """The path of a peer's program that no package carries, or Failed."""
        path, (variable, what) = getattr(self.a, option), PROGRAMS[option]
        given = f"--{option.replace('_', '-')} or {variable}"
        if not path:
            raise Failed(f"{what} is not given: name it with {given}")
        if not (os.path.isfile(path) and os.access(path, os.X_OK)):
            raise Failed(f"{given} names no program that can be run: {what} is wanted")
        return path

    def run(self, command, quiet=True):
        """(standard output, {wall_seconds, other_cpu}) of a command that ends well."""
        if quiet and self.a.quiet:
            command = [self.a.quiet, *command]
        start, busy, own = time.perf_counter(), busy_seconds(), children_seconds()
        done = subprocess.run(command, capture_output=True, text=True, env=self.env)
        wall = time.perf_counter() - start
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise Failed(f"{self.plain(command)} ended with {done.returncode}: {self.plain([said])}")
        other = (busy_seconds() - busy - (children_seconds() - own)) / wall
        return done.stdout, {"wall_seconds": round(wall, 3), "other_cpu": round(max(0.0, other), 2)}

    def plain(self, command):
        """A command or a message without the folders of this machine."""
        text = " ".join(command)
        places = [(self.a.out, "OUT"), (self.a.data, "DATA"), (self.a.scripts, "PEERS"), (self.scratch, "TMP"),
                  (os.path.dirname(self.python()), "VENV"), (os.path.dirname(self.a.dunlin), "BIN"),
                  (self.a.examples, "EXAMPLES")]
        places += [(getattr(self.a, option), variable) for option, (variable, _) in PROGRAMS.items()
                   if getattr(self.a, option)]
        if self.a.quiet:
            places.append((os.path.dirname(self.a.quiet), "PEERS"))
        for folder, name in sorted(places, key=lambda place: -len(place[0])):
            text = text.replace(folder, name)
        return text

    def python(self):
        return os.path.join(self.a.peers, "bin", "python")

    def pinned(self, count):
        """The prefix that keeps a program on the last `count` processors, as the peers' scripts keep themselves."""
        return ["taskset", "-c", ",".join(map(str, self.cpus[-count:]))]

    def train_command(self, words):
        limit = ["--isa", self.a.isa] if self.a.isa else []
        return [self.a.dunlin, "train", *map(str, words), "--json", *limit]

    def dunlin(self, *words, cpus=1, quiet=True):
        """The object that `dunlin train WORDS --json` prints, with `other_cpu` and the command."""
        command = self.train_command(words)
        out, about = self.run(self.pinned(cpus) + command, quiet)
        return {**json.loads(out.splitlines()[-1]), **about, "command": self.plain(command)}

    def peer(self, script, *words):
        """The object that a peer's script prints."""
        command = [self.python(), os.path.join(self.a.scripts, script), *map(str, words)]
        out, _ = self.run(command)
        return {**json.loads(out.splitlines()[-1]), "command": self.plain(command)}

    def score(self, what, *words):
        """A number from score.py, computed in the peers' environment; not timed."""
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "score.py")
        out, _ = self.run([self.python(), script, what, *map(str, words)], quiet=False)
        return json.loads(out.splitlines()[-1])

    def interleaved(self, turns=None, **sides):
        """{side: list of what it returned}: one run of each side, turn by turn, `turns` times or `--repeat`."""
        found = {name: [] for name in sides}
        for _ in range(turns or self.a.repeat):
            for name, side in sides.items():
                found[name].append(side())
        return found


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()
