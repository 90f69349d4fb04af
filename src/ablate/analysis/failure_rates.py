"""How often the training of a variant failed or collapsed: an outcome of its own, beside its accuracy.

A mean over the seeds that came through is silent about those that did not, and a mean over all seeds mixes two things:
how good a usual training is and how often one is lost.

Over folds losses are counted and not tested: trainings of different folds share most of their images, and neither the
interval of a rate nor Fisher's test allows for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant
from ablate.records.replicate import Replicate
from ablate.records.trial_record import FAILED, Record, TrialRecord
from ablate.settings.metric import MAP50_95
from ablate.statistics.interval import Interval
from ablate.statistics.paired import holm, is_significant
from ablate.statistics.rates import rate_interval, rates_p
from ablate.statistics.verdict import LEARNED

COLLAPSED = 0.25  # of the median mAP of the baseline's group: a training below it has learned next to nothing
OF_TRAINING = ("diverged", "out_of_memory")  # types of failure that the variant may have caused


@dataclass(frozen=True)
class Losses:
    """The trainings of a variant that were lost.

    Attributes:
        failed: Those that ended without a result for a reason that the variant may have caused.
        collapsed: Those whose accuracy is near zero beside that of the others.
        trials: Trainings that ended, lost or not.
        over_folds: Whether they are trainings of a cross-validation.
    """

    failed: tuple[Replicate, ...]
    collapsed: tuple[Replicate, ...]
    trials: int
    over_folds: bool = False

    @property
    def count(self) -> int:
        """How many were lost."""
        return len(self.failed) + len(self.collapsed)

    @property
    def rate(self) -> Interval:
        """The share that was lost, with its 95 % interval."""
        return rate_interval(self.count, self.trials)


@dataclass(frozen=True)
class LossesCompared:
    """The lost trainings of a variant and of its baseline; `p_holm` of Fisher's test, corrected over the variants.

    None over folds.
    """

    row: Row
    baseline: Variant
    of_variant: Losses
    of_baseline: Losses
    p_holm: float | None = None

    @property
    def differs(self) -> bool:
        """Whether the two rates differ significantly."""
        return is_significant(self.p_holm)


def losses_compared(comparison: Comparison) -> list[LossesCompared]:
    """Every variant whose own or whose baseline's trainings were lost in part, in the order of the table."""
    compared = [one for group in comparison.groups for one in _of_group(group)]
    p_values = holm([_rates_p(one.of_variant, one.of_baseline) for one in compared])
    return [replace(one, p_holm=p) for one, p in zip(compared, p_values, strict=True)]


def losses_of(trials: Sequence[Record], usual: float) -> Losses | None:
    """The losses among trials; `usual` is the mAP of a training that came through. None where none ended.

    Where the usual training has learned nothing, none has collapsed.
    """
    ended = [trial for trial in trials if isinstance(trial, TrialRecord) and trial.is_ours]
    failed = [trial.replicate for trial in ended if _is_lost(trial)]
    accuracies = {
        trial.replicate: accuracy
        for trial in ended
        if trial.status != FAILED and (accuracy := _usual(trial)) is not None
    }
    floor = COLLAPSED * usual if usual >= LEARNED else 0.0
    collapsed = [one for one, accuracy in accuracies.items() if accuracy < floor]
    over_folds = any(one.fold is not None for one in (*failed, *accuracies))
    count = len(failed) + len(accuracies)
    return Losses(tuple(failed), tuple(collapsed), count, over_folds) if count else None


def _rates_p(one: Losses, other: Losses) -> float | None:
    """P-value of Fisher's test of two rates; None over folds."""
    if one.over_folds or other.over_folds:
        return None
    return rates_p(one.count, one.trials, other.count, other.trials)


def _of_group(group: Group) -> list[LossesCompared]:
    """The variants of one group; none where nothing was lost."""
    accuracies = [accuracy for row in group.rows for accuracy in row.variant.accuracy(_usual).values()]
    if group.baseline is None or not accuracies:
        return []
    usual = median(accuracies)
    of_baseline = losses_of(group.baseline.trials, usual)
    rows = [row for row in group.rows if row.variant is not group.baseline and not row.is_control]
    losses = [(row, losses_of(row.variant.trials, usual)) for row in rows]
    if of_baseline is None:
        return []
    return [
        LossesCompared(row, group.baseline, of_variant, of_baseline)
        for row, of_variant in losses
        if of_variant is not None and of_variant.count + of_baseline.count
    ]


def _usual(trial: TrialRecord) -> float | None:
    """What a collapse shows in, whatever the metric: a network that sees nothing may have any precision."""
    return trial.metrics.value(MAP50_95)


def _is_lost(trial: TrialRecord) -> bool:
    failure = trial.failure
    return trial.status == FAILED and failure is not None and failure.type in OF_TRAINING and not failure.transient
