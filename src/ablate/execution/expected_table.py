"""How many seeds a plan expects, as lines for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rich.text import Text

from ablate.analysis.number_format import points
from ablate.analysis.phrases import listed
from ablate.errors import count
from ablate.execution.expected_seeds import ENOUGH, MULTIPLES, ExpectedGroup, ExpectedSeeds
from ablate.monitor.render import duration, table
from ablate.records.sweep_record import AnalysisPlan

NAMED = 4  # variants whose records were used


def expected_lines(expected: ExpectedSeeds, width: int | None) -> list[Text]:
    """Return the lines of a plan that say how many seeds and trials it takes, and how long."""
    lines = []
    for group in expected.groups:
        lines += _group(group, expected.plan, width)
    return [*lines, *map(Text, _totals(expected))]


def expected_json(expected: ExpectedSeeds) -> dict[str, Any]:
    """Return the same as JSON: differences and spreads as fractions of mAP, times in seconds."""
    groups = [
        {
            "name": group.name,
            "spread": None if group.found is None else group.found.spread._asdict(),
            "paired": None if group.found is None else group.found.is_paired,
            "from": [] if group.found is None else list(group.found.variants),
            "scenarios": [{"difference": one.difference, **one.expected._asdict()} for one in group.scenarios],
            "suffices": group.suffices,
            "seeds_then": group.seeds_then,
        }
        for group in expected.groups
    ]
    return {
        "groups": groups,
        "trials": None if expected.trials is None else expected.trials._asdict(),
        "done": expected.done,
        "seconds": expected.seconds,
        "devices": list(expected.devices),
        "budget": expected.plan.budget,
        "spent": expected.spent,
    }


def _group(group: ExpectedGroup, plan: AnalysisPlan, width: int | None) -> list[Text]:
    """The table of one baseline, or why there is none."""
    what = f"until=decided, {group.name}" if group.name else "until=decided"
    found = group.found
    if found is None:
        return [
            Text(
                f"{what}: how many seeds it takes is not known: no finished trials on disk have the same data, model, "
                "optimizer and training, and enough seeds; module=none 'seed=range(0,3)' would tell"
            )
        ]
    spread = found.spread
    source = f"{spread.differences} {'paired differences' if found.is_paired else 'accuracies'}"
    unpaired = "" if found.is_paired else ", as if seeds were not paired"
    lines = [
        Text(
            f"{what}: standard deviation of differences {points(spread.std, signed=False)} points, at most "
            f"{points(spread.upper, signed=False)} (80% bound{unpaired}, which is used here), from {source} of "
            f"{listed(found.variants, NAMED)}"
        )
    ]
    titles = ("true difference", "seeds", f"decided by {plan.max_seeds}")
    rows: list[list[str | Text]] = [
        [
            f"{points(one.difference, signed=False)} points{_meaning(times, plan)}",
            f"{one.expected.seeds:.1f}",
            f"{one.expected.decided:.0%}",
        ]
        for times, one in zip(MULTIPLES, group.scenarios, strict=True)
    ]
    lines += [Text("  ") + line for line in table(titles, rows, None if width is None else width - 2, right=titles[1:])]
    if group.suffices != plan.max_seeds:
        which = "with twice the bound" if plan.delta is None else "without a difference and with twice the margin"
        now = fmean(one.expected.seeds for one in group.scenarios)
        costs = (
            "" if group.seeds_then is None else f", for {group.seeds_then:.1f} seeds on average instead of {now:.1f}"
        )
        most = f"max_seeds={group.suffices}" if group.suffices else "not even max_seeds=50"
        lines.append(Text(f"  {most} decides {ENOUGH:.0%} of variants {which}{costs}"))
    return lines


def _meaning(times: float, plan: AnalysisPlan) -> str:
    unit = "the bound" if plan.delta is None else "the margin"
    return {0.0: "", 1.0: f" ({unit})"}.get(times, f" ({times:g} times {unit})")


def _totals(expected: ExpectedSeeds) -> list[str]:
    """Trials of the whole sweep, and their time against the budget."""
    trials = expected.trials
    if trials is None:
        return []
    done = f", of which {expected.done} are done" if expected.done else ""
    line = (
        f"about {count(trials.likely, 'trial')} in all ({trials.low} to {trials.high} in 80% of sweeps whose true "
        f"differences are those, equally often){done}"
    )
    if expected.seconds is None or not expected.seconds[2]:
        return [line]
    return [line, _time(expected.seconds, expected)]


def _time(seconds: Sequence[float], expected: ExpectedSeeds) -> str:
    low, likely, high = seconds
    slots = f"{expected.slots} at a time" if expected.slots > 1 else "one at a time"
    where = f" on {listed(expected.devices, 2)}" if expected.devices else ""
    words = (
        f"about {duration(likely)} ({duration(low)} to {duration(high)}) {slots}, by the time of the recorded "
        f"trials{where}"
    )
    if expected.plan.budget is None:
        return words
    left = expected.plan.budget - expected.spent
    verdict = "is enough" if high <= left else "may be too short" if likely <= left else "is probably too short"
    return f"{words}; the budget of {duration(expected.plan.budget)}{_spent(expected)} {verdict}"


def _spent(expected: ExpectedSeeds) -> str:
    return f", {duration(expected.spent)} of it spent," if expected.spent else ""
