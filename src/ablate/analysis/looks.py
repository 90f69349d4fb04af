"""The looks at a variant whose seeds are added until it is decided: from records, always the same ones.

Pairs are taken in the order of their seeds, and only as far as none is missing: which trial ends first plays no part,
and neither do seeds that ran while a decision was being made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ablate.analysis.comparability import differences
from ablate.analysis.identical_results import changes_nothing, has_same_results
from ablate.analysis.variants import Variant, accuracy_by, is_measured, learned_by
from ablate.records.factor_levels import levels_of
from ablate.records.sweep_record import AnalysisPlan, Sweep
from ablate.records.trial_record import FAILED, Record, TrialRecord
from ablate.settings.metric import Metric
from ablate.statistics.interval import Interval
from ablate.statistics.sequential import FIRST_LOOK, Look, looks_at
from ablate.statistics.verdict import NOTHING_LEARNED, Verdict, has_learned

DID_NOT_ACT = "identical to the baseline in every digit: what it changes did not act"


@dataclass(frozen=True)
class Looks:
    """All looks at a variant.

    Attributes:
        made: In order; the last one decides, if any does.
        differences: Of the complete pairs that they are made of, in the order of the seeds.
        verdict: What is known of it now.
        reason: Why it is undecided or out of budget, in words; empty where it is decided or the next seed is due.
    """

    made: tuple[Look, ...] = ()
    differences: tuple[float, ...] = ()
    verdict: Verdict = Verdict.UNDECIDED
    reason: str = ""

    @property
    def is_decided(self) -> bool:
        """Whether a claim was made."""
        return self.verdict in (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT)

    @property
    def has_ended(self) -> bool:
        """Whether no further seed is due."""
        return self.is_decided or bool(self.reason)

    @property
    def interval(self) -> Interval | None:
        """Of the last look."""
        return self.made[-1].interval if self.made else None

    @property
    def p_value(self) -> float | None:
        """Smallest of all looks, corrected for all variants; None before the first, and where nothing is learned."""
        return self.made[-1].p_value if self.made and self.reason != NOTHING_LEARNED else None


def looks_of(
    variant: Mapping[int, Record], baseline: Mapping[int, Record], plan: AnalysisPlan, *, by_design: bool = False
) -> Looks:
    """Return the looks at a variant.

    Args:
        variant: Its records by seed, failed ones among them.
        baseline: Those of what it is compared with.
        plan: What the command declared.
        by_design: Whether it differs from its baseline in more than grafts and losses because it was configured to.
    """
    metric = plan.primary
    pairs: list[tuple[TrialRecord, TrialRecord]] = []
    reason = ""
    for seed in range(plan.first_seed, plan.first_seed + plan.max_seeds):
        one, other = variant.get(seed), baseline.get(seed)
        reason = _lost(one, "", metric) or _lost(other, "the baseline's ", metric)
        if reason or one is None or other is None or not (is_measured(one, metric) and is_measured(other, metric)):
            break
        pairs.append((one, other))
    if pairs and (different := differences(*map(list, zip(*pairs, strict=True)), by_design=by_design)):
        return Looks(reason=f"not comparable: {different[0]}")
    futile = _futile_look([(learned_by(one, metric), learned_by(other, metric)) for one, other in pairs])
    pairs = pairs[:futile]
    differences_by_seed = tuple(accuracy_by(one, metric) - accuracy_by(other, metric) for one, other in pairs)
    identical = all(has_same_results(one, other) for one, other in pairs)
    if identical and len(differences_by_seed) >= FIRST_LOOK and not changes_nothing(levels_of(pairs[0][0].factors)):
        return Looks((), differences_by_seed, Verdict.UNDECIDED, DID_NOT_ACT)
    made = tuple(looks_at(differences_by_seed, plan.max_seeds, plan.delta, plan.tests, identical=identical))
    if futile is not None and len(made) == futile - FIRST_LOOK + 1:
        made = (*made[:-1], made[-1]._replace(verdict=Verdict.UNDECIDED))
        return Looks(made, differences_by_seed, Verdict.UNDECIDED, NOTHING_LEARNED)
    verdict = made[-1].verdict if made else Verdict.UNDECIDED
    if verdict is not Verdict.UNDECIDED:
        return Looks(made, differences_by_seed[: made[-1].seeds], verdict)
    if len(differences_by_seed) == plan.max_seeds:
        return Looks(made, differences_by_seed, Verdict.OUT_OF_BUDGET, f"undecided after {plan.max_seeds} seeds")
    return Looks(made, differences_by_seed, verdict, reason)


def variant_looks(variant: Variant, baseline: Variant, sweep: Sweep) -> Looks | None:
    """Return the looks at a variant of a sweep whose seeds are added until it is decided; None for another sweep.

    By the metric and the margin that its report was given, where these are others than those that were declared.
    """
    plan = sweep.plan
    if plan.until is None:
        return None
    by_design = variant.marks is not None or (variant.control is not None and variant.control.differs_by_design)
    looks = looks_of(_by_seed(variant), _by_seed(baseline), plan, by_design=by_design)
    if not looks.has_ended and plan.budget is not None and sweep.manifest.spent_seconds >= plan.budget:
        reason = f"the budget is used up after {len(looks.differences)} seeds"
        return replace(looks, verdict=Verdict.OUT_OF_BUDGET, reason=reason)
    return looks


def _by_seed(variant: Variant) -> dict[int, Record]:
    return {record.seed: record for record in variant.trials if isinstance(record, TrialRecord)}


def _lost(record: Record | None, who: str, metric: Metric) -> str:
    """Say why a seed will have no accuracy; empty where it has one, or may get it."""
    if record is None or is_measured(record, metric):
        return ""
    seed = record.seed if isinstance(record, TrialRecord) else "?"
    if record.status == FAILED and record.failure is not None:
        return f"{who}seed {seed} failed: {record.failure.type}"
    return f"{who}seed {seed} has no accuracy"


def _futile_look(accuracies: Sequence[tuple[float, float]]) -> int | None:
    """How many seeds had run at the first look at which neither had learned anything; None where there was none."""
    looks = (accuracies[:seeds] for seeds in range(FIRST_LOOK, len(accuracies) + 1))
    return next((len(pairs) for pairs in looks if not has_learned(*map(list, zip(*pairs, strict=True)))), None)
