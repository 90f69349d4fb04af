"""Settings are read from a configuration once, keep all that it says, and name the same trial as ever."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablate.settings import graft
from ablate.settings.schema import Config, schema_node, training_arguments
from ablate.settings.signature import identify
from ablate.settings.trial_settings import CommandSettings, TrainSettings, TrialSettings

RECORDED = json.loads((Path(__file__).parent / "signatures.json").read_text(encoding="utf-8"))
CASES = RECORDED["cases"]  # settled configurations and their signatures as ablate made them before it had settings


def given(name: str) -> dict[str, Any]:
    return {**deepcopy(RECORDED["base"]), **deepcopy(CASES[name]["changes"])}


@pytest.mark.parametrize("name", CASES)
def test_settings_hold_the_normalised_configuration(name: str) -> None:
    content = given(name)
    settled = {**RECORDED["base"], **CASES[name]["settled"]}
    settled |= {"tracking": {**settled["tracking"], "diff": False}, "trust_weights": False}  # they came later
    settled |= {"delta": None, "judge": "best"}
    settled |= {"until": None, "max_seeds": 12, "budget": None, "tune": 0}
    settled |= {"folds": 0, "split": "random"}
    settled |= {"metric": "map50_95"}
    settled |= {"loss": {"box": "ciou", "cls": "bce", "assigner": "ciou"}, "head": None}

    settings = TrialSettings.from_plain(content)

    assert settings.to_plain() == settled
    assert list(settings.to_plain()) == list(settled)
    assert TrialSettings.from_plain(settled) == settings
    assert content == given(name)


@pytest.mark.parametrize("name", CASES)
def test_signatures_are_those_of_earlier_versions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graft, "module_source", lambda target: SimpleNamespace(sha256=f"source of {target}"))

    identity = identify(TrialSettings.from_plain(given(name)), "f")

    expected = {key: CASES[name][key] for key in ("signature", "variant_key", "comparison_key", "variant")}
    assert {key: getattr(identity, key) for key in expected} == expected


@pytest.mark.parametrize("name", CASES)
def test_settings_travel_to_a_worker(name: str) -> None:
    settings = TrialSettings.from_plain(given(name))
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_do_not_change() -> None:
    settings = TrialSettings.from_plain(given("several"))
    with pytest.raises(FrozenInstanceError):
        settings.seed = 1  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        settings.optimizer.lr0 = 1.0  # type: ignore[misc]

    settings.to_plain()["train"]["epochs"] = 100
    settings.to_plain()["grafts"].clear()
    settings.to_plain()["latency"]["batch"].append(2)

    assert settings == TrialSettings.from_plain(given("several"))


def test_every_field_of_a_configuration_is_a_setting() -> None:
    assert set(TrialSettings.from_plain({**asdict(Config()), "data": {"name": "shapes"}}).to_plain()) == {
        entry.name for entry in fields(Config)
    }


def test_the_command_s_part_is_the_same_for_trials_that_differ() -> None:
    one, other = (TrialSettings.from_plain(given(name)) for name in ("several", "optimizer"))
    assert one.command == other.command == CommandSettings.from_plain(RECORDED["base"])
    assert one.command != replace(one.command, root="elsewhere")


def test_a_training_argument_that_is_not_given_is_ultralytics_own() -> None:
    train = TrainSettings.from_plain({"epochs": 3, "fraction": [0.5, 2]})

    assert (train.epochs, train.fraction, train.imgsz) == (3, [0.5, 2], training_arguments()["imgsz"])
    assert train.arguments == {"epochs": 3, "fraction": [0.5, 2]}


def test_hydra_may_override_what_is_frozen_here() -> None:
    from omegaconf import OmegaConf

    node = OmegaConf.merge(schema_node(), {"optimizer": {"lr0": 1}, "latency": {"batch": [2]}})

    assert (node.optimizer.lr0, node.latency.batch) == (1.0, [2])
