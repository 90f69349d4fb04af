"""Folds are refused with what would make them something else, in one line, before any data is read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.settings.fold import Fold
from ablate.settings.schema import Config
from ablate.settings.signature import identify
from ablate.settings.trial_settings import TrialSettings
from ablate.settings.validation import check


def config(**changes: Any) -> dict[str, Any]:
    content = {**asdict(Config()), "data": {"name": "shapes", "path": None}, **changes}
    content["train"] = {**asdict(Config())["train"], "epochs": 3, **changes.get("train", {})}
    return content


@pytest.mark.parametrize(
    "changes", [{}, {"folds": 5}, {"folds": 2, "split": "groups"}, {"folds": 20, "judge": "split"}]
)
def test_what_goes_together_is_taken(changes: dict[str, Any]) -> None:
    check(config(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folds": 1}, "folds=1: .*2 to 20"),
        ({"folds": 21}, "folds=21 is out of range"),
        ({"folds": -1}, "folds=-1 is out of range"),
        ({"folds": 2.5}, "folds=2.5: a whole number"),
        ({"split": "groups"}, "split=groups: .*folds=5"),
        ({"folds": 5, "split": "group"}, "split=group: did you mean 'groups'"),
        ({"folds": 5, "split": "nowhere.csv"}, "split=nowhere.csv: no such file"),
        ({"folds": 5, "until": "decided"}, "folds=5: until=decided"),
        ({"folds": 5, "train": {"split": "test"}}, "train.split=test"),
        ({"folds": 5, "train": {"split": "train"}}, "train.split=train"),
        ({"folds": 5, "train": {"fraction": 0.5}}, "train.fraction=1 is needed, not 0.5"),
        ({"folds": 5, "train": {"fraction": [1.0, 0.5]}}, "train.fraction=1 is needed"),
    ],
)
def test_what_does_not_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        check(config(**changes))
    assert "\n" not in str(refused.value)


def test_a_table_of_groups_is_a_split(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("image,group\n")
    check(config(folds=5, split=str(tmp_path / "patients.csv")))


def test_settings_of_a_fold_are_read_as_they_were_written() -> None:
    settings = TrialSettings.from_plain(config(folds=5, split="groups"))
    assert settings.fold == Fold(5, 0, by_groups=True)
    assert TrialSettings.from_plain(settings.to_plain()) == settings
    assert TrialSettings.from_plain(
        {**config(folds=5), "fold": {"folds": 5, "index": 3, "assignment": "ab"}}
    ).fold == Fold(5, 3, assignment="ab")


def identity(**fold: Any) -> Any:
    plain = {**config(folds=fold.get("folds", 5)), "fold": {"folds": 5, "assignment": "ab", **fold}}
    return identify(TrialSettings.from_plain(plain), "f")


def test_the_fold_is_part_of_the_signature_alone_and_the_division_of_what_is_compared() -> None:
    one, other, divided = identity(index=0), identity(index=4), identity(index=0, assignment="cd")

    assert one.signature != other.signature
    assert (one.variant_key, one.comparison_key) == (other.variant_key, other.comparison_key)
    assert (one.name, other.name) == ("baseline musgd s0 f0", "baseline musgd s0 f4")
    assert (one.fold, other.fold) == (0, 4)
    assert len({one.signature, divided.signature}) == len({one.comparison_key, divided.comparison_key}) == 2


def test_what_divided_the_images_does_not_matter_where_they_are_divided_alike() -> None:
    assert identity(index=1, by_groups=True).signature == identity(index=1).signature


def test_without_folds_a_trial_is_what_it_was() -> None:
    plain = identify(TrialSettings.from_plain(config()), "f")
    assert plain.fold is None
    assert plain.name == "baseline musgd s0"
    assert "fold" not in TrialSettings.from_plain(config()).to_plain()
