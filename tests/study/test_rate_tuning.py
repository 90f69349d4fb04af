"""A learning rate for each variant: the same tries for each, variants still compared, and what was chosen recorded."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tests.factories import make_record

from ablate.analysis.comparability import differences
from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.execution.make_request import Request
from ablate.execution.tune import ended, with_chosen_rates
from ablate.records.json_struct import from_json, to_json
from ablate.records.loading import save_record
from ablate.records.sweep_record import Control, TunedRate
from ablate.records.trial_record import decode_record
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.settings.tuning import Tuning
from ablate.study.rate_tuning import SEED, chosen_rate, short_trials
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a", "b", "c"], {"train": 8, "val": 4}, {"train": 8, "val": 4}, "f" * 64)


def trial(module: str = "none", *, tune: int = 3, root: str = "multirun", **changes: Any) -> Trial:
    content = {**asdict(Config()), "data": {"name": "mine", "path": "mine.yaml"}, "tune": tune, "root": root}
    content["module"] = option_file("module", module)
    content["train"] |= {"epochs": 10, **changes.pop("train", {})}
    return Trial.of(TrialSettings.from_plain({**content, **changes}), DATA)


def finish(short: Trial, accuracy: float) -> None:
    """Write the record of a short trial that has finished."""
    record = make_record(signature=short.identity.signature)
    record["metrics"]["map50_95"] = accuracy
    short.folder.mkdir(parents=True)
    save_record(short.folder, decode_record(record))


@pytest.mark.parametrize(
    ("trials", "rates"),
    [(1, (0.01,)), (2, (0.01, 0.00333)), (3, (0.01, 0.00333, 0.03)), (5, (0.01, 0.00333, 0.03, 0.00111, 0.09))],
)
def test_rates_lie_around_the_given_one(trials: int, rates: tuple[float, ...]) -> None:
    assert Tuning(trials, 1).rates(0.01) == rates


def test_every_variant_gets_the_same_short_trials_once_whatever_its_seeds() -> None:
    requested = [trial(module, seed=seed) for module in ("none", "eca") for seed in range(3)]

    baseline, eca = short_trials(requested)

    assert [rate for rate, _ in baseline.trials] == [rate for rate, _ in eca.trials] == [0.01, 0.00333, 0.03]
    for rate, short in (*baseline.trials, *eca.trials):
        settings = short.settings
        assert (settings.optimizer.lr0, settings.seed, settings.tuning) == (rate, SEED, None)
        assert settings.train.epochs == settings.train.arguments["epochs"] == 3
    assert len({short.identity.signature for _, short in (*baseline.trials, *eca.trials)}) == 6


def test_a_short_trial_is_the_trial_that_a_user_would_have_run() -> None:
    (_, short) = short_trials([trial()])[0].trials[2]
    by_hand = trial(tune=0, train={"epochs": 3}, seed=SEED, optimizer={**asdict(Config())["optimizer"], "lr0": 0.03})
    assert short.identity.signature == by_hand.identity.signature


def test_without_tuning_there_are_no_short_trials() -> None:
    assert short_trials([trial(tune=0)]) == []


def test_a_share_of_a_time_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.time"):
        short_trials([trial(train={"time": 0.5})])


@pytest.mark.parametrize(
    ("accuracies", "chosen", "end", "words"),
    [
        ([0.2, 0.1, 0.3], 0.03, "highest", "lr0 0.03 of 0.00333 0.1000, 0.01 0.2000, 0.03 0.3000: the highest tried"),
        ([0.1, 0.3, 0.2], 0.00333, "lowest", "the lowest tried, one beyond it may be better"),
        ([0.3, 0.1, 0.2], 0.01, "", "0.03 0.2000"),
        ([0.2, 0.2, 0.2], 0.01, "", "0.03 0.2000"),  # of equal ones the given rate
        ([0.1, 0.2, 0.2], 0.00333, "lowest", "the lowest tried"),  # that which was tried first
        ([0.2, None, 0.1], 0.01, "", "0.00333 failed"),
        ([None, None, 0.2], 0.03, "highest", "0.01 failed"),
        ([0.0, 0.0, 0.0], 0.01, "", "the given rate, because no short trial learned anything"),
        ([4e-5, 2e-6, 3e-3], 0.01, "", "the given rate, because no short trial learned anything"),
        ([0.0, None, None], 0.01, "", "the given rate, because no short trial learned anything"),
        ([None, None, None], 0.01, "", "the given rate, because every short trial failed"),
    ],
)
def test_the_best_rate_is_chosen_and_the_given_one_where_nothing_was_learned(
    accuracies: list[float | None], chosen: float, end: str, words: str
) -> None:
    rate = chosen_rate(short_trials([trial()])[0], accuracies)

    assert (rate.chosen, rate.end) == (chosen, end)
    assert words in rate.in_words
    assert from_json(to_json(rate), TunedRate) == rate


def test_a_plan_takes_the_rate_of_a_variant_once_all_of_its_short_trials_have_ended(tmp_path: Path) -> None:
    requested = [trial(module, root=str(tmp_path)) for module in ("none", "eca")]
    short = short_trials(requested)
    for _, one in short[0].trials:
        finish(one, 0.3 if one.settings.optimizer.lr0 == 0.03 else 0.1)
    finish(short[1].trials[1][1], 0.3)

    assert ended(short) == [short[0]]
    planned = with_chosen_rates(Request(requested), ended(short))
    assert [it.settings.optimizer.lr0 for it in planned.trials] == [0.03, 0.01]
    assert list(planned.tuned) == [requested[0].identity.variant_key]


def test_trials_get_the_chosen_rates_and_variants_stay_comparable(tmp_path: Path) -> None:
    requested = [trial(module, root=str(tmp_path)) for module in ("none", "eca")]
    short = short_trials(requested)
    for variant, best in zip(short, (0, 2), strict=True):
        for index, (_, one) in enumerate(variant.trials):
            finish(one, 0.3 if index == best else 0.1)
    eca = requested[1].identity
    control = Control(kind="params", comparison_key=eca.comparison_key, signatures=(eca.signature,))

    request = with_chosen_rates(Request(requested, controls={eca.variant_key: control}), short)

    assert [it.settings.optimizer.lr0 for it in request.trials] == [0.01, 0.03]
    assert [it.identity.variant_key for it in request.trials] == [it.identity.variant_key for it in requested]
    assert len({it.identity.comparison_key for it in request.trials}) == 1
    assert request.controls[eca.variant_key].signatures == (request.trials[1].identity.signature,)
    assert request.trials[1].identity.signature != eca.signature
    assert request.tuned[eca.variant_key].chosen == 0.03
    assert short_trials(request.trials) == []  # nothing is tuned twice
    again = TrialSettings.from_plain(request.trials[1].settings.to_plain())
    assert again == request.trials[1].settings


def test_a_tuned_trial_is_not_the_same_rate_untuned() -> None:
    tuned = replace(trial().settings, tuning=Tuning(3, 3, given=0.01))
    assert Trial.of(tuned, DATA).identity.comparison_key != trial(tune=0).identity.comparison_key


@pytest.mark.parametrize(
    ("tuning", "flags"),
    [
        ([(3, 3, 0.01), (3, 3, 0.01)], []),
        ([(3, 3, 0.01), (5, 3, 0.01)], ["lr0 0.03 (baseline 0.01)"]),
        ([(3, 3, 0.01), None], ["lr0 0.03 (baseline 0.01)"]),
    ],
)
def test_another_rate_is_comparable_where_the_same_tuning_chose_both(
    tuning: list[tuple[int, int, float] | None], flags: list[str]
) -> None:
    trials = []
    for one, rate in zip(tuning, (0.01, 0.03), strict=True):
        config = {"optimizer": {"lr0": rate}, **({"tuning": asdict(Tuning(*one))} if one else {})}
        record = make_record(config=config)
        record["realised"]["lr0"] = rate
        trials.append(decode_record(record))
    assert differences([trials[1]], [trials[0]]) == flags
