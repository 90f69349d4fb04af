"""Golden values are compared tensor by tensor, and a case that cannot be run fails by its own line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.verifying.golden import TOLERANCE, compare_case
from ablate.verifying.verify import golden_cases

GOLDEN = Path(__file__).parents[1] / "golden"
CASE = GOLDEN / "hab_d16_h4_ws4_sh2_12x8.npz"


def test_every_case_is_within_the_tolerance() -> None:
    results = [compare_case(path) for path in sorted(GOLDEN.glob("*.npz"))]
    assert results
    assert not [result for result in results if not result.passed or result.error > TOLERANCE]


def test_the_cases_of_subfolders_are_read_too() -> None:
    assert set(golden_cases(GOLDEN)) == {
        Path(folder, file) for folder, _, files in os.walk(GOLDEN) for file in files if file.endswith(".npz")
    }


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    with np.load(CASE) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(folder / "changed.npz", **arrays)
    return folder / "changed.npz"


def rename(arrays: dict[str, Any]) -> None:
    arrays["config"] = json.dumps({**json.loads(str(arrays["config"])), "module": "Unknown"})


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an array is gone": (lambda arrays: arrays.pop("cotangent"), "cotangent"),
    "a parameter is gone": (lambda arrays: arrays.pop("param:norm1.weight"), "norm1.weight"),
    "no such module": (rename, "Unknown"),
    "no options": (lambda arrays: arrays.update(config='{"module": "HAB"}'), "kwargs"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_case_fails_and_says_what_is_wrong(tmp_path: Path, damage: str) -> None:
    change, word = DAMAGES[damage]
    result = compare_case(changed(tmp_path, change))
    assert not result.passed
    assert result.problem is not None
    assert word in result.problem


def test_a_wrong_number_is_noticed_and_named(tmp_path: Path) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays["grad:norm1.bias"] = arrays["grad:norm1.bias"] * 1.001

    result = compare_case(changed(tmp_path, change))
    assert (result.passed, result.problem) == (False, None)
    assert result.worst.startswith("grad:norm1.bias")


def test_a_file_that_is_none_fails_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(CASE.read_bytes()[:500])
    assert [(result.case, result.passed) for result in map(compare_case, golden_cases(tmp_path))] == [("cut", False)]


def test_a_folder_without_a_case_is_an_error_before_torch_is_imported(tmp_path: Path) -> None:
    code = f"""
import sys
from ablate.__main__ import main
code = main(["verify", "--golden", {str(tmp_path)!r}])
sys.exit(99 if "torch" in sys.modules else code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no golden case" in done.stderr
