"""Latency of a sweep's variants, measured together after the training, in processes of their own."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ablate.console import print_line
from ablate.data.plain_paths import plain_path
from ablate.errors import ConfigError
from ablate.latency.latency_settings import Setting, asked, settings_of
from ablate.latency.percentiles import INTERVAL, ORDER, setting_figures
from ablate.launching.jobs import Observer
from ablate.launching.local import run_in_worker
from ablate.records.latency_record import (
    LatencyProtocol,
    LatencyReport,
    LatencyRequest,
    SettingLatency,
    VariantLatency,
)
from ablate.records.loading import load_sweep, save_latency
from ablate.records.records import value
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import FINISHED, TrialRecord
from ablate.sources.module_source import module_source
from ablate.storage.layout import BEST

if TYPE_CHECKING:
    from ablate.analysis.variants import Variant

LEAST = 10  # rounds that a process must measure to be worth its start
PLAN = ("rounds", "warmup", "warmup_max", "threads")

logger = logging.getLogger(__name__)


def measure_sweep(
    directory: Path, settings: Mapping[str, Any], console: Console, *, again: bool = False
) -> LatencyReport | None:
    """Measure every finished variant of a sweep, interleaved; write `latency.json`.

    Args:
        directory: The sweep's folder.
        settings: A trial's configuration; `latency` is used, and `device` where `again` is asked for and it names one.
        console: Where to say what is done.
        again: Measure although the same has been measured; then a failure is an error, not a remark.

    Returns:
        What was written, or None where nothing was measured.

    Raises:
        ConfigError: With `again`: the measurement failed, or was refused; one line says why.
    """
    sweep = load_sweep(directory)
    chosen = _first_of_each_variant(sweep)
    if not chosen:
        for line in _left_out(sweep, chosen):
            print_line(console, f"latency: {line}", "yellow")
        return None
    latency = settings["latency"]
    device = _torch_device(_device_of(chosen, str(settings.get("device") or "auto") if again else "auto"))
    wanted = asked(latency, device)
    if not again and _is_measured(sweep, chosen, wanted):
        logger.info("latency: reused, the same checkpoints were measured in the same way")
        return None
    print_line(console, f"latency of {len(chosen)} variants, interleaved")
    payload = {
        "networks": {
            key: {
                "checkpoint": str(_checkpoint(sweep, record)),
                "signature": record.signature,
                "imgsz": record.realised.imgsz,
                "head": _head(record, latency["head"]),
            }
            for key, record in chosen.items()
        },
        "settings": [setting.plain() for setting in settings_of(latency)],
        "plan": {**{name: latency[name] for name in PLAN}, "device": device, "pictures": _pictures(sweep, chosen)},
        "busy": latency["busy"],
    }
    measured, failure = _in_processes(payload, latency, console)
    if failure:
        if again:
            raise ConfigError(f"latency was not measured: {failure}")
        print_line(console, f"latency was not measured: {failure}", "yellow")
        return None
    report = _report(sweep, chosen, measured, latency, wanted)
    for flag in report.flags:
        print_line(console, f"latency: {flag}", "yellow")
    save_latency(sweep.folder, report)
    return report


def _in_processes(
    payload: Mapping[str, Any], latency: Mapping[str, Any], console: Console
) -> tuple[list[dict[str, Any]], str]:
    """Measure in one new process after the other, each its share of the rounds.

    Where a process puts its weights and how its kernels are laid out in memory is luck that lasts as long as the
    process: a second one draws again.

    Returns:
        What each measured, and in words what failed.
    """
    count = max(min(int(latency["processes"]), int(latency["rounds"]) // LEAST), 1)
    rounds = -(-int(latency["rounds"]) // count)
    measured = []
    with tempfile.TemporaryDirectory(prefix="ablate-latency-") as folder, _Bar(console, count) as bar:
        for number in range(count):
            path = Path(folder) / f"{number}.json"
            plan = {**payload["plan"], "rounds": rounds, "seed": number}
            job = {**payload, "plan": plan, "progress": str(path)}
            observer = Observer(poll=lambda index, number=number, path=path: bar.show(number, path))  # type: ignore[misc]
            outcome = run_in_worker("ablate.latency.worker:measure_checkpoints", [job], observer)[0]
            if outcome.failure:
                return [], outcome.message.removeprefix("ConfigError: ")
            measured.append(outcome.result)
    return measured, ""


def _report(
    sweep: Sweep,
    chosen: Mapping[str, TrialRecord],
    measured: Sequence[Mapping[str, Any]],
    latency: Mapping[str, Any],
    wanted: LatencyRequest,
) -> LatencyReport:
    """Return what `latency.json` holds."""
    shown = _as_reported(sweep)
    labels = {key: shown[key][0].label for key in chosen}
    baseline = {key: base.key if base and base.key in chosen else None for key in chosen for base in [shown[key][1]]}
    facts = dict(measured[0]["facts"])
    if len(measured) > 1:
        for name in [name for name in facts if name.endswith(("_before", "_during", "_after"))]:
            facts[name] = [process["facts"][name] for process in measured]
    flags = _worst([flag for process in measured for flag in process["flags"]])
    flags += _left_out(sweep, chosen)
    settings = []
    for index, setting in enumerate(settings_of(latency)):
        here = [process["settings"][index] for process in measured]
        rows = setting_figures(here, baseline)
        variants = tuple(
            msgspec.structs.replace(rows[key], variant=labels[key], signature=record.signature)
            for key, record in chosen.items()
        )
        protocol = LatencyProtocol(
            {
                **facts,
                **setting.plain(),
                **here[0]["facts"],
                "warmup": [process["facts"]["warmup"] for process in here],
                "warmed_up": _all([process["facts"]["warmed_up"] for process in here]),
                "rounds": sum(_rounds(process) for process in here),
                "processes": len(here),
                "order": ORDER,
                "interval": INTERVAL,
            }
        )
        settings.append(
            SettingLatency(
                batch=setting.batch,
                precision=setting.precision,
                backend=setting.backend,
                scope=setting.scope,
                protocol=protocol,
                variants=variants,
            )
        )
        flags += _flags(setting, here, variants, labels, str(wanted.device))
    return LatencyReport(
        protocol=settings[0].protocol,
        variants=settings[0].variants,
        settings=tuple(settings),
        flags=tuple(flags),
        asked=wanted,
    )


def _worst(flags: Sequence[str]) -> list[str]:
    """Return flags that differ in their numbers alone once: that with the largest, and how many there were."""
    alike: dict[str, list[str]] = {}
    for flag in flags:
        alike.setdefault(re.sub(r"\d+", "#", flag), []).append(flag)
    worst = [
        max(found, key=lambda flag: [int(number) for number in re.findall(r"\d+", flag)]) for found in alike.values()
    ]
    counts = [f" (the worst of {len(found)} processes)" if len(found) > 1 else "" for found in alike.values()]
    return [flag + count for flag, count in zip(worst, counts, strict=True)]


def _flags(
    setting: Setting,
    processes: Sequence[Mapping[str, Any]],
    variants: Sequence[VariantLatency],
    labels: Mapping[str, str],
    device: str,
) -> list[str]:
    """Return in words what is wrong with one setting's numbers."""
    flags = []
    unsteady = dict.fromkeys(key for process in processes for key in process["unsteady"])
    if unsteady:
        names = ", ".join(labels[key] for key in unsteady)
        flags.append(f"{setting}: still changing when warm-up ended: {names}")
    flags += [f"{setting}: {entry.variant} has no latency: {entry.reason}" for entry in variants if entry.reason]
    if setting.precision == "fp16" and device == "cpu":
        flags.append(f"{setting}: processors lack fast kernels for fp16, so this says nothing of fp16 on a GPU")
    return flags


def _rounds(process: Mapping[str, Any]) -> int:
    return max((len(found["parts"]) for found in process["networks"].values()), default=0)


def _all(found: Sequence[bool | None]) -> bool | None:
    """Return whether all of them are true; None where one is not known."""
    return None if None in found else all(found)


def _finished(sweep: Sweep) -> list[TrialRecord]:
    return [trial for trial in sweep.trials if isinstance(trial, TrialRecord) and trial.status == FINISHED]


def _first_of_each_variant(sweep: Sweep) -> dict[str, TrialRecord]:
    """Return by variant key the finished record whose checkpoint stands for the variant."""
    from ablate.analysis.variants import variant_key

    chosen: dict[str, TrialRecord] = {}
    for record in _finished(sweep):
        if _unfit(sweep, record) is None:
            chosen.setdefault(variant_key(record), record)
    return chosen


def _left_out(sweep: Sweep, chosen: Mapping[str, TrialRecord]) -> list[str]:
    """Return in words which variants have a finished trial, but none that can be measured, and why."""
    from ablate.analysis.variants import variant_key

    shown = _as_reported(sweep)
    finished = {variant_key(record): record for record in reversed(_finished(sweep))}
    left = [(key, record) for key, record in reversed(finished.items()) if key not in chosen]
    return [f"{shown[key][0].label} was not measured: {_unfit(sweep, record)}" for key, record in left]


def _unfit(sweep: Sweep, record: TrialRecord) -> str | None:
    """Return why a finished record cannot stand for its variant; None where it can."""
    from ablate.analysis.measurements import status
    from ablate.analysis.variants import is_measured

    if not is_measured(record):
        return status(record)
    if record.realised.imgsz is None or not record.realised.device:
        return "its record lacks the image size or the device"
    if not _checkpoint(sweep, record).is_file():
        return "its checkpoint is not there"
    return _edited_since(record)


def _edited_since(record: TrialRecord) -> str | None:
    """Return why a checkpoint would run other code than was trained; None where it would not, or nobody can say."""
    for target, trained in record.inputs.sources.items() if record.inputs else ():
        try:
            source = module_source(target).sha256
        except ConfigError as error:
            return str(error).removeprefix("module._target_: ")
        if source != trained:
            return f"the source of {target} was edited after it was trained"
    return None


def _checkpoint(sweep: Sweep, record: TrialRecord) -> Path:
    return plain_path(sweep.folder.trial(record.signature).path / (record.artifacts.best or BEST))


def _pictures(sweep: Sweep, chosen: Mapping[str, TrialRecord]) -> list[str]:
    """Return the sample images that the first trial that has some was shown; all variants get the same."""
    for record in chosen.values():
        folder = sweep.folder.trial(record.signature).path
        images = [folder / sample.image for sample in record.samples]
        if pictures := [str(image) for image in images if image.is_file()]:
            return pictures
    return []


def _head(record: TrialRecord, head: str) -> str:
    """Return the branch to measure: by default the one that the trial's accuracy was measured with."""
    if head != "validated":
        return head
    return "one_to_one" if value(record.config, "train", "nms") is False else "one_to_many"


def _is_measured(sweep: Sweep, chosen: Mapping[str, TrialRecord], wanted: LatencyRequest) -> bool:
    """Tell whether the same checkpoints were measured in the same way."""
    if sweep.latency is None or sweep.latency.asked != wanted:
        return False
    return {entry.signature for entry in sweep.latency.variants} == {record.signature for record in chosen.values()}


def _as_reported(sweep: Sweep) -> dict[str, tuple[Variant, Variant | None]]:
    """Return by key each variant as the reports name it, and what they compare it with.

    What is a control, and a variant for itself too, counts as the latter.
    """
    from ablate.analysis.pairing import comparison_groups
    from ablate.analysis.variants import variants_of

    groups = comparison_groups(variants_of(sweep))
    members = [(variant, group.baseline) for group in groups for variant in group.members]
    members.sort(key=lambda member: member[0].control is None)
    return {variant.key: (variant, baseline) for variant, baseline in members}


def _device_of(chosen: Mapping[str, TrialRecord], device: str) -> str:
    return str(next(iter(chosen.values())).realised.device) if device == "auto" else device


def _torch_device(device: str) -> str:
    return "cpu" if device == "cpu" else f"cuda:{device.removeprefix('cuda:').split(',')[0]}"


class _Bar:
    """Progress of worker processes, which write it to files; nothing where there is no terminal."""

    def __init__(self, console: Console, processes: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("latency: starting", total=processes)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, number: int, path: Path) -> None:
        """Show how far the process of this number is."""
        with suppress(OSError, ValueError, TypeError, KeyError, ZeroDivisionError):
            found = json.loads(path.read_text(encoding="utf-8"))
            share = found["done"] / found["total"]
            self._progress.update(self._task, description=f"latency: {found['what']}", completed=number + share)
