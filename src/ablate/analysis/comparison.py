"""The comparison of a sweep: made once from its records, and read by every table, figure and sentence.

The variants of a design of components are one comparison group, whose baseline has none of them. Controls stand among
what they control; neither they nor flagged rows take part in the correction for many tests. What is not known is
None, and `notes` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING

from ablate.analysis.comparability import disagreements
from ablate.analysis.corrections import corrected_rows, family_skewness
from ablate.analysis.difference_notes import identical_notes, reasons_against, thin_notes
from ablate.analysis.image_groups import drawn_again
from ablate.analysis.image_intervals import StoredInterval, stored_intervals
from ablate.analysis.latency_results import Latency, LatencyResults, against, latency_results
from ablate.analysis.looks import Looks, variant_looks
from ablate.analysis.measurements import accuracy_of, cost_of, trial_notes
from ablate.analysis.pairing import (
    VariantGroup,
    comparison_groups,
    differences_of,
    samples_of,
    shared_replicates,
    trial_pairs,
)
from ablate.analysis.variant_row import TO_FIND, Difference, OnShared, Row
from ablate.analysis.variants import Variant, learned_by, variants_of
from ablate.records.image_counts import shortfalls
from ablate.records.judged import judged_sweep
from ablate.records.replicate import Replicate
from ablate.records.sweep_record import AnalysisPlan, Design, Sweep
from ablate.settings.metric import Metric
from ablate.statistics.paired import (
    effect_size,
    seeds_needed,
    smallest_detectable,
)
from ablate.statistics.seeds_and_images import seeds_and_images
from ablate.statistics.sequential import Stop
from ablate.statistics.sign_flip import sign_flip
from ablate.statistics.skewness import PooledSkewness
from ablate.statistics.verdict import NOTHING_LEARNED, has_learned

if TYPE_CHECKING:
    from ablate.analysis.split_comparison import TestSplit


@dataclass(frozen=True)
class Group:
    """The rows of one comparison group, in their order.

    `baseline` is what the others are compared with, also where the table leaves it out; None where there is none.
    """

    rows: tuple[Row, ...]
    baseline: Variant | None

    @property
    def compared(self) -> list[Row]:
        """The rows with a difference that may be compared, without controls."""
        return [row for row in self.rows if row.difference and row.takes_part]

    @property
    def has_learned(self) -> bool:
        """Whether the baseline or any variant has learned anything: where none has, no difference shows anything."""
        return any(row.difference and row.difference.has_learned for row in self.compared)

    @property
    def title(self) -> str:
        """What its rows share: optimizer, model and data, less those that differ.

        What a control differs in by design does not count.
        """
        rows = [row for row in self.rows if not row.is_control] or self.rows
        levels = [{row.optimizer for row in rows}, {row.model for row in rows}, {row.data for row in rows}]
        return ", ".join(next(iter(names)) for names in levels if len(names) == 1 and names != {""})


@dataclass(frozen=True)
class Comparison:
    """All variants of a sweep, compared.

    Attributes:
        sweep: What it was made from.
        variants: All variants, in the order of the sweep, also those that are left out.
        groups: Comparison groups in the order of the sweep. In each the baseline comes first and the others by
            falling difference to it, or in the order of the design; controls last.
        left_out: Label of a variant that is left out -> why.
        components: Names of the design's components, in the order of `Variant.marks`.
        latency: Of the latency benchmark; None where there was none.
        on_test: The same variants on the test split; None where that was never opened for them.
    """

    sweep: Sweep
    variants: tuple[Variant, ...]
    groups: tuple[Group, ...]
    left_out: dict[str, str]
    components: tuple[str, ...]
    latency: LatencyResults | None
    on_test: TestSplit | None = None

    @property
    def metric(self) -> Metric:
        """The accuracy by which they are compared."""
        return self.sweep.metric

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all groups."""
        return tuple(row for group in self.groups for row in group.rows)

    @cached_property
    def tested(self) -> tuple[Difference, ...]:
        """The differences that are tested: the family that `p_holm` is corrected over."""
        return tuple(row.difference for row in self.rows if row.difference is not None and row.difference.is_tested)

    @property
    def tests(self) -> int:
        """How many tests there are: what `p_holm` is corrected for."""
        return len(self.tested)

    @cached_property
    def units(self) -> str:
        """What its intervals and tests are over: seeds, or folds."""
        measured = [row.variant for row in self.rows if row.variant.measured]
        return "folds" if measured and all(variant.folds is not None for variant in measured) else "seeds"

    @cached_property
    def images(self) -> str:
        """What its intervals over images are over: images, or groups of them."""
        return drawn_again(self.rows, "images")

    @property
    def averaged_over(self) -> str:
        """What its means are over, in words."""
        return "seeds and folds" if self.units == "folds" else "seeds"

    @cached_property
    def skewness(self) -> PooledSkewness | None:
        """Of the differences that are corrected together; None where none has three seeds, or three folds."""
        return family_skewness(self.rows)

    @cached_property
    def is_named_by_marks(self) -> bool:
        """Whether the components tell every row from the others, so that its name need not be shown."""
        marks = [row.variant.marks for row in self.rows]
        return bool(self.components) and None not in marks and len(set(marks)) == len(marks)


def compare(sweep: Sweep, *, strict: bool = False) -> Comparison:
    """Compare the variants of a sweep.

    Args:
        sweep: What `load_sweep` read. Whatever its records lack, nothing is raised for it: `Row.notes` has the reason.
        strict: Leave out what may not be compared with its baseline; `left_out` says what that was, and why.
    """
    sweep = judged_sweep(sweep)
    variants = variants_of(sweep)
    groups = comparison_groups(variants)
    latency = latency_results(sweep.latency)
    intervals = stored_intervals(sweep, groups)
    data_sets = {variant.factors["data"] for variant in variants}
    several_data = len(data_sets - {""}) > 1
    compared: list[Group] = []
    unrecorded: list[Row] = []
    for group in groups:
        rows = [_row(variant, group, sweep, latency, intervals, several_data) for variant in group.members]
        if group.is_recorded:
            ranked = sorted(rows, key=lambda row, group=group: _rank(row, group, sweep.design))  # type: ignore[misc]
            compared.append(Group(tuple(ranked), group.baseline))
        else:
            unrecorded += rows
    compared += [Group(tuple(unrecorded), None)] if unrecorded else []
    shown = [replace(g, rows=tuple(r for r in g.rows if r.is_comparable or not strict)) for g in compared]
    left_out = {r.label: "; ".join(r.notes) for g in compared for r in g.rows if strict and not r.is_comparable}
    corrected = iter(corrected_rows([row for g in shown for row in g.rows], sweep.plan, len(sweep.manifest.looks)))
    return Comparison(
        sweep,
        tuple(variants),
        tuple(replace(group, rows=tuple(islice(corrected, len(group.rows)))) for group in shown if group.rows),
        left_out,
        tuple(sweep.design.components) if sweep.design else (),
        latency,
    )


def _row(
    variant: Variant,
    group: VariantGroup,
    sweep: Sweep,
    latency: LatencyResults | None,
    intervals: Mapping[tuple[str, str], StoredInterval],
    several_data: bool,
) -> Row:
    """The row of one variant, its p-value not yet corrected."""
    base = group.baseline
    notes = [variant.mismatch, *trial_notes(variant)]
    if rate := sweep.manifest.tuned.get(variant.key):
        notes.append(f"tuned: {rate.in_words}")
    measured = latency.variants.get(variant.key, Latency()) if latency else Latency()
    if latency is not None and variant.measured and measured.median_ms is None:
        notes.append("latency not measured")
    reasons = disagreements(variant.measured) if variant.measured else []
    other_data = shortfalls(variant.measured)
    difference, baseline = None, ""
    stored = intervals.get((variant.key, variant.comparison_key))
    if variant is base or not variant.measured:
        pass
    elif base is None or not base.measured:
        problem = "no baseline in this sweep" if base is None else "the baseline has no finished trial"
        reasons.append(f"{problem}: no difference can be given")
    else:
        baseline = base.label
        if latency is not None and (measured.processes > 1 or variant.marks is not None or variant.control is not None):
            measured = against(measured, latency.variants.get(base.key, Latency()))
        looks = variant_looks(variant, base, sweep)
        difference = (
            _difference(variant, base, stored)
            if looks is None
            else _last_look(variant, base, looks, stored, sweep.plan)
        )
        notes += [*thin_notes(variant, base, difference), *identical_notes(variant, base)]
        reasons = reasons_against(variant, base) or reasons
    is_comparable = bool(variant.measured) and not reasons and not other_data
    notes += [*reasons, *other_data]
    if stored is not None and stored.reason:
        notes.append(f"no interval over images: {stored.reason}")
    if several_data and variant.measured:
        notes.append(f"compare within data {variant.factors['data']} only")
    return Row(
        variant,
        accuracy_of(variant),
        cost_of(variant),
        measured,
        baseline,
        difference and replace(difference, is_comparable=is_comparable),
        is_comparable,
        tuple(dict.fromkeys(filter(None, notes))),
        tuple(sweep.run_ids[t.signature] for t in variant.trials if t.signature in sweep.run_ids),
    )


def _difference(variant: Variant, baseline: Variant, stored: StoredInterval | None) -> Difference | None:
    """The paired difference, not yet corrected for other tests; None where no replicate is shared."""
    shared, paired = _paired(variant, baseline)
    if not shared:
        return None
    share = variant.fold_share
    samples = samples_of(shared, paired, share)
    measured, last = differences_of(variant, baseline, lambda trial: trial.metrics_last.value(variant.metric))
    spread = samples.upper_spread
    stored = None if samples.is_of_folds else stored
    variance = stored.variance if stored else None
    return Difference(
        estimate=samples.mean,
        replicates=tuple(shared),
        is_comparable=False,
        is_of_control=variant.control is not None,
        over_seeds=samples.interval(),
        over_images=stored.interval if stored else None,
        over_both=seeds_and_images(paired, variance) if variance else None,
        image_groups=stored.groups if stored and stored.interval else None,
        p_value=samples.p_value,
        p_sign_flip=None if samples.is_of_folds else sign_flip(paired),
        values=tuple(paired),
        fold_share=share,
        has_learned=has_learned(*_learned(variant, baseline)),
        effect_size=None if samples.is_of_folds else effect_size(paired),
        smallest_detectable=smallest_detectable(spread, len(samples.values)),
        seeds_needed=None if samples.is_of_folds else seeds_needed(spread, TO_FIND),
        last_epoch=samples_of(measured, last, share).mean if measured == shared else None,
        on_shared=_on_shared(variant, baseline, shared),
    )


def _last_look(
    variant: Variant, baseline: Variant, looks: Looks, stored: StoredInterval | None, plan: AnalysisPlan
) -> Difference | None:
    """The difference of a sweep whose seeds are added, at the last look; None before there is a pair."""
    if not looks.differences:
        return None
    shared = [one for one in shared_replicates(variant, baseline) if one.seed >= plan.first_seed]
    measured = shared[: len(looks.differences)]
    variance = stored.variance if stored else None
    return Difference(
        estimate=fmean(looks.differences),
        replicates=tuple(measured),
        is_comparable=False,
        is_of_control=variant.control is not None,
        over_seeds=looks.interval,
        over_images=stored.interval if stored else None,
        over_both=seeds_and_images(looks.differences, variance, Stop(plan.max_seeds, plan.tests)) if variance else None,
        image_groups=stored.groups if stored and stored.interval else None,
        effect_size=effect_size(looks.differences),
        values=looks.differences,
        p_sequential=looks.p_value,
        looks=looks,
        has_learned=looks.reason != NOTHING_LEARNED,
        on_shared=_on_shared(variant, baseline, measured),
    )


def _on_shared(variant: Variant, baseline: Variant, shared: Sequence[Replicate]) -> OnShared:
    """The mean accuracies of both over the replicates that a difference is of."""
    accuracy, baseline_accuracy = variant.accuracy(), baseline.accuracy()
    mean, of_baseline = (
        samples_of(shared, [side[one] for one in shared], variant.fold_share).mean
        for side in (accuracy, baseline_accuracy)
    )
    return OnShared(mean, of_baseline, set(shared) == accuracy.keys() == baseline_accuracy.keys())


def _paired(variant: Variant, baseline: Variant) -> tuple[list[Replicate], list[float]]:
    """The shared replicates, and the difference in accuracy of each."""
    shared = shared_replicates(variant, baseline)
    return shared, [one - other for one, other in zip(*_accuracies(variant, baseline), strict=True)]


def _accuracies(variant: Variant, baseline: Variant) -> tuple[list[float], list[float]]:
    """Accuracies of the shared replicates: the variant's and the baseline's."""
    pairs = trial_pairs(variant, baseline)
    return [variant.value(one) for one, _ in pairs], [variant.value(other) for _, other in pairs]


def _learned(variant: Variant, baseline: Variant) -> tuple[list[float], list[float]]:
    """What tells whether the trials of the shared replicates have learned anything: the variant's, the baseline's."""
    pairs, metric = trial_pairs(variant, baseline), variant.metric
    return [learned_by(one, metric) for one, _ in pairs], [learned_by(other, metric) for _, other in pairs]


def _rank(row: Row, group: VariantGroup, design: Design | None) -> tuple[object, ...]:
    """Baseline, then falling difference, then falling accuracy, controls last; unknown values last.

    The variants of a design come first, by rising number of components, as papers print them; where each lacks one
    component, in the order of the one that is missing.
    """
    accuracy, marks = row.accuracy.primary, row.variant.marks
    place: tuple[int, ...] = (1,)
    if marks is not None:
        missing_first = design is not None and design.name == "leave_one_out"
        place = (0, sum(marks), *(mark == missing_first for mark in marks))
    return (
        row.variant is not group.baseline,
        row.is_control,
        place,
        row.difference is None,
        0.0 if row.difference is None else -row.difference.estimate,
        -(accuracy if accuracy is not None else -1.0),
        row.label,
    )
