"""What a report claims is held against a planted truth: whole synthetic sweeps in memory."""

from __future__ import annotations

import numpy as np
from simulated.many_variants import bias_of_best, by_student, false_claims, false_pairs
from simulated.whole_reports import Planted, Study, claims_of, false_reports, uncorrected_claims

from ablate.findings.all_findings import findings
from ablate.findings.finding import Kind, Relation
from ablate.statistics.all_pairs import letters
from ablate.statistics.sign_flip import least_p, sign_flip

FALSE = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)  # five percent and three standard errors of sixty reports


def test_a_report_in_which_nothing_differs_claims_something_in_five_percent_at_most() -> None:
    assert false_reports(np.random.default_rng(0), 60, 4, 3) < FALSE


def test_reports_that_take_each_interval_for_a_claim_would_be_noticed() -> None:
    assert false_reports(np.random.default_rng(0), 60, 4, 3, claims=uncorrected_claims) > FALSE


def test_one_seed_claims_nothing() -> None:
    assert not claims_of(Study(4, 1).draw(np.random.default_rng(0)))


def test_a_large_effect_is_claimed_in_its_direction() -> None:
    truth = Planted({"m0": 0.08, "m1": -0.08})
    claims = claims_of(Study(2, 5).draw(np.random.default_rng(0), truth))
    assert all(truth.is_true(claim) for claim in claims)
    of_baseline = {(c.subject[:2], c.relation) for c in claims if c.reference.startswith("none")}
    assert of_baseline == {("m0", Relation.HIGHER), ("m1", Relation.LOWER)}


def test_collapsed_trainings_are_an_outcome_of_their_own() -> None:
    study, random = Study(2, 5), np.random.default_rng(0)
    accuracy = study.accuracy(random)
    accuracy[1, 3] = 0.001
    (lost,) = [f for f in findings(study.draw(random, accuracy=accuracy)) if f.kind is Kind.FAILURES]
    assert "1 of 5 trainings of m0" in lost.text
    assert "seed 3 collapsed" in lost.text
    assert not lost.claims


def test_the_sign_flip_test_is_exact_and_five_seeds_cannot_go_below_a_sixteenth() -> None:
    assert sign_flip([0.01, 0.02, 0.03, 0.04, 0.05]) == least_p(5) == 0.0625
    assert sign_flip([1.0, -1.0, 1.0]) == 1.0


def test_skew_claims_less_than_students_test_alone() -> None:
    before = false_claims(np.random.default_rng(0), 60, 12, 10, "skewed", by_student)
    assert before > 2 * false_claims(np.random.default_rng(0), 60, 12, 10, "skewed")


def test_the_best_of_many_is_shrunken_to_what_is_true_of_it() -> None:
    measured, shrunken = bias_of_best(np.random.default_rng(0), 300, 12, 3)
    assert measured > 0.004
    assert abs(shrunken) < 0.002


def test_pairs_are_corrected_over_all_pairs() -> None:
    assert false_pairs(np.random.default_rng(0), 100, 4, 5) < 0.12
    assert false_pairs(np.random.default_rng(0), 100, 4, 5, corrected=False) > 0.12


def test_letters_are_shared_by_those_that_are_not_told_apart() -> None:
    assert letters(3, [(0, 2)]) == ["a", "ab", "b"]
    assert letters(2, []) == ["a", "a"]
