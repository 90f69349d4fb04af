"""A sweep's folder: its name, and what it says of the command that made it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablate.tracking.records import atomic_write_json, load_object
from ablate.trial import Trial


def sweep_name(trials: Sequence[Trial]) -> str:
    """Return a sweep's folder name: what varies, and a hash of all it holds; the same command finds it again."""
    levels: dict[str, list[str]] = {}
    for trial in trials:
        for factor, level in trial.identity.factors.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    grafted = dict.fromkeys(name for level in levels["module"] for name in level.split("+") if name != "none")
    modules = list(grafted) or ["baseline"]
    readable = "_".join(["+".join(modules)[:48], "+".join(levels["data"])[:24], "+".join(levels["model"])[:24]])
    return f"{readable}_{digest(trial.identity.signature for trial in trials)[:6]}"


def open_sweep(trials: Sequence[Trial], command: Sequence[str], design: Mapping[str, Any] | None = None) -> Path:
    """Write down what a sweep consists of; return its folder.

    Args:
        trials: All trials of the sweep.
        command: The command line's words; `retry=` is left out, because it asks for this once only.
        design: What the report needs to know of a design of components (see `ablate.sweeping.designs`).
    """
    settings = trials[0].config
    name = settings["sweep"] or sweep_name(trials)
    directory = Path(settings["root"]).absolute() / "sweeps" / name
    known = load_object(directory / "sweep.json")
    before = known.get("signatures", []) if settings["sweep"] else []  # a named sweep grows with each command
    signatures = list(dict.fromkeys([*before, *(trial.identity.signature for trial in trials)]))
    words = [word for word in command if not word.startswith("retry=")]
    content = {
        "name": name,
        "command": f"python -m ablate {shlex.join(words)}",
        "signatures": signatures,
        "names": {**known.get("names", {}), **{t.identity.signature: t.identity.name for t in trials}},
        "created": known.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "tracking": settings["tracking"],
        "latency": settings["latency"],
        "mlflow_run_id": known.get("mlflow_run_id"),
    }
    if design is not None:
        content["design"] = dict(design)
    atomic_write_json(directory / "sweep.json", content)
    return directory


def digest(words: Iterable[str]) -> str:
    """Return a hash of words in any order, hex."""
    return hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
