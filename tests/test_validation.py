"""A module's options are known from its source alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ablate.config import ConfigError, conf_dir, training_arguments
from ablate.validation import Option, module_options, satisfies

MODULES = sorted(path for path in (conf_dir() / "module").glob("*.yaml") if path.stem != "none")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_s_file_lists_every_option_of_its_class_with_its_default(path: Path) -> None:
    import inspect

    from ablate.grafting.surgery import load_class

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    signature = inspect.signature(load_class(content["_target_"]).__init__)
    defaults = {name: p.default for name, p in signature.parameters.items() if name not in ("self", "channels")}
    listed = {name: value for name, value in content.items() if name not in ("name", "_target_", "insertion")}

    assert listed == defaults
    assert set(module_options(content["_target_"]) or ()) == set(defaults)
    assert path.read_text(encoding="utf-8").count("#") >= len(listed), "every field has its comment"


def test_choices_types_and_ranges_are_read_from_annotations() -> None:
    hmha = module_options("ablate.modules.hmha.HMHA") or {}
    sta = module_options("ablate.modules.sta.StokenAttention") or {}

    assert hmha["rerank"].choices == ("sample", "batch", "none")
    assert hmha["bias"] == Option(kind="bool")
    assert sta["num_heads"] == Option(kind="int", constraint=">= 1")


def test_a_user_s_own_module_is_read_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "raise RuntimeError('imported')\nclass Mine:\n    def __init__(self, channels, depth: int = 2): ...\n"
    (tmp_path / "my_blocks.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    assert module_options("my_blocks.Mine") == {"depth": Option(kind="int")}
    with pytest.raises(ConfigError, match="did you mean 'Mine'"):
        module_options("my_blocks.Mina")


def test_what_the_source_does_not_tell_is_left_to_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, source in {
        "reexported": "from my_package import Mine",
        "inherited": "class Base: ...\nclass Mine(Base): ...",
        "any_keyword": "class Mine:\n    def __init__(self, channels, **options): ...",
    }.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        assert module_options(f"{name}.Mine") is None


def test_a_module_s_file_that_is_no_python_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_blocks.py").write_text("class Mine:\n    def __init__(self", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken_blocks\.py, line 2"):
        module_options("broken_blocks.Mine")


@pytest.mark.parametrize(
    ("value", "constraint", "expected"),
    [(1, ">= 1", True), (0, ">= 1", False), (0.5, "> 0 and <= 1", True), (0, "> 0 and <= 1", False), (1, "< 1", False)],
)
def test_constraints_mean_what_they_say(value: float, constraint: str, expected: bool) -> None:
    assert satisfies(value, constraint) is expected


def test_every_ultralytics_argument_that_is_not_ours_can_be_given() -> None:
    names = training_arguments()
    assert {"epochs", "imgsz", "mosaic", "close_mosaic", "freeze", "multi_scale"} <= set(names)
    assert not {"lr0", "optimizer", "model", "data", "seed", "device", "project"} & set(names)
