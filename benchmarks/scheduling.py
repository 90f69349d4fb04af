"""A thousand trials with a fake trainer: what scheduling costs a trial, and what memory the driver needs.

    python benchmarks/scheduling.py [--trials 1000] [--slots 2]

The real command line, composer, launcher, workers, display, records and MLflow store; only the training is fake. The
overhead is the time from the first start to the last end, over the trials, less what the fake trainer itself takes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import ROOT, keep


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=2)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = str(ROOT)
    from ablate.cli.hydra_bridge import run
    from ablate.execution import scheduler as running

    times: dict[str, float] = {}
    real = running.run_trials

    def clocked(*args: Any, **kwargs: Any) -> None:
        times["composed"] = time.perf_counter()
        real(*args, **kwargs)
        times["ran"] = time.perf_counter()

    running.RUN = "simulated.fake_trainer:run_job"
    import ablate.execution.run_sweep as sweep

    sweep.run_trials = clocked
    seen: list[float] = []
    stop = threading.Event()
    threading.Thread(target=_sample, args=(seen, stop), daemon=True).start()
    folder = Path(tempfile.mkdtemp(prefix="ablate-bench-"))
    os.chdir(folder)
    variants = 5
    words = [
        "module=none,hmha,acmix,sta,hat",
        f"seed=range(0,{asked.trials // variants})",
        "train=smoke",
        "latency.enabled=false",
        "notebook=false",
        f"hydra.launcher.cpu_workers={asked.slots}",
    ]
    started = time.perf_counter()
    try:
        code = run([*words, "-m"])
        times["done"] = time.perf_counter()
        own = _fake_seconds(folder)
    finally:
        stop.set()
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
    ran = times["ran"] - times["composed"]
    middle = seen[len(seen) // 2 :]
    keep(
        "scheduling",
        {
            "exit code": code,
            "trials": asked.trials,
            "slots": asked.slots,
            "seconds": {
                "compose, check, preflight": times["composed"] - started,
                "run": ran,
                "record, compare, report": times["done"] - times["ran"],
            },
            "ms a trial": 1000 * ran / asked.trials,
            "ms a trial of the fake trainer itself": 1000 * own,
            "overhead, ms a trial": 1000 * (ran / asked.trials - own / asked.slots),
            "driver memory, MB": {"median of the second half": sorted(middle)[len(middle) // 2], "peak": max(seen)},
        },
    )


def _fake_seconds(folder: Path) -> float:
    """Return the seconds that one fake trial takes in a warm process."""
    from dataclasses import replace

    import yaml
    from simulated.fake_trainer import run_job

    from ablate.data.catalogue import resolve
    from ablate.execution.reconcile import Job
    from ablate.settings.trial_settings import TrialSettings
    from ablate.study.trial import Trial

    config = next(iter(folder.glob("multirun/trials/*/result.json")))
    content = yaml.safe_load(config.read_text(encoding="utf-8"))["config"]
    settings = TrialSettings.from_plain({**content, "root": str(folder / "again")})
    data = resolve(settings.data)
    times = []
    for seed in range(50):
        job = Job(Trial.of(replace(settings, seed=seed), data)).for_worker()
        started = time.perf_counter()
        run_job(job)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def _sample(seen: list[float], stop: threading.Event) -> None:
    """Note this process's resident memory, in MB, every tenth of a second."""
    while not stop.wait(0.1):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        seen.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


if __name__ == "__main__":
    main()
