"""What captions say of a report depends on its data: held against planted sweeps."""

from __future__ import annotations

import numpy as np
import pytest
from simulated.whole_reports import Planted, Study

from ablate.analysis.comparison import Comparison
from ablate.records.sweep_record import AnalysisPlan
from ablate.report.captions import accuracy_caption, also_required
from ablate.report.figures.forest import forest
from ablate.report.html import page_html
from ablate.report.latex import latex

PLANTED = Planted({"m0": 0.08, "m1": -0.08})


def _forest_caption(comparison: Comparison) -> str:
    drawing = forest(comparison)
    assert drawing is not None
    return drawing.caption


def _skewed(seeds: int = 5) -> Comparison:
    study = Study(4, seeds)
    accuracy = 0.4 + np.random.default_rng(0).normal(0, 0.0002, (len(study.names), seeds))
    accuracy[1:5] += np.array([0.03] * (seeds - 1) + [0.011])
    return study.draw(np.random.default_rng(0), accuracy=accuracy)


def test_the_number_of_tests_is_that_of_the_comparable_variants() -> None:
    study, random = Study(4, 3), np.random.default_rng(0)
    assert "corrected for 4 tests" in accuracy_caption(study.draw(random))
    assert "corrected for 3 tests" in accuracy_caption(study.draw(random, flagged="m0"))


def test_one_seed_has_no_interval_and_no_test() -> None:
    comparison = Study(2, 1).draw(np.random.default_rng(0))
    words = accuracy_caption(comparison)
    for absent in ("CI", "Student", "Holm", "Verdict"):
        assert absent not in words
    assert "There is no CI over seeds." in _forest_caption(comparison)
    assert "*" not in _forest_caption(comparison)


def test_intervals_over_images_are_told_only_where_there_are_some() -> None:
    words = accuracy_caption(Study(2, 3).draw(np.random.default_rng(0)))
    assert "CI over seeds covers seed-to-seed variance" in words
    assert "bootstrap" not in words
    assert "CI over both" not in words


def test_the_star_is_explained_where_one_is_drawn() -> None:
    assert "*: significant" in _forest_caption(Study(2, 5).draw(np.random.default_rng(0), PLANTED))
    assert "*" not in _forest_caption(_skewed())


def test_skewed_differences_take_more_than_the_corrected_p_value_and_captions_say_so() -> None:
    comparison = _skewed()
    assert "allow for skewness" in also_required(comparison)
    assert "allow for skewness" in accuracy_caption(comparison)
    assert not also_required(Study(2, 3).draw(np.random.default_rng(1)))


@pytest.mark.parametrize("variants", [1, 2])
def test_a_sequential_sweep_has_intervals_that_hold_at_all_looks(variants: int) -> None:
    plan = AnalysisPlan(delta=0.01, until="decided", max_seeds=6, tests=variants)
    comparison = Study(variants, 6, plan=plan).draw(np.random.default_rng(0))
    words, figure = accuracy_caption(comparison), _forest_caption(comparison)
    assert "hold at all looks" in words
    assert "valid at all looks" in figure
    assert ("together" in words) == (variants > 1)
    for text in (words, figure):
        assert "Student" not in text
    assert "Controls stand below" in figure
    assert "leaves them out" not in figure, "controls are among the variants that looks are corrected for"


def test_a_margin_is_told_only_where_one_is_declared() -> None:
    random = np.random.default_rng(0)
    assert "within ±0.01" in accuracy_caption(Study(2, 3, plan=AnalysisPlan(delta=0.01)).draw(random))
    assert "within" not in accuracy_caption(Study(2, 3).draw(random))


def test_the_page_names_what_was_compared_and_only_where_nothing_differs() -> None:
    study, random = Study(2, 3), np.random.default_rng(0)
    alike = page_html(study.draw(random), [], "")
    assert "Each row was trained as its baseline was" in alike
    for compared in ("batch", "gradient accumulation", "evaluation split", "starting weights"):
        assert compared in alike.partition("Compared: ")[2].partition("</p>")[0]
    flagged = page_html(study.draw(random, flagged="m0"), [], "")
    assert "Each row was trained as its baseline was" not in flagged
    assert "Not comparable with the baseline" in flagged


def test_latex_says_what_a_star_takes() -> None:
    significant = Study(2, 5).draw(np.random.default_rng(0), PLANTED)
    assert r"$^{*}$ Significant: $p_{\mathrm{Holm}} < 0.05$." in latex(significant, "", "")
    assert r"$^{*}$" not in latex(_skewed(), "", "")


def test_a_figure_is_told_in_numbers_to_who_does_not_see_it() -> None:
    comparison = Study(1, 3).draw(np.random.default_rng(0), PLANTED)
    drawing = forest(comparison)
    row = next(row for row in comparison.rows if row.label.startswith("m0@"))
    assert drawing is not None
    assert row.difference is not None
    assert f"{row.label}: {row.difference.estimate:+.4f} (" in drawing.alt
