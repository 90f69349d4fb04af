"""Which code made a result: a hash of the source files of ablate that a training and its evaluation go through."""

from __future__ import annotations

import hashlib
from pathlib import Path

# What can change the accuracy of a trial. A module's own file is part of the trial's identity already; reports,
# launchers, sweeps and cost figures may change without making two trainings incomparable.
PARTS = ("trial.py", "environment.py", "data", "grafting", "training", "comparing/accuracy.py")


def code_hash() -> str:
    """Return a SHA-256 over these files' names and contents, hex; the same wherever ablate is installed."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for part in PARTS:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            content = file.read_bytes().replace(b"\r\n", b"\n")
            found.update(f"{file.relative_to(package).as_posix()}:{len(content)}\n".encode() + content)
    return found.hexdigest()
