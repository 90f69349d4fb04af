"""A training's energy is that of its parts; NVML, which needs a GPU, is stood in for by one counter of mJ."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ablate.measuring.energy import MILLIJOULES, EnergyMeter
from ablate.training import trainer as home
from ablate.training.trainer import AblateTrainer


class Library:
    """The functions of pynvml that are used, for one GPU."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.energy = 123.0 * MILLIJOULES

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:
        return self.energy

    def take(self, trainer: Any) -> None:
        """Take 1 kWh."""
        self.energy += MILLIJOULES


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(home, "EnergyMeter", partial(EnergyMeter, library=library))
    monkeypatch.setattr(home, "gpu_uuids", lambda device, processes: ["GPU-a"])
    return library


def recorded(folder: Path) -> Any:
    return json.loads((folder / "realised.json").read_text(encoding="utf-8"))["energy_kwh"]


def test_the_energy_of_an_interrupted_training_adds_up(build: Callable[..., Any], library: Library) -> None:
    def interrupt(trainer: Any) -> None:
        if trainer.epoch + 1 == 3:
            raise Interrupted

    trainer = build(epochs=3, callbacks={"on_train_batch_end": library.take, "on_train_batch_start": interrupt})
    with pytest.raises(Interrupted):
        trainer.train()
    library.energy = 7.0  # the driver was restarted meanwhile
    resumed = AblateTrainer(overrides={"resume": str(Path(trainer.save_dir) / "weights" / "last.pt")})
    resumed.add_callback("on_train_batch_end", library.take)
    resumed.train()

    assert recorded(Path(trainer.save_dir)) == pytest.approx(3 * 2)  # two batches of four images an epoch


def test_no_energy_is_told_where_a_part_of_it_is_unknown(
    build: Callable[..., Any], library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(trainer: Any) -> None:
        if trainer.epoch + 1 == 2:
            raise Interrupted

    with monkeypatch.context() as on_the_cpu:
        on_the_cpu.setattr(home, "gpu_uuids", lambda device, processes: [])
        trainer = build(epochs=2, callbacks={"on_train_batch_start": interrupt})
        with pytest.raises(Interrupted):
            trainer.train()
    AblateTrainer(overrides={"resume": str(Path(trainer.save_dir) / "weights" / "last.pt")}).train()

    assert recorded(Path(trainer.save_dir)) is None
