"""Latency of a sweep's variants, measured together after the training, in processes of their own."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from ablate.console import print_line
from ablate.data.plain_paths import plain_path
from ablate.errors import ConfigError
from ablate.latency.latency_settings import latency_request, settings_of
from ablate.latency.measurement_job import (
    Checkpoint,
    MeasurementJob,
    MeasurementOptions,
    ProcessTimes,
    SettingTimes,
)
from ablate.latency.percentiles import INTERVAL, ORDER, variant_latencies
from ablate.latency.processes import in_processes
from ablate.records.json_struct import JsonValue
from ablate.records.latency_record import (
    LatencyProtocol,
    LatencyReport,
    LatencyRequest,
    SettingLatency,
    VariantLatency,
)
from ablate.records.loading import load_sweep, save_latency
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import FINISHED, TrialRecord
from ablate.settings.schema import LatencySettings
from ablate.sources.module_source import module_source
from ablate.storage.confined import inside
from ablate.storage.layout import BEST

if TYPE_CHECKING:
    from ablate.analysis.variants import Variant

MEASURE = "ablate.latency.worker:measure_checkpoints"

logger = logging.getLogger(__name__)


def measure_sweep(
    directory: Path,
    latency: LatencySettings,
    console: Console,
    *,
    device: str = "auto",
    again: bool = False,
    trust: bool = False,
    named: Collection[str] = (),
) -> LatencyReport | None:
    """Measure every finished variant of a sweep, interleaved; write `latency.json`.

    Args:
        directory: The sweep's folder.
        latency: What to measure, and how long.
        console: Where to print what is done.
        device: Where to measure; auto: the device of the trials.
        again: Measure although the same has been measured; then a failure is an error, not a remark.
        trust: Whether checkpoints may name what is no part of a network.
        named: Modules that the user's command names; functions among them may be called whatever they are.

    Returns:
        The content of `latency.json`, or None where nothing was measured.

    Raises:
        ConfigError: With `again`: the measurement failed, or was refused; one line gives the reason.
    """
    sweep = load_sweep(directory)
    chosen = _first_of_each_variant(sweep)
    if not chosen:
        for line in _left_out(sweep, chosen):
            print_line(console, f"latency: {line}", "yellow")
        return None
    torch_device = _torch_device(str(next(iter(chosen.values())).realised.device) if device == "auto" else device)
    request = latency_request(latency, torch_device)
    if not again and _is_measured(sweep, chosen, request):
        logger.info("latency: reused, the same checkpoints were measured in the same way")
        return None
    print_line(console, f"latency of {len(chosen)} variants, interleaved")
    checkpoints = {key: _checkpoint(sweep, record, latency.head, trust, named) for key, record in chosen.items()}
    options = MeasurementOptions(
        device=torch_device,
        rounds=latency.rounds,
        warmup=latency.warmup,
        warmup_max=latency.warmup_max,
        threads=latency.threads,
        pictures=tuple(_pictures(sweep, chosen)),
    )
    job = MeasurementJob(checkpoints, tuple(settings_of(latency)), options, refuse_busy=latency.busy == "refuse")
    processes, failure = in_processes(MEASURE, job, latency.processes, console)
    if failure:
        logger.warning("latency was not measured: %s", failure)
        if again:
            raise ConfigError(f"latency was not measured: {failure}")
        print_line(console, f"latency was not measured: {failure}", "yellow")
        return None
    report = _report(sweep, chosen, processes, request)
    for flag in report.flags:
        print_line(console, f"latency: {flag}", "yellow")
    save_latency(sweep.folder, report)
    return report


def _report(
    sweep: Sweep,
    chosen: Mapping[str, TrialRecord],
    processes: Sequence[ProcessTimes],
    request: LatencyRequest,
) -> LatencyReport:
    """Return the content of `latency.json`."""
    reported = _as_reported(sweep)
    labels = {key: reported[key][0].label for key in chosen}
    baseline = {key: base.key if base and base.key in chosen else None for key in chosen for base in [reported[key][1]]}
    facts = _facts(processes)
    flags = ["measured in one process: there are no intervals"] if len(processes) == 1 else []
    flags += worst([flag for process in processes for flag in process.flags])
    flags += _left_out(sweep, chosen)
    settings = []
    for times in zip(*(process.settings for process in processes), strict=True):
        setting, rows = times[0].setting, variant_latencies(times, baseline)
        variants = tuple(
            msgspec.structs.replace(rows[key], variant=labels[key], signature=record.signature)
            for key, record in chosen.items()
        )
        settings.append(SettingLatency(**asdict(setting), protocol=_protocol(facts, times), variants=variants))
        flags += _flags(times, variants, labels, str(request.device))
    return LatencyReport(
        protocol=settings[0].protocol,
        variants=settings[0].variants,
        settings=tuple(settings),
        flags=tuple(flags),
        asked=request,
        under_load=any(process.flags for process in processes),
    )


def _facts(processes: Sequence[ProcessTimes]) -> dict[str, JsonValue]:
    """Return the facts of all processes; where there are several, what changes while measuring has a value for each."""
    facts: dict[str, JsonValue] = {**processes[0].facts}
    if len(processes) > 1:
        for name in [name for name in facts if name.endswith(("_before", "_during", "_after"))]:
            facts[name] = [process.facts[name] for process in processes]
    return facts


def _protocol(facts: Mapping[str, JsonValue], times: Sequence[SettingTimes]) -> LatencyProtocol:
    """Return the protocol of one setting, given what each process measured in it."""
    first, warmed_up = times[0], [process.warmed_up for process in times]
    return LatencyProtocol(
        {
            **facts,
            **asdict(first.setting),
            "imgsz": first.imgsz if isinstance(first.imgsz, int) else [*first.imgsz],
            "warmup": [process.warmup for process in times],
            "warmed_up": None if None in warmed_up else all(warmed_up),
            "clock": first.clock,
            "memory_format": first.memory_format,
            "pictures": first.pictures,
            "rounds": sum(process.rounds for process in times),
            "processes": len(times),
            "order": ORDER,
            "interval": INTERVAL,
        }
    )


def worst(flags: Sequence[str]) -> list[str]:
    """Return flags that differ in their numbers alone once: that with the largest, and how many there were."""
    alike: dict[str, list[str]] = {}
    for flag in flags:
        alike.setdefault(re.sub(r"\d+", "#", flag), []).append(flag)
    worst = []
    for group in alike.values():
        count = f", the worst of {len(group)} processes" if len(group) > 1 else ""
        worst.append(max(group, key=lambda flag: [int(number) for number in re.findall(r"\d+", flag)]) + count)
    return worst


def _flags(
    times: Sequence[SettingTimes], variants: Sequence[VariantLatency], labels: Mapping[str, str], device: str
) -> list[str]:
    """Return one line for each thing that is wrong with one setting's numbers."""
    setting, flags = times[0].setting, []
    unsteady = dict.fromkeys(key for process in times for key in process.unsteady)
    if unsteady:
        names = ", ".join(labels[key] for key in unsteady)
        flags.append(f"{setting}: still changing when warm-up ended: {names}")
    flags += [f"{setting}: {entry.variant} has no latency: {entry.reason}" for entry in variants if entry.reason]
    if setting.precision == "fp16" and device == "cpu":
        flags.append(f"{setting}: processors lack fast kernels for fp16, so this says nothing of fp16 on a GPU")
    return flags


def _finished(sweep: Sweep) -> list[TrialRecord]:
    return [trial for trial in sweep.trials if isinstance(trial, TrialRecord) and trial.status == FINISHED]


def _first_of_each_variant(sweep: Sweep) -> dict[str, TrialRecord]:
    """Return by variant key the finished record whose checkpoint represents the variant."""
    from ablate.analysis.variants import variant_key

    chosen: dict[str, TrialRecord] = {}
    for record in _finished(sweep):
        if _unfit(sweep, record) is None:
            chosen.setdefault(variant_key(record), record)
    return chosen


def _left_out(sweep: Sweep, chosen: Mapping[str, TrialRecord]) -> list[str]:
    """Return a line for each variant that has a finished trial, but none that can be measured, with the reason."""
    from ablate.analysis.variants import variant_key

    shown = _as_reported(sweep)
    finished = {variant_key(record): record for record in reversed(_finished(sweep))}
    left = [(key, record) for key, record in reversed(finished.items()) if key not in chosen]
    return [f"{shown[key][0].label} was not measured: {_unfit(sweep, record)}" for key, record in left]


def _unfit(sweep: Sweep, record: TrialRecord) -> str | None:
    """Return why a finished record cannot represent its variant; None where it can."""
    from ablate.analysis.measurements import status
    from ablate.analysis.variants import is_measured
    from ablate.settings.metric import MAP50_95

    if not is_measured(record, MAP50_95):
        return status(record, MAP50_95)
    if record.realised.imgsz is None or not record.realised.device:
        return "its record lacks the image size or the device"
    if (path := _path(sweep, record)) is None or not path.is_file():
        return "its checkpoint is not there" if path else "its checkpoint is not in its own folder"
    return edited_since(record)


def edited_since(record: TrialRecord) -> str | None:
    """Return why a checkpoint would run other code than was trained; None where it would not, or that is not known."""
    for target, trained in record.inputs.sources.items() if record.inputs else ():
        try:
            source = module_source(target).sha256
        except ConfigError as error:
            return str(error).removeprefix("module._target_: ")
        if source != trained:
            return f"the source of {target} was edited after it was trained"
    return None


def _checkpoint(sweep: Sweep, record: TrialRecord, head: str, trust: bool, named: Collection[str]) -> Checkpoint:
    """Return what a worker measures of a record that `_unfit` has no objection to."""
    assert record.realised.imgsz is not None
    setting = str(record.setting("module", "_target_"))
    targets = tuple(record.inputs.sources) if record.inputs else (setting,)
    return Checkpoint(
        str(_path(sweep, record)),
        record.realised.imgsz,
        _head(record, head),
        record.signature,
        targets=targets,
        trust=trust,
        named=set(targets) <= set(named),
    )


def _path(sweep: Sweep, record: TrialRecord) -> Path | None:
    """Return the path of a record's checkpoint; None where it leads out of the trial's folder."""
    path = inside(sweep.folder.trial(record.signature).path, record.artifacts.best or BEST)
    return None if path is None else plain_path(path)


def _pictures(sweep: Sweep, chosen: Mapping[str, TrialRecord]) -> list[str]:
    """Return the sample images that the first trial that has some was shown; all variants get the same."""
    for record in chosen.values():
        folder = sweep.folder.trial(record.signature).path
        images = [inside(folder, sample.image) for sample in record.samples]
        if pictures := [str(image) for image in images if image is not None and image.is_file()]:
            return pictures
    return []


def _head(record: TrialRecord, head: str) -> str:
    """Return the branch to measure: by default the one that the trial's accuracy was measured with."""
    if head != "validated":
        return head
    return "one_to_one" if record.setting("train", "nms") is False else "one_to_many"


def _is_measured(sweep: Sweep, chosen: Mapping[str, TrialRecord], request: LatencyRequest) -> bool:
    """Tell whether the same checkpoints were measured in the same way."""
    if sweep.latency is None or sweep.latency.asked != request:
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


def _torch_device(device: str) -> str:
    return "cpu" if device == "cpu" else f"cuda:{device.removeprefix('cuda:').split(',')[0]}"
