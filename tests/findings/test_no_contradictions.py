"""Two sentences of one report never contradict each other, and each claim has its interval and corrected p-value.

Over random sweeps: few and many seeds, folds, margins, looks, skew, collapse, failures, flagged rows, networks that
learned nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
import pytest
from simulated.whole_reports import Planted, Study

from ablate.analysis.comparison import Comparison
from ablate.findings.all_findings import findings
from ablate.findings.finding import Finding, Relation
from ablate.records.sweep_record import AnalysisPlan
from ablate.statistics.verdict import Verdict

PLANS = {
    "no margin": AnalysisPlan(),
    "a small margin": AnalysisPlan(delta=0.005),
    "a large margin": AnalysisPlan(delta=0.03),
    "looks": AnalysisPlan(delta=0.01, until="decided", max_seeds=6, tests=4),
}
SAYS = {
    Verdict.BETTER: Relation.HIGHER,
    Verdict.WORSE: Relation.LOWER,
    Verdict.EQUIVALENT: Relation.EQUIVALENT,
}
ODDITIES = ("plain", "skewed", "collapsed", "failed", "hardly any noise", "nothing learned", "flagged")


def _sweep(plan: str, oddity: str, folds: int, random: np.random.Generator) -> Comparison:
    variants, seeds = int(random.choice([1, 2, 4])), 6 if plan == "looks" else int(random.choice([1, 2, 3, 5]))
    study = Study(variants, seeds, folds=folds, plan=PLANS[plan])
    truth = Planted(
        {f"m{number}": float(random.choice([0, 0.002, 0.03, -0.03, 0.1])) for number in range(variants)},
        sizes={("m0", "small"): 0.1},
        last={"m0": -0.05},
    )
    accuracy = study.accuracy(random, truth)
    if oddity == "skewed":
        accuracy[1 : 1 + variants] += random.exponential(0.02, (variants, accuracy.shape[1]))
    elif oddity == "collapsed":
        accuracy[1, 0] = 0.002
    elif oddity == "failed" and accuracy.shape[1] > 1:
        accuracy[1, 0] = np.nan
    elif oddity == "hardly any noise":
        accuracy = accuracy.mean() + 0.02 * (accuracy - accuracy.mean())
    elif oddity == "nothing learned":
        accuracy = 0.01 * accuracy
    return study.draw(random, truth, accuracy, flagged="m0" if oddity == "flagged" else "")


def _relations(told: list[Finding]) -> dict[tuple[str, str, str], set[Relation]]:
    relations: dict[tuple[str, str, str], set[Relation]] = defaultdict(set)
    for claim in (claim for finding in told for claim in finding.claims):
        relations[claim.subject, claim.reference, claim.outcome].add(claim.relation)
    return relations


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize(("plan", "folds"), [*((plan, 0) for plan in PLANS), ("no margin", 3), ("a small margin", 3)])
def test_sentences_agree_with_one_another_and_with_the_verdicts(plan: str, folds: int, oddity: str) -> None:
    comparison = _sweep(plan, oddity, folds, np.random.default_rng(len(plan) + 10 * len(oddity) + folds))
    told = findings(comparison)
    relations = _relations(told)
    assert not [key for key, said in relations.items() if {Relation.HIGHER, Relation.LOWER} <= said]
    for row in comparison.rows:
        verdict = row.difference.verdict if row.difference else None
        said = relations.get((row.label, row.baseline, "accuracy"), set())
        if row.is_control:
            continue
        if verdict in SAYS:
            assert SAYS[verdict] in said, row.label
        else:
            assert not said, row.label


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("plan", PLANS)
def test_a_claim_has_its_interval_and_is_corrected(plan: str, oddity: str) -> None:
    for finding in findings(_sweep(plan, oddity, 0, np.random.default_rng(len(plan) + len(oddity)))):
        if finding.claims and "every seed" not in finding.text:
            assert re.search(r"95% CI|90% CI|\S to \S+ over \d+ seeds", finding.text), finding.text
            assert plan == "looks" or re.search(r"\bp \d|Fisher", finding.text), finding.text


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("plan", PLANS)
def test_no_sentence_has_a_gap(plan: str, oddity: str) -> None:
    for finding in findings(_sweep(plan, oddity, 0, np.random.default_rng(len(plan) + len(oddity)))):
        assert not re.search(r"\bnan\b|None|\(\)|  |\.\.|, \.|: \.", finding.text), finding.text
