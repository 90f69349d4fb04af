"""A module's options are known from its source alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.settings.argument_checks import satisfies
from ablate.settings.class_options import Option
from ablate.settings.module_checks import module_options
from ablate.settings.option_files import RESERVED
from ablate.settings.points import FACTS
from ablate.settings.schema import Config, conf_dir, option_file, training_arguments
from ablate.settings.trial_settings import TrialSettings
from ablate.settings.validation import check, check_each

MODULES = sorted(path for path in (conf_dir() / "module").glob("*.yaml") if path.stem != "none")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_s_file_lists_every_option_of_its_class_with_its_default(path: Path) -> None:
    import inspect

    from ablate.grafting.construction import load_class

    content = option_file("module", path.stem)
    if not str(content["_target_"]).startswith("ablate.modules."):
        pytest.skip("its class is another package's")
    build = load_class(str(content["_target_"]))
    parameters = inspect.signature(build.__init__ if isinstance(build, type) else build).parameters
    options = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    of_replaced = {name for name in FACTS if name not in content}  # taken from the layer that is replaced
    defaults = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if name not in of_replaced
    }
    listed = {name: value for name, value in content.items() if name not in RESERVED}

    assert listed == defaults
    assert set(module_options(str(content["_target_"])) or ()) >= set(defaults)
    assert path.read_text(encoding="utf-8").count("#") >= len(listed), "every field has its comment"


def test_choices_types_and_ranges_are_read_from_annotations() -> None:
    hmha = module_options("ablate.modules.hmha.HMHA") or {}
    sta = module_options("ablate.modules.sta.StokenAttention") or {}

    assert hmha["rerank"].choices == ("sample", "batch", "none")
    assert hmha["bias"] == Option(kind="bool")
    assert sta["num_heads"] == Option(kind="int", constraint=">= 1")


def test_an_option_may_be_a_boolean_or_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "from torch import nn\nclass Mine(nn.Module):\n"
    source = head + '    def __init__(self, channels, fast: bool | Literal["auto"] = "auto"): ...\n'
    (tmp_path / "two_forms.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def content(value: Any) -> dict[str, Any]:
        module = {"name": "mine", "_target_": "two_forms.Mine", "insertion": "head", "fast": value}
        return {**asdict(Config()), "train": training_arguments(), "module": module}

    assert (module_options("two_forms.Mine") or {})["fast"].choices == (True, False, "auto")
    for value in (True, False, "auto"):
        check(content(value))
    for value in (1, "ato"):
        with pytest.raises(ConfigError, match=r"module.fast=.*valid: true, false, auto"):
            check(content(value))


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


def with_grafts(*grafts: Any) -> dict[str, Any]:
    return {**asdict(Config()), "data": {"name": "shapes"}, "grafts": list(grafts)}


def test_grafts_are_accepted_as_they_are_written_and_as_they_are_settled() -> None:
    content = with_grafts("hmha[rerank=batch]@c3k2[rezero]", "sta@4+6", "acmix")
    check(content)
    check(TrialSettings.from_plain(content).to_plain())


@pytest.mark.parametrize(
    ("graft", "words"),
    [
        ("hmah@c3k2", "grafts: 'hmah@c3k2': no module 'hmah'. did you mean 'hmha'?"),
        ("hmha[rerak=batch]@c3k2", "grafts: hmha[rerak=batch]@c3k2: rerak: ablate.modules.hmha.HMHA has no such"),
        ("hmha[rerank=smaple]", "grafts: hmha[rerank=smaple]: rerank=smaple: did you mean 'sample'? valid: sample"),
        ("sta[num_heads=0]", "num_heads=0 is out of range: it must be >= 1"),
        ("sta[num_heads=two]", "num_heads=two: a whole number is needed"),
        ("hmha@heda", "grafts: hmha@heda: insertion=heda: did you mean 'head'? valid: "),
        ("hmha@c3k2[rezro]", "grafts: hmha@c3k2[rezro]: wiring=rezro: did you mean 'rezero'?"),
        (3, "grafts: 3 is no graft; a list is needed, such as [hmha@c3k2,acmix@head]"),
    ],
)
def test_a_mistake_in_a_graft_is_told_with_the_graft(graft: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(with_grafts("acmix@head", graft))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [{"seed": -1}, {"train": {"epochs": 0}}])
def test_every_configuration_of_a_command_is_checked(change: dict[str, Any]) -> None:
    right = with_grafts()
    wrong = {
        **right,
        **{name: {**right[name], **value} if name == "train" else value for name, value in change.items()},
    }

    check_each([right, {**right, "seed": 1}])
    with pytest.raises(ConfigError, match="out of range"):
        check_each([right, {**right, "seed": 1}, wrong])


def test_an_edited_source_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("depth", "width"):
        path = tmp_path / "edited_blocks.py"
        path.write_text(f"class Mine:\n    def __init__(self, channels, {name}: int = 2): ...\n", encoding="utf-8")
        assert list(module_options("edited_blocks.Mine") or ()) == [name]


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
