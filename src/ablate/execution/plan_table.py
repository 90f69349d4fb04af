"""A plan for people: a row for each variant, and what all of them take together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ablate.console import print_line
from ablate.monitor.render import Row, clock, duration, table

STATES = ("run", "resume", "reuse", "failed")
NAMED = 5  # trials that are named where many were left out for one reason


def print_plan(content: Mapping[str, Any]) -> None:
    """Print a plan (see `ablate.execution.plan.make_plan`)."""
    console = Console(emoji=False)
    for line in _variants(content["trials"], console.width if console.is_terminal else None):
        print_line(console, line)
    print_line(console, "")
    for line in _totals(content):
        print_line(console, line)
    for line in _warnings(content):
        print_line(console, line, "yellow")


def _variants(trials: Sequence[Mapping[str, Any]], width: int | None) -> list[Any]:
    """Return the table; columns for model and data only where they differ."""
    varying = [name for name in ("model", "data") if len({trial["factors"][name] for trial in trials}) > 1]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        groups.setdefault(trial["variant_key"], []).append(trial)
    right = ("places", "M par.", "GFLOPs", "epochs", "a trial", "GB")
    titles = ("variant", *varying, "trials", "places", "M par.", "GFLOPs", "epochs", "a trial", "GB")
    rows = [_group(group, varying) for group in groups.values()]
    kept = [place for place in range(len(titles)) if any(row[place] for row in rows)]  # without a probe some are empty
    titles, rows = tuple(titles[place] for place in kept), [[row[place] for place in kept] for row in rows]
    return list(table(titles, rows, width, right=right, drop=("places", "epochs")))


def _group(group: Sequence[Mapping[str, Any]], varying: Sequence[str]) -> Row:
    first = group[0]
    seconds = [trial["seconds"] for trial in group if trial["seconds"] is not None]
    memory = next((trial["peak_memory_gb"] for trial in group if trial["peak_memory_gb"] is not None), None)
    failure = next((trial["probe_failure"] for trial in group if trial["probe_failure"]), None)
    time = str(failure["type"]) if failure else duration(max(seconds)) if seconds else ""
    return [
        first["variant"] + (f" (control: {first['control']})" if first["control"] else ""),
        *(first["factors"][name] for name in varying),
        _counts(Counter(trial["state"] for trial in group)),
        str(len(first["places"])),
        f"{first['params'] / 1e6:.2f}",
        f"{first['gflops']:.2f}",
        "by time" if first["epochs"] is None else str(first["epochs"]),
        time,
        "" if memory is None else f"{memory:.1f}",
    ]


def _totals(content: Mapping[str, Any]) -> list[str]:
    words = f"{content['total']} trials: {_counts(content) or 'none'}"
    lines = [words]
    if content["trial_hours"]:
        lines.append(f"{_hours(content['trial_hours'])}, measured on {content['device']}")
        jobs = content["run"] + content["resume"]
        for count, seconds in content["finish"].items():
            if int(count) > jobs and int(count) != content["slots"]:
                continue
            here = "  <- as configured" if int(count) == content["slots"] else ""
            at_a_time = f"{count} at a time:"
            lines.append(f"  {at_a_time:<14} finishes {clock(seconds)}, {duration(seconds)} from now{here}")
    if content.get("sharing"):
        lines.append(content["sharing"]["words"])
    if content["run"] or content["resume"]:
        lines.append(f"disk: {_gb(content['disk_gb'])} at most, {_gb(content['disk_free_gb'])} free")
    return lines


def _warnings(content: Mapping[str, Any]) -> list[str]:
    lines = []
    if content["disk_gb"] > content["disk_free_gb"]:
        lines.append(f"the disk is too small: {_gb(content['disk_gb'])} needed, {_gb(content['disk_free_gb'])} free")
    memory, there = content["memory_gb"], content["memory_there_gb"]
    if memory is not None and there is not None and memory > there:
        lines.append(f"memory may not suffice: {_gb(memory)} where trials share a device that has {_gb(there)}")
    failures = {trial["variant"]: trial["probe_failure"] for trial in content["trials"] if trial["probe_failure"]}
    lines += [f"{name} fails in its first steps: {f['type']}: {f['message']}" for name, f in failures.items()]
    if failures:
        lines.append("times and memory are without these")
    reasons: dict[str, list[str]] = {}
    for entry in content["left_out"]:
        reasons.setdefault(entry["reason"], []).append(entry["trial"])
    for reason, names in reasons.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"left out: {', '.join(names[:NAMED])}{more}: {reason}")
    return [*lines, *content["notes"]]


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))


def _hours(hours: float) -> str:
    return f"{hours:.1f} trial-hours" if hours >= 1 else f"{hours * 60:.1f} trial-minutes"


def _gb(size: float) -> str:
    return f"{size:.0f} GB" if size >= 10 else f"{size:.1f} GB" if size >= 1 else f"{size * 1000:.0f} MB"
