"""What a training is to use of a data set, held against what Ultralytics' own data sets then hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.data.catalogue import DataSet, resolve
from ablate.data.data_errors import DataError
from ablate.data.data_settings import DataSettings
from ablate.data.data_use import DataUse, promised_use, used_of

MakeSet = Callable[..., Path]
LABELS = {f"train/{index}": "0 .5 .5 .2 .2\n" * (index % 2) + "1 .4 .4 .2 .2\n" * index for index in range(7)}


@pytest.fixture
def data(make_set: MakeSet) -> DataSet:
    """Seven and three images, of which one cannot be used; boxes repeat themselves, and folders are two."""
    file = make_set(
        labels={**LABELS, "val/1": None}, counts=(7, 3), train="[images/train, images/more]", test="images/val"
    )
    for kind, name in (("images", "6.png"), ("labels", "6.txt")):
        (file.parent / kind / "more").mkdir()
        (file.parent / kind / "train" / name).rename(file.parent / kind / "more" / name)
    (file.parent / "images" / "train" / "2.png").write_bytes(b"no image")
    return resolve(DataSettings.from_plain({"path": str(file)}))


def used(data: DataSet, train: dict[str, Any]) -> DataUse:
    """What Ultralytics builds for a training with these arguments."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    arguments = get_cfg(overrides={"imgsz": 32, "task": "detect", **train})
    content = check_det_dataset(str(data.yaml), autodownload=False)
    splits = {"train": "train", "val": arguments.split}
    return used_of(
        {part: build_yolo_dataset(arguments, content[split], 4, content, mode=part) for part, split in splits.items()}
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No font for plots is fetched."""
    from ultralytics.data import utils

    monkeypatch.setattr(utils, "check_font", lambda _: None)


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"fraction": 1.0},
        {"fraction": 0.5},
        {"fraction": 0.01},
        {"fraction": 1},
        {"fraction": 3},
        {"fraction": 99},
        {"fraction": [0.5, 0.67]},
        {"fraction": [1.0, 2]},
        {"fraction": 0.7},
        {"split": "train", "fraction": 0.5},
        {"split": "test"},
        {"split": "test", "fraction": [1.0, 1.0, 2]},
        {"single_cls": True},
        {"single_cls": True, "fraction": 0.6},
    ],
    ids=str,
)
def test_what_is_promised_is_what_is_used(data: DataSet, train: dict[str, Any]) -> None:
    assert promised_use(data, train.get("fraction", 1.0), train.get("split", "val")) == used(data, train)


def test_counts_are_of_the_images_that_can_be_used(data: DataSet) -> None:
    assert promised_use(data) == DataUse({"train": 6, "val": 3}, {"train": 8, "val": 2})
    assert data.images == {"train": 6, "val": 3, "test": 3}
    assert data.instances == {"train": 8, "val": 2, "test": 2}


def test_a_part_without_a_box_is_an_error_before_ultralytics_meets_it(make_set: MakeSet) -> None:
    found = resolve(DataSettings.from_plain({"path": str(make_set(labels={"train/0": None}))}))
    with pytest.raises(DataError, match=r"the first 1 of 3 images of split 'train' have no boxes"):
        promised_use(found, 0.3)


def test_what_was_damaged_after_it_was_promised_is_a_difference(data: DataSet) -> None:
    promised = promised_use(data)
    image = data.source.parent / "images" / "train" / "5.png"
    image.write_bytes(image.read_bytes()[:-40])
    assert used(data, {}) == DataUse({"train": 5, "val": 3}, {"train": 6, "val": 2})
    assert promised == DataUse({"train": 6, "val": 3}, {"train": 8, "val": 2})
