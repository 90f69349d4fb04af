"""Whether a difference depends on the epoch that is judged or on the size of the objects, in words.

Both are questions about a variant that differs from its baseline, so they are asked of such variants only; by this a
report in which nothing differs says nothing of them either, but where the first test erred already. Each kind of
sentence is a family: Holm's correction is over all tests that could have given one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.pairing import differences_of
from ablate.analysis.phrases import estimate_text, limited
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant
from ablate.findings.finding import Claim, Finding, Kind, direction
from ablate.records.trial_record import TrialRecord
from ablate.settings.judge import BEST
from ablate.settings.metric import METRICS, Metric
from ablate.statistics.paired import ALPHA, holm, paired_t, t_interval

NOTICEABLE = 0.001  # smaller differences of opposite sign are not worth a sentence
APART = 0.005  # from here on best and last differ enough to be said where their signs agree
LARGE = 0.01  # from here on a difference on objects of one size is said
MOST = 3


@dataclass(frozen=True)
class _Test:
    """One test of a family: differences of a row to its baseline, seed by seed, and its corrected p-value."""

    row: Row
    baseline: Variant
    differences: tuple[float, ...]
    outcome: str
    p_holm: float | None = None

    @property
    def mean(self) -> float:
        return fmean(self.differences)

    @property
    def is_said(self) -> bool:
        """Whether it is significant within its family, and its row differs from the baseline at all."""
        difference = self.row.difference
        return difference is not None and difference.supported and self.p_holm is not None and self.p_holm < ALPHA


def epoch_findings(comparison: Comparison) -> list[Finding]:
    """Variants for which the conclusion would be another one after the last epoch; of the best epoch's judge only."""
    if comparison.sweep.judge != BEST:
        return []
    tests = [_epoch_test(row, baseline) for row, baseline in _comparable(comparison)]
    found = [test for test in _corrected([test for test in tests if test is not None]) if test.is_said]
    told = [(test, text) for test in found if (text := _epochs(test))]
    if not told:
        return []
    claims = [Claim(test.row.label, direction(test.mean), test.baseline.label, test.outcome) for test, _ in told[:MOST]]
    texts = limited([text for _, text in told], MOST)
    text = f"Best and last epoch disagree: {texts}. The conclusion depends on which epoch is evaluated."
    return [Finding(text, Kind.EPOCHS, tuple(claims))]


def size_findings(comparison: Comparison) -> list[Finding]:
    """Large differences on small, medium or large objects, of variants that differ from the baseline."""
    sizes = [metric for metric in METRICS.values() if metric.size and metric is not comparison.metric]
    tests = [
        _Test(row, baseline, tuple(differences), metric.label)
        for row, baseline in _comparable(comparison)
        for metric in sizes
        if (differences := differences_of(row.variant, baseline, _by(metric))[1])
    ]
    large = [test for test in _corrected(tests) if test.is_said and abs(test.mean) >= LARGE]
    if not large:
        return []
    large.sort(key=lambda test: -abs(test.mean))
    texts = [_on_size(test) for test in large]
    claims = tuple(
        Claim(test.row.label, direction(test.mean), test.baseline.label, test.outcome) for test in large[:MOST]
    )
    text = f"By object size (COCO areas, corrected for {len(tests)} tests): {limited(texts, MOST)}."
    return [Finding(text, Kind.SIZES, claims)]


def _on_size(test: _Test) -> str:
    p_value = f"Holm-corrected p {cell('p_holm', test.p_holm)}"
    size = test.outcome.removeprefix("AP ")
    return f"{test.row.label} on {size} objects {estimate_text(test.mean, t_interval(test.differences), p_value)}"


def _epoch_test(row: Row, baseline: Variant) -> _Test | None:
    """The difference at the best epoch minus that at the last, seed by seed."""
    seeds, last = differences_of(row.variant, baseline, _last_by(row.variant.metric))
    best = _at_best(row.variant, baseline, seeds)
    between = tuple(a - b for a, b in zip(best, last, strict=True))
    return _Test(row, baseline, between, "best minus last epoch") if seeds else None


def _epochs(test: _Test) -> str:
    """Both differences where they lead to different conclusions; empty where they do not."""
    seeds, last = differences_of(test.row.variant, test.baseline, _last_by(test.row.variant.metric))
    best = _at_best(test.row.variant, test.baseline, seeds)
    opposite = fmean(best) * fmean(last) < 0 and max(abs(fmean(best)), abs(fmean(last))) >= NOTICEABLE
    if not opposite and abs(test.mean) < APART:
        return ""
    of_best, of_last = (estimate_text(fmean(values), t_interval(values)) for values in (best, last))
    return f"{test.row.label} {of_best} at the best epoch, {of_last} at the last"


def _by(metric: Metric) -> Callable[[TrialRecord], float | None]:
    return lambda trial: trial.metrics.value(metric)


def _last_by(metric: Metric) -> Callable[[TrialRecord], float | None]:
    return lambda trial: trial.metrics_last.value(metric)


def _at_best(variant: Variant, baseline: Variant, seeds: Sequence[int]) -> list[float]:
    of_variant, of_baseline = variant.accuracy(), baseline.accuracy()
    return [of_variant[seed] - of_baseline[seed] for seed in seeds]


def _corrected(tests: Sequence[_Test]) -> list[_Test]:
    """The tests with Holm's correction over all of them."""
    p_values = holm([paired_t(test.differences) for test in tests])
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
