"""What a command would do and what that would cost, without doing it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablate.execution.plan_table import print_plan
from ablate.execution.reconcile import Reconciled, reconcile
from ablate.execution.scheduler import Launch
from ablate.launching.devices import Slot
from ablate.preflight.estimate import disk, finish_seconds, trial_seconds
from ablate.preflight.memory_probe import probe_variants
from ablate.preflight.networks import contract_notes, preflight
from ablate.preflight.throughput import share_cores
from ablate.study.trial import Trial, data_warnings

DEVICES = (1, 2, 4, 8)  # numbers of trials at a time for which the finish is told

Content = dict[str, Any]


def show_plan(trials: Sequence[Trial], *, as_json: bool = False, **options: Any) -> int:
    """Print the plan of a command; return the exit code.

    Args:
        trials: All that is asked for, in the order in which they are to run.
        as_json: Print `make_plan`'s content as JSON to stdout.
        options: Those of `make_plan`.

    Raises:
        ConfigError: A network of the plan cannot be built.
    """
    content = make_plan(trials, **options)
    if as_json:
        print(json.dumps(content))  # noqa: T201
    else:
        print_plan(content)
    return 0


def make_plan(
    trials: Sequence[Trial],
    *,
    probe: bool | None = None,
    slots: int = 1,
    local: Sequence[Slot] = (),
    launch: Launch | None = None,
    left_out: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    controls: Mapping[str, Mapping[str, Any]] | None = None,
) -> Content:
    """Return what a command would do: plain values, all of it. Nothing is started, and only caches are written.

    Args:
        trials: All that is asked for, in the order in which they are to run.
        probe: Whether to measure a few steps of each variant that is to run; None: as the first trial says.
        slots: How many trials run at a time, where there is no `launch`.
        local: The slots of this machine, if the trials run here and there is no `launch`.
        launch: Where the trials will run.
        left_out: Trials that were left out, by name, with the reason.
        notes: What the user should know of his own words.
        controls: By variant key what it is a control of (see `ablate.study.control_trials`).

    Raises:
        ConfigError: A network of the plan cannot be built.
    """
    kinds = {key: str(control["kind"]) for key, control in (controls or {}).items() if control["signatures"]}
    found = reconcile(trials)
    costs = preflight(found.trials, with_cost=True).answers
    jobs = {job.trial.identity.signature: job for job in found.jobs}
    running = [job.trial for job in found.jobs]
    probing = bool(trials[0].config["probe"]) if probe is None else probe
    sharing = None
    if launch is not None:
        sharing, device = share_cores(running, launch, measuring=probing), str(trials[0].config["device"])
        slots, local = launch.slots(device), launch.local_slots(device)
    probes = probe_variants(running, local).found if probing and running else {}
    states = found.states
    rows = []
    for trial in found.trials:
        key, signature = trial.identity.variant_key, trial.identity.signature
        row = _row(trial, costs[key], states[signature]) | {"control": kinds.get(key)}
        if signature in jobs:
            row |= _expected(trial, probes.get(key), jobs[signature].epochs_done)
        rows.append(row)
    counts = {state: list(states.values()).count(state) for state in ("run", "reuse", "resume", "failed")}
    return {
        "trials": rows,
        "total": len(rows),
        **counts,
        **_times(rows, slots, known=probing or not running),
        **_space(found, costs, probes, slots),
        **_memory(probes, slots, local),
        "sharing": None if sharing is None else asdict(sharing) | {"words": str(sharing)},
        "left_out": [{"trial": name, "reason": reason} for name, reason in left_out],
        "notes": [*notes, *contract_notes(found.trials, costs), *data_warnings(trials)],
    }


def _row(trial: Trial, cost: Mapping[str, Any], state: str) -> Content:
    identity = trial.identity
    return {
        "trial": identity.name,
        "variant": identity.variant,
        "variant_key": identity.variant_key,
        "signature": identity.signature,
        "state": state,
        "factors": identity.factors,
        "seed": identity.seed,
        "epochs": None if trial.config["train"]["time"] else trial.config["train"]["epochs"],  # the clock says how many
        "epochs_done": trial.config["train"]["epochs"] if state == "reuse" else 0,
        "places": [place["place"] for place in cost["places"]],
        "params": cost["params"],
        "gflops": cost["gflops"],
        "gflops_ultralytics": cost["gflops_ultralytics"],
        "weights_transferred": cost["weights"]["transferred"],
        "weights_expected": cost["weights"]["expected"],
        "seconds": None,
        "peak_memory_gb": None,
        "probe_failure": None,
    }


def _expected(trial: Trial, probe: Mapping[str, Any] | None, epochs_done: int) -> Content:
    """Return what a trial that is to run is expected to take."""
    if probe is None:
        return {"epochs_done": epochs_done}
    if "failure" in probe:
        return {"epochs_done": epochs_done, "probe_failure": probe["failure"]}
    seconds = trial_seconds(trial, probe, epochs_done)
    return {"epochs_done": epochs_done, "seconds": seconds, "peak_memory_gb": probe["peak_memory_gb"]}


def _times(rows: Sequence[Content], slots: int, known: bool) -> Content:
    """Return trial-hours and the seconds until all is done; None where nothing was probed."""
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    finish = {str(count): finish_seconds(seconds, count) for count in sorted({*DEVICES, slots})}
    return {
        "slots": slots,
        "trial_hours": sum(seconds) / 3600 if known else None,
        "finish": finish if known else {},
    }


def _space(
    found: Reconciled, costs: Mapping[str, Mapping[str, Any]], probes: Mapping[str, Mapping[str, Any]], slots: int
) -> Content:
    """Return the GB that the trials need when most of them have finished and the last ones run, and what is free."""
    keys = [(job.trial, job.trial.identity.variant_key) for job in found.jobs]
    needs = [disk(trial, costs[key], probes.get(key)) for trial, key in keys]
    more = sorted((need.running - need.final for need in needs), reverse=True)[:slots]
    root = Path(found.trials[0].config["root"]).absolute()
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    needed = sum(need.final for need in needs) + sum(max(extra, 0) for extra in more)
    return {"disk_gb": needed / 1e9, "disk_free_gb": shutil.disk_usage(there).free / 1e9}


def _memory(probes: Mapping[str, Mapping[str, Any]], slots: int, local: Sequence[Slot]) -> Content:
    """Return the GB that trials which share a device take together at most, and what it has."""
    known = [probe for probe in probes.values() if "failure" not in probe]
    devices = [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in local]
    on_cpu = all(probe["device_memory_gb"] is None for probe in known)
    sharing = slots if on_cpu else max((devices.count(device) for device in devices), default=1)
    peaks = [probe["peak_memory_gb"] for probe in known if probe["peak_memory_gb"] is not None]
    sizes = [size for probe in known if (size := probe["device_memory_gb"] or _main_memory_gb()) is not None]
    return {
        "device": next((probe["device_name"] for probe in known), None),
        "memory_gb": max(peaks) * sharing if peaks else None,
        "memory_there_gb": min(sizes, default=None),
    }


def _main_memory_gb() -> float:
    """Return this machine's main memory, or that of the container that we are in."""
    import psutil

    total = float(psutil.virtual_memory().total)
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max": no limit
        limit = total
    return min(total, limit) / 1e9
