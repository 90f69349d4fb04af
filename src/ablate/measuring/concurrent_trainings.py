"""How many images a second several trainings of one machine get through, side by side: real steps of the real trainer.

Each process runs `throughput` at the same time as the others. They meet through files in a common folder, because the
processes of a pool know nothing of each other, and measure from the same moment on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ablate.measuring.memory import PeakMemory
from ablate.measuring.short_training import Enough, train_until_enough
from ablate.storage.files import atomic_write_text

WARMUP = 1  # batches before those that are measured: memory is allocated, kernels are chosen
STEPS = 3  # batches that are measured at least
SHORTEST, LONGEST = 1.5, 12.0  # seconds that a measurement takes: of quick steps, and of slow ones as far as possible
MEETING = 60.0  # seconds that processes wait for each other


@dataclass(frozen=True)
class ProcessSpeed:
    """How fast one process trains beside others.

    Attributes:
        batch: Images in a batch.
        step_seconds: A batch with its share of the optimizer.
        optimizer_share: The optimizer's part of that, from 0 to 1.
        setup_seconds: Until the first batch.
        peak_memory_gb: Of the process; None where the system does not report it.
    """

    batch: int
    step_seconds: float
    optimizer_share: float
    setup_seconds: float
    peak_memory_gb: float | None


def throughput(make_trainer: Callable[[], Any], meeting: Path, index: int, processes: int) -> ProcessSpeed:
    """Train for a few batches beside the other processes.

    Args:
        make_trainer: Makes an Ultralytics trainer on the CPU that has not begun.
        meeting: An empty folder that the processes of one measurement share.
        index: Which of them this is, from 0.
        processes: How many they are.

    Raises:
        TimeoutError: The other processes did not come.
        Exception: Whatever ends the training early.
    """
    started = time.perf_counter()
    trainer = make_trainer()
    memory = PeakMemory(cuda=False)
    clock = _Clock(trainer, lambda seconds: _meet(meeting, index, processes, seconds))
    train_until_enough(trainer)
    return ProcessSpeed(
        trainer.batch_size,
        step_seconds=clock.step_seconds,
        optimizer_share=clock.optimizer_seconds / clock.step_seconds,
        setup_seconds=clock.began - started,
        peak_memory_gb=memory.gigabytes(),
    )


class _Clock:
    """Keeps the time of a trainer's first batches, and ends its training."""

    def __init__(self, trainer: Any, meet: Callable[[float], float]) -> None:
        self.began = 0.0
        self._trainer = trainer
        self._meet = meet  # given the seconds of one batch, waits for the others; returns how long to measure
        self._accumulate = 1
        self._batches: list[float] = []  # seconds of each, without the optimizer
        self._steps: list[float] = []  # seconds of each step of the optimizer
        self._start = self._stepping = 0.0
        self._until: float | None = None
        self._step = trainer.optimizer_step
        trainer.optimizer_step = self._timed_step
        trainer.add_callback("on_train_start", self._train_start)
        trainer.add_callback("on_train_epoch_start", self._train_epoch_start)
        trainer.add_callback("on_train_batch_end", self._train_batch_end)

    @property
    def optimizer_seconds(self) -> float:
        """The optimizer's share of a batch."""
        return median(self._steps or [0.0]) / self._accumulate

    @property
    def step_seconds(self) -> float:
        """A batch with its share of the optimizer."""
        return median(self._batches) + self.optimizer_seconds

    def _train_start(self, trainer: Any) -> None:
        self.began = time.perf_counter()
        self._accumulate = max(trainer.accumulate, 1)

    def _train_epoch_start(self, trainer: Any) -> None:
        """Make the epoch as long as it takes, however few the images are."""
        trainer.train_loader = _Repeated(trainer.train_loader)
        self._start, self._stepping = time.perf_counter(), 0.0

    def _timed_step(self) -> None:
        start = time.perf_counter()
        self._step()
        self._stepping = time.perf_counter() - start
        self._steps.append(self._stepping)

    def _train_batch_end(self, trainer: Any) -> None:
        now = time.perf_counter()
        self._batches.append(now - self._start - self._stepping)
        if self._until is None and len(self._batches) >= WARMUP:
            seconds = self._batches[-1] + self._stepping
            self._batches, self._steps = [], []
            self._until = time.perf_counter() + self._meet(seconds)
        elif self._until is not None and now >= self._until and len(self._batches) >= min(STEPS, 2):
            raise Enough
        self._start, self._stepping = time.perf_counter(), 0.0


class _Repeated:
    """A loader that begins anew when it is through; otherwise the loader itself."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self._loader


def _meet(folder: Path, index: int, processes: int, seconds: float) -> float:
    """Wait until every process is ready; return for how long all of them measure, by the slowest batch.

    Raises:
        TimeoutError: One did not come.
    """
    atomic_write_text(folder / f"{index}.json", json.dumps(seconds))
    patience = time.monotonic() + MEETING
    while len(ready := list(folder.glob("*.json"))) < processes:
        if time.monotonic() > patience:
            raise TimeoutError(f"{processes - len(ready)} of {processes} processes did not begin")
        time.sleep(0.01)
    slowest = max(float(json.loads(path.read_text(encoding="utf-8"))) for path in ready)
    return min(max(STEPS * slowest, SHORTEST), LONGEST)
