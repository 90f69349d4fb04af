"""What the numbers support and what they do not, in plain words."""

from __future__ import annotations

from dataclasses import replace

from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import count, limited, listed, named
from ablate.analysis.variants import is_measured
from ablate.findings.accuracy import group_findings, unfair_findings
from ablate.findings.component_findings import component_findings, sum_findings
from ablate.findings.control_findings import broken, control_findings, without_effect
from ablate.findings.cost import latency_findings, training_findings
from ablate.findings.data_set_findings import data_set_findings
from ablate.findings.distribution_findings import failure_findings, skewness_findings
from ablate.findings.equivalence_findings import equivalence_findings
from ablate.findings.factor_findings import factor_findings
from ablate.findings.facts import levels
from ablate.findings.finding import Finding, Kind, without_claims
from ablate.findings.fold_findings import fold_findings
from ablate.findings.images_and_seeds import image_findings
from ablate.findings.judging import judge_remarks
from ablate.findings.late_declarations import late_declarations, margin_remarks
from ablate.findings.leak_findings import leak_findings
from ablate.findings.looks_findings import looks_findings
from ablate.findings.metric_remarks import exploratory, metric_remarks
from ablate.findings.normality import explained_once
from ablate.findings.pair_findings import best_findings, pair_findings
from ablate.findings.sizes_and_epochs import epoch_findings, size_findings
from ablate.findings.test_split_findings import test_split_findings
from ablate.findings.tuning_findings import tuning_findings
from ablate.records.replicate import Replicate, split_name
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import short

BY_T_TEST = (Kind.COMPONENTS, Kind.EQUIVALENCE, Kind.FACTORS)  # which are claimed without the tests that allow for skew
MOST_MISSING = 12  # variants whose missing trials are named


def sentences(comparison: Comparison) -> list[str]:
    """What is to be said of a comparison, most important first; each is one or two plain sentences.

    Differences are in points of the metric (0.01), the table has fractions.
    """
    return [finding.text for finding in [*findings(comparison), *remarks(comparison)]]


def findings(comparison: Comparison) -> list[Finding]:
    """What the numbers support and what they do not, most important first."""
    rows = comparison.rows
    if not rows and not comparison.left_out:
        return [Finding("No trial of this sweep has a result yet, so there is nothing to compare.", Kind.MISSING)]
    late = [*exploratory(comparison), *late_declarations(comparison.sweep)]
    made = without_claims(Kind.CHECK, [*broken(comparison), *late, *without_effect(comparison)])
    made += leak_findings(comparison)
    is_sequential = comparison.sweep.manifest.analysis.until is not None
    made += looks_findings(comparison) if is_sequential else _of_fixed_seeds(comparison)
    made += test_split_findings(comparison)
    made += [*failure_findings(comparison), *unfair_findings(comparison), *control_findings(comparison)]
    images = [*image_findings(comparison), *fold_findings(comparison)]
    made += images
    if not images and any(row.difference is not None and row.difference.over_seeds is not None for row in rows):
        text = "The CIs (95%) and p-values cover seed-to-seed variance, not the sampling of validation images."
        made.append(Finding(text, Kind.IMAGES))
    made += without_claims(Kind.COST, latency_findings(comparison) if rows else [])
    if not is_sequential:
        made += [*epoch_findings(comparison), *size_findings(comparison)]
    made += without_claims(Kind.CHECK, tuning_findings(comparison))
    return explained_once([*made, *without_claims(Kind.COST, training_findings(comparison))])


def _of_fixed_seeds(comparison: Comparison) -> list[Finding]:
    """What tests say that hold for a number of seeds fixed beforehand, and not where the results decided it."""
    made = [*component_findings(comparison), *data_set_findings(comparison)]
    for group in comparison.groups:
        made += group_findings(comparison, group)
    made += [*best_findings(comparison), *pair_findings(comparison), *skewness_findings(comparison)]
    made += [*looks_findings(comparison), *equivalence_findings(comparison)]
    made += [*sum_findings(comparison), *factor_findings(comparison)]
    if comparison.skewness is None or not comparison.skewness.is_notable:
        return made
    return [_doubted(finding) if finding.claims and finding.kind in BY_T_TEST else finding for finding in made]


def _doubted(finding: Finding) -> Finding:
    """A finding whose claims rest on t-tests alone, in a report whose differences look skewed."""
    doubt = "The differences to the baseline look skewed, which the t-tests behind this do not allow for."
    return replace(finding, text=f"{finding.text} {doubt}")


def _missing(sweep: Sweep) -> list[str]:
    """The trials without a record, by variant: 'eca@head musgd (seed 0 fold 2)'; by signature where it has no name."""
    by_variant: dict[str, list[Replicate]] = {}
    nameless = []
    for signature in sweep.missing:
        variant, replicate = split_name(sweep.manifest.names.get(signature, ""))
        if replicate is None:
            nameless.append(short(signature))
        else:
            by_variant.setdefault(variant, []).append(replicate)
    return [*(f"{variant} ({named(sorted(those))})" for variant, those in by_variant.items()), *nameless]


def remarks(comparison: Comparison) -> list[Finding]:
    """Whose accuracies they are, and what is missing from the numbers: failures, damage, trials without a result."""
    sweep, texts = comparison.sweep, [*metric_remarks(comparison), *judge_remarks(comparison)]
    texts += margin_remarks(sweep)
    lost = sum(not is_measured(record, sweep.metric) for record in sweep.trials)
    if lost:
        have = "has" if lost == 1 else "have"
        texts.append(f"{count(lost, 'trial')} of {len(sweep.signatures)} {have} no result; see the notes.")
    if sweep.missing:
        missing = limited(_missing(sweep), MOST_MISSING, "variant")
        trials, have = count(len(sweep.missing), "trial"), "has" if len(sweep.missing) == 1 else "have"
        texts.append(f"{trials} of {len(sweep.signatures)} {have} no result yet: {missing}.")
    if sweep.ignored:
        texts.append(f"Unreadable and ignored: {listed(sweep.ignored, 4)}.")
    data = levels(row.data for row in comparison.rows)
    if len(data) > 1:
        texts.append(f"There are {len(data)} data sets ({listed(data)}); compare accuracies within one only.")
    return without_claims(Kind.MISSING, texts)
