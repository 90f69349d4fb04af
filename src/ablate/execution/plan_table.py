"""Print a plan: as JSON, or for people with a row for each variant and what all of them take together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from ablate.analysis.number_format import points
from ablate.console import Terminal, print_line
from ablate.errors import count
from ablate.execution.expected_table import expected_json, expected_lines
from ablate.execution.launch import Launch
from ablate.execution.make_request import Request
from ablate.execution.plan import Plan, PlanRow, make_plan
from ablate.monitor.render import Row, clock, duration, table
from ablate.records.sweep_record import AnalysisPlan

STATES = ("run", "resume", "reuse", "failed")
NAMED = 5  # trials that are named where many were left out for one reason


def show_plan(request: Request, launch: Launch, *, as_json: bool = False) -> int:
    """Print the plan of a command; return the exit code.

    Args:
        request: The trials, in the order in which they are to run.
        launch: Where they will run.
        as_json: Print JSON to stdout.

    Raises:
        ConfigError: A network of the plan cannot be built.
    """
    plan = make_plan(request, launch)
    if as_json:
        print(plan_json(plan))  # noqa: T201
    else:
        print_plan(plan)
    return 0


def plan_json(plan: Plan) -> str:
    """Return a plan as one line of JSON."""
    counts = plan.counts
    content = {
        "trials": [asdict(row) for row in plan.trials],
        "total": len(plan.trials),
        **{state: counts[state] for state in ("run", "reuse", "resume", "failed")},
        "slots": plan.slots,
        "trial_hours": plan.trial_hours,
        "finish": plan.finish,
        "disk_gb": plan.disk.needed,
        "disk_free_gb": plan.disk.free,
        "device": plan.memory.device,
        "memory_gb": plan.memory.needed,
        "memory_there_gb": plan.memory.there,
        "sharing": None if plan.sharing is None else asdict(plan.sharing) | {"words": str(plan.sharing)},
        "left_out": [entry._asdict() for entry in plan.left_out],
        "notes": list(plan.notes),
        "analysis": _analysis_json(plan.analysis),
        "late": [msgspec.structs.asdict(each) for each in plan.late],
        **({} if plan.expected is None else {"expected_seeds": expected_json(plan.expected)}),
    }
    return json.dumps(content)


def print_plan(plan: Plan) -> None:
    """Print a plan for people."""
    console = Terminal()
    width = console.width if console.is_terminal else None
    for line in _variants(plan.trials, width):
        print_line(console, line)
    print_line(console, "")
    for line in [*_totals(plan), _analysis(plan.analysis)]:
        print_line(console, line)
    for line in expected_lines(plan.expected, width) if plan.expected else ():
        print_line(console, line)
    for line in _warnings(plan):
        print_line(console, line, "yellow")


def _analysis(declared: AnalysisPlan) -> str:
    """What the command declares of its analysis, as its words; a margin in points too, as it is easily mistaken."""
    metric, judge, margin, stop = declared.words
    if declared.delta is not None:
        margin += f" ({points(declared.delta, signed=False)} points)"
    budget = [] if declared.budget is None else [f"budget {duration(declared.budget)}"]
    return f"analysis: {', '.join([metric, judge, margin, stop, *budget])}"


def _analysis_json(declared: AnalysisPlan) -> dict[str, Any]:
    """The same as plain values; what only matters where seeds are added is left out elsewhere."""
    content = msgspec.structs.asdict(declared)
    names = content if declared.until else ("metric", "judge", "delta", "until")
    return {name: content[name] for name in names}


def _variants(trials: Sequence[PlanRow], width: int | None) -> list[Any]:
    """Return the table; columns for model and data only where they differ."""
    varying = [name for name in ("model", "data") if len({trial.factors[name] for trial in trials}) > 1]
    groups: dict[str, list[PlanRow]] = {}
    for trial in trials:
        groups.setdefault(trial.variant_key, []).append(trial)
    right = ("places", "kept", "M par.", "GFLOPs", "epochs", "a trial", "GB")
    titles = ("variant", *varying, "trials", "places", "kept", "M par.", "GFLOPs", "epochs", "a trial", "GB")
    rows = [_group(group, varying) for group in groups.values()]
    filled = [index for index in range(len(titles)) if any(row[index] for row in rows)]  # without a probe some are not
    titles, rows = tuple(titles[index] for index in filled), [[row[index] for index in filled] for row in rows]
    return list(table(titles, rows, width, right=right, drop=("places", "kept", "epochs")))


def _group(group: Sequence[PlanRow], varying: Sequence[str]) -> Row:
    first = group[0]
    seconds = [trial.seconds for trial in group if trial.seconds is not None]
    memory = next((trial.peak_memory_gb for trial in group if trial.peak_memory_gb is not None), None)
    failure = next((trial.probe_failure for trial in group if trial.probe_failure), None)
    return [
        first.variant + (f" (control: {first.control})" if first.control and not _is_named(first) else ""),
        *(first.factors[name] for name in varying),
        _counts(Counter(trial.state for trial in group)),
        str(len(first.places)),
        str(first.kept) if first.kept is not None and first.kept.tensors else "",
        f"{first.params / 1e6:.2f}",
        f"{first.gflops:.2f}",
        "by time" if first.epochs is None else str(first.epochs),
        failure.type if failure else duration(max(seconds)) if seconds else "",
        "" if memory is None else f"{memory:.1f}",
    ]


def _is_named(row: PlanRow) -> bool:
    """Whether the name of a control says that it is one."""
    return row.variant.startswith("control: ")


def _totals(plan: Plan) -> list[str]:
    counts = plan.counts
    jobs = counts["run"] + counts["resume"]
    lines = [f"{count(len(plan.trials), 'trial')}: {_counts(counts) or 'none'}"]
    if plan.trial_hours:
        lines.append(f"{_hours(plan.trial_hours)}, measured on {plan.memory.device}")
        for slots, seconds in plan.finish.items():
            if slots > jobs and slots != plan.slots:
                continue
            here = "  <- as configured" if slots == plan.slots else ""
            at_a_time = f"{slots} at a time:"
            lines.append(f"  {at_a_time:<14} finishes {clock(seconds)}, {duration(seconds)} from now{here}")
    if plan.sharing is not None:
        lines.append(str(plan.sharing))
    if jobs:
        lines.append(f"disk: {_gb(plan.disk.needed)} at most, {_gb(plan.disk.free)} free")
    return lines


def _warnings(plan: Plan) -> list[str]:
    lines = []
    if plan.disk.needed > plan.disk.free:
        lines.append(f"the disk is too small: {_gb(plan.disk.needed)} needed, {_gb(plan.disk.free)} free")
    needed, there = plan.memory.needed, plan.memory.there
    if needed is not None and there is not None and needed > there:
        lines.append(f"memory may not suffice: {_gb(needed)} where trials share a device that has {_gb(there)}")
    failures = {row.variant: row.probe_failure for row in plan.trials if row.probe_failure}
    lines += [
        f"{name} fails in its first steps: {failure.type}: {failure.message}" for name, failure in failures.items()
    ]
    if failures:
        lines.append("times and memory are without these")
    reasons: dict[str, list[str]] = {}
    for entry in plan.left_out:
        reasons.setdefault(entry.reason, []).append(entry.trial)
    for reason, names in reasons.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"left out: {', '.join(names[:NAMED])}{more}: {reason}")
    return [*lines, *plan.notes]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))


def _hours(hours: float) -> str:
    return f"{hours:.1f} trial-hours" if hours >= 1 else f"{hours * 60:.1f} trial-minutes"


def _gb(size: float) -> str:
    return f"{size:.0f} GB" if size >= 10 else f"{size:.1f} GB" if size >= 1 else f"{size * 1000:.0f} MB"
