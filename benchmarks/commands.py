"""How long the commands take that train nothing: a plan of 1,050 trials, the help, the table as JSON.

    python benchmarks/commands.py [--repeats 3]

Each is the real command in a process of its own, the best of some repeats by the clock, with the CPU seconds of that
run and of the processes that it started. A cold plan finds no network in the cache, a warm one all of them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import keep
from simulated import recorded

GRID = [
    "module=hmha,acmix,sta,hat",
    "insertion=c3k2,head,psa,backbone_p3,backbone_p4,backbone_p5,neck_p3,neck_p4",
    "optimizer=sgd,musgd,adamw",
    "seed=range(0,10)",
    "probe=false",
]
GOALS = {"plan, cold": 10.0, "plan, warm": 6.0, "--help": 0.7, "report --json": 3.0}  # seconds on two AVX2 cores


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory(prefix="ablate-bench-") as scratch:
        folder = Path(scratch)
        recorded.OPTIMIZERS, recorded.MODULES, recorded.PLACES = ("sgd",), {"hmha": 0.01}, ("c3k2",)
        recorded.write_recorded(folder / "three", seeds=1)  # a baseline, a graft, a control
        _run(["plan", "seed=0", "probe=false"], folder, cold=True)  # draws the built-in data, compiles our files
        found = {
            "plan, cold": _best(["plan", *GRID], folder, repeats, cold=True),
            "plan, warm": _best(["plan", *GRID], folder, repeats),
            "--help": _best(["--help"], folder, repeats),
            "report --json": _best(["report", f"root={folder / 'three'}", "--json"], folder, repeats),
        }
    keep("commands", {name: {**times, "goal": GOALS[name]} for name, times in found.items()})


def _best(words: list[str], folder: Path, repeats: int, *, cold: bool = False) -> dict[str, Any]:
    """Return the seconds of the quickest of some runs, by the clock and of CPU.

    Args:
        words: The command.
        folder: Where it is given; its cache is there too.
        repeats: How often it runs.
        cold: Forget the networks before each run.
    """
    return min((_run(words, folder, cold) for _ in range(repeats)), key=lambda times: float(times["seconds"]))


def _run(words: list[str], folder: Path, cold: bool) -> dict[str, float]:
    cache = folder / "cache"
    if cold:
        shutil.rmtree(cache / "costs", ignore_errors=True)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ablate", *words],
        cwd=folder,
        env={**os.environ, "ABLATE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


if __name__ == "__main__":
    main()
