"""What the differences over seeds look like where Student's test would mislead: skewed, or with lost trainings."""

from __future__ import annotations

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.failure_rates import COLLAPSED, Losses, LossesCompared, losses_compared
from ablate.analysis.pairing import samples_of
from ablate.analysis.phrases import count, joined, listed, named, points_text
from ablate.findings.finding import Claim, Finding, Kind, direction
from ablate.settings.metric import MAP50_95
from ablate.statistics.paired import ALPHA
from ablate.statistics.sign_flip import least_p, seeds_to_reach

MOST = 4  # variants whose losses are said


def skewness_findings(comparison: Comparison) -> list[Finding]:
    """That the differences look skewed, and what "significant" takes therefore."""
    skewness, tests = comparison.skewness, comparison.tests
    if skewness is None or not skewness.is_notable or not tests:
        return []
    differences = [row.difference for row in comparison.rows if row.difference is not None and row.difference.is_tested]
    seeds = max(len(difference.seeds) for difference in differences)
    unit = differences[0].samples.unit
    of = "the differences" if skewness.samples == 1 else f"the differences of {skewness.samples} variants"
    text = (
        f"Over {unit}s, {of} look skewed (mean skewness {skewness.mean:+.2f}; normal samples of this size stay within "
        f"{skewness.limit:.2f} nine times out of ten). "
    )
    if unit == "fold":
        text += (
            "The corrected t-test assumes normal ones, and there is no exact test over folds, because folds share "
            "training images: look at the differences fold by fold before you claim one."
        )
        return [Finding(text, Kind.ACCURACY)]
    text += (
        "Student's test alone would call too many of them real, so a difference is called significant only if the "
        "exact sign-flip test and a t-test that allows for skewness agree."
    )
    if least_p(seeds) * tests >= ALPHA:
        text += (
            f" With {seeds} seeds the sign-flip test cannot go below p {least_p(seeds):g}, so none is; it takes "
            f"{seeds_to_reach(ALPHA / tests)} seeds."
        )
    return [Finding(text, Kind.ACCURACY)]


def failure_findings(comparison: Comparison) -> list[Finding]:
    """How many trainings failed or collapsed, with an interval, and whether that differs from the baseline."""
    compared = [one for one in losses_compared(comparison) if one.of_variant.count or one.differs]
    findings = [Finding(_losses(one), Kind.FAILURES, _claims(one)) for one in compared[:MOST]]
    if len(compared) > MOST:
        rest = listed(one.row.label for one in compared[MOST:])
        findings.append(Finding(f"Trainings of {rest} failed or collapsed as well; see the notes.", Kind.FAILURES))
    return findings


def _claims(one: LossesCompared) -> tuple[Claim, ...]:
    if not one.differs:
        return ()
    more = one.of_variant.rate.estimate - one.of_baseline.rate.estimate
    return (Claim(one.row.label, direction(more), one.baseline.label, "failure rate"),)


def _losses(one: LossesCompared) -> str:
    mine, base = one.of_variant, one.of_baseline
    rate = mine.rate
    what = [f"{named(mine.failed)} failed"] if mine.failed else []
    below = f"collapsed to less than {COLLAPSED:.0%} of the usual {MAP50_95.label}"
    what += [f"{named(mine.collapsed)} {below}"] if mine.collapsed else []
    verdict = "the rates differ significantly" if one.differs else "no significant difference"
    reasons = f" ({joined(what)})" if what else ""
    text = f"{mine.count} of {count(mine.trials, 'training')} of {one.row.label} {_were(mine.count)} lost{reasons}: "
    text += f"{rate.estimate:.0%}" + ("" if mine.over_folds else f", 95% CI {rate.low:.0%} to {rate.high:.0%}") + ". "
    text += f"Of {one.baseline.label}, {base.count} of {base.trials} {_were(base.count)} lost"
    if one.p_holm is None:
        text += ". The rates are not tested: trainings of different folds share images."
    else:
        text += f": {verdict} (Fisher's exact test, Holm-corrected p {cell('p_holm', one.p_holm)})."
    return f"{text}{_without(one, mine, base)}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _without(one: LossesCompared, mine: Losses, base: Losses) -> str:
    """The mean difference over the seeds, or seeds and folds, of which neither side collapsed."""
    difference, collapsed = one.row.difference, {*mine.collapsed, *base.collapsed}
    if difference is None or not collapsed & set(difference.replicates):
        return ""
    values = dict(zip(difference.replicates, difference.values, strict=True))
    complete = [replicate for replicate in difference.replicates if replicate not in collapsed]
    text = f" Its mean difference, {points_text(difference.estimate)}, includes collapsed trainings"
    if not complete:
        return f"{text}."
    without = samples_of(complete, [values[replicate] for replicate in complete], difference.fold_share)
    return f"{text}; without those {'trainings' if mine.over_folds else 'seeds'} it is {points_text(without.mean)}."
