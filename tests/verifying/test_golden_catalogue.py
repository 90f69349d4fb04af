"""The catalogue's golden values: all cases pass, damage is said in the case's line, and no stranger's code is run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.verifying.golden_catalogue import compare_any_case
from ablate.verifying.verify import golden_cases, run_verify

OLD = Path(__file__).parents[1] / "golden"
CATALOGUE = OLD / "catalogue"
CASE = CATALOGUE / "ema_c8_g8_5x4.npz"
sys.path.insert(0, str(CATALOGUE))
from table import page  # noqa: E402


@pytest.mark.parametrize("path", golden_cases(CATALOGUE), ids=lambda path: path.stem)
def test_every_case_of_the_catalogue_is_within_the_tolerance(path: Path) -> None:
    result = compare_any_case(path)
    assert result.passed, result


def test_the_files_are_small_and_the_readme_lists_each() -> None:
    sizes = [path.stat().st_size for path in golden_cases(CATALOGUE)]
    assert max(sizes) < 60_000
    assert sum(sizes) < 3_000_000
    readme = (CATALOGUE / "README.md").read_text(encoding="utf-8")
    assert sorted(page(readme).splitlines()) == sorted(readme.splitlines()), "run tests/golden/catalogue/table.py"


def test_a_case_of_the_older_format_is_compared_as_before() -> None:
    assert compare_any_case(OLD / "hab_d16_h4_ws4_sh2_12x8.npz").passed


def write(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    with np.load(CASE) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(folder / "changed.npz", **arrays)
    return folder / "changed.npz"


def configure(**entries: object) -> Callable[[dict[str, Any]], object]:
    return lambda arrays: arrays.update(config=json.dumps({**json.loads(str(arrays["config"])), **entries}))


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no output": (lambda arrays: arrays.pop("y"), "'y'"),
    "no cotangent": (lambda arrays: arrays.pop("cotangent"), "cotangent"),
    "a parameter is gone": (lambda arrays: arrays.pop("param:norm.weight"), "norm.weight"),
    "a gradient is gone": (lambda arrays: arrays.pop("grad:norm.weight"), "norm.weight"),
    "a parameter too many": (lambda arrays: arrays.update({"param:other": np.ones(3)}), "other"),
    "a buffer too many": (lambda arrays: arrays.update({"buffer:mean": np.ones(3)}), "mean"),
    "another shape": (lambda arrays: arrays.update({"y": arrays["y"][..., 1:]}), "shape"),
    "a text where numbers should be": (lambda arrays: arrays.update({"x": np.array("x")}), "TypeError"),
    "no such class": (configure(target="ablate.modules.attention.ema.Other"), "Other"),
    "no such option": (configure(kwargs={"colour": 3}), "colour"),
    "an option that the class refuses": (configure(kwargs={"groups": 5}), "groups=5"),
    "code of a stranger": (configure(target="ultralytics.YOLO", args=["model.pt"], kwargs={}), "ultralytics.YOLO"),
    "a function": (configure(target="ablate.modules.attention.ema._mix", args=[], kwargs={}), "no class of a module"),
    "no arguments": (lambda arrays: arrays.update(config='{"target": "ablate.modules.attention.ema.EMA"}'), "args"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_case_fails_and_says_what_is_wrong(tmp_path: Path, damage: str) -> None:
    change, word = DAMAGES[damage]
    result = compare_any_case(write(tmp_path, change))
    assert not result.passed
    assert word in str(result.problem)


@pytest.mark.parametrize("damage", ["empty", "cut", "one byte", "no archive", "list", "folder"])
def test_a_file_that_is_none_fails_by_its_line(tmp_path: Path, damage: str) -> None:
    content, path = CASE.read_bytes(), tmp_path / "broken.npz"
    middle = len(content) // 2
    forms = {
        "empty": b"",
        "cut": content[:middle],
        "one byte": content[:90] + bytes([content[90] ^ 255]) + content[91:],
        "no archive": b"numbers only",
    }
    if damage == "folder":
        path.mkdir()
    elif damage == "list":
        np.savez(path, config="[1, 2]")
    else:
        path.write_bytes(forms[damage])
    result = compare_any_case(path)
    assert (result.case, result.passed) == ("broken", False)
    assert result.problem
    assert "\n" not in result.problem


def test_a_wrong_number_is_noticed_and_named(tmp_path: Path) -> None:
    result = compare_any_case(write(tmp_path, lambda arrays: arrays.update(y=arrays["y"] * 1.001)))
    assert (result.passed, result.problem, result.worst) == (False, None, "y")


def test_lists_of_maps_buffers_and_files_without_gradients_are_read(tmp_path: Path) -> None:
    config = {"target": "ultralytics.nn.modules.Concat", "args": [], "kwargs": {}, "forward_only": True}
    maps = [np.random.default_rng(seed).normal(size=(1, 3, 4, 5)) for seed in range(2)]
    np.savez(tmp_path / "list.npz", config=json.dumps(config), x0=maps[0], x1=maps[1], y=np.concatenate(maps, 1))
    assert compare_any_case(tmp_path / "list.npz").passed


def test_the_command_prints_a_line_for_each_case_of_both_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cut.npz").write_bytes(CASE.read_bytes()[:300])
    for path in (CASE, OLD / "hab_d16_h4_ws4_sh2_12x8.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("ablate.verifying.verify.registry", lambda _: {})
    assert run_verify(tmp_path) == 1
    printed = capsys.readouterr().out
    assert [line.split()[:2] for line in printed.splitlines()[1:4]] == [
        ["cut", "FAIL"],
        [CASE.stem, "pass"],
        ["hab_d16_h4_ws4_sh2_12x8", "pass"],
    ]
