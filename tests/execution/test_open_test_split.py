"""A test split is not opened for a sweep that it cannot answer for; nothing is written then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablate.errors import ConfigError
from ablate.execution.open_test_split import TestOptions, open_test_split

Change = Callable[[list[dict[str, Any]]], None]


def trained_on_test(made: list[dict[str, Any]]) -> None:
    for record in made:
        record["config"]["train"]["split"] = "test"


def failed(made: list[dict[str, Any]]) -> None:
    made[1] |= {"status": "failed", "failure": {"type": "code", "message": "broken"}, "metrics": {}}


def without_test_split(made: list[dict[str, Any]]) -> None:
    for record in made:
        record["data"]["fingerprint"] = "f" * 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (trained_on_test, "nothing is held out"),
        (failed, "not finished: .* s"),
        (without_test_split, "no test split; it has train, val"),
        (lambda made: None, "fingerprint"),
    ],
)
def test_a_sweep_that_cannot_be_tested_is_refused(
    records: Callable[..., list[dict[str, Any]]], write: Callable[..., Path], change: Change, reason: str
) -> None:
    made = records()
    change(made)
    sweep = write(made)
    with pytest.raises(ConfigError, match=reason):
        open_test_split(sweep, TestOptions(), Console(quiet=True))
    assert not list(sweep.parent.parent.glob("*test_ledger*"))
