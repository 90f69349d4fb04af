"""How many seeds a sweep with `until=decided` will probably take, from the spread of records on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean, median

from ablate.analysis.spread_on_disk import SpreadOnDisk, spread_on_disk
from ablate.execution.make_request import Request
from ablate.execution.manifest import sweep_folder
from ablate.execution.sequential_sweep import Paired, comparisons
from ablate.records.comparable_records import comparable_records
from ablate.records.judged import judged_record
from ablate.records.loading import manifest_so_far
from ablate.records.sweep_record import AnalysisPlan
from ablate.records.trial_record import TrialRecord
from ablate.statistics.stopping import Expected, Trials, expected_seeds, expected_trials
from ablate.study.trial import Trial

MULTIPLES = (0.0, 1.0, 2.0)  # true differences: of the margin, else of the spread
ENOUGH = 0.95  # of the variants: where fewer are decided, a larger number of seeds at most costs little and is said
LARGER = (16, 20, 30, 50)  # numbers of seeds that are tried then


@dataclass(frozen=True)
class Scenario:
    """What a variant takes whose true difference is `difference`, a fraction of mAP."""

    difference: float
    expected: Expected


@dataclass(frozen=True)
class ExpectedGroup:
    """Variants that are compared with one baseline.

    Attributes:
        name: What tells them from other groups; empty where there is one.
        found: The spread; None where no records fit.
        scenarios: What a variant takes.
        suffices: Largest number of seeds with which enough variants are decided of those that do nothing (with a
            margin) and of those with the largest difference: that of the command or one of `LARGER`; None: none does.
        seeds_then: Of a variant on average, with that number; None as there.
    """

    name: str
    found: SpreadOnDisk | None
    scenarios: tuple[Scenario, ...] = ()
    suffices: int | None = None
    seeds_then: float | None = None


@dataclass(frozen=True)
class ExpectedSeeds:
    """What a sweep will take.

    Attributes:
        plan: What the command declares.
        groups: One for each baseline.
        trials: Of the sweep; None where a group has no records.
        done: Those of them that have finished.
        seconds: Of the trials that are left, at the low, likely and high number; None where no time is recorded.
        devices: On which these were recorded.
        slots: How many run at a time.
        spent: Seconds of the sweep's earlier commands.
    """

    plan: AnalysisPlan
    groups: tuple[ExpectedGroup, ...]
    trials: Trials | None = None
    done: int = 0
    seconds: tuple[float, float, float] | None = None
    devices: tuple[str, ...] = ()
    slots: int = 1
    spent: float = 0.0


def expect_seeds(request: Request, plan: AnalysisPlan, done: int, slots: int) -> ExpectedSeeds:
    """Return what a command with `until=decided` will take.

    Args:
        request: Its trials, with the first seed.
        plan: What it declares.
        done: Trials of the sweep that have finished.
        slots: How many run at a time.
    """
    trials = {trial.identity.variant_key: trial for trial in request.trials}
    groups: dict[str, list[Paired]] = {}  # by key of the baseline
    for pair in comparisons(trials, request.design, request.controls):
        groups.setdefault(pair.baseline, []).append(pair)
    arms = {key: trials[key] for pairs in groups.values() for pair in pairs for key in (pair.baseline, pair.variant)}
    root = Path(request.trials[0].settings.command.root).absolute()
    read = comparable_records(root, {trial.identity.comparison_key for trial in arms.values()})
    judged = [judged_record(record, plan.judge, plan.primary) for record in read]
    records = [record for record in judged if isinstance(record, TrialRecord)]
    expected = tuple(_group(key, trials, groups, records, plan) for key in groups)
    spent = manifest_so_far(sweep_folder(request.trials, request.controls, plan)).spent_seconds
    if any(group.found is None for group in expected):
        return ExpectedSeeds(plan, expected, done=done, slots=slots, spent=spent)
    uppers = [group.found.spread.upper for group in expected if group.found is not None]
    deltas = [None if plan.delta is None else plan.delta / upper for upper in uppers]
    identical = set() if plan.delta is None else {k for k, one in request.controls.items() if one.kind == "identity"}
    sizes = [sum(pair.variant not in identical for pair in pairs) for pairs in groups.values()]
    same = sum(len(pairs) for pairs in groups.values()) - sum(sizes)
    total = expected_trials(MULTIPLES, deltas, sizes, plan.max_seeds, plan.tests, same)
    each = _seconds_each(list(arms), records)
    left = [max(number - done, 0) for number in total]
    seconds = None if each is None else (left[0] * each / slots, left[1] * each / slots, left[2] * each / slots)
    devices = sorted({record.realised.device_name for record in records if record.realised.device_name})
    return ExpectedSeeds(plan, expected, total, done, seconds, tuple(devices), slots, spent)


def _group(
    baseline: str,
    trials: dict[str, Trial],
    groups: dict[str, list[Paired]],
    records: Sequence[TrialRecord],
    plan: AnalysisPlan,
) -> ExpectedGroup:
    """What the variants of one baseline take."""
    name = _name(trials[baseline], [trials[key] for key in groups])
    key = trials[baseline].identity.comparison_key
    found = spread_on_disk([record for record in records if record.comparison_key == key], plan.primary)
    if found is None:
        return ExpectedGroup(name, None)
    upper = found.spread.upper
    margin = None if plan.delta is None else plan.delta / upper
    unit = 1.0 if margin is None else margin

    def expected(times: float, most: int) -> Expected:
        return expected_seeds(times * unit, margin, most, plan.tests)

    to_decide = MULTIPLES[-1:] if margin is None else (MULTIPLES[0], MULTIPLES[-1])
    larger = (plan.max_seeds, *(most for most in LARGER if most > plan.max_seeds))
    enough = (most for most in larger if all(expected(times, most).decided >= ENOUGH for times in to_decide))
    suffices = next(enough, None)
    then = None if suffices is None else fmean(expected(times, suffices).seeds for times in MULTIPLES)
    rows = tuple(Scenario(times * unit * upper, expected(times, plan.max_seeds)) for times in MULTIPLES)
    return ExpectedGroup(name, found, rows, suffices, then)


def _name(baseline: Trial, baselines: Sequence[Trial]) -> str:
    """What tells a baseline from the others: those of its factors that differ among them."""
    factors = [trial.identity.factors for trial in baselines]
    names = [name for name in baseline.identity.factors if len({each.get(name) for each in factors}) > 1]
    return ", ".join(baseline.identity.factors[name] for name in names)


def _seconds_each(arms: Sequence[str], records: Sequence[TrialRecord]) -> float | None:
    """Mean seconds of a trial of these variants; of a variant without records those of the others."""
    by_key: dict[str, list[float]] = {}
    for record in records:
        if (seconds := _seconds(record)) is not None:
            by_key.setdefault(record.variant_key, []).append(seconds)
    if not by_key:
        return None
    others = median([seconds for each in by_key.values() for seconds in each])
    return fmean(median(by_key[key]) if key in by_key else others for key in arms)


def _seconds(record: TrialRecord) -> float | None:
    """How long a trial took: from start to end, or its epochs where it was interrupted; None where not recorded."""
    if record.started and record.finished and len(record.tries) <= 1:
        try:
            seconds = (datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)).total_seconds()
        except (ValueError, TypeError):
            seconds = 0.0
        if seconds > 0:
            return seconds
    return None if record.cost.train_minutes is None else 60 * record.cost.train_minutes
