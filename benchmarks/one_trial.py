"""One trial against the plain Ultralytics script with the same arguments, tracking and all, in pairs.

    python benchmarks/one_trial.py [--pairs 5] [--images 256] [--epochs 6]

Each pair runs both whole commands, in turn; the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from common import HERE, keep, overrides, quiet_settings, timed, training_arguments


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, help="CPU threads for both; else what each takes by itself")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ablate-bench-"))
    words = [*overrides(asked.images, asked.epochs), "train.plots=true"]
    arguments = folder / "arguments.json"
    arguments.write_text(json.dumps(training_arguments(words, folder / "bare")), encoding="utf-8")
    bare = quiet_settings(folder)
    threads = {"OMP_NUM_THREADS": str(asked.threads)} if asked.threads else {}
    pairs = []
    try:
        timed([sys.executable, str(HERE / "bare.py"), str(arguments), "99", "warm"], folder / "warm", **bare)
        for seed in range(asked.pairs):
            own = [sys.executable, "-m", "ablate", "module=none", f"seed={seed}", *words, "notebook=false"]
            ablate = timed(own, folder / "ablate", **threads)
            command = [sys.executable, str(HERE / "bare.py"), str(arguments), str(seed), f"s{seed}"]
            plain = timed(command, folder / "plain", **bare, **threads)
            pairs.append({"ablate": ablate, "plain": plain, "ratio": ablate / plain})
            print(pairs[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ratio = statistics.median(pair["ratio"] for pair in pairs)
    keep(
        "one_trial",
        {
            "images": asked.images,
            "epochs": asked.epochs,
            "threads": asked.threads,
            "pairs": pairs,
            "median ratio": ratio,
        },
    )


if __name__ == "__main__":
    main()
