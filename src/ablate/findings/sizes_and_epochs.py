"""Whether a difference depends on the epoch that is judged or on the size of the objects, in words.

Both are questions about a variant that differs from its baseline, so they are asked of such variants only; by this a
report in which nothing differs says nothing of them either, but where the first test erred already. Each kind of
sentence is a family: Holm's correction is over all tests that could have given one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.pairing import differences_of, samples_of
from ablate.analysis.phrases import estimate_text, limited
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant
from ablate.findings.finding import Claim, Finding, Kind, direction
from ablate.findings.normality import few_units_doubt
from ablate.records.replicate import Replicate
from ablate.records.trial_record import TrialRecord
from ablate.settings.judge import BEST
from ablate.settings.metric import METRICS, Metric
from ablate.statistics.paired import ALPHA, holm
from ablate.statistics.resampled import Samples

NOTICEABLE = 0.001  # smaller differences of opposite sign are not worth a sentence
APART = 0.005  # from here on best and last differ enough to be said where their signs agree
LARGE = 0.01  # from here on a difference on objects of one size is said
MOST = 3


@dataclass(frozen=True)
class _Test:
    """One test of a family: differences of a row to its baseline, seed or fold by seed, and its corrected p-value."""

    row: Row
    baseline: Variant
    differences: Samples
    outcome: str
    p_holm: float | None = None

    @property
    def mean(self) -> float:
        return self.differences.mean

    @property
    def is_said(self) -> bool:
        """Whether it is significant within its family, and its row differs from the baseline at all."""
        difference = self.row.difference
        return difference is not None and difference.supported and self.p_holm is not None and self.p_holm < ALPHA


def epoch_findings(comparison: Comparison) -> list[Finding]:
    """Variants whose difference is another one after the last epoch; of the best epoch's judge only."""
    if comparison.sweep.judge != BEST:
        return []
    tests = [test for row, baseline in _comparable(comparison) if (test := _epoch_test(row, baseline)) is not None]
    significant = [test for test in _corrected(tests) if test.is_said]
    changed = [(test, text) for test in significant if (text := _epochs(test))]
    if not changed:
        return []
    claims = [
        Claim(test.row.label, direction(test.mean), test.baseline.label, test.outcome) for test, _ in changed[:MOST]
    ]
    texts = limited([text for _, text in changed], MOST)
    doubt = _doubt([test for test, _ in changed], len(tests))
    text = f"The difference depends on the epoch that is evaluated: {texts}.{doubt}"
    return [Finding(text, Kind.EPOCHS, tuple(claims))]


def size_findings(comparison: Comparison) -> list[Finding]:
    """Large differences on small, medium or large objects, of variants that differ from the baseline."""
    sizes = [metric for metric in METRICS.values() if metric.size and metric is not comparison.metric]
    tests = [
        _Test(row, baseline, samples_of(replicates, differences, row.variant.fold_share), metric.label)
        for row, baseline in _comparable(comparison)
        for metric in sizes
        for replicates, differences in [differences_of(row.variant, baseline, _by(metric))]
        if replicates
    ]
    large = [test for test in _corrected(tests) if test.is_said and abs(test.mean) >= LARGE]
    if not large:
        return []
    large.sort(key=lambda test: -abs(test.mean))
    texts = [_on_size(test) for test in large]
    claims = tuple(
        Claim(test.row.label, direction(test.mean), test.baseline.label, test.outcome) for test in large[:MOST]
    )
    doubt = _doubt(large, len(tests))
    text = f"By object size (COCO areas, corrected for {len(tests)} tests): {limited(texts, MOST)}.{doubt}"
    return [Finding(text, Kind.SIZES, claims)]


def _on_size(test: _Test) -> str:
    p_value = f"Holm-corrected p {cell('p_holm', test.p_holm)}"
    size = test.outcome.removeprefix("AP ")
    return f"{test.row.label} on {size} objects {estimate_text(test.mean, test.differences.interval(), p_value)}"


def _doubt(claimed: Sequence[_Test], tests: int) -> str:
    return few_units_doubt((len(one.differences.values) for one in claimed if not one.differences.is_of_folds), tests)


def _epoch_test(row: Row, baseline: Variant) -> _Test | None:
    """The difference at the best epoch minus that at the last, seed by seed."""
    replicates, last = differences_of(row.variant, baseline, _last_by(row.variant.metric))
    best = _at_best(row.variant, baseline, replicates)
    between = [a - b for a, b in zip(best, last, strict=True)]
    samples = samples_of(replicates, between, row.variant.fold_share)
    return _Test(row, baseline, samples, "best minus last epoch") if replicates else None


def _epochs(test: _Test) -> str:
    """Both differences where their signs differ or they are apart; empty where they are about the same."""
    variant = test.row.variant
    replicates, differences = differences_of(variant, test.baseline, _last_by(variant.metric))
    last = samples_of(replicates, differences, variant.fold_share)
    best = samples_of(replicates, _at_best(variant, test.baseline, replicates), variant.fold_share)
    opposite = best.mean * last.mean < 0 and max(abs(best.mean), abs(last.mean)) >= NOTICEABLE
    if not opposite and abs(test.mean) < APART:
        return ""
    of_best, of_last = (estimate_text(samples.mean, samples.interval()) for samples in (best, last))
    between = estimate_text(test.mean, test.differences.interval(), f"Holm-corrected p {cell('p_holm', test.p_holm)}")
    return f"{test.row.label} {of_best} at the best epoch, {of_last} at the last, best minus last {between}"


def _by(metric: Metric) -> Callable[[TrialRecord], float | None]:
    return lambda trial: trial.metrics.value(metric)


def _last_by(metric: Metric) -> Callable[[TrialRecord], float | None]:
    return lambda trial: trial.metrics_last.value(metric)


def _at_best(variant: Variant, baseline: Variant, replicates: Sequence[Replicate]) -> list[float]:
    of_variant, of_baseline = variant.accuracy(), baseline.accuracy()
    return [of_variant[one] - of_baseline[one] for one in replicates]


def _corrected(tests: Sequence[_Test]) -> list[_Test]:
    """The tests with Holm's correction over all of them."""
    p_values = holm([test.differences.p_value for test in tests])
    return [
        _Test(test.row, test.baseline, test.differences, test.outcome, p)
        for test, p in zip(tests, p_values, strict=True)
    ]


def _comparable(comparison: Comparison) -> Iterator[tuple[Row, Variant]]:
    """Each row that may be compared, with its baseline; no controls."""
    for group in comparison.groups:
        for row in group.compared:
            if group.baseline is not None:
                yield row, group.baseline
