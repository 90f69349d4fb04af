"""A test split is opened once for a whole sweep, or not at all; no network is evaluated here."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from tests.fixtures.comparisons import failed, write_sweep
from tests.fixtures.tested import SIZES, draw
from tests.fixtures.trials import HOLD

from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.execution import open_test_split as verb
from ablate.execution.evaluate_on_test import TestJob
from ablate.launching.jobs import Observer, Outcome
from ablate.records.metrics import Metrics
from ablate.records.test_split import TestEvaluation, save_test
from ablate.storage.files import atomic_write_text
from ablate.storage.layout import OutputFolder, TrialFolder

Run = Callable[..., CompletedProcess[str]]
Change = Callable[[list[dict[str, Any]]], None]


class SealedSweep:
    """A sweep of six trials whose checkpoints are files of no network, and what evaluates them."""

    def __init__(self, folder: Path, records: list[dict[str, Any]], run: Run) -> None:
        self.folder, self.records, self._run = folder, records, run
        self.root = OutputFolder(folder / "multirun")
        self.measured: list[str] = []
        self.stops_after: int | None = None
        self.data = draw(folder)

    def write(
        self, change: Change = lambda records: None, *, name: str = "first", analysis: dict[str, Any] | None = None
    ) -> None:
        """Write the sweep, changed."""
        data = {"name": "custom", "path": str(self.data)}
        found = resolve(DataSettings.from_plain(data))
        for record in self.records:
            record["config"] |= {"data": data}
            record["data"] |= {"name": "data", "fingerprint": found.fingerprint, "images": dict(found.images)}
            record["realised"] |= {"data_fingerprint": found.fingerprint}
            record["metrics_last"] = {**record["metrics"], "checkpoint": "last"}
            for which in ("best", "last"):
                atomic_write_text(
                    self.root.trial(record["signature"]).path / f"train/weights/{which}.pt", record["name"]
                )
        change(self.records)
        sweep = write_sweep(self.root.path, self.records, name=name, latency=False, runs=False)
        if analysis:
            manifest = sweep / "sweep.json"
            content = json.loads(manifest.read_text(encoding="utf-8")) | {"analysis": analysis}
            manifest.write_text(json.dumps(content), encoding="utf-8")

    def test(self, *words: str) -> CompletedProcess[str]:
        """Give the command."""
        return self._run("test", "first", *words)

    def refused(self, *words: str) -> str:
        """The one line of a command that is refused."""
        done = self.test(*words)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert done.returncode == 2, done.stdout + done.stderr
        assert len(lines) == 1, done.stderr
        return lines[0]

    def evaluate(self, function: str, jobs: Sequence[TestJob], observer: Observer) -> list[Outcome]:
        """In place of a worker: write what it would."""
        for number, job in enumerate(jobs):
            if self.stops_after is not None and number >= self.stops_after:
                raise KeyboardInterrupt
            self.measured.append(job.record.name)
            top = (job.record.metrics.map50_95 or 0.0) - 0.02
            metrics = Metrics(map50_95=top, checkpoint=job.checkpoint, split="test")
            evaluation = TestEvaluation(
                signature=job.record.signature, checkpoint=job.checkpoint, sha256=job.sha256, data=job.data,
                opening=job.opening, images=SIZES["test"], metrics=metrics, predictions="train/evidence/none.npz",
                time="2026-03-05T00:00:00+00:00",
            )  # fmt: skip
            save_test(TrialFolder(job.folder), evaluation)
            observer.end(number, Outcome(result=SIZES["test"]))
        return [Outcome(result=SIZES["test"]) for _ in jobs]

    @property
    def ledger(self) -> list[dict[str, Any]]:
        path = self.root.test_ledger
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.ledger]

    @property
    def page(self) -> str:
        return (self.root.sweeps / "first/comparison.md").read_text(encoding="utf-8")


@pytest.fixture
def tested(
    tmp_path: Path, records: Callable[..., list[dict[str, Any]]], ablate_here: Run, monkeypatch: pytest.MonkeyPatch
) -> SealedSweep:
    from ablate.cli import report_command

    made = SealedSweep(tmp_path, records(("none", "hmha"), ("musgd",)), ablate_here)
    monkeypatch.setattr(verb, "run_in_worker", made.evaluate)
    monkeypatch.setattr(verb, "edited_since", lambda record: None)
    quick = report_command.ReportOptions(figures=False, notebook=False)
    monkeypatch.setattr(report_command, "ReportOptions", lambda: quick)
    return made


def trained_on_test(made: list[dict[str, Any]]) -> None:
    for record in made:
        record["config"]["train"]["split"] = "test"


def one_failed(made: list[dict[str, Any]]) -> None:
    made[1] = failed(made[1], "code")


def without_settings(made: list[dict[str, Any]]) -> None:
    for record in made:
        del record["config"]["data"]


def of_no_known_data(made: list[dict[str, Any]]) -> None:
    for record in made:
        del record["data"]["fingerprint"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (trained_on_test, "train.split=test: nothing is held out"),
        (one_failed, "1 of 6 trials of first are not finished: none musgd s1"),
        (without_settings, "lacks the settings of its data"),
        (of_no_known_data, "lacks its data's fingerprint"),
    ],
)
def test_a_sweep_that_cannot_be_tested_is_refused(tested: SealedSweep, change: Change, reason: str) -> None:
    tested.write(change)
    assert reason in tested.refused()
    assert not tested.root.test_ledger.exists()


def test_a_sweep_that_still_runs_is_refused(tested: SealedSweep) -> None:
    tested.write()
    (tested.root.trial(tested.records[0]["signature"]).path / "result.json").unlink()
    assert "1 of 6 trials" in tested.refused()
    assert tested.events == []


def test_data_without_a_test_split_are_refused(tested: SealedSweep) -> None:
    tested.data = draw(tested.folder, ("train", "val"))
    tested.write()
    assert "has no test split; it has train, val" in tested.refused()
    assert tested.events == []


@pytest.mark.parametrize("split", ["test", "train"])
def test_images_that_were_changed_since_the_training_are_refused(tested: SealedSweep, split: str) -> None:
    tested.write()
    image = tested.folder / "set/images" / split / "0.png"
    image.write_bytes((tested.folder / "set/images" / split / "1.png").read_bytes())
    assert "data data was changed since none musgd s0 was trained on it" in tested.refused()
    assert tested.events == []


def test_a_checkpoint_that_is_gone_is_refused_before_anything_is_written(tested: SealedSweep) -> None:
    tested.write()
    tested.root.trial(tested.records[2]["signature"]).best.unlink()
    assert "the checkpoint of none musgd s2 is not there" in tested.refused()
    assert tested.events == []


def test_a_folder_that_cannot_be_written_is_one_line(tested: SealedSweep) -> None:
    tested.write()
    tested.root.test_ledger_lock.mkdir()
    assert "test_ledger" in tested.refused()
    assert tested.measured == []


@pytest.mark.parametrize(
    "word",
    [
        "again", "again=maybe", "again=", "agian=true", "force=true", "device=gpu7", "trust_weights=1", "judge=last",
        "resamples=10", "root=", "=true",
    ],
)  # fmt: skip
def test_wrong_words_are_one_line_each(tested: SealedSweep, word: str) -> None:
    tested.write()
    assert word.partition("=")[0] in tested.refused(word)
    assert tested.events == []


def test_a_sweep_that_does_not_exist_is_one_line(tested: SealedSweep) -> None:
    tested.write()
    done = tested._run("test", "frist")
    assert done.returncode == 2
    assert "first" in done.stderr


def test_the_same_checkpoints_are_measured_once(tested: SealedSweep) -> None:
    tested.write()
    assert tested.test().returncode == 0
    assert tested.events == ["opened", "finished"]
    assert len(tested.measured) == 6
    before = tested.root.test_ledger.read_bytes()
    assert tested.test("again=true").returncode == 0
    assert len(tested.measured) == 6
    assert tested.root.test_ledger.read_bytes() == before
    assert "opened once" in tested.page


def test_other_checkpoints_are_refused_and_recorded_where_they_are_measured_all_the_same(tested: SealedSweep) -> None:
    tested.write()
    assert tested.test().returncode == 0
    retrained = tested.root.trial(tested.records[3]["signature"])
    retrained.best.write_text("trained again", encoding="utf-8")
    assert "was opened before (1 time) for other checkpoints, last at" in tested.refused()
    assert tested.test("again=true", "device=cpu").returncode == 0
    assert tested.events == ["opened", "finished"] * 2
    assert tested.measured[6:] == ["hmha@c3k2 musgd s0"]
    assert tested.ledger[2]["command"] == "python -m ablate test first again=true device=cpu"
    assert "opened 2 times" in tested.page
    assert tested.page.count("the test split has been opened 2 times") == 2


def test_another_sweep_on_the_same_data_is_refused(tested: SealedSweep) -> None:
    tested.write()
    assert tested.test().returncode == 0
    for record in tested.records:
        record["signature"] = record["signature"][::-1]
        record["name"] += " of another sweep"
    tested.write(name="second")
    done = tested._run("test", "second")
    assert done.returncode == 2
    assert "by sweep first; again=true opens it again" in done.stderr


def test_an_interrupted_opening_goes_on_and_counts_once(tested: SealedSweep) -> None:
    tested.write()
    tested.stops_after = 2
    assert tested.test().returncode == 130
    assert tested.events == ["opened"]
    tested.stops_after = None
    assert tested.test().returncode == 0
    assert tested.events == ["opened", "finished"]
    assert len(tested.measured) == len(set(tested.measured)) == 6
    assert "opened once" in tested.page


@pytest.mark.parametrize(
    ("edit", "damage"),
    [
        (lambda text: text.replace("first", "other", 1), "line 1 was changed"),
        (lambda text: text[: len(text) // 3], "line 1 cannot be read"),
        (lambda text: "".join(text.splitlines(keepends=True)[1:]), "a line before line 1 was changed or removed"),
    ],
)
def test_a_damaged_ledger_is_said_and_hides_no_measurement(
    tested: SealedSweep, edit: Callable[[str], str], damage: str
) -> None:
    tested.write()
    assert tested.test().returncode == 0
    ledger = tested.root.test_ledger
    ledger.write_text(edit(ledger.read_text(encoding="utf-8")), encoding="utf-8")
    done = tested.test()
    assert done.returncode == 0
    assert damage in done.stdout
    assert len(tested.measured) == 6
    assert f"tampered with: {damage}" in tested.page


def test_two_commands_at_once_do_not_open_it_twice(tested: SealedSweep) -> None:
    tested.write()
    words = [sys.executable, "-c", HOLD, str(tested.root.test_ledger_lock), "cpu"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert "another command measures on a test split" in tested.refused()
        other.kill()
    assert tested.events == []


@pytest.mark.parametrize(("judge", "checkpoint"), [("last", "last"), ("mean_last_3", "best"), ("split", "best")])
def test_the_judge_says_which_checkpoint_is_measured(tested: SealedSweep, judge: str, checkpoint: str) -> None:
    tested.write(analysis={"judge": judge})
    done = tested.test("--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["test_split"]["variants"]
    assert {row["evaluated"] for row in rows} == {f"test, {checkpoint}"}
    assert ("has no single checkpoint" in done.stderr) == (judge not in ("best", "last"))
    assert all(row["fall"] == pytest.approx(0.02) for row in rows)


def test_what_the_system_refuses_of_a_measurement_is_not_told_of_the_ledger(
    tested: SealedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", "best.pt")

    tested.write()
    monkeypatch.setattr(verb, "run_in_worker", no_process)
    assert tested.refused() == "ablate: best.pt: Input/output error"
    assert tested.events == ["opened"]
