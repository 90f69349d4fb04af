"""`python -m ablate test` from a real sweep to its report; what it refuses, and what is left when it is interrupted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.tested import SIZES, draw

import ablate as package
from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.execution import open_test_split as verb
from ablate.execution.evaluate_on_test import TestJob, evaluate, evaluate_on_test
from ablate.launching.jobs import Observer, Outcome
from ablate.records.loading import load_sweep
from ablate.records.predictions import load_predictions
from ablate.records.test_split import load_test
from ablate.storage.layout import OutputFolder

pytestmark = pytest.mark.slow  # a real sweep is trained

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SWEEP = [
    "module=eca", "insertion=head", "train=smoke", "train.epochs=2", "train.fraction=1.0", "train.batch=4",
    "device=cpu", "data=custom", "data.path=data.yaml", "judge=split", "split=groups.csv", "sweep=tested",
    "probe=false", "latency.enabled=false", "notebook=false", "figures=false", "-m",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with a data set and a finished sweep of a baseline and a variant, one seed each."""

    def make(folder: Path) -> None:
        draw(folder)
        done = _ablate(folder, *SWEEP)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once("tested-sweep", make)


def _ablate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablate", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A copy of the output folder, to be tested; its data set is where it was trained."""
    shutil.copytree(trained / "multirun", tmp_path / "multirun", symlinks=True)
    shutil.copy(trained / "groups.csv", tmp_path)
    return tmp_path / "multirun"


@pytest.fixture
def here(root: Path, ablate_here: Run, monkeypatch: pytest.MonkeyPatch, trained: Path) -> Run:
    """Run the command in this process, and the evaluations too."""

    def evaluate(function: str, jobs: Sequence[TestJob], observer: Observer) -> list[Outcome]:
        outcomes = []
        for index, job in enumerate(jobs):
            outcomes.append(Outcome(result=evaluate_on_test(job)))
            observer.end(index, outcomes[-1])
        return outcomes

    monkeypatch.setattr(verb, "run_in_worker", evaluate)
    (root.parent / "data.yaml").write_text((trained / "data.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return ablate_here


def ledger_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in OutputFolder(root).test_ledger.read_text(encoding="utf-8").splitlines()]


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refusal prints."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_from_sweep_to_report(root: Path, here: Run) -> None:
    assert here("test", "tested").returncode == 0
    opened, finished = ledger_of(root)
    assert (opened["event"], finished["event"]) == ("opened", "finished")
    assert opened["command"] == "python -m ablate test tested"
    assert opened["version"] == package.__version__
    assert str(root) not in json.dumps([opened, finished])
    sweep = load_sweep(root / "sweeps" / "tested")
    for record in sweep.trials:
        one = load_test(sweep.folder.trial(record.signature))
        assert one is not None
        assert (one.images, one.checkpoint, one.opening) == (SIZES["test"], "best", opened["hash"])
        assert one.metrics.epoch == record.metrics.epoch is not None
        assert (sweep.folder.trial(record.signature).path / one.predictions).is_file()
    with (root / "sweeps/tested/comparison_test.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["evaluated"] for row in rows] == ["test, best"] * 2
    for row in rows:
        fall = float(row["validation_map50_95"]) - float(row["map50_95"])
        assert float(row["fall"]) == pytest.approx(fall, abs=1e-4)
    assert 'id="test-split"' in (root / "sweeps/tested/comparison.html").read_text(encoding="utf-8")

    again = here("test", "tested")  # the same checkpoints: nothing is measured, and nothing counts
    assert again.returncode == 0
    assert "measuring" not in again.stdout
    assert len(ledger_of(root)) == 2


def test_a_checkpoint_is_evaluated_as_its_training_evaluated_it(trained: Path) -> None:
    sweep = load_sweep(trained / "multirun/sweeps/tested")
    for record in sweep.trials:
        data = resolve(DataSettings.from_plain(record.config["data"]))
        folder = sweep.folder.trial(record.signature)
        job = TestJob(folder.path, record, "best", folder.best, "", "", data.yaml, data.fingerprint)
        found, predictions = evaluate(job, "val", "none.npz")
        assert found.metrics.map50_95 == pytest.approx(record.metrics.map50_95, abs=1e-6)
        stored = load_predictions(folder.path / record.artifacts.predictions["best"])
        assert predictions.names.tolist() == stored.names.tolist()
        assert (predictions.cls == stored.cls).all()
        assert (predictions.box == stored.box).all()


def test_halves_of_a_training_keep_groups_whole(trained: Path) -> None:
    sweep = load_sweep(trained / "multirun/sweeps/tested")
    digests = set()
    for record in sweep.trials:
        of_images, of_groups = record.realised.halves, record.realised.group_halves
        assert of_images.images == of_groups.images == (4, 4)
        assert (of_images.divided, of_groups.divided) == (2, 0)
        digests.add((of_images.digest, of_groups.digest))
        for row in record.history:
            assert None not in row.halves(sweep.metric)
            assert None not in row.halves(sweep.metric, of_groups=True)
    assert len(digests) == 1
    report = (trained / "multirun/sweeps/tested/comparison.md").read_text(encoding="utf-8")
    assert "Images of one group are in one half of the validation images (4 and 4 images)" in report


def test_a_command_that_is_killed_goes_on_and_counts_once(root: Path) -> None:
    words = [sys.executable, "-m", "ablate", "test", "tested"]
    process = subprocess.Popen(
        words, cwd=root.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    first = load_sweep(root / "sweeps/tested").trials[0]
    evaluated = OutputFolder(root).trial(first.signature).test
    deadline = time.monotonic() + 300
    while not evaluated.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [line["event"] for line in ledger_of(root)] == ["opened"]
    before = evaluated.read_bytes()
    done = _ablate(root.parent, "test", "tested")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "measuring 1 checkpoint on" in done.stdout
    assert [line["event"] for line in ledger_of(root)] == ["opened", "finished"]
    assert evaluated.read_bytes() == before
    assert "opened once" in (root / "sweeps/tested/comparison.md").read_text(encoding="utf-8")
    assert "Test split" in (root / "sweeps/tested/comparison.ipynb").read_text(encoding="utf-8")


def test_a_checkpoint_that_cannot_be_read_is_one_line_and_the_others_are_measured(root: Path) -> None:
    first, broken = load_sweep(root / "sweeps/tested").trials
    output = OutputFolder(root)
    output.trial(broken.signature).best.write_bytes(b"no checkpoint")
    done = _ablate(root.parent, "test", "tested")
    assert "1 checkpoint not measured" in refused(done)
    assert output.trial(first.signature).test.exists()
    assert not output.trial(broken.signature).test.exists()
    assert [line["event"] for line in ledger_of(root)] == ["opened"]
