"""How long `python -m ablate report` takes over a thousand recorded trials, and what memory it needs.

    python benchmarks/report.py [--seeds 10] [--epochs 100] [--root FOLDER]

The records are made up (`simulated/recorded.py`); the command that reads them is the real one, in a process of its own.
Goals: the table within 15 s, figures, pages and the executed notebook within 60 s, torch never imported.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import keep
from simulated.recorded import write_recorded

COMMAND = """
import resource, sys
from ablate.__main__ import main
code = main(sys.argv[1:])
heavy = [name for name in ("torch", "ultralytics", "mlflow") if name in sys.modules]
print("HEAVY", heavy, "PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "CODE", code, flush=True)
"""


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--root", type=Path, help="keep the records in this folder, or use what is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ablate-bench-") as scratch:
        root = asked.root or Path(scratch)
        if not (root / "sweeps").is_dir():
            write_recorded(root, seeds=asked.seeds, epochs=asked.epochs)
        results = list((root / "trials").glob("*/result.json"))
        size = sum(path.stat().st_size for path in results)
        measured = _report(root)
        figures = len(list((root / "sweeps" / "generated").glob("*.svg")))
        known = {"trials": len(results), "epochs": asked.epochs, "records_mb": round(size / 1e6), "figures": figures}
        keep("report", {**known, **measured})


def _report(root: Path) -> dict[str, Any]:
    """Run the command; seconds until the table and its findings stand there, and until everything is written."""
    load, started = os.getloadavg()[0], time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "report", f"root={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"},
    )
    table, last, problems = 0.0, "", []
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="")
        if line.startswith("report:"):
            problems += [line.strip()] if "comparison.html" not in line else []
        elif not line.startswith("HEAVY"):
            table = time.perf_counter() - started
        last = line
    process.wait()
    total = time.perf_counter() - started
    if not last.startswith("HEAVY [] "):
        raise SystemExit(f"the report failed, or imported what it must not: {last}")
    peak = int(last.split("PEAK ")[1].split()[0])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds_to_table": round(table, 1),
        "seconds_to_all": round(total, 1),
        "peak_memory_mb": round(peak / 1024),
        "peak_memory_with_notebook_mb": round(max(peak, used.ru_maxrss) / 1024),
        "problems": problems,
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "load_of_others": round(load, 1),
    }


if __name__ == "__main__":
    main()
