"""Short trainings: ablate against a shell loop of plain Ultralytics scripts and against Hydra's basic launcher.

    python benchmarks/sweep.py [--trials 12] [--images 64] [--epochs 2] [--busy 1] [--before] [--no-basic]

The same network, data, arguments and seeds on the same machine, one way after the other, in one run. ablate's time is
that of the whole command, with its checks, tracking and report. `--busy` runs all of it beside so many processes that
keep a core busy each; `--before` adds ablate as it was: one trial at a time, with a thread for every core, which spins
for as long as the OpenMP runtime does by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import HERE, keep, overrides, quiet_settings, timed, training_arguments

# GNU's runtime spins so often where nobody says anything (three milliseconds or so); it comes before our own setting.
SPINNING = {"GOMP_SPINCOUNT": "300000"}
SPIN = "print(1, flush=True)\nwhile True: pass"


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cpu-workers", default="auto")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside all of it")
    parser.add_argument("--before", action="store_true", help="also one trial at a time with spinning threads")
    parser.add_argument("--no-basic", action="store_true", help="leave out Hydra's basic launcher")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ablate-bench-"))
    try:
        with busy(asked.busy):
            seconds = measure(asked, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours, others = seconds["ablate"], {name: taken for name, taken in seconds.items() if name != "ablate"}
    keep(
        "sweep",
        {
            "trials": asked.trials,
            "images": asked.images,
            "epochs": asked.epochs,
            "cpu_workers": asked.cpu_workers,
            "busy": asked.busy,
            "seconds": seconds,
            **{f"ratio to {name}": ours / taken for name, taken in others.items()},
        },
    )


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the seconds of each way."""
    words = overrides(asked.images, asked.epochs)
    seeds = range(asked.trials)
    arguments = folder / "arguments.json"
    arguments.write_text(json.dumps(training_arguments(words, folder / "bare")), encoding="utf-8")
    bare = quiet_settings(folder)
    python = sys.executable
    timed([python, str(HERE / "bare.py"), str(arguments), "99", "warm"], folder / "warm", **bare)  # label cache
    loop = " && ".join(f"{python} {HERE / 'bare.py'} {arguments} {seed} s{seed}" for seed in seeds)
    seconds = {}
    own = [python, "-m", "ablate", "module=none", f"seed={','.join(map(str, seeds))}", *words, "-m"]
    seconds["ablate"] = timed([*own, f"hydra.launcher.cpu_workers={asked.cpu_workers}"], folder / "ablate")
    seconds["shell loop"] = timed(["sh", "-c", loop], folder / "shell", **bare)
    if asked.before:
        cores = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
        one = [*own, "hydra.launcher.cpu_workers=1"]
        seconds["before"] = timed(one, folder / "before", **cores, **SPINNING)
    if not asked.no_basic:
        over = [f"arguments={arguments}", f"seed={','.join(map(str, seeds))}", "-m"]
        basic = [python, str(HERE / "bare_hydra.py"), *[f"+{o}" if "=" in o else o for o in over]]
        seconds["hydra basic"] = timed(basic, folder / "hydra", **bare)
    return seconds


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many cores busy, as a neighbour does."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
