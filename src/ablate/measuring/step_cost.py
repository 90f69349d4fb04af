"""How long a training will take and how much memory it needs, from a few steps of the real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ablate.measuring.machine import device_name
from ablate.measuring.memory import PeakMemory
from ablate.measuring.short_training import Enough, train_until_enough

if TYPE_CHECKING:
    import torch

WARMUP = 2  # batches before any is measured: memory is allocated, kernels are chosen
MEASURED = 4  # batches that are measured at least
PATIENCE = 3.0  # seconds; quick batches are measured as long as this, which says more where loaders run beside
MOST = 24  # batches that are measured at most
VALIDATED = 3  # batches of the validation


@dataclass(frozen=True)
class StepTimes:
    """What the parts of a training take.

    Attributes:
        setup_seconds: Until the first batch.
        step_seconds: A batch with its share of the optimizer.
        val_seconds: A batch of the validation.
        epoch_seconds: What an epoch needs besides batches: metrics, checkpoints.
        train_batches: Batches in an epoch.
        val_batches: Batches in a validation.
    """

    setup_seconds: float
    step_seconds: float
    val_seconds: float
    epoch_seconds: float
    train_batches: float
    val_batches: float


@dataclass(frozen=True)
class StepCost:
    """Time and memory of a training.

    Attributes:
        times: Of its parts.
        batch: Images in a batch.
        measured: Batches that were measured.
        checkpoint_bytes: Size of last.pt.
        peak_memory_gb: Of the training; None where the system does not report it.
        device_name: Of the device.
        device_memory_gb: Memory of the GPU; None on a CPU.
    """

    times: StepTimes
    batch: int
    measured: int
    checkpoint_bytes: int
    peak_memory_gb: float | None
    device_name: str
    device_memory_gb: float | None


def probe(make_trainer: Callable[[], Any]) -> StepCost:
    """Train for a few batches, validate on a few, write a checkpoint, and stop.

    Everything is done by the trainer itself, at the length of one short epoch, and written to its own folder.

    Args:
        make_trainer: Makes an Ultralytics trainer that has not begun.

    Raises:
        Exception: Whatever ends the training early.
    """
    started = time.perf_counter()
    trainer = make_trainer()
    memory = PeakMemory(cuda=trainer.device.type == "cuda")
    epoch = _ShortEpoch(trainer, started)
    train_until_enough(trainer)
    return StepCost(
        epoch.times(),
        batch=trainer.batch_size,
        measured=epoch.measured,
        checkpoint_bytes=trainer.last.stat().st_size,
        peak_memory_gb=memory.gigabytes(),
        device_name=device_name(trainer.device),
        device_memory_gb=_memory_gb(trainer.device),
    )


class _ShortEpoch:
    """Times a trainer's first epoch, cuts it short, and ends the training after it.

    Args:
        trainer: It has not begun.
        started: When its making started, by `time.perf_counter`.
    """

    def __init__(self, trainer: Any, started: float) -> None:
        self._started = self._began = started
        self._trainer = trainer
        self._accumulate = 1
        self._ends: list[float] = []  # of the epoch's start, and of each batch
        self._stepping: list[float] = []  # seconds in the optimizer, by batch; 0 where it did not step
        self._validated: list[float] = []  # of the validation's start, and of each of its batches
        self._over = 0.0
        self._val_batches = 0
        self._step = trainer.optimizer_step
        trainer.optimizer_step = self._timed_step
        for event in ("train_start", "train_epoch_start", "train_batch_start", "train_batch_end", "val_start"):
            trainer.add_callback(f"on_{event}", getattr(self, f"_{event}"))
        trainer.add_callback("on_val_batch_end", self._val_batch_end)
        trainer.add_callback("on_fit_epoch_end", self._fit_epoch_end)

    @property
    def measured(self) -> int:
        """How many batches are measured: those after the warm-up, or all where there are no more."""
        batches = len(self._ends) - 1
        return batches - WARMUP if batches > WARMUP else batches

    def times(self) -> StepTimes:
        """Return what the parts of the training take."""
        trainer = self._trainer
        batches = [end - start for start, end in pairwise(self._ends)]
        # Loader processes deliver in bursts, which a median would not see; without them it is noise that does.
        usual = fmean if trainer.train_loader.num_workers else median
        steps = [seconds for seconds in self._stepping if seconds] or [0.0]
        plain = [seconds - step for seconds, step in zip(batches, self._stepping, strict=True)]
        validated = [end - start for start, end in pairwise(self._validated)]
        return StepTimes(
            setup_seconds=self._began - self._started,
            step_seconds=usual(plain[-self.measured :]) + median(steps) / self._accumulate,
            val_seconds=median(validated[1:] or validated),
            epoch_seconds=self._over - self._validated[-1],
            train_batches=len(trainer.train_loader),
            val_batches=self._val_batches,
        )

    def _now(self) -> float:
        if self._trainer.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._trainer.device)
        return time.perf_counter()

    def _timed_step(self) -> None:
        start = self._now()
        self._step()
        self._stepping[-1] += self._now() - start

    def _train_start(self, trainer: Any) -> None:
        self._began = self._now()
        self._accumulate = trainer.accumulate

    def _train_epoch_start(self, trainer: Any) -> None:
        """Begin anew: also after an out-of-memory that halved the batch."""
        self._ends, self._stepping = [self._now()], []
        loader = trainer.test_loader
        self._val_batches = len(loader)
        trainer.validator.dataloader = _Shortened(loader, VALIDATED)

    def _train_batch_start(self, trainer: Any) -> None:
        self._stepping.append(0.0)

    def _train_batch_end(self, trainer: Any) -> None:
        self._ends.append(self._now())
        measured = len(self._ends) - 1 - WARMUP
        seconds = self._ends[-1] - self._ends[min(WARMUP, len(self._ends) - 1)]
        if measured >= MOST or (measured >= MEASURED and seconds >= PATIENCE):
            trainer.stop = True  # the loop looks for it between two batches

    def _val_start(self, validator: Any) -> None:
        self._validated = [self._now()]

    def _val_batch_end(self, validator: Any) -> None:
        self._validated.append(self._now())

    def _fit_epoch_end(self, trainer: Any) -> None:
        self._over = self._now()
        raise Enough


class _Shortened:
    """The first batches of a loader."""

    def __init__(self, loader: Any, batches: int) -> None:
        self._loader = loader
        self._batches = batches
        self.dataset = loader.dataset

    def __len__(self) -> int:
        return min(len(self._loader), self._batches)

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._loader), self._batches)


def _memory_gb(device: torch.device) -> float | None:
    """Return the memory of a GPU, None for another device."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory / 1e9 if device.type == "cuda" else None
