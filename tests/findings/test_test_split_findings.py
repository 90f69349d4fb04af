"""What a report claims of the test split is held against a planted truth, apart from what the validation images say."""

from __future__ import annotations

import numpy as np
import pytest
from simulated.whole_reports import Planted, Study

from ablate.analysis.comparison import Comparison
from ablate.findings.all_findings import findings
from ablate.findings.finding import Claim, Finding, Kind, Relation
from ablate.records.sweep_record import AnalysisPlan

DRAWS = 40
FALSE = 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)  # five percent and three standard errors


def of_test_split(comparison: Comparison) -> list[Finding]:
    return [finding for finding in findings(comparison) if finding.kind is Kind.TEST_SPLIT]


def claims(comparison: Comparison) -> list[Claim]:
    return [claim for finding in of_test_split(comparison) for claim in finding.claims]


def uncorrected(comparison: Comparison) -> bool:
    """Whether any interval over seeds of the test split excludes zero."""
    assert comparison.on_test is not None
    differences = [one.test.difference for one in comparison.on_test.rows]
    return any(d is not None and d.over_seeds is not None and d.over_seeds.excludes_zero for d in differences)


def around(study: Study, effects: list[float], random: np.random.Generator, spread: float = 0.0002) -> np.ndarray:
    """Accuracies whose variants add these effects."""
    top = 0.4 + random.normal(0, spread, (len(study.names), study.seeds))
    top[1 : 1 + len(effects)] += np.array(effects)[:, None]
    return top


def test_where_nothing_differs_five_percent_of_reports_at_most_claim_anything_of_the_test_split() -> None:
    random, study = np.random.default_rng(0), Study(4, 3)
    drawn = []
    for _ in range(DRAWS):
        top = study.accuracy(random)
        on_test = top - 0.02 + random.normal(0, 0.004, top.shape)  # of the same networks
        drawn.append(study.draw(random, accuracy=top, on_test=on_test))
    assert np.mean([bool(claims(comparison)) for comparison in drawn]) < FALSE
    assert np.mean([uncorrected(comparison) for comparison in drawn]) > FALSE  # each interval taken for a claim


def test_planted_effects_are_claimed_in_their_direction() -> None:
    random, study, truth = np.random.default_rng(0), Study(2, 5), Planted({"m0": 0.04, "m1": -0.03})
    top = around(study, [0.04, -0.03], random)
    found = claims(study.draw(random, truth, top, on_test=top - 0.05))
    assert {(claim.subject[:2], claim.relation) for claim in found} == {
        ("m0", Relation.HIGHER),
        ("m1", Relation.LOWER),
    }
    assert all(claim.outcome == "accuracy on the test split" and truth.is_true(claim) for claim in found)
    first, *_ = of_test_split(study.draw(random, truth, top, on_test=top - 0.05))
    assert "sign-flip p 0.0625" in first.text
    assert "its p is at least 0.0625 before correction for 2 tests" in first.text


def test_a_gain_that_choosing_made_is_lost_on_the_test_split_and_not_claimed_there() -> None:
    random, study = np.random.default_rng(0), Study(2, 5)
    top = around(study, [0.03, 0.0], random)
    on_test = around(study, [0.0, 0.0], random, 0.002) - 0.05
    first, second = of_test_split(study.draw(random, accuracy=top, on_test=on_test))
    assert not first.claims
    assert "significant on the validation images and not on the test split: m0@c3k2 sgd" in first.text
    assert "m0@c3k2 sgd measured highest on the validation images (+3.00 points" in second.text
    assert "most for m0@c3k2 sgd (-" in second.text


@pytest.mark.parametrize(("shift", "word"), [(0.05, "falls by 5."), (-0.05, "rises by 5.")])
def test_a_fall_that_all_share_is_measured_with_its_sign(shift: float, word: str) -> None:
    random, study = np.random.default_rng(0), Study(1, 3)
    top = around(study, [0.0], random)
    text = of_test_split(study.draw(random, accuracy=top, on_test=top - shift))[-1].text
    assert word in text
    assert "highest on the validation" not in text  # of one variant none is highest


def test_equivalence_on_the_test_split_is_a_claim_of_its_own() -> None:
    random, study = np.random.default_rng(0), Study(1, 5, plan=AnalysisPlan(delta=0.005))
    top = around(study, [0.0], random)
    on_test = around(study, [0.0], random)
    (claim,) = claims(study.draw(random, Planted(margin=0.005), top, on_test=on_test))
    assert (claim.relation, claim.outcome) == (Relation.EQUIVALENT, "accuracy on the test split")


def test_one_seed_and_flagged_rows_claim_nothing_of_the_test_split() -> None:
    random, study = np.random.default_rng(0), Study(2, 1)
    top = around(study, [0.05, 0.05], random)
    comparison = study.draw(random, accuracy=top, on_test=top)
    assert "not tested" in of_test_split(comparison)[0].text
    assert not claims(comparison)
    study = Study(2, 5)
    top = around(study, [0.05, 0.02], random)
    found = claims(study.draw(random, accuracy=top, on_test=top, flagged="m0"))
    assert {claim.subject[:2] for claim in found} == {"m1"}


def test_differences_that_look_skewed_say_by_which_test_they_are_undecided() -> None:
    random, study = np.random.default_rng(0), Study(1, 3)
    top = around(study, [0.03], random)
    on_test = around(study, [0.0], random)
    on_test[1] = on_test[0] + np.array([0.0300, 0.0300, 0.0307])
    comparison = study.draw(random, accuracy=top, on_test=on_test)
    assert comparison.on_test is not None
    (difference,) = [one.test.difference for one in comparison.on_test.rows if one.test.label.startswith("m0")]
    assert difference is not None
    assert difference.p_holm is not None
    assert difference.p_holm < 0.05 < (difference.p_skewed or 0.0)
    assert "by the tests that allow for skewed differences" in of_test_split(comparison)[0].text
