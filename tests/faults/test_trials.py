"""Trials that go wrong by themselves: each ends with its type of failure; the others are unharmed."""

from __future__ import annotations

import sqlite3
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

LIMITS = ["hydra.launcher.memory_gb=3", "hydra.launcher.timeout=20"]
SWEEP = ["module=raises,diverges,dies,leaks,hangs,steady", *LIMITS, "-m"]
UNHARMED = ["baseline musgd s0", "steady@neck_p5 musgd s0"]
FAILED = [f"{name}@neck_p5 musgd s0" for name in ("raises", "diverges", "dies", "leaks", "hangs")]
RAISES, DIVERGES, DIES, LEAKS, HANGS = FAILED


@dataclass
class Story:
    """One sweep with five modules that fail beside one that does not, and the commands after it."""

    shop: Any
    broken: subprocess.CompletedProcess[str]
    failures: dict[str, dict[str, Any]]
    tries: dict[str, list[dict[str, Any]]]
    runs: list[tuple[str, str, str, str]]  # name, status, type of failure and id, as MLflow has them after the sweep
    sweep: str  # status of the sweep's run there

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Give the command again."""
        return self.shop.run(*SWEEP, *words)  # type: ignore[no-any-return]

    def assert_alone(self, name: str, kind: str, message: str) -> dict[str, Any]:
        """A trial failed as this type, and the terminal, the record and MLflow say so; return its failure."""
        failure = self.failures[name]
        assert failure["type"] == kind
        assert message in failure["message"]
        assert 0 < len(failure["tail"]) <= 50
        assert f"failed: {name}: {kind}: " in self.broken.stdout
        assert (name, "FAILED", kind) in [run[:3] for run in self.runs]
        assert sorted(self.shop.records().keys() - self.failures.keys()) == UNHARMED
        return failure


@pytest.fixture(scope="module")
def story(module_shop_from: Any) -> Story:
    shop = module_shop_from("baseline")
    shop.set("broken")
    broken = shop.run(*SWEEP)
    assert broken.stdout, broken.stderr
    records = shop.records()
    failures = {name: record["failure"] for name, record in records.items() if record["failure"]}
    tries = {name: record["tries"] for name, record in records.items()}
    with sqlite3.connect(shop.folder / "multirun" / "mlflow.db") as database:
        sweeps = database.execute(
            "select r.status from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'ablate.kind' "
            "and t.value = 'sweep' order by r.start_time"
        ).fetchall()
    return Story(shop, broken, failures, tries, failed_runs(shop), sweeps[-1][0])


def failed_runs(shop: Any) -> list[tuple[str, str, str, str]]:
    """Return name, status, type of failure and id of the runs in MLflow that say why they failed."""
    with sqlite3.connect(shop.folder / "multirun" / "mlflow.db") as database:
        return database.execute(
            "select r.name, r.status, t.value, r.run_uuid from runs r join tags t on t.run_uuid = r.run_uuid "
            "and t.key = 'ablate.failure'"
        ).fetchall()


@pytest.mark.fault(
    "an exception in a module's forward", "the trial fails as `code`; the record has its last 50 log lines"
)
def test_exception(story: Story) -> None:
    failure = story.assert_alone(RAISES, "code", "this module is broken")

    assert any("my_blocks.py" in line for line in failure["tail"]), "the log says where"


@pytest.mark.fault("a loss that is NaN", "the trial fails as `diverged`")
def test_nan(story: Story) -> None:
    story.assert_alone(DIVERGES, "diverged", "nan")


@pytest.mark.fault("a trial that takes its process along", "it is tried once more, then fails as `killed`")
def test_killed(story: Story) -> None:
    story.assert_alone(DIES, "killed", "died")
    assert len(story.tries[DIES]) == 2


@pytest.mark.fault("a trial that leaks memory until it is killed", "the trial fails as `out_of_memory`")
def test_leak(story: Story) -> None:
    story.assert_alone(LEAKS, "out_of_memory", "grew beyond its limit of 3 GB")


@pytest.mark.fault("a trial that hangs", "the trial fails as `timeout`")
def test_hang(story: Story) -> None:
    story.assert_alone(HANGS, "timeout", "its limit of 20 seconds")


@pytest.mark.fault(
    "failed trials, when the command is repeated",
    "not trained again; `retry=failed` trains all but those out of memory, `retry=oom` these",
)
def test_retry(story: Story) -> None:
    assert story.broken.returncode == 1, story.broken.stdout + story.broken.stderr
    assert "retry=all" in story.broken.stdout
    assert "Traceback" not in story.broken.stderr
    assert sorted(story.failures) == sorted(FAILED)
    assert story.sweep == "FAILED"

    waits = story.run()
    assert waits.returncode == 1
    assert f"{len(FAILED)} failed before" in waits.stdout
    assert {name: record["tries"] for name, record in story.shop.records().items()} == story.tries

    story.shop.unset("broken")
    story.shop.quick = True  # which trials are trained is the question, not how
    mended = story.run("retry=failed")
    assert mended.returncode == 1, "the trial that was out of memory waits still"
    assert [name for name, record in story.shop.records().items() if record["failure"]] == [LEAKS]
    assert story.run("retry=oom").returncode == 0
    story.shop.assert_all_finished_once(UNHARMED + FAILED)
    assert failed_runs(story.shop) == []
    assert {run_id for *_, run_id in story.runs} < set(story.shop.run_ids())
