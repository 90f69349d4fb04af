"""Which validation images are kept in one half: those of an audit, of a file, of a fold; and what is refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.data.catalogue import DataSet, resolve
from ablate.data.data_errors import DataError
from ablate.data.data_settings import DataSettings
from ablate.data.groups import AUDIT, ImageGroups, write_groups
from ablate.errors import ConfigError
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.layout import OutputFolder
from ablate.study.fold_data import DataFinder
from ablate.study.half_groups import groups_of_halves
from ablate.study.trial import Trial, of_each_fold

SHAPES = {"name": "shapes", "path": None, "train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0}


def settings(tmp_path: Path, **changes: Any) -> TrialSettings:
    content = {**asdict(Config()), "data": dict(SHAPES), "root": str(tmp_path / "multirun"), **changes}
    return TrialSettings.from_plain({**content, "module": option_file("module", "none")})


@pytest.fixture
def data() -> DataSet:
    return resolve(DataSettings.from_plain(SHAPES))


@pytest.fixture
def images(data: DataSet) -> dict[str, list[str]]:
    """The images of each split, as the validator calls them."""
    top = data.yaml.parent
    return {
        split: sorted(path.relative_to(top).as_posix() for path in (top / "images" / split).iterdir())
        for split in ("train", "val")
    }


def audit(tmp_path: Path, data: DataSet, groups: dict[str, str]) -> Path:
    path = OutputFolder(tmp_path / "multirun").audit(data.fingerprint).groups
    path.parent.mkdir(parents=True, exist_ok=True)
    write_groups(path, ImageGroups(groups, AUDIT, data.fingerprint))
    return path


def test_without_an_audit_or_a_file_no_groups_are_known(tmp_path: Path, data: DataSet) -> None:
    assert groups_of_halves(settings(tmp_path), data) is None


def test_groups_of_several_evaluated_images_are_those_of_the_audit(
    tmp_path: Path, data: DataSet, images: dict[str, list[str]]
) -> None:
    first, second, third, last = images["val"]
    apart = {images["train"][0]: "b", third: "b", last: "c", images["train"][1]: "d", images["train"][2]: "d"}
    audit(tmp_path, data, {first: "a", second: "a", **apart})
    found = groups_of_halves(settings(tmp_path), data)
    assert found is not None
    assert found.groups == {first: "a", second: "a"}
    audit(tmp_path, data, apart)
    assert groups_of_halves(settings(tmp_path), data) is None


def test_a_damaged_audit_that_nobody_asked_for_costs_no_training(tmp_path: Path, data: DataSet) -> None:
    audit(tmp_path, data, {}).write_text("{", encoding="utf-8")
    assert groups_of_halves(settings(tmp_path), data) is None


def test_a_file_of_groups_goes_before_the_audit(tmp_path: Path, data: DataSet, images: dict[str, list[str]]) -> None:
    audit(tmp_path, data, dict.fromkeys(images["val"], "all"))
    table = tmp_path / "clips.csv"
    table.write_text("image,group\n" + "".join(f"{name},clip\n" for name in images["val"][:2]), encoding="utf-8")
    asked = settings(tmp_path, judge="split", split=str(table))
    assert DataFinder().find(asked).fingerprint == data.fingerprint
    found = groups_of_halves(asked, data)
    assert found is not None
    assert list(found.groups) == images["val"][:2]


@pytest.mark.parametrize("split", ["groups", "clips.csv"])
def test_groups_that_were_asked_for_and_are_not_there_are_an_error(
    tmp_path: Path, split: str, images: dict[str, list[str]]
) -> None:
    table = tmp_path / "clips.csv"
    table.write_text(f"image,group\n{images['train'][0]},clip\n", encoding="utf-8")
    asked = settings(tmp_path, judge="split", split=str(table) if split == table.name else split)
    with pytest.raises(DataError, match=r"was not audited|names none of the 4 val images"):
        DataFinder().find(asked)


@pytest.mark.parametrize("changes", [{"judge": "split"}, {"folds": 2}])
def test_the_groups_of_another_data_set_are_refused(
    tmp_path: Path, images: dict[str, list[str]], changes: dict[str, Any]
) -> None:
    file = tmp_path / "groups.json"
    write_groups(file, ImageGroups(dict.fromkeys(images["val"], "all"), AUDIT, "ab" * 32))
    with pytest.raises(DataError, match="made for another data set than shapes"):
        DataFinder().find(settings(tmp_path, split=str(file), **changes))


def test_a_split_that_is_not_there_is_what_is_refused(tmp_path: Path, images: dict[str, list[str]]) -> None:
    table = tmp_path / "clips.csv"
    table.write_text(f"image,group\n{images['train'][0]},clip\n", encoding="utf-8")
    asked = settings(tmp_path, judge="split", split=str(table), train={"split": "test"})
    with pytest.raises(ConfigError, match=r"train\.split=test: shapes has no such split"):
        Trial.of(asked, DataFinder().find(asked))


def test_images_that_are_all_one_group_have_no_halves_of_whole_groups(
    tmp_path: Path, data: DataSet, images: dict[str, list[str]]
) -> None:
    audit(tmp_path, data, dict.fromkeys(images["val"], "all"))
    with pytest.raises(DataError, match="split=groups: all 4 val images are one group"):
        DataFinder().find(settings(tmp_path, judge="split", split="groups"))
    assert DataFinder().find(settings(tmp_path, judge="split")).fingerprint == data.fingerprint


def test_the_images_of_a_fold_have_the_groups_of_the_whole_data_set(
    tmp_path: Path, data: DataSet, images: dict[str, list[str]]
) -> None:
    audit(tmp_path, data, {images["val"][0]: "a", images["train"][0]: "a"})
    first = settings(tmp_path, folds=2)
    finder = DataFinder()
    fold = of_each_fold(Trial.of(first, finder.find(first)), finder)[0]
    found = groups_of_halves(fold.settings, fold.data)
    assert found is not None
    names = {images["val"][0], images["train"][0]}
    assert set(found.groups) == {name.replace("images/", "images/val/", 1) for name in names}


def test_groups_of_halves_change_no_signature(tmp_path: Path, data: DataSet, images: dict[str, list[str]]) -> None:
    before = Trial.of(settings(tmp_path, judge="split")).identity
    audit(tmp_path, data, dict.fromkeys(images["val"][1:], "most"))
    assert Trial.of(settings(tmp_path, judge="split")).identity == before
    assert Trial.of(settings(tmp_path, judge="split", split="groups")).identity == before
