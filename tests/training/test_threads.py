"""Threads of a training on the CPU: chosen for the whole of it, fewer while others use the machine, and recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import make_trainer

from ablate.measuring.load_of_others import Neighbours, Times
from ablate.settings.environment import CPU_THREADS, SHARING
from ablate.training import threads
from ablate.training.threads import EpochThreads, ThreadState
from ablate.training.trainer import AblateTrainer

Build = Callable[..., Any]


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of two cores; torch's number of threads is put back."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "visible_cores", lambda: 2)
    yield
    torch.set_num_threads(before)


class Others(Neighbours):
    """Neighbours that take a given number of cores, epoch by epoch."""

    def __init__(self, *cores: float) -> None:
        super().__init__(1, lambda leader: Times(0.0, 0.0, 0.0))
        self._cores = iter(cores)

    def cores(self) -> float:
        return next(self._cores)


def chosen_by_a_launcher(monkeypatch: pytest.MonkeyPatch, *cores: float, number: int = 2) -> None:
    """Let the launcher have chosen a number of threads for one trial at a time, and others take these cores."""
    monkeypatch.setenv(SHARING, "1")
    monkeypatch.setenv(CPU_THREADS, str(number))
    monkeypatch.setattr(threads, "Neighbours", lambda leader: Others(*cores))


def realised(trainer: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(trainer.save_dir) / "realised.json").read_text(encoding="utf-8"))
    return content


def test_a_busy_machine_is_answered_with_fewer_threads_and_a_quiet_one_with_all() -> None:
    used = EpochThreads(2, 1, Others(0.0, 1.0, 1.0, 0.1))
    said = [used.begin(epoch) for epoch in (1, 2, 3, 4)]

    assert used.by_epoch == [[1, 2], [2, 1], [4, 2]]
    assert [bool(words) for words in said] == [False, True, False, True]
    assert "1.0 of 2 cores" in said[1]
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_is_that_of_most_epochs() -> None:
    used = EpochThreads(2, 1, Others(0.0, 1.0, 1.0))
    for epoch in (1, 2, 3):
        used.begin(epoch)

    assert used.most_used == 1


def test_a_number_that_the_user_gave_is_never_changed() -> None:
    used = EpochThreads(2, None, Others())  # nobody asks what others do
    said = [used.begin(epoch) for epoch in (1, 2)]

    assert used.by_epoch == [[1, 2]]
    assert said == ["", ""]


def test_another_number_from_the_user_is_not_blamed_on_others() -> None:
    used = EpochThreads(1, None, Others())
    used.resume(ThreadState(usual=2, now=2, by_epoch=[[1, 2]]), done=1)
    words = used.begin(2)

    assert words.startswith("1 instead of 2 threads")
    assert "other processes" not in words


def test_a_training_records_its_threads_epoch_by_epoch_and_tells_of_the_change(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen_by_a_launcher(monkeypatch, 0.0, 1.0)
    during: list[int] = []
    trainer = build(epochs=2, callbacks={"on_train_batch_end": lambda t: during.append(torch.get_num_threads())})
    details: list[dict[str, int]] = []
    trainer.add_callback("on_train_batch_end", lambda t: details.append(t.progress_details()))
    trainer.train()

    assert during == [2, 2, 1, 1]
    assert realised(trainer)["threads_by_epoch"] == [[1, 2], [2, 1]]
    assert details == [{}, {}, *[{"threads": 1, "threads_usual": 2}] * 2]


@pytest.fixture(scope="module")
def interrupted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training whose first of two epochs was trained with two threads."""

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Interrupted

    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "visible_cores", lambda: 2)
        chosen_by_a_launcher(patch, 0.0, 0.0)
        folder = tmp_path_factory.mktemp("interrupted")
        trainer = make_trainer(folder, tiny_data, epochs=2, callbacks={"on_train_batch_end": stop})
        with pytest.raises(Interrupted):
            trainer.train()
    torch.set_num_threads(before)
    return Path(trainer.save_dir)


def test_a_resumed_training_goes_on_with_the_threads_of_its_checkpoint_and_is_exact(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = shutil.copytree(interrupted, tmp_path / "train") / "weights" / "last.pt"
    chosen_by_a_launcher(monkeypatch, 0.0, 0.0, number=1)  # another sweep, with another choice
    trainer = AblateTrainer(overrides={"resume": str(last)})
    trainer.train()

    assert (realised(trainer)["threads_by_epoch"], trainer.resumed_exactly) == ([[1, 2]], True)


def test_a_training_that_is_resumed_on_a_busy_machine_has_fewer_threads_and_is_not_exact(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = shutil.copytree(interrupted, tmp_path / "train") / "weights" / "last.pt"
    chosen_by_a_launcher(monkeypatch, 1.0)
    trainer = AblateTrainer(overrides={"resume": str(last)})
    trainer.train()

    assert (realised(trainer)["threads_by_epoch"], trainer.resumed_exactly) == ([[1, 2], [2, 1]], False)


def test_the_users_number_counts_in_a_resumed_training_too(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = shutil.copytree(interrupted, tmp_path / "train") / "weights" / "last.pt"
    monkeypatch.delenv(SHARING, raising=False)
    monkeypatch.setenv(CPU_THREADS, "1")
    trainer = AblateTrainer(overrides={"resume": str(last)})
    trainer.train()

    assert (realised(trainer)["threads_by_epoch"], trainer.resumed_exactly) == ([[1, 2], [2, 1]], False)
