"""Trials that go wrong by themselves: one ends, with its type; the others are unharmed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

SWEEP = ["module=faulty,steady", "train.epochs=2", "-m"]
FAULTY = "faulty@neck_p5 musgd s0"
NAMES = ["baseline musgd s0", FAULTY, "steady@neck_p5 musgd s0"]


def fails_alone(shop: Any, flag: str, kind: str, message: str, *words: str) -> Any:
    """Run a sweep in which one trial fails; check that only it did, that it waits, and that `retry` mends it."""
    shop.set(flag)
    done = shop.run(*SWEEP, *words)

    assert done.returncode == 1, done.stdout + done.stderr
    assert shop.states() == {NAMES[0]: "finished", FAULTY: kind, NAMES[2]: "finished"}
    failure = shop.records()[FAULTY]["failure"]
    assert message in failure["message"]
    assert 0 < len(failure["tail"]) <= 50
    assert f"failed: {FAULTY}: {kind}: " in done.stdout
    retry = "retry=oom" if kind == "out_of_memory" else "retry=failed"
    assert retry in done.stdout
    assert "Traceback" not in done.stderr
    assert mlflow_failure(shop.folder) == (FAULTY, "FAILED", kind)

    waits = shop.run(*SWEEP, *words)
    assert waits.returncode == 1
    assert "1 failed before" in waits.stdout
    assert len(shop.records()[FAULTY]["tries"]) == len(shop.records()[NAMES[0]]["tries"]) == 1

    shop.unset(flag)
    mended = shop.run(*SWEEP, *words, retry)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    shop.assert_all_finished_once(NAMES)
    return failure


def mlflow_failure(folder: Path) -> tuple[str, str, str]:
    with sqlite3.connect(folder / "multirun" / "mlflow.db") as database:
        (row,) = database.execute(
            "select r.name, r.status, t.value from runs r join tags t on t.run_uuid = r.run_uuid "
            "and t.key = 'ablate.failure'"
        ).fetchall()
    return row  # type: ignore[no-any-return]


@pytest.mark.fault("an exception in a module's forward", "the trial fails as `code`, with its last 50 log lines")
def test_exception(shop: Any) -> None:
    failure = fails_alone(shop, "raise", "code", "this module is broken")

    assert any("my_blocks.py" in line for line in failure["tail"]), "the log says where"


@pytest.mark.fault("a loss that is not a number", "the trial fails as `diverged`")
def test_nan(shop: Any) -> None:
    fails_alone(shop, "nan", "diverged", "nan")


@pytest.mark.fault(
    "a trial that leaks memory until it is killed", "the trial fails as `out_of_memory`, and waits for `retry=oom`"
)
def test_leak(shop: Any) -> None:
    fails_alone(shop, "leak", "out_of_memory", "grew beyond its limit of 3 GB", "hydra.launcher.memory_gb=3")


@pytest.mark.fault(
    "a trial that hangs", "the trial fails as `timeout`; `retry=failed` goes on from its last checkpoint"
)
def test_hang(shop: Any) -> None:
    fails_alone(shop, "hang", "timeout", "its limit of 30 seconds", "hydra.launcher.timeout=30")
