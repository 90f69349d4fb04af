"""Twelve short trainings: ablate against a shell loop of plain Ultralytics scripts and against Hydra's basic launcher.

    python benchmarks/sweep.py [--trials 12] [--images 64] [--epochs 2] [--report]

The same network, data, arguments and seeds on the same machine, one way after the other, in one run. ablate's time is
that of the whole command, with its checks, tracking and, with `--report`, the report too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from common import HERE, keep, overrides, quiet_settings, timed, training_arguments


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cpu-workers", default="auto")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ablate-bench-"))
    words = overrides(asked.images, asked.epochs)
    seeds = range(asked.trials)
    arguments = folder / "arguments.json"
    arguments.write_text(json.dumps(training_arguments(words, folder / "bare")), encoding="utf-8")
    bare = quiet_settings(folder)
    python = sys.executable
    try:
        timed([python, str(HERE / "bare.py"), str(arguments), "99", "warm"], folder / "warm", **bare)  # label cache
        loop = " && ".join(f"{python} {HERE / 'bare.py'} {arguments} {seed} s{seed}" for seed in seeds)
        shell = timed(["sh", "-c", loop], folder / "shell", **bare)
        over = [f"arguments={arguments}", f"seed={','.join(map(str, seeds))}", "-m"]
        basic = timed(
            [python, str(HERE / "bare_hydra.py"), *[f"+{o}" if "=" in o else o for o in over]], folder / "hydra", **bare
        )
        own = ["module=none", f"seed={','.join(map(str, seeds))}", f"hydra.launcher.cpu_workers={asked.cpu_workers}"]
        ablate = timed([python, "-m", "ablate", *own, *words, "-m"], folder / "ablate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    keep(
        "sweep",
        {
            "trials": asked.trials,
            "images": asked.images,
            "epochs": asked.epochs,
            "cpu_workers": asked.cpu_workers,
            "seconds": {"ablate": ablate, "shell loop": shell, "hydra basic": basic},
            "ratio to shell loop": ablate / shell,
            "ratio to hydra basic": ablate / basic,
        },
    )


if __name__ == "__main__":
    main()
