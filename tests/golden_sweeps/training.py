"""Small trainings whose numbers are kept to the last digit: `python tests/golden_sweeps/training.py --check`.

`--check` trains three configurations for two epochs (about a minute on two cores) and says which number differs from
training.json. The digits are those of one processor and of the installed versions, which stand there too: on another
machine a difference says nothing, so that no test runs this. `--keep` writes training.json anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

KEPT = Path(__file__).with_name("training.json")
TRAININGS = {
    "baseline musgd": ["module=none"],
    "hmha@c3k2 musgd": ["module=hmha", "baseline=false"],
    "acmix@head sgd": ["module=acmix", "optimizer=sgd", "baseline=false"],
}
SETTINGS = [
    "train=smoke",
    "train.epochs=2",
    "train.fraction=1.0",
    "data.train_images=24",
    "data.val_images=8",
    "data.imgsz=64",
    "data.objects=3",
    "data.clutter=0",
    "device=cpu",
    "latency.enabled=false",
    "figures=false",
    "notebook=false",
]
PACKAGES = ("torch", "torchvision", "ultralytics", "numpy")
# What of a history depends on the time that it took, and not on what was computed.
TIMES = ("time", "seconds")


def main() -> int:
    """Train, and compare or keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="compare with training.json")
    what.add_argument("--keep", action="store_true", help="write training.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"machine": machine(), "trainings": {name: train(name, Path(folder)) for name in TRAININGS}}
    if asked.keep:
        KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    lines = list(differences(json.loads(KEPT.read_text(encoding="utf-8")), found))
    print("\n".join(lines) or "every number is as it was")
    return 1 if lines else 0


def machine() -> dict[str, object]:
    """Return what the last digits depend on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = found[0].partition(":")[2].strip() if found else ""
    versions = {name: version(name) for name in PACKAGES}
    return {"processor": model or platform.processor(), "python": platform.python_version(), "threads": 1, **versions}


def train(name: str, folder: Path) -> dict[str, object]:
    """Train one configuration with one thread in a process of its own; return what its record says."""
    words = [*TRAININGS[name], *SETTINGS, f"root={folder}/multirun"]
    done = subprocess.run(
        [sys.executable, "-m", "ablate", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout}{done.stderr}")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("multirun/trials/*/result.json")]
    (record,) = [record for record in records if record["name"] == f"{name} s0"]
    history = [{key: value for key, value in row.items() if key not in TIMES} for row in record["history"]]
    cost = record["cost"]
    return {
        **{key: record[key] for key in ("signature", "variant_key", "comparison_key")},
        "fingerprint": record["data"]["fingerprint"],
        "history": history,
        **{key: record[key] for key in ("metrics", "metrics_last", "per_class", "per_class_last", "graft")},
        **{key: cost[key] for key in ("params", "params_added", "params_train", "gflops", "gflops_ultralytics")},
    }


def differences(expected: object, found: object, where: str = "") -> Iterator[str]:
    """Yield a line for each value that differs."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*expected, *found]):
            yield from differences(expected.get(key), found.get(key), f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{where}/{index}")
    elif expected != found:
        yield f"{where}: {found}, was {expected}"


if __name__ == "__main__":
    sys.exit(main())
