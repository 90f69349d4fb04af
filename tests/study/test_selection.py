"""Constraints leave out what they say and nothing else; an order loses nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.settings.schema import Config
from ablate.settings.signature import Identity, identify
from ablate.settings.trial_settings import TrialSettings
from ablate.study.selection import check_rules, exclude, lonely_baselines, ordered


@dataclass(frozen=True)
class Trial:
    settings: TrialSettings
    identity: Identity


def trial(*grafts: str, seed: int = 0, model: str = "yolo26n", optimizer: str = "MuSGD", **train: Any) -> Trial:
    content = {**asdict(Config()), "data": {"name": "shapes"}, "grafts": list(grafts), "seed": seed}
    content["model"] |= {"name": model, "architecture": f"{model}.yaml"}
    content["optimizer"] |= {"name": optimizer}
    content["train"] = {**content["train"], **train}
    settings = TrialSettings.from_plain(content)
    return Trial(settings, identify(settings, "f"))


def out(one: Trial, *rules: dict[str, Any]) -> bool:
    check_rules(rules)
    return bool(exclude([one], rules).signatures)


def left(trials: list[Trial], joined: list[Trial], rules: list[dict[str, Any]]) -> list[Trial]:
    """Return the trials that rules leave, where these baselines have joined by themselves."""
    baselines = {one.identity.signature for one in joined}
    excluded = exclude(trials, rules).signatures
    gone = {*excluded, *lonely_baselines(trials, baselines, excluded)}
    return [one for one in trials if one.identity.signature not in gone]


def test_a_rule_leaves_out_what_all_of_its_entries_match() -> None:
    rule = {"module": "hat", "model": "yolo26x"}

    assert out(trial("hat", model="yolo26x"), rule)
    assert not out(trial("hat"), rule)
    assert not out(trial("hmha", model="yolo26x"), rule)
    assert not out(trial(model="yolo26x"), rule)


def test_any_of_several_rules_and_of_several_values_is_enough() -> None:
    rules = [{"module": ["hat", "sta"], "seed": 2}, {"optimizer": "sgd"}]

    assert out(trial("sta", seed=2), *rules)
    assert out(trial("hmha", optimizer="SGD"), *rules)
    assert not out(trial("sta", seed=1), *rules)


def test_any_field_of_the_configuration_can_be_named() -> None:
    assert out(trial(imgsz=640), {"train.imgsz": [512, 640]})
    assert out(trial(mosaic=1.0), {"train.mosaic": 1})
    assert out(trial("hmha[rerank=batch]"), {"module.rerank": "batch"})
    assert not out(trial("acmix"), {"module.rerank": "batch"})
    assert not out(trial(rect=True), {"train.rect": 1})


def test_of_several_grafts_one_must_match() -> None:
    both = trial("hmha@c3k2", "acmix@head")

    assert out(both, {"module": "acmix"})
    assert out(both, {"insertion": "c3k2"})
    assert out(both, {"module": "acmix", "insertion": "head"})
    assert not out(both, {"module": "acmix", "insertion": "c3k2"})
    assert out(both, {"module": "acmix", "insertion.wiring": "plain"})
    assert not out(both, {"module": "acmix", "module.rerank": "sample"})
    assert not out(both, {"module": "none"})
    assert out(trial(), {"module": "none"})


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["hat"], "hat is no rule; a list of mappings is needed, such as exclude=[{module: hat, model: yolo26x}]"),
        ([{}], "{} is no rule"),
        ([{"modul": "hat"}], "modul: no such key. did you mean 'module'? valid: module, insertion"),
        ([{"train.imgzs": 640}], "train.imgzs: no such key. did you mean 'train.imgsz'?"),
        ([{"module": {"name": "hat"}}], "module: {name:hat}: a value or a list of values is needed"),
    ],
)
def test_what_is_no_rule_is_refused(rules: list[Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_rules(rules)
    assert words in str(refused.value)


def test_a_baseline_goes_when_nobody_is_left_to_compare_with_it() -> None:
    large, base, other_seed = trial(model="yolo26x"), trial(), trial(seed=1)
    large_hat, hat, hmha = trial("hat", model="yolo26x"), trial("hat"), trial("hmha")
    trials = [large, large_hat, base, hat, hmha, other_seed, trial("hmha", seed=1)]
    rules = [{"module": "hat", "model": "yolo26x"}, {"module": "hmha", "seed": 1}]

    assert left(trials, [large, base, other_seed], rules) == [base, hat, hmha]
    assert exclude(trials, rules).unmatched == []


def test_a_baseline_that_was_asked_for_stays_and_so_does_one_without_rules() -> None:
    base, hmha = trial(), trial("hmha")

    assert left([base, hmha], [], [{"module": "hmha"}]) == [base]
    assert left([base, hmha], [base], []) == [base, hmha]
    assert left([base, hmha], [base], [{"module": "hmha"}]) == []


def test_a_rule_that_nothing_matches_is_told() -> None:
    rules = [{"module": "hta"}, {"module": "hmha"}]
    assert exclude([trial(), trial("hmha")], rules).unmatched == [rules[0]]


def names(trials: list[Trial]) -> list[str]:
    return [found.identity.name for found in trials]


def test_by_seed_gives_every_variant_its_first_seed_before_any_its_second() -> None:
    given = [trial("hmha", seed=3), trial("hmha", seed=4), trial(seed=4), trial(seed=3), trial("acmix", seed=9)]
    assert names(ordered(given, "by_seed", lambda _: 0.0)) == [
        "hmha@c3k2 musgd s3",
        "baseline musgd s4",
        "acmix@head musgd s9",
        "hmha@c3k2 musgd s4",
        "baseline musgd s3",
    ]


def test_cost_orders_both_ways_and_equal_costs_stay_as_given() -> None:
    given = [trial(seed=seed) for seed in range(5)]
    cost = {0: 2.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 1.0}

    def seeds(order: str) -> list[int]:
        return [found.identity.seed for found in ordered(given, order, lambda t: cost[t.identity.seed])]

    assert seeds("longest_first") == [3, 0, 2, 1, 4]
    assert seeds("cheapest_first") == [1, 4, 0, 2, 3]
    assert seeds("given") == [0, 1, 2, 3, 4]


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'by_seed'"):
        ordered([trial()], "by_sed", lambda _: 0.0)
