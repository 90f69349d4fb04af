"""What a report claims is held against a planted truth: whole synthetic sweeps in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated.many_variants import bias_of_best, by_student, false_claims, false_pairs
from simulated.whole_reports import (
    Planted,
    Study,
    claims_of,
    claims_of_trainings,
    false_reports,
    uncorrected_claims,
)

from ablate.findings.all_findings import findings
from ablate.findings.finding import Kind, Relation
from ablate.findings.normality import few_units_doubt, normality_doubt, sign_flip_text
from ablate.records.sweep_record import AnalysisPlan
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


def _exactly(study: Study, effects: list[float], spread: float = 0.0002) -> np.ndarray:
    """Accuracies of a study whose variants add just these effects, with hardly any noise; controls add nothing."""
    top = 0.4 + np.random.default_rng(0).normal(0, spread, (len(study.names), study.seeds * (study.folds or 1)))
    top[1 : 1 + len(effects)] += np.array(effects)[:, None]
    return top


def test_a_certain_difference_that_is_small_is_said_to_be_small() -> None:
    study, truth = Study(2, 5), Planted({"m0": 0.002, "m1": 0.02})
    comparison = study.draw(np.random.default_rng(0), truth, _exactly(study, [0.002, 0.02]))
    (higher,) = [f for f in findings(comparison) if "significantly higher" in f.text]
    large, small = higher.text.split("m0@")  # the larger one is first
    assert "significant, but smaller than half a point" in small
    assert "half a point" not in large
    assert {(c.subject[:2], c.relation) for c in higher.claims} == {
        ("m0", Relation.HIGHER),
        ("m1", Relation.HIGHER),
        ("m0", Relation.SMALL),
    }
    assert all(truth.is_true(claim) for claim in higher.claims)


def test_a_difference_that_is_small_only_as_measured_is_not_claimed_to_be_small() -> None:
    study, random = Study(1, 5), np.random.default_rng(0)
    accuracy = _exactly(study, [0.0])
    accuracy[1] = accuracy[0] + np.array([0.003, 0.0065, 0.0045, 0.0055, 0.005])
    (higher,) = [f for f in findings(study.draw(random, accuracy=accuracy)) if "significantly higher" in f.text]
    assert "measured smaller than half a point" in higher.text
    assert Relation.SMALL not in {claim.relation for claim in higher.claims}


def test_a_declared_margin_says_what_is_small() -> None:
    study = Study(1, 5, plan=AnalysisPlan(delta=0.001))
    texts = [f.text for f in findings(study.draw(np.random.default_rng(0), accuracy=_exactly(study, [0.002])))]
    assert any("significantly higher" in text for text in texts)
    assert not any("half a point" in text for text in texts)


def test_a_crippled_identity_control_is_told_before_anything_else() -> None:
    study, random = Study(1, 3), np.random.default_rng(0)
    first, *_ = findings(study.draw(random, crippled=0.03))
    assert first.kind is Kind.CHECK
    assert "BROKEN" in first.text
    assert "3.00 points" in first.text
    assert not any("BROKEN" in finding.text for finding in findings(study.draw(random)))


def test_a_flagged_row_is_told_as_flagged_and_claims_nothing_and_costs_others_nothing() -> None:
    study, truth = Study(2, 5), Planted({"m0": 0.05, "m1": 0.02})
    accuracy = _exactly(study, [0.05, 0.02])
    accuracy[2] = accuracy[0] + np.array([0.019, 0.0195, 0.02, 0.0205, 0.021])
    comparison = study.draw(np.random.default_rng(0), truth, accuracy, flagged="m0")
    told = findings(comparison)
    assert not [c for f in told for c in f.claims if "m0@" in c.subject or "m0@" in c.reference]
    assert {(c.subject[:2], c.relation) for f in told for c in f.claims if c.reference.startswith("none")} >= {
        ("m1", Relation.HIGHER)
    }
    assert [f for f in told if f.kind is Kind.CHECK and "other causes" in f.text and "m0@" in f.text]
    row = next(row for row in comparison.rows if row.label.startswith("m1@"))
    assert row.difference is not None
    assert comparison.tests == 1
    assert row.difference.p_holm == row.difference.p_value


def test_skewed_differences_are_told_with_what_a_claim_takes_and_how_many_seeds() -> None:
    study, random = Study(4, 5), np.random.default_rng(0)
    accuracy = _exactly(study, [0.0] * 4)
    accuracy[1:5] += np.array([0.03, 0.03, 0.03, 0.03, 0.011])  # one seed of five much worse, of every variant
    comparison = study.draw(random, accuracy=accuracy)
    (skewed,) = [f for f in findings(comparison) if "look skewed" in f.text]
    assert "mean skewness -" in skewed.text
    assert "0.0625" in skewed.text
    assert not [c for f in findings(comparison) for c in f.claims if c.reference.startswith("none")]


def test_what_is_claimed_by_t_tests_alone_says_that_differences_look_skewed() -> None:
    study, random = Study(4, 5, plan=AnalysisPlan(delta=0.2)), np.random.default_rng(0)
    accuracy = _exactly(study, [0.0] * 4)
    accuracy[1:5] += np.array([0.03, 0.03, 0.03, 0.03, 0.011])
    (alike,) = [f for f in findings(study.draw(random, accuracy=accuracy)) if f.kind is Kind.EQUIVALENCE]
    assert alike.claims
    assert "look skewed, which the t-tests behind this do not allow for" in alike.text


@pytest.mark.parametrize(("seeds", "lowest"), [(3, "0.25"), (5, "0.0625")])
def test_with_few_seeds_a_verdict_says_that_no_test_without_normal_differences_could_agree(
    seeds: int, lowest: str
) -> None:
    study = Study(1, seeds)
    told = findings(study.draw(np.random.default_rng(0), accuracy=_exactly(study, [0.05])))
    (higher,) = [f.text for f in told if "significantly higher" in f.text]
    assert f"sign-flip p {float(lowest):.4f}" in higher.split(")")[1]
    assert f"cannot be significant: its p is at least {lowest}." in higher


def test_with_more_seeds_a_verdict_says_whether_the_exact_test_agrees() -> None:
    study = Study(1, 10)
    accuracy = _exactly(study, [0.05])
    (higher,) = [
        f.text
        for f in findings(study.draw(np.random.default_rng(0), accuracy=accuracy))
        if "significantly higher" in f.text
    ]
    assert "sign-flip p 0.0020" in higher
    assert "normal differences" not in higher
    row = study.draw(np.random.default_rng(0), accuracy=accuracy).groups[0].compared[0]
    assert row.difference is not None
    against = replace(row.difference, p_sign_flip=0.06)
    assert "does not confirm m0@" in normality_doubt([(row, against)], [against])
    close = replace(row.difference, p_sign_flip=0.02)
    assert normality_doubt([(row, close)], [close, against]) == ""
    assert "does not confirm m0@" in normality_doubt([(row, close)], [close, against, against]), (
        "0.02 is 0.06 of three tests"
    )
    of_folds = replace(row.difference, p_sign_flip=None)
    assert (sign_flip_text(of_folds), normality_doubt([(row, of_folds)], [of_folds])) == ("", "")


def test_the_exact_test_is_corrected_over_higher_and_lower_differences_together() -> None:
    study = Study(2, 7)
    accuracy = _exactly(study, [0.0, 0.0], 0.00001)
    accuracy[1] += np.array([0.045, 0.025, 0.030, 0.05, 0.012, 0.02, -0.004])  # p 0.03125, that of one of two tests
    accuracy[2] -= np.array([0.03, 0.04, 0.02, 0.05, 0.032, 0.028, 0.01])  # p 0.015625
    told = [
        f.text for f in findings(study.draw(np.random.default_rng(0), accuracy=accuracy)) if "significantly" in f.text
    ]
    assert len(told) == 2
    assert "sign-flip p 0.0312" in told[0]
    assert not any("does not confirm" in text or "cannot be" in text for text in told)


def test_numbers_of_seeds_that_are_too_few_have_one_bound() -> None:
    assert "With 3 to 5 seeds" in few_units_doubt([5, 3])
    assert "its p is at least 0.0625." in few_units_doubt([5, 3])
    assert few_units_doubt([6]) == ""
    assert "at least 0.03125 before correction for 2 tests" in few_units_doubt([6], 2)


def test_only_the_first_sentence_says_why_the_exact_test_is_named() -> None:
    study = Study(2, 3)
    told = findings(study.draw(np.random.default_rng(0), accuracy=_exactly(study, [0.05, 0.03], 0.002)))
    named = [f.text for f in told if "cannot be significant" in f.text]
    assert len(named) > 1
    assert ["normal differences" in text for text in named] == [True, *[False] * (len(named) - 1)]


def test_collapsed_trainings_are_an_outcome_of_their_own() -> None:
    study, random = Study(2, 5), np.random.default_rng(0)
    accuracy = study.accuracy(random)
    accuracy[1, 3] = 0.001
    (lost,) = [f for f in findings(study.draw(random, accuracy=accuracy)) if f.kind is Kind.FAILURES]
    assert "1 of 5 trainings of m0" in lost.text
    assert "seed 3 collapsed" in lost.text
    assert not lost.claims


def test_where_nothing_was_learned_none_has_collapsed_and_no_interval_is_said() -> None:
    study, random = Study(3, 5), np.random.default_rng(0)
    accuracy = study.accuracy(random)
    accuracy[:] = 0.004 + random.normal(0, 0.0002, accuracy.shape)
    accuracy[1] = 0.0002
    told = findings(study.draw(random, accuracy=accuracy))
    assert not [f.text for f in told if "best of" in f.text]
    assert not [f.text for f in told if f.kind in (Kind.FAILURES, Kind.PAIRS) or "points: m" in f.text]


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


def test_a_cross_validation_in_which_nothing_differs_claims_something_in_five_percent_at_most() -> None:
    assert false_reports(np.random.default_rng(0), 60, 4, 2, folds=5) < FALSE
    control = false_reports(np.random.default_rng(0), 15, 4, 2, folds=5, claims=claims_of_trainings)
    assert control > 3 * FALSE, "each training taken as a sample of its own"


def test_a_large_effect_over_folds_is_claimed_in_its_direction() -> None:
    truth = Planted({"m0": 0.08, "m1": -0.08})
    study = Study(2, 2, folds=5)
    claims = claims_of(study.draw(np.random.default_rng(0), truth))
    assert all(truth.is_true(claim) for claim in claims)
    of_baseline = {(c.subject[:2], c.relation) for c in claims if c.reference.startswith("none")}
    assert of_baseline == {("m0", Relation.HIGHER), ("m1", Relation.LOWER)}


def test_equivalence_over_folds_is_claimed_within_the_margin_only() -> None:
    truth = Planted({"m1": 0.05}, margin=0.03)
    study = Study(2, 3, folds=5, plan=AnalysisPlan(delta=0.03))
    claims = claims_of(study.draw(np.random.default_rng(0), truth))
    assert all(truth.is_true(claim) for claim in claims)
    assert ("m0", Relation.EQUIVALENT) in {(claim.subject[:2], claim.relation) for claim in claims}


def test_what_is_said_over_folds_names_folds_and_no_seed_to_seed_variance() -> None:
    study, random = Study(4, 2, folds=5), np.random.default_rng(0)
    accuracy = study.accuracy(random)
    accuracy[1, 3] = 0.001
    texts = [finding.text for finding in findings(study.draw(random, accuracy=accuracy))]
    assert not [text for text in texts if "seed-to-seed" in text or "over seeds" in text]
    assert any("All folds have the same 2 seeds" in text for text in texts)
    (lost,) = [text for text in texts if "lost" in text]
    assert "1 of 10 trainings of m0" in lost
    assert "seed 0 fold 3 collapsed" in lost
    assert "not tested" in lost


def test_skewed_folds_are_told_without_a_test_that_needs_independence() -> None:
    study, random = Study(4, 1, folds=5), np.random.default_rng(0)
    accuracy = _exactly(study, [0.0] * 4)
    accuracy[1:5] += np.array([0.03, 0.03, 0.03, 0.03, 0.011])
    (skewed,) = [f for f in findings(study.draw(random, accuracy=accuracy)) if "look skewed" in f.text]
    assert skewed.text.startswith("Over folds")
    assert "no exact test over folds" in skewed.text


def test_many_folds_are_warned_of() -> None:
    ten, five = ([f.text for f in findings(Study(1, 1, folds=k).draw(np.random.default_rng(0)))] for k in (10, 5))
    assert any("With more than 5 folds" in text for text in ten)
    assert not any("With more than 5 folds" in text for text in five)


def test_networks_that_learned_nothing_conclude_nothing() -> None:
    study, random = Study(2, 5), np.random.default_rng(0)
    accuracy = 0.004 + 0.0001 * study.accuracy(random)
    accuracy[1] += 0.003
    told = [f for f in findings(study.draw(random, accuracy=accuracy)) if f.kind is Kind.ACCURACY]
    (blank,) = [f for f in told if "nothing can be concluded" in f.text]
    assert "+0.3" in blank.text
    assert "m1@" in blank.text
    assert not [c for f in told for c in f.claims]
    assert not [f for f in told if "skewed differences" in f.text or "no significant difference" in f.text]


def test_a_sequential_sweep_before_its_first_look_is_not_said_to_agree_on_every_seed() -> None:
    study = Study(1, 2, plan=AnalysisPlan(delta=0.01, until="decided", max_seeds=6))
    (undecided,) = [f for f in findings(study.draw(np.random.default_rng(0))) if f.text.startswith("Undecided")]
    of_variant = undecided.text.partition("m0@c3k2 sgd (")[2].partition(")")[0]
    assert of_variant.endswith("points with 2 seeds, before a look")


def test_two_epochs_of_one_sign_are_told_by_size_and_not_as_two_conclusions() -> None:
    study, random = Study(1, 5), np.random.default_rng(0)
    truth = Planted(last={"m0": -0.03})
    comparison = study.draw(random, truth, _exactly(study, [0.08]))
    (epochs,) = [f for f in findings(comparison) if f.kind is Kind.EPOCHS]
    assert "The difference depends on the epoch that is evaluated" in epochs.text
    assert "+8.0" in epochs.text
    assert "conclusion" not in epochs.text
    assert [c.relation for c in epochs.claims] == [Relation.HIGHER]


def test_claims_in_a_family_that_the_exact_test_cannot_confirm_after_correction_say_so() -> None:
    study = Study(4, 6)
    told = findings(study.draw(np.random.default_rng(0), accuracy=_exactly(study, [0.03, 0.026, 0.0, -0.03], 0.003)))
    (pairs,) = [f.text for f in told if f.kind is Kind.PAIRS]
    before, doubt = pairs.split(" With 6 seeds")
    assert "and 1 more pair." in before or "more pairs." in before
    assert "at least 0.03125 before correction for 6 tests" in doubt.partition("Those that share a letter")[0]
    blocks = [f.text for f in told if f.kind is Kind.CONTROLS and f.claims]
    assert blocks
    assert all("before correction for 4 tests" in text for text in blocks)
