"""Every argument of the installed Ultralytics has been gone through, and takes only what works."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.settings.argument_checks import check_train
from ablate.settings.schema import Config, training_arguments
from ablate.settings.training_arguments import HARMLESS, OWNED, REFUSED, SUPPORTED
from ablate.settings.validation import check

LISTS: list[dict[str, Any]] = [SUPPORTED, HARMLESS, OWNED, REFUSED]


def complaint(**given: Any) -> str:
    """Return what is wrong with training arguments, or nothing."""
    try:
        check_train({**training_arguments(), **given})
    except ConfigError as error:
        return str(error)
    return ""


def test_every_argument_of_the_installed_ultralytics_stands_in_exactly_one_list() -> None:
    from ultralytics.utils import DEFAULT_CFG_DICT

    listed = Counter(name for names in LISTS for name in names)
    assert set(DEFAULT_CFG_DICT) - set(listed) == set(), "go through what is new in this version of Ultralytics"
    assert set(listed) - set(DEFAULT_CFG_DICT) == set(), "no such argument any more"
    assert [name for name, count in listed.items() if count > 1] == []
    assert set(training_arguments()) == set(DEFAULT_CFG_DICT) - set(OWNED)


def test_ultralytics_defaults_are_accepted_and_every_argument_has_its_reason() -> None:
    assert complaint() == ""
    assert all(argument.effect for argument in [*SUPPORTED.values(), *HARMLESS.values()])
    assert all(REFUSED.values())


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_its_reason(name: str) -> None:
    default = training_arguments()[name]
    other: Any = not default if isinstance(default, bool) else "another"
    message = complaint(**{name: other})
    assert message.startswith(f"train.{name}=")
    assert REFUSED[name] in message


def test_the_page_on_training_has_every_argument_with_its_effect_or_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    page = page.partition("\n## Arguments\n")[2]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {name.strip("`"): row[1] for row in rows for name in row[0].split(", ")}
    assert told == {**{n: a.effect for n, a in {**SUPPORTED, **HARMLESS}.items()}, **REFUSED}


GOOD: list[dict[str, Any]] = [
    {"freeze": 10},
    {"freeze": [0, 1, "23.cv2"]},
    {"fraction": 0.5},
    {"fraction": 100},
    {"fraction": [0.5, 10, 0]},
    {"scale": [0.5, 1.5]},
    {"cache": "disk"},
    {"cache": True},
    {"amp": "bf16"},
    {"amp": False},
    {"compile": "max-autotune-no-cudagraphs"},
    {"nms": False},
    {"conf": 0.25},
    {"time": 0.5},
    {"save_period": -1},
    {"channels_last": False},
    {"deterministic": False},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"batch": -1}, "train.batch=-1 is out of range: it must be >= 1"),
    ({"batch": 0.7}, "train.batch=0.7: a whole number is needed"),
    ({"batch": True}, "train.batch=true: a whole number is needed"),
    ({"cache": "rma"}, "did you mean 'ram'? valid: false, true, ram, disk"),
    ({"cache": 1}, "valid: false, true, ram, disk"),
    ({"amp": "fp8"}, "valid: true, false, fp16, bf16, fp32"),
    ({"amp": None}, "train.amp=null"),
    ({"compile": "fast"}, "valid: false, true, default"),
    ({"deterministic": "no"}, "true or false is needed"),
    ({"val": None}, "train.val=null: a value is needed; its default is true"),
    ({"split": "valid"}, "did you mean 'val'? valid: val, test, train"),
    ({"nms": True}, "valid: false, null"),
    ({"multi_scale": True}, "a number is needed"),
    ({"multi_scale": 2}, "out of range"),
    ({"time": 0}, "train.time=0 is out of range: it must be > 0"),
    ({"time": float("inf")}, "a finite number is needed"),
    ({"box": float("nan")}, "a finite number is needed"),
    ({"epochs": "ten"}, "a whole number is needed"),
    ({"save_period": 1.5}, "a whole number is needed"),
    ({"imgsz": [320, 640]}, "train.imgsz=[320,640]: a whole number is needed"),
    ({"fraction": 0}, "train.fraction=0: a share"),
    ({"fraction": 1.5}, "train.fraction=1.5: a share"),
    ({"fraction": [0.5]}, "a list of these"),
    ({"fraction": [0, 0.5]}, "a list of these"),
    ({"fraction": True}, "a share"),
    ({"fraction": [1.0, 1.0, 0], "split": "test"}, "no image of split test is left"),
    ({"scale": [1.5, 0.5]}, "the smallest and largest scale"),
    ({"scale": 2}, "a gain from 0 to 1"),
    ({"freeze": -1}, "a number of first layers"),
    ({"freeze": True}, "a number of first layers"),
    ({"freeze": "10"}, "such as [0,1,23.cv2]"),
    ({"freeze": [0, -1]}, "train.freeze=[0,-1]"),
    ({"freeze": [1.5]}, "train.freeze=[1.5]"),
    ({"plots": "all"}, "true or false is needed"),
    ({"classes": [0]}, "remove them from the labels"),
    ({"quantize": 8}, "checkpoints cannot be resumed"),
    ({"distill_model": "yolo26x.pt"}, "neither resumed nor compared"),
    ({"dropout": 0.5}, "classification and has no effect"),
    ({"lr0": 0.1}, "set it with optimizer.lr0"),
    ({"epohcs": 3}, "did you mean 'epochs'?"),
]


@pytest.mark.parametrize("given", GOOD, ids=str)
def test_values_that_work_are_accepted(given: dict[str, Any]) -> None:
    assert complaint(**given) == ""


@pytest.mark.parametrize(("given", "words"), BAD, ids=str)
def test_values_that_would_break_or_do_nothing_are_refused(given: dict[str, Any], words: str) -> None:
    assert words in complaint(**given)


def test_bf16_is_refused_where_nothing_can_train_in_it() -> None:
    content = {**asdict(Config()), "data": {"name": "shapes"}}
    content["train"] = {**content["train"], "amp": "bf16"}
    check({**content, "device": "cuda:0"})
    with pytest.raises(ConfigError, match=r"train\.amp=bf16: .* on CUDA only"):
        check({**content, "device": "cpu"})


def test_an_argument_that_nobody_has_gone_through_keeps_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SUPPORTED, "mosaic")
    assert complaint() == ""
    assert "train.mosaic=0.5: refused: this argument of a newer Ultralytics" in complaint(mosaic=0.5)
