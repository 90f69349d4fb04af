"""What several data sets say of each variant together, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.data_sets import AcrossDataSets, DataSetStudy, data_set_studies
from ablate.analysis.number_format import points
from ablate.analysis.phrases import interval_text, limited, listed, probability_text
from ablate.findings.finding import Claim, Finding, Kind, Relation, direction
from ablate.findings.normality import few_units_doubt
from ablate.statistics.paired import ALPHA
from ablate.statistics.random_effects import FEWEST
from ablate.statistics.ranks import Ranks

MOST = 3  # variants that are said


def data_set_findings(comparison: Comparison) -> list[Finding]:
    """The mean over data sets, the next data set and the ranks, for each study over data sets."""
    findings, studies = [], data_set_studies(comparison)
    tests = sum(variant.p_holm is not None for study in studies for variant in study.variants)
    for study in studies:
        lead = f"Over {len(study.data)} data sets ({listed(study.data, MOST)})"
        lead += f" with {study.title}" if study.title else ""
        text = (
            f"{lead}, compared with {study.baseline}: {_means(study.variants)}.{_next(study, comparison.averaged_over)}"
        )
        claims = [
            Claim(variant.label, direction(variant.pooled.mean), study.baseline, "mean accuracy over data sets")
            for variant in study.variants
            if variant.supported
        ]
        numbers = [len(one.on) for one in study.variants if one.supported]
        text += few_units_doubt(numbers, tests, "data set")
        findings.append(Finding(text, Kind.DATA_SETS, tuple(claims)))
        if study.ranks is not None:
            findings.append(_of_ranks(study, study.ranks))
    return findings


def _means(variants: Sequence[AcrossDataSets]) -> str:
    """Mean differences, the supported ones first, then the largest."""
    ranked = sorted(variants, key=lambda variant: (not variant.supported, -abs(variant.pooled.mean)))
    return limited([_mean(variant) for variant in ranked], MOST, "variant")


def _mean(variant: AcrossDataSets) -> str:
    interval = variant.pooled.interval
    text = f"{variant.label} {points(variant.pooled.mean)} points on average"
    if interval is not None:
        test = f"{interval_text(interval.low, interval.high)}, Holm-corrected p {cell('p_holm', variant.p_holm)}"
        text += f" ({test}{'' if variant.supported else ', not significant'})"
    text += f", higher on {variant.higher} of {len(variant.on)}"
    foreseen = variant.pooled.prediction
    return (
        text if foreseen is None else f"{text} and on the next one with probability {probability_text(foreseen.higher)}"
    )


def _next(study: DataSetStudy, averaged_over: str) -> str:
    """What the probabilities hold for, or why there are none."""
    if len(study.data) < FEWEST:
        return " Two data sets do not tell what the next one will show."
    if any(variant.pooled.prediction is not None for variant in study.variants):
        chosen = ", and are too high for the best of several variants" if len(study.variants) > 1 else ""
        return f" The probabilities hold for a data set like these, measured with as many {averaged_over}{chosen}."
    return ""


def _of_ranks(study: DataSetStudy, found: Ranks) -> Finding:
    """Whether the mean ranks differ, and which from the baseline's by more than the critical distance."""
    ordered = sorted(study.rank_of.items(), key=lambda one: one[1])
    texts = listed((f"{label} {rank:.2f}" for label, rank in ordered), 2 * MOST)
    lead = f"Mean ranks over the data sets (1 is the most accurate): {texts}."
    test = f"Friedman p {cell('p_value', found.p_value)}"
    if found.p_value >= ALPHA:
        return Finding(f"{lead} They do not differ significantly ({test}).", Kind.DATA_SETS)
    some = Claim("some variant", Relation.DIFFERENT, "the others", "rank over data sets")
    lead += f" They differ significantly ({test});"
    distance = f"Nemenyi's critical distance is {found.distance:.2f}"
    if not found.can_differ:
        text = f"{lead} {len(study.data)} data sets are too few to tell which: {distance}."
        return Finding(text, Kind.DATA_SETS, (some,))
    baseline_rank = study.rank_of[study.baseline]
    apart = [(label, rank) for label, rank in ordered if abs(rank - baseline_rank) > found.distance]
    words = [f"{label} ranks {'above' if rank < baseline_rank else 'below'} {study.baseline}" for label, rank in apart]
    claims = [
        Claim(label, direction(baseline_rank - rank), study.baseline, "rank over data sets") for label, rank in apart
    ]
    which = limited(words, MOST) if words else f"no variant differs from {study.baseline} by that much"
    return Finding(f"{lead} {distance}: {which}.", Kind.DATA_SETS, (some, *claims))
