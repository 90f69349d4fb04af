"""The number of threads of a training on the CPU, for each epoch: fewer while other processes use the machine."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

import torch

from ablate.measuring.load_of_others import Neighbours, threads_beside
from ablate.settings.environment import SHARING, cpu_threads, visible_cores


@dataclass(frozen=True)
class ThreadState:
    """The numbers of threads that a checkpoint holds.

    Attributes:
        usual: Threads on a machine of its own.
        now: Threads of the last epoch.
        by_epoch: First epoch and number of threads, for each change.
    """

    usual: int
    now: int
    by_epoch: list[list[int]]


class EpochThreads:
    """Sets the number of threads at the start of each epoch, and stores it.

    A number that the user has set is never changed. One that a launcher has chosen is lowered while other processes
    than those of this sweep take the cores: threads that wait for each other are only as fast as the slowest.

    Args:
        usual: Threads on a machine of its own.
        trials: Trials at a time, all with as many threads; None: the number was set by the user.
        neighbours: Watches the others; the launcher's process, which has started this one, leads our own.

    Attributes:
        usual: As above; of a resumed training that with which it was started.
        others: Cores that others took before this epoch.
    """

    def __init__(self, usual: int, trials: int | None = None, neighbours: Neighbours | None = None) -> None:
        self.usual = usual
        self.others = 0.0
        self._trials = trials
        self._neighbours = neighbours or (Neighbours(os.getppid()) if trials and usual > 1 else None)
        self._changes: list[list[int]] = []
        self._epochs = 0
        self._go_on_with: int | None = None

    @classmethod
    def of_this_process(cls) -> EpochThreads:
        """Return the threads that the environment variables set."""
        trials = os.environ.get(SHARING, "")
        return cls(cpu_threads(), int(trials) if trials.isdigit() else None)

    @property
    def now(self) -> int:
        """The number of threads in this epoch."""
        return self._changes[-1][1] if self._changes else self.usual

    @property
    def by_epoch(self) -> list[list[int]]:
        """From which epoch on (counted from 1) how many threads: ``[[1, 2], [4, 1]]``."""
        return [list(change) for change in self._changes]

    @property
    def most_used(self) -> int:
        """The number of threads of most epochs; of two that are used equally long, the smaller."""
        if not self._changes:
            return self.usual
        ends = [first for first, _ in self._changes[1:]] + [self._epochs + 1]
        epochs: Counter[int] = Counter()
        for (first, threads), end in zip(self._changes, ends, strict=True):
            epochs[threads] += end - first
        return min(epochs, key=lambda threads: (-epochs[threads], threads))

    def begin(self, epoch: int) -> str:
        """Set the threads of an epoch (from 1); return in words what has changed, or nothing."""
        before, threads = self.now, self.usual
        if self._go_on_with is not None:  # the last bits depend on it
            before = threads = self._go_on_with
            self._go_on_with = None
        if self._neighbours is not None and self._trials:
            self.others = self._neighbours.cores()
            threads = min(threads, threads_beside(self.usual, self._trials, visible_cores(), self.others))
        torch.set_num_threads(threads)
        self._epochs = epoch
        if not self._changes or self.now != threads:
            self._changes.append([epoch, threads])
        if threads == before:
            return ""
        why = (
            "as given" if self._trials is None else f"other processes take {self.others:.1f} of {visible_cores()} cores"
        )
        return f"{threads} instead of {before} threads from epoch {epoch} on: {why}"

    def state(self) -> ThreadState:
        """Return the state for a checkpoint."""
        return ThreadState(self.usual, self.now, self.by_epoch)

    def resume(self, state: ThreadState | None, done: int) -> None:
        """Continue with the threads of a checkpoint after `done` epochs, unless the user has set a number."""
        if state is None:
            return
        self._changes, self._epochs = [list(change) for change in state.by_epoch if change[0] <= done], done
        if self._trials is not None:
            self.usual = min(state.usual, visible_cores())
            self._go_on_with = min(state.now, visible_cores())
            if self.usual > 1 and self._neighbours is None:
                self._neighbours = Neighbours(os.getppid())
