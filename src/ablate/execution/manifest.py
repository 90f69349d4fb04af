"""The folder of a sweep: its name, and the manifest that says which trials it consists of."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ablate.records.factor_levels import STOCK
from ablate.records.loading import load_manifest, save_manifest
from ablate.records.store_address import without_account
from ablate.records.sweep_record import AnalysisPlan, Control, Design, SweepManifest
from ablate.redaction import without_secrets
from ablate.storage.confined import refuse_links
from ablate.storage.layout import OutputFolder, SweepFolder
from ablate.study.trial import Trial


def sweep_name(trials: Sequence[Trial], joined: Collection[str] = ()) -> str:
    """Return the name of a sweep's folder: its factors, and a hash of its trials; the same for the same command.

    Args:
        trials: All trials of the sweep.
        joined: Signatures of those that joined as controls, whose factors the name leaves out.
    """
    levels: dict[str, list[str]] = {}
    for trial in [trial for trial in trials if trial.identity.signature not in joined] or trials:
        for factor, level in trial.identity.factors.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    grafted = dict.fromkeys(name for level in levels["module"] for name in level.split("+") if name != "none")
    changed = [level for factor in STOCK for level in levels.get(factor, [])]  # losses and heads
    modules = [*grafted, *changed] or ["baseline"]
    parts = ((modules, 48), (levels["data"], 24), (levels["model"], 24))
    readable = "_".join("+".join(names)[:most].encode()[: 2 * most].decode(errors="ignore") for names, most in parts)
    readable = re.sub(r"[^\w.+@=-]+", "_", readable)  # a data file may have any name
    return f"{readable}_{digest(trial.identity.signature for trial in trials)[:6]}"


def open_sweep(
    trials: Sequence[Trial],
    command: Sequence[str],
    design: Design | None = None,
    controls: Mapping[str, Control] | None = None,
    ignored: list[str] | None = None,
) -> SweepFolder:
    """Write the manifest of a sweep; return the sweep's folder.

    Args:
        trials: All trials of the sweep.
        command: The command line's words; `retry=` is left out, because it is meant once, and so are user and password
            of addresses, because a manifest is not secret.
        design: Of components, where there is one (see `ablate.study.designs`).
        controls: By variant key (see `ablate.study.control_trials`).
        ignored: Takes in words what of an earlier manifest could not be read.

    Raises:
        ConfigError: The folder, or its log, is a link.
    """
    settings = trials[0].settings.command
    tracking = settings.tracking
    controls = controls or {}
    name = settings.sweep or sweep_name(trials, {s for control in controls.values() for s in control.signatures})
    folder = OutputFolder(Path(settings.root).absolute()).sweep(name)
    refuse_links([folder.path, folder.driver_log])
    earlier = load_manifest(folder, ignored) if folder.manifest.is_file() else SweepManifest(signatures=())
    before = earlier.signatures if settings.sweep else ()  # a named sweep grows with each command
    signatures = tuple(dict.fromkeys([*before, *(trial.identity.signature for trial in trials)]))
    words = [
        without_account(word) if word.lstrip("+").startswith("tracking") else without_secrets(word)
        for word in command
        if not word.startswith("retry=")
    ]
    manifest = SweepManifest(
        name=name,
        command=f"python -m ablate {shlex.join(words)}",
        signatures=signatures,
        names={**earlier.names, **{t.identity.signature: t.identity.name for t in trials}},
        created=earlier.created or datetime.now(UTC).isoformat(timespec="seconds"),
        tracking=asdict(replace(tracking, uri=tracking.uri and without_account(tracking.uri))),
        latency=asdict(settings.latency),
        strict=settings.strict,
        mlflow_run_id=earlier.mlflow_run_id,
        controls=_merged(earlier.controls, controls) if settings.sweep else dict(controls),
        design=design,
        analysis=AnalysisPlan(metric=settings.metric, delta=settings.delta, judge=settings.judge),
    )
    save_manifest(folder, manifest)
    return folder


def _merged(before: Mapping[str, Control], controls: Mapping[str, Control]) -> dict[str, Control]:
    """Return the controls of a named sweep with those of a further command."""
    merged = dict(before)
    for key, control in controls.items():
        earlier = before[key].signatures if key in before else ()
        signatures = tuple(dict.fromkeys([*earlier, *control.signatures]))
        merged[key] = msgspec.structs.replace(control, signatures=signatures)
    return merged


def digest(words: Iterable[str]) -> str:
    """Return a hash of words in any order, hex."""
    return hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
