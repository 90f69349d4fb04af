"""A sweep's folder: its name, and what it says of the command that made it."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablate.records.records import load_object, sequence
from ablate.records.store_address import recorded, without_account
from ablate.storage.files import atomic_write_json
from ablate.study.trial import Trial

STAMP = ".reported"  # what the report beside it was made from; a command that writes another one removes it


def sweep_name(trials: Sequence[Trial], joined: Collection[str] = ()) -> str:
    """Return a sweep's folder name: what varies, and a hash of all it holds; the same command finds it again.

    Args:
        trials: All trials of the sweep.
        joined: Signatures of those that nobody asked for and that the name is silent about.
    """
    levels: dict[str, list[str]] = {}
    for trial in [trial for trial in trials if trial.identity.signature not in joined] or trials:
        for factor, level in trial.identity.factors.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    grafted = dict.fromkeys(name for level in levels["module"] for name in level.split("+") if name != "none")
    modules = list(grafted) or ["baseline"]
    readable = "_".join(["+".join(modules)[:48], "+".join(levels["data"])[:24], "+".join(levels["model"])[:24]])
    readable = re.sub(r"[^\w.+@=-]+", "_", readable)  # a data file may be called anything; this is a folder, and a tag
    return f"{readable}_{digest(trial.identity.signature for trial in trials)[:6]}"


def open_sweep(
    trials: Sequence[Trial],
    command: Sequence[str],
    design: Mapping[str, Any] | None = None,
    controls: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write down what a sweep consists of; return its folder.

    Args:
        trials: All trials of the sweep.
        command: The command line's words; `retry=` is left out, because it asks for this once only, and so are user
            and password of `tracking.uri`, because all may read what is recorded.
        design: What the report needs to know of a design of components (see `ablate.study.designs`).
        controls: By variant key what it is a control of (see `ablate.study.control_trials`).
    """
    settings = trials[0].config
    controls = controls or {}
    name = settings["sweep"] or sweep_name(trials, {s for control in controls.values() for s in control["signatures"]})
    directory = Path(settings["root"]).absolute() / "sweeps" / name
    known = load_object(directory / "sweep.json")
    before = known.get("signatures", []) if settings["sweep"] else []  # a named sweep grows with each command
    signatures = list(dict.fromkeys([*before, *(trial.identity.signature for trial in trials)]))
    words = [
        without_account(word) if word.lstrip("+").startswith("tracking") else word
        for word in command
        if not word.startswith("retry=")
    ]
    content = {
        "name": name,
        "command": f"python -m ablate {shlex.join(words)}",
        "signatures": signatures,
        "names": {**known.get("names", {}), **{t.identity.signature: t.identity.name for t in trials}},
        "created": known.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "tracking": recorded(settings)["tracking"],
        "latency": settings["latency"],
        "strict": bool(settings["strict"]),
        "mlflow_run_id": known.get("mlflow_run_id"),
    }
    if settings["sweep"]:
        controls = grown(known.get("controls"), controls)
    if controls:
        content["controls"] = controls
    if design is not None:
        content["design"] = dict(design)
    atomic_write_json(directory / "sweep.json", content)
    return directory


def is_strict(directory: Path) -> bool:
    """Tell whether the command of a sweep asked to leave out what may not be compared."""
    return load_object(directory / "sweep.json").get("strict") is True


def grown(before: Any, controls: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the controls of a named sweep with those of a further command."""
    merged = dict(before) if isinstance(before, dict) else {}
    for key, control in controls.items():
        signatures = [*sequence(merged, key, "signatures"), *control["signatures"]]
        merged[key] = {**control, "signatures": list(dict.fromkeys(signatures))}
    return merged


def digest(words: Iterable[str]) -> str:
    """Return a hash of words in any order, hex."""
    return hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
