"""Intervals cover what they claim and tests keep quiet about nothing, on simulated sweeps and detectors.

Fixed generators: nothing here can flake. Each check is tried on a wrong formula too, and must notice it.
`python benchmarks/coverage.py` does the same at length.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from simulated import known_truth as simulation

from ablate.settings.metric import METRICS
from ablate.statistics.interval import Interval
from ablate.statistics.paired import paired_differences

ROOT = Path(__file__).parents[2]


def z_interval(variant: dict[int, float], baseline: dict[int, float]) -> Interval:
    """Wrong for few seeds: the normal distribution's quantile in place of Student's."""
    differences = paired_differences(variant, baseline)[1]
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(len(differences))
    return Interval(float(mean), float(mean - 1.96 * error), float(mean + 1.96 * error))


def population_t_interval(variant: dict[int, float], baseline: dict[int, float]) -> Interval:
    """Wrong: the standard deviation with n in place of n - 1."""
    differences = paired_differences(variant, baseline)[1]
    mean, error = np.mean(differences), np.std(differences) / np.sqrt(len(differences))
    reach = special.stdtrit(len(differences) - 1, 0.975) * error
    return Interval(float(mean), float(mean - reach), float(mean + reach))


def unpaired_interval(variant: dict[int, float], baseline: dict[int, float]) -> Interval:
    """Wrong where a seed moves all variants alike: two independent samples."""
    found = stats.ttest_ind(list(variant.values()), list(baseline.values()), equal_var=False).confidence_interval(0.95)
    return Interval(0.0, float(found.low), float(found.high))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_over_seeds_cover_93_to_97_percent(seeds: int) -> None:
    covered = simulation.coverage_over_seeds(np.random.default_rng(seeds), 4000, seeds)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize(
    ("wrong", "seeds"),
    [
        (z_interval, 3),
        (z_interval, 5),
        (z_interval, 10),
        (population_t_interval, 3),
        (unpaired_interval, 3),
        (unpaired_interval, 10),
    ],
)
def test_a_wrong_interval_over_seeds_would_be_noticed(wrong: object, seeds: int) -> None:
    covered = simulation.coverage_over_seeds(np.random.default_rng(seeds), 1000, seeds, interval=wrong)
    assert not 0.93 <= covered <= 0.97


@pytest.mark.parametrize(("kind", "least"), [("heavy", 0.945), ("skewed", 0.93)])
def test_intervals_over_seeds_never_cover_much_less_than_they_claim_whatever_the_noise(kind: str, least: float) -> None:
    for seeds in (3, 5, 10):
        assert simulation.coverage_over_seeds(np.random.default_rng(seeds), 4000, seeds, kind) >= least


@pytest.mark.parametrize(("kind", "skewness"), [("normal", 0), ("skewed", 2 / 2**1.5)])
def test_simulated_skew_does_not_cancel_in_the_pair(kind: str, skewness: float) -> None:
    """An exponential variable less a normal one of the same variance has a skewness of 0.71."""
    ((baseline, variant),) = simulation.sweeps(np.random.default_rng(0), 1, 40_000, [0.0], kind)
    assert stats.skew(paired_differences(variant, baseline)[1]) == pytest.approx(skewness, abs=0.06)


FALSE_ALARMS = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)  # 6.7 %: five percent and three standard errors of a simulation


@pytest.mark.parametrize("variants", [4, 12])
@pytest.mark.parametrize("seeds", [3, 10])
def test_false_alarms_after_holm_are_five_percent_at_most_within_what_1500_sweeps_tell(
    variants: int, seeds: int
) -> None:
    alarms = simulation.false_alarms(np.random.default_rng(variants), 1500, seeds, variants)
    assert 0.01 < alarms < FALSE_ALARMS


@pytest.mark.parametrize("variants", [4, 12])
def test_without_correction_false_alarms_would_be_noticed(variants: int) -> None:
    alarms = simulation.false_alarms(np.random.default_rng(variants), 500, 3, variants, correct=list)
    assert alarms > 1.5 * FALSE_ALARMS


def test_intervals_of_effects_cover_and_nothing_is_called_an_interaction() -> None:
    found = simulation.factor_coverage(np.random.default_rng(2), 250, 3)
    assert 0.93 <= found["main effects"] <= 0.97
    assert 0.93 <= found["interactions"] <= 0.97
    assert found["false alarms"] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 250)


@pytest.fixture(scope="module")
def whole() -> object:
    return simulation.population(20_000, (4.0, 1.0, 1.0), seed=1)


@pytest.mark.parametrize("images", [70, 200])
def test_the_interval_over_images_covers(whole: object, images: int) -> None:
    """150 samples: a standard error of 1.8 %."""
    found = simulation.image_coverage(np.random.default_rng(images), whole, images, 150 if images == 70 else 75, 200)
    assert 0.89 <= found["coverage"] <= 0.99
    assert 0.85 < found["relative width"] < 1.2


def test_the_interval_over_images_of_map50_covers() -> None:
    whole = simulation.population(20_000, (4.0, 1.0, 1.0), seed=1, metric=METRICS["map50"])
    found = simulation.image_coverage(np.random.default_rng(2), whole, 100, 75, 150)
    assert 0.87 <= found["coverage"] <= 0.99
    assert 0.8 < found["relative width"] < 1.25


def test_resampling_variant_and_baseline_apart_would_be_noticed(whole: object) -> None:
    """The interval would be wider than the truth's spread by what the images do to both."""
    found = simulation.image_coverage(np.random.default_rng(1), whole, 70, 60, 200, apart=True)
    assert found["relative width"] > 1.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
def test_over_seeds_at_length(kind: str) -> None:
    for seeds in (3, 5, 10):
        covered = simulation.coverage_over_seeds(np.random.default_rng(0), 40_000, seeds, kind)
        assert (0.94 if kind == "skewed" else 0.945) <= covered <= (0.955 if kind == "normal" else 0.985)
        for variants in (1, 4, 12):
            alarms = simulation.false_alarms(np.random.default_rng(0), 20_000, seeds, variants, kind)
            assert alarms < (0.065 if kind == "skewed" else 0.05) + 3 * np.sqrt(0.05 * 0.95 / 20_000)


@pytest.mark.slow
def test_effects_at_length() -> None:
    found = simulation.factor_coverage(np.random.default_rng(0), 3000, 3)
    assert found["main effects"] == pytest.approx(0.95, abs=0.01)
    assert found["interactions"] == pytest.approx(0.95, abs=0.01)
    assert found["false alarms"] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(4.0, 1.0, 1.0), (4.0, 1.0, 1.0, 0.4, 0.4, 0.2)])
def test_over_images_at_length(rates: tuple[float, ...]) -> None:
    whole = simulation.population(200_000, rates, seed=1)
    for images, least in ((70, 0.91), (200, 0.92)):
        found = simulation.image_coverage(np.random.default_rng(0), whole, images, 500)
        assert least <= found["coverage"] <= 0.97


def test_the_page_on_statistics_says_what_was_simulated() -> None:
    results = (ROOT / "benchmarks" / "results" / "coverage.jsonl").read_text(encoding="utf-8")
    found = {(row["what"], row["setting"]): row["found"] for row in map(json.loads, results.splitlines())}
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([\d.]+) % ± [\d.]+ \| [^|]+ \|$", page, re.MULTILINE)
    assert len(rows) >= 20
    for what, setting, said in rows:
        assert f"{100 * found[what, setting]:.1f}" == said
