"""Which code made a result: ours, the packages it stands on, and the repository that the user stands in."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablate import __version__

# What can change the accuracy of a trial. A module's own file is part of the trial's identity already; reports,
# launchers, sweeps and cost figures may change without making two trainings incomparable.
PARTS = (
    *("execution/run_trial.py", "training", "settings/environment.py", "data", "grafting"),
    *("evaluation/average_precision.py", "evaluation/boxes.py"),
)


def remember_versions() -> None:
    """Read now what this process runs; files may be edited, and packages replaced, while it lives."""
    code_hash()
    versions()


@cache
def code_hash() -> str:
    """Return a SHA-256 over these files' names and contents, hex; the same wherever ablate is installed.

    They are read once: a process goes on with what it has imported.
    """
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for part in PARTS:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            content = file.read_bytes().replace(b"\r\n", b"\n")
            found.update(f"{file.relative_to(package).as_posix()}:{len(content)}\n".encode() + content)
    return found.hexdigest()


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result depends on; they are looked up once, as `code_hash` is."""
    return {
        "python": platform.python_version(),
        "ablate": __version__,
        **{name: version(name) for name in ("torch", "torchvision", "ultralytics", "numpy")},
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Return the commit of the working folder's repository; keep what differs from it in `git.diff`."""

    def ask(*words: str) -> bytes | None:
        try:
            return subprocess.run(["git", *words], capture_output=True, check=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError):
            return None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return {}
    diff = ask("diff", "HEAD") or b""
    if diff:
        (folder / "git.diff").write_bytes(diff)  # bytes: the user's files may be in any encoding
    return {"commit": commit.decode().strip(), "dirty": bool(diff)}
