"""A sweep on its sealed test split, beside the same checkpoints on the validation images.

The checkpoints, the variants and often the sweep itself were chosen on the validation images, the test images chose
nothing: what a variant falls by from the one to the other comes of other images and of what choosing added. The first
is shared by all variants, the second in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean

import msgspec

from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant, accuracy_by, is_measured
from ablate.records.sweep_record import Sweep
from ablate.records.test_split import OPENED, LedgerLine, TestedTrial, TestEvaluation, TestResults, openings_note
from ablate.records.trial_record import NO_METRICS, Record, TrialRecord


@dataclass(frozen=True)
class Openings:
    """The openings of the test split of one data set.

    Attributes:
        data: Its name.
        images: Images of the split.
        lines: Of the ledger, one for each opening, by whatever sweep of the output folder.
    """

    data: str
    images: int
    lines: tuple[LedgerLine, ...]


@dataclass(frozen=True)
class SplitRow:
    """A variant on the test split, and the same checkpoints on the validation images.

    Attributes:
        test: The row of the comparison on the test split.
        validation: That on the validation images; None where it is not there.
        falls: Accuracy on the validation images minus that on the test split, of each measured trial.
    """

    test: Row
    validation: Row | None
    falls: tuple[float, ...]

    @property
    def fall(self) -> float | None:
        """The mean fall; None where there is none."""
        return fmean(self.falls) if self.falls else None


@dataclass(frozen=True)
class TestSplit:
    """What the test split says of a sweep.

    Attributes:
        comparison: Of the accuracies on the test split.
        rows: Its rows, in the order of the validation images, each with what the validation images said.
        openings: By data set.
        damage: What is wrong with the ledger, in words; empty where it is whole.
        checkpoint: "best" or "last": what was measured; "best and last" where trials differ in that.
        untested: How many measured trials of the sweep were not measured on the test split, as they ended later.
        unfinished: How many were to be measured by an opening that was interrupted.
    """

    __test__ = False

    comparison: Comparison
    rows: tuple[SplitRow, ...]
    openings: tuple[Openings, ...]
    damage: str
    checkpoint: str
    untested: int
    unfinished: int = 0

    @property
    def groups(self) -> list[list[SplitRow]]:
        """The rows of each comparison group."""
        rows = iter(self.rows)
        return [list(islice(rows, len(group.rows))) for group in self.comparison.groups]


def compare_splits(sweep: Sweep, *, strict: bool = False) -> Comparison:
    """Compare the variants of a sweep, on its test split too where that was opened (`Comparison.on_test`)."""
    comparison = compare(sweep, strict=strict)
    view = on_test_split(comparison.sweep)
    if view is None or comparison.sweep.on_test is None:
        return comparison
    results = comparison.sweep.on_test
    validation = comparison
    if not _is_of_same_checkpoints(comparison.sweep, results):
        validation = compare(_on_validation(comparison.sweep, results), strict=strict)
    tested = _noted(_in_order_of(validation, compare(view, strict=strict)), results)
    measured = {record.signature for record in comparison.sweep.trials if is_measured(record, sweep.metric)}
    unfinished = len(measured & _still_to_measure(results))
    split = TestSplit(
        tested,
        tuple(_split_row(row, validation) for row in tested.rows),
        _openings(view, results),
        _damage(results, [one.evaluation for one in results.trials.values()]),
        " and ".join(sorted({one.evaluation.checkpoint for one in results.trials.values()})),
        max(0, len(measured) - len(view.trials) - unfinished),
        unfinished,
    )
    return replace(comparison, on_test=split)


def on_test_split(sweep: Sweep) -> Sweep | None:
    """The sweep with the accuracies of the test split in place of those of the validation images; None without any.

    Trials that were not measured there are left out. Epochs and the other checkpoint have no accuracy there.
    """
    if sweep.on_test is None or sweep.is_test:
        return None
    trials: list[Record] = []
    for record in sweep.trials:
        one = sweep.on_test.trials.get(record.signature)
        if one is None or not isinstance(record, TrialRecord):
            continue
        evaluation = one.evaluation
        artifacts = msgspec.structs.replace(
            record.artifacts, predictions={evaluation.checkpoint: evaluation.predictions}
        )
        trials.append(
            msgspec.structs.replace(
                record,
                metrics=evaluation.metrics,
                per_class=evaluation.per_class,
                metrics_last=NO_METRICS,
                per_class_last=(),
                history=(),
                samples=(),
                artifacts=artifacts,
            )
        )
    judge = sweep.judge or sweep.manifest.analysis.judge
    return replace(sweep, trials=trials, is_test=True, judge=judge, latency=None) if trials else None


def _still_to_measure(results: TestResults) -> set[str]:
    """The signatures of trials that an opening names and has not measured: it was interrupted, or goes on now."""
    openings = [line for line in results.ledger.lines if line.event == OPENED and not results.ledger.is_finished(line)]
    return {signature for line in openings for signature in line.checkpoints} - set(results.trials)


def _is_of_same_checkpoints(sweep: Sweep, results: TestResults) -> bool:
    """Whether the measured trials are those of the test split, with the accuracies of the checkpoints tested there."""
    accuracies = {record.signature: record.metrics for record in sweep.trials if is_measured(record, sweep.metric)}
    return accuracies == {signature: one.validation for signature, one in results.trials.items()}


def _on_validation(sweep: Sweep, results: TestResults) -> Sweep:
    """The tested trials with the accuracy of the checkpoint that was tested."""

    def validated(record: TrialRecord, one: TestedTrial) -> TrialRecord:
        return msgspec.structs.replace(record, metrics=one.validation)

    trials: list[Record] = [
        validated(record, results.trials[record.signature])
        for record in sweep.trials
        if isinstance(record, TrialRecord) and record.signature in results.trials
    ]
    return replace(sweep, trials=trials, on_test=None)


def _in_order_of(validation: Comparison, tested: Comparison) -> Comparison:
    """The rows of each group in the order that they have on the validation images."""
    order = {_key(row): position for position, row in enumerate(validation.rows)}

    def place(row: Row) -> int:
        return order.get(_key(row), len(order))

    groups = [replace(group, rows=tuple(sorted(group.rows, key=place))) for group in tested.groups]
    return replace(tested, groups=tuple(groups))


def _split_row(row: Row, validation: Comparison) -> SplitRow:
    of_variant = _key(row)
    before = next((other for other in validation.rows if _key(other) == of_variant), None)
    accuracies = _by_signature(before.variant) if before else {}
    falls = [
        accuracies[signature] - accuracy
        for signature, accuracy in _by_signature(row.variant).items()
        if signature in accuracies
    ]
    return SplitRow(row, before, tuple(falls))


def _key(row: Row) -> tuple[str, str]:
    return row.key, row.variant.comparison_key


def _by_signature(variant: Variant) -> dict[str, float]:
    return {trial.signature: accuracy_by(trial, variant.metric) for trial in variant.measured}


def _openings(view: Sweep, results: TestResults) -> tuple[Openings, ...]:
    names: dict[str, tuple[str, int]] = {}
    for record in view.trials:
        evaluation = results.trials[record.signature].evaluation
        name = record.data.name if isinstance(record, TrialRecord) and record.data else ""
        names.setdefault(evaluation.data, (name, evaluation.images))
    return tuple(
        Openings(name, images, tuple(results.ledger.openings(fingerprint)))
        for fingerprint, (name, images) in names.items()
    )


def _noted(comparison: Comparison, results: TestResults) -> Comparison:
    """Return a comparison whose rows say where their test split is no longer sealed."""

    def note(trials: Sequence[TrialRecord]) -> str:
        tested = [results.trials[trial.signature].evaluation for trial in trials]
        number = max((len(results.ledger.openings(one.data)) for one in tested), default=0)
        return openings_note(number, _damage(results, tested))

    def noted(row: Row) -> Row:
        remark = note(row.variant.measured)
        return replace(row, notes=(*row.notes, remark)) if remark else row

    groups = [replace(group, rows=tuple(map(noted, group.rows))) for group in comparison.groups]
    return replace(comparison, groups=tuple(groups))


def _damage(results: TestResults, tested: Sequence[TestEvaluation]) -> str:
    """What is wrong with the ledger as far as it is of these measurements, in words."""
    lines = {line.hash for line in results.ledger.lines}
    lacks = any(one.opening not in lines for one in tested)
    return results.ledger.damage or ("it lacks the line of a measurement" if lacks else "")
